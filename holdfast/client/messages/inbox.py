# SPDX-License-Identifier: Apache-2.0
"""Messages received: fetched, opened once, kept with the new session state in one transaction, then acknowledged.

Implements PROTOCOL section 4 (routing, the responder) and FAULTS S9, S11, S14 and S18.
Uses nothing of what a message says as an address; a message that does not open is kept aside and blocks nothing.
One that is wrong by itself is refused for good. A doubt about a chain or the log, or a contact whom nobody confirmed,
says nothing against the message: it is held and opened later. A server that does not answer ends the fetching.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused, ClientError, PeerChanged, Problem, TrustRefused, Unreachable
from holdfast.client.identity import key_log, peers, security_events
from holdfast.client.messages import handshakes, letters, quotas, renewals, reports, sent
from holdfast.client.messages.handshakes import MessageRefused, OneTimeKeyReused, Replayed
from holdfast.client.messages.inbox_rows import Envelope, Kept
from holdfast.client.messages.quotas import Quota
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address, Place
from holdfast.core.base.encoding import MAX_BLOB, encode
from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.base.rows import RowTooLong
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages.content import Content, ContentKind, open_large
from holdfast.core.messages.session import Incoming, Session, read_message

INBOX, HAD, HEARD, LEFT = "inbox", "had", "heard", "left"
_HELD: Final = "held"
# Messages that wait for a human's yes to their sender, or for the end of a doubt: 20 a day for the 50 days that nobody
# looks. Who writes more loses the oldest of their own, and strangers before contacts.
_HELD_QUOTA: Final = Quota(of_one=1000, of_all=4000)
SERVER_KEEPS_SECONDS: Final = 30 * 86_400  # as long as a message waits there
# What the server brings again after twice that does not open any more.
REMEMBER_SECONDS: Final = 2 * SERVER_KEEPS_SECONDS
# Senders whose chain is still in doubt, asked about in one fetch: a flood of made-up ones is not asked about for ever.
_MOST_DOUBTED: Final = 20
# Rows left on the server, whose large content did not come or whose kind is unknown: half a page, so others still come.
_MOST_LEFT: Final = 50
_PAGE: Final = 100  # messages in one answer: acknowledged together, so little is fetched twice after a cut
_MOST_PAGES: Final = 1000  # a full mailbox has fewer: a server that always has one more is left
_MAX_PAGE_ANSWER: Final = 10 * 1024 * 1024  # bytes: a page of the longest messages, in base64
_MAX_CONTENT: Final = 1024 * 1024  # bytes: what the server takes as large content
_DAY: Final = 86_400
# What the server refuses for good is laid to the message that asked for it; anything else ends the fetching.
_FINAL: Final = frozenset({400, 403, 404, 422})
# So many sessions of a day without a one-time key are no coincidence while this device keeps 25 to 100 on the server.
LAST_RESORT_ALARM: Final = 10

_ASK_AGAIN: Final = "Ask the sender to send it again. It is kept in this report as it came."
_FETCHED_AGAIN: Final = (
    "It stays on the server and is fetched again the next time. If this goes on, tell your officers."
)
_SENT_AGAIN: Final = (
    "Nothing to do: a session is begun anew with that device, which then sends again what was not read. If it has not "
    "come within two days, ask the sender to send it again. It is kept in this report as it came."
)


def comes_no_more(account: Account, sender: Address) -> None:
    """Say in what was refused of a device that it does not come again, in the caller's transaction: it is gone."""
    reports.change_way_out(account, sender.user, sender.device, _SENT_AGAIN, _ASK_AGAIN)


def collect(account: Account) -> None:
    """Fetch what waits for this device, open and keep all of it, and acknowledge it.

    Raises Unreachable and Problem when the server does not answer; what was kept before that is kept.
    """
    seen: set[bytes] = set()
    senders = _retry_held(account)
    for _ in range(_MOST_PAGES):
        answer = account.api.get("messages", query={"limit": str(_PAGE)}, maximum=_MAX_PAGE_ANSWER)
        rows = list(answer.many("messages", maximum=_PAGE))
        ids = [row.identifier("message_id") for row in rows]
        # A server that hands the same messages over for ever after they were acknowledged ends this, not the client.
        if seen.issuperset(ids):
            break
        taken = []
        for message_id, row in zip(ids, rows, strict=True):
            try:
                senders.add(_take(account, row))
            except _Left:
                continue
            taken.append(str(UUID(bytes=message_id)))
        with account.store.transaction():
            letters.trim(account)
        if taken:
            account.api.post("messages/ack", {"message_ids": taken})
        seen.update(ids)
        if not answer.flag("more"):
            break
    # Last, since a chain that has moved takes the sessions of revoked devices with it, and what those sent before.
    for user in sorted((senders - {b""}).union(peers.list_expected(account))):
        _follow(account, user)
    _compare_logs(account)


def _take(account: Account, row: Answer) -> bytes:
    """Keep one row of the mailbox, whatever it is, and return whose message it was, if it was one that opened.

    Nothing in it may keep the others from being taken. Raises _Left for a message that stays on the server.
    """
    try:
        if row.text("kind") == "message":
            return _take_message(account, row)
        with account.store.transaction():
            is_letter = letters.keep(account, row)
        if not is_letter:
            # A newer program may know it.
            what = hashlib.sha256(row.identifier("message_id")).digest()
            _leave(account, what, lambda: _report_row(account, "Something of an unknown kind is in the mailbox."))
    except AnswerRefused as error:
        with account.store.transaction():
            _report_row(account, str(error))
    except RowTooLong:
        # No size that the server takes makes one; what is behind it must come all the same.
        with account.store.transaction():
            _report_row(account, "The server hands over something larger than can be kept.")
    return b""


def _report_row(account: Account, text: str) -> None:
    reports.add(account, ReportKind.UNDECRYPTABLE, text, way_out="Update this program, or tell your officers.")


def _take_message(account: Account, row: Answer) -> bytes:
    envelope = Envelope(
        sender=Address(row.identifier("sender_user"), row.identifier("sender_device")),
        to_device=row.identifier("to_device"),
        message=row.octets("message", maximum=MAX_BLOB),
        received_at=row.time("received_at"),
    )
    has_content = row.flag("has_content")
    if account.store.get(HAD, envelope.hash) is not None or _is_held(account, envelope):
        return b""
    content = _content(account, row) if has_content else b""
    if has_content and not content:
        text = "The server withholds the large content of a message."
        kind, way_out = ReportKind.CONTENT_WITHHELD, _FETCHED_AGAIN
        _leave(account, envelope.hash, lambda: _report(account, envelope, text, kind, way_out=way_out))
    return _open(account, replace(envelope, content=content, lacks_content=has_content and not content))


def _content(account: Account, row: Answer) -> bytes:
    """Fetch large content before its message is acknowledged, with which it goes. b"" when the server has none now."""
    try:
        answer = account.api.get(f"messages/{UUID(bytes=row.identifier('message_id'))}/content")
        return answer.octets("content", maximum=_MAX_CONTENT)
    except AnswerRefused:
        return b""
    except Problem as problem:
        if problem.status != 404:
            raise
        return b""


class _Left(Exception):
    """A row stays in the mailbox, and is fetched again the next time."""


def _leave(account: Account, what: bytes, tell: Callable[[], None]) -> None:
    """Raise _Left while there is room for it, having told so the first time. what: 32 bytes that name the row.

    Above that the row is taken as it is: those that stay stand in the way of what comes behind them.
    """
    if account.store.get(LEFT, what) is None:
        with account.store.transaction():
            tell()
            if len(account.store.keys(LEFT)) >= _MOST_LEFT:
                return
            account.store.put(LEFT, what, _until(account, SERVER_KEEPS_SECONDS))
    raise _Left


def _retry_held(account: Account) -> set[bytes]:
    """Open what was held, now that its doubt may have passed or its human's yes come; returns whose messages opened.

    Of one sender, oldest first, until one is held again. Whom nobody here knows comes last, and in any order: whoever
    is in doubt for ever keeps nobody else from being asked about.
    """
    held: dict[bytes, list[Envelope]] = {}
    for key in account.store.keys(_HELD):
        kept = account.store.get(_HELD, key)
        assert kept is not None
        envelope = Envelope.from_secret(kept)
        contact = account.state.contacts.get(envelope.sender.user)
        if contact is None or not contact.unconfirmed:
            held.setdefault(envelope.sender.user, []).append(envelope)
    senders = list(held)
    random.SystemRandom().shuffle(senders)
    opened, doubted = set(), 0
    for user in sorted(senders, key=lambda user: user not in account.state.contacts):
        for envelope in held[user]:
            opened.add(_open(account, envelope))
            if _is_held(account, envelope):
                doubted += 1
                break
        if doubted >= _MOST_DOUBTED:
            break
    return opened


def _open(account: Account, envelope: Envelope) -> bytes:
    """Open a message and keep it, keep the refusal, or hold it as it came: each in one transaction.

    Returns the sender if it opened. Raises Unreachable and Problem when the server does not answer; _Left.
    """
    incoming, is_verified = None, False
    try:
        incoming = read_message(envelope.message)
        verified = _verify_sender(account, incoming, envelope)
        is_verified = True
        with account.store.transaction():
            session, plaintext = (
                _respond(account, envelope, incoming, verified) if verified else _decrypt(account, envelope, incoming)
            )
            _mark(account, envelope)
            renewals.note_opened(account, envelope.sender, session)
            _keep(account, envelope, session, plaintext)
    except OneTimeKeyReused as error:
        security_events.note(account, "A one-time key of this device was handed out to two senders.")
        _refuse(account, envelope, error, ReportKind.KEY_REUSED, error.first, is_unread=not error.is_replay)
    except (HoldfastError, MessageRefused) as error:
        is_unread = is_verified and not isinstance(error, Replayed)
        _refuse(account, envelope, error, ReportKind.UNDECRYPTABLE, is_unread=is_unread)
    except ClientError as error:
        if isinstance(error, Unreachable) or (isinstance(error, Problem) and error.status not in _FINAL):
            raise
        if incoming is None or incoming.initial is None or handshakes.has_keys(account, incoming.initial):
            _hold(account, envelope, error)
        else:
            # Nothing that the server may show later would open it.
            _refuse(account, envelope, error, ReportKind.UNDECRYPTABLE, is_unread=True)
    else:
        return envelope.sender.user
    return b""


def _verify_sender(account: Account, incoming: Incoming, envelope: Envelope) -> handshakes.Verified | None:
    """Verify the sender of an initial message; None for one whose session is here already."""
    if incoming.initial is None or incoming.initial_hash is None:
        return None
    if sessions.route(account.store, incoming.initial_hash) is not None:
        return None
    return handshakes.verify(account, incoming.initial, sender=envelope.sender, to_device=envelope.to_device)


def _respond(
    account: Account, envelope: Envelope, incoming: Incoming, verified: handshakes.Verified
) -> tuple[Session, bytes]:
    begun = handshakes.respond(account, incoming, verified)
    place = Place(envelope.sender, begun.session.id, envelope.to_device)
    handshakes.keep(account, begun, place, envelope.message)
    if begun.session.is_last_resort:
        _count_last_resorts(account)
    return begun.session, begun.plaintext


def _decrypt(account: Account, envelope: Envelope, incoming: Incoming) -> tuple[Session, bytes]:
    """Open a message of a session that is here: the one its initial part names, or each with the sender's device."""
    found = sessions.places(account.store, envelope.sender)
    if incoming.initial_hash is not None:
        routed = sessions.route(account.store, incoming.initial_hash)
        found = [place for place in found if place == routed]
    for place in found:
        session = sessions.load(account.store, place, for_receiving=True)
        if session is None:
            continue
        try:
            plaintext = session.decrypt(incoming, now=account.api.clock.latest())
        except UnwrapFailed:
            continue
        sessions.put(account.store, place, session, was_received_on=True)
        return session, plaintext
    if not found:
        raise MessageRefused("The message is of a session that this device does not have.", way_out=_ASK_AGAIN)
    raise MessageRefused("The message does not open in any session with the sender's device.", way_out=_ASK_AGAIN)


def _mark(account: Account, envelope: Envelope) -> None:
    """Remember that these bytes were dealt with: a lost acknowledgement brings them again."""
    account.store.put(HAD, envelope.hash, _until(account))
    account.store.delete(LEFT, envelope.hash)
    if not _is_held(account, envelope):
        return
    for key in _held_keys(envelope):
        account.store.delete(_HELD, key)
    if not any(key.startswith(envelope.sender.user) for key in account.store.keys(_HELD)):
        reports.forget_told(account, envelope.sender.user)


def _until(account: Account, seconds: int = REMEMBER_SECONDS) -> SecretBytes:
    return SecretBytes(encode([account.api.clock.latest() + seconds]))


def _keep(account: Account, envelope: Envelope, session: Session, plaintext: bytes) -> None:
    """Put what a message says into the inbox, or act on it when it is not for the person."""
    try:
        said = Content.decode(plaintext)
        conversation = _conversation(account, envelope, said)
    except (HoldfastError, ClientError) as error:
        _report(account, envelope, f"The message opened, but is not in the format: {error}.", ReportKind.UNDECRYPTABLE)
        return
    if said.chain_head is not None:
        peers.expect(account, envelope.sender.user, said.chain_head)
    if said.checkpoint is not None:
        key_log.hear(account, said.checkpoint)
    if said.kind is ContentKind.MOVED:
        assert isinstance(said.body, bytes)
        peers.expect(account, envelope.sender.user, said.body)
    if said.kind is ContentKind.GREETING:
        renewals.note_greeted(account, envelope.sender)
    if said.kind is ContentKind.ACKNOWLEDGEMENT:
        sent.acknowledge(account, envelope.sender, said.acknowledged)
    if said.kind in (ContentKind.BYTES, ContentKind.LARGE) and not _was_heard(account, envelope, said):
        _deliver(account, envelope, session, said, conversation)


def _conversation(account: Account, envelope: Envelope, said: Content) -> bytes:
    """Return the user whom a message is to or from. Only an own device may say that it was to somebody else."""
    if said.conversation is None:
        return envelope.sender.user
    if envelope.sender.user != account.user:
        raise MessageRefused("it claims to be a copy of this person's own message")
    return said.conversation


def _was_heard(account: Account, envelope: Envelope, said: Content) -> bool:
    """Whether the same content came already: sent again, it is delivered once."""
    # Earlier versions kept copies under their id alone.
    for name in (said.name, said.message_id):
        key = envelope.sender.user + name
        if account.store.get(HEARD, key) is None:
            continue
        if account.store.get(INBOX, key) is None:
            # The app has it, and what told the sender so was lost.
            renewals.owe(account.store, envelope.sender, said.name)
        return True
    return False


def _deliver(account: Account, envelope: Envelope, session: Session, said: Content, conversation: bytes) -> None:
    body, reference = (said.body, None) if isinstance(said.body, bytes) else (b"", said.body)
    if reference is not None and envelope.lacks_content:
        _report(account, envelope, "The server withholds the large content of a message.", ReportKind.CONTENT_WITHHELD)
        return
    if reference is not None and envelope.content:
        try:
            body, reference = open_large(envelope.content, reference), None
        except UnwrapFailed:
            text = "The large content of a message is not the one that its sender sealed."
            _report(account, envelope, text, ReportKind.CONTENT_WITHHELD)
            return
    kept = Kept(
        received_at=envelope.received_at,
        sender=envelope.sender,
        message_id=said.message_id,
        sent_at=said.sent_at,
        conversation=conversation,
        is_last_resort=session.is_last_resort,
        body=body,
        reference=reference,
    )
    key = envelope.sender.user + said.name
    account.store.put(INBOX, key, kept.to_secret())
    account.store.put(HEARD, key, _until(account))


def _follow(account: Account, user: bytes) -> None:
    """Fetch the chain of somebody who wrote, if it is not fresh or they have named a newer head than is known."""
    try:
        peers.current(account, user)
        peers.require_shown(account, user)
    except (PeerChanged, Problem, Unreachable):
        # What is kept is handed out all the same. A changed contact says so wherever it matters, and what could not be
        # asked now is asked before anything is sent to them.
        pass
    except (TrustRefused, AnswerRefused) as error:
        with account.store.transaction():
            reports.add(account, ReportKind.CHAIN_HIDDEN, str(error), way_out=error.way_out, user=user)


def _compare_logs(account: Account) -> None:
    """Hold the log heads that came inside messages against the one seen here."""
    try:
        key_log.compare_heard(account)
    except (Problem, Unreachable):
        pass  # they are kept, and compared the next time
    except (TrustRefused, AnswerRefused) as error:
        with account.store.transaction():
            reports.add(account, ReportKind.SPLIT_VIEW, str(error), way_out=error.way_out)


def _count_last_resorts(account: Account) -> None:
    if sessions.last_resorts_since(account.store, account.api.clock.now() - _DAY) == LAST_RESORT_ALARM:
        reports.add(
            account,
            ReportKind.LAST_RESORT,
            f"In one day, {LAST_RESORT_ALARM} sessions began without a one-time key.",
            way_out="Run `holdfast maintain`. If it finds one-time keys on the server, the server withholds them from "
            "your contacts: tell your officers.",
        )


def _held_keys(envelope: Envelope) -> tuple[bytes, bytes]:
    """Return where a message is held, and where it was held before senders had a quota."""
    return envelope.sender.user + envelope.hash, envelope.hash


def _is_held(account: Account, envelope: Envelope) -> bool:
    return any(account.store.get(_HELD, key) is not None for key in _held_keys(envelope))


def _hold(account: Account, envelope: Envelope, error: ClientError) -> None:
    """Keep a message as it came until it can be told whether it is good, and say so once for each reason."""
    user = envelope.sender.user
    with account.store.transaction():
        if not _is_held(account, envelope):
            account.store.put(_HELD, _held_keys(envelope)[0], envelope.to_secret())
            quotas.trim(account.store, _HELD, _HELD_QUOTA, is_known=account.state.contacts.__contains__)
    if isinstance(error, PeerChanged):
        kind, text = ReportKind.WAITING, f"A message waits until you have confirmed its sender. {error}"
    else:
        kind, text = ReportKind.IN_DOUBT, f"A message is held here unopened; nothing of it is lost. {error}"
    reports.add_once(account, user, kind, text, way_out=error.way_out, user=user)


def _refuse(
    account: Account, envelope: Envelope, error: Exception, kind: ReportKind, *before: bytes, is_unread: bool
) -> None:
    """Keep the refusal. is_unread: the device that is named may well have written it, and has to begin anew."""
    with account.store.transaction():
        _mark(account, envelope)
        text = str(error) if isinstance(error, ClientError) else f"The message cannot be opened: {error}."
        is_renewed = is_unread and renewals.note_unread(account, envelope.sender)
        is_told = is_renewed and kind is ReportKind.UNDECRYPTABLE
        way_out = _SENT_AGAIN if is_told else getattr(error, "way_out", "")
        _report(account, envelope, text, kind, *before, way_out=way_out)


def _report(
    account: Account, envelope: Envelope, text: str, kind: ReportKind, *before: bytes, way_out: str = ""
) -> None:
    reports.add(
        account,
        kind,
        text,
        way_out=way_out or _ASK_AGAIN,
        user=envelope.sender.user,
        device=envelope.sender.device,
        evidence=(*before, envelope.message),
    )
