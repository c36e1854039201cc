# SPDX-License-Identifier: Apache-2.0
"""Write the published vectors anew, all of them or those named; keys are fresh each time, so every file changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.published import (
    archive,
    audit,
    chains,
    contacts,
    content,
    custody,
    doors,
    escrow,
    export,
    handshake,
    log,
    pairing,
    phrases,
    prekeys,
    profile,
    ratchet,
    requests,
    statements,
    typed,
    typescript,
)

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "holdfast"
FILES: Final[dict[str, Callable[[], dict[str, object]]]] = {
    "archive": archive.write,
    "audit": audit.write,
    "chains": chains.write,
    "contacts": contacts.write,
    "content": content.write,
    "custody": custody.write,
    "doors": doors.write,
    "escrow": escrow.write,
    "export": export.write,
    "handshake": handshake.write,
    "log": log.write,
    "pairing": pairing.write,
    "phrases": phrases.write,
    "prekeys": prekeys.write,
    "profile": profile.write,
    "ratchet": ratchet.write,
    "requests": requests.write,
    "statements": statements.write,
    "typed": typed.write,
    "typescript": typescript.write,
}


def main(names: list[str]) -> int:
    """Write the files named, or every one."""
    for name in names or FILES:
        text = json.dumps(FILES[name](), indent=1, ensure_ascii=False)
        (VECTORS / f"{name}.json").write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
