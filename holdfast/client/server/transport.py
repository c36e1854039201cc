# SPDX-License-Identifier: Apache-2.0
"""Signed requests to one server, retried where that is safe, answered by typed values or typed refusals.

Implements ORGANISATION "Requests" (RFC 9421 signatures), RFC 9457 problems and FAULTS D3 on the client's side.
Follows no redirect, keeps no cookie, and takes no address from an answer: no secret goes where a server points.
Reads every answer under a bound on its octets and under `pace`: no server decides how much or how long a client waits.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import httpx2

from holdfast.client.errors import AnswerRefused, NotTheServer, Problem, ServerReadOnly
from holdfast.client.server import failures
from holdfast.client.server.answers import MAX_ANSWER, Answer, parse, parse_time
from holdfast.client.server.clock import SET_THE_CLOCK, Clock
from holdfast.client.server.pace import FAILURES, Pace, PacedTransport
from holdfast.core.base import typed
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import Malformed
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.requests import NONCE_SIZE, TURN, SignatureParameters, content_digest
from holdfast.core.signed.turns import Answered

TIMEOUT_SECONDS: Final = 30.0
ATTEMPTS: Final = 5  # after a fifth of a second, doubled each time: a server that restarts is back by then
# Waited for by itself between two attempts; four of these are as long as a person waits for a command.
_MAX_WAIT_SECONDS: Final = 30.0
# A part of the server that is away, such as its database, is waited for as long as one that starts again takes. Then a
# person is told, while they still look.
_AWAY_SECONDS: Final = 8.0
_MOST_RETRY_AFTER: Final = 86_400.0
_MOST_PAGES: Final = 1000  # of a list: a hundred rows each, more than one person's device has any use for
_UNAUTHENTICATED: Final = "unauthenticated"
_RESTORED: Final = "log-restored"
# Too many, or a proxy whose server is away: the same request may pass later.
_RETRIED_STATUS: Final = frozenset({429, 502, 503, 504})
_LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Turns(Protocol):
    """Whose turn it is, said with each request and heard in each answer (`holdfast.core.signed.turns`)."""

    def say(self) -> str:
        """Return the field holdfast-turn of a request."""

    def hear(self, answered: Answered) -> None:
        """Take what an answer says of it."""


@dataclass(frozen=True)
class Credential:
    """What signs requests: the device's id and its identity signing key; and who keeps its turns, if anybody does."""

    device: UUID
    key: SigningKey
    turns: Turns | None = None


@dataclass(frozen=True)
class Reply:
    """One successful answer: status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Answer:
        """Return the body as one strict JSON object. Raises AnswerRefused."""
        return parse(self.body)


def check_server(url: str) -> str:
    """Return a server's address without its trailing slash. Raises ValueError unless it is https or this machine."""
    address = typed.trimmed(url)
    parts = urllib.parse.urlsplit(address)
    plain_is_fine = parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("a server address looks like https://holdfast.example")
    if parts.scheme != "https" and not plain_is_fine:
        raise ValueError("a server address starts with https:// (http:// only for this machine)")
    try:
        httpx2.URL(address)
    except httpx2.InvalidURL:
        raise ValueError("a server address names a host that can exist") from None
    return address.rstrip("/")


class Api:
    """The REST API of one server, as one device or, before enrolment, as nobody.

    Every method raises Problem for a refusal, Unreachable when no whole answer came in time, with retries, and
    AnswerRefused for an answer outside the protocol. One request at a time: they share one `Pace`.
    """

    def __init__(
        self,
        server: str,
        *,
        credential: Credential | None = None,
        clock: Clock | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = check_server(server)
        self.credential = credential
        self.clock = clock or Clock()
        self._sleep = sleep
        self._pace = Pace()
        # trust_env off: no .netrc password and no environment's proxy slips into these requests.
        self._http = httpx2.Client(
            transport=transport or PacedTransport(self._pace),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, *, query: Mapping[str, str] | None = None, maximum: int = MAX_ANSWER) -> Answer:
        """Read one document of at most `maximum` bytes."""
        if query:
            path = f"{path}?{urllib.parse.urlencode(query, safe='')}"
        return self._call("GET", path, b"", {}, maximum).json()

    def pages(self, path: str, name: str, key: str, *, query: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Read a list page by page, following `more`: the rows under `name`, each of which names itself by `key`.

        query: what the list is asked with, on every page. An answer that says `last` goes on from there, though its
        page has no row.

        Raises AnswerRefused for a server that always has more.
        """
        asked = dict(query or {})
        for _ in range(_MOST_PAGES):
            answer, last = self.get(path, query=asked), ""
            for row in answer.many(name):
                last = row.text(key)
                yield row
            if not answer.flag("more"):
                return
            last = answer.text("last") if "last" in answer else last
            if not last:
                return
            asked["after"] = last
        raise AnswerRefused(f"The server's list of {name} has no end.")

    def post(
        self,
        path: str,
        document: Mapping[str, Any],
        *,
        key: str | None = None,
        if_match: str | None = None,
        is_repeated: bool = True,
        is_once_by_itself: bool = False,
    ) -> Answer:
        """Perform one act once, however often the network makes us ask.

        key: the idempotency key, for an act that must stay one act across runs of this program. if_match: what the act
        replaces, as it was last read. is_repeated: False for an act whose lost answer is given to nobody again.
        is_once_by_itself: of what the server knows again by its content, for which it need keep no key and no answer.
        """
        headers = {} if is_once_by_itself else {"idempotency-key": key or b64u(secrets.token_bytes(16))}
        if if_match is not None:
            headers["if-match"] = if_match
        return self._call("POST", path, _body(document), headers, MAX_ANSWER, is_repeated=is_repeated).json()

    def send(self, path: str, document: Mapping[str, Any]) -> Reply:
        """Perform one act whose answer has no body."""
        headers = {"idempotency-key": b64u(secrets.token_bytes(16))}
        return self._call("POST", path, _body(document), headers, MAX_ANSWER)

    def put(self, path: str, document: Mapping[str, Any], *, if_match: str | None = None) -> Reply:
        """Write one document, which is idempotent by itself."""
        headers = {"if-match": if_match} if if_match is not None else {}
        return self._call("PUT", path, _body(document), headers, MAX_ANSWER)

    def delete(self, path: str) -> Reply:
        """Delete one document."""
        return self._call("DELETE", path, b"", {}, MAX_ANSWER)

    def download(self, path: str, *, maximum: int) -> Iterator[bytes]:
        """Read one long document in pieces, `maximum` bytes in all, without retrying.

        It may take as long as it keeps pace; the time in which the caller works on a piece does not count.
        """
        self._pace.begin()
        request = self._signed("GET", path, b"", {})
        try:
            with self._http.stream("GET", request.url, headers=request.headers) as response:
                if response.status_code != 200:
                    raise self._problem(self._whole(response, MAX_ANSWER))
                for piece in self._pieces(response, maximum):
                    left = self._pace.left()
                    yield piece
                    self._pace.begin(left)
        except FAILURES as error:
            raise failures.explain(self.server, error) from error

    def _call(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], maximum: int, *, is_repeated: bool = True
    ) -> Reply:
        corrected = False
        wait, slept = 0.2, 0.0
        self._pace.begin()  # once for all attempts: five slow answers are no more bearable than one
        for attempt in range(1, ATTEMPTS + 1):
            asked = 0.0
            try:
                reply = self._once(self._signed(method, path, body, headers), maximum)
            except FAILURES as error:
                refusal = failures.explain(self.server, error)
                # What is repeated is idempotent by method or by key, so a lost answer is asked for again. A certificate
                # that does not hold will not hold a second later.
                is_for_good = isinstance(refusal, NotTheServer)
                if attempt == ATTEMPTS or not is_repeated or is_for_good or not self._pace.left():
                    raise refusal from error
            else:
                if reply.status < 300:
                    if self.credential is not None:
                        self.clock.agreed()
                    return reply
                if reply.status == 401 and not corrected and self._correct_clock(reply):
                    corrected = True
                    continue
                problem, asked = self._problem(reply), _retry_after(reply)
                if attempt == ATTEMPTS or not is_repeated or isinstance(problem, ServerReadOnly):
                    raise problem
                if not (reply.status in _RETRIED_STATUS or _is_being_answered(problem)):
                    raise problem
                # Whoever asks sooner than they were told to is refused again: a long wait is the person's to decide on.
                if asked > _MAX_WAIT_SECONDS or (reply.status >= 500 and slept + asked > _AWAY_SECONDS):
                    raise problem
            left = self._pace.left()
            spread = random.uniform(0.8, 1.2)  # noqa: S311 — spreads load
            pause = max(asked, min(wait, _MAX_WAIT_SECONDS) * spread)
            self._sleep(pause)
            slept += pause
            self._pace.begin(left)
            wait *= 2
        raise AssertionError("unreachable")

    def _signed(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Request:
        """Build one attempt: a fresh nonce and date each time, so that a retry is no replay."""
        url = f"{self.server}/api/v1/{path}"
        # Nothing is compressed: what is not unpacked is no bomb, and ciphertext in base64url gains a quarter at most.
        lines = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "holdfast/1",
            **headers,
        }
        digest = ""
        if method not in ("GET", "HEAD"):
            digest = content_digest(body)
            lines["content-digest"] = digest
            lines["content-type"] = "application/json"
        if self.credential is not None:
            turn = self.credential.turns.say() if self.credential.turns else ""
            nonce = secrets.token_bytes(NONCE_SIZE)
            parameters = SignatureParameters(method, self.clock.for_requests(), self.credential.device, nonce, turn)
            signature = self.credential.key.sign(parameters.base(target_uri=url, digest=digest))
            lines |= parameters.fields(signature)
        return httpx2.Request(method, url, headers=lines, content=body)

    def _once(self, request: httpx2.Request, maximum: int) -> Reply:
        with self._http.stream(
            request.method, request.url, headers=request.headers, content=request.content
        ) as response:
            reply = self._whole(response, maximum)
        if 300 <= reply.status < 400:
            raise AnswerRefused("The server points to another address. Holdfast follows no redirects.")
        if reply.status < 200:
            raise AnswerRefused(f"The server answered {reply.status}, which ends no request.")
        return reply

    def _whole(self, response: httpx2.Response, maximum: int) -> Reply:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._hear_turn(headers.get(TURN, ""))
        return Reply(response.status_code, headers, b"".join(self._pieces(response, maximum)))

    def _hear_turn(self, text: str) -> None:
        """Pass on what an answer says of the turn. It proves nothing, so that nothing of it is worth a refusal."""
        if text and self.credential is not None and self.credential.turns:
            with contextlib.suppress(Malformed):
                self.credential.turns.hear(Answered.parse(text))

    def _pieces(self, response: httpx2.Response, maximum: int) -> Iterator[bytes]:
        """Read a body as it comes, at most `maximum` bytes of it and no slower than the pace."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise AnswerRefused("The server's answer is compressed, which nobody asked for.")
        got = 0
        for piece in response.iter_bytes():
            got += len(piece)
            if got > maximum:
                raise AnswerRefused(f"The server's answer is longer than {maximum} bytes.")
            self._pace.came(len(piece))
            yield piece

    def _correct_clock(self, reply: Reply) -> bool:
        try:
            return self.clock.correct(reply.json().time("server_time"))
        except AnswerRefused:
            return False

    def _problem(self, reply: Reply) -> Problem | AnswerRefused:
        try:
            document = reply.json()
            errors = (
                [(row.text("field"), row.text("detail")) for row in document.many("errors")]
                if ("errors" in document)
                else []
            )
            # How long the wait is stands in the header alone; to a person it is the way out.
            seconds = _retry_after(reply) if reply.status == 429 else 0
            way_out = f"Try again in {_spoken(seconds)}." if seconds else ""
            code = document.text("code")
            if code == _UNAUTHENTICATED and self.clock.is_off:
                way_out = f"{self.clock.in_words()} {SET_THE_CLOCK}"
            kind = ServerReadOnly if code == _RESTORED else Problem
            return kind(
                status=reply.status,
                code=code,
                detail=_told(document),
                errors=errors,
                way_out=way_out,
                retry_after=_retry_after(reply),
            )
        except AnswerRefused:
            return AnswerRefused(f"The server answered {reply.status} without saying why.")


def _is_being_answered(problem: Problem | AnswerRefused) -> bool:
    """Whether the same act, asked for before, is under way: asking again under its key gives its answer."""
    return isinstance(problem, Problem) and problem.code == "conflict"


def _told(document: Answer) -> str:
    detail = document.text("detail") if "detail" in document else ""
    return detail or document.text("title")


def _retry_after(reply: Reply) -> float:
    """Return the seconds that the server asks to wait, at most a day; 0 when it asks for none."""
    text = reply.headers.get("retry-after", "")
    return min(float(text), _MOST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0


def _spoken(seconds: float) -> str:
    """Write a wait for people, rounded up: the end of it is never said too early."""
    if seconds <= 90:
        return f"{math.ceil(seconds)} seconds"
    return f"{math.ceil(seconds / 60)} minutes" if seconds <= 5400 else f"{math.ceil(seconds / 3600)} hours"


def _body(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


__all__ = ["SET_THE_CLOCK", "Api", "Clock", "Credential", "Reply", "check_server", "parse_time"]
