# SPDX-License-Identifier: Apache-2.0
"""What whoever looks has to do first: for each role, in the order of how little it can wait.

Implements PLATFORM "Console". Each line is one count in the database; what is not counted here, the overview hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.urls import reverse

from escrow import access as escrow
from escrow import campaign
from escrow import services as custody
from kernel.actors import Actor
from keys import health
from keys.health import DirectoryHealth
from tenants import access as tenants
from tenants.roles import Role

# Of proposals: more than officers leave open at a time.
_PROPOSALS: Final = 20


@dataclass(frozen=True)
class Kind:
    """One kind of line. one, many: what stands behind the count. way_out: what to do. page, query: where it leads."""

    one: str
    many: str
    way_out: str
    page: str
    query: str = ""
    badge: str = "wait"


@dataclass(frozen=True)
class Line:
    """One thing to do: how many of it, in words, what to do, and where."""

    count: str
    words: str
    way_out: str
    to: str
    badge: str


# In the order in which they stand. What is held or given up is broken, what waits for this very person comes next.
KINDS: Final[Mapping[str, Kind]] = {
    "held": Kind(
        "case is held",
        "cases are held",
        "Rows and log disagree. Look at the case, and call your operator.",
        "console-cases",
        "?group=operator",
        "alarm",
    ),
    "dead": Kind(
        "job was given up",
        "jobs were given up",
        "Something that was promised did not happen. Tell your operator.",
        "console-overview",
        "#log",
        "alarm",
    ),
    "mail": Kind(
        "mail was not taken",
        "mails were not taken",
        "Somebody was not told what they had to be told. Tell your operator: manage.py sendtestmail says why.",
        "console-overview",
        "#log",
        "alarm",
    ),
    "awaiting": Kind(
        "case waits for your decision",
        "cases wait for your decision",
        "Read it, speak with the person, then approve or deny on your own machine.",
        "console-cases",
        "?group=officers",
    ),
    "policies": Kind(
        "policy version waits for your signature",
        "policy versions wait for your signature",
        "Read what it changes, hear the words of new officers, then sign on your own machine.",
        "console-escrow",
        "#proposals",
    ),
    "keys": Kind(
        "escrow key waits for your signature",
        "escrow keys wait for your signature",
        "Compare its words, then sign on your own machine: holdfast officer key sign.",
        "console-escrow",
    ),
    "spare": Kind(
        "officer to spare",
        "officers to spare",
        "When one more is away, nothing opens. Bring one back, or propose a version with another.",
        "console-escrow",
    ),
    "invited": Kind(
        "invited person has no link that works",
        "invited people have no link that works",
        "Send them a new one.",
        "console-people",
        "?show=no-link",
    ),
    "doors": Kind(
        "person has fewer than two doors",
        "people have fewer than two doors",
        "Remind them: who loses every device has no other way back.",
        "console-few-doors",
    ),
    "devices": Kind(
        "device is stale or has run out of pre-keys",
        "devices are stale or have run out of pre-keys",
        "Ask whether it is still in use. One that was lost is revoked by its owner.",
        "console-failing-devices",
    ),
    "unanswered": Kind(
        "person never answered the escrow question",
        "people never answered the escrow question",
        "Their keys are in nobody’s custody. Ask them to answer on their device.",
        "console-answers",
        "?answer=none",
    ),
}
_OVERSEES: Final = ("held", "dead", "mail", "spare", "unanswered")
# Whose work is what. A role that is not named has nothing to do first.
WORK: Final[Mapping[str, frozenset[str]]] = {
    Role.OWNER: frozenset((*_OVERSEES, "invited", "doors", "devices")),
    Role.OFFICER: frozenset((*_OVERSEES, "awaiting", "policies", "keys", "doors", "devices")),
    Role.REVIEWER: frozenset(_OVERSEES),
    Role.AUDITOR: frozenset(_OVERSEES),
    Role.HELPDESK: frozenset(("invited", "doors", "devices")),
    Role.SUPPORT: frozenset(("invited", "doors", "devices")),
}


@dataclass(frozen=True)
class Seen:
    """What the overview has counted for other parts of the page. available, needed: officers; None without a policy."""

    directory: DirectoryHealth
    held: int = 0
    dead: int = 0
    not_taken: int = 0
    awaiting: int = 0
    has_more_awaiting: bool = False
    available: int | None = None
    needed: int = 0


def lines(actor: Actor, seen: Seen, *, now: datetime) -> list[Line]:
    """Return what the actor has to do, the least patient first. At most twelve queries."""
    work = WORK.get(actor.role, frozenset())
    found = []
    for name, kind in KINDS.items():
        if name not in work:
            continue
        count, is_due = _count(name, actor, seen, now)
        if is_due:
            more = "+" if name == "awaiting" and seen.has_more_awaiting else ""
            is_short = name == "spare" and seen.available is not None and seen.available < seen.needed
            badge = "alarm" if is_short else kind.badge
            words = kind.one if count == 1 and not more else kind.many
            found.append(Line(f"{count}{more}", words, kind.way_out, reverse(kind.page) + kind.query, badge))
    return found


def _count(name: str, actor: Actor, seen: Seen, now: datetime) -> tuple[int, bool]:
    """Return how many of a kind there are, and whether that is something to do."""
    if name == "spare":
        spare = 0 if seen.available is None else max(0, seen.available - seen.needed)
        return spare, seen.available is not None and spare < 1
    counts: dict[str, Callable[[], int]] = {
        "held": lambda: seen.held,
        "dead": lambda: seen.dead,
        "mail": lambda: seen.not_taken,
        "awaiting": lambda: seen.awaiting,
        "policies": lambda: _unsigned_policies(actor, now),
        "keys": lambda: _unsigned_keys(actor),
        "invited": tenants.count_people_without_link,
        "doors": lambda: tenants.count_active_among(health.users_with_devices(), without=health.users_with_two_doors()),
        "devices": lambda: seen.directory.failing,
        # Without a policy nobody was asked.
        "unanswered": lambda: 0 if seen.available is None else campaign.count_unanswered(),
    }
    count = counts[name]()
    return count, count > 0


def _unsigned_policies(actor: Actor, now: datetime) -> int:
    rows, _ = escrow.proposal_page(escrow.next_place(now), now=now, limit=_PROPOSALS)
    return sum(
        one.state == "open" and actor.person_id in one.asked and actor.person_id not in one.signed
        for one in custody.policy_progress(rows)
    )


def _unsigned_keys(actor: Actor) -> int:
    rows, _ = escrow.key_proposal_page()
    return sum(
        one.state == "open" and one.missing > 0 and actor.person_id in one.asked and actor.person_id not in one.signed
        for one in custody.key_progress(rows)
    )
