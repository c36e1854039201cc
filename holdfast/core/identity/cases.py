# SPDX-License-Identifier: Apache-2.0
"""The statements of a case: what is asked, what officers answer, what the subject forbids, who they are then.

Implements ESCROW "Case" and the `attestation` of PROTOCOL section 5.
Does not count quorums of approvals nor know states: eligibility is the server's, opening is `approvals`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from holdfast.core.base.encoding import Fields, label
from holdfast.core.base.errors import Malformed, QuorumNotMet, Untrusted
from holdfast.core.base.text import says_nothing
from holdfast.core.base.words import eight_words
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey
from holdfast.core.identity.policy import MAX_OFFICERS, YEAR_SECONDS, Policy, officers_who_signed
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_device,
    require_user,
)
from holdfast.core.signed.statements import DeviceStatement

# A row takes about 53 bytes in the case and in each approval, so that 128 of them with the longest reason still fit the
# 16 KiB of a statement. A subject with more generations is asked about in two cases.
MAX_DEPOSITS: Final = 128
# The subject ends two cases by a veto within so long, of those that had their quorum. A third veto asks one officer
# more instead: a stolen device must not be able to keep its owner out for good. Others do not count, or whoever opens
# two cases in somebody's name would use up what that person can forbid.
VETOES_THAT_END: Final = 2
VETOES_COUNT_SECONDS: Final = 90 * 86_400
# Characters. Officers read all of it before they sign, and the log and every approval rest on its hash.
MAX_REASON: Final = 1000
# Characters. Of an approval how the officer made sure of the person, of a denial why: a sentence or two.
MAX_IDENTITY_CHECK: Final = 200


def last_disclosure_end(*, issued_at: int, expiry: int) -> int:
    """Return the latest end that a disclosure may have, in UTC seconds: 365 days after the case's expiry.

    Of an expiry over 365 days away, those 365 days count. What somebody is to read of another person's archive for
    longer, officers decide anew.
    """
    return min(expiry, issued_at + YEAR_SECONDS) + YEAR_SECONDS


@dataclass(frozen=True)
class Case:
    """A request to release named deposits to one device, signed by that device.

    deposits: (deposit id, SHA-256 of the record) each. not_before, notice_at, expiry: UTC seconds. Its hash q
    is the payload_hash of the statement: approvals name it, so nothing in it changes after the first.
    disclosure_ends: UTC seconds; 0 when the subject receives; None in a case from before there was the field.
    """

    PURPOSE: ClassVar = Purpose.CASE

    header: Header
    case_id: bytes
    nonce: bytes
    subject: bytes
    requester: bytes
    purpose: str
    deposits: tuple[tuple[bytes, bytes], ...]
    reason: str
    reference: str
    recipient_device_hash: bytes
    recipient_rsa_key: PublicKey
    recipient_sealing_key: PublicKey
    policy_hash: bytes
    not_before: int
    notice_at: int
    expiry: int
    disclosure_ends: int | None = None

    @property
    def is_disclosure(self) -> bool:
        """Whether somebody else than the subject receives: they get a disclosure, and no keys of their own."""
        return self.header.user != self.subject

    @property
    def disclosed_until(self) -> int:
        """When a disclosure ends, in UTC seconds. A case that names no end has its expiry: officers saw no later."""
        return self.disclosure_ends or self.expiry

    @property
    def ends_at(self) -> int:
        """When nothing may come of it any more, in UTC seconds: at its expiry, or sooner when its disclosure ends."""
        return min(self.expiry, self.disclosed_until) if self.is_disclosure else self.expiry

    @property
    def recipient_words(self) -> tuple[str, ...]:
        """The 8 words of the recipient's two keys together: what officers hear from the person. ESCROW "Case"."""
        # Both keys in one hash: a server that swaps either, for the HSM's half or for the officers', changes the words.
        keys = label("fp", "recipient", self.recipient_rsa_key.encoded, self.recipient_sealing_key.encoded)
        return eight_words(hashlib.sha256(keys).digest())

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. ESCROW "Case": fields 7 to 22."""
        return close_payload(
            self.header,
            {
                7: self.case_id,
                8: self.nonce,
                9: self.subject,
                10: self.requester,
                11: self.purpose,
                12: [list(row) for row in self.deposits],
                13: self.reason,
                14: self.reference,
                15: self.recipient_device_hash,
                16: self.recipient_rsa_key.encoded,
                17: self.recipient_sealing_key.encoded,
                18: self.policy_hash,
                19: self.not_before,
                20: self.notice_at,
                21: self.expiry,
                **({} if self.disclosure_ends is None else {22: self.disclosure_ends}),
            },
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Case":
        """Read the payload; raises Malformed, also for one deposit twice, for notice later than a year, and for an end
        of the disclosure that does not fit who receives.
        """
        header, fields = open_payload(payload, "case", range(7, 22), (22,))
        # A case is a device's own: who asks, and where the release goes, is one device, and nobody asks in its name.
        require_device(header, "case")
        rows = [Fields.of_row(row, "case deposit", 2) for row in fields.array(12, minimum=1, maximum=MAX_DEPOSITS)]
        deposits = tuple((row.octets(0, ID_SIZE), row.octets(1, HASH_SIZE)) for row in rows)
        # Twice the same deposit would be two re-wraps for one approval, under one name that counts cannot tell apart.
        if len({deposit_id for deposit_id, _ in deposits}) != len(deposits):
            raise fields.refuse(12, "names one deposit twice")
        not_before, notice_at, expiry = fields.uint(19), fields.uint(20), fields.uint(21)
        # Such a case could never be released, and would only keep officers busy.
        if expiry <= max(not_before, header.issued_at):
            raise fields.refuse(21, "is not after the time from which the case may be released")
        # A bound of the format, below any policy's: whoever may read in secret may not do so for ever.
        if notice_at > header.issued_at + YEAR_SECONDS:
            raise fields.refuse(20, "delays notice over 365 days")
        disclosure_ends = fields.uint(22) if 22 in fields else None
        is_own = fields.octets(9, ID_SIZE) == header.user
        if disclosure_ends is not None and is_own != (disclosure_ends == 0):
            raise fields.refuse(22, "is 0 when the subject receives, and an end when somebody else does")
        if disclosure_ends and not max(not_before, header.issued_at) < disclosure_ends:
            raise fields.refuse(22, "ends the disclosure before it could begin")
        if disclosure_ends and disclosure_ends > last_disclosure_end(issued_at=header.issued_at, expiry=expiry):
            raise fields.refuse(22, "ends the disclosure over 365 days after the case's expiry")
        return cls(
            header=header,
            case_id=fields.octets(7, ID_SIZE),
            nonce=fields.octets(8, 16),
            subject=fields.octets(9, ID_SIZE),
            requester=fields.octets(10, ID_SIZE),
            purpose=fields.text(11, maximum=64),
            deposits=deposits,
            reason=fields.text(13, maximum=MAX_REASON),
            reference=fields.text(14, maximum=200),
            recipient_device_hash=fields.octets(15, HASH_SIZE),
            recipient_rsa_key=read_key(fields, 16, KeyKind.RSA_3072),
            recipient_sealing_key=read_key(fields, 17, KeyKind.X_WING),
            policy_hash=fields.octets(18, HASH_SIZE),
            not_before=not_before,
            notice_at=notice_at,
            expiry=expiry,
            disclosure_ends=disclosure_ends,
        )

    def require_told(self) -> None:
        """Raise Malformed unless the reason says something: officers decide by it, and the log keeps it.

        For a case that is made, opened or decided now. Reading does not ask: logs keep cases older than this rule.
        """
        if says_nothing(self.reason):
            raise Malformed("case, field 13: the reason says nothing")


class ClientKind(IntEnum):
    """Field 12 of an approval: where the officer signed, which a policy may narrow to the command line."""

    CLI = 1
    BROWSER = 2


@dataclass(frozen=True)
class Approval:
    """One officer's answer to one case. shares: (deposit id, index, SHA-256 of sealed_i) each."""

    PURPOSE: ClassVar = Purpose.APPROVAL

    header: Header
    case_hash: bytes
    shares: tuple[tuple[bytes, int, bytes], ...]
    policy_hash: bytes
    approves: bool
    identity_check: str
    client_kind: ClientKind

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. ESCROW "Case": fields 7 to 12 of `approval`."""
        return close_payload(
            self.header,
            {
                7: self.case_hash,
                8: [list(row) for row in self.shares],
                9: self.policy_hash,
                10: int(self.approves),
                11: self.identity_check,
                12: int(self.client_kind),
            },
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Approval":
        """Read the payload; raises Malformed.

        An approval hands over at least one share and at most one of each deposit (nobody holds two indices of
        one deposit); a denial hands over none.
        """
        header, fields = open_payload(payload, "approval", range(7, 13))
        require_user(header, "approval")
        approves = bool(fields.uint(10, maximum=1))
        # A denial with shares would hand over what it refuses; an approval without any would count and open nothing.
        bounds = (1, MAX_DEPOSITS) if approves else (0, 0)
        rows = [
            Fields.of_row(row, "approval share", 3) for row in fields.array(8, minimum=bounds[0], maximum=bounds[1])
        ]
        shares = tuple(
            (row.octets(0, ID_SIZE), row.uint(1, minimum=1, maximum=MAX_OFFICERS), row.octets(2, HASH_SIZE))
            for row in rows
        )
        # Two shares of one deposit from one hand would be one officer counted twice (FAULTS P2).
        if len({deposit_id for deposit_id, _, _ in shares}) != len(shares):
            raise fields.refuse(8, "names one deposit twice")
        return cls(
            header=header,
            case_hash=fields.octets(7, HASH_SIZE),
            shares=shares,
            policy_hash=fields.octets(9, HASH_SIZE),
            approves=approves,
            identity_check=fields.text(11, maximum=MAX_IDENTITY_CHECK),
            client_kind=ClientKind(fields.uint(12, minimum=1, maximum=2)),
        )

    def require_told(self) -> None:
        """Raise Malformed unless the officer says how they made sure of the person or, in a denial, why they deny.

        For a decision that is made or taken now. Reading does not ask: logs keep decisions older than this rule.
        """
        if says_nothing(self.identity_check):
            what = "the identity check" if self.approves else "the reason of the denial"
            raise Malformed(f"approval, field 11: {what} says nothing")


@dataclass(frozen=True)
class Veto:
    """The subject forbids a case, from any live device of theirs."""

    PURPOSE: ClassVar = Purpose.VETO

    header: Header
    case_hash: bytes
    reason: str

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes: 7 q, 8 reason."""
        return close_payload(self.header, {7: self.case_hash, 8: self.reason})

    @classmethod
    def from_payload(cls, payload: bytes) -> "Veto":
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "veto", (7, 8))
        require_device(header, "veto")
        return cls(header, fields.octets(7, HASH_SIZE), fields.text(8, maximum=MAX_REASON))


def verify_veto(statement: Sign1, *, case: Sign1, device: Sign1) -> Veto:
    """Check that a device of the case's subject forbids this very case, and return what it says.

    case: whose signature the caller has checked, or whose hash the log names. device: the signer's own statement; that
    the subject's chain lists it, the caller sees. Raises Malformed, InvalidSignature; Untrusted for another case, or
    a device of somebody else.
    """
    signer = DeviceStatement.open(device)
    veto = Veto.from_payload(statement.verify(signer.signing_key, purpose=Purpose.VETO))
    asked = Case.from_payload(case.payload)
    named = (veto.header.tenant, veto.header.user, veto.header.device)
    # In the signer's own name, and that is the subject: a device forbids nothing in somebody else's.
    if named != (signer.header.tenant, signer.header.user, signer.header.device):
        raise Untrusted("the veto names another device than the one that signed it")
    if veto.case_hash != case.payload_hash or named[:2] != (asked.header.tenant, asked.subject):
        raise Untrusted("the veto is about another case, or not the subject's")
    return veto


@dataclass(frozen=True)
class Attestation:
    """An officer says that the user named in the header, who lost their account, now holds this new key."""

    PURPOSE: ClassVar = Purpose.ATTESTATION

    header: Header
    old_head: bytes
    new_aik: PublicKey
    case_id: bytes
    device_hash: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes: 7 old head, 8 new AIK, 9 case id, 10 hash of the new device statement."""
        return close_payload(
            self.header, {7: self.old_head, 8: self.new_aik.encoded, 9: self.case_id, 10: self.device_hash}
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Attestation":
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "attestation", range(7, 11))
        require_user(header, "attestation")
        return cls(
            header=header,
            old_head=fields.octets(7, HASH_SIZE),
            new_aik=read_key(fields, 8, SIGNING_KINDS),
            case_id=fields.octets(9, ID_SIZE),
            device_hash=fields.octets(10, HASH_SIZE),
        )


def begins_from(statements: Sequence[Sign1], policy: Policy) -> int:
    """Return from when (UTC seconds) an account may begin again on attestations that `verify_attestations` took.

    The policy's delay runs from the one that made the quorum, by the dates that the officers signed.
    """
    first: dict[bytes, int] = {}
    for statement in statements:
        at = Attestation.from_payload(statement.payload).header.issued_at
        first[statement.kid] = min(at, first.get(statement.kid, at))
    # By officer and not by statement: one who signs twice has not made the quorum earlier.
    return sorted(first.values())[policy.m - 1] + policy.terms.delay_seconds


def verify_attestations(
    statements: Sequence[Sign1],
    policy: Policy,
    *,
    user: bytes,
    old_head: bytes,
    new_aik: PublicKey,
) -> Attestation:
    """Check that m officers of `policy` attest one new key of `user` in one case, and return what they said.

    The statements are separate, each with its own header; they must agree in all that matters. Raises
    Malformed, InvalidSignature; Untrusted if one is about anything else or by the very user; QuorumNotMet.
    """
    # Each officer signs a payload of their own, with a time of their own: officers are counted over single statements.
    officers = officers_who_signed(statements, policy, purpose=Purpose.ATTESTATION)
    if any(officer.person == user for officer in officers):
        raise Untrusted("an officer does not attest themselves")
    # Distinct officers and not statements: one who signs twice is one.
    if len(officers) < policy.m:
        raise QuorumNotMet("too few officers attest the new key")
    read = [Attestation.from_payload(statement.payload) for statement in statements]
    first = read[0]
    for attestation in read:
        # The key's signature alone does not say whom it is about: without this, words about one user
        # would begin another's account again.
        if (attestation.header.tenant, attestation.header.user) != (policy.header.tenant, user):
            raise Untrusted("attestation about somebody else")
        # The head fixes the moment: attestations of an earlier loss are worth nothing after the chain has gone on.
        if (attestation.old_head, attestation.new_aik) != (old_head, new_aik):
            raise Untrusted("attestation of another key or for another chain")
        # m words from m different occasions are not one quorum, and could be collected over years.
        if (attestation.case_id, attestation.device_hash) != (first.case_id, first.device_hash):
            raise Untrusted("attestations of different cases")
    return first
