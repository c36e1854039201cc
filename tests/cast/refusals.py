# SPDX-License-Identifier: Apache-2.0
"""System calls that the kernel refuses, as a full disk, a stick or a failing one would: for one call of ours alone.

A seccomp filter of one thread, which ends with the call. Nothing is put in the place of any code: the calls are made,
and the kernel answers them with the error that was asked for. Linux on x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

T = TypeVar("T")

# asm/unistd_64.h and asm-generic/unistd.h. A call that an architecture does not have is left out.
_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "write": 1, "fsync": 74, "rename": 82, "link": 86, "unlink": 87, "openat": 257, "linkat": 265, "renameat2": 316,
    },
    "aarch64": {"write": 64, "fsync": 82, "rename": 38, "unlink": 35, "openat": 56, "linkat": 37, "renameat2": 276},
}  # fmt: skip
_LARGE: Final = 1024  # bytes: a smaller write is not the file's, but of the tests or of Python itself

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_SIZE_OF_WRITE: Final = 32  # where the third argument lies in struct seccomp_data
_ERROR, _ALLOW = 0x00050000, 0x7FFF0000
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVILEGES = 22, 2, 38


def under(refusals: Mapping[str, int], act: Callable[[], T]) -> T:
    """Return what `act` returns while the kernel refuses calls by name, each with its errno; raise what it raises.

    `write` is refused from 1024 bytes on.
    """
    found: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            _refuse(refusals)
            found.append(act())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


def _refuse(refusals: Mapping[str, int]) -> None:
    numbers = _NUMBERS[platform.machine()]
    program = [_step(_LOAD, 0, 0, 0)]
    for name, error in refusals.items():
        if name not in numbers:
            continue
        answer = [_step(_ANSWER, 0, 0, _ERROR | error)]
        if name == "write":
            answer = [_step(_LOAD, 0, 0, _SIZE_OF_WRITE), _step(_IF_AT_LEAST, 0, 1, _LARGE), *answer]
            answer += [_step(_ANSWER, 0, 0, _ALLOW)]
        program += [_step(_IF_EQUAL, 0, len(answer), numbers[name]), *answer]
    program.append(_step(_ANSWER, 0, 0, _ALLOW))
    body = b"".join(program)
    held = ctypes.create_string_buffer(body, len(body))
    filter_ = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program), ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_SECCOMP, _FILTER, filter_, 0, 0) == 0, "this kernel takes no seccomp filter"


def _step(code: int, then: int, otherwise: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
