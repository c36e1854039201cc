# SPDX-License-Identifier: Apache-2.0
"""Log leaves and export lines: one form each, read back exactly, and everything else refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_STATEMENT, MAX_UINT, MIN_NINT, decode, encode, label
from holdfast.core.base.errors import InvalidSignature, Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey, verify
from holdfast.core.log import log_export
from holdfast.core.log.log_entry import (
    MAX_FIELDS,
    MAX_OCTETS,
    MAX_SUBJECT,
    MAX_TAG,
    MAX_TEXT,
    KeyLogEntry,
    LogEntry,
    _plain,
    key_log_subject,
    log_origin,
    verify_leaf,
)
from holdfast.core.log.log_export import ExportedEntry, Header

ORIGIN = log_origin("t", "audit")
KEY = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(32)))
OTHER_KEY = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(range(32))))

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TEXT),
    st.integers(MIN_NINT, MAX_UINT),
    st.binary(max_size=MAX_OCTETS),
)
entries = st.builds(
    LogEntry,
    entry_id=st.binary(min_size=16, max_size=16),
    tag=st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TAG),
    actor=st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TAG),
    person=st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
    subject=st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_SUBJECT),
    time=st.integers(0, MAX_UINT),
    body=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TAG), values, max_size=6),
)
key_leaves = st.builds(
    KeyLogEntry,
    type=st.integers(1, 6),
    subject_hash=st.binary(min_size=32, max_size=32),
    seq=st.integers(0, MAX_UINT),
    statement_hash=st.binary(min_size=32, max_size=32),
    time=st.integers(0, MAX_UINT),
)
signed_entries = entries.map(lambda entry: entry.signed(origin=ORIGIN, key=KEY))
PLAIN = LogEntry(bytes(16), "tenants:sign-in:accept", "device:x", b"", "subject", 1_700_000_000, {"a": 1, "b": b"x"})


@given(st.one_of(entries, signed_entries))
def test_leaf_is_read_back_as_the_entry_it_was_written_from(entry: LogEntry) -> None:
    assert LogEntry.from_leaf(entry.to_leaf()) == entry


@given(entries)
def test_signed_leaf_is_the_entry_with_a_signature_over_the_fields_before_it(entry: LogEntry) -> None:
    leaf = entry.to_signed_leaf(origin=ORIGIN, key=KEY)
    read = LogEntry.from_leaf(leaf)
    assert replace(read, kid=b"", signature=b"") == entry
    assert read.to_leaf() == leaf
    assert entry.signed(origin=ORIGIN, key=KEY) == read
    fields: Any = decode(leaf)
    assert (fields[1], fields[9], fields.pop(10)) == (2, KEY.public.kid, read.signature)
    verify(KEY.public, read.signature, label("log-entry", ORIGIN, encode(fields)))
    verify_leaf(leaf, read, origin=ORIGIN, key=KEY.public)


def test_signed_leaf_is_of_one_key_and_one_log_and_one_entry() -> None:
    leaf = PLAIN.to_signed_leaf(origin=ORIGIN, key=KEY)
    entry = LogEntry.from_leaf(leaf)
    named_alike = replace(entry, kid=OTHER_KEY.public.kid)
    edited = replace(entry, time=entry.time + 1)
    attempts = [
        (leaf, entry, log_origin("u", "audit"), KEY),
        (leaf, entry, ORIGIN, OTHER_KEY),
        (named_alike.to_leaf(), named_alike, ORIGIN, OTHER_KEY),
        (edited.to_leaf(), edited, ORIGIN, KEY),
        (PLAIN.to_leaf(), PLAIN, ORIGIN, KEY),
    ]
    for forged, read, origin, key in attempts:
        with pytest.raises(InvalidSignature):
            verify_leaf(forged, read, origin=origin, key=key.public)


@given(key_leaves)
def test_key_leaf_is_read_back_as_it_was_written(leaf: KeyLogEntry) -> None:
    assert KeyLogEntry.from_leaf(leaf.to_leaf()) == leaf


@given(
    st.one_of(
        st.binary(max_size=200),
        entries.map(LogEntry.to_leaf),
        signed_entries.map(LogEntry.to_leaf),
        key_leaves.map(KeyLogEntry.to_leaf),
    ),
    st.data(),
)
def test_leaf_that_reads_is_the_leaf_that_would_be_written(leaf: bytes, data: st.DataObject) -> None:
    if leaf and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(leaf) - 1))
        leaf = leaf[:at] + bytes([data.draw(st.integers(0, 255))]) + leaf[at + 1 :]
    for reader in (LogEntry, KeyLogEntry):
        try:
            read = reader.from_leaf(leaf)
        except Malformed:
            continue
        assert read.to_leaf() == leaf


def test_leaf_has_the_bytes_that_the_format_page_says() -> None:
    assert PLAIN.to_leaf() == encode(
        {
            1: 1,
            2: bytes(16),
            3: "tenants:sign-in:accept",
            4: "device:x",
            6: "subject",
            7: 1_700_000_000,
            8: [["a", 1], ["b", b"x"]],
        }
    )
    assert encode({5: bytes(16)})[1:] in replace(PLAIN, person=bytes(16)).to_leaf()
    tenant, user = bytes(range(16)), bytes(range(16, 32))
    assert key_log_subject(tenant).hex() != key_log_subject(tenant, user).hex()
    assert log_origin("t", "audit") == "holdfast/t/audit"


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.P256_SIGNING])
def test_signed_leaf_has_the_bytes_that_the_format_page_says(kind: KeyKind) -> None:
    key = SigningKey.generate(kind)
    leaf = PLAIN.signed(origin=ORIGIN, key=key).to_leaf()
    fields: Any = decode(leaf)
    signature = fields.pop(10)
    old: Any = decode(PLAIN.to_leaf())
    assert fields == {**old, 1: 2, 9: key.public.kid}
    verify(key.public, signature, encode(["holdfast/v1/log-entry", ORIGIN, encode(fields)]))
    verify_leaf(leaf, LogEntry.from_leaf(leaf), origin=ORIGIN, key=key.public)


def test_signature_of_a_leaf_holds_for_its_key_and_its_log_alone() -> None:
    entry = PLAIN.signed(origin=ORIGIN, key=KEY)
    for origin, key in (
        (log_origin("t", "keys"), KEY),
        (log_origin("u", "audit"), KEY),
        (ORIGIN, SigningKey.generate()),
    ):
        with pytest.raises(InvalidSignature):
            verify_leaf(entry.to_leaf(), entry, origin=origin, key=key.public)
    with pytest.raises(InvalidSignature):
        verify_leaf(PLAIN.to_leaf(), PLAIN, origin=ORIGIN, key=KEY.public)


def test_leaf_longer_than_its_readers_take_is_refused_before_it_is_written() -> None:
    # Each field within its bounds: 32 of 512 characters that are two bytes each.
    long = replace(PLAIN, body={f"{number:02}": "é" * MAX_TEXT for number in range(MAX_FIELDS)})
    for write in (long.to_leaf, lambda: long.signed(origin=ORIGIN, key=KEY)):
        with pytest.raises(ValueError, match="too long"):
            write()
    # And one that only its signature makes too long.
    body = {f"{number:02}": "é" * 255 for number in range(MAX_FIELDS - 1)}
    bare = len(replace(PLAIN, body={**body, "z": "x" * 256}).to_leaf())
    full = replace(PLAIN, body={**body, "z": "x" * (256 + MAX_STATEMENT - bare)})
    assert len(full.to_leaf()) == MAX_STATEMENT
    with pytest.raises(ValueError, match="too long"):
        full.signed(origin=ORIGIN, key=KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kid": bytes(15), "signature": bytes(64)},
        {"kid": bytes(16), "signature": b""},
        {"entry_id": b"short"},
        {"person": b"short"},
        {"tag": "t" * (MAX_TAG + 1)},
        {"actor": "t" * (MAX_TAG + 1)},
        {"subject": "t" * (MAX_SUBJECT + 1)},
        {"time": -1},
        {"time": MAX_UINT + 1},
        {"subject": "\ud800"},
        {"body": {str(n): n for n in range(MAX_FIELDS + 1)}},
        {"body": {"n" * (MAX_TAG + 1): 1}},
        {"body": {"a": True}},
        {"body": {"a": None}},
        {"body": {"a": 1.5}},
        {"body": {"a": ["b"]}},
        {"body": {"a": bytearray(b"x")}},
        {"body": {"a": MAX_UINT + 1}},
        {"body": {"a": "x" * (MAX_TEXT + 1)}},
        {"body": {"a": bytes(MAX_OCTETS + 1)}},
    ],
)
def test_entry_refuses_to_write_what_it_would_not_read(wrong: dict[str, Any]) -> None:
    # Its message names the field and never shows what was in it.
    with pytest.raises(ValueError, match=r"^((?!xxx).)*$"):
        replace(PLAIN, **wrong).to_leaf()


@pytest.mark.parametrize(
    "value",
    [
        {1: 2, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: []},
        {1: 2, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: bytes(16)},
        {1: 2, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: bytes(16), 10: bytes(63)},
        {1: 2, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: b"", 10: bytes(64)},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: bytes(16), 10: bytes(64)},
        {1: 3, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: bytes(16), 10: bytes(64)},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [["b", 1], ["a", 1]]},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [["a", 1], ["a", 1]]},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [["a", []]]},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [["a"]]},
        {1: 1, 2: bytes(16), 3: "", 4: "", 5: b"", 6: "", 7: 0, 8: []},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [], 9: 0},
        {1: 1, 2: bytes(16), 3: "", 4: "", 6: "", 7: 0, 8: [["a", bytes(MAX_OCTETS + 1)]]},
    ],
)
def test_leaf_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        LogEntry.from_leaf(encode(value))


@given(
    st.integers(0, 10**6), st.one_of(entries.map(LogEntry.to_leaf), key_leaves.map(KeyLogEntry.to_leaf), st.binary())
)
@example(0, b"")
def test_export_line_is_read_back_from_its_one_form(index: int, leaf: bytes) -> None:
    entry = ExportedEntry(index, leaf, (bytes(32), bytes(range(32))))
    line = entry.to_line()
    assert ExportedEntry.from_line(line) == entry
    for other in (
        line[:-1],
        line[:-1] + b" \n",
        b" " + line,
        line.replace(b'"index":', b'"index": ', 1),
        line.replace(b'{"index"', b'{"x":1,"index"', 1),
        json.dumps(dict(sorted(json.loads(line).items())), separators=(",", ":")).encode() + b"\n",
    ):
        if other != line:
            with pytest.raises(Malformed):
                ExportedEntry.from_line(other)


def test_export_line_is_refused_when_its_text_says_something_else() -> None:
    line = ExportedEntry(0, PLAIN.to_leaf(), ()).to_line()
    for said, forged in ((b"accept", b"refuse"), (b'"a":1', b'"a":2'), (b"2023-11-14", b"2023-11-15")):
        assert said in line
        with pytest.raises(Malformed):
            ExportedEntry.from_line(line.replace(said, forged, 1))


@given(st.one_of(st.binary(max_size=120), st.text(max_size=120).map(str.encode)))
@example(b'{"index":0,"leaf":"\\ud800","proof":""}\n')
@example(b'{"index":' + b"9" * 5000 + b"}\n")
@example(b"[" * 10_000)
@example(b'{"index":1e999,"leaf":"","proof":""}\n')
def test_export_readers_refuse_noise_with_one_error(noise: bytes) -> None:
    for reader in (ExportedEntry.from_line, Header.from_line, log_export.read_checkpoint_line):
        with pytest.raises(Malformed):
            reader(noise)
    assert all(text.isascii() and text.isprintable() for text in ExportedEntry.claimed(noise).values())


def test_export_line_with_a_broken_byte_still_says_which_entry_it_was() -> None:
    line = ExportedEntry(0, PLAIN.to_leaf(), ()).to_line()
    said = {"id": "00000000-0000-0000-0000-000000000000", "tag": "tenants:sign-in:accept"}
    assert ExportedEntry.claimed(line.replace(b'"leaf"', b'leaf"')) == said
    assert ExportedEntry.claimed(line.replace(b"tenants", b"\x1b[2Jnts")) == {"id": said["id"]}


def general(leaf: bytes) -> LogEntry | None:
    try:
        return LogEntry._from_any(leaf)
    except Malformed:
        return None


def test_quick_reader_of_leaves_reads_as_the_general_one_does() -> None:
    """A second reading of one leaf would be a second meaning of what was signed, and of what is exported."""
    chance = random.Random(5)
    bodies: list[dict[str, str | int | bytes]] = [
        {},
        {"count": 3, "device": bytes(16), "hash": bytes(32), "why": "gone"},
        {"a": "x" * 40, "b": b"y" * 64, "c": 23},
        {"a": 24, "b": "é" * 30},
    ]
    leaves = [
        LogEntry(bytes(16), "audit:entries:read", "device:x", person, subject, 1_700_000_000, body).to_signed_leaf(
            origin=ORIGIN, key=KEY
        )
        for body in bodies
        for person in (b"", bytes(16))
        for subject in ("", "s" * 100)
    ]
    assert all(_plain(leaf) == general(leaf) for leaf in leaves if _plain(leaf))
    assert sum(_plain(leaf) is not None for leaf in leaves) == 12
    heads = (0, 3, 0x17, 0x18, 0x19, 0x40, 0x57, 0x58, 0x60, 0x77, 0x78, 0x79, 0x80, 0x81, 0x82, 0xA9, 0xAA, 0xFF)
    for leaf in leaves:
        # The signature's own bytes may be any: what stands before them is changed, byte by byte and in length.
        for at in range(len(leaf) - 60):
            head = chance.choice(heads)
            for changed in (
                leaf[:at] + bytes((head,)) + leaf[at + 1 :],
                leaf[:at] + bytes((head,)) + leaf[at:],
                leaf[:at] + leaf[at + 1 :],
                leaf[:at] + bytes((leaf[at] ^ 1,)) + leaf[at + 1 :],
                # The same length in a longer head, which the general reader refuses.
                leaf[:at] + bytes((leaf[at] & 0xE0 | 24, leaf[at] & 31)) + leaf[at + 1 :],
            ):
                read = _plain(changed)
                assert read is None or read == general(changed), (at, changed.hex())
