# SPDX-License-Identifier: Apache-2.0
"""The demo tenant Acme: the answers to the operator's ceremonies, and the scripted people who answer them.

ORGANISATION "Founding, at different desks". Officers' private keys are made in their own client profiles
under `var/demo/profiles`, never in the database. Never run in production: `check --deploy` refuses SoftHSM.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.core.management import call_command

from audit import sequencer, signing
from config.ceremonies.root import release_directory, root_of
from config.env import ENV
from config.roles import create_role_key
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.client.officers import officer_keys as officers
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity import trust
from holdfast.core.identity.policy import ApproveWith, DepositRule, Officer, Policy, Terms
from holdfast.core.identity.roles import root_verifier
from holdfast.core.log.writers import Role as LogRole
from holdfast.core.signed.cose import parse_many
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import Header
from hsm import registry
from kernel.actors import Actor, system_actor
from kernel.scope import tenant_scope
from recovery.release.directory import Directory
from tenants import access as tenants_access
from tenants import services as tenants
from tenants import sign_in
from tenants.models import Person, Tenant
from tenants.roles import Role
from tenants.states import PersonState

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
    """Tell whether the demo's ceremonies were held to their end."""
    return (ENV.state_dir / "ready").exists()


def hold_ceremonies(say: Say) -> None:
    """Hold the ceremonies that make an installation and the tenant Acme, with its people, policy and escrow key."""
    say("Making the HSM tokens and the installation's keys (SoftHSM)")
    _hold("init")
    say("Beginning the tenant Acme")
    named = [argument for name in OFFICERS for argument in ("--officer", f"{name}@acme.test")]
    _hold("tenant", "acme", "--name", "Acme", "--owner", "olivia@acme.test", *named)
    tenant = Tenant.objects.get(slug="acme")
    founding = founding_of(tenant)
    say(f"Founding the escrow policy: {QUORUM} of {len(OFFICERS)} officers, delay {DELAY_SECONDS} s")
    policy_hash = propose_policy(founding)
    _hold("found", "acme", "--no-wait", answer=said_by(founding, policy_hash))
    sign_escrow_key(founding, policy_hash)
    _hold("found", "acme", "--no-wait")
    pin = trust.root_pin(tenant.pk.bytes, founding.root_key, policy_hash)
    say("Writing enrolment codes, console passwords, and the keys by which an auditor verifies the log")
    officers.write_private(demo_directory() / "log.vkey", founding.log_vkey)
    officers.write_private(demo_directory() / "root.vkey", root_verifier(tenant.pk.bytes, founding.root_key).to_text())
    for name, person_id in founding.people.items():
        write_code(founding.tenant_id, name, person_id, pin=pin, log_vkey=founding.log_vkey)
    _write_sign_in(founding)


def _hold(*ceremony: str, answer: Callable[[str], str] | None = None) -> None:
    # What it would print is for whoever holds it for real.
    call_command("ceremony", *ceremony, "--yes", stdout=StringIO(), answer=answer)


def _people(tenant: Tenant) -> dict[str, UUID]:
    """Return everybody of the demo; those whom the founding did not invite are added."""
    actor, people = system_actor(tenant.pk, "ceremony"), {}
    with tenant_scope(tenant.pk):
        for name, role in PEOPLE.items():
            email = f"{name}@acme.test"
            person = tenants_access.person_by_address(tenant, email)
            if person is None:
                person = tenants.create_person(email=email, name=name.title(), role=role, actor=actor)
            people[name] = person.pk
    return people


def founding_of(tenant: Tenant) -> Founding:
    """Return what the demo's people know of a tenant that the ceremony has begun."""
    log_vkey = sequencer.verifier(tenant.pk, "audit", registry.log().public_key).to_text()
    actor, now = system_actor(tenant.pk, "ceremony"), int(time.time())
    return Founding(tenant.pk, _people(tenant), root_of(tenant).public, log_vkey, actor, now)


def propose_policy(founding: Founding, *, delay: int = DELAY_SECONDS) -> bytes:
    """Have the officers make their keys, propose the policy and sign it, all of them; return its hash."""
    # What its scripted people do reaches no web process: this one, the operator's, has that role's key as well.
    signing.install(lambda: {role: create_role_key(role) for role in (LogRole.CEREMONY, LogRole.WEB)})
    founders = [_officer_profile(founding, name) for name in OFFICERS]
    payload = _policy(founding, founders, release_directory(founding.tenant_id), delay=delay).to_payload()
    with tenant_scope(founding.tenant_id):
        for person_id in (founding.people[name] for name in OFFICERS):
            person = tenants_access.person(person_id)
            if person.state == PersonState.INVITED:
                tenants.activate_person(person=person, actor=founding.actor)
        proposal = escrow.propose_policy(payload=payload, actor=_actor(founding, OFFICERS[0]))
        for name, founder in zip(OFFICERS, founders, strict=True):
            statement = founder.sign_policy(payload).encode()
            escrow.sign_policy(proposal_id=proposal.pk, statement=statement, actor=_actor(founding, name))
    return bytes(proposal.hash)


def sign_escrow_key(founding: Founding, policy_hash: bytes) -> None:
    """Have the officers pin what they signed, and enough of them sign the escrow key that the root has signed."""
    signing.install(lambda: {role: create_role_key(role) for role in (LogRole.CEREMONY, LogRole.WEB)})
    with tenant_scope(founding.tenant_id):
        ((key,), _) = escrow_access.key_proposal_page()
        for number, name in enumerate(OFFICERS):
            founder = _officer_profile(founding, name)
            founder.pin(founding.root_key, policy_hash, is_development=True)
            if number < QUORUM:
                statement = founder.sign_escrow_key(parse_many(bytes(key.statement))[0].payload).encode()
                escrow.sign_escrow_key(proposal_id=key.pk, statement=statement, actor=_actor(founding, name))


def said_by(founding: Founding, policy_hash: bytes) -> Callable[[str], str]:
    """Return what the officers read out, each from their own client, when the operator calls them about this policy."""

    def said(question: str) -> str:
        # "Words 2, 5 and 7 of Carol <carol@acme.test>, …"
        name = question.partition("<")[2].partition("@")[0]
        person = founding.people[name].bytes
        words = trust.founder_words(founding.tenant_id.bytes, founding.root_key, policy_hash, person)
        return " ".join(words[int(place) - 1] for place in re.findall(r"\d+", question.partition(" of ")[0]))

    return said


def _actor(founding: Founding, name: str) -> Actor:
    person_id = founding.people[name]
    return Actor(founding.tenant_id, "person", person_id, person_id=person_id, role=Role.OFFICER)


def _policy(
    founding: Founding, founders: Sequence[officers.FoundingOfficer], release: Directory, *, delay: int
) -> Policy:
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
            delay_seconds=delay,
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
    """Make an officer's profile, once; afterwards open the one there is."""
    directory = demo_directory() / "profiles" / name
    kept = directory / "passphrase"
    if kept.exists():
        return officers.open_officer_profile(directory, passphrase=SecretBytes(kept.read_bytes().strip()))
    passphrase = secrets.token_urlsafe(24)
    profile = officers.create_officer_profile(
        directory,
        tenant=founding.tenant_id.bytes,
        person=founding.people[name].bytes,
        passphrase=SecretBytes(passphrase.encode()),
    )
    officers.write_private(kept, passphrase)
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
            if person.state == PersonState.INVITED:
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
