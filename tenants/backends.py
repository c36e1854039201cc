# SPDX-License-Identifier: Apache-2.0
"""Who a password belongs to, and who a session still belongs to.

Implements ORGANISATION "Signing in" and FAULTS A2, A6. A right password alone signs nobody in: `console` asks for more.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import OuterRef
from django.http import HttpRequest

from audit.access import is_tenant_restored
from tenants import access, hashing, lockout
from tenants.models import Person
from tenants.states import ENTERED_STATES, PersonState

BACKEND = "tenants.backends.TenantBackend"


def is_password_of(person: Person, password: str) -> bool:
    """Tell whether a person who is signed in has typed their own password: one Argon2id. In a turn of `hashing`."""
    return hashing.is_right(password, person.password)


class TenantBackend:
    """Checks a password for one address in one tenant, with the same work whether the person exists or not."""

    def authenticate(
        self,
        request: HttpRequest | None,
        *,
        slug: str = "",
        email_key: str = "",
        password: str = "",
    ) -> Person | None:
        """Return the active person whose password this is, else None: two queries and one Argon2id in every case.

        Raises Throttled when more passwords are tried at once than may be hashed.
        """
        person = access.person_by_address(access.entered_tenant_by_slug(slug), email_key)
        with hashing.turn(is_known=request is not None and lockout.is_at_known_place(request)):
            if person is None:
                hashing.waste(password)
                return None
            # A stored hash that fits no password costs one hashing as well (Django's verify_password sees to it).
            is_right = hashing.is_right(password, person.password)
        return person if is_right and person.state == PersonState.ACTIVE else None

    def get_user(self, user_id: UUID) -> Person | None:
        """Return the person of a session, read again at every request; None once they or their tenant may not enter."""
        person: Person | None = (
            Person.unscoped.select_related("tenant")
            .annotate(is_restored=is_tenant_restored(OuterRef("tenant_id")))
            .filter(pk=user_id)
            .first()
        )
        if person is None or person.state != PersonState.ACTIVE or person.tenant.state not in ENTERED_STATES:
            return None
        return person
