# SPDX-License-Identifier: Apache-2.0
"""The malicious-server suite for both SDKs: the same cases, and each refusal of TypeScript is held against Python's.

A case of tests/client is run as it stands, with its accounts in Node (`tests.web.rooms`). Where a room there refuses,
Python is asked as well: on the profile as it was before the call, with the very answers that the server gave. Both must
ask the same, and refuse by the same class, in the same words and with the same way out.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import httpx2

from holdfast.client.errors import ClientError
from holdfast.client.escrow import disclosures, escrow
from holdfast.client.identity import (
    chains,
    contacts,
    device,
    evidence,
    key_log,
    lost_chains,
    peers,
    restored,
    security_events,
    tenant,
)
from holdfast.client.messages import bundles, letters, messages, prekeys, settling
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact, State
from holdfast.client.profile.store import MemoryStore
from holdfast.client.recovery import by_case, by_door, vetoes
from holdfast.client.rotation import rotation
from holdfast.client.server.clock import Clock
from holdfast.client.server.transport import Api
from holdfast.client.vault import doors, pairing, trusted, vault
from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.rows import open_row
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.lying_server import LyingServer, Tenant, text
from tests.cast.members import Members
from tests.web.peer import bundled
from tests.web.rooms import Listening, Node, NodeAccount, NodeMembers, Twin, node, with_twins

# One answer of the server: what was asked, and the answer, or nothing where it never arrived.
Exchange = tuple[str, httpx2.Response | None]


class Between:
    """Stands between the accounts in Node and what answers them, and keeps what was said while somebody listens.

    What answers is the world's server, unless a test has connected an account to something else.
    """

    def __init__(self, server: LyingServer) -> None:
        self._server = server
        self._accounts: dict[str, LiedToAccount] = {}
        self._listeners: list[list[Exchange]] = []

    def knows(self, account: LiedToAccount) -> None:
        """Take note of an account whose device has an id."""
        self._accounts[account.device_text] = account

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        device = request.headers.get("signature-input", "").partition('keyid="')[2][:36]
        account, listeners = self._accounts.get(device), list(self._listeners)
        answer = self._server._answer if account is None else account.answered_by
        asked = f"{request.method} {request.url.raw_path.decode()}"
        try:
            answered = answer(request)
        except httpx2.ReadTimeout:
            for one in listeners:
                one.append((asked, None))
            raise
        for one in listeners:
            one.append((asked, answered))
        return answered

    @contextmanager
    def listened_to(self) -> Iterator[list[Exchange]]:
        """Keep what is said until the end of the block."""
        said: list[Exchange] = []
        self._listeners.append(said)
        try:
            yield said
        finally:
            self._listeners.remove(said)


class Compared(Twin):
    """A room in Node whose refusals are held against those of its Python twin."""

    def __getattr__(self, name: str) -> Any:
        call, found = super().__getattr__(name), getattr(self._room, name)
        if call is found:
            return found

        def compared(account: Account, *args: Any, **options: Any) -> Any:
            if not isinstance(account, LiedToAccount):
                return call(account, *args, **options)
            before = account._profile()
            with account.between.listened_to() as said:
                try:
                    value = call(account, *args, **options)
                except (ClientError, HoldfastError) as refusal:
                    account.refusals.append(refusal)
                    other = _refusal_of(before, account, said, lambda own: found(own, *args, **options))
                    agree(refusal, other, f"{self._path}.{name}")
                    raise
            account.answers.append(f"{self._path}.{name}")
            return value

        return compared


class LiedToAccount(NodeAccount):
    """An account in Node, whose calls and refusals are counted."""

    def __init__(self, process: Node, store: MemoryStore, state: State | None, url: str) -> None:
        super().__init__(process, store, state, url)
        self.refusals: list[BaseException] = []
        self.answers: list[str] = []
        self.between: Between
        self.answered_by: Callable[[httpx2.Request], httpx2.Response]

    def connect(
        self, server: str = "", *, transport: httpx2.BaseTransport | None = None, clock: Clock | None = None
    ) -> Api:
        assert isinstance(transport, httpx2.MockTransport)
        answer = transport.handler
        self.answered_by = lambda request: _response(answer(request))
        return super().connect(server, transport=transport, clock=clock)

    def call(self, room: str, of: int | None, name: str, given: list[Any]) -> Any:
        if self.state.device is not None:
            self.between.knows(self)
        return super().call(room, of, name, given)


def _response(answered: httpx2.Response | Coroutine[Any, Any, httpx2.Response]) -> httpx2.Response:
    assert isinstance(answered, httpx2.Response)
    return answered


class LiedTo(NodeMembers):
    """People of one tenant who have the TypeScript SDK; what an officer does, they do in Python."""

    def __init__(self, server: LyingServer, process: Node, listening: Listening) -> None:
        self.between = Between(server)
        super().__init__(server, process, listening, self.between)
        self.accounts: list[LiedToAccount] = []

    def profile(self, user: bytes, founder: Any = None) -> Account:
        if founder is not None:
            return Members.profile(self, user, founder)
        self.server.clock = lambda: self.now
        return self._made(MemoryStore(tenant=self.server.tenant.tenant, user=user), State())

    def put_back(self, copy: MemoryStore) -> Account:
        return self._made(copy, None)

    def _made(self, store: MemoryStore, state: State | None) -> Account:
        account = LiedToAccount(self.process, store, state, self.url)
        account.between = self.between
        self.accounts.append(account)
        return self._connected(account)


def _refusal_of(
    before: dict[str, Any], account: LiedToAccount, said: list[Exchange], act: Callable[[Account], object]
) -> BaseException:
    """Return how Python refuses on a profile, when the server answers what it has answered."""
    waiting, renamed = list(said), Renamed()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = f"{request.method} {request.url.raw_path.decode()}"
        assert waiting, f"Python asks further: {asked}"
        expected, answered = waiting.pop(0)
        if asked == expected == "POST /api/v1/devices" and answered is not None:
            renamed.enrolled(answered, request)
        assert asked == renamed(expected), f"Python asks {asked} where TypeScript asked {expected}"
        if answered is None:
            raise httpx2.ReadTimeout("lost")
        kind = {"content-type": answered.headers["content-type"]}
        return httpx2.Response(answered.status_code, headers=kind, text=renamed(answered.text))

    own = Account(_store_of(before, account), State())
    own.state = State.from_secret(SecretBytes(bytes.fromhex(before["state"])))
    for one in before["contacts"]:
        contact = open_row(Contact, SecretBytes(bytes.fromhex(one)), "contact")
        own.state.contacts[contact.user] = contact
    own.connect(account.url, transport=httpx2.MockTransport(answer), clock=Clock(account.clock.now))
    try:
        act(own)
    except (ClientError, HoldfastError) as refusal:
        assert not waiting, f"Python refuses before it asks {waiting[0][0]}"
        return refusal
    raise AssertionError("Python does not refuse")


class Renamed:
    """A device that enrols in both has an id of its own in each: puts Python's into what was said to TypeScript."""

    def __init__(self) -> None:
        self._ids: tuple[str, str] = "", ""

    def enrolled(self, answered: httpx2.Response, asked: httpx2.Request) -> None:
        """Take note of a device's two ids, by the answer to TypeScript and by what Python asks."""
        statement = Sign1.parse(unb64u(json.loads(asked.read())["device_statement"]))
        own = DeviceStatement.from_payload(statement.payload).header.device
        self._ids = answered.json()["device_id"], text(own)

    def __call__(self, said: str) -> str:
        return said.replace(*self._ids) if self._ids[0] else said


def _store_of(profile: dict[str, Any], account: Account) -> MemoryStore:
    store = MemoryStore(tenant=account.tenant, user=account.user)
    for kind, key, value in profile["rows"]:
        store.put(kind, bytes.fromhex(key), SecretBytes(bytes.fromhex(value)))
    return store


# What a person is to do is another thing in a browser, where it is a command here: a command, or an option of one.
_COMMAND: Final = re.compile(r"\bholdfast \w|--\w|\bcommand\b")
_SENTENCE: Final = re.compile(r"[.!?)](?: (?=[A-Z])|$)|(?<=\w)$")


def agree(refusal: BaseException, other: BaseException, where: str) -> None:
    """Both SDKs refuse alike: the same class, the same words, and as many sentences of advice.

    The advice is the same too, unless Python's names a command. Then TypeScript's names none.
    """
    found, expected = ((type(one).__name__, str(one)) for one in (refusal, other))
    assert found == expected, where
    own, advice = (getattr(one, "way_out", "") for one in (refusal, other))
    if own == advice:
        return
    assert _COMMAND.search(advice), f"{where}: {own!r} where Python says {advice!r}"
    assert not _COMMAND.search(own), f"{where}: {own!r}"
    count, wanted = (len(_SENTENCE.findall(one)) for one in (own, advice))
    assert count == wanted, f"{where}: {own!r} where Python says {advice!r}"


def grown(rooms: dict[str, Any]) -> type[LiedTo]:
    """Return the members, whose helpers enrol, publish and deposit through these rooms."""
    made: dict[str, Any] = {}
    for name, method in vars(Members).items():
        if isinstance(method, types.FunctionType) and name not in (*vars(LiedTo), "__init__", "__eq__", "__repr__"):
            copy = types.FunctionType(
                method.__code__, {**method.__globals__, **rooms}, name, method.__defaults__, method.__closure__
            )
            copy.__kwdefaults__ = method.__kwdefaults__
            made[name] = copy
    return type("LiedTo", (LiedTo,), made)


ROOMS: Final[dict[str, Any]] = {
    room.__name__.rpartition(".")[2]: Compared(room)
    for room in (
        by_case, by_door, vetoes,
        bundles, letters, messages, prekeys, settling,
        chains, contacts, device, evidence, key_log, lost_chains, peers, restored, security_events, tenant,
        disclosures, escrow, rotation,
        doors, pairing, trusted, vault,
    )
}  # fmt: skip


class Setting:
    """One Node process and the servers of one module's tests."""

    def __init__(self, process: Node, listening: Listening) -> None:
        self._process = process
        self._listening = listening
        self._members = grown(ROOMS)
        self.worlds: list[LiedTo] = []

    def world(self, founded: Tenant) -> LiedTo:
        """Return a fresh world of the tenant."""
        copy = Tenant.__new__(Tenant)
        lists = {name: [*getattr(founded, name)] for name in ("policies", "keys", "roles")}
        copy.__dict__.update(founded.__dict__ | lists)
        made = self._members(LyingServer(copy), self._process, self._listening)
        self.worlds.append(made)
        return made

    def end_of_a_test(self) -> None:
        """See that Node was asked at all: a case that it takes no part in shows nothing."""
        worlds, self.worlds = self.worlds, []
        assert not worlds or any(one.answers or one.refusals for world in worlds for one in world.accounts)


@contextmanager
def setting(directory: Path) -> Iterator[Setting]:
    """Start the process and let servers listen, until the end of the block."""
    listening = Listening()
    try:
        with node(bundled("tests/peer/rooms.ts", directory)) as process:
            yield Setting(process, listening)
    finally:
        listening.close()


def cases(module: ModuleType, *others: ModuleType) -> dict[str, Any]:
    """Return the tests of a module, to be run against the TypeScript rooms. others: modules whose helpers they call."""
    return with_twins(module, ROOMS, *others)
