# SPDX-License-Identifier: Apache-2.0
"""The handshake: both ends agree, as the page says byte for byte, and on nothing when anything was exchanged."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import (
    AgreementKey,
    KemKey,
    KeyKind,
    PublicKey,
    SigningKey,
    decode_public_key,
    encapsulate,
)
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages import x3dh
from holdfast.core.messages.prekeys import OneTimePreKey, SignedPreKey
from holdfast.core.messages.ratchet import Ratchet
from holdfast.core.messages.session import Party, Session, read_message
from holdfast.core.messages.wire import INITIAL, InitialPart, prefix
from holdfast.core.messages.x3dh import agree_as_initiator, agree_as_responder
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.devices import FIRST_ONE_TIME, Device
from tests.cast.statements import MALLORY_TENANT, NOW, hash_of

VECTORS = Path(__file__).parents[2] / "vectors"
P = 2**255 - 19
# Every u of 255 bits whose multiples by a clamped scalar are zero: five canonical ones, and p and p + 1.
SMALL_ORDER = [
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
]
ALICE = {suite: Device("alice", suite) for suite in Suite}
BOB = {suite: Device("bob", suite) for suite in Suite}
KINDS_OF_BUNDLE = [0, None]


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 in three lines, so that the derivation is not tested by itself."""
    prk, okm, block = hmac.digest(salt, ikm, "sha256"), b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes((counter,)), "sha256")
        okm += block
    return okm[:length]


def initial_of(message: bytes) -> InitialPart:
    initial = read_message(message).initial
    assert initial is not None
    return initial


def rewritten(message: bytes, **changes: Any) -> bytes:
    """The message with its initial part changed, as a server would change it."""
    incoming = read_message(message)
    changed = replace(initial_of(message), **changes)
    return changed._framed(changed._values()) + incoming.sealed


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("one_time", KINDS_OF_BUNDLE)
def test_both_ends_derive_what_the_page_says(suite: Suite, one_time: int | None) -> None:
    alice, bob, bundle = ALICE[suite], BOB[suite], BOB[suite].bundle(one_time)
    ephemeral = AgreementKey.generate(suite.agreement_kind)
    agreed, ciphertext = agree_as_initiator(
        me=alice.party, agreement=alice.agreement, ephemeral=ephemeral, peer=bob.party, bundle=bundle
    )
    own = bob.one_time(None if one_time is None else FIRST_ONE_TIME + one_time)
    assert agreed == agree_as_responder(
        me=bob.party,
        agreement=bob.agreement,
        initiator=alice.party,
        ephemeral=ephemeral.public,
        signed=bob.spk,
        one_time=own,
        ciphertext=ciphertext,
    )
    kem = own.kem if own else bob.spk.kem
    stated: list[Any] = [
        "holdfast/v1",
        "x3dh",
        int(suite),
        alice.signed_statement.payload,
        bob.signed_statement.payload,
    ]
    stated += [ephemeral.public.encoded, bob.signed_spk.payload, own.statement if own else b"", ciphertext or b""]
    stated += [alice.aik.public.encoded, alice.head, bob.aik.public.encoded, bob.head]
    transcript = hashlib.sha256(encode(stated)).digest()
    material = b"\xff" * 32
    for ours, theirs in (
        (bob.spk.dh, alice.agreement.public),
        (bob.agreement, ephemeral.public),
        (bob.spk.dh, ephemeral.public),
        *([(own.dh, ephemeral.public)] if own else []),
    ):
        material += ours.exchange(theirs).reveal()
    if kem is not None and ciphertext is not None:
        material += kem.decapsulate(ciphertext).reveal()
    okm = hkdf(bytes(32), material, encode(["holdfast/v1/x3dh", int(suite), transcript]), 96)
    derived = (agreed.transcript, agreed.root.reveal(), agreed.header.reveal(), agreed.next_header.reveal())
    assert derived == (transcript, okm[:32], okm[32:64], okm[64:])
    assert (ciphertext is not None) is suite.has_kem


@pytest.mark.parametrize("vector", [0, 1])
def test_key_material_is_pqxdhs(vector: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F || DH1 || … || SS under a zero salt gives a published answer of PQXDH; only info and length are our own."""
    answers = json.loads((VECTORS / "tacenta" / "dr-pqxdh-kdf-tacenta.json").read_text())
    one = answers["pqxdh"][vector]
    secrets = [SecretBytes(bytes.fromhex(text)) for text in (*one["dh"], one["ss"])]
    info = answers["labels"]["SK_INFO"].encode()
    okm = HKDF(hashes.SHA256(), 32, x3dh._SALT, info).derive(x3dh._material(secrets))
    assert okm.hex() == one["sk"]


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("one_time", KINDS_OF_BUNDLE)
def test_first_message_opens_in_every_suite(suite: Suite, one_time: int | None) -> None:
    hers = ALICE[suite].initiate(BOB[suite], one_time=one_time)
    his, plaintext = BOB[suite].respond(hers.encrypt(b"hello"), ALICE[suite])
    assert plaintext == b"hello"
    assert hers.transcript == his.transcript
    assert hers.initial_hash == his.initial_hash
    assert hers.is_last_resort is his.is_last_resort is (one_time is None)
    assert (hers.suite, his.suite) == (suite, suite)


@pytest.mark.parametrize(
    ("one", "other"),
    [(Suite.CLASSICAL, Suite.HYBRID), (Suite.HYBRID, Suite.CLASSICAL), (Suite.HYBRID_P256, Suite.CLASSICAL_P256)],
)
def test_session_has_the_responders_suite_when_the_curves_are_one(one: Suite, other: Suite) -> None:
    hers = ALICE[one].initiate(BOB[other])
    assert BOB[other].respond(hers.encrypt(b"hello"), ALICE[one])[1] == b"hello"
    assert hers.suite is other


@pytest.mark.parametrize("other", [Suite.CLASSICAL_P256, Suite.HYBRID_P256])
def test_session_is_refused_between_two_curves(other: Suite) -> None:
    with pytest.raises(Untrusted, match="curves"):
        ALICE[Suite.HYBRID].initiate(BOB[other])


def test_session_is_refused_with_oneself_and_across_tenants() -> None:
    alice = ALICE[Suite.HYBRID]
    with pytest.raises(Untrusted, match="two devices"):
        alice.initiate(alice)
    with pytest.raises(Untrusted, match="one tenant"):
        alice.initiate(Device("bob", Suite.HYBRID, tenant=MALLORY_TENANT))


def unchecked(by: Device, to: Device) -> bytes:
    """A first message as an initiator makes it who checks nothing."""
    bundle, ephemeral = to.bundle(None), AgreementKey.generate(to.suite.agreement_kind)
    agreed, ciphertext = agree_as_initiator(
        me=by.party, agreement=by.agreement, ephemeral=ephemeral, peer=to.party, bundle=bundle
    )
    keys = {"root": agreed.root, "header": agreed.header, "next_header": agreed.next_header}
    ratchet = Ratchet.initiator(ad=agreed.transcript, peer=bundle.signed_pre_key.dh, **keys)
    initial = InitialPart(
        to.suite,
        by.signed_statement,
        ephemeral.public,
        bundle.signed_pre_key.key_id,
        None,
        ciphertext,
        by.head,
        to.head,
    )
    return initial.encode() + ratchet.encrypt(b"hello", prefix(INITIAL, to.suite))


def test_responder_refuses_another_tenant_itself_and_a_message_of_another_suite() -> None:
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    assert bob.respond(unchecked(alice, bob), alice)[1] == b"hello"
    foreign = Device("mallory", Suite.HYBRID, tenant=MALLORY_TENANT)
    with pytest.raises(Untrusted, match="one tenant"):
        bob.respond(unchecked(foreign, bob), foreign)
    with pytest.raises(Untrusted, match="two devices"):
        bob.respond(unchecked(bob, bob), bob)
    renamed = rewritten(unchecked(alice, bob), suite=Suite.CLASSICAL, ciphertext=None)
    with pytest.raises(Untrusted, match="another suite"):
        bob.respond(renamed, alice)


# -- a server that changes the initial part ------------------------------------------------------------------------


def refused(message: bytes, suite: Suite = Suite.HYBRID, **changes: Any) -> None:
    """Nothing but the derived keys tells: the one error of all that does not open."""
    with pytest.raises(UnwrapFailed):
        BOB[suite].respond(message, ALICE[suite], **changes)


def test_responder_refuses_an_ephemeral_key_shifted_by_torsion() -> None:
    """The secrets stay the same, since scalars are multiples of 8; the transcript does not."""
    message = ALICE[Suite.HYBRID].initiate(BOB[Suite.HYBRID]).encrypt(b"hello")
    own = initial_of(message).ephemeral
    for shifted in torsion_shifts(own):
        assert BOB[Suite.HYBRID].agreement.exchange(shifted) == BOB[Suite.HYBRID].agreement.exchange(own)
        refused(rewritten(message, ephemeral=shifted))
    assert BOB[Suite.HYBRID].respond(message, ALICE[Suite.HYBRID])[1] == b"hello"


def torsion_shifts(key: PublicKey) -> list[PublicKey]:
    """Other u of the same secrets: the points that differ by one of order 2 or 4, by the curve's own addition law."""
    u, prime = int.from_bytes(key.raw, "little"), P
    v = square_root((u**3 + 486662 * u**2 + u) % prime)
    shifts = [pow(u, -1, prime)]  # plus the point (0, 0) of order 2
    one_v = square_root((1 + 486662 + 1) % prime)  # u = 1 is of order 4
    if one_v is not None and v is not None:
        slope = (one_v - v) * pow(1 - u, -1, prime)
        shifts.append((slope * slope - 486662 - u - 1) % prime)
    return [PublicKey(KeyKind.X25519, shifted.to_bytes(32, "little")) for shifted in shifts]


def square_root(value: int) -> int | None:
    root = pow(value, (P + 3) // 8, P)
    for candidate in (root, root * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == value:
            return candidate
    return None


def test_responder_refuses_a_set_top_bit_and_every_other_encoding_of_the_ephemeral_key() -> None:
    hers = ALICE[Suite.HYBRID].initiate(BOB[Suite.HYBRID])
    message = hers.encrypt(b"hello")
    own = initial_of(message).ephemeral
    top = own.raw[:31] + bytes((own.raw[31] | 0x80,))
    assert message.count(own.encoded) == 1
    with pytest.raises(Malformed, match="canonical"):
        BOB[Suite.HYBRID].respond(message.replace(own.encoded, b"\x02" + top), ALICE[Suite.HYBRID])
    with pytest.raises(Malformed, match="canonical"):
        decode_public_key(b"\x02" + top, expect=KeyKind.X25519)


@pytest.mark.parametrize("u", SMALL_ORDER, ids=lambda u: u.hex()[:8])
def test_small_order_is_refused_at_every_place_where_a_key_enters_a_dh(u: bytes) -> None:
    with pytest.raises(Malformed):
        PublicKey(KeyKind.X25519, u)
    hostile = b"\x02" + u
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    message = alice.initiate(bob).encrypt(b"hello")
    with pytest.raises(Malformed, match="small order"):
        bob.respond(message.replace(initial_of(message).ephemeral.encoded, hostile), alice)  # EK
    for parse, data, own in (
        (DeviceStatement.from_payload, alice.signed_statement.payload, alice.agreement.public),  # IDK
        (SignedPreKey.from_payload, bob.signed_spk.payload, bob.spk.dh.public),  # SPK
    ):
        with pytest.raises(Malformed, match="small order"):
            parse(data.replace(own.encoded, hostile))
    leaf = bob.leaves.leaves[0].leaf
    key = OneTimePreKey.from_leaf(leaf, Suite.HYBRID).dh.encoded
    with pytest.raises(Malformed, match="small order"):
        OneTimePreKey.from_leaf(leaf.replace(key, hostile), Suite.HYBRID)  # OTPK


@pytest.mark.parametrize("u", SMALL_ORDER, ids=lambda u: u.hex()[:8])
def test_all_zero_secret_is_refused_at_every_dh_of_both_ends(u: bytes) -> None:
    """A key that came past the decoder all the same, as a damaged store would let one."""
    hostile = PublicKey._of_parsed(KeyKind.X25519, u, b"\x02" + u, X25519PublicKey.from_public_bytes(u))
    alice, bob = ALICE[Suite.CLASSICAL], BOB[Suite.CLASSICAL]
    for key in (bob.spk.dh, bob.agreement, alice.agreement, AgreementKey.generate()):
        with pytest.raises(Malformed, match="all-zero"):
            key.exchange(hostile)
    with pytest.raises(Malformed, match="all-zero"):
        agree_as_responder(
            me=bob.party,
            agreement=bob.agreement,
            initiator=alice.party,
            ephemeral=hostile,
            signed=bob.spk,
            one_time=None,
            ciphertext=None,
        )


@pytest.mark.parametrize("one_time", KINDS_OF_BUNDLE)
def test_responder_refuses_a_re_encapsulated_ciphertext(one_time: int | None) -> None:
    """The server knows the public key too, and the secret that it encapsulated: the transcript has the ciphertext."""
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    message = alice.initiate(bob, one_time=one_time).encrypt(b"hello")
    kem = bob.one_time(None if one_time is None else FIRST_ONE_TIME)
    public = (kem or bob.spk).kem
    assert public is not None
    own = initial_of(message).ciphertext
    assert own is not None
    for other in (encapsulate(public.public)[0], bytes(1088), own[:-1] + bytes((own[-1] ^ 1,))):
        refused(rewritten(message, ciphertext=other))


def test_ciphertext_of_the_same_secret_changes_every_derived_key() -> None:
    """A server that could make two ciphertexts of one secret would still gain nothing."""
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    bundle, ephemeral = bob.bundle(None), AgreementKey.generate()
    agreed, ciphertext = agree_as_initiator(
        me=alice.party, agreement=alice.agreement, ephemeral=ephemeral, peer=bob.party, bundle=bundle
    )
    assert ciphertext is not None

    class Colluding(KemKey):
        """Gives the secret of the first ciphertext for every other."""

        def decapsulate(self, _: bytes) -> SecretBytes:
            assert ciphertext is not None
            return super().decapsulate(ciphertext)

    assert bob.spk.kem is not None
    colluding = replace(bob.spk, kem=Colluding(bob.spk.kem.seed()))
    given: dict[str, Any] = {
        "me": bob.party,
        "agreement": bob.agreement,
        "initiator": alice.party,
        "ephemeral": ephemeral.public,
        "signed": colluding,
        "one_time": None,
    }
    assert agree_as_responder(**given, ciphertext=ciphertext) == agreed
    other = agree_as_responder(**given, ciphertext=bytes(1088))
    assert other.transcript != agreed.transcript
    assert other.root != agreed.root


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": Suite.CLASSICAL, "ciphertext": None},
        {"suite": Suite.HYBRID_P256, "ephemeral": AgreementKey.generate(KeyKind.P256_AGREEMENT).public},
        {"ciphertext": None},
        {"one_time_pre_key_id": None},
        {"signed_pre_key_id": 8},
        {"initiator_head": hash_of("another head")},
        {"responder_head": hash_of("another head")},
        {"device_statement": BOB[Suite.HYBRID].signed_statement},
        {"device_statement": Device("alice", Suite.HYBRID).signed_statement},
        {"ephemeral": AgreementKey.generate().public},
    ],
    ids="-".join,
)
def test_responder_refuses_every_part_that_a_server_exchanges(changes: dict[str, Any]) -> None:
    message = ALICE[Suite.HYBRID].initiate(BOB[Suite.HYBRID]).encrypt(b"hello")
    with pytest.raises((UnwrapFailed, Untrusted, Malformed)):
        BOB[Suite.HYBRID].respond(rewritten(message, **changes), ALICE[Suite.HYBRID])


def test_responder_refuses_another_one_time_key_under_the_named_id() -> None:
    bob = BOB[Suite.HYBRID]
    message = ALICE[Suite.HYBRID].initiate(bob).encrypt(b"hello")
    other = bob.one_time(FIRST_ONE_TIME + 1)
    assert other is not None
    refused(rewritten(message, one_time_pre_key_id=other.key_id))
    refused(message, one_time=replace(other, key_id=FIRST_ONE_TIME))


def test_used_one_time_key_is_refused_and_so_is_its_absence() -> None:
    bob = BOB[Suite.HYBRID]
    message = ALICE[Suite.HYBRID].initiate(bob).encrypt(b"hello")
    with pytest.raises(Untrusted, match="not here"):
        bob.respond(message, ALICE[Suite.HYBRID], one_time=None)
    bare = ALICE[Suite.HYBRID].initiate(bob, one_time=None).encrypt(b"hello")
    with pytest.raises(Untrusted, match="not here"):
        bob.respond(bare, ALICE[Suite.HYBRID], one_time=bob.one_time(FIRST_ONE_TIME))


def test_responder_refuses_a_ciphertext_without_a_key_for_it_and_the_other_way_round() -> None:
    """A store that lost the KEM half of a pre-key: the handshake does not silently become a classical one."""
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    message = alice.initiate(bob, one_time=None).encrypt(b"hello")
    with pytest.raises(Malformed, match="does not fit"):
        bob.respond(message, alice, signed=replace(bob.spk, kem=None))
    classical = ALICE[Suite.CLASSICAL].initiate(BOB[Suite.CLASSICAL], one_time=None).encrypt(b"hello")
    with pytest.raises(Malformed, match="does not fit"):
        BOB[Suite.CLASSICAL].respond(
            classical, ALICE[Suite.CLASSICAL], signed=replace(BOB[Suite.CLASSICAL].spk, kem=bob.spk.kem)
        )


def test_replay_without_a_one_time_key_has_one_transcript_whatever_carries_it() -> None:
    """What the seen-set holds: ECDSA is malleable, so the initial part's bytes may differ where TH does not."""
    alice, bob = ALICE[Suite.CLASSICAL_P256], BOB[Suite.CLASSICAL_P256]
    message = alice.initiate(bob, one_time=None).encrypt(b"hello")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    own = alice.signed_statement
    flipped = (order - int.from_bytes(own.signature[32:], "big")).to_bytes(32, "big")
    malleable = replace(own, signature=own.signature[:32] + flipped)
    assert DeviceStatement.open(malleable) == alice.statement
    again = rewritten(message, device_statement=malleable)
    sessions = [bob.respond(one, alice)[0] for one in (message, message, again)]
    assert len({one.transcript for one in sessions}) == 1
    assert len({one.initial_hash for one in sessions}) == 2


# -- unknown key share ---------------------------------------------------------------------------------------------


def test_unknown_key_share_fails_for_a_device_that_claims_anothers_keys() -> None:
    """Mallory lists alice's keys as mallory's: bob would take alice's words for mallory's."""
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    mallory = Device("mallory", Suite.HYBRID)
    claimed = replace(mallory.statement, agreement_key=alice.agreement.public)
    party = Party(claimed.to_payload(), claimed, mallory.aik.public, mallory.head)
    hers = alice.initiate(bob)
    message = hers.encrypt(b"hello")
    signed = replace(alice.signed_statement, payload=claimed.to_payload())
    moved = rewritten(message, device_statement=signed, initiator_head=mallory.head)
    refused(moved, initiator=party)


def test_unknown_key_share_fails_for_a_peer_that_claims_anothers_keys() -> None:
    alice, bob, mallory = ALICE[Suite.HYBRID], BOB[Suite.HYBRID], Device("mallory", Suite.HYBRID)
    claimed = replace(mallory.statement, agreement_key=bob.agreement.public)
    party = Party(claimed.to_payload(), claimed, mallory.aik.public, mallory.head)
    bundle = replace(bob.bundle(0), device=claimed, device_bytes=claimed.to_payload())
    message = alice.initiate(bob, peer=party, bundle=bundle).encrypt(b"for mallory")
    refused(rewritten(message, responder_head=bob.head))


@pytest.mark.parametrize("whose", ["me", "initiator"])
def test_session_is_of_one_identity_key_and_chain_on_each_side(whose: str) -> None:
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    message = alice.initiate(bob).encrypt(b"hello")
    party = (bob if whose == "me" else alice).party
    given: dict[str, Any] = {whose: replace(party, aik=SigningKey.generate().public)}
    refused(message, **given)
    with pytest.raises(Untrusted, match="chain heads"):
        bob.respond(message, alice, **{whose: replace(party, head=hash_of("another"))})


# -- callers' mistakes ---------------------------------------------------------------------------------------------


def test_party_is_made_of_its_own_bytes_only() -> None:
    party = ALICE[Suite.HYBRID].party
    with pytest.raises(ValueError, match="bytes"):
        replace(party, statement=BOB[Suite.HYBRID].party.statement)


def test_initiate_and_respond_refuse_keys_and_statements_of_another_device() -> None:
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    for changes in ({"agreement": bob.agreement}, {"device_statement": bob.signed_statement}):
        with pytest.raises(ValueError, match="not this device's"):
            alice.initiate(bob, **changes)
    with pytest.raises(Untrusted, match="another device"):
        alice.initiate(bob, bundle=Device("carol", Suite.HYBRID).bundle())
    message = alice.initiate(bob).encrypt(b"hello")
    with pytest.raises(ValueError, match="not this device's"):
        bob.respond(message, alice, agreement=alice.agreement)


def test_message_that_begins_nothing_is_no_answer_to_respond_to() -> None:
    alice, bob = ALICE[Suite.HYBRID], BOB[Suite.HYBRID]
    hers = alice.initiate(bob)
    his, _ = bob.respond(hers.encrypt(b"hello"), alice)
    with pytest.raises(Untrusted, match="begins no session"):
        Session.respond(
            read_message(his.encrypt(b"hello")),
            me=alice.party,
            agreement=alice.agreement,
            initiator=bob.party,
            signed=alice.spk,
            one_time=None,
            now=NOW,
        )


@pytest.mark.parametrize("field", [1, 2, 3, 6, 7])
def test_initial_part_refuses_a_missing_or_unknown_field(field: int) -> None:
    message = ALICE[Suite.HYBRID].initiate(BOB[Suite.HYBRID]).encrypt(b"")
    incoming = read_message(message)
    fields = decode(incoming.initial_bytes[6:])
    assert isinstance(fields, dict)
    for body in (encode({k: v for k, v in fields.items() if k != field}), encode({**fields, 8: 1})):
        with pytest.raises(Malformed):
            InitialPart.from_body(body, Suite.HYBRID)


def test_initial_part_with_any_byte_changed_begins_nothing() -> None:
    message = ALICE[Suite.CLASSICAL].initiate(BOB[Suite.CLASSICAL]).encrypt(b"hello")
    end = len(read_message(message).initial_bytes)
    signature = ALICE[Suite.CLASSICAL].signed_statement
    outside = message.index(signature.payload) + len(signature.payload)
    protected = message.index(signature.protected)
    for at in range(end):
        changed = message[:at] + bytes((message[at] ^ 0x10,)) + message[at + 1 :]
        in_signature = outside <= at < outside + 66 or protected <= at < protected + len(signature.protected)
        try:
            BOB[Suite.CLASSICAL].respond(changed, ALICE[Suite.CLASSICAL], one_time=BOB[Suite.CLASSICAL].one_time(100))
        except HoldfastError:
            continue
        # What verifies the signature is the client; the session takes the payload, which the transcript has.
        assert in_signature
