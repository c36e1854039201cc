# SPDX-License-Identifier: Apache-2.0
"""The tenant's key log as one client sees it: every head it relies on must be there, and the log must be one.

Implements PROTOCOL section 8 for clients and FAULTS S16; proofs are checked by `holdfast.core.log.key_log`.
Does not prove that a head is the newest, nor prevent a split view: two who compare find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import RESTORED, NotYet, Problem, RaceLost, ServerRestored, TrustRefused
from holdfast.client.identity import evidence, heads, restored, tenant
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.profile.account import Account
from holdfast.client.waiting import Overtaken, retry, wait_for
from holdfast.core.base.encoding import Fields, b64u, decode, encode
from holdfast.core.base.errors import Forked, HoldfastError, InvalidSignature, Untrusted
from holdfast.core.base.rows import octets, open_row, seal_row, several, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import AddDevice, Entry, ReGenesis
from holdfast.core.log.accepted import SLACK_SECONDS
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import InclusionProof, require_same_log, verify_chain_entry
from holdfast.core.log.log_entry import KeyLogEntry
from holdfast.core.log.merkle import HASH_SIZE, MAX_PROOF
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, MAX_U32

# The log is sequenced at least every minute; ten leave room for a busy worker and for clocks.
LOGGED_WITHIN_SECONDS: Final = 600
# The server takes entries dated up to three hours behind; an hour more leaves room for its clocks.
LOGGED_BEFORE_SECONDS: Final = 4 * 3600
# Waited for a head that is signed for whoever asks: the sequencer looks five times a second, and may be at work.
_FRESH_HEAD_SECONDS: Final = 5
_ANCHOR: Final = "chain-anchor"
_PROOF: Final = "chain-proof"
_WAITING: Final = "chain-waiting"
_MADE: Final = "own-entry"
_FOREIGN: Final = "foreign-entry"
_GOSSIP: Final = "gossip"
MAX_LEAF: Final = 1024  # bytes: a leaf of this log has some hundred
_KEEP_MADE: Final = 256  # entries: this device makes a few in a month, and asks about the newest alone
_KEEP_GOSSIP: Final = 64  # heads: one for each of as many contacts; an older one proves no less


class SplitView(ServerRestored):
    """The log's own key signed two histories: different people are shown different keys, or a backup was put back."""


class Anchor(StrEnum):
    """Where a chain head stands. UNANCHORED: no log key is known, by a code or by the root, so nothing vouches."""

    ANCHORED = "anchored"
    WAITING = "waiting"
    UNANCHORED = "unanchored"


@dataclass(frozen=True)
class ForeignEntry:
    """An entry of one's own chain that this device did not make; `device` is what the entry says of itself."""

    seq: int
    type: str
    device: UUID | None
    issued_at: int


@dataclass(frozen=True)
class _Place:
    """One entry of a user's chain, by which the log is asked for its newest head."""

    user: bytes
    seq: int
    head: bytes


# Heads


def standing(account: Account, state: ChainState) -> Anchor:
    """Say where a chain's head stands, by what is kept and without asking anybody."""
    if heads.verifier(account) is None:
        return Anchor.UNANCHORED
    return Anchor.ANCHORED if _anchored_head(account, state.user) == state.head else Anchor.WAITING


def anchor(account: Account, state: ChainState) -> Anchor:
    """See that the newest entry of a verified chain is in the key log, and keep the log's head.

    Raises TrustRefused when the log has not got it ten minutes after its date, or has another; SplitView, after
    keeping both heads, when this log is not the one seen before.
    """
    known = heads.verifier(account)
    is_anchored = _anchored_head(account, state.user) == state.head
    kept = find_proof(account, state.user)
    if known is None or (is_anchored and kept is not None and kept.seq == state.seq):
        return standing(account, state)
    place = _Place(state.user, state.seq, state.head)
    shown = _advance(account, place, known)
    if shown is not None:
        with account.store.transaction():
            account.store.put(_ANCHOR, state.user, SecretBytes(encode({1: state.seq, 2: state.head})))
            account.store.put(_PROOF, state.user, seal_row(_kept(state.seq, shown)))
    elif not is_anchored:
        _require_recent(account, place, state.time)
        return Anchor.WAITING
    return Anchor.ANCHORED


@dataclass(frozen=True)
class KeptProof:
    """What showed that a chain's entry `seq` was in the key log, kept for a server that loses both.

    index, leaf, hashes, note: as of `InclusionProof`.
    """

    ROW_SIZE: ClassVar = 16 * 1024

    seq: Annotated[int, uint(maximum=MAX_U32)]
    index: Annotated[int, uint()]
    leaf: Annotated[bytes, octets(maximum=MAX_LEAF)]
    hashes: Annotated[tuple[bytes, ...], several(octets(HASH_SIZE), of=tuple)]
    note: Annotated[bytes, octets(maximum=heads.MAX_NOTE)]

    def document(self) -> dict[str, Any]:
        """Return it as a server takes it."""
        return {
            "leaf_index": self.index,
            "leaf": b64u(self.leaf),
            "proof": [b64u(one) for one in self.hashes],
            "checkpoint": self.note.decode(),
        }


def _kept(seq: int, shown: _Shown) -> KeptProof:
    proof = shown.proof
    assert proof is not None
    return KeptProof(seq, proof.index, proof.leaf, tuple(proof.hashes), proof.checkpoint.encode())


def find_proof(account: Account, user: bytes) -> KeptProof | None:
    """Return what last showed that a user's chain (16 bytes) was in the key log, if anything is kept of it."""
    row = account.store.get(_PROOF, user)
    return open_row(KeptProof, row, "kept proof") if row else None


def require_dated(account: Account, user: bytes, entry: Entry) -> None:
    """Hold the date of a re-genesis to this device's clock and to the key log, since its delay is counted on that date.

    Raises TrustRefused for one that is still to come, or that lies long before the log took the entry; and as `anchor`
    does. Without a log key only the clock speaks.
    """
    at = entry.header.issued_at
    # By the earlier of both clocks: a server that is ahead shortens nobody's time to object.
    if at > account.api.clock.earliest() + MAX_AHEAD_SECONDS:
        raise TrustRefused(
            "This account was begun again at a date that is still to come: its owner's time to object is not over.",
            way_out="Wait for that date. If it is past, this device's clock is wrong: set it.",
        )
    known = heads.verifier(account)
    if known is None:
        return
    place = _Place(user, entry.seq, entry.hash)
    shown = _advance(account, place, known)
    if shown is None:
        _require_recent(account, place, at)
    elif shown.logged_at > at + LOGGED_BEFORE_SECONDS:
        _require_given_back(account, entry, shown.logged_at)


def _require_given_back(account: Account, entry: Entry, logged_at: int) -> None:
    """Refuse a re-genesis that the log took long after its date, unless a restored backup explains that.

    Then the log's date is no witness of the entry's own. So whoever left office before the officers accepted the backup
    has signed in vain, and the owner's time to object runs again from the day on which the log took it.
    """
    assert isinstance(entry.body, ReGenesis)
    accepted = _excuse(account, entry.header.issued_at, logged_at)
    named = next((one for one in account.policies if one.hash == entry.body.policy_hash), None)
    if accepted is None or named is None or named.policy.version < account.trusted.in_force(accepted.at).policy.version:
        raise TrustRefused(
            "This account was begun again at a date long before its public key log heard of it.",
            way_out="Trust nothing under it, and tell your officers: officers who have left may have signed for it.",
        )
    due = logged_at + named.policy.terms.delay_seconds
    if account.api.clock.earliest() < due:
        day = datetime.fromtimestamp(due, UTC)
        raise TrustRefused(
            "This account was begun again, and that was given back to a server that was put back from a backup: its "
            "owner has time to object once more.",
            way_out=f"Wait until {day:%Y-%m-%d %H:%M} UTC.",
        )


def _excuse(account: Account, at: int, logged_at: int) -> restored.Taken | None:
    """Return what explains that an entry of one date came into the log at a later one: it was lost and given back."""

    def find() -> restored.Taken | None:
        for one in restored.taken(account):
            is_after = one.at - SLACK_SECONDS <= logged_at <= one.at + restored.HEALING_SECONDS
            if at <= one.at + SLACK_SECONDS and is_after:
                return one
        return None

    return find() or (find() if restored.look(account) else None)


def _may_be_late(account: Account, at: int) -> bool:
    """Tell whether an entry of this date (UTC seconds) may have been lost with the log, and be given back just now."""
    return restored.may_be_lost(account, at) or (restored.look(account) and restored.may_be_lost(account, at))


def _require_recent(account: Account, place: _Place, at: int) -> None:
    """Refuse an entry of a date (UTC seconds) that the log has not got although it had ten minutes to take it."""
    clock = account.api.clock
    # Whichever of two clocks is ahead would have every entry look overdue, also one that this device has just made.
    # Which is wrong cannot be known: the ten minutes then begin when the entry is first seen, by our own clock.
    # They do so as well for what a restored backup lost: it is of its own day, and comes into the log again.
    is_overdue = clock.latest() > at + LOGGED_WITHIN_SECONDS
    if is_overdue and not ((clock.is_off or _may_be_late(account, at)) and _is_newly_seen(account, place)):
        raise TrustRefused(
            "The newest entry of this account is not in the public key log, and should have been for long.",
            way_out="Do not rely on its keys. If this goes on, tell your officers: a key may be shown to you alone.",
        )


def _is_newly_seen(account: Account, place: _Place) -> bool:
    """Tell whether this device has seen a head wait for less than ten minutes, and remember since when."""
    now = account.api.clock.now()
    kept = account.store.get(_WAITING, place.user)
    row = Fields(decode(kept.reveal()), "waiting head", (1, 2)) if kept else None
    if row is None or row.octets(1, HASH_SIZE) != place.head:
        account.store.put(_WAITING, place.user, SecretBytes(encode({1: place.head, 2: now})))
        return True
    # Seen in what is the future now: by a clock that was ahead then.
    if row.uint(2) > now + MAX_AHEAD_SECONDS:
        account.store.put(_WAITING, place.user, SecretBytes(encode({1: place.head, 2: now})))
        return True
    return now <= row.uint(2) + LOGGED_WITHIN_SECONDS


def confirm_time(account: Account) -> bool:
    """Tell whether the log's newest head, signed within five minutes, confirms this machine's clock; asks for one.

    Until then nothing is destroyed by its age. Waits for a head for a few seconds when no clock is known to be off: the
    log signs anew for whoever asks. False without a log key, and while the log does not hold this account yet. Raises
    as `anchor` does, and Problem.
    """
    known, clock = heads.verifier(account), account.api.clock
    if known is None or not account.state.chain:
        return False
    place = _find_anchored(account, account.user) or _Place(account.user, account.chain.seq, account.chain.head)

    def attempt() -> bool:
        if clock.confirmed() is None and _advance(account, place, known) is not None and clock.confirmed() is None:
            raise NotYet("The key log shows no head that was signed within five minutes.")
        return clock.confirmed() is not None

    try:
        return wait_for(attempt, 0 if clock.is_off else _FRESH_HEAD_SECONDS)
    except NotYet:
        return False


def _find_anchored(account: Account, user: bytes) -> _Place | None:
    kept = account.store.get(_ANCHOR, user)
    if kept is None:
        return None
    row = Fields(decode(kept.reveal()), "anchor", (1, 2))
    return _Place(user, row.uint(1), row.octets(2, HASH_SIZE))


def _anchored_head(account: Account, user: bytes) -> bytes:
    place = _find_anchored(account, user)
    return place.head if place else b""


@dataclass(frozen=True)
class _Shown:
    """A head that the server shows, proven to hold the entry asked about; its note; the proof from an older head.

    proof: that the entry asked about is in it; None where none was. logged_at: UTC seconds at which it came into the
    log, by the leaf; 0 then.
    """

    checkpoint: Checkpoint
    note: str
    consistency: list[bytes]
    proof: InclusionProof | None = None

    @property
    def logged_at(self) -> int:
        return KeyLogEntry.from_leaf(self.proof.leaf).time if self.proof else 0


def _show(account: Account, place: _Place, known: LogVerifier, old_size: int) -> _Shown | None:
    """Ask for the newest head with the proofs that a chain's entry is in it and that it follows from `old_size`."""
    query = {"seq": str(place.seq)} | ({"old_size": str(old_size)} if old_size else {})
    try:
        answer = account.api.get(f"users/{UUID(bytes=place.user)}/chain/proof", query=query)
    except Problem as problem:
        if problem.status == 404:
            return None
        raise
    note = answer.text("checkpoint", maximum=heads.MAX_NOTE)
    hashes = answer.many_octets("proof", maximum=MAX_PROOF)
    proof = InclusionProof(answer.number("leaf_index"), answer.octets("leaf", maximum=MAX_LEAF), hashes, note)
    try:
        checkpoint = _verified(account, proof, place, known)
    except HoldfastError as error:
        raise TrustRefused(f"The key log does not vouch for this account: {error}.") from error
    account.api.clock.confirm(checkpoint.time)
    consistency = answer.many_octets("consistency", maximum=MAX_PROOF) if "consistency" in answer else []
    return _Shown(checkpoint, note, consistency, proof)


def _verified(account: Account, proof: InclusionProof, place: _Place, known: LogVerifier) -> Checkpoint:
    def checked(by: LogVerifier) -> Checkpoint:
        return verify_chain_entry(
            proof, verifier=by, tenant=account.tenant, user=place.user, seq=place.seq, entry_hash=place.head
        )

    try:
        return checked(known)
    except InvalidSignature:
        # The log's key may have been replaced since this client last asked whose it is.
        tenant.follow_log_keys(account)
        return checked(heads.verifier(account) or known)


def _advance(account: Account, place: _Place, known: LogVerifier) -> _Shown | None:
    """Ask for the newest head, hold it to the one seen last, and keep it.

    Where a backup was put back and officers have accepted that, the log is followed from there on.
    """
    last = heads.kept(account, known)
    shown = _show(account, place, known, last.size if last else 0)
    if shown is None:
        return None
    if last is not None and (error := _find_contradiction(last, shown)):
        if restored.look(account):
            return _advance(account, place, known)
        raise _accused(account, error, account.state.trust.checkpoints[known.name], shown.note) from error.__cause__
    if last is None or shown.checkpoint.size > last.size:
        heads.keep(account, known, shown.note)
    return shown


def _find_contradiction(older: Checkpoint, shown: _Shown) -> ServerRestored | None:
    """Return the refusal of a head that does not follow from an older one, by the proof that came with it; or None."""
    if shown.checkpoint.size < older.size:
        return ServerRestored("The server shows an older key log than it has shown before.", way_out=RESTORED)
    try:
        require_same_log(older, shown.checkpoint, shown.consistency)
    except (Forked, Untrusted) as error:
        # A missing proof is no proof of a split, but the server owes it for any two heads that its key signed.
        found = SplitView(f"The key log shows two histories: {error}.", way_out=RESTORED)
        found.__cause__ = error
        return found
    return None


def _accused(account: Account, error: ServerRestored, ours: str, theirs: str) -> ServerRestored:
    """Keep both notes, show the server the one that it does not have, and return the refusal."""
    what = Contradiction.LOG_FORK if isinstance(error, SplitView) else Contradiction.LOG_ROLLED_BACK
    evidence.keep(account, what, user=account.user, ours=ours.encode(), theirs=theirs.encode())
    restored.tell(account, ours)
    return error


# Gossip


def own_checkpoint(account: Account) -> str:
    """Return the newest head of the key log that this client has accepted, to be put into messages; "" for none."""
    return heads.own(account)


def hear(account: Account, checkpoint_text: str) -> bool:
    """Keep a head that came inside a message, to be compared later; asks nobody, so a transaction may be open.

    Returns False for what the pinned log key has not signed: anybody could raise an alarm with it otherwise.
    """
    known = heads.verifier(account)
    heard = heads.read(account, known, checkpoint_text)
    if known is None or heard is None:
        return False
    if own_checkpoint(account) != checkpoint_text and len(account.store.keys(_GOSSIP)) < _KEEP_GOSSIP:
        name = heard.size.to_bytes(8, "big") + heard.root
        account.store.put(_GOSSIP, name, SecretBytes(checkpoint_text.encode()))
    return True


def compare_heard(account: Account) -> int:
    """Compare every head kept by `hear`; returns how many were. Raises as compare_gossip does, but for NotYet.

    What cannot be compared yet is kept for the next call.
    """
    compared = 0
    for name in account.store.keys(_GOSSIP):
        kept = account.store.get(_GOSSIP, name)
        assert kept is not None
        try:
            compare_gossip(account, kept.reveal().decode())
        except NotYet:
            break
        except SplitView:
            # It is kept as evidence now; kept here as well, it would end every later comparison.
            account.store.delete(_GOSSIP, name)
            raise
        account.store.delete(_GOSSIP, name)
        compared += 1
    return compared


def compare_gossip(account: Account, checkpoint_text: str) -> bool:
    """Hold a head that a peer has seen against the one seen here. Returns False for a head that says nothing.

    Raises SplitView, after keeping both, when they are not of one log; TrustRefused when the server gives no proof
    either way; NotYet while the log holds no entry of this account, which is only minutes old. Heads of one size are
    compared here; of two sizes, the server is asked for the proof between them.
    """
    known = heads.verifier(account)
    heard = heads.read(account, known, checkpoint_text)
    if known is None or heard is None:
        return False
    last = heads.kept(account, known)
    if last is None:
        # Nothing was seen yet that it could contradict: what is asked for from now on must follow from it.
        account.state.trust.checkpoints[known.name] = checkpoint_text
        account.save()
    elif heard.size == last.size:
        error = _find_contradiction(last, _Shown(heard, checkpoint_text, []))
        if error and restored.look(account):
            # Either of both may be of the past that officers gave up: it is known now, and compared by that.
            return compare_gossip(account, checkpoint_text)
        if error and not restored.explains(account, known, heard):
            ours = account.state.trust.checkpoints[known.name]
            raise _accused(account, error, ours, checkpoint_text) from error.__cause__
    elif heard.size:
        _compare_sizes(account, known, heard, checkpoint_text)
    return True


def _compare_sizes(account: Account, known: LogVerifier, heard: Checkpoint, text: str) -> None:
    """Connect the head heard of with the server's newest, and that one with what was seen here."""
    # An entry that the log is known to hold: the newest one may have been made a moment ago, and is not in it then.
    anchored = _find_anchored(account, account.user)
    place = anchored or _Place(account.user, account.chain.seq, account.chain.head)

    def attempt() -> None:
        newest = _advance(account, place, known)
        if newest is None:
            if anchored and not (restored.look(account) or restored.is_healing(account)):
                restored.tell(account, own_checkpoint(account))
                denies = "The key log denies an entry of your account that it held before."
                raise ServerRestored(denies, way_out=RESTORED)
            if not anchored:
                _require_recent(account, place, account.chain.time)
            raise NotYet("The key log does not hold your account yet.", way_out="Try again in a minute.")
        if newest.checkpoint.size < heard.size:
            seen_more = SplitView("A contact has seen more of the key log than the server shows you.", way_out=RESTORED)
            if restored.explains(account, known, heard):
                return
            evidence.keep(
                account,
                Contradiction.LOG_ROLLED_BACK,
                user=account.user,
                ours=text.encode(),
                theirs=newest.note.encode(),
            )
            restored.tell(account, text)
            raise seen_more
        shown = _show(account, place, known, heard.size)
        if shown is None or shown.checkpoint.size != newest.checkpoint.size:
            raise Overtaken  # the log grew in between
        if error := _find_contradiction(newest.checkpoint, shown):
            raise _accused(account, error, newest.note, shown.note) from error.__cause__
        if (error := _find_contradiction(heard, shown)) and not restored.explains(account, known, heard):
            raise _accused(account, error, text, newest.note) from error.__cause__

    retry(attempt, lost=RaceLost("The key log grew faster than it could be compared."))


# The own chain


def remember_made(account: Account, entries: Sequence[Entry]) -> None:
    """Remember entries as made by this device, before they are sent."""
    with account.store.transaction():
        for entry in entries:
            account.store.put(_MADE, entry.hash, SecretBytes(entry.seq.to_bytes(4, "big")))
        for name in account.store.keys(_MADE)[:-_KEEP_MADE]:
            account.store.delete(_MADE, name)


def watch(account: Account, known: int, fresh: Sequence[bytes]) -> None:
    """Keep, for the person to see, which fresh entries of their own chain this device did not make.

    known: how many were known before; what stood there when this device first looked is not news, nor is that this
    device itself was added, which it asked for.
    """
    if not known:
        return
    for encoded in fresh:
        entry = Entry.parse(encoded)
        asked_for = isinstance(entry.body, AddDevice) and entry.body.device == account.device.id
        if not asked_for and account.store.get(_MADE, entry.hash) is None:
            account.store.put(_FOREIGN, entry.seq.to_bytes(4, "big"), SecretBytes(encoded))


def foreign_entries(account: Account) -> list[ForeignEntry]:
    """Return the entries of one's own chain that this device did not make, oldest first, until they are put away."""
    found = []
    for name in account.store.keys(_FOREIGN):
        kept = account.store.get(_FOREIGN, name)
        assert kept is not None
        entry = Entry.parse(kept.reveal())
        by = UUID(bytes=entry.header.device) if entry.header.device else None
        found.append(ForeignEntry(entry.seq, type(entry.body).__name__, by, entry.header.issued_at))
    return found


def put_away_seen(account: Account, *entries: ForeignEntry) -> None:
    """Strike out entries that the person has looked at and recognised."""
    for entry in entries:
        account.store.delete(_FOREIGN, entry.seq.to_bytes(4, "big"))
