# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes read back as written, in one form only."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import Encodable, b64u, encode, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.enrolment import EnrolmentCode, code_hash, founding_root

ID = st.binary(min_size=16, max_size=16)
HASH = st.one_of(st.just(b""), st.binary(min_size=32, max_size=32))
plain = st.builds(
    EnrolmentCode,
    tenant=ID,
    person=ID,
    secret=ID.map(SecretBytes),
    root_pin=HASH,
    log_vkey=st.text(alphabet=st.characters(codec="ascii"), max_size=150),
)
codes = plain | st.builds(lambda code, root: replace(code, root_pin=b"", founding_root=root), plain, HASH)
CODE = EnrolmentCode(b"t" * 16, b"p" * 16, SecretBytes(b"s" * 16), b"r" * 32, "acme+12345678+AAAA")


def with_checksum(octets: bytes) -> str:
    """Return the text of any fields: "hf2." and base64url of them and of 4 bytes over them."""
    checksum = hashlib.sha256(encode(["holdfast/v1/enrolment-checksum", octets])).digest()[:4]
    return "hf2." + b64u(octets + checksum)


@given(codes)
def test_parse_gives_back_what_text_wrote(code: EnrolmentCode) -> None:
    assert EnrolmentCode.parse(f" {code.text()}\n") == code


@given(st.text(max_size=200))
def test_parse_refuses_text_without_failing_otherwise(text: str) -> None:
    with pytest.raises(Malformed):
        EnrolmentCode.parse(text)


@given(st.binary(max_size=200))
def test_parse_accepts_no_second_spelling(octets: bytes) -> None:
    text = with_checksum(octets)
    try:
        code = EnrolmentCode.parse(text)
    except Malformed:
        return
    assert code.text() == text


BAD: dict[str, dict[int, Encodable]] = {
    "another version": {1: 2},
    "short tenant": {2: b"t" * 15},
    "short secret": {4: b"s" * 15},
    "short pin": {5: b"r" * 31},
    "empty vkey": {6: ""},
    "unknown field": {8: 1},
    "short founding root": {7: b"r" * 31},
    "a founding root beside a pin": {5: b"p" * 32, 7: b"r" * 32},
}


@pytest.mark.parametrize("case", BAD)
def test_parse_refuses(case: str) -> None:
    fields: dict[int, Encodable] = {1: 1, 2: b"t" * 16, 3: b"p" * 16, 4: b"s" * 16, **BAD[case]}
    with pytest.raises(Malformed):
        EnrolmentCode.parse(with_checksum(encode(fields)))


def test_a_code_pins_the_root_with_its_policy_or_without_and_never_both() -> None:
    with pytest.raises(ValueError, match="not both"):
        EnrolmentCode.new(tenant=b"t" * 16, person=b"p" * 16, root_pin=b"p" * 32, founding_root=b"r" * 32)


def test_founding_root_names_the_tenant_and_its_root() -> None:
    key, other = SigningKey.generate().public, SigningKey.generate().public
    roots = {founding_root(tenant, one) for tenant in (b"t" * 16, b"u" * 16) for one in (key, other)}
    assert {len(root) for root in roots} == {32}
    assert len(roots) == 4
    said = hashlib.sha256(encode(["holdfast/v1/founding-root", b"t" * 16, key.encoded])).digest()
    assert founding_root(b"t" * 16, key) == said


def test_fresh_codes_differ_and_never_show_their_secret() -> None:
    first, second = (EnrolmentCode.new(tenant=b"t" * 16, person=b"p" * 16) for _ in range(2))
    assert first.hash != second.hash
    assert first.secret.reveal().hex() not in repr(first)


def test_hash_depends_on_tenant_person_and_secret() -> None:
    base: dict[str, Any] = {"tenant": b"t" * 16, "person": b"p" * 16, "secret": SecretBytes(b"s" * 16)}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"tenant": b"u" * 16},
        {"person": b"q" * 16},
        {"secret": SecretBytes(b"z" * 16)},
    )
    assert len({code_hash(**(base | change)) for change in changes}) == 4


def test_code_has_the_length_a_person_can_paste() -> None:
    assert len(unb64u(CODE.text().removeprefix("hf2."))) < 160
