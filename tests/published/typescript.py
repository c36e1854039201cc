# SPDX-License-Identifier: Apache-2.0
"""What the TypeScript implementation writes for others to read, made by it in Node (web/sdk/tests/published)."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cast import node
from tests.web.peer import bundled


def write() -> dict[str, Any]:
    """Make the file anew: keys, salts and nonces are fresh each time."""
    node.ready()
    with TemporaryDirectory() as directory:
        made = node.run(str(node.NODE), str(bundled("tests/published/typescript.ts", Path(directory))))
    found: dict[str, Any] = json.loads(made)
    return found
