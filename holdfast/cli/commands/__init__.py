# SPDX-License-Identifier: Apache-2.0
"""The commands, one file or folder for each group; and what the first word of a line may be, known without any of them.

The help of `holdfast` and the completion of its first word are made of this table alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Listed(NamedTuple):
    """A command or a group, and where it is.

    module: below this package; a group is its `app`, a command is added by its `register`. help: of a group, its help;
    of a command, the first sentence of it.
    """

    module: str
    help: str
    is_group: bool = True


# As a person meets them: one's own device and messages, the ways back, one's contacts, then what officers and
# auditors do, then what one looks into when something is odd.
LISTED: Final = {
    "enrol": Listed("enrol", "Enrol this device with the code an officer gave you.", is_group=False),
    "devices": Listed("devices", "Your devices."),
    "send": Listed("mail", "Send a message to every device of a person.", is_group=False),
    "sent": Listed("mail", "Show what you sent and not every device has confirmed yet.", is_group=False),
    "receive": Listed("mail", "Fetch what was sent to you, and show it once.", is_group=False),
    "maintain": Listed("care", "Do everything that is due, and say what needs you.", is_group=False),
    "rotate": Listed("care", "Replace keys before their time.", is_group=False),
    "backup": Listed("backup", "Ways back to your keys, made while you still have them."),
    "recover": Listed("recover", "Ways back to your keys, on a device that does not hold them."),
    "contacts": Listed("contacts", "The people you write to, and those who trust you."),
    "archive": Listed("archive", "Files under your archive keys."),
    "escrow": Listed("escrow", "Escrow of your archive keys."),
    "officer": Listed("officer", "For security officers: cases and keys."),
    "org": Listed("org", "Administer your organisation: people, roles, devices."),
    "audit": Listed("audit", "The audit log: export and offline verification."),
    "chain": Listed("chain", "Account chains: yours and your contacts'."),
    "bundle": Listed("bundle", "Pre-key bundles: what others need to write to you first."),
    "profile": Listed("profile", "The encrypted file that this device's keys are in."),
    "doctor": Listed("doctor", "Say what this profile trusts, and how the server answers.", is_group=False),
}
