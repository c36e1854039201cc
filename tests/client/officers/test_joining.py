# SPDX-License-Identifier: Apache-2.0
"""An officer's keys in the section of their own: made, moved there, behind two doors, stated, and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.client.errors import ClientError, NotPossible, ProfileError, TrustRefused, WrongWords
from holdfast.client.identity import device
from holdfast.client.officers import hearing, joining, officer, officer_keys, section, section_doors
from holdfast.client.officers.joining import Joined
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, State
from holdfast.client.recovery import by_door
from holdfast.client.rotation import rotation
from holdfast.client.vault import doors
from holdfast.client.vault.doors import WrongPassword, WrongPhrase
from holdfast.core.base.encoding import b64u, decode, encode, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.entries import Reason
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.vault.password_door import generate_password
from tests.cast.lying_server import text
from tests.cast.members import ALICE, CHEAP, Members, heard

CAROL = b"carol-----------"
PASSPHRASE, PHRASE = generate_password(), Phrase.generate()
WORDS = dict(enumerate(PHRASE.words(), start=1))


def become(account: Account) -> Joined:
    """Do what `holdfast officer init` does, with secrets that the tests know."""
    missing = joining.begin(account)
    if section_doors.PASSWORD in missing:
        joining.set_passphrase(account, PASSPHRASE, cost=CHEAP)
    if section_doors.PHRASE in missing:
        joining.set_phrase(account, PHRASE, WORDS)
    return joining.finish(account)


@pytest.fixture
def carol(world: Members) -> Account:
    """Carol, who is enrolled and has no officer's keys."""
    return world.enrolled(CAROL)


def verified(account: Account, statement: Sign1) -> OfficerStatement:
    return verify_officer_statement(statement, aik=account.chain.aik, tenant=account.tenant, user=account.user)


def seeds_of(account: Account) -> list[SecretBytes]:
    contents = section.load(account)
    assert contents is not None
    return [seed for pair in contents.pairs for seed in (pair.signing_seed, pair.sealing_seed)]


def lost(world: Members, account: Account, *, by: str = "passphrase") -> Account:
    """A new device of the person's, to which their account came back through the vault's own door."""
    tablet = world.profile(account.user)
    device.enrol(tablet, world.server.code(account.user), name="tablet", suite=account.suite)
    if by == "passphrase":
        by_door.by_password(tablet, PASSPHRASE)
    else:
        by_door.by_phrase(tablet, PHRASE)
    by_door.finish(tablet)
    return tablet


def test_keys_lie_in_the_section_and_the_profile_has_the_public_halves_alone(world: Members, carol: Account) -> None:
    joined = become(carol)
    assert joined.is_stated
    assert carol.state.officer is None
    seeds = [seed.reveal() for seed in seeds_of(carol)]
    kept = carol.state.to_secret().reveal()
    assert not [seed for seed in seeds if seed in kept]
    on_server = repr([world.server.sections, world.server.section_doors, world.server.vaults, world.server.log])
    assert not [seed for seed in seeds if seed.hex() in on_server or b64u(seed) in on_server]
    (stated,) = world.server.stated
    said = verified(carol, Sign1.parse(unb64u(stated["statement"])))
    assert (said.signing_key, said.sealing_key) == (joined.signing_key, joined.sealing_key)
    assert [door.is_open for door in joined.doors] == [True, True]


def test_becoming_an_officer_again_changes_nothing(world: Members, carol: Account) -> None:
    first = become(carol)
    before = len(world.server.posted(".*"))
    again = become(carol)
    assert (again.signing_key, again.sealing_key, again.is_stated) == (first.signing_key, first.sealing_key, False)
    assert len(world.server.posted(".*")) == before


def test_keys_of_the_profile_move_into_the_section_and_are_never_in_neither(world: Members) -> None:
    founder = world.server.tenant.officers[0]
    account = world.enrolled(founder.person, founder)
    assert officer_keys.own_row(account, account.policies[0]).signing_key == founder.signing_key.public
    joining.begin(account)
    # In both, until the section was read back and two doors were proven.
    assert account.state.officer is not None
    assert founder.signing_key.seed() in seeds_of(account)
    with pytest.raises(NotPossible, match="two doors"):
        joining.finish(account)
    assert account.state.officer is not None
    joined = become(account)
    moved: object = account.state.officer
    assert moved is None
    assert (joined.signing_key, joined.sealing_key) == (founder.signing_key.public, founder.sealing_key.public)
    row = officer_keys.own_row(account, account.policies[0])
    assert officer_keys.keys_of(account, row).signing.seed() == founder.signing_key.seed()


def test_officer_approves_with_keys_that_lie_in_the_section(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    account, view = world.seen(1, opened.case_id)
    become(account)
    view = officer.see(account, opened.case_id)
    officer.approve(account, view, heard=heard(account, view.words), identity_check="I know the voice")
    assert len(world.server.posted("cases/.*/approvals")) == 1


@pytest.mark.parametrize("by", ["passphrase", "phrase"])
def test_officer_who_lost_the_only_device_approves_again_on_a_new_one(world: Members, tmp_path: Path, by: str) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    account, _view = world.seen(1, opened.case_id)
    become(account)
    tablet = lost(world, account, by=by)
    with pytest.raises(ProfileError, match="no officer's keys"):
        officer_keys.keys_of(tablet)
    if by == "passphrase":
        section_doors.open_with_passphrase(tablet, PASSPHRASE)
    else:
        section_doors.open_with_phrase(tablet, PHRASE)
    assert joining.finish(tablet).is_stated, "the identity key was replaced with the recovery"
    view = officer.see(tablet, opened.case_id)
    officer.approve(tablet, view, heard=heard(tablet, view.words), identity_check="I know the voice")
    assert len(world.server.posted("cases/.*/approvals")) == 1


def test_new_device_makes_no_other_keys_beside_those_in_the_section(world: Members, carol: Account) -> None:
    become(carol)
    tablet = lost(world, carol)
    with pytest.raises(ProfileError, match="does not hold its key") as refusal:
        joining.begin(tablet)
    assert "holdfast officer restore" in refusal.value.way_out
    assert tablet.state.officer is None


def test_doors_of_the_vault_are_set_where_there_are_none_and_left_where_there_are(
    world: Members, carol: Account
) -> None:
    doors.set_password(carol, SecretBytes(b"a password of her own"), cost=CHEAP)
    become(carol)
    with pytest.raises(WrongPassword):
        lost(world, carol)
    assert lost(world, carol, by="phrase").device.is_active


def test_wrong_secrets_open_nothing(world: Members, carol: Account) -> None:
    become(carol)
    with pytest.raises(WrongPassword):
        section_doors.open_with_passphrase(carol, generate_password())
    with pytest.raises(WrongPhrase):
        section_doors.open_with_phrase(carol, Phrase.generate())
    with pytest.raises(WrongWords):
        joining.set_phrase(carol, PHRASE, {**WORDS, 3: "zoo" if WORDS[3] != "zoo" else "zone"})


def test_statement_is_made_anew_when_the_identity_key_was_rotated(world: Members, carol: Account) -> None:
    become(carol)
    rotation.rotate(carol, rotation.EVERYTHING, reason=Reason.SCHEDULE)
    assert joining.state_keys(carol)
    assert not joining.state_keys(carol)
    first, second = (Sign1.parse(unb64u(row["statement"])) for row in world.server.stated)
    said = verified(carol, second)
    assert said.predecessor == first.payload_hash


def test_door_is_stale_after_a_year_and_fresh_once_it_was_opened(world: Members, carol: Account) -> None:
    become(carol)
    world.now += section_doors.STALE_SECONDS
    assert all(door.is_stale(world.now) for door in section_doors.status(carol))
    section_doors.open_with_phrase(carol, PHRASE)
    stale = {door.kind: door.is_stale(world.now) for door in section_doors.status(carol)}
    assert stale == {"password": True, "phrase": False}


# A kill or a lost answer between any two steps


@pytest.mark.parametrize(
    "act",
    [
        "PUT vault/officers", "PUT vault/officers/doors/password", "PUT vault/officers/doors/phrase",
        "POST escrow/officer-statements", "PUT vault",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_done", [True, False], ids=["answer lost", "act lost"])
def test_joining_goes_on_where_it_was_stopped(world: Members, carol: Account, act: str, is_done: bool) -> None:
    if is_done:
        world.server.lost.add(act)
    else:
        world.server.instead[act] = lambda _body: (503, {"title": "", "code": "unavailable", "detail": "Later."})
    with pytest.raises(ClientError):
        become(carol)
    world.server.lost.clear()
    world.server.instead.clear()
    # As after a kill: only what was kept is known.
    again = Account(carol.store)
    again.connect(transport=world.server.transport(), clock=carol.clock)
    joined = become(again)
    assert len(world.server.stated) == 1
    assert len(seeds_of(again)) == 2, "one pair, however often"
    assert again.state.officer is None
    assert officer_keys.keys_of(again).signing_key == joined.signing_key


# A server that lies


def refused(account: Account, match: str) -> None:
    with pytest.raises(TrustRefused, match=match):
        joining.finish(account)


def test_section_of_another_officer_is_refused(world: Members, carol: Account) -> None:
    become(carol)
    dan = world.enrolled(b"dan-------------")
    become(dan)
    world.server.sections[text(CAROL)] = world.server.sections[text(dan.user)]
    refused(carol, "not to be trusted")


def test_older_section_is_refused(world: Members, carol: Account) -> None:
    become(carol)
    first = world.server.sections[text(CAROL)]
    section.save(carol, [OfficerKeys(SigningKey.generate().seed(), SealingKey.generate().seed())])
    world.server.sections[text(CAROL)] = first
    refused(carol, "older")


def test_vault_is_not_taken_for_the_section_nor_the_section_for_the_vault(world: Members, carol: Account) -> None:
    become(carol)
    kept = world.server.sections[text(CAROL)]
    world.server.sections[text(CAROL)] = world.server.vaults[text(CAROL)]
    refused(carol, "not to be trusted")
    world.server.sections[text(CAROL)] = kept
    world.server.vaults[text(CAROL)] = kept
    with pytest.raises(TrustRefused, match="not to be trusted"):
        doors.status(carol)


def test_section_that_was_lost_is_named_and_not_begun_anew(world: Members, carol: Account) -> None:
    become(carol)
    del world.server.sections[text(CAROL)]
    refused(carol, "lost your officers' section")
    with pytest.raises(TrustRefused, match="lost your officers' section"):
        joining.begin(carol)


@pytest.mark.parametrize("is_relabelled", [False, True])
def test_door_of_the_vault_is_not_opened_as_one_of_the_section(
    world: Members, carol: Account, is_relabelled: bool
) -> None:
    become(carol)
    blob = world.server.doors[text(CAROL)]["password"]
    if is_relabelled:
        value: Any = decode(unb64u(blob))
        blob = b64u(encode({**value, 2: "officers-password"}))
    world.server.section_doors[text(CAROL)]["password"]["blob"] = blob
    # It says by itself what it is, unless somebody has changed that.
    with pytest.raises(WrongPassword if is_relabelled else TrustRefused):
        section_doors.open_with_passphrase(carol, PASSPHRASE)
    # And the other way round, for a device that brings the account back.
    world.server.doors[text(CAROL)]["phrase"] = world.server.section_doors[text(CAROL)]["phrase"]["blob"]
    with pytest.raises(TrustRefused):
        lost(world, carol, by="phrase")


def test_statement_of_other_keys_in_ones_name_is_an_alarm(world: Members, carol: Account) -> None:
    become(carol)
    said = OfficerStatement(carol.header(), CAROL, SigningKey.generate().public, SealingKey.generate().public)
    for key, match in ((carol.identity_key, "not yours"), (SigningKey.generate(), "not to be trusted")):
        statement = sign(said.to_payload(), purpose=Purpose.OFFICER, key=key)
        world.server.stated.append({**world.server.stated[-1], "statement": b64u(statement.encode())})
        refused(carol, match)


def test_statement_of_another_person_is_not_taken_for_ones_own(world: Members, carol: Account) -> None:
    become(carol)
    dan = world.enrolled(b"dan-------------")
    become(dan)
    theirs = world.server.stated[-1]["statement"]
    world.server.stated.append({**world.server.stated[0], "statement": theirs})
    with pytest.raises(TrustRefused):
        joining.finish(carol)


def test_places_to_hear_words_at_come_of_the_section_without_asking_for_it(world: Members, carol: Account) -> None:
    become(carol)
    before = len(world.server.log)
    places = hearing.places(carol, tuple("abcdefgh"))
    assert places == hearing.places(Account(carol.store), tuple("abcdefgh"))
    assert len(world.server.log) == before


def test_profile_without_keys_says_both_ways_to_them(world: Members) -> None:
    account = Account(world.profile(ALICE).store, State())
    for call in (officer_keys.keys_of, officer_keys.secret_of):
        with pytest.raises(ProfileError, match="no officer's keys") as refusal:
            call(account)
        assert "holdfast officer restore" in refusal.value.way_out
