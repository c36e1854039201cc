# SPDX-License-Identifier: Apache-2.0
"""All that is due on a device, in one call, each part by itself: done, nothing due, failed, or needing the person.

Implements the care that PROTOCOL sections 2, 4, 5 and 8 ask of a client, by calling the module of each subject.
Has no rules of its own, and decides nothing that only a person can: it names that, with the command (`standing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client import healing, standing
from holdfast.client.errors import ClientError, ConsentNeeded, Problem, ServerReadOnly, ServerRestored, Unreachable
from holdfast.client.escrow import archive, disclosures, escrow
from holdfast.client.identity import chains, heads, key_log, restored, tenant
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.officers import hearing, joining, officer_keys
from holdfast.client.profile import turns
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.server.clock import SET_THE_CLOCK
from holdfast.client.sessions import sessions
from holdfast.client.standing import Done, Outcome, done, needs_you
from holdfast.client.vault import doors, pairing, trusted, vault, vault_contents
from holdfast.core.base.errors import HoldfastError

# Devices and the server may live for years: letters and notices nobody asked for are not kept for ever.
LETTER_LIFE_SECONDS: Final = 30 * 86_400
_DOORS_UNPROVEN: Final = "doors-unproven"


@dataclass(frozen=True)
class _Item:
    """One part: its name in the report, what it does, and whether it needs the server or a device of the account."""

    name: str
    run: Callable[[Account], Iterator[Done]]
    is_online: bool = True
    needs_active: bool = True


def maintain(account: Account) -> list[Done]:
    """Do all that is due, and say for each part what was done, what failed and why, and what needs the person.

    A part that fails stops no other. When the server cannot be reached, the parts that need it are not tried one by
    one. Safe to call at any time, and as often as one likes: what is not due is not done.
    """
    report: list[Done] = []
    met = _Met()
    for item in _ITEMS:
        if item.needs_active and not account.device.is_active and not _is_replaced(account, item):
            continue
        if item.is_online and not met.is_reachable:
            continue
        report += _run(account, item, met)
    return report


@dataclass
class _Met:
    """What the parts have met so far: a server that cannot be reached, that was put back, or lost this device by it."""

    is_reachable: bool = True
    is_restored: bool = False
    is_unknown: bool = False

    def restored(self, item: _Item, error: ClientError, outcome: Outcome) -> Done:
        """Return the line of a part that met it. It is said once, and not by each part that it stops."""
        if self.is_restored:
            return Done(item.name, Outcome.NOTHING, "Waits until officers have accepted the backup that was put back.")
        self.is_restored = True
        return Done("server", outcome, str(error), error.way_out)


def _is_replaced(account: Account, item: _Item) -> bool:
    """Whether this is the rotation, and it has replaced this device's keys in the chain but not yet on this device."""
    return item.run is _rotation and any(not progress.is_done for progress in rotation.list_rotations(account))


def _run(account: Account, item: _Item, met: _Met) -> list[Done]:
    found: list[Done] = []
    try:
        found += _run_known(account, item, met)
    except ServerReadOnly as error:
        found.append(met.restored(item, error, Outcome.NEEDS_YOU))
    except ServerRestored as error:
        found.append(met.restored(item, error, Outcome.FAILED))
    except Unreachable as error:
        met.is_reachable = False
        found.append(Done(item.name, Outcome.FAILED, str(error), error.way_out))
    except ClientError as error:
        found.append(Done(item.name, Outcome.FAILED, str(error), error.way_out))
    except HoldfastError as error:
        found.append(Done(item.name, Outcome.FAILED, f"Refused: {error}.", "Show this to your officers."))
    return found or [Done(item.name, Outcome.NOTHING, "Nothing was due.")]


def _run_known(account: Account, item: _Item, met: _Met) -> list[Done]:
    """Run a part; where the server does not know this device any more, it comes back, if it can, and the part runs."""
    try:
        return list(item.run(account))
    except Problem as problem:
        if problem.code != chains.UNKNOWN:
            raise
        if met.is_unknown and met.is_restored:
            return [met.restored(item, problem, Outcome.NEEDS_YOU)]
        if met.is_unknown or not account.device.is_active:
            raise
        met.is_unknown = True
        chains.refresh(account)
        return list(item.run(account))


# What other devices and people sent


def _mailbox(account: Account) -> Iterator[Done]:
    came = letters.fetch(account)
    if came:
        yield done("mailbox", f"Took {came} letters and notices.")
    if pairing.catch_up(account):
        yield done("mailbox", "Took over new keys from another device of yours.")
    before = {share.set_id for share in trusted.list_held_shares(account)}
    if new := [share for share in trusted.take_shares(account) if share.set_id not in before]:
        yield done("mailbox", f"Took {len(new)} recovery shares of people who trust you.")


def _outbox(account: Account) -> Iterator[Done]:
    flushed = messages.care(account)
    if flushed.sent:
        yield done("outbox", f"Sent {len(flushed.sent)} messages that had waited.")
    for error in flushed.refused.values():
        yield Done("outbox", Outcome.FAILED, f"A message was not sent: {error}", error.way_out)
    if waiting := set(flushed.waiting) - flushed.refused.keys():
        yield needs_you("outbox", f"{len(waiting)} messages wait to be sent.", "They go out by themselves later.")


# The account


def _profile(account: Account) -> Iterator[Done]:
    if account.is_copy_found and not healing.is_explained(account):
        yield needs_you("profile", *turns.words_of(account.turn))


def _chain(account: Account) -> Iterator[Done]:
    before = len(account.state.chain)
    chains.refresh(account)
    if grown := len(account.state.chain) - before:
        yield done("account chain", f"Read and verified {grown} new entries of your account.")


def _tenant(account: Account) -> Iterator[Done]:
    change = tenant.refresh(account)
    if change.is_another:
        yield needs_you(
            "organisation",
            "Your organisation was founded with another policy than the one that you signed.",
            "The root that your code names vouches for it. See what it says: holdfast officer policy show --all",
        )
    if change.policy_now > change.policy_before:
        yield done("organisation", f"Your organisation's policy is now version {change.policy_now}, as it signed it.")
    if change.key_now > change.key_before:
        yield done("organisation", f"Accepted escrow key version {change.key_now}, signed by root and officers.")
    for ending in tenant.endings(account):
        yield needs_you("organisation", *tenant.words_of(ending))


def _given_back(account: Account) -> Iterator[Done]:
    """Give a server that was put back what it lost. A part that fails stops no other, and is tried the next time."""
    for log in heads.LOGS:
        # Of the audit log an auditor or an officer alone has a head, to which an acceptance has anything to say.
        if log == heads.KEYS or heads.own(account, log):
            restored.look(account, log)
    for name, run in healing.parts(account):
        try:
            yield from run(account)
        except (Unreachable, ServerReadOnly, ServerRestored):
            raise
        except ClientError as error:
            yield Done("restored backup", Outcome.FAILED, f"Not given back yet ({name}): {error}", error.way_out)
        except HoldfastError as error:
            said = f"Not given back ({name}): {error}."
            yield Done("restored backup", Outcome.FAILED, said, "Show this to your officers.")


def _key_log(account: Account) -> Iterator[Done]:
    if compared := key_log.compare_heard(account):
        yield done("key log", f"Compared the key log with what {compared} of your contacts saw of it: it is one log.")


def _rotation(account: Account) -> Iterator[Done]:
    for progress in rotation.maintain(account):
        parts = ", ".join(part.name.lower() for part in progress.parts if part.name)
        if progress.is_destroyed:
            yield done("rotation", f"Destroyed the keys replaced a month ago ({parts}).")
        else:
            yield done("rotation", f"Replaced keys ({parts}); the old ones are destroyed after their grace period.")


def _recovery_key(account: Account) -> Iterator[Done]:
    if len(account.state.identity_seed) and doors.complete_recovery_key(account):
        yield done("recovery key", "The recovery key of your phrase counts from now on: its week is over.")


# Keys of this device


def _pre_keys(account: Account) -> Iterator[Done]:
    published = prekeys.publish(account)
    if published.is_renewed:
        yield done("pre-keys", "Published a fresh signed pre-key.")
    if published.stored:
        yield done("pre-keys", f"Uploaded {published.stored} one-time pre-keys; the server has {published.count}.")
    for warning in published.warnings:
        yield needs_you("pre-keys", warning, "Tell your operator, and compare: holdfast doctor")
    if published.is_voided:
        said = "The server was restored from a backup and voided the one-time pre-keys it held; fresh ones were made."
        if restored.is_healing(account):
            yield done("pre-keys", said)
        else:
            yield needs_you("pre-keys", said, "Tell your operator, and compare: holdfast doctor")


def _clock(account: Account) -> Iterator[Done]:
    """Have the time confirmed, by which alone anything is destroyed for its age; tell when nothing confirms it."""
    clock, is_confirmed = account.api.clock, False
    try:
        is_confirmed = key_log.confirm_time(account)
    except Problem:
        # A request that is dated too far off is refused: that is what there is to be told.
        if not clock.is_off:
            raise
    if clock.is_off:
        meanwhile = "" if is_confirmed else " Until both agree, nothing is destroyed."
        yield needs_you("clock", f"{clock.in_words()}{meanwhile}", SET_THE_CLOCK)
    elif not is_confirmed and key_log.own_checkpoint(account):
        yield needs_you("clock", _UNCONFIRMED, "If this goes on, tell your operator: the log has to be signed anew.")


_UNCONFIRMED: Final = (
    "The key log shows no head that was signed within five minutes, by this machine's clock: nothing is destroyed."
)


def _old_keys(account: Account) -> Iterator[Done]:
    now = account.api.clock.confirmed()
    if now is None:
        return
    old = [letter for kind in letters.LetterKind for letter in letters.waiting(account, kind)]
    over = [letter for letter in old if now - letter.received_at >= LETTER_LIFE_SECONDS]
    letters.put_away(account, over)
    hearing.prune(account)
    keys = prekeys.destroy_due(account)
    rows = messages.prune(account) + sessions.prune_sessions(account.store, now=now)
    if keys or rows or over:
        yield done(
            "old keys", f"Destroyed {keys} pre-keys, {rows} session rows and {len(over)} letters past their time."
        )


# Archive, escrow and backup


def _disclosures(account: Account) -> Iterator[Done]:
    for kept in disclosures.end_due(account):
        yield done(
            "disclosures",
            f"Case {UUID(bytes=kept.case_id)} has ended: the keys that it disclosed are destroyed, its manifest stays.",
        )


def _openings(account: Account) -> Iterator[Done]:
    if opened := escrow.note_openings(account):
        numbers = ", ".join(map(str, opened))
        yield done("openings", f"A case has opened your archive keys of generation {numbers}: they are not used again.")


def _archive(account: Account) -> Iterator[Done]:
    # Who has never encrypted a file has no archive, and needs no key for one.
    if not account.chain.generations:
        return
    if vault_contents.missing(account, account.chain) and len(account.state.vault.key):
        # Another device announced it, and has put it where this one finds it, or will.
        opened = vault.load(account)
        if opened and not opened.missing:
            yield done("archive", "Took over archive keys that another device of yours had made.")
    before = account.chain.generations[-1].generation
    generation = archive.current_generation(account)
    if generation.number != before:
        yield done("archive", f"Made this month's archive key, generation {generation.number}.")


def _deposits(account: Account) -> Iterator[Done]:
    # While a tenant is being founded, nobody could take a deposit.
    if not account.state.trust.policies:
        return
    escrow.take_back(account)
    try:
        if escrow.due(account) and (deposited := escrow.deposit_missing(account)):
            yield done("escrow", f"Deposited {len(deposited)} archive keys, as you agreed.")
    except ConsentNeeded as error:
        if escrow.must_deposit_first(account) or escrow.asks_again(account):
            changed = " ".join(escrow.what_changed(account))
            yield needs_you("escrow", f"{error} {changed}".rstrip(), error.way_out)
    for said, way_out in escrow.given_up(account):
        yield needs_you("escrow", said, way_out)


def _holds_vault(account: Account) -> bool:
    return bool(len(account.state.vault.key) and len(account.state.identity_seed))


def _officer(account: Account) -> Iterator[Done]:
    if joining.take(account):
        yield done("officer's keys", "This device leads to your officer's keys, as your other device gave them.")
    is_moved = officer_keys.has_keys(account) and account.state.officer is None
    if is_moved and len(account.state.identity_seed) and _state_officer_keys(account):
        yield done("officer's keys", "Your account states your officer's keys again, under its identity key of now.")
    yield from standing.of_officer(account)


def _state_officer_keys(account: Account) -> bool:
    try:
        return joining.state_keys(account)
    except Problem as problem:
        if problem.code != _DOORS_UNPROVEN:
            raise
        return False  # a restored backup has none of the doors that were set since: `standing` says which to set


def _shares(account: Account) -> Iterator[Done]:
    if _holds_vault(account) and trusted.reshare(account):
        yield done("trusted contacts", "They have shares of the vault key of now.")


def _vault(account: Account) -> Iterator[Done]:
    version = vault.save_if_changed(account) if _holds_vault(account) else None
    if version is not None:
        yield done("backup", f"Saved your keyring, version {version}.")


_ITEMS: Final = (
    _Item("mailbox", _mailbox),
    _Item("account chain", _chain, needs_active=False),
    _Item("organisation", _tenant, needs_active=False),
    _Item("clock", _clock, needs_active=False),
    _Item("restored backup", _given_back),
    _Item("outbox", _outbox),
    _Item("pre-keys", _pre_keys),
    _Item("key log", _key_log),
    _Item("rotation", _rotation),
    _Item("recovery key", _recovery_key),
    _Item("openings", _openings),
    _Item("archive", _archive),
    _Item("escrow", _deposits),
    _Item("trusted contacts", _shares),
    _Item("backup", _vault),
    _Item("officer's keys", _officer),
    _Item("old keys", _old_keys, is_online=False, needs_active=False),
    _Item("disclosures", _disclosures, is_online=False, needs_active=False),
    _Item("profile", _profile, is_online=False, needs_active=False),
    _Item("this device", standing.of_pending, is_online=False, needs_active=False),
    _Item("devices", standing.of_devices),
    _Item("foreign entries", standing.of_chain, is_online=False, needs_active=False),
    _Item("recovery", standing.of_requests),
    _Item("cases", standing.of_cases),
    _Item("ways back", standing.of_doors, is_online=False),
    _Item("notices", standing.of_kept, is_online=False, needs_active=False),
)


__all__ = ["Done", "Outcome", "maintain"]
