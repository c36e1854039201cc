# SPDX-License-Identifier: Apache-2.0
"""Files under an archive key: empty, short, and of more than one segment; and what must not open."""

from __future__ import annotations

from typing import Final

from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.archive import SEGMENT_SIZE, TAG_SIZE, encrypt_segments
from tests.cast.statements import ACME, ALICE
from tests.published.mutations import malformed, rows

KEY: Final = SecretBytes(bytes(range(32)))
GENERATION: Final = 7
MAGIC_AND_LENGTH: Final = 6


def write() -> dict[str, object]:
    """Make the file anew: salts are fresh each time."""
    contents = {"empty": (0, b""), "short": (0, b"a page of hers"), "two segments": (SEGMENT_SIZE, b"and more")}
    made = {name: b"".join(_pieces(bytes(zeros) + content)) for name, (zeros, content) in contents.items()}
    return {
        "page": "docs/formats/archive-record.md",
        "archive_key": KEY.reveal().hex(),
        "owner": {"tenant": ACME.hex(), "user": ALICE.hex(), "generation": GENERATION},
        # A content is so many zeros, and what follows them.
        "records": [
            {"name": name, "zeros": zeros, "content": content.hex(), "octets": made[name].hex()}
            for name, (zeros, content) in contents.items()
        ],
        "refused": rows(_refused(made["short"])),
    }


def _pieces(content: bytes) -> list[bytes]:
    segments = [content[at : at + SEGMENT_SIZE] for at in range(0, len(content), SEGMENT_SIZE)]
    return list(encrypt_segments(segments, archive_key=KEY, tenant=ACME, user=ALICE, generation=GENERATION))


def _refused(octets: bytes) -> dict[str, bytes]:
    end = MAGIC_AND_LENGTH + int.from_bytes(octets[4:6], "big")
    header, body = octets[MAGIC_AND_LENGTH:end], octets[end:]
    other = _pieces(b"a page of hers")
    forms = {
        "another first word": b"HFAQ" + octets[4:],
        "a length of 0": octets[:4] + bytes(2) + octets[6:],
        "a length of 65,535": octets[:4] + b"\xff\xff" + octets[6:],
        "no segment": octets[:end],
        "a segment cut by one byte": octets[:-1],
        "a byte after the segment": octets + b"\0",
        "a bit of the ciphertext": octets[:end] + bytes((body[0] ^ 1,)) + body[1:],
        "a bit of the tag": octets[:-TAG_SIZE] + bytes((octets[-TAG_SIZE] ^ 1,)) + octets[len(octets) - TAG_SIZE + 1 :],
        "the segment twice": octets + body,
        "another record's segment": octets[:end] + other[1],
        "another record's header": other[0] + body,
    }
    for why, form in malformed(header).items():
        forms[f"a header that is {why}"] = octets[:4] + len(form).to_bytes(2, "big") + form + body
    return forms
