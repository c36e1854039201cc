# SPDX-License-Identifier: Apache-2.0
"""Both logs as an officer sees them before signing about them: their heads, and one leaf of the audit log, proven.

Implements PROTOCOL section 8 for `resolution`: heads hold by the pinned log key, leaves by their proof, nothing by the
server's word. Does not keep a head: what is to be remembered, `auditor` remembers.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.client.errors import AnswerRefused, ProfileError, TrustRefused, WrongInput
from holdfast.client.identity import heads, restored
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import require_same_log
from holdfast.core.log.log_entry import BodyValue, LogEntry
from holdfast.core.log.merkle import HASH_SIZE, MAX_PROOF, leaf_hash, verify_consistency, verify_inclusion

_MAX_NOTE: Final = 4096  # bytes: a head is 300, with room for a dozen witnesses
NAMES: Final = {heads.AUDIT: "audit log", heads.KEYS: "log of keys"}
_A: Final = {heads.AUDIT: "an audit log", heads.KEYS: "a log of keys"}
_TILE: Final = 256  # leaf hashes of one tile: C2SP tlog-tiles
# Texts in an entry's body that could as well be bytes: each doubles the readings that are tried. No tag has as many.
_MOST_TEXTS: Final = 10


@dataclass(frozen=True)
class Head:
    """A head of a log (`audit` or `keys`) that the pinned key signed.

    seen: entries of the head that this profile remembers, or 0. warning: why it is not the log seen before, or "".
    """

    log: str
    checkpoint: Checkpoint
    seen: int
    warning: str

    @property
    def name(self) -> str:
        """What the log is called, as words in a sentence."""
        return NAMES[self.log]


@dataclass(frozen=True)
class Leaf:
    """One leaf, proven to be in the log. hash: RFC 6962 leaf hash. entry: what it says, by bytes that give this hash.

    told: what the server says of it where no such bytes were found, which proves nothing.
    """

    index: int
    hash: bytes
    entry: LogEntry | None
    told: str


def head(account: Account, log: str = heads.AUDIT) -> Head:
    """Fetch the newest head of a log, and hold it to the pinned log key and to the head that this profile remembers.

    Raises ProfileError without a pinned log key, TrustRefused for a head that this key has not signed. A head that
    does not follow the one remembered is returned with a warning: to accept such a log is what a resolution may be for.
    Once officers have accepted it there is none, and where they have not the server is shown the head that it lacks.
    """
    known = _verifier(account, log)
    note = account.api.get("audit/checkpoint", query={"log": log}).text("note", maximum=_MAX_NOTE)
    try:
        found = known.open_checkpoint(note)
        kept = account.state.trust.checkpoints.get(known.name)
        seen = known.open_checkpoint(kept) if kept else None
    except HoldfastError as error:
        raise TrustRefused(f"The head of the log does not hold: {error}.") from error
    warning = _warning(account, log, seen, found) if seen else ""
    if warning and restored.look(account, log):
        return head(account, log)
    if warning and kept:
        restored.tell(account, kept)
    return Head(log, found, seen.size if seen else 0, warning)


def leaf(account: Account, index: int) -> Leaf:
    """Fetch one leaf's hash with the proof that it is in the log, and what it says.

    Raises WrongInput for an index that no signed head covers, TrustRefused when the log is not the one seen before
    or the proof does not hold.
    """
    found = head(account)
    if found.warning:
        raise TrustRefused(found.warning, way_out=_ALARM)
    checkpoint = found.checkpoint
    if index >= checkpoint.size:
        raise WrongInput(f"The log has {checkpoint.size} entries: the last one is {checkpoint.size - 1}.")
    hashed = _hash_at(account, index)
    query = {"log": "audit", "index": str(index), "size": str(checkpoint.size)}
    proof = account.api.get("audit/proof", query=query).many_octets("proof", maximum=MAX_PROOF)
    try:
        verify_inclusion(hashed, index=index, size=checkpoint.size, proof=proof, expected_root=checkpoint.root)
    except HoldfastError as error:
        raise TrustRefused(f"The server's proof of entry {index} does not hold: {error}.") from error
    return _read(account, index, hashed)


def require_past(account: Account, found: Head, *, size: int, root: bytes) -> None:
    """Raise TrustRefused unless the log with this head had this root at this size."""
    checkpoint = found.checkpoint
    if size > checkpoint.size:
        raise TrustRefused(
            f"The server's {NAMES[found.log]} has {checkpoint.size} entries, and this is about a log of {size}.",
            way_out=_ALARM,
        )
    proof = _consistency(account, found.log, size, checkpoint.size)
    try:
        if size:
            verify_consistency(
                old_size=size, old_root=root, size=checkpoint.size, new_root=checkpoint.root, proof=proof
            )
    except HoldfastError as error:
        raise TrustRefused(
            f"The server's {NAMES[found.log]} never had this root at {size} entries: {error}.", way_out=_ALARM
        ) from error


_ALARM: Final = "Do not sign. Show this to the other officers and to your auditor, with what this profile remembers."


def _verifier(account: Account, log: str) -> LogVerifier:
    known = heads.verifier(account, log)
    if known is None:
        raise ProfileError(
            "This profile has no log key pinned, so it cannot tell the log from a false one.",
            way_out="Enrol with a code that carries it, made by: holdfast officer code",
        )
    return known


def _warning(account: Account, log: str, seen: Checkpoint, found: Checkpoint) -> str:
    if found.size < seen.size:
        return (
            f"This profile has seen {_A[log]} of {seen.size} entries, and the server's has {found.size}: "
            f"{seen.size - found.size} entries are gone."
        )
    try:
        require_same_log(seen, found, _consistency(account, log, seen.size, found.size))
    except HoldfastError as error:
        return f"The server's {NAMES[log]} is not the one that this profile has seen: {error}."
    return ""


def _consistency(account: Account, log: str, old: int, new: int) -> list[bytes]:
    if not 0 < old < new:
        return []
    query = {"log": log, "from": str(old), "to": str(new)}
    return account.api.get("audit/proof", query=query).many_octets("proof", maximum=MAX_PROOF)


def _hash_at(account: Account, index: int) -> bytes:
    tile = b"".join(account.api.download(f"tiles/audit/0/{index // _TILE}", maximum=_TILE * HASH_SIZE))
    at = index % _TILE * HASH_SIZE
    hashed = tile[at : at + HASH_SIZE]
    if len(hashed) != HASH_SIZE:
        raise AnswerRefused(f"The server's answer is wrong: the tile has no hash of entry {index}.")
    return hashed


def _read(account: Account, index: int, hashed: bytes) -> Leaf:
    answer = account.api.get("audit/entries", query={"before": str(index + 1), "limit": "1"})
    document = next((row for row in answer.many("entries") if row.number("index") == index), None)
    if document is None:
        return Leaf(index, hashed, None, "nothing: the entry is withheld from you, or cannot be read")
    try:
        entries = list(_readings(document))
    except (AnswerRefused, Malformed):
        return Leaf(index, hashed, None, "nothing that could be an entry")
    proven = next((entry for entry in entries if leaf_hash(entry.to_leaf()) == hashed), None)
    return Leaf(index, hashed, proven, "" if proven else f"{entries[0].tag}, by {entries[0].actor}")


def _readings(document: Answer) -> Iterator[LogEntry]:
    """Give every entry that the server's document could stand for: it writes bytes as text, so some texts may be bytes.

    Which of them the log holds, its hash says.
    """
    body = document.one("body").values()
    choices: list[list[tuple[str, BodyValue]]] = []
    for name, value in body.items():
        both: list[tuple[str, BodyValue]] = [(name, value)]
        if isinstance(value, str) and len(choices) < _MOST_TEXTS:
            with contextlib.suppress(Malformed):
                both.append((name, unb64u(value)))
        choices.append(both)
    for fields in itertools.product(*choices):
        try:
            entry = LogEntry(
                entry_id=document.identifier("id"),
                tag=document.text("tag"),
                actor=document.text("actor"),
                person=document.identifier("person") if "person" in document else b"",
                subject=document.text("subject"),
                time=document.time("time"),
                body=dict(fields),
            )
            entry.to_leaf()
        except ValueError:
            continue
        yield entry
