# SPDX-License-Identifier: Apache-2.0
"""A file is there whole or not at all, whatever the file system answers, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.files import (
    FileFailed,
    NameTaken,
    flush_directory,
    in_words,
    put_in_place,
    remove_parts,
    whole_file,
    write_whole,
)
from tests.cast.refusals import under

BODY = b"x" * 100_000
NO_LINKS = {"link": errno.EPERM, "linkat": errno.EPERM}  # what vfat and exFAT answer
# A file system is asked in three ways for a rename that takes nobody's place.
WAYS = {
    "a rename that refuses": {},
    "a hard link": {"renameat2": errno.EINVAL},
    "a name taken first": {"renameat2": errno.EINVAL, **NO_LINKS},
    "under a filter that knows no new call": {"renameat2": errno.ENOSYS, **NO_LINKS},
    "sshfs": {"renameat2": errno.EINVAL, "link": errno.ENOTSUP, "linkat": errno.ENOTSUP},
    "a shared folder": {"renameat2": errno.EPERM, "link": errno.EACCES, "linkat": errno.EACCES},
}
# What the kernel refuses, with what, and what the person is told.
REFUSALS = {
    "no room while writing": ("write", errno.ENOSPC, "no room left"),
    "no room only when it is flushed": ("fsync", errno.ENOSPC, "no room left"),
    "quota": ("write", errno.EDQUOT, "your share of the disk is used up"),
    "quota told late": ("fsync", errno.EDQUOT, "your share of the disk is used up"),
    "the disk fails": ("fsync", errno.EIO, "the disk has failed"),
    "the disk fails while writing": ("write", errno.EIO, "the disk has failed"),
    "the stick was pulled": ("write", errno.ENODEV, "the disk is gone"),
    "the server of the disk forgot it": ("fsync", errno.ESTALE, "no longer answers"),
    "read-only": ("openat", errno.EROFS, "can be read only"),
    "no right to the directory": ("openat", errno.EACCES, "you may not do that in"),
    "immutable": ("openat", errno.EPERM, "does not allow that in"),
    "too large": ("write", errno.EFBIG, "larger than"),
    "too many files": ("openat", errno.EMFILE, "too many files are open"),
    "no memory": ("openat", errno.ENOMEM, "no memory left"),
    "something new": ("write", errno.EPROTO, "the system says"),
}


def listed(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused_in_words(error: FileFailed, target: Path, words: str) -> None:
    assert str(target) in str(error)
    assert words in str(error)
    assert "Errno" not in str(error)
    assert error.errno is not None


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_write_is_told_in_words_and_leaves_everything_as_it_was(
    name: str, replaces: bool, tmp_path: Path
) -> None:
    call, number, words = REFUSALS[name]
    target = tmp_path / "letter"
    if replaces:
        target.write_bytes(b"old")
    before = listed(tmp_path)
    with pytest.raises(FileFailed) as refused:
        under({call: number}, lambda: write_whole(target, BODY, replaces=replaces))
    refused_in_words(refused.value, target, words)
    assert refused.value.errno == number
    assert refused.value.way_out or words == "the system says"
    assert listed(tmp_path) == before


@pytest.mark.parametrize("call", ["renameat2", "rename"])
@pytest.mark.parametrize(("number", "words"), [(errno.EIO, "failed"), (errno.EXDEV, "not on one disk")])
def test_refused_name_leaves_nothing_behind(call: str, number: int, words: str, tmp_path: Path) -> None:
    # `rename` is the last way of a new file, over the name that was taken for it; that one goes as well.
    refusals = {"renameat2": number} if call == "renameat2" else {**WAYS["a name taken first"], "rename": number}
    with pytest.raises(FileFailed, match=words) as refused:
        under(refusals, lambda: write_whole(tmp_path / "letter", BODY))
    refused_in_words(refused.value, tmp_path / "letter", words)
    assert listed(tmp_path) == {}


def _in_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "letter"


def _in_a_circle(tmp_path: Path) -> Path:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    return tmp_path / "circle" / "letter"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda tmp_path: tmp_path / ("n" * 256), "too long"),
        (lambda tmp_path: tmp_path / "missing" / "letter", "no such file or directory"),
        (_in_a_file, "no directory"),
        (_in_a_circle, "in a circle"),
        (lambda _tmp_path: Path("/proc/letter"), "cannot be used|was not written"),
    ],
)
def test_place_where_no_file_can_be_is_told_before_the_work(
    place: Callable[[Path], Path], words: str, tmp_path: Path
) -> None:
    target = place(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileFailed, match=words), whole_file(target):
        pytest.fail("the work was begun")
    assert sorted(tmp_path.iterdir()) == before


def test_file_beyond_the_limit_of_the_session_is_refused_by_the_kernel_itself(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(FileFailed, match="larger than"):
            write_whole(tmp_path / "letter", BODY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert listed(tmp_path) == {}


def test_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), BODY)
    assert listed(tmp_path) == {"n" * 255: BODY}


@pytest.mark.parametrize("way", WAYS)
def test_new_file_is_whole_and_its_own_on_every_kind_of_file_system(way: str, tmp_path: Path) -> None:
    under(WAYS[way], lambda: write_whole(tmp_path / "letter", BODY))
    assert listed(tmp_path) == {"letter": BODY}
    assert (tmp_path / "letter").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "letter").stat().st_nlink == 1
    for taken in ("letter", "link"):
        if taken == "link":
            (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(NameTaken, match="exists already"):
            under(WAYS[way], lambda name=taken: write_whole(tmp_path / name, b"other"))  # type: ignore[misc]
    assert (tmp_path / "letter").read_bytes() == BODY
    assert not (tmp_path / "nowhere").exists()
    under(WAYS[way], lambda: write_whole(tmp_path / "letter", b"new", replaces=True))
    assert (tmp_path / "letter").read_bytes() == b"new"


@pytest.mark.parametrize("way", WAYS)
def test_file_that_somebody_made_meanwhile_is_not_overwritten(way: str, tmp_path: Path) -> None:
    part, target = tmp_path / "part", tmp_path / "letter"
    part.write_bytes(BODY)
    target.write_bytes(b"theirs")
    with pytest.raises(NameTaken):
        under(WAYS[way], lambda: put_in_place(part, target, replaces=False))
    assert listed(tmp_path) == {"part": BODY, "letter": b"theirs"}


def interrupted(target: Path, raised: type[BaseException], *, replaces: bool) -> None:
    with whole_file(target, replaces=replaces) as file:
        file.write(BODY)
        raise raised("of the work")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError, GeneratorExit, OSError])
def test_interrupted_work_leaves_nothing_and_is_told_as_it_is(raised: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"old")
    for replaces, name in ((True, "letter"), (False, "new")):
        with pytest.raises(raised) as found:
            interrupted(tmp_path / name, raised, replaces=replaces)
        assert not isinstance(found.value, FileFailed)
        assert listed(tmp_path) == {"letter": b"old"}


@pytest.mark.parametrize("name", [".letter.part", ".letter.new", ".holdfast-letter.part", f".holdfast-{'0' * 32}.part"])
def test_what_is_not_ours_is_never_touched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"theirs")
    write_whole(tmp_path / "letter", BODY)
    write_whole(tmp_path / "letter", b"new", replaces=True)
    with pytest.raises(FileFailed):
        under({"write": errno.ENOSPC}, lambda: write_whole(tmp_path / "other", BODY))
    assert listed(tmp_path) == {name: b"theirs", "letter": b"new"}


def test_part_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    refusals = {"write": errno.ENOSPC, "unlink": errno.EIO}
    with pytest.raises(FileFailed, match="no room left") as refused:
        under(refusals, lambda: write_whole(tmp_path / "letter", BODY))
    (left,) = tmp_path.iterdir()
    assert str(left) in str(refused.value)
    assert "Delete" in refused.value.way_out


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EINVAL, errno.EIO, errno.EROFS])
def test_file_whose_first_name_cannot_be_removed_is_said_to_be_written(number: int, tmp_path: Path) -> None:
    target = tmp_path / "letter {why} of PART"
    with pytest.raises(FileFailed, match="was written") as refused:
        under({"renameat2": errno.EINVAL, "unlink": number}, lambda: write_whole(target, BODY))
    (left,) = set(tmp_path.iterdir()) - {target}
    assert target.read_bytes() == BODY
    refused_in_words(refused.value, target, str(left))
    assert not isinstance(refused.value, NameTaken)
    assert "Delete" in refused.value.way_out


def test_directory_that_cannot_be_flushed_by_itself_is_flushed_with_everything(tmp_path: Path) -> None:
    for number in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
        under({"fsync": number}, lambda: flush_directory(tmp_path))
    with pytest.raises(OSError, match="Input/output"):
        under({"fsync": errno.EIO}, lambda: flush_directory(tmp_path))


WRITER = """
import sys
from pathlib import Path
from holdfast.files import NameTaken, whole_file
from tests.cast.refusals import under

directory, letter, refusals = Path(sys.argv[1]), sys.argv[2].encode(), eval(sys.argv[3])

def all_of_them():
    won = 0
    for number in range(100):
        try:
            with whole_file(directory / str(number)) as file:
                file.write(letter * 5000)
            won += 1
        except NameTaken:
            pass
    return won

print("ready", flush=True)
sys.stdin.readline()
print(under(refusals, all_of_them))
"""


@contextlib.contextmanager
def python(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("way", ["a rename that refuses", "a hard link", "a name taken first"])
def test_of_two_processes_with_one_target_one_wins_and_the_other_is_told(way: str, tmp_path: Path) -> None:
    arguments = (str(tmp_path), repr(WAYS[way]))
    with (
        python(WRITER, arguments[0], "a", arguments[1]) as first,
        python(WRITER, arguments[0], "b", arguments[1]) as second,
    ):
        assert [line_of(first), line_of(second)] == ["ready", "ready"]
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        won = [int(line_of(first)), int(line_of(second))]
    assert sum(won) == 100
    found = listed(tmp_path)
    assert sorted(found) == sorted(map(str, range(100)))
    for letter, number in zip((b"a", b"b"), won, strict=True):
        assert sum(body == letter * 5000 for body in found.values()) == number


KILLED = """
import sys
from pathlib import Path
from holdfast.files import whole_file

with whole_file(Path(sys.argv[1]), replaces=True) as file:
    file.write(b"half")
    file.flush()
    print("in", flush=True)
    sys.stdin.read()
"""


def test_killed_writer_leaves_a_hidden_part_at_most_which_the_next_one_ignores(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"old")
    with python(KILLED, str(tmp_path / "letter")) as process:
        assert line_of(process) == "in"
        process.send_signal(signal.SIGKILL)
        process.wait()
    parts = {name: body for name, body in listed(tmp_path).items() if name != "letter"}
    assert [(name[0], body) for name, body in parts.items()] == [(".", b"half")]
    assert (tmp_path / "letter").read_bytes() == b"old"
    write_whole(tmp_path / "letter", b"new", replaces=True)
    write_whole(tmp_path / "other", b"new")
    assert listed(tmp_path) == {**parts, "letter": b"new", "other": b"new"}
    # In a directory of the program's own nothing piles up.
    (tmp_path / ".mine.part").write_bytes(b"theirs")
    remove_parts(tmp_path)
    remove_parts(tmp_path / "missing")
    assert listed(tmp_path) == {"letter": b"new", "other": b"new", ".mine.part": b"theirs"}


def test_every_answer_of_the_system_has_words() -> None:
    for number in sorted(errno.errorcode):
        said = in_words(OSError(number, os.strerror(number), "/media/stick/letter"))
        assert "/media/stick/letter" in str(said)
        assert not any(rest in str(said) for rest in ("Errno", "{", "PLACE")), said
        assert in_words(said) is said
    for error in (OSError("made by a library"), OSError(errno.ENOSPC, "No space left on device"), OSError()):
        assert "Errno" not in str(in_words(error))
        assert str(in_words(error))
