# SPDX-License-Identifier: Apache-2.0
"""An account chain says whose keys these are, and shows it when somebody else tries. FAULTS S12, S15."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import Forked, HoldfastError, InvalidSignature, Malformed, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.cases import begins_from
from holdfast.core.identity.chain import (
    BACKWARDS_SECONDS,
    MAX_DEVICES,
    RECOVERY_KEY_DELAY_SECONDS,
    AnnouncedKey,
    ChainPin,
    ChainState,
    extend,
    in_force,
    state_at,
    verify_chain,
)
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import (
    AddDevice,
    ArchiveGeneration,
    Body,
    Entry,
    Genesis,
    Reason,
    ReGenesis,
    RevokeDevice,
    RotateKey,
    SetRecoveryKey,
    ShareManifest,
)
from holdfast.core.identity.policy import SignedPolicy, verify_successor
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header, close_payload
from tests.cast import statements as cast
from tests.cast.statements import ACME, AIK, ALICE, DAY, LAPTOP, NOW, OFFICER_KEYS, PHONE, SIGNED_POLICY, hash_of, id_of

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BY = Author(LAPTOP, NOW, AIK)
RECOVERY = SigningKey.generate()
NEW = SigningKey.generate(KeyKind.P256_SIGNING)
POLICIES = (SIGNED_POLICY,)


def at(state: ChainState, body: Body, *keys: SigningKey, **changes: Any) -> Entry:
    """An entry on the head of `state`, signed by `keys`, with whatever a test wants wrong about it."""
    place: dict[str, Any] = {
        "seq": state.seq + 1,
        "prev": state.head,
        "header": Header(ACME, ALICE, LAPTOP, NOW),
    } | changes
    return Entry.make(place["header"], place["seq"], place["prev"], body, keys or (AIK,))


def add(state: ChainState, name: str = "phone", by: Author = BY) -> Entry:
    return chain_author.add_device(state, by=by, device=id_of(name), statement_hash=hash_of(name))


def revoke(state: ChainState, device: bytes = LAPTOP, new: SigningKey = NEW, by: Author = BY) -> tuple[Entry, ...]:
    return chain_author.revoke_device(
        state, by=by, device=device, reason=Reason.DEVICE_LOST, since=NOW - 60, new_aik=new
    )


# As soon as two officers' words of `NOW` allow.
AGAIN: Final = NOW + cast.TERMS.delay_seconds


def begin_again(state: ChainState, new: SigningKey, *officers: SigningKey, at: int = AGAIN, **said: Any) -> Entry:
    by = Author(PHONE, at, new)
    attestations = [cast.attest(key, state, new.public, hash_of("new phone"), **said) for key in officers]
    return chain_author.re_genesis(state, by=by, attestations=attestations, policy_hash=SIGNED_POLICY.hash)


def long_chain() -> tuple[list[Entry], ChainState]:
    """Every type of entry once, as a life would have them."""
    entries, state = cast.begin(RECOVERY.public)

    def append(*more: Entry) -> None:
        nonlocal state
        state = extend(state, *more, policies=POLICIES)
        entries.extend(more)

    append(add(state))
    append(chain_author.archive_generation(state, by=BY, generation=1, not_before=NOW, commitment=hash_of("ak 1")))
    append(chain_author.share_manifest(state, by=BY, manifest_hash=hash_of("manifest")))
    append(chain_author.set_recovery_key(state, by=BY, recovery_key=SigningKey.generate().public, old=RECOVERY))
    append(*revoke(state))
    by = Author(PHONE, NOW, NEW)
    again = SigningKey.generate()
    append(chain_author.rotate_key(state, by=by, new_aik=again, reason=Reason.SCHEDULE))
    final = SigningKey.generate()
    append(begin_again(state, final, *OFFICER_KEYS[:2]))
    by = Author(PHONE, AGAIN, final)
    append(chain_author.add_device(state, by=by, device=id_of("new phone"), statement_hash=hash_of("new phone")))
    return entries, state


LIFE = long_chain()[0]


def test_chain_of_every_type_is_verified_and_says_what_it_says() -> None:
    entries, state = long_chain()
    wire = [entry.encode() for entry in entries]
    again = verify_chain([Entry.parse(one) for one in wire], tenant=ACME, user=ALICE, policies=POLICIES)
    assert again == state
    assert [type(entry.body) for entry in entries] == [
        Genesis, AddDevice, AddDevice, ArchiveGeneration, ShareManifest, SetRecoveryKey, RevokeDevice, RotateKey,
        RotateKey, ReGenesis, AddDevice,
    ]  # fmt: skip
    assert state.seq == len(entries) - 1
    assert state.head == entries[-1].hash
    assert state.devices == {id_of("new phone"): hash_of("new phone")}
    assert {LAPTOP, id_of("phone")} <= state.revoked
    assert state.generations == (ArchiveGeneration(1, NOW, hash_of("ak 1")),)
    assert state.re_genesis is not None
    assert state.re_genesis.case_id == id_of("case")
    assert len(state.former_aiks) == 3


@pytest.mark.parametrize("index", range(11))
def test_entry_of_each_type_goes_to_bytes_and_back(index: int) -> None:
    entry = long_chain()[0][index]
    assert Entry.parse(entry.encode()) == entry
    assert Entry.parse(entry.encode()).encode() == entry.encode()


@settings(max_examples=300)
@given(st.integers(0, 10), st.data())
def test_entry_with_bytes_changed_is_refused_by_the_parser_or_by_the_chain(index: int, data: st.DataObject) -> None:
    octets = bytearray(LIFE[index].encode())
    at_byte = data.draw(st.integers(0, len(octets) - 1))
    octets[at_byte : at_byte + data.draw(st.integers(1, 2))] = data.draw(st.binary(max_size=3))
    try:
        changed = Entry.parse(bytes(octets))
        assert changed.encode() == octets
        entries = [*LIFE[:index], changed, *LIFE[index + 1 :]]
        verify_chain(entries, tenant=ACME, user=ALICE, policies=POLICIES)
    except HoldfastError:
        return
    assert bytes(octets) == LIFE[index].encode()


@pytest.mark.parametrize("size", range(1, 12))
def test_chain_refuses_every_entry_left_out_and_any_two_swapped(size: int) -> None:
    for left_out in range(size - 1):
        with pytest.raises(Untrusted):
            verify_chain(LIFE[:left_out] + LIFE[left_out + 1 : size], tenant=ACME, user=ALICE, policies=POLICIES)
    for first in range(size - 1):
        swapped = [*LIFE[:first], LIFE[first + 1], LIFE[first], *LIFE[first + 2 : size]]
        with pytest.raises(Untrusted):
            verify_chain(swapped, tenant=ACME, user=ALICE, policies=POLICIES)


def test_chain_refuses_to_be_empty_or_to_begin_with_anything_but_a_genesis() -> None:
    entries, state = cast.begin()
    for bad in ([], entries[1:]):
        with pytest.raises(Untrusted):
            verify_chain(bad, tenant=ACME, user=ALICE)
    first_is_an_addition = at(state, AddDevice(LAPTOP, hash_of("x")), seq=0, prev=b"")
    with pytest.raises(Untrusted):
        verify_chain([first_is_an_addition], tenant=ACME, user=ALICE)
    late = Entry.make(Header(ACME, ALICE, LAPTOP, NOW), 1, hash_of("p"), Genesis(AIK.public, None), (AIK,))
    with pytest.raises(Untrusted, match="begin with a genesis"):
        verify_chain([late], tenant=ACME, user=ALICE)
    with pytest.raises(Untrusted, match="second genesis"):
        extend(state, at(state, Genesis(NEW.public, None)))


def test_genesis_is_signed_by_its_own_key() -> None:
    header = Header(ACME, ALICE, LAPTOP, NOW)
    forged = Entry.make(header, 0, b"", Genesis(AIK.public, None), (NEW,))
    with pytest.raises(InvalidSignature):
        verify_chain([forged], tenant=ACME, user=ALICE)
    with pytest.raises(Untrusted, match="recovery key"):
        verify_chain([Entry.make(header, 0, b"", Genesis(AIK.public, AIK.public), (AIK,))], tenant=ACME, user=ALICE)


@pytest.mark.parametrize("changes", [{"tenant": cast.MALLORY_TENANT}, {"user": cast.MALLORY}])
def test_chain_refuses_to_be_somebody_elses(changes: dict[str, Any]) -> None:
    entries, state = cast.begin()
    for chain in (entries, entries[:1]):
        with pytest.raises(Untrusted, match="another tenant or user"):
            verify_chain(chain, **{"tenant": ACME, "user": ALICE} | changes)
    header = replace(Header(ACME, ALICE, LAPTOP, NOW), **changes)
    with pytest.raises(Untrusted, match="another tenant or user"):
        extend(state, at(state, AddDevice(PHONE, hash_of("x")), header=header))


@pytest.mark.parametrize(
    "body",
    [
        AddDevice(PHONE, hash_of("phone")),
        RevokeDevice(LAPTOP, Reason.DEVICE_LOST, NOW),
        RotateKey(NEW.public, Reason.SCHEDULE),
        SetRecoveryKey(RECOVERY.public),
        ArchiveGeneration(1, NOW, hash_of("ak")),
        ShareManifest(hash_of("m")),
    ],
    ids=lambda body: type(body).__name__,
)
def test_chain_refuses_every_type_that_mallory_signs(body: Body) -> None:
    _, state = cast.begin()
    mallory = SigningKey.generate()
    for keys in ((mallory,), (mallory, NEW), (mallory, mallory)):
        with pytest.raises((InvalidSignature, Malformed)):
            extend(state, at(state, body, *keys))


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (AddDevice(PHONE, hash_of("phone")), (AIK, RECOVERY)),
        (AddDevice(PHONE, hash_of("phone")), (RECOVERY,)),
        (RotateKey(NEW.public, Reason.SCHEDULE), (AIK,)),
        (RotateKey(NEW.public, Reason.SCHEDULE), (NEW,)),
        (RotateKey(NEW.public, Reason.SCHEDULE), (NEW, AIK)),
        (RotateKey(NEW.public, Reason.SCHEDULE), (AIK, SigningKey.generate())),
        (RotateKey(NEW.public, Reason.SCHEDULE), (AIK, RECOVERY)),
        (SetRecoveryKey(NEW.public), (RECOVERY,)),
        (SetRecoveryKey(NEW.public), (RECOVERY, AIK)),
        (SetRecoveryKey(NEW.public), (AIK, NEW)),
    ],
)
def test_chain_refuses_signers_other_than_the_type_asks_for(body: Body, keys: tuple[SigningKey, ...]) -> None:
    _, state = cast.begin(RECOVERY.public)
    with pytest.raises(InvalidSignature):
        extend(state, at(state, body, *keys))


def test_rotation_by_the_recovery_key_is_believed_when_the_identity_key_is_lost() -> None:
    _, state = cast.begin(RECOVERY.public)
    entry = chain_author.rotate_key(state, by=Author(PHONE, NOW, RECOVERY), new_aik=NEW, reason=Reason.RECOVERY)
    rotated = extend(state, entry)
    assert rotated.aik == NEW.public
    assert rotated.former_aiks == (AIK.public,)
    assert rotated.recovery_key == RECOVERY.public
    assert rotated.head == entry.signatures[0].entry_hash


def test_rotation_refuses_a_key_that_the_chain_has_used() -> None:
    _, state = cast.begin(RECOVERY.public)
    rotated = extend(state, chain_author.rotate_key(state, by=BY, new_aik=NEW, reason=Reason.SCHEDULE))
    by = Author(LAPTOP, NOW, NEW)
    for used in (AIK, RECOVERY):
        with pytest.raises(Untrusted, match="has used"):
            extend(rotated, chain_author.rotate_key(rotated, by=by, new_aik=used, reason=Reason.SCHEDULE))


def set_key(state: ChainState, key: SigningKey, *, days: float = 0, old: SigningKey | None = None) -> Entry:
    by = Author(LAPTOP, NOW + int(days * DAY), AIK)
    return chain_author.set_recovery_key(state, by=by, recovery_key=key.public, old=old)


def test_recovery_key_is_set_at_once_by_the_identity_key_and_changed_at_once_with_the_old_one() -> None:
    _, state = cast.begin()
    with_key = extend(state, set_key(state, RECOVERY))
    assert (with_key.recovery_key, with_key.announced) == (RECOVERY.public, None)
    changed = extend(with_key, set_key(with_key, NEW, old=RECOVERY))
    assert (changed.recovery_key, changed.announced) == (NEW.public, None)
    with pytest.raises(Untrusted, match="identity key"):
        extend(state, set_key(state, AIK))


def test_identity_key_alone_only_announces_a_recovery_key_and_waits_seven_days() -> None:
    _, state = cast.begin(RECOVERY.public)
    waiting = extend(state, set_key(state, NEW))
    assert (waiting.recovery_key, waiting.announced) == (RECOVERY.public, AnnouncedKey(NEW.public, NOW))
    with pytest.raises(Untrusted, match="seven days"):
        extend(waiting, set_key(waiting, NEW, days=7 - 1 / DAY))
    changed = extend(waiting, set_key(waiting, NEW, days=7))
    assert (changed.recovery_key, changed.announced) == (NEW.public, None)


def test_announcing_another_recovery_key_begins_the_week_anew() -> None:
    _, state = cast.begin(RECOVERY.public)
    other = SigningKey.generate()
    state = extend(state, set_key(state, NEW))
    state = extend(state, set_key(state, other, days=6))
    for key in (NEW, other):
        # NEW would be due if it still waited; announced again, it begins to wait.
        fresh = extend(state, set_key(state, key, days=7)) if key is NEW else state
        assert fresh.recovery_key == RECOVERY.public
    with pytest.raises(Untrusted, match="seven days"):
        extend(state, set_key(state, other, days=12))
    assert extend(state, set_key(state, other, days=13)).recovery_key == other.public


def test_announced_recovery_key_is_cancelled_by_restating_the_one_that_is_set() -> None:
    _, state = cast.begin(RECOVERY.public)
    waiting = extend(state, set_key(state, NEW))
    for restated in (set_key(waiting, RECOVERY, days=6), set_key(waiting, RECOVERY, days=6, old=RECOVERY)):
        cancelled = extend(waiting, restated)
        assert (cancelled.recovery_key, cancelled.announced) == (RECOVERY.public, None)
        again = extend(cancelled, set_key(cancelled, NEW, days=8))
        assert again.recovery_key == RECOVERY.public


def test_announced_recovery_key_is_cancelled_by_a_rotation_of_the_old_one_and_by_no_other() -> None:
    _, state = cast.begin(RECOVERY.public)
    waiting = extend(state, set_key(state, NEW))
    fresh = SigningKey.generate()

    def rotated(by: SigningKey) -> ChainState:
        author = Author(PHONE, NOW, by)
        return extend(waiting, chain_author.rotate_key(waiting, by=author, new_aik=fresh, reason=Reason.SCHEDULE))

    assert rotated(RECOVERY).announced is None
    # An owner who lost the phrase rotates every month: that does not begin the week anew.
    assert rotated(AIK).announced == waiting.announced


def test_announced_recovery_key_does_not_outlive_the_revocation_of_a_device() -> None:
    _, state = cast.begin(RECOVERY.public)
    waiting = extend(state, set_key(state, SigningKey.generate()))
    assert extend(waiting, *revoke(waiting)).announced is None


def test_announced_recovery_key_does_not_become_the_identity_key() -> None:
    _, state = cast.begin(RECOVERY.public)
    waiting = extend(state, set_key(state, NEW))
    with pytest.raises(Untrusted, match="has used"):
        extend(waiting, chain_author.rotate_key(waiting, by=BY, new_aik=NEW, reason=Reason.SCHEDULE))


def test_entry_is_not_dated_before_those_it_follows() -> None:
    _, state = cast.begin()

    def dated(seconds: int) -> Entry:
        return add(state, by=Author(LAPTOP, NOW - seconds, AIK))

    kept = extend(state, dated(BACKWARDS_SECONDS))
    assert kept.time == NOW
    with pytest.raises(Untrusted, match="dated before"):
        extend(state, dated(BACKWARDS_SECONDS + 1))
    # Nor step by step: the latest date counts, not the one before.
    with pytest.raises(Untrusted, match="dated before"):
        extend(kept, add(kept, "tablet", Author(LAPTOP, NOW - BACKWARDS_SECONDS - 1, AIK)))


def test_a_week_does_not_lie_in_the_past_of_the_chain() -> None:
    _, state = cast.begin(RECOVERY.public)
    week = RECOVERY_KEY_DELAY_SECONDS
    with pytest.raises(Untrusted, match="dated before"):
        extend(state, chain_author.set_recovery_key(state, by=Author(LAPTOP, NOW - week, AIK), recovery_key=NEW.public))


def test_re_genesis_leads_a_chain_back_from_the_future() -> None:
    _, state = cast.begin()
    lost = extend(state, add(state, by=Author(LAPTOP, NOW + 365 * DAY, AIK)))
    with pytest.raises(Untrusted, match="dated before"):
        extend(lost, add(lost, "tablet"))
    again = extend(lost, begin_again(lost, NEW, *OFFICER_KEYS[:2]), policies=POLICIES)
    assert again.time == AGAIN


def test_state_at_a_head_is_what_the_chain_said_then() -> None:
    entries, _ = long_chain()
    states = {
        count: verify_chain(entries[:count], tenant=ACME, user=ALICE, policies=POLICIES)
        for count in (1, 2, 3, 6, 8, len(entries))
    }
    for count, then in states.items():
        head = entries[count - 1].hash
        assert state_at(entries, head, tenant=ACME, user=ALICE, policies=POLICIES) == then
    between = entries[6].hash
    assert isinstance(entries[6].body, RevokeDevice)
    for head in (between, hash_of("another chain"), b""):
        with pytest.raises(Untrusted):
            state_at(entries, head, tenant=ACME, user=ALICE, policies=POLICIES)


def test_revocation_is_believed_only_together_with_its_rotation() -> None:
    _, state = cast.begin()
    revoked, rotated = revoke(state)
    for half in ([revoked], [rotated]):
        with pytest.raises((Untrusted, InvalidSignature)):
            extend(state, *half)
    after = extend(state, revoked, rotated)
    assert after.devices == {}
    assert after.revoked == {LAPTOP}
    assert after.aik == NEW.public
    between = at(replace(state, hashes=(*state.hashes, revoked.hash)), AddDevice(PHONE, hash_of("phone")))
    with pytest.raises(Untrusted, match="together"):
        extend(state, revoked, between)
    # Nor with the rotation after it: what the revoked device signed in between would stand.
    late = at(state, rotated.body, AIK, NEW, seq=between.seq + 1, prev=between.hash)
    with pytest.raises(Untrusted, match="together"):
        extend(state, revoked, between, late)


def test_several_devices_are_revoked_before_one_rotation() -> None:
    _, state = cast.begin()
    state = extend(state, add(state))
    devices = [RevokeDevice(one, Reason.DEVICE_LOST, NOW) for one in (LAPTOP, id_of("phone"))]
    entries = chain_author.revoke_devices(state, by=BY, devices=devices, reason=Reason.RECOVERY, new_aik=NEW)
    after = extend(state, *entries)
    assert after.devices == {}
    assert after.revoked == {LAPTOP, id_of("phone")}
    assert entries[-1].body == RotateKey(NEW.public, Reason.RECOVERY)


def test_extend_takes_all_entries_or_none() -> None:
    _, state = cast.begin()
    good = add(state)
    bad = at(replace(state, hashes=(*state.hashes, good.hash)), AddDevice(id_of("phone"), hash_of("again")))
    with pytest.raises(Untrusted):
        extend(state, good, bad)
    assert state.devices == {LAPTOP: hash_of("laptop")}
    assert extend(state) == state


def test_device_is_added_once_in_the_life_of_a_chain() -> None:
    _, state = cast.begin()
    gone = extend(state, *revoke(state))
    by = Author(PHONE, NOW, NEW)
    for base, device, statement, author in (
        (state, LAPTOP, hash_of("x"), BY),
        (state, PHONE, hash_of("laptop"), BY),
        (gone, LAPTOP, hash_of("laptop"), by),
    ):
        entry = chain_author.add_device(base, by=author, device=device, statement_hash=statement)
        with pytest.raises(Untrusted):
            extend(base, entry)
    with pytest.raises(Untrusted, match="not the user's"):
        extend(state, *revoke(state, PHONE))


def test_chain_refuses_a_sixty_fifth_device() -> None:
    _, state = cast.begin()
    for i in range(MAX_DEVICES - 1):
        state = extend(state, add(state, f"device {i}"))
    with pytest.raises(Malformed, match="64"):
        extend(state, add(state, "one more"))


def test_archive_generations_ascend_and_the_first_accepted_wins() -> None:
    _, state = cast.begin()

    def announce(base: ChainState, g: int, not_before: int) -> Entry:
        return chain_author.archive_generation(
            base, by=BY, generation=g, not_before=not_before, commitment=hash_of(f"ak {g}")
        )

    state = extend(state, announce(state, 5, NOW))
    for g, not_before in ((5, NOW), (4, NOW), (6, NOW - 1)):
        with pytest.raises(Untrusted, match="not after the newest"):
            extend(state, announce(state, g, not_before))
    assert [one.generation for one in extend(state, announce(state, 6, NOW)).generations] == [5, 6]


def test_two_valid_entries_with_one_seq_are_a_fork_wherever_they_stand() -> None:
    entries, state = cast.begin()
    _, before = entries[:1], verify_chain(entries[:1], tenant=ACME, user=ALICE)
    other = add(before)
    with pytest.raises(Forked):
        extend(state, other)
    third = extend(state, add(state, "tablet"))
    with pytest.raises(Forked):
        extend(third, other)
    wrong_past = at(state, AddDevice(PHONE, hash_of("x")), prev=hash_of("another past"))
    with pytest.raises(Forked):
        extend(state, wrong_past)


def test_an_entry_by_a_key_rotated_away_is_a_fork() -> None:
    _, state = cast.begin()
    after = extend(state, *revoke(state))
    with pytest.raises(Forked, match="rotated away"):
        extend(after, add(after))
    # The stolen laptop extends the chain as it knew it.
    with pytest.raises(Forked):
        extend(after, add(state))


def test_a_fork_is_not_cried_over_what_no_key_of_the_chain_has_signed() -> None:
    _, state = cast.begin()
    mallory = SigningKey.generate()
    for place in ({"seq": 1}, {"prev": hash_of("x")}):
        with pytest.raises(InvalidSignature):
            extend(state, at(state, AddDevice(PHONE, hash_of("x")), mallory, **place))
    forged = add(state)
    forged = replace(forged, signatures=(replace(forged.signatures[0], signature=bytes(64)),))
    with pytest.raises(InvalidSignature):
        extend(state, forged)


def test_a_repeated_entry_and_a_gap_are_refused_and_are_no_fork() -> None:
    entries, state = cast.begin()
    for bad in (entries[1], entries[0], at(state, AddDevice(PHONE, hash_of("x")), seq=9)):
        with pytest.raises(Untrusted) as caught:
            extend(state, bad)
        assert not isinstance(caught.value, Forked)


def test_the_twin_of_an_ecdsa_signature_is_the_same_entry_and_no_fork() -> None:
    by = Author(LAPTOP, NOW, NEW)
    genesis = chain_author.genesis(tenant=ACME, user=ALICE, by=by)
    one = genesis.signatures[0]
    s = P256_ORDER - int.from_bytes(one.signature[32:], "big")
    twin = Entry.parse(Sign1(one.protected, one.payload, one.signature[:32] + s.to_bytes(32, "big")).encode())
    state = verify_chain([twin], tenant=ACME, user=ALICE)
    assert state.head == genesis.hash
    assert verify_chain([genesis], tenant=ACME, user=ALICE, pinned=state.pin) == state


def test_pin_refuses_a_shorter_chain_and_calls_another_one_a_fork() -> None:
    entries, state = cast.begin()
    longer = extend(state, add(state))
    assert verify_chain(entries, tenant=ACME, user=ALICE, pinned=state.pin) == state
    assert verify_chain([*entries, add(state)], tenant=ACME, user=ALICE, pinned=state.pin).seq == 2
    with pytest.raises(Untrusted, match="shorter") as caught:
        verify_chain(entries, tenant=ACME, user=ALICE, pinned=longer.pin)
    assert not isinstance(caught.value, Forked)
    with pytest.raises(Forked):
        verify_chain([*entries, add(state, "tablet")], tenant=ACME, user=ALICE, pinned=longer.pin)
    with pytest.raises(Forked):
        verify_chain(entries, tenant=ACME, user=ALICE, pinned=ChainPin(0, hash_of("another genesis")))


def test_re_genesis_is_believed_on_the_word_of_m_officers_and_carries_nothing_over() -> None:
    _, state = cast.begin(RECOVERY.public)
    generation = chain_author.archive_generation(state, by=BY, generation=1, not_before=NOW, commitment=hash_of("ak 1"))
    state = extend(state, generation)
    after = extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2]), policies=POLICIES)
    assert after.aik == NEW.public
    assert after.devices == {}
    assert after.revoked == {LAPTOP}
    assert after.recovery_key is None
    assert after.generations == state.generations
    assert after.re_genesis is not None
    assert after.re_genesis.seq == after.seq
    with pytest.raises(Forked):
        extend(after, add(after))  # the old identity is over


@pytest.mark.parametrize("signers", [(), (0,), (0, 0)])
def test_re_genesis_refuses_fewer_than_m_officers(signers: tuple[int, ...]) -> None:
    _, state = cast.begin()
    with pytest.raises((QuorumNotMet, Malformed)):
        extend(state, begin_again(state, NEW, *(OFFICER_KEYS[i] for i in signers)), policies=POLICIES)


@pytest.mark.parametrize(
    "said",
    [
        {"old_head": hash_of("an older head")},
        {"new_aik": RECOVERY.public},
        {"header": Header(ACME, cast.RITA, b"", NOW)},
        {"header": Header(cast.MALLORY_TENANT, ALICE, b"", NOW)},
    ],
)
def test_re_genesis_refuses_attestations_about_anything_else(said: dict[str, Any]) -> None:
    _, state = cast.begin()
    with pytest.raises(Untrusted):
        extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2], **said), policies=POLICIES)


def with_attestations(state: ChainState, *attestations: Sign1, policy_hash: bytes = SIGNED_POLICY.hash) -> Entry:
    return chain_author.re_genesis(
        state, by=Author(PHONE, NOW, NEW), attestations=attestations, policy_hash=policy_hash
    )


def test_re_genesis_refuses_attestations_of_two_cases_or_two_devices() -> None:
    _, state = cast.begin()
    one = cast.attest(OFFICER_KEYS[0], state, NEW.public, hash_of("new phone"))
    for other in (
        cast.attest(OFFICER_KEYS[1], state, NEW.public, hash_of("mallory's phone")),
        cast.attest(OFFICER_KEYS[1], state, NEW.public, hash_of("new phone"), case_id=id_of("another case")),
    ):
        with pytest.raises(Untrusted, match="different cases"):
            extend(state, with_attestations(state, one, other), policies=POLICIES)


def test_re_genesis_refuses_strangers_forgeries_and_other_purposes() -> None:
    _, state = cast.begin()
    one = cast.attest(OFFICER_KEYS[0], state, NEW.public, hash_of("new phone"))
    stranger = cast.attest(SigningKey.generate(), state, NEW.public, hash_of("new phone"))
    honest = cast.attest(OFFICER_KEYS[2], state, NEW.public, hash_of("new phone"))
    forged = replace(honest, signature=bytes(64))
    vetoed = cose.sign(one.payload, purpose=Purpose.VETO, key=OFFICER_KEYS[2])
    for other, error in ((stranger, Untrusted), (forged, InvalidSignature), (vetoed, InvalidSignature)):
        with pytest.raises(error):
            extend(state, with_attestations(state, one, other), policies=POLICIES)


def test_re_genesis_refuses_a_policy_that_the_verifier_does_not_hold() -> None:
    _, state = cast.begin()
    entry = begin_again(state, NEW, *OFFICER_KEYS[:2])
    foreign = replace(
        SIGNED_POLICY, policy=replace(cast.POLICY, header=replace(cast.TENANT, tenant=cast.MALLORY_TENANT))
    )
    for policies in ((), (replace(SIGNED_POLICY, hash=hash_of("another")),), (foreign,)):
        with pytest.raises(Untrusted, match="does not hold"):
            extend(state, entry, policies=policies)


def successor(signed: SignedPolicy = SIGNED_POLICY, **changes: Any) -> SignedPolicy:
    """The next version, signed by the officers of the one before."""
    payload = cast.next_policy(signed, **changes).to_payload()
    by_all = cast.signed_by(OFFICER_KEYS, payload, Purpose.POLICY)
    return verify_successor(by_all, predecessor=signed, history=(SIGNED_POLICY,))


def test_re_genesis_refuses_a_policy_older_than_the_one_in_force_when_the_chain_was_last_seen() -> None:
    _, state = cast.begin()
    replaced_at = AGAIN + DAY
    policies = (SIGNED_POLICY, successor(header=replace(cast.TENANT, issued_at=replaced_at)))
    entry = begin_again(state, NEW, *OFFICER_KEYS[:2])
    assert extend(state, entry, policies=policies, oldest_policy=1).re_genesis
    with pytest.raises(Untrusted, match="no longer in force"):
        extend(state, entry, policies=policies, oldest_policy=2)


def test_re_genesis_holds_unless_its_policy_was_replaced_by_then_for_certain() -> None:
    """A version may be published a month after its date: one only signed before must not close the account for ever."""
    _, state = cast.begin()
    replaced_at = AGAIN + DAY
    policies = (SIGNED_POLICY, successor(header=replace(cast.TENANT, issued_at=replaced_at)))
    certain = replaced_at + MAX_AGE_SECONDS + cast.TERMS.cooling_off_seconds + BACKWARDS_SECONDS
    for at in (AGAIN, replaced_at + 3 * DAY, certain - 1):
        assert extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2], at=at), policies=policies).re_genesis
    too_late = begin_again(state, NEW, *OFFICER_KEYS[:2], at=certain)
    with pytest.raises(Untrusted, match="no longer in force at its date"):
        extend(state, too_late, policies=policies)


def test_re_genesis_before_the_policys_delay_is_refused_by_every_reader() -> None:
    """The server sees to the delay; a server that does not is found out by the dates that officers signed."""
    _, state = cast.begin()
    soonest = AGAIN - BACKWARDS_SECONDS
    assert extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2], at=soonest), policies=POLICIES).re_genesis
    with pytest.raises(Untrusted, match="delay"):
        extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2], at=soonest - 1), policies=POLICIES)
    # It runs from the word that made the quorum: the second officer's, however often the first one spoke.
    said = [
        cast.attest(key, state, NEW.public, hash_of("new phone"), header=Header(ACME, ALICE, b"", NOW + at))
        for key, at in ((OFFICER_KEYS[0], 0), (OFFICER_KEYS[0], 1), (OFFICER_KEYS[1], DAY))
    ]
    assert begins_from(said, SIGNED_POLICY.policy) == AGAIN + DAY
    for at, is_right in ((soonest, False), (soonest + DAY, True)):
        by = Author(PHONE, at, NEW)
        entry = chain_author.re_genesis(state, by=by, attestations=said, policy_hash=SIGNED_POLICY.hash)
        if is_right:
            assert extend(state, entry, policies=POLICIES).re_genesis
        else:
            with pytest.raises(Untrusted, match="delay"):
                extend(state, entry, policies=POLICIES)


def test_re_genesis_refuses_the_copy_of_a_policy_that_still_waits() -> None:
    """A version that lowers a guard waits; its copy lowers nothing against it, and waits as long."""
    _, state = cast.begin()
    lower = successor(terms=replace(cast.TERMS, delay_seconds=0))
    copy = successor(lower, header=replace(cast.TENANT, issued_at=NOW + 60), held_in_force=SIGNED_POLICY.hash)
    policies = (SIGNED_POLICY, lower, copy)
    assert [in_force(policies, NOW + seconds) for seconds in (60, DAY - 1, DAY, DAY + 60)] == [1, 1, 2, 3]
    said = [cast.attest(key, state, NEW.public, hash_of("new phone")) for key in OFFICER_KEYS[:2]]
    entry = chain_author.re_genesis(
        state, by=Author(PHONE, NOW + DAY // 2, NEW), attestations=said, policy_hash=copy.hash
    )
    with pytest.raises(Untrusted, match="not in force yet"):
        extend(state, entry, policies=policies)


def test_re_genesis_refuses_a_policy_that_lowers_a_guard_until_its_cooling_off_is_over() -> None:
    _, state = cast.begin()
    lower = successor(terms=replace(cast.TERMS, delay_seconds=0))
    policies = (SIGNED_POLICY, lower)
    assert [in_force(policies, NOW + seconds) for seconds in (-1, 0, DAY - 1, DAY)] == [1, 1, 1, 2]
    assert in_force((), NOW) == 0

    def named(days: float) -> Entry:
        said = [cast.attest(key, state, NEW.public, hash_of("new phone")) for key in OFFICER_KEYS[:2]]
        by = Author(PHONE, NOW + int(days * DAY), NEW)
        return chain_author.re_genesis(state, by=by, attestations=said, policy_hash=lower.hash)

    assert extend(state, named(1), policies=policies).re_genesis
    with pytest.raises(Untrusted, match="not in force yet"):
        extend(state, named(0.5), policies=policies)


def test_re_genesis_refuses_an_officer_who_is_the_one_attested() -> None:
    header = Header(ACME, cast.CAROL, LAPTOP, NOW)
    state = verify_chain([Entry.make(header, 0, b"", Genesis(AIK.public, None), (AIK,))], tenant=ACME, user=cast.CAROL)
    about = Header(ACME, cast.CAROL, b"", NOW)
    for signers in (OFFICER_KEYS[:2], OFFICER_KEYS):
        entry = begin_again(state, NEW, *signers, header=about)
        with pytest.raises(Untrusted, match="an officer does not attest themselves"):
            extend(state, entry, policies=POLICIES)
    assert extend(state, begin_again(state, NEW, *OFFICER_KEYS[1:], header=about), policies=POLICIES).re_genesis


def test_re_genesis_refuses_to_bring_a_used_key_back_and_to_be_signed_by_another() -> None:
    _, state = cast.begin(RECOVERY.public)
    for used in (AIK, RECOVERY):
        with pytest.raises(Untrusted, match="has used"):
            extend(state, begin_again(state, used, *OFFICER_KEYS[:2]), policies=POLICIES)
    body = begin_again(state, NEW, *OFFICER_KEYS[:2]).body
    with pytest.raises(InvalidSignature):
        extend(state, at(state, body, AIK), policies=POLICIES)


def test_first_device_after_a_re_genesis_is_the_one_that_the_officers_saw() -> None:
    _, state = cast.begin()
    state = extend(state, begin_again(state, NEW, *OFFICER_KEYS[:2]), policies=POLICIES)
    by = Author(PHONE, AGAIN, NEW)
    with pytest.raises(Untrusted, match="attested"):
        extend(state, add(state, "mallory's phone", by))
    # Nor does an entry in between make the promise forgotten.
    state = extend(state, chain_author.set_recovery_key(state, by=by, recovery_key=RECOVERY.public))
    with pytest.raises(Untrusted, match="attested"):
        extend(state, add(state, "mallory's phone", by))
    state = extend(state, add(state, "new phone", by))
    assert extend(state, add(state, "tablet", by)).devices.keys() == {id_of("new phone"), id_of("tablet")}


def test_entry_refuses_an_array_of_one_and_of_three_signers() -> None:
    _, state = cast.begin()
    one = add(state).signatures[0]
    others = [cose.sign(one.payload, purpose=Purpose.CHAIN, key=SigningKey.generate()) for _ in range(2)]
    values: tuple[Any, ...] = ([one.value()], [each.value() for each in (one, *others)], [], {}, b"", [[]])
    for value in values:
        with pytest.raises(Malformed):
            Entry.parse(encode(value))


@pytest.mark.parametrize("kind", [0, 9, 255])
def test_entry_refuses_an_unknown_type(kind: int) -> None:
    payload = encode(
        {1: 1, 2: ACME, 3: ALICE, 4: LAPTOP, 5: NOW, 6: 0, 7: 1, 8: hash_of("p"), 9: kind, 10: {1: AIK.public.encoded}}
    )
    with pytest.raises(Malformed, match="known type"):
        Entry.parse(cose.sign(payload, purpose=Purpose.CHAIN, key=AIK).encode())


@pytest.mark.parametrize(("seq", "prev"), [(0, hash_of("p")), (1, b""), (1, bytes(31))])
def test_entry_refuses_a_predecessor_before_the_first_and_none_after_it(seq: int, prev: bytes) -> None:
    with pytest.raises(Malformed, match="field 8"):
        Entry.make(Header(ACME, ALICE, LAPTOP, NOW), seq, prev, ShareManifest(hash_of("m")), (AIK,))


def test_entry_refuses_to_be_nobodys() -> None:
    with pytest.raises(Malformed, match="no user"):
        Entry.make(Header(ACME, b"", b"", NOW), 0, b"", Genesis(AIK.public, None), (AIK,))


def test_chain_refuses_a_statement_of_another_purpose_with_a_perfect_payload() -> None:
    _, state = cast.begin()
    payload = add(state).signatures[0].payload
    for purpose in Purpose:
        if purpose is not Purpose.CHAIN:
            entry = Entry.parse(cose.sign(payload, purpose=purpose, key=AIK).encode())
            with pytest.raises(InvalidSignature):
                extend(state, entry)


def test_entry_refuses_to_be_made_above_sixteen_kibibytes() -> None:
    said = cose.sign(bytes(7985), purpose=Purpose.ATTESTATION, key=OFFICER_KEYS[0])
    header = Header(ACME, ALICE, LAPTOP, NOW)
    body = ReGenesis(NEW.public, (said, said), SIGNED_POLICY.hash)
    # The payload is just below the limit, and the signature takes the entry above it.
    assert 16384 - 90 < len(close_payload(header, {7: 1, 8: hash_of("p"), 9: 8, 10: body.to_map()})) <= 16384
    with pytest.raises(Malformed, match="above 16 KiB"):
        Entry.make(header, 1, hash_of("p"), body, (NEW,))
