# SPDX-License-Identifier: Apache-2.0
"""`ceremony found`: from the founders' signatures to a tenant that works.

Implements ORGANISATION "Founding, at different desks" and ESCROW "Keys". The operator's root signs an escrow key only
for a policy whose founders the operator has heard; everything is verified here again, and nothing rests on a row.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.root import release_directory, root_of
from config.hsm import hsm_config
from escrow import access as escrow_access
from escrow import services as escrow
from holdfast.core.base.errors import HoldfastError, QuorumNotMet
from holdfast.core.base.words import WORDS
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.identity import trust
from holdfast.core.identity.policy import Policy, SignedPolicy, verify_founding
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import EscrowKey
from hsm.backend import EscrowPublicKey
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from recovery.release.directory import ReleaseKeys, Trust
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.models import Person, Tenant
from tenants.roles import Role
from tenants.states import PersonState, TenantState

# As an officer's client asks: a guess is right once in 2^33, and a call stays short.
WORDS_TO_HEAR: Final = 3


class Desk(Protocol):
    """Where the officers' signatures come together: what they were shown, and what they have signed so far."""

    def policy(self) -> Sequence[Sign1]:
        """Return the signatures on the proposed version 1, of one payload; none while nobody has proposed."""

    def escrow_key(self) -> Sequence[Sign1]:
        """Return the signatures on the newest proposed escrow key, the root's first; none before the ceremony."""

    def propose_escrow_key(self, statement: Sign1, cka_id: bytes) -> None:
        """Show the officers an escrow key that the root has signed; cka_id: 16 bytes that name it in the HSM."""


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

    def __init__(self, tenant: Tenant, desk: Desk) -> None:
        if tenant.state not in (TenantState.FOUNDING, TenantState.ACTIVE):
            raise CeremonyRefused(f"{tenant.slug} is {tenant.state}, and not being founded.")
        self._tenant, self._desk = tenant, desk
        self._root = root_of(tenant)
        self._hsm = Ceremony(hsm_config())
        self._directory = release_directory(tenant.pk)
        self._actor = system_actor(tenant.pk, "ceremony")

    @property
    def is_done(self) -> bool:
        """Whether the tenant works."""
        return self._tenant.state == TenantState.ACTIVE

    # What the officers have done.

    def waited_for(self) -> list[Awaited]:
        """Return every officer of the proposed roster, by index, and what they have signed; none without a proposal."""
        with tenant_scope(self._tenant.pk):
            statements = self._desk.policy()
            if not statements:
                return []
            policy = Policy.from_payload(statements[0].payload)
            signed = {one.kid for one in statements}
            key = {one.kid for one in self._key_statements(statements[0].payload_hash)}
            people = tenants_access.people_by_id(UUID(bytes=officer.person) for officer in policy.roster)
            return [
                Awaited(
                    people[UUID(bytes=officer.person)],
                    officer.signing_key.kid in signed,
                    officer.signing_key.kid in key,
                )
                for officer in policy.roster
                if UUID(bytes=officer.person) in people
            ]

    def complete(self) -> SignedPolicy | None:
        """Return the founders' policy, everything verified again; None while somebody has not signed.

        Raises CeremonyRefused for one that cannot be published as it is.
        """
        with tenant_scope(self._tenant.pk):
            statements = self._desk.policy()
            if not statements or len(statements) < Policy.from_payload(statements[0].payload).n:
                return None
            try:
                signed = verify_founding(statements, tenant=self._tenant.pk.bytes)
                self._require_fit(signed.policy)
            except QuorumNotMet:
                return None
            except HoldfastError as error:
                raise CeremonyRefused(f"The proposed policy does not hold: {error}. Have it proposed anew.") from error
            return signed

    def _require_fit(self, policy: Policy) -> None:
        # A policy that names the release keys of another tenant, or of an attacker, would send officers' shares there.
        self._directory.require_keys(ReleaseKeys(policy.terms.release_signing_key, policy.terms.release_sealing_key))
        people = tenants_access.people_by_id(UUID(bytes=officer.person) for officer in policy.roster)
        for officer in policy.roster:
            person = people.get(UUID(bytes=officer.person))
            if person is None or person.role != Role.OFFICER or person.state != PersonState.ACTIVE:
                raise CeremonyRefused(
                    f"Officer {officer.index} of the proposed policy is no active officer of {self._tenant.slug}. "
                    "Have a policy without them proposed."
                )

    # What the operator hears.

    def hearings(self, signed: SignedPolicy) -> list[Hearing]:
        """Return what to hear of every officer, at places drawn anew; none once the root has signed for this policy."""
        if self._root_has_signed_for(signed):
            return []
        found = []
        with tenant_scope(self._tenant.pk):
            people = tenants_access.people_by_id(UUID(bytes=officer.person) for officer in signed.policy.roster)
        for officer in signed.policy.roster:
            words = trust.founder_words(self._tenant.pk.bytes, self._root.public, signed.hash, officer.person)
            at = sorted(secrets.SystemRandom().sample(range(1, WORDS + 1), WORDS_TO_HEAR))
            found.append(Hearing(people[UUID(bytes=officer.person)], {place: words[place - 1] for place in at}))
        return found

    def _root_has_signed_for(self, signed: SignedPolicy) -> bool:
        return bool(self._key_statements(signed.hash))

    def _key_statements(self, policy_hash: bytes) -> Sequence[Sign1]:
        """Return the signatures on the proposed escrow key, if our root proposed it for this policy."""
        statements = self._desk.escrow_key()
        if not statements or EscrowKey.from_payload(statements[0].payload).policy_hash != policy_hash:
            return ()
        try:
            statements[0].verify(self._root.public, purpose=Purpose.ESCROW_KEY)
        except HoldfastError as error:
            raise CeremonyRefused(
                f"The proposed escrow key was not signed by this tenant's root ({error}): look who wrote it."
            ) from error
        return statements

    # The acts.

    def steps(self, signed: SignedPolicy) -> Iterator[Step]:
        """Give what can be done now for a complete policy whose founders were heard."""
        # To let a tenant work we must, in this order:
        #
        # (1) make its escrow key, once, and have the root sign it for this policy: officers' clients sign only then;
        # (2) with m of them, have the release process trust this root and these founders, before anybody can ask it;
        # (3) publish policy and key, by the pin that follows from both, and let its people in.
        if self.is_done:
            return
        if not self._root_has_signed_for(signed):
            if not self._hsm.escrow_keys(str(self._tenant.pk)):
                yield Step("make its escrow key, on the token escrow, and have it re-wrap a test key", self._make_key)
            yield Step(
                "have its root sign the escrow key for this policy, and show it to the officers",
                partial(self._propose_key, signed),
            )  # (1)
            return
        if self.missing_for_key(signed):
            return
        trusted = self._trust(signed)
        if not self._directory.has_trust():
            yield Step(
                "have the release process trust its root and its founders", partial(self._directory.set_trust, trusted)
            )  # (2)
        yield Step(
            "publish policy and escrow key, and let the tenant begin its work", partial(self._publish, signed)
        )  # (3)

    def missing_for_key(self, signed: SignedPolicy) -> int:
        """Return how many officers still have to sign the escrow key."""
        by_officers = {one.kid for one in self._key_statements(signed.hash)[1:]}
        have = sum(officer.signing_key.kid in by_officers for officer in signed.policy.roster)
        return max(0, signed.policy.m - have)

    def _trust(self, signed: SignedPolicy) -> Trust:
        pin = trust.root_pin(self._tenant.pk.bytes, self._root.public, signed.hash)
        return Trust(root_key=self._root.public, pin=pin, is_development=self._tenant.is_development)

    def _make_key(self) -> None:
        self._hsm.create_escrow_key(str(self._tenant.pk))

    def _propose_key(self, signed: SignedPolicy) -> list[str]:
        # The same key whatever policy it is signed for: a proposal that was replaced takes none of the HSM's.
        key = self._hsm.escrow_keys(str(self._tenant.pk))[0]
        payload = escrow_key_payload(self._tenant, key, policy_hash=signed.hash, predecessor=b"")
        with tenant_scope(self._tenant.pk):
            self._desk.propose_escrow_key(
                cose.sign(payload, purpose=Purpose.ESCROW_KEY, key=self._root), key.ref.cka_id
            )
        return [f"the escrow key in words: {' '.join(PublicKey(KeyKind.RSA_3072, key.spki).fingerprint('escrow-key'))}"]

    def _publish(self, signed: SignedPolicy) -> list[str]:
        trusted = self._trust(signed)
        key = self._hsm.escrow_keys(str(self._tenant.pk))[0]
        with tenant_scope(self._tenant.pk):
            policy, escrow_key = self._desk.policy(), self._key_statements(signed.hash)
            tenants.pin_root(root_key=trusted.root_key.encoded, root_pin=trusted.pin, actor=self._actor)
            if not escrow_access.policies():
                escrow.publish_policy(statement=cose.encode_many(policy), actor=self._actor)
            if not escrow_access.escrow_keys():
                escrow.publish_escrow_key(
                    statement=cose.encode_many(escrow_key), cka_id=key.ref.cka_id, actor=self._actor
                )
            tenants.finish_founding(actor=self._actor)
        return [f"what every client pins, in words: {' '.join(trust.pin_words(trusted.pin))}"]


def escrow_key_payload(tenant: Tenant, key: EscrowPublicKey, *, policy_hash: bytes, predecessor: bytes) -> bytes:
    """Return what root and officers sign of an escrow key. Hashes: 32 bytes, no predecessor before the first key."""
    return EscrowKey(
        header=Header(tenant=tenant.pk.bytes, user=b"", device=b"", issued_at=int(time.time())),
        key=PublicKey(KeyKind.RSA_3072, key.spki),
        version=key.version,
        algorithm=key.ref.algorithm,
        predecessor=predecessor,
        policy_hash=policy_hash,
    ).to_payload()
