# SPDX-License-Identifier: Apache-2.0
"""A small app on the library, in a process of its own, for tests that kill it: `python -m tests.journeys.messenger`.

Sends what its list says and receives into a file. Everything it needs to go on after a kill is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from holdfast.client.errors import NotYet
from holdfast.client.messages import messages
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.vault import pairing
from holdfast.core.base.secret import SecretBytes
from tests.cast.server import wait_for

PASSPHRASE = SecretBytes(b"a passphrase for tests only")


def caught_up(account: Account) -> bool:
    """Whether another device's change was taken over; waits until the log holds an entry that was just made."""
    changed: list[bool] = []

    def tried() -> bool:
        with contextlib.suppress(NotYet):
            changed.append(pairing.catch_up(account))
        return bool(changed)

    wait_for(tried)
    return changed[0]


def append(path: Path, line: str) -> None:
    """Add a line durably."""
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def lines(path: Path) -> list[dict[str, str]]:
    """Read the lines that are whole: a kill may leave the last one unfinished."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def send(account: Account, home: Path) -> None:
    """Send what is on the list and not yet noted as sent, each under its own id."""
    sent = {line["id"] for line in lines(home / "sent")}
    for line in lines(home / "to-send"):
        if line["id"] not in sent:
            body = bytes.fromhex(line["body"])
            messages.send(account, bytes.fromhex(line["to"]), body, message_id=bytes.fromhex(line["id"]))
            append(home / "sent", json.dumps({"id": line["id"]}))
    if messages.flush(account).waiting:
        raise SystemExit("something waits although the server is there")


def receive(account: Account, home: Path) -> None:
    """Receive everything; what is in the file already is not written again."""
    got = {line["id"] for line in lines(home / "got")}
    for one in messages.receive(account):
        if one.id.hex() not in got:
            append(home / "got", json.dumps({"id": one.id.hex(), "from": one.sender.hex(), "body": one.body.hex()}))
        one.done()


def main() -> None:
    """Do one of the two, and say at the end what had to be reported."""
    act, profile = {"send": send, "receive": receive}[sys.argv[1]], Path(sys.argv[2])
    with accounts.open_account(profile, passphrase=PASSPHRASE) as account:
        account.connect()
        act(account, profile)
        for report in messages.reports(account):
            append(profile / "reports", json.dumps({"kind": report.kind, "text": report.text}))


if __name__ == "__main__":
    main()
