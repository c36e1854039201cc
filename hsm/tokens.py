# SPDX-License-Identifier: Apache-2.0
"""The PKCS#11 backend: RootToken, LogToken and EscrowToken of hsm.backend on one pool.

Implements HSM sections 3.1 (blind re-wrap, suite R1), 3.4 (templates) and 5 (tenant keys).
Creates no key on a token: that is hsm.ceremony.
"""

import hashlib
import logging
import os
from dataclasses import replace
from typing import Any
from uuid import UUID

from pkcs11 import Attribute, GCMParams, KeyType, Mechanism

from holdfast.core.base.secret import SecretBytes
from hsm import signing
from hsm.attributes import TENANT_KEY_BIRTH, TENANT_KEY_CAPABILITIES
from hsm.backend import (
    CTX_BYTES,
    KEY_BYTES,
    SEALED_BYTES,
    WRAPPED_RECORD_KEY_BYTES,
    Capabilities,
    EscrowKeyRef,
    OaepAlgorithm,
    RecordKey,
    SigningPublicKey,
    TenantKey,
    WrappedTenantKey,
)
from hsm.checks import key_check_value, unwrap_tenant_key
from hsm.errors import HsmError, HsmKeyMismatch, HsmKeyMissing, HsmRefused, HsmUnavailable
from hsm.manifest import KeyRecord
from hsm.pool import HsmPool, TokenSession
from hsm.rewrap import destroy, recipient_numbers, rewrap

log = logging.getLogger(__name__)

_NONCE_BYTES = 12  # the 96 bits for which GCM is made: SP 800-38D section 8.2.2, drawn at random
_TAG_BITS = 128  # the full tag; python-pkcs11 would also take 0 (HSM section 8, quirk 13)


def _capabilities(pool: HsmPool, signature: SigningPublicKey | None = None) -> Capabilities:
    oaep: OaepAlgorithm = "oaep-sha1" if pool.manifest.oaep == "oaep-sha1" else "oaep-sha256"
    return Capabilities(blind_rewrap=True, oaep=oaep, signature=None if signature is None else signature.algorithm)


# Whoever asks whether the HSM is there, as a load balancer does, must not be kept by one that is not.
_LOOK_SECONDS = 0.5


class Pkcs11RootToken:
    """RootToken."""

    def __init__(self, pool: HsmPool) -> None:
        self._pool = pool

    @property
    def capabilities(self) -> Capabilities:
        return _capabilities(self._pool)

    @property
    def master_version(self) -> int:
        return self._masters()[-1].version

    @property
    def binds(self) -> bool:
        return bool(self._pool.manifest.token("root").find("binding"))

    def answers(self) -> bool:
        try:
            return self._pool.run("root", lambda session: session.alive(), deadline_seconds=_LOOK_SECONDS)
        except HsmError:
            return False

    def generate_tenant_key(self, *, tenant_id: UUID, version: int) -> WrappedTenantKey:
        # The newest wraps; older ones stay for what they have wrapped.
        master, binding = self._masters()[-1], self._binding()

        def generate(session: TokenSession) -> WrappedTenantKey:
            key = session.pkcs11.generate_key(
                KeyType.AES, 256, capabilities=TENANT_KEY_CAPABILITIES, template=TENANT_KEY_BIRTH
            )
            try:
                blob = session.key(master).wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP)
                # Of the key before it was wrapped: what is loaded later is held to what was born.
                born = WrappedTenantKey(tenant_id, version, blob, key_check_value(key), master.version)
            finally:
                destroy(key)
            return _bind(session.key(binding), born)

        return self._pool.run("root", generate)

    def load_tenant_key(self, wrapped: WrappedTenantKey) -> TenantKey:
        binding = self._binding()

        def is_bound(session: TokenSession) -> bool:
            key = session.key(binding)
            return bool(key.verify(wrapped.bound(), wrapped.mac, mechanism=Mechanism.SHA256_HMAC))

        # Before it is unwrapped. Whoever writes the database could otherwise have one tenant's records sealed under
        # another's key, or under one of its own that was replaced (FAULTS C4).
        if not wrapped.mac or not self._pool.run("root", is_bound):
            raise HsmKeyMismatch(f"the tenant key of version {wrapped.version} is not bound to {wrapped.tenant_id}")
        return self._load(wrapped)

    def bind_tenant_key(self, wrapped: WrappedTenantKey) -> WrappedTenantKey:
        # It has to open, and to be the key that its check value names: what is bound is believed from then on.
        self._load(wrapped)
        binding = self._binding()
        return self._pool.run("root", lambda session: _bind(session.key(binding), wrapped))

    def _load(self, wrapped: WrappedTenantKey) -> TenantKey:
        for master in self._masters():
            if master.version == wrapped.master_version:
                key = Pkcs11TenantKey(self._pool, master, wrapped)
                key.check()
                return key
        raise HsmKeyMissing(f"no master key of version {wrapped.master_version} on the token")

    def _binding(self) -> KeyRecord:
        bindings = self._pool.manifest.token("root").find("binding")
        if not bindings:
            raise HsmKeyMissing("no ceremony has made a binding key: manage.py ceremony tenant-keys")
        return bindings[-1]

    def _masters(self) -> list[KeyRecord]:
        masters = self._pool.manifest.token("root").find("master")
        if not masters:
            raise HsmKeyMissing("no ceremony has made a master key")
        return masters


def _bind(binding: Any, wrapped: WrappedTenantKey) -> WrappedTenantKey:
    return replace(wrapped, mac=bytes(binding.sign(wrapped.bound(), mechanism=Mechanism.SHA256_HMAC)))


class Pkcs11TenantKey:
    """TenantKey: a session object in each of the pool's threads, unwrapped again when sessions are lost."""

    def __init__(self, pool: HsmPool, master: KeyRecord, wrapped: WrappedTenantKey) -> None:
        self._pool, self._master, self._wrapped = pool, master, wrapped
        # Names the object in a thread's cache by all that decides what it is.
        self._name = wrapped.blob + wrapped.kcv + wrapped.master_version.to_bytes(4, "big")

    def check(self) -> None:
        """Unwrap and compare the KCV. Raises HsmRefused, HsmKeyMismatch, HsmUnavailable."""
        # At loading and not at first use: a wrong blob is then refused where somebody can say which tenant's it is.
        self._pool.run("root", self._key, opens=True)

    def new_record_key(self, *, aad: bytes) -> RecordKey:
        # Drawn here and not in the HSM: the record is encrypted in this process, which has to have the key anyway.
        key = SecretBytes(os.urandom(KEY_BYTES))
        return RecordKey(key, self.wrap_record_key(key, aad=aad))

    def wrap_record_key(self, key: SecretBytes, *, aad: bytes) -> bytes:
        if len(key) != KEY_BYTES:
            raise ValueError("a record key has 32 bytes")

        def encrypt(session: TokenSession) -> bytes:
            # Drawn in the operation: a repeated one must not reuse it. os.urandom does not repeat after fork.
            nonce = os.urandom(_NONCE_BYTES)
            return nonce + bytes(
                self._key(session).encrypt(key.reveal(), mechanism=Mechanism.AES_GCM, mechanism_param=_gcm(nonce, aad))
            )

        wrapped = self._pool.run("root", encrypt)
        # Some modules choose the nonce or the tag's length themselves. What comes out
        # longer or shorter must not be stored.
        if len(wrapped) != WRAPPED_RECORD_KEY_BYTES:
            raise HsmUnavailable("the HSM encrypted without a full tag")
        return wrapped

    def unwrap_record_key(self, wrapped: bytes, *, aad: bytes) -> SecretBytes:
        # Before the HSM is asked: a short nonce or tag would be taken by some modules. The same
        # words as for a blob that does not open.
        if len(wrapped) != WRAPPED_RECORD_KEY_BYTES:
            raise HsmRefused("the HSM does not open this")
        nonce, ciphertext = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]

        def decrypt(session: TokenSession) -> SecretBytes:
            return SecretBytes(
                bytes(
                    self._key(session).decrypt(
                        ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=_gcm(nonce, aad)
                    )
                )
            )

        return self._pool.run("root", decrypt, opens=True)

    def _key(self, session: TokenSession) -> Any:
        # For each thread again: a session object belongs to the session that made it.
        return session.remembered(self._name, lambda: self._unwrap(session))

    def _unwrap(self, session: TokenSession) -> Any:
        key = unwrap_tenant_key(session.key(self._master), self._wrapped.blob)
        # AES-KW says that the blob is whole, not whose it is: another tenant's row opens just as well (FAULTS C4).
        if key_check_value(key) != self._wrapped.kcv:
            destroy(key)
            raise HsmKeyMismatch("the tenant key is not the one that its check value names")
        return key


def _gcm(nonce: bytes, aad: bytes) -> GCMParams:
    return GCMParams(nonce=nonce, aad=aad, tag_bits=_TAG_BITS)


class Pkcs11LogToken:
    """LogToken."""

    def __init__(self, pool: HsmPool) -> None:
        self._pool = pool

    @property
    def public_key(self) -> SigningPublicKey:
        return signing.public_key(bytes.fromhex(self._record().public))

    def sign(self, data: bytes) -> bytes:
        record = self._record()
        return self._pool.run("log", lambda session: signing.sign(session.key(record), record.algorithm, data))

    def _record(self) -> KeyRecord:
        keys = self._pool.manifest.token("log").find("log")
        if not keys:
            raise HsmKeyMissing("no ceremony has made a log key")
        return keys[-1]


class Pkcs11EscrowToken:
    """EscrowToken."""

    def __init__(self, pool: HsmPool, *, deadline_seconds: float) -> None:
        self._pool, self._deadline_seconds = pool, deadline_seconds

    @property
    def capabilities(self) -> Capabilities:
        return _capabilities(self._pool)

    def require(self, key_ref: EscrowKeyRef) -> None:
        record = self._record(key_ref)

        def look(session: TokenSession) -> None:
            # Of the token, and not of the handle that is kept: only a session that lives can answer.
            if session.key(record)[Attribute.ID].hex() != record.id:
                raise HsmKeyMissing(f"the escrow key {record.label} is not to be seen")

        self._pool.run("escrow", look)

    def rewrap(self, key_ref: EscrowKeyRef, sealed: bytes, recipient_spki: bytes, *, ctx: bytes = b"") -> bytes:
        label = ctx if key_ref.algorithm.endswith("-ctx") else b""
        if len(label) not in {0, CTX_BYTES} or (not label and key_ref.algorithm.endswith("-ctx")):
            raise ValueError("a label is the 32 bytes of a ctx")
        # Refused without a call, in the same words as a blob that does not open: nothing is learnt by trying.
        if len(sealed) != SEALED_BYTES:
            raise HsmRefused("the HSM does not open this")
        recipient = recipient_numbers(recipient_spki)
        record = self._record(key_ref)

        def run(session: TokenSession) -> bytes:
            key = session.key(record)
            return rewrap(session.pkcs11, key, sealed, recipient, key_ref.algorithm, label=label)

        # `once`: whether the unwrap happened cannot be known afterwards, and releases are counted.
        return self._pool.run("escrow", run, opens=True, once=True, deadline_seconds=self._deadline_seconds)

    def _record(self, key_ref: EscrowKeyRef) -> KeyRecord:
        try:
            record = self._pool.manifest.token("escrow").by_id(key_ref.cka_id)
        except HsmKeyMissing:
            # A ceremony may have made it since this process started.
            if not self._pool.refresh():
                raise
            record = self._pool.manifest.token("escrow").by_id(key_ref.cka_id)
        # Whoever may sign for a tenant could name another's key as its own, and have that one's halves opened in a case
        # of theirs. Whose a key is was settled when it was made, and no statement changes it. ESCROW "Keys".
        if record.tenant != key_ref.tenant_id:
            log.critical("the escrow key %s is asked for in the name of the tenant %s", record.label, key_ref.tenant_id)
            raise HsmRefused("the escrow key is another tenant's")
        # The deposit names its key by id and public key. An id alone could come to mean another key (FAULTS H8).
        if hashlib.sha256(bytes.fromhex(record.public)).digest() != key_ref.spki_sha256:
            raise HsmKeyMismatch(f"the escrow key {record.label} has another public key than is asked for")
        # The other hash would not open it anyway; said here, nobody looks for a fault in the blob.
        if record.algorithm != key_ref.algorithm:
            raise HsmKeyMismatch(f"the escrow key {record.label} is for {record.algorithm} only")
        return record
