# SPDX-License-Identifier: Apache-2.0
"""Whose matter an error is: what was typed, this machine, the network, the server, or other people's data.

Each cause is brought about for real, and the table says what its person is told: the class, the exit code, and a word
of the way out. A slip of one's own is never announced as an attack, and no attack as a slip.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import keyring
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from keyring.backends import fail

from holdfast.cli import asking
from holdfast.cli.exits import Exit, exit_for, said_of
from holdfast.cli.given import text_file
from holdfast.client import errors
from holdfast.client.auditor import transcript
from holdfast.client.escrow import archive
from holdfast.client.identity import addresses, chains, contacts, device
from holdfast.client.messages import messages
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.sqlite_file import connect
from holdfast.client.profile.state import State
from holdfast.client.profile.store import PROFILE_FILE, MemoryStore, SqliteStore
from holdfast.client.server import pace
from holdfast.client.server.transport import Api
from holdfast.client.vault import doors, export, pairing
from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.entries import Entry
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.cast.lying_server import LyingServer, Tenant
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members

TENANT = b"t" * 16
LATIN = "Größe née fiancée".encode("latin-1")


@dataclass
class Place:
    """Where a cause is brought about: a directory, a tenant with its server, and what has to be put back."""

    path: Path
    world: Members
    patch: pytest.MonkeyPatch

    def file(self, name: str, octets: bytes, mode: int = 0o600) -> Path:
        path = self.path / name
        path.touch(mode=mode)
        path.write_bytes(octets)
        return path

    def profile(self) -> Path:
        """Return a profile on the disk, opened by PASSWORD."""
        made = accounts.create(self.path / "p", tenant=TENANT, user=ALICE, passphrase=PASSWORD, cost=CHEAP)
        made.close()
        return self.path / "p"

    def open(self) -> None:
        with accounts.open_account(self.path / "p", passphrase=PASSWORD):
            pass


@pytest.fixture(scope="module")
def founded() -> Tenant:
    """RSA keys take a second to make: one tenant serves all causes, and none of them changes it."""
    return Tenant()


@pytest.fixture
def place(founded: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, Members(LyingServer(founded)), monkeypatch)


# What was typed or given


def password_of_the_vault_in_another_encoding(at: Place) -> None:
    with_password(at, SecretBytes(LATIN))


def wrong_password_of_the_vault(at: Place) -> None:
    with_password(at, SecretBytes(b"not the password of it"))


def with_password(at: Place, typed: SecretBytes) -> None:
    doors.set_password(at.world.enrolled(ALICE), PASSWORD, cost=CHEAP)
    tablet = at.world.profile(ALICE)
    device.enrol(tablet, at.world.server.code(ALICE), name="tablet")
    doors.open_with_password(tablet, password=typed)


def password_file_in_another_encoding(at: Place) -> None:
    asking.password(at.file("password", LATIN), "Password")


def passphrase_in_another_encoding(at: Place) -> None:
    accounts.open_profile(at.profile(), passphrase=SecretBytes(LATIN))


def passphrase_that_is_too_short(at: Place) -> None:
    accounts.create(at.path / "p", tenant=TENANT, user=ALICE, passphrase=SecretBytes(b"short"))


def phrase_with_a_word_too_few(at: Place) -> None:
    asking.ask_phrase("Phrase", at.file("phrase", b"abandon " * 23))


def no_enrolment_code(_: Place) -> None:
    EnrolmentCode.parse("hello")


def enrolment_code_of_somebody_else(at: Place) -> None:
    device.enrol(at.world.profile(ALICE), at.world.server.code(BOB), name="laptop")


def no_pairing_code(at: Place) -> None:
    pairing.accept(at.world.enrolled(ALICE), "https://holdfast.example")


def no_export_file(at: Place) -> None:
    export.open_file(at.world.enrolled(ALICE), b"%PDF-1.7", password=PASSWORD)


def export_file_of_somebody_else(at: Place) -> None:
    theirs = export.write(at.world.enrolled(BOB), password=PASSWORD, cost=CHEAP)
    export.open_file(at.world.enrolled(ALICE), theirs, password=PASSWORD)


def export_file_and_a_password_in_another_encoding(at: Place) -> None:
    alice = at.world.enrolled(ALICE)
    export.open_file(alice, export.write(alice, password=PASSWORD, cost=CHEAP), password=SecretBytes(LATIN))


def file_that_was_never_encrypted(at: Place) -> None:
    archive.decrypt_file(at.world.enrolled(ALICE), at.file("letter", b"Dear Bob, " * 90), at.path / "out")


def address_of_nobody(at: Place) -> None:
    addresses.person_of(at.world.enrolled(ALICE), "nobody@acme.test")


def no_address(at: Place) -> None:
    addresses.person_of(at.world.enrolled(ALICE), "bob")


def file_that_is_not_there(at: Place) -> None:
    text_file(at.path / "nothing")


def directory_in_the_place_of_a_file(at: Place) -> None:
    text_file(at.path)


def text_in_another_encoding(at: Place) -> None:
    text_file(at.file("people.csv", b"name,email\n" + LATIN))


def key_to_trust_that_is_none(at: Place) -> None:
    text = at.file("text", b"x")
    transcript.verify(text, text, root="hello", log=None)


def message_that_is_too_large(at: Place) -> None:
    messages.send(at.world.published(ALICE), BOB, b"x" * 2_000_000)


# This machine


def profile_open_to_others(at: Place) -> None:
    at.profile().chmod(0o755)
    at.open()


def secret_file_open_to_others(at: Place) -> None:
    path = at.file("passphrase", b"correct horse battery staple")
    path.chmod(0o644)
    asking.secret_file(path)


def no_keyring(at: Place) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        accounts.create(at.path / "p", tenant=TENANT, user=ALICE)
    finally:
        keyring.set_keyring(before)


def disk_that_is_full(at: Place) -> None:
    with accounts.open_account(at.profile(), passphrase=PASSWORD) as account:
        assert isinstance(account.store, SqliteStore)
        account.store._execute("PRAGMA max_page_count = 1")
        account.store.put("filler", b"", SecretBytes(bytes(1_000_000)))


def device_without_room(_: Place) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def descriptor_that_is_not_open(_: Place) -> None:
    asking.secret_descriptor(987)


# The profile


def no_profile(at: Place) -> None:
    (at.path / "p").mkdir(mode=0o700)
    at.open()


def wrong_passphrase(at: Place) -> None:
    accounts.open_profile(at.profile(), passphrase=SecretBytes(b"another passphrase than it"))


def damaged_profile(at: Place) -> None:
    (at.profile() / PROFILE_FILE).write_bytes(b"SQLite format 3\0" + bytes(4096))
    at.open()


def file_of_a_newer_version(at: Place) -> None:
    with closing(sqlite3.connect(at.profile() / PROFILE_FILE)) as connection:
        connection.execute(f"PRAGMA application_id = {0x48464432}")
    at.open()


def head_of_a_newer_version(at: Place) -> None:
    with closing(connect(at.profile() / PROFILE_FILE)) as connection:
        head = decode(connection.execute("SELECT document FROM head").fetchone()[0])
        assert isinstance(head, dict)
        connection.execute("UPDATE head SET document = ?", (encode({**head, 1: 2, 9: b"new"}),))
    at.open()


def state_of_a_newer_version(at: Place) -> None:
    with accounts.open_account(at.profile(), passphrase=PASSWORD) as account:
        state = decode(account.state.to_secret().reveal())
        assert isinstance(state, dict)
        account.store.put("state", b"", SecretBytes(encode({**state, 99: b"new"})))
    at.open()


def device_that_is_not_enrolled(_: Place) -> None:
    Account(MemoryStore(tenant=TENANT, user=ALICE), State()).connect()


# The network


def reach(url: str) -> None:
    with closing(Api(url, sleep=lambda _seconds: None)) as api:
        api.get("devices")


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Answer each connection to a port of this machine, which is yielded."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        answer(connection)
                    except OSError:
                        continue  # the client went away, as these are to

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def certificate(path: Path, *, days: tuple[int, int] = (-1, 30), address: str = "127.0.0.1") -> Path:
    """Write a certificate that is its own authority, with its key, good between two days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Acme's own authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def over_tls(at: Place, *, is_trusted: bool = True, **how: Any) -> None:
    chain = certificate(at.path / "server.pem", **how)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain)
    if is_trusted:
        at.patch.setattr(httpx2, "create_ssl_context", lambda **_: ssl.create_default_context(cafile=str(chain)))
    with listening(lambda one: serving.wrap_socket(one, server_side=True).close()) as port:
        reach(f"https://127.0.0.1:{port}")


def certificate_of_a_private_authority(at: Place) -> None:
    over_tls(at, is_trusted=False)


def certificate_that_has_expired(at: Place) -> None:
    over_tls(at, days=(-30, -1))


def certificate_that_is_not_valid_yet(at: Place) -> None:
    over_tls(at, days=(1, 30))


def certificate_of_another_name(at: Place) -> None:
    over_tls(at, address="127.0.0.2")


def plain_http_where_https_is_meant(_: Place) -> None:
    with listening(lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        reach(f"https://127.0.0.1:{port}")


def port_where_nobody_listens(_: Place) -> None:
    with listening(lambda one: one.close()) as port:
        pass
    reach(f"http://127.0.0.1:{port}")


def name_of_no_host(_: Place) -> None:
    reach("https://no-such-host.invalid")


def server_that_hangs_up(_: Place) -> None:
    with listening(lambda one: one.recv(10_000)) as port:
        reach(f"http://127.0.0.1:{port}")


def server_that_says_nothing(at: Place) -> None:
    at.patch.setattr(pace, "PATIENCE_SECONDS", 0.2)
    with listening(lambda one: one.recv(10_000) and one.recv(10_000)) as port:
        reach(f"http://127.0.0.1:{port}")


# The server, and what stands before it


def answered(status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=body, headers=headers))
    Api("https://holdfast.example", transport=transport, sleep=lambda _seconds: None).get("devices")


def refused(status: int, code: str) -> Callable[[Place], None]:
    document = f'{{"title": "x", "status": {status}, "code": "{code}", "detail": "No."}}'.encode()
    return lambda _: answered(status, document)


def sign_in_page_of_a_hotel(_: Place) -> None:
    answered(200, b"<html>Welcome to the hotel</html>")


def proxy_that_sends_elsewhere(_: Place) -> None:
    answered(302, b"", {"location": "https://login.example"})


def proxy_whose_server_is_away(_: Place) -> None:
    answered(502, b"<html>Bad gateway</html>")


# Another device or command of one's own


def profile_that_another_command_changed(at: Place) -> None:
    with accounts.open_account(at.profile(), passphrase=PASSWORD) as account:
        other = accounts.open_profile(at.path / "p", passphrase=PASSWORD)
        other.save()
        other.close()
        account.save()


def identity_key_that_another_device_replaced(at: Place) -> None:
    alice = at.world.enrolled(ALICE)
    state = chains.refresh(alice)
    assert state is not None
    other = at.world.enrolled(BOB)
    chains.require_extends(alice, state, [Entry.parse(other.state.chain[-1])])


# Other people's data


def record_that_was_changed(at: Place) -> None:
    alice = at.world.depositor(at.path)
    record = bytearray((at.path / "letter.holdfast").read_bytes())
    record[-1] ^= 1
    archive.decrypt_file(alice, at.file("changed", bytes(record)), at.path / "out")


def chain_that_was_cut(at: Place) -> None:
    alice = at.world.enrolled(ALICE)
    key = next(iter(at.world.server.chains))
    at.world.server.chains[key] = at.world.server.chains[key][:1]
    chains.refresh(alice)


def contact_without_an_account(at: Place) -> None:
    contacts.refresh(at.world.enrolled(ALICE), MALLORY)


UNTRUSTED, INPUT, MACHINE, PROFILE = Exit.UNTRUSTED, Exit.INPUT, Exit.MACHINE, Exit.PROFILE
CAUSES: dict[str, tuple[Callable[[Place], object], str, Exit, str]] = {
    one.__name__: (one, kind, code, word)
    for one, kind, code, word in [
        (password_of_the_vault_in_another_encoding, "WrongSecret", INPUT, "once more"),
        (wrong_password_of_the_vault, "WrongPassword", INPUT, "Try again"),
        (password_file_in_another_encoding, "Mistyped", INPUT, "save the file in that encoding"),
        (passphrase_in_another_encoding, "Unusable", INPUT, "UTF-8"),
        (passphrase_that_is_too_short, "Unusable", INPUT, "at least 14 characters"),
        (phrase_with_a_word_too_few, "WrongWordCount", INPUT, "this has 23"),
        (no_enrolment_code, "Mistyped", INPUT, "hf2."),
        (enrolment_code_of_somebody_else, "WrongInput", INPUT, "another person"),
        (no_pairing_code, "WrongInput", INPUT, "holdfast devices pair"),
        (no_export_file, "WrongInput", INPUT, "another file"),
        (export_file_of_somebody_else, "WrongInput", INPUT, "of this account"),
        (export_file_and_a_password_in_another_encoding, "WrongSecret", INPUT, "once more"),
        (file_that_was_never_encrypted, "WrongInput", INPUT, "another file"),
        (address_of_nobody, "WrongInput", INPUT, "how it is written"),
        (no_address, "WrongInput", INPUT, "whole"),
        (file_that_is_not_there, "FileNotFoundError", INPUT, "Look at the name"),
        (directory_in_the_place_of_a_file, "IsADirectoryError", INPUT, "Name a file"),
        (text_in_another_encoding, "WrongInput", INPUT, "UTF-8"),
        (key_to_trust_that_is_none, "Mistyped", INPUT, "the key given is none"),
        (message_that_is_too_large, "TooLarge", INPUT, ""),
        (profile_open_to_others, "MachineError", MACHINE, "chmod 700"),
        (secret_file_open_to_others, "MachineError", MACHINE, "chmod 600"),
        (no_keyring, "MachineError", MACHINE, "--no-keyring"),
        (disk_that_is_full, "MachineError", MACHINE, "disk's space"),
        (device_without_room, "OSError", MACHINE, "Make room"),
        (descriptor_that_is_not_open, "OSError", INPUT, "Open it for the command"),
        (no_profile, "ProfileError", PROFILE, "holdfast enrol"),
        (wrong_passphrase, "WrongPassphrase", PROFILE, ""),
        (damaged_profile, "ProfileError", PROFILE, "backup"),
        (file_of_a_newer_version, "UpdateNeeded", PROFILE, "Update Holdfast"),
        (head_of_a_newer_version, "UpdateNeeded", PROFILE, "Update Holdfast"),
        (state_of_a_newer_version, "UpdateNeeded", PROFILE, "Update Holdfast"),
        (device_that_is_not_enrolled, "ProfileError", PROFILE, "holdfast enrol"),
        (certificate_of_a_private_authority, "NotTheServer", Exit.UNREACHABLE, "certificate authority of its own"),
        (certificate_that_has_expired, "NotTheServer", Exit.UNREACHABLE, "this machine's date"),
        (certificate_that_is_not_valid_yet, "NotTheServer", Exit.UNREACHABLE, "this machine's date"),
        (certificate_of_another_name, "NotTheServer", Exit.UNREACHABLE, "server's name"),
        (plain_http_where_https_is_meant, "NotTheServer", Exit.UNREACHABLE, "Check the port"),
        (port_where_nobody_listens, "Unreachable", Exit.UNREACHABLE, "the server is down"),
        (name_of_no_host, "Unreachable", Exit.UNREACHABLE, "network"),
        (server_that_hangs_up, "Unreachable", Exit.UNREACHABLE, "the server is down"),
        (server_that_says_nothing, "Unreachable", Exit.UNREACHABLE, "network"),
        (sign_in_page_of_a_hotel, "AnswerRefused", Exit.SERVER, "operator"),
        (proxy_that_sends_elsewhere, "AnswerRefused", Exit.SERVER, "operator"),
        (proxy_whose_server_is_away, "AnswerRefused", Exit.SERVER, "operator"),
        (profile_that_another_command_changed, "RaceLost", Exit.AGAIN, "again"),
        (identity_key_that_another_device_replaced, "RaceLost", Exit.AGAIN, "holdfast maintain"),
        (record_that_was_changed, "TrustRefused", UNTRUSTED, "another copy"),
        (chain_that_was_cut, "ChainBehind", UNTRUSTED, "officers"),
        (contact_without_an_account, "NotPossible", Exit.FAILED, "enrol a device"),
    ]
}
CAUSES |= {
    f"answer {status} {code}": (refused(status, code), "Problem", exit_code, word)
    for status, code, exit_code, word in [
        (401, "device-revoked", Exit.REFUSED, "fresh code"),
        (401, "access-suspended", Exit.REFUSED, "Your keys stay"),
        (401, "unauthenticated", Exit.REFUSED, "clock"),
        (401, "enrolment-refused", Exit.REFUSED, "fresh enrolment code"),
        (403, "denied", Exit.REFUSED, "role"),
        (409, "chain-stale", Exit.AGAIN, "again"),
        (409, "vault-stale", Exit.AGAIN, "again"),
        (503, "hsm-unavailable", Exit.REFUSED, "in a minute"),
    ]
}


@pytest.mark.parametrize("cause", CAUSES)
def test_cause_is_of_the_class_of_whose_matter_it_is(cause: str, place: Place) -> None:
    bring_about, kind, code, word = CAUSES[cause]
    with pytest.raises(Exception) as raised:  # noqa: PT011 — what it is, the table says
        bring_about(place)
    error = raised.value
    sentence, way_out = said_of(error)
    assert (type(error).__name__, exit_for(error)) == (kind, code), sentence
    assert word in f"{sentence} {way_out}"
    assert sentence
    assert "Errno" not in sentence
    if code is not UNTRUSTED:
        assert "officers" not in way_out or "device-revoked" in cause or "access-suspended" in cause
        assert "damaged" not in sentence or kind == "UpdateNeeded" or cause == "damaged_profile"


def test_every_advice_is_for_a_problem_that_there_is() -> None:
    listed = (Path(__file__).parents[2] / "docs/problems.md").read_text()
    for code in [*errors._WAYS_OUT, *errors._RACES]:
        assert f"| `{code}` |" in listed, code


def test_whose_matter_it_is_can_be_told_by_the_exit_code() -> None:
    kinds = [errors.WrongInput, errors.MachineError, errors.ProfileError, errors.Unreachable, errors.AnswerRefused]
    kinds += [errors.TrustRefused, errors.RaceLost, errors.NotPossible, errors.NotYet, errors.ConsentNeeded]
    assert len({exit_for(kind("x")) for kind in kinds}) == len(kinds)


def test_page_of_errors_says_what_the_classes_do() -> None:
    page = (Path(__file__).parents[2] / "docs/errors.md").read_text()
    rows = {one[0]: int(one[1]) for one in re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)}
    problem = errors.Problem(status=403, code="denied", detail="No.")
    waits = errors.ServerReadOnly(status=503, code="log-restored", detail="No.")
    own = {"Problem": problem, "ServerReadOnly": waits, "UpdateNeeded": errors.UpdateNeeded()}
    assert rows == {name: exit_for(own.get(name) or getattr(errors, name)("x")) for name in rows}
    top = {one.__name__ for one in errors.ClientError.__subclasses__() if one.__module__ == errors.__name__}
    assert rows.keys() >= top
