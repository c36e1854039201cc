# SPDX-License-Identifier: Apache-2.0
"""What a start refuses, and how a damaged token comes back (FAULTS H2, H3, H8, H9, H11, H15, H16, H17)."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from hsm import manifest as manifests
from hsm import registry
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig, PinDescriptor, PinFile
from hsm.directories import restore_token
from hsm.errors import (
    HsmError,
    HsmKeyMismatch,
    HsmKeyMissing,
    HsmPinRejected,
    HsmTokenDamaged,
    HsmUnavailable,
)
from hsm.runtime import Tokens, open_tokens
from tests.cast.hsm import OWN, TENANT, Interposer
from tests.checks import manage, production
from tests.hsm.surgery import operate


def token_file(config: HsmConfig, name: str) -> Path:
    generation = manifests.load(config.manifest_path).token(name).generation
    (found,) = config.pristine(name, generation).glob("*/token.object")
    return found


def edit_manifest(config: HsmConfig, token: str, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads(config.manifest_path.read_bytes())
    change(body["tokens"][token])
    config.manifest_path.write_text(json.dumps(body))


def test_open_uses_a_private_copy_that_is_gone_after_closing(hsm_config: HsmConfig) -> None:
    pristine = token_file(hsm_config, "root")
    before = pristine.read_bytes()
    with open_tokens(hsm_config, ["root", "log"]):
        (copy,) = hsm_config.runtime_root.iterdir()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o700
        assert copy.name.startswith(f"{os.getpid()}-")
        assert len(list((copy / "tokens").iterdir())) == 2
        assert os.environ["SOFTHSM2_CONF"] == str(copy / "softhsm2.conf")
        (used,) = (copy / "tokens").glob(f"{pristine.parent.name}/token.object")
        # SoftHSM has rewritten the copy at login: the very write that a kill must not meet in the pristine.
        assert used.stat().st_mtime_ns > pristine.stat().st_mtime_ns
    assert list(hsm_config.runtime_root.iterdir()) == []
    assert pristine.read_bytes() == before


def test_open_serves_all_tokens_of_a_process_and_refuses_a_second_opening(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    with open_tokens(interposed, ["root", "log"]) as tokens:
        assert interposer.entered("C_Login") == 2
        with pytest.raises(HsmError, match="open already"):
            open_tokens(interposed, ["escrow"])
        assert tokens.log.sign(b"head")
        assert tokens.root.generate_tenant_key(**OWN)
    with pytest.raises(HsmError, match="closed"):
        tokens.log.sign(b"head")
    for wrong in ([], ["root", "root"], ["other"]):
        with pytest.raises(HsmError):
            open_tokens(interposed, wrong)


def test_open_refuses_an_installation_without_a_ceremony(tmp_path: Path) -> None:
    with pytest.raises(HsmError, match="ceremony has not been held"):
        open_tokens(HsmConfig(home=tmp_path), ["root"])
    assert not (tmp_path / "tokens").exists()


def mend_pin(config: HsmConfig, token: str) -> None:
    """Do what the sentence says, as the operator who has put the right PIN in place."""
    config.refused_pins.mark(token).unlink()


# As a process of ours does at its start.
_START: Final = """
import sys
from pathlib import Path
from hsm.config import HsmConfig
from hsm.errors import HsmError
from hsm.runtime import open_tokens
try:
    open_tokens(HsmConfig(home=Path(sys.argv[1]), module=Path(sys.argv[2])), ["log", "root"]).close()
except HsmError as error:
    print(type(error).__name__, error)
else:
    print("started")
"""


def test_wrong_pin_is_tried_once_by_all_starts_whoever_makes_them(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    path, mark = interposed.pin_path("root"), interposed.refused_pins.mark("root")
    right = path.read_bytes()
    path.write_bytes(b"not the pin of this token at all")
    command = [sys.executable, "-c", _START, str(interposed.home), str(interposed.module)]

    def start(count: int) -> list[str]:
        begun = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return [process.communicate(timeout=60)[0] for process in begun]

    said = [*start(3), *start(1), *start(1), *start(1)]
    assert all(one.startswith("HsmPinRejected") and f"then remove {mark}" in one for one in said), said
    # Once for the token `log`, in each, whose PIN is right; once for `root`, in all.
    assert interposer.entered("C_Login") == 6 + 1
    # The right PIN alone does not do it: an operator has to say so, since a process cannot tell.
    path.write_bytes(right)
    assert "was refused before (2" in start(1)[0]
    mend_pin(interposed, "root")
    assert start(1) == ["started\n"]


def test_pin_is_not_tried_where_its_refusal_could_not_be_remembered(
    interposed: HsmConfig, interposer: Interposer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HsmError, match="could not be remembered"):
        open_tokens(replace(interposed, refused=tmp_path / "file" / "refused"), ["root"])
    assert interposer.entered("C_Login") == 0


def test_mark_that_a_full_disk_left_empty_counts(interposed: HsmConfig, interposer: Interposer) -> None:
    interposed.refused_pins.directory.mkdir(exist_ok=True)
    interposed.refused_pins.mark("root").touch()
    with pytest.raises(HsmPinRejected, match="was refused before"):
        open_tokens(interposed, ["root"])
    assert interposer.entered("C_Login") == 0


def test_open_tries_a_wrong_pin_once(interposed: HsmConfig, interposer: Interposer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pin"
    wrong.write_text("not the pin of this token at all")
    wrong.chmod(0o600)
    with pytest.raises(HsmPinRejected):
        open_tokens(replace(interposed, pins={"root": PinFile(wrong)}), ["root"])
    assert interposer.entered("C_Login") == 1
    mend_pin(interposed, "root")
    interposer.forget()
    # PIN locked, expired, incorrect: SoftHSM never locks, so only an injected code can show it.
    for code in ("0xa4", "0xa3", "0xa0"):
        interposer.rules(f"C_Login rv {code}")
        with pytest.raises(HsmPinRejected):
            open_tokens(interposed, ["root", "log"])
        assert interposer.injected("C_Login") == 1
        mend_pin(interposed, "root")
        interposer.forget()
    interposer.rules()
    with open_tokens(interposed, ["root"]) as tokens:
        assert tokens.root.master_version == 1


def test_wrong_pin_met_while_running_closes_the_process_for_good(interposed: HsmConfig, interposer: Interposer) -> None:
    with open_tokens(interposed, ["log"]) as tokens:
        interposer.forget()
        interposer.rules("C_SignInit rv 0x101 n=1", "C_Login rv 0xa4")
        for _ in range(5):
            with pytest.raises(HsmPinRejected):
                tokens.log.sign(b"head")
        assert interposer.injected("C_Login") == 1


@pytest.fixture
def lazy(interposed: HsmConfig) -> Iterator[None]:
    """The log token as a process has it whose HSM was away at its start: opened when it is first asked for."""

    def open_log() -> dict[str, Any]:
        tokens = open_tokens(interposed, ["log"])
        opened.append(tokens)
        return {"log": tokens.log}

    opened: list[Tokens] = []
    registry.install(open_log)
    yield
    registry.install(dict)
    for tokens in opened:
        tokens.close()


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("code", ["0xa4", "0xa3", "0xa0"])
def test_hsm_that_was_away_at_the_start_and_refuses_the_pin_then_is_asked_once(
    interposer: Interposer, code: str
) -> None:
    interposer.rules("C_Initialize rv 0x5")
    with pytest.raises(HsmUnavailable):
        registry.log()
    # It is back, and whoever restored it gave it another PIN.
    interposer.rules(f"C_Login rv {code}")
    _wait_until_it_is_asked_again()
    for _ in range(5):
        with pytest.raises(HsmPinRejected, match="no later start tries it again"):
            registry.log()
    assert interposer.injected("C_Login") == 1
    # Neither time nor the right PIN makes this process try again.
    interposer.rules()
    time.sleep(0.6)
    with pytest.raises(HsmPinRejected):
        registry.log()
    assert interposer.entered("C_Login") == 0


@pytest.mark.usefixtures("lazy")
def test_hsm_that_is_away_at_the_start_is_not_initialised_by_every_request(interposer: Interposer) -> None:
    interposer.rules("C_Initialize rv 0x5")
    for _ in range(20):
        with pytest.raises(HsmUnavailable):
            registry.log()
    assert interposer.injected("C_Initialize") == 1
    interposer.rules()
    _wait_until_it_is_asked_again()
    assert registry.log().sign(b"head")


def _wait_until_it_is_asked_again() -> None:
    """Wait for the end of the moment for which an HSM that is away is left alone."""
    for _ in range(50):
        try:
            registry.log()
        except HsmUnavailable:
            time.sleep(0.1)
        except HsmPinRejected:
            return
        else:
            return
    pytest.fail("it is not asked again")


def test_ceremony_tries_a_wrong_pin_once_and_changes_nothing(
    interposed: HsmConfig, interposer: Interposer, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pin"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    before = interposed.manifest_path.read_bytes()
    with pytest.raises(HsmPinRejected):
        Ceremony(replace(interposed, pins={"escrow": PinFile(wrong)})).create_escrow_key("second")
    assert interposer.entered("C_Login") == 1
    assert interposed.manifest_path.read_bytes() == before


def test_pin_file_open_to_others_or_empty_is_refused(hsm_config: HsmConfig) -> None:
    path = hsm_config.pin_path("root")
    path.chmod(0o640)
    with pytest.raises(HsmError, match="open to others"):
        open_tokens(hsm_config, ["root"])
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(HsmError, match="1 to 256"):
        open_tokens(hsm_config, ["root"])
    path.unlink()
    with pytest.raises(HsmError, match="cannot be read"):
        open_tokens(hsm_config, ["root"])


def test_pin_is_read_from_a_descriptor(interposed: HsmConfig, interposer: Interposer) -> None:
    pin = interposed.pin_path("log").read_bytes()
    reading, writing = os.pipe()
    os.write(writing, pin)
    os.close(writing)
    file = os.open(interposed.pin_path("log"), os.O_RDONLY)
    for descriptor in (reading, file):
        with open_tokens(replace(interposed, pins={"log": PinDescriptor(descriptor)}), ["log"]) as tokens:
            # A lost state asks for the PIN a second time.
            interposer.rules("C_SignInit rv 0x101 n=1")
            assert len(tokens.log.sign(b"head")) == 64
        interposer.rules()
        os.close(descriptor)


@pytest.mark.parametrize("damage", ["emptied", "cut", "removed", "directory", "key", "added"])
def test_damaged_token_is_refused_with_the_command_that_restores_it(hsm_config: HsmConfig, damage: str) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key(**OWN)
    path = token_file(hsm_config, "root")
    if damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "removed":
        path.unlink()
    elif damage == "directory":
        shutil.rmtree(path.parent.parent)
    elif damage == "key":
        next(p for p in path.parent.glob("*.object") if p != path).write_bytes(b"")
    else:
        (path.parent / "11111111-1111-1111-1111-111111111111.object").write_bytes(b"")
    for opening in (
        lambda: open_tokens(hsm_config, ["root"]),
        lambda: Ceremony(hsm_config)._key("root", "log", {}),
    ):
        with pytest.raises(HsmTokenDamaged, match=r"manage\.py hsm_restore root"):
            opening()
    # The other tokens are not touched by it.
    open_tokens(hsm_config, ["log", "escrow"]).close()
    restore_token(hsm_config, "root")
    with open_tokens(hsm_config, ["root"]) as tokens:
        tokens.root.load_tenant_key(wrapped)


def test_restore_refuses_a_damaged_backup_and_leaves_the_token_alone(hsm_config: HsmConfig) -> None:
    (backup,) = (hsm_config.home / "backups").glob("root-2/*/token.object")
    backup.write_bytes(b"")
    with pytest.raises(HsmTokenDamaged, match="backup"):
        restore_token(hsm_config, "root")
    open_tokens(hsm_config, ["root"]).close()


def test_damaged_manifest_is_refused_and_its_backup_takes_its_place(hsm_config: HsmConfig) -> None:
    good = hsm_config.manifest_path.read_bytes()
    for bad in (b"", b"{", b"[]", b'{"format": "holdfast-hsm/2"}', good.replace(b'"serial"', b'"cereal"')):
        hsm_config.manifest_path.write_bytes(bad)
        with pytest.raises(HsmError, match=r"damaged|does not know"):
            open_tokens(hsm_config, ["root"])
    newest = max((hsm_config.home / "backups").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    shutil.copy(newest, hsm_config.manifest_path)
    open_tokens(hsm_config, ["root"]).close()


def test_changed_module_is_refused_until_it_is_accepted(interposed: HsmConfig, hsm_template: HsmConfig) -> None:
    with pytest.raises(HsmKeyMismatch, match="pinned"):
        open_tokens(replace(interposed, module=hsm_template.module), ["root"])
    body = json.loads(interposed.manifest_path.read_bytes())
    interposed.manifest_path.write_text(json.dumps(body | {"module_sha256": "00" * 32}))
    with pytest.raises(HsmKeyMismatch, match="hsm_accept_module"):
        open_tokens(interposed, ["root"])
    with pytest.raises(HsmKeyMismatch):
        Ceremony(interposed).create_escrow_key("second")
    Ceremony(interposed).accept_module()
    open_tokens(interposed, ["root"]).close()
    with pytest.raises(HsmKeyMismatch, match="cannot be read"):
        Ceremony(replace(interposed, module=Path("/nonexistent.so"))).accept_module()


def test_token_initialised_again_is_refused_by_its_serial(hsm_config: HsmConfig) -> None:
    edit_manifest(hsm_config, "root", lambda token: token.update(serial="0123456789abcdef"))
    with pytest.raises(HsmKeyMismatch, match="another serial"):
        open_tokens(hsm_config, ["root"])
    edit_manifest(hsm_config, "root", lambda token: token.update(label="holdfast-elsewhere"))
    with pytest.raises(HsmUnavailable, match="not present"):
        open_tokens(hsm_config, ["root"])


def test_missing_key_is_refused_and_never_created(interposed: HsmConfig, interposer: Interposer) -> None:
    edit_manifest(interposed, "root", lambda token: token["keys"][0].update(id="00" * 16))
    with pytest.raises(HsmKeyMissing, match="never created"):
        open_tokens(interposed, ["root"])
    assert interposer.entered("C_GenerateKey") == 0


def test_other_check_value_canary_or_public_key_is_refused(hsm_config: HsmConfig, tmp_path: Path) -> None:
    def flip(name: str) -> Callable[[dict[str, Any]], None]:
        def change(token: dict[str, Any]) -> None:
            old = token["keys"][0][name]
            token["keys"][0][name] = old[:-1] + ("0" if old[-1] != "0" else "1")

        return change

    def other_public(token: dict[str, Any]) -> None:
        token["keys"][0]["public"] = Ceremony(other).escrow_keys(TENANT)[0].spki.hex()

    other = replace(hsm_config, home=tmp_path / "other")
    shutil.copytree(hsm_config.home, other.home)
    Ceremony(other).create_escrow_key("x")
    original = hsm_config.manifest_path.read_bytes()
    spki = json.loads(other.manifest_path.read_bytes())["tokens"]["escrow"]["keys"][1]["public"]
    for token, change in (
        ("root", flip("kcv")),
        ("root", flip("canary")),
        ("root", lambda record: record["keys"][0].update(label="master-v2")),
        ("log", lambda record: record["keys"][0].update(public=_foreign_ed25519())),
        ("escrow", lambda record: record["keys"][0].update(public=spki)),
    ):
        edit_manifest(hsm_config, token, change)
        with pytest.raises(HsmKeyMismatch):
            open_tokens(hsm_config, [token])
        hsm_config.manifest_path.write_bytes(original)
    open_tokens(hsm_config, ["root", "log", "escrow"]).close()


def _foreign_ed25519() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()


@pytest.mark.parametrize("twin", ["twin_label", "twin_id"])
def test_two_keys_that_claim_one_name_are_refused(hsm_config: HsmConfig, twin: str) -> None:
    operate(hsm_config, "root", twin)
    with pytest.raises(HsmKeyMismatch, match="two keys"):
        open_tokens(hsm_config, ["root"])


@pytest.mark.parametrize(
    ("weakness", "complaint"),
    [
        ("can_decrypt", "CKA_(EN|DE)CRYPT is not False"),
        ("extractable", "CKA_EXTRACTABLE is not False"),
        ("any_mechanism", "CKA_ALLOWED_MECHANISMS is not"),
        ("modifiable", "CKA_MODIFIABLE is not False"),
        ("no_template", "lost its unwrap template"),
        # Its template says nothing of SENSITIVE: that something else is missing from what is asked proves nothing.
        ("readable_template", "lost its unwrap template"),
    ],
)
def test_key_with_other_attributes_than_the_allow_list_is_refused(
    hsm_config: HsmConfig, weakness: str, complaint: str
) -> None:
    operate(hsm_config, "root", weakness)
    with pytest.raises(HsmKeyMismatch, match=complaint):
        open_tokens(hsm_config, ["root"])


def test_orphan_of_a_killed_ceremony_is_left_alone(hsm_config: HsmConfig) -> None:
    operate(hsm_config, "root", "orphan")
    with open_tokens(hsm_config, ["root"]) as tokens:
        assert tokens.root.master_version == 1


@pytest.mark.parametrize("form", ["{}\r\n", "\ufeff{}\n", "\n{}", "{}\u200b\n", "{}\n\n"])
def test_pin_is_read_without_what_editors_put_around_it(form: str, tmp_path: Path) -> None:
    path = tmp_path / "root.pin"
    path.write_bytes(form.format("7hQ-pin").encode())
    path.chmod(0o600)
    assert PinFile(path).read().reveal() == b"7hQ-pin"
    with path.open("rb") as file:
        assert PinDescriptor(file.fileno()).read().reveal() == b"7hQ-pin"


@pytest.mark.parametrize(
    ("token", "services"),
    [
        ("root", "holdfast-web holdfast-worker holdfast-release"),
        ("log", "holdfast-sequencer"),
        ("escrow", "holdfast-release"),
        ("ceremony", ""),
    ],
)
def test_command_that_restores_says_what_to_do_next_in_production(
    hsm_config: HsmConfig, tmp_path: Path, token: str, services: str
) -> None:
    token_file(hsm_config, token).write_bytes(b"")
    server = tmp_path / "server"
    server.mkdir()
    environment = production(server) | {"HOLDFAST_HSM_HOME": str(hsm_config.home), "HOLDFAST_HSM_SOFTHSM": "true"}
    done = manage("hsm_restore", token, **environment)
    assert done.returncode == 0, done.stderr
    assert token_file(hsm_config, token).stat().st_size
    assert "make up" not in done.stdout
    if services:
        assert f"systemctl reset-failed {services}\n" in done.stdout
        assert f"systemctl start {services}\n" in done.stdout
    else:
        assert "No service opens it" in done.stdout


def test_command_that_restores_refuses_tokens_of_a_vendor(tmp_path: Path) -> None:
    done = manage("hsm_restore", "root", **production(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "vendor's backup" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_ceremony_leaves_for_all_is_read_by_every_account_under_any_umask(
    hsm_config: HsmConfig, tmp_path: Path
) -> None:
    manifest, before = manifests.load(hsm_config.manifest_path), os.umask(0o077)
    try:
        with manifests.locked(tmp_path, "commit", exclusive=True):
            manifest.save(tmp_path / "hsm.json")
    finally:
        os.umask(before)
    for name in (".commit.lock", "hsm.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644, name
