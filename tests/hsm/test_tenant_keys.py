# SPDX-License-Identifier: Apache-2.0
"""Tenant master keys and record keys on real SoftHSM (HSM section 5; FAULTS H8, H14)."""

import secrets
import threading
from dataclasses import replace

import pytest

from holdfast.core.base.secret import SecretBytes
from hsm.config import HsmConfig
from hsm.errors import HsmKeyMismatch, HsmKeyMissing, HsmRefused
from hsm.runtime import open_tokens
from tests.cast.hsm import Interposer

AAD = b"acme/alice/deposit/1"


def test_record_key_opens_only_with_its_tenant_key_and_context(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        acme = tokens.root.load_tenant_key(tokens.root.generate_tenant_key())
        mallory = tokens.root.load_tenant_key(tokens.root.generate_tenant_key())
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
        tenant_key = tokens.root.load_tenant_key(tokens.root.generate_tenant_key())
        nonces = {tenant_key.wrap_record_key(key, aad=AAD)[:12] for _ in range(500)}
        for size in (0, 31, 33):
            with pytest.raises(ValueError, match="32 bytes"):
                tenant_key.wrap_record_key(SecretBytes(bytes(size)), aad=AAD)
    assert len(nonces) == 500


def test_tenant_key_opens_after_a_restart(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key()
        assert wrapped.master_version == tokens.root.master_version == 1
        record = tokens.root.load_tenant_key(wrapped).new_record_key(aad=AAD)
    with open_tokens(hsm_config, ["root"]) as tokens:
        again = tokens.root.load_tenant_key(wrapped)
        assert again.unwrap_record_key(record.wrapped, aad=AAD) == record.key


def test_load_tenant_key_refuses_damage_a_wrong_check_value_and_an_unknown_master(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    with open_tokens(interposed, ["root"]) as tokens:
        wrapped, other = tokens.root.generate_tenant_key(), tokens.root.generate_tenant_key()
        logins = interposer.entered("C_Login")
        for place in (0, 20, 39):
            blob = bytearray(wrapped.blob)
            blob[place] ^= 0x80
            with pytest.raises(HsmRefused):
                tokens.root.load_tenant_key(replace(wrapped, blob=bytes(blob)))
        with pytest.raises(HsmKeyMismatch):
            tokens.root.load_tenant_key(replace(wrapped, kcv=other.kcv))
        with pytest.raises(HsmKeyMissing):
            tokens.root.load_tenant_key(replace(wrapped, master_version=2))
        assert interposer.entered("C_Login") == logins


def test_tenant_keys_serve_four_threads_at_once(hsm_config: HsmConfig) -> None:
    failures: list[BaseException] = []
    with open_tokens(hsm_config, ["root", "log"]) as tokens:
        keys = [tokens.root.load_tenant_key(tokens.root.generate_tenant_key()) for _ in range(8)]

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
        keys = [tokens.root.load_tenant_key(tokens.root.generate_tenant_key()) for _ in range(10)]
        records = [key.new_record_key(aad=AAD) for key in keys]
        for key, record in zip(keys, records, strict=True):
            assert key.unwrap_record_key(record.wrapped, aad=AAD) == record.key
