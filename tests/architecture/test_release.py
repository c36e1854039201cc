# SPDX-License-Identifier: Apache-2.0
"""One function asks the HSM to re-wrap, and one process calls it (FAULTS P19)."""

from __future__ import annotations

import ast
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
APPS = ("config", "console", "operators", "kernel", "audit", "tenants", "keys", "escrow", "recovery", "holdfast")


def calls_of(name: str) -> set[tuple[str, str]]:
    """List (file, enclosing function) of everything in the product that mentions a name, dotted or not."""
    found = set()
    for app in APPS:
        for path in (PROJECT / app).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for function in ast.walk(tree):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for node in ast.walk(function):
                    if isinstance(node, ast.Attribute | ast.Name) and f".{ast.unparse(node)}".endswith(f".{name}"):
                        found.add((str(path.relative_to(PROJECT)), function.name))
    return found


def test_only_rewrap_half_asks_the_hsm_to_rewrap() -> None:
    rewraps = {place for place in calls_of("rewrap") if not place[0].startswith("recovery/release/")}
    assert rewraps == {("escrow/services.py", "rewrap_half")}


def test_only_rewrap_half_and_the_look_before_it_ask_for_the_escrow_token() -> None:
    asking = {("escrow/services.py", "rewrap_half"), ("escrow/services.py", "require_escrow_key")}
    assert calls_of("registry.escrow") == asking


def test_only_the_release_process_calls_rewrap_half() -> None:
    assert calls_of("rewrap_half") == {("recovery/release/process.py", "_rewrap")}


def test_only_the_release_command_starts_the_release_process() -> None:
    ways = ("open_process", "process.run_job", "ReleaseProcess", "TenantRelease")
    starters = {place for name in ways for place in calls_of(name) if place[0] != "recovery/release/process.py"}
    assert starters == {("config/management/commands/release.py", "handle"), ("recovery/tasks.py", "release")}
