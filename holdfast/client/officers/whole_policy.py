# SPDX-License-Identifier: Apache-2.0
"""A whole policy as a JSON file: printed by `holdfast officer policy show --json`, edited, and proposed by `--file`.

Implements docs/officers.md "A policy as a file". Does not decide whether the version may follow: `proposals.draft` and
the officers do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from holdfast.client.errors import AnswerRefused, WrongInput
from holdfast.client.officers.proposals import Wanted
from holdfast.client.server.answers import parse
from holdfast.core.base.encoding import MAX_UINT
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, decode_public_key
from holdfast.core.identity.policy import (
    MAX_COOLING_OFF_SECONDS,
    MAX_OFFICERS,
    MAX_PURPOSES,
    MAX_TEXT,
    MIN_OFFICERS,
    MIN_QUORUM,
    NEVER,
    YEAR_SECONDS,
    ApproveWith,
    DepositRule,
    Policy,
)

E = TypeVar("E", bound=IntEnum)

# In place of a number of seconds: a yes that binds as long as its version stands.
FOR_EVER: Final = "while-it-stands"
_TERMS: Final = (
    "m",
    "officers",
    "delay_seconds",
    "max_notice_delay_seconds",
    "cooling_off_seconds",
    "undelivered_delay_seconds",
    "approve_with",
    "purposes",
    "deposits",
    "consent_binds_seconds",
    "text",
    "release_keys",
    "ends_at",
)
_PAIR: Final = ("signing_key", "sealing_key")
_WAY_OUT: Final = "Write it as this prints it, in its member policy: holdfast officer policy show --json"


def document(policy: Policy) -> dict[str, Any]:
    """Return a policy as the file has it: what `read` takes. Keys are hexadecimal, with their type byte."""
    terms = policy.terms
    binds = terms.consent_binds_seconds
    return {
        "m": policy.m,
        "officers": [
            {
                "person_id": str(UUID(bytes=one.person)),
                "signing_key": one.signing_key.encoded.hex(),
                "sealing_key": one.sealing_key.encoded.hex(),
            }
            for one in policy.roster
        ],
        "delay_seconds": terms.delay_seconds,
        "max_notice_delay_seconds": terms.max_notice_delay_seconds,
        "cooling_off_seconds": terms.cooling_off_seconds,
        "undelivered_delay_seconds": terms.undelivered_delay_seconds,
        "approve_with": _named(terms.approve_with),
        "purposes": sorted(terms.purposes),
        "deposits": _named(terms.deposits),
        "consent_binds_seconds": FOR_EVER if binds == NEVER else binds,
        "text": terms.text,
        "release_keys": {
            "signing_key": terms.release_signing_key.encoded.hex(),
            "sealing_key": terms.release_sealing_key.encoded.hex(),
        },
        "ends_at": policy.header.expires_at,
    }


def read(text: str) -> Wanted:
    """Read a whole policy: the member `policy` of a JSON object. Raises WrongInput, which names the field at fault.

    Every field is there, and no other: what is left out would be taken for what somebody else last chose.
    """
    try:
        parse(text.encode())
    except (AnswerRefused, UnicodeEncodeError) as error:
        raise WrongInput("The file is no JSON object, or has a name twice.", way_out=_WAY_OUT) from error
    whole = json.loads(text)
    said = _object(whole.get("policy"), "policy", _TERMS)
    rows = [
        _row(one, f"policy.officers[{place}]")
        for place, one in enumerate(_list(said["officers"], "policy.officers", MIN_OFFICERS, MAX_OFFICERS))
    ]
    for column, name in enumerate(("person_id", *_PAIR)):
        if len({row[column] for row in rows}) != len(rows):
            _refuse("policy.officers", f"has one {name} twice")

    def seconds(name: str, maximum: int) -> int:
        return _uint(said[name], f"policy.{name}", 0, maximum)

    binds = said["consent_binds_seconds"]
    signing, sealing = _keys(_object(said["release_keys"], "policy.release_keys", _PAIR), "policy.release_keys")
    purposes = [
        _text(one, f"policy.purposes[{place}]", 1, 64)
        for place, one in enumerate(_list(said["purposes"], "policy.purposes", 1, MAX_PURPOSES))
    ]
    return Wanted(
        m=_uint(said["m"], "policy.m", MIN_QUORUM, len(rows) - 1),
        roster=rows,
        delay=seconds("delay_seconds", YEAR_SECONDS),
        max_notice_delay=seconds("max_notice_delay_seconds", YEAR_SECONDS),
        cooling_off=seconds("cooling_off_seconds", MAX_COOLING_OFF_SECONDS),
        undelivered_delay=seconds("undelivered_delay_seconds", YEAR_SECONDS),
        purposes=frozenset(purposes),
        approve_with=_choice(ApproveWith, said["approve_with"], "policy.approve_with"),
        deposits=_choice(DepositRule, said["deposits"], "policy.deposits"),
        consent_binds=NEVER if binds == FOR_EVER else seconds("consent_binds_seconds", YEAR_SECONDS),
        text=_text(said["text"], "policy.text", 0, MAX_TEXT),
        release_keys=(signing, sealing),
        ends_at=seconds("ends_at", MAX_UINT),
    )


def _refuse(where: str, what: str) -> NoReturn:
    raise WrongInput(f"{where} {what}.", way_out=_WAY_OUT)


def _object(value: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, "is missing, or is no object")
    for name in names:
        if name not in value:
            _refuse(f"{where}.{name}", "is missing")
    for name in value:
        if name not in names:
            _refuse(f"{where}.{name}", "is no field of a policy")
    return value


def _list(value: Any, where: str, minimum: int, maximum: int) -> list[Any]:
    if not isinstance(value, list) or not minimum <= len(value) <= maximum:
        _refuse(where, f"is no list of {minimum} to {maximum}")
    return value


def _uint(value: Any, where: str, minimum: int, maximum: int) -> int:
    # True is an integer in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        _refuse(where, f"is no whole number from {minimum} to {maximum}")
    return value


def _text(value: Any, where: str, minimum: int, maximum: int) -> str:
    if not isinstance(value, str) or not minimum <= len(value) <= maximum:
        _refuse(where, f"is no text of {minimum} to {maximum} characters")
    return value


def _choice(kind: type[E], value: Any, where: str) -> E:
    found = next((one for one in kind if _named(one) == value), None)
    if found is None:
        _refuse(where, f"is none of {', '.join(map(_named, kind))}")
    return found


def _named(one: IntEnum) -> str:
    return one.name.lower().replace("_", "-")


def _row(value: Any, where: str) -> tuple[bytes, Any, Any]:
    said = _object(value, where, ("person_id", *_PAIR))
    person = _read(f"{where}.person_id", "is no person's id", lambda: UUID(said["person_id"]).bytes)
    return (person, *_keys(said, where))


def _keys(said: dict[str, Any], where: str) -> tuple[Any, Any]:
    def key(name: str, kind: Any) -> Any:
        what = "is no public key of its kind, in hexadecimal"
        return _read(f"{where}.{name}", what, lambda: decode_public_key(bytes.fromhex(said[name]), expect=kind))

    return key("signing_key", SIGNING_KINDS), key("sealing_key", KeyKind.X_WING)


def _read(where: str, what: str, read_it: Callable[[], Any]) -> Any:
    try:
        return read_it()
    except (HoldfastError, ValueError, TypeError, AttributeError):
        _refuse(where, what)
