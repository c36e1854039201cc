# SPDX-License-Identifier: Apache-2.0
"""A chain entry is in the key log or it is not, and two signed heads are of one log or they are not. FAULTS S16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier, NoteVerifier, sign_note
from holdfast.core.log.key_log import InclusionProof, keys_verifier, require_same_log, verify_chain_entry
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject, log_origin
from tests.cast.statements import ACME, ALICE, MALLORY, MALLORY_TENANT, NOW, hash_of

LOG_KEY = SigningKey.generate()
NAME = log_origin(str(UUID(bytes=ACME)), "keys")
VERIFIER = LogVerifier(NAME, (LOG_KEY.public,))


def leaf(seq: int, *, user: bytes = ALICE, kind: int = 1, said: str = "") -> bytes:
    subject = key_log_subject(ACME, user)
    return KeyLogEntry(kind, subject, seq, hash_of(said or f"entry {seq}"), NOW).to_leaf()


LEAVES = [leaf(seq) for seq in range(7)]


def head(leaves: list[bytes], key: SigningKey = LOG_KEY, name: str = NAME) -> tuple[Checkpoint, str]:
    checkpoint = Checkpoint(name, len(leaves), merkle.root([merkle.leaf_hash(one) for one in leaves]), NOW)
    verifier = NoteVerifier(name, key.public)
    return checkpoint, sign_note(checkpoint.to_text(), verifier=verifier, sign=key.sign)


def proof(index: int, leaves: list[bytes] = LEAVES) -> InclusionProof:
    hashes = merkle.inclusion_proof([merkle.leaf_hash(one) for one in leaves], index)
    return InclusionProof(index, leaves[index], hashes, head(leaves)[1])


def verify(shown: InclusionProof, **changes: Any) -> Checkpoint:
    wanted: dict[str, Any] = {"tenant": ACME, "user": ALICE, "seq": 3, "entry_hash": hash_of("entry 3")} | changes
    return verify_chain_entry(shown, verifier=VERIFIER, **wanted)


def test_entry_is_found_under_the_signed_head_that_holds_it() -> None:
    assert verify(proof(3)) == head(LEAVES)[0]


@pytest.mark.parametrize(
    "changes", [{"user": MALLORY}, {"tenant": MALLORY_TENANT}, {"seq": 2}, {"seq": 2, "entry_hash": hash_of("entry 2")}]
)
def test_leaf_about_anything_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Untrusted, match="something else"):
        verify(proof(3), **changes)


def test_leaf_of_another_type_is_refused() -> None:
    leaves = [*LEAVES[:3], leaf(3, kind=4), *LEAVES[4:]]
    with pytest.raises(Untrusted, match="something else"):
        verify(proof(3, leaves))


def test_another_entry_in_this_place_is_called_a_fork() -> None:
    leaves = [*LEAVES[:3], leaf(3, said="another entry"), *LEAVES[4:]]
    with pytest.raises(Forked, match="another entry"):
        verify(proof(3, leaves))


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 2},
        {"index": 7},
        {"hashes": []},
        {"hashes": [hash_of("x")] * 3},
        {"checkpoint": head(LEAVES[:5])[1]},
    ],
)
def test_proof_that_does_not_lead_to_the_head_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Untrusted):
        verify(replace(proof(3), **changes))


@pytest.mark.parametrize(
    ("note", "error"),
    [
        (head(LEAVES, SigningKey.generate())[1], InvalidSignature),
        (head(LEAVES, name=log_origin(str(UUID(bytes=ACME)), "audit"))[1], InvalidSignature),
        (head(LEAVES)[1].replace("\n7\n", "\n8\n"), InvalidSignature),
        ("", Malformed),
    ],
)
def test_head_of_another_key_or_log_is_refused(note: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify(replace(proof(3), checkpoint=note))


def test_verifier_of_the_keys_log_is_read_from_either_name_and_from_no_other() -> None:
    for log in ("audit", "keys"):
        pinned = NoteVerifier(log_origin(str(UUID(bytes=ACME)), log), LOG_KEY.public).to_text()
        assert keys_verifier([pinned], ACME) == VERIFIER
    new = SigningKey.generate()
    both = keys_verifier([NoteVerifier(NAME, key.public).to_text() for key in (new, LOG_KEY)], ACME)
    assert both == LogVerifier(NAME, (new.public, LOG_KEY.public))
    for key in (new, LOG_KEY):  # while one replaces the other, both sign
        assert both.open_checkpoint(head(LEAVES, key)[1]) == head(LEAVES)[0]
    with pytest.raises(InvalidSignature):
        both.open_checkpoint(head(LEAVES, SigningKey.generate())[1])
    other = NoteVerifier(log_origin(str(UUID(bytes=MALLORY_TENANT)), "keys"), LOG_KEY.public).to_text()
    assert keys_verifier([], ACME) is None
    assert keys_verifier([other], ACME) is None
    with pytest.raises(Malformed):
        keys_verifier(["no key"], ACME)


@pytest.mark.parametrize("old", range(8))
@pytest.mark.parametrize("swapped", [False, True])
def test_two_heads_of_one_log_are_connected_whichever_was_seen_first(old: int, swapped: bool) -> None:
    one, other = head(LEAVES[:old])[0], head(LEAVES)[0]
    hashes = merkle.consistency_proof([merkle.leaf_hash(item) for item in LEAVES], old) if old else []
    require_same_log(*((other, one) if swapped else (one, other)), hashes)


def test_two_heads_of_one_size_that_differ_prove_a_fork_by_themselves() -> None:
    other = [*LEAVES[:-1], leaf(6, said="shown to bob alone")]
    with pytest.raises(Forked, match="two different heads"):
        require_same_log(head(LEAVES)[0], head(other)[0], [])


def test_heads_of_two_histories_are_not_connected_by_any_proof() -> None:
    other = [leaf(0, said="shown to bob alone"), *LEAVES[1:]]
    for hashes in (
        merkle.consistency_proof([merkle.leaf_hash(item) for item in LEAVES], 5),
        merkle.consistency_proof([merkle.leaf_hash(item) for item in other], 5),
        [],
    ):
        with pytest.raises(Untrusted):
            require_same_log(head(other[:5])[0], head(LEAVES)[0], hashes)
