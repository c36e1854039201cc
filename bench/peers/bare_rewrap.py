# SPDX-License-Identifier: Apache-2.0
"""The floor of a release: C_UnwrapKey and C_WrapKey through python-pkcs11, with nothing around them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.world import median_of

TIMES = 100


def main() -> None:
    """Read what to re-wrap from standard input, measure, print the median seconds."""
    given = json.load(sys.stdin)
    home = Path(given["home"])
    with tempfile.TemporaryDirectory() as directory:
        # A copy, because a login rewrites the token's file.
        token = max((home / "tokens").glob("escrow-*"))
        shutil.copytree(token, Path(directory) / "tokens")
        print(_measure(given, Path(directory), (home / "pins" / "escrow.pin").read_text().strip()))


def _measure(given: dict[str, str], directory: Path, pin: str) -> float:
    conf = directory / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {directory / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    import pkcs11
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

    from hsm.attributes import ESCROWED, NO_CAPABILITIES, ArrayMapper, oaep_parameters, recipient_public
    from hsm.config import DEBIAN_SOFTHSM

    numbers = load_der_public_key(bytes.fromhex(given["spki"])).public_numbers()
    sealed, oaep = bytes.fromhex(given["sealed"]), oaep_parameters("oaep-sha1")
    template = recipient_public(numbers.n.to_bytes(384, "big"), numbers.e.to_bytes(3, "big"))
    token = next(iter(pkcs11.lib(str(DEBIAN_SOFTHSM)).get_tokens(token_flags=pkcs11.TokenFlag.USER_PIN_INITIALIZED)))
    with token.open(rw=True, user_pin=pin, attribute_mapper=ArrayMapper()) as session:
        key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=bytes.fromhex(given["id"]))

        def rewrap() -> None:
            half = key.unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.AES,
                sealed,
                mechanism=Mechanism.RSA_PKCS_OAEP,
                mechanism_param=oaep,
                capabilities=NO_CAPABILITIES,
                template=ESCROWED,
            )
            public = session.create_object({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **template})
            public.wrap_key(half, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=oaep)
            public.destroy()
            half.destroy()

        return median_of(rewrap, TIMES)


if __name__ == "__main__":
    main()
