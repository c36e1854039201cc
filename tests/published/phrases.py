# SPDX-License-Identifier: Apache-2.0
"""Recovery phrases in every language, what people type instead, what is refused, and the keys that they hold."""

from __future__ import annotations

import unicodedata

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.vault.phrase_door import recovery_key
from tests.cast.statements import ACME, ALICE, MALLORY

ENTROPY = SecretBytes(bytes(range(200, 232)))
PASSPHRASE = "a café"


def write() -> dict[str, object]:
    """Make the file; the same each time."""
    return {
        "page": "docs/formats/doors.md",
        "phrases": [_phrase(language) for language in Language],
        "refused": [{"why": why, "text": text} for why, text in _refused().items()],
        "recovery_keys": [
            _recovery(kind, user, passphrase)
            for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)
            for user in (ALICE, MALLORY)
            for passphrase in (None, PASSPHRASE)
        ],
    }


def _phrase(language: Language) -> dict[str, object]:
    words = Phrase(ENTROPY, language).words()
    typed = [
        "\t".join(words),
        "\u3000".join(words),
        f"\n{' '.join(words)}\u00a0",
        " ".join(words).upper(),
        unicodedata.normalize("NFC", " ".join(words)),
        unicodedata.normalize("NFD", " ".join(words)),
        "".join(one for one in unicodedata.normalize("NFKD", " ".join(words)) if unicodedata.category(one) != "Mn"),
    ]
    return {
        "language": language.value,
        "entropy": ENTROPY.reveal().hex(),
        "text": Phrase(ENTROPY, language).text().reveal().decode(),
        "typed": typed,
    }


def _refused() -> dict[str, str]:
    words = list(Phrase(ENTROPY).words())
    swapped = [words[1], words[0], *words[2:]]
    wrong = ["zoo" if words[0] != "zoo" else "zone", *words[1:]]
    return {
        "nothing": "",
        "one word": words[0],
        "23 words": " ".join(words[:23]),
        "25 words": " ".join([*words, words[0]]),
        "12 words with a right checksum": "abandon " * 11 + "about",
        "18 words with a right checksum": "abandon " * 17 + "agent",
        "two words in each other's place": " ".join(swapped),
        "one word for another": " ".join(wrong),
        "a word of no list": " ".join(["abandom", *words[1:]]),
        "a word cut to three letters": " ".join([words[0][:3] + "q", *words[1:]]),
        "a combining mark for a word": " ".join(["\u0301", *words[1:]]),
        "two languages mixed": " ".join([*words[:12], *Phrase(ENTROPY, Language.CZECH).words()[12:]]),
    }


def _recovery(kind: KeyKind, user: bytes, passphrase: str | None) -> dict[str, object]:
    given = SecretBytes(passphrase.encode()) if passphrase is not None else None
    key = recovery_key(Phrase(ENTROPY), tenant=ACME, user=user, kind=kind, passphrase=given)
    return {
        "entropy": ENTROPY.reveal().hex(),
        "tenant": ACME.hex(),
        "user": user.hex(),
        "type_byte": int(kind),
        "passphrase": passphrase,
        "seed": key.seed().reveal().hex(),
        "public": key.public.encoded.hex(),
    }
