# SPDX-License-Identifier: Apache-2.0
"""A transcript of ceremonies as root and log key signed it: the text that people read, held to both signatures.

Implements the statement `transcript` of PROTOCOL section 3. It is the operator's word of what they did: that nothing
was changed since is proven here, that it was true then is not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.errors import InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.signed.cose import Purpose, Sign1, parse_many
from holdfast.core.signed.payloads import HASH_SIZE, Header, close_payload, open_payload, require_tenant_only

# Bytes of text. A ceremony writes some ten lines of a hundred bytes: room for two hundred of them.
MAX_TEXT: Final = 256 * 1024
_SIGNERS: Final = 2


@dataclass(frozen=True)
class SignedTranscript:
    """What was found to be signed. issued_at: UTC seconds. is_by_log: whether a log key's signature was checked too."""

    issued_at: int
    is_by_log: bool


def transcript_payload(header: Header, text: bytes) -> bytes:
    """Return the payload bytes for a text. header: of the tenant alone."""
    return close_payload(header, {7: hashlib.sha256(text).digest()})


def verify_transcript(
    signed: bytes, text: bytes, *, tenant: bytes, root_key: PublicKey, log_keys: Iterable[PublicKey] | None
) -> SignedTranscript:
    """Check that the tenant root, and one of the log keys, signed this very text.

    log_keys: every key that the log has or had; None when nobody gave one, and the root's signature is all that is
    checked. Raises Malformed, InvalidSignature; Untrusted for another tenant's, or another text.
    """
    statements = parse_many(signed)
    if len(statements) != _SIGNERS:
        raise Malformed("transcript: not of two signers")
    by_name = {one.kid: one for one in statements}
    header, fields = open_payload(statements[0].payload, "transcript", (7,))
    require_tenant_only(header, "transcript")
    _take(by_name, [root_key], "the tenant root")
    if log_keys is not None:
        _take(by_name, log_keys, "a key of the log")
    if header.tenant != tenant:
        raise Untrusted("a transcript of another tenant")
    if not hmac.compare_digest(fields.octets(7, HASH_SIZE), hashlib.sha256(text).digest()):
        raise Untrusted("the text is not the one that was signed")
    return SignedTranscript(header.issued_at, log_keys is not None)


def _take(by_name: dict[bytes, Sign1], keys: Iterable[PublicKey], whose: str) -> None:
    # Each key takes its own statement away: a root that is a log key too would otherwise count as both.
    for key in keys:
        if key.kid in by_name:
            by_name.pop(key.kid).verify(key, purpose=Purpose.TRANSCRIPT)
            return
    raise InvalidSignature(f"the transcript is not signed by {whose}")
