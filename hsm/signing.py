# SPDX-License-Identifier: Apache-2.0
"""Signing keys on a token: Ed25519 by preference, P-256 where the token lacks it.

Implements PKCS#11 3.0 (CKM_EDDSA) and 2.40 (CKM_ECDSA); signatures are raw, 64 bytes.
Does not decide what is signed.
PKCS#11: https://docs.oasis-open.org/pkcs11/pkcs11-curr/v3.0/os/pkcs11-curr-v3.0-os.html section 2.3.
"""

import hashlib
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11 import exceptions as ck
from pkcs11.util.ec import encode_named_curve_parameters

from hsm.attributes import SIGNING_CAPABILITIES, signing_private
from hsm.backend import SigningPublicKey
from hsm.errors import HsmKeyMismatch

# DER of id-Ed25519, 1.3.101.112 (RFC 8410 section 3).
_ED25519_OID: Final = bytes.fromhex("06032b6570")

# SEC 2 section 2.4.2.
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def generate(session: Any, *, cka_id: bytes, label: str) -> tuple[Any, str, bytes]:
    """Make a signing pair on the token. Return its private key, its algorithm and its DER SPKI."""
    try:
        # By object identifier: PKCS#11 3.0 allows a curve's name as well, and modules differ in it. `local`, since a
        # token has no use for parameters as an object of its own.
        parameters = session.create_domain_parameters(
            KeyType.EC_EDWARDS,
            {Attribute.EC_PARAMS: _ED25519_OID},
            local=True,
        )
        public, private = parameters.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            id=cka_id,
            label=label,
            store=True,
            capabilities=SIGNING_CAPABILITIES,
            private_template=signing_private(Mechanism.EDDSA),
        )
    # What a module answers that has no Ed25519. Tried and not asked about: mechanism flags are garbage
    # on SoftHSM (HSM section 8, quirk 7).
    except (ck.MechanismInvalid, ck.DomainParamsInvalid, ck.FunctionNotSupported):
        return _generate_p256(session, cka_id=cka_id, label=label)
    raw = _octets(public[Attribute.EC_POINT])
    key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    return private, "ed25519", key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _generate_p256(session: Any, *, cka_id: bytes, label: str) -> tuple[Any, str, bytes]:
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    public, private = parameters.generate_keypair(
        id=cka_id,
        label=label,
        store=True,
        capabilities=SIGNING_CAPABILITIES,
        private_template=signing_private(Mechanism.ECDSA),
    )
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _octets(public[Attribute.EC_POINT]))
    return private, "p256", key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _octets(point: bytes) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING of at most 67 bytes; some modules leave the wrapping out."""
    # By length, since 0x04 begins both a DER OCTET STRING and an uncompressed point.
    if len(point) in {34, 67} and point[0] == 0x04 and point[1] == len(point) - 2:
        return point[2:]
    return point


def sign(key: Any, algorithm: str, data: bytes) -> bytes:
    """Return 64 raw bytes. P-256: over SHA-256 of `data`, with the smaller of s and n - s."""
    if algorithm == "ed25519":
        return bytes(key.sign(data, mechanism=Mechanism.EDDSA))
    # Hashed here: CKM_ECDSA signs a digest, and SoftHSM 2.6.1 has no CKM_ECDSA_SHA256.
    signature = bytes(key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA))
    # Either s verifies. The smaller one is always given, so that one signature has one form.
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + min(s, _P256_ORDER - s).to_bytes(32, "big")


def public_key(spki: bytes) -> SigningPublicKey:
    """Raise HsmKeyMismatch when the manifest pins a key of another kind."""
    key = load_der_public_key(spki)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return SigningPublicKey("ed25519", key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return SigningPublicKey("p256", key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    raise HsmKeyMismatch("a signing key is Ed25519 or P-256")


def verifies(spki: bytes, signature: bytes, data: bytes) -> bool:
    """Check our own signature, to know the key by its use; not for signatures of others."""
    key = load_der_public_key(spki)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey):
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA256()))
            return True
    except InvalidSignature:
        return False
    return False
