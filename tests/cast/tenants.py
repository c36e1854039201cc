# SPDX-License-Identifier: Apache-2.0
"""The cast of the tenants tests, and a signer of requests that can be told to do it wrong."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.test import Client

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.requests import SignatureParameters, components, content_digest
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.services import create_tenant_master_key, has_tenant_master_key
from tenants import access, services, sign_in
from tenants.factors import Sealed
from tenants.models import Authenticator, Person, RateWindow, Tenant
from tenants.roles import Role
from tests.cast.hsm import OTHER_TENANT, TENANT
from tests.cast.roles import found_roles

PASSWORD = "correct horse battery staple"
PUBLIC_URL = "http://testserver"


@dataclass
class Cast:
    """Two tenants: Acme with everybody of the cast, and the one that mallory belongs to."""

    acme: Tenant
    other: Tenant
    people: dict[str, Person] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Person:
        try:
            return self.people[name]
        except KeyError:
            raise AttributeError(name) from None


def build_world() -> Cast:
    ceremony = system_actor(None, "ceremony")
    acme = services.create_tenant(slug="acme", name="Acme", actor=ceremony, is_development=True, tenant_id=UUID(TENANT))
    other = services.create_tenant(slug="mallory-inc", name="Mallory Inc", actor=ceremony, tenant_id=UUID(OTHER_TENANT))
    world = Cast(acme, other)
    for tenant in (acme, other):
        found_roles(tenant.pk)
    cast = {
        "olivia": Role.OWNER,
        "carol": Role.OFFICER,
        "dan": Role.OFFICER,
        "erin": Role.OFFICER,
        "rex": Role.REVIEWER,
        "otto": Role.AUDITOR,
        "alice": Role.MEMBER,
        "bob": Role.MEMBER,
    }
    with tenant_scope(acme.pk):
        for name, role in cast.items():
            world.people[name] = make_person(name, role)
    with tenant_scope(other.pk):
        world.people["mallory"] = make_person("mallory", Role.OWNER)
    return world


def sealing(world: Cast) -> Cast:
    """Give both tenants their master keys, for which the tests need a root token."""
    for tenant in (world.acme, world.other):
        create_tenant_master_key(tenant.pk)
    return world


def make_person(name: str, role: str) -> Person:
    actor = system_actor(access.tenant().pk, "ceremony")
    person = services.create_person(email=f"{name}@acme.test", name=name.title(), role=role, actor=actor)
    services.activate_person(person=person, actor=actor)
    return person


def give_password(person: Person, password: str = PASSWORD) -> None:
    with tenant_scope(person.tenant_id):
        services.set_password(
            person=person, password=SecretBytes(password.encode()), actor=system_actor(person.tenant_id, "ceremony")
        )


def give_totp(person: Person, *, at: float | None = None) -> SecretBytes:
    """Confirm a fresh authenticator by the code of the step before, so that the present code is unspent.

    In a tenant without a master key its key stays unsealed, as of an authenticator from before keys were sealed.
    """
    key = SecretBytes(secrets.token_bytes(20))
    with tenant_scope(person.tenant_id):
        is_sealed = has_tenant_master_key()
        sign_in.confirm_totp(
            person=person,
            key=key,
            sealed=None if is_sealed else Sealed(uuid.uuid4(), b""),
            code=sign_in.totp_code(key, at=(at or time.time()) - 30),
            actor=system_actor(person.tenant_id, "ceremony"),
        )
    if not is_sealed:
        Authenticator.objects.filter(user=person).update(sealed=None, unsealed=key.reveal())
    return key


def forget_codes(person: Person) -> None:
    """Make every code of the person's authenticator unspent."""
    Authenticator.objects.filter(user=person).update(last_t=-1)
    RateWindow.objects.filter(key__startswith="totp:").delete()


@dataclass
class Signer:
    """A device's or service's hold on its key. `shift` and `nonce` are for doing it wrong."""

    id: UUID
    key: SigningKey
    shift: int = 0
    nonce: bytes | None = None
    turn: str = ""

    def headers(self, method: str, uri: str, body: bytes = b"", *, digest: str | None = None) -> dict[str, str]:
        parameters = SignatureParameters(
            method=method,
            created=int(time.time()) + self.shift,
            keyid=self.id,
            nonce=self.nonce or secrets.token_bytes(16),
            turn=self.turn,
        )
        signed_digest = ""
        if "content-digest" in components(method):
            signed_digest = content_digest(body) if digest is None else digest
        base = parameters.base(target_uri=PUBLIC_URL + uri, digest=signed_digest)
        fields = parameters.fields(self.key.sign(base))
        return {**fields, "Content-Digest": signed_digest} if signed_digest else fields

    def send(self, client: Client, method: str, uri: str, body: bytes = b"", **headers: str) -> Any:
        signed = self.headers(method, uri, body) | headers
        return send(client, method, uri, body, signed)


def send(client: Client, method: str, uri: str, body: bytes, headers: dict[str, str]) -> Any:
    return client.generic(method, uri, body, content_type="application/json", headers=headers)


def make_device(
    person: Person,
    *,
    active: bool = True,
    kind: Any = None,
    device_id: UUID | None = None,
    key: SigningKey | None = None,
) -> Signer:
    made = key or (SigningKey.generate(kind) if kind else SigningKey.generate())
    signer = Signer(device_id or uuid.uuid4(), made)
    actor = system_actor(person.tenant_id, "test")
    with tenant_scope(person.tenant_id):
        services.register_credential(
            credential_id=signer.id, person_id=person.pk, public_key=signer.key.public.encoded, actor=actor
        )
        if active:
            services.activate_credential(credential_id=signer.id, actor=actor)
    return signer


def make_service(tenant: Tenant, name: str = "siem") -> Signer:
    key = SigningKey.generate()
    with tenant_scope(tenant.pk):
        account = services.create_service_account(
            name=name, public_key=key.public.encoded, actor=system_actor(tenant.pk, "test")
        )
    return Signer(account.pk, key)


def changed(signer: Signer, **changes: Any) -> Signer:
    return replace(signer, **changes)
