# SPDX-License-Identifier: Apache-2.0
"""Ceremonies: what they leave behind, and what a kill leaves (HSM section 6.4; FAULTS H2, H12, H16)."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from pkcs11 import KeyType, Mechanism, MechanismFlag, MechanismInvalid

from hsm import manifest as manifests
from hsm import signing
from hsm.ceremony import Ceremony
from hsm.config import TOKENS, HsmConfig
from hsm.directories import hash_files
from hsm.errors import HsmError, HsmKeyMissing, HsmUnavailable
from hsm.pool import HsmPool, TokenSession
from hsm.runtime import open_tokens
from tests.cast.hsm import TENANT, Interposer


def test_create_tokens_makes_four_with_private_pins_each_in_its_own_directory(tmp_path: Path) -> None:
    config = HsmConfig(home=tmp_path / "new")
    Ceremony(config).create_tokens()
    manifest = manifests.load(config.manifest_path)
    assert set(manifest.tokens) == set(TOKENS)
    assert len({token.serial for token in manifest.tokens.values()}) == 4
    pins = set()
    for name in TOKENS:
        assert len(list(config.pristine(name, 1).iterdir())) == 1
        for role in ("pin", "so-pin"):
            path = config.home / "pins" / f"{name}.{role}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            pins.add(path.read_text().strip())
    assert len(pins) == 8
    assert {len(pin) for pin in pins} == {32}
    with pytest.raises(HsmError, match="have been made"):
        Ceremony(config).create_tokens()


def test_ceremony_leaves_a_backup_of_each_generation_that_equals_the_manifest(hsm_config: HsmConfig) -> None:
    Ceremony(hsm_config).create_escrow_key("second tenant")
    for name, token in manifests.load(hsm_config.manifest_path).tokens.items():
        assert hash_files(hsm_config.backup(name, token.generation)) == token.files
        assert hash_files(hsm_config.pristine(name, token.generation)) == token.files
        assert not hsm_config.pristine(name, token.generation - 1).exists()
    newest = hsm_config.home / "backups" / "escrow-3.json"
    assert newest.read_bytes() == hsm_config.manifest_path.read_bytes()


def test_ceremony_keeps_the_newest_five_backups_of_a_token(hsm_config: HsmConfig) -> None:
    for n in range(5):
        Ceremony(hsm_config).create_tenant_root(f"tenant-{n}")
    kept = {path.name for path in (hsm_config.home / "backups").glob("ceremony-*")}
    assert kept == {f"ceremony-{n}{end}" for n in range(3, 8) for end in ("", ".json")}
    assert len(list((hsm_config.home / "backups").glob("root-*"))) == 4


def test_keys_show_the_attributes_of_their_kind_and_no_more(hsm_config: HsmConfig) -> None:
    recorded = {
        key.kind: key.attributes
        for token in manifests.load(hsm_config.manifest_path).tokens.values()
        for key in token.keys
    }
    for kind, attributes in recorded.items():
        for name in ("SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL"):
            assert attributes[name] is True, (kind, name)
        for name in ("EXTRACTABLE", "MODIFIABLE", "DECRYPT"):
            assert attributes[name] is False, (kind, name)
    assert recorded["master"]["ALLOWED_MECHANISMS"] == [int(Mechanism.AES_KEY_WRAP)]
    assert recorded["escrow"]["ALLOWED_MECHANISMS"] == [int(Mechanism.RSA_PKCS_OAEP)]
    assert recorded["escrow"]["SIGN"] is False
    assert recorded["master"]["ENCRYPT"] is False


def test_second_master_log_and_root_keys_are_refused(hsm_config: HsmConfig) -> None:
    ceremony = Ceremony(hsm_config)
    before = hsm_config.manifest_path.read_bytes()
    for again in (
        ceremony.create_master_key,
        ceremony.create_log_key,
        lambda: ceremony.create_tenant_root(TENANT),
    ):
        with pytest.raises(HsmError, match="already"):
            again()
    assert hsm_config.manifest_path.read_bytes() == before


def test_tenant_root_signs_for_its_tenant_only(hsm_config: HsmConfig) -> None:
    ceremony = Ceremony(hsm_config)
    signature = ceremony.sign_with_tenant_root(TENANT, b"statement")
    public = ed25519.Ed25519PublicKey.from_public_bytes(ceremony.tenant_root(TENANT).raw)
    public.verify(signature, b"statement")
    with pytest.raises(HsmKeyMissing):
        ceremony.sign_with_tenant_root("mallory-inc", b"statement")
    with pytest.raises(HsmKeyMissing):
        ceremony.tenant_root("mallory-inc")
    with pytest.raises(HsmError):
        open_tokens(hsm_config, ["ceremony"])


def test_log_key_signs_with_the_pinned_public_key(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["log"]) as tokens:
        assert tokens.log.public_key.algorithm == "ed25519"
        public = ed25519.Ed25519PublicKey.from_public_bytes(tokens.log.public_key.raw)
        public.verify(tokens.log.sign(b"checkpoint"), b"checkpoint")
        with pytest.raises(HsmError, match="not opened"):
            tokens.escrow.rewrap  # noqa: B018


def test_signing_falls_back_to_p256_with_low_s_where_the_token_lacks_ed25519(
    interposer: Interposer, tmp_path: Path
) -> None:
    config = HsmConfig(home=tmp_path / "p256", module=interposer.module)
    Ceremony(config).create_tokens()
    # CKR_MECHANISM_INVALID for the first attempt, as a token without Edwards curves answers.
    interposer.rules("C_GenerateKeyPair rv 0x70 n=1")
    key = Ceremony(config).create_log_key()
    interposer.rules()
    assert (key.algorithm, len(key.raw)) == ("p256", 65)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
    with open_tokens(config, ["log"]) as tokens:
        assert tokens.log.public_key == key
        for n in range(20):
            signature = tokens.log.sign(b"head %d" % n)
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            assert s <= signing._P256_ORDER // 2
            public.verify(encode_dss_signature(r, s), b"head %d" % n, ec.ECDSA(SHA256()))


def test_mechanisms_that_no_key_needs_are_switched_off(hsm_config: HsmConfig) -> None:
    pool = HsmPool(hsm_config, ("root",))

    def other_mode(session: TokenSession) -> None:
        key = session.pkcs11.generate_key(KeyType.AES, 256, capabilities=MechanismFlag.ENCRYPT)
        assert key.encrypt(bytes(16), mechanism=Mechanism.AES_ECB)
        with pytest.raises(MechanismInvalid):
            key.encrypt(bytes(16), mechanism=Mechanism.AES_CBC, mechanism_param=bytes(16))

    try:
        pool.run("root", other_mode)
    finally:
        pool.close()


def test_failed_ceremony_changes_nothing(interposed: HsmConfig, interposer: Interposer) -> None:
    before = snapshot(interposed)
    # Token full (CKR_DEVICE_MEMORY), general failure, removed.
    for code in ("0x31", "0x5", "0x32"):
        interposer.rules(f"C_GenerateKeyPair rv {code}")
        with pytest.raises(HsmUnavailable):
            Ceremony(interposed).create_escrow_key("second tenant")
    interposer.rules()
    assert snapshot(interposed) == before
    assert Ceremony(interposed).escrow_keys("second tenant") == []
    assert Ceremony(interposed).create_escrow_key("second tenant").version == 1


def test_only_the_refusal_that_means_it_proves_an_unwrap_template(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    """The second unwrap of an escrow key's ceremony asks for a readable object: any other refusal says nothing."""
    before = snapshot(interposed)
    # Not permitted, mechanism invalid, general failure, bad ciphertext, bad arguments.
    for code in ("0x68", "0x70", "0x5", "0x40", "0x7"):
        interposer.rules(f"C_UnwrapKey rv {code} skip=1 n=1")
        with pytest.raises(HsmUnavailable, match="nothing was changed"):
            Ceremony(interposed).create_escrow_key("second tenant")
    interposer.rules()
    assert snapshot(interposed) == before
    assert Ceremony(interposed).create_escrow_key("second tenant").version == 1


def snapshot(config: HsmConfig) -> tuple[bytes, dict[str, str]]:
    return config.manifest_path.read_bytes(), hash_files(config.home / "tokens")


def test_killed_ceremony_leaves_the_old_token_or_the_new_one(hsm_config: HsmConfig) -> None:
    """Kill the ceremony's processes after delays that sweep its whole course."""
    script = (
        "import sys; from pathlib import Path;"
        "from hsm.config import HsmConfig; from hsm.ceremony import Ceremony;"
        "Ceremony(HsmConfig(home=Path(sys.argv[1]))).create_tenant_root(sys.argv[2])"
    )
    finished = 0
    for n in range(24):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(hsm_config.home), f"tenant-{n}"],
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.08 + n * 0.012)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        finished += process.wait() == 0
        manifest = manifests.load(hsm_config.manifest_path)
        record = manifest.token("ceremony")
        assert hash_files(hsm_config.pristine("ceremony", record.generation)) == record.files
        assert Ceremony(hsm_config).tenant_root(TENANT)
    signature = Ceremony(hsm_config).sign_with_tenant_root(TENANT, b"after")
    assert len(signature) == 64
    made = {key.tenant for key in manifests.load(hsm_config.manifest_path).token("ceremony").keys}
    for tenant in sorted(made)[:3]:
        assert Ceremony(hsm_config).sign_with_tenant_root(tenant, b"after")
    assert finished < 24, "no kill fell into a ceremony"


def test_pins_pass_neither_through_arguments_nor_through_the_environment(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    pin = interposed.pin_path("ceremony").read_text().strip().encode()
    interposer.rules("C_Login before 400")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import json, sys; from pathlib import Path; from hsm.config import HsmConfig;"
            "from hsm.ceremony import Ceremony; a = sys.argv;"
            "Ceremony(HsmConfig(home=Path(a[1]), module=Path(a[2]))).sign_with_tenant_root(a[3], b'x')",
            str(interposed.home),
            str(interposer.module),
            TENANT,
        ]
    )
    seen = 0
    while process.poll() is None:
        for child in children(process.pid) | {process.pid}:
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    content = Path(f"/proc/{child}/{name}").read_bytes()
                    assert pin not in content
                    seen += b"hsm.ceremony_process" in content
        time.sleep(0.02)
    assert process.wait() == 0
    assert seen > 0
    assert pin.decode() not in json.dumps(interposer.log())


def children(pid: int) -> set[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in path.read_text().split()} if path.exists() else set()
