# SPDX-License-Identifier: Apache-2.0
"""The roles a person can have in a tenant (ORGANISATION "People"). What each may do stands in `permissions`.

A service account has no row here: it is not a person, and no role of a person's may ever fit it (FAULTS A10).
"""

from __future__ import annotations

from typing import Final

from django.db import models


class Role(models.TextChoices):
    OWNER = "owner"
    OFFICER = "officer"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    SUPPORT = "support"
    MEMBER = "member"


SERVICE_ROLE: Final = "service"
# Whoever these let in, they stand behind: nobody alone enrols a device in the name of one (ESCROW "Case").
GUARDED_ROLES: Final = frozenset({Role.OWNER, Role.OFFICER})
