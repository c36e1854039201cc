# SPDX-License-Identifier: Apache-2.0
"""The tenant root as a ceremony has it: a signer whose private half stays in the ceremony token.

Implements ESCROW "Keys". That everybody who pins a root pins this one is checked before anything is signed.
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
from holdfast.core.crypto.keys import KeyKind, PublicKey
from hsm.backend import SigningPublicKey
from hsm.ceremony import Ceremony
from hsm.errors import HsmError
from recovery.release.directory import Directory
from tenants.models import Tenant


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
