# SPDX-License-Identifier: Apache-2.0
"""A module that keeps its tokens itself, and a process that is given a home of its own.

SoftHSM stands for the vendor's module: the product neither copies its files nor sets its configuration.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hsm import manifest as manifests
from hsm.ceremony import Ceremony
from hsm.config import TOKENS, HsmConfig, PinFile
from hsm.directories import hash_files
from hsm.errors import HsmError, HsmTokenDamaged, HsmUnavailable
from hsm.runtime import open_tokens
from tests.cast.hsm import OWN, Interposer


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[HsmConfig, dict[str, str]]:
    """Four empty tokens in one place that SOFTHSM2_CONF names, and their serials."""
    made = HsmConfig(home=tmp_path / "made")
    Ceremony(made).create_tokens()
    store = tmp_path / "vendor"
    for name in TOKENS:
        shutil.copytree(made.pristine(name, 1), store, dirs_exist_ok=True)
    conf = tmp_path / "vendor.conf"
    conf.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(conf))
    pins = {name: PinFile(made.pin_path(name)) for name in TOKENS}
    serials = {name: token.serial for name, token in manifests.load(made.manifest_path).tokens.items()}
    return HsmConfig(home=tmp_path / "adopted", softhsm=False, pins=pins), serials


def test_adopted_tokens_serve_without_copies(vendor: tuple[HsmConfig, dict[str, str]]) -> None:
    config, serials = vendor
    ceremony = Ceremony(config)
    ceremony.adopt_tokens(serials)
    ceremony.create_master_key()
    public = ceremony.create_log_key()
    conf = os.environ["SOFTHSM2_CONF"]
    with open_tokens(config, ["root", "log"]) as tokens:
        key = tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN))
        record = key.new_record_key(aad=b"a")
        assert key.unwrap_record_key(record.wrapped, aad=b"a") == record.key
        assert tokens.log.public_key == public
        assert tokens.root.capabilities.oaep == "oaep-sha256"
        assert os.environ["SOFTHSM2_CONF"] == conf
    assert not config.runtime_root.exists()
    assert not (config.home / "tokens").exists()
    assert len(list((config.home / "backups").glob("*.json"))) == 6


def test_adopting_refuses_absent_tokens_and_modules_that_keep_files(
    vendor: tuple[HsmConfig, dict[str, str]], hsm_config: HsmConfig
) -> None:
    config, serials = vendor
    with pytest.raises(HsmUnavailable, match="not present"):
        Ceremony(config).adopt_tokens(serials | {"ceremony": "0123456789abcdef"})
    with pytest.raises(HsmError):
        Ceremony(config).adopt_tokens({"root": serials["root"]})
    with pytest.raises(HsmError):
        Ceremony(hsm_config).adopt_tokens(serials)
    with pytest.raises(HsmError, match="vendor"):
        Ceremony(config).create_tokens()
    assert not config.manifest_path.exists()


def test_escrow_key_that_the_module_cannot_rewrap_with_is_not_committed(
    vendor: tuple[HsmConfig, dict[str, str]],
) -> None:
    """SoftHSM refuses OAEP with SHA-256, which a vendor's module is asked for: the proof by use notices."""
    config, serials = vendor
    Ceremony(config).adopt_tokens(serials)
    with pytest.raises(HsmUnavailable, match="nothing was changed"):
        Ceremony(config).create_escrow_key("acme")
    assert Ceremony(config).escrow_keys("acme") == []


def test_process_with_a_home_of_its_own_opens_its_tokens_and_cannot_open_others(
    interposed: HsmConfig, interposer: Interposer, tmp_path: Path
) -> None:
    manifest = manifests.load(interposed.manifest_path)
    own = replace(interposed, home=tmp_path / "release", runtime=tmp_path / "run")
    (own.home / "pins").mkdir(parents=True)
    shutil.copy(interposed.manifest_path, own.manifest_path)
    for name in ("root", "escrow"):
        generation = manifest.token(name).generation
        shutil.copytree(interposed.pristine(name, generation), own.pristine(name, generation))
        shutil.copy(interposed.pin_path(name), own.pin_path(name))
    before = hash_files(own.home)
    with open_tokens(own, ["root", "escrow"]) as tokens:
        assert tokens.root.generate_tenant_key(**OWN)
        assert len(list((tmp_path / "run").iterdir())) == 1
    # But for the lock under which a PIN is tried.
    after = {name: digest for name, digest in hash_files(own.home).items() if name != "refused/.lock"}
    assert after == before
    interposer.forget()
    with pytest.raises(HsmTokenDamaged):
        open_tokens(own, ["log"])
    assert interposer.entered("C_Login") == 0
