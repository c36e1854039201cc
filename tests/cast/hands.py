# SPDX-License-Identifier: Apache-2.0
"""What somebody does who is one account of the server: statements to the database, and files.

`python -m tests.cast.hands ADDRESS` answers each line of JSON with a line: `{"sql", "arguments"}`, bytes as `{"hex"}`,
or `{"file"}`. It knows nothing of the product, as nothing of it would hold them back.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg


def main() -> None:
    """Answer until the input ends: `{"rows"}`, `{"bytes"}`, or `{"refused", "why"}`."""
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        for line in sys.stdin:
            asked = json.loads(line)
            answer = _file(asked["file"]) if "file" in asked else _sql(connection, asked["sql"], asked["arguments"])
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def _file(path: str) -> dict[str, Any]:
    try:
        found = Path(path)
        return {"bytes": sum(len(one.name) for one in found.iterdir()) if found.is_dir() else len(found.read_bytes())}
    except OSError as error:
        return {"refused": type(error).__name__, "why": str(error)}


def _sql(connection: psycopg.Connection, sql: str, arguments: list[Any]) -> dict[str, Any]:
    values = [bytes.fromhex(one["hex"]) if isinstance(one, dict) else one for one in arguments]
    try:
        done = connection.execute(sql, values)
    except psycopg.Error as error:
        return {"refused": type(error).__name__, "why": str(error)}
    return {"rows": [[str(value) for value in row] for row in done.fetchall()] if done.description else []}


if __name__ == "__main__":
    main()
