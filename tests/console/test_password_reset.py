# SPDX-License-Identifier: Apache-2.0
"""A forgotten password: asking says nothing, the link alone does nothing, its owner's second factor does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from axes.models import AccessAttempt
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel import queue
from kernel.actors import system_actor
from kernel.models import Job
from kernel.scope import tenant_scope
from tenants import mails, resets, services, sign_in
from tenants.errors import ResetRefused
from tenants.models import Authenticator, Mail, PasswordReset, Person, RateWindow, Tenant
from tenants.resets import ASKED_PER_ACCOUNT, ASKED_PER_SOURCE, TRIES_PER_SOURCE
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.phones import audit_away
from tests.cast.tenants import PASSWORD, Cast, build_world, forget_codes, give_password, give_totp, sealing

pytestmark = pytest.mark.urls("tests.tenants.urls")
ASK, SIGN_IN, CODE, HOME = "/console/password-reset/", "/console/sign-in/", "/console/sign-in/code/", "/console/"
NEW = "another phrase that nobody guessed"


@pytest.fixture
def world(hsm: Hsm, db: None) -> Cast:
    made = sealing(build_world())
    give_password(made.carol)
    return made


@pytest.fixture
def key(world: Cast) -> SecretBytes:
    return give_totp(world.carol)


def ask(client: Client, email: str = "carol@acme.test", tenant: str = "acme", source: str = "192.0.2.1") -> Any:
    return client.post(ASK, {"tenant": tenant, "email": email}, REMOTE_ADDR=source)


def links() -> list[str]:
    """Let the worker send what waits, and return the links of all mails so far, as paths."""
    while queue.run_due(queue.MAIL):
        pass
    found = [re.search(r"http\S+(/console/password-reset/\S+)", str(one.body)) for one in mail.outbox]
    return [one[1] for one in found if one]


def link_of(client: Client, email: str = "carol@acme.test") -> str:
    ask(client, email)
    return links()[-1]


def send(client: Client, address: str, code: str, **changes: str) -> Any:
    return client.post(address, {"password": NEW, "again": NEW, "code": code} | changes)


def now(key: SecretBytes) -> str:
    return sign_in.totp_code(key, at=time.time())


def has(person: Person, password: str) -> bool:
    return bool(person.reload().check_password(password))


@pytest.mark.postgres
def test_link_and_code_set_a_new_password_and_end_every_session(world: Cast, client: Client) -> None:
    elsewhere = signed_in(world.carol)
    key = give_totp(world.carol)
    asked = ask(client)
    assert asked.status_code == 200
    [address] = links()
    [first] = mail.outbox
    assert first.to == ["carol@acme.test"]
    assert "192.0.2.1" in first.body
    page = client.get(address)
    assert (page.status_code, page["cache-control"]) == (200, "max-age=0, no-cache, no-store, must-revalidate, private")
    assert has(world.carol, PASSWORD), "opening the link changes nothing"
    done = send(client, address, now(key))
    assert (done.status_code, "new password is set" in text_of(done)) == (200, True)
    assert has(world.carol, NEW)
    assert elsewhere.get(HOME)["location"] == SIGN_IN
    assert links() == [address]
    assert "was changed" in mail.outbox[-1].subject
    found = list(Entry.unscoped.filter(subject=str(world.carol.pk)).order_by("seq").values_list("tag", flat=True))
    assert found[found.index("tenants:password-reset:issue") :] == [
        "tenants:password-reset:issue",
        "tenants:mail:hand-over",
        "tenants:password-reset:accept",
        "tenants:password:set",
        "tenants:mail:hand-over",
    ]
    forget_codes(world.carol)
    typed = {"tenant": "acme", "email": "carol@acme.test", "password": NEW}
    assert client.post(SIGN_IN, typed)["location"] == CODE
    assert client.post(CODE, {"code": now(key)})["location"] == HOME


def test_recovery_code_does_as_well_once_and_without_the_hsm(world: Cast, key: SecretBytes, client: Client) -> None:
    with tenant_scope(world.acme.pk):
        codes = sign_in.make_recovery_codes(person=world.carol, actor=system_actor(world.acme.pk, "ceremony"))
    address = link_of(client)

    def away() -> Any:
        raise HsmUnavailable("the token was removed")

    registry.install(away)
    refused = send(client, address, now(key))
    assert (refused.status_code, refused["retry-after"]) == (503, "5")
    assert "Nothing was used up" in text_of(refused)
    assert has(world.carol, PASSWORD)
    assert not AccessAttempt.objects.exists()
    assert send(client, address, codes[0]).status_code == 200
    assert has(world.carol, NEW)
    assert send(client, link_of(client), codes[0]).status_code == 401


def test_link_alone_and_codes_of_others_set_nothing(world: Cast, key: SecretBytes, client: Client) -> None:
    others, address = give_totp(world.dan), link_of(client)
    for code in ("", "000000", now(others), "aaaa-bbbb-cccc-dddd", "x" * 30):
        Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
        answer = send(client, address, code)
        assert (answer.status_code, has(world.carol, PASSWORD)) == (401, True), code
    assert Entry.unscoped.filter(tag="tenants:sign-in:refuse", subject=str(world.carol.pk)).count() == 5
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    assert send(client, address, now(key)).status_code == 200


def test_wrong_code_makes_the_next_wait_and_eight_lock_the_account(
    world: Cast, key: SecretBytes, client: Client
) -> None:
    address = link_of(client)
    send(client, address, "000000")
    assert Authenticator.objects.get(user=world.carol).throttling_failure_count == 1, "kept, though nothing was set"
    assert send(client, address, now(key)).status_code == 401, "the next one waits"
    for _ in range(5):
        send(client, address, "000000")
    locked = send(client, address, "000000")
    assert (locked.status_code, locked["retry-after"]) == (429, "900")
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    assert send(client, address, now(key)).status_code == 429
    typed = {"tenant": "acme", "email": "carol@acme.test", "password": PASSWORD}
    assert client.post(SIGN_IN, typed).status_code == 429, "one count for both pages"
    assert has(world.carol, PASSWORD)


def test_code_that_signed_in_sets_no_password(world: Cast, key: SecretBytes, client: Client) -> None:
    address, code = link_of(client), now(key)
    assert sign_in.accept_code(person=world.carol, code=code) is not None
    assert send(client, address, code).status_code == 401
    assert has(world.carol, PASSWORD)


def test_spent_code_of_the_reset_does_not_sign_in(world: Cast, key: SecretBytes, client: Client) -> None:
    code = now(key)
    assert send(client, link_of(client), code).status_code == 200
    assert sign_in.accept_code(person=world.carol, code=code) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"again": "something else entirely"}, "passwords differ"),
        ({"password": "short", "again": "short"}, "too short"),
    ],
)
def test_password_that_is_not_taken_spends_neither_link_nor_code(
    changes: dict[str, str], says: str, world: Cast, key: SecretBytes, client: Client
) -> None:
    address = link_of(client)
    refused = send(client, address, now(key), **changes)
    assert (refused.status_code, says in text_of(refused)) == (400, True)
    assert NEW not in refused.content.decode()
    assert send(client, address, now(key)).status_code == 200


REFUSING: dict[str, Callable[[Person, str], object]] = {
    "used": lambda person, address: PasswordReset.unscoped.update(used_at=timezone.now()),
    "expired": lambda person, address: PasswordReset.unscoped.update(expires_at=timezone.now() - timedelta(seconds=1)),
    "suspended": lambda person, address: Person.unscoped.filter(pk=person.pk).update(state="suspended"),
    "other-address": lambda person, address: Person.unscoped.filter(pk=person.pk).update(email_key="c@acme.test"),
    "other-password": lambda person, address: give_password(person, NEW),
    "tenant-ended": lambda person, address: Tenant.objects.filter(pk=person.tenant_id).update(state="ended"),
    "other-tenant": lambda person, address: PasswordReset.unscoped.update(
        tenant_id=Tenant.objects.get(slug="mallory-inc").pk
    ),
    "factors-reset": lambda person, address: _reset_factors(person),
}


def _reset_factors(person: Person) -> None:
    with tenant_scope(person.tenant_id):
        sign_in.reset_factors(person=person, actor=system_actor(person.tenant_id, "ceremony"))


@pytest.mark.parametrize("event", REFUSING)
def test_link_is_over(event: str, world: Cast, key: SecretBytes, client: Client) -> None:
    address = link_of(client)
    unknown = client.get(f"{ASK}{world.acme.pk}/{'A' * 22}/")
    assert unknown.status_code == 404
    REFUSING[event](world.carol, address)
    before = world.carol.reload().password
    for answer in (client.get(address), send(client, address, now(key), password=PASSWORD[::-1], again=PASSWORD[::-1])):
        assert (answer.status_code, answer.content) == (404, unknown.content)
    assert world.carol.reload().password == before


def test_wrong_links_are_one_page(world: Cast, key: SecretBytes, client: Client) -> None:
    token = link_of(client).rstrip("/").rpartition("/")[2]
    wrong = [
        f"{ASK}{world.other.pk}/{token}/",
        f"{ASK}{world.acme.pk}/{'A' * 22}/",
        f"{ASK}{world.acme.pk}/no-token/",
        f"{ASK}{world.acme.pk}/{token[:-1]}!/",
        f"{ASK}{UUID(int=0)}/{token}/",
    ]
    assert len({client.get(one).content for one in wrong}) == 1


def test_link_forwarded_to_somebody_who_is_signed_in_opens_nothing(
    world: Cast, key: SecretBytes, client: Client
) -> None:
    address, dan = link_of(client), signed_in(world.dan)
    assert dan.get(address).status_code == 404
    assert send(dan, address, now(key)).status_code == 404
    assert has(world.carol, PASSWORD)
    assert dan.get(HOME).status_code == 200, "and their own session goes on"


def test_two_who_opened_one_link_do_not_both_set_a_password(world: Cast, key: SecretBytes, client: Client) -> None:
    link_of(client)
    row = PasswordReset.unscoped.get()
    typed = {"tenant_id": world.acme.pk, "reset_id": row.pk, "password": SecretBytes(NEW.encode())}
    resets.accept(**typed, code=now(key))
    forget_codes(world.carol)
    with pytest.raises(ResetRefused):
        resets.accept(**(typed | {"password": SecretBytes(PASSWORD.encode())}), code=now(key))
    assert has(world.carol, NEW)


def test_first_link_used_ends_the_others(world: Cast, key: SecretBytes, client: Client) -> None:
    first, second = link_of(client), link_of(client)
    assert first != second
    assert send(client, first, now(key)).status_code == 200
    assert client.get(second).status_code == 404


def test_link_lasts_half_an_hour_and_its_row_is_swept(world: Cast, client: Client) -> None:
    link_of(client)
    row = PasswordReset.unscoped.get()
    assert timedelta(minutes=29) < row.expires_at - row.created_at <= timedelta(minutes=30, seconds=1)
    services.sweep()
    assert PasswordReset.unscoped.exists()
    PasswordReset.unscoped.update(expires_at=timezone.now() - timedelta(seconds=1))
    services.sweep()
    assert not PasswordReset.unscoped.exists()


def test_asking_is_answered_alike_with_the_same_statements_for_everybody(world: Cast, client: Client) -> None:
    Person.unscoped.filter(pk=world.dan.pk).update(state="suspended")
    with tenant_scope(world.acme.pk):
        services.create_person(email="ivy@acme.test", name="Ivy", actor=system_actor(world.acme.pk, "ceremony"))
    seen = {}
    for number, (email, tenant) in enumerate(
        [
            ("carol@acme.test", "acme"),
            ("alice@acme.test", "acme"),  # has no password and no authenticator
            ("dan@acme.test", "acme"),  # suspended
            ("ivy@acme.test", "acme"),  # invited
            ("nobody@acme.test", "acme"),
            ("carol@acme.test", "mallory-inc"),
            ("carol@acme.test", "no-such-tenant"),
            ("", ""),
            ("x" * 1000, "y" * 1000),
        ]
    ):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = ask(client, email, tenant, source=f"192.0.2.{number}")
        statements = tuple(re.sub(r"'[^']*'|[0-9a-f]{32}|\d+", "?", one["sql"]) for one in queries)
        seen[email, tenant] = (
            answer.status_code,
            answer.content,
            tuple(re.sub(r"\?+", "?", one)[:60] for one in statements),
        )
    assert len(set(seen.values())) == 1, seen
    assert links() != []
    assert {one.to[0] for one in mail.outbox} == {"carol@acme.test", "alice@acme.test"}


def test_asking_is_bounded_for_an_account_in_silence_and_for_a_source_aloud(world: Cast, client: Client) -> None:
    pages, sent = [], []
    for number in range(ASKED_PER_ACCOUNT + 3):
        pages.append(ask(client, source=f"192.0.2.{number}"))
        # Each is sent before the next is asked for: of two that wait, the newer alone is.
        sent = links()
    assert len({(page.status_code, page.content) for page in pages}) == 1
    assert len(sent) == ASKED_PER_ACCOUNT
    RateWindow.objects.all().delete()
    for number in range(ASKED_PER_SOURCE):
        assert ask(client, f"somebody-{number}@acme.test").status_code == 200
    refused = ask(client, "carol@acme.test")
    assert (refused.status_code, text_of(refused)) == (429, text_of(ask(client, "nobody@acme.test")))
    assert refused["retry-after"]


def test_links_are_not_guessed_without_end(world: Cast, client: Client) -> None:
    address = link_of(client)
    for _ in range(TRIES_PER_SOURCE):
        client.get(address)
    assert client.get(address).status_code == 429


def test_neither_job_nor_row_holds_the_link(world: Cast, client: Client) -> None:
    ask(client)
    [job] = Job.unscoped.filter(kind="tenants.password-reset")
    assert not PasswordReset.unscoped.exists()
    [address] = links()
    token = address.rstrip("/").rpartition("/")[2]
    row = PasswordReset.unscoped.get()
    assert token not in str(job.payload)
    for one in Job.unscoped.all():
        assert token not in str(one.payload)
    assert token not in str(list(Mail.unscoped.values()))
    assert (len(row.token_hash), token.encode() in bytes(row.token_hash)) == (32, False)


def test_mail_that_is_not_taken_is_tried_again_and_then_an_entry(world: Cast, client: Client, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 9, 1
    assert ask(client).status_code == 200, "the page says the same"
    for _ in range(mails.MAX_ATTEMPTS + 1):
        Job.unscoped.update(run_at=timezone.now() - timedelta(seconds=5))
        queue.run_due(queue.MAIL)
    assert Entry.unscoped.filter(tag="tenants:mail:fail", subject=str(world.carol.pk)).count() == 1
    assert Job.unscoped.get(kind="tenants.mail").state == "done"
    assert Mail.unscoped.get().state == "failed"


def test_nothing_is_set_without_its_entry(world: Cast, key: SecretBytes, client: Client) -> None:
    address = link_of(client)
    client.raise_request_exception = False
    with audit_away():
        assert send(client, address, now(key)).status_code in (500, 503)
    assert has(world.carol, PASSWORD)
    assert send(client, address, now(key)).status_code == 200, "neither link nor code was used up"


def test_pages_take_no_post_without_a_token_and_may_not_be_framed_or_cached(world: Cast, client: Client) -> None:
    strict, address = Client(enforce_csrf_checks=True), link_of(client)
    for one in (ASK, address):
        assert strict.post(one, {}).status_code == 403
        page = client.get(one)
        policy = page["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "no-store" in page["cache-control"]
        assert page["referrer-policy"] == "same-origin"
        assert not re.search(r"<script|<style|\son\w+=|style=", page.content.decode())


def test_planted_session_is_gone_after_the_reset(world: Cast, key: SecretBytes, client: Client) -> None:
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    send(client, link_of(client), now(key))
    assert not client.session.get("planted")
    assert client.session.session_key != planted


def test_sign_in_leads_to_the_page_and_the_page_says_where_to_go_without_factors(client: Client, db: None) -> None:
    assert f'href="{ASK}"' in client.get(SIGN_IN).content.decode()
    assert "Ask an owner of your organisation: two of them let you begin anew" in text_of(client.get(ASK))


def test_typed_text_is_escaped(world: Cast, client: Client) -> None:
    for _ in range(ASKED_PER_SOURCE + 1):
        page = ask(client, "<script>x</script>@acme.test", "<img src=x>")
    assert page.status_code == 429
    assert b"<script>x" not in page.content
    assert b"<img src=x" not in page.content
