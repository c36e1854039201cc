# SPDX-License-Identifier: Apache-2.0
"""Where a request comes from, as limits count it.

Implements FAULTS I10a: a forwarded address is believed only from a proxy on the operator's list, and an IPv6
source is its /64 (one subscriber owns all of it). An address identifies nobody. Whether a request came encrypted is
likewise the trusted proxy's word alone.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# From what a browser says of itself, in the order in which it is asked: most claim to be several.
_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrom", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
UNKNOWN = "::"  # no address at all, as over a local socket that nobody trusts: all such requests count together
# In the operator's list: whoever connects to the Unix socket, which has no address. Its file's mode says who may.
LOCAL_SOCKET = "unix"


def source_of(request: HttpRequest) -> str:
    """Return the address that limits count: an IPv4 address, or the first address of an IPv6 /64."""
    remote = _parse(request.META.get("REMOTE_ADDR", ""))
    if remote is None and not is_from_proxy(request):
        return UNKNOWN
    # From the nearest hop outwards: everything left of the first stranger was written by the stranger.
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while (remote is None or _is_trusted(remote)) and hops:
        further = _parse(hops.pop())
        if further is None:
            break
        remote = further
    if remote is None:
        return UNKNOWN
    if isinstance(remote, IPv6Address):
        return str(IPv6Network((remote, 64), strict=False).network_address)
    return str(remote)


def agent_of(request: HttpRequest) -> str:
    """Return the family of browser and system that a request names: `Firefox on Linux`; empty for one not known here.

    Coarse by intent: the whole text tells people apart, and anybody may write anything into it.
    """
    text = request.META.get("HTTP_USER_AGENT", "")
    browser = next((name for sign, name in _BROWSERS if sign in text), "")
    system = next((name for sign, name in _SYSTEMS if sign in text), "")
    return " on ".join(one for one in (browser, system) if one)


def is_from_proxy(request: HttpRequest) -> bool:
    """Tell whether the peer itself, not one it speaks for, is a proxy on the operator's list."""
    peer = request.META.get("REMOTE_ADDR", "")
    if not peer:
        return LOCAL_SOCKET in settings.HOLDFAST_TRUSTED_PROXIES
    remote = _parse(peer)
    return remote is not None and _is_trusted(remote)


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(_without_port(text.strip()))
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # int() drops a scope id
    return address


def _without_port(text: str) -> str:
    """Return the address of `192.0.2.1:4711`, `[2001:db8::1]:443` or `[2001:db8::1]`, as some proxies write them."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, port = text.partition(":")
    return host if colon and ":" not in port else text


def _is_trusted(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _networks(tuple(settings.HOLDFAST_TRUSTED_PROXIES)))


@lru_cache(maxsize=8)
def _networks(listed: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(entry) for entry in listed if entry != LOCAL_SOCKET)
