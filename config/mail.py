# SPDX-License-Identifier: Apache-2.0
"""From one address to Django's mail settings, and in words why a mail server does not take us.

Implements PLATFORM "Running it".
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from config.addresses import parts_of
from config.secret_files import read_secret

# A mail server that accepts and then says nothing holds one notice for this long, and nobody else.
TIMEOUT_SECONDS = 10
_LOCAL = ("127.0.0.1", "::1", "localhost")


def mail(url: str, *, password_file: Path | None) -> dict[str, Any]:
    """Return Django's EMAIL_ settings for smtp:// (STARTTLS, unless on this machine) or smtps://; none for "".

    Raises ValueError for another address, and for a password in the address: environments are
    read by too many.
    """
    if not url:
        return {}
    such_as = "smtp://user@host:587 or smtps://user@host:465"
    parts = parts_of(url, "smtp", "smtps", such_as=such_as)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"nothing comes after the host; write {such_as}")
    if parts.password:
        raise ValueError("put the password into a file, and name that in HOLDFAST_EMAIL_PASSWORD_FILE")
    is_smtps = parts.scheme == "smtps"
    user = unquote(parts.username or "")
    _require_ascii(user, "the user")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if is_smtps else 587),
        "EMAIL_HOST_USER": user,
        "EMAIL_HOST_PASSWORD": password(password_file) if password_file else "",
        "EMAIL_USE_SSL": is_smtps,
        "EMAIL_USE_TLS": not is_smtps and not is_local(parts.hostname or ""),
        "EMAIL_TIMEOUT": TIMEOUT_SECONDS,
    }


def is_local(host: str) -> bool:
    """Tell whether a mail server is on this machine: no encryption on the way to it, and it may rewrite the sender."""
    return host in _LOCAL


def password(path: Path) -> str:
    """Return the password with which we sign in to a mail server. Raises ValueError as `read_secret`, and `mail`."""
    read = read_secret(path)
    _require_ascii(read, str(path))
    return read


def _require_ascii(text: str, what: str) -> None:
    if not text.isascii():
        # The sign-in of smtplib writes no others, and would fail with each mail.
        raise ValueError(f"{what} has letters that we cannot sign in with; choose one of ASCII alone")


@dataclass(frozen=True)
class Refusal:
    """Why a mail server did not take us, or a mail, in words for the operator, and what they do about it.

    said: may hold what the server wrote, as it came.
    """

    said: str
    way_out: str


# What handing a mail over raises: every error of smtplib and of ssl is an OSError, and an address may be none.
REFUSALS: Final = (OSError, ValueError)
_SIGN_IN: Final = "Look at the user in HOLDFAST_EMAIL_URL and at HOLDFAST_EMAIL_PASSWORD_FILE."
_PORT: Final = "Look at host and port in HOLDFAST_EMAIL_URL, at the firewall, and whether the mail server runs."
_FORM: Final = "Write smtps:// where TLS comes first (465), and smtp:// where STARTTLS does (587)."
_FROM: Final = "Look at HOLDFAST_EMAIL_FROM, and at what the mail server lets us send."
_LONGEST_ANSWER: Final = 300  # characters of what a server says
# Asked to sign in first (RFC 4954 section 6).
_SIGN_IN_FIRST: Final = "530 "
# What smtplib says of an answer without a number: it is no mail server's.
_NO_NUMBER: Final = "-1 "
_BROKE_OFF: Final = Refusal("it broke off, or does not speak SMTP at this port", f"{_PORT} {_FORM}")


# In this order: what stands first may be of a kind that stands later.
_REFUSALS: Final[tuple[tuple[type[Exception], Refusal], ...]] = (
    (
        ssl.SSLCertVerificationError,
        Refusal(
            "its certificate is refused: {error.verify_message}",
            "Write the name that the certificate is for, or have it renewed by who keeps it.",
        ),
    ),
    (ssl.SSLError, Refusal("it does not speak TLS at this port", _FORM)),
    (smtplib.SMTPAuthenticationError, Refusal("it refuses user or password: {answer}", _SIGN_IN)),
    (
        smtplib.SMTPRecipientsRefused,
        Refusal(
            "it refuses the address: {answer}",
            "Look at the address, and whether the mail server passes mail on for us.",
        ),
    ),
    (smtplib.SMTPSenderRefused, Refusal("it refuses the sender: {answer}", _FROM)),
    (smtplib.SMTPResponseException, Refusal("it says: {answer}", "Do what it says; its own log may say more.")),
    (smtplib.SMTPNotSupportedError, Refusal("it lacks what is needed: {error}", f"{_FORM} {_SIGN_IN}")),
    (smtplib.SMTPServerDisconnected, _BROKE_OFF),
    (ConnectionRefusedError, Refusal("nobody listens there", _PORT)),
    (ConnectionError, _BROKE_OFF),
    (socket.gaierror, Refusal("nobody knows its name", "Look at the host in HOLDFAST_EMAIL_URL, and at DNS.")),
    (TimeoutError, Refusal("it says nothing", f"{_PORT} {_FORM}")),
    (OSError, Refusal("it is not reached: {error}", _PORT)),
)


def refusal(error: Exception) -> Refusal:
    """Say in words what `error`, one of REFUSALS, means where a mail was handed over."""
    if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(error.__context__, TimeoutError):
        error = error.__context__  # smtplib tells of both by one error
    answer = _answer(error)
    if answer.startswith(_SIGN_IN_FIRST):
        return Refusal(f"it wants us to sign in: {answer}", _SIGN_IN)
    if answer.startswith(_NO_NUMBER):
        return _BROKE_OFF
    for kind, words in _REFUSALS:
        if isinstance(error, kind):
            return Refusal(words.said.format(error=error, answer=answer), words.way_out)
    return Refusal(f"this cannot be written as a mail: {error}", "Look at the address, and at HOLDFAST_EMAIL_FROM.")


def _answer(error: Exception) -> str:
    """Return what the server answered, code and text, in one line; "" where it did not."""
    said: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()), (0, b""))
    elif isinstance(error, smtplib.SMTPResponseException):
        code, said = error.smtp_code, error.smtp_error
    else:
        return ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{code} {' '.join(text.split())}"[:_LONGEST_ANSWER]
