# SPDX-License-Identifier: Apache-2.0
"""Becoming an officer on one's own machine: keys in the officers' section, two doors to it, and the account's word.

Implements ESCROW "Policy and officers" and ORGANISATION "Devices", in steps that each survive a kill.
Does not enrol (`identity.device`), and makes nobody an officer: a policy does.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.client.errors import ProfileError, TrustRefused
from holdfast.client.officers import officer_keys, section, section_doors
from holdfast.client.officers.section_doors import SectionDoor
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, OfficerPublicKeys
from holdfast.client.server.answers import Answer
from holdfast.client.vault import doors, pairing, vault
from holdfast.client.waiting import retry, stale_problem
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey, SigningKey, decode_public_key
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.vault.password_door import DEFAULT_COST, Argon2Cost

_STALE = "officer-keys-stale"
_PATH = "escrow/officer-statements"


@dataclass(frozen=True)
class Joined:
    """What a person is as an officer now. is_stated: whether their account had to state these keys just now."""

    person: bytes
    signing_key: PublicKey
    sealing_key: PublicKey
    doors: list[SectionDoor]
    is_stated: bool


def begin(account: Account) -> list[str]:
    """Have a pair of keys in the officers' section, and return the kinds of doors that have still to be set.

    A pair that the profile holds, of an officer of before there was a section, is the one that goes in. Raises
    ProfileError on a device that is not part of the account, and where the section is another device's to give.
    """
    vault.save_if_changed(account)
    section.begin(account)
    kept = account.state.officers_section
    assert kept is not None
    # Kept in the profile before it goes anywhere, and there until `finish` has read it back: it is never in neither.
    if account.state.officer is None and not kept.keys:
        account.state.officer = OfficerKeys(SigningKey.generate().seed(), SealingKey.generate().seed())
        account.save()
    own = account.state.officer
    section.save(account, [own] if own else [])
    return section_doors.missing(account)


def begin_anew(account: Account) -> list[str]:
    """Make another pair of keys after a loss, in a section under another key; return the doors that have to be set.

    The pairs of before stay in it: shares of earlier deposits are sealed to them. From here it goes on as after
    `begin`, and `finish` has the account state the new pair. Repeatable, also after a kill. Raises ProfileError on a
    device that does not hold the section's key, and while an earlier pair is still on its way into the section.
    """
    if not section.is_renewing(account):
        if account.state.officers_section is None or account.state.officer is not None:
            way_out = section.RESTORE if account.state.officer is None else "First: holdfast officer init"
            raise ProfileError("This device does not lead to your officers' section.", way_out=way_out)
        vault.save_if_changed(account)
        section.begin_renewal(account)
    # Kept in the profile before it goes anywhere, and there until `finish` has read it back: it is never in neither.
    if account.state.officer is None:
        account.state.officer = OfficerKeys(SigningKey.generate().seed(), SealingKey.generate().seed())
        account.save()
    section.renew(account, account.state.officer)
    return section_doors.missing(account)


def take(account: Account) -> bool:
    """Take the section's key that another device of the person's gave when it brought this one in; True if it did.

    Call it on a device that was just paired. Raises as `section.load` does: then a door brings the keys here.
    """
    given = pairing.officers_key_given(account)
    if given is None:
        return False
    section.take(account, given)
    pairing.put_away_officers_key(account)
    return True


def set_passphrase(account: Account, passphrase: SecretBytes, *, cost: Argon2Cost = DEFAULT_COST) -> None:
    """Make the passphrase open the section, and the vault as well where that has no password.

    passphrase: generated, and given back by the person.
    """
    if _is_missing(account, doors.PASSWORD):
        doors.set_password(account, passphrase, cost=cost)
    section_doors.set_passphrase(account, passphrase, cost=cost)


def set_phrase(account: Account, phrase: Phrase, answers: dict[int, str]) -> None:
    """Make the phrase open the section, and the vault as well where that has no phrase, once words were given back.

    answers: by position, four or more. Raises WrongWords for a wrong one, and then nothing was done.
    """
    doors.require_answers(phrase, answers)
    if _is_missing(account, doors.PHRASE):
        doors.confirm_phrase(account, phrase, answers)
    section_doors.set_phrase(account, phrase)


def _is_missing(account: Account, kind: str) -> bool:
    return not next(door for door in doors.status(account) if door.kind == kind).is_open


def finish(account: Account) -> Joined:
    """Leave the keys in the section alone, and have the account state them. Repeatable.

    Raises ProfileError while a door is missing; TrustRefused when the section lacks what was put into it, or the
    server shows keys as stated that are not this officer's.
    """
    contents, found = section.load(account), section_doors.status(account)
    if sum(door.is_open for door in found) < section_doors.NEEDED:
        raise ProfileError(
            "Your officers' section needs two doors that were proven to open.", way_out="Run: holdfast officer init"
        )
    if contents is None:
        raise ProfileError("There is no officers' section of yours on the server.", way_out="holdfast officer init")
    own = account.state.officer
    if own is not None and own not in contents.pairs:
        raise TrustRefused("The server does not keep your officer's keys.", way_out="Tell your operator.")
    is_stated = state_keys(account)
    # The mark first: whoever is killed in between has the pair in both places, and makes no third one.
    section.end_renewal(account)
    if own is not None:
        account.state.officer = None
        account.save()
    signing, sealing = _decoded(officer_keys.public_keys(account)[-1])
    return Joined(account.user, signing, sealing, found, is_stated)


def state_keys(account: Account) -> bool:
    """Have the account state the officer's keys in use, unless it has under its identity key of now; True if it did.

    Raises TrustRefused when the server shows a statement about keys that are none of this officer's.
    """

    def attempt() -> bool:
        newest = next(account.api.get(_PATH, query={"person": account.user_text}).many("statements"), None)
        before = _own_statement(account, newest) if newest is not None else None
        own = officer_keys.public_keys(account)[-1]
        if before is not None and _is_current(account, before, own):
            return False
        signing, sealing = _decoded(own)
        said = OfficerStatement(
            header=account.header(),
            person=account.user,
            signing_key=signing,
            sealing_key=sealing,
            predecessor=before.payload_hash if before else b"",
        )
        signed = sign(said.to_payload(), purpose=Purpose.OFFICER, key=account.identity_key)
        account.api.post(_PATH, {"statement": b64u(signed.encode())})
        return True

    return retry(attempt, stale=_STALE, lost=stale_problem(_STALE, "Another device of yours keeps stating keys."))


def _own_statement(account: Account, row: Answer) -> Sign1:
    """Read what the server shows as the account's newest statement; its keys have to be this officer's."""
    try:
        statement = Sign1.parse(row.octets("statement"))
        said = OfficerStatement.from_payload(statement.payload)
        state = vault.chain_of(account)
        key = next((one for one in (state.aik, *state.former_aiks) if one.kid == statement.kid), state.aik)
        statement.verify(key, purpose=Purpose.OFFICER)
    except HoldfastError as error:
        raise _distrust(f"A statement about your officer's keys is not to be trusted: {error}.") from error
    stated = OfficerPublicKeys(said.signing_key.encoded, said.sealing_key.encoded)
    if (said.header.tenant, said.person) != (account.tenant, account.user):
        raise _distrust("The server shows another person's statement as yours.")
    if stated not in officer_keys.public_keys(account):
        raise _distrust("Keys that are not yours were stated in your name.")
    return statement


def _is_current(account: Account, statement: Sign1, own: OfficerPublicKeys) -> bool:
    try:
        aik = vault.chain_of(account).aik
        said = verify_officer_statement(statement, aik=aik, tenant=account.tenant, user=account.user)
    except HoldfastError:
        return False  # by an identity key that was rotated since: it is said again
    return OfficerPublicKeys(said.signing_key.encoded, said.sealing_key.encoded) == own


def _distrust(message: str) -> TrustRefused:
    return TrustRefused(
        message, way_out="Sign no policy. Tell the other officers: somebody has a device of yours, or the server lies."
    )


def _decoded(public: OfficerPublicKeys) -> tuple[PublicKey, PublicKey]:
    signing = decode_public_key(public.signing_key, expect=KeyKind.ED25519)
    return signing, decode_public_key(public.sealing_key, expect=KeyKind.X_WING)
