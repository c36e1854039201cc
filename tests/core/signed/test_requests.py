# SPDX-License-Identifier: Apache-2.0
"""The signed parts of a request agree with the reference library, and exactly one form of them is read."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver, algorithms
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import Malformed
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.requests import (
    WINDOW_SECONDS,
    SignatureParameters,
    components,
    content_digest,
    digest_matches,
    parse_signature,
)

URI = "https://holdfast.example/api/v1/devices?after=a%20b"
SOME = SignatureParameters("POST", 1_800_000_000, uuid.UUID(int=7), bytes(range(16)))
FIELDS = SOME.fields(b"s" * 64)

parameters = st.builds(
    SignatureParameters,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
    created=st.integers(1, 10**12 - 1),
    keyid=st.uuids(),
    nonce=st.binary(min_size=16, max_size=16),
)


class Message:
    def __init__(self, method: str, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = method, URI, headers


@given(parameters, st.binary(max_size=100))
def test_base_is_the_one_of_the_reference_library(said: SignatureParameters, body: bytes) -> None:
    digest = content_digest(body) if "content-digest" in components(said.method) else ""
    message = Message(said.method, {"Content-Digest": digest} if digest else {})
    import base64
    from datetime import UTC, datetime

    prepared = HTTPMessageSigner(signature_algorithm=algorithms.ED25519).prepare(
        message,
        key_id=str(said.keyid),
        created=datetime.fromtimestamp(said.created % 10**10, UTC),
        nonce=base64.urlsafe_b64encode(said.nonce).decode().rstrip("="),
        label="sig1",
        tag="holdfast-v1",
        include_alg=False,
        use_existing_digest=bool(digest),
        covered_component_ids=components(said.method),
    )
    ours = SignatureParameters(said.method, said.created % 10**10, said.keyid, said.nonce)
    assert ours.base(target_uri=URI, digest=digest) == prepared.signature_base
    assert ours.text == prepared.signature_params


def test_reference_library_verifies_what_we_sign() -> None:
    import time
    from datetime import timedelta

    key, body = SigningKey.generate(), b"{}"
    said = SignatureParameters("PUT", int(time.time()), uuid.uuid4(), b"n" * 16)
    digest = content_digest(body)
    headers = said.fields(key.sign(said.base(target_uri=URI, digest=digest))) | {"Content-Digest": digest}
    resolver = MappingKeyResolver(public_keys={str(said.keyid): key.public.parsed}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=resolver)
    [result] = verifier.verify(
        Message("PUT", headers),
        max_age=timedelta(seconds=WINDOW_SECONDS),
        expect_tag="holdfast-v1",
        require_components=components("PUT"),
        body=body,
    )
    assert result.parameters["keyid"] == str(said.keyid)


@given(parameters, st.binary(min_size=64, max_size=64))
def test_parse_gives_back_what_fields_wrote(said: SignatureParameters, signature: bytes) -> None:
    fields = said.fields(signature)
    assert parse_signature(said.method, fields["Signature-Input"], fields["Signature"]) == (said, signature)


@given(st.text(max_size=300), st.text(max_size=120))
def test_parse_refuses_text_without_failing_otherwise(first: str, second: str) -> None:
    with pytest.raises(Malformed):
        parse_signature("POST", first, second)


@given(st.data())
def test_parse_accepts_no_second_spelling(data: st.DataObject) -> None:
    text = FIELDS["Signature-Input"]
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    try:
        said, _ = parse_signature("POST", changed, FIELDS["Signature"])
    except Malformed:
        return
    assert said.fields(b"s" * 64)["Signature-Input"] == changed


BAD: dict[str, Any] = {
    "order": lambda t: t.replace(";created=1800000000", "").replace(";tag", ";created=1800000000;tag"),
    "leading zero": lambda t: t.replace("created=1", "created=01"),
    "negative": lambda t: t.replace("created=1", "created=-1"),
    "space": lambda t: t.replace(";keyid", "; keyid"),
    "fewer parts": lambda t: t.replace(' "@target-uri"', ""),
    "more parts": lambda t: t.replace('"@method"', '"@method" "host"'),
    "parts reordered": lambda t: t.replace('"@method" "@target-uri"', '"@target-uri" "@method"'),
    "parameter on a part": lambda t: t.replace('"@method"', '"@method";req'),
    "stray nonce bits": lambda t: t.replace("DA0ODw", "DA0ODx"),
    "newline": lambda t: t + "\n",
    "two": lambda t: f"{t}, sig2=()",
}


@pytest.mark.parametrize("case", BAD)
def test_parse_refuses_another_form(case: str) -> None:
    changed = BAD[case](FIELDS["Signature-Input"])
    assert changed != FIELDS["Signature-Input"]
    with pytest.raises(Malformed):
        parse_signature("POST", changed, FIELDS["Signature"])


@pytest.mark.parametrize("text", ["sig1=::", "sig1=:AA==:", FIELDS["Signature"].replace("c3M", "c3N", 1) + " "])
def test_parse_refuses_a_signature_of_another_form(text: str) -> None:
    with pytest.raises(Malformed):
        parse_signature("POST", FIELDS["Signature-Input"], text)


def test_parse_refuses_stray_bits_in_the_signature() -> None:
    stray = FIELDS["Signature"].replace("==:", "==:").replace("cw==", "cx==")
    assert stray != FIELDS["Signature"]
    with pytest.raises(Malformed):
        parse_signature("POST", FIELDS["Signature-Input"], stray)


def test_digest_is_the_one_of_rfc_9530() -> None:
    # RFC 9530, appendix B.1.
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert digest_matches(content_digest(b""), b"")
    assert not digest_matches(content_digest(b""), b" ")
    assert not digest_matches("é", b"")


@pytest.mark.parametrize("uri", ["https://x/\n", "https://x/é", "https://x/\t"])
def test_base_refuses_what_is_not_one_line_of_ascii(uri: str) -> None:
    with pytest.raises(Malformed):
        SOME.base(target_uri=uri, digest=content_digest(b""))
