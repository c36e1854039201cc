# SPDX-License-Identifier: Apache-2.0
"""`manage.py sendtestmail`: hand one mail to the mail server as notices are, and say in words what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import get_connection
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from config.mail import REFUSALS, refusal
from holdfast.core.base.text import written_out
from tenants import mails


class Command(BaseCommand):
    help = (
        "Hand one mail to the mail server of HOLDFAST_EMAIL_URL, as every mail of Holdfast is, and say what it said, "
        "with the way out where it did not take it. Run it as the worker, which hands mails over. Exit status 1 when "
        "it was not taken."
    )
    # It needs no database: mail may be what is set up first.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="whom to send it to: somebody who looks whether it arrives")

    def handle(self, *args: Any, **options: Any) -> None:
        address = options["address"]
        try:
            validate_email(address)
        except ValidationError:
            raise CommandError(f"{written_out(address)} is no e-mail address.") from None
        if not settings.EMAIL_TIMEOUT:
            raise CommandError(
                "HOLDFAST_EMAIL_URL is not set: no mail is handed over. Set it, for example to smtp://user@host:587."
            )
        context = {
            "server": settings.HOLDFAST_PUBLIC_URL,
            "at": mails.written_time(datetime.now(UTC)),
            "sender": settings.DEFAULT_FROM_EMAIL,
        }
        at = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
        try:
            with get_connection() as connection:
                mails.message(template="test", context=context, to=address, connection=connection).send()
        except REFUSALS as error:
            found = refusal(error)
            raise CommandError(written_out(f"{at} did not take it: {found.said}. {found.way_out}")) from None
        self.stdout.write(written_out(f"{at} took a mail from {settings.DEFAULT_FROM_EMAIL} to {address}."))
        self.stdout.write("Look whether it arrives, also among the spam: what took it may still not deliver it.")
