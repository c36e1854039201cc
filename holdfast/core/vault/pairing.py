# SPDX-License-Identifier: Apache-2.0
"""Meeting between a new device and one that its user already has: by QR code, or by eight digits.

Implements PROTOCOL section 6 "Device door and device-to-device sync" (the QR payload and the short authentication
string with prior commitment). Does not send anything, and does not add a device: `sync_letter` and the chain do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from holdfast.core.base import typed
from holdfast.core.base.encoding import Encodable, Fields, decode, encode, label
from holdfast.core.base.errors import Malformed, Mistyped, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE
from holdfast.core.signed.statements import DeviceStatement

# Upper-case letters, digits and a dot: the alphanumeric mode of QR codes, in which base32 takes 8.8 bits for a
# byte where base64url in byte mode takes 10.7. A smaller code is read from further away, and can be typed.
PREFIX: Final = "HFP1."
# Bytes. As long as an id: nobody can try the nonces behind a commitment.
NONCE_SIZE: Final = 16
# What people type without a slip. One guess in 10^8, and one guess only: see the commitment below.
CODE_DIGITS: Final = 8
_VERSION: Final = 1  # field 1 of request and messages
_MAX_REQUEST: Final = 160  # bytes: a request has about 130
_MAX_MESSAGE: Final = 256  # bytes: the longest message holds a request
# RFC 4648 section 6. 256 characters are 160 bytes, the longest request.
_BASE32: Final = re.compile(r"[A-Z2-7]{1,256}", re.ASCII)
_COMMITMENT, _ANSWER, _REVEAL = 1, 2, 3  # field 2, so that no message is taken for another step's


@dataclass(frozen=True)
class PairingRequest:
    """What a new device shows of itself.

    tenant, user, nonce: 16 bytes; statement_hash: SHA-256 of its device statement's payload; key_hash: SHA-256 of
    its X-Wing key with the type byte.
    """

    tenant: bytes
    user: bytes
    statement_hash: bytes
    key_hash: bytes
    nonce: bytes

    @classmethod
    def new(cls, device: DeviceStatement) -> PairingRequest:
        """Make a request for one's own device, with a fresh nonce."""
        statement_hash, key_hash = _hashes(device)
        nonce = secrets.token_bytes(NONCE_SIZE)
        return cls(device.header.tenant, device.header.user, statement_hash, key_hash, nonce)

    @read_back("from_bytes")
    def to_bytes(self) -> bytes:
        """Return dCBOR{1: 1, 2: tenant, 3: user, 4: statement hash, 5: key hash, 6: nonce}."""
        return encode(
            {1: _VERSION, 2: self.tenant, 3: self.user, 4: self.statement_hash, 5: self.key_hash, 6: self.nonce}
        )

    @classmethod
    def from_bytes(cls, octets: bytes) -> PairingRequest:
        """Read a request; raises Malformed."""
        read = Fields(decode(octets, max_size=_MAX_REQUEST), "pairing request", range(1, 7))
        read.uint(1, minimum=_VERSION, maximum=_VERSION)
        return cls(
            tenant=read.octets(2, ID_SIZE),
            user=read.octets(3, ID_SIZE),
            statement_hash=read.octets(4, HASH_SIZE),
            key_hash=read.octets(5, HASH_SIZE),
            nonce=read.octets(6, NONCE_SIZE),
        )

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of to_bytes(): what the letter to the new device is bound to."""
        return hashlib.sha256(self.to_bytes()).digest()

    def text(self) -> str:
        """Return the text of the QR code: "HFP1." and base32 (RFC 4648 section 6) without padding."""
        return PREFIX + base64.b32encode(self.to_bytes()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> PairingRequest:
        """Read the text as scanned, copied or typed, by `typed.code`, in any capitals. Raises Malformed for others."""
        body = typed.code(text, PREFIX, "pairing code").upper()
        if not _BASE32.fullmatch(body):
            raise Mistyped('pairing code: not "HFP1." and base32')
        try:
            octets = base64.b32decode(body + "=" * (-len(body) % 8))
        except ValueError:
            raise Mistyped("pairing code: an impossible length") from None
        request = cls.from_bytes(octets)
        # One code, one text: spare bits at the end could otherwise be set without a change in what is read.
        if request.text() != PREFIX + body:
            raise Malformed("pairing code: trailing bits are not zero")
        return request

    def require(self, device: DeviceStatement) -> None:
        """Raise Untrusted unless the device statement, as the server has it, is the one that was shown."""
        # The statement comes from the server, the hashes from the screen: only both together say which device is meant.
        whose = (device.header.tenant, device.header.user)
        if whose != (self.tenant, self.user) or _hashes(device) != (self.statement_hash, self.key_hash):
            raise Untrusted("the server's new device is not the one in front of you")


def short_code(transcript: bytes, *, digits: int = CODE_DIGITS) -> str:
    """Return the digits that two screens show: SHA-256(transcript) modulo 10^digits, leading zeros kept."""
    return f"{int.from_bytes(hashlib.sha256(transcript).digest(), 'big') % 10**digits:0{digits}}"


@dataclass
class NewDevice:
    """The new device's side of pairing by eight digits: commits, then answers, then shows the code.

    It is bound to its nonce before it sees the other's, and the other to its own before this one is revealed. A
    server in the middle must therefore fix its part on both sides before it knows either code: one guess in 10^8.
    """

    request: PairingRequest
    digits: int = CODE_DIGITS
    _code: str = field(default="", init=False, repr=False)

    @property
    def commitment(self) -> bytes:
        """The first message: dCBOR{1: 1, 2: 1, 3: SHA-256 over the request, nonce included}."""
        return _message(_COMMITMENT, _commitment(self.request))

    def answer(self, message: bytes) -> bytes:
        """Take the existing device's answer and return the third message, which reveals the request.

        Raises Malformed; ValueError when asked a second time (the caller's mistake): a nonce, once shown, is spent.
        """
        # A second answer would be a second guess at the code, with the nonce known.
        if self._code:
            raise ValueError("a pairing is answered once")
        read = _read(message, _ANSWER, (3, 4, 5))
        other = (read.octets(3, HASH_SIZE), read.octets(4, HASH_SIZE), read.octets(5, NONCE_SIZE))
        self._code = short_code(_transcript(self.request, *other), digits=self.digits)
        return _message(_REVEAL, self.request.to_bytes())

    @property
    def code(self) -> str:
        """The digits to show. Raises ValueError before the other device has answered (the caller's mistake)."""
        return _known(self._code)


@dataclass
class ExistingDevice:
    """The existing device's side: takes the commitment, answers with a nonce, checks what is revealed.

    device: its own statement, by which the new device's code depends on whom it talks to. One attempt each: after
    anything wrong, pairing begins anew.
    """

    device: DeviceStatement
    digits: int = CODE_DIGITS
    _nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_SIZE), init=False, repr=False)
    _committed: bytes = field(default=b"", init=False)
    _request: PairingRequest | None = field(default=None, init=False)
    _code: str = field(default="", init=False, repr=False)

    def receive_commitment(self, message: bytes) -> bytes:
        """Take the new device's commitment and return the answer: dCBOR{1: 1, 2: 2, 3, 4: own hashes, 5: nonce}.

        Raises Malformed; Untrusted for a second commitment, which would be a second guess.
        """
        # One commitment for each nonce of ours: two would let a server see our nonce first and choose its own after it.
        if self._committed:
            raise Untrusted("a second new device answers: begin the pairing again")
        self._committed = _read(message, _COMMITMENT, (3,)).octets(3, HASH_SIZE)
        return _message(_ANSWER, *_hashes(self.device), self._nonce)

    def receive_reveal(self, message: bytes) -> None:
        """Take what was committed to. Raises Malformed; Untrusted when it is something else or someone else's."""
        request = PairingRequest.from_bytes(_read(message, _REVEAL, (3,)).octets(3))
        # Spent before it is compared: a wrong reveal ends the pairing, and no other may be tried.
        committed, self._committed = self._committed, b"spent"
        if not hmac.compare_digest(_commitment(request), committed):
            raise Untrusted("the new device is not the one that began: begin the pairing again")
        # A device of another account could commit and reveal quite honestly, and digits would agree.
        if (request.tenant, request.user) != (self.device.header.tenant, self.device.header.user):
            raise Untrusted("the new device is another account's")
        self._request = request
        transcript = _transcript(request, *_hashes(self.device), self._nonce)
        self._code = short_code(transcript, digits=self.digits)

    @property
    def code(self) -> str:
        """The digits that the new device must be showing. Raises ValueError before the reveal."""
        return _known(self._code)

    def confirm(self, said: str) -> PairingRequest:
        """Return the new device's request when the digits typed from its screen are right, in whatever groups.

        Raises Untrusted when they are not, and this pairing is then over. ValueError before the reveal.
        """
        # Cleared before the comparison: one try, whatever comes of it.
        code, request = _known(self._code), self._request
        self._code, self._request = "", None
        if request is None or not hmac.compare_digest(typed.ungrouped(said).encode(), code.encode()):
            raise Untrusted("the digits are not those of this pairing: somebody may stand between the devices")
        return request


def _known(code: str) -> str:
    if not code:
        raise ValueError("there is no code yet, or no longer")
    return code


def _hashes(device: DeviceStatement) -> tuple[bytes, bytes]:
    statement_hash = hashlib.sha256(device.to_payload()).digest()
    return statement_hash, hashlib.sha256(device.sealing_key.encoded).digest()


def _commitment(request: PairingRequest) -> bytes:
    # Over the whole request. The nonce in it hides the rest, which the server knows: it could otherwise tell what was
    # committed to and work out the code ahead.
    return hashlib.sha256(label("pairing-commitment", request.to_bytes())).digest()


def _transcript(request: PairingRequest, statement_hash: bytes, key_hash: bytes, nonce: bytes) -> bytes:
    # Both devices' hashes and both nonces: a server that plays each to the other has two transcripts, and two codes.
    return label("pairing-code", request.to_bytes(), statement_hash, key_hash, nonce)


def _message(step: int, *parts: bytes) -> bytes:
    message: dict[int, Encodable] = {1: _VERSION, 2: step}
    return encode(message | dict(enumerate(parts, 3)))


def _read(message: bytes, step: int, keys: tuple[int, ...]) -> Fields:
    read = Fields(decode(message, max_size=_MAX_MESSAGE), "pairing message", (1, 2, *keys))
    read.uint(1, minimum=_VERSION, maximum=_VERSION)
    read.uint(2, minimum=step, maximum=step)
    return read
