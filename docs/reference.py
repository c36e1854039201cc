# SPDX-License-Identifier: Apache-2.0
"""Writes the API reference from the docstrings of `holdfast`, into build/docs or the directory named.

Implements `make docs` with pdoc; a warning of pdoc ends it, so that no page is silently half a page.
Holds no text: what the reference says is in the code.
"""

from __future__ import annotations

import builtins
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pdoc

import holdfast
from holdfast.core.base import encoding


def write(directory: Path) -> None:
    """Write the reference of the whole package as HTML pages."""
    warnings.simplefilter("error")
    # It is imported when first asked for, and pdoc only looks at what is there.
    holdfast.Client  # noqa: B018
    # pdoc reads a recursive alias in the module that uses it, where the names of its definition are not known.
    names = {"Mapping": Mapping, "Sequence": Sequence, "Encodable": encoding.Encodable, "Value": encoding.Value}
    vars(builtins).update(names)
    pdoc.render.configure(docformat="markdown", show_source=False, footer_text="Holdfast")
    # Named one by one: beside an `__all__`, pdoc does not look for them.
    packages = ("holdfast.client", "holdfast.core", "holdfast.cli")
    pdoc.pdoc("holdfast", *packages, "!holdfast.cli.commands", "!holdfast.cli.__main__", output_directory=directory)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "build" / "docs"
    write(target)
    sys.stdout.write(f"{target / 'index.html'}\n")
