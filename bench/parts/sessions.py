# SPDX-License-Identifier: Apache-2.0
"""Sessions: each step beside the bare sum of its own primitives, on a durable store, beside other libraries, in memory.

One message is 1 KiB. Ours and the floor take turns, and the best of each counts: what is left is the work itself.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hmac import digest
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bench.peers.ratchet_libraries import DoubleRatchetPair, VodozemacPair
from bench.world import report, row
from holdfast.client.profile.head import Head
from holdfast.client.profile.store import SqliteStore
from holdfast.core.base.padding import pad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import build_batch
from holdfast.core.messages.session import Session, read_message
from holdfast.core.signed.payloads import Header
from tests.cast.devices import Device, pair
from tests.cast.statements import ACME, NOW

PLAINTEXT = secrets.token_bytes(1024)
PADDED = pad(PLAINTEXT)
ROUNDS = 200
PER_ROUND = 50
LONG = 1000  # rounds of one call, for steps long enough to be timed alone
MANY = 10_000
SHA256 = hashes.SHA256()
INFO = b"\x81\x70holdfast/v1/msg."
SALT = secrets.token_bytes(12)
PREFIX = b"\x01\x02\x02\x00"
HEADER = bytes(41)
AAD = bytes(105)
CHAIN = secrets.token_bytes(32)
HEADER_KEY = AESGCM(CHAIN)
SEALED_HEADER = HEADER_KEY.encrypt(SALT, HEADER, PREFIX)
FOREIGN_HEADER = AESGCM(bytes(32)).encrypt(SALT, HEADER, PREFIX)
BODY = AESGCM(CHAIN).encrypt(SALT, PADDED, AAD)
PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key()
PUBLIC_BYTES = PUBLIC.public_bytes_raw()
KEM = MLKEM768PrivateKey.generate()
KEM_PUBLIC = KEM.public_key()
KEM_BYTES = KEM_PUBLIC.public_bytes_raw()
CIPHERTEXT = KEM_PUBLIC.encapsulate()[1]
TRANSCRIPT, INITIAL = bytes(6800), bytes(2700)  # as long as those of the hybrid suite
SIGNER = Ed25519PrivateKey.generate()
SIGNING, SIGNATURE = SIGNER.public_key(), SIGNER.sign(INITIAL)
SIGNING_BYTES = SIGNING.public_bytes_raw()
NO_KEY_TEST = """openssl_conf = all_of_it
[all_of_it]
providers = the_providers
[the_providers]
default = the_default
[the_default]
activate = 1
ml-kem.import_pct_type = none
"""
Step = Callable[[], object]
Other = DoubleRatchetPair | VodozemacPair


def best(*steps: Step, rounds: int = ROUNDS, per: int = PER_ROUND, before: Step | None = None) -> list[float]:
    """Return each step's least seconds per call; they take turns, round by round, `before` untimed ahead of each."""
    least = [float("inf")] * len(steps)
    gc.disable()
    for _ in range(rounds):
        for which, step in enumerate(steps):
            if before:
                before()
            begun = time.process_time()
            for _ in range(per):
                step()
            least[which] = min(least[which], (time.process_time() - begun) / per)
        gc.collect(0)
    gc.enable()
    return least


def encrypt_primitives() -> None:
    """What PROTOCOL section 9 sums up: two HMACs, HKDF, both GCMs, and 12 random bytes."""
    salt = os.urandom(12)
    okm = HKDF(SHA256, 44, salt, INFO).derive(digest(CHAIN, b"\x01", "sha256"))
    HEADER_KEY.encrypt(salt, HEADER, PREFIX)
    AESGCM(okm[:32]).encrypt(okm[32:], PADDED, AAD)
    digest(CHAIN, b"\x02", "sha256")


def decrypt_primitives() -> None:
    """The same, opening."""
    HEADER_KEY.decrypt(SALT, SEALED_HEADER, PREFIX)
    HKDF(SHA256, 44, SALT, INFO).derive(digest(CHAIN, b"\x01", "sha256"))
    AESGCM(CHAIN).decrypt(SALT, BODY, AAD)
    digest(CHAIN, b"\x02", "sha256")


def _key() -> X25519PrivateKey:
    key = X25519PrivateKey.from_private_bytes(os.urandom(32))
    key.public_key().public_bytes_raw()
    return key


def _root_steps(number: int) -> None:
    for _ in range(number):
        HKDF(SHA256, 96, CHAIN, INFO).derive(CHAIN)


def step_primitives() -> None:
    """A DH step of the ratchet: the peer's key read, two DHs with it, a fresh key, two root steps, three GCM keys.

    And the header that did not open under the key of the chain before: so the receiver knows that there is a step.
    """
    with contextlib.suppress(InvalidTag):
        HEADER_KEY.decrypt(SALT, FOREIGN_HEADER, PREFIX)
    # The key as it was just read: one that OpenSSL has used before is quicker, and no step meets one.
    peer = X25519PublicKey.from_public_bytes(PUBLIC_BYTES)
    PRIVATE.exchange(peer)
    _key().exchange(peer)
    _root_steps(2)
    for _ in range(3):
        AESGCM(CHAIN)


def round_trip_primitives() -> None:
    """Two messages, each with a DH step at its receiver."""
    for _ in range(2):
        encrypt_primitives()
        step_primitives()
        decrypt_primitives()


def initiate_primitives() -> None:
    """Hybrid: EK and a ratchet key, four DHs and one more, an encapsulation, two KDFs, two hashes."""
    ephemeral = _key()
    for _ in range(3):
        ephemeral.exchange(PUBLIC)
    PRIVATE.exchange(PUBLIC)
    KEM_PUBLIC.encapsulate()
    _root_steps(2)
    hashlib.sha256(TRANSCRIPT).digest()
    hashlib.sha256(INITIAL).digest()
    _key().exchange(PUBLIC)
    AESGCM(CHAIN)


def begin_primitives() -> None:
    """Both of them."""
    verify_primitives()
    initiate_primitives()


def respond_primitives() -> None:
    """Hybrid: four DHs, a decapsulation, a DH step, one message opened."""
    for _ in range(4):
        PRIVATE.exchange(PUBLIC)
    KEM.decapsulate(CIPHERTEXT)
    _root_steps(1)
    hashlib.sha256(TRANSCRIPT).digest()
    step_primitives()
    decrypt_primitives()


class Handshake:
    """Alice and bob, and what each step of a handshake needs, made beforehand."""

    def __init__(self) -> None:
        self.alice, self.bob = Device("alice", Suite.HYBRID), Device("bob", Suite.HYBRID)
        self.me, self.peer, self.bundle = self.alice.party, self.bob.party, self.bob.bundle(0)
        self.one_time = self.bob.one_time(self.bundle.one_time.key_id if self.bundle.one_time else None)
        self.incoming = read_message(self.initiate().encrypt(PLAINTEXT))

    def initiate(self) -> Session:
        return Session.initiate(
            me=self.me,
            device_statement=self.alice.signed_statement,
            agreement=self.alice.agreement,
            peer=self.peer,
            bundle=self.bundle,
            now=NOW,
        )

    def begin(self) -> object:
        self.bob.bundle(0)
        return self.initiate()

    def respond(self) -> object:
        return Session.respond(
            self.incoming,
            me=self.peer,
            agreement=self.bob.agreement,
            initiator=self.me,
            signed=self.bob.spk,
            one_time=self.one_time,
            now=NOW,
        )

    def batch(self) -> object:
        header = Header(ACME, self.bob.user, self.bob.id, NOW)
        return build_batch(header, suite=Suite.HYBRID, first_key_id=1, size=100, signing_key=self.bob.signing)


def verify_primitives() -> None:
    """A bundle's three signatures, and its eight public keys read."""
    for _ in range(3):
        SIGNING.verify(SIGNATURE, INITIAL)
    Ed25519PublicKey.from_public_bytes(SIGNING_BYTES)
    for _ in range(3):
        MLKEM768PublicKey.from_public_bytes(KEM_BYTES)
    for _ in range(4):
        X25519PublicKey.from_public_bytes(PUBLIC_BYTES)


def batch_primitives() -> None:
    """100 pairs of keys from seeds, with their public halves, and the hash of each leaf."""
    for _ in range(100):
        MLKEM768PrivateKey.from_seed_bytes(os.urandom(64)).public_key().public_bytes_raw()
        _key()
        hashlib.sha256(bytes(1230)).digest()


def messages_in_order(hers: Session, his: Session) -> tuple[Callable[[], None], Step]:
    """Return what prepares a round of messages, untimed, and what decrypts the next of them."""
    waiting: list[bytes] = []

    def prepare() -> None:
        while waiting:
            his.decrypt(waiting.pop(), now=NOW)
        waiting.extend([hers.encrypt(PLAINTEXT) for _ in range(PER_ROUND)][::-1])

    return prepare, lambda: his.decrypt(waiting.pop(), now=NOW)


def steps() -> list[dict[str, str]]:
    """The pure steps, each against its primitives."""
    world, hers = Handshake(), pair()[0]
    rows = [_row("session: encrypt 1 KiB (at most 1.15)", *best(lambda: hers.encrypt(PLAINTEXT), encrypt_primitives))]
    prepare, decrypt = messages_in_order(*pair())
    rows.append(_row("session: decrypt 1 KiB in order (1.3)", *best(decrypt, decrypt_primitives, before=prepare)))
    rows.append(
        _row("session: initiate, hybrid (1.15)", *best(world.initiate, initiate_primitives, rounds=LONG, per=1))
    )
    rows.append(_row("session: verify a bundle and initiate", *best(world.begin, begin_primitives, rounds=LONG, per=1)))
    rows.append(_row("session: respond, hybrid (1.15)", *best(world.respond, respond_primitives, rounds=LONG, per=1)))
    a, b = pair()

    def round_trip() -> None:
        b.decrypt(a.encrypt(PLAINTEXT), now=NOW)
        a.decrypt(b.encrypt(PLAINTEXT), now=NOW)

    rows.append(
        _row("session: round trip, two DH steps (1.15)", *best(round_trip, round_trip_primitives, rounds=LONG, per=1))
    )
    ours, floor = best(world.batch, batch_primitives, rounds=15, per=1)
    rows.append(row("session: 100 hybrid one-time keys (9 ms)", ours, floor, "ms", scale=1e3))
    tested = f"{(floor - untested_batch()) * 1e3:.2f} ms"
    rows.append({"what": "session:   of the floor, OpenSSL's test of each new key", "floor": tested})
    return rows


def untested_batch() -> float:
    """The floor of a batch where OpenSSL is told not to try each ML-KEM key that it makes from a seed.

    Since 3.5 it encapsulates and decapsulates once with each; only its configuration file can leave that out.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        file = Path(name) / "openssl.cnf"
        file.write_text(NO_KEY_TEST)
        code = "from bench import sessions as s; print(s.best(s.batch_primitives, rounds=15, per=1)[0])"
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "OPENSSL_CONF": str(file)}
        return float(subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout)


def with_skipped() -> dict[str, str]:
    """Decrypt in order with 2,000 keys stored, against none stored."""
    hers, his = pair()
    for _ in range(2):
        missed = [hers.encrypt(b"") for _ in range(1001)]
        his.decrypt(missed[-1], now=NOW)
        hers.decrypt(his.encrypt(b""), now=NOW)
    full, none = messages_in_order(hers, his), messages_in_order(*pair())

    def prepare() -> None:
        full[0]()
        none[0]()

    return _row("session: decrypt with 2,000 skipped keys / none (1.5)", *best(full[1], none[1], before=prepare))


def durable() -> list[dict[str, str]]:
    """A message whose state is on the disk before it leaves, against a bare SQLite commit of as many bytes."""
    hers, his = pair()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        head = Head.new(tenant=ACME, user=ACME)
        store = SqliteStore.create(Path(name) / "profile" / "profile.holdfast", SecretBytes(bytes(32)), head)
        bare = sqlite3.connect(Path(name) / "bare.db", isolation_level=None)
        bare.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(k PRIMARY KEY, v)")
        size = len(hers.to_secret())

        def send() -> None:
            with store.transaction():
                hers.encrypt(PLAINTEXT)
                store.put("session", b"bob", hers.to_secret())

        def receive() -> None:
            message = his.encrypt(PLAINTEXT)
            with store.transaction():
                store.put("inbox", b"1", SecretBytes(hers.decrypt(message, now=NOW)))
                store.put("session", b"bob", hers.to_secret())

        def commit() -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT OR REPLACE INTO t VALUES (1, ?)", [secrets.token_bytes(size)])
            bare.execute("COMMIT")

        sent, received, floor = _wall(send, receive, commit)
        store.close()
        bare.close()
    return [
        row("session: encrypt and store / a bare commit", sent, floor, "µs", scale=1e6),
        row("session: decrypt and store / a bare commit", received, floor, "µs", scale=1e6),
    ]


def _wall(*steps: Step) -> list[float]:
    """Return the median of 200 calls each, by the wall clock: a disk's time is no processor's."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(200):
        for which, step in enumerate(steps):
            begun = time.perf_counter()
            step()
            taken[which].append(time.perf_counter() - begun)
    return [sorted(times)[len(times) // 2] for times in taken]


def beside() -> list[dict[str, str]]:
    """Ours against two other libraries; ratios below 1 are ours ahead."""
    world = Handshake()
    return [line for name, make in OTHERS for line in _against(name, make, world)]


OTHERS = (("doubleratchet + x3dh", DoubleRatchetPair), ("vodozemac", VodozemacPair))


def _against(name: str, make: Callable[[], Other], world: Handshake) -> list[dict[str, str]]:
    # A pair for each figure: what encrypting piles up would be more than anybody skips.
    (sender, _), (hers, his), other, talker = pair(), pair(), make(), make()
    ours, theirs = messages_in_order(*pair()), _their_messages(make())

    def prepare() -> None:
        ours[0]()
        theirs[0]()

    def round_trip() -> None:
        his.decrypt(hers.encrypt(PLAINTEXT), now=NOW)
        hers.decrypt(his.encrypt(PLAINTEXT), now=NOW)

    def begin() -> bytes:
        return world.initiate().encrypt(PLAINTEXT)

    sent = best(lambda: sender.encrypt(PLAINTEXT), lambda: other.encrypt(PLAINTEXT), rounds=50)
    opened = best(ours[1], theirs[1], rounds=50, before=prepare)
    return [
        _row(f"session: encrypt / {name}", *sent),
        _row(f"session: decrypt in order / {name}", *opened),
        _row(
            f"session: round trip / {name}", *best(round_trip, lambda: talker.round_trip(PLAINTEXT), rounds=50, per=5)
        ),
        _row(f"session: begin (hybrid) / {name}", *best(begin, other.initiate, rounds=50, per=5)),
    ]


def _their_messages(other: Other) -> tuple[Step, Step]:
    waiting: list[object] = []

    def prepare() -> None:
        while waiting:
            other.decrypt(waiting.pop())
        waiting.extend([other.encrypt(PLAINTEXT) for _ in range(PER_ROUND)][::-1])

    return prepare, lambda: other.decrypt(waiting.pop())


def memory() -> list[dict[str, str]]:
    """Resident memory of 10,000 sessions, as begun and as read from the store, each in a process of its own."""
    world, (hers, _) = Handshake(), pair()
    secret = hers.to_secret()
    makers: tuple[tuple[str, Callable[[], Session]], ...] = (
        ("begun", world.initiate),
        ("read from the store", lambda: Session.from_secret(secret)),
    )
    rows = []
    for what, make in makers:
        grown = _growth(make)
        rows.append({"what": f"session: memory of one, {what}", "ours": f"{grown / MANY / 1024:.1f} KiB"})
        rows.append({"what": f"session: memory of 10,000, {what}", "ours": f"{grown / 2**20:.1f} MiB"})
    rows.append({"what": "session: stored state, without skipped keys", "ours": f"{len(secret)} B"})
    return rows


def _growth(make: Callable[[], Session]) -> int:
    """Return the bytes by which a child process grows with 10,000 sessions in it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        gc.collect()
        before = _resident()
        held = [make() for _ in range(MANY)]
        os.write(writing, str(_resident() - before).encode())
        os._exit(0 if held else 1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        grown = int(pipe.read())
    os.waitpid(child, 0)
    return grown


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _row(what: str, ours: float, floor: float) -> dict[str, str]:
    return row(what, ours, floor, "µs", scale=1e6)


def main() -> None:
    """Measure and report."""
    report([*steps(), with_skipped(), *durable(), *beside(), *memory()])


if __name__ == "__main__":
    main()
