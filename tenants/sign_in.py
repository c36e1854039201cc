# SPDX-License-Identifier: Apache-2.0
"""The second factor and the record of every sign-in, accepted or refused.

Implements ORGANISATION "Signing in" and FAULTS A1, A3, A13 (RFC 6238, one step either side, each code once).
Knows no session and no page; these are in `sessions` and `console`.
Specification: https://www.rfc-editor.org/rfc/rfc6238 section 4.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django_otp.oath import TOTP

from audit import services as audit
from holdfast.core.base import typed
from holdfast.core.base.encoding import label
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor, system_actor
from kernel.clock import SKEW, database_now
from kernel.queue import apart
from kernel.scope import resting, tenant_scope
from tenants import access, factors
from tenants.errors import CodeRefused, FactorsAway
from tenants.factors import Sealed
from tenants.limits import count_in_window, is_first
from tenants.models import Authenticator, Person, RecoveryCode
from tenants.session_store import end_sessions
from tenants.sponsors import let_in

log = logging.getLogger("holdfast.sign-in")

_CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)
_RECOVERY: Final = re.compile(r"[a-z2-7]{16}", re.ASCII)
_RECOVERY_GROUPS: Final = re.compile(r"(.{4})(?=.)")
TOTP_KEY_SIZE: Final = 20
# Characters of a code as it is typed or pasted: 16 signs of a recovery code, in groups, with marks of a chat between.
MAX_CODE: Final = 100
# Refused sign-ins of a tenant, and locks, that are entries of their own within an hour; more are one count. Anybody can
# cause them, and the log is kept for ever. People who mistype a password do not come near.
MAX_REFUSALS_LISTED: Final = 100
# django-otp doubles the wait after every wrong code, without end. Eight failures are four minutes: enough to make
# guessing hopeless, and an officer whose password was stolen is not kept out for a week.
_MOST_THROTTLED: Final = 8
# Of rows read at a time by the sweep that seals what is not sealed yet.
_BATCH: Final = 100
_NOT_OF_THEM: Final = "This is none of the new codes. Type one of them as you kept it; the codes of before still count."
_NOT_NOW: Final = "This code did not match, or was used before, also to sign in. Wait for the next one."
# How long a code that was used is remembered beyond its own time. A clock that is off by less lets none be used twice.
_SPENT: Final = timedelta(days=1)


def totp_code(key: SecretBytes, *, at: float) -> str:
    """Return the six digits that an authenticator with this key shows at `at` (UTC seconds). RFC 6238, 30 s, SHA-1."""
    return f"{_totp(key, at).token():06d}"


def seal_key(*, person: Person, key: SecretBytes) -> Sealed:
    """Seal a 20-byte key for `confirm_totp`: call it before a transaction is open. Raises FactorsAway."""
    if len(key) != TOTP_KEY_SIZE:
        raise ValueError("a one-time-code key has 20 bytes")
    return factors.seal(key, tenant_id=person.tenant_id, person_id=person.pk)


def confirm_totp(*, person: Person, key: SecretBytes, code: str, actor: Actor, sealed: Sealed | None = None) -> None:
    """Make a 20-byte key the person's only second factor, shown to be in their authenticator by its present code.

    The code is thereby spent; sessions verified by an older key are not verified any more. sealed: the same key from
    `seal_key`, to be made before any transaction is open. Raises CodeRefused, FactorsAway.
    """
    if len(key) != TOTP_KEY_SIZE:
        raise ValueError("a one-time-code key has 20 bytes")
    totp, code = _totp(key, time.time()), typed.ungrouped(code)
    if not _CODE.fullmatch(code) or not totp.verify(int(code), tolerance=Authenticator.TOLERANCE):
        raise CodeRefused("This is not the code that the authenticator shows now.", field="code")
    kept = sealed or seal_key(person=person, key=key)
    with transaction.atomic():
        Authenticator.objects.filter(user=person).delete()
        device = Authenticator.objects.create(
            user=person, name="authenticator", serial=kept.serial, sealed=kept.octets, last_t=totp.t()
        )
        _spend_step(device)
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:totp:confirm", actor=actor, subject=str(person.pk))


def make_recovery_codes(*, person: Person, actor: Actor) -> tuple[str, ...]:
    """Make ten codes, each of which stands in once for the authenticator; those before stop. Only hashes are kept."""
    with transaction.atomic():
        RecoveryCode.objects.filter(person=person).delete()
        return _make_codes(person, actor, is_waiting=False)


def _make_codes(person: Person, actor: Actor, *, is_waiting: bool) -> tuple[str, ...]:
    codes = tuple(
        _RECOVERY_GROUPS.sub(r"\1-", base64.b32encode(secrets.token_bytes(10)).decode().lower()) for _ in range(10)
    )
    RecoveryCode.objects.bulk_create(
        [RecoveryCode(person=person, code_hash=_recovery_hash(person, one), is_waiting=is_waiting) for one in codes]
    )
    audit.append(tag="tenants:recovery-code:make", actor=actor, subject=str(person.pk))
    return codes


def count_recovery_codes(person: Person) -> tuple[int, int]:
    """Count a person's recovery codes that were not used yet: those that count, and those that wait. One query.

    Codes wait that were made anew, until their person has shown that they have them.
    """
    unused = RecoveryCode.objects.filter(person=person, used_at=None)
    of_waiting = Counter(unused.values_list("is_waiting", flat=True))
    return of_waiting[False], of_waiting[True]


def authenticator_of(person: Person) -> Authenticator | None:
    """Return a person's authenticator, or None before they have one."""
    found: Authenticator | None = Authenticator.objects.filter(user=person, confirmed=True).first()
    return found


def renew_recovery_codes(*, person: Person, code: str, actor: Actor) -> tuple[str, ...]:
    """Make a person's recovery codes anew, as they confirm by a code of their authenticator, spent for this alone.

    They begin to count with `confirm_recovery_codes`: those before stay good until then, since a page that was never
    seen shows its codes to nobody. Others that waited stop. Raises FactorsAway; CodeRefused, also for a recovery code:
    whoever has found one must not make others of it.
    """
    opened = open_authenticator(person)
    with transaction.atomic():
        if opened is not None and accept_authenticator_code(person=person, code=code, opened=opened) is not None:
            RecoveryCode.objects.filter(person=person, is_waiting=True).delete()
            return _make_codes(person, actor, is_waiting=True)
    # Outside: a wrong code is counted, although nothing was done.
    raise CodeRefused(_NOT_NOW, field="code")


def confirm_recovery_codes(*, person: Person, code: str, actor: Actor) -> None:
    """Have the codes that wait count from now on, and those before no more, as the person shows that they have one.

    It is not used up by that. Raises CodeRefused for what is none of them, and where none wait.
    """
    typed_code = typed.ungrouped(code).lower()
    with transaction.atomic():
        waiting = RecoveryCode.objects.select_for_update().filter(person=person, is_waiting=True)
        hashes = {bytes(row.code_hash) for row in waiting}
        if _recovery_hash(person, typed_code) not in hashes:
            raise CodeRefused(_NOT_OF_THEM, field="new_code")
        RecoveryCode.objects.filter(person=person, is_waiting=False).delete()
        RecoveryCode.objects.filter(person=person).update(is_waiting=False)
        audit.append(tag="tenants:recovery-code:confirm", actor=actor, subject=str(person.pk))


def change_totp(
    *, person: Person, key: SecretBytes, code: str, new_code: str, keep_session: str, actor: Actor
) -> Authenticator:
    """Put a new 20-byte key in the place of a person's second factor, and end all their sessions but one.

    code: of the authenticator that goes, spent for this alone; no recovery code does. new_code: of the new one.
    keep_session: the key of the session that asks, whose caller binds it to what is returned. All or nothing. Raises
    FactorsAway; CodeRefused, whose field says for which.
    """
    opened, sealed = open_authenticator(person), seal_key(person=person, key=key)
    with transaction.atomic():
        if opened is not None and accept_authenticator_code(person=person, code=code, opened=opened) is not None:
            try:
                confirm_totp(person=person, key=key, code=new_code, actor=actor, sealed=sealed)
            except CodeRefused as error:
                raise CodeRefused(str(error.detail), field="new_code") from error
            end_sessions(person, actor=actor, keep=keep_session)
            made: Authenticator = Authenticator.objects.get(user=person, confirmed=True)
            return made
    raise CodeRefused(_NOT_NOW, field="code")


def _accept_recovery_code(person: Person, code: str) -> Authenticator | None:
    with tenant_scope(person.tenant_id), transaction.atomic():
        device: Authenticator | None = Authenticator.objects.filter(user=person, confirmed=True).first()
        counting = RecoveryCode.objects.filter(person=person, is_waiting=False)
        unused = counting.filter(code_hash=_recovery_hash(person, code), used_at=None)
        if device is None or unused.update(used_at=database_now()) != 1:
            return None
        audit.append(tag="tenants:recovery-code:use", actor=_signed_in(person), subject=str(person.pk))
    return device


def _recovery_hash(person: Person, code: str) -> bytes:
    # 80 random bits, tried at most some times a minute: a plain hash is enough, and a code moved to another person's
    # row fits nobody.
    return hashlib.sha256(
        label("recovery-code", person.tenant_id.bytes, person.pk.bytes, code.replace("-", ""))
    ).digest()


def open_authenticator(person: Person) -> Authenticator | None:
    """Return the person's authenticator with its key opened by the HSM, for `accept_code` in a transaction.

    One whose key is not sealed yet is sealed first, if that is possible. None where there is none, or where its key
    does not open for this person: then somebody changed the row. Raises FactorsAway.
    """
    device: Authenticator | None = Authenticator.objects.filter(user=person, confirmed=True).first()
    if device is None:
        return None
    # The person at hand, and no second query; a row that names another was not found above.
    device.user = person
    if device.unsealed is not None:
        try:
            _seal(device, Actor(person.tenant_id, "person", person.pk, person_id=person.pk, role=person.role))
        except FactorsAway as error:
            # It opens as it always has; the worker tries again.
            log.warning("an authenticator of tenant %s stays unsealed: %s", person.tenant_id, error.__cause__)
    try:
        device.open()
    except UnwrapFailed:
        log.critical(
            "tenant %s: the authenticator of %s does not open; somebody changed the row", person.tenant_id, person
        )
        return None
    return device


def accept_code(*, person: Person, code: str, opened: Authenticator | None = None) -> Authenticator | None:
    """Return the person's authenticator if `code` is its unspent code of now or one step either side, else None.

    An unused recovery code does as well, once, and asks no HSM.

    Nobody else's code will do, no code will do twice, and after a wrong one the next waits. All three also after this
    server's clock was ahead; and nothing that was done then keeps the person waiting until it would be right.

    opened: from `open_authenticator`, which is called here where it is not given: give it inside a transaction. Raises
    FactorsAway when the HSM is away: then nothing was spent, and no failure counted.
    """
    if is_recovery_code(code):
        return _accept_recovery_code(person, typed.ungrouped(code).lower())
    return accept_authenticator_code(person=person, code=code, opened=opened)


def accept_authenticator_code(
    *, person: Person, code: str, opened: Authenticator | None = None
) -> Authenticator | None:
    """Do what `accept_code` does, and take no recovery code: for what these never confirm."""
    code = typed.ungrouped(code)
    opened = opened or open_authenticator(person)
    if opened is None:
        return None
    with transaction.atomic():
        rows = Authenticator.objects.select_for_update().filter(user=person, confirmed=True, serial=opened.serial)
        device: Authenticator | None = rows.first()
        if device is None:
            return None
        device.opened = opened.opened
        _forget_the_future(device)
        if _CODE.fullmatch(code) and device.verify_token(code) and _spend_step(device):
            return device
        if device.throttling_failure_count > _MOST_THROTTLED:
            device.throttling_failure_count = _MOST_THROTTLED
            device.save(update_fields=["throttling_failure_count"])
    return None


def is_recovery_code(code: str) -> bool:
    """Tell whether this has the form of a recovery code, however it is grouped."""
    return _RECOVERY.fullmatch(typed.ungrouped(code).lower()) is not None


def reset_factors(*, person: Person, actor: Actor) -> None:
    """Take a person's password, authenticator and recovery codes away, and end their sessions; the caller tells them.

    They sign in again only by a new invitation. Whoever does this stands behind them as who invites them does.
    """
    with transaction.atomic():
        Authenticator.objects.filter(user=person).delete()
        RecoveryCode.objects.filter(person=person).delete()
        # Sessions, half sign-ins and links to a new password hang on it.
        person.set_unusable_password()
        person.save(update_fields=["password"])
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:totp:reset", actor=actor, subject=str(person.pk))


def count_unsealed() -> int:
    """Count, of all tenants, the authenticators whose keys are not sealed yet."""
    return int(Authenticator.objects.filter(sealed=None).count())


def seal_unsealed() -> int:
    """Seal the keys of authenticators from before keys were sealed, and return of how many.

    A tenant whose keys cannot be sealed now is left until the next round, and keeps no other waiting.
    """
    done, after, stuck = 0, 0, resting()
    while True:
        rows = Authenticator.objects.filter(sealed=None, pk__gt=after).select_related("user").order_by("pk")
        batch = list(rows[:_BATCH])
        for device in batch:
            tenant_id = device.user.tenant_id
            if tenant_id in stuck:
                continue
            stuck.add(tenant_id)
            with apart(tenant_id, "sealing authenticators"):
                done += _seal(device, system_actor(tenant_id, "worker"))
                stuck.discard(tenant_id)
        if len(batch) < _BATCH:
            return done
        after = batch[-1].pk


def _seal(device: Authenticator, actor: Actor) -> bool:
    """Seal the key of a row that has it unsealed; False when another process was first. Raises FactorsAway."""
    person = device.user
    key = SecretBytes(bytes(device.unsealed or b""))
    sealed = factors.seal(key, tenant_id=person.tenant_id, person_id=person.pk, serial=device.serial)
    with tenant_scope(person.tenant_id), transaction.atomic():
        waiting = Authenticator.objects.filter(pk=device.pk, sealed=None)
        if not waiting.update(sealed=sealed.octets, unsealed=None):
            return False
        audit.append(tag="tenants:totp:seal", actor=actor, subject=str(person.pk))
    device.sealed, device.unsealed, device.opened = sealed.octets, None, key
    return True


def _forget_the_future(device: Authenticator) -> None:
    """Let no time bar the person that this server's clock cannot have shown rightly (FAULTS W10a).

    django-otp takes only codes of later steps than the last, and counts a wait from the last failure. Both may lie in
    the future, if the clock was ahead when they were written.
    """
    now, last_t = timezone.now(), device.last_t
    present = int(now.timestamp()) // Authenticator.STEP_SECONDS
    if last_t > present + Authenticator.TOLERANCE + int(SKEW.total_seconds()) // Authenticator.STEP_SECONDS:
        # Which codes were used, `_spend_step` knows as well.
        device.last_t = present - Authenticator.TOLERANCE - 1
    failed_at = device.throttling_failure_timestamp
    if failed_at is not None and failed_at > now:
        device.throttling_failure_timestamp = now
    if (last_t, failed_at) != (device.last_t, device.throttling_failure_timestamp):
        # Kept, also when this code is refused: the wait would otherwise begin anew with every try.
        device.save(update_fields=["last_t", "throttling_failure_timestamp"])


def _spend_step(device: Authenticator) -> bool:
    """Use up the code of the authenticator's last step; False when it was used before, by whatever clock."""
    expires_at = datetime.fromtimestamp(device.last_t * Authenticator.STEP_SECONDS, UTC) + _SPENT
    return is_first(f"totp:{device.pk}", device.last_t, expires_at=expires_at)


def record_accepted(*, person: Person, source: str) -> Actor:
    """Write down a completed sign-in, and return the actor it makes."""
    actor = _signed_in(person)
    _record("tenants:sign-in:accept", actor, str(person.pk), {"source": source})
    return actor


def record_refused(*, tenant_id: UUID, person: Person | None, step: str, source: str, locked: bool) -> None:
    """Write down a refused sign-in, or the lock that it set off, in the log of the tenant named.

    A storm is written down as its beginning and its size.
    """
    actor = Actor(tenant_id, "anonymous", None, name="sign-in")
    with tenant_scope(tenant_id), transaction.atomic():
        audit.append_first(
            tag="tenants:sign-in:lock" if locked else "tenants:sign-in:refuse",
            actor=actor,
            subject=str(person.pk) if person else "",
            body={"source": source, "step": step},
            most=MAX_REFUSALS_LISTED,
            all_subjects=True,
        )


def record_step_up_refused(*, actor: Actor) -> None:
    """Write down that a code did not confirm an act; a storm as its beginning and its size."""
    with transaction.atomic():
        audit.append_first(
            tag="tenants:step-up:refuse",
            actor=actor,
            subject=str(actor.person_id),
            body={},
            most=MAX_REFUSALS_LISTED,
            all_subjects=True,
        )


def record_refused_nowhere(*, source: str) -> None:
    """Count a refused sign-in to a tenant that there is not, or that is not active: there is no log to write it to.

    Two statements and one commit, as `record_refused` has for the refusals that it lists, and one beyond as many: how
    long a refusal takes says nothing about tenants.
    """
    with transaction.atomic():
        count, _ = count_in_window(f"sign-in-nowhere:{source}", seconds=3600)
        if count <= MAX_REFUSALS_LISTED:
            count_in_window("sign-in-nowhere", seconds=3600)


def record_sign_out(*, person: Person) -> None:
    """Write down that a person ended their session."""
    _record("tenants:sign-out:accept", _signed_in(person), str(person.pk), {})


def _signed_in(person: Person) -> Actor:
    return Actor(person.tenant_id, "person", person.pk, person_id=person.pk, role=person.role)


def _record(tag: str, actor: Actor, subject: str, body: dict[str, str | int | bytes]) -> None:
    assert actor.tenant_id is not None
    with tenant_scope(actor.tenant_id), transaction.atomic():
        audit.append(tag=tag, actor=actor, subject=subject, body=body)


def _totp(key: SecretBytes, at: float) -> TOTP:
    totp = TOTP(key.reveal(), step=30, t0=0, digits=6, drift=0)
    totp.time = at
    return totp
