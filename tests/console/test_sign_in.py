# SPDX-License-Identifier: Apache-2.0
"""Signing in to the console: the order of steps, equal refusals, locks, and when a session ends."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import Argon2PasswordHasher, make_password
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from audit import services as audit
from audit.models import Entry, Tally
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import hashing, services, sign_in
from tenants.models import Authenticator, Person, SignInPlace, Tenant
from tenants.roles import Role
from tests.cast.founded import Hsm
from tests.cast.tenants import PASSWORD, Cast, build_world, forget_codes, give_password, give_totp, sealing

pytestmark = pytest.mark.urls("tests.tenants.urls")
SIGN_IN, CODE, HOME = "/console/sign-in/", "/console/sign-in/code/", "/console/"


@pytest.fixture
def world(hsm: Hsm, db: None) -> Cast:
    return sealing(build_world())


@pytest.fixture
def keys(world: Cast) -> dict[str, SecretBytes]:
    keys = {}
    for name in ("carol", "dan"):
        give_password(getattr(world, name))
        keys[name] = give_totp(getattr(world, name))
    return keys


def password_step(client: Client, name: str = "carol", password: str = PASSWORD, **fields: str) -> Any:
    source = fields.pop("source", "192.0.2.1")
    typed = {"tenant": "acme", "email": f"{name}@acme.test", "password": password, **fields}
    return client.post(SIGN_IN, typed, REMOTE_ADDR=source)


def code_step(client: Client, code: str, source: str = "192.0.2.1") -> Any:
    return client.post(CODE, {"code": code}, REMOTE_ADDR=source)


def code_now(key: SecretBytes) -> str:
    return sign_in.totp_code(key, at=time.time())


def is_in(client: Client) -> bool:
    return bool(client.get(HOME).status_code == 200)


def tags() -> list[str]:
    return list(Entry.unscoped.filter(tag__startswith="tenants:sign").order_by("seq").values_list("tag", flat=True))


@pytest.mark.postgres
def test_signs_in_with_password_and_code_and_records_it(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    answer = password_step(client, tenant=" ACME ", email="Carol@ACME.test")
    assert (answer.status_code, answer["location"]) == (302, CODE)
    answer = code_step(client, code_now(keys["carol"]))
    assert (answer.status_code, answer["location"]) == (302, HOME)
    page = client.get(HOME)
    assert page.content.decode() == f"person:{world.carol.pk} {world.acme.pk}"
    assert page["cache-control"] == "no-store"
    assert tags() == ["tenants:sign-in:accept"]
    assert client.post("/console/sign-out/")["location"] == SIGN_IN
    assert not is_in(client)
    assert tags()[-1] == "tenants:sign-out:accept"


def test_password_alone_signs_nobody_in(world: Cast, keys: dict[str, SecretBytes], client: Client) -> None:
    password_step(client)
    assert client.get(HOME)["location"] == SIGN_IN


def test_code_without_password_leads_back_to_the_password(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    assert code_step(client, code_now(keys["carol"]))["location"] == SIGN_IN
    assert client.get(CODE)["location"] == SIGN_IN
    assert not is_in(client)


@pytest.mark.parametrize(("name", "other"), [("carol", "dan"), ("dan", "carol")])
def test_code_of_another_person_is_refused_and_ones_own_taken(
    name: str, other: str, world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    password_step(client, name)
    assert code_step(client, code_now(keys[other])).status_code == 401
    assert not is_in(client)
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    code_step(client, code_now(keys[name]))
    assert is_in(client)


def test_complete_sign_in_forgives_its_account(world: Cast, client: Client) -> None:
    give_password(world.carol)
    for turn in range(2):
        key = give_totp(world.carol)
        for number in range(6):
            password_step(client, password="wrong", source=f"192.0.{turn}.{number}")
        source = f"198.51.100.{turn}"
        assert password_step(client, source=source).status_code == 302
        assert code_step(client, code_now(key), source)["location"] == HOME


def test_code_is_accepted_once(world: Cast, keys: dict[str, SecretBytes], client: Client) -> None:
    code = code_now(keys["carol"])
    password_step(client)
    code_step(client, code)
    again = Client()
    password_step(again)
    assert code_step(again, code).status_code == 401
    assert not is_in(again)


@pytest.mark.parametrize("steps", [-2, 2, 3, 10])
def test_code_more_than_a_step_away_is_refused(steps: int, world: Cast, client: Client) -> None:
    give_password(world.carol)
    key = give_totp(world.carol)
    Authenticator.objects.update(last_t=-1)
    password_step(client)
    assert code_step(client, sign_in.totp_code(key, at=time.time() + 30 * steps)).status_code == 401


def test_accepted_early_code_does_not_move_the_clock_forward(world: Cast, client: Client) -> None:
    give_password(world.carol)
    key = give_totp(world.carol)
    for steps, accepted in ((1, True), (2, False)):
        browser = Client()
        password_step(browser)
        code = sign_in.totp_code(key, at=time.time() + 30 * steps)
        assert (code_step(browser, code).status_code == 302) == accepted


def test_second_step_without_the_hsm_says_so_counts_nothing_and_takes_a_recovery_code(
    world: Cast, keys: dict[str, SecretBytes], client: Client, hsm: Hsm
) -> None:
    with tenant_scope(world.acme.pk):
        codes = sign_in.make_recovery_codes(person=world.carol, actor=system_actor(world.acme.pk, "ceremony"))
    code = code_now(keys["carol"])
    password_step(client)

    def away() -> Any:
        raise HsmUnavailable("the token was removed")

    registry.install(away)
    for typed in (code, "000000", *["111111"] * 8):
        answer = code_step(client, typed)
        assert (answer.status_code, answer["retry-after"]) == (503, "5")
        assert "Nothing was used up or counted" in answer.content.decode()
        assert "input" in answer.content.decode(), "the form is there, for a recovery code"
    assert tags() == []
    assert not AccessAttempt.objects.exists()
    other = Client()
    password_step(other)
    assert code_step(other, codes[0])["location"] == HOME
    hsm.install()
    assert code_step(client, code)["location"] == HOME


def test_person_without_authenticator_gets_no_further(world: Cast, client: Client) -> None:
    give_password(world.erin)
    assert password_step(client, "erin")["location"] == CODE
    assert code_step(client, "000000").status_code == 401


def test_half_signed_in_browser_starts_again_after_five_minutes(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    password_step(client)
    session = client.session
    session["half_signed_in"]["at"] -= 301
    session.save()
    assert code_step(client, code_now(keys["carol"]))["location"] == SIGN_IN


@pytest.mark.parametrize("event", ["a new password", "a new role", "suspension"])
def test_half_signed_in_browser_starts_again_after(
    event: str, world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    password_step(client)
    carol, actor = Person.unscoped.get(pk=world.carol.pk), system_actor(None, "test")
    with tenant_scope(world.acme.pk):
        match event:
            case "a new password":
                give_password(carol, "another long password of carol")
            case "a new role":
                services.change_role(person=carol, role=Role.REVIEWER, actor=actor)
            case _:
                services.suspend_person(person=carol, actor=actor)
    assert code_step(client, code_now(keys["carol"]))["location"] == SIGN_IN


def test_half_signed_in_browser_starts_again_after_five_wrong_codes(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    password_step(client)
    for _ in range(5):
        assert code_step(client, "000000").status_code == 401
    assert code_step(client, code_now(keys["carol"]))["location"] == SIGN_IN


def test_session_id_changes_at_every_step(world: Cast, keys: dict[str, SecretBytes], client: Client) -> None:
    client.get(SIGN_IN)
    client.cookies["sessionid"] = "planted" + "0" * 25
    password_step(client)
    half = client.cookies["sessionid"].value
    code_step(client, code_now(keys["carol"]))
    whole = client.cookies["sessionid"].value
    assert len({"planted" + "0" * 25, half, whole}) == 3
    stale = Client()
    stale.cookies["sessionid"] = half
    assert not is_in(stale)


@pytest.fixture
def hashings() -> Iterator[list[int]]:
    """Counts Argon2id runs, of both kinds."""
    count = [0]
    encode, verify = Argon2PasswordHasher.encode, Argon2PasswordHasher.verify

    def counted_encode(self: Any, *args: Any) -> str:
        count[0] += 1
        return encode(self, *args)

    def counted_verify(self: Any, *args: Any) -> bool:
        count[0] += 1
        return verify(self, *args)

    with mock.patch.multiple(Argon2PasswordHasher, encode=counted_encode, verify=counted_verify):
        yield count


UNKNOWN = {
    "a wrong password": {},
    "an unknown person": {"email": "nobody@acme.test"},
    "an invited person": {"email": "ivy@acme.test"},
    "a person without password": {"email": "erin@acme.test"},
    "a suspended person": {"email": "dan@acme.test"},
    "a person with a second factor": {"email": "olivia@acme.test"},
    "an unknown organisation": {"tenant": "nosuch"},
    "an unknown organisation's unknown person": {"tenant": "nosuch", "email": "nobody@acme.test"},
    "a suspended organisation": {"tenant": "asleep", "email": "amy@acme.test"},
}


def test_refusals_are_equal_in_text_status_queries_and_hashing(world: Cast, hashings: list[int]) -> None:
    give_password(world.carol)
    give_password(world.dan)
    with tenant_scope(world.acme.pk):
        ivy = services.create_person(email="ivy@acme.test", name="Ivy", actor=system_actor(None, "test"))
        give_password(ivy)
        services.suspend_person(person=world.dan, actor=system_actor(None, "test"))
    give_password(world.people["olivia"])
    give_totp(world.people["olivia"])
    asleep = services.create_tenant(slug="asleep", name="Asleep", actor=system_actor(None, "test"))
    with tenant_scope(asleep.pk):
        give_password(services.create_person(email="amy@acme.test", name="Amy", actor=system_actor(None, "test")))
    Tenant.objects.filter(pk=asleep.pk).update(state="suspended")
    seen = set()
    for index, (case, fields) in enumerate(UNKNOWN.items()):
        hashings[0] = 0
        right = "wrong" if case in ("a wrong password", "a person with a second factor") else PASSWORD
        with CaptureQueriesContext(connection) as queries:
            answer = password_step(Client(), password=right, source=f"192.0.2.{index}", **fields)
        email, tenant = fields.get("email", "carol@acme.test"), fields.get("tenant", "acme")
        body = answer.content.decode().replace(email, "EMAIL").replace(f'value="{tenant}"', 'value="TENANT"')
        body = re.sub(r'csrfmiddlewaretoken" value="\w+"', "", body)
        statements = tuple(query["sql"].split()[0] for query in queries)
        seen.add((answer.status_code, body, hashings[0], statements))
    assert len(seen) == 1
    [(status, _, hashed, _)] = seen
    assert (status, hashed) == (401, 1)


def test_unknown_organisation_is_refused_in_the_same_words(world: Cast, hashings: list[int], client: Client) -> None:
    give_password(world.carol)
    hashings[0] = 0
    answer = password_step(client, tenant="nosuch")
    assert (answer.status_code, hashings[0]) == (401, 1)
    assert "This did not match." in answer.content.decode()


@pytest.mark.postgres
def test_account_is_locked_after_eight_failures_wherever_they_come_from(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    for number in range(8):
        answer = password_step(client, password="wrong", source=f"192.0.2.{number}")
    assert answer.status_code == 429
    assert answer["retry-after"] == "900"
    assert password_step(client, source="198.51.100.1").status_code == 429, "the right password waits too"
    assert password_step(client, "dan", source="198.51.100.1").status_code == 302, "other officers are not affected"
    assert tags() == ["tenants:sign-in:refuse"] * 7 + ["tenants:sign-in:lock"]


@pytest.fixture
def ahead() -> Callable[[], AbstractContextManager[None]]:
    """Put this process two hours ahead, as a clock does that jumps, for as long as the context is open."""

    @contextmanager
    def two_hours() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            wall, now = time.time, timezone.now
            patch.setattr(time, "time", lambda: wall() + 7200)
            patch.setattr(timezone, "now", lambda: now() + timedelta(hours=2))
            patch.setattr("axes.handlers.proxy.now", timezone.now)
            yield

    return two_hours


def test_lock_of_a_clock_that_was_ahead_opens_when_it_is_set_right(
    world: Cast, keys: dict[str, SecretBytes], client: Client, ahead: Any
) -> None:
    """FAULTS W10a: it would last for two hours more than it is long."""
    with ahead():
        for number in range(8):
            answer = password_step(client, password="wrong", source=f"192.0.2.{number}")
        assert answer.status_code == 429
    assert password_step(client).status_code == 302
    for number in range(8):
        answer = password_step(client, password="wrong", source=f"198.51.100.{number}")
    assert answer.status_code == 429, "failures count as ever"


def test_officer_who_signed_in_while_the_clock_was_ahead_signs_in(world: Cast, client: Client, ahead: Any) -> None:
    give_password(world.carol)
    key = give_totp(world.carol)
    with ahead():
        of_the_future = code_now(key)
        password_step(client)
        assert code_step(client, of_the_future)["location"] == HOME
    again = Client()
    password_step(again)
    code = code_now(key)
    assert code_step(again, code).status_code == 302
    password_step(third := Client())
    assert code_step(third, code).status_code == 401, "each code once"
    with ahead():  # two hours later
        password_step(fourth := Client())
        assert code_step(fourth, of_the_future).status_code == 401, "also the one of the future, when its time has come"


def test_wrong_code_while_the_clock_was_ahead_makes_nobody_wait_for_it(world: Cast, ahead: Any) -> None:
    give_password(world.carol)
    key = give_totp(world.carol)
    with ahead():
        assert sign_in.accept_code(person=world.carol, code="000000") is None
    assert sign_in.accept_code(person=world.carol, code=code_now(key)) is None, "the wait of a second begins anew"
    Authenticator.objects.update(throttling_failure_timestamp=F("throttling_failure_timestamp") - timedelta(seconds=2))
    assert sign_in.accept_code(person=world.carol, code=code_now(key)) is not None


def test_half_signed_in_browser_of_a_clock_that_was_ahead_starts_again(
    world: Cast, keys: dict[str, SecretBytes], client: Client, ahead: Any
) -> None:
    with ahead():
        password_step(client)
    assert code_step(client, code_now(keys["carol"]))["location"] == SIGN_IN


def test_lock_opens_after_the_cooling_off(world: Cast, keys: dict[str, SecretBytes], client: Client) -> None:
    for number in range(8):
        password_step(client, password="wrong", source=f"192.0.2.{number}")
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert password_step(client).status_code == 302


def test_source_is_locked_after_eight_failures_on_whatever_accounts(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    for number in range(8):
        answer = password_step(client, f"guess{number}")
    assert answer.status_code == 429
    assert password_step(client).status_code == 429
    assert password_step(client, source="198.51.100.1").status_code == 302


def test_complete_sign_in_does_not_forgive_its_source(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    for number in range(7):
        password_step(client, f"guess{number}")
    password_step(client)
    code_step(client, code_now(keys["carol"]))
    assert password_step(client, "guess").status_code == 429


def test_wrong_codes_count_against_the_account_like_wrong_passwords(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    for number in range(4):
        password_step(client, source=f"192.0.2.{number}")
        code_step(client, "000000", source=f"192.0.2.{number}")
        password_step(client, password="wrong", source=f"192.0.2.{number + 10}")
    assert password_step(client, source="198.51.100.1").status_code == 429


def test_what_was_typed_is_kept_nowhere(world: Cast, client: Client) -> None:
    password_step(client, "someone-private", password="my real password")
    password_step(client, password="another of mine")
    kept = repr(list(AccessAttempt.objects.values())) + repr(list(Entry.unscoped.values()))
    for typed in ("someone-private", "my real password", "another of mine", "carol@"):
        assert typed not in kept


@pytest.mark.postgres
def test_strangers_failures_do_not_keep_an_account_out_where_it_signed_in_before(
    world: Cast, keys: dict[str, SecretBytes], client: Client
) -> None:
    office = "198.51.100.9"
    password_step(client, source=office)
    assert code_step(client, code_now(keys["carol"]), source=office).status_code == 302
    # Eight guesses at others from the same office, as behind one address or a proxy that was forgotten in the list …
    for number in range(9):
        sprayed = password_step(Client(), f"guess{number}", source=office)
    assert sprayed.status_code == 429
    # … and eight at this account from elsewhere.
    for number in range(9):
        guessed = password_step(Client(), password="wrong", source=f"192.0.2.{number}")
    assert guessed.status_code == 429
    assert password_step(Client(), source=office).status_code == 302, "the officer is where they have been before"
    assert password_step(Client(), "dan", source=office).status_code == 429, "who is new there waits with the sprayer"
    assert password_step(Client(), source="203.0.113.5").status_code == 429, "so does this account from anywhere new"
    # Their own account is guarded there as well.
    for _ in range(8):
        password_step(Client(), password="wrong", source=office)
    assert password_step(Client(), source=office).status_code == 429


def test_known_places_are_ten_and_a_quarter_old_at_most(world: Cast, keys: dict[str, SecretBytes]) -> None:
    for number in range(12):
        browser, source = Client(), f"198.51.100.{number}"
        forget_codes(world.carol)
        password_step(browser, source=source)
        assert code_step(browser, code_now(keys["carol"]), source=source).status_code == 302
    assert SignInPlace.objects.count() == 10
    kept = set(SignInPlace.objects.values_list("source", flat=True))
    assert {"198.51.100.0", "198.51.100.1"} & kept == set()
    SignInPlace.objects.filter(source="198.51.100.11").update(last_at=timezone.now() - timedelta(days=91))
    for number in range(8):
        password_step(Client(), password="wrong", source=f"192.0.2.{number}")
    assert password_step(Client(), source="198.51.100.10").status_code == 302
    assert password_step(Client(), source="198.51.100.11").status_code == 429
    services.sweep()
    assert SignInPlace.objects.count() == 9


def test_strangers_passwords_are_hashed_a_few_at_a_time_and_nobody_waits_behind_them_who_is_known(
    world: Cast, keys: dict[str, SecretBytes], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = "198.51.100.9"
    password_step(client, source=office)
    assert code_step(client, code_now(keys["carol"]), source=office).status_code == 302
    rooms = hashing._Room(), hashing._Room()
    monkeypatch.setattr(hashing, "_strangers", rooms[0])
    monkeypatch.setattr(hashing, "_known", rooms[1])
    with ExitStack() as stack:
        for _ in range(hashing._AT_A_TIME):
            stack.enter_context(hashing.turn(is_known=False))
        monkeypatch.setattr(hashing, "_WAIT_SECONDS", 0.1)
        late = password_step(Client(), source="192.0.2.50")
        assert (late.status_code, late["retry-after"]) == (429, "2")
        assert "Many people sign in" in late.content.decode()
        assert password_step(Client(), source=office).status_code == 302
        for _ in range(hashing._ADMITTED - hashing._AT_A_TIME):
            assert rooms[0]._admitted.acquire(blocking=False)
        monkeypatch.setattr(hashing, "_WAIT_SECONDS", 60.0)
        assert password_step(Client(), source="192.0.2.51").status_code == 429, "without waiting for a minute"
    assert AccessAttempt.objects.count() == 0, "who was not tried has not failed"
    assert password_step(Client(), source="192.0.2.50").status_code == 302


@pytest.mark.postgres
def test_no_stranger_locks_out_every_officer(world: Cast, client: Client) -> None:
    officers = ("carol", "dan", "erin")
    for name in officers:
        give_password(getattr(world, name))
        for number in range(12):
            password_step(Client(), name, password="wrong", source=f"192.0.2.{number}")
    open_now = [name for name in officers if password_step(Client(), name, source="198.51.100.1").status_code == 302]
    assert len(open_now) == 1
    [still] = open_now
    for _ in range(8):
        password_step(Client(), still, password="wrong", source="203.0.113.5")
    assert password_step(Client(), still, source="203.0.113.5").status_code == 429, "the guesser is stopped"
    assert password_step(Client(), still, source="198.51.100.1").status_code == 302, "and the person is not"


def test_only_officer_is_never_locked_by_others(world: Cast) -> None:
    with tenant_scope(world.other.pk):
        services.change_role(person=_second_owner(), role=Role.OFFICER, actor=system_actor(None, "test"))
    olga = Person.unscoped.get(email="olga@acme.test")
    give_password(olga)
    for number in range(20):
        password_step(Client(), "olga", password="wrong", tenant="mallory-inc", source=f"192.0.2.{number}")
    assert password_step(Client(), "olga", tenant="mallory-inc", source="198.51.100.1").status_code == 302


def _second_owner() -> Person:
    from tests.cast.tenants import make_person

    return make_person("olga", Role.OWNER)


def test_stolen_password_cannot_keep_the_authenticator_shut(world: Cast, client: Client) -> None:
    give_password(world.carol)
    key = give_totp(world.carol)
    for _ in range(40):
        Authenticator.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(days=9999))
        assert sign_in.accept_code(person=world.carol, code="000000") is None
    Authenticator.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(seconds=257))
    assert sign_in.accept_code(person=world.carol, code=code_now(key)) is not None


@pytest.fixture
def signed_in(world: Cast, keys: dict[str, SecretBytes], client: Client) -> Client:
    password_step(client)
    code_step(client, code_now(keys["carol"]))
    assert is_in(client)
    return client


EVENTS = ["a new password", "a new role", "suspension", "a new authenticator", "the tenant's suspension"]


@pytest.mark.parametrize("event", EVENTS)
def test_session_ends_with_the_next_request_after(event: str, world: Cast, signed_in: Client) -> None:
    carol, actor = Person.unscoped.get(pk=world.carol.pk), system_actor(None, "test")
    with tenant_scope(world.acme.pk):
        match event:
            case "a new password":
                give_password(carol, "another long password of carol")
            case "a new role":
                services.change_role(person=carol, role=Role.REVIEWER, actor=actor)
            case "suspension":
                services.suspend_person(person=carol, actor=actor)
            case "a new authenticator":
                give_totp(carol)
            case _:
                Tenant.objects.filter(pk=world.acme.pk).update(state="suspended")
    assert not is_in(signed_in)


@pytest.mark.parametrize("state", ["invited", "suspended", "locked", ""])
def test_session_of_whoever_is_not_active_is_over(state: str, world: Cast, signed_in: Client) -> None:
    Person.unscoped.filter(pk=world.carol.pk).update(state=state)
    assert not is_in(signed_in)


def test_member_has_no_console(world: Cast, client: Client) -> None:
    give_password(world.alice)
    key = give_totp(world.alice)
    password_step(client, "alice")
    code_step(client, code_now(key))
    assert client.get(HOME).status_code == 403


def test_support_does_not_see_the_audit_log(world: Cast, client: Client) -> None:
    with tenant_scope(world.acme.pk):
        services.change_role(person=world.bob, role=Role.SUPPORT, actor=system_actor(None, "test"))
    bob = Person.unscoped.get(pk=world.bob.pk)
    give_password(bob)
    key = give_totp(bob)
    password_step(client, "bob")
    code_step(client, code_now(key))
    assert is_in(client)
    assert client.get("/console/audit/").status_code == 403


def test_console_pages_take_no_post(signed_in: Client) -> None:
    assert signed_in.post(HOME).status_code == 405


@pytest.mark.parametrize("address", [SIGN_IN, CODE, "/console/sign-out/"])
def test_post_without_token_is_refused(address: str, world: Cast) -> None:
    assert Client(enforce_csrf_checks=True).post(address, {"tenant": "acme"}).status_code == 403


def test_sign_out_needs_a_post(signed_in: Client) -> None:
    assert signed_in.get("/console/sign-out/").status_code == 405
    assert is_in(signed_in)


def test_sign_in_page_may_not_be_framed_or_cached_and_has_nothing_inline(world: Cast, client: Client) -> None:
    page = client.get(SIGN_IN)
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    assert page["x-frame-options"] == "DENY"
    assert "no-store" in page["cache-control"]
    text = page.content.decode()
    assert "<script" not in text
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=", text)
    cookie = client.cookies["csrftoken"]
    assert (cookie["samesite"], cookie["httponly"]) == ("Strict", True)


def test_typed_text_is_escaped_on_the_page(world: Cast, client: Client) -> None:
    page = password_step(client, tenant='"><script>x</script>').content.decode()
    assert "<script" not in page


@functools.cache
def _hashed() -> str:
    return make_password(PASSWORD)


class AnyOrder(RuleBasedStateMachine):
    """Calls any step at any time from two browsers, and keeps its own book of who may be in."""

    which = st.sampled_from([0, 1])
    names = st.sampled_from(["carol", "dan"])

    def __init__(self) -> None:
        super().__init__()
        self.undo = transaction.atomic()
        self.undo.__enter__()
        self.browsers = [Client(), Client()]
        self.knows: list[str | None] = [None, None]
        self.wrong = [0, 0]
        self.inside: list[str | None] = [None, None]
        self.world = build_world()
        self.keys = {}
        for name in ("carol", "dan"):
            Person.unscoped.filter(pk=getattr(self.world, name).pk).update(password=_hashed())
            self.keys[name] = give_totp(getattr(self.world, name))

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.undo.__exit__(None, None, None)

    def _missed(self, which: int) -> None:
        self.wrong[which] += 1
        if self.wrong[which] >= 5:
            self.knows[which] = None

    @rule(which=which, name=names, is_right=st.sampled_from([True, True, False]))
    def password(self, which: int, name: str, is_right: bool) -> None:
        AccessAttempt.objects.all().delete()
        password_step(self.browsers[which], name, PASSWORD if is_right else "wrong")
        if is_right:
            self.knows[which], self.inside[which], self.wrong[which] = name, None, 0

    @rule(which=which, name=names)
    def code(self, which: int, name: str) -> None:
        AccessAttempt.objects.all().delete()
        Authenticator.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        is_unspent = Authenticator.objects.get(user=getattr(self.world, name)).last_t < int(time.time()) // 30
        code_step(self.browsers[which], code_now(self.keys[name]))
        if self.knows[which] == name and is_unspent:
            self.inside[which], self.knows[which] = name, None
        elif self.knows[which]:
            self._missed(which)

    @rule(which=which, junk=st.sampled_from(["", "12345x", "1234567", "٠٠٠٠٠٠"]))
    def junk_code(self, which: int, junk: str) -> None:
        AccessAttempt.objects.all().delete()
        code_step(self.browsers[which], junk)
        if self.knows[which]:
            self._missed(which)

    @rule(which=which)
    def sign_out(self, which: int) -> None:
        self.browsers[which].post("/console/sign-out/")
        self.knows[which] = self.inside[which] = None

    @rule(name=names)
    def let_a_code_pass(self, name: str) -> None:
        forget_codes(getattr(self.world, name))

    @invariant()
    def only_who_gave_both_is_in(self) -> None:
        for browser, name in zip(self.browsers, self.inside, strict=True):
            page = browser.get(HOME)
            if name is None:
                assert page.status_code == 302
            else:
                assert f"person:{getattr(self.world, name).pk}" in page.content.decode()


def test_nobody_gets_in_by_any_order_of_steps(db: None) -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=10,
            stateful_step_count=24,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.postgres
def test_storm_of_wrong_sign_ins_leaves_a_bounded_log_and_no_rows(world: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "MAX_REFUSALS_LISTED", 20)
    storm = 120
    for number in range(storm):
        password_step(Client(), f"name{number}", "wrong", source=f"198.51.100.{number}")
    refusals = Entry.unscoped.filter(tag="tenants:sign-in:refuse")
    # The clock may strike within the storm.
    assert refusals.count() in (sign_in.MAX_REFUSALS_LISTED, 2 * sign_in.MAX_REFUSALS_LISTED)
    assert Tally.unscoped.count() <= 2
    Tally.unscoped.update(hour=F("hour") - 2)
    audit.conclude_hours()
    counted = Entry.unscoped.filter(tag="audit:entries:counted").values_list("body", flat=True)
    assert {body["tag"] for body in counted} == {"tenants:sign-in:refuse"}
    assert refusals.count() + sum(body["count"] for body in counted) == storm
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    services.sweep()
    assert (AccessAttempt.objects.count(), Tally.unscoped.count()) == (0, 0)
