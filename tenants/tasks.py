# SPDX-License-Identifier: Apache-2.0
"""Worker entries of this app. Holds no logic: the verbs are those of the rooms below.

Implements PLATFORM "Work that takes time".
"""

from __future__ import annotations

from uuid import UUID

from kernel import queue
from kernel.actors import system_actor
from kernel.api import sweep_answers
from kernel.clock import database_now
from kernel.models import Job
from kernel.queue import every, handles
from tenants import ending, exporting, locking, log_tokens, mails, resets, services, sign_in
from tenants.imports import services as imports


@every(60, by_age=True)
def sweep() -> None:
    """Delete, once a minute, what no request can meet any more."""
    services.sweep()


@every(600)
def seal_unsealed() -> None:
    """Seal the keys of authenticators from before keys were sealed."""
    sign_in.seal_unsealed()


@handles(resets.ASKED_JOB)
def password_reset_asked(job: Job) -> None:
    """Promise a link to a new password to whoever may have one."""
    person_id, source = UUID(job.payload["person"]), job.payload["source"]
    resets.promise(person_id=person_id, source=source, actor=system_actor(job.tenant_id, "worker"))


@every(60)
def unlock_due() -> None:
    """End the locks of tenants whose delay is over."""
    locking.unlock_due()


@every(3600, by_age=True)
def sweep_plumbing() -> None:
    """Delete, once an hour, answers and finished jobs of more than a month ago, which nothing asks for again."""
    sweep_answers()
    queue.sweep()


@handles(ending.TELL_JOB)
def tell_ending(job: Job) -> None:
    """Tell everybody of a tenant that it ends."""
    ending.tell_all(job)


@handles(exporting.EXPORT_JOB)
def make_export(job: Job) -> None:
    """Go on with an export of a tenant."""
    exporting.work(job)


@every(3600, by_age=True)
def sweep_exports() -> None:
    """Delete, once an hour, exports of more than a week ago."""
    exporting.sweep()


@every(3600, by_age=True)
def sweep_log_tokens() -> None:
    """Delete, once an hour, log tokens that ended three months ago."""
    log_tokens.sweep()


@handles(mails.MAIL_JOB, while_resting=True)
def give_mail(job: Job) -> None:
    """Hand one promised mail over."""
    mails.give(mail_id=UUID(job.payload["mail"]), actor=system_actor(job.tenant_id, "worker"))


@handles(imports.IMPORT_JOB)
def people_import(job: Job) -> None:
    """Invite the next people of a file that was confirmed; more wait for the job's next turn."""
    if imports.go_on(import_id=UUID(job.payload["of"])):
        raise queue.RunLater(database_now(), "more people wait")


@every(600, by_age=True)
def sweep_imports() -> None:
    """Delete files of people that nobody confirmed within the hour, and old reports."""
    imports.sweep()


@every(60)
def raise_mail_alarm() -> None:
    """Say that mails wait which the mail server does not take."""
    mails.raise_alarm()


@every(10)
def tell_restored() -> None:
    """Promise the mails that tell officers and owners of a backup that was put back."""
    mails.tell_restored()


@every(3600, by_age=True)
def sweep_mails() -> None:
    """Delete, once an hour, the mails that were settled a month ago."""
    mails.sweep()
