# SPDX-License-Identifier: Apache-2.0
"""Signed requests with the bytes that are signed, and header fields that are none of this protocol's."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.signed.requests import SignatureParameters, content_digest
from tests.cast.statements import LAPTOP, NOW

SERVER: Final = "https://holdfast.example/api/v1"
KEYID: Final = UUID(bytes=LAPTOP)
REQUESTS: Final = (
    ("GET", f"{SERVER}/users/{KEYID}/chain?after=3", b""),
    ("POST", f"{SERVER}/devices/{KEYID}/claim", b"{}"),
    ("PUT", f"{SERVER}/vault", b'{"blob":"AA"}'),
    ("DELETE", f"{SERVER}/vault/doors/phrase", b""),
)


def write() -> dict[str, object]:
    """Make the file anew: both keys are fresh."""
    keys = (SigningKey.generate(), SigningKey.generate(KeyKind.P256_SIGNING))
    made = [_request(key, *request) for key in keys for request in REQUESTS]
    return {
        "page": "docs/formats/requests.md",
        "requests": made,
        "refused": [{"why": why, "method": "POST", **fields} for why, fields in _refused(made[1]).items()],
    }


def _request(key: SigningKey, method: str, uri: str, body: bytes) -> dict[str, str]:
    parameters = SignatureParameters(method, NOW, KEYID, bytes(range(16)))
    digest = "" if method == "GET" else content_digest(body)
    base = parameters.base(target_uri=uri, digest=digest)
    made = {"method": method, "target_uri": uri, "body": body.hex(), "signer": key.public.encoded.hex()}
    fields = {"Content-Digest": digest} if digest else {}
    return made | {"base": base.decode()} | fields | parameters.fields(key.sign(base))


def _refused(good: dict[str, str]) -> dict[str, dict[str, str]]:
    given, signature = good["Signature-Input"], good["Signature"]
    inputs = {
        "another label": given.replace("sig1=", "sig2="),
        "two signatures": f"{given}, {given.replace('sig1=', 'sig2=')}",
        "a part left out": given.replace('"@method" ', ""),
        "no digest": given.replace(' "content-digest"', ""),
        "parts in another order": given.replace('"@method" "@target-uri"', '"@target-uri" "@method"'),
        "a part more": given.replace('"@method"', '"@method" "date"'),
        "no time": given.replace(f";created={NOW}", ""),
        "a time with a zero before it": given.replace("created=", "created=0"),
        "a time that is a string": given.replace(f"created={NOW}", f'created="{NOW}"'),
        "a negative time": given.replace("created=", "created=-"),
        "no nonce": given.replace(';nonce="AAECAwQFBgcICQoLDA0ODw"', ""),
        "a short nonce": given.replace("DA0ODw", "DA0ODg"[:-2]),
        "a nonce with stray bits": given.replace("DA0ODw", "DA0ODx"),
        "an upper-case keyid": given.replace(str(KEYID), str(KEYID).upper()),
        "another tag": given.replace("holdfast-v1", "holdfast-v2"),
        "no tag": given.replace(';tag="holdfast-v1"', ""),
        "a parameter more": f'{given};alg="ed25519"',
        "a space after it": f"{given} ",
        "empty": "",
    }
    signatures = {
        "another label in Signature": signature.replace("sig1=", "sig2="),
        "a short signature": signature.replace("=:", "=:AAAA", 1)[:40] + ":",
        "no padding": signature.replace("==:", ":"),
        "base64url": "sig1=:" + "-_" * 43 + "==:",
        "something after it": signature + " x",
        "no signature": "",
    }
    return {why: {"Signature-Input": one, "Signature": signature} for why, one in inputs.items()} | {
        why: {"Signature-Input": given, "Signature": one} for why, one in signatures.items()
    }
