# SPDX-License-Identifier: Apache-2.0
"""The Double Ratchet with header encryption: keys for each message, forgotten as soon as they are used.

Implements PROTOCOL section 4 on Signal's "The Double Ratchet Algorithm", revision 4, section 4 (header encryption).
Does not know who talks to whom, nor how a message is framed: `session` does. Stores nothing and reads no clock.
Specification: https://signal.org/docs/specifications/doubleratchet/ section 4.
"""

from __future__ import annotations

import os
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.base.encoding import Fields, Value, label
from holdfast.core.base.errors import Malformed, OutOfBounds, UnwrapFailed
from holdfast.core.base.padding import pad, unpad
from holdfast.core.base.secret import HoldsSecrets, SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KeyKind, PublicKey, decode_public_key
from holdfast.core.messages.skipped import SkippedKeys

KEY_SIZE: Final = 32  # bytes: root, chain, message and header keys, all of HMAC-SHA256's and AES-256's size
# The salt is the header's nonce as well: random, under one header key for a whole chain. SP 800-38D section 8.3 allows
# 2^32 of those, which MAX_NUMBER keeps to.
SALT_SIZE: Final = 12  # bytes: GCM's nonce, SP 800-38D section 8.2
TAG_SIZE: Final = 16  # bytes: SP 800-38D section 5.2.1.2, the longest
# Double Ratchet section 3 asks for this bound: high enough for what is lost or late in use, low enough that a peer
# cannot set us to work. 1,000 keys cost a few milliseconds and 44 KB of store; a session has a new handshake after as
# many messages.
MAX_SKIP: Final = 1000
# N is a u32 in the header. The last value is never sent, so the number after it needs no fifth byte.
MAX_NUMBER: Final = 2**32 - 1
PREFIX_SIZE: Final = 4  # bytes: as `wire` lays it out; here it is only bound, not read
_SALT_END: Final = PREFIX_SIZE + SALT_SIZE  # bytes: where the sealed header begins
_COUNTERS_SIZE: Final = 8  # bytes: PN u32 || N u32, which end the header
_SMALLEST_BODY: Final = 4 + TAG_SIZE  # bytes: the padding's length field of an empty message, and the tag
# Two labels, so that a chain key or root key never comes out as a message key (FAULTS F12). Made once: every message
# needs them.
_ROOT: Final = label("root")
_MESSAGE: Final = label("msg")
_SHA256: Final = hashes.SHA256()
# Salt, body and associated data of one message.
_Sealed: TypeAlias = tuple[bytes, bytes, bytes]
_PUBLIC_SIZES: Final = {KeyKind.X25519: 33, KeyKind.P256_AGREEMENT: 66}  # bytes, type byte included


def derive_root(root: bytes, secret: bytes) -> tuple[bytes, bytes, bytes]:
    """KDF_RK: return the next root key, a chain key and the next header key, 32 bytes each. PROTOCOL section 4."""
    # Double Ratchet "Recommended cryptographic algorithms": the root key is HKDF's salt and the DH output its input. So
    # whoever learns one of the two alone, a stolen old root or a new secret, does not have the next root.
    okm = HKDF(_SHA256, 3 * KEY_SIZE, root, _ROOT).derive(secret)
    return okm[:KEY_SIZE], okm[KEY_SIZE : 2 * KEY_SIZE], okm[2 * KEY_SIZE :]


def derive_chain(chain: bytes) -> tuple[bytes, bytes]:
    """KDF_CK: return the message key and the next chain key, 32 bytes each. PROTOCOL section 4."""
    # The same section gives these bytes: two inputs under one key, so a message key says nothing about the next chain
    # key and may be kept for a late message. Keying HMAC is two thirds of it, and is done once for both.
    message = HMAC(chain, _SHA256)
    following = message.copy()
    message.update(b"\x01")
    following.update(b"\x02")
    return message.finalize(), following.finalize()


def _open_header(cipher: AESGCM, salt: bytes, sealed: bytes, prefix: bytes) -> bytes | None:
    try:
        # The tag alone says whose header it is: nothing on the wire names the session or the key (that is header
        # encryption).
        return cipher.decrypt(salt, sealed, prefix)
    except InvalidTag:
        return None


def _open_body(message_key: bytes, salt: bytes, body: bytes, aad: bytes) -> bytes:
    # The body's key depends on the salt as well as on the message key: see encrypt().
    okm = HKDF(_SHA256, KEY_SIZE + SALT_SIZE, salt, _MESSAGE).derive(message_key)
    try:
        # Padding is looked at only after the tag has held, and fails as the tag does: no padding oracle.
        return unpad(AESGCM(okm[:KEY_SIZE]).decrypt(okm[KEY_SIZE:], body, aad))
    except (InvalidTag, Malformed):
        raise UnwrapFailed("message does not open") from None


def _missing(chain: bytes, number: int, until: int) -> tuple[dict[int, bytes], bytes]:
    """Return the message keys of `number` up to, not including, `until`, and the chain key after them."""
    keys = {}
    for missed in range(number, until):
        keys[missed], chain = derive_chain(chain)
    return keys, chain


class Ratchet(HoldsSecrets):
    """The state of one session at one end: root, two chains, their header keys, and the keys of messages not yet seen.

    The state is plain bytes and not SecretBytes: a wrapper for each of the five secrets that every message replaces
    was measured at a tenth of the time of encrypting. The class as a whole refuses to be printed, copied or
    pickled, and what leaves it by to_value() goes into a SecretBytes at once.
    """

    __slots__ = (
        "_ad",
        "_header_end",
        "_kind",
        "_next_receiving",
        "_next_sending",
        "_own",
        "_own_seed",
        "_previous",
        "_receiving",
        "_receiving_header",
        "_receiving_header_key",
        "_root",
        "_sending",
        "_sending_header",
        "_sending_header_key",
        "_stem",
        "received",
        "sent",
        "skipped",
    )

    def __init__(self, *, kind: KeyKind, ad: bytes, root: bytes, next_receiving: bytes) -> None:
        self._kind = kind
        self._ad = ad
        self._header_end = _SALT_END + _PUBLIC_SIZES[kind] + _COUNTERS_SIZE + TAG_SIZE
        self._root = root
        self._own: AgreementKey | None = None
        self._own_seed: SecretBytes | None = None
        # The header of the present sending chain but for N: public key and PN, which are the same for the whole chain.
        self._stem = b""
        self._sending = self._receiving = b""
        self._sending_header: AESGCM | None = None
        self._receiving_header: AESGCM | None = None
        self._sending_header_key = self._receiving_header_key = b""
        self._next_sending, self._next_receiving = b"", next_receiving
        self._previous = self.sent = self.received = 0
        self.skipped = SkippedKeys()

    @classmethod
    def initiator(
        cls, *, ad: bytes, root: SecretBytes, header: SecretBytes, next_header: SecretBytes, peer: PublicKey
    ) -> Ratchet:
        """Begin as the one who sends first, with a fresh key against `peer`, the signed pre-key's DH half.

        root, header (HK_A) and next_header (NHK_B) are 32 bytes. Revision 4, RatchetInitAliceHE.
        """
        self = cls(kind=peer.kind, ad=ad, root=root.reveal(), next_receiving=next_header.reveal())
        # HK_A becomes the header key of the chain begun below; NHK_B is what B's first header will be sealed under.
        self._next_sending = header.reveal()
        # Not EK: that is used for the handshake and nothing else. SPK_B serves as B's first ratchet key
        # (Double Ratchet, on its integration with X3DH), so A can send before B has ever answered.
        own = AgreementKey.generate(peer.kind)
        self._begin_sending(own, derive_root(self._root, own.exchange(peer).reveal()))
        return self

    @classmethod
    def responder(
        cls, *, ad: bytes, root: SecretBytes, header: SecretBytes, next_header: SecretBytes, own: AgreementKey
    ) -> Ratchet:
        """Begin as the one who receives first, with `own`, the signed pre-key's private DH half.

        Its header keys are the initiator's, the other way round. Revision 4, RatchetInitBobHE.
        """
        self = cls(kind=own.public.kind, ad=ad, root=root.reveal(), next_receiving=header.reveal())
        self._next_sending = next_header.reveal()
        # No sending chain yet: one without a key of A's would add nothing to the handshake's secrets.
        self._own, self._own_seed = own, own.seed()
        return self

    def _begin_sending(self, own: AgreementKey, derived: tuple[bytes, bytes, bytes]) -> None:
        """Start a sending chain under a new key of ours, from what derive_root() gave for it."""
        self._own, self._own_seed = own, own.seed()
        # PN tells the peer how many messages of the old chain to expect. The new chain's header key is the NHKs of
        # before: by it the peer, whose NHKr it is, sees that there was a step.
        self._previous, self.sent = self.sent, 0
        self._sending_header_key = self._next_sending
        self._root, self._sending, self._next_sending = derived
        self._sending_header = AESGCM(self._sending_header_key)
        self._stem = own.public.encoded + self._previous.to_bytes(4, "big")

    def encrypt(self, plaintext: bytes, prefix: bytes) -> bytes:
        """Return enc_header || body for the next message, and move on.

        prefix: the 4 bytes that lead the message. The caller stores the state before these bytes leave: then a crash
        loses a message and never repeats one. Raises OutOfBounds when the chain has no number left.
        """
        # Refused at the end of the numbers, and at a responder that has not received yet.
        number, chain = self.sent, self._sending
        if number >= MAX_NUMBER or self._sending_header is None:
            raise OutOfBounds("this session cannot send: begin a new one")
        # The salt is why a state that was rolled back or cloned, and so meets a message key again, still never meets
        # one (key, nonce) pair twice. PROTOCOL section 4.
        salt = os.urandom(SALT_SIZE)
        message_key, following = derive_chain(chain)
        okm = HKDF(_SHA256, KEY_SIZE + SALT_SIZE, salt, _MESSAGE).derive(message_key)
        # The header is bound to the prefix, the body to all before it and to TH: no part of a message can be put into
        # another, no type changed, and nothing opens in a session of other keys.
        head = salt + self._sending_header.encrypt(salt, self._stem + number.to_bytes(4, "big"), prefix)
        body = AESGCM(okm[:KEY_SIZE]).encrypt(okm[KEY_SIZE:], pad(plaintext), self._ad + prefix + head)
        # The chain moves on last: if anything above fails, no number is lost and no key has been used.
        self._sending = following
        self.sent = number + 1
        return head + body

    def decrypt(self, message: bytes, now: int) -> bytes:
        """Return the plaintext of prefix || enc_header || body, and forget its key.

        now: UTC seconds, from which the life of keys that are stored here counts; `skipped.expire` ends it. Raises
        UnwrapFailed for a key that is not here (any more), a replay, tampering and every excess, alike; nothing has
        changed then. At most 7 header keys are tried.
        """
        end = self._header_end
        # Before any trial: what is too short for a header and a body is nobody's message, and costs no opening.
        if len(message) < end + _SMALLEST_BODY:
            raise UnwrapFailed("message does not open")
        prefix, salt = message[:PREFIX_SIZE], message[PREFIX_SIZE:_SALT_END]
        sealed, body, aad = message[_SALT_END:end], message[end:], self._ad + message[:end]
        if self._receiving_header is not None:
            # The next message in order: the only path that is written out, as it is the one that is walked.
            try:
                header = self._receiving_header.decrypt(salt, sealed, prefix)
            except InvalidTag:
                pass
            else:
                number = int.from_bytes(header[-4:], "big")
                # A header that opens fixes the chain: no other key is tried, whatever becomes of the body.
                if number != self.received or number >= MAX_NUMBER:
                    return self._open_out_of_order(number, (salt, body, aad), now)
                message_key, following = derive_chain(self._receiving)
                plaintext = _open_body(message_key, salt, body, aad)
                # Only now, with the body authenticated. The header is no proof: anybody on the way can put a header
                # seen once in front of a body of their own, and would move the chain past the honest message.
                self._receiving = following
                self.received = number + 1
                return plaintext
        # HKr, NHKr, old chains: the order of likelihood. 1 + 1 + 5 openings are the most that junk can cost.
        cipher = AESGCM(self._next_receiving)
        found = _open_header(cipher, salt, sealed, prefix)
        if found is not None:
            return self._open_after_step(cipher, found, (salt, body, aad), now)
        for key in self.skipped.header_keys():
            # The present chain can have skipped keys too; its header key was tried first of all.
            if key != self._receiving_header_key:
                found = _open_header(AESGCM(key), salt, sealed, prefix)
                if found is not None:
                    return self._open_skipped(key, int.from_bytes(found[-4:], "big"), (salt, body, aad))
        raise UnwrapFailed("message does not open")

    def _open_out_of_order(self, number: int, sealed: _Sealed, now: int) -> bytes:
        if number < self.received:
            return self._open_skipped(self._receiving_header_key, number, sealed)
        return self._open_ahead(number, sealed, now)

    def _open_skipped(self, header_key: bytes, number: int, sealed: _Sealed) -> bytes:
        message_key = self.skipped.find(header_key, number)
        if message_key is None:
            # A replay, or a message whose key was dropped.
            raise UnwrapFailed("message does not open")
        # The key goes after the body has opened: else one forged body behind a true header would destroy the key of a
        # message that is still on its way.
        plaintext = _open_body(message_key, *sealed)
        self.skipped.remove(header_key, number)
        return plaintext

    def _open_ahead(self, number: int, sealed: _Sealed, now: int) -> bytes:
        # Before any key is derived: a peer that claims message 2^31 gets no work out of us.
        if number - self.received > MAX_SKIP or number >= MAX_NUMBER:
            raise UnwrapFailed("message does not open")
        # On locals, and stored below: a forged body must not fill the store, nor push older keys out of it.
        missing, chain = _missing(self._receiving, self.received, number)
        message_key, following = derive_chain(chain)
        plaintext = _open_body(message_key, *sealed)
        self.skipped.add(self._receiving_header_key, missing, now)
        self._receiving = following
        self.received = number + 1
        return plaintext

    def _open_after_step(self, header_cipher: AESGCM, header: bytes, sealed: _Sealed, now: int) -> bytes:
        """Take the peer's new key: the rest of the old chain, a new receiving chain, then a new sending one."""
        previous = int.from_bytes(header[-8:-4], "big")
        number = int.from_bytes(header[-4:], "big")
        # Before the DH and any derivation, for both chains. PN below what was received is no error: a peer restored
        # from a backup may have counted less, and then there is nothing to skip. A responder's first step has no old
        # chain.
        if number > MAX_SKIP or (self._receiving and previous - self.received > MAX_SKIP):
            raise UnwrapFailed("message does not open")
        try:
            # The header is the peer's own word and still read strictly: with a key of small order the step would add
            # nothing that a thief of the old root key does not know.
            peer = decode_public_key(header[:-_COUNTERS_SIZE], expect=self._kind)
            root, chain, next_receiving = derive_root(self._root, self._own_key().exchange(peer).reveal())
        except Malformed:
            raise UnwrapFailed("message does not open") from None
        rest = _missing(self._receiving, self.received, previous)[0] if self._receiving else {}
        missing, chain = _missing(chain, 0, number)
        message_key, following = derive_chain(chain)
        plaintext = _open_body(message_key, *sealed)
        # Made now, and not at the next sending: the private half that the peer's last message relied on is gone that
        # much sooner, and with it what a thief of this state could still derive (docs/formats/ratchet.md).
        own = AgreementKey.generate(self._kind)
        sending = derive_root(root, own.exchange(peer).reveal())
        # From here on nothing fails: everything before worked on locals.
        # First, while the two header keys still have their old names.
        self.skipped.turn(self._receiving_header_key, rest, self._next_receiving, missing, now)
        self._receiving_header_key, self._next_receiving = self._next_receiving, next_receiving
        self._receiving_header = header_cipher
        self._receiving, self.received = following, number + 1
        self._begin_sending(own, sending)
        return plaintext

    def _own_key(self) -> AgreementKey:
        # After a restart the key is made from its seed only when a step needs it: most messages need none.
        if self._own is None:
            assert self._own_seed is not None
            self._own = AgreementKey.from_seed(self._kind, self._own_seed)
        return self._own

    def to_value(self) -> list[Value]:
        """Return the whole state but the skipped keys; secrets inside: encode it into a SecretBytes at once."""
        assert self._own_seed is not None
        return [
            self._root,
            self._own_seed.reveal(),
            self._stem,
            self._sending,
            self._sending_header_key,
            self._next_sending,
            self.sent,
            self._previous,
            self._receiving,
            self._receiving_header_key,
            self._next_receiving,
            self.received,
        ]

    @classmethod
    def from_value(cls, value: Value, *, kind: KeyKind, ad: bytes) -> Ratchet:
        """Undo to_value. Raises Malformed."""
        row = Fields.of_row(value, "ratchet", 12)
        # Empty stands for a chain that does not exist yet.
        maybe = (0, KEY_SIZE)
        self = cls(kind=kind, ad=ad, root=row.octets(0, KEY_SIZE), next_receiving=row.octets(10, KEY_SIZE))
        self._own_seed = SecretBytes(row.octets(1, KEY_SIZE))
        self._stem = row.octets(2, (0, _PUBLIC_SIZES[kind] + 4))
        self._sending, self._sending_header_key = row.octets(3, maybe), row.octets(4, maybe)
        self._next_sending = row.octets(5, KEY_SIZE)
        self.sent, self._previous = row.uint(6, maximum=MAX_NUMBER), row.uint(7, maximum=MAX_NUMBER)
        self._receiving, self._receiving_header_key = row.octets(8, maybe), row.octets(9, maybe)
        self.received = row.uint(11, maximum=MAX_NUMBER)
        self._sending_header = AESGCM(self._sending_header_key) if self._sending_header_key else None
        self._receiving_header = AESGCM(self._receiving_header_key) if self._receiving_header_key else None
        return self
