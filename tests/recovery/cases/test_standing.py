# SPDX-License-Identifier: Apache-2.0
"""What a case waits for is said to its requester, to officers and on pages; stuck for ten minutes is an alarm."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from holdfast.core.escrow.approvals import Approver
from holdfast.core.identity import cases
from holdfast.core.identity.acts import Standing
from holdfast.core.signed.payloads import Header
from kernel import queue
from kernel.models import Job
from kernel.scope import tenant_scope
from recovery.cases import standing
from recovery.cases.counting import settle_case
from recovery.models import Case
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.officers import approve_as
from tests.cast.phones import now
from tests.cast.world import OpenCase, World

pytestmark = pytest.mark.django_db(transaction=True)


def asked(world: World, case: OpenCase) -> dict[str, object]:
    answer = case.phone.send("GET", case.path)
    assert answer.status_code == 200, answer.content
    document: dict[str, object] = answer.json()
    return document


def test_two_approvals_of_two_never_stand_alone(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    assert world.state(case) == "waiting"
    world.stand("dan", Standing.SUSPENDED, by="erin")
    with tenant_scope(world.tenant_id):
        settle_case(case_id=case.id, actor=world.ceremony)
    document = asked(world, case)
    approvals = document["approvals"]
    assert isinstance(approvals, list)
    assert (document["state"], len(approvals), document["needed"]) == ("requested", 2, 2)
    assert [one["why_not"] for one in approvals] == ["", "is suspended or removed"]
    waiting = document["waiting_for"]
    assert isinstance(waiting, dict)
    for said in ("An approval counts no more.", "1 of 2 approvals count.", "Officer 2 approved and is suspended"):
        assert said in str(waiting["text"])
    assert "Officer 2 approved and is suspended" in text_of(
        signed_in(world.cast.people["erin"]).get(f"/console/cases/{case.id}/")
    )


def test_approval_that_ran_out_is_no_disagreement(world: World, hsm: Hsm) -> None:
    """Rows and release process count by one rule: an approval that expires sends the case back, and holds it not."""
    deposit = world.deposit()
    case = world.opened(deposit)
    assert world.approve(case, "carol", deposit).status_code == 201
    founder, policy = world.founders["dan"], world.policies[-1]
    officer = policy.policy.officer(founder.signing_key.public.kid)
    assert officer is not None
    header = replace(Header(world.tenant_id.bytes, founder.person, b"", now()), expires_at=now() + 3)
    by = Approver(officer, founder.signing_key, founder.sealing_key, header, cases.ClientKind.CLI)
    signed, outers = approve_as(case.statement, {deposit.header.deposit_id: deposit}, by, policy=policy)
    document = {
        "statement": b64u(signed.encode()),
        "shares": [[str(uuid.UUID(bytes=one.deposit_id)), b64u(one.outer)] for one in outers],
    }
    assert world.directory.phone("dan").send("POST", f"{case.path}/approvals", document).status_code == 201
    assert world.state(case) == "waiting"
    time.sleep(3.1)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "quorum-lost", 0)
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert world.state(case) == "released"


def test_case_that_is_stuck_for_ten_minutes_is_an_alarm(
    world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture
) -> None:
    case, _ = world.approved("carol", "dan")
    row = world.row(case)
    since = row.opened_at - timedelta(minutes=11)
    Case.unscoped.filter(id=case.id).update(why="hsm-away", why_since=since)
    with caplog.at_level(logging.CRITICAL, logger="holdfast.stuck"):
        assert standing.raise_alarms() == 1
    assert f"case {case.id} is stuck" in caplog.text
    assert "The HSM is away." in caplog.text
    Case.unscoped.filter(id=case.id).update(why_since=row.opened_at)
    assert standing.raise_alarms() == 0
    assert "The HSM is away." in str(asked(world, case)["waiting_for"])


def test_case_whose_notice_is_not_taken_says_until_when_it_waits_and_why(
    found: Callable[..., World], settings: Any
) -> None:
    world = found(undelivered_delay_seconds=13 * 86_400)
    deposit = world.deposit()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # nothing listens there
    case = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    begun = world.row(case).quorate_at
    assert begun is not None
    for tries in range(1, 5):
        said = asked(world, case)["waiting_for"]
        assert isinstance(said, dict)
        assert (said["code"], said["stuck"]) == ("notice-not-taken", True)
        assert f"in {tries} {'try' if tries == 1 else 'tries'}. It is tried until about " in said["text"]
        # The case ends within the hour, so that it is given up after the fewest tries, and the long delay begins then.
        days = {f"{at + timedelta(days=13):%-d %B %Y, %H:%M} UTC" for at in (begun, timezone.now())}
        assert any(f"until about {day}, since the notice could not be delivered" in said["text"] for day in days)
        Job.unscoped.filter(kind="recovery.notice").update(run_at=Now())
        queue.run_due(queue.MAIL)
    said = asked(world, case)["waiting_for"]
    assert isinstance(said, dict)
    until = f"{world.row(case).release_at:%-d %B %Y, %H:%M} UTC"
    assert said["text"] == f"The long delay runs until {until}, since the notice to its subject could not be delivered."
    assert said["text"] in text_of(signed_in(world.cast.people["erin"]).get(f"/console/cases/{case.id}/"))


def test_officer_with_other_keys_sends_a_case_back_and_holds_it_not(world: World, hsm: Hsm) -> None:
    """An honest case whose officer was re-keyed meanwhile goes back to its officers, and on with another."""
    case, deposit = world.approved("carol", "dan")
    assert world.state(case) == "waiting"
    before = world.founders["dan"]
    world.add_founder("dan")
    world.publish(world.policy(m=2), signers=[world.founders["carol"], before])
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "quorum-lost", 0)
    assert "or has other keys" in str(asked(world, case)["waiting_for"])
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
