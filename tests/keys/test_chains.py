# SPDX-License-Identifier: Apache-2.0
"""Account chains on the server: who may append what, in which order, and what follows (PROTOCOL section 5)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import extend, verify_chain
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from kernel import paging
from kernel.models import Job
from keys import access, chains, services
from keys import entries as entry_rows
from keys.models import ChainEntry, ChainFork, ChainHead, Device
from tenants.models import Credential
from tests.cast.phones import Account, Directory, Phone, audit_away, issue, new_phone, now, post_enrolment
from tests.keys.mail import events_of, fetched


@pytest.fixture
def alice(directory: Directory) -> Account:
    directory.phone("alice")
    return directory.account("alice")


def states(account: Account) -> dict[uuid.UUID, tuple[str, str]]:
    """Each device's state and its credential's."""
    devices = Device.unscoped.filter(user_id=account.person.pk)
    return {one.id: (one.state, Credential.unscoped.get(id=one.id).state) for one in devices}


@pytest.mark.postgres
def test_genesis_by_the_enrolled_device_makes_it_active(directory: Directory) -> None:
    account = directory.account("alice")
    phone = new_phone(account.person)
    issue(phone)
    post_enrolment(phone)
    assert states(account) == {phone.id: ("pending", "pending")}
    answer = account.append(phone, account.begin(phone))
    assert answer.status_code == 201
    assert answer.json() == {"head": b64u(account.chain.head), "seq": 1}
    assert states(account) == {phone.id: ("active", "active")}


@pytest.mark.postgres
def test_read_gives_the_exact_entries_that_were_sent(alice: Account, directory: Directory) -> None:
    bob = directory.phone("bob")
    answer = bob.send("GET", f"{alice.path}/chain").json()
    entries = [Entry.parse(unb64u(one)) for one in answer["entries"]]
    state = verify_chain(entries, tenant=alice.person.tenant_id.bytes, user=alice.person.pk.bytes)
    assert state.head == alice.chain.head == unb64u(answer["head"])
    assert len(bob.send("GET", f"{alice.path}/chain?after=0").json()["entries"]) == 1
    assert bob.send("GET", f"{alice.path}/chain?after=1").json()["entries"] == []
    assert answer["more"] is False


@pytest.mark.postgres
@pytest.mark.parametrize("bound", ["entries", "octets"])
def test_read_gives_a_page_and_says_that_there_is_more(
    alice: Account, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "entries":
        monkeypatch.setattr(access, "ENTRIES", 1)
    else:
        monkeypatch.setattr(paging, "OCTETS", 1)
    found, after = [], -1
    for more in (True, False):
        page = alice.phones[0].send("GET", f"{alice.path}/chain?after={after}").json()
        assert (len(page["entries"]), page["more"], page["seq"]) == (1, more, 1)
        assert unb64u(page["head"]) == alice.chain.head
        found += page["entries"]
        after += 1
    assert Entry.parse(unb64u(found[-1])).hash == alice.chain.head


@pytest.mark.parametrize("after", ["x", "1e3", "%D9%A3", "99999999999", "1.0", "", "-"])
def test_read_refuses_a_number_that_is_none(alice: Account, after: str) -> None:
    refused = alice.phones[0].send("GET", f"{alice.path}/chain?after={after}")
    assert refused.status_code == 400, refused.content
    assert refused.json()["errors"][0]["field"] == "after"


@pytest.mark.postgres
def test_append_writes_each_entry_to_the_key_log(alice: Account) -> None:
    leaves = AuditEntry.unscoped.filter(log="keys").order_by("seq")
    assert [leaf.body["seq"] for leaf in leaves] == [0, 1]
    assert leaves[1].body["statement_hash"] == b64u(alice.chain.head)


@pytest.mark.postgres
def test_append_on_a_stale_head_is_told_the_newer_one(alice: Account) -> None:
    phone, old = alice.phones[0], alice.chain
    first, late = alice.generation(phone), alice.generation(phone, 2)
    assert alice.append(phone, [first]).status_code == 201
    refused = alice.append(phone, [late], head=old.head)
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-stale")
    assert (refused.json()["head"], refused.json()["seq"]) == (b64u(alice.chain.head), 2)


@pytest.mark.postgres
def test_append_signed_by_a_rotated_key_is_a_fork_that_is_kept(alice: Account) -> None:
    phone, stolen = alice.phones[0], alice.aik
    new = SigningKey.generate()
    rotation = chain_author.rotate_key(alice.chain, by=alice.author(phone), new_aik=new, reason=Reason.SCHEDULE)
    assert alice.append(phone, [rotation]).status_code == 201
    forged = chain_author.archive_generation(
        alice.chain, by=replace(alice.author(phone), key=stolen), generation=1, not_before=0, commitment=b"c" * 32
    )
    refused = alice.append(phone, [forged])
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-fork")
    kept = ChainFork.unscoped.get()
    assert bytes(kept.entry) == forged.encode()
    assert AuditEntry.unscoped.filter(tag="keys:chain:fork").count() == 1
    assert bytes(ChainHead.unscoped.get(user_id=alice.person.pk).head) == rotation.hash
    alice.append(phone, [forged])
    assert ChainFork.unscoped.count() == 1


@pytest.mark.postgres
def test_append_of_a_second_entry_for_a_taken_place_is_a_fork(alice: Account) -> None:
    phone, before = alice.phones[0], alice.chain
    assert alice.append(phone, [alice.generation(phone)]).status_code == 201
    other = chain_author.archive_generation(
        before, by=alice.author(phone), generation=7, not_before=0, commitment=b"d" * 32
    )
    refused = alice.append(phone, [other])
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-fork")
    assert ChainEntry.unscoped.filter(user_id=alice.person.pk).count() == 3


def test_append_signed_by_a_stranger_is_refused_and_is_no_evidence(alice: Account) -> None:
    phone = alice.phones[0]
    forged = chain_author.archive_generation(
        alice.chain,
        by=replace(alice.author(phone), key=SigningKey.generate()),
        generation=1,
        not_before=0,
        commitment=b"c" * 32,
    )
    refused = alice.append(phone, [forged])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")
    assert ChainFork.unscoped.count() == 0


@pytest.mark.postgres
def test_revocation_is_refused_without_its_rotation_and_changes_nothing(alice: Account) -> None:
    kept, lost = alice.phones[0], alice.add_phone()
    revoke, rotate = chain_author.revoke_device(
        alice.chain,
        by=alice.author(kept),
        device=lost.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    head = alice.chain.head
    for half in (revoke, rotate):
        assert alice.append(kept, [half]).status_code in (409, 422)
    assert alice.chain.head == head
    assert states(alice)[lost.id] == ("active", "active")
    assert alice.append(kept, [revoke, rotate]).status_code == 201
    assert states(alice) == {kept.id: ("active", "active"), lost.id: ("revoked", "revoked")}
    assert lost.send("GET", "/api/v1/devices").status_code == 401


def test_append_refuses_to_add_a_device_that_did_not_enrol(alice: Account) -> None:
    stranger = new_phone(alice.person)
    refused = alice.append(alice.phones[0], [alice.adding(stranger, by=alice.phones[0])])
    assert (refused.status_code, refused.json()["code"]) == (422, "chain-refused")
    assert ChainEntry.unscoped.filter(user_id=alice.person.pk).count() == 2


def test_append_refuses_to_add_another_users_device(alice: Account, directory: Directory) -> None:
    theirs = new_phone(directory.world.bob)
    issue(theirs)
    post_enrolment(theirs)
    refused = alice.append(alice.phones[0], [alice.adding(theirs, by=alice.phones[0])])
    assert (refused.status_code, refused.json()["code"]) == (422, "chain-refused")
    assert Device.unscoped.get(id=theirs.id).state == "pending"


def test_append_refuses_a_device_under_another_statement(alice: Account) -> None:
    phone = new_phone(alice.person)
    issue(phone)
    post_enrolment(phone)
    entry = chain_author.add_device(
        alice.chain, by=alice.author(alice.phones[0]), device=phone.id.bytes, statement_hash=b"s" * 32
    )
    assert alice.append(alice.phones[0], [entry]).json()["code"] == "chain-refused"


def pending_of(account: Account) -> Phone:
    phone = new_phone(account.person)
    issue(phone)
    assert post_enrolment(phone).status_code == 201
    return phone


@pytest.mark.postgres
def test_append_by_a_pending_device_is_taken_when_it_adds_that_very_device(alice: Account) -> None:
    """Whoever opened a door holds the identity key; the entry that lists their device needs no other device."""
    first, phone = alice.phones[0], pending_of(alice)
    answer = alice.append(phone, [alice.adding(phone)])
    assert answer.status_code == 201, answer.content
    assert states(alice)[phone.id] == ("active", "active")
    told = {"event": "device-joined", "device_id": str(phone.id)}
    assert events_of(fetched(first)) == [told]
    assert [(job.kind, job.payload["event"]) for job in Job.unscoped.all()] == [("keys.notice", "device-joined")]


@pytest.mark.postgres
def test_append_by_a_pending_device_is_refused_when_it_stays_outside(alice: Account) -> None:
    """FAULTS A12: a stolen code is no standing, and with the identity key it is only to be seen in the chain."""
    phone, other, head = pending_of(alice), pending_of(alice), alice.chain.head
    for entries in ([alice.generation(phone)], [alice.adding(other)]):
        refused = alice.append(phone, entries)
        assert (refused.status_code, refused.json()["code"]) == (422, "chain-refused")
    thief = Account(alice.person, state=alice.state)
    refused = thief.append(phone, [thief.adding(phone, by=phone)])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")
    assert states(alice)[phone.id] == states(alice)[other.id] == ("pending", "pending")
    assert bytes(ChainHead.unscoped.get(user_id=alice.person.pk).head) == head
    assert fetched(alice.phones[0]) == []


@pytest.mark.postgres
def test_append_by_a_pending_device_with_the_recovery_key_revokes_what_was_lost(directory: Directory) -> None:
    recovery, account = SigningKey.generate(), directory.account("alice")
    lost = new_phone(account.person)
    issue(lost)
    assert post_enrolment(lost).status_code == 201
    tenant, user = account.person.tenant_id.bytes, account.person.pk.bytes
    begun = chain_author.genesis(tenant=tenant, user=user, by=account.author(lost), recovery_key=recovery.public)
    entries = [begun, account.adding(lost, verify_chain([begun], tenant=tenant, user=user), by=lost)]
    assert account.append(lost, entries).status_code == 201
    account.phones.append(lost)
    phone, new = pending_of(account), SigningKey.generate()
    by = replace(account.author(phone), key=recovery)
    rotation = chain_author.rotate_key(account.chain, by=by, new_aik=new, reason=Reason.RECOVERY)
    account.aik = new
    then = extend(account.chain, rotation)
    adding = account.adding(phone, then, by=phone)
    revoking = chain_author.revoke_device(
        extend(then, adding),
        by=account.author(phone),
        device=lost.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    assert account.append(phone, [rotation, adding, *revoking]).status_code == 201
    assert states(account) == {lost.id: ("revoked", "revoked"), phone.id: ("active", "active")}


@pytest.mark.postgres
@pytest.mark.parametrize(("shift", "status"), [(-10790, 201), (-10810, 422), (290, 201), (310, 422)])
def test_append_takes_an_entry_that_was_dated_within_three_hours(
    directory: Directory, shift: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery key's seven days are counted on these dates, so nobody writes them as they like."""
    alice = directory.account("alice")
    with monkeypatch.context() as patch:
        patch.setattr("tests.cast.phones.now", lambda: now() - 3 * 3600 + 60)
        phone = alice.add_phone()
    by = replace(alice.author(phone), issued_at=now() + shift)
    entry = chain_author.archive_generation(alice.chain, by=by, generation=1, not_before=0, commitment=b"c" * 32)
    answer = alice.append(phone, [entry])
    assert answer.status_code == status, answer.content
    if status == 422:
        assert answer.json()["code"] == "chain-refused"
        assert abs(datetime.fromisoformat(answer.json()["server_time"]).timestamp() - now()) < 10


@pytest.mark.postgres
def test_regenesis_on_the_word_of_strangers_is_refused_and_leaves_every_device_standing(alice: Account) -> None:
    phone, takeover = new_phone(alice.person), SigningKey.generate()
    issue(phone)
    post_enrolment(phone)
    attestations = [
        cose.sign(phone.statement.payload, purpose=Purpose.ATTESTATION, key=SigningKey.generate()) for _ in range(2)
    ]
    entry = chain_author.re_genesis(
        alice.chain,
        by=replace(alice.author(phone), key=takeover),
        attestations=attestations,
        policy_hash=b"p" * 32,
    )
    refused = alice.append(phone, [entry])
    assert (refused.status_code, refused.json()["code"]) == (422, "untrusted")
    assert states(alice) == {alice.phones[0].id: ("active", "active"), phone.id: ("pending", "pending")}


def test_append_of_a_second_genesis_is_refused(alice: Account) -> None:
    phone = new_phone(alice.person)
    issue(phone)
    post_enrolment(phone)
    hijack = Account(alice.person)
    refused = hijack.append(phone, hijack.begin(phone))
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-stale")
    assert bytes(ChainHead.unscoped.get(user_id=alice.person.pk).head) == alice.chain.head


@pytest.mark.postgres
def test_append_to_another_users_chain_is_not_found(alice: Account, directory: Directory) -> None:
    bob, mallory = directory.phone("bob"), directory.phone("mallory")
    entry = alice.generation(alice.phones[0])
    answers = [one.send("POST", f"{alice.path}/chain", document(alice, entry)) for one in (bob, mallory)]
    answers.append(bob.send("POST", f"/api/v1/users/{uuid.uuid4()}/chain", document(alice, entry)))
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1


def document(account: Account, *entries: Entry) -> dict[str, object]:
    return {"entries": [b64u(one.encode()) for one in entries], "expected_head": b64u(account.chain.head)}


@pytest.mark.postgres
def test_read_of_a_chain_is_not_found_for_mallory(alice: Account, directory: Directory) -> None:
    mallory = directory.phone("mallory")
    for what in ("chain", "devices"):
        foreign = mallory.send("GET", f"{alice.path}/{what}")
        unknown = mallory.send("GET", f"/api/v1/users/{uuid.uuid4()}/{what}")
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.content == unknown.content


@pytest.mark.postgres
def test_append_does_not_happen_when_the_audit_log_is_away(alice: Account) -> None:
    phone, head = alice.phones[0], alice.chain.head
    with audit_away():
        assert alice.append(phone, [alice.generation(phone)]).status_code == 503
    assert bytes(ChainHead.unscoped.get(user_id=alice.person.pk).head) == head
    assert alice.append(phone, [alice.generation(phone)]).status_code == 201


@pytest.mark.postgres
def test_append_repeated_under_its_key_is_answered_as_before(alice: Account) -> None:
    phone = alice.phones[0]
    body = document(alice, alice.generation(phone))
    first, again = (phone.send("POST", f"{alice.path}/chain", body, idempotency_key="k") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["idempotent-replay"] == "true"


def test_devices_of_a_user_are_those_their_chain_lists(alice: Account, directory: Directory) -> None:
    second = alice.add_phone()
    pending = new_phone(alice.person)
    issue(pending)
    post_enrolment(pending)
    shown = directory.phone("bob").send("GET", f"{alice.path}/devices").json()
    assert unb64u(shown["chain_head"]) == alice.chain.head
    assert {row["device_id"] for row in shown["devices"]} == {str(alice.phones[0].id), str(second.id)}


@pytest.mark.parametrize("entries", [[], ["AA="], [""], "AA", [5], None])
def test_append_names_the_field_that_is_malformed(alice: Account, entries: object) -> None:
    refused = alice.phones[0].send("POST", f"{alice.path}/chain", {"entries": entries, "expected_head": None})
    assert refused.status_code in (400, 422)
    if refused.status_code == 400:
        assert refused.json()["errors"][0]["field"].startswith("entries")


@pytest.mark.parametrize("place", [-1, -80], ids=["its signature", "what it says"])
def test_tampered_row_changes_nothing_that_a_chain_says_and_without_what_was_kept_it_is_refused(
    place: int, alice: Account, directory: Directory
) -> None:
    """FAULTS C4: whoever can write to the database cannot sign."""
    with directory.acme():
        said = chains.chain_state(alice.person.pk).state
    row = ChainEntry.unscoped.get(user_id=alice.person.pk, seq=1)
    octets = bytearray(row.entry)
    octets[place] ^= 1
    ChainEntry.unscoped.filter(pk=row.pk).update(entry=bytes(octets))
    with directory.acme():
        assert chains.chain_state(alice.person.pk).state == said
    ChainHead.unscoped.filter(user_id=alice.person.pk).update(state=None, state_mac=None)
    with directory.acme(), pytest.raises(HoldfastError):
        chains.chain_state(alice.person.pk)
    with directory.acme():
        assert access.chain_head(alice.person.pk).seq == 1


@pytest.mark.postgres
def test_chain_near_its_end_takes_revocations_and_nothing_else(alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = alice.phones[0], alice.add_phone()
    # Room for one more entry, and then for four that come with a revocation.
    monkeypatch.setattr(entry_rows, "MAX_CHAIN", alice.chain.seq + 6)
    monkeypatch.setattr(entry_rows, "CHAIN_RESERVE", 4)
    assert alice.append(first, [alice.generation(first, 1)]).status_code == 201
    refused = alice.append(first, [alice.generation(first, 2)])
    assert (refused.status_code, refused.json()["code"]) == (409, "limit-reached")
    assert (refused.json()["limit"], refused.json()["most"]) == ("chain-entries", alice.chain.seq + 1)
    entries = chain_author.revoke_device(
        alice.chain,
        by=alice.author(first),
        device=second.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    assert alice.append(first, entries).status_code == 201
    assert states(alice)[second.id] == ("revoked", "revoked")


@pytest.mark.postgres
def test_entry_after_one_that_lies_in_the_future_takes_its_date(
    alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS W10a: while a clock was two hours ahead, an entry was dated by it. A thief is shut out as ever."""
    phone, lost = alice.phones[0], alice.add_phone()
    ahead = now() + 7200
    with monkeypatch.context() as patch:
        patch.setattr(services, "database_now", lambda: datetime.fromtimestamp(ahead, UTC))
        assert alice.append(phone, [dated_generation(alice, phone, ahead)]).status_code == 201
    assert alice.append(phone, [dated_generation(alice, phone, ahead + 1)]).status_code == 422, "and no later one"
    revoking = chain_author.revoke_device(
        alice.chain,
        by=replace(alice.author(phone), issued_at=ahead),
        device=lost.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    assert alice.append(phone, list(revoking)).status_code == 201
    assert states(alice)[lost.id] == ("revoked", "revoked")


@pytest.mark.postgres
def test_process_whose_clock_is_ahead_takes_entries_by_the_databases_clock(
    alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, real = alice.phones[0], timezone.now
    honest, ahead = dated_generation(alice, phone, now()), dated_generation(alice, phone, now() + 7 * 86_400)
    # The verbs alone: requests are signed, and judged, by the time of whoever answers.
    monkeypatch.setattr("keys.services.timezone", SimpleNamespace(now=lambda: real() + timedelta(days=7)))
    assert alice.append(phone, [ahead]).status_code == 422
    assert alice.append(phone, [honest]).status_code == 201


def dated_generation(account: Account, phone: Phone, at: int) -> Entry:
    by = replace(account.author(phone), issued_at=at)
    number = len(account.chain.generations) + 1
    return chain_author.archive_generation(account.chain, by=by, generation=number, not_before=0, commitment=b"c" * 32)
