# SPDX-License-Identifier: Apache-2.0
"""Signed requests: what is let in, and that everything else is one and the same refusal."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms

from audit.access import asked_for
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.signed.requests import content_digest
from kernel.actors import system_actor
from kernel.scope import UnscopedQuery, current_tenant, tenant_scope
from tenants import services
from tenants.authentication import heard_lately
from tenants.limits import leases
from tenants.models import Credential, Nonce, Tenant
from tenants.roles import Role
from tests.cast.tenants import Cast, Signer, changed, make_device, make_person, make_service, send

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
PROBE = "/api/v1/probe"


def test_accepts_a_signed_request_and_opens_its_tenants_scope(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    answer = device.send(client, "GET", PROBE)
    assert answer.status_code == 200
    assert answer.json() == {"actor": f"device:{device.id}", "role": "member", "tenant": str(world.acme.pk)}
    with pytest.raises(UnscopedQuery):
        current_tenant()


def test_tenant_that_was_heard_within_a_minute_is_one_whose_log_is_signed_anew(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    assert heard_lately() == set()
    device.send(client, "GET", PROBE)
    assert heard_lately() == asked_for() == {world.acme.pk}
    Nonce.objects.update(expires_at=timezone.now() + timedelta(seconds=239))
    assert heard_lately() == set()


def test_accepts_p256_keys_and_service_accounts(world: Cast, client: Client) -> None:
    assert make_device(world.bob, kind=KeyKind.P256_SIGNING).send(client, "POST", PROBE, b"{}").status_code == 200
    service = make_service(world.acme)
    answer = service.send(client, "GET", PROBE)
    assert (answer.json()["actor"], answer.json()["role"]) == (f"service:{service.id}", "service")


def test_accepts_what_the_reference_library_signs(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    body = b'{"a": 1}'

    class Message:
        method = "POST"
        url = f"http://testserver{PROBE}?x=1&y=a%20b"
        headers: ClassVar = {"Content-Digest": content_digest(body)}

    key = device.key._private
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.ED25519,
        key_resolver=MappingKeyResolver(public_keys={}, private_keys={str(device.id): key}),
    )
    signer.sign(
        Message,
        key_id=str(device.id),
        nonce="A" * 22,
        label="sig1",
        tag="holdfast-v1",
        include_alg=False,
        use_existing_digest=True,
        covered_component_ids=("@method", "@target-uri", "content-digest"),
    )
    assert send(client, "POST", f"{PROBE}?x=1&y=a%20b", body, Message.headers).status_code == 200


def test_verification_takes_one_select_and_one_spending_statement(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    # The first of a day is noted, and tokens of its buckets are taken in advance.
    assert device.send(client, "POST", PROBE, b"{}").status_code == 200
    words = statements_of(lambda: device.send(client, "POST", PROBE, b"{}"))
    assert words == ["SELECT", "INSERT"]
    leases.forget()
    # PostgreSQL takes the tokens of four buckets in the statement that spends the nonce; SQLite in a transaction.
    words = statements_of(lambda: device.send(client, "POST", PROBE, b"{}"))
    spending = ["WITH"] if connection.vendor == "postgresql" else ["INSERT"] * 5
    assert words == ["SELECT", *spending]


def statements_of(send: Callable[[], Any]) -> list[str]:
    """Return the first word of each statement of a request that is let in."""
    with CaptureQueriesContext(connection) as queries:
        assert send().status_code == 200
    return [query["sql"].split()[0] for query in queries]


def _unsigned(device: Signer) -> dict[str, str]:
    return {"Content-Digest": content_digest(b"{}")}


def _with(change: Callable[[dict[str, str]], object]) -> Callable[[Signer], dict[str, str]]:
    def headers(device: Signer) -> dict[str, str]:
        signed = device.headers("POST", PROBE, b"{}")
        change(signed)
        return signed

    return headers


def _swap(name: str, old: str, new: str) -> Callable[[Signer], dict[str, str]]:
    def change(headers: dict[str, str]) -> None:
        assert old in headers[name]
        headers[name] = headers[name].replace(old, new)

    return _with(change)


def _upper(headers: dict[str, str], keyid: str) -> dict[str, str]:
    return headers | {"Signature-Input": headers["Signature-Input"].replace(keyid, keyid.upper())}


def _drop(name: str) -> Callable[[Signer], dict[str, str]]:
    return _with(lambda headers: headers.pop(name))


BAD_HEADERS: dict[str, Callable[[Signer], dict[str, str]]] = {
    "no signature": _unsigned,
    "no signature field": _drop("Signature"),
    "no input field": _drop("Signature-Input"),
    "no digest": _drop("Content-Digest"),
    "another body's digest": lambda device: device.headers("POST", PROBE, b"{} "),
    "digest swapped after signing": _with(lambda h: h.update({"Content-Digest": content_digest(b"[]")})),
    "digest of another algorithm": lambda d: d.headers("POST", PROBE, digest="sha-512=:AAAA:"),
    "another method": lambda device: device.headers("PUT", PROBE, b"{}"),
    "a method without body": lambda device: device.headers("GET", PROBE),
    "another address": lambda device: device.headers("POST", PROBE + "/", b"{}"),
    "another query": lambda device: device.headers("POST", PROBE + "?a=1", b"{}"),
    "another tag": _swap("Signature-Input", "holdfast-v1", "holdfast-v2"),
    "another label": _with(lambda h: h.update({k: v.replace("sig1=", "sig2=") for k, v in h.items()})),
    "an alg parameter": _swap("Signature-Input", ";tag=", ';alg="ed25519";tag='),
    "an expires parameter": _swap("Signature-Input", ";keyid", ";expires=9999999999;keyid"),
    "fewer covered parts": _swap("Signature-Input", ' "content-digest"', ""),
    "two signatures": _with(lambda h: h.update({"Signature": h["Signature"] + ", " + h["Signature"]})),
    "upper-case key id": lambda device: _upper(device.headers("POST", PROBE, b"{}"), str(device.id)),
    "an unknown key": lambda device: changed(device, id=uuid.uuid4()).headers("POST", PROBE, b"{}"),
    "another's key": lambda device: changed(device, key=SigningKey.generate()).headers("POST", PROBE, b"{}"),
    "too old": lambda device: changed(device, shift=-62).headers("POST", PROBE, b"{}"),
    "of the future": lambda device: changed(device, shift=62).headers("POST", PROBE, b"{}"),
    "of no time at all": _swap("Signature-Input", "created=", "created=9"),
    "a token instead": lambda device: {"Authorization": "Bearer abc"},
    "rubbish": lambda device: {"Signature-Input": "\x00é", "Signature": "sig1=::"},
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_refuses_every_bad_signature_with_one_answer(case: str, world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    answer = send(client, "POST", PROBE, b"{}", BAD_HEADERS[case](device))
    problem = answer.json()
    assert answer.status_code == 401
    assert abs(time.time() - _seconds(problem.pop("server_time"))) < 5
    assert problem == {
        "type": "http://testserver/docs/problems#unauthenticated",
        "title": "The request is not signed by a key that is registered and active.",
        "status": 401,
        "code": "unauthenticated",
        "detail": "The request's signature was not accepted.",
    }
    assert answer["content-type"] == "application/problem+json"
    assert not Nonce.objects.exists(), "a refused request must not spend anybody's nonce"


def _seconds(text: str) -> float:
    from datetime import UTC, datetime

    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("shift", [-55, 55])
def test_accepts_a_clock_that_is_a_minute_wrong(shift: int, world: Cast, client: Client) -> None:
    assert changed(make_device(world.alice), shift=shift).send(client, "GET", PROBE).status_code == 200


def test_refuses_a_replay_word_for_word(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    headers = device.headers("POST", PROBE, b"{}")
    assert send(client, "POST", PROBE, b"{}", headers).status_code == 200
    assert send(client, "POST", PROBE, b"{}", headers).status_code == 401


def test_refuses_a_nonce_twice_from_one_device_and_takes_it_from_another(world: Cast, client: Client) -> None:
    nonce = secrets.token_bytes(16)
    alice, bob = (changed(make_device(who), nonce=nonce) for who in (world.alice, world.bob))
    assert alice.send(client, "GET", PROBE).status_code == 200
    assert alice.send(client, "GET", PROBE + "?a=1").status_code == 401
    assert bob.send(client, "GET", PROBE).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_lets_one_of_sixteen_simultaneous_replays_in() -> None:
    from tests.cast.tenants import build_world

    device = make_device(build_world().alice)
    headers = device.headers("POST", PROBE, b"{}")
    start, answers = threading.Barrier(16), []

    def replay() -> None:
        start.wait()
        answers.append(send(Client(), "POST", PROBE, b"{}", headers).status_code)
        connections.close_all()

    threads = [threading.Thread(target=replay) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [401] * 15


def test_keeps_a_nonce_until_its_signature_is_too_old(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    changed(device, shift=50).send(client, "GET", PROBE)
    [nonce] = Nonce.objects.all()
    assert 340 < (nonce.expires_at - timezone.now()).total_seconds() < 353
    assert services.sweep() == 0
    Nonce.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert services.sweep() == 1
    assert not Nonce.objects.exists()


@pytest.mark.parametrize("minutes", [1, 4])
def test_clock_that_is_set_back_lets_nothing_be_replayed(
    minutes: int, world: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = changed(make_device(world.alice), shift=55)
    headers = device.headers("POST", PROBE, b"{}")
    assert send(client, "POST", PROBE, b"{}", headers).status_code == 200
    # The clock ran ahead until the signature was long too old, what was too old was swept, and then it was set right.
    ahead = timezone.now() + timedelta(minutes=minutes, seconds=55)
    with monkeypatch.context() as patch:
        patch.setattr("tenants.services.database_now", lambda: ahead)
        services.sweep()
    assert send(client, "POST", PROBE, b"{}", headers).status_code == 401


def _act(world: Cast, device: Signer, what: str) -> None:
    actor = system_actor(world.acme.pk, "test")
    with tenant_scope(world.acme.pk):
        match what:
            case "suspend the person":
                services.suspend_person(person=world.alice, actor=actor)
            case "suspend the credential":
                services.suspend_credential(credential_id=device.id, actor=actor)
            case "revoke the credential":
                services.revoke_credential(credential_id=device.id, actor=actor)
            case "suspend the tenant" | "end the tenant":
                state = "suspended" if what == "suspend the tenant" else "ended"
                Tenant.objects.filter(pk=world.acme.pk).update(state=state)
            case "let the person go":
                type(world.alice).unscoped.filter(pk=world.alice.pk).update(state="left")


BARRED = {
    "suspend the person": ("access-suspended", "Your account is suspended."),
    "let the person go": ("access-suspended", "Your account here has ended."),
    "suspend the credential": ("access-suspended", "This device or program is suspended."),
    "revoke the credential": ("device-revoked", "This device was revoked"),
    "suspend the tenant": ("access-suspended", "Your organisation is suspended."),
    "end the tenant": ("access-suspended", "Your organisation has ended here."),
}


@pytest.mark.parametrize("what", BARRED)
def test_refuses_from_the_next_request_on_and_says_to_the_keys_holder_alone_why(
    what: str, world: Cast, client: Client
) -> None:
    device = make_device(world.alice)
    assert device.send(client, "GET", PROBE).status_code == 200
    _act(world, device, what)
    spent = Nonce.objects.count()
    answer = device.send(client, "GET", PROBE)
    code, detail = BARRED[what]
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.json()["detail"].startswith(detail)
    assert answer["www-authenticate"]
    assert Nonce.objects.count() == spent
    for other in (changed(device, key=SigningKey.generate()), changed(device, shift=-90)):
        stranger = other.send(client, "GET", PROBE)
        assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("state", ["invited", "suspended", "locked", ""])
def test_refuses_devices_of_whoever_is_not_active(state: str, world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    type(world.alice).unscoped.filter(pk=world.alice.pk).update(state=state)
    assert device.send(client, "GET", PROBE).status_code == 401


def test_demotion_counts_from_the_next_request(world: Cast, client: Client) -> None:
    device = make_device(world.carol)
    assert device.send(client, "PUT", PROBE, b"{}").status_code == 200
    with tenant_scope(world.acme.pk):
        services.change_role(person=world.carol, role=Role.MEMBER, actor=system_actor(world.acme.pk, "test"))
    assert device.send(client, "PUT", PROBE, b"{}").status_code == 403


def test_pending_device_has_the_small_set_only(world: Cast, client: Client) -> None:
    device = make_device(world.carol, active=False)
    assert device.send(client, "POST", PROBE, b"{}").status_code == 200
    assert device.send(client, "PUT", PROBE, b"{}").status_code == 403


@pytest.mark.parametrize("who", ["olivia", "rex", "otto", "alice"])
def test_only_officers_devices_pass_where_approval_is_asked(who: str, world: Cast, client: Client) -> None:
    assert make_device(getattr(world, who)).send(client, "PUT", PROBE, b"{}").status_code == 403


def test_service_account_is_denied_where_approval_is_asked(world: Cast, client: Client) -> None:
    assert make_service(world.acme).send(client, "PUT", PROBE, b"{}").status_code == 403


def test_method_that_no_view_declared_is_not_allowed(world: Cast, client: Client) -> None:
    device = make_device(world.carol)
    assert device.send(client, "DELETE", PROBE).status_code == 405
    assert device.send(client, "OPTIONS", PROBE).status_code == 405
    assert device.send(client, "HEAD", PROBE).status_code == 200


def test_body_above_the_addresss_limit_is_refused_before_it_is_read(world: Cast, client: Client) -> None:
    body = b" " * 1001
    answer = make_device(world.alice).send(client, "POST", PROBE, body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_session_is_no_credential_for_rest(world: Cast, client: Client) -> None:
    client.force_login(world.carol)
    assert client.get(PROBE).status_code == 401


def test_person_of_another_tenant_lends_a_forged_credential_nothing(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_credential SET person_id = %s", [_param(world.mallory.pk)])
    assert device.send(client, "GET", PROBE).status_code == 401


def _param(value: uuid.UUID) -> Any:
    return value if connection.features.has_native_uuid_field else value.hex


def test_enrolment_addresses_take_nobody_as_authenticated(world: Cast, client: Client) -> None:
    answer = make_device(world.alice).send(client, "POST", "/api/v1/open", b"{}")
    assert answer.json() == {"actor": "anonymous"}


def test_same_device_id_in_two_tenants_acts_in_the_tenant_of_the_key(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    twin = make_device(world.mallory, device_id=device.id)
    for signer, tenant in ((device, world.acme), (twin, world.other)):
        answer = signer.send(client, "GET", PROBE)
        assert (answer.status_code, answer.json()["tenant"]) == (200, str(tenant.pk))
    assert changed(device, key=SigningKey.generate()).send(client, "GET", PROBE).status_code == 401
    with tenant_scope(world.acme.pk):
        services.revoke_credential(credential_id=device.id, actor=system_actor(world.acme.pk, "test"))
    assert [one.send(client, "GET", PROBE).status_code for one in (device, twin)] == [401, 200]


def test_nonce_and_requests_of_one_tenants_device_are_not_spent_by_another_tenants(
    world: Cast, client: Client, settings: Any
) -> None:
    settings.HOLDFAST_REQUESTS_PER_CREDENTIAL = 1 / 60  # one in a minute's bucket
    device = make_device(world.alice)
    twin = make_device(world.mallory, device_id=device.id)
    nonce = secrets.token_bytes(16)
    for signer in (device, twin):
        assert changed(signer, nonce=nonce).send(client, "GET", PROBE).status_code == 200
    for signer in (device, twin):
        assert changed(signer, nonce=nonce).send(client, "GET", PROBE).status_code == 401
        assert signer.send(client, "GET", PROBE).status_code == 429


def test_same_device_id_with_the_same_key_is_of_one_tenant(world: Cast) -> None:
    from kernel.errors import Conflict

    device = make_device(world.alice)
    with pytest.raises(Conflict):
        make_device(world.mallory, device_id=device.id, key=device.key)


def test_who_copies_a_device_id_takes_no_place_of_the_one_who_had_it(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    for number in range(8):
        tenant = services.create_tenant(slug=f"copy-{number}", name=f"Copy {number}", actor=system_actor(None, "test"))
        with tenant_scope(tenant.pk):
            person = make_person("copier", Role.MEMBER)
        last = make_device(person, device_id=device.id)
    assert device.send(client, "GET", PROBE).status_code == 200
    with CaptureQueriesContext(connection) as queries:
        assert last.send(client, "GET", PROBE).status_code == 401, "the ninth of an id is not looked for"
    assert len(queries) == 1


def test_key_that_is_not_safe_is_refused_at_registration(world: Cast) -> None:
    from holdfast.core.base.errors import Malformed

    with tenant_scope(world.acme.pk):
        person = make_person("zoe", Role.MEMBER)
        for bad in (b"", b"\x01" + b"\x00" * 32, b"\x02" + b"\x09" * 32, b"\x01" + b"\xff" * 32):
            with pytest.raises(Malformed):
                services.register_credential(
                    credential_id=uuid.uuid4(), person_id=person.pk, public_key=bad, actor=system_actor(None, "test")
                )


def used_on(credential_id: UUID) -> date | None:
    found: date | None = Credential.unscoped.get(id=credential_id).last_used_on
    return found


def writes(device: Signer, client: Client) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert device.send(client, "GET", PROBE).status_code == 200
    return sum(query["sql"].startswith("UPDATE") for query in queries)


def test_last_use_is_noted_to_the_day_by_one_write_a_day(world: Cast, client: Client) -> None:
    device, today = make_device(world.alice), timezone.now().date()
    assert used_on(device.id) is None
    assert [writes(device, client) for _ in range(3)] == [1, 0, 0]
    assert used_on(device.id) == today
    Credential.unscoped.filter(id=device.id).update(last_used_on=today - timedelta(days=3))
    assert [writes(device, client) for _ in range(2)] == [1, 0]
    assert used_on(device.id) == today
    # A day that is wrong does not stay: of a database whose clock was ahead.
    Credential.unscoped.filter(id=device.id).update(last_used_on=today + timedelta(days=400))
    assert writes(device, client) == 1
    assert used_on(device.id) == today


def test_request_that_is_refused_is_no_use(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    assert device.send(client, "GET", PROBE, Signature="sig=:AAAA:").status_code == 401
    assert changed(device, shift=-3600).send(client, "GET", PROBE).status_code == 401
    assert used_on(device.id) is None


def test_namesake_in_another_tenant_is_not_in_use_with_a_device(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    namesake = make_device(world.people["mallory"], device_id=device.id)
    assert device.send(client, "GET", PROBE).status_code == 200
    rows = dict(Credential.unscoped.filter(id=device.id).values_list("tenant_id", "last_used_on"))
    assert rows[world.other.pk] is None
    assert rows[world.acme.pk] is not None
    assert namesake.send(client, "GET", PROBE).status_code == 200
