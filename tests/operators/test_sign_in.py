# SPDX-License-Identifier: Apache-2.0
"""Signing in to the admin: accounts of its own, one refusal for all reasons, codes used once, sessions that end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.test import Client

from holdfast.core.base.secret import SecretBytes
from operators import accounts, sessions
from operators.models import OperatorSession
from tests.cast.browsers import signed_in, text_of
from tests.cast.operators import PASSWORD, SIGN_IN, Desk, forget_codes, make_operator
from tests.cast.tenants import PASSWORD as PERSONS_PASSWORD
from tests.cast.tenants import Cast, give_password

pytestmark = pytest.mark.postgres
HOME, COOKIE = "/admin/", "operator"


def enters(browser: Client) -> bool:
    answer = browser.get(HOME)
    assert answer.status_code in (200, 302)
    assert answer.status_code == 200 or answer["location"] == SIGN_IN
    return bool(answer.status_code == 200)


@pytest.mark.django_db
@pytest.mark.parametrize("address", [HOME, SIGN_IN, "/admin/kernel/job/", "/admin/login/"])
def test_without_the_setting_there_is_no_admin(address: str) -> None:
    assert settings.HOLDFAST_ADMIN is False
    assert Client().get(address).status_code == 404
    assert Client().post(address).status_code == 404


def test_operator_enters_with_all_three_and_leaves(petra: Desk) -> None:
    browser = Client()
    assert not enters(browser)
    answer = petra.give(browser)
    assert (answer.status_code, answer["location"]) == (302, HOME)
    assert enters(browser)
    assert browser.post("/admin/sign-out/").status_code == 302
    assert not enters(browser)
    assert OperatorSession.objects.count() == 0


@pytest.mark.parametrize("wrong", ["name", "password", "code"])
def test_every_refusal_is_the_same_page(wrong: str, petra: Desk) -> None:
    browser, never = Client(), "000000" if petra.code != "000000" else "111111"
    said = {"name": "nobody", "password": "not the one that was given", "code": never}
    answer = petra.give(browser, **{wrong: said[wrong]})
    assert answer.status_code == 401
    assert "This did not match" in text_of(answer)
    assert COOKIE not in answer.cookies
    assert not enters(browser)


def test_code_is_good_once(petra: Desk) -> None:
    code = petra.code
    assert petra.give(Client(), code=code).status_code == 302
    assert petra.give(Client(), code=code).status_code == 401
    forget_codes()
    assert petra.give(Client(), code=code).status_code == 302, "it was refused for being spent"


def test_wrong_password_spends_no_code(petra: Desk) -> None:
    code = petra.code
    assert petra.give(Client(), code=code, password="not the one that was given").status_code == 401
    assert petra.give(Client(), code=code).status_code == 302


def test_guessing_locks_the_account_and_the_right_password_too(petra: Desk) -> None:
    tries = [petra.give(Client(), password="a guess", source=f"198.51.100.{one}") for one in range(8)]
    assert [one.status_code for one in tries] == [401] * 7 + [429]
    locked = petra.give(Client(), source="198.51.100.99")
    assert locked.status_code == 429
    assert locked["retry-after"] == "900"


def test_guessing_from_elsewhere_does_not_keep_out_an_operator_at_home(petra: Desk) -> None:
    assert petra.give(Client(), source="192.0.2.9").status_code == 302
    for one in range(9):
        petra.give(Client(), password="a guess", source=f"198.51.100.{one}")
    forget_codes()
    assert petra.give(Client(), source="198.51.100.99").status_code == 429
    assert petra.give(Client(), source="192.0.2.9").status_code == 302


def test_one_source_that_guesses_many_names_is_locked(petra: Desk) -> None:
    for one in range(8):
        petra.give(Client(), name=f"guess-{one}", source="198.51.100.1")
    assert petra.give(Client(), source="198.51.100.1").status_code == 429


def test_session_planted_before_the_sign_in_is_worth_nothing(petra: Desk) -> None:
    browser = Client()
    browser.cookies[COOKIE] = "planted-by-somebody-else"
    petra.give(browser)
    given = browser.cookies[COOKIE].value
    assert given != "planted-by-somebody-else"
    stranger = Client()
    stranger.cookies[COOKIE] = "planted-by-somebody-else"
    assert not enters(stranger)
    row = OperatorSession.objects.get()
    assert given.encode() not in bytes(row.token_hash)


def test_cookie_is_for_no_script_and_no_other_site(petra: Desk, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = True
    settings.HOLDFAST_ADMIN_COOKIE = "__Host-operator"
    cookie = petra.give(Client()).cookies["__Host-operator"]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
    assert (cookie["path"], cookie["domain"]) == ("/", ""), "without these a browser drops a __Host- cookie"


def test_removed_operator_stops_with_the_next_request(petra: Desk, browser: Client) -> None:
    assert enters(browser)
    accounts.remove(name="petra")
    assert not enters(browser)
    forget_codes()
    assert petra.give(Client()).status_code == 401


def test_account_that_is_over_opens_nothing_though_its_session_is_left(petra: Desk, browser: Client) -> None:
    """What a restored backup or a hand in the table leaves: the row of a session, and an account without secrets."""
    kept = OperatorSession.objects.get()
    accounts.remove(name="petra")
    kept.save(force_insert=True)
    assert not enters(browser)
    type(petra.operator).objects.update(state="active")
    assert not enters(browser), "bound to secrets that are gone"


def test_reset_ends_sessions_and_the_secrets_of_before(petra: Desk, browser: Client) -> None:
    accounts.reset(name="petra", password=SecretBytes(b"another horse another staple"))
    assert not enters(browser)
    forget_codes()
    assert petra.give(Client()).status_code == 401


def test_session_ends_after_a_working_day(petra: Desk, browser: Client) -> None:
    OperatorSession.objects.update(created_at=F("created_at") - sessions.LIFE + timedelta(minutes=1))
    assert enters(browser)
    OperatorSession.objects.update(created_at=F("created_at") - timedelta(minutes=2))
    assert not enters(browser)
    assert sessions.sweep() == 1


def test_session_of_a_clock_that_was_ahead_is_none(petra: Desk, browser: Client) -> None:
    OperatorSession.objects.update(created_at=F("created_at") + timedelta(hours=1))
    assert not enters(browser)


def test_no_person_is_an_operator_and_no_operator_a_person(world: Cast, petra: Desk) -> None:
    give_password(world.olivia)
    owner = signed_in(world.olivia)
    assert owner.get("/console/people/").status_code == 200
    assert not enters(owner)
    # The owner's session under the operators' cookie, and the other way round.
    carried = Client()
    carried.cookies[COOKIE] = owner.cookies[settings.SESSION_COOKIE_NAME].value
    assert not enters(carried)
    there = petra.browser()
    assert there.get("/console/")["location"] == settings.LOGIN_URL
    there.cookies[settings.SESSION_COOKIE_NAME] = there.cookies[COOKIE].value
    assert there.get("/console/")["location"] == settings.LOGIN_URL
    # What opens one door does not open the other.
    for name in ("olivia@acme.test", "olivia"):
        assert petra.give(Client(), name=name, password=PERSONS_PASSWORD).status_code == 401
    for slug in ("acme", "admin", "/admin", ""):
        typed = {"tenant": slug, "email": "petra", "password": PASSWORD}
        assert Client().post(settings.LOGIN_URL, typed).status_code == 401


def test_name_that_was_in_use_is_not_given_again(petra: Desk) -> None:
    from kernel.errors import Conflict, Invalid

    accounts.remove(name="petra")
    with pytest.raises(Conflict):
        make_operator("petra")
    for name in ("", "P", "Petra", "petra rossi", "pétra", "-petra", "a" * 41):
        with pytest.raises(Invalid):
            make_operator(name)
    with pytest.raises(Invalid, match="short"):
        accounts.add(name="paul", password=SecretBytes(b"short"))


def test_form_without_its_token_signs_nobody_in(petra: Desk) -> None:
    browser = Client(enforce_csrf_checks=True)
    answer = petra.give(browser)
    assert answer.status_code == 403
    assert SIGN_IN in answer.content.decode()
    assert not enters(browser)


def test_control_characters_are_refused(petra: Desk) -> None:
    assert petra.give(Client(), name="pe\x00tra").status_code == 400
