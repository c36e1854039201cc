# SPDX-License-Identifier: Apache-2.0
"""A tenant whose database was put back from a backup: the mark that keeps everything as it is, and what ends it.

Implements ESCROW "What it believes of the log" for a restored backup. The mark is set by whoever finds out, and deleted
by the ceremony alone, which owns the table. It says nothing about what was lost: heads outside the database do.
"""

from __future__ import annotations

import hmac
import logging
from typing import Final, Literal

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit import access, services
from audit.errors import HeadRefused, LogBroken, RolesMissing
from audit.models import AcceptedLog, Log, Restored, ShownHead
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.identity.roles import Roles
from holdfast.core.log import tiles
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.log_entry import BodyValue
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from kernel.actors import Actor
from kernel.scope import current_tenant

alarm = logging.getLogger("holdfast.audit")

Finder = Literal["sequencer", "release", "client"]
_FOUND: Final[dict[Finder, str]] = {
    "sequencer": "the sequencer signed a longer log than is stored",
    "release": "the release process has seen a longer log than is stored",
    "client": "a device has shown a signed head that the stored log does not lead to",
}


def mark(*, by: Finder) -> None:
    """Mark the open tenant, so that nothing of it is changed or signed from now on; the alarm comes once.

    A write that has begun may finish, and none begins. Nothing happens to a tenant that is marked.
    """
    if access.is_restored():
        return
    try:
        with transaction.atomic():
            Restored.objects.create(by=by, since=Now())
    except IntegrityError:
        return  # somebody else found it at the same moment
    alarm.critical(
        "tenant %s: its database was put back from a backup: %s. It is read-only until its officers accept the log and "
        "`ceremony accept-restored` is held",
        current_tenant(),
        _FOUND[by],
    )


def show_head(note: str, *, actor: Actor) -> None:
    """Take a signed head that a client shows, and mark the open tenant when the stored log does not lead to it.

    One that the log leads to, or that officers left behind when they accepted a restored log, changes nothing; nor does
    the same again. Of each log the largest is kept. Raises HeadRefused for what no log key of the tenant signed,
    RolesMissing while nobody has said which keys these are, and LogBroken where the stored tree cannot be read.
    """
    log, head = _opened(note)
    with transaction.atomic():
        if leads_to(log, head) or any(one.leaves_behind(head) for one in access.accepted_in(log)):
            return
        mark(by="client")
        _, is_new = ShownHead.objects.get_or_create(log=log, defaults={"size": head.size, "note": note})
        if is_new or ShownHead.objects.filter(log=log, size__lt=head.size).update(size=head.size, note=note):
            body: dict[str, BodyValue] = {"log": log, "size": head.size, "root": head.root}
            services.append_first(tag="audit:log:newer", actor=actor, apart=log, body=body)


def accept(*, statement: bytes, digest: bytes, audit_size: int, keys_size: int) -> None:
    """Keep the resolution on which a ceremony acts, for clients. In the transaction that is open.

    statement: its signatures, an array of Sign1. digest: 32 bytes, of its payload.
    """
    AcceptedLog.objects.create(hash=digest, statement=statement, audit_size=audit_size, keys_size=keys_size, at=Now())


def end() -> None:
    """Delete the mark of the open tenant, and the heads that its officers left behind. The ceremony's last step."""
    with transaction.atomic():
        ShownHead.objects.all().delete()
        Restored.objects.all().delete()


def log_verifier(log: str) -> LogVerifier:
    """Return the verifier of heads of one of the open tenant's logs, of any day: also by keys that have ended.

    A client that was away holds a head of theirs. Raises RolesMissing while nobody has said which keys these are.
    """
    newest = access.newest_roles()
    if newest is None:
        raise RolesMissing
    try:
        roles = Roles.from_payload(Sign1.parse(bytes(newest.statement)).payload)
    except HoldfastError as error:
        raise RolesMissing from error
    return LogVerifier(roles.origin_of(log), tuple(roles.all_of(Role.LOG)))


def _opened(note: str) -> tuple[str, Checkpoint]:
    for log in Log.values:
        try:
            return log, log_verifier(log).open_checkpoint(note)
        except HoldfastError:
            continue
    raise HeadRefused(field="note")


def leads_to(log: str, head: Checkpoint) -> bool:
    """Tell whether the stored log, as far as it is numbered, has this root at this size. Raises LogBroken."""
    if head.size > access.numbered(log):
        return False
    try:
        return hmac.compare_digest(tiles.root(access.tile_reader(log), head.size), head.root)
    except Malformed as error:
        raise LogBroken from error
