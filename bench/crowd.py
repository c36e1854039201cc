# SPDX-License-Identifier: Apache-2.0
"""Many people with devices and keys in one tenant, and the requests that their devices sign."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from bench.world import PUBLIC_URL

_MARGIN: Final = 35  # keys: clients end at different places of their lists


class Crowd:
    """Acme with more members than the cast, made here or given."""

    def __init__(self, directory: Any = None) -> None:
        from tests.cast.phones import Directory

        self.directory = directory or Directory()

    def people(self, number: int, *, hybrid: bool = False, devices: int = 1) -> list[Any]:
        """Add members with devices, and return their accounts."""
        from holdfast.core.crypto.suites import Suite
        from kernel.scope import tenant_scope
        from tenants import services
        from tenants.roles import Role
        from tests.cast.phones import Account
        from tests.cast.tenants import make_person

        services.ENROLMENTS_PER_SOURCE = 10**9  # type: ignore[misc]  # as the hourly limits: they all come from here
        made = []
        for _ in range(number):
            with tenant_scope(self.directory.world.acme.pk):
                person = make_person(f"crowd-{uuid.uuid4().hex[:12]}", Role.MEMBER)
            account = Account(person)
            self.directory.world.people[person.name] = person
            self.directory._accounts[person.name] = account
            for _ in range(devices):
                account.add_phone(suite=Suite.HYBRID if hybrid else Suite.CLASSICAL)
            made.append(account)
        return made


class Stock:
    """Devices of which keys are claimed in turn, and how many each has left, as far as is known here."""

    def __init__(self, phones: Sequence[Any]) -> None:
        self.phones = phones
        self._left = 0.0
        for phone in phones:
            phone.publish(batches=[])

    def have(self, keys: int) -> None:
        """Upload one-time keys by the hundred until all devices together have so many, and some more."""
        from django.db import transaction

        while self._left < keys / len(self.phones) + _MARGIN:
            with transaction.atomic():
                for phone in self.phones:
                    phone.upload(100)
            self._left += 100

    def took(self, keys: int) -> None:
        """Note that so many were claimed, of all devices in turn."""
        self._left -= keys / len(self.phones)


def signed(phone: Any, method: str, path: str, document: Any = None, **headers: str) -> bytes:
    """Return one request as a proxy would pass it on. A client's signature is not the server's cost."""
    from holdfast.core.signed.requests import SignatureParameters, content_digest

    body = b"" if document is None else json.dumps(document).encode()
    parameters = SignatureParameters(
        method=method, created=int(time.time()), keyid=phone.id, nonce=secrets.token_bytes(16)
    )
    digest = content_digest(body) if method != "GET" else ""
    fields = parameters.fields(phone.isk.sign(parameters.base(target_uri=PUBLIC_URL + path, digest=digest)))
    fields |= {"content-digest": digest, "content-type": "application/json"} if digest else {}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    # Each device has an address of its own.
    address = ".".join(str(one) for one in phone.id.bytes[:3])
    fields |= {"x-forwarded-proto": "https", "x-forwarded-for": f"10.{address}"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    host = PUBLIC_URL.removeprefix("https://")
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


def claims(requesters: Sequence[Any], paths: Sequence[str], number: int) -> list[bytes]:
    """Sign so many claims, of each path and by each requester in turn."""
    return [
        signed(requesters[at % len(requesters)], "POST", path, {}, idempotency_key=uuid.uuid4().hex)
        for at, path in ((at, paths[(at * 7 + at // len(paths)) % len(paths)]) for at in range(number))
    ]


def lines(requests: Sequence[bytes], clients: int) -> list[Sequence[bytes]]:
    """Deal requests out to so many clients."""
    return [requests[at::clients] for at in range(clients)]
