# SPDX-License-Identifier: Apache-2.0
"""What stands open on an account and only its person can judge, each with the command that answers it.

Implements the notices of PROTOCOL sections 5, 6 and 8 on the device that reads them, for `maintenance`.
Changes nothing but what a person says they have seen, and believes the server's word for no more than a hint.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from holdfast.client.identity import evidence, key_log, restored
from holdfast.client.identity.key_log import ForeignEntry
from holdfast.client.messages import letters, messages
from holdfast.client.officers import acts, officer, officer_keys, section_doors
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_door
from holdfast.client.vault import doors, share_requests
from holdfast.core.base.secret import SecretBytes

_CASE_OVER: Final = frozenset({"closed", "denied", "vetoed", "expired", "cancelled", "held"})
_CASE_OPENED: Final = frozenset({"released", "collected", "awaiting-share", "rotated", "sealed"})


_NOT_YOU: Final = "If that was not you: holdfast devices revoke {device_id}, and tell your officers. "
_SEEN: Final = "Once read: holdfast maintain --seen"
# The server's own word, so a hint and no more: what it says is looked up here, never shown as it came.
_NOTICES: Final = {
    "door-read": ("Device {device_id} has fetched the {kind} door of your keyring.", _NOT_YOU + _SEEN),
    "device-joined": ("Device {device_id} has joined your account by itself.", _NOT_YOU + _SEEN),
    "device-restored": (
        "Device {device_id} is yours again: the server had lost it, and your account chain lists it.",
        "If you had revoked it since, revoke it again: holdfast devices revoke {device_id}. " + _SEEN,
    ),
    "code-issued": (
        "A code was issued by which one device can enrol in your name.",
        "If you did not ask for it, tell your officers. " + _SEEN,
    ),
    "device-enrolled": (
        "Device {device_id} was enrolled in your name, by a code. It is no part of your account yet.",
        "If it is not yours, approve it nowhere, and tell your officers. " + _SEEN,
    ),
    "policy-proposed": (
        "Version {version} of your organisation's policy waits for your signature: proposal {proposal}.",
        "Read it: holdfast officer policy show. " + _SEEN,
    ),
    "policy-published": (
        "Your organisation's officers published version {version} of the escrow policy.",
        "Answer until {until}: holdfast escrow deposit, or holdfast escrow refuse. " + _SEEN,
    ),
    "officer-keys-lost": (
        "Officer {by} lost a device, and counts for nothing until a policy names other keys of theirs.",
        "If that is you: holdfast officer new-keys. Then, whoever of you: holdfast officer policy propose --add {by}. "
        + _SEEN,
    ),
    "escrow-ending": (
        "Version {version} of your organisation's escrow {kind} runs out on {until}.",
        "Have officers sign the next one: holdfast officer policy propose, or the operator's ceremony for a key. "
        + _SEEN,
    ),
    "escrow-key-proposed": (
        "Version {version} of your organisation's escrow key waits for your signature: proposal {proposal}.",
        "Compare its words with the ceremony's: holdfast officer key sign. " + _SEEN,
    ),
    "case-opened": (
        "Case {case_id} was opened in your name: it asks your officers for archive keys.",
        "If that was not you: holdfast recover escrow cancel --case {case_id} --reason …, and tell your officers. "
        + _SEEN,
    ),
    "case-cancelled": (
        "Case {case_id}, which this device opened, was cancelled on another device of yours: {device_id}.",
        "If that was not you, tell your officers. Ask anew with: holdfast recover escrow open. " + _SEEN,
    ),
    "contacts-request": (
        "Device {device_id} asks the trusted contacts of {owner} for recovery shares.",
        "See: holdfast contacts requests. " + _SEEN,
    ),
    "contacts-collected": ("Device {device_id} has collected the recovery shares of {owner}.", _NOT_YOU + _SEEN),
    "messages-dropped": (
        "{messages} messages by {by} waited for device {device_id}, which was revoked, and were deleted unread.",
        "What none of your devices has confirmed is sent again by itself. Ask the sender if it does not come. " + _SEEN,
    ),
    "contact-left": (
        "{by}, whom you chose as a trusted contact, has left your organisation.",
        "Choose others, or fewer of them open your vault: holdfast backup contacts. " + _SEEN,
    ),
    "contacts-request-ended": ("A request for the recovery shares of {owner} has ended: {state}.", _SEEN),
}
_NAMES: Final = ("by", "case_id", "device_id", "kind", "messages", "owner", "proposal", "state", "until", "version")
_OTHER: Final = ("The server has a notice of a kind that this program does not know: {event}.", _SEEN)


# A row for each warning that stands open and was shown: `maintain --seen` puts away these, and none that came since.
_SHOWN: Final = "shown"


class Outcome(StrEnum):
    """How a part of the maintenance ended."""

    DONE = "done"
    NOTHING = "nothing due"
    NEEDS_YOU = "needs you"
    FAILED = "failed"


@dataclass(frozen=True)
class Done:
    """One line of the report. way_out: what a person can do, with the command; empty when there is nothing to do.

    kept: names a warning that comes again until it was shown (`note_shown`) and put away; empty for any other line.
    """

    item: str
    outcome: Outcome
    said: str
    way_out: str = ""
    kept: bytes = b""


def done(item: str, said: str) -> Done:
    """Return the line of something that was done."""
    return Done(item, Outcome.DONE, said)


def needs_you(item: str, said: str, way_out: str, *, kept: bytes = b"") -> Done:
    """Return the line of something that only the person can answer."""
    return Done(item, Outcome.NEEDS_YOU, said, way_out, kept)


def of_pending(account: Account) -> Iterator[Done]:
    """Say what a device needs that is not part of its account yet, or has not finished coming back to it."""
    if by_door.is_unfinished(account):
        yield needs_you(
            "this device",
            "A recovery of your account on this device is not finished.",
            "Finish it: holdfast recover finish",
        )
    elif not account.device.is_active:
        yield needs_you(
            "this device",
            "This device is not part of your account yet.",
            "Approve it on another device of yours (holdfast devices approve), or recover: holdfast recover --help",
        )


def note_shown(account: Account, kept: Iterable[bytes]) -> None:
    """Remember which warnings have been shown whole: `Done.kept`, and the ids of reports and notices."""
    named, stand_open = {*account.store.keys(_SHOWN), *kept}, _open(account)
    with account.store.transaction():
        for one in named:
            if one in stand_open:
                account.store.put(_SHOWN, one, SecretBytes(b"1"))
            else:
                account.store.delete(_SHOWN, one)


def put_away_seen(account: Account) -> int:
    """Put away what the person has read: foreign entries, notices, reports. Evidence stays. Returns how many.

    What was not shown yet (`note_shown`) stays as well: it came after the person had looked.
    """
    shown = set(account.store.keys(_SHOWN))
    read = [put_away for one, put_away in _open(account).items() if one in shown]
    for put_away in read:
        put_away()
    note_shown(account, ())
    return len(read)


def _open(account: Account) -> dict[bytes, Callable[[], None]]:
    """Return what puts away each warning that stands open, by its name."""
    found: dict[bytes, Callable[[], None]] = {}
    for entry in key_log.foreign_entries(account):
        found[_name_of(entry)] = functools.partial(key_log.put_away_seen, account, entry)
    for notice in letters.notices(account):
        found[notice.id] = functools.partial(letters.put_away, account, [notice])
    for report in messages.reports(account):
        found[report.id] = report.done
    for one in restored.untold(account):
        found[one.hash] = functools.partial(restored.note_told, account, one)
    return found


def _name_of(entry: ForeignEntry) -> bytes:
    return b"entry" + entry.seq.to_bytes(4, "big")


def of_devices(account: Account) -> Iterator[Done]:
    """Name the devices that ask to become part of the account."""
    listed = account.chain.devices
    for row in account.api.pages("devices", "devices", "device_id"):
        identifier = row.identifier("device_id")
        if identifier not in listed and row.text("state") == "pending":
            name = UUID(bytes=identifier)
            yield needs_you(
                "devices",
                f"Device {name} asks to become part of your account.",
                f"If it is yours: holdfast devices approve {name}. If not, change nothing and tell your officers.",
            )


def of_chain(account: Account) -> Iterator[Done]:
    """Name the entries of the own chain that this device did not make."""
    for entry in key_log.foreign_entries(account):
        by = f" by device {entry.device}" if entry.device else ""
        yield needs_you(
            "account chain",
            f"Entry {entry.seq} of your account ({entry.type}){by} was not made on this device.",
            "If another device of yours did that, all is well: holdfast maintain --seen. If not: holdfast rotate",
            kept=_name_of(entry),
        )


def of_requests(account: Account) -> Iterator[Done]:
    """Name what is asked of trusted contacts: in the own name, and of this person."""
    for pending in share_requests.requests(account):
        if pending.state == "open" and pending.device != account.device.id:
            yield needs_you(
                "recovery",
                f"Device {UUID(bytes=pending.device)} asks your trusted contacts for your keys.",
                f"If that is not you, stop it now: holdfast contacts veto {pending.request_id}",
            )
    for asked in share_requests.list_requests(account):
        if asked.state == "open" and asked.holds_share:
            yield needs_you(
                "recovery",
                f"{UUID(bytes=asked.owner)} asks you for a recovery share.",
                f"Call the person, have the code read to you, then: holdfast contacts give {asked.request_id}",
            )


def of_cases(account: Account) -> Iterator[Done]:
    """Name the cases that would open the own archive, or have."""
    for case in officer.list_cases(account):
        if case.subject.bytes != account.user or case.state in _CASE_OVER:
            continue
        named = f"case {case.case_id} ({case.purpose}, {case.state})"
        if case.state in _CASE_OPENED:
            yield needs_you(
                "escrow", f"Your archive keys were opened: {named}.", "If you do not know why: ask your officers."
            )
        else:
            yield needs_you(
                "escrow",
                f"Officers are asked to open your archive keys: {named}.",
                f"If you did not ask for it: holdfast recover escrow veto {case.case_id}, and tell your officers.",
            )


def of_doors(account: Account) -> Iterator[Done]:
    """Name the ways back that are missing or closed."""
    if not len(account.state.vault.key) and len(account.chain.devices) == 1:
        yield needs_you(
            "backup",
            "There is no way back to your keys if you lose this device.",
            "Make one: holdfast backup phrase, or holdfast devices pair",
        )
    for kind in doors.list_lost(account):
        yield needs_you(
            "backup",
            f"The server was put back from a backup and has lost the {kind} that you set: an older one may open there.",
            f"Set it again: holdfast backup {kind}",
        )
    for kind in doors.list_closed(account):
        yield needs_you(
            "backup", f"Your {kind} no longer opens your keyring: its key was changed.", f"holdfast backup {kind}"
        )


def of_officer(account: Account) -> Iterator[Done]:
    """Name what an officer's keys lack: a place in the vault, a way back, one that was opened within a year."""
    if account.state.officer is not None:
        yield needs_you(
            "officer's keys",
            "Your officer's keys lie in this profile alone: they are gone if this device is.",
            "Move them into your vault: holdfast officer init",
        )
    loss = acts.own_loss(account) if officer_keys.has_keys(account) else acts.Loss.NONE
    if loss is acts.Loss.COUNTED:
        yield needs_you(
            "officer's keys",
            "You lost a device that may have led to your officer's keys: your approvals and votes count for nothing.",
            "Make others: holdfast officer new-keys. Then have a policy proposed with them: "
            f"holdfast officer policy propose --add {account.user_text}",
        )
    if loss is acts.Loss.WITHHELD:
        yield needs_you(
            "officer's keys",
            "Your account says that you lost a device, and the server still counts your officer's keys.",
            f"Have another officer suspend you: holdfast officer suspend {account.user_text}. And tell your operator: "
            "the server keeps the loss from the release process.",
        )
    if account.state.officers_section is None:
        return
    now, older = account.api.clock.now(), section_doors.list_older(account)
    for door in section_doors.status(account):
        name = section_doors.NAMES[door.kind]
        if door.kind in older:
            yield needs_you(
                "officer's keys",
                f"The server was put back from a backup, and has an older {name} of your officer's keys than you set.",
                f"Set it again: holdfast officer set-door {name}",
            )
        if not door.is_open:
            yield needs_you(
                "officer's keys",
                f"No {name} opens your officer's keys.",
                f"Set one: holdfast officer set-door {name}",
            )
        elif door.is_stale(now):
            yield needs_you(
                "officer's keys",
                f"The {name} of your officer's keys was not opened for a year.",
                f"See that it still opens: holdfast officer prove-door {name}",
            )


def of_kept(account: Account) -> Iterator[Done]:
    """Name the server's notices, the reports and the evidence that are kept here."""
    for notice in letters.notices(account):
        said, way_out = _NOTICES.get(notice.event, _OTHER)
        named = {name: _named(notice.said.get(name)) for name in _NAMES}
        text = said.format(event=_named(notice.event), **named)
        yield needs_you("notices", text, way_out.format(**named), kept=notice.id)
    for report in messages.reports(account):
        yield needs_you("messages", report.text, report.way_out, kept=report.id)
    for one in restored.untold(account):
        yield needs_you("server", restored.words_of(one), _SEEN, kept=one.hash)
    if kept := [one for one in evidence.list_evidence(account) if not one.explained]:
        yield needs_you(
            "evidence",
            f"{len(kept)} contradictions of the server are kept on this device as evidence.",
            "Show them to your officers and your auditor: holdfast doctor",
        )


def _named(value: object) -> str:
    """Return an id or a word of the server's; anything else could be written to mislead, and is left out."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z0-9-]{1,36}", value) else "(unnamed)"
