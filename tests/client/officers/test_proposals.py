# SPDX-License-Identifier: Apache-2.0
"""Policies and escrow keys that officers sign, against a server that lies: what is shown is what is signed."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.cli.commands.officer import policy as policy_commands
from holdfast.cli.shell import unstyled
from holdfast.client.errors import NotPossible, ProfileError, TrustRefused, WordsNeeded, WrongInput, WrongWords
from holdfast.client.identity import device
from holdfast.client.officers import proposals, whole_policy
from holdfast.client.officers.proposals import Proposal, Wanted
from holdfast.client.profile.account import Account, read_many
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import RecipientRsaKey, SigningKey
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.identity.policy import NEVER, ApproveWith, DepositRule, GivenUp, Policy
from holdfast.core.identity.trust import root_pin
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.enrolment import EnrolmentCode, founding_root
from holdfast.core.signed.statements import EscrowKey
from tests.cast.lying_acts import Proposed
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, Members, heard
from tests.cast.officers import Founder


def officer(world: Members, number: int = 1) -> Account:
    founder = world.server.tenant.officers[number - 1]
    return world.enrolled(founder.person, founder)


def grace() -> Founder:
    return Founder(b"grace-----------")


def row(founder: Founder) -> Any:
    return founder.person, founder.signing_key.public, founder.sealing_key.public


def proposed(world: Members, account: Account | None = None, **wanted: Any) -> Proposal:
    """Have officer 1 propose a version."""
    account = account or officer(world)
    return proposals.submit(account, proposals.draft(account, Wanted(**({"delay": 600} | wanted))))


def served(world: Members, policy: Policy, *signers: Founder) -> None:
    """Have the server show a policy that nobody has proposed, as open."""
    payload = policy.to_payload()
    signed = [sign(payload, purpose=Purpose.POLICY, key=one.signing_key) for one in signers]
    world.server.proposals = {str(UUID(int=9)): Proposed(payload, signed)}


def words(world: Members, account: Account, proposal: Proposal, *people: bytes) -> dict[bytes, dict[int, str]]:
    return {one: heard(account, proposals.words_of(account, proposal, one)) for one in people}


# Proposed and signed as shown.


def test_draft_changes_what_was_asked_for_and_nothing_else(world: Members) -> None:
    account = officer(world)
    before = account.state.trust.policies
    made = proposals.draft(account, Wanted(delay=600, purposes=frozenset({"recovery", "legal"}), ends_in=86400)).policy
    newest = account.trusted.newest
    assert (made.version, made.predecessor, made.held_in_force) == (2, newest.hash, newest.hash)
    assert (made.m, made.roster) == (newest.policy.m, newest.policy.roster)
    assert made.terms == replace(newest.policy.terms, delay_seconds=600, purposes=frozenset({"recovery", "legal"}))
    assert made.header.expires_at - made.header.issued_at == 86400
    assert account.state.trust.policies == before
    assert not world.server.proposals


def test_roster_is_renumbered_and_an_officer_of_it_gets_other_keys(world: Members) -> None:
    account, new = officer(world), grace()
    second, third = world.server.tenant.officers[1:]
    other = Founder(third.person)
    made = proposals.draft(account, Wanted(remove=["2"], rows=[row(new), row(other)])).policy
    assert [(one.index, one.person) for one in made.roster] == [
        (1, account.user),
        (2, third.person),
        (3, new.person),
    ]
    assert made.roster[1].signing_key == other.signing_key.public
    change = proposals.draft(account, Wanted(remove=["2"], rows=[row(new), row(other)])).change
    assert [one.person for one in change.left] == [second.person]
    assert {one.person for one in change.fresh} == {third.person, new.person}
    with pytest.raises(WrongInput, match="both to be removed"):
        proposals.draft(account, Wanted(remove=["2"], rows=[row(Founder(second.person))]))
    with pytest.raises(WrongInput, match="No policy can be so"):
        proposals.draft(account, Wanted(remove=["2"]))
    with pytest.raises(WrongInput, match="No policy can be so"):
        proposals.draft(account, Wanted(cooling_off=31 * 86400))


def test_policy_that_was_shown_is_proposed_from_a_file_as_it_was_edited(world: Members) -> None:
    account, new = officer(world), grace()
    newest = account.trusted.newest.policy
    shown: dict[str, Any] = {"policy": whole_policy.document(newest), "proposals": []}
    same = proposals.draft(account, whole_policy.read(json.dumps(shown))).policy
    assert (same.m, same.roster, same.terms, same.header.expires_at) == (newest.m, newest.roster, newest.terms, 0)
    edited = shown["policy"] | {
        "delay_seconds": 600,
        "consent_binds_seconds": "while-it-stands",
        "text": "Ask Grace.",
        "deposits": "all",
        "approve_with": "any",
        "ends_at": NOW + 86400,
        "officers": [
            *shown["policy"]["officers"][1:],
            {
                "person_id": str(UUID(bytes=new.person)),
                "signing_key": new.signing_key.public.encoded.hex(),
                "sealing_key": new.sealing_key.public.encoded.hex(),
            },
        ],
    }
    made = proposals.draft(account, whole_policy.read(json.dumps({"policy": edited}))).policy
    assert made.terms == replace(
        newest.terms,
        delay_seconds=600,
        consent_binds_seconds=NEVER,
        text="Ask Grace.",
        deposits=DepositRule.ALL,
        approve_with=ApproveWith.ANY,
    )
    assert [one.person for one in made.roster] == [one.person for one in newest.roster[1:]] + [new.person]
    assert made.header.expires_at == NOW + 86400
    assert whole_policy.document(made) == edited


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("m", 3, "policy.m is no whole number from 2 to 2"),
        ("m", True, "policy.m is no whole number"),
        ("m", None, "policy.m is missing"),
        ("delay_seconds", "48h", "policy.delay_seconds is no whole number from 0 to 31536000"),
        ("cooling_off_seconds", 31 * 86400, "policy.cooling_off_seconds is no whole number from 0 to 2592000"),
        ("approve_with", "phone", "policy.approve_with is none of cli, any"),
        ("deposits", 2, "policy.deposits is none of optional, from-consent, all"),
        ("purposes", [], "policy.purposes is no list of 1 to 16"),
        ("purposes", ["x" * 65], r"policy.purposes\[0\] is no text of 1 to 64 characters"),
        ("consent_binds_seconds", "never", "policy.consent_binds_seconds is no whole number"),
        ("text", "x" * 601, "policy.text is no text of 0 to 600 characters"),
        ("release_keys", {"signing_key": "00"}, "policy.release_keys.sealing_key is missing"),
        ("officers", [{}, {}, {}], r"policy.officers\[0\].person_id is missing"),
        ("ends_at", -1, "policy.ends_at is no whole number"),
        ("quorum", 2, "policy.quorum is no field of a policy"),
    ],
)
def test_file_of_a_policy_that_does_not_read_names_the_field_and_the_way_out(
    world: Members, field: str, value: Any, said: str
) -> None:
    whole = whole_policy.document(officer(world).trusted.newest.policy) | {field: value}
    if value is None:
        del whole[field]
    with pytest.raises(WrongInput, match=said) as error:
        whole_policy.read(json.dumps({"policy": whole}))
    assert "holdfast officer policy show --json" in error.value.way_out


def test_file_of_a_policy_names_the_row_and_the_key_at_fault(world: Members) -> None:
    whole = whole_policy.document(officer(world).trusted.newest.policy)
    rows = whole["officers"]
    for said, changed in {
        r"policy.officers\[1\].sealing_key is no public key": [rows[0], rows[1] | {"sealing_key": "zz"}, rows[2]],
        r"policy.officers\[2\].signing_key is no public key": [
            *rows[:2],
            rows[2] | {"signing_key": rows[0]["sealing_key"]},
        ],
        r"policy.officers\[0\].person_id is no person's id": [rows[0] | {"person_id": 7}, *rows[1:]],
        "policy.officers has one person_id twice": [rows[0], rows[1] | {"person_id": rows[0]["person_id"]}, rows[2]],
    }.items():
        with pytest.raises(WrongInput, match=said):
            whole_policy.read(json.dumps({"policy": whole | {"officers": changed}}))
    for text in ("", "[]", "{}", '{"policy": 1}', '{"policy": {}, "policy": {}}', '{"policy": NaN}'):
        with pytest.raises(WrongInput):
            whole_policy.read(text)


def test_text_to_members_that_hides_something_is_not_proposed(world: Members) -> None:
    for text in ("two\nlines", "turned \u202e round"):
        with pytest.raises(WrongInput, match="cannot be seen"):
            proposals.draft(officer(world), Wanted(text=text))


def test_policy_is_signed_as_shown_by_each_officer_on_their_own_machine(world: Members) -> None:
    made = proposed(world)
    for number, state in ((1, "open"), (2, "published")):
        account = officer(world, number)
        found = proposals.find_proposal(account, made.hash.hex()[:8].upper())
        assert (found.payload, found.hash) == (made.payload, made.hash)
        assert proposals.sign_proposal(account, found, heard={}).state == state
    (kept,) = world.server.proposals.values()
    assert {signed.payload for signed in kept.signed} == {made.payload}
    assert proposals.list_proposals(officer(world)) == []
    world.now += 86_400
    (shown,) = proposals.list_proposals(officer(world), everything=True)
    assert (shown.state, shown.change.in_force_from) == ("published", made.policy.header.issued_at)


def test_screen_says_all_that_is_signed_before_the_yes(world: Members) -> None:
    account = officer(world)
    proposed(world, account, rows=[row(grace())], m=3, given_up=GivenUp(4, bytes(32)))
    found = proposals.find_proposal(account)
    said = "\n".join(unstyled(line) for line in policy_commands._lines(account, found))
    for text in (
        "Quorum: 2 of 3 → 3 of 4",
        "Delay: none → 10 minutes",
        str(UUID(bytes=grace().person)),
        "In force at once if it is published now",
        "It lowers no guard",
        "gives up 4 deposits for good",
    ):
        assert text in said


def test_what_is_lowered_stands_out(world: Members) -> None:
    account = officer(world)
    found = proposed(world, account, undelivered_delay=0, max_notice_delay=60)
    assert found.change.lowered == ("max_notice_delay_seconds",)
    assert any("[bold yellow]" in line for line in policy_commands._change_lines(account, found))


def test_proposal_is_named_by_hex_digits_or_by_being_the_only_one(world: Members) -> None:
    account = officer(world)
    with pytest.raises(WrongInput, match="No such proposal"):
        proposals.find_proposal(account)
    first = proposed(world, account)
    assert proposals.find_proposal(account).hash == first.hash
    proposed(world, account, delay=700)
    with pytest.raises(WrongInput, match="Several"):
        proposals.find_proposal(account)
    assert proposals.find_proposal(account, first.hash.hex()[:4]).hash == first.hash
    for prefix in ("abc", "not-hex!"):
        with pytest.raises(WrongInput, match="four or more"):
            proposals.find_proposal(account, prefix)


def test_proposer_takes_it_back(world: Members) -> None:
    account = officer(world)
    proposals.cancel(account, proposed(world, account))
    assert proposals.list_proposals(account) == []


# A new row is heard.


def test_new_rows_person_is_heard_before_anybody_signs(world: Members) -> None:
    account, new = officer(world), grace()
    proposed(world, account, rows=[row(new)])
    found = proposals.find_proposal(account)
    assert [one.person for one in proposals.to_hear(account, found)] == [new.person]
    with pytest.raises(WordsNeeded):
        proposals.sign_proposal(account, found, heard={})
    theirs = proposals.words_of(account, found, new.person)
    wrong = {place: "zoo" if word != "zoo" else "zone" for place, word in heard(account, theirs).items()}
    with pytest.raises(WrongWords, match="own row in this policy"):
        proposals.sign_proposal(account, found, heard={new.person: wrong})
    assert not world.server.proposals[found.id].signed
    proposals.sign_proposal(account, found, heard=words(world, account, found, new.person))
    assert len(world.server.proposals[found.id].signed) == 1


def test_new_officer_reads_out_the_words_that_the_others_ask_for(world: Members) -> None:
    account, new = officer(world), grace()
    proposed(world, account, rows=[row(new)])
    theirs = world.enrolled(new.person, new)
    own = proposals.own_words(theirs, proposals.find_proposal(theirs))
    assert own == proposals.words_of(account, proposals.find_proposal(account), new.person)
    lines = "\n".join(unstyled(line) for line in policy_commands._lines(theirs, proposals.find_proposal(theirs)))
    assert all(word in lines for word in own)
    # No screen of the officer who asks shows one.
    asking = policy_commands._lines(account, proposals.find_proposal(account))
    assert not any("Your words" in line for line in asking)
    with pytest.raises(NotPossible, match="not asked"):
        proposals.sign_proposal(theirs, proposals.find_proposal(theirs), heard={})


def test_row_swapped_by_the_server_has_other_words_than_the_person_reads(world: Members) -> None:
    """FAULTS P8: a server, or an officer, puts keys of their own into somebody's row of a proposal."""
    account, new, false = officer(world), grace(), grace()
    honest = proposals.draft(account, Wanted(rows=[row(new)]))
    swapped = proposals.draft(account, Wanted(rows=[row(false)]))
    served(world, swapped.policy)
    found = proposals.find_proposal(account)
    read_out = heard(account, proposals.words_of(account, honest, new.person))
    asked = proposals.asked(account, found, found.policy.roster[3])
    theirs = dict(enumerate(proposals.words_of(account, honest, new.person), start=1))
    with pytest.raises(WrongWords):
        proposals.sign_proposal(account, found, heard={new.person: {place: theirs[place] for place in asked}})
    assert read_out
    # And the person themselves is told that the keys are not theirs.
    with pytest.raises(TrustRefused, match="not yours"):
        proposals.own_words(world.enrolled(new.person, new), found)


def test_own_row_with_other_keys_is_not_signed(world: Members) -> None:
    account = officer(world)
    false = Founder(account.user)
    second = officer(world, 2)
    draft = proposals.draft(second, Wanted(rows=[row(false)]))
    served(world, draft.policy)
    found = proposals.find_proposal(account)
    with pytest.raises(TrustRefused, match="not yours"):
        proposals.sign_proposal(account, found, heard={})
    assert not world.server.proposals[str(UUID(int=9))].signed


# What a new officer's own account states.


def stated(
    world: Members, account: Account, founder: Founder, *, key: SigningKey | None = None, **changes: Any
) -> None:
    """Have the server show what an account states of its person's keys as an officer."""
    said = OfficerStatement(account.header(), founder.person, founder.signing_key.public, founder.sealing_key.public)
    payload = replace(said, **changes).to_payload()
    signed = sign(payload, purpose=Purpose.OFFICER, key=key or account.identity_key)
    row = {"statement_id": str(uuid.uuid4()), "person_id": str(UUID(bytes=founder.person))}
    world.server.stated.append({**row, "statement": b64u(signed.encode())})


def test_officer_is_proposed_by_what_their_account_states(world: Members) -> None:
    account, new = officer(world), grace()
    with pytest.raises(NotPossible, match="has stated no officer's keys"):
        proposals.stated_row(account, UUID(bytes=new.person))
    stated(world, world.enrolled(new.person, new), new)
    assert proposals.stated_row(account, UUID(bytes=new.person)) == row(new)
    world.server.instead["GET escrow/officer-statements"] = lambda _: refused(404, "not-found")
    with pytest.raises(NotPossible, match="has stated no officer's keys"):
        proposals.stated_row(account, UUID(bytes=new.person))


def test_row_with_other_keys_than_its_persons_account_states_is_not_signed(world: Members) -> None:
    account, new, false = officer(world), grace(), grace()
    stated(world, world.enrolled(new.person, new), new)
    proposed(world, account, rows=[row(false)])
    found = proposals.find_proposal(account)
    read = words(world, account, found, new.person)
    with pytest.raises(TrustRefused, match="that person's account states"):
        proposals.sign_proposal(account, found, heard=read)
    assert not world.server.proposals[found.id].signed


@pytest.mark.parametrize("lie", ["key", "person", "tenant"])
def test_statement_that_its_account_does_not_bear_out_is_refused(world: Members, lie: str) -> None:
    account, new, other = officer(world), grace(), world.enrolled(ALICE)
    theirs = world.enrolled(new.person, new)
    if lie == "key":
        stated(world, theirs, new, key=other.identity_key)
    elif lie == "person":
        header = replace(theirs.header(), user=ALICE)
        stated(world, theirs, new, header=header, person=ALICE)
    else:
        stated(world, theirs, new, header=replace(theirs.header(), tenant=bytes(16)))
    with pytest.raises(TrustRefused, match="not to be trusted"):
        proposals.stated_row(account, UUID(bytes=new.person))


def test_officers_without_a_statement_are_named(world: Members) -> None:
    account, new = officer(world), grace()
    proposed(world, account, rows=[row(new)])
    found = proposals.find_proposal(account)
    assert [one.person for one in proposals.require_stated(account, found)] == [new.person]
    stated(world, world.enrolled(new.person, new), new)
    assert proposals.require_stated(account, found) == []


# A server that lies.


@pytest.mark.parametrize(
    "lie", ["tenant", "version", "predecessor", "held", "old", "ahead", "outsider", "forged", "purpose", "no policy"]
)
def test_proposal_that_does_not_hold_is_shown_to_nobody(world: Members, lie: str) -> None:
    account = officer(world)
    made = proposals.draft(account, Wanted(delay=600)).policy
    header = made.header
    changed = {
        "tenant": replace(made, header=replace(header, tenant=bytes(16))),
        "version": replace(made, version=3),
        "predecessor": replace(made, predecessor=bytes(32)),
        "held": replace(made, held_in_force=bytes(32)),
        "old": replace(made, header=replace(header, issued_at=NOW - MAX_AGE_SECONDS - 1)),
        "ahead": replace(made, header=replace(header, issued_at=NOW + 3600)),
    }.get(lie, made)
    served(world, changed)
    (kept,) = world.server.proposals.values()
    signer = world.server.tenant.officers[1].signing_key
    if lie == "outsider":
        kept.signed.append(sign(kept.payload, purpose=Purpose.POLICY, key=SigningKey.generate()))
    if lie == "forged":
        kept.signed.append(replace(sign(kept.payload, purpose=Purpose.POLICY, key=signer), signature=bytes(64)))
    if lie == "purpose":
        kept.signed.append(sign(kept.payload, purpose=Purpose.RESOLUTION, key=signer))
    if lie == "no policy":
        kept.payload = kept.payload[:-1]
    with pytest.raises(TrustRefused):
        proposals.find_proposal(account)


def test_server_that_takes_another_proposal_than_was_sent_is_found_out(world: Members) -> None:
    account = officer(world)
    other = proposals.draft(account, Wanted(delay=700))
    world.server.lies["POST escrow/policy-proposals"] = lambda answer: {**answer, "payload": b64u(other.payload)}
    with pytest.raises(TrustRefused, match="another proposal"):
        proposed(world, account)


def test_version_that_cools_off_keeps_the_one_in_force_as_field_12(world: Members) -> None:
    account, tenant = officer(world), world.server.tenant
    second = tenant.sign_policy(tenant.officers, version=2, predecessor=tenant.policy_hash, signers=tenant.officers)
    first = tenant.policy_hash
    tenant.policies.append(second)
    world.server.in_force_from = "2030-01-01T00:00:00Z"
    made = proposals.draft(account, Wanted(delay=600)).policy
    assert (made.version, made.predecessor, made.held_in_force) == (3, tenant.policy_hash, first)


def test_what_the_server_says_of_people_stands_last_and_in_quotes(world: Members) -> None:
    account, new = officer(world), grace()
    proposed(world, account, rows=[row(new)])
    world.server.people = [
        {
            "person_id": str(UUID(bytes=new.person)),
            "name": "Grace” [bold]of all",
            "since": "2026-09-20T10:00:00Z",
            "let_in_by": [str(UUID(bytes=account.user))],
        }
    ]
    found = proposals.find_proposal(account)
    *_, told, proposer = [unstyled(line) for line in policy_commands._lines(account, found)]
    assert "““Grace” [bold]of all””, known since 2026-09-20" in told
    assert f"let in by {UUID(bytes=account.user)}" in told
    assert "The server says it was proposed by" in proposer


def test_member_signs_nothing(world: Members) -> None:
    proposed(world)
    account = world.enrolled(ALICE)
    found = proposals.find_proposal(account)
    with pytest.raises(ProfileError, match="holds no officer's keys"):
        proposals.sign_proposal(account, found, heard={})
    assert not any("Your words" in line for line in policy_commands._lines(account, found))


def test_public_keys_are_read_as_the_command_prints_them_and_nothing_else_is(world: Members) -> None:
    new = grace()
    printed = {
        "person_id": str(UUID(bytes=new.person)),
        "signing_key": new.signing_key.public.encoded.hex(),
        "sealing_key": new.sealing_key.public.encoded.hex(),
        "signing_words": [],
    }
    assert proposals.row_of(json.dumps(printed)) == row(new)
    for name, value in (("signing_key", printed["sealing_key"]), ("sealing_key", "zz"), ("signing_key", "00")):
        with pytest.raises(WrongInput, match="no officer's keys"):
            proposals.row_of(json.dumps({**printed, name: value}))


# A tenant that is being founded.


def founders(world: Members) -> list[tuple[Account, Founder]]:
    """Three people who enrolled by founding codes, and have made officer's keys; nothing is published."""
    for path in ("GET escrow/policy", "GET escrow/key"):
        world.server.instead[path] = lambda _body: refused(409, "escrow-off")
    root = world.server.tenant.root.public
    world.server.lies["GET escrow/policy-proposals"] = lambda answer: {**answer, "root_key": b64u(root.encoded)}
    found = []
    for name in (b"carol-----------", b"dan-------------", b"erin------------"):
        founder = Founder(name)
        account = world.profile(name, founder)
        vkey = world.server.keys_log.verifier("audit").to_text()
        pinned = founding_root(account.tenant, root)
        code = EnrolmentCode.new(tenant=account.tenant, person=name, log_vkey=vkey, founding_root=pinned)
        device.enrol(account, code, name="laptop")
        found.append((account, founder))
    return found


def founding_wanted(people: list[tuple[Account, Founder]], **changes: Any) -> Wanted:
    release = (SigningKey.generate().public, Founder().sealing_key.public)
    given: dict[str, Any] = {
        "m": 2,
        "rows": [row(founder) for _, founder in people],
        "delay": 86400,
        "max_notice_delay": 0,
        "cooling_off": 86400,
        "undelivered_delay": 14 * 86400,
        "purposes": frozenset({"device-loss"}),
        "approve_with": ApproveWith.CLI,
        "deposits": DepositRule.FROM_CONSENT,
        "release_keys": release,
    }
    return Wanted(**(given | changes))


def test_founding_policy_is_proposed_heard_by_everybody_of_everybody_and_pinned(world: Members) -> None:
    people = founders(world)
    first = people[0][0]
    made = proposals.submit(first, proposals.draft(first, founding_wanted(people)))
    assert (made.policy.version, made.change.before) == (1, None)
    for account, founder in people:
        found = proposals.find_proposal(account)
        others = [one.person for one in proposals.to_hear(account, found)]
        assert others == [one.person for _, one in people if one is not founder]
        assert proposals.own_words(account, found) == proposals.words_of(first, made, founder.person)
        with pytest.raises(WordsNeeded):
            proposals.sign_proposal(account, found, heard={})
        proposals.sign_proposal(account, found, heard=words(world, account, found, *others))
        world.server.proposals[found.id].state = "open"
        pin = root_pin(account.tenant, world.server.tenant.root.public, made.hash)
        assert account.state.trust.pin == pin
    assert len(world.server.proposals[made.id].signed) == 3


def test_whoever_signs_another_founding_policy_after_all_means_that_one(world: Members) -> None:
    people = founders(world)
    account = people[0][0]
    for delay in (86400, 2 * 86400):
        made = proposals.submit(account, proposals.draft(account, founding_wanted(people, delay=delay)))
        others = [one.person for one in proposals.to_hear(account, made)]
        proposals.sign_proposal(account, made, heard=words(world, account, made, *others))
        assert account.state.trust.pin == root_pin(account.tenant, world.server.tenant.root.public, made.hash)


def test_founding_under_another_root_than_the_codes_is_not_signed(world: Members) -> None:
    people = founders(world)
    account = people[0][0]
    made = proposals.submit(account, proposals.draft(account, founding_wanted(people)))
    false = SigningKey.generate().public
    world.server.lies["GET escrow/policy-proposals"] = lambda answer: {**answer, "root_key": b64u(false.encoded)}
    with pytest.raises(TrustRefused, match="not the one that your enrolment code names"):
        proposals.own_words(account, made)
    with pytest.raises(TrustRefused, match="not the one that your enrolment code names"):
        proposals.sign_proposal(account, made, heard={one.person: {1: "zoo"} for _, one in people})
    assert not account.state.trust.pin


def test_founding_policy_says_all_of_its_terms(world: Members) -> None:
    people = founders(world)
    for changes, why in (({"delay": None}, "delay"), ({"release_keys": None}, "release"), ({"m": None}, "how many")):
        with pytest.raises(WrongInput, match=why):
            proposals.draft(people[0][0], founding_wanted(people, **changes))


# Escrow keys.


def key_of(world: Members, *, by_root: SigningKey | None = None, **changes: Any) -> tuple[bytes, bytes]:
    """Have the server show a second escrow key; return its payload and hash."""
    tenant = world.server.tenant
    statement = tenant.sign_key(RecipientRsaKey.generate().public, version=2, predecessor=hash_of_key(world))
    payload = read_many_first(statement).payload
    payload = replace(EscrowKey.from_payload(payload), **changes).to_payload()
    signed = sign(payload, purpose=Purpose.ESCROW_KEY, key=by_root or tenant.root)
    world.server.key_proposals = {str(UUID(int=8)): Proposed(payload, [signed])}
    return payload, hashlib.sha256(payload).digest()


def read_many_first(statement: bytes) -> Sign1:
    return read_many(statement)[0]


def hash_of_key(world: Members) -> bytes:
    return read_many_first(world.server.tenant.keys[-1]).payload_hash


def test_escrow_key_is_signed_with_its_words_shown_and_only_under_the_pinned_root(world: Members) -> None:
    payload, key_hash = key_of(world)
    account = officer(world)
    found = proposals.find_key(account)
    assert (found.payload, found.hash, found.key.version) == (payload, key_hash, 2)
    assert " ".join(found.words) in unstyled(policy_commands._key_lines(found)[0])
    assert proposals.sign_key(account, found).state == "open"
    assert proposals.sign_key(officer(world, 2), found).state == "published"
    with pytest.raises(NotPossible, match="No escrow key waits"):
        proposals.find_key(account)


def test_key_that_another_policy_left_behind_is_said_to_be_made_anew(world: Members) -> None:
    key_of(world)
    (kept,) = world.server.key_proposals.values()
    kept.state = "replaced"
    with pytest.raises(NotPossible, match="No escrow key waits") as refusal:
        proposals.find_key(officer(world))
    assert "ceremony escrow-key" in refusal.value.way_out


@pytest.mark.parametrize("lie", ["root", "officer", "tenant", "version", "predecessor", "policy", "sha1"])
def test_escrow_key_that_does_not_hold_is_not_shown(world: Members, lie: str) -> None:
    account, tenant = officer(world), world.server.tenant
    lies: dict[str, dict[str, Any]] = {
        "root": {"by_root": SigningKey.generate()},
        "officer": {"by_root": tenant.officers[1].signing_key},
        "tenant": {"header": replace(tenant._header(), tenant=bytes(16))},
        "version": {"version": 3},
        "predecessor": {"predecessor": bytes(32)},
        "policy": {"policy_hash": bytes(32)},
        "sha1": {"algorithm": "oaep-sha1"},
    }
    key_of(world, **lies[lie])
    with pytest.raises(TrustRefused):
        proposals.find_key(account)
