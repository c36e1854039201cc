# SPDX-License-Identifier: Apache-2.0
"""Every writer gives out only what its own reader takes: statements, messages, records, codes and rows of the store."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, get_args, get_origin, get_type_hints

import pytest

import holdfast.client
import holdfast.core
from holdfast.client.messages.inbox_rows import Envelope
from holdfast.client.messages.outbox import Row
from holdfast.client.messages.sent import Body
from holdfast.client.profile.state import Contact
from holdfast.core.base.encoding import MAX_BLOB, MAX_STATEMENT, Fields, encode
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.rows import Column, open_map, open_row, seal_map, seal_row
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import slip39
from holdfast.core.crypto.keys import AgreementKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow.archive import ArchiveHeader
from holdfast.core.escrow.deposit import DepositHeader
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.log_entry import KeyLogEntry
from holdfast.core.messages.bundle import build_batch
from holdfast.core.messages.content import Content, ContentKind, LargeReference
from holdfast.core.messages.session import InitialPart, read_message
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import Header
from holdfast.core.vault.blob import VaultHeader, open_vault, seal_vault
from holdfast.core.vault.contact_shares import ContactShare
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.pairing import PairingRequest
from holdfast.core.vault.password_door import Argon2Cost, open_password_door, seal_password_door
from holdfast.core.vault.sync_letter import DeviceSync
from tests.cast import statements as cast
from tests.cast.statements import ACME, ALICE, LAPTOP, NOW, PAYLOADS

PAIRS: Final = {
    "to_payload": "from_payload",
    "to_bytes": "from_bytes",
    "to_record": "from_record",
    "to_secret": "from_secret",
    "to_leaf": "from_leaf",
    "to_text": "from_text",
    "encode": ("decode", "parse", "of_encoded"),
}
# Writers that hold what they write to its reader in another place, or write what was read before.
ELSEWHERE: Final = {
    "Sign1": "bytes as received, or of `sign`; what is in them has a writer of its own",
    "Entry": "`Entry.make` reads each entry back as it signs it",
    "LogEntry": "`_check` has a bound for each field, for the sake of the sequencer; test_log_entry tries them",
    "OneTimePreKey": "its reader has to know the suite: `build_batch`",
    "Session": "what it holds was read from messages and keys",
    "SkippedKeys": "what it holds came out of messages that opened",
}
SECRET = SecretBytes(bytes(32))
HASH = bytes(range(32))
ID = bytes(range(16))

MADE: dict[str, tuple[Any, str, str]] = {
    **{name: (made, "to_payload", "from_payload") for name, made in PAYLOADS.items()},
    "content": (
        Content(ContentKind.BYTES, ID, NOW, b"hello", conversation=ALICE, checkpoint="a\n1\n", chain_head=HASH),
        "encode",
        "decode",
    ),
    "large content": (Content(ContentKind.LARGE, ID, NOW, LargeReference(SECRET, HASH, 5)), "encode", "decode"),
    "pairing request": (PairingRequest.new(cast.device_statement()), "to_bytes", "from_bytes"),
    "deposit header": (
        DepositHeader(Suite.HYBRID, ACME, ALICE, LAPTOP, ID, 1, HASH, HASH, HASH, HASH, 2, 3),
        "to_bytes",
        "from_bytes",
    ),
    "device sync": (DeviceSync(SECRET, 1, 1, "a\n1\n", ID), "to_secret", "from_secret"),
    "contact's share": (
        ContactShare(ID, 0, slip39.split(SECRET, k=2, n=3)[0].to_bytes(), HASH),
        "to_secret",
        "from_secret",
    ),
    "share": (slip39.split(SECRET, k=2, n=3)[0], "to_bytes", "from_bytes"),
    "key log entry": (KeyLogEntry(1, HASH, 0, HASH, NOW), "to_leaf", "from_leaf"),
    "checkpoint": (Checkpoint("holdfast/acme/keys", 7, HASH, NOW), "to_text", "from_text"),
    "verifier": (NoteVerifier("holdfast/acme/keys", SigningKey.generate().public), "to_text", "from_text"),
    "enrolment code": (EnrolmentCode(ID, ID, SecretBytes(ID), HASH, "acme+12345678+AAAA"), "text", "parse"),
}
# What a field is given in place of what it should have.
WRONG: Final[tuple[Any, ...]] = (
    b"", b"x", bytes(15), bytes(17), bytes(31), bytes(33), bytes(2000), "", "x" * 65, "x" * 5000,
    "a\nb", "lap\udcff", -1, 0, 2, 17, 2**32, 2**53, 2**60, True, 1.5, None, (), [], {}, (b"x",), SecretBytes(b""),
    SecretBytes(bytes(31)),
    Header(b"x", b"", b"", NOW), Header(ACME, b"x", LAPTOP, NOW), Header(ACME, ALICE, LAPTOP, NOW, NOW - 1),
    Header(ACME, ALICE, LAPTOP, -1), Header(ACME, ALICE, LAPTOP, 2**60),
)  # fmt: skip
CALLERS_MISTAKES: Final = (ValueError, TypeError, AttributeError, LookupError, OverflowError)


def modules(package: Any) -> Iterator[Any]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def classes(*packages: Any) -> list[type[Any]]:
    found = {
        kind.__qualname__ + kind.__module__: kind
        for package in packages
        for module in modules(package)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    }
    return [found[name] for name in sorted(found)]


def test_every_class_that_writes_and_reads_itself_reads_what_it_writes() -> None:
    unheld = []
    for kind in classes(holdfast.core):
        for writer, readers in PAIRS.items():
            write = vars(kind).get(writer)
            is_read = any(hasattr(kind, reader) for reader in ([readers] if isinstance(readers, str) else readers))
            if inspect.isfunction(write) and is_read and not hasattr(write, "__wrapped__"):
                unheld.append(kind.__name__)
    assert sorted(set(unheld) - ELSEWHERE.keys()) == []


def given_out(write: Callable[[], Any], read: Callable[[Any], object]) -> bool:
    """Tell whether something was given out; it is then read, or this fails."""
    try:
        written = write()
    except CALLERS_MISTAKES:
        return False
    try:
        read(written)
    except HoldfastError as error:
        raise AssertionError(f"given out, and not read: {error}") from error
    return True


@pytest.mark.parametrize("name", MADE)
def test_what_a_writer_gives_out_is_read_whatever_its_fields_hold(name: str) -> None:
    made, writer, reader = MADE[name]
    read = getattr(type(made), reader)
    assert given_out(getattr(made, writer), read)
    count = 0
    for field in dataclasses.fields(made):
        refused = 0
        for wrong in WRONG:
            try:
                spoilt = replace(made, **{field.name: wrong})
            except (*CALLERS_MISTAKES, HoldfastError):
                refused += 1
                continue
            refused += not given_out(getattr(spoilt, writer), read)
        assert refused, f"{field.name} takes anything"
        count += refused
    assert count > len(dataclasses.fields(made))


DOORS = Argon2Cost(19 * 1024, 2, 1)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32])
def test_blobs_of_another_owner_than_can_be_are_not_made(size: int) -> None:
    wrong = bytes(size)
    vault, password = VaultHeader(ACME, ALICE, 1, 1), SecretBytes(b"correct horse battery")
    for header in (replace(vault, tenant=wrong), replace(vault, user=wrong)):
        with pytest.raises(ValueError, match="read this back"):
            seal_vault(SecretBytes(b"keyring"), vault_key=SECRET, header=header)
    for owner in (DoorOwner(wrong, ALICE, 1), DoorOwner(ACME, wrong, 1)):
        with pytest.raises(ValueError, match="read this back"):
            seal_password_door(SECRET, password=password, owner=owner, cost=DOORS)
    for archive in (ArchiveHeader(wrong, ALICE, 1, HASH), ArchiveHeader(ACME, wrong, 1, HASH)):
        with pytest.raises(ValueError, match="read this back"):
            archive.to_prefix(HASH)
    sealed = seal_vault(SecretBytes(b"keyring"), vault_key=SECRET, header=vault)
    assert open_vault(sealed, vault_key=SECRET, expect=vault) == SecretBytes(b"keyring")
    door = seal_password_door(SECRET, password=password, owner=DoorOwner(ACME, ALICE, 1), cost=DOORS)
    assert open_password_door(door, password=password, owner=DoorOwner(ACME, ALICE, 1)) == SECRET


def test_batch_of_keys_that_no_reader_takes_is_not_made() -> None:
    header = Header(ACME, ALICE, LAPTOP, NOW, NOW + 86_400)
    key = SigningKey.generate()
    with pytest.raises(ValueError, match="read this back"):
        build_batch(header, suite=Suite.HYBRID, first_key_id=2**32, size=1, signing_key=key)
    with pytest.raises(ValueError, match="read this back"):
        build_batch(replace(header, device=b""), suite=Suite.HYBRID, first_key_id=1, size=1, signing_key=key)


INITIAL: Final = InitialPart(
    suite=Suite.HYBRID,
    device_statement=cose.sign(b"payload", purpose=Purpose.DEVICE, key=SigningKey.generate()),
    ephemeral=AgreementKey.generate().public,
    signed_pre_key_id=1,
    one_time_pre_key_id=2,
    ciphertext=bytes(1088),
    initiator_head=HASH,
    responder_head=HASH,
)
WRONG_PARTS: Final[tuple[Any, ...]] = (
    Suite.CLASSICAL, Suite.HYBRID_P256, SigningKey.generate().public, Sign1(b"", b"payload", bytes(64)),
    Sign1(INITIAL.device_statement.protected, b"payload", bytes(63)),
    Sign1(INITIAL.device_statement.protected, bytes(MAX_STATEMENT), bytes(64)),
)  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(INITIAL)])
def test_initial_part_that_no_reader_takes_is_not_made(name: str) -> None:
    def read(written: bytes) -> InitialPart | None:
        return read_message(written + b"sealed").initial

    assert read(INITIAL.encode()) == INITIAL
    refused = 0
    for wrong in (*WRONG, *WRONG_PARTS):
        spoilt = replace(INITIAL, **{name: wrong})
        refused += not given_out(spoilt.encode, read)
    # What is left: five numbers that can be ids, and the one-time key's that can be absent.
    assert refused >= len(WRONG) + len(WRONG_PARTS) - 6


# Rows of the store


def columns(kind: type[Any]) -> dict[str, Column]:
    if not dataclasses.is_dataclass(kind):
        return {}
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:
        return {}  # a type that is there for the checker alone: no row of the store, which is read by its types
    return {
        field.name: column
        for field in dataclasses.fields(kind)
        if get_origin(hints[field.name]) is not None and hasattr(hints[field.name], "__metadata__")
        for column in get_args(hints[field.name])[1:]
        if isinstance(column, Column)
    }


ROWS: Final = {
    kind.__name__ + f" of {kind.__module__}": kind for kind in classes(holdfast.core, holdfast.client) if columns(kind)
}


def right_values(kind: type[Any]) -> Iterator[Any]:
    """Give values of every shape that a column may ask for; nested rows among them."""
    yield from (0, 1, 2, False, "", "x", b"", [], (), {}, frozenset(), None, ("a", "b"))
    for size in (4, 16, 32, 48, 64, 256):
        octets = bytes(size)
        yield from (octets, SecretBytes(octets), [octets], (SecretBytes(octets),), {octets: octets})
    yield from (SecretBytes(b""), SecretBytes(bytes(2400)))
    module = importlib.import_module(kind.__module__)
    for nested in filter(inspect.isclass, vars(module).values()):
        if issubclass(nested, enum.Enum):
            yield from nested
        elif nested is not kind and columns(nested) and (made := sample(nested)) is not None:
            yield from (made, [made], (made,))


_SAMPLES: Final[dict[type[Any], Any]] = {}


def fits(column: Column, value: Any) -> bool:
    try:
        items: list[Any] = column.write(value)
        encode(items)
        column.read(Fields(dict(enumerate(items)), "column", range(len(items))), 0)
    except (*CALLERS_MISTAKES, HoldfastError):
        return False
    return True


def sample(kind: type[Any]) -> Any:
    """Return a row of a class, of the first values that fit."""
    if kind not in _SAMPLES:
        _SAMPLES[kind] = None
        given = {name: next((v for v in right_values(kind) if fits(c, v)), None) for name, c in columns(kind).items()}
        beside = {
            field.name: None
            for field in dataclasses.fields(kind)
            if field.name not in given
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        }
        _SAMPLES[kind] = kind(**given, **beside)
    return _SAMPLES[kind]


def sealed_and_opened(row: Any) -> bool:
    kind = type(row)
    numbered = all(column.number for column in columns(kind).values())
    seal, read = (seal_map, open_map) if numbered else (seal_row, open_row)
    beside = {field.name: getattr(row, field.name) for field in dataclasses.fields(kind)}
    for name in columns(kind):
        del beside[name]
    return given_out(lambda: seal(row), lambda sealed: read(kind, sealed, "row", **beside))


@pytest.mark.parametrize("name", ROWS)
def test_every_row_that_is_sealed_opens_whatever_its_fields_hold(name: str) -> None:
    kind = ROWS[name]
    made = sample(kind)
    assert sealed_and_opened(made), "the sample itself"
    too_long = bytes(getattr(kind, "ROW_SIZE", 2**20) + 1)
    longest: dict[type[Any], Any] = {bytes: too_long, SecretBytes: SecretBytes(too_long), str: "x" * len(too_long)}
    refused = 0
    for field in columns(kind):
        for wrong in (*WRONG, longest.get(type(getattr(made, field)))):
            try:
                spoilt = replace(made, **{field: wrong})
            except CALLERS_MISTAKES:
                refused += 1
                continue
            refused += not sealed_and_opened(spoilt)
    assert refused >= len(columns(kind))


def test_size_of_a_row_stands_in_its_class_and_not_in_its_docstring() -> None:
    assert [name for name, kind in ROWS.items() if "ClassVar" in (kind.__doc__ or "")] == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        # What the server takes at most: 64 KiB of a message, 1 MiB of content, 64 devices with 5 KiB each.
        (Envelope, {"message": bytes(MAX_BLOB), "content": bytes(2**20)}),
        (Row, {"content": bytes(2**20), "envelopes": ((bytes(16), bytes(5120)),) * 64}),
        (Body, {"plaintext": bytes(MAX_BLOB), "content": bytes(2**20)}),
        # 3,800 entries of an account chain, a key change each.
        (Contact, {"entries": [bytes(480)] * 3800}),
    ],
)
def test_largest_that_can_come_is_kept(kind: type[Any], changes: dict[str, Any]) -> None:
    assert sealed_and_opened(replace(sample(kind), **changes))


def test_all_rows_of_the_product_are_tried() -> None:
    assert len(ROWS) >= 40
