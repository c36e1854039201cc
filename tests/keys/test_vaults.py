# SPDX-License-Identifier: Apache-2.0
"""The vault and its doors over HTTP, sealed by a real PKCS#11 token (PROTOCOL section 6, FAULTS C1, C3, C4, L10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, encode, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.vault.blob import Section
from hsm import registry
from hsm.backend import RootToken
from kernel import queue
from kernel.errors import NotFound
from kernel.models import Job
from kernel.scope import tenant_scope
from keys import access, vaults
from keys.models import Vault, VaultDoor
from keys.records import create_tenant_master_key
from keys.vaults import READS_BY_PENDING
from tenants import mails
from tests.cast.phones import Account, Directory, Phone, audit_away, issue, new_phone, post_enrolment
from tests.keys.mail import events_of, fetched

DOOR = b64u(encode({1: 1, 2: "password", 10: b"ct"}))


@pytest.fixture
def alice(directory: Directory, root_token: RootToken) -> Phone:
    for tenant in (directory.world.acme, directory.world.other):
        create_tenant_master_key(tenant.pk)
    return directory.phone("alice")


@pytest.fixture
def account(alice: Phone, directory: Directory) -> Account:
    return directory.account("alice")


def put(phone: Phone, document: dict[str, Any], version: int | str) -> Any:
    return phone.send("PUT", "/api/v1/vault", document, if_match=f'"{version}"')


def put_door(phone: Phone, kind: str = "password", blob: str = DOOR, version: int = 0) -> Any:
    return phone.send("PUT", f"/api/v1/vault/doors/{kind}", {"blob": blob}, if_match=f'"{version}"')


@pytest.mark.postgres
def test_vault_comes_back_as_it_was_written_and_is_stored_sealed(alice: Phone, account: Account) -> None:
    document = account.vault(alice, 1)
    written = put(alice, document, 0)
    assert (written.status_code, written.headers["etag"]) == (204, '"1"')
    read = alice.send("GET", "/api/v1/vault")
    assert read.json() == {**document, "version": 1}
    assert read.headers["etag"] == '"1"'
    assert unb64u(document["blob"]) not in bytes(Vault.unscoped.get().sealed)


@pytest.mark.postgres
def test_vault_is_not_written_over_a_version_that_was_not_read(alice: Phone, account: Account) -> None:
    put(alice, account.vault(alice, 1), 0)
    refused = put(alice, account.vault(alice, 1), 0)
    assert (refused.status_code, refused.json()["code"], refused.json()["version"]) == (409, "vault-stale", 1)
    assert put(alice, account.vault(alice, 2), 1).status_code == 204
    assert put(alice, account.vault(alice, 4), 3).status_code == 409


def test_vault_sent_again_after_a_lost_answer_is_taken_as_stored(alice: Phone, account: Account) -> None:
    document = account.vault(alice, 1)
    assert [put(alice, document, 0).status_code for _ in range(2)] == [204, 204]
    assert AuditEntry.unscoped.filter(tag="keys:vault:store").count() == 1
    assert Vault.unscoped.get().version == 1


@pytest.mark.postgres
@pytest.mark.parametrize("version", [1, 2])
def test_vault_and_door_of_a_device_that_was_revoked_while_the_hsm_worked_are_not_stored(
    alice: Phone, account: Account, version: int
) -> None:
    account.add_phone()
    for before in range(1, version):
        assert put(alice, account.vault(alice, before), before - 1).status_code == 204
        assert put_door(alice, version=before - 1).status_code == 204
    document, actor = account.vault(alice, version), alice.actor()
    with tenant_scope(alice.person.tenant_id):
        own = access.own_vault(actor, Section.VAULT)
        statement, blob = unb64u(document["statement"]), unb64u(document["blob"])
        vault = vaults.seal_vault(own=own, statement=statement, blob=blob, expected_version=version - 1)
        of_door = access.own_door(actor, "password")
        door = vaults.seal_door(own=of_door, kind="password", blob=unb64u(DOOR), expected_version=version - 1)
    assert account.revoke(alice).status_code == 201
    stored = [*Vault.unscoped.values("version", "sealed"), *VaultDoor.unscoped.values("version", "sealed")]
    with tenant_scope(alice.person.tenant_id):
        with pytest.raises(NotFound), transaction.atomic():
            vaults.store_vault(user_id=own.user_id, sealed=vault, actor=actor)
        with pytest.raises(NotFound), transaction.atomic():
            vaults.store_door(user_id=own.user_id, kind="password", sealed=door, actor=actor)
    assert [*Vault.unscoped.values("version", "sealed"), *VaultDoor.unscoped.values("version", "sealed")] == stored


@pytest.mark.parametrize("tag", [None, "1", '"x"', '"-1"', 'W/"0"', '"01"', "*"])
def test_vault_is_not_written_without_a_version(alice: Phone, account: Account, tag: str | None) -> None:
    headers = {} if tag is None else {"if_match": tag}
    refused = alice.send("PUT", "/api/v1/vault", account.vault(alice, 1), **headers)
    assert refused.status_code in (400, 422)
    assert refused.json()["errors"][0]["field"] == "if-match"
    assert Vault.unscoped.count() == 0


def test_vault_signed_by_another_key_is_refused(alice: Phone, account: Account) -> None:
    refused = put(alice, account.vault(alice, 1, key=SigningKey.generate()), 0)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")


def test_vault_whose_statement_names_another_blob_or_version_is_refused(alice: Phone, account: Account) -> None:
    one, other = account.vault(alice, 1), account.vault(alice, 1)
    for document in (one | {"blob": other["blob"]}, account.vault(alice, 1, signed=2)):
        refused = put(alice, document, 0)
        assert (refused.status_code, refused.json()["code"]) == (422, "device-mismatch")
    assert Vault.unscoped.count() == 0


def test_vault_of_another_user_is_never_reached(alice: Phone, account: Account, directory: Directory) -> None:
    put(alice, account.vault(alice, 1), 0)
    for name in ("bob", "mallory"):
        assert directory.phone(name).send("GET", "/api/v1/vault").status_code == 404
    bob = directory.phone("bob")
    refused = put(bob, account.vault(alice, 1), 0)
    assert refused.json()["code"] == "invalid-signature"


def pending_of(alice: Phone) -> Phone:
    pending = new_phone(alice.person)
    issue(pending)
    assert post_enrolment(pending).status_code == 201
    return pending


@pytest.mark.postgres
def test_vault_is_read_by_a_pending_device_and_not_written(alice: Phone, account: Account) -> None:
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    pending = pending_of(alice)
    assert pending.send("GET", "/api/v1/vault").json()["version"] == 1
    (shown,) = pending.send("GET", "/api/v1/vault/doors").json()["doors"]
    assert (shown["kind"], shown["version"]) == ("password", 1)
    assert put(pending, account.vault(pending, 2), 1).status_code == 403
    assert put_door(pending, version=1).status_code == 403
    assert pending.send("DELETE", "/api/v1/vault/doors/password").status_code == 403


@pytest.mark.postgres
def test_door_read_by_a_pending_device_is_told_to_the_owner_in_every_way(
    alice: Phone, account: Account, mailoutbox: list[Any]
) -> None:
    second = account.add_phone()
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    assert alice.send("GET", "/api/v1/vault/doors/password").status_code == 200
    assert fetched(alice) == [], "alice's own devices read in peace"
    pending = pending_of(alice)
    assert pending.send("GET", "/api/v1/vault/doors/password").json()["blob"] == DOOR
    told = {"event": "door-read", "kind": "password", "device_id": str(pending.id)}
    assert [events_of(fetched(phone)) for phone in (alice, second, pending)] == [[told], [told], []]
    entry = AuditEntry.unscoped.filter(tag="keys:door:read").order_by("-seq")[0]
    assert (entry.actor, entry.body["device_state"]) == (f"device:{pending.id}", "pending")
    assert queue.run_due(queue.MAIL) == 1
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == ([alice.person.email], "A new device read a door of your vault")
    assert str(pending.id) in mail.body
    assert AuditEntry.unscoped.get(tag="keys:notice:hand-over").body == {"kind": "door-read"}


def test_door_is_not_read_by_a_pending_device_when_nobody_could_be_told(alice: Phone, account: Account) -> None:
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    pending = pending_of(alice)
    with audit_away():
        refused = pending.send("GET", "/api/v1/vault/doors/password")
    assert refused.status_code == 503
    assert DOOR.encode() not in refused.content
    assert (fetched(alice), Job.unscoped.count()) == ([], 0)


def test_doors_are_not_read_on_and_on_by_a_pending_device(alice: Phone, account: Account) -> None:
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    pending = pending_of(alice)
    answers = [pending.send("GET", "/api/v1/vault/doors/password").status_code for _ in range(READS_BY_PENDING + 1)]
    assert answers == [200] * READS_BY_PENDING + [429]
    assert alice.send("GET", "/api/v1/vault/doors/password").status_code == 200


def test_mail_that_is_not_taken_is_tried_again_and_then_said_to_have_failed(
    alice: Phone, account: Account, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    assert pending_of(alice).send("GET", "/api/v1/vault/doors/password").status_code == 200
    monkeypatch.setattr(mails, "MAX_ATTEMPTS", 25)  # beyond the twenty after which a job is dead
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 1
    for _ in range(24):
        assert queue.run_due(queue.MAIL) == 0
        Job.unscoped.update(run_at=Now())
    assert AuditEntry.unscoped.filter(tag__startswith="keys:notice").count() == 0
    assert queue.run_due(queue.MAIL) == 1
    assert AuditEntry.unscoped.get(tag="keys:notice:fail").subject == str(alice.person.pk)


def test_doors_are_password_phrase_and_contacts(alice: Phone, account: Account) -> None:
    put(alice, account.vault(alice, 1), 0)
    for kind, status in (("password", 204), ("phrase", 204), ("contacts", 204), ("device", 400), ("escrow", 400)):
        assert put_door(alice, kind).status_code == status


@pytest.mark.postgres
def test_vault_read_is_logged_and_is_not_answered_without_its_entry(alice: Phone, account: Account) -> None:
    document = account.vault(alice, 1)
    put(alice, document, 0)
    put_door(alice)
    with audit_away():
        for path in ("/api/v1/vault", "/api/v1/vault/doors/password"):
            refused = alice.send("GET", path)
            assert refused.status_code == 503
            assert document["blob"].encode() not in refused.content
        assert put(alice, account.vault(alice, 2), 1).status_code == 503
        assert put_door(alice, "phrase").status_code == 503
        assert alice.send("DELETE", "/api/v1/vault/doors/password").status_code == 503
    assert (Vault.unscoped.get().version, VaultDoor.unscoped.count()) == (1, 1)
    alice.send("GET", "/api/v1/vault")
    entry = AuditEntry.unscoped.get(tag="keys:vault:read")
    assert (entry.actor, entry.body) == (f"device:{alice.id}", {"version": 1})


@pytest.mark.postgres
def test_loop_of_reads_is_one_entry_an_hour_for_each_device_and_each_version(alice: Phone, account: Account) -> None:
    second = account.add_phone()
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    for phone in (alice, second):
        for _ in range(3):
            assert phone.send("GET", "/api/v1/vault").status_code == 200
            assert phone.send("GET", "/api/v1/vault/doors/password").status_code == 200
    tags = ("keys:vault:read", "keys:door:read")
    assert [AuditEntry.unscoped.filter(tag=tag).count() for tag in tags] == [2, 2]
    put_door(alice, version=1, blob=b64u(encode({1: 2})))
    assert alice.send("GET", "/api/v1/vault/doors/password").status_code == 200
    assert AuditEntry.unscoped.filter(tag="keys:door:read").count() == 3, "what was not read before is an entry"


@pytest.mark.postgres
def test_door_read_again_by_a_pending_device_sends_no_second_mail(
    alice: Phone, account: Account, mailoutbox: list[Any]
) -> None:
    put(alice, account.vault(alice, 1), 0)
    put_door(alice)
    pending = pending_of(alice)
    for _ in range(3):
        assert pending.send("GET", "/api/v1/vault/doors/password").status_code == 200
    queue.run_due(queue.MAIL)
    assert (len(mailoutbox), len(fetched(alice))) == (1, 1)


def test_doors_are_written_listed_read_and_closed(alice: Phone) -> None:
    assert put_door(alice).status_code == 204
    assert put_door(alice, "phrase").status_code == 204
    listed = alice.send("GET", "/api/v1/vault/doors").json()
    assert [(door["kind"], door["version"]) for door in listed["doors"]] == [("password", 1), ("phrase", 1)]
    stored = [datetime.fromisoformat(door["stored_at"]) for door in listed["doors"]]
    assert all(abs(at - datetime.now(UTC)) < timedelta(minutes=5) for at in stored)
    assert alice.send("GET", "/api/v1/vault/doors/password").json() == {"blob": DOOR, "version": 1}
    assert put_door(alice, version=0, blob=b64u(encode({1: 2}))).json()["code"] == "vault-stale"
    assert put_door(alice, version=1, blob=b64u(encode({1: 2}))).status_code == 204
    assert alice.send("DELETE", "/api/v1/vault/doors/password").status_code == 204
    assert alice.send("GET", "/api/v1/vault/doors/password").status_code == 404
    assert alice.send("DELETE", "/api/v1/vault/doors/password").status_code == 404


@pytest.mark.parametrize("kind", ["window", "password%2F", "PASSWORD"])
def test_door_of_no_kind_is_refused(alice: Phone, kind: str) -> None:
    assert put_door(alice, kind).status_code in (400, 404)
    assert VaultDoor.unscoped.count() == 0


@pytest.mark.parametrize("blob", ["", "AA", b64u(b"\xff" * 40), b64u(encode([1]))])
def test_door_that_is_no_map_is_refused(alice: Phone, blob: str) -> None:
    assert put_door(alice, blob=blob).status_code == 422
    assert VaultDoor.unscoped.count() == 0


@pytest.mark.postgres
def test_door_changed_in_the_database_is_not_given_raises_an_alarm_and_leaves_others_alone(alice: Phone) -> None:
    """FAULTS C3: a bit flip by whoever can write rows."""
    put_door(alice)
    put_door(alice, "phrase")
    row = VaultDoor.unscoped.get(kind="password")
    octets = bytearray(row.sealed)
    octets[-1] ^= 1
    VaultDoor.unscoped.filter(pk=row.pk).update(sealed=bytes(octets))
    refused = alice.send("GET", "/api/v1/vault/doors/password")
    assert (refused.status_code, refused.json()["code"]) == (503, "record-unreadable")
    alarm = AuditEntry.unscoped.get(tag="keys:record:unreadable")
    assert alarm.body == {"record": str(row.pk), "kind": "door-password", "version": 1}
    assert alice.send("GET", "/api/v1/vault/doors/phrase").status_code == 200
    assert bytes(VaultDoor.unscoped.get(kind="password").sealed) == bytes(octets)


@pytest.mark.postgres
def test_door_swapped_between_users_or_tenants_in_the_database_is_not_given(alice: Phone, directory: Directory) -> None:
    """FAULTS C4: the row of another, word for word, opens for nobody."""
    put_door(alice)
    stolen = bytes(VaultDoor.unscoped.get().sealed)
    for name in ("bob", "mallory"):
        other = directory.phone(name)
        assert put_door(other).status_code == 204
        VaultDoor.unscoped.filter(user_id=other.person.pk).update(sealed=stolen)
        refused = other.send("GET", "/api/v1/vault/doors/password")
        assert (refused.status_code, refused.json()["code"]) == (503, "record-unreadable")


def test_vault_is_unavailable_while_the_token_is_away_and_nothing_is_written(
    alice: Phone, account: Account, root_token: RootToken
) -> None:
    registry.install(dict)
    try:
        refused = put(alice, account.vault(alice, 1), 0)
        assert (refused.status_code, refused.json()["code"]) == (503, "hsm-unavailable")
    finally:
        registry.install(lambda: {"root": root_token})
    assert Vault.unscoped.count() == 0
    assert put(alice, account.vault(alice, 1), 0).status_code == 204
