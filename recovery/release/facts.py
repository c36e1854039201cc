# SPDX-License-Identifier: Apache-2.0
"""What the audit log says about policies, officers, deposits and cases, rebuilt from its proven entries alone.

Implements ESCROW "What it believes of the log": an entry is worth no more than whoever could write it, its time is when
this process first saw it, and what a person signed is believed with that statement only. Pure but for the statements
that it is handed; the caller believes none of it before its leaves have led to a signed head. It judges nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar
from uuid import UUID

from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import Expired, HoldfastError, Malformed, Untrusted
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.escrow.approvals import Excluded, had_quorum
from holdfast.core.escrow.locks import DEFAULT_DELAY_SECONDS, Locks
from holdfast.core.escrow.release import NoticeFacts
from holdfast.core.escrow.sponsors import letting_in, still_behind
from holdfast.core.identity import trust as chain_of_trust
from holdfast.core.identity.acts import (
    Act,
    Resolution,
    Standing,
    read_resolution,
    verify_officer_state,
    verify_resolution,
)
from holdfast.core.identity.cases import VETOES_COUNT_SECONDS, VETOES_THAT_END, Case, verify_veto
from holdfast.core.identity.chain import has_listed
from holdfast.core.identity.entries import Entry, is_loss
from holdfast.core.identity.policy import (
    NEVER,
    History,
    Officer,
    Policy,
    SignedPolicy,
    history_of,
    strictest,
    verify_successor,
)
from holdfast.core.identity.roles import Roles, WrongLeaf, check_leaf
from holdfast.core.identity.trust import SignedTenantKey, TrustedTenant
from holdfast.core.log.follower import MAX_AHEAD_SECONDS
from holdfast.core.log.log_entry import BodyValue, LogEntry
from holdfast.core.log.merkle import leaf_hash
from holdfast.core.signed.cose import Sign1, parse_many
from holdfast.core.signed.statements import DeviceStatement, EscrowKey
from recovery.release.clock import Moment, Now
from recovery.release.directory import Trust
from recovery.release.presence import Presence

log = logging.getLogger("holdfast.release")

T = TypeVar("T", int, str, bytes)

OFFICER_ROLE: Final = "officer"
OWNER_ROLE: Final = "owner"
_RESET_ACT: Final = "person-factors"  # `tenants.acts.people`, as entries call it
VETO: Final = "recovery:case:veto"
RESOLUTION: Final = "escrow:resolution:pass"
# Each is another release key, put in force while one case was open: m officers do that once in years.
MAX_RELEASE_KEYS: Final = 4


class Statements(Protocol):
    """Where the statements lie that entries name by hash. Whoever holds them is not trusted: each is verified."""

    def policy(self, statement_hash: bytes) -> bytes | None:
        """Return a policy's statements as one array, if they are there."""

    def escrow_key(self, statement_hash: bytes) -> bytes | None:
        """Return an escrow key's statements as one array, if they are there."""

    def officer_state(self, statement_hash: bytes) -> bytes | None:
        """Return one officer's statement, if it is there."""

    def resolution(self, statement_hash: bytes) -> bytes | None:
        """Return a resolution's statements as one array, if they are there."""

    def veto(self, case_id: bytes, device_id: bytes) -> VetoPapers | None:
        """Return what is stored of one device's veto of one case, if it is all there."""


@dataclass(frozen=True)
class VetoPapers:
    """A veto, and what it rests on: statements as they are stored, and the subject's chain from its genesis."""

    veto: bytes
    device: bytes
    case: bytes
    approvals: tuple[bytes, ...]
    chain: tuple[bytes, ...]


@dataclass(frozen=True)
class Place:
    """Where an entry stands in the log, and when this process first saw it there."""

    index: int
    moment: Moment


@dataclass(frozen=True)
class LoggedDecision:
    """One officer's approval: the hash of their statement, and where it stands in the log."""

    statement_hash: bytes
    place: Place


@dataclass(frozen=True)
class LoggedPolicy:
    """A policy whose signatures were followed from the pin, and when the log told of it."""

    signed: SignedPolicy
    place: Place

    @property
    def moment(self) -> Moment:
        """When this process first saw the entry."""
        return self.place.moment


@dataclass(frozen=True)
class WrongEntry:
    """An entry that nobody entitled wrote, or that nothing bears out. why: a fixed word of ours."""

    why: str
    leaf_hash: bytes


@dataclass
class CaseFacts:
    """One case as the log tells it. Ids are 16 bytes, hashes 32."""

    q: bytes
    policy_hash: bytes
    subject: bytes
    requester: bytes
    recipient: bytes
    place: Place
    recipient_device: bytes = b""
    behind: frozenset[bytes] = frozenset()  # who stands behind the device or the requester, as it was opened
    approvals: dict[bytes, LoggedDecision] = field(default_factory=dict)  # person → the last that they gave
    used: set[tuple[bytes, bytes]] = field(default_factory=set)  # person and hash of all that they gave
    told: Moment | None = None
    not_told: Moment | None = None
    # How far the log has it: requested, quorate, waiting, releasing, deferred (begun, and put off since), released, or
    # the word for how it ended.
    stage: str = "requested"
    extra_officers: int = 0
    # What its vetoes came to, whatever else ended it: a case uses up one veto of its subject's at most.
    is_forbidden: bool = False
    is_veto_counted: bool = False
    objected: Moment | None = None  # the first veto by a device that m officers had suspended

    @property
    def opened(self) -> Moment:
        """When this process first saw that it was opened."""
        return self.place.moment

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is to be released any more, or all of it is."""
        return self.stage in _ENDED


@dataclass
class Facts:
    """Everything that the release process believes about one tenant. Person and deposit ids are 16 bytes."""

    tenant: bytes
    trust: Trust
    statements: Statements
    policies: list[LoggedPolicy] = field(default_factory=list)  # oldest first, each verified
    withdrawn: dict[bytes, Moment] = field(default_factory=dict)  # policy hash → when officers withdrew it
    escrow_keys: dict[bytes, SignedTenantKey[EscrowKey]] = field(default_factory=dict)  # hash → verified, in order
    officers: set[bytes] = field(default_factory=set)  # persons whose role is officer
    active: set[bytes] = field(default_factory=set)  # persons who are active
    suspended: dict[bytes, int] = field(default_factory=dict)  # as officer or person → index; back by resolution alone
    stopped: dict[bytes, int] = field(default_factory=dict)  # person → index of the last suspension, ended or not
    # Person → encoded keys that a version had named before they lost a device: with one of these nobody counts again.
    lost_keys: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    removed: set[bytes] = field(default_factory=set)  # as officers, for ever
    away: set[bytes] = field(default_factory=set)
    deposits: dict[bytes, bytes] = field(default_factory=dict)  # deposit → SHA-256 of its record
    made_under: dict[bytes, bytes] = field(default_factory=dict)  # deposit → hash of its policy
    halves: dict[bytes, bytes] = field(default_factory=dict)  # deposit → SHA-256 of h_half
    half_owners: dict[bytes, bytes] = field(default_factory=dict)  # SHA-256 of h_half → the first deposit that has it
    unreceipted: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)  # deposit → (index, policy hash)
    cases: dict[bytes, CaseFacts] = field(default_factory=dict)
    vetoes: dict[bytes, list[int]] = field(default_factory=dict)  # subject → ticks of those that count, of 90 days
    # Device, or one that follows it → who stands behind its enrolment; person → who came to stand behind them, and the
    # tick when they last did.
    enrolled_by: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    sponsors: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    presence: Presence = field(default_factory=Presence)
    silenced: set[tuple[bytes, bytes]] = field(default_factory=set)  # (person, device) that m officers suspended
    is_shut: bool = False  # the operator suspended the tenant: nobody of it can object
    opened_again: Place | None = None  # when they last resumed it
    owners: set[bytes] = field(default_factory=set)  # persons whose role is owner
    locks: Locks = field(default_factory=Locks)  # of the tenant, in ticks
    wrong: dict[int, WrongEntry] = field(default_factory=dict)  # by index; while there is one, nothing is released
    # Entries that were wrong when they were first read, by index: they are not judged anew, whatever lies there now.
    known_wrong: dict[int, WrongEntry] = field(default_factory=dict)
    pending: list[tuple[Resolution, Place]] = field(default_factory=list)  # passed under a version not yet in force
    unsigned: int = 0  # the size of the log below which entries bear no signature, as the root pinned it
    seen: set[bytes] = field(default_factory=set)  # ids of entries that told of something: each counts once
    used: set[bytes] = field(default_factory=set)  # hashes of resolutions and officers' statements: each is used once
    policy_statements: list[bytes] = field(default_factory=list)  # of `policies`, as they were signed
    key_statements: list[bytes] = field(default_factory=list)  # of `escrow_keys`, as they were signed

    def absorb(self, leaf: bytes, place: Place, roles: Roles) -> bool:
        """Take in one leaf, and tell whether it narrows what may be released. It never raises for the leaf.

        What is wrong with one stands in `wrong` and stops no other: an entry that a liar put in must not hide the veto
        behind it.
        """
        self.unsigned = roles.unsigned[0] if roles.unsigned else 0
        if (known := self.known_wrong.get(place.index)) is not None and known.leaf_hash == leaf_hash(leaf):
            self.wrong[place.index] = known
            return False
        try:
            entry = check_leaf(leaf, index=place.index, roles=roles)
            if (take := _TAKERS.get(entry.tag)) is not None:
                self._require_once(entry)
                take(self, entry, place)
        except WrongLeaf as error:
            self._found_wrong(leaf, place, error.why)
        except HoldfastError:
            self._found_wrong(leaf, place, "unproven")
        else:
            return entry.tag in NARROWING or self._silences(entry, place)
        return False

    def _silences(self, entry: LogEntry, place: Place) -> bool:
        # By what officers signed: the entry says of it what whoever wrote it likes.
        is_resolved = entry.tag == RESOLUTION and bool(self.pending) and self.pending[-1][1] == place
        return is_resolved and self.pending[-1][0].act is Act.SUSPEND_DEVICE

    def _require_once(self, entry: LogEntry) -> None:
        if entry.entry_id in self.seen:
            raise WrongLeaf("repeated")
        self.seen.add(entry.entry_id)

    def _found_wrong(self, leaf: bytes, place: Place, why: str) -> None:
        self.wrong[place.index] = WrongEntry(why, leaf_hash(leaf))
        log.critical("tenant %s: entry %d of the log is wrong: %s", UUID(bytes=self.tenant), place.index, why)

    def settle(self, now: Now) -> None:
        """Let resolutions count whose version has come into force meanwhile. Call it before anything is judged.

        What comes of it depends on the places and moments of entries alone: a process that reads the log anew comes to
        the same, whenever it does.
        """
        # In the order in which they come to count, which a withdrawal changes for those under the version withdrawn.
        while self.pending:
            counting = [(self._counts_at(*one), one) for one in self.pending]
            # Under a version that was withdrawn, none ever counts.
            self.pending = [one for counts_at, one in counting if counts_at < NEVER]
            due = [(counts_at, one) for counts_at, one in counting if counts_at <= now.tick]
            if not due:
                return
            counts_at, first = min(due, key=lambda found: (found[0], found[1][1].index))
            self.pending.remove(first)
            self._resolve(*first, counts_at)

    def settled_at(self, now: Now) -> int:
        """Return when, by this process's count, the newest version is in force and all of its officers count."""
        return self.history(now).settled_at

    def for_delays(self, moment: Moment, now: Now) -> int:
        """Return when a moment was, in UTC seconds, for a delay that runs from it: later by the time in a lock since.

        ORGANISATION "Lock": delays stand still while the tenant is locked.
        """
        return now.at(moment) + self.locks.locked_between(moment.tick, now.tick)

    def told(self, case: CaseFacts, now: Now) -> NoticeFacts:
        """Return what is known of telling a case's subject, as delays count it."""
        return NoticeFacts(
            handed_over_at=self.for_delays(case.told, now) if case.told else None,
            failed_at=self.for_delays(case.not_told, now) if case.not_told else None,
        )

    def ask_unlock(self, proposer: bytes, second: bytes, place: Place) -> None:
        """Believe that two owners want the lock to end after the long delay of the policy then in force.

        By the log alone each is an active owner, and neither let the other in within 90 days. Of others the word counts
        for nothing: owners can ask anew.
        """
        asking = {proposer, second}
        behind = [still_behind(self.sponsors.get(one, {}), place.moment.tick) for one in asking]
        if len(asking) != 2 or not asking <= self.owners & self.active or any(asking & those for those in behind):
            log.warning("tenant %s: an unlocking was not asked for by two owners", UUID(bytes=self.tenant))
            return
        known = any(logged.place.index < place.index for logged in self.policies)
        policy = self._history_before(place).in_force(place.moment.tick).policy if known else None
        delay = policy.terms.undelivered_delay_seconds if policy else DEFAULT_DELAY_SECONDS
        self.locks.ask(place.moment.tick, delay=delay)

    def excluded(self, case: CaseFacts, *, now: Now) -> Excluded:
        """Return who does not count for a case now, by the log alone: default-deny (FAULTS P5, P8, P9)."""
        history = self.history(now)
        in_force = history.in_force(now.wall).policy
        named = {officer.person for logged in self.policies for officer in logged.signed.policy.roster}
        # Who is taken off goes when that version is in force, and not when it is published.
        current = {officer.person for officer in in_force.roster}
        lost = {officer.person for officer in in_force.roster if self._has_lost(officer)}
        counting = (self.officers & self.active & current) - self.suspended.keys() - self.removed - lost
        return Excluded(
            requester=case.requester,
            subject=case.subject,
            recipient=case.recipient,
            cooling_off=frozenset(current - {officer.person for officer in history.counting(now.wall)}),
            keys_lost=frozenset(lost),
            suspended=frozenset(named - counting),
            away=frozenset(self.away),
            behind=case.behind,
        )

    def behind(self, device: bytes, requester: bytes, at: Moment) -> frozenset[bytes]:
        """Return who stands behind a case that a requester opens now for a device, as far as the log goes."""
        return self.enrolled_by.get(device, frozenset()) | still_behind(self.sponsors.get(requester, {}), at.tick)

    def is_heard(self, case: CaseFacts) -> bool:
        """Tell whether a case's subject could object at every moment since it was opened."""
        since = self.presence.since(case.subject)
        return since is not None and since < case.place.index

    def objected(self, case: CaseFacts) -> Moment | None:
        """Return from when a case gives the long delay: a veto that only delays, or the end of a time without any.

        While the tenant was suspended nobody could object, neither the subject nor their other devices.
        """
        resumed = self.opened_again
        if resumed is None or resumed.index < case.place.index:
            return case.objected
        return resumed.moment if case.objected is None else max(case.objected, resumed.moment, key=lambda at: at.tick)

    def suspend(self, person: bytes, place: Place) -> None:
        """Take a vote from somebody until officers return them, and for ever the approvals that they gave before."""
        self.suspended[person] = self.stopped[person] = place.index

    def lose_keys(self, person: bytes, place: Place) -> None:
        """Take an officer out who lost a device, until a version names other keys than any did before.

        No resolution ends it: officers can say whom they trust, and not who else has these keys.
        """
        named = [officer for logged in self.policies for officer in logged.signed.policy.roster]
        held = frozenset(key.encoded for one in named if one.person == person for key in one.who[1:])
        if held:
            self.lost_keys[person] = self.lost_keys.get(person, frozenset()) | held
            self.stopped[person] = place.index

    def _has_lost(self, officer: Officer) -> bool:
        # One of the two is enough: with one half in somebody's hands the pair is no officer's own.
        held = self.lost_keys.get(officer.person, frozenset())
        return not held.isdisjoint((officer.signing_key.encoded, officer.sealing_key.encoded))

    def standing(self, case: CaseFacts, *, now: Now) -> dict[bytes, LoggedDecision]:
        """Return the approvals of a case that have not ended, by person.

        Those end that were given before a suspension, or before a version came into force that did not name the
        officer with the keys that they had: whoever is back approves anew. Having been away ends nothing.
        """
        history, versions = self.history(now), [logged.place.index for logged in self.policies]
        found = {}
        for officer in self.policy_named(case.policy_hash).policy.roster:
            given = case.approvals.get(officer.person)
            if given is None or given.place.index < self.stopped.get(officer.person, 0):
                continue
            since, known = now.at(given.place.moment), sum(index < given.place.index for index in versions)
            if not history.has_left(officer, since=since, known=known, at=now.wall):
                found[officer.person] = given
        return found

    def release_keys(self, case: CaseFacts, *, now: Now) -> tuple[PublicKey, ...]:
        """Return the keys to which officers may have sealed their shares since a case was opened, newest first.

        Those of its own policy, and of every version since the one then in force: also of one that waits here, since by
        an officer's clock it may be in force already.
        """
        history = self.history(now)
        standing = [
            signed
            for signed, since in zip(history.versions, history.in_force_from, strict=True)
            if since < NEVER or signed.hash == case.policy_hash
        ]
        oldest = {history.in_force(now.at(case.opened)).hash, case.policy_hash}
        first = next(place for place, signed in enumerate(standing) if signed.hash in oldest)
        keys = dict.fromkeys(signed.policy.terms.release_sealing_key for signed in reversed(standing[first:]))
        return tuple(keys)[:MAX_RELEASE_KEYS]

    def policy_in_force(self, now: Now) -> SignedPolicy:
        """Return the highest version whose time has come: one that lowers a guard cools off first (FAULTS P6)."""
        return self.history(now).in_force(now.wall)

    def history(self, now: Now) -> History:
        """Return every version with its times, by this process's own count. Raises Untrusted when there is none."""
        if not self.policies:
            raise Untrusted("the log tells of no policy")
        return history_of(
            [logged.signed for logged in self.policies],
            [now.at(logged.moment) for logged in self.policies],
            {policy_hash: now.at(moment) for policy_hash, moment in self.withdrawn.items()},
        )

    def policy_named(self, policy_hash: bytes) -> SignedPolicy:
        """Return the version with this hash. Raises Untrusted when the log tells of none."""
        for logged in self.policies:
            if logged.signed.hash == policy_hash:
                return logged.signed
        raise Untrusted("names a policy that the log does not tell of")

    # What entries do.

    def let_in(self, person: bytes, by: Iterable[bytes], at: Moment) -> frozenset[bytes]:
        """Follow an act by which people let a person in. Returns who stands behind it: they, and those behind them."""
        sponsors = frozenset(by)
        # Nobody comes to stand behind somebody by what these do themselves.
        for one in letting_in(sponsors - {person}, self.sponsors, at.tick) - {person}:
            self.sponsors.setdefault(person, {})[one] = at.tick
        return letting_in(sponsors, self.sponsors, at.tick)

    def take_policy(self, statement: bytes, place: Place) -> None:
        """Follow one more version, by its signatures. Raises as the core does."""
        statements, versions = parse_many(statement, max_size=MAX_BLOB), [one.signed for one in self.policies]
        follows = chain_of_trust.version_before(statements, versions, self._fallen()) if versions else None
        self._take_version(statement, statements, place, follows)

    def take_policy_again(self, statement: bytes, place: Place) -> None:
        """Follow a version that was followed before, by its signatures. Raises as the core does.

        Which one it had to follow was judged then, by what officers had withdrawn until then.
        """
        statements, versions = parse_many(statement, max_size=MAX_BLOB), [one.signed for one in self.policies]
        named = Policy.from_payload(statements[0].payload).predecessor if statements else b""
        follows = next((signed for signed in versions if signed.hash == named), versions[-1] if versions else None)
        self._take_version(statement, statements, place, follows)

    def _take_version(
        self, statement: bytes, statements: Sequence[Sign1], place: Place, follows: SignedPolicy | None
    ) -> None:
        if follows is not None:
            signed = verify_successor(
                statements,
                predecessor=follows,
                history=[logged.signed for logged in self.policies],
                # What was logged before entries were signed was made before a version had to name the one in force.
                is_early=place.index < self.unsigned,
            )
        else:
            signed = chain_of_trust.verify_tenant(
                [statements],
                tenant=self.tenant,
                root_key=self.trust.root_key,
                pin=self.trust.pin,
                is_development=self.trust.is_development,
            ).newest
        self.policies.append(LoggedPolicy(signed, place))
        self.policy_statements.append(statement)

    def is_named(self, person: bytes) -> bool:
        """Tell whether a version that the log has told of names a person as an officer."""
        return any(officer.person == person for logged in self.policies for officer in logged.signed.policy.roster)

    def spend(self, statement_hash: bytes) -> None:
        """Raise Untrusted for a statement that was used before: what a person signed once is done once."""
        if statement_hash in self.used:
            raise Untrusted("a statement is used twice")
        self.used.add(statement_hash)

    def _fallen(self) -> set[bytes]:
        """Return the versions that officers withdrew, and those that follow them: nothing else may rest on one."""
        fallen = set(self.withdrawn)
        fallen |= {one.hash for one, _ in self.pending if one.act is Act.WITHDRAW_VERSION}
        for logged in self.policies:
            if logged.signed.policy.predecessor in fallen:
                fallen.add(logged.signed.hash)
        return fallen

    def take_escrow_key(self, statement: bytes) -> None:
        """Follow one more escrow key, by its signatures. Raises as the core does."""
        history = [*self.key_statements, statement]
        verified = chain_of_trust.verify_escrow_keys([parse_many(one) for one in history], trusted=self.trusted())
        self.key_statements = history
        self.escrow_keys = {key.hash: key for key in verified}

    def trusted(self) -> TrustedTenant:
        """Return the tenant as its pin and the log lead to it."""
        return TrustedTenant(
            self.tenant,
            self.trust.root_key,
            tuple(logged.signed for logged in self.policies),
            self.trust.is_development,
        )

    def officer_said(self, statement: bytes, person: bytes, standing: Standing) -> None:
        """Raise unless an officer of a known version signed that `person` has this standing."""
        signed = Sign1.parse(statement)
        refusal: HoldfastError = Untrusted("no policy names whoever signed")
        # Any version: by the server's time another may be in force than by ours. It mostly narrows, and a suspension by
        # somebody who has just left costs a resolution; one that is not believed could cost a key.
        for logged in reversed(self.policies):
            try:
                said, _ = verify_officer_state(signed, logged.signed)
            except HoldfastError as error:
                refusal = error
                continue
            if (said.person, said.standing) != (person, standing):
                raise Untrusted("the entry says other than its statement")
            return
        raise refusal

    def counts_as_veto(
        self, case: CaseFacts, case_id: bytes, device_id: BodyValue | None, statement_hash: BodyValue | None
    ) -> bool:
        """Tell whether a veto is one of those of which a third ends no case: signed, and of a case with its quorum.

        device_id, statement_hash: as the entry has them. By signatures alone, and those of before it in the log:
        whoever reads the log anew comes to the same.
        """
        papers = self._papers_of(case_id, device_id)
        if papers is None:
            return False
        try:
            device, asked = self._verified(papers, case, statement_hash)
            policies = [logged.signed for logged in self.policies]
            chain = map(Entry.parse, papers.chain)
            # Its own key says that a device is the subject's, and nobody else's who can write a row.
            if not has_listed(chain, device.payload_hash, tenant=self.tenant, user=case.subject, policies=policies):
                return False
            return self._had_quorum(case, asked, [Sign1.parse(one) for one in papers.approvals])
        except HoldfastError:
            return False

    def only_delays(
        self, case: CaseFacts, case_id: bytes, device_id: BodyValue | None, statement_hash: BodyValue | None
    ) -> bool:
        """Tell whether a veto was signed by a device that m officers have suspended.

        device_id, statement_hash: as the entry has them. That it is that device's, and suspended, is believed by
        signatures alone: by the web process's word no veto ends less than it says. Settle what counts by then first.
        """
        papers = self._papers_of(case_id, device_id)
        if papers is None:
            return False
        try:
            device, _ = self._verified(papers, case, statement_hash)
            return (case.subject, DeviceStatement.open(device).header.device) in self.silenced
        except HoldfastError:
            return False

    def _papers_of(self, case_id: bytes, device_id: BodyValue | None) -> VetoPapers | None:
        try:
            return self.statements.veto(case_id, UUID(str(device_id)).bytes)
        except ValueError:
            return None

    def _verified(self, papers: VetoPapers, case: CaseFacts, statement_hash: BodyValue | None) -> tuple[Sign1, Sign1]:
        """Return the device's statement and the case's, of a veto signed for this case. Raises HoldfastError."""
        veto, device, asked = Sign1.parse(papers.veto), Sign1.parse(papers.device), Sign1.parse(papers.case)
        if (veto.payload_hash, asked.payload_hash) != (statement_hash, case.q):
            raise Untrusted("the veto is not the one that the entry names")
        verify_veto(veto, case=asked, device=device)
        return device, asked

    def _had_quorum(self, case: CaseFacts, asked: Sign1, approvals: list[Sign1]) -> bool:
        named = self.policy_named(case.policy_hash)
        deposits = [deposit_id for deposit_id, _ in Case.from_payload(asked.payload).deposits]
        made_under = [self.policy_named(self.made_under.get(deposit_id, b"")).policy for deposit_id in deposits]
        m, _ = strictest([named.policy, *made_under])
        # What the web process calls a quorum is its word: signatures are counted, of the approvals logged until now.
        logged = {decision.statement_hash for decision in case.approvals.values()}
        return had_quorum(asked, [one for one in approvals if one.payload_hash in logged], policy=named, m=m)

    def resolve(self, statement: bytes, place: Place) -> None:
        """Believe a resolution, by the signatures of m officers of the version that it names; each is used once."""
        statements = parse_many(statement)
        resolution = Resolution.from_payload(statements[0].payload)
        named = self.policy_named(resolution.policy_hash)
        try:
            # A minute more than a statement's own: the clocks of whoever took it and of this process differ.
            verify_resolution(statements, named, at=place.moment.wall + MAX_AHEAD_SECONDS)
        except Expired:
            # Seen after an outage, or by a clock that is wrong: nobody lied. Officers can pass another.
            log.warning("a resolution was seen outside its 30 days, and counts for nothing")
            return
        _, signers = read_resolution(statements, named, at=resolution.header.issued_at)
        if sum(not self._has_lost(officer) for officer in signers) < named.policy.m:
            # Whoever has a lost device has a vote in its owner's name. It may also have passed a moment before: nobody
            # lied, and officers can pass another.
            log.warning("a resolution that an officer with lost keys signed counts for nothing")
            return
        self.spend(statements[0].payload_hash)
        self.pending.append((resolution, place))

    def _history_before(self, place: Place) -> History:
        # In ticks, and among the versions that the log had told of before: neither a version that came after it, in the
        # same head or a later one, nor the moment at which this is asked changes what it came to.
        before = [logged for logged in self.policies if logged.place.index < place.index]
        return history_of(
            [logged.signed for logged in before],
            [logged.moment.tick for logged in before],
            {policy_hash: moment.tick for policy_hash, moment in self.withdrawn.items()},
        )

    def _counts_at(self, resolution: Resolution, place: Place) -> int:
        """Return from which tick a resolution counts: when it came, or when the version that it names is in force."""
        history = self._history_before(place)
        times = {signed.hash: at for signed, at in zip(history.versions, history.in_force_from, strict=True)}
        return max(place.moment.tick, times[resolution.policy_hash])

    def _resolve(self, resolution: Resolution, place: Place, counts_at: int) -> None:
        if self._history_before(place).in_force(counts_at).hash != resolution.policy_hash:
            log.warning("a resolution under a policy that was no longer in force counts for nothing")
            return
        match resolution.act:
            case Act.RETURN_OFFICER:
                if self.suspended.get(resolution.person, place.index) < place.index:
                    del self.suspended[resolution.person]
            case Act.ACKNOWLEDGE_LEAF:
                wrong = self.wrong.get(resolution.index)
                if wrong is not None and wrong.leaf_hash == resolution.hash:
                    del self.wrong[resolution.index]
                    # Whatever was under way was decided beside a lie. What was opened since was not: whoever reads the
                    # log anew knows of it already when this counts.
                    self.void_open_cases(before=place.index)
            case Act.WITHDRAW_VERSION:
                # Whether it came in time, `history_of` says. No version withdraws itself, or one that it follows.
                if resolution.version > self.policy_named(resolution.policy_hash).policy.version:
                    later = counts_at - place.moment.tick
                    moment = Moment(counts_at, place.moment.wall + later)
                    # The earliest of several, in whatever order they come to count.
                    self.withdrawn[resolution.hash] = min(moment, self.withdrawn.get(resolution.hash, moment))
            case Act.SUSPEND_DEVICE:
                # Of vetoes behind it in the log: one that was posted before stands.
                self.silenced.add((resolution.person, resolution.device))
            case Act.ACCEPT_LOG:
                pass  # of the ceremony, which puts the directory in order

    def void_open_cases(self, *, before: int) -> None:
        """End every case that was opened before an index and is not over: nothing that was decided then counts."""
        # By its place and not by what is open now: whoever reads the log anew comes here after all of its entries.
        for case in self.cases.values():
            # Over any other end but a release, so that it does not hang on which of them was read first.
            if case.place.index < before and case.stage != "released":
                case.stage = "void"


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


def _with(found: bytes | None) -> bytes:
    if found is None:
        raise WrongLeaf("no-statement")
    return found


def _policy(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.take_policy(_with(facts.statements.policy(_typed(entry, "hash", bytes))), place)


def _escrow_key(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.take_escrow_key(_with(facts.statements.escrow_key(_typed(entry, "hash", bytes))))


def _let_in(facts: Facts, entry: LogEntry, place: Place) -> None:
    # A ceremony's entries name nobody: the operator is no person of the tenant.
    if entry.person:
        facts.let_in(_subject(entry), [entry.person], place.moment)


def _act_confirmed(facts: Facts, entry: LogEntry, place: Place) -> None:
    # Of whom a sign-in is reset, the entry of that names the second person alone; of other acts nobody is let in.
    if entry.person and entry.body.get("act") == _RESET_ACT:
        facts.let_in(_subject(entry), [entry.person, _uuid(entry, "proposer")], place.moment)


def _enrolled(facts: Facts, entry: LogEntry, place: Place) -> None:
    # One older than these fields names nobody, and no more people are left out for it.
    named = [_uuid(entry, name) for name in ("issuer", "confirmer") if name in entry.body]
    facts.enrolled_by.setdefault(_subject(entry), facts.let_in(_uuid(entry, "user"), named, place.moment))


def _succeeded(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.enrolled_by.setdefault(_subject(entry), facts.enrolled_by.get(_uuid(entry, "device"), frozenset()))


def _person_created(facts: Facts, entry: LogEntry, place: Place) -> None:
    _let_in(facts, entry, place)
    if entry.body.get("role") == OFFICER_ROLE:
        facts.officers.add(_subject(entry))
    if entry.body.get("role") == OWNER_ROLE:
        facts.owners.add(_subject(entry))


def _role_changed(facts: Facts, entry: LogEntry, place: Place) -> None:
    _let_in(facts, entry, place)
    (facts.owners.add if entry.body.get("to") == OWNER_ROLE else facts.owners.discard)(_subject(entry))
    if entry.body.get("to") == OFFICER_ROLE:
        facts.officers.add(_subject(entry))
        return
    facts.officers.discard(_subject(entry))
    if facts.is_named(_subject(entry)):
        facts.suspend(_subject(entry), place)


def _person_active(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.active.add(_subject(entry))
    facts.presence.person_is(_subject(entry), place.index, active=True)


def _tenant_suspended(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.is_shut = True


def _tenant_resumed(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.is_shut, facts.opened_again = False, place


def _person_suspended(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.active.discard(_subject(entry))
    facts.presence.person_is(_subject(entry), place.index, active=False)
    # Active again is what the web process says; an officer is back when m others say so. Who was stopped before any
    # version named them has nothing to come back to: m officers have named them since.
    if facts.is_named(_subject(entry)):
        facts.suspend(_subject(entry), place)


def _device_listed(facts: Facts, entry: LogEntry, place: Place) -> None:
    # One that names nobody gives nobody a device: then the long delay holds.
    if "user" in entry.body:
        facts.presence.is_listed(_subject(entry), _uuid(entry, "user"), place.index)


def _device_acts(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.presence.acts(_subject(entry), place.index, may=True)


def _device_suspended(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.presence.acts(_subject(entry), place.index, may=False)


def _credential_revoked(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.presence.ends(_subject(entry), place.index)


def _device_revoked(facts: Facts, entry: LogEntry, place: Place) -> None:
    # None is named of a device that no chain listed, and in entries older than reasons: nobody was asked then.
    is_lost = "reason" in entry.body and is_loss(_typed(entry, "reason", int))
    owner = _uuid(entry, "user") if is_lost else b""
    facts.presence.ends(_subject(entry), place.index)
    if is_lost:
        facts.lose_keys(owner, place)


def _require_said(facts: Facts, entry: LogEntry, standing: Standing) -> bytes:
    if not entry.kid and "statement" not in entry.body:
        # Older than statements, below the size that the tenant root pinned (an unsigned leaf beyond it is wrong):
        # whoever could write the log could write this, as all else there.
        return _subject(entry)
    statement = _with(facts.statements.officer_state(_typed(entry, "statement", bytes)))
    facts.officer_said(statement, _subject(entry), standing)
    facts.spend(_typed(entry, "statement", bytes))
    return _subject(entry)


def _officer_away(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.away.add(_require_said(facts, entry, Standing.AWAY))


def _officer_back(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.away.discard(_require_said(facts, entry, Standing.BACK))
    if not entry.kid:
        # It ended suspensions too, in its day.
        facts.suspended.pop(_subject(entry), None)


def _officer_suspended(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.suspend(_require_said(facts, entry, Standing.SUSPENDED), place)


def _officer_removed(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.removed.add(_require_said(facts, entry, Standing.REMOVED))


def _locked(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.locks.lock(place.moment.tick)


def _unlock_asked(facts: Facts, entry: LogEntry, place: Place) -> None:
    if not entry.person:
        raise Malformed("an unlocking that nobody confirmed")
    facts.ask_unlock(_uuid(entry, "proposer"), entry.person, place)


def _unlocked(facts: Facts, entry: LogEntry, place: Place) -> None:
    # A worker that says so too early is held to the delay, by this process's own count; one that nobody asked, to none.
    if not facts.locks.unlock(place.moment.tick):
        log.warning("tenant %s: an unlocking that nobody asked for counts for nothing", UUID(bytes=facts.tenant))


def _resolution(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.resolve(_with(facts.statements.resolution(_typed(entry, "hash", bytes))), place)


def _deposit(facts: Facts, entry: LogEntry, place: Place) -> None:
    # All of it is read before any of it counts: an entry that turns out to be wrong owns no half.
    deposit, half = _uuid(entry, "deposit"), _typed(entry, "half_hash", bytes)
    record_hash, policy_hash = _typed(entry, "record_hash", bytes), _typed(entry, "policy", bytes)
    facts.deposits.setdefault(deposit, record_hash)
    facts.made_under.setdefault(deposit, policy_hash)
    facts.halves.setdefault(deposit, half)
    facts.half_owners.setdefault(half, deposit)
    facts.unreceipted.setdefault(deposit, (place.index, policy_hash))


def _receipted(facts: Facts, entry: LogEntry, place: Place) -> None:
    facts.unreceipted.pop(_subject(entry), None)


def _opened(facts: Facts, entry: LogEntry, place: Place) -> None:
    requester, device = _uuid(entry, "requester"), _uuid(entry, "recipient_device")
    case = CaseFacts(
        q=_typed(entry, "q", bytes),
        policy_hash=_typed(entry, "policy", bytes),
        subject=_uuid(entry, "user"),
        requester=requester,
        recipient=_uuid(entry, "recipient"),
        place=place,
        recipient_device=device,
        # Looked up once, here: what anybody does afterwards had no part in its opening.
        behind=facts.behind(device, requester, place.moment),
    )
    # The first entry counts: nobody opens a case anew under an id that is taken.
    facts.cases.setdefault(_subject(entry), case)


def _approved(facts: Facts, entry: LogEntry, place: Place) -> None:
    case, statement_hash = _case(facts, entry), _typed(entry, "statement_hash", bytes)
    person = _approver(facts, entry, case)
    # Stops an approval that a suspension ended from being logged once more, as if it were given anew.
    # Of this case and person alone: an entry that names what is not theirs must not use it up.
    if (person, statement_hash) in case.used:
        raise Untrusted("an approval is used twice")
    case.used.add((person, statement_hash))
    case.approvals[person] = LoggedDecision(statement_hash, place)


def _approver(facts: Facts, entry: LogEntry, case: CaseFacts) -> bytes:
    if "person" in entry.body:
        return _uuid(entry, "person")
    # Older entries name the officer by their number in the roster of the case's own policy, which nobody numbers anew.
    # Whoever may write one may name the person as well, and the rules hold either to the approval's signer.
    index = _typed(entry, "index", int)
    for officer in facts.policy_named(case.policy_hash).policy.roster:
        if officer.index == index:
            return officer.person
    raise Malformed("an approval by nobody of the case's policy")


def _vetoed(facts: Facts, entry: LogEntry, place: Place) -> None:
    case = _case(facts, entry)
    device, named = entry.body.get("device"), entry.body.get("statement")
    if case.is_forbidden:
        return
    # By what counts at its place, whenever anything was settled last: whoever reads the log anew comes to the same.
    facts.settle(Now(place.moment.tick, place.moment.wall))
    if facts.only_delays(case, _subject(entry), device, named):
        case.objected = case.objected or place.moment
        return
    # A veto is never lost: one that nothing bears out ends the case all the same. But whoever writes entries can make
    # one up, so it uses up none of those that the subject has.
    if not facts.counts_as_veto(case, _subject(entry), device, named):
        case.is_forbidden = True
        _end(case, "vetoed")
    elif not case.is_veto_counted:
        case.is_veto_counted = True
        since = place.moment.tick - VETOES_COUNT_SECONDS
        before = [tick for tick in facts.vetoes.get(case.subject, []) if tick > since]
        facts.vetoes[case.subject] = [*before, place.moment.tick]
        if len(before) < VETOES_THAT_END:
            case.is_forbidden = True
            _end(case, "vetoed")
        else:
            case.extra_officers = 1


Taker = Callable[[Facts, LogEntry, Place], None]


def _stage(name: str) -> Taker:
    def take(facts: Facts, entry: LogEntry, place: Place) -> None:
        case = _case(facts, entry)
        if case.stage not in _ENDED:
            case.stage = name

    return take


def _ended(name: str) -> Taker:
    def take(facts: Facts, entry: LogEntry, place: Place) -> None:
        _end(_case(facts, entry), name)

    return take


def _end(case: CaseFacts, name: str) -> None:
    # The first end stands, and none of them is taken back (FAULTS R14).
    if case.stage not in _ENDED:
        case.stage = name


def _is_opening_notice(entry: LogEntry, case: CaseFacts) -> bool:
    return entry.body.get("kind") == "opened" and _uuid(entry, "person") == case.subject


def _told(facts: Facts, entry: LogEntry, place: Place) -> None:
    case = _case(facts, entry)
    if _is_opening_notice(entry, case):
        case.told = case.told or place.moment


def _not_told(facts: Facts, entry: LogEntry, place: Place) -> None:
    case = _case(facts, entry)
    if _is_opening_notice(entry, case):
        case.not_told = case.not_told or place.moment


_ENDED: Final = frozenset({"denied", "vetoed", "cancelled", "expired", "held", "released", "void"})
_TAKERS: Final[dict[str, Taker]] = {
    "escrow:deposit:accept": _deposit,
    "escrow:deposit:receipt": _receipted,
    "escrow:deposit:refuse": _receipted,
    "escrow:key:publish": _escrow_key,
    "escrow:officer:leave": _officer_away,
    "escrow:officer:remove": _officer_removed,
    "escrow:officer:return": _officer_back,
    "escrow:officer:suspend": _officer_suspended,
    "escrow:policy:publish": _policy,
    RESOLUTION: _resolution,
    "keys:device:activate": _device_listed,
    "keys:device:enrol": _enrolled,
    "keys:device:revoke": _device_revoked,
    "keys:device:succeed": _succeeded,
    "recovery:case:approve": _approved,
    "recovery:case:cancel": _ended("cancelled"),
    "recovery:case:deny": _ended("denied"),
    "recovery:case:expire": _ended("expired"),
    "recovery:case:open": _opened,
    "recovery:case:quorum": _stage("quorate"),
    "recovery:case:reopen": _stage("requested"),
    VETO: _vetoed,
    "recovery:case:void": _ended("void"),
    "recovery:case:wait": _stage("waiting"),
    "recovery:notice:fail": _not_told,
    "recovery:notice:hand-over": _told,
    "recovery:release:begin": _stage("releasing"),
    "recovery:release:defer": _stage("deferred"),
    "recovery:release:finish": _ended("released"),
    "recovery:release:held": _ended("held"),
    "tenants:act:confirm": _act_confirmed,
    "tenants:credential:activate": _device_acts,
    "tenants:credential:revoke": _credential_revoked,
    "tenants:credential:suspend": _device_suspended,
    # A new link lets in whoever has it: also one that another owner made than the one who created the person.
    "tenants:invitation:issue": _let_in,
    "tenants:invitation:promise": _let_in,
    "tenants:password:set": _let_in,
    "tenants:person:activate": _person_active,
    # Whoever sets where their mail goes, or takes their second factor away, may be the one who comes back as them.
    "tenants:person:change-address": _let_in,
    "tenants:person:change-role": _role_changed,
    "tenants:person:create": _person_created,
    "tenants:person:leave": _person_suspended,
    "tenants:person:suspend": _person_suspended,
    "tenants:tenant:ask-unlock": _unlock_asked,
    "tenants:tenant:lock": _locked,
    "tenants:tenant:resume": _tenant_resumed,
    "tenants:tenant:suspend": _tenant_suspended,
    "tenants:tenant:unlock": _unlocked,
    "tenants:totp:confirm": _let_in,
    "tenants:totp:reset": _let_in,
}
# Entries that a restored log must not lack: each takes something away that was possible before. A resolution that takes
# a device's veto away is one as well.
NARROWING: Final = frozenset(
    {
        "escrow:officer:leave",
        "escrow:officer:remove",
        "escrow:officer:suspend",
        "keys:device:revoke",
        "recovery:case:cancel",
        "recovery:case:deny",
        VETO,
        "recovery:case:void",
        "recovery:release:begin",
        "recovery:release:finish",
        "recovery:release:held",
        "tenants:credential:revoke",
        "tenants:credential:suspend",
        "tenants:person:change-role",
        "tenants:person:leave",
        "tenants:person:suspend",
        "tenants:tenant:lock",
    }
)
