# SPDX-License-Identifier: Apache-2.0
"""The states of an operator's account, and the one move between them."""

from __future__ import annotations

from django.db import models

from kernel.transitions import TransitionTable


class OperatorState(models.TextChoices):
    ACTIVE = "active"
    REMOVED = "removed"  # for ever; the same human being gets a new account


OPERATOR = TransitionTable(
    {OperatorState.ACTIVE: frozenset({OperatorState.REMOVED}), OperatorState.REMOVED: frozenset()}
)
