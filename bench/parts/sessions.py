# SPDX-License-Identifier: Apache-2.0
"""Sessions: each step beside the bare sum of its own primitives, on a durable store, beside other libraries, in memory.

One message is 1 KiB. Ours and the floor take turns, and the best of each counts: what is left is the work itself. The
floor has each primitive as one call of `cryptography` or the standard library, as PROTOCOL section 9 sums them.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hmac import digest
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bench.peers.ratchet_libraries import DoubleRatchetPair, VodozemacPair
from bench.world import ROUNDS, Row, figure, report, row
from holdfast.client.profile.head import Head
from holdfast.client.profile.store import SqliteStore
from holdfast.core.base.padding import pad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import keys
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import OneTimePart, PreKeyBundle, VerifiedBundle, build_batch, verify_bundle
from holdfast.core.messages.session import Party, Session, read_message
from holdfast.core.signed.payloads import Header
from tests.cast.devices import Device, pair
from tests.cast.statements import ACME, NOW

PLAINTEXT = secrets.token_bytes(1024)
PADDED = pad(PLAINTEXT)
TURNS = 100  # in each of the rounds that the row is made of
PER_TURN = 50
LONG = 500  # turns of one call, for steps long enough to be timed alone
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
LEAF, NODES, PROOF = bytes(1230), bytes(65), 2  # a leaf, two nodes of a tree, and how many lie above a leaf of three
NO_KEY_TEST = """openssl_conf = all_of_it
[all_of_it]
providers = the_providers
[the_providers]
default = the_default
[the_default]
activate = 1
ml-kem.import_pct_type = none
"""
GOAL = "<= 1.15"
Step = Callable[[], object]
Other = DoubleRatchetPair | VodozemacPair


def best(*steps: Step, turns: int = TURNS, per: int = PER_TURN, before: Step | None = None) -> list[float]:
    """Return each step's least processor seconds per call; they take turns, `before` untimed ahead of each."""
    least = [float("inf")] * len(steps)
    gc.disable()
    for _ in range(turns):
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


def compared(*steps: Step, **how: Any) -> list[list[float]]:
    """Return what `best` gives in each of the rounds of a row, step by step."""
    return [list(figures) for figures in zip(*(best(*steps, **how) for _ in range(ROUNDS)), strict=True)]


def two_hmacs() -> bytes:
    """Each of the two that a chain step takes, on its own."""
    digest(CHAIN, b"\x02", "sha256")
    return digest(CHAIN, b"\x01", "sha256")


def two_hmacs_under_one_key() -> bytes:
    """As ours has them: keyed once. Not what the goals are held to; a row shows what that alone is worth."""
    first = HMAC(CHAIN, SHA256)
    second = first.copy()
    first.update(b"\x01")
    second.update(b"\x02")
    second.finalize()
    return first.finalize()


def encrypt_primitives(hmacs: Callable[[], bytes] = two_hmacs) -> None:
    """What PROTOCOL section 9 sums up: two HMACs, HKDF, both GCMs, and 12 random bytes."""
    salt = os.urandom(12)
    okm = HKDF(SHA256, 44, salt, INFO).derive(hmacs())
    HEADER_KEY.encrypt(salt, HEADER, PREFIX)
    AESGCM(okm[:32]).encrypt(okm[32:], PADDED, AAD)


def decrypt_primitives(hmacs: Callable[[], bytes] = two_hmacs) -> None:
    """The same, opening."""
    HEADER_KEY.decrypt(SALT, SEALED_HEADER, PREFIX)
    HKDF(SHA256, 44, SALT, INFO).derive(hmacs())
    AESGCM(CHAIN).decrypt(SALT, BODY, AAD)


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
    _initiate_with([PUBLIC] * 3, KEM_PUBLIC)


def _initiate_with(public: Sequence[X25519PublicKey], kem: MLKEM768PublicKey) -> None:
    identity, signed, one_time = public
    ephemeral = _key()
    for peer in (identity, signed, one_time):
        ephemeral.exchange(peer)
    PRIVATE.exchange(signed)
    kem.encapsulate()
    _root_steps(2)
    hashlib.sha256(TRANSCRIPT).digest()
    hashlib.sha256(INITIAL).digest()
    _key().exchange(signed)
    AESGCM(CHAIN)


def begin_primitives() -> None:
    """A bundle's three signatures, its eight public keys read, one leaf under its root; then a session with those keys.

    Keys that were just read: OpenSSL works longer with those than with keys that it has used before.
    """
    for _ in range(3):
        SIGNING.verify(SIGNATURE, INITIAL)
    Ed25519PublicKey.from_public_bytes(SIGNING_BYTES)
    kems = [MLKEM768PublicKey.from_public_bytes(KEM_BYTES) for _ in range(3)]
    public = [X25519PublicKey.from_public_bytes(PUBLIC_BYTES) for _ in range(4)]
    hashlib.sha256(LEAF).digest()
    for _ in range(PROOF):
        hashlib.sha256(NODES).digest()
    _initiate_with(public[:3], kems[0])


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
        leaf, bob = self.bob.leaves.leaves[0], self.bob
        part = OneTimePart(bob.batch.statement, leaf.leaf, leaf.index, leaf.proof)
        self.claimed = PreKeyBundle(int(bob.suite), bob.head, bob.signed_statement, bob.signed_spk, part)
        self.chain = bob.chain

    def initiate(self, bundle: VerifiedBundle | None = None, peer: Party | None = None) -> Session:
        return Session.initiate(
            me=self.me,
            device_statement=self.alice.signed_statement,
            agreement=self.alice.agreement,
            peer=peer or self.peer,
            bundle=bundle or self.bundle,
            now=NOW,
        )

    def meet(self) -> None:
        """Make a stranger of bob again, whose keys nobody has read."""
        keys._decoded.cache_clear()

    def begin(self) -> object:
        bundle = verify_bundle(self.claimed, chain=self.chain, device=self.bob.id, now=NOW)
        peer = Party(bundle.device_bytes, bundle.device, self.bob.aik.public, self.bob.head)
        return self.initiate(bundle, peer)

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
        waiting.extend([hers.encrypt(PLAINTEXT) for _ in range(PER_TURN)][::-1])

    return prepare, lambda: his.decrypt(waiting.pop(), now=NOW)


def steps() -> list[Row]:
    """The pure steps, each against its primitives."""
    world, hers = Handshake(), pair()[0]
    prepare, decrypt = messages_in_order(*pair())
    a, b = pair()

    def round_trip() -> None:
        b.decrypt(a.encrypt(PLAINTEXT), now=NOW)
        a.decrypt(b.encrypt(PLAINTEXT), now=NOW)

    sent = compared(
        lambda: hers.encrypt(PLAINTEXT), encrypt_primitives, lambda: encrypt_primitives(two_hmacs_under_one_key)
    )
    read = compared(decrypt, decrypt_primitives, lambda: decrypt_primitives(two_hmacs_under_one_key), before=prepare)
    alone = {"turns": LONG, "per": 1}
    ours, floor = compared(world.batch, batch_primitives, turns=5, per=1)
    tested = f"{(statistics.median(floor) - untested_batch()) * 1e3:.2f} ms"
    return [
        _row("session: encrypt 1 KiB", *sent[:2], goal=GOAL),
        _row("session: decrypt 1 KiB in order", *read[:2], goal=GOAL),
        _row("session: encrypt / its primitives with HMAC keyed once as well", sent[0], sent[2]),
        _row("session: decrypt / its primitives with HMAC keyed once as well", read[0], read[2]),
        _row("session: initiate, hybrid", *compared(world.initiate, initiate_primitives, **alone), goal=GOAL),
        _row(
            "session: verify a stranger's bundle and initiate",
            *compared(world.begin, begin_primitives, before=world.meet, **alone),
            goal=GOAL,
        ),
        _row("session: respond, hybrid", *compared(world.respond, respond_primitives, **alone), goal=GOAL),
        _row("session: round trip, two DH steps", *compared(round_trip, round_trip_primitives, **alone), goal=GOAL),
        row("session: 100 hybrid one-time keys", ours, floor, "ms", scale=1e3),
        {"what": "session:   of the floor, OpenSSL's test of each new key", "floor": tested},
    ]


def untested_batch() -> float:
    """The floor of a batch where OpenSSL is told not to try each ML-KEM key that it makes from a seed.

    Since 3.5 it encapsulates and decapsulates once with each; only its configuration file can leave that out.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        file = Path(name) / "openssl.cnf"
        file.write_text(NO_KEY_TEST)
        code = "from bench.parts import sessions as s; print(s.best(s.batch_primitives, turns=15, per=1)[0])"
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "OPENSSL_CONF": str(file)}
        return float(subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout)


def with_skipped() -> Row:
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

    with_all, without = compared(full[1], none[1], before=prepare)
    return _row("session: decrypt with 2,000 skipped keys", with_all, without, goal="<= 1.5", beside="none skipped")


def durable() -> list[Row]:
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

        rounds = [_wall(send, receive, commit) for _ in range(ROUNDS)]
        store.close()
        bare.close()
    sent, received, floor = zip(*rounds, strict=True)
    return [
        _row("session: encrypt and store", sent, floor, beside="a bare commit"),
        _row("session: decrypt and store", received, floor, beside="a bare commit"),
    ]


def _wall(*steps: Step) -> list[float]:
    """Return the median of 100 calls each, by the wall clock: a disk's time is no processor's."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(100):
        for which, step in enumerate(steps):
            begun = time.perf_counter()
            step()
            taken[which].append(time.perf_counter() - begun)
    return [sorted(times)[len(times) // 2] for times in taken]


def beside() -> list[Row]:
    """Ours against two other libraries; ratios below 1 are ours ahead."""
    world = Handshake()
    return [line for name, make in OTHERS for line in _against(name, make, world)]


OTHERS = (("doubleratchet + x3dh", DoubleRatchetPair), ("vodozemac", VodozemacPair))


def _against(name: str, make: Callable[[], Other], world: Handshake) -> list[Row]:
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

    sent = compared(lambda: sender.encrypt(PLAINTEXT), lambda: other.encrypt(PLAINTEXT), turns=30)
    opened = compared(ours[1], theirs[1], turns=30, before=prepare)
    turned = compared(round_trip, lambda: talker.round_trip(PLAINTEXT), turns=30, per=5)
    begun = compared(begin, other.initiate, turns=30, per=5)
    return [
        _row("session: encrypt", *sent, beside=name),
        _row("session: decrypt in order", *opened, beside=name),
        _row("session: round trip", *turned, beside=name),
        _row("session: begin (hybrid)", *begun, beside=name),
    ]


def _their_messages(other: Other) -> tuple[Step, Step]:
    waiting: list[object] = []

    def prepare() -> None:
        while waiting:
            other.decrypt(waiting.pop())
        waiting.extend([other.encrypt(PLAINTEXT) for _ in range(PER_TURN)][::-1])

    return prepare, lambda: other.decrypt(waiting.pop())


def memory() -> list[Row]:
    """Resident memory of 10,000 sessions, as begun and as read from the store, each in a process of its own."""
    world, (hers, _) = Handshake(), pair()
    secret = hers.to_secret()
    makers: tuple[tuple[str, Callable[[], Session]], ...] = (
        ("begun", world.initiate),
        ("read from the store", lambda: Session.from_secret(secret)),
    )
    rows = [
        figure(f"session: memory of one of 10,000, {what}", [_growth(make) / MANY / 1024 for _ in range(ROUNDS)], "KiB")
        for what, make in makers
    ]
    return [*rows, figure("session: stored state, without skipped keys", len(secret), "B")]


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


def _row(what: str, ours: Sequence[float], floor: Sequence[float], *, goal: str = "", beside: str = "") -> Row:
    return row(what, ours, floor, "µs", scale=1e6, goal=goal, beside=beside)


def main() -> None:
    """Measure and report."""
    report([*steps(), with_skipped(), *durable(), *beside(), *memory()])


if __name__ == "__main__":
    main()
