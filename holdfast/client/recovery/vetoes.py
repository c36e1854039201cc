# SPDX-License-Identifier: Apache-2.0
"""A case about one's own archive forbidden, and the proof that the log has it: only then is the veto made.

Implements ESCROW "Case" (veto) for the subject, also on a device that was suspended. It hangs on nothing but the case
itself. It believes no word of the server's: the entry is held to a head that the tenant root's log key signed, to
whoever may write it, and to this device's own statement.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused, NotPossible, NotYet, Problem, TrustRefused, Unreachable
from holdfast.client.identity import tenant
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.waiting import wait_for
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError, Untrusted
from holdfast.core.identity.cases import Case, Veto, verify_veto
from holdfast.core.identity.roles import Roles, check_leaf
from holdfast.core.log.merkle import MAX_PROOF, leaf_hash, verify_inclusion
from holdfast.core.signed.cose import Purpose, Sign1, sign

_TAG: Final = "recovery:case:veto"
_MAX_NOTE: Final = 4096  # bytes: a head is 300, with room for a dozen witnesses
_MAX_LEAF: Final = 4096  # bytes: an entry about a veto is 400
_KEEP_AT_IT: Final = "Run the same command again: until the log has it, your veto is the server's word alone."


@dataclass(frozen=True)
class Vetoed:
    """A veto that the server took. state: the case's, in the server's word.

    index: the veto's place in the signed log, once its inclusion is proven; None until then. why_not: why it is not.
    """

    state: str
    index: int | None
    why_not: str = ""


def veto(account: Account, case_id: UUID, *, reason: str, wait_seconds: int = 0) -> Vetoed:
    """Forbid a case about one's own archive, signed by this device, and wait for the proof that the log has it.

    For whoever did not ask for it. A third one within 90 days, of cases that had their quorum, asks one officer more
    instead of ending the case. Repeatable: sent again, it only proves. Raises NotPossible for a case about somebody
    else, TrustRefused when the proof shows something else than this veto.
    """
    case = _read_case(account, case_id)
    statement = Veto(account.header(), case.payload_hash, reason)
    signed = sign(statement.to_payload(), purpose=Purpose.VETO, key=account.signing_key)
    answer = account.api.post(f"cases/{case_id}/veto", {"statement": b64u(signed.encode()), "reason": reason})
    state = answer.text("state")
    if account.roles is None:
        return Vetoed(state, None, "This installation has not said whose keys sign its log.")
    try:
        return Vetoed(state, wait_for(lambda: _prove(account, case_id, case), wait_seconds))
    except NotYet as error:
        return Vetoed(state, None, str(error))


def _read_case(account: Account, case_id: UUID) -> Sign1:
    """Fetch a case's statement, and see that it is this case, about this account.

    Nothing else of it is verified: whoever could make that fail, by a deposit or a device that does not fit, would keep
    the subject from forbidding it. What a veto of a false statement names is no case, and it forbids none.
    """
    answer = account.api.get(f"cases/{case_id}")
    try:
        statement = Sign1.parse(answer.octets("statement"))
        case = Case.from_payload(statement.payload)
    except HoldfastError as error:
        raise TrustRefused(f"The server shows no case: {error}.") from error
    if (case.header.tenant, case.case_id) != (account.tenant, case_id.bytes):
        raise TrustRefused("The server shows another case than the one asked for.")
    if case.subject != account.user:
        raise NotPossible("This case is not about your archive.", way_out="See yours: holdfast maintain")
    return statement


def _prove(account: Account, case_id: UUID, case: Sign1) -> int:
    try:
        answer = account.api.get(f"cases/{case_id}/veto")
    except Problem as problem:
        # Or the veto that counts is another device's, which has a proof of its own.
        if problem.status != 404:
            raise
        raise NotYet("The signed log does not show your veto yet.", way_out=_KEEP_AT_IT) from None
    # Where the newest cannot be had, those that are pinned prove it as well.
    with suppress(Problem, AnswerRefused, Unreachable):
        tenant.follow_log_keys(account)
    assert account.roles is not None
    try:
        return _proven_index(account, case_id, case, answer, account.roles.roles)
    except HoldfastError as error:
        raise TrustRefused(
            f"The log does not vouch for your veto: {error}.",
            way_out="Tell your officers at once, by another way than this server: your veto is kept from the log.",
        ) from error


def _proven_index(account: Account, case_id: UUID, case: Sign1, answer: Answer, roles: Roles) -> int:
    """Return the index at which the log has this device's veto. Raises HoldfastError when it is not proven."""
    # It may be one that this device made before: then that one is what the log has.
    veto = Sign1.parse(answer.octets("statement"))
    verify_veto(veto, case=case, device=Sign1.parse(account.device.statement))
    index, leaf = answer.number("leaf_index"), answer.octets("leaf", maximum=_MAX_LEAF)
    head = roles.open_head(answer.text("checkpoint", maximum=_MAX_NOTE))
    verify_inclusion(
        leaf_hash(leaf),
        index=index,
        size=head.size,
        proof=answer.many_octets("proof", maximum=MAX_PROOF),
        expected_root=head.root,
    )
    # As the release process reads it: an entry that it takes for wrong forbids nothing.
    entry = check_leaf(leaf, index=index, roles=roles)
    named = (entry.tag, entry.subject, entry.body.get("device"), entry.body.get("statement"))
    if named != (_TAG, str(case_id), str(UUID(bytes=account.device.id)), veto.payload_hash):
        raise Untrusted("its entry is about something else")
    return index
