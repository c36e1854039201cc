# SPDX-License-Identifier: Apache-2.0
"""Mistakes of operators, each made with the real command: one sentence that names what to mend, and no trace.

FAULTS U6; PLATFORM "Running it". Wrong values of settings are in test_env and test_deployment; these are of what the
settings name: databases, files, directories, tokens.
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.refusal import REFUSED
from tests import prepared
from tests.cast.server import PROJECT, Installation
from tests.config.test_ceremonies import _initialised


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    """An installation after `ceremony init`."""
    installation = Installation(tmp_path)
    prepared.copy("initialised", installation.state_dir, _initialised)
    return installation


@dataclass(frozen=True)
class Mistake:
    """A command, what the operator got wrong before it, and how it ends. said: what its one sentence has to name."""

    name: str
    command: tuple[str, ...]
    said: tuple[str, ...]
    make: Callable[[Installation], dict[str, str]] = field(default=lambda _: {})
    role: str = "ceremony"
    status: int = 1


def nobody_there(_made: Installation) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return {"HOLDFAST_DATABASE_URL": f"postgres://holdfast@127.0.0.1:{port}/holdfast"}


def empty_database(made: Installation) -> dict[str, str]:
    return {"HOLDFAST_DATABASE_URL": f"sqlite://{made.directory}/empty.sqlite3"}


def newer_database(made: Installation) -> dict[str, str]:
    with closing(sqlite3.connect(made.state_dir / "holdfast.sqlite3")) as rows, rows:
        rows.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('tenants', '9999_of_a_newer', '2026-01-01')"
        )
        rows.execute("ALTER TABLE tenants_tenant RENAME COLUMN slug TO short_name")
    return {}


def database_elsewhere(made: Installation) -> dict[str, str]:
    return {"HOLDFAST_DATABASE_URL": f"sqlite://{made.directory}/nowhere/holdfast.sqlite3"}


def no_database_file(made: Installation) -> dict[str, str]:
    path = made.directory / "text.sqlite3"
    path.write_text("This is a letter and not a database.\n" * 100)
    return {"HOLDFAST_DATABASE_URL": f"sqlite://{path}"}


def hsm_elsewhere(made: Installation) -> dict[str, str]:
    (made.directory / "elsewhere").mkdir()
    return {"HOLDFAST_HSM_HOME": str(made.directory / "elsewhere")}


def no_module(_made: Installation) -> dict[str, str]:
    return {"HOLDFAST_HSM_MODULE": "/opt/vendor/libpkcs11.so"}


def module_that_is_none(made: Installation) -> dict[str, str]:
    path = made.directory / "module.so"
    path.write_text("not a library")
    return {"HOLDFAST_HSM_MODULE": str(path)}


def open_pin(made: Installation) -> dict[str, str]:
    (made.state_dir / "hsm" / "pins" / "root.pin").chmod(0o644)
    return {}


def no_pin(made: Installation) -> dict[str, str]:
    (made.state_dir / "hsm" / "pins" / "root.pin").unlink()
    return {}


def wrong_pin(made: Installation) -> dict[str, str]:
    (made.state_dir / "hsm" / "pins" / "root.pin").write_text("12345678\n")
    return {}


def damaged_token(made: Installation) -> dict[str, str]:
    (token,) = (made.state_dir / "hsm" / "tokens").glob("root-*/*/token.object")
    token.write_bytes(b"")
    return {}


def no_role_key(made: Installation) -> dict[str, str]:
    (made.state_dir / "roles" / "worker.key").unlink()
    return {}


def ceremony_directory_is_a_file(made: Installation) -> dict[str, str]:
    path = made.directory / "file"
    path.touch()
    return {"HOLDFAST_CEREMONY_DIR": str(path)}


def no_static_root(_made: Installation) -> dict[str, str]:
    return {"HOLDFAST_STATIC_ROOT": ""}


def no_backup(made: Installation) -> dict[str, str]:
    shutil.rmtree(made.state_dir / "hsm" / "backups")
    return {}


TENANT = ("ceremony", "tenant", "acme", "--yes", "--name", "Acme", "--owner", "olivia@acme.test")
ADDRESS = "HOLDFAST_DATABASE_URL"
MISTAKES = [
    *(
        Mistake(f"nobody answers: {' '.join(command[:2])}", command, ("does not answer", ADDRESS), nobody_there)
        for command in (("migrate",), TENANT, ("database_roles",))
    ),
    *(
        Mistake(f"not migrated: {' '.join(command[:2])}", command, ("manage.py migrate",), empty_database)
        for command in (TENANT, ("operator", "list"))
    ),
    Mistake("database of a newer version", TENANT, ("newer version", "9999_of_a_newer"), newer_database),
    Mistake("database in no directory", ("migrate",), ("unable to open database file", ADDRESS), database_elsewhere),
    Mistake("database that is a letter", ("migrate",), ("not a database", ADDRESS), no_database_file),
    Mistake("HSM home elsewhere", ("worker",), ("hsm.json", "ceremony"), hsm_elsewhere, "worker", REFUSED),
    Mistake("no module", ("worker",), ("/opt/vendor/libpkcs11.so", "pinned"), no_module, "worker", REFUSED),
    Mistake("a module that is none", ("worker",), ("module.so", "pinned"), module_that_is_none, "worker", REFUSED),
    Mistake("PIN open to others", ("worker",), ("root.pin", "chmod 600"), open_pin, "worker", REFUSED),
    Mistake("no PIN", ("worker",), ("root.pin", "No such file"), no_pin, "worker", REFUSED),
    Mistake("wrong PIN", ("worker",), ("refused the PIN", "refused/root"), wrong_pin, "worker", REFUSED),
    Mistake("damaged token", ("worker",), ("manage.py hsm_restore root",), damaged_token, "worker", REFUSED),
    Mistake("no role key", ("worker",), ("role key", "HOLDFAST_ROLE_KEY_FILE"), no_role_key, "worker", REFUSED),
    Mistake("ceremony as a service", TENANT, ("HOLDFAST_ROLE=ceremony",), role="web"),
    Mistake(
        "ceremony in a file", TENANT, ("HOLDFAST_CEREMONY_DIR", "/file"), ceremony_directory_is_a_file, status=REFUSED
    ),
    Mistake("no static root", ("collectstatic", "--no-input"), ("HOLDFAST_STATIC_ROOT",), no_static_root),
    Mistake("restoring without a backup", ("hsm_restore", "root"), ("backup", "off this machine"), no_backup),
    Mistake("PIN of no descriptor", ("ceremony", "pin", "root", "--yes", "--new-pin-fd", "77"), ("descriptor 77",)),
    Mistake("no such ceremony", ("ceremony", "tenent", "acme"), ("invalid choice", "tenant"), status=2),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.name.replace(" ", "-"))
def test_mistake_is_answered_by_one_sentence_and_no_trace(mistake: Mistake, made: Installation) -> None:
    wrong = mistake.make(made)
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *mistake.command],
        cwd=PROJECT,
        env=made.environment | {"HOLDFAST_ROLE": mistake.role} | wrong,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == mistake.status, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    # argparse writes how a command is called before what is wrong.
    sentence = lines[-1] if mistake.status == 2 else done.stderr.strip()
    assert "\n" not in sentence, sentence
    for said in mistake.said:
        assert said in sentence, sentence
