# SPDX-License-Identifier: Apache-2.0
"""`ceremony found`: from the founders' signatures to a tenant that works.

Implements ORGANISATION "Founding, at different desks" and ESCROW "Keys". The operator's root signs an escrow key only
for a policy whose founders the operator has heard; everything is verified here again, and nothing rests on a row.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from django.db import transaction

from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.root import RootKey, release_directory, root_of, trusted_escrow
from config.hsm import hsm_config
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.words import WORDS, eight_words
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.identity import trust
from holdfast.core.identity.officers import verify_officer_statement
from holdfast.core.identity.policy import Officer, Policy, SignedPolicy, verify_founding
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1, parse_many
from holdfast.core.signed.enrolment import founding_root
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import EscrowKey
from hsm.backend import EscrowPublicKey
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys import chains
from recovery.release.directory import ReleaseKeys, Trust
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.models import Person, Tenant
from tenants.roles import Role
from tenants.states import PersonState, TenantState

# As an officer's client asks: a guess is right once in 2^33, and a call stays short.
WORDS_TO_HEAR: Final = 3


@dataclass(frozen=True)
class Awaited:
    """One officer of the proposed roster, and what they have signed."""

    person: Person
    policy: bool
    escrow_key: bool


@dataclass(frozen=True)
class Hearing:
    """Three of an officer's eight words, by place from 1, which the operator has to hear from the person."""

    person: Person
    words: Mapping[int, str]


class FoundingCeremony:
    """What is missing until a tenant works. Raises CeremonyRefused for what cannot be."""

    def __init__(self, tenant: Tenant) -> None:
        if tenant.state not in (TenantState.FOUNDING, TenantState.ACTIVE):
            raise CeremonyRefused(f"{tenant.slug} is {tenant.state}, and not being founded.")
        self._tenant = tenant
        self._root = root_of(tenant)
        self._hsm = Ceremony(hsm_config())
        self._directory = release_directory(tenant.pk)
        self._actor = system_actor(tenant.pk, "ceremony")

    @property
    def slug(self) -> str:
        """The tenant's short name."""
        return self._tenant.slug

    @property
    def is_done(self) -> bool:
        """Whether the tenant works."""
        return self._tenant.state == TenantState.ACTIVE

    @property
    def root_words(self) -> tuple[str, ...]:
        """The 8 words of the root, which the operator reads out: those of the founding codes."""
        return eight_words(founding_root(self._tenant.pk.bytes, self._root.public))

    def look_again(self) -> None:
        """Read the tenant's row again, after what was done."""
        self._tenant.refresh_from_db()

    # What the officers have done.

    def waited_for(self) -> list[Awaited]:
        """Return every officer of the newest proposed roster, and what they have signed; none without a proposal."""
        now = database_now()
        with tenant_scope(self._tenant.pk):
            rows, _ = escrow_access.proposal_page(escrow_access.next_place(now), now=now)
            founding = [row for row in rows if row.version == 1]
            if not founding:
                return []
            (policy,) = escrow.policy_progress(founding[:1])
            keys, _ = escrow_access.key_proposal_page()
            by_key = {one for progress in escrow.key_progress(keys[:1]) for one in progress.signed}
            people = tenants_access.people_by_id(policy.asked)
            return [Awaited(people[one], one in policy.signed, one in by_key) for one in policy.asked if one in people]

    def founders_policy(self) -> SignedPolicy | None:
        """Return the policy that all its founders signed, everything verified again; None while somebody has not.

        Raises CeremonyRefused for one that cannot be published as it is.
        """
        with tenant_scope(self._tenant.pk):
            published = escrow_access.policies()[:1]
            statement = bytes(published[0].statement) if published else escrow.complete_founding()
            if statement is None:
                return None
            try:
                signed = verify_founding(parse_many(statement, max_size=MAX_BLOB), tenant=self._tenant.pk.bytes)
                self._require_fit(signed.policy)
            except HoldfastError as error:
                raise CeremonyRefused(f"The proposed policy does not hold: {error}. Have it proposed anew.") from error
            self._require_published_here(signed)
            return signed

    def _require_published_here(self, signed: SignedPolicy) -> None:
        """Raise CeremonyRefused when a policy stands in the open scope that is not this one, or has no pin."""
        published = escrow_access.policies()[:1]
        if not published:
            return
        # A row is the word of whoever can write there, as the web process can. A ceremony writes policy and pin at
        # once; that it was heard, the release directory alone says.
        (row,), pin = published, bytes(tenants_access.tenant().root_pin or b"")
        stored = parse_many(bytes(row.statement), max_size=MAX_BLOB)[0].payload_hash
        if (row.version, bytes(row.hash), stored, pin) != (1, signed.hash, signed.hash, self._root_pin(signed)):
            raise CeremonyRefused(
                "The database has a first policy that this ceremony did not publish. Stop: look who wrote it, and put "
                "a backup of before back. Or end this founding: ceremony tenant --abandon"
            )

    def _require_fit(self, policy: Policy) -> None:
        # A policy that names the release keys of another tenant, or of nobody here, would send officers' shares there.
        self._directory.require_keys(ReleaseKeys(policy.terms.release_signing_key, policy.terms.release_sealing_key))
        people = tenants_access.people_by_id(UUID(bytes=officer.person) for officer in policy.roster)
        for officer in policy.roster:
            person = people.get(UUID(bytes=officer.person))
            if person is None or person.role != Role.OFFICER or person.state != PersonState.ACTIVE:
                raise CeremonyRefused(
                    f"Officer {officer.index} of the proposed policy is no active officer of {self._tenant.slug}. "
                    "Have a policy without them proposed."
                )
            self._require_own(officer, person)

    def _require_own(self, officer: Officer, person: Person) -> None:
        row = escrow_access.newest_officer_keys(person.pk)
        if row is None or not escrow_access.has_two_proven_doors(person.pk):
            raise CeremonyRefused(
                f"{person.email} has not stated their keys as an officer, or has not two proven doors: "
                "have them finish `holdfast officer join`."
            )
        aik = chains.chain_state(person.pk).aik
        require_stated(officer, bytes(row.statement), aik=aik, tenant=self._tenant.pk.bytes)

    # What the operator hears.

    def hearings(self, signed: SignedPolicy) -> list[Hearing]:
        """Return what to hear of every officer, at places drawn anew; none once the release process trusts them.

        Raises CeremonyRefused when it trusts other founders.
        """
        if self._is_trusted(signed):
            return []
        with tenant_scope(self._tenant.pk):
            people = tenants_access.people_by_id(UUID(bytes=officer.person) for officer in signed.policy.roster)
        found = []
        for officer in signed.policy.roster:
            words = trust.founder_words(self._tenant.pk.bytes, self._root.public, signed.hash, officer.person)
            at = sorted(secrets.SystemRandom().sample(range(1, WORDS + 1), WORDS_TO_HEAR))
            found.append(Hearing(people[UUID(bytes=officer.person)], {place: words[place - 1] for place in at}))
        return found

    def _is_trusted(self, signed: SignedPolicy) -> bool:
        # Written by a ceremony alone, after the officers were heard; neither the web process nor the database's owner
        # comes near it.
        if not self._directory.has_trust():
            return False
        if self._directory.trust().pin != self._root_pin(signed):
            raise CeremonyRefused(
                "The release process trusts other founders than those of this policy. Stop: look who wrote the "
                "database, or which backup was put back."
            )
        return True

    # The acts.

    def steps(self, signed: SignedPolicy) -> Iterator[Step]:
        """Give what can be done now for a complete policy whose founders were heard; none while officers sign a key."""
        # To let a tenant work we must, in this order:
        #
        # (1) make its escrow key, once: whatever the founding comes to, the HSM holds one for it;
        # (2) publish the policy, by the pin that follows from root and founders: from here on there is no other;
        # (3) have the release process trust this root and these founders, before anybody could ask it for anything;
        # (4) have the root sign the escrow key for this policy: officers' clients sign only under the root's signature,
        #     and the server publishes the key with m of them;
        # (5) let its people in, when what was published is the key that the HSM holds.
        if self.is_done:
            return
        with tenant_scope(self._tenant.pk):
            self._require_published_here(signed)
            has_policy, has_key = bool(escrow_access.policies()), bool(escrow_access.escrow_keys())
            is_asked = has_policy and has_open_key_proposal()
        if not self._hsm.escrow_keys(str(self._tenant.pk)):
            yield Step("make its escrow key, on the token escrow, and have it re-wrap a test key", self._make_key)
        if not has_policy:
            yield Step("publish the founders' policy, and what every client pins", partial(self._publish, signed))
        if not self._is_trusted(signed):
            yield Step("have the release process trust its root and its founders", partial(self._trust, signed))
        if not has_key and not is_asked:
            yield Step("have its root sign the escrow key, and ask the officers to", partial(self._propose_key, signed))
        if has_key:
            yield Step(f"let {self._tenant.slug} begin its work", self._begin)

    def _make_key(self) -> None:
        self._hsm.create_escrow_key(str(self._tenant.pk))

    def _root_pin(self, signed: SignedPolicy) -> bytes:
        return trust.root_pin(self._tenant.pk.bytes, self._root.public, signed.hash)

    def _trust(self, signed: SignedPolicy) -> None:
        # The operator may have taken their time for the yes.
        with tenant_scope(self._tenant.pk):
            self._require_published_here(signed)
        self._directory.set_trust(Trust(self._root.public, self._root_pin(signed), self._tenant.is_development))

    def _publish(self, signed: SignedPolicy) -> list[str]:
        pin = self._root_pin(signed)
        with tenant_scope(self._tenant.pk), transaction.atomic():
            tenants.pin_root(root_key=self._root.public.encoded, root_pin=pin, actor=self._actor)
            statement = escrow.complete_founding()
            if statement is None or parse_many(statement, max_size=MAX_BLOB)[0].payload_hash != signed.hash:
                raise CeremonyRefused(
                    "Another policy was proposed meanwhile. Hold the ceremony again, and hear it anew."
                )
            escrow.publish_policy(statement=statement, actor=self._actor)
        return [f"what every client pins, in words: {' '.join(trust.pin_words(pin))}"]

    def _propose_key(self, signed: SignedPolicy) -> list[str]:
        key = self._hsm.escrow_keys(str(self._tenant.pk))[0]
        return propose_escrow_key(self._tenant, self._root, key, policy_hash=signed.hash, predecessor=b"")

    def _begin(self) -> None:
        key = self._hsm.escrow_keys(str(self._tenant.pk))[0]
        published = trusted_escrow(self._tenant).keys
        with tenant_scope(self._tenant.pk):
            rows = escrow_access.escrow_keys()
            found = [(one.statement.key.raw, bytes(row.cka_id)) for one, row in zip(published, rows, strict=True)]
            if found != [(key.spki, key.ref.cka_id)]:
                raise CeremonyRefused("The published escrow key is not the one that this HSM holds: look who wrote it.")
            tenants.finish_founding(actor=self._actor)


def require_stated(officer: Officer, statement: bytes, *, aik: PublicKey, tenant: bytes) -> None:
    """Hold a row of the roster to what its person's account says of their keys. tenant: 16 bytes.

    aik: the identity key of now, by their chain. Raises CeremonyRefused for other keys, and the core's refusals for a
    statement that the account did not make.
    """
    said = verify_officer_statement(Sign1.parse(statement), aik=aik, tenant=tenant, user=officer.person)
    if (said.signing_key, said.sealing_key) != (officer.signing_key, officer.sealing_key):
        raise CeremonyRefused(
            f"The proposed policy holds other keys in the row of officer {officer.index} than their account states. "
            "Stop: somebody put keys of their own in that person's name."
        )


def has_open_key_proposal() -> bool:
    """Tell whether officers of the open scope's tenant are asked to sign an escrow key now."""
    rows, _ = escrow_access.key_proposal_page()
    return any(progress.state == "open" for progress in escrow.key_progress(rows[:1]))


def propose_escrow_key(
    tenant: Tenant, root: RootKey, key: EscrowPublicKey, *, policy_hash: bytes, predecessor: bytes
) -> list[str]:
    """Have the root sign an escrow key for a policy, and officers asked to; return its words, to be told.

    Hashes: 32 bytes, no predecessor before the first key.
    """
    payload = EscrowKey(
        header=Header(tenant=tenant.pk.bytes, user=b"", device=b"", issued_at=int(time.time())),
        key=PublicKey(KeyKind.RSA_3072, key.spki),
        version=key.version,
        algorithm=key.ref.algorithm,
        predecessor=predecessor,
        policy_hash=policy_hash,
    ).to_payload()
    signed = cose.encode_many([cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=root)])
    with tenant_scope(tenant.pk):
        escrow.propose_escrow_key(statement=signed, cka_id=key.ref.cka_id, actor=system_actor(tenant.pk, "ceremony"))
    return [f"the escrow key in words: {' '.join(PublicKey(KeyKind.RSA_3072, key.spki).fingerprint('escrow-key'))}"]
