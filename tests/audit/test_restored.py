# SPDX-License-Identifier: Apache-2.0
"""A database that was put back, as the log finds it out: by the sequencer's memory, and by heads that clients show."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from audit import access, journal, restored, sequencer
from audit import services as audit
from audit.errors import LogRestored
from audit.models import AcceptedLog, Entry, Restored, ShownHead
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.acts import Act, Resolution
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import log_origin
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from hsm.backend import LogToken
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tests.audit.support import leaf_hashes
from tests.cast.roles import found_roles, name_log_key
from tests.cast.tenants import Cast, Signer, build_world, make_device

pytestmark = [pytest.mark.urls("tests.audit.urls"), pytest.mark.django_db(transaction=True), pytest.mark.postgres]
HEAD = "/api/v1/audit/head"
STRANGER = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(32)))


class Logs:
    """Acme with a few entries in both logs, signed; and notes of heads as its log key signs them."""

    def __init__(self, token: LogToken) -> None:
        self.cast: Cast = build_world()
        self.tenant_id: UUID = self.cast.acme.pk
        self.token = token
        found_roles(self.tenant_id)
        name_log_key(self.tenant_id, token.public_key)
        self.alice = make_device(self.cast.alice)
        self.grow(3)

    def append(self, count: int) -> None:
        with tenant_scope(self.tenant_id):
            for number in range(count):
                with transaction.atomic():
                    actor = system_actor(self.tenant_id, "test")
                    audit.append(tag="audit:entries:read", actor=actor, body={"count": number})
                    digest = hashlib.sha256(str(number).encode()).digest()
                    audit.append_key_leaf(type=1, seq=number, statement_hash=digest, user=self.cast.alice.pk)

    def grow(self, count: int) -> None:
        self.append(count)
        self.sequence()

    def sequence(self) -> None:
        for log in ("audit", "keys"):
            sequencer.sequence(self.tenant_id, log)

    def size(self, log: str) -> int:
        return len(leaf_hashes(self.tenant_id, log))

    def note(self, log: str, size: int, *, root: bytes | None = None, age: int = 0) -> str:
        """A head of this size that the log key signed; of the stored log's root unless another is named."""
        found = root or merkle.root(leaf_hashes(self.tenant_id, log)[:size])
        key = sequencer.verifier(self.tenant_id, log, self.token.public_key)
        return sign_note(
            Checkpoint(key.name, size, found, int(time.time()) - age).to_text(), verifier=key, sign=self.token.sign
        )

    def newer(self, log: str, *, more: int = 7, age: int = 0) -> str:
        return self.note(log, self.size(log) + more, root=secrets.token_bytes(32), age=age)

    def show(self, note: Any, signer: Signer | None = None) -> Any:
        return (signer or self.alice).send(Client(), "POST", HEAD, json.dumps({"note": note}).encode())

    def marks(self) -> list[str]:
        return list(Restored.unscoped.filter(tenant_id=self.tenant_id).values_list("by", flat=True))

    def accept(self, *, at: int, sizes: tuple[int, int] | None = None) -> bytes:
        """What a ceremony keeps of a resolution that accepts both logs, as they are or at these sizes."""
        about: list[int | bytes] = []
        for log, size in zip(("audit", "keys"), sizes or (self.size("audit"), self.size("keys")), strict=True):
            about += [size, merkle.root(leaf_hashes(self.tenant_id, log)[:size])]
        made = Resolution(
            Header(self.tenant_id.bytes, b"", b"", at), Act.ACCEPT_LOG, tuple(about), bytes(32), bytes(16)
        )
        signed = cose.sign(made.to_payload(), purpose=Purpose.RESOLUTION, key=STRANGER)
        statement = cose.encode_many([signed])
        with tenant_scope(self.tenant_id), transaction.atomic():
            restored.accept(
                statement=statement,
                digest=signed.payload_hash,
                audit_size=made.size,
                keys_size=about[2],  # type: ignore[arg-type]
            )
            restored.end()
        return statement


@pytest.fixture
def logs(log_token: LogToken) -> Logs:
    return Logs(log_token)


@pytest.mark.parametrize("log", ["audit", "keys"])
@pytest.mark.parametrize("what", ["a longer log", "another root"])
def test_head_that_the_stored_log_lost_makes_the_tenant_read_only(log: str, what: str, logs: Logs) -> None:
    note = logs.newer(log) if what == "a longer log" else logs.note(log, 2, root=bytes(32))
    for _ in range(2):
        answer = logs.show(note)
        assert (answer.status_code, answer.json()) == (200, {"read_only": True})
    assert logs.marks() == ["client"]
    entries = Entry.unscoped.filter(tenant_id=logs.tenant_id, tag="audit:log:newer")
    head = Checkpoint.from_text(note.partition("\n\n")[0] + "\n")
    assert [(row.body, row.leaf_index) for row in entries] == [
        ({"log": log, "size": head.size, "root": b64u(head.root)}, None)
    ]
    assert [(row.log, row.size, row.note) for row in ShownHead.unscoped.all()] == [(log, head.size, note)]
    logs.append(1)
    for name in ("audit", "keys"):
        size = logs.size(name)
        with pytest.raises(LogRestored):
            sequencer.sequence(logs.tenant_id, name)
        assert logs.size(name) == size, "nothing is numbered either"
    shown = logs.alice.send(Client(), "GET", f"{HEAD}?log={log}").json()
    assert shown["read_only"]


@pytest.mark.parametrize("log", ["audit", "keys"])
def test_of_each_log_the_largest_head_is_kept(log: str, logs: Logs) -> None:
    notes = [logs.newer(log, more=more) for more in (5, 9, 2)]
    for note in notes:
        assert logs.show(note).status_code == 200
    assert [row.note for row in ShownHead.unscoped.all()] == [notes[1]]


def test_head_that_the_log_leads_to_changes_nothing(logs: Logs) -> None:
    for log in ("audit", "keys"):
        for size in range(1, logs.size(log) + 1):
            answer = logs.show(logs.note(log, size))
            assert (answer.status_code, answer.json()) == (200, {"read_only": False})
    assert (logs.marks(), ShownHead.unscoped.count()) == ([], 0)


FORGED: dict[str, Callable[[Logs], str]] = {
    "of a key of their own": lambda logs: _forged(logs.tenant_id, "audit"),
    "of another tenant": lambda logs: sign_note(
        Checkpoint(_other(logs).name, 900, bytes(32), int(time.time())).to_text(),
        verifier=_other(logs),
        sign=logs.token.sign,
    ),
    "of a log that there is not": lambda logs: _named(logs, "mail"),
    "without a signature": lambda logs: logs.newer("keys").partition("\n\n")[0] + "\n",
    "no head": lambda logs: "nothing",
    "changed": lambda logs: logs.newer("keys").replace("time 1", "time 2", 1),
}


def _forged(tenant_id: UUID, log: str) -> str:
    key = NoteVerifier(log_origin(str(tenant_id), log), STRANGER.public)
    return sign_note(Checkpoint(key.name, 900, bytes(32), int(time.time())).to_text(), verifier=key, sign=STRANGER.sign)


def _other(logs: Logs) -> NoteVerifier:
    return sequencer.verifier(logs.cast.other.pk, "audit", logs.token.public_key)


def _named(logs: Logs, log: str) -> str:
    key = sequencer.verifier(logs.tenant_id, log, logs.token.public_key)
    return sign_note(
        Checkpoint(key.name, 900, bytes(32), int(time.time())).to_text(), verifier=key, sign=logs.token.sign
    )


@pytest.mark.parametrize("what", FORGED)
def test_nobody_makes_a_tenant_read_only_without_its_log_key(what: str, logs: Logs) -> None:
    answer = logs.show(FORGED[what](logs))
    assert (answer.status_code, answer.json()["code"]) == (422, "head-refused")
    assert (logs.marks(), ShownHead.unscoped.count()) == ([], 0)
    assert logs.show(logs.newer("keys"), make_device(logs.cast.otto)).json() == {"read_only": True}


@pytest.mark.parametrize("log", ["audit", "keys"])
def test_heads_that_officers_left_behind_do_nothing_when_they_are_shown_again(log: str, logs: Logs) -> None:
    left, later = logs.newer(log, age=600), logs.newer(log)
    assert logs.show(left).json() == {"read_only": True}
    logs.accept(at=int(time.time()) - 400)
    logs.grow(1)
    assert logs.show(left).json() == {"read_only": False}
    assert (logs.marks(), ShownHead.unscoped.count()) == ([], 0)
    # One that was signed after they decided is another backup's.
    assert logs.show(later).json() == {"read_only": True}


def test_head_says_what_was_accepted_and_leads_on_from_what_its_reader_holds(logs: Logs) -> None:
    first = logs.accept(at=int(time.time()) - 1000)
    old = {log: logs.size(log) for log in ("audit", "keys")}
    logs.grow(4)
    second = logs.accept(at=int(time.time()))
    for log in ("audit", "keys"):
        shown = logs.alice.send(Client(), "GET", f"{HEAD}?log={log}&old_size={old[log]}").json()
        assert (shown["log"], shown["read_only"]) == (log, False)
        assert [unb64u(one) for one in shown["accepted"]] == [second, first]
        hashes = leaf_hashes(logs.tenant_id, log)
        head = Checkpoint.from_text(shown["checkpoint"].partition("\n\n")[0] + "\n")
        assert (head.size, head.root) == (len(hashes), merkle.root(hashes))
        proof = [unb64u(node) for node in shown["consistency"]]
        merkle.verify_consistency(
            old_size=old[log],
            size=head.size,
            old_root=merkle.root(hashes[: old[log]]),
            new_root=head.root,
            proof=proof,
        )
        for beyond in (0, head.size, head.size + 1):
            shown = logs.alice.send(Client(), "GET", f"{HEAD}?log={log}&old_size={beyond}").json()
            assert shown["consistency"] == []
    with tenant_scope(logs.tenant_id):
        assert access.accepted_at() == AcceptedLog.unscoped.latest("at").at
        assert [bytes(row.statement) for row in access.accepted_logs()] == [second, first]


def test_sequencer_marks_the_tenant_whose_log_is_shorter_than_it_signed(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    journal.replace_heads(logs.tenant_id, {"keys": journal.Head(logs.size("keys") + 1, bytes(32))})
    with pytest.raises(LogRestored):
        logs.grow(1)
    assert logs.marks() == ["sequencer"]
    assert caplog.text.count("put back from a backup") == 1


def test_journal_of_a_tenant_at_rest_is_read_once(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand idle tenants cost a look at each one's directory; whoever writes there is heard at once."""
    read, signed_head = [], journal.signed_head

    def counted(tenant_id: UUID, log: str) -> journal.Head | None:
        read.append(log)
        return signed_head(tenant_id, log)

    monkeypatch.setattr(journal, "signed_head", counted)
    logs.grow(1)
    for _ in range(3):
        read.clear()
        sequencer.find_restored()
        assert logs.marks() == []
    assert read == []
    # By another process: nothing here was told of it.
    known = dict(journal._sizes)
    journal.replace_heads(logs.tenant_id, {"keys": journal.Head(logs.size("keys") + 1, bytes(32))})
    journal._sizes.update(known)
    sequencer.find_restored()
    assert logs.marks() == ["sequencer"]
