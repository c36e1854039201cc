# SPDX-License-Identifier: Apache-2.0
"""How a case ends, what it waits for, and what happens when several people act at once (FAULTS P11, P12, R3, X4)."""

from __future__ import annotations

import functools
import secrets
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity import cases, chain_author
from holdfast.core.identity.entries import Reason
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from kernel import queue
from kernel.models import Job
from kernel.scope import tenant_scope
from recovery import tasks
from recovery.cases.endings import destroy_all_sealed
from recovery.cases.notices import owe
from recovery.models import Case, Notice, Release, ReleasedShare, SealedShare
from recovery.states import CaseState
from tests.cast.founded import Hsm
from tests.cast.phones import Phone
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.cases.test_shares import be_over

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def veto(world: World, case: OpenCase, phone: Phone) -> Any:
    statement = cases.Veto(phone.header(), case.statement.payload_hash, "This is not me.")
    signed = cose.sign(statement.to_payload(), purpose=Purpose.VETO, key=phone.isk)
    return phone.send("POST", f"{case.path}/veto", {"statement": b64u(signed.encode())})


def release_at(world: World, case: OpenCase) -> datetime:
    at = world.row(case).release_at
    assert at is not None
    return at


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Run every act in a thread of its own, all released together, and return their answers."""
    barrier, answers = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int) -> None:
        try:
            barrier.wait()
            answers[place] = acts[place]()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def test_veto_of_the_subject_ends_the_case_and_destroys_the_shares(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    assert veto(world, case, world.directory.phone("alice")).status_code == 201
    assert (world.state(case), SealedShare.unscoped.count()) == ("vetoed", 0)
    world.tick()
    assert hsm.unwraps() == 0


def test_veto_is_refused_to_a_device_of_somebody_else_and_to_a_pending_one(world: World) -> None:
    case, _ = world.approved("carol", "dan")
    assert veto(world, case, world.directory.phone("bob")).status_code == 404
    assert veto(world, case, case.phone).status_code == 403
    assert world.state(case) == "waiting"


def test_third_veto_asks_one_officer_more_instead_of_ending_the_case(world: World, hsm: Hsm) -> None:
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    for ends in (True, True, False):
        case = world.opened(deposit, phone=phone)
        for name in ("carol", "dan"):
            assert world.approve(case, name, deposit).status_code == 201
        if ends:
            assert veto(world, case, alice).json()["state"] == "vetoed"
    assert veto(world, case, alice).json()["state"] == "requested"
    world.tick()
    assert hsm.unwraps() == 0
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_cancel_ends_a_case_by_the_person_who_opened_it_only(world: World) -> None:
    case, _ = world.approved("carol")
    assert world.directory.phone("bob").send("POST", f"{case.path}/cancel", {}).status_code == 404
    assert case.phone.send("POST", f"{case.path}/cancel", {}).json()["state"] == "cancelled"


def test_expiry_ends_a_case_by_the_worker_and_never_by_a_read(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    be_over(case)
    assert case.phone.send("GET", case.path).json()["state"] == "waiting"
    tasks.expire_cases()
    assert world.state(case) == "expired"
    world.tick()
    assert hsm.unwraps() == 0


def test_release_waits_for_the_date_in_the_signed_case(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan", not_before=int(timezone.now().timestamp()) + 600)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("waiting", 0)


def test_release_waits_for_the_policys_delay_by_the_logs_time(found: Callable[..., World], hsm: Hsm) -> None:
    world = found(delay_seconds=600)
    case, _ = world.approved("carol", "dan")
    # Whoever edits the row's time changes what is shown, not what the log says.
    Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(days=1))
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("waiting", 0)
    assert release_at(world, case) > timezone.now() + timedelta(seconds=500)


def test_release_waits_for_the_long_delay_when_the_notice_cannot_be_delivered(
    world: World, hsm: Hsm, settings: Any
) -> None:
    deposit = world.deposit()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # nothing listens there
    case = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    # Not told and not settled: the clock has not started.
    assert world.state(case) == "quorate"
    world.tick()
    assert hsm.unwraps() == 0
    for _ in range(5):
        Job.unscoped.filter(kind="recovery.notice").update(run_at=Now())
        queue.run_due(queue.MAIL)
    assert Notice.unscoped.get(case_id=case.id, kind="opened").state == "failed"
    assert world.state(case) == "waiting"
    assert release_at(world, case) > timezone.now() + timedelta(seconds=3000)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("waiting", 0)


def test_subject_and_officers_are_told_of_a_case_and_the_subject_of_its_release(world: World) -> None:
    case, _ = world.approved("carol", "dan")
    told = {message.to[0]: message.subject for message in mail.outbox}
    assert set(told) == {f"{name}@acme.test" for name in ("alice", "carol", "dan", "erin")}
    world.tick()
    world.work()
    assert mail.outbox[-1].subject == "Your escrowed keys were released"
    assert {"recovery:notice:hand-over", "recovery:release:finish"} <= set(world.tags(case))


@pytest.mark.parametrize("kind", ["released", "requested"])
def test_mail_about_a_case_has_no_line_of_others(kind: str, world: World) -> None:
    case, _ = world.approved()
    # No policy that a ceremony writes has such a purpose; a mail does not rest on that.
    with as_superuser("recovery_case"):
        Case.unscoped.update(purpose="x\nFORGED\u202e")
    with tenant_scope(world.tenant_id), transaction.atomic():
        owe(world.row(case), world.cast.alice.pk, kind, timezone.now())
    queue.run_due(queue.MAIL)
    told = mail.outbox[-1].body
    assert "x<U+000A>FORGED<U+202E>\n" in told
    assert not [line for line in told.splitlines() if line.startswith("FORGED")]


def test_parallel_final_approvals_make_one_release(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved()
    phones = {name: world.directory.phone(name) for name in ("carol", "dan", "erin")}
    documents = {name: world.signed_approval(case, name, [deposit]) for name in phones}

    def sending(name: str) -> Callable[[], Any]:
        return lambda: phones[name].send("POST", f"{case.path}/approvals", documents[name])

    answers = at_once(*[sending(name) for name in phones for _ in range(3)])
    assert {answer.status_code for answer in answers} == {201}
    for _ in range(3):
        world.tick()
    assert (world.state(case), Release.unscoped.count(), hsm.unwraps()) == ("released", 1, 1)


def test_veto_racing_with_the_release_wins_or_comes_too_late_and_the_log_says_which(world: World, hsm: Hsm) -> None:
    alice, phone, deposit = world.directory.phone("alice"), world.new_phone(), world.deposit()
    outcomes = set()
    for _ in range(2):
        case = world.opened(deposit, phone=phone)
        for name in ("carol", "dan"):
            assert world.approve(case, name, deposit).status_code == 201
        world.sequence()
        hsm.interposer.forget()
        with world.process() as process:
            vetoed, _ = at_once(functools.partial(veto, world, case, alice), process.tick)
        tags, state = world.tags(case), world.state(case)
        outcomes.add(state)
        if vetoed.status_code == 201:
            assert (state, hsm.unwraps()) == ("vetoed", 0)
            assert "recovery:release:begin" not in tags
        else:
            assert (vetoed.status_code, state, hsm.unwraps()) == (409, "released", 1)
            assert "recovery:case:veto" not in tags
    assert outcomes <= {"vetoed", "released"}


def test_release_loses_nothing_when_the_hsm_is_away(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    hsm.interposer.rules("C_WrapKey rv 0x32")
    world.tick()
    row = world.row(case)
    assert (row.state, row.why) == ("waiting", "hsm-away")
    assert "recovery:release:defer" in world.tags(case)
    hsm.interposer.rules()
    hsm.interposer.forget()
    Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(seconds=1))
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert world.combine(case, deposit, world.collect(case).json()) == world.archive_keys[deposit.header.deposit_id]


def test_release_voids_a_share_that_is_not_what_was_signed_for_and_takes_another_officers(
    world: World, hsm: Hsm
) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    honest, other = world.signed_approval(case, "carol", [deposit]), world.signed_approval(case, "carol", [deposit])
    honest["shares"] = other["shares"]  # sealed again: another ciphertext than the one in the statement
    assert world.directory.phone("carol").send("POST", f"{case.path}/approvals", honest).status_code == 201
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("requested", "share-wrong", 0)
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert world.combine(case, deposit, world.collect(case).json()) == world.archive_keys[deposit.header.deposit_id]


def test_collected_case_is_rotated_once_the_subject_has_renewed_what_was_exposed(world: World) -> None:
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert world.collect(case).status_code == 200
    tasks.follow_rotations()
    assert world.state(case) == "collected"
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    successor = SigningKey.generate()
    rotated = chain_author.rotate_key(
        account.chain, by=account.author(phone), new_aik=successor, reason=Reason.RECOVERY
    )
    assert account.append(phone, [rotated]).status_code == 201
    account.aik = successor
    world.build()
    tasks.follow_rotations()
    assert world.state(case) == "rotated"


def test_every_role_is_refused_to_change_a_pending_case(world: World) -> None:
    case, _ = world.approved("carol")
    before = Case.unscoped.filter(id=case.id).values().get()
    for name in ("alice", "bob", "carol", "olivia", "rex"):
        phone = world.directory.phone(name)
        for method in ("PUT", "PATCH", "DELETE"):
            assert phone.send(method, case.path, {"not_before": "2020-01-01T00:00:00Z"}).status_code == 405
        changed = world.case(case.phone, world.deposit(), case_id=case.id.bytes)
        assert phone.send("POST", "/api/v1/cases", {"case": b64u(changed.statement.encode())}).status_code == 422
    assert Case.unscoped.filter(id=case.id).values().get() == before


def test_case_is_not_found_for_mallory(world: World) -> None:
    case, _ = world.approved("carol", "dan")
    phone = world.directory.phone("mallory")
    routes = [("GET", ""), ("GET", "/release"), ("GET", "/attestations"), ("POST", "/cancel")]
    unknown = f"/api/v1/cases/{SealingKey.generate().public.kid.hex()}"
    for method, route in routes:
        document: dict[str, str] | None = {} if method == "POST" else None
        answer = phone.send(method, case.path + route, document)
        assert answer.status_code == 404
        assert answer.content == phone.send(method, _uuid_path(unknown) + route, document).content


def _uuid_path(path: str) -> str:
    import uuid

    head, _, tail = path.rpartition("/")
    return f"{head}/{uuid.UUID(hex=tail)}"


def test_delayed_notice_keeps_the_case_from_the_subject_until_its_date(found: Callable[..., World]) -> None:
    world = found(max_notice_delay_seconds=3600)
    deposit = world.deposit()
    later = int(timezone.now().timestamp()) + 600
    case = world.opened(deposit, phone=world.directory.phone("carol"), purpose="legal", notice_at=later)
    assert world.directory.phone("alice").send("GET", case.path).status_code == 404
    assert "alice@acme.test" not in {message.to[0] for message in mail.outbox}
    with tenant_scope(world.tenant_id):
        assert Notice.objects.get(kind="opened").state == "pending"


def test_open_case_stands_first_whatever_was_opened_and_ended_after_it(world: World) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    row = world.row(case)
    ended = [
        Case(
            **{name: getattr(row, name) for name in ("tenant_id", "statement", "subject_id", "requester_id")},
            **{name: getattr(row, name) for name in ("recipient_device_id", "recipient_person_id", "purpose")},
            **{name: getattr(row, name) for name in ("policy_hash", "notice_at", "not_before", "expiry")},
            id=uuid.uuid4(),
            q=secrets.token_bytes(32),
            state=CaseState.CANCELLED,
            opened_at=row.opened_at + timedelta(seconds=number // 2),
            ended_at=row.opened_at + timedelta(seconds=number // 2),
        )
        for number in range(205)
    ]
    Case.unscoped.bulk_create(ended)
    seen: list[str] = []
    query = ""
    while True:
        page = case.phone.send("GET", f"/api/v1/cases{query}").json()
        seen += [listed["case_id"] for listed in page["cases"]]
        if not page["more"]:
            break
        query = f"?after={seen[-1]}"
    assert seen[0] == str(case.id)
    assert len(seen) == len(set(seen)) == 206
    for after in ("nonsense", "%20", ""):
        assert case.phone.send("GET", f"/api/v1/cases?after={after}").status_code == 400
    assert case.phone.send("GET", f"/api/v1/cases?after={uuid.uuid4()}").status_code == 404


def test_end_of_the_tenant_leaves_no_half_and_no_share(world: World, hsm: Hsm) -> None:
    released, deposit = world.approved("carol", "dan")
    world.tick()
    assert world.state(released) == "released"
    waiting = world.opened(deposit, phone=world.new_phone())
    assert world.approve(waiting, "carol", deposit).status_code == 201
    assert (SealedShare.unscoped.exists(), ReleasedShare.unscoped.exists()) == (True, True)
    with tenant_scope(world.tenant_id), transaction.atomic():
        destroy_all_sealed()
    assert (SealedShare.unscoped.exists(), ReleasedShare.unscoped.exists()) == (False, False)
    row = Release.unscoped.get()
    assert (bytes(row.half), row.destroyed_at is not None) == (b"", True)
    assert world.collect(released).status_code == 409
