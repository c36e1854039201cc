# SPDX-License-Identifier: Apache-2.0
"""Logs that m officers accepted by a resolution: one that is read for the first time, and one that was restored.

Implements ESCROW "What it believes of the log". `ceremony accept-log` dates an existing log by its own entries;
`ceremony accept-restored` goes on from a backup that was put back. It takes a shorter past, and never another.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit import access, journal
from audit import services as audit
from audit.models import LogHead
from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.root import RootSigner, release_directory
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.core.base.encoding import label
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import verify
from holdfast.core.identity import trust as chain_of_trust
from holdfast.core.identity.acts import Act, verify_resolution
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.identity.roles import WrongLeaf, check_leaf
from holdfast.core.log import tiles
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.signed.cose import parse_many
from kernel.actors import system_actor
from kernel.errors import DomainError
from kernel.scope import tenant_scope
from keys import services as keys
from recovery.cases import endings
from recovery.release import record
from recovery.release.clock import Clock
from recovery.release.directory import Directory, SeenHead, only_process
from recovery.release.facts import RESOLUTION
from tenants import services as tenants
from tenants.models import Tenant

AUDIT: Final = "audit"
LOGS: Final = (AUDIT, "keys")


@dataclass(frozen=True)
class Accepted:
    """What m officers accepted. root: 32 bytes, of the audit log at this size. hash: of the resolution."""

    size: int
    root: bytes
    hash: bytes


class AcceptedLog:
    """What both ceremonies check: the resolution, by the release process's own memory, and the log that it names."""

    def __init__(self, tenant: Tenant, root: RootSigner, *, resolution: Path | None = None) -> None:
        try:
            with only_process(Path(settings.HOLDFAST_RELEASE_DIR)):
                pass
        except BlockingIOError:
            raise CeremonyRefused("The release process runs. Stop it first, and the sequencer with it.") from None
        self.tenant = tenant
        self.root = root
        self.directory: Directory = release_directory(tenant.pk)
        self.clock = Clock(Path(settings.HOLDFAST_RELEASE_DIR) / "clock")
        self.actor = system_actor(tenant.pk, "ceremony")
        self.report: list[str] = []
        with tenant_scope(tenant.pk):
            self.size = {log: _numbered(log) for log in LOGS}
            self.accepted = self._find(resolution)
            self.roots = self._walk()

    def _find(self, file: Path | None) -> Accepted:
        if file is not None:
            try:
                given = [file.read_bytes()]
            except OSError as error:
                raise CeremonyRefused(f"{file} cannot be read: {error.strerror}.") from error
        else:
            passed = [row for row in escrow_access.resolutions() if row.act == Act.ACCEPT_LOG]
            given = [bytes(row.statement) for row in passed[-1:]]
        if not given:
            raise CeremonyRefused(
                "The officers have not accepted this log. Have m of them do it: holdfast officer resolve accept-log."
            )
        policy = self._policy()
        try:
            statements = parse_many(given[0])
            resolution = verify_resolution(statements, policy, at=self.clock.now().wall)
        except HoldfastError as error:
            raise CeremonyRefused(f"The officers' resolution does not hold: {error}.") from error
        if resolution.act is not Act.ACCEPT_LOG:
            raise CeremonyRefused("The officers' resolution is about something else than the log.")
        return Accepted(resolution.size, resolution.hash, statements[0].payload_hash)

    def _policy(self) -> SignedPolicy:
        """Return the highest policy version that the release process ever saw; at a first reading, the stored one."""
        # A restored database may know fewer versions: officers who left since would decide by its word.
        seen = self.directory.seen_policies()
        history = seen or [bytes(row.statement) for row in escrow_access.policies()]
        trust = self.directory.trust()
        try:
            return chain_of_trust.verify_tenant(
                [parse_many(one, max_size=2**20) for one in history],
                tenant=self.tenant.pk.bytes,
                root_key=trust.root_key,
                pin=trust.pin,
                is_development=trust.is_development,
            ).newest
        except HoldfastError as error:
            raise CeremonyRefused(f"The policies do not lead from the pin: {error}.") from error

    def _walk(self) -> dict[int, bytes]:
        """Return the roots of the stored audit log at every size that somebody named; fewer when it is shorter."""
        heads, signed = self.directory.heads(), journal.signed_head(self.tenant.pk, AUDIT)
        wanted = {self.accepted.size, self.size[AUDIT], *(head.size for head in heads)} | (
            {signed.size} if signed else set()
        )
        roots, walked = {}, CompactRange()
        try:
            for leaf in audit.entries_between(self.tenant.pk, AUDIT, 0, self.size[AUDIT]):
                walked = walked.append(leaf_hash(leaf))
                if walked.size in wanted:
                    roots[walked.size] = walked.root()
        except DomainError as error:
            raise CeremonyRefused("The stored log has holes: it is no log that anybody signed.") from error
        if not _same(roots.get(self.accepted.size), self.accepted.root):
            raise CeremonyRefused("The officers accepted another log than the one stored, or a longer one.")
        return roots

    def heads_within(self) -> list[SeenHead]:
        """Return the release process's heads within the accepted size. CeremonyRefused for another past."""
        heads = self.directory.heads()
        within = [head for head in heads if head.size <= self.accepted.size]
        if heads and not within:
            raise CeremonyRefused("The release process saw no head of a log as short as this: put a newer backup back.")
        if within and not _same(self.roots.get(within[-1].size), within[-1].root):
            raise CeremonyRefused(
                "This is another past than the one that the release process saw, and is never accepted."
            )
        return within

    def require_root(self) -> None:
        """Have the tenant root sign what is accepted, so that whoever holds the ceremony has its token."""
        said = label("ceremony-accept", self.tenant.pk.bytes, self.accepted.size, self.accepted.root)
        verify(self.directory.trust().root_key, self.root.sign(said), said)


class FirstReading(AcceptedLog):
    """`ceremony accept-log`: an existing log's entries keep their own times, and open cases end."""

    def steps(self) -> Iterator[Step]:
        """Give what is missing. Raises CeremonyRefused where the release process has read this log already."""
        before = self.directory.first_reading()
        if before is not None and (before.size, before.root) == (self.accepted.size, self.accepted.root):
            return
        heads = self.directory.heads()
        if before is not None or (heads and heads[0].size < self.accepted.size):
            raise CeremonyRefused(
                "The release process has read this log already, by its own clock. Only a first reading takes the "
                "entries' own times; delays and cooling-offs that began anew run out by themselves."
            )
        yield Step(
            f"date the first {self.accepted.size} entries by their own times, and end the cases under way there",
            self._accept,
        )

    def _accept(self) -> None:
        self.require_root()
        head = SeenHead(self.accepted.size, self.accepted.root, self.clock.now().moment)
        with only_process(Path(settings.HOLDFAST_RELEASE_DIR)):
            self.directory.accept_first_reading(head)


class Restored(AcceptedLog):
    """`ceremony accept-restored`: sequencer and release process go on from a backup that was put back."""

    def steps(self) -> Iterator[Step]:
        """Give what is missing. Raises CeremonyRefused for another past than the one that was seen."""
        # To go on from a restored log we must, in this order:
        #
        # (1) take it only if it is a past of the one seen, as officers know it to be;
        # (2) put back what narrows, end what was under way, and void what may have been handed out, all or nothing;
        # (3) have the release process believe the shorter log, then the sequencer sign on it: a kill in between leaves
        #     the sequencer stopped, and this ceremony is held again.
        within = self.heads_within()  # (1)
        if not self._is_recorded():
            lost = len(list(self._lost()))
            yield Step(
                f"accept the log at size {self.accepted.size}: put back {lost} entries that take something away, end "
                "every case that is not released, and void the one-time pre-keys that may have been handed out",
                self._put_back,  # (2)
            )
        if self._goes_beyond(self.directory.heads()):
            yield Step("have the release process go on from there", lambda: self._believe(within))  # (3)
        signed = {log: journal.signed_head(self.tenant.pk, log) for log in LOGS}
        if any(head is not None and not self._leads_to(log, head) for log, head in signed.items()):
            yield Step("have the sequencer go on from there", self._sign_on)

    def _is_recorded(self) -> bool:
        with tenant_scope(self.tenant.pk):
            return access.is_accepted(self.accepted.hash)

    def _goes_beyond(self, heads: list[SeenHead]) -> bool:
        return bool(heads) and not _same(self.roots.get(heads[-1].size), heads[-1].root)

    def _leads_to(self, log: str, head: journal.Head) -> bool:
        if log == AUDIT:
            return _same(self.roots.get(head.size), head.root)
        with tenant_scope(self.tenant.pk):
            return head.size <= self.size[log] and _same(tiles.root(access.tile_reader(log), head.size), head.root)

    def _lost(self) -> Iterator[bytes]:
        with tenant_scope(self.tenant.pk):
            for leaf in self.directory.narrowings():
                if not audit.is_logged(LogEntry.from_leaf(leaf).entry_id):
                    yield leaf

    def _put_back(self) -> list[str]:
        self.require_root()
        lost = list(self._lost())
        with tenant_scope(self.tenant.pk), transaction.atomic():
            roles = self.directory.roles_statement()
            if roles is not None:
                audit.put_back_roles(statement=roles, root_key=self.root.public)
            for leaf in lost:
                entry = LogEntry.from_leaf(leaf)
                if self._is_said_again(entry):
                    why = "as the officers' statement was logged anew"
                elif entry.kid and self._take_again(entry):
                    audit.append_again(leaf)
                    continue
                else:
                    why = "as what it is about is lost as well or its statement holds no more"
                self.report.append(f"not put back, {why}: {entry.tag} {entry.subject}")
            record.void_open_cases(why="voided", actor=self.actor)
            keys.void_unissued(actor=self.actor)
            body: dict[str, Any] = {"hash": self.accepted.hash, "root": self.accepted.root, "size": self.accepted.size}
            audit.append(tag="audit:log:accept", actor=self.actor, body=body)
        return self.report

    def _is_said_again(self, entry: LogEntry) -> bool:
        """Tell whether what officers signed for a lost entry was logged again since the backup was put back.

        A second entry would be wrong: the release process takes what a person signed once for done once.
        """
        is_resolved, roles = entry.tag == RESOLUTION, self.directory.seen_roles()
        field = "hash" if is_resolved else "statement"
        named = entry.body.get(field)
        if (
            not (is_resolved or entry.tag.startswith("escrow:officer:"))
            or roles is None
            or not isinstance(named, bytes)
        ):
            return False
        for leaf in access.leaves_naming(named, tag=entry.tag, field=field):
            # By the leaf, as it will be judged: one that the release process takes for wrong stands for nothing.
            try:
                again = check_leaf(leaf, index=self.accepted.size, roles=roles.roles)
            except WrongLeaf:
                continue
            # A resolution says itself whom it is about.
            is_same = is_resolved or again.subject == entry.subject
            if is_same and (again.tag, again.body.get(field)) == (entry.tag, named):
                return True
        return False

    def _take_again(self, entry: LogEntry) -> bool:
        """Do to the rows what a lost entry says; False when the log could not bear it out any more."""
        tag, subject = entry.tag, _uuid(entry.subject)
        if tag.startswith("escrow:officer:"):
            named = entry.body.get("statement")
            statement = self.directory.statement(named) if isinstance(named, bytes) else None
            return statement is not None and escrow.state_again(statement=statement)
        if tag == RESOLUTION:
            named = entry.body.get("hash")
            statement = self.directory.statement(named) if isinstance(named, bytes) else None
            return statement is not None and escrow.resolve_again(statement=statement)
        if subject is None:
            return False
        if tag.startswith("recovery:"):
            vetoed = tag == "recovery:case:veto"
            device = _uuid(str(entry.body.get("device"))) if vetoed else None
            named = entry.body.get("statement")
            veto = self.directory.statement(named) if vetoed and isinstance(named, bytes) else None
            ends = "" if vetoed and not entry.body.get("ends") else tag
            return endings.end_again(case_id=subject, tag=ends, device_id=device, veto=veto)
        if tag == "keys:device:revoke":
            reason = entry.body.get("reason")
            keys.revoke_again(
                device_id=subject,
                user_id=UUID(str(entry.body["user"])),
                reason=reason if isinstance(reason, int) else None,
            )
        else:
            tenants.take_again(tag=tag, subject=subject, role=str(entry.body.get("to", "")))
        return True

    def _believe(self, within: list[SeenHead]) -> None:
        head = SeenHead(self.accepted.size, self.accepted.root, self.clock.now().moment)
        with only_process(Path(settings.HOLDFAST_RELEASE_DIR)):
            self.directory.put_heads([one for one in within if one.size < head.size] + [head])

    def _sign_on(self) -> None:
        with tenant_scope(self.tenant.pk):
            stored = {
                log: journal.Head(size, tiles.root(access.tile_reader(log), size))
                for log, size in self.size.items()
                if size
            }
        journal.replace_heads(self.tenant.pk, stored)


def restored_steps(tenant: Tenant, root: RootSigner, *, resolution: Path | None = None) -> Iterator[Step]:
    """Give what is missing until a restored log is gone on from: first the policies, by which officers accept it."""
    with tenant_scope(tenant.pk):
        lost = release_directory(tenant.pk).seen_policies()[len(escrow_access.policies()) :]
    if not lost:
        yield from Restored(tenant, root, resolution=resolution).steps()
        return
    # Officers of an older roster would accept it otherwise. Each statement is verified by its own signatures.
    yield Step(
        f"publish the {len(lost)} newest policy versions again, which the database lost; what cools off begins anew",
        lambda: _publish_again(tenant, lost),
    )


def _publish_again(tenant: Tenant, lost: list[bytes]) -> list[str]:
    with tenant_scope(tenant.pk):
        for statement in lost:
            escrow.publish_policy(statement=statement, actor=system_actor(tenant.pk, "ceremony"))
    return ["Now have the officers accept the log, and hold this ceremony again: holdfast officer resolve accept-log"]


def _numbered(log: str) -> int:
    head = LogHead.objects.filter(log=log).first()
    return head.size if head else 0


def _uuid(text: str) -> UUID | None:
    # Whoever wrote the entry wrote this, and no sound one is left behind for the sake of another.
    try:
        return UUID(text)
    except ValueError:
        return None


def _same(found: bytes | None, expected: bytes) -> bool:
    return found is not None and hmac.compare_digest(found, expected)
