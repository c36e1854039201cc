# SPDX-License-Identifier: Apache-2.0
"""What a promised mail is called on console pages, and what became of it.

Implements ORGANISATION "Mails". Tables and pure functions: it reads no rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tenants.states import MailState

if TYPE_CHECKING:
    from tenants.models import Mail

_KINDS: Final = {
    "address-changed": "The mail about a changed address",
    "ending": "The mail about the end of the organisation",
    "enrolment-code": "The enrolment code",
    "factor-reset": "The mail about a reset second factor",
    "invitation": "The invitation",
    "left": "The mail about having left",
    "password-reset": "The link to a new password",
    "pending-act": "The mail about an act that waits for a second person",
    "restored": "The mail about the backup that was put back",
    "resumed": "The mail about the end of the suspension",
    "role-changed": "The mail about a changed role",
    "sessions-ended": "The mail about ended sessions",
    "suspended": "The mail about the suspension",
    "tenant-locked": "The mail about the locked organisation",
    "tenant-unlocking": "The mail about the coming end of the lock",
}


@dataclass(frozen=True)
class MailLine:
    """A line about one mail. badge: a class of the style sheet. address: others' text, to be escaped where it stands.

    at: when it was settled, or promised while it waits. is_trouble: somebody should do something.
    """

    badge: str
    state: str
    says: str
    address: str
    way_out: str
    at: datetime
    is_trouble: bool


def read(mail: Mail) -> MailLine:
    """Say what became of a mail, with its person at hand, and what to do where it did not arrive."""
    what = _KINDS.get(mail.kind, "A mail")
    at = mail.settled_at or mail.created_at
    address = mail.address or mail.person.email
    match mail.state:
        case MailState.WAITING if mail.why:
            says = f"{what} waits: the mail server is away. It is tried again by itself, for about two days."
            return MailLine("wait", "waits", says, address, "Tell the operator if this lasts.", at, is_trouble=True)
        case MailState.WAITING:
            return MailLine("off", "waits", f"{what} is about to be handed over.", address, "", at, is_trouble=False)
        case MailState.HANDED_OVER:
            says = f"{what} was handed over to the mail server. Whether it was read, nobody can say here."
            return MailLine("ok", "handed over", says, address, "", at, is_trouble=False)
        case MailState.NEEDLESS:
            says = f"{what} was not sent: it was not needed any more."
            return MailLine("off", "not sent", says, address, "", at, is_trouble=False)
        case _:
            says = f"{what} could not be delivered: " + (
                "the mail server refused this address."
                if mail.why == "refused"
                else "the mail server was away for about two days."
            )
            way_out = "Tell the person by another way; make sure of the address, and send it again."
            return MailLine("uncovered", "not delivered", says, address, way_out, at, is_trouble=True)
