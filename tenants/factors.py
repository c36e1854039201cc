# SPDX-License-Identifier: Apache-2.0
"""Sealing the keys of authenticators, as every record at rest is: under the tenant's master key.

Implements docs/formats/records.md, kind `authenticator`. How it is done, the app that keeps tenant keys knows, and
says so at start. It calls the HSM: call it outside transactions. It reads and writes no row.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from holdfast.core.base.secret import SecretBytes
from hsm.errors import HsmError
from kernel.errors import Unavailable
from kernel.scope import tenant_scope
from tenants.errors import FactorsAway

KIND: Final = "authenticator"
# A new key is a new object with a serial of its own; the same one is never written again.
_VERSION: Final = 1


class Transform(Protocol):
    """Seals or opens one record of the open tenant: octets in, octets out."""

    def __call__(self, octets: bytes, /, *, user_id: UUID, object_id: UUID, kind: str, version: int) -> bytes: ...


_transforms: dict[str, Transform] = {}


def sealed_by(seal: Transform, open_: Transform) -> None:
    """Say once, at start, how records are sealed and opened."""
    _transforms.update(seal=seal, open=open_)


@dataclass(frozen=True)
class Sealed:
    """A sealed key and the serial of the authenticator that it opens for, and for no other."""

    serial: UUID
    octets: bytes


def seal(key: SecretBytes, *, tenant_id: UUID, person_id: UUID, serial: UUID | None = None) -> Sealed:
    """Seal the key of a person's authenticator, a new one unless its serial is given.

    It opens only for this tenant, person and serial. Raises FactorsAway.
    """
    serial = serial or uuid.uuid4()
    return Sealed(serial, _done("seal", key.reveal(), tenant_id, person_id, serial))


def unseal(octets: bytes, *, tenant_id: UUID, person_id: UUID, serial: UUID) -> SecretBytes:
    """Undo `seal`. Raises UnwrapFailed for octets that were changed or moved, FactorsAway."""
    return SecretBytes(_done("open", octets, tenant_id, person_id, serial))


def _done(what: str, octets: bytes, tenant_id: UUID, person_id: UUID, serial: UUID) -> bytes:
    try:
        with tenant_scope(tenant_id):
            return _transforms[what](octets, user_id=person_id, object_id=serial, kind=KIND, version=_VERSION)
    except (HsmError, Unavailable) as error:
        raise FactorsAway from error
