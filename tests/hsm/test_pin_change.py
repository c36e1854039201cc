# SPDX-License-Identifier: Apache-2.0
"""`ceremony pin`: killed at each moment, a file has the PIN that the token takes, and the next call ends the change.

FAULTS H3 and Z3; HSM section 2. SoftHSM stands for the vendor's module as well: its tokens lie in one place, which the
product neither copies nor configures, so that a new PIN is the token's from the call on.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config import hsm as of_roles
from config.ceremonies import CeremonyRefused, pin
from config.ceremonies.pin import PinChange
from holdfast.core.base.secret import SecretBytes
from hsm import manifest as manifests
from hsm.ceremony import Ceremony
from hsm.config import TOKENS, HsmConfig, PinFile, PinSource
from hsm.directories import hash_files
from hsm.errors import HsmNewPinRefused, HsmPinRejected
from hsm.runtime import open_tokens
from tests.cast.hsm import OWN, TENANT, Interposer

NEW = SecretBytes(b"the new PIN of this token")


class Given:
    """A new PIN, as a descriptor gives it."""

    def __init__(self, secret: SecretBytes = NEW) -> None:
        self.secret = secret

    def read(self) -> SecretBytes:
        return self.secret


@pytest.fixture(params=["softhsm", "vendor"])
def config(
    request: pytest.FixtureRequest,
    interposed: HsmConfig,
    interposer: Interposer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> HsmConfig:
    """An installation whose module is the interposer; of a vendor's, with tokens that the product does not copy."""
    config = interposed
    if request.param == "vendor":
        store = tmp_path / "vendor"
        for name, token in manifests.load(interposed.manifest_path).tokens.items():
            shutil.copytree(interposed.pristine(name, token.generation), store, dirs_exist_ok=True)
        (tmp_path / "vendor.conf").write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "vendor.conf"))
        config = replace(interposed, softhsm=False)
    for module in (pin, of_roles):
        monkeypatch.setattr(module, "hsm_config", lambda: config)
    return config


def change(config: HsmConfig, new: PinSource | None = None, *, token: str = "root") -> list[str]:
    """Hold the ceremony to its end; returns what its last step tells."""
    told: object = []
    for step in PinChange(token, file=config.pin_path(token), new=new or Given()).steps():
        told = step.take()
    assert isinstance(told, list)
    return told


def waiting(config: HsmConfig) -> Path:
    return of_roles.waiting_pin(config.pin_path("root"))


def taken(config: HsmConfig, *, by: Path) -> bool:
    return by.exists() and Ceremony(config).takes_pin("root", PinFile(by).read())


def test_changed_pin_is_the_tokens_and_lies_where_the_old_one_lay(config: HsmConfig) -> None:
    file = config.pin_path("root")
    old = PinFile(file).read()
    told = change(config)
    assert PinFile(file).read() == NEW
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not waiting(config).exists()
    assert Ceremony(config).takes_pin("root", NEW)
    assert not Ceremony(config).takes_pin("root", old)
    # All keys are as they were, and a service that starts reads the new one.
    with open_tokens(config, ["root"]) as tokens:
        assert tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN))
    said = " ".join(told)
    assert all(f"holdfast-{role}" in said for role in ("web", "worker", "release"))
    assert "holdfast-sequencer" not in said
    assert NEW.reveal().decode() not in said


def test_changed_pin_of_softhsm_is_in_the_backup_too(hsm_config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pin, of_roles):
        monkeypatch.setattr(module, "hsm_config", lambda: hsm_config)
    for token in TOKENS:
        change(hsm_config, token=token)
        record = manifests.load(hsm_config.manifest_path).token(token)
        assert hash_files(hsm_config.backup(token, record.generation)) == record.files
    assert len(Ceremony(hsm_config).sign_with_tenant_root(TENANT, b"after")) == 64


# Where it is killed: a method of the change, before or after; or a call of the module in the process that makes it.
KILLS = [
    *((name, when) for name in ("_write", "_change", "_put_in_place") for when in ("before", "after")),
    *(("C_SetPIN", when) for when in ("before", "after")),
    # The login that proves the new PIN, before anything is kept of it.
    ("C_Login", "before skip=1"),
]


@pytest.mark.parametrize(("place", "when"), KILLS, ids=lambda one: str(one).replace(" ", "-"))
def test_killed_anywhere_a_file_has_the_tokens_pin_and_the_next_call_ends_the_change(
    config: HsmConfig, interposer: Interposer, monkeypatch: pytest.MonkeyPatch, place: str, when: str
) -> None:
    file = config.pin_path("root")
    if place.startswith("C_"):
        moment, _, rest = when.partition(" ")
        interposer.rules(f"{place} kill-{moment} {rest}")
        with pytest.raises(CeremonyRefused, match="Hold this again"):
            change(config)
        interposer.rules()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(PinChange, place, killed(getattr(PinChange, place), when))
            assert ending(lambda: change(config)) == -signal.SIGKILL
    assert taken(config, by=file) or taken(config, by=waiting(config))
    # One that had ended, or not begun, is followed by another; one that was stopped goes on with its own.
    change(config, None if waiting(config).exists() else Given(SecretBytes(b"another PIN")))
    assert not waiting(config).exists()
    assert taken(config, by=file)
    with open_tokens(config, ["root"]) as tokens:
        assert tokens.root.generate_tenant_key(**OWN)


def killed(method: Callable[[PinChange], object], when: str) -> Callable[[PinChange], None]:
    def run(self: PinChange) -> None:
        if when == "after":
            method(self)
        os.kill(os.getpid(), signal.SIGKILL)

    return run


def ending(act: Callable[[], object]) -> int:
    """Do it in a process of its own; returns how that ended."""
    child = os.fork()
    if not child:
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_stopped_change_goes_on_with_its_own_pin_and_no_other(config: HsmConfig, interposer: Interposer) -> None:
    interposer.rules("C_SetPIN kill-after")
    with pytest.raises(CeremonyRefused, match="is not known"):
        change(config)
    interposer.rules()
    assert waiting(config).exists()
    with pytest.raises(CeremonyRefused, match="which is another"):
        change(config, Given(SecretBytes(b"another PIN")))
    interposer.forget()
    change(config)
    # One of a vendor's has it already, and is not asked twice; a copy that died with its process never had it.
    assert interposer.entered("C_Login") == (3 if config.softhsm else 1)
    assert taken(config, by=config.pin_path("root"))


def test_wrong_old_pin_is_tried_once_and_what_it_would_have_changed_is_gone(
    config: HsmConfig, interposer: Interposer
) -> None:
    file = config.pin_path("root")
    right = file.read_bytes()
    file.write_bytes(b"not the pin of this token at all")
    interposer.forget()
    with pytest.raises(HsmPinRejected, match="then remove"):
        change(config)
    assert not waiting(config).exists()
    # Neither by another call, nor by a service that starts: no new PIN is asked for either.
    with pytest.raises(HsmPinRejected, match="was refused before"):
        next(PinChange("root", file=file, new=None).steps())
    with pytest.raises(HsmPinRejected, match="was refused before"):
        open_tokens(config, ["root"])
    assert interposer.entered("C_Login") == 1
    # A person who has the right one gives it, and the file that had the wrong one is right again: so is the mark gone.
    (config.home / "right").write_bytes(right)
    (config.home / "right").chmod(0o600)
    given = replace(config, pins={"root": of_a_person(config.home / "right")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pin, "hsm_config", lambda: given)
        change(given)
    with open_tokens(config, ["root"]) as tokens:
        assert tokens.root.generate_tenant_key(**OWN)


def of_a_person(path: Path) -> PinSource:
    return Given(PinFile(path).read())


def test_mark_stays_where_the_new_pin_lies_elsewhere(config: HsmConfig, tmp_path: Path) -> None:
    mark, file = config.refused_pins.mark("root"), config.pin_path("root")
    old, elsewhere = PinFile(file).read(), tmp_path / "elsewhere.pin"
    config.refused_pins.directory.mkdir(exist_ok=True)
    mark.touch()
    given = replace(config, pins={"root": Given(old)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pin, "hsm_config", lambda: given)
        for step in PinChange("root", file=elsewhere, new=Given()).steps():
            step.take()
    assert mark.exists(), "what lies in the services' place is still the old PIN"
    assert taken(config, by=elsewhere)


@pytest.mark.parametrize(
    ("new", "refusal", "said"),
    [
        (b"1", HsmNewPinRefused, "does not take the new PIN"),
        (None, CeremonyRefused, "has. Nothing was changed"),
    ],
    ids=["too short", "the same"],
)
def test_new_pin_that_is_none_changes_nothing(
    config: HsmConfig, new: bytes | None, refusal: type[Exception], said: str
) -> None:
    file = config.pin_path("root")
    before = config.manifest_path.read_bytes(), file.read_bytes()
    with pytest.raises(refusal, match=said):
        change(config, Given(SecretBytes(new)) if new is not None else PinFile(file))
    assert not waiting(config).exists()
    assert not config.refused_pins.mark("root").exists(), "the token refused no PIN that it has"
    assert (config.manifest_path.read_bytes(), file.read_bytes()) == before
    assert taken(config, by=file)


def test_new_pin_that_cannot_be_written_is_never_the_tokens(config: HsmConfig, interposer: Interposer) -> None:
    interposer.forget()
    away = config.pin_path("root").rename(config.home / "root.pin")
    shutil.rmtree(config.home / "pins")
    (config.home / "pins").touch()
    given = replace(config, pins={"root": Given(PinFile(away).read())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pin, "hsm_config", lambda: given)
        with pytest.raises(OSError, match="nothing was changed"):
            change(given)
    assert interposer.entered("C_Login") == 0
