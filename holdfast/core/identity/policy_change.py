# SPDX-License-Identifier: Apache-2.0
"""A policy in words, and what a version changes: for whoever is about to sign it, agree to it, or look at it.

Implements ESCROW "Policy and officers" for people: one reading for officers, members and the console. Does not decide
anything, and knows no clock: what it says of times follows from `policy.history_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

from holdfast.core.base.text import boxed, duration, written_out
from holdfast.core.identity.policy import (
    NEVER,
    ApproveWith,
    DepositRule,
    History,
    Officer,
    Policy,
    SignedPolicy,
    Terms,
    find_lowered,
    history_of,
)

# A veto is pressed by a person: what is shorter than an hour, nobody sees in time.
MIN_DELAY_FOR_A_VETO: Final = 3600

_DEPOSITS: Final = {
    DepositRule.OPTIONAL: ("each user decides", "Some archive keys may not be deposited. No case brings those back."),
    DepositRule.FROM_CONSENT: ("from the user’s consent on", "Generations from before the consent are not in custody."),
    DepositRule.ALL: ("all generations", "Every generation is put into custody before it is used."),
}
# The guards of `find_lowered` as people call them.
_GUARDS: Final = {
    "m": "the quorum",
    "delay_seconds": "the delay",
    "max_notice_delay_seconds": "how soon a subject is told",
    "cooling_off_seconds": "the cooling-off",
    "undelivered_delay_seconds": "the delay when notice fails",
    "approve_with": "where approvals come from",
    "purposes": "the purposes",
    "deposits": "which generations are deposited",
    "roster": "the roster: an officer goes, or has other keys, who has not signed",
}
_NOBODY: Final[Mapping[bytes, int]] = MappingProxyType({})
_NAMELESS: Final[Mapping[bytes, str]] = MappingProxyType({})
# Over every box with the tenant's text: whose word it is.
TEXT_HEADING: Final = "Your organisation adds, in its own words:"
_LAST_DATE: Final = 253402214400  # 9999-12-31, the last day that is written as a date


@dataclass(frozen=True)
class Clause:
    """One term: its name, its value as signed, what this means, and whether it leaves a guard weak."""

    name: str
    value: str
    meaning: str
    is_weak: bool = False


@dataclass(frozen=True)
class Change:
    """One term that a version changed."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class PolicyChange:
    """What a version changes of the one that it follows, and from when. All times are UTC seconds.

    before: the last version that stands, None for a founding one. lowered: names of the guards that it lowers against
    that version or any since the one in force, as `policy.find_lowered` has them. in_force_from, counts_from: as
    `policy.History` has them if it is published at the time that was asked for; NEVER for one that could not be.
    """

    before: Policy | None
    after: Policy
    terms: tuple[Change, ...]
    came: tuple[Officer, ...]
    left: tuple[Officer, ...]
    rekeyed: tuple[Officer, ...]
    lowered: tuple[str, ...]
    in_force_from: int
    counts_from: tuple[int, ...]

    @property
    def fresh(self) -> tuple[Officer, ...]:
        """The rows that the version before does not have: new officers, and those with other keys. A founding: all."""
        return tuple(officer for officer in self.after.roster if officer in (*self.came, *self.rekeyed))


def clauses(policy: Policy) -> list[Clause]:
    """Return every term of a policy in words."""
    terms, m, n = policy.terms, policy.m, policy.n
    is_cli = terms.approve_with is ApproveWith.CLI
    value, meaning = _DEPOSITS[terms.deposits]
    return [
        Clause("Quorum", f"{m} of {n}", f"Any {m} of the {n} officers, together with the HSM, open a deposit. "
               f"{m - 1} of them cannot, and the HSM alone cannot.", is_weak=m > n - 2),
        _delay(terms.delay_seconds),
        _notice(terms.max_notice_delay_seconds),
        Clause("When notice fails", duration(terms.undelivered_delay_seconds),
               "If the subject cannot be told, this delay takes the place of the usual one."),
        Clause("Cooling-off", duration(terms.cooling_off_seconds),
               "A new officer counts, and a lowered guard holds, only this long after it is published."),
        Clause("Approvals come from", "the command line only" if is_cli else "the command line or a browser",
               "An approval signed in a browser is not counted." if is_cli else
               "An approval signed in a browser is only as good as the pages this server gave that browser.",
               is_weak=not is_cli),
        Clause("Purposes", ", ".join(sorted(terms.purposes)), "A case for any other purpose is refused."),
        Clause("Deposits", value, meaning, is_weak=terms.deposits is DepositRule.OPTIONAL),
        Clause("Consent", taking_back(terms), "After a no nothing more is deposited. What is deposited stays."),
        Clause("Text to members", _named(terms.text), "Shown in a box below the consent’s own words."),
    ]  # fmt: skip


def taking_back(terms: Terms) -> str:
    """Say when a yes can be taken back."""
    if terms.consent_binds_seconds == NEVER:
        return "cannot be taken back while this version stands"
    if terms.consent_binds_seconds:
        return f"can be taken back {duration(terms.consent_binds_seconds)} after it was given, and not before"
    return "can be taken back at any time"


def _named(text: str) -> str:
    """Name a text without saying it: others wrote it. Two of one length are told apart."""
    return f"{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:8]}" if text else "none"


def text_box(terms: Terms) -> list[str]:
    """Return the tenant's text to its members in its box, line by line; nothing where there is none."""
    return boxed(terms.text, heading=TEXT_HEADING) if terms.text else []


def _delay(seconds: int) -> Clause:
    is_weak = seconds < MIN_DELAY_FOR_A_VETO
    meaning = "The time between quorum and release, in which the subject can veto."
    warning = " Too short for a person to see it." if is_weak else ""
    return Clause("Delay", duration(seconds), meaning + warning, is_weak)


def _notice(seconds: int) -> Clause:
    if not seconds:
        return Clause("Notice", "at once", "The subject is told as soon as a case about them is opened.")
    meaning = "A case may fix a later date for telling its subject. The log entry is never put off."
    return Clause("Notice", f"put off by {duration(seconds)} at most", meaning, is_weak=True)


def changed_terms(before: Policy, after: Policy) -> list[Change]:
    """Return the terms, the release process's keys and the end that `after` has otherwise than `before`."""
    old = {clause.name: clause.value for clause in clauses(before)}
    found = [
        Change(clause.name, old[clause.name], clause.value)
        for clause in clauses(after)
        if old[clause.name] != clause.value
    ]
    keys = [(one.terms.release_signing_key, one.terms.release_sealing_key) for one in (before, after)]
    if keys[0] != keys[1]:
        found.append(Change("Release process", "its keys as before", "other keys, of another process"))
    if before.header.expires_at != after.header.expires_at:
        found.append(Change("Runs out", *(_end(one.header.expires_at) for one in (before, after))))
    return found


def change_of(
    after: Policy,
    *,
    versions: Sequence[SignedPolicy],
    published: Sequence[int],
    withdrawn: Mapping[bytes, int] = _NOBODY,
    signers: frozenset[bytes] = frozenset(),
    since: Policy | None = None,
    at: int,
) -> PolicyChange:
    """Say what a version changes that follows `versions`, if it were published at a time.

    versions, published, withdrawn: as `policy.history_of` takes them, without the version itself; none for a founding
    one. signers: the kids of those who have signed so far. Until the rest has signed it is taken that whoever goes, or
    gets other keys, does not: what is said is then the longest that it can wait. since: the version that it is compared
    with, where that is not the one that it follows: the one that somebody agreed to. at: UTC seconds.
    """
    if not versions:
        everybody = after.roster
        return PolicyChange(None, after, (), everybody, (), (), (), at, (0,) * after.n)
    known = history_of(versions, published, withdrawn)
    before = since or known.newest.policy
    history = history_with(after, versions=versions, published=published, withdrawn=withdrawn, signers=signers, at=at)
    had = {officer.person: officer for officer in before.roster}
    has = {officer.person for officer in after.roster}
    return PolicyChange(
        before=before,
        after=after,
        terms=tuple(changed_terms(before, after)),
        came=tuple(one for one in after.roster if one.person not in had),
        left=tuple(one for one in before.roster if one.person not in has),
        rekeyed=tuple(one for one in after.roster if one.person in had and had[one.person].who != one.who),
        lowered=_lowered(after, known, signers, at),
        in_force_from=history.in_force_from[-1],
        counts_from=history.counts_from[-1],
    )


def history_with(
    after: Policy,
    *,
    versions: Sequence[SignedPolicy],
    published: Sequence[int],
    withdrawn: Mapping[bytes, int] = _NOBODY,
    signers: frozenset[bytes] = frozenset(),
    policy_hash: bytes = b"",
    at: int,
) -> History:
    """Return the history with one more version, as if it were published at a time with the signatures it lacks.

    As `change_of`. policy_hash: of the version, where somebody asks for it by that.
    """
    known = history_of(versions, published, withdrawn)
    rosters = {officer.signing_key.kid: officer for signed in known.versions for officer in signed.policy.roster}
    stays = {officer.who for officer in after.roster}
    staying = frozenset(kid for kid, officer in rosters.items() if officer.who in stays)
    # Those who stay can sign without shortening any wait. Where they are too few, some who go have to sign as well.
    for assumed in (signers | staying, frozenset(rosters)):
        signed = SignedPolicy(after, policy_hash, assumed)
        found = history_of([*versions, signed], [*published, at], withdrawn)
        if found.in_force_from[-1] < NEVER:
            break
    return found


def _lowered(after: Policy, known: History, signers: frozenset[bytes], at: int) -> tuple[str, ...]:
    first = known.in_force(at).policy.version
    against = [
        signed.policy
        for signed, since in zip(known.versions, known.in_force_from, strict=True)
        if signed.policy.version >= first and since < NEVER
    ]
    names = [name for before in against for name in find_lowered(before, after, signers)]
    return tuple(dict.fromkeys(names))


# In words. No line holds text that somebody chose: purposes are written out, people are named by their ids, and the
# tenant's text to its members has a box of its own (`text_box`).


def in_words(
    change: PolicyChange, *, at: int, is_published: bool = False, names: Mapping[bytes, str] = _NAMELESS
) -> list[str]:
    """Say all of a change, line by line: terms, officers, from when, which guards it lowers, what it gives up.

    at: now, UTC seconds. is_published: whether it is said of a version that is published, and not of one that could be
    now. names: what to call people beside their number, by their 16 bytes.
    """
    after, before = change.after, change.before
    if before is None:
        lines = [f"Version 1 founds the escrow: any {after.m} of {after.n} officers."]
        lines += [f"{clause.name}: {written_out(clause.value)}. {clause.meaning}" for clause in clauses(after)]
        if after.header.expires_at:
            lines.append(f"It runs out: {_end(after.header.expires_at)}.")
        return lines + [f"{_called(officer, names)} is one of them." for officer in after.roster]
    lines = [f"Version {after.version} comes after version {before.version}: {after.m} of {after.n} officers."]
    lines += [f"{one.name}: {written_out(one.before)} → {written_out(one.after)}" for one in change.terms]
    since = {officer.who: when for officer, when in zip(after.roster, change.counts_from, strict=True)}
    lines += [f"{_called(one, names)} comes, and counts {_from(since[one.who], at)}." for one in change.came]
    lines += [
        f"{_called(one, names)} gets other keys, which count {_from(since[one.who], at)}." for one in change.rekeyed
    ]
    lines += [f"{_called(one, names)} of version {before.version} goes when it is in force." for one in change.left]
    if len(lines) == 1:
        lines.append("It changes nothing but the date.")
    lines.append(_in_force(change, at, is_published))
    if after.given_up:
        lines.append(f"It gives up {after.given_up.number} deposits for good: nobody could ever release them.")
    return lines


def _in_force(change: PolicyChange, at: int, is_published: bool) -> str:
    if change.in_force_from == NEVER:
        return "It can never be in force: too few of those who have to sign it would have."
    lowers = "; ".join(_GUARDS[name] for name in change.lowered)
    when = f"In force {_from(change.in_force_from, at)}"
    if not is_published:
        when += " if it is published now"
    elif change.in_force_from <= at:
        when = "It is in force"
    return f"{when}. It lowers {lowers}." if lowers else f"{when}. It lowers no guard."


def _from(seconds: int, at: int) -> str:
    return "at once" if seconds <= at else f"from {_moment(seconds)} ({duration(seconds - at)} from now)"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds < NEVER else "no time on"


def _end(seconds: int) -> str:
    return "never" if not seconds else _moment(min(seconds, _LAST_DATE))


def _called(officer: Officer, names: Mapping[bytes, str]) -> str:
    name = names.get(officer.person, "")
    return f"Officer {officer.index}, {name + ', ' if name else ''}person {UUID(bytes=officer.person)},"
