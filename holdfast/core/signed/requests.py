# SPDX-License-Identifier: Apache-2.0
"""How a device signs a request: the covered parts, their digest and the one form of the two header fields.

Implements the Holdfast profile of RFC 9421 (HTTP Message Signatures) and RFC 9530 (Content-Digest).
Does not sign or verify: it says which bytes are signed; keys and clocks belong to client and server.
Specification: https://www.rfc-editor.org/rfc/rfc9421 section 2.5, https://www.rfc-editor.org/rfc/rfc9530 section 2.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Malformed

# RFC 9421 allows many signatures on one request. One label is taken: which of several counts is then no question.
LABEL: Final = "sig1"
# RFC 9421 section 2.3: the application that the signature is for, so one made for another protocol is none here.
TAG: Final = "holdfast-v1"
# Long enough for a slow network and a clock that is a little off (a 401 says the server's time), and short enough that
# the nonces to be remembered are those of two minutes.
WINDOW_SECONDS: Final = 60  # a signature is taken this long before and after its `created`
NONCE_SIZE: Final = 16  # bytes: at random, no two alike; each is taken once (FAULTS I11a)
# Method and whole address: a signature cannot be moved to another route, query or server. The digest binds the body.
_BARE: Final = ("@method", "@target-uri")
_WITH_BODY: Final = (*_BARE, "content-digest")  # RFC 9530; of an empty body too, so none can be added
TURN: Final = "holdfast-turn"  # whose turn it is (`turns`); a request that has this field signs it, last

# One order, one spelling: RFC 9421 allows many forms of one meaning, and a verifier that takes a single one
# has nothing to disagree about with a proxy in front of it.
_INPUT: Final = re.compile(
    r"sig1=(?P<params>\((?P<components>\"[ -~]{1,80}\")\)"
    r";created=(?P<created>[1-9][0-9]{0,11})"
    r";keyid=\"(?P<keyid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\""
    r";nonce=\"(?P<nonce>[A-Za-z0-9_-]{22})\""
    r";tag=\"holdfast-v1\")",
    re.ASCII,
)
# 64 bytes in base64 are 86 signs and two of padding.
_SIGNATURE: Final = re.compile(r"sig1=:([A-Za-z0-9+/]{86}==):", re.ASCII)


def components(method: str, *, has_turn: bool = False) -> tuple[str, ...]:
    """Return the parts that a request of `method` signs: the digest too, but for GET and HEAD, which have no body.

    has_turn: whether it has the field holdfast-turn, which is signed as well then.
    """
    signed = _BARE if method in ("GET", "HEAD") else _WITH_BODY
    return (*signed, TURN) if has_turn else signed


def content_digest(body: bytes) -> str:
    """Return the Content-Digest field of a body, of an empty one as well. RFC 9530 section 2."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def digest_matches(field: str, body: bytes) -> bool:
    """Tell whether a Content-Digest field is exactly the one of `body`."""
    # Both are public; compared this way so that nobody has to ask. "replace" lets any header text fail and not raise.
    return hmac.compare_digest(field.encode("utf-8", "replace"), content_digest(body).encode())


@dataclass(frozen=True)
class SignatureParameters:
    """What a signature says about itself.

    created: UTC seconds. keyid: the credential. nonce: 16 fresh bytes, spent by the first request they sign. turn: the
    field holdfast-turn, "" for a request without one.
    """

    method: str
    created: int
    keyid: UUID
    nonce: bytes
    turn: str = ""

    @property
    def _components(self) -> tuple[str, ...]:
        return components(self.method, has_turn=bool(self.turn))

    @property
    def text(self) -> str:
        """The value of @signature-params: the covered parts, then the parameters. RFC 9421 section 2.3."""
        covered = " ".join(f'"{name}"' for name in self._components)
        return f'({covered});created={self.created};keyid="{self.keyid}";nonce="{b64u(self.nonce)}";tag="{TAG}"'

    def base(self, *, target_uri: str, digest: str) -> bytes:
        """Return the bytes to sign. `digest` is the Content-Digest field, "" for GET and HEAD. RFC 9421 section 2.5.

        Raises Malformed for a line break or a non-ASCII character in the address, the digest or the turn.
        """
        values = {"@method": self.method, "@target-uri": target_uri, "content-digest": digest, TURN: self.turn}
        lines = [f'"{name}": {values[name]}' for name in self._components]
        # A line break in the address would write a line of its own into the base: one signature, two readings.
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise Malformed("request: a signed part is not one line of ASCII")
        return "\n".join((*lines, f'"@signature-params": {self.text}')).encode()

    def fields(self, signature: bytes) -> dict[str, str]:
        """Return the header fields that carry a 64-byte signature over base(): two, and the turn where there is one."""
        text = base64.b64encode(signature).decode()
        turn = {"Holdfast-Turn": self.turn} if self.turn else {}
        return {"Signature-Input": f"{LABEL}={self.text}", "Signature": f"{LABEL}=:{text}:", **turn}


def parse_signature(
    method: str, signature_input: str, signature: str, *, turn: str = ""
) -> tuple[SignatureParameters, bytes]:
    """Read the header fields of a request; returns what they say and the 64-byte signature.

    turn: the field holdfast-turn, "" for none. One that is not signed is as wrong as one that was left out.

    Raises Malformed for every form but the one that SignatureParameters writes: another label, order, tag or
    parameter, other covered parts, a second signature.
    """
    head, tail = _INPUT.fullmatch(signature_input), _SIGNATURE.fullmatch(signature)
    if head is None or tail is None:
        raise Malformed("request: signature fields are not of the form of this protocol")
    nonce = unb64u(head["nonce"])
    parameters = SignatureParameters(method, int(head["created"]), UUID(head["keyid"]), nonce, turn)
    # Written again and compared: the covered parts must be those of this very method. A POST signed without its digest
    # would otherwise carry any body.
    if parameters.text != head["params"]:
        raise Malformed("request: the signature covers other parts")
    octets = base64.b64decode(tail[1])
    # The last sign has four bits of no byte: one signature would have 16 spellings.
    if base64.b64encode(octets).decode() != tail[1]:
        raise Malformed("request: signature has stray bits")
    return parameters, octets
