# SPDX-License-Identifier: Apache-2.0
"""A policy in words: what each term means for users and officers, where it is weak, and what a version changed.

Implements ESCROW "Policy and officers", for people. It reads signed policies and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from console.templatetags.console import duration
from holdfast.core.identity.policy import MIN_OFFICERS, ApproveWith, DepositRule, Policy

# A veto is pressed by a person: what is shorter than an hour, nobody sees in time.
MIN_DELAY_FOR_A_VETO: Final = 3600

_DEPOSITS: Final = {
    DepositRule.OPTIONAL: ("each user decides", "Some archive keys may not be deposited. No case brings those back."),
    DepositRule.FROM_CONSENT: ("from the user’s consent on", "Generations from before the consent are not in custody."),
    DepositRule.ALL: ("all generations", "Every generation is put into custody before it is used."),
}


@dataclass(frozen=True)
class Clause:
    """One term: its name, its value as signed, what this means, and whether it leaves a guard weak."""

    name: str
    value: str
    meaning: str
    is_weak: bool = False


@dataclass(frozen=True)
class Change:
    """One term that a version changed."""

    name: str
    before: str
    after: str


def clauses(policy: Policy) -> list[Clause]:
    """Return every term of a policy in words."""
    terms, m, n = policy.terms, policy.m, policy.n
    is_cli = terms.approve_with is ApproveWith.CLI
    value, meaning = _DEPOSITS[terms.deposits]
    return [
        Clause("Quorum", f"{m} of {n}", f"Any {m} of the {n} officers, together with the HSM, open a deposit. "
               f"{m - 1} of them cannot, and the HSM alone cannot.", is_weak=m > n - 2),
        _delay(terms.delay_seconds),
        _notice(terms.max_notice_delay_seconds),
        Clause("When notice fails", duration(terms.undelivered_delay_seconds),
               "If the subject cannot be told, this delay takes the place of the usual one."),
        Clause("Cooling-off", duration(terms.cooling_off_seconds),
               "A new officer counts, and a lowered guard holds, only this long after it is published."),
        Clause("Approvals come from", "the command line only" if is_cli else "the command line or a browser",
               "An approval signed in a browser is not counted." if is_cli else
               "An approval signed in a browser is only as good as the pages this server gave that browser.",
               is_weak=not is_cli),
        Clause("Purposes", ", ".join(sorted(terms.purposes)), "A case for any other purpose is refused."),
        Clause("Deposits", value, meaning, is_weak=terms.deposits is DepositRule.OPTIONAL),
    ]  # fmt: skip


def _delay(seconds: int) -> Clause:
    is_weak = seconds < MIN_DELAY_FOR_A_VETO
    meaning = "The time between quorum and release, in which the subject can veto."
    warning = " Too short for a person to see it." if is_weak else ""
    return Clause("Delay", duration(seconds), meaning + warning, is_weak)


def _notice(seconds: int) -> Clause:
    if not seconds:
        return Clause("Notice", "at once", "The subject is told as soon as a case about them is opened.")
    meaning = "A case may fix a later date for telling its subject. The log entry is never put off."
    return Clause("Notice", f"put off by {duration(seconds)} at most", meaning, is_weak=True)


def warnings(policy: Policy, *, available: int, active: int) -> list[str]:
    """Return what stands against this policy for as long as it is in force, gravest first.

    available: officers who could approve now. active: those whom the newest version names, cooling off or not.
    """
    m, n = policy.m, policy.n
    found = []
    if available < m:
        found.append(f"Only {available} of the {m} officers needed can act. Nothing opens until another one can.")
    elif available == m:
        found.append(f"Exactly {m} officers can act: if one more is away, nothing opens. Bring another one back.")
    if active < MIN_OFFICERS:
        found.append(
            f"Escrow is off for new deposits: only {active} officers are active, and {MIN_OFFICERS} are the least. "
            "What is in custody stays. Bring officers back, or publish a policy with further ones."
        )
    if m > n - 2:
        found.append(
            f"{m} of {n} leaves one officer to spare. When one is lost, every deposit is one loss from being closed "
            f"for ever: found a policy of at least {m + 2} officers."
        )
    return found


def changes(before: Policy, after: Policy) -> list[Change]:
    """Return what `after` changed: terms by name, the officers who came and went, and other keys."""
    old = {clause.name: clause.value for clause in clauses(before)}
    found = [
        Change(clause.name, old[clause.name], clause.value)
        for clause in clauses(after)
        if old[clause.name] != clause.value
    ]
    had, has = ({officer.person for officer in policy.roster} for policy in (before, after))
    if had != has:
        found.append(Change("Officers", f"{len(had - has)} left", f"{len(has - had)} came"))
    known = {officer.who for officer in before.roster}
    replaced = sum(officer.person in had and officer.who not in known for officer in after.roster)
    if replaced:
        found.append(Change("Officers’ keys", "as before", f"{replaced} replaced"))
    return found
