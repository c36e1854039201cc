# SPDX-License-Identifier: Apache-2.0
"""Tenant master keys and record keys on real SoftHSM (HSM section 5; FAULTS H8, H14)."""

import json
import secrets
import threading
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.core.base.secret import SecretBytes
from hsm import manifest as manifests
from hsm.backend import WrappedTenantKey
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.errors import HsmError, HsmKeyMismatch, HsmKeyMissing, HsmRefused
from hsm.runtime import Tokens, open_tokens
from hsm.tokens import _bind
from tests.cast.hsm import OWN, Interposer
from tests.hsm.surgery import operate

AAD = b"acme/alice/deposit/1"


def test_record_key_opens_only_with_its_tenant_key_and_context(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        acme = tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN))
        mallory = tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN))
        record = acme.new_record_key(aad=AAD)
        assert (len(record.key), len(record.wrapped)) == (32, 60)
        assert acme.unwrap_record_key(record.wrapped, aad=AAD) == record.key
        with pytest.raises(HsmRefused):
            acme.unwrap_record_key(record.wrapped, aad=AAD + b"0")
        with pytest.raises(HsmRefused):
            mallory.unwrap_record_key(record.wrapped, aad=AAD)
        for place in range(60):
            tampered = bytearray(record.wrapped)
            tampered[place] ^= 1
            with pytest.raises(HsmRefused):
                acme.unwrap_record_key(bytes(tampered), aad=AAD)
        for size in (0, 11, 28, 59, 61):
            with pytest.raises(HsmRefused):
                acme.unwrap_record_key((record.wrapped + b"\0")[:size], aad=AAD)


def test_wrap_record_key_uses_a_nonce_once(hsm_config: HsmConfig) -> None:
    key = SecretBytes(secrets.token_bytes(32))
    with open_tokens(hsm_config, ["root"]) as tokens:
        tenant_key = tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN))
        nonces = {tenant_key.wrap_record_key(key, aad=AAD)[:12] for _ in range(500)}
        for size in (0, 31, 33):
            with pytest.raises(ValueError, match="32 bytes"):
                tenant_key.wrap_record_key(SecretBytes(bytes(size)), aad=AAD)
    assert len(nonces) == 500


def test_tenant_key_opens_after_a_restart(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key(**OWN)
        assert wrapped.master_version == tokens.root.master_version == 1
        record = tokens.root.load_tenant_key(wrapped).new_record_key(aad=AAD)
    with open_tokens(hsm_config, ["root"]) as tokens:
        again = tokens.root.load_tenant_key(wrapped)
        assert again.unwrap_record_key(record.wrapped, aad=AAD) == record.key


def rebound(tokens: Tokens, wrapped: WrappedTenantKey) -> WrappedTenantKey:
    """Bound as it is, whatever it opens to: by the token itself, behind the product's back."""
    pool = tokens._pool
    (binding,) = pool.manifest.token("root").find("binding")
    return pool.run("root", lambda session: _bind(session.key(binding), wrapped))


def test_load_tenant_key_refuses_damage_a_wrong_check_value_and_an_unknown_master(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    with open_tokens(interposed, ["root"]) as tokens:
        wrapped, other = tokens.root.generate_tenant_key(**OWN), tokens.root.generate_tenant_key(**OWN)
        logins = interposer.entered("C_Login")
        for place in (0, 20, 39):
            blob = bytearray(wrapped.blob)
            blob[place] ^= 0x80
            with pytest.raises(HsmRefused):
                tokens.root.load_tenant_key(rebound(tokens, replace(wrapped, blob=bytes(blob))))
        with pytest.raises(HsmKeyMismatch):
            tokens.root.load_tenant_key(rebound(tokens, replace(wrapped, kcv=other.kcv)))
        with pytest.raises(HsmKeyMissing):
            tokens.root.load_tenant_key(rebound(tokens, replace(wrapped, master_version=2)))
        assert interposer.entered("C_Login") == logins


def test_load_tenant_key_refuses_what_is_not_bound_to_its_tenant_and_version(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    with open_tokens(interposed, ["root"]) as tokens:
        generate, load = tokens.root.generate_tenant_key, tokens.root.load_tenant_key
        acme, other = generate(tenant_id=UUID(int=1), version=1), generate(tenant_id=UUID(int=2), version=1)
        newer = generate(tenant_id=UUID(int=1), version=2)
        load(acme)
        interposer.forget()
        for moved in (
            replace(other, tenant_id=acme.tenant_id),
            replace(acme, version=2),
            replace(acme, blob=newer.blob, kcv=newer.kcv),
            replace(newer, version=1),
            replace(acme, kcv=other.kcv),
            replace(acme, mac=other.mac),
            replace(acme, mac=b""),
            replace(acme, mac=bytes(32)),
        ):
            with pytest.raises(HsmKeyMismatch, match="not bound"):
                load(moved)
        assert interposer.entered("C_UnwrapKey") == 0
        # What a ceremony binds has to open, as the key that its check value names.
        assert tokens.root.bind_tenant_key(replace(acme, mac=b"")) == acme
        with pytest.raises(HsmKeyMismatch):
            tokens.root.bind_tenant_key(replace(acme, kcv=other.kcv))
        with pytest.raises(HsmRefused):
            tokens.root.bind_tenant_key(replace(acme, blob=bytes(40)))
    with pytest.raises(ValueError, match="32 bytes"):
        replace(acme, mac=b"short")


def test_token_from_before_gets_its_binding_key_once(tmp_path: Path) -> None:
    config = HsmConfig(home=tmp_path / "old")
    ceremony = Ceremony(config)
    ceremony.create_tokens()
    operate(config, "root", "unbound")
    # As a manifest of before has it, which knew no such word.
    body = json.loads(config.manifest_path.read_bytes())
    assert not body.pop("are_tenant_keys_bound")
    config.manifest_path.write_text(json.dumps(body))
    assert (ceremony.are_tenant_keys_bound, ceremony.has_binding_key) == (False, False)
    (master,) = manifests.load(config.manifest_path).token("root").keys
    old = WrappedTenantKey(UUID(int=1), 1, bytes.fromhex(master.canary), bytes.fromhex(master.kcv), 1)
    with open_tokens(config, ["root"]) as tokens:
        assert not tokens.root.binds
        for act in (tokens.root.load_tenant_key, tokens.root.bind_tenant_key):
            with pytest.raises(HsmKeyMissing, match="ceremony tenant-keys"):
                act(old)
        with pytest.raises(HsmKeyMissing, match="ceremony tenant-keys"):
            tokens.root.generate_tenant_key(**OWN)
    ceremony.create_binding_key()
    with open_tokens(config, ["root"]) as tokens:
        assert tokens.root.binds
        with pytest.raises(HsmKeyMismatch, match="not bound"):
            tokens.root.load_tenant_key(old)
        tokens.root.load_tenant_key(tokens.root.bind_tenant_key(old))
    assert (ceremony.are_tenant_keys_bound, ceremony.has_binding_key) == (False, True)
    ceremony.finish_binding()
    assert (ceremony.are_tenant_keys_bound, ceremony.has_binding_key) == (True, True)
    with pytest.raises(HsmError, match="already"):
        ceremony.create_binding_key()


def test_tenant_keys_serve_four_threads_at_once(hsm_config: HsmConfig) -> None:
    failures: list[BaseException] = []
    with open_tokens(hsm_config, ["root", "log"]) as tokens:
        keys = [tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN)) for _ in range(8)]

        def work(seed: int) -> None:
            try:
                for n in range(300):
                    key = keys[(seed + n) % len(keys)]
                    record = key.new_record_key(aad=AAD)
                    assert key.unwrap_record_key(record.wrapped, aad=AAD) == record.key
                    if n % 30 == 0:
                        assert len(tokens.log.sign(b"head")) == 64
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_tenant_keys_beyond_the_cache_are_unwrapped_again(
    hsm_config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.pool._SESSION_OBJECTS", 3)
    with open_tokens(replace(hsm_config, threads=1), ["root"]) as tokens:
        keys = [tokens.root.load_tenant_key(tokens.root.generate_tenant_key(**OWN)) for _ in range(10)]
        records = [key.new_record_key(aad=AAD) for key in keys]
        for key, record in zip(keys, records, strict=True):
            assert key.unwrap_record_key(record.wrapped, aad=AAD) == record.key
