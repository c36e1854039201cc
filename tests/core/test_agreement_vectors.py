# SPDX-License-Identifier: Apache-2.0
"""What DH and KEM are made of agrees with published answers, and refuses what those call invalid. FAULTS C2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.encoding import unb64u
from holdfast.core.errors import Malformed
from holdfast.core.keys import AgreementKey, KemKey, KeyKind, PublicKey, encapsulate
from holdfast.core.secret import SecretBytes

VECTORS = Path(__file__).parents[1] / "vectors"


def wycheproof(name: str) -> Iterator[Any]:
    document = json.loads((VECTORS / "wycheproof" / f"{name}.json").read_text())
    return (case for group in document["testGroups"] for case in group["tests"])


def known_answers(name: str) -> list[dict[str, bytes]]:
    """Read `name = hex` lines; each `count` begins another answer."""
    found: list[dict[str, bytes]] = []
    for line in (VECTORS / name).read_text().splitlines():
        key, _, text = line.partition(" = ")
        if key == "count":
            found.append({})
        elif text:
            found[-1][key] = bytes.fromhex(text)
    return found


KNOWN = known_answers("rfc/kat_MLKEM_768.first100.rsp")


def test_kem_gives_the_reference_answers_from_seed_to_secret() -> None:
    assert len(KNOWN) == 100
    for known in KNOWN:
        key = KemKey(SecretBytes(known["d"] + known["z"]))
        assert key.public.raw == known["pk"]
        assert key.decapsulate(known["ct"]).reveal() == known["ss"]
        # A ciphertext of nobody's: implicit rejection, a secret of its own and no error.
        assert key.decapsulate(known["ct_n"]).reveal() == known["ss_n"]


def test_encapsulation_takes_exactly_the_keys_that_wycheproof_calls_valid() -> None:
    results = {"valid": 0, "invalid": 0}
    for case in wycheproof("mlkem_768_encaps_test"):
        results[case["result"]] += 1
        key = bytes.fromhex(case["ek"])
        if case["result"] == "valid":
            assert len(encapsulate(PublicKey(KeyKind.ML_KEM_768, key))[0]) == 1088
        else:
            with pytest.raises(Malformed):
                PublicKey(KeyKind.ML_KEM_768, key)
    assert results["valid"] + results["invalid"] == 265
    assert min(results.values()) > 0


def test_p256_agrees_with_wycheproof_or_refuses_the_key() -> None:
    agreed = refused = 0
    for case in wycheproof("ecdh_secp256r1_webcrypto_test"):
        try:
            ours = AgreementKey(KeyKind.P256_AGREEMENT, SecretBytes(unb64u(case["private"]["d"])))
            secret = ours.exchange(point(case["public"])).reveal()
        except Malformed:
            assert case["result"] == "invalid", case["tcId"]
            refused += 1
        else:
            assert case["result"] == "valid", case["tcId"]
            assert secret.hex() == case["shared"]
            agreed += 1
    assert (agreed, refused) == (330, 23)


def point(jwk: Any) -> PublicKey:
    if jwk.get("crv") != "P-256":
        raise Malformed("another curve")
    return PublicKey(KeyKind.P256_AGREEMENT, b"\x04" + unb64u(jwk.get("x", "")) + unb64u(jwk.get("y", "")))
