# SPDX-License-Identifier: Apache-2.0
"""What every ceremony did, line by line: a file in the ceremony's directory, each line with the hash of the last.

Implements ORGANISATION "Commands of the operator". One file for the installation and one for each tenant. It is kept by
the operator, of the operator: signed by root and log key it says what they wrote down then, and that nothing of it was
changed since. What a tenant gets of the installation's file leaves out what is of operators' accounts and of others.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final
from uuid import UUID

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from config.ceremonies import CeremonyRefused, ceremony_directory
from config.ceremonies.root import RootSigner, public_key
from holdfast.core.base.text import written_out
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.transcript import transcript_payload
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.files import flush_directory
from hsm import registry
from kernel.files import make_directory
from tenants.models import Tenant

_FIRST: Final = "0" * 64
# The printed form: Courier of 9 points is 5.4 wide, so 90 signs stand between margins of 54 points on A4.
_WIDTH: Final = 90
_MARGIN: Final = 54
_SIZE: Final = 9
_LEADING: Final = 12
# Of the installation's lines, those of these ceremonies name its keys, tokens and accounts of the system. Others name
# operators, or tenants beside each other, and no tenant is shown more than that they were held.
_SHOWN: Final = frozenset({"init", "hand-out"})
_WITHHELD: Final = "not shown here: it is about operators' accounts, or about every tenant"


@dataclass(frozen=True)
class Line:
    """One line as it was written. told: what the operator was told of it, but for what is secret."""

    number: int
    at: int
    ceremony: str
    said: str
    told: tuple[str, ...]


class Transcript:
    """The file of the installation, or of one tenant."""

    def __init__(self, tenant_id: UUID | None = None) -> None:
        self.path: Path = ceremony_directory() / f"transcript-{tenant_id or 'installation'}"

    def write(self, ceremony: str, said: str, told: Sequence[str] = ()) -> None:
        """Add a line, on the disk before this returns. Raises CeremonyRefused when a line of before was changed."""
        body = self.read()
        lines = _lines(body)
        row = {
            "number": len(lines) + 1,
            "at": datetime.fromtimestamp(int(time.time()), UTC).isoformat(),
            "ceremony": ceremony,
            "said": said,
            "told": list(told),
            "before": hashlib.sha256(lines[-1]).hexdigest() if lines else _FIRST,
        }
        make_directory(self.path.parent)
        is_new = not self.path.exists()
        with self.path.open("x+b" if is_new else "r+b") as file:
            os.fchmod(file.fileno(), 0o600)
            # Over the part of a line that a kill left.
            file.seek(len(body))
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            flush_directory(self.path.parent)

    def read(self) -> bytes:
        """Return the whole lines. Raises CeremonyRefused when they do not follow from each other."""
        try:
            body = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        body = body[: body.rfind(b"\n") + 1]
        before = _FIRST
        for number, line in enumerate(_lines(body), start=1):
            try:
                row = json.loads(line)
                is_next = (row["number"], row["before"]) == (number, before)
            except (ValueError, KeyError, TypeError):
                is_next = False
            if not is_next:
                raise CeremonyRefused(
                    f"{self.path} was changed at line {number}: look who did it, or put its backup back."
                )
            before = hashlib.sha256(line).hexdigest()
        return body

    def lines(self) -> list[Line]:
        """Return what was written, oldest first."""
        rows = [json.loads(line) for line in _lines(self.read())]
        return [
            Line(
                row["number"],
                int(datetime.fromisoformat(row["at"]).timestamp()),
                row["ceremony"],
                row["said"],
                tuple(row["told"]),
            )
            for row in rows
        ]


def _lines(body: bytes) -> list[bytes]:
    # By this octet and no other: within a JSON line stand U+2028 and U+0085 as they are, which end a line of text.
    return body.split(b"\n")[:-1]


@dataclass(frozen=True)
class _LogKey:
    public: PublicKey

    def sign(self, data: bytes) -> bytes:
        return registry.log().sign(data)


@dataclass(frozen=True)
class Written:
    """A tenant's transcript as people read it. installation, own: up to which line of each file."""

    text: str
    installation: int
    own: int


def written(tenant: Tenant) -> Written:
    """Return the installation's and a tenant's transcript as people read them, with nothing of other tenants."""
    parts = [f"Ceremonies of Holdfast for {tenant.slug} ({tenant.pk})", ""]
    shared = [
        line if line.ceremony in _SHOWN else replace(line, said=_WITHHELD, told=()) for line in Transcript().lines()
    ]
    own = Transcript(tenant.pk).lines()
    for title, lines in (("The installation", shared), (tenant.slug, own)):
        parts += [title, "-" * len(title)]
        for line in lines:
            at = datetime.fromtimestamp(line.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            said, *told = map(written_out, (line.said, *line.told))
            parts += [f"{line.number:>4}  {at}  {line.ceremony}: {said}", *(f"      {one}" for one in told)]
        parts.append("")
    return Written("\n".join(parts), len(shared), len(own))


def sign(tenant: Tenant, root: RootSigner, said: str) -> bytes:
    """Have root and log key sign a text: the array of two Sign1 whose field 7 is the SHA-256 of its UTF-8."""
    header = Header(tenant=tenant.pk.bytes, user=b"", device=b"", issued_at=int(time.time()))
    payload = transcript_payload(header, said.encode())
    keys = (root, _LogKey(public_key(registry.log().public_key)))
    return cose.encode_many([cose.sign(payload, purpose=Purpose.TRANSCRIPT, key=key) for key in keys])


def pdf(text: str) -> bytes:
    """Return a text as a PDF on A4, for the folder where the papers of a ceremony are. The signed file is the record.

    Signs that its font has not are written as their numbers.
    """
    buffer = BytesIO()
    # The same text gives the same file, whenever it is written.
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    lines = [
        part for line in text.split("\n") for part in textwrap.wrap(line, _WIDTH, subsequent_indent="      ") or [""]
    ]
    per_page = int((A4[1] - 2 * _MARGIN) // _LEADING)
    for start in range(0, len(lines), per_page):
        page = canvas.beginText(_MARGIN, A4[1] - _MARGIN)
        page.setFont("Courier", _SIZE, _LEADING)
        for line in lines[start : start + per_page]:
            page.textLine(line.encode("cp1252", "backslashreplace").decode("cp1252"))
        canvas.drawText(page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()
