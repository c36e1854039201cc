# SPDX-License-Identifier: Apache-2.0
"""The release process's own directory: what it trusts, what it has seen, what it has spent, its own keys.

Implements ESCROW "Release process". Files of mode 0600 under <directory>/<tenant>/; no other process reads it.
It decides nothing: `process` does, by the rules of `holdfast.core.escrow.release`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey, SealingKey, SigningKey, decode_public_key
from holdfast.core.identity.roles import SignedRoles, verify_roles
from holdfast.core.signed.cose import Sign1, parse_many
from holdfast.files import flush_directory, remove_parts
from kernel.files import make_directory, write_durably
from recovery.release.clock import Moment

log = logging.getLogger("holdfast.release")

_SEED_BYTES: Final = 32
_HALF_BYTES: Final = 384  # RSA-OAEP under a recipient's RSA-3072 key

_HEAD: Final = struct.Struct(">Q32sQQ")  # size, root, tick and wall clock when it was first seen
# Each stops the tenant until officers have acknowledged it, so there are few; 50 bytes each.
MAX_WRONG: Final = 1000


class ReleaseKeyMissing(HoldfastError):
    """A private half of this process, which a policy names, is not in its directory."""

    why = "release-key-missing"


@dataclass(frozen=True)
class ReleaseKeys:
    """The public halves, which the founders sign for in the policy's terms."""

    signing_key: PublicKey
    sealing_key: PublicKey


@dataclass(frozen=True)
class Trust:
    """What the ceremony pinned for one tenant; nothing in the database can change it."""

    root_key: PublicKey
    pin: bytes
    is_development: bool


@dataclass(frozen=True)
class SeenHead:
    """A head that grew the log, and when this process first saw it. root: 32 bytes."""

    size: int
    root: bytes
    moment: Moment


@dataclass(frozen=True)
class Intent:
    """A case id spent: the one case, q and recipient that the HSM may be asked for under this id."""

    case_id: bytes
    q: bytes
    recipient: bytes
    at: int


class Directory:
    """One tenant's part of the release directory. Every write is durable before it returns."""

    def __init__(self, home: Path, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.path = home / str(tenant_id)
        self._roles: tuple[bytes, SignedRoles] | None = None  # as signed, and read: what was checked last
        self._narrowings_end: int | None = None  # where the last whole row ends, once it was looked for

    def create_keys(self) -> ReleaseKeys:
        """Make the process's own keys, once; afterwards return the newest there are. The ceremony calls it."""
        for name in ("", "spent", "keys", "policies"):
            make_directory(self.path / name)
        if not (self.path / "keys" / "newest").exists():
            signing, sealing = SigningKey.generate(), SealingKey.generate()
            if (self.path / "signing.seed").exists():
                # From before keys had names: the policies in force name these.
                signing = SigningKey.from_seed(KeyKind.ED25519, _seed(self.path / "signing.seed"))
                sealing = SealingKey.from_seed(_seed(self.path / "sealing.seed"))
            write_durably(self._key_file(signing.public), signing.seed().reveal())
            write_durably(self._key_file(sealing.public), sealing.seed().reveal())
            write_durably(self.path / "keys" / "newest", encode([signing.public.encoded, sealing.public.encoded]))
        row = Fields.of_row(decode((self.path / "keys" / "newest").read_bytes()), "newest release keys", 2)
        return ReleaseKeys(
            decode_public_key(row.octets(0), expect=SIGNING_KINDS),
            decode_public_key(row.octets(1), expect=KeyKind.X_WING),
        )

    def has_keys(self) -> bool:
        """Tell whether the ceremony has made this process's own keys for the tenant."""
        return (self.path / "keys" / "newest").exists()

    def signing_key(self, public: PublicKey) -> SigningKey:
        """Return the key that a policy names for what this process states. Raises ReleaseKeyMissing."""
        return SigningKey.from_seed(KeyKind.ED25519, self._seed_of(public))

    def sealing_key(self, public: PublicKey) -> SealingKey:
        """Return the key that takes off the outer sealing of shares which a policy had sealed. ReleaseKeyMissing."""
        return SealingKey.from_seed(self._seed_of(public))

    def require_keys(self, keys: ReleaseKeys) -> None:
        """Raise ReleaseKeyMissing unless the private halves of both are here: nothing could be released otherwise."""
        self._seed_of(keys.signing_key)
        self._seed_of(keys.sealing_key)

    def _key_file(self, public: PublicKey) -> Path:
        return self.path / "keys" / f"{public.kid.hex()}.seed"

    def _seed_of(self, public: PublicKey) -> SecretBytes:
        try:
            return _seed(self._key_file(public))
        except FileNotFoundError:
            raise ReleaseKeyMissing(
                f"the release directory of tenant {self.tenant_id} has no private half of the key {public.kid.hex()}, "
                "which the policy names: put the directory's backup back"
            ) from None

    def set_trust(self, trust: Trust) -> None:
        """Pin the tenant, once. Raises Untrusted when another pin is there already."""
        if (self.path / "trust").exists():
            if self.trust() != trust:
                raise Untrusted("the release process trusts another root for this tenant")
            return
        row: list[Encodable] = [trust.root_key.encoded, trust.pin, int(trust.is_development)]
        write_durably(self.path / "trust", encode(row))

    def has_trust(self) -> bool:
        """Tell whether the ceremony has pinned the tenant here."""
        return (self.path / "trust").exists()

    def trust(self) -> Trust:
        """Return what the ceremony pinned. Raises FileNotFoundError before the ceremony, Malformed when damaged."""
        value = decode((self.path / "trust").read_bytes())
        # Before roles named the log's key, it stood here as well, third of four.
        last = len(value) - 1 if isinstance(value, list) and len(value) == 4 else 2
        row = Fields.of_row(value, "release trust", last + 1)
        return Trust(
            root_key=decode_public_key(row.octets(0), expect=SIGNING_KINDS),
            pin=row.octets(1, 32),
            is_development=bool(row.uint(last, maximum=1)),
        )

    def seen_roles(self) -> SignedRoles | None:
        """Return the newest `roles` ever seen, if any."""
        try:
            statement = Sign1.parse((self.path / "roles").read_bytes())
        except FileNotFoundError:
            return None
        return verify_roles(statement, tenant=self.tenant_id.bytes, root_key=self.trust().root_key)

    def see_roles(self, statement: Sign1) -> SignedRoles:
        """Remember the newest `roles`, which its root has to have signed. Raises as `verify_roles` does."""
        octets = statement.encode()
        # This process is alone here: what it has seen to is what lies in the file.
        if self._roles is not None and self._roles[0] == octets:
            return self._roles[1]
        seen = self.seen_roles()
        signed = verify_roles(statement, tenant=self.tenant_id.bytes, root_key=self.trust().root_key, seen=seen)
        if seen is None or seen.hash != signed.hash:
            write_durably(self.path / "roles", octets)
        self._roles = octets, signed
        return signed

    def seen_policies(self) -> list[bytes]:
        """Return every policy's statement that was ever seen, oldest first: an older history is refused."""
        found = sorted((self.path / "policies").glob("[0-9]*"), key=lambda path: int(path.name))
        return [path.read_bytes() for path in found]

    def count_policies(self) -> int:
        """Count the policy versions that were ever seen, without reading them."""
        return sum(1 for _ in (self.path / "policies").glob("[0-9]*"))

    def see_policy(self, version: int, statement: bytes) -> None:
        """Remember a policy version for ever. Raises Untrusted for another statement of one seen before."""
        path = self.path / "policies" / str(version)
        if path.exists():
            if parse_many(path.read_bytes(), max_size=MAX_BLOB)[0].payload_hash != _payload_hash(statement):
                raise Untrusted("the policy history is not the one seen before")
            return
        make_directory(path.parent)
        write_durably(path, statement)

    def seen_escrow_keys(self) -> list[tuple[bytes, bytes]]:
        """Return every escrow key that was ever seen, oldest first: its statement, and the CKA_ID of its private half.

        For the ceremony that goes on from a backup without them: clients that know one believe no older one.
        """
        found = sorted((self.path / "escrow-keys").glob("[0-9]*"), key=lambda path: int(path.name))
        rows = [Fields.of_row(decode(path.read_bytes(), max_size=MAX_BLOB), "seen escrow key", 2) for path in found]
        return [(row.octets(0), row.octets(1, 16)) for row in rows]

    def count_escrow_keys(self) -> int:
        """Count the versions of the escrow key that were ever seen, without reading them."""
        return sum(1 for _ in (self.path / "escrow-keys").glob("[0-9]*"))

    def see_escrow_key(self, version: int, statement: bytes, cka_id: bytes) -> None:
        """Remember a version of the escrow key, which root and officers have signed, for ever."""
        path = self.path / "escrow-keys" / str(version)
        make_directory(path.parent)
        write_durably(path, encode([statement, cka_id]))

    def heads(self, since: int = 0) -> list[SeenHead]:
        """Return every head that grew the log, oldest first. A part of a row that a crash left is dropped.

        since: how many of the oldest to leave out.
        """
        try:
            with (self.path / "heads").open("rb") as file:
                file.seek(since * _HEAD.size)
                body = file.read()
        except FileNotFoundError:
            return []
        whole = len(body) - len(body) % _HEAD.size
        rows = (_HEAD.unpack_from(body, at) for at in range(0, whole, _HEAD.size))
        return [SeenHead(size, root, Moment(tick, wall)) for size, root, tick, wall in rows]

    def count_heads(self) -> int:
        """Count the heads that are kept, without reading them."""
        try:
            return (self.path / "heads").stat().st_size // _HEAD.size
        except FileNotFoundError:
            return 0

    def keep_head(self, head: SeenHead) -> None:
        """Remember a head, so that no shorter or other log is believed after a restart."""
        row = _HEAD.pack(head.size, head.root, head.moment.tick, head.moment.wall)
        path = self.path / "heads"
        is_new = not path.exists()
        with path.open("xb" if is_new else "r+b") as file:
            os.fchmod(file.fileno(), 0o600)
            whole = file.seek(0, os.SEEK_END)
            file.seek(whole - whole % _HEAD.size)
            file.write(row)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            flush_directory(path.parent)

    def put_heads(self, heads: Sequence[SeenHead]) -> None:
        """Put these heads in the place of those kept: of a log that officers accepted."""
        # First: a kill in between leaves a log that is read anew.
        self.forget_facts()
        rows = (_HEAD.pack(head.size, head.root, head.moment.tick, head.moment.wall) for head in heads)
        write_durably(self.path / "heads", b"".join(rows))

    def first_reading(self) -> SeenHead | None:
        """Return the head up to which entries keep their own times, when officers accepted an existing log so."""
        try:
            body = (self.path / "first-reading").read_bytes()
        except FileNotFoundError:
            return None
        size, root, tick, wall = _HEAD.unpack(body)
        return SeenHead(size, root, Moment(tick, wall))

    def accept_first_reading(self, head: SeenHead) -> None:
        """Remember that officers accepted the log up to a head. The ceremony calls it."""
        self.forget_facts()
        write_durably(self.path / "first-reading", _HEAD.pack(head.size, head.root, head.moment.tick, head.moment.wall))

    @property
    def facts(self) -> Path:
        """Where the facts lie from which the process goes on (`kept`). They can be lost: the log has them all."""
        return self.path / "facts"

    def facts_key(self) -> SecretBytes:
        """Return the key by which this directory knows its own facts, made at random when there is none.

        Raises Malformed for a file that is damaged: then nothing that was kept fits, and another key is to be made.
        """
        path = self.path / "facts.key"
        if not path.exists():
            make_directory(self.path)
            write_durably(path, secrets.token_bytes(_SEED_BYTES))
        return _seed(path)

    def forget_facts(self) -> None:
        """Have the log read anew at the next start. Durable when this returns."""
        for path in (self.facts, self.path / "facts.key"):
            path.unlink(missing_ok=True)
        if self.path.is_dir():
            flush_directory(self.path)

    def wrong_entries(self) -> list[tuple[int, str, bytes]]:
        """Return (index, why, leaf hash) of entries that were wrong when they were first read."""
        try:
            value = decode((self.path / "wrong").read_bytes(), max_size=MAX_BLOB)
        except FileNotFoundError:
            return []
        rows = [Fields.of_row(row, "wrong entry", 3) for row in value] if isinstance(value, list) else []
        return [(row.uint(0), row.text(1, maximum=16), row.octets(2, 32)) for row in rows]

    def keep_wrong_entries(self, entries: Sequence[tuple[int, str, bytes]]) -> None:
        """Remember wrong entries: one that officers acknowledged is not to count after a restart."""
        if entries:
            rows: list[Encodable] = [[index, why, leaf] for index, why, leaf in (*self.wrong_entries(), *entries)]
            write_durably(self.path / "wrong", encode(rows[:MAX_WRONG]))

    def narrowings(self) -> list[bytes]:
        """Return the leaves that narrow what may be released, oldest first: a restored log has to have them all."""
        try:
            body = (self.path / "narrowings").read_bytes()
        except FileNotFoundError:
            return []
        return _whole_rows(body)[0]

    def keep_narrowings(self, leaves: Sequence[bytes]) -> None:
        """Remember leaves that narrow, beside the log: a restored backup may lack them."""
        if not leaves:
            return
        rows = [len(leaf).to_bytes(4, "big") + leaf for leaf in leaves]
        path = self.path / "narrowings"
        is_new = not path.exists()
        with path.open("x+b" if is_new else "r+b") as file:
            os.fchmod(file.fileno(), 0o600)
            # Over the part of a row that a crash or a full disk left: behind it nobody would find what follows. Read
            # through once in a process's life, however long the file.
            end, self._narrowings_end = self._narrowings_end, None
            file.seek(_whole_rows(file.read())[1] if end is None else end)
            file.write(b"".join(rows))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
            self._narrowings_end = file.tell()
        if is_new:
            flush_directory(path.parent)

    def keep_statement(self, statement_hash: bytes, statement: bytes) -> None:
        """Keep what an officer signed, beside the entry that narrows by it: a restored database may lack both."""
        make_directory(self.path / "statements")
        write_durably(self.path / "statements" / statement_hash.hex(), statement)

    def statement(self, statement_hash: bytes) -> bytes | None:
        """Return a statement that was kept, if it was."""
        try:
            return (self.path / "statements" / statement_hash.hex()).read_bytes()
        except FileNotFoundError:
            return None

    def roles_statement(self) -> bytes | None:
        """Return the newest `roles` ever seen as it was signed, if any."""
        try:
            return (self.path / "roles").read_bytes()
        except FileNotFoundError:
            return None

    def intent(self, case_id: bytes) -> Intent | None:
        """Return the intent written for a case id, if any."""
        try:
            data = (self.path / "spent" / case_id.hex()).read_bytes()
        except FileNotFoundError:
            return None
        row = Fields.of_row(decode(data), "release intent", 4)
        return Intent(row.octets(0, 16), row.octets(1, 32), row.octets(2, 32), row.uint(3))

    def spend(self, intent: Intent) -> None:
        """Write the intent before the HSM is asked; a case id is spent for one q and one recipient, for ever.

        Raises Untrusted when the id is spent for another. Repeating the same intent changes nothing.
        """
        before = self.intent(intent.case_id)
        if before is None:
            row_out: list[Encodable] = [intent.case_id, intent.q, intent.recipient, intent.at]
            write_durably(self.path / "spent" / intent.case_id.hex(), encode(row_out))
        elif (before.q, before.recipient) != (intent.q, intent.recipient):
            raise Untrusted("this case id is spent for another case or another recipient")

    def halves(self, intent: Intent) -> dict[UUID, bytes]:
        """Return {deposit: half re-wrapped to the recipient} kept for exactly this case, q and recipient.

        None of a file that is damaged or another's: the HSM is asked again, for the same recipient.
        """
        try:
            row = Fields.of_row(decode(self._halves(intent.case_id).read_bytes(), max_size=MAX_BLOB), "halves", 3)
            rows = [Fields.of_row(one, "half", 2) for one in row.array(2)]
            found = {UUID(bytes=one.octets(0, 16)): one.octets(1, _HALF_BYTES) for one in rows}
            is_its_own = (row.octets(0, 32), row.octets(1, 32)) == (intent.q, intent.recipient)
        except FileNotFoundError:
            return {}
        except Malformed as error:
            log.critical("the halves kept for case %s cannot be read: %s", UUID(bytes=intent.case_id), error)
            return {}
        return found if is_its_own else {}

    def keep_halves(self, intent: Intent, halves: Mapping[UUID, bytes]) -> None:
        """Keep what the HSM has re-wrapped for a case so far: what is held is not asked for again.

        Each is sealed to the recipient alone, 384 bytes. `forget_halves` destroys them.
        """
        rows: list[Encodable] = [[deposit_id.bytes, half] for deposit_id, half in halves.items()]
        path = self._halves(intent.case_id)
        make_directory(path.parent)
        write_durably(path, encode([intent.q, intent.recipient, rows]))

    def cases_with_halves(self) -> list[bytes]:
        """Return the ids of the cases for which something is kept: those under way, and those just over."""
        try:
            names = [path.name for path in (self.path / "halves").iterdir()]
        except FileNotFoundError:
            return []
        # What else somebody laid there is of no case; what a kill left beside, `only_process` destroys.
        return [bytes.fromhex(name) for name in names if re.fullmatch("[0-9a-f]{32}", name)]

    def forget_halves(self, case_id: bytes) -> None:
        """Destroy what was kept for a case that is released, or over."""
        self._halves(case_id).unlink(missing_ok=True)

    def _halves(self, case_id: bytes) -> Path:
        return self.path / "halves" / case_id.hex()


def _whole_rows(body: bytes) -> tuple[list[bytes], int]:
    """Return the rows of a file of rows that each begin with their length, and where the last whole one ends."""
    rows, at = [], 0
    while at + 4 <= len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        # No leaf is empty: zeros are what a file has where a crash kept its length and lost its bytes.
        if not length or at + 4 + length > len(body):
            break
        rows.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return rows, at


def _payload_hash(statement: bytes) -> bytes:
    return parse_many(statement, max_size=MAX_BLOB)[0].payload_hash


def _seed(path: Path) -> SecretBytes:
    data = path.read_bytes()
    if len(data) != _SEED_BYTES:
        raise Malformed(f"release key {path.name}: not 32 bytes")
    return SecretBytes(data)


def tenants(home: Path) -> list[UUID]:
    """List the tenants whose trust the ceremony has pinned here; what else somebody laid beside is none."""
    return sorted(found for path in home.glob("*/trust") if (found := _uuid(path.parent.name)) is not None)


def _uuid(name: str) -> UUID | None:
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None


@contextmanager
def only_process(home: Path) -> Iterator[None]:
    """Hold the directory for this process alone, and destroy the parts of files that a killed one left in it.

    Raises BlockingIOError when another process has it.

    Two processes on one directory could both find a case unspent; with the lock, a case that stands in
    `releasing` at start was left by a dead process and is ours to finish.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for directory, _, _ in os.walk(home):
            remove_parts(Path(directory))
        yield
    finally:
        os.close(descriptor)
