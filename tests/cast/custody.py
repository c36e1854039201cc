# SPDX-License-Identifier: Apache-2.0
"""A tenant in memory: founders, policy, escrow key, a depositor and a recipient, as pure values."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KeyKind, PublicKey, RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import DEFAULT_SUITE
from holdfast.core.escrow.approvals import Approver, Excluded
from holdfast.core.escrow.custody import CustodyLine, OpenedFile
from holdfast.core.escrow.deposit import Deposit, DepositTerms, build_deposit
from holdfast.core.escrow.release import LoggedApproval, NoticeFacts, ReleaseFacts
from holdfast.core.identity.cases import Case, ClientKind
from holdfast.core.identity.policy import (
    Policy,
    SignedPolicy,
    verify_founding,
)
from holdfast.core.identity.trust import SignedTenantKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DeviceStatement, EscrowKey, Header
from tests.cast.officers import Founder, approve_as, make_terms, roster_of

NOW = 1_800_000_000
# RSA keys take up to a second to make: one for the HSM's part and one for the recipient serve every test.
HSM_KEY = RecipientRsaKey.generate()
RECIPIENT_KEY = RecipientRsaKey.generate()


@dataclass
class Custody:
    """Everything one case needs; `facts` are what an honest log would give."""

    m: int = 2
    n: int = 3
    deposits_wanted: int = 1
    terms: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tenant, self.alice, self.rita = (secrets.token_bytes(16) for _ in range(3))
        self.device_id, self.case_id = secrets.token_bytes(16), secrets.token_bytes(16)
        self.officers = [Founder() for _ in range(self.n)]
        self.release_signing, self.release_sealing = SigningKey.generate(), SealingKey.generate()
        self.policy = self.sign_policy(self.policy_payload())
        self.escrow_key = SignedTenantKey(
            EscrowKey(self.tenant_header(), HSM_KEY.public, 1, "oaep-sha1", b"", self.policy.hash),
            secrets.token_bytes(32),
        )
        self.archive_keys = [SecretBytes(secrets.token_bytes(32)) for _ in range(self.deposits_wanted)]
        self.deposits = {
            d.header.deposit_id: d for d in (self.deposit(g, ak) for g, ak in enumerate(self.archive_keys, 1))
        }
        self.recipient_signing, self.recipient_sealing = SigningKey.generate(), SealingKey.generate()
        self.device = self.sign_device()
        self.case = self.sign_case()

    def tenant_header(self) -> Header:
        return Header(tenant=self.tenant, user=b"", device=b"", issued_at=NOW)

    def policy_payload(self, **changes: Any) -> Policy:
        given: dict[str, Any] = {
            "delay_seconds": 60,
            "cooling_off_seconds": 86400,
            "undelivered_delay_seconds": 14 * 86400,
        } | self.terms
        terms = make_terms(self.release_signing.public, self.release_sealing.public, **given)
        policy = Policy(self.tenant_header(), 1, self.m, roster_of(self.officers), terms, b"")
        return replace(policy, **changes)

    def sign_policy(self, policy: Policy) -> SignedPolicy:
        payload = policy.to_payload()
        signed = [cose.sign(payload, purpose=Purpose.POLICY, key=one.signing_key) for one in self.officers]
        return verify_founding(signed, tenant=self.tenant)

    def deposit(self, generation: int, archive_key: SecretBytes) -> Deposit:
        terms = DepositTerms(
            suite=DEFAULT_SUITE,
            tenant=self.tenant,
            user=self.alice,
            device=self.device_id,
            policy=self.policy,
            escrow_key=self.escrow_key,
            consent_hash=bytes(32),
        )
        return build_deposit(archive_key, generation=generation, deposit_id=secrets.token_bytes(16), terms=terms)

    def sign_device(self) -> Sign1:
        statement = DeviceStatement(
            header=Header(tenant=self.tenant, user=self.rita, device=self.device_id, issued_at=NOW),
            suite=DEFAULT_SUITE,
            signing_key=self.recipient_signing.public,
            agreement_key=AgreementKey.generate().public,
            sealing_key=SealingKey.generate().public,
            person=self.rita,
            name="rita's laptop",
            enrolment_hash=bytes(32),
        )
        return cose.sign(statement.to_payload(), purpose=Purpose.DEVICE, key=self.recipient_signing)

    def case_payload(self, **changes: Any) -> Case:
        case = Case(
            header=Header(tenant=self.tenant, user=self.rita, device=self.device_id, issued_at=NOW),
            case_id=self.case_id,
            nonce=secrets.token_bytes(16),
            subject=self.alice,
            requester=self.rita,
            purpose="device-loss",
            deposits=tuple((i, hashlib.sha256(d.to_record()).digest()) for i, d in self.deposits.items()),
            reason="Lost both devices.",
            reference="T-1",
            recipient_device_hash=self.device.payload_hash,
            recipient_rsa_key=RECIPIENT_KEY.public,
            recipient_sealing_key=self.recipient_sealing.public,
            policy_hash=self.policy.hash,
            not_before=NOW,
            notice_at=NOW,
            expiry=NOW + 86400,
        )
        return replace(case, **changes)

    def sign_case(self, **changes: Any) -> Sign1:
        return cose.sign(self.case_payload(**changes).to_payload(), purpose=Purpose.CASE, key=self.recipient_signing)

    def custody_lines(self, case: Sign1, *files: bytes, closes: bool = False) -> list[Sign1]:
        """What the recipient's device signs as it opens these files of a disclosure, one a second."""
        opened = [(OpenedFile(hashlib.sha256(file).digest(), NOW + at, len(file)),) for at, file in enumerate(files, 1)]
        lines: list[Sign1] = []
        for seq, named in enumerate([*opened, ()] if closes else opened, 1):
            header = Header(self.tenant, self.rita, self.device_id, NOW + seq)
            before = lines[-1].payload_hash if lines else b""
            line = CustodyLine(header, case.payload_hash, seq, before, named)
            lines.append(cose.sign(line.to_payload(), purpose=Purpose.CUSTODY, key=self.recipient_signing))
        return lines

    def approval(self, index: int, *, case: Sign1 | None = None, **changes: Any) -> Sign1:
        statement: Sign1 = self.approval_and_shares(index, case=case, **changes)[0]
        return statement

    def approver(self, index: int) -> Approver:
        officer = self.officers[index - 1]
        header = Header(tenant=self.tenant, user=officer.person, device=b"", issued_at=NOW)
        row = self.policy.policy.roster[index - 1]
        return Approver(row, officer.signing_key, officer.sealing_key, header, ClientKind.CLI)

    def approval_and_shares(self, index: int, *, case: Sign1 | None = None, **changes: Any) -> Any:
        given = {"policy": self.policy} | changes
        return approve_as(case or self.case, self.deposits, self.approver(index), **given)

    def excluded(self, **changes: Any) -> Excluded:
        return replace(Excluded(requester=self.rita, subject=self.alice, recipient=self.rita), **changes)

    def facts(self, *indices: int, **changes: Any) -> ReleaseFacts:
        facts = ReleaseFacts(
            tenant=self.tenant,
            case=self.case,
            opened_at=NOW,
            recipient=self.device,
            records={i: d.to_record() for i, d in self.deposits.items()},
            half_owners={d.half_hash: i for i, d in self.deposits.items()},
            policy_at_request=self.policy,
            policy_now=self.policy,
            policies_at_deposit={self.policy.hash: self.policy},
            approvals=tuple(LoggedApproval(self.approval(i), NOW + i) for i in indices),
            excluded=self.excluded(),
            notice=NoticeFacts(handed_over_at=NOW + 1),
            is_vetoed=False,
            now=NOW + 1000,
        )
        return replace(facts, **changes)


def other_key() -> PublicKey:
    return SigningKey.generate(KeyKind.ED25519).public
