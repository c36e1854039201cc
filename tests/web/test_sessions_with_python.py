# SPDX-License-Identifier: Apache-2.0
"""Sessions with one end in Python and one in TypeScript: in every suite, in any order, past what was changed."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.session import Session
from tests.cast.devices import pair
from tests.cast.node import NODE, SDK, environment, run, tool
from tests.cast.statements import NOW
from tests.core.messages.test_ratchet_limits import mutated
from tests.soak import rounds
from tests.web.peer import bundled

MOST_IN_A_TURN = 40


class There:
    """Ends of sessions in a Node process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._held = 0

    def take(self, session: Session) -> TypeScriptEnd:
        """Have one end of a session there, as a profile keeps it."""
        self._held += 1
        name = f"session {self._held}"
        self.ask("hold", name, session.to_secret().reveal().hex(), session.skipped_to_secret().reveal().hex())
        return TypeScriptEnd(self, name)

    def ask(self, verb: str, name: str, *rest: Any) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps([verb, name, *rest])}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Node ended"
        answer: list[Any] = json.loads(line)
        return answer


class TypeScriptEnd:
    """One end of a session, in TypeScript."""

    def __init__(self, there: There, name: str) -> None:
        self._there = there
        self._name = name

    def encrypt(self, texts: list[bytes]) -> list[bytes]:
        return [bytes.fromhex(one) for one in self._there.ask("encrypt", self._name, [text.hex() for text in texts])]

    def decrypt(self, messages: list[bytes]) -> list[bytes | None]:
        said = self._there.ask("decrypt", self._name, [message.hex() for message in messages])
        return [None if one is None else bytes.fromhex(one) for one in said]


class PythonEnd:
    """One end of a session, in Python, in the same words."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def encrypt(self, texts: list[bytes]) -> list[bytes]:
        return [self._session.encrypt(text) for text in texts]

    def decrypt(self, messages: list[bytes]) -> list[bytes | None]:
        return [self._opened(message) for message in messages]

    def _opened(self, message: bytes) -> bytes | None:
        try:
            return self._session.decrypt(message, now=NOW)
        except HoldfastError:
            return None


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    command = [str(NODE), str(bundled("tests/peer/sessions.ts", tmp_path_factory.mktemp("sessions")))]
    with subprocess.Popen(
        command, cwd=SDK, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield There(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


Ends = tuple[PythonEnd | TypeScriptEnd, PythonEnd | TypeScriptEnd]


def ends(there: There, suite: Suite, *, is_begun_here: bool) -> Ends:
    """Return the initiator's end of a session and the other's, one of them in each language."""
    initiator, responder = pair(suite)
    if is_begun_here:
        return PythonEnd(initiator), there.take(responder)
    return there.take(initiator), PythonEnd(responder)


@pytest.mark.parametrize("is_begun_here", [True, False])
@pytest.mark.parametrize("suite", list(Suite))
def test_thousand_messages_each_way_arrive_in_any_order_once(there: There, suite: Suite, is_begun_here: bool) -> None:
    """In turns of up to forty; what is late comes some turns later, so that several chains are under way at once."""
    chance, both = random.Random(suite * 2 + is_begun_here), ends(there, suite, is_begun_here=is_begun_here)
    each = 1000 if suite is Suite.HYBRID else 200
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    got: tuple[list[bytes], list[bytes]] = ([], [])
    under_way: tuple[list[bytes], list[bytes]] = ([], [])
    while min(map(len, sent)) < each:
        end = chance.randrange(2)
        texts = [b"%d of %d" % (len(sent[end]) + at, end) for at in range(chance.randint(1, MOST_IN_A_TURN))]
        sent[end].extend(texts)
        under_way[end].extend(both[end].encrypt(texts))
        _deliver(both[1 - end], under_way[end], got[end], chance, chance.randint(0, len(under_way[end])))
    for end in (0, 1):
        _deliver(both[1 - end], under_way[end], got[end], chance, len(under_way[end]))
        assert sorted(got[end]) == sorted(sent[end])
    # And straight on, in both directions.
    for end in (0, 1):
        assert both[1 - end].decrypt(both[end].encrypt([b"on"])) == [b"on"]


def _deliver(
    to: PythonEnd | TypeScriptEnd, under_way: list[bytes], got: list[bytes], chance: random.Random, count: int
) -> None:
    chance.shuffle(under_way)
    # Each of them twice: the second does not open.
    arrives, under_way[:] = under_way[:count], under_way[count:]
    opened = to.decrypt([*arrives, *arrives])
    assert opened[count:] == [None] * count
    got.extend(text for text in opened[:count] if text is not None)


@pytest.mark.rounds("web-messages")
@pytest.mark.parametrize("suite", [Suite.CLASSICAL, Suite.HYBRID_P256])
def test_mutated_messages_leave_the_typescript_end_able_to_decrypt(there: There, suite: Suite) -> None:
    here, other = ends(there, suite, is_begun_here=True)
    assert other.decrypt(here.encrypt([b"before"])) == [b"before"]
    assert here.decrypt(other.encrypt([b"answer"])) == [b"answer"]
    late, valid = here.encrypt([b"late", b"valid"])
    chance, count = random.Random(suite), rounds(1000, 10_000)
    assert other.decrypt([mutated(chance.choice((late, valid)), chance) for _ in range(count)]) == [None] * count
    assert other.decrypt([valid, late]) == [b"valid", b"late"]
    assert here.decrypt(other.encrypt([b"back"])) == [b"back"]


@pytest.mark.soak("web-messages")
def test_client_in_memory_reads_on_after_every_cut_and_ten_thousand_changed_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOLDFAST_EVERY_MOMENT", "1")
    run(str(NODE), tool("vitest"), "run", "tests/messages.test.ts", timeout=3000)
