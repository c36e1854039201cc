# SPDX-License-Identifier: Apache-2.0
"""The officers' section of a vault and its doors over HTTP (PROTOCOL section 6, ESCROW "Policy and officers")."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import SyncKind
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_proof import MAX_AGE_SECONDS
from hsm.backend import RootToken
from kernel.scope import tenant_scope
from keys import access, vaults
from keys.models import Vault, VaultDoor
from keys.records import create_tenant_master_key
from tests.cast.phones import Account, Directory, Phone, audit_away, issue, new_phone, now, post_enrolment
from tests.keys.mail import events_of, fetched

SECTION, DOORS = "/api/v1/vault/officers", "/api/v1/vault/officers/doors"


@pytest.fixture
def carol(directory: Directory, root_token: RootToken) -> Phone:
    for tenant in (directory.world.acme, directory.world.other):
        create_tenant_master_key(tenant.pk)
    return directory.phone("carol")


@pytest.fixture
def account(carol: Phone, directory: Directory) -> Account:
    return directory.account("carol")


def put(phone: Phone, document: dict[str, Any], version: int = 0) -> Any:
    return phone.send("PUT", SECTION, document, if_match=f'"{version}"')


def put_door(phone: Phone, document: dict[str, Any], name: str = "phrase", version: int = 0) -> Any:
    return phone.send("PUT", f"{DOORS}/{name}", document, if_match=f'"{version}"')


def proven(phone: Phone) -> list[str]:
    with tenant_scope(phone.person.tenant_id):
        return access.proven_doors(phone.person.pk)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.postgres
def test_section_lies_beside_the_vault_sealed_and_with_versions_of_its_own(carol: Phone, account: Account) -> None:
    vault, section = account.vault(carol, 1), account.officers_section(carol, 1)
    assert carol.send("PUT", "/api/v1/vault", vault, if_match='"0"').status_code == 204
    assert put(carol, section).status_code == 204
    assert carol.send("GET", SECTION).json() == {**section, "version": 1}
    assert carol.send("GET", "/api/v1/vault").json() == {**vault, "version": 1}
    assert code(put(carol, account.officers_section(carol, 1))) == (409, "vault-stale")
    assert put(carol, account.officers_section(carol, 2), 1).status_code == 204
    rows = {row.section: bytes(row.sealed) for row in Vault.unscoped.all()}
    assert set(rows) == {"vault", "officers"}
    assert unb64u(section["blob"]) not in rows["officers"]
    stored = AuditEntry.unscoped.filter(tag="keys:vault:store").order_by("seq")
    assert [entry.body.get("section") for entry in stored] == [None, "officers", "officers"]


@pytest.mark.postgres
def test_vault_is_never_taken_for_the_section_nor_the_section_for_the_vault(carol: Phone, account: Account) -> None:
    assert put(carol, account.vault(carol, 1)).status_code == 422
    assert code(put(carol, account.officers_section(carol, 1, kind=SyncKind.VAULT))) == (422, "device-mismatch")
    assert put(carol, account.officers_section(carol, 1, section=Section.VAULT)).status_code == 422
    section = account.officers_section(carol, 1)
    assert carol.send("PUT", "/api/v1/vault", section, if_match='"0"').status_code == 422
    assert Vault.unscoped.count() == 0


def test_section_is_an_officers_alone_and_nobody_elses_to_read(
    carol: Phone, account: Account, directory: Directory
) -> None:
    put(carol, account.officers_section(carol, 1))
    alice = directory.phone("alice")
    mine = directory.account("alice").officers_section(alice, 1)
    assert put(alice, mine).status_code == 403
    for name in ("alice", "mallory", "dan"):
        assert directory.phone(name).send("GET", SECTION).status_code == 404
        assert directory.phone(name).send("GET", f"{DOORS}/phrase").status_code == 404
    assert code(put(directory.phone("dan"), account.officers_section(carol, 1)))[0] == 422


@pytest.mark.postgres
def test_door_is_taken_with_its_proof_and_listed(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol, ("phrase",))
    assert proven(carol) == ["officers-phrase"]
    (listed,) = carol.send("GET", DOORS).json()["doors"]
    assert (listed["kind"], listed["version"], listed["is_current"]) == ("phrase", 1, True)
    assert carol.send("GET", "/api/v1/vault/doors").json() == {"doors": []}
    entry = AuditEntry.unscoped.get(tag="keys:door:store")
    assert entry.body["kind"] == "officers-phrase"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "phrase"}, {"blob_hash": bytes(32)}, {"key": SigningKey.generate()},
        {"issued_at": now() - MAX_AGE_SECONDS - 60}, {"issued_at": now() + 3600},
    ],
    ids=["of the vault", "of another blob", "by another key", "of yesterday", "of tomorrow"],
)  # fmt: skip
def test_door_is_not_taken_with_a_proof_that_does_not_hold(
    carol: Phone, account: Account, change: dict[str, Any]
) -> None:
    put(carol, account.officers_section(carol, 1))
    refused = put_door(carol, account.officers_door(carol, **change))
    assert code(refused) == (422, "door-unproven")
    assert refused.json()["errors"][0]["field"] == "proof"
    assert VaultDoor.unscoped.count() == 0


def test_door_of_the_vault_is_none_of_the_section_and_the_other_way_round(carol: Phone, account: Account) -> None:
    wrong = account.officers_door(carol, section=Section.VAULT, kind="officers-phrase")
    assert code(put_door(carol, wrong))[0] == 422
    for kind, status in (("contacts", 400), ("device", 400), ("officers-phrase", 400)):
        assert put_door(carol, account.officers_door(carol), kind).status_code == status
    refused = carol.send("PUT", "/api/v1/vault/doors/officers-phrase", {"blob": wrong["blob"]}, if_match='"0"')
    assert refused.status_code == 400
    assert VaultDoor.unscoped.count() == 0


@pytest.mark.postgres
def test_door_is_proven_anew_and_once_for_one_proof(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol, ("phrase",))
    before = VaultDoor.unscoped.get().proved_at
    blob = unb64u(carol.send("GET", f"{DOORS}/phrase").json()["blob"])
    proof = account.door_proof(carol, "officers-phrase", blob, issued_at=now() - 5)
    for _ in range(2):
        assert carol.send("PUT", f"{DOORS}/phrase/proof", {"proof": proof}).status_code == 204
    assert VaultDoor.unscoped.get().proved_at > before
    entry = AuditEntry.unscoped.get(tag="keys:door:prove")
    assert entry.body["statement"] == b64u(Sign1.parse(unb64u(proof)).payload_hash)
    wrong = account.door_proof(carol, "officers-phrase", b"another")
    assert code(carol.send("PUT", f"{DOORS}/phrase/proof", {"proof": wrong})) == (422, "door-unproven")
    assert carol.send("PUT", f"{DOORS}/passkey/proof", {"proof": proof}).status_code == 404


def test_door_of_an_earlier_key_is_proven_no_more(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol)
    assert len(proven(carol)) == 2
    assert put(carol, account.officers_section(carol, 2, epoch=2), 1).status_code == 204
    assert proven(carol) == []
    assert put_door(carol, account.officers_door(carol, epoch=2), version=1).status_code == 204
    assert proven(carol) == ["officers-phrase"]


@pytest.mark.postgres
def test_officer_in_office_keeps_two_proven_doors(
    carol: Phone, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_office: set[Any] = set()
    monkeypatch.setattr(vaults, "_offices", [in_office.__contains__])
    account.keep_officers_section(carol)
    in_office.add(carol.person.pk)
    refused = carol.send("DELETE", f"{DOORS}/phrase")
    assert refused.status_code == 409
    assert refused.json()["code"] == "door-needed"
    # Of the vault itself every door may go.
    carol.send("PUT", "/api/v1/vault/doors/password", {"blob": b64u(b"\xa1\x01\x01")}, if_match='"0"')
    assert carol.send("DELETE", "/api/v1/vault/doors/password").status_code == 204
    in_office.clear()
    assert carol.send("DELETE", f"{DOORS}/phrase").status_code == 204
    assert proven(carol) == ["officers-passkey"]


@pytest.mark.postgres
def test_officer_in_office_keeps_the_key_that_their_doors_open(
    carol: Phone, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another key, or with doors to another, none of them would count: as if all were closed."""
    in_office: set[Any] = set()
    monkeypatch.setattr(vaults, "_offices", [in_office.__contains__])
    account.keep_officers_section(carol)
    in_office.add(carol.person.pk)
    for refused in (
        put(carol, account.officers_section(carol, 2, epoch=2), 1),
        put_door(carol, account.officers_door(carol, epoch=2), version=1),
    ):
        assert refused.status_code == 409
        assert refused.json()["code"] == "door-needed"
    assert len(proven(carol)) == 2
    assert put(carol, account.officers_section(carol, 2), 1).status_code == 204
    assert put_door(carol, account.officers_door(carol), version=1).status_code == 204
    in_office.clear()
    assert put(carol, account.officers_section(carol, 3, epoch=2), 2).status_code == 204
    # With none that counts, what was there can be put back.
    in_office.add(carol.person.pk)
    assert put(carol, account.officers_section(carol, 4, epoch=1), 3).status_code == 204
    assert len(proven(carol)) == 2


def test_pending_device_reads_section_and_doors_and_the_owner_is_told(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol, ("phrase",))
    pending = new_phone(carol.person)
    issue(pending)
    assert post_enrolment(pending).status_code == 201
    assert pending.send("GET", SECTION).json()["version"] == 1
    assert pending.send("GET", f"{DOORS}/phrase").status_code == 200
    told = {"event": "door-read", "kind": "officers-phrase", "device_id": str(pending.id)}
    assert events_of(fetched(carol)) == [told]
    assert put(pending, account.officers_section(pending, 2), 1).status_code == 403
    assert pending.send("DELETE", f"{DOORS}/phrase").status_code == 403


def test_section_and_doors_are_not_kept_without_their_entries(carol: Phone, account: Account) -> None:
    section, door = account.officers_section(carol, 1), account.officers_door(carol)
    with audit_away():
        assert put(carol, section).status_code == 503
        assert put_door(carol, door).status_code == 503
    assert (Vault.unscoped.count(), VaultDoor.unscoped.count()) == (0, 0)
