# SPDX-License-Identifier: Apache-2.0
"""The organisation in the console: locked by one owner, unlocked by two after the long delay, and what a lock stops."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from audit.models import Entry, LogExport, LogExportPiece
from escrow import tenant_acts
from kernel import queue
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.errors import Conflict
from kernel.scope import tenant_scope
from tenants import ending, exporting, locking, services, sign_in
from tenants.acts.act import all_acts
from tenants.models import (
    Authenticator,
    ConsoleSession,
    ExportPiece,
    Mail,
    PendingAct,
    Person,
    RecoveryCode,
    Tenant,
    TenantExport,
)
from tenants.roles import Role
from tenants.sessions import session_actor
from tenants.states import PersonState, TenantState
from tests.cast.administrators import Administrator, administrator, hidden, settle
from tests.cast.browsers import signed_in, text_of
from tests.cast.tenants import Cast, build_world, give_password, make_device, make_person

PAGE = "/console/organisation/"


@pytest.fixture
def cast(db: None) -> Cast:
    return build_world()


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


@pytest.fixture
def oscar(cast: Cast) -> Administrator:
    with tenant_scope(cast.acme.pk):
        person = make_person("oscar", Role.OWNER)
    settle(person, cast.olivia)
    return administrator(person)


def row(cast: Cast) -> Tenant:
    return Tenant.objects.get(pk=cast.acme.pk)


def confirm(who: Administrator) -> Any:
    pending = PendingAct.unscoped.get(state="proposed")
    page = who.client.get(f"/console/acts/pending/{pending.pk}/")
    return who.client.post(f"/console/acts/pending/{pending.pk}/", {**hidden(page), "code": who.code()})


def tags(cast: Cast) -> list[str]:
    rows = Entry.unscoped.filter(subject=str(cast.acme.pk), tag__startswith="tenants:tenant:")
    return list(rows.order_by("seq").values_list("tag", flat=True))


def unlock(cast: Cast, olivia: Administrator, oscar: Administrator) -> None:
    """Two owners ask, and the delay goes by."""
    assert olivia.do("tenant-unlock").status_code == 302
    assert confirm(oscar).status_code == 302
    Tenant.objects.filter(pk=cast.acme.pk).update(unlock_at=database_now() - timedelta(seconds=1))
    assert locking.unlock_due() == 1


class TestLock:
    def test_one_owner_locks_and_everybody_sees_it(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("tenant-lock")
        assert "You are the only owner" in text_of(page)
        assert olivia.confirm(page, "tenant-lock").status_code == 302
        assert row(cast).state == TenantState.LOCKED
        assert tags(cast)[-1] == "tenants:tenant:lock"
        told = set(Mail.unscoped.filter(kind="tenant-locked").values_list("person_id", flat=True))
        assert told == {cast.people[name].pk for name in ("olivia", "carol", "dan", "erin")}
        for name, path in (("carol", "/console/"), ("rex", "/console/people/"), ("olivia", PAGE)):
            assert "Acme is locked." in text_of(signed_in(cast.people[name]).get(path))

    @pytest.mark.parametrize("name", ["carol", "rex", "otto"])
    def test_nobody_else_locks(self, cast: Cast, name: str) -> None:
        other = administrator(cast.people[name])
        assert other.look("tenant-lock").status_code == 403
        assert "tenant-lock" not in other.client.get(PAGE).content.decode()
        assert row(cast).state == TenantState.ACTIVE

    def test_open_invitation_lets_nobody_in(self, cast: Cast, olivia: Administrator) -> None:
        shown = text_of(olivia.do("person-invite", email="ivy@acme.test", name="Ivy", role="member", how="shown"))
        link = "/console/invitation/" + shown.split("/console/invitation/")[1].split()[0]
        assert Client().get(link).status_code == 200
        olivia.do("tenant-lock")
        assert Client().get(link).status_code in (403, 404, 410)

    def test_acts_that_let_in_are_refused_and_those_that_stop_go_on(self, cast: Cast, olivia: Administrator) -> None:
        olivia.do("tenant-lock")
        page = olivia.look("person-invite", email="ivy@acme.test", name="Ivy", role="member", how="shown")
        assert page.status_code == 409
        assert not Person.unscoped.filter(email="ivy@acme.test").exists()
        assert olivia.do("person-suspend", cast.bob).status_code == 302
        assert Person.unscoped.get(pk=cast.bob.pk).state == PersonState.SUSPENDED
        assert olivia.look("person-resume", cast.bob).status_code == 409

    def test_what_was_looked_at_before_the_lock_is_not_done_in_it(self, cast: Cast, olivia: Administrator) -> None:
        page = olivia.look("person-invite", email="ivy@acme.test", name="Ivy", role="member", how="shown")
        with tenant_scope(cast.acme.pk):
            locking.lock(actor=system_actor(cast.acme.pk, "test"))
        assert olivia.confirm(page, "person-invite").status_code == 409
        assert not Person.unscoped.filter(email="ivy@acme.test").exists()

    def test_every_act_says_whether_it_lets_in(self) -> None:
        letting = {act.name for act in all_acts() if act.lets_in}
        assert letting == {
            "code-confirm",
            "code-issue",
            "device-resume",
            "log-token-create",
            "people-import",
            "person-factors",
            "person-invite",
            "person-resend",
            "person-resume",
            "service-account-create",
            "service-account-resume",
        }

    def test_enrolment_codes_are_neither_issued_nor_used(self, cast: Cast, olivia: Administrator) -> None:
        signer = make_device(cast.olivia)
        olivia.do("tenant-lock")
        body = json.dumps({"person_id": str(cast.alice.pk), "code_hash": "A" * 43}).encode()
        answer = signer.send(Client(), "POST", "/api/v1/enrolment-codes", body)
        assert answer.status_code == 403

    def test_it_is_locked_once(self, cast: Cast, olivia: Administrator) -> None:
        olivia.do("tenant-lock")
        assert olivia.look("tenant-lock").status_code == 409
        assert "tenant-lock" not in olivia.client.get(PAGE).content.decode()


class TestUnlock:
    def test_two_owners_and_the_delay_unlock(self, cast: Cast, olivia: Administrator, oscar: Administrator) -> None:
        olivia.do("tenant-lock")
        assert olivia.do("tenant-unlock").status_code == 302
        assert "Unlock the organisation" in text_of(oscar.client.get(PAGE))
        assert row(cast).unlock_at is None
        before = database_now()
        assert confirm(oscar).status_code == 302
        with tenant_scope(cast.acme.pk):
            delay = tenant_acts.long_delay()
        unlock_at = row(cast).unlock_at
        assert unlock_at is not None
        assert delay <= unlock_at - before < delay + timedelta(minutes=1)
        assert "The lock ends" in text_of(olivia.client.get(PAGE))
        assert Mail.unscoped.filter(kind="tenant-unlocking").count() == 5
        assert locking.unlock_due() == 0
        assert row(cast).state == TenantState.LOCKED
        Tenant.objects.filter(pk=cast.acme.pk).update(unlock_at=database_now() - timedelta(seconds=1))
        assert locking.unlock_due() == 1
        assert row(cast).state == TenantState.ACTIVE
        assert tags(cast)[-3:] == ["tenants:tenant:lock", "tenants:tenant:ask-unlock", "tenants:tenant:unlock"]
        asked = Entry.unscoped.get(tag="tenants:tenant:ask-unlock")
        assert (asked.person_id, asked.body["proposer"]) == (oscar.person.pk, str(cast.olivia.pk))

    def test_one_owner_alone_does_not(self, cast: Cast, olivia: Administrator) -> None:
        olivia.do("tenant-lock")
        assert olivia.do("tenant-unlock").status_code == 302
        assert confirm(olivia).status_code == 403
        assert row(cast).unlock_at is None

    def test_recovery_code_does_not(self, cast: Cast, olivia: Administrator) -> None:
        olivia.do("tenant-lock")
        with tenant_scope(cast.acme.pk):
            code, *_ = sign_in.make_recovery_codes(person=cast.olivia, actor=system_actor(cast.acme.pk, "ceremony"))
        page = olivia.look("tenant-unlock")
        assert olivia.confirm(page, "tenant-unlock", code=code).status_code == 400
        assert not PendingAct.unscoped.exists()

    def test_any_owner_keeps_it_locked(self, cast: Cast, olivia: Administrator, oscar: Administrator) -> None:
        olivia.do("tenant-lock")
        olivia.do("tenant-unlock")
        confirm(oscar)
        assert "tenant-keep-locked" in olivia.client.get(PAGE).content.decode()
        page = olivia.look("tenant-keep-locked")
        assert "Keep Acme locked" in text_of(page)
        assert olivia.confirm(page, "tenant-keep-locked").status_code == 302
        assert olivia.look("tenant-keep-locked").status_code == 409
        assert (row(cast).state, row(cast).unlock_at) == (TenantState.LOCKED, None)
        assert tags(cast)[-1] == "tenants:tenant:lock"
        assert locking.unlock_due() == 0

    def test_locking_again_within_30_days_takes_two(
        self, cast: Cast, olivia: Administrator, oscar: Administrator
    ) -> None:
        olivia.do("tenant-lock")
        unlock(cast, olivia, oscar)
        page = olivia.look("tenant-lock")
        assert "second person" in text_of(page)
        olivia.confirm(page, "tenant-lock")
        assert row(cast).state == TenantState.ACTIVE
        assert confirm(oscar).status_code == 302
        assert row(cast).state == TenantState.LOCKED
        unlock(cast, olivia, oscar)
        Tenant.objects.filter(pk=cast.acme.pk).update(unlocked_at=database_now() - timedelta(days=31))
        olivia.do("tenant-lock")
        assert row(cast).state == TenantState.LOCKED

    def test_lock_is_taken_again_from_a_restored_log(self, cast: Cast) -> None:
        with tenant_scope(cast.acme.pk):
            services.take_again(tag="tenants:tenant:lock", subject=cast.acme.pk)
            assert row(cast).state == TenantState.LOCKED
            Tenant.objects.filter(pk=cast.acme.pk).update(unlock_at=database_now() - timedelta(seconds=1))
            services.take_again(tag="tenants:tenant:lock", subject=cast.acme.pk)
        assert row(cast).unlock_at is None


class TestEnd:
    def asked(self, olivia: Administrator, oscar: Administrator) -> None:
        assert olivia.do("tenant-end").status_code == 302
        assert confirm(oscar).status_code == 302

    def test_two_owners_ask_and_everybody_is_told(
        self, cast: Cast, olivia: Administrator, oscar: Administrator
    ) -> None:
        before = database_now()
        assert olivia.do("tenant-end").status_code == 302
        assert row(cast).state == TenantState.ACTIVE
        assert confirm(olivia).status_code == 403
        assert confirm(oscar).status_code == 302
        ends_at = row(cast).ends_at
        assert ends_at is not None
        assert row(cast).state == TenantState.ENDING
        assert timedelta(0) <= ends_at - before - timedelta(days=30) < timedelta(minutes=1)
        for _ in range(2):
            queue.run_due("worker")
            told = list(Mail.unscoped.filter(kind="ending").values_list("person_id", flat=True))
            everybody = Person.unscoped.filter(tenant_id=cast.acme.pk).values_list("pk", flat=True)
            assert sorted(told) == sorted(everybody)
        assert "Acme ends" in text_of(signed_in(cast.rex).get("/console/"))
        assert tags(cast)[-1] == "tenants:tenant:ask-end"

    def test_nobody_new_is_let_in_while_it_ends(self, cast: Cast, olivia: Administrator, oscar: Administrator) -> None:
        self.asked(olivia, oscar)
        page = olivia.look("person-invite", email="ivy@acme.test", name="Ivy", role="member", how="shown")
        assert page.status_code == 409
        assert "lets nobody in any more" in text_of(page)
        assert olivia.look("tenant-lock").status_code == 409
        assert olivia.look("tenant-end").status_code == 409

    @pytest.mark.parametrize("name", ["olivia", "carol"])
    def test_one_owner_or_officer_stops_it(
        self, cast: Cast, olivia: Administrator, oscar: Administrator, name: str
    ) -> None:
        self.asked(olivia, oscar)
        who = olivia if name == "olivia" else administrator(cast.carol)
        assert "tenant-end-stop" in who.client.get(PAGE).content.decode()
        assert who.do("tenant-end-stop").status_code == 302
        assert (row(cast).state, row(cast).ends_at) == (TenantState.ACTIVE, None)
        assert tags(cast)[-1] == "tenants:tenant:stop-end"
        queue.run_due("worker")
        assert not Mail.unscoped.filter(kind="ending").exists()
        assert who.look("tenant-end-stop").status_code == 409

    @pytest.mark.parametrize("name", ["rex", "otto"])
    def test_others_neither_ask_nor_stop(
        self, cast: Cast, olivia: Administrator, oscar: Administrator, name: str
    ) -> None:
        other = administrator(cast.people[name])
        assert other.look("tenant-end").status_code == 403
        self.asked(olivia, oscar)
        assert other.look("tenant-end-stop").status_code == 403
        assert administrator(cast.carol).look("tenant-end").status_code == 403

    def test_it_is_not_finished_before_its_day(self, cast: Cast, olivia: Administrator, oscar: Administrator) -> None:
        self.asked(olivia, oscar)
        ceremony = system_actor(cast.acme.pk, "ceremony")
        with tenant_scope(cast.acme.pk):
            with pytest.raises(Conflict):
                ending.finish(closing="x", actor=ceremony)
            Tenant.objects.filter(pk=cast.acme.pk).update(ends_at=database_now() - timedelta(seconds=1))
            ending.finish(closing="x", actor=ceremony)
        assert row(cast).state == TenantState.ENDED
        assert olivia.client.get(PAGE).status_code == 302
        assert Client().post("/console/sign-in/", {"tenant": "acme"}).status_code != 302

    def test_its_end_leaves_no_export_and_nothing_to_sign_in_with(
        self, cast: Cast, olivia: Administrator, oscar: Administrator
    ) -> None:
        give_password(cast.carol)
        mallory = administrator(cast.people["mallory"])
        give_password(mallory.person)
        with tenant_scope(cast.acme.pk):
            sign_in.make_recovery_codes(person=cast.carol, actor=system_actor(cast.acme.pk, "ceremony"))
            export = exporting.ask(actor=session_actor(cast.olivia))
            ExportPiece.objects.create(export_id=export.pk, number=0, file="ciphertexts/vaults.jsonl", octets=b"x")
            later = database_now() + timedelta(days=1)
            of_log = LogExport.objects.create(owner="x", log="audit", size=1, created_at=later, expires_at=later)
            LogExportPiece.objects.create(export_id=of_log.pk, number=0, octets=b"x", size=1)
        self.asked(olivia, oscar)
        Tenant.objects.filter(pk=cast.acme.pk).update(ends_at=database_now() - timedelta(seconds=1))
        with tenant_scope(cast.acme.pk):
            ending.finish(closing="x", actor=system_actor(cast.acme.pk, "ceremony"))
        left = [ExportPiece, TenantExport, RecoveryCode, LogExportPiece, LogExport]
        assert [model.__name__ for model in left if model.unscoped.exists()] == []
        assert not any(one.has_usable_password() for one in Person.unscoped.filter(tenant_id=cast.acme.pk))
        # Another tenant's people keep theirs.
        assert Person.unscoped.get(pk=mallory.person.pk).has_usable_password()
        assert set(Authenticator.objects.values_list("user_id", flat=True)) == {mallory.person.pk}
        assert set(ConsoleSession.objects.values_list("person_id", flat=True)) == {mallory.person.pk}
