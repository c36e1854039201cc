# SPDX-License-Identifier: Apache-2.0
"""The blind re-wrap on real SoftHSM (HSM sections 3.1 and 3.3; FAULTS H8, H14)."""

import json
import secrets
from dataclasses import replace
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pkcs11 import Attribute

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, RecipientRsaKey, wrap_rsa
from hsm.attributes import ESCROWED, NO_CAPABILITIES, oaep_parameters
from hsm.backend import EscrowPublicKey
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.errors import HsmKeyMismatch, HsmKeyMissing, HsmRefused, HsmUnavailable
from hsm.pool import HsmPool, TokenSession
from hsm.rewrap import rewrap
from hsm.runtime import open_tokens
from hsm.tokens import Pkcs11EscrowToken
from tests.cast.hsm import OAEP_SHA1, OWN, TENANT, Interposer, seal, spki

SECRET = bytes(range(32))


def escrow_key(config: HsmConfig) -> EscrowPublicKey:
    return Ceremony(config).escrow_keys(TENANT)[0]


def test_rewrap_carries_the_secret_from_the_escrow_key_to_the_recipient(
    hsm_config: HsmConfig, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(hsm_config)
    with open_tokens(hsm_config, ["escrow", "root"]) as tokens:
        assert tokens.escrow.capabilities.blind_rewrap
        assert tokens.escrow.capabilities.oaep == "oaep-sha1"
        again = tokens.escrow.rewrap(key.ref, seal(key.spki, SECRET), spki(recipient))
    assert len(again) == 384
    assert recipient.decrypt(again, OAEP_SHA1) == SECRET


def test_rewrap_speaks_with_the_protocol_core_at_both_ends(hsm_config: HsmConfig) -> None:
    key = escrow_key(hsm_config)
    rita = RecipientRsaKey.generate()
    half = SecretBytes(secrets.token_bytes(32))
    sealed = wrap_rsa(PublicKey(KeyKind.RSA_3072, key.spki), half, hash_name="sha1")
    with open_tokens(hsm_config, ["escrow"]) as tokens:
        again = tokens.escrow.rewrap(key.ref, sealed, rita.public.raw)
    assert rita.unwrap(again, hash_name="sha1") == half


def test_unwrapped_object_refuses_to_be_read_and_is_gone_afterwards(
    hsm_config: HsmConfig, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(hsm_config)
    pool = HsmPool(hsm_config, ("escrow",))
    token = Pkcs11EscrowToken(pool, deadline_seconds=60)

    def unwrap(session: TokenSession, template: dict[Attribute, object]) -> Any:
        return session.key(session.record.by_id(key.ref.cka_id)).unwrap_key(
            pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.KeyType.AES,
            seal(key.spki, SECRET),
            mechanism=pkcs11.Mechanism.RSA_PKCS_OAEP,
            mechanism_param=oaep_parameters("oaep-sha1"),
            capabilities=NO_CAPABILITIES,
            template=template,
        )

    def read(session: TokenSession) -> None:
        opened = unwrap(session, ESCROWED)
        with pytest.raises(pkcs11.AttributeSensitive):
            opened[Attribute.VALUE]
        opened.destroy()
        with pytest.raises(pkcs11.TemplateInconsistent):
            unwrap(session, ESCROWED | {Attribute.SENSITIVE: False})
        # Positive control: the search below does see session objects while they live.
        opened = unwrap(session, ESCROWED)
        assert session_objects(session) == 1
        opened.destroy()

    def session_objects(session: TokenSession) -> int:
        return len(list(session.pkcs11.get_objects({Attribute.TOKEN: False})))

    try:
        pool.run("escrow", read)
        assert pool.run("escrow", session_objects) == 0
        token.rewrap(key.ref, seal(key.spki, SECRET), spki(recipient))
        assert pool.run("escrow", session_objects) == 0
    finally:
        pool.close()


def test_rewrap_refuses_hundreds_of_bad_blobs_and_never_logs_in_again(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(interposed)
    sealed = seal(key.spki, SECRET)
    with open_tokens(interposed, ["escrow"]) as tokens:
        logins = interposer.entered("C_Login")
        for n in range(200):
            bad = bytearray(sealed)
            bad[n % 384] ^= 1 + n % 255
            with pytest.raises(HsmRefused):
                tokens.escrow.rewrap(key.ref, bytes(bad), spki(recipient))
        for bad_size in (b"", sealed[:-1], sealed + b"\0", b"\xff" * 384, bytes(384)):
            with pytest.raises(HsmRefused):
                tokens.escrow.rewrap(key.ref, bad_size, spki(recipient))
        again = tokens.escrow.rewrap(key.ref, sealed, spki(recipient))
        assert interposer.entered("C_Login") == logins
    assert recipient.decrypt(again, OAEP_SHA1) == SECRET


def test_rewrap_unwraps_exactly_once_for_each_call(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(interposed)
    sealed = seal(key.spki, SECRET)
    with open_tokens(interposed, ["escrow"]) as tokens:
        assert interposer.entered("C_UnwrapKey", key.ref.cka_id) == 0
        for expected in (1, 2, 3):
            tokens.escrow.rewrap(key.ref, sealed, spki(recipient))
            assert interposer.entered("C_UnwrapKey", key.ref.cka_id) == expected
        for fault in ("C_UnwrapKey rv 0xb3 n=1", "C_WrapKey rv 0xb3 n=1", "C_WrapKey rv 0x5 n=1"):
            interposer.forget()
            interposer.rules(fault)
            with pytest.raises(HsmUnavailable):
                tokens.escrow.rewrap(key.ref, sealed, spki(recipient))
            interposer.rules()
            assert interposer.entered("C_UnwrapKey") <= 1
            assert recipient.decrypt(tokens.escrow.rewrap(key.ref, sealed, spki(recipient)), OAEP_SHA1) == SECRET


def test_rewrap_refuses_recipient_keys_of_another_form(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(interposed)
    short = rsa.generate_private_key(65537, 2048)
    odd_exponent = rsa.RSAPublicNumbers(3, recipient.public_key().public_numbers().n).public_key()
    good = spki(recipient)
    with open_tokens(interposed, ["escrow"]) as tokens:
        for bad in (
            b"",
            good[:-1],
            good + b"\0",
            spki(short),
            odd_exponent.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            recipient.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ):
            with pytest.raises(HsmRefused):
                tokens.escrow.rewrap(key.ref, seal(key.spki, SECRET), bad)
    assert interposer.entered("C_UnwrapKey") == 0


def test_rewrap_refuses_references_that_do_not_match_the_pinned_key(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    key = escrow_key(interposed)
    mallory = Ceremony(interposed).create_escrow_key("mallory-inc")
    sealed = seal(key.spki, SECRET)
    interposer.forget()
    with open_tokens(interposed, ["escrow"]) as tokens:
        asked = tokens.escrow.rewrap
        with pytest.raises(HsmKeyMissing):
            asked(replace(key.ref, cka_id=secrets.token_bytes(16)), sealed, spki(recipient))
        with pytest.raises(HsmKeyMismatch):
            asked(replace(key.ref, spki_sha256=mallory.ref.spki_sha256), sealed, spki(recipient))
        with pytest.raises(HsmKeyMismatch):
            asked(replace(key.ref, algorithm="oaep-sha256"), sealed, spki(recipient))
        assert interposer.entered("C_UnwrapKey") == 0
        with pytest.raises(HsmRefused):
            asked(mallory.ref, sealed, spki(recipient))


def test_rewrap_uses_no_key_in_another_tenants_name(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever signs for a tenant may name another's key as its own; the token knows whose it is."""
    key = escrow_key(interposed)
    mallory = Ceremony(interposed).create_escrow_key("mallory-inc")
    sealed = seal(key.spki, SECRET)
    interposer.forget()
    with open_tokens(interposed, ["escrow"]) as tokens:
        for tenant in ("mallory-inc", "", f"{TENANT}-v1"):
            with pytest.raises(HsmRefused, match="another tenant's"):
                tokens.escrow.rewrap(replace(key.ref, tenant_id=tenant), sealed, spki(recipient))
        with pytest.raises(HsmRefused, match="another tenant's"):
            tokens.escrow.rewrap(replace(mallory.ref, tenant_id=TENANT), seal(mallory.spki, SECRET), spki(recipient))
    assert interposer.entered("C_UnwrapKey") == 0
    assert "in the name of the tenant mallory-inc" in caplog.text


def test_manifest_that_gives_a_tenant_anothers_key_is_refused(hsm_config: HsmConfig) -> None:
    Ceremony(hsm_config).create_escrow_key("mallory-inc")
    body = json.loads(hsm_config.manifest_path.read_bytes())
    body["tokens"]["escrow"]["keys"][0]["tenant"] = "mallory-inc"
    hsm_config.manifest_path.write_text(json.dumps(body))
    with pytest.raises(HsmKeyMismatch, match="is not the tenant's mallory-inc"):
        open_tokens(hsm_config, ["escrow"])


def test_escrow_key_on_a_module_that_takes_no_label_is_named_without_one(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    """SoftHSM refuses every label: CKR_ARGUMENTS_BAD, at the ceremony's trial and ever after."""
    key = escrow_key(interposed)
    assert key.ref.algorithm == "oaep-sha1"
    labelled = load_der_public_key(key.spki)
    assert isinstance(labelled, rsa.RSAPublicKey)
    ctx = secrets.token_bytes(32)
    sealed = labelled.encrypt(SECRET, padding.OAEP(padding.MGF1(SHA1()), SHA1(), ctx))
    pool = HsmPool(interposed, ("escrow",))
    try:

        def run(session: TokenSession, label: bytes) -> bytes:
            private = session.key(session.record.by_id(key.ref.cka_id))
            to = recipient.public_key().public_numbers()
            return rewrap(session.pkcs11, private, sealed, to, "oaep-sha1-ctx", label=label)

        with pytest.raises(HsmUnavailable, match="ArgumentsBad"):
            pool.run("escrow", lambda session: run(session, ctx), once=True)
    finally:
        pool.close()
    with open_tokens(interposed, ["escrow"]) as tokens:
        with pytest.raises(HsmKeyMismatch, match="oaep-sha1 only"):
            tokens.escrow.rewrap(replace(key.ref, algorithm="oaep-sha1-ctx"), sealed, spki(recipient), ctx=ctx)
        with pytest.raises(ValueError, match="32 bytes"):
            tokens.escrow.rewrap(replace(key.ref, algorithm="oaep-sha1-ctx"), sealed, spki(recipient))


def test_rewrap_finds_a_key_made_after_the_process_started(hsm_config: HsmConfig, recipient: rsa.RSAPrivateKey) -> None:
    with open_tokens(hsm_config, ["escrow", "root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key(**OWN)
        tenant_key = tokens.root.load_tenant_key(wrapped)
        record = tenant_key.new_record_key(aad=b"before")
        key = Ceremony(hsm_config).create_escrow_key("new tenant")
        again = tokens.escrow.rewrap(key.ref, seal(key.spki, SECRET), spki(recipient))
        assert recipient.decrypt(again, OAEP_SHA1) == SECRET
        # The library has been initialised again since: the tenant key is unwrapped anew.
        assert tenant_key.unwrap_record_key(record.wrapped, aad=b"before") == record.key
