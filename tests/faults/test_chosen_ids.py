# SPDX-License-Identifier: Apache-2.0
"""Ids that clients choose (FAULTS T1): one that another tenant has is answered like one of the own tenant's."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from tests.faults.chosen import MAKERS
from tests.faults.world import Installation

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("kind", MAKERS)
def test_id_of_another_tenant_is_refused_as_one_of_the_own_tenant_is(kind: str, installation: Installation) -> None:
    make, model = MAKERS[kind]
    own = model.unscoped.filter(tenant_id=installation.acme.tenant_id).first()
    foreign = model.unscoped.filter(tenant_id=installation.other.tenant_id).first()
    assert own is not None
    assert foreign is not None
    answers = [make(installation.acme, row.pk).send() for row in (own, foreign)]
    assert [answer.status_code for answer in answers] == [409, 409], [answer.content for answer in answers]
    assert answers[0].content == answers[1].content
    assert dict(answers[0].headers) == dict(answers[1].headers)
    assert make(installation.acme, uuid.uuid4()).send().status_code == 201


def test_request_to_contacts_that_another_device_made_is_not_handed_back(installation: Installation) -> None:
    one = installation.acme
    asked = one.contacts.asking(one.phone("alice"))
    assert asked.send().status_code == 201
    copied = replace(asked, signer=one.signer("bob")).send()
    assert copied.status_code == 422, copied.content
