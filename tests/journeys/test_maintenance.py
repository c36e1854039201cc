# SPDX-License-Identifier: Apache-2.0
"""Maintenance of a profile on disk against a running server: what is due is done, and the next call finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.client import maintenance, standing
from holdfast.client.escrow import escrow
from holdfast.client.identity import device, key_log
from holdfast.client.identity.key_log import Anchor
from holdfast.client.maintenance import Done, Outcome, maintain
from holdfast.client.messages import messages, prekey_rows
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.vault import doors, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.server import Installation, installation, wait_for

CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
PASSPHRASE = SecretBytes(b"correct horse battery staple")
VOID = """
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.services import void_unissued
from tenants.models import Tenant
for one in Tenant.objects.all():
    with tenant_scope(one.pk):
        void_unissued(actor=system_actor(one.pk, "restore"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    with installation() as made:
        yield made


def enrolled(server: Installation, directory: Path, name: str) -> Account:
    path = server.demo / "codes" / f"{name}.code"
    code = EnrolmentCode.parse(path.read_text())
    path.rename(path.with_suffix(".used"))
    account = accounts.create(directory, tenant=code.tenant, user=code.person, passphrase=PASSPHRASE, cost=CHEAP)
    account.connect(server.url)
    device.enrol(account, code, name=f"{name}'s laptop", is_development=True)
    return account


def outcomes(report: list[Done], item: str) -> set[Outcome]:
    return {one.outcome for one in report if one.item == item}


def test_device_is_cared_for_from_its_enrolment_on(server: Installation, tmp_path: Path) -> None:
    alice, bob = enrolled(server, tmp_path / "alice", "alice"), enrolled(server, tmp_path / "bob", "bob")
    first = maintain(alice)
    assert not [one for one in first if one.outcome is Outcome.FAILED], first
    # Published by this run or, where something was to be sent before, by that.
    assert outcomes(first, "pre-keys") <= {Outcome.DONE, Outcome.NOTHING}
    assert outcomes(first, "backup") == {Outcome.NOTHING, Outcome.NEEDS_YOU}, "one device, and no way back"
    vault.save(alice)
    doors.set_password(alice, SecretBytes(b"the password of a vault"), cost=CHEAP)
    # The backup holds the log's head: it is due once more when the log has taken the first entry, within seconds.
    wait_for(lambda: key_log.anchor(alice, alice.chain) is Anchor.ANCHORED)
    maintain(alice)
    again = maintain(alice)
    assert {one.outcome for one in again} == {Outcome.NOTHING}, again
    assert {item.name for item in maintenance._ITEMS} == {one.item for one in again}

    maintain(bob)
    messages.send(alice, bob.user, b"hello")
    assert [one.body for one in messages.receive(bob)] == [b"hello"]
    assert not [one for one in maintain(bob) if one.outcome is Outcome.FAILED]
    assert len(list(prekey_rows.all_one_time(bob.store))) == 99, "the key that began the session is destroyed"

    # A database that was restored may have handed keys out that it no longer knows of: all are voided.
    server.manage("shell", "-c", VOID, HOLDFAST_ROLE="ceremony")
    report = maintain(alice)
    assert outcomes(report, "pre-keys") == {Outcome.DONE, Outcome.NEEDS_YOU}
    assert {one.outcome for one in maintain(alice)} == {Outcome.NOTHING}

    escrow.consent(alice)
    alice.close()
    with accounts.open_account(tmp_path / "alice", passphrase=PASSPHRASE) as reopened:
        reopened.connect(server.url)
        assert standing.put_away_seen(reopened) == 0
        assert not [one for one in maintain(reopened) if one.outcome is Outcome.FAILED]
    bob.close()
