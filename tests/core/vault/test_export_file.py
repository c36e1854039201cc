# SPDX-License-Identifier: Apache-2.0
"""The export file: a vault that comes back without a server, and nothing else that passes for one."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import ExportStatement, Sync, SyncKind
from holdfast.core.vault.blob import MAX_KEYRING, VaultHeader, open_vault, seal_vault
from holdfast.core.vault.export_file import MAGIC, MAX_FILE, ExportFile
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner, open_password_door, seal_password_door
from tests.cast.statements import ACME, AIK, ALICE, DEVICE, ISK, MALLORY, MALLORY_TENANT, USER, hash_of
from tests.cast.unread import unread

QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
VAULT_KEY = SecretBytes(bytes(range(32)))
KEYRING = SecretBytes(b"seeds and archive keys")
PASSWORD = SecretBytes(b"correct horse battery")
HEADER = VaultHeader(ACME, ALICE, epoch=2, version=9)
OWNER = DoorOwner(ACME, ALICE, 2)
VAULT = seal_vault(KEYRING, vault_key=VAULT_KEY, header=HEADER)
DOOR = seal_password_door(VAULT_KEY, password=PASSWORD, owner=OWNER, cost=QUICK)


def sync_of(vault: bytes, key: SigningKey = AIK, header: Header = USER, **changes: Any) -> Sign1:
    said = replace(Sync(header, SyncKind.VAULT, hashlib.sha256(vault).digest(), 9), **changes)
    return cose.sign(said.to_payload(), purpose=Purpose.SYNC, key=key)


FILE = ExportFile.make(VAULT, sync_of(VAULT), DOOR, header=DEVICE, key=ISK)
DATA = FILE.encode()


def changed(**fields: Any) -> bytes:
    value: Any = decode(DATA[len(MAGIC) :])
    value.update({int(name[1:]): content for name, content in fields.items()})
    return MAGIC + encode({number: content for number, content in value.items() if content is not None})


def test_a_password_brings_the_keyring_back_from_the_file_alone() -> None:
    file = ExportFile.parse(DATA)
    assert file == FILE
    assert (file.header, file.owner) == (HEADER, OWNER)
    file.verify(aik=AIK.public, signing_key=ISK.public)
    file.verify(aik=AIK.public)
    key = open_password_door(file.door, password=PASSWORD, owner=file.owner)
    assert open_vault(file.vault, vault_key=key, expect=file.header) == KEYRING


def test_the_file_is_the_one_of_the_page() -> None:
    assert DATA.startswith(b"holdfast export 1\n")
    value: Any = decode(DATA.removeprefix(MAGIC))
    assert sorted(value) == [1, 2, 3, 4, 5]
    assert [value[number] for number in (1, 2, 4)] == [1, VAULT, DOOR]
    statement = Sign1.parse(value[5])
    said = ExportStatement.from_payload(statement.verify(ISK.public, purpose=Purpose.EXPORT))
    digest = hashlib.sha256(encode({number: value[number] for number in range(1, 5)})).digest()
    assert said == ExportStatement(DEVICE, digest, 1)


def test_the_largest_vault_fits_into_a_file() -> None:
    vault = seal_vault(SecretBytes(bytes(MAX_KEYRING)), vault_key=VAULT_KEY, header=HEADER)
    data = ExportFile.make(vault, sync_of(vault), DOOR, header=DEVICE, key=ISK).encode()
    assert len(data) <= MAX_FILE
    assert ExportFile.parse(data).vault == vault


def test_a_wrong_password_does_not_open_it() -> None:
    with pytest.raises(UnwrapFailed):
        open_password_door(FILE.door, password=SecretBytes(b"another password"), owner=FILE.owner)


def test_verify_refuses_other_keys() -> None:
    other = SigningKey.generate().public
    for aik, signing_key in ((other, ISK.public), (AIK.public, other), (ISK.public, None), (other, None)):
        with pytest.raises(InvalidSignature):
            FILE.verify(aik=aik, signing_key=signing_key)


def test_verify_refuses_a_vault_exported_in_another_name() -> None:
    for header in (replace(DEVICE, user=MALLORY), replace(DEVICE, tenant=MALLORY_TENANT)):
        file = ExportFile.make(VAULT, sync_of(VAULT), DOOR, header=header, key=ISK)
        with pytest.raises(Untrusted, match="somebody else"):
            ExportFile.parse(file.encode()).verify(aik=AIK.public)


@pytest.mark.parametrize(
    "sync",
    [sync_of(VAULT, version=8), sync_of(VAULT, kind=SyncKind.DEVICE_DOOR), sync_of(VAULT, blob_hash=hash_of("other")),
     sync_of(VAULT, header=replace(USER, user=MALLORY)), sync_of(VAULT, header=replace(USER, tenant=MALLORY_TENANT))],
)  # fmt: skip
def test_parse_refuses_a_vault_that_its_statement_does_not_name(sync: Sign1) -> None:
    with pytest.raises(Malformed, match="not the one that its statement names"):
        ExportFile.parse(unread(ExportFile.make(VAULT, sync, DOOR, header=DEVICE, key=ISK), "encode"))


def test_parse_refuses_parts_of_two_files_in_one() -> None:
    other_vault = seal_vault(KEYRING, vault_key=VAULT_KEY, header=HEADER)
    other = ExportFile.make(other_vault, sync_of(other_vault), DOOR, header=DEVICE, key=ISK)
    door = seal_password_door(VAULT_KEY, password=PASSWORD, owner=OWNER, cost=QUICK)
    for mixed in (
        replace(FILE, vault=other.vault, sync=other.sync), replace(FILE, statement=other.statement),
        replace(FILE, door=door), replace(FILE, sync=sync_of(VAULT, header=replace(USER, issued_at=1))),
    ):  # fmt: skip
        with pytest.raises(Malformed, match="about something else"):
            ExportFile.parse(unread(mixed, "encode"))


def test_parse_refuses_another_kind_of_export() -> None:
    said = ExportStatement(DEVICE, FILE.exported_by.blob_hash, 2)
    statement = cose.sign(said.to_payload(), purpose=Purpose.EXPORT, key=ISK)
    with pytest.raises(Malformed):
        ExportFile.parse(unread(replace(FILE, statement=statement), "encode"))


@pytest.mark.parametrize(
    "data",
    [b"", MAGIC, DATA[:-1], DATA + b"\0", b"holdfast export 2\n" + DATA[len(MAGIC) :], DATA[len(MAGIC) :], b"\n" + DATA,
     DATA.replace(b"1\n", b"1\r\n", 1), changed(_1=2), changed(_2=b""), changed(_3=b""), changed(_4=bytes(1025)),
     changed(_5=None), changed(_6=1), bytes(MAX_FILE + 1), MAGIC + bytes(MAX_FILE + 1)],
)  # fmt: skip
def test_parse_refuses_a_file_outside_the_format(data: bytes) -> None:
    with pytest.raises(Malformed):
        ExportFile.parse(data)


def test_every_flipped_byte_is_refused() -> None:
    def use(data: bytes) -> None:
        ExportFile.parse(data).verify(aik=AIK.public, signing_key=ISK.public)

    use(DATA)
    for at in range(len(DATA)):
        with pytest.raises(HoldfastError):
            use(DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :])


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(MAGIC.__add__))
def test_arbitrary_bytes_are_no_export(data: bytes) -> None:
    with pytest.raises(Malformed):
        ExportFile.parse(data)
