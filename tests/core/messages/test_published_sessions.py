# SPDX-License-Identifier: Apache-2.0
"""The published vectors of handshake, ratchet and content replay as any other implementation would replay them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.base.errors import HoldfastError, Malformed, UnwrapFailed
from holdfast.core.base.padding import pad, unpad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import decode_public_key
from holdfast.core.crypto.safety import own_number, pair_number
from holdfast.core.messages.content import Content, LargeReference, open_large
from holdfast.core.messages.ratchet import derive_chain, derive_root
from holdfast.core.messages.session import Session
from tests.published import handshake

VECTORS = Path(__file__).parents[2] / "vectors" / "holdfast"


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


HANDSHAKE, RATCHET, CONTENT = read("handshake"), read("ratchet"), read("content")
EVENTS = [event for session in RATCHET["sessions"] for event in session["events"]]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("case", HANDSHAKE["cases"], ids=lambda case: f"suite-{case['suite']}")
def test_handshake_derives_what_is_published_and_opens_the_message(case: Any) -> None:
    agreed = handshake.agreement(case)
    assert [one.reveal().hex() for one in handshake.secrets_of(case)] == case["secrets"]
    assert agreed.transcript.hex() == case["transcript"]
    assert agreed.root.reveal().hex() == case["root"]
    assert agreed.header.reveal().hex() == case["header_key"]
    assert agreed.next_header.reveal().hex() == case["next_header_key"]
    session, plaintext = handshake.respond(case, octets(case["message"]))
    assert plaintext.hex() == case["plaintext"]
    assert session.transcript == agreed.transcript


def test_handshakes_are_published_of_each_suite_with_and_without_a_one_time_key() -> None:
    kinds = {(case["suite"], case["one_time_pre_key"] is None) for case in HANDSHAKE["cases"]}
    assert kinds == {(suite, is_bare) for suite in (1, 2, 3, 4) for is_bare in (False, True)}
    assert len(HANDSHAKE["refused"]["messages"]) >= 20


@pytest.mark.parametrize("row", HANDSHAKE["refused"]["messages"], ids=lambda row: row["why"])
def test_handshake_refuses_each_published_mutation(row: Any) -> None:
    with pytest.raises(HoldfastError):
        handshake.respond(HANDSHAKE["cases"][HANDSHAKE["refused"]["case"]], octets(row["message"]))


def test_steps_of_the_ratchet_are_as_published() -> None:
    root, chain = RATCHET["root_step"], RATCHET["chain_step"]
    derived = [one.hex() for one in derive_root(octets(root["root"]), octets(root["dh"]))]
    assert derived == [root["next_root"], root["chain"], root["next_header_key"]]
    given = [one.hex() for one in derive_chain(octets(chain["chain"]))]
    assert given == [chain["message_key"], chain["next_chain"]]
    for row in RATCHET["padding"]:
        assert pad(octets(row["plaintext"])).hex() == row["padded"]
        assert unpad(octets(row["padded"])).hex() == row["plaintext"]


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_message_meets_the_published_state(event: Any) -> None:
    session = Session.from_secret(SecretBytes(octets(event["state"])))
    session.restore_skipped(SecretBytes(octets(event["skipped"])))
    if event["plaintext"] is None:
        with pytest.raises(UnwrapFailed):
            session.decrypt(octets(event["message"]), now=RATCHET["now"])
    else:
        assert session.decrypt(octets(event["message"]), now=RATCHET["now"]).hex() == event["plaintext"]
    if "after" in event:
        assert session.to_secret().reveal().hex() == event["after"]
        assert session.skipped_to_secret().reveal().hex() == event["skipped_after"]


def test_published_transcript_has_steps_skips_late_messages_and_replays() -> None:
    assert [len(session["events"]) for session in RATCHET["sessions"]] == [40, 40]
    for session in RATCHET["sessions"]:
        events = session["events"]
        assert len([one for one in events if "after" not in one]) >= 5  # steps
        assert len([one for one in events if one["plaintext"] is None]) >= 2  # replays
        assert len([one for one in events if len(one["skipped"]) > 200]) >= 5  # with keys stored


@pytest.mark.parametrize("name", CONTENT["contents"])
def test_content_reads_back_as_published(name: str) -> None:
    data = octets(CONTENT["contents"][name])
    assert Content.decode(data).encode() == data


@pytest.mark.parametrize("why", CONTENT["refused"])
def test_content_refuses_each_published_mutation(why: str) -> None:
    with pytest.raises(Malformed):
        Content.decode(octets(CONTENT["refused"][why]))


def test_large_content_opens_as_published() -> None:
    large = CONTENT["large"]
    reference = LargeReference(SecretBytes(octets(large["key"])), octets(large["hash"]), large["size"])
    assert open_large(octets(large["ciphertext"]), reference).hex() == large["plaintext"]


def test_safety_number_is_as_published() -> None:
    said = CONTENT["safety_number"]
    halves = [
        own_number(
            tenant=octets(said["tenant"]),
            user=octets(one["user"]),
            aik=decode_public_key(octets(one["aik"]), expect=None),
        )
        for one in said["people"]
    ]
    assert [list(half) for half in halves] == [one["half"] for one in said["people"]]
    assert list(pair_number(halves[0], halves[1])) == said["number"]
