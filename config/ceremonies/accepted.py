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

from audit import access, journal, restored
from audit import services as audit
from audit.models import Restored
from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.root import RootSigner, release_directory
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.core.base.encoding import label
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import verify
from holdfast.core.identity import trust as chain_of_trust
from holdfast.core.identity.acts import Act, accepted_log, verify_resolution
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.identity.roles import WrongLeaf, check_leaf
from holdfast.core.log.accepted import SLACK_SECONDS
from holdfast.core.log.accepted import AcceptedLog as AcceptedHead
from holdfast.core.log.checkpoint import Checkpoint
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import EMPTY_ROOT, CompactRange, leaf_hash
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
_NAMES: Final = {AUDIT: "audit log", "keys": "key log"}
_END: Final = "\n\n"  # of a note's text (signed-note, "Format")


@dataclass(frozen=True)
class Accepted:
    """What m officers accepted. keys: beside the audit log, None where they said nothing of it. statement: theirs."""

    audit: AcceptedHead
    keys: AcceptedHead | None
    statement: bytes

    def of(self, log: str) -> AcceptedHead | None:
        """Return what they said of one log."""
        return self.audit if log == AUDIT else self.keys


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
            self.size = {log: access.numbered(log) for log in LOGS}
            self.accepted = self._find(resolution)
            # What remembers the logs outside of them: this account's journal, and devices that showed what they hold.
            self.signed = {log: journal.signed_head(self.tenant.pk, log) for log in LOGS}
            self.shown = {row.log: self._shown(row.note) for row in access.shown_heads()}
            self.roots = {log: self._walk(log) for log in LOGS}

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
        audit_head, keys = (accepted_log(resolution, statements[0].payload_hash, log) for log in LOGS)
        assert audit_head is not None
        return Accepted(audit_head, keys, given[0])

    def _policy(self) -> SignedPolicy:
        """Return the version in force of all that the release process ever saw; at a first reading, of the stored."""
        # A restored database may know fewer versions: officers who left since would decide by its word. One that still
        # cools off has nobody in office: the officers sign under the one before, and clients hold them to that.
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
            ).in_force(self.clock.now().wall)
        except HoldfastError as error:
            raise CeremonyRefused(f"The policies do not lead from the pin: {error}.") from error

    @staticmethod
    def _shown(note: str) -> Checkpoint:
        # Whose key signed it was seen before it was kept.
        return Checkpoint.from_text(f"{note.partition(_END)[0]}\n")

    def _walk(self, log: str) -> dict[int, bytes]:
        """Return the roots of a stored log at every size that somebody named; fewer when it is shorter."""
        accepted = self.accepted.of(log)
        remembered = [head for head in (self.signed[log], self.shown.get(log), accepted) if head is not None]
        wanted = {self.size[log], *(head.size for head in remembered)}
        if log == AUDIT:
            wanted |= {head.size for head in self.directory.heads()}
        roots, walked = {0: EMPTY_ROOT}, CompactRange()
        try:
            for leaf in audit.entries_between(self.tenant.pk, log, 0, self.size[log]):
                walked = walked.append(leaf_hash(leaf))
                if walked.size in wanted:
                    roots[walked.size] = walked.root()
        except DomainError as error:
            raise CeremonyRefused("The stored log has holes: it is no log that anybody signed.") from error
        if accepted is not None and not _same(roots.get(accepted.size), accepted.root):
            raise CeremonyRefused(f"The officers accepted another {_NAMES[log]} than the one stored, or a longer one.")
        return roots

    def heads_within(self) -> list[SeenHead]:
        """Return the release process's heads within the accepted size. CeremonyRefused for another past."""
        heads = self.directory.heads()
        within = [head for head in heads if head.size <= self.accepted.audit.size]
        if heads and not within:
            raise CeremonyRefused("The release process saw no head of a log as short as this: put a newer backup back.")
        if within and not self.leads_to(AUDIT, within[-1]):
            raise CeremonyRefused(
                "This is another past than the one that the release process saw, and is never accepted."
            )
        return within

    def leads_to(self, log: str, head: journal.Head | SeenHead | Checkpoint) -> bool:
        """Tell whether a stored log has a remembered head's root at its size."""
        return _same(self.roots[log].get(head.size), head.root)

    def require_root(self) -> None:
        """Have the tenant root sign what is accepted, so that whoever holds the ceremony has its token."""
        said = label("ceremony-accept", self.tenant.pk.bytes, self.accepted.audit.size, self.accepted.audit.root)
        verify(self.directory.trust().root_key, self.root.sign(said), said)


class FirstReading(AcceptedLog):
    """`ceremony accept-log`: an existing log's entries keep their own times, and open cases end."""

    def steps(self) -> Iterator[Step]:
        """Give what is missing. Raises CeremonyRefused where the release process has read this log already."""
        before, accepted = self.directory.first_reading(), self.accepted.audit
        if before is not None and (before.size, before.root) == (accepted.size, accepted.root):
            return
        heads = self.directory.heads()
        if before is not None or (heads and heads[0].size < accepted.size):
            raise CeremonyRefused(
                "The release process has read this log already, by its own clock. Only a first reading takes the "
                "entries' own times; delays and cooling-offs that began anew run out by themselves."
            )
        yield Step(
            f"date the first {accepted.size} entries by their own times, and end the cases under way there",
            self._accept,
        )

    def _accept(self) -> None:
        self.require_root()
        accepted = self.accepted.audit
        head = SeenHead(accepted.size, accepted.root, self.clock.now().moment)
        with only_process(Path(settings.HOLDFAST_RELEASE_DIR)):
            self.directory.accept_first_reading(head)


class RestoredLog(AcceptedLog):
    """`ceremony accept-restored`: sequencer and release process go on from a backup that was put back."""

    def steps(self) -> Iterator[Step]:
        """Give what is missing. Raises CeremonyRefused for another past than the one that was seen."""
        # To go on from a restored log we must, in this order:
        #
        # (1) take it only if it is a past of the one seen, in both logs and by every memory of them, as officers know
        #     it to be who decided after it was put back;
        # (2) put back what narrows, end what was under way, and void what may have been handed out, all or nothing;
        # (3) have the release process believe the shorter log, then the sequencer sign on it: a kill in between leaves
        #     the sequencer stopped, and this ceremony is held again;
        # (4) let the tenant change again, last: until then nothing is written that the steps before do not know.
        within = self.heads_within()  # (1)
        with tenant_scope(self.tenant.pk):
            mark, is_recorded = access.restored_mark(), access.is_accepted(self.accepted.audit.hash)
        is_left_behind = self._goes_beyond(self.directory.heads())
        if not is_recorded or mark is not None or is_left_behind:
            self._require_both()
            self._require_a_past()
            self._require_decided_since(mark)
        if not is_recorded:
            lost = len(list(self._lost()))
            yield Step(
                f"accept the log at size {self.accepted.audit.size}: put back {lost} entries that take something away, "
                "end every case that is not released, and void the one-time pre-keys that may have been handed out",
                self._put_back,  # (2)
            )
        if is_left_behind:
            yield Step("have the release process go on from there", lambda: self._believe(within))  # (3)
        if any(head is not None and not self.leads_to(log, head) for log, head in self.signed.items()):
            yield Step("have the sequencer go on from there", self._sign_on)
        with tenant_scope(self.tenant.pk):
            is_marked = access.is_restored()
        if is_marked or self.shown:
            yield Step("let the organisation change and sign again", self._end)  # (4)

    def _require_both(self) -> None:
        if self.accepted.keys is None:
            raise CeremonyRefused(
                "The officers accepted the audit log alone, and clients follow the key log as well. Have m of them "
                "accept both: holdfast officer resolve accept-log."
            )

    def _require_a_past(self) -> None:
        """Raise CeremonyRefused where a memory within what was accepted is of another log: a shorter past alone is."""
        for log in LOGS:
            accepted = self.accepted.of(log)
            assert accepted is not None
            for who, head in (("the sequencer signed", self.signed[log]), ("a device showed", self.shown.get(log))):
                if head is not None and head.size <= accepted.size and not self.leads_to(log, head):
                    # At the accepted size itself a device's head may be of the past that is given up.
                    if isinstance(head, Checkpoint) and accepted.leaves_behind(head):
                        continue
                    raise CeremonyRefused(
                        f"This {_NAMES[log]} is another past than the one that {who}, and is never accepted."
                    )

    def _require_decided_since(self, mark: Restored | None) -> None:
        """Raise CeremonyRefused for a resolution of before: an old one must not excuse what is put back later."""
        at = self.accepted.audit.at
        late = [head for head in self.directory.heads() if not self.leads_to(AUDIT, head)]
        shown = [head for log, head in self.shown.items() if not self.leads_to(log, head)]
        if (
            (mark is not None and mark.since.timestamp() > at + SLACK_SECONDS)
            or any(head.moment.wall > at + SLACK_SECONDS for head in late)
            or any(head.time is None or head.time > at + SLACK_SECONDS for head in shown)
        ):
            raise CeremonyRefused(
                "The officers decided before this backup was found to be put back, or before the newest head that it "
                "lost was signed, or by a clock that is over five minutes behind. Set it, and have m of them accept "
                "the log anew: holdfast officer resolve accept-log."
            )

    def _goes_beyond(self, heads: list[SeenHead]) -> bool:
        return bool(heads) and not self.leads_to(AUDIT, heads[-1])

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
            audit_log, key_log = self.accepted.audit, self.accepted.keys
            assert key_log is not None
            restored.accept(
                statement=self.accepted.statement,
                digest=audit_log.hash,
                audit_size=audit_log.size,
                keys_size=key_log.size,
            )
            body: dict[str, Any] = {"hash": audit_log.hash, "root": audit_log.root, "size": audit_log.size}
            body |= {"keys": key_log.size, "keys_root": key_log.root}
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
                again = check_leaf(leaf, index=self.accepted.audit.size, roles=roles.roles)
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
        head = SeenHead(self.accepted.audit.size, self.accepted.audit.root, self.clock.now().moment)
        with only_process(Path(settings.HOLDFAST_RELEASE_DIR)):
            self.directory.put_heads([one for one in within if one.size < head.size] + [head])

    def _sign_on(self) -> None:
        stored = {log: journal.Head(size, self.roots[log][size]) for log, size in self.size.items() if size}
        journal.replace_heads(self.tenant.pk, stored)

    def _end(self) -> None:
        with tenant_scope(self.tenant.pk):
            restored.end()


def restored_steps(tenant: Tenant, root: RootSigner, *, resolution: Path | None = None) -> Iterator[Step]:
    """Give what is missing until a restored log is gone on from: first the policies, by which officers accept it."""
    directory = release_directory(tenant.pk)
    with tenant_scope(tenant.pk):
        lost = directory.seen_policies()[len(escrow_access.policies()) :]
        keys = directory.seen_escrow_keys()[len(escrow_access.escrow_keys()) :]
    if not lost and not keys:
        yield from RestoredLog(tenant, root, resolution=resolution).steps()
        return
    # Officers of an older roster would accept it otherwise. Each statement is verified by its own signatures.
    if lost:
        yield Step(
            f"publish the {len(lost)} newest policy versions again, which the database lost; what cools off begins "
            "anew",
            lambda: _publish_again(tenant, lost),
        )
    if keys:
        # Clients that have accepted one refuse every older one, and deposit nothing.
        yield Step(
            f"publish the {len(keys)} newest versions of the escrow key again, which the database lost",
            lambda: _publish_keys_again(tenant, keys),
        )


_ACCEPT_NOW: Final = (
    "Now have the officers accept the log, and hold this ceremony again: holdfast officer resolve accept-log"
)


def _publish_again(tenant: Tenant, lost: list[bytes]) -> list[str]:
    with tenant_scope(tenant.pk):
        for statement in lost:
            escrow.publish_policy(statement=statement, actor=system_actor(tenant.pk, "ceremony"))
    return [_ACCEPT_NOW]


def _publish_keys_again(tenant: Tenant, lost: list[tuple[bytes, bytes]]) -> list[str]:
    with tenant_scope(tenant.pk):
        for statement, cka_id in lost:
            escrow.publish_escrow_key(statement=statement, cka_id=cka_id, actor=system_actor(tenant.pk, "ceremony"))
    return [_ACCEPT_NOW]


def _uuid(text: str) -> UUID | None:
    # Whoever wrote the entry wrote this, and no sound one is left behind for the sake of another.
    try:
        return UUID(text)
    except ValueError:
        return None


def _same(found: bytes | None, expected: bytes) -> bool:
    return found is not None and hmac.compare_digest(found, expected)
