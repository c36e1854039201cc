# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes from the console: shown once or by mail, never better than `tofu`, and two behind an officer's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail as outbox

from audit.models import Entry
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode as Code
from kernel import queue
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import services
from tenants.errors import EnrolmentRefused
from tenants.models import EnrolmentCode, Mail, Person
from tenants.roles import Role
from tenants.states import PersonState, TenantState
from tests.cast.administrators import Administrator, administrator, settle
from tests.cast.browsers import text_of
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, make_device, make_person, sealing


@pytest.fixture
def cast(hsm: Hsm, db: None) -> Cast:
    made = sealing(build_world())
    settle(*(one for one in made.people.values() if one.tenant_id == made.acme.pk))
    return made


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


def shown(answer: Any) -> Code:
    found = re.search(r"hf2\.[\w-]+", text_of(answer))
    assert found, text_of(answer)
    return Code.parse(found[0])


def enrol(code: Code) -> EnrolmentCode:
    from uuid import UUID

    return services.consume_enrolment_code(
        tenant_id=UUID(bytes=code.tenant), person_id=UUID(bytes=code.person), secret=code.secret
    )


def tags(subject: Any) -> list[str]:
    return list(Entry.unscoped.filter(subject=str(subject)).order_by("seq").values_list("tag", flat=True))


def test_code_is_shown_once_and_is_never_better_than_tofu(cast: Cast, olivia: Administrator) -> None:
    page = olivia.look("code-issue", cast.bob, how="shown")
    assert "trusts what it meets first" in text_of(page)
    answer = olivia.confirm(page, "code-issue", cast.bob)
    assert answer["cache-control"] == "no-store"
    code = shown(answer)
    assert (code.root_pin, code.founding_root, code.log_vkey) == (b"", b"", "")
    row = EnrolmentCode.unscoped.get()
    assert (row.trust, row.issuer_id, bytes(row.code_hash)) == ("tofu", cast.olivia.pk, code.hash)
    entry = Entry.unscoped.get(tag="tenants:enrolment-code:issue")
    assert (entry.body["trust"], entry.person_id) == ("tofu", cast.olivia.pk)
    assert enrol(code).pk == row.pk


@pytest.mark.parametrize("role", [Role.OWNER, Role.OFFICER, Role.HELPDESK])
def test_whoever_issues_codes_may(cast: Cast, role: Role) -> None:
    with tenant_scope(cast.acme.pk):
        issuer = make_person("ina", role)
    assert shown(administrator(issuer).do("code-issue", cast.bob, how="shown")).person == cast.bob.pk.bytes


@pytest.mark.parametrize("name", ["rex", "otto"])
def test_others_may_not(cast: Cast, name: str) -> None:
    other = administrator(cast.people[name])
    assert other.look("code-issue", cast.bob, how="shown").status_code == 403
    assert "code-issue" not in other.client.get(f"/console/people/{cast.bob.pk}/").content.decode()


def test_nobody_issues_a_code_for_themselves_by_password_and_authenticator(cast: Cast, olivia: Administrator) -> None:
    assert olivia.look("code-issue", cast.olivia, how="shown").status_code == 409
    assert "code-issue" not in olivia.client.get(f"/console/people/{cast.olivia.pk}/").content.decode()
    # Nor by a mail that was promised while they were somebody else's.
    with tenant_scope(cast.acme.pk):
        from django.db import transaction

        from tenants import codes
        from tenants.sessions import session_actor

        with transaction.atomic():
            codes.promise(person=cast.olivia, actor=session_actor(cast.olivia))
    queue.run_due(queue.MAIL)
    assert not EnrolmentCode.unscoped.exists()


def test_words_say_what_a_second_device_waits_for(cast: Cast, olivia: Administrator) -> None:
    assert "device already" not in text_of(olivia.look("code-issue", cast.bob, how="shown"))
    make_device(cast.bob)
    assert "They have a device already" in text_of(olivia.look("code-issue", cast.bob, how="shown"))


@pytest.mark.parametrize("state", [PersonState.SUSPENDED, PersonState.LEFT])
def test_no_code_for_whoever_is_stopped(cast: Cast, olivia: Administrator, state: PersonState) -> None:
    Person.unscoped.filter(pk=cast.bob.pk).update(state=state)
    assert olivia.look("code-issue", cast.bob, how="shown").status_code == 409


def test_no_code_of_the_console_while_the_tenant_is_founded(cast: Cast, olivia: Administrator) -> None:
    cast.acme.state = TenantState.FOUNDING
    cast.acme.save()
    answer = olivia.look("code-issue", cast.carol, how="shown")
    assert answer.status_code == 409
    assert "ceremony" in text_of(answer)


class TestMail:
    """The code that a mail brings."""

    def mailed(self) -> str:
        while queue.run_due(queue.MAIL):
            pass
        return "\n".join(str(one.body) for one in outbox.outbox if "enrolment code" in one.subject)

    def test_it_is_made_when_the_mail_goes_and_stands_in_no_row(self, cast: Cast, olivia: Administrator) -> None:
        assert olivia.do("code-issue", cast.bob, how="mail").status_code == 302
        assert not EnrolmentCode.unscoped.exists()
        text = self.mailed()
        found = re.search(r"hf2\.[\w-]+", text)
        assert found
        code, row = Code.parse(found[0]), EnrolmentCode.unscoped.get()
        assert (row.trust, row.issuer_id, bytes(row.code_hash)) == ("tofu", cast.olivia.pk, code.hash)
        assert found[0] not in str(list(Mail.unscoped.values()))
        assert "trusts what it meets first" in " ".join(text.split())
        assert enrol(code).pk == row.pk

    def test_none_goes_for_an_issuer_or_a_person_who_was_stopped(self, cast: Cast, olivia: Administrator) -> None:
        olivia.do("code-issue", cast.bob, how="mail")
        olivia.do("code-issue", cast.alice, how="mail")
        Person.unscoped.filter(pk=cast.bob.pk).update(state=PersonState.SUSPENDED)
        Person.unscoped.filter(pk=cast.olivia.pk).update(role=Role.MEMBER)
        assert self.mailed() == ""
        assert not EnrolmentCode.unscoped.exists()

    def test_second_try_ends_the_code_of_the_first(self, cast: Cast, olivia: Administrator) -> None:
        from tenants import codes

        olivia.do("code-issue", cast.bob, how="mail")
        mail = Mail.unscoped.get(kind="enrolment-code")
        with tenant_scope(cast.acme.pk):
            worker = system_actor(cast.acme.pk, "worker")
            first = codes.code_of(mail, worker)
            mail.attempts = 1
            second = codes.code_of(mail, worker)
        assert first is not None
        assert second is not None
        with pytest.raises(EnrolmentRefused):
            enrol(self.parsed(first.text))
        enrol(self.parsed(second.text))

    @staticmethod
    def parsed(text: SecretBytes) -> Code:
        return Code.parse(text.reveal().decode())


class TestSecondPerson:
    """A code for an owner or officer works once a second person has confirmed it."""

    def issued(self, cast: Cast, olivia: Administrator) -> tuple[Code, EnrolmentCode]:
        code = shown(olivia.do("code-issue", cast.erin, how="shown"))
        return code, EnrolmentCode.unscoped.get()

    def test_it_waits_on_the_persons_page_and_works_afterwards(self, cast: Cast, olivia: Administrator) -> None:
        code, row = self.issued(cast, olivia)
        with pytest.raises(EnrolmentRefused):
            enrol(code)
        carol = administrator(cast.carol)
        page = carol.client.get(f"/console/people/{cast.erin.pk}/")
        assert "waits for a second person" in text_of(page)
        assert f"/console/acts/code-confirm/{row.pk}/" in page.content.decode()
        look = carol.client.get(f"/console/acts/code-confirm/{row.pk}/")
        assert "Olivia issued an enrolment code for Erin" in text_of(look)
        answer = carol.confirm(look, "code-confirm", row)
        assert answer["location"] == f"/console/people/{cast.erin.pk}/"
        assert tags(cast.erin.pk)[-1] == "tenants:enrolment-code:confirm"
        enrol(code)

    @pytest.mark.parametrize("name", ["olivia", "erin"])
    def test_neither_issuer_nor_person_is_the_second(self, cast: Cast, olivia: Administrator, name: str) -> None:
        _, row = self.issued(cast, olivia)
        who = olivia if name == "olivia" else administrator(cast.erin)
        assert "code-confirm" not in who.client.get(f"/console/people/{cast.erin.pk}/").content.decode()
        assert who.client.get(f"/console/acts/code-confirm/{row.pk}/").status_code == 403
        row.refresh_from_db()
        assert row.confirmer_id is None

    def test_neither_is_whom_the_issuer_let_in(self, cast: Cast, olivia: Administrator) -> None:
        _, row = self.issued(cast, olivia)
        olivia.do("person-role", cast.rex, role="owner")
        rex = administrator(Person.unscoped.get(pk=cast.rex.pk))
        assert rex.client.get(f"/console/acts/code-confirm/{row.pk}/").status_code == 403

    def test_another_tenants_code_is_not_found(self, cast: Cast, olivia: Administrator) -> None:
        _, row = self.issued(cast, olivia)
        mallory = administrator(cast.mallory)
        assert mallory.client.get(f"/console/acts/code-confirm/{row.pk}/").status_code == 404
        assert olivia.look("code-issue", cast.mallory, how="shown").status_code == 404


def test_unused_codes_are_voided_whoever_issued_them(cast: Cast, olivia: Administrator) -> None:
    codes = [shown(who.do("code-issue", cast.bob, how="shown")) for who in (olivia, administrator(cast.carol))]
    assert "2 codes that nobody has used stop" in text_of(olivia.look("code-void", cast.bob))
    assert olivia.do("code-void", cast.bob).status_code == 302
    for code in codes:
        with pytest.raises(EnrolmentRefused):
            enrol(code)
    entry = Entry.unscoped.get(tag="tenants:enrolment-code:void")
    assert (entry.subject, entry.body["count"]) == (str(cast.bob.pk), 2)
    assert olivia.look("code-void", cast.bob).status_code == 409


class TestWaiting:
    """Acts that wait for a second person stand where the second person looks."""

    def test_overview_and_person_name_them_and_who_could_confirm(self, cast: Cast, olivia: Administrator) -> None:
        with tenant_scope(cast.acme.pk):
            oscar = make_person("oscar", Role.OWNER)
        settle(oscar)
        assert olivia.do("person-factors", cast.bob, how="shown").status_code == 302
        for who, says in ((olivia, "proposed it"), (administrator(oscar), "can confirm it")):
            for address in ("/console/", f"/console/people/{cast.bob.pk}/"):
                page = who.client.get(address)
                assert "/console/acts/pending/" in page.content.decode(), address
                assert "Reset the sign-in Bob Olivia" in text_of(page)
                assert says in text_of(page)
            assert "/console/acts/pending/" not in who.client.get(f"/console/people/{cast.alice.pk}/").content.decode()
        # An officer may not do this act: it is nothing to them.
        assert "Reset the sign-in" not in text_of(administrator(cast.carol).client.get("/console/"))

    def test_nobody_is_said_to_be_able_who_is_not(self, cast: Cast, olivia: Administrator) -> None:
        with tenant_scope(cast.acme.pk):
            fresh = make_person("fred", Role.OWNER)
        olivia.do("person-factors", cast.bob, how="shown")
        assert "cannot confirm it" in text_of(administrator(fresh).client.get("/console/"))
