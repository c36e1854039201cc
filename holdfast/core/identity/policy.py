# SPDX-License-Identifier: Apache-2.0
"""A tenant's escrow policy: terms, officers, versions, and what may lower what.

Implements ESCROW "Policy and officers" and the `policy` statement of PROTOCOL section 3.
Does not decide who may act in a case, nor when: persons' states and clocks are the server's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, Value
from holdfast.core.base.errors import Forked, Malformed, QuorumNotMet, Untrusted
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
MAX_PURPOSES: Final = 16  # bounds the statement: an officer has to have read them all before signing


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
    cooling_off: before a new officer counts and before a lowering takes effect. undelivered_delay: instead of
    delay when no notice could be delivered. purposes: what a case may be opened for. release_signing_key and
    release_sealing_key: the release process's own, so that officers seal shares only to a key they signed for.
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

    def to_map(self) -> dict[int, Encodable]:
        """Return the map of field 10; purposes in ascending order, so that one set has one encoding."""
        return {
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

    @classmethod
    def from_map(cls, value: Value) -> "Terms":
        """Read the map; raises Malformed."""
        fields = Fields(value, "policy terms", range(1, 10))
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
            cooling_off_seconds=fields.uint(3, maximum=YEAR_SECONDS),
            undelivered_delay_seconds=fields.uint(4, maximum=YEAR_SECONDS),
            approve_with=ApproveWith(fields.uint(5, minimum=1, maximum=2)),
            purposes=frozenset(purposes),
            deposits=DepositRule(fields.uint(7, maximum=2)),
            release_signing_key=read_key(fields, 8, SIGNING_KINDS),
            release_sealing_key=read_key(fields, 9, KeyKind.X_WING),
        )


@dataclass(frozen=True)
class Policy:
    """One version of a tenant's policy: m of the n officers of its roster, under its terms."""

    PURPOSE: ClassVar = Purpose.POLICY

    header: Header
    version: int
    m: int
    roster: tuple[Officer, ...]
    terms: Terms
    predecessor: bytes

    @property
    def n(self) -> int:
        """The number of officers."""
        return len(self.roster)

    def officer(self, kid: bytes) -> Officer | None:
        """Return the officer whose signing key has this name, if any."""
        return next((officer for officer in self.roster if officer.signing_key.kid == kid), None)

    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `policy`."""
        return close_payload(
            self.header,
            {
                7: self.version,
                8: self.m,
                9: [officer.row() for officer in self.roster],
                10: self.terms.to_map(),
                11: self.predecessor,
            },
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Policy":
        """Read at most 64 KiB; raises Malformed, also for m of n outside the bounds of ESCROW "Policy and officers".

        2 <= m <= n - 1 and 3 <= n <= 16; indices are 1..n in order; persons and keys are all different, since
        one person with two rows would be a quorum of one.
        """
        header, fields = open_payload(payload, "policy", range(7, 12), max_size=MAX_BLOB)
        require_tenant_only(header, "policy")
        version = fields.uint(7, minimum=1, maximum=MAX_U32)
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
        )


@dataclass(frozen=True)
class SignedPolicy:
    """A policy whose signatures have been checked, and the hash that others name it by.

    Made by verify_founding and verify_successor only; holding one is the proof.
    """

    policy: Policy
    hash: bytes


def officers_who_signed(statements: Iterable[Sign1], policy: Policy, *, purpose: Purpose) -> frozenset[Officer]:
    """Return the distinct officers of `policy` who signed, after checking every signature.

    Raises Untrusted for a signer outside the roster and InvalidSignature for a signature that does not hold:
    a statement carries no signature that does not count.
    """
    signers = set()
    for statement in statements:
        officer = policy.officer(statement.kid)
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
    return SignedPolicy(policy, statements[0].payload_hash)


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
    return signed


def verify_successor(statements: Sequence[Sign1], *, predecessor: SignedPolicy) -> SignedPolicy:
    """Check the next version: it names `predecessor` and m officers of that one signed it.

    Raises Malformed, InvalidSignature, QuorumNotMet; Untrusted for another tenant, a skipped version or an
    outsider's signature; Forked for a version of this number that follows something else.
    """
    before = predecessor.policy
    signed = _read(statements, before.header.tenant)
    # No version is skipped: the one left out may have taken officers off the roster (FAULTS S15).
    if signed.policy.version != before.version + 1:
        raise Untrusted("policy is not the next version")
    # Officers of the version before, not of this one: a new roster cannot vote itself in.
    if len(officers_who_signed(statements, before, purpose=Purpose.POLICY)) < before.m:
        raise QuorumNotMet("too few officers of the version before have signed")
    # Only now: a version that nobody entitled has signed is no evidence of a fork.
    if signed.policy.predecessor != predecessor.hash:
        raise Forked("policy follows another version than the one known")
    return signed


def find_lowered(before: Policy, after: Policy) -> tuple[str, ...]:
    """Return the names of the guards that `after` lowers: any of them asks for a cooling-off."""
    old, new = before.terms, after.terms
    # What makes a release easier for officers or later for the subject to hear of. The roster is not here: a new
    # officer cools off on their own. ESCROW "Policy and officers".
    guards = {
        "m": after.m < before.m,
        "delay_seconds": new.delay_seconds < old.delay_seconds,
        "max_notice_delay_seconds": new.max_notice_delay_seconds > old.max_notice_delay_seconds,
        "cooling_off_seconds": new.cooling_off_seconds < old.cooling_off_seconds,
        "undelivered_delay_seconds": new.undelivered_delay_seconds < old.undelivered_delay_seconds,
        "approve_with": new.approve_with > old.approve_with,
        "purposes": not new.purposes <= old.purposes,
        "deposits": new.deposits < old.deposits,
    }
    return tuple(name for name, is_lowered in guards.items() if is_lowered)


def in_force_times(versions: Sequence[Policy], published: Sequence[int]) -> tuple[int, ...]:
    """Return from when each version is in force, in UTC seconds: the one rule for server, release process and clients.

    versions: every one, oldest first. published: when each was, by whatever clock the caller trusts.
    ESCROW "Policy and officers".
    """
    times: list[int] = []
    for place, (version, at) in enumerate(zip(versions, published, strict=True)):
        if not place:
            times.append(0)  # founders wait for nobody
            continue
        # Against every version from the one in force, and not only against its predecessor: a version that waits for
        # having lowered a guard could otherwise be copied, and the copy, which lowers nothing, would not wait.
        oldest = next(earlier for earlier in reversed(range(place)) if times[earlier] <= at)
        against = versions[oldest:place]
        wait = 0
        if any(find_lowered(before, version) for before in against):
            # The longest: a version could otherwise shorten the very wait that it has to pass.
            wait = max(policy.terms.cooling_off_seconds for policy in (*against, version))
        # Never before the version that it follows.
        times.append(max(times[-1], at + wait))
    return tuple(times)


def strictest(policies: Sequence[Policy]) -> tuple[int, Terms]:
    """Return the highest m and the strictest terms of `policies`: at deposit, at request and now.

    The purposes are the intersection and may be empty: then nothing may be released. The release process's
    keys are not a matter of strictness: the last policy's are given. ESCROW "Policy and officers".
    """
    all_terms = [policy.terms for policy in policies]
    # Each guard by itself: nobody can gain by having a policy lowered before, during or after a case (FAULTS P6, P7).
    return max(policy.m for policy in policies), Terms(
        delay_seconds=max(terms.delay_seconds for terms in all_terms),
        max_notice_delay_seconds=min(terms.max_notice_delay_seconds for terms in all_terms),
        cooling_off_seconds=max(terms.cooling_off_seconds for terms in all_terms),
        undelivered_delay_seconds=max(terms.undelivered_delay_seconds for terms in all_terms),
        approve_with=min(terms.approve_with for terms in all_terms),
        purposes=frozenset.intersection(*(terms.purposes for terms in all_terms)),
        deposits=max(terms.deposits for terms in all_terms),
        release_signing_key=all_terms[-1].release_signing_key,
        release_sealing_key=all_terms[-1].release_sealing_key,
    )
