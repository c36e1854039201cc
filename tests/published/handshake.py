# SPDX-License-Identifier: Apache-2.0
"""Handshakes of every suite, with every private key in them, and initial messages that begin nothing."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KemKey, decode_public_key
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages import x3dh
from holdfast.core.messages.session import OwnPreKey, Party, Session, read_message
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.devices import Device
from tests.cast.statements import NOW

REFUSALS = 20
Case = dict[str, Any]


def write() -> dict[str, object]:
    """Make the file anew: its keys are fresh each time."""
    cases = [_case(suite, one_time) for suite in Suite for one_time in (0, None)]
    return {
        "page": "docs/formats/handshake.md",
        "cases": cases,
        "refused": {"case": 2, "messages": _refused(cases[2])},
    }


def _party(device: Device) -> Case:
    return {
        "statement": device.signed_statement.payload.hex(),
        "aik": device.aik.public.encoded.hex(),
        "head": device.head.hex(),
        "agreement_seed": device.agreement.seed().reveal().hex(),
    }


def _pre_key(key: OwnPreKey | None) -> Case | None:
    if key is None:
        return None
    seed = {"kem_seed": key.kem.seed().reveal().hex()} if key.kem else {}
    return {"id": key.key_id, "dh_seed": key.dh.seed().reveal().hex(), "statement": key.statement.hex(), **seed}


def _case(suite: Suite, index: int | None) -> Case:
    alice, bob = Device("alice", suite), Device("bob", suite)
    message = alice.initiate(bob, one_time=index).encrypt(b"hello bob")
    initial = read_message(message).initial
    assert initial is not None
    made: Case = {
        "suite": int(suite),
        "initiator": _party(alice),
        "responder": _party(bob),
        "ephemeral": initial.ephemeral.encoded.hex(),
        "signed_pre_key": _pre_key(bob.spk),
        "one_time_pre_key": _pre_key(bob.one_time(initial.one_time_pre_key_id)),
        "ciphertext": (initial.ciphertext or b"").hex(),
    }
    agreed = agreement(made)
    return made | {
        "secrets": [one.reveal().hex() for one in secrets_of(made)],
        "transcript": agreed.transcript.hex(),
        "root": agreed.root.reveal().hex(),
        "header_key": agreed.header.reveal().hex(),
        "next_header_key": agreed.next_header.reveal().hex(),
        "message": message.hex(),
        "plaintext": b"hello bob".hex(),
    }


# -- replaying -----------------------------------------------------------------------------------------------------


def party(said: Case) -> Party:
    """A party, from its bytes."""
    statement = bytes.fromhex(said["statement"])
    aik = decode_public_key(bytes.fromhex(said["aik"]), expect=None)
    return Party(statement, DeviceStatement.from_payload(statement), aik, bytes.fromhex(said["head"]))


def pre_key(case: Case, name: str) -> OwnPreKey | None:
    """A pre-key's private half, from its seeds."""
    said, suite = case[name], Suite(case["suite"])
    if said is None:
        return None
    dh = AgreementKey.from_seed(suite.agreement_kind, SecretBytes(bytes.fromhex(said["dh_seed"])))
    kem = KemKey.from_seed(SecretBytes(bytes.fromhex(said["kem_seed"]))) if "kem_seed" in said else None
    return OwnPreKey(said["id"], dh, kem, bytes.fromhex(said["statement"]))


def own_agreement(case: Case, whose: str) -> AgreementKey:
    """A party's identity agreement key."""
    seed = SecretBytes(bytes.fromhex(case[whose]["agreement_seed"]))
    return AgreementKey.from_seed(Suite(case["suite"]).agreement_kind, seed)


def _given(case: Case) -> dict[str, Any]:
    signed = pre_key(case, "signed_pre_key")
    assert signed is not None
    return {
        "me": party(case["responder"]),
        "agreement": own_agreement(case, "responder"),
        "initiator": party(case["initiator"]),
        "signed": signed,
        "one_time": pre_key(case, "one_time_pre_key"),
    }


def agreement(case: Case) -> x3dh.Agreement:
    """What the responder derives."""
    ephemeral = decode_public_key(bytes.fromhex(case["ephemeral"]), expect=None)
    ciphertext = bytes.fromhex(case["ciphertext"]) or None
    return x3dh.agree_as_responder(**_given(case), ephemeral=ephemeral, ciphertext=ciphertext)


def secrets_of(case: Case) -> list[SecretBytes]:
    """DH1, DH2, DH3, DH4 when there is one, SS when there is one: from the responder's keys."""
    signed, one_time = pre_key(case, "signed_pre_key"), pre_key(case, "one_time_pre_key")
    assert signed is not None
    ephemeral = decode_public_key(bytes.fromhex(case["ephemeral"]), expect=None)
    made = [
        signed.dh.exchange(own_agreement(case, "initiator").public),
        own_agreement(case, "responder").exchange(ephemeral),
        signed.dh.exchange(ephemeral),
    ]
    if one_time is not None:
        made.append(one_time.dh.exchange(ephemeral))
    kem = (one_time or signed).kem
    if kem is not None:
        made.append(kem.decapsulate(bytes.fromhex(case["ciphertext"])))
    return made


def respond(case: Case, message: bytes) -> tuple[Session, bytes]:
    """Answer an initial message with a case's keys."""
    return Session.respond(read_message(message), **_given(case), now=NOW)


def _refused(case: Case) -> list[Case]:
    """Mutations of one message, each refused: some by kind, the rest at random places."""
    message = bytes.fromhex(case["message"])
    incoming = read_message(message)
    initial = incoming.initial
    assert initial is not None
    top = initial.ephemeral.raw[:31] + bytes((initial.ephemeral.raw[31] | 0x80,))
    named = {
        "empty": b"",
        "another version": b"\x02" + message[1:],
        "another type": message[:1] + b"\x03" + message[2:],
        "unknown suite": message[:2] + b"\x05" + message[3:],
        "another suite": message[:2] + b"\x01" + message[3:],
        "a flag": message[:3] + b"\x01" + message[4:],
        "initial part stripped": bytes((1, 2, case["suite"], 0)) + incoming.sealed,
        "cut short": message[:-1],
        "grown": message + b"\0",
        "top bit of EK set": message.replace(initial.ephemeral.raw, top),
        "EK of small order": message.replace(initial.ephemeral.raw, bytes(32)),
        "no one-time key named": replace(initial, one_time_pre_key_id=None).encode() + incoming.sealed,
        "another chain head": replace(initial, initiator_head=bytes(32)).encode() + incoming.sealed,
    }
    rows = [{"why": why, "message": changed.hex()} for why, changed in named.items()]
    statement = message.index(initial.device_statement.payload)
    while len(rows) < REFUSALS:
        # Not in the statement's own signature: that is the chain's to check.
        at = secrets.choice([*range(statement), *range(len(incoming.initial_bytes) - 1100, len(message))])
        changed = message[:at] + bytes((message[at] ^ 1 << secrets.randbelow(8),)) + message[at + 1 :]
        try:
            respond(case, changed)
        except HoldfastError:
            rows.append({"why": f"a bit changed at {at}", "message": changed.hex()})
    return rows
