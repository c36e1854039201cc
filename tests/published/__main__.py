# SPDX-License-Identifier: Apache-2.0
"""Write the published vectors anew, all of them or those named; keys are fresh each time, so every file changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.published import chains, contacts, content, doors, export, handshake, pairing, phrases, ratchet

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "holdfast"
FILES: Final[dict[str, Callable[[], dict[str, object]]]] = {
    "chains": chains.write,
    "contacts": contacts.write,
    "content": content.write,
    "doors": doors.write,
    "export": export.write,
    "handshake": handshake.write,
    "pairing": pairing.write,
    "phrases": phrases.write,
    "ratchet": ratchet.write,
}


def main(names: list[str]) -> int:
    """Write the files named, or every one."""
    for name in names or FILES:
        text = json.dumps(FILES[name](), indent=1, ensure_ascii=False)
        (VECTORS / f"{name}.json").write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
