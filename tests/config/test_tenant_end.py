# SPDX-License-Identifier: Apache-2.0
"""`ceremony end`: a tenant's keys are destroyed on its day and not before; the database and the HSM read afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hsm import manifest as manifests
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.errors import HsmKeyMissing
from hsm.runtime import open_tokens
from tests.cast.hsm import OTHER_TENANT, TENANT, hsm_config, hsm_template  # noqa: F401
from tests.cast.server import Installation
from tests.config.test_ceremonies import begun, hold, manifest, rows, tenant_of  # noqa: F401


@pytest.fixture
def ending(begun: Installation) -> Installation:  # noqa: F811
    """A tenant with keys of every kind, whose 30 days are over."""
    tenant = tenant_of(begun)
    config = HsmConfig(home=begun.state_dir / "hsm", module=Path(manifest(begun).module_path), softhsm=True)
    Ceremony(config).create_escrow_key(str(tenant))
    state(begun, "ending", "2026-01-01 00:00:00")
    return begun


def state(made: Installation, name: str, ends_at: str | None) -> None:
    rows(made, "UPDATE tenants_tenant SET state = ?, ends_at = ?", name, ends_at)


def count(made: Installation, table: str) -> int:
    ((number,),) = rows(made, f"SELECT count(*) FROM {table}")
    return int(number)


def entries(made: Installation, tag: str) -> list[str]:
    return [body for (body,) in rows(made, "SELECT body FROM audit_entries WHERE tag = ? ORDER BY seq", tag)]


def test_what_is_gone_is_gone_and_what_backups_open_is_said(ending: Installation) -> None:
    tenant = str(tenant_of(ending))
    ((wrapped,),) = rows(ending, "SELECT wrapped FROM keys_tenantmasterkey")
    done = hold(ending, "end", "acme")
    assert done.returncode == 0, done.stderr
    assert count(ending, "keys_tenantmasterkey") == 0
    assert not [table for (table,) in tables(ending) if wrapped in octets(ending, table)]
    assert rows(ending, "SELECT state FROM tenants_tenant") == [("ended",)]
    assert not manifest(ending).token("escrow").find("escrow", tenant=tenant)
    assert manifest(ending).token("ceremony").find("tenant-root", tenant=tenant)
    (closing,) = entries(ending, "tenants:tenant:end")
    assert "wrapped by master versions 1" in closing
    assert len(entries(ending, "keys:tenant-key:destroy")) == 1
    assert "this copy of the token still has the keys" in done.stdout
    # The rows of this test were written by nobody's act: the log names no owner, and the operator is told so.
    assert "No entry of the log says who asked for it" in done.stdout
    assert str(ending.state_dir / "hsm" / "backups") in done.stdout
    again = hold(ending, "end", "acme")
    assert (again.returncode, again.stdout) == (0, "Nothing is missing; nothing was changed.\n")


def tables(made: Installation) -> list[Any]:
    return rows(made, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")


def octets(made: Installation, table: str) -> list[Any]:
    return [value for row in rows(made, f"SELECT * FROM {table}") for value in row]


@pytest.mark.parametrize(
    ("name", "ends_at", "why"),
    [
        ("ending", "2999-01-01 00:00:00", "can stop it"),
        ("active", None, "two owners ask"),
        ("locked", None, "two owners ask"),
        ("suspended", None, "two owners ask"),
    ],
)
def test_before_its_day_or_unasked_it_destroys_nothing(
    ending: Installation, name: str, ends_at: str | None, why: str
) -> None:
    state(ending, name, ends_at)
    before = (ending.state_dir / "hsm" / "hsm.json").read_bytes()
    done = hold(ending, "end", "acme")
    assert done.returncode == 1
    assert why in done.stderr
    assert count(ending, "keys_tenantmasterkey") == 1
    assert (ending.state_dir / "hsm" / "hsm.json").read_bytes() == before


def test_kill_between_the_steps_is_gone_on_from(ending: Installation) -> None:
    config = HsmConfig(home=ending.state_dir / "hsm", module=Path(manifest(ending).module_path), softhsm=True)
    Ceremony(config).destroy_escrow_keys(str(tenant_of(ending)))
    done = hold(ending, "end", "acme")
    assert done.returncode == 0, done.stderr
    assert rows(ending, "SELECT state FROM tenants_tenant") == [("ended",)]


def test_escrow_keys_of_others_stay_and_work(hsm_config: HsmConfig) -> None:  # noqa: F811
    ceremony = Ceremony(hsm_config)
    ceremony.create_escrow_key(OTHER_TENANT)
    gone = ceremony.escrow_keys(TENANT)
    kept = ceremony.escrow_keys(OTHER_TENANT)
    assert gone
    assert kept
    ceremony.destroy_escrow_keys(TENANT)
    assert ceremony.escrow_keys(TENANT) == []
    assert ceremony.escrow_keys(OTHER_TENANT) == kept
    made = manifests.load(hsm_config.manifest_path)
    with pytest.raises(HsmKeyMissing):
        made.token("escrow").by_id(gone[0].ref.cka_id)
    # The next start checks the token as it is, and finds nothing that is missing or too much.
    with open_tokens(hsm_config, ["escrow"]):
        pass
    before = hsm_config.manifest_path.read_bytes()
    ceremony.destroy_escrow_keys(TENANT)
    assert hsm_config.manifest_path.read_bytes() == before
