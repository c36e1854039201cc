# SPDX-License-Identifier: Apache-2.0
"""The release process: the only caller of the escrow token, alone with its PIN and its own directory.

Implements ESCROW "Release process"; FAULTS P11, P12, P16, P19, D13, W1. The rules are in `rules` and
`holdfast.core.escrow.release`; here is only the order of things, so that kill -9 between any two of them loses nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

from django.db import close_old_connections, connection

from audit import access as audit
from audit import restored
from audit.errors import NoCheckpoint, RolesMissing
from audit.services import newest_notes
from escrow import services as custody
from holdfast.core.base.errors import Expired, HoldfastError, QuorumNotMet, UnwrapFailed
from holdfast.core.crypto.keys import PublicKey, SealingKey
from holdfast.core.escrow.approvals import take_off_outer
from holdfast.core.escrow.receipt import Receipt
from holdfast.core.escrow.release import Ended, NotYet
from holdfast.core.identity.policy import Policy
from holdfast.core.identity.roles import SignedRoles
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from hsm.errors import HsmError, HsmKeyMismatch, HsmKeyMissing, HsmPinRejected, HsmRefused, HsmTokenDamaged
from kernel import queue
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.errors import Conflict, DomainError
from kernel.models import Job
from kernel.retries import Retries, is_worth_a_line, named, pause_seconds
from kernel.scope import awake, resting
from recovery import access
from recovery.cases import counting, endings
from recovery.models import Case
from recovery.release import record
from recovery.release.clock import Clock, Now
from recovery.release.directory import Directory, Intent, ReleaseKeyMissing, ReleaseKeys, only_process, tenants
from recovery.release.log import LOG, ReleaseLog
from recovery.release.record import OpenedDeposit
from recovery.release.rules import Order, Vetoed, Voided, orders_for, shares_for
from recovery.states import CaseState
from tenants import access as tenants_access
from tenants.states import TenantState

log = logging.getLogger("holdfast.release")

RETRY = timedelta(seconds=1)
RETRY_HSM = timedelta(seconds=5)
# What keeps failing is tried after longer and longer, up to this: an HSM that unwraps and then fails would otherwise be
# asked 17,000 times a day about one case; so it is 150 times.
LONGEST_PAUSE = timedelta(minutes=10)
# A lock lasts for days: a minute more at its end costs nobody anything.
RETRY_LOCKED = timedelta(seconds=60)
SWEEP_SECONDS = 5
# How often every tenant's head is looked at, whether a case is due or not. What is taken away again between was never
# seen, so two minutes are the most (ESCROW "What it believes of the log").
FOLLOW_SECONDS = 20
UNSEEN_SECONDS = 120
# How long rows and log may disagree before the case is held for ever: what comes right by itself, as a head on its way
# or an approval that runs out between two looks, does so in seconds. ESCROW "What it believes of the log".
HOLD_AFTER_SECONDS = 600
BEHIND_SECONDS = 30  # an entry has its place in a signed head within some seconds
RECEIPTS_A_ROUND = 100  # of one tenant: each is a signature and a commit, and others' cases wait meanwhile


# The states in which this process has something to do.
_OURS = frozenset({CaseState.WAITING, CaseState.RELEASING, CaseState.AWAITING_SHARE})


class WrongLog(HoldfastError):
    """The log holds an entry that nobody entitled wrote: nothing is released until officers have acknowledged it."""

    why = "log-wrong"


class TenantIsLocked(HoldfastError):
    """An owner has locked the tenant: nothing is released, and no delay goes on."""

    why = "tenant-locked"


class LogBehind(HoldfastError):
    """A sound entry has waited for its index for two minutes: what it says is not known yet."""

    why = "log-behind"


@dataclass
class TenantRelease:
    """One tenant's part of the process: its directory, its own reading of the log, and one case after another."""

    directory: Directory
    log: ReleaseLog
    clock: Clock
    patience: int = HOLD_AFTER_SECONDS
    actor: Actor = field(init=False)
    # Since which tick rows and log have disagreed about a case, of cases that are not held yet.
    _disagreeing: dict[UUID, int] = field(default_factory=dict)
    # How often in a row the HSM has failed at a case after its release was begun.
    _failures: dict[UUID, int] = field(default_factory=dict)
    # What a case has last waited for until somebody mends it, and how often in a row. For the log alone.
    _troubles: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    _receipts: Retries = field(init=False)  # deposits for which none could be given
    # Deposits that have their receipt, or its refusal, of which the log does not say so yet.
    _receipted: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.actor = system_actor(self.directory.tenant_id, "release")
        self._receipts = _retries(self.clock, RETRY_HSM.total_seconds(), LONGEST_PAUSE.total_seconds())

    def follow(self, note: str, *, roles: SignedRoles | None = None) -> None:
        """Take in what is new up to a head, in the tenant's scope. Arguments and errors as of `ReleaseLog.follow`."""
        if self.log.follow(note, self.clock.now(), roles=roles):
            self._require_keys()

    def _require_keys(self) -> None:
        """Say at once when a key that a policy names is not here, long before a case needs it."""
        for logged in self.log.facts.policies[-1:]:
            try:
                terms = logged.signed.policy.terms
                self.directory.require_keys(ReleaseKeys(terms.release_signing_key, terms.release_sealing_key))
            except ReleaseKeyMissing as error:
                log.critical("%s", error)

    def forget_halves(self) -> None:
        """Destroy what was kept for cases that are over, by whomever they were ended."""
        for case_id in self.directory.cases_with_halves():
            logged = self.log.facts.cases.get(case_id)
            if logged is None or logged.is_over:
                self.directory.forget_halves(case_id)

    def give_receipts(self) -> None:
        """Sign for deposits that the log tells of and that have no receipt yet, as many as one round has time for.

        Call it inside the tenant's scope. A deposit whose half another's had before, or of a policy that
        nobody knows, gets none, and is an alarm. One that fails is left alone for a while: it would stand before all
        others for ever.
        """
        facts = self.log.facts
        # An acknowledgement counts here too: where no case is due, nobody else asks.
        self.log.settle(self.clock.now())
        self._receipted &= facts.unreceipted.keys()
        # Of a log with a wrong entry nothing is vouched for.
        owed = (one for one in facts.unreceipted if one not in self._receipted)
        due = () if facts.wrong else (one for one in owed if not self._receipts.left(one))
        failed: list[tuple[bytes, Exception]] = []
        for deposit_id in list(islice(due, RECEIPTS_A_ROUND)):
            try:
                self._give_receipt(deposit_id)
            except Exception as error:
                if not connection.is_usable():
                    raise
                self._receipts.failed(deposit_id)
                failed.append((deposit_id, error))
                continue
            self._receipts.worked(deposit_id)
            # The facts are the log's alone, and are kept: a database that is put back has lost this receipt.
            self._receipted.add(deposit_id)
        if failed:
            # Mostly one cause for all, as a missing key; its text names the key.
            (first, cause), tenant_id = failed[0], self.directory.tenant_id
            said = str(cause) if isinstance(cause, HoldfastError) else named(cause)
            log.critical(
                "tenant %s: no receipt for %d deposits; %s: %s", tenant_id, len(failed), UUID(bytes=first), said
            )

    @property
    def owes_receipts(self) -> bool:
        """Whether a deposit that the log tells of has neither a receipt nor its refusal."""
        return not self.log.facts.unreceipted.keys() <= self._receipted

    def _give_receipt(self, deposit_id: bytes) -> None:
        facts = self.log.facts
        index, policy_hash = facts.unreceipted[deposit_id]
        policy = next((one.signed.policy for one in facts.policies if one.signed.hash == policy_hash), None)
        if policy is None or facts.half_owners[facts.halves[deposit_id]] != deposit_id:
            # Refused and not left to wait: it would stand before all others for ever.
            why = "the log tells of no such policy" if policy is None else "its half was in another's before"
            log.critical("deposit %s: %s; no receipt", UUID(bytes=deposit_id), why)
            custody.refuse_receipt(deposit_id=UUID(bytes=deposit_id), actor=self.actor)
        else:
            statement = self._receipt(deposit_id, index, policy)
            custody.keep_receipt(deposit_id=UUID(bytes=deposit_id), statement=statement, actor=self.actor)

    def _receipt(self, deposit_id: bytes, index: int, policy: Policy) -> Sign1:
        facts = self.log.facts
        receipt = Receipt(
            header=Header(facts.tenant, b"", b"", self.clock.now().wall),
            deposit_id=deposit_id,
            record_hash=facts.deposits[deposit_id],
            half_hash=facts.halves[deposit_id],
            index=index,
        )
        key = self.directory.signing_key(policy.terms.release_signing_key)
        return cose.sign(receipt.to_payload(), purpose=Purpose.RECEIPT, key=key)

    def attempt(self, case_id: UUID, *, early: bool = False) -> datetime | None:
        """Take one case as far as it may go now; returns when to try again, or None when there is nothing to do.

        early: also one whose row has it wait. The rules judge by the log and by this process's own count all the same.

        Call it inside the tenant's scope. What is wrong with the case itself ends in its state; nothing is raised
        for it. A database error goes up, and what nobody foresaw: the next attempt starts from what is committed.
        """
        case = access.case_for_release(case_id)
        if case is None or case.state not in _OURS:
            for kept in (self._disagreeing, self._failures, self._troubles):
                kept.pop(case_id, None)
            return None
        waits = case.state != CaseState.RELEASING and case.release_at is not None and case.release_at > database_now()
        if waits and not early:
            return case.release_at
        before = self._troubles.get(case_id)
        try:
            at = self._replace(case) if case.state == CaseState.AWAITING_SHARE else self._release(case)
        except (HoldfastError, HsmError, DomainError) as error:
            at = self._after(case, error)
        if at is None:
            self._failures.pop(case_id, None)
        if self._troubles.get(case_id) is before:
            self._troubles.pop(case_id, None)
        return at

    def _after(self, case: Case, error: Exception) -> datetime | None:
        """Say what a refusal means for a case: wait, go back, end, or be held. The order of the cases matters."""
        at, disagrees = None, False
        match error:
            case NotYet(at=due):
                # How long from now, and not the date: that is by this machine's clock, the row's by the database's.
                left = due - self.clock.now().wall if due else 0
                at = self._wait(case, "not-yet", max(RETRY, timedelta(seconds=left)))
            case Expired() | NoCheckpoint() | RolesMissing():
                # No fresh head: the sequencer or its HSM is away. Without one nothing is released.
                at = self._wait(case, "log-too-old", RETRY)
            case LogBehind() | WrongLog() | ReleaseKeyMissing() | TenantIsLocked():
                self._say(logging.WARNING if isinstance(error, TenantIsLocked) else logging.CRITICAL, case, str(error))
                at = self._wait(case, error.why, RETRY_LOCKED if isinstance(error, TenantIsLocked) else RETRY_HSM)
            case HsmKeyMissing() | HsmKeyMismatch():
                # It answers, and has not the key: nobody gets it back by waiting for the HSM.
                self._say(logging.CRITICAL, case, str(error))
                at = self._wait(case, "hsm-key-wrong", hsm_pause(self._failures.get(case.id, 0)))
            case HsmPinRejected() | HsmTokenDamaged():
                # It is there, and does not let this process in before somebody has mended that.
                self._say(logging.CRITICAL, case, str(error))
                at = self._wait(case, "hsm-shut", hsm_pause(self._failures.get(case.id, 0)))
            case HsmRefused():
                self._hold(case, "half-refused")
            case HsmError():
                self._say(logging.WARNING, case, f"the HSM is away ({type(error).__name__})")
                at = self._wait(case, "hsm-away", hsm_pause(self._failures.get(case.id, 0)))
            case QuorumNotMet():
                at = self._too_few(case)
                disagrees = at is not None
            case Ended():
                self._ended(case, error)
            case Conflict():
                pass  # it moved meanwhile: a veto or an end was faster
            case _:
                at = self._disagree(case, "rows-and-log-disagree", str(error))
                disagrees = True
        if not disagrees:
            self._disagreeing.pop(case.id, None)
        return at

    def _say(self, level: int, case: Case, trouble: str) -> None:
        """Log what a case waits for, ever less often while it stays the same."""
        said, count = self._troubles.get(case.id, ("", 0))
        count = count + 1 if said == trouble else 1
        self._troubles[case.id] = trouble, count
        if is_worth_a_line(count):
            log.log(level, "case %s waits: %s (%d in a row)", case.id, trouble, count)

    def _disagree(self, case: Case, why: str, reason: str) -> datetime | None:
        """Wait for what comes right by itself, and hold the case when it has not for ten minutes."""
        tick = self.clock.now().tick
        since = self._disagreeing.setdefault(case.id, tick)
        if tick - since < self.patience:
            log.warning("case %s waits: %s", case.id, reason)
            # What is committed and not signed yet explains most of them, for a moment: a busy log always has some.
            shown = "log-behind" if self.log.is_behind() and tick - since < BEHIND_SECONDS else why
            return self._wait(case, shown, RETRY if shown == "log-behind" else RETRY_HSM)
        log.critical("case %s is held: %s", case.id, reason)
        self._hold(case, why)
        return None

    def _release(self, case: Case) -> datetime | None:
        # To release a case we must, in this order:
        #
        # (1) follow the log to a fresh head, so that every veto and removal in it is known;
        # (2) hold the rows to the log and have the rules judge: what to ask the HSM, for whom;
        # (3) take the outer sealing off the shares: enough must be what their officers signed for;
        # (4) see that the HSM shows the keys it is to be asked by: while it is away there is nothing to begin;
        # (5) write the intent in our own journal, which no database can take back;
        # (6) commit intent and audit entry; only here it is decided against a veto;
        # (7) ask the HSM, outside any transaction, for what it was not asked for before, and keep each answer;
        # (8) record the result, the state and the audit entry together, and destroy what was kept for it.
        now = self._up_to_date()  # (1)
        orders = orders_for(case, facts=self.log.facts, now=now)  # (2)
        shares = self._open_shares(case, orders)  # (3)
        if shares is None:
            return None
        intent = _intent(case, orders[0].rewrap.recipient, now.wall)
        halves = self.directory.halves(intent)
        missing = [order for order in orders if order.deposit_id not in halves]
        for key, cka_id in {order.cka_id: (order.key, order.cka_id) for order in missing}.values():
            custody.require_escrow_key(tenant_id=self.directory.tenant_id, key=key, cka_id=cka_id)  # (4)
        self.directory.spend(intent)  # (5)
        is_known = self._is_put_off(case)
        if not record.begin_release(case_id=case.id, is_known=is_known, actor=self.actor):  # (6)
            return None
        for order in missing:
            halves[order.deposit_id] = self._rewrap(case, order)  # (7)
            self.directory.keep_halves(intent, halves)
        opened = {
            order.deposit_id: OpenedDeposit(halves[order.deposit_id], shares[order.deposit_id]) for order in orders
        }
        record.finish_release(case_id=case.id, opened=opened, actor=self.actor)  # (8)
        self.directory.forget_halves(case.id.bytes)
        return None

    def _is_put_off(self, case: Case) -> bool:
        """Tell whether the log says that this release was begun, and has been put off since."""
        logged = self.log.facts.cases.get(case.id.bytes)
        return logged is not None and logged.stage == "deferred"

    def _replace(self, case: Case) -> datetime | None:
        """Hand on the shares that officers gave in place of wrong ones; what the HSM did it does not do again."""
        if case.release_at is None:
            return None
        now = self._up_to_date()
        wanted, stored = shares_for(case, facts=self.log.facts, now=now), record.load_shares(case)
        # Of those who gave theirs before, nothing is stored any more: only what is new opens.
        found, missing = self._taken_off(case, stored, wanted)
        if missing is not None and sum(map(len, found.values())) < len(stored):
            # As before a release: the key may come back, a share that was destroyed would not.
            raise missing
        record.replace_shares(case_id=case.id, shares=found, handled=stored.keys(), actor=self.actor)
        return None

    def _up_to_date(self) -> Now:
        """Follow the log to its newest head, which has to be fresh and whole, and return the present."""
        stands = audit.standing(LOG)
        self.follow(stands.note, roles=self.log.signed_roles(stands.roles))
        now = self.clock.now()
        self.log.require_fresh(now)
        if stands.has_waited:
            raise LogBehind("an entry has waited for its index for over two minutes")
        self.log.settle(now)
        if self.log.facts.wrong:
            index, wrong = min(self.log.facts.wrong.items())
            raise WrongLog(f"entry {index} of the log is wrong ({wrong.why})")
        if self.log.facts.is_shut:
            raise NotYet("the operator has suspended the tenant: nobody of it can object")
        # The log decides. A row that says locked is obeyed as well: its entry is on its way.
        if self.log.facts.locks.is_locked(now.tick) or tenants_access.tenant_state() == TenantState.LOCKED:
            raise TenantIsLocked("the tenant is locked")
        return now

    def _rewrap(self, case: Case, order: Order) -> bytes:
        try:
            return custody.rewrap_half(
                # Of our own directory, and of no row: the HSM uses no other tenant's key for it.
                tenant_id=self.directory.tenant_id,
                key=order.key,
                cka_id=order.cka_id,
                sealed_half=order.rewrap.deposit.sealed_half,
                ctx=order.rewrap.deposit.header.ctx,
                recipient=order.rewrap.recipient,
            )
        except HsmError:
            # It may have unwrapped: each further try is one more unwrap.
            self._failures[case.id] = self._failures.get(case.id, 0) + 1
            raise

    def _open_shares(self, case: Case, orders: tuple[Order, ...]) -> dict[UUID, dict[int, bytes]] | None:
        """Return {deposit: {index: share sealed to the recipient}}, or None when shares were wrong and are voided."""
        signed = {order.deposit_id: order.rewrap.share_hashes for order in orders}
        found, missing = self._taken_off(case, record.load_shares(case), signed)
        if all(len(found[order.deposit_id]) >= order.needed for order in orders):
            return found
        if missing is not None:
            # What was sealed to a key that is not here may be right: the key may come back, a share would not.
            raise missing
        wrong = [(order, index) for order, hashes in signed.items() for index in hashes if index not in found[order]]
        log.warning("case %s: %d shares are not what was signed for", case.id, len(wrong))
        # One that a dead process had begun goes back as well: nothing comes right by trying it again.
        self._defer(case, "share-wrong", database_now())
        record.void_shares(case_id=case.id, shares=wrong, actor=self.actor)
        return None

    def _taken_off(
        self,
        case: Case,
        stored: Mapping[tuple[UUID, int], bytes],
        signed: Mapping[UUID, Mapping[int, bytes]],
    ) -> tuple[dict[UUID, dict[int, bytes]], ReleaseKeyMissing | None]:
        """Take the outer sealing off stored shares: {deposit: {index: sealed to the recipient}}, and a key not here.

        signed: {deposit: {index: the hash that its officer signed for}}. A share that is not what was signed for, or is
        not stored, is left out.
        """
        keys, missing = self._sealing_keys(case)
        found: dict[UUID, dict[int, bytes]] = {deposit_id: {} for deposit_id in signed}
        for deposit_id, hashes in signed.items():
            for index, expected_hash in hashes.items():
                take_off = partial(
                    take_off_outer,
                    stored.get((deposit_id, index), b""),
                    q=bytes(case.q),
                    deposit_id=deposit_id.bytes,
                    index=index,
                    expected_hash=expected_hash,
                )
                sealed = _by_any(keys, take_off)
                if sealed is not None:
                    found[deposit_id][index] = sealed
        return found, missing

    def _sealing_keys(self, case: Case) -> tuple[list[SealingKey], ReleaseKeyMissing | None]:
        """Return the private halves to which shares of a case may be sealed, newest first, and what is missing."""
        facts = self.log.facts
        keys: list[SealingKey] = []
        missing = None
        for public in facts.release_keys(facts.cases[case.id.bytes], now=self.clock.now()):
            try:
                keys.append(self.directory.sealing_key(public))
            except ReleaseKeyMissing as error:
                missing = error
        return keys, missing

    def _wait(self, case: Case, why: str, pause: timedelta) -> datetime:
        at = _in(pause)
        self._defer(case, why, at)
        record.postpone(case_id=case.id, why=why, release_at=at)
        return at

    def _defer(self, case: Case, why: str, at: datetime) -> None:
        is_known = self._is_put_off(case)
        record.defer_release(case_id=case.id, why=why, retry_at=at, is_known=is_known, actor=self.actor)

    def _hold(self, case: Case, why: str) -> None:
        record.hold_case(case_id=case.id, why=why, actor=self.actor)

    def _too_few(self, case: Case) -> datetime | None:
        """Send the case back to its officers; when the rows claim a quorum that the log does not show, hold it."""
        self._defer(case, "quorum-lost", database_now())
        self._take_behind(case)
        counting.settle_case(case_id=case.id, actor=self.actor)
        counted = access.case_for_release(case.id)
        if counted is None or counted.state != CaseState.WAITING:
            return None
        now, facts = self.clock.now(), self.log.facts
        if facts.pending or facts.settled_at(now) > now.wall:
            # By this process's own time, later than the server's by however long it was away, a version or an officer
            # still cools off, or a resolution does not count yet. That comes right by itself.
            return self._wait(case, "cooling-off", RETRY_HSM)
        return self._disagree(case, "quorum-not-in-log", "its rows claim a quorum that the log does not show")

    def _take_behind(self, case: Case) -> None:
        """Have the rows leave out whoever the log does: held for ever by two clocks, the case would help nobody."""
        logged = self.log.facts.cases.get(case.id.bytes)
        persons = [UUID(bytes=person) for person in logged.behind] if logged else []
        if missing := record.add_behind(case_id=case.id, persons=persons):
            log.critical(
                "case %s: %d persons stand behind it by the log and not by its rows: this process was away for as long "
                "as their time was over by the database's clock, or somebody has changed a row",
                case.id,
                missing,
            )

    def _ended(self, case: Case, refusal: Ended) -> None:
        self._defer(case, "ended", database_now())
        if access.ends_at(case) <= database_now():
            endings.expire_case(case_id=case.id, actor=self.actor)
        elif isinstance(refusal, Voided):
            self._hold(case, "voided")
        elif isinstance(refusal, Vetoed):
            self._hold(case, "vetoed-in-log")
        else:
            log.error("case %s can never be released: %s", case.id, refusal)
            self._hold(case, "forbidden-meanwhile")


def _by_any(keys: Iterable[SealingKey], take_off: Callable[..., bytes]) -> bytes | None:
    for key in keys:
        try:
            return take_off(key=key)
        except UnwrapFailed:
            continue
    return None


def _intent(case: Case, recipient: PublicKey, now: int) -> Intent:
    digest = hashlib.sha256(recipient.encoded).digest()
    return Intent(case_id=case.id.bytes, q=bytes(case.q), recipient=digest, at=now)


def hsm_pause(failures: int) -> timedelta:
    """Return how long to wait for an HSM that has failed so often in a row after a release was begun."""
    first, longest = RETRY_HSM.total_seconds(), LONGEST_PAUSE.total_seconds()
    return timedelta(seconds=pause_seconds(failures, first=first, longest=longest))


def _in(pause: timedelta) -> datetime:
    """Return when a pause is over, by the database's clock: this machine's may be wrong, and its date would stay."""
    return database_now() + pause


def _retries(clock: Clock, first: float, longest: float) -> Retries:
    # By the directory's own count, which nobody turns.
    return Retries(first, longest, clock=lambda: clock.now().tick)


class ReleaseProcess:
    """All tenants of one directory. Make it with `open_process`, then call `tick` again and again."""

    def __init__(self, home: Path, *, clock: Clock | None = None, patience: int = HOLD_AFTER_SECONDS) -> None:
        self._home = home
        self._clock = clock or Clock(home / "clock")
        self._patience = patience
        self._tenants: dict[UUID, TenantRelease] = {}
        self._heads: dict[UUID, str] = {}  # the note last followed
        self._broken: dict[UUID, int] = {}  # tenants whose log is not the one believed, and since which tick
        # What failed in a way that nobody foresaw: cases, as (tenant, case), and tenants whose log was to be followed.
        # A try at one of these may read the whole log anew, and all others wait meanwhile.
        self._failing = _retries(self._clock, RETRY_HSM.total_seconds(), LONGEST_PAUSE.total_seconds())
        # First at the next round, and at last at every sixth.
        self._unread = _retries(self._clock, FOLLOW_SECONDS / 2, UNSEEN_SECONDS - FOLLOW_SECONDS)
        self._untrusted = Retries(first=0, longest=0)  # tenants that have a case and no trust here: for the log alone
        self._swept: int | None = None
        self._doubted: int | None = None
        self._followed: int | None = None

    def tick(self) -> int:
        """Do what is due, and return how many jobs were completed. A case's or tenant's trouble stops no other."""
        close_old_connections()
        now = self._clock.now().tick
        if self._followed is None or now - self._followed >= FOLLOW_SECONDS:
            self._followed = now
            self.follow_all()
        if self._swept is None or now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._sweep()
        if self._doubted is None or now - self._doubted >= LONGEST_PAUSE.total_seconds():
            self._doubted = now
            self._sweep_far()
        return queue.run_due("release")

    def follow_all(self) -> None:
        """Look at every tenant's head, and take in what is new: a veto that is erased later was seen then."""
        self._clock.keep()
        newest, asleep = newest_notes(LOG), resting()
        for tenant_id in tenants(self._home):
            note = newest.get(tenant_id)
            if (
                note is None
                or tenant_id in asleep
                or (note == self._heads.get(tenant_id) and not self._looks_again(tenant_id))
                or self._unread.left(tenant_id)
            ):
                continue
            with queue.apart(tenant_id, "its log"):
                self._follow(tenant_id, note)

    def _looks_again(self, tenant_id: UUID) -> bool:
        known = self._tenants.get(tenant_id)
        return known is not None and known.log.looks_again

    def _follow(self, tenant_id: UUID, note: str) -> None:
        try:
            tenant = self._tenant(tenant_id)
            tenant.log.look_again()
            tenant.follow(note)
            self._broken.pop(tenant_id, None)
            self._unread.worked(tenant_id)
            tenant.forget_halves()
            tenant.give_receipts()
            # Looked at again while there is something left to sign for, whether the head is new or not.
            if not tenant.owes_receipts:
                self._heads[tenant_id] = note
        except Expired as error:
            log.warning("tenant %s: %s", tenant_id, error)
        except (HoldfastError, DomainError) as error:
            # It does not extend what was believed: rows were erased or rewritten, or a backup was put back.
            self._broken.setdefault(tenant_id, self._clock.now().tick)
            # It was read through to find that out, and is left alone for longer and longer.
            self._unread.failed(tenant_id)
            log.critical("tenant %s: its log is not the one that was believed: %s", tenant_id, error)
            self._mark_if_shorter(tenant_id)
        except Exception:
            self._unread.failed(tenant_id)
            raise
        finally:
            self._forget_unless_whole(tenant_id)

    def _mark_if_shorter(self, tenant_id: UUID) -> None:
        """Mark a tenant whose log has fewer entries than were seen of it: its database was put back from a backup."""
        heads = Directory(self._home, tenant_id).heads()
        if heads and heads[-1].size > audit.numbered(LOG):
            restored.mark(by="release")

    def _forget_unless_whole(self, tenant_id: UUID) -> None:
        """Have a log read anew, from what the directory keeps, of which nobody knows how much was taken in."""
        known = self._tenants.get(tenant_id)
        if known is not None and not known.log.is_whole:
            del self._tenants[tenant_id]

    def run_job(self, job: Job) -> None:
        """Attempt the case that a job names; raises RunLater while there is something left to do."""
        at = self._attempt(UUID(job.payload["case"]), job.tenant_id)
        if at is not None:
            raise queue.RunLater(at, "the case is not over")

    def _sweep(self) -> None:
        """Finish what a dead process left in `releasing`, and catch up with cases whose job was lost."""
        for case_id, tenant_id in awake(access.due_for_release(database_now())):
            with queue.apart(tenant_id, f"release of case {case_id}"):
                self._attempt(case_id, tenant_id)

    def _sweep_far(self) -> None:
        """Look again at what this process has put off for longer than its pauses are.

        Few waits are as long, as where the delay ends later by the log than by the rows. Any other was dated while a
        clock was wrong, and must not outlast that (PLATFORM "Clocks").
        """
        for case_id, tenant_id in awake(access.put_off_beyond(_in(LONGEST_PAUSE))):
            with queue.apart(tenant_id, f"release of case {case_id}"):
                self._attempt(case_id, tenant_id, early=True)

    def _attempt(self, case_id: UUID, tenant_id: UUID, *, early: bool = False) -> datetime | None:
        """Attempt one case, and keep what nobody foresaw from all others: it is left alone for longer and longer."""
        left = self._failing.left((tenant_id, case_id))
        if left:
            return _in(timedelta(seconds=left))
        try:
            at = self._attempt_now(case_id, tenant_id, early=early)
        except Exception as error:
            if not connection.is_usable():
                raise
            return self._leave_alone(case_id, tenant_id, error)
        finally:
            self._forget_unless_whole(tenant_id)
        self._failing.worked((tenant_id, case_id))
        return at

    def _leave_alone(self, case_id: UUID, tenant_id: UUID, error: Exception) -> datetime:
        count = self._failing.failed((tenant_id, case_id))
        at = _in(timedelta(seconds=self._failing.left((tenant_id, case_id))))
        log.critical("tenant %s: case %s failed: %s (%d in a row)", tenant_id, case_id, named(error), count)
        with queue.apart(tenant_id, f"word of the failure of case {case_id}"):
            record.leave_alone(case_id=case_id, retry_at=at)
        return at

    def _attempt_now(self, case_id: UUID, tenant_id: UUID, *, early: bool) -> datetime | None:
        if tenant_id in self._broken and tenant_id not in self._tenants and self._unread.left(tenant_id):
            return self._changed(case_id, tenant_id, "it is read again later")
        try:
            tenant = self._tenant(tenant_id)
        except FileNotFoundError:
            if is_worth_a_line(self._untrusted.failed(tenant_id)):
                log.error("the release directory holds no trust for tenant %s: hold its ceremony", tenant_id)  # noqa: TRY400
            return _in(RETRY_HSM)
        except (HoldfastError, DomainError) as error:
            self._unread.failed(tenant_id)
            return self._changed(case_id, tenant_id, str(error))
        at = tenant.attempt(case_id, early=early)
        self._broken.pop(tenant_id, None)
        return at

    def _changed(self, case_id: UUID, tenant_id: UUID, reason: str) -> datetime | None:
        """Say that the log stored now is not the one that was believed; after ten minutes its cases are held."""
        tick = self._clock.now().tick
        since = self._broken.setdefault(tenant_id, tick)
        log.critical("tenant %s: its log is not the one that was believed: %s", tenant_id, reason)
        if tick - since < self._patience:
            at = _in(RETRY_HSM)
            record.postpone(case_id=case_id, why="log-changed", release_at=at)
            return at
        record.hold_case(case_id=case_id, why="log-changed", actor=system_actor(tenant_id, "release"))
        return None

    def _tenant(self, tenant_id: UUID) -> TenantRelease:
        if tenant_id not in self._tenants:
            directory = Directory(self._home, tenant_id)
            opened = ReleaseLog.open(directory, self._clock)
            self._tenants[tenant_id] = TenantRelease(directory, opened, self._clock, self._patience)
            self._tenants[tenant_id]._require_keys()
        return self._tenants[tenant_id]


_running: ReleaseProcess | None = None


@contextmanager
def open_process(
    home: Path, *, clock: Clock | None = None, patience: int = HOLD_AFTER_SECONDS
) -> Iterator[ReleaseProcess]:
    """Hold the directory, alone, and give the process that jobs of the queue `release` are run by.

    clock: another than this machine's. patience: seconds for which rows and log may disagree.

    Raises BlockingIOError when another process holds it.
    """
    global _running  # noqa: PLW0603 — one directory, one process
    with only_process(home):
        _running = ReleaseProcess(home, clock=clock, patience=patience)
        log.info("release process for %d tenants", len(tenants(home)))
        try:
            yield _running
        finally:
            _running = None


def run_job(job: Job) -> None:
    """Handle a job of the queue `release`. Raises RuntimeError outside the release process."""
    if _running is None:
        raise RuntimeError("only the release process runs this queue")
    _running.run_job(job)


def run(home: Path, *, until: Callable[[], bool], pause: Callable[[float], object]) -> None:
    """Tick until told to stop; `pause` waits for a number of seconds or less."""
    with open_process(home) as process:
        while not until():
            if not process.tick():
                pause(0.2)
