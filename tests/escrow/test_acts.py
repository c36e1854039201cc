# SPDX-License-Identifier: Apache-2.0
"""Officers' standing and their resolutions: who moves whom, what passes, and what nobody's word undoes."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import Error, connections
from django.utils import timezone

from audit.models import Entry
from escrow import access, acts
from escrow.models import OfficerStatement, PolicyOfficer, Resolution
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.identity.acts import MAX_AGE_SECONDS, Act, Standing, verify_officer_state, verify_resolution
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from kernel.scope import tenant_scope
from tenants import access as people
from tenants import services as tenants
from tests.cast.phones import audit_away, now
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def states(world: World) -> dict[str, str]:
    with tenant_scope(world.tenant_id):
        names = {one.pk: name for name, one in world.cast.people.items()}
        return {names[one.person_id]: one.state for one in access.officers(access.newest_policy())}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def entries(world: World, start: str) -> list[tuple[str, str, dict[str, Any]]]:
    rows = Entry.unscoped.filter(tenant_id=world.tenant_id, tag__startswith=start)
    return sorted(((row.tag, row.subject, row.body) for row in rows), key=repr)


def listed(world: World, name: str = "carol") -> list[dict[str, Any]]:
    answer = world.directory.phone(name).send("GET", "/api/v1/escrow/resolutions")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["resolutions"]
    return found


def suspended(world: World, name: str = "dan", by: str = "erin") -> bytes:
    """Suspend an officer and return their 16-byte id."""
    # Apart by their reasons: two of one second would be one statement.
    word = world.word(name, Standing.SUSPENDED, by=by, reason=secrets.token_hex(4))
    answer = world.send_word(word, by)
    assert answer.status_code == 201, answer.content
    return bytes(world.cast.people[name].pk.bytes)


@pytest.fixture
def five(world: World) -> World:
    """Five officers of whom two are needed: rex and bob as well, past their cooling-off."""
    for name in ("rex", "bob"):
        world.add_founder(name)
        with tenant_scope(world.tenant_id):
            tenants.change_role(person=world.cast.people[name], role="officer", actor=world.ceremony)
    world.publish(
        world.policy(m=2, names=("carol", "dan", "erin", "rex", "bob")),
        signers=[world.founders[name] for name in ("carol", "dan")],
    )
    with tenant_scope(world.tenant_id):
        now = timezone.now()
        PolicyOfficer.objects.filter(counts_from__gt=now).update(counts_from=now - timedelta(seconds=1))
    return world


# Standing.


def test_officer_goes_away_and_comes_back_by_their_own_signed_word(world: World) -> None:
    word = world.word("dan", Standing.AWAY, reason="on leave")
    answer = world.send_word(word, "dan")
    assert answer.status_code == 201, answer.content
    assert answer.json() == {
        "hash": b64u(word.payload_hash),
        "person_id": str(world.cast.dan.pk),
        "standing": "away",
        "statement": b64u(word.encode()),
    }
    assert states(world)["dan"] == "away"
    with tenant_scope(world.tenant_id):
        kept = access.officer_statement(word.payload_hash)
        assert access.officer_statement(bytes(32)) is None
    assert kept is not None
    said, signer = verify_officer_state(Sign1.parse(kept), world.policies[-1])
    assert (said.reason, signer.person) == ("on leave", world.cast.dan.pk.bytes)
    world.stand("dan", Standing.BACK)
    assert states(world)["dan"] == "active"
    tags = [(tag, subject, "statement" in body) for tag, subject, body in entries(world, "escrow:officer:")]
    person = str(world.cast.dan.pk)
    assert tags == [("escrow:officer:leave", person, True), ("escrow:officer:return", person, True)]


@pytest.mark.parametrize("standing", [Standing.SUSPENDED, Standing.REMOVED])
def test_another_officer_suspends_and_removes_with_a_reason_that_is_kept(world: World, standing: Standing) -> None:
    world.stand("dan", standing, by="erin")
    assert states(world)["dan"] == standing.name.lower()
    with tenant_scope(world.tenant_id):
        (last,) = access.last_words([world.cast.dan.pk]).values()
    assert (last.reason, last.signer_id) == ("as told", world.cast.erin.pk)
    ((tag, subject, body),) = entries(world, "escrow:officer:")
    assert (tag, subject) == (acts._TAGS[standing], str(world.cast.dan.pk))
    assert body == {"statement": b64u(bytes(last.hash))}


def test_suspended_officer_does_not_come_back_by_their_own_word(world: World) -> None:
    suspended(world)
    for standing in (Standing.BACK, Standing.AWAY):
        answer = world.send_word(world.word("dan", standing), "dan")
        assert code(answer) == (409, "officer-moved")
        assert "return-officer" in answer.json()["detail"]
    assert states(world)["dan"] == "suspended"


def test_officer_who_went_away_and_was_suspended_does_not_come_back_by_their_own_word(world: World) -> None:
    world.stand("dan", Standing.AWAY)
    suspended(world)
    assert code(world.send_word(world.word("dan", Standing.BACK), "dan")) == (409, "officer-moved")
    assert states(world)["dan"] == "suspended"


def test_removed_officer_never_comes_back(world: World) -> None:
    world.stand("dan", Standing.REMOVED, by="erin")
    assert code(world.send_word(world.word("dan", Standing.BACK), "dan")) == (409, "officer-moved")
    for by in ("carol", "erin"):
        assert code(world.send_word(world.word("dan", Standing.SUSPENDED, by=by), by)) == (409, "officer-moved")
    dan = world.cast.dan.pk.bytes
    assert code(world.resolve(world.resolution(Act.RETURN_OFFICER, dan), "carol")) == (422, "resolution-refused")


def test_suspended_officer_suspends_and_removes_nobody(five: World) -> None:
    suspended(five)
    for standing in (Standing.SUSPENDED, Standing.REMOVED):
        answer = five.send_word(five.word("erin", standing, by="dan"), "dan")
        assert code(answer) == (403, "not-counting")
    assert states(five)["erin"] == "active"


def test_officer_who_cools_off_suspends_nobody(world: World) -> None:
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    names = ("carol", "dan", "erin", "rex")
    world.publish(world.policy(m=2, names=names), signers=[world.founders[name] for name in ("carol", "dan")])
    assert code(world.send_word(world.word("dan", Standing.SUSPENDED, by="rex"), "rex")) == (403, "not-counting")


def test_officer_below_the_quorum_neither_goes_away_nor_is_removed_and_is_suspended_all_the_same(world: World) -> None:
    world.stand("erin", Standing.AWAY)
    assert code(world.send_word(world.word("dan", Standing.AWAY), "dan")) == (409, "officer-needed")
    removal = world.word("dan", Standing.REMOVED, by="carol")
    assert code(world.send_word(removal, "carol")) == (409, "officer-needed")
    # A thief is stopped whatever remains.
    world.stand("dan", Standing.SUSPENDED, by="carol")
    assert states(world) == {"carol": "active", "dan": "suspended", "erin": "away"}


def test_parallel_departures_leave_a_quorum(world: World) -> None:
    for name in ("carol", "dan"):
        world.directory.phone(name)
    barrier, answers = threading.Barrier(2), []

    def leave(name: str) -> None:
        try:
            word = world.word(name, Standing.AWAY)
            barrier.wait()
            answers.append(world.send_word(word, name).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=leave, args=(name,)) for name in ("carol", "dan")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(answers) == [201, 409]
    assert sorted(states(world).values()) == ["active", "active", "away"]


def test_statement_is_used_once_and_an_older_one_undoes_nothing(world: World) -> None:
    early = now() - 60
    away = world.word("dan", Standing.AWAY, header=replace(world.tenant_header(), issued_at=early))
    held_back = world.word("dan", Standing.BACK, header=replace(world.tenant_header(), issued_at=early - 60))
    for _ in range(2):
        assert world.send_word(away, "dan").status_code == 201
    assert code(world.send_word(held_back, "dan")) == (422, "officer-state-refused")
    world.stand("dan", Standing.BACK)
    # The same bytes again: what was done then is not done now.
    assert world.send_word(away, "dan").status_code == 201
    assert states(world)["dan"] == "active"
    assert OfficerStatement.unscoped.count() == 2


def test_statement_is_refused_when_old_dated_ahead_foreign_or_carried_by_another(world: World) -> None:
    def refused(word: Sign1, by: str) -> None:
        answer = world.send_word(word, by)
        assert code(answer) == (422, "officer-state-refused"), answer.content
        assert answer.json()["errors"][0]["field"] == "statement"

    head = world.tenant_header()
    for issued_at in (now() - MAX_AGE_SECONDS - 60, now() + 600):
        refused(world.word("dan", Standing.AWAY, header=replace(head, issued_at=issued_at)), "dan")
    refused(world.word("dan", Standing.AWAY, header=replace(head, tenant=bytes(16))), "dan")
    refused(world.word("dan", Standing.AWAY), "erin")
    for blank in (" ", "\u200b\u2060"):
        refused(world.word("dan", Standing.SUSPENDED, by="erin", reason=blank), "erin")
    refused(world.word("erin", Standing.SUSPENDED), "erin")
    refused(world.word("dan", Standing.BACK, by="erin"), "erin")
    refused(world.word("alice", Standing.SUSPENDED, by="erin"), "erin")
    rex = world.add_founder("rex")
    assert rex
    refused(world.word("dan", Standing.SUSPENDED, by="rex"), "erin")
    assert set(states(world).values()) == {"active"}
    assert not OfficerStatement.unscoped.exists()


def test_word_of_an_officer_already_there_is_refused_in_words(world: World) -> None:
    answer = world.send_word(world.word("dan", Standing.BACK), "dan")
    assert (code(answer), answer.json()["detail"]) == ((409, "officer-moved"), "The officer is active already.")


def test_officer_goes_and_comes_so_often_in_a_day_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "MAX_OWN_WORDS", 2)
    world.stand("dan", Standing.AWAY)
    world.stand("dan", Standing.BACK)
    answer = world.send_word(world.word("dan", Standing.AWAY, reason="again"), "dan")
    assert code(answer) == (429, "too-many-requests")
    # What others say of them is not counted.
    suspended(world)


# Resolutions.


def test_resolution_returns_a_suspended_officer_when_m_others_have_signed(world: World) -> None:
    dan = suspended(world)
    made = world.resolution(Act.RETURN_OFFICER, dan)
    first = world.resolve(made, "carol")
    assert first.status_code == 201, first.content
    document = first.json()
    assert (document["act"], document["state"], document["signed_by"], document["needed"]) == (
        "return-officer",
        "open",
        [1],
        2,
    )
    assert states(world)["dan"] == "suspended"
    second = world.resolve(made, "erin")
    assert (second.json()["state"], second.json()["signed_by"]) == ("passed", [1, 3])
    assert states(world)["dan"] == "active"
    hashed = unb64u(document["hash"])
    with tenant_scope(world.tenant_id):
        kept = access.resolution_statement(hashed)
        assert access.resolution_statement(bytes(32)) is None
        assert [bytes(row.hash) for row in access.resolutions()] == [hashed]
    assert kept is not None
    assert verify_resolution(cose.parse_many(kept), world.policies[-1], at=now()) == made
    person = str(world.cast.dan.pk)
    body = {"act": 2, "hash": b64u(hashed)}
    assert entries(world, "escrow:resolution:") == [
        ("escrow:resolution:pass", person, body),
        ("escrow:resolution:propose", person, body | {"policy": b64u(world.policies[-1].hash)}),
        ("escrow:resolution:sign", person, {"hash": b64u(hashed), "index": 1}),
        ("escrow:resolution:sign", person, {"hash": b64u(hashed), "index": 3}),
    ]


def test_whom_a_resolution_concerns_does_not_count_and_is_told(world: World) -> None:
    made = world.resolution(Act.RETURN_OFFICER, suspended(world))
    assert world.resolve(made, "carol").status_code == 201
    answer = world.resolve(made, "dan")
    assert code(answer) == (422, "resolution-refused")
    assert "your own signature does not count" in answer.json()["detail"]
    assert states(world)["dan"] == "suspended"


def lost_phone(world: World, name: str = "alice") -> tuple[bytes, bytes]:
    """The object of a resolution that suspends somebody's phone."""
    return world.cast.people[name].pk.bytes, world.directory.phone(name).id.bytes


def credential(world: World, name: str = "alice") -> str:
    with tenant_scope(world.tenant_id):
        return people.credential_state(world.directory.phone(name).id)


def test_resolution_suspends_a_device_when_m_officers_have_signed(world: World) -> None:
    made = world.resolution(Act.SUSPEND_DEVICE, *lost_phone(world))
    first = world.resolve(made, "carol").json()
    assert (first["act"], first["state"], credential(world)) == ("suspend-device", "open", "active")
    assert world.resolve(made, "dan").json()["state"] == "passed"
    assert credential(world) == "suspended"
    person, device = (str(UUID(bytes=one)) for one in made.about if isinstance(one, bytes))
    assert [(tag, subject) for tag, subject, _ in entries(world, "tenants:credential:suspend")] == [
        ("tenants:credential:suspend", device)
    ]
    (passed,) = entries(world, "escrow:resolution:pass")
    assert passed[1] == person
    assert world.directory.phone("alice").send("GET", "/api/v1/devices").status_code == 401


def test_device_that_one_person_suspended_is_suspended_by_officers_as_well(world: World) -> None:
    made = world.resolution(Act.SUSPEND_DEVICE, *lost_phone(world))
    with tenant_scope(world.tenant_id):
        tenants.suspend_credential(credential_id=UUID(bytes=made.device), actor=world.ceremony)
        assert not access.is_suspended_by_officers(UUID(bytes=made.device))
    for name in ("carol", "dan"):
        assert world.resolve(made, name).status_code == 201
    with tenant_scope(world.tenant_id):
        assert access.is_suspended_by_officers(UUID(bytes=made.device))
    assert len(entries(world, "tenants:credential:suspend")) == 1


def test_resolution_suspends_no_device_of_another_or_unlisted(world: World) -> None:
    alice, phone = lost_phone(world)
    waiting = world.new_phone()
    for about in ((world.cast.people["bob"].pk.bytes, phone), (alice, bytes(16)), (alice, waiting.id.bytes)):
        assert code(world.resolve(world.resolution(Act.SUSPEND_DEVICE, *about), "carol")) == (422, "resolution-refused")


def test_owner_of_a_device_does_not_count_for_its_suspension(world: World) -> None:
    made = world.resolution(Act.SUSPEND_DEVICE, *lost_phone(world, "dan"))
    assert world.resolve(made, "carol").status_code == 201
    assert code(world.resolve(made, "dan")) == (422, "resolution-refused")
    assert world.resolve(made, "erin").json()["state"] == "passed"


def test_suspended_officer_votes_on_anothers_return_and_on_nothing_else(five: World) -> None:
    erin = suspended(five, "erin", by="carol")
    suspended(five, "dan", by="carol")
    back = five.resolution(Act.RETURN_OFFICER, erin)
    log = five.resolution(Act.ACCEPT_LOG, 7, bytes(32))
    assert code(five.resolve(log, "dan")) == (403, "not-counting")
    assert five.resolve(back, "dan").json()["signed_by"] == [2]
    assert five.resolve(back, "rex").json()["state"] == "passed"
    assert states(five)["erin"] == "active"


def test_officer_away_signs_no_resolution(five: World) -> None:
    dan = suspended(five)
    five.stand("rex", Standing.AWAY)
    assert code(five.resolve(five.resolution(Act.RETURN_OFFICER, dan), "rex")) == (403, "not-counting")


def test_signature_of_an_officer_suspended_since_does_not_count(five: World) -> None:
    made = five.resolution(Act.ACKNOWLEDGE_LEAF, 7, bytes(32))
    assert five.resolve(made, "dan").json()["signed_by"] == [2]
    suspended(five)
    assert five.resolve(made, "carol").json() | {"statement": ""} == listed(five)[0] | {"statement": ""}
    assert (listed(five)[0]["state"], listed(five)[0]["signed_by"]) == ("open", [1])
    assert five.resolve(made, "erin").json()["state"] == "passed"


def test_same_signature_again_adds_nothing_and_a_passed_resolution_is_used_once(world: World) -> None:
    made = world.resolution(Act.RETURN_OFFICER, suspended(world))
    for _ in range(2):
        assert world.resolve(made, "carol").json()["signed_by"] == [1]
    assert world.resolve(made, "erin").json()["state"] == "passed"
    suspended(world)
    for name in ("carol", "erin"):
        assert world.resolve(made, name).status_code == 201
    assert states(world)["dan"] == "suspended"
    assert len(entries(world, "escrow:resolution:")) == 4


def test_resolution_about_the_log_is_kept_and_logged_for_the_release_process(world: World) -> None:
    for act, number in ((Act.ACKNOWLEDGE_LEAF, 7), (Act.ACCEPT_LOG, 0)):
        made = world.resolution(act, number, bytes(range(32)))
        assert world.resolve(made, "carol").status_code == 201
        assert world.resolve(made, "dan").json()["state"] == "passed"
    with tenant_scope(world.tenant_id):
        assert [row.act for row in access.resolutions()] == [3, 4]
    passed = [(subject, body["act"]) for tag, subject, body in entries(world, "escrow:resolution:pass")]
    assert passed == [("", 3), ("", 4)]


def test_resolution_is_refused_when_old_foreign_under_another_policy_or_carried_by_another(world: World) -> None:
    def refused(answer: Any) -> None:
        assert code(answer) == (422, "resolution-refused"), answer.content
        assert answer.json()["errors"][0]["field"] == "statement"

    head, log = world.tenant_header(), (Act.ACCEPT_LOG, 7, bytes(32))
    for issued_at in (now() - MAX_AGE_SECONDS - 60, now() + 600):
        refused(world.resolve(world.resolution(*log, header=replace(head, issued_at=issued_at)), "dan"))
    refused(world.resolve(world.resolution(*log, header=replace(head, tenant=bytes(16))), "dan"))
    refused(world.resolve(world.resolution(*log, policy_hash=bytes(32)), "dan"))
    refused(world.resolve(world.resolution(*log), "dan", sender="erin"))
    refused(world.resolve(world.resolution(Act.RETURN_OFFICER, world.cast.alice.pk.bytes), "carol"))
    world.add_founder("rex")
    refused(world.resolve(world.resolution(*log), "rex", sender="erin"))
    assert not Resolution.unscoped.exists()


def test_resolution_under_a_policy_that_was_followed_is_replaced_and_an_old_one_expires(world: World) -> None:
    made = world.resolution(Act.ACCEPT_LOG, 7, bytes(32))
    assert world.resolve(made, "carol").status_code == 201
    aged = replace(world.tenant_header(), issued_at=now() - MAX_AGE_SECONDS + 100)
    assert world.resolve(world.resolution(Act.ACCEPT_LOG, 8, bytes(32), header=aged), "carol").status_code == 201
    world.publish(world.policy(m=2, delay_seconds=600), signers=[world.founders[name] for name in ("carol", "dan")])
    assert code(world.resolve(made, "dan")) == (422, "resolution-refused")
    fresh = world.resolution(Act.ACCEPT_LOG, 9, bytes(32))
    assert world.resolve(fresh, "carol").status_code == 201
    # What is open comes first.
    assert [row["state"] for row in listed(world)] == ["open", "replaced", "replaced"]
    with tenant_scope(world.tenant_id):
        rows, _ = access.resolution_page(access.newest_policy(), now=timezone.now() + timedelta(seconds=200))
        assert [row.ends_at > timezone.now() + timedelta(seconds=200) for row in rows] == [True, False, True]


def test_version_in_force_or_unknown_is_not_proposed_for_withdrawal(world: World) -> None:
    first = world.policies[0]
    for version, named in ((1, first.hash), (2, first.hash), (2, bytes(32))):
        answer = world.resolve(world.resolution(Act.WITHDRAW_VERSION, version, named), "carol")
        assert code(answer) == (422, "resolution-refused")


def test_officer_proposes_so_many_and_another_officer_still_can(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "MAX_PROPOSALS", 2)
    for number in range(2):
        made = world.resolution(Act.ACCEPT_LOG, number, bytes(32))
        assert world.resolve(made, "carol").status_code == 201
    answer = world.resolve(world.resolution(Act.ACCEPT_LOG, 2, bytes(32)), "carol")
    assert (code(answer), answer.json()["limit"]) == ((409, "limit-reached"), "resolutions")
    assert world.resolve(world.resolution(Act.ACCEPT_LOG, 3, bytes(32)), "dan").status_code == 201
    # What passed takes no room.
    assert world.resolve(made, "dan").json()["state"] == "passed"
    assert world.resolve(world.resolution(Act.ACCEPT_LOG, 4, bytes(32)), "carol").status_code == 201


def test_two_last_signatures_at_once_pass_a_resolution_once(five: World) -> None:
    made = five.resolution(Act.RETURN_OFFICER, suspended(five))
    assert five.resolve(made, "carol").status_code == 201
    for name in ("erin", "rex"):
        five.directory.phone(name)
    barrier, answers = threading.Barrier(2), []

    def sign(name: str) -> None:
        try:
            barrier.wait()
            answers.append(five.resolve(made, name).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=sign, args=(name,)) for name in ("erin", "rex")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert answers == [201, 201]
    assert len(entries(five, "escrow:resolution:pass")) == 1


def test_who_signs_and_who_lists(world: World) -> None:
    word = {"statement": b64u(world.word("dan", Standing.AWAY).encode())}
    for name in ("alice", "olivia", "otto"):
        for path in ("officer-states", "resolutions"):
            answer = world.directory.phone(name).send("POST", f"/api/v1/escrow/{path}", word)
            assert code(answer) == (403, "denied")
    assert listed(world, "otto") == []
    assert code(world.directory.phone("alice").send("GET", "/api/v1/escrow/resolutions")) == (403, "denied")


def test_without_an_entry_nobody_moves_and_nothing_passes(world: World) -> None:
    made = world.resolution(Act.RETURN_OFFICER, suspended(world))
    assert world.resolve(made, "carol").status_code == 201
    before = states(world)
    word = world.word("erin", Standing.SUSPENDED, by="carol")
    with audit_away():
        assert world.resolve(made, "erin").status_code == 503
        assert world.send_word(word, "carol").status_code == 503
    assert states(world) == before
    assert listed(world)[0]["signed_by"] == [1]


def test_database_keeps_what_was_signed(world: World) -> None:
    made = world.resolution(Act.RETURN_OFFICER, suspended(world))
    assert world.resolve(made, "carol").status_code == 201
    row = Resolution.unscoped.get()
    before: list[dict[str, Any]] = [{"hash": bytes(32)}, {"statement": b""}, {"ends_at": timezone.now()}, {"act": 1}]
    for changes in before:
        with pytest.raises(Error, match="append-only"):
            Resolution.unscoped.update(**changes)
    assert world.resolve(made, "erin").json()["state"] == "passed"
    afterwards: list[dict[str, Any]] = [{"passed_at": None}, {"statement": bytes(row.statement) * 9}]
    for changes in afterwards:
        with pytest.raises(Error, match="append-only"):
            Resolution.unscoped.update(**changes)
    with pytest.raises(Error, match="append-only"):
        OfficerStatement.unscoped.update(reason="another")


def test_wrong_purpose_is_no_signature(world: World) -> None:
    made = world.resolution(Act.ACCEPT_LOG, 7, bytes(32))
    signed = cose.sign(made.to_payload(), purpose=Purpose.POLICY, key=world.founders["dan"].signing_key)
    document = {"statement": b64u(signed.encode())}
    answer = world.directory.phone("dan").send("POST", "/api/v1/escrow/resolutions", document)
    assert code(answer) == (422, "resolution-refused")
