# SPDX-License-Identifier: Apache-2.0
"""An officer's keys: where they lie, and which of them a policy names.

Implements ESCROW "Policy and officers". A pair lies in the officers' section of the vault (`section`); until its owner
has moved it there, in the profile. Does not decide on cases; `officer` does, with the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.client.errors import NotPossible, ProfileError, TrustRefused
from holdfast.client.officers import section
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerPublicKeys
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey, SigningKey
from holdfast.core.identity.policy import Officer, SignedPolicy
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.statements import EscrowKey


@dataclass(frozen=True)
class FoundingOfficer:
    """An officer with one pair of their keys, out of the section. Public halves are those of the roster."""

    account: Account
    signing: SigningKey
    sealing: SealingKey

    @property
    def person(self) -> bytes:
        """The 16-byte person."""
        return self.account.user

    @property
    def signing_key(self) -> PublicKey:
        """The key that signs policies, approvals and attestations."""
        return self.signing.public

    @property
    def sealing_key(self) -> PublicKey:
        """The X-Wing key to which devices seal this officer's shares."""
        return self.sealing.public

    def sign_escrow_key(self, payload: bytes) -> Sign1:
        """Sign an escrow-key statement. Raises TrustRefused unless it is of this tenant."""
        if EscrowKey.from_payload(payload).header.tenant != self.account.tenant:
            raise TrustRefused("The escrow key is another tenant's.")
        return sign(payload, purpose=Purpose.ESCROW_KEY, key=self.signing)


def has_keys(holder: Account) -> bool:
    """Whether this profile leads to an officer's keys."""
    return bool(public_keys(holder))


def public_keys(holder: Account) -> list[OfficerPublicKeys]:
    """Return the public halves of every pair that this profile leads to, oldest first; the server is not asked."""
    kept, own = holder.state.officers_section, holder.state.officer
    found = list(kept.keys) if kept else []
    # One that is on its way into the section is in both.
    if own is not None and (public := section.public_halves(own)) not in found:
        found.append(public)
    return found


def keys_of(holder: Account, row: Officer | None = None, *, of_old: bool = False) -> FoundingOfficer:
    """Return an officer's pair: the one that a policy's row names, or without a row the one in use.

    From the profile, or from the section, which is then read from the server. of_old: as this device has last seen it,
    where the server shows an older one, or an older account chain: whoever accepts a backup that was put back needs
    their keys before the server has anything back. Raises ProfileError when there is none, NotPossible when none is
    that row's; TrustRefused as `section.load` does.
    """
    _require_keys(holder)
    own = holder.state.officer
    wanted = public_keys(holder)[-1] if row is None else _public_of(row)
    if own is None or section.public_halves(own) != wanted:
        try:
            contents = section.load(holder)
        except TrustRefused:
            contents = section.load_kept(holder) if of_old else None
            if contents is None:
                raise
        pairs = contents.pairs if contents else ()
        own = next((pair for pair in pairs if section.public_halves(pair) == wanted), None)
    if own is None:
        raise NotPossible("Your officers' section does not hold these keys.", way_out=section.RESTORE)
    signing = SigningKey.from_seed(KeyKind.ED25519, own.signing_seed)
    return FoundingOfficer(holder, signing, SealingKey.from_seed(own.sealing_seed))


def own_row(holder: Account, policy: SignedPolicy) -> Officer:
    """Return this officer's row of a policy. Raises NotPossible for a policy that does not list these keys."""
    _require_keys(holder)
    own = public_keys(holder)
    rows = (row for row in policy.policy.roster if row.person == holder.user and _public_of(row) in own)
    row = next(rows, None)
    if row is None:
        raise NotPossible("The policy does not list you as an officer with these keys.")
    return row


def _public_of(row: Officer) -> OfficerPublicKeys:
    return OfficerPublicKeys(row.signing_key.encoded, row.sealing_key.encoded)


def secret_of(holder: Account) -> SecretBytes:
    """Return 32 bytes that nobody knows but this officer, without asking the server. Raises ProfileError for none."""
    _require_keys(holder)
    kept, own = holder.state.officers_section, holder.state.officer
    if kept is not None:
        return kept.key
    assert own is not None
    return own.signing_seed


def _require_keys(holder: Account) -> None:
    if not has_keys(holder):
        raise ProfileError(
            "This profile holds no officer's keys.",
            way_out="Make them: holdfast officer init. On a new device: holdfast officer restore",
        )
