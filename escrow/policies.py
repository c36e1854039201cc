# SPDX-License-Identifier: Apache-2.0
"""Publishing policies and escrow keys. `services` re-exports these verbs.

Implements ESCROW "Policy and officers" and "Keys"; FAULTS P6, P8, P15, X8. It makes no signature: people
and the ceremony do, and what is stored here was verified first and is kept as received.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit import services as audit
from escrow import access
from escrow.errors import EscrowKeyRefused, PolicyRefused
from escrow.models import EscrowKey, Policy, PolicyOfficer
from escrow.states import OFFICER, OfficerState
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity import policy, trust
from holdfast.core.signed import cose
from kernel.actors import Actor
from kernel.transitions import advance
from tenants import access as tenants
from tenants.roles import Role

# Types of leaves in the `keys` log (PROTOCOL section 8).
LEAF_ESCROW_KEY = 2
LEAF_POLICY = 3


def publish_policy(*, statement: bytes, actor: Actor) -> Policy:
    """Store the next policy version and log it.

    statement: the array of Sign1 as received, at most 17 signers. Version 1 must be signed by all its founders
    and lead to the tenant's pin; a later one by m officers of the version before. Raises PolicyRefused.
    """
    with transaction.atomic():
        before = access.newest_policy_for_update()
        try:
            signed = _verify_policy(statement)
        except HoldfastError as error:
            raise PolicyRefused(str(error), field="statement") from error
        now = timezone.now()
        row = _store_policy(signed, statement, before=before, now=now)
        audit.append(
            tag="escrow:policy:publish",
            actor=actor,
            subject=str(row.pk),
            body={"version": row.version, "hash": signed.hash},
        )
        audit.append_key_leaf(type=LEAF_POLICY, seq=row.version, statement_hash=signed.hash)
    return row


def _verify_policy(statement: bytes) -> policy.SignedPolicy:
    statements = cose.parse_many(statement, max_size=MAX_BLOB)
    stored = access.policies()
    if stored:
        signed = policy.verify_successor(statements, predecessor=access.trusted_tenant().newest)
    else:
        tenant = tenants.tenant()
        signed = trust.verify_tenant(
            [statements],
            tenant=tenant.id.bytes,
            root_key=decode_public_key(bytes(tenant.root_key or b""), expect=SIGNING_KINDS),
            pin=bytes(tenant.root_pin or b""),
            is_development=tenant.is_development,
        ).newest
    people = tenants.people_by_id(UUID(bytes=officer.person) for officer in signed.policy.roster)
    for officer in signed.policy.roster:
        person = people.get(UUID(bytes=officer.person))
        if person is None or person.role != Role.OFFICER:
            raise PolicyRefused(f"Officer {officer.index} does not have the role of an officer.", field="statement")
    return signed


def _in_force_from(body: policy.Policy, now: datetime) -> datetime:
    rows = access.policies()
    versions = [access.reading(row) for row in rows]
    published = [int(row.published_at.timestamp()) for row in rows]
    at = policy.in_force_times([*versions, body], [*published, int(now.timestamp())])[-1]
    # A second later where it waits: times are rounded down, and a wait is not to be shortened by that.
    return now if at <= int(now.timestamp()) else datetime.fromtimestamp(at + 1, tz=UTC)


def _store_policy(signed: policy.SignedPolicy, statement: bytes, *, before: Policy | None, now: datetime) -> Policy:
    body, in_force_from, cooling_off = signed.policy, now, timedelta()
    known: dict[UUID, PolicyOfficer] = {}
    if before is not None:
        old = policy.Policy.from_payload(cose.parse_many(bytes(before.statement), max_size=MAX_BLOB)[0].payload)
        cooling_off = timedelta(seconds=max(old.terms.cooling_off_seconds, body.terms.cooling_off_seconds))
        in_force_from = _in_force_from(body, now)
        known = {officer.person_id: officer for officer in access.officers(before)}
    row: Policy = Policy.objects.create(
        version=body.version,
        hash=signed.hash,
        statement=statement,
        m=body.m,
        n=body.n,
        published_at=now,
        in_force_from=in_force_from,
    )
    for officer in body.roster:
        person_id = UUID(bytes=officer.person)
        place = known.pop(person_id, None)
        # A founder counts at once: the pinned hash names them. Whoever comes later cools off (FAULTS P8).
        counts_from = place.counts_from if place else (now + cooling_off if before else None)
        PolicyOfficer.objects.create(
            policy=row,
            index=officer.index,
            person_id=person_id,
            signing_key=officer.signing_key.encoded,
            sealing_key=officer.sealing_key.encoded,
            state=place.state if place else OfficerState.ACTIVE,
            counts_from=counts_from,
        )
    for person_id in known:
        move_officer(person_id, OfficerState.REMOVED)
    return row


def publish_escrow_key(*, statement: bytes, cka_id: bytes, actor: Actor) -> EscrowKey:
    """Store the next escrow-key version and log it.

    statement: signed by the tenant root and m officers of the policy it names. cka_id: 16 bytes that name the
    private half in the HSM, from the ceremony. Raises EscrowKeyRefused.
    """
    if len(cka_id) != 16:
        raise ValueError("a key in the HSM is named by 16 bytes")
    with transaction.atomic():
        access.newest_policy_for_update()
        try:
            stored = [cose.parse_many(bytes(row.statement)) for row in access.escrow_keys()]
            history = [*stored, cose.parse_many(statement)]
            signed = trust.verify_escrow_keys(history, trusted=access.trusted_tenant())[-1]
        except HoldfastError as error:
            raise EscrowKeyRefused(str(error), field="statement") from error
        key = signed.statement
        row: EscrowKey = EscrowKey.objects.create(
            version=key.version,
            hash=signed.hash,
            statement=statement,
            algorithm=key.algorithm,
            spki=key.key.raw,
            cka_id=cka_id,
            published_at=timezone.now(),
        )
        audit.append(
            tag="escrow:key:publish",
            actor=actor,
            subject=str(row.pk),
            body={
                "version": row.version,
                "hash": signed.hash,
                "cka_id": cka_id,
                "spki_sha256": hashlib.sha256(key.key.raw).digest(),
            },
        )
        audit.append_key_leaf(type=LEAF_ESCROW_KEY, seq=row.version, statement_hash=signed.hash)
    return row


def move_officer(person_id: UUID, target: OfficerState) -> None:
    """Move a person to another state in every policy that names them; the caller holds the lock and logs why."""
    for place in access.places_of(person_id):
        if place.state != target:
            advance(place, OFFICER, target)
