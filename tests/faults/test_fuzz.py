# SPDX-License-Identifier: Apache-2.0
"""Goal G8: requests made from the OpenAPI document, right and wrong ones, signed by a device: no answer is a 5xx."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.faults.acts import Act
from tests.faults.routes import api_calls, api_routes
from tests.faults.world import VALID, Installation

pytestmark = pytest.mark.postgres
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
# Ours to set: a case with a wrong one would never get past the signature.
SIGNATURE = {"signature", "signature-input", "content-digest", "content-type", "content-length", "host"}


def _body(case: Any) -> bytes:
    if isinstance(case.body, bytes):
        return case.body
    return b"" if type(case.body).__name__ == "NotSet" else json.dumps(case.body).encode()


def _headers(case: Any) -> dict[str, str]:
    return {
        name: value
        for name, value in case.headers.items()
        if name.lower() not in SIGNATURE and name.isascii() and value.isascii() and value.isprintable()
    }


def act_of(case: Any, valid: Act, *, known: bool) -> Act:
    """Turn a generated case into a signed request, to the valid request's own address when `known`."""
    path = valid.uri.partition("?")[0] if known else case.formatted_path
    query = urlencode({name: str(value) for name, value in case.query.items()})
    uri = f"{path}?{query}" if query else path
    headers = {**valid.headers, **_headers(case)} if known else _headers(case)
    return Act(valid.signer, valid.method, uri, headers=headers)


def fuzz(installation: Installation, *, each: int, derandomize: bool) -> Counter[int]:
    """Try `each` cases of both modes on every operation; count the answers by status."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    found: Any = schemathesis.openapi.from_dict(document).get_all_operations()
    operations = [result.ok() for result in found]
    assert len(operations) == len(api_calls())
    templates = {route.template: route.name for route in api_routes()}
    statuses: Counter[int] = Counter()
    for operation in operations:
        with installation.undone():
            valid = VALID[templates[operation.path], operation.method.upper()](installation.acme)
            for mode in MODES:
                statuses += _try(operation.as_strategy(generation_mode=mode), valid, each, derandomize)
    return statuses


def _try(strategy: Any, valid: Act, each: int, derandomize: bool) -> Counter[int]:
    statuses: Counter[int] = Counter()

    @given(strategy)
    @settings(
        max_examples=each,
        database=None,
        derandomize=derandomize,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        # Half of the cases go to objects that there are, so that more than the address is tried.
        act = act_of(case, valid, known=statuses.total() % 2 == 0)
        response = act.send(_body(case))
        assert response.status_code < 500, (act, _body(case), response.content)
        statuses[response.status_code] += 1

    send()
    return statuses


def test_no_request_made_from_the_schema_is_a_server_error(installation: Installation) -> None:
    statuses = fuzz(installation, each=13, derandomize=True)
    assert statuses.total() >= 2_000
    assert statuses[200] + statuses[201] + statuses[204] >= 100, "hardly any case got past the edge"


@pytest.mark.soak("requests")
def test_no_request_made_from_the_schema_is_a_server_error_in_100_000(installation: Installation) -> None:
    statuses = fuzz(installation, each=1_150, derandomize=False)
    assert statuses.total() >= 100_000
