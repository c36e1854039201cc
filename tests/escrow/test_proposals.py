# SPDX-License-Identifier: Apache-2.0
"""Policies and escrow keys signed at different desks: who proposes, whose signature is taken, and what publishes."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import Error, connections
from django.utils import timezone

from audit.models import Entry
from escrow import access, proposals, services
from escrow.errors import EscrowKeyRefused, PolicyRefused
from escrow.models import EscrowKey, EscrowKeyProposal, OfficerKeyStatement, Policy, PolicyProposal
from holdfast.core.base.encoding import MAX_BLOB, b64u, decode, encode, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import policy as core
from holdfast.core.identity.acts import Standing
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.identity.policy import GivenUp, SignedPolicy
from holdfast.core.identity.trust import founder_words
from holdfast.core.log import merkle
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from kernel.models import Job
from kernel.scope import tenant_scope
from keys.models import Message
from tenants import services as tenants
from tenants.models import Person, Tenant
from tenants.states import TenantState
from tests.cast.phones import now
from tests.cast.world import World, as_superuser

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def listed(world: World, name: str = "carol") -> list[dict[str, Any]]:
    answer = world.directory.phone(name).send("GET", "/api/v1/escrow/policy-proposals")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["proposals"]
    return found


def hire(world: World, *names: str) -> None:
    for name in names:
        world.add_founder(name)
        with tenant_scope(world.tenant_id):
            tenants.change_role(person=world.cast.people[name], role="officer", actor=world.ceremony)


def entries(world: World, start: str) -> list[str]:
    return sorted(Entry.unscoped.filter(tenant_id=world.tenant_id, tag__startswith=start).values_list("tag", flat=True))


# Policies.


def test_policy_is_proposed_and_published_by_the_last_signature_that_it_needs(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    answer = world.propose(made, "carol")
    assert answer.status_code == 201, answer.content
    document = answer.json()
    assert (document["state"], document["missing"], document["signed_by"]) == ("open", 2, [])
    assert unb64u(document["payload"]) == made.to_payload()
    assert set(document["asked"]) == {str(world.cast.people[name].pk) for name in ("carol", "dan", "erin")}
    first = world.sign_policy(made, "dan").json()
    assert (first["state"], first["missing"], len(first["signatures"])) == ("open", 1, 1)
    assert Policy.unscoped.count() == 1
    second = world.sign_policy(made, "carol").json()
    assert (second["state"], second["missing"], bool(second["published_at"])) == ("published", 0, True)
    with tenant_scope(world.tenant_id):
        newest = access.newest_policy()
        assert access.policy_in_force(timezone.now()) == newest
        assert access.trusted_tenant().newest.policy == made
    assert entries(world, "escrow:policy:") == [
        "escrow:policy:propose",
        "escrow:policy:publish",
        "escrow:policy:publish",
        "escrow:policy:sign",
        "escrow:policy:sign",
    ]


def test_signature_and_proposal_sent_again_add_nothing(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    ids = {world.propose(made, name).json()["proposal_id"] for name in ("carol", "dan", "carol")}
    assert len(ids) == 1
    for _ in range(3):
        assert world.sign_policy(made, "dan").json()["missing"] == 1
    for _ in range(2):
        assert world.sign_policy(made, "carol").json()["state"] == "published"
    assert PolicyProposal.unscoped.count() == 1
    assert len(entries(world, "escrow:policy:sign")) == 2


def test_edited_proposal_carries_no_signature_over(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    edited = replace(made, terms=replace(made.terms, delay_seconds=700))
    for one in (made, edited):
        assert world.propose(one, "carol").status_code == 201
    assert world.sign_policy(made, "dan").status_code == 201
    assert [row["missing"] for row in listed(world)] == [2, 1]
    # The signature on one, sent to the other.
    signed = world.policy_signature(made, "erin")
    answer = world.send_policy_signature(edited, "erin", signed)
    assert code(answer) == (422, "proposal-refused")
    assert "another proposal" in answer.json()["detail"]
    assert Policy.unscoped.count() == 1


@pytest.mark.parametrize("lie", ["outsider", "forged", "purpose", "newcomer"])
def test_signature_of_nobody_who_is_asked_is_not_taken(world: World, lie: str) -> None:
    hire(world, "rex")
    made = world.policy(m=2, names=("carol", "dan", "erin", "rex"))
    assert world.propose(made, "carol").status_code == 201
    payload, key = made.to_payload(), world.founders["dan"].signing_key
    signed = {
        "outsider": lambda: cose.sign(payload, purpose=Purpose.POLICY, key=SigningKey.generate()),
        "forged": lambda: replace(cose.sign(payload, purpose=Purpose.POLICY, key=key), signature=bytes(64)),
        "purpose": lambda: cose.sign(payload, purpose=Purpose.RESOLUTION, key=key),
        "newcomer": lambda: world.policy_signature(made, "rex"),
    }[lie]()
    sender = "rex" if lie == "newcomer" else "dan"
    assert code(world.send_policy_signature(made, sender, signed)) == (422, "proposal-refused")
    assert listed(world)[0]["missing"] == 2


def test_officers_signature_is_sent_by_their_own_device_alone(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    assert world.propose(made, "carol").status_code == 201
    answer = world.send_policy_signature(made, "erin", world.policy_signature(made, "dan"))
    assert code(answer) == (422, "proposal-refused")
    assert "own device" in answer.json()["detail"]


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.SUSPENDED])
def test_officer_who_does_not_count_signs_nothing_and_what_they_signed_before_counts_no_more(
    world: World, standing: Standing
) -> None:
    made = world.policy(m=2, delay_seconds=600)
    assert world.propose(made, "carol").status_code == 201
    assert world.sign_policy(made, "dan").json()["missing"] == 1
    world.stand("dan", standing, by="" if standing is Standing.AWAY else "erin")
    assert listed(world)[0]["missing"] == 2
    assert world.sign_policy(made, "carol").json()["state"] == "open"
    other = world.policy(m=2, delay_seconds=700)
    assert world.propose(other, "carol").status_code == 201
    assert code(world.sign_policy(other, "dan")) == (403, "not-counting")
    # The published version bears the signatures of those who counted.
    assert world.sign_policy(made, "erin").json()["state"] == "published"
    with tenant_scope(world.tenant_id):
        signed = access.signed_reading(access.newest_policy())
    dan = world.founders["dan"].signing_key.public.kid
    assert dan not in signed.signers


def test_proposal_that_a_return_completes_is_published_when_somebody_signs_again(world: World) -> None:
    """Who signed, was suspended and came back counts again, and everybody who could sign has done so by then."""
    made = world.policy(m=2, delay_seconds=600)
    assert world.propose(made, "carol").status_code == 201
    assert world.sign_policy(made, "dan").json()["missing"] == 1
    world.stand("dan", Standing.AWAY)
    assert world.sign_policy(made, "carol").json()["state"] == "open"
    # Nothing of whoever does not count is taken, be it new or not.
    assert code(world.sign_policy(made, "dan")) == (403, "not-counting")
    world.stand("dan", Standing.BACK)
    assert (listed(world)[0]["state"], listed(world)[0]["missing"]) == ("open", 0)
    again = world.sign_policy(made, "carol").json()
    assert (again["state"], again["missing"], len(again["signatures"])) == ("published", 0, 2)
    assert world.sign_policy(made, "carol").json() == again
    assert entries(world, "escrow:policy:sign") == ["escrow:policy:sign"] * 2


def test_no_second_version_is_proposed_or_signed_while_a_tenant_is_being_founded(world: World) -> None:
    """The root signs the first escrow key for version 1: another one in force would leave the founding without end."""
    before, after = world.policy(m=2, delay_seconds=600), world.policy(m=2, delay_seconds=700)
    assert world.propose(before, "carol").status_code == 201
    Tenant.objects.filter(pk=world.tenant_id).update(state=TenantState.FOUNDING)
    for answer, field in ((world.propose(after, "carol"), "payload"), (world.sign_policy(before, "dan"), "statement")):
        assert code(answer) == (422, "policy-refused")
        assert answer.json()["errors"][0]["field"] == field
        assert "still being founded" in answer.json()["detail"]
    assert entries(world, "escrow:policy:sign") == []


def test_officers_of_the_version_in_force_are_asked_beside_those_of_the_one_that_waits(world: World) -> None:
    """A roster that waits does not begin the next wait by itself: m of the version in force sign as well."""
    hire(world, "rex", "otto")
    second = world.policy(m=2, names=("erin", "rex", "otto"))
    world.publish(second, signers=[world.founders["carol"], world.founders["erin"]])
    third = world.policy(m=2, names=("erin", "rex", "otto"), delay_seconds=600)
    assert world.propose(third, "erin").status_code == 201
    for name in ("rex", "otto"):
        assert world.sign_policy(third, name).json()["state"] == "open"
    assert listed(world)[0]["missing"] == 2
    assert world.sign_policy(third, "carol").json()["missing"] == 1
    assert world.sign_policy(third, "dan").json()["state"] == "published"


def test_officers_of_a_withdrawn_version_are_not_asked(world: World) -> None:
    hire(world, "rex", "otto")
    second = world.policy(m=2, names=("erin", "rex", "otto"))
    world.publish(second, signers=[world.founders["carol"], world.founders["erin"]])
    world.withdraw(world.policies[1].hash)
    third = replace(world.policy(m=2, delay_seconds=600), predecessor=world.policies[0].hash)
    document = world.propose(third, "carol").json()
    assert set(document["asked"]) == {str(world.cast.people[name].pk) for name in ("carol", "dan", "erin")}
    for name in ("rex", "otto"):
        assert code(world.sign_policy(third, name)) == (422, "proposal-refused")
    assert listed(world)[0]["missing"] == 2
    # One that builds on what was withdrawn is refused, with the way out.
    answer = world.propose(replace(third, predecessor=world.policies[1].hash), "carol")
    assert code(answer) == (409, "proposal-over")
    assert "holdfast officer policy propose" in answer.json()["detail"]


def test_proposal_is_over_once_another_version_was_published(world: World) -> None:
    made, other = world.policy(m=2, delay_seconds=600), world.policy(m=2, delay_seconds=700)
    for one in (made, other):
        assert world.propose(one, "carol").status_code == 201
        assert world.sign_policy(one, "dan").status_code == 201
    assert world.sign_policy(made, "carol").json()["state"] == "published"
    answer = world.sign_policy(other, "carol")
    assert code(answer) == (409, "proposal-over")
    assert "published meanwhile" in answer.json()["detail"]
    assert "holdfast officer policy propose" in answer.json()["detail"]
    assert {row["state"] for row in listed(world)} == {"published", "replaced"}
    assert world.propose(other, "dan").json()["state"] == "replaced"


def test_proposal_of_thirty_days_ago_takes_no_signature(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.policy(m=2, delay_seconds=600)
    made = replace(made, header=replace(made.header, issued_at=made.header.issued_at - 30 * 86400 + 60))
    assert world.propose(made, "carol").status_code == 201
    later = timezone.now() + timedelta(minutes=2)
    monkeypatch.setattr(proposals, "database_now", lambda: later)
    assert code(world.sign_policy(made, "dan")) == (409, "proposal-over")
    assert listed(world)[0]["state"] == "expired"


def test_proposer_alone_takes_a_proposal_back(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    assert world.propose(made, "carol").status_code == 201
    assert code(world.withdraw_proposal(made, "dan")) == (403, "denied")
    for _ in range(2):
        assert world.withdraw_proposal(made, "carol").json()["state"] == "withdrawn"
    assert code(world.sign_policy(made, "dan")) == (409, "proposal-over")
    assert entries(world, "escrow:policy:cancel") == ["escrow:policy:cancel"]


def test_drafts_of_one_person_are_bounded_and_anothers_are_not_touched_by_it(world: World) -> None:
    for number in range(proposals.MAX_PROPOSALS):
        assert world.propose(world.policy(m=2, delay_seconds=600 + number), "carol").status_code == 201
    answer = world.propose(world.policy(m=2, delay_seconds=900), "carol")
    assert code(answer) == (409, "limit-reached")
    assert world.propose(world.policy(m=2, delay_seconds=900), "dan").status_code == 201


def with_cooling_off(policy: core.Policy, seconds: int) -> bytes:
    value: Any = decode(policy.to_payload(), max_size=MAX_BLOB)
    value[10][3] = seconds
    return encode(value)


def test_version_with_a_years_cooling_off_is_refused(world: World) -> None:
    payload = with_cooling_off(world.policy(m=2), 365 * 86400)
    answer = world.propose_payload(payload, "carol")
    assert code(answer) == (422, "policy-refused")
    assert answer.json()["errors"][0]["field"] == "payload"


def test_proposal_that_could_never_be_published_is_refused_before_anybody_signs(world: World) -> None:
    world.add_founder("bob")
    made = world.policy(m=2)
    wrong = [
        (replace(made, header=replace(made.header, tenant=secrets.token_bytes(16))), "another tenant"),
        (replace(made, header=replace(made.header, issued_at=now() - 31 * 86400)), "30 days"),
        (replace(made, header=replace(made.header, issued_at=now() + 3600)), "future"),
        (world.policy(m=2, names=("carol", "dan", "bob")), "role of an officer"),
        (replace(made, given_up=GivenUp(1, bytes(32))), "none would be lost"),
    ]
    for one, why in wrong:
        answer = world.propose(one, "carol")
        assert (code(answer), why in answer.json()["detail"]) == ((422, "policy-refused"), True), answer.content
    world.stand("erin", Standing.REMOVED, by="carol")
    assert "removed" in world.propose(world.policy(m=2), "carol").json()["detail"]


def test_proposal_says_for_how_many_deposits_it_changes_who_could_release_them(world: World) -> None:
    world.deposit()
    world.deposit("bob")
    count = len(world.held())
    assert count == 2
    hire(world, "rex")
    for made, touches in (
        (world.policy(m=2, delay_seconds=600), 0),
        (world.policy(m=2, names=("carol", "dan", "erin", "rex")), 0),
        (world.policy(m=3, names=("carol", "dan", "erin", "rex")), count),
        (world.policy(m=2, names=("carol", "dan", "rex")), count),
    ):
        answer = world.propose(made, "carol")
        assert (answer.status_code, answer.json()["touches"]) == (201, touches), answer.content
    assert {row["touches"] for row in listed(world)} == {0, count}


def test_proposal_under_which_deposits_would_be_lost_says_how_many_and_names_them(world: World) -> None:
    world.deposit()
    hire(world, "rex", "otto")
    made = world.policy(m=2, names=("carol", "rex", "otto"))
    answer = world.propose(made, "carol")
    assert code(answer) == (422, "policy-refused")
    (deposit_id,) = world.held()
    root = merkle.root([merkle.leaf_hash(deposit_id.bytes)])
    assert (answer.json()["deposits"], answer.json()["users"], answer.json()["root"]) == (1, 1, root.hex())
    assert PolicyProposal.unscoped.count() == 0
    named = replace(made, given_up=GivenUp(1, root))
    assert world.propose(named, "carol").status_code == 201
    for name in ("carol", "dan"):
        answer = world.sign_policy(named, name)
    assert answer.json()["state"] == "published"


def test_deposit_that_came_meanwhile_keeps_the_last_signature_out(world: World) -> None:
    hire(world, "rex", "otto")
    made = world.policy(m=2, names=("carol", "rex", "otto"))
    assert world.propose(made, "carol").status_code == 201
    assert world.sign_policy(made, "carol").status_code == 201
    world.deposit()
    answer = world.sign_policy(made, "dan")
    assert code(answer) == (422, "policy-refused")
    assert listed(world)[0]["missing"] == 1
    assert Policy.unscoped.count() == 1


def test_new_row_is_held_to_what_its_persons_account_states(world: World) -> None:
    hire(world, "rex")
    made = world.policy(m=2, names=("carol", "dan", "erin", "rex"))
    rex, account = world.founders["rex"], world.directory.account("rex")
    phone = world.directory.phone("rex")
    said = OfficerStatement(
        replace(phone.header(), device=b""), rex.person, rex.signing_key.public, rex.sealing_key.public
    )

    def state(one: OfficerStatement, days: int) -> None:
        signed = cose.sign(one.to_payload(), purpose=Purpose.OFFICER, key=account.aik)
        with tenant_scope(world.tenant_id):
            OfficerKeyStatement.objects.create(
                person_id=phone.person.pk,
                hash=signed.payload_hash,
                statement=signed.encode(),
                at=timezone.now() + timedelta(days=days),
            )

    state(replace(said, signing_key=SigningKey.generate().public), 0)
    answer = world.propose(made, "carol")
    assert code(answer) == (422, "policy-refused")
    assert "Row 4 holds other keys" in answer.json()["detail"]
    # The newest statement counts, and with it the ways back to these keys.
    state(said, 1)
    assert "two ways back" in world.propose(made, "carol").json()["detail"]
    with pytest.raises(PolicyRefused, match="two ways back"):
        world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])
    # Rows that stand already are not asked anew.
    assert world.propose(world.policy(m=2, delay_seconds=600), "carol").status_code == 201


def test_owner_proposes_and_member_and_auditor_do_not(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    for name, status in (("alice", 403), ("otto", 403), ("olivia", 201)):
        assert world.propose(made, name).status_code == status, name
    assert world.sign_policy(made, "olivia").status_code == 403


def test_officers_are_told_of_a_proposal_and_everybody_once_of_what_is_published(world: World) -> None:
    for name in ("dan", "alice"):
        world.directory.phone(name)
    Message.unscoped.all().delete()
    Job.unscoped.all().delete()
    made = world.policy(m=2, delay_seconds=600)
    world.propose(made, "carol")
    told = {job.payload["person"]: json.loads(job.payload["ids"]) for job in Job.unscoped.filter(kind="keys.notice")}
    assert set(told) == {str(world.cast.people[name].pk) for name in ("dan", "erin")}
    assert {ids["version"] for ids in told.values()} == {"2"}
    for name in ("carol", "dan"):
        world.sign_policy(made, name)
    world.work()
    world.work()
    phone = world.directory.phone("alice")
    events = [
        json.loads(bytes(message.body))
        for message in Message.unscoped.filter(device_id=phone.id)
        if bytes(message.body).startswith(b'{"event"')
    ]
    assert [(event["event"], event["version"]) for event in events] == [("policy-published", "2")]
    mails = Entry.unscoped.filter(tag="keys:notice:hand-over", body__kind="policy-published")
    assert mails.count() == Person.unscoped.filter(tenant_id=world.tenant_id, state="active").count()


def test_new_people_of_a_roster_are_shown_with_who_let_them_in(world: World) -> None:
    """A roster of sock puppets: the officer's screen says since when each exists, and by whom."""
    actor = world.directory.phone("olivia").actor()
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.people["rex"], role="officer", actor=actor)
    world.add_founder("rex")
    made = world.policy(m=2, names=("carol", "dan", "erin", "rex"))
    (rex,) = [row for row in world.propose(made, "carol").json()["people"] if row["name"] == "Rex"]
    assert rex["let_in_by"] == [str(world.cast.people["olivia"].pk)]
    assert rex["since"].startswith("20")


def test_database_refuses_to_change_a_proposal_or_what_is_over(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    world.propose(made, "carol")
    for change in ({"payload": b"x"}, {"hash": bytes(32)}, {"proposer_id": world.cast.dan.pk}):
        with pytest.raises(Error):
            PolicyProposal.unscoped.update(**change)
    world.withdraw_proposal(made, "carol")
    with pytest.raises(Error):
        PolicyProposal.unscoped.update(withdrawn_at=None)


def test_version_that_was_withdrawn_after_it_was_published_says_so(world: World) -> None:
    made = world.policy(m=2, undelivered_delay_seconds=0)
    world.propose(made, "carol")
    for name in ("carol", "dan"):
        world.sign_policy(made, name)
    assert [row["undone"] for row in listed(world)] == [False]
    world.withdraw(hashlib.sha256(made.to_payload()).digest())
    assert [(row["state"], row["undone"]) for row in listed(world)] == [("published", True)]


# The founding policy.


@pytest.fixture
def founding(world: World) -> World:
    """The tenant as if nothing had been published: its founders propose version 1 and sign it."""
    tables = ("escrow_policyofficer", "escrow_policy", "escrow_escrowkey")
    with as_superuser(*tables) as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")
    world.policies.clear()
    return world


def test_founding_policy_takes_all_signatures_and_waits_for_the_ceremony(founding: World) -> None:
    made = founding.policy(m=2)
    assert founding.propose(made, "olivia").status_code == 201
    for name, missing in (("carol", 2), ("dan", 1)):
        assert founding.sign_policy(made, name).json()["missing"] == missing
        with tenant_scope(founding.tenant_id):
            assert services.complete_founding() is None
    last = founding.sign_policy(made, "erin").json()
    assert (last["state"], last["missing"]) == ("open", 0)
    assert Policy.unscoped.count() == 0
    with tenant_scope(founding.tenant_id):
        statement = services.complete_founding()
        assert statement is not None
        # The pin is the ceremony's, over what was signed.
        pin = core.verify_founding(cose.parse_many(statement, max_size=MAX_BLOB), tenant=founding.tenant_id.bytes)
        assert pin.policy == made
        words = services.founder_words(pin.hash, founding.cast.dan.pk)
    assert words == founder_words(founding.tenant_id.bytes, founding.root.public, pin.hash, founding.cast.dan.pk.bytes)


# Escrow keys.


def next_key(world: World, **changes: Any) -> tuple[bytes, Any]:
    """The next escrow-key statement with the root's signature alone."""
    with tenant_scope(world.tenant_id):
        stored = access.escrow_keys()
    made = replace(
        world.escrow_key.statement,
        header=world.tenant_header(),
        version=len(stored) + 1,
        predecessor=bytes(stored[-1].hash) if stored else b"",
        policy_hash=world.in_force(),
        **changes,
    )
    signed = cose.sign(made.to_payload(), purpose=Purpose.ESCROW_KEY, key=world.root)
    return cose.encode_many([signed]), signed


def propose_key(world: World, statement: bytes) -> EscrowKeyProposal:
    with tenant_scope(world.tenant_id):
        return services.propose_escrow_key(statement=statement, cka_id=secrets.token_bytes(16), actor=world.ceremony)


def sign_key(world: World, row: EscrowKeyProposal, payload: bytes, name: str) -> Any:
    signed = cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=world.founders[name].signing_key)
    path = f"/api/v1/escrow/key-proposals/{row.pk}/signatures"
    return world.directory.phone(name).send("POST", path, {"statement": b64u(signed.encode())})


def test_escrow_key_is_published_once_m_officers_have_signed_it_after_the_root(world: World) -> None:
    statement, by_root = next_key(world)
    row = propose_key(world, statement)
    assert propose_key(world, statement).pk == row.pk
    (shown,) = world.directory.phone("dan").send("GET", "/api/v1/escrow/key-proposals").json()["proposals"]
    assert (shown["state"], shown["missing"], len(shown["signatures"])) == ("open", 2, 1)
    assert unb64u(shown["payload"]) == by_root.payload
    assert sign_key(world, row, by_root.payload, "dan").json()["missing"] == 1
    assert EscrowKey.unscoped.count() == 1
    last = sign_key(world, row, by_root.payload, "erin").json()
    assert (last["state"], last["missing"]) == ("published", 0)
    with tenant_scope(world.tenant_id):
        assert bytes(access.escrow_key_in_force().hash) == by_root.payload_hash
    assert entries(world, "escrow:key:") == [
        "escrow:key:propose",
        "escrow:key:publish",
        "escrow:key:publish",
        "escrow:key:sign",
        "escrow:key:sign",
    ]


def test_escrow_key_that_a_return_completes_is_published_when_somebody_signs_again(world: World) -> None:
    statement, by_root = next_key(world)
    row = propose_key(world, statement)
    assert sign_key(world, row, by_root.payload, "dan").json()["missing"] == 1
    world.stand("dan", Standing.AWAY)
    assert sign_key(world, row, by_root.payload, "carol").json()["missing"] == 1
    world.stand("dan", Standing.BACK)
    assert sign_key(world, row, by_root.payload, "carol").json()["state"] == "published"
    assert EscrowKey.unscoped.count() == 2


def test_escrow_key_without_the_roots_signature_is_never_proposed(world: World) -> None:
    _, by_root = next_key(world)
    for key in (world.founders["carol"].signing_key, SigningKey.generate()):
        signed = cose.sign(by_root.payload, purpose=Purpose.ESCROW_KEY, key=key)
        with pytest.raises(EscrowKeyRefused):
            propose_key(world, cose.encode_many([signed]))
    for changes in ({"version": 9}, {"policy_hash": bytes(32)}, {"predecessor": bytes(32)}):
        given: dict[str, Any] = {"version": 2, "predecessor": world.escrow_key.hash, "header": world.tenant_header()}
        made = replace(world.escrow_key.statement, **(given | changes))
        signed = cose.sign(made.to_payload(), purpose=Purpose.ESCROW_KEY, key=world.root)
        with pytest.raises(EscrowKeyRefused):
            propose_key(world, cose.encode_many([signed]))


def test_escrow_key_takes_the_signatures_of_its_policys_officers_alone(world: World) -> None:
    statement, by_root = next_key(world)
    row = propose_key(world, statement)
    world.add_founder("rex")
    assert sign_key(world, row, by_root.payload, "rex").status_code == 403
    hire(world, "rex")
    assert code(sign_key(world, row, by_root.payload, "rex")) == (422, "proposal-refused")
    world.stand("dan", Standing.AWAY)
    assert code(sign_key(world, row, by_root.payload, "dan")) == (403, "not-counting")


def test_escrow_key_of_a_policy_that_another_followed_is_made_anew(world: World) -> None:
    statement, by_root = next_key(world)
    row = propose_key(world, statement)
    world.publish(world.policy(m=2, delay_seconds=600), signers=[world.founders[name] for name in ("carol", "dan")])
    answer = sign_key(world, row, by_root.payload, "dan")
    assert code(answer) == (409, "proposal-over")
    assert "makes the key anew" in answer.json()["detail"]


# Ends.


def expiring(world: World, seconds: int, **terms: Any) -> core.Policy:
    made = world.policy(m=2, **terms)
    return replace(made, header=Header(world.tenant_id.bytes, b"", b"", now() - 10, now() + seconds))


def test_deposit_is_refused_a_month_after_the_policy_ran_out_and_not_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = expiring(world, 60, delay_seconds=600)
    world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])
    today = timezone.now()
    deposit = world.build()
    with monkeypatch.context() as patched:
        patched.setattr(services, "timezone", SimpleNamespace(now=lambda: today + timedelta(days=31)))
        answer = world.upload(deposit)
        assert code(answer) == (409, "escrow-ended")
        assert "holdfast officer policy propose" in answer.json()["detail"]
    with monkeypatch.context() as patched:
        patched.setattr(services, "timezone", SimpleNamespace(now=lambda: today + timedelta(days=29)))
        assert world.upload(deposit).status_code == 201
    with tenant_scope(world.tenant_id):
        found = access.endings(access.newest_policy(), None, today + timedelta(days=31))
    assert [(one.what, one.is_over) for one in found] == [("escrow policy", True)]


def test_what_has_run_out_is_not_published(world: World) -> None:
    made = replace(world.policy(m=2), header=Header(world.tenant_id.bytes, b"", b"", now() - 100, now() - 10))
    assert code(world.propose(made, "carol")) == (422, "policy-refused")
    with pytest.raises(PolicyRefused, match="run out"):
        world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])


@pytest.mark.postgres_only
def test_signatures_at_once_publish_once(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    assert world.propose(made, "carol").status_code == 201
    for name in ("carol", "dan", "erin"):
        world.directory.phone(name)
    found: list[int] = []

    def run(name: str) -> None:
        try:
            found.append(world.sign_policy(made, name).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("carol", "dan")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == [201, 201]
    assert [row["state"] for row in listed(world)] == ["published"]
    assert Policy.unscoped.count() == 2


def test_published_policy_is_the_one_that_was_signed(world: World) -> None:
    made = world.policy(m=2, delay_seconds=600)
    world.propose(made, "carol")
    for name in ("carol", "dan"):
        world.sign_policy(made, name)
    assert bytes(Policy.unscoped.get(version=2).hash) == hashlib.sha256(made.to_payload()).digest()
    world.policies.append(SignedPolicy(made, hashlib.sha256(made.to_payload()).digest()))
    assert world.policy(m=2).held_in_force == world.policies[1].hash
