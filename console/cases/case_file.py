# SPDX-License-Identifier: Apache-2.0
"""One case as officers and auditors read it: decoded from the stored statement bytes, each held to its signature.

Implements ESCROW "Case", and FAULTS P13, R15: what is shown is what is signed, and where a row says another thing
than the statement, the page says so. It decides nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from console.words.case_words import ACTS, STATE_WORDS, Step, road
from escrow import access as escrow
from escrow import coverage
from escrow.coverage import DepositCoverage
from escrow.errors import EscrowOff
from holdfast.core.base.errors import HoldfastError, Untrusted
from holdfast.core.escrow.approvals import read_decision
from holdfast.core.identity.cases import Case as Asked
from holdfast.core.identity.cases import ClientKind
from holdfast.core.identity.policy import Policy as PolicyRead
from holdfast.core.identity.policy import SignedPolicy, Terms
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from kernel.errors import DomainError, NotFound
from keys import access as keys
from keys import health
from recovery import access
from recovery.access import TimelineRow
from recovery.cases.counting import why_long
from recovery.cases.standing import LONG, OfficerStanding, Waiting, standings, waiting_for
from recovery.states import APPROVABLE, UNDECIDED, CaseState

if TYPE_CHECKING:
    from escrow.models import Deposit, Policy
    from keys.models import Device
    from recovery.models import Approval, Attestation, Case, Notice, Veto


@dataclass(frozen=True)
class Check:
    """One thing that this page found out about the stored bytes."""

    words: str
    holds: bool
    why: str = ""


@dataclass(frozen=True)
class DepositLine:
    """A deposit that the statement names, and what is in custody under that id."""

    deposit_id: UUID
    record_hash: bytes
    row: Deposit | None
    device: Device | None
    coverage: DepositCoverage | None


@dataclass(frozen=True)
class DecisionLine:
    """One officer's signed decision, as decoded and verified."""

    row: Approval
    words: tuple[str, ...]
    signed_at: int | None
    identity_check: str
    client: str
    check: Check
    has_ended: bool = False

    @property
    def approves(self) -> bool:
        """Whether the officer approved."""
        return bool(self.row.decision == "approve")


@dataclass(frozen=True)
class CaseFile:
    """Everything that one case's page shows. `asked` is None when the stored statement cannot be read."""

    case: Case
    asked: Asked | None
    checks: tuple[Check, ...]
    recipient: Device | None
    deposits: tuple[DepositLine, ...]
    decisions: tuple[DecisionLine, ...]
    officers: tuple[OfficerStanding, ...]
    waiting: Waiting | None
    # Why the long delay applies, for people; "" where it does not.
    long_delay: str
    m: int
    terms: Terms | None
    policy: Policy | None
    notices: tuple[Notice, ...]
    vetoes: tuple[Veto, ...]
    attestations: tuple[Attestation, ...]
    timeline: tuple[TimelineRow, ...]
    # Whether the log has earlier entries about the case than these.
    timeline_more: bool
    road: tuple[Step, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def delay_seconds(self) -> int:
        """How long the case waits after its quorum, by the strictest terms."""
        if self.terms is None:
            return 0
        return max(self.terms.delay_seconds, self.terms.undelivered_delay_seconds if self.long_delay else 0)

    @property
    def is_for_another(self) -> bool:
        """Whether the archive would open on a device of somebody other than the subject."""
        return bool(self.case.subject_id != self.case.recipient_person_id)

    @property
    def given(self) -> int:
        """How many officers approved."""
        return sum(decision.approves and not decision.has_ended for decision in self.decisions)

    @property
    def pips(self) -> list[bool]:
        """One mark for each approval needed: given or not."""
        return [place < self.given for place in range(max(self.m, self.given))]

    @property
    def eligible(self) -> int:
        """How many officers may still decide."""
        return sum(not officer.why_not and not officer.decision for officer in self.officers)

    @property
    def state_words(self) -> str:
        """The state in words."""
        return STATE_WORDS[CaseState(self.case.state)]

    @property
    def acts(self) -> str:
        """What is to be done next."""
        return ACTS[CaseState(self.case.state)][1]

    @property
    def is_undecided(self) -> bool:
        """Whether officers may still decide and the subject may still veto."""
        return self.case.state in UNDECIDED

    def people(self) -> set[UUID]:
        """Return every person whom the page names."""
        case = self.case
        named = {case.subject_id, case.requester_id, case.recipient_person_id}
        named |= {officer.person_id for officer in self.officers}
        named |= {notice.person_id for notice in self.notices}
        named |= {attestation.person_id for attestation in self.attestations}
        named |= {row.person_id for row in self.timeline if row.person_id}
        if self.asked is not None:
            named |= {UUID(bytes=self.asked.subject), UUID(bytes=self.asked.requester)}
        return named


def read(actor: Actor, case_id: UUID, *, now: datetime) -> CaseFile:
    """Return the file of a case that the actor may see. Raises NotFound."""
    case = access.case_for_reading(actor, case_id)
    signed, asked, refusal = _statement(case)
    policy, trusted, untrusted = _policy(case)
    recipient, signature = _recipient(case, signed, asked)
    deposits = _deposits(asked)
    checks = [Check("The stored statement can be read", asked is not None, refusal), signature]
    checks += [
        _columns(case, signed, asked),
        _custody(case, deposits),
        Check("Its policy leads to the pin", trusted is not None, untrusted),
    ]
    m, terms = _terms(case, now)
    officers = tuple(standings(case, policy, now)) if policy else ()
    made_under, ended = _made_under(deposits), {one.person_id for one in officers if one.has_ended}
    timeline, timeline_more = access.timeline(case)
    return CaseFile(
        case=case,
        asked=asked,
        checks=tuple(checks),
        recipient=recipient,
        deposits=tuple(deposits),
        decisions=tuple(
            replace(_decision(row, signed, trusted, made_under), has_ended=row.person_id in ended)
            for row in access.approvals_of(case)
        ),
        officers=officers,
        waiting=waiting_for(case, now) if policy else None,
        long_delay=_long_delay(case, now),
        m=m,
        terms=terms,
        policy=policy,
        notices=tuple(access.notices_of(case)),
        vetoes=tuple(access.vetoes_of(case)),
        attestations=tuple(access.attestations_of(case)),
        timeline=tuple(timeline),
        timeline_more=timeline_more,
        road=tuple(road(case.state, was_quorate=case.quorate_at is not None)),
    )


def _statement(case: Case) -> tuple[Sign1 | None, Asked | None, str]:
    try:
        signed = Sign1.parse(bytes(case.statement))
        return signed, Asked.from_payload(signed.payload), ""
    except HoldfastError as error:
        return None, None, str(error)


def _policy(case: Case) -> tuple[Policy | None, SignedPolicy | None, str]:
    """Return the case's policy as stored and, followed from the pin, as signed."""
    try:
        policy = escrow.policy_named(bytes(case.policy_hash))
        return policy, escrow.trusted_tenant().policy_named(bytes(case.policy_hash)), ""
    except NotFound:
        return None, None, "No policy of this hash is stored."
    except (HoldfastError, EscrowOff) as error:
        return policy, None, str(error)


def _long_delay(case: Case, now: datetime) -> str:
    long = why_long(case, now) if case.state in UNDECIDED else None
    return LONG[long] if long else ""


def _terms(case: Case, now: datetime) -> tuple[int, Terms | None]:
    try:
        m, terms, _ = access.terms_of(case, now)
    except (DomainError, HoldfastError):
        return 0, None
    return m, terms


def _recipient(case: Case, signed: Sign1 | None, asked: Asked | None) -> tuple[Device | None, Check]:
    """Return the recipient device, and whether its key signed the case."""
    words = "The recipient device signed it"
    try:
        device = keys.device(case.recipient_device_id)
    except NotFound:
        return None, Check(words, False, "That device is not known here.")
    if signed is None or asked is None:
        return device, Check(words, False, "There is nothing to verify.")
    try:
        own = Sign1.parse(bytes(device.statement))
        signed.verify(DeviceStatement.open(own).signing_key, purpose=Purpose.CASE)
        if own.payload_hash != asked.recipient_device_hash:
            raise Untrusted("the statement names another device")
    except HoldfastError as error:
        return device, Check(words, False, str(error))
    return device, Check(words, True)


def _columns(case: Case, signed: Sign1 | None, asked: Asked | None) -> Check:
    """Hold the row's columns to the statement: a list sorts by columns, an officer signs the statement."""
    words = "The row says what the statement says"
    if signed is None or asked is None:
        return Check(words, False, "There is nothing to compare.")
    pairs: dict[str, tuple[Any, Any]] = {
        "case id": (case.id.bytes, asked.case_id),
        "q": (bytes(case.q), signed.payload_hash),
        "subject": (case.subject_id.bytes, asked.subject),
        "requester": (case.requester_id.bytes, asked.requester),
        "recipient device": (case.recipient_device_id.bytes, asked.header.device),
        "purpose": (case.purpose, asked.purpose),
        "policy": (bytes(case.policy_hash), asked.policy_hash),
        "notice": (_seconds(case.notice_at), asked.notice_at),
        "earliest release": (_seconds(case.not_before), asked.not_before),
        "expiry": (_seconds(case.expiry), asked.expiry),
    }
    differing = [name for name, (row, said) in pairs.items() if row != said]
    return Check(words, not differing, f"They differ in: {', '.join(differing)}." if differing else "")


def _seconds(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp())


def _deposits(asked: Asked | None) -> list[DepositLine]:
    if asked is None:
        return []
    held = escrow.deposits_named([UUID(bytes=deposit_id) for deposit_id, _ in asked.deposits])
    devices = health.devices_by_id({row.device_id for row in held.values()})
    counted = {covered.deposit_id: covered for covered in coverage.coverage_of_deposits(list(held.values()))}
    lines = []
    for octets, record_hash in asked.deposits:
        deposit_id = UUID(bytes=octets)
        row = held.get(deposit_id)
        device = devices.get(row.device_id) if row else None
        lines.append(DepositLine(deposit_id, record_hash, row, device, counted.get(deposit_id)))
    return lines


def _custody(case: Case, deposits: Sequence[DepositLine]) -> Check:
    words = "Every deposit it names is in custody, unchanged, and the subject’s"
    wrong = [
        str(line.deposit_id)
        for line in deposits
        if line.row is None or bytes(line.row.record_hash) != line.record_hash or line.row.user_id != case.subject_id
    ]
    if not deposits:
        return Check(words, False, "No deposit could be read from the statement.")
    return Check(words, not wrong, f"Not so: {', '.join(wrong)}." if wrong else "")


def _made_under(deposits: Sequence[DepositLine]) -> dict[bytes, PolicyRead]:
    """Return, by deposit, the policy by which its shares are numbered; none where one is not stored."""
    hashes = {line.deposit_id.bytes: bytes(line.row.policy_hash) for line in deposits if line.row}
    try:
        named = {policy_hash: escrow.reading(escrow.policy_named(policy_hash)) for policy_hash in set(hashes.values())}
    except (NotFound, HoldfastError):
        return {}
    return {deposit_id: named[policy_hash] for deposit_id, policy_hash in hashes.items()}


def _decision(
    row: Approval, case: Sign1 | None, policy: SignedPolicy | None, made_under: Mapping[bytes, PolicyRead]
) -> DecisionLine:
    """Decode one decision and hold it to the case, the policy and its signature."""
    words: tuple[str, ...] = ()
    if policy is not None:
        words = next(
            (
                member.signing_key.fingerprint("officer")
                for member in policy.policy.roster
                if member.person == row.person_id.bytes
            ),
            (),
        )
    unread = DecisionLine(row, words, None, "", "", Check("signature", False, "It could not be verified."))
    if case is None or policy is None:
        return unread
    try:
        signed = Sign1.parse(bytes(row.statement))
        officer, said = read_decision(signed, case=case, policy=policy, made_under=made_under)
        if (officer.index, officer.person, said.approves) != (
            row.index,
            row.person_id.bytes,
            row.decision == "approve",
        ):
            raise Untrusted("the row says another officer or another decision than the statement")
    except HoldfastError as error:
        return DecisionLine(row, words, None, "", "", Check("signature", False, str(error)))
    client = "command line" if said.client_kind is ClientKind.CLI else "browser"
    return DecisionLine(row, words, said.header.issued_at, said.identity_check, client, Check("signature", True))


def commands(file: CaseFile, actor: Actor) -> list[tuple[str, str]]:
    """Return (what for, command line) of what this person can do about the case at their own keyboard.

    Nothing for a case whose stored bytes do not hold: the page must not invite to sign it.
    """
    own = mine(file, actor)
    if own is None or not file.is_sound:
        return []
    case_id = file.case.id
    show = ("Read it again, verified by your own client", f"holdfast officer show {case_id}")
    if file.case.state in APPROVABLE:
        if own.why_not or own.decision:
            return [show]
        approve = f'holdfast officer approve {case_id} --identity-check "how you made sure who is asking"'
        # What was released already nobody denies any more.
        deny = [("Deny", f'holdfast officer deny {case_id} --reason "why"')] if file.is_undecided else []
        return [show, ("Approve", approve), *deny]
    has_attested = any(attestation.person_id == actor.person_id for attestation in file.attestations)
    if file.case.successor_key and not own.why_not and not has_attested:
        return [show, ("Attest the subject’s new key", f"holdfast officer attest {case_id}")]
    return [show]


def mine(file: CaseFile, actor: Actor) -> OfficerStanding | None:
    """Return the viewer's own line in the roster, if there is one."""
    return next((line for line in file.officers if line.person_id == actor.person_id), None)
