# SPDX-License-Identifier: Apache-2.0
"""What officers hand over, how their approvals are counted, and how the recipient puts the halves together.

Implements ESCROW "Case". Statements are read by `cases`; delay, notice and veto are judged by `release`.
Knows no clock and no row: who is cooling off, suspended or away is handed in.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import HoldfastError, Malformed, QuorumNotMet, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing
from holdfast.core.crypto.keys import PublicKey, RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.escrow.deposit import Deposit, combine_shares, oaep_hash
from holdfast.core.identity.cases import Approval, Case, ClientKind
from holdfast.core.identity.policy import ApproveWith, Officer, Policy, SignedPolicy
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header

# A default that nobody can fill by accident, where a deposit's policy is the case's own.
_NONE: Final[Mapping[bytes, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class OuterShare:
    """sealed_i of one deposit, sealed once more to the release process: what an officer uploads."""

    deposit_id: bytes
    outer: bytes


@dataclass(frozen=True)
class Excluded:
    """Persons (16-byte ids) who do not count for one case, by why. ESCROW "Case": "Eligible"."""

    requester: bytes
    subject: bytes
    recipient: bytes
    cooling_off: frozenset[bytes] = field(default_factory=frozenset)
    suspended: frozenset[bytes] = field(default_factory=frozenset)
    away: frozenset[bytes] = field(default_factory=frozenset)
    keys_lost: frozenset[bytes] = field(default_factory=frozenset)
    # Whoever issued the code of the recipient's device, and those who stand behind them or the requester: `sponsors`.
    behind: frozenset[bytes] = field(default_factory=frozenset)

    def why(self, person: bytes) -> str | None:
        """Return why a person does not count, in words for people, or None when they do."""
        # Persons are compared, never accounts, devices or keys: another login of one person
        # is still that person (FAULTS P1).
        reasons = {
            "is the subject": {self.subject},
            "opened the case": {self.requester},
            "owns the recipient device": {self.recipient},
            "is cooling off": self.cooling_off,
            "is suspended or removed": self.suspended,
            "lost a device with their keys, and needs others": self.keys_lost,
            "is away": self.away,
            "issued the code of the receiving device, or let in whoever did or whoever asks": self.behind,
        }
        return next((why for why, persons in reasons.items() if person in persons), None)


def share_index(officer: Officer, made_under: Policy) -> int | None:
    """Return the index of an officer's shares in deposits made under `made_under`, or None when they hold none.

    A roster's numbers are its own: after an officer has left, the others may be numbered anew.
    """
    # By person and not by key: an officer's keys may have changed since, their share of that deposit has not.
    return next((member.index for member in made_under.roster if member.person == officer.person), None)


def eligible(policy: Policy, excluded: Excluded) -> tuple[Officer, ...]:
    """Return the officers of `policy` who may decide on a case."""
    return tuple(officer for officer in policy.roster if excluded.why(officer.person) is None)


@dataclass(frozen=True)
class Approver:
    """An officer at their own client. officer: their row of the case's policy. header: names them, issued now."""

    officer: Officer
    signing_key: SigningKey
    sealing_key: SealingKey
    header: Header
    client_kind: ClientKind


def approve(
    case: Sign1,
    deposits: Mapping[bytes, Deposit],
    *,
    by: Approver,
    policy: SignedPolicy,
    release_key: PublicKey,
    identity_check: str,
    policies: Mapping[bytes, SignedPolicy] = _NONE,
) -> tuple[Sign1, tuple[OuterShare, ...]]:
    """Open this officer's share of each deposit, re-seal it to the case's recipient, and sign for it.

    case: verified by the caller. deposits: by id, whose records hash to what the case names; of one that holds no share
    of theirs, none is handed over. policy: the one the case names. release_key: the release process's X-Wing key by the
    policy in force now. policies: by hash, the others under which deposits were made. identity_check: how they made
    sure of the person, in their words. Raises UnwrapFailed when a share is not what its depositor committed to,
    Untrusted when a deposit is not among those given, or none of them holds a share of theirs, Malformed when the case
    gives no reason, or identity_check says nothing or is too long.
    """
    # What the officer signs is read from the signed bytes again, and not from what a screen or a row made of them.
    asked = Case.from_payload(case.payload)
    asked.require_told()
    q = case.payload_hash
    shares, outers = [], []
    for deposit_id, record_hash in asked.deposits:
        deposit = deposits.get(deposit_id)
        # A record is held to the hash in the case before any share is opened: the server
        # could hand out another's deposit.
        if deposit is None or hashlib.sha256(deposit.to_record()).digest() != record_hash:
            raise Untrusted("a deposit is not the one that the case names")
        index = _index_in(deposit, by.officer, {**policies, policy.hash: policy})
        # Of several deposits some may be older than this officer's office: for those, others approve.
        if index is None:
            continue
        # Checked against its commitment before it is signed for: a wrong one is then the depositor's
        # fault and not the officer's.
        share = deposit.open_share(index, key=by.sealing_key)
        # Sealed twice. Inside, to the recipient, so that neither server nor release process ever has
        # the share. Outside, to the release process, so that nobody holds a share for the recipient
        # before delay and veto are over.
        sealed = sealing.seal(share, to=asked.recipient_sealing_key, info=_inner_info(q, deposit_id, index))
        # By the policy of now and not by the case's: a key that was replaced meanwhile may have been lost to somebody.
        outer = sealing.seal(SecretBytes(sealed), to=release_key, info=_outer_info(q, deposit_id, index))
        # The signature covers the inner sealing. Of the outer one nobody signs anything:
        # it is gone by the time it could count.
        shares.append((deposit_id, index, hashlib.sha256(sealed).digest()))
        outers.append(OuterShare(deposit_id, outer))
    if not shares:
        raise Untrusted("the officer holds no share of any deposit that the case names")
    approval = Approval(
        header=by.header,
        case_hash=q,
        shares=tuple(shares),
        policy_hash=policy.hash,
        approves=True,
        identity_check=identity_check,
        client_kind=by.client_kind,
    )
    return _sign(approval, by.signing_key), tuple(outers)


def deny(
    case: Sign1,
    *,
    policy: SignedPolicy,
    signing_key: SigningKey,
    header: Header,
    identity_check: str,
    client_kind: ClientKind,
) -> Sign1:
    """Sign a denial: it hands over nothing. identity_check: why. Raises Malformed when it is blank or too long."""
    # The same statement as an approval, so that an officer's yes and no about one case can never both count.
    denial = Approval(header, case.payload_hash, (), policy.hash, False, identity_check, client_kind)
    return _sign(denial, signing_key)


def _sign(decision: Approval, key: SigningKey) -> Sign1:
    decision.require_told()
    payload = decision.to_payload()
    # As everybody else will read it: what does not hold is not signed.
    Approval.from_payload(payload)
    return cose.sign(payload, purpose=Purpose.APPROVAL, key=key)


# What the same octets say is the same for ever, and a release asks for it a dozen times.
read_case = lru_cache(maxsize=64)(Case.from_payload)
read_approval = lru_cache(maxsize=256)(Approval.from_payload)
# What a decision of a case came to when it was read and verified: whose it is and what it says, or why it is left out.
Reading = tuple[Officer, Approval] | str


def read_decision(
    statement: Sign1, *, case: Sign1, policy: SignedPolicy, made_under: Mapping[bytes, Policy] = _NONE
) -> tuple[Officer, Approval]:
    """Check one officer's decision on one case: who signed, and that it is about this case under this policy.

    made_under: by deposit id, the policies of deposits that are older than the case's policy.
    Raises Malformed, InvalidSignature, and Untrusted for a signer outside the roster, another case, another tenant,
    another policy than the case's, or a client that the policy does not allow (FAULTS P3, P4).
    """
    officer = policy.policy.officer(statement.kid)
    if officer is None:
        raise Untrusted("signed by somebody who is no officer of the policy")
    # The key of the roster, not one that the statement or a row brings along (FAULTS P16).
    statement.verify(officer.signing_key, purpose=Purpose.APPROVAL)
    decision, asked = read_approval(statement.payload), read_case(case.payload)
    # The key alone names the officer. A header in another's name would be shown as theirs in the log and on screens.
    if decision.header.tenant != policy.policy.header.tenant or decision.header.user != officer.person:
        raise Untrusted("the decision is of another tenant or in another person's name")
    # q is over all of the case: one changed date or key, and no approval fits any more (FAULTS P4).
    if not hmac.compare_digest(decision.case_hash, case.payload_hash):
        raise Untrusted("the decision is about another case, or the case was changed after it")
    # All three agree: the officer has signed for these terms and this roster, and not for whichever is in force later.
    if decision.policy_hash != policy.hash or asked.policy_hash != policy.hash:
        raise Untrusted("the decision names another policy than the case")
    # In a browser the server's own page would show what is signed (FAULTS S17).
    if policy.policy.terms.approve_with is ApproveWith.CLI and decision.client_kind is not ClientKind.CLI:
        raise Untrusted("the policy takes decisions from the command line only")
    if decision.approves:
        named = {deposit_id for deposit_id, _ in asked.deposits}
        # Fewer deposits than the case names may be given, and never others.
        if not {deposit_id for deposit_id, _, _ in decision.shares} <= named:
            raise Untrusted("the approval hands over a share of a deposit that the case does not name")
        # The index by the deposit's own policy. Without this, one officer could sign for another's
        # share and be counted in its place.
        held = {deposit_id: share_index(officer, made_under.get(deposit_id, policy.policy)) for deposit_id in named}
        if any(index != held[deposit_id] for deposit_id, index, _ in decision.shares):
            raise Untrusted("the approval hands over a share that is not the officer's own")
    return officer, decision


def require_quorum(
    case: Sign1,
    approvals: Iterable[Sign1],
    *,
    policy: SignedPolicy,
    excluded: Excluded,
    m: int,
    made_under: Mapping[bytes, Policy] = _NONE,
    known: dict[Sign1, Reading] | None = None,
) -> dict[bytes, dict[int, bytes]]:
    """Return, for each deposit of the case, {index: SHA-256(sealed_i)} of the officers who approve and count.

    Officers are counted as persons; an approval of somebody excluded, or about another case, is not counted, and it
    does not spoil the others. Who denies does not count, whatever else they signed. m: the strictest of the policies
    concerned. An approval counts for a deposit only with a share of that deposit. made_under: as for `read_decision`.
    known: what decisions came to in an earlier count of the same case under the same policies; this one adds to it.
    Raises QuorumNotMet, saying how many are missing and who was not counted and why; InvalidSignature for a signature
    that does not hold, which no honest row carries.
    """
    asked, known = read_case(case.payload), known if known is not None else {}
    readings: list[Reading] = []
    for statement in approvals:
        if statement not in known:
            known[statement] = _reading(statement, case=case, policy=policy, made_under=made_under)
        readings.append(known[statement])
    counted: dict[bytes, dict[int, bytes]] = {deposit_id: {} for deposit_id, _ in asked.deposits}
    read = [one for one in readings if not isinstance(one, str)]
    left_out = [one for one in readings if isinstance(one, str)]
    # All decisions are read before any is counted: whether the no came before or after the yes does not matter.
    denies = {officer.person for officer, decision in read if not decision.approves}
    for officer, decision in read:
        why = excluded.why(officer.person) or ("denies" if officer.person in denies else None)
        if why is not None:
            left_out.append(f"officer {officer.index} {why}")
            continue
        for deposit_id, index, sealed_hash in decision.shares:
            # The first of each index: an officer who approves twice is one point of the polynomial (FAULTS P2).
            counted[deposit_id].setdefault(index, sealed_hash)
    # The deposit with the fewest decides: a case is released whole, and with fewer
    # than m shares one of its keys would stay shut.
    fewest = min(len(shares) for shares in counted.values())
    if fewest < m:
        noted = f"; not counted: {', '.join(left_out)}" if left_out else ""
        raise QuorumNotMet(f"{fewest} of {m} officers approve{noted}")
    return counted


def _reading(statement: Sign1, *, case: Sign1, policy: SignedPolicy, made_under: Mapping[bytes, Policy]) -> Reading:
    try:
        return read_decision(statement, case=case, policy=policy, made_under=made_under)
    # Left out and not raised, or one junk row would keep a case closed for ever. A signature that does not hold is
    # raised: no honest row has one.
    except (Malformed, Untrusted) as error:
        return str(error)


def had_quorum(case: Sign1, approvals: Iterable[Sign1], *, policy: SignedPolicy, m: int) -> bool:
    """Tell whether m officers have signed for a case, whoever of them counts today.

    By their signatures alone: nothing that happens to an officer afterwards changes it. Neither requester, subject nor
    the recipient's person is one of them.
    """
    asked = Case.from_payload(case.payload)
    signed: set[bytes] = set()
    for statement in approvals:
        officer = policy.policy.officer(statement.kid)
        if officer is None:
            continue
        try:
            said = Approval.from_payload(statement.verify(officer.signing_key, purpose=Purpose.APPROVAL))
        except HoldfastError:
            continue
        if said.approves and hmac.compare_digest(said.case_hash, case.payload_hash):
            signed.add(officer.person)
    return len(signed - {asked.requester, asked.subject, asked.header.user}) >= m


def take_off_outer(
    outer: bytes, *, key: SealingKey, q: bytes, deposit_id: bytes, index: int, expected_hash: bytes
) -> bytes:
    """Have the release process take off the outer sealing; returns sealed_i, which only the recipient opens.

    Raises UnwrapFailed when it does not open, or is not what the officer signed for (FAULTS P3).
    """
    # The info names case, deposit and index, so a share uploaded for another case does not even open here.
    sealed = sealing.open_sealed(outer, key=key, info=_outer_info(q, deposit_id, index)).reveal()
    # Anybody can seal to a public key. The officer's signature says which bytes, and whoever swapped
    # them is found before the HSM is asked.
    if not hmac.compare_digest(hashlib.sha256(sealed).digest(), expected_hash):
        raise UnwrapFailed("the share is not the one that the officer signed for")
    return sealed


@dataclass(frozen=True)
class Recovered:
    """What a recipient got out of a release. blamed: indices of officers whose share was wrong."""

    archive_key: SecretBytes
    blamed: tuple[int, ...]


class ShareBlamed(UnwrapFailed):
    """Too few right shares; `indices` names the officers whose share was wrong."""

    def __init__(self, indices: Sequence[int], missing: int) -> None:
        self.indices = tuple(indices)
        super().__init__(
            f"the share of officer {', '.join(map(str, indices))} is wrong; {missing} more right share(s) needed"
        )


def combine(
    case: Sign1,
    deposit: Deposit,
    *,
    half: bytes,
    sealed_shares: Mapping[int, bytes],
    rsa_key: RecipientRsaKey,
    sealing_key: SealingKey,
    algorithm: str,
) -> Recovered:
    """Put the halves together on the recipient device, and check every commitment on the way.

    half: 384 bytes from the HSM, by the escrow key's algorithm. sealed_shares: {index: sealed_i}. A wrong share is laid
    to its officer and left out; with m right ones the key is opened all the same. Raises ShareBlamed when too few are
    right, UnwrapFailed when the HSM's half, the deposit or the key is not what was committed to.
    """
    q, deposit_id = case.payload_hash, deposit.header.deposit_id
    # A share is judged by itself before any arithmetic: combined first, one wrong
    # share would spoil all and name nobody.
    right: list[tuple[int, SecretBytes]] = []
    wrong: list[int] = []
    for index, sealed in sorted(sealed_shares.items()):
        if not 1 <= index <= deposit.header.n:
            wrong.append(index)  # nobody holds it; the server made it up
            continue
        try:
            share = sealing.open_sealed(sealed, key=sealing_key, info=_inner_info(q, deposit_id, index))
            deposit.require_share(index, share)
        except UnwrapFailed:
            wrong.append(index)
        else:
            right.append((index, share))
    if len(right) < deposit.header.m:
        raise ShareBlamed(wrong, deposit.header.m - len(right))
    # After the shares: the HSM's half is worth nothing without them, and a case with too few
    # right ones goes back to its officers.
    half_key = rsa_key.unwrap(half, hash_name=oaep_hash(algorithm))
    # Exactly m: more points on the polynomial add nothing, and the first m are as good as any.
    officers_half = combine_shares(right[: deposit.header.m])
    return Recovered(deposit.open(half=half_key, officers_half=officers_half), tuple(wrong))


def _index_in(deposit: Deposit, officer: Officer, policies: Mapping[bytes, SignedPolicy]) -> int | None:
    made_under = policies.get(deposit.header.policy_hash)
    if made_under is None:
        raise Untrusted("the deposit was made under a policy that is not known")
    # The deposit's own m and n could say less than its policy, so the officer's client holds it to that first.
    deposit.require_policy(made_under)
    return share_index(officer, made_under.policy)


def _inner_info(q: bytes, deposit_id: bytes, index: int) -> bytes:
    # The case is in it: what was sealed for one case opens for no later one, even at the same device.
    return label("release-share", q, deposit_id, index)


def _outer_info(q: bytes, deposit_id: bytes, index: int) -> bytes:
    return label("release-share-outer", q, deposit_id, index)
