# SPDX-License-Identifier: Apache-2.0
"""The manifest of a disclosure of two files, closed, and manifests that nobody may believe."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.custody import CustodyLine, write_manifest
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast.custody import NOW, Custody
from tests.published.mutations import rows

FILES = (b"a letter", b"a plan")
ENDS = NOW + 30 * 86400


def write() -> dict[str, object]:
    """Make the file anew: every key is fresh."""
    world = Custody()
    case = world.sign_case(disclosure_ends=ENDS)
    lines = world.custody_lines(case, *FILES, closes=True)
    whole = list(write_manifest(world.device, case, lines))
    return {
        "page": "docs/formats/custody.md",
        "manifest": b"".join(whole).decode(),
        "q": case.payload_hash.hex(),
        "disclosure_ends": ENDS,
        "subject": world.alice.hex(),
        "device_signing_key": world.recipient_signing.public.encoded.hex(),
        "files": [{"octets": file.hex(), "time": NOW + at} for at, file in enumerate(FILES, 1)],
        "refused": rows({why: b"".join(form) for why, form in _refused(world, case, lines, whole).items()}),
    }


def _refused(world: Custody, case: Sign1, lines: list[Sign1], whole: list[bytes]) -> dict[str, list[bytes]]:
    def signed(line: CustodyLine, key: SigningKey = world.recipient_signing) -> Sign1:
        return cose.sign(line.to_payload(), purpose=Purpose.CUSTODY, key=key)

    def of(*statements: Sign1, head: Sign1 = case) -> list[bytes]:
        return list(write_manifest(world.device, head, statements))

    first, second = (CustodyLine.from_payload(line.payload) for line in lines[:2])
    late = replace(first, header=replace(first.header, issued_at=ENDS), files=(replace(first.files[0], time=ENDS),))
    early = replace(second, header=replace(second.header, issued_at=NOW), files=(replace(second.files[0], time=NOW),))
    own = world.sign_case(subject=world.rita, disclosure_ends=0)
    return {
        "empty": [],
        "another version": [b"holdfast/v2/custody-manifest\n", *whole[1:]],
        "no device": [whole[0], *whole[2:]],
        "no case": [*whole[:2], *whole[3:]],
        "the first line missing": [*whole[:3], *whole[4:]],
        "the second line missing": [*whole[:4], *whole[5:]],
        "two lines exchanged": [*whole[:3], whole[4], whole[3], *whole[5:]],
        "a line twice": [*whole[:4], *whole[3:]],
        "a line after the closing one": of(*lines, signed(replace(second, seq=4, previous=lines[2].payload_hash))),
        "cut within the last line": [*whole[:-1], whole[-1][:-2]],
        "the last line not ended": [*whole[:-1], whole[-1][:-1]],
        "an empty line": [*whole, b"\n"],
        "another end of line": [line[:-1] + b"\r\n" for line in whole],
        "a line signed by another key": of(signed(first, SigningKey.generate())),
        "a line signed for another purpose": of(
            cose.sign(lines[0].payload, purpose=Purpose.VETO, key=world.recipient_signing)
        ),
        "a line of another case": of(signed(replace(first, case_hash=bytes(32)))),
        "a line of another device": of(signed(replace(first, header=replace(first.header, device=bytes(16))))),
        "a line that names another before it": of(lines[0], signed(replace(second, previous=bytes(32)))),
        "a line dated before the one that it follows": of(lines[0], signed(early)),
        "a file opened at the end of the disclosure": of(signed(late)),
        "a case of another device": of(head=world.sign_case(recipient_device_hash=bytes(32))),
        "a case that the subject received": of(head=own),
    }
