# SPDX-License-Identifier: Apache-2.0
"""Real threads (FAULTS D3): every act that writes, sent several times at once; ids that two tenants choose at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from hsm import registry
from tests.faults.acts import Act
from tests.faults.chosen import MAKERS
from tests.faults.world import VALID, Installation, build

pytestmark = pytest.mark.postgres
WRITES = [call for call in VALID if call[1] in ("POST", "PUT")]
# What ends or replaces what others are about comes last, so that every act is first a valid one.
LAST = [("act-words", "POST"), ("act", "POST"),
        ("case-cancel", "POST"), ("case-deny", "POST"), ("case-veto", "POST"), ("contact-request-cancel", "POST"),
        ("contact-request-veto", "POST"), ("contact-requests", "POST"), ("contacts", "PUT"), ("user-chain", "POST"),
        ("device-successor", "POST"), ("escrow-officer-states", "POST"), ("user-chain-restored", "POST"),
        ("device-restored", "POST"), ("audit-head", "POST")]  # fmt: skip
# Whether these can be made still depends on which of the others came first.
ENDING = {
    ("case-deny", "POST"),
    ("case-successor", "PUT"),
    ("case-veto", "POST"),
    ("contact-request-veto", "POST"),
}


@pytest.fixture
def raced(hsm: Any, transactional_db: None, tmp_path: Path) -> Iterator[Installation]:
    """Both tenants, committed: threads of their own connections have to see them."""
    opened = {"root": hsm.tokens.root, "log": hsm.tokens.log, "escrow": hsm.tokens.escrow}
    registry.install(lambda: dict(opened))
    yield build(tmp_path / "release", hsm.escrow_keys, hsm.tokens.log.public_key)
    registry.install(dict)


def at_once(act: Act, times: int = 3) -> list[Any]:
    """Send one request several times, signed anew each time, all at the same moment."""
    start = threading.Barrier(times)

    def run(_: int) -> Any:
        try:
            start.wait(timeout=30)
            return act.send()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def test_every_act_sent_several_times_at_once_happens_and_is_refused_in_words(raced: Installation) -> None:
    one = raced.acme
    for call in [*(call for call in WRITES if call not in LAST), *LAST]:
        act = VALID[call](one)
        answers = [*at_once(act), act.send()]
        codes = [answer.status_code for answer in answers]
        assert all(code < 500 for code in codes), (call, codes, [answer.content for answer in answers])
        assert call in ENDING or any(code < 300 for code in codes), (call, codes, answers[0].content)


@pytest.mark.parametrize("kind", MAKERS)
def test_id_sent_by_two_at_once_goes_to_one_of_a_tenant_and_to_both_of_two(kind: str, raced: Installation) -> None:
    make, model = MAKERS[kind]
    for two, codes in (((raced.acme, raced.acme), [201, 409]), ((raced.acme, raced.other), [201, 201])):
        chosen = uuid.uuid4()
        assert _sent_at_once([make(one, chosen) for one in two]) == codes
        assert model.unscoped.filter(id=chosen).count() == codes.count(201)


def _sent_at_once(acts: list[Act]) -> list[int]:
    start = threading.Barrier(2)

    def run(act: Act) -> int:
        try:
            start.wait(timeout=30)
            return int(act.send().status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(run, acts))
