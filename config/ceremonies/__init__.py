# SPDX-License-Identifier: Apache-2.0
"""The operator's ceremonies, each as steps: what is missing is said first, then done, and done again changes nothing.

Implements ORGANISATION "Commands of the operator". `manage.py ceremony` prints the steps, asks, and takes them in turn;
a step that a kill stopped is found missing, and taken, by the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from recovery.release.directory import only_process


class CeremonyRefused(Exception):
    """What was found does not allow the ceremony; the text says what, and the way out. Nothing was changed."""


class CeremonyUnderWay(CeremonyRefused):
    """Another ceremony is being held on this installation; it ends by itself."""


@dataclass(frozen=True)
class Step:
    """One thing that is missing. says: a sentence of what will be done. take: does it, and may return lines to tell.

    is_private: what it tells is for the operator's eyes, such as a link, and stands in no transcript.
    """

    says: str
    take: Callable[[], object]
    is_private: bool = False


def ceremony_directory() -> Path:
    """Return where the ceremony keeps its own: no process that runs reads it."""
    return Path(settings.HOLDFAST_CEREMONY_DIR)


@contextmanager
def only_ceremony() -> Iterator[None]:
    """Hold the installation for this ceremony alone. Raises CeremonyUnderWay while another is held."""
    try:
        with only_process(ceremony_directory()):
            yield
    except BlockingIOError:
        raise CeremonyUnderWay(
            "Another ceremony is being held on this installation. Wait until it has ended."
        ) from None
