# SPDX-License-Identifier: Apache-2.0
"""A request is spent with its act, in one commit; and when the act is undone, or there is none, all the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from kernel import acts
from kernel.errors import NotFound, Throttled, Unauthenticated
from tenants.credentials import Spend
from tenants.limits import LEASE_LIFE_MICROSECONDS, Leases, Level, leases
from tenants.models import Nonce, RateWindow, TokenBucket
from tests.cast.tenants import Cast, Signer, build_world, make_device, send
from tests.tenants.test_limits import Clock, clock, only  # noqa: F401 — the fixture

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
PROBE, ACT = "/api/v1/probe", "/api/v1/act"

# How a request to a view that spends in its act can go, and its answer. What it asks for; whether tokens are at hand.
WAYS: dict[str, tuple[str, Any, int]] = {
    "done": ("POST", {"where": "nowhere"}, 201),
    "refused before its act": ("POST", {"where": "before", "how": "refused"}, 404),
    "crashed before its act": ("POST", {"where": "before", "how": "crash"}, 500),
    "answered without an act": ("POST", {"where": "no act"}, 200),
    "refused in its act": ("POST", {"where": "in", "how": "refused"}, 404),
    "crashed in its act": ("POST", {"where": "in", "how": "crash"}, 500),
    "answered after its act was undone": ("POST", {"where": "in", "how": "conflict", "answers": True}, 200),
    "not JSON": ("POST", b"{", 400),
    "not permitted": ("PUT", {}, 403),
}


@pytest.fixture
def device(world: Cast, client: Client) -> Signer:
    """A device of alice's that was let in on this day, so that tokens of its buckets are held."""
    made = make_device(world.alice)
    assert made.send(client, "GET", PROBE).status_code == 200
    return made


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_request_is_spent_before_its_answer_leaves_whatever_becomes_of_its_act(
    way: str, is_held: bool, device: Signer
) -> None:
    method, asked, status = WAYS[way]
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    if not is_held:
        leases.forget()
    client = Client(raise_request_exception=False)
    headers = device.headers(method, ACT, body)
    before = Nonce.objects.count()
    assert send(client, method, ACT, body, headers).status_code == status
    assert Nonce.objects.count() == before + 1
    done = RateWindow.objects.filter(key="act").count()
    assert done == (way == "done")
    for _ in range(2):
        assert send(client, method, ACT, body, headers).status_code == 401, "a replay"
    assert Nonce.objects.count() == before + 1
    assert RateWindow.objects.filter(key="act").count() == done
    assert acts._pending.get() is None


def test_request_is_spent_in_the_transaction_of_its_act(device: Signer, client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert device.send(client, "POST", ACT, b'{"where": "nowhere"}').status_code == 201
    words = [query["sql"].split()[0] for query in queries]
    # Of the tests' own transaction, the act's is a part.
    assert words == ["SELECT", "SAVEPOINT", "INSERT", "INSERT", "RELEASE"]


def test_throttled_act_has_spent_its_nonce_and_done_nothing(
    world: Cast,
    client: Client,
    settings: Any,
    clock: Clock,  # noqa: F811
) -> None:
    only(settings, "CREDENTIAL", 1)
    device = make_device(world.alice)
    assert device.send(client, "GET", PROBE).status_code == 200
    # With tokens of tenant and source at hand, the empty bucket is met inside of the act.
    body = b'{"where": "nowhere"}'
    headers = device.headers("POST", ACT, body)
    assert send(client, "POST", ACT, body, headers).status_code == 429
    clock.tick(60)
    assert send(client, "POST", ACT, body, headers).status_code == 401
    assert not RateWindow.objects.filter(key="act").exists()


@pytest.mark.django_db(transaction=True)
def test_one_signature_sent_sixteen_times_at_once_does_one_act() -> None:
    device = make_device(build_world().alice)
    assert device.send(Client(), "GET", PROBE).status_code == 200
    body = b'{"where": "nowhere"}'
    headers, start, answers = device.headers("POST", ACT, body), threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        answers.append(send(Client(), "POST", ACT, body, headers).status_code)
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] + [401] * 15
    assert RateWindow.objects.get(key="act").count == 1


class Told:
    """A spend that writes down what it is told."""

    def __init__(self, **raising: Exception) -> None:
        self.said: list[str] = []
        self._raising = raising

    def _say(self, word: str) -> None:
        self.said.append(word)
        if error := self._raising.get(word):
            raise error

    def take(self) -> None:
        self._say("take")

    def keep(self) -> None:
        self._say("keep")

    def now(self) -> None:
        self._say("now")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("raising", "in_act", "said", "raised"),
    [
        ({}, None, ["take", "keep"], None),
        ({}, NotFound(), ["take", "now"], NotFound),
        ({"take": Unauthenticated()}, None, ["take"], Unauthenticated),
        ({"take": Throttled(), "now": Throttled()}, None, ["take", "now"], Throttled),
        # Another copy of the request was let in meanwhile: of the two, one gets an answer.
        ({"now": Unauthenticated()}, NotFound(), ["take", "now"], Unauthenticated),
        # What the database has committed before it went away, nobody knows.
        ({"now": Unauthenticated()}, OperationalError(), ["take", "now"], OperationalError),
        ({"now": OperationalError()}, OperationalError("first"), ["take", "now"], OperationalError),
        ({"now": OperationalError()}, NotFound(), ["take", "now"], OperationalError),
    ],
)
def test_act_that_is_undone_spends_once_more(
    raising: dict[str, Exception], in_act: Exception | None, said: list[str], raised: type[Exception] | None
) -> None:
    spend = Told(**raising)
    acts.defer(spend)

    def act() -> None:
        with acts.act():
            if in_act:
                raise in_act

    if raised is None:
        act()
    else:
        with pytest.raises(raised):
            act()
    assert spend.said == said
    acts.settle()
    with acts.act():
        pass
    assert spend.said == said, "once it is spent, nothing is left to spend"


# ── Tokens that are taken in advance ─────────────────────────────────────────────────────────────────────────


def spender(device: Signer, cast: Cast) -> Callable[[], Spend]:
    from datetime import UTC, datetime
    from secrets import token_bytes

    from kernel.actors import Actor

    actor = Actor(cast.acme.pk, "device", device.id, person_id=cast.alice.pk)
    ends = datetime(2030, 1, 1, tzinfo=UTC)
    return lambda: Spend(actor, token_bytes(16), expires_at=ends, source="127.0.0.1")


def let_in(spend: Callable[[], Spend]) -> bool:
    try:
        spend().now()
    except Throttled:
        return False
    return True


@pytest.mark.parametrize("level", ["CREDENTIAL", "PERSON", "TENANT", "SOURCE"])
@pytest.mark.parametrize("per_minute", [60, 150, 200])
def test_leases_never_let_more_in_than_the_bucket_holds(
    level: str,
    per_minute: int,
    world: Cast,
    settings: Any,
    clock: Clock,  # noqa: F811
) -> None:
    only(settings, level, per_minute)
    spend = spender(make_device(world.alice), world)
    assert sum(let_in(spend) for _ in range(per_minute + 20)) == per_minute
    # Another process, that holds no token, gets none either.
    leases.forget()
    assert not let_in(spend)
    clock.tick(60)
    assert sum(let_in(spend) for _ in range(per_minute + 20)) == per_minute


def test_burst_of_requests_writes_each_bucket_once_a_lease(world: Cast, settings: Any, clock: Clock) -> None:  # noqa: F811
    only(settings, "CREDENTIAL", 20 * 60)
    spend = spender(make_device(world.alice), world)
    with CaptureQueriesContext(connection) as queries:
        assert all(let_in(spend) for _ in range(40))
    table = TokenBucket._meta.db_table
    written = [query for query in queries if table in query["sql"]]
    # PostgreSQL takes all of them in one statement. Of the wide ones more is taken than 40 requests use.
    assert len(written) == (2 if connection.vendor == "postgresql" else 5)


def test_lease_that_was_not_used_is_forgotten_and_a_clock_set_back_keeps_none() -> None:
    level, at = Level("credential", "c", 50_000), 10**15
    held = Leases()
    assert held.take([level], at) == [20]
    assert held.take([level], at) == [1], "while one thread asks, another asks for what it needs"
    held.give(level, 19, at)
    assert [held.take([level], at) for _ in range(3)] == [[0]] * 3
    assert held.take([level], at - 1) == [20]
    held.give(level, 19, at)
    assert held.take([level], at + LEASE_LIFE_MICROSECONDS) == [20]


def test_leases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.limits._MAX_LEASES", 100)
    held = Leases()
    for number in range(250):
        held.take([Level("credential", f"c{number}", 50_000)], 10**15)
    assert len(held._held) == 100


def test_replay_and_whoever_is_refused_give_back_what_they_held(world: Cast, settings: Any, clock: Clock) -> None:  # noqa: F811
    only(settings, "PERSON", 2)
    settings.HOLDFAST_REQUESTS_PER_CREDENTIAL = 20
    device = make_device(world.alice)
    spend = spender(device, world)
    assert [let_in(spend) for _ in range(2)] == [True, True]
    held = {key[0]: lease.tokens for key, lease in leases._held.items()}
    assert [let_in(spend) for _ in range(5)] == [False] * 5
    after = {key[0]: lease.tokens for key, lease in leases._held.items()}
    assert (after["t"], after["s"]) == (held["t"], held["s"]), "a wider bucket pays for what a narrower let pass"
    clock.tick(60)
    once = spend()
    once.now()
    held = {key[0]: lease.tokens for key, lease in leases._held.items()}
    replay = spend()
    replay._row = once._row
    with pytest.raises(Unauthenticated):
        replay.now()
    assert {key[0]: lease.tokens for key, lease in leases._held.items()} == held
