# SPDX-License-Identifier: Apache-2.0
"""The ground under the fault tests: every valid request is accepted, and every route has one."""

from __future__ import annotations

import pytest

from tests.faults.world import VALID, Installation


@pytest.mark.parametrize(("name", "method"), sorted(VALID))
def test_valid_request_is_accepted(name: str, method: str, installation: Installation) -> None:
    for one in (installation.acme, installation.other):
        answer = VALID[name, method](one).send()
        assert answer.status_code in (200, 201, 202, 204), answer.content
