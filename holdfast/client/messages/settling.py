# SPDX-License-Identifier: Apache-2.0
"""What devices are owed, sent: acknowledgements, a session begun anew where one is dead, and what was not read.

Implements "Acknowledged and sent again" of docs/formats/messages.md; FAULTS X2 and S9. Each message of this module is
for one device. It answers no acknowledgement, and what it cannot send now is owed still.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from holdfast.client.errors import ClientError, NotPossible, Problem, Unreachable
from holdfast.client.identity import key_log, peers
from holdfast.client.messages import bundles, handshakes, inbox, outbox, prekeys, renewals, reports, sent, unsent
from holdfast.client.messages.renewals import Renewal
from holdfast.client.messages.reports import ReportKind
from holdfast.client.messages.sent import Sent
from holdfast.client.messages.unsent import Unsent
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address, Place
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages import repeats
from holdfast.core.messages.content import (
    MAX_ACKNOWLEDGED,
    Content,
    ContentKind,
    LargeReference,
    acknowledgement_body,
)
from holdfast.core.messages.session import Session
from holdfast.core.signed.payloads import ID_SIZE

_NO_KEYS: Final = "That device has published no keys that a session could begin with."
# Refusals of one message, by which nothing is said about those behind it.
_OF_ITSELF: Final = outbox.REFUSED - {404}
# A part of the server is away: each request waits for it for some seconds, so that nobody else's turn comes before.
_AWAY: Final = frozenset({502, 503, 504})


def compose(
    account: Account,
    kind: ContentKind,
    body: bytes | LargeReference,
    conversation: bytes | None = None,
    *,
    message_id: bytes | None = None,
) -> Content:
    """Return a content that says, beside its body, what this device sees of its own account and of the key log."""
    return Content(
        kind=kind,
        message_id=secrets.token_bytes(ID_SIZE) if message_id is None else message_id,
        sent_at=account.api.clock.earliest(),
        body=body,
        conversation=conversation,
        checkpoint=key_log.own_checkpoint(account) or None,
        chain_head=account.chain.head,
    )


def settle(account: Account) -> None:
    """Send what is owed, device by device, as far as the server takes it. Raises nothing that it answers."""
    if not account.device.is_active:
        return
    _revise(account)
    _look_for_lost(account)
    try:
        prekeys.publish_first(account)
    except ClientError:
        return
    # Counted once: the server may name a thousand devices, and for each all of them would be looked through.
    begun = renewals.begun_of_all(account)
    # One's own devices first, while something is left of what may be begun in a day.
    for peer in sorted(renewals.peers(account.store), key=lambda peer: peer.user != account.user):
        try:
            _settle_with(account, peer, begun)
        except ClientError as error:
            if _is_away(error):
                return
            # It is owed still: the device has no keys, its mailbox is full, its account waits for a human's yes.
            continue


def follow(account: Account) -> None:
    """Look whether the devices are still there that were sent something and have not acknowledged it."""
    for user in sent.users(account.store):
        try:
            peers.current(account, user)
        except ClientError as error:
            if _is_away(error):
                return


def _is_away(error: ClientError) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, Problem) and error.status in _AWAY)


def _revise(account: Account) -> None:
    for user, waited_for in sent.devices_of_users(account.store).items():
        state = peers.find_known(account, user)
        if state is None:
            continue
        listed = [device for device in state.devices if device != account.device.id]
        if waited_for <= set(listed):
            continue
        with account.store.transaction():
            for device in sent.revise(account, user, listed):
                renewals.note_again(account, Address(user, device))


def _look_for_lost(account: Account) -> None:
    with account.store.transaction():
        for peer in sent.find_lost(account):
            renewals.note_again(account, peer)


def give_back(account: Account, before: int) -> int:
    """Owe once more what was sent until a time (UTC seconds) and is not acknowledged; returns to how many devices.

    A server that was put back may have lost it. The next `settle` sends it.
    """
    with account.store.transaction():
        found = sent.find_given_up(account, before)
        for peer in found:
            renewals.note_again(account, peer)
    return len(found)


def _settle_with(account: Account, peer: Address, begun: Counter[bytes]) -> None:
    try:
        state = peers.current(account, peer.user)
    except (NotPossible, Problem) as error:
        is_known = peer.user == account.user or peer.user in account.state.contacts
        if not is_known and (isinstance(error, NotPossible) or error.status == 404):
            # Nobody has this name: it is the server's word for a sender, and was never anything else.
            with account.store.transaction():
                renewals.forget(account.store, peer)
                inbox.comes_no_more(account, peer)
        raise
    peers.require_shown(account, peer.user)
    if peer.device not in state.devices:
        _hand_over(account, state, peer)
        return
    if unsent.is_paused(account, peer):
        return
    try:
        _greet(account, peer, _begin_anew(account, state, renewals.load(account.store, peer), begun))
        _acknowledge(account, peer)
        _send_again(account, state, peer, begun)
    except Unreachable:
        raise
    except ClientError as error:
        unsent.pause(account, peer, b"", error)
        raise
    unsent.resume(account.store, peer)


def _hand_over(account: Account, state: ChainState, peer: Address) -> None:
    """Owe nothing to a device that is gone; what it was to hear is said to those that may have followed it."""
    with account.store.transaction():
        ids = renewals.owed(account.store, peer)
        renewals.forget(account.store, peer)
        inbox.comes_no_more(account, peer)
        for device in state.devices:
            for message_id in ids if device != account.device.id else []:
                renewals.owe(account.store, Address(peer.user, device), message_id)


# A session begun anew


def _begin_anew(account: Account, state: ChainState, row: Renewal, begun: Counter[bytes]) -> Renewal:
    """Begin a session with a device whose messages do not open, unless that was done lately."""
    if not row.is_unread or not _may_begin(account, row, begun):
        return row
    place, session = _begin(account, state, row.peer, begun)
    with account.store.transaction():
        message = session.encrypt(compose(account, ContentKind.GREETING, b"").encode())
        sessions.put(account.store, place, session, was_received_on=False)
        return renewals.note_begun(account, row.peer, place, message)


def _greet(account: Account, peer: Address, row: Renewal) -> None:
    if not row.greeting:
        return
    try:
        _post(account, peer, row.greeting)
    except Problem as problem:
        _require_final(problem)
        _report(account, peer, problem)
    renewals.save(account, replace(row, greeting=b""))


def _may_begin(account: Account, row: Renewal, begun: Counter[bytes]) -> bool:
    """Whether one more key of a device may be claimed today: no device, user or crowd of strangers uses up the rest.

    begun: as `renewals.begun_of_all` counts.
    """
    if not repeats.may_begin(row.begun, account.api.clock.now(), is_confirmed=_is_confirmed(account, row)):
        return False
    user = row.peer.user
    if begun.total() >= repeats.MOST_BEGUN_OF_ALL:
        return False
    if user == account.user:
        return True
    if begun[user] >= repeats.MOST_BEGUN_OF_ONE:
        return False
    if _has_answered(account, user):
        return True
    with_strangers = sum(count for other, count in begun.items() if not _has_answered(account, other))
    return with_strangers < repeats.MOST_BEGUN_OF_STRANGERS


def _has_answered(account: Account, user: bytes) -> bool:
    """Whether a user is no stranger: one's own, or a device of theirs is known to have a session with this one."""
    found = (sessions.load(account.store, at, for_receiving=False) for at in sessions.places_of(account.store, user))
    return user == account.user or any(session is not None and session.is_confirmed for session in found)


def _is_confirmed(account: Account, row: Renewal) -> bool:
    """Whether a device is known to have the session begun anew with it last; so it is when it has others since."""
    for place in sessions.places(account.store, row.peer):
        if place.id == row.session and (begun := sessions.load(account.store, place, for_receiving=False)):
            return begun.is_confirmed
    return True


def _begin(account: Account, state: ChainState, peer: Address, begun: Counter[bytes]) -> tuple[Place, Session]:
    renewals.note_tried(account, peer)
    begun[peer.user] += 1
    newest, claimed = bundles.claim_devices(account, state, [peer.device])
    for bundle in claimed:
        if bundle.device.bytes == peer.device:
            return handshakes.begin(account, newest, bundle)
    raise NotPossible(_NO_KEYS, way_out=outbox.NO_DEVICE)


# Acknowledgements


def _acknowledge(account: Account, peer: Address) -> None:
    """Acknowledge what an app has taken, and answer a session begun anew, in one message; it begins no session."""
    row, now = renewals.load(account.store, peer), account.api.clock.now()
    ids = renewals.owed(account.store, peer)[:MAX_ACKNOWLEDGED]
    is_answer = row.is_greeted and repeats.may_answer(row.answered, now)
    if not ids and not is_answer:
        return
    found = sessions.newest(account, peer)
    if found is not None:
        said = compose(account, ContentKind.ACKNOWLEDGEMENT, acknowledgement_body(ids))
        kept = _encrypted(account, *found, b"", plaintext=said.encode(), ids=ids)
        ids = list(kept.acknowledged)
        try:
            _post(account, peer, kept.message)
        except Problem as problem:
            _require_final(problem)
            _report(account, peer, problem)
    with account.store.transaction():
        unsent.forget(account.store, peer, b"")
        # Without a session there is nobody who waits: a device that has one sends again what is not acknowledged.
        renewals.settle(account.store, peer, ids)
        if is_answer:
            renewals.save(account, replace(row, is_greeted=False, answered=(*row.answered, now), is_again=True))


# What was not read


def _send_again(account: Account, state: ChainState, peer: Address, begun: Counter[bytes]) -> None:
    """Send what a device has not acknowledged in the newest session, unless it went in that one already."""
    row = renewals.load(account.store, peer)
    if not row.is_again:
        return
    waiting, is_through = list(sent.waiting_for(account, peer)), True
    unsent.forget_others(account.store, peer, [one.key for one in waiting])
    if waiting:
        found = sessions.to_send(account, peer)
        if found and found[0].id == row.session and not found[1].is_confirmed:
            # Begun anew by this end, and not heard of yet: were it lost, so would be all that went in it.
            return
        if found is None and not _may_begin(account, row, begun):
            return
        place, session = found or _begin(account, state, peer, begun)
        for one in waiting:
            if one.session_with(peer.device) != place.id:
                is_through &= _send_one_again(account, place, session, one)
    if is_through:
        renewals.save(account, replace(renewals.load(account.store, peer), is_again=False))


def _send_one_again(account: Account, place: Place, session: Session, one: Sent) -> bool:
    """Send one message again. False where the server refuses it for now; those behind it are sent all the same."""
    peer, store = place.peer, account.store
    if unsent.is_paused(account, peer, one.key):
        return False
    what = sent.body(store, one)
    kept = _encrypted(account, place, session, one.key, plaintext=what.plaintext)
    try:
        _post(account, peer, kept.message, what.content)
    except Problem as problem:
        if problem.code not in outbox.FINAL:
            if problem.status not in _OF_ITSELF:
                raise
            unsent.pause(account, peer, one.key, problem)
            return False
        with store.transaction():
            sent.give_up_on(store, one, peer.device)
            unsent.forget(store, peer, one.key)
        _report(account, peer, problem, what.plaintext)
        return True
    with store.transaction():
        sent.sent_again(account, one, peer.device, place.id)
        unsent.forget(store, peer, one.key)
    return True


# One message to one device


def _encrypted(
    account: Account, place: Place, session: Session, what: bytes, *, plaintext: bytes, ids: Sequence[bytes] = ()
) -> Unsent:
    """Return a message as it was encrypted before, or encrypt it: once for each session, kept until it is taken."""
    if kept := unsent.find(account.store, place, what):
        return kept
    with account.store.transaction():
        row = Unsent(place.id, session.encrypt(plaintext), tuple(ids))
        sessions.put(account.store, place, session, was_received_on=False)
        unsent.keep(account.store, place.peer, what, row)
    return row


def _require_final(problem: Problem) -> None:
    if problem.code not in outbox.FINAL:
        raise problem


def _report(account: Account, peer: Address, problem: Problem, plaintext: bytes = b"") -> None:
    what = "A message" if plaintext else "A confirmation of what was received"
    otherwise = "Send it again if it still matters." if plaintext else "If this goes on, tell your operator."
    with account.store.transaction():
        reports.add(
            account,
            ReportKind.NOT_SENT,
            f"{what} could not be sent to device {UUID(bytes=peer.device)}: {problem}",
            way_out=problem.way_out or otherwise,
            user=peer.user,
            device=peer.device,
            evidence=(plaintext,) if plaintext else (),
        )


def _post(account: Account, peer: Address, message: bytes, content: bytes = b"") -> None:
    document = {"kind": "message", "message": b64u(message), **({"content": b64u(content)} if content else {})}
    account.api.post(f"devices/{UUID(bytes=peer.device)}/messages", document)
