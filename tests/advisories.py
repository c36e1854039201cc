# SPDX-License-Identifier: Apache-2.0
"""`make audit`: every pinned dependency is held against the known advisories (pip-audit --strict, from OSV).

Prints "N of N audited", or "NOT AUDITED: why" when the advisory service is away or knows nothing: that is no fault of a
change, so it fails only with HOLDFAST_AUDIT_REQUIRED=1. A vulnerable, unhashed or unaudited pin always fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
FILES = (PROJECT / "requirements.txt", PROJECT / "requirements-dev.txt")
SERVICE = "https://api.osv.dev/v1/query"
# A release with advisories that nobody will withdraw: who knows none of it answers, and knows nothing.
CANARY = {"package": {"name": "django", "ecosystem": "PyPI"}, "version": "2.0"}
PATIENCE_SECONDS = 15


def pins(files: Sequence[Path]) -> set[str]:
    """Return name==version of each pin, names as PyPI normalizes them."""
    found = (
        re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line) for file in files for line in file.read_text().splitlines()
    )
    return {_pin(one[1], one[2]) for one in found if one}


def _pin(name: str, version: str) -> str:
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def why_away(service: str) -> str:
    """Return why the advisory service cannot be believed just now; "" when it knows the canary."""
    asked = urllib.request.Request(service, json.dumps(CANARY).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
            known = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{service} cannot be asked: {' '.join(str(error).split())}"
    is_known = isinstance(known, dict) and known.get("vulns")
    return "" if is_known else f"{service} answers, and knows no advisory of django 2.0"


def ask(service: str, files: Sequence[Path]) -> tuple[list[dict[str, Any]], str]:
    """Return what pip-audit found of each dependency, and what it said beside that."""
    with tempfile.TemporaryDirectory() as cache:
        named = [word for file in files for word in ("-r", str(file))]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--strict", "--require-hashes", "--disable-pip"),
                *("--vulnerability-service", "osv", "--osv-url", service, "--format", "json"),
                *("--progress-spinner", "off", "--cache-dir", cache, *named),
            ],
            text=True,
            capture_output=True,
            check=False,
        )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        found = []
    return found, done.stderr.strip()


def main(files: Sequence[Path] = FILES, environment: Mapping[str, str] = os.environ) -> int:
    """Audit the pins of files and say what was found."""
    service = environment.get("HOLDFAST_AUDIT_URL", SERVICE)
    if why := why_away(service):
        print(f"NOT AUDITED: {why}")  # noqa: T201
        return int(environment.get("HOLDFAST_AUDIT_REQUIRED") == "1")
    wanted = pins(files)
    found, said = ask(service, files)
    audited = {_pin(one["name"], one["version"]) for one in found if "version" in one and "skip_reason" not in one}
    bad = [(one, known) for one in found for known in one.get("vulns", ())]
    for one, known in bad:
        mended = ", ".join(known["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {known['id']}, mended in {mended}")  # noqa: T201
    for pin in sorted(wanted - audited):
        print(f"{pin}: not audited")  # noqa: T201
    if not audited and said:
        print(said)  # noqa: T201
    print(f"{len(wanted & audited)} of {len(wanted)} audited")  # noqa: T201
    return int(bool(bad) or not wanted or wanted != audited)


if __name__ == "__main__":
    sys.exit(main())
