# SPDX-License-Identifier: Apache-2.0
"""A transcript of ceremonies verified on the auditor's own machine: two files and the root's key, and no server.

Implements PLATFORM "Audit" for what the operator wrote down. It proves who signed this text, and not that it is true.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.core.base.encoding import MAX_STATEMENT
from holdfast.core.base.errors import Malformed, Mistyped
from holdfast.core.identity.transcript import MAX_TEXT, SignedTranscript, verify_transcript
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.log_entry import log_origin

_PREFIX: Final = "holdfast/"


def verify(text: Path, signed: Path, *, root: str, log: str | None) -> SignedTranscript:
    """Hold the text in one file to the signatures in the other.

    root, log: verifier keys as people carry them; without `log` the root's signature alone is checked. Raises
    Mistyped for what is no such key, or a log key of another tenant's; Malformed, InvalidSignature and Untrusted.
    """
    verifier = _key(root)
    tenant = _tenant_of(verifier.name)
    log_key = _key(log) if log else None
    if log_key is not None and log_key.name not in (log_origin(str(tenant), one) for one in ("audit", "keys")):
        raise Mistyped("the log's key is not one of the root's organisation")
    return verify_transcript(
        _read(signed, MAX_STATEMENT),
        _read(text, MAX_TEXT),
        tenant=tenant.bytes,
        root_key=verifier.key,
        log_keys=None if log_key is None else [log_key.key],
    )


def _key(text: str) -> NoteVerifier:
    try:
        return NoteVerifier.from_text(text)
    except Malformed as error:
        raise Mistyped(f"the key given is none: {error}") from None


def _tenant_of(name: str) -> UUID:
    try:
        tenant = UUID(name.removeprefix(_PREFIX).removesuffix("/root"))
    except ValueError:
        raise Mistyped("the key given to trust is no organisation's root") from None
    if name != log_origin(str(tenant), "root"):
        raise Mistyped("the key given to trust is no organisation's root")
    return tenant


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        octets = file.read(most + 1)
    if len(octets) > most:
        raise Mistyped(f"{path.name} has more than {most} bytes")
    return octets
