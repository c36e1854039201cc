# SPDX-License-Identifier: Apache-2.0
"""A backup that was put back: officers' word for it is taken once, and excuses nothing that came after it.

docs/formats/key-log.md "After a restored backup"; FAULTS S16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from holdfast.client.errors import NotYet, ServerRestored
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, evidence, heads, key_log, restored
from holdfast.client.identity.key_log import SplitView
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.acts import Act
from holdfast.core.log import merkle
from holdfast.core.log.accepted import SLACK_SECONDS
from holdfast.core.log.checkpoint import Checkpoint, sign_note
from tests.cast.lying_log import KeysLog
from tests.cast.lying_server import TENANT
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.cast.officers import Founder

HOUR = 3_600


@dataclass
class PutBack:
    """A server put back from a backup an hour ago: alice and bob have seen what it lost, mallory has not.

    seen: bob's head."""

    world: Members
    alice: Account
    bob: Account
    mallory: Account
    seen: str
    before: KeysLog
    met: int = 0

    def grow(self, entries: int = 1) -> None:
        """Have the log go on, by entries of mallory's."""
        for _ in range(entries):
            archive.new_generation(self.mallory)

    def follow(self) -> None:
        """Have bob hold the log to what he has seen: he meets somebody who has joined since."""
        self.met += 1
        newcomer = b"newcomer" + self.met.to_bytes(8, "big")
        self.world.enrolled(newcomer)
        contacts.refresh(self.bob, newcomer)

    @property
    def kept(self) -> str:
        return key_log.own_checkpoint(self.bob)

    def require_as_strict_as_ever(self) -> None:
        """Bob believes nothing, keeps both heads, and shows the server the one that it lacks."""
        kept = self.kept
        taken = restored.taken(self.bob)
        with pytest.raises(ServerRestored, match=r"older key log|two histories") as refused:
            self.follow()
        assert "accept-log" in refused.value.way_out
        assert self.kept == kept
        assert restored.taken(self.bob) == taken
        assert [one for one in evidence.list_evidence(self.bob) if not one.explained]
        assert self.world.server.shown_heads[-1] == kept


@pytest.fixture
def lost(world: Members) -> PutBack:
    alice, bob, mallory = world.enrolled(ALICE), world.enrolled(BOB), world.enrolled(MALLORY)
    contacts.refresh(bob, ALICE)
    backup = world.server.backup()
    for _ in range(3):
        archive.new_generation(alice)
        contacts.refresh(bob, ALICE)
    before = KeysLog(TENANT, world.now, world.server.keys_log.key, [*world.server.keys_log.leaves])
    world.now += HOUR
    world.server.put_back(backup)
    return PutBack(world, alice, bob, mallory, key_log.own_checkpoint(bob), before)


@pytest.mark.parametrize("entries", [0, 3], ids=["shorter", "grown beyond"])
def test_log_that_officers_accepted_is_followed_from_there_and_said_once(lost: PutBack, entries: int) -> None:
    lost.grow(entries)
    lost.world.server.accept(lost.world.now)
    lost.follow()
    (one,) = restored.taken(lost.bob)
    assert (one.left_behind, one.note, one.signers) == (True, lost.seen.encode(), 2)
    assert lost.kept == lost.world.server.keys_log.checkpoint()
    assert restored.is_healing(lost.bob)
    (untold,) = restored.untold(lost.bob)
    assert "2 officers accepted" in restored.words_of(untold)
    restored.note_told(lost.bob, untold)
    assert not restored.untold(lost.bob)
    lost.follow()
    assert len(restored.taken(lost.bob)) == 1
    assert not evidence.list_evidence(lost.bob)
    lost.world.now += restored.HEALING_SECONDS + 1
    assert not restored.is_healing(lost.bob)


def test_what_was_kept_as_evidence_is_explained_and_not_thrown_away(lost: PutBack) -> None:
    lost.require_as_strict_as_ever()
    fork = lost.before.checkpoint(1).encode(), b"another entry"
    evidence.keep(lost.bob, evidence.Contradiction.CHAIN_FORK, user=BOB, ours=fork[0], theirs=fork[1])
    lost.world.server.accept(lost.world.now)
    lost.follow()
    assert [bool(one.explained) for one in evidence.list_evidence(lost.bob)] == [True, False]


def test_device_that_has_seen_nothing_of_what_was_lost_is_told_as_well(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    assert restored.look(lost.mallory)
    assert [one.left_behind for one in restored.taken(lost.mallory)] == [False]
    assert not restored.look(lost.mallory)
    assert restored.may_be_lost(lost.mallory, lost.world.now - HOUR)
    assert not restored.may_be_lost(lost.mallory, lost.world.now + SLACK_SECONDS + 1)


def test_acceptance_that_is_shown_late_opens_nothing_to_a_device_that_was_there_all_the_time(lost: PutBack) -> None:
    """A server would keep it for the day on which it shows an older vault. Who was away gives back from then on."""
    lost.world.server.accept(lost.world.now)
    late, lost.world.server.accepted = lost.world.server.accepted, []
    lost.world.now += restored.HEALING_SECONDS + HOUR
    lost.grow()
    newcomer = lost.world.enrolled(b"newcomer--------")
    lost.world.server.accepted = late
    for account in (lost.mallory, newcomer):
        assert restored.look(account)
        assert not restored.is_healing(account)
        assert not restored.may_be_lost(account, lost.world.now - restored.HEALING_SECONDS - 2 * HOUR)
    assert [len(restored.untold(account)) for account in (lost.mallory, newcomer)] == [1, 0]
    lost.follow()
    assert restored.is_healing(lost.bob)
    assert restored.may_be_lost(lost.bob, lost.world.now - restored.HEALING_SECONDS - 2 * HOUR)


def test_two_backups_put_back_one_after_the_other_are_both_taken(lost: PutBack) -> None:
    """Who was away meanwhile holds a head of before the first, which the second alone does not speak of."""
    lost.world.server.accept(lost.world.now)
    lost.grow(9)
    lost.world.now += HOUR
    lost.world.server.accept(lost.world.now)
    lost.follow()
    assert [one.left_behind for one in restored.taken(lost.bob)] == [True, False]


# What contacts have seen


def test_head_of_what_was_lost_that_comes_in_a_message_accuses_nobody(lost: PutBack) -> None:
    """It was written before, or by somebody who has not looked since: also to one who has seen nothing of it."""
    lost.world.server.accept(lost.world.now)
    lost.grow()
    lost.follow()
    for account in (lost.mallory, lost.bob):
        assert key_log.hear(account, lost.seen)
        assert key_log.compare_heard(account) == 1
        assert not evidence.list_evidence(account)
    assert not lost.world.server.shown_heads


def test_head_of_now_that_comes_in_a_message_accuses_nobody_either(lost: PutBack) -> None:
    """Bob has not looked since; a contact who has writes to him. Of one size with his own, and of another one."""
    lost.world.server.accept(lost.world.now)
    for _ in range(5):
        lost.grow()
        heard = key_log.own_checkpoint(lost.mallory)
        assert key_log.compare_gossip(lost.bob, heard)
    assert not evidence.list_evidence(lost.bob)
    assert [one.left_behind for one in restored.taken(lost.bob)] == [True]


@pytest.mark.parametrize(
    ("accepted", "heard"),
    [
        (False, lambda lost: lost.seen),
        (True, lambda lost: signed(lost, lost.before.leaves, SLACK_SECONDS + 1)),
        (True, lambda lost: signed(lost, lost.before.leaves[::-1], SLACK_SECONDS + 1)),
        (True, lambda lost: signed(lost, lost.before.leaves[2:4], -HOUR)),
        (True, lambda lost: signed(lost, lost.before.leaves, None)),
    ],
    ids=["nobody accepted", "of after, beyond", "of after, another", "of before, within", "undated"],
)
def test_head_that_no_acceptance_speaks_of_accuses_the_server(
    lost: PutBack, accepted: bool, heard: Callable[[PutBack], str]
) -> None:
    if accepted:
        lost.world.server.accept(lost.world.now)
        restored.look(lost.mallory)
    text = heard(lost)
    with pytest.raises(SplitView):
        key_log.compare_gossip(lost.mallory, text)
    assert len(evidence.list_evidence(lost.mallory)) == 1
    assert lost.world.server.shown_heads == [text]


def signed(lost: PutBack, leaves: list[bytes], after: int | None) -> str:
    """A head over these leaves, so many seconds after now, by the log's own key."""
    name, root = lost.before.verifier().name, merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    at = None if after is None else lost.world.now + after
    text = Checkpoint(name, len(leaves), root, at).to_text()
    return sign_note(text, verifier=lost.before.verifier(), sign=lost.before.key.sign)


def test_own_entry_that_the_log_does_not_know_any_more_is_said_as_what_it_is(lost: PutBack) -> None:
    """And where officers have accepted that, it is not there yet: it is given back."""
    lost.grow()
    heard = key_log.own_checkpoint(lost.mallory)
    with pytest.raises(ServerRestored, match="denies an entry"):
        key_log.compare_gossip(lost.alice, heard)
    assert lost.world.server.shown_heads
    lost.world.server.accept(lost.world.now)
    with pytest.raises(NotYet):
        key_log.compare_gossip(lost.alice, heard)


# What does not excuse a server


def one_officer(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, by=lost.world.server.tenant.officers[:1])


def no_officers(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, by=[Founder(), Founder()])


def an_officer_and_an_outsider(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, by=[lost.world.server.tenant.officers[0], Founder()])


def officers_of_an_older_policy(lost: PutBack) -> None:
    house = lost.world.server.tenant
    first, old = house.policy_hash, house.officers[1:]
    roster = [house.officers[0], Founder(), Founder()]
    house.policies.append(house.sign_policy(roster, version=2, predecessor=first, signers=house.officers))
    lost.world.server.accept(lost.world.now, by=old, policy_hash=first)


def officers_who_name_another_policy(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, policy_hash=bytes(32))


def another_tenant(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, tenant=b"another tenant--")


def older_than_what_was_seen(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now - HOUR - SLACK_SECONDS - 1)


def dated_ahead(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now + SLACK_SECONDS + 1)


def another_root(lost: PutBack) -> None:
    audit, root, size, _ = lost.world.server.both_logs()
    lost.world.server.accept(lost.world.now, about=(audit, root, size, bytes(32)))


def longer_than_the_log(lost: PutBack) -> None:
    audit, root, size, of = lost.world.server.both_logs()
    assert isinstance(size, int)
    lost.world.server.accept(lost.world.now, about=(audit, root, size + 9, of))


def audit_log_alone(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, about=lost.world.server.both_logs()[:2])


def logs_the_wrong_way_round(lost: PutBack) -> None:
    audit, root, size, of = lost.world.server.both_logs()
    lost.world.server.accept(lost.world.now, about=(size, of, audit, root))


def something_else(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now, act=Act.ACKNOWLEDGE_LEAF, about=(7, bytes(32)))


def head_without_a_date(lost: PutBack) -> None:
    """What bob has seen says nothing of when it was signed: by its date alone could it be of before."""
    shown = heads.read(lost.bob, heads.verifier(lost.bob), lost.seen)
    assert shown is not None
    text = Checkpoint(shown.origin, shown.size, shown.root).to_text()
    undated = sign_note(text, verifier=lost.before.verifier(), sign=lost.before.key.sign)
    lost.bob.state.trust.checkpoints[lost.before.verifier().name] = undated
    lost.world.server.accept(lost.world.now)


def taken_before(lost: PutBack) -> None:
    """The server goes back once more, and shows what officers accepted the first time."""
    backup = lost.world.server.backup()
    lost.world.server.accept(lost.world.now)
    lost.follow()
    lost.world.server.put_back(backup)


def seen_since(lost: PutBack) -> None:
    """Bob has not looked yet, but has a head of after: a second rollback is not what officers accepted."""
    lost.world.server.accept(lost.world.now)
    lost.before.now = lost.world.now + SLACK_SECONDS + 1
    lost.bob.state.trust.checkpoints[lost.before.verifier().name] = lost.before.checkpoint()
    lost.world.now += HOUR


def ten_thousand(lost: PutBack) -> None:
    statement = lost.world.server.accept(lost.world.now)
    many = [b64u(statement), *([b64u(b"one more")] * 9_999)]
    lost.world.server.lies["GET audit/head"] = lambda answer: {**answer, "accepted": many}


def junk(lost: PutBack) -> None:
    lost.world.server.accepted = [b"", b"\xff" * 40, b"\x80", bytes(300_000)]


def text_for_bytes(lost: PutBack) -> None:
    lost.world.server.lies["GET audit/head"] = lambda answer: {**answer, "accepted": ["ä", 7, None]}


def proof_that_does_not_hold(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    lost.grow(2)
    lost.world.server.lies["GET audit/head"] = lambda answer: {**answer, "consistency": [b64u(bytes(32))] * 3}


def no_proof(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    lost.grow(2)
    lost.world.server.lies["GET audit/head"] = lambda answer: {**answer, "consistency": []}


def head_of_another_key(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    forged = KeysLog(TENANT, lost.world.now, SigningKey.generate(), lost.world.server.keys_log.leaves)
    lost.world.server.lies["GET audit/head"] = lambda answer: {**answer, "checkpoint": forged.checkpoint()}


def head_of_the_other_log(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    lost.world.server.lies["GET audit/head"] = lambda answer: {
        **answer,
        "checkpoint": lost.world.server.audit_note(),
    }


def refused(lost: PutBack) -> None:
    lost.world.server.accept(lost.world.now)
    problem = {"title": "No", "code": "not-found", "detail": "No."}
    lost.world.server.instead["(GET|POST) audit/head"] = lambda _body: (404, problem)
    lost.world.server.shown_heads.append(lost.seen)  # it was shown, and refused


NOT_EXCUSED: list[Callable[[PutBack], None]] = [
    one_officer,
    no_officers,
    an_officer_and_an_outsider,
    officers_of_an_older_policy,
    officers_who_name_another_policy,
    another_tenant,
    older_than_what_was_seen,
    dated_ahead,
    another_root,
    longer_than_the_log,
    audit_log_alone,
    logs_the_wrong_way_round,
    something_else,
    head_without_a_date,
    taken_before,
    seen_since,
    ten_thousand,
    junk,
    text_for_bytes,
    proof_that_does_not_hold,
    no_proof,
    head_of_another_key,
    head_of_the_other_log,
    refused,
]


def test_without_an_acceptance_a_log_that_went_back_is_as_bad_as_ever(lost: PutBack) -> None:
    lost.require_as_strict_as_ever()


@pytest.mark.parametrize("lie", NOT_EXCUSED, ids=lambda lie: lie.__name__)
def test_acceptance_that_does_not_hold_excuses_nothing(lost: PutBack, lie: Callable[[PutBack], None]) -> None:
    lie(lost)
    lost.require_as_strict_as_ever()
