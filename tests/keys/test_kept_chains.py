# SPDX-License-Identifier: Apache-2.0
"""What is kept of a chain beside its head: as good as the chain verified from its genesis, or not taken at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from audit import signing
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity import chain
from holdfast.core.identity.chain import AnnouncedKey, ChainState, ReGenesisMark
from holdfast.core.identity.entries import ArchiveGeneration
from holdfast.core.log.writers import Role
from kernel.scope import tenant_scope
from keys import chains, kept_chains
from keys.models import ChainEntry, ChainHead
from tests.cast.phones import Account, Directory
from tests.cast.roles import ROLE_KEYS

pytestmark = pytest.mark.postgres


@pytest.fixture
def account(directory: Directory) -> Account:
    """Alice's chain: two phones, one revoked, a generation."""
    account = directory.account("alice")
    for _ in range(3):
        account.add_phone()
    assert account.append(account.phones[0], [account.generation(account.phones[0])]).status_code == 201
    assert account.revoke(account.phones[2]).status_code == 201
    return account


def asked(account: Account) -> ChainState:
    with tenant_scope(account.person.tenant_id):
        view = chains.chain_state(account.person.pk)
        assert (view.seq, view.head, view.aik, view.generations) == (
            view.state.seq,
            view.state.head,
            view.state.aik,
            view.state.generations,
        )
        return view.state


def from_genesis(account: Account) -> ChainState:
    with tenant_scope(account.person.tenant_id):
        return chains.whole_chain_state(account.person.pk)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts the entries that are verified, by the core's own step."""
    found: list[str] = []
    begin, apply = chain._begin, chain._apply

    def begun(*given: Any) -> ChainState:
        found.append("genesis")
        return begin(*given)

    def applied(*given: Any) -> ChainState:
        found.append("entry")
        return apply(*given)

    monkeypatch.setattr(chain, "_begin", begun)
    monkeypatch.setattr(chain, "_apply", applied)
    return found


def test_kept_state_is_the_one_of_the_whole_chain_and_verifies_nothing(account: Account, verified: list[str]) -> None:
    kept = asked(account)
    assert verified == []
    assert kept == from_genesis(account)


def test_append_verifies_the_new_entries_alone(account: Account, verified: list[str]) -> None:
    entry = account.generation(account.phones[0], 2)
    verified.clear()
    account.append(account.phones[0], [entry])
    # By the server, and by the test's own account.
    assert verified == ["entry", "entry"]
    assert asked(account) == from_genesis(account)


def test_every_part_of_a_state_comes_back(directory: Directory) -> None:
    person = directory.account("alice").person
    keys = [SigningKey.generate(kind).public for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)]
    least = ChainState(person.tenant_id.bytes, person.pk.bytes, keys[0], None, (b"h" * 32,))
    most = ChainState(
        tenant=person.tenant_id.bytes,
        user=person.pk.bytes,
        aik=keys[1],
        recovery_key=keys[0],
        hashes=tuple(bytes([number]) * 32 for number in range(9)),
        devices={b"b" * 16: b"2" * 32, b"a" * 16: b"1" * 32},
        revoked=frozenset({b"r" * 16, b"q" * 16}),
        generations=(ArchiveGeneration(1, 5, b"c" * 32), ArchiveGeneration(7, 6, b"d" * 32)),
        manifest_hash=b"m" * 32,
        re_genesis=ReGenesisMark(4, b"k" * 16, b"p" * 32),
        former_aiks=(keys[0], keys[1]),
        attested_device=b"v" * 32,
        time=1_900_000_000,
        announced=AnnouncedKey(keys[1], 1_899_999_999),
    )
    with tenant_scope(person.tenant_id):
        for state in (least, most):
            row = kept_chains.columns(person.pk, state)
            kept = kept_chains.read(person.pk, seq=state.seq, head=state.head, state=row["state"], mac=row["state_mac"])
            assert kept is not None
            assert kept_chains.whole(person.pk, kept, state.hashes) == state


def head_of(account: Account) -> Any:
    return ChainHead.unscoped.filter(user_id=account.person.pk)


def another_key(account: Account) -> None:
    # As if somebody who writes the database, and has no key, had written it.
    forged = SigningKey.generate()
    head = head_of(account).get()
    said = from_genesis(account)
    try:
        signing.install(lambda: {**ROLE_KEYS, Role.WEB: forged})
        with tenant_scope(account.person.tenant_id):
            kept_chains.keep(account.person.pk, said)
    finally:
        signing.install(lambda: ROLE_KEYS)
    assert bytes(head_of(account).get().state_mac) != bytes(head.state_mac)


def flipped_state(account: Account) -> None:
    octets = bytearray(head_of(account).get().state)
    octets[10] ^= 1
    head_of(account).update(state=bytes(octets))


def of_another_user(account: Account) -> None:
    row = ChainHead.unscoped.exclude(user_id=account.person.pk).exclude(state=None).first()
    assert row is not None
    head_of(account).update(state=row.state, state_mac=row.state_mac)


def of_an_older_head(account: Account) -> None:
    before = head_of(account).get()
    assert account.append(account.phones[0], [account.generation(account.phones[0], 2)]).status_code == 201
    head_of(account).update(state=before.state, state_mac=before.state_mac)


def whole_row_put_back(account: Account) -> None:
    before = head_of(account).get()
    assert account.append(account.phones[0], [account.generation(account.phones[0], 2)]).status_code == 201
    head_of(account).update(seq=before.seq, head=before.head, state=before.state, state_mac=before.state_mac)


def nothing_kept(account: Account) -> None:
    head_of(account).update(state=None, state_mac=None)


FORGERIES: list[Callable[[Account], None]] = [
    another_key,
    flipped_state,
    of_another_user,
    of_an_older_head,
    whole_row_put_back,
    nothing_kept,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_state_that_does_not_fit_is_verified_from_genesis(
    account: Account, directory: Directory, verified: list[str], forge: Callable[[Account], None]
) -> None:
    directory.account("bob").add_phone()
    forge(account)
    verified.clear()
    found = asked(account)
    assert "genesis" in verified
    assert found == from_genesis(account)


@pytest.mark.parametrize("forge", [another_key, flipped_state, of_another_user, of_an_older_head, nothing_kept])
def test_state_that_did_not_fit_is_kept_anew(
    account: Account, directory: Directory, verified: list[str], forge: Callable[[Account], None]
) -> None:
    directory.account("bob").add_phone()
    forge(account)
    asked(account)
    verified.clear()
    asked(account)
    assert verified == []


def test_hashes_that_were_changed_make_the_whole_chain_be_verified(account: Account, verified: list[str]) -> None:
    rows = ChainEntry.unscoped.filter(user_id=account.person.pk, seq=1)
    assert rows.update(entry_hash=bytes(32)) == 1
    verified.clear()
    assert asked(account) == from_genesis(account)
    assert "genesis" in verified


def test_process_without_the_web_roles_key_verifies_and_keeps_nothing(account: Account, verified: list[str]) -> None:
    others: dict[Role, SigningKey] = {role: key for role, key in ROLE_KEYS.items() if role != Role.WEB}
    before = head_of(account).get()
    try:
        signing.install(lambda: others)
        verified.clear()
        assert asked(account) == from_genesis(account)
        assert "genesis" in verified
    finally:
        signing.install(lambda: ROLE_KEYS)
    assert bytes(head_of(account).get().state_mac) == bytes(before.state_mac)
