# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes, passwords, words and digits: what people type or paste, and what is read of it."""

from __future__ import annotations

import textwrap

from holdfast.core.base import typed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode

ID = bytes(range(16))
HASH = bytes(range(32))
CODES = (
    EnrolmentCode(ID, ID[::-1], SecretBytes(bytes(range(16, 32)))),
    EnrolmentCode(ID, ID[::-1], SecretBytes(bytes(range(16, 32))), HASH, "holdfast/acme/audit+00000000+AAAA"),
    EnrolmentCode(ID, ID[::-1], SecretBytes(bytes(range(16, 32))), founding_root=HASH),
)
PASSWORDS = (
    "correct horse battery", "\ufeffcorrect horse battery\r", " correct\u00a0horse battery\u200b",
    "Gr\u00f6\u00dfe n\u00e9e \ufb01anc\u00e9e 123456", "Gro\u0308\u00dfe ne\u0301e fiance\u0301e 123456",
    "\u201ccorrect\u201d horse \u2013 battery", "cor\u00adrect horse battery",
    "\u0645\u06cc\u200c\u0631\u0648\u0645 horse battery",
)  # fmt: skip
LISTS = (
    "1. abandon 2. ability 3. able", "1) abandon\r\n2) ability\r\n3) able\r\n", "abandon, ability, able.",
    "\u200eabandon\u200bability\u200bable", "aban\u00addon ability able", "\u2460 ABANDON \u2461 Ability \u2462 able",
)  # fmt: skip
NUMBERS = (
    "1234 5678",
    "1234-5678.",
    "\u0661\u0662\u0663\u0664 \u0665\u0666\u0667\u0668",
    "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
)


def write() -> dict[str, object]:
    """Make the file; the same each time."""
    return {
        "page": "docs/formats/typed.md",
        "enrolment_codes": [_code(code) for code in CODES],
        "refused_codes": _refused(CODES[1].text()),
        "passwords": [{"typed": text, "canonical": typed.password(text)} for text in PASSWORDS],
        "words": [{"typed": text, "words": typed.words(text, "words")} for text in LISTS],
        "numbers": [{"typed": text, "ungrouped": typed.ungrouped(text)} for text in NUMBERS],
    }


def _code(code: EnrolmentCode) -> dict[str, object]:
    text = code.text()
    lines = textwrap.wrap(text, 76, break_on_hyphens=False)
    return {
        "tenant": code.tenant.hex(),
        "person": code.person.hex(),
        "secret": code.secret.reveal().hex(),
        "root_pin": code.root_pin.hex(),
        "log_vkey": code.log_vkey,
        "founding_root": code.founding_root.hex(),
        "text": text,
        "typed": [
            "\r\n".join(lines), f"\ufeff\r\n{text}\r\n", "".join(f"> {line}\n" for line in lines),
            f"Your code: {text}.",
            text.replace("-", "\u2011"), text[:9] + "\u200b" + text[9:],
        ],
    }  # fmt: skip


def _refused(text: str) -> list[str]:
    other = {at: "A" if text[at] != "A" else "B" for at in (5, 60, len(text) - 1)}
    slips = [text[:at] + sign + text[at + 1 :] for at, sign in other.items()]
    return ["", "hf2.", text[:-1], f"{text}A", text.removeprefix("hf2."), "hf1." + text[4:], *slips]
