# SPDX-License-Identifier: Apache-2.0
"""What the audit log says about policies, officers, deposits and cases, rebuilt from its proven entries alone.

Implements ESCROW "Release process": opening time, vetoes, removals, notices and policies come from here, never
from rows. Pure: no clock, no database; the caller proves every leaf first. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar
from uuid import UUID

from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.escrow.approvals import Excluded
from holdfast.core.escrow.release import NoticeFacts
from holdfast.core.identity.cases import VETOES_THAT_END
from holdfast.core.identity.policy import History, SignedPolicy, history_of
from holdfast.core.log.log_entry import BodyValue, LogEntry

T = TypeVar("T", int, str, bytes)

OFFICER_ROLE: Final = "officer"


@dataclass(frozen=True)
class LoggedDecision:
    """One officer's approval: the hash of their statement, and the log's time of it."""

    statement_hash: bytes
    at: int


@dataclass
class CaseFacts:
    """One case as the log tells it. Ids are 16 bytes, hashes 32, times Unix seconds."""

    q: bytes
    policy_hash: bytes
    subject: bytes
    requester: bytes
    recipient: bytes
    opened_at: int
    approvals: dict[int, LoggedDecision] = field(default_factory=dict)
    notice: NoticeFacts = field(default_factory=NoticeFacts)
    # How far the log has it: requested, quorate, waiting, releasing, released, or the word for how it ended.
    stage: str = "requested"
    extra_officers: int = 0


@dataclass
class Facts:
    """Everything that the release process believes about one tenant. Person and deposit ids are 16 bytes."""

    policies: dict[bytes, int] = field(default_factory=dict)  # hash → the log's time, in order of publication
    withdrawn: dict[bytes, int] = field(default_factory=dict)  # hash of a version → when its withdrawal came
    escrow_keys: list[bytes] = field(default_factory=list)  # hashes, in order of publication
    officers: set[bytes] = field(default_factory=set)  # persons whose role is officer
    active: set[bytes] = field(default_factory=set)  # persons who are active
    suspended: set[bytes] = field(default_factory=set)  # as officers
    removed: set[bytes] = field(default_factory=set)  # as officers, for ever
    away: set[bytes] = field(default_factory=set)
    deposits: dict[bytes, bytes] = field(default_factory=dict)  # deposit → SHA-256 of its record
    halves: dict[bytes, bytes] = field(default_factory=dict)  # deposit → SHA-256 of h_half
    cases: dict[bytes, CaseFacts] = field(default_factory=dict)
    vetoes: dict[bytes, int] = field(default_factory=dict)  # subject → how often they have vetoed

    def absorb(self, leaf: bytes) -> None:
        """Take in one proven leaf; entries that say nothing about a release are passed over. Raises Malformed."""
        entry = LogEntry.from_leaf(leaf)
        take = _TAKERS.get(entry.tag)
        if take is not None:
            take(self, entry)

    def excluded(self, case: CaseFacts, policies: Sequence[SignedPolicy], *, now: int) -> Excluded:
        """Return who does not count for a case at `now`, by the log alone: default-deny (FAULTS P5, P8, P9).

        policies: every version, verified, oldest first.
        """
        history = self._history(policies)
        in_force = history.in_force(now).policy
        named = {officer.person for signed in policies for officer in signed.policy.roster}
        # Who is taken off goes when that version is in force, and not when it is published.
        current = {officer.person for officer in in_force.roster}
        counting = (self.officers & self.active & current) - self.suspended - self.removed
        return Excluded(
            requester=case.requester,
            subject=case.subject,
            recipient=case.recipient,
            cooling_off=frozenset(current - {officer.person for officer in history.counting(now)}),
            suspended=frozenset(named - counting),
            away=frozenset(self.away),
        )

    def policy_in_force(self, policies: Sequence[SignedPolicy], *, now: int) -> SignedPolicy:
        """Return the highest version whose time has come: one that lowers a guard cools off first (FAULTS P6)."""
        return self._history(policies).in_force(now)

    def require_history(self, policies: Sequence[SignedPolicy], keys: Sequence[bytes]) -> None:
        """Raise Untrusted unless these are exactly the policies and escrow keys that the log tells of, in order."""
        if [signed.hash for signed in policies] != list(self.policies):
            raise Untrusted("the stored policies are not those of the log")
        if list(keys) != self.escrow_keys:
            raise Untrusted("the stored escrow keys are not those of the log")

    def _history(self, policies: Sequence[SignedPolicy]) -> History:
        return history_of(policies, [self.policies[signed.hash] for signed in policies], self.withdrawn)


def _typed(entry: LogEntry, name: str, kind: type[T]) -> T:
    value: BodyValue | None = entry.body.get(name)
    if not isinstance(value, kind):
        raise Malformed(f"log entry {entry.tag}: {name} is missing or of another type")
    return value


def _id(text: str, entry: LogEntry) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        raise Malformed(f"log entry {entry.tag}: an id is no UUID") from None


def _uuid(entry: LogEntry, name: str) -> bytes:
    return _id(_typed(entry, name, str), entry)


def _subject(entry: LogEntry) -> bytes:
    return _id(entry.subject, entry)


def _case(facts: Facts, entry: LogEntry) -> CaseFacts:
    case = facts.cases.get(_subject(entry))
    if case is None:
        raise Malformed("the log tells of a case that it never opened")
    return case


def _policy(facts: Facts, entry: LogEntry) -> None:
    facts.policies.setdefault(_typed(entry, "hash", bytes), entry.time)


def _escrow_key(facts: Facts, entry: LogEntry) -> None:
    facts.escrow_keys.append(_typed(entry, "hash", bytes))


def _person_created(facts: Facts, entry: LogEntry) -> None:
    if entry.body.get("role") == OFFICER_ROLE:
        facts.officers.add(_subject(entry))


def _role_changed(facts: Facts, entry: LogEntry) -> None:
    facts.officers.discard(_subject(entry))
    if entry.body.get("to") == OFFICER_ROLE:
        facts.officers.add(_subject(entry))


def _person_active(facts: Facts, entry: LogEntry) -> None:
    facts.active.add(_subject(entry))


def _person_suspended(facts: Facts, entry: LogEntry) -> None:
    facts.active.discard(_subject(entry))


def _officer_suspended(facts: Facts, entry: LogEntry) -> None:
    facts.suspended.add(_subject(entry))


def _officer_removed(facts: Facts, entry: LogEntry) -> None:
    facts.removed.add(_subject(entry))


def _officer_away(facts: Facts, entry: LogEntry) -> None:
    facts.away.add(_subject(entry))


def _officer_back(facts: Facts, entry: LogEntry) -> None:
    facts.suspended.discard(_subject(entry))
    facts.away.discard(_subject(entry))


def _deposit(facts: Facts, entry: LogEntry) -> None:
    deposit = _uuid(entry, "deposit")
    facts.deposits.setdefault(deposit, _typed(entry, "record_hash", bytes))
    facts.halves.setdefault(deposit, _typed(entry, "half_hash", bytes))


def _opened(facts: Facts, entry: LogEntry) -> None:
    case = CaseFacts(
        q=_typed(entry, "q", bytes),
        policy_hash=_typed(entry, "policy", bytes),
        subject=_uuid(entry, "user"),
        requester=_uuid(entry, "requester"),
        recipient=_uuid(entry, "recipient"),
        opened_at=entry.time,
    )
    # The first entry counts: nobody opens a case anew under an id that is taken.
    facts.cases.setdefault(_subject(entry), case)


def _approved(facts: Facts, entry: LogEntry) -> None:
    case = _case(facts, entry)
    decision = LoggedDecision(_typed(entry, "statement_hash", bytes), entry.time)
    case.approvals.setdefault(_typed(entry, "index", int), decision)


def _vetoed(facts: Facts, entry: LogEntry) -> None:
    case = _case(facts, entry)
    times = facts.vetoes[case.subject] = facts.vetoes.get(case.subject, 0) + 1
    if times <= VETOES_THAT_END:
        _end(case, "vetoed")
    else:
        case.extra_officers = 1


def _stage(name: str) -> Callable[[Facts, LogEntry], None]:
    def take(facts: Facts, entry: LogEntry) -> None:
        case = _case(facts, entry)
        if case.stage not in _ENDED:
            case.stage = name

    return take


def _ended(name: str) -> Callable[[Facts, LogEntry], None]:
    return lambda facts, entry: _end(_case(facts, entry), name)


def _end(case: CaseFacts, name: str) -> None:
    # The first end stands, and none of them is taken back (FAULTS R14).
    if case.stage not in _ENDED:
        case.stage = name


def _is_opening_notice(entry: LogEntry, case: CaseFacts) -> bool:
    return entry.body.get("kind") == "opened" and _uuid(entry, "person") == case.subject


def _told(facts: Facts, entry: LogEntry) -> None:
    case = _case(facts, entry)
    if _is_opening_notice(entry, case):
        case.notice = replace(case.notice, handed_over_at=case.notice.handed_over_at or entry.time)


def _not_told(facts: Facts, entry: LogEntry) -> None:
    case = _case(facts, entry)
    if _is_opening_notice(entry, case):
        case.notice = replace(case.notice, failed_at=case.notice.failed_at or entry.time)


_ENDED: Final = frozenset({"denied", "vetoed", "cancelled", "expired", "held"})
_TAKERS: Final[dict[str, Callable[[Facts, LogEntry], None]]] = {
    "escrow:deposit:accept": _deposit,
    "escrow:key:publish": _escrow_key,
    "escrow:officer:leave": _officer_away,
    "escrow:officer:remove": _officer_removed,
    "escrow:officer:return": _officer_back,
    "escrow:officer:suspend": _officer_suspended,
    "escrow:policy:publish": _policy,
    "recovery:case:approve": _approved,
    "recovery:case:cancel": _ended("cancelled"),
    "recovery:case:deny": _ended("denied"),
    "recovery:case:expire": _ended("expired"),
    "recovery:case:open": _opened,
    "recovery:case:quorum": _stage("quorate"),
    "recovery:case:reopen": _stage("requested"),
    "recovery:case:veto": _vetoed,
    "recovery:case:wait": _stage("waiting"),
    "recovery:notice:fail": _not_told,
    "recovery:notice:hand-over": _told,
    "recovery:release:begin": _stage("releasing"),
    "recovery:release:defer": _stage("waiting"),
    "recovery:release:finish": _stage("released"),
    "recovery:release:held": _ended("held"),
    "tenants:person:activate": _person_active,
    "tenants:person:change-role": _role_changed,
    "tenants:person:create": _person_created,
    "tenants:person:suspend": _person_suspended,
}
