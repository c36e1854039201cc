# SPDX-License-Identifier: Apache-2.0
"""Addresses that an operator writes into a setting, read strictly: what is wrong with one is said at the start."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

# A name, an IPv4 address, or an IPv6 address in brackets. A name of other letters has its xn-- form: clients send that.
HOST: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def parts_of(address: str, *schemes: str, such_as: str) -> SplitResult:
    """Return the parts of an address with a host, and with a port that is one. Raises ValueError with `such_as`."""
    parts = _split(address)
    if parts is None or parts.scheme not in schemes or not HOST.fullmatch(host_of(parts)):
        raise ValueError(f"write {such_as}")
    return parts


def host_of(parts: SplitResult) -> str:
    """Return the host of an address as a Host header writes it, without the port."""
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def origin_of(address: str) -> str:
    """Return an origin as browsers write it. Raises ValueError for what is more, or less, than an origin."""
    said = f"{address!r} is no origin of its own, such as https://holdfast.example; paths below one are not served"
    parts = _split(address.removesuffix("/"))
    if parts is None or parts.scheme not in ("http", "https") or not HOST.fullmatch(host_of(parts)):
        raise ValueError(said)
    if address.removesuffix("/").partition("://")[2] != parts.netloc or "@" in parts.netloc:
        raise ValueError(said)
    is_usual = parts.port in (None, 443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host_of(parts)}{'' if is_usual else f':{parts.port}'}"


def is_trustworthy(origin: str) -> bool:
    """Tell whether nobody on the way can change an origin's pages: https, or this machine itself."""
    parts = urlsplit(origin)
    return parts.scheme == "https" or host_of(parts) in _LOOPBACK


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        is_right = parts.port != 0 and not parts.netloc.endswith(":")  # asking for the port raises as well
    except ValueError:
        return None
    return parts if is_right else None
