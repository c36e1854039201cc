# SPDX-License-Identifier: Apache-2.0
"""Making each kind of key on a token, and using it once before anybody trusts it.

Implements HSM section 3.4 (templates) and its rule: a key counts when it has worked.
Called by a ceremony only; nothing here is committed until a fresh session has checked it again.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11 import exceptions as ck

from hsm import signing
from hsm.attributes import (
    ESCROW_PRIVATE,
    MASTER,
    NO_CAPABILITIES,
    OAEP_PARAMETERS,
    REQUIRED,
    TENANT_KEY_BIRTH,
    TENANT_KEY_CAPABILITIES,
    WRAPPING_CAPABILITIES,
)
from hsm.backend import KCV_BYTES, KEY_BYTES, OaepAlgorithm
from hsm.checks import key_check_value, read_attribute
from hsm.errors import HsmKeyMismatch
from hsm.manifest import KeyRecord
from hsm.rewrap import destroy, recipient_numbers, rewrap

# 128 bits of strength (NIST SP 800-57 part 1, table 2); ESCROW "Keys" takes this size and no other.
_RSA_BITS = 3072


@dataclass(frozen=True)
class Naming:
    """What a new key is called; cka_id: 16 random bytes, for labels can be repeated by mistake."""

    kind: str
    cka_id: bytes
    label: str
    version: int
    tenant: str
    oaep: str


def make_master(session: Any, naming: Naming) -> KeyRecord:
    """AES-256, wraps and unwraps only. Its canary is a tenant key that nobody uses."""
    master = session.generate_key(
        KeyType.AES,
        256,
        id=naming.cka_id,
        label=naming.label,
        store=True,
        capabilities=WRAPPING_CAPABILITIES,
        template=MASTER,
    )
    # Its blob stands in the manifest: at each start the master key has to open it, which a key of
    # the same name and another value cannot.
    canary = session.generate_key(KeyType.AES, 256, capabilities=TENANT_KEY_CAPABILITIES, template=TENANT_KEY_BIRTH)
    try:
        blob = master.wrap_key(canary, mechanism=Mechanism.AES_KEY_WRAP)
        kcv = key_check_value(canary)
    finally:
        destroy(canary)
    return _record(master, naming, "aes-256", kcv=kcv, canary=blob)


def make_escrow(session: Any, naming: Naming) -> KeyRecord:
    """RSA-3072, unwraps only; has re-wrapped a test key from end to end, and refused to show one."""
    public, private = session.generate_keypair(
        KeyType.RSA,
        _RSA_BITS,
        id=naming.cka_id,
        label=naming.label,
        store=True,
        capabilities=WRAPPING_CAPABILITIES,
        private_template=ESCROW_PRIVATE,
    )
    # Read from the new object and encoded by us: modules give an SPKI of their own making, or none.
    numbers = rsa.RSAPublicNumbers(
        int.from_bytes(public[Attribute.PUBLIC_EXPONENT], "big"),
        int.from_bytes(public[Attribute.MODULUS], "big"),
    )
    spki = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm: OaepAlgorithm = "oaep-sha1" if naming.oaep == "oaep-sha1" else "oaep-sha256"
    _prove_rewrap(session, private, numbers.public_key(), algorithm)
    return _record(private, naming, algorithm, kcv=sha256(spki).digest()[:KCV_BYTES], public=spki)


def make_signing(session: Any, naming: Naming) -> KeyRecord:
    """Ed25519 or P-256; its first signature is checked when the fresh session checks the token."""
    private, algorithm, spki = signing.generate(session, cka_id=naming.cka_id, label=naming.label)
    return _record(private, naming, algorithm, kcv=sha256(spki).digest()[:KCV_BYTES], public=spki)


# By kind, as the manifest names them. No kind, no maker: nothing on a token is made by general parameters.
MAKERS: Final[Mapping[str, Callable[[Any, Naming], KeyRecord]]] = {
    "master": make_master,
    "escrow": make_escrow,
    "log": make_signing,
    "tenant-root": make_signing,
}


def _prove_rewrap(session: Any, private: Any, public: rsa.RSAPublicKey, algorithm: OaepAlgorithm) -> None:
    hash_algorithm = SHA1() if algorithm == "oaep-sha1" else SHA256()  # noqa: S303  SoftHSM has no other
    oaep = padding.OAEP(padding.MGF1(hash_algorithm), hash_algorithm, None)
    # A test key of ours: a half of somebody's would be an unwrap that no release accounts for.
    key = secrets.token_bytes(KEY_BYTES)
    sealed = public.encrypt(key, oaep)
    recipient = rsa.generate_private_key(65537, _RSA_BITS)
    spki = recipient.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    again = rewrap(session, private, sealed, recipient_numbers(spki), algorithm)
    if recipient.decrypt(again, oaep) != key:
        raise HsmKeyMismatch("the new escrow key does not re-wrap what is sealed to it")
    # Last: it must be shown on a blob that does open, or a refusal would say nothing.
    _prove_hidden(private, sealed, algorithm)


def _prove_hidden(private: Any, sealed: bytes, algorithm: OaepAlgorithm) -> None:
    """The unwrap template must hold against a caller who asks for a readable object."""
    try:
        readable = private.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            sealed,
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=OAEP_PARAMETERS[algorithm],
            capabilities=NO_CAPABILITIES,
            template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
        )
    except ck.PKCS11Error:
        return
    try:
        # Refusing and overriding are both right, vendors differ. Only a readable object is a failure.
        if not readable[Attribute.SENSITIVE]:
            raise HsmKeyMismatch("the new escrow key unwraps readable objects: the module ignores templates")
    finally:
        destroy(readable)


def _record(
    key: Any, naming: Naming, algorithm: str, *, kcv: bytes, public: bytes = b"", canary: bytes = b""
) -> KeyRecord:
    kind = naming.kind if naming.kind in REQUIRED else "signing"
    return KeyRecord(
        kind=naming.kind,
        id=naming.cka_id.hex(),
        label=naming.label,
        version=naming.version,
        algorithm=algorithm,
        kcv=kcv.hex(),
        tenant=naming.tenant,
        public=public.hex(),
        canary=bytes(canary).hex(),
        # As the token shows them now, and not as they were asked for: a module may have changed or dropped some.
        attributes={name: read_attribute(key, name) for name in sorted(REQUIRED[kind])},
    )
