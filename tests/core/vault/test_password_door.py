# SPDX-License-Identifier: Apache-2.0
"""The password door: bounds before work, one error for what does not open, and Argon2id as RFC 9106 has it."""

import hashlib
import hmac
import itertools
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode, label
from holdfast.core.base.errors import HoldfastError, Malformed, OutOfBounds, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.password_door import (
    DEFAULT_COST,
    HIGH_COST,
    Argon2Cost,
    DoorOwner,
    generate_password,
    open_password_door,
    seal_password_door,
    sign_in_proof,
)

VECTORS = Path(__file__).parents[2] / "vectors/rfc/argon2id-rfc9106-and-openssl.txt"
QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
VAULT_KEY = SecretBytes(bytes(range(32)))
PASSWORD = SecretBytes("correct horse é".encode())
ALICE = DoorOwner(tenant=b"acme" * 4, user=b"alice-16-bytes..", epoch=3)
DOOR = seal_password_door(VAULT_KEY, password=PASSWORD, owner=ALICE, cost=QUICK)


def changed(kdf: dict[int, Any] | None = None, **fields: Any) -> bytes:
    value = decode(DOOR)
    assert isinstance(value, dict)
    inner = value[3]
    assert isinstance(inner, dict)
    inner.update(kdf or {})
    for name, content in fields.items():
        value[int(name[1:])] = content
    return encode({number: content for number, content in value.items() if content is not None})


def test_argon2id_agrees_with_the_published_vectors() -> None:
    ran = 0
    for block in VECTORS.read_text().split("COUNT = ")[1:]:
        pairs = (line.partition("=") for line in block.splitlines()[1:] if "=" in line and not line.startswith("#"))
        case = {name.strip(): value.strip() for name, _, value in pairs}
        derived = Argon2id(
            salt=bytes.fromhex(case["salt"]),
            length=int(case["length"]),
            iterations=int(case["iter"]),
            lanes=int(case["lanes"]),
            memory_cost=int(case["memcost"]),
            ad=bytes.fromhex(case["ad"]) if "ad" in case else None,
            secret=bytes.fromhex(case["secret"]) if "secret" in case else None,
        ).derive(bytes.fromhex(case["pass"]))
        assert derived.hex() == case["output"]
        ran += 1
    assert ran == 6


def test_open_returns_the_vault_key() -> None:
    assert open_password_door(DOOR, password=PASSWORD, owner=ALICE) == VAULT_KEY


def test_the_default_cost_is_that_of_rfc_9106_for_less_memory() -> None:
    assert (
        DEFAULT_COST.memory_kib,
        DEFAULT_COST.passes,
        DEFAULT_COST.lanes,
    ) == (65536, 3, 4)
    door = seal_password_door(VAULT_KEY, password=generate_password(), owner=ALICE)
    value = decode(door)
    assert isinstance(value, dict)
    kdf = value[3]
    assert isinstance(kdf, dict)
    assert [kdf[i] for i in range(1, 6)] == ["argon2id", 0x13, 65536, 3, 4]


def test_open_takes_the_password_in_any_normal_form() -> None:
    text = PASSWORD.reveal().decode()
    spelt = {form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKD")}
    assert spelt["NFC"] != spelt["NFD"]
    for one in (*spelt.values(), "ｃorrect horse é"):
        assert open_password_door(DOOR, password=SecretBytes(one.encode()), owner=ALICE) == VAULT_KEY


def test_open_refuses_wrong_password_tampering_and_another_owner_alike() -> None:
    attempts = [
        (DOOR, SecretBytes(b"correct horse e"), ALICE),
        (DOOR, SecretBytes(b""), ALICE),
        (changed(_8=bytes(12)), PASSWORD, ALICE),
        (changed(_9=bytes(32)), PASSWORD, ALICE),
        (changed(_10=bytes(48)), PASSWORD, ALICE),
        (changed({6: bytes(16)}), PASSWORD, ALICE),
        (changed({3: 20 * 1024}), PASSWORD, ALICE),
        (changed({5: 2}), PASSWORD, ALICE),
    ]
    attempts += [
        (DOOR, PASSWORD, DoorOwner(tenant, user, epoch))
        for tenant, user, epoch in itertools.product(
            (ALICE.tenant, b"evil" * 4), (ALICE.user, b"bob-16-bytes...."), (3, 4)
        )
        if DoorOwner(tenant, user, epoch) != ALICE
    ]
    messages = set()
    for door, password, owner in attempts:
        with pytest.raises(UnwrapFailed) as refused:
            open_password_door(door, password=password, owner=owner)
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_open_refuses_a_door_relabelled_to_its_thief() -> None:
    thief = DoorOwner(ALICE.tenant, b"mallory-16-bytes", 1)
    with pytest.raises(UnwrapFailed):
        open_password_door(changed(_5=thief.user, _6=1), password=PASSWORD, owner=thief)


@pytest.mark.parametrize(
    "kdf",
    [{3: 19 * 1024 - 1}, {3: 1024 * 1024 + 1}, {3: 0}, {3: 1}, {3: 2**31}, {3: 2**32}, {3: 2**53 - 1}, {4: 0}, {4: 1},
     {4: 11}, {4: 2**31}, {5: 0}, {5: 9}, {5: 2**24}, {5: 2**31}],
)  # fmt: skip
def test_open_refuses_costs_out_of_bounds_before_hashing(kdf: dict[int, int]) -> None:
    started = time.monotonic()
    with pytest.raises(OutOfBounds):
        open_password_door(changed(kdf), password=PASSWORD, owner=ALICE)
    assert time.monotonic() - started < 0.05


@pytest.mark.parametrize(
    "cost",
    [(19 * 1024 - 1, 2, 1), (1024 * 1024 + 1, 2, 1), (65536, 1, 4), (65536, 11, 4), (65536, 3, 0), (65536, 3, 9)],
)
def test_costs_beyond_the_bounds_are_refused_where_they_are_made(cost: tuple[int, int, int]) -> None:
    with pytest.raises(OutOfBounds):
        Argon2Cost(*cost)


@pytest.mark.parametrize("cost", [(19 * 1024, 2, 1), (1024 * 1024, 10, 8)])
def test_costs_at_the_bounds_are_taken(cost: tuple[int, int, int]) -> None:
    assert Argon2Cost(*cost).memory_kib == cost[0]


@pytest.mark.parametrize(
    "door",
    [changed(_1=0), changed(_1=2), changed(_2="phrase"), changed(_2="vault"), changed(_7=1), changed(_7=b""),
     changed(_4=bytes(15)), changed(_5=None), changed(_6=None), changed(_8=bytes(13)), changed(_9=bytes(33)),
     changed(_10=bytes(47)), changed(_11=1), changed(_3=1), changed({1: "argon2i"}), changed({1: "scrypt"}),
     changed({3: -1}), changed({4: -1}), changed({5: -1}),
     changed({2: 0x10}), changed({6: bytes(8)}), changed({7: 1}), b"", DOOR + b"\0", DOOR[:-1], bytes(2000)],
)  # fmt: skip
def test_open_refuses_a_door_outside_the_format_before_hashing(door: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(Malformed):
        open_password_door(door, password=PASSWORD, owner=ALICE)
    assert time.monotonic() - started < 0.05


@pytest.mark.parametrize("password", [b"", b"short", b"thirteen char", "ﬃﬃ".encode() * 2, b"\xff" * 20, b"x" * 1025])
def test_seal_refuses_a_password_too_short_too_long_or_not_text(password: bytes) -> None:
    with pytest.raises(OutOfBounds):
        seal_password_door(VAULT_KEY, password=SecretBytes(password), owner=ALICE, cost=QUICK)


def test_seal_refuses_a_vault_key_of_another_length() -> None:
    for size in (0, 16, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            seal_password_door(SecretBytes(bytes(size)), password=PASSWORD, owner=ALICE, cost=QUICK)


def test_generated_passwords_are_long_enough_and_never_the_same() -> None:
    made = [generate_password().reveal() for _ in range(200)]
    assert len(set(made)) == 200
    assert {len(one) for one in made} == {27}
    seal_password_door(VAULT_KEY, password=SecretBytes(made[0]), owner=ALICE, cost=QUICK)


def test_the_high_cost_takes_four_times_the_memory() -> None:
    assert Argon2Cost(memory_kib=4 * DEFAULT_COST.memory_kib) == HIGH_COST


def test_sign_in_proof_and_door_key_come_of_one_stretching_and_tell_nothing_of_each_other() -> None:
    value = _decoded(DOOR)
    salt = value[3][6]
    proof = sign_in_proof(PASSWORD, cost=QUICK, salt=salt, tenant=ALICE.tenant, user=ALICE.user)
    # By hand: M once, then one label for the server and one for the vault (PROTOCOL section 6).
    stretched = Argon2id(
        salt=salt, length=32, iterations=QUICK.passes, lanes=QUICK.lanes, memory_cost=QUICK.memory_kib
    ).derive(PASSWORD.reveal())
    info = label("auth", ALICE.tenant, ALICE.user)
    assert proof.reveal() == HKDF(hashes.SHA256(), 32, salt, info).derive(stretched)
    head = hashlib.sha256(encode({number: value[number] for number in range(1, 7)})).digest()
    okm = HKDF(hashes.SHA256(), 64, salt, label("door", head)).derive(stretched)
    assert hmac.digest(okm[32:], b"commit", "sha256") == value[9]
    bound = encode({number: value[number] for number in (1, 2, 3, 4, 5, 6, 8)})
    assert AESGCM(okm[:32]).decrypt(value[8], value[10], bound) == VAULT_KEY.reveal()
    assert proof.reveal() not in (okm[:32], okm[32:])


def test_sign_in_proof_differs_with_password_salt_cost_tenant_and_user() -> None:
    said: dict[str, Any] = {"cost": QUICK, "salt": bytes(16), "tenant": ALICE.tenant, "user": ALICE.user}
    others = (
        {"cost": Argon2Cost(memory_kib=19 * 1024, passes=3, lanes=1)}, {"salt": b"x" * 16}, {"tenant": b"x" * 16},
        {"user": b"x" * 16},
    )  # fmt: skip
    proofs = [sign_in_proof(PASSWORD, **said), sign_in_proof(SecretBytes(b"another password"), **said)]
    proofs += [sign_in_proof(PASSWORD, **(said | other)) for other in others]
    assert len({proof.reveal() for proof in proofs}) == 6


@settings(deadline=None, max_examples=50)  # a flipped bit may ask for ten passes instead of two
@given(st.integers(0, len(DOOR) - 1), st.integers(1, 255))
def test_a_mutated_door_is_refused_or_says_only_what_is_not_used(at: int, flip: int) -> None:
    mutated = DOOR[:at] + bytes([DOOR[at] ^ flip]) + DOOR[at + 1 :]
    read = _decoded(mutated)
    kdf = read.get(3)
    if isinstance(kdf, dict) and kdf.get(3) != QUICK.memory_kib:
        return  # another amount of memory is another minute: it is among the parametrised cases
    try:
        opened = open_password_door(mutated, password=PASSWORD, owner=ALICE)
    except HoldfastError:
        return
    assert opened == VAULT_KEY
    assert [read[i] for i in (3, 8, 9, 10)] == [_decoded(DOOR)[i] for i in (3, 8, 9, 10)]


def _decoded(octets: bytes) -> dict[int, Any]:
    try:
        value = decode(octets)
    except Malformed:
        return {}
    return value if isinstance(value, dict) else {}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_malformed(octets: bytes) -> None:
    with pytest.raises((Malformed, OutOfBounds)):
        open_password_door(octets, password=PASSWORD, owner=ALICE)
