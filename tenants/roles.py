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
    HELPDESK = "helpdesk"
    SUPPORT = "support"
    MEMBER = "member"


# What each is there for, as whoever gives it reads it.
ROLE_WORDS: Final = {
    Role.OWNER: "runs the organisation: people, roles, devices, the tenant itself",
    Role.OFFICER: "decides with others whose archive is opened, with keys of their own",
    Role.REVIEWER: "opens cases and watches them, decides none",
    Role.AUDITOR: "reads the log and everything about custody, starts nothing",
    Role.HELPDESK: "issues enrolment codes, and nothing else",
    Role.SUPPORT: "reads who is here and which devices they have",
    Role.MEMBER: "uses the apps, and their own pages",
}
SERVICE_ROLE: Final = "service"
# Whoever these let in, they stand behind: nobody alone enrols a device in the name of one (ESCROW "Case").
GUARDED_ROLES: Final = frozenset({Role.OWNER, Role.OFFICER})
