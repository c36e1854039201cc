# SPDX-License-Identifier: Apache-2.0
"""An officer's answers: a case verified down to each deposit, then approved, denied, or a new key attested.

Implements ESCROW "Case" and FAULTS F20, F21, P3 and P4 on the officer's own machine.
Does not trust the server's summary: what is shown was read out of signed bytes, and is what gets signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import NotPossible, NotYet, ProfileError, TrustRefused, WrongInput
from holdfast.client.escrow import deposits
from holdfast.client.escrow.deposits import Subject, VerifiedDeposit
from holdfast.client.identity import device, tenant
from holdfast.client.identity.contacts import IDENTITY
from holdfast.client.officers import hearing, officer_keys
from holdfast.client.officers.officer_keys import FoundingOfficer
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.text import says_nothing
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from holdfast.core.escrow import approvals
from holdfast.core.escrow.approvals import Approver, Excluded
from holdfast.core.identity.cases import MAX_IDENTITY_CHECK, Attestation, Case, ClientKind
from holdfast.core.identity.policy import SignedPolicy, Terms, strictest
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement

# What a server's word for why somebody does not count is made of, and its length: it is shown as it stands.
_WORDS: Final = re.compile(r"[a-z' ,]{1,120}", re.ASCII)


@dataclass(frozen=True)
class ListedCase:
    """One line of the list of cases: the server's word for it."""

    case_id: UUID
    state: str
    subject: UUID
    purpose: str


@dataclass(frozen=True)
class CaseView:
    """A case as signed, everything in it verified. obstacle: why this officer may not approve it, or "".

    state, approvals, needed and long_delay (why the policy's long delay applies, or "") are the server's word; the rest
    was read from signed bytes.
    """

    statement: Sign1
    case: Case
    state: str
    approvals: int
    needed: int
    policy: SignedPolicy
    recipient: Sign1
    subject_state: Subject
    deposits: tuple[VerifiedDeposit, ...]
    obstacle: str
    long_delay: str = ""

    @property
    def case_id(self) -> UUID:
        """The case."""
        return UUID(bytes=self.case.case_id)

    @property
    def subject(self) -> UUID:
        """Whose archive."""
        return UUID(bytes=self.case.subject)

    @property
    def recipient_person(self) -> UUID:
        """Whose device receives it, by that device's own statement."""
        return UUID(bytes=DeviceStatement.from_payload(self.recipient.payload).person)

    @property
    def why_not(self) -> str:
        """Why this officer may not approve it, or "": an obstacle, or a case that nobody can decide."""
        # The server takes no such case; one that was opened before this rule, or by a server that lies, is denied.
        blank = "it gives no reason, so a new case is needed" if says_nothing(self.case.reason) else ""
        return self.obstacle or blank

    @property
    def terms(self) -> Terms:
        """The strictest terms of the case's policy and of those that the deposits were made under: its delays hold."""
        policies = [*(deposit.policy.policy for deposit in self.deposits), self.policy.policy]
        return strictest(policies)[1]

    def span(self, generation: int) -> tuple[int, int]:
        """Return from when a generation's key was used and until when, UTC seconds; 0 for one that still is."""
        starts = {row.generation: row.not_before for row in self.subject_state.state.generations}
        later = [at for number, at in starts.items() if number > generation]
        return starts[generation], min(later, default=0)

    @property
    def q(self) -> bytes:
        """The hash that an approval names."""
        return self.statement.payload_hash

    @property
    def words(self) -> tuple[str, ...]:
        """The 8 words of the recipient's keys: to compare with what was heard, on no screen of an officer."""
        return self.case.recipient_words


@dataclass(frozen=True)
class Answered:
    """What the server made of an answer."""

    state: str
    approvals: int
    needed: int


@dataclass(frozen=True)
class Proposal:
    """The identity key under which a subject asks to begin again, and the head it would follow."""

    identity_key: PublicKey
    old_head: bytes

    @property
    def words(self) -> tuple[str, ...]:
        """The 8 words that the person reads out: to compare with what was heard, on no screen of an officer."""
        return self.identity_key.fingerprint(IDENTITY)


def list_cases(account: Account) -> list[ListedCase]:
    """Return the cases that this person may see."""
    return [
        ListedCase(
            case_id=UUID(bytes=row.identifier("case_id")),
            state=row.text("state"),
            subject=UUID(bytes=row.identifier("subject")),
            purpose=row.text("purpose"),
        )
        for row in account.api.pages("cases", "cases", "case_id")
    ]


def see(account: Account, case_id: UUID) -> CaseView:
    """Fetch a case and verify all of it. Raises TrustRefused when anything does not fit together.

    The order matters: nothing is read from a statement before its signer is known.
    """
    # (1) the tenant's policy, from the pin;
    # (2) the recipient device: its own statement, and that the case names exactly that one;
    # (3) the case, signed by that device, of this tenant, under a policy of the pin;
    # (4) each deposit, held to the subject's account chain;
    # (5) whether this officer is one of those who may answer.
    tenant.refresh(account)  # (1)
    answer = account.api.get(f"cases/{case_id}")
    statement, case, recipient = _read_case(account, answer, case_id)  # (2), (3)
    policy = _policy(account, case)
    subject = deposits.subject_of(account, case.subject)
    found = tuple(  # (4)
        deposits.fetch(account, subject, deposit_id=deposit_id, record_hash=record_hash)
        for deposit_id, record_hash in case.deposits
    )
    person = DeviceStatement.from_payload(recipient.payload).person
    return CaseView(
        statement=statement,
        case=case,
        state=answer.text("state"),
        approvals=count_approvals(answer),
        needed=answer.number("needed"),
        policy=policy,
        recipient=recipient,
        subject_state=subject,
        deposits=found,
        obstacle=_obstacle(account, policy, Excluded(case.requester, case.subject, person))  # (5)
        or _by_the_servers_word(account, answer),
        long_delay=answer.one("long_delay").text("text") if "long_delay" in answer else "",
    )


def approve(account: Account, view: CaseView, *, heard: Mapping[int, str], identity_check: str) -> Answered:
    """Re-seal this officer's share of each deposit to the recipient, and sign for exactly this case.

    heard: by place, the words heard from the person at the places of `hearing.places`. identity_check: how the officer
    made sure of them, 1 to 200 characters. Raises WrongInput for a blank one, before anything is signed; WrongWords;
    TrustRefused when a share is not the one its depositor committed to.
    """
    if view.why_not:
        raise NotPossible(f"You may not approve this case: {view.why_not}.")
    require_told(identity_check, "How you made sure who is asking")
    hearing.require_heard(account, view.words, heard, until=view.case.expiry)
    row = officer_keys.own_row(account, view.policy)
    keys = officer_keys.keys_of(account, row)
    approver = Approver(row, keys.signing, keys.sealing, account.header(), ClientKind.CLI)
    try:
        signed, outers = approvals.approve(
            view.statement,
            {deposit.deposit_id: deposit.deposit for deposit in view.deposits},
            by=approver,
            policy=view.policy,
            release_key=account.trusted.in_force(account.api.clock.now()).policy.terms.release_sealing_key,
            identity_check=identity_check,
            policies={policy.hash: policy for policy in account.trusted.policies},
        )
    except HoldfastError as error:
        raise TrustRefused(f"Your share cannot be handed over: {error}.") from error
    shares = [[str(UUID(bytes=sealed.deposit_id)), b64u(sealed.outer)] for sealed in outers]
    document = {"statement": b64u(signed.encode()), "shares": shares}
    return _read_answer(account.api.post(f"cases/{view.case_id}/approvals", document))


def deny(account: Account, view: CaseView, *, reason: str) -> Answered:
    """Sign and send a denial. reason: 1 to 200 characters. Raises WrongInput for a blank one."""
    require_told(reason, "Why you deny")
    signed = approvals.deny(
        view.statement,
        policy=view.policy,
        signing_key=_keys_for(account, view).signing,
        header=account.header(),
        identity_check=reason,
        client_kind=ClientKind.CLI,
    )
    document = {"statement": b64u(signed.encode()), "reason": reason}
    return _read_answer(account.api.post(f"cases/{view.case_id}/deny", document))


def proposal(account: Account, view: CaseView) -> Proposal:
    """Return the new identity key proposed in a case. Raises NotYet when there is none yet.

    The server only carries it: the words, read out by the person, are what makes it theirs.
    """
    answer = account.api.get(f"cases/{view.case_id}")
    if "successor" not in answer:
        raise NotYet("The person has proposed no new key yet.", way_out="They run: holdfast recover escrow collect")
    successor = answer.one("successor")
    try:
        key = decode_public_key(successor.octets("identity_key"), expect=SIGNING_KINDS)
    except HoldfastError as error:
        raise TrustRefused(f"The proposed key is no key: {error}.") from error
    if successor.octets("old_head", 32) != view.subject_state.state.head:
        raise TrustRefused(
            "The new key is proposed on top of another account chain than the one shown.",
            way_out="The person's devices may have changed something meanwhile: they run holdfast recover escrow "
            "collect again. If it stays so, attest nothing, and tell the other officers.",
        )
    return Proposal(key, view.subject_state.state.head)


def attest(account: Account, view: CaseView, proposed: Proposal, *, heard: Mapping[int, str]) -> None:
    """Sign that the subject now holds the proposed key, on the device that the case names.

    heard: words of the new key, as for an approval. Only for a case in which the subject recovers their own.
    """
    if view.recipient_person != view.subject:
        raise NotPossible("This case releases to another person. Nobody's account begins again by it.")
    if view.obstacle:
        raise NotPossible(f"You may not attest in this case: {view.obstacle}.")
    hearing.require_heard(account, proposed.words, heard, until=view.case.expiry)
    said = Attestation(
        # The header names the person attested; the officer is known by their key.
        header=Header(account.tenant, view.case.subject, b"", account.api.clock.earliest()),
        old_head=proposed.old_head,
        new_aik=proposed.identity_key,
        case_id=view.case.case_id,
        device_hash=view.recipient.payload_hash,
    )
    signed = sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=_keys_for(account, view).signing)
    account.api.post(f"cases/{view.case_id}/attestations", {"statement": b64u(signed.encode())})


def _keys_for(account: Account, view: CaseView) -> FoundingOfficer:
    return officer_keys.keys_of(account, officer_keys.own_row(account, view.policy))


def require_told(text: str, what: str) -> None:
    """Raise WrongInput unless `text` is fit to be signed as an identity check, or as the reason of a denial."""
    if says_nothing(text) or len(text) > MAX_IDENTITY_CHECK:
        raise WrongInput(
            f"{what} is for the record: the other officers read it. Nothing was signed.",
            way_out=f"Say it in 1 to {MAX_IDENTITY_CHECK} characters.",
        )


def _read_case(account: Account, answer: Answer, case_id: UUID) -> tuple[Sign1, Case, Sign1]:
    try:
        statement = Sign1.parse(answer.octets("statement"))
        # Read to learn who claims to have signed; believed only after that key has verified it.
        claimed = Case.from_payload(statement.payload)
        recipient = device.fetch_statement(account, claimed.header.device)
        signer = DeviceStatement.from_payload(recipient.payload)
        case = Case.from_payload(statement.verify(signer.signing_key, purpose=Purpose.CASE))
    except HoldfastError as error:
        raise TrustRefused(f"The case is not to be trusted: {error}.") from error
    if (case.header.tenant, case.case_id) != (account.tenant, case_id.bytes):
        raise TrustRefused("The server shows another case than the one asked for.")
    if case.recipient_device_hash != recipient.payload_hash or case.header.user != signer.person:
        raise TrustRefused("The case names another receiving device than the one that signed it.")
    if account.api.clock.latest() >= case.expiry:
        raise NotPossible("The case has expired.", way_out="A new case is needed.")
    return statement, case, recipient


def _policy(account: Account, case: Case) -> SignedPolicy:
    try:
        policy = account.trusted.policy_named(case.policy_hash)
    except HoldfastError as error:
        raise TrustRefused(f"The case names a policy of its own: {error}.") from error
    if case.purpose not in policy.policy.terms.purposes:
        raise TrustRefused("The case is for a purpose that your policy does not allow.")
    return policy


def _obstacle(account: Account, policy: SignedPolicy, excluded: Excluded) -> str:
    """Return why this person may not answer by what is signed, in words, or ""."""
    if not officer_keys.has_keys(account):
        return "this profile holds no officer's keys"
    try:
        officer_keys.own_row(account, policy)
    except (NotPossible, ProfileError) as error:
        return str(error)
    why = excluded.why(account.user)
    return f"you are excluded, since this officer {why}" if why else ""


def _by_the_servers_word(account: Account, answer: Answer) -> str:
    """Return why the server does not count this person, in words, or "": away, cooling off, behind who asks."""
    # A lie here keeps an officer from answering, which a server can do anyhow; it makes nobody count.
    officers = answer.many("officers") if "officers" in answer else ()
    why = next((one.text("why_not") for one in officers if one.identifier("person_id") == account.user), "")
    if not why:
        return ""
    # In plain words alone: whatever else a server sends here is not shown.
    return f"by the server's word, this officer {why}" if _WORDS.fullmatch(why) else "the server does not count you"


def _read_answer(answer: Answer) -> Answered:
    count = count_approvals(answer) if "approvals" in answer else 0
    return Answered(answer.text("state"), count, answer.number("needed") if "needed" in answer else 0)


def count_approvals(answer: Answer) -> int:
    """Return how many approvals of a case the server counts: not those of whoever is suspended, or approves anew."""
    rows = answer.many("approvals")
    return sum(row.text("decision") == "approve" and not ("why_not" in row and row.text("why_not")) for row in rows)
