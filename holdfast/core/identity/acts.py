# SPDX-License-Identifier: Apache-2.0
"""What officers sign outside cases: one officer's standing, and the resolutions of m of them together.

Implements the statements `officer-state` and `resolution` of PROTOCOL section 3; ESCROW "Policy and officers".
Does not know who is in office now, nor what was used before: the caller hands in the policy, and keeps the hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from holdfast.core.base.encoding import Encodable, Fields
from holdfast.core.base.errors import Expired, Malformed, QuorumNotMet, Untrusted
from holdfast.core.base.text import says_nothing
from holdfast.core.base.writing import read_back
from holdfast.core.identity.policy import Officer, SignedPolicy, officers_who_signed
from holdfast.core.log.accepted import AcceptedLog
from holdfast.core.log.merkle import MAX_SIZE
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    MAX_AHEAD_SECONDS,
    Header,
    close_payload,
    open_payload,
    require_tenant_only,
)

MAX_REASON: Final = 1000  # characters, as of a case: whoever is asked reads all of it
# What was decided and not acted on within a month was decided about other circumstances. ESCROW "Policy and officers".
MAX_AGE_SECONDS: Final = 30 * 86400


class Standing(IntEnum):
    """Field 8 of an `officer-state`. BACK and AWAY are an officer's own word, the other two another's."""

    BACK = 1
    AWAY = 2
    SUSPENDED = 3
    REMOVED = 4


# Whoever was suspended returns by a resolution alone.
OWN: Final = frozenset({Standing.BACK, Standing.AWAY})


@dataclass(frozen=True)
class OfficerState:
    """One officer's standing. person: whom it is about, 16 bytes. reason: not empty unless it is the officer's own."""

    PURPOSE: ClassVar = Purpose.OFFICER_STATE

    header: Header
    person: bytes
    standing: Standing
    reason: str

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `officer-state`."""
        return close_payload(self.header, {7: self.person, 8: int(self.standing), 9: self.reason})

    @classmethod
    def from_payload(cls, payload: bytes) -> OfficerState:
        """Read the payload; raises Malformed, also for a suspension or removal without a reason."""
        header, fields = open_payload(payload, "officer state", (7, 8, 9))
        require_tenant_only(header, "officer state")
        standing = Standing(fields.uint(8, minimum=1, maximum=len(Standing)))
        reason = fields.text(9, maximum=MAX_REASON)
        # Who takes another's vote away says why: the others decide by it whether they come back.
        if standing not in OWN and not reason.strip():
            raise fields.refuse(9, "is empty")
        return cls(header=header, person=fields.octets(7, ID_SIZE), standing=standing, reason=reason)

    def require_told(self) -> None:
        """Raise Malformed for a suspension or removal whose reason nobody could read: hidden characters alone.

        For a word that is said or taken now. Reading does not ask: logs keep words older than this rule.
        """
        if self.standing not in OWN and says_nothing(self.reason):
            raise Malformed("officer state, field 9: the reason says nothing")


def verify_officer_state(statement: Sign1, policy: SignedPolicy) -> tuple[OfficerState, Officer]:
    """Check who says it of whom under `policy`, and return what is said and the officer who signed.

    Raises Malformed, InvalidSignature; Untrusted for a signer outside the roster, another tenant, a word about oneself
    that only another may say, or the other way round.
    """
    signers = officers_who_signed([statement], policy.policy, purpose=Purpose.OFFICER_STATE)
    (signer,) = signers
    said = OfficerState.from_payload(statement.payload)
    if said.header.tenant != policy.policy.header.tenant:
        raise Untrusted("officer state of another tenant")
    if all(officer.person != said.person for officer in policy.policy.roster):
        raise Untrusted("the statement is about nobody of the roster")
    # Stops one officer from sending another away in their name, and from ending their own suspension.
    if (signer.person == said.person) is not (said.standing in OWN):
        raise Untrusted("away and back are an officer's own word, suspension and removal another officer's")
    return said, signer


class Act(IntEnum):
    """Field 7 of a `resolution`; field 8 is its object, an array."""

    WITHDRAW_VERSION = 1  # [version, hash of that policy]
    RETURN_OFFICER = 2  # [person]
    ACKNOWLEDGE_LEAF = 3  # [index in the audit log, RFC 6962 leaf hash]
    # [size, root] of the audit log: one that is read for the first time. A restored one has those of the key log behind
    # them, since that is what clients follow: [size, root, size, root].
    ACCEPT_LOG = 4
    SUSPEND_DEVICE = 5  # [person, device]: its veto ends no case any more


_ONE_LOG: Final = 2  # parts of ACCEPT_LOG's object: size and root
_BOTH_LOGS: Final = 4

# Whose object names a person, who does not count for it.
ABOUT_A_PERSON: Final = frozenset({Act.RETURN_OFFICER, Act.SUSPEND_DEVICE})


@dataclass(frozen=True)
class Resolution:
    """What m officers of the version in force decide together outside cases. nonce: 16 bytes, so that it is one act."""

    PURPOSE: ClassVar = Purpose.RESOLUTION

    header: Header
    act: Act
    about: tuple[int | bytes, ...]
    policy_hash: bytes
    nonce: bytes

    @property
    def version(self) -> int:
        """The policy version that WITHDRAW_VERSION withdraws."""
        return self._number(Act.WITHDRAW_VERSION)

    @property
    def person(self) -> bytes:
        """The officer whom RETURN_OFFICER returns, or the person whose device SUSPEND_DEVICE suspends."""
        if self.act not in ABOUT_A_PERSON:
            raise ValueError("this resolution is not about a person")
        return self._octets(self.act, 0)

    @property
    def device(self) -> bytes:
        """The device that SUSPEND_DEVICE suspends, 16 bytes."""
        return self._octets(Act.SUSPEND_DEVICE, 1)

    @property
    def index(self) -> int:
        """The index of the leaf that ACKNOWLEDGE_LEAF acknowledges."""
        return self._number(Act.ACKNOWLEDGE_LEAF)

    @property
    def size(self) -> int:
        """The size of the log that ACCEPT_LOG accepts."""
        return self._number(Act.ACCEPT_LOG)

    @property
    def key_log(self) -> tuple[int, bytes] | None:
        """Size and root (32 bytes) of the key log that ACCEPT_LOG accepts beside the audit log; None without one."""
        self._number(Act.ACCEPT_LOG)
        if len(self.about) == _ONE_LOG:
            return None
        size, root = self.about[2:]
        assert isinstance(size, int)
        assert isinstance(root, bytes)
        return size, root

    @property
    def hash(self) -> bytes:
        """The 32 bytes beside a version, an index or a size: policy hash, leaf hash or root."""
        if self.act in ABOUT_A_PERSON:
            raise ValueError(f"a resolution to {self.act.name} names a person and no hash")
        return self._octets(self.act, 1)

    def _number(self, act: Act) -> int:
        value = self.about[0]
        if self.act is not act or not isinstance(value, int):
            raise ValueError(f"this resolution is no {act.name}")
        return value

    def _octets(self, act: Act, at: int) -> bytes:
        if self.act is not act or not isinstance(value := self.about[at], bytes):
            raise ValueError(f"this resolution is no {act.name}")
        return value

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `resolution`."""
        about: list[Encodable] = list(self.about)
        return close_payload(self.header, {7: int(self.act), 8: about, 9: self.policy_hash, 10: self.nonce})

    @classmethod
    def from_payload(cls, payload: bytes) -> Resolution:
        """Read the payload; raises Malformed, also for an object that the act does not have."""
        header, fields = open_payload(payload, "resolution", range(7, 11))
        require_tenant_only(header, "resolution")
        act = Act(fields.uint(7, minimum=1, maximum=len(Act)))
        about: tuple[int | bytes, ...]
        if act is Act.RETURN_OFFICER:
            about = (Fields.of_row(fields.value(8), "resolution object", 1).octets(0, ID_SIZE),)
        elif act is Act.SUSPEND_DEVICE:
            row = Fields.of_row(fields.value(8), "resolution object", 2)
            about = (row.octets(0, ID_SIZE), row.octets(1, ID_SIZE))
        elif act is Act.ACCEPT_LOG:
            value = fields.value(8)
            count = _BOTH_LOGS if isinstance(value, list) and len(value) == _BOTH_LOGS else _ONE_LOG
            row = Fields.of_row(value, "resolution object", count)
            about = tuple(
                part
                for at in range(0, count, 2)
                for part in (row.uint(at, maximum=MAX_SIZE), row.octets(at + 1, HASH_SIZE))
            )
        else:
            row = Fields.of_row(fields.value(8), "resolution object", 2)
            about = (row.uint(0), row.octets(1, HASH_SIZE))
        return cls(
            header=header, act=act, about=about, policy_hash=fields.octets(9, HASH_SIZE), nonce=fields.octets(10, 16)
        )


def verify_resolution(statements: Sequence[Sign1], policy: SignedPolicy, *, at: int) -> Resolution:
    """Check that m officers of `policy` passed one resolution, and return it.

    policy: the version in force at `at` (UTC seconds), by the caller's clock. Raises Malformed, InvalidSignature;
    Untrusted for an outsider, another tenant or another policy; Expired when it is older than 30 days or dated ahead;
    QuorumNotMet, where whom it concerns does not count.
    """
    resolution, signers = read_resolution(statements, policy, at=at)
    if len(signers) < policy.policy.m:
        raise QuorumNotMet(f"{len(signers)} of {policy.policy.m} officers have signed the resolution")
    return resolution


def accepted_log(resolution: Resolution, payload_hash: bytes, log: str) -> AcceptedLog | None:
    """Return what an ACCEPT_LOG that holds says of one log (`audit` or `keys`); None where it says nothing of it.

    payload_hash: 32 bytes, of the resolution. Raises ValueError for a resolution about anything else.
    """
    found = (resolution.size, resolution.hash) if log == "audit" else resolution.key_log
    return AcceptedLog(*found, at=resolution.header.issued_at, hash=payload_hash) if found else None


def read_resolution(
    statements: Sequence[Sign1], policy: SignedPolicy, *, at: int
) -> tuple[Resolution, frozenset[Officer]]:
    """Check what there is of a resolution, and return it with the officers who count for it so far.

    Raises as `verify_resolution` does, but for a quorum that is not met yet.
    """
    if len({statement.payload for statement in statements}) != 1:
        raise Malformed("resolution: no signature, or of differing payloads")
    signers = officers_who_signed(statements, policy.policy, purpose=Purpose.RESOLUTION)
    resolution = Resolution.from_payload(statements[0].payload)
    if resolution.header.tenant != policy.policy.header.tenant:
        raise Untrusted("resolution of another tenant")
    # Officers of an older or a coming roster decide nothing.
    if resolution.policy_hash != policy.hash:
        raise Untrusted("the resolution names another policy than the one in force")
    if not at - MAX_AGE_SECONDS <= resolution.header.issued_at <= at + MAX_AHEAD_SECONDS:
        raise Expired("the resolution is older than 30 days, or dated ahead")
    concerned = resolution.person if resolution.act in ABOUT_A_PERSON else b""
    return resolution, frozenset(officer for officer in signers if officer.person != concerned)
