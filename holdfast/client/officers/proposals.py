# SPDX-License-Identifier: Apache-2.0
"""Policies and escrow keys that officers are asked to sign: drafted, fetched, verified, heard, signed.

Implements ESCROW "Policy and officers" and "Keys" on the officer's own machine. Does not trust the server's summary:
what is shown and signed was read from the payload itself, over the versions that the pin leads to. What the server says
of people is handed on apart, as its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import takewhile
from typing import Any, Final
from uuid import UUID

from holdfast.client.errors import NotPossible, ProfileError, TrustRefused, WrongInput
from holdfast.client.identity import tenant
from holdfast.client.officers import acts, hearing, officer_keys, stated_keys
from holdfast.client.officers.hearing import About
from holdfast.client.profile.account import Account, root_key_of
from holdfast.client.profile.state import OfficerPublicKeys
from holdfast.client.server.answers import Answer, parse
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.base.text import is_dangerous
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey, decode_public_key
from holdfast.core.identity import policy_change
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.policy import (
    ApproveWith,
    DepositRule,
    GivenUp,
    Officer,
    Policy,
    SignedPolicy,
    Terms,
    officers_who_signed,
)
from holdfast.core.identity.policy_change import PolicyChange
from holdfast.core.identity.trust import founder_words
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from holdfast.core.signed.statements import EscrowKey

_MIN_PREFIX: Final = 4  # hex digits of a hash: as people copy the beginning of one
_MOST_OFFICERS: Final = 64  # of several rosters: more signatures than that are no proposal's
_ROW: Final = About(
    what="the person's own row in this policy",
    wrong="Stop. Either the person read another screen, or their row holds keys that are not theirs: do not sign.",
    spent="Do not sign. Another officer can call the person; a proposal made anew has other words.",
)


@dataclass(frozen=True)
class Told:
    """The server's word on somebody whom a roster names: a name, since when it knows them, and who let them in."""

    name: str
    since: int
    let_in_by: tuple[UUID, ...]


@dataclass(frozen=True)
class Proposal:
    """A proposed version with all that a person decides by, verified: who signed, what it changes, from when.

    id, state, missing, touches, proposer and told are the server's word; "" and -1 before it was proposed. touches: for
    how many deposits it changes who could release them; -1 where the server says none. is_undone: whether officers
    withdrew the version after it was published, by their resolution.
    """

    payload: bytes
    hash: bytes
    policy: Policy
    change: PolicyChange
    signers: tuple[Officer, ...]
    id: str = ""
    state: str = ""
    missing: int = -1
    touches: int = -1
    proposer: UUID | None = None
    told: Mapping[bytes, Told] = field(default_factory=dict)
    is_undone: bool = False

    @property
    def ends_at(self) -> int:
        """When it ends unless it was published, UTC seconds."""
        return self.policy.header.issued_at + MAX_AGE_SECONDS


@dataclass(frozen=True)
class Wanted:
    """What the next version is to have otherwise than the newest one; None and empty for as it is. Times: seconds.

    rows: (person, signing key, X-Wing key) of new officers, and of those who get other keys. remove: numbers or
    person ids. roster: in place of both, every row, in this order. ends_in: how long it lasts, ends_at: until when, UTC
    seconds; 0 in both for without an end. consent_binds: as `Terms.consent_binds_seconds`. given_up: field 13, as the
    server's refusal names it. release_keys: signing and X-Wing key of another release process; a founding policy needs
    them, and all terms.
    """

    m: int | None = None
    rows: Sequence[tuple[bytes, PublicKey, PublicKey]] = ()
    remove: Sequence[str] = ()
    roster: Sequence[tuple[bytes, PublicKey, PublicKey]] | None = None
    delay: int | None = None
    max_notice_delay: int | None = None
    cooling_off: int | None = None
    undelivered_delay: int | None = None
    purposes: frozenset[str] | None = None
    approve_with: ApproveWith | None = None
    deposits: DepositRule | None = None
    consent_binds: int | None = None
    text: str | None = None
    ends_in: int = 0
    ends_at: int = 0
    given_up: GivenUp | None = None
    release_keys: tuple[PublicKey, PublicKey] | None = None


@dataclass(frozen=True)
class Signed:
    """What the server made of a signature: the proposal's state, and how many further signatures are missing."""

    state: str
    missing: int


# Proposing


def draft(account: Account, wanted: Wanted) -> Proposal:
    """Write the next version; nothing is sent. Raises WrongInput for one that no policy can be."""
    tenant.refresh(account)
    if not account.policies:
        return _founding_draft(account, wanted)
    in_force, newest = acts.policy_in_force(account), account.trusted.newest
    before = newest.policy
    made = Policy(
        header=_header(account, wanted),
        version=len(account.trusted.policies) + 1,
        m=before.m if wanted.m is None else wanted.m,
        roster=_roster(account, newest, wanted),
        terms=replace(before.terms, **_terms(wanted)),
        predecessor=newest.hash,
        held_in_force=in_force.hash,
        given_up=wanted.given_up,
    )
    return _drafted(account, made)


def _founding_draft(account: Account, wanted: Wanted) -> Proposal:
    terms = _terms(wanted)
    lacking = sorted({one.name for one in fields(Terms) if one.default is MISSING} - terms.keys())
    if lacking or wanted.m is None or wanted.remove:
        named = ", ".join(name.removesuffix("_seconds").replace("_", " ") for name in lacking)
        raise WrongInput(
            f"A founding policy says all of its terms; missing: {named or 'how many officers have to approve'}.",
            way_out="See: holdfast officer policy propose --help",
        )
    made = Policy(
        header=_header(account, wanted),
        version=1,
        m=wanted.m,
        roster=_numbered(wanted.rows if wanted.roster is None else wanted.roster),
        terms=Terms(**terms),
        predecessor=b"",
    )
    return _drafted(account, made)


def _header(account: Account, wanted: Wanted) -> Header:
    now = account.api.clock.earliest()
    return Header(account.tenant, b"", b"", now, now + wanted.ends_in if wanted.ends_in else wanted.ends_at)


def _terms(wanted: Wanted) -> dict[str, Any]:
    """Return the terms that are asked for, by their names in a policy."""
    signing, sealing = wanted.release_keys or (None, None)
    # It would be written out in the box, for everybody, or is refused in a policy, as the tab is: a slip of the maker.
    if wanted.text and any(map(is_dangerous, wanted.text.replace("\t", "\n"))):
        raise WrongInput(
            "The text to members has a line break, or another character that cannot be seen.",
            way_out="Write it as one paragraph of plain text.",
        )
    given: dict[str, Any] = {
        "release_signing_key": signing,
        "release_sealing_key": sealing,
        "delay_seconds": wanted.delay,
        "max_notice_delay_seconds": wanted.max_notice_delay,
        "cooling_off_seconds": wanted.cooling_off,
        "undelivered_delay_seconds": wanted.undelivered_delay,
        "purposes": wanted.purposes,
        "approve_with": wanted.approve_with,
        "deposits": wanted.deposits,
        "consent_binds_seconds": wanted.consent_binds,
        "text": wanted.text,
    }
    return {name: value for name, value in given.items() if value is not None}


def _drafted(account: Account, made: Policy) -> Proposal:
    try:
        payload = made.to_payload()
        made = Policy.from_payload(payload)
    except (HoldfastError, ValueError) as error:  # a ValueError of what its own reader would refuse
        raise WrongInput(
            f"No policy can be so: {error}.", way_out="See: holdfast officer policy propose --help"
        ) from error
    return _proposal(account, payload, made, (), at=account.api.clock.now())


def _roster(account: Account, newest: SignedPolicy, wanted: Wanted) -> tuple[Officer, ...]:
    if wanted.roster is not None:
        return _numbered(wanted.roster)
    removed = {acts.find_officer(account, newest, text).person for text in wanted.remove}
    keys = {person: (signing, sealing) for person, signing, sealing in wanted.rows}
    if removed & keys.keys():
        raise WrongInput("One officer is both to be removed and to get keys.")
    staying = [
        (one.person, one.signing_key, one.sealing_key) for one in newest.policy.roster if one.person not in removed
    ]
    rows = [(person, *keys.pop(person, (signing, sealing))) for person, signing, sealing in staying]
    rows += [(person, *pair) for person, pair in keys.items()]
    return _numbered(rows)


def _numbered(rows: Sequence[tuple[bytes, PublicKey, PublicKey]]) -> tuple[Officer, ...]:
    return tuple(Officer(index, *row) for index, row in enumerate(rows, start=1))


def stated_row(account: Account, person: UUID) -> tuple[bytes, PublicKey, PublicKey]:
    """Return a person's row as their own account states it. Raises NotPossible when it states none, TrustRefused."""
    said = stated_keys.newest(account, person.bytes)
    if said is None:
        raise NotPossible(
            f"The account of {person} has stated no officer's keys.",
            way_out="They state them: holdfast officer join. Or give their public keys in a file: --officer FILE",
        )
    return said.person, said.signing_key, said.sealing_key


def row_of(text: str) -> tuple[bytes, PublicKey, PublicKey]:
    """Read what `holdfast officer init --json` printed of an officer's keys: person, signing key, X-Wing key.

    Raises WrongInput. Nothing here says whose keys these are: the words of the row's person do.
    """
    answer = parse(text.encode())
    try:
        return (
            answer.identifier("person_id"),
            decode_public_key(bytes.fromhex(answer.text("signing_key")), expect=SIGNING_KINDS),
            decode_public_key(bytes.fromhex(answer.text("sealing_key")), expect=KeyKind.X_WING),
        )
    except (HoldfastError, ValueError) as error:
        raise WrongInput(
            f"These are no officer's keys: {error}.", way_out="They are made by: holdfast officer init --json"
        ) from error


def release_keys_of(text: str) -> tuple[PublicKey, PublicKey]:
    """Read the release process's signing and X-Wing key, as a ceremony printed them in JSON. Raises WrongInput."""
    answer = parse(text.encode())
    try:
        return (
            decode_public_key(bytes.fromhex(answer.text("signing_key")), expect=SIGNING_KINDS),
            decode_public_key(bytes.fromhex(answer.text("sealing_key")), expect=KeyKind.X_WING),
        )
    except (HoldfastError, ValueError) as error:
        raise WrongInput(f"These are no keys of a release process: {error}.") from error


def submit(account: Account, proposal: Proposal) -> Proposal:
    """Send a draft, so that officers are asked to sign it, and return it as the server has it."""
    answer = account.api.post("escrow/policy-proposals", {"payload": b64u(proposal.payload)})
    made = _read(account, answer)
    if made.hash != proposal.hash:
        raise TrustRefused("The server took another proposal than the one sent.")
    return made


def cancel(account: Account, proposal: Proposal) -> None:
    """Take back a proposal of one's own."""
    account.api.post(f"escrow/policy-proposals/{proposal.id}/withdraw", {})


# Reading


def list_proposals(account: Account, *, everything: bool = False) -> list[Proposal]:
    """Return the open proposals, each verified over the versions of the pin. Raises TrustRefused for one that lies.

    everything: also what is over, as far as it can still be read over today's versions.
    """
    tenant.refresh(account)
    rows: Iterator[Answer] = account.api.pages("escrow/policy-proposals", "proposals", "proposal_id")
    if not everything:
        rows = takewhile(lambda row: row.text("state") == "open", rows)
    return [_read(account, row) for row in rows]


def find_proposal(account: Account, prefix: str = "") -> Proposal:
    """Return the open proposal whose hash begins so; without a prefix the only one.

    Raises WrongInput, TrustRefused.
    """
    wanted = prefix.lower()
    if wanted and (len(wanted) < _MIN_PREFIX or not set(wanted) <= set("0123456789abcdef")):
        raise WrongInput("A proposal is named by the first four or more hex digits of its hash.")
    found = [one for one in list_proposals(account) if one.hash.hex().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    what = "Several proposals are open" if found else "No such proposal is open"
    known = f"Name one: {', '.join(one.hash.hex()[:8] for one in found)}" if found else ""
    raise WrongInput(f"{what}.", way_out=known or "See them: holdfast officer policy show")


def _read(account: Account, row: Answer) -> Proposal:
    payload, state = row.octets("payload", maximum=MAX_BLOB), row.text("state")
    try:
        policy = Policy.from_payload(payload)
        if policy.header.tenant != account.tenant:
            raise Malformed("it is another tenant's")
        signed = [
            Sign1.from_value([one.octets("protected"), {}, payload, one.octets("signature")])
            for one in row.many("signatures", maximum=_MOST_OFFICERS)
        ]
        signers = officers_who_signed(signed, *_rosters(account, policy), purpose=Purpose.POLICY)
    except HoldfastError as error:
        raise TrustRefused(f"A proposed policy is not to be trusted: {error}.") from error
    # What is over is dated by itself: counted from today it would seem to begin to wait anew.
    at = account.api.clock.now() if state == "open" else policy.header.issued_at
    made = _proposal(account, payload, policy, sorted(signers, key=lambda one: one.index), at=at)
    people = {
        one.identifier("person_id"): Told(
            one.text("name"), one.time("since"), tuple(UUID(text) for text in one.texts("let_in_by"))
        )
        for one in row.many("people")
    }
    found = replace(
        made,
        id=str(UUID(bytes=row.identifier("proposal_id"))),
        state=state,
        missing=row.number("missing"),
        touches=row.number("touches") if "touches" in row else -1,
        proposer=UUID(bytes=row.identifier("proposer")),
        told=people,
        is_undone=bool(account.policies) and made.hash in account.trusted.withdrawn,
    )
    if state == "open":
        _require_open(account, found)
    return found


def _rosters(account: Account, policy: Policy) -> list[Policy]:
    """Return the versions whose officers are asked. Raises Untrusted for one that the pin does not lead to."""
    if policy.version == 1:
        return [policy]  # by all its founders
    hashes = dict.fromkeys((policy.predecessor, policy.held_in_force))
    return [account.trusted.policy_named(one).policy for one in hashes]


def _require_open(account: Account, proposal: Proposal) -> None:
    """Hold a proposal that the server calls open to what this profile knows: what is over is not signed."""
    policy = proposal.policy
    known = account.trusted.policies if account.policies else ()
    newest = account.trusted.newest.hash if known else b""
    if (policy.version, policy.predecessor) != (len(known) + 1, newest):
        raise TrustRefused("The server calls a proposal open that does not follow the newest version.")
    if known and policy.held_in_force != acts.policy_in_force(account).hash:
        raise TrustRefused(
            "A proposed policy names another version as the one in force than the one that is.",
            way_out="Have it proposed anew, if another version came into force meanwhile. If that is refused too, the "
            "server calls open what is over: tell the other officers.",
        )
    if account.api.clock.latest() > proposal.ends_at:
        raise TrustRefused("The server calls a proposal open that has ended.")
    if policy.header.issued_at > account.api.clock.latest() + MAX_AHEAD_SECONDS:
        raise TrustRefused("A proposed policy is dated ahead.")


def _proposal(account: Account, payload: bytes, policy: Policy, signers: Sequence[Officer], *, at: int) -> Proposal:
    standing = account.policies
    before = [signed for signed in standing if signed.policy.version < policy.version]
    change = policy_change.change_of(
        policy,
        versions=before,
        # As the statements date themselves, like everything that this profile counts (`TrustedTenant.in_force`).
        published=[signed.policy.header.issued_at for signed in before],
        signers=frozenset(one.signing_key.kid for one in signers),
        at=at,
    )
    return Proposal(payload, Sign1(b"", payload, b"").payload_hash, policy, change, tuple(signers))


# Signing


def words_of(account: Account, proposal: Proposal, person: bytes) -> tuple[str, ...]:
    """Return the eight words of a person's own row in a proposal: what that person reads out, from their own screen."""
    return founder_words(account.tenant, _root_key(account), proposal.hash, person)


def _root_key(account: Account) -> PublicKey:
    """Return the tenant's root: the pinned one, or in a founding the one that the code names."""
    if account.state.trust.root_key:
        return root_key_of(account.state.trust.root_key)
    try:
        root_key = root_key_of(account.api.get("escrow/policy-proposals").octets("root_key", maximum=128))
    except Malformed as error:
        raise TrustRefused(
            f"The server shows no root of your tenant: {error}.",
            way_out="Sign nothing. Ask the operator to hold `ceremony tenant` again; it shows the root.",
        ) from error
    tenant.require_root(account, root_key)
    return root_key


def own_words(account: Account, proposal: Proposal) -> tuple[str, ...]:
    """Return the words that this profile's person reads to the others, none when their row is no new one.

    Raises TrustRefused when the row holds other keys than this profile does: they must not be read out.
    """
    require_own_row(account, proposal)
    is_fresh = any(one.person == account.user for one in proposal.change.fresh)
    return words_of(account, proposal, account.user) if is_fresh else ()


def require_own_row(account: Account, proposal: Proposal) -> None:
    """Raise TrustRefused when a proposal's row of this person holds keys that are not in this profile."""
    row = next((one for one in proposal.policy.roster if one.person == account.user), None)
    if row is None:
        return
    if OfficerPublicKeys(row.signing_key.encoded, row.sealing_key.encoded) not in officer_keys.public_keys(account):
        raise TrustRefused(
            "The proposed policy holds keys in your row that are not yours.",
            way_out="Do not sign. Tell the other officers: somebody put keys of their own in your name.",
        )


def require_stated(account: Account, proposal: Proposal) -> list[Officer]:
    """Hold each new row to what its person's account states, and return those of which the server shows no statement.

    Raises TrustRefused for a row with other keys than the person's account states last.
    """
    unstated = []
    for officer in to_hear(account, proposal):
        said = stated_keys.newest(account, officer.person)
        if said is None:
            unstated.append(officer)
        # Stops a row of a person who has an account, with keys that somebody else made.
        elif (said.signing_key, said.sealing_key) != (officer.signing_key, officer.sealing_key):
            raise TrustRefused(
                f"Row {officer.index} of the proposed policy holds other keys than that person's account states.",
                way_out="Do not sign. Tell the other officers, and have the version proposed anew.",
            )
    return unstated


def to_hear(account: Account, proposal: Proposal) -> list[Officer]:
    """Return the rows of other people that are new or have other keys: each person's words are heard before signing."""
    return [one for one in proposal.change.fresh if one.person != account.user]


def asked(account: Account, proposal: Proposal, officer: Officer) -> tuple[int, ...]:
    """Return at which places (1 to 8) this officer is asked for a person's words.

    Raises WrongWords when the tries are spent.
    """
    return hearing.asked(account, words_of(account, proposal, officer.person), about=_ROW)


def sign_proposal(account: Account, proposal: Proposal, *, heard: Mapping[bytes, Mapping[int, str]]) -> Signed:
    """Sign exactly what was shown and send it.

    heard: of each person of `to_hear`, by their 16 bytes, the words at the places of `asked`. Raises NotPossible for
    whoever is not asked, WrongWords, TrustRefused when the own row is not one's own.
    """
    keys = officer_keys.keys_of(account, _asked_row(account, proposal))
    require_stated(account, proposal)
    for officer in to_hear(account, proposal):
        words = words_of(account, proposal, officer.person)
        hearing.require_heard(account, words, heard.get(officer.person, {}), until=proposal.ends_at, about=_ROW)
    signed = sign(proposal.payload, purpose=Purpose.POLICY, key=keys.signing)
    path = f"escrow/policy-proposals/{proposal.id}/signatures"
    answer = account.api.post(path, {"statement": b64u(signed.encode())})
    if proposal.policy.version == 1:
        founding = SignedPolicy(proposal.policy, proposal.hash)
        tenant.complete_founding_trust(account, _root_key(account), founding)
    return Signed(answer.text("state"), answer.number("missing"))


def _asked_row(account: Account, proposal: Proposal) -> Officer:
    """Return this officer's row in a version whose officers are asked: the one in office signs, also for new keys.

    Raises NotPossible for whoever is not asked; TrustRefused as `require_own_row` does.
    """
    own = officer_keys.public_keys(account)
    if not own:
        raise ProfileError("This profile holds no officer's keys.", way_out="Make them: holdfast officer join")
    # First of all: whoever finds keys in their row that are not theirs is to hear that, and not that nobody asks them.
    require_own_row(account, proposal)
    for roster in _rosters(account, proposal.policy):
        for row in roster.roster:
            is_own = OfficerPublicKeys(row.signing_key.encoded, row.sealing_key.encoded) in own
            if row.person == account.user and is_own:
                return row
    raise NotPossible("You are not asked to sign this: it is for the officers of the version before it.")


# Escrow keys


@dataclass(frozen=True)
class KeyProposal:
    """A proposed escrow key that the tenant root has signed. missing: officers' signatures, by the server's word."""

    payload: bytes
    hash: bytes
    key: EscrowKey
    policy: SignedPolicy
    id: str
    missing: int

    @property
    def words(self) -> tuple[str, ...]:
        """The eight words of the key, as the ceremony shows them."""
        return self.key.key.fingerprint("escrow-key")


def find_key(account: Account, prefix: str = "") -> KeyProposal:
    """Return the open proposal of an escrow key whose hash begins so; without a prefix the only one.

    Raises NotPossible when there is none, ProfileError before a root is pinned, WrongInput when several are meant;
    TrustRefused for a key that the pinned root has not signed, that does not follow the one known here, or that names
    another policy than the one in force.
    """
    tenant.refresh(account)
    if not account.state.trust.root_key:
        raise ProfileError(
            "This profile has not signed its tenant's first policy, so that it does not hold to its root yet.",
            way_out="First: holdfast officer policy sign",
        )
    rows = [*account.api.pages("escrow/key-proposals", "proposals", "proposal_id")]
    found = [_read_key(account, row) for row in rows if row.text("state") == "open"]
    named = [one for one in found if one.hash.hex().startswith(prefix.lower())]
    if len(named) == 1:
        return named[0]
    if named:
        known = ", ".join(one.hash.hex()[:8] for one in named)
        raise WrongInput("Several escrow keys wait for a signature.", way_out=f"Name one by its hash: {known}")
    # Newest first. A key names the policy in force: when another came into force, nobody can sign it any more.
    is_replaced = bool(rows) and rows[0].text("state") == "replaced"
    raise NotPossible(
        "No escrow key waits for a signature.",
        way_out="The newest was made for a policy that is no longer in force. Have the operator make it anew: "
        "manage.py ceremony escrow-key"
        if is_replaced
        else "",
    )


def _read_key(account: Account, row: Answer) -> KeyProposal:
    payload = row.octets("payload", maximum=MAX_BLOB)
    root_key = root_key_of(account.state.trust.root_key)
    try:
        signed = [
            Sign1.from_value([one.octets("protected"), {}, payload, one.octets("signature")])
            for one in row.many("signatures", maximum=_MOST_OFFICERS)
        ]
        by_root = next((one for one in signed if one.kid == root_key.kid), None)
        # Stops a server, or one officer, from having a key signed whose private half no ceremony made (FAULTS S1).
        if by_root is None:
            raise Malformed("the tenant root has not signed it")
        by_root.verify(root_key, purpose=Purpose.ESCROW_KEY)
        key = EscrowKey.from_payload(payload)
        if key.header.tenant != account.tenant:
            raise Malformed("it is another tenant's")
        policy = account.trusted.policy_named(key.policy_hash)
    except HoldfastError as error:
        raise TrustRefused(f"A proposed escrow key is not to be trusted: {error}.") from error
    known = account.state.trust.escrow_keys
    before = account.escrow_key if known else None
    if (key.version, key.predecessor) != (len(known) + 1, before.hash if before else b""):
        raise TrustRefused("A proposed escrow key does not follow the one that this profile knows.")
    if key.algorithm.startswith("oaep-sha1") and not account.state.trust.is_development:
        raise TrustRefused("A proposed escrow key uses oaep-sha1, which only a development tenant may.")
    if policy.hash != acts.policy_in_force(account).hash:
        raise TrustRefused("A proposed escrow key names another policy than the one in force.")
    identifier = str(UUID(bytes=row.identifier("proposal_id")))
    return KeyProposal(payload, by_root.payload_hash, key, policy, identifier, row.number("missing"))


def sign_key(account: Account, proposal: KeyProposal) -> Signed:
    """Sign exactly the key whose words were shown, and send it. Raises NotPossible for whoever is no officer of it."""
    own = officer_keys.own_row(account, proposal.policy)
    signed = officer_keys.keys_of(account, own).sign_escrow_key(proposal.payload)
    path = f"escrow/key-proposals/{proposal.id}/signatures"
    answer = account.api.post(path, {"statement": b64u(signed.encode())})
    return Signed(answer.text("state"), answer.number("missing"))
