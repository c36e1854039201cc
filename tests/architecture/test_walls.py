# SPDX-License-Identifier: Apache-2.0
"""The walls that import contracts cannot see: who may name what, by reading the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
APPS = ("audit", "tenants", "keys", "escrow", "recovery")
PACKAGES = ("config", "console", "operators", "holdfast", "hsm", "kernel", *APPS)
# Of the server, all that asks its database.
SERVER = ("config", "console", "operators", "kernel", *APPS)

# The only callers of `Model.unscoped`: loops over all tenants, and look-ups made before a scope can be open.
UNSCOPED = {
    "audit/access.py",  # acts behind others in the log, of every tenant
    "audit/exporting.py",  # exports whose day is over, of every tenant
    "audit/sequencer.py",  # heads that grow old, of every tenant
    "audit/services.py",  # counts of hours that are over, of every tenant
    "audit/tasks.py",  # every tenant's logs are sequenced
    "config/celery.py",  # a job is found by its id, then run in its tenant's scope
    "escrow/access.py",  # deposits to flag, of every tenant
    "escrow/grounds.py",  # what the cases of every tenant are counted by
    "kernel/api.py",  # answers that nobody asks for again, of every tenant
    "kernel/queue.py",  # due jobs of every tenant
    "kernel/scope.py",  # where it is defined
    "keys/access.py",  # devices and chains, as parts of what escrow and recovery ask of every tenant
    "keys/devices.py",  # devices that no chain has listed, of every tenant
    "keys/mailbox_sizes.py",  # counted anew where a count went wrong, of every tenant
    "keys/mailbox.py",  # messages that nobody fetched, of every tenant
    "keys/services.py",  # counts of hours that are over
    "operators/access.py",  # an operator acts on a job of whatever tenant
    "recovery/access.py",  # cases whose time has come, of every tenant
    "recovery/cases/many.py",  # cases that a count would move, of every tenant
    "recovery/contacts/access.py",  # requests to contacts whose time is over, of every tenant
    "tenants/exporting.py",  # exports whose week is over, of every tenant
    "tenants/log_tokens.py",  # a token says by itself whose it is; ended ones are forgotten, of every tenant
    "tenants/access.py",  # a person signs in by slug and address: there is no scope yet
    "tenants/backends.py",  # a session's person is found before the scope opens
    "tenants/services.py",  # acts and addresses whose time is over, of every tenant
    "tenants/lockout.py",  # the last officer of a slug is not locked out
    "tenants/imports/services.py",  # files of people that nobody confirmed, of every tenant
    "tenants/mails.py",  # mails that were settled a month ago, of every tenant
}

# What holdfast may import of cryptography; of its ciphers, AES-GCM and key wrap alone.
PRIMITIVES = (
    "exceptions.", "hazmat.primitives.asymmetric.", "hazmat.primitives.hashes", "hazmat.primitives.kdf.",
    "hazmat.primitives.hmac.HMAC", "hazmat.primitives.serialization", "hazmat.primitives.hpke",
    "hazmat.primitives.ciphers.aead.AESGCM",
    "hazmat.primitives.keywrap.InvalidUnwrap", "hazmat.primitives.keywrap.aes_key_unwrap",
    "hazmat.primitives.keywrap.aes_key_wrap",
)  # fmt: skip


def is_migration(path: Path) -> bool:
    """Tell whether Django wrote a file; tests/migrations holds tests."""
    return path.parent.name == "migrations" and path.parent.parent.name in (*APPS, "kernel", "operators")


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if not is_migration(path):
                yield str(path.relative_to(PROJECT)), ast.parse(path.read_text())


def calls_of(tree: ast.Module, *names: str) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node


def test_only_escrow_services_asks_the_hsm_to_rewrap() -> None:
    callers = {
        name
        for name, tree in sources(*SERVER)
        for node in calls_of(tree, "rewrap")
        if ast.unparse(node) == "registry.escrow().rewrap"
    }
    tokens = {
        name
        for name, tree in sources(*SERVER)
        for node in calls_of(tree, "escrow")
        if ast.unparse(node) == "registry.escrow"
    }
    assert callers == {"escrow/services.py"}
    assert tokens == {"escrow/services.py"}


def test_only_the_release_process_calls_the_rewrap_of_a_half() -> None:
    callers = {
        name
        for name, tree in sources(*SERVER)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("rewrap_half")
    }
    assert callers == {"recovery/release/process.py"}


def test_only_the_release_role_is_given_the_escrow_token() -> None:
    from config.hsm import ROLE_TOKENS

    assert [role for role, tokens in ROLE_TOKENS.items() if "escrow" in tokens] == ["release"]
    assert [role for role, tokens in ROLE_TOKENS.items() if "ceremony" in tokens] == []
    # A ceremony is held by people with every PIN at hand; of what runs, only the sequencer signs heads, and opens
    # nothing else.
    assert [role for role, tokens in ROLE_TOKENS.items() if "log" in tokens] == ["sequencer", "ceremony"]
    assert ROLE_TOKENS["sequencer"] == ("log",)


def test_unscoped_queries_stand_only_where_they_are_listed() -> None:
    found = {name for name, tree in sources(*SERVER) for _ in calls_of(tree, "unscoped")}
    assert found <= UNSCOPED, f"not listed: {sorted(found - UNSCOPED)}"


def test_state_is_assigned_by_transitions_alone() -> None:
    offenders = [
        f"{name}:{node.lineno}"
        for name, tree in sources("console", "operators", *APPS)
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


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module or name that is imported, in full: `cryptography.hazmat.primitives.hashes`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_the_console_and_the_composition_root_write_html() -> None:
    html = ("django.shortcuts", "django.utils.html", "django.utils.safestring", "django.template.library")
    offenders = {
        f"{name}: {one}" for name, tree in sources("kernel", *APPS) for one in imported(tree) if one.startswith(html)
    }
    assert offenders == set()


def test_holdfast_knows_no_cipher_but_aes_gcm_and_key_wrap() -> None:
    """FAULTS S8: a mode that is not there cannot be negotiated down to."""
    offenders = [
        f"{name}: {one}"
        for name, tree in sources("holdfast")
        for one in imported(tree)
        if one.startswith("cryptography.") and not one.removeprefix("cryptography.").startswith(PRIMITIVES)
    ]
    assert offenders == []
    words = {"CBC", "ECB", "CTR", "CFB", "CFB8", "OFB", "XTS", "AES", "TripleDES", "modes", "Cipher"}
    named = [
        f"{name}:{node.lineno}"
        for name, tree in sources("holdfast")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id in words) or (isinstance(node, ast.Attribute) and node.attr in words)
    ]
    assert named == []


def _writes(node: ast.AST, attribute: str) -> bool:
    """Whether a node assigns `x.attribute` or its items, changes the list in place, or names it to a constructor."""
    if isinstance(node, ast.Attribute) and node.attr == attribute:
        return not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return ast.unparse(node.value).endswith(f".{attribute}")
    if isinstance(node, ast.Call):
        changed = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value).endswith(f".{attribute}")
        is_change = changed and ast.unparse(node.func).rpartition(".")[2] in {"append", "extend", "insert", "__iadd__"}
        by_name = ast.unparse(node.func).endswith("setattr") and attribute in ast.unparse(node)
        return is_change or by_name or any(keyword.arg == attribute for keyword in node.keywords)
    return False


def test_only_accept_escrow_key_stores_an_escrow_key() -> None:
    """FAULTS F5: enrolment, refresh and rotation have one path; beside it only the profile's own rows are read."""
    writers = {
        (name, function.name)
        for name, tree in sources("holdfast")
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        if any(_writes(node, "escrow_keys") for node in ast.walk(function))
    }
    assert writers == {("holdfast/client/identity/tenant.py", "accept_escrow_key")}


# Inside a room for good: how its rows lie on the disk is nobody else's business.
NEVER_A_DOOR = re.compile(r"\w+_(rows|file|words)|head|verified")


def test_rooms_of_the_client_are_entered_by_their_doors() -> None:
    """A room's `__init__` names in `__all__` the modules that others import; each is needed, and no other is."""
    rooms = {path.parent.name: path for path in (PROJECT / "holdfast/client").glob("*/__init__.py")}
    doors = {
        room: set(ast.literal_eval(node.value))
        for room, path in rooms.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    }
    entered: dict[str, set[str]] = {room: set() for room in rooms}
    for name, tree in sources("holdfast"):
        for one in imported(tree):
            parts = one.split(".")
            if parts[:2] == ["holdfast", "client"] and parts[2] in rooms and f"client/{parts[2]}/" not in name:
                entered[parts[2]].add(parts[3])
    assert entered == doors
    assert [f"{room}.{one}" for room, door in doors.items() for one in door if NEVER_A_DOOR.fullmatch(one)] == []


def test_only_the_transport_speaks_http() -> None:
    """FAULTS S5: it builds every address from the profile's server, so no answer can name where a secret goes.

    `pace` is the network under it, and makes no request; `failures` names what went wrong in it.
    """
    speakers = {
        name
        for name, tree in sources("holdfast")
        for one in imported(tree)
        if one.startswith(("http", "urllib.", "socket", "ssl", "requests", "aiohttp", "ftplib", "asyncio"))
    }
    server = {f"holdfast/client/server/{name}.py" for name in ("transport", "pace", "failures")}
    assert speakers <= {*server, "holdfast/client/profile/account.py"}
    # The account hands on a transport that tests bring, and makes nothing of the library itself.
    account = ast.parse((PROJECT / "holdfast/client/profile/account.py").read_text())
    names = {ast.unparse(node) for node in ast.walk(account) if isinstance(node, ast.Attribute)}
    assert {one for one in names if one.startswith("httpx2.")} == {"httpx2.BaseTransport"}


def test_every_source_names_its_licence() -> None:
    missing = [
        str(path.relative_to(PROJECT))
        for package in (*PACKAGES, "tests", "bench")
        for path in (PROJECT / package).rglob("*.py")
        if not is_migration(path)
        and path.stat().st_size
        and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]
    ]
    assert missing == []


def test_nothing_imports_from_a_conftest_and_benchmarks_only_the_cast() -> None:
    found = [(name, one) for name, tree in sources("tests", "bench") for one in imported(tree)]
    assert [(name, one) for name, one in found if "conftest" in one] == []
    assert [
        (name, one)
        for name, one in found
        if name.startswith("bench/") and one.startswith("tests.") and not one.startswith("tests.cast.")
    ] == []


def test_commands_write_to_the_terminal_by_the_shell_alone() -> None:
    """What others wrote passes one function (FAULTS P13): no command prints, styles, asks or dates by itself."""
    for name, tree in sources("holdfast"):
        if not name.startswith("holdfast/cli/commands/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert not module.startswith("rich"), name
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"print", "typer.echo", "typer.confirm", "typer.prompt", "typer.secho"}, name
                assert not called.endswith(("std" + "out.write", "std" + "err.write", ".fromtimestamp")), name


# Where a file may be changed but by `holdfast.files`, and why that is no whole file.
CHANGES_FILES = {
    "holdfast/files.py": "the one helper",
    "holdfast/client/auditor/fetching.py": "pieces of an export, each in place until the file is whole",
    "holdfast/client/profile/private_files.py": "the lock",
    "holdfast/client/profile/sqlite_file.py": "the beginning of what SQLite writes; put in place by the helper",
    "hsm/manifest.py": "locks",
    "hsm/refused.py": "a mark, which counts when a full disk leaves it empty as well; the lock",
    "hsm/directories.py": "whole directories, and SoftHSM's configuration in one of its own",
    "recovery/release/directory.py": "rows added to what is there; the lock",
    "config/ceremonies/pin.py": "what the helper wrote takes the old one's place, once the token has taken it",
    "config/ceremonies/transcript.py": "lines added to what is there",
    "tenants/exporting.py": "a member of a zip that is sent as it is made",
    "config/management/commands/up.py": "whole directories of a development installation",
}
WRITING = re.compile(r"[wax+]")


def _changes_a_file(node: ast.Call) -> bool:
    called = ast.unparse(node.func)
    if called == "os.open":
        return "O_CREAT" in ast.unparse(node) or "O_TRUNC" in ast.unparse(node)
    if called in {"os.rename", "os.replace", "os.link"} or called.endswith((".write_text", ".write_bytes")):
        return True
    if called.endswith((".replace", ".rename")):
        # `str.replace` and `dataclasses.replace` take two or more; a path's, and a rename, take one.
        return len(node.args) == 1 and not node.keywords
    if called == "open" or called.endswith(".open"):
        modes = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return any(re.fullmatch(r"[rwaxb+t]{1,3}", mode) and WRITING.search(mode) for mode in modes)
    return called.startswith("tempfile.Named")


def test_files_are_written_by_the_one_helper() -> None:
    """A file half written, one left beside with a name that could be guessed, a target overwritten: one place."""
    found = {
        name
        for name, tree in sources(*PACKAGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _changes_a_file(node)
    }
    assert found == CHANGES_FILES.keys()
