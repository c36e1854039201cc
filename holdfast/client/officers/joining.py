# SPDX-License-Identifier: Apache-2.0
"""Becoming an officer on one's own machine: keys in the officers' section, two doors to it, and the account's word.

Implements ESCROW "Policy and officers" and ORGANISATION "Devices", in steps that each survive a kill.
Does not enrol (`identity.device`), and makes nobody an officer: a policy does.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.client.errors import NotPossible, ProfileError, TrustRefused
from holdfast.client.officers import officer_keys, section, section_doors, stated_keys
from holdfast.client.officers.section_doors import SectionDoor
from holdfast.client.officers.stated_keys import StatedKeys
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, OfficerPublicKeys
from holdfast.client.vault import doors, pairing, vault
from holdfast.client.waiting import retry, stale_problem
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey, SigningKey, decode_public_key
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.signed.cose import Purpose, sign
from holdfast.core.vault.password_door import DEFAULT_COST, Argon2Cost

_STALE = "officer-keys-stale"


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

    Raises NotPossible while a door is missing; TrustRefused when the section lacks what was put into it, or holds
    nothing that is borne out, or the account states keys that are not this officer's. Those that an identity key of
    before has stated are gone by it: whoever calls has shown the words of these (`stated_otherwise`).
    """
    contents, found = section.load(account), section_doors.status(account)
    if sum(door.is_open for door in found) < section_doors.NEEDED:
        raise NotPossible(
            "Your officers' section needs two doors that were proven to open.", way_out="Run: holdfast officer init"
        )
    if contents is None:
        raise NotPossible("There is no officers' section of yours on the server.", way_out="holdfast officer init")
    own = account.state.officer
    if own is not None and own not in contents.pairs:
        raise TrustRefused("The server does not keep your officer's keys.", way_out="Tell your operator.")
    is_stated = state_keys(account, over_former=True)
    # The mark first: whoever is killed in between has the pair in both places, and makes no third one.
    section.end_renewal(account)
    if own is not None:
        account.state.officer = None
        account.save()
    signing, sealing = decoded(_in_use(account))
    return Joined(account.user, signing, sealing, found, is_stated)


def stated_otherwise(account: Account) -> tuple[OfficerPublicKeys, OfficerPublicKeys] | None:
    """Return the keys that `finish` would state in place of others, and those others; None when it replaces none.

    To be shown to the person before it does. Raises TrustRefused as `finish` does.
    """
    before, own = _newest(account), _in_use(account)
    return None if before is None or before.keys == own else (own, before.keys)


def state_keys(account: Account, *, over_former: bool = False) -> bool:
    """Have the account state the officer's keys in use, unless it has under its identity key of now; True if it did.

    The section comes first under that identity key: what a former one signed may be a thief's. over_former: also in
    place of other keys, stated under an identity key of before. Raises TrustRefused when the server shows a statement
    about keys that are none of this officer's.
    """

    def attempt() -> bool:
        before, own = _newest(account), _in_use(account)
        if before is not None and not over_former:
            _require_own(account, before)
        if before is not None and before.is_by_aik and before.keys == own:
            return False
        section.save(account, [])
        signing, sealing = decoded(own)
        said = OfficerStatement(
            header=account.header(),
            person=account.user,
            signing_key=signing,
            sealing_key=sealing,
            predecessor=before.statement.payload_hash if before else b"",
        )
        signed = sign(said.to_payload(), purpose=Purpose.OFFICER, key=account.identity_key)
        account.api.post(stated_keys.PATH, {"statement": b64u(signed.encode())})
        return True

    return retry(attempt, stale=_STALE, lost=stale_problem(_STALE, "Another device of yours keeps stating keys."))


def _newest(account: Account) -> StatedKeys | None:
    """Return the account's newest statement. Raises TrustRefused for one by the identity key of now of others' keys."""
    stated = stated_keys.newest_own(account)
    if stated is not None and stated.is_by_aik:
        _require_own(account, stated)
    return stated


def _require_own(account: Account, stated: StatedKeys) -> None:
    if stated.keys not in officer_keys.public_keys(account):
        raise stated_keys.distrust("Keys that are not yours were stated in your name.")


def _in_use(account: Account) -> OfficerPublicKeys:
    return officer_keys.public_keys(account)[-1]


def words_of(keys: OfficerPublicKeys) -> tuple[str, ...]:
    """Return eight words of a pair's signing key, for a person to tell it from another one."""
    return decoded(keys)[0].fingerprint("officer")


def decoded(public: OfficerPublicKeys) -> tuple[PublicKey, PublicKey]:
    """Return the signing key and the sealing key of a pair's public halves. Raises Malformed."""
    signing = decode_public_key(public.signing_key, expect=KeyKind.ED25519)
    return signing, decode_public_key(public.sealing_key, expect=KeyKind.X_WING)
