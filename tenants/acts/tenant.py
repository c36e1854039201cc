# SPDX-License-Identifier: Apache-2.0
"""The act that takes the tenant's data home: an export, made by the worker.

Implements ORGANISATION "Tenant". The verbs stand in `exporting`.
"""

from __future__ import annotations

from uuid import UUID

from kernel.actors import Actor
from tenants import access, exporting
from tenants.acts.act import Act, Done, Given, Words
from tenants.models import Tenant
from tenants.permissions import PermissionName


class Export(Act):
    """Make a file of log, statements and ciphertexts."""

    name = "tenant-export"
    title = "Export everything"
    kind = "tenant"
    permission = PermissionName.TENANT_ADMINISTER

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Tenant:
        return access.tenant()

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        lines = (
            "A zip with both logs, all signed statements, and the ciphertexts of deposits and vaults is made in the "
            "background. You alone can download it, for seven days.",
            "Nobody opens a deposit or vault by it. The doors of vaults are not in it: a password can be guessed at in "
            "the hands of whoever has them.",
            "What is withheld from you in the log, as a case of which you are to hear later, is withheld in it.",
        )
        warnings = ("It says who is here, who has which devices, and who decided what. Keep it as you keep the log.",)
        return Words(f"Export {subject.name}", lines, (("Organisation", subject.name),), warnings)

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        exporting.ask(actor=actor)
        return Done("The export is being made. Its progress is on this page.")


ACTS: tuple[Act, ...] = (Export(),)
