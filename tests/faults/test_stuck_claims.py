# SPDX-License-Identifier: Apache-2.0
"""FAULTS X1 and D12: a transaction that hangs with a one-time key in its hand holds up nobody else's claim."""

from __future__ import annotations

import pytest
from django.db import connection, connections, transaction

from tests.cast.phones import Directory

pytestmark = [pytest.mark.postgres_only, pytest.mark.django_db(transaction=True)]


def test_claim_takes_the_next_key_while_another_transaction_holds_the_first() -> None:
    directory = Directory()
    alice, bob = directory.phone("alice"), directory.phone("bob")
    alice.publish(batches=(3,))
    stuck = connections.create_connection("default")
    try:
        stuck.set_autocommit(False)
        with stuck.cursor() as cursor:
            cursor.execute("SELECT key_id FROM keys_onetimeprekey ORDER BY id LIMIT 1 FOR UPDATE")
            held = cursor.fetchone()[0]
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        taken = [bob.claim(alice).json()["one_time"] for _ in range(2)]
        assert taken == ["handed-out", "handed-out"]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT key_id FROM keys_onetimeprekey")
            assert cursor.fetchall() == [(held,)]
    finally:
        stuck.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
