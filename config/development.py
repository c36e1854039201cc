# SPDX-License-Identifier: Apache-2.0
"""The development ceremony: makes the demo tenant Acme as a real ceremony would, but scripted and alone.

ESCROW "Keys" and "Policy and officers". Officers' private keys are made in their own client profiles
under `var/demo/profiles`, never in the database. Never run in production: `check --deploy` refuses SoftHSM.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings

from audit import sequencer
from config.ceremonies.roles import RolesCeremony
from config.ceremonies.root import RootKey, public_key
from config.env import ENV
from config.hsm import hsm_config
from config.roles import create_role_key
from escrow import services as escrow
from holdfast.client.officers import officer_keys as officers
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.identity import trust
from holdfast.core.identity.policy import ApproveWith, DepositRule, Officer, Policy, Terms
from holdfast.core.identity.roles import root_verifier
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.statements import EscrowKey, Header
from hsm.ceremony import Ceremony
from kernel.actors import Actor, system_actor
from kernel.scope import tenant_scope
from keys import services as keys
from recovery.release.directory import Directory, Trust
from tenants import access as tenants_access
from tenants import services as tenants
from tenants import sign_in
from tenants.models import Person, Tenant

OFFICERS = ("carol", "dan", "erin")
PEOPLE = {
    "olivia": "owner",
    "carol": "officer",
    "dan": "officer",
    "erin": "officer",
    "rex": "reviewer",
    "otto": "auditor",
    "alice": "member",
    "bob": "member",
}
CONSOLE = ("olivia", "carol", "dan", "erin", "rex", "otto")
QUORUM = 2
DELAY_SECONDS = 5
PURPOSES = frozenset({"device-loss", "leaver", "legal"})

Say = Callable[[str], None]


@dataclass(frozen=True)
class Founding:
    """What the ceremony knows of the tenant while it makes it."""

    tenant_id: UUID
    people: dict[str, UUID]
    root_key: PublicKey
    log_vkey: str
    actor: Actor
    now: int


def demo_directory() -> Path:
    """Where everything lies that the demo needs to know."""
    return ENV.state_dir / "demo"


def is_set_up() -> bool:
    """Tell whether the development ceremony was held to its end."""
    return (ENV.state_dir / "ready").exists()


def hold_ceremony(say: Say) -> None:
    """Make tokens, master key, log key, and the tenant Acme with its people, policy and escrow key."""
    ceremony = Ceremony(hsm_config())
    say("Creating the HSM tokens: ceremony, root, log, escrow (SoftHSM)")
    ceremony.create_tokens()
    ceremony.create_master_key()
    log_key = ceremony.create_log_key()
    say("Creating the ceremony's role key")
    create_role_key(Role.CEREMONY)
    tenant_id = uuid4()
    say("Creating the tenant Acme, its root key and its people")
    root = RootKey(ceremony, tenant_id, public_key(ceremony.create_tenant_root(str(tenant_id))))
    verifier = sequencer.verifier(tenant_id, "audit", log_key).to_text()
    founding = _found_tenant(tenant_id, root, verifier)
    say("Naming a key for each role: web, worker, sequencer, release, ceremony")
    for step in RolesCeremony(Tenant.objects.get(pk=tenant_id)).steps():
        step.take()
    say(f"Founding the escrow policy: {QUORUM} of {len(OFFICERS)} officers, delay {DELAY_SECONDS} s")
    pin = _found_escrow(founding, ceremony, root)
    say("Writing enrolment codes, console passwords, and the keys by which an auditor verifies the log")
    officers.write_private(demo_directory() / "log.vkey", verifier)
    officers.write_private(demo_directory() / "root.vkey", root_verifier(tenant_id.bytes, root.public).to_text())
    for name, person_id in founding.people.items():
        write_code(founding.tenant_id, name, person_id, pin=pin, log_vkey=verifier)
    _write_sign_in(founding)


def _found_tenant(tenant_id: UUID, root: RootKey, log_vkey: str) -> Founding:
    actor = system_actor(tenant_id, "ceremony")
    tenants.create_tenant(slug="acme", name="Acme", actor=actor, tenant_id=tenant_id, is_development=True)
    keys.create_tenant_master_key(tenant_id)
    people = {}
    with tenant_scope(tenant_id):
        for name, role in PEOPLE.items():
            person = tenants.create_person(email=f"{name}@acme.test", name=name.title(), role=role, actor=actor)
            people[name] = person.id
    return Founding(tenant_id, people, root.public, log_vkey, actor, int(time.time()))


def _found_escrow(founding: Founding, ceremony: Ceremony, root: RootKey) -> bytes:
    """Have the founders sign policy version 1 and the escrow key, publish both, and return the root pin."""
    tenant = founding.tenant_id.bytes
    founders = [_officer_profile(founding, name) for name in OFFICERS]
    release = Directory(settings.HOLDFAST_RELEASE_DIR, founding.tenant_id)
    policy = _policy(founding, founders, release)
    signed = [founder.sign_policy(policy.to_payload()) for founder in founders]
    pin = trust.root_pin(tenant, founding.root_key, signed[0].payload_hash)
    for founder in founders:
        founder.pin(founding.root_key, signed[0].payload_hash, is_development=True)
    escrow_key = ceremony.create_escrow_key(str(founding.tenant_id))
    statement = EscrowKey(
        header=Header(tenant=tenant, user=b"", device=b"", issued_at=founding.now),
        key=PublicKey(KeyKind.RSA_3072, escrow_key.spki),
        version=1,
        algorithm=escrow_key.ref.algorithm,
        predecessor=b"",
        policy_hash=signed[0].payload_hash,
    ).to_payload()
    key_signatures: Sequence[Sign1] = [
        cose.sign(statement, purpose=Purpose.ESCROW_KEY, key=root),
        *[founder.sign_escrow_key(statement) for founder in founders[:QUORUM]],
    ]
    release.set_trust(Trust(root_key=founding.root_key, pin=pin, is_development=True))
    with tenant_scope(founding.tenant_id):
        tenants.pin_root(root_key=founding.root_key.encoded, root_pin=pin, actor=founding.actor)
        escrow.publish_policy(statement=cose.encode_many(signed), actor=founding.actor)
        escrow.publish_escrow_key(
            statement=cose.encode_many(key_signatures), cka_id=escrow_key.ref.cka_id, actor=founding.actor
        )
    return pin


def _policy(founding: Founding, founders: Sequence[officers.FoundingOfficer], release: Directory) -> Policy:
    release_keys = release.create_keys()
    return Policy(
        header=Header(tenant=founding.tenant_id.bytes, user=b"", device=b"", issued_at=founding.now),
        version=1,
        m=QUORUM,
        roster=tuple(
            Officer(index, founder.person, founder.signing_key, founder.sealing_key)
            for index, founder in enumerate(founders, start=1)
        ),
        terms=Terms(
            delay_seconds=DELAY_SECONDS,
            max_notice_delay_seconds=0,
            cooling_off_seconds=60,
            undelivered_delay_seconds=14 * 86400,
            approve_with=ApproveWith.CLI,
            purposes=PURPOSES,
            deposits=DepositRule.FROM_CONSENT,
            release_signing_key=release_keys.signing_key,
            release_sealing_key=release_keys.sealing_key,
        ),
        predecessor=b"",
    )


def _officer_profile(founding: Founding, name: str) -> officers.FoundingOfficer:
    directory = demo_directory() / "profiles" / name
    passphrase = secrets.token_urlsafe(24)
    profile = officers.create_officer_profile(
        directory,
        tenant=founding.tenant_id.bytes,
        person=founding.people[name].bytes,
        passphrase=SecretBytes(passphrase.encode()),
    )
    officers.write_private(directory / "passphrase", passphrase)
    return profile


def write_code(tenant_id: UUID, name: str, person_id: UUID, *, pin: bytes, log_vkey: str) -> None:
    """Issue an enrolment code as a ceremony prints it, with the pin in it, and write it for the demo."""
    code = EnrolmentCode.new(tenant=tenant_id.bytes, person=person_id.bytes, root_pin=pin, log_vkey=log_vkey)
    with tenant_scope(tenant_id):
        person = tenants_access.person(person_id)
        tenants.issue_enrolment_code(person=person, code_hash=code.hash, actor=system_actor(tenant_id, "ceremony"))
    officers.write_private(demo_directory() / "codes" / f"{name}.code", code.text())


def renew_members(say: Say) -> None:
    """Give alice and bob a fresh start when their codes are used up, so that the demo can be walked again.

    A person who has enrolled keeps what they have; the next walk gets a new member of the same first name.
    """
    tenant = Tenant.objects.get(slug="acme")
    actor = system_actor(tenant.id, "ceremony")
    for name in ("alice", "bob"):
        if (demo_directory() / "codes" / f"{name}.code").exists():
            continue
        with tenant_scope(tenant.id):
            number = Person.objects.filter(email_key__startswith=name).count() + 1
            email, shown = f"{name}-{number}@acme.test", f"{name.title()} {number}"
            person = tenants.create_person(email=email, name=shown, role="member", actor=actor)
        say(f"Adding {email}, with a fresh enrolment code")
        log_vkey = (demo_directory() / "log.vkey").read_text().strip()
        write_code(tenant.id, name, person.id, pin=bytes(tenant.root_pin or b""), log_vkey=log_vkey)


def _write_sign_in(founding: Founding) -> None:
    lines = []
    with tenant_scope(founding.tenant_id):
        for name in CONSOLE:
            person = tenants_access.person(founding.people[name])
            tenants.activate_person(person=person, actor=founding.actor)
            password, totp = secrets.token_urlsafe(15), secrets.token_bytes(20)
            tenants.set_password(person=person, password=SecretBytes(password.encode()), actor=founding.actor)
            code = sign_in.totp_code(SecretBytes(totp), at=time.time())
            sign_in.confirm_totp(person=person, key=SecretBytes(totp), code=code, actor=founding.actor)
            secret = base64.b32encode(totp).decode()
            lines.append(f"{name}@acme.test\t{PEOPLE[name]}\t{password}\t{secret}")
    officers.write_private(demo_directory() / "sign-in.txt", "\n".join(lines))


def welcome() -> str:
    """Say where the server is and who can sign in: what `make up` prints."""
    rows = [line.split("\t") for line in (demo_directory() / "sign-in.txt").read_text().splitlines()]
    width = max(len(row[0]) for row in rows)
    people = "\n".join(
        f"    {email:<{width}}  {role:<9} {password}   {secret}" for email, role, password, secret in rows
    )
    return f"""
Holdfast runs at {settings.HOLDFAST_PUBLIC_URL}

  Console      {settings.HOLDFAST_PUBLIC_URL}/console/       tenant: acme
  REST API     {settings.HOLDFAST_PUBLIC_URL}/api/docs/

  Who can sign in (development only; also in {demo_directory() / "sign-in.txt"}):
    {"e-mail":<{width}}  {"role":<9} {"password":<20}   TOTP secret (or: manage.py totp E-MAIL)
{people}

  Next, in a second terminal: make demo, or follow docs/quickstart.md
  Stop with Ctrl-C.
"""
