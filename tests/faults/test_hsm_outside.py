# SPDX-License-Identifier: Apache-2.0
"""No transaction of ours is open while the HSM works: a lock that waits for it would stop everybody.

Every route and every job of the worker and of the release process is walked, with nothing cached in this process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection
from django.test import Client

from audit.tasks import sequence_all
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from kernel import queue
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import invitations, sign_in
from tests.cast.tenants import give_totp
from tests.faults.routes import api_calls
from tests.faults.world import VALID, Installation


@dataclass(eq=False)
class Watch:
    """Counts what reaches the tokens, and what of it came from inside a transaction that the product opened."""

    outer: int
    seen: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)

    def note(self, verb: str) -> None:
        self.seen.append(verb)
        # The tests' own transactions are below: whatever is above them was opened by the act.
        if len(connection.atomic_blocks) > self.outer:
            self.inside.append(verb)


class Watched:
    """A token, or a key inside it, each of whose verbs is noted before it is done."""

    def __init__(self, real: Any, watch: Watch) -> None:
        self._real, self._watch = real, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def verb(*args: Any, **kwargs: Any) -> Any:
            self._watch.note(name)
            answer = found(*args, **kwargs)
            return Watched(answer, self._watch) if name == "load_tenant_key" else answer

        return verb


@pytest.fixture
def watch(installation: Installation, hsm: Any) -> Iterator[Watch]:
    """Fresh tokens for this process: handles hang on them, so no tenant's key is open yet."""
    watch = Watch(len(connection.atomic_blocks))
    real = {"root": hsm.tokens.root, "log": hsm.tokens.log, "escrow": hsm.tokens.escrow}
    registry.install(lambda: {name: Watched(token, watch) for name, token in real.items()})
    yield watch
    registry.install(lambda: dict(real))


@pytest.mark.parametrize(("name", "method"), sorted(api_calls()))
def test_act_asks_the_hsm_outside_its_transaction(
    name: str, method: str, installation: Installation, watch: Watch
) -> None:
    answer = VALID[name, method](installation.acme).send()
    assert answer.status_code < 300, answer.content
    assert watch.inside == []


def test_signing_in_asks_the_hsm_outside_its_transaction(installation: Installation, watch: Watch) -> None:
    """Password and code, a new password by mail and code, and an invitation, which seals a new authenticator."""
    one = installation.acme
    carol, actor = one.cast.carol, system_actor(one.tenant_id, "ceremony")
    one.sign_in("carol")
    key, browser = give_totp(carol), Client()
    browser.post("/console/password-reset/", {"tenant": one.slug, "email": carol.email})
    while queue.run_due(queue.MAIL):
        pass
    found = re.search(r"/console/password-reset/\S+", str(mail.outbox[-1].body))
    assert found is not None
    typed = {"password": "four words that nobody guessed", "again": "four words that nobody guessed"}
    watch.seen.clear()
    answer = browser.post(found[0], typed | {"code": sign_in.totp_code(key, at=time.time())})
    assert answer.status_code == 200, answer.content
    assert "unwrap_record_key" in watch.seen
    with tenant_scope(one.tenant_id):
        link = invitations.invite(person=carol.reload(), actor=actor).text.reveal().decode()
    address = link.removeprefix(settings.HOLDFAST_PUBLIC_URL)
    browser.get(address)
    fresh = bytes.fromhex(browser.session["invitation"]["key"])
    watch.seen.clear()
    answer = browser.post(address, typed | {"code": sign_in.totp_code(SecretBytes(fresh), at=time.time())})
    assert answer.status_code == 200, answer.content
    assert "new_record_key" in watch.seen
    assert watch.inside == []


def test_work_that_takes_time_asks_the_hsm_outside_its_transactions(installation: Installation, watch: Watch) -> None:
    one = installation.acme
    for call in (("case-approvals", "POST"), ("vault", "PUT"), ("vault", "GET"), ("contact-requests", "POST")):
        assert VALID[call](one).send().status_code < 300
    assert one.state(one.case_open) in ("quorate", "waiting")
    for _ in range(3):
        while queue.run_due("worker") or queue.run_due(queue.MAIL):
            pass
        for _, work in queue.periodic():
            work()
        sequence_all()
    with one.process():
        queue.run_due("release")
    assert one.state(one.case_open) == "released"
    assert watch.inside == []
    assert {"load_tenant_key", "new_record_key", "unwrap_record_key", "sign", "rewrap"} <= set(watch.seen)
