# SPDX-License-Identifier: Apache-2.0
"""Putting archive keys into escrow: the person's consent first, then one deposit for each generation.

Implements the page ESCROW (Deposit; The user's side) and FAULTS F3, F7 and F8 on the client.
Does not fetch keys to deposit to: only what `tenant.accept_escrow_key` took is ever used.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from holdfast.client import chains, deposits, tenant
from holdfast.client.account import Account
from holdfast.client.errors import ConsentNeeded, TrustRefused
from holdfast.client.state import Generation
from holdfast.core.cose import Purpose, Sign1, sign
from holdfast.core.deposit import DepositTerms, build_deposit
from holdfast.core.encoding import b64u
from holdfast.core.payloads import Header
from holdfast.core.policy import DepositRule
from holdfast.core.statements import Consent, DepositStatement
from holdfast.core.trust import pin_words

# The wording is fixed: what a tenant or a server could write here would be read as the product's own word.
_TEXT = """Escrow of your archive keys
  Who:     any {m} of these {n} officers of your organisation, together with its hardware security module,
           can open your archive keys. One officer alone cannot; the server alone cannot.
  What:    your message archive of the generations deposited. Not your identity: nobody can write in your name.
  When:    after an officer-approved case, {delay} after the last approval needed. You are told of every case{notice}.
  Devices: if you lose all of them, this is how your archive comes back, and your account begins again.
  Keep:    what is deposited stays deposited, also if you change your mind later.
  Tenant:  {words}
"""


@dataclass(frozen=True)
class Status:
    """Where a person stands. consent: "given", "refused", "for an older policy" or "not asked"."""

    policy_version: int
    m: int
    n: int
    escrow_key_version: int
    consent: str
    generations: list[Generation]
    missing_on_server: list[int]
    foreign_on_server: list[UUID]


def prepare(account: Account) -> None:
    """Bring policy and escrow key up to date, all held to the pin. Raises TrustRefused."""
    tenant.refresh(account)


def consent_text(account: Account) -> str:
    """Return the text that a person agrees to, for the policy now known."""
    policy = account.trusted.newest.policy
    late = policy.terms.max_notice_delay_seconds
    return _TEXT.format(
        m=policy.m,
        n=policy.n,
        delay=_span(policy.terms.delay_seconds),
        notice=f", at most {_span(late)} later" if late else " at once",
        words=" ".join(pin_words(account.state.trust.pin)),
    )


def has_consented(account: Account) -> bool:
    """Whether this identity has agreed to the newest policy in the wording of today."""
    return _consent_standing(account) == "given"


def consent(account: Account, *, agreed: bool = True) -> bytes:
    """Sign and publish the person's answer to the newest policy; returns its hash.

    To be called on her own act only: nothing a server says may lead here by itself (FAULTS F3).
    """
    statement = Consent(
        header=Header(account.tenant, account.user, account.device.id, account.api.clock.now()),
        policy_hash=account.trusted.newest.hash,
        text_hash=_text_hash(account),
        agreed=agreed,
    )
    signed = sign(statement.to_payload(), purpose=Purpose.CONSENT, key=account.identity_key)
    account.api.post("statements", {"statement": b64u(signed.encode())})
    account.state.consent = signed.encode()
    account.save()
    return signed.payload_hash


def deposit_missing(account: Account) -> list[Generation]:
    """Deposit every archive key of this device that is not in escrow yet; returns those deposited now.

    Raises ConsentNeeded without the person's yes to the newest policy.
    """
    if not has_consented(account):
        raise ConsentNeeded(
            "Your consent to the escrow of your archive keys is missing.",
            way_out="Read it and decide: holdfast escrow deposit",
        )
    state = chains.refresh(account)
    announced = {one.generation: one.commitment for one in state.generations} if state else {}
    done = []
    for generation in account.state.generations:
        if generation.deposit_id or generation.is_exposed:
            continue
        if announced.get(generation.number) != generation.commitment:
            raise TrustRefused(f"Your account chain does not announce generation {generation.number}.")
        _deposit(account, generation)
        done.append(generation)
    return done


def _deposit(account: Account, generation: Generation) -> None:
    terms = DepositTerms(
        suite=account.device_statement.suite,
        tenant=account.tenant,
        user=account.user,
        device=account.device.id,
        policy=account.trusted.newest,
        escrow_key=account.escrow_key,
        consent_hash=Sign1.parse(account.state.consent).payload_hash,
    )
    deposit_id = secrets.token_bytes(16)
    record = build_deposit(generation.key, generation=generation.number, deposit_id=deposit_id, terms=terms).to_record()
    record_hash = hashlib.sha256(record).digest()
    statement = DepositStatement(
        Header(account.tenant, account.user, account.device.id, account.api.clock.now()), record_hash
    )
    signed = sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=account.signing_key)
    answer = account.api.post("escrow/deposits", {"record": b64u(record), "statement": b64u(signed.encode())})
    if (answer.identifier("deposit_id"), answer.octets("record_hash")) != (deposit_id, record_hash):
        raise TrustRefused("The server acknowledged another deposit than the one sent.")
    generation.deposit_id, generation.record_hash = deposit_id, record_hash
    account.save()


def must_deposit_first(account: Account) -> bool:
    """Whether the policy forbids using a generation before its deposit is acknowledged."""
    return account.trusted.newest.policy.terms.deposits is DepositRule.ALL


def status(account: Account) -> Status:
    """Compare what this device deposited with what the server shows, and say where the person stands."""
    prepare(account)
    policy = account.trusted.newest.policy
    shown = {
        row.identifier("deposit_id"): row.octets("record_hash", 32)
        for row in account.api.get("escrow/deposits").many("deposits")
    }
    mine = {one.deposit_id: one for one in account.state.generations if one.deposit_id}
    missing = [one.number for one in mine.values() if shown.get(one.deposit_id) != one.record_hash]
    return Status(
        policy_version=policy.version,
        m=policy.m,
        n=policy.n,
        escrow_key_version=account.escrow_key.statement.version,
        consent=_consent_standing(account),
        generations=account.state.generations,
        missing_on_server=missing,
        foreign_on_server=_foreign(account, {key: shown[key] for key in shown.keys() - mine.keys()}),
    )


def _foreign(account: Account, unknown: dict[bytes, bytes]) -> list[UUID]:
    """Return the deposits in the person's name that none of her devices made."""
    if not unknown:
        return []
    subject = deposits.subject_of(account, account.user)
    foreign = []
    for deposit_id, record_hash in unknown.items():
        try:
            deposits.fetch(account, subject, deposit_id=deposit_id, record_hash=record_hash)
        except TrustRefused:
            foreign.append(UUID(bytes=deposit_id))
    return foreign


def _consent_standing(account: Account) -> str:
    if not account.state.consent:
        return "not asked"
    signed = Sign1.parse(account.state.consent)
    said = Consent.from_payload(signed.payload)
    if signed.kid != account.chain.aik.kid:
        return "not asked"
    if said.policy_hash != account.trusted.newest.hash or said.text_hash != _text_hash(account):
        return "for an older policy"
    return "given" if said.agreed else "refused"


def _text_hash(account: Account) -> bytes:
    return hashlib.sha256(consent_text(account).encode()).digest()


def _span(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {name}{'' if seconds == size else 's'}"
    return f"{seconds} seconds"
