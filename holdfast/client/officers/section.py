# SPDX-License-Identifier: Apache-2.0
"""The officers' section of the vault: every pair of keys that an officer ever had, under a key of its own.

Implements ESCROW "Policy and officers" on the device; docs/formats/keyring.md, "Officers' section".
Does not open doors (`section_doors`): it is given the section's key, and says whether the section is the person's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from holdfast.client.errors import NotPossible, ProfileError, TrustRefused, UpdateNeeded
from holdfast.client.identity import tenant
from holdfast.client.officers import stated_keys
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, OfficerPublicKeys, OfficersSection
from holdfast.client.vault import vault
from holdfast.client.vault.vault import Found
from holdfast.client.waiting import retry, stale_problem
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.rows import nested, open_map, seal_map, several, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SealingKey, SigningKey
from holdfast.core.vault.blob import Section, VaultHeader, new_vault_key, open_vault, read_header, seal_vault

FORMAT: Final = 1  # docs/formats/keyring.md
MAX_PAIRS: Final = 64  # one a month for five years: an officer has another pair when a device was lost
_STALE: Final = "vault-stale"
# The section's next key, kept before the section is: from the loss of a device until the new keys are stated.
_NEXT: Final = ("officers-section", b"next-key")
# The section as it was last read or written, sealed, for a server that was put back and has lost it.
_KEPT: Final = ("officers-section", b"kept")
RESTORE: Final = "Bring it here by one of its doors: holdfast officer restore"


@dataclass(frozen=True)
class Contents:
    """What the section holds: pairs of keys, oldest first; the last one is in use."""

    pairs: Annotated[
        tuple[OfficerKeys, ...],
        several(nested(OfficerKeys, "officer keys"), of=tuple, minimum=1, maximum=MAX_PAIRS).at(2),
    ]
    version: Annotated[int, uint(minimum=FORMAT, maximum=FORMAT).at(1)] = FORMAT

    def to_secret(self) -> SecretBytes:
        """Return the bytes: dCBOR{1: 1, 2: [[signing seed, X-Wing seed]…]}."""
        return seal_map(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Contents:
        """Read the bytes of an opened section. Raises Malformed."""
        return open_map(cls, secret, "officers' section")


def public_halves(pair: OfficerKeys) -> OfficerPublicKeys:
    """Return the public halves of a pair, encoded."""
    signing = SigningKey.from_seed(KeyKind.ED25519, pair.signing_seed)
    return OfficerPublicKeys(signing.public.encoded, SealingKey.from_seed(pair.sealing_seed).public.encoded)


def fetch(account: Account) -> Found | None:
    """Fetch the section and verify whose it is; None when the server has none.

    Raises TrustRefused for one that no identity key of the account has signed, of another person or section, or older
    than one this device has seen.
    """
    kept = account.state.officers_section
    seen = (kept.epoch, kept.version) if kept else (0, 0)
    return vault.beside_chain(account, lambda state: vault.fetch_section(account, state, Section.OFFICERS, seen=seen))


def open_found(account: Account, found: Found, key: SecretBytes) -> Contents:
    """Open the section that was fetched under a key, and keep the key and what lies in it by its public halves.

    Pairs that nothing but a former identity key vouches for are left out, which may leave none: see `_borne_out`.
    Raises TrustRefused, and nothing is kept, for a key that does not open it.
    """
    try:
        secret = open_vault(found.blob, vault_key=key, expect=found.header)
    except HoldfastError as error:
        raise TrustRefused(
            f"Your officers' section does not open: {error}.",
            way_out="Change nothing. Try another door: holdfast officer restore; and tell the other officers.",
        ) from error
    try:
        contents = Contents.from_secret(secret)
    except HoldfastError as error:
        raise UpdateNeeded("your officers' section, on another device of yours") from error
    if found.signer != vault.chain_of(account).aik:
        contents = replace(contents, pairs=_borne_out(account, contents.pairs))
    _note(account, OfficersSection(found.header.epoch, key, found.header.version), contents, found.blob)
    return contents


def _note(account: Account, under: OfficersSection, contents: Contents, blob: bytes) -> None:
    """Keep the section's key, what lies in it by its public halves, and its sealed bytes, which that key opens."""
    public = [public_halves(pair) for pair in contents.pairs]
    with account.store.transaction():
        account.state.officers_section = replace(under, keys=public)
        account.store.put(*_KEPT, SecretBytes(blob))
        account.save()


def _borne_out(account: Account, pairs: Sequence[OfficerKeys]) -> tuple[OfficerKeys, ...]:
    """Return which pairs are this officer's by more than an identity key that the account has left.

    Whoever stole that key can sign a section with a pair of their own in it, and a server that is with them can show
    it. Believed is what this profile has held, a policy names, or the account states under its identity key of now.
    """
    kept, own = account.state.officers_section, account.state.officer
    known = [*(kept.keys if kept else ()), *([public_halves(own)] if own else ()), *_named_by_policies(account)]
    if any(public_halves(pair) not in known for pair in pairs):
        # Asked only here: a profile that knows all of them needs nothing of the server.
        tenant.refresh(account)
        said = stated_keys.newest_own(account)
        known += [*_named_by_policies(account), *([said.keys] if said and said.is_by_aik else ())]
    return tuple(pair for pair in pairs if public_halves(pair) in known)


def _named_by_policies(account: Account) -> Iterator[OfficerPublicKeys]:
    for policy in account.policies:
        for row in policy.policy.roster:
            if row.person == account.user:
                yield OfficerPublicKeys(row.signing_key.encoded, row.sealing_key.encoded)


def load(account: Account) -> Contents | None:
    """Read the section under the key that this device holds; None before its first version.

    Raises ProfileError on a device that holds no key of it, or an earlier one; TrustRefused as `fetch` does, when the
    server no longer has a section that it had, and when nothing in it is borne out, except on the way to other keys.
    """
    loaded = _load(account)
    return loaded[1] if loaded else None


def _load(account: Account) -> tuple[Found, Contents] | None:
    kept = account.state.officers_section
    if kept is None:
        raise ProfileError("This device does not hold the key of your officers' section.", way_out=RESTORE)
    found = fetch(account)
    if found is None:
        if kept.version:
            raise TrustRefused(
                f"The server has lost your officers' section, which it had at version {kept.version}.",
                way_out="Tell your operator, who has backups, and the other officers.",
            )
        return None
    if found.header.epoch != kept.epoch:
        raise ProfileError("Another device of yours changed the key of your officers' section.", way_out=RESTORE)
    contents = open_found(account, found, kept.key)
    if not contents.pairs and not is_renewing(account):
        raise TrustRefused(
            "Your officers' section is signed by an identity key that your account has left, and nothing else says "
            "that the keys in it are yours.",
            way_out="Run `holdfast maintain` on another device that leads to them, if you have one. Otherwise make "
            "others: holdfast officer new-keys",
        )
    return found, contents


def load_kept(account: Account) -> Contents | None:
    """Open the section as this device has last read or written it; None where it leads to none.

    A profile from before sections were kept asks for the server's, however old that is, and holds it to the chain that
    is known here. For a server that was put back: what is opened is not remembered as the newest.
    """
    kept, sealed = account.state.officers_section, account.store.get(*_KEPT)
    if kept is None:
        return None
    if sealed is not None:
        return _opened(sealed.reveal(), kept)
    found = vault.fetch_section(account, account.chain, Section.OFFICERS, seen=(0, 0))
    return _opened(found.blob, kept) if found is not None and found.header.epoch == kept.epoch else None


def save(account: Account, pairs: Sequence[OfficerKeys]) -> Contents:
    """Have these pairs in the section, after those that are there, under the account's identity key of now.

    Nothing that is in it is ever dropped, but for pairs that are not borne out. Idempotent, also after a lost answer.
    Raises as `load` does.
    """

    def attempt() -> Contents:
        loaded = _load(account)
        held = loaded[1].pairs if loaded else ()
        new = [pair for pair in pairs if pair not in held]
        if loaded and not new and loaded[0].signer == vault.chain_of(account).aik:
            return loaded[1]
        kept = account.state.officers_section
        assert kept is not None
        _put(account, Contents((*held, *new)), replace(kept, version=kept.version + 1))
        read = load(account)
        assert read is not None
        return read

    lost = stale_problem(_STALE, "Another of your devices keeps writing to your officers' section.")
    return retry(attempt, stale=_STALE, lost=lost)


def give_back(account: Account) -> bool:
    """Write the section once more where a server that was put back has an older one, or none; True if that was done.

    With every pair that lies in either. To be called while officers' acceptance of a backup heals
    (`restored.is_healing`): at any other time an older section is a lie. Raises as `load` does.
    """
    kept, sealed = account.state.officers_section, account.store.get(*_KEPT)
    if kept is None or sealed is None:
        return False

    def attempt() -> bool:
        found = vault.beside_chain(
            account, lambda state: vault.fetch_section(account, state, Section.OFFICERS, seen=(0, 0))
        )
        there = (found.header.epoch, found.header.version) if found else (0, 0)
        if there >= (kept.epoch, kept.version):
            return False
        pairs = list(_opened(sealed.reveal(), kept).pairs)
        if found is not None and found.header.epoch == kept.epoch:
            pairs = [*pairs, *(one for one in _opened(found.blob, kept).pairs if one not in pairs)]
        _put(account, Contents(_borne_out(account, pairs)), replace(kept, version=there[1] + 1))
        account.state.officers_section = replace(kept, version=there[1])
        return load(account) is not None

    lost = stale_problem(_STALE, "Another of your devices keeps writing to your officers' section.")
    return retry(attempt, stale=_STALE, lost=lost)


def _opened(blob: bytes, kept: OfficersSection) -> Contents:
    """Open a sealed section under the key of now."""
    try:
        header = read_header(blob, Section.OFFICERS)
        return Contents.from_secret(open_vault(blob, vault_key=kept.key, expect=header))
    except HoldfastError as error:
        raise TrustRefused(f"Your officers' section does not open: {error}.") from error


def _put(account: Account, contents: Contents, under: OfficersSection) -> None:
    if len(contents.pairs) > MAX_PAIRS:
        raise NotPossible(f"Your officers' section is full: it holds {MAX_PAIRS} pairs of keys.")
    header = VaultHeader(account.tenant, account.user, under.epoch, under.version, Section.OFFICERS)
    blob = seal_vault(contents.to_secret(), vault_key=under.key, header=header)
    statement = vault.sign_section(account, Section.OFFICERS, blob, version=under.version)
    document = {"statement": b64u(statement.encode()), "blob": b64u(blob)}
    account.api.put("vault/officers", document, if_match=f'"{under.version - 1}"')


def is_renewing(account: Account) -> bool:
    """Whether the section is on its way under another key, or its owner has still to be done with that."""
    return account.store.get(*_NEXT) is not None


def begin_renewal(account: Account) -> None:
    """Make the section's next key in this profile, unless it has made one."""
    if not is_renewing(account):
        account.store.put(*_NEXT, new_vault_key())


def end_renewal(account: Account) -> None:
    """Forget that the section was put under another key: all of it is done."""
    account.store.delete(*_NEXT)


def renew(account: Account, pair: OfficerKeys) -> None:
    """Put the section under its next key, with one more pair in it. After `begin_renewal`; repeatable.

    Whoever has the key of before reads what was in it then, and not this pair: a stolen device knew that key, and
    its doors. What is there stays: deposits' shares are sealed to the earlier pairs. No door opens it afterwards
    until one is set. Raises as `load` does.
    """
    kept, key = account.state.officers_section, account.store.get(*_NEXT)
    assert key is not None
    if kept is None or kept.key != key:
        found = fetch(account)
        if kept is None or found is None or found.header.epoch != kept.epoch + 1:
            held = load(account)
            kept = account.state.officers_section
            if held is None or kept is None:
                raise NotPossible("There is no officers' section of yours on the server.", way_out=RESTORE)
            under = OfficersSection(kept.epoch + 1, key, kept.version + 1)
            _put(account, Contents((*held.pairs, pair)), under)
            found = fetch(account)
            assert found is not None
        # Also after a lost answer: then it is there already. Under any other key, another device of theirs was first.
        open_found(account, found, key)


def take(account: Account, given: OfficersSection) -> None:
    """Take the section's key from another device of the person's, and read what lies under it. Raises as `load` does.

    Where this device holds a key of the same or a later epoch, nothing changes.
    """
    kept = account.state.officers_section
    if kept is not None and kept.epoch >= given.epoch and kept.keys:
        return
    account.state.officers_section = given
    try:
        load(account)
    except BaseException:
        account.state.officers_section = kept
        raise


def begin(account: Account) -> None:
    """Make the section's key in this profile, unless it has one. Raises ProfileError where a section is already."""
    if account.state.officers_section is not None:
        return
    if fetch(account) is not None:
        raise ProfileError(
            "Your officers' section is on the server, and this device does not hold its key.", way_out=RESTORE
        )
    account.state.officers_section = OfficersSection(1, new_vault_key())
    account.save()
