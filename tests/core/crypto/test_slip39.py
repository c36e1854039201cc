# SPDX-License-Identifier: Apache-2.0
"""SLIP-0039 against its vectors, and against `shamir-mnemonic` in both directions."""

import itertools
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shamir_mnemonic as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import wordlist as oracle_words

from holdfast.core.base.errors import HoldfastError, Malformed, OutOfBounds, QuorumNotMet, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import slip39
from holdfast.core.crypto.slip39 import Share, combine, split
from holdfast.core.crypto.slip39_words import WORD_LIST

VECTORS = Path(__file__).parents[2] / "vectors/slip39/vectors.json"
CASES = json.loads(VECTORS.read_text())
PASSPHRASE = b"TREZOR"  # the vectors'
OF_SEVERAL_GROUPS = {17, 18, 19}
OF_ONE_SHARE = {1, 20}
SECRET = SecretBytes(bytes(range(32)))
SHARES = split(SECRET, k=3, n=5)
policies = st.integers(2, 16).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n)))


def parse(mnemonic: str) -> Share:
    return Share.parse(SecretBytes(mnemonic.encode()))


def words(share: Share) -> str:
    return share.mnemonic().reveal().decode()


@pytest.mark.parametrize("case", CASES, ids=[case[0].partition(".")[0] for case in CASES])
def test_combine_agrees_with_the_published_vectors(case: list[Any]) -> None:
    name, mnemonics, secret, _ = case
    number = int(name.partition(".")[0])
    if number in OF_SEVERAL_GROUPS:
        with pytest.raises(Malformed, match="several groups"):
            combine(map(parse, mnemonics), passphrase=PASSPHRASE)
    elif number in OF_ONE_SHARE:
        share = parse(mnemonics[0])
        assert (share.threshold, share.index) == (1, 0)
        with pytest.raises(QuorumNotMet):
            combine([share], passphrase=PASSPHRASE)
        salt = slip39._salt(share.identifier, extendable=share.extendable)
        found = slip39._feistel(share.value, reversed(range(4)), PASSPHRASE, share.exponent, salt=salt)
        assert found.reveal().hex() == secret
    elif secret:
        assert combine(map(parse, mnemonics), passphrase=PASSPHRASE).reveal().hex() == secret
    else:
        with pytest.raises((Malformed, QuorumNotMet, UnwrapFailed)):
            combine(map(parse, mnemonics), passphrase=PASSPHRASE)


def test_the_vectors_of_every_kind_were_run() -> None:
    assert len(CASES) == 33
    assert {len(case[1][0].split()) for case in CASES} == {20, 33}


def test_the_word_list_is_that_of_the_oracle() -> None:
    assert list(WORD_LIST) == oracle_words.WORDLIST
    assert len({word[:4] for word in WORD_LIST}) == 1024


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([16, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)), policies, st.randoms())
def test_the_oracle_combines_what_we_split(secret: bytes, policy: tuple[int, int], random: object) -> None:
    k, n = policy
    shares = split(SecretBytes(secret), k=k, n=n)
    chosen = random.sample(shares, k)  # type: ignore[attr-defined]
    assert oracle.combine_mnemonics([words(share) for share in chosen], b"") == secret
    theirs = oracle.Share.from_mnemonic(words(shares[-1]))
    assert (theirs.extendable, theirs.iteration_exponent, theirs.member_threshold, theirs.index) == (True, 0, k, n - 1)
    assert (theirs.group_index, theirs.group_threshold, theirs.group_count) == (0, 1, 1)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([16, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    policies,
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([b"", b"TREZOR"]),
)
def test_we_combine_what_the_oracle_splits(
    secret: bytes, policy: tuple[int, int], extendable: bool, exponent: int, passphrase: bytes
) -> None:
    k, n = policy
    made = oracle.generate_mnemonics(
        1, [(k, n)], secret, passphrase, extendable=extendable, iteration_exponent=exponent
    )[0]
    assert combine(map(parse, made[-k:]), passphrase=passphrase).reveal() == secret
    assert [words(parse(mnemonic)) for mnemonic in made] == made


def test_combine_gives_the_secret_back_from_every_subset() -> None:
    for count in (3, 4, 5):
        for chosen in itertools.permutations(SHARES, count):
            assert combine(chosen) == SECRET
            if count > 3:
                break


@pytest.mark.parametrize("size", [16, 32])
def test_shares_go_to_words_and_bytes_and_back(size: int) -> None:
    shares = split(SecretBytes(secrets.token_bytes(size)), k=2, n=16)
    for share in shares:
        assert parse(words(share)) == share == Share.from_bytes(share.to_bytes())
        assert len(words(share).split()) == {16: 20, 32: 33}[size]
        assert len(share.to_bytes()) == {16: 25, 32: 42}[size]
    assert len({share.value.reveal() for share in shares}) == 16


def test_parse_forgives_capitals_white_space_and_letters_after_the_fourth() -> None:
    for share in SHARES:
        shouted = "\n ".join(word[:4].upper() for word in words(share).split())
        assert parse(f"\t{shouted} ") == share


@pytest.mark.parametrize("word", ["academy", "aca", "zoo", "acad1", "жук"])
def test_parse_names_the_word_that_is_in_no_list_by_its_place_only(word: str) -> None:
    text = words(SHARES[0]).split()
    text[4] = word
    with pytest.raises(Malformed, match="word 5 is not in") as refused:
        parse(" ".join(text))
    assert word not in str(refused.value)


def test_parse_refuses_every_change_of_a_word_and_every_swap() -> None:
    numbers = [WORD_LIST.index(word) for word in words(SHARES[0]).split()]
    for at in range(33):
        for step in (1, 512, 1023):
            changed = [*numbers]
            changed[at] = (changed[at] + step) % 1024
            with pytest.raises(Malformed):
                parse(" ".join(WORD_LIST[number] for number in changed))
    for one, other in itertools.combinations(range(33), 2):
        swapped = [*numbers]
        swapped[one], swapped[other] = numbers[other], numbers[one]
        if swapped != numbers:
            with pytest.raises(Malformed, match="checksum"):
                parse(" ".join(WORD_LIST[number] for number in swapped))


def test_from_bytes_refuses_every_changed_bit_and_every_other_size() -> None:
    octets = SHARES[0].to_bytes().reveal()
    for bit in range(8 * len(octets)):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 128 >> bit % 8
        with pytest.raises(Malformed):
            Share.from_bytes(SecretBytes(bytes(flipped)))
    for size in (0, 1, 24, 26, 41, 43, 50):
        with pytest.raises(Malformed, match="25 or 42 bytes"):
            Share.from_bytes(SecretBytes(bytes(size)))


@settings(deadline=None)
@given(
    st.binary(max_size=60) | st.binary(min_size=42, max_size=42).map(lambda octets: bytes([octets[0] & 3]) + octets[1:])
)
def test_arbitrary_bytes_are_a_share_or_refused(octets: bytes) -> None:
    try:
        share = Share.from_bytes(SecretBytes(octets))
    except HoldfastError:
        return
    assert share.to_bytes().reveal() == octets


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(WORD_LIST), max_size=40).map(" ".join))
def test_arbitrary_text_is_a_share_or_refused(text: str) -> None:
    try:
        share = parse(text)
    except HoldfastError:
        return
    assert parse(words(share)) == share


def test_parse_refuses_more_iterations_than_a_device_would_bear() -> None:
    assert parse(words(replace(SHARES[0], exponent=4))).exponent == 4
    for exponent in (5, 15):
        with pytest.raises(OutOfBounds):
            parse(words(replace(SHARES[0], exponent=exponent)))


def test_combine_refuses_shares_that_do_not_belong_together() -> None:
    one, two, three = SHARES[:3]
    other = split(SECRET, k=3, n=5)
    for strange in (
        other[2], replace(three, threshold=2), replace(three, exponent=1), replace(three, extendable=False),
        replace(three, identifier=three.identifier ^ 1), split(SecretBytes(bytes(16)), k=3, n=5)[2],
    ):  # fmt: skip
        with pytest.raises(Malformed, match="different sets"):
            combine([one, two, strange])
    for twice in ([one, two, two], [one, two, three, three], [one, two, replace(three, index=0)]):
        with pytest.raises(Malformed, match="twice"):
            combine(twice)


def test_combine_refuses_too_few_shares() -> None:
    for few in ((), SHARES[:1], SHARES[:2]):
        with pytest.raises(QuorumNotMet, match=f"{len(few)} shares"):
            combine(few)


def test_combine_finds_every_wrong_share_by_the_digest() -> None:
    for wrong in range(3):
        shares = [*SHARES[:3]]
        value = bytearray(shares[wrong].value.reveal())
        for at in range(32):
            value[at] ^= 1
            shares[wrong] = replace(shares[wrong], value=SecretBytes(bytes(value)))
            with pytest.raises(UnwrapFailed):
                combine(shares)
            value[at] ^= 1


def test_combine_finds_a_wrong_share_among_more_than_are_needed() -> None:
    shares = [*SHARES]
    shares[4] = replace(shares[4], value=SecretBytes(bytes(32)))
    with pytest.raises(UnwrapFailed):
        combine(shares)


def test_the_oracle_and_we_get_another_secret_from_another_passphrase() -> None:
    chosen = [words(share) for share in SHARES[:3]]
    ours = combine(SHARES[:3], passphrase=b"wrong")
    assert ours != SECRET
    assert ours.reveal() == oracle.combine_mnemonics(chosen, b"wrong")


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (3, 2), (2, 17), (0, 0)])
def test_split_refuses_a_policy_outside_its_bounds(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="2 <= k <= n <= 16"):
        split(SECRET, k=k, n=n)


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33, 64])
def test_split_refuses_a_secret_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="16 or 32"):
        split(SecretBytes(bytes(size)), k=2, n=3)


@pytest.mark.parametrize("k", [2, 3, 16])
def test_split_draws_every_point_but_the_secret_and_its_digest_anew(k: int) -> None:
    drawn: list[int] = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return secrets.token_bytes(size)

    split(SECRET, k=k, n=16, random=random)
    # The identifier, k - 2 shares, and the key of the digest: with the secret these are the k points of degree k - 1.
    assert drawn == [2, *[32] * (k - 2), 28]
    again = [split(SECRET, k=k, n=16)[0].value.reveal() for _ in range(20)]
    assert len(set(again)) == 20
