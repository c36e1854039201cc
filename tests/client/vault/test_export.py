# SPDX-License-Identifier: Apache-2.0
"""The export file: written, opened on a new device, and refused where it is another's, changed or too old."""

from __future__ import annotations

import pytest

from holdfast.client.errors import TrustRefused, WrongInput
from holdfast.client.escrow import archive
from holdfast.client.identity import chains, device
from holdfast.client.profile.account import Account
from holdfast.client.vault import doors, export, vault, vault_contents
from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.vault import door_blob
from holdfast.core.vault.export_file import MAGIC, ExportFile
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, CHEAP, Members

FILE_PASSWORD = SecretBytes(b"the password of a file")


def new_device(world: Members, user: bytes = ALICE) -> Account:
    account = world.profile(user)
    device.enrol(account, world.server.code(user), name="tablet")
    return account


def written(account: Account) -> bytes:
    return export.write(account, password=FILE_PASSWORD, cost=CHEAP)


def rotated(account: Account) -> None:
    new = SigningKey.generate()

    def write(state: ChainState) -> list[Entry]:
        if state.aik == new.public:
            return []
        return [chain_author.rotate_key(state, by=account.author(state), new_aik=new, reason=Reason.SCHEDULE)]

    chains.append(account, write)
    account.state.identity_seed = new.seed()
    account.save()


def changed(data: bytes, field: int, value: bytes) -> bytes:
    inside = decode(data[len(MAGIC) :], max_size=2**20)
    assert isinstance(inside, dict)
    return MAGIC + encode({**inside, field: value})


def test_file_holds_everything_and_opens_without_the_vault(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    data = written(account)
    assert data.startswith(MAGIC)
    world.server.vaults.clear()
    tablet = new_device(world)
    opened, is_file = export.open_file(tablet, data, password=FILE_PASSWORD)
    assert (opened.missing, is_file) == ([], True)
    assert tablet.identity_key.public == account.identity_key.public
    assert [one.key for one in tablet.state.generations] == [one.key for one in account.state.generations]
    assert not len(tablet.state.vault.key)


def test_newer_vault_on_the_server_is_preferred_to_the_file(world: Members) -> None:
    account = world.enrolled(ALICE)
    data = written(account)
    archive.new_generation(account)
    vault.save(account)
    tablet = new_device(world)
    opened, is_file = export.open_file(tablet, data, password=FILE_PASSWORD)
    assert (opened.version, is_file) == (account.state.vault.version, False)
    assert [one.number for one in tablet.state.generations] == [1]


def test_file_opens_the_vault_also_after_the_identity_key_was_rotated(world: Members) -> None:
    account = world.enrolled(ALICE)
    data = written(account)
    rotated(account)
    vault.save(account)
    tablet = new_device(world)
    export.open_file(tablet, data, password=FILE_PASSWORD)
    assert tablet.identity_key.public == account.identity_key.public


def test_file_under_an_identity_key_that_was_left_is_refused_when_it_is_all_there_is(world: Members) -> None:
    account = world.enrolled(ALICE)
    data = written(account)
    rotated(account)
    world.server.vaults.clear()
    tablet = new_device(world)
    with pytest.raises(TrustRefused, match="another identity key"):
        export.open_file(tablet, data, password=FILE_PASSWORD)
    assert not len(tablet.state.identity_seed)


def test_password_of_a_file_is_its_own(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, SecretBytes(b"the password of a vault"), cost=CHEAP)
    data = written(account)
    tablet = new_device(world)
    with pytest.raises(doors.WrongPassword, match="file"):
        export.open_file(tablet, data, password=SecretBytes(b"the password of a vault"))
    with pytest.raises(WrongInput, match="14 characters"):
        export.write(account, password=SecretBytes(b"short"), cost=CHEAP)


def test_file_of_another_person_is_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.enrolled(ALICE)
    with pytest.raises(WrongInput, match="another person"):
        export.open_file(new_device(world), written(bob), password=FILE_PASSWORD)


@pytest.mark.parametrize("junk", [b"", b"holdfast export 2\n", MAGIC, MAGIC + b"\xa0", b"\x00" * 100])
def test_what_is_no_export_file_is_said_to_be_none(world: Members, junk: bytes) -> None:
    world.enrolled(ALICE)
    with pytest.raises(WrongInput, match="not an export file"):
        export.open_file(new_device(world), junk, password=FILE_PASSWORD)


def test_file_with_another_door_or_vault_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    first, second = ExportFile.parse(written(account)), ExportFile.parse(written(account))
    tablet = new_device(world)
    for field, value in ((2, second.vault), (4, second.door)):
        with pytest.raises(WrongInput, match="not an export file"):
            export.open_file(tablet, changed(first.encode(), field, value), password=FILE_PASSWORD)


def test_file_signed_by_a_key_that_was_never_the_accounts_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    honest = ExportFile.parse(written(account))
    stranger = world.enrolled(ALICE)
    stranger.state.identity_seed = SigningKey.generate().seed()
    signed, blob = vault.seal(stranger, vault_contents.of(stranger), account.state.vault)
    made = ExportFile.make(blob, signed, honest.door, header=account.header(), key=account.signing_key)
    world.server.vaults.clear()
    tablet = new_device(world)
    with pytest.raises(TrustRefused, match="No identity key of your account"):
        export.open_file(tablet, made.encode(), password=FILE_PASSWORD)
    assert not len(tablet.state.identity_seed)


def test_file_whose_argon2_parameters_are_outside_the_bounds_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    file = ExportFile.parse(written(account))
    door = decode(file.door)
    assert isinstance(door, dict)
    method = door[door_blob.METHOD]
    assert isinstance(method, dict)
    weak = encode({**door, door_blob.METHOD: {**method, 3: 8}})
    made = ExportFile.make(file.vault, file.sync, weak, header=account.header(), key=account.signing_key)
    with pytest.raises(TrustRefused, match="Argon2id"):
        export.open_file(new_device(world), made.encode(), password=FILE_PASSWORD)
    assert text(ALICE) in world.server.vaults
