# SPDX-License-Identifier: Apache-2.0
"""The blind re-wrap on real SoftHSM (HSM sections 3.1 and 3.3; FAULTS H8, H14)."""

import secrets
from dataclasses import replace
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, RecipientRsaKey, wrap_rsa
from hsm.attributes import ESCROWED, NO_CAPABILITIES, OAEP_PARAMETERS
from hsm.backend import EscrowKeyRef, EscrowPublicKey
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.errors import HsmKeyMismatch, HsmKeyMissing, HsmRefused, HsmUnavailable
from hsm.pool import HsmPool, TokenSession
from hsm.runtime import open_tokens
from hsm.tokens import Pkcs11EscrowToken
from tests.cast.hsm import OAEP_SHA1, TENANT, Interposer, seal, spki

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
            mechanism_param=OAEP_PARAMETERS["oaep-sha1"],
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
        rewrap = tokens.escrow.rewrap
        with pytest.raises(HsmKeyMissing):
            rewrap(replace(key.ref, cka_id=secrets.token_bytes(16)), sealed, spki(recipient))
        with pytest.raises(HsmKeyMismatch):
            rewrap(EscrowKeyRef(key.ref.cka_id, mallory.ref.spki_sha256, "oaep-sha1"), sealed, spki(recipient))
        with pytest.raises(HsmKeyMismatch):
            rewrap(replace(key.ref, algorithm="oaep-sha256"), sealed, spki(recipient))
        assert interposer.entered("C_UnwrapKey") == 0
        with pytest.raises(HsmRefused):
            rewrap(mallory.ref, sealed, spki(recipient))


def test_rewrap_finds_a_key_made_after_the_process_started(hsm_config: HsmConfig, recipient: rsa.RSAPrivateKey) -> None:
    with open_tokens(hsm_config, ["escrow", "root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key()
        tenant_key = tokens.root.load_tenant_key(wrapped)
        record = tenant_key.new_record_key(aad=b"before")
        key = Ceremony(hsm_config).create_escrow_key("new tenant")
        again = tokens.escrow.rewrap(key.ref, seal(key.spki, SECRET), spki(recipient))
        assert recipient.decrypt(again, OAEP_SHA1) == SECRET
        # The library has been initialised again since: the tenant key is unwrapped anew.
        assert tenant_key.unwrap_record_key(record.wrapped, aad=b"before") == record.key
