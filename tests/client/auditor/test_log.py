# SPDX-License-Identifier: Apache-2.0
"""An export fetched by a profile is held to the root that the profile is pinned to, and to what it has seen before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from holdfast.client.auditor import log
from holdfast.client.auditor.auditor import Verdict, Writers, verify_export
from holdfast.client.errors import ServerRestored, TrustRefused
from holdfast.client.identity import device, heads, restored
from holdfast.client.profile.account import Account
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import RoleKey
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.log_export import ExportedEntry, Header, checkpoint_line
from holdfast.core.log.writers import Role
from tests.cast.lying_server import NOW, TENANT
from tests.cast.members import BOB, Members

WEB = SigningKey.generate()


def entries(count: int, *, log: str = "audit") -> list[bytes]:
    read = LogEntry(bytes(16), "audit:entries:read", "device:x", b"", "", NOW)
    origin = log_origin(str(UUID(bytes=TENANT)), log)
    return [
        replace(read, entry_id=n.to_bytes(16, "big")).signed(origin=origin, key=WEB).to_leaf() for n in range(count)
    ]


def served(world: Members, monkeypatch: pytest.MonkeyPatch, leaves: list[bytes], *, log: str = "audit") -> None:
    """Have the server send this log, with the root's newest word, whatever it is asked for."""
    tenant = world.server.tenant
    signer = NoteVerifier(log_origin(str(UUID(bytes=TENANT)), log), tenant.log.public)
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    note = sign_note(
        Checkpoint(signer.name, len(leaves), merkle.root(hashes), NOW).to_text(), verifier=signer, sign=tenant.log.sign
    )
    roles = tenant.roles[-1] if tenant.roles else b""
    lines = [Header(signer.name, signer.to_text(), len(leaves), roles=roles).to_line()]
    lines += [
        ExportedEntry(index, leaf, tuple(merkle.inclusion_proof(hashes, index))).to_line()
        for index, leaf in enumerate(leaves)
    ]
    lines.append(checkpoint_line(note))
    monkeypatch.setattr("holdfast.client.server.transport.Api.download", lambda *_args, **_named: iter(lines))


@pytest.fixture
def bob(world: Members) -> Account:
    tenant = world.server.tenant
    tenant.roles.append(tenant.sign_roles(RoleKey(Role.LOG, tenant.log.public), RoleKey(Role.WEB, WEB.public)))
    return world.enrolled(BOB)


def test_export_is_held_to_the_pinned_root_and_its_key_is_what_to_hand_on(
    world: Members, bob: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(world, monkeypatch, entries(5))
    report = log.export(bob, tmp_path / "log.jsonl")
    assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.ANCHORED)
    again = verify_export(tmp_path / "log.jsonl", log.root_key(bob))
    assert (again.verdict, again.writers) == (Verdict.VERIFIED, Writers.ANCHORED)
    served(world, monkeypatch, entries(4))
    with pytest.raises(TrustRefused, match="the log was cut"):
        log.export(bob, tmp_path / "shorter.jsonl")


def test_export_across_a_backup_that_officers_accepted_says_so_and_any_other_is_refused(
    world: Members, bob: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremony = SigningKey.generate()
    tenant, origin = world.server.tenant, log_origin(str(UUID(bytes=TENANT)), "audit")
    tenant.roles[:] = [
        tenant.sign_roles(
            RoleKey(Role.LOG, tenant.log.public), RoleKey(Role.WEB, WEB.public), RoleKey(Role.CEREMONY, ceremony.public)
        )
    ]
    served(world, monkeypatch, entries(5))
    log.export(bob, tmp_path / "before.jsonl")
    seen = heads.own(bob, heads.AUDIT)
    world.now += 3600
    said: dict[str, int | str | bytes] = {"hash": bytes(32), "size": 3, "root": bytes(32)}
    accepts = LogEntry(b"accepts---------", "audit:log:accept", "system:x", b"", "", world.now, said)
    world.server.leaves = entries(3)
    cut = world.server.both_logs()
    world.server.leaves += [accepts.signed(origin=origin, key=ceremony).to_leaf(), *entries(9)[6:]]
    served(world, monkeypatch, world.server.leaves)
    with pytest.raises(ServerRestored, match="rewritten") as refused:
        log.export(bob, tmp_path / "refused.jsonl")
    assert str(tmp_path) in refused.value.way_out
    assert (world.server.shown_heads, heads.own(bob, heads.AUDIT)) == ([seen], seen)
    # What officers accepted of another log explains nothing of this one.
    world.server.accept(world.now, about=(3, bytes(32), *cut[2:]))
    with pytest.raises(ServerRestored, match="rewritten"):
        log.export(bob, tmp_path / "refused-again.jsonl")
    world.server.accept(world.now, about=cut)
    report = log.export(bob, tmp_path / "after.jsonl")
    assert (report.verdict, report.restored) == (Verdict.VERIFIED, ((3, 3),))
    assert "entry 3 says that a backup of 3 entries was put back" in report.reason
    assert [one.note for one in restored.taken(bob, heads.AUDIT)] == [seen.encode()]
    assert log.export(bob, tmp_path / "again.jsonl").verdict is Verdict.VERIFIED


def test_export_that_the_root_does_not_lead_to_is_refused(
    world: Members, bob: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(why: str) -> None:
        with pytest.raises(TrustRefused, match=why):
            log.export(bob, tmp_path / uuid4().hex)

    forged = entries(5)
    forged[2] = LogEntry.from_leaf(forged[2]).signed(origin="holdfast/x/audit", key=WEB).to_leaf()
    served(world, monkeypatch, forged)
    refused("entry 2 was written by nobody who may")
    served(world, monkeypatch, entries(5), log="keys")
    refused("another log")
    kept, world.server.tenant.roles = world.server.tenant.roles, []
    served(world, monkeypatch, entries(5))
    world.server.tenant.roles = kept
    refused("leaves out whose keys")


def test_root_that_was_taken_on_first_use_anchors_nothing(
    world: Members, bob: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustful = world.profile(bytes(16))
    device.enrol(trustful, replace(world.server.code(bytes(16)), root_pin=b"", log_vkey=""), name="laptop")
    served(world, monkeypatch, entries(5))
    assert log.root_key(trustful) is None
    assert log.export(trustful, tmp_path / "log.jsonl").verdict is Verdict.NOT_ANCHORED


def test_export_of_a_server_older_than_role_keys_is_held_to_the_codes_log_key(
    world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.server.tenant.roles.clear()
    bob = world.enrolled(BOB)
    served(world, monkeypatch, entries(5))
    report = log.export(bob, tmp_path / "log.jsonl")
    assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.UNKNOWN)
