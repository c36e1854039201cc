# SPDX-License-Identifier: Apache-2.0
"""What DH and KEM are made of agrees with published answers, and refuses what those call invalid. FAULTS C2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KemKey, KeyKind, PublicKey, encapsulate

VECTORS = Path(__file__).parents[2] / "vectors"


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


def draft_answer(name: str) -> dict[str, bytes]:
    """Read what goes in and comes out of the algorithms in a CCTV file, without the steps between."""
    lines = (line.partition(" = ") for line in (VECTORS / f"cctv/mlkem768-{name}.txt").read_text().splitlines())
    return {key: bytes.fromhex(text) for key, _, text in lines if key in {"d", "z", "ek", "dk", "c", "K", "KBar"}}


KNOWN = known_answers("rfc/kat_MLKEM_768.first100.rsp")


def test_kem_gives_the_reference_answers_from_seed_to_secret() -> None:
    assert len(KNOWN) == 100
    for known in KNOWN:
        key = KemKey(SecretBytes(known["d"] + known["z"]))
        assert key.public.raw == known["pk"]
        assert key.decapsulate(known["ct"]).reveal() == known["ss"]
        # A ciphertext of nobody's: implicit rejection, a secret of its own and no error.
        assert key.decapsulate(known["ct_n"]).reveal() == known["ss_n"]


@pytest.mark.parametrize("name", ["intermediate", "unluckysample"])
def test_kem_expands_its_seed_as_the_standard_does_and_not_as_the_draft_that_cctv_follows(name: str) -> None:
    answer = draft_answer(name)
    key = KemKey(SecretBytes(answer["d"] + answer["z"]))
    # The end of a key is the first half of G: of d in the draft, of d and the rank 3 in FIPS 203.
    assert answer["ek"][-32:] == hashlib.sha3_512(answer["d"]).digest()[:32]
    assert key.public.raw[-32:] == hashlib.sha3_512(answer["d"] + b"\3").digest()[:32]
    assert len(encapsulate(PublicKey(KeyKind.ML_KEM_768, answer["ek"]))[0]) == 1088
    ciphertext, secret = encapsulate(key.public)
    assert key.decapsulate(ciphertext) == secret


def test_kem_rejects_with_the_secret_of_cctv() -> None:
    step, strcmp = draft_answer("intermediate"), draft_answer("strcmp")
    # Rejection hashes z and the ciphertext alone, so any d will do; an expanded key has z at its end.
    for z, ciphertext, secret in ((step["z"], step["c"], step["KBar"]), (strcmp["dk"][-32:], strcmp["c"], strcmp["K"])):
        assert KemKey(SecretBytes(bytes(32) + z)).decapsulate(ciphertext).reveal() == secret


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
