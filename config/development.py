# SPDX-License-Identifier: Apache-2.0
"""The demo tenant Acme: the answers to the operator's ceremonies, and the scripted people who answer them.

ORGANISATION "Founding, at different desks". The officers join, propose and sign by their own clients, whose profiles
and door secrets lie under `var/demo/profiles`, never in the database.
Never run in production: `check --deploy` refuses SoftHSM.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from uuid import UUID

import httpx2
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import DatabaseError

from audit import sequencer, signing
from config.ceremonies.root import release_directory, root_of
from config.ceremonies.tenant import code_file
from config.env import ENV
from config.roles import create_role_key
from holdfast.client.identity import device
from holdfast.client.messages import prekeys
from holdfast.client.officers import joining, proposals, section_doors
from holdfast.client.officers.proposals import Wanted
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.private_files import write_private
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity import trust
from holdfast.core.identity.policy import ApproveWith, DepositRule
from holdfast.core.identity.roles import root_verifier
from holdfast.core.log.writers import Role as LogRole
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.vault.password_door import Argon2Cost, generate_password
from hsm import registry
from kernel.actors import Actor, system_actor
from kernel.scope import tenant_scope
from tenants import access as tenants_access
from tenants import services as tenants
from tenants import sign_in
from tenants.models import Person, Tenant
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
# The least that the formats take. What is stretched here was generated, and no stretching makes 120 bits harder to
# guess; with a person's cost `make up` would take seconds longer for each officer.
CHEAPEST = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
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
    sign_escrow_key(founding)
    _hold("found", "acme", "--no-wait")
    pin = trust.root_pin(tenant.pk.bytes, founding.root_key, policy_hash)
    say("Writing enrolment codes, console passwords, and the keys by which an auditor verifies the log")
    write_private(demo_directory() / "log.vkey", founding.log_vkey, replaces=True)
    write_private(
        demo_directory() / "root.vkey", root_verifier(tenant.pk.bytes, founding.root_key).to_text(), replaces=True
    )
    for name in PEOPLE.keys() - set(OFFICERS):
        person_id = founding.people[name]
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
    return Founding(tenant.pk, _people(tenant), root_of(tenant).public, log_vkey, system_actor(tenant.pk, "ceremony"))


def propose_policy(founding: Founding, *, delay: int = DELAY_SECONDS) -> bytes:
    """Have the officers join, one propose the policy, and all sign it, heard by one another; return its hash."""
    with _desks(founding) as desks:
        for name, desk in desks.items():
            _join(desk, name)
        first = desks[OFFICERS[0]]
        release_keys = release_directory(founding.tenant_id).create_keys()
        wanted = Wanted(
            m=QUORUM,
            rows=[proposals.stated_row(first, founding.people[name]) for name in OFFICERS],
            delay=delay,
            max_notice_delay=0,
            cooling_off=60,
            undelivered_delay=14 * 86400,
            purposes=PURPOSES,
            approve_with=ApproveWith.CLI,
            deposits=DepositRule.FROM_CONSENT,
            release_keys=(release_keys.signing_key, release_keys.sealing_key),
        )
        policy_hash = proposals.submit(first, proposals.draft(first, wanted)).hash
        shown = {name: proposals.find_proposal(desk, policy_hash.hex()) for name, desk in desks.items()}
        # Each reads from their own screen: it shows these words only for a row with the keys of the profile.
        read = {desk.user: proposals.own_words(desk, shown[name]) for name, desk in desks.items()}
        for name, desk in desks.items():
            heard = {
                other.person: {
                    place: read[other.person][place - 1] for place in proposals.asked(desk, shown[name], other)
                }
                for other in proposals.to_hear(desk, shown[name])
            }
            proposals.sign_proposal(desk, shown[name], heard=heard)
    return policy_hash


def sign_escrow_key(founding: Founding) -> None:
    """Have enough officers sign the escrow key that the root they pinned has signed."""
    with _desks(founding) as desks:
        for name in OFFICERS[:QUORUM]:
            proposals.sign_key(desks[name], proposals.find_key(desks[name]))


def said_by(founding: Founding, policy_hash: bytes) -> Callable[[str], str]:
    """Return what the officers read out, each from their own client, when the operator calls them about this policy."""

    def said(question: str) -> str:
        # "Words 2, 5 and 7 of Carol <carol@acme.test>, …"
        name = question.partition("<")[2].partition("@")[0]
        person = founding.people[name].bytes
        words = trust.founder_words(founding.tenant_id.bytes, founding.root_key, policy_hash, person)
        return " ".join(words[int(place) - 1] for place in re.findall(r"\d+", question.partition(" of ")[0]))

    return said


@contextmanager
def _desks(founding: Founding) -> Iterator[dict[str, Account]]:
    """Open the officers' profiles, made at the first call; they speak with the server's own code, in this process."""
    # No web process runs yet: what its scripted people ask for is answered here, and its entries signed, as the web's.
    signing.install(lambda: {role: create_role_key(role) for role in (LogRole.CEREMONY, LogRole.WEB)})
    with ExitStack() as stack:
        yield {name: stack.enter_context(_desk(founding, name)) for name in OFFICERS}


@contextmanager
def _desk(founding: Founding, name: str) -> Iterator[Account]:
    directory = demo_directory() / "profiles" / name
    kept = directory / "passphrase"
    if not kept.exists():
        passphrase = generate_password()
        ids = (founding.tenant_id.bytes, founding.people[name].bytes)
        accounts.create(directory, tenant=ids[0], user=ids[1], passphrase=passphrase, cost=CHEAPEST).close()
        write_private(kept, passphrase.reveal().decode(), replaces=True)
    with accounts.open_account(directory, passphrase=SecretBytes(kept.read_bytes().strip())) as account:
        account.connect(settings.HOLDFAST_PUBLIC_URL, transport=httpx2.WSGITransport(WSGIHandler()))
        yield account


def _join(desk: Account, name: str) -> None:
    """Do what `holdfast officer join` does; the secrets of both doors are kept beside the profile."""
    directory = demo_directory() / "profiles" / name
    if desk.state.device is None:
        code = EnrolmentCode.parse(code_file("acme", f"{name}@acme.test").read_text())
        device.enrol(desk, code, name=f"{name}'s workstation", is_development=True)
        prekeys.publish(desk)
    missing = joining.begin(desk)
    if section_doors.PASSWORD in missing:
        passphrase = generate_password()
        write_private(directory / "door.passphrase", passphrase.reveal().decode(), replaces=True)
        joining.set_passphrase(desk, passphrase, cost=CHEAPEST)
    if section_doors.PHRASE in missing:
        phrase = Phrase.generate()
        write_private(directory / "door.phrase", " ".join(phrase.words()), replaces=True)
        joining.set_phrase(desk, phrase, dict(enumerate(phrase.words(), start=1)))
    joining.finish(desk)


def write_code(tenant_id: UUID, name: str, person_id: UUID, *, pin: bytes, log_vkey: str) -> None:
    """Issue an enrolment code as a ceremony prints it, with the pin in it, and write it for the demo."""
    code = EnrolmentCode.new(tenant=tenant_id.bytes, person=person_id.bytes, root_pin=pin, log_vkey=log_vkey)
    with tenant_scope(tenant_id):
        person = tenants_access.person(person_id)
        tenants.issue_enrolment_code(person=person, code_hash=code.hash, actor=system_actor(tenant_id, "ceremony"))
    write_private(demo_directory() / "codes" / f"{name}.code", code.text(), replaces=True)
    # Whoever walks the demo again gets a new member, of another address.
    write_private(demo_directory() / "codes" / f"{name}.address", person.email, replaces=True)


def is_founded() -> bool:
    """Whether the database has the demo's tenant, and the state directory what its codes are made of."""
    try:
        return Tenant.objects.filter(slug="acme").exists() and (demo_directory() / "log.vkey").exists()
    except DatabaseError:
        return False


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
    write_private(demo_directory() / "sign-in.txt", "\n".join(lines), replaces=True)


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
    {"e-mail":<{width}}  {"role":<9} {"password":<20}   TOTP secret (or: make totp WHO=E-MAIL)
{people}

  Next, in a second terminal: make demo, or follow docs/quickstart.md
  Stop with Ctrl-C.
"""
