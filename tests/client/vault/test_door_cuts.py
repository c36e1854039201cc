# SPDX-License-Identifier: Apache-2.0
"""The power goes at every request, answer and commit of what is done at the doors; done again, it comes to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from holdfast.client.escrow import archive
from holdfast.client.identity import device
from holdfast.client.messages import letters
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_door
from holdfast.client.vault import doors, pairing, share_requests, trusted, vault
from tests.cast.lying_server import LyingServer, Tenant
from tests.cast.members import ALICE, BOB, CHEAP, PASSWORD, Members
from tests.client.cuts import Moments, Scene, reopened, sweep
from tests.soak import rounds

CAROL = b"carol-----------"

pytestmark = pytest.mark.timeout(300)


def worlds(founded: Tenant, furnish: Callable[[Members], Scene]) -> Iterator[Scene]:
    """Return fresh worlds, each as `furnish` leaves it."""
    while True:
        copy = Tenant.__new__(Tenant)
        lists = {name: [*getattr(founded, name)] for name in ("policies", "keys", "roles")}
        copy.__dict__.update(founded.__dict__ | lists)
        yield furnish(Members(LyingServer(copy)))


def tablet_of(world: Members) -> Account:
    account = world.profile(ALICE)
    device.enrol(account, world.server.code(ALICE), name="tablet")
    return account


def as_kept(scene: Scene) -> Account:
    """Return who acted, as the store has them."""
    return reopened(scene.world, scene.account, Moments())


@pytest.mark.rounds("cuts")
def test_recovery_comes_to_its_end_wherever_it_was_cut(founded: Tenant) -> None:
    def furnish(world: Members) -> Scene:
        laptop = world.enrolled(ALICE)
        archive.new_generation(laptop)
        doors.set_password(laptop, PASSWORD, cost=CHEAP)
        return Scene(world, tablet_of(world), (laptop,))

    def act(account: Account) -> None:
        vault.chain_of(account)
        if not len(account.state.identity_seed):
            by_door.by_password(account, PASSWORD)
        if by_door.is_unfinished(account):
            by_door.finish(account, lost=[one.device for one in by_door.devices(account)])

    def check(scene: Scene) -> None:
        (laptop,) = scene.others
        state = vault.chain_of(laptop)
        assert set(state.devices) == {scene.account.device.id}
        assert laptop.device.id in state.revoked
        tablet = as_kept(scene)
        assert tablet.identity_key.public == state.aik != laptop.identity_key.public
        assert [one.number for one in tablet.state.generations] == list(range(1, len(state.generations) + 1))
        assert tablet.state.vault.epoch > laptop.state.vault.epoch
        assert vault.load(tablet) is not None
        assert not by_door.is_unfinished(tablet)

    assert sweep(worlds(founded, furnish), act, check, step=rounds(3, 1)) > 80


@pytest.mark.rounds("cuts")
def test_shares_reach_every_contact_wherever_giving_them_was_cut(founded: Tenant) -> None:
    def furnish(world: Members) -> Scene:
        alice = world.enrolled(ALICE)
        vault.save(alice)
        return Scene(world, alice, (world.enrolled(BOB), world.enrolled(CAROL)))

    def act(account: Account) -> None:
        if not trusted.resume(account) and trusted.find_chosen_set(account) is None:
            trusted.choose(account, [BOB, CAROL], k=2)

    def check(scene: Scene) -> None:
        for contact in scene.others:
            letters.fetch(contact)
            assert [one.is_current for one in trusted.take_shares(contact)] == [True]
        alice = as_kept(scene)
        assert alice.store.keys(trusted._UNDER_WAY[0]) == []
        assert [one.kind for one in doors.status(alice) if one.is_open] == [doors.CONTACTS]

    assert sweep(worlds(founded, furnish), act, check, step=rounds(3, 1)) > 20


@pytest.mark.rounds("cuts")
def test_shares_open_the_vault_wherever_asking_for_them_was_cut(founded: Tenant) -> None:
    def furnish(world: Members) -> Scene:
        alice = world.enrolled(ALICE)
        friends = (world.enrolled(BOB), world.enrolled(CAROL))
        trusted.choose(alice, [BOB, CAROL], k=2)
        for one in friends:
            letters.fetch(one)
            trusted.take_shares(one)
        return Scene(world, tablet_of(world), (alice, *friends))

    friends: list[Account] = []

    def act(account: Account) -> None:
        if len(account.state.identity_seed):
            return
        asked = share_requests.open_request(account)
        for one in friends:
            share_requests.give(one, asked.request_id, code=asked.code)
        by_door.by_contacts(account)

    def scenes() -> Iterator[Scene]:
        for scene in worlds(founded, furnish):
            friends[:] = scene.others[1:]
            yield scene

    def check(scene: Scene) -> None:
        tablet = as_kept(scene)
        assert tablet.identity_key.public == scene.others[0].identity_key.public
        assert by_door.is_unfinished(tablet)

    assert sweep(scenes(), act, check, step=rounds(3, 1)) > 20


@pytest.mark.rounds("cuts")
def test_pairing_comes_to_its_end_wherever_the_new_device_was_cut(founded: Tenant) -> None:
    def furnish(world: Members) -> Scene:
        laptop = world.enrolled(ALICE)
        vault.save(laptop)
        tablet = tablet_of(world)
        pairing.accept(laptop, pairing.request(tablet).text())
        return Scene(world, tablet, (laptop,))

    def act(account: Account) -> None:
        if not len(account.state.vault.key):
            assert pairing.complete(account).is_authenticated

    def check(scene: Scene) -> None:
        (laptop,), tablet = scene.others, as_kept(scene)
        assert tablet.identity_key.public == laptop.identity_key.public
        assert tablet.state.vault.key == laptop.state.vault.key
        assert vault.save(tablet) == laptop.state.vault.version + 1

    assert sweep(worlds(founded, furnish), act, check, step=rounds(3, 1)) > 10
