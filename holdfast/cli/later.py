# SPDX-License-Identifier: Apache-2.0
"""Imports that wait: a module imported in `with later():` runs when something of it is used, and not before.

Implements the rule that help and completion import neither cryptography nor the network: a command's file says what it
asks for, and the client is there once the command runs. In such a block stand modules, never names from them, which
would have to be there at once; names that only annotate stand under TYPE_CHECKING.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

# Ours alone: of these it is known that importing them does nothing but define.
_OURS: Final = "holdfast."


class _Finder:
    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname.startswith(_OURS) else None
        # A package runs at once: it has nothing but the names of its modules.
        if found is not None and found.loader is not None and found.submodule_search_locations is None:
            found.loader = LazyLoader(found.loader)
        return found


@contextlib.contextmanager
def later() -> Iterator[None]:
    """Let the modules of this library that are imported in this block wait for their first use."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
