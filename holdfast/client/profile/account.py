# SPDX-License-Identifier: Apache-2.0
"""One person's account on this device: the profile, the signed connection, and the keys both are made of.

Implements the holder of the keys of PROTOCOL section 2; every other module of the client takes one.
Does not act by itself: enrolment, chains, escrow and recovery each have a module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from holdfast.client.errors import ProfileError, WrongInput
from holdfast.client.profile import keyring
from holdfast.client.profile.head import Head, new_key
from holdfast.client.profile.private_files import locked, make_private_directory
from holdfast.client.profile.sqlite_file import head_of
from holdfast.client.profile.state import Device, State
from holdfast.client.profile.state_rows import StateRows
from holdfast.client.profile.store import PROFILE_FILE, SqliteStore, Store
from holdfast.client.profile.turns import Standing, Turns, standing
from holdfast.client.profile.verified import VerifiedChains
from holdfast.client.server.clock import Clock
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KeyKind, PublicKey, SealingKey, SigningKey, decode_public_key
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.identity.roles import SignedRoles, verify_roles
from holdfast.core.identity.trust import SignedTenantKey, TrustedTenant, verify_escrow_keys, verify_tenant
from holdfast.core.messages.session import Party
from holdfast.core.signed.cose import Sign1, parse_many
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement, EscrowKey
from holdfast.core.vault.password_door import DEFAULT_COST, Argon2Cost

if TYPE_CHECKING:
    import httpx2

    from holdfast.client.server.transport import Api


class Account:
    """A profile that is open, and the server it belongs to.

    `state` is what `save` keeps; made without one, the account has what the store holds. Whatever must not be lost
    (a key just published, a deposit acknowledged) is saved by the module that made it, before it tells anybody.
    """

    def __init__(self, store: Store, state: State | None = None, api: Api | None = None) -> None:
        self.store = store
        self._rows = StateRows(store)
        self.state = self._rows.load() if state is None else state
        self.verified = VerifiedChains(store.tenant)
        self._api = api
        self._verified_tenant: tuple[tuple[object, ...], TrustedTenant] | None = None
        self._verified_key: tuple[tuple[tuple[bytes, ...], TrustedTenant], SignedTenantKey[EscrowKey]] | None = None
        self._verified_roles: tuple[tuple[bytes, bytes], SignedRoles] | None = None
        self._read_device: tuple[bytes, DeviceStatement] | None = None
        self._turns: tuple[bytes, Turns] | None = None

    @property
    def tenant(self) -> bytes:
        """The 16-byte tenant."""
        return self.store.tenant

    @property
    def user(self) -> bytes:
        """The 16-byte user, who is also the person."""
        return self.store.user

    @property
    def user_text(self) -> str:
        """The user's id as paths have it."""
        return str(UUID(bytes=self.user))

    def save(self) -> None:
        """Keep the state durably."""
        self._rows.save(self.state)

    # The connection

    @property
    def api(self) -> Api:
        """The server, addressed as this device. Raises ProfileError before enrolment."""
        if self._api is None:
            raise ProfileError("This profile knows no server yet.", way_out="Enrol it: `holdfast enrol`.")
        return self._api

    @property
    def clock(self) -> Clock:
        """The time as the connection corrects it; without one, this machine's own."""
        return self._api.clock if self._api is not None else Clock()

    def connect(
        self, server: str = "", *, transport: httpx2.BaseTransport | None = None, clock: Clock | None = None
    ) -> Api:
        """Address the profile's server, signing as this device once there is one.

        server: needed the first time; later it must be the same. A profile's pins belong to one server.
        """
        from holdfast.client.server.transport import Api, check_server  # the network, for who connects

        known = self.state.server
        if server and known and check_server(server) != known:
            raise WrongInput(f"This profile belongs to {known}.", way_out="Use another --profile for another server.")
        if not known and not server:
            raise ProfileError("This profile knows no server yet.", way_out="Enrol it: `holdfast enrol`.")
        self.state.server = known or check_server(server)
        self._api = Api(self.state.server, clock=clock, transport=transport)
        self.sign_as_device()
        return self._api

    def close(self) -> None:
        """Close the connection, if there is one, and the store."""
        if self._api is not None:
            self._api.close()
        self.store.close()

    def sign_as_device(self) -> None:
        """Sign every request from now on by the device's key, if the device exists."""
        from holdfast.client.server.transport import Credential

        if self.state.device:
            if self._turns is None or self._turns[0] != self.state.device.id:
                device = self.state.device.id
                self._turns = device, Turns(self.store, device, self.api.clock.earliest)
            self.api.credential = Credential(UUID(bytes=self.state.device.id), self.signing_key, self._turns[1])

    @property
    def turn(self) -> Standing:
        """What this profile knows of its openings, and of copies of it. Raises ProfileError before enrolment."""
        return standing(self.store, self.device.id)

    @property
    def is_copy_found(self) -> bool:
        """Whether an answer of this opening said that the profile is not the newest one."""
        return self._turns is not None and self._turns[1].is_broken

    # This device's keys

    @property
    def device(self) -> Device:
        """This device. Raises ProfileError before enrolment."""
        if self.state.device is None:
            raise ProfileError("This profile is not enrolled yet.", way_out="Enrol it: `holdfast enrol`.")
        return self.state.device

    @property
    def device_text(self) -> str:
        """The device's id as paths have it."""
        return str(UUID(bytes=self.device.id))

    @property
    def device_statement(self) -> DeviceStatement:
        """What this device says of itself."""
        signed = self.device.statement
        if self._read_device is None or self._read_device[0] != signed:
            self._read_device = signed, DeviceStatement.from_payload(Sign1.parse(signed).payload)
        return self._read_device[1]

    @property
    def signing_key(self) -> SigningKey:
        """The device's identity signing key ISK."""
        return SigningKey.from_seed(self.suite.signing_kind, self.device.signing_seed)

    @property
    def agreement_key(self) -> AgreementKey:
        """The device's identity agreement key IDK."""
        return AgreementKey.from_seed(self.suite.agreement_kind, self.device.agreement_seed)

    @property
    def sealing_key(self) -> SealingKey:
        """The device's X-Wing key."""
        return SealingKey.from_seed(self.device.sealing_seed)

    @property
    def suite(self) -> Suite:
        """The suite of this device."""
        return self.device_statement.suite

    def me(self) -> Party:
        """Return this device as both ends of a session see it, at the newest own chain head known here."""
        state = self.chain
        return Party(self.device_statement.to_payload(), self.device_statement, state.aik, state.head)

    @property
    def identity_key(self) -> SigningKey:
        """The account identity key AIK. Raises ProfileError on a device that does not hold it."""
        if not len(self.state.identity_seed):
            raise ProfileError(
                "This device does not hold your account's identity key.",
                way_out="Bring it from another device (holdfast devices pair), or recover it: holdfast recover --help",
            )
        return SigningKey.from_seed(self.suite.signing_kind, self.state.identity_seed)

    def header(self, *, issued_at: int | None = None, lasts_seconds: int = 0) -> Header:
        """Return the header of a statement by this device, issued now."""
        issued = self.api.clock.earliest() if issued_at is None else issued_at
        return Header(self.tenant, self.user, self.device.id, issued, issued + lasts_seconds if lasts_seconds else 0)

    def author(self, state: ChainState | None = None) -> Author:
        """Return who writes into the account chain at `state` (None before its genesis): this device under the AIK."""
        return self.author_as(self.identity_key, state)

    def author_as(self, key: SigningKey, state: ChainState | None = None) -> Author:
        """Return this device as author under another key: the recovery key, or an AIK that is to come.

        Dated now, or as the chain's latest entry where that lies in the future. Somebody's clock was wrong then, and
        an entry dated before it would be refused for as long as it was: not even a device could be revoked.
        """
        now = self.api.clock.earliest()
        return Author(self.device.id, max(now, state.time) if state else now, key)

    # What is pinned

    @property
    def trusted(self) -> TrustedTenant:
        """The tenant as reached from the pin. Raises ProfileError before anything was pinned."""
        trust = self.state.trust
        if not trust.policies:
            raise ProfileError("This profile has not verified its tenant yet.", way_out="Run `holdfast enrol` again.")
        # Verified again only when something of it has changed: m signatures for every policy there ever was.
        if self._verified_tenant is None or self._verified_tenant[0] != self._tenant_basis():
            self._remember_tenant(
                verify_tenant(
                    [read_many(statement) for statement in trust.policies],
                    tenant=self.tenant,
                    root_key=root_key_of(trust.root_key),
                    pin=trust.pin,
                    is_development=trust.is_development,
                    early=len(trust.policies),
                    withdrawals=[read_many(statement) for statement in trust.withdrawals or ()],
                )
            )
        assert self._verified_tenant is not None
        return self._verified_tenant[1]

    def trust_tenant(
        self, verified: TrustedTenant, *, pin: bytes, root_key: bytes, policies: list[bytes], withdrawals: list[bytes]
    ) -> None:
        """Hold the tenant from now on to what was just verified: from `pin` (32 bytes) to the newest of `policies`."""
        self.state.trust.pin, self.state.trust.root_key, self.state.trust.policies = pin, root_key, policies
        self.state.trust.withdrawals = withdrawals or None
        self._remember_tenant(verified)

    def _remember_tenant(self, verified: TrustedTenant) -> None:
        self._verified_tenant = self._tenant_basis(), verified

    def _tenant_basis(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...], bytes, bytes, bool]:
        trust = self.state.trust
        withdrawn = tuple(trust.withdrawals or ())
        return tuple(trust.policies), withdrawn, trust.root_key, trust.pin, trust.is_development

    @property
    def policies(self) -> tuple[SignedPolicy, ...]:
        """Every policy version that the pin leads to and that stands, oldest first; none before enrolment."""
        return self.trusted.standing if self.state.trust.policies else ()

    @property
    def escrow_key(self) -> SignedTenantKey[EscrowKey]:
        """The newest escrow key accepted. Raises ProfileError when the tenant has shown none."""
        history = tuple(self.state.trust.escrow_keys)
        if not history:
            raise ProfileError("This profile has accepted no escrow key.", way_out="See `holdfast escrow status`.")
        trusted = self.trusted
        if self._verified_key is None or self._verified_key[0] != (history, trusted):
            keys = verify_escrow_keys([read_many(statement) for statement in history], trusted=trusted)
            self._verified_key = (history, trusted), keys[-1]
        return self._verified_key[1]

    @property
    def roles(self) -> SignedRoles | None:
        """The newest word of the tenant root on whose keys write and sign its logs; None before there was one."""
        trust = self.state.trust
        if trust.roles is None:
            return None
        if self._verified_roles is None or self._verified_roles[0] != (trust.roles, trust.root_key):
            root_key = root_key_of(trust.root_key)
            found = verify_roles(Sign1.parse(trust.roles), tenant=self.tenant, root_key=root_key)
            self._verified_roles = (trust.roles, trust.root_key), found
        return self._verified_roles[1]

    @property
    def chain(self) -> ChainState:
        """The account chain as last verified. Raises ProfileError when there is none."""
        if not self.state.chain:
            raise ProfileError("This account has no chain yet.", way_out="Enrol a first device: `holdfast enrol`.")
        return self.verified.read(self.user, self.state.chain, policies=lambda: self.policies)


def read_many(statement: bytes) -> tuple[Sign1, ...]:
    """Read a statement of several signers as policies and tenant keys are sent. Raises Malformed."""
    return parse_many(statement, max_size=MAX_BLOB)


def root_key_of(encoded: bytes) -> PublicKey:
    """Read a tenant root key. Raises Malformed for any kind but Ed25519 and P-256."""
    return decode_public_key(encoded, expect=frozenset({KeyKind.ED25519, KeyKind.P256_SIGNING}))


def create(
    directory: Path,
    *,
    tenant: bytes,
    user: bytes,
    passphrase: SecretBytes | None = None,
    cost: Argon2Cost = DEFAULT_COST,
) -> Account:
    """Start a profile for one person, and write it. tenant, user: 16 bytes.

    passphrase: opens it, when the person chose one; without, the operating system's keyring keeps the key. Raises
    NotPossible when the directory holds a profile, MachineError when it is open to others or the machine has no keyring
    to trust, Unusable for a passphrase below 14 characters; no profile and no key is left behind.
    """
    make_private_directory(directory)
    head, key = Head.new(tenant=tenant, user=user), new_key()
    if passphrase is not None:
        head = head.with_door(key, passphrase=passphrase, cost=cost)
    else:
        keyring.keep(head.profile, key)
    try:
        store = SqliteStore.create(directory / PROFILE_FILE, key, head)
    except BaseException:
        if passphrase is None:
            keyring.forget(head.profile)
        raise
    account = Account(store, State())
    account.save()
    return account


@contextlib.contextmanager
def open_account(
    directory: Path, *, passphrase: SecretBytes | None = None, wait_seconds: float = 0
) -> Iterator[Account]:
    """Open the profile in a directory, keeping other programs out meanwhile.

    wait_seconds: how long to wait while another program is in. Raises ProfileBusy when it is in still, and what
    `open_profile` raises.
    """
    # Before the lock: stretching a passphrase takes its time, which nobody else should have to wait for.
    head = head_of(directory / PROFILE_FILE)
    key = _key(head, passphrase)
    with locked(directory, wait_seconds=wait_seconds):
        # Another program may have given the profile a new key while this one waited.
        if head_of(directory / PROFILE_FILE) != head:
            key = _key(head_of(directory / PROFILE_FILE), passphrase)
        account = _open(directory, key)
        try:
            yield account
        finally:
            account.close()


def open_profile(directory: Path, *, passphrase: SecretBytes | None = None) -> Account:
    """Open the profile in a directory with what its head says: its passphrase, or the operating system's keyring.

    Raises WrongPassphrase, ProfileError for none, a damaged one, or a passphrase missing, and MachineError for a
    profile that others may enter and for a keyring that is locked.
    """
    return _open(directory, _key(head_of(directory / PROFILE_FILE), passphrase))


def _key(head: Head, passphrase: SecretBytes | None) -> SecretBytes:
    if not head.has_passphrase:
        return keyring.fetch(head.profile)
    if passphrase is None:
        raise ProfileError("This profile is opened by its passphrase.", way_out="Give it: --passphrase-file FILE")
    return head.open_door(passphrase)


def _open(directory: Path, key: SecretBytes) -> Account:
    store = SqliteStore(directory / PROFILE_FILE, key)
    try:
        return open_store(store)
    except BaseException:
        store.close()
        raise


def change_key(
    directory: Path,
    *,
    passphrase: SecretBytes | None = None,
    new: SecretBytes | None = None,
    wait_seconds: float = 0,
) -> None:
    """Give a profile a new key, and encrypt all of it anew. passphrase: as it opens now; none for the keyring.

    new: the passphrase from now on; None for the operating system's keyring. wait_seconds: as of `open_account`. Raises
    WrongPassphrase, ProfileError, MachineError and Unusable as `create` and `open_profile` do, and the profile opens as
    before. The old key is destroyed.
    """
    with open_account(directory, passphrase=passphrase, wait_seconds=wait_seconds) as account:
        store = account.store
        assert isinstance(store, SqliteStore)
        old = store.head
        head, key = Head.new(tenant=account.tenant, user=account.user), new_key()
        if new is not None:
            head = head.with_door(key, passphrase=new)
        else:
            keyring.keep(head.profile, key)
        try:
            store.rekey(key, head)
        except BaseException:
            if new is None:
                keyring.forget(head.profile)
            raise
        if not old.has_passphrase:
            keyring.forget(old.profile)


def open_store(store: Store) -> Account:
    """Return the account whose state is in a store. Raises ProfileError when it has none or a damaged one."""
    return Account(store)


def asks_for_passphrase(directory: Path) -> bool:
    """Whether the profile in a directory is opened by a passphrase rather than by the keyring."""
    return head_of(directory / PROFILE_FILE).has_passphrase
