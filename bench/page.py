# SPDX-License-Identifier: Apache-2.0
"""What was measured: kept in var/bench part by part, and made into docs/performance.md with its pictures."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from bench.peers.venvs import python_of
from bench.world import Curve, Row

PROJECT: Final = Path(__file__).parent.parent
KEPT: Final = PROJECT / "var" / "bench" / "results.json"
PAGE: Final = PROJECT / "docs" / "performance.md"
PICTURES: Final = PROJECT / "docs" / "pictures"
COLUMNS: Final = ("what", "ours", "floor or peer", "ratio", "spread", "goal", "holds")
HEAD: Final = """# Performance

Written by `make bench PART=page` of what `make bench` measured. Every figure stands beside its floor (the least that
the work costs: bare SQL, bare primitives) or a peer (another program that does the same), measured in the same run on
the same machine, in turn, at least three rounds of each. The figures are medians; *ratio* is the median of the
rounds' ratios, *spread* their least and most. Pure steps have no spread: the best of many rounds counts. Only ratios
travel to another machine.

Requests are signed, and every claim has its nonce, budget and audit entry; the settings are those of production with
the hourly limits lifted. Synapse and Barbican come from PyPI into virtual environments of their own.
"""


def machine() -> str:
    """Name the machine, and what on it decides about speed."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    said = subprocess.run([_postgres(), "--version"], capture_output=True, text=True, check=False)
    postgres = said.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL").partition(" (")[0]
    return (
        f"{model}, {os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {postgres}"
    )


def _postgres() -> str:
    from tests.cast.postgres import CANDIDATES

    return str(CANDIDATES[0] / "postgres")


def _load() -> dict[str, Any]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(part: str, database: str, rows: list[Row], curves: list[Curve]) -> None:
    """Keep what a part measured, in the place of what it measured before."""
    kept = _load()
    kept[f"{part} {database}"] = {
        "rows": rows,
        "curves": curves,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(kept, indent=1))


def write() -> list[str]:
    """Make the page and its pictures of all that is kept; returns what was written."""
    from bench.__main__ import PARTS

    kept = _load()
    order = [f"{part} {database}" for part, databases in PARTS.items() for database in databases]
    text, made = [HEAD], [str(PAGE.relative_to(PROJECT))]
    for name in (name for name in order if name in kept):
        one = kept[name]
        part, database = name.split()
        text.append(f"\n## {part.replace('_', ' ').capitalize()}, {database}\n\n{one['machine']}; {one['date']}.\n")
        text.append(_table(one["rows"]))
        for curve in one["curves"]:
            path = PICTURES / f"{part}-{database}-{curve['name']}.svg"
            _draw(curve, path)
            made.append(str(path.relative_to(PROJECT)))
            text.append(f"\n![{curve['title']}]({path.relative_to(PAGE.parent)})\n")
    PAGE.write_text("".join(text))
    return made


def _table(rows: list[Row]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    for row in rows:
        holds = {True: "yes", False: "**no**"}.get(row.get("holds"), "")  # type: ignore[arg-type]
        lines.append(
            [*(str(row.get(name, "")) for name in ("what", "ours", "floor", "ratio", "spread", "goal")), holds]
        )
    return "\n" + "".join(f"| {' | '.join(cell.strip() for cell in line)} |\n" for line in lines)


def _draw(curve: Curve, path: Path) -> None:
    subprocess.run(
        [python_of("pictures"), Path(__file__).with_name("draw.py"), path],
        input=json.dumps(curve),
        text=True,
        check=True,
    )
