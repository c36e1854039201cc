# SPDX-License-Identifier: Apache-2.0
"""The vault: what it carries from device to device, how two writers meet, and what a lying server gets away with."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from holdfast.client.errors import NotPossible, ProfileError, TrustRefused
from holdfast.client.escrow import archive
from holdfast.client.identity import chains, contacts, device
from holdfast.client.messages import letters
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import VaultKey
from holdfast.client.vault import doors, pairing, vault, vault_contents
from holdfast.core.base.encoding import b64u, encode, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.vault.blob import VaultHeader, new_vault_key, open_vault, read_header
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members


def paired(world: Members, first: Account, name: str = "phone") -> Account:
    """Return another device of the same person, brought in by its QR code."""
    second = world.profile(first.user)
    device.enrol(second, world.server.code(first.user), name=name)
    pairing.accept(first, pairing.request(second).text())
    pairing.complete(second)
    return second


def rotated(account: Account) -> SigningKey:
    """Rotate the account's identity key in the chain, and nothing else; the account holds the new one."""
    new = SigningKey.generate()

    def write(state: ChainState) -> list[Entry]:
        if state.aik == new.public:
            return []
        return [chain_author.rotate_key(state, by=account.author(state), new_aik=new, reason=Reason.SCHEDULE)]

    chains.append(account, write)
    account.state.identity_seed = new.seed()
    account.save()
    return new


def row(at: int, *rest: bytes) -> SecretBytes:
    return SecretBytes(encode([at, *rest]))


def contents_on_server(world: Members, account: Account) -> vault_contents.Contents:
    blob = unb64u(world.server.vaults[text(account.user)]["blob"])
    kept = account.state.vault
    header = VaultHeader(account.tenant, account.user, kept.epoch, kept.version)
    return vault_contents.Contents.from_secret(open_vault(blob, vault_key=kept.key, expect=header))


# What it carries


def test_vault_carries_all_that_another_device_needs(world: Members) -> None:
    first = world.enrolled(ALICE)
    world.enrolled(BOB)
    contacts.refresh(first, BOB)
    archive.new_generation(first)
    first.state.consent = b"consent"
    first.state.trust.checkpoints["log.example"] = "log.example\n1\n"
    first.store.put(vault_contents.HELD_SHARE, b"bob" + b"set", row(7, b"a share"))
    vault.save(first)
    second = paired(world, first)
    assert second.identity_key.public == first.identity_key.public
    assert [one.key for one in second.state.generations] == [one.key for one in first.state.generations]
    assert second.state.contacts[BOB].entries == first.state.contacts[BOB].entries
    assert (second.state.consent, second.state.trust.checkpoints["log.example"]) == (b"consent", "log.example\n1\n")
    assert second.store.get(vault_contents.HELD_SHARE, b"bobset") == row(7, b"a share")
    assert vault.known_devices(second)[first.device.id] == "laptop"


def test_vault_is_written_again_only_when_something_changed(world: Members) -> None:
    account = world.enrolled(ALICE)
    assert vault.save_if_changed(account) == 1
    assert vault.save_if_changed(account) is None
    archive.new_generation(account)
    assert vault.save_if_changed(account) == 2


def test_vault_leaves_out_an_archive_key_that_the_chain_does_not_name(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    account.state.generations.append(dataclasses.replace(account.state.generations[0], number=2))
    vault.save(account)
    assert [one.number for one in contents_on_server(world, account).generations] == [1]


# Two writers


def test_two_devices_that_write_at_once_lose_nothing_of_either(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    world.enrolled(BOB)
    world.enrolled(MALLORY)
    archive.new_generation(first)
    contacts.refresh(first, BOB)
    vault.save(first)
    contacts.refresh(second, MALLORY)
    version = vault.save(second)
    merged = contents_on_server(world, second)
    assert version == first.state.vault.version + 1
    assert [one.number for one in merged.generations] == [1]
    assert {one.user for one in merged.contacts} == {BOB, MALLORY}
    vault.load(first)
    assert MALLORY in first.state.contacts


def test_longer_pin_of_a_contact_wins_and_a_forked_one_does_not(world: Members) -> None:
    first = world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    contacts.refresh(first, BOB)
    vault.save(first)
    second = paired(world, first)
    archive.new_generation(bob)
    contacts.refresh(first, BOB)
    vault.save(first)
    vault.load(second)
    assert second.state.contacts[BOB].entries == first.state.contacts[BOB].entries
    second.state.contacts[BOB].entries[-1] = second.state.contacts[BOB].entries[0]
    opened = vault.load(second)
    assert opened is not None
    assert opened.forked == [BOB]
    assert second.state.contacts[BOB].entries[-1] == second.state.contacts[BOB].entries[0]


def test_shorter_pin_in_the_vault_does_not_roll_a_contact_back(world: Members) -> None:
    first = world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    contacts.refresh(first, BOB)
    vault.save(first)
    archive.new_generation(bob)
    longer = contacts.refresh(first, BOB).head
    vault.load(first)
    assert Entry.parse(first.state.contacts[BOB].entries[-1]).hash == longer


def test_later_row_of_two_devices_wins(world: Members) -> None:
    first = world.enrolled(ALICE)
    first.store.put(vault_contents.DOOR, b"x", row(5, b"old"))
    first.store.put(vault_contents.DOOR, b"y", row(5, b"old"))
    vault.save(first)
    second = paired(world, first)
    second.store.put(vault_contents.DOOR, b"x", row(6, b"new"))
    second.store.put(vault_contents.DOOR, b"y", row(4, b"older"))
    vault.load(second)
    assert second.store.get(vault_contents.DOOR, b"x") == row(6, b"new")
    assert second.store.get(vault_contents.DOOR, b"y") == row(5, b"old")


# The vault key


def test_new_epoch_closes_the_doors_before_it_and_keeps_the_contents(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    key = new_vault_key()
    vault.begin_epoch(account, key=key, epoch=2)
    assert (account.state.vault.epoch, account.state.vault.key) == (2, key)
    assert [one.number for one in contents_on_server(world, account).generations] == [1]
    assert doors.list_closed(account) == ["password"]
    with pytest.raises(NotPossible, match="closed"):
        doors.open_with_password(world.enrolled(ALICE), password=PASSWORD)


def test_new_epoch_can_be_begun_again_after_a_lost_answer(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    vault.save(account)
    key = new_vault_key()
    before = account.state.vault
    vault.begin_epoch(account, key=key, epoch=2)
    account.state.vault = before
    vault.begin_epoch(account, key=key, epoch=2)
    assert account.state.vault.epoch == 2
    assert contents_on_server(world, account).generations


def test_new_epoch_takes_up_what_another_device_wrote_under_the_old_key(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    archive.new_generation(second)
    vault.save(second)
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    assert [one.number for one in contents_on_server(world, first).generations] == [1]


def test_device_with_the_old_vault_key_is_told_so_and_catches_up(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    with pytest.raises(vault.VaultKeyChanged):
        vault.save(second)
    pairing.sync(first)
    letters.fetch(second)
    assert pairing.catch_up(second)
    assert second.state.vault.key == first.state.vault.key
    assert vault.save(second) == first.state.vault.version + 1


def test_device_with_the_old_identity_key_gets_the_new_one_from_the_vault(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    new = rotated(first)
    vault.save(first)
    with pytest.raises(ProfileError, match="identity key"):
        vault.save(second)
    assert pairing.catch_up(second)
    assert second.identity_key.public == new.public


def test_vault_written_ahead_of_a_rotation_opens_after_it(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    new = SigningKey.generate()
    vault.save(account, next_identity=new.seed())
    tablet = world.profile(ALICE)
    device.enrol(tablet, world.server.code(ALICE), name="tablet")

    def write(state: ChainState) -> list[Entry]:
        if state.aik == new.public:
            return []
        return [chain_author.rotate_key(state, by=account.author(state), new_aik=new, reason=Reason.SCHEDULE)]

    chains.append(account, write)
    # Nothing was written since: the laptop is lost in this very moment.
    doors.open_with_password(tablet, password=PASSWORD)
    assert tablet.identity_key.public == new.public


def test_other_device_takes_the_next_identity_key_that_was_written_ahead(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    new = SigningKey.generate()
    vault.save(first, next_identity=new.seed())

    def write(state: ChainState) -> list[Entry]:
        if state.aik == new.public:
            return []
        return [chain_author.rotate_key(state, by=first.author(), new_aik=new, reason=Reason.SCHEDULE)]

    chains.append(first, write)
    assert pairing.catch_up(second)
    assert second.identity_key.public == new.public
    assert vault.save(second) == 3


# What the server may not do


def test_vault_that_the_server_lost_is_noticed_and_written_again_under_a_new_key(world: Members) -> None:
    first = world.enrolled(ALICE)
    archive.new_generation(first)
    vault.save(first)
    second = paired(world, first)
    archive.new_generation(first)
    world.server.vaults.clear()
    for act in (vault.save, vault.load, doors.status):
        with pytest.raises(TrustRefused, match="lost your vault"):
            act(first)
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    assert (first.state.vault.epoch, first.state.vault.version) == (2, 1)
    pairing.sync(first)
    letters.fetch(second)
    assert pairing.catch_up(second)
    assert [one.number for one in second.state.generations] == [1, 2]


def test_vault_of_a_device_that_lacks_the_key_is_not_written_over(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    account = world.enrolled(ALICE)
    account.state.identity_seed = first.state.identity_seed
    with pytest.raises(ProfileError, match="does not hold its key"):
        vault.save(account)


def test_vault_signed_by_an_identity_key_rotated_away_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    rotated(account)
    tablet = world.profile(ALICE)
    device.enrol(tablet, world.server.code(ALICE), name="tablet")
    with pytest.raises(TrustRefused, match="another identity key"):
        doors.open_with_password(tablet, password=PASSWORD)
    assert not len(tablet.state.identity_seed)
    rotated(account)
    with pytest.raises(TrustRefused, match="long left"):
        doors.open_with_password(tablet, password=PASSWORD)


def test_pins_of_whoever_knew_the_old_identity_key_are_not_taken(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    # The phone is lost; whoever has it writes into the vault under the keys it knew.
    world.enrolled(MALLORY)
    contacts.refresh(second, MALLORY)
    archive.new_generation(second)
    vault.save(second)
    rotated(first)
    vault.load(first)
    assert MALLORY not in first.state.contacts
    assert [one.number for one in first.state.generations] == [1]


def test_vault_of_an_older_version_is_refused_by_the_device_that_wrote_a_newer(world: Members) -> None:
    account = world.enrolled(ALICE)
    vault.save(account)
    old = copy.deepcopy(world.server.vaults[text(ALICE)])
    vault.save(account)
    world.server.lies["GET vault"] = lambda _answer: old
    with pytest.raises(TrustRefused, match="older"):
        vault.load(account)


def test_vault_with_an_archive_key_of_the_servers_own_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    before = list(account.state.generations)
    deposited = dataclasses.replace(before[0], deposit_id=bytes(16), record_hash=bytes(32))
    forged = dataclasses.replace(before[0], key=SecretBytes(bytes(32)), commitment=bytes(32))
    contents = dataclasses.replace(vault_contents.of(account), generations=(deposited, forged))
    with pytest.raises(TrustRefused, match="does not name"):
        vault_contents.take(account, contents, account.chain)
    assert account.state.generations == before
    assert not before[0].deposit_id, "what stood before the forged one is refused with it"


def test_vault_written_on_another_chain_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    forged = dataclasses.replace(vault_contents.of(account), head=bytes(32))
    with pytest.raises(TrustRefused, match="another account chain"):
        vault_contents.take(account, forged, account.chain)


def test_lost_vault_is_said_to_be_lost_and_begun_anew_on_request_only(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    first = read_header(unb64u(world.server.vaults[text(ALICE)]["blob"]))
    tablet = world.profile(ALICE)
    device.enrol(tablet, world.server.code(ALICE), name="tablet")
    world.server.instead["GET vault"] = lambda _body: (404, {"title": "x", "code": "not-found", "detail": "x"})
    with pytest.raises(vault.NoVault):
        doors.open_with_password(tablet, password=PASSWORD)
    world.server.instead.clear()
    assert vault.begin_anew(account) == first.version + 1
    assert account.state.vault.epoch == first.epoch + 1


def test_vault_statement_signed_by_a_stranger_is_refused(world: Members) -> None:
    account, other = world.enrolled(ALICE), world.enrolled(BOB)
    vault.save(account)
    vault.save(other)
    theirs = world.server.vaults[text(BOB)]["statement"]
    world.server.lies["GET vault"] = lambda answer: {**answer, "statement": theirs}
    with pytest.raises(TrustRefused, match="not signed by a key of this account"):
        vault.load(account)


def test_key_that_does_not_fit_opens_nothing(world: Members) -> None:
    account = world.enrolled(ALICE)
    vault.save(account)
    kept = account.state.vault
    account.state.vault = VaultKey(kept.epoch, new_vault_key(), kept.version)
    with pytest.raises(TrustRefused, match="does not open as yours"):
        vault.load(account)


def test_vault_key_and_contents_never_reach_the_server_in_the_clear(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    sent = repr(world.server.log)
    for secret in (account.state.vault.key, account.state.identity_seed, account.state.generations[0].key, PASSWORD):
        assert b64u(secret.reveal()) not in sent
        assert secret.reveal().hex() not in sent


def test_contents_are_read_in_one_encoding_or_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    account.store.put(vault_contents.HELD_SHARE, b"key", row(7, b"a share"))
    octets = vault_contents.of(account).to_secret().reveal()
    assert vault_contents.Contents.from_secret(SecretBytes(octets)).to_secret() == SecretBytes(octets)
    refused = 0
    for at in range(0, len(octets), 3):
        for changed in (octets[:at], octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]):
            try:
                read = vault_contents.Contents.from_secret(SecretBytes(changed))
            except Malformed:
                refused += 1
                continue
            assert read.to_secret() == SecretBytes(changed)
    assert refused > len(octets) // 3


@pytest.mark.parametrize("value", [b"", encode([]), encode([b"later"]), encode({1: 2})])
def test_row_that_does_not_say_when_it_was_written_is_refused(world: Members, value: bytes) -> None:
    account = world.enrolled(ALICE)
    contents = dataclasses.replace(
        vault_contents.of(account), rows=(vault_contents.CarriedRow("door", b"x", SecretBytes(value)),)
    )
    with pytest.raises(Malformed):
        vault_contents.Contents.from_secret(contents.to_secret())


def test_name_of_a_device_that_cannot_be_had_holds_up_no_vault(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = paired(world, first)
    for key in first.store.keys(vault_contents.KNOWN_DEVICE):
        first.store.delete(vault_contents.KNOWN_DEVICE, key)
    gone = {"title": "x", "code": "not-found", "detail": "x"}
    world.server.instead[f"GET devices/{second.device_text}"] = lambda _body: (404, gone)
    vault.save(first)
    assert vault.known_devices(first) == {first.device.id: "laptop"}
    world.server.instead.clear()
    statement = b64u(world.enrolled(ALICE).device.statement)
    world.server.lies[f"GET devices/{second.device_text}"] = lambda answer: {**answer, "device_statement": statement}
    with pytest.raises(TrustRefused):
        vault.save(first)


@pytest.mark.parametrize("ask", ["load", "find", "save"])
@pytest.mark.parametrize("what", ["a new archive key", "another identity key"])
def test_race_with_ones_own_other_device_is_no_attack(what: str, ask: str, world: Members) -> None:
    """The other device writes chain and vault between this one's reading of the chain and of the vault."""
    laptop = world.enrolled(ALICE)
    doors.set_password(laptop, PASSWORD, cost=CHEAP)
    phone = world.another(laptop)
    letters.fetch(phone)
    doors.open_with_password(phone, password=PASSWORD)

    def meanwhile(answer: dict[str, object]) -> dict[str, object]:
        del world.server.lies["GET vault"]
        if what == "a new archive key":
            archive.new_generation(phone)
        else:
            new = SigningKey.generate()
            vault.save(phone, next_identity=new.seed())
            chains.append(
                phone,
                lambda state: [
                    chain_author.rotate_key(state, by=phone.author(state), new_aik=new, reason=Reason.SCHEDULE)
                ],
            )
            phone.state.identity_seed = new.seed()
        vault.save(phone)
        found = world.server.get_vault(phone.device_text, {}, {})[1]
        assert isinstance(found, dict)
        return found

    world.server.lies["GET vault"] = meanwhile
    asks = {
        "load": lambda: vault.load(laptop),
        "find": lambda: vault.find(laptop),
        "save": lambda: (archive.new_generation(laptop), vault.load(laptop), vault.save(laptop)),
    }
    asks[ask]()
    assert "GET vault" not in world.server.lies
    if ask == "load":
        assert laptop.chain.head == phone.chain.head
