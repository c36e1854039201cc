# SPDX-License-Identifier: Apache-2.0
"""Getting back: a case opened by a new device, its release collected and combined, the account begun again.

Implements ESCROW "Case" for the recipient, and PROTOCOL section 5 (re-genesis).
Does not wait for people by itself longer than it is told to.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import NotYet, Problem, ProfileError, TrustRefused
from holdfast.client.escrow import archive, deposits
from holdfast.client.escrow.deposits import Subject, VerifiedDeposit
from holdfast.client.identity import chains, tenant
from holdfast.client.identity.contacts import IDENTITY
from holdfast.client.identity.device import new_identity_author
from holdfast.client.officers import officer
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation, OpenCase
from holdfast.client.server.answers import Answer
from holdfast.client.vault import doors, vault
from holdfast.client.waiting import wait_for
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.base.errors import HoldfastError, InvalidSignature
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.text import says_nothing
from holdfast.core.crypto.keys import RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.escrow import approvals
from holdfast.core.escrow.deposit import SEALED_HALF_SIZE
from holdfast.core.identity import chain, chain_author
from holdfast.core.identity.cases import Case, Veto, begins_from, verify_attestations
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.signed.cose import Purpose, Sign1, sign

CASE_LIFE_SECONDS: Final = 30 * 86_400  # the longest delay and notice a policy may ask, and time for officers on leave
_DELAY_RUNS: Final = "The officers have attested your new key; the policy's delay still runs."
_ENDED: Final = frozenset({"denied", "vetoed", "expired", "cancelled", "held", "closed"})


@dataclass(frozen=True)
class OpenedCase:
    """A case that is open, and the words that officers will ask for."""

    case_id: UUID
    words: tuple[str, ...]
    deposits: list[UUID]
    needed: int


@dataclass(frozen=True)
class CaseStatus:
    """How far a case is, in the server's word. waiting_for: what it waits for, and what is to be done; its text.

    words: the 8 words of this device's keys for the case, from its own statement. identity_words: those of the new
    identity key, once it is proposed.
    """

    case_id: UUID
    state: str
    approvals: int
    needed: int
    attestations: int
    release_at: str
    waiting_for: str
    words: tuple[str, ...]
    identity_words: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """What came back: generations opened, shares that were wrong, and the words of the new identity key.

    words is empty in a case about somebody else: nobody's account begins again by it.
    """

    generations: list[int]
    words: tuple[str, ...]
    blamed: list[tuple[UUID, int]]


@dataclass(frozen=True)
class Finished:
    """The account under its new key."""

    words: tuple[str, ...]
    generation: int


def open_case(
    account: Account,
    *,
    reason: str,
    purpose: str,
    reference: str = "",
    subject: bytes,
    wanted: Sequence[bytes] = (),
) -> OpenedCase:
    """Ask the officers to release deposits to this device, under keys made for this case alone.

    wanted: deposit ids; none named means the newest of each generation of one's own. Raises ProfileError when there
    is nothing to release, or no reason; TrustRefused for a deposit that does not fit.
    """
    if says_nothing(reason):
        raise ProfileError("Your officers decide by the reason, and it says nothing.", way_out="Say what happened.")
    if account.state.case is not None:
        state = status(account).state
        if state not in _ENDED:
            raise ProfileError(
                f"This device has a case open already; it is {state}.", way_out="See it: holdfast recover escrow status"
            )
        # A case that has ended, in whichever way, frees the device. Its keys go: they were made for that case alone.
        account.state.case = None
        account.save()
    tenant.refresh(account)
    # The one in force: its officers decide, until those of the next are in office.
    policy = account.trusted.in_force(account.api.clock.now())
    if purpose not in policy.policy.terms.purposes:
        allowed = ", ".join(sorted(policy.policy.terms.purposes))
        raise ProfileError(f"Your policy does not know the purpose {purpose!r}.", way_out=f"It allows: {allowed}.")
    named = _find_deposits(account, subject, wanted)
    rsa_key, sealing_key = RecipientRsaKey.generate(), SealingKey.generate()
    now = account.api.clock.earliest()
    case = Case(
        header=account.header(),
        case_id=secrets.token_bytes(16),
        nonce=secrets.token_bytes(16),
        subject=subject,
        requester=account.user,
        purpose=purpose,
        deposits=tuple(named),
        reason=reason,
        reference=reference,
        recipient_device_hash=Sign1.parse(account.device.statement).payload_hash,
        recipient_rsa_key=rsa_key.public,
        recipient_sealing_key=sealing_key.public,
        policy_hash=policy.hash,
        not_before=now,
        notice_at=now,
        expiry=now + CASE_LIFE_SECONDS,
    )
    signed = sign(case.to_payload(), purpose=Purpose.CASE, key=account.signing_key)
    identity = SigningKey.generate(account.device_statement.suite.signing_kind).seed()
    account.state.case = OpenCase(case.case_id, signed.encode(), rsa_key.pkcs8(), sealing_key.seed(), identity)
    # Kept before it is sent: approvals sealed to keys that were lost would be approvals wasted.
    account.save()
    try:
        answer = account.api.post("cases", {"case": b64u(signed.encode())})
    except Problem:
        account.state.case = None
        account.save()
        raise
    ids = [UUID(bytes=deposit_id) for deposit_id, _ in named]
    return OpenedCase(UUID(bytes=case.case_id), case.recipient_words, ids, answer.number("needed"))


def _find_deposits(account: Account, subject: bytes, wanted: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return (id, record hash) of the deposits to ask for, each verified as far as this device may read it."""
    if subject != account.user:
        if not wanted:
            raise ProfileError("Name the deposits of the other person: --deposit.")
        covered = account.api.pages("escrow/coverage", "deposits", "user_id")
        rows = {row.identifier("deposit_id"): row.octets("record_hash", 32) for row in covered}
        missing = [deposit_id for deposit_id in wanted if deposit_id not in rows]
        if missing:
            raise ProfileError(f"There is no deposit {UUID(bytes=missing[0])}.")
        return [(deposit_id, rows[deposit_id]) for deposit_id in wanted]
    newest: dict[int, tuple[bytes, bytes]] = {}
    for row in account.api.pages("escrow/deposits", "deposits", "deposit_id"):
        deposit_id, record_hash = row.identifier("deposit_id"), row.octets("record_hash", 32)
        if not wanted or deposit_id in wanted:
            # They come newest first: an older one names a policy whose officers may have left.
            newest.setdefault(row.number("generation"), (deposit_id, record_hash))
    if not newest:
        raise ProfileError("Nothing of yours is in escrow, so nothing can be recovered this way.")
    whose = deposits.subject_of(account, subject)
    for deposit_id, record_hash in newest.values():
        deposits.fetch(account, whose, deposit_id=deposit_id, record_hash=record_hash)
    return [newest[generation] for generation in sorted(newest)]


def status(account: Account) -> CaseStatus:
    """Ask how far this device's case is."""
    kept = _require_case(account)
    answer = account.api.get(f"cases/{UUID(bytes=kept.case_id)}")
    return CaseStatus(
        case_id=UUID(bytes=kept.case_id),
        state=answer.text("state"),
        approvals=officer.count_approvals(answer),
        needed=answer.number("needed"),
        attestations=len(_attestations(account, kept)),
        release_at=answer.text("release_at") if "release_at" in answer else "",
        waiting_for=answer.one("waiting_for").text("text") if "waiting_for" in answer else "",
        words=Case.from_payload(Sign1.parse(kept.statement).payload).recipient_words,
        identity_words=_new_identity(account, kept).public.fingerprint(IDENTITY) if "successor" in answer else (),
    )


def cancel(account: Account, *, reason: str, case_id: UUID | None = None) -> UUID:
    """Withdraw this device's case, and destroy the keys that were made for it. Returns its id.

    case_id: of another case in this person's name instead, which any of their devices may withdraw.
    """
    if case_id is not None and (account.state.case is None or account.state.case.case_id != case_id.bytes):
        account.api.post(f"cases/{case_id}/cancel", {"reason": reason})
        return case_id
    kept = _require_case(account)
    account.api.post(f"cases/{UUID(bytes=kept.case_id)}/cancel", {"reason": reason})
    account.state.case = None
    account.save()
    return UUID(bytes=kept.case_id)


def veto(account: Account, case_id: UUID, *, reason: str) -> str:
    """Forbid a case about one's own archive, signed by this device; returns the state that the case is in by it.

    For whoever did not ask for it. A third veto of one person asks one officer more instead of ending the case.
    Raises ProfileError for a case about somebody else.
    """
    view = officer.see(account, case_id)
    if view.case.subject != account.user:
        raise ProfileError("This case is not about your archive.", way_out="See yours: holdfast maintain")
    statement = Veto(account.header(), view.q, reason)
    signed = sign(statement.to_payload(), purpose=Purpose.VETO, key=account.signing_key)
    answer = account.api.post(f"cases/{case_id}/veto", {"statement": b64u(signed.encode()), "reason": reason})
    return answer.text("state")


def collect(account: Account, *, wait_seconds: int = 0) -> Collected:
    """Collect the release, open every archive key in it, and propose the new identity key to the officers.

    Raises NotYet before the release, TrustRefused when too few shares are right or a key is not the one that
    the account chain announces. Repeatable until the keys are open and kept.
    """
    kept = _require_case(account)
    tenant.refresh(account)
    case = Case.from_payload(Sign1.parse(kept.statement).payload)
    answer = wait_for(lambda: _release(account, kept), wait_seconds)
    whose = deposits.subject_of(account, case.subject)
    verified = _verified_records(account, whose, case, answer)
    opened, blamed = _open_all(kept, whose, verified, answer)
    if case.subject == account.user:
        known = {generation.number for generation in account.state.generations}
        account.state.generations += [generation for generation in opened if generation.number not in known]
        account.state.generations.sort(key=lambda generation: generation.number)
    account.save()
    words = _propose(account, kept, whose.state) if case.subject == account.user else ()
    return Collected([generation.number for generation in opened], words, blamed)


def _release(account: Account, kept: OpenCase) -> Answer:
    path = f"cases/{UUID(bytes=kept.case_id)}"
    try:
        return account.api.get(f"{path}/release", maximum=16 * 1024 * 1024)
    except Problem as problem:
        if problem.status != 409:
            raise
    state = account.api.get(path).text("state")
    if state in _ENDED:
        raise ProfileError(f"The case has ended: {state}.", way_out="Open a new one, after speaking to your officers.")
    raise NotYet(f"The case is {state}; nothing is released yet.", way_out="Ask again later, or with --wait.")


def _verified_records(account: Account, whose: Subject, case: Case, answer: Answer) -> dict[bytes, VerifiedDeposit]:
    hashes = dict(case.deposits)
    found = {}
    for row in answer.rows("records", 3):
        deposit_id = row.identifier("0")
        if deposit_id not in hashes:
            raise TrustRefused("The release brings a deposit that the case does not name.")
        found[deposit_id] = deposits.verify(
            account,
            whose,
            deposit_id=deposit_id,
            record_hash=hashes[deposit_id],
            record=row.octets("1", maximum=MAX_BLOB),
            statement=row.octets("2"),
        )
    if found.keys() != hashes.keys():
        raise TrustRefused("The release does not bring every deposit that the case names.")
    return found


def _open_all(
    kept: OpenCase, whose: Subject, verified: dict[bytes, VerifiedDeposit], answer: Answer
) -> tuple[list[Generation], list[tuple[UUID, int]]]:
    halves = {row.identifier("0"): row.octets("1", SEALED_HALF_SIZE) for row in answer.rows("halves", 2)}
    shares: dict[bytes, dict[int, bytes]] = {}
    for row in answer.rows("shares", 3):
        shares.setdefault(row.identifier("0"), {})[row.number("1")] = row.octets("2", maximum=4096)
    rsa_key, sealing_key = RecipientRsaKey.from_pkcs8(kept.recipient_rsa), SealingKey.from_seed(kept.recipient_seed)
    starts = {announced.generation: announced.not_before for announced in whose.state.generations}
    statement = Sign1.parse(kept.statement)
    hashes = dict(Case.from_payload(statement.payload).deposits)
    opened: list[Generation] = []
    blamed: list[tuple[UUID, int]] = []
    for deposit_id, record in sorted(verified.items(), key=lambda pair: pair[1].generation):
        try:
            back = approvals.combine(
                statement,
                record.deposit,
                half=halves.get(deposit_id, b""),
                sealed_shares=shares.get(deposit_id, {}),
                rsa_key=rsa_key,
                sealing_key=sealing_key,
                algorithm=record.escrow_key.statement.algorithm,
            )
        except approvals.ShareBlamed as error:
            indices = ", ".join(map(str, error.indices)) or "none"
            raise TrustRefused(
                f"Too few right shares: officers whose share is wrong: {indices}.",
                way_out="Ask another officer to approve the same case.",
            ) from error
        except HoldfastError as error:
            raise TrustRefused(f"The halves do not open your archive key: {error}.") from error
        blamed += [(UUID(bytes=deposit_id), index) for index in back.blamed]
        head = record.deposit.header
        opened.append(
            Generation(
                number=record.generation,
                key=back.archive_key,
                not_before=starts[record.generation],
                commitment=head.ak_commitment,
                deposit_id=deposit_id,
                record_hash=hashes[deposit_id],
                # Two officers and a machine took part in opening it: it opens the past and protects nothing new.
                is_exposed=True,
            )
        )
    return opened, blamed


def _propose(account: Account, kept: OpenCase, state: ChainState) -> tuple[str, ...]:
    key = _new_identity(account, kept)
    document = {"identity_key": b64u(key.public.encoded), "old_head": b64u(state.head)}
    account.api.put(f"cases/{UUID(bytes=kept.case_id)}/successor", document)
    return key.public.fingerprint(IDENTITY)


def _new_identity(account: Account, kept: OpenCase) -> SigningKey:
    return SigningKey.from_seed(account.device_statement.suite.signing_kind, kept.new_identity)


def finish(account: Account, *, password: SecretBytes, wait_seconds: int = 0) -> Finished:
    """Begin the account again on the officers' word, with a fresh archive key and a vault under a new password.

    Raises NotYet while attestations are missing or the delay runs. Each step is kept; running it again resumes.
    """
    kept = _require_case(account)
    state = chains.refresh(account)
    if state is None:
        raise TrustRefused("The server no longer shows this account's chain.")
    author = new_identity_author(account, kept.new_identity)
    if state.aik != author.key.public:
        wait_for(lambda: _begin_again(account, kept), wait_seconds)
    # The case's own keys have done their work; what could still be opened with them must not outlive it.
    account.state.identity_seed = kept.new_identity
    account.state.consent = b""
    account.state.case = None
    account.save()
    generation = archive.new_generation(account)
    vault.begin_anew(account)
    doors.set_password(account, password)
    return Finished(account.identity_key.public.fingerprint(IDENTITY), generation.number)


def _begin_again(account: Account, kept: OpenCase) -> ChainState:
    """Upload re-genesis and the first device of the new account together."""
    state = chains.refresh(account)
    if state is None:
        raise TrustRefused("The server no longer shows this account's chain.")
    author = new_identity_author(account, kept.new_identity)
    said, policy = _enough_attestations(account, kept, state)
    if author.issued_at < begins_from(said, policy.policy):
        # No peer would believe an earlier date.
        raise NotYet(_DELAY_RUNS)
    again = chain_author.re_genesis(state, by=author, attestations=said, policy_hash=policy.hash)
    begun = chain.extend(state, again, policies=account.policies)
    added = chain_author.add_device(
        begun,
        by=author,
        device=account.device.id,
        statement_hash=Sign1.parse(account.device.statement).payload_hash,
    )
    try:
        chains.upload(account, [again, added], state.head)
    except Problem as problem:
        if problem.code == "re-genesis-too-early":
            raise NotYet(_DELAY_RUNS) from None
        raise
    fresh = chains.refresh(account)
    if fresh is None or fresh.head != added.hash:
        raise TrustRefused("The server shows another account chain than the one just begun.")
    return fresh


def _enough_attestations(account: Account, kept: OpenCase, state: ChainState) -> tuple[tuple[Sign1, ...], SignedPolicy]:
    """Return attestations that hold and suffice, and their policy. One that does not hold spoils no other."""
    # The policy in force now, which every reader asks for: that of the case may have been replaced since.
    policy = account.trusted.in_force(account.api.clock.earliest())
    key = SigningKey.from_seed(account.device_statement.suite.signing_kind, kept.new_identity).public
    right: dict[bytes, Sign1] = {}
    for statement in _attestations(account, kept):
        officer = policy.policy.officer(statement.kid)
        if officer is None:
            continue
        try:
            statement.verify(officer.signing_key, purpose=Purpose.ATTESTATION)
        except InvalidSignature:
            continue
        right[statement.kid] = statement
    said = tuple(right[kid] for kid in sorted(right))
    if len(said) < policy.policy.m:
        raise NotYet(
            f"{len(said)} of {policy.policy.m} officers have attested your new key.",
            way_out="Call them and read the 8 words to them; they run: holdfast officer attest",
        )
    try:
        about = verify_attestations(said, policy.policy, user=account.user, old_head=state.head, new_aik=key)
    except HoldfastError as error:
        raise TrustRefused(f"The attestations do not fit: {error}.") from error
    if (about.case_id, about.device_hash) != (kept.case_id, Sign1.parse(account.device.statement).payload_hash):
        raise TrustRefused("The officers attested another case or another device.")
    return said, policy


def _attestations(account: Account, kept: OpenCase) -> list[Sign1]:
    answer = account.api.get(f"cases/{UUID(bytes=kept.case_id)}/attestations")
    return [Sign1.parse(row.octets("statement")) for row in answer.many("attestations", maximum=64)]


def _require_case(account: Account) -> OpenCase:
    if account.state.case is None:
        raise ProfileError("This device has no case open.", way_out="Open one: holdfast recover escrow open")
    return account.state.case
