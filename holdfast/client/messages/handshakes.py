# SPDX-License-Identifier: Apache-2.0
"""Sessions begun: by this device with a verified bundle, by another with an initial message verified here first.

Implements the handshake of PROTOCOL section 4 on `holdfast.core.messages.session`; FAULTS S12, S14.
Stores nothing: the caller stores what is returned here in one transaction with what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import TrustRefused
from holdfast.client.identity import peers
from holdfast.client.identity.peers import HiddenChain
from holdfast.client.messages import bundles, prekeys
from holdfast.client.messages.bundles import ClaimedBundle
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Device
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address, Place
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError, Untrusted
from holdfast.core.base.rows import octets, open_map, open_row, seal_row, uint
from holdfast.core.crypto.keys import AgreementKey
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages.bundle import is_move
from holdfast.core.messages.session import Incoming, InitialPart, Party, Session, read_message
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement

# A device that this one followed in a rotation of device keys, by its id: what was sent to it is still to be opened.
FORMER_DEVICE: Final = "former-device"
USED: Final = "used"
_LIES: Final = "Nothing of it was believed. Tell your officers: the server hands over what does not fit together."


@dataclass(frozen=True)
class Verified:
    """The two ends of a handshake, each as its own account chain has it at the head that the message names."""

    initiator: Party
    me: Party
    own: Device


@dataclass(frozen=True)
class Begun:
    """A session that an initial message began, its plaintext, and the id of the one-time key that it used up."""

    session: Session
    plaintext: bytes
    one_time_id: int | None


class MessageRefused(TrustRefused):
    """A message is wrong by itself: no other answer of the server would make it right."""


class OneTimeKeyReused(MessageRefused):
    """A one-time key came a second time: `first` is the message that it came with before (FAULTS S14).

    is_replay: it is the same handshake under other bytes, and not another sender's.
    """

    def __init__(self, key_id: int, first: bytes, *, is_replay: bool) -> None:
        super().__init__(
            f"One-time key {key_id} of this device was handed out to two senders.",
            way_out="It must go to one sender only, and the server sees to that. Both messages are kept as evidence: "
            "show them to your officers, and ask the second sender to write again.",
        )
        self.first = first
        self.is_replay = is_replay


class Replayed(Untrusted):
    """A handshake that has begun a session here before."""


def begin(account: Account, state: ChainState, claimed: ClaimedBundle) -> tuple[Place, Session]:
    """Begin a session with a device of the user of a verified chain. Raises TrustRefused when none can begin."""
    keys = claimed.keys
    peer = Party(statement=keys.device_bytes, device=keys.device, aik=state.aik, head=state.head)
    try:
        session = Session.initiate(
            me=account.me(),
            device_statement=Sign1.parse(account.device.statement),
            agreement=account.agreement_key,
            peer=peer,
            bundle=keys,
            now=account.api.clock.latest(),
        )
    except HoldfastError as error:
        raise TrustRefused(
            f"No session can begin with device {claimed.device}: {error}.",
            way_out="Ask the person which device that is. Two devices need suites of one family: 1 and 2, or 3 and 4.",
        ) from error
    place = Place(Address(state.user, claimed.device.bytes), session.id, account.device.id)
    return place, session


def verify(account: Account, initial: InitialPart, *, sender: Address, to_device: bytes) -> Verified:
    """Verify who begins a session: before any key of this device is touched, and asking the server for chains.

    sender: whom the server names. to_device: the own device that the message is for. Raises Malformed; MessageRefused
    when the message is another device's, or its device is not in its account's chain, then and now; PeerChanged while
    a human has to confirm the sender's account. Every other ClientError is a doubt about a chain or the log and says
    nothing against the message: HiddenChain while the server does not show a head that it names.
    """
    statement = DeviceStatement.open(initial.device_statement)
    _require_sender(account, statement, sender)
    theirs = peers.refresh(account, sender.user)
    _require_shown(account, sender.user, initial.initiator_head)
    if theirs.devices.get(sender.device) != initial.device_statement.payload_hash:
        raise MessageRefused(
            "The message is from a device that its owner's account does not list, or no longer.",
            way_out="Ask the sender, by another way, to write from a device of theirs.",
        )
    _require_suite(account, sender.user, statement)
    then = peers.as_of(account, sender.user, initial.initiator_head)
    own = own_device(account, to_device)
    return Verified(_party(then, initial.device_statement), _me(account, own, initial.responder_head), own)


def own_device(account: Account, device: bytes) -> Device:
    """Return this device, or the one that it followed, whose last messages still come. Raises MessageRefused."""
    if device == account.device.id:
        return account.device
    kept = account.store.get(FORMER_DEVICE, device)
    if kept is None:
        raise MessageRefused("The message is for another device than this one.", way_out=_LIES)
    return open_map(Device, kept, "former device")


def own_devices(account: Account) -> list[Device]:
    """Return this device and those that it followed until their grace is over: what was sealed to them still comes."""
    kept = (account.store.get(FORMER_DEVICE, key) for key in account.store.keys(FORMER_DEVICE))
    return [account.device, *(open_map(Device, row, "former device") for row in kept if row is not None)]


def _require_sender(account: Account, statement: DeviceStatement, sender: Address) -> None:
    header = statement.header
    if header.tenant != account.tenant:
        raise MessageRefused("The message is from a device of another tenant.", way_out=_LIES)
    if (header.user, header.device) != (sender.user, sender.device):
        raise MessageRefused(
            f"The message was made by a device of user {UUID(bytes=header.user)}, which is not the one named with it.",
            way_out=_LIES,
        )
    if sender.device == account.device.id:
        raise MessageRefused("The server returns this device's own message as one received.", way_out=_LIES)


def _require_suite(account: Account, user: bytes, statement: DeviceStatement) -> None:
    pinned = bundles.pinned_suite(account, user)
    if pinned is not None and not is_move(pinned, statement.suite):
        raise MessageRefused(
            f"The sender's device is of suite {int(statement.suite)}; the contact is held to suite {int(pinned)}.",
            way_out="Ask the sender whether that device is theirs, and to write from another one.",
        )


def _require_shown(account: Account, user: bytes, head: bytes) -> None:
    if not peers.knows(account, user, head):
        raise HiddenChain(
            "It rests on an account chain that the server does not show.",
            way_out="It is opened by itself once the server shows that. If this goes on, tell your officers.",
        )


def _party(state: ChainState, signed: Sign1) -> Party:
    statement = DeviceStatement.from_payload(signed.payload)
    if state.devices.get(statement.header.device) != signed.payload_hash:
        raise MessageRefused(
            "The message rests on a time when the account did not list the device.",
            way_out="Ask the sender to write again.",
        )
    return Party(statement=signed.payload, device=statement, aik=state.aik, head=state.head)


def _me(account: Account, own: Device, head: bytes) -> Party:
    """Return the own device at the head of its chain that the sender saw."""
    if not peers.knows(account, account.user, head):
        peers.refresh(account, account.user)
    _require_shown(account, account.user, head)
    return _party(peers.as_of(account, account.user, head), Sign1.parse(own.statement))


def has_keys(account: Account, initial: InitialPart) -> bool:
    """Whether this device still has the pre-keys that an initial message was made for."""
    one_time = initial.one_time_pre_key_id
    has_one_time = one_time is None or prekeys.one_time(account, one_time) is not None
    return has_one_time and prekeys.load_signed(account, initial.signed_pre_key_id) is not None


def respond(account: Account, incoming: Incoming, verified: Verified) -> Begun:
    """Open an initial message of a verified sender with this device's pre-keys, in the caller's transaction.

    Raises Untrusted for a pre-key that is not here, Replayed for a handshake seen before; OneTimeKeyReused and
    UnwrapFailed.
    """
    initial = incoming.initial
    if initial is None:
        raise Untrusted("this message begins no session")
    signed = prekeys.load_signed(account, initial.signed_pre_key_id)
    if signed is None:
        raise Untrusted("the message is for a signed pre-key that this device no longer has")
    one_time_id = initial.one_time_pre_key_id
    one_time = prekeys.one_time(account, one_time_id) if one_time_id is not None else None
    if one_time_id is not None and one_time is None:
        raise _spent(account, one_time_id, initial)
    session, plaintext = Session.respond(
        incoming,
        me=verified.me,
        agreement=AgreementKey.from_seed(verified.me.device.suite.agreement_kind, verified.own.agreement_seed),
        initiator=verified.initiator,
        signed=signed,
        one_time=one_time,
        now=account.api.clock.latest(),
    )
    if sessions.was_seen(account.store, session):
        raise Replayed("the message begins a session that has begun before: a replay")
    return Begun(session, plaintext, one_time_id)


@dataclass(frozen=True)
class _Used:
    """What a one-time key was used up by. until: UTC seconds at which nobody can send that message again."""

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    until: Annotated[int, uint()]
    message: Annotated[bytes, octets()]


def keep(account: Account, begun: Begun, place: Place, message: bytes) -> None:
    """Store a session that began here, and use up what it used up, in the transaction that stores its plaintext.

    message: the whole first message, kept beside the one-time key's id: should the key come a second time, the two
    prove that the server handed it out twice.
    """
    now = account.api.clock.latest()
    sessions.put(account.store, place, begun.session, was_received_on=True)
    sessions.remember_initial(account.store, place, begun.session, now=now)
    if begun.one_time_id is not None:
        prekeys.use_up(account, begun.one_time_id)
        used = _Used(now + sessions.INITIAL_LIFE_SECONDS, message)
        account.store.put(USED, begun.one_time_id.to_bytes(4, "big"), seal_row(used))


def _spent(account: Account, key_id: int, initial: InitialPart) -> HoldfastError | OneTimeKeyReused:
    kept = account.store.get(USED, key_id.to_bytes(4, "big"))
    if kept is None:
        return Untrusted("the message is for a one-time key that this device does not have")
    used = open_row(_Used, kept, "used one-time key")
    first = read_message(used.message).initial
    return OneTimeKeyReused(key_id, used.message, is_replay=first is not None and first.ephemeral == initial.ephemeral)
