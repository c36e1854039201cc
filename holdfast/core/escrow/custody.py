# SPDX-License-Identifier: Apache-2.0
"""The custody manifest of a disclosure: which files it opened, line after line, signed by the device that received it.

Implements ESCROW "Case" (disclosure) and docs/formats/custody.md. Each line names the one before it, so that one left
out, put in or moved shows. It opens nothing: a client writes a line before it hands a file out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from holdfast.core.base.encoding import MAX_STATEMENT, Fields, b64u, unb64u
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.identity.cases import Case
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    Header,
    close_payload,
    open_payload,
    require_device,
)
from holdfast.core.signed.statements import DeviceStatement

# The first line of the file: a reader of another version stops here instead of calling the manifest broken.
FORMAT: Final = b"holdfast/v1/custody-manifest\n"
MAX_FILES: Final = 128  # in one line: 50 bytes each, well within the 16 KiB of a statement
MAX_LINES: Final = 100_000  # in one manifest, 40 MB as text; a larger archive is read in two cases
MAX_TEXT: Final = (MAX_STATEMENT * 4 + 2) // 3 + 1  # bytes: the longest line of the file, ended


@dataclass(frozen=True)
class OpenedFile:
    """A file that was opened: SHA-256 of its bytes as they lie in the archive, UTC seconds, and how many bytes."""

    digest: bytes
    time: int
    size: int


@dataclass(frozen=True)
class CustodyLine:
    """One line: files opened by the case whose statement hashes to `case_hash` (q).

    seq: from 1 on. previous: the hash of the line before, b"" in the first. files: none in the line that closes the
    manifest, when the keys were destroyed.
    """

    PURPOSE: ClassVar = Purpose.CUSTODY

    header: Header
    case_hash: bytes
    seq: int
    previous: bytes
    files: tuple[OpenedFile, ...] = ()

    @property
    def closes(self) -> bool:
        """Whether this line says that the keys were destroyed: none comes after it."""
        return not self.files

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `custody`."""
        return close_payload(
            self.header,
            {
                7: self.case_hash,
                8: self.seq,
                **({9: self.previous} if self.previous else {}),
                10: [[file.digest, file.time, file.size] for file in self.files],
            },
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> CustodyLine:
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "custody line", (7, 8, 10), (9,))
        require_device(header, "custody line")
        rows = [Fields.of_row(row, "custody file", 3) for row in fields.array(10, maximum=MAX_FILES)]
        line = cls(
            header=header,
            case_hash=fields.octets(7, HASH_SIZE),
            seq=fields.uint(8, minimum=1, maximum=MAX_LINES),
            previous=fields.octets(9, HASH_SIZE) if 9 in fields else b"",
            files=tuple(OpenedFile(row.octets(0, HASH_SIZE), row.uint(1), row.uint(2)) for row in rows),
        )
        # A second beginning would hide all that came before it.
        if (line.seq == 1) == bool(line.previous):
            raise fields.refuse(8, "is 1 exactly when no line before is named")
        if any(file.time > header.issued_at for file in line.files):
            raise fields.refuse(10, "names a file that was opened after the line was written")
        return line


@dataclass(frozen=True)
class Manifest:
    """A manifest that holds together: the receiving device, its case, and every line, each as signed and as read."""

    device: Sign1
    case: Sign1
    statements: tuple[Sign1, ...]
    asked: Case
    lines: tuple[CustodyLine, ...]

    @property
    def is_closed(self) -> bool:
        """Whether the keys were destroyed. Before that, lines at the end may be missing or still to come."""
        return bool(self.lines) and self.lines[-1].closes

    @property
    def files(self) -> tuple[OpenedFile, ...]:
        """Every file opened, in order."""
        return tuple(file for line in self.lines for file in line.files)

    def to_lines(self) -> Iterator[bytes]:
        """Give the file, line by line."""
        return write_manifest(self.device, self.case, self.statements)


def write_manifest(device: Sign1, case: Sign1, statements: Iterable[Sign1]) -> Iterator[bytes]:
    """Give a manifest line by line: the format, the device's statement, the case, then the lines in order."""
    yield FORMAT
    for statement in (device, case):
        yield b64u(statement.encode()).encode() + b"\n"
    for statement in statements:
        yield b64u(statement.encode()).encode() + b"\n"


def read_manifest(lines: Iterable[bytes]) -> Manifest:
    """Read and verify a manifest, given line by line, each ended.

    Raises Malformed for another format, and Untrusted, naming the line of the file, for what does not follow: another
    signer than the case's recipient device, a line missing, moved or put in, a file opened after the disclosure ended.
    It proves what that device signed. Whether the case is the organisation's own, q in the audit log says.
    """
    given = iter(lines)
    if next(given, b"") != FORMAT:
        raise Malformed("custody manifest: this file is not one")
    device, case = _statement(given, 2), _statement(given, 3)
    try:
        receiver = DeviceStatement.open(device)
        asked = Case.from_payload(case.verify(receiver.signing_key, purpose=Purpose.CASE))
    except HoldfastError as error:
        raise Untrusted(f"line 3: the case does not hold: {error}") from error
    if (asked.recipient_device_hash, _whose(asked.header)) != (device.payload_hash, _whose(receiver.header)):
        raise Untrusted("line 3: the case was opened by another device")
    if not asked.is_disclosure:
        raise Untrusted("line 3: the subject received this case themselves, so that nothing was disclosed")
    statements: list[Sign1] = []
    read: list[CustodyLine] = []
    for number, text in enumerate(given, 4):
        try:
            statement = _read(text)
            line = CustodyLine.from_payload(statement.verify(receiver.signing_key, purpose=Purpose.CUSTODY))
            _require_next(line, asked, case, statements, read)
        except HoldfastError as error:
            raise Untrusted(f"line {number}: {error}") from error
        statements.append(statement)
        read.append(line)
    return Manifest(device, case, tuple(statements), asked, tuple(read))


def _require_next(
    line: CustodyLine, asked: Case, case: Sign1, statements: list[Sign1], read: list[CustodyLine]
) -> None:
    """Hold a line to its case and to the line before it. Raises Untrusted."""
    if (_whose(line.header), line.case_hash) != (_whose(asked.header), case.payload_hash):
        raise Untrusted("it is of another case or another device")
    if (line.seq, line.previous) != (len(read) + 1, statements[-1].payload_hash if statements else b""):
        raise Untrusted("it does not follow the line before: one is missing, was moved, or was put in")
    if read and (read[-1].closes or line.header.issued_at < read[-1].header.issued_at):
        raise Untrusted("it was written after the manifest was closed, or before the line that it follows")
    if any(file.time >= asked.disclosed_until for file in line.files):
        raise Untrusted("a file was opened after the disclosure ended")


def _whose(header: Header) -> tuple[bytes, bytes, bytes]:
    return header.tenant, header.user, header.device


def _statement(given: Iterator[bytes], number: int) -> Sign1:
    try:
        return _read(next(given, b""))
    except Malformed as error:
        raise Untrusted(f"line {number}: {error}") from error


def _read(text: bytes) -> Sign1:
    if not text.endswith(b"\n"):
        raise Malformed("the line is cut off")
    try:
        return Sign1.parse(unb64u(text[:-1].decode("ascii"), max_size=MAX_STATEMENT))
    except UnicodeDecodeError:
        raise Malformed("the line is not base64url") from None
