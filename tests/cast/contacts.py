# SPDX-License-Identifier: Apache-2.0
"""Trusted contacts of the cast: a real set of shares, requests by real devices, answers sealed to them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.signed.cose import Purpose, sign
from holdfast.core.vault import contact_shares
from holdfast.core.vault.contact_shares import ContactShare, Prepared
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import ShareRequest
from tests.cast.phones import Directory, Phone, now
from tests.cast.unread import unread
from tests.faults.acts import Act

PATH = "/api/v1/recovery/contacts"
LIFE = 72 * 3600


@dataclass(frozen=True)
class Asking:
    """A request that was opened: the device that asks, and the key that shares come back to."""

    id: UUID
    phone: Phone
    request: ShareRequest
    key: SealingKey

    def read(self, phone: Phone | None = None) -> Any:
        return (phone or self.phone).send("GET", f"{PATH}/requests/{self.id}")

    def end(self, phone: Phone, how: str) -> Any:
        return phone.send("POST", f"{PATH}/requests/{self.id}/{how}", {})


@dataclass
class TrustedContacts:
    """One owner's set: k of n contacts by name, and each one's share in the clear, as only that contact has it."""

    directory: Directory
    owner: str
    names: list[str]
    vault_key: SecretBytes
    prepared: Prepared

    @classmethod
    def of(cls, directory: Directory, owner: str, names: Sequence[str], *, k: int = 2) -> TrustedContacts:
        phone, key = directory.phone(owner), SecretBytes(secrets.token_bytes(32))
        contacts = [directory.phone(name).person.pk.bytes for name in names]
        door_owner = DoorOwner(phone.person.tenant_id.bytes, phone.person.pk.bytes, 1)
        prepared = contact_shares.prepare(key, owner=door_owner, header=phone.header(), contacts=contacts, k=k)
        return cls(directory, owner, list(names), key, prepared)

    def share(self, name: str) -> ContactShare:
        return self.prepared.shares[self.directory.phone(name).person.pk.bytes]

    def storing(self, version: int) -> Act:
        """The request that stores the manifest over a version."""
        account, phone = self.directory.account(self.owner), self.directory.phone(self.owner)
        signed = sign(unread(self.prepared.manifest), purpose=Purpose.SHARE_MANIFEST, key=account.aik)
        return Act(phone.signer, "PUT", PATH, {"manifest": b64u(signed.encode())}, {"If-Match": f'"{version}"'})

    def made(self, phone: Phone, *, lasts: int = LIFE) -> tuple[ShareRequest, SealingKey]:
        return ShareRequest.new(
            phone.header(lasts=lasts, issued_at=now()),
            device_hash=phone.statement.payload_hash,
            manifest_hash=self.prepared.manifest.hash,
        )

    def asking(self, phone: Phone) -> Act:
        request, _ = self.made(phone)
        return Act(phone.signer, "POST", f"{PATH}/requests", {"request": b64u(unread(request))})

    def ask(self, phone: Phone, *, lasts: int = LIFE) -> Asking:
        request, key = self.made(phone, lasts=lasts)
        answer = phone.send("POST", f"{PATH}/requests", {"request": b64u(unread(request))})
        assert answer.status_code == 201, answer.content
        return Asking(UUID(answer.json()["request_id"]), phone, request, key)

    def sealed(self, name: str, asking: Asking) -> bytes:
        return contact_shares.answer_request(
            self.share(name),
            request=asking.request,
            manifest=self.prepared.manifest,
            contact=self.directory.phone(name).person.pk.bytes,
            now=now(),
        )

    def giving(self, name: str, asking: Asking) -> Act:
        document = {"sealed": b64u(self.sealed(name, asking))}
        return Act(self.directory.phone(name).signer, "POST", f"{PATH}/requests/{asking.id}/shares", document)

    def give(self, name: str, asking: Asking) -> None:
        answer = self.giving(name, asking).send()
        assert answer.status_code == 201, answer.content

    def opened(self, asking: Asking, document: dict[str, Any]) -> SecretBytes:
        """Put the shares of an answer together, as the device that asked does."""
        right = {}
        for row in document["shares"]:
            contact = UUID(row["contact"]).bytes
            right[contact] = contact_shares.open_answer(
                unb64u(row["sealed"]),
                request=asking.request,
                manifest=self.prepared.manifest,
                contact=contact,
                key=asking.key,
            )
        return contact_shares.combine(self.prepared.manifest, right)
