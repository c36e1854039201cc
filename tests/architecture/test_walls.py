# SPDX-License-Identifier: Apache-2.0
"""The walls that import contracts cannot see: who may name what, by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "holdfast", "hsm", "kernel", "audit", "tenants", "keys", "escrow", "recovery")
APPS = ("audit", "tenants", "keys", "escrow", "recovery")
ROOMS = {
    "__init__", "apps", "models", "states", "errors", "access", "services", "tasks", "api", "console", "admin", "urls",
}  # fmt: skip

# Rooms beyond the usual ones, each with its reason in docs/layout.md.
EXTRA_ROOMS = {
    "audit": {"tags", "sequencer", "export", "proofs"},
    "tenants": {"permissions", "authentication", "middleware", "backends", "limits", "forms"},
    "keys": {"claims", "records", "chains", "chain_words", "health"},
    "escrow": {"coverage", "terms"},
    "recovery": {
        "audit_pages", "audit_words", "case_file", "case_list", "case_words",
        "release_process", "release_state", "facts", "eligibility", "notices",
    },
}

# The only callers of `Model.unscoped`: loops over all tenants, and look-ups made before a scope can be open.
UNSCOPED = {
    "kernel/scope.py",
    "kernel/queue.py",
    "kernel/admin.py",
}


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(PROJECT)), ast.parse(path.read_text())


def calls_of(tree: ast.Module, *names: str) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node


def test_apps_keep_the_same_rooms() -> None:
    strangers = [
        str(path.relative_to(PROJECT))
        for app in APPS
        for path in (PROJECT / app).glob("*.py")
        if path.stem not in ROOMS | EXTRA_ROOMS[app]
    ]
    assert strangers == []


def test_only_escrow_services_asks_the_hsm_to_rewrap() -> None:
    callers = {
        name
        for name, tree in sources("config", "kernel", *APPS)
        for node in calls_of(tree, "rewrap")
        if ast.unparse(node) == "registry.escrow().rewrap"
    }
    tokens = {
        name
        for name, tree in sources("config", "kernel", *APPS)
        for node in calls_of(tree, "escrow")
        if ast.unparse(node) == "registry.escrow"
    }
    assert callers == {"escrow/services.py"}
    assert tokens == {"escrow/services.py"}


def test_only_the_release_process_calls_the_rewrap_of_a_half() -> None:
    callers = {
        name
        for name, tree in sources("config", "kernel", *APPS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("rewrap_half")
    }
    assert callers == {"recovery/release_process.py"}


def test_only_the_release_role_is_given_the_escrow_token() -> None:
    from config.hsm import ROLE_TOKENS

    assert [role for role, tokens in ROLE_TOKENS.items() if "escrow" in tokens] == ["release"]
    assert [role for role, tokens in ROLE_TOKENS.items() if "ceremony" in tokens] == []
    assert [role for role, tokens in ROLE_TOKENS.items() if "log" in tokens] == ["worker"]


def test_unscoped_queries_stand_only_where_they_are_listed() -> None:
    found = {name for name, tree in sources("config", "kernel", *APPS) for _ in calls_of(tree, "unscoped")}
    assert found <= UNSCOPED, f"not listed: {sorted(found - UNSCOPED)}"


def test_state_is_assigned_by_transitions_alone() -> None:
    offenders = [
        f"{name}:{node.lineno}"
        for name, tree in sources(*APPS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and target.attr == "state"
    ]
    assert offenders == []


@pytest.mark.parametrize("package", ["holdfast/core"])
def test_core_reads_no_clock_and_opens_no_file(package: str) -> None:
    offenders = [
        f"{name}:{node.lineno} {ast.unparse(node.func)}"
        for name, tree in sources(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"open", "print", "time.time", "datetime.now", "os.environ.get", "input"}
    ]
    assert offenders == []


def test_every_source_names_its_licence() -> None:
    missing = [
        str(path.relative_to(PROJECT))
        for package in (*PACKAGES, "tests", "bench")
        for path in (PROJECT / package).rglob("*.py")
        if "migrations" not in path.parts
        and path.stat().st_size
        and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]
    ]
    assert missing == []
