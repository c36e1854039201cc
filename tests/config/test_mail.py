# SPDX-License-Identifier: Apache-2.0
"""`manage.py sendtestmail` hands a mail over as notices are, or says in words why the mail server does not take it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import CommandError, call_command

from config import doctor
from config.mail import mail
from tests.cast.mail_server import mail_server, text_and_page
from tests.checks import manage

TO = "ops@acme.test"


def send(to: str = TO) -> str:
    said = StringIO()
    call_command("sendtestmail", to, stdout=said)
    return said.getvalue()


def refused(to: str = TO) -> str:
    with pytest.raises(CommandError) as refusal:
        send(to)
    return str(refusal.value)


def use(settings: Any, url: str, password_file: Path | None = None) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    for name, value in mail(url, password_file=password_file).items():
        setattr(settings, name, value)
    settings.EMAIL_TIMEOUT = 1


def test_mail_is_handed_over_as_notices_are(settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "Holdfast <holdfast@acme.test>"
    with mail_server(settings) as server:
        said = send()
    (sent,) = server.mails
    text, page = text_and_page(sent)
    assert (sent["To"], sent["From"], sent["Auto-Submitted"]) == (TO, settings.DEFAULT_FROM_EMAIL, "auto-generated")
    assert settings.HOLDFAST_PUBLIC_URL in text
    assert "There is nothing to do." in page
    assert f"took a mail from {settings.DEFAULT_FROM_EMAIL} to {TO}" in said


@pytest.mark.parametrize(
    ("at", "answer", "said"),
    [
        (TO, "550 5.1.1 No such user \x1b[31m", "it refuses the address: 550 5.1.1 No such user <U+001B>[31m"),
        (TO, "451 Come again", "it refuses the address: 451 Come again"),
        ("DATA", "554 5.7.1 Spam", "it says: 554 5.7.1 Spam"),
        ("DATA", "451 4.3.0 " + "x" * 400, "it says: 451 4.3.0 xxx"),
        (TO, "530 5.7.0 Authentication required", "it wants us to sign in"),
        ("DATA", "530 5.7.0 Authentication required", "it wants us to sign in"),
    ],
)
def test_what_the_server_answers_is_said(at: str, answer: str, said: str, settings: Any) -> None:
    with mail_server(settings) as server:
        server.answers[at] = answer
        words = refused()
        assert f"127.0.0.1:{server.port} did not take it: {said}" in words
    assert "\x1b" not in words
    assert len(words) < 600


class Sender:
    """A mail server's answer to one part of the talk."""

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        return "553 5.7.1 Not your sender"


@contextmanager
def running(handler: Any = None, *, first: Any = None, **given: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(handler or Sender(), hostname="127.0.0.1", port=port, ssl_context=first, **given)
    server.start()
    try:
        yield port
    finally:
        server.stop()


@contextmanager
def answering(octets: bytes | None) -> Iterator[int]:
    """A listener that says this to whoever connects and hangs up; with None it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                held.append(peer)
                if octets is not None:
                    peer.sendall(octets)
                    peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in held:
                peer.close()


def certificate(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=2))
    signed = made.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "mail.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "mail.pem")
    return context


def test_what_keeps_us_from_the_server_is_said(settings: Any, tmp_path: Path) -> None:
    """Each in words, by the command and by `doctor`, with the way out."""
    password, tls = tmp_path / "password", certificate(tmp_path)
    password.write_text("wrong\n")
    forms = "smtps:// where TLS comes first"

    def words(url: str, said: str, way_out: str, *, whole: bool = True) -> None:
        use(settings, url, password)
        found = refused()
        assert f"did not take it: {said}" in found
        assert way_out in found
        if whole:
            (one,) = doctor._mail()
            assert (one.state, said in one.said, way_out in one.way_out) == ("wrong", True, True)
            assert "manage.py sendtestmail" in one.way_out

    words("smtp://127.0.0.1:9", "nobody listens there", "host and port")
    words("smtp://mail.invalid:587", "nobody knows its name", "DNS")
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        words(f"smtp://127.0.0.1:{port}", "it broke off, or does not speak SMTP", forms)
        words(f"smtps://127.0.0.1:{port}", "it does not speak TLS", forms)
    with answering(b"") as port:
        words(f"smtp://127.0.0.1:{port}", "it broke off", forms)
    with answering(None) as port:
        words(f"smtp://127.0.0.1:{port}", "it says nothing", "firewall", whole=False)
    with running() as port:
        words(f"smtp://127.0.0.1:{port}", "it refuses the sender: 553", "HOLDFAST_EMAIL_FROM", whole=False)
        words(f"smtp://ops@127.0.0.1:{port}", "it lacks what is needed", "HOLDFAST_EMAIL_PASSWORD_FILE")
        settings.EMAIL_USE_TLS = True
        assert "STARTTLS" in refused()
        settings.EMAIL_USE_TLS = False
    with running(first=tls) as port:
        words(f"smtps://127.0.0.1:{port}", "its certificate is refused: self-signed", "certificate is for")
    with running(authenticator=lambda *_: AuthResult(success=False, handled=False), auth_require_tls=False) as port:
        words(f"smtp://ops@127.0.0.1:{port}", "it refuses user or password: 535", "HOLDFAST_EMAIL_PASSWORD_FILE")


def test_server_that_has_our_password_takes_the_mail(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right\n")
    seen = []

    def signed_in(server: SMTP, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        seen.append((given.login, given.password))
        return AuthResult(success=True)

    class Takes:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return "250 OK"

    with running(Takes(), authenticator=signed_in, auth_require_tls=False) as port:
        use(settings, f"smtp://ops@127.0.0.1:{port}", tmp_path / "password")
        assert "took a mail" in send()
    assert seen == [(b"ops", b"right")]


@pytest.mark.parametrize("address", ["", "nobody", "a@b@c", "a b@acme.test", "ops@acme.test\nBcc: x@acme.test", "\x1b"])
def test_address_that_is_none_is_refused_before_anybody_is_asked(address: str, settings: Any) -> None:
    settings.EMAIL_TIMEOUT, settings.EMAIL_PORT = 1, 9
    said = refused(address)
    assert "is no e-mail address." in said
    assert "\n" not in said
    assert "\x1b" not in said


def test_command_without_a_mail_server_says_which_setting_is_missing(tmp_path: Path) -> None:
    done = manage(
        "sendtestmail",
        TO,
        DJANGO_SETTINGS_MODULE="config.settings.development",
        HOLDFAST_STATE_DIR=str(tmp_path),
    )
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "HOLDFAST_EMAIL_URL is not set" in sentence
