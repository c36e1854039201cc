# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md is followed as it stands: from an empty machine to a tenant, saved, and put back.

PLATFORM "Running it". In the rehearsal that the page has: SoftHSM; all else is production's: five accounts, PostgreSQL
with TLS, credentials as the units hand them over, nginx in front.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.database_roles import PROCESSES
from config.refusal import REFUSED
from tests.cast.accounts import have_root_run
from tests.cast.machine import ADMINISTRATOR, Machine, can_be_made, machine, wait_until
from tests.cast.pages import Block, blocks
from tests.cast.server import wait_for

pytestmark = [pytest.mark.postgres_only, pytest.mark.timeout(900)]
IS_ROOT = os.geteuid() == 0
# What `make test` has installed already.
INSTALLED = "deploy/install.sh run\n"
MAIL_PASSWORD = "mail-password\n"
# What the operator types at each question of a ceremony.
GO_ON = "exec < <(yes yes)\n"
UNITS = re.compile(r"^systemctl (stop|start) (.*)\n", re.MULTILINE)
READY = "curl --fail --silent --show-error https://holdfast.example/readyz"


@pytest.mark.skipif(IS_ROOT, reason="it is root who runs these tests")
def test_installation_is_walked_when_root_runs_these_tests() -> None:
    have_root_run(__file__)


def opening() -> str:
    (found,) = [block.text for block in blocks() if block.who == "opening"]
    return found


def to_run(*sections: str) -> list[Block]:
    found = [block for block in blocks() if block.who in ("root", "ceremony") and not block.by_hand]
    return [block for block in found if block.section.partition(".")[0] in sections]


def walk(made: Machine, block: Block, *, password: str = ADMINISTRATOR) -> str:
    script = block.text.replace(INSTALLED, "")
    # Services are stopped by the first line of a block, and started by its last.
    units = {verb: [one.removeprefix("holdfast-") for one in said.split()] for verb, said in UNITS.findall(script)}
    script = UNITS.sub("", script)
    made.stop_units(*units.get("stop", ()))
    if "manage.py" in script:
        script = opening() + script
    if "manage.py ceremony" in script:
        script = GO_ON + script
    # As in the shell of an operator who keeps what they make to themselves.
    script = "umask 077\n" + script
    account = "holdfast-ceremony" if block.who == "ceremony" else "root"
    said = made.run(script, given=MAIL_PASSWORD, account=account, PGPASSWORD=password)
    for process in units.get("start", ()):
        made.start_unit(process)
    return said


@pytest.fixture(scope="module")
def installed() -> Iterator[Machine]:
    if not IS_ROOT:
        pytest.skip("a machine of its own takes root")
    if not can_be_made():
        pytest.skip("this machine lets nobody make namespaces, or other accounts cannot run its Python")
    with tempfile.TemporaryDirectory(prefix="holdfast-machine-") as directory, machine(Path(directory)) as made:
        for block in to_run("1", "2"):
            if block.section == "1.8":
                made.run(
                    f"cd {directory}; cp holdfast.pem /etc/holdfast/tls.pem; cp holdfast.key /etc/holdfast/tls.key"
                )
            if READY in block.text:
                for process in PROCESSES:
                    made.start_unit(process)
                made.run("nginx 2> /dev/null")
                wait_until(f'{READY} | grep -q \'"status": *"ok"\'', made)
            walk(made, block)
            if block.section == "1.4":
                made.run(f"cp {directory}/ca.pem /etc/holdfast/ca.pem")
        yield made


def test_installation_that_followed_the_page_serves_and_every_part_is_well(installed: Machine) -> None:
    said = json.loads(installed.run(READY))
    assert (said["status"], said["rehearsal"]) == ("ok", True)
    assert set(said["parts"].values()) == {"ok"}
    front = installed.run("curl --fail --silent https://holdfast.example/console/sign-in/")
    assert "<form" in front
    for process in PROCESSES:
        assert "CRITICAL" not in installed.log(process), installed.log(process)


def test_services_of_every_account_can_read_what_the_ceremony_left_for_all(installed: Machine) -> None:
    """With a vendor's HSM they share its home, and take a ceremony's lock there."""
    for name in ("hsm.json", ".commit.lock"):
        installed.run(f"head -c 1 /etc/holdfast/hsm/{name}", account="holdfast-web")


def test_doctor_finds_the_files_of_the_page_as_they_have_to_be(installed: Machine) -> None:
    said = installed.run(f"{opening()}manage.py doctor --files /etc/holdfast || true")
    wrong = [line.split()[1] for line in said.splitlines() if line.startswith("wrong")]
    # No mail server is on this machine: that is found, and nothing else.
    assert wrong == ["mail"], said


def test_wrong_pin_is_tried_once_until_the_operator_clears_its_mark(installed: Machine) -> None:
    (clear,) = [line for block in blocks() if block.section == "4" for line in block.text.splitlines() if "rm " in line]
    mark, pin = clear.split()[1], "/etc/holdfast/pins/root.pin"
    installed.stop_units("web")
    installed.run(f"cp -p {pin} {pin}.right; echo 12345678 > {pin}")
    installed.start_unit("web")
    assert installed.ending("web") == REFUSED, installed.log("web")
    assert mark in installed.log("web")
    installed.run(f"mv {pin}.right {pin}")
    # The right one is not tried either while the mark is there.
    installed.start_unit("web")
    assert installed.ending("web") == REFUSED, installed.log("web")
    installed.run(clear)
    installed.start_unit("web")
    wait_until(READY, installed)


def test_pin_is_changed_by_the_page_and_every_service_of_it_serves_again(installed: Machine) -> None:
    pin = "cat /etc/holdfast/pins/root.pin"
    before = installed.run(pin)
    (block,) = to_run("4")
    said = walk(installed, block)
    assert installed.run(pin) != before
    assert before.strip() not in said
    assert installed.run(pin).strip() not in said
    wait_until(f'{READY} | grep -q \'"status": *"ok"\'', installed)
    found = installed.run(f"{opening()}manage.py doctor --files /etc/holdfast || true")
    assert [line for line in found.splitlines() if "hsm" in line and line.startswith("wrong")] == []


def entries(made: Machine) -> int:
    """Count the entries of the tenant's log that a signed head covers."""
    asked = "select coalesce(max(signed_size), 0) from audit_loghead where log = 'audit'"
    database = (
        "host=db.example user=holdfast_owner dbname=holdfast sslmode=verify-full sslrootcert=/etc/holdfast/ca.pem"
    )
    password = made.run("cat /etc/holdfast/ceremony/database.password").strip()
    return int(made.run(f'psql -Atc "{asked}" "{database}"', PGPASSWORD=password))


def invite(made: Machine, officer: str) -> None:
    made.run(f"{opening()}{GO_ON}manage.py ceremony tenant acme --officer {officer}")


def test_backup_is_put_back_and_what_it_lost_keeps_the_tenant_as_it_is_until_officers_accept(
    installed: Machine,
) -> None:
    password = installed.run("cat /etc/holdfast/ceremony/database.password").strip()
    wait_for(lambda: entries(installed) > 0, 30)
    saved = entries(installed)
    for block in to_run("5"):
        walk(installed, block, password=password)
    invite(installed, "fred@acme.example")
    wait_for(lambda: entries(installed) > saved, 30)
    for block in to_run("6"):
        walk(installed, block, password=password)
    wait_until(f'{READY} | grep -q \'"restored": *"[^o]\'', installed)
    assert "put back from a backup" in installed.log("sequencer")
    doctor = installed.run(f"{opening()}manage.py doctor --files /etc/holdfast || true")
    (found,) = [line for line in doctor.splitlines() if line.split()[:2] == ["wrong", "restored"]]
    assert "is read-only since" in found
    assert entries(installed) == saved
    (step,) = [block for block in blocks() if "accept-restored acme" in block.text]
    early = installed.run(f"{opening()}{GO_ON}{ceremony_of(step)} || true")
    assert "The release process runs. Stop it first" in early
    installed.stop_units("sequencer", "release")
    refused = installed.run(f"{opening()}{GO_ON}{ceremony_of(step)} || true")
    assert "The officers have not accepted this log" in refused
    assert "Traceback" not in refused
    # Nothing but the ceremony ends it: neither a start of what was stopped, nor of everything.
    installed.stop_units("web", "worker")
    for process in PROCESSES:
        installed.start_unit(process)
    wait_until(f'{READY} | grep -q \'"restored": *"[^o]\'', installed)
    assert entries(installed) == saved


def ceremony_of(step: Block) -> str:
    """The ceremony of a block that stops and starts services around it."""
    (line,) = [line for line in step.text.splitlines() if line.startswith("manage.py")]
    return line
