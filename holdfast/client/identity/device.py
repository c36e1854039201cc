# SPDX-License-Identifier: Apache-2.0
"""Devices of one person: enrolment by a code, the first one's genesis, approval of the next.

Implements ORGANISATION "Devices" (enrolment) and PROTOCOL sections 2 and 5 on the device.
Does not publish pre-keys (`prekeys`), nor revoke (`rotation`), nor bring keys from one device to another (`vault`).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from holdfast.client.errors import Problem, TrustRefused, WrongInput, WrongWords
from holdfast.client.identity import chains, tenant
from holdfast.client.identity.tenant import TrustChange
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Device, Trust
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.text import fitted, says_nothing
from holdfast.core.base.words import as_typed, eight_words
from holdfast.core.crypto.keys import AgreementKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import DEFAULT_SUITE, Suite
from holdfast.core.identity import chain, chain_author
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import AddDevice, Entry
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from holdfast.core.signed.statements import MAX_NAME, DeviceStatement


@dataclass(frozen=True)
class Enrolment:
    """How an enrolment ended. is_active is False while another device, or a recovery, has to vouch for this one."""

    device: UUID
    is_active: bool
    trust: TrustChange
    words: tuple[str, ...]


@dataclass(frozen=True)
class ListedDevice:
    """One of the person's devices as the server lists it, and what the verified chain says of it.

    approved_by: the device that wrote it into the chain, by its own word; itself for the first. added_at: UTC seconds,
    0 for a device that was never in the chain.
    """

    device: UUID
    name: str
    state: str
    is_in_chain: bool
    is_this: bool
    words: tuple[str, ...]
    approved_by: UUID | None
    added_at: int


def device_words(statement: Sign1) -> tuple[str, ...]:
    """Return the 8 words by which two people, or one person with two screens, compare a device statement."""
    return eight_words(statement.payload_hash)


def enrol(
    account: Account,
    code: EnrolmentCode,
    *,
    name: str,
    suite: Suite = DEFAULT_SUITE,
    is_development: bool = False,
) -> Enrolment:
    """Make this device's keys, register them by a single-use code, and verify the tenant from the code's pin.

    name: cut to what a statement has room for, as `device_name` does. A user without a chain begins one, with this
    device in it; otherwise the device stays pending. Resumable: the keys are kept before they are sent, so a lost
    answer loses nothing; and what the server never registered is made anew for another code, name or suite. Raises
    TrustRefused when server and pin disagree: the device is then registered and trusts nobody.
    """
    if (code.tenant, code.person) != (account.tenant, account.user):
        raise WrongInput("The enrolment code is for another person or another tenant than this profile.")
    called = device_name(name)
    if _was_never_registered(account, code, called, suite):
        # What an earlier code pinned was never held to anything; nothing follows from it.
        account.state.device, account.state.trust = None, Trust()
    tenant.pin_root(account, pin=code.root_pin, is_development=is_development, root=code.founding_root)
    if account.state.device is None:
        account.state.device = make_device(account, suite=suite, name=called, enrolment_hash=code.hash)
        if code.log_vkey:
            account.state.trust.log_keys = [code.log_vkey]
        account.save()
    try:
        _register(account, code)
    except Problem as problem:
        if problem.code != "expired" or not _is_of_the_future(account):
            raise
        # Made before this machine's clock was set right: the server would refuse it until then, and the code is good.
        account.state.device = make_device(account, suite=suite, name=called, enrolment_hash=code.hash)
        account.save()
        account.sign_as_device()
        _register(account, code)
    change = tenant.refresh(account)
    state = chains.refresh(account)
    if state is None:
        state = _begin_chain(account)
    statement = Sign1.parse(account.device.statement)
    return Enrolment(UUID(bytes=account.device.id), account.device.is_active, change, device_words(statement))


def _is_of_the_future(account: Account) -> bool:
    return account.device_statement.header.issued_at > account.api.clock.now() + MAX_AHEAD_SECONDS


def device_name(text: str) -> str:
    """Return a name as a device statement takes it: at most 64 characters, cut where a character ends; never empty."""
    name = fitted(text, MAX_NAME)
    return "this device" if says_nothing(name) else name


def _was_never_registered(account: Account, code: EnrolmentCode, name: str, suite: Suite) -> bool:
    """Tell whether the device kept here was made for another code, name or suite, and the server never took it.

    Only of a profile without an account chain: with one, the device may be part of the account, and a server's word
    must not end that.
    """
    kept = account.state.device
    if kept is None or account.state.chain:
        return False
    try:
        said = DeviceStatement.from_payload(Sign1.parse(kept.statement).payload)
    except Malformed:
        # Made by an earlier program, which kept it before it had looked: no server takes it.
        return True
    if (said.enrolment_hash, said.name, said.suite) == (code.hash, name, suite):
        return False
    account.sign_as_device()
    return not _is_registered(account)


def make_device(account: Account, *, suite: Suite, name: str, enrolment_hash: bytes = b"") -> Device:
    """Make a device's keys and sign its statement with them; nothing is kept or sent.

    enrolment_hash: 32 bytes, of the code it enrols with; empty for a device that follows another by rotation.
    Raises ValueError for a name that no reader would take.
    """
    signing = SigningKey.generate(suite.signing_kind)
    agreement, sealing = AgreementKey.generate(suite.agreement_kind), SealingKey.generate()
    identifier = uuid4().bytes
    statement = DeviceStatement(
        header=Header(account.tenant, account.user, identifier, account.api.clock.earliest()),
        suite=suite,
        signing_key=signing.public,
        agreement_key=agreement.public,
        sealing_key=sealing.public,
        person=account.user,
        name=name,
        enrolment_hash=enrolment_hash,
    )
    signed = sign(statement.to_payload(), purpose=Purpose.DEVICE, key=signing)
    return Device(identifier, signing.seed(), agreement.seed(), sealing.seed(), signed.encode())


def ensure_identity_seed(account: Account) -> SecretBytes:
    """Return the seed of the identity key; the first time, make it and keep it before anybody hears of it.

    A second try after a lost answer announces the same key again.
    """
    if not len(account.state.identity_seed):
        account.state.identity_seed = SigningKey.generate(account.device_statement.suite.signing_kind).seed()
        account.save()
    return account.state.identity_seed


def _register(account: Account, code: EnrolmentCode) -> None:
    """Post the device once. A code works once, so after a lost answer the device itself asks whether it is known."""
    document = {
        "tenant_id": str(UUID(bytes=code.tenant)),
        "code_secret": b64u(code.secret.reveal()),
        "device_statement": b64u(account.device.statement),
    }
    account.api.credential = None
    try:
        answer = account.api.post("devices", document)
    except Problem as problem:
        account.sign_as_device()
        if not _is_registered(account):
            raise problem from None
        return
    account.sign_as_device()
    if answer.identifier("device_id") != account.device.id or answer.identifier("user_id") != account.user:
        raise TrustRefused("The server registered this device under another name than its own.")


def _is_registered(account: Account) -> bool:
    try:
        answer = account.api.get(f"devices/{account.device_text}")
    except Problem:
        return False
    return answer.octets("device_statement") == account.device.statement


def _begin_chain(account: Account) -> chain.ChainState:
    """Write genesis and `add device` in one upload: an account never exists without a device."""
    ensure_identity_seed(account)
    author = account.author()
    first = chain_author.genesis(tenant=account.tenant, user=account.user, by=author)
    state = chain.verify_chain([first], tenant=account.tenant, user=account.user)
    statement = Sign1.parse(account.device.statement)
    second = chain_author.add_device(state, by=author, device=account.device.id, statement_hash=statement.payload_hash)
    chains.upload(account, [first, second], None)
    accepted = chains.refresh(account)
    if accepted is None or accepted.hashes != (first.hash, second.hash):
        raise TrustRefused("The server shows another account chain than the one just begun.")
    return accepted


def list_devices(account: Account) -> list[ListedDevice]:
    """Return the person's devices, each held against their verified chain."""
    state = chains.refresh(account)
    entries = [Entry.parse(encoded) for encoded in account.state.chain]
    added = {entry.body.device: entry.header for entry in entries if isinstance(entry.body, AddDevice)}
    found = []
    for row in account.api.pages("devices", "devices", "device_id"):
        identifier = row.identifier("device_id")
        statement = fetch_statement(account, identifier)
        in_chain = state is not None and state.devices.get(identifier) == statement.payload_hash
        found.append(
            ListedDevice(
                device=UUID(bytes=identifier),
                name=DeviceStatement.from_payload(statement.payload).name,
                state=row.text("state"),
                is_in_chain=in_chain,
                is_this=identifier == account.device.id,
                words=device_words(statement),
                approved_by=UUID(bytes=added[identifier].device) if identifier in added else None,
                added_at=added[identifier].issued_at if identifier in added else 0,
            )
        )
    return found


def fetch_statement(account: Account, device: bytes) -> Sign1:
    """Return one device's statement, checked to be that device's own. Raises TrustRefused.

    That it belongs to a person, only that person's chain says.
    """
    answer = account.api.get(f"devices/{UUID(bytes=device)}")
    try:
        statement = Sign1.parse(answer.octets("device_statement"))
        read = DeviceStatement.open(statement)
    except HoldfastError as error:
        raise TrustRefused(f"The device's statement is not to be trusted: {error}.") from error
    if (read.header.tenant, read.header.device) != (account.tenant, device):
        raise TrustRefused("The server shows another device than the one asked for.")
    return statement


def approve(account: Account, device: UUID, *, words: tuple[str, ...]) -> None:
    """Write another device of the same person into their chain, after its 8 words were compared on both screens.

    words: as read on the new device. Raises WrongWords when they are not those of the device the server shows:
    that device is somebody else's.
    """
    statement = fetch_statement(account, device.bytes)
    if device_words(statement) != as_typed(words):
        raise WrongWords("These are not the words of the device that the server shows. Do not approve it.")
    if DeviceStatement.from_payload(statement.payload).header.user != account.user:
        raise TrustRefused("That device belongs to another person.")

    def write(state: chain.ChainState) -> list[Entry]:
        if device.bytes in state.devices:
            return []
        entry = chain_author.add_device(
            state, by=account.author(state), device=device.bytes, statement_hash=statement.payload_hash
        )
        return [entry]

    chains.append(account, write)


def new_identity_author(account: Account, seed: SecretBytes, state: chain.ChainState | None = None) -> Author:
    """Return who writes at `state` under a new identity key that is not the account's yet; None begins it anew."""
    return account.author_as(SigningKey.from_seed(account.device_statement.suite.signing_kind, seed), state)


@dataclass(frozen=True)
class IssuedCode:
    """A code that the server knows the hash of. text: what its person enrols with, a secret.

    awaits_second: whether it works only once a second person has confirmed it, who is told its id.
    """

    text: str
    code_id: UUID
    awaits_second: bool


def issue_code(account: Account, person: UUID) -> IssuedCode:
    """Issue an enrolment code for a person of this tenant, carrying this client's own pin.

    The server gets the code's hash only. For owners and officers; others get a Problem. One for another owner or
    officer takes a second person: `confirm_code`.
    """
    trust = account.state.trust
    if trust.founding_root is not None:
        # The founding may be over by now, and then the code carries the pin.
        tenant.refresh(account)
    code = EnrolmentCode.new(
        tenant=account.tenant,
        person=person.bytes,
        # A policy that was signed and not yet published is nobody else's pin.
        root_pin=b"" if trust.is_tofu or trust.founding_root is not None else trust.pin,
        log_vkey=trust.log_keys[0] if trust.log_keys else "",
        founding_root=trust.founding_root or b"",
    )
    answer = account.api.post("enrolment-codes", {"person_id": str(person), "code_hash": b64u(code.hash)})
    return IssuedCode(code.text(), UUID(bytes=answer.identifier("id")), answer.flag("awaits_second"))


def confirm_code(account: Account, code_id: UUID, person: UUID) -> None:
    """Be the second behind a code that another issued for this very person, an owner or officer.

    Whoever confirms counts as its issuer too. Raises a Problem for the issuer, the person, and whoever is behind them.
    """
    account.api.post(f"enrolment-codes/{code_id}/confirm", {"person_id": str(person)})


__all__ = [
    "Enrolment",
    "IssuedCode",
    "ListedDevice",
    "approve",
    "confirm_code",
    "device_name",
    "device_words",
    "enrol",
    "fetch_statement",
    "issue_code",
    "list_devices",
    "new_identity_author",
]
