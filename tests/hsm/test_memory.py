# SPDX-License-Identifier: Apache-2.0
"""The re-wrapping process's memory, read from outside while the unwrapped object lives (FAULTS H19).

SoftHSM computes inside the process and holds its objects encrypted under a masked key: this shows that our
code and the library's resting state keep no plaintext, not that a hostile reader of memory finds no key.
"""

import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from tests.cast.hsm import OAEP_SHA1, TENANT, Interposer, seal, spki

REWRAPPER = """
import sys
from pathlib import Path
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
config = HsmConfig(home=Path(sys.argv[1]), module=Path(sys.argv[2]))
ref = Ceremony(config).escrow_keys(sys.argv[3])[0].ref
with open_tokens(config, ["escrow"]) as tokens:
    for line in sys.stdin:
        verb, *rest = line.split()
        if verb == "rewrap":
            sealed, recipient = map(bytes.fromhex, rest)
            print(tokens.escrow.rewrap(ref, sealed, recipient).hex(), flush=True)
        else:
            kept = bytes.fromhex(rest[0])
            print("kept", flush=True)
"""


def occurrences(pid: int, secret: bytes) -> int:
    """Count `secret` in all readable memory of the process."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None or "[v" in line:
                continue
            start, end = (int(part, 16) for part in match.groups())
            try:
                memory.seek(start)
                found += memory.read(end - start).count(secret)
            except OSError:
                continue
    return found


def test_rewrap_keeps_the_secret_out_of_the_process_while_the_object_lives(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    secret = secrets.token_bytes(32)
    escrow = Ceremony(interposed).escrow_keys(TENANT)[0]
    process = subprocess.Popen(
        [sys.executable, "-c", REWRAPPER, str(interposed.home), str(interposer.module), TENANT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        interposer.rules("C_UnwrapKey after 1500")
        interposer.forget()
        process.stdin.write(f"rewrap {seal(escrow.spki, secret).hex()} {spki(recipient).hex()}\n")
        _wait_until_unwrapping(interposer, escrow.ref.cka_id)
        assert occurrences(process.pid, secret) == 0
        # Still alive when the scan ended: nothing has been wrapped yet.
        assert interposer.entered("C_WrapKey") == 0
        again = process.stdout.readline()
        assert recipient.decrypt(bytes.fromhex(again), OAEP_SHA1) == secret
        assert occurrences(process.pid, secret) == 0
        # Positive control: the same scan finds it once the process does hold it.
        process.stdin.write(f"keep {secret.hex()}\n")
        assert process.stdout.readline() == "kept\n"
        assert occurrences(process.pid, secret) >= 1
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()
    assert process.returncode == 0


def _wait_until_unwrapping(interposer: Interposer, cka_id: bytes) -> None:
    deadline = time.monotonic() + 20
    while interposer.entered("C_UnwrapKey", cka_id) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The unwrap itself takes some 3 ms; the object then lives for the rest of the delay.
    time.sleep(0.3)
