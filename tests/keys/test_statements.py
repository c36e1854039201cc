# SPDX-License-Identifier: Apache-2.0
"""How many statements the requests of mailboxes and vaults take, BEGIN, COMMIT and the nonce's counted."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hsm.backend import RootToken
from keys.records import create_tenant_master_key
from tests.cast.asked import on, statements_of
from tests.cast.phones import Directory
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
