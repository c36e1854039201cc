# SPDX-License-Identifier: Apache-2.0
"""An officer's device is lost: keys come back by a door, others are made that it never knew, a policy names them.

And the other way to a second device: the letter that brings it in carries the section's key, when its owner says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.client import standing
from holdfast.client.errors import ClientError, ProfileError, TrustRefused
from holdfast.client.identity import device
from holdfast.client.officers import acts, joining, officer, officer_keys, proposals, section, section_doors
from holdfast.client.officers.acts import Loss
from holdfast.client.officers.proposals import Wanted
from holdfast.client.officers.section import Contents
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, OfficerPublicKeys, OfficersSection
from holdfast.client.recovery import by_door
from holdfast.client.rotation import rotation
from holdfast.client.vault import pairing, vault
from holdfast.client.vault.doors import WrongPassword
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.entries import Reason
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.vault.blob import Section, open_vault, read_header, seal_vault
from holdfast.core.vault.password_door import generate_password
from tests.cast.lying_server import text
from tests.cast.members import CHEAP, Members, heard
from tests.client.officers.test_joining import PASSPHRASE, become, seeds_of
from tests.client.vault.test_pairing import new_device

NEW_PASSPHRASE, NEW_PHRASE = generate_password(), Phrase.generate()
NEW_WORDS = dict(enumerate(NEW_PHRASE.words(), start=1))


@pytest.fixture
def dan(world: Members) -> Account:
    """Dan, officer 2, whose keys lie in the section."""
    founder = world.server.tenant.officers[1]
    account = world.enrolled(founder.person, founder)
    become(account)
    return account


def recovered_account(world: Members, account: Account) -> Account:
    """A new device of theirs, by a door; the one before is revoked as lost."""
    tablet = world.profile(account.user)
    device.enrol(tablet, world.server.code(account.user), name="tablet", suite=account.suite)
    by_door.by_password(tablet, PASSPHRASE)
    by_door.finish(tablet, lost=[UUID(bytes=account.device.id)])
    return tablet


def recovered(world: Members, account: Account) -> Account:
    """The same, and the officer's keys of before are here."""
    tablet = recovered_account(world, account)
    section_doors.open_with_passphrase(tablet, PASSPHRASE)
    joining.finish(tablet)
    return tablet


def renew(account: Account) -> joining.Joined:
    """Do what `holdfast officer new-keys` does, with secrets that the tests know."""
    missing = joining.begin_anew(account)
    if section_doors.PASSWORD in missing:
        joining.set_passphrase(account, NEW_PASSPHRASE, cost=CHEAP)
    if section_doors.PHRASE in missing:
        joining.set_phrase(account, NEW_PHRASE, NEW_WORDS)
    return joining.finish(account)


def said(account: Account) -> str:
    return "\n".join(f"{one.said} {one.way_out}" for one in standing.of_officer(account))


def test_whole_way_from_the_loss_to_a_policy_with_other_keys(world: Members, dan: Account) -> None:
    tenant, before = world.server.tenant, officer_keys.own_row(dan, dan.policies[0])
    tablet = recovered(world, dan)
    joined = renew(tablet)
    assert joined.is_stated
    assert joined.signing_key != before.signing_key
    assert joined.sealing_key != before.sealing_key
    # Proposed from what the account states, and signed by those who heard three words of the row.
    one, three = (world.enrolled(tenant.officers[at].person, tenant.officers[at]) for at in (0, 2))
    made = proposals.draft(one, Wanted(rows=[proposals.stated_row(one, UUID(bytes=dan.user))]))
    assert [officer.person for officer in made.change.rekeyed] == [dan.user]
    proposals.submit(one, made)
    for account in (one, three):
        found = proposals.find_proposal(account)
        words = {dan.user: heard(account, proposals.own_words(tablet, proposals.find_proposal(tablet)))}
        state = proposals.sign_proposal(account, found, heard=words).state
    assert state == "published"
    (kept,) = world.server.proposals.values()
    tenant.policies.append(encode_many(kept.signed))
    policy = acts.policy_in_force(tablet)
    row = officer_keys.own_row(tablet, policy)
    assert (policy.policy.version, row.signing_key) == (2, joined.signing_key)
    assert officer_keys.keys_of(tablet, row).signing_key == joined.signing_key
    # What was sealed to the keys of before opens still.
    assert officer_keys.keys_of(tablet, before).sealing_key == before.sealing_key
    assert "lost" not in said(tablet)


def test_lost_device_knows_nothing_of_the_new_keys(world: Members, dan: Account) -> None:
    stolen = dan.state.officers_section
    assert stolen is not None
    old = world.server.section_doors[text(dan.user)]["password"]["blob"]
    tablet = recovered(world, dan)
    renew(tablet)
    assert len(seeds_of(tablet)) == 4
    blob = unb64u(world.server.sections[text(dan.user)]["blob"], max_size=1_000_000)
    header = read_header(blob, Section.OFFICERS)
    assert header.epoch == stolen.epoch + 1
    with pytest.raises(HoldfastError):
        open_vault(blob, vault_key=stolen.key, expect=header)
    # Nor does any way back of before.
    with pytest.raises(WrongPassword):
        section_doors.open_with_passphrase(tablet, PASSPHRASE)
    world.server.section_doors[text(dan.user)]["password"]["blob"] = old
    with pytest.raises(WrongPassword):
        section_doors.open_with_passphrase(tablet, PASSPHRASE)
    section_doors.open_with_phrase(tablet, NEW_PHRASE)


def test_both_doors_are_asked_for_anew(world: Members, dan: Account) -> None:
    missing = joining.begin_anew(recovered(world, dan))
    assert set(missing) == set(section_doors.KINDS)


def test_new_keys_need_the_keys_of_before(world: Members, dan: Account) -> None:
    tablet = world.profile(dan.user)
    device.enrol(tablet, world.server.code(dan.user), name="tablet", suite=dan.suite)
    by_door.by_password(tablet, PASSPHRASE)
    by_door.finish(tablet)
    with pytest.raises(ProfileError) as refusal:
        joining.begin_anew(tablet)
    assert "holdfast officer restore" in refusal.value.way_out
    assert tablet.state.officer is None


@pytest.mark.parametrize(
    "act",
    [
        "PUT vault/officers", "PUT vault/officers/doors/password", "PUT vault/officers/doors/phrase",
        "POST escrow/officer-statements",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_done", [True, False], ids=["answer lost", "act lost"])
def test_new_keys_go_on_where_they_were_stopped(world: Members, dan: Account, act: str, is_done: bool) -> None:
    tablet = recovered(world, dan)
    stated = len(world.server.stated)
    if is_done:
        world.server.lost.add(act)
    else:
        world.server.instead[act] = lambda _body: (503, {"title": "", "code": "unavailable", "detail": "Later."})
    with pytest.raises(ClientError):
        renew(tablet)
    world.server.lost.clear()
    world.server.instead.clear()
    # As after a kill: only what was kept is known.
    again = Account(tablet.store)
    again.connect(transport=world.server.transport(), clock=tablet.clock)
    joined = renew(again)
    assert len(world.server.stated) == stated + 1
    assert len(seeds_of(again)) == 4, "one pair more, however often"
    assert (again.state.officer, section.is_renewing(again)) == (None, False)
    assert officer_keys.keys_of(again).signing_key == joined.signing_key


def test_other_device_of_theirs_is_sent_to_a_door(world: Members, dan: Account) -> None:
    phone = world.another(dan)
    phone.state.officers_section = dan.state.officers_section
    renew(dan)
    with pytest.raises(ProfileError, match="changed the key") as refusal:
        section.load(phone)
    assert "holdfast officer restore" in refusal.value.way_out


# A thief who has the identity key of before, and a server that is with them.


def slip_in(world: Members, stolen: Account) -> OfficerKeys:
    """Have the server show a section in which the last pair is the thief's, by the key that the stolen device held."""
    pair, kept = OfficerKeys(SigningKey.generate().seed(), SealingKey.generate().seed()), stolen.state.officers_section
    assert kept is not None
    shown = world.server.sections[text(stolen.user)]
    header = replace(read_header(unb64u(shown["blob"], max_size=1_000_000), Section.OFFICERS), version=kept.version + 1)
    held = Contents.from_secret(
        open_vault(
            unb64u(shown["blob"], max_size=1_000_000), vault_key=kept.key, expect=replace(header, version=kept.version)
        )
    )
    blob = seal_vault(Contents((*held.pairs, pair)).to_secret(), vault_key=kept.key, header=header)
    statement = vault.sign_section(stolen, Section.OFFICERS, blob, version=header.version)
    row = {"statement": b64u(statement.encode()), "blob": b64u(blob), "version": header.version}
    world.server.sections[text(stolen.user)] = row
    return pair


def last_stated(world: Members, account: Account) -> OfficerPublicKeys:
    statement = Sign1.parse(unb64u(world.server.stated[-1]["statement"]))
    said = verify_officer_statement(statement, aik=account.chain.aik, tenant=account.tenant, user=account.user)
    return OfficerPublicKeys(said.signing_key.encoded, said.sealing_key.encoded)


def paired(world: Members, account: Account) -> Account:
    """A second device of theirs, which the first one brought in; it leads to no officer's keys."""
    phone = new_device(world, account.user)
    pairing.accept(account, pairing.request(phone).text())
    pairing.complete(phone)
    return phone


def test_pair_that_a_thief_put_into_the_section_is_never_stated(world: Members, dan: Account) -> None:
    own = officer_keys.public_keys(dan)
    tablet = recovered_account(world, dan)
    slip_in(world, dan)
    section_doors.open_with_passphrase(tablet, PASSPHRASE)
    joining.finish(tablet)
    assert officer_keys.public_keys(tablet) == own
    assert last_stated(world, tablet) == own[0]
    # It is gone out of the section as well, which is signed by the identity key of now.
    assert len(seeds_of(tablet)) == 2


def test_keys_that_a_thief_stated_are_shown_before_others_are_stated_in_their_place(
    world: Members, dan: Account
) -> None:
    (own,) = officer_keys.public_keys(dan)
    theirs = section.public_halves(slip_in(world, dan))
    first = world.server.stated[-1]
    tablet = recovered_account(world, dan)
    section_doors.open_with_passphrase(tablet, PASSPHRASE)
    assert joining.stated_otherwise(tablet) is None
    said = OfficerStatement(dan.header(), dan.user, *joining.decoded(theirs))
    statement = sign(said.to_payload(), purpose=Purpose.OFFICER, key=dan.identity_key)
    world.server.stated.append({**first, "statement": b64u(statement.encode())})
    assert joining.stated_otherwise(tablet) == (own, theirs)
    with pytest.raises(TrustRefused, match="not yours"):
        joining.state_keys(tablet)  # by `maintain`, which nobody watches
    joining.finish(tablet)
    assert last_stated(world, tablet) == own


def test_keys_that_nothing_bears_out_are_not_taken_and_others_are_made(world: Members) -> None:
    carol = world.enrolled(b"carol-----------")
    become(carol)
    tablet = recovered_account(world, carol)
    section_doors.open_with_passphrase(tablet, PASSPHRASE)
    assert not officer_keys.has_keys(tablet)
    with pytest.raises(TrustRefused, match="identity key that your account has left") as refusal:
        joining.finish(tablet)
    assert "holdfast officer new-keys" in refusal.value.way_out
    joined = renew(tablet)
    assert last_stated(world, tablet).signing_key == joined.signing_key.encoded
    assert len(seeds_of(tablet)) == 2


def test_section_is_signed_anew_after_a_rotation(world: Members, dan: Account) -> None:
    rotation.rotate(dan, rotation.EVERYTHING, reason=Reason.SCHEDULE)
    found = section.fetch(dan)
    assert found is not None
    assert found.signer != dan.chain.aik
    assert len(seeds_of(dan)) == 2, "its own profile remembers them"
    assert joining.state_keys(dan)
    found = section.fetch(dan)
    assert found is not None
    assert found.signer == dan.chain.aik
    # So keys that no policy names yet come to another device as well.
    phone = paired(world, dan)
    section_doors.open_with_passphrase(phone, PASSPHRASE)
    assert officer_keys.public_keys(phone) == officer_keys.public_keys(dan)


def test_section_that_an_earlier_program_did_not_sign_anew_is_borne_out_by_the_statement(world: Members) -> None:
    carol = world.enrolled(b"carol-----------")
    become(carol)
    by_former = world.server.sections[text(carol.user)]
    rotation.rotate(carol, {rotation.IDENTITY}, reason=Reason.SCHEDULE)
    joining.state_keys(carol)
    world.server.sections[text(carol.user)] = by_former
    phone = paired(world, carol)
    section_doors.open_with_passphrase(phone, PASSPHRASE)
    assert officer_keys.public_keys(phone) == officer_keys.public_keys(carol)


# What the officer is told.


def test_officer_who_counts_for_nothing_is_told_the_way_out(world: Members, dan: Account) -> None:
    person = str(UUID(bytes=dan.user))
    row = {"index": 2, "person_id": person, "name": "Dan", "state": "active", "keys_lost_at": "2026-11-29T10:00:00Z"}
    world.server.instead["GET escrow/officers"] = lambda _body: (200, {"officers": [row], "m": 2})
    assert acts.own_loss(dan) is Loss.COUNTED
    assert "holdfast officer new-keys" in said(dan)


def test_loss_that_the_server_withholds_is_told(world: Members, dan: Account) -> None:
    assert acts.own_loss(dan) is Loss.NONE
    tablet = recovered(world, dan)
    assert acts.own_loss(tablet) is Loss.WITHHELD
    assert f"holdfast officer suspend {tablet.user_text}" in said(tablet)


def test_device_that_was_retired_is_no_loss(world: Members, dan: Account) -> None:
    phone = world.another(dan)
    rotation.rotate(dan, rotation.EVERYTHING, reason=Reason.DEVICE_RETIRED, revoke=[UUID(bytes=phone.device.id)])
    assert acts.own_loss(dan) is Loss.NONE


# To a second device, by the letter that brings it in.


def test_paired_device_leads_to_the_officers_keys_when_their_owner_says_so(
    world: Members, tmp_path: Path, dan: Account
) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    phone = new_device(world, dan.user)
    pairing.accept(dan, pairing.request(phone).text(), with_officers_keys=True)
    pairing.complete(phone)
    assert joining.take(phone)
    assert not joining.take(phone)
    assert phone.state.officers_section == dan.state.officers_section
    view = officer.see(phone, opened.case_id)
    officer.approve(phone, view, heard=heard(phone, view.words), identity_check="I know the voice")
    assert len(world.server.posted("cases/.*/approvals")) == 1


@pytest.mark.parametrize("by", ["code", "words", "digits"])
@pytest.mark.parametrize("is_given", [True, False])
def test_officers_keys_go_along_only_when_they_are_given(world: Members, dan: Account, by: str, is_given: bool) -> None:
    phone = new_device(world, dan.user)
    if by == "code":
        pairing.accept(dan, pairing.request(phone).text(), with_officers_keys=is_given)
    elif by == "words":
        words = next(one.words for one in device.list_devices(dan) if not one.is_in_chain)
        pairing.approve(dan, UUID(bytes=phone.device.id), words=words, with_officers_keys=is_given)
    else:
        offer = pairing.offer_code(phone)
        answer = pairing.answer_code(dan)
        answer.confirm(offer.wait(0), with_officers_keys=is_given)
    pairing.complete(phone)
    assert joining.take(phone) is is_given
    assert (phone.state.officers_section is not None) is is_given


def test_letters_about_a_changed_vault_never_carry_them(world: Members, dan: Account) -> None:
    phone = world.another(dan)
    rotation.rotate(dan, {rotation.VAULT}, reason=Reason.USER_REQUEST)
    pairing.sync(dan)
    pairing.catch_up(phone)
    assert pairing.officers_key_given(phone) is None
    assert phone.state.officers_section is None


def test_device_without_them_gives_none_and_adds_nobody(world: Members) -> None:
    alice = world.enrolled(b"alice-----------")
    phone = new_device(world)
    with pytest.raises(ProfileError, match="Nothing was added"):
        pairing.accept(alice, pairing.request(phone).text(), with_officers_keys=True)
    assert phone.device.id not in alice.chain.devices


def test_key_that_does_not_open_the_section_is_not_kept(world: Members, dan: Account) -> None:
    phone = world.another(dan)
    kept = dan.state.officers_section
    assert kept is not None
    with pytest.raises(TrustRefused):
        section.take(phone, OfficersSection(kept.epoch, SecretBytes(bytes(32)), kept.version))
    assert phone.state.officers_section is None
