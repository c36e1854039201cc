# SPDX-License-Identifier: Apache-2.0
"""Trusted contacts, from making the shares to opening the door with them; who is to blame for a wrong one."""

import copy
import hashlib
import itertools
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import (
    Expired,
    HoldfastError,
    InvalidSignature,
    Malformed,
    OutOfBounds,
    QuorumNotMet,
    Untrusted,
    UnwrapFailed,
)
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import slip39
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.sealing import seal
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.vault import contact_shares
from holdfast.core.vault.contact_shares import (
    ContactShare,
    Prepared,
    ShareLetter,
    WrongShare,
    answer_request,
    check_share,
    combine,
    open_answer,
    prepare,
    seal_share,
)
from holdfast.core.vault.contacts_door import open_contacts_door
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import MAX_REQUEST_SECONDS, Manifest, ShareRequest, share_commitment
from tests.cast.statements import (
    ACME,
    AIK,
    ALICE,
    CAROL,
    DAN,
    ERIN,
    LAPTOP,
    MALLORY,
    NOW,
    PHONE,
    RITA,
    device_statement,
    id_of,
)

VAULT_KEY = SecretBytes(bytes(range(32)))
OWNER = DoorOwner(ACME, ALICE, 1)
BOB = id_of("bob")
CONTACTS = (BOB, CAROL, DAN, ERIN, RITA)
SEALING = {contact: SealingKey.generate() for contact in CONTACTS}
REQUESTED = Header(ACME, ALICE, PHONE, NOW, NOW + MAX_REQUEST_SECONDS)


def made(k: int = 3, contacts: tuple[bytes, ...] = CONTACTS, owner: DoorOwner = OWNER) -> Prepared:
    header = Header(owner.tenant, owner.user, LAPTOP, NOW)
    return prepare(VAULT_KEY, owner=owner, header=header, contacts=contacts, k=k)


SET = made()
STATEMENT = cose.sign(SET.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=AIK)


def device_of(contact: bytes, tenant: bytes = ACME) -> Any:
    header = Header(tenant, contact, id_of("device of " + contact.hex()), NOW)
    return device_statement(header=header, sealing_key=SEALING[contact].public, person=contact)


def letter_to(contact: bytes, whose: bytes | None = None) -> bytes:
    share = SET.shares[whose or contact]
    return seal_share(share, manifest=SET.manifest, statement=STATEMENT, contact=contact, to=device_of(contact))


def opened(letter: bytes, contact: bytes) -> ContactShare:
    read = ShareLetter.parse(letter)
    read.statement.verify(AIK.public, purpose=Purpose.SHARE_MANIFEST)
    return read.open(contact=contact, device=device_of(contact).header.device, key=SEALING[contact])


def asked(manifest: Manifest = SET.manifest, header: Header = REQUESTED) -> tuple[ShareRequest, SealingKey]:
    return ShareRequest.new(header, device_hash=hashlib.sha256(b"phone").digest(), manifest_hash=manifest.hash)


REQUEST, _ = asked()


def test_three_of_five_contacts_bring_the_vault_back_end_to_end() -> None:
    SET.manifest.require_door(SET.door)
    assert (SET.manifest.k, SET.manifest.n, SET.manifest.contacts) == (3, 5, CONTACTS)
    assert SET.manifest.header.user == ALICE
    held = {contact: opened(letter_to(contact), contact) for contact in CONTACTS}
    kept = {contact: ContactShare.from_secret(share.to_secret()) for contact, share in held.items()}
    assert kept == SET.shares
    request, key = asked()
    seen = ShareRequest.from_payload(request.to_payload())
    assert seen.code == request.code
    for count in (3, 4, 5):
        for givers in itertools.combinations(CONTACTS, count):
            answers = {
                one: answer_request(kept[one], request=seen, manifest=SET.manifest, contact=one, now=NOW)
                for one in givers
            }
            returned = {
                one: open_answer(answer, request=request, manifest=SET.manifest, contact=one, key=key)
                for one, answer in answers.items()
            }
            secret = combine(SET.manifest, returned)
            assert open_contacts_door(SET.door, secret=secret, set_id=SET.manifest.set_id, owner=OWNER) == VAULT_KEY


def test_combine_gives_nothing_to_fewer_than_k() -> None:
    for count in (0, 1, 2):
        for givers in itertools.combinations(CONTACTS, count):
            with pytest.raises(QuorumNotMet, match=f"{count} of the 3"):
                combine(SET.manifest, {one: SET.shares[one] for one in givers})


def other_share(share: ContactShare) -> ContactShare:
    """A share that is one as far as SLIP-0039 can tell, of another secret."""
    part = slip39.Share.from_bytes(share.share)
    value = SecretBytes(secrets.token_bytes(32))
    return replace(share, share=replace(part, value=value).to_bytes())


@pytest.mark.parametrize("liar", CONTACTS)
@pytest.mark.parametrize(
    "lie",
    [
        other_share,
        lambda share: replace(share, blind=bytes(32)),
        lambda share: replace(share, set_id=bytes(16)),
        lambda share: replace(share, index=(share.index + 1) % 5),
        lambda share: SET.shares[CONTACTS[(share.index + 1) % 5]],
        lambda share: made().shares[CONTACTS[share.index]],
    ],
    ids=["another value", "another blind", "another set", "another index", "another's share", "of another making"],
)
def test_combine_blames_the_contact_whose_share_is_wrong(
    liar: bytes, lie: Callable[[ContactShare], ContactShare]
) -> None:
    shares = dict(SET.shares) | {liar: lie(SET.shares[liar])}
    with pytest.raises(WrongShare) as refused:
        combine(SET.manifest, shares)
    assert refused.value.contact == liar
    assert liar.hex() in str(refused.value)
    # Without that one the others are enough, and no answer was given with it.
    del shares[liar]
    secret = combine(SET.manifest, shares)
    assert open_contacts_door(SET.door, secret=secret, set_id=SET.manifest.set_id, owner=OWNER) == VAULT_KEY


def test_combine_refuses_shares_of_an_older_epoch_with_a_reason_a_person_understands() -> None:
    later = made(owner=replace(OWNER, epoch=2))
    for mixed in range(1, 6):
        shares = {one: (SET if at < mixed else later).shares[one] for at, one in enumerate(CONTACTS)}
        with pytest.raises(WrongShare, match="of another set, made earlier or later") as refused:
            combine(later.manifest, shares)
        assert refused.value.contact == BOB
    with pytest.raises(Untrusted, match="not the one that the manifest names"):
        later.manifest.require_door(SET.door)


def test_combine_refuses_somebody_whom_the_manifest_does_not_name() -> None:
    with pytest.raises(WrongShare, match="not named in the manifest") as refused:
        combine(SET.manifest, {MALLORY: SET.shares[BOB]})
    assert refused.value.contact == MALLORY


def test_combine_refuses_a_set_that_was_made_wrong() -> None:
    # The owner's own client committed to shares that do not add up: nobody's blame, and still no secret.
    shares = dict(SET.shares)
    shares[BOB] = other_share(SET.shares[BOB])
    rows = [(one, share_commitment(share.blind, share.share)) for one, share in shares.items()]
    with pytest.raises(UnwrapFailed):
        combine(replace(SET.manifest, rows=tuple(rows)), shares)


def test_two_sets_for_one_vault_have_nothing_in_common() -> None:
    again = made()
    assert again.manifest.set_id != SET.manifest.set_id
    assert again.door != SET.door
    values = [one.share.reveal() for prepared in (SET, again) for one in prepared.shares.values()]
    blinds = [one.blind for prepared in (SET, again) for one in prepared.shares.values()]
    assert len(set(values)) == len(set(blinds)) == 10


@pytest.mark.parametrize(
    ("k", "contacts"),
    [(1, CONTACTS), (6, CONTACTS), (2, (BOB,)), (0, ()), (2, (BOB, BOB, DAN)), (2, (BOB, DAN, ALICE)),
     (2, tuple(id_of(str(i)) for i in range(17)))],
)  # fmt: skip
def test_prepare_refuses_a_policy_that_would_be_none(k: int, contacts: tuple[bytes, ...]) -> None:
    with pytest.raises(OutOfBounds):
        made(k, contacts)


@pytest.mark.parametrize(("k", "n"), [(2, 2), (2, 16), (16, 16), (9, 16)])
def test_prepare_serves_every_size_of_circle(k: int, n: int) -> None:
    contacts = tuple(id_of(f"contact {i}") for i in range(n))
    prepared = made(k, contacts)
    assert Manifest.from_payload(prepared.manifest.to_payload()) == prepared.manifest
    secret = combine(prepared.manifest, {one: prepared.shares[one] for one in contacts[-k:]})
    assert open_contacts_door(prepared.door, secret=secret, set_id=prepared.manifest.set_id, owner=OWNER) == VAULT_KEY


# Letters


def test_a_letter_opens_for_its_contact_and_device_only() -> None:
    letter = ShareLetter.parse(letter_to(BOB))
    device = device_of(BOB).header.device
    assert letter.open(contact=BOB, device=device, key=SEALING[BOB]) == SET.shares[BOB]
    for contact, at, key in (
        (CAROL, device, SEALING[BOB]), (BOB, PHONE, SEALING[BOB]), (BOB, device, SEALING[CAROL]),
    ):  # fmt: skip
        with pytest.raises(UnwrapFailed):
            letter.open(contact=contact, device=at, key=key)


def test_a_letter_under_another_manifest_does_not_open() -> None:
    other = made()
    statement = cose.sign(other.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=AIK)
    value: Any = decode(letter_to(BOB))
    letter = ShareLetter.parse(encode({**value, 2: statement.encode()}))
    with pytest.raises(UnwrapFailed):
        letter.open(contact=BOB, device=device_of(BOB).header.device, key=SEALING[BOB])


def test_a_letter_by_a_forger_is_not_signed_by_the_owner() -> None:
    forged = cose.sign(SET.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=SigningKey.generate())
    letter = seal_share(SET.shares[BOB], manifest=SET.manifest, statement=forged, contact=BOB, to=device_of(BOB))
    with pytest.raises(InvalidSignature):
        opened(letter, BOB)


def test_a_letter_with_somebody_elses_share_is_noticed_by_the_contact() -> None:
    with pytest.raises(WrongShare, match="another contact's place"):
        opened(letter_to(BOB, whose=CAROL), BOB)


def test_seal_share_refuses_a_device_of_another_person_or_tenant() -> None:
    for device in (device_of(CAROL), device_of(BOB, tenant=id_of("mallory's tenant"))):
        with pytest.raises(Untrusted, match="not this contact's"):
            seal_share(SET.shares[BOB], manifest=SET.manifest, statement=STATEMENT, contact=BOB, to=device)


def test_seal_share_refuses_another_manifest_than_the_one_signed() -> None:
    with pytest.raises(ValueError, match="another manifest"):
        seal_share(SET.shares[BOB], manifest=made().manifest, statement=STATEMENT, contact=BOB, to=device_of(BOB))


def test_every_flipped_byte_of_a_letter_is_refused() -> None:
    letter = letter_to(BOB)
    for at in range(len(letter)):
        flipped = letter[:at] + bytes([letter[at] ^ 0x01]) + letter[at + 1 :]
        with pytest.raises(HoldfastError):
            opened(flipped, BOB)


# Requests


def test_a_request_has_six_groups_of_five_digits_that_any_change_changes() -> None:
    request, _ = asked()
    digest = hashlib.sha256(request.to_payload()).digest()
    groups = [f"{int.from_bytes(digest[4 * k : 4 * k + 4], 'big') % 100_000:05}" for k in range(6)]
    assert list(request.code) == groups
    changes: list[dict[str, Any]] = [
        {"key": SealingKey.generate().public}, {"device_hash": bytes(32)}, {"manifest_hash": bytes(32)},
        {"header": replace(REQUESTED, device=LAPTOP)}, {"header": replace(REQUESTED, expires_at=NOW + 1)},
    ]  # fmt: skip
    codes = {replace(request, **change).code for change in changes}
    assert len(codes) == 5
    assert request.code not in codes


@pytest.mark.parametrize("life", [0, -1, MAX_REQUEST_SECONDS + 1, 10**9])
def test_a_request_lives_seventy_two_hours_at_most(life: int) -> None:
    with pytest.raises(ValueError, match="read this back"):
        asked(header=replace(REQUESTED, expires_at=NOW + life if life else 0))


def test_a_contact_answers_within_the_requests_time_only() -> None:
    request, _ = asked()
    said: dict[str, Any] = {"request": request, "manifest": SET.manifest, "contact": BOB}
    assert answer_request(SET.shares[BOB], **said, now=NOW + MAX_REQUEST_SECONDS - 1)
    for now in (NOW + MAX_REQUEST_SECONDS, NOW + 10**8, NOW - 301):
        with pytest.raises(Expired):
            answer_request(SET.shares[BOB], **said, now=now)


def test_a_contact_answers_for_the_owner_and_the_set_that_they_hold_only() -> None:
    for request, _ in (
        asked(manifest=made().manifest), asked(header=replace(REQUESTED, user=MALLORY)),
        asked(header=replace(REQUESTED, tenant=id_of("mallory's tenant"))),
    ):  # fmt: skip
        with pytest.raises(Untrusted, match="another person's, or of another set"):
            answer_request(SET.shares[BOB], request=request, manifest=SET.manifest, contact=BOB, now=NOW)
    request, _ = asked()
    with pytest.raises(WrongShare):
        answer_request(SET.shares[CAROL], request=request, manifest=SET.manifest, contact=BOB, now=NOW)


def test_an_answer_opens_with_its_own_requests_key_and_names_its_contact() -> None:
    request, key = asked()
    other, other_key = asked()
    answer = answer_request(SET.shares[BOB], request=request, manifest=SET.manifest, contact=BOB, now=NOW)
    assert open_answer(answer, request=request, manifest=SET.manifest, contact=BOB, key=key) == SET.shares[BOB]
    for wrong_request, contact, wrong_key in ((other, BOB, key), (request, CAROL, key), (request, BOB, other_key)):
        with pytest.raises(UnwrapFailed):
            open_answer(answer, request=wrong_request, manifest=SET.manifest, contact=contact, key=wrong_key)
    for at in range(0, len(answer), 7):
        flipped = answer[:at] + bytes([answer[at] ^ 0x80]) + answer[at + 1 :]
        with pytest.raises(UnwrapFailed):
            open_answer(flipped, request=request, manifest=SET.manifest, contact=BOB, key=key)


def test_an_answer_with_a_wrong_share_is_blamed_on_its_contact() -> None:
    request, key = asked()
    bad = seal(other_share(SET.shares[BOB]).to_secret(), to=request.key, info=contact_shares._answer_info(request, BOB))
    with pytest.raises(WrongShare) as refused:
        open_answer(bad, request=request, manifest=SET.manifest, contact=BOB, key=key)
    assert refused.value.contact == BOB


# Formats


def test_manifest_is_the_one_of_the_page() -> None:
    value: Any = decode(SET.manifest.to_payload())
    assert sorted(value) == list(range(1, 13))
    assert [value[number] for number in (7, 8, 9, 10)] == [SET.manifest.set_id, 3, 5, NOW]
    commitments = [hashlib.sha256(one.blind + one.share.reveal()).digest() for one in SET.shares.values()]
    assert value[11] == [[contact, commitment] for contact, commitment in zip(CONTACTS, commitments, strict=True)]
    assert value[12] == hashlib.sha256(SET.door).digest()
    assert SET.manifest.hash == STATEMENT.payload_hash


@pytest.mark.parametrize(
    "fields",
    [{7: bytes(15)}, {8: 1}, {8: 6}, {9: 4}, {9: 6}, {9: 1}, {10: NOW + 1}, {11: []}, {12: bytes(31)}, {13: 1},
     {3: b""}, {11: [[BOB, bytes(32)]] * 5}, {11: [[one, bytes(31)] for one in CONTACTS]},
     {11: [[one] for one in CONTACTS]},
     {11: [[one, bytes(32)] for one in (ALICE, *CONTACTS[1:])]}],
)  # fmt: skip
def test_manifest_refuses_what_is_outside_the_format(fields: dict[int, Any]) -> None:
    value: Any = decode(SET.manifest.to_payload())
    with pytest.raises(Malformed):
        Manifest.from_payload(encode({**value, **fields}))


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_manifest_or_request_is_refused_or_another_one(data: st.DataObject) -> None:
    made_here: Any = data.draw(st.sampled_from([SET.manifest, REQUEST]))
    shape, payload = type(made_here), made_here.to_payload()
    value: Any = copy.deepcopy(decode(payload))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(
        st.integers(0, 2**40) | st.binary(max_size=40) | st.lists(st.binary(max_size=33), max_size=3)
    )
    changed = encode(value)
    try:
        read = shape.from_payload(changed)
    except Malformed:
        return
    assert read.to_payload() == changed


def test_every_flipped_byte_of_a_share_is_refused_or_another_share() -> None:
    octets = SET.shares[BOB].to_secret().reveal()
    for at in range(len(octets)):
        for bit in range(8):
            flipped = SecretBytes(octets[:at] + bytes([octets[at] ^ 1 << bit]) + octets[at + 1 :])
            try:
                read = ContactShare.from_secret(flipped)
            except HoldfastError:
                continue
            assert read.to_secret() == flipped
            with pytest.raises(WrongShare):
                check_share(SET.manifest, BOB, read)


def test_a_share_whose_index_is_not_its_own_is_malformed() -> None:
    value: Any = decode(SET.shares[BOB].to_secret().reveal())
    with pytest.raises(Malformed, match="field 2"):
        ContactShare.from_secret(SecretBytes(encode({**value, 2: 1})))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_neither_share_nor_letter(octets: bytes) -> None:
    with pytest.raises(HoldfastError):
        ContactShare.from_secret(SecretBytes(octets))
    with pytest.raises(HoldfastError):
        ShareLetter.parse(octets)
