# SPDX-License-Identifier: Apache-2.0
"""A tenant whose database was put back: it answers what is asked, and nothing of it is changed, on every route."""

from __future__ import annotations

import pytest

from audit import restored
from kernel.scope import tenant_scope
from tests.faults.routes import api_calls, changed, picture
from tests.faults.world import VALID, Installation

pytestmark = pytest.mark.postgres
# What goes on: officers accept the backup, and devices show what they hold.
GOES_ON = {("audit-head", "POST"), ("escrow-resolutions", "POST")}


@pytest.mark.parametrize(("name", "method"), sorted(api_calls()))
def test_every_route_but_the_way_out_only_looks_while_a_backup_is_not_accepted(
    name: str, method: str, installation: Installation
) -> None:
    act = VALID[name, method](installation.acme)
    with tenant_scope(installation.acme.tenant_id):
        restored.mark(by="sequencer")
    before = picture()
    response = act.send()
    if method == "GET" or (name, method) in GOES_ON:
        assert response.status_code in (200, 201), response.content
        return
    assert response.status_code == 503, response.content
    assert (response.json()["code"], response["retry-after"]) == ("log-restored", "60")
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method"), sorted(call for call in api_calls() if call[1] != "GET"))
def test_one_tenants_mark_is_nobody_elses_trouble(name: str, method: str, installation: Installation) -> None:
    with tenant_scope(installation.other.tenant_id):
        restored.mark(by="client")
    response = VALID[name, method](installation.acme).send()
    assert response.status_code in (200, 201, 204), response.content
