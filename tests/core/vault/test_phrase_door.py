# SPDX-License-Identifier: Apache-2.0
"""The phrase door byte for byte, and the signing key that its words hold."""

import hashlib
import hmac
import itertools
import time
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
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Reason
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner
from holdfast.core.vault.phrase_door import open_phrase_door, read_phrase_door, recovery_key, seal_phrase_door
from tests.cast import statements as cast

QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
VAULT_KEY = SecretBytes(bytes(range(32)))
ALICE = DoorOwner(cast.ACME, cast.ALICE, epoch=3)
PHRASE = Phrase(SecretBytes(bytes(range(100, 132))), Language.JAPANESE)
PASSPHRASE = SecretBytes("a café".encode())
BARE = seal_phrase_door(VAULT_KEY, phrase=PHRASE, owner=ALICE)
BOTH = seal_phrase_door(VAULT_KEY, phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE, cost=QUICK)


def changed(blob: bytes, method: dict[int, Any] | None = None, **fields: Any) -> bytes:
    value: Any = decode(blob)
    value[3].update(method or {})
    value.update({int(name[1:]): content for name, content in fields.items()})
    return encode({number: content for number, content in value.items() if content is not None})


def test_open_returns_the_vault_key_by_the_words_in_any_language() -> None:
    for language in Language:
        same = Phrase(PHRASE.entropy, language)
        assert open_phrase_door(BARE, phrase=Phrase.parse(same.text(), language=language), owner=ALICE) == VAULT_KEY


def test_open_needs_words_and_passphrase_where_both_were_given() -> None:
    assert open_phrase_door(BOTH, phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE) == VAULT_KEY
    composed = SecretBytes("a cafe\u0301".encode())
    assert open_phrase_door(BOTH, phrase=PHRASE, owner=ALICE, passphrase=composed) == VAULT_KEY
    for passphrase in (None, SecretBytes(b"a cafe"), SecretBytes(b"")):
        with pytest.raises(UnwrapFailed):
            open_phrase_door(BOTH, phrase=PHRASE, owner=ALICE, passphrase=passphrase)
    with pytest.raises(UnwrapFailed):
        open_phrase_door(BOTH, phrase=Phrase.generate(), owner=ALICE, passphrase=PASSPHRASE)


def test_open_does_without_a_passphrase_that_the_door_never_had() -> None:
    assert open_phrase_door(BARE, phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE) == VAULT_KEY


def test_a_door_says_what_to_ask_for() -> None:
    bare, both = read_phrase_door(BARE), read_phrase_door(BOTH)
    assert (bare.language, bare.has_passphrase) == (Language.JAPANESE, False)
    assert (both.language, both.has_passphrase) == (Language.JAPANESE, True)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_the_door_is_the_one_of_the_page(passphrase: SecretBytes | None) -> None:
    value: Any = decode(BARE if passphrase is None else BOTH)
    assert [value[number] for number in (1, 2, 4, 5, 6)] == [1, "phrase", ALICE.tenant, ALICE.user, 3]
    assert value[3][2] == "japanese"
    ikm = PHRASE.entropy.reveal()
    if passphrase is not None:
        kdf = value[3][3]
        assert [kdf[number] for number in range(1, 6)] == ["argon2id", 0x13, 19 * 1024, 2, 1]
        ikm += Argon2id(salt=kdf[6], length=32, iterations=2, lanes=1, memory_cost=19 * 1024).derive(
            passphrase.reveal()
        )
    okm = HKDF(hashes.SHA256(), 96, value[3][1], label("phrase", ALICE.tenant, ALICE.user)).derive(ikm)
    assert hmac.digest(okm[32:64], b"commit", "sha256") == value[9]
    bound = encode({number: value[number] for number in (1, 2, 3, 4, 5, 6, 8)})
    assert AESGCM(okm[:32]).decrypt(value[8], value[10], bound) == VAULT_KEY.reveal()


def test_open_refuses_another_phrase_and_another_owner_alike() -> None:
    attempts = [(Phrase.generate(), ALICE)]
    for tenant, user, epoch in itertools.product((ALICE.tenant, b"evil" * 4), (ALICE.user, cast.MALLORY), (2, 3, 4)):
        if DoorOwner(tenant, user, epoch) != ALICE:
            attempts.append((PHRASE, DoorOwner(tenant, user, epoch)))
    messages = set()
    for phrase, owner in attempts:
        with pytest.raises(UnwrapFailed) as refused:
            open_phrase_door(BARE, phrase=phrase, owner=owner)
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_two_doors_of_one_phrase_share_nothing() -> None:
    doors: list[Any] = [decode(seal_phrase_door(VAULT_KEY, phrase=PHRASE, owner=ALICE)) for _ in range(20)]
    for read in (lambda door: door[3][1], lambda door: door[8], lambda door: door[9], lambda door: door[10]):
        assert len({read(door) for door in doors}) == 20


def _opens_or_not(blob: bytes, at: int) -> None:
    plain: Any = decode(blob)
    flipped = blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :]
    try:
        opened = open_phrase_door(flipped, phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE)
    except HoldfastError:
        return
    # Tenant, user and epoch are the caller's, not the blob's.
    value: Any = decode(flipped)
    assert opened == VAULT_KEY
    assert [value[number] for number in (1, 2, 3, 8, 9, 10)] == [plain[number] for number in (1, 2, 3, 8, 9, 10)]


def test_open_refuses_every_flipped_byte_but_in_what_is_not_read() -> None:
    for at in range(len(BARE)):
        _opens_or_not(BARE, at)


def test_open_refuses_every_flipped_byte_of_the_stretching() -> None:
    value: Any = decode(BOTH)
    kdf = encode(value[3][3])
    start = BOTH.index(kdf)
    for at in range(start, start + len(kdf)):
        _opens_or_not(BOTH, at)


@pytest.mark.parametrize(
    "door",
    [changed(BARE, _1=2), changed(BARE, _2="password"), changed(BARE, _2="contacts"), changed(BARE, _7=1),
     changed(BARE, _4=bytes(15)), changed(BARE, _8=bytes(11)), changed(BARE, _9=bytes(31)), changed(BARE, _10=b""),
     changed(BARE, _3=[]), changed(BARE, {1: bytes(15)}), changed(BARE, {2: "klingon"}), changed(BARE, {2: 1}),
     changed(BARE, {3: {}}), changed(BARE, {4: 1}), changed(BOTH, {3: "argon2id"}), BARE[:-1], BARE + b"\0", b""],
)  # fmt: skip
def test_open_refuses_a_door_outside_the_format(door: bytes) -> None:
    with pytest.raises(Malformed):
        open_phrase_door(door, phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE)
    with pytest.raises(Malformed):
        read_phrase_door(door)


@pytest.mark.parametrize(
    "kdf", [{3: 19 * 1024 - 1}, {3: 1024 * 1024 + 1}, {3: 2**53 - 1}, {4: 1}, {4: 11}, {5: 0}, {5: 9}]
)
def test_open_refuses_costs_out_of_bounds_before_hashing(kdf: dict[int, int]) -> None:
    value: Any = decode(BOTH)
    value[3][3] |= kdf
    started = time.monotonic()
    with pytest.raises(OutOfBounds):
        open_phrase_door(encode(value), phrase=PHRASE, owner=ALICE, passphrase=PASSPHRASE)
    assert time.monotonic() - started < 0.05


@settings(deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: BARE[:60] + tail))
def test_arbitrary_bytes_are_refused(octets: bytes) -> None:
    with pytest.raises((Malformed, OutOfBounds)):
        open_phrase_door(octets, phrase=PHRASE, owner=ALICE)


def test_an_empty_or_unreadable_passphrase_is_refused() -> None:
    for wrong in (b"", b"\xff", b"x" * 1025):
        with pytest.raises(OutOfBounds):
            seal_phrase_door(VAULT_KEY, phrase=PHRASE, owner=ALICE, passphrase=SecretBytes(wrong), cost=QUICK)
        with pytest.raises(OutOfBounds):
            recovery_key(PHRASE, tenant=cast.ACME, user=cast.ALICE, kind=KeyKind.ED25519, passphrase=SecretBytes(wrong))


def _recovery_okm(ikm: bytes, kind: int) -> bytes:
    info = label("recovery", cast.ACME, cast.ALICE, kind)
    return HKDF(hashes.SHA256(), 48, label("recovery"), info).derive(ikm)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_recovery_key_is_the_one_of_the_page(passphrase: SecretBytes | None) -> None:
    ikm = PHRASE.entropy.reveal()
    if passphrase is not None:
        salt = hashlib.sha256(label("recovery", cast.ACME, cast.ALICE)).digest()[:16]
        ikm += Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65536).derive(passphrase.reveal())
    said: dict[str, Any] = {"tenant": cast.ACME, "user": cast.ALICE, "passphrase": passphrase}
    edwards = recovery_key(PHRASE, kind=KeyKind.ED25519, **said)
    assert edwards.seed().reveal() == _recovery_okm(ikm, 1)[:32]
    nist = recovery_key(PHRASE, kind=KeyKind.P256_SIGNING, **said)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    scalar = int.from_bytes(_recovery_okm(ikm, 3), "big") % (order - 1) + 1
    assert int.from_bytes(nist.seed().reveal(), "big") == scalar


def test_recovery_key_is_another_one_for_every_phrase_account_kind_and_passphrase() -> None:
    keys = [
        recovery_key(phrase, tenant=tenant, user=user, kind=kind)
        for phrase, tenant, user, kind in itertools.product(
            (PHRASE, Phrase.generate()),
            (cast.ACME, cast.MALLORY_TENANT),
            (cast.ALICE, cast.MALLORY),
            (KeyKind.ED25519, KeyKind.P256_SIGNING),
        )
    ]
    keys.append(recovery_key(PHRASE, tenant=cast.ACME, user=cast.ALICE, kind=KeyKind.ED25519, passphrase=PASSPHRASE))
    assert len({key.seed().reveal() for key in keys}) == 17
    again = recovery_key(PHRASE, tenant=cast.ACME, user=cast.ALICE, kind=KeyKind.ED25519)
    assert again.seed() == keys[0].seed()


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.P256_SIGNING])
def test_recovery_key_signs_the_rotation_of_an_account_whose_identity_key_is_lost(kind: KeyKind) -> None:
    key = recovery_key(PHRASE, tenant=cast.ACME, user=cast.ALICE, kind=kind)
    entries, state = cast.begin(recovery_key=key.public)
    typed = Phrase.parse(PHRASE.text())
    found = recovery_key(typed, tenant=cast.ACME, user=cast.ALICE, kind=kind)
    new = SigningKey.generate()
    by = Author(cast.PHONE, cast.NOW, found)
    entries.append(chain_author.rotate_key(state, by=by, new_aik=new, reason=Reason.RECOVERY))
    assert verify_chain(entries, tenant=cast.ACME, user=cast.ALICE).aik == new.public
