# SPDX-License-Identifier: Apache-2.0
"""What much at rest costs: the background's rounds with idle tenants, deposits, open cases; coverage of many people.

The floor of the worker's is a statement that looks up one row by its key: what a round costs that has nothing to find.
"""

from __future__ import annotations

import re
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

from bench import world

DEPOSITS = (1_000, 10_000, 100_000)
# Of those, whose devices are revoked: they are flagged, and lie there for ever.
REVOKED = 10
CASES = (30, 300, 1_000)
TENANTS = 10_000
COVERED = 10_000  # people with a deposit
TIMES = 15
GOAL = "<= 100"  # milliseconds, with the most at rest


def main() -> None:
    """Measure and report."""
    world.start()
    with world.hsm():
        made = world.founded()
        curves: list[world.Curve] = []
        rows = [*_tenants(made), *_coverage(made), *_deposits(made, curves), *_cases(made, curves)]
        world.report(rows, curves)


def _tenants(made: Any) -> list[world.Row]:
    from audit.models import LogHead
    from audit.tasks import sequence_all
    from tenants.models import Tenant
    from tests.cast.world import columns_of

    made.sequence()
    sequence_all()
    one = [world.median_of(sequence_all, TIMES) for _ in range(world.ROUNDS)]
    ids = [uuid.uuid4() for _ in range(TENANTS)]
    Tenant.objects.bulk_create(
        (Tenant(id=id_, slug=id_.hex, slug_skeleton=id_.hex, name="Idle") for id_ in ids), batch_size=1_000
    )
    LogHead.unscoped.bulk_create(
        (
            LogHead(**columns_of(head) | {"id": None, "tenant_id": id_})
            for id_ in ids
            for head in LogHead.unscoped.filter(tenant_id=made.tenant_id)
        ),
        batch_size=1_000,
    )
    many = [world.median_of(sequence_all, TIMES) for _ in range(world.ROUNDS)]
    what = f"the sequencer's look at {TENANTS:,} idle tenants"
    return [world.row(what, many, one, "ms", scale=1e3, beside="at one", goal="<= 1.2")]


def _coverage(made: Any) -> list[world.Row]:
    """Read the coverage of many people page by page: the last pages beside the first ones, and all of it."""
    from escrow.models import Deposit
    from kernel.scope import tenant_scope
    from tests.cast.world import columns_of

    made.deposit()
    like = columns_of(Deposit.unscoped.get())
    ids = [uuid.uuid4() for _ in range(COVERED)]
    with tenant_scope(made.tenant_id):
        Deposit.objects.bulk_create(
            (
                Deposit(**like | {"id": one, "user_id": one, "half_hash": one.bytes * 2, "record_hash": one.bytes * 2})
                for one in ids
            ),
            batch_size=1_000,
        )
    phone, first, last, whole = made.directory.phone("carol"), [], [], []
    for number in range(world.ROUNDS):
        world.say(f"coverage of {COVERED:,} people, round {number + 1} of {world.ROUNDS}")
        taken = _pages(phone)
        # The very first counts the whole tenant, once for a reading of the list.
        whole.append(sum(taken))
        first.append(statistics.median(taken[1:11]))
        last.append(statistics.median(taken[-11:-1]))
    what = f"coverage of {COVERED:,} people: a page late in the list"
    pages = f"coverage of {COVERED:,} people: all {len(taken)} pages"
    return [
        world.row(what, last, first, "ms", scale=1e3, beside="one early in it", goal="<= 1.3"),
        world.figure(pages, whole, "s"),
    ]


def _pages(phone: Any) -> list[float]:
    """Return the seconds of each page, read from the first to the last."""
    taken: list[float] = []
    path, more = "/api/v1/escrow/coverage", True
    after = ""
    while more:
        begun = time.perf_counter()
        answer = phone.send("GET", path + after)
        taken.append(time.perf_counter() - begun)
        if answer.status_code != 200:
            raise RuntimeError(f"coverage answered {answer.status_code}")
        page = answer.json()
        more, after = page["more"], f"?after={page['last']}"
    return taken


def _deposits(made: Any, curves: list[world.Curve]) -> list[world.Row]:
    from escrow.models import Deposit
    from escrow.tasks import flag_deposits_of_revoked_devices
    from kernel.clock import database_now
    from kernel.scope import tenant_scope
    from keys.models import Device
    from tests.cast.world import columns_of

    device = Device.unscoped.get(id=made.directory.phone("alice").id)
    deposit = Deposit.unscoped.get(user_id=device.user_id)
    rows: list[world.Row] = []
    stored = 0
    for size in DEPOSITS:
        ids = [uuid.uuid4() for _ in range(size - stored)]
        stored = size
        with tenant_scope(made.tenant_id):
            Device.objects.bulk_create(
                (
                    # Each somebody's own: nobody has more than a few devices.
                    Device(
                        **columns_of(device)
                        | {"id": one, "user_id": one, "statement_hash": one.bytes * 2, "state": _state(place)}
                    )
                    for place, one in enumerate(ids)
                ),
                batch_size=1_000,
            )
            Deposit.objects.bulk_create(
                (
                    Deposit(
                        **columns_of(deposit)
                        | {"id": one, "user_id": one, "device_id": one}
                        | {"half_hash": one.bytes * 2, "record_hash": one.bytes * 2}
                        | {"flagged_at": database_now() if _state(place) == "revoked" else None}
                    )
                    for place, one in enumerate(ids)
                ),
                batch_size=1_000,
            )
        rows += _rows(
            f"deposits to flag among {size:,}", flag_deposits_of_revoked_devices, has_goal=size == max(DEPOSITS)
        )
    curves.append(_curve("deposits", "deposits at rest", DEPOSITS, rows))
    return rows


def _state(place: int) -> str:
    return "revoked" if place % REVOKED == 0 else "active"


def _cases(made: Any, curves: list[world.Curve]) -> list[world.Row]:
    from kernel.clock import database_now
    from recovery import tasks
    from recovery.models import Case

    deposit = made.deposit()
    opened = {name: made.opened(deposit, phone=made.directory.phone(name), purpose="legal") for name in ("bob", "rex")}
    opened["alice"] = made.opened(deposit)
    for name, case in opened.items():
        for officer in ("carol", "dan")[: 1 if name == "alice" else 2]:
            made.approve(case, officer, deposit)
    # One with one approval of two, one whose delay runs, one whose recipient has collected.
    Case.unscoped.filter(id=opened["rex"].id).update(state="collected", collected_at=database_now())
    rows: list[world.Row] = []
    kept, stored = [made.row(case) for case in opened.values()], 3
    for size in CASES:
        for row in kept:
            made.add_cases_like(row, (size - stored) // 3)
        stored = size
        for name, work in (
            ("settle", tasks.settle_cases),
            ("expire", tasks.expire_cases),
            ("follow", tasks.follow_rotations),
            ("raise alarms", tasks.raise_alarms),
        ):
            rows += _rows(f"{name}: {size:,} open cases", work, has_goal=size == max(CASES))
    curves.append(_curve("cases", "open cases", CASES, rows))
    return rows


def _curve(name: str, across: str, sizes: tuple[int, ...], rows: list[world.Row]) -> world.Curve:
    """Draw the rows that have a floor, those of each piece of work one after the other."""
    lines: dict[str, list[float]] = {}
    for row in rows:
        if "ratio" in row:
            work = re.split(r":? [a-z ]*[0-9,]+", row["what"])[0]
            lines.setdefault(work, []).append(float(row["ours"].split()[0].replace(",", "")))
    title = f"A round of the worker's, by the {across}"
    return {"name": name, "title": title, "across": across, "up": "milliseconds", "x": sizes, "lines": lines}


def _rows(what: str, work: Callable[[], object], *, has_goal: bool) -> list[world.Row]:
    from recovery.models import Case

    world.say(what)
    ours, floor = world.paired(work, lambda: Case.unscoped.filter(pk=0).first(), TIMES)
    rows = [world.row(what, ours, floor, "ms", scale=1e3)]
    return [*rows, world.figure(f"  {what}", ours, "ms", scale=1e3, goal=GOAL)] if has_goal else rows


if __name__ == "__main__":
    main()
