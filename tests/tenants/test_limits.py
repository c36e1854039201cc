# SPDX-License-Identifier: Apache-2.0
"""How many requests are let in, from whom, and that nobody's flood is paid for by others."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from kernel.errors import Throttled
from tenants import limits, services
from tenants.limits import SLOTS, Strangers, strangers
from tenants.models import Nonce, Tenant, TokenBucket
from tests.cast.tenants import Cast, Signer, changed, make_device, send

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
PROBE = "/api/v1/probe"
MINUTE = 60


@pytest.fixture(autouse=True)
def _nobody_refused() -> Iterator[None]:
    strangers._until.clear()
    yield
    strangers._until.clear()


class Clock:
    """The buckets' time, which stands still between requests."""

    def __init__(self) -> None:
        self.at = timezone.now()

    def now(self) -> datetime:
        return self.at

    def tick(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tenants.credentials.timezone", SimpleNamespace(now=clock.now))
    monkeypatch.setattr("tenants.services.database_now", clock.now)
    return clock


def statuses(client: Client, device: Signer, times: int) -> list[int]:
    return [device.send(client, "GET", PROBE).status_code for _ in range(times)]


def only(settings: Any, level: str, per_minute: int) -> None:
    """Make one level narrow, in requests a minute, and the others wide."""
    for name in ("CREDENTIAL", "PERSON", "TENANT", "SOURCE"):
        setattr(settings, f"HOLDFAST_REQUESTS_PER_{name}", 10**6)
    slots = SLOTS if level in ("TENANT", "SOURCE") else 1
    setattr(settings, f"HOLDFAST_REQUESTS_PER_{level}", slots * per_minute / MINUTE)


def test_credential_that_floods_is_told_to_wait_and_goes_on_at_its_rate(
    world: Cast, client: Client, settings: Any, clock: Clock
) -> None:
    only(settings, "CREDENTIAL", 6)
    device = make_device(world.alice)
    assert statuses(client, device, 8) == [200] * 6 + [429] * 2
    refused = device.send(client, "GET", PROBE)
    assert (refused.json()["code"], refused["retry-after"]) == ("too-many-requests", "1")
    # Refused requests take nothing: after the time of one token there is one.
    clock.tick(10)
    assert statuses(client, device, 2) == [200, 429]


def test_clock_that_was_ahead_and_is_set_right_locks_nobody_out(
    world: Cast, client: Client, settings: Any, clock: Clock
) -> None:
    only(settings, "CREDENTIAL", 3)
    device = make_device(world.alice)
    clock.tick(2 * 3600)
    assert statuses(client, device, 4) == [200] * 3 + [429]
    clock.tick(-2 * 3600)
    assert statuses(client, device, 4) == [200] * 3 + [429], "as if nothing had been, and no more than that"


def test_refused_request_has_spent_its_nonce(world: Cast, client: Client, settings: Any, clock: Clock) -> None:
    only(settings, "CREDENTIAL", 1)
    device = make_device(world.alice)
    assert statuses(client, device, 1) == [200]
    headers = device.headers("GET", PROBE)
    assert send(client, "GET", PROBE, b"", headers).status_code == 429
    clock.tick(60)
    assert send(client, "GET", PROBE, b"", headers).status_code == 401
    assert Nonce.objects.count() == 2


def test_replay_takes_no_token_of_its_victim(world: Cast, client: Client, settings: Any, clock: Clock) -> None:
    only(settings, "CREDENTIAL", 2)
    device = make_device(world.alice)
    headers = device.headers("GET", PROBE)
    assert [send(client, "GET", PROBE, b"", headers).status_code for _ in range(5)] == [200] + [401] * 4
    assert statuses(client, device, 2) == [200, 429]


def test_devices_of_one_person_count_together(world: Cast, client: Client, settings: Any, clock: Clock) -> None:
    only(settings, "PERSON", 3)
    phone, laptop = make_device(world.alice), make_device(world.alice)
    assert statuses(client, phone, 2) + statuses(client, laptop, 2) == [200, 200, 200, 429]
    assert statuses(client, make_device(world.bob), 1) == [200]


@pytest.mark.parametrize("level", ["TENANT", "SOURCE"])
def test_tenant_and_source_are_bounded_for_all_in_them(
    level: str, world: Cast, client: Client, settings: Any, clock: Clock
) -> None:
    only(settings, level, 3)
    devices = [in_slot(make_device, person, 5) for person in (world.alice, world.bob)]
    assert [statuses(client, devices[n % 2], 1)[0] for n in range(4)] == [200, 200, 200, 429]
    # Another tenant has a bucket of its own, another address as well.
    other = in_slot(make_device, world.mallory, 5)
    if level == "TENANT":
        assert statuses(client, other, 1) == [200]
    else:
        assert statuses(client, other, 1) == [429]
        assert statuses(Client(REMOTE_ADDR="198.51.100.7"), other, 1) == [200]


def test_flood_of_one_credential_takes_nothing_from_its_tenant(
    world: Cast, client: Client, settings: Any, clock: Clock
) -> None:
    only(settings, "TENANT", 4)
    settings.HOLDFAST_REQUESTS_PER_CREDENTIAL = 2 / MINUTE
    flooding, calm = in_slot(make_device, world.alice, 5), in_slot(make_device, world.bob, 5)
    assert statuses(client, flooding, 10) == [200] * 2 + [429] * 8
    assert statuses(client, calm, 2) == [200, 200]


def in_slot(make: Any, person: Any, slot: int) -> Signer:
    """Make a device whose credential stands in this slot."""
    while True:
        device: Signer = make(person)
        if device.id.int % SLOTS == slot:
            return device


@pytest.mark.django_db(transaction=True)
def test_sixteen_at_once_take_exactly_what_is_there(settings: Any) -> None:
    from tests.cast.tenants import build_world

    only(settings, "CREDENTIAL", 5)
    device = make_device(build_world().alice)
    start, answers = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        answers.append(device.send(Client(), "GET", PROBE).status_code)
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [429] * 11


def test_buckets_are_four_rows_however_many_requests_come_and_are_swept_when_full(
    world: Cast, client: Client, clock: Clock
) -> None:
    device = make_device(world.alice)
    statuses(client, device, 20)
    assert TokenBucket.objects.count() == 4
    services.sweep()
    assert TokenBucket.objects.count() == 4, "they are not full yet"
    TokenBucket.objects.update(full_at=int((timezone.now().timestamp() - 1) * 1_000_000))
    services.sweep()
    assert not TokenBucket.objects.exists()


def test_strangers_are_refused_by_source_and_write_nothing(world: Cast, client: Client, settings: Any) -> None:
    settings.HOLDFAST_REFUSALS_PER_SOURCE = 3 / MINUTE
    device = make_device(world.alice)
    stranger = changed(device, id=uuid.uuid4())
    with_nonces = Nonce.objects.count()
    assert statuses(client, stranger, 5) == [401] * 3 + [429] * 2
    assert statuses(client, device, 1) == [200], "who is known is let in, from the same address"
    assert statuses(Client(REMOTE_ADDR="198.51.100.7"), stranger, 1) == [401]
    assert Nonce.objects.count() == with_nonces + 1
    assert TokenBucket.objects.count() == 4


def test_memory_of_strangers_is_bounded_and_comes_back_at_its_rate(settings: Any) -> None:
    settings.HOLDFAST_REFUSALS_PER_SOURCE = 1 / MINUTE
    now = [0.0]
    memory = Strangers(clock=lambda: now[0])
    memory.count("a")
    with pytest.raises(Throttled):
        memory.count("a")
    now[0] += MINUTE
    memory.count("a")
    for number in range(limits._MAX_STRANGERS + 100):
        memory.count(f"source {number}")
    assert len(memory._until) == limits._MAX_STRANGERS


@pytest.mark.django_db(transaction=True)
def test_sweep_deletes_a_long_backlog_in_short_statements() -> None:
    from tests.cast.tenants import build_world

    world = build_world()
    past = timezone.now() - timedelta(seconds=1)
    Nonce.objects.bulk_create(
        Nonce(credential_id=uuid.uuid4(), nonce=number.to_bytes(16), tenant_id=world.acme.pk, expires_at=past)
        for number in range(1_234)
    )
    assert services.sweep() == 1_234
    assert not Nonce.objects.exists()
    assert Tenant.objects.exists()
    assert connection.in_atomic_block is False
