# SPDX-License-Identifier: Apache-2.0
"""The operator's ceremonies, each as steps: what is missing is said first, then done, and done again changes nothing.

Implements ORGANISATION "Commands of the operator". `manage.py ceremony` prints the steps, asks, and takes them in turn;
a step that a kill stopped is found missing, and taken, by the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class CeremonyRefused(Exception):
    """What was found does not allow the ceremony; the text says what, and the way out. Nothing was changed."""


@dataclass(frozen=True)
class Step:
    """One thing that is missing. says: a sentence of what will be done. take: does it, and may return lines to tell."""

    says: str
    take: Callable[[], object]
