# SPDX-License-Identifier: Apache-2.0
"""A person's word on their keys as an officer: by their account of now, about themselves."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity import chain, chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Reason
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast import statements as cast
from tests.cast.statements import AIK, ALICE, CAROL, LAPTOP, MALLORY_TENANT, NOW, USER, hash_of

SAID = OfficerStatement(USER, ALICE, SigningKey.generate().public, SealingKey.generate().public)
_, STATE = cast.begin()


def signed(said: OfficerStatement = SAID, key: SigningKey = AIK, purpose: Purpose = Purpose.OFFICER) -> Sign1:
    return cose.sign(said.to_payload(), purpose=purpose, key=key)


def verified(statement: Sign1, state: ChainState = STATE) -> OfficerStatement:
    return verify_officer_statement(statement, aik=state.aik, tenant=state.tenant, user=state.user)


def test_verify_returns_what_the_account_says() -> None:
    assert verified(signed()) == SAID
    again = replace(SAID, predecessor=hash_of("first"))
    assert verified(signed(again)) == again


def test_verify_refuses_another_signer_purpose_person_and_tenant() -> None:
    for wrong in (signed(key=SigningKey.generate()), signed(purpose=Purpose.CONSENT)):
        with pytest.raises(InvalidSignature):
            verified(wrong)
    for header in (replace(USER, user=CAROL), replace(USER, tenant=MALLORY_TENANT)):
        with pytest.raises(Untrusted, match="another person or tenant"):
            verified(signed(replace(SAID, header=header, person=header.user)))


def test_verify_refuses_an_identity_key_that_was_rotated_away() -> None:
    # A thief of a device that was revoked holds the former key: they would name keys of their own.
    rotated = chain.extend(
        STATE,
        chain_author.rotate_key(
            STATE, by=Author(LAPTOP, NOW, AIK), new_aik=(new := SigningKey.generate()), reason=Reason.SCHEDULE
        ),
    )
    with pytest.raises(InvalidSignature):
        verified(signed(), rotated)
    assert verified(signed(key=new), rotated) == SAID


@pytest.mark.parametrize(
    "wrong",
    [{7: CAROL}, {7: b""}, {8: SAID.sealing_key.encoded}, {9: SAID.signing_key.encoded}, {10: b""}, {3: b""}, {11: 1}],
    ids=["other person", "no person", "sealing for signing", "signing for sealing", "empty hash", "header", "unknown"],
)
def test_payload_refuses_what_is_outside_the_format(wrong: dict[int, Any]) -> None:
    plain: Any = decode(SAID.to_payload())
    with pytest.raises(Malformed):
        OfficerStatement.from_payload(encode({**plain, **wrong}))
