# SPDX-License-Identifier: Apache-2.0
"""A tenant with real keys in real tokens: founders, policy, escrow key, deposits, cases, and the release process."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from audit import access as audit
from audit import sequencer
from audit import services as audit_services
from config.ceremonies import transcript
from escrow import services as escrow
from escrow.access import newest_policy_for_update, policy_in_force, proposal_named
from escrow.models import Deposit as StoredDeposit
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.escrow import approvals
from holdfast.core.escrow.deposit import Deposit, DepositTerms, archive_key_commitment, build_deposit
from holdfast.core.identity import cases, chain_author
from holdfast.core.identity.acts import Act, OfficerState, Resolution, Standing
from holdfast.core.identity.policy import Policy, SignedPolicy
from holdfast.core.identity.trust import SignedTenantKey, root_pin
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import Consent, DepositStatement, EscrowKey
from hsm.backend import EscrowPublicKey
from kernel import queue
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys.records import create_tenant_master_key
from recovery import access
from recovery.models import Approval, Case, CaseDeposit, Notice, SealedShare
from recovery.release.clock import Clock
from recovery.release.directory import Directory as ReleaseDirectory
from recovery.release.directory import Trust
from recovery.release.log import ReleaseLog
from recovery.release.process import ReleaseProcess, open_process
from tenants import services as tenants
from tests.cast.officers import Founder, approve_as, make_terms, roster_of
from tests.cast.phones import Directory, Phone, issue, new_phone, now, post_enrolment
from tests.cast.roles import ROOT, name_log_key
from tests.cast.unread import unread

# An RSA key takes up to a second to make: one recipient key serves every test.
RECIPIENT_RSA = RecipientRsaKey.generate()
OFFICERS = ("carol", "dan", "erin")


@dataclass
class OpenCase:
    """A case as its recipient holds it: the signed statement, and the X-Wing key made for it alone."""

    statement: Sign1
    sealing_key: SealingKey
    phone: Phone

    @property
    def id(self) -> UUID:
        return UUID(bytes=cases.Case.from_payload(self.statement.payload).case_id)

    @property
    def path(self) -> str:
        return f"/api/v1/cases/{self.id}"


class World:
    """Acme with a founded escrow: policy 2 of 3 unless told otherwise, no delay, and everybody's devices."""

    def __init__(
        self,
        home: Path,
        escrow_key: EscrowPublicKey,
        log_vkey: Any,
        *,
        directory: Directory | None = None,
        **terms: Any,
    ) -> None:
        self.directory = directory or Directory()
        self.home = home
        self.cast = self.directory.world
        self.tenant_id: UUID = self.cast.acme.pk
        self.ceremony: Actor = system_actor(self.tenant_id, "ceremony")
        self.root = ROOT
        self.release = ReleaseDirectory(home, self.tenant_id)
        self.public = escrow_key
        self.founders = {name: Founder(self.cast.people[name].pk.bytes) for name in OFFICERS}
        self.policies: list[SignedPolicy] = []
        self.archive_keys: dict[bytes, SecretBytes] = {}
        create_tenant_master_key(self.tenant_id)
        self._found(log_vkey, terms)

    # Founding.

    def _found(self, log_vkey: Any, terms: dict[str, Any]) -> None:
        release_keys = self.release.create_keys()
        given = {"cooling_off_seconds": 3600, "undelivered_delay_seconds": 3600} | terms
        self.terms = make_terms(release_keys.signing_key, release_keys.sealing_key, **given)
        first = self.policy(m=2)
        pin = root_pin(self.tenant_id.bytes, self.root.public, hashlib.sha256(unread(first)).digest())
        name_log_key(self.tenant_id, log_vkey)
        self.release.set_trust(Trust(self.root.public, pin, is_development=True))
        with tenant_scope(self.tenant_id):
            tenants.pin_root(root_key=self.root.public.encoded, root_pin=pin, actor=self.ceremony)
        self.publish(first, signers=self.founders.values())
        self.publish_key()

    def transcript(self, text: str, *, lines: tuple[int, int] = (1, 1), root: SigningKey = ROOT) -> Any:
        """Sign a transcript and keep it, as `ceremony transcript` does; None for the text of before."""
        signed = transcript.sign(self.cast.acme, root, text)
        with tenant_scope(self.tenant_id):
            return audit_services.publish_transcript(
                statement=signed, text=text.encode(), lines=lines, root_key=self.root.public, actor=self.ceremony
            )

    def tenant_header(self) -> Header:
        return Header(self.tenant_id.bytes, b"", b"", now())

    def policy(self, *, m: int, names: Any = OFFICERS, **terms: Any) -> Policy:
        """Make the next policy version."""
        return Policy(
            header=self.tenant_header(),
            version=len(self.policies) + 1,
            m=m,
            roster=roster_of(self.founders[name] for name in names),
            terms=replace(self.terms, **terms),
            predecessor=self.policies[-1].hash if self.policies else b"",
            held_in_force=self.in_force() if self.policies else b"",
        )

    def in_force(self) -> bytes:
        """The hash of the version that the server has in force now."""
        with tenant_scope(self.tenant_id):
            return bytes(policy_in_force(database_now()).hash)

    def release_key(self) -> PublicKey:
        """The key of the release process to which officers seal now."""
        in_force = self.in_force()
        return next(one for one in self.policies if one.hash == in_force).policy.terms.release_sealing_key

    def publish(self, policy: Policy, *, signers: Any) -> None:
        payload = unread(policy)
        signed = [cose.sign(payload, purpose=Purpose.POLICY, key=one.signing_key) for one in signers]
        with tenant_scope(self.tenant_id):
            escrow.publish_policy(statement=cose.encode_many(signed), actor=self.ceremony)
        self.policies.append(SignedPolicy(policy, signed[0].payload_hash))

    def publish_key(self) -> None:
        """Publish the next version of the escrow key, of the one key that the token has."""
        before: SignedTenantKey[EscrowKey] | None = getattr(self, "escrow_key", None)
        statement = EscrowKey(
            header=self.tenant_header(),
            key=PublicKey(KeyKind.RSA_3072, self.public.spki),
            version=before.statement.version + 1 if before else 1,
            algorithm=self.public.ref.algorithm,
            predecessor=before.hash if before else b"",
            policy_hash=self.policies[0].hash,
        )
        payload = unread(statement)
        keys = [self.root, *(one.signing_key for one in list(self.founders.values())[:2])]
        signed = [cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=key) for key in keys]
        with tenant_scope(self.tenant_id):
            escrow.publish_escrow_key(
                statement=cose.encode_many(signed), cka_id=self.public.ref.cka_id, actor=self.ceremony
            )
        self.escrow_key = SignedTenantKey(statement, signed[0].payload_hash)

    def add_founder(self, name: str) -> Founder:
        """Give somebody the keys of an officer; a policy has still to name them."""
        self.founders[name] = Founder(self.cast.people[name].pk.bytes)
        return self.founders[name]

    # Officers' acts outside cases.

    def word(self, name: str, standing: Standing, *, by: str = "", **changes: Any) -> Sign1:
        """What an officer signs about somebody's standing, their own unless `by` says who signs; nothing is sent."""
        given: dict[str, Any] = {"header": self.tenant_header(), "reason": "as told"} | changes
        said = OfficerState(person=self.cast.people[name].pk.bytes, standing=standing, **given)
        key = self.founders[by or name].signing_key
        return cose.sign(unread(said), purpose=Purpose.OFFICER_STATE, key=key)

    def send_word(self, word: Sign1, by: str) -> Any:
        return self.directory.phone(by).send(
            "POST", "/api/v1/escrow/officer-states", {"statement": b64u(word.encode())}
        )

    def stand(self, name: str, standing: Standing, *, by: str = "") -> None:
        """Have an officer go away or come back, or another suspend or remove them."""
        answer = self.send_word(self.word(name, standing, by=by), by or name)
        assert answer.status_code == 201, answer.content

    def resolution(self, act: Act, *about: int | bytes, **changes: Any) -> Resolution:
        """Write a resolution under the newest policy; nobody has signed it."""
        given: dict[str, Any] = {
            "header": self.tenant_header(),
            "policy_hash": self.policies[-1].hash,
            "nonce": secrets.token_bytes(16),
        } | changes
        return Resolution(act=act, about=about, **given)

    def resolve(self, resolution: Resolution, name: str, *, sender: str = "") -> Any:
        """Have one officer sign a resolution and send it."""
        key = self.founders[name].signing_key
        signed = cose.sign(unread(resolution), purpose=Purpose.RESOLUTION, key=key)
        return self.directory.phone(sender or name).send(
            "POST", "/api/v1/escrow/resolutions", {"statement": b64u(signed.encode())}
        )

    # Policies that officers sign at different desks.

    def propose(self, policy: Policy, name: str) -> Any:
        """Have somebody propose a policy over HTTP."""
        return self.propose_payload(unread(policy), name)

    def propose_payload(self, payload: bytes, name: str) -> Any:
        document = {"payload": b64u(payload)}
        return self.directory.phone(name).send("POST", "/api/v1/escrow/policy-proposals", document)

    def policy_signature(self, policy: Policy, name: str) -> Sign1:
        """What an officer signs of a proposed policy; nothing is sent."""
        return cose.sign(unread(policy), purpose=Purpose.POLICY, key=self.founders[name].signing_key)

    def send_policy_signature(self, policy: Policy, sender: str, signed: Sign1) -> Any:
        document = {"statement": b64u(signed.encode())}
        return self.directory.phone(sender).send("POST", f"{self.proposal_path(policy)}/signatures", document)

    def sign_policy(self, policy: Policy, name: str) -> Any:
        """Have an officer sign a proposed policy and send the signature; somebody without keys sends a stranger's."""
        key = self.founders[name].signing_key if name in self.founders else Founder().signing_key
        signed = cose.sign(unread(policy), purpose=Purpose.POLICY, key=key)
        return self.send_policy_signature(policy, name, signed)

    def withdraw_proposal(self, policy: Policy, name: str) -> Any:
        return self.directory.phone(name).send("POST", f"{self.proposal_path(policy)}/withdraw", {})

    def proposal_path(self, policy: Policy) -> str:
        """The address of a policy that was proposed."""
        policy_hash = hashlib.sha256(unread(policy)).digest()
        with tenant_scope(self.tenant_id):
            row = proposal_named(policy_hash)
        assert row is not None
        return f"/api/v1/escrow/policy-proposals/{row.pk}"

    def withdraw(self, policy_hash: bytes) -> None:
        """Note that officers withdrew a version, as the resolution of m of them does."""
        with tenant_scope(self.tenant_id), transaction.atomic():
            newest_policy_for_update()
            escrow.withdraw_policy(policy_hash=policy_hash, now=database_now())

    # Depositing.

    def consent(self, name: str = "alice", **changes: Any) -> bytes:
        """Publish a consent over HTTP and return its hash."""
        phone, account = self.directory.phone(name), self.directory.account(name)
        given: dict[str, Any] = {
            "policy_hash": self.policies[-1].hash,
            "text_hash": bytes(32),
            "agreed": True,
        } | changes
        statement = Consent(phone.header(), **given)
        signed = cose.sign(unread(statement), purpose=Purpose.CONSENT, key=account.aik)
        answer = phone.send("POST", "/api/v1/statements", {"statement": b64u(signed.encode())})
        assert answer.status_code == 201, answer.content
        return signed.payload_hash

    def build(
        self, name: str = "alice", *, consent_hash: bytes | None = None, deposit_id: bytes | None = None
    ) -> Deposit:
        """Announce a fresh archive key in the chain, and build a deposit of it; nothing is uploaded."""
        phone, account = self.directory.phone(name), self.directory.account(name)
        key, generation = SecretBytes(secrets.token_bytes(32)), len(account.chain.generations) + 1
        entry = chain_author.archive_generation(
            account.chain,
            by=account.author(phone),
            generation=generation,
            not_before=now(),
            commitment=archive_key_commitment(generation, key),
        )
        answer = account.append(phone, [entry])
        assert answer.status_code == 201, answer.content
        return self._build(name, key, generation, consent_hash=consent_hash, deposit_id=deposit_id)

    def build_again(self, deposit: Deposit, name: str = "alice") -> Deposit:
        """Build another deposit of the same archive key, under the newest policy; nothing is uploaded."""
        header = deposit.header
        return self._build(name, self.archive_keys[header.deposit_id], header.generation)

    def _build(
        self,
        name: str,
        key: SecretBytes,
        generation: int,
        *,
        consent_hash: bytes | None = None,
        deposit_id: bytes | None = None,
    ) -> Deposit:
        phone = self.directory.phone(name)
        terms = DepositTerms(
            suite=phone.suite,
            tenant=self.tenant_id.bytes,
            user=phone.person.pk.bytes,
            device=phone.id.bytes,
            policy=self.policies[-1],
            escrow_key=self.escrow_key,
            consent_hash=self.consent(name) if consent_hash is None else consent_hash,
        )
        deposit = build_deposit(
            key, generation=generation, deposit_id=deposit_id or secrets.token_bytes(16), terms=terms
        )
        self.archive_keys[deposit.header.deposit_id] = key
        return deposit

    def upload(self, deposit: Deposit, name: str = "alice", *, record: bytes | None = None) -> Any:
        """Send a deposit over HTTP; `record` is sent in place of the one that is signed for."""
        phone = self.directory.phone(name)
        made = deposit.to_record()
        statement = DepositStatement(phone.header(), hashlib.sha256(made).digest())
        signed = cose.sign(unread(statement), purpose=Purpose.DEPOSIT, key=phone.isk)
        document = {"record": b64u(record or made), "statement": b64u(signed.encode())}
        return phone.send("POST", "/api/v1/escrow/deposits", document)

    def deposit(self, name: str = "alice") -> Deposit:
        made = self.build(name)
        answer = self.upload(made, name)
        assert answer.status_code == 201, answer.content
        return made

    def held(self) -> list[UUID]:
        """The ids of all deposits in custody, in ascending order."""
        with tenant_scope(self.tenant_id):
            return sorted(StoredDeposit.objects.values_list("id", flat=True))

    # Cases.

    def new_phone(self, name: str = "alice", *, device_id: UUID | None = None) -> Phone:
        """Enrol a device that no chain lists: pending, as after the loss of every other one."""
        phone = new_phone(self.cast.people[name], device_id=device_id)
        issue(phone)
        assert post_enrolment(phone).status_code == 201
        return phone

    def case(self, phone: Phone, *deposits: Deposit, **changes: Any) -> OpenCase:
        """Sign a case; nothing is sent."""
        sealing_key, at = SealingKey.generate(), now()
        given: dict[str, Any] = {
            "header": phone.header(),
            "case_id": uuid.uuid4().bytes,
            "nonce": secrets.token_bytes(16),
            "subject": deposits[0].header.user,
            "requester": phone.person.pk.bytes,
            "purpose": "device-loss",
            "deposits": tuple((d.header.deposit_id, hashlib.sha256(d.to_record()).digest()) for d in deposits),
            "reason": "Lost both devices.",
            "reference": "T-1",
            "recipient_device_hash": phone.statement.payload_hash,
            "recipient_rsa_key": RECIPIENT_RSA.public,
            "recipient_sealing_key": sealing_key.public,
            "policy_hash": self.policies[-1].hash,
            "not_before": at,
            "notice_at": at,
            "expiry": at + 3600,
        } | changes
        is_own = given["subject"] == given["header"].user
        given.setdefault("disclosure_ends", 0 if is_own else given["expiry"] + 3600)
        payload = unread(cases.Case(**given))
        return OpenCase(cose.sign(payload, purpose=Purpose.CASE, key=phone.isk), sealing_key, phone)

    def open(self, case: OpenCase) -> Any:
        return case.phone.send("POST", "/api/v1/cases", {"case": b64u(case.statement.encode())})

    def opened(self, *deposits: Deposit, phone: Phone | None = None, **changes: Any) -> OpenCase:
        """Open a case from alice's new device, unless told another, and have its notices handed over."""
        case = self.case(phone or self.new_phone(), *deposits, **changes)
        answer = self.open(case)
        assert answer.status_code == 201, answer.content
        self.work()
        return case

    def signed_approval(self, case: OpenCase, name: str, deposits: Any, **changes: Any) -> dict[str, Any]:
        """Have an officer approve on their own machine; the document that they would send."""
        founder = self.founders[name]
        asked = cases.Case.from_payload(case.statement.payload)
        policy = next(one for one in self.policies if one.hash == asked.policy_hash)
        officer = policy.policy.officer(founder.signing_key.public.kid)
        assert officer is not None
        header = Header(self.tenant_id.bytes, founder.person, b"", now())
        approver = approvals.Approver(officer, founder.signing_key, founder.sealing_key, header, cases.ClientKind.CLI)
        held = {deposit.header.deposit_id: deposit for deposit in deposits}
        known = {one.hash: one for one in self.policies}
        given = {"policy": policy, "policies": known, "release_key": self.release_key()} | changes
        signed, outers = approve_as(case.statement, held, approver, **given)
        return {
            "statement": b64u(signed.encode()),
            "shares": [[str(UUID(bytes=one.deposit_id)), b64u(one.outer)] for one in outers],
        }

    def approve(self, case: OpenCase, name: str, *deposits: Deposit) -> Any:
        document = self.signed_approval(case, name, deposits)
        return self.directory.phone(name).send("POST", f"{case.path}/approvals", document)

    def approved(self, *names: str, **changes: Any) -> tuple[OpenCase, Deposit]:
        """Open a case about a fresh deposit of alice's, and have these officers approve it."""
        deposit = self.deposit()
        case = self.opened(deposit, **changes)
        for name in names:
            answer = self.approve(case, name, deposit)
            assert answer.status_code == 201, answer.content
        return case, deposit

    def add_cases_like(self, row: Case, number: int) -> None:
        """Add cases like one that is there, with what officers signed about it and the shares that they sent: rows."""
        with tenant_scope(self.tenant_id):
            ids = [uuid.uuid4() for _ in range(number)]
            columns = columns_of(row)
            Case.objects.bulk_create(Case(**columns | {"id": one, "q": one.bytes * 2}) for one in ids)
            for model in (CaseDeposit, Notice):
                parts = [columns_of(part) for part in model.objects.filter(case_id=row.id)]
                model.objects.bulk_create(model(**part | {"case_id": one}) for one in ids for part in parts)
            for approval in Approval.objects.filter(case_id=row.id):
                made = [Approval(**columns_of(approval) | {"case_id": one}) for one in ids]
                Approval.objects.bulk_create(made)
                shares = [columns_of(share) for share in approval.shares.all()]
                SealedShare.objects.bulk_create(
                    SealedShare(**share | {"approval_id": one.pk}) for one in made for share in shares
                )

    def state(self, case: OpenCase) -> str:
        return self.row(case).state

    def row(self, case: OpenCase) -> Case:
        row: Case = Case.unscoped.get(id=case.id)
        return row

    # Running.

    def work(self) -> None:
        """Do what the worker does: hand notices over, and sequence the log."""
        queue.run_due("worker")
        queue.run_due(queue.MAIL)
        self.sequence()

    def sequence(self) -> None:
        sequencer.sequence(self.tenant_id, "audit")

    @contextmanager
    def process(self, **given: Any) -> Iterator[ReleaseProcess]:
        """Run the release process inside this one; it holds at once what it would watch for ten minutes."""
        with open_process(self.home, **({"patience": 0} | given)) as process:
            yield process

    def tick(self, **given: Any) -> None:
        """Sequence the log and let a fresh release process do all that is due."""
        self.sequence()
        with self.process(**given) as process:
            process.tick()

    def followed(self) -> ReleaseLog:
        """Read the log as the release process does, up to its newest head."""
        clock = Clock(self.home / "clock")
        with tenant_scope(self.tenant_id):
            log = ReleaseLog.open(self.release, clock)
            log.follow(audit.latest_checkpoint("audit").note, clock.now())
        return log

    def collect(self, case: OpenCase) -> Any:
        return case.phone.send("GET", f"{case.path}/release")

    def combine(self, case: OpenCase, deposit: Deposit, document: dict[str, Any]) -> SecretBytes:
        """Open an archive key as the recipient device does."""
        wanted = str(UUID(bytes=deposit.header.deposit_id))
        half = next(unb64u(octets) for one, octets in document["halves"] if one == wanted)
        shares = {index: unb64u(octets) for one, index, octets in document["shares"] if one == wanted}
        return approvals.combine(
            case.statement,
            deposit,
            half=half,
            sealed_shares=shares,
            rsa_key=RECIPIENT_RSA,
            sealing_key=case.sealing_key,
            algorithm=self.escrow_key.statement.algorithm,
        ).archive_key

    def tags(self, case: OpenCase) -> list[str]:
        """The log's entries about a case, oldest first."""
        self.sequence()
        with tenant_scope(self.tenant_id):
            return [row.tag for row in access.timeline(self.row(case))[0]]


def columns_of(row: Any) -> dict[str, Any]:
    """Return what a row holds, without its primary key: for others like it, of which a test needs a thousand."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if not field.primary_key}


@contextmanager
def as_superuser(*tables: str) -> Iterator[Any]:
    """Change rows as somebody who owns the database can: the triggers of these tables are gone meanwhile."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            yield cursor
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
            return
        cursor.execute("SELECT name, sql, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        kept = [(name, sql) for name, sql, table in cursor.fetchall() if table in tables]
        for name, _ in kept:
            cursor.execute(f"DROP TRIGGER {name}")
        yield cursor
        for _, sql in kept:
            cursor.execute(sql)
