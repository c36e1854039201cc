# SPDX-License-Identifier: Apache-2.0
"""The offline verifier against whoever holds the file: every change found, first bad entry named (FAULTS L4 to L6)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.auditor import auditor, parts
from holdfast.client.auditor.auditor import Verdict, VerificationReport, Writers, verify_export
from holdfast.core.base.errors import Malformed
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles, SignedRoles, root_verifier, verify_roles
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import merkle, tiles
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.log_export import (
    ExportedEntry,
    ExportedTile,
    Header,
    WithheldEntry,
    checkpoint_line,
    read_entry_line,
)
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header as PayloadHeader
from tests.published import audit as published
from tests.published.__main__ import VECTORS

ORIGIN = "holdfast/11111111-1111-4111-8111-111111111111/audit"
KEY = SigningKey.generate()
VERIFIER = notes.NoteVerifier(ORIGIN, KEY.public)
VKEY = VERIFIER.to_text()


def leaf_of(number: int, *, said: str = "") -> bytes:
    return LogEntry(
        entry_id=number.to_bytes(16, "big"),
        tag="escrow:case:approve",
        actor=f"device:{UUID(int=number)}",
        person=bytes(16),
        subject=said,
        time=1_700_000_000 + number,
        body={"index": number},
    ).to_leaf()


def note_of(leaves: list[bytes], *, key: SigningKey = KEY, origin: str = ORIGIN) -> str:
    grown = merkle.CompactRange.over(merkle.leaf_hash(leaf) for leaf in leaves)
    text = notes.Checkpoint(origin, grown.size, grown.root(), 1_800_000_000).to_text()
    return notes.sign_note(text, verifier=notes.NoteVerifier(origin, key.public), sign=key.sign)


def lines_of(leaves: list[bytes], *, key: SigningKey = KEY, origin: str = ORIGIN) -> list[bytes]:
    """An honest export: header, entries with proofs, head."""
    nodes = merkle.memory_nodes([merkle.leaf_hash(leaf) for leaf in leaves])
    size = len(leaves)
    entries = [
        ExportedEntry(index, leaf, tuple(merkle.inclusion_from(nodes, index, size)))
        for index, leaf in enumerate(leaves)
    ]
    header = Header(origin, notes.NoteVerifier(origin, key.public).to_text(), size)
    head = checkpoint_line(note_of(leaves, key=key, origin=origin))
    return [header.to_line(), *(entry.to_line() for entry in entries), head]


def with_tiles(lines: list[bytes]) -> list[bytes]:
    """The same log in the form that has a line of hashes before each 256 entries."""
    header = replace(Header.from_line(lines[0]), has_tiles=True)
    entries = [read_entry_line(line) for line in lines[1:-1]]
    nodes = merkle.memory_nodes([entry.leaf_hash for entry in entries])
    changed = [header.to_line()]
    for index, entry in enumerate(entries):
        if index % tiles.WIDTH == 0:
            hashes = b"".join(one.leaf_hash for one in entries[index : index + tiles.WIDTH])
            tile = index // tiles.WIDTH
            proof = tiles.tile_proof(nodes, index=tile, size=len(entries))
            changed.append(ExportedTile(tile, hashes, proof).to_line())
        changed.append(replace(entry, proof=None).to_line())
    return [*changed, lines[-1]]


def verify(
    tmp_path: Path, lines: list[bytes], vkey: str | None = VKEY, saved: list[str] | None = None
) -> VerificationReport:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(lines))
    return verify_export(path, vkey, saved=saved or [])


SIZES = (1, 2, 3, 7, 8, 9, 31, 33, 64, 65)
EXPORTS = {size: lines_of([leaf_of(number) for number in range(size)]) for size in SIZES}


@dataclass
class Forger:
    """Changes an export as whoever holds the file can: with everything but the log's key."""

    dice: random.Random

    def edit(self, lines: list[bytes], at: int) -> list[bytes]:
        """Another leaf, well-formed and with the text that belongs to it, under the proof of the old one."""
        entry = ExportedEntry.from_line(lines[at + 1])
        return self._put(lines, at, replace(entry, leaf=leaf_of(at, said="something else")))

    def edit_text(self, lines: list[bytes], at: int) -> list[bytes]:
        """Only what people read."""
        changed = list(lines)
        changed[at + 1] = lines[at + 1].replace(b"escrow:case:approve", b"escrow:case:approvE")
        return changed

    def flip(self, lines: list[bytes], at: int) -> list[bytes]:
        """One bit of one byte, anywhere in the line, its end included."""
        line = bytearray(lines[at + 1])
        line[self.dice.randrange(len(line))] ^= 1 << self.dice.randrange(8)
        return [*lines[: at + 1], bytes(line), *lines[at + 2 :]]

    def remove(self, lines: list[bytes], at: int) -> list[bytes]:
        return lines[: at + 1] + lines[at + 2 :]

    def remove_and_renumber(self, lines: list[bytes], at: int) -> list[bytes]:
        """The gap closed: those behind take the places, and the proofs, of those before."""
        return self._renumber(self.remove(lines, at), lines)

    def insert(self, lines: list[bytes], at: int) -> list[bytes]:
        forged = replace(ExportedEntry.from_line(lines[at + 1]), leaf=leaf_of(at, said="inserted"))
        return [*lines[: at + 1], forged.to_line(), *lines[at + 1 :]]

    def insert_and_renumber(self, lines: list[bytes], at: int) -> list[bytes]:
        return self._renumber(self.insert(lines, at), lines)

    def swap(self, lines: list[bytes], at: int) -> list[bytes]:
        """With a later one; of the last, with nothing: doubled instead."""
        other = self.dice.randrange(at + 1, len(lines) - 2) if at < len(lines) - 3 else at
        if other == at:
            return self.insert(lines, at)
        changed = list(lines)
        changed[at + 1], changed[other + 1] = lines[other + 1], lines[at + 1]
        return changed

    def swap_and_renumber(self, lines: list[bytes], at: int) -> list[bytes]:
        return self._renumber(self.swap(lines, at), lines)

    def cut(self, lines: list[bytes], at: int) -> list[bytes]:
        return [*lines[: at + 1], lines[-1]]

    def cut_with_the_head(self, lines: list[bytes], at: int) -> list[bytes]:
        return lines[: at + 1]

    def cut_anywhere(self, lines: list[bytes], at: int) -> list[bytes]:
        return [*lines[: at + 1], lines[at + 1][: self.dice.randrange(len(lines[at + 1]))]]

    def break_the_proof(self, lines: list[bytes], at: int) -> list[bytes]:
        entry = ExportedEntry.from_line(lines[at + 1])
        return self._put(lines, at, replace(entry, proof=(*(entry.proof or ()), bytes(32))))

    def _put(self, lines: list[bytes], at: int, entry: ExportedEntry) -> list[bytes]:
        return [*lines[: at + 1], entry.to_line(), *lines[at + 2 :]]

    def _renumber(self, lines: list[bytes], genuine: list[bytes]) -> list[bytes]:
        proofs = [ExportedEntry.from_line(line).proof for line in genuine[1:-1]]
        entries = [
            replace(ExportedEntry.from_line(line), index=index, proof=proofs[min(index, len(proofs) - 1)]).to_line()
            for index, line in enumerate(lines[1:-1])
        ]
        return [lines[0], *entries, lines[-1]]


WAYS = [name for name in vars(Forger) if not name.startswith("_") and name != "dice"]
ROUNDS = 100


@pytest.mark.parametrize("way", WAYS)
def test_verifier_names_the_entry_wherever_an_export_is_changed(way: str, tmp_path: Path) -> None:
    dice = random.Random(f"holdfast {way}")
    forge: Callable[[list[bytes], int], list[bytes]] = getattr(Forger(dice), way)
    for _ in range(ROUNDS):
        size = dice.choice(SIZES)
        at = dice.randrange(size)
        changed = forge(EXPORTS[size], at)
        assert changed != EXPORTS[size]
        for vkey in (VKEY, None):
            report = verify(tmp_path, changed, vkey)
            assert report.verdict is Verdict.BROKEN, (way, size, at)
            assert report.entry is not None, (way, size, at, report)
            assert report.entry.index == at, (way, size, at, report)


def test_mutations_are_a_thousand_and_more() -> None:
    assert len(WAYS) * ROUNDS >= 1_000


@pytest.mark.parametrize("size", SIZES)
def test_verifier_believes_an_honest_export_as_far_as_its_key_is_known(size: int, tmp_path: Path) -> None:
    report = verify(tmp_path, EXPORTS[size])
    assert (report.verdict, report.exit_code, report.size, report.entry) == (Verdict.VERIFIED, 0, size, None)
    assert (report.origin, report.time, report.vkey) == (ORIGIN, 1_800_000_000, VKEY)
    alone = verify(tmp_path, EXPORTS[size], None)
    assert (alone.verdict, alone.exit_code) == (Verdict.NOT_ANCHORED, 3)


AUDIT = json.loads((VECTORS / "audit.json").read_text())
FILES = {row["name"]: row for row in AUDIT["files"]}


@pytest.mark.parametrize("row", AUDIT["files"], ids=lambda row: row["name"])
def test_published_file_is_judged_as_it_was(row: Any, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes("".join(row["lines"]).encode())
    seen = bytes.fromhex(row["seen"]) if row["seen"] else None
    assert published.told(published.verify(path, row["trust"], saved=row["saved"], seen=seen)) == row["report"]


@pytest.mark.parametrize("row", AUDIT["changed"], ids=lambda row: row["why"])
def test_published_change_is_found_where_it_was(row: Any, tmp_path: Path) -> None:
    path, of = tmp_path / "log.jsonl", FILES[row["of"]]
    path.write_bytes("".join(row["lines"].get(str(at), line) for at, line in enumerate(of["lines"])).encode())
    assert published.told(published.verify(path, of["trust"], saved=(), seen=None)) == row["report"]
    assert row["report"]["exit"] == 1


def test_verifier_names_id_and_tag_of_the_entry_that_was_changed(tmp_path: Path) -> None:
    changed = Forger(random.Random(1)).edit(EXPORTS[33], 20)
    report = verify(tmp_path, changed)
    assert report.exit_code == 1
    assert report.entry is not None
    assert (report.entry.id, report.entry.tag) == (str(UUID(int=20)), "escrow:case:approve")


def test_verifier_finds_every_changed_byte_of_a_file(tmp_path: Path) -> None:
    honest = b"".join(EXPORTS[7])
    path = tmp_path / "log.jsonl"
    ends = [sum(map(len, EXPORTS[7][: n + 1])) for n in range(len(EXPORTS[7]))]
    for at in range(len(honest)):
        path.write_bytes(honest[:at] + bytes([honest[at] ^ 1]) + honest[at + 1 :])
        report = verify_export(path, VKEY)
        assert report.exit_code == 1, at
        line = next(n for n, end in enumerate(ends) if at < end)
        if 1 <= line <= 7:
            assert report.entry is not None
            assert report.entry.index == line - 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [],
        lambda lines: [b"\n"],
        lambda lines: lines[1:],
        lambda lines: lines[:1],
        lambda lines: [*lines, b"\n"],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-1], lines[-1][:-1]],
        lambda lines: [*lines[:-1], checkpoint_line("no note")],
        lambda lines: [b"\xff" * 300_000],
        lambda lines: [lines[0], b"x" * 300_000],
        lambda lines: [Header(ORIGIN, VKEY, 10**15).to_line(), *lines[1:]],
        lambda lines: [Header(ORIGIN, "no key", 9).to_line(), *lines[1:]],
        lambda lines: [Header("holdfast/x/audit", VKEY, 9).to_line(), *lines[1:]],
    ],
)
def test_verifier_refuses_a_file_that_is_no_whole_export(
    spoil: Callable[[list[bytes]], list[bytes]], tmp_path: Path
) -> None:
    assert verify(tmp_path, spoil(EXPORTS[9])).exit_code == 1
    assert verify(tmp_path, spoil(EXPORTS[9]), None).exit_code == 1


def test_verifier_refuses_a_log_signed_by_another_key_than_the_one_trusted(tmp_path: Path) -> None:
    stranger = SigningKey.generate()
    leaves = [leaf_of(number) for number in range(9)]
    forged = lines_of(leaves, key=stranger)
    assert verify(tmp_path, forged).exit_code == 1
    assert verify(tmp_path, forged, None).exit_code == 3  # which is why it does not say "verified"
    claimed = [Header(ORIGIN, VKEY, 9).to_line(), *forged[1:]]
    assert verify(tmp_path, claimed).exit_code == 1
    assert verify(tmp_path, claimed, None).exit_code == 1


def test_verifier_refuses_the_log_of_another_tenant_under_this_ones_key(tmp_path: Path) -> None:
    other = "holdfast/22222222-2222-4222-8222-222222222222/audit"
    assert verify(tmp_path, lines_of([leaf_of(0)], origin=other)).exit_code == 1


def test_verifier_refuses_a_trust_key_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        verify(tmp_path, EXPORTS[1], "not a key")


def test_verifier_finds_a_tail_that_was_cut_and_written_anew(tmp_path: Path) -> None:
    leaves = [leaf_of(number) for number in range(30)]
    saved = note_of(leaves[:20])
    continued = [*leaves[:15], *(leaf_of(number, said="anew") for number in range(15, 30))]
    assert verify(tmp_path, lines_of(continued)).exit_code == 0  # signed by the same server: alone it convinces
    report = verify(tmp_path, lines_of(continued), saved=[saved])
    assert report.exit_code == 1
    assert "first 20 entries" in report.reason
    cut = verify(tmp_path, lines_of(leaves[:15]), saved=[saved])
    assert cut.exit_code == 1
    assert cut.entry is not None
    assert cut.entry.index == 15


def test_verifier_finds_that_two_exports_are_of_a_forked_log(tmp_path: Path) -> None:
    ours = [leaf_of(number) for number in range(12)]
    theirs = [*ours[:6], *(leaf_of(number, said="split view") for number in range(6, 14))]
    assert verify(tmp_path, lines_of(ours), saved=[note_of(ours[:4]), note_of(ours[:9])]).exit_code == 0
    assert verify(tmp_path, lines_of(theirs), saved=[note_of(ours)]).exit_code == 1
    assert verify(tmp_path, lines_of(ours), saved=[note_of(ours[:8]), note_of(theirs[:8])]).exit_code == 1
    elsewhere = note_of(ours[:4], key=SigningKey.generate())
    assert verify(tmp_path, lines_of(ours), saved=[elsewhere]).exit_code == 1


def test_verifier_verifies_the_directory_log_and_a_key_of_the_other_curve(tmp_path: Path) -> None:
    key, origin = SigningKey.generate(KeyKind.P256_SIGNING), ORIGIN.replace("audit", "keys")
    leaves = [KeyLogEntry(1, bytes(32), seq, bytes(range(32)), 5).to_leaf() for seq in range(5)]
    lines = lines_of(leaves, key=key, origin=origin)
    assert b'"type":"chain"' in lines[1]
    assert verify(tmp_path, lines, notes.NoteVerifier(origin, key.public).to_text()).exit_code == 0


def test_verifier_takes_a_leaf_that_nobody_can_read_as_long_as_it_was_signed(tmp_path: Path) -> None:
    leaves = [leaf_of(0), b"\xff not dcbor", leaf_of(2)]
    assert verify(tmp_path, lines_of(leaves)).exit_code == 0


def test_verifier_needs_time_in_proportion_to_the_file(tmp_path: Path) -> None:
    def cost(size: int) -> float:
        lines = lines_of([leaf_of(number) for number in range(size)])
        path = tmp_path / "log.jsonl"
        path.write_bytes(b"".join(lines))
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            assert verify_export(path, VKEY).exit_code == 0
            best = min(best, time.process_time() - start)
        return best

    assert cost(4_000) < 8 * cost(1_000)


def withholding(lines: list[bytes], *hidden: int, counted: int | None = None) -> list[bytes]:
    """The same log as whoever may not read some entries exports it."""
    header = Header.from_line(lines[0])
    changed = list(lines)
    changed[0] = replace(header, withheld=len(hidden) if counted is None else counted).to_line()
    for index in hidden:
        entry = ExportedEntry.from_line(lines[index + 1])
        changed[index + 1] = WithheldEntry(index, entry.leaf_hash, entry.proof).to_line()
    return changed


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 513, 700])
def test_log_proven_by_tiles_is_verified_and_each_change_is_named(size: int, tmp_path: Path) -> None:
    leaves = [leaf_of(number) for number in range(size)]
    lines = with_tiles(lines_of(leaves))
    assert verify(tmp_path, lines).verdict is Verdict.VERIFIED
    assert verify(tmp_path, with_tiles(withholding(lines_of(leaves), size - 1))).verdict is Verdict.WITHHELD
    at = size - 1
    place = len(lines) - 2  # of the last entry
    tile = 1 + at // tiles.WIDTH * (tiles.WIDTH + 1)  # of the line of hashes that it stands below
    other = ExportedEntry(at, leaf_of(at + 1000), None)
    read = ExportedTile.from_line(lines[tile])
    forged = replace(read, hashes=read.hashes[: -merkle.HASH_SIZE] + other.leaf_hash)
    without_proof = lines_of(leaves)[at + 1]
    first = at // tiles.WIDTH * tiles.WIDTH
    for changed, named in (
        ({place: other.to_line()}, at),
        ({place: b""}, at),
        ({place: lines[place] * 2}, None),
        ({place: without_proof}, at),
        ({tile: b""}, first),
        ({tile: lines[tile] * 2}, first),
        ({tile: replace(read, index=read.index + 1).to_line()}, first),
        ({tile: replace(read, hashes=read.hashes[: -merkle.HASH_SIZE]).to_line()}, first),
        ({tile: replace(read, proof=(*read.proof, bytes(32))).to_line()}, first),
        ({tile: forged.to_line()}, at),
        # Who changes the hash as well is found among the entries that are proven together.
        ({tile: forged.to_line(), place: other.to_line()}, first),
    ):
        report = verify(tmp_path, [changed.get(number, line) for number, line in enumerate(lines)])
        assert report.verdict is Verdict.BROKEN
        if named is not None:
            assert report.entry is not None
            assert report.entry.index == named, report.reason


def test_long_log_checked_side_by_side_is_judged_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 600
    leaves = [written(number) for number in range(size)]
    again = [*leaves[:590], leaves[3], *leaves[591:]]
    ceremony = SigningKey.generate()
    accepting = replace(LogEntry.from_leaf(leaf_of(400)), tag="audit:log:accept", body={"size": 7})
    accepts = [*leaves[:400], accepting.to_signed_leaf(origin=ORIGIN, key=ceremony), *leaves[401:]]
    roles = roles_of(keys=(*NAMED, RoleKey(Role.CEREMONY, ceremony.public)))
    unknown = [*leaves[:599], written(599, key=SigningKey.generate())]
    honest, twice, put_back, stranger = (
        with_tiles(with_roles(one, roles)) for one in (leaves, again, accepts, unknown)
    )
    saved = [note_of(leaves[:333])]
    cut = [*honest[:400], *honest[401:]]
    judged = []
    sides: list[bool] = []
    checked = parts.checked

    def watched(*given: Any, **named: Any) -> Any:
        for part in checked(*given, **named):
            sides.append(part is not None)
            yield part

    monkeypatch.setattr(parts, "checked", watched)
    monkeypatch.setattr(parts, "PART", tiles.WIDTH)
    for long in (size + 1, size):
        monkeypatch.setattr(auditor, "LONG", long)
        files = (honest, put_back, twice, cut, stranger)
        judged.append([verify(tmp_path, lines, ROOT_KEY, saved if lines is honest else None) for lines in files])
    assert judged[0] == judged[1]
    assert [report.verdict for report in judged[1]] == [Verdict.VERIFIED] * 2 + [Verdict.BROKEN] * 3
    assert judged[1][1].restored == ((400, 7),)
    assert sides.count(True) >= 6


def test_every_changed_byte_of_a_file_with_tiles_is_found(tmp_path: Path) -> None:
    octets = b"".join(with_tiles(lines_of([leaf_of(number) for number in range(3)])))
    path = tmp_path / "log.jsonl"
    for at in range(len(octets)):
        path.write_bytes(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])
        assert verify_export(path, VKEY).verdict is Verdict.BROKEN, octets[at - 20 : at + 20]


@pytest.mark.parametrize("size", SIZES)
def test_log_with_entries_withheld_is_proven_and_never_taken_for_a_whole_one(size: int, tmp_path: Path) -> None:
    for hidden in ({0}, {size - 1}, set(range(size))):
        report = verify(tmp_path, withholding(EXPORTS[size], *hidden))
        assert (report.verdict, report.withheld, report.exit_code) == (Verdict.WITHHELD, len(hidden), 9)
        assert f"{len(hidden)} of {size} show only their hash" in report.reason
    unanchored = verify(tmp_path, withholding(EXPORTS[size], 0), vkey=None)
    assert (unanchored.verdict, unanchored.withheld) == (Verdict.NOT_ANCHORED, 1)


def test_withheld_entry_that_is_not_counted_or_not_the_one_that_was_signed_is_named(tmp_path: Path) -> None:
    lines = withholding(EXPORTS[9], 2, 5)
    for counted, at in ((1, 5), (0, 2)):
        report = verify(tmp_path, withholding(EXPORTS[9], 2, 5, counted=counted))
        assert report.verdict is Verdict.BROKEN
        assert report.entry is not None
        assert report.entry.index == at
    assert verify(tmp_path, withholding(EXPORTS[9], 2, 5, counted=3)).verdict is Verdict.BROKEN
    forged = WithheldEntry.from_line(lines[6])
    for changed in (
        replace(forged, leaf_hash=bytes(32)).to_line(),
        replace(forged, index=6).to_line(),
        replace(forged, proof=(forged.proof or ())[:-1]).to_line(),
        lines[6].replace(b'"withheld"', b'"Withheld"'),
        lines[6].replace(b'"proof"', b'"leaf":"","proof"'),
    ):
        report = verify(tmp_path, [*lines[:6], changed, *lines[7:]])
        assert report.verdict is Verdict.BROKEN
        assert report.entry is not None
        assert report.entry.index == 5
    head = lines[0].replace(b"log-export/2", b"log-export/1")
    assert verify(tmp_path, [head, *lines[1:]]).verdict is Verdict.BROKEN


def test_withheld_entries_stand_in_for_leaves_against_a_head_saved_earlier(tmp_path: Path) -> None:
    saved = [note_of([leaf_of(number) for number in range(5)])]
    assert verify(tmp_path, withholding(EXPORTS[9], 2, 7), saved=saved).verdict is Verdict.WITHHELD
    other = [note_of([leaf_of(number, said="else") for number in range(5)])]
    assert verify(tmp_path, withholding(EXPORTS[9], 2, 7), saved=other).verdict is Verdict.BROKEN


# Entries signed by role, and the root's word on whose keys these are

TENANT = UUID(ORIGIN.split("/")[1]).bytes
ROOT, WEB, WORKER, OLD_WEB = (SigningKey.generate() for _ in range(4))
ROOT_KEY = root_verifier(TENANT, ROOT.public).to_text()
NAMED = (
    RoleKey(Role.WEB, WEB.public),
    RoleKey(Role.WORKER, WORKER.public),
    RoleKey(Role.WEB, OLD_WEB.public, 3),
    RoleKey(Role.LOG, KEY.public),
)


def roles_of(**changes: Any) -> Roles:
    given: dict[str, Any] = {"header": PayloadHeader(TENANT, b"", b"", 1_700_000_000), "version": 1, "keys": NAMED}
    return Roles(**(given | changes))


ROLES = roles_of()


def written(number: int, *, key: SigningKey = WEB, origin: str = ORIGIN, **changes: Any) -> bytes:
    """An entry of its own number, signed by a role."""
    entry = replace(LogEntry.from_leaf(leaf_of(number)), tag="recovery:case:approve", **changes)
    return entry.signed(origin=origin, key=key).to_leaf()


LEAVES = [written(number, key=OLD_WEB if number < 3 else WEB) for number in range(9)]


def with_roles(
    leaves: list[bytes], roles: Roles = ROLES, *, root: SigningKey = ROOT, key: SigningKey = KEY, origin: str = ORIGIN
) -> list[bytes]:
    """The export of a server whose tenant root has named the keys."""
    lines = lines_of(leaves, key=key, origin=origin)
    signed = cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=root).encode()
    return [replace(Header.from_line(lines[0]), roles=signed).to_line(), *lines[1:]]


def seen(roles: Roles) -> SignedRoles:
    signed = cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=ROOT)
    return verify_roles(signed, tenant=TENANT, root_key=ROOT.public)


def test_log_is_believed_from_the_root_alone(tmp_path: Path) -> None:
    report = verify(tmp_path, with_roles(LEAVES), ROOT_KEY)
    assert (report.verdict, report.writers, report.vkey) == (Verdict.VERIFIED, Writers.ANCHORED, VKEY)
    assert "under a key that the tenant root names" in report.reason
    hidden = verify(tmp_path, withholding(with_roles(LEAVES), 2, 5), ROOT_KEY)
    assert (hidden.verdict, hidden.withheld, hidden.writers) == (Verdict.WITHHELD, 2, Writers.ANCHORED)


def test_log_believed_by_its_own_key_says_that_its_writers_are_only_claimed(tmp_path: Path) -> None:
    report = verify(tmp_path, with_roles(LEAVES), VKEY)
    assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.CLAIMED)
    assert "keys that the file itself claims" in report.reason
    alone = verify(tmp_path, with_roles(LEAVES), None)
    assert (alone.verdict, alone.writers) == (Verdict.NOT_ANCHORED, Writers.CLAIMED)


def test_export_of_an_older_form_is_verified_as_ever_and_says_what_it_does_not_show(tmp_path: Path) -> None:
    old = verify(tmp_path, EXPORTS[9], VKEY)
    assert (old.verdict, old.writers) == (Verdict.VERIFIED, Writers.UNKNOWN)
    assert "who wrote each entry is not checked" in old.reason
    # Nothing in it leads from the root to the log's key, so the root anchors nothing.
    rootless = verify(tmp_path, EXPORTS[9], ROOT_KEY)
    assert (rootless.verdict, rootless.exit_code) == (Verdict.NOT_ANCHORED, 3)
    assert "give the log's key" in rootless.reason


STRANGER = SigningKey.generate()


@pytest.mark.parametrize(
    ("at", "leaf", "why"),
    [
        (4, b"\xff not dcbor", "form"),
        (4, leaf_of(4), "no part of the server has signed it"),
        (4, written(4, key=STRANGER), "never named"),
        (4, written(4, key=WORKER), "may not write"),
        (4, written(4, key=KEY), "may not write"),
        (3, written(3, key=OLD_WEB), "had ended"),
        (4, written(4, origin=ORIGIN.replace("1", "2")), "does not hold"),
        (4, LEAVES[4][:-1] + bytes((LEAVES[4][-1] ^ 1,)), "does not hold"),
        (8, LEAVES[3], "in an earlier entry already"),
    ],
    ids=["form", "unsigned", "key", "role", "log key", "key-ended", "other log", "signature", "again"],
)
def test_entry_that_nobody_entitled_wrote_is_named_even_when_the_log_key_signed_it(
    at: int, leaf: bytes, why: str, tmp_path: Path
) -> None:
    leaves = [*LEAVES[:at], leaf, *LEAVES[at + 1 :]]
    for trust in (VKEY, None, ROOT_KEY):
        report = verify(tmp_path, with_roles(leaves), trust)
        assert report.verdict is Verdict.BROKEN
        assert "written by nobody who may" in report.reason
        assert report.entry is not None
        assert (report.entry.index, why in report.entry.reason) == (at, True), report
        if why != "form":
            assert report.entry.id == str(UUID(int=3 if at == 8 else at))
            assert report.entry.tag == LogEntry.from_leaf(leaf).tag


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (with_roles(LEAVES, root=STRANGER), "does not hold"),
        (with_roles(LEAVES, roles_of(header=PayloadHeader(bytes(16), b"", b"", 1))), "another tenant"),
        (with_roles(LEAVES, key=STRANGER), "does not name the key that signs"),
        (with_roles(LEAVES, roles_of(keys=NAMED[:-1])), "does not name the key that signs"),
        (with_roles(LEAVES, roles_of(keys=(*NAMED[:-1], RoleKey(Role.LOG, KEY.public, 8)))), "does not name the key"),
        ([EXPORTS[9][0].replace(b"export/1", b"export/3"), *EXPORTS[9][1:]], "not an exported log"),
        ([with_roles(LEAVES)[0].replace(b"export/3", b"export/1"), *with_roles(LEAVES)[1:]], "not an exported log"),
    ],
    ids=["other root", "other tenant", "other log key", "no log key", "log key ended", "roles left out", "old number"],
)
def test_keys_that_the_root_did_not_name_are_refused(lines: list[bytes], why: str, tmp_path: Path) -> None:
    report = verify(tmp_path, lines, ROOT_KEY)
    assert (report.verdict, why in report.reason) == (Verdict.BROKEN, True), report


def test_root_of_another_tenant_is_no_anchor(tmp_path: Path) -> None:
    other = root_verifier(bytes(16), ROOT.public).to_text()
    assert "another tenant" in verify(tmp_path, with_roles(LEAVES), other).reason


def test_roles_below_those_seen_are_refused_and_so_is_an_export_without_any(tmp_path: Path) -> None:
    def report(lines: list[bytes], known: Roles) -> VerificationReport:
        path = tmp_path / "log.jsonl"
        path.write_bytes(b"".join(lines))
        return verify_export(path, ROOT_KEY, seen=seen(known))

    second = roles_of(version=2, predecessor=seen(ROLES).hash)
    assert report(with_roles(LEAVES, second), ROLES).verdict is Verdict.VERIFIED
    assert "older than those seen" in report(with_roles(LEAVES), second).reason
    assert report(EXPORTS[9], ROLES).verdict is Verdict.BROKEN


def test_entries_older_than_signatures_are_held_to_the_head_that_the_root_pinned(tmp_path: Path) -> None:
    leaves = [*(leaf_of(number) for number in range(4)), *LEAVES[4:]]
    pinned = merkle.CompactRange.over(merkle.leaf_hash(leaf) for leaf in leaves[:4]).root()
    roles = roles_of(unsigned=(4, pinned))
    report = verify(tmp_path, with_roles(leaves, roles), ROOT_KEY)
    assert (report.verdict, report.unsigned) == (Verdict.VERIFIED, 4)
    assert "entries 0 … 3 are older than signatures by role" in report.reason
    assert "pinned by the tenant root" in report.reason
    other = [leaf_of(0, said="else"), *leaves[1:]]
    assert "first 4 entries are not those" in verify(tmp_path, with_roles(other, roles), ROOT_KEY).reason
    assert "the log was cut" in verify(tmp_path, with_roles(leaves[:3], roles), ROOT_KEY).reason


def test_head_saved_before_the_log_key_was_replaced_still_binds(tmp_path: Path) -> None:
    new = SigningKey.generate()
    roles = roles_of(keys=(*NAMED[:-1], RoleKey(Role.LOG, KEY.public, 6), RoleKey(Role.LOG, new.public)))
    lines = with_roles(LEAVES, roles, key=new)
    assert verify(tmp_path, lines, ROOT_KEY, saved=[note_of(LEAVES[:5])]).verdict is Verdict.VERIFIED
    report = verify(tmp_path, lines, ROOT_KEY, saved=[note_of([leaf_of(0)])])
    assert "first 1 entries are not those signed earlier" in report.reason
    assert verify(tmp_path, with_roles(LEAVES, roles), ROOT_KEY).verdict is Verdict.BROKEN, "the old key has ended"


def test_log_of_keys_is_anchored_in_the_root_and_its_entries_bear_no_signature(tmp_path: Path) -> None:
    origin = ORIGIN.replace("audit", "keys")
    leaves = [KeyLogEntry(1, bytes(32), seq, bytes(range(32)), 5).to_leaf() for seq in range(5)]
    report = verify(tmp_path, with_roles(leaves, origin=origin), ROOT_KEY)
    assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.UNKNOWN)
    assert verify(tmp_path, with_roles(leaves, origin=origin, key=STRANGER), ROOT_KEY).verdict is Verdict.BROKEN


def test_verifier_finds_every_changed_byte_of_a_file_with_roles(tmp_path: Path) -> None:
    honest = b"".join(with_roles(LEAVES[:4]))
    path = tmp_path / "log.jsonl"
    for at in range(0, len(honest), 3):
        path.write_bytes(honest[:at] + bytes([honest[at] ^ 1]) + honest[at + 1 :])
        assert verify_export(path, ROOT_KEY).exit_code == 1, at
