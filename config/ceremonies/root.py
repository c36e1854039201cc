# SPDX-License-Identifier: Apache-2.0
"""The tenant root as a ceremony has it: a signer whose private half stays in the ceremony token.

Implements ESCROW "Keys". That everybody who pins a root pins this one is checked before anything is signed, and what it
signs about a policy or a key rests on no row: what leads there from the release process's pin counts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from django.conf import settings

from audit import journal
from config.ceremonies import CeremonyRefused
from config.hsm import hsm_config
from escrow import access as escrow_access
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.identity.policy import Policy, SignedPolicy
from holdfast.core.identity.trust import SignedTenantKey, TrustedTenant, verify_escrow_keys, verify_tenant
from holdfast.core.signed.cose import parse_many
from holdfast.core.signed.statements import EscrowKey
from hsm.backend import SigningPublicKey
from hsm.ceremony import Ceremony
from hsm.errors import HsmError
from kernel.scope import tenant_scope
from recovery.release.directory import Directory
from tenants.models import Tenant


@dataclass(frozen=True)
class TrustedEscrow:
    """The tenant's policies and escrow keys, oldest first, each reached from the release process's pin."""

    tenant: TrustedTenant
    keys: tuple[SignedTenantKey[EscrowKey], ...]


class RootSigner(Protocol):
    """What signs as the tenant root."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature of 64 bytes."""


@dataclass(frozen=True)
class RootKey:
    """The tenant root as a signer of statements."""

    ceremony: Ceremony
    tenant_id: UUID
    public: PublicKey

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature of 64 bytes."""
        return self.ceremony.sign_with_tenant_root(str(self.tenant_id), data)


def public_key(key: SigningPublicKey) -> PublicKey:
    """Read a signing key of the HSM as the protocol's."""
    kind = KeyKind.ED25519 if key.algorithm == "ed25519" else KeyKind.P256_SIGNING
    return PublicKey(kind, key.raw)


def release_directory(tenant_id: UUID) -> Directory:
    """Return the tenant's part of the release directory."""
    return Directory(settings.HOLDFAST_RELEASE_DIR, tenant_id)


def root_of(tenant: Tenant) -> RootKey:
    """Return the tenant's root. Raises CeremonyRefused when there is none, or somebody has pinned another."""
    ceremony = Ceremony(hsm_config())
    try:
        public = public_key(ceremony.tenant_root(str(tenant.pk)))
    except HsmError as error:
        raise CeremonyRefused(str(error)) from error
    pinned = {
        "The database": bytes(tenant.root_key or b"") or None,
        "The sequencer's directory": (key := journal.root_key(tenant.pk)) and key.encoded,
    }
    with suppress(FileNotFoundError):  # its founding has not come so far
        pinned["The release directory"] = release_directory(tenant.pk).trust().root_key.encoded
    for where, encoded in pinned.items():
        if encoded is not None and encoded != public.encoded:
            raise CeremonyRefused(
                f"{where} has another root for this tenant than the ceremony token. "
                "Look whether the HSM's home, the database and the directories belong to one installation."
            )
    return RootKey(ceremony, tenant.pk, public)


def trusted_escrow(tenant: Tenant) -> TrustedEscrow:
    """Follow the stored policies and escrow keys from what the release process trusts, checking every signature.

    Raises CeremonyRefused for what does not lead from there, or is older than what that process saw.
    """
    # The pin in the tenant's row is the database owner's word, and a policy's row the web process's.
    directory = release_directory(tenant.pk)
    trust = directory.trust()
    with tenant_scope(tenant.pk):
        policies = [parse_many(bytes(row.statement), max_size=MAX_BLOB) for row in escrow_access.policies()]
        withdrawals = [parse_many(one) for one in escrow_access.withdrawals()]
        keys = [parse_many(bytes(row.statement)) for row in escrow_access.escrow_keys()]
    try:
        trusted = verify_tenant(
            policies,
            tenant=tenant.pk.bytes,
            root_key=trust.root_key,
            pin=trust.pin,
            is_development=trust.is_development,
            seen=_highest(directory.seen_policies()),
            # What is stored was judged by the rules of its day.
            early=len(policies),
            withdrawals=withdrawals,
        )
        return TrustedEscrow(trusted, verify_escrow_keys(keys, trusted=trusted))
    except HoldfastError as error:
        raise CeremonyRefused(
            f"The stored policies and escrow keys do not lead from what the release process trusts ({error}). Stop: "
            "look who wrote the database, or which backup was put back."
        ) from error


def _highest(seen: list[bytes]) -> SignedPolicy | None:
    if not seen:
        return None
    first = parse_many(seen[-1], max_size=MAX_BLOB)[0]
    return SignedPolicy(Policy.from_payload(first.payload), first.payload_hash)
