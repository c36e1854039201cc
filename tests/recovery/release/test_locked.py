# SPDX-License-Identifier: Apache-2.0
"""A locked tenant: nothing is released and delays stand still, by the log and not by a row (ORGANISATION "Lock")."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.writers import Role as LogRole
from kernel.clock import database_now
from kernel.scope import tenant_scope
from recovery import tasks
from recovery.release.clock import Moment, Now
from recovery.release.facts import CaseFacts, Facts, Place
from tenants import locking
from tenants.models import Person, Sponsorship, Tenant
from tenants.roles import Role
from tenants.sessions import session_actor
from tenants.states import TenantState
from tests.cast import statements as cast
from tests.cast.founded import Hsm
from tests.cast.roles import roles_of
from tests.cast.statements import NOW, SIGNED_POLICY, TENANT
from tests.cast.tenants import make_person
from tests.cast.world import OpenCase, World
from tests.recovery.cases.test_vetoes import veto
from tests.recovery.release.test_believed import forge
from tests.recovery.release.test_facts import told_of
from tests.recovery.release.test_forged_rows import due

rounds = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]


class TestLog:
    """What the release process makes of the entries alone."""

    OWNERS = (uuid4().bytes, uuid4().bytes)
    LONG = SIGNED_POLICY.policy.terms.undelivered_delay_seconds

    def facts(self, *entries: tuple[str, int, bytes, dict[str, Any]]) -> Facts:
        roles = roles_of(UUID(bytes=TENANT.tenant), unsigned=(99, bytes(32)))
        found = told_of([SIGNED_POLICY])
        first = [
            (tag, 0, b"", {"subject": one, **body})
            for one in self.OWNERS
            for tag, body in (("tenants:person:create", {"role": "owner"}), ("tenants:person:activate", {}))
        ]
        for index, (tag, at, person, body) in enumerate([*first, *entries], 1):
            subject = body.pop("subject", TENANT.tenant)
            leaf = LogEntry(uuid4().bytes, tag, "user:x", person, str(UUID(bytes=subject)), NOW, body).to_leaf()
            found.absorb(leaf, Place(index, Moment(NOW + at, NOW + at)), roles)
        assert not found.wrong
        return found

    def asked(self, at: int, first: bytes, second: bytes) -> tuple[str, int, bytes, dict[str, Any]]:
        return "tenants:tenant:ask-unlock", at, second, {"proposer": str(UUID(bytes=first)), "unlock_at": 0}

    def is_locked(self, facts: Facts, at: int) -> bool:
        return facts.locks.is_locked(NOW + at)

    def test_two_owners_unlock_after_the_long_delay(self) -> None:
        one, two = self.OWNERS
        facts = self.facts(
            ("tenants:tenant:lock", 10, one, {}),
            self.asked(20, one, two),
            ("tenants:tenant:unlock", 21, b"", {}),
        )
        over = 20 + self.LONG
        assert [self.is_locked(facts, at) for at in (10, over - 1, over)] == [True, True, False]

    @pytest.mark.parametrize("who", ["one", "stranger", "sponsor", "suspended", "member"])
    def test_others_unlock_nothing(self, who: str) -> None:
        one, two = self.OWNERS
        before: list[Any] = []
        first, second = one, two
        if who == "one":
            second = one
        elif who == "stranger":
            second = uuid4().bytes
        elif who == "sponsor":
            before = [("tenants:password:set", 5, one, {"subject": two})]
        elif who == "suspended":
            before = [("tenants:person:suspend", 5, b"", {"subject": two})]
        else:
            before = [("tenants:person:change-role", 5, b"", {"subject": two, "from": "owner", "to": "member"})]
        facts = self.facts(
            *before,
            ("tenants:tenant:lock", 10, one, {}),
            self.asked(20, first, second),
            ("tenants:tenant:unlock", 20 + self.LONG, b"", {}),
        )
        assert self.is_locked(facts, 10**9)

    def test_worker_alone_unlocks_nothing(self) -> None:
        facts = self.facts(("tenants:tenant:lock", 10, self.OWNERS[0], {}), ("tenants:tenant:unlock", 20, b"", {}))
        assert self.is_locked(facts, 10**9)

    def test_time_in_the_lock_counts_for_no_delay(self) -> None:
        one, two = self.OWNERS
        facts = self.facts(
            ("tenants:tenant:lock", 10, one, {}),
            self.asked(20, one, two),
            ("tenants:tenant:unlock", 20 + self.LONG, b"", {}),
        )
        moment = Moment(NOW + 5, NOW + 5)
        case = CaseFacts(
            bytes(32), SIGNED_POLICY.hash, cast.ALICE, cast.ALICE, cast.ALICE, Place(1, moment), told=moment
        )
        for at, passed in ((10, 5), (15, 5), (20 + self.LONG, 5), (120 + self.LONG, 105)):
            now = Now(NOW + at, NOW + at)
            assert now.wall - facts.for_delays(moment, now) == passed
            told = facts.told(case, now).handed_over_at
            assert told is not None
            assert now.wall - told == passed


@pytest.fixture
def owners(world: World) -> list[Person]:
    return second_owner(world)


def second_owner(world: World) -> list[Person]:
    with tenant_scope(world.tenant_id):
        return [world.cast.olivia, make_person("oscar", Role.OWNER)]


def lock(world: World, owner: Person) -> None:
    with tenant_scope(world.tenant_id):
        locking.lock(actor=session_actor(Person.objects.get(pk=owner.pk)))


def ask(world: World, first: Person, second: Person, delay: int) -> None:
    with tenant_scope(world.tenant_id):
        locking.ask_unlock(
            proposer_id=first.pk,
            delay=timedelta(seconds=delay),
            actor=session_actor(Person.objects.get(pk=second.pk)),
        )


def row(world: World, **changes: Any) -> None:
    Tenant.objects.filter(pk=world.tenant_id).update(**changes)


def look(world: World, case: OpenCase) -> tuple[str, str]:
    if world.state(case) == "waiting":
        due(world, case)
    world.tick()
    found = world.row(case)
    return found.state, found.why


class TestReleaseProcess:
    pytestmark = rounds

    def test_locked_tenant_releases_nothing_whatever_its_row_says(
        self, world: World, hsm: Hsm, owners: list[Person]
    ) -> None:
        case, _ = world.approved("carol", "dan")
        lock(world, owners[0])
        assert look(world, case) == ("waiting", "tenant-locked")
        row(world, state=TenantState.ACTIVE, locked_at=None, unlocked_at=database_now())
        assert look(world, case) == ("waiting", "tenant-locked")
        forge(world, LogRole.WORKER, "tenants:tenant:unlock", subject=str(world.tenant_id))
        assert look(world, case) == ("waiting", "tenant-locked")
        assert hsm.unwraps() == 0

    def test_row_that_says_locked_is_obeyed_before_its_entry_is_here(self, world: World, hsm: Hsm) -> None:
        case, _ = world.approved("carol", "dan")
        row(world, state=TenantState.LOCKED)
        assert look(world, case) == ("waiting", "tenant-locked")
        row(world, state=TenantState.ACTIVE)
        assert look(world, case)[0] == "released"

    def test_two_owners_and_the_long_delay_let_it_go_on(self, found: Callable[..., World], hsm: Hsm) -> None:
        world = found(undelivered_delay_seconds=0)
        owners = second_owner(world)
        case, _ = world.approved("carol", "dan")
        lock(world, owners[0])
        ask(world, owners[0], owners[1], 0)
        assert look(world, case) == ("waiting", "tenant-locked")
        assert locking.unlock_due() == 1
        assert look(world, case)[0] == "released"
        assert hsm.unwraps() == 1

    def test_delay_is_the_policys_whatever_the_server_says(self, world: World, hsm: Hsm, owners: list[Person]) -> None:
        case, _ = world.approved("carol", "dan")
        lock(world, owners[0])
        ask(world, owners[0], owners[1], 0)
        assert locking.unlock_due() == 1
        assert look(world, case) == ("waiting", "tenant-locked")
        assert hsm.unwraps() == 0

    def test_owner_whom_the_other_let_in_is_no_second(self, found: Callable[..., World], hsm: Hsm) -> None:
        world = found(undelivered_delay_seconds=0)
        owners = second_owner(world)
        actor = session_actor(owners[0])
        with tenant_scope(world.tenant_id):
            from tenants import administration

            administration.change_address(person=owners[1], email="o@acme.test", actor=actor)
        Sponsorship.unscoped.all().delete()
        case, _ = world.approved("carol", "dan")
        lock(world, owners[0])
        ask(world, owners[0], owners[1], 0)
        assert locking.unlock_due() == 1
        assert look(world, case) == ("waiting", "tenant-locked")
        assert hsm.unwraps() == 0

    def test_veto_goes_on_in_the_lock(self, world: World, owners: list[Person]) -> None:
        case, _ = world.approved("carol", "dan")
        lock(world, owners[0])
        assert veto(case, world.directory.phone("alice")).json()["state"] == "vetoed"
        tasks.settle_cases()
        assert world.state(case) == "vetoed"

    def test_no_case_is_opened_and_nothing_released_is_handed_out(self, world: World, owners: list[Person]) -> None:
        case, deposit = world.approved("carol", "dan")
        assert look(world, case)[0] == "released"
        phone = world.new_phone("bob")
        lock(world, owners[0])
        answer = world.open(world.case(phone, deposit))
        assert (answer.status_code, answer.json()["code"]) == (409, "tenant-locked")
        answer = world.collect(case)
        assert (answer.status_code, answer.json()["code"]) == (409, "tenant-locked")
        assert world.state(case) == "released"
        row(world, state=TenantState.ACTIVE, locked_at=None)
        assert world.collect(case).status_code == 200
