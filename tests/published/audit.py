# SPDX-License-Identifier: Apache-2.0
"""Exported logs as files, with what the offline verifier says of each: whole ones of every format, and changed ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from holdfast.client.auditor.auditor import VerificationReport, verify_export
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles, root_verifier, verify_roles
from holdfast.core.log import merkle, tiles
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.log_export import (
    ExportedEntry,
    ExportedTile,
    Header,
    WithheldEntry,
    checkpoint_line,
)
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast.statements import ACME, ALICE, NOW, TENANT, hash_of

LONG: Final = 258  # a full tile, and a second one at the ragged edge


@dataclass
class _Log:
    """One tenant's keys, and what they write."""

    root: SigningKey = field(default_factory=SigningKey.generate)
    web: SigningKey = field(default_factory=SigningKey.generate)
    old_web: SigningKey = field(default_factory=SigningKey.generate)  # ended at 3
    ceremony: SigningKey = field(default_factory=lambda: SigningKey.generate(KeyKind.P256_SIGNING))
    log: SigningKey = field(default_factory=SigningKey.generate)

    def roles(self, **changes: Any) -> Roles:
        keys = (
            RoleKey(Role.WEB, self.web.public),
            RoleKey(Role.WEB, self.old_web.public, 3),
            RoleKey(Role.CEREMONY, self.ceremony.public),
            RoleKey(Role.LOG, self.log.public),
        )
        given: dict[str, Any] = {"header": TENANT, "version": 1, "keys": keys}
        return Roles(**(given | changes))

    @property
    def origin(self) -> str:
        return self.roles().origin

    def entry(self, number: int, **changes: Any) -> LogEntry:
        return replace(
            LogEntry(
                entry_id=number.to_bytes(16, "big"),
                tag="recovery:case:approve",
                actor=f"device:{UUID(int=number)}",
                person=ALICE if number % 2 else b"",
                subject="case:\u202e“quoted”\\",
                time=NOW + number,
                body={"10": number, "9": "text\n\x7f", "__proto__": b"octets", "ß": 0},
            ),
            **changes,
        )

    def written(self, number: int, *, key: SigningKey | None = None, origin: str = "", **changes: Any) -> bytes:
        signer = key or (self.old_web if number < 3 else self.web)
        return self.entry(number, **changes).signed(origin=origin or self.origin, key=signer).to_leaf()

    def note(self, leaves: Sequence[bytes], *, key: SigningKey | None = None, origin: str = "") -> str:
        signer, name = key or self.log, origin or self.origin
        grown = merkle.CompactRange.over(merkle.leaf_hash(leaf) for leaf in leaves)
        text = Checkpoint(name, grown.size, grown.root(), NOW + 1000).to_text()
        return sign_note(text, verifier=NoteVerifier(name, signer.public), sign=signer.sign)

    def signed(self, roles: Roles, *, root: SigningKey | None = None) -> Sign1:
        return cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=root or self.root)

    def file(
        self,
        leaves: Sequence[bytes],
        *,
        roles: Sign1 | None = None,
        key: SigningKey | None = None,
        origin: str = "",
        hidden: Sequence[int] = (),
        has_tiles: bool = False,
    ) -> list[bytes]:
        """Return the lines of an export, in the oldest format that says all of it unless it has tiles."""
        signer, name, size = key or self.log, origin or self.origin, len(leaves)
        nodes = merkle.memory_nodes([merkle.leaf_hash(leaf) for leaf in leaves])
        vkey = NoteVerifier(name, signer.public).to_text()
        lines = [Header(name, vkey, size, len(hidden), roles.encode() if roles else b"", has_tiles).to_line()]
        for index, leaf in enumerate(leaves):
            if has_tiles and index % tiles.WIDTH == 0:
                hashes = b"".join(map(merkle.leaf_hash, leaves[index : index + tiles.WIDTH]))
                at = index // tiles.WIDTH
                lines.append(ExportedTile(at, hashes, tiles.tile_proof(nodes, index=at, size=size)).to_line())
            proof = None if has_tiles else tuple(merkle.inclusion_from(nodes, index, size))
            shown = WithheldEntry(index, merkle.leaf_hash(leaf), proof) if index in hidden else None
            lines.append((shown or ExportedEntry(index, leaf, proof)).to_line())
        return [*lines, checkpoint_line(self.note(leaves, key=signer, origin=name))]


def write() -> dict[str, object]:
    """Make the file anew: all keys are fresh."""
    made, files = _Log(), list[dict[str, Any]]()
    stranger = SigningKey.generate()
    root, vkey = root_verifier(ACME, made.root.public).to_text(), NoteVerifier(made.origin, made.log.public).to_text()
    leaves = [made.written(number) for number in range(9)]
    roles = made.signed(made.roles())
    seen = made.signed(made.roles(version=2, predecessor=roles.payload_hash))

    def add(name: str, lines: list[bytes], trust: str | None, **known: Any) -> None:
        files.append(_row(name, lines, trust, **known))

    plain = [made.entry(number).to_leaf() for number in range(9)]
    add("format 1", made.file(plain), vkey)
    add("format 1, no key trusted", made.file(plain), None)
    add("format 1, the root trusted", made.file(plain), root)
    add("format 2, two entries withheld", made.file(plain, hidden=(2, 5)), vkey)
    add("format 3", made.file(leaves, roles=roles), root, saved=[made.note(leaves[:4]), made.note(leaves)])
    add("format 3, the log's key trusted", made.file(leaves, roles=roles), vkey)
    add("format 3, no key trusted", made.file(leaves, roles=roles), None)
    add("format 3, entries withheld", made.file(leaves, roles=roles, hidden=(0, 8)), root)
    add("format 3, roles older than those seen", made.file(leaves, roles=roles), root, seen=seen)
    add("format 3, signed by another root", made.file(leaves, roles=made.signed(made.roles(), root=stranger)), root)
    add("format 3, a head by a key that the root does not name", made.file(leaves, roles=roles, key=stranger), root)
    rewritten = [made.written(0, subject="another"), *leaves[1:]]
    add("saved head of another past", made.file(rewritten, roles=roles), root, saved=[made.note(leaves[:4])])
    add("cut below a saved head", made.file(leaves[:5], roles=roles), root, saved=[made.note(leaves)])
    add("saved head of another key", made.file(leaves, roles=roles), root, saved=[made.note(leaves, key=stranger)])
    pinned = merkle.CompactRange.over(merkle.leaf_hash(leaf) for leaf in plain[:4]).root()
    unsigned = made.signed(made.roles(unsigned=(4, pinned)))
    add("four entries older than signatures", made.file([*plain[:4], *leaves[4:]], roles=unsigned), root)
    add("another past below signatures", made.file(leaves, roles=unsigned), root)
    accepting = made.written(4, key=made.ceremony, tag="audit:log:accept", body={"size": 3})
    add("a backup put back", made.file([*leaves[:4], accepting, *leaves[5:]], roles=roles), root)
    for why, at, leaf in (
        ("no leaf", 4, b"\xff no leaf"),
        ("not signed", 4, plain[4]),
        ("by a key never named", 4, made.written(4, key=stranger)),
        ("by a role that may not", 4, made.written(4, key=made.ceremony)),
        ("by a key that had ended", 3, made.written(3, key=made.old_web)),
        ("for another log", 4, made.written(4, origin=made.origin.replace("audit", "keys"))),
        ("a bit of the signature", 4, leaves[4][:-1] + bytes((leaves[4][-1] ^ 1,))),
        ("an id twice", 8, leaves[3]),
    ):
        add(f"an entry: {why}", made.file([*leaves[:at], leaf, *leaves[at + 1 :]], roles=roles), root)
    keys = made.roles().origin_of("keys")
    of_keys = [KeyLogEntry(1 + seq, hash_of("subject"), seq, hash_of("entry"), NOW).to_leaf() for seq in range(6)]
    add("the log of keys", made.file(of_keys, roles=roles, origin=keys, has_tiles=True), root)
    long = [made.written(number, body={}, subject="") for number in range(LONG)]
    add("format 4", made.file(long, roles=roles, has_tiles=True), root, saved=[made.note(long[:257])])
    add("format 4, one entry withheld", made.file(leaves, roles=roles, has_tiles=True, hidden=(7,)), root)
    lines = {row["name"]: [line.encode() for line in row["lines"]] for row in files}
    changed = [
        *_changed("format 3", lines["format 3"], root),
        *_changed_tiles(made, "format 4", lines["format 4"], root),
    ]
    return {"page": "docs/formats/audit-log.md", "files": files, "changed": changed}


def _changed(name: str, lines: list[bytes], trust: str) -> list[dict[str, Any]]:
    entry = ExportedEntry.from_line(lines[5])
    head = lines[0]
    return [
        _change(name, lines, trust, why, changes)
        for why, changes in (
            ("a word that people read", {5: lines[5].replace(b"case:approve", b"case:approvE")}),
            ("a time that people read", {5: lines[5].replace(b":", b": ", 1)}),
            ("an entry left out", {5: b""}),
            ("an entry twice", {5: lines[5] * 2}),
            ("two entries changed about", {5: lines[6], 6: lines[5]}),
            ("a proof cut short", {5: replace(entry, proof=(entry.proof or ())[:-1]).to_line()}),
            ("withheld, and not counted", {5: WithheldEntry(4, entry.leaf_hash, entry.proof).to_line()}),
            ("more withheld than there are", {0: replace(Header.from_line(head), withheld=1).to_line()}),
            ("another size", {0: replace(Header.from_line(head), size=8).to_line()}),
            ("another origin", {0: head.replace(b"/audit", b"/keys")}),
            ("a name twice in the first line", {0: head.replace(b'"size":9', b'"size":9,"size":9')}),
            ("a size with a fraction", {0: head.replace(b'"size":9', b'"size":9.0')}),
            ("another format", {0: head.replace(b"export/3", b"export/1")}),
            ("the end left out", {len(lines) - 1: b""}),
            ("a line after the end", {len(lines) - 1: lines[-1] + b"\n"}),
            ("a head that is none", {len(lines) - 1: checkpoint_line("no note")}),
            ("a last line without its end", {len(lines) - 1: lines[-1][:-1]}),
        )
    ]


def _changed_tiles(made: _Log, name: str, lines: list[bytes], trust: str) -> list[dict[str, Any]]:
    # The second tile is line 258, and its two entries are 259 and 260.
    first, second = ExportedTile.from_line(lines[1]), ExportedTile.from_line(lines[258])
    other = ExportedEntry(257, made.written(257, subject="another"), None)
    forged = replace(second, hashes=second.hashes[: -merkle.HASH_SIZE] + other.leaf_hash).to_line()
    of_own = replace(ExportedEntry.from_line(lines[260]), proof=()).to_line()
    return [
        _change(name, lines, trust, why, changes)
        for why, changes in (
            ("another entry below its hash", {260: other.to_line()}),
            ("another hash above its entry", {258: forged}),
            ("another entry, and its hash", {258: forged, 260: other.to_line()}),
            ("a line of hashes left out", {258: b""}),
            ("a line of hashes of another place", {258: replace(second, index=0).to_line()}),
            ("a line of hashes with one fewer", {1: replace(first, hashes=first.hashes[:-32]).to_line()}),
            ("a line of hashes with another proof", {1: replace(first, proof=(*first.proof, bytes(32))).to_line()}),
            ("an entry with a proof of its own", {260: of_own}),
        )
    ]


def _change(name: str, lines: Sequence[bytes], trust: str, why: str, changes: Mapping[int, bytes]) -> dict[str, Any]:
    changed = [changes.get(at, line) for at, line in enumerate(lines)]
    assert changed != list(lines), why
    told = {str(at): line.decode() for at, line in changes.items()}
    return {"of": name, "why": why, "lines": told, "report": _report(changed, trust)}


def _row(
    name: str, lines: list[bytes], trust: str | None, *, saved: Sequence[str] = (), seen: Sign1 | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "trust": trust,
        "saved": list(saved),
        "seen": seen.encode().hex() if seen else None,
        "lines": [line.decode() for line in lines],
        "report": _report(lines, trust, saved=saved, seen=seen),
    }


def _report(
    lines: Sequence[bytes], trust: str | None, *, saved: Sequence[str] = (), seen: Sign1 | None = None
) -> dict[str, Any]:
    """Return what the verifier says of these lines."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.jsonl"
        path.write_bytes(b"".join(lines))
        return told(verify(path, trust, saved=saved, seen=seen.encode() if seen else None))


def verify(path: Path, trust: str | None, *, saved: Sequence[str], seen: bytes | None) -> VerificationReport:
    """Verify a file of the vectors. seen: a `roles` statement that the root in `trust` has signed."""
    known = None
    if seen is not None and trust is not None:
        root = NoteVerifier.from_text(trust).key
        known = verify_roles(Sign1.parse(seen), tenant=ACME, root_key=root)
    return verify_export(path, trust, saved=saved, seen=known)


def told(report: VerificationReport) -> dict[str, Any]:
    """Return a report as the vectors have it: all of it, in the verifier's own words."""
    entry = report.entry
    return {
        "exit": report.exit_code,
        "reason": report.reason,
        "origin": report.origin,
        "size": report.size,
        "time": report.time,
        "vkey": report.vkey,
        "withheld": report.withheld,
        "writers": str(report.writers),
        "unsigned": report.unsigned,
        "restored": [list(row) for row in report.restored],
        "entry": None if entry is None else [entry.index, entry.id, entry.tag, entry.reason],
    }
