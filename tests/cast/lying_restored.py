# SPDX-License-Identifier: Apache-2.0
"""The lying server put back from a backup: what it had then, what officers accept of it, and heads that it is shown.

Implements docs/formats/key-log.md "After a restored backup" as a client uses it. Verifies no officer and no acceptance:
whatever the client survives here, it survives by its own checks.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.identity.acts import Act, Resolution
from holdfast.core.identity.entries import Entry
from holdfast.core.log import merkle
from holdfast.core.signed.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.signed.payloads import Header
from tests.cast.lying_log import KeysLog
from tests.cast.lying_mailbox import refused
from tests.cast.officers import Founder

if TYPE_CHECKING:
    from tests.cast.lying_server import Tenant

# All that is of one tenant in a database, but for the queues of messages and what officers do.
_ROWS = ("chains", "devices", "addresses", "bundles", "batches", "vaults", "doors", "deposits", "leaves")
# What is taken while everything else waits for the officers.
STILL_TAKEN = frozenset({"audit/head", "escrow/resolutions"})


class Restorable:
    """What `audit/head` answers, and the way to a past of this server and on from there."""

    tenant: Tenant
    keys_log: KeysLog
    chains: dict[str, list[bytes]]
    leaves: list[bytes]
    audit_note: Callable[..., str]

    def __init__(self) -> None:
        self.accepted: list[bytes] = []  # newest first
        self.shown_heads: list[str] = []
        self.is_read_only = False

    def backup(self) -> dict[str, Any]:
        """Return all that a dump of the database has."""
        return {name: copy.deepcopy(getattr(self, name)) for name in _ROWS} | {"keys": [*self.keys_log.leaves]}

    def put_back(self, backup: dict[str, Any]) -> None:
        """Go on from a backup, as if nothing had come after."""
        for name in _ROWS:
            setattr(self, name, copy.deepcopy(backup[name]))
        self.keys_log.leaves = [*backup["keys"]]

    def accept(
        self,
        at: int,
        *,
        by: Sequence[Founder] | None = None,
        tenant: bytes | None = None,
        policy_hash: bytes | None = None,
        about: tuple[int | bytes, ...] | None = None,
        act: Act = Act.ACCEPT_LOG,
    ) -> bytes:
        """Have two officers accept both logs as they are now, or what a test says; show it from now on, newest first.

        at: the resolution's date. Returns the statement.
        """
        resolution = Resolution(
            Header(self.tenant.tenant if tenant is None else tenant, b"", b"", at),
            act,
            self.both_logs() if about is None else about,
            self.tenant.policy_hash if policy_hash is None else policy_hash,
            secrets.token_bytes(16),
        )
        officers = self.tenant.officers[:2] if by is None else by
        signed: list[Sign1] = [
            sign(resolution.to_payload(), purpose=Purpose.RESOLUTION, key=one.signing_key) for one in officers
        ]
        self.accepted.insert(0, encode_many(signed))
        self.is_read_only = False
        return self.accepted[0]

    def both_logs(self) -> tuple[int | bytes, ...]:
        """The object of a resolution that accepts both logs as they are."""
        parts: list[int | bytes] = []
        for leaves in (self.leaves, self.keys_log.leaves):
            parts += [len(leaves), merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])]
        return tuple(parts)

    def audit_head(self, _asker: str, _body: Any, query: Any) -> Any:
        is_audit, old = query["log"] == "audit", int(query.get("old_size", 0))
        leaves = self.leaves if is_audit else self.keys_log.leaves
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        note = self.audit_note() if is_audit else self.keys_log.checkpoint()
        return 200, {
            "log": query["log"],
            "checkpoint": note if leaves else "",
            "consistency": [b64u(one) for one in merkle.consistency_proof(hashes, old)]
            if 0 < old < len(leaves)
            else [],
            "read_only": self.is_read_only,
            "accepted": [b64u(one) for one in self.accepted[:20]],
        }

    def show_head(self, _asker: str, body: Any, _query: Any) -> Any:
        self.shown_heads.append(body["note"])
        self.is_read_only = True
        return 200, {"read_only": True}

    def give_chain_back(self, _asker: str, body: Any, _query: Any, user: str) -> Any:
        """Take what follows upon what is there, unverified; nothing while officers have accepted nothing."""
        if not self.accepted:
            return refused(409, "nothing-restored")
        entries, taken = self.chains.setdefault(user, []), 0
        for encoded in map(unb64u, body["entries"]):
            entry = Entry.parse(encoded)
            if entry.seq == len(entries):
                entries.append(encoded)
                self.keys_log.append(UUID(user).bytes, entry)
                taken += 1
        return 200, {
            "head": b64u(Entry.parse(entries[-1]).hash),
            "seq": len(entries) - 1,
            "taken": taken,
            "devices": [],
        }


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "audit/head"): Restorable.audit_head,
    ("POST", "audit/head"): Restorable.show_head,
    ("POST", r"users/([0-9a-f-]{36})/chain/restored"): Restorable.give_chain_back,
}
