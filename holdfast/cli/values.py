# SPDX-License-Identifier: Apache-2.0
"""Values on the line, read without typer's converters wherever they are plainly right.

Implements the rule that a command starts at once: typer brings pydantic in for each option, given or not, which takes
longer than everything else that a command's help needs. Refuses nothing: what is not plainly right, typer reads, and
says what is wrong with it.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args
from uuid import UUID

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NUMBERS: Final = {
    int: re.compile(r"\d{1,15}", re.ASCII),
    float: re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII),
}


class _NotPlain(Exception):
    """Typer has to read this."""


class ReadPlainly:
    """What a command or a group is beside typer's: its parameters read by themselves what is plainly right."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with --help."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in parameters:
            if "process_value" not in vars(one):
                one.process_value = functools.partial(_processed, one, one.process_value)
        return parameters


def _processed(parameter: Any, by_typer: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    """Return a value of the line, or of the default, as the command's function takes it."""
    try:
        read = _read(parameter, value)
    except _NotPlain:
        return by_typer(context, value)
    return read if parameter.callback is None else parameter.callback(context, parameter, read)


def _read(parameter: Any, value: Any) -> Any:
    kind, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    is_list = parameter.multiple or parameter.nargs == -1
    if (not value and parameter.required) or (parameter.nargs != 1 and not is_list):
        raise _NotPlain
    if value is None:
        return () if is_list else None
    if is_list:
        return [_one(get_args(kind)[0], info, one) for one in value]
    return _one(kind, info, value)


def _one(kind: Any, info: Any, value: Any) -> Any:
    if info.parser is not None:
        return _parsed(info.parser, value)
    if isinstance(value, kind):
        return value
    if kind is Path:
        return _path(Path(value), info)
    if kind in _NUMBERS and _NUMBERS[kind].fullmatch(str(value)):
        return _within(kind(value), info)
    if (kind is UUID and _UUID.fullmatch(value)) or (issubclass(kind, Enum) and value in {one.value for one in kind}):
        return kind(value)
    raise _NotPlain


def _parsed(parser: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parser(value)
    except Exception:  # noqa: BLE001 — typer calls it again, and has the words for each kind of refusal
        raise _NotPlain from None


def _path(path: Path, info: Any) -> Path:
    try:
        mode = path.stat().st_mode
    except OSError:
        is_right = not info.exists
    else:
        is_right = (
            (info.file_okay or not stat.S_ISREG(mode))
            and (info.dir_okay or not stat.S_ISDIR(mode))
            and (not info.readable or os.access(path, os.R_OK))
            and (not info.writable or os.access(path, os.W_OK))
        )
    if not is_right or info.resolve_path or info.path_type is not None:
        raise _NotPlain
    return path


def _within(number: float, info: Any) -> Any:
    if (info.min is not None and number < info.min) or (info.max is not None and number > info.max):
        raise _NotPlain
    return number
