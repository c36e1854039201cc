# SPDX-License-Identifier: Apache-2.0
"""What the operator's ceremony holds a row of the founders' roster to."""

from __future__ import annotations

import pytest

from config.ceremonies import CeremonyRefused
from config.ceremonies.founding import require_stated
from holdfast.core.base.errors import InvalidSignature, Untrusted
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.identity.policy import Officer
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from tests.cast import statements as cast
from tests.cast.statements import AIK, ALICE, USER

_, STATE = cast.begin()
SIGNING, SEALING = SigningKey.generate().public, SealingKey.generate().public
SAID = OfficerStatement(USER, ALICE, SIGNING, SEALING)
ROW = Officer(1, STATE.user, SIGNING, SEALING)


def stated(row: Officer, key: SigningKey = AIK) -> None:
    statement = cose.sign(SAID.to_payload(), purpose=Purpose.OFFICER, key=key).encode()
    require_stated(row, statement, aik=STATE.aik, tenant=STATE.tenant)


def test_row_with_the_keys_that_its_persons_account_states_is_taken() -> None:
    stated(ROW)


@pytest.mark.parametrize(
    "row",
    [
        Officer(1, STATE.user, SigningKey.generate().public, SEALING),
        Officer(1, STATE.user, SIGNING, SealingKey.generate().public),
    ],
    ids=["signing", "sealing"],
)
def test_row_with_other_keys_is_refused(row: Officer) -> None:
    with pytest.raises(CeremonyRefused, match="other keys in the row of officer 1"):
        stated(row)


def test_statement_of_another_account_or_about_another_person_is_refused() -> None:
    with pytest.raises(InvalidSignature):
        stated(ROW, SigningKey.generate())
    with pytest.raises(Untrusted):
        stated(Officer(1, b"m" * 16, SIGNING, SEALING))
