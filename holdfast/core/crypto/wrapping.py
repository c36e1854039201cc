# SPDX-License-Identifier: Apache-2.0
"""Keys under keys, and committed encryption: what vaults, doors, deposits and stored records are made of.

Implements RFC 3394 (AES-KW), and PROTOCOL section 6's K || C with AES-256-GCM and an HMAC commitment.
Does not parse: the formats that carry these bytes do (`vault`, `doors`, `deposit`, `archive`).
Specification: https://www.rfc-editor.org/rfc/rfc3394 section 2.2, https://www.rfc-editor.org/rfc/rfc5869 section 2.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes

KEY_SIZE: Final = 32  # bytes: AES-256, against Grover's search as well
NONCE_SIZE: Final = 12  # bytes: SP 800-38D section 8.2; other lengths are hashed first and may collide
TAG_SIZE: Final = 16  # bytes: the longest of SP 800-38D section 5.2.1.2; its appendix C warns of shorter ones
COMMIT_SIZE: Final = 32  # bytes: two keys with one commitment take 2^128 work
WRAP_OVERHEAD: Final = 8  # bytes: RFC 3394 section 2.2.3, the integrity check value


def wrap_key(key: SecretBytes, *, kek: SecretBytes) -> bytes:
    """Wrap `key` under `kek` with AES-KW; 8 bytes longer. Deterministic: equal inputs give equal outputs.

    key: 16 bytes or more, in steps of 8. kek: 32 bytes. Raises ValueError on other lengths (the caller's mistake).
    RFC 3394 section 2.2.1; PKCS#11 CKM_AES_KEY_WRAP.
    """
    return aes_key_wrap(_kek(kek), key.reveal())


def unwrap_key(wrapped: bytes, *, kek: SecretBytes) -> SecretBytes:
    """Undo `wrap_key`. Raises UnwrapFailed for every integrity failure and every impossible length, alike."""
    try:
        return SecretBytes(aes_key_unwrap(_kek(kek), wrapped))
    except InvalidUnwrap:
        raise UnwrapFailed("wrapped key does not open") from None


def hkdf(*, salt: bytes, ikm: SecretBytes, info: bytes, length: int) -> SecretBytes:
    """Return `length` bytes of HKDF-SHA256. RFC 5869; lengths above 8,160 are a ValueError."""
    return SecretBytes(HKDF(hashes.SHA256(), length, salt, info).derive(ikm.reveal()))


@dataclass(frozen=True, slots=True)
class CommittedKey:
    """K || C: a key of 32 bytes for exactly one AES-256-GCM context, and what commits to it.

    AES-GCM alone lets one ciphertext open under two keys. The commitment, 32 bytes beside the ciphertext and
    compared before it is opened, makes the key behind it unique.
    """

    key: SecretBytes
    commitment_key: SecretBytes

    @classmethod
    def derive(cls, *, salt: bytes, ikm: SecretBytes, info: bytes) -> CommittedKey:
        """Derive K || C from a uniform `ikm` of 32 bytes or more. PROTOCOL section 6."""
        # K and C from one HKDF call and no key twice: the commitment is public, and must say nothing about K.
        okm = hkdf(salt=salt, ikm=ikm, info=info, length=2 * KEY_SIZE).reveal()
        return cls(SecretBytes(okm[:KEY_SIZE]), SecretBytes(okm[KEY_SIZE:]))

    def commit(self) -> bytes:
        """Return the 32-byte commitment HMAC-SHA256(C, "commit")."""
        return hmac.digest(self.commitment_key.reveal(), b"commit", "sha256")

    def require(self, commit: bytes) -> None:
        """Raise UnwrapFailed unless `commit` is this key's commitment."""
        # Before decryption: GCM alone would open one ciphertext under two keys (FAULTS C9). In constant time, as
        # for every value that a secret key made (FAULTS Z6). One error for wrong key and wrong context: no oracle.
        if not hmac.compare_digest(self.commit(), commit):
            raise UnwrapFailed("wrong key or context")


def encrypt(plaintext: SecretBytes, *, key: SecretBytes, nonce: bytes, aad: bytes) -> bytes:
    """Encrypt with AES-256-GCM; 16 bytes longer. key: 32 bytes. nonce: 12 bytes, never twice under one key."""
    return AESGCM(_kek(key)).encrypt(_nonce(nonce), plaintext.reveal(), aad)


def decrypt(ciphertext: bytes, *, key: SecretBytes, nonce: bytes, aad: bytes) -> SecretBytes:
    """Undo `encrypt`. Raises UnwrapFailed for wrong key, wrong context and tampering, alike."""
    try:
        return SecretBytes(AESGCM(_kek(key)).decrypt(_nonce(nonce), ciphertext, aad))
    except InvalidTag:
        raise UnwrapFailed("ciphertext does not open") from None


def record_context(*, tenant: bytes, user: bytes, object_id: bytes, kind: str, version: int) -> bytes:
    """Return the associated data of a record stored under a record key: all that it must not be moved away from.

    Injective, because it is one dCBOR array: no two contexts share bytes. HSM section 5.
    """
    return label("record", tenant, user, object_id, kind, version)


def _kek(key: SecretBytes) -> bytes:
    # AES would take 16 and 24 bytes as well: a key cut short by a mistake would work and go unseen.
    if len(key) != KEY_SIZE:
        raise ValueError("keys here are 32 bytes")
    return key.reveal()


def _nonce(nonce: bytes) -> bytes:
    # GCM takes other lengths too, and hashes them into one of 12 bytes first (SP 800-38D section 7.1).
    if len(nonce) != NONCE_SIZE:
        raise ValueError("nonces here are 12 bytes")
    return nonce
