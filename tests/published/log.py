# SPDX-License-Identifier: Apache-2.0
"""Signed heads of a log of keys with every proof between them, and proofs that lead nowhere; entries signed by role."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles, WrongLeaf, check_leaf
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry, key_log_subject, log_origin
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from tests.cast.statements import ACME, ALICE, MALLORY_TENANT, NOW, TENANT, hash_of, id_of

SIZE: Final = 7  # no power of two, and large enough for a proof that skips a level


def write() -> dict[str, object]:
    """Make the file anew: both keys are fresh."""
    return {
        "page": "docs/formats/key-log.md",
        "tenant": ACME.hex(),
        "user": ALICE.hex(),
        "logs": [_log(SigningKey.generate(kind)) for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)],
        "audit": _audit(),
    }


def _audit() -> dict[str, Any]:
    """Entries of an audit log under one `roles` statement, with what each must be refused for."""
    root = SigningKey.generate()
    keys = {
        role: SigningKey.generate(KeyKind.P256_SIGNING if role is Role.CEREMONY else KeyKind.ED25519) for role in Role
    }
    ended = SigningKey.generate()  # at the size of 9
    rows = (*(RoleKey(role, key.public) for role, key in keys.items()), RoleKey(Role.WEB, ended.public, 9))
    roles = Roles(TENANT, 1, rows, unsigned=(2, hash_of("head")))
    read = LogEntry(id_of("entry"), "audit:entries:read", "device:x", ALICE, "subject", NOW, {"count": 1, "hash": b"x"})
    made = replace(read, tag="tenants:tenant:create", actor="system:ceremony", person=b"")
    web = read.signed(origin=roles.origin, key=keys[Role.WEB])
    accepted = [
        (0, read, "unsigned, below the pinned size"),
        (2, web, "by the web process"),
        (3, made.signed(origin=roles.origin, key=keys[Role.CEREMONY]), "by the ceremony, on P-256"),
        (8, read.signed(origin=roles.origin, key=ended), "the last by a key that ended"),
    ]
    other = log_origin(str(UUID(bytes=MALLORY_TENANT)), "audit")
    leaf = web.to_leaf()
    refused = {
        "cut by one byte": (2, leaf[:-1]),
        "a byte after it": (2, leaf + b"\0"),
        "unsigned, at the pinned size": (2, read.to_leaf()),
        "by a key that was never named": (2, read.signed(origin=roles.origin, key=SigningKey.generate()).to_leaf()),
        "by a role that may not write this tag": (2, read.signed(origin=roles.origin, key=keys[Role.WORKER]).to_leaf()),
        "by the key that signs heads": (2, read.signed(origin=roles.origin, key=keys[Role.LOG]).to_leaf()),
        "a tag that there is not": (
            2, replace(read, tag="audit:entries:invent").signed(origin=roles.origin, key=keys[Role.WEB]).to_leaf(),
        ),
        "by a key where it has ended": (9, read.signed(origin=roles.origin, key=ended).to_leaf()),
        "signed for another tenant's log": (2, read.signed(origin=other, key=keys[Role.WEB]).to_leaf()),
        "signed for the log of keys": (
            2, read.signed(origin=roles.origin.replace("audit", "keys"), key=keys[Role.WEB]).to_leaf(),
        ),
        "another subject": (2, replace(web, subject="object").to_leaf()),
        "another time": (2, replace(web, time=NOW + 1).to_leaf()),
        "a bit of the signature": (2, leaf[:-1] + bytes((leaf[-1] ^ 1,))),
    }  # fmt: skip
    return {
        "page": "docs/formats/audit-log.md",
        "root": root.public.encoded.hex(),
        "roles": cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=root).encode().hex(),
        "origin": roles.origin,
        "leaves": [{"name": why, "index": at, "leaf": one.to_leaf().hex()} for at, one, why in accepted],
        "refused_leaves": [
            {"why": why, "index": at, "error": _fault(one, at, roles), "leaf": one.hex()}
            for why, (at, one) in refused.items()
        ],
    }


def _fault(leaf: bytes, index: int, roles: Roles) -> str:
    try:
        check_leaf(leaf, index=index, roles=roles)
    except WrongLeaf as error:
        return error.why
    raise AssertionError("a leaf to be refused is not")


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
