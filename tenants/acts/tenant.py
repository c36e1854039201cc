# SPDX-License-Identifier: Apache-2.0
"""The acts on the tenant as a whole that need no policy: its export, its end, and the stop of that.

Implements ORGANISATION "Export" and "End". The verbs stand in `exporting` and `ending`.
"""

from __future__ import annotations

from uuid import UUID

from kernel.actors import Actor
from kernel.errors import Conflict
from tenants import access, ending, exporting, mails
from tenants.acts.act import Act, Done, Given, Words
from tenants.models import Tenant
from tenants.permissions import PermissionName
from tenants.states import TenantState


class Export(Act):
    """Make a file of log, statements and ciphertexts."""

    name = "tenant-export"
    title = "Export everything"
    summary = "Log, statements and ciphertexts as one file. It takes a while and stays for a week."
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


class End(Act):
    """End the organisation in 30 days."""

    name = "tenant-end"
    title = "End the organisation"
    summary = "Two owners ask, and after 30 days the keys go. Any owner or officer can stop it until then."
    kind = "tenant"
    permission = PermissionName.TENANT_ADMINISTER
    needs_two = True
    takes_recovery_code = False
    is_dangerous = True

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Tenant:
        return access.tenant()

    def is_offered(self, actor: Actor, subject: Tenant) -> bool:
        return subject.state == TenantState.ACTIVE

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        if not self.is_offered(actor, subject):
            raise Conflict(f"The organisation is {subject.state}: its end cannot be asked for.")
        lines = (
            "Everybody is told by mail. For 30 days people go on, take home what is theirs, and let nobody new in.",
            "In these 30 days every owner and every officer, alone, can stop it.",
            "Then the operator destroys the keys: the escrow keys, and those under which vaults and deposits lie. "
            "Nobody signs in any more, and the short name stays taken.",
            "The log says at the end what backups could still open, and by which keys.",
        )
        warnings = ("After the 30 days it cannot be taken back: archives that nobody took home are lost.",)
        return Words(f"End {subject.name}", lines, (("Organisation", subject.name),), warnings)

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        raise Conflict("The end of an organisation takes two owners.")

    def do_together(self, actor: Actor, subject: Tenant, given: Given, *, proposer_id: UUID) -> Done:
        ends_at = ending.ask(proposer_id=proposer_id, actor=actor)
        return Done(f"The organisation ends {mails.written_time(ends_at)}. Everybody is told.", "Stop its end.")


class StopEnd(Act):
    """Stop the end of the organisation."""

    name = "tenant-end-stop"
    title = "Stop the end"
    summary = "Nothing is destroyed, and work goes on as before."
    kind = "tenant"
    permission = PermissionName.TENANT_KEEP

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Tenant:
        return access.tenant()

    def is_offered(self, actor: Actor, subject: Tenant) -> bool:
        return subject.state == TenantState.ENDING

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        if not self.is_offered(actor, subject):
            raise Conflict(f"The organisation is {subject.state}: there is no end to stop.")
        lines = ("The organisation goes on as before. Two owners can ask for its end again, with 30 days anew.",)
        return Words(f"Stop the end of {subject.name}", lines, (("Organisation", subject.name),))

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        ending.stop(actor=actor)
        return Done("The organisation goes on.", "Two owners ask for its end again.")


ACTS: tuple[Act, ...] = (Export(), End(), StopEnd())
