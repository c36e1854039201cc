# SPDX-License-Identifier: Apache-2.0
"""Signed notes and checkpoints against the published note, and against everything that looks like one."""

import base64
import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note

PUBLISHED = json.loads((Path(__file__).parents[2] / "vectors/tlog/go-sumdb-note.json").read_text())
ORIGIN = "holdfast/acme/audit"
KEYS = {kind: SigningKey.generate(kind) for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)}
VERIFIERS = {kind: NoteVerifier(ORIGIN, key.public) for kind, key in KEYS.items()}
HEAD = Checkpoint(origin=ORIGIN, size=20852163, root=hashlib.sha256(b"root").digest(), time=1_800_000_000)
kinds = pytest.mark.parametrize("kind", list(KEYS))


def signed(kind: KeyKind = KeyKind.ED25519, head: Checkpoint = HEAD) -> str:
    return sign_note(head.to_text(), verifier=VERIFIERS[kind], sign=KEYS[kind].sign)


def test_open_takes_the_published_note() -> None:
    verifier = NoteVerifier.from_text(PUBLISHED["vkey"])
    assert verifier.name == "PeterNeumann"
    assert verifier.key_id.hex() == "c74f20a3"
    assert verifier.to_text() == PUBLISHED["vkey"]
    assert verifier.open(PUBLISHED["note"]).startswith("If you think cryptography")


def test_open_refuses_the_published_note_with_any_character_changed() -> None:
    verifier, note = NoteVerifier.from_text(PUBLISHED["vkey"]), PUBLISHED["note"]
    for at in range(len(note)):
        with pytest.raises((InvalidSignature, Malformed)):
            verifier.open(note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :])


@kinds
def test_a_checkpoint_comes_back_from_its_note(kind: KeyKind) -> None:
    assert VERIFIERS[kind].open_checkpoint(signed(kind)) == HEAD
    assert NoteVerifier.from_text(VERIFIERS[kind].to_text()) == VERIFIERS[kind]


def test_the_key_id_is_over_name_type_and_key() -> None:
    raw = KEYS[KeyKind.ED25519].public.raw
    expected = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + raw).digest()[:4]
    assert VERIFIERS[KeyKind.ED25519].key_id == expected
    point = KEYS[KeyKind.P256_SIGNING].public.raw
    expected = hashlib.sha256(ORIGIN.encode() + b"\n\xffholdfast/v1/p256" + point).digest()[:4]
    assert VERIFIERS[KeyKind.P256_SIGNING].key_id == expected


def test_the_body_is_three_lines_and_a_time() -> None:
    text = HEAD.to_text()
    assert text == f"{ORIGIN}\n20852163\n{base64.b64encode(HEAD.root).decode()}\ntime 1800000000\n"
    assert Checkpoint.from_text(text) == HEAD
    assert Checkpoint.from_text("o\n0\n" + base64.b64encode(bytes(32)).decode() + "\nother thing\n").time is None


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        "o\n1\n\n",
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n 1\n{ROOT}\n",
        f"o\n1 \n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        f"o\n1_0\n{ROOT}\n",
        f"o\n0x1\n{ROOT}\n",
        f"o\n{2**53}\n{ROOT}\n",
        f"o\n{'9' * 5000}\n{ROOT}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[:-2]}B=\n",
        f"o\n1\n {ROOT}\n",
        f"o\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n{ROOT}\ntime x\n",
        f"o\n1\n{ROOT}\ntime 01\n",
        f"\ud800\n1\n{ROOT}\n",
    ],
)
def test_from_text_refuses_every_other_form(text: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.from_text(text)


@kinds
def test_open_refuses_another_key_and_another_name(kind: KeyKind) -> None:
    note = signed(kind)
    for other in (
        NoteVerifier(ORIGIN, SigningKey.generate(kind).public),
        NoteVerifier("holdfast/acme/keys", KEYS[kind].public),
    ):
        with pytest.raises(InvalidSignature):
            other.open(note)


def test_open_checkpoint_refuses_the_head_of_another_log() -> None:
    other = Checkpoint("holdfast/mallory/audit", HEAD.size, HEAD.root)
    note = signed(head=other)
    assert VERIFIERS[KeyKind.ED25519].open(note) == other.to_text()
    with pytest.raises(InvalidSignature, match="another log"):
        VERIFIERS[KeyKind.ED25519].open_checkpoint(note)


def test_open_leaves_witnesses_alone_but_not_a_bad_signature_of_its_own_key() -> None:
    note = signed()
    witness = f"— witness.example {base64.b64encode(bytes(4) + bytes(64)).decode()}\n"
    text, _, line = note.rpartition("\n\n")
    assert VERIFIERS[KeyKind.ED25519].open(f"{text}\n\n{witness}{line}") == HEAD.to_text()
    own = base64.b64encode(VERIFIERS[KeyKind.ED25519].key_id + bytes(64)).decode()
    for both in (f"{line}— {ORIGIN} {own}\n", f"— {ORIGIN} {own}\n{line}"):
        with pytest.raises(InvalidSignature):
            VERIFIERS[KeyKind.ED25519].open(f"{text}\n\n{both}")
    short = base64.b64encode(VERIFIERS[KeyKind.ED25519].key_id + bytes(63)).decode()
    with pytest.raises(InvalidSignature):
        VERIFIERS[KeyKind.ED25519].open(f"{text}\n\n— {ORIGIN} {short}\n")


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n— na+me AAAAAAAA\n",
        "text\n\n—  AAAAAAAA\n",
        "text\n\n— name AAAAAAAA",
        "te\x00xt\n\n— name AAAAAAAA\n",
        "text\r\n\n— name AAAAAAAA\n",
        "text\n\n— name AAAAAAA\n",
        "text\n\n— name AAAA AAAA\n",
        "x" * 20_000 + "\n\n— name AAAAAAAA\n",
        "te\ud800xt\n\n— name AAAAAAAA\n",
    ],
)
def test_open_refuses_what_is_no_note(note: str) -> None:
    with pytest.raises(Malformed):
        VERIFIERS[KeyKind.ED25519].open(note)


def test_sign_note_publishes_nothing_that_does_not_verify() -> None:
    with pytest.raises(InvalidSignature):
        sign_note(HEAD.to_text(), verifier=VERIFIERS[KeyKind.ED25519], sign=lambda _text: bytes(64))
    with pytest.raises(InvalidSignature):
        sign_note(HEAD.to_text(), verifier=VERIFIERS[KeyKind.ED25519], sign=lambda _text: b"short")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "name",
        "name+c74f20a3",
        "name+c74f20a3+",
        "name+c74f20a3+AAAA",
        "name++ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/",
        PUBLISHED["vkey"].replace("c74f20a3", "c74f20a4"),
        PUBLISHED["vkey"].replace("c74f20a3", "C74F20A3"),
        PUBLISHED["vkey"][:-1],
        PUBLISHED["vkey"] + "A",
        "\ud800" + PUBLISHED["vkey"],
        PUBLISHED["vkey"].replace("Peter", "Paul"),
    ],
)
def test_from_text_refuses_a_verifier_key_that_is_not_whole(text: str) -> None:
    with pytest.raises(Malformed):
        NoteVerifier.from_text(text)


@given(st.text(max_size=120) | st.text(max_size=60).map(lambda tail: f"{ORIGIN}+{tail}"))
def test_any_text_is_malformed_as_verifier_note_or_body_or_reads_back(text: str) -> None:
    with contextlib.suppress(Malformed):
        assert NoteVerifier.from_text(text).to_text() == text.strip()
    with contextlib.suppress(Malformed):
        assert Checkpoint.from_text(text).to_text() == text
    with pytest.raises(HoldfastError):
        VERIFIERS[KeyKind.ED25519].open(text)


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32), st.none() | st.integers(0, 2**33))
def test_every_head_reads_back(size: int, root: bytes, time: int | None) -> None:
    head = Checkpoint(ORIGIN, size, root, time)
    assert Checkpoint.from_text(head.to_text()) == head
