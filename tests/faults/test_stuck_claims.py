# SPDX-License-Identifier: Apache-2.0
"""FAULTS X1, X7 and D12: a transaction that hangs, with a key in its hand or after a claim, holds up no other claim."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections, transaction

from keys.claims import claim_device
from keys.models import Claim
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


def test_claim_waits_for_no_other_of_its_requester_or_device_that_hangs() -> None:
    """No limit is near: nothing that they have in common is held, and both are counted."""
    directory = Directory()
    alice, bob = directory.phone("alice"), directory.phone("bob")
    alice.publish(batches=(3,))
    claimed, done = threading.Event(), threading.Event()

    def hang() -> None:
        try:
            with directory.acme(), transaction.atomic():
                claim_device(device_id=alice.id, key="hangs", actor=bob.actor())
                claimed.set()
                done.wait(timeout=60)
        finally:
            connections.close_all()

    stuck = threading.Thread(target=hang)
    stuck.start()
    try:
        assert claimed.wait(timeout=30)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        assert [bob.claim(alice).json()["one_time"] for _ in range(2)] == ["handed-out", "handed-out"]
    finally:
        done.set()
        stuck.join()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert Claim.unscoped.count() == 3
