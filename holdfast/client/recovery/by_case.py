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

from holdfast.client.errors import NotPossible, NotYet, Problem, TrustRefused, WrongInput
from holdfast.client.escrow import archive, deposits, disclosures
from holdfast.client.escrow.deposits import Subject, VerifiedDeposit
from holdfast.client.escrow.disclosures import Disclosure
from holdfast.client.identity import chains, key_log, tenant
from holdfast.client.identity.contacts import IDENTITY
from holdfast.client.identity.device import new_identity_author
from holdfast.client.messages import prekeys
from holdfast.client.officers import officer
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation, OpenCase
from holdfast.client.rotation import rotation
from holdfast.client.rotation.rotation_record import Part, Step
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
from holdfast.core.identity.cases import Case, begins_from, last_disclosure_end, verify_attestations
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.policy import Policy, SignedPolicy
from holdfast.core.signed.cose import Purpose, Sign1, sign

CASE_LIFE_SECONDS: Final = 30 * 86_400  # the longest delay and notice a policy may ask, and time for officers on leave
# After the case's own end, unless whoever asks names a date: a month to read what took up to a month to be released.
DISCLOSURE_SECONDS: Final = 30 * 86_400
_DELAY_RUNS: Final = "The officers have attested your new key; the policy's delay still runs."
# A case that the server does not know: it never came there, or went with a database that was put back.
_LOST: Final = "lost"
_ENDED: Final = frozenset({"denied", "vetoed", "expired", "cancelled", "held", "closed", _LOST})
# Codes (HTTP) of refusals that say nothing of the act: not signed in, under way, too many.
_PASSING: Final = frozenset({401, 408, 409, 425, 429})
_TOO_FEW: Final = "too-few-officers"  # the one conflict that says for sure that no case was opened
_COLLECTED: Final = frozenset({"collected", "rotated", "sealed"})
_MAX_RELEASE: Final = 16 * 1024 * 1024  # bytes: every record that a case may name, with all its shares
_ASK_ANEW: Final = "This device is free to ask anew: holdfast recover escrow open"


@dataclass(frozen=True)
class OpenedCase:
    """A case that is open, and the words that officers will ask for. ends_at: a disclosure's end; 0 for one's own."""

    case_id: UUID
    words: tuple[str, ...]
    deposits: list[UUID]
    needed: int
    ends_at: int = 0


@dataclass(frozen=True)
class CaseStatus:
    """How far a case is, in the server's word.

    waiting_for: what it waits for, and what is to be done. ended: what ended it, and what has to be done before asking
    anew; empty for one that goes on. Both are the server's text. words: the 8 words of this device's keys for the case,
    from its own statement. identity_words: those of the new identity key, once it is proposed.
    ends_at: when what it discloses of somebody else's archive ends, in UTC seconds; 0 in one's own case.
    """

    case_id: UUID
    state: str
    approvals: int
    needed: int
    attestations: int
    release_at: str
    waiting_for: str
    ended: str
    words: tuple[str, ...]
    identity_words: tuple[str, ...]
    ends_at: int = 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended, so that this device may open another."""
        return self.state in _ENDED


@dataclass(frozen=True)
class WrongShare:
    """A share that is not what its deposit says. person: whose it is, None where nobody holds a share of that index.

    number: theirs in the case's roster, as officers and statuses are numbered; 0 where it does not name them.
    """

    deposit_id: UUID
    person: UUID | None
    number: int

    @property
    def whose(self) -> str:
        """Whose share it is, in words."""
        if self.person is None:
            return "nobody, since it was made up"
        return f"officer {self.number} ({self.person})" if self.number else f"a former officer ({self.person})"


@dataclass(frozen=True)
class Collected:
    """What came back: generations opened, shares that were wrong, and the words of the new identity key.

    In a case about somebody else words is empty, since nobody's account begins again by it, and disclosure is what was
    opened: `disclosures` decrypts by it until it ends.
    """

    generations: list[int]
    words: tuple[str, ...]
    blamed: list[WrongShare]
    disclosure: Disclosure | None = None


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
    ends_at: int | None = None,
) -> OpenedCase:
    """Ask the officers to release deposits to this device, under keys made for this case alone.

    wanted: deposit ids; none named means the newest of each generation. ends_at: UTC seconds at which a disclosure of
    somebody else's archive ends, 60 days from now when left out; nothing ends in one's own case. Raises NotPossible
    when there is nothing to release, WrongInput for no reason, or an end that does not fit; TrustRefused for a deposit
    that does not.
    """
    if says_nothing(reason):
        raise WrongInput("Your officers decide by the reason, and it says nothing.", way_out="Say what happened.")
    # It may be taken up again tomorrow, and what is released then is for the device of today.
    under_way = (one for one in rotation.list_rotations(account) if one.step is not Step.DESTROY)
    if any(Part.DEVICE in one.parts for one in under_way):
        raise NotPossible("This device's keys are being replaced.", way_out="Finish that first: holdfast maintain")
    if account.state.case is not None:
        state = _state_of(_find(account, account.state.case))
        if state not in _ENDED and not _is_over_for_sure(account, account.state.case):
            raise NotPossible(
                f"This device has a case open already; it is {state}.",
                way_out="See it: holdfast recover escrow status. Withdraw it: holdfast recover escrow cancel",
            )
        _forget(account)
    tenant.refresh(account)
    # The one in force: its officers decide, until those of the next are in office.
    policy = account.trusted.in_force(account.api.clock.now())
    if purpose not in policy.policy.terms.purposes:
        allowed = ", ".join(sorted(policy.policy.terms.purposes))
        raise WrongInput(f"Your policy does not know the purpose {purpose!r}.", way_out=f"It allows: {allowed}.")
    now = account.api.clock.earliest()
    disclosed = _disclosure_end(account, subject, now, ends_at)
    named = _find_deposits(account, subject, wanted)
    rsa_key, sealing_key = RecipientRsaKey.generate(), SealingKey.generate()
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
        disclosure_ends=disclosed,
    )
    signed = sign(case.to_payload(), purpose=Purpose.CASE, key=account.signing_key)
    identity = SigningKey.generate(account.device_statement.suite.signing_kind).seed()
    account.state.case = OpenCase(case.case_id, signed.encode(), rsa_key.pkcs8(), sealing_key.seed(), identity)
    # Kept before it is sent: approvals sealed to keys that were lost would be approvals wasted.
    account.save()
    try:
        answer = account.api.post("cases", {"case": b64u(signed.encode())})
    except Problem as problem:
        # A refusal opened nothing. After a fault of the server's, or what refuses the second of two attempts, the case
        # may stand, and these are its only keys.
        if problem.code == _TOO_FEW or (problem.status < 500 and problem.status not in _PASSING):
            _forget(account)
        raise
    ids = [UUID(bytes=deposit_id) for deposit_id, _ in named]
    return OpenedCase(UUID(bytes=case.case_id), case.recipient_words, ids, answer.number("needed"), disclosed)


def _disclosure_end(account: Account, subject: bytes, now: int, ends_at: int | None) -> int:
    """Return field 22 of a case that is opened now: 0 for one's own. Raises WrongInput for an end that cannot be."""
    if subject == account.user:
        if ends_at is not None:
            raise WrongInput("Your own archive comes back to you for good.", way_out="Leave out --until.")
        return 0
    disclosures.require_room(account)
    expiry = now + CASE_LIFE_SECONDS
    chosen = expiry + DISCLOSURE_SECONDS if ends_at is None else ends_at
    last = last_disclosure_end(issued_at=now, expiry=expiry)
    if not account.api.clock.latest() < chosen <= last:
        raise WrongInput(
            "A disclosure cannot end then.",
            way_out=f"Name a date after today, up to {disclosures.day(last)}: --until",
        )
    return chosen


def _find_deposits(account: Account, subject: bytes, wanted: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return (id, record hash) of the deposits to ask for, each verified as far as this device may read it."""
    if subject != account.user:
        return _find_deposits_of(account, subject, wanted)
    newest: dict[int, tuple[bytes, bytes]] = {}
    for row in account.api.pages("escrow/deposits", "deposits", "deposit_id"):
        deposit_id, record_hash = row.identifier("deposit_id"), row.octets("record_hash", 32)
        if not wanted or deposit_id in wanted:
            # They come newest first: an older one names a policy whose officers may have left.
            newest.setdefault(row.number("generation"), (deposit_id, record_hash))
    if not newest:
        raise NotPossible("Nothing of yours is in escrow, so nothing can be recovered this way.")
    whose = deposits.subject_of(account, subject)
    for deposit_id, record_hash in newest.values():
        deposits.fetch(account, whose, deposit_id=deposit_id, record_hash=record_hash)
    return [newest[generation] for generation in sorted(newest)]


def _find_deposits_of(account: Account, subject: bytes, wanted: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return those of somebody else, by the server's word: it is held to its bytes when the release is collected."""
    asked = {"user": str(UUID(bytes=subject))}
    covered = account.api.pages("escrow/coverage", "deposits", "user_id", query=asked)
    rows = {
        row.identifier("deposit_id"): row.octets("record_hash", 32)
        for row in covered
        if row.identifier("user_id") == subject
    }
    if not rows:
        raise NotPossible("Nothing of that person is in escrow.")
    missing = [deposit_id for deposit_id in wanted if deposit_id not in rows]
    if missing:
        raise WrongInput(f"There is no deposit {UUID(bytes=missing[0])} of that person.")
    return [(deposit_id, rows[deposit_id]) for deposit_id in wanted or rows]


def status(account: Account) -> CaseStatus:
    """Ask how far this device's case is, or what ended it. The keys of one that has ended are destroyed.

    Those of a case that the server does not know are kept: it may be put back. Raises NotPossible then.
    """
    kept = _require_case(account)
    case = Case.from_payload(Sign1.parse(kept.statement).payload)
    answer = _find(account, kept)
    if answer is None:
        raise _unknown_case()
    found = CaseStatus(
        case_id=UUID(bytes=kept.case_id),
        state=answer.text("state"),
        approvals=officer.count_approvals(answer),
        needed=answer.number("needed"),
        attestations=len(_attestations(account, kept)),
        release_at=answer.text("release_at") if "release_at" in answer else "",
        waiting_for=answer.one("waiting_for").text("text") if "waiting_for" in answer else "",
        ended=answer.one("ended").text("text") if "ended" in answer else "",
        words=case.recipient_words,
        identity_words=_new_identity(account, kept).public.fingerprint(IDENTITY) if "successor" in answer else (),
        ends_at=case.disclosed_until if case.is_disclosure else 0,
    )
    if found.is_over:
        _forget(account)
    return found


def cancel(account: Account, *, reason: str, case_id: UUID | None = None) -> tuple[UUID, str]:
    """Withdraw this device's case, and destroy the keys that were made for it. Returns its id, and how it ended.

    One that has ended otherwise stays as it ended, and one that was collected goes on to its end; its keys go all the
    same once nothing more can be collected. Raises Problem while something can. case_id: of another case in this
    person's name instead, which any of their devices may withdraw.
    """
    if case_id is not None and (account.state.case is None or account.state.case.case_id != case_id.bytes):
        answer = account.api.post(f"cases/{case_id}/cancel", {"reason": reason})
        return case_id, answer.text("state")
    kept = _require_case(account)
    state = "cancelled"
    try:
        account.api.post(f"cases/{UUID(bytes=kept.case_id)}/cancel", {"reason": reason})
    except Problem as problem:
        if problem.status not in (404, 409):
            raise
        found = _find(account, kept)
        state = _state_of(found)
        if state not in _ENDED and not _is_over_for_sure(account, kept) and not _is_spent(account, kept, found):
            raise
    _forget(account)
    return UUID(bytes=kept.case_id), state


def _find(account: Account, kept: OpenCase) -> Answer | None:
    """Return what the server says of a case; None for one that it does not know."""
    try:
        return account.api.get(f"cases/{UUID(bytes=kept.case_id)}")
    except Problem as problem:
        if problem.status != 404:
            raise
        return None


def _unknown_case() -> NotPossible:
    return NotPossible(
        "The server has no such case: it never came there, or was lost with a backup.",
        way_out="Its keys are kept for now. Try again later, or give it up: holdfast recover escrow cancel",
    )


def _state_of(found: Answer | None) -> str:
    """Return the server's word for the state of a case; "lost" for one that it does not know."""
    return found.text("state") if found else _LOST


def _has_run_out(account: Account, kept: OpenCase) -> bool:
    """Whether what a case was to disclose has ended by one of the clocks, so that this device opens nothing of it."""
    case = Case.from_payload(Sign1.parse(kept.statement).payload)
    return case.is_disclosure and account.api.clock.latest() >= case.disclosed_until


def _is_over_for_sure(account: Account, kept: OpenCase) -> bool:
    """Whether it has ended by a confirmed time, by which alone its keys are destroyed."""
    return _has_run_out(account, kept) and key_log.confirm_time(account)


def _is_spent(account: Account, kept: OpenCase, found: Answer | None) -> bool:
    """Whether a case was collected and has nothing more for this device: opened here already, or destroyed there."""
    if found is None or _state_of(found) not in _COLLECTED:
        return False
    if _is_opened(found):
        return True
    try:
        account.api.get(f"cases/{UUID(bytes=kept.case_id)}/release", maximum=_MAX_RELEASE)
    except Problem as problem:
        if problem.status != 409:
            raise
        return True
    return False


def _is_opened(found: Answer) -> bool:
    # The new identity key is proposed once the archive keys are kept.
    return "successor" in found


def _forget(account: Account) -> None:
    """Destroy the keys of a case that has ended, in whichever way: they were made for it alone. The device is free."""
    account.state.case = None
    account.save()


def collect(account: Account, *, wait_seconds: int = 0) -> Collected:
    """Collect the release and open every archive key in it; in one's own case, propose the new identity key.

    What is opened of somebody else's archive becomes a disclosure, apart from this person's own keys, and the device is
    free for another case. Raises NotYet before the release, and when too few shares are right: the server is told which
    are wrong, and the case waits for others. TrustRefused when a key is not the one that the account chain announces.
    NotPossible where nothing can be collected any more: the keys made for the case are destroyed, and the device is
    free. Repeatable until the keys are open and kept.
    """
    kept = _require_case(account)
    statement = Sign1.parse(kept.statement)
    case = Case.from_payload(statement.payload)
    if _is_over_for_sure(account, kept):
        _forget(account)
    if _has_run_out(account, kept):
        raise NotPossible("What this case was to disclose has ended already.", way_out=_ASK_ANEW)
    tenant.refresh(account)
    whose, opened, blamed = wait_for(lambda: _open_release(account, kept, case), wait_seconds)
    numbers = [generation.number for generation in opened]
    if case.is_disclosure:
        return Collected(numbers, (), blamed, _keep_disclosure(account, statement, opened))
    known = {generation.number for generation in account.state.generations}
    account.state.generations += [generation for generation in opened if generation.number not in known]
    account.state.generations.sort(key=lambda generation: generation.number)
    account.save()
    return Collected(numbers, _propose(account, kept, whose.state), blamed)


def _keep_disclosure(account: Account, statement: Sign1, opened: list[Generation]) -> Disclosure:
    """Keep what was opened and destroy the keys made for the case, in one stroke: one or the other is there."""
    kept = account.state.case
    try:
        with account.store.transaction():
            disclosure = disclosures.keep(account, statement, opened)
            account.state.case = None
            account.save()
    except BaseException:
        account.state.case = kept
        raise
    return disclosure


def _open_release(account: Account, kept: OpenCase, case: Case) -> tuple[Subject, list[Generation], list[WrongShare]]:
    """Collect and open what was released. Raises NotYet as `collect` does."""
    answer = _release(account, kept)
    whose = deposits.subject_of(account, case.subject)
    verified = _verified_records(account, whose, case, answer)
    try:
        opened, blamed = _open_all(kept, whose, verified, answer, account.trusted.policy_named(case.policy_hash).policy)
    except _TooFewShares as error:
        _blame(account, kept, error)
        raise NotYet(
            f"{error} Your officers are told, and the case waits for another share.",
            way_out="Ask another officer, or one whose share was wrong, to approve the same case. Then collect again.",
        ) from error
    return whose, opened, blamed


class _TooFewShares(Exception):
    """Some deposits cannot be opened. wrong: {deposit: indices of its wrong shares}, none where some are missing.

    blamed: the same, by person.
    """

    def __init__(self, wrong: dict[bytes, tuple[int, ...]], blamed: Sequence[WrongShare]) -> None:
        self.wrong = wrong
        whose = ", ".join(sorted({share.whose for share in blamed})) or "nobody"
        super().__init__(f"Too few right shares. Wrong are those of: {whose}.")


def _blame(account: Account, kept: OpenCase, error: _TooFewShares) -> None:
    rows = [[str(UUID(bytes=deposit_id)), list(indices)] for deposit_id, indices in sorted(error.wrong.items())]
    try:
        account.api.post(f"cases/{UUID(bytes=kept.case_id)}/blame", {"shares": rows})
    except Problem as problem:
        if problem.status >= 500:
            raise
        # By its own rows enough are right: then it has kept them from this device, or changed them.
        raise TrustRefused(f"{error} The server says otherwise: {problem}") from error


def _release(account: Account, kept: OpenCase) -> Answer:
    try:
        return account.api.get(f"cases/{UUID(bytes=kept.case_id)}/release", maximum=_MAX_RELEASE)
    except Problem as problem:
        if problem.status != 409:
            raise
        refusal = problem
    found = _find(account, kept)
    if found is None:
        raise _unknown_case()
    state = _state_of(found)
    if state in _ENDED:
        _forget(account)
        why = f" {found.one('ended').text('text')}" if "ended" in found else ""
        raise NotPossible(f"The case has ended: {state}.{why}", way_out=_ASK_ANEW)
    if state in _COLLECTED:
        if _is_opened(found):
            raise NotPossible(
                f"Your archive keys are open on this device already, and nothing is left to collect: {refusal}",
                way_out="Go on: holdfast recover escrow finish. Or give the case up: holdfast recover escrow cancel",
            )
        _forget(account)
        raise NotPossible(f"Nothing is left to collect: {refusal}", way_out=_ASK_ANEW)
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
    kept: OpenCase, whose: Subject, verified: dict[bytes, VerifiedDeposit], answer: Answer, policy: Policy
) -> tuple[list[Generation], list[WrongShare]]:
    halves = {row.identifier("0"): row.octets("1", SEALED_HALF_SIZE) for row in answer.rows("halves", 2)}
    shares: dict[bytes, dict[int, bytes]] = {}
    for row in answer.rows("shares", 3):
        shares.setdefault(row.identifier("0"), {})[row.number("1")] = row.octets("2", maximum=4096)
    rsa_key, sealing_key = RecipientRsaKey.from_pkcs8(kept.recipient_rsa), SealingKey.from_seed(kept.recipient_seed)
    starts = {announced.generation: announced.not_before for announced in whose.state.generations}
    statement = Sign1.parse(kept.statement)
    hashes = dict(Case.from_payload(statement.payload).deposits)
    opened: list[Generation] = []
    blamed: list[WrongShare] = []
    too_few: dict[bytes, tuple[int, ...]] = {}
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
            # All of them are said at once: one report, and one more share of each.
            too_few[deposit_id] = error.indices
            blamed += [_wrong_share(record, index, policy) for index in error.indices]
            continue
        except HoldfastError as error:
            raise TrustRefused(f"The halves do not open your archive key: {error}.") from error
        blamed += [_wrong_share(record, index, policy) for index in back.blamed]
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
    if too_few:
        raise _TooFewShares(too_few, blamed)
    return opened, blamed


def _wrong_share(record: VerifiedDeposit, index: int, policy: Policy) -> WrongShare:
    """Say whose a share is, by the roster of the deposit's own policy; that of the case may number anew."""
    deposit_id = UUID(bytes=record.deposit_id)
    person = next((one.person for one in record.policy.policy.roster if one.index == index), None)
    if person is None:
        return WrongShare(deposit_id, None, 0)
    number = next((one.index for one in policy.roster if one.person == person), 0)
    return WrongShare(deposit_id, UUID(bytes=person), number)


def _propose(account: Account, kept: OpenCase, state: ChainState) -> tuple[str, ...]:
    key = _new_identity(account, kept)
    document = {"identity_key": b64u(key.public.encoded), "old_head": b64u(state.head)}
    account.api.put(f"cases/{UUID(bytes=kept.case_id)}/successor", document)
    return key.public.fingerprint(IDENTITY)


def _new_identity(account: Account, kept: OpenCase) -> SigningKey:
    return SigningKey.from_seed(account.device_statement.suite.signing_kind, kept.new_identity)


def finish(account: Account, *, password: SecretBytes, wait_seconds: int = 0) -> Finished:
    """Begin the account again on the officers' word, with a fresh archive key and a vault under a new password.

    The device's pre-keys are published. Raises NotYet while attestations are missing or the delay runs. Each step is
    kept; running it again resumes.
    """
    kept = _require_case(account)
    state = chains.refresh(account)
    if state is None:
        raise TrustRefused("The server no longer shows this account's chain.")
    author = new_identity_author(account, kept.new_identity)
    if state.aik != author.key.public:
        wait_for(lambda: _begin_again(account, kept), wait_seconds)
    prekeys.publish(account)
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
        raise NotPossible(
            "This device has no case open.",
            way_out="Open one: holdfast recover escrow open. What cases have disclosed: holdfast archive disclosures",
        )
    return account.state.case
