# SPDX-License-Identifier: Apache-2.0
"""Whose keys vouch for entries: those of this process's role, and those that the tenant root names.

Implements ESCROW "What it believes of the log". A process holds the key of its own role and of no other; one that holds
none appends nothing, so its acts do not happen (FAULTS L1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from uuid import UUID

from audit import access, journal
from audit.errors import AuditUnavailable, RolesMissing
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import PublicKey, SigningKey
from holdfast.core.crypto.wrapping import hkdf
from holdfast.core.identity.roles import SignedRoles, verify_roles
from holdfast.core.log.writers import WRITERS, Role
from holdfast.core.signed.cose import Sign1

# How a process gets its keys: called once, when the first entry is signed.
Opener = Callable[[], Mapping[Role, SigningKey]]
_opener: Opener = dict
_keys: Mapping[Role, SigningKey] | None = None


def install(opener: Opener) -> None:
    """Say once, at start, where this process finds the keys of its role."""
    global _opener, _keys
    _opener, _keys = opener, None


def key_for(tag: str) -> SigningKey:
    """Return the key of this process that vouches for an entry of this tag.

    Raises AuditUnavailable for a role that may not write it, and where the keys are missing: nothing is done then.
    """
    keys = _opened()
    for role in WRITERS.get(tag, ()):
        if role in keys:
            return keys[role]
    raise AuditUnavailable(f"No key of this process's role may write {tag}.")


def derived_key(role: Role, info: bytes) -> SecretBytes | None:
    """Return 32 bytes that only processes of a role have, for what info names; None in a process of another role.

    HKDF-SHA256 of the role's private key, RFC 5869: it says nothing about that key.
    """
    key = _opened().get(role)
    return hkdf(salt=b"", ikm=key.seed(), info=info, length=32) if key is not None else None


def _opened() -> Mapping[Role, SigningKey]:
    global _keys  # noqa: PLW0603 — opened once, when first asked for
    if _keys is None:
        _keys = _opener()
    return _keys


def stored_roles(tenant_id: UUID) -> SignedRoles:
    """Return the newest `roles` of a tenant, held to the root that the ceremony pinned in the sequencer's journal.

    Raises RolesMissing, and the core's refusals for a row that the root did not sign. Inside the tenant's scope.
    """
    row = access.newest_roles()
    root_key = journal.root_key(tenant_id)
    if row is None or root_key is None:
        raise RolesMissing
    return _verified(bytes(row.statement), tenant_id.bytes, root_key)


@lru_cache(maxsize=1024)  # tenants; what was verified once need not be each second
def _verified(statement: bytes, tenant: bytes, root_key: PublicKey) -> SignedRoles:
    return verify_roles(Sign1.parse(statement), tenant=tenant, root_key=root_key)
