# SPDX-License-Identifier: Apache-2.0
"""Which keys are a person's as an officer, by the word of their own account. `services` re-exports it.

Implements ESCROW "Policy and officers" and PROTOCOL section 3, `officer`. It makes nobody an officer: a policy does,
whose signers look up here whose keys they sign for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import transaction

from audit import services as audit
from escrow import access
from escrow.errors import DoorsUnproven, OfficerKeysRefused, OfficerKeysStale
from escrow.models import OfficerKeyStatement
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import check_time
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached, NotFound
from kernel.scope import current_tenant
from keys import chains
from tenants import access as tenants

# An account states keys anew when its identity key was rotated, which is monthly, or when the keys are others.
MAX_STATEMENTS: Final = 20  # of one person, in _SPAN
_SPAN: Final = timedelta(days=30)


def state_officer_keys(*, statement: bytes, actor: Actor) -> OfficerKeyStatement:
    """Take a person's word on their keys as an officer: keep it, and log it.

    statement: one Sign1 of `officer` by the identity key of the actor's account, at most 16 KiB. One that was taken
    before changes nothing. Raises OfficerKeysRefused for one that does not hold; OfficerKeysStale when it names another
    statement before it than the person's newest; DoorsUnproven below two proven doors; LimitReached.
    """
    if actor.person_id is None:
        raise NotFound
    with transaction.atomic():
        # One after another: each names the one before.
        tenants.person_for_update(actor.person_id)
        now = database_now()
        said, sign1 = _read(statement, actor, int(now.timestamp()))
        known = access.officer_keys_named(sign1.payload_hash)
        if known is not None:
            return known
        newest = access.newest_officer_keys(actor.person_id)
        if said.predecessor != (bytes(newest.hash) if newest else b""):
            raise OfficerKeysStale
        if access.officer_keys_since(actor.person_id, now - _SPAN) >= MAX_STATEMENTS:
            raise LimitReached(
                f"You have stated your keys {MAX_STATEMENTS} times in 30 days. Try again later.",
                field="statement",
                limit="officer-statements",
                most=MAX_STATEMENTS,
            )
        # Asked when keys are stated: whoever has no way back to them would take their shares along with a lost machine.
        if not access.has_two_proven_doors(actor.person_id):
            raise DoorsUnproven
        row: OfficerKeyStatement = OfficerKeyStatement.objects.create(
            person_id=actor.person_id, hash=sign1.payload_hash, statement=statement, at=now
        )
        audit.append(
            tag="escrow:officer:state-keys",
            actor=actor,
            subject=str(actor.person_id),
            body={"statement": sign1.payload_hash} | ({"predecessor": said.predecessor} if said.predecessor else {}),
        )
    return row


def _read(statement: bytes, actor: Actor, at: int) -> tuple[OfficerStatement, Sign1]:
    assert actor.person_id is not None
    try:
        sign1 = Sign1.parse(statement)
        said = verify_officer_statement(
            sign1,
            aik=chains.chain_state(actor.person_id).aik,
            tenant=current_tenant().bytes,
            user=actor.person_id.bytes,
        )
        check_time(said.header, at)
    except HoldfastError as error:
        raise OfficerKeysRefused(f"Not taken: {error}. Sign it anew.", field="statement") from error
    return said, sign1
