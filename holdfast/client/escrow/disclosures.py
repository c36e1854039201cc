# SPDX-License-Identifier: Apache-2.0
"""Disclosures: another person's archive keys as a case opened them, until its end; each file opened is a signed line.

Implements ESCROW "Case" (a recipient who is not the subject), docs/formats/custody.md, and the rows of profile.md.
These keys stand apart from the person's own: they are in no vault, and encrypt nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import NotPossible, damaged
from holdfast.client.escrow import archive
from holdfast.client.escrow.archive import Advance, FileDone
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.base.rows import flag, nested, octets, open_row, seal_row, secret, several, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.archive import read_prefix
from holdfast.core.escrow.custody import (
    MAX_LINES,
    MAX_TEXT,
    CustodyLine,
    Manifest,
    OpenedFile,
    read_manifest,
    write_manifest,
)
from holdfast.core.identity.cases import Case
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement
from holdfast.files import whole_file

_KIND: Final = "disclosure"
_KEYS: Final = "disclosed-keys"
_LINE: Final = "custody-line"
_WRITTEN: Final = "disclosure-written"
# In one profile, those that have ended among them until their person forgets them: what is written here is evidence,
# and no program throws it away by itself.
MAX_KEPT: Final = 1000
_HASHED_AT_ONCE: Final = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Disclosure:
    """What one case disclosed: whose archive (16 bytes), which generations, until when; times in UTC seconds.

    case, device: the statements as signed. lines, last: how many lines the manifest has, and the hash of the newest.

    latest: when that was written; before the first, when the keys were opened. is_ended: the keys are destroyed.
    """

    ROW_SIZE: ClassVar = MAX_BLOB

    case_id: bytes
    subject: Annotated[bytes, octets(16)]
    ends_at: Annotated[int, uint()]
    generations: Annotated[list[int], several(uint())]
    case: Annotated[bytes, octets()]
    device: Annotated[bytes, octets()]
    latest: Annotated[int, uint()]
    lines: Annotated[int, uint()] = 0
    last: Annotated[bytes, octets(0, 32)] = b""
    is_ended: Annotated[bool, flag()] = False

    @property
    def files(self) -> int:
        """How many files were opened. The line that closes the manifest names none."""
        return self.lines - self.is_ended


@dataclass(frozen=True)
class _Keys:
    """The archive keys, and the key that signed the case: lines are signed by it, whatever key the device has now."""

    ROW_SIZE: ClassVar = MAX_BLOB

    signing_seed: Annotated[SecretBytes, secret(32)]
    opened: Annotated[list[Generation], several(nested(Generation, "disclosed key"))] = field(default_factory=list)

    def of(self, generation: int) -> Generation | None:
        """Return the key of one generation, if the case opened it."""
        return next((one for one in self.opened if one.number == generation), None)


def require_room(account: Account) -> None:
    """Raise NotPossible when this profile keeps as many disclosures as it may."""
    if len(account.store.keys(_KIND)) >= MAX_KEPT:
        raise NotPossible(
            f"This profile keeps {MAX_KEPT} disclosures already.",
            way_out="Write the manifests of those that have ended (holdfast archive custody), then forget them: "
            "holdfast archive disclosures --forget CASE",
        )


def keep(account: Account, statement: Sign1, opened: Sequence[Generation]) -> Disclosure:
    """Keep what a case opened of another person's archive. In the caller's transaction, if there is one."""
    case = Case.from_payload(statement.payload)
    made = Disclosure(
        case_id=case.case_id,
        subject=case.subject,
        ends_at=case.disclosed_until,
        generations=[generation.number for generation in opened],
        case=statement.encode(),
        device=account.device.statement,
        latest=account.clock.earliest(),
    )
    with account.store.transaction():
        account.store.put(_KEYS, case.case_id, seal_row(_Keys(account.device.signing_seed, list(opened))))
        account.store.put(_KIND, case.case_id, seal_row(made))
    return made


def list_disclosures(account: Account) -> list[Disclosure]:
    """Return every disclosure of this profile, in the order in which they were collected, ended ones too."""
    return [_load(account, case_id) for case_id in account.store.keys(_KIND)]


def decrypt_file(
    account: Account, case_id: bytes, source: Path, target: Path, *, advance: Advance = lambda _done: None
) -> FileDone:
    """Decrypt a file of somebody else's archive by what a case disclosed, after a line of the manifest was written.

    The line is on the disk before the first byte of the plaintext is: a line without a file can come of a crash, a
    file without a line cannot. Raises NotPossible after the end, and for a file that this case does not open;
    TrustRefused for a changed one; NameTaken and FileFailed.
    """
    watch = archive.Stopwatch()
    kept = _require_usable(account, case_id)
    keys = _load_keys(account, case_id)
    try:
        with source.open("rb") as file:
            prefix = archive.read_start(file)
            header, _ = read_prefix(prefix)
            found = keys.of(header.generation)
            if (header.tenant, header.user) != (account.tenant, kept.subject) or found is None:
                numbers = ", ".join(map(str, kept.generations))
                raise NotPossible(
                    "This case does not open that file.",
                    way_out=f"It opens generations {numbers} of the archive of {UUID(bytes=kept.subject)}.",
                )
            rest = _noted(account, kept, keys, file, len(prefix))
            size = archive.decrypt_rest(prefix, rest, target, archive_key=found.key, advance=advance)
    except HoldfastError as error:
        raise archive.not_decrypted(error) from error
    return FileDone(header.generation, size, watch.seconds)


def _noted(account: Account, kept: Disclosure, keys: _Keys, file: BinaryIO, start: int) -> Iterator[bytes]:
    """Give the pieces of a record after its line was written, and only as long as they are the bytes of that line.

    Nothing of this runs before the target is known to be free and the key to be the record's: `decrypt_segments` asks
    for the first piece then.
    """
    digest, size = _hash(file)
    _write_line(account, kept, keys, (digest, size))
    file.seek(0)
    seen = hashlib.sha256(file.read(start))
    for piece in archive.pieces(file):
        seen.update(piece)
        yield piece
    if seen.digest() != digest:
        raise Untrusted("it was changed while it was read")


def _hash(file: BinaryIO) -> tuple[bytes, int]:
    file.seek(0)
    seen, size = hashlib.sha256(), 0
    while chunk := file.read(_HASHED_AT_ONCE):
        seen.update(chunk)
        size += len(chunk)
    return seen.digest(), size


def _write_line(account: Account, kept: Disclosure, keys: _Keys, opened: tuple[bytes, int] | None = None) -> Disclosure:
    """Add a line, dated now, durably. opened: SHA-256 and size of a file; without one it closes the manifest."""
    # The last place is the closing line's.
    if opened and kept.lines + 1 >= MAX_LINES:
        raise NotPossible(
            f"The manifest of this case is full: it has opened {kept.files} files.",
            way_out="Read the rest in another case: holdfast recover escrow open",
        )
    device = DeviceStatement.from_payload(Sign1.parse(kept.device).payload)
    # No earlier than the line before: a clock that was set back since orders nothing anew.
    now = max(account.clock.earliest(), kept.latest)
    line = CustodyLine(
        header=Header(account.tenant, account.user, device.header.device, now),
        case_hash=Sign1.parse(kept.case).payload_hash,
        seq=kept.lines + 1,
        previous=kept.last,
        files=(OpenedFile(opened[0], now, opened[1]),) if opened else (),
    )
    key = SigningKey.from_seed(device.suite.signing_kind, keys.signing_seed)
    signed = sign(line.to_payload(), purpose=Purpose.CUSTODY, key=key)
    grown = replace(kept, lines=line.seq, last=signed.payload_hash, latest=now, is_ended=opened is None)
    with account.store.transaction():
        account.store.put(_LINE, _line_key(kept.case_id, line.seq), SecretBytes(signed.encode()))
        account.store.put(_KIND, kept.case_id, seal_row(grown))
        if grown.is_ended:
            account.store.delete(_KEYS, kept.case_id)
    return grown


def write_file(account: Account, case_id: bytes, target: Path) -> Disclosure:
    """Write the custody manifest of a disclosure to a new file, as docs/formats/custody.md has it.

    Raises NameTaken instead of overwriting, FileFailed.
    """
    kept = _load(account, case_id)
    with whole_file(target) as out:
        out.writelines(write_manifest(Sign1.parse(kept.device), Sign1.parse(kept.case), _lines(account, kept)))
    account.store.put(_WRITTEN, case_id, SecretBytes(kept.last))
    return kept


def read_file(source: Path) -> Manifest:
    """Read and verify a custody manifest, on any machine. Raises Malformed and Untrusted as `read_manifest` does."""
    with source.open("rb") as file:
        # A line longer than any is cut here, and refused there.
        return read_manifest(iter(lambda: file.readline(MAX_TEXT), b""))


def _lines(account: Account, kept: Disclosure) -> Iterator[Sign1]:
    for seq in range(1, kept.lines + 1):
        line = account.store.get(_LINE, _line_key(kept.case_id, seq))
        if line is None:
            raise damaged("a line of a custody manifest is missing")
        yield Sign1.parse(line.reveal())


def end(account: Account, case_id: bytes) -> Disclosure:
    """Destroy the keys of a disclosure, and close its manifest. The manifest stays. Done once, however often asked."""
    kept = _load(account, case_id)
    return kept if kept.is_ended else _write_line(account, kept, _load_keys(account, case_id))


def end_due(account: Account) -> list[Disclosure]:
    """End the disclosures whose time is over; returns them."""
    due = [kept for kept in list_disclosures(account) if not kept.is_ended and _is_over(account, kept)]
    return [end(account, kept.case_id) for kept in due]


def forget(account: Account, case_id: bytes) -> None:
    """Take an ended disclosure and its manifest out of the profile.

    Raises NotPossible for one that has not ended, and for one whose manifest was not written to a file since it has.
    """
    kept = _load(account, case_id)
    if not kept.is_ended:
        raise NotPossible(
            "This disclosure has not ended: its keys are still here.",
            way_out=f"End it first: holdfast archive disclosures --end {UUID(bytes=case_id)}",
        )
    written = account.store.get(_WRITTEN, case_id)
    if written is None or written.reveal() != kept.last:
        raise NotPossible(
            "The manifest of this disclosure lies in this profile alone: it is evidence, and would be gone.",
            way_out=f"Write it to a file first: holdfast archive custody {UUID(bytes=case_id)} --out FILE",
        )
    with account.store.transaction():
        for seq in range(1, kept.lines + 1):
            account.store.delete(_LINE, _line_key(case_id, seq))
        account.store.delete(_WRITTEN, case_id)
        account.store.delete(_KIND, case_id)


def _require_usable(account: Account, case_id: bytes) -> Disclosure:
    kept = _load(account, case_id)
    if not kept.is_ended and _is_over(account, kept):
        kept = end(account, case_id)
    if not kept.is_ended and account.clock.latest() >= kept.ends_at:
        raise NotPossible(
            f"By the clocks at hand this disclosure has ended ({day(kept.ends_at)}).",
            way_out="Its keys are destroyed once that is sure: holdfast maintain. If this machine's clock is wrong, "
            "set it.",
        )
    if kept.is_ended:
        raise NotPossible(
            f"This disclosure has ended ({day(min(kept.ends_at, kept.latest))}), and its keys are destroyed.",
            way_out="Its manifest stays: holdfast archive custody. To read on, ask anew: holdfast recover escrow open",
        )
    return kept


def _is_over(account: Account, kept: Disclosure) -> bool:
    # By a confirmed time alone, since nothing brings the keys back. Until then the later of the clocks there are is
    # enough to open nothing with them.
    now = account.clock.confirmed()
    return now is not None and now >= kept.ends_at


def day(at: int) -> str:
    """Return a date for people, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _load(account: Account, case_id: bytes) -> Disclosure:
    kept = account.store.get(_KIND, case_id)
    if kept is None:
        raise NotPossible(
            "This profile has no disclosure of that case.", way_out="See those there are: holdfast archive disclosures"
        )
    try:
        return open_row(Disclosure, kept, "disclosure", case_id=case_id)
    except Malformed as error:
        raise damaged(error) from error


def _load_keys(account: Account, case_id: bytes) -> _Keys:
    kept = account.store.get(_KEYS, case_id)
    if kept is None:
        raise damaged("the keys of a disclosure are missing")
    try:
        return open_row(_Keys, kept, "disclosed keys")
    except Malformed as error:
        raise damaged(error) from error


def _line_key(case_id: bytes, seq: int) -> bytes:
    return case_id + seq.to_bytes(4, "big")
