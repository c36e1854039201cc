# SPDX-License-Identifier: Apache-2.0
"""The role keys of the tests' installations, and the tenant root's word on them: what a ceremony would have written.

A test's process is every part of the server at once, so it holds the keys of all of them.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.utils import timezone

from audit import journal
from audit.models import RolesStatement
from config.roles import WRITING_ROLES
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from hsm.backend import SigningPublicKey
from kernel.files import write_durably


def _key(name: str) -> SigningKey:
    return SigningKey.from_seed(KeyKind.ED25519, SecretBytes(hashlib.sha256(f"tests: {name}".encode()).digest()))


ROLE_KEYS: dict[Role, SigningKey] = {role: _key(role) for role in WRITING_ROLES}
ROOT = _key("root")


def key_file(role: Role, directory: Path) -> Path:
    """Write a role's key for a process that the test starts, which is of that role alone."""
    path = directory / f"{role}.key"
    write_durably(path, ROLE_KEYS[role].seed().reveal())
    return path


def roles_of(tenant_id: UUID, **changes: Any) -> Roles:
    """Version 1 of a tenant's roles, which names all of the tests' keys."""
    given: dict[str, Any] = {
        "header": Header(tenant_id.bytes, b"", b"", int(time.time())),
        "version": 1,
        "keys": tuple(RoleKey(role, key.public) for role, key in ROLE_KEYS.items()),
    }
    return Roles(**(given | changes))


def signed_roles(tenant_id: UUID, *, root: SigningKey = ROOT, **changes: Any) -> Sign1:
    return cose.sign(roles_of(tenant_id, **changes).to_payload(), purpose=Purpose.ROLES, key=root)


def name_log_key(tenant_id: UUID, key: SigningPublicKey) -> None:
    """Have the root name the log's key as well, in version 2, for whoever verifies signed heads."""
    first = signed_roles(tenant_id)
    kind = KeyKind.ED25519 if key.algorithm == "ed25519" else KeyKind.P256_SIGNING
    keys = (*Roles.from_payload(first.payload).keys, RoleKey(Role.LOG, PublicKey(kind, key.raw)))
    stored = RolesStatement.unscoped.get(tenant_id=tenant_id, version=1)
    found_roles(tenant_id, version=2, predecessor=bytes(stored.hash), keys=keys)


def found_roles(tenant_id: UUID, *, root: SigningKey = ROOT, **changes: Any) -> Sign1:
    """Pin the root for the sequencer and store its word, once for a tenant; no entry is appended."""
    signed = signed_roles(tenant_id, root=root, **changes)
    journal.pin_root(tenant_id, root.public)
    RolesStatement.unscoped.get_or_create(
        tenant_id=tenant_id,
        version=changes.get("version", 1),
        defaults={"hash": signed.payload_hash, "statement": signed.encode(), "published_at": timezone.now()},
    )
    return signed
