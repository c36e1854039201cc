# SPDX-License-Identifier: Apache-2.0
"""One person's keys are shredded: two persons ask, the worker does it, and the database is read afterwards.

ORGANISATION "People" (leaver). What is gone is gone; what remains is listed, with why.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import connection, transaction

from audit.models import Entry
from config.database_roles import columns, grants
from escrow import coverage
from escrow import services as escrow
from escrow.access import newest_deposits
from escrow.errors import RecordUnreadable
from escrow.models import Deposit
from holdfast.core.vault.blob import Section
from kernel import queue
from kernel.models import Job
from kernel.scope import tenant_scope
from keys.models import Device, Message, Vault, VaultDoor
from recovery.leaving import shredding
from recovery.models import (
    Approval,
    Case,
    ContactAnswer,
    ContactRequest,
    ContactSet,
    Release,
    ReleasedShare,
    SealedShare,
    Shredding,
)
from tenants import access
from tenants.models import Authenticator, Person
from tenants.roles import Role
from tests.cast.administrators import Administrator, administrator, hidden, settle
from tests.cast.browsers import text_of
from tests.cast.contacts import TrustedContacts
from tests.cast.database_roles import acting_as, database_users
from tests.cast.founded import Hsm
from tests.cast.phones import audit_away
from tests.cast.tenants import give_password, give_totp, make_person
from tests.cast.world import World
from tests.keys.mail import letter
from tests.recovery.cases.test_vetoes import quorate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


class Scene:
    """Alice with all that a key of theirs opens, and two owners who could shred it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.cast.people.setdefault("oscar", self._oscar())
        self.olivia, self.oscar = administrator(world.cast.olivia), administrator(world.cast.oscar)
        settle(world.cast.olivia, world.cast.oscar)
        self.alice: Person = world.cast.alice

    def _oscar(self) -> Person:
        with tenant_scope(self.world.tenant_id):
            return make_person("oscar", Role.OWNER)

    def leave(self) -> None:
        assert self.olivia.do("person-leave", self.alice).status_code == 302

    def propose(self) -> Any:
        return self.olivia.do("person-shred", self.alice)

    def confirm(self, by: Administrator, page_of: Any) -> Any:
        page = by.client.get(page_of["location"])
        assert page.status_code == 200, text_of(page)
        return by.client.post(page_of["location"], {**hidden(page), "code": by.code()})

    def ask(self) -> None:
        """Have both owners ask for it; the worker has done nothing yet."""
        answer = self.confirm(self.oscar, self.propose())
        assert answer.status_code == 302, text_of(answer)

    def shred(self) -> None:
        self.ask()
        self.world.work()

    @property
    def row(self) -> Shredding:
        found: Shredding = Shredding.unscoped.get(person_id=self.alice.pk)
        return found

    def page(self) -> str:
        return text_of(self.olivia.client.get(f"/console/people/{self.alice.pk}/"))


@pytest.fixture
def scene(found: Any) -> Scene:
    return Scene(found(undelivered_delay_seconds=0))


def furnish(scene: Scene) -> dict[str, Any]:
    """Give alice a vault with doors, contacts who gave a share, messages, deposits, and a case that was released."""
    world, alice = scene.world, scene.world.directory.phone("alice")
    account = world.directory.account("alice")
    assert alice.send("PUT", "/api/v1/vault", account.vault(alice, 1), if_match='"0"').status_code == 204
    door = {"blob": account.officers_door(alice, "password", section=Section.VAULT)["blob"]}
    assert alice.send("PUT", "/api/v1/vault/doors/password", door, if_match='"0"').status_code == 204
    bob = world.directory.phone("bob")
    assert letter(bob, alice, kind="share").status_code == 201
    trusted = TrustedContacts.of(world.directory, "alice", ["bob", "carol", "dan"])
    assert trusted.storing(0).send().status_code == 204
    asking = trusted.ask(world.new_phone())
    trusted.give("bob", asking)
    deposit = world.deposit()
    released = world.opened(deposit, phone=bob)
    for name in ("carol", "dan"):
        assert world.approve(released, name, deposit).status_code == 201
    world.tick()
    assert world.state(released) == "released"
    give_password(world.cast.alice)
    give_totp(world.cast.alice)
    return {"deposit": deposit, "released": released}


def furnished(scene: Scene) -> dict[str, Any]:
    made = furnish(scene)
    scene.leave()
    return made


# Who may, and when.


def test_it_takes_two_persons_who_do_not_stand_behind_each_other(scene: Scene, hsm: Hsm) -> None:
    scene.world.deposit()
    scene.leave()
    proposed = scene.propose()
    assert not Shredding.unscoped.exists()
    page = scene.olivia.client.get(proposed["location"])
    answer = scene.olivia.client.post(
        proposed["location"], {"token": hidden(page).get("token", ""), "code": scene.olivia.code()}
    )
    assert answer.status_code == 403
    assert not Shredding.unscoped.exists()
    assert scene.confirm(scene.oscar, proposed).status_code == 302
    assert Shredding.unscoped.exists()


def test_nobody_is_shredded_who_is_still_here(scene: Scene) -> None:
    answer = scene.olivia.look("person-shred", scene.alice)
    assert answer.status_code == 409
    assert "has not left" in text_of(answer)
    assert "person-shred" not in scene.olivia.client.get(f"/console/people/{scene.alice.pk}/").content.decode()


def test_job_for_somebody_who_is_here_destroys_nothing(scene: Scene, hsm: Hsm) -> None:
    """Whoever writes the table of jobs, or of what was asked, gets nobody's keys destroyed who has not left."""
    world = scene.world
    world.deposit()
    with tenant_scope(world.tenant_id), transaction.atomic():
        Shredding.objects.create(person_id=scene.alice.pk, asked_at="2026-01-01T00:00:00Z")
        queue.enqueue(shredding.SHRED_JOB, person=str(scene.alice.pk))
    world.work()
    assert Deposit.unscoped.get().shredded_at is None
    assert scene.row.finished_at is None


def test_words_name_what_goes_what_stays_and_the_backups(scene: Scene, hsm: Hsm) -> None:
    furnished(scene)
    words = text_of(scene.olivia.look("person-shred", scene.alice))
    assert "1 deposit in escrow with both their halves, their vault and 1 door to it" in words
    assert "A backup of the database made before it still holds all of this" in words
    assert "every entry of the log" in words


# What goes.


def test_what_a_key_opens_is_gone(scene: Scene, hsm: Hsm) -> None:
    made = furnished(scene)
    world, alice = scene.world, scene.alice
    scene.shred()
    assert scene.row.finished_at is not None
    assert not Vault.unscoped.filter(user_id=alice.pk).exists()
    assert not VaultDoor.unscoped.filter(user_id=alice.pk).exists()
    assert not ContactSet.unscoped.filter(user_id=alice.pk).exists()
    assert not ContactAnswer.unscoped.filter(request__owner_id=alice.pk, sealed__isnull=False).exists()
    theirs = Device.unscoped.filter(user_id=alice.pk).values("id")
    assert not Message.unscoped.filter(device_id__in=theirs).exists()
    assert not Authenticator.objects.filter(user=alice).exists()
    assert not Person.unscoped.get(pk=alice.pk).has_usable_password()
    row = Deposit.unscoped.get()
    assert (bytes(row.sealed), row.shredded_at is not None) == (b"", True)
    assert bytes(Release.unscoped.get().half) == b""
    assert not ReleasedShare.unscoped.exists()
    assert not SealedShare.unscoped.exists()
    # Nobody opens it: not whom a case had given it, and not the server itself.
    assert world.state(made["released"]) == "expired"
    assert world.collect(made["released"]).status_code == 409
    with tenant_scope(world.tenant_id), pytest.raises(RecordUnreadable):
        escrow.open_deposit(row)


def test_others_keys_are_untouched(scene: Scene, hsm: Hsm) -> None:
    world = scene.world
    bobs = world.deposit("bob")
    bob_account, bob = world.directory.account("bob"), world.directory.phone("bob")
    assert bob.send("PUT", "/api/v1/vault", bob_account.vault(bob, 1), if_match='"0"').status_code == 204
    furnished(scene)
    assert letter(world.directory.phone("carol"), bob, kind="share").status_code == 201
    scene.shred()
    assert bytes(Deposit.unscoped.get(user_id=bob.person.pk).sealed)
    assert Vault.unscoped.filter(user_id=bob.person.pk).exists()
    assert Message.unscoped.filter(device_id=bob.id, kind="share").exists()
    case = world.opened(bobs, phone=world.directory.phone("carol"))
    assert world.state(case) == "requested"


# Every table in which the person's id, or one of their devices', still stands, and why.
REMAINS = {
    "audit_entry": "the log is never changed: it names who did what, and holds no key",
    "audit_waiting": "the same, until it has its index a second later",
    "escrow_consent": "what they signed: a yes or no to escrow",
    "escrow_deposit": "ids and hashes, so that no half is ever deposited twice; the record is empty",
    "escrow_receipt": "the release process's word that a half was its deposit's own",
    "kernel_job": "what was promised about them, by id; swept after a month",
    "kernel_replayableanswer": "answers to their devices' requests, without keys; swept after a month",
    "keys_chainentry": "public keys, which others pinned, and what they signed",
    "keys_chainhead": "where the chain of public keys stands",
    "keys_device": "public keys of devices",
    "keys_message": "what the server told others about them; swept after a month",
    "recovery_approval": "what an officer signed in a case: hashes of shares, no share",
    "recovery_case": "what was asked about them, as it was signed",
    "recovery_casedeposit": "which deposits a case named",
    "recovery_contactanswer": "that a contact was asked; the share is gone",
    "recovery_contactrequest": "that contacts were asked",
    "recovery_notice": "what people were told of their cases",
    "recovery_release": "that a half was released; the half is gone",
    "recovery_shredding": "that it was asked, and how much was destroyed",
    "tenants_credential": "public keys of devices",
    "tenants_enrolmentcode": "hashes of codes",
    "tenants_mail": "what they were told by mail; swept after a month",
    "tenants_nonce": "numbers of their devices' requests; swept after minutes",
    "tenants_pendingact": "that it was asked by one and confirmed by another; swept after days",
    "tenants_person": "the name that the log's entries lead to",
    "tenants_ratewindow": "counts of requests; swept",
    "tenants_sponsorship": "who let them in",
    "tenants_tokenbucket": "counts of requests; swept",
}
# Columns that hold what a key opens, or what a key is made from: of no row of theirs is there anything.
OPENABLE = {
    "keys_vault": "sealed",
    "keys_vaultdoor": "sealed",
    "escrow_deposit": "sealed",
    "recovery_contactanswer": "sealed",
    "recovery_release": "half",
    "recovery_releasedshare": "sealed",
    "recovery_sealedshare": "sealed",
    "recovery_contactset": "manifest",
}


def ids_of(person: Person) -> set[UUID]:
    """A person's id, and those of all rows that lead to what is theirs: devices, deposits, cases, requests."""
    cases = Case.unscoped.filter(subject_id=person.pk)
    mine = [
        Device.unscoped.filter(user_id=person.pk),
        Deposit.unscoped.filter(user_id=person.pk),
        ContactRequest.unscoped.filter(owner_id=person.pk),
        cases,
        Approval.unscoped.filter(case_id__in=cases.values("id")),
        Release.unscoped.filter(case_id__in=cases.values("id")),
    ]
    found = {one for rows in mine for row in rows for one in (row.pk, row.id) if isinstance(one, UUID)}
    return {person.pk, *found}


def rows_naming(ids: set[UUID]) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table in whose columns one of these ids stands, in whichever form."""
    forms = [form for one in ids for form in (str(one), one.hex)]
    octets = [one.bytes for one in ids]
    found: dict[str, list[dict[str, Any]]] = {}
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.managed:
            continue  # a view repeats rows
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description or ()]
            for values in cursor.fetchall():
                if any(_names(value, forms, octets) for value in values):
                    found.setdefault(table, []).append(dict(zip(names, values, strict=True)))
    return found


def _names(value: Any, forms: list[str], octets: list[bytes]) -> bool:
    if isinstance(value, bytes | memoryview):
        return any(one in bytes(value) for one in octets)
    return any(form in str(value) for form in forms)


def test_database_read_afterwards_names_them_where_it_says_and_nowhere_else(scene: Scene, hsm: Hsm) -> None:
    furnished(scene)
    ids = ids_of(scene.alice)
    before = rows_naming(ids)
    assert {"keys_vault", "keys_vaultdoor", "recovery_contactset"} <= before.keys()
    assert any(row["sealed"] for row in before["escrow_deposit"])
    scene.shred()
    after = rows_naming(ids)
    assert after.keys() <= REMAINS.keys(), sorted(after.keys() - REMAINS.keys())
    for table, column in OPENABLE.items():
        for row in after.get(table, []):
            assert not row[column], (table, column)


def test_every_record_of_a_person_has_a_key_of_its_own(scene: Scene, hsm: Hsm) -> None:
    """Why a row that is gone takes its key with it: no other row holds the wrapped key that it was sealed under."""
    world = scene.world
    world.deposit()
    world.deposit()
    world.deposit("bob")
    # format, version of the tenant's key, then the wrapped record key (docs/formats/records.md).
    wrapped = [bytes(row.sealed)[5:45] for row in Deposit.unscoped.all()]
    assert len(set(wrapped)) == 3


# How it goes.


def test_log_counts_what_was_destroyed_and_the_page_says_so(scene: Scene, hsm: Hsm) -> None:
    furnished(scene)
    scene.ask()
    assert "Under way since" in scene.page()
    assert "1 deposit to go" in scene.page()
    scene.world.work()
    body = Entry.unscoped.get(tag="recovery:shredding:finish").body
    # A letter, and what the server told their device of meanwhile.
    assert body.pop("messages") >= 1
    assert body == {"contacts": 1, "deposits": 1, "doors": 1, "given": 0, "releases": 1, "vaults": 1}
    page = scene.page()
    assert "Nobody opens any of it any more; a backup of before may." in page
    assert "shredded" in page


def test_job_that_died_goes_on_and_counts_each_once(scene: Scene, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    world = scene.world
    for _ in range(3):
        world.deposit()
    scene.leave()
    scene.ask()
    monkeypatch.setattr(shredding, "AT_ONCE", 1)
    job = Job.unscoped.get(kind=shredding.SHRED_JOB)

    class Died(Exception):
        pass

    renewed: list[int] = []

    def die() -> None:
        renewed.append(1)
        if len(renewed) == 2:
            raise Died

    with tenant_scope(world.tenant_id), pytest.raises(Died):
        shredding.shred(person_id=scene.alice.pk, actor=world.ceremony, renew=die)
    assert Deposit.unscoped.filter(shredded_at=None).count() == 1
    assert scene.row.finished_at is None
    assert queue.run_one(job.pk)
    assert scene.row.done["deposits"] == 3
    assert queue.run_due("worker") >= 0
    assert Entry.unscoped.filter(tag="recovery:shredding:finish").count() == 1


def test_without_its_entry_it_is_not_said_to_be_done(scene: Scene, hsm: Hsm) -> None:
    scene.world.deposit()
    scene.leave()
    scene.ask()
    with audit_away():
        queue.run_due("worker")
    assert scene.row.finished_at is None
    Job.unscoped.filter(kind=shredding.SHRED_JOB).update(run_at="2026-01-01T00:00:00Z")
    scene.world.work()
    assert scene.row.finished_at is not None


def test_cases_about_them_end_with_the_reason_and_none_is_opened(scene: Scene, hsm: Hsm) -> None:
    world = scene.world
    deposit = world.deposit()
    scene.leave()
    case = quorate(world, deposit, world.directory.phone("bob"))
    scene.ask()
    assert (world.state(case), world.row(case).why) == ("cancelled", "shredded")
    shown = world.directory.phone("carol").send("GET", case.path).json()
    assert "their keys were destroyed" in shown["ended"]["text"]
    answer = world.open(world.case(world.directory.phone("bob"), deposit))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")
    world.work()
    answer = world.open(world.case(world.directory.phone("bob"), deposit))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")


def test_what_is_being_released_right_now_comes_first(scene: Scene, hsm: Hsm) -> None:
    world = scene.world
    deposit = world.deposit()
    scene.leave()
    case = quorate(world, deposit, world.directory.phone("bob"))
    row = world.row(case)
    type(row).unscoped.filter(pk=row.pk).update(state="releasing")
    answer = scene.olivia.look("person-shred", scene.alice)
    assert answer.status_code == 409
    assert "being released at this moment" in text_of(answer)


def test_shredded_generations_are_neither_covered_nor_missing(scene: Scene, hsm: Hsm) -> None:
    world = scene.world
    world.deposit()
    world.deposit("bob")
    scene.leave()
    scene.shred()
    with tenant_scope(world.tenant_id):
        found, _ = coverage.tenant_coverage()
        assert [one.user_id for one in found if one.deposits or one.missing] == [world.cast.bob.pk]
        assert coverage.coverage_totals().covered == 1
        # What a ceremony tries a restored key on.
        assert [row.user_id for row in newest_deposits(10)] == [world.cast.bob.pk]


# Who may write what.


def test_web_process_empties_no_deposit_and_the_worker_deletes_none() -> None:
    assert "u" not in grants()["escrow_deposit"]["web"]
    assert "d" not in "".join(grants()["escrow_deposit"].values())
    assert set(columns("escrow_deposit", "u", "worker").copy()) >= {"sealed", "shredded_at"}
    assert "d" not in grants()["keys_vault"]["web"]
    assert "i" not in grants()["recovery_shredding"]["worker"]


@pytest.mark.postgres_only
def test_each_process_does_its_part_with_its_own_rights(scene: Scene, hsm: Hsm) -> None:
    furnished(scene)
    world, alice = scene.world, scene.alice
    with database_users() as prefix, tenant_scope(world.tenant_id):
        with acting_as("web", prefix=prefix):
            shredding.begin(person=access.person(alice.pk), actor=world.ceremony)
        with acting_as("worker", prefix=prefix):
            shredding.shred(person_id=alice.pk, actor=world.ceremony, renew=lambda: None)
    assert scene.row.finished_at is not None
    assert not Vault.unscoped.filter(user_id=alice.pk).exists()
