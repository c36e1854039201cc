# SPDX-License-Identifier: Apache-2.0
"""Log tokens: made in the console, shown once, good for reading the log over REST, and ended with the next request."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from audit import sequencer
from audit.models import Entry
from kernel.clock import database_now
from kernel.models import ReplayableAnswer
from kernel.scope import tenant_scope
from tenants import log_tokens
from tenants.models import LogToken
from tenants.states import WORKING_STATES, TenantState
from tests.cast.administrators import Administrator, administrator
from tests.cast.browsers import text_of
from tests.cast.tenants import Cast, build_world

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("log_token"),
]
READS = ("audit/entries", "audit/checkpoint", "audit/export", "audit/proof?index=0&size=1", "tiles/audit/0/0")
OPENED = ("audit-entries", "audit-checkpoint", "audit-export", "audit-proof", "audit-tile")


@pytest.fixture
def cast() -> Cast:
    return build_world()


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


@pytest.fixture
def text(cast: Cast, olivia: Administrator) -> str:
    return made(olivia)


def made(olivia: Administrator, **changes: str) -> str:
    page = olivia.do("log-token-create", **({"name": "SIEM", "days": "90"} | changes))
    found = re.search(r"hf_log_[A-Za-z0-9_-]{43}", page.content.decode())
    assert found, page.content.decode()
    return found[0]


def pull(text: str, path: str = "audit/entries", **headers: str) -> Any:
    return Client().get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {text}", **headers})


def tags(subject: Any) -> list[str]:
    return list(Entry.unscoped.filter(subject=str(subject)).order_by("seq").values_list("tag", flat=True))


def _place(kind: str) -> str:
    return {"uuid": "00000000-0000-4000-8000-000000000000", "int": "0"}.get(kind, "audit")


def _alike(answer: Any) -> tuple[int, bytes]:
    return answer.status_code, re.sub(rb'"server_time":"[^"]*"', b"", answer.content)


def test_token_is_shown_once_and_only_its_hash_is_stored(cast: Cast, olivia: Administrator) -> None:
    text = made(olivia)
    row = LogToken.unscoped.get()
    assert bytes(row.token_hash) == hashlib.sha256(text.encode()).digest()
    assert text not in olivia.client.get("/console/programs/").content.decode()
    assert not ReplayableAnswer.unscoped.exists()
    assert all(text not in str(entry.body) for entry in Entry.unscoped.all())


def test_token_reads_the_log_and_each_pull_is_an_entry(cast: Cast, text: str) -> None:
    sequencer.sequence(cast.acme.pk, "audit")
    answer = pull(text)
    assert answer.status_code == 200
    assert answer.json()["entries"]
    row = LogToken.unscoped.get()
    entry = Entry.unscoped.filter(tag="audit:entries:read").latest("seq")
    assert (entry.actor, entry.tenant_id, entry.person_id) == (f"log-token:{row.pk}", cast.acme.pk, None)
    assert row.last_used_on == database_now().date()
    sequencer.sequence(cast.acme.pk, "audit")
    for path in READS:
        answer = pull(text, path)
        assert answer.status_code == 200, (path, answer.content)
    lines = b"".join(pull(text, "audit/export").streaming_content)
    assert str(row.pk).encode() in lines


def test_it_is_read_anew_for_each_request(cast: Cast, olivia: Administrator, text: str) -> None:
    """FAULTS A5: revoked, expired, or its tenant stopped: over with the next request, in the words of an unknown."""
    unknown = pull("hf_log_" + "A" * 43)
    assert unknown.status_code == 401
    row = LogToken.unscoped.get()
    answers = []
    LogToken.unscoped.update(expires_at=database_now() - timedelta(seconds=1))
    answers.append(pull(text))
    LogToken.unscoped.update(expires_at=database_now() + timedelta(days=1))
    assert pull(text).status_code == 200
    for state in sorted(set(TenantState.values) - set(WORKING_STATES)):
        type(cast.acme).objects.filter(pk=cast.acme.pk).update(state=state)
        answers.append(pull(text))
    type(cast.acme).objects.filter(pk=cast.acme.pk).update(state=TenantState.ACTIVE)
    assert pull(text).status_code == 200
    assert olivia.do("log-token-revoke", row).status_code == 302
    answers.append(pull(text))
    assert tags(row.pk)[-1] == "tenants:log-token:revoke"
    assert {_alike(answer) for answer in answers} == {_alike(unknown)}
    assert olivia.look("log-token-revoke", row).status_code == 409


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic {}", "Bearer {} ", "Bearer {}x", "{}", "Bearer {},Bearer {}", "Bearer\t{}"],
)
def test_header_has_one_form(cast: Cast, text: str, header: str) -> None:
    answer = Client().get("/api/v1/audit/entries", headers={"Authorization": header.replace("{}", text)})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "bearer"])
def test_token_in_an_address_is_no_credential(cast: Cast, text: str, name: str) -> None:
    """FAULTS A9: addresses lie in logs, histories and referrers."""
    for path in READS:
        mark = "&" if "?" in path else "?"
        assert Client().get(f"/api/v1/{path}{mark}{name}={text}").status_code == 401
    assert Client(headers={"Cookie": f"{name}={text}"}).get("/api/v1/audit/entries").status_code == 401


def test_it_opens_the_reads_of_the_log_and_nothing_else(cast: Cast, text: str) -> None:
    from tests.faults.routes import api_routes

    opened = set()
    for route in api_routes():
        uri = "/" + re.sub(r"<(\w+):(\w+)>", lambda found: _place(found[1]), route.pattern)
        for method in (*route.methods, "HEAD"):
            headers = {"Authorization": f"Bearer {text}"}
            answer = Client().generic(method, uri, b"{}", content_type="application/json", headers=headers)
            if answer.status_code not in (401, 405) and route.name not in ("devices", "device-restored"):
                opened.add((route.name, method))
    assert opened == {(name, "GET") for name in OPENED}


def test_it_reads_its_own_tenants_log_alone(cast: Cast, text: str) -> None:
    theirs = administrator(cast.mallory)
    other = made(theirs, name="theirs")
    for tenant in (cast.acme, cast.other):
        sequencer.sequence(tenant.pk, "audit")
    subjects = {row["subject"] for row in pull(other, "audit/entries?limit=200").json()["entries"]}
    assert str(cast.mallory.pk) in subjects
    assert str(cast.olivia.pk) not in subjects
    theirs_row = LogToken.unscoped.get(name="theirs")
    assert administrator(cast.olivia).look("log-token-revoke", theirs_row).status_code == 404


def test_pulls_without_end_are_refused_and_take_nothing_from_others(
    cast: Cast, olivia: Administrator, text: str, settings: Any
) -> None:
    settings.HOLDFAST_REQUESTS_PER_CREDENTIAL = 0.05
    other = made(olivia, name="another")
    statuses = [pull(text, "audit/checkpoint").status_code for _ in range(6)]
    assert statuses[-1] == 429
    assert pull(other, "audit/checkpoint").status_code != 429


def test_guessing_is_refused_by_source(cast: Cast, text: str, settings: Any) -> None:
    settings.HOLDFAST_REFUSALS_PER_SOURCE = 0.05
    answers = [pull("hf_log_" + "A" * 43).status_code for _ in range(6)]
    assert answers[-1] == 429


@pytest.mark.parametrize("days", ["0", "366", "-1", "x", ""])
def test_life_is_one_of_those_offered(cast: Cast, olivia: Administrator, days: str) -> None:
    assert olivia.look("log-token-create", name="SIEM", days=days).status_code == 400
    assert not LogToken.unscoped.exists()


def test_longer_life_is_refused_below_the_form(cast: Cast) -> None:
    from kernel.actors import system_actor
    from kernel.errors import Invalid

    with tenant_scope(cast.acme.pk), pytest.raises(Invalid):
        log_tokens.create(name="x", life=timedelta(days=366), actor=system_actor(cast.acme.pk, "test"))


def test_only_so_many_are_open(cast: Cast, olivia: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tokens, "MAX_OPEN", 1)
    made(olivia)
    page = olivia.look("log-token-create", name="two", days="30")
    assert page.status_code == 409
    assert "as many log tokens as it may" in text_of(page)


def test_ended_ones_are_forgotten_after_three_months(cast: Cast, olivia: Administrator) -> None:
    made(olivia, name="open")
    made(olivia, name="lately")
    made(olivia, name="long ago")
    now = database_now()
    LogToken.unscoped.filter(name="lately").update(revoked_at=now - timedelta(days=80))
    LogToken.unscoped.filter(name="long ago").update(revoked_at=now - timedelta(days=91))
    log_tokens.sweep()
    assert set(LogToken.unscoped.values_list("name", flat=True)) == {"open", "lately"}


def test_caches_on_the_way_keep_callers_apart(cast: Cast, text: str) -> None:
    assert "Authorization" in pull(text)["vary"]
