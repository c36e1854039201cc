# SPDX-License-Identifier: Apache-2.0
"""`manage.py operator …`: the accounts with which operators sign in to the admin at /admin/."""

from __future__ import annotations

import base64
import getpass
import secrets
from io import StringIO
from typing import Any, Final
from urllib.parse import quote

import segno
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from config.ceremonies import CeremonyRefused, only_ceremony
from config.ceremonies.transcript import Transcript
from config.env import ENV
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.text import is_encodable
from kernel.errors import DomainError
from operators import accounts
from operators.models import Operator

# 20 signs of 32: 100 bits, and nobody has to remember it.
_GENERATED_GROUPS: Final = 5
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"


class Command(BaseCommand):
    help = "Add, list, remove operators of the admin, or give one a new password and authenticator."

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        for act, said in (
            ("add", "Make an account. Its password and its authenticator's key are shown once."),
            ("reset", "Give an account another password and authenticator, and end its sessions."),
        ):
            made = subcommands.add_parser(act, help=said, description=said)
            made.add_argument("name", metavar="NAME")
            made.add_argument("--type", action="store_true", help="type the password, instead of having one made")
        said = "End an account for ever. What its operator has open stops with the next request."
        subcommands.add_parser("remove", help=said, description=said).add_argument("name", metavar="NAME")
        said = "List the accounts, with the ids by which logs name them."
        subcommands.add_parser("list", help=said, description=said)

    def handle(self, *args: Any, **options: Any) -> None:
        if ENV.role != "ceremony":
            raise CommandError("Run it with HOLDFAST_ROLE=ceremony, on the account that owns the tables.")
        if options["act"] == "list":
            for one in accounts.everybody():
                self.stdout.write(f"{one.name:<20} {one.state:<8} operator:{one.pk}")
            return
        try:
            with only_ceremony():
                self._change(**options)
        except (DomainError, CeremonyRefused) as error:
            raise CommandError(str(error)) from None
        except EOFError:
            raise CommandError("It ended where it asks, since nobody answers here. Nothing was changed.") from None

    def _change(self, *, act: str, name: str, **options: Any) -> None:
        if act == "remove":
            with transaction.atomic():
                removed = accounts.remove(name=name)
                _write_down(act, removed)
            self.stdout.write(f"{name} is no operator any more.")
            return
        password = self._typed() if options["type"] else _generated()
        with transaction.atomic():
            verb = accounts.add if act == "add" else accounts.reset
            operator, key = verb(name=name, password=password)
            # Before it is done: secrets that nobody has seen would take the place of those that are known.
            self._show(name, key, None if options["type"] else password)
            _write_down(act, operator)

    def _typed(self) -> SecretBytes:
        first, again = getpass.getpass("Password: "), getpass.getpass("Once more: ")
        if first != again:
            raise CommandError("The two are not the same. Nothing was changed.")
        return SecretBytes(first.encode())

    def _show(self, name: str, key: SecretBytes, password: SecretBytes | None) -> None:
        secret = base64.b32encode(key.reveal()).decode()
        issuer = quote("Holdfast operators")
        uri = f"otpauth://totp/{issuer}:{quote(name)}?secret={secret}&issuer={issuer}"
        lines = [] if password is None else [f"Password: {password.reveal().decode()}"]
        lines += ["Authenticator, shown this once:", uri]
        drawn = StringIO()
        segno.make(uri, error="l").terminal(out=drawn, compact=True)
        # A terminal without half blocks has the text alone, to be typed.
        if is_encodable(drawn.getvalue(), getattr(self.stdout, "encoding", None) or "utf-8"):
            lines.append(drawn.getvalue())
        try:
            self.stdout.write("\n".join(lines))
            self.stdout.flush()
        # AttributeError, ValueError: what Django says of a stream that was closed at the start, or since.
        except (OSError, ValueError, AttributeError) as error:
            raise CommandError(f"What is shown once could not be written: {error}. Nothing was changed.") from None


def _write_down(act: str, operator: Operator) -> None:
    # Inside the transaction: what cannot be written down is not done.
    Transcript().write("operator", f"{act} {operator.name}", (f"operator:{operator.pk}",))


def _generated() -> SecretBytes:
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(_GENERATED_GROUPS)]
    return SecretBytes("-".join(groups).encode())
