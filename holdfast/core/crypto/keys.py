# SPDX-License-Identifier: Apache-2.0
"""Public and private keys: their bytes, their names, and the strict rules on which of them are taken.

Implements PROTOCOL sections 2 and 3 (type bytes, kids, fingerprints, strict Ed25519) on `cryptography`.
Does not seal or derive anything: HPKE, HKDF and the handshake are built from these keys elsewhere.
Specification: https://www.rfc-editor.org/rfc/rfc8032 section 5.1.7, https://www.rfc-editor.org/rfc/rfc7748 section 5,
https://www.rfc-editor.org/rfc/rfc6979 section 3.2, FIPS 203 section 7.
"""

import functools
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature as _BadSignature
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import InvalidSignature, Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import eight_words


class KeyKind(IntEnum):
    """The type byte that leads the bytes of every public key. PROTOCOL section 2."""

    ED25519 = 0x01
    X25519 = 0x02
    P256_SIGNING = 0x03
    P256_AGREEMENT = 0x04
    ML_KEM_768 = 0x05
    X_WING = 0x06
    RSA_3072 = 0x08


# A kid only finds a key; which key is right, the signature over the statement decides. So a found collision (2^64 work)
# names two keys of the searcher's own and opens nothing.
KID_SIZE: Final = 16  # bytes of SHA-256
SIGNATURE_SIZE: Final = 64  # bytes: RFC 8032 section 5.1.6 (R || S), RFC 9053 section 2.1 (r || s)
ML_KEM_PUBLIC_SIZE: Final = 1184  # bytes: FIPS 203 section 8, table 3, encapsulation key
ML_KEM_CIPHERTEXT_SIZE: Final = 1088  # bytes: the same table, ciphertext
# A key signs or agrees, never both: one key in two primitives needs a proof of its own that they do not help each other
# (FAULTS F12). Hence P-256 has two type bytes for one curve.
SIGNING_KINDS: Final = frozenset({KeyKind.ED25519, KeyKind.P256_SIGNING})
AGREEMENT_KINDS: Final = frozenset({KeyKind.X25519, KeyKind.P256_AGREEMENT})
OaepHash = Literal["sha1", "sha256"]

_P25519: Final = 2**255 - 19  # RFC 7748 section 4.1: the prime of both curves
# The eight points of small order in their canonical form, and the two "negative zero" forms of y = 1 and -1.
# Under a small-order key, one signature can hold for many messages. github.com/C2SP/CCTV, ed25519/README.
_BLOCKED_ED25519: Final = frozenset(
    bytes.fromhex(start) + last
    for start, last_byte in (
        ("00" * 31, 0x00),
        ("01" + "00" * 30, 0x00),
        ("ec" + "ff" * 30, 0x7F),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc", 0x05),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03", 0x7A),
    )
    for last in (bytes((last_byte,)), bytes((last_byte | 0x80,)))
)
# The five canonical u of small order: every private key gives the all-zero secret with them (RFC 7748, 6.1).
_SMALL_ORDER_X25519: Final = frozenset(
    u.to_bytes(32, "little")
    for u in (
        0,
        1,
        _P25519 - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)


def _parse_ed25519(raw: bytes) -> ed25519.Ed25519PublicKey:
    if len(raw) != 32:
        raise Malformed("Ed25519 key: not 32 bytes")
    # The top bit is the sign of x. y >= p is a second spelling of y - p, which some libraries take and some refuse:
    # a key that only some verifiers take would split a chain in two (FAULTS C2).
    if int.from_bytes(raw, "little") & (2**255 - 1) >= _P25519 or raw in _BLOCKED_ED25519:
        raise Malformed("Ed25519 key: not canonical, or of small order")
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _parse_x25519(raw: bytes) -> x25519.X25519PublicKey:
    if len(raw) != 32:
        raise Malformed("X25519 key: not 32 bytes")
    # RFC 7748 section 5 says to mask the top bit and to take u >= p. Here each key has one spelling: it is hashed
    # into transcripts, and two spellings of one key would give one secret under two transcripts.
    if int.from_bytes(raw, "little") >= _P25519 or raw in _SMALL_ORDER_X25519:
        raise Malformed("X25519 key: not canonical, or of small order")
    return x25519.X25519PublicKey.from_public_bytes(raw)


def _parse_p256(raw: bytes) -> ec.EllipticCurvePublicKey:
    # The length rules out the compressed forms and the point at infinity; the library checks the curve.
    if len(raw) != 65 or raw[0] != 0x04:
        raise Malformed("P-256 key: not an uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError:
        raise Malformed("P-256 key: not a point of the curve") from None


def _parse_ml_kem(raw: bytes) -> mlkem.MLKEM768PublicKey:
    try:
        # The library refuses another length and any coefficient not below q. FIPS 203 section 7.2.
        return mlkem.MLKEM768PublicKey.from_public_bytes(raw)
    except ValueError:
        raise Malformed("ML-KEM-768 key: wrong length or a coefficient above the modulus") from None


def _parse_x_wing(raw: bytes) -> hpke.MLKEM768X25519PublicKey:
    # X-Wing draft section 5.2: the ML-KEM key, then the X25519 key. A wrong total length shows in the second.
    kem, agreement = raw[:ML_KEM_PUBLIC_SIZE], raw[ML_KEM_PUBLIC_SIZE:]
    return hpke.MLKEM768X25519PublicKey(_parse_ml_kem(kem), _parse_x25519(agreement))


def _parse_rsa(raw: bytes) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_der_public_key(raw)
    except Exception:  # noqa: BLE001 - the library names several errors for hostile DER, all mean the same here
        raise Malformed("RSA key: not a DER SubjectPublicKeyInfo") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != 3072:
        raise Malformed("RSA key: not RSA of exactly 3072 bits")
    numbers = key.public_numbers()
    # One exponent and one DER spelling: the key is named by the hash of its bytes. An even modulus is no RSA key, and
    # the library's own encoding of what it read shows every liberty taken.
    if numbers.e != 65537 or numbers.n % 2 == 0 or _spki(key) != raw:
        raise Malformed("RSA key: exponent, modulus or encoding not canonical")
    return key


def _spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# A kind without a parser could not be made at all: there is no way around the checks above.
_PARSERS: Final = {
    KeyKind.ED25519: _parse_ed25519,
    KeyKind.X25519: _parse_x25519,
    KeyKind.P256_SIGNING: _parse_p256,
    KeyKind.P256_AGREEMENT: _parse_p256,
    KeyKind.ML_KEM_768: _parse_ml_kem,
    KeyKind.X_WING: _parse_x_wing,
    KeyKind.RSA_3072: _parse_rsa,
}


# By the byte itself: calling the enum and catching its ValueError, for every key of every statement, is slower.
_KINDS: Final = {bytes((kind,)): kind for kind in KeyKind}


@dataclass(frozen=True)
class PublicKey:
    """A public key that has been checked: one that exists is canonical and safe to use.

    raw: the bytes without the type byte (sizes in PROTOCOL section 2). Raises Malformed for any other.
    """

    kind: KeyKind
    raw: bytes

    def __post_init__(self) -> None:
        # Parsed once, at the door, and kept: verification then costs the signature check alone.
        object.__setattr__(self, "_parsed", _PARSERS[self.kind](self.raw))

    @classmethod
    def _of_parsed(cls, kind: KeyKind, raw: bytes, encoded: bytes, parsed: object) -> "PublicKey":
        """Make a key of what a parser has just checked, or the library derived from a private key held here."""
        made = object.__new__(cls)
        fields = made.__dict__
        fields["kind"], fields["raw"], fields["encoded"], fields["_parsed"] = kind, raw, encoded, parsed
        return made

    @property
    def parsed(self) -> Any:
        """The key object of `cryptography`, for the primitives that take one."""
        return self._parsed  # type: ignore[attr-defined]

    @functools.cached_property
    def encoded(self) -> bytes:
        """The type byte and the raw bytes: the form in every statement and every hash."""
        return bytes((self.kind,)) + self.raw

    @functools.cached_property
    def kid(self) -> bytes:
        """The first 16 bytes of SHA-256 over `encoded`: a name, never an authentication."""
        return hashlib.sha256(self.encoded).digest()[:KID_SIZE]

    def fingerprint(self, kind_label: str) -> tuple[str, ...]:
        """Return 8 BIP-39 English words (88 bits) for people to compare. PROTOCOL section 2."""
        return eight_words(hashlib.sha256(label("fp", kind_label, self.encoded)).digest())

    def __repr__(self) -> str:
        return f"<PublicKey {self.kind.name} {self.kid.hex()}>"


def decode_public_key(data: bytes, *, expect: KeyKind | frozenset[KeyKind] | None) -> PublicKey:
    """Read type byte and key, and check everything that makes the key safe to use.

    Raises Malformed for an unknown type byte, a kind other than `expect`, and every key that
    PROTOCOL section 3 refuses: non-canonical, small order, off the curve, above the modulus, RSA other than 3072 bits
    with e = 65537.
    """
    kind = _KINDS.get(data[:1])
    if kind is None:
        raise Malformed("key: unknown type byte")
    # The field decides the kind, not the sender: else a P-256 signing key could be passed off as an agreement key.
    if expect is not None and kind not in (expect if isinstance(expect, frozenset) else (expect,)):
        raise Malformed(f"key: {kind.name} is not the kind expected here")
    return _decoded(data)


# Every version of a policy names the same officers: parsed anew each time, their X-Wing keys cost more than the
# signatures. 256 keys are sixteen full rosters, and at most 2 MB.
@functools.lru_cache(maxsize=256)
def _decoded(data: bytes) -> PublicKey:
    kind, raw = _KINDS[data[:1]], data[1:]
    return PublicKey._of_parsed(kind, raw, data, _PARSERS[kind](raw))


def verify(public: PublicKey, signature: bytes, data: bytes) -> None:
    """Check a 64-byte signature of `public` (Ed25519, or P-256 with SHA-256 as raw r‖s) over `data`.

    Raises InvalidSignature when it does not hold, and ValueError for a key that does not sign (a caller's
    mistake). The library refuses S >= L and compares R as bytes, without the cofactor. PROTOCOL section 3.
    """
    if public.kind not in SIGNING_KINDS:
        raise ValueError(f"{public.kind.name} keys do not sign")
    if len(signature) != SIGNATURE_SIZE:
        raise InvalidSignature("signature is not 64 bytes")
    try:
        if public.kind is KeyKind.ED25519:
            public.parsed.verify(signature, data)
        else:
            # Both s and n - s hold. A low-s rule would refuse honest HSMs, so signatures are never identifiers instead
            # (PROTOCOL section 3).
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            public.parsed.verify(encode_dss_signature(r, s), data, _ECDSA)
    except _BadSignature:
        raise InvalidSignature("signature does not hold") from None


# RFC 9053 section 2.1: ES256 on P-256. Made once, here and below: these objects hold no state.
_ECDSA: Final = ec.ECDSA(hashes.SHA256())
# Deterministic nonces (RFC 6979): a cloned or badly seeded machine leaks no key through two signatures.
_ECDSA_SIGN: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_P256: Final = ec.SECP256R1()  # SP 800-186's P-256 by its name in SEC 2
_ECDH: Final = ec.ECDH()
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SP 800-186 section 3.2.1


def _p256_private(seed: bytes) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(seed, "big")
    if len(seed) != 32 or not 0 < scalar < _P256_ORDER:
        raise Malformed("P-256 private key: not a scalar below the order")
    return ec.derive_private_key(scalar, _P256)


def _p256_scalar() -> bytes:
    # Uniform in 1..n-1 by rejection (FIPS 186-5 appendix A.2.2): a reduced number would be biased.
    return (1 + secrets.randbelow(_P256_ORDER - 1)).to_bytes(32, "big")


def _p256_public(kind: KeyKind, key: ec.EllipticCurvePublicKey) -> PublicKey:
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return PublicKey._of_parsed(kind, point, bytes((kind,)) + point, key)


def _raw_public(
    kind: KeyKind, key: ed25519.Ed25519PublicKey | x25519.X25519PublicKey | mlkem.MLKEM768PublicKey
) -> PublicKey:
    raw = key.public_bytes_raw()
    return PublicKey._of_parsed(kind, raw, bytes((kind,)) + raw, key)


def _seed_of(seed: SecretBytes, size: int) -> bytes:
    if len(seed) != size:
        raise Malformed(f"private key: not {size} bytes")
    return seed.reveal()


class SigningKey:
    """An Ed25519 or P-256 signing key, kept as its 32-byte seed or scalar."""

    __slots__ = ("_private", "_seed", "public")

    def __init__(self, kind: KeyKind, seed: SecretBytes) -> None:
        raw = _seed_of(seed, 32)
        self._seed = seed
        self._private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
        if kind is KeyKind.ED25519:
            self._private = ed25519.Ed25519PrivateKey.from_private_bytes(raw)
            self.public = _raw_public(kind, self._private.public_key())
        elif kind is KeyKind.P256_SIGNING:
            self._private = _p256_private(raw)
            self.public = _p256_public(kind, self._private.public_key())
        else:
            raise ValueError(f"{kind.name} keys do not sign")

    @classmethod
    def generate(cls, kind: KeyKind = KeyKind.ED25519) -> "SigningKey":
        """Make a fresh key from the system's randomness."""
        seed = _p256_scalar() if kind is KeyKind.P256_SIGNING else secrets.token_bytes(32)
        return cls(kind, SecretBytes(seed))

    @classmethod
    def from_seed(cls, kind: KeyKind, seed: SecretBytes) -> "SigningKey":
        """Restore a key from its 32 bytes; raises Malformed for another size or a scalar out of range."""
        return cls(kind, seed)

    @classmethod
    def from_uniform(cls, kind: KeyKind, octets: SecretBytes) -> "SigningKey":
        """Derive a key from 48 uniform bytes: their first 32 as an Ed25519 seed, or all of them as a P-256 scalar.

        Raises ValueError for another size (the caller's mistake). FIPS 186-5 appendix A.2.1: with 128 bits more
        than the order has, the scalar's bias cannot be seen.
        """
        raw = octets.reveal()
        if len(raw) != 48:
            raise ValueError("a signing key is derived from 48 bytes")
        if kind is KeyKind.P256_SIGNING:
            raw = (int.from_bytes(raw, "big") % (_P256_ORDER - 1) + 1).to_bytes(32, "big")
        return cls(kind, SecretBytes(raw[:32]))

    def sign(self, data: bytes) -> bytes:
        """Return a 64-byte signature: Ed25519 (RFC 8032), or ECDSA with SHA-256 as raw r‖s (RFC 6979)."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            return self._private.sign(data)
        r, s = decode_dss_signature(self._private.sign(data, _ECDSA_SIGN))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def seed(self) -> SecretBytes:
        """Return the 32 bytes from which from_seed() restores this key."""
        return self._seed


class AgreementKey:
    """An X25519 or P-256 Diffie-Hellman key, kept as its 32-byte scalar."""

    __slots__ = ("_exchange", "_seed", "public")

    def __init__(self, kind: KeyKind, seed: SecretBytes) -> None:
        raw = _seed_of(seed, 32)
        self._seed = seed
        # The library's own call, chosen here once: a handshake makes five of them.
        self._exchange: Callable[[Any], bytes]
        if kind is KeyKind.X25519:
            private = x25519.X25519PrivateKey.from_private_bytes(raw)
            self._exchange = private.exchange
            self.public = _raw_public(kind, private.public_key())
        elif kind is KeyKind.P256_AGREEMENT:
            self._take_p256(_p256_private(raw))
        else:
            raise ValueError(f"{kind.name} keys do not agree on secrets")

    def _take_p256(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._exchange = functools.partial(private.exchange, _ECDH)
        self.public = _p256_public(KeyKind.P256_AGREEMENT, private.public_key())

    @classmethod
    def generate(cls, kind: KeyKind = KeyKind.X25519) -> "AgreementKey":
        """Make a fresh key from the system's randomness."""
        if kind is not KeyKind.P256_AGREEMENT:
            return cls(kind, SecretBytes(secrets.token_bytes(32)))
        # The library's own generation and the scalar read from it cost half of deriving a key from a scalar.
        own, private = object.__new__(cls), ec.generate_private_key(_P256)
        own._seed = SecretBytes(private.private_numbers().private_value.to_bytes(32, "big"))
        own._take_p256(private)
        return own

    @classmethod
    def from_seed(cls, kind: KeyKind, seed: SecretBytes) -> "AgreementKey":
        """Restore a key from its 32 bytes; raises Malformed for another size or a scalar out of range."""
        return cls(kind, seed)

    def exchange(self, peer: PublicKey) -> SecretBytes:
        """Return the 32-byte shared secret (for P-256 the x coordinate; FIPS SP 800-56A section 5.7.1.2).

        Raises Malformed for a peer of another kind and for an all-zero secret, a hostile peer's doing.
        """
        if peer.kind is not self.public.kind:
            raise Malformed("key agreement: the two keys are of different kinds")
        try:
            return SecretBytes(self._exchange(peer.parsed))
        except ValueError:
            # Of X25519 alone, and decoding refuses small orders already: this holds for a key that came another way. On
            # P-256 no zero can come: the group has prime order, and the point was checked when it was read.
            raise Malformed("key agreement: all-zero secret") from None

    def seed(self) -> SecretBytes:
        """Return the 32 bytes from which from_seed() restores this key."""
        return self._seed


class KemKey:
    """An ML-KEM-768 decapsulation key, kept as its 64-byte seed d‖z. FIPS 203."""

    __slots__ = ("_private", "_seed", "public")

    def __init__(self, seed: SecretBytes) -> None:
        self._private = mlkem.MLKEM768PrivateKey.from_seed_bytes(_seed_of(seed, 64))
        self._seed = seed
        self.public = _raw_public(KeyKind.ML_KEM_768, self._private.public_key())

    @classmethod
    def generate(cls) -> "KemKey":
        """Make a fresh key from the system's randomness."""
        return cls(SecretBytes(secrets.token_bytes(64)))

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "KemKey":
        """Restore a key from its 64 bytes; raises Malformed for another size."""
        return cls(seed)

    def decapsulate(self, ciphertext: bytes) -> SecretBytes:
        """Return the 32-byte secret; a tampered ciphertext gives an unrelated one (implicit rejection).

        Raises Malformed unless `ciphertext` has 1,088 bytes. FIPS 203 section 7.3.
        """
        # FIPS 203 section 7.3, ciphertext type check. Its checks of the key fall away: it was made here, of a seed.
        if len(ciphertext) != ML_KEM_CIPHERTEXT_SIZE:
            raise Malformed("ML-KEM-768 ciphertext: not 1,088 bytes")
        return SecretBytes(self._private.decapsulate(ciphertext))

    def seed(self) -> SecretBytes:
        """Return the 64 bytes from which from_seed() restores this key."""
        return self._seed


def encapsulate(public: PublicKey) -> tuple[bytes, SecretBytes]:
    """Return (ciphertext of 1,088 bytes, secret of 32 bytes) for an ML-KEM-768 key. FIPS 203 section 7.2."""
    if public.kind is not KeyKind.ML_KEM_768:
        raise ValueError(f"{public.kind.name} keys do not encapsulate")
    secret, ciphertext = public.parsed.encapsulate()
    return ciphertext, SecretBytes(secret)


class SealingKey:
    """An X-Wing key to which others seal with HPKE, kept as a 32-byte seed. draft-connolly-cfrg-xwing-kem."""

    __slots__ = ("_seed", "parsed", "public")

    def __init__(self, seed: SecretBytes) -> None:
        # X-Wing draft section 5.2, expandDecapsulationKey: d‖z of ML-KEM, then the X25519 scalar.
        expanded = hashlib.shake_256(_seed_of(seed, 32)).digest(96)
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        agreement = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self._seed = seed
        self.parsed = hpke.MLKEM768X25519PrivateKey(kem, agreement)
        self.public = PublicKey(
            KeyKind.X_WING, kem.public_key().public_bytes_raw() + agreement.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> "SealingKey":
        """Make a fresh key from the system's randomness."""
        return cls(SecretBytes(secrets.token_bytes(32)))

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "SealingKey":
        """Restore a key from its 32 bytes; raises Malformed for another size."""
        return cls(seed)

    def seed(self) -> SecretBytes:
        """Return the 32 bytes from which from_seed() restores this key."""
        return self._seed


# SHA-1 is there because SoftHSM does no other OAEP. OAEP does not rest on collisions, yet no production key takes it.
_OAEP_HASHES: Final = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}


def _oaep(hash_name: OaepHash, label: bytes) -> padding.OAEP:
    algorithm = _OAEP_HASHES[hash_name]
    # MGF1 has the same hash: PKCS#11 names it apart, and modules that differ between the two open nothing.
    return padding.OAEP(mgf=padding.MGF1(algorithm()), algorithm=algorithm(), label=label or None)


def wrap_rsa(public: PublicKey, secret: SecretBytes, *, hash_name: OaepHash, label: bytes = b"") -> bytes:
    """Wrap a 32-byte `secret` to an RSA-3072 key with OAEP; returns 384 bytes. RFC 8017 section 7.1.

    label: RFC 8017's L, empty for none; what was wrapped under one opens under no other.
    sha1 is for development tenants on SoftHSM only; who may use it is the caller's rule (ESCROW "Keys").
    """
    if public.kind is not KeyKind.RSA_3072:
        raise ValueError(f"{public.kind.name} keys do not wrap")
    wrapped: bytes = public.parsed.encrypt(secret.reveal(), _oaep(hash_name, label))
    return wrapped


class RecipientRsaKey:
    """The fresh RSA-3072 key of one case's recipient, to which the HSM re-wraps its half. ESCROW "Case"."""

    __slots__ = ("_private", "public")

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        self._private = private
        # Checked like anybody's: a key that our own rules refuse would make a case that nobody can release.
        self.public = PublicKey(KeyKind.RSA_3072, _spki(private.public_key()))

    @classmethod
    def generate(cls) -> "RecipientRsaKey":
        """Make a fresh key (takes up to a second)."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=3072))

    @classmethod
    def from_pkcs8(cls, der: SecretBytes) -> "RecipientRsaKey":
        """Restore a key from its unencrypted PKCS#8 DER; raises Malformed for anything else."""
        try:
            private = serialization.load_der_private_key(der.reveal(), password=None)
        except Exception:  # noqa: BLE001 - as for public DER
            raise Malformed("RSA private key: not PKCS#8") from None
        if not isinstance(private, rsa.RSAPrivateKey):
            raise Malformed("RSA private key: another algorithm")
        return cls(private)

    def pkcs8(self) -> SecretBytes:
        """Return the key as unencrypted PKCS#8 DER, for the device's own encrypted store."""
        return SecretBytes(
            self._private.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def unwrap(self, wrapped: bytes, *, hash_name: OaepHash, label: bytes = b"") -> SecretBytes:
        """Undo wrap_rsa, or the HSM's own. Raises UnwrapFailed for every failure, without saying which."""
        try:
            return SecretBytes(self._private.decrypt(wrapped, _oaep(hash_name, label)))
        except ValueError:
            raise UnwrapFailed("the half does not open") from None
