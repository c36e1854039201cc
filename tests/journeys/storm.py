# SPDX-License-Identifier: Apache-2.0
"""What strangers and one member can send to a server: `python -m tests.journeys.storm PORT SECONDS PROFILE DEVICE`.

A process of its own, so that it takes nothing from the honest client it stands beside. Each kind of trouble has one
thread, a rate of its own and loopback addresses of its own, which the proxy takes for so many sources. Says at the
end, as JSON, what it sent and what it was answered.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from holdfast.client.errors import ClientError, Problem
from holdfast.client.messages import letters
from holdfast.client.messages.letters import LetterKind
from holdfast.client.profile import account as accounts
from holdfast.core.base.secret import SecretBytes

JSON = {"Content-Type": "application/json"}
# As a browser's form: anybody can make the cookie and the field agree.
TOKEN = "0123456789abcdef" * 2
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"csrftoken={TOKEN}"}
# Where a body can be left without a signature, and where one is asked for.
ADDRESSES = ("/api/v1/devices", "/api/v1/cases", "/api/v1/vault", "/api/v1/nowhere", "/console/sign-in/", "/")
SIZE = 60_000
BODIES = {
    "unclosed string": b'"' + b'\\"' * (SIZE // 2),
    "quotes": b'"' * SIZE,
    "unclosed string in an object": b'{"a":"' + b'\\"' * (SIZE // 2),
    "brackets": b"[" * SIZE,
    "digits": b"1" * SIZE,
    "exponents": b"[" + b"1e9," * (SIZE // 4),
    "names": b"{" + b",".join(b'"%d":0' % number for number in range(6_000)) + b"}",
    "the same name": b"{" + b",".join([b'"a":0'] * 9_000) + b"}",
    "surrogates": b'"' + b"\\ud800" * (SIZE // 6) + b'"',
    "spaces": b" " * SIZE,
    "binary": random.Random(7).randbytes(SIZE),
    "base64": json.dumps({"tenant_id": "0", "code_secret": "A" * SIZE, "device_statement": "A"}).encode(),
}


class Storm:
    """Who sends what, for how long, and what came back."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port, self.ends = port, time.monotonic() + seconds
        self.answers: dict[str, Counter[str]] = {}

    def is_over(self) -> bool:
        return time.monotonic() >= self.ends

    def send(self, kind: str, source: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Post one body from a source, and count the answer's status, or how it was not answered."""
        counted = self.answers.setdefault(kind, Counter())
        try:
            asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=(source, 0))
            with closing(asked):
                asked.request("POST", path, body=body, headers=headers)
                answer = asked.getresponse()
                answer.read()
                counted[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            counted[type(error).__name__] += 1

    def run(self, *kinds: Callable[[Storm], None]) -> None:
        threads = [threading.Thread(target=kind, args=(self,)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _sources(third: int, number: int = 250) -> Iterator[str]:
    """Give so many addresses, one after another, again and again."""
    while True:
        yield from (f"127.0.{third}.{last}" for last in range(1, number + 1))


def hostile_bodies(storm: Storm) -> None:
    """Twenty a second: every body to every address."""
    sources = _sources(2)
    while not storm.is_over():
        for path in ADDRESSES:
            for body in BODIES.values():
                storm.send("bodies", next(sources), path, body, JSON)
                time.sleep(0.05)
                if storm.is_over():
                    return


def half_sent(storm: Storm) -> None:
    """Sixty requests at a time that never end, begun anew as they are dropped."""
    counted = storm.answers.setdefault("half-sent", Counter())
    held: list[socket.socket] = []
    sources = _sources(3)
    while not storm.is_over():
        with suppress(OSError):
            stranger = socket.create_connection(("127.0.0.1", storm.port), timeout=5, source_address=(next(sources), 0))
            path = random.choice(ADDRESSES)
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{storm.port}\r\nContent-Type: application/json\r\n"
            stranger.sendall(f"{head}Content-Length: {SIZE}\r\n\r\n{{".encode())
            held.append(stranger)
            counted["held"] += 1
        if len(held) > 60:
            held.pop(0).close()
        time.sleep(0.05)
    for stranger in held:
        stranger.close()


def wrong_sign_ins(storm: Storm) -> None:
    """Each thread at most twenty a second: officers of the tenant, and names that nobody has, from 20 sources."""
    sources = _sources(4, 20)
    names = ["carol", "dan", "erin", "olivia", *(f"nobody{number}" for number in range(40))]
    number = 0
    while not storm.is_over():
        number += 1
        who = {"tenant": "acme", "email": f"{names[number % len(names)]}@acme.test"}
        form = {**who, "password": f"guess {number}", "csrfmiddlewaretoken": TOKEN}
        storm.send("sign-ins", next(sources), "/console/sign-in/", urlencode(form).encode(), FORM)
        time.sleep(1 / 20)


def multipart(storm: Storm) -> None:
    """A file of 1.9 MB a second, to pages and addresses that take none."""
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    body = head + b"z" * 1_900_000 + b"\r\n--x--\r\n"
    sources = _sources(5)
    while not storm.is_over():
        for path in ADDRESSES:
            storm.send("files", next(sources), path, body, {"Content-Type": "multipart/form-data; boundary=x"})
            time.sleep(1)
            if storm.is_over():
                return


def enrolments(storm: Storm) -> None:
    """Twenty a second with codes that nobody made."""
    sources = _sources(6)
    body = json.dumps(
        {"tenant_id": "00000000-0000-4000-8000-000000000000", "code_secret": "A" * 22, "device_statement": "AAAA"}
    ).encode()
    while not storm.is_over():
        storm.send("enrolments", next(sources), "/api/v1/devices", body, JSON)
        time.sleep(0.05)


def member(profile: Path, to: bytes) -> Callable[[Storm], None]:
    """A member's own flood: junk letters to another's device, and reads of their own vault, which ask the HSM."""

    def flood(storm: Storm) -> None:
        counted = storm.answers.setdefault("member", Counter())
        passphrase = SecretBytes((profile / "passphrase").read_bytes().strip())
        with accounts.open_account(profile, passphrase=passphrase) as account:
            account.connect()

            def letter() -> None:
                letters.send(account, to, LetterKind.SHARE, random.randbytes(2_000))

            acts: list[tuple[str, Callable[[], object]]] = [("letter", letter)] * 5
            acts.append(("vault", partial(account.api.get, "vault")))
            while not storm.is_over():
                for name, act in acts:
                    try:
                        act()
                        counted[f"{name} taken"] += 1
                    except Problem as problem:
                        counted[f"{name} {problem.code}"] += 1
                    except ClientError as error:
                        counted[f"{name} {type(error).__name__}"] += 1
                time.sleep(0.2)

    return flood


def main() -> None:
    """Storm, and say what was sent and answered."""
    os.nice(19)  # a stranger's machine is not ours: where both share a processor, the server has it first
    storm = Storm(int(sys.argv[1]), float(sys.argv[2]))
    flood = member(Path(sys.argv[3]), bytes.fromhex(sys.argv[4]))
    storm.run(hostile_bodies, half_sent, *[wrong_sign_ins] * 8, multipart, enrolments, flood)
    print(json.dumps(storm.answers))  # noqa: T201 — its answer


if __name__ == "__main__":
    main()
