# SPDX-License-Identifier: Apache-2.0
"""Asking trusted contacts for their shares: a new device asks, contacts give to it, a live device objects.

Implements PROTOCOL section 6 (contacts door: return) and FAULTS R5, R7, R9, R14 on all three sides.
Does not impose the delay, and could not: the server does, and tells every live device and contact of the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import UUID

from holdfast.client.errors import NotPossible, NotYet, Problem, TrustRefused, WrongWords
from holdfast.client.identity import contacts
from holdfast.client.messages import messages
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.vault import doors, trusted, vault
from holdfast.core.base import typed
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.base.errors import Expired, HoldfastError, QuorumNotMet
from holdfast.core.base.rows import octets, open_row, seal_row, secret
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from holdfast.core.vault import contact_shares
from holdfast.core.vault.contact_shares import ContactShare
from holdfast.core.vault.contacts_door import open_contacts_door
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import MAX_REQUEST_SECONDS, Manifest, ShareRequest

# The request this device made: [request, seed of the key that shares come back to, id].
_OWN: Final = ("share-request", b"")
_PATH: Final = "recovery/contacts/requests"
_OVER: Final = frozenset({"vetoed", "cancelled", "expired"})
_MAX_REQUEST: Final = 4 * 1024 * 1024  # bytes of an answer: a request with a share of each of sixteen contacts


@dataclass(frozen=True)
class OpenRequest:
    """A request as its maker sees it. code: six groups of five digits, to be read to each contact by voice.

    Shares can be collected from not_before on (UTC seconds); k of the n contacts have to give theirs.
    """

    request_id: UUID
    code: tuple[str, ...]
    k: int
    contacts: tuple[bytes, ...]
    state: str
    answered: int
    not_before: int
    expires_at: int


@dataclass(frozen=True)
class Asked:
    """A request as a contact sees it: whose, and until when. The code is not here: its owner reads it out."""

    request_id: UUID
    owner: bytes
    state: str
    asked_at: int
    expires_at: int
    holds_share: bool


@dataclass(frozen=True)
class Pending:
    """A request in one's own name, as a live device sees it. device: which asks (16 bytes), by its own word."""

    request_id: UUID
    device: bytes
    state: str
    answered: int
    not_before: int
    expires_at: int


@dataclass(frozen=True)
class Gathered:
    """What contacts gave: the vault as opened, and the contacts whose share was wrong."""

    vault: vault.OpenedVault
    blamed: list[bytes] = field(default_factory=list)


# The new device


def open_request(account: Account) -> OpenRequest:
    """Ask the trusted contacts, as the account chain names them, for their shares; the open request, if there is one.

    Raises NotPossible for an account without contacts, TrustRefused for a list of contacts that is not theirs.
    """
    kept = _load_own(account)
    if kept is not None and kept[2]:
        with contextlib.suppress(_Unknown):
            found = request_status(account)
            if found.state not in _OVER:
                return found
    if kept is None or kept[2] or not _is_of_today(account, kept[0].header):
        request, key = ShareRequest.new(
            account.header(lasts_seconds=MAX_REQUEST_SECONDS),
            device_hash=Sign1.parse(account.device.statement).payload_hash,
            manifest_hash=trusted.fetch_manifest(account).hash,
        )
        # Kept before it is sent: a share that came back to a lost key would be a contact's trouble for nothing.
        _keep(account, request, key, b"")
    else:
        # Sent before, and the answer was lost: the same request again is the same one to the server.
        request, key, _unknown = kept
    answer = account.api.post(_PATH, {"request": b64u(request.to_payload())})
    _keep(account, request, key, answer.identifier("request_id"))
    return request_status(account)


def _is_of_today(account: Account, header: Header) -> bool:
    """Whether the server would take a request of this date: it has not expired, and is not of the future."""
    clock = account.api.clock
    return header.issued_at <= clock.earliest() + MAX_AHEAD_SECONDS and clock.latest() < header.expires_at


@dataclass(frozen=True)
class _OwnRow:
    """This device's request, the seed of the key it asks under, and its id, empty until the server has confirmed it."""

    request: Annotated[bytes, octets()]
    key_seed: Annotated[SecretBytes, secret(32)]
    id: Annotated[bytes, octets(0, 16)]


def _keep(account: Account, request: ShareRequest, key: SealingKey, request_id: bytes) -> None:
    account.store.put(*_OWN, seal_row(_OwnRow(request.to_payload(), key.seed(), request_id)))


def _load_own(account: Account) -> tuple[ShareRequest, SealingKey, bytes] | None:
    """Return this device's request, its key, and its id or b"" while the server has not confirmed it."""
    value = account.store.get(*_OWN)
    if value is None:
        return None
    row = open_row(_OwnRow, value, "share request")
    return ShareRequest.from_payload(row.request), SealingKey.from_seed(row.key_seed), row.id


def _own(account: Account) -> tuple[ShareRequest, SealingKey, UUID]:
    kept = _load_own(account)
    if kept is None or not kept[2]:
        raise NotPossible(
            "This device has not asked your trusted contacts.", way_out="Ask them: holdfast recover contacts"
        )
    return kept[0], kept[1], UUID(bytes=kept[2])


def request_status(account: Account) -> OpenRequest:
    """Say how far this device's request is, in the server's word but for the code."""
    request, _key, request_id = _own(account)
    manifest = _manifest_of(account, request)
    answer = _fetch(account, request_id)
    return OpenRequest(
        request_id=request_id,
        code=tuple(request.code),
        k=manifest.k,
        contacts=manifest.contacts,
        state=answer.text("state"),
        answered=answer.number("answered"),
        not_before=answer.time("not_before"),
        expires_at=answer.time("expires_at"),
    )


class _Unknown(NotPossible):
    """The server does not know this device's request: above all one that was put back from a backup."""


def _fetch(account: Account, request_id: UUID) -> Answer:
    try:
        return account.api.get(f"{_PATH}/{request_id}", maximum=_MAX_REQUEST)
    except Problem as problem:
        if problem.status != 404:
            raise
    raise _Unknown(
        "The server does not know this device's request: it was lost with a backup, or has ended long ago.",
        way_out="Ask your trusted contacts again: holdfast recover contacts",
    )


def _manifest_of(account: Account, request: ShareRequest) -> Manifest:
    manifest = trusted.fetch_manifest(account)
    if manifest.hash != request.manifest_hash:
        raise NotPossible(
            "Your trusted contacts were changed since this device asked them.",
            way_out="Withdraw the request and ask again: holdfast recover contacts --again",
        )
    return manifest


def cancel_request(account: Account) -> None:
    """Withdraw this device's request, and destroy the key that shares would have come back to.

    Also of one that has ended, or that the server does not know: the device is free to ask anew.
    """
    _request, _key, request_id = _own(account)
    try:
        account.api.post(f"{_PATH}/{request_id}/cancel", {})
    except Problem as problem:
        if problem.status not in (404, 409):
            raise
    account.store.delete(*_OWN)


def gather(account: Account) -> Gathered:
    """Put together the shares that contacts gave, and open the vault by the contacts door.

    A wrong share is laid to its contact and left out; another contact's takes its place. Raises NotYet while the
    delay runs or right shares are too few, NotPossible when the request was vetoed, withdrawn or is over.
    """
    request, key, request_id = _own(account)
    manifest = _manifest_of(account, request)
    answer = _fetch(account, request_id)
    state = answer.text("state")
    if state in _OVER:
        raise NotPossible(f"The request is {state}.", way_out=_after(state))
    if "shares" not in answer:
        raise NotYet("The delay still runs; nothing can be collected yet.", way_out="Ask again later, or with --wait.")
    right, blamed = _sort_shares(request, manifest, key, answer)
    try:
        secret = contact_shares.combine(manifest, right)
    except QuorumNotMet:
        wrong = f" The share of {_name_people(blamed)} is wrong." if blamed else ""
        raise NotYet(
            f"{len(right)} of {manifest.k} contacts have given a right share.{wrong}",
            way_out="Call another of your contacts, and read the code out; this device keeps waiting.",
        ) from None
    except HoldfastError as error:
        raise _door_refused(error) from error
    found = vault.find(account)
    opened = vault.open_found(account, found, _through_door(account, manifest, secret, found.header.epoch))
    account.store.delete(*_OWN)
    return Gathered(opened, blamed)


def _after(state: str) -> str:
    if state == "vetoed":
        return "A device of yours objected. If that was not you, somebody holds it: tell your officers."
    return "Ask again: holdfast recover contacts"


def _sort_shares(
    request: ShareRequest, manifest: Manifest, key: SealingKey, answer: Answer
) -> tuple[dict[bytes, ContactShare], list[bytes]]:
    """Return the right shares by contact, and the contacts whose share is wrong."""
    right: dict[bytes, ContactShare] = {}
    blamed: list[bytes] = []
    for row in answer.many("shares", maximum=16):
        contact, sealed = row.identifier("contact"), row.octets("sealed", maximum=MAX_BLOB)
        try:
            share = contact_shares.open_answer(sealed, request=request, manifest=manifest, contact=contact, key=key)
        except HoldfastError:
            blamed.append(contact)
            continue
        right[contact] = share
    return right, [contact for contact in blamed if contact not in right]


def _name_people(people: Sequence[bytes]) -> str:
    return ", ".join(str(UUID(bytes=person)) for person in people)


def _through_door(account: Account, manifest: Manifest, secret: SecretBytes, epoch: int) -> SecretBytes:
    blob = doors.fetch_door(account, doors.CONTACTS)
    owner = DoorOwner(account.tenant, account.user, epoch)
    try:
        manifest.require_door(blob)
        return open_contacts_door(blob, secret=secret, set_id=manifest.set_id, owner=owner)
    except HoldfastError as error:
        raise _door_refused(error) from error


def _door_refused(error: HoldfastError) -> TrustRefused:
    return TrustRefused(
        f"The contacts door does not open with right shares: {error}.",
        way_out="It is of another vault key, or was changed on the server: use another door, and tell your officers.",
    )


# A contact


def list_requests(account: Account) -> list[Asked]:
    """Return the requests of people for whom this person may hold a share, as the server lists them.

    A share that waits in the mailbox is taken first.
    """
    found = []
    asked = [(row, _read(row)) for row in account.api.pages(_PATH, "requests", "request_id", query={"role": "contact"})]
    held = _held_for(account, [request for _, request in asked])
    for row, request in asked:
        if request.header.tenant != account.tenant:
            continue
        found.append(
            Asked(
                request_id=UUID(bytes=row.identifier("request_id")),
                owner=request.header.user,
                state=row.text("state"),
                asked_at=request.header.issued_at,
                expires_at=request.header.expires_at,
                holds_share=request.manifest_hash in held,
            )
        )
    return found


def _held_for(account: Account, asked: Sequence[ShareRequest]) -> set[bytes]:
    """Return the manifests of the shares held, after taking from the mailbox those that are asked for and not here."""

    def held() -> set[bytes]:
        return {share.manifest.hash for share in trusted.load_held_shares(account)}

    if {request.manifest_hash for request in asked} <= held():
        return held()
    # All of the mailbox: a letter may stand behind more messages than come at once.
    messages.receive(account)
    trusted.take_shares(account)
    return held()


def _read(row: Answer) -> ShareRequest:
    try:
        return ShareRequest.from_payload(row.octets("request", maximum=MAX_BLOB))
    except HoldfastError as error:
        raise TrustRefused(f"The server shows a request that is none: {error}.") from error


def give(account: Account, request_id: UUID, *, code: Sequence[str]) -> None:
    """Give the share kept for somebody to the device that asks for it.

    code: the six groups of five digits as heard from that very person, by voice or face to face: it is their voice
    that says who asks, and the digits that say which device. Raises WrongWords when they are not those of the request
    that the server shows: somebody else asks.
    """
    request = _read(account.api.get(f"{_PATH}/{request_id}"))
    owner = request.header.user
    if typed.ungrouped("".join(code)) != "".join(request.code):
        raise WrongWords(
            "These are not the digits of the request that the server shows. Nothing was given.",
            way_out="Hear them again from the person. If they still differ, somebody else asks in that name: give "
            "nothing, and tell your officers.",
        )
    contacts.refresh(account, owner)
    _held_for(account, [request])
    kept = next(
        (share for share in trusted.load_held_shares(account) if share.manifest.hash == request.manifest_hash), None
    )
    if kept is None or kept.manifest.header.user != owner:
        raise NotPossible(
            "You hold no share of the set that is asked for.",
            way_out="On the device where you had it, run `holdfast maintain`; the person may also ask another contact.",
        )
    try:
        sealed = contact_shares.answer_request(
            kept.share, request=request, manifest=kept.manifest, contact=account.user, now=account.api.clock.latest()
        )
    except Expired:
        raise NotPossible("The request has expired.", way_out="The person has to ask again.") from None
    except HoldfastError as error:
        raise TrustRefused(f"The request does not fit the share you hold: {error}.") from error
    account.api.post(f"{_PATH}/{request_id}/shares", {"sealed": b64u(sealed)})


# A live device of the owner


def requests(account: Account) -> list[Pending]:
    """Return the requests made in one's own name."""
    found = []
    for row in account.api.pages(_PATH, "requests", "request_id", query={"role": "owner"}):
        request = _read(row)
        found.append(
            Pending(
                request_id=UUID(bytes=row.identifier("request_id")),
                device=request.header.device,
                state=row.text("state"),
                answered=row.number("answered"),
                not_before=row.time("not_before"),
                expires_at=row.time("expires_at"),
            )
        )
    return found


def veto(account: Account, request_id: UUID) -> None:
    """Object to a request in one's own name: no share is handed out by it any more."""
    account.api.post(f"{_PATH}/{request_id}/veto", {})
