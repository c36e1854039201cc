# SPDX-License-Identifier: Apache-2.0
"""A year of one organisation, from the second day to its end, as its people live it; then the database is read.

ORGANISATION "People", "Lock", "Export", "End". Founding at different desks is walked in `test_six_desks`: here the
escrow is founded already. Mails go over SMTP and are followed by their links, jobs are the worker's, keys lie in
SoftHSM. Where a year goes by, rows are made older; what the release process counts by itself is waited for.
"""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from audit import access as audit_access
from audit import export, sequencer
from audit.models import Entry
from config.ceremonies import end
from escrow import services as escrow
from escrow.errors import RecordUnreadable
from escrow.models import Deposit as StoredDeposit
from holdfast.client.auditor.auditor import Verdict, Writers, verify_export
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import root_verifier
from holdfast.core.signed.enrolment import EnrolmentCode as Code
from kernel import queue
from kernel.clock import database_now
from kernel.models import Job, JobState
from kernel.scope import tenant_scope
from tenants import locking, sign_in
from tenants.middleware import UPLOAD
from tenants.models import (
    Authenticator,
    Import,
    LogToken,
    PendingAct,
    Person,
    ServiceAccount,
    Tenant,
)
from tenants.roles import Role
from tenants.states import PersonState, TenantState
from tests.cast.administrators import Administrator, administrator, hidden, settle
from tests.cast.browsers import text_of
from tests.cast.founded import Hsm
from tests.cast.mail_server import MailServer, mail_server, text_and_page
from tests.cast.phones import new_phone, post_enrolment
from tests.cast.roles import ROOT
from tests.cast.tenants import Signer, forget_codes, make_person
from tests.cast.world import OpenCase, World
from tests.recovery.cases.test_vetoes import quorate, veto
from tests.recovery.release.test_forged_rows import due

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres, pytest.mark.timeout(300)]

PEOPLE = 50
LONG_DELAY = 2  # seconds, in place of days: the release process counts them by its own clock
SIGN_IN, CODE = "/console/sign-in/", "/console/sign-in/code/"
PASSWORD = "a phrase of four odd words"
WRONG_LINES = """Twice,ivy@acme.test,member
Nobody,nobody at acme,member
Chief,chief@acme.test,emperor
=HYPERLINK("x"),hyper@acme.test,member
"""


@dataclass
class Desk:
    """A person at a browser of their own, who came by a link in a mail."""

    email: str
    client: Client
    key: SecretBytes = field(default_factory=lambda: SecretBytes(b""))
    password: str = PASSWORD
    recovery_codes: list[str] = field(default_factory=list)

    @property
    def person(self) -> Person:
        found: Person = Person.unscoped.get(email=self.email)
        return found

    def code(self) -> str:
        """The authenticator's present code, which nobody has used yet."""
        forget_codes(self.person)
        return sign_in.totp_code(self.key, at=time.time())

    def accept(self, link: str) -> None:
        """Set password and authenticator by the link, and keep the recovery codes."""
        shown = re.search(r'<span class="mono small">([A-Z2-7 ]+)</span>', self.client.get(link).content.decode())
        assert shown is not None
        self.key = SecretBytes(base64.b32decode(shown[1].replace(" ", "")))
        typed = {"password": self.password, "again": self.password}
        done = self.client.post(link, {**typed, "code": sign_in.totp_code(self.key, at=time.time())})
        assert done.status_code == 200, text_of(done)
        self.recovery_codes = re.findall(r'<li class="mono">([a-z2-7-]+)</li>', html.unescape(done.content.decode()))
        assert len(self.recovery_codes) == 10
        assert self.client.get(link).status_code == 404, "it works once"

    def give_password(self) -> Any:
        return self.client.post(SIGN_IN, {"tenant": "acme", "email": self.email, "password": self.password})

    def sign_in(self) -> None:
        assert self.give_password()["location"] == CODE
        assert self.client.post(CODE, {"code": self.code()}).status_code == 302

    def administrator(self) -> Administrator:
        return Administrator(self.person, self.client, self.key)


class Year:
    """Acme through a year: who is there, what was mailed, and what the log has to say of it at the end."""

    def __init__(self, world: World, mails: MailServer, home: Path) -> None:
        self.world, self.mails, self.home = world, mails, home
        self.tenant_id = world.tenant_id
        with tenant_scope(self.tenant_id):
            world.cast.people["oscar"] = make_person("oscar", Role.OWNER)
        self.pass_time("olivia", "oscar")
        self.olivia, self.oscar = (administrator(world.cast.people[name]) for name in ("olivia", "oscar"))
        self.desks: dict[str, Desk] = {}
        self.said: list[tuple[str, str]] = []
        self.secrets: dict[str, bytes] = {}
        self.cases: dict[str, OpenCase] = {}
        self.program = SigningKey.generate()

    def pass_time(self, *names: str) -> None:
        """Let so much time go by that these people are here for long, and nobody stands behind them any more."""
        settle(*(self.world.cast.people[name] for name in names))

    def work(self) -> None:
        """Have worker and sequencer do all that waits."""
        while any(queue.run_due(name, limit=500) for name in ("worker", queue.MAIL)):
            pass
        for log in ("audit", "keys"):
            sequencer.sequence(self.tenant_id, log)

    def note(self, tag: str, subject: object) -> None:
        """Remember that the log has to say this."""
        self.said.append((tag, str(subject)))

    def confirm(self, second: Administrator) -> Any:
        """Have a second person confirm the one act that waits."""
        path = f"/console/acts/pending/{PendingAct.unscoped.get(state='proposed').pk}/"
        return second.client.post(path, {**hidden(second.client.get(path)), "code": second.code()})

    def mailed(self, email: str) -> list[str]:
        """The texts of all mails to an address, oldest first."""
        return [text_and_page(one)[0] for one in self.mails.mails if one["To"] == email]

    def link_for(self, email: str, what: str) -> str:
        found = [one for text in self.mailed(email) for one in re.findall(rf"http\S+(/console/{what}/\S+)", text)]
        return str(found[-1])

    def desk(self, name: str) -> Desk:
        """Have an invited person accept by the link in their newest mail, and sign in."""
        made = Desk(f"{name}@acme.test", Client(REMOTE_ADDR=f"192.0.2.{len(self.desks) + 1}"))
        link = self.link_for(made.email, "invitation")
        made.accept(link)
        made.sign_in()
        self.desks[name] = made
        self.world.cast.people[name] = made.person
        self.secrets[f"link of {name}"] = link.rstrip("/").rsplit("/", 1)[1].encode()
        self.secrets[f"authenticator of {name}"] = made.key.reveal()
        self.secrets[f"recovery code of {name}"] = made.recovery_codes[0].encode()
        self.note("tenants:invitation:accept", made.person.pk)
        self.note("tenants:sign-in:accept", made.person.pk)
        return made

    @property
    def row(self) -> Tenant:
        return Tenant.objects.get(pk=self.tenant_id)


@pytest.fixture
def year(found: Callable[..., World], settings: Any, tmp_path: Path) -> Iterator[Year]:
    with mail_server(settings) as running:
        yield Year(found(delay_seconds=0, undelivered_delay_seconds=LONG_DELAY), running, tmp_path)


def test_year_of_an_organisation(
    year: Year, hsm: Hsm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fifty_people_come_by_a_file(year)
    helpdesk_gives_a_code_and_a_device_is_enrolled(year)
    roles_change(year)
    somebody_leaves_and_officers_open_the_archive(year)
    a_factor_is_lost(year)
    a_password_is_forgotten(year)
    an_address_changes_and_a_case_is_opened(year)
    programs_pull_the_log(year)
    it_is_locked_and_unlocked(year, hsm)
    an_owner_is_lost(year)
    exported = it_is_exported(year)
    before = rows_of(year)
    it_ends(year, hsm, monkeypatch)
    nobody_is_let_in(year)
    work_goes_on_for_others(year, caplog)
    the_database_is_read(year, before)
    the_log_says_all_of_it(year, exported)


def fifty_people_come_by_a_file(year: Year) -> None:
    """January: lines that are wrong are named, the others are invited, and come by the links in their mails."""
    names = ["hana", "ivy", "jack", "kim", *(f"person{number}" for number in range(5, PEOPLE + 1))]
    roles = {"hana": "helpdesk"}
    lines = [f"{name.title()},{name}@acme.test,{roles.get(name, 'member')}\n" for name in names]
    octets = ("name,email,role\n" + "".join(lines) + WRONG_LINES).encode()
    answer = year.olivia.client.post(UPLOAD, {"file": SimpleUploadedFile("people.csv", octets, "text/csv")})
    assert answer.status_code == 302, text_of(answer)
    row = Import.unscoped.get()
    page = text_of(year.olivia.client.get(answer["location"]))
    assert (row.good, row.bad) == (PEOPLE, 4)
    for number, said in ((52, "email"), (53, "Must be one e-mail address."), (54, "role"), (55, "name")):
        assert re.search(rf"\b{number}\b.*{re.escape(said)}", page), (number, page)
    year.work()
    assert year.mails.mails == [], "reading invites nobody"
    refused = year.olivia.confirm(year.olivia.look("people-import", row), "people-import", row, code="000000")
    assert refused.status_code == 400
    a_pause_goes_by(year.olivia.person)
    assert year.olivia.do("people-import", row).status_code == 302
    year.work()
    assert sorted(year.mails.recipients) == sorted(f"{name}@acme.test" for name in names)
    assert Person.unscoped.filter(tenant_id=year.tenant_id, state=PersonState.INVITED).count() == PEOPLE
    year.note("tenants:import:confirm", row.pk)
    for name in ("hana", "ivy", "jack", "kim", "person5"):
        year.desk(name)
    assert Person.unscoped.filter(tenant_id=year.tenant_id, state=PersonState.INVITED).count() == PEOPLE - 5


def a_pause_goes_by(person: Person) -> None:
    """After a wrong code the next one waits."""
    Authenticator.objects.filter(user=person).update(throttling_failure_timestamp=None, throttling_failure_count=0)


def helpdesk_gives_a_code_and_a_device_is_enrolled(year: Year) -> None:
    """February: by a code that is shown to the helpdesk once; it lets one device in, once."""
    hana, ivy = year.desks["hana"].administrator(), year.desks["ivy"].person
    answer = hana.do("code-issue", ivy, how="shown")
    shown = re.search(r"hf2\.[\w-]+", text_of(answer))
    assert shown is not None, text_of(answer)
    year.secrets["enrolment code"] = shown[0].encode()
    phone = new_phone(ivy, code=Code.parse(shown[0]))
    assert post_enrolment(phone).status_code == 201
    assert post_enrolment(new_phone(ivy, code=Code.parse(shown[0]))).status_code == 401
    account = year.world.directory.account("ivy")
    assert account.append(phone, account.begin(phone)).status_code == 201
    account.phones.append(phone)
    keep_a_vault(year, "ivy")
    year.work()
    assert any("Hana" in text for text in year.mailed(ivy.email)), "they are told of a code, and by whom"
    assert hana.look("person-role", ivy, role="owner").status_code == 403
    year.note("tenants:enrolment-code:issue", ivy.pk)
    year.note("keys:device:enrol", phone.id)


def keep_a_vault(year: Year, name: str) -> None:
    account, phone = year.world.directory.account(name), year.world.directory.phone(name)
    vault = account.vault(phone, 1)
    assert phone.send("PUT", "/api/v1/vault", vault, if_match='"0"').status_code == 204


def roles_change(year: Year) -> None:
    """March: whoever has another role signs in anew, is told of it, and may what it says."""
    jack = year.desks["jack"]
    assert jack.client.get("/console/audit/").status_code in (302, 403)
    assert year.olivia.do("person-role", jack.person, role="auditor").status_code == 302
    assert jack.client.get("/me/").status_code == 302, "the session of before has ended"
    jack.sign_in()
    assert jack.client.get("/console/audit/").status_code == 200
    year.work()
    assert any("auditor" in text for text in year.mailed(jack.email))
    year.note("tenants:person:change-role", jack.person.pk)


def somebody_leaves_and_officers_open_the_archive(year: Year) -> None:
    """April: what was theirs stops, what is in escrow is opened by m of n, after the long delay."""
    world, olivia = year.world, year.olivia
    alice, bob, deposit = world.directory.phone("alice"), world.directory.phone("bob"), world.deposit()
    preview = text_of(olivia.look("person-leave", alice.person))
    assert "1 device is off for good" in preview
    assert "Carol, Dan, Erin could release it today; 2 of them have to agree." in preview
    assert Person.unscoped.get(pk=alice.person.pk).state == PersonState.ACTIVE
    assert olivia.do("person-leave", alice.person).status_code == 302
    year.work()
    case = quorate(world, deposit, bob)
    world.tick()
    assert world.state(case) == "waiting"
    wait_for_the_long_delay()
    world.tick()
    answer = world.collect(case)
    assert answer.status_code == 200, answer.content
    opened = world.combine(case, deposit, answer.json())
    assert opened.reveal() == world.archive_keys[deposit.header.deposit_id].reveal()
    # Afterwards.
    assert alice.send("GET", "/api/v1/devices").status_code == 401
    assert world.upload(deposit).status_code == 401
    assert bob.claim(alice).status_code == 404
    for act, given in (("person-resume", {}), ("person-role", {"role": "member"}), ("code-issue", {"how": "shown"})):
        assert olivia.look(act, alice.person, **given).status_code == 409, act
    year.cases["of whoever left"] = case
    year.note("recovery:person:leave", alice.person.pk)
    year.note("recovery:case:collect", case.id)


def wait_for_the_long_delay() -> None:
    time.sleep(LONG_DELAY + 1)


def a_factor_is_lost(year: Year) -> None:
    """May: two owners reset a sign-in; whoever lost it comes back by a link, and by nothing of before."""
    kim = year.desks["kim"]
    assert year.olivia.do("person-factors", kim.person, how="mail").status_code == 302
    assert kim.client.get("/me/").status_code == 200, "one owner alone does nothing"
    assert year.confirm(year.olivia).status_code == 403
    assert year.confirm(year.oscar).status_code == 302
    assert kim.client.get("/me/").status_code == 302
    assert kim.give_password().status_code == 401
    year.work()
    kim.password = "another phrase of five odd words"
    kim.accept(year.link_for(kim.email, "invitation"))
    kim.sign_in()
    assert kim.client.get("/me/").status_code == 200
    year.secrets["new authenticator of kim"] = kim.key.reveal()
    year.note("tenants:totp:reset", kim.person.pk)


def a_password_is_forgotten(year: Year) -> None:
    """June: the link in the mail alone sets nothing; with the authenticator's code it does, and sessions end."""
    jack = year.desks["jack"]
    source = Client(REMOTE_ADDR="192.0.2.200")
    assert source.post("/console/password-reset/", {"tenant": "acme", "email": jack.email}).status_code == 200
    year.work()
    link = year.link_for(jack.email, "password-reset")
    jack.password = "yet another phrase of odd words"
    typed = {"password": jack.password, "again": jack.password}
    assert source.post(link, {**typed, "code": "000000"}).status_code == 401
    a_pause_goes_by(jack.person)
    assert source.post(link, {**typed, "code": jack.code()}).status_code == 200
    assert jack.client.get("/me/").status_code == 302
    jack.sign_in()
    year.note("tenants:password-reset:accept", jack.person.pk)


def an_address_changes_and_a_case_is_opened(year: Year) -> None:
    """July: whoever changed an address keeps nothing from its owner: both addresses hear of the case (FAULTS R3)."""
    world = year.world
    bob, deposit = world.directory.phone("bob"), world.deposit("bob")
    assert year.olivia.do("person-address", bob.person, email="robert@acme.test").status_code == 302
    year.work()
    for address in ("bob@acme.test", "robert@acme.test"):
        assert any("robert@acme.test" in text for text in year.mailed(address)), address
    told = {address: len(year.mailed(address)) for address in ("bob@acme.test", "robert@acme.test")}
    case = world.opened(deposit, phone=world.directory.phone("rex"))
    year.work()
    for address, before in told.items():
        assert any(str(case.id)[:8] in text for text in year.mailed(address)[before:]), address
    assert veto(case, bob).json()["state"] == "vetoed"
    year.note("tenants:person:change-address", bob.person.pk)
    year.note("recovery:case:veto", case.id)


def programs_pull_the_log(year: Year) -> None:
    """August: a service account by its key, and a log token by its text, read the log, and nothing else."""
    key = year.program
    assert year.olivia.do("service-account-create", name="siem", public_key=b64u(key.public.encoded)).status_code == 302
    page = year.olivia.do("log-token-create", name="Collector", days="90").content.decode()
    shown = re.search(r"hf_log_[A-Za-z0-9_-]{43}", page)
    assert shown is not None
    year.secrets["log token"] = shown[0].encode()
    year.work()
    assert service(year, key).status_code == 200
    assert pulled(year).status_code == 200
    assert pulled(year).json()["entries"]
    assert pulled(year, "devices").status_code == 401
    year.note("tenants:service-account:create", ServiceAccount.unscoped.get().pk)
    year.note("tenants:log-token:create", LogToken.unscoped.get().pk)


def service(year: Year, key: SigningKey) -> Any:
    return Signer(ServiceAccount.unscoped.get().pk, key).send(Client(), "GET", "/api/v1/audit/entries")


def pulled(year: Year, path: str = "audit/entries") -> Any:
    token = year.secrets["log token"].decode()
    return Client().get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})


def it_is_locked_and_unlocked(year: Year, hsm: Hsm) -> None:
    """September: nothing is released in a lock, and two owners end it after the long delay."""
    world = year.world
    deposit = world.deposit("bob")
    case = quorate(world, deposit, world.new_phone("bob"))
    unwraps = hsm.unwraps()
    assert year.olivia.do("tenant-lock").status_code == 302
    world.tick()
    assert hsm.unwraps() == unwraps
    assert world.open(world.case(world.directory.phone("rex"), deposit)).json()["code"] == "tenant-locked"
    assert "is locked" in text_of(year.desks["jack"].client.get("/console/audit/"))
    assert year.olivia.do("tenant-unlock").status_code == 302
    assert year.confirm(year.olivia).status_code == 403
    assert year.confirm(year.oscar).status_code == 302
    world.tick()
    assert locking.unlock_due() == 0
    wait_for_the_long_delay()
    assert (hsm.unwraps(), locking.unlock_due()) == (unwraps, 1)
    due(world, case)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", unwraps + 1)
    # It is never collected: so it stands there at the end.
    year.work()
    year.cases["never collected"] = case
    for tag in ("lock", "ask-unlock", "unlock"):
        year.note(f"tenants:tenant:{tag}", year.tenant_id)


def an_owner_is_lost(year: Year) -> None:
    """October: the other owner goes on, makes a third one, and records that the lost one left."""
    ivy, oscar = year.desks["ivy"], year.world.cast.people["oscar"]
    assert year.olivia.look("person-leave", year.olivia.person).status_code == 409, "nobody removes themselves"
    assert year.olivia.do("person-role", ivy.person, role="owner").status_code == 302
    ivy.sign_in()
    assert year.olivia.do("person-leave", oscar).status_code == 302
    assert year.oscar.client.get("/console/").status_code == 302
    # Whom one let in is no second person for 90 days.
    kim = year.desks["kim"].person
    assert year.olivia.do("person-factors", kim, how="mail").status_code == 302
    assert year.confirm(ivy.administrator()).status_code == 403
    waiting = PendingAct.unscoped.get(state="proposed")
    assert year.olivia.client.post(f"/console/acts/pending/{waiting.pk}/", {"withdraw": "yes"}).status_code == 302
    year.work()
    year.pass_time("olivia", "ivy")
    year.note("tenants:person:change-role", ivy.person.pk)
    year.note("recovery:person:leave", oscar.pk)


def it_is_exported(year: Year) -> bytes:
    """November: an owner takes everything home, and the log in it verifies."""
    assert year.olivia.do("tenant-export").status_code == 302
    year.work()
    shown = re.search(
        r"/console/organisation/export/[0-9a-f-]+/", year.olivia.client.get("/console/organisation/").content.decode()
    )
    assert shown is not None
    answer: Any = year.olivia.client.get(shown[0])
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.read("ciphertexts/deposits.jsonl").count(b"\n") == StoredDeposit.unscoped.count()
    assert archive.read("ciphertexts/vaults.jsonl").count(b"\n") == 1
    year.note("tenants:tenant:export", year.tenant_id)
    year.note("tenants:tenant:take-export", year.tenant_id)
    return archive.read("log/audit.jsonl")


def it_ends(year: Year, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    """December: two owners ask, everybody is told, 30 days go by, and the operator holds the ceremony."""
    told = len(year.mails.recipients)
    assert year.olivia.do("tenant-end").status_code == 302
    assert year.confirm(year.desks["ivy"].administrator()).status_code == 302
    year.work()
    active = Person.unscoped.filter(tenant_id=year.tenant_id, state=PersonState.ACTIVE).values_list("email", flat=True)
    assert set(active) <= set(year.mails.recipients[told:])
    monkeypatch.setattr(end, "hsm_config", lambda: hsm.config)
    with pytest.raises(Exception, match="can stop it"):
        list(end.steps(year.row))
    Tenant.objects.filter(pk=year.tenant_id).update(ends_at=database_now() - timedelta(seconds=1))
    report = [line for step in end.steps(year.row) for line in step.take() or ()]  # type: ignore[attr-defined]
    assert any("copy of the token still has the keys" in line for line in report)
    assert list(end.steps(year.row)) == []
    assert year.row.state == TenantState.ENDED
    for tag in ("tenants:tenant:ask-end", "keys:tenant-key:destroy", "tenants:tenant:end"):
        year.note(tag, year.tenant_id)


def nobody_is_let_in(year: Year) -> None:
    """January: every way in is shut, each in the words of a stranger's."""
    world, ivy = year.world, year.desks["ivy"]
    closed = [year.olivia.client, ivy.client, year.desks["jack"].client]
    assert {one.get("/console/").status_code for one in closed} == {302}
    assert ivy.give_password().status_code == 401
    assert Client().get(year.link_for("person6@acme.test", "invitation")).status_code == 404
    for name in ("ivy", "bob", "carol", "alice"):
        assert world.directory.phone(name).send("GET", "/api/v1/devices").status_code == 401, name
    assert pulled(year).status_code == 401
    assert service(year, year.program).status_code == 401
    assert world.collect(year.cases["never collected"]).status_code == 401
    mails = len(year.mails.mails)
    asked = Client(REMOTE_ADDR="192.0.2.201").post(
        "/console/password-reset/", {"tenant": "acme", "email": "jack@acme.test"}
    )
    assert asked.status_code == 200
    year.work()
    assert len(year.mails.mails) == mails
    with tenant_scope(year.tenant_id):
        for row in StoredDeposit.objects.all():
            with pytest.raises(RecordUnreadable):
                escrow.open_deposit(row)


def work_goes_on_for_others(year: Year, caplog: pytest.LogCaptureFixture) -> None:
    """No periodic work, and no job, stumbles over a tenant that is no more."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _, work in queue.periodic():
            work()
        year.work()
    assert caplog.messages == []
    assert not Job.unscoped.filter(tenant_id=year.tenant_id, state=JobState.DEAD).exists()


# What is looked for in every table: the tenant itself, and everybody who was of it.


def rows_of(year: Year) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table in which the tenant, a person of it or their address stands, in whichever form."""
    people = list(Person.unscoped.filter(tenant_id=year.tenant_id))
    ids = [year.tenant_id, *(one.pk for one in people)]
    forms = [form for one in ids for form in (str(one), one.hex, b64u(one.bytes))] + [one.email for one in people]
    octets = re.compile(b"|".join(map(re.escape, [*(one.bytes for one in ids), *map(str.encode, forms)])))
    named: dict[str, list[dict[str, Any]]] = {}
    for table, rows in every_table().items():
        for row in rows:
            if any(octets.search(octets_of(one)) for one in row.values()):
                named.setdefault(table, []).append(row)
    return named


def every_table() -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables that there are, also those of no model."""
    found: dict[str, list[dict[str, Any]]] = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description or ()]
            found[table] = [dict(zip(names, map(plain, values), strict=True)) for values in cursor.fetchall()]
    return found


def plain(value: Any) -> str | bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value)


# Every table in which the tenant or somebody of it still stands after its end, and why.
REMAINS = {
    "audit_checkpoint": "the signed heads, by which the log is verified",
    "audit_entry": "the log is never changed",
    "audit_loghead": "how far the log is numbered",
    "audit_rolesstatement": "whose keys wrote the log, as the root said",
    "audit_tally": "what the log counts instead of listing",
    "audit_tile": "hashes of the log",
    "escrow_consent": "what people signed: a yes or no to escrow",
    "escrow_deposit": "rows that nothing opens, so that no half is ever deposited twice",
    "escrow_escrowkey": "the public half, by which old statements are verified",
    "escrow_policy": "what officers signed",
    "escrow_policyofficer": "public keys of officers",
    "escrow_receipt": "the release process's word on a deposit",
    "kernel_job": "what was promised, by id; swept after a month",
    "kernel_replayableanswer": "answers without keys; swept after a month",
    "keys_chainentry": "public keys, and what their owners signed",
    "keys_chainhead": "where a chain stands",
    "keys_device": "public keys of devices",
    "recovery_approval": "what officers signed in cases: hashes of shares, no share",
    "recovery_case": "what was asked, as it was signed",
    "recovery_casedeposit": "which deposits a case named",
    "recovery_notice": "who was told of which case",
    "recovery_release": "that a half was released; the half is gone",
    "recovery_veto": "what a device signed",
    "tenants_credential": "public keys of devices and programs",
    "tenants_enrolmentcode": "hashes of codes",
    "tenants_formeraddress": "where somebody was told as well; for 30 days",
    "tenants_import": "that a file was read; swept after a week",
    "tenants_importchunk": "whom it invited; swept after a week",
    "tenants_invitation": "hashes of links",
    "tenants_logtoken": "the hash of a token; swept three months after it ended",
    "tenants_mail": "what people were told; swept after a month",
    "tenants_nonce": "numbers of requests; swept after minutes",
    "tenants_passwordreset": "the hash of a link; swept",
    "tenants_pendingact": "what one asked and another confirmed; swept",
    "tenants_person": "the names that the log's entries lead to",
    "tenants_ratewindow": "counts of requests; swept",
    "tenants_serviceaccount": "the name that the log's entries lead to",
    "tenants_sponsorship": "who let whom in",
    "tenants_tenant": "its short name, which stays taken, and its public root",
    "tenants_tokenbucket": "counts of requests; swept",
}
# Columns of octets that still hold something in these rows: what was signed, hashes and public keys, but for one.
OCTETS = {
    "audit_checkpoint": "root",
    "audit_entry": "leaf",
    "audit_loghead": "edge",
    "audit_rolesstatement": "hash statement",
    "audit_tally": "digest",
    "audit_tile": "hashes",
    "escrow_consent": "hash policy_hash statement text_hash",
    # `sealed` is ciphertext under a master key that is gone, of a half sealed to an escrow key that is gone.
    "escrow_deposit": "ak_commitment escrow_key_hash half_hash policy_hash record_hash sealed",
    "escrow_escrowkey": "cka_id hash spki statement",
    "escrow_policy": "hash statement",
    "escrow_policyofficer": "sealing_key signing_key",
    "escrow_receipt": "statement",
    "keys_chainentry": "entry entry_hash",
    "keys_chainhead": "head state state_mac",
    "keys_device": "statement statement_hash",
    "recovery_approval": "statement statement_hash",
    "recovery_case": "policy_hash q statement",
    "recovery_casedeposit": "record_hash",
    "recovery_veto": "statement",
    "tenants_credential": "public_key",
    "tenants_enrolmentcode": "code_hash",
    "tenants_import": "digest",
    "tenants_invitation": "token_hash",
    "tenants_logtoken": "token_hash",
    "tenants_nonce": "nonce",
    "tenants_passwordreset": "bound token_hash",
    "tenants_pendingact": "shown",
    "tenants_tenant": "root_key root_pin",
}
# Of these, the octets of before stand nowhere any more.
GONE = (
    ("keys_tenantmasterkey", "wrapped"),
    ("keys_vault", "sealed"),
    ("recovery_release", "half"),
    ("recovery_releasedshare", "sealed"),
    ("tenants_authenticator", "sealed"),
    ("tenants_exportpiece", "octets"),
    ("tenants_person", "password"),
    ("tenants_recoverycode", "code_hash"),
)


def the_database_is_read(year: Year, before: dict[str, list[dict[str, Any]]]) -> None:
    """What is gone is gone, in every table; what remains is listed above."""
    after = rows_of(year)
    assert sorted(after.keys() - REMAINS.keys()) == []
    held = {
        (table, name)
        for table, rows in after.items()
        for row in rows
        for name, one in row.items()
        if isinstance(one, bytes) and one
    }
    assert sorted(held - {(table, name) for table, names in OCTETS.items() for name in names.split()}) == []
    gone = dict(year.secrets)
    for table, name in GONE:
        found = [row[name] for row in before[table]]
        assert any(found), (table, name)
        gone |= {f"{table}.{name} {number}": octets_of(one) for number, one in enumerate(found) if one}
    everything = b"\n".join(octets_of(one) for rows in every_table().values() for row in rows for one in row.values())
    assert [name for name, octets in gone.items() if octets in everything] == []


def octets_of(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def the_log_says_all_of_it(year: Year, exported: bytes) -> None:
    """What was taken home verifies without a server; what is in the database goes on from it, to the closing entry."""
    root = root_verifier(year.tenant_id.bytes, ROOT.public).to_text()
    whole = b"".join(log_lines(year))
    for name, octets in (("exported", exported), ("remaining", whole)):
        path = year.home / f"{name}.jsonl"
        path.write_bytes(octets)
        report = verify_export(path, root)
        assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.ANCHORED), report
    first, both = (json.loads(octets.splitlines()[-1])["checkpoint"] for octets in (exported, whole))
    assert verify_export(year.home / "remaining.jsonl", root, saved=[first]).verdict is Verdict.VERIFIED
    assert first != both
    entries = [json.loads(line) for line in whole.splitlines() if line.startswith(b'{"index":')]
    said = iter((one["tag"], one["subject"]) for one in entries)
    for wanted in year.said:
        assert wanted in said, f"{wanted} is not in the log after what came before it"
    (closing,) = [one["body"]["closing"] for one in entries if one["tag"] == "tenants:tenant:end"]
    # Afterwards only what the worker still finds of a case: nobody is left to renew what was opened of whoever left.
    after = entries[[one["tag"] for one in entries].index("tenants:tenant:end") + 1 :]
    assert {(one["tag"], one["subject"]) for one in after} == {
        ("recovery:case:seal", str(year.cases["of whoever left"].id))
    }
    (key,) = [one["body"] for one in entries if one["tag"] == "keys:tenant-key:destroy"]
    assert f"{key['version']} (" in closing
    assert f"wrapped by master versions {key['master_version']}" in closing
    assert "a backup of the token escrow" in closing
    assert not Entry.unscoped.filter(tenant_id=year.tenant_id, log="audit", leaf_index=None).exists()


def log_lines(year: Year) -> Iterator[bytes]:
    """The log as it stands in the database, whole, in the form of an export."""
    with tenant_scope(year.tenant_id):
        head, newest = audit_access.latest_checkpoint("audit"), audit_access.newest_roles()
        assert newest is not None
        roles = bytes(newest.statement)
    yield from export.lines(year.tenant_id, "audit", head, roles=roles)
