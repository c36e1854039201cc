# SPDX-License-Identifier: Apache-2.0
"""A transcript counts for its very text alone, signed by the root and by a key that the log has or had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.transcript import transcript_payload, verify_transcript
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from tests.cast.statements import ACME, ALICE, MALLORY_TENANT, NOW, ROOT, TENANT

LOG, OLD_LOG = SigningKey.generate(), SigningKey.generate()
TEXT = b"Ceremonies of Holdfast\n   1  make its root key\n"


def signed(*keys: SigningKey, text: bytes = TEXT, purpose: Purpose = Purpose.TRANSCRIPT, **header: Any) -> bytes:
    payload = transcript_payload(replace(TENANT, **header), text)
    return cose.encode_many([cose.sign(payload, purpose=purpose, key=key) for key in keys])


def verified(octets: bytes, **given: Any) -> Any:
    wanted: dict[str, Any] = {"text": TEXT, "tenant": ACME, "root_key": ROOT.public, "log_keys": [LOG.public]}
    return verify_transcript(octets, **(wanted | given))


@pytest.mark.parametrize("key", [LOG, OLD_LOG])
def test_both_signatures_over_this_text_hold(key: SigningKey) -> None:
    found = verified(signed(ROOT, key), log_keys=[OLD_LOG.public, LOG.public])
    assert (found.issued_at, found.is_by_log) == (NOW, True)


def test_without_a_log_key_the_root_alone_is_checked_and_that_is_said() -> None:
    assert verified(signed(ROOT, LOG), log_keys=None).is_by_log is False
    with pytest.raises(InvalidSignature):
        verified(signed(OLD_LOG, LOG), log_keys=None)


WRONG: dict[str, tuple[Callable[[], bytes], dict[str, Any], type[HoldfastError]]] = {
    "another text": (lambda: signed(ROOT, LOG), {"text": TEXT + b" "}, Untrusted),
    "another tenant": (lambda: signed(ROOT, LOG), {"tenant": MALLORY_TENANT}, Untrusted),
    "another root": (lambda: signed(OLD_LOG, LOG), {}, InvalidSignature),
    "another log key": (lambda: signed(ROOT, OLD_LOG), {}, InvalidSignature),
    "no log key": (lambda: signed(ROOT, LOG), {"log_keys": []}, InvalidSignature),
    "one key for both": (lambda: signed(ROOT, LOG), {"log_keys": [ROOT.public]}, InvalidSignature),
    "another purpose": (lambda: signed(ROOT, LOG, purpose=Purpose.ROLES), {}, InvalidSignature),
    "the root alone": (lambda: signed(ROOT), {}, Malformed),
    "three signers": (lambda: signed(ROOT, LOG, OLD_LOG), {}, Malformed),
    "about a person": (lambda: signed(ROOT, LOG, user=ALICE), {}, Malformed),
    "no statement": (lambda: b"\x80", {}, Malformed),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_just_that_is_refused(name: str) -> None:
    make, given, refusal = WRONG[name]
    with pytest.raises(refusal):
        verified(make(), **given)


@pytest.mark.parametrize("which", [0, 1])
def test_each_bit_of_either_signature_counts(which: int) -> None:
    statements = list(cose.parse_many(signed(ROOT, LOG)))
    one = statements[which]
    statements[which] = replace(one, signature=one.signature[:-1] + bytes([one.signature[-1] ^ 1]))
    with pytest.raises(InvalidSignature):
        verified(cose.encode_many(statements))
