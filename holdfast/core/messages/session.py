# SPDX-License-Identifier: Apache-2.0
"""A session of two devices: begun by a handshake, carried by the ratchet, kept as secret bytes in between.

Implements PROTOCOL section 4. Interface: `Session`, `read_message`, and what they take and return.
Does not store, send, look up keys or verify chains: its caller hands in parties that it has verified.
Specification: https://signal.org/docs/specifications/doubleratchet/ section 4, begun as in `x3dh`.
"""

from __future__ import annotations

import hashlib
from typing import Final

from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, decode, encode
from holdfast.core.base.errors import Untrusted, UnwrapFailed
from holdfast.core.base.secret import HoldsSecrets, SecretBytes
from holdfast.core.crypto.keys import AgreementKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import VerifiedBundle
from holdfast.core.messages.ratchet import Ratchet
from holdfast.core.messages.skipped import SkippedKeys
from holdfast.core.messages.wire import MAX_MESSAGE, MESSAGE, PREFIX_SIZE, Incoming, InitialPart, prefix, read_message
from holdfast.core.messages.x3dh import OwnPreKey, Party, agree_as_initiator, agree_as_responder, require_one_curve
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import HASH_SIZE, VERSION, read_suite

__all__ = ["MAX_PLAINTEXT", "Incoming", "InitialPart", "OwnPreKey", "Party", "Session", "read_message"]

# A name in stores and logs. TH itself is what the messages are bound to.
ID_SIZE: Final = 16  # bytes of TH
# With padding and an initial part still within a message of 64 KiB.
MAX_PLAINTEXT: Final = 48 * 1024
# Only a handshake brings a new ML-KEM secret: these bound how long, and for how many messages, a state that was read
# can be followed by who also breaks the DH steps. It costs the peer's one-time key and 2.7 KB a message until the
# answer.
HANDSHAKE_AFTER_SECONDS: Final = 7 * 86_400  # as often as a new signed pre-key is made
HANDSHAKE_AFTER_MESSAGES: Final = 1000  # sent and received together


class Session(HoldsSecrets):
    """One end of a session: encrypts, decrypts, and says what must be known about it.

    id: 16 bytes, and transcript: TH, 32 bytes; equal at both ends. initial_hash: SHA-256 of the initial part. sent and
    received count messages of all chains. is_confirmed: whether the other end is known to have the session.
    """

    __slots__ = (
        "_initial",
        "_message_prefix",
        "_ratchet",
        "created_at",
        "initial_hash",
        "is_initiator",
        "is_last_resort",
        "received",
        "sent",
        "suite",
        "transcript",
    )

    def __init__(
        self,
        *,
        suite: Suite,
        transcript: bytes,
        ratchet: Ratchet,
        initial_hash: bytes,
        initial: bytes,
        is_initiator: bool,
        is_last_resort: bool,
        created_at: int,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        self.suite = suite
        self.transcript = transcript
        self.initial_hash = initial_hash
        self.is_initiator = is_initiator
        self.is_last_resort = is_last_resort
        self.created_at = created_at
        self.sent = sent
        self.received = received
        self._ratchet = ratchet
        self._initial = initial
        self._message_prefix = prefix(MESSAGE, suite)

    @classmethod
    def initiate(
        cls,
        *,
        me: Party,
        device_statement: Sign1,
        agreement: AgreementKey,
        peer: Party,
        bundle: VerifiedBundle,
        now: int,
    ) -> Session:
        """Begin a session with the device of a verified bundle, in the bundle's suite.

        device_statement: of `me`, as signed. agreement: its private half. Raises Untrusted when the two devices cannot
        have a session or the bundle is another device's; Malformed for a key that gives no secret; ValueError when
        `me` is not what the statement or the key says (the caller's mistake).
        """
        # The caller's mistakes first, then what the server could have mixed up; all of it before a secret exists.
        suite = bundle.device.suite
        me.require_own(agreement)
        if device_statement.payload != me.statement:
            raise ValueError("the signed device statement is not this device's")
        # Both are verified, and could be of two devices: DH1 and DH3 would then be with one, DH2 and TH with the other.
        if bundle.device_bytes != peer.statement:
            raise Untrusted("the bundle is of another device than the peer")
        require_one_curve(suite, me, peer)
        # Fresh for each session: a second session with the same EK and no one-time key would have the same DHs.
        ephemeral = AgreementKey.generate(suite.agreement_kind)
        agreed, ciphertext = agree_as_initiator(
            me=me, agreement=agreement, ephemeral=ephemeral, peer=peer, bundle=bundle
        )
        one_time = bundle.one_time
        initial = InitialPart(
            suite=suite,
            device_statement=device_statement,
            ephemeral=ephemeral.public,
            signed_pre_key_id=bundle.signed_pre_key.key_id,
            one_time_pre_key_id=one_time.key_id if one_time is not None else None,
            ciphertext=ciphertext,
            initiator_head=me.head,
            responder_head=peer.head,
        ).encode()
        ratchet = Ratchet.initiator(
            # TH is the AD of every message, as X3DH section 3.3 has it: it covers both identities and all keys.
            ad=agreed.transcript,
            root=agreed.root,
            header=agreed.header,
            next_header=agreed.next_header,
            peer=bundle.signed_pre_key.dh,
        )
        return cls(
            suite=suite,
            transcript=agreed.transcript,
            ratchet=ratchet,
            # Over the bytes sent, for both ends compute it alike; the responder routes repeated initial parts by it.
            initial_hash=hashlib.sha256(initial).digest(),
            initial=initial,
            is_initiator=True,
            is_last_resort=bundle.is_last_resort,
            created_at=now,
        )

    @classmethod
    def respond(
        cls,
        incoming: Incoming,
        *,
        me: Party,
        agreement: AgreementKey,
        initiator: Party,
        signed: OwnPreKey,
        one_time: OwnPreKey | None,
        now: int,
    ) -> tuple[Session, bytes]:
        """Return the session that an initial message begins, and its plaintext; neither exists unless it opens.

        initiator: the sender, verified through its own account chain at the head that the message names; me: this
        device at the head of its chain that the message names. The caller has looked the pre-keys up, and on success
        deletes the one-time key's private half in the transaction that stores the session, or keeps `transcript` in
        the seen-set where there was none. Raises Malformed, Untrusted; UnwrapFailed when it does not open.
        """
        initial = incoming.initial
        if initial is None or incoming.initial_hash is None:
            raise Untrusted("this message begins no session")
        me.require_own(agreement)
        # Before any DH: private keys are not used for a message that names other keys, heads or devices.
        _require_match(initial, me, initiator, signed, one_time)
        agreed = agree_as_responder(
            me=me,
            agreement=agreement,
            initiator=initiator,
            ephemeral=initial.ephemeral,
            signed=signed,
            one_time=one_time,
            ciphertext=initial.ciphertext,
        )
        ratchet = Ratchet.responder(
            ad=agreed.transcript,
            root=agreed.root,
            header=agreed.header,
            next_header=agreed.next_header,
            own=signed.dh,
        )
        # The first proof that the sender holds IDK_A and EK: all before it was a claim that anybody could copy. So
        # nothing is stored, and no one-time key destroyed, until this has returned.
        plaintext = ratchet.decrypt(incoming.prefix + incoming.sealed, now)
        session = cls(
            suite=initial.suite,
            transcript=agreed.transcript,
            ratchet=ratchet,
            initial_hash=incoming.initial_hash,
            initial=b"",
            is_initiator=False,
            is_last_resort=one_time is None,
            created_at=now,
            received=1,
        )
        return session, plaintext

    @property
    def id(self) -> bytes:
        """The first 16 bytes of TH."""
        return self.transcript[:ID_SIZE]

    @property
    def is_confirmed(self) -> bool:
        """Whether the initiator was answered; a responder knows from the first message."""
        return not self._initial

    @property
    def is_skipped_changed(self) -> bool:
        """Whether skipped_to_secret() has to be stored again, since it was made, restored or marked as kept."""
        return self._ratchet.skipped.is_changed

    def needs_handshake(self, now: int) -> bool:
        """Whether it is time for a new session: after 7 days or 1,000 messages, for post-quantum healing."""
        # By this end's own clock. One that jumps ahead costs a handshake and loses nothing. What such a one began in
        # the future is due as well, or it would be sent on in until then.
        aged = abs(now - self.created_at) >= HANDSHAKE_AFTER_SECONDS
        return aged or self.sent + self.received >= HANDSHAKE_AFTER_MESSAGES

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return the whole message for at most 48 KiB of plaintext; with the initial part until one was received.

        Store to_secret() before the bytes leave. Raises ValueError above 48 KiB (the caller's mistake: larger content
        goes by reference) and OutOfBounds when the chain is at its end.
        """
        if len(plaintext) > MAX_PLAINTEXT:
            raise ValueError("more than a message holds: send a reference")
        # The initial part again and again, since any of the first messages may be the one that arrives.
        lead = self._initial or self._message_prefix
        sealed = self._ratchet.encrypt(plaintext, lead[:PREFIX_SIZE])
        self.sent += 1
        return lead + sealed

    def decrypt(self, message: bytes | Incoming, *, now: int) -> bytes:
        """Return the plaintext of a message of this session, and forget its key.

        now: UTC seconds, from which keys that are stored for missing messages count. Store the state in the transaction
        that stores the plaintext. Raises UnwrapFailed for everything that is not this session's next or skipped
        message, without saying which, and Malformed for what is no message; the state is unchanged then.
        """
        if isinstance(message, bytes):
            # What nearly every message is. Equality of all four bytes checks version, type, suite and flags at once.
            if message[:PREFIX_SIZE] == self._message_prefix and len(message) <= MAX_MESSAGE:
                return self._open(message, now)
            message = read_message(message)
        if message.initial_bytes:
            # The responder's part alone: an initiator's own message sent back to it opens nothing.
            # Public values, compared as such. Another hash is another handshake, even where the keys are the same.
            if self.is_initiator or message.initial_hash != self.initial_hash:
                raise UnwrapFailed("message does not open")
        elif message.prefix != self._message_prefix:
            raise UnwrapFailed("message does not open")
        return self._open(message.prefix + message.sealed, now)

    def _open(self, message: bytes, now: int) -> bytes:
        # An answer that opens is what tells the initiator that the peer has the session. Before it, a forged one
        # would end the repeating, and the peer could never begin.
        plaintext = self._ratchet.decrypt(message, now)
        self.received += 1
        self._initial = b""
        return plaintext

    def expire(self, now: int) -> None:
        """Drop skipped keys stored 30 days ago or longer. now: a time to rely on, for nothing brings them back."""
        self._ratchet.skipped.expire(now)

    def to_secret(self) -> SecretBytes:
        """Return the state without the skipped keys, as dCBOR for an encrypted store. docs/formats/ratchet.md."""
        fields: dict[int, Encodable] = {
            1: VERSION,
            2: int(self.suite),
            3: self.transcript,
            4: self.created_at,
            5: int(self.is_initiator),
            6: int(self.is_last_resort),
            7: self.initial_hash,
            8: self._initial,
            9: self.sent,
            10: self.received,
            11: self._ratchet.to_value(),
        }
        return SecretBytes(encode(fields))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Session:
        """Undo to_secret; restore_skipped() brings the rest. Raises Malformed."""
        fields = Fields(decode(secret.reveal(), max_size=MAX_VAULT), "session", range(1, 12))
        if fields.uint(1) != VERSION:
            raise fields.refuse(1, "is not version 1")
        suite, transcript = read_suite(fields, 2), fields.octets(3, HASH_SIZE)
        return cls(
            suite=suite,
            transcript=transcript,
            ratchet=Ratchet.from_value(fields.value(11), kind=suite.agreement_kind, ad=transcript),
            initial_hash=fields.octets(7, HASH_SIZE),
            initial=fields.octets(8),
            is_initiator=bool(fields.uint(5, maximum=1)),
            is_last_resort=bool(fields.uint(6, maximum=1)),
            created_at=fields.uint(4),
            sent=fields.uint(9),
            received=fields.uint(10),
        )

    def skipped_to_secret(self) -> SecretBytes:
        """Return the skipped keys, 44 bytes each at most 2,000 of them, to be stored apart from the state."""
        return self._ratchet.skipped.to_secret()

    def restore_skipped(self, secret: SecretBytes) -> None:
        """Bring back what skipped_to_secret() gave, before anything is decrypted. Raises Malformed."""
        self._ratchet.skipped = SkippedKeys.from_secret(secret)

    def mark_skipped_kept(self) -> None:
        """Say that the skipped keys are durably stored as they are now: is_skipped_changed begins anew."""
        self._ratchet.skipped.is_changed = False


def _require_match(
    initial: InitialPart, me: Party, initiator: Party, signed: OwnPreKey, one_time: OwnPreKey | None
) -> None:
    """Raise Untrusted unless the verified parties and the keys at hand are the ones that the message names."""
    # TH would differ for each of these too, and nothing would open. Checked here so that the caller learns why, and no
    # private key is touched: none of it is a secret.
    if initial.suite is not me.device.suite:
        raise Untrusted("the message is of another suite than this device")
    require_one_curve(initial.suite, me, initiator)
    if initial.device_statement.payload != initiator.statement:
        raise Untrusted("the message carries another device statement than its sender's")
    if (initial.initiator_head, initial.responder_head) != (initiator.head, me.head):
        raise Untrusted("the message names other chain heads")
    if initial.signed_pre_key_id != signed.key_id:
        raise Untrusted("the message names another signed pre-key")
    # Never without it: a caller that gave up DH4 for a used key would let a replayed message begin a session.
    if initial.one_time_pre_key_id != (one_time.key_id if one_time is not None else None):
        raise Untrusted("the message names a one-time pre-key that is not here")
