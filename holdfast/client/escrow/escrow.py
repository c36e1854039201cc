# SPDX-License-Identifier: Apache-2.0
"""Putting archive keys into escrow: the person's consent first, then one deposit for each generation.

Implements ESCROW "Deposit" and "The user's side" and FAULTS F3, F7 and F8 on the client.
Does not fetch keys to deposit to: only what `tenant.accept_escrow_key` took is ever used.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import ConsentNeeded, NotYet, Problem, TrustRefused
from holdfast.client.escrow import deposits
from holdfast.client.identity import chains, tenant
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import Fields, b64u, decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.deposit import DepositTerms, build_deposit
from holdfast.core.identity.cases import Case
from holdfast.core.identity.policy import NEVER, DepositRule
from holdfast.core.identity.policy_change import change_of, in_words, taking_back, text_box
from holdfast.core.identity.trust import pin_words
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from holdfast.core.signed.statements import Consent, DepositStatement

# Under which policy and escrow key everything here is in escrow; and the cases whose openings were taken note of.
_UNDER: Final = ("escrow", b"under")
_OPENED: Final = "opened-case"
_RECEIPTED: Final = "receipted-deposit"
# Since when this device has waited for a deposit's receipt; the generations whose deposit was given up, and why, until
# the person is told; and those given up once already for want of a receipt, until there is one.
_WAITING: Final = "waiting-deposit"
_GIVEN_UP: Final = "copied-deposit"
_MADE_AGAIN: Final = "deposit-made-again"
_IS_COPIED: Final = SecretBytes(b"\x01")
_IS_UNSIGNED: Final = SecretBytes(b"\x02")
# The release process signs within a minute. One that is out of order for a day has been noticed, and a new deposit
# costs nothing; without an end, a server that hides a refusal could keep a person believing for ever.
RECEIPT_WITHIN_SECONDS: Final = 86_400
_DEPOSIT_REPEATED: Final = "deposit-repeated"
_GENERATION_SEALED: Final = "generation-sealed"
# Of a server that does not say when a case was collected. The recipient may have the keys in each of these: one who
# says that shares are missing may lie.
_OPENED_STATES: Final = frozenset({"released", "collected", "awaiting-share", "rotated", "sealed", "closed"})

# The wording is fixed: what a tenant or a server could write here would be read as the product's own word. What the
# tenant has to say stands below, in a box.
_TEXT = """Escrow of your archive keys
  Who:     any {m} of these {n} officers of your organisation, together with its hardware security module,
           can open your archive keys. One officer alone cannot; the server alone cannot.
  What:    your message archive of the generations deposited. Not your identity: nobody can write in your name.
  When:    after an officer-approved case, {delay} after the last approval needed. You are told of every case{notice}.
  Devices: if you lose all of them, this is how your archive comes back, and your account begins again.
  Keep:    what is deposited stays deposited, also if you change your mind later.
{back}  Tenant:  {words}
"""
# Said only where the policy has the term: the text of every other policy stays the one that people have agreed to.
_AGAIN: Final = "You are asked anew when officers publish another version."
_BACK: Final = "  No:      your yes {rule}.\n"


@dataclass(frozen=True)
class Status:
    """Where a person stands. consent: "given", "refused", "for an older policy" or "not asked".

    stale: generations in escrow under an older policy or escrow key only, until they are deposited again.
    without_receipt: those for whose deposit the release process has not signed yet, which it does within a minute.
    readable: what officers could read as of today: the generations of every deposit of the person's devices that the
    server shows, and of this device's own. consent_bound_until: as `bound_until` has it.
    """

    policy_version: int
    m: int
    n: int
    escrow_key_version: int
    consent: str
    generations: list[Generation]
    stale: list[int]
    missing_on_server: list[int]
    foreign_on_server: list[UUID]
    without_receipt: list[int]
    readable: list[int]
    consent_bound_until: int


def prepare(account: Account) -> None:
    """Bring policy and escrow key up to date, all held to the pin.

    Raises TrustRefused, and NotYet in an organisation that has not both yet.
    """
    tenant.refresh(account)
    trust = account.state.trust
    if not (trust.policies and trust.escrow_keys):
        raise NotYet(
            "Your organisation's escrow is not set up yet: its officers sign a policy, then a ceremony makes its key.",
            way_out="Until then nothing of yours is in escrow. Make a way back of your own: holdfast backup --help",
        )


def consent_text(account: Account) -> str:
    """Return the text that a person agrees to, for the policy now known; the tenant's own in a box below it."""
    box = text_box(account.trusted.newest.policy.terms)
    return _own_text(account) + "".join(f"  {line}\n" for line in box)


def _own_text(account: Account) -> str:
    policy = account.trusted.newest.policy
    late = policy.terms.max_notice_delay_seconds
    return _TEXT.format(
        m=policy.m,
        n=policy.n,
        delay=_span(policy.terms.delay_seconds),
        notice=f", at most {_span(late)} later" if late else " at once",
        back=_BACK.format(rule=taking_back(policy.terms)) if policy.terms.consent_binds_seconds else "",
        words=" ".join(pin_words(account.state.trust.pin)),
    )


def has_consented(account: Account) -> bool:
    """Whether this identity has agreed to the newest policy in the wording of today."""
    return _consent_standing(account) == "given"


def consent(account: Account, *, agreed: bool = True) -> bytes:
    """Sign and publish the person's answer to the newest policy; returns its hash.

    To be called on the person's own act only: nothing a server says may lead here by itself (FAULTS F3). Raises
    NotYet for a yes that cannot be taken back while its version stands, Problem for one that cannot yet.
    """
    # For a while only the server says how long: it knows when the person first said it, on whichever device.
    if not agreed and bound_until(account) == NEVER:
        raise NotYet(
            f"Your yes {taking_back(account.trusted.newest.policy.terms)}. Nothing was changed.", way_out=_AGAIN
        )
    statement = Consent(
        header=account.header(),
        policy_hash=account.trusted.newest.hash,
        text_hash=text_hash(account),
        agreed=agreed,
    )
    signed = sign(statement.to_payload(), purpose=Purpose.CONSENT, key=account.identity_key)
    account.api.post("statements", {"statement": b64u(signed.encode())})
    account.state.consent = signed.encode()
    account.save()
    return signed.payload_hash


def bound_until(account: Account) -> int:
    """Return when the person can take their yes to the newest policy back, at the latest.

    UTC seconds; 0 where nothing binds them, NEVER for not at all. A yes that was said again after a rotation counts
    from when it was first said, as the server knows.
    """
    if not account.state.consent:
        return 0
    said, newest = Consent.from_payload(Sign1.parse(account.state.consent).payload), account.trusted.newest
    is_bound = said.agreed and said.policy_hash == newest.hash and newest.policy.terms.consent_binds_seconds
    return newest.policy.terms.bound_until(said.header.issued_at) if is_bound else 0


def due(account: Account) -> list[Generation]:
    """Return the archive keys of this device that should be deposited: those not in escrow yet, and the stale ones."""
    missing = [kept for kept in account.state.generations if not kept.deposit_id and not kept.is_exposed]
    return [*missing, *_stale(account)]


def asks_again(account: Account) -> bool:
    """Whether the person agreed to escrow before, and the policy has changed since: only they can say it again."""
    return _consent_standing(account) == "for an older policy"


def what_changed(account: Account) -> list[str]:
    """Say in words what the newest policy changes of the one that the person last answered; nothing without an answer.

    From the signed versions alone, as the officers read it before they signed.
    """
    if not account.state.consent:
        return []
    answered = Consent.from_payload(Sign1.parse(account.state.consent).payload).policy_hash
    trusted, newest = account.trusted, account.trusted.newest
    known = next((signed.policy for signed in trusted.policies if signed.hash == answered), None)
    before = [signed for signed in trusted.standing if signed.policy.version < newest.policy.version]
    if known is None or not before or answered == newest.hash:
        return []
    change = change_of(
        newest.policy,
        versions=before,
        published=[signed.policy.header.issued_at for signed in before],
        signers=newest.signers,
        since=known,
        at=newest.policy.header.issued_at,
    )
    return in_words(change, at=account.api.clock.now(), is_published=True)


def deposit_missing(account: Account) -> list[Generation]:
    """Deposit every archive key that is `due`; returns those deposited now.

    One that the server has sealed, since a case opened it, is marked exposed and keeps no other out of escrow. What
    another device of the person has deposited under the policy and key of now is taken over as it is. Raises
    ConsentNeeded without the person's yes to the newest policy, NotPossible when policy or key have run out.
    """
    if not has_consented(account):
        raise ConsentNeeded(
            "Your organisation's escrow policy has changed since you agreed to it."
            if asks_again(account)
            else "Your consent to the escrow of your archive keys is missing.",
            way_out="Read it and decide: holdfast escrow deposit",
        )
    tenant.require_in_force(account)
    state = chains.refresh(account)
    announced = {generation.generation: generation.commitment for generation in state.generations} if state else {}
    done = []
    for generation in due(account):
        if announced.get(generation.number) != generation.commitment:
            continue  # made here and never announced: this device was stopped, or another was first
        if not (generation.deposit_id and _take_over(account, generation)) and _deposit(account, generation):
            done.append(generation)
    account.store.put(*_UNDER, _under(account))
    return done


def _under(account: Account) -> SecretBytes:
    return SecretBytes(encode([account.trusted.newest.hash, account.escrow_key.hash]))


def _stale(account: Account) -> list[Generation]:
    """Return what was deposited under another policy or escrow key than those of now, before it was renewed."""
    kept = account.store.get(*_UNDER)
    if kept is None:
        first = account.trusted.newest.policy.version == account.escrow_key.statement.version == 1
        is_renewed = first
    else:
        is_renewed = kept == _under(account)
    deposited = [kept for kept in account.state.generations if kept.deposit_id and not kept.is_exposed]
    return [] if is_renewed else deposited


def _take_over(account: Account, generation: Generation) -> bool:
    """Take over a deposit of this generation under the policy and key of now, if a device of the person made one."""
    shown = [
        (row.identifier("deposit_id"), row.octets("record_hash", 32))
        for row in account.api.pages("escrow/deposits", "deposits", "deposit_id")
        if row.number("generation") == generation.number and not _is_refused(row)
    ]
    subject = deposits.subject_of(account, account.user)
    for deposit_id, record_hash in shown:
        try:
            found = deposits.fetch(account, subject, deposit_id=deposit_id, record_hash=record_hash)
        except TrustRefused:
            continue  # `status` names it
        header = found.deposit.header
        now = (account.trusted.newest.hash, account.escrow_key.hash)
        if (header.policy_hash, header.escrow_key_hash) == now and not found.is_from_revoked:
            generation.deposit_id, generation.record_hash = deposit_id, record_hash
            account.save()
            return True
    return False


def note_openings(account: Account) -> list[int]:
    """Mark the archive keys that cases have opened, and return the generations newly marked.

    The server's word is enough here, as it can make this device no less careful: a marked key is not used again, and
    is followed by a fresh one (FAULTS F22). Each case is looked at once.
    """
    marked = []
    for case_id in _list_new_openings(account):
        answer = account.api.get(f"cases/{UUID(bytes=case_id)}")
        case = Case.from_payload(Sign1.parse(answer.octets("statement")).payload)
        numbers = {_generation_of(account, *deposit) for deposit in case.deposits}
        with account.store.transaction():
            for generation in account.state.generations:
                if generation.number in numbers and not generation.is_exposed:
                    generation.is_exposed = True
                    marked.append(generation.number)
            account.store.put(_OPENED, case_id, SecretBytes(b"\x01"))
            account.save()
    return sorted(marked)


def _list_new_openings(account: Account) -> Iterator[bytes]:
    for row in account.api.pages("cases", "cases", "case_id"):
        case_id = row.identifier("case_id")
        if row.identifier("subject") != account.user or account.store.get(_OPENED, case_id) is not None:
            continue
        # What was collected stays opened, however the case ends.
        if row.text("state") in _OPENED_STATES or ("collected_at" in row and row.text("collected_at")):
            yield case_id


def _generation_of(account: Account, deposit_id: bytes, record_hash: bytes) -> int:
    for generation in account.state.generations:
        if generation.deposit_id == deposit_id:
            return generation.number
    # Deposited by another device, or before it was renewed.
    subject = deposits.subject_of(account, account.user)
    return deposits.fetch(account, subject, deposit_id=deposit_id, record_hash=record_hash).generation


def give_back(account: Account) -> list[int]:
    """Say the person's answer once more to a server that was put back and lost it, and note which deposits it lost.

    Returns the generations of these: they are `due` from now on, with fresh halves, since the release process remembers
    those of before. To be called while officers' acceptance of a backup heals (`restored.is_healing`), and once for
    each: a server that hides deposits again and again gets no more of them.
    """
    prepare(account)
    _repeat_consent(account)
    shown = {
        row.identifier("deposit_id"): row.octets("record_hash", 32)
        for row in account.api.pages("escrow/deposits", "deposits", "deposit_id")
        if not _is_refused(row)
    }
    lost = [
        kept
        for kept in account.state.generations
        if kept.deposit_id and not kept.is_exposed and shown.get(kept.deposit_id) != kept.record_hash
    ]
    for kept in lost:
        with account.store.transaction():
            for kind in (_RECEIPTED, _WAITING):
                account.store.delete(kind, kept.deposit_id)
            kept.deposit_id = kept.record_hash = b""
            account.save()
        # Another device of the person may have made one anew.
        _take_over(account, kept)
    return [kept.number for kept in lost if not kept.deposit_id]


def _repeat_consent(account: Account) -> None:
    """Send the person's answer as it was signed, unless the server has it or a later one."""
    if not account.state.consent:
        return
    signed = Sign1.parse(account.state.consent)
    said = Consent.from_payload(signed.payload)
    if (signed.kid, said.policy_hash) != (account.chain.aik.kid, account.trusted.newest.hash):
        return  # the server takes no other; the person is asked anew
    for row in account.api.pages("statements", "statements", "hash", query={"purpose": "consent"}):
        known = Consent.from_payload(Sign1.parse(row.octets("statement")).payload)
        if known.policy_hash == said.policy_hash and known.order >= said.order:
            return
    account.api.post("statements", {"statement": b64u(account.state.consent)})


def take_back(account: Account) -> None:
    """Give up this device's deposits that count for nothing, so that `due` lists them; `given_up` names them.

    The release process has refused them, since another had their half first; or it has not signed for a day, which
    gives up each generation once: where a new deposit gets no receipt either, the process is away, and more would only
    pile up.
    """
    waiting = {
        kept.deposit_id: kept
        for kept in account.state.generations
        if kept.deposit_id and not kept.is_exposed and account.store.get(_RECEIPTED, kept.deposit_id) is None
    }
    if not waiting:
        return
    for row in account.api.pages("escrow/deposits", "deposits", "deposit_id"):
        kept = waiting.get(row.identifier("deposit_id"))
        if kept is None or row.octets("record_hash", 32) != kept.record_hash or _is_receipted(account, kept, row):
            continue
        # The server's word is enough: it makes this device only more careful.
        if _is_refused(row):
            _give_up(account, kept, _IS_COPIED)
        elif (
            _waited(account, kept.deposit_id) > RECEIPT_WITHIN_SECONDS
            and account.store.get(_MADE_AGAIN, _number(kept)) is None
        ):
            _give_up(account, kept, _IS_UNSIGNED)


def _give_up(account: Account, kept: Generation, why: SecretBytes) -> None:
    with account.store.transaction():
        _note_given_up(account, kept, why)
        if why == _IS_UNSIGNED:
            account.store.put(_MADE_AGAIN, _number(kept), SecretBytes(b"\x01"))
        account.store.delete(_WAITING, kept.deposit_id)
        kept.deposit_id = kept.record_hash = b""
        account.save()


def given_up(account: Account) -> list[tuple[str, str]]:
    """Return what a person has to be told of deposits that were given up, and what they are to do; each once."""
    found = {name: account.store.get(_GIVEN_UP, name) for name in account.store.keys(_GIVEN_UP)}
    for name in found:
        account.store.delete(_GIVEN_UP, name)
    return [_say_given_up(int.from_bytes(name, "big"), found[name] == _IS_UNSIGNED) for name in sorted(found)]


def _say_given_up(number: int, is_unsigned: bool) -> tuple[str, str]:
    if is_unsigned:
        return (
            f"Nobody has signed for your deposit of generation {number} within a day. A new one is made, this once.",
            "Should it have no receipt tomorrow (holdfast escrow status), tell your officers: the release process is "
            "away, or somebody on the server keeps the receipt back.",
        )
    return (
        f"Your deposit of generation {number} does not count: its half stood in another's deposit first. It opens "
        "nothing by itself, and a new deposit is made.",
        "Tell your officers: somebody on the server may have copied it on its way.",
    )


def _number(generation: Generation) -> bytes:
    return generation.number.to_bytes(4, "big")


def _is_refused(row: Answer) -> bool:
    # A server of before says nothing of it.
    return "refused" in row and row.flag("refused")


def _note_given_up(account: Account, generation: Generation, why: SecretBytes) -> None:
    account.store.put(_GIVEN_UP, _number(generation), why)


def _waited(account: Account, deposit_id: bytes) -> int:
    """Return for how many seconds this device has waited for a deposit's receipt, by its own clock."""
    now = account.api.clock.now()
    kept = account.store.get(_WAITING, deposit_id)
    if kept is None:
        account.store.put(_WAITING, deposit_id, SecretBytes(encode({1: now})))
        return 0
    since = Fields(decode(kept.reveal()), "waiting deposit", (1,)).uint(1)
    if since > now + MAX_AHEAD_SECONDS:
        # Since what is the future now: a clock was ahead.
        account.store.put(_WAITING, deposit_id, SecretBytes(encode({1: now})))
    return max(0, now - since)


def _deposit(account: Account, generation: Generation) -> bool:
    """Deposit one key; once more, with fresh halves, when its half is in custody already: it was copied on its way.

    Returns False where the generation is sealed: a case has opened it, and it is used no more.
    """
    try:
        _deposit_once(account, generation)
    except Problem as problem:
        if problem.code == _GENERATION_SEALED:
            # The server's word is enough: it makes this device only more careful.
            generation.is_exposed = True
            account.save()
            return False
        if problem.code != _DEPOSIT_REPEATED:
            raise
        _note_given_up(account, generation, _IS_COPIED)
        _deposit_once(account, generation)
    return True


def _deposit_once(account: Account, generation: Generation) -> None:
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
    statement = DepositStatement(account.header(), record_hash)
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
    rows = {row.identifier("deposit_id"): row for row in account.api.pages("escrow/deposits", "deposits", "deposit_id")}
    shown = {deposit_id: row.octets("record_hash", 32) for deposit_id, row in rows.items()}
    mine = {kept.deposit_id: kept for kept in account.state.generations if kept.deposit_id}
    missing = [kept.number for kept in mine.values() if shown.get(kept.deposit_id) != kept.record_hash]
    others, foreign = _others(account, {key: shown[key] for key in shown.keys() - mine.keys()})
    return Status(
        policy_version=policy.version,
        m=policy.m,
        n=policy.n,
        escrow_key_version=account.escrow_key.statement.version,
        consent=_consent_standing(account),
        generations=account.state.generations,
        stale=[generation.number for generation in _stale(account)],
        missing_on_server=missing,
        foreign_on_server=foreign,
        without_receipt=[
            kept.number
            for kept in mine.values()
            if shown.get(kept.deposit_id) == kept.record_hash
            and not _is_receipted(account, kept, rows[kept.deposit_id])
        ],
        # What the server hides has not gone from it: this device's own word counts.
        readable=sorted({kept.number for kept in mine.values()} | others),
        consent_bound_until=bound_until(account),
    )


def _is_receipted(account: Account, kept: Generation, row: Answer) -> bool:
    """Whether the release process has signed for a deposit of this device. What was found once is remembered."""
    if account.store.get(_RECEIPTED, kept.deposit_id) is not None:
        return True
    if "receipt" not in row:
        return False
    subject = deposits.subject_of(account, account.user)
    found = deposits.fetch(account, subject, deposit_id=kept.deposit_id, record_hash=kept.record_hash)
    if not deposits.has_receipt(account, found, row.octets("receipt")):
        return False
    account.store.put(_RECEIPTED, kept.deposit_id, SecretBytes(b"\x01"))
    account.store.delete(_WAITING, kept.deposit_id)
    account.store.delete(_MADE_AGAIN, _number(kept))
    return True


def _others(account: Account, unknown: dict[bytes, bytes]) -> tuple[set[int], list[UUID]]:
    """Return the generations that other devices of the person deposited, or this one before it renewed them.

    And the deposits in the person's name that none of their devices made.
    """
    generations: set[int] = set()
    foreign = []
    subject = deposits.subject_of(account, account.user) if unknown else None
    for deposit_id, record_hash in unknown.items():
        assert subject is not None
        try:
            found = deposits.fetch(account, subject, deposit_id=deposit_id, record_hash=record_hash)
        except TrustRefused:
            foreign.append(UUID(bytes=deposit_id))
        else:
            generations.add(found.generation)
    return generations, foreign


def _consent_standing(account: Account) -> str:
    if not account.state.consent:
        return "not asked"
    signed = Sign1.parse(account.state.consent)
    said = Consent.from_payload(signed.payload)
    if signed.kid != account.chain.aik.kid:
        return "not asked"
    if said.policy_hash != account.trusted.newest.hash or said.text_hash != text_hash(account):
        return "for an older policy"
    return "given" if said.agreed else "refused"


def text_hash(account: Account) -> bytes:
    """Return SHA-256 of the text that a person agrees to, for the policy now known: field 8 of a consent."""
    # Without the tenant's text: that is in the policy, whose hash stands beside this one.
    return hashlib.sha256(_own_text(account).encode()).digest()


def _span(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {name}{'' if seconds == size else 's'}"
    return f"{seconds} seconds"
