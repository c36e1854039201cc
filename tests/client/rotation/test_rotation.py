# SPDX-License-Identifier: Apache-2.0
"""Keys are replaced in seven steps, and a stop between any two loses nothing. PROTOCOL section 5."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from holdfast.client.errors import NotPossible, ProfileError, WrongInput
from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import chains, contacts, device, key_log, security_events
from holdfast.client.identity.chains import ForkSeen
from holdfast.client.messages import handshakes, letters, messages, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.rotation import rotation, rotation_record
from holdfast.client.rotation.rotation import EVERYTHING
from holdfast.client.server.clock import Clock
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address
from holdfast.client.vault import doors, pairing, vault
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason
from tests.cast.lying_server import NOW, TENANT, URL, _payload_hash, text
from tests.cast.members import ALICE, BOB, CHEAP, PASSWORD, Members
from tests.soak import rounds

DAY = 86_400


def with_vault(world: Members) -> Account:
    account = world.published(ALICE)
    vault.save(account)
    return account


def second_device(world: Members, first: Account) -> Account:
    """Alice's phone, approved on the first device and holding the vault."""
    phone = world.profile(ALICE)
    done = device.enrol(phone, world.server.code(ALICE), name="phone")
    pairing.approve(first, done.device, words=done.words)
    pairing.complete(phone)
    prekeys.publish(phone)
    return phone


def later(world: Members, account: Account, days: float) -> Account:
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW + int(days * DAY)))
    return account


def confirmed(world: Members, account: Account, days: float) -> Account:
    world.now = NOW + int(days * DAY)
    assert key_log.confirm_time(later(world, account, days))
    return account


def reopened(world: Members, account: Account) -> Account:
    """The account as a new process finds it in the store."""
    again = Account(account.store)
    again.connect(URL, transport=world.server.transport(), clock=Clock(lambda: NOW))
    return again


def talking(world: Members) -> tuple[Account, Account]:
    """Alice and bob, with a session that both have used."""
    alice, bob = with_vault(world), world.published(BOB)
    messages.send(alice, BOB, b"hello bob")
    exchange(bob, b"hello bob")
    messages.send(bob, ALICE, b"hello alice")
    exchange(alice, b"hello alice")
    return alice, bob


def exchange(account: Account, *expected: bytes) -> None:
    found = messages.receive(account)
    assert [one.body for one in found] == list(expected)
    for one in found:
        one.done()


def test_rotation_replaces_identity_vault_key_and_archive_generation(world: Members) -> None:
    account = with_vault(world)
    archive.new_generation(account)
    before = account.chain
    old_key, old_epoch = account.state.vault.key, account.state.vault.epoch
    done = rotation.rotate(account, EVERYTHING, reason=Reason.USER_REQUEST)
    assert done.is_done
    state = account.chain
    assert state.aik == account.identity_key.public != before.aik
    assert state.former_aiks == (before.aik,)
    assert [one.generation for one in state.generations] == [1, 2]
    assert [one.number for one in account.state.generations] == [1, 2]
    assert account.state.vault.epoch == old_epoch + 1
    assert account.state.vault.key != old_key
    # Everything on the server is under the new keys, and another device can read it.
    assert vault.load(account) is not None


@pytest.mark.parametrize("what", [{"identity"}, {"archive"}, {"vault"}, {"device"}, {"identity", "device"}])
def test_each_part_is_rotated_by_itself(world: Members, what: set[str]) -> None:
    account = with_vault(world)
    before, device_id, vault_key = account.chain, account.device.id, account.state.vault.key
    rotation.rotate(account, what, reason=Reason.USER_REQUEST)
    after = account.chain
    assert (after.aik != before.aik) == bool(what & {"identity", "device"})
    assert (account.device.id != device_id) == ("device" in what)
    assert (account.state.vault.key != vault_key) == ("vault" in what)
    assert len(after.generations) == ("archive" in what)
    assert after.devices.keys() == {account.device.id}


def dates_of(account: Account) -> list[int]:
    return [Entry.parse(entry).header.issued_at for entry in account.state.chain]


def test_rotation_while_the_servers_clock_is_ahead_is_dated_by_the_devices_own(world: Members) -> None:
    """FAULTS W10a: later entries would be refused for being dated before it."""
    account = with_vault(world)
    account.api.clock.correct(NOW + 7200)
    rotation.rotate(account, EVERYTHING, reason=Reason.USER_REQUEST)
    assert set(dates_of(account)) == {NOW}
    assert account.chain.generations[-1].not_before == NOW


def test_device_is_revoked_although_the_chain_lies_in_the_future(world: Members) -> None:
    """FAULTS W10a: an entry was dated by a clock that was two hours ahead."""
    account = with_vault(world)
    phone = second_device(world, account)
    ahead = later(world, account, days=1 / 12)
    rotation.rotate(ahead, EVERYTHING, reason=Reason.USER_REQUEST)
    account = later(world, account, days=0)
    assert account.author(account.chain).issued_at == NOW + 7200
    rotation.rotate(account, [], reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=phone.device.id)])
    assert phone.device.id not in account.chain.devices
    assert account.chain.time == dates_of(account)[-1] == NOW + 7200
    assert contacts.refresh(world.published(BOB), ALICE).head == account.chain.head, "and peers take it"


def test_rotation_that_was_signed_ahead_is_signed_anew(world: Members) -> None:
    account = later(world, with_vault(world), days=1 / 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "upload", interrupt)
        with pytest.raises(Interrupted):
            rotation.rotate(account, {"identity"}, reason=Reason.USER_REQUEST)
    account = later(world, account, days=0)
    rotation.resume(account)
    assert dates_of(account)[-1] == NOW


class Interrupted(Exception):
    """The process ends here."""


def interrupt(*_: object) -> None:
    raise Interrupted


def test_rotation_of_nothing_is_a_mistake(world: Members) -> None:
    with pytest.raises(ValueError, match="something"):
        rotation.rotate(with_vault(world), [], reason=Reason.USER_REQUEST)


def test_history_stays_readable_after_every_rotation(world: Members, tmp_path: Path) -> None:
    account = with_vault(world)
    (tmp_path / "letter").write_bytes(b"dear bob")
    archive.encrypt_file(account, tmp_path / "letter", tmp_path / "sealed")
    for _ in range(2):
        rotation.rotate(account, {*EVERYTHING, "device"}, reason=Reason.USER_REQUEST)
    archive.decrypt_file(account, tmp_path / "sealed", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"dear bob"
    assert archive.current_generation(account).number == 3


def test_sessions_go_on_under_the_new_identity(world: Members) -> None:
    alice, bob = talking(world)
    old = contacts.identity_words(contacts.refresh(bob, ALICE))
    done = rotation.rotate(alice, {"identity"}, reason=Reason.SCHEDULE)
    assert done.unreached == ()
    exchange(bob)
    assert contacts.identity_words(contacts.refresh(bob, ALICE)) != old
    messages.send(bob, ALICE, b"still you")
    exchange(alice, b"still you")
    messages.send(alice, BOB, b"still me")
    exchange(bob, b"still me")


def test_successor_registered_on_top_of_what_another_run_left_behind_is_read_first(world: Members) -> None:
    alice = world.published(ALICE)
    left = world.enrolled(ALICE)
    path, conditions = f"POST devices/{alice.device_text}/successor", []
    row = {"device_id": left.device_text, "state": "pending", "successor_of": alice.device_text}
    row["device_statement"] = b64u(left.device.statement)
    waiting: list[dict[str, str]] = []
    world.server.instead["GET devices"] = lambda _body: (200, {"devices": list(waiting), "more": False})

    def post(body: Any) -> Any:
        conditions.append(len(waiting))
        if not waiting:
            waiting.append(row)  # the other run was a moment earlier
            return 409, {"title": "Stale", "code": "successor-stale", "detail": "Stale."}
        del world.server.instead["GET devices"]
        return world.server.add_successor(alice.device_text, body, {}, alice.device_text)

    world.server.instead[path] = post
    rotation.rotate(alice, {"device"}, reason=Reason.SCHEDULE)
    assert conditions == [0, 1]


def test_messages_in_flight_to_the_replaced_device_are_read_by_its_successor(world: Members) -> None:
    alice, bob = talking(world)
    messages.send(bob, ALICE, b"on its way")
    rotation.rotate(alice, {"device"}, reason=Reason.SCHEDULE)
    exchange(alice, b"on its way")
    exchange(bob)
    messages.send(bob, ALICE, b"to the new one")
    exchange(alice, b"to the new one")
    messages.send(alice, BOB, b"from the new one")
    exchange(bob, b"from the new one")


def test_old_device_keys_are_kept_for_the_grace_period_and_then_destroyed(world: Members) -> None:
    account = with_vault(world)
    old, seed = account.device.id, account.state.identity_seed
    rotation.rotate(account, {"device"}, reason=Reason.SCHEDULE)
    assert handshakes.own_device(account, old).id == old
    rotation.maintain(confirmed(world, account, 29))
    kept = account.store.get("retired-key", account.store.keys("retired-key")[0])
    assert kept is not None
    assert seed.reveal() in kept.reveal()
    assert account.store.keys(handshakes.FORMER_DEVICE) == [old]
    done = rotation.maintain(later(world, account, 30.1))
    assert not [one for one in done if one.is_destroyed], "nobody has confirmed the time"
    assert rotation.maintain(confirmed(world, account, 30.1))[0].is_destroyed
    assert account.store.keys(handshakes.FORMER_DEVICE) == []
    kept_seeds = [account.store.get("retired-key", one) for one in account.store.keys("retired-key")]
    assert not [one for one in kept_seeds if one and seed.reveal() in one.reveal()]


def test_row_of_a_finished_rotation_holds_no_key(world: Members) -> None:
    account = with_vault(world)
    rotation.rotate(account, {*EVERYTHING, "device"}, reason=Reason.SCHEDULE)
    (row,) = rotation_record.load_rotations(account.store)
    assert [len(one) for one in (row.identity, row.archive_key, row.old_identity)] == [0, 0, 0]
    assert (row.device, len(row.vault.key), len(row.old_vault.key)) == (None, 0, 0)


# Revocation


def test_revoked_device_gets_nothing_new(world: Members) -> None:
    alice = with_vault(world)
    bob = world.published(BOB)
    phone = second_device(world, alice)
    messages.send(bob, ALICE, b"to both")
    exchange(alice, b"to both")
    exchange(phone, b"to both")
    old_key = phone.state.vault.key
    rotation.rotate(alice, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=phone.device.id)])
    state = alice.chain
    assert state.devices.keys() == {alice.device.id}
    assert state.revoked == {phone.device.id}
    assert len(state.generations) == 1
    # What it knew signs and opens nothing that comes after.
    assert phone.identity_key.public != state.aik
    assert old_key != alice.state.vault.key
    phone.state.generations = []
    with pytest.raises(ProfileError):
        vault.load(phone)
    assert not phone.state.generations
    contacts.refresh(bob, ALICE)
    assert {one.device for one in peers_of(bob, ALICE)} == {alice.device.id}
    assert sessions.gone(bob.store, contacts.refresh(bob, ALICE)) == []
    messages.send(bob, ALICE, b"to one")
    exchange(alice, b"to one")
    assert world.server.mailboxes.get(phone.device_text, []) == []


def peers_of(account: Account, user: bytes) -> set[Address]:
    state = contacts.refresh(account, user)
    listed = [*state.devices, *state.revoked]
    return {Address(user, one) for one in listed if sessions.places(account.store, Address(user, one))}


def test_remaining_device_goes_on_after_another_was_revoked(world: Members) -> None:
    alice = with_vault(world)
    phone, tablet = second_device(world, alice), second_device(world, alice)
    rotation.rotate(alice, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=phone.device.id)])
    letters.fetch(tablet)
    assert pairing.catch_up(tablet)
    assert tablet.identity_key.public == alice.identity_key.public
    assert tablet.state.vault.key == alice.state.vault.key
    archive.new_generation(tablet)
    vault.save(tablet)
    # The lost one is offered the same letters and opens none.
    with pytest.raises(ProfileError):
        rotation.rotate(phone, {"identity"}, reason=Reason.USER_REQUEST)


def test_several_lost_devices_are_revoked_by_one_rotation(world: Members) -> None:
    alice = with_vault(world)
    lost = [UUID(bytes=second_device(world, alice).device.id) for _ in range(2)]
    done = rotation.rotate(alice, [], reason=Reason.RECOVERY, revoke=lost)
    assert set(done.revoked) == set(lost)
    assert alice.chain.devices.keys() == {alice.device.id}
    assert len(alice.chain.former_aiks) == 1


def test_device_refuses_to_revoke_itself_and_what_is_not_the_persons(world: Members) -> None:
    alice, bob = with_vault(world), world.published(BOB)
    for one, match in ((alice.device.id, "itself"), (bob.device.id, "not one of yours")):
        with pytest.raises((NotPossible, WrongInput), match=match):
            rotation.rotate(alice, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=one)])
    assert rotation.list_rotations(alice) == []


def test_doors_that_only_the_person_can_set_are_named(world: Members) -> None:
    account = with_vault(world)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    assert rotation.rotate(account, {"identity"}, reason=Reason.SCHEDULE).needs == ()
    assert rotation.rotate(account, {"vault"}, reason=Reason.USER_REQUEST).needs == ("password",)


def test_device_whose_identity_was_rotated_elsewhere_catches_up_before_it_rotates(world: Members) -> None:
    alice = with_vault(world)
    phone = second_device(world, alice)
    rotation.rotate(alice, {"identity"}, reason=Reason.SCHEDULE)
    rotation.rotate(phone, {"identity"}, reason=Reason.SCHEDULE)
    assert pairing.catch_up(alice)
    assert alice.identity_key.public == phone.identity_key.public
    assert len(alice.chain.former_aiks) == 2


def test_consent_is_carried_over_to_the_new_key_and_the_new_generation_is_deposited(
    world: Members, tmp_path: Path
) -> None:
    account = world.depositor(tmp_path)
    vault.save(account)
    rotation.rotate(account, EVERYTHING, reason=Reason.SCHEDULE)
    assert escrow.has_consented(account)
    assert all(one.deposit_id for one in account.state.generations)
    assert len(account.state.generations) == 2


@pytest.mark.parametrize("is_read", [True, False], ids=["known here", "published since"])
def test_consent_to_an_older_policy_is_not_carried_over(is_read: bool, world: Members, tmp_path: Path) -> None:
    account = world.depositor(tmp_path)
    house = world.server.tenant
    predecessor = _payload_hash(house.policies[0])
    house.policies.append(house.sign_policy(house.officers, version=2, predecessor=predecessor, signers=house.officers))
    if is_read:
        escrow.prepare(account)
    posted = len(world.server.posted("statements"))
    rotation.rotate(account, EVERYTHING, reason=Reason.SCHEDULE)
    assert len(world.server.posted("statements")) == posted
    assert not escrow.has_consented(account)


# When


def test_identity_is_due_after_a_month_and_maintenance_rotates_it(world: Members) -> None:
    account = with_vault(world)
    assert not rotation.is_due(later(world, account, 29.9))
    assert rotation.maintain(account) == []
    wanted = rotation.due(later(world, account, 30))
    assert wanted is not None
    assert (set(wanted.what), wanted.reason) == ({"identity"}, Reason.SCHEDULE)
    (done,) = rotation.maintain(account)
    assert done.reason is Reason.SCHEDULE
    assert not rotation.is_due(account)
    assert len(account.chain.former_aiks) == 1


def test_security_event_is_answered_by_a_new_identity_once_a_day(world: Members) -> None:
    account = with_vault(world)
    for _ in range(2):
        security_events.note(account, "A one-time key was handed out twice.")
    assert not rotation.is_due(account)  # the identity is of today
    wanted = rotation.due(later(world, account, 1))
    assert wanted is not None
    assert (set(wanted.what), wanted.reason, wanted.why) == (
        {"identity"},
        Reason.SECURITY_EVENT,
        "A one-time key was handed out twice.",
    )
    rotation.maintain(account)
    assert security_events.list_events(account) == []
    assert not rotation.is_due(account)


def test_fork_of_the_own_chain_asks_for_everything_new(world: Members) -> None:
    account = with_vault(world)
    honest = list(world.server.chains[text(ALICE)])
    by = Author(account.device.id, NOW, account.identity_key)
    before = verify_chain([Entry.parse(one) for one in honest[:1]], tenant=TENANT, user=ALICE)
    other = chain_author.share_manifest(before, by=by, manifest_hash=bytes(32))
    world.server.chains[text(ALICE)] = [honest[0], other.encode()]
    with pytest.raises(ForkSeen):
        chains.refresh(account)
    wanted = rotation.due(account)
    assert wanted is not None
    assert (wanted.what, wanted.reason) == (EVERYTHING, Reason.SECURITY_EVENT)
    world.server.chains[text(ALICE)] = honest
    rotation.maintain(later(world, account, 0.1))
    assert not rotation.is_due(account)


def test_device_that_may_not_rotate_is_not_asked_to(world: Members) -> None:
    with_vault(world)
    pending = world.enrolled(ALICE)
    assert rotation.due(later(world, pending, 90)) is None


def test_rotation_that_another_device_made_meanwhile_is_signed_again_on_top(world: Members) -> None:
    account = with_vault(world)
    upload = f"POST users/{text(ALICE)}/chain"

    def race(_body: object) -> tuple[int, dict[str, str]]:
        del world.server.instead[upload]
        archive.new_generation(account)
        return 409, {"title": "Stale", "code": "chain-stale", "detail": "Stale."}

    world.server.instead[upload] = race
    rotation.rotate(account, EVERYTHING, reason=Reason.USER_REQUEST)
    assert [one.generation for one in account.chain.generations] == [1, 2]
    assert [one.number for one in account.state.generations] == [1, 2]
    assert len(account.chain.former_aiks) == 1


def test_next_identity_is_in_the_vault_before_the_chain_names_it_and_not_for_a_revoked_device(world: Members) -> None:
    account = with_vault(world)
    phone = second_device(world, account)
    order = [(method, where) for method, where, _ in world.server.log]
    rotation.rotate(account, {"identity"}, reason=Reason.SCHEDULE)
    acts = [one for one in [(method, where) for method, where, _ in world.server.log][len(order) :] if one[0] != "GET"]
    assert acts.index(("PUT", "vault")) < acts.index(("POST", f"users/{text(ALICE)}/chain"))
    mark = len(world.server.log)
    rotation.rotate(account, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=phone.device.id)])
    acts = [(method, where) for method, where, _ in world.server.log[mark:] if method != "GET"]
    assert acts.index(("PUT", "vault")) > acts.index(("POST", f"users/{text(ALICE)}/chain"))


# A stop anywhere


class Killed(BaseException):
    """Ends a run as a kill would: nothing catches it, and only what the store has is left."""


@dataclass
class Photograph:
    """A world and its people as they were, to begin each trial from the same place."""

    world: Members
    accounts: tuple[Account, ...]

    def developed(self) -> tuple[Members, tuple[Account, ...]]:
        old = self.world.server
        server = copy.copy(old)
        for name, value in vars(old).items():
            if isinstance(value, (dict, list, set)):
                setattr(server, name, copy.deepcopy(value))
        server.keys_log = dataclasses.replace(old.keys_log, leaves=[*old.keys_log.leaves])
        world = Members(server)
        return world, tuple(reopened(world, replace_store(one)) for one in self.accounts)


def replace_store(account: Account) -> Account:
    """The account over a copy of its store."""
    assert isinstance(account.store, MemoryStore)
    store = copy.copy(account.store)
    store.__dict__["_undo"] = []
    store.__dict__["_rows"] = {kind: dict(rows) for kind, rows in account.store.__dict__["_rows"].items()}
    return Account(store, account.state)


@pytest.mark.rounds("cuts")
@pytest.mark.parametrize("stop", ["request", "write"])
def test_rotation_survives_a_stop_at_every_point(world: Members, stop: str) -> None:
    alice, bob = talking(world)
    phone = second_device(world, alice)
    archive.new_generation(alice)
    messages.send(bob, ALICE, b"on its way")
    scene = Photograph(world, (alice, bob, phone))
    points = 0
    # An odd step: of a request, the points before it and after it take turns.
    for at in range(1, 400, rounds(5, 1)):
        then, (alice, bob, phone) = scene.developed()
        with stopping_requests(then, alice, at) if stop == "request" else stopping_writes(alice, at) as stopped:
            rotation.rotate(alice, {*EVERYTHING, "device"}, reason=Reason.USER_REQUEST)
        if not stopped:
            break
        points = at
        alice = reopened(then, alice)
        resumed = rotation.resume(alice)
        if resumed:
            require_whole(alice, phone)
        else:
            assert rotation.list_rotations(alice) == []  # stopped before anything was kept: there is no rotation
        exchange(alice, b"on its way")
        messages.send(bob, ALICE, b"afterwards")
        exchange(alice, b"afterwards")
    assert points > 20


def require_whole(alice: Account, phone: Account) -> None:
    """Alice's keys are those of the chain, all of them, and the phone can follow."""
    state = alice.chain
    assert state.aik == alice.identity_key.public
    assert len(state.former_aiks) == 1
    assert state.devices.keys() == {alice.device.id, phone.device.id}
    assert [one.generation for one in state.generations] == [1, 2]
    held = {one.number: one.commitment for one in alice.state.generations}
    assert held == {one.generation: one.commitment for one in state.generations}
    (row,) = rotation.list_rotations(alice)
    assert row.is_done
    letters.fetch(phone)
    pairing.catch_up(phone)
    assert phone.identity_key.public == alice.identity_key.public
    assert phone.state.vault.key == alice.state.vault.key


@contextmanager
def stopping_requests(world: Members, account: Account, at: int) -> Iterator[list[int]]:
    """Stop at the at-th point: odd ones before a request leaves, even ones after it was done and before it is heard."""
    seen = 0
    stopped: list[int] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal seen
        seen += 1
        if seen * 2 - 1 == at:
            stopped.append(at)
            raise Killed
        answer = world.server._answer(request)
        if seen * 2 == at:
            stopped.append(at)
            raise Killed
        return answer

    account.connect(transport=httpx2.MockTransport(handle), clock=Clock(lambda: NOW))
    try:
        yield stopped
    except Killed:
        return
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW))


@contextmanager
def stopping_writes(account: Account, at: int) -> Iterator[list[int]]:
    """Stop at the at-th write, inside the transaction that it belongs to."""
    store = account.store
    assert isinstance(store, MemoryStore)
    honest, seen = store.put, 0
    stopped: list[int] = []

    def put(kind: str, key: bytes, value: SecretBytes) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            stopped.append(at)
            raise Killed
        honest(kind, key, value)

    store.put = put  # type: ignore[method-assign]
    try:
        yield stopped
    except Killed:
        return
    finally:
        store.put = honest  # type: ignore[method-assign]
