# SPDX-License-Identifier: Apache-2.0
"""A signed statement for each purpose, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from holdfast.core.base.encoding import encode
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast.statements import PAYLOADS
from tests.published.mutations import malformed, rows

# The share manifest and the request are in contacts.json, chain entries in chains.json.
PURPOSES: Final = {
    "device": Purpose.DEVICE,
    "device on P-256": Purpose.DEVICE,
    "signed pre-key": Purpose.PREKEY,
    "classical signed pre-key": Purpose.PREKEY,
    "batch": Purpose.PREKEY,
    "sync": Purpose.SYNC,
    "sync of the officers' section": Purpose.SYNC,
    "door proof": Purpose.DOOR_PROOF,
    "officer": Purpose.OFFICER,
    "second officer": Purpose.OFFICER,
    "consent": Purpose.CONSENT,
    "escrow key": Purpose.ESCROW_KEY,
    "second escrow key": Purpose.ESCROW_KEY,
    "offline key": Purpose.OFFLINE_KEY,
    "policy": Purpose.POLICY,
    "second policy": Purpose.POLICY,
    "policy with a word to members": Purpose.POLICY,
    "deposit": Purpose.DEPOSIT,
    "archive": Purpose.ARCHIVE,
    "export": Purpose.EXPORT,
    "case": Purpose.CASE,
    "case of before": Purpose.CASE,
    "disclosure": Purpose.CASE,
    "first custody line": Purpose.CUSTODY,
    "closing custody line": Purpose.CUSTODY,
    "approval": Purpose.APPROVAL,
    "denial": Purpose.APPROVAL,
    "veto": Purpose.VETO,
    "attestation": Purpose.ATTESTATION,
    "officer away": Purpose.OFFICER_STATE,
    "officer suspended": Purpose.OFFICER_STATE,
    "withdrawal of a version": Purpose.RESOLUTION,
    "return of an officer": Purpose.RESOLUTION,
    "acknowledgement of a leaf": Purpose.RESOLUTION,
    "acceptance of a log": Purpose.RESOLUTION,
    "roles": Purpose.ROLES,
    "second roles": Purpose.ROLES,
}
_FORMS_EACH: Final = 20


def write() -> dict[str, object]:
    """Make the file anew: every key is fresh."""
    keys = {False: SigningKey.generate(), True: SigningKey.generate(KeyKind.P256_SIGNING)}
    made = [_statement(name, purpose, keys["P-256" in name]) for name, purpose in PURPOSES.items()]
    return {
        "page": "docs/formats/statements.md",
        "statements": made,
        "refused_payloads": [row for name in PURPOSES for row in _payloads(name)],
        "refused_statements": _statements(keys[False]),
    }


def _statement(name: str, purpose: Purpose, key: SigningKey) -> dict[str, object]:
    payload = PAYLOADS[name].to_payload()
    signed = cose.sign(payload, purpose=purpose, key=key)
    return {
        "name": name,
        "purpose": purpose.value,
        "external_aad": f"holdfast/v1/{purpose.value}",
        "signer": key.public.encoded.hex(),
        "payload": payload.hex(),
        "payload_hash": signed.payload_hash.hex(),
        "statement": signed.encode().hex(),
    }


def _payloads(name: str) -> list[dict[str, str]]:
    forms = malformed(PAYLOADS[name].to_payload())
    return rows(dict(list(forms.items())[:_FORMS_EACH]), name=name)


def _statements(key: SigningKey) -> list[dict[str, str]]:
    """Changes to one statement outside its payload; `veto` is the shortest."""
    payload = PAYLOADS["veto"].to_payload()
    good = cose.sign(payload, purpose=Purpose.VETO, key=key)
    other = cose.sign(payload, purpose=Purpose.VETO, key=SigningKey.generate())
    scalar, order = good.signature[32:], 2**252 + 27742317777372353535851937790883648493
    high = (int.from_bytes(scalar, "little") + order).to_bytes(32, "little")
    alg, kid = good.alg, good.kid
    protected: dict[str, dict[int, int | bytes]] = {
        "a protected header without kid": {1: alg},
        "a protected header without alg": {4: kid},
        "a protected header with another field": {1: alg, 3: 0, 4: kid},
        "ES256 for an Ed25519 key": {1: -7, 4: kid},
        "an algorithm that is none of ours": {1: -35, 4: kid},
        "a short kid": {1: alg, 4: kid[:-1]},
    }
    changed: dict[str, Sign1] = {
        "signed by another key": other,
        "another key's signature under this kid": replace(good, signature=other.signature),
        "signed for another purpose": cose.sign(payload, purpose=Purpose.CASE, key=key),
        "another payload": replace(good, payload=payload[:-1] + bytes((payload[-1] ^ 1,))),
        "a bit of R": replace(good, signature=bytes((good.signature[0] ^ 1,)) + good.signature[1:]),
        "a bit of S": replace(good, signature=good.signature[:-1] + bytes((good.signature[-1] ^ 1,))),
        "S + L": replace(good, signature=good.signature[:32] + high),
        "a signature of zeros": replace(good, signature=bytes(64)),
        "a short signature": replace(good, signature=good.signature[:-1]),
        **{why: replace(good, protected=encode(value)) for why, value in protected.items()},
    }
    octets = good.encode()
    forms = {why: one.encode() for why, one in changed.items()} | {
        "tagged": b"\xd2" + octets,
        "something in the unprotected header": encode([good.protected, {1: -8}, payload, good.signature]),
        "three parts": encode([good.protected, payload, good.signature]),
        "a detached payload": encode([good.protected, {}, b"", good.signature]),
        "cut by one byte": octets[:-1],
        "a byte after it": octets + b"\0",
        "an indefinite array": b"\x9f" + octets[1:] + b"\xff",
        "empty": b"",
    }
    return rows(forms, name="veto")
