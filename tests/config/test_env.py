# SPDX-License-Identifier: Apache-2.0
"""A wrong value from outside ends every process at its start with one sentence that names it; a right one works."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest
from django.core.mail import EmailMessage, get_connection

from config import env
from config.database import database, is_exposed
from config.mail import mail
from config.secret_files import read_secret


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("trusted_proxies", '["10.0.0.1/8"]', "10.0.0.0/8"),
        ("trusted_proxies", '["proxy.internal"]', "neither an address nor a network"),
        ("trusted_proxies", "10.0.0.1, proxy", "'proxy'"),
        ("trusted_proxies", '["10.0.0.1"', "commas"),
        ("trusted_proxies", '{"a": "10.0.0.1"}', "commas"),
        ("trusted_proxies", "[null]", "commas"),
        ("trusted_proxies", "[" * 5000, "commas"),
        ("trusted_proxies", "10.0.0.1:80", "'10.0.0.1:80'"),
        ("trusted_proxies", "unix:/run/holdfast/web.sock", "or unix for"),
        ("trusted_proxies", "10.0.0.0/33", "'10.0.0.0/33'"),
        ("trusted_proxies", "fe80::1%eth0/64", "neither an address nor a network"),
        ("trusted_proxies", '"127.0.0.1"', "neither an address nor a network"),
        ("allowed_hosts", "https://holdfast.example", "without https://"),
        ("allowed_hosts", "holdfast.example:443", "without a port"),
        ("allowed_hosts", "*", "no host name"),
        ("allowed_hosts", "holdfast.example, a b", "'a b'"),
        ("listen", "8000", "host:port"),
        ("listen", "http://127.0.0.1:8000", "host:port"),
        ("listen", "127.0.0.1:port", "host:port"),
        ("listen", "127.0.0.1", "host:port"),
        ("public_url", "http://127.0.0.1:8000/holdfast", "origin"),
        ("public_url", "holdfast.example", "origin"),
        ("public_url", "ftp://holdfast.example", "origin"),
        ("public_url", "https://", "origin"),
        ("public_url", "http://[::1", "origin"),
        ("public_url", "http://[fe80::1%25eth0]:8000", "origin"),
        ("public_url", "http://127.0.0.1:99999", "origin"),
        ("public_url", "http://127.0.0.1:0", "origin"),
        ("public_url", "http://127.0.0.1:", "origin"),
        ("public_url", "http://127.0.0.1:port", "origin"),
        ("public_url", "https://hold fast.example", "origin"),
        ("public_url", "https://holdfast.example#top", "origin"),
        ("public_url", "https://holdfast.example?", "origin"),
        ("public_url", "https://@holdfast.example", "origin"),
        ("public_url", "https://holdfast.example//", "origin"),
        ("public_url", "'https://holdfast.example'", "origin"),
        ("public_url", "https://höldfast.example", "origin"),
        ("public_url", " https://holdfast.example", "space"),
        ("public_url", "https://holdfast.example\nX", "line end"),
        ("web_origins", "*", "everybody's pages"),
        ("web_origins", "https://app.example, null", "everybody's pages"),
        ("web_origins", "https://*.example", "no origin"),
        ("web_origins", "http://app.example", "https is wanted"),
        ("web_origins", "http://127.0.0.1.example:5173", "https is wanted"),
        ("web_origins", "https://app.example/", "'https://app.example'"),
        ("web_origins", "https://App.example", "'https://app.example'"),
        ("web_origins", "https://app.example:443", "'https://app.example'"),
        ("web_origins", "https://app.example/chat", "paths below one are not served"),
        ("web_origins", "app.example", "no origin"),
        ("email_url", "mail.example", "smtp://"),
        ("email_url", "smtp://user:secret@mail.example", "HOLDFAST_EMAIL_PASSWORD_FILE"),
        ("database_url", "mysql://db/holdfast", "neither sqlite nor postgres"),
        ("database_url", "postgres://holdfast:secret@db/holdfast", "HOLDFAST_DATABASE_PASSWORD_FILE"),
        ("database_url", "postgres://holdfast@db/holdfast?sslmod=require", "sslmod is not understood"),
        ("database_url", "postgres://holdfast@db:99999/holdfast", "postgres://user@host:5432/name"),
        ("database_url", "postgres://holdfast@[db/holdfast", "postgres://user@host:5432/name"),
        ("database_url", "postgres://holdfast@db", "name of the database"),
        ("database_url", "postgres://holdfast@db/holdfast?sslmode=verify_full", "verify-full"),
        ("database_url", "sqlite://holdfast.sqlite3", "whole/path"),
        ("redis_url", "localhost:6379", "redis://"),
        ("redis_url", "redis://localhost:port", "redis://"),
        ("email_url", "smtp://mail.example:99999", "smtp://"),
        ("email_url", "smtp://[::1", "smtp://"),
        ("email_url", "smtp://mail.example/outbox", "after the host"),
        ("email_from", "Holdfast", "no sender"),
        ("email_from", "holdfast@", "no sender"),
        ("email_password_file", "/nowhere", "there is no file"),
        ("email_password_file", "/", "Is a directory"),
        ("email_password_file", "/dev/null", "is empty"),
        ("email_password_file", sys.executable, "longer than any password"),
        ("database_password_file", "/nowhere", "there is no file"),
        ("database_password_file", "~/password", "the whole path"),
        ("state_dir", sys.executable, "a directory is wanted"),
        ("state_dir", "~/holdfast", "the whole path"),
        ("hsm_home", sys.executable, "a directory is wanted"),
        ("admin", "ja", "boolean"),
        ("cases_per_day", "0", "1"),
        ("role", "king", "'web'"),
        ("contacts_delay_seconds", "soon", "integer"),
    ],
)
def test_wrong_value_is_one_sentence(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HOLDFAST_{name.upper()}", value)
    with pytest.raises(SystemExit) as ended:
        env.read()
    sentence = str(ended.value)
    assert sentence.startswith(f"HOLDFAST_{name.upper()}: ")
    assert said in sentence
    assert "\n" not in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("PUBLIC_ULR", "PUBLIC_URL"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("DATABASE_PASSWORDFILE", "DATABASE_PASSWORD_FILE"),
        ("EMAIL_URLS", "EMAIL_URL"),
    ],
)
def test_misspelt_name_is_one_sentence(wrong: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HOLDFAST_{wrong}", "x")
    with pytest.raises(SystemExit) as ended:
        env.read()
    assert str(ended.value) == f"HOLDFAST_{wrong}: there is no such setting; did you mean HOLDFAST_{meant}?"


def test_names_that_are_not_the_servers_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROFILE", "PASSPHRASE_FILE", "SUPERVISED", "TELL_REFUSAL", "TEST_POSTGRES", "ACME_TICKET"):
        monkeypatch.setenv(f"HOLDFAST_{name}", "x")
    env.read()


@pytest.mark.parametrize("name", ["cases_per_day", "hsm_softhsm", "role", "state_dir", "public_url", "secret_key_file"])
def test_empty_value_says_the_same_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"HOLDFAST_{name.upper()}", raising=False)
    unset = getattr(env.read(), name)
    monkeypatch.setenv(f"HOLDFAST_{name.upper()}", "")
    assert getattr(env.read(), name) == unset


def test_path_is_the_same_from_every_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_STATE_DIR", "var")
    assert env.read().state_dir == tmp_path / "var"


@pytest.mark.parametrize(
    ("octets", "read"),
    [
        (b"a secret\n", "a secret"),
        (b"\xef\xbb\xbfa secret\r\n", "a secret"),
        (b"  a secret\n\n", "a secret"),
        ("Größe".encode(), "Größe"),
    ],
)
def test_secret_is_read_without_what_editors_put_around_it(octets: bytes, read: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(octets)
    assert read_secret(tmp_path / "secret") == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("10.0.0.0/8, ::1", ["10.0.0.0/8", "::1"]),
        ('["10.0.0.5"]', ["10.0.0.5"]),
        ("", []),
    ],
)
def test_list_is_read_with_commas_or_as_json(value: str, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TRUSTED_PROXIES", value)
    assert env.read().trusted_proxies == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://holdfast.example/", "https://holdfast.example"),
        ("HTTPS://Holdfast.Example", "https://holdfast.example"),
        ("https://holdfast.example:443", "https://holdfast.example"),
        ("http://holdfast.example:80/", "http://holdfast.example"),
    ],
)
def test_origin_is_taken_as_browsers_write_it(value: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_PUBLIC_URL", value)
    assert env.read().public_url == read


def test_mail_is_encrypted_on_its_way_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n")
    away = mail("smtp://holdfast@mail.example", password_file=tmp_path / "password")
    assert (away["EMAIL_PORT"], away["EMAIL_USE_TLS"], away["EMAIL_USE_SSL"]) == (587, True, False)
    assert (away["EMAIL_HOST_USER"], away["EMAIL_HOST_PASSWORD"]) == ("holdfast", "a secret")
    direct = mail("smtps://mail.example", password_file=None)
    assert (direct["EMAIL_PORT"], direct["EMAIL_USE_TLS"], direct["EMAIL_USE_SSL"]) == (465, False, True)
    assert not mail("smtp://127.0.0.1:25", password_file=None)["EMAIL_USE_TLS"]


@pytest.mark.parametrize(("user", "password"), [("holdfast", "Größe"), ("h%C3%B6ld", "secret"), ("ops", "a\u2009b")])
def test_mail_server_that_cannot_be_signed_in_to_with_these_letters_is_named_at_the_start(
    user: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(password)
    monkeypatch.setenv("HOLDFAST_EMAIL_URL", f"smtp://{user}@mail.example")
    monkeypatch.setenv("HOLDFAST_EMAIL_PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(SystemExit):
        env.read()
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("HOLDFAST_EMAIL_URL: " if password == "secret" else "HOLDFAST_EMAIL_PASSWORD_FILE: ")
    assert "ASCII" in sentence
    assert password not in sentence


def test_mail_server_that_says_nothing_is_left_after_the_time_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.mail.TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = mail(f"smtp://127.0.0.1:{silent.getsockname()[1]}", password_file=None)
        connection = get_connection(
            "django.core.mail.backends.smtp.EmailBackend",
            host=made["EMAIL_HOST"],
            port=made["EMAIL_PORT"],
            timeout=made["EMAIL_TIMEOUT"],
        )
        started = time.monotonic()
        # The kernel takes the connection; nobody ever greets.
        with pytest.raises(OSError, match="timed out"):
            connection.send_messages([EmailMessage("A subject", "A text", to=["alice@acme.test"])])
        assert time.monotonic() - started < 30


def test_database_is_told_what_the_address_says_of_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n")
    url = "postgres://holdfast@db.example:5433/acme?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/me.pem&sslkey=/me.key"
    made = database(url, state_dir=tmp_path, password_file=tmp_path / "password")
    assert (made["HOST"], made["PORT"], made["NAME"], made["PASSWORD"]) == ("db.example", "5433", "acme", "a secret")
    told = {name: made["OPTIONS"][name] for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")}
    assert told == {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "sslcert": "/me.pem", "sslkey": "/me.key"}


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("postgres://holdfast@db.example/acme", True),
        ("postgres://holdfast@db.example/acme?sslmode=require", True),
        ("postgres://holdfast@db.example/acme?sslmode=verify-full", False),
        ("postgres://holdfast@127.0.0.1/acme", False),
        ("postgres://holdfast@/acme?host=/run/postgresql", False),
        ("", False),
    ],
)
def test_database_on_another_machine_has_to_prove_itself(url: str, exposed: bool, tmp_path: Path) -> None:
    assert is_exposed(database(url, state_dir=tmp_path)) == exposed


@pytest.mark.parametrize(
    ("public_url", "listen", "at"),
    [
        ("http://127.0.0.1:8000", "", "127.0.0.1:8000"),
        ("http://[::1]:8000", "", "[::1]:8000"),
        ("http://holdfast.test", "", "holdfast.test:80"),
        ("https://holdfast.example", "127.0.0.1:8001", "127.0.0.1:8001"),
    ],
)
def test_up_listens_at_the_public_address_or_where_it_is_told(
    public_url: str, listen: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_PUBLIC_URL", public_url)
    monkeypatch.setenv("HOLDFAST_LISTEN", listen)
    assert env.read().listening_at == at
