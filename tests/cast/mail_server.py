# SPDX-License-Identifier: Apache-2.0
"""A mail server of the tests' own: takes mails over SMTP and keeps them, refuses some, or is away."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class MailServer:
    """What came over SMTP. answers: by recipient, what is said instead of taking them."""

    port: int
    answers: dict[str, str] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    _running: Controller | None = None

    @property
    def mails(self) -> list[EmailMessage]:
        return [email.message_from_bytes(one, policy=email.policy.default) for one in self.raw]

    def up(self) -> None:
        self._running = Controller(self, hostname="127.0.0.1", port=self.port)
        self._running.start()

    def down(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.recipients += envelope.rcpt_tos
        self.raw.append(envelope.content)
        return "250 OK"


@contextmanager
def mail_server(settings: Any) -> Iterator[MailServer]:
    """Have Django hand its mails to a server that runs, at a port of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", port, 5
    server = MailServer(port)
    server.up()
    try:
        yield server
    finally:
        server.down()


def text_and_page(mail: EmailMessage) -> tuple[str, str]:
    """Return the two parts of a mail: the text, and the HTML of the same words."""
    assert mail.get_content_type() == "multipart/alternative"
    text, page = mail.iter_parts()
    assert (text.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
    return text.get_content(), page.get_content()
