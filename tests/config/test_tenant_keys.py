# SPDX-License-Identifier: Apache-2.0
"""`ceremony tenant-keys` where database and HSM home are of different days: nothing is bound by mistake, or lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from config.ceremonies import CeremonyRefused, tenant_keys
from hsm import manifest as manifests
from hsm import registry
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
from kernel.scope import tenant_scope
from keys import records
from keys.models import TenantMasterKey
from tenants.models import Tenant
from tests.hsm.surgery import operate

pytestmark = pytest.mark.django_db(transaction=True)
ACME = UUID(int=10)
CONTEXT: dict[str, Any] = {"user_id": UUID(int=1), "object_id": UUID(int=5), "kind": "vault", "version": 3}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HsmConfig:
    """An HSM home from before there was a binding key, and acme's master key under it."""
    config = HsmConfig(home=tmp_path / "hsm")
    Ceremony(config).create_tokens()
    operate(config, "root", "unbound")
    monkeypatch.setattr(tenant_keys, "hsm_config", lambda: config)
    (master,) = manifests.load(config.manifest_path).token("root").keys
    Tenant.objects.create(id=ACME, slug="acme", name="Acme", state="active")
    with tenant_scope(ACME):
        blob, kcv = bytes.fromhex(master.canary), bytes.fromhex(master.kcv)
        TenantMasterKey.objects.create(version=1, wrapped=blob, key_check_value=kcv, master_version=1)
    return config


@contextmanager
def opened(config: HsmConfig) -> Iterator[None]:
    """A process that opens the token when it first asks for it."""
    held = []

    def opener() -> dict[str, object]:
        held.append(open_tokens(config, ["root"]))
        return {"root": held[0].__enter__().root}

    registry.install(opener)
    try:
        yield
    finally:
        registry.install(dict)
        for tokens in held:
            tokens.__exit__(None, None, None)


def hold(config: HsmConfig, *, restored: bool = False) -> list[str]:
    with opened(config):
        found = []
        for step in list(tenant_keys.steps(restored=restored)):
            found.append(step.says)
            step.take()
        return found


def test_hsm_home_from_before_beside_a_bound_database_makes_no_new_key(home: HsmConfig, tmp_path: Path) -> None:
    shutil.copytree(home.home, tmp_path / "before")
    assert len(hold(home)) == 3
    with opened(home), tenant_scope(ACME):
        sealed = records.seal_record(b"ciphertext", **CONTEXT)
        of_today = bytes(TenantMasterKey.objects.get().mac)
    shutil.move(home.home, tmp_path / "today")
    shutil.copytree(tmp_path / "before", home.home)
    with pytest.raises(CeremonyRefused, match="Put back the HSM home that belongs to the database"):
        hold(home)
    assert not Ceremony(home).has_binding_key

    # Where it is lost, the operator's word has them bound anew, and it is said before whose key nothing shows.
    made, bound, _ = hold(home, restored=True)
    assert ("make the key" in made, "NO RECORD SHOWS WHOSE KEY IT IS of acme" in bound) == (True, True)
    with opened(home), tenant_scope(ACME):
        assert bytes(TenantMasterKey.objects.get().mac) != of_today
        assert records.open_record(sealed, **CONTEXT) == b"ciphertext"
    assert hold(home, restored=True) == hold(home) == []

    # The other way about: the home of today comes back to light, beside rows that the one made meanwhile bound.
    shutil.rmtree(home.home)
    shutil.move(tmp_path / "today", home.home)
    assert hold(home) == []
    assert len(hold(home, restored=True)) == 1
    with opened(home), tenant_scope(ACME):
        assert bytes(TenantMasterKey.objects.get().mac) == of_today
        assert records.open_record(sealed, **CONTEXT) == b"ciphertext"


def test_ceremony_goes_on_where_a_kill_stopped_it(home: HsmConfig) -> None:
    # What is bound already is bound again, in vain; a kill came before the last step.
    for left, taken in ((3, 0), (2, 0), (2, 1)):
        with opened(home):
            steps = list(tenant_keys.steps())
            assert len(steps) == left
            steps[taken].take()
    assert hold(home) == []
