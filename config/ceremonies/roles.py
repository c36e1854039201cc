# SPDX-License-Identifier: Apache-2.0
"""`ceremony roles`: the tenant root says whose keys write and sign its logs; a log from before is carried over with it.

Implements ESCROW "What it believes of the log" and ORGANISATION "Commands of the operator". A log that is older than
signatures is numbered to its end, signed, and pinned in field 10 of the first version.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from audit import access, journal, sequencer
from audit import services as audit
from audit.models import Checkpoint, LogHead, Waiting
from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.root import public_key, release_directory, root_of
from config.roles import WRITING_ROLES, create_role_key, role_key_file
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Forked, HoldfastError, Untrusted
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from holdfast.core.identity.roles import RoleKey, Roles, SignedRoles, verify_roles
from holdfast.core.log import tiles
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from hsm import registry
from kernel.actors import system_actor
from kernel.errors import DomainError
from kernel.scope import tenant_scope
from recovery.release import carried, record
from tenants.models import Tenant

LOG = "audit"
# Whose keys sign what this very ceremony writes.
_USED_HERE: Final = (Role.CEREMONY, Role.LOG)


class RolesCeremony:
    """What is missing until a tenant's roles name these keys. Raises CeremonyRefused for what cannot be."""

    def __init__(
        self,
        tenant: Tenant,
        *,
        given: Mapping[Role, PublicKey] | None = None,
        ended: Sequence[tuple[Role, bytes]] = (),
    ) -> None:
        self._tenant = tenant
        self._root = root_of(tenant)
        self._given = given or {}
        self._ended = {kid: role for role, kid in ended}
        self._actor = system_actor(tenant.pk, "ceremony")
        with tenant_scope(tenant.pk):
            row = access.newest_roles()
            self._before = self._verified(None if row is None else bytes(row.statement))
            self._is_older = self._before is None and (_numbered() > 0 or sequencer.count_unsigned(tenant.pk) > 0)

    def steps(self) -> Iterator[Step]:
        """Give what is missing, in the order in which it has to be done."""
        # To carry a log over we must, in this order:
        #
        # (1) have the keys, and the root pinned where the sequencer looks;
        # (2) number and sign what is older than signatures, while it still can be;
        # (3) end the cases that were decided by entries which nobody signed;
        # (4) publish: from here on nothing unsigned is numbered;
        # (5) put away what the release process kept in its older form: the roles pin the same past, and more of it.
        for role in self._made_here():
            path = role_key_file(role)
            if not path.exists():
                yield Step(f"make the key of the role {role}, in {path}", partial(create_role_key, role))
        if journal.root_key(self._tenant.pk) is None:
            pin = partial(journal.pin_root, self._tenant.pk, self._root.public)
            yield Step("pin the tenant's root for the sequencer", pin)  # (1)
        if self._is_older:
            waiting = sequencer.count_unsigned(self._tenant.pk)
            yield Step(
                f"check that the stored log is the one that was signed, number the {waiting} entries that wait and are "
                "older than signatures, and sign the head",
                self._finish_unsigned,  # (2)
            )
            yield Step("end every case that is not released, and tell those concerned", self._void)  # (3)
        if self._changes():
            yield Step(self._says(), self._publish)  # (4)
        directory = release_directory(self._tenant.pk)
        if carried.is_of_before(directory):
            yield Step(
                "keep the release process's keys under their names, and put away its older memory of this log",
                self._carry_directory,  # (5)
            )

    def _made_here(self) -> Iterator[Role]:
        """Give the roles whose key is in this installation's own files, or is to be made there."""
        named = set() if self._before is None else {row.role for row in self._before.roles.keys if not row.until}
        for role in WRITING_ROLES:
            # Where a role's account has made its own key, another one made here would be a key more for nobody.
            if role not in self._given and (role not in named or role_key_file(role).exists()):
                yield role

    def _verified(self, statement: bytes | None) -> SignedRoles | None:
        directory = release_directory(self._tenant.pk)
        seen = directory.seen_roles() if directory.has_trust() else None
        try:
            # Stops a second version of one number: a database put back would have the root name a key again that ended.
            if statement is None and seen is not None:
                raise Untrusted("they are gone")
            if statement is None:
                return None
            return verify_roles(
                Sign1.parse(statement), tenant=self._tenant.pk.bytes, root_key=self._root.public, seen=seen
            )
        except HoldfastError as error:
            raise CeremonyRefused(
                f"The stored roles are not this root's, or not those that the release process saw ({error}): look at "
                "the database, and at which backup was put back. See: ceremony accept-restored"
            ) from error

    # Keys.

    def _keys(self) -> dict[Role, PublicKey]:
        """Return the keys that are to be named; those to be made are missing."""
        made = {role: create_role_key(role).public for role in self._made_here() if role_key_file(role).exists()}
        return {**made, **self._given, Role.LOG: public_key(registry.log().public_key)}

    def _changes(self) -> bool:
        before = self._before
        if before is None or any(not role_key_file(role).exists() for role in self._made_here()):
            return True
        return self._rows(end_at=1) != before.roles.keys

    def _rows(self, *, end_at: int) -> tuple[RoleKey, ...]:
        rows = {} if self._before is None else {row.key.kid: row for row in self._before.roles.keys}
        for role, key in self._keys().items():
            row = rows.setdefault(key.kid, RoleKey(role, key))
            if row.role is not role:
                raise CeremonyRefused(f"The key {key.kid.hex()} is named for the role {row.role} already.")
            if role in _USED_HERE and (row.until or key.kid in self._ended):
                raise CeremonyRefused(
                    f"This ceremony uses the key {key.kid.hex()} of {role}: put its next in place first."
                )
        for kid, role in self._ended.items():
            ending = rows.get(kid)
            if ending is None or ending.role is not role:
                raise CeremonyRefused(f"The roles name no key {kid.hex()} of {role}.")
            rows[kid] = replace(ending, until=ending.until or end_at)
        without = {row.role for row in rows.values()} - {row.role for row in rows.values() if not row.until}
        if without:
            raise CeremonyRefused(f"{', '.join(sorted(without))} would be left without a key: name the next one first.")
        return tuple(rows.values())

    def _says(self) -> str:
        version = 1 if self._before is None else self._before.roles.version + 1
        ends = "".join(f"; end {role} {kid.hex()} at the log's present size" for kid, role in self._ended.items())
        return f"have the tenant root sign version {version} of the roles, which names the keys of all roles{ends}"

    def _publish(self) -> None:
        unsigned = None if self._before is None else self._before.roles.unsigned
        if self._is_older:
            unsigned = self._finish_unsigned()
        roles = Roles(
            header=Header(tenant=self._tenant.pk.bytes, user=b"", device=b"", issued_at=int(time.time())),
            version=1 if self._before is None else self._before.roles.version + 1,
            keys=self._rows(end_at=self._size_without_waiting() if self._ended else 0),
            predecessor=b"" if self._before is None else self._before.hash,
            unsigned=unsigned,
        )
        signed = cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=self._root)
        with tenant_scope(self._tenant.pk):
            audit.publish_roles(statement=signed.encode(), root_key=self._root.public, actor=self._actor)

    def _size_without_waiting(self) -> int:
        """Number what waits, and return the size at which keys end. Raises CeremonyRefused while their rows wait."""
        sequencer.sequence(self._tenant.pk, LOG)
        with tenant_scope(self._tenant.pk):
            for leaf in Waiting.objects.filter(log=LOG, refused="").values_list("leaf", flat=True):
                if LogEntry.from_leaf(bytes(leaf)).kid in self._ended:
                    raise CeremonyRefused("Entries under that key still wait for their index: stop its process first.")
            return _numbered()

    # A log that is older than signatures.

    def _finish_unsigned(self) -> tuple[int, bytes]:
        with tenant_scope(self._tenant.pk):
            self._require_signed_log()
            self._require_followed_log()
        head = sequencer.number_unsigned(self._tenant.pk)
        return head.size, head.root

    def _require_signed_log(self) -> None:
        """Raise CeremonyRefused unless the stored leaves lead to the newest signed head, and on to the tree's edge."""
        size, newest = _numbered(), Checkpoint.objects.filter(log=LOG).order_by("-size").first()
        if newest is not None:
            verifier = sequencer.verifier(self._tenant.pk, LOG, registry.log().public_key)
            verifier.open_checkpoint(newest.note)
        try:
            walked = CompactRange()
            for leaf in audit.entries_between(self._tenant.pk, LOG, 0, size):
                walked = walked.append(leaf_hash(leaf))
                if newest is not None and walked.size == newest.size:
                    _require_root(walked.root(), bytes(newest.root))
            if size:
                _require_root(walked.root(), tiles.root(access.tile_reader(LOG), size))
        except (HoldfastError, DomainError) as error:
            raise CeremonyRefused(
                "The stored log is not the one that was signed. Nothing is named or signed here: look who changed it."
            ) from error

    def _require_followed_log(self) -> None:
        """Raise CeremonyRefused unless what the release process followed is this log's past."""
        try:
            carried.require_followed(release_directory(self._tenant.pk))
        except (HoldfastError, DomainError) as error:
            raise CeremonyRefused(
                f"The release process followed another log than the one stored ({error}). Nothing is named or signed "
                "here: look who changed it, or which backup was put back."
            ) from error

    def _void(self) -> None:
        with tenant_scope(self._tenant.pk):
            record.void_open_cases(why="voided", actor=self._actor)

    def _carry_directory(self) -> None:
        directory = release_directory(self._tenant.pk)
        with tenant_scope(self._tenant.pk):
            row = access.newest_roles()
            assert row is not None
            directory.see_roles(Sign1.parse(bytes(row.statement)))
            carried.put_away(directory)


def is_missing(tenant: Tenant) -> bool:
    """Tell whether a tenant was founded before roles, or was not wholly carried over."""
    with tenant_scope(tenant.pk):
        return access.newest_roles() is None or carried.is_of_before(release_directory(tenant.pk))


def key_text(role: Role, key: PublicKey) -> str:
    """Return the line by which a role's account hands its public key to the ceremony."""
    return f"{role} {b64u(key.encoded)}"


def read_key(role: Role, path: Path) -> PublicKey:
    """Read such a line. Raises CeremonyRefused for another role's, or what is none."""
    try:
        name, text = path.read_text().split()
        if name != role:
            raise CeremonyRefused(f"{path} holds a key of the role {name}, not of {role}.")
        return decode_public_key(unb64u(text), expect=SIGNING_KINDS)
    except (OSError, ValueError, HoldfastError) as error:
        raise CeremonyRefused(f"{path} holds no line of `manage.py role_key`: {error}.") from error


def _numbered() -> int:
    head = LogHead.objects.filter(log=LOG).first()
    return head.size if head else 0


def _require_root(found: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(found, expected):
        raise Forked("the leaves do not lead to the head")
