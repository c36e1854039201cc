# SPDX-License-Identifier: Apache-2.0
"""The SDK for browsers in Chromium: its steps beside the primitives they are made of, and beside another library.

What is timed stands in bench/web: the floor has each primitive of WebCrypto's or noble's once, one after the other.
"""

from __future__ import annotations

import gzip
import mimetypes
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

from bench.world import NotMeasured, Row, figure, missing, report, row, say
from tests.cast import node
from tests.cast.chromium import chromium

HERE: Final = Path(__file__).parent.parent / "web"
PEER: Final = "matrix-sdk-crypto-wasm"
_PACKAGE: Final = HERE / "node_modules" / "@matrix-org" / PEER
GOAL: Final = "<= 1.3"
STEP_SECONDS: Final = 600
# With both headers a page is told the time in 5 µs, and without in 100.
_ISOLATED: Final = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}
STEPS: Final = {
    "initiate": ("web: initiate, hybrid", "µs", 1e6),
    "encrypt": ("web: encrypt 1 KiB", "µs", 1e6),
    "decrypt": ("web: decrypt 1 KiB in order", "µs", 1e6),
    "batch": ("web: 100 hybrid one-time keys", "ms", 1e3),
    "vault": ("web: open a vault of 4 KiB by its key", "µs", 1e6),
    "password": ("web: open it by a password, beside Argon2id", "ms", 1e3),
}
BESIDE: Final = {
    "beginBeside": ("web: begin and encrypt 1 KiB (ours hybrid)", "µs", 1e6),
    "encryptBeside": ("web: encrypt 1 KiB", "µs", 1e6),
    "decryptBeside": ("web: decrypt 1 KiB in order", "µs", 1e6),
    "batchBeside": ("web: 100 one-time keys (ours hybrid)", "ms", 1e3),
}


def peer() -> None:
    """Get the other library as the lock file names it. Raises NotMeasured with what npm said, when it cannot be had."""
    if _PACKAGE.exists():
        return
    say(f"getting {PEER}")
    try:
        node.run(*node.NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", cwd=HERE)
    except AssertionError as error:
        last = next((line for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
        raise NotMeasured(f"{PEER} cannot be installed ({last})") from error


def built(directory: Path, entry: str) -> dict[str, bytes]:
    """Bundle one file of bench/web, and return the files of the page by path."""
    node.run(str(node.NODE), str(HERE / "bundle.mjs"), entry, str(directory))
    files = {f"/{path.name}": path.read_bytes() for path in directory.iterdir()}
    if _PACKAGE.exists():
        files["/matrix.wasm"] = (_PACKAGE / "pkg" / "matrix_sdk_crypto_wasm_bg.wasm").read_bytes()
    files["/"] = f'<!doctype html><title>Steps</title><script type="module" src="/{entry}.js"></script>'.encode()
    return files


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files on this machine, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            kind = "text/html" if self.path == "/" else mimetypes.guess_type(self.path)[0]
            for name, value in {**_ISOLATED, "content-type": kind or "application/octet-stream"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/"
    http.shutdown()
    http.server_close()


@contextmanager
def page(entry: str) -> Iterator[Page]:
    """Open a page in which `measure` is there."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        files = built(Path(name), entry)
    with served(files) as url, chromium() as browser:
        opened = browser.new_page()
        opened.set_default_timeout(STEP_SECONDS * 1000)
        opened.on("pageerror", lambda error: say(f"the page: {error}"))
        opened.goto(url)
        opened.wait_for_function("globalThis.measure !== undefined && crossOriginIsolated")
        yield opened


def steps() -> list[Row]:
    """The steps, each beside its primitives."""
    with page("steps") as opened:
        return [_row(opened, name, *how, goal=GOAL) for name, how in STEPS.items()]


def beside() -> list[Row]:
    """The steps beside the same of another library; ratios below 1 are ours ahead."""
    try:
        peer()
    except NotMeasured as reason:
        return [missing(f"{what}, beside {PEER}", reason) for what, _, _ in BESIDE.values()]
    with page("beside") as opened:
        return [_row(opened, name, *how, beside=PEER) for name, how in BESIDE.items()]


def _row(opened: Page, name: str, what: str, unit: str, scale: float, **how: str) -> Row:
    say(what)
    ours, floor = opened.evaluate("name => measure(name)", name)
    return row(what, ours, floor, unit, scale=scale, **how)


def sizes() -> list[Row]:
    """What a page loads before it does anything, by gzip."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        # Over the limit it ends with 1, and says its sizes all the same.
        command = [str(node.NODE), "scripts/bundle.mjs", name]
        done = subprocess.run(
            command, cwd=node.SDK, env=node.environment(), text=True, capture_output=True, check=False
        )
        said = done.stdout + done.stderr
    found = re.search(r"^ *(\d+) B gzip at first", said, re.MULTILINE)
    assert found is not None, said
    size = int(found[1])
    rows = [figure("web: what a page loads at first, by gzip", size / 1000, "kB", goal="<= 60")]
    if _PACKAGE.exists():
        parts = [_PACKAGE / "pkg" / f"matrix_sdk_crypto_wasm_bg.{kind}" for kind in ("js", "wasm")]
        theirs = sum(len(gzip.compress(part.read_bytes(), 9)) for part in parts)
        rows.append(row("web: what a page loads at first, by gzip", size / 1000, theirs / 1000, "kB", beside=PEER))
    return rows


def main() -> None:
    """Measure and report."""
    node.ready()
    loads = [os.getloadavg()[0]]
    rows = [*steps(), *beside(), *sizes()]
    loads.append(os.getloadavg()[0])
    # A page is told wall time only: what others did on the machine meanwhile is in every figure of this part.
    load = f"{min(loads):.0f} to {max(loads):.0f}, {os.cpu_count()} cores"
    report([*rows, {"what": "web:   processes that wanted a core meanwhile, with our own", "ours": load}])


if __name__ == "__main__":
    main()
