# SPDX-License-Identifier: Apache-2.0
"""Making each kind of key on a token, and using it once before anybody trusts it.

Implements HSM section 3.4 (templates) and its rule: a key counts when it has worked.
Called by a ceremony only; nothing here is committed until a fresh session has checked it again.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11 import exceptions as ck

from hsm import signing
from hsm.attributes import (
    BINDING,
    ESCROW_PRIVATE,
    ESCROWED,
    MASTER,
    NO_CAPABILITIES,
    REQUIRED,
    SIGNING_CAPABILITIES,
    TENANT_KEY_BIRTH,
    TENANT_KEY_CAPABILITIES,
    WRAPPING_CAPABILITIES,
    oaep_parameters,
)
from hsm.backend import KCV_BYTES, KEY_BYTES, OaepAlgorithm
from hsm.checks import binding_canary, key_check_value, read_attribute, require_hidden
from hsm.errors import HsmKeyMismatch
from hsm.manifest import KeyRecord
from hsm.pkcs11 import AMBIGUOUS, REFUSED
from hsm.rewrap import destroy, recipient_numbers, rewrap

# What a module says of a label that it does not take.
_NO_LABEL: Final = (ck.ArgumentsBad, ck.MechanismParamInvalid, ck.MechanismInvalid)

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


def make_binding(session: Any, naming: Naming) -> KeyRecord:
    """A secret of 256 bits that makes and checks HMAC-SHA256, and does nothing else."""
    key = session.generate_key(
        KeyType.GENERIC_SECRET,
        KEY_BYTES * 8,
        id=naming.cka_id,
        label=naming.label,
        store=True,
        capabilities=SIGNING_CAPABILITIES,
        template=BINDING,
    )
    canary = binding_canary(key)
    return _record(key, naming, "hmac-sha256", kcv=canary[:KCV_BYTES], canary=canary)


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
    trial = _Trial(session, private, numbers.public_key(), algorithm, rsa.generate_private_key(65537, _RSA_BITS))
    trial.prove()
    if trial.takes_label():
        algorithm = cast(OaepAlgorithm, f"{algorithm}-ctx")
    return _record(private, naming, algorithm, kcv=sha256(spki).digest()[:KCV_BYTES], public=spki)


def make_signing(session: Any, naming: Naming) -> KeyRecord:
    """Ed25519 or P-256; its first signature is checked when the fresh session checks the token."""
    private, algorithm, spki = signing.generate(session, cka_id=naming.cka_id, label=naming.label)
    return _record(private, naming, algorithm, kcv=sha256(spki).digest()[:KCV_BYTES], public=spki)


# By kind, as the manifest names them. No kind, no maker: nothing on a token is made by general parameters.
MAKERS: Final[Mapping[str, Callable[[Any, Naming], KeyRecord]]] = {
    "master": make_master,
    "binding": make_binding,
    "escrow": make_escrow,
    "log": make_signing,
    "tenant-root": make_signing,
}


@dataclass(frozen=True)
class _Trial:
    """A new escrow key re-wraps test keys of ours: a half of somebody's would be an unwrap no release accounts for."""

    session: Any
    private: Any
    public: rsa.RSAPublicKey
    algorithm: OaepAlgorithm
    recipient: rsa.RSAPrivateKey

    def prove(self) -> None:
        """Raise HsmKeyMismatch unless it re-wraps what is sealed to it, and shows it to nobody."""
        key = secrets.token_bytes(KEY_BYTES)
        sealed = self.public.encrypt(key, _oaep(self.algorithm))
        if self._rewrapped(sealed) != key:
            raise HsmKeyMismatch("the new escrow key does not re-wrap what is sealed to it")
        # Last: it must be shown on a blob that does open, or a refusal would say nothing.
        require_hidden(
            self.private,
            sealed,
            ESCROWED,
            "the new escrow key",
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=oaep_parameters(self.algorithm),
            capabilities=NO_CAPABILITIES,
        )

    def takes_label(self) -> bool:
        """Tell whether the module opens what is sealed under a label, with that label and with no other.

        Tried and not asked about: no flag says it. SoftHSM refuses every label.
        """
        key, label, other = (secrets.token_bytes(KEY_BYTES) for _ in range(3))
        sealed = self.public.encrypt(key, _oaep(self.algorithm, label))
        try:
            is_opened = self._rewrapped(sealed, label) == key
        # Only what is said of the label: a module that is away or breaks says nothing about it.
        except (*_NO_LABEL, *REFUSED):
            return False
        try:
            self._rewrapped(sealed, other)
        except (*_NO_LABEL, *REFUSED, *AMBIGUOUS):
            return is_opened
        return False

    def _rewrapped(self, sealed: bytes, label: bytes = b"") -> bytes:
        spki = self.recipient.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        numbers = recipient_numbers(spki)
        again = rewrap(self.session, self.private, sealed, numbers, self.algorithm, label=label)
        return self.recipient.decrypt(again, _oaep(self.algorithm))


def _oaep(algorithm: OaepAlgorithm, label: bytes | None = None) -> padding.OAEP:
    hash_algorithm = SHA1() if algorithm == "oaep-sha1" else SHA256()  # noqa: S303  SoftHSM has no other
    return padding.OAEP(padding.MGF1(hash_algorithm), hash_algorithm, label)


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
