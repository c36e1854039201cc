# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all: every one that the library, the commands and the server write.

Implements FAULTS C3 and Z5 for whole files; client and server stand on it, and it stands on nothing.
Does not encrypt: what is secret comes here sealed, or is kept from others by the rights of the file alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import io
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What a file is called until it is whole. 128 random bits: nobody lays another file, or a link, under this name first,
# and whatever is found under it is ours. SQLite gives its companions the same name and more.
_PART: Final = re.compile(r"\.holdfast-[0-9a-f]{32}\.part(?:-journal|-wal|-shm)?", re.ASCII)
_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_AT_FDCWD: Final = -100  # fcntl.h

# A file system that has no such call says so by one of these: the man pages of link(2), renameat2(2) and fsync(2), and
# vfat, exFAT, NFS, sshfs and seccomp. Where one of them was meant as a refusal, the next way is refused as well.
_NOT_OFFERED: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EMLINK}
)

_ELSEWHERE: Final = "Write somewhere else."
_MAKE_ROOM: Final = "Make room there, or write somewhere else."
_RIGHTS: Final = "Look at the rights of the file and of its directory, or name a place of your own."
_OTHER_NAME: Final = "Choose another name."
_DISK: Final = "Look at the disk, its cable and the system's log. Until then, write somewhere else."
_UNKNOWN: Final = "the system says “{said}”"

# What the system's answers mean to the person whose file it is, and what that person can do. PLACE: its directory.
_WORDS: Final[dict[int, tuple[str, str]]] = {
    errno.ENOSPC: ("there is no room left on the disk", _MAKE_ROOM),
    errno.EDQUOT: ("your share of the disk is used up", _MAKE_ROOM),
    errno.EFBIG: ("it would be larger than the file system or a limit of this session (ulimit -f) allows", _ELSEWHERE),
    errno.EROFS: ("the disk can be read only", "Write somewhere else, or have the disk mounted for writing."),
    errno.EACCES: ("you may not do that in PLACE", _RIGHTS),
    errno.EPERM: ("the system does not allow that in PLACE", _RIGHTS),
    errno.ENAMETOOLONG: ("the name is too long for the disk", "Choose a shorter name."),
    errno.EILSEQ: ("the disk does not take a name with such characters", _OTHER_NAME),
    errno.EINVAL: ("the disk does not take such a name, or cannot do this", "Choose another name, or another disk."),
    errno.EIO: ("the disk has failed", _DISK),
    errno.ENXIO: ("the disk is gone", _DISK),
    errno.ENODEV: ("the disk is gone", _DISK),
    errno.ESTALE: ("the network disk no longer answers for it", _DISK),
    errno.ETIMEDOUT: ("the network disk does not answer", _DISK),
    errno.ENOTSUP: ("the disk cannot do this", _ELSEWHERE),
    errno.ENOSYS: ("the disk cannot do this", _ELSEWHERE),
    errno.EXDEV: ("PLACE is not on one disk", _ELSEWHERE),
    errno.EBUSY: ("it is in use", "Close what uses it, and try again."),
    errno.ETXTBSY: ("it is in use", "Close what uses it, and try again."),
    errno.ENOENT: ("there is no such file or directory", "Look at the name; a directory has to be made first."),
    errno.ENOTDIR: ("a part of the name is no directory", "Look at the name."),
    errno.EISDIR: ("it is a directory", "Name a file."),
    errno.ENOTEMPTY: ("it is a directory", "Name a file."),
    errno.ELOOP: ("its links lead in a circle", "Name the file itself."),
    errno.EBADF: ("it is not an open descriptor", "Open it for the command, as in: 3< FILE"),
    errno.EMFILE: ("too many files are open", "Close some, and try again."),
    errno.ENFILE: ("too many files are open", "Close some, and try again."),
    errno.ENOMEM: ("there is no memory left", "End other programs, and try again."),
}


class FileFailed(OSError):
    """A file could not be written or used. It says which and why, in words; `way_out` says what a person can do.

    errno and filename are the system's. Nothing of the file was left behind, unless the sentence says what.
    """

    def __init__(self, sentence: str, *, number: int | None, path: Path | str | None, way_out: str) -> None:
        super().__init__(number, sentence, None if path is None else str(path))
        self.sentence = sentence
        self.way_out = way_out

    def __str__(self) -> str:
        return self.sentence


class NameTaken(FileFailed, FileExistsError):
    """There is a file of this name already, or another process was first. Nothing was written over it."""

    def __init__(self, path: Path) -> None:
        sentence = f"{path} exists already; nothing is overwritten."
        super().__init__(sentence, number=errno.EEXIST, path=path, way_out=_OTHER_NAME)


class StillBeside(FileFailed):
    """A file was written, whole and under its own name, and has its hidden first name besides, which did not go."""


def in_words(error: OSError, path: Path | None = None, *, what: str = "{path} cannot be used: {why}.") -> FileFailed:
    """Return what the system answered as an error with words for people. One that has them already stays as it is.

    path: which file it is about, where the answer itself does not name the right one.
    """
    if isinstance(error, FileFailed):
        return error
    about = path if path is not None else error.filename
    why, way_out = _WORDS.get(error.errno or 0, (_UNKNOWN.format(said=error.strerror or error), ""))
    place = str(Path(os.fsdecode(about)).parent) if about is not None else "that place"
    name = "A file" if about is None else os.fsdecode(about)
    sentence = what.format(path=name, why=why.replace("PLACE", place))
    return FileFailed(sentence, number=error.errno, path=name, way_out=way_out)


@contextlib.contextmanager
def explained(path: Path, *, what: str = "{path} cannot be used: {why}.") -> Iterator[None]:
    """Say in words what the system answers about a file. Raises FileFailed for every OSError."""
    try:
        yield
    except OSError as error:
        raise in_words(error, path, what=what) from error


_NOT_WRITTEN: Final = "{path} was not written: {why}."
_NOT_CONFIRMED: Final = "{path} was written, but the disk did not confirm it: {why}. It may be gone after a power cut."


@contextlib.contextmanager
def whole_file(target: Path, *, replaces: bool = False, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name when it is complete and on the disk, and never when anything fails.

    Until then it lies in the same directory under a hidden random name (`part_beside`). It is removed on every failure
    and interruption; only a kill -9 or a power cut leaves it, and nobody takes it for anything.

    replaces: the new file takes the place of an old one, at once and wholly. Without, raises NameTaken when there is
    one, also when another process made it meanwhile. mode: the file's rights, less the umask. Raises FileFailed when
    the file system refuses; what the body of the `with` raises goes through as it is.
    """
    if not replaces:
        _require_free(target)
    part = part_beside(target)
    is_made = True
    try:
        try:
            with explained(target, what=_NOT_WRITTEN):
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except OSError:
            is_made = False
            raise
        with io.BufferedWriter(_Part(descriptor, target)) as file:
            yield cast("BinaryIO", file)
            file.flush()
            with explained(target, what=_NOT_WRITTEN):
                os.fsync(descriptor)
        put_in_place(part, target, replaces=replaces)
    except StillBeside:
        raise
    except BaseException as error:
        if is_made:
            _remove(part, target, error)
        raise


def write_whole(target: Path, octets: bytes, *, replaces: bool = False, mode: int = 0o600) -> None:
    """Write a file as `whole_file` does; after a kill at any moment there is the old state or the new."""
    with whole_file(target, replaces=replaces, mode=mode) as file:
        file.write(octets)


def part_beside(target: Path) -> Path:
    """Return a name, which nobody could guess, for what is to become `target`: in the same directory, and hidden."""
    # Without the name of the target: that may be as long as the file system allows.
    return target.with_name(f".holdfast-{secrets.token_hex(16)}.part")


def put_in_place(part: Path, target: Path, *, replaces: bool) -> None:
    """Give a complete file its name, durably. Both are in one directory. Raises NameTaken and FileFailed,
    and StillBeside where it has its name and kept that of `part`.

    Without `replaces` no file loses its name to this one, on whatever file system: where there is neither a rename
    that refuses nor a hard link (a stick), the name is taken first, by an empty file of our own.
    """
    beside: StillBeside | None = None
    with explained(target, what=_NOT_WRITTEN):
        if replaces:
            part.replace(target)
        else:
            try:
                _rename_to_free_name(part, target)
            except StillBeside as error:
                beside = error
    with explained(target, what=_NOT_CONFIRMED):
        flush_directory(target.parent)
    if beside is not None:
        raise beside


def flush_directory(directory: Path) -> None:
    """Make what was renamed, made or removed in a directory durable."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in {*_NOT_OFFERED, errno.EBADF}:
            raise
        # The directory may be written but not read, or its file system flushes none by itself: then everything is.
        os.sync()


def remove_parts(directory: Path) -> None:
    """Destroy what killed writers left in a directory of the program's own.

    Only where nobody else writes meanwhile, which the caller's lock sees to. A person's directory is never cleared.
    """
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)


class _Part(io.FileIO):
    """The file while it is written. What the system answers is told as being about the file that it will be."""

    def __init__(self, descriptor: int, target: Path) -> None:
        super().__init__(descriptor, "wb")
        self._target = target

    def write(self, octets: ReadableBuffer, /) -> int:
        with explained(self._target, what=_NOT_WRITTEN):
            return super().write(octets)

    def close(self) -> None:
        # NFS may tell of a full disk only here.
        with explained(self._target, what=_NOT_WRITTEN):
            super().close()


def _require_free(target: Path) -> None:
    # Before the work, which may be hours. lstat: a link that leads nowhere has the name as well.
    try:
        os.lstat(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise in_words(error, target, what=_NOT_WRITTEN) from error
    raise NameTaken(target)


def _rename_to_free_name(part: Path, target: Path) -> None:
    """Raise NameTaken for a name that is not free at this very moment, OSError for whatever else is refused."""
    try:
        for way in (_rename_exclusively, _link, _rename_over_claim):
            try:
                way(part, target)
            except StillBeside:
                raise
            except OSError as error:
                if way is _rename_over_claim or error.errno not in _NOT_OFFERED:
                    raise
            else:
                return
    except FileExistsError:
        raise NameTaken(target) from None


def _rename_exclusively(part: Path, target: Path) -> None:
    rename = _renameat2()
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def _renameat2() -> ctypes._NamedFuncPointer | None:
    """Return Linux's rename that refuses an existing name; None where the C library has none."""
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is None:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    found.restype = ctypes.c_int
    return cast("ctypes._NamedFuncPointer", found)


def _link(part: Path, target: Path) -> None:
    os.link(part, target)
    try:
        part.unlink()
    except OSError as error:
        # It has its name: another way would meet our own file there, and take it for another's.
        why = in_words(error, target, what="{why}").sentence
        raise StillBeside(
            f"{target} was written, and has a second name that could not be removed, {part}: {why}.",
            number=error.errno,
            path=target,
            way_out=f"Delete {part} when that can be done; the file stays.",
        ) from error


def _rename_over_claim(part: Path, target: Path) -> None:
    """Take the name by an empty file, which one process alone can make, and rename over that.

    A kill between the two leaves the empty file.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        claim = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    try:
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            found = os.lstat(target)
            # If it is still ours: somebody may have put another in its place.
            if (found.st_dev, found.st_ino, found.st_size) == (claim.st_dev, claim.st_ino, 0):
                target.unlink()
        raise


def _remove(part: Path, target: Path, error: BaseException) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError as kept:
        if isinstance(error, Exception):
            failed = in_words(error, target, what=_NOT_WRITTEN) if isinstance(error, OSError) else error
            raise FileFailed(
                f"{failed} What there was of it could not be removed: it is in {part}.",
                number=kept.errno,
                path=part,
                way_out="Delete that file when the disk can be written again.",
            ) from error
