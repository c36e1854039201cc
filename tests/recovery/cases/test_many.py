# SPDX-License-Identifier: Apache-2.0
"""What the worker finds among all cases is what a count of each would move, and costs the same for a thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from escrow.models import PolicyOfficer
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.escrow.approvals import Approver
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity import cases
from holdfast.core.identity.acts import Standing
from holdfast.core.signed.payloads import Header
from kernel.clock import database_now
from kernel.errors import DomainError
from kernel.scope import tenant_scope
from keys.models import Device
from recovery import tasks
from recovery.cases import counting, many
from recovery.models import Approval, Case, CaseDeposit, Notice, SealedShare, Veto
from recovery.states import CaseState
from tenants import access as people
from tenants import services as tenants
from tests.cast.officers import approve_as
from tests.cast.phones import now
from tests.cast.world import OpenCase, World, as_superuser, columns_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@dataclass(frozen=True)
class Three:
    """Three cases about one deposit: nobody approved the first, carol the second, carol and dan the third."""

    world: World
    deposit: Deposit
    none: OpenCase
    one: OpenCase
    two: OpenCase

    def put(self, case: OpenCase, state: CaseState) -> None:
        Case.unscoped.filter(id=case.id).update(state=state, release_at=None)

    def approve(self, case: OpenCase, name: str, **changes: Any) -> None:
        document = self.world.signed_approval(case, name, [self.deposit], **changes)
        answer = self.world.directory.phone(name).send("POST", f"{case.path}/approvals", document)
        assert answer.status_code == 201, answer.content


def three(world: World) -> Three:
    """Open them, the third with its quorum and before its delay: its subject is being told."""
    deposit = world.deposit()
    made = Three(world, deposit, *[world.opened(deposit) for _ in range(3)])
    made.approve(made.one, "carol")
    made.approve(made.two, "carol")
    made.approve(made.two, "dan")
    made.put(made.two, CaseState.QUORATE)
    notice(made, state="pending")
    return made


def moved_by(work: Callable[[UUID], None], world: World) -> set[UUID]:
    """Do a work on every case that is open, one by one; return those that it moved or failed at, and undo it."""
    found = set()
    for case in Case.unscoped.filter(state__in=(CaseState.REQUESTED, CaseState.QUORATE, CaseState.WAITING)):
        with tenant_scope(world.tenant_id), transaction.atomic():
            try:
                before = seen(case.id)
                work(case.id)
                if seen(case.id) != before:
                    found.add(case.id)
            except (DomainError, HoldfastError, ValueError):
                found.add(case.id)
            transaction.set_rollback(True)
    return found


def seen(case_id: UUID) -> tuple[Any, ...]:
    row = Case.unscoped.get(id=case_id)
    return row.state, row.release_at, SealedShare.unscoped.filter(approval__case_id=case_id).count()


def as_officer(made: Three, name: str) -> Any:
    return PolicyOfficer.unscoped.filter(person_id=made.world.cast.people[name].pk)


def change_role(made: Three, name: str, role: str) -> None:
    with tenant_scope(made.world.tenant_id):
        tenants.change_role(person=made.world.cast.people[name], role=role, actor=made.world.ceremony)


def suspend_person(made: Three, name: str) -> None:
    with tenant_scope(made.world.tenant_id):
        person = people.person(made.world.cast.people[name].pk)
        tenants.suspend_person(person=person, actor=made.world.ceremony)


def publish(made: Three, *names: str, m: int, signers: tuple[str, ...], **terms: Any) -> None:
    founders = made.world.founders
    made.world.publish(made.world.policy(m=m, names=names, **terms), signers=[founders[one] for one in signers])


def with_rex(made: Three) -> None:
    made.world.add_founder("rex")
    change_role(made, "rex", "officer")


def raise_m(made: Three) -> None:
    with_rex(made)
    publish(made, "carol", "dan", "erin", "rex", m=3, signers=("carol", "dan"))


def leave_out_dan(made: Three) -> None:
    with_rex(made)
    publish(made, "carol", "rex", "erin", m=2, signers=("carol", "dan", "erin"))


def veto_row(made: Three, *, delays: bool) -> None:
    with tenant_scope(made.world.tenant_id):
        device = made.world.directory.phone("alice").id
        Veto.objects.create(case_id=made.two.id, device_id=device, at=database_now(), delays=delays)


def notice(made: Three, **columns: Any) -> None:
    Notice.unscoped.filter(case_id=made.two.id, kind="opened", person_id=made.world.cast.alice.pk).update(**columns)


def put_notice_off(made: Three) -> None:
    with as_superuser("recovery_case"):
        Case.unscoped.filter(id=made.two.id).update(notice_at=database_now() + timedelta(hours=1))


def damage(made: Three) -> None:
    with as_superuser("recovery_approval"):
        Approval.unscoped.filter(case_id=made.two.id).update(statement=b"\x00")


def add_a_deposit(made: Three) -> None:
    """Let the third case name a deposit of which nobody handed over a share."""
    other = made.world.deposit()
    with tenant_scope(made.world.tenant_id):
        (named,) = CaseDeposit.objects.filter(case_id=made.two.id)
        deposit_id = UUID(bytes=other.header.deposit_id)
        CaseDeposit.objects.create(**columns_of(named) | {"deposit_id": deposit_id, "position": 1})


# What happens, and whether the third case moves by the count that follows; the second was approved by one of two.
HAPPENS: dict[str, tuple[Sequence[Callable[[Three], object]], bool]] = {
    "nothing": ([], False),
    "its notice was handed over": ([partial(notice, state="handed-over")], True),
    "its notice failed": ([partial(notice, state="failed")], True),
    "its notice is for later": ([put_notice_off], True),
    "it is with its officers": ([lambda made: made.put(made.two, CaseState.REQUESTED)], True),
    "an officer is suspended": ([lambda made: made.world.stand("dan", Standing.SUSPENDED, by="erin")], True),
    "an officer is away": ([lambda made: made.world.stand("dan", Standing.AWAY)], True),
    "an officer who did nothing is away": ([lambda made: made.world.stand("erin", Standing.AWAY)], False),
    "an officer lost the role": ([partial(change_role, name="dan", role="member")], True),
    "an officer is suspended as a person": ([partial(suspend_person, name="dan")], True),
    "an officer's keys were lost": ([lambda made: as_officer(made, "dan").update(keys_lost_at=database_now())], True),
    "an officer cools off": (
        [lambda made: as_officer(made, "dan").update(counts_from=database_now() + timedelta(hours=1))],
        True,
    ),
    "an officer cooled off": (
        [lambda made: as_officer(made, "dan").update(counts_from=database_now() - timedelta(seconds=1))],
        False,
    ),
    "one more has to approve": ([raise_m], True),
    "another version leaves an officer out": ([leave_out_dan], True),
    "its subject vetoed for the third time": ([partial(veto_row, delays=False)], True),
    "a suspended device objected": ([partial(veto_row, delays=True)], False),
    "what was signed cannot be read": ([damage], True),
    "a deposit has no share": ([add_a_deposit], True),
}


@pytest.mark.parametrize("part", range(3))
def test_what_is_found_is_what_a_count_of_each_would_move(part: int, world: World) -> None:
    made, actor = three(world), world.ceremony
    for name in world.cast.people:
        if name != "mallory":
            world.directory.phone(name)  # enrolled once, and not undone

    def count(case_id: UUID) -> None:
        counting.settle_case(case_id=case_id, actor=actor)

    for name, (happens, moves) in list(HAPPENS.items())[part::3]:
        with undone(world):
            for act in happens:
                act(made)
            found = {case_id for case_id, _ in many.to_settle(database_now())}
            assert found == moved_by(count, world), name
            assert (made.two.id in found) is moves, name
            tasks.settle_cases()
            # Each once; what fails is tried again.
            left = {made.two.id} if name == "what was signed cannot be read" else set()
            assert {case_id for case_id, _ in many.to_settle(database_now())} == left, name


@contextmanager
def undone(world: World) -> Iterator[None]:
    """Undo afterwards whatever happens to a world."""
    policies, founders = list(world.policies), dict(world.founders)
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    world.policies[:], world.founders = policies, founders


def test_approval_that_runs_out_is_found(world: World) -> None:
    made = three(world)
    founder, policy = world.founders["dan"], world.policies[-1]
    officer = policy.policy.officer(founder.signing_key.public.kid)
    assert officer is not None
    header = Header(world.tenant_id.bytes, founder.person, b"", now(), expires_at=now() + 3600)
    by = Approver(officer, founder.signing_key, founder.sealing_key, header, cases.ClientKind.CLI)
    signed, outers = approve_as(made.one.statement, {made.deposit.header.deposit_id: made.deposit}, by, policy=policy)
    shares = [[str(UUID(bytes=one.deposit_id)), b64u(one.outer)] for one in outers]
    document = {"statement": b64u(signed.encode()), "shares": shares}
    answer = world.directory.phone("dan").send("POST", f"{made.one.path}/approvals", document)
    assert answer.status_code == 201, answer.content
    made.put(made.one, CaseState.QUORATE)
    Notice.unscoped.filter(kind="opened").update(state="pending")
    at = database_now()
    assert many.to_settle(at) == []
    assert many.to_settle(at + timedelta(hours=1)) == [(made.one.id, world.tenant_id)]


def of_alice(world: World, *, act: Any) -> None:
    with tenant_scope(world.tenant_id):
        act(person=people.person(world.cast.alice.pk), actor=world.ceremony)


def suspend_device(world: World) -> None:
    with tenant_scope(world.tenant_id):
        tenants.suspend_credential(credential_id=world.directory.phone("alice").id, actor=world.ceremony)


# What happens to the subject of a case that another receives, and whether its delay becomes the long one.
SILENCES: dict[str, tuple[Sequence[Callable[[World], object]], bool]] = {
    "nothing": ([], False),
    "the subject is suspended": ([partial(of_alice, act=tenants.suspend_person)], True),
    "the subject was suspended and is back": (
        [partial(of_alice, act=tenants.suspend_person), partial(of_alice, act=tenants.activate_person)],
        True,
    ),
    "the subject's device is suspended": ([suspend_device], True),
    "the subject's device is revoked": (
        [
            lambda world: Device.unscoped.filter(id=world.directory.phone("alice").id).update(
                state="revoked", revoked_at=database_now() - timedelta(seconds=1)
            )
        ],
        True,
    ),
    "the delay is long already": (
        [
            partial(of_alice, act=tenants.suspend_person),
            lambda world: Case.unscoped.update(release_at=database_now() + timedelta(days=400)),
        ],
        False,
    ),
}


def test_delay_that_is_found_too_short_is_what_a_look_at_each_would_lengthen(world: World) -> None:
    deposit = world.deposit()
    theirs, own = world.opened(deposit, phone=world.directory.phone("bob"), purpose="legal"), world.opened(deposit)
    for case in (theirs, own):
        for officer in ("carol", "dan"):
            assert world.approve(case, officer, deposit).status_code == 201
    assert {world.state(theirs), world.state(own)} == {"waiting"}
    actor = world.ceremony

    def look(case_id: UUID) -> None:
        if case_id == theirs.id:  # of a case that its own subject receives nothing is asked
            counting.lengthen_delay(case_id=case_id, actor=actor)

    for name, (happens, moves) in SILENCES.items():
        with undone(world):
            for act in happens:
                act(world)
            found = {case_id for case_id, _ in many.to_lengthen(database_now())}
            assert found == moved_by(look, world) == ({theirs.id} if moves else set()), name
            tasks.settle_cases()
            assert many.to_lengthen(database_now()) == [], name


ROUNDS = {
    "settle": tasks.settle_cases,
    "expire": tasks.expire_cases,
    "follow": tasks.follow_rotations,
    "alarms": tasks.raise_alarms,
}


def test_rounds_cost_the_same_however_many_cases_lie_there(world: World) -> None:
    deposit = world.deposit()
    asked, waiting, collected = (
        world.opened(deposit),
        world.opened(deposit, phone=world.directory.phone("bob"), purpose="legal"),
        world.opened(deposit, phone=world.directory.phone("rex"), purpose="legal"),
    )
    for case, names in ((asked, ("carol",)), (waiting, ("carol", "dan")), (collected, ("carol", "dan"))):
        for name in names:
            assert world.approve(case, name, deposit).status_code == 201
    Case.unscoped.filter(id=collected.id).update(state="collected", collected_at=database_now())
    kept = [world.row(case) for case in (asked, waiting, collected)]
    costs: dict[str, list[int]] = {name: [] for name in ROUNDS}
    for number in (3, 330):
        for row in kept:
            world.add_cases_like(row, number)
        for name, work in ROUNDS.items():
            with CaptureQueriesContext(connection) as queries:
                work()
            costs[name].append(len(queries))
    assert all(few == all_ for few, all_ in costs.values()), costs
    assert max(few for few, _ in costs.values()) <= 25, costs
    assert Case.unscoped.filter(state="requested").count() == 334
