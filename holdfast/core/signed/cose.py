# SPDX-License-Identifier: Apache-2.0
"""Signed statements: untagged COSE_Sign1 over the strict CBOR profile, one purpose each.

Implements PROTOCOL section 3 (RFC 9052 section 4.2 and 4.4; alg -8 EdDSA, -7 ES256).
Does not know what payloads mean, and never re-encodes to verify: received bytes are what is checked and kept.
Specification: https://www.rfc-editor.org/rfc/rfc9052 sections 4.2 and 4.4, https://www.rfc-editor.org/rfc/rfc9053
sections 2.1 and 2.2.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, Protocol

from holdfast.core.base.encoding import MAX_STATEMENT, Fields, Value, decode, encode
from holdfast.core.base.errors import InvalidSignature, Malformed
from holdfast.core.crypto.keys import KID_SIZE, SIGNATURE_SIZE, KeyKind, PublicKey, verify


class Purpose(StrEnum):
    """What a statement is for: the whole list of PROTOCOL section 3. One signature never serves two."""

    CHAIN = "chain"
    DEVICE = "device"
    PREKEY = "prekey"
    SYNC = "sync"
    SHARE_MANIFEST = "share-manifest"
    SHARE_REQUEST = "share-request"
    ESCROW_KEY = "escrow-key"
    OFFLINE_KEY = "offline-key"
    POLICY = "policy"
    OFFICER = "officer"
    ROLES = "roles"
    OFFICER_STATE = "officer-state"
    RESOLUTION = "resolution"
    RECEIPT = "receipt"
    DOOR_PROOF = "door-proof"
    CONSENT = "consent"
    DEPOSIT = "deposit"
    CASE = "case"
    APPROVAL = "approval"
    VETO = "veto"
    RESEAL = "reseal"
    RESHARE = "reshare"
    REWRAP = "rewrap"
    ATTESTATION = "attestation"
    CUSTODY = "custody"
    ARCHIVE = "archive"
    EXPORT = "export"
    LOG_HEAD = "log-head"
    TRANSCRIPT = "transcript"


# RFC 9052 section 3.1: header labels. Both stand in the protected bucket, which the signature covers.
_ALG: Final = 1
_KID: Final = 4  # protected too, though RFC 9052 lets it stand outside: nobody relabels a statement
_ALGORITHMS: Final = {KeyKind.ED25519: -8, KeyKind.P256_SIGNING: -7}  # RFC 9053 sections 2.2 and 2.1
# A protected header has one encoding, which ends with the kid: what stands before it is one of these two.
_HEADS: Final = {encode({_ALG: alg, _KID: bytes(KID_SIZE)})[:-KID_SIZE]: alg for alg in _ALGORITHMS.values()}
# The tenant root and sixteen officers sign one statement at most (ESCROW "Policy and officers": n <= 16).
MAX_SIGNERS: Final = 17


def _to_be_signed(protected: bytes, payload: bytes, purpose: Purpose) -> bytes:
    # Sig_structure of RFC 9052 section 4.4. The purpose is external aad: it is never read from the statement, the
    # verifier says which one it expects, so a signature for a consent is none for a policy (FAULTS F12).
    return encode(["Signature1", protected, f"holdfast/v1/{purpose.value}".encode(), payload])


@dataclass(frozen=True)
class Sign1:
    """One COSE_Sign1 as received or as made here. Nothing in it is trusted until verify() has returned."""

    protected: bytes
    payload: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes, *, max_size: int = MAX_STATEMENT) -> "Sign1":
        """Read one statement of at most `max_size` bytes. Raises Malformed."""
        return cls.from_value(decode(data, max_size=max_size))

    @classmethod
    def from_value(cls, value: Value) -> "Sign1":
        """Read one statement that stands inside another structure, already decoded. Raises Malformed."""
        row = Fields.of_row(value, "statement", 4)
        # The unprotected bucket is not signed: whatever stood there, anybody could have written.
        if row.value(1) != {}:
            raise row.refuse(1, "is not the empty map")
        sign1 = cls(protected=row.octets(0), payload=row.octets(2), signature=row.octets(3, SIGNATURE_SIZE))
        # Read now, though it is needed in verify() only: what is kept has been read to its end.
        _ = sign1._header
        return sign1

    @cached_property
    def _header(self) -> tuple[int, bytes]:
        algorithm = _HEADS.get(self.protected[:-KID_SIZE])
        if algorithm is None:
            raise Malformed("protected header: not EdDSA or ES256 and a kid of 16 bytes")
        return algorithm, self.protected[-KID_SIZE:]

    @property
    def alg(self) -> int:
        """The COSE algorithm: -8 EdDSA or -7 ES256."""
        return self._header[0]

    @property
    def kid(self) -> bytes:
        """The 16-byte name of the key that claims to have signed."""
        return self._header[1]

    @cached_property
    def payload_hash(self) -> bytes:
        """SHA-256 of the payload: how one statement names another, whoever signed it and however often."""
        return hashlib.sha256(self.payload).digest()

    @cached_property
    def entry_hash(self) -> bytes:
        """SHA-256(dCBOR([protected, payload])): how a chain names its entries. PROTOCOL section 5.

        The signature stays out: ECDSA is malleable, so its bytes identify nothing.
        """
        return hashlib.sha256(encode([self.protected, self.payload])).digest()

    def value(self) -> list[Value]:
        """Return the four parts, for a structure that carries this statement inside."""
        return [self.protected, {}, self.payload, self.signature]

    def encode(self) -> bytes:
        """Return the bytes of the statement: the received ones, since only one encoding parses."""
        return encode(self.value())

    def verify(self, public: PublicKey, *, purpose: Purpose) -> bytes:
        """Check that `public` signed this payload for this purpose, and return the payload.

        Raises InvalidSignature for another key, algorithm, purpose or any changed bit, without saying which.
        """
        # The key decides the algorithm, never the statement: alg must agree with it, so no signature is checked by the
        # rules of another scheme. The kid is public and compared as such.
        if self.kid != public.kid or self.alg != _ALGORITHMS.get(public.kind):
            raise InvalidSignature("statement is not signed by this key")
        # Over the protected bytes as received: a header encoded again could differ from the one that was signed.
        verify(public, self.signature, _to_be_signed(self.protected, self.payload, purpose))
        return self.payload


class Signer(Protocol):
    """What signs a statement: a `SigningKey`, or a key in an HSM that only gives its public half and signatures."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes: ...


def sign(payload: bytes, *, purpose: Purpose, key: Signer) -> Sign1:
    """Sign `payload` for one purpose. RFC 9052 section 4.4, external_aad = "holdfast/v1/" + purpose."""
    protected = encode({_ALG: _ALGORITHMS[key.public.kind], _KID: key.public.kid})
    return Sign1(protected, payload, key.sign(_to_be_signed(protected, payload, purpose)))


def encode_many(statements: Iterable[Sign1]) -> bytes:
    """Return the array of one payload's statements. Raises ValueError if the payloads differ."""
    statements = list(statements)
    if len({statement.payload for statement in statements}) != 1:
        raise ValueError("several signers sign identical payload bytes")
    return encode([statement.value() for statement in statements])


def parse_many(data: bytes, *, max_size: int = MAX_STATEMENT) -> tuple[Sign1, ...]:
    """Read a statement of 1 to 17 signers, each copy at most `max_size` bytes.

    Raises Malformed for differing payloads, and for one key signing twice: a quorum counts entries.
    """
    value = decode(data, max_size=MAX_SIGNERS * max_size)
    if not isinstance(value, list):
        raise Malformed("statement of several signers: not an array")
    return many_from_value(value, max_size=max_size)


def many_from_value(value: list[Value], *, max_size: int = MAX_STATEMENT) -> tuple[Sign1, ...]:
    """Read a statement of several signers that is already decoded. Raises Malformed as parse_many does."""
    if not 1 <= len(value) <= MAX_SIGNERS:
        raise Malformed("statement of several signers: not 1..17 signatures")
    statements = tuple(Sign1.from_value(item) for item in value)
    # Identical bytes, not equal meaning: each officer has signed just what the others have.
    if len(statements[0].payload) > max_size or len({statement.payload for statement in statements}) != 1:
        raise Malformed("statement of several signers: payload too large, or not one")
    # One officer must not make a quorum by signing twice (FAULTS P2); an ECDSA twin is a second signature for free.
    if len({statement.kid for statement in statements}) != len(statements):
        raise Malformed("statement of several signers: one key signs twice")
    return statements
