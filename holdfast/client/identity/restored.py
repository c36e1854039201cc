# SPDX-License-Identifier: Apache-2.0
"""A server that was put back from a backup: what m officers accepted of its logs, verified and taken once by a client.

Implements docs/formats/key-log.md "After a restored backup" and ESCROW "What it believes of the log" for clients. An
acceptance excuses what lies before it and nothing that comes after: a head that was signed later is held to as ever.
Gives nothing back to the server by itself, and believes no word of it: what counts is signed by officers and by the
log's key.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

from holdfast.client.errors import ClientError, RaceLost
from holdfast.client.identity import evidence, heads, tenant
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.profile.account import Account
from holdfast.client.waiting import Overtaken, retry
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Untrusted
from holdfast.core.base.rows import flag, octets, open_row, seal_row, text, uint
from holdfast.core.identity.acts import Act, Resolution, accepted_log, verify_resolution
from holdfast.core.log.accepted import SLACK_SECONDS, AcceptedLog
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import require_same_log
from holdfast.core.log.merkle import HASH_SIZE, MAX_PROOF
from holdfast.core.signed.cose import Sign1, encode_many, parse_many
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS

# For as long the server takes back what it lost: a device that was put away for a season is in.
HEALING_SECONDS: Final = 90 * 86_400
_KIND: Final = "accepted-log"
_MOST_KEPT: Final = 32  # of each log: nobody puts a backup back once a month for years
_MOST_SHOWN: Final = 20  # that a server shows of them


@dataclass(frozen=True)
class Taken:
    """What m officers accepted of one log (`keys` or `audit`), as this device has verified and taken it.

    size, root, at, hash: as of `AcceptedLog`. statement: what the officers signed. signers: how many they were.
    heals_from: UTC seconds, from which this device gives back what the server lost: the date of the resolution, or, of
    a device that was away then, when it took it by its own clock. note: the head that this device held to until then,
    b"" where that was of the same log. is_told: whether the person was told.
    """

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    log: Annotated[str, text(maximum=8)]
    size: Annotated[int, uint()]
    root: Annotated[bytes, octets(HASH_SIZE)]
    at: Annotated[int, uint()]
    hash: Annotated[bytes, octets(HASH_SIZE)]
    statement: Annotated[bytes, octets(maximum=MAX_BLOB)]
    signers: Annotated[int, uint()]
    heals_from: Annotated[int, uint()]
    note: Annotated[bytes, octets(maximum=heads.MAX_NOTE)]
    is_told: Annotated[bool, flag()]

    @property
    def accepted(self) -> AcceptedLog:
        """The log that was accepted."""
        return AcceptedLog(self.size, self.root, self.at, self.hash)

    @property
    def left_behind(self) -> bool:
        """Whether this device had seen more of the log, or another, than was accepted."""
        return bool(self.note)

    @property
    def name(self) -> bytes:
        """The key of its row."""
        return self.log.encode() + self.hash

    def heals_at(self, now: int) -> bool:
        """Tell whether the server may still lack what was lost then: at a time by this machine's clock."""
        return -MAX_AHEAD_SECONDS <= now - self.heals_from <= HEALING_SECONDS


def taken(account: Account, log: str = heads.KEYS) -> list[Taken]:
    """Return what this device has taken of one log, newest first. Asks nobody."""
    rows = [account.store.get(_KIND, name) for name in account.store.keys(_KIND)]
    found = [open_row(Taken, row, "accepted log") for row in rows if row is not None]
    return sorted((one for one in found if one.log == log), key=lambda one: one.at, reverse=True)


def is_healing(account: Account) -> bool:
    """Tell whether the server may lack what is kept here, by an acceptance of the log of keys: for 90 days."""
    return any(one.heals_at(account.clock.now()) for one in taken(account))


def may_be_lost(account: Account, dated: int) -> bool:
    """Tell whether the server may have lost what is dated then (UTC seconds), by an acceptance that still heals."""
    now = account.clock.now()
    return any(one.heals_at(now) and dated <= one.at + SLACK_SECONDS for one in taken(account))


# What the server shows


@dataclass(frozen=True)
class _Newest:
    """The newest head of a log, its note, the proof from the size asked about; what the server says was accepted."""

    head: Checkpoint
    note: str
    proof: list[bytes]
    accepted: list[bytes]


def _newest(account: Account, known: LogVerifier, old_size: int = 0) -> _Newest | None:
    """Ask for the newest head; None for a log without one. Raises ClientError; HoldfastError for what is no head."""
    query = {"log": _log_of(known)} | ({"old_size": str(old_size)} if old_size else {})
    answer = account.api.get("audit/head", query=query)
    accepted = answer.many_octets("accepted", maximum=_MOST_SHOWN)
    note = answer.text("checkpoint", maximum=heads.MAX_NOTE)
    if not note:
        return None
    proof = answer.many_octets("consistency", maximum=MAX_PROOF)
    return _Newest(_opened(account, known, note), note, proof, accepted)


def _opened(account: Account, known: LogVerifier, note: str) -> Checkpoint:
    try:
        return known.open_checkpoint(note)
    except InvalidSignature:
        # The log's key may have been replaced since this client last asked whose it is.
        tenant.follow_log_keys(account)
        return (heads.verifier(account, _log_of(known)) or known).open_checkpoint(note)


def _log_of(known: LogVerifier) -> str:
    return known.name.rpartition("/")[2]


def look(account: Account, log: str = heads.KEYS) -> bool:
    """Take what officers have accepted since this device last looked; returns whether there was something.

    Where the log that it is about is not the one that this device holds to, the acceptance has to explain that. What
    does not hold is left alone, and no refusal: without an acceptance everything is as strict as it was.
    """
    known = heads.verifier(account, log)
    if known is None:
        return False
    count = 0
    with contextlib.suppress(ClientError, HoldfastError):
        shown = _newest(account, known)
        for one in _verified(account, known, shown.accepted) if shown else ():
            with contextlib.suppress(ClientError, HoldfastError):
                count += _take(account, known, one)
    return count > 0


def explains(account: Account, known: LogVerifier, head: Checkpoint) -> bool:
    """Tell whether a head that somebody else has seen is of what was lost: beyond what was accepted, and older.

    One within the accepted log that contradicts it is none of this: two histories were shown before, and that is said.
    """
    log = _log_of(known)
    return _is_lost(account, log, head) or (look(account, log) and _is_lost(account, log, head))


def _is_lost(account: Account, log: str, head: Checkpoint) -> bool:
    accepted = [one.accepted for one in taken(account, log)]
    return any(one.is_outrun_by(head) and one.leaves_behind(head) for one in accepted)


def tell(account: Account, note: str) -> None:
    """Show the server a head that it does not have any more: by that alone can it know that it was put back."""
    with contextlib.suppress(ClientError):
        account.api.post("audit/head", {"note": note})


# Verified and taken


def _verified(account: Account, known: LogVerifier, statements: list[bytes]) -> list[Taken]:
    """Return those that officers of this tenant accepted, by the policies known here; newest first, none taken yet."""
    log, had = _log_of(known), set(account.store.keys(_KIND))
    fresh: dict[bytes, tuple[Sign1, ...]] = {}
    for statement in statements:
        with contextlib.suppress(HoldfastError):
            signed = parse_many(statement)
            fresh[log.encode() + signed[0].payload_hash] = signed
    fresh = {name: signed for name, signed in fresh.items() if name not in had}
    if not fresh:
        return []
    # Who is in office is asked first: officers may have come, or gone, since this device last looked.
    with contextlib.suppress(ClientError):
        tenant.refresh(account)
    found: list[Taken] = []
    for signed in fresh.values():
        with contextlib.suppress(HoldfastError):
            one = _verify(account, log, signed)
            found += [one] if one is not None else []
    return sorted(found, key=lambda one: one.at, reverse=True)


def _verify(account: Account, log: str, signed: tuple[Sign1, ...]) -> Taken | None:
    """Check one acceptance; None for a resolution that is not about this log. Raises HoldfastError."""
    statement = encode_many(signed)
    resolution = Resolution.from_payload(signed[0].payload)
    at = resolution.header.issued_at
    # One that is dated ahead would excuse what has not happened yet. By the earlier clock: no server moves that on.
    if resolution.act is not Act.ACCEPT_LOG or at > account.clock.earliest() + MAX_AHEAD_SECONDS:
        return None
    if not account.state.trust.policies or len(statement) > MAX_BLOB:
        return None
    # Of its own day, however long ago that is: what it excuses is bound by its date, and so is who could sign it.
    resolution = verify_resolution(signed, account.trusted.in_force(at), at=at)
    # One that names the audit log alone dates a first reading, and speaks of no backup.
    if resolution.key_log is None or (accepted := accepted_log(resolution, signed[0].payload_hash, log)) is None:
        return None
    # A device that was enrolled later has lost nothing by it, and is not told.
    is_younger = account.state.device is not None and account.device_statement.header.issued_at > at + SLACK_SECONDS
    return Taken(
        log=log,
        size=accepted.size,
        root=accepted.root,
        at=at,
        hash=accepted.hash,
        statement=statement,
        signers=len(signed),
        heals_from=at,
        note=b"",
        is_told=is_younger,
    )


def _take(account: Account, known: LogVerifier, one: Taken) -> bool:
    """Take an acceptance that the server's log goes on from, and hold to that log from now on.

    False where it does not, and where the head kept here is of another log and was signed after the officers decided:
    that is another rollback, or a split view, which they did not accept.
    """
    last = heads.kept(account, known)

    def attempt() -> tuple[_Newest, bool]:
        shown = _newest(account, known, one.size)
        if shown is None:
            raise Untrusted("the log has no head")
        one.accepted.require_goes_on(shown.head, shown.proof)
        return shown, last is None or _goes_together(account, known, last, shown)

    shown, goes_together = retry(attempt, lost=RaceLost("The log grew faster than it could be compared."))
    if not goes_together:
        assert last is not None
        if not one.accepted.leaves_behind(last):
            return False
        one = replace(one, note=account.state.trust.checkpoints[known.name].encode())
    # Who has seen no head since the officers decided was away, and gives back from now on. To whoever has, one that is
    # shown late opens nothing any more: a server would keep it for the day on which it shows something old.
    if last is not None and last.time is not None and last.time <= one.at + SLACK_SECONDS:
        one = replace(one, heals_from=account.clock.now())
    with account.store.transaction():
        if last is None or one.left_behind or shown.head.size > last.size:
            heads.keep(account, known, shown.note)
        account.store.put(_KIND, one.name, seal_row(one))
        for old in taken(account, one.log)[_MOST_KEPT:]:
            account.store.delete(_KIND, old.name)
        _explain_evidence(account, known, one)
    return True


def _goes_together(account: Account, known: LogVerifier, last: Checkpoint, shown: _Newest) -> bool:
    """Tell whether the head kept here and the one shown are of one log, by the proof that the server owes for it."""
    if last.size > shown.head.size:
        return False
    proof: list[bytes] = []
    if 0 < last.size < shown.head.size:
        again = _newest(account, known, last.size)
        if again is None or again.head.size != shown.head.size:
            raise Overtaken  # the log grew in between
        proof = again.proof
    try:
        require_same_log(last, shown.head, proof)
    except HoldfastError:
        return False
    return True


def _explain_evidence(account: Account, known: LogVerifier, one: Taken) -> None:
    """Mark as explained what is kept as evidence because of a head that was left behind. It is not thrown away."""
    for seen in evidence.list_evidence(account):
        if seen.what in (Contradiction.LOG_FORK, Contradiction.LOG_ROLLED_BACK) and not seen.explained:
            both = [heads.read(account, known, side.decode(errors="replace")) for side in (seen.ours, seen.theirs)]
            lost = [one.accepted.is_outrun_by(head) and one.accepted.leaves_behind(head) for head in both if head]
            if any(lost) or one.note in (seen.ours, seen.theirs):
                evidence.explain(account, seen, one.hash)


# Told once


def untold(account: Account) -> list[Taken]:
    """Return what the person was not told of yet, newest first; of a resolution about both logs one."""
    found: dict[bytes, Taken] = {}
    for log in heads.LOGS:
        for one in taken(account, log):
            if not one.is_told:
                found.setdefault(one.hash, one)
    return list(found.values())


def note_told(account: Account, told: Taken) -> None:
    """Remember that the person was told of one resolution."""
    for log in heads.LOGS:
        for one in taken(account, log):
            if one.hash == told.hash:
                account.store.put(_KIND, one.name, seal_row(replace(one, is_told=True)))


def words_of(one: Taken) -> str:
    """Say what happened, for the person."""
    day = datetime.fromtimestamp(one.at, UTC).date()
    lost = "what this device had seen of it since then" if one.left_behind else "what came after the backup"
    return (
        f"Your organisation's server was put back from a backup, and has lost {lost}. {one.signers} officers accepted "
        f"that on {day}. What this device holds of it is given back by itself."
    )
