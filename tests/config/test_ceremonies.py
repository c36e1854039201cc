# SPDX-License-Identifier: Apache-2.0
"""The operator's ceremonies from an empty server: what they make, that they resume, and what they refuse."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from config.ceremonies.tenant import code_file
from config.ceremonies.transcript import Transcript
from config.hsm import ROLE_TOKENS
from config.management.commands.ceremony import LOOK_EVERY_SECONDS
from holdfast.client.officers.proposals import release_keys_of
from holdfast.core.base.encoding import Fields, decode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import eight_words
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from holdfast.core.identity.roles import verify_roles
from holdfast.core.identity.transcript import verify_transcript
from holdfast.core.identity.trust import root_pin
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Purpose, Sign1, parse_many
from holdfast.core.signed.enrolment import EnrolmentCode, founding_root
from hsm import manifest as manifests
from hsm.ceremony import Ceremony
from hsm.config import TOKENS, HsmConfig
from recovery.release.directory import Directory, ReleaseKeys
from tests import prepared
from tests.cast.accounts import ACCOUNTS
from tests.cast.hsm import build_interposer
from tests.cast.server import PROJECT, Installation, move_profiles

BEGIN = ("tenant", "acme", "--name", "Acme", "--owner", "olivia@acme.test", "--officer", "carol@acme.test")


def _initialised(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    made = Installation(state_dir.parent)
    made.manage("migrate", HOLDFAST_STATE_DIR=str(state_dir))
    made.manage("ceremony", "init", "--yes", HOLDFAST_ROLE="ceremony", HOLDFAST_STATE_DIR=str(state_dir))


def _begun(state_dir: Path) -> None:
    prepared.copy("initialised", state_dir, _initialised)
    made = Installation(state_dir.parent)
    made.manage("ceremony", *BEGIN, "--yes", HOLDFAST_STATE_DIR=str(state_dir), HOLDFAST_ROLE="ceremony")


@pytest.fixture
def initialised(tmp_path: Path) -> Installation:
    """An installation after `ceremony init`."""
    made = Installation(tmp_path)
    prepared.copy("initialised", made.state_dir, _initialised)
    return made


@pytest.fixture
def begun(tmp_path: Path) -> Installation:
    """An installation with a tenant that is being founded."""
    made = Installation(tmp_path)
    prepared.copy("begun", made.state_dir, _begun)
    return made


def hold(made: Installation, *ceremony: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Hold a ceremony without being asked, as the operator does whose PINs lie in files."""
    return made.manage("ceremony", *ceremony, "--yes", check=False, HOLDFAST_ROLE="ceremony", **more)


def rows(made: Installation, sql: str, *arguments: Any) -> list[Any]:
    with closing(sqlite3.connect(made.state_dir / "holdfast.sqlite3", isolation_level=None)) as database:
        return database.execute(sql, arguments).fetchall()


def tenant_of(made: Installation) -> UUID:
    ((tenant,),) = rows(made, "SELECT id FROM tenants_tenant")
    return UUID(tenant)


def manifest(made: Installation) -> manifests.Manifest:
    return manifests.load(made.state_dir / "hsm" / "hsm.json")


def root_of(made: Installation) -> PublicKey:
    pinned = made.state_dir / "sequencer" / str(tenant_of(made)) / "root"
    return decode_public_key(pinned.read_bytes(), expect=SIGNING_KINDS)


def test_init_makes_tokens_and_keys_and_again_changes_nothing(initialised: Installation) -> None:
    made = manifest(initialised)
    assert set(made.tokens) == set(TOKENS)
    assert [key.kind for key in made.token("root").keys] == ["master", "binding"]
    assert [key.kind for key in made.token("log").keys] == ["log"]
    for name in ("web", "worker", "sequencer", "release", "ceremony"):
        assert (initialised.state_dir / "roles" / f"{name}.key").stat().st_mode & 0o777 == 0o600
    before = (initialised.state_dir / "hsm" / "hsm.json").read_bytes()
    again = hold(initialised, "init")
    assert (again.returncode, again.stdout) == (0, "Nothing is missing; nothing was changed.\n")
    assert (initialised.state_dir / "hsm" / "hsm.json").read_bytes() == before
    backups = [path.name for path in (initialised.state_dir / "hsm" / "backups").iterdir()]
    assert {name.rpartition("-")[0] for name in backups} == set(TOKENS)


def test_tenant_begins_with_root_roles_keys_owner_and_officers(begun: Installation) -> None:
    tenant = tenant_of(begun)
    # The root is shown, since the officers' words are made from it, and pinned by nobody.
    shown = rows(begun, "SELECT slug, state, root_key, root_pin FROM tenants_tenant")
    assert shown == [("acme", "founding", root_of(begun).encoded, None)]
    (root,) = manifest(begun).token("ceremony").find("tenant-root", tenant=str(tenant))
    assert root_of(begun).encoded.hex().endswith(root.public[-64:])
    ((statement,),) = rows(begun, "SELECT statement FROM audit_rolesstatement")
    roles = verify_roles(Sign1.parse(statement), tenant=tenant.bytes, root_key=root_of(begun)).roles
    assert {row.role for row in roles.keys} == set(Role)
    assert rows(begun, "SELECT count(*) FROM keys_tenantmasterkey") == [(1,)]
    assert (begun.state_dir / "release" / str(tenant) / "keys" / "newest").exists()
    assert not (begun.state_dir / "release" / str(tenant) / "trust").exists()
    found = rows(begun, "SELECT email, role, state FROM tenants_person ORDER BY email")
    assert found == [("carol@acme.test", "officer", "invited"), ("olivia@acme.test", "owner", "invited")]
    again = hold(begun, *BEGIN)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Nothing is missing; nothing was changed.")
    words = " ".join(eight_words(founding_root(tenant.bytes, root_of(begun))))
    assert again.stdout.endswith(f"The root of acme in words: {words}\n")


def test_founding_code_names_the_root_and_lies_where_nobody_else_reads(begun: Installation) -> None:
    path = begun.state_dir / "ceremony" / "codes" / "acme" / "carol@acme.test.code"
    assert path.stat().st_mode & 0o777 == 0o600
    code = EnrolmentCode.parse(path.read_text())
    assert code.founding_root == founding_root(tenant_of(begun).bytes, root_of(begun))
    assert (code.root_pin, code.tenant) == (b"", tenant_of(begun).bytes)
    assert rows(begun, "SELECT code_hash, trust FROM tenants_enrolmentcode") == [(code.hash, "founding")]


def test_release_processs_public_keys_lie_where_the_proposals_command_reads_them(begun: Installation) -> None:
    tenant = tenant_of(begun)
    signing, sealing = release_keys_of((begun.state_dir / "ceremony" / "codes" / "acme" / "release.json").read_text())
    Directory(begun.state_dir / "release", tenant).require_keys(ReleaseKeys(signing, sealing))


def test_owner_gets_the_link_by_mail_and_it_stands_in_no_transcript(initialised: Installation) -> None:
    done = hold(initialised, *BEGIN)
    assert done.returncode == 0, done.stderr
    links = re.findall(r"http\S+/console/invitation/\S+", done.stdout)
    assert len(links) == 2
    mails = [path.read_text() for path in (initialised.state_dir / "mail").iterdir()]
    assert [sum(link in mail for mail in mails) for link in links] == [1, 1]
    assert not [mail for mail in mails if "hf2." in mail], "no code in the same message, or in any"
    kept = b"".join(path.read_bytes() for path in (initialised.state_dir / "ceremony").glob("transcript-*"))
    assert b"invite olivia@acme.test as owner" in kept
    assert not [link for link in links if link.rstrip("/").rpartition("/")[2].encode() in kept]
    # A later call sends no second link, unless it is asked to; then the first one stops.
    assert hold(initialised, *BEGIN).stdout.startswith("Nothing is missing")
    again = hold(initialised, *BEGIN, "--resend")
    assert "invite olivia@acme.test" in again.stdout
    assert rows(
        initialised, "SELECT count(*) FROM tenants_invitation WHERE expires_at > datetime('now', '+1 hour')"
    ) == [(2,)]


def killed(made: Installation, *ceremony: str) -> int:
    """Hold a ceremony that is killed after each of its steps, until it is through; returns how often it was."""
    return int(run(made, "tests.cast.killed", "act", *ceremony).stdout.splitlines()[-1])


def run(made: Installation, module: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT,
        env=made.environment | {"HOLDFAST_ROLE": "ceremony"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def test_killed_after_each_step_it_goes_on_with_one_of_everything(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    made.state_dir.mkdir(mode=0o700)
    made.manage("migrate")
    assert killed(made, "init") == 8
    assert killed(made, *BEGIN) == 9
    found = manifest(made)
    assert {name: [key.kind for key in token.keys] for name, token in found.tokens.items()} == {
        "ceremony": ["tenant-root"],
        "root": ["master", "binding"],
        "log": ["log"],
        "escrow": [],
    }
    for table, number in {
        "tenants_tenant": 1,
        "tenants_person": 2,
        "tenants_enrolmentcode": 1,
        "tenants_invitation": 2,
        "audit_rolesstatement": 1,
        "keys_tenantmasterkey": 1,
    }.items():
        assert rows(made, f"SELECT count(*) FROM {table}") == [(number,)], table
    assert hold(made, *BEGIN).stdout.startswith("Nothing is missing")


def test_second_ceremony_refuses_while_one_is_held(begun: Installation) -> None:
    lock = begun.state_dir / "ceremony" / "lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        done = hold(begun, "tenant", "acme", "--officer", "dan@acme.test")
    finally:
        os.close(descriptor)
    assert done.returncode != 0
    assert "Another ceremony is being held" in done.stderr
    assert rows(begun, "SELECT count(*) FROM tenants_person") == [(2,)]


def test_pin_comes_from_a_descriptor_and_a_wrong_one_is_tried_once(begun: Installation, tmp_path: Path) -> None:
    pins = begun.state_dir / "hsm" / "pins"
    away = tmp_path / "away"
    shutil.move(pins, away)
    for pin, is_right in ((b"wrong-wrong-wrong", False), ((away / "log.pin").read_bytes(), True)):
        read, write = os.pipe()
        os.write(write, pin)
        os.close(write)
        root = os.open(away / "root.pin", os.O_RDONLY)
        done = subprocess.run(
            [
                *(sys.executable, "manage.py", "ceremony", "transcript", "acme", "--out", str(tmp_path)),
                *("--pin-fd", f"log={read}", "--pin-fd", f"root={root}", "--pin-fd", f"ceremony={_opened(away)}"),
            ],
            cwd=PROJECT,
            env=begun.environment | {"HOLDFAST_ROLE": "ceremony"},
            pass_fds=[read, root, _opened(away)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        os.close(read)
        assert (done.returncode == 0) is is_right, done.stderr
        assert is_right or "it is not tried again" in done.stderr
        assert pin.decode().strip() not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("ceremony", "tenant", "acme", "--name", "Acme", "--owner", "olivia@acme.test"),
        ("operator", "add", "petra", "--type"),
    ],
    ids=" ".join,
)
def test_question_that_nobody_answers_ends_in_a_sentence(initialised: Installation, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=PROJECT,
        env=initialised.environment | {"HOLDFAST_ROLE": "ceremony"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        # Without a terminal, which getpass would look for.
        start_new_session=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert rows(initialised, "SELECT count(*) FROM tenants_tenant") == [(0,)]
    assert rows(initialised, "SELECT count(*) FROM operators_operator") == [(0,)]


class Typed:
    """A ceremony at a terminal, where a person types a PIN whenever they are asked for one."""

    def __init__(self, made: Installation, pins: dict[str, str], *ceremony: str) -> None:
        self.screen, self.seen = "", b""
        end, terminal = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "manage.py", "ceremony", *ceremony],
            cwd=PROJECT,
            env=made.environment | {"HOLDFAST_ROLE": "ceremony"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as running:
            os.close(terminal)
            answered = 0
            with contextlib.suppress(OSError):  # Linux says so of a terminal that nobody has open any more
                while octets := os.read(end, 4096):
                    self.screen += octets.decode()
                    asked = re.findall(r"(New PIN|(?<!New )PIN) of the HSM token (\w+)(?:, once more)?: ", self.screen)
                    asked = [what if what == "New PIN" else token for what, token in asked]
                    for token in asked[answered:]:
                        os.write(end, f"{pins[token]}\n".encode())
                        own = Path(f"/proc/{running.pid}")
                        self.seen += (own / "cmdline").read_bytes() + (own / "environ").read_bytes()
                    answered = len(asked)
        os.close(end)
        self.asked, self.status = asked, running.returncode


def test_pin_is_typed_once_for_each_token_and_shown_nowhere(begun: Installation, tmp_path: Path) -> None:
    interposer = build_interposer(tmp_path)
    begun.extra["HOLDFAST_HSM_MODULE"] = str(interposer.module)
    config = HsmConfig(home=begun.state_dir / "hsm", module=interposer.module)
    Ceremony(config).accept_module()
    pins = {name: (begun.state_dir / "hsm" / "pins" / f"{name}.pin").read_text().strip() for name in TOKENS}
    shutil.move(begun.state_dir / "hsm" / "pins", tmp_path / "away")
    transcript = ("transcript", "acme", "--out", str(tmp_path))

    interposer.forget()
    right = Typed(begun, pins, *transcript)
    assert right.status == 0, right.screen
    assert "ceremony" in right.asked
    assert len(set(right.asked)) == len(right.asked), "each token's is asked for once"
    logins = interposer.entered("C_Login")

    interposer.forget()
    wrong = Typed(begun, pins | {right.asked[0]: "wrong-wrong-wrong"}, *transcript)
    assert wrong.status != 0
    assert "it is not tried again" in wrong.screen
    assert wrong.asked == right.asked[:1]
    assert interposer.entered("C_Login") == 1 <= logins, "the token counts"
    for pin in (*pins.values(), "wrong-wrong-wrong"):
        assert pin not in right.screen + wrong.screen
        assert pin.encode() not in right.seen + wrong.seen


def test_new_pin_is_typed_twice_and_shown_nowhere(initialised: Installation, tmp_path: Path) -> None:
    file = initialised.state_dir / "hsm" / "pins" / "ceremony.pin"
    old = file.read_text().strip()
    file.unlink()  # as the page says of this token's
    pins = {"ceremony": old, "New PIN": "a PIN that somebody thought of"}
    done = Typed(initialised, pins, "pin", "ceremony", "--yes")
    assert (done.status, done.asked) == (0, ["New PIN", "New PIN", "ceremony"]), done.screen
    assert file.read_text() == "a PIN that somebody thought of\n"
    assert "take it off this machine" in done.screen
    for pin in pins.values():
        assert pin not in done.screen
        assert pin.encode() not in done.seen
    config = HsmConfig(home=initialised.state_dir / "hsm")
    assert Ceremony(config).takes_pin("ceremony", SecretBytes(pins["New PIN"].encode()))


_descriptors: dict[Path, int] = {}


def _opened(away: Path) -> int:
    if away not in _descriptors:
        _descriptors[away] = os.open(away / "ceremony.pin", os.O_RDONLY)
    return _descriptors[away]


def test_database_of_another_installation_is_refused(begun: Installation, tmp_path: Path) -> None:
    # The HSM's home of an installation that never heard of this tenant.
    other = Installation(tmp_path / "other")
    other.directory.mkdir()
    prepared.copy("initialised", other.state_dir, _initialised)
    done = hold(begun, *BEGIN, HOLDFAST_HSM_HOME=str(other.state_dir / "hsm"))
    assert done.returncode != 0
    assert "no ceremony has made a root key for the tenant" in done.stderr
    none = hold(begun, "init", HOLDFAST_HSM_HOME=str(tmp_path / "none"))
    assert none.returncode != 0
    assert "has not the HSM on which they were founded" in none.stderr
    assert not (tmp_path / "none").exists()
    assert [key.kind for key in manifest(other).token("ceremony").keys] == []


def test_abandoned_founding_is_over(begun: Installation) -> None:
    assert hold(begun, "tenant", "acme", "--abandon").returncode == 0
    assert rows(begun, "SELECT state FROM tenants_tenant") == [("ended",)]
    assert hold(begun, "tenant", "acme", "--abandon").stdout.startswith("Nothing is missing")
    again = hold(begun, *BEGIN)
    assert again.returncode != 0
    assert "was abandoned" in again.stderr


def test_transcript_says_each_step_and_is_signed_by_root_and_log_key(begun: Installation, tmp_path: Path) -> None:
    done = hold(begun, "transcript", "--all", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    signed = parse_many((tmp_path / "transcript-acme.signed").read_bytes())
    ((statement,),) = rows(begun, "SELECT statement FROM audit_rolesstatement")
    roles = verify_roles(Sign1.parse(statement), tenant=tenant_of(begun).bytes, root_key=root_of(begun)).roles
    (log_key,) = roles.of(Role.LOG)
    for one, key in zip(signed, (root_of(begun), log_key), strict=True):
        one.verify(key, purpose=Purpose.TRANSCRIPT)
    text = (tmp_path / "transcript-acme.txt").read_bytes()
    fields = Fields(decode(signed[0].payload), "transcript", range(1, 8))
    assert (fields.octets(2, 16), fields.octets(7, 32)) == (tenant_of(begun).bytes, hashlib.sha256(text).digest())
    said = [line.split(": ", 1)[1] for line in text.decode().splitlines() if " UTC  " in line]
    assert [one.split(",")[0].split(" in /")[0] for one in said[:3]] == [
        "make the HSM tokens ceremony",
        "make master key 1 and the key that binds what it wraps",
        "make the key that signs the logs",
    ]
    assert b"make its root key, on the token ceremony" in text
    assert b"its root in words: " in text
    assert (tmp_path / "transcript-acme.pdf").read_bytes().startswith(b"%PDF-")


def test_transcript_is_kept_for_the_console_once_with_its_entry(begun: Installation, tmp_path: Path) -> None:
    transcript = ("transcript", "acme", "--out", str(tmp_path))
    assert "The console shows it (" in hold(begun, *transcript).stdout
    assert "no line was added since" in hold(begun, *transcript).stdout
    kept = "SELECT number, text, statement, own_lines, installation_lines FROM audit_transcript ORDER BY number"
    text = (tmp_path / "transcript-acme.txt").read_bytes()
    ((number, stored, statement, own, installation),) = rows(begun, kept)
    assert (number, stored) == (1, text)
    ((named,),) = rows(begun, "SELECT statement FROM audit_rolesstatement")
    roles = verify_roles(Sign1.parse(named), tenant=tenant_of(begun).bytes, root_key=root_of(begun)).roles
    log_keys = list(roles.of(Role.LOG))
    assert verify_transcript(
        statement, text, tenant=tenant_of(begun).bytes, root_key=root_of(begun), log_keys=log_keys
    ).is_by_log
    assert statement == (tmp_path / "transcript-acme.signed").read_bytes() or parse_many(statement)
    lines = {
        name: len((begun.state_dir / "ceremony" / f"transcript-{name}").read_bytes().splitlines())
        for name in ("installation", str(tenant_of(begun)))
    }
    assert lines == {"installation": installation, str(tenant_of(begun)): own}
    logged = "SELECT actor FROM audit_entries WHERE tag = 'audit:transcript:publish'"
    assert rows(begun, logged) == [("system:ceremony",)]
    assert hold(begun, "tenant", "acme", "--officer", "dan@acme.test").returncode == 0
    assert "The console shows it (" in hold(begun, *transcript).stdout
    assert [(row[0], row[3]) for row in rows(begun, kept)] == [(1, own), (2, own + 2)]
    assert len(rows(begun, logged)) == 2


def test_transcript_without_its_entry_is_not_kept(begun: Installation, tmp_path: Path) -> None:
    refusing = "CREATE TRIGGER away BEFORE INSERT ON audit_waiting BEGIN SELECT RAISE(ABORT, 'audit is away'); END"
    rows(begun, refusing)
    done = hold(begun, "transcript", "acme", "--out", str(tmp_path))
    assert done.returncode != 0
    assert "The audit log could not take the entry" in done.stderr
    assert rows(begun, "SELECT count(*) FROM audit_transcript") == [(0,)]


def test_tenants_transcript_has_nothing_of_operators_or_of_other_tenants(begun: Installation, tmp_path: Path) -> None:
    assert hold(begun, "tenant", "globex", "--name", "Globex", "--owner", "olga@globex.test").returncode == 0
    begun.manage("operator", "add", "petra", HOLDFAST_ROLE="ceremony")
    assert hold(begun, "transcript", "--all", "--out", str(tmp_path)).returncode == 0
    texts = dict(rows(begun, "SELECT slug, text FROM audit_transcript t JOIN tenants_tenant n ON n.id = t.tenant_id"))
    assert set(texts) == {"acme", "globex"}
    for own, other in (("acme", "globex"), ("globex", "acme")):
        said = texts[own].decode()
        assert own in said
        assert other not in said.lower()
        assert "petra" not in said
        assert "operator: not shown here" in said
        assert (tmp_path / f"transcript-{own}.txt").read_text() == said


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_changed_transcript_is_refused(change: str, begun: Installation, tmp_path: Path) -> None:
    path = begun.state_dir / "ceremony" / f"transcript-{tenant_of(begun)}"
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "edited":
        lines[1] = lines[1].replace(b"root", b"toor", 1)
    else:
        del lines[1]
    path.write_bytes(b"".join(lines))
    done = hold(begun, "transcript", "acme", "--out", str(tmp_path))
    assert done.returncode != 0
    assert "was changed at line" in done.stderr
    assert not (tmp_path / "transcript-acme.signed").exists()


def test_half_a_line_that_a_kill_left_is_written_over(begun: Installation) -> None:
    path = begun.state_dir / "ceremony" / f"transcript-{tenant_of(begun)}"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 99, "at"')
    assert hold(begun, "tenant", "acme", "--officer", "dan@acme.test").returncode == 0
    assert path.read_bytes().startswith(whole)
    assert b"99" not in path.read_bytes()[len(whole) :][:20]
    assert path.read_bytes().endswith(b"\n")


def test_transcript_holds_what_ends_a_line_of_text(settings: Any, tmp_path: Path) -> None:
    settings.HOLDFAST_CEREMONY_DIR = tmp_path
    written = Transcript()
    said = "create the tenant acme (Acme\u2028Corp\u2029 and\x85 more\r\n)"
    for _ in range(3):
        written.write("tenant", said, [said])
    assert [(line.number, line.said, line.told) for line in written.lines()] == [(n, said, (said,)) for n in (1, 2, 3)]


def test_short_name_is_taken_in_its_one_form(initialised: Installation) -> None:
    given = ("--name", "Acme", "--owner", "olivia@acme.test")
    done = hold(initialised, "tenant", "Acme", *given)
    assert done.returncode == 0, done.stderr
    assert "The root of acme in words: " in done.stdout
    assert rows(initialised, "SELECT slug FROM tenants_tenant") == [("acme",)]
    kept = initialised.state_dir / "ceremony"
    assert b"Acme" not in (kept / "transcript-installation").read_bytes()
    assert b"create the tenant acme (Acme)" in (kept / f"transcript-{tenant_of(initialised)}").read_bytes()
    assert hold(initialised, "tenant", "ACME", *given).stdout.startswith("Nothing is missing")


def test_every_officers_founding_code_has_a_file_of_its_own() -> None:
    addresses = ("a/b@acme.test", "a_b@acme.test", "a%2fb@acme.test", "a%252fb@acme.test")
    files = {code_file("acme", one) for one in addresses}
    assert len(files) == len(addresses)
    assert len({path.parent for path in files}) == 1


def test_founding_that_waits_lets_another_ceremony_be_held(begun: Installation) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-u", "manage.py", "ceremony", "found", "acme", "--yes"],
        cwd=PROJECT,
        env=begun.environment | {"HOLDFAST_ROLE": "ceremony"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert waiting.stdout
        assert waiting.stdout.readline() == "Waiting for an owner or officer to propose the policy.\n"
        with (begun.state_dir / "ceremony" / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(2 * LOOK_EVERY_SECONDS)
    finally:
        waiting.kill()
        waiting.communicate()


def test_vendors_tokens_are_adopted_by_serial(tmp_path: Path) -> None:
    # SoftHSM stands for the vendor's module: four tokens in one place, which the product neither copies nor configures.
    vendor = HsmConfig(home=tmp_path / "vendor")
    Ceremony(vendor).create_tokens()
    store = tmp_path / "store"
    for name in TOKENS:
        shutil.copytree(vendor.pristine(name, 1), store, dirs_exist_ok=True)
    (tmp_path / "vendor.conf").write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\n")
    made = Installation(
        tmp_path,
        extra={
            "SOFTHSM2_CONF": str(tmp_path / "vendor.conf"),
            "HOLDFAST_HSM_SOFTHSM": "false",
            "HOLDFAST_PIN_DIR": str(tmp_path / "vendor" / "pins"),
        },
    )
    made.state_dir.mkdir(mode=0o700)
    made.manage("migrate")
    serials = {name: token.serial for name, token in manifests.load(vendor.manifest_path).tokens.items()}
    without = hold(made, "init")
    assert "Name the vendor's token for each" in without.stderr
    given = [part for name, serial in serials.items() for part in ("--adopt", f"{name}={serial}")]
    done = hold(made, "init", *given)
    assert done.returncode == 0, done.stderr
    assert {name: token.serial for name, token in manifest(made).tokens.items()} == serials
    assert [key.kind for key in manifest(made).token("root").keys] == ["master", "binding"]
    assert not (made.state_dir / "hsm" / "tokens").exists()
    assert hold(made, "init", *given).stdout.startswith("Nothing is missing")
    twice = hold(made, "init", *given, *given[:2])
    assert "once for each" in twice.stderr


OFFICERS = [part for name in ("carol", "dan", "erin") for part in ("--officer", f"{name}@acme.test")]


def _proposed(state_dir: Path) -> None:
    prepared.copy("initialised", state_dir, _initialised)
    made = Installation(state_dir.parent, extra={"HOLDFAST_STATE_DIR": str(state_dir)})
    made.manage("ceremony", *BEGIN[:6], *OFFICERS, "--yes", HOLDFAST_ROLE="ceremony")
    run(made, "tests.cast.founders", "propose")


@pytest.fixture
def proposed(tmp_path: Path) -> Installation:
    """An installation with a tenant whose officers have all signed the policy that one of them proposed."""
    made = Installation(tmp_path)
    prepared.copy("proposed", made.state_dir, _proposed)
    move_profiles(made)
    return made


def founded(made: Installation) -> dict[str, int]:
    """How far a founding is: what there is of each thing that it makes."""
    tenant = tenant_of(made)
    return {
        "keys": len(manifest(made).token("escrow").find("escrow", tenant=str(tenant))),
        "policies": rows(made, "SELECT count(*) FROM escrow_policy")[0][0],
        "trust": int((made.state_dir / "release" / str(tenant) / "trust").exists()),
        "asked": rows(made, "SELECT count(*) FROM escrow_escrowkeyproposal")[0][0],
        "published": rows(made, "SELECT count(*) FROM escrow_escrowkey")[0][0],
        "active": rows(made, "SELECT count(*) FROM tenants_tenant WHERE state = 'active'")[0][0],
    }


def test_founding_killed_after_each_step_ends_with_one_root_and_one_escrow_key(proposed: Installation) -> None:
    before = root_of(proposed)
    assert killed(proposed, "found", "acme", "--no-wait") == 4
    waiting = dict.fromkeys(("keys", "policies", "trust", "asked"), 1) | {"published": 0, "active": 0}
    assert founded(proposed) == waiting
    run(proposed, "tests.cast.founders", "key")
    assert killed(proposed, "found", "acme", "--no-wait") == 1
    assert founded(proposed) == dict.fromkeys(waiting, 1)
    done = hold(proposed, "found", "acme")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "acme is founded.")
    assert root_of(proposed).encoded == before.encoded
    ((pin, root_key),) = rows(proposed, "SELECT root_pin, root_key FROM tenants_tenant")
    ((policy,),) = rows(proposed, "SELECT hash FROM escrow_policy")
    assert root_key == before.encoded
    assert pin == root_pin(tenant_of(proposed).bytes, before, policy)
    # The next key is made, signed by the root, and shown to the officers, once.
    assert killed(proposed, "escrow-key", "acme") == 2
    assert founded(proposed) | {"keys": 1, "asked": 1} == dict.fromkeys(waiting, 1)
    assert hold(proposed, "escrow-key", "acme").stdout.startswith("Nothing is missing")
    assert "only a founding can be abandoned" in hold(proposed, "tenant", "acme", "--abandon").stderr


def test_policy_edited_after_it_was_signed_is_not_the_one_that_was_heard(proposed: Installation) -> None:
    ((heard,),) = rows(proposed, "SELECT hash FROM escrow_policyproposal")
    # A second one, which lowers the delay, is signed by all; the officers who are called read the first one's words.
    run(proposed, "tests.cast.founders", "propose", "1")
    done = run(proposed, "tests.cast.founders", "found", heard.hex(), check=False)
    assert done.returncode == 1
    assert "These are not the words of carol@acme.test for this root and this policy" in done.stderr
    assert set(founded(proposed).values()) == {0}


@pytest.mark.parametrize("who", ["web", "owner"])
def test_row_that_no_ceremony_published_is_heard_and_pinned_by_nobody(proposed: Installation, who: str) -> None:
    """The web process may insert policies, and the database's owner may set the tenant's pin to them as well."""
    ((heard,),) = rows(proposed, "SELECT hash FROM escrow_policyproposal")
    # Stands for a policy of made-up founders; the officers who are called read the words of the one that they mean.
    run(proposed, "tests.cast.founders", "propose", "1")
    written = "SELECT tenant_id, version, hash, statement, 2, 3, proposed_at, proposed_at FROM escrow_policyproposal"
    columns = "id, tenant_id, version, hash, statement, m, n, published_at, in_force_from"
    made_up = f"{written} WHERE hash <> ?".replace("SELECT", "SELECT lower(hex(randomblob(16))),", 1)
    rows(proposed, f"INSERT INTO escrow_policy ({columns}) {made_up}", heard)
    if who == "owner":
        ((other,),) = rows(proposed, "SELECT hash FROM escrow_policy")
        pin = root_pin(tenant_of(proposed).bytes, root_of(proposed), other)
        rows(proposed, "UPDATE tenants_tenant SET root_pin = ?", pin)
    done = run(proposed, "tests.cast.founders", "found", heard.hex(), check=False)
    assert founded(proposed) == dict.fromkeys(founded(proposed), 0) | {"policies": 1}
    assert done.returncode == 1
    said = {"web": "that this ceremony did not publish", "owner": "These are not the words of carol@acme.test"}
    assert said[who] in done.stderr


def test_escrow_key_follows_from_the_release_processes_pin_and_from_no_row(proposed: Installation) -> None:
    run(proposed, "tests.cast.founders", "found")
    run(proposed, "tests.cast.founders", "key")
    run(proposed, "tests.cast.founders", "found")
    before = founded(proposed)
    assert before["active"] == 1
    # A second version that nobody signed, as the web process may insert it: the root would sign a key for it.
    copied = "m, n, statement, published_at, in_force_from, tenant_id"
    rows(
        proposed,
        f"INSERT INTO escrow_policy (id, version, hash, {copied}) SELECT ?, 2, ?, {copied} FROM escrow_policy",
        os.urandom(16).hex(),
        os.urandom(32),
    )
    done = hold(proposed, "escrow-key", "acme")
    assert done.returncode == 1
    assert "do not lead from what the release process trusts" in done.stderr
    assert founded(proposed) == before | {"policies": 2}


def test_founder_who_left_completes_no_policy(proposed: Installation) -> None:
    rows(proposed, "UPDATE tenants_person SET state = 'suspended' WHERE email = 'dan@acme.test'")
    done = run(proposed, "tests.cast.founders", "found")
    assert re.search(r"dan@acme.test +waited for +waited for", done.stdout)
    assert re.search(r"erin@acme.test +signed +waited for", done.stdout)
    assert set(founded(proposed).values()) == {0}


@pytest.mark.parametrize(
    "lacking", ["UPDATE keys_vaultdoor SET proof = NULL, proved_at = NULL", "DELETE FROM escrow_officerkeystatement"]
)
def test_founder_without_proven_doors_or_a_statement_completes_no_policy(proposed: Installation, lacking: str) -> None:
    """Also where keys are software: a roster is of people who joined, whatever wrote the proposal's rows."""
    rows(proposed, lacking)
    done = run(proposed, "tests.cast.founders", "found", check=False)
    assert done.returncode == 1
    assert "has not stated their keys as an officer, or has not two proven doors" in done.stderr
    assert set(founded(proposed).values()) == {0}


def test_policy_with_release_keys_that_are_not_here_is_not_published(proposed: Installation) -> None:
    # As when the release directory is another tenant's, or the policy names keys of somebody's own.
    shutil.rmtree(proposed.state_dir / "release" / str(tenant_of(proposed)) / "keys")
    done = run(proposed, "tests.cast.founders", "found", check=False)
    assert done.returncode == 1
    assert "has no private half of the key" in done.stderr
    assert set(founded(proposed).values()) == {0}


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to other accounts takes root")
def test_each_account_is_handed_its_own_and_no_more(initialised: Installation, tmp_path: Path) -> None:
    home = tmp_path / "accounts"
    given = [part for process, number in ACCOUNTS.items() for part in ("--account", f"{process}={number}")]
    done = hold(initialised, "hand-out", str(home), *given)
    assert done.returncode == 0, done.stderr
    for process, number in ACCOUNTS.items():
        own = home / process
        for path in (own, *own.rglob("*")):
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (number, 0o700 if path.is_dir() else 0o600), (
                path
            )
        assert (own / "role.key").read_bytes() == (initialised.state_dir / "roles" / f"{process}.key").read_bytes()
        assert {path.stem for path in (own / "hsm" / "pins").iterdir()} == set(ROLE_TOKENS[process])
        assert {path.name.split("-")[0] for path in (own / "hsm" / "tokens").iterdir()} == set(ROLE_TOKENS[process])
    assert hold(initialised, "hand-out", str(home), *given).stdout.startswith("Nothing is missing")
    assert "There is no account holdfast-web" in hold(initialised, "hand-out", str(home)).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to other accounts takes root")
@pytest.mark.parametrize("kind", ["dangling link", "fifo"])
def test_account_with_a_wrong_kind_of_file_keeps_no_other_from_its_own(
    initialised: Installation,
    tmp_path: Path,
    kind: str,
) -> None:
    home = tmp_path / "accounts"
    given = [part for process, number in ACCOUNTS.items() for part in ("--account", f"{process}={number}")]
    assert hold(initialised, "hand-out", str(home), *given).returncode == 0
    wrong = home / "web" / "role.key"
    wrong.unlink()
    if kind == "fifo":
        os.mkfifo(wrong)
    else:
        wrong.symlink_to("nowhere")
    shutil.rmtree(home / "release")
    done = hold(initialised, "hand-out", str(home), *given)
    assert (done.returncode, f"{wrong}: is not the plain file" in done.stderr) == (1, True), done.stderr
    assert (home / "release" / "role.key").exists()
    assert "Traceback" not in done.stderr
