# SPDX-License-Identifier: Apache-2.0
"""An officer's acts outside cases: their standing, and resolutions proposed, verified and signed.

Implements ESCROW "Policy and officers" on the officer's own machine; PROTOCOL section 3, `officer-state` and
`resolution`. Does not trust the server's summary: what is signed was read out of signed bytes, and from the log itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import takewhile
from typing import Final
from uuid import UUID

from holdfast.client.errors import NotPossible, TrustRefused, WrongInput
from holdfast.client.identity import addresses, device, tenant
from holdfast.client.identity.heads import AUDIT, KEYS
from holdfast.client.officers import audit_head, officer_keys
from holdfast.client.officers.audit_head import Head, Leaf
from holdfast.client.profile.account import Account, read_many
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import chain
from holdfast.core.identity.acts import (
    ABOUT_A_PERSON,
    MAX_AGE_SECONDS,
    OWN,
    Act,
    OfficerState,
    Resolution,
    Standing,
    read_resolution,
    verify_officer_state,
)
from holdfast.core.identity.entries import Entry, ReGenesis, RevokeDevice, is_loss
from holdfast.core.identity.policy import Officer, SignedPolicy, find_lowered
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement

_NONCE: Final = 16  # bytes: two resolutions of one second about one thing are two acts
_MIN_PREFIX: Final = 4  # hex digits of a hash: as people copy the beginning of one
PROPOSABLE: Final = {
    Act.WITHDRAW_VERSION: "withdraw-version",
    Act.RETURN_OFFICER: "return-officer",
    Act.ACKNOWLEDGE_LEAF: "acknowledge-leaf",
    Act.ACCEPT_LOG: "accept-log",
    Act.SUSPEND_DEVICE: "suspend-device",
}


@dataclass(frozen=True)
class Word:
    """What this officer is about to sign about a standing: whom it is about, by the pinned policy, and what it says."""

    officer: Officer
    standing: Standing
    reason: str
    policy: SignedPolicy


@dataclass(frozen=True)
class Decision:
    """A resolution with everything that a person decides by, verified.

    signers: who has signed and counts. state: the server's word, "" before it was proposed. leaf, heads: what the logs
    themselves say, where the act is about them. device: the device's own statement, where the act is about one.
    """

    resolution: Resolution
    policy: SignedPolicy
    signers: tuple[Officer, ...]
    hash: bytes
    payload: bytes
    state: str
    leaf: Leaf | None = None
    heads: tuple[Head, ...] = ()
    device: DeviceStatement | None = None

    @property
    def needed(self) -> int:
        """How many officers have to sign."""
        return self.policy.policy.m

    @property
    def ends_at(self) -> int:
        """When it ends unless it passed, UTC seconds."""
        return self.resolution.header.issued_at + MAX_AGE_SECONDS

    @property
    def about(self) -> Officer | None:
        """The officer whom it returns or whose device it suspends, if it is about one: they do not count."""
        if self.resolution.act not in ABOUT_A_PERSON:
            return None
        return next((one for one in self.policy.policy.roster if one.person == self.resolution.person), None)


@dataclass(frozen=True)
class Done:
    """What the server made of a signature on a resolution: its state, and how many count of how many needed."""

    hash: bytes
    state: str
    signed: int
    needed: int


# Standing


def word(account: Account, standing: Standing, *, of: str = "", reason: str = "") -> Word:
    """Prepare a word about an officer, oneself unless `of` gives a person's id or address, or a number of the roster.

    Raises WrongInput for somebody who is no officer of the policy in force, NotPossible for a word about oneself that
    only another may say.
    """
    policy = policy_in_force(account)
    own = officer_keys.own_row(account, policy)
    whom = find_officer(account, policy, of) if of else own
    if (whom == own) is not (standing in OWN):
        raise NotPossible("Nobody suspends or removes themselves.", way_out="Go away: holdfast officer away")
    return Word(whom, standing, reason, policy)


def say(account: Account, said: Word) -> None:
    """Sign a word about an officer and send it."""
    state = OfficerState(_header(account), said.officer.person, said.standing, said.reason)
    try:
        state.require_told()
        keys = officer_keys.keys_of(account, officer_keys.own_row(account, said.policy))
        signed = sign(state.to_payload(), purpose=Purpose.OFFICER_STATE, key=keys.signing)
        # As everybody else will: what does not hold is not sent.
        verify_officer_state(signed, said.policy)
    except (HoldfastError, ValueError) as error:  # a ValueError of what its own reader would refuse
        raise NotPossible(f"This cannot be signed: {error}.") from error
    account.api.post("escrow/officer-states", {"statement": b64u(signed.encode())})


def find_officer(account: Account, policy: SignedPolicy, text: str) -> Officer:
    """Return an officer by their number in the roster, or their person's id or e-mail address.

    Raises WrongInput for anybody else, AddressChanged.
    """
    roster = policy.policy.roster
    text = str(addresses.person_of(account, text)) if "@" in text else text
    found = next((one for one in roster if text in (str(one.index), str(UUID(bytes=one.person)))), None)
    if found is None:
        known = ", ".join(f"{one.index} ({UUID(bytes=one.person)})" for one in roster)
        raise WrongInput("The policy in force lists no such officer.", way_out=f"Officers are: {known}")
    return found


def is_in_office(account: Account) -> bool:
    """Whether the newest policies that this profile knows name this person; the server is not asked."""
    return any(one.person == account.user for signed in account.policies[-1:] for one in signed.policy.roster)


class Loss(Enum):
    """What became of a device that this officer lost: nothing, their keys count no more, or the server hides it."""

    NONE = "none"
    COUNTED = "counted"
    WITHHELD = "withheld"


def own_loss(account: Account) -> Loss:
    """Say whether this officer counts for nothing since they lost a device: by the server's word, and by their chain.

    Their account's own entries say when they lost one. Where the newest policy is older and names them, a server that
    shows them as counting has left it out, and the release process cannot know.
    """
    if not is_in_office(account):
        return Loss.NONE
    rows = account.api.get("escrow/officers").many("officers")
    if any(row.identifier("person_id") == account.user and "keys_lost_at" in row for row in rows):
        return Loss.COUNTED
    lost_at = max((one.header.issued_at for one in map(Entry.parse, account.state.chain) if _is_loss(one)), default=0)
    return Loss.WITHHELD if account.policies[-1].policy.header.issued_at < lost_at else Loss.NONE


def _is_loss(entry: Entry) -> bool:
    body = entry.body
    return isinstance(body, ReGenesis) or (isinstance(body, RevokeDevice) and is_loss(body.reason))


def names_told(account: Account) -> dict[bytes, str]:
    """Return what the server calls the officers, by their 16-byte person: its word, which nothing signed bears out."""
    rows = account.api.get("escrow/officers").many("officers")
    return {row.identifier("person_id"): row.text("name") for row in rows}


def policy_in_force(account: Account) -> SignedPolicy:
    """Return the version that acts are signed under, after verifying all of them from the pin.

    Which versions have waited long enough is counted from their signed dates. That the newest one was published later
    and waits longer is taken from the server: it can only make it refuse what is signed under another version.
    """
    tenant.refresh(account)
    policies, now = account.policies, account.api.clock.now()
    told = account.api.get("escrow/policy", query={"after": str(len(policies))})
    if len(policies) > 1 and told.time("in_force_from") > now:
        policies = policies[:-1]
    version = chain.in_force(policies, now)
    return next(signed for signed in policies if signed.policy.version == version)


# Resolutions


def list_resolutions(account: Account, *, everything: bool = False) -> list[Decision]:
    """Return the open resolutions, each verified under the policy that it names; with `everything`, the others too.

    Raises TrustRefused for one that does not hold: the server has taken what it should have refused.
    """
    tenant.refresh(account)
    rows: Iterator[Answer] = account.api.pages("escrow/resolutions", "resolutions", "resolution_id")
    if not everything:
        rows = takewhile(lambda row: row.text("state") == "open", rows)
    return [_verified(account, row) for row in rows]


def find_resolution(account: Account, prefix: str) -> Decision:
    """Return the open resolution whose hash begins so, with what the log says of it. Raises WrongInput, TrustRefused.

    prefix: hex digits, four or more.
    """
    wanted = prefix.lower()
    if len(wanted) < _MIN_PREFIX or not set(wanted) <= set("0123456789abcdef"):
        raise WrongInput("A resolution is named by the first four or more hex digits of its hash.")
    found = [one for one in list_resolutions(account) if one.hash.hex().startswith(wanted)]
    if len(found) != 1:
        what = "several open resolutions begin" if found else "no open resolution begins"
        raise WrongInput(f"With {wanted}, {what}.", way_out="See them: holdfast officer resolutions")
    return _looked_up(account, found[0])


def propose(account: Account, act: Act, *about: int | bytes) -> Decision:
    """Write a resolution under the policy in force; nothing is signed or sent before `sign_decision`."""
    policy = policy_in_force(account)
    officer_keys.own_row(account, policy)
    resolution = Resolution(_header(account), act, about, policy.hash, secrets.token_bytes(_NONCE))
    payload = resolution.to_payload()
    hashed = Sign1(b"", payload, b"").payload_hash
    decision = _with_device(account, Decision(resolution, policy, (), hashed, payload, ""))
    return _looked_up(account, decision)


def propose_withdrawal(account: Account, version: int) -> Decision:
    """Propose to withdraw a policy version that is not in force yet. Raises NotPossible for any other."""
    in_force = policy_in_force(account).policy.version
    found = next((one for one in account.policies if one.policy.version == version), None)
    if found is None or version <= in_force:
        raise NotPossible(
            f"Version {version} is not waiting to come into force.", way_out=f"In force is version {in_force}."
        )
    return propose(account, Act.WITHDRAW_VERSION, version, found.hash)


def propose_return(account: Account, of: str) -> Decision:
    """Propose to return an officer, given by number, person's id or address, from suspension."""
    return propose(account, Act.RETURN_OFFICER, find_officer(account, policy_in_force(account), of).person)


def propose_acknowledgement(account: Account, index: int) -> Decision:
    """Propose to acknowledge one leaf of the audit log, whose hash is fetched and proven here."""
    return propose(account, Act.ACKNOWLEDGE_LEAF, index, audit_head.leaf(account, index).hash)


def propose_acceptance(account: Account) -> Decision:
    """Propose to accept both logs with the newest heads that their pinned key signed."""
    found = [audit_head.head(account, log).checkpoint for log in (AUDIT, KEYS)]
    return propose(account, Act.ACCEPT_LOG, *(part for one in found for part in (one.size, one.root)))


def propose_suspension(account: Account, device_id: UUID) -> Decision:
    """Propose to suspend a device: a veto of it ends no case any more. Whose it is, its own statement says."""
    read = _device(account, device_id.bytes)
    return propose(account, Act.SUSPEND_DEVICE, read.person, read.header.device)


def _device(account: Account, device_id: bytes) -> DeviceStatement:
    return DeviceStatement.from_payload(device.fetch_statement(account, device_id).payload)


def sign_decision(account: Account, decision: Decision) -> Done:
    """Sign exactly what was shown and send it. Raises NotPossible for whom it concerns, whose signature counts not."""
    own = officer_keys.own_row(account, decision.policy)
    if decision.resolution.act in ABOUT_A_PERSON and decision.resolution.person == own.person:
        raise NotPossible("It is about you: your own signature does not count.")
    of_old = decision.resolution.act is Act.ACCEPT_LOG
    key = officer_keys.keys_of(account, own, of_old=of_old).signing
    signed = sign(decision.payload, purpose=Purpose.RESOLUTION, key=key)
    answer = account.api.post("escrow/resolutions", {"statement": b64u(signed.encode())})
    return Done(decision.hash, answer.text("state"), len(answer.numbers("signed_by")), answer.number("needed"))


def meaning(account: Account, decision: Decision) -> list[str]:
    """Say in words what a resolution does, from its signed bytes and from what was looked up here."""
    resolution = decision.resolution
    if resolution.act is Act.WITHDRAW_VERSION:
        return _withdrawal(account, decision)
    if resolution.act is Act.RETURN_OFFICER:
        about = decision.about
        assert about is not None
        return [
            f"Officer {about.index} ({UUID(bytes=about.person)}) returns from suspension:",
            "their approvals and votes count again, and they approve anew where they had approved.",
        ]
    if resolution.act is Act.SUSPEND_DEVICE:
        assert decision.device is not None
        return [
            f"Device {UUID(bytes=resolution.device)} is suspended for ever:",
            f"it is of person {UUID(bytes=resolution.person)}, and a veto of it ends no case any more;",
            "it gives the long delay instead.",
        ]
    if resolution.act is Act.ACKNOWLEDGE_LEAF:
        return [
            f"Entry {resolution.index} of the audit log is known to be wrong, and releases go on after it.",
            "The release process ends every open case when it acts on this.",
        ]
    if resolution.key_log is None:
        return [
            f"The audit log of {resolution.size} entries is taken as it is: read for the first time.",
            "The release process ends every open case when it acts on this. It accepts no restored backup.",
        ]
    return [
        f"The audit log of {resolution.size} entries and the log of keys of {resolution.key_log[0]} are taken as they",
        "are: restored from a backup, or read for the first time. What came after them is given up, and every device",
        "follows these logs from here on. The release process ends every open case when it acts on this.",
    ]


def _withdrawal(account: Account, decision: Decision) -> list[str]:
    that = account.trusted.policy_named(decision.resolution.hash).policy
    now = decision.policy.policy
    lowered = find_lowered(now, that)
    return [
        f"Policy version {that.version}, signed on {_date(that.header.issued_at)}, is withdrawn: it counts nowhere.",
        f"It asks for {that.m} of {that.n} officers; version {now.version}, in force, for {now.m} of {now.n}.",
        f"It lowers: {', '.join(lowered)}." if lowered else "It lowers no guard.",
    ]


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _verified(account: Account, row: Answer) -> Decision:
    """Read a resolution: who signed is known before anything is believed, and under which policy of the pin."""
    try:
        statements = read_many(row.octets("statement"))
        # Read to learn under which policy it claims to be; believed only after that policy's officers have verified.
        claimed = Resolution.from_payload(statements[0].payload)
        policy = account.trusted.policy_named(claimed.policy_hash)
        resolution, signers = read_resolution(statements, policy, at=claimed.header.issued_at)
        _require_object(account, resolution, policy)
    except HoldfastError as error:
        raise TrustRefused(f"A resolution is not to be trusted: {error}.") from error
    by_index = tuple(sorted(signers, key=lambda one: one.index))
    state = row.text("state")
    decision = _with_device(
        account,
        Decision(resolution, policy, by_index, statements[0].payload_hash, statements[0].payload, state=state),
    )
    # By this machine's clock too: what has ended is not signed because a server calls it open.
    if state == "open" and account.api.clock.latest() > decision.ends_at:
        raise TrustRefused("The server calls a resolution open that has ended.")
    return decision


def _require_object(account: Account, resolution: Resolution, policy: SignedPolicy) -> None:
    """Raise Untrusted or TrustRefused for a resolution about a version or an officer that the pin does not lead to."""
    withdraws = resolution.act is Act.WITHDRAW_VERSION
    if withdraws and account.trusted.policy_named(resolution.hash).policy.version != resolution.version:
        raise TrustRefused("A resolution names another policy than the version it speaks of.")
    if resolution.act is Act.RETURN_OFFICER and all(one.person != resolution.person for one in policy.policy.roster):
        raise TrustRefused("A resolution returns somebody whom its policy does not list.")


def _with_device(account: Account, decision: Decision) -> Decision:
    """Add the statement of the device that a resolution suspends. Raises TrustRefused when it is another person's."""
    resolution = decision.resolution
    if resolution.act is not Act.SUSPEND_DEVICE:
        return decision
    read = _device(account, resolution.device)
    # Whose device it is decides who does not count, and whose vetoes end no case.
    if read.person != resolution.person:
        raise TrustRefused("A resolution suspends a device of another person than the one it names.")
    return replace(decision, device=read)


def _looked_up(account: Account, decision: Decision) -> Decision:
    """Add what the log itself says, and refuse what it contradicts."""
    resolution, leaf, found = decision.resolution, decision.leaf, decision.heads
    if resolution.act is Act.ACKNOWLEDGE_LEAF:
        leaf = audit_head.leaf(account, resolution.index)
        if leaf.hash != resolution.hash:
            raise TrustRefused(
                f"Entry {resolution.index} of the log has another hash than the resolution acknowledges.",
                way_out="Do not sign. Show this to the other officers and to your auditor.",
            )
    if resolution.act is Act.ACCEPT_LOG:
        said = {AUDIT: (resolution.size, resolution.hash)}
        if resolution.key_log is not None:
            said[KEYS] = resolution.key_log
        found = tuple(audit_head.head(account, log) for log in said)
        for one, (size, root) in zip(found, said.values(), strict=True):
            audit_head.require_past(account, one, size=size, root=root)
    return replace(decision, leaf=leaf, heads=found)


def _header(account: Account) -> Header:
    return Header(account.tenant, b"", b"", account.api.clock.earliest())
