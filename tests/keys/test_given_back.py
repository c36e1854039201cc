# SPDX-License-Identifier: Apache-2.0
"""Account chains that a restored database lost, given back: what is taken again, from whom, and what that opens.

PROTOCOL section 5, "After a restored backup". On a real log token and a database that is really put back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from audit import journal, sequencer
from audit import restored as audit_restored
from audit import services as audit
from audit.models import Entry as AuditEntry
from audit.models import LogHead, Restored
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.acts import Act, Resolution
from holdfast.core.identity.chain import extend
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject, log_origin
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from hsm import registry
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
from kernel.models import Job
from kernel.scope import tenant_scope
from keys import restored, services
from keys.models import ChainEntry, ChainFork, ChainHead, Device
from tenants import services as tenants
from tenants.models import Credential, Person
from tenants.roles import Role
from tests.cast.hsm import hsm_config  # noqa: F401
from tests.cast.phones import DAY, Account, Directory, Phone, enrolled, new_phone, now, successor
from tests.cast.put_back import copied_database
from tests.cast.roles import found_roles, name_log_key
from tests.cast.unread import unread
from tests.keys.mail import events_of, fetched

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
LOGS: Final = ("audit", "keys")


@dataclass
class Lost:
    """Acme, whose database is put back from a backup; `entries` and `proofs` are what clients hold of alice's chain."""

    directory: Directory
    monkeypatch: pytest.MonkeyPatch
    restore: Callable[[], None] = lambda: None
    entries: list[str] = field(default_factory=list)
    had: int = 0

    def __post_init__(self) -> None:
        self.tenant_id: UUID = self.directory.world.acme.pk
        found_roles(self.tenant_id)
        name_log_key(self.tenant_id, registry.log().public_key)
        with self.long_ago(40):
            self.bob: Phone = self.directory.phone("bob")
            self.phone: Phone = self.directory.phone("alice")
        self.alice: Account = self.directory.account("alice")

    def back_up(self) -> None:
        self.sequence()
        self.before, self.old_aik = self.alice.chain, self.alice.aik
        self.had = self.alice.chain.seq + 1
        self.restore = copied_database()

    def sequence(self) -> None:
        for log in LOGS:
            sequencer.sequence(self.tenant_id, log)

    @contextmanager
    def long_ago(self, days: int) -> Iterator[None]:
        """What is appended here is dated so, and was taken then."""
        with self.monkeypatch.context() as patch:
            patch.setattr("tests.cast.phones.now", lambda: now() - days * DAY)
            patch.setattr(services, "database_now", lambda: datetime.now(UTC) - timedelta(days=days))
            yield

    def remember(self) -> dict[str, Any]:
        """Return the proof of alice's newest entry, as her devices and contacts keep it, and keep all entries."""
        self.sequence()
        self.entries = self.bob.send("GET", f"{self.alice.path}/chain").json()["entries"]
        return self.proof()

    def proof(self, account: Account | None = None, query: str = "") -> dict[str, Any]:
        answer = self.bob.send("GET", f"{(account or self.alice).path}/chain/proof{query}")
        assert answer.status_code == 200, answer.content
        return {name: answer.json()[name] for name in ("leaf_index", "leaf", "proof", "checkpoint")}

    def put_back(self, *, accepted: int | None = 0) -> None:
        """Put the backup back; the officers accept it, as many seconds ago as said, or not at all."""
        self.restore()
        if accepted is not None:
            self.accept(ago=accepted)

    def accept(self, *, ago: int = 0) -> None:
        about: list[int | bytes] = []
        heads: dict[str, journal.Head] = {}
        for log in LOGS:
            head = LogHead.unscoped.filter(tenant_id=self.tenant_id, log=log).first()
            size = head.size if head else 0
            rows = AuditEntry.unscoped.filter(tenant_id=self.tenant_id, log=log, leaf_index__lt=size)
            leaves = rows.order_by("leaf_index").values_list("leaf", flat=True)
            heads[log] = journal.Head(size, merkle.root([merkle.leaf_hash(bytes(leaf)) for leaf in leaves]))
            about += [size, heads[log].root]
        header = Header(self.tenant_id.bytes, b"", b"", now() - ago)
        made = Resolution(header, Act.ACCEPT_LOG, tuple(about), bytes(32), secrets.token_bytes(16))
        signed = cose.sign(unread(made), purpose=Purpose.RESOLUTION, key=SigningKey.generate())
        with tenant_scope(self.tenant_id), transaction.atomic():
            audit_restored.accept(
                statement=cose.encode_many([signed]),
                digest=signed.payload_hash,
                audit_size=int(about[0]),
                keys_size=int(about[2]),
            )
        journal.replace_heads(self.tenant_id, heads)

    def give(self, by: Phone, proof: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Give back all that is held of alice's chain, or what is said."""
        document: dict[str, Any] = {"entries": self.entries} | ({"proof": proof} if proof else {}) | changes
        return by.send("POST", f"{self.alice.path}/chain/restored", document)

    def come_back(self, phone: Phone, proof: dict[str, Any], **changes: Any) -> Any:
        document = {
            "tenant_id": str(self.tenant_id),
            "device_statement": b64u(phone.statement.encode()),
            "entries": self.entries,
            "proof": proof,
        }
        return Client().post("/api/v1/devices/restored", document | changes, content_type="application/json")

    def has(self) -> int:
        return ChainEntry.unscoped.filter(user_id=self.alice.person.pk).count()

    def states(self) -> dict[UUID, tuple[str, str]]:
        rows = Device.unscoped.filter(user_id=self.alice.person.pk)
        return {row.id: (row.state, Credential.unscoped.get(id=row.id).state) for row in rows}

    def rotated(self) -> None:
        new = SigningKey.generate()
        by = self.alice.author(self.phone)
        entry = chain_author.rotate_key(self.alice.chain, by=by, new_aik=new, reason=Reason.SCHEDULE)
        assert self.alice.append(self.phone, [entry]).status_code == 201
        self.alice.aik = new


@pytest.fixture
def lost(hsm_config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lost]:  # noqa: F811
    with open_tokens(hsm_config, ["log"]) as tokens:
        registry.install(lambda: {"log": tokens.log})
        yield Lost(Directory(), monkeypatch)
    registry.install(dict)


def codes(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize("giver", ["the owner", "a contact"])
def test_what_the_server_lost_of_a_chain_is_taken_again_with_its_proof(lost: Lost, giver: str) -> None:
    with lost.long_ago(31):
        thief = lost.alice.add_phone()
    lost.back_up()
    with lost.long_ago(30):
        lost.rotated()
        assert lost.alice.revoke(thief, by=lost.phone).status_code == 201
    proof = lost.remember()
    lost.put_back()
    assert lost.has() == lost.had
    by = lost.phone if giver == "the owner" else lost.bob
    answer = lost.give(by, proof)
    assert answer.status_code == 200, answer.content
    assert answer.json() == {
        "head": b64u(lost.alice.chain.head),
        "seq": lost.alice.chain.seq,
        "taken": 3,
        "devices": [],
    }
    assert lost.bob.send("GET", f"{lost.alice.path}/chain").json()["entries"] == lost.entries
    assert lost.states() == {lost.phone.id: ("active", "active"), thief.id: ("revoked", "revoked")}
    logged = AuditEntry.unscoped.filter(tag="keys:chain:restore")
    assert {row.actor for row in logged} == {f"device:{by.id}"}
    assert [row.body["seq"] for row in logged.order_by("seq")] == [lost.had, lost.had + 1, lost.had + 2]
    lost.sequence()
    assert lost.proof()["leaf_index"] >= 0, "and the new log has them"
    again = lost.give(lost.bob, proof)
    assert (again.status_code, again.json()["taken"]) == (200, 0)
    # They count from their own day: nothing of today's is found among them.
    assert all(row.appended_at < datetime.now(UTC) - timedelta(days=29) for row in _fresh(lost))
    assert lost.alice.append(lost.phone, [lost.alice.generation(lost.phone)]).status_code == 201


def _fresh(lost: Lost) -> Sequence[ChainEntry]:
    return list(ChainEntry.unscoped.filter(user_id=lost.alice.person.pk, seq__gte=lost.had).order_by("seq"))


# Who offers what, and what it is refused with: alice's chain lacks two entries, which the log had and bob can prove.
Attempt = Callable[[Lost, dict[str, Any]], Any]


def _by_a_strangers_log(lost: Lost, proof: dict[str, Any]) -> Any:
    name, key = log_origin(str(lost.tenant_id), "keys"), SigningKey.generate()
    text = Checkpoint(name, 1, merkle.leaf_hash(unb64u(proof["leaf"])), now()).to_text()
    note = sign_note(text, verifier=NoteVerifier(name, key.public), sign=key.sign)
    return lost.give(lost.bob, proof | {"checkpoint": note, "leaf_index": 0, "proof": []})


def _in_the_past(lost: Lost) -> Entry:
    """What whoever holds alice's identity key of the backup can write today, dated before everything was lost."""
    by = replace(lost.alice.author(lost.phone), issued_at=lost.before.time + 1, key=lost.old_aik)
    return chain_author.archive_generation(lost.before, by=by, generation=9, not_before=0, commitment=b"c" * 32)


def _made_up(lost: Lost, by: Phone, *entries: Entry, proof: dict[str, Any] | None = None) -> Any:
    encoded = [*lost.entries[: lost.had], *(b64u(entry.encode()) for entry in entries)]
    return lost.give(by, proof, entries=encoded)


def _leaf_of_another(lost: Lost, proof: dict[str, Any]) -> Any:
    entry = Entry.parse(unb64u(lost.entries[-1]))
    subject = key_log_subject(lost.tenant_id.bytes, lost.bob.person.pk.bytes)
    leaf = KeyLogEntry(1, subject, entry.seq, entry.hash, now()).to_leaf()
    return lost.give(lost.bob, proof | {"leaf": b64u(leaf)})


def _with_an_entry_more(lost: Lost, proof: dict[str, Any]) -> Any:
    last = Entry.parse(unb64u(lost.entries[-1]))
    more = lost.alice.generation(lost.phone, 3)
    assert more.prev == last.hash
    return lost.give(lost.bob, proof, entries=[*lost.entries, b64u(more.encode())])


ATTEMPTS: Final[dict[str, tuple[Attempt, tuple[int, str]]]] = {
    "somebody else's on one's word": (lambda lost, _: lost.give(lost.bob), (422, "chain-refused")),
    "the past, on another's word": (
        lambda lost, _: _made_up(lost, lost.bob, _in_the_past(lost)),
        (422, "chain-refused"),
    ),
    "the past, with a borrowed proof": (
        lambda lost, proof: _made_up(lost, lost.bob, _in_the_past(lost), proof=proof),
        (422, "untrusted"),
    ),
    "an entry after the proven one": (_with_an_entry_more, (422, "untrusted")),
    "a head of a stranger's log": (_by_a_strangers_log, (422, "invalid-signature")),
    "a leaf about somebody else": (_leaf_of_another, (422, "untrusted")),
    "a proof that leads nowhere": (
        lambda lost, proof: lost.give(lost.bob, proof | {"proof": [b64u(bytes(32))]}),
        (422, "untrusted"),
    ),
    "a proof that is garbage": (
        lambda lost, proof: lost.give(lost.bob, proof | {"leaf": "AAAA", "checkpoint": "x"}),
        (422, "malformed"),
    ),
    "a million entries": (
        lambda lost, proof: lost.give(lost.bob, proof, entries=lost.entries * 400),
        (400, "malformed-request"),
    ),
    "garbage": (lambda lost, proof: lost.give(lost.bob, proof, entries=["AAAA"]), (422, "malformed")),
    "none": (lambda lost, proof: lost.give(lost.bob, proof, entries=[]), (400, "malformed-request")),
    "without order": (
        lambda lost, proof: lost.give(lost.bob, proof, entries=lost.entries[::-1]),
        (422, "malformed"),
    ),
    "with a gap": (lambda lost, proof: lost.give(lost.bob, proof, entries=lost.entries[-1:]), (409, "chain-stale")),
    "by another tenant": (
        lambda lost, proof: lost.give(lost.directory.phone("mallory"), proof),
        (409, "nothing-restored"),
    ),
    "of another tenant's device, by itself": (
        lambda lost, proof: lost.come_back(lost.directory.phone("mallory"), proof),
        (422, "device-mismatch"),
    ),
    "of a device that the chain does not list, by itself": (
        lambda lost, proof: lost.come_back(new_phone(lost.alice.person), proof),
        (409, "nothing-restored"),
    ),
    "by itself, with a proof of nothing": (
        lambda lost, proof: lost.come_back(lost.phone, proof | {"proof": []}),
        (409, "nothing-restored"),
    ),
    "by itself, to a tenant that is none": (
        lambda lost, proof: lost.come_back(_of_nowhere(lost), proof, tenant_id=str(UUID(int=7))),
        (409, "nothing-restored"),
    ),
}


def _of_nowhere(lost: Lost) -> Phone:
    """A device of a tenant that is not there."""
    person = Person(id=lost.alice.person.pk, tenant_id=UUID(int=7))
    return new_phone(person)


def test_what_nothing_proves_is_not_taken(lost: Lost) -> None:
    """The exemption from the rule of dates opens nothing to whoever holds old keys, or offers what was never there."""
    lost.back_up()
    with lost.long_ago(1):
        lost.rotated()
        assert lost.alice.append(lost.phone, [lost.alice.generation(lost.phone)]).status_code == 201
    proof = lost.remember()
    lost.put_back()
    for name, (attempt, expected) in ATTEMPTS.items():
        assert codes(attempt(lost, proof)) == expected, name
        assert (lost.has(), set(lost.states())) == (lost.had, {lost.phone.id}), name
    assert not AuditEntry.unscoped.filter(tag__in=["keys:chain:restore", "keys:device:restore", "keys:chain:fork"])
    assert lost.give(lost.bob, proof).json()["taken"] == 2, "the very thing passes"
    lost.monkeypatch.setattr(restored, "GIVEN_BACK_WITHIN", timedelta(0))
    assert codes(lost.give(lost.bob, proof)) == (409, "nothing-restored"), "and no more after 90 days"


def test_nothing_is_given_back_to_a_server_that_lost_nothing(lost: Lost) -> None:
    """Also while a backup waits for its acceptance, and with a proof of the log that goes on."""
    lost.back_up()
    lost.rotated()
    proof = lost.remember()
    assert codes(lost.give(lost.bob, proof)) == (409, "nothing-restored")
    assert codes(lost.come_back(lost.phone, proof)) == (409, "nothing-restored")
    lost.put_back(accepted=None)
    assert codes(lost.give(lost.bob, proof)) == (409, "nothing-restored")
    lost.accept(ago=600)
    assert codes(lost.give(lost.bob, proof)) == (422, "chain-refused"), "signed after the officers had decided"
    assert lost.has() == lost.had


def test_another_entry_in_a_place_is_a_fork_and_the_first_one_stands(lost: Lost) -> None:
    """A device that missed what the others had done goes on from the backup; theirs comes too late, and is kept."""
    lost.back_up()
    with lost.long_ago(1):
        lost.rotated()
    proof = lost.remember()
    lost.put_back()
    behind = Account(lost.alice.person, lost.old_aik, lost.before)
    assert behind.append(lost.phone, [behind.generation(lost.phone)]).status_code == 201
    for by in (lost.bob, lost.phone):
        assert codes(lost.give(by, proof)) == (409, "chain-fork")
    (kept,) = ChainFork.unscoped.all()
    assert bytes(kept.entry) == unb64u(lost.entries[-1])
    assert bytes(ChainHead.unscoped.get(user_id=lost.alice.person.pk).head) == behind.chain.head


def test_two_who_know_more_or_less_give_back_one_chain(lost: Lost) -> None:
    lost.back_up()
    with lost.long_ago(1):
        lost.rotated()
        less = lost.remember()
        few = lost.entries
        lost.rotated()
    more = lost.remember()
    lost.put_back()
    assert lost.give(lost.bob, less, entries=few).json()["taken"] == 1
    assert lost.give(lost.bob, more, entries=lost.entries[lost.had + 1 :]).json()["taken"] == 1
    assert lost.give(lost.phone, less, entries=few).json() == {
        "head": b64u(lost.alice.chain.head),
        "seq": lost.alice.chain.seq,
        "taken": 0,
        "devices": [],
    }


# One's own word


def test_an_owner_gives_back_on_their_word_what_the_log_had_not_signed(lost: Lost) -> None:
    lost.back_up()
    with lost.long_ago(1):
        lost.rotated()
    lost.remember()
    lost.put_back()
    answer = lost.give(lost.phone)
    assert (answer.status_code, answer.json()["taken"]) == (200, 1)
    assert _fresh(lost)[0].appended_at > datetime.now(UTC) - timedelta(minutes=5), "taken today, for all that is shown"
    lost.rotated()


@pytest.mark.parametrize("known", ["proven", "on the owner's word"])
def test_a_recovery_key_waits_its_week_from_when_something_shows_it(lost: Lost, known: str) -> None:
    """Whoever holds a device must not lock the phrase out by an announcement that they date a week back."""
    first, second = SigningKey.generate(), SigningKey.generate()
    with lost.long_ago(20):
        setting = chain_author.set_recovery_key(
            lost.alice.chain, by=lost.alice.author(lost.phone), recovery_key=first.public
        )
        assert lost.alice.append(lost.phone, [setting]).status_code == 201
    lost.back_up()
    with lost.long_ago(8):
        announcing = chain_author.set_recovery_key(
            lost.alice.chain, by=lost.alice.author(lost.phone), recovery_key=second.public
        )
        assert lost.alice.append(lost.phone, [announcing]).status_code == 201
    proof = lost.remember()
    lost.put_back()
    again = chain_author.set_recovery_key(
        lost.alice.chain, by=lost.alice.author(lost.phone), recovery_key=second.public
    )
    both = [*lost.entries, b64u(again.encode())]
    assert codes(lost.give(lost.phone, entries=both)) == (422, "chain-refused"), "both at once, on one's word"
    assert lost.give(lost.phone, proof if known == "proven" else None).status_code == 200
    set_now = lost.alice.append(lost.phone, [again])
    if known == "proven":
        assert set_now.status_code == 201, set_now.content
        return
    assert codes(set_now) == (422, "chain-refused")
    ChainEntry.unscoped.filter(user_id=lost.alice.person.pk).update(
        appended_at=datetime.now(UTC) - timedelta(days=7, minutes=1)
    )
    assert lost.alice.append(lost.phone, [again]).status_code == 201


def _generations(lost: Lost, count: int, at: int) -> list[str]:
    """So many entries on top of what is held, dated so."""
    state, encoded = lost.alice.chain, list(lost.entries)
    for number in range(len(state.generations) + 1, len(state.generations) + 1 + count):
        by = replace(lost.alice.author(lost.phone), issued_at=at)
        entry = chain_author.archive_generation(state, by=by, generation=number, not_before=0, commitment=b"c" * 32)
        state = extend(state, entry)
        encoded.append(b64u(entry.encode()))
    return encoded


def _begun_again(lost: Lost) -> list[str]:
    by = replace(lost.alice.author(lost.phone), key=SigningKey.generate())
    keys = (SigningKey.generate(), SigningKey.generate())
    words = [cose.sign(lost.phone.statement.payload, purpose=Purpose.ATTESTATION, key=key) for key in keys]
    entry = chain_author.re_genesis(lost.alice.chain, by=by, attestations=words, policy_hash=bytes(32))
    return [*lost.entries, b64u(entry.encode())]


OWN_WORD: Final[dict[str, tuple[Callable[[Lost], Any], tuple[int, str]]]] = {
    "dated after the acceptance": (lambda lost: _generations(lost, 1, now() + 400), (422, "chain-refused")),
    "as many as a thief might write": (lambda lost: _generations(lost, 33, now() - DAY), (422, "chain-refused")),
    "an account begun again": (_begun_again, (422, "untrusted")),
}


def test_not_everything_is_taken_on_the_owners_word(lost: Lost) -> None:
    lost.back_up()
    lost.remember()
    lost.put_back()
    for name, (entries, expected) in OWN_WORD.items():
        assert codes(lost.give(lost.phone, entries=entries(lost))) == expected, name
        assert lost.has() == lost.had, name


def test_a_device_that_is_not_of_the_chain_gives_nothing_back_on_its_word(lost: Lost) -> None:
    with lost.long_ago(31):
        thief, waiting = lost.alice.add_phone(), enrolled(lost.alice.person)
    lost.back_up()
    with lost.long_ago(1):
        lost.rotated()
    lost.remember()
    lost.put_back()
    assert codes(lost.give(waiting)) == (422, "chain-refused")
    with lost.directory.acme(), transaction.atomic():
        services.revoke_again(device_id=thief.id, user_id=lost.alice.person.pk, reason=int(Reason.DEVICE_LOST))
    assert codes(lost.give(thief)) == (401, "device-revoked")
    assert lost.has() == lost.had


# Devices


def test_a_device_that_the_server_lost_comes_back_by_itself_and_its_owner_is_told(lost: Lost) -> None:
    lost.back_up()
    new = lost.alice.add_phone()
    assert lost.alice.revoke(lost.phone, by=new).status_code == 201
    proof = lost.remember()
    lost.put_back()
    assert new.send("GET", f"{lost.alice.path}/chain").status_code == 401
    answer = lost.come_back(new, proof)
    assert (answer.status_code, answer.json()["state"]) == (201, "active"), answer.content
    assert lost.states() == {lost.phone.id: ("revoked", "revoked"), new.id: ("active", "active")}
    assert new.send("GET", f"{lost.alice.path}/chain").json()["entries"] == lost.entries
    assert events_of(fetched(new)) == [{"event": "device-restored", "device_id": str(new.id)}]
    assert [job.payload["event"] for job in Job.unscoped.filter(kind="keys.notice")] == ["device-restored"]
    assert AuditEntry.unscoped.filter(tag="keys:device:restore", subject=str(new.id)).count() == 1
    assert lost.come_back(new, proof).json()["state"] == "active"
    assert lost.alice.append(new, [lost.alice.generation(new)]).status_code == 201


def test_a_device_that_the_server_lost_hears_what_is_waited_for_and_a_stranger_hears_nothing(lost: Lost) -> None:
    lost.back_up()
    new = lost.alice.add_phone()
    proof = lost.remember()
    lost.put_back(accepted=None)
    with tenant_scope(lost.tenant_id):
        audit_restored.mark(by="sequencer")
    assert codes(lost.come_back(new, proof)) == (503, "log-restored")
    assert codes(lost.come_back(new, proof | {"proof": [b64u(bytes(32))]})) == (409, "nothing-restored")
    assert lost.has() == lost.had


def test_an_officers_device_comes_back_before_the_backup_is_accepted_since_they_have_to_accept_it(lost: Lost) -> None:
    lost.back_up()
    stored, had = lost.remember(), lost.entries
    new = lost.alice.add_phone()
    proof = lost.remember()
    Person.unscoped.filter(pk=lost.alice.person.pk).update(role=Role.OFFICER)
    lost.put_back(accepted=None)
    Person.unscoped.filter(pk=lost.alice.person.pk).update(role=Role.OFFICER)
    with tenant_scope(lost.tenant_id):
        audit_restored.mark(by="sequencer")
    assert codes(lost.come_back(new, proof | {"proof": [b64u(bytes(32))]})) == (409, "nothing-restored")
    assert codes(lost.come_back(lost.phone, stored, entries=had)) == (409, "nothing-restored"), "that is no loss"
    assert lost.come_back(new, proof).json()["state"] == "active"
    assert new.send("GET", f"{lost.alice.path}/chain").json()["entries"] == lost.entries
    # And then they wait as everybody does.
    assert codes(lost.alice.append(new, [lost.alice.generation(new)])) == (503, "log-restored")


def test_a_device_that_the_server_lost_tells_it_that_it_was_put_back(lost: Lost) -> None:
    """Everything was put back together, and whoever has seen more has no credential there any more."""
    lost.back_up()
    new = lost.alice.add_phone()
    proof = lost.remember()
    lost.put_back(accepted=None)
    assert codes(lost.come_back(new, proof | {"proof": [b64u(bytes(32))]})) == (409, "nothing-restored")
    assert not Restored.unscoped.exists()
    assert codes(lost.come_back(new, proof)) == (503, "log-restored")
    assert [row.by for row in Restored.unscoped.all()] == ["client"]
    assert AuditEntry.unscoped.filter(tag="audit:log:newer").count() == 1


def test_a_device_comes_back_with_what_another_gives(lost: Lost) -> None:
    """By its statement; one that waited since before the backup needs none, nor does a successor."""
    waiting = enrolled(lost.alice.person)
    lost.back_up()
    new = lost.alice.add_phone()
    assert lost.alice.append(lost.phone, [lost.alice.adding(waiting, by=lost.phone)]).status_code == 201
    follower = successor(lost.phone)
    assert lost.phone.register_successor(follower).status_code == 201
    assert lost.alice.append(lost.phone, [lost.alice.adding(follower, by=lost.phone)]).status_code == 201
    proof = lost.remember()
    lost.put_back()
    statements = [b64u(one.statement.encode()) for one in (new, follower, enrolled_nowhere(lost))]
    answer = lost.give(lost.bob, proof, device_statements=statements)
    assert answer.status_code == 200, answer.content
    assert set(answer.json()["devices"]) == {str(one.id) for one in (new, follower, waiting)}
    assert set(lost.states().values()) == {("active", "active")}
    assert len(lost.states()) == 4


def enrolled_nowhere(lost: Lost) -> Phone:
    """A device of alice's that no chain lists."""
    return new_phone(lost.alice.person)


ENDED: Final = {
    "keys:device:revoke": "revoked",
    "tenants:credential:revoke": "revoked",
    "tenants:credential:suspend": "suspended",
}


@pytest.mark.parametrize("tag", ENDED)
@pytest.mark.parametrize("row", ["lost", "kept"])
def test_what_the_log_says_has_ended_does_not_come_back_with_the_chain(lost: Lost, tag: str, row: str) -> None:
    """The ceremony puts such entries back, also about a device whose row is lost: giving back undoes none of them."""
    if row == "kept":
        new = enrolled(lost.alice.person)
        lost.back_up()
        assert lost.alice.append(lost.phone, [lost.alice.adding(new, by=lost.phone)]).status_code == 201
    else:
        lost.back_up()
        new = lost.alice.add_phone()
    proof = lost.remember()
    owner = lost.alice.person.pk
    with lost.directory.acme(), transaction.atomic():
        body: dict[str, Any] = (
            {"user": str(owner), "reason": int(Reason.DEVICE_LOST)} if tag == "keys:device:revoke" else {}
        )
        leaf = bytes(audit.append(tag=tag, actor=new.actor(), subject=str(new.id), body=body).leaf)
    lost.put_back()
    with lost.directory.acme(), transaction.atomic():
        audit.append_again(leaf)
        if tag == "keys:device:revoke":
            services.revoke_again(device_id=new.id, user_id=owner, reason=int(Reason.DEVICE_LOST))
        else:
            tenants.take_again(tag=tag, subject=new.id)
    assert lost.come_back(new, proof).status_code == 201
    assert lost.give(lost.bob, proof, device_statements=[b64u(new.statement.encode())]).status_code == 200
    assert lost.states()[new.id][1] == ENDED[tag]
    assert lost.has() == lost.had + 1
    assert new.send("GET", f"{lost.alice.path}/chain").status_code == 401


def test_whoever_has_left_gets_no_device_back(lost: Lost) -> None:
    lost.back_up()
    new = lost.alice.add_phone()
    proof = lost.remember()
    lost.put_back()
    with lost.directory.acme(), transaction.atomic():
        tenants.take_again(tag="tenants:person:leave", subject=lost.alice.person.pk)
    assert codes(lost.come_back(new, proof)) == (409, "nothing-restored")
    answer = lost.give(lost.bob, proof, device_statements=[b64u(new.statement.encode())])
    assert (answer.status_code, answer.json()["devices"]) == (200, []), (
        "their chain is what it was, for who wrote to them"
    )
    assert new.id not in lost.states()


def test_a_statement_in_anothers_name_makes_nobody_elses_device(lost: Lost) -> None:
    """A chain may name any statement. Bob's names one that says it is alice's, and twice the database is put back."""
    bob, other = lost.directory.account("bob"), new_phone(lost.alice.person)
    lost.back_up()
    lost.put_back()
    entry = bob.adding(other, by=lost.bob)
    document: dict[str, Any] = {"entries": [b64u(entry.encode())]}
    assert lost.bob.send("POST", f"{bob.path}/chain/restored", document).json()["taken"] == 1
    lost.sequence()
    proof = lost.proof(bob)
    lost.put_back()
    document = document | {"proof": proof, "device_statements": [b64u(other.statement.encode())]}
    answer = lost.bob.send("POST", f"{bob.path}/chain/restored", document)
    assert (answer.status_code, answer.json()["devices"]) == (200, [])
    assert not Device.unscoped.filter(id=other.id).exists()


def test_a_chain_that_was_lost_from_its_beginning_comes_back_with_its_person(lost: Lost) -> None:
    """Invited before the backup, enrolled after it: the log had an entry of theirs, so they were there."""
    carol = lost.directory.account("carol")
    Person.unscoped.filter(pk=carol.person.pk).update(state="invited")
    lost.back_up()
    new = carol.add_phone()
    lost.sequence()
    entries, proof = lost.bob.send("GET", f"{carol.path}/chain").json()["entries"], lost.proof(carol)
    lost.put_back()
    assert not ChainHead.unscoped.filter(user_id=carol.person.pk).exists()
    answer = lost.come_back(new, proof, entries=entries)
    assert (answer.status_code, answer.json()["state"]) == (201, "active"), answer.content
    assert Person.unscoped.get(pk=carol.person.pk).state == "active"
    assert new.send("GET", f"{carol.path}/chain").json()["entries"] == entries
