# SPDX-License-Identifier: Apache-2.0
"""The client's own tests, with their accounts in a Node process: each call of a room goes to its TypeScript twin.

A profile is the same rows and the same state on both sides, in the same bytes. So a test reads and changes it in
Python, and what is done with it is done there; what the test itself does not call there, Python does on the same
profile.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import queue
import subprocess
import threading
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol
from uuid import UUID

import httpx2

from holdfast.client.identity import chains
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact, State
from holdfast.client.profile.state_rows import StateRows
from holdfast.client.profile.store import MemoryStore
from holdfast.client.server.clock import Clock
from holdfast.core.base.rows import open_row, seal_row
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.chain import ChainState
from tests.cast.lying_server import TENANT, LyingServer
from tests.cast.members import Members
from tests.cast.node import NODE, SDK, environment
from tests.client import cuts
from tests.client.cuts import Cut, CutStore, Moments
from tests.web.wire import Reader, camel, refusal, tell

ANSWER_SECONDS: Final = 120


class Node:
    """The process that has the TypeScript accounts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._waiting: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._ids = itertools.count()
        self._say = threading.Lock()
        threading.Thread(target=self._hear, daemon=True).start()

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Say one line and return what is answered to it. From any thread: a server may ask while it is asked."""
        number = next(self._ids)
        answers: queue.Queue[dict[str, Any]] = queue.Queue(1)
        self._waiting[number] = answers
        assert self._process.stdin is not None
        with self._say:
            self._process.stdin.write(f"{json.dumps({'id': number, **asked})}\n")
            self._process.stdin.flush()
        try:
            return answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise AssertionError(f"Node did not answer: {asked.get('room')}.{asked.get('name')}") from None
        finally:
            del self._waiting[number]

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._waiting[said["id"]].put(said)


@contextmanager
def node(bundle: Path) -> Iterator[Node]:
    """Start the process, and end it afterwards."""
    with subprocess.Popen(
        [str(NODE), str(bundle)], cwd=SDK, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Node(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


class Answering(Protocol):
    """What answers requests: a lying server, or what stands before one."""

    def _answer(self, request: httpx2.Request) -> httpx2.Response: ...


class Listening:
    """Has servers of the tests listen on this machine, until it is closed."""

    def __init__(self) -> None:
        self._open: list[ThreadingHTTPServer] = []

    def address_of(self, server: Answering) -> str:
        """Let a server listen, and return its address."""
        http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(server))
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        self._open.append(http)
        return f"http://127.0.0.1:{http.server_port}"

    def close(self) -> None:
        """Stop listening."""
        for http in self._open:
            http.shutdown()
            http.server_close()


def _handler_of(server: Answering) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            url = f"http://127.0.0.1{self.path}"
            asked = httpx2.Request(self.command, url, headers=list(self.headers.items()), content=body)
            try:
                answered = server._answer(asked)
            except httpx2.ReadTimeout:
                self.close_connection = True  # the answer never arrives
                return
            self.send_response_only(answered.status_code)  # with no date but the server's own
            for name, value in answered.headers.items():
                if name not in ("content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answered.content)))
            self.end_headers()
            self.wfile.write(answered.content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class NodeAccount(Account):
    """An account whose calls of rooms go to Node."""

    def __init__(self, process: Node, store: MemoryStore, state: State | None, url: str) -> None:
        super().__init__(store, state)
        self.node = process
        self.url = url
        self.name = f"account {next(_NAMES)}"
        self.moments = Moments()
        self._pulled: dict[str, Any] | None = None
        self.node.ask(do="open", account=self.name, tenant=store.tenant.hex(), user=store.user.hex())

    def call(self, room: str, of: int | None, name: str, given: list[Any]) -> Any:
        """Call a room, or an object that one returned, and return the value in JSON."""
        profile, left = self._profile(), self.moments.at - self.moments.count
        said = self.node.ask(
            do="call",
            account=self.name,
            profile=None if profile == self._pulled else profile,
            room=room,
            of=of,
            name=name,
            given=given,
            now=self.clock.now(),
            url=self.url,
            cutAt=left if self.moments.at and left > 0 else 0,
        )
        if "profile" in said:
            self._take(said["profile"])
            self.moments.count += said["count"]
        if said.get("isCut"):
            raise Cut
        if "error" in said:
            raise refusal(said["error"])
        return said["value"]

    def _profile(self) -> dict[str, Any]:
        assert isinstance(self.store, MemoryStore)
        rows = self.store._rows.items()
        return {
            "rows": [[kind, key.hex(), one.reveal().hex()] for kind, of in rows for key, (_, one) in of.items()],
            "state": self.state.to_secret().reveal().hex(),
            "contacts": [seal_row(contact).reveal().hex() for contact in self.state.contacts.values()],
        }

    def _take(self, profile: dict[str, Any]) -> None:
        assert isinstance(self.store, MemoryStore)
        self._pulled = profile
        rows: dict[str, dict[bytes, tuple[int, SecretBytes]]] = {}
        for place, (kind, key, value) in enumerate(profile["rows"], 1):
            rows.setdefault(kind, {})[bytes.fromhex(key)] = place, SecretBytes(bytes.fromhex(value))
        self.store._rows, self.store._places = rows, len(profile["rows"])
        self._rows = StateRows(self.store)
        before = self.state.device
        self.state = State.from_secret(SecretBytes(bytes.fromhex(profile["state"])))
        if self.state.device != before and self.state.device is not None:
            self.sign_as_device()  # its keys were replaced there
        for one in profile["contacts"]:
            contact = open_row(Contact, SecretBytes(bytes.fromhex(one)), "contact")
            self.state.contacts[contact.user] = contact

    def reader(self) -> Reader:
        """Return what reads this account's answers."""
        return Reader(self._state_of, self._held)

    def _held(self, number: int, hint: Any, fields: dict[str, Any]) -> Any:
        held = HeldObject(self, number, fields)
        return _as_of(held, hint, fields) if dataclasses.is_dataclass(hint) else held

    def _state_of(self, user: bytes) -> ChainState:
        known = self.state.chain if user == self.user else self.state.contacts[user].entries
        return chains.verify(self, user, known)


_NAMES: Final = itertools.count()


class HeldObject:
    """An object that a room returned and Node keeps."""

    def __init__(self, account: NodeAccount, number: int, fields: dict[str, Any]) -> None:
        self._account = account
        self._number = number
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if camel(name) in self._fields:
            return self._fields[camel(name)]

        def call(*args: Any, **options: Any) -> Any:
            given = [*map(tell, args), *_options(options)]
            value = self._account.call("", self._number, camel(name), given)
            found = self._account.reader().read(value, Any)
            try:
                return UUID(found)
            except (ValueError, TypeError, AttributeError):
                return found

        return call


def _as_of(held: HeldObject, hint: Any, fields: dict[str, Any]) -> Any:
    """Return an object of Python's class with these fields, whose methods are called in Node."""
    kind = _class_as_of(hint)
    made: Any = object.__new__(kind)
    for name, one in {**fields, "_store": held._account.store, "_key": b"", "_held": held}.items():
        object.__setattr__(made, name, one)
    return made


@cache
def _class_as_of(hint: type[Any]) -> type[Any]:
    # One for each, since objects of two classes are never equal.
    methods = [name for name, one in vars(hint).items() if inspect.isfunction(one) and not name.startswith("_")]
    return type(hint.__name__, (hint,), {name: _called_in_node(name) for name in methods})


def _called_in_node(name: str) -> Callable[..., Any]:
    return lambda self, *args, **options: getattr(self._held, name)(*args, **options)


def _options(options: dict[str, Any]) -> list[Any]:
    """Return keyword arguments as TypeScript has them: one object at the end."""
    return [{"object": {camel(name): tell(one, name) for name, one in options.items()}}] if options else []


class Twin(ModuleType):
    """A room whose functions go to Node for accounts that are there; all else of it is Python's."""

    def __init__(self, room: ModuleType) -> None:
        super().__init__(room.__name__)
        self._room = room
        self._path = room.__name__.removeprefix("holdfast.client.")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._room, name)
        if name.startswith("_") or not inspect.isfunction(found):
            return found
        parameters = list(inspect.signature(found).parameters)
        if parameters[:1] != ["account"]:
            return found

        def call(account: Account, *args: Any, **options: Any) -> Any:
            is_there = isinstance(account, NodeAccount) and not any(map(callable, (*args, *options.values())))
            if not is_there:
                return found(account, *args, **options)
            assert isinstance(account, NodeAccount)
            given = [tell(one, parameter) for parameter, one in zip(parameters[1:], args, strict=False)]
            value = account.call(self._path, None, camel(name), given + _options(options))
            return account.reader().read(value, typing.get_type_hints(found, include_extras=True).get("return", Any))

        return call


class NodeMembers(Members):
    """People of one tenant, with their profiles in Node."""

    def __init__(
        self, server: LyingServer, process: Node, listening: Listening, before: Answering | None = None
    ) -> None:
        super().__init__(server)
        self.process = process
        self.url = listening.address_of(before or server)

    def profile(self, user: bytes, founder: Any = None) -> Account:
        if founder:
            return super().profile(user, founder)  # what an officer does, they do in Python
        self.server.clock = lambda: self.now
        return self._connected(NodeAccount(self.process, MemoryStore(tenant=TENANT, user=user), State(), self.url))

    def put_back(self, copy: MemoryStore) -> Account:
        return self._connected(NodeAccount(self.process, copy, None, self.url))

    def _connected(self, account: NodeAccount) -> Account:
        account.connect(self.url, transport=self.server.transport(), clock=Clock(lambda: self.now))
        return account


def reopened(world: Members, account: Account, moments: Moments) -> Account:
    """Return the account as a new process finds it (`tests.client.cuts`), in Node."""
    if not isinstance(account, NodeAccount):
        return cuts.reopened(world, account, moments)
    store = account.store
    store.__class__ = CutStore
    assert isinstance(store, CutStore)
    store.moments = moments
    fresh = NodeAccount(account.node, store, None, account.url)
    fresh.moments = moments

    def answer(request: httpx2.Request) -> httpx2.Response:
        moments.pass_one()
        response = world.server._answer(request)
        moments.pass_one()
        return response

    fresh.connect(account.url, transport=httpx2.MockTransport(answer), clock=Clock(lambda: world.now))
    return fresh


def _copy(found: types.FunctionType, space: dict[str, Any]) -> Callable[..., Any]:
    """Return a function as it is, but that other names mean something in it, and that it is of no part of the soak."""
    inner = typing.cast(types.FunctionType, inspect.unwrap(found))
    copy = types.FunctionType(inner.__code__, space, inner.__name__, inner.__defaults__, inner.__closure__)
    marks = [one for one in getattr(inner, "pytestmark", []) if one.name not in ("rounds", "soak")]
    copy.__kwdefaults__, copy.__dict__ = inner.__kwdefaults__, {**inner.__dict__, "pytestmark": marks}
    copy.__annotations__, copy.__doc__ = inner.__annotations__, inner.__doc__
    # What wraps another function, of those that the tests call, is a context manager.
    return copy if inner is found else contextmanager(copy)


def with_twins(module: ModuleType, changed: dict[str, Any], *others: ModuleType) -> dict[str, Any]:
    """Return the tests of a module as they are, but that some names in it mean something else: rooms that are twins.

    others: modules whose functions the tests call and that are changed in the same way.
    """
    made: dict[str, Any] = {}
    seen: dict[ModuleType, Any] = {}
    for one in (*others, module):
        known = {name: found for name, found in changed.items() if name in one.__dict__}
        known |= {name: seen[of] for name, of in one.__dict__.items() if isinstance(of, ModuleType) and of in seen}
        space = {**one.__dict__, **made, **known}
        own = {name: found for name, found in one.__dict__.items() if inspect.isfunction(found)}
        for name, found in own.items():
            if found.__module__ != one.__name__ or hasattr(found, "_pytestfixturefunction"):
                continue
            copy = _copy(found, space)
            space[name] = changed.get(name, copy)
            made[name] = copy
        seen[one] = types.SimpleNamespace(**space)
    return {name: found for name, found in made.items() if name.startswith("test_") and name in module.__dict__}
