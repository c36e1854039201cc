# SPDX-License-Identifier: Apache-2.0
"""From the pin to the tenant's officers and escrow key, at every refresh by the same path.

Implements FAULTS F1 to F5, S1 to S3 and S15 for a client; ESCROW "Keys".
Does not ask for consent: a key accepted here is known, and used only under the person's own yes (`escrow`).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Final

from holdfast.client.errors import AnswerRefused, NotPossible, Problem, TrustRefused
from holdfast.client.profile.account import Account, read_many, root_key_of
from holdfast.client.profile.state import Trust
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import MAX_BLOB, MAX_STATEMENT
from holdfast.core.base.errors import HoldfastError, Untrusted
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.policy import SignedPolicy, verify_founding
from holdfast.core.identity.roles import Roles, verify_roles
from holdfast.core.identity.trust import (
    Ending,
    SignedTenantKey,
    find_ending,
    pin_words,
    root_pin,
    verify_escrow_keys,
    verify_tenant,
)
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.enrolment import founding_root
from holdfast.core.signed.statements import EscrowKey

_KEY: Final = "escrow/key"
_LOOK_INTO = (
    "Do not go on. Show this to your security officers: somebody answers in your server's name, or a pin is wrong."
)


# Of policies or escrow keys that are read: one a week for nineteen years.
_MOST_VERSIONS: Final = 1000


@dataclass(frozen=True)
class TrustChange:
    """What a refresh brought: words of the pin, and the versions known before (0 for none) and now.

    is_founding: the tenant has no policy yet; the words are those of its root alone, until this person signs one.
    is_another: the founders published another first policy than the one that this person had signed.
    """

    pin_words: tuple[str, ...]
    is_tofu: bool
    is_founding: bool
    is_another: bool
    policy_before: int
    policy_now: int
    key_before: int
    key_now: int


def pin_root(account: Account, *, pin: bytes, is_development: bool, root: bytes = b"") -> None:
    """Pin the tenant's root as a code names it; without one (b""), the next refresh takes what it meets, marked.

    root: 32 bytes in place of the pin, of a code from a tenant that is being founded; the pin follows once its first
    policy was signed. Raises TrustRefused when this profile is pinned to another root already.
    """
    trust = account.state.trust
    if root:
        _expect_root(account, root)
        trust.is_development = trust.is_development or is_development
        return
    if trust.pin and pin and not hmac.compare_digest(trust.pin, pin):
        raise TrustRefused("The enrolment code names another root than the one pinned here.", way_out=_LOOK_INTO)
    if pin:
        # A pin that came from a person also vouches for one that was taken on first use.
        trust.pin, trust.is_tofu = pin, False
    elif not trust.pin:
        trust.is_tofu = True
    trust.is_development = trust.is_development or is_development


def _expect_root(account: Account, root: bytes) -> None:
    trust = account.state.trust
    known = trust.founding_root
    if trust.root_key:
        known = founding_root(account.tenant, root_key_of(trust.root_key))
    if known not in (None, root):
        raise TrustRefused("The enrolment code names another root than the one known here.", way_out=_LOOK_INTO)
    if not trust.pin:
        trust.founding_root = root


def complete_founding_trust(account: Account, root_key: PublicKey, policy: SignedPolicy) -> None:
    """Pin the root with the first policy, as this person has just signed it; from here on the profile holds to both.

    Until a policy is published, signing another one pins to that. Done again, it changes nothing. Raises TrustRefused
    for another root than the founding code named, or once a policy was published or pinned otherwise.
    """
    trust, pin = account.state.trust, root_pin(account.tenant, root_key, policy.hash)
    if trust.pin == pin:
        return
    if trust.founding_root is None:
        raise TrustRefused("This profile is pinned to another root, or to another first policy.", way_out=_LOOK_INTO)
    require_root(account, root_key)
    # The root that the code names is kept beside the pin: the founders may yet agree on a policy without this person.
    trust.pin, trust.root_key = pin, root_key.encoded
    account.save()


def require_root(account: Account, root_key: PublicKey) -> None:
    """Raise TrustRefused for another root than the founding code of this profile names."""
    named = account.state.trust.founding_root
    if named is not None and not hmac.compare_digest(founding_root(account.tenant, root_key), named):
        raise TrustRefused("The tenant root is not the one that your enrolment code names.", way_out=_LOOK_INTO)


def refresh(account: Account) -> TrustChange:
    """Fetch policies, escrow keys and the log's keys, hold all to the pin and to what was seen, and keep the newest.

    Raises TrustRefused when anything does not follow, and what the connection raises; nothing is then changed.
    """
    trust = account.state.trust
    before = (len(trust.policies), len(trust.escrow_keys))
    policies = _published(account, "escrow/policy", known=trust.policies)
    root, keys = trust.founding_root, None
    held = (trust.pin, trust.root_key)
    if root is not None:
        # Where a founding code named the root alone, a first policy that this person did not sign is believed with the
        # escrow key that names it: the root has signed that.
        keys = _published(account, _KEY, known=trust.escrow_keys)
    with _all_or_nothing(trust):
        if policies is not None:
            _accept_policies(account, *policies, is_vouched=root is None or keys is not None)
        follow_log_keys(account)
        if root is None:
            keys = _published(account, _KEY, known=trust.escrow_keys)
        if keys is not None and trust.policies:
            accept_escrow_key(account, keys[0])
    account.save()
    return TrustChange(
        pin_words=pin_words(trust.pin or trust.founding_root or b""),
        is_tofu=trust.is_tofu,
        is_founding=trust.founding_root is not None,
        is_another=bool(root is not None and trust.policies and held[0] and trust.pin != held[0]),
        policy_before=before[0],
        policy_now=len(trust.policies),
        key_before=before[1],
        key_now=len(trust.escrow_keys),
    )


@contextmanager
def _all_or_nothing(trust: Trust) -> Iterator[None]:
    """Put back what was known unless all is done: whatever stops it, the next save would keep the half of it."""
    known = replace(trust)
    try:
        yield
    except BaseException:
        for one in fields(trust):
            setattr(trust, one.name, getattr(known, one.name))
        raise


def endings(account: Account) -> Iterator[Ending]:
    """Name what runs out within 30 days, or has, by the later of this machine's clock and the server's."""
    now, trust = account.api.clock.latest(), account.state.trust
    # Neither is there while a tenant is being founded.
    headers = {
        **({"escrow policy": account.trusted.newest.policy.header} if trust.policies else {}),
        **({"escrow key": account.escrow_key.statement.header} if trust.policies and trust.escrow_keys else {}),
    }
    yield from filter(None, (find_ending(what, header, now) for what, header in headers.items()))


def words_of(ending: Ending) -> tuple[str, str]:
    """Say what runs out, or has, and what a person can do."""
    day = datetime.fromtimestamp(ending.at, UTC).date()
    said = f"ran out on {day}" if ending.has_ended else f"runs out on {day}"
    nothing = "Nothing is deposited any more" if ending.is_over else "Nothing is deposited 30 days after it has run out"
    return (
        f"Your organisation's {ending.what} {said}.",
        f"Tell your officers to sign a new one. {nothing}. What is in escrow stays, and can be released.",
    )


def require_in_force(account: Account) -> None:
    """Raise NotPossible when the policy or the escrow key ran out more than 30 days ago: nothing is sealed to it."""
    for ending in endings(account):
        if ending.is_over:
            raise NotPossible(
                f"Your organisation's {ending.what} has run out, and its grace period with it.",
                way_out="Nothing is lost: what is deposited stays. Tell your officers to sign a new one.",
            )


def accept_escrow_key(account: Account, history: list[bytes]) -> SignedTenantKey[EscrowKey]:
    """Take the newest escrow key if root and officers signed every version up to it. The one path for all keys.

    history: every version's statement, oldest first. Raises TrustRefused, and keeps what was accepted before.
    """
    known = account.state.trust.escrow_keys
    seen = account.escrow_key if known else None
    if seen and history == known:
        return seen
    try:
        keys = verify_escrow_keys([read_many(statement) for statement in history], trusted=account.trusted, seen=seen)
    except HoldfastError as error:
        raise TrustRefused(f"The escrow key is not to be trusted: {error}.", way_out=_LOOK_INTO) from error
    if not keys:
        raise TrustRefused("The server shows no escrow key.", way_out=_LOOK_INTO)
    account.state.trust.escrow_keys = history
    return keys[-1]


def _published(account: Account, path: str, *, known: list[bytes]) -> tuple[list[bytes], Answer] | None:
    """Return a history, or None of a tenant that is being founded and has published nothing of it yet."""
    trust = account.state.trust
    try:
        return _history(account, path)
    except Problem as problem:
        # What was there once is missed; so is a policy that a pin names. A key comes after the policy: until it does,
        # nothing can be deposited, and nothing is believed for want of it.
        has_none = path == _KEY or trust.founding_root is not None or (trust.root_key and not trust.policies)
        if problem.code != "escrow-off" or known or not has_none:
            raise
        return None


def _accept_policies(account: Account, history: list[bytes], answer: Answer, *, is_vouched: bool) -> None:
    """Take the policies that lead from the pin; in a founding, from what was signed here or is vouched for by a key."""
    trust = account.state.trust
    root_key = answer.octets("root_key", maximum=128)
    withdrawals = answer.many_octets("withdrawals", maximum=_MOST_VERSIONS) if "withdrawals" in answer else []
    known = (trust.policies, trust.withdrawals or [], trust.root_key)
    if trust.pin and (history, withdrawals, root_key) == known:
        return  # what is kept here already, to the byte: `account.trusted` verifies it, once in a process
    try:
        if trust.root_key and trust.root_key != root_key:
            raise TrustRefused("The server names another tenant root than the one pinned.", way_out=_LOOK_INTO)
        pin = trust.pin
        require_root(account, root_key_of(root_key))
        if trust.founding_root is not None or (trust.is_tofu and not pin):
            founding = verify_founding(read_many(history[0]), tenant=account.tenant)
            pin = root_pin(account.tenant, root_key_of(root_key), founding.hash)
        if pin != trust.pin and not is_vouched:
            return
        verified = verify_tenant(
            [read_many(statement) for statement in history],
            tenant=account.tenant,
            root_key=root_key_of(root_key),
            pin=pin,
            is_development=trust.is_development,
            seen=account.trusted.policies[-1] if trust.policies else None,
            # What was believed before the rule of field 12 is believed after it.
            early=len(trust.policies),
            withdrawals=[read_many(statement) for statement in withdrawals],
        )
    except HoldfastError as error:
        raise TrustRefused(f"The policy is not to be trusted: {error}.", way_out=_LOOK_INTO) from error
    account.trust_tenant(verified, pin=pin, root_key=root_key, policies=history, withdrawals=withdrawals)
    trust.founding_root = None


def follow_log_keys(account: Account) -> None:
    """Take the root's newest word on whose keys write and sign the logs, and hold the code's log key to it.

    Nothing is saved. Raises TrustRefused when it does not follow; what was known then stays.
    """
    trust = account.state.trust
    if not trust.root_key:
        return
    try:
        statement = account.api.get("audit/roles").octets("statement", maximum=MAX_STATEMENT)
    except Problem as problem:
        if problem.status != 404:
            raise
        if trust.roles is not None:
            raise TrustRefused("The server hides whose keys sign the log.", way_out=_LOOK_INTO) from problem
        return  # an installation older than role keys: the code's log key stands alone
    if statement == trust.roles:
        return
    try:
        root_key = root_key_of(trust.root_key)
        signed = verify_roles(Sign1.parse(statement), tenant=account.tenant, root_key=root_key, seen=account.roles)
        log_keys = _log_keys(account, signed.roles)
    except HoldfastError as error:
        raise TrustRefused(f"The log's keys are not to be trusted: {error}.", way_out=_LOOK_INTO) from error
    trust.roles, trust.log_keys = statement, log_keys


def _log_keys(account: Account, roles: Roles) -> list[str]:
    """Return the verifier keys that hold, newest first; of a statement that names none, those pinned before."""
    named = set(roles.all_of(Role.LOG))
    pinned = account.state.trust.log_keys
    if not named:
        return pinned
    # A code may be older than the key of today, but not name one that the root never did: then either the code or the
    # server lies about whose log this is.
    if not {NoteVerifier.from_text(text).key for text in pinned} <= named:
        raise Untrusted("the enrolment code names a log key that the tenant root does not")
    held = [NoteVerifier(roles.origin, key).to_text() for key in roles.of(Role.LOG)]
    if not held:
        raise Untrusted("no key signs the log any more")
    return held[::-1]


def _history(account: Account, path: str) -> tuple[list[bytes], Answer]:
    """Read every version's statement, page by page, oldest first; and the last answer.

    Raises AnswerRefused for a history without an end. Nothing of it is verified yet.
    """
    history: list[bytes] = []
    while True:
        # Versions count from 1 without a gap, or nothing of them will be believed.
        answer = account.api.get(path, query={"after": str(len(history))} if history else {})
        came = [row.octets("statement", maximum=MAX_BLOB) for row in answer.many("history", maximum=_MOST_VERSIONS)]
        history += came
        if len(history) > _MOST_VERSIONS or (answer.flag("more") and not came):
            raise AnswerRefused(f"The server's history under {path} has no end.")
        if not answer.flag("more"):
            break
    newest = answer.octets("statement")
    # One that was published while these were read is in the history already, and the older one no news.
    if newest not in history:
        history.append(newest)
    return history, answer
