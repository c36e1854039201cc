# SPDX-License-Identifier: Apache-2.0
"""A tenant's escrow policy: terms, officers, versions, and what may lower what.

Implements ESCROW "Policy and officers" and the `policy` statement of PROTOCOL section 3.
Does not decide who may act in a case, nor when: persons' states and clocks are the server's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar, Final

from holdfast.core.base.encoding import MAX_BLOB, MAX_UINT, Encodable, Fields, Value
from holdfast.core.base.errors import Forked, Malformed, QuorumNotMet, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    MAX_U32,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_tenant_only,
)

# ESCROW "Policy and officers": with a quorum of at least 2 and of at most n - 1, so that no one decides alone and no
# one can close everything by being away, 3 is the least.
MIN_OFFICERS: Final = 3
# A statement has at most 17 signatures: these, and the tenant root on an escrow key. A deposit has 1.2 KiB for each.
MAX_OFFICERS: Final = 16
MIN_QUORUM: Final = 2  # one officer alone would be a back door with a name
# The longest of any delay in the terms. Without an end, "notice is put off" would be "nobody is told".
YEAR_SECONDS: Final = 365 * 86400
# A wait is there to be noticed in, and a month is enough. One of a year would keep a lost officer in office for a year.
MAX_COOLING_OFF_SECONDS: Final = 30 * 86400
MAX_PURPOSES: Final = 16  # bounds the statement: an officer has to have read them all before signing
MAX_TEXT: Final = 600  # characters: a paragraph, beside which the consent's own words stay on the screen
# The largest integer of an encoding, so later than any time in one: when a version is in force that does not stand.
NEVER: Final = MAX_UINT
_NONE: Final[Mapping[bytes, int]] = MappingProxyType({})


class ApproveWith(IntEnum):
    """Which clients an approval may come from. With ANY, the promise rests on the served pages as well."""

    CLI = 1
    ANY = 2


class DepositRule(IntEnum):
    """Which archive generations are deposited; a higher rule deposits more."""

    OPTIONAL = 0
    FROM_CONSENT = 1
    ALL = 2


@dataclass(frozen=True)
class Officer:
    """One row of the roster: index 1..n, person, and the two keys from their own vault."""

    index: int
    person: bytes
    signing_key: PublicKey
    sealing_key: PublicKey

    @property
    def who(self) -> tuple[bytes, PublicKey, PublicKey]:
        """Person and keys: what an officer counts by. Another number in a new roster changes nobody."""
        return self.person, self.signing_key, self.sealing_key

    def row(self) -> list[Encodable]:
        """Return [i, person, signing key, X-Wing key]."""
        return [self.index, self.person, self.signing_key.encoded, self.sealing_key.encoded]

    @classmethod
    def from_row(cls, value: Value) -> "Officer":
        """Read one row; raises Malformed."""
        row = Fields.of_row(value, "officer", 4)
        return cls(
            index=row.uint(0, minimum=1, maximum=MAX_OFFICERS),
            person=row.octets(1, ID_SIZE),
            signing_key=read_key(row, 2, SIGNING_KINDS),
            sealing_key=read_key(row, 3, KeyKind.X_WING),
        )


@dataclass(frozen=True)
class Terms:
    """Field 10 of a policy. All times are seconds.

    delay: from quorum to release. max_notice_delay: how late a subject may be told, at most a year.
    cooling_off: before a new officer counts and before a lowering takes effect, at most 30 days. undelivered_delay:
    instead of delay when no notice could be delivered. purposes: what a case may be opened for. release_signing_key and
    release_sealing_key: the release process's own, so that officers seal shares only to a key they signed for.
    consent_binds_seconds: for how long a yes cannot be taken back, at most a year, or NEVER while the version stands; 0
    for a yes that can be taken back at any time. text: what the tenant tells those who are asked for consent, one
    paragraph, or "". It is the tenant's word, and shown in a box.
    """

    delay_seconds: int
    max_notice_delay_seconds: int
    cooling_off_seconds: int
    undelivered_delay_seconds: int
    approve_with: ApproveWith
    purposes: frozenset[str]
    deposits: DepositRule
    release_signing_key: PublicKey
    release_sealing_key: PublicKey
    consent_binds_seconds: int = 0
    text: str = ""

    def bound_until(self, given_at: int) -> int:
        """Return when a yes can be taken back that was given at a time; UTC seconds, NEVER for not at all."""
        return min(NEVER, given_at + self.consent_binds_seconds)

    def to_map(self) -> dict[int, Encodable]:
        """Return the map of field 10; purposes in ascending order, so that one set has one encoding."""
        fields: dict[int, Encodable] = {
            1: self.delay_seconds,
            2: self.max_notice_delay_seconds,
            3: self.cooling_off_seconds,
            4: self.undelivered_delay_seconds,
            5: int(self.approve_with),
            6: sorted(self.purposes),
            7: int(self.deposits),
            8: self.release_signing_key.encoded,
            9: self.release_sealing_key.encoded,
        }
        if self.consent_binds_seconds:
            fields[12] = self.consent_binds_seconds
        if self.text:
            fields[14] = self.text
        return fields

    @classmethod
    def from_map(cls, value: Value) -> "Terms":
        """Read the map; raises Malformed."""
        # 10, 11 and 13 are kept for terms that are not built yet.
        fields = Fields(value, "policy terms", range(1, 10), (12, 14))
        listed = Fields(
            dict(enumerate(fields.array(6, minimum=1, maximum=MAX_PURPOSES))),
            "policy purposes",
            (),
            range(MAX_PURPOSES),
        )
        purposes = [listed.text(i, maximum=64) for i in range(len(fields.array(6)))]
        # One set has one encoding, so one policy has one hash.
        if purposes != sorted(set(purposes)):
            raise fields.refuse(6, "is not in ascending order without repeats")
        return cls(
            delay_seconds=fields.uint(1, maximum=YEAR_SECONDS),
            max_notice_delay_seconds=fields.uint(2, maximum=YEAR_SECONDS),
            cooling_off_seconds=fields.uint(3, maximum=MAX_COOLING_OFF_SECONDS),
            undelivered_delay_seconds=fields.uint(4, maximum=YEAR_SECONDS),
            approve_with=ApproveWith(fields.uint(5, minimum=1, maximum=2)),
            purposes=frozenset(purposes),
            deposits=DepositRule(fields.uint(7, maximum=2)),
            release_signing_key=read_key(fields, 8, SIGNING_KINDS),
            release_sealing_key=read_key(fields, 9, KeyKind.X_WING),
            consent_binds_seconds=_binds(fields) if 12 in fields else 0,
            text=_paragraph(fields) if 14 in fields else "",
        )


def _binds(fields: Fields) -> int:
    seconds = fields.uint(12, minimum=1)
    if YEAR_SECONDS < seconds < NEVER:
        raise fields.refuse(12, "is neither at most 365 days nor for ever")
    return seconds


def _paragraph(fields: Fields) -> str:
    text = fields.text(14, maximum=MAX_TEXT)
    # By numbers and not by Unicode's tables, which grow: what one release reads, every other one has to. Whoever shows
    # it writes out what is hidden in it.
    if not text.strip() or any(sign < " " or sign == "\x7f" for sign in text):
        raise fields.refuse(14, "is blank, or has a line break or another control character")
    return text


@dataclass(frozen=True)
class GivenUp:
    """Field 13: the deposits that a version gives up knowingly. root: RFC 6962 over their ids in ascending order."""

    number: int
    root: bytes


@dataclass(frozen=True)
class Policy:
    """One version of a tenant's policy: m of the n officers of its roster, under its terms.

    predecessor: hash of the last version that stands. held_in_force: hash of the version that was in force when this
    one was made, whose officers have a say as well; b"" in version 1 and in versions older than this rule.
    """

    PURPOSE: ClassVar = Purpose.POLICY

    header: Header
    version: int
    m: int
    roster: tuple[Officer, ...]
    terms: Terms
    predecessor: bytes
    held_in_force: bytes = b""
    given_up: GivenUp | None = None

    @property
    def n(self) -> int:
        """The number of officers."""
        return len(self.roster)

    def officer(self, kid: bytes) -> Officer | None:
        """Return the officer whose signing key has this name, if any."""
        return next((officer for officer in self.roster if officer.signing_key.kid == kid), None)

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `policy`."""
        fields: dict[int, Encodable] = {
            7: self.version,
            8: self.m,
            9: [officer.row() for officer in self.roster],
            10: self.terms.to_map(),
            11: self.predecessor,
        }
        if self.held_in_force:
            fields[12] = self.held_in_force
        if self.given_up:
            fields[13] = [self.given_up.number, self.given_up.root]
        return close_payload(self.header, fields)

    @classmethod
    def from_payload(cls, payload: bytes) -> "Policy":
        """Read at most 64 KiB; raises Malformed, also for m of n outside the bounds of ESCROW "Policy and officers".

        2 <= m <= n - 1 and 3 <= n <= 16; indices are 1..n in order; persons and keys are all different, since
        one person with two rows would be a quorum of one.
        """
        header, fields = open_payload(payload, "policy", range(7, 12), (12, 13), max_size=MAX_BLOB)
        require_tenant_only(header, "policy")
        version = fields.uint(7, minimum=1, maximum=MAX_U32)
        # Nothing was in force before the first version, and nothing in custody that it could give up.
        for number in (12, 13):
            if version == 1 and number in fields:
                raise fields.refuse(number, "is not for version 1")
        rows = fields.array(9, minimum=MIN_OFFICERS, maximum=MAX_OFFICERS)
        roster = tuple(Officer.from_row(row) for row in rows)
        # The index is the share's x in Shamir's scheme: two of one number would hold
        # one share, and 0 would be the secret.
        if [officer.index for officer in roster] != list(range(1, len(roster) + 1)):
            raise fields.refuse(9, "does not number its officers 1..n in order")
        for column in ("person", "signing_key", "sealing_key"):
            if len({getattr(officer, column) for officer in roster}) != len(roster):
                raise fields.refuse(9, f"names one {column} twice")
        return cls(
            header=header,
            version=version,
            # At most n - 1: with m = n, the loss of one key would close every deposit for ever.
            m=fields.uint(8, minimum=MIN_QUORUM, maximum=len(roster) - 1),
            roster=roster,
            terms=Terms.from_map(fields.value(10)),
            # The first version has no predecessor and every later one names exactly one.
            predecessor=fields.octets(11, HASH_SIZE if version > 1 else 0),
            # Absent in versions made before the field was: whoever verifies says which may be (`verify_successor`).
            held_in_force=fields.octets(12, HASH_SIZE) if 12 in fields else b"",
            given_up=_given_up(fields.row(13, 2)) if 13 in fields else None,
        )


def _given_up(row: Fields) -> GivenUp:
    return GivenUp(row.uint(0, minimum=1), row.octets(1, HASH_SIZE))


@dataclass(frozen=True)
class SignedPolicy:
    """A policy whose signatures have been checked, and the hash that others name it by.

    Made by verify_founding and verify_successor only; holding one is the proof. signers: the kids (16 bytes each) of
    the keys that signed. Who is taken off without having signed, stays until the wait is over.
    """

    policy: Policy
    hash: bytes
    signers: frozenset[bytes] = frozenset()

    def is_signed_by_quorum_of(self, other: Policy) -> bool:
        """Whether m officers of another version have signed this one."""
        return sum(officer.signing_key.kid in self.signers for officer in other.roster) >= other.m


def officers_who_signed(statements: Iterable[Sign1], *policies: Policy, purpose: Purpose) -> frozenset[Officer]:
    """Return the distinct officers of any of `policies` who signed, after checking every signature.

    Raises Untrusted for a signer outside the rosters and InvalidSignature for a signature that does not hold:
    a statement carries no signature that does not count.
    """
    signers = set()
    for statement in statements:
        officer = next(filter(None, (policy.officer(statement.kid) for policy in policies)), None)
        # Refused and not skipped: a statement that outsiders could decorate would have many forms and one hash.
        if officer is None:
            raise Untrusted("signed by somebody who is no officer of the policy")
        statement.verify(officer.signing_key, purpose=purpose)
        signers.add(officer)
    return frozenset(signers)


def _read(statements: Sequence[Sign1], tenant: bytes) -> SignedPolicy:
    # Signatures are only added up over the same bytes; an empty list ends here too.
    if len({statement.payload for statement in statements}) != 1:
        raise Malformed("policy: no signature, or of differing payloads")
    policy = Policy.from_payload(statements[0].payload)
    if policy.header.tenant != tenant:
        raise Untrusted("policy of another tenant")
    # Counted by whoever verifies: nobody has signed until their signature was checked.
    return SignedPolicy(policy, statements[0].payload_hash)


def _with_signers(signed: SignedPolicy, officers: Iterable[Officer]) -> SignedPolicy:
    return replace(signed, signers=frozenset(officer.signing_key.kid for officer in officers))


def verify_founding(statements: Sequence[Sign1], *, tenant: bytes) -> SignedPolicy:
    """Check a policy of version 1: signed by every officer in its own roster.

    Whether these are the right founders, only the pin says (`trust`). Raises Malformed, Untrusted,
    InvalidSignature, QuorumNotMet.
    """
    signed = _read(statements, tenant)
    if signed.policy.version != 1:
        raise Untrusted("policy history does not begin with version 1")
    signers = officers_who_signed(statements, signed.policy, purpose=Purpose.POLICY)
    # All and not m: the pin is made of this version, and nobody is an officer who did not agree to be one.
    if len(signers) != signed.policy.n:
        raise QuorumNotMet("a founding policy is signed by all its founders")
    return _with_signers(signed, signers)


def verify_successor(
    statements: Sequence[Sign1],
    *,
    predecessor: SignedPolicy,
    history: Sequence[SignedPolicy] = (),
    is_early: bool = False,
) -> SignedPolicy:
    """Check the next version: m officers of `predecessor` signed it, and m of the version that it holds to be in force.

    predecessor: the last version that stands. history: every version, oldest first, where there are others.
    is_early: whether this is one of the versions made before field 12 was, which need none. That the field was true is
    a matter of time (`history_of`). Raises Malformed, InvalidSignature, QuorumNotMet; Untrusted for another tenant, a
    skipped version, a field 12 that names none of them or an outsider's signature; Forked for a version of this number
    that follows something else.
    """
    before = predecessor.policy
    known = {one.hash: one.policy for one in (*history, predecessor)}
    signed = _read(statements, before.header.tenant)
    # No version is skipped: the one left out may have taken officers off the roster (FAULTS S15). One that was
    # withdrawn keeps its number.
    if signed.policy.version != max(policy.version for policy in known.values()) + 1:
        raise Untrusted("policy is not the next version")
    # Officers of the version before, not of this one: a new roster cannot vote itself in. And those of the version in
    # force: a roster that waits could otherwise begin the wait of the next, and of the one after, before anybody could
    # object to the first.
    held = known.get(signed.policy.held_in_force)
    rosters = [before] if held is None else [before, held]
    signed = _with_signers(signed, officers_who_signed(statements, *rosters, purpose=Purpose.POLICY))
    for roster in rosters:
        if not signed.is_signed_by_quorum_of(roster):
            raise QuorumNotMet("too few officers of the version before, or of the one in force, have signed")
    if held is None and (signed.policy.held_in_force or not is_early):
        raise Untrusted("policy does not name a known version as the one in force")
    # Only now: a version that nobody entitled has signed is no evidence of a fork.
    if signed.policy.predecessor != predecessor.hash:
        raise Forked("policy follows another version than the one known")
    return signed


def find_lowered(before: Policy, after: Policy, signers: frozenset[bytes] = frozenset()) -> tuple[str, ...]:
    """Return the names of the guards that `after` lowers: any of them asks for a cooling-off.

    signers: the kids of those who signed `after`. Who signs their own leaving, or their own new keys, needs no wait.
    """
    old, new = before.terms, after.terms
    named = {officer.who for officer in after.roster}
    # What makes a release easier for officers or later for the subject to hear of. A new officer lowers nothing: they
    # cool off on their own. Neither do the terms of a consent: they bind whoever says yes to them, and nobody else.
    # ESCROW "Policy and officers".
    guards = {
        "m": after.m < before.m,
        "delay_seconds": new.delay_seconds < old.delay_seconds,
        "max_notice_delay_seconds": new.max_notice_delay_seconds > old.max_notice_delay_seconds,
        "cooling_off_seconds": new.cooling_off_seconds < old.cooling_off_seconds,
        "undelivered_delay_seconds": new.undelivered_delay_seconds < old.undelivered_delay_seconds,
        "approve_with": new.approve_with > old.approve_with,
        "purposes": not new.purposes <= old.purposes,
        "deposits": new.deposits < old.deposits,
        # Stops m officers from being rid of those who would object, at the moment of objecting.
        "roster": any(officer.who not in named and officer.signing_key.kid not in signers for officer in before.roster),
    }
    return tuple(name for name, is_lowered in guards.items() if is_lowered)


@dataclass(frozen=True)
class History:
    """Every version of a policy, oldest first, with its times by one clock, in UTC seconds; `history_of` makes it.

    in_force_from: NEVER for a version that does not stand. counts_from: for each row of a version's roster, the end of
    that officer's cooling-off; 0 for a founder.
    """

    versions: tuple[SignedPolicy, ...]
    in_force_from: tuple[int, ...]
    counts_from: tuple[tuple[int, ...], ...]

    @property
    def newest(self) -> SignedPolicy:
        """The last version that stands, whether it is in force yet or not."""
        return self.versions[self._place(NEVER - 1)]

    @property
    def settled_at(self) -> int:
        """When the newest version is in force and each of its officers counts: the end of the last cooling-off."""
        place = self._place(NEVER - 1)
        return max(self.in_force_from[place], *self.counts_from[place])

    def in_force(self, at: int) -> SignedPolicy:
        """Return the version that is in force at a time."""
        return self.versions[self._place(at)]

    def counting(self, at: int) -> tuple[Officer, ...]:
        """Return the officers who count at a time: those of the version then in force whose cooling-off is over."""
        place = self._place(at)
        rows = zip(self.versions[place].policy.roster, self.counts_from[place], strict=True)
        return tuple(officer for officer, since in rows if since <= at)

    def has_left(self, officer: Officer, *, since: int, known: int, at: int) -> bool:
        """Tell whether a version that came into force after `since`, and by `at`, does not name them with these keys.

        Also when one in force by then names them again: what an officer did before does not outlast their office.
        known: how many versions were published before `since`, which tells within one second what came first.
        """
        came = [
            signed.policy.roster
            for place, (signed, when) in enumerate(zip(self.versions, self.in_force_from, strict=True))
            if (since, known - 1) < (when, place) and when <= at
        ]
        return any(officer.who not in {one.who for one in roster} for roster in came)

    def _place(self, at: int) -> int:
        return next(place for place in reversed(range(len(self.versions))) if self.in_force_from[place] <= at)


def history_of(
    versions: Sequence[SignedPolicy], published: Sequence[int], withdrawn: Mapping[bytes, int] = _NONE
) -> History:
    """Return when each version is in force and when its officers count: the one rule for server, release and clients.

    versions: every one, oldest first. published: when each was, by whatever clock the caller trusts. withdrawn: when
    each withdrawal came, by the hash of its version; it counts when that was before the version was in force. A
    version that follows a withdrawn one falls with it, and so does one whose field 12 was not true.
    ESCROW "Policy and officers".
    """
    walk = _Walk()
    for signed, at in zip(versions, published, strict=True):
        walk.step(signed, at, withdrawn_at=withdrawn.get(signed.hash, NEVER))
    return History(tuple(walk.versions), tuple(walk.times), tuple(walk.counts))


def in_force_times(
    versions: Sequence[SignedPolicy], published: Sequence[int], withdrawn: Mapping[bytes, int] = _NONE
) -> tuple[int, ...]:
    """Return from when each version is in force, as `history_of` has it."""
    return history_of(versions, published, withdrawn).in_force_from


class _Walk:
    """The versions so far, their times as `History` has them, and the places of those that stand."""

    def __init__(self) -> None:
        self.versions: list[SignedPolicy] = []
        self.times: list[int] = []
        self.counts: list[tuple[int, ...]] = []
        self.standing: list[int] = []

    def step(self, signed: SignedPolicy, at: int, *, withdrawn_at: int) -> None:
        """Take in the next version, published at a time."""
        # Founders wait for nobody: the pin names them.
        in_force_from, counts_from = self._next(signed, at) if self.versions else (0, (0,) * signed.policy.n)
        # Whoever is in force already is not withdrawn any more: another version follows them.
        if withdrawn_at < in_force_from:
            in_force_from = NEVER
        if in_force_from < NEVER:
            self.standing.append(len(self.versions))
        self.versions.append(signed)
        self.times.append(in_force_from)
        self.counts.append(counts_from)

    def _next(self, signed: SignedPolicy, published_at: int) -> tuple[int, tuple[int, ...]]:
        """Return from when the next version is in force, and from when each of its officers counts."""
        last, fallen = self.standing[-1], (NEVER, (NEVER,) * signed.policy.n)
        held_from = self._held_from(signed.policy)
        if signed.policy.predecessor != self.versions[last].hash or held_from is None:
            return fallen
        # It says itself that it was made when that version was in force. By a clock that is behind, as that of a
        # process that was away is, this may be to come; nobody gains by saying so too early.
        at = max(published_at, held_from)
        oldest = next(place for place in reversed(self.standing) if self.times[place] <= at)
        # What field 12 is for: those in force have had their say. They are asked for, and not their version's hash:
        # clocks differ, and the fault of one is to void no version.
        if signed.policy.held_in_force and not signed.is_signed_by_quorum_of(self.versions[oldest].policy):
            return fallen
        # Against every version from the one in force, and not only against its predecessor: a version that waits for
        # having lowered a guard could otherwise be copied, and the copy, which lowers nothing, would not wait.
        against = [self.versions[place].policy for place in self.standing if place >= oldest]
        # The longest: a version could otherwise shorten the very wait that it has to pass.
        longest = max(policy.terms.cooling_off_seconds for policy in (*against, signed.policy))
        wait = longest if any(find_lowered(before, signed.policy, signed.signers) for before in against) else 0
        # Never before the version that it follows.
        in_force_from = max(self.times[last], at + wait)
        known = dict(zip(self.versions[last].policy.roster, self.counts[last], strict=True))
        return in_force_from, tuple(
            _known_since(officer, known, signed.signers, otherwise=max(in_force_from, at + longest))
            for officer in signed.policy.roster
        )

    def _held_from(self, policy: Policy) -> int | None:
        """Return from when the version of field 12 is in force, 0 for a version without one; None when it never is."""
        if not policy.held_in_force:
            return 0
        named = (self.times[place] for place in self.standing if self.versions[place].hash == policy.held_in_force)
        return next(named, None)


def _known_since(officer: Officer, before: Mapping[Officer, int], signers: frozenset[bytes], *, otherwise: int) -> int:
    # Stops keys that somebody else put into an officer's row, as much as a new officer: both cool off. Whoever signs
    # with the old key for the new ones vouches for them (FAULTS P8).
    for known, since in before.items():
        if known.who == officer.who or (known.person == officer.person and known.signing_key.kid in signers):
            return since
    return otherwise


def strictest(policies: Sequence[Policy]) -> tuple[int, Terms]:
    """Return the highest m and the strictest terms of `policies`: at deposit, at request and now.

    The purposes are the intersection and may be empty: then nothing may be released. The release process's
    keys, and what concerns consent alone, are no matter of strictness: the last policy's are given.
    ESCROW "Policy and officers".
    """
    all_terms = [policy.terms for policy in policies]
    # Each guard by itself: nobody can gain by having a policy lowered before, during or after a case (FAULTS P6, P7).
    return max(policy.m for policy in policies), replace(
        all_terms[-1],
        delay_seconds=max(terms.delay_seconds for terms in all_terms),
        max_notice_delay_seconds=min(terms.max_notice_delay_seconds for terms in all_terms),
        cooling_off_seconds=max(terms.cooling_off_seconds for terms in all_terms),
        undelivered_delay_seconds=max(terms.undelivered_delay_seconds for terms in all_terms),
        approve_with=min(terms.approve_with for terms in all_terms),
        purposes=frozenset.intersection(*(terms.purposes for terms in all_terms)),
        deposits=max(terms.deposits for terms in all_terms),
    )
