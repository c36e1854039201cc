# SPDX-License-Identifier: Apache-2.0
"""The tenant root's word on whose keys write and sign its logs, and the check of one entry against it.

Implements the statement `roles` of PROTOCOL section 3, and ESCROW "What it believes of the log". The same check serves
the sequencer, the release process, clients and an auditor's laptop. It keeps nothing: the caller remembers versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final
from uuid import UUID

from holdfast.core.base.encoding import Encodable, Fields, Value
from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.log_entry import LogEntry, log_origin, verify_leaf
from holdfast.core.log.merkle import MAX_SIZE
from holdfast.core.log.writers import WRITERS, Role
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    MAX_U32,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_tenant_only,
)

# Six roles, each with a new key a year for twenty years: a statement of 16 KiB has room for twice as many.
MAX_KEYS: Final = 128


class WrongLeaf(Untrusted):
    """An entry of the log that nobody entitled wrote; `why` is a fixed word of ours."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"an entry of the log is not what it has to be: {why}")


@dataclass(frozen=True)
class RoleKey:
    """One key of one role. until: the size of the audit log at which it ends, 0 while it holds."""

    role: Role
    key: PublicKey
    until: int = 0


@dataclass(frozen=True)
class Roles:
    """Every key that ever wrote or signed this tenant's logs.

    predecessor: hash of the version before, b"" of the first. unsigned: (size, root) below which leaves bear no
    signature, of a log that is older than this statement.
    """

    PURPOSE: ClassVar = Purpose.ROLES

    header: Header
    version: int
    keys: tuple[RoleKey, ...]
    predecessor: bytes = b""
    unsigned: tuple[int, bytes] | None = None

    @cached_property
    def _by_kid(self) -> dict[bytes, RoleKey]:
        return {row.key.kid: row for row in self.keys}

    def of(self, role: Role) -> Iterator[PublicKey]:
        """Give the keys of a role that hold, oldest first."""
        return (row.key for row in self.keys if row.role is role and not row.until)

    def all_of(self, role: Role) -> Iterator[PublicKey]:
        """Give the keys that a role has or ever had, oldest first."""
        return (row.key for row in self.keys if row.role is role)

    def named(self, kid: bytes) -> RoleKey | None:
        """Return the key of this name, if the tenant root ever named it."""
        return self._by_kid.get(kid)

    @cached_property
    def origin(self) -> str:
        """The name of the audit log that these keys write."""
        return self.origin_of("audit")

    def origin_of(self, log: str) -> str:
        """The name of one of this tenant's two logs: `audit` or `keys`."""
        return log_origin(str(UUID(bytes=self.header.tenant)), log)

    def may_sign(self, verifier: NoteVerifier, *, size: int) -> bool:
        """Whether a head of this size may be signed by this key, under this name.

        An end is counted in entries of the audit log: of the other log, a key that ended signs no head any more.
        """
        row = self.named(verifier.key.kid)
        if row is None or row.role is not Role.LOG:
            return False
        if verifier.name == self.origin:
            return not row.until or size <= row.until
        return verifier.name == self.origin_of("keys") and not row.until

    def open_head(self, note: str, *, log: str = "audit") -> Checkpoint:
        """Return the head in a note that a log key of this tenant signed while it held.

        log: `audit` or `keys`, which share their keys. Raises Malformed, and InvalidSignature for any other note.
        """
        refusal = InvalidSignature("the head is not signed by a key that the tenant root names")
        for row in self.keys:
            if row.role is not Role.LOG:
                continue
            verifier = NoteVerifier(self.origin_of(log), row.key)
            try:
                head = verifier.open_checkpoint(note)
            except InvalidSignature as error:
                refusal = error
                continue
            if not self.may_sign(verifier, size=head.size):
                raise InvalidSignature("the head is signed by a key that had ended")
            return head
        raise refusal

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `roles`."""
        rows: list[Encodable] = [[str(row.role), row.key.encoded, row.until] for row in self.keys]
        fields: dict[int, Encodable] = {7: self.version, 8: rows}
        if self.predecessor:
            fields[9] = self.predecessor
        if self.unsigned is not None:
            fields[10] = list(self.unsigned)
        return close_payload(self.header, fields)

    @classmethod
    def from_payload(cls, payload: bytes) -> Roles:
        """Read the payload; raises Malformed, also for one key twice: a key then has one role."""
        header, fields = open_payload(payload, "roles", (7, 8), (9, 10))
        require_tenant_only(header, "roles")
        version = fields.uint(7, minimum=1, maximum=MAX_U32)
        keys = tuple(_role_key(row) for row in fields.array(8, minimum=1, maximum=MAX_KEYS))
        if len({row.key.kid for row in keys}) != len(keys):
            raise fields.refuse(8, "names one key twice")
        if (9 in fields) is (version == 1):
            raise fields.refuse(9, "belongs to every version but the first")
        unsigned = None
        if 10 in fields:
            row = Fields.of_row(fields.value(10), "roles: unsigned leaves", 2)
            unsigned = (row.uint(0, minimum=1, maximum=MAX_SIZE), row.octets(1, HASH_SIZE))
        return cls(header, version, keys, fields.octets(9, HASH_SIZE) if version > 1 else b"", unsigned)


def _role_key(value: Value) -> RoleKey:
    row = Fields.of_row(value, "role key", 3)
    name = row.text(0, maximum=16)
    if name not in Role.__members__.values():
        raise Malformed("role key: no such role")
    return RoleKey(Role(name), read_key(row, 1, SIGNING_KINDS), row.uint(2, maximum=MAX_SIZE))


@dataclass(frozen=True)
class SignedRoles:
    """Roles whose signature has been checked, and the hash that others name them by."""

    roles: Roles
    hash: bytes


def verify_roles(
    statement: Sign1, *, tenant: bytes, root_key: PublicKey, seen: SignedRoles | None = None
) -> SignedRoles:
    """Check the newest `roles` statement of a tenant: signed by its root, and no older than one seen before.

    Raises Malformed, InvalidSignature; Untrusted for another tenant's, an older version, or one in which a key seen
    before is gone, has another role, or ends elsewhere; Forked for another statement of the version seen.
    """
    statement.verify(root_key, purpose=Purpose.ROLES)
    roles = Roles.from_payload(statement.payload)
    if roles.header.tenant != tenant:
        raise Untrusted("roles of another tenant")
    signed = SignedRoles(roles, statement.payload_hash)
    if seen is not None:
        _require_follows(signed, seen)
    return signed


def _require_follows(signed: SignedRoles, seen: SignedRoles) -> None:
    if signed.roles.version < seen.roles.version:
        raise Untrusted("roles are older than those seen before")
    if signed.roles.version == seen.roles.version and signed.hash != seen.hash:
        raise Forked("two roles statements claim one version")
    # Stops a rewriting of the past: what a key has vouched for stays vouched for, and nothing is taken in below.
    if signed.roles.unsigned != seen.roles.unsigned:
        raise Untrusted("roles move the size below which entries are unsigned")
    for row in seen.roles.keys:
        now = signed.roles.named(row.key.kid)
        if now is None or now.role is not row.role or (row.until and now.until != row.until):
            raise Untrusted("roles change a key that was named before")


def root_verifier(tenant: bytes, root_key: PublicKey) -> NoteVerifier:
    """Return a tenant's root in the form in which people carry keys: `holdfast/<tenant uuid>/root+…`.

    tenant: 16 bytes. The root signs no note; the form is the log keys' own, so that a slip in copying shows.
    """
    return NoteVerifier(log_origin(str(UUID(bytes=tenant)), "root"), root_key)


def check_leaf(leaf: bytes, *, index: int, roles: Roles) -> LogEntry:
    """Check that whoever may write an audit entry wrote this one, at this index, and return what it says.

    Raises WrongLeaf: form, tag, role or signature is at fault, and whoever put it into the log. That an id comes once,
    the caller sees, who has all of them.
    """
    # To believe an entry we must know, in this order:
    #
    # (1) that it is in the one form that entries have;
    # (2) that it bears a signature, unless the root itself pinned that it is older than signatures;
    # (3) that its tag is one that the signer's role may write;
    # (4) that the key held at this place of the log, and signed these very bytes for this very log.
    try:
        entry = LogEntry.from_leaf(leaf)  # (1)
    except Malformed as error:
        raise WrongLeaf("form") from error
    check_entry(entry, leaf, index=index, roles=roles)
    return entry


def check_entry(entry: LogEntry, leaf: bytes, *, index: int, roles: Roles) -> None:
    """Check as `check_leaf` does, (2) to (4), an entry that was read from a leaf already. Raises WrongLeaf."""
    if roles.unsigned is not None and index < roles.unsigned[0]:
        return  # (2)
    if not entry.kid:
        raise WrongLeaf("unsigned")
    row = roles.named(entry.kid)
    if row is None:
        raise WrongLeaf("key")
    if row.role not in WRITERS.get(entry.tag, ()):  # (3)
        raise WrongLeaf("role")
    if row.until and index >= row.until:  # (4)
        raise WrongLeaf("key-ended")
    try:
        verify_leaf(leaf, entry, origin=roles.origin, key=row.key)
    except InvalidSignature as error:
        raise WrongLeaf("signature") from error
