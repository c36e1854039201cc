# SPDX-License-Identifier: Apache-2.0
"""A founding against a server that lies at each of its steps: what the code, the words, one's own row and chains stop.

ORGANISATION "Founding, at different desks"; FAULTS S1 and P8. Each test tells one kind of lie; `test_proposals` shows
that the same steps succeed without it. What the operator's ceremony refuses is in tests/config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import ClientError, NotPossible, Problem, ProfileError, TrustRefused, WrongInput, WrongWords
from holdfast.client.identity import device, tenant
from holdfast.client.officers import proposals, section_doors
from holdfast.client.officers.proposals import Proposal
from holdfast.client.profile.account import Account
from holdfast.client.vault.doors import WrongPassword
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import RecipientRsaKey, SigningKey
from holdfast.core.identity.policy import ApproveWith, DepositRule, Officer, Policy
from holdfast.core.signed.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.statements import EscrowKey
from tests.cast.lying_acts import Proposed
from tests.cast.lying_server import text
from tests.cast.members import Members
from tests.cast.officers import Founder
from tests.client.officers.test_joining import PASSPHRASE, become
from tests.client.officers.test_proposals import founders, founding_wanted, row, stated

SHOWN = str(UUID(int=9))


@dataclass
class Founding:
    """Carol, dan and erin at their desks, a policy that carol proposed, and a server that may show each another one."""

    world: Members
    people: list[tuple[Account, Founder]]
    honest: Proposal

    @property
    def carol(self) -> Account:
        return self.people[0][0]

    def show(self, policy: Policy, signed: list[Sign1] | None = None) -> Proposal:
        """Have the server show this policy in place of the honest one, and return it as it is."""
        payload = policy.to_payload()
        self.world.server.proposals = {SHOWN: Proposed(payload, signed or [])}
        return replace(self.honest, payload=payload, hash=Sign1(b"", payload, b"").payload_hash, policy=policy)

    def said(self, by: Proposal) -> dict[bytes, dict[int, str]]:
        """What everybody answers who is called: the words on their own screen, of the proposal that they see."""
        found = {}
        for account, founder in self.people[1:]:
            on_screen = dict(enumerate(proposals.words_of(account, by, founder.person), start=1))
            found[founder.person] = on_screen
        return found

    def sign(self, shown: Proposal, *, read: Proposal) -> None:
        """Have carol sign what she sees, after calling the others, who read out what they see."""
        said = self.said(read)
        heard = {}
        for other in proposals.to_hear(self.carol, shown):
            heard[other.person] = {
                place: said.get(other.person, {}).get(place, "zoo")
                for place in proposals.asked(self.carol, shown, other)
            }
        proposals.sign_proposal(self.carol, shown, heard=heard)

    def nothing_was_signed(self) -> None:
        assert not [one for kept in self.world.server.proposals.values() for one in kept.signed]
        assert not self.carol.state.trust.pin


@pytest.fixture
def founding(world: Members) -> Founding:
    people = founders(world)
    for account, founder in people:
        stated(world, account, founder)
    first = people[0][0]
    return Founding(world, people, proposals.submit(first, proposals.draft(first, founding_wanted(people))))


def signature(policy: Policy, founder: Founder) -> Sign1:
    return sign(policy.to_payload(), purpose=Purpose.POLICY, key=founder.signing_key)


def other_keys(policy: Policy, place: int, founder: Founder) -> Policy:
    roster = [*policy.roster]
    roster[place - 1] = Officer(place, roster[place - 1].person, founder.signing_key.public, founder.sealing_key.public)
    return replace(policy, roster=tuple(roster))


def terms(policy: Policy, **changes: Any) -> Policy:
    return replace(policy, terms=replace(policy.terms, **changes))


# The proposal

EDITS = {
    "a shorter delay": lambda one: terms(one, delay_seconds=0),
    "notices delayed": lambda one: terms(one, max_notice_delay_seconds=86_400),
    "no cooling-off": lambda one: terms(one, cooling_off_seconds=0),
    "undelivered at once": lambda one: terms(one, undelivered_delay_seconds=0),
    "another purpose": lambda one: terms(one, purposes=frozenset({"device-loss", "legal"})),
    "approvals from a page": lambda one: terms(one, approve_with=ApproveWith.ANY),
    "all generations deposited": lambda one: terms(one, deposits=DepositRule.ALL),
    "its own release process": lambda one: terms(one, release_signing_key=SigningKey.generate().public),
    "its own sealing key": lambda one: terms(one, release_sealing_key=Founder().sealing_key.public),
    "one more officer": lambda one: replace(one, roster=(*one.roster, Officer(4, *row(Founder())))),
    "two officers in each other's place": lambda one: replace(
        one, roster=(one.roster[0], *(replace(two, index=at) for at, two in ((2, one.roster[2]), (3, one.roster[1]))))
    ),
    "another date": lambda one: replace(one, header=replace(one.header, issued_at=one.header.issued_at - 1)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_proposal_is_not_signed_by_whoever_hears_the_others(founding: Founding, edit: str) -> None:
    edited = EDITS[edit](founding.honest.policy)
    founding.show(edited)
    shown = proposals.find_proposal(founding.carol)
    assert shown.policy == edited
    with pytest.raises(WrongWords):
        founding.sign(shown, read=founding.honest)
    founding.nothing_was_signed()


@pytest.mark.parametrize("edit", EDITS)
def test_signature_is_not_carried_to_an_edited_proposal(founding: Founding, edit: str) -> None:
    by_dan = signature(founding.honest.policy, founding.people[1][1])
    founding.show(EDITS[edit](founding.honest.policy), [by_dan])
    with pytest.raises(TrustRefused, match="not to be trusted"):
        proposals.find_proposal(founding.carol)
    assert not founding.carol.state.trust.pin


@pytest.mark.parametrize("is_stated", [True, False], ids=["stated otherwise", "statement withheld"])
def test_keys_in_anothers_row_are_stopped_by_their_statement_and_by_their_words(
    founding: Founding, is_stated: bool
) -> None:
    dan, _ = founding.people[1]
    founding.show(other_keys(founding.honest.policy, 2, Founder()))
    if not is_stated:
        founding.world.server.lies["GET escrow/officer-statements"] = lambda answer: {**answer, "statements": []}
    shown = proposals.find_proposal(founding.carol)
    with pytest.raises(WrongWords if not is_stated else TrustRefused):
        founding.sign(shown, read=founding.honest)
    # Whoever reads from the screen on which the row is wrong is told that it is.
    with pytest.raises(TrustRefused, match="not yours"):
        proposals.own_words(dan, shown)
    founding.nothing_was_signed()


def test_keys_in_ones_own_row_are_not_signed(founding: Founding) -> None:
    founding.show(other_keys(founding.honest.policy, 1, Founder()))
    shown = proposals.find_proposal(founding.carol)
    with pytest.raises(TrustRefused, match="not yours"):
        founding.sign(shown, read=shown)
    founding.nothing_was_signed()


def test_proposal_that_is_withheld_is_not_there_and_pins_nothing(founding: Founding) -> None:
    founding.world.server.proposals.clear()
    with pytest.raises(WrongInput, match="No such proposal is open"):
        proposals.find_proposal(founding.carol)
    founding.nothing_was_signed()


# The root

ROOTS = {
    "another": lambda: b64u(SigningKey.generate().public.encoded),
    "withheld": lambda: "",
    "no key": lambda: b64u(b"root"),
}


@pytest.mark.parametrize("root", ROOTS)
def test_root_that_is_not_the_codes_is_neither_read_out_nor_signed_under(founding: Founding, root: str) -> None:
    false = ROOTS[root]()
    founding.world.server.lies["GET escrow/policy-proposals"] = lambda answer: {**answer, "root_key": false}
    shown = proposals.find_proposal(founding.carol)
    for act in (
        lambda: proposals.own_words(founding.carol, shown),
        lambda: proposals.asked(founding.carol, shown, shown.policy.roster[1]),
        lambda: proposals.sign_proposal(founding.carol, shown, heard={}),
    ):
        with pytest.raises(TrustRefused, match="root"):
            act()
    founding.nothing_was_signed()


# What accounts state

STATEMENTS = ["of another person", "by another account", "of another tenant", "of nobody's account"]


@pytest.mark.parametrize("lie", STATEMENTS)
def test_statement_that_an_account_does_not_bear_out_makes_no_row(founding: Founding, lie: str) -> None:
    (carol, _), (dan, founder), (erin, _) = founding.people
    founding.world.server.stated.clear()
    asked, key, header = dan.user, dan.identity_key, dan.header()
    if lie == "of another person":
        header = replace(header, user=erin.user)
    elif lie == "by another account":
        key = erin.identity_key
    elif lie == "of another tenant":
        header = replace(header, tenant=bytes(16))
    else:
        asked = b"nobody----------"
        header = replace(header, user=asked)
    named = {"person": header.user} if header.user != dan.user else {}
    stated(founding.world, dan, founder, key=key, header=header, **named)
    founding.world.server.stated[-1]["person_id"] = text(asked)
    with pytest.raises(TrustRefused):
        proposals.stated_row(carol, UUID(bytes=asked))


def test_account_that_the_server_made_up_is_stopped_by_the_persons_own_row_and_words(
    worlds: Iterator[Members],
) -> None:
    """The server shows carol a dan of its own making, with account and statement, and dan another house."""
    here, there = next(worlds), next(worlds)
    people, honest = founders(here), founders(there)
    for world, rows in ((here, people), (there, honest)):
        for account, founder in rows:
            stated(world, account, founder)
    carol, dan = people[0][0], honest[1][0]
    seen = Founding(here, people, proposals.submit(carol, proposals.draft(carol, founding_wanted(people))))
    at_dans = proposals.submit(dan, proposals.draft(dan, founding_wanted(honest)))
    # Dan reads what stands on his own screen, whichever proposal the server shows there.
    with pytest.raises(WrongWords):
        seen.sign(seen.honest, read=at_dans)
    with pytest.raises(TrustRefused, match="not yours"):
        proposals.own_words(dan, seen.honest)
    seen.nothing_was_signed()


# The section and its doors


def test_door_of_another_officer_opens_no_section(world: Members) -> None:
    carol, dan = (world.enrolled(name) for name in (b"carol-----------", b"dan-------------"))
    for account in (carol, dan):
        become(account)
    doors = world.server.section_doors
    # Proven, and current, and even of the same passphrase: but of another's section.
    doors[text(carol.user)] = doors[text(dan.user)]
    before = carol.state.to_secret().reveal()
    with pytest.raises((TrustRefused, WrongPassword)):
        section_doors.open_with_passphrase(carol, PASSPHRASE)
    assert carol.state.to_secret().reveal() == before


# What is published


def published(founding: Founding, policy: Policy, *signers: Founder, root: SigningKey | None = None) -> None:
    """Have the server show a policy as published; the escrow key is shown as the tests' tenant has it."""
    statement = encode_many([signature(policy, one) for one in signers])
    tenant_row = founding.world.server.tenant
    tenant_row.policies[:] = [statement]
    if root:
        tenant_row.root = root
    founding.world.server.instead.pop("GET escrow/policy")


def test_policy_as_signed_is_believed_when_it_is_published(founding: Founding) -> None:
    founding.sign(founding.honest, read=founding.honest)
    published(founding, founding.honest.policy, *(one for _, one in founding.people))
    assert tenant.refresh(founding.carol).policy_now == 1


@pytest.mark.parametrize("lie", ["a founder missing", "a founder twice", "another root"])
def test_published_policy_that_is_not_the_founders_is_refused(founding: Founding, lie: str) -> None:
    founding.sign(founding.honest, read=founding.honest)
    pin = founding.carol.state.trust.pin
    all_three = [one for _, one in founding.people]
    if lie == "a founder missing":
        published(founding, founding.honest.policy, *all_three[:2])
    elif lie == "a founder twice":
        published(founding, founding.honest.policy, *all_three[:2], all_three[0])
    else:
        published(founding, founding.honest.policy, *all_three, root=SigningKey.generate())
    with pytest.raises(TrustRefused):
        tenant.refresh(founding.carol)
    assert (founding.carol.state.trust.pin, founding.carol.state.trust.policies) == (pin, [])


def test_other_policy_of_all_founders_is_not_believed_before_the_root_vouches_for_it(founding: Founding) -> None:
    """The operator hears the founders before the root signs a key for their policy; the server hears nobody."""
    founding.sign(founding.honest, read=founding.honest)
    pin = founding.carol.state.trust.pin
    published(founding, terms(founding.honest.policy, delay_seconds=1), *(one for _, one in founding.people))
    change = tenant.refresh(founding.carol)
    assert (change.policy_now, change.is_founding, change.is_another) == (0, True, False)
    assert (founding.carol.state.trust.pin, founding.carol.state.trust.policies) == (pin, [])


def test_policy_that_is_withheld_is_missed_once_it_was_seen(founding: Founding) -> None:
    founding.sign(founding.honest, read=founding.honest)
    kept = founding.world.server.instead["GET escrow/policy"]
    published(founding, founding.honest.policy, *(one for _, one in founding.people))
    tenant.refresh(founding.carol)
    founding.world.server.instead["GET escrow/policy"] = kept
    with pytest.raises(Problem):
        tenant.refresh(founding.carol)


# The escrow key

KEYS = ["another root", "an officer in the root's place", "another policy", "another tenant", "the second", "sha1"]


def ask_for_key(founding: Founding, lie: str = "") -> None:
    """Have the server ask for signatures under an escrow key."""
    tenant_row = founding.world.server.tenant
    key = EscrowKey(
        header=replace(tenant_row._header(), tenant=bytes(16)) if lie == "another tenant" else tenant_row._header(),
        key=RecipientRsaKey.generate().public,
        version=2 if lie == "the second" else 1,
        algorithm="oaep-sha1" if lie == "sha1" else "oaep-sha256",
        predecessor=bytes(32) if lie == "the second" else b"",
        policy_hash=bytes(range(32)) if lie == "another policy" else founding.honest.hash,
    )
    by = {
        "another root": SigningKey.generate(),
        "an officer in the root's place": founding.people[1][1].signing_key,
    }.get(lie, tenant_row.root)
    payload = key.to_payload()
    signed = sign(payload, purpose=Purpose.ESCROW_KEY, key=by)
    founding.world.server.key_proposals = {str(UUID(int=8)): Proposed(payload, [signed])}


@pytest.fixture
def bound(founding: Founding) -> Founding:
    """The same, with the policy signed and published."""
    founding.sign(founding.honest, read=founding.honest)
    published(founding, founding.honest.policy, *(one for _, one in founding.people))
    return founding


def test_escrow_key_of_the_root_for_the_founders_policy_is_signed(bound: Founding) -> None:
    ask_for_key(bound)
    assert proposals.sign_key(bound.carol, proposals.find_key(bound.carol)).state == "open"


@pytest.mark.parametrize("lie", KEYS)
def test_escrow_key_that_is_not_the_roots_for_this_policy_is_not_signed(bound: Founding, lie: str) -> None:
    ask_for_key(bound, lie)
    with pytest.raises(TrustRefused):
        proposals.find_key(bound.carol)
    (kept,) = bound.world.server.key_proposals.values()
    assert len(kept.signed) == 1


def test_escrow_key_that_is_withheld_is_not_there(bound: Founding) -> None:
    with pytest.raises(NotPossible, match="No escrow key waits"):
        proposals.find_key(bound.carol)


def test_escrow_key_is_signed_by_nobody_who_has_not_signed_the_policy(founding: Founding) -> None:
    """The root is not pinned yet, and what a code names is no ground to sign a key on."""
    ask_for_key(founding)
    with pytest.raises(ProfileError, match="has not signed") as caught:
        proposals.find_key(founding.carol)
    assert "policy sign" in caught.value.way_out


# Who comes later


@pytest.mark.parametrize("lie", ["another policy", "another root"])
def test_members_code_is_of_the_founding_and_of_no_other(bound: Founding, lie: str) -> None:
    """A code that an officer issued carries the pin: of this root and this policy together."""
    code = device.issue_code(bound.carol, UUID(bytes=b"alice-----------"))
    if lie == "another policy":
        policy = terms(bound.honest.policy, delay_seconds=1)
        bound.world.server.tenant.policies[:] = [
            encode_many([signature(policy, founder) for _, founder in bound.people])
        ]
    else:
        bound.world.server.tenant.root = SigningKey.generate()
    alice = bound.world.profile(b"alice-----------")
    with pytest.raises(ClientError):
        device.enrol(alice, EnrolmentCode.parse(code.text), name="laptop")
    assert alice.state.trust.policies == []
