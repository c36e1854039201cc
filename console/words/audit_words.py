# SPDX-License-Identifier: Apache-2.0
"""What audit entries are called on console pages, and which page shows their subject.

Implements PLATFORM "Console". Tables and pure functions: a tag that has no words here stands for itself.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from console.words.case_words import entry_words
from holdfast.core.log.writers import Role

_WORDS: Final = {
    "audit:entry:refuse": "Forged entry kept out of the log",
    "audit:log:accept": "Restored log accepted",
    "audit:log:newer": "A device showed a newer head than the stored log has",
    "audit:roles:publish": "Keys of the log published",
    "audit:transcript:publish": "Transcript of the ceremonies signed and shown",
    "audit:transcript:read": "Transcript of the ceremonies read",
    "audit:entries:counted": "More of the same, counted",
    "audit:entries:exported": "The log was exported",
    "audit:export:ask": "An export of a log was asked for",
    "audit:entries:read": "The log was read",
    "escrow:consent:give": "Consent given or withdrawn",
    "escrow:deposit:accept": "Archive key deposited",
    "escrow:deposit:flag": "Deposit flagged: its device was revoked",
    "escrow:deposit:read": "Deposit read for a case",
    "escrow:key:propose": "Escrow key proposed to the officers",
    "escrow:key:publish": "Escrow key published",
    "escrow:key:sign": "Proposed escrow key signed by an officer",
    "escrow:officer:leave": "Officer away",
    "escrow:officer:remove": "Officer removed",
    "escrow:officer:return": "Officer back",
    "escrow:officer:state-keys": "Officer's keys stated",
    "escrow:officer:suspend": "Officer suspended",
    "escrow:policy:cancel": "Proposed policy taken back",
    "escrow:policy:propose": "Policy proposed",
    "escrow:policy:publish": "Policy published",
    "escrow:policy:sign": "Proposed policy signed by an officer",
    "escrow:resolution:pass": "Officers’ resolution passed",
    "escrow:resolution:propose": "Officers’ resolution proposed",
    "escrow:resolution:sign": "Officers’ resolution signed",
    "keys:chain:append": "Account chain grew",
    "keys:chain:fork": "Account chain forked: evidence kept",
    "keys:chain:restore": "Lost entry of an account chain given back",
    "keys:device:activate": "Device added to an account",
    "keys:device:enrol": "Device enrolled",
    "keys:device:restore": "Lost device came back",
    "keys:device:revoke": "Device revoked",
    "keys:device:succeed": "Successor of a device registered",
    "keys:door:delete": "Vault door removed",
    "keys:door:prove": "Vault door proven to open",
    "keys:door:read": "Vault door read",
    "keys:door:store": "Vault door stored",
    "keys:pre-key:claim": "Pre-key handed out",
    "keys:pre-key:store": "Pre-keys stored",
    "keys:pre-key:void": "Pre-keys voided",
    "keys:signed-pre-key:publish": "Signed pre-key published",
    "keys:tenant-key:bind": "Tenant master key bound to its tenant",
    "keys:tenant-key:create": "Tenant master key made",
    "keys:tenant-key:destroy": "Tenant master key destroyed",
    "keys:vault:read": "Vault read",
    "keys:vault:store": "Vault stored",
    "keys:notice:fail": "Notice to a person could not be handed over",
    "keys:notice:hand-over": "Notice to a person handed over",
    "operators:job:drop": "Work that had failed was given up by the operator",
    "operators:job:release": "Work that hung was taken from its process by the operator",
    "operators:job:retry": "Work that had failed was started again by the operator",
    "operators:rows:read": "The operator looked at metadata of this organisation",
    "recovery:contact-request:answer": "Trusted contact gave a share",
    "recovery:contact-request:cancel": "Request to trusted contacts withdrawn",
    "recovery:contact-request:collect": "Contacts' shares collected",
    "recovery:contact-request:complete": "Request to trusted contacts complete",
    "recovery:contact-request:expire": "Request to trusted contacts expired",
    "recovery:contact-request:open": "Trusted contacts asked for a vault",
    "recovery:contact-request:veto": "Request to trusted contacts vetoed",
    "recovery:contacts:store": "Trusted contacts chosen",
    "tenants:act:confirm": "Act confirmed by a second person",
    "tenants:act:propose": "Act proposed to a second person",
    "tenants:act:withdraw": "Proposed act withdrawn",
    "tenants:credential:activate": "Credential active",
    "tenants:credential:register": "Credential registered",
    "tenants:credential:revoke": "Credential revoked",
    "tenants:credential:suspend": "Credential suspended",
    "tenants:data:export": "Own data taken as a file",
    "tenants:enrolment-code:confirm": "Enrolment code confirmed by a second person",
    "tenants:enrolment-code:issue": "Enrolment code issued",
    "tenants:enrolment-code:use": "Enrolment code used",
    "tenants:enrolment-code:void": "Unused enrolment codes voided",
    "tenants:import:confirm": "File of people confirmed",
    "tenants:import:finish": "People of a file invited",
    "tenants:import:read": "File of people read; nobody invited",
    "tenants:import:stop": "Inviting the people of a file stopped",
    "tenants:invitation:accept": "Invitation accepted",
    "tenants:invitation:issue": "Invitation link made",
    "tenants:invitation:promise": "Invitation by mail asked for",
    "tenants:log-token:create": "Log token made",
    "tenants:log-token:revoke": "Log token revoked",
    "tenants:mail:drop": "Mail to a person not sent: not needed any more",
    "tenants:mail:fail": "Mail to a person could not be delivered",
    "tenants:mail:hand-over": "Mail to a person handed over",
    "tenants:password-reset:accept": "New password set by a link and the second factor",
    "tenants:password-reset:issue": "Link to a new password sent",
    "tenants:password:set": "Password set",
    "tenants:people:export": "List of people taken out",
    "tenants:person:activate": "Person active",
    "tenants:person:change-address": "E-mail address changed",
    "tenants:person:change-role": "Role changed",
    "tenants:person:create": "Person created",
    "tenants:person:leave": "Person left",
    "tenants:person:rename": "Name changed",
    "tenants:person:resume": "Person invited again after a suspension",
    "tenants:person:suspend": "Person suspended",
    "tenants:recovery-code:confirm": "New recovery codes count",
    "tenants:recovery-code:make": "Recovery codes made",
    "tenants:recovery-code:use": "Recovery code used to sign in",
    "tenants:root:pin": "Tenant root pinned",
    "tenants:service-account:create": "Service account created",
    "tenants:session:end": "Sessions ended",
    "tenants:sign-in:accept": "Signed in to the console",
    "tenants:sign-in:lock": "Sign-in locked",
    "tenants:sign-in:refuse": "Sign-in refused",
    "tenants:sign-out:accept": "Signed out",
    "tenants:step-up:refuse": "One-time code for an act refused",
    "tenants:tenant:abandon": "Founding of the tenant abandoned",
    "tenants:tenant:ask-end": "End of the organisation asked for by two owners",
    "tenants:tenant:ask-unlock": "Unlocking of the organisation asked for by two owners",
    "tenants:tenant:create": "Tenant created",
    "tenants:tenant:end": "Organisation ended, its keys destroyed",
    "tenants:tenant:export": "Export of the organisation asked for",
    "tenants:tenant:found": "Tenant founded",
    "tenants:tenant:lock": "Organisation locked",
    "tenants:tenant:resume": "Organisation resumed by the operator",
    "tenants:tenant:stop-end": "End of the organisation stopped",
    "tenants:tenant:suspend": "Organisation suspended by the operator",
    "tenants:tenant:take-export": "Export of the organisation taken home",
    "tenants:tenant:unlock": "Organisation unlocked",
    "tenants:totp:confirm": "Authenticator confirmed",
    "tenants:totp:reset": "Password and second factor reset",
    "tenants:totp:seal": "Authenticator's key sealed",
}
_CASE: Final = "/console/cases/{}/"
_PERSON: Final = "/console/people/{}/"
_DEVICE: Final = "/console/devices/{}/"
# By the beginning of the tag: where an id in the subject leads.
_PAGES: Final = {
    "recovery:person:leave": "Recorded that a person left, with all that stopped",
    "recovery:shredding:begin": "Shredding of a person's keys begun",
    "recovery:shredding:finish": "A person's keys shredded",
    "recovery:contact": _PERSON,
    "recovery:person:": _PERSON,
    "recovery:shredding:": _PERSON,
    "recovery:": _CASE,
    "tenants:person:": _PERSON,
    "tenants:password": _PERSON,
    "tenants:totp:": _PERSON,
    "tenants:invitation:": _PERSON,
    "tenants:mail:": _PERSON,
    "tenants:recovery-code:": _PERSON,
    "tenants:sign-": _PERSON,
    "tenants:step-up:": _PERSON,
    "tenants:session:": _PERSON,
    "tenants:data:": _PERSON,
    "tenants:enrolment-code:": _PERSON,
    "keys:chain:": _PERSON,
    "keys:device:": _DEVICE,
    "keys:door:": _PERSON,
    "keys:notice:": _PERSON,
    "keys:pre-key:store": _DEVICE,
    "keys:signed-pre-key:": _DEVICE,
    "keys:vault:": _PERSON,
    "escrow:consent:": _PERSON,
    "escrow:deposit:accept": _PERSON,
    "escrow:officer:": _PERSON,
    "escrow:resolution:": _PERSON,
    "escrow:deposit:flag": _DEVICE,
    "escrow:deposit:read": _PERSON,
    "tenants:credential:": _DEVICE,
}
ALARMING: Final = frozenset(
    {
        "audit:entry:refuse",
        "audit:log:accept",
        "audit:log:newer",
        "keys:chain:fork",
        "escrow:deposit:flag",
        "escrow:officer:suspend",
        "escrow:resolution:pass",
        "operators:job:drop",
        "tenants:tenant:suspend",
        "tenants:sign-in:lock",
        "tenants:tenant:ask-end",
        "tenants:tenant:ask-unlock",
        "tenants:tenant:lock",
        "recovery:release:held",
        "recovery:shredding:begin",
    }
)


# Who wrote an entry, as the tenant root names the keys.
WRITERS: Final = {
    Role.WEB: "web process",
    Role.WORKER: "worker",
    Role.SEQUENCER: "sequencer",
    Role.RELEASE: "release process",
    Role.CEREMONY: "ceremony",
    Role.LOG: "log",
}
# Why nobody entitled wrote an entry: the words of `check_leaf`, and the sequencer's own.
WHY_WRONG: Final = {
    "form": "it has not the form of an entry",
    "unsigned": "no part of the server has signed it",
    "key": "its key was never named by the tenant root",
    "role": "the part of the server that signed it may not write such an entry",
    "key-ended": "the key that signed it had ended",
    "signature": "its signature does not hold",
    "columns": "its row does not say what its leaf says",
}


def fault(why: str) -> str:
    """Return why nobody entitled wrote an entry; of a word that is not known here, that it was refused."""
    return WHY_WRONG.get(why, "it was refused")


def words(tag: str) -> str:
    """Return what an entry says."""
    return _WORDS.get(tag) or ("Case: " + entry_words(tag) if tag.startswith("recovery:") else tag)


def page_of(tag: str, subject: str) -> str:
    """Return the address of the page that shows an entry's subject, or nothing."""
    try:
        known = str(UUID(subject)) == subject
    except ValueError:
        return ""
    page = next((page for start, page in _PAGES.items() if tag.startswith(start)), "") if known else ""
    return page.format(subject)
