# SPDX-License-Identifier: Apache-2.0
"""The release process's own reading of one tenant's audit log: every entry, proven, turned into facts.

Implements ESCROW "What it believes of the log". It keeps each head that grew, with its own time of it, in its
directory, and believes neither a shorter log nor another one afterwards. Leaves and facts are taken over together or
not at all. From time to time it keeps the facts as well, and goes on from them when it starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from uuid import UUID

from audit import access as audit
from audit import services as audit_services
from audit.errors import RolesMissing
from escrow import access as escrow
from holdfast.core.base.errors import Expired, Forked, HoldfastError, Malformed, Untrusted
from holdfast.core.identity.roles import Roles, SignedRoles
from holdfast.core.log.checkpoint import Checkpoint
from holdfast.core.log.follower import LogFollower, require_fresh, require_not_ahead
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.signed.cose import Sign1
from kernel.errors import DomainError, NotFound
from kernel.files import durable_file
from keys import access as keys
from recovery import access
from recovery.release import kept
from recovery.release.clock import Clock, Moment, Now
from recovery.release.directory import Directory, SeenHead
from recovery.release.facts import RESOLUTION, VETO, Facts, Place, VetoPapers, WrongEntry

log = logging.getLogger("holdfast.release")

LOG = "audit"
# How many new entries are read again rather than that the facts are written once more. Reading one takes 0.2 ms, most
# of it the check of its signature: the least is a fifth of a second, the most one.
LEAST_FRESH: Final = 1_000
MOST_FRESH: Final = 4_000
LOOKED_AT_AGAIN: Final = (
    20_000  # entries at each look at the heads: a quarter of a second, as nothing is checked but hashes
)
_SHARE: Final = 50  # of the whole log, in between: while a log is small, its facts are written for few entries each


def least_to_keep(size: int) -> int:
    """Return how many entries must be new for the facts of a log of this size to be kept anew."""
    return min(max(size // _SHARE, LEAST_FRESH), MOST_FRESH)


class StoredStatements:
    """The statements that entries name, from the rows of the open tenant; each is verified by whoever asks."""

    def policy(self, statement_hash: bytes) -> bytes | None:
        """Return a policy's statements, if it is stored."""
        return escrow.policy_statement(statement_hash)

    def escrow_key(self, statement_hash: bytes) -> bytes | None:
        """Return an escrow key's statements, if it is stored."""
        return escrow.escrow_key_statement(statement_hash)

    def officer_state(self, statement_hash: bytes) -> bytes | None:
        """Return an officer's statement, if it is stored."""
        return escrow.officer_statement(statement_hash)

    def resolution(self, statement_hash: bytes) -> bytes | None:
        """Return a resolution's statements, if it is stored."""
        return escrow.resolution_statement(statement_hash)

    def veto(self, case_id: bytes, device_id: bytes) -> VetoPapers | None:
        """Return one device's veto of one case, with what it rests on."""
        return _veto_papers(UUID(bytes=case_id), UUID(bytes=device_id))


def _veto_papers(case_id: UUID, device_id: UUID) -> VetoPapers | None:
    case, veto = access.case_for_release(case_id), access.veto_by(case_id, device_id)
    if case is None or veto is None or veto.statement is None:
        return None
    try:
        device = keys.device(device_id)
    except NotFound:
        return None
    return VetoPapers(
        veto=bytes(veto.statement),
        device=bytes(device.statement),
        case=bytes(case.statement),
        approvals=tuple(bytes(row.statement) for row in access.decisions_of(case)),
        chain=tuple(bytes(row.entry) for row in keys.chain_entries(case.subject_id)),
    )


@dataclass
class ReleaseLog:
    """One tenant's log as this process has proven it, and what it says."""

    directory: Directory
    clock: Clock
    facts: Facts = field(init=False)
    follower: LogFollower = field(default_factory=LogFollower)
    newest: Checkpoint | None = None
    is_whole: bool = True  # whether all that was taken in is kept as well
    _kept_size: int = 0  # of the log, up to which the facts are kept
    _opened: tuple[str, bytes, Checkpoint] | None = None  # the note opened last, by which roles, and its head
    _seen_before: LogFollower = field(default_factory=LogFollower)  # how far an earlier process read the log
    _looked_at: CompactRange = field(default_factory=CompactRange)  # and how much of that this one has looked at again
    _judged_by: bytes | None = None  # hash of the roles by which every entry was judged; None after others came

    def __post_init__(self) -> None:
        self.facts = self._no_facts()

    @classmethod
    def open(cls, directory: Directory, clock: Clock) -> ReleaseLog:
        """Go on from the facts that are kept, and read every entry since up to the head last believed.

        Call it inside the tenant's scope. Without such facts, and where they do not fit this directory, the log is read
        from its first entry.

        Raises Forked when the entries stored now do not lead to the heads believed before: somebody changed them.
        LogBroken when there are fewer. RolesMissing when nobody has said whose keys write this log.
        """
        opened = cls(directory, clock)
        if not directory.count_heads():
            return opened
        # Once for all heads: there is one for every twenty seconds in which something happened.
        signed, accepted = opened._signed_roles(), directory.first_reading()
        heads = directory.heads(opened._go_on_from_kept(signed))
        opened.facts.known_wrong = {index: WrongEntry(why, digest) for index, why, digest in directory.wrong_entries()}
        opened._judged_by = signed.hash
        if heads:
            leaves = audit_services.entries_between(directory.tenant_id, LOG, opened.follower.size, heads[-1].size)
            for head in heads:
                some = islice(leaves, max(0, head.size - opened.follower.size))
                opened._take_in(some, Checkpoint(LOG, head.size, head.root), head.moment, signed.roles, accepted)
        opened._remember_versions()
        opened.keep_facts()
        return opened

    def _no_facts(self) -> Facts:
        return Facts(self.directory.tenant_id.bytes, self.directory.trust(), StoredStatements())

    def _binding(self, roles: bytes) -> kept.Binding:
        first = self.directory.first_reading()
        return kept.Binding(self.directory.tenant_id.bytes, self.facts.trust, roles, first)

    def _go_on_from_kept(self, signed: SignedRoles) -> int:
        """Take over the facts that are kept, and return of how many heads; 0 when the log is to be read anew."""
        try:
            with self.directory.facts.open("rb") as file:
                key = self.directory.facts_key()
                found = kept.read(file, self.facts, key=key, binding=self._binding(signed.hash))
            if self.directory.heads(found.heads - 1)[:1] != [found.head]:
                # Stops facts of another past than the one that this process saw, whoever laid them here.
                raise Untrusted("they stand at a head that this process has not kept")
        except FileNotFoundError:
            return 0
        except HoldfastError as error:
            log.warning(
                "tenant %s: the facts that were kept are not gone on from, and its log is read from the beginning: the "
                "program, its roles or what is in its directory is another one (%s)",
                self.directory.tenant_id,
                error,
            )
            self.directory.forget_facts()
            self.facts = self._no_facts()
            return 0
        # One that is shorter now says so here, as when it was read from its first entry.
        for _ in audit_services.entries_between(self.directory.tenant_id, LOG, found.head.size - 1, found.head.size):
            self.follower, self._kept_size, self._seen_before = found.follower, found.head.size, found.follower
        return found.heads

    @property
    def looks_again(self) -> bool:
        """Whether entries that were read by an earlier process have not been looked at by this one yet."""
        return self._looked_at.size < self._seen_before.size

    def look_again(self) -> None:
        """Look at some of the entries that an earlier process has read: whether they still lead to its head.

        Whatever they say now, the facts are of what was proven. Raises LogBroken or Edited when somebody changed them,
        and then the log is to be opened anew: from its first entry, which says the same.
        """
        if not self.looks_again:
            return
        seen, stop = self._seen_before, min(self._looked_at.size + LOOKED_AT_AGAIN, self._seen_before.size)
        was_whole, self.is_whole = self.is_whole, False
        grown = self._looked_at
        try:
            for leaf in audit_services.entries_between(self.directory.tenant_id, LOG, grown.size, stop):
                grown = grown.append(leaf_hash(leaf))
            if stop == seen.size:
                LogFollower(grown).require_extends(Checkpoint(LOG, seen.size, seen.root))
        except (HoldfastError, DomainError):
            self.directory.forget_facts()
            raise
        self._looked_at, self.is_whole = grown, was_whole

    def keep_facts(self) -> None:
        """Keep the facts when as much is new as takes some seconds to read again. What is kept is durable afterwards.

        Call it when the heads are kept: facts beyond them are not believed.
        """
        fresh = self.follower.size - self._kept_size
        if fresh < least_to_keep(self.follower.size) or self._judged_by is None:
            return
        heads = self.directory.count_heads()
        head = self.directory.heads(heads - 1)[0]
        found = kept.Kept(heads, head, self.follower, self.facts)
        # Also after a failure: a full disk is not asked again at each head.
        self._kept_size = self.follower.size
        try:
            with durable_file(self.directory.facts) as file:
                kept.write(file, found, key=self.directory.facts_key(), binding=self._binding(self._judged_by))
        except (OSError, Malformed) as error:
            log.error("tenant %s: its facts could not be kept: %s", self.directory.tenant_id, error)  # noqa: TRY400

    @property
    def roles(self) -> Roles:
        """Whose keys write and sign this log. Raises RolesMissing, and as `verify_roles` does for what the root did not
        sign.
        """
        return self._signed_roles().roles

    def _signed_roles(self) -> SignedRoles:
        row = audit.newest_roles()
        return self.signed_roles(bytes(row.statement) if row is not None else None)

    def signed_roles(self, stored: bytes | None) -> SignedRoles:
        """Return whose keys write and sign this log, by the statement that is stored. Raises as `roles` does."""
        if stored is not None:
            return self.directory.see_roles(Sign1.parse(stored))
        # Without the row what was seen before still holds: a database that was put back takes no key away.
        seen = self.directory.seen_roles()
        if seen is None:
            raise RolesMissing
        return seen

    def follow(self, note: str, now: Now, *, roles: SignedRoles | None = None) -> bool:
        """Take in every entry up to a head, and tell whether there were new ones. At any age: what narrows counts.

        roles: as `signed_roles` gives it, from whoever has just read what is stored; it is read otherwise.

        Raises Expired for a head dated ahead, Forked or Untrusted for another log than the one known: then nothing of
        it is taken, and it is an alarm.
        """
        signed = roles or self._signed_roles()
        checkpoint = self._head_in(note, signed)
        require_not_ahead(checkpoint, now=now.wall)
        self.follower.require_extends(checkpoint)
        self.newest = checkpoint
        if checkpoint.size == self.follower.size:
            return False
        leaves = audit_services.entries_between(self.directory.tenant_id, LOG, self.follower.size, checkpoint.size)
        # If what follows fails, the caller opens this log anew: what is believed is never more than what is kept.
        self.is_whole = False
        # What was judged by other roles is judged anew by these at the next start, and not kept until then.
        self._judged_by = signed.hash if self._judged_by == signed.hash or not self.follower.size else None
        narrowing = self._take_in(leaves, checkpoint, now.moment, signed.roles, self.directory.first_reading())
        self._remember_versions()
        self._keep(narrowing)
        self.directory.keep_head(SeenHead(checkpoint.size, checkpoint.root, now.moment))
        self.keep_facts()
        self.is_whole = True
        return True

    def _head_in(self, note: str, signed: SignedRoles) -> Checkpoint:
        # Twice for one head: once as it is new, and once for a case that is due. Its signature says the same again.
        if self._opened is None or self._opened[:2] != (note, signed.hash):
            self._opened = note, signed.hash, signed.roles.open_head(note, log=LOG)
        return self._opened[2]

    def settle(self, now: Now) -> None:
        """Let resolutions count whose time has come. One that is half taken in is as wrong as half an entry."""
        was_whole, self.is_whole = self.is_whole, False
        self.facts.settle(now)
        self.is_whole = was_whole

    def _keep(self, narrowing: list[bytes]) -> None:
        for leaf in narrowing:
            entry = LogEntry.from_leaf(leaf)
            named = entry.body.get("hash" if entry.tag == RESOLUTION else "statement")
            # The statement first: an entry that is put back without it would be believed by nobody.
            if isinstance(named, bytes) and (statement := _statement_of(entry, named)) is not None:
                self.directory.keep_statement(named, statement)
        self.directory.keep_narrowings(narrowing)
        fresh = {index: one for index, one in self.facts.wrong.items() if index not in self.facts.known_wrong}
        self.directory.keep_wrong_entries([(index, one.why, one.leaf_hash) for index, one in sorted(fresh.items())])
        self.facts.known_wrong |= fresh

    def require_fresh(self, now: Now) -> None:
        """Raise Expired unless the newest head was signed within two minutes, by this process's own clock."""
        if self.newest is None:
            raise Expired("no head of this log was seen yet")
        require_fresh(self.newest, now=now.wall)

    def is_behind(self) -> bool:
        """Tell whether acts are committed that no signed head covers yet: rows may then rightly be ahead of the log."""
        return audit.pending(LOG) > 0 or audit.latest_checkpoint(LOG).size > self.follower.size

    def _take_in(
        self, leaves: Iterator[bytes], checkpoint: Checkpoint, moment: Moment, roles: Roles, accepted: SeenHead | None
    ) -> list[bytes]:
        """Take leaves in and prove them, a batch at a time; return those that narrow. Raises as `_proven` does.

        Then the facts are of no head, and to be thrown away. accepted: the head of a first reading.
        """
        self.facts.settle(Now(moment.tick, moment.wall))
        narrowing: list[bytes] = []
        self.follower = self._proven(self._absorbed(leaves, moment, roles, accepted, narrowing), checkpoint, roles)
        return narrowing

    def _absorbed(
        self,
        leaves: Iterator[bytes],
        moment: Moment,
        roles: Roles,
        accepted: SeenHead | None,
        narrowing: list[bytes],
    ) -> Iterator[bytes]:
        for index, leaf in enumerate(leaves, start=self.follower.size):
            own = accepted is not None and index < accepted.size
            place = Place(index, _own_time(leaf, accepted.moment) if accepted is not None and own else moment)
            if self.facts.absorb(leaf, place, roles):
                narrowing.append(leaf)
            if index + 1 in (accepted.size if accepted else 0, roles.unsigned[0] if roles.unsigned else 0):
                # What was under way was decided before anybody watched, or before anybody signed.
                self.facts.void_open_cases(before=index + 1)
            yield leaf

    def _proven(self, leaves: Iterator[bytes], checkpoint: Checkpoint, roles: Roles) -> LogFollower:
        """Return the follower at a head, past the head that the tenant root pinned of a log older than signatures.

        Raises Forked when its leaves are others or fewer: an unsigned entry is worth no more than that pin.
        """
        if roles.unsigned is None:
            return self.follower.advance(leaves, checkpoint)
        pinned = Checkpoint(LOG, *roles.unsigned)
        if checkpoint.size < pinned.size:
            raise Forked("the log is shorter than the one that the tenant root pinned")
        if self.follower.size >= pinned.size:
            return self.follower.advance(leaves, checkpoint)
        old = pinned.size - self.follower.size
        return self.follower.advance(islice(leaves, old), pinned).advance(leaves, checkpoint)

    def _remember_versions(self) -> None:
        # The highest version is what officers decide under when the database has lost it.
        for logged in self.facts.policies[self.directory.count_policies() :]:
            statement = escrow.policy_statement(logged.signed.hash)
            if statement is not None:
                self.directory.see_policy(logged.signed.policy.version, statement)
        for key in list(self.facts.escrow_keys.values())[self.directory.count_escrow_keys() :]:
            statement = escrow.escrow_key_statement(key.hash)
            if statement is not None:
                cka_id = bytes(escrow.escrow_key_named(key.hash).cka_id)
                self.directory.see_escrow_key(key.statement.version, statement, cka_id)


def _statement_of(entry: LogEntry, named: bytes) -> bytes | None:
    """Return what a person signed for an entry that narrows, if the rows have it."""
    if entry.tag == RESOLUTION:
        return escrow.resolution_statement(named)
    if entry.tag != VETO:
        return escrow.officer_statement(named)
    try:
        row = access.veto_by(UUID(entry.subject), UUID(str(entry.body.get("device"))))
        signed = Sign1.parse(bytes(row.statement or b"")) if row is not None else None
    except (ValueError, HoldfastError):
        return None
    return signed.encode() if signed is not None and signed.payload_hash == named else None


def _own_time(leaf: bytes, accepted: Moment) -> Moment:
    """Return when an entry says that it was, never later than it was accepted: of a log read for the first time."""
    try:
        ago = max(0, accepted.wall - LogEntry.from_leaf(leaf).time)
    except Malformed:
        ago = 0
    return Moment(accepted.tick - ago, accepted.wall - ago)
