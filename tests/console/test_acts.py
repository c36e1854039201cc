# SPDX-License-Identifier: Apache-2.0
"""Acts of administration in the console: shown in words, confirmed with a code for exactly these, logged, told."""

from __future__ import annotations

import html
import json
import re
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import Entry
from kernel.clock import database_now
from kernel.errors import Denied
from kernel.scope import tenant_scope
from tenants import access, services, sign_in
from tenants.acts import act as acts
from tenants.acts import engine
from tenants.models import FormerAddress, Invitation, Mail, PendingAct, Person, Tenant
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.sponsors import let_in
from tenants.states import PersonState, TenantState
from tests.cast.administrators import Administrator, address, administrator, hidden, settle
from tests.cast.browsers import text_of
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, make_device, make_person, sealing

UNKNOWN = uuid.UUID(int=7)
pytestmark = pytest.mark.urls("tests.tenants.urls")


@pytest.fixture
def cast(hsm: Hsm, db: None) -> Cast:
    return sealing(build_world())


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


def tags(subject: Any) -> list[str]:
    return list(Entry.unscoped.filter(subject=str(subject)).order_by("seq").values_list("tag", flat=True))


def invite(olivia: Administrator, **changes: str) -> Any:
    given = {"email": "ivy@acme.test", "name": "Ivy", "role": "member", "how": "shown"} | changes
    return olivia.do("person-invite", **given)


def test_owner_invites_and_the_link_is_shown_once(cast: Cast, olivia: Administrator) -> None:
    answer = invite(olivia)
    shown = text_of(answer)
    ivy = Person.unscoped.get(email="ivy@acme.test")
    assert answer.status_code == 200
    assert "/console/invitation/" in shown
    assert answer["cache-control"] == "no-store"
    assert (ivy.state, ivy.role) == (PersonState.INVITED, Role.MEMBER)
    assert "tenants:invitation:issue" in tags(ivy.pk)
    link = "/console/invitation/" + shown.split("/console/invitation/")[1].split()[0]
    assert Client().get(link).status_code == 200


def test_invitation_by_mail_is_promised_and_its_link_stands_in_no_row(cast: Cast, olivia: Administrator) -> None:
    answer = invite(olivia, how="mail")
    assert answer.status_code == 302
    mail = Mail.unscoped.get(kind="invitation")
    assert (mail.person.email, mail.state) == ("ivy@acme.test", "waiting")
    assert not Invitation.unscoped.exists()


def test_nothing_is_done_before_it_was_confirmed(cast: Cast, olivia: Administrator) -> None:
    olivia.client.get(address("person-invite"))
    page = olivia.look("person-invite", email="ivy@acme.test", name="Ivy", role="member", how="shown")
    assert "Ivy gets the role member" in text_of(page)
    assert not Person.unscoped.filter(email="ivy@acme.test").exists()


@pytest.mark.parametrize(
    ("field", "typed"),
    [("email", "nobody"), ("email", ""), ("name", "\u202e"), ("role", "emperor"), ("name", "x" * 200)],
)
def test_errors_name_the_field_and_keep_what_was_typed(
    cast: Cast, olivia: Administrator, field: str, typed: str
) -> None:
    given = {"email": "ivy@acme.test", "name": "Ivy", "role": "member", "how": "shown"} | {field: typed}
    page = olivia.look("person-invite", **given)
    assert page.status_code == 400
    assert f'id="{field}-error"' in page.content.decode()
    kept = "ivy@acme.test" if field != "email" else "Ivy"
    assert f'value="{kept}"' in page.content.decode()


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"])
def test_text_of_others_is_shown_and_not_obeyed(cast: Cast, olivia: Administrator, hostile: str) -> None:
    page = olivia.do("person-rename", cast.bob, name=hostile)
    assert page.status_code == 302, text_of(page)
    shown = olivia.client.get(page["location"])
    assert "<script>alert(1)" not in shown.content.decode()
    assert "<img src=x" not in shown.content.decode()
    assert hostile in text_of(shown) or hostile in html.unescape(shown.content.decode())


@pytest.mark.parametrize(
    ("act", "given", "tag"),
    [
        ("person-rename", {"name": "Robert"}, "tenants:person:rename"),
        ("person-address", {"email": "robert@acme.test"}, "tenants:person:change-address"),
        ("person-role", {"role": "auditor"}, "tenants:person:change-role"),
        ("person-suspend", {}, "tenants:person:suspend"),
    ],
)
def test_each_act_is_done_logged_and_says_how_it_is_undone(
    cast: Cast, olivia: Administrator, act: str, given: dict[str, str], tag: str
) -> None:
    answer = olivia.do(act, cast.bob, **given)
    assert answer.status_code == 302
    assert tags(cast.bob.pk)[-1] == tag
    assert "To undo it" in text_of(olivia.client.get(answer["location"]))


def test_person_is_told_of_what_was_done_at_both_addresses(cast: Cast, olivia: Administrator) -> None:
    olivia.do("person-address", cast.bob, email="robert@acme.test")
    olivia.do("person-role", cast.bob, role="auditor")
    olivia.do("person-suspend", cast.bob)
    olivia.do("person-resume", cast.bob)
    kinds = list(Mail.unscoped.order_by("created_at").values_list("kind", "address"))
    assert kinds == [
        ("address-changed", "bob@acme.test"),
        ("address-changed", "robert@acme.test"),
        ("role-changed", ""),
        ("suspended", ""),
        ("resumed", ""),
    ]
    assert FormerAddress.unscoped.get().email == "bob@acme.test"


def test_suspended_person_who_was_never_active_is_invited_again(cast: Cast, olivia: Administrator) -> None:
    invite(olivia)
    ivy = Person.unscoped.get(email="ivy@acme.test")
    olivia.do("person-suspend", ivy)
    olivia.do("person-resume", ivy)
    assert Person.unscoped.get(pk=ivy.pk).state == PersonState.INVITED


def test_changed_address_ends_the_old_link(cast: Cast, olivia: Administrator) -> None:
    shown = text_of(invite(olivia))
    link = "/console/invitation/" + shown.split("/console/invitation/")[1].split()[0]
    ivy = Person.unscoped.get(email="ivy@acme.test")
    olivia.do("person-address", ivy, email="ivy.new@acme.test")
    assert Client().get(link).status_code == 404


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)//@acme.test",
    "{{ 7|add:7 }}{% debug %}",
)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("act", [one for one in acts.all_acts() if one.form()], ids=lambda one: one.name)
def test_no_field_of_any_act_runs_what_is_typed_into_it(
    cast: Cast, olivia: Administrator, act: acts.Act, hostile: str
) -> None:
    """Typed into every field at once, then into each alone: shown as text where it was typed, or refused."""
    subject = None if act.kind in acts.WITHOUT_SUBJECT else cast.bob
    names = [one.name for one in act.form()]
    fine = {one.name: one.choices[0][0] if one.choices else "Bob" for one in act.form()}
    for given in (dict.fromkeys(names, hostile), *({**fine, name: hostile} for name in names)):
        page = olivia.look(act.name, subject, **given).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "onmouseover='" not in page
        assert 'href="javascript:' not in page
        assert "1414" not in page.replace(hostile, "")


class TestStepUp:
    """FAULTS A7: the code is for exactly what was shown here, once."""

    def test_code_that_was_used_before_is_refused(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-suspend", cast.bob)
        code = olivia.code()
        assert olivia.confirm(page, "person-suspend", cast.bob, code=code).status_code == 302
        second = olivia.look("person-suspend", cast.alice)
        answer = olivia.confirm(second, "person-suspend", cast.alice, code=code)
        assert answer.status_code == 400
        assert "used before" in text_of(answer)
        assert Person.unscoped.get(pk=cast.alice.pk).state == PersonState.ACTIVE

    def test_code_with_which_they_signed_in_is_refused(self, cast: Cast, olivia: Administrator) -> None:
        code = olivia.code()
        assert sign_in.accept_code(person=cast.olivia, code=code) is not None
        page = olivia.look("person-suspend", cast.bob)
        assert olivia.confirm(page, "person-suspend", cast.bob, code=code).status_code == 400
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.ACTIVE

    @pytest.mark.parametrize("wrong", ["000000", "000 000", " 000000"])
    def test_wrong_code_is_counted_and_logged(self, cast: Cast, olivia: Administrator, wrong: str) -> None:
        page = olivia.look("person-suspend", cast.bob)
        olivia.code()
        assert olivia.confirm(page, "person-suspend", cast.bob, code=wrong).status_code == 400
        assert "tenants:step-up:refuse" in tags(cast.olivia.pk)
        right = sign_in.totp_code(olivia.key, at=time.time())
        # The wait after a wrong one has begun, though the act was rolled back.
        assert olivia.confirm(page, "person-suspend", cast.bob, code=right).status_code == 400

    def test_wrong_code_is_counted_before_the_next_act_may_begin(self, cast: Cast, olivia: Administrator) -> None:
        """Whoever sends many at once has no more tries than one at a time: the tenant's row is held until then."""
        page = olivia.look("person-suspend", cast.bob)
        olivia.code()
        with CaptureQueriesContext(connection) as queries:
            assert olivia.confirm(page, "person-suspend", cast.bob, code="000000").status_code == 400
        still_open, held, counted_in = list[str](), list[str](), list[str]()
        for one in (query["sql"] for query in queries):
            if one.startswith("SAVEPOINT"):
                still_open.append(one.removeprefix("SAVEPOINT "))
            elif one.startswith("ROLLBACK TO"):
                held = still_open[:-1]
            elif one.startswith("RELEASE SAVEPOINT"):
                still_open.remove(one.removeprefix("RELEASE SAVEPOINT "))
            elif one.startswith("UPDATE") and "throttling_failure_count" in one:
                counted_in = list(still_open)
        assert held
        assert set(held) <= set(counted_in)

    def test_token_of_another_act_person_or_word_is_refused(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-rename", cast.bob, name="Robert")
        answers = [
            olivia.confirm(page, "person-rename", cast.alice),
            olivia.confirm(page, "person-rename", cast.bob, name="Roberta"),
            olivia.client.post(
                address("person-suspend", cast.bob), {"token": hidden(page)["token"], "code": olivia.code()}
            ),
        ]
        assert [one.status_code for one in answers] == [409, 409, 409]
        assert Person.unscoped.get(pk=cast.bob.pk).name == "Bob"

    def test_token_from_another_session_is_refused(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-suspend", cast.bob)
        elsewhere = administrator(cast.olivia)
        assert elsewhere.confirm(page, "person-suspend", cast.bob).status_code == 409
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.ACTIVE

    def test_what_was_shown_long_ago_is_shown_again(
        self, cast: Cast, olivia: Administrator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = olivia.look("person-suspend", cast.bob)
        monkeypatch.setattr(engine, "STEP_UP_SECONDS", -1)
        answer = olivia.confirm(page, "person-suspend", cast.bob)
        assert answer.status_code == 409
        assert "five minutes" in text_of(answer)

    def test_what_changed_meanwhile_is_not_done(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-role", cast.bob, role="owner")
        with tenant_scope(cast.acme.pk):
            services.change_role(person=access.person(cast.bob.pk), role="auditor", actor=_ceremony(cast))
        assert olivia.confirm(page, "person-role", cast.bob).status_code == 409
        assert Person.unscoped.get(pk=cast.bob.pk).role == "auditor"

    @pytest.mark.parametrize("act", ["person-role", "person-address", "person-invite"])
    def test_recovery_code_confirms_no_role_and_no_address(self, cast: Cast, olivia: Administrator, act: str) -> None:
        with tenant_scope(cast.acme.pk):
            code, *_ = sign_in.make_recovery_codes(person=cast.olivia, actor=_ceremony(cast))
        given = {
            "person-role": {"role": "owner"},
            "person-address": {"email": "b@acme.test"},
            "person-invite": {"email": "i@acme.test", "name": "I", "role": "owner", "how": "shown"},
        }[act]
        subject = None if act == "person-invite" else cast.bob
        page = olivia.look(act, subject, **given)
        answer = olivia.confirm(page, act, subject, code=code)
        assert answer.status_code == 400
        assert "recovery code confirms no change" in text_of(answer)
        # It was not spent either: the same one still confirms what it may.
        page = olivia.look("person-suspend", cast.alice)
        assert olivia.confirm(page, "person-suspend", cast.alice, code=code).status_code == 302

    def test_form_needs_the_token_of_its_own_page(self, cast: Cast) -> None:
        strict = Client(enforce_csrf_checks=True)
        olivia = administrator(cast.olivia)
        strict.cookies = olivia.client.cookies
        assert strict.post(address("person-suspend", cast.bob), {}).status_code == 403


class TestAuthority:
    """FAULTS A6: who may is read again when it is done."""

    @pytest.mark.parametrize("path", ["person-invite/", f"person-suspend/{UNKNOWN}/", f"pending/{UNKNOWN}/"])
    def test_nobody_acts_without_a_sign_in(self, cast: Cast, path: str) -> None:
        for method in (Client().get, Client().post):
            assert method(f"/console/acts/{path}")["location"] == "/console/sign-in/"
        member = administrator(cast.alice)
        assert member.client.get(f"/console/acts/{path}").status_code == 403

    @pytest.mark.parametrize("name", ["carol", "rex", "otto"])
    def test_others_are_refused_and_see_no_button(self, cast: Cast, name: str) -> None:
        other = administrator(cast.people[name])
        page = other.look("person-suspend", cast.bob)
        assert page.status_code == 403
        assert "person-suspend" not in other.client.get("/console/people/").content.decode()

    def test_act_of_whoever_was_suspended_meanwhile_is_refused(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-suspend", cast.bob)
        Person.unscoped.filter(pk=cast.olivia.pk).update(state=PersonState.SUSPENDED)
        assert olivia.confirm(page, "person-suspend", cast.bob).status_code == 302  # to the sign-in page
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.ACTIVE

    def test_authority_is_read_in_the_transaction_of_the_act(self, cast: Cast) -> None:
        """The actor of a request that began before they lost their role."""
        owner = administrator(cast.olivia)
        with tenant_scope(cast.acme.pk):
            actor = _actor(cast.olivia)
            look = engine.look(actor, "person-suspend", cast.bob.pk, {}, bound_to="here")
            Person.unscoped.filter(pk=cast.olivia.pk).update(role=Role.MEMBER)
            with pytest.raises(Denied):
                engine.perform(
                    actor, "person-suspend", cast.bob.pk, {}, token=look.token, code=owner.code(), bound_to="here"
                )
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.ACTIVE

    def test_nothing_is_done_once_the_operator_suspended_the_tenant(self, cast: Cast) -> None:
        """Nor by a request that began before."""
        owner = administrator(cast.olivia)
        with tenant_scope(cast.acme.pk):
            actor = _actor(cast.olivia)
            look = engine.look(actor, "person-suspend", cast.bob.pk, {}, bound_to="here")
            Tenant.objects.filter(pk=cast.acme.pk).update(state=TenantState.SUSPENDED)
            with pytest.raises(Denied):
                engine.perform(
                    actor, "person-suspend", cast.bob.pk, {}, token=look.token, code=owner.code(), bound_to="here"
                )
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.ACTIVE

    @pytest.mark.parametrize("act", ["person-suspend", "person-role"])
    def test_last_owner_is_not_taken_away(self, cast: Cast, olivia: Administrator, act: str) -> None:
        page = olivia.look(act, cast.olivia, **({"role": "member"} if act == "person-role" else {}))
        assert page.status_code == 409
        assert Person.unscoped.get(pk=cast.olivia.pk).role == Role.OWNER

    def test_nobody_of_another_tenant_is_reached(self, cast: Cast, olivia: Administrator) -> None:
        assert olivia.look("person-suspend", cast.mallory).status_code == 404
        assert olivia.client.get("/console/acts/no-such-act/").status_code == 404


class TwoPersons(acts.Act):
    """An act that needs two, for these tests alone: the product's own have a verb behind them."""

    name = "test-two"
    title = "Do it together"
    summary = "For these tests alone."
    kind = "person"
    permission = PermissionName.PERSON_ADMINISTER
    needs_two = True
    takes_recovery_code = False

    def load(self, actor: Any, subject_id: Any, *, lock: bool) -> Any:
        return access.person(subject_id)

    def words(self, actor: Any, subject: Any, given: Any) -> acts.Words:
        return acts.Words(f"Do it to {subject.name}", (f"{subject.name} is renamed.",))

    def do(self, actor: Any, subject: Any, given: Any) -> acts.Done:
        Person.unscoped.filter(pk=subject.pk).update(name="Done")
        return acts.Done("It is done.")

    def concerns(self, subject: Any) -> Any:
        return subject.pk


class TestTwoPersons:
    """ORGANISATION "Acts": what needs two."""

    @pytest.fixture(autouse=True)
    def _act(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(acts._ACTS, "test-two", TwoPersons())

    @pytest.fixture
    def second(self, cast: Cast) -> Administrator:
        with tenant_scope(cast.acme.pk):
            person = make_person("oscar", Role.OWNER)
        settle(person, cast.olivia)
        return administrator(person)

    def propose(self, cast: Cast, olivia: Administrator) -> PendingAct:
        assert olivia.do("test-two", cast.bob).status_code == 302
        rows = list(PendingAct.unscoped.filter(state="proposed"))
        assert len(rows) == 1, "it waits for a second person"
        waiting: PendingAct = rows[0]
        return waiting

    def confirm(self, who: Administrator, row: PendingAct) -> Any:
        page = who.client.get(f"/console/acts/pending/{row.pk}/")
        return who.client.post(f"/console/acts/pending/{row.pk}/", {**hidden(page), "code": who.code()})

    def test_it_is_done_by_the_second_and_not_before(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        row = self.propose(cast, olivia)
        assert Person.unscoped.get(pk=cast.bob.pk).name == "Bob"
        assert Mail.unscoped.get(kind="pending-act").person_id == second.person.pk
        assert self.confirm(second, row).status_code == 302
        assert Person.unscoped.get(pk=cast.bob.pk).name == "Done"
        with tenant_scope(cast.acme.pk):
            behind = access.standing_behind(cast.bob.pk, database_now())
        assert {cast.olivia.pk, second.person.pk} <= behind

    def test_proposer_is_not_their_own_second(self, cast: Cast, olivia: Administrator, second: Administrator) -> None:
        row = self.propose(cast, olivia)
        page = olivia.client.get(f"/console/acts/pending/{row.pk}/")
        token = hidden(page).get("token", "")
        answer = olivia.client.post(f"/console/acts/pending/{row.pk}/", {"token": token, "code": olivia.code()})
        assert answer.status_code == 403
        assert Person.unscoped.get(pk=cast.bob.pk).name == "Bob"

    def test_second_whom_the_first_invited_is_refused(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        row = self.propose(cast, olivia)
        with tenant_scope(cast.acme.pk):
            let_in(second.person.pk, [cast.olivia.pk])
        assert self.confirm(second, row).status_code == 403
        assert Person.unscoped.get(pk=cast.bob.pk).name == "Bob"

    def test_second_who_came_yesterday_is_refused(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        row = self.propose(cast, olivia)
        Person.unscoped.filter(pk=second.person.pk).update(active_since=database_now() - timedelta(days=1))
        answer = self.confirm(second, row)
        assert answer.status_code == 403
        assert "seven days" in text_of(answer)

    def test_whom_it_is_about_is_no_second(self, cast: Cast, olivia: Administrator, second: Administrator) -> None:
        assert olivia.do("test-two", second.person).status_code == 302
        row = PendingAct.unscoped.get(state="proposed")
        assert self.confirm(second, row).status_code == 403

    def test_it_is_not_done_for_a_proposer_who_could_not_any_more(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        row = self.propose(cast, olivia)
        Person.unscoped.filter(pk=cast.olivia.pk).update(role=Role.MEMBER)
        assert self.confirm(second, row).status_code == 409

    def test_it_is_done_as_it_was_proposed_or_not_at_all(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        """A reset goes where the first person was shown, and not where the second has sent it since."""
        settle(cast.bob)
        assert olivia.do("person-factors", cast.bob, how="mail").status_code == 302
        row = PendingAct.unscoped.get(state="proposed")
        assert second.do("person-address", cast.bob, email="oscar-too@acme.test").status_code == 302
        page = second.client.get(f"/console/acts/pending/{row.pk}/")
        assert "oscar-too@acme.test" in text_of(page)
        answer = self.confirm(second, row)
        assert answer.status_code == 409
        assert "not any more what was proposed" in text_of(answer)
        assert not Mail.unscoped.filter(kind="invitation").exists()

    @pytest.mark.parametrize("how", ["shown", "mail"])
    def test_whoever_invites_again_stands_behind_whom_another_invited(
        self, cast: Cast, olivia: Administrator, second: Administrator, how: str
    ) -> None:
        """Else the link that they were shown makes them a second person of their own."""
        invite(olivia, role="owner")
        ivy = Person.unscoped.get(email="ivy@acme.test")
        second.do("person-resend", ivy, how=how)
        with tenant_scope(cast.acme.pk):
            behind = access.standing_behind(ivy.pk, database_now())
        assert {cast.olivia.pk, second.person.pk} <= behind
        by = Entry.unscoped.filter(subject=str(ivy.pk), tag__startswith="tenants:invitation:").latest("seq")
        assert by.person_id == second.person.pk

    def test_withdrawn_or_expired_it_is_not_confirmed(
        self, cast: Cast, olivia: Administrator, second: Administrator
    ) -> None:
        row = self.propose(cast, olivia)
        olivia.client.post(f"/console/acts/pending/{row.pk}/", {"withdraw": "yes"})
        assert second.client.get(f"/console/acts/pending/{row.pk}/").status_code == 404
        late = self.propose(cast, olivia)
        PendingAct.unscoped.filter(pk=late.pk).update(expires_at=database_now() - timedelta(seconds=1))
        assert second.client.get(f"/console/acts/pending/{late.pk}/").status_code == 404


class TestRest:
    """The same over REST, bound to the credential that asked."""

    @pytest.fixture
    def signer(self, cast: Cast) -> Any:
        return make_device(cast.olivia)

    def post(self, signer: Any, path: str, body: dict[str, Any]) -> Any:
        return signer.send(Client(), "POST", f"/api/v1/organisation/{path}", json.dumps(body).encode())

    def test_device_suspends_a_person(self, cast: Cast, olivia: Administrator, signer: Any) -> None:
        asked = {"subject_id": str(cast.bob.pk)}
        words = self.post(signer, "acts/person-suspend/words", asked).json()
        assert words["title"] == "Suspend Bob"
        given = {**asked, "token": words["token"], "code": olivia.code()}
        answer = self.post(signer, "acts/person-suspend", given)
        assert answer.status_code == 200, answer.content
        assert answer.json()["text"] == "Bob is suspended."
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.SUSPENDED

    def test_token_of_the_console_or_another_device_is_refused(
        self, cast: Cast, olivia: Administrator, signer: Any
    ) -> None:
        asked = {"subject_id": str(cast.bob.pk)}
        in_console = hidden(olivia.look("person-suspend", cast.bob))["token"]
        other = make_device(cast.olivia)
        elsewhere = self.post(other, "acts/person-suspend/words", asked).json()["token"]
        for token in (in_console, elsewhere):
            answer = self.post(signer, "acts/person-suspend", {**asked, "token": token, "code": olivia.code()})
            assert answer.json()["code"] == "words-changed"

    def test_list_names_what_this_person_may(self, cast: Cast, signer: Any) -> None:
        listed = signer.send(Client(), "GET", "/api/v1/organisation/acts").json()["acts"]
        assert {"person-invite", "person-suspend"} <= {one["name"] for one in listed}

    def test_secret_is_stored_for_no_repetition(self, cast: Cast, olivia: Administrator, signer: Any) -> None:
        from kernel.models import ReplayableAnswer

        given = {"given": {"email": "ivy@acme.test", "name": "Ivy", "role": "member", "how": "shown"}}
        words = self.post(signer, "acts/person-invite/words", given).json()
        body = json.dumps({**given, "token": words["token"], "code": olivia.code()}).encode()
        path = "/api/v1/organisation/acts/person-invite"
        answer = signer.send(Client(), "POST", path, body, **{"Idempotency-Key": "one"})
        assert "/console/invitation/" in answer.json()["once"]
        assert not ReplayableAnswer.unscoped.exists()


def _ceremony(cast: Cast) -> Any:
    from kernel.actors import system_actor

    return system_actor(cast.acme.pk, "ceremony")


def _actor(person: Person) -> Any:
    from tenants.sessions import session_actor

    return session_actor(person)


@pytest.mark.parametrize(
    ("act", "section"),
    [
        ("person-invite", "/console/people/"),
        ("log-token-create", "/console/programs/"),
        ("tenant-lock", "/console/organisation/"),
        ("person-suspend", "/console/people/"),
    ],
)
def test_navigation_marks_what_an_act_is_about(cast: Cast, olivia: Administrator, act: str, section: str) -> None:
    page = olivia.client.get(address(act, cast.bob if act == "person-suspend" else None)).content.decode()
    assert re.findall(r'<a href="([^"]+)" aria-current="page"', page) == [section]


def test_acts_on_a_person_stand_apart_by_what_they_do(cast: Cast, olivia: Administrator) -> None:
    page = text_of(olivia.client.get(f"/console/people/{cast.bob.pk}/"))
    gentle, _, hard = page.partition("Stops or ends something")
    shown = {act.title: act for act in acts.all_acts() if act.kind == "person" and act.title in page}
    assert len(shown) >= 8
    for title, act in shown.items():
        assert f"{title} {act.summary}" in (hard if act.is_dangerous else gentle)
