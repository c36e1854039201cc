# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md is followed as it stands, from an empty machine to a tenant that is being founded.

PLATFORM "Running it". In the rehearsal that the page has: SoftHSM; all else is production's: five accounts, PostgreSQL
with TLS, credentials as the units hand them over, nginx in front.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.database_roles import PROCESSES
from tests.cast.accounts import have_root_run
from tests.cast.machine import ADMINISTRATOR, Machine, can_be_made, machine, wait_until
from tests.cast.pages import Block, blocks

pytestmark = pytest.mark.postgres_only
IS_ROOT = os.geteuid() == 0
# What `make test` has installed already.
INSTALLED = "deploy/install.sh run\n"
MAIL_PASSWORD = "mail-password\n"
# What the operator types at each question of a ceremony.
GO_ON = "exec < <(yes yes)\n"
READY = "curl --fail --silent --show-error https://holdfast.example/readyz"


@pytest.mark.skipif(IS_ROOT, reason="it is root who runs these tests")
def test_installation_is_walked_when_root_runs_these_tests() -> None:
    have_root_run(__file__)


def opening() -> str:
    (found,) = [block.text for block in blocks() if block.who == "opening"]
    return found


def walk(made: Machine, block: Block) -> str:
    script = block.text.replace(INSTALLED, "")
    if "manage.py" in script:
        script = opening() + script
    if "manage.py ceremony" in script:
        script = GO_ON + script
    account = "holdfast-ceremony" if block.who == "ceremony" else "root"
    return made.run(script, given=MAIL_PASSWORD, account=account, PGPASSWORD=ADMINISTRATOR)


@pytest.fixture(scope="module")
def installed() -> Iterator[Machine]:
    if not IS_ROOT:
        pytest.skip("a machine of its own takes root")
    if not can_be_made():
        pytest.skip("this machine lets nobody make namespaces, or other accounts cannot run its Python")
    with tempfile.TemporaryDirectory(prefix="holdfast-machine-") as directory, machine(Path(directory)) as made:
        run = [block for block in blocks() if block.who in ("root", "ceremony") and not block.by_hand]
        for block in run:
            if block.section == "1.8":
                made.run(f"cp {directory}/holdfast.pem /etc/holdfast/tls.pem; cp {directory}/holdfast.key /etc/holdfast/tls.key")
            if READY in block.text:
                for process in PROCESSES:
                    made.start_unit(process)
                made.run("nginx")
                wait_until(f"{READY} | grep -q '\"status\": *\"ok\"'", made)
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


def test_doctor_finds_the_files_of_the_page_as_they_have_to_be(installed: Machine) -> None:
    # No mail server is on this machine: that is found, and nothing else.
    said = installed.run(f"{opening()}manage.py doctor --files /etc/holdfast || true")
    wrong = [line for line in said.splitlines() if line.startswith("wrong")]
    assert [line.split()[1] for line in wrong] in (["mail"], ["mail", "files"]), said
    assert all("ceremony.pin" in line for line in wrong[1:]), said
