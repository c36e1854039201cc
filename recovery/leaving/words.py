# SPDX-License-Identifier: Apache-2.0
"""What stays openable of somebody's who leaves, in words: as the act says it before, and their page afterwards.

Implements ORGANISATION "People" (leaver).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from recovery.leaving.preview import Custody
from tenants import access as tenants


def openers_line(generations: Sequence[int], officers: Sequence[UUID], needed: int) -> str:
    """Say who could release which generations today."""
    people = tenants.people_by_id(officers)
    named = ", ".join(people[one].name for one in officers)
    return f"{_generations(generations)}: {named} could release it today; {needed} of them have to agree."


def custody_warnings(custody: Custody, *, has_left: bool = False) -> list[str]:
    """Say which generations nobody could open, and what can be done about it while the person is still there."""
    warnings = [
        f"{_generations(one.generations)}: nobody can release it today. "
        f"{many(len(one.officers), 'officer', 'officers')} could agree, and {one.needed} are needed. Have officers "
        f"come back{'' if has_left else ', or have it deposited again'}."
        for one in custody.openers
        if not one.is_open
    ]
    if custody.missing:
        text = f"{_generations(custody.missing)}: in use and never deposited. Nobody could ever open what it encrypts."
        rescue = " While their device works, they deposit it: holdfast escrow deposit."
        warnings.append(text if has_left else text + rescue)
    if not custody.openers and not custody.missing:
        warnings.append("Nothing of theirs is in escrow: what only their devices open, nobody else opens.")
    return warnings


def _generations(numbers: Sequence[int]) -> str:
    """Write numbers in their order, runs as runs: `Archive generations 1–3, 5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"Archive generation{'s' if len(numbers) > 1 else ''} {text}"


def many(count: int, one: str, more: str) -> str:
    """Write a number with the word for one of them, or for more."""
    return f"{count} {one if count == 1 else more}"
