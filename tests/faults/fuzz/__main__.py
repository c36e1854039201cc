# SPDX-License-Identifier: Apache-2.0
"""Feed a parser, or every one, with atheris; what follows goes to libFuzzer (`-runs=1000000`, `-seed=1`, a corpus)."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "holdfast.core",
        "holdfast.client.server.answers",
        "holdfast.client.profile.head",
        "holdfast.client.vault.vault_contents",
    ]
):
    from tests.faults.fuzz.parsers import PARSERS

from holdfast.client.errors import ClientError
from holdfast.core.base.errors import HoldfastError

EVERY = "every"


def main(arguments: list[str]) -> int:
    """Fuzz until the runs asked for are done; 0 when nothing was found. What was found is left in a file of /tmp."""
    if not arguments or arguments[0] not in (EVERY, *PARSERS):
        sys.stderr.write(f"python -m tests.faults.fuzz <parser> [options of libFuzzer], of {', '.join(PARSERS)}\n")
        return 2
    name, *options = arguments
    found = [one for one in (PARSERS if name == EVERY else (name,)) if fuzz(one, options)]
    sys.stderr.write(f"found: {', '.join(found) or 'nothing'}\n")
    return 1 if found else 0


def fuzz(name: str, options: list[str]) -> int:
    """Fuzz one parser in a process of its own, which libFuzzer ends; returns its exit code."""
    parser = PARSERS[name]

    def feed(data: bytes) -> None:
        try:
            parser.feed(data)
        except (HoldfastError, ClientError):
            return

    with tempfile.TemporaryDirectory(prefix=f"holdfast-fuzz-{name}-") as directory:
        for number, sample in enumerate(parser.samples):
            (Path(directory) / str(number)).write_bytes(sample)
        child = os.fork()
        if not child:
            kept = f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{name}-"
            only = f"-only_ascii={int(parser.is_ascii)}"
            atheris.Setup([f"fuzz {name}", "-timeout=10", kept, only, *options, directory], feed)
            atheris.Fuzz()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
