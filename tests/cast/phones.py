# SPDX-License-Identifier: Apache-2.0
"""Devices of the cast as the server meets them: enrolled by real codes, writing real chains, signing real requests."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.db import connection
from django.test import Client

from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, SealingKey, SigningKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState, extend, verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.messages.bundle import BuiltBatch, PrivatePreKey, build_batch
from holdfast.core.messages.prekeys import SignedPreKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement, Sync, SyncKind
from holdfast.core.vault.blob import Section, VaultHeader, new_vault_key, seal_vault
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.door_proof import DoorProof
from holdfast.core.vault.passkey_door import new_salt, seal_passkey_door
from holdfast.core.vault.password_door import Argon2Cost, generate_password, seal_password_door
from holdfast.core.vault.phrase_door import seal_phrase_door
from kernel.actors import Actor, system_actor
from kernel.models import Job
from kernel.scope import tenant_scope
from keys import access, services
from keys.models import Device, Message
from keys.notices import NOTICE_JOB
from tenants import services as tenants
from tenants.models import Person
from tenants.permissions import device_permissions
from tests.cast.tenants import Cast, Signer, build_world
from tests.cast.unread import unread

DAY = 86_400
_CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def now() -> int:
    return int(time.time())


@dataclass
class Phone:
    """One device: its keys, its statement, and its way of sending requests."""

    person: Person
    id: UUID
    isk: SigningKey
    suite: Suite
    code: EnrolmentCode
    statement: Sign1
    next_key_id: int = 1
    is_expected: bool = False  # by its person, who has read at once what they were told of it

    @property
    def signer(self) -> Signer:
        return Signer(self.id, self.isk)

    @property
    def path(self) -> str:
        return f"/api/v1/devices/{self.id}"

    def header(self, *, lasts: int = 0, issued_at: int | None = None) -> Header:
        issued = now() if issued_at is None else issued_at
        ids = (self.person.tenant_id.bytes, self.person.pk.bytes, self.id.bytes)
        return Header(*ids, issued, issued + lasts if lasts else 0)

    def actor(self, state: str = "active") -> Actor:
        """The actor that authentication makes of this device's requests."""
        return Actor(
            tenant_id=self.person.tenant_id,
            kind="device",
            id=self.id,
            person_id=self.person.pk,
            role=self.person.role,
            permissions=device_permissions(self.person.role, state),
            credential_state=state,
        )

    def send(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        """Send one signed request; an absolute path is sent as it is, another under this device's address."""
        uri = path if path.startswith("/") else f"{self.path}/{path}"
        body = b"" if document is None else json.dumps(document).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.signer.send(Client(), method, uri, body, **named)

    @property
    def current_tag(self) -> str:
        """If-Match of a signed pre-key: the hash of the one that stands, as a check would say."""
        with tenant_scope(self.person.tenant_id):
            row = access.current_signed_pre_key(self.id)
        return f'"{b64u(bytes(row.statement_hash)) if row else ""}"'

    @property
    def waiting_tag(self) -> str:
        """If-Match of a successor: the hash of the statement of the one that waits."""
        with tenant_scope(self.person.tenant_id):
            rows = access.pending_successors(self.id)
        return f'"{b64u(bytes(rows[0].statement_hash)) if rows else ""}"'

    def register_successor(self, new: Phone, *, if_match: str | None = None) -> Any:
        """Register a device in this one's place, over HTTP."""
        document = {"device_statement": b64u(new.statement.encode())}
        return self.send("POST", "successor", document, if_match=self.waiting_tag if if_match is None else if_match)

    def claim(self, target: Phone, key: str | None = None) -> Any:
        return self.send("POST", f"{target.path}/claim", {}, idempotency_key=key or uuid.uuid4().hex)

    def signed_pre_key(
        self, key_id: int = 1, *, issued_at: int | None = None, signer: SigningKey | None = None
    ) -> bytes:
        _, public = PrivatePreKey.generate(key_id, self.suite)
        header = self.header(lasts=7 * DAY, issued_at=issued_at)
        statement = SignedPreKey(header, self.suite, key_id, public.dh, public.kem)
        return cose.sign(unread(statement), purpose=Purpose.PREKEY, key=signer or self.isk).encode()

    def batch(self, size: int = 5, *, first: int | None = None, header: Header | None = None) -> BuiltBatch:
        start = self.next_key_id if first is None else first
        self.next_key_id = max(self.next_key_id, start + size)
        return build_batch(
            header or self.header(), suite=self.suite, first_key_id=start, size=size, signing_key=self.isk
        )

    def publish(self, *, batches: Sequence[int] = (5,)) -> None:
        """Publish a signed pre-key and batches of one-time keys through the verbs."""
        with tenant_scope(self.person.tenant_id):
            device = access.device(self.id)
            current = access.current_signed_pre_key(self.id)
            services.publish_signed_pre_key(
                device=device,
                statement=self.signed_pre_key(),
                expected=bytes(current.statement_hash) if current else b"",
                actor=self.actor(),
            )
        for size in batches:
            self.upload(size)

    def upload(self, size: int) -> None:
        """Store one batch of one-time keys through the verbs."""
        built = self.batch(size)
        statement = built.statement.encode()
        with tenant_scope(self.person.tenant_id):
            device = access.device(self.id)
            signed, verified = services.verify_batch(device=device, statement=statement, leaves=built.leaves)
            services.store_batch(
                device_id=device.id, statement=statement, signed=signed, batch=verified, actor=self.actor()
            )


def batch_document(built: BuiltBatch) -> dict[str, Any]:
    return {"v": 1, "batch": b64u(built.statement.encode()), "leaves": b64u(built.leaves)}


def successor(phone: Phone) -> Phone:
    """Make the keys and the statement of a device that is to follow this one: it names no code."""
    return new_phone(phone.person, suite=phone.suite, code=phone.code, enrolment_hash=b"")


def new_phone(
    person: Person,
    *,
    suite: Suite = Suite.CLASSICAL,
    code: EnrolmentCode | None = None,
    enrolment_hash: bytes | None = None,
    device_id: UUID | None = None,
) -> Phone:
    """Make a device's keys and statement; the server knows nothing of it yet."""
    tenant, user, device_id = person.tenant_id.bytes, person.pk.bytes, device_id or uuid.uuid4()
    code = code or EnrolmentCode.new(tenant=tenant, person=user)
    isk = SigningKey.generate(suite.signing_kind)
    statement = DeviceStatement(
        header=Header(tenant, user, device_id.bytes, now()),
        suite=suite,
        signing_key=isk.public,
        agreement_key=AgreementKey.generate(suite.agreement_kind).public,
        sealing_key=SealingKey.generate().public,
        person=user,
        name="phone",
        enrolment_hash=code.hash if enrolment_hash is None else enrolment_hash,
    )
    signed = cose.sign(unread(statement), purpose=Purpose.DEVICE, key=isk)
    return Phone(person, device_id, isk, suite, code, signed)


def issue(phone: Phone) -> None:
    """Have an officer issue the code that the phone's statement names."""
    with tenant_scope(phone.person.tenant_id):
        tenants.issue_enrolment_code(
            person=phone.person,
            code_hash=phone.code.hash,
            actor=system_actor(phone.person.tenant_id, "ceremony"),
        )
    phone.is_expected = True
    _read_notices(phone.person)


def _read_notices(person: Person) -> None:
    """Have a person's devices and mail say nothing any more of a code or device that the person asked for."""
    for event in ("code-issued", "device-enrolled"):
        with tenant_scope(person.tenant_id):
            Message.objects.filter(
                device_id__in=Device.objects.filter(user_id=person.pk).values("id"), event=event
            ).delete()
        Job.unscoped.filter(kind=NOTICE_JOB, payload__person=str(person.pk), payload__event=event).delete()


def enrol_document(phone: Phone) -> dict[str, Any]:
    return {
        "tenant_id": str(phone.person.tenant_id),
        "code_secret": b64u(phone.code.secret.reveal()),
        "device_statement": b64u(phone.statement.encode()),
    }


def enrolled(person: Person) -> Phone:
    """Return a new device that was enrolled by a code; no chain lists it yet."""
    made = new_phone(person)
    issue(made)
    assert post_enrolment(made).status_code == 201
    return made


def post_enrolment(phone: Phone, **changes: Any) -> Any:
    """Enrol over HTTP, unsigned, as a new device does."""
    answer = Client().post("/api/v1/devices", enrol_document(phone) | changes, content_type="application/json")
    if phone.is_expected:
        _read_notices(phone.person)
    return answer


@dataclass
class Account:
    """A person's chain, written with their identity key and sent by one of their devices."""

    person: Person
    aik: SigningKey = field(default_factory=SigningKey.generate)
    state: ChainState | None = None
    phones: list[Phone] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/api/v1/users/{self.person.pk}"

    @property
    def chain(self) -> ChainState:
        assert self.state is not None
        return self.state

    def author(self, phone: Phone) -> Author:
        return Author(phone.id.bytes, now(), self.aik)

    def begin(self, phone: Phone) -> list[Entry]:
        tenant, user = self.person.tenant_id.bytes, self.person.pk.bytes
        first = chain_author.genesis(tenant=tenant, user=user, by=self.author(phone))
        return [first, self.adding(phone, verify_chain([first], tenant=tenant, user=user))]

    def adding(self, phone: Phone, state: ChainState | None = None, *, by: Phone | None = None) -> Entry:
        return chain_author.add_device(
            state or self.chain,
            by=self.author(by or phone),
            device=phone.id.bytes,
            statement_hash=phone.statement.payload_hash,
        )

    def generation(self, phone: Phone, number: int = 1) -> Entry:
        return chain_author.archive_generation(
            self.chain, by=self.author(phone), generation=number, not_before=now(), commitment=b"c" * 32
        )

    def append(self, phone: Phone, entries: Sequence[Entry], *, head: bytes | str | None = "own") -> Any:
        """Send entries on top of the head known; the state follows when they are accepted."""
        known = self.state.head if self.state else None
        expected = known if head == "own" else head
        assert not isinstance(expected, str)
        document = {
            "entries": [b64u(entry.encode()) for entry in entries],
            "expected_head": b64u(expected) if expected else None,
        }
        answer = phone.send("POST", f"{self.path}/chain", document)
        if answer.status_code == 201:
            tenant, user = self.person.tenant_id.bytes, self.person.pk.bytes
            whole = verify_chain(entries, tenant=tenant, user=user) if self.state is None else None
            self.state = whole or extend(self.chain, *entries)
        return answer

    def add_phone(self, *, suite: Suite = Suite.CLASSICAL, device_id: UUID | None = None) -> Phone:
        """Enrol one more phone and bring it into the chain, all over HTTP."""
        phone = new_phone(self.person, suite=suite, device_id=device_id)
        issue(phone)
        answer = post_enrolment(phone)
        assert answer.status_code == 201, answer.content
        if self.state is None:
            answer = self.append(phone, self.begin(phone))
        else:
            answer = self.append(self.phones[0], [self.adding(phone, by=self.phones[0])])
        assert answer.status_code == 201, answer.content
        self.phones.append(phone)
        return phone

    def revoke(self, lost: Phone, *, by: Phone | None = None, reason: Reason = Reason.DEVICE_LOST) -> Any:
        """Revoke a phone, as lost unless told otherwise, by another one, under a new identity key."""
        by = by or next(phone for phone in self.phones if phone is not lost)
        entries = chain_author.revoke_device(
            self.chain,
            by=self.author(by),
            device=lost.id.bytes,
            reason=reason,
            since=0,
            new_aik=(new := SigningKey.generate()),
        )
        answer = self.append(by, entries)
        self.aik = new
        self.phones.remove(lost)
        return answer

    def vault(
        self, phone: Phone, version: int, *, key: SigningKey | None = None, signed: int | None = None
    ) -> dict[str, Any]:
        """Make a vault upload at a version, with its `sync` statement."""
        tenant, user = self.person.tenant_id.bytes, self.person.pk.bytes
        header = VaultHeader(tenant, user, 1, version)
        blob = seal_vault(SecretBytes(b"keyring"), vault_key=new_vault_key(), header=header)
        sync = Sync(phone.header(), SyncKind.VAULT, hashlib.sha256(blob).digest(), signed or version)
        statement = cose.sign(unread(sync), purpose=Purpose.SYNC, key=key or self.aik)
        return {"statement": b64u(statement.encode()), "blob": b64u(blob)}

    def officers_section(
        self,
        phone: Phone,
        version: int,
        *,
        epoch: int = 1,
        kind: SyncKind = SyncKind.OFFICERS,
        section: Section = Section.OFFICERS,
    ) -> dict[str, Any]:
        """Make an upload of the officers' section at a version, with its `sync` statement."""
        header = VaultHeader(self.person.tenant_id.bytes, self.person.pk.bytes, epoch, version, section)
        blob = seal_vault(SecretBytes(b"seeds"), vault_key=new_vault_key(), header=header)
        sync = Sync(phone.header(), kind, hashlib.sha256(blob).digest(), version)
        statement = cose.sign(unread(sync), purpose=Purpose.SYNC, key=self.aik)
        return {"statement": b64u(statement.encode()), "blob": b64u(blob)}

    def officers_door(
        self, phone: Phone, name: str = "phrase", *, epoch: int = 1, section: Section = Section.OFFICERS, **proof: Any
    ) -> dict[str, str]:
        """Make a door of the officers' section (password, phrase, passkey) with its proof, changed by `proof`."""
        owner = DoorOwner(self.person.tenant_id.bytes, self.person.pk.bytes, epoch, section)
        key = new_vault_key()
        if name == "phrase":
            blob = seal_phrase_door(key, phrase=Phrase.generate(), owner=owner)
        elif name == "password":
            blob = seal_password_door(key, password=generate_password(), owner=owner, cost=_CHEAP)
        else:
            blob = seal_passkey_door(
                key, credential_id=b"key", salt=new_salt(), prf_output=new_vault_key(), owner=owner
            )
        return {"blob": b64u(blob), "proof": self.door_proof(phone, owner.kind(name), blob, **proof)}

    def door_proof(self, phone: Phone, of: str, blob: bytes, *, key: SigningKey | None = None, **changes: Any) -> str:
        """Prove a door."""
        header = phone.header(issued_at=changes.pop("issued_at", None))
        proof = replace(DoorProof(header, of, hashlib.sha256(blob).digest()), **changes)
        return b64u(cose.sign(unread(proof), purpose=Purpose.DOOR_PROOF, key=key or self.aik).encode())

    def officer_keys(self, phone: Phone, *, key: SigningKey | None = None, **changes: Any) -> Sign1:
        """State fresh keys as an officer."""
        said = OfficerStatement(
            phone.header(), self.person.pk.bytes, SigningKey.generate().public, SealingKey.generate().public
        )
        return cose.sign(unread(replace(said, **changes)), purpose=Purpose.OFFICER, key=key or self.aik)

    def keep_officers_section(self, phone: Phone, doors: Sequence[str] = ("phrase", "passkey")) -> None:
        """Store an officers' section and doors to it, over HTTP."""
        path = "/api/v1/vault/officers"
        sent = [phone.send("PUT", path, self.officers_section(phone, 1), if_match='"0"')]
        for name in doors:
            document = self.officers_door(phone, name)
            sent.append(phone.send("PUT", f"{path}/doors/{name}", document, if_match='"0"'))
        assert [answer.status_code for answer in sent] == [204] * len(sent), sent[-1].content


class Directory:
    """The cast's accounts, made when first asked for."""

    def __init__(self, world: Cast | None = None) -> None:
        self.world: Cast = world or build_world()
        self._accounts: dict[str, Account] = {}

    def account(self, name: str) -> Account:
        if name not in self._accounts:
            self._accounts[name] = Account(self.world.people[name])
        return self._accounts[name]

    def phone(self, name: str, *, suite: Suite = Suite.CLASSICAL) -> Phone:
        """The first phone of somebody, active."""
        account = self.account(name)
        return account.phones[0] if account.phones else account.add_phone(suite=suite)

    def acme(self) -> Any:
        return tenant_scope(self.world.acme.pk)


@contextmanager
def audit_away() -> Iterator[None]:
    """Have the database refuse every new audit entry, as a full disk or a broken trigger would."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION audit_away() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'audit is away'; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER audit_away BEFORE INSERT ON audit_waiting FOR EACH ROW EXECUTE FUNCTION audit_away()"
            )
        else:
            cursor.execute(
                "CREATE TRIGGER audit_away BEFORE INSERT ON audit_waiting"
                " BEGIN SELECT RAISE(ABORT, 'audit is away'); END"
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("DROP TRIGGER audit_away ON audit_waiting")
                cursor.execute("DROP FUNCTION audit_away()")
            else:
                cursor.execute("DROP TRIGGER audit_away")
