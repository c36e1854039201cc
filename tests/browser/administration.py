# SPDX-License-Identifier: Apache-2.0
"""An organisation in the middle of its administration: something stands on every page of an act, of every state."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from kernel import queue
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants.acts.act import all_acts
from tenants.models import EnrolmentCode, Import, LogToken, PendingAct, Person, ServiceAccount, Tenant
from tenants.roles import Role
from tenants.states import TenantState
from tests.cast.administrators import Administrator, address, administrator, settle
from tests.cast.browsers import text_of
from tests.cast.tenants import make_person
from tests.cast.world import World

CSV = """name,email,role
Ingrid Berg,ingrid@acme.test,member
Jack,jack@acme.test,auditor
Carol,carol@acme.test
X,nobody
"""
# What is typed into the acts that ask for something, as far as their fields do not say it themselves.
GIVEN: dict[str, dict[str, str]] = {
    "person-invite": {"email": "iris@acme.test", "name": "Iris Lindqvist"},
    "person-rename": {"name": "Alice Okonkwo"},
    "person-address": {"email": "alice.okonkwo@acme.test"},
    "service-account-create": {"name": "payroll-nightly", "public_key": b64u(SigningKey.generate().public.encoded)},
    "log-token-create": {"name": "SIEM of the security team"},
}
CHOSEN = {"person-role": "auditor"}
# Acts that are about the organisation in another state than the one it is in.
ELSEWHERE = ("tenant-unlock", "tenant-keep-locked", "tenant-end-stop")


@dataclass(frozen=True)
class Act:
    """One act's page. is_typed: whether its form asks for something, so that a second page says what it would do."""

    name: str
    address: str
    is_typed: bool


@dataclass
class Administered:
    """What there is to administer, and the addresses of its pages by name."""

    world: World
    olivia: Administrator
    oscar: Administrator
    pages: dict[str, str] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)

    def state(self, state: TenantState) -> None:
        """Put the organisation into a state, with the moments that go with it."""
        now, soon = database_now(), database_now() + timedelta(days=14)
        is_locked = state == TenantState.LOCKED
        moments = {"locked_at": now if is_locked else None, "ends_at": None if is_locked else soon, "unlock_at": None}
        Tenant.objects.filter(pk=self.world.tenant_id).update(state=state, **moments)

    def unlocking(self) -> None:
        """Let the lock of a locked organisation end soon."""
        Tenant.objects.filter(pk=self.world.tenant_id).update(unlock_at=database_now() + timedelta(days=14))


def administered(world: World) -> Administered:
    """Have two owners do or propose something of every kind, through the console."""
    with tenant_scope(world.tenant_id):
        made = {name: make_person(name, role) for name, role in (("oscar", Role.OWNER), ("hana", Role.HELPDESK))}
        samir, leo = (make_person(name, Role.MEMBER) for name in ("samir", "leo"))
    settle(world.cast.olivia, *made.values())
    olivia, oscar = administrator(world.cast.olivia), administrator(made["oscar"])
    alice, bob, carol = (world.cast.people[name] for name in ("alice", "bob", "carol"))
    phones = [world.directory.phone(name) for name in ("alice", "bob", "erin")]
    for name in ("alice", "bob"):
        world.deposit(name)
    answers = [
        olivia.do("person-invite", email="ivy@acme.test", name="Ivy Lee", role="member", how="mail"),
        olivia.do("person-suspend", samir),
        olivia.do("person-leave", bob),
        olivia.do("person-leave", leo),
        olivia.do("code-issue", alice, how="shown"),
        oscar.do("code-issue", carol, how="shown"),
        olivia.do("service-account-create", name="archive-indexer", public_key=_key()),
        olivia.do("service-account-create", name="payroll-export", public_key=_key()),
        olivia.do("log-token-create", name="SIEM", days="90"),
        olivia.do("tenant-export"),
        olivia.do("person-factors", world.cast.people["rex"], how="shown"),
        oscar.do("tenant-end"),
        oscar.do("person-shred", leo),
    ]
    accounts = {one.name: one for one in ServiceAccount.unscoped.filter(tenant_id=world.tenant_id)}
    token = LogToken.unscoped.get()
    answers += [
        olivia.do("device-suspend", _with_pk(phones[2].id)),
        olivia.do("service-account-suspend", accounts["payroll-export"]),
    ]
    for answer in answers:
        assert answer.status_code in (200, 302), text_of(answer)
    done = _read(olivia, "done")
    assert olivia.do("people-import", done).status_code == 302
    for name in ("worker", queue.MAIL):
        while queue.run_due(name):
            pass
    mail.outbox.clear()
    running = _read(olivia, "running")
    assert olivia.do("people-import", running).status_code == 302
    read = _read(olivia, "read")
    ivy = Person.unscoped.get(email="ivy@acme.test")
    code = EnrolmentCode.unscoped.get(person=carol, issuer_id=made["oscar"].pk)
    made_of: dict[str, Any] = {
        "person": alice,
        "device": _with_pk(phones[0].id),
        "service-account": accounts["archive-indexer"],
        "log-token": token,
        "import": read,
        "code": code,
    }
    others: dict[str, Any] = {
        "person-resend": ivy,
        "person-resume": samir,
        "person-shred": bob,
        "device-resume": _with_pk(phones[2].id),
        "service-account-resume": accounts["payroll-export"],
    }
    acts = [_page(act, others.get(act.name, made_of.get(act.kind))) for act in all_acts()]
    pending = {row.act: row.pk for row in PendingAct.unscoped.filter(state="proposed")}
    pages = {
        "overview-busy": "/console/",
        "people-busy": "/console/people/",
        "organisation": "/console/organisation/",
        "programs": "/console/programs/",
        "person-administered": f"/console/people/{alice.pk}/",
        "person-codes": f"/console/people/{carol.pk}/",
        "person-invited": f"/console/people/{ivy.pk}/",
        "person-suspended": f"/console/people/{samir.pk}/",
        "person-left": f"/console/people/{bob.pk}/",
        "device-suspended": f"/console/devices/{phones[2].id}/",
        "import-form": reverse("console-import-form"),
        "import-bad": f"/console/people/import/{read.pk}/",
        "import-good": f"/console/people/import/{read.pk}/?show=good",
        "import-running": f"/console/people/import/{running.pk}/",
        "import-done": f"/console/people/import/{done.pk}/",
        "pending-mine": f"/console/acts/pending/{pending['person-factors']}/",
        "pending-theirs": f"/console/acts/pending/{pending['tenant-end']}/",
    }
    return Administered(world, olivia, oscar, pages, acts)


def _key() -> str:
    return b64u(SigningKey.generate().public.encoded)


def _with_pk(made: uuid.UUID) -> Any:
    return Person(pk=made)


def _read(owner: Administrator, name: str) -> Import:
    text = CSV.replace("ingrid@", f"ingrid.{name}@").replace("jack@", f"jack.{name}@")
    answer = owner.client.post(
        reverse("console-import-form"), {"file": SimpleUploadedFile("people.csv", text.encode())}
    )
    assert answer.status_code == 302, text_of(answer)
    row: Import = Import.unscoped.get(pk=answer["location"].rstrip("/").split("/")[-1])
    return row


def _page(act: Any, subject: Any) -> Act:
    return Act(act.name, address(act.name, subject), bool(act.form()))
