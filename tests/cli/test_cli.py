# SPDX-License-Identifier: Apache-2.0
"""The `holdfast` command: help, exit codes, JSON, and secrets that go nowhere.

Implements FAULTS Z1 and Z3 for the command line. What commands do is tested in tests/client and tests/journeys.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import typer
from rich.cells import cell_len
from typer.core import TyperGroup

from holdfast.cli.app import app
from holdfast.cli.exits import MEANINGS, Exit, exit_for
from holdfast.cli.listed import hoisted
from holdfast.cli.shell import Shell, date, moment, one_word, plain, quoted, unstyled
from holdfast.client import errors
from holdfast.client.messages.messages import Received
from holdfast.client.profile import account as accounts
from holdfast.client.profile.private_files import write_private
from holdfast.client.profile.state import OfficerKeys
from holdfast.client.profile.store import MemoryStore
from holdfast.core.base.errors import Malformed, Unusable
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.phrase import PhraseError
from tests.journeys.terminal import Terminal

PROJECT = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse battery staple"
TENANT, CAROL = b"t" * 16, b"c" * 16


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast.cli", *arguments]
    # No terminal: whatever would ask must say that it cannot.
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


def commands() -> Iterator[tuple[list[str], list[str]]]:
    """Return every command's words, and the names of its options and arguments."""
    root = typer.main.get_command(app)

    def below(group: object, words: list[str]) -> Iterator[tuple[list[str], list[str]]]:
        if isinstance(group, TyperGroup):
            for name, command in group.commands.items():
                yield from below(command, [*words, name])
        else:
            yield words, [parameter.name or "" for parameter in group.params]  # type: ignore[attr-defined]

    yield from below(root, [])


COMMANDS = list(commands())


@pytest.fixture
def profile(tmp_path: Path) -> list[str]:
    """An officer's profile that knows no server, and the options that open it."""
    directory = tmp_path / "carol"
    passphrase = SecretBytes(PASSPHRASE.encode())
    with closing(accounts.create(directory, tenant=TENANT, user=CAROL, passphrase=passphrase)) as account:
        account.state.officer = OfficerKeys(SigningKey.generate().seed(), SealingKey.generate().seed())
        account.save()
    write_private(tmp_path / "passphrase", PASSPHRASE)
    return ["--profile", str(directory), "--passphrase-file", str(tmp_path / "passphrase")]


def test_every_command_that_was_promised_exists() -> None:
    names = {" ".join(words) for words, _ in COMMANDS}
    assert names >= {
        "enrol", "doctor", "devices list", "devices approve", "bundle claim", "bundle publish", "backup password",
        "recover password", "archive encrypt", "archive decrypt", "escrow status", "escrow deposit",
        "recover escrow open", "recover escrow status", "recover escrow collect", "recover escrow finish",
        "officer init", "officer cases", "officer show",
        "officer approve", "officer deny", "officer attest", "officer away", "officer back",
        "officer suspend", "officer remove",
        "officer resolutions", "officer sign", "officer resolve withdraw-version", "officer resolve return-officer",
        "officer resolve acknowledge-leaf", "officer resolve accept-log",
        "officer code", "chain show", "contacts confirm",
        "audit export", "audit verify", "send", "sent", "receive", "maintain", "rotate",
    }  # fmt: skip


def test_top_level_help_lists_every_exit_code() -> None:
    shown = " ".join(run("--help").stdout.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {' '.join(meaning.split())}" in shown


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS], ids=" ".join)
def test_every_command_explains_itself(words: list[str]) -> None:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help
    assert inspect.getdoc(command.callback)


def test_no_command_takes_a_secret_as_an_argument() -> None:
    for words, names in COMMANDS:
        for name in names:
            assert not re.search(r"pass(phrase|word)$|^secret|^code$|pin$|seed", name), (words, name)


def test_common_options_may_stand_anywhere() -> None:
    line = ["devices", "--json", "approve", "--profile", "p", "x", "--passphrase-file=f", "--", "--json"]
    assert hoisted(line) == [
        "--json", "--profile", "p", "--passphrase-file=f", "devices", "approve", "x", "--", "--json"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Problem(status=403, code="denied", detail="no"), Exit.REFUSED),
        (errors.Problem(status=409, code="vault-stale", detail="no"), Exit.AGAIN),
        (errors.Unreachable("x"), Exit.UNREACHABLE),
        (errors.WrongPassphrase("x"), Exit.PROFILE),
        (errors.PeerChanged("x"), Exit.ASK_PERSON),
        (errors.WrongWords("x"), Exit.ASK_PERSON),
        (errors.ConsentNeeded("x"), Exit.ASK_PERSON),
        (errors.TrustRefused("x"), Exit.UNTRUSTED),
        (errors.AnswerRefused("x"), Exit.SERVER),
        (errors.NotTheServer("x"), Exit.UNREACHABLE),
        (errors.NotYet("x"), Exit.NOT_YET),
        (errors.NotPossible("x"), Exit.FAILED),
        (errors.WrongInput("x"), Exit.INPUT),
        (errors.WrongSecret("x"), Exit.INPUT),
        (errors.MachineError("x"), Exit.MACHINE),
        (errors.RaceLost("x"), Exit.AGAIN),
        (errors.UpdateNeeded(), Exit.PROFILE),
        (Malformed("x"), Exit.UNTRUSTED),
        (Unusable("x"), Exit.INPUT),
        (PhraseError("x"), Exit.INPUT),
        (FileExistsError(errno.EEXIST, "x"), Exit.INPUT),
        (PermissionError("x"), Exit.MACHINE),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: Exit) -> None:
    assert exit_for(error) is code


@pytest.mark.parametrize("is_json", [False, True])
def test_limit_and_wait_are_shown_in_the_servers_words(
    is_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, None, None, is_json)
    full = errors.Problem(status=409, code="limit-reached", detail="Fifty are kept. End some.")
    shell.fail(full, exit_for(full))
    busy = errors.Problem(status=429, code="too-many-requests", detail="Too many.", way_out="Try again in 12 minutes.")
    shell.fail(busy, exit_for(busy))
    said = capsys.readouterr().err
    for part in (full.args[0], busy.args[0], busy.way_out, *((full.code, busy.code) if is_json else ())):
        assert part in said


def test_mistake_of_ours_is_not_dressed_up_as_an_exit_code() -> None:
    with pytest.raises(KeyError):
        exit_for(KeyError("bug"))


def test_unknown_command_exits_with_usage() -> None:
    assert run("frobnicate").returncode == Exit.USAGE


def test_wrong_passphrase_exits_with_profile_and_says_so(profile: list[str]) -> None:
    done = run("--profile", profile[1], "--passphrase-file", "-", "doctor", stdin="not the right passphrase\n")
    assert done.returncode == Exit.PROFILE
    assert "passphrase" in done.stderr
    assert "not the right passphrase" not in done.stderr + done.stdout


def test_missing_profile_exits_with_profile_and_a_way_out(tmp_path: Path) -> None:
    done = run("--profile", str(tmp_path / "none"), "--passphrase-file", "-", "doctor", stdin="x\n")
    assert done.returncode == Exit.PROFILE
    assert "holdfast enrol" in done.stderr


def test_nobody_to_ask_is_an_error_and_not_a_hang(profile: list[str]) -> None:
    done = run("--profile", profile[1], "doctor")
    assert done.returncode == Exit.ASK_PERSON
    assert "nobody to ask" in done.stderr


def test_doctor_prints_what_is_pinned_as_json(profile: list[str]) -> None:
    done = run("doctor", "--json", *profile)
    assert done.returncode == Exit.DONE, done.stderr
    document = json.loads(done.stdout)
    assert document["trust"] == "none"
    assert document["officer"] is True


def test_errors_are_json_too_when_asked_for(profile: list[str]) -> None:
    done = run("devices", "list", "--json", *profile)
    assert done.returncode == Exit.PROFILE
    error = json.loads(done.stderr)["error"]
    assert error["exit"] == Exit.PROFILE
    assert error["way_out"]
    assert done.stdout == ""


@pytest.mark.parametrize("line", [["frobnicate"], ["send"], ["rotate", "nothing"], ["devices", "approve", "no-uuid"]])
def test_mistake_on_the_line_is_json_too_when_asked_for(line: list[str]) -> None:
    done = run(*line, "--json")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    error = json.loads(done.stderr)["error"]
    assert error["exit"] == Exit.USAGE
    assert error["message"]


def test_what_only_a_person_knows_is_asked_of_nobody_in_a_pipe(profile: list[str]) -> None:
    done = run("contacts", "verify", str(UUID(bytes=CAROL)), *profile)
    assert done.returncode == Exit.ASK_PERSON
    assert "--number" in done.stderr


def test_verdict_keeps_its_exit_code_as_json(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no log\n")
    assert run("audit", "verify", str(tmp_path / "log"), "--json").returncode == Exit.FAILED


def test_dead_server_exits_with_unreachable(tmp_path: Path) -> None:
    code = "hf2." + "A" * 10
    bad = run(
        "enrol", "--server", "http://127.0.0.1:9", "--code-file", "-", "--profile", str(tmp_path / "p"), stdin=code
    )
    assert bad.returncode == Exit.INPUT
    assert code not in bad.stderr + bad.stdout


def test_server_without_encryption_is_refused(tmp_path: Path) -> None:
    from holdfast.core.signed.enrolment import EnrolmentCode

    write_private(tmp_path / "code", EnrolmentCode.new(tenant=TENANT, person=CAROL).text())
    write_private(tmp_path / "pass", PASSPHRASE)
    options = ["--code-file", str(tmp_path / "code"), "--profile", str(tmp_path / "p")]
    done = run("enrol", "--server", "http://holdfast.example", *options, "--passphrase-file", str(tmp_path / "pass"))
    assert done.returncode == Exit.USAGE
    assert "https" in done.stderr


def test_profile_and_passphrase_never_appear_in_output_or_arguments(profile: list[str]) -> None:
    outputs = [run("doctor", *profile), run("officer", "init", *profile), run("chain", "show", *profile)]
    directory = Path(profile[1])
    with accounts.open_account(directory, passphrase=SecretBytes(PASSPHRASE.encode())) as account:
        kept = account.state.officer
    assert kept is not None
    secrets = [PASSPHRASE, kept.signing_seed.reveal().hex(), kept.sealing_seed.reveal().hex()]
    for done in outputs:
        for secret in secrets:
            assert secret not in done.stdout + done.stderr + " ".join(done.args)


def test_text_that_others_wrote_is_shown_in_quotes_that_it_cannot_end_and_obeyed_in_nothing() -> None:
    text = "Bob\u202egnp.exe\x1b[2J [bold]x :skull: [/] \x0ea\\"
    assert unstyled(quoted(text)) == "“Bob<U+202E>gnp.exe<U+001B>[2J [bold]x :skull: [/] <U+000E>a\\”"
    # Quotes of its own stay as they are, and end nothing: there are more of them around it.
    for marks, said in ((1, "“open"), (2, "x” (ours)"), (2, "“Hello” and ”"), (4, "a”””b””"), (2, "x<U+201D> (ours)")):
        assert unstyled(quoted(said)) == f"{'“' * marks}{said}{'”' * marks}"
    # Brackets that one person opens and another closes are no markup either.
    assert unstyled(f"[bold]By[/] {quoted('[red')} to {quoted(']')}, {plain('[/]')}.") == "By “[red” to “]”, [/]."
    assert one_word("awaiting-share") == "awaiting-share"
    assert unstyled(one_word("open\nForged")) == "“open<U+000A>Forged”"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_long_text_of_others_goes_on_below_itself_and_nothing_of_it_is_cut(width: int) -> None:
    text = f"{'x ' * 50}{'界' * 90}{' ' * 50}Forged: {'y' * 200}"
    shown = unstyled(f"  Reason:    {quoted(text)}", width=width).splitlines()
    assert max(map(cell_len, shown)) <= width
    first, *rest = shown
    column = first.index("“") if width > 2 * first.index("“") else 6
    assert all(line.startswith(" " * column) for line in rest)
    assert first[:column] + "".join(line[column:] for line in [first, *rest]) == f"  Reason:    “{text}”"


def test_long_line_of_ours_is_parted_at_spaces_and_a_key_in_it_stays_whole() -> None:
    assert unstyled("  one two three four", width=14).splitlines() == ["  one two ", "      three ", "      four"]
    key = f"  Key: {'k' * 30} of the log"
    assert unstyled(key, width=20) == key


def test_number_of_others_that_is_no_date_is_shown_as_it_is() -> None:
    assert date(2**60) == f"{2**60} (no date)"
    assert moment(0, 86_400 * 3) == "1970-01-01 00:00:00 UTC, 3 days ago"
    assert moment(7200, 0) == "1970-01-01 02:00:00 UTC, in 2 hours"


# What a person says and sees


def test_message_is_no_argument_and_no_option() -> None:
    (names,) = [names for words, names in COMMANDS if words == ["send"]]
    assert set(names) == {"user_id", "file"}


def test_send_of_nothing_is_refused_before_the_profile_is_opened(profile: list[str]) -> None:
    done = run("send", str(UUID(bytes=CAROL)), *profile, stdin="")
    assert done.returncode == Exit.INPUT
    assert "nothing to send" in done.stderr


@pytest.mark.parametrize("arguments", [["phrase"], ["phrase", "--json"], ["password", "--generate"]])
def test_secret_is_shown_into_no_pipe_and_no_json(profile: list[str], arguments: list[str]) -> None:
    done = run("backup", *arguments, *profile)
    assert done.returncode == Exit.ASK_PERSON
    assert "terminal" in done.stderr
    assert done.stdout == ""


def test_passphrase_file_may_come_from_the_environment(profile: list[str]) -> None:
    done = run("doctor", "--json", HOLDFAST_PROFILE=profile[1], HOLDFAST_PASSPHRASE_FILE=profile[3])
    assert done.returncode == Exit.DONE, done.stderr


def test_profile_is_opened_by_the_new_passphrase_and_no_more_by_the_old(profile: list[str], tmp_path: Path) -> None:
    write_private(tmp_path / "new", "another passphrase for it")
    done = run("profile", "key", *profile, "--new-passphrase-file", str(tmp_path / "new"))
    assert done.returncode == Exit.DONE, done.stderr
    assert run("doctor", *profile).returncode == Exit.PROFILE
    assert run("doctor", *profile[:2], "--passphrase-file", str(tmp_path / "new")).returncode == Exit.DONE


def test_phrase_is_read_from_a_file_and_a_wrong_word_is_named_by_its_place(profile: list[str], tmp_path: Path) -> None:
    words = ["abandon"] * 23 + ["abandonn"]
    write_private(tmp_path / "phrase", " ".join(words))
    done = run("recover", "phrase", "--phrase-file", str(tmp_path / "phrase"), *profile)
    assert done.returncode != Exit.DONE
    assert "abandon" not in done.stdout + done.stderr


def test_lost_devices_are_named_in_one_way(profile: list[str]) -> None:
    done = run("recover", "finish", "--all-lost", "--none-lost", *profile)
    assert done.returncode == Exit.USAGE


# Progress

WORK = """
import sys, time
from holdfast.cli.progress import Working
with Working("Deriving the key", is_shown=True, total=10) as advance:
    for done in range(int(sys.argv[1])):
        advance(done)
        time.sleep(0.2)
print("ready")
"""


def test_work_of_more_than_a_second_is_shown_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    with Terminal(PROJECT, {**os.environ, "TERM": "xterm", "PYTHONPATH": str(PROJECT)}) as terminal:
        code, long = terminal.run(f"{sys.executable} {tmp_path}/work.py 10")
        assert (code, "Deriving the key" in long, "ready" in long) == (0, True, True)
        _, short = terminal.run(f"{sys.executable} {tmp_path}/work.py 1")
        assert "Deriving the key" not in short


def test_progress_is_not_written_into_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORK, "8"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("ready\n", "")


def test_message_of_several_lines_is_quoted_line_by_line() -> None:
    from holdfast.cli.commands import mail

    message = Received(
        id=b"m" * 16,
        sender=CAROL,
        device=UUID(bytes=CAROL),
        conversation=CAROL,
        body=b"Hello\n\x1b[2Jyou [bold]x",
        reference=None,
        sent_at=1,
        received_at=2,
        is_last_resort=False,
        _key=CAROL + b"m" * 16,
        _store=MemoryStore(tenant=TENANT, user=b"a" * 16),
    )
    assert [unstyled(line) for line in mail.lines_of(message, None)[1:]] == [
        "  “Hello”",
        "  “<U+001B>[2Jyou [bold]x”",
    ]


def test_list_of_commands_cuts_no_sentence_short() -> None:
    def groups(group: object, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, below in getattr(group, "commands", {}).items():
            if isinstance(below, TyperGroup):
                yield from groups(below, [*words, name])

    root = typer.main.get_command(app)
    found = list(groups(root, []))
    assert len(found) > 8
    for words in found:
        group = root
        for word in words:
            group = group.commands[word]  # type: ignore[attr-defined]
        shown = group.get_help(group.make_context("holdfast", [], resilient_parsing=True))
        assert [line for line in shown.splitlines() if line.endswith("...") and "Usage" not in line] == [], words
