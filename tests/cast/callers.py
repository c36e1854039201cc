# SPDX-License-Identifier: Apache-2.0
"""People of Django's database with the real client: a profile in memory each, and every request through the server."""

from __future__ import annotations

from typing import Any

import httpx2
from django.test import Client
from django.test.utils import override_settings

from audit import sequencer
from holdfast.client.identity import chains, device
from holdfast.client.messages import prekeys
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import State
from holdfast.client.profile.store import MemoryStore
from holdfast.core.identity.trust import root_pin
from holdfast.core.signed.enrolment import EnrolmentCode
from kernel import queue
from kernel.scope import tenant_scope
from tenants import services as tenants
from tests.cast.tenants import send
from tests.cast.world import World

URL = "http://localhost"  # of plain http, a client takes none but this machine
_OWN: frozenset[str] = frozenset({"host", "content-type", "content-length", "connection", "accept-encoding"})


class Callers:
    """Who calls one tenant's server from a device of their own. `calls` has each request's method and path."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[tuple[str, str]] = []

    def transport(self) -> httpx2.BaseTransport:
        return httpx2.MockTransport(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in _OWN}
        self.calls.append((request.method, request.url.path.removeprefix("/api/v1/")))
        with override_settings(HOLDFAST_PUBLIC_URL=URL):
            answer: Any = send(Client(), request.method, request.url.raw_path.decode(), request.read(), headers)
        if request.method != "GET":
            self.sequence()
        kept = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
        return httpx2.Response(answer.status_code, headers=kept, content=answer.content)

    def sequence(self) -> None:
        """Let the sequencer sign what there is of both logs, unless it was stopped by what it found."""
        for log in ("audit", "keys"):
            try:
                sequencer.sequence(self.world.tenant_id, log)
            except Exception as error:
                self.stopped = error

    def profile(self, name: str) -> Account:
        store = MemoryStore(tenant=self.world.tenant_id.bytes, user=self.world.cast.people[name].pk.bytes)
        account = accounts.Account(store, State())
        account.connect(URL, transport=self.transport())
        return account

    def code(self, name: str) -> EnrolmentCode:
        """Have the operator issue a code for somebody."""
        tenant = self.world.tenant_id
        person = self.world.cast.people[name]
        pin = root_pin(tenant.bytes, self.world.root.public, self.world.policies[0].hash)
        code = EnrolmentCode.new(tenant=tenant.bytes, person=person.pk.bytes, root_pin=pin)
        with tenant_scope(tenant):
            tenants.issue_enrolment_code(person=person, code_hash=code.hash, actor=self.world.ceremony)
        return code

    def enrolled(self, name: str) -> Account:
        """Return the first device of somebody, active, with pre-keys published."""
        account = self.profile(name)
        device.enrol(account, self.code(name), name="laptop", is_development=True)
        prekeys.publish(account)
        return account

    def another(self, first: Account, name: str) -> Account:
        """Return one more device of a person, which the first has approved."""
        account = self.profile(name)
        done = device.enrol(account, self.code(name), name="phone", is_development=True)
        device.approve(first, done.device, words=done.words)
        chains.refresh(account)
        prekeys.publish(account)
        return account

    def work(self) -> None:
        """Do what the worker does, and sign what came of it."""
        queue.run_due("worker")
        self.sequence()
