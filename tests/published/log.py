# SPDX-License-Identifier: Apache-2.0
"""Signed heads of a log of keys with every proof between them, and proofs that lead nowhere."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject, log_origin
from tests.cast.statements import ACME, ALICE, NOW, hash_of

SIZE: Final = 7  # no power of two, and large enough for a proof that skips a level


def write() -> dict[str, object]:
    """Make the file anew: both keys are fresh."""
    return {
        "page": "docs/formats/key-log.md",
        "tenant": ACME.hex(),
        "user": ALICE.hex(),
        "logs": [_log(SigningKey.generate(kind)) for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)],
    }


def _log(key: SigningKey) -> dict[str, Any]:
    verifier = NoteVerifier(log_origin(str(UUID(bytes=ACME)), "keys"), key.public)
    subject = key_log_subject(ACME, ALICE)
    entries = [KeyLogEntry(1, subject, seq, hash_of(f"entry {seq}"), NOW + seq) for seq in range(SIZE)]
    leaves = [one.to_leaf() for one in entries]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    heads = []
    for size in range(1, SIZE + 1):
        text = Checkpoint(verifier.name, size, merkle.root(hashes[:size]), NOW + size).to_text()
        heads.append(sign_note(text, verifier=verifier, sign=key.sign))
    return {
        "verifier_key": verifier.to_text(),
        "leaves": [
            {"seq": one.seq, "statement_hash": one.statement_hash.hex(), "leaf": leaf.hex()}
            for one, leaf in zip(entries, leaves, strict=True)
        ],
        "checkpoints": heads,
        "inclusion": [
            {"index": index, "size": size, "proof": _hex(merkle.inclusion_proof(hashes[:size], index))}
            for size in range(1, SIZE + 1)
            for index in range(size)
        ],
        "consistency": [
            {"old_size": old, "size": size, "proof": _hex(merkle.consistency_proof(hashes[:size], old))}
            for size in range(1, SIZE + 1)
            for old in range(1, size + 1)
        ],
        "refused_checkpoints": [{"why": why, "note": note} for why, note in _notes(heads[-1], verifier).items()],
        "refused_inclusion": _proofs(hashes),
    }


def _hex(proof: list[bytes]) -> list[str]:
    return [one.hex() for one in proof]


def _proofs(hashes: list[bytes]) -> list[dict[str, Any]]:
    """Proofs for leaf 4 of 7 that do not hold."""
    good = merkle.inclusion_proof(hashes, 4)
    forms = {
        "a hash missing": (4, good[:-1]),
        "a hash more": (4, [*good, bytes(32)]),
        "no hash": (4, []),
        "two hashes exchanged": (4, [good[1], good[0], *good[2:]]),
        "a hash of zeros": (4, [bytes(32), *good[1:]]),
        "another leaf's proof": (4, merkle.inclusion_proof(hashes, 5)),
        "another index": (5, good),
        "an index beyond the log": (SIZE, good),
    }
    return [{"why": why, "leaf": 4, "index": at, "proof": _hex(proof)} for why, (at, proof) in forms.items()]


def _notes(note: str, verifier: NoteVerifier) -> dict[str, str]:
    head, _, signature = note.partition("\n\n")
    lines = head.split("\n")
    other = SigningKey.generate(verifier.key.kind)
    foreign = sign_note(f"{head}\n", verifier=NoteVerifier(verifier.name, other.public), sign=other.sign)

    def said(*changed: str) -> str:
        return "\n".join(changed) + f"\n\n{signature}"

    return {
        "another size": said(lines[0], "8", *lines[2:]),
        "a size with a zero before it": said(lines[0], "07", *lines[2:]),
        "a negative size": said(lines[0], "-7", *lines[2:]),
        "another root": said(lines[0], lines[1], "A" * 43 + "=", *lines[3:]),
        "another time": said(*lines[:3], "time 1"),
        "no time, which was signed": said(*lines[:3]),
        "another log": said(lines[0].replace("keys", "audit"), *lines[1:]),
        "two lines": said(*lines[:2]),
        "another key's signature": foreign,
        "no signature": f"{head}\n",
        "no empty line": note.replace("\n\n", "\n"),
        "another end of line": note.replace("\n", "\r\n"),
        "another dash": note.replace("—", "-"),
        "nothing after the last line": note[:-1],
        "a control character": note.replace("time", "ti\x07me"),
        "empty": "",
    }
