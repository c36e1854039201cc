# SPDX-License-Identifier: Apache-2.0
"""`check --deploy` takes a sound production installation and refuses each unsound one (FAULTS U6, D8)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader

from config.hsm import ROLE_TOKENS
from config.refusal import REFUSED
from tests.checks import PROJECT, manage, production


def check(directory: Path, **changes: str) -> tuple[int, str]:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **(production(directory) | changes))
    return done.returncode, done.stdout + done.stderr


def test_check_takes_a_sound_installation(tmp_path: Path) -> None:
    status, said = check(tmp_path)
    assert status == 0, said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HOLDFAST_DATABASE_URL": "sqlite:////tmp/x.sqlite3"}, "SQLite"),
        ({"HOLDFAST_DATABASE_URL": ""}, "HOLDFAST_DATABASE_URL is not set"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast@db.example/holdfast"}, "sslmode=verify-full"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast@db.example/holdfast?sslmode=require"}, "sslmode=verify-full"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast:secret@db/holdfast"}, "HOLDFAST_DATABASE_PASSWORD_FILE"),
        ({"HOLDFAST_PUBLIC_URL": "http://holdfast.example"}, "https"),
        ({"HOLDFAST_TRUSTED_PROXIES": ""}, "HOLDFAST_TRUSTED_PROXIES"),
        ({"HOLDFAST_HSM_SOFTHSM": "true"}, "SoftHSM"),
        ({"HOLDFAST_HSM_MODULE": "/usr/lib/softhsm/libsofthsm2.so"}, "SoftHSM"),
        ({"HOLDFAST_HSM_HOME": "/nowhere"}, "manifest"),
        ({"HOLDFAST_STATIC_ROOT": str(PROJECT / "var" / "static")}, "HOLDFAST_STATIC_ROOT"),
        ({"HOLDFAST_EMAIL_URL": ""}, "HOLDFAST_EMAIL_URL"),
        ({"HOLDFAST_EMAIL_URL": "smtp://holdfast:secret@mail.example"}, "HOLDFAST_EMAIL_PASSWORD_FILE"),
        ({"HOLDFAST_ROLE": "worker", "HOLDFAST_EMAIL_URL": "smtp://ops@mail.example"}, "the password is missing"),
        ({"HOLDFAST_ROLE": "worker", "HOLDFAST_EMAIL_PASSWORD_FILE": "/etc/hostname"}, "the user is missing"),
        ({"HOLDFAST_EMAIL_FROM": ""}, "HOLDFAST_EMAIL_FROM"),
        ({"HOLDFAST_EMAIL_FROM": "Holdfast <ops@localhost>"}, "HOLDFAST_EMAIL_FROM"),
        ({"HOLDFAST_SECRET_KEY_FILE": "/nowhere"}, "HOLDFAST_SECRET_KEY_FILE"),
        ({"HOLDFAST_SECRET_KEY_FILE": ""}, "HOLDFAST_SECRET_KEY_FILE is not set"),
        ({"HOLDFAST_SECRET_KEY_FILE": "/etc/hostname"}, "fewer than 50 characters"),
        ({"DJANGO_SETTINGS_MODULE": "config.settings.development", "HOLDFAST_SECRET_KEY_FILE": ""}, "holdfast.E017"),
        ({"DJANGO_SETTINGS_MODULE": ""}, "DJANGO_SETTINGS_MODULE is not set"),
        ({"DJANGO_SETTINGS_MODULE": "production"}, "no settings 'production'"),
        ({"DJANGO_SETTINGS_MODULE": "config.settings.productoin"}, "no settings 'config.settings.productoin'"),
    ],
)
def test_check_refuses_in_words_and_writes_nothing(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    environment = production(tmp_path) | changes
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = manage("check", "--deploy", "--fail-level", "WARNING", **environment)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_check_takes_a_rehearsal_on_softhsm_as_the_processes_do_and_says_so(tmp_path: Path) -> None:
    environment = production(tmp_path) | SOFTHSM | {"HOLDFAST_REHEARSAL": "1"}
    done = manage("check", "--deploy", **environment)
    assert done.returncode == 0, done.stderr
    assert "holdfast.W002" in done.stderr
    status, said = check(tmp_path, **SOFTHSM, HOLDFAST_REHEARSAL="1")
    assert status != 0, "who asks that there is no warning has one"
    assert "holdfast.E005" not in said


@pytest.mark.parametrize("command", ["migrate", "demo", "totp", "check", "help", "flush"])
def test_no_command_runs_under_settings_that_nobody_named(command: str, tmp_path: Path) -> None:
    done = manage(command, HOLDFAST_STATE_DIR=str(tmp_path / "var"))
    assert done.returncode == REFUSED
    (sentence,) = done.stderr.splitlines()
    assert "DJANGO_SETTINGS_MODULE is not set" in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict"])
def test_character_that_a_terminal_cannot_show_fails_no_command(encoding: str, tmp_path: Path) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "config.settings.test", "HOLDFAST_STATE_DIR": str(tmp_path)}
    script = "import sys; print('✓ Zoë مريم'); print('✓ Zoë مريم', file=sys.stderr)"
    done = manage("shell", "--command", script, **environment, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, done.stderr):
        assert "\\u2713 Zo\\xeb \\u0645" in said


def test_web_process_whose_pages_were_not_collected_refuses(tmp_path: Path) -> None:
    environment = production(tmp_path)
    done = start(tmp_path, "web", HOLDFAST_DATABASE_URL=sqlite_with_a_tenant(tmp_path))
    assert "manage.py collectstatic" in done.stderr
    # Collected under the umask of the units and of careful operators, for accounts that are others.
    collect = ["sh", "-c", 'umask 077; exec "$0" manage.py collectstatic --no-input', sys.executable]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DJANGO_"))}
    subprocess.run(collect, cwd=PROJECT, env=kept | environment, check=True, capture_output=True, timeout=120)
    static = Path(environment["HOLDFAST_STATIC_ROOT"])
    assert {path.stat().st_mode & 0o777 for path in static.rglob("*") if path.is_dir()} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in static.rglob("*") if path.is_file()} == {0o644}
    done = start(tmp_path, "web", HOLDFAST_DATABASE_URL=sqlite_with_a_tenant(tmp_path))
    assert "collectstatic" not in done.stderr
    assert "SQLite" in done.stderr


SYSTEMD = PROJECT / "deploy" / "systemd"


def directives(path: Path) -> list[tuple[str, str]]:
    """Return a unit file's settings in order; a name may stand more than once."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def test_how_often_a_wrong_pin_is_tried_on_a_token_is_said_as_the_units_have_it() -> None:
    # Each service's marks lie in a directory that no other enters, so that a token's bound is the number of services.
    shared = directives(SYSTEMD / "holdfast-.service.d" / "hardening.conf")
    assert ("Environment", "HOLDFAST_REFUSED_PINS_DIR=/var/lib/holdfast-%j/refused-pins") in shared
    units = {path.stem.removeprefix("holdfast-"): path.read_text() for path in SYSTEMD.glob("*.service")}
    page = " ".join((PROJECT / "docs" / "operations.md").read_text().split())
    for token, times in (("root", "three times"), ("log", "once"), ("escrow", "once")):
        holders = [name for name, text in units.items() if f"LoadCredential={token}.pin:" in text]
        assert len(holders) == {"once": 1, "three times": 3}[times]
        said, _, after = page.partition(f"`{token}` {times} (")
        assert said != page
        assert sorted(after.partition(")")[0].split(", ")) == sorted(holders)


@pytest.mark.parametrize("role", ["web", "worker", "sequencer", "release"])
def test_each_service_has_an_account_of_its_own_and_the_pins_of_its_own_tokens(role: str) -> None:
    unit = directives(SYSTEMD / f"holdfast-{role}.service")
    credentials = [value.partition(":")[0] for name, value in unit if name == "LoadCredential"]
    assert sorted(credentials) == sorted(f"{token}.pin" for token in ROLE_TOKENS[role])
    assert ("User", f"holdfast-{role}") in unit
    assert any(f"HOLDFAST_ROLE={role} " in value for name, value in unit if name == "Environment")


def test_each_service_is_to_the_database_and_to_the_logs_somebody_else() -> None:
    shared = directives(SYSTEMD / "holdfast-.service.d" / "hardening.conf")
    own = {"database.password": "/etc/holdfast/%j/database.password", "role.key": "/etc/holdfast/%j/role.key"}
    assert own.items() <= {value.partition(":")[::2] for name, value in shared if name == "LoadCredential"}
    # The service's own settings come after what all share, and so win.
    files = [value for name, value in shared if name == "EnvironmentFile"]
    assert files == ["/etc/holdfast/environment", "/etc/holdfast/%j/environment"]
    said = " ".join(value for name, value in shared if name == "Environment").split()
    for name, file in (("DATABASE_PASSWORD", "database.password"), ("ROLE_KEY", "role.key")):
        assert f"HOLDFAST_{name}_FILE=%d/{file}" in said
    for role in ("sequencer", "release"):
        unit = directives(SYSTEMD / f"holdfast-{role}.service")
        assert ("StateDirectory", f"holdfast-{role}") in unit
        assert ("StateDirectoryMode", "0700") in unit
        assert ("Environment", f"HOLDFAST_{role.upper()}_DIR=/var/lib/holdfast-{role}") in unit


def test_services_are_kept_from_what_they_do_not_need() -> None:
    kept = dict(directives(SYSTEMD / "holdfast-.service.d" / "hardening.conf"))
    assert kept["CapabilityBoundingSet"] == kept["AmbientCapabilities"] == ""
    assert kept["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6"
    assert {"NoNewPrivileges", "ProtectSystem", "SystemCallFilter", "MemoryMax", "TasksMax"} <= kept.keys()
    assert kept["LimitCORE"] == "0"


def test_services_are_started_again_but_not_for_ever_and_not_when_they_refuse() -> None:
    kept = dict(directives(SYSTEMD / "holdfast-.service.d" / "hardening.conf"))
    assert kept["Restart"] == "always"
    assert {"RestartSec", "StartLimitBurst"} <= kept.keys()
    assert int(kept["StartLimitIntervalSec"]) > int(kept["StartLimitBurst"]) * int(kept["RestartSec"])
    assert int(kept["RestartPreventExitStatus"]) == REFUSED


def start(directory: Path, role: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Start a process of production that has to refuse, and return what it said."""
    environment = {**production(directory), "HOLDFAST_ROLE": role, **changes}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DJANGO_"))}
    command = ["-c", "import config.wsgi"] if role == "web" else ["manage.py", role]
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env={**kept, **environment},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("parent", "serves"), [("ours", True), ("gone", False)])
def test_web_process_whose_parent_was_killed_while_it_started_does_not_stay(parent: str, serves: bool) -> None:
    """A kill -9 of granian in the seconds before its worker has asked to be told."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "HOLDFAST_ROLE": "tool",
        "HOLDFAST_SUPERVISED": "1",
        "HOLDFAST_TELL_REFUSAL": str(os.getpid() if parent == "ours" else gone.pid),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import config.wsgi; print('serves')"],
        cwd=PROJECT,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ("serves" in done.stdout, "has gone" in done.stderr) == (serves, not serves), done.stderr
    assert "Traceback" not in done.stderr


def sqlite_with_a_tenant(directory: Path) -> str:
    """Return the address of a database, as much of one as posture asks, with a tenant of development."""
    path = directory / "holdfast.sqlite3"
    if not path.exists():
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE tenants_tenant (slug TEXT, is_development BOOL)")
            connection.execute("INSERT INTO tenants_tenant VALUES ('acme', 1)")
            connection.execute(
                "CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app TEXT, name TEXT, applied TEXT)"
            )
            made = [(app, name) for app, name in MigrationLoader(None, ignore_no_migrations=True).disk_migrations]
            connection.executemany("INSERT INTO django_migrations (app, name) VALUES (?, ?)", made)
    return f"sqlite://{path}"


SOFTHSM = {"HOLDFAST_HSM_SOFTHSM": "true", "HOLDFAST_HSM_MODULE": "/usr/lib/softhsm/libsofthsm2.so"}


@pytest.mark.parametrize("role", ["web", "worker", "sequencer", "release"])
def test_every_process_refuses_an_unsafe_posture_at_its_start(tmp_path: Path, role: str) -> None:
    wrong = {
        "HOLDFAST_DATABASE_URL": sqlite_with_a_tenant(tmp_path),
        "HOLDFAST_PUBLIC_URL": "http://holdfast.example",
        "HOLDFAST_TRUSTED_PROXIES": "",
    }
    done = start(tmp_path, role, **wrong, **SOFTHSM)
    assert done.returncode == REFUSED
    for said in ("SQLite", "not https", "HOLDFAST_TRUSTED_PROXIES", "SoftHSM", "development: acme"):
        assert said in done.stderr
    assert "Traceback" not in done.stderr
    rehearsed = start(tmp_path, role, **wrong, **SOFTHSM, HOLDFAST_REHEARSAL="1")
    assert rehearsed.returncode == REFUSED
    assert "SQLite" in rehearsed.stderr, "a rehearsal is on a software HSM, and otherwise production"
    assert "SoftHSM" not in rehearsed.stderr
    assert "development: acme" not in rehearsed.stderr


@pytest.mark.parametrize("command", ["up", "demo"])
def test_what_is_for_development_does_not_run_under_production_settings(tmp_path: Path, command: str) -> None:
    done = manage(command, **production(tmp_path), HOLDFAST_ROLE="ceremony")
    assert done.returncode == 1
    assert "Production settings are set" in done.stderr


@pytest.mark.parametrize("target", ["up", "demo", "members", "totp"])
def test_what_a_newcomer_runs_names_the_settings_by_itself(target: str) -> None:
    """Begun from a shell that sets nothing, as theirs is; a test's own environment names some."""
    said = subprocess.run(
        ["make", "-n", "--no-print-directory", target], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    begun = [line for line in said.splitlines() if "manage.py" in line or "tests.journeys.demo" in line]
    assert begun
    assert all("DJANGO_SETTINGS_MODULE=config.settings.development " in line for line in begun)


@pytest.mark.parametrize("what", ["nothing", "an empty database", "the mark of a demo"])
def test_members_of_a_demo_that_is_elsewhere_are_refused_in_one_sentence(tmp_path: Path, what: str) -> None:
    environment = {
        "HOLDFAST_STATE_DIR": str(tmp_path / "state"),
        "HOLDFAST_ROLE": "ceremony",
        "DJANGO_SETTINGS_MODULE": "config.settings.development",
    }
    if what != "nothing":
        (tmp_path / "state").mkdir(mode=0o700)
    if what == "an empty database":
        assert manage("migrate", "--verbosity=0", **environment).returncode == 0
    if what in ("an empty database", "the mark of a demo"):
        (tmp_path / "state" / "ready").touch()
    done = manage("demo", "--members-only", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"CommandError: No demo is in {tmp_path / 'state'}: run make up there first")
    assert len(done.stderr.splitlines()) == 1
