# SPDX-License-Identifier: Apache-2.0
"""What a server that was put back from a backup has lost of this account, given back once for each acceptance.

Implements docs/formats/profile.md "After a restored backup" on a device. Only while m officers' acceptance of the
backup heals (`identity.restored`), and nothing but what this account gave the server before: whoever shows an older
state without such an acceptance is refused as ever, and with one gains what was theirs already. Entries of chains are
given back where chains are read (`identity.lost_chains`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.client.errors import NotYet
from holdfast.client.escrow import escrow
from holdfast.client.identity import restored
from holdfast.client.messages import messages
from holdfast.client.officers import officer_keys, section, section_doors
from holdfast.client.profile.account import Account
from holdfast.client.standing import Done, done
from holdfast.client.vault import doors, pairing, trusted, vault
from holdfast.core.base.secret import SecretBytes

# By part: the acceptance (its hash) after which it was last given back whole.
_KIND: Final = "given-back"
_TURN: Final = b"turn"


@dataclass(frozen=True)
class _Part:
    """One part: its name in the report, and what it does. needs_vault: only where this device holds the vault's key."""

    name: str
    run: Callable[[Account], Iterator[Done]]
    needs_vault: bool = False


def parts(account: Account) -> Iterator[tuple[str, Callable[[Account], Iterator[Done]]]]:
    """Give what is due, part by part, by name; each ends as done, for this acceptance, when it comes to its end."""
    for part in _PARTS:
        if _is_due(account, part):
            yield part.name, _noting(part)


def _noting(part: _Part) -> Callable[[Account], Iterator[Done]]:
    def run(account: Account) -> Iterator[Done]:
        newest = restored.taken(account)[0]
        yield from part.run(account)
        account.store.put(_KIND, part.name.encode(), SecretBytes(newest.hash))

    return run


def _is_due(account: Account, part: _Part) -> bool:
    if not restored.is_healing(account) or not account.device.is_active:
        return False
    if not len(account.state.identity_seed) or (part.needs_vault and not len(account.state.vault.key)):
        return False
    if part.run is _doors and doors.list_lost(account):
        return True  # until the device that set it has given it back, or the person has set it again
    newest, kept = restored.taken(account)[0], account.store.get(_KIND, part.name.encode())
    return kept is None or kept.reveal() != newest.hash


def is_explained(account: Account) -> bool:
    """Whether it is the backup alone for which this profile looks like an older copy: the first time after each."""
    if not restored.is_healing(account):
        return False
    newest, kept = restored.taken(account)[0], account.store.get(_KIND, _TURN)
    mark = account.turn.mark
    if kept is None or kept.reveal()[:32] != newest.hash:
        account.store.put(_KIND, _TURN, SecretBytes(newest.hash + mark))
        return True
    # The same opening, looked at again.
    return kept.reveal()[32:] == mark


def _vault(account: Account) -> Iterator[Done]:
    version = vault.give_back(account)
    if version is not None:
        yield done("backup", f"Saved your keyring, version {version}: the server had lost what was in it.")


def _devices(account: Account) -> Iterator[Done]:
    # What was sent to them since, and they had not fetched, is lost: the key of now above all.
    if told := pairing.sync(account):
        yield done("backup", f"Told {len(told)} devices of yours the key of your keyring again.")


def _contacts(account: Account) -> Iterator[Done]:
    if trusted.give_back(account):
        yield done("trusted contacts", "They have fresh shares: the server had lost your choice.")


def _doors(account: Account) -> Iterator[Done]:
    if given := doors.give_back(account):
        yield done("ways back", f"Gave the server your doors again, which it had lost: {', '.join(given)}.")


def _officer(account: Account) -> Iterator[Done]:
    if not officer_keys.has_keys(account):
        return
    if section.give_back(account):
        yield done("officer's keys", "Saved your officer's keys again: the server had lost what was with them.")
    section_doors.look_back(account)


def _escrow(account: Account) -> Iterator[Done]:
    try:
        lost = escrow.give_back(account)
    except NotYet:
        return  # the tenant is being founded: nobody has deposited anything
    if lost:
        numbers = ", ".join(map(str, lost))
        yield done("escrow", f"The server had lost your deposits of generation {numbers}: they are made anew.")


def _messages(account: Account) -> Iterator[Done]:
    if owed := messages.give_back(account, restored.taken(account)[0].at):
        yield done("outbox", f"What {owed} devices had not confirmed is sent to them again: it may be lost.")


# The vault first, which has the marks of doors and of the person's choice; devices are told of it as it is then.
_PARTS: Final = (
    _Part("keyring", _vault, needs_vault=True),
    _Part("devices", _devices, needs_vault=True),
    _Part("shares", _contacts, needs_vault=True),
    _Part("doors", _doors, needs_vault=True),
    _Part("officer", _officer),
    _Part("deposits", _escrow),
    _Part("messages", _messages),
)
