# SPDX-License-Identifier: Apache-2.0
"""Two complete tenants, made by the real services on real tokens, and one valid request for every route of the API.

Implements the ground that FAULTS sections 2, 10 and 12 are tested on: what is sent wrong is first sent right. It
asserts nothing about refusals itself.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from audit import access as audit_access
from audit import restored, sequencer
from audit.models import Transcript
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.core.base.encoding import b64u, encode, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import cases, chain_author
from holdfast.core.identity.acts import Act as Acts
from holdfast.core.identity.acts import Resolution, Standing
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry
from holdfast.core.identity.policy import Policy
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import Consent
from hsm import registry
from hsm.backend import EscrowPublicKey
from hsm.runtime import Tokens
from kernel import queue
from kernel.actors import system_actor
from kernel.scope import close_scope, tenant_scope
from keys import access as key_access
from keys.chains import chain_state
from tenants import services as tenants
from tenants.models import Tenant
from tenants.roles import Role
from tests.cast.administrators import administrator, settle
from tests.cast.contacts import TrustedContacts
from tests.cast.phones import Directory, Phone, batch_document, enrol_document, issue, new_phone, now, successor
from tests.cast.roles import found_roles
from tests.cast.tenants import (
    PASSWORD,
    Cast,
    Signer,
    give_password,
    give_totp,
    make_device,
    make_person,
    make_service,
)
from tests.cast.world import OpenCase
from tests.cast.world import World as Escrowed
from tests.faults.acts import Act

API = "/api/v1"
ROLES = {
    "olivia": Role.OWNER,
    "carol": Role.OFFICER,
    "dan": Role.OFFICER,
    "erin": Role.OFFICER,
    "rex": Role.REVIEWER,
    "otto": Role.AUDITOR,
    "oscar": Role.OWNER,
    "henry": Role.HELPDESK,
    "sam": Role.SUPPORT,
    "alice": Role.MEMBER,
    "bob": Role.MEMBER,
}


@dataclass(frozen=True)
class Hsm:
    """The tokens of this process, and an escrow key for each of two tenants."""

    tokens: Tokens
    escrow_keys: tuple[EscrowPublicKey, EscrowPublicKey]


class Organisation(Escrowed):
    """One tenant in full: a deposit of alice's, a case with one approval, and another case that was released."""

    def __init__(self, cast: Cast, home: Path, escrow_key: EscrowPublicKey, log_vkey: Any) -> None:
        super().__init__(home, escrow_key, log_vkey, directory=Directory(cast))
        self.slug = cast.acme.slug
        self.service = make_service(cast.acme)
        # Who keeps no chain has a credential alone.
        self.chainless = {name: make_device(cast.people[name]) for name in ("henry", "sam")}
        for name in set(ROLES) - set(self.chainless):
            self.directory.phone(name)
        for name in ("alice", "bob"):
            self.phone(name).publish()
        self.archive = self.deposit()
        self.case_open = self.opened(self.archive)
        self._approve(self.case_open, "carol")
        self.case_released = self.opened(self.archive)
        self._approve(self.case_released, "carol")
        self._approve(self.case_released, "dan")
        self.case_vetoed = self.opened(self.archive)
        self._made(_veto(self, self.case_vetoed))
        account, phone = self.directory.account("alice"), self.phone("alice")
        self._made(Act(phone.signer, "PUT", f"{API}/vault", account.vault(phone, 1), {"If-Match": '"0"'}))
        self._made(Act(phone.signer, "PUT", f"{API}/vault/doors/password", _door(b"1"), {"If-Match": '"0"'}))
        self.directory.account("erin").keep_officers_section(self.phone("erin"), ("password", "phrase", "passkey"))
        self.contacts = TrustedContacts.of(self.directory, "alice", ["bob", "carol", "dan"])
        self._made(self.contacts.storing(0))
        self.contact_request = self.contacts.ask(phone)
        self.contacts.give("bob", self.contact_request)
        self.browser = self.sign_in("carol")
        settle(cast.people["olivia"], cast.people["oscar"])
        self.owners = {name: administrator(cast.people[name]) for name in ("olivia", "oscar")}
        self.pending = self.propose_act("alice")
        self.keep_transcript()
        self.file = UUID(_file(self).send().json()["id"])
        with tenant_scope(self.tenant_id):
            for log in ("audit", "keys"):
                sequencer.sequence(self.tenant_id, log)

    @property
    def tenant(self) -> Tenant:
        return self.cast.acme

    def keep_transcript(self) -> None:
        """Put a transcript in that nobody signed, which is shown as that: with no log key, none can be."""
        text = f"Ceremonies for {self.tenant_id}".encode()
        Transcript.unscoped.create(
            tenant_id=self.tenant_id,
            number=1,
            text=text,
            hash=hashlib.sha256(text).digest(),
            statement=b"\x80",
            installation_lines=1,
            own_lines=1,
            made_at=timezone.now(),
        )

    def phone(self, name: str) -> Phone:
        return self.directory.phone(name)

    def signer(self, name: str) -> Signer:
        return self.chainless.get(name) or self.phone(name).signer

    def propose_act(self, name: str) -> UUID:
        """Have olivia propose that somebody's sign-in be reset; return what waits for a second person."""
        act = _performed(self, "person-factors", name, how="shown")
        answer = act.send()
        assert answer.status_code == 200, answer.content
        return UUID(answer.json()["pending_id"])

    def _approve(self, case: OpenCase, name: str) -> None:
        answer = self.approve(case, name, self.archive)
        assert answer.status_code == 201, answer.content

    @staticmethod
    def _made(act: Act) -> None:
        answer = act.send()
        assert answer.status_code in (200, 201, 204), answer.content

    def sign_in(self, name: str) -> Client:
        """Sign a person in at the console with both factors."""
        person, client = self.cast.people[name], Client(raise_request_exception=False)
        give_password(person)
        key = give_totp(person)
        typed = {"tenant": self.slug, "email": person.email, "password": PASSWORD}
        assert client.post("/console/sign-in/", typed).status_code == 302
        from tenants import sign_in

        answer = client.post("/console/sign-in/code/", {"code": sign_in.totp_code(key, at=now())})
        assert answer.status_code == 302, answer.content
        return client

    def markers(self) -> frozenset[str]:
        """Return the ids of every row of this tenant, as text: none of them is another tenant's to see."""
        found = {str(self.tenant_id)}
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names(cursor):
                names = {column.name for column in connection.introspection.get_table_description(cursor, table)}
                if {"id", "tenant_id"} <= names:
                    tenant = self.tenant_id if connection.vendor == "postgresql" else self.tenant_id.hex
                    cursor.execute(f"SELECT id FROM {table} WHERE tenant_id = %s", [tenant])
                    found |= {str(row[0]) for row in cursor.fetchall()}
        ids = {text if "-" in text else str(UUID(text)) for text in found if len(text) >= 32}
        return frozenset(ids)


def _door(octets: bytes) -> dict[str, str]:
    return {"blob": b64u(encode({1: octets}))}


@dataclass
class Installation:
    """Acme, and the tenant that mallory's people belong to."""

    acme: Organisation
    other: Organisation

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back, at the end of the block, whatever was done inside it: in the database and in the cast's memory."""
        accounts = [one.directory.account(name) for one in (self.acme, self.other) for name in ROLES]
        kept = [(account, account.state, account.aik, list(account.phones)) for account in accounts]
        try:
            with transaction.atomic():
                yield
                transaction.set_rollback(True)
        finally:
            close_scope()
            for account, state, aik, phones in kept:
                account.state, account.aik, account.phones[:] = state, aik, phones


def build(home: Path, escrow_keys: tuple[EscrowPublicKey, EscrowPublicKey], log_vkey: Any) -> Installation:
    """Make both tenants and let a release process do what is due."""
    made = []
    for slug, key in zip(("acme", "mallory-inc"), escrow_keys, strict=True):
        tenant = tenants.create_tenant(
            slug=slug,
            name=slug.title(),
            actor=system_actor(None, "ceremony"),
            is_development=True,
            tenant_id=UUID(key.tenant_id),
        )
        found_roles(tenant.pk)
        cast = Cast(tenant, tenant)
        with tenant_scope(tenant.pk):
            cast.people.update({name: make_person(name, role) for name, role in ROLES.items()})
        made.append(Organisation(cast, home, key, log_vkey))
    with made[0].process():
        # Not a tick of the process: that begins by closing a connection which is inside a transaction.
        assert queue.run_due("release") == len(made)
    for one in made:
        assert one.state(one.case_released) == "released"
        one.sequence()
    close_scope()
    return Installation(*made)


# One valid request for each route and method. What a request needs first, its maker does.

Maker = Callable[[Organisation], Act]


def _asked(one: Organisation, act: str, name: str, **given: str) -> Act:
    document: dict[str, object] = {"subject_id": str(one.cast.people[name].pk), **({"given": given} if given else {})}
    return Act(one.signer("olivia"), "POST", f"{API}/organisation/acts/{act}/words", document)


def _performed(one: Organisation, act: str, name: str, **given: str) -> Act:
    asked = _asked(one, act, name, **given)
    answer = asked.send()
    assert answer.status_code == 200, answer.content
    document = {**asked.document, "token": answer.json()["token"], "code": one.owners["olivia"].code()}
    return Act(one.signer("olivia"), "POST", f"{API}/organisation/acts/{act}", document)


def _file(one: Organisation) -> Act:
    document = {"csv": "name,email,role\nIvy,ivy@acme.test,member\nX,nobody,\n"}
    return Act(one.signer("olivia"), "POST", f"{API}/organisation/imports", document)


def _read_file(one: Organisation) -> Act:
    return Act(one.signer("olivia"), "GET", f"{API}/organisation/imports/{one.file}")


def _confirmed_act(one: Organisation) -> Act:
    uri, oscar = f"{API}/organisation/pending/{one.pending}", one.signer("oscar")
    answer = Act(oscar, "GET", uri).send()
    assert answer.status_code == 200, answer.content
    return Act(
        oscar, "POST", f"{uri}/confirm", {"token": answer.json()["words"]["token"], "code": one.owners["oscar"].code()}
    )


def _withdrawn_act(one: Organisation) -> Act:
    # One of its own: another request may confirm the one that waits.
    return Act(one.signer("oscar"), "POST", f"{API}/organisation/pending/{one.propose_act('rex')}/withdraw", {})


def _pending_act(one: Organisation) -> Act:
    return Act(one.signer("oscar"), "GET", f"{API}/organisation/pending/{one.pending}")


def _of(name: str, method: str, path: str) -> Maker:
    """Make a request without a body; `path` may name alice's device and account, the case and the deposit."""

    def make(one: Organisation) -> Act:
        places = {
            "device": one.phone("alice").id,
            "user": one.phone("alice").person.pk,
            "case": one.case_open.id,
            "deposit": UUID(bytes=one.archive.header.deposit_id),
        }
        return Act(one.signer(name), method, f"{API}/{path.format(**places)}")

    return make


def _enrolment_code(one: Organisation) -> Act:
    document = {"person_id": str(one.phone("bob").person.pk), "code_hash": b64u(hashlib.sha256(b"code").digest())}
    return Act(one.signer("carol"), "POST", f"{API}/enrolment-codes", document)


def _confirmation(one: Organisation) -> Act:
    person, code_hash = one.cast.people["erin"], secrets.token_bytes(32)
    with tenant_scope(person.tenant_id):
        actor = one.phone("carol").actor()
        code = tenants.issue_enrolment_code(person=person, code_hash=code_hash, actor=actor)
    document = {"person_id": str(person.pk)}
    return Act(one.signer("dan"), "POST", f"{API}/enrolment-codes/{code.pk}/confirm", document)


def _enrol(one: Organisation) -> Act:
    phone = new_phone(one.cast.people["bob"])
    issue(phone)
    return Act(None, "POST", f"{API}/devices", enrol_document(phone))


def _chain(one: Organisation) -> Act:
    account, phone = one.directory.account("alice"), one.phone("alice")
    entry = account.generation(phone, len(account.chain.generations) + 1)
    document = {"entries": [b64u(entry.encode())], "expected_head": b64u(account.chain.head)}
    return Act(phone.signer, "POST", f"{API}/users/{phone.person.pk}/chain", document)


def _lost(one: Organisation, write: Callable[[ChainState], Entry]) -> dict[str, Any]:
    """An entry of alice's that a restored database lost: her chain with it, and its proof from before."""
    account, token = one.directory.account("alice"), registry.log()
    with tenant_scope(one.tenant_id):
        stored = [bytes(row.entry) for row in key_access.chain_entries(account.person.pk)]
        entry = write(chain_state(account.person.pk).state)
    subject = key_log_subject(one.tenant_id.bytes, account.person.pk.bytes)
    leaf = KeyLogEntry(1, subject, entry.seq, entry.hash, now()).to_leaf()
    key = sequencer.verifier(one.tenant_id, "keys", token.public_key)
    head = Checkpoint(key.name, 1, merkle.leaf_hash(leaf), now()).to_text()
    about = (1, secrets.token_bytes(32), 1, secrets.token_bytes(32))
    header = Header(one.tenant_id.bytes, b"", b"", now())
    accepted = Resolution(header, Acts.ACCEPT_LOG, about, bytes(32), secrets.token_bytes(16))
    signed = cose.sign(accepted.to_payload(), purpose=Purpose.RESOLUTION, key=SigningKey.generate())
    with tenant_scope(one.tenant_id), transaction.atomic():
        restored.accept(
            statement=cose.encode_many([signed]), digest=signed.payload_hash, audit_size=about[0], keys_size=about[2]
        )
    note = sign_note(head, verifier=key, sign=token.sign)
    return {
        "entries": [b64u(encoded) for encoded in [*stored, entry.encode()]],
        "proof": {"leaf_index": 0, "leaf": b64u(leaf), "proof": [], "checkpoint": note},
    }


def _chain_restored(one: Organisation) -> Act:
    account = one.directory.account("alice")

    def write(state: ChainState) -> Entry:
        by, number = account.author(one.phone("alice")), len(state.generations) + 1
        return chain_author.archive_generation(state, by=by, generation=number, not_before=now(), commitment=bytes(32))

    known = {"device_statements": [b64u(one.phone("alice").statement.encode())]}
    document = _lost(one, write) | known
    return Act(one.signer("bob"), "POST", f"{API}/users/{account.person.pk}/chain/restored", document)


def _device_restored(one: Organisation) -> Act:
    account, phone = one.directory.account("alice"), new_phone(one.cast.people["alice"])
    document = _lost(one, lambda state: account.adding(phone, state, by=one.phone("alice")))
    given = {"tenant_id": str(one.tenant_id), "device_statement": b64u(phone.statement.encode())}
    return Act(None, "POST", f"{API}/devices/restored", given | document)


def _bundle(one: Organisation) -> Act:
    phone = one.phone("alice")
    document = {"v": 1, "signed_pre_key": b64u(phone.signed_pre_key(2))}
    return Act(phone.signer, "PUT", f"{API}/devices/{phone.id}/bundle", document, {"If-Match": phone.current_tag})


def _pre_keys(one: Organisation) -> Act:
    phone = one.phone("alice")
    return Act(phone.signer, "POST", f"{API}/devices/{phone.id}/pre-keys", batch_document(phone.batch(3)))


def _check(one: Organisation) -> Act:
    phone = one.phone("alice")
    return Act(phone.signer, "POST", f"{API}/devices/{phone.id}/check", {})


def _claim_device(one: Organisation) -> Act:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return Act(one.signer("bob"), "POST", f"{API}/devices/{one.phone('alice').id}/claim", {}, headers)


def _claim_user(one: Organisation) -> Act:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return Act(one.signer("bob"), "POST", f"{API}/users/{one.phone('alice').person.pk}/claim", {}, headers)


def _user_message(one: Organisation) -> Act:
    head = one.directory.account("alice").chain.head
    envelopes = [
        {"device_id": str(phone.id), "message": b64u(secrets.token_bytes(64))}
        for phone in one.directory.account("alice").phones
    ]
    document = {"chain_head": b64u(head), "envelopes": envelopes, "content": b64u(secrets.token_bytes(64))}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return Act(one.signer("bob"), "POST", f"{API}/users/{one.phone('alice').person.pk}/messages", document, headers)


def _letter(one: Organisation) -> Act:
    document = {"kind": "share", "message": b64u(secrets.token_bytes(64)), "content": b64u(secrets.token_bytes(64))}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return Act(one.signer("bob"), "POST", f"{API}/devices/{one.phone('alice').id}/messages", document, headers)


def _successor_device(one: Organisation) -> Act:
    phone = one.phone("alice")
    document = {"device_statement": b64u(successor(phone).statement.encode())}
    headers = {"If-Match": phone.waiting_tag}
    return Act(phone.signer, "POST", f"{API}/devices/{phone.id}/successor", document, headers)


def _message_sent(one: Organisation) -> str:
    answer = _user_message(one).send()
    assert answer.status_code == 201, answer.content
    return str(answer.json()["messages"][0]["message_id"])


def _content(one: Organisation) -> Act:
    return Act(one.signer("alice"), "GET", f"{API}/messages/{_message_sent(one)}/content")


def _acknowledge(one: Organisation) -> Act:
    return Act(one.signer("alice"), "POST", f"{API}/messages/ack", {"message_ids": [_message_sent(one)]})


def _contacts(one: Organisation) -> Act:
    return TrustedContacts.of(one.directory, "alice", ["bob", "dan"]).storing(1)


def _contact_request(one: Organisation) -> Act:
    return one.contacts.asking(one.phone("alice"))


def _contact_share(one: Organisation) -> Act:
    return one.contacts.giving("carol", one.contact_request)


def _of_contact_request(name: str, method: str, rest: str = "") -> Maker:
    def make(one: Organisation) -> Act:
        uri = f"{API}/recovery/contacts/requests/{one.contact_request.id}{rest}"
        return Act(one.signer(name), method, uri, None if method == "GET" else {})

    return make


def _vault(one: Organisation) -> Act:
    account, phone = one.directory.account("alice"), one.phone("alice")
    return Act(phone.signer, "PUT", f"{API}/vault", account.vault(phone, 2), {"If-Match": '"1"'})


def _door_put(one: Organisation) -> Act:
    return Act(one.signer("alice"), "PUT", f"{API}/vault/doors/password", _door(b"2"), {"If-Match": '"1"'})


def _officers_section(one: Organisation) -> Act:
    account, phone = one.directory.account("erin"), one.phone("erin")
    return Act(phone.signer, "PUT", f"{API}/vault/officers", account.officers_section(phone, 2), {"If-Match": '"1"'})


def _officers_door(one: Organisation) -> Act:
    account, phone = one.directory.account("erin"), one.phone("erin")
    document = account.officers_door(phone)
    return Act(phone.signer, "PUT", f"{API}/vault/officers/doors/phrase", document, {"If-Match": '"1"'})


def _officers_door_proof(one: Organisation) -> Act:
    account, phone = one.directory.account("erin"), one.phone("erin")
    uri = f"{API}/vault/officers/doors/phrase"
    blob = unb64u(Act(phone.signer, "GET", uri).send().json()["blob"])
    return Act(phone.signer, "PUT", f"{uri}/proof", {"proof": account.door_proof(phone, "officers-phrase", blob)})


def _officer_keys(one: Organisation) -> Act:
    stated = one.directory.account("erin").officer_keys(one.phone("erin"))
    return Act(one.signer("erin"), "POST", f"{API}/escrow/officer-statements", {"statement": b64u(stated.encode())})


def _statement(one: Organisation) -> Act:
    account, phone = one.directory.account("alice"), one.phone("alice")
    consent = Consent(phone.header(), policy_hash=one.policies[-1].hash, text_hash=b"t" * 32, agreed=True)
    signed = cose.sign(consent.to_payload(), purpose=Purpose.CONSENT, key=account.aik)
    return Act(phone.signer, "POST", f"{API}/statements", {"statement": b64u(signed.encode())})


def _deposit(one: Organisation) -> Act:
    from holdfast.core.signed.statements import DepositStatement

    phone, record = one.phone("alice"), one.build().to_record()
    statement = DepositStatement(phone.header(), hashlib.sha256(record).digest())
    signed = cose.sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=phone.isk)
    document = {"record": b64u(record), "statement": b64u(signed.encode())}
    return Act(phone.signer, "POST", f"{API}/escrow/deposits", document)


def _case(one: Organisation) -> Act:
    case = one.case(one.new_phone(), one.archive)
    return Act(case.phone.signer, "POST", f"{API}/cases", {"case": b64u(case.statement.encode())})


def _approval(one: Organisation) -> Act:
    document = one.signed_approval(one.case_open, "dan", [one.archive])
    return Act(one.signer("dan"), "POST", f"{API}/cases/{one.case_open.id}/approvals", document)


def _denial(one: Organisation) -> Act:
    from holdfast.core.escrow import approvals

    founder = one.founders["dan"]
    signed = approvals.deny(
        one.case_open.statement,
        policy=one.policies[-1],
        signing_key=founder.signing_key,
        header=Header(one.tenant_id.bytes, founder.person, b"", now()),
        identity_check="it was somebody else",
        client_kind=cases.ClientKind.CLI,
    )
    document = {"statement": b64u(signed.encode()), "reason": "It was somebody else."}
    return Act(one.signer("dan"), "POST", f"{API}/cases/{one.case_open.id}/deny", document)


def _veto(one: Organisation, case: OpenCase | None = None) -> Act:
    phone, case = one.phone("alice"), case or one.case_open
    veto = cases.Veto(phone.header(), case.statement.payload_hash, "Not me.")
    signed = cose.sign(veto.to_payload(), purpose=Purpose.VETO, key=phone.isk)
    document = {"statement": b64u(signed.encode()), "reason": "Not me."}
    return Act(phone.signer, "POST", f"{API}/cases/{case.id}/veto", document)


def _veto_proof(one: Organisation) -> Act:
    return Act(one.signer("alice"), "GET", f"{API}/cases/{one.case_vetoed.id}/veto")


def _blame(one: Organisation) -> Act:
    answer = _release(one).send()
    assert answer.status_code == 200, answer.content
    case, deposit_id = one.case_released, UUID(bytes=one.archive.header.deposit_id)
    document = {"shares": [[str(deposit_id), [1, 2]]]}
    return Act(case.phone.signer, "POST", f"{API}/cases/{case.id}/blame", document)


def _cancel(one: Organisation) -> Act:
    case = one.case_open
    return Act(case.phone.signer, "POST", f"{API}/cases/{case.id}/cancel", {"reason": "Found it."})


def _release(one: Organisation) -> Act:
    case = one.case_released
    return Act(case.phone.signer, "GET", f"{API}/cases/{case.id}/release")


def _successor(one: Organisation) -> Act:
    case = one.case_released
    document = {
        "identity_key": b64u(SigningKey.generate().public.encoded),
        "old_head": b64u(one.directory.account("alice").chain.head),
    }
    return Act(case.phone.signer, "PUT", f"{API}/cases/{case.id}/successor", document)


def _attestation(one: Organisation) -> Act:
    case, founder, key = one.case_released, one.founders["carol"], SigningKey.generate()
    head = one.directory.account("alice").chain.head
    proposed = {"identity_key": b64u(key.public.encoded), "old_head": b64u(head)}
    answer = Act(case.phone.signer, "PUT", f"{API}/cases/{case.id}/successor", proposed).send()
    assert answer.status_code == 200, answer.content
    said = cases.Attestation(
        header=Header(one.tenant_id.bytes, case.phone.person.pk.bytes, b"", now()),
        old_head=head,
        new_aik=key.public,
        case_id=case.id.bytes,
        device_hash=case.phone.statement.payload_hash,
    )
    signed = cose.sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=founder.signing_key)
    return Act(one.signer("carol"), "POST", f"{API}/cases/{case.id}/attestations", {"statement": b64u(signed.encode())})


def _officer_state(one: Organisation) -> Act:
    word = one.word("erin", Standing.AWAY, reason=uuid.uuid4().hex)
    return Act(one.signer("erin"), "POST", f"{API}/escrow/officer-states", {"statement": b64u(word.encode())})


def _resolution(one: Organisation) -> Act:
    made = one.resolution(Acts.ACKNOWLEDGE_LEAF, 7, hashlib.sha256(b"leaf").digest())
    signed = cose.sign(made.to_payload(), purpose=Purpose.RESOLUTION, key=one.founders["carol"].signing_key)
    return Act(one.signer("carol"), "POST", f"{API}/escrow/resolutions", {"statement": b64u(signed.encode())})


def _proposed(one: Organisation) -> Policy:
    """A policy that carol has proposed, another one each time: how long it lasts tells them apart."""
    made = one.policy(m=2, delay_seconds=600)
    made = replace(made, header=replace(made.header, expires_at=now() + 10**6 + secrets.randbelow(10**6)))
    answer = one.propose(made, "carol")
    assert answer.status_code == 201, answer.content
    return made


def _policy_proposal(one: Organisation) -> Act:
    made = one.policy(m=2, delay_seconds=600)
    made = replace(made, header=replace(made.header, expires_at=now() + 10**6 + secrets.randbelow(10**6)))
    return Act(one.signer("carol"), "POST", f"{API}/escrow/policy-proposals", {"payload": b64u(made.to_payload())})


def _policy_signature(one: Organisation) -> Act:
    made = _proposed(one)
    signed = one.policy_signature(made, "carol")
    return Act(
        one.signer("carol"), "POST", f"{one.proposal_path(made)}/signatures", {"statement": b64u(signed.encode())}
    )


def _policy_withdrawal(one: Organisation) -> Act:
    return Act(one.signer("carol"), "POST", f"{one.proposal_path(_proposed(one))}/withdraw", {})


def _key_signature(one: Organisation) -> Act:
    with tenant_scope(one.tenant_id):
        stored = escrow_access.escrow_keys()
    made = replace(
        one.escrow_key.statement,
        header=replace(one.tenant_header(), expires_at=now() + 10**6 + secrets.randbelow(10**6)),
        version=len(stored) + 1,
        predecessor=bytes(stored[-1].hash),
        policy_hash=one.in_force(),
    )
    payload = made.to_payload()
    by_root = cose.encode_many([cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=one.root)])
    with tenant_scope(one.tenant_id):
        row = escrow.propose_escrow_key(statement=by_root, cka_id=secrets.token_bytes(16), actor=one.ceremony)
    signed = cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=one.founders["carol"].signing_key)
    uri = f"{API}/escrow/key-proposals/{row.pk}/signatures"
    return Act(one.signer("carol"), "POST", uri, {"statement": b64u(signed.encode())})


def _shown_head(one: Organisation) -> Act:
    """A head that the log's key signed, of a log that is longer than the stored one."""
    token = registry.log()
    with tenant_scope(one.tenant_id):
        size = audit_access.latest_checkpoint("keys").size + 1000
    key = sequencer.verifier(one.tenant_id, "keys", token.public_key)
    text = Checkpoint(key.name, size, secrets.token_bytes(32), now()).to_text()
    note = sign_note(text, verifier=key, sign=token.sign)
    return Act(one.signer("alice"), "POST", f"{API}/audit/head", {"note": note})


def _exported(one: Organisation, more: str = "") -> Act:
    """An export of the log that otto asked for, which a worker has made."""
    made = Act(one.signer("otto"), "POST", f"{API}/audit/exports", {"log": "audit"}).send()
    assert made.status_code == 202, made.content
    queue.run_due("worker")
    return Act(one.signer("otto"), "GET", f"{API}/audit/exports/{made.json()['id']}{more}")


_get = partial(_of, method="GET")
VALID: dict[tuple[str, str], Maker] = {
    ("act", "POST"): lambda one: _performed(one, "person-suspend", "henry"),
    ("act-words", "POST"): lambda one: _asked(one, "person-suspend", "henry"),
    ("acts", "GET"): _get("olivia", path="organisation/acts"),
    ("audit-checkpoint", "GET"): _get("otto", path="audit/checkpoint"),
    ("audit-entries", "GET"): _get("otto", path="audit/entries"),
    ("audit-export", "GET"): _get("otto", path="audit/export"),
    ("audit-export-job", "GET"): _exported,
    ("audit-export-piece", "GET"): lambda one: _exported(one, "/pieces/0"),
    ("audit-exports", "GET"): _get("otto", path="audit/exports"),
    ("audit-exports", "POST"): lambda one: Act(one.signer("otto"), "POST", f"{API}/audit/exports", {"log": "keys"}),
    ("audit-head", "GET"): _get("alice", path="audit/head?log=keys"),
    ("audit-head", "POST"): _shown_head,
    ("audit-proof", "GET"): _get("otto", path="audit/proof?index=0&size=1"),
    ("audit-roles", "GET"): _get("otto", path="audit/roles"),
    ("audit-tile", "GET"): _get("otto", path="tiles/audit/0/0"),
    ("case", "GET"): _get("carol", path="cases/{case}"),
    ("case-approvals", "POST"): _approval,
    ("case-attestations", "GET"): _get("carol", path="cases/{case}/attestations"),
    ("case-attestations", "POST"): _attestation,
    ("case-blame", "POST"): _blame,
    ("case-cancel", "POST"): _cancel,
    ("case-deny", "POST"): _denial,
    ("case-release", "GET"): _release,
    ("case-successor", "PUT"): _successor,
    ("case-veto", "GET"): _veto_proof,
    ("case-veto", "POST"): _veto,
    ("cases", "GET"): _get("carol", path="cases"),
    ("cases", "POST"): _case,
    ("contact-request", "GET"): _of_contact_request("alice", "GET"),
    ("contact-request-cancel", "POST"): _of_contact_request("alice", "POST", "/cancel"),
    ("contact-request-shares", "POST"): _contact_share,
    ("contact-request-veto", "POST"): _of_contact_request("alice", "POST", "/veto"),
    ("contact-requests", "GET"): _get("bob", path="recovery/contacts/requests?role=contact"),
    ("contact-requests", "POST"): _contact_request,
    ("contacts", "GET"): _get("alice", path="recovery/contacts"),
    ("contacts", "PUT"): _contacts,
    ("device", "GET"): _get("bob", path="devices/{device}"),
    ("device-bundle", "PUT"): _bundle,
    ("device-check", "POST"): _check,
    ("device-claim", "POST"): _claim_device,
    ("device-messages", "POST"): _letter,
    ("device-pre-keys", "GET"): _get("alice", path="devices/{device}/pre-keys"),
    ("device-pre-keys", "POST"): _pre_keys,
    ("device-successor", "POST"): _successor_device,
    ("devices", "GET"): _get("alice", path="devices"),
    ("device-restored", "POST"): _device_restored,
    ("devices", "POST"): _enrol,
    ("enrolment-code-confirm", "POST"): _confirmation,
    ("enrolment-code-person", "GET"): _get("carol", path="enrolment-codes/person?email=bob%40acme.test"),
    ("enrolment-codes", "POST"): _enrolment_code,
    ("escrow-coverage", "GET"): _get("carol", path="escrow/coverage"),
    ("escrow-deposit", "GET"): _get("carol", path="escrow/deposits/{deposit}"),
    ("escrow-deposits", "GET"): _get("alice", path="escrow/deposits"),
    ("escrow-deposits", "POST"): _deposit,
    ("escrow-key", "GET"): _get("alice", path="escrow/key"),
    ("escrow-officer-statements", "GET"): _get("carol", path="escrow/officer-statements"),
    ("escrow-officer-statements", "POST"): _officer_keys,
    ("escrow-officer-states", "POST"): _officer_state,
    ("escrow-officers", "GET"): _get("carol", path="escrow/officers"),
    ("escrow-policy", "GET"): _get("alice", path="escrow/policy"),
    ("escrow-resolutions", "GET"): _get("otto", path="escrow/resolutions"),
    ("escrow-resolutions", "POST"): _resolution,
    ("import", "GET"): _read_file,
    ("imports", "POST"): _file,
    ("key-proposal-signatures", "POST"): _key_signature,
    ("key-proposals", "GET"): _get("carol", path="escrow/key-proposals"),
    ("message-content", "GET"): _content,
    ("messages", "GET"): _get("alice", path="messages?limit=5"),
    ("messages-ack", "POST"): _acknowledge,
    ("notices", "GET"): _get("alice", path="notices"),
    ("officers-door", "DELETE"): _of("erin", "DELETE", "vault/officers/doors/password"),
    ("officers-door", "GET"): _get("erin", path="vault/officers/doors/phrase"),
    ("officers-door", "PUT"): _officers_door,
    ("officers-door-proof", "PUT"): _officers_door_proof,
    ("officers-doors", "GET"): _get("erin", path="vault/officers/doors"),
    ("officers-section", "GET"): _get("erin", path="vault/officers"),
    ("officers-section", "PUT"): _officers_section,
    ("pending-act", "GET"): _pending_act,
    ("pending-acts", "GET"): _get("oscar", path="organisation/pending"),
    ("pending-confirm", "POST"): _confirmed_act,
    ("pending-withdraw", "POST"): _withdrawn_act,
    ("people", "GET"): _get("olivia", path="organisation/people?email=bob%40acme.test"),
    ("policy-answers", "GET"): _get("carol", path="escrow/policy-answers"),
    ("policy-proposal-signatures", "POST"): _policy_signature,
    ("policy-proposal-withdraw", "POST"): _policy_withdrawal,
    ("policy-proposals", "GET"): _get("carol", path="escrow/policy-proposals"),
    ("policy-proposals", "POST"): _policy_proposal,
    ("statements", "GET"): _get("alice", path="statements"),
    ("statements", "POST"): _statement,
    ("user-chain", "GET"): _get("bob", path="users/{user}/chain"),
    ("user-chain", "POST"): _chain,
    ("user-chain-restored", "POST"): _chain_restored,
    ("user-chain-proof", "GET"): _get("bob", path="users/{user}/chain/proof?seq=0&old_size=1"),
    ("user-claim", "POST"): _claim_user,
    ("user-devices", "GET"): _get("bob", path="users/{user}/devices"),
    ("user-messages", "POST"): _user_message,
    ("users", "GET"): _get("bob", path="users?email=alice%40acme.test"),
    ("vault", "GET"): _get("alice", path="vault"),
    ("vault", "PUT"): _vault,
    ("vault-door", "DELETE"): _of("alice", "DELETE", "vault/doors/password"),
    ("vault-door", "GET"): _get("alice", path="vault/doors/password"),
    ("vault-door", "PUT"): _door_put,
    ("vault-doors", "GET"): _get("alice", path="vault/doors"),
}
