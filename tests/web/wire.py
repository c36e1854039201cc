# SPDX-License-Identifier: Apache-2.0
"""Values on their way between Python's tests and the TypeScript rooms, in JSON: web/sdk/tests/peer/wire.ts is the twin.

What comes back is read by the type that Python's own function promises.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from holdfast.client.errors import ClientError, Problem
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SigningKey, decode_public_key
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry
from holdfast.core.signed.cose import Sign1

# What a person types is text in a browser, and secret bytes in Python.
TYPED = frozenset({"password", "passphrase", "old_passphrase"})


def camel(name: str) -> str:
    """Return a name as TypeScript has it."""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def tell(value: Any, name: str = "") -> Any:
    """Put a value into JSON. name: of the parameter that it is given for."""
    if isinstance(value, SecretBytes):
        return value.reveal().decode() if name in TYPED else {"secret": value.reveal().hex()}
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"object": {camel(field): tell(one) for field, one in fields.items()}}
    assert value is None or isinstance(value, str | int | bool), f"no way to tell {value!r}"
    return value


def _key(value: Any) -> Any:
    # Ids in maps and sets are in hex there, and bytes here.
    return value.hex() if isinstance(value, bytes) else tell(value)


_WRITERS: dict[type[Any], Callable[[Any], Any]] = {
    bytes: lambda value: {"octets": value.hex()},
    UUID: str,
    PublicKey: lambda value: {"key": value.encoded.hex()},
    Phrase: lambda value: {"phrase": [value.language.value, value.entropy.reveal().hex()]},
    Entry: lambda value: {"entry": value.encode().hex()},
    Path: str,
    Sign1: lambda value: {"sign1": value.encode().hex()},
    Enum: lambda value: value.value,
    Mapping: lambda value: {"map": [[_key(name), tell(one)] for name, one in value.items()]},
    Set: lambda value: {"set": [_key(one) for one in value]},
    list: lambda value: [tell(one) for one in value],
    tuple: lambda value: [tell(one) for one in value],
}


class Reader:
    """Reads values as a type of Python's. state: gives a user's chain state, which both sides read for themselves."""

    def __init__(self, state: Callable[[bytes], ChainState], held: Callable[[int, Any, dict[str, Any]], Any]) -> None:
        self._state = state
        self._held = held

    def read(self, value: Any, hint: Any) -> Any:
        """Take a value out of JSON, as `hint` has it."""
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if value is None:
            return None
        if origin in (typing.Union, types.UnionType, typing.Annotated):
            return self.read(value, next(one for one in inner if one is not type(None)))
        if isinstance(value, list):
            return self._gathered([self.read(one, _item(inner, at)) for at, one in enumerate(value)], origin)
        if isinstance(value, dict):
            return self._named(*next(iter(value.items())), value, hint)
        return self._plain(value, hint)

    def _named(self, kind: str, of: Any, value: dict[str, Any], hint: Any) -> Any:
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if kind == "octets" and hint is UUID:
            return UUID(hex=of)
        if kind in _READERS:
            return _READERS[kind](of)
        if kind == "object":
            return self._object(of, hint, origin, inner)
        if kind == "held":
            return self._held(of, hint, self._fields(value["fields"], hint))
        if kind == "set":
            return {self.read(one, _item(inner, 0)) for one in of}
        name, one = inner or (Any, Any)
        return {self._plain_key(self.read(key, Any), name): self.read(found, one) for key, found in of}

    def _object(self, of: dict[str, Any], hint: Any, origin: Any, inner: tuple[Any, ...]) -> Any:
        if hint is ChainState:
            return self._state(bytes.fromhex(of["user"]["octets"]))
        if origin is tuple:  # several values, which have names in TypeScript
            return tuple(self.read(one, _item(inner, at)) for at, one in enumerate(of.values()))
        if not dataclasses.is_dataclass(hint):
            return types.SimpleNamespace(**{name: self.read(one, Any) for name, one in of.items()})
        assert isinstance(hint, type)
        return hint(**self._fields(of, hint))

    def _fields(self, of: dict[str, Any], hint: Any) -> dict[str, Any]:
        """Read what an object has: the fields of a dataclass by their types, and of anything else all."""
        if not dataclasses.is_dataclass(hint):
            return {name: self.read(one, Any) for name, one in of.items()}
        hints = typing.get_type_hints(hint, include_extras=True)
        fields = [field.name for field in dataclasses.fields(hint) if camel(field.name) in of]
        return {name: self.read(of[camel(name)], hints[name]) for name in fields}

    @staticmethod
    def _gathered(items: list[Any], origin: Any) -> Any:
        if origin is frozenset:
            return frozenset(items)
        return tuple(items) if origin in (tuple, Sequence) else set(items) if origin is Set else items

    @staticmethod
    def _plain(value: Any, hint: Any) -> Any:
        if isinstance(hint, type) and (issubclass(hint, Enum) or hint is UUID):
            return hint(value)
        return value

    @staticmethod
    def _plain_key(key: Any, hint: Any) -> Any:
        # Ids are the keys of maps in hex there, and bytes here.
        return bytes.fromhex(key) if hint is bytes and isinstance(key, str) else key


def _item(inner: tuple[Any, ...], at: int) -> Any:
    if not inner:
        return Any
    return inner[0] if len(inner) == 1 or inner[-1] is Ellipsis else inner[at]


def classes(root: type[BaseException]) -> Iterator[type[BaseException]]:
    """Return a class and all that are derived of it."""
    yield root
    for one in root.__subclasses__():
        yield from classes(one)


def named(roots: Iterable[type[BaseException]], name: str) -> type[BaseException] | None:
    """Return the class of errors of this name; one that a room keeps to itself has an underscore before it here."""
    return next((one for root in roots for one in classes(root) if one.__name__.removeprefix("_") == name), None)


def refusal(said: dict[str, Any]) -> BaseException:
    """Return the error that was thrown, as the class of the same name."""
    kind = named((ClientError, HoldfastError), said["class"])
    if said["class"] in ("RangeError", "RowTooLong"):
        return ValueError(said["message"])
    if kind is None or "stack" in said:
        return AssertionError(f"{said['class']}: {said['message']}\n{said.get('stack', '')}")
    if issubclass(kind, Problem):
        status, code = said["status"], said["code"]
        return kind(status=status, code=code, detail=said["message"], way_out=said["wayOut"])
    made = kind.__new__(kind)
    made.args = (said["message"],)
    if isinstance(made, ClientError):
        made._way_out = said["wayOut"]
    return made


_READERS: dict[str, Callable[[Any], Any]] = {
    "octets": bytes.fromhex,
    "secret": lambda of: SecretBytes(bytes.fromhex(of)),
    "key": lambda of: decode_public_key(bytes.fromhex(of), expect=frozenset(KeyKind)),
    "signing": lambda of: SigningKey.from_seed(KeyKind(of[0]), SecretBytes(bytes.fromhex(of[1]))),
    "phrase": lambda of: Phrase(SecretBytes(bytes.fromhex(of[1])), Language(of[0])),
    "entry": lambda of: Entry.parse(bytes.fromhex(of)),
    "sign1": lambda of: Sign1.parse(bytes.fromhex(of)),
    "error": refusal,
}
