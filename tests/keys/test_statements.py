# SPDX-License-Identifier: Apache-2.0
"""How many statements the requests of mailboxes, vaults and pre-keys take, BEGIN, COMMIT and the nonce's counted."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hsm.backend import RootToken
from keys.records import create_tenant_master_key
from tests.cast.asked import on, statements_of
from tests.cast.phones import Directory, batch_document
from tests.keys.mail import fetched, send
from tests.keys.test_vaults import put_door

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_message_and_inbox_take_few_statements(directory: Directory) -> None:
    alice, bob = directory.account("alice"), directory.phone("bob")
    for _ in range(3):
        alice.add_phone().publish(batches=[])
    phone = alice.phones[0]
    # The first of each takes tokens of its buckets in advance.
    send(bob, alice)
    fetched(phone)
    sent = statements_of(lambda: send(bob, alice), status=201)
    # Credential, BEGIN, nonce, head, (devices, sizes, budget, messages), answer, COMMIT.
    assert len(sent) <= on(postgresql=7, sqlite=10), sent
    inbox = statements_of(lambda: phone.send("GET", "/api/v1/messages"), status=200)
    # Credential, nonce, messages.
    assert len(inbox) <= on(postgresql=3, sqlite=5), inbox


def test_vault_takes_few_statements(directory: Directory, root_token: RootToken) -> None:
    create_tenant_master_key(directory.world.acme.pk)
    account, phone = directory.account("alice"), directory.phone("alice")

    def put(version: int) -> Any:
        return phone.send("PUT", "/api/v1/vault", account.vault(phone, version), if_match=f'"{version - 1}"')

    assert put(1).status_code == 204
    stored = statements_of(lambda: put(2), status=204)
    # Credential, nonce, what it rests on, BEGIN, vault, entry, COMMIT.
    assert len(stored) <= on(postgresql=7, sqlite=9), stored
    read = statements_of(lambda: phone.send("GET", "/api/v1/vault"), status=200)
    # Credential, nonce, what it rests on with the vault, BEGIN, count, entry, COMMIT.
    assert len(read) <= on(postgresql=7, sqlite=9), read


def test_door_takes_few_statements(directory: Directory, root_token: RootToken) -> None:
    create_tenant_master_key(directory.world.acme.pk)
    phone = directory.phone("alice")
    for version in (0, 1):
        asked = statements_of(partial(put_door, phone, version=version), status=204)
    assert len(asked) <= on(postgresql=7, sqlite=9), asked
    read = statements_of(lambda: phone.send("GET", "/api/v1/vault/doors/password"), status=200)
    assert len(read) <= on(postgresql=7, sqlite=9), read


def test_claims_take_few_statements(directory: Directory) -> None:
    alice, bob = directory.account("alice"), directory.phone("bob")
    for _ in range(3):
        alice.add_phone().publish(batches=[5])
    bob.claim(alice.phones[0])
    of_device = statements_of(lambda: bob.claim(alice.phones[0]), status=200)
    # Credential, BEGIN, nonce, claim, entry, COMMIT. SQLite: target, key and record in the place of the claim.
    assert len(of_device) <= on(postgresql=6, sqlite=10), of_device
    of_user = statements_of(lambda: bob.send("POST", f"{alice.path}/claim", {}, idempotency_key="all"), status=200)
    # PostgreSQL: the counters alone, and all three in the one claim.
    assert len(of_user) <= on(postgresql=7, sqlite=14), of_user


def test_upload_takes_few_statements_however_many_keys_it_has(directory: Directory) -> None:
    alice = directory.phone("alice")
    alice.upload(1)
    for size, key, most in (
        (100, {}, on(postgresql=4, sqlite=11)),
        (50, {"idempotency_key": "k"}, on(postgresql=10, sqlite=15)),
    ):
        document = batch_document(alice.batch(size))
        asked = statements_of(partial(alice.send, "POST", f"{alice.path}/pre-keys", document, **key), status=201)
        # Credential, nonce, device, and the act itself: PostgreSQL stores batch, keys and entry by one statement.
        # With an idempotency key: the answer before and the one kept, a transaction, and in it one of the batch.
        assert len(asked) <= most, [one[:60] for one in asked]
