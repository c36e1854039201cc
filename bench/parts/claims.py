# SPDX-License-Identifier: Apache-2.0
"""Claims over HTTP, many requesters and many targets: beside bare SQL, a bare Django view, and Synapse."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from bench import load, world
from bench.crowd import Crowd, Stock, claims, lines
from bench.peers import bare_sql
from bench.peers.django_view import django_view
from bench.peers.django_view import request as bare_request
from bench.peers.synapse import HANDED_OUT, synapse

CLIENTS: Final = (1, 8, 32)
PEOPLE: Final = 64  # of each suite; all of them claim, and of each suite's is claimed in turn: few an hour of each
MOST: Final = 900  # claims in one round
PEER_MOST: Final = 4_000
SUITES: Final = ("suite 1", "suite 2")


class _Ours:
    """Our server with its crowd, and what its claims cost."""

    def __init__(self, serving: world.Serving, requesters: list[Any], targets: Stock) -> None:
        self.serving, self.requesters, self.targets = serving, requesters, targets
        self.claimed = 0
        self.cpu: list[float] = []  # of the web process, seconds a claim
        self.database_cpu: list[float] = []

    def rate(self, clients: int) -> float:
        self.targets.have(MOST)
        ready = lines(claims(self.requesters, [f"{one.path}/claim" for one in self.targets.phones], MOST), clients)
        cpu, database = self.serving.cpu(), world.database_cpu()
        run = load.run(self.serving.port, ready, has=b'"handed-out"').whole()
        self.cpu.append((self.serving.cpu() - cpu) / run.answered)
        self.database_cpu.append((world.database_cpu() - database) / run.answered)
        self.claimed += run.answered
        self.targets.took(run.answered)
        return run.rate


def main() -> None:
    """Measure and report."""
    world.start()
    from django.db import connection

    world.say(f"making {2 * PEOPLE} people with devices and keys")
    crowd = Crowd()
    by_suite = [crowd.people(PEOPLE, hybrid=hybrid) for hybrid in (False, True)]
    phones = [account.phones[0] for accounts in by_suite for account in accounts]
    targets = [Stock([account.phones[0] for account in accounts]) for accounts in by_suite]
    is_postgres = connection.vendor == "postgresql"
    before = _counted()
    with world.server() as one:
        ours = [_Ours(one, phones, of_suite) for of_suite in targets]
        rows = [*_rows(*ours), *_workers(ours[0])] if is_postgres else [*_embedded(*ours)]
    claimed = sum(each.claimed for each in ours)
    rows += _truth(before, claimed)
    world.report(rows)


def _rows(*ours: _Ours) -> list[world.Row]:
    bare_sql.stock()
    with ExitStack() as stack:
        view = stack.enter_context(django_view())
        peer: Any
        try:
            peer = stack.enter_context(synapse())
            for _ in range(PEOPLE):
                peer.add_person(1)
        except world.NotMeasured as error:
            peer = error
        # Once untimed: threads, connections and statements are made at the first requests.
        _at(max(CLIENTS), ours, view, peer, rounds=1)
        return [row for clients in CLIENTS for row in _at(clients, ours, view, peer)]


def _at(
    clients: int, ours: tuple[_Ours, ...], view: world.Serving, peer: Any, *, rounds: int = world.ROUNDS
) -> list[world.Row]:
    """Measure everybody in turn at so many clients."""
    rates: dict[str, list[float]] = {}
    for each in ours:
        each.cpu, each.database_cpu = [], []
    view_cpu: list[float] = []
    for number in range(rounds):
        world.say(f"claims, {clients} client(s), round {number + 1} of {rounds}")
        for name, work in {
            **dict(zip(SUITES, (lambda each=each: each.rate(clients) for each in ours), strict=True)),
            "view": lambda: _view(view, clients, view_cpu),
            "pgbench": lambda: bare_sql.pgbench(clients),
            **({} if isinstance(peer, world.NotMeasured) else {"synapse": lambda: _synapse(peer, clients)}),
        }.items():
            rates.setdefault(name, []).append(work())
    is_goal = clients == max(CLIENTS)
    said = f"{clients} client" + ("s" if clients > 1 else "")
    rows: list[world.Row] = []
    for suite, each in zip(SUITES, ours, strict=True):
        counts = is_goal and suite == SUITES[0]
        what = f"claims, {suite}, {said}"
        if "synapse" in rates:
            goal = ">= 6" if counts else ""
            rows.append(world.row(what, rates[suite], rates["synapse"], "/s", beside="Synapse", goal=goal))
        else:
            rows.append(world.missing(f"{what}, beside Synapse", peer, goal=">= 6" if counts else ""))
        goal = ">= 0.5" if counts else ""
        rows.append(world.row(what, rates[suite], rates["view"], "/s", beside="Django view", goal=goal))
        rows.append(world.row(what, rates[suite], rates["pgbench"], "/s", beside="pgbench"))
        cost, goal = f"{suite}, {said}: web CPU of a claim", "<= 2.2" if counts else ""
        rows.append(world.row(cost, each.cpu, view_cpu, "ms", scale=1e3, beside="Django view", goal=goal))
        rows.append(world.figure(f"{suite}, {said}: database CPU of a claim", each.database_cpu, "ms", scale=1e3))
    return rows


def _view(view: world.Serving, clients: int, cpu: list[float]) -> float:
    bare_sql.stock()
    before = view.cpu()
    run = load.run(view.port, lines([bare_request(at) for at in range(PEER_MOST)], clients))
    cpu.append((view.cpu() - before) / run.answered)
    return run.rate


def _synapse(peer: Any, clients: int) -> float:
    peer.have(MOST // PEOPLE + CLIENTS[-1])
    asked = [peer.claim(at % PEOPLE, (at * 7 + 1) % PEOPLE) for at in range(MOST)]
    return load.run(peer.serving.port, lines(asked, clients), has=HANDED_OUT).rate


def _workers(ours: _Ours) -> list[world.Row]:
    """Measure two web workers beside one: answers for each second of web CPU."""
    clients = max(CLIENTS)
    both: list[float] = []
    one: list[float] = []
    rates: list[tuple[float, float]] = []
    with world.server(workers=2) as serving:
        two = _Ours(serving, ours.requesters, ours.targets)
        two.rate(clients)  # untimed, as above
        for number in range(world.ROUNDS):
            world.say(f"claims, two workers, round {number + 1} of {world.ROUNDS}")
            ours.cpu, two.cpu = [], []
            rates.append((two.rate(clients), ours.rate(clients)))
            both.append(1 / two.cpu[0])
            one.append(1 / ours.cpu[0])
    ours.claimed += two.claimed
    what = f"claims for each second of web CPU, two workers, {clients} clients"
    return [
        world.row(what, both, one, "", beside="one worker", goal=">= 0.85"),
        world.row("claims, two workers", *zip(*rates, strict=True), "/s", beside="one worker"),  # type: ignore[misc]
    ]


def _embedded(*ours: _Ours) -> list[world.Row]:
    rows = []
    for clients in (1, 8):
        rates: dict[Callable[[int], float], list[float]] = {}
        works = [*(each.rate for each in ours), bare_sql.sqlite]
        ours[0].rate(clients)  # untimed: threads and connections are made at the first requests
        for number in range(world.ROUNDS):
            world.say(f"claims, {clients} client(s), round {number + 1} of {world.ROUNDS}")
            for work in works:
                rates.setdefault(work, []).append(work(clients))
        for suite, work in zip(SUITES, works, strict=False):
            rows.append(world.row(f"claims, {suite}, {clients} client(s)", rates[work], rates[bare_sql.sqlite], "/s"))
    return rows


def _counted() -> dict[str, int]:
    """Count what every claim must leave behind. The budgets are what is written down of an hour's claims."""
    from audit.models import Entry
    from keys.models import Claim
    from tenants.models import Nonce

    return {
        "nonces": Nonce.objects.count(),
        "audit entries": Entry.unscoped.filter(tag="keys:pre-key:claim").count(),
        "claims written down, of requesters and targets": Claim.unscoped.filter(
            requester_id__isnull=False, device_id__isnull=False, leaf__isnull=False
        ).count(),
    }


def _truth(before: dict[str, int], claimed: int) -> list[world.Row]:
    after = _counted()
    return [
        world.row(f"{name}, counted afterwards", after[name] - before[name], claimed, "", beside="claims answered")
        | {"goal": "1", "holds": after[name] - before[name] == claimed}
        for name in before
    ]


if __name__ == "__main__":
    main()
