# SPDX-License-Identifier: Apache-2.0
"""Messages on their way: encrypted for each device, stored beside the new session state, and only then sent.

Implements PROTOCOL section 4 (fan-out, state before ciphertext) and PROTOCOL section 5 (the stale-chain answer).
Does not know what a message says; `messages` makes contents, and `inbox` reads them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import ClientError, NotYet, Problem, ServerReadOnly, TrustRefused, Unreachable
from holdfast.client.identity import chains, peers
from holdfast.client.messages import bundles, handshakes, inbox, prekeys, sent
from holdfast.client.messages.bundles import ClaimedBundle
from holdfast.client.messages.reports import ReportKind, add
from holdfast.client.messages.sent import Body
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address, Place
from holdfast.client.waiting import Overtaken, retry
from holdfast.core.base.encoding import b64u
from holdfast.core.base.rows import octets, open_row, pair, seal_row, several, uint
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages.content import Content
from holdfast.core.messages.session import Session

OUTBOX: Final = "outbox"
_MAX_ROW: Final = 2 * 1024 * 1024  # bytes: large content and an envelope for each of 64 devices
# What the server says of the message's own bytes, and would say again: anything else may pass.
FINAL: Final = frozenset({"invalid", "invalid-json", "malformed", "malformed-request", "out-of-bounds", "too-large"})
# Refused otherwise, by what should pass: an account that is put back, a server that is older or newer. Not for ever.
_REFUSED_SECONDS: Final = 30 * 86_400
REFUSED: Final = frozenset({400, 404, 413, 422})


@dataclass
class Ready:
    """Everyone that a message for one user goes to: sessions with their devices, under the chain that lists them.

    without_keys: devices (16 bytes) that have published none, so that nobody can write to them yet.
    """

    state: ChainState
    chosen: dict[bytes, tuple[Place, Session]]
    without_keys: list[bytes]


@dataclass(frozen=True)
class Row:
    """One message in the outbox. key: of the row. act: the idempotency key, another one for each time it is encrypted.

    head: the chain head that it was encrypted for. plaintext: the content, should it have to be encrypted anew.
    content: large ciphertext, or b"". device: of one's own, in whose sessions it is encrypted.
    """

    ROW_SIZE: ClassVar = _MAX_ROW

    key: bytes
    act: Annotated[bytes, octets(16)]
    queued_at: Annotated[int, uint()]
    user: Annotated[bytes, octets(16)]
    head: Annotated[bytes, octets(32)]
    plaintext: Annotated[bytes, octets()]
    content: Annotated[bytes, octets()]
    envelopes: Annotated[tuple[tuple[bytes, bytes], ...], several(pair(octets(16), octets()), of=tuple)]
    device: Annotated[bytes, octets(16)]

    def document(self) -> dict[str, Any]:
        """Return what is posted."""
        envelopes = [
            {"device_id": str(UUID(bytes=device)), "message": b64u(message)} for device, message in self.envelopes
        ]
        content = {"content": b64u(self.content)} if self.content else {}
        return {"chain_head": b64u(self.head), "envelopes": envelopes, **content}

    def save(self, account: Account) -> None:
        """Write the row, in the transaction that writes the sessions it was encrypted with."""
        account.store.put(OUTBOX, self.key, seal_row(self))

    @classmethod
    def load(cls, account: Account, key: bytes) -> Row:
        """Read a row."""
        kept = account.store.get(OUTBOX, key)
        assert kept is not None
        return open_row(cls, kept, "outbox", key=key)


class _RefusedForGood(Exception):
    """The server refused a message itself, and would again. Caught by `flush`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass
class Flushed:
    """What became of the outbox, by the rows' keys. sent: with the devices (16 bytes each) that it went to in the end.

    waiting: what the next flush sends. refused: what is never sent, or not before a person acts (that waits as well).
    is_cut_off: the server did not answer, or takes nothing from anybody.
    """

    sent: dict[bytes, list[bytes]] = field(default_factory=dict)
    waiting: list[bytes] = field(default_factory=list)
    refused: dict[bytes, ClientError] = field(default_factory=dict)
    is_cut_off: bool = False


def prepare(account: Account, user: bytes, *, anew: bool = False) -> Ready:
    """Have a session with each active device of a user, this one left out; claims bundles where there is none.

    anew: begin a session with every device, whether there is one or not. Raises PeerChanged, TrustRefused.
    """
    state = _chain(account, user)
    begun: dict[bytes, tuple[Place, Session]] = {}

    def attempt() -> Ready:
        nonlocal state, begun
        devices = [device for device in state.devices if device != account.device.id]
        lacking = [
            device for device in devices if device not in begun and (anew or not _has_session(account, user, device))
        ]
        claimed: list[ClaimedBundle] = []
        if lacking:
            newest, claimed = bundles.claim_devices(account, state, lacking, refresh=_refresh)
            if newest.head != state.head:
                # They added or revoked a device in between: who is to get the message is looked at again.
                state, begun = newest, {}
                raise Overtaken
        begun |= {bundle.device.bytes: handshakes.begin(account, state, bundle) for bundle in claimed}
        return Ready(state, begun, [device for device in lacking if device not in begun])

    lost = TrustRefused("The server keeps naming newer chains than it shows.", way_out=_ENDLESS)
    return retry(attempt, lost=lost)


_ENDLESS: Final = "The message waits here and goes out by itself later. If this goes on, tell your officers."


def _has_session(account: Account, user: bytes, device: bytes) -> bool:
    return sessions.to_send(account, Address(user, device)) is not None


def _chain(account: Account, user: bytes) -> ChainState:
    """Return a user's chain, fetched lately; without a server, as it is known, for a message that waits here anyway."""
    if peers.is_fresh(account, user):
        return peers.current(account, user)
    try:
        return _refresh(account, user)
    except Unreachable:
        if (state := peers.find_known(account, user)) is None:
            raise
        return state


def _refresh(account: Account, user: bytes) -> ChainState:
    """Fetch a user's chain; what has come before is read first, for revoked devices' sessions go with the fetch."""
    inbox.collect(account)
    state = peers.refresh(account, user)
    peers.require_shown(account, user)
    return state


def queue(
    account: Account, ready: Ready, plaintext: bytes, *, content: bytes = b"", key: bytes = b"", queued_at: int = 0
) -> bytes | None:
    """Encrypt a message for everyone, and keep it with the new state of the sessions, in the caller's transaction.

    plaintext: an encoded content. key, queued_at: of a row that this one replaces. Returns the row's key, or None when
    nobody can be written to. Nothing has left this device then: `flush` sends.
    """
    envelopes, went = [], []
    for device in ready.state.devices:
        at = Address(ready.state.user, device)
        found = ready.chosen.get(device) or sessions.to_send(account, at)
        if device == account.device.id or device in ready.without_keys or found is None:
            continue
        place, session = found
        envelopes.append((device, session.encrypt(plaintext)))
        went.append((device, place.id))
        sessions.put(account.store, place, session, was_received_on=False)
    if not envelopes:
        return None
    row = Row(
        key=key or secrets.token_bytes(16),
        act=secrets.token_bytes(16),
        queued_at=queued_at or account.api.clock.latest(),
        user=ready.state.user,
        head=ready.state.head,
        plaintext=plaintext,
        content=content,
        envelopes=tuple(envelopes),
        device=account.device.id,
    )
    row.save(account)
    # Before it leaves: its acknowledgement may come before the answer to the request that sent it does.
    sent.keep(account, row.user, Body(plaintext, content), at=row.queued_at, places=went)
    return row.key


def flush(account: Account) -> Flushed:
    """Send what waits, oldest first, each as it was encrypted. What cannot be sent now stays; nothing is sent twice.

    Before a device has published its pre-keys it sends nothing, since nobody could answer: they are published first.
    """
    done = Flushed()
    keys = account.store.keys(OUTBOX)
    for at, key in enumerate(keys):
        try:
            prekeys.publish_first(account)
            done.sent[key] = _send(account, Row.load(account, key))
        except (Unreachable, ServerReadOnly):
            # Of a server that takes nothing, what it takes is not asked for message by message.
            done.waiting += keys[at:]
            done.is_cut_off = True
            break
        except _RefusedForGood as error:
            _give_up(account, key, error.problem)
            done.refused[key] = error.problem
        except Problem as problem:
            done.waiting.append(key)
            if problem.status in REFUSED or problem.status in (401, 403):
                done.refused[key] = problem
        except ClientError as error:
            done.waiting.append(key)
            done.refused[key] = error
    return done


def _send(account: Account, row: Row) -> list[bytes]:
    if row.device != account.device.id:
        # It has waited, and the keys of this device were replaced: nobody has its session with the new device.
        row = _anew(account, row, is_same_fine=True)
    if not peers.is_fresh(account, row.user) and _refresh(account, row.user).head != row.head:
        # It has waited, and its recipient's devices have changed: a server that took it as it is would get it wrong.
        row = _anew(account, row)

    def attempt() -> list[bytes]:
        nonlocal row
        try:
            account.api.post(f"users/{UUID(bytes=row.user)}/messages", row.document(), key=b64u(row.act))
        except Problem as problem:
            is_reused = problem.code == "idempotency-key-reused"
            if problem.code != chains.STALE and problem.field != "envelopes" and not is_reused:
                _require_passing(account, row, problem)
                raise
            row = _anew(account, row, is_same_fine=is_reused)
            raise Overtaken from problem
        account.store.delete(OUTBOX, row.key)
        return [device for device, _ in row.envelopes]

    lost = TrustRefused(
        "The server keeps saying that the recipient's devices have changed, and shows another set each time.",
        way_out=_ENDLESS,
    )
    return retry(attempt, lost=lost)


def _require_passing(account: Account, row: Row, problem: Problem) -> None:
    """Raise _RefusedForGood for a refusal of the message itself that will not pass, or has not passed in a month."""
    # By a confirmed time: a clock that jumps gives no message up.
    now = account.api.clock.confirmed()
    waited = now - row.queued_at if now is not None else 0
    if problem.code in FINAL or (problem.status in REFUSED and waited >= _REFUSED_SECONDS):
        raise _RefusedForGood(problem) from problem


def _anew(account: Account, row: Row, *, is_same_fine: bool = False) -> Row:
    """Encrypt a message again for the devices that its recipient has now. The answer's own head is not looked at.

    is_same_fine: also when they are those it was encrypted for. Otherwise the server is not believed that it was not,
    unless it is because devices with which there are sessions have no pre-keys there: those are left out.
    """
    peers.expire(account, row.user)
    ready = prepare(account, row.user)
    before = {device for device, _ in row.envelopes}
    after = {device for device in ready.state.devices if device != account.device.id} - set(ready.without_keys)
    if not is_same_fine and ready.state.head == row.head and before == after:
        keyless = [device for device in before if not bundles.has_keys(account, device)]
        if not keyless:
            raise TrustRefused(
                "The server says that the recipient's devices have changed, but shows no change.",
                way_out=_ENDLESS,
            )
        ready.without_keys += keyless
    with account.store.transaction():
        key = queue(account, ready, row.plaintext, content=row.content, key=row.key, queued_at=row.queued_at)
        if key is None:
            raise NotYet("That person has no device that can be written to yet. The message waits.", way_out=NO_DEVICE)
    return Row.load(account, key)


NO_DEVICE: Final = "Ask the person to run `holdfast maintain` on a device, which publishes its keys."


def _give_up(account: Account, key: bytes, problem: Problem) -> None:
    row = Row.load(account, key)
    with account.store.transaction():
        account.store.delete(OUTBOX, key)
        sent.forget(account.store, row.user, Content.decode(row.plaintext).name)
        add(
            account,
            ReportKind.NOT_SENT,
            f"A message could not be sent: {problem}",
            way_out=problem.way_out or "Send it again if it still matters.",
            user=row.user,
            evidence=(row.plaintext,),
        )
