# SPDX-License-Identifier: Apache-2.0
"""`ceremony tenant`: a tenant in the state `founding`, its keys, its first owner and the codes of its officers.

Implements ORGANISATION "Founding, at different desks". From here its people work at their own desks; `ceremony found`
takes up what they have signed. Nothing can be deposited or opened before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from audit import access as audit_access
from audit import sequencer
from config.ceremonies import CeremonyRefused, Step, ceremony_directory
from config.ceremonies.roles import RolesCeremony
from config.ceremonies.root import public_key, release_directory, root_of
from config.hsm import hsm_config
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.words import eight_words
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.roles import verify_roles
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.enrolment import EnrolmentCode, founding_root
from hsm import registry
from hsm.ceremony import Ceremony
from kernel.actors import Actor, system_actor
from kernel.files import make_directory, write_durably
from kernel.scope import tenant_scope
from keys import services as keys
from tenants import access, invitations, mails, names
from tenants import services as tenants
from tenants.models import Invitation, Person, Tenant
from tenants.roles import Role
from tenants.states import TenantState

_FOUND_FIRST: Final = "Hold `ceremony init` first."


@dataclass(frozen=True)
class Wanted:
    """What the operator said of a tenant. owner and officers: e-mail addresses; the officers may come later."""

    slug: str
    name: str = ""
    owner: str = ""
    officers: Sequence[str] = ()
    is_development: bool = False
    resend: bool = False


class TenantCeremony:
    """What is missing until the people of a tenant can found it. Raises CeremonyRefused for what cannot be."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._hsm = Ceremony(hsm_config())
        if not (self._hsm.has("root", "master") and self._hsm.has("log", "log")):
            raise CeremonyRefused(f"The installation has no keys yet. {_FOUND_FIRST}")
        self._row = tenant_row(wanted.slug)
        _require_one_installation(self._hsm)
        if self._row is not None and self._row.state == TenantState.ENDED:
            raise CeremonyRefused(f"The founding of {wanted.slug} was abandoned. Choose another short name.")

    def steps(self) -> Iterator[Step]:
        """Give what is missing, in the order in which it has to be done."""
        # To have a tenant that its people can found we must, in this order:
        #
        # (1) have its row, by whose id every key is named: killed after it, the next call goes on with the same tenant;
        # (2) have its root, once, and let it say whose keys write and sign its logs;
        # (3) have what its people's first acts need: the key of its records, the release keys that a policy names;
        # (4) let its first people in.
        row, wanted = self._row, self._wanted
        if row is not None and row.state != TenantState.FOUNDING:
            return
        if row is None:
            if not (wanted.name and wanted.owner):
                raise CeremonyRefused("A new tenant takes --name and --owner.")
            yield Step(
                f"create the tenant {names.slug(wanted.slug)} ({wanted.name}), to be founded", self._create
            )  # (1)
        if row is None or not self._hsm.has("ceremony", "tenant-root", tenant=str(row.pk)):
            yield Step("make its root key, on the token ceremony", self._make_root)  # (2)
        if row is None or row.root_key is None or not _has_roles(row):
            yield Step("have its root sign whose keys write and sign its logs", self._publish_roles)
        if row is None or not _has_master_key(row):
            yield Step("make the key under which its records are stored", self._make_master_key)  # (3)
        if row is None or not release_directory(row.pk).has_keys():
            yield Step("make the release process's keys, which the founders' policy names", self._make_release_keys)
        if not release_keys_file(wanted.slug).exists():
            says = f"write their public halves for whoever proposes the policy, into {release_keys_file(wanted.slug)}"
            yield Step(says, self._write_release_keys)
        if wanted.owner and self._lacks_link(wanted.owner):
            says = f"invite {wanted.owner} as owner, by a link that works once, for 72 hours"
            yield Step(says, partial(self._invite, wanted.owner, Role.OWNER), is_private=True)  # (4)
        for email in wanted.officers:
            if self._lacks_link(email):
                says = f"invite {email} as officer, by a link that works once, for 72 hours"
                yield Step(says, partial(self._invite, email, Role.OFFICER), is_private=True)
            if self._lacks_code(email):
                path = code_file(wanted.slug, email)
                yield Step(f"make the founding code of {email}, in {path}", partial(self._write_code, email))

    # What is there.

    def _tenant(self) -> Tenant:
        found = tenant_row(self._wanted.slug)
        assert found is not None
        return found

    def _person(self, email: str) -> Person | None:
        return access.person_by_address(self._row, names.email_key(email))

    def _lacks_link(self, email: str) -> bool:
        person = self._person(email)
        if person is None or self._row is None:
            return True
        with tenant_scope(self._row.pk):
            is_in = person.has_usable_password()
            return not is_in and (self._wanted.resend or not invitations.has_open(person))

    def _lacks_code(self, email: str) -> bool:
        person = self._person(email)
        if person is None or self._row is None:
            return True
        with tenant_scope(self._row.pk):
            return not access.has_credential(person.pk) and not access.has_open_code(person.pk)

    # The acts. Each looks again, so that none is done twice.

    def _create(self) -> None:
        tenants.create_tenant(
            slug=self._wanted.slug,
            name=self._wanted.name,
            actor=system_actor(None, "ceremony"),
            is_development=self._wanted.is_development,
            state=TenantState.FOUNDING,
        )

    def _make_root(self) -> list[str]:
        tenant = self._tenant()
        root = public_key(self._hsm.create_tenant_root(str(tenant.pk)))
        return [f"its root in words: {' '.join(root_words(tenant, root))}"]

    def _publish_roles(self) -> None:
        tenant = self._tenant()
        for step in RolesCeremony(tenant).steps():
            step.take()
        # Officers' clients make the words that they read out from it, and hold it to their codes.
        with tenant_scope(tenant.pk):
            tenants.show_root(root_key=root_of(tenant).public.encoded)

    def _make_master_key(self) -> None:
        keys.create_tenant_master_key(self._tenant().pk)

    def _make_release_keys(self) -> None:
        release_directory(self._tenant().pk).create_keys()

    def _write_release_keys(self) -> list[str]:
        keys, path = release_directory(self._tenant().pk).create_keys(), release_keys_file(self._wanted.slug)
        document = {"signing_key": keys.signing_key.encoded.hex(), "sealing_key": keys.sealing_key.encoded.hex()}
        make_directory(path.parent)
        write_durably(path, json.dumps(document).encode() + b"\n")
        return [
            f"whoever proposes the policy takes {path}: holdfast officer policy propose --release-keys FILE",
            f"release process: {' '.join(keys.sealing_key.fingerprint('release'))}",
        ]

    def _invite(self, email: str, role: Role) -> list[str]:
        tenant = self._tenant()
        actor = self._actor(tenant)
        with tenant_scope(tenant.pk):
            person = self._enlisted(tenant, email, role, actor)
            link = invitations.invite(person=person, actor=actor)
            text = link.text.reveal().decode()
            is_mailed = _mail(tenant, person, text, link.invitation)
        told = (
            f"mailed to {person.email}"
            if is_mailed
            else f"the mail to {person.email} was not taken: hand the link over"
        )
        return [told, text]

    def _write_code(self, email: str) -> list[str]:
        tenant = self._tenant()
        root = root_of(tenant)
        actor = self._actor(tenant)
        log_vkey = sequencer.verifier(tenant.pk, "audit", registry.log().public_key).to_text()
        path = code_file(tenant.slug, email)
        with tenant_scope(tenant.pk):
            person = self._enlisted(tenant, email, Role.OFFICER, actor)
            code = EnrolmentCode.new(
                tenant=tenant.pk.bytes,
                person=person.pk.bytes,
                log_vkey=log_vkey,
                founding_root=founding_root(tenant.pk.bytes, root.public),
            )
            make_directory(path.parent)
            # Before the row: killed in between, a code lies here that nobody takes, and the next call writes another.
            write_durably(path, code.text().encode() + b"\n")
            tenants.issue_enrolment_code(person=person, code_hash=code.hash, actor=actor)
        return [f"hand {path} over by another way than the mail with the link"]

    def _enlisted(self, tenant: Tenant, email: str, role: Role, actor: Actor) -> Person:
        found = access.person_by_address(tenant, names.email_key(email))
        if found is None:
            return tenants.create_person(email=email, name=_name_of(email), role=role, actor=actor)
        if found.role != role:
            raise CeremonyRefused(f"{email} is {found.role} there, and not {role}.")
        return found

    def _actor(self, tenant: Tenant) -> Actor:
        return system_actor(tenant.pk, "ceremony")


def abandon_steps(slug: str) -> Iterator[Step]:
    """Give the end of a founding, if it has not ended. Raises CeremonyRefused for a tenant that is founded."""
    tenant = tenant_row(slug)
    if tenant is None:
        raise CeremonyRefused(f"There is no tenant {slug}.")
    if tenant.state == TenantState.ENDED:
        return
    if tenant.state != TenantState.FOUNDING:
        raise CeremonyRefused(f"{slug} is {tenant.state}: only a founding can be abandoned.")
    yield Step(
        f"end the founding of {slug} for ever: nobody is let in, and its short name stays taken",
        partial(_abandon, tenant),
    )


def _abandon(tenant: Tenant) -> None:
    with tenant_scope(tenant.pk):
        tenants.abandon_founding(actor=system_actor(tenant.pk, "ceremony"))


def tenant_row(slug: str) -> Tenant | None:
    """Return the tenant with this short name, in whatever state."""
    return Tenant.objects.filter(slug=slug).first()


def root_words(tenant: Tenant, root: PublicKey) -> tuple[str, ...]:
    """Return the 8 words of a tenant's root while it is founded: of the hash that the founding codes carry."""
    return eight_words(founding_root(tenant.pk.bytes, root))


def code_file(slug: str, email: str) -> Path:
    """Return where an officer's founding code is written."""
    # An address may have a slash in it. Percent-encoded, so that no two addresses have one file.
    name = names.email_key(email).replace("%", "%25").replace("/", "%2F")
    return ceremony_directory() / "codes" / slug / f"{name}.code"


def release_keys_file(slug: str) -> Path:
    """Return where the release process's public keys are written, as `officer policy propose` takes them."""
    return ceremony_directory() / "codes" / slug / "release.json"


def _has_roles(tenant: Tenant) -> bool:
    with tenant_scope(tenant.pk):
        return audit_access.newest_roles() is not None


def _has_master_key(tenant: Tenant) -> bool:
    with tenant_scope(tenant.pk):
        return keys.has_tenant_master_key()


def _require_one_installation(hsm: Ceremony) -> None:
    """Raise CeremonyRefused unless the newest tenant whose root has signed anything has that root on this HSM."""
    # One is enough: a database is of one installation, or of another.
    for tenant in Tenant.objects.order_by("-created_at")[:8]:
        with tenant_scope(tenant.pk):
            row = audit_access.newest_roles()
        if row is None:
            continue
        root = root_of(tenant)
        try:
            verify_roles(Sign1.parse(bytes(row.statement)), tenant=tenant.pk.bytes, root_key=root.public)
        except HoldfastError as error:
            raise CeremonyRefused(
                f"The tenant {tenant.slug} in this database was founded on another HSM ({error}). Set "
                "HOLDFAST_HSM_HOME and the database to those of one installation."
            ) from error
        return


def _mail(tenant: Tenant, person: Person, link: str, row: Invitation) -> bool:
    # At once and not as a job: it is printed as well, so it is made here.
    context = {"tenant": tenant, "person": person, "until": mails.written_time(row.expires_at)}
    outcome = mails.send(template="invitation", context=context, to=person.email, link=link)
    return outcome is mails.Outcome.TAKEN


def _name_of(email: str) -> str:
    return email.partition("@")[0].replace(".", " ").title()
