# SPDX-License-Identifier: Apache-2.0
"""An officer's two keys, and what a founding officer signs before there is a server.

Implements ESCROW "Policy and officers" for a ceremony: policy version 1 and the first escrow key.
Does not decide on cases; `officer` does, with the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.client.errors import ProfileError, TrustRefused
from holdfast.client.profile import account
from holdfast.client.profile.account import Account
from holdfast.client.profile.private_files import write_private
from holdfast.client.profile.state import OfficerKeys
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey, SigningKey
from holdfast.core.identity.policy import Officer, Policy, SignedPolicy
from holdfast.core.identity.trust import root_pin
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.statements import EscrowKey


@dataclass(frozen=True)
class FoundingOfficer:
    """An officer's profile in a ceremony. Public halves go into the roster; private halves stay in the profile."""

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

    def sign_policy(self, payload: bytes) -> Sign1:
        """Sign a policy. Raises TrustRefused unless it is of this tenant and names exactly these keys."""
        policy = Policy.from_payload(payload)
        rows = [row for row in policy.roster if row.person == self.person]
        own = Officer(rows[0].index, self.person, self.signing_key, self.sealing_key) if rows else None
        if policy.header.tenant != self.account.tenant or rows != [own]:
            raise TrustRefused("The policy is another tenant's, or does not list you with your own keys.")
        return sign(payload, purpose=Purpose.POLICY, key=self.signing)

    def sign_escrow_key(self, payload: bytes) -> Sign1:
        """Sign an escrow-key statement. Raises TrustRefused unless it is of this tenant."""
        if EscrowKey.from_payload(payload).header.tenant != self.account.tenant:
            raise TrustRefused("The escrow key is another tenant's.")
        return sign(payload, purpose=Purpose.ESCROW_KEY, key=self.signing)

    def pin(self, root_key: PublicKey, founding_policy_hash: bytes, *, is_development: bool = False) -> None:
        """Remember the root pin, which every later enrolment of this profile must then meet."""
        trust = self.account.state.trust
        pin = root_pin(self.account.tenant, root_key, founding_policy_hash)
        if trust.pin not in (b"", pin):
            raise TrustRefused("This profile is pinned to another root already.")
        trust.pin, trust.root_key, trust.is_development = pin, root_key.encoded, is_development
        self.account.save()


def keys_of(holder: Account) -> FoundingOfficer:
    """Return the officer keys in a profile. Raises ProfileError when it has none."""
    kept = holder.state.officer
    if kept is None:
        raise ProfileError("This profile holds no officer's keys.", way_out="Make them with `holdfast officer init`.")
    signing = SigningKey.from_seed(KeyKind.ED25519, kept.signing_seed)
    return FoundingOfficer(holder, signing, SealingKey.from_seed(kept.sealing_seed))


def own_row(holder: Account, policy: SignedPolicy) -> Officer:
    """Return this officer's row of a policy. Raises ProfileError for a policy that does not list these keys."""
    keys = keys_of(holder)
    row = policy.policy.officer(keys.signing_key.kid)
    if row is None or (row.person, row.sealing_key) != (holder.user, keys.sealing_key):
        raise ProfileError("The policy does not list you as an officer with these keys.")
    return row


def make_keys(holder: Account) -> FoundingOfficer:
    """Make officer keys in a profile and keep them. Raises ProfileError when it has some already."""
    if holder.state.officer is not None:
        raise ProfileError(
            "This profile holds an officer's keys already.",
            way_out="Replacing them would make every share sealed to them unreadable.",
        )
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    holder.state.officer = OfficerKeys(signing.seed(), sealing.seed())
    holder.save()
    return FoundingOfficer(holder, signing, sealing)


def create_officer_profile(
    directory: Path, *, tenant: bytes, person: bytes, passphrase: SecretBytes | None = None
) -> FoundingOfficer:
    """Make a private directory with a profile that holds fresh officer keys, and nothing else yet.

    tenant, person: 16 bytes. Raises ProfileError when the directory holds a profile, OutOfBounds for a
    passphrase below 14 characters.
    """
    return make_keys(account.create(directory, tenant=tenant, user=person, passphrase=passphrase))


def open_officer_profile(directory: Path, *, passphrase: SecretBytes | None = None) -> FoundingOfficer:
    """Open a profile that create_officer_profile made. Raises WrongPassphrase and ProfileError."""
    return keys_of(account.open_profile(directory, passphrase=passphrase))


__all__ = [
    "FoundingOfficer",
    "create_officer_profile",
    "keys_of",
    "make_keys",
    "open_officer_profile",
    "own_row",
    "write_private",
]
