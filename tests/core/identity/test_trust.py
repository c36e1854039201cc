# SPDX-License-Identifier: Apache-2.0
"""A client reaches officers and escrow keys from its pin, by one path, and by no other. FAULTS S1, S3, S7, S15."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.encoding import Encodable, encode
from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, OutOfBounds, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import PublicKey, RecipientRsaKey, SigningKey
from holdfast.core.identity.acts import Act, Resolution
from holdfast.core.identity.policy import Policy, SignedPolicy, verify_successor
from holdfast.core.identity.trust import (
    SignedTenantKey,
    TrustedTenant,
    pin_words,
    root_pin,
    verify_escrow_keys,
    verify_offline_keys,
    verify_tenant,
)
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import EscrowKey, OfflineKey
from tests.cast import statements as cast
from tests.cast.statements import ACME, FOUNDING, OFFICER_KEYS, OFFICERS, ROOT, SIGNED_POLICY

PIN = root_pin(ACME, ROOT.public, SIGNED_POLICY.hash)
# In version 2 erin's place is rita's.
RITA_KEY = SigningKey.generate()
SECOND = cast.next_policy(roster=(*OFFICERS[:2], replace(OFFICERS[2], person=cast.RITA, signing_key=RITA_KEY.public)))
SECOND_SIGNED = cast.signed_by(OFFICER_KEYS[:2], SECOND.to_payload(), Purpose.POLICY)
SECOND_POLICY = verify_successor(SECOND_SIGNED, predecessor=SIGNED_POLICY)
NEXT_RSA = RecipientRsaKey.generate().public


def acme(history: Sequence[Sequence[Sign1]] = (FOUNDING, SECOND_SIGNED), **changes: Any) -> TrustedTenant:
    asked: dict[str, Any] = {"tenant": ACME, "root_key": ROOT.public, "pin": PIN} | changes
    return verify_tenant(history, **asked)


def signed(key: EscrowKey | OfflineKey, *keys: SigningKey, purpose: Purpose = Purpose.ESCROW_KEY) -> tuple[Sign1, ...]:
    return cast.signed_by(keys, key.to_payload(), purpose)


FIRST = signed(cast.escrow_key(), ROOT, *OFFICER_KEYS[:2])


def rotated(to: PublicKey = NEXT_RSA, **changes: Any) -> EscrowKey:
    fields: dict[str, Any] = {
        "version": 2,
        "key": to,
        "predecessor": FIRST[0].payload_hash,
        "policy_hash": SECOND_POLICY.hash,
    } | changes
    return cast.escrow_key(**fields)


ROTATED = signed(rotated(), ROOT, OFFICER_KEYS[0], RITA_KEY)


def test_pin_is_the_hash_that_the_page_gives_and_eight_words() -> None:
    parts: list[Encodable] = ["holdfast/v1/root", ACME, ROOT.public.encoded, SIGNED_POLICY.hash]
    assert hashlib.sha256(encode(parts)).digest() == PIN
    assert len(pin_words(PIN)) == 8
    others = (
        root_pin(cast.MALLORY_TENANT, ROOT.public, SIGNED_POLICY.hash),
        root_pin(ACME, SigningKey.generate().public, SIGNED_POLICY.hash),
        root_pin(ACME, ROOT.public, SECOND_POLICY.hash),
    )
    assert len({PIN, *others}) == 4
    assert pin_words(PIN) not in {pin_words(other) for other in others}


def test_tenant_is_followed_from_the_pin_to_the_newest_policy() -> None:
    trusted = acme()
    assert [signed.policy.version for signed in trusted.policies] == [1, 2]
    assert trusted.newest == SECOND_POLICY
    assert trusted.policy_named(SIGNED_POLICY.hash) == SIGNED_POLICY
    with pytest.raises(Untrusted):
        trusted.policy_named(cast.hash_of("unknown"))


@pytest.mark.parametrize(
    "changes",
    [
        {"pin": bytes(32)},
        {"pin": b""},
        {"root_key": SigningKey.generate().public},
        {"tenant": cast.MALLORY_TENANT},
    ],
)
def test_tenant_refuses_another_pin_root_or_tenant(changes: dict[str, Any]) -> None:
    with pytest.raises(Untrusted):
        acme(**changes)


def test_tenant_refuses_mallorys_own_founders_under_the_right_root() -> None:
    keys = [SigningKey.generate() for _ in range(3)]
    roster = tuple(replace(row, signing_key=key.public) for row, key in zip(OFFICERS, keys, strict=True))
    coup = cast.signed_by(keys, replace(cast.POLICY, roster=roster).to_payload(), Purpose.POLICY)
    with pytest.raises(Untrusted, match="not the pinned"):
        acme([coup])


def test_tenant_refuses_no_history_a_reordered_one_and_one_with_a_gap() -> None:
    third = cast.next_policy(SECOND_POLICY)
    third_signed = cast.signed_by(OFFICER_KEYS[:2], third.to_payload(), Purpose.POLICY)
    assert acme([FOUNDING, SECOND_SIGNED, third_signed]).newest.policy.version == 3
    for history in ([], [SECOND_SIGNED], [SECOND_SIGNED, FOUNDING], [FOUNDING, third_signed], [FOUNDING, FOUNDING]):
        with pytest.raises(Untrusted):
            acme(history)


def test_tenant_refuses_an_old_history_after_a_newer_one_was_seen() -> None:
    assert acme(seen=SECOND_POLICY).newest == SECOND_POLICY
    assert acme(seen=SIGNED_POLICY).newest == SECOND_POLICY
    with pytest.raises(Untrusted, match="older than the one seen"):
        acme([FOUNDING], seen=SECOND_POLICY)


def test_tenant_calls_two_second_versions_a_fork() -> None:
    other = replace(SECOND, terms=replace(SECOND.terms, delay_seconds=0))
    other_signed = cast.signed_by(OFFICER_KEYS[:2], other.to_payload(), Purpose.POLICY)
    assert acme([FOUNDING, other_signed]).newest.policy == other
    with pytest.raises(Forked):
        acme([FOUNDING, other_signed], seen=SECOND_POLICY)


def test_escrow_keys_are_followed_from_the_first_to_the_newest() -> None:
    first, second = verify_escrow_keys([FIRST, ROTATED], trusted=acme())
    assert first.statement == cast.escrow_key()
    assert second.statement.key == NEXT_RSA
    assert second.hash == ROTATED[0].payload_hash
    assert verify_escrow_keys([], trusted=acme()) == ()


def refused(statements: Sequence[Sign1], error: type[Exception], **asked: Any) -> None:
    """Refuse at enrolment and, where it can be a rotation, at rotation: one path for both."""
    with pytest.raises(error):
        verify_escrow_keys([statements], trusted=acme(), **asked)


def test_escrow_key_refuses_the_servers_own_key_however_signed() -> None:
    server = [SigningKey.generate() for _ in range(3)]
    key = cast.escrow_key(key=NEXT_RSA)
    refused(signed(key, *server), QuorumNotMet)
    refused(signed(key, ROOT), QuorumNotMet)
    refused(signed(key, ROOT, OFFICER_KEYS[0]), QuorumNotMet)
    refused(signed(key, *OFFICER_KEYS), QuorumNotMet)
    refused(signed(key, server[0], *OFFICER_KEYS), QuorumNotMet)
    refused(signed(key, ROOT, *server), Untrusted)
    refused(signed(key, ROOT, OFFICER_KEYS[0], server[0]), Untrusted)
    refused([], Malformed)


def test_escrow_key_refuses_signatures_carried_over_from_another_key_or_purpose() -> None:
    key = cast.escrow_key(key=NEXT_RSA)
    carried = [replace(one, payload=key.to_payload()) for one in FIRST]
    refused(carried, InvalidSignature)
    refused([*signed(key, ROOT), *carried[1:]], InvalidSignature)
    refused([carried[0], *signed(key, *OFFICER_KEYS[:2])], InvalidSignature)
    refused(signed(key, ROOT, *OFFICER_KEYS[:2], purpose=Purpose.OFFLINE_KEY), InvalidSignature)
    refused([FIRST[0], *signed(key, *OFFICER_KEYS[:2])], Malformed)


def test_escrow_key_counts_an_officer_once() -> None:
    once = signed(cast.escrow_key(), ROOT, OFFICER_KEYS[0], OFFICER_KEYS[0])
    refused(once, QuorumNotMet)


def test_escrow_key_refuses_another_tenant_and_a_policy_that_the_pin_does_not_lead_to() -> None:
    foreign = cast.escrow_key(header=replace(cast.TENANT, tenant=cast.MALLORY_TENANT))
    refused(signed(foreign, ROOT, *OFFICER_KEYS[:2]), Untrusted)
    refused(signed(cast.escrow_key(policy_hash=cast.hash_of("x")), ROOT, *OFFICER_KEYS[:2]), Untrusted)
    # Rita is no officer of version 1.
    refused(signed(cast.escrow_key(), ROOT, OFFICER_KEYS[0], RITA_KEY), Untrusted)


def test_escrow_key_refuses_a_substitution_at_rotation() -> None:
    trusted = acme()
    for statements, error in (
        (signed(rotated(), *OFFICER_KEYS[:2]), QuorumNotMet),
        (signed(rotated(), ROOT, OFFICER_KEYS[0]), QuorumNotMet),
        (signed(rotated(predecessor=cast.hash_of("x")), ROOT, *OFFICER_KEYS[:2]), Forked),
        (signed(rotated(version=3), ROOT, *OFFICER_KEYS[:2]), Untrusted),
        (signed(rotated(), ROOT, OFFICER_KEYS[0], OFFICER_KEYS[2]), Untrusted),  # erin has left
        (FIRST, Untrusted),
    ):
        with pytest.raises(error):
            verify_escrow_keys([FIRST, statements], trusted=trusted)


def test_escrow_key_refuses_a_rotation_under_a_policy_older_than_its_predecessors() -> None:
    first = signed(cast.escrow_key(policy_hash=SECOND_POLICY.hash), ROOT, *OFFICER_KEYS[:2])
    back = rotated(predecessor=first[0].payload_hash, policy_hash=SIGNED_POLICY.hash)
    with pytest.raises(Untrusted, match="older policy"):
        verify_escrow_keys([first, signed(back, ROOT, *OFFICER_KEYS[:2])], trusted=acme())


def test_escrow_key_is_rotated_under_the_same_policy_too() -> None:
    same = signed(rotated(policy_hash=SIGNED_POLICY.hash), ROOT, *OFFICER_KEYS[:2])
    assert verify_escrow_keys([FIRST, same], trusted=acme())[-1].statement.key == NEXT_RSA


def test_escrow_key_refuses_an_older_history_and_a_fork_of_the_one_seen() -> None:
    trusted = acme()
    newest = verify_escrow_keys([FIRST, ROTATED], trusted=trusted)[-1]
    assert verify_escrow_keys([FIRST, ROTATED], trusted=trusted, seen=newest)[-1] == newest
    with pytest.raises(Untrusted, match="older"):
        verify_escrow_keys([FIRST], trusted=trusted, seen=newest)
    with pytest.raises(Untrusted, match="older"):
        verify_escrow_keys([], trusted=trusted, seen=newest)
    other = signed(rotated(cast.RSA.public), ROOT, *OFFICER_KEYS[:2])
    with pytest.raises(Forked):
        verify_escrow_keys([FIRST, other], trusted=trusted, seen=newest)


def test_escrow_key_refuses_sha1_unless_the_pin_marks_the_tenant_for_development() -> None:
    for algorithm in ("oaep-sha1", "oaep-sha1-ctx"):
        weak = signed(cast.escrow_key(algorithm=algorithm), ROOT, *OFFICER_KEYS[:2])
        refused(weak, OutOfBounds)
        (kept,) = verify_escrow_keys([weak], trusted=acme(is_development=True))
        assert kept.statement.algorithm == algorithm
    assert verify_escrow_keys(
        [signed(cast.escrow_key(algorithm="oaep-sha256-ctx"), ROOT, *OFFICER_KEYS[:2])], trusted=acme()
    )


def test_long_history_costs_its_signatures_and_one_reading_of_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> None:
        done = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: counted.update([name]) or done(*given, **named))

    history = cast.policy_history(30)
    counting(Sign1, "verify")
    counting(Policy, "from_payload")
    counting(PublicKey, "_of_parsed")
    pin = root_pin(ACME, ROOT.public, SIGNED_POLICY.hash)
    verify_tenant(history, tenant=ACME, root_key=ROOT.public, pin=pin)
    assert counted["verify"] == sum(map(len, history)) == 61
    assert counted["from_payload"] == 30
    # Two of each officer, and two of the release process: the versions name no others.
    assert counted["_of_parsed"] <= 8


def test_version_that_waits_is_the_newest_and_not_the_one_in_force() -> None:
    trusted = acme()
    # Erin has not signed that rita takes their place.
    for seconds, version in ((0, 1), (cast.DAY - 1, 1), (cast.DAY, 2)):
        assert trusted.in_force(cast.NOW + seconds).policy.version == version
    assert acme(withdrawn=[SECOND_POLICY.hash]).in_force(cast.NOW + cast.DAY) == SIGNED_POLICY


def withdrawal(of: SignedPolicy, under: SignedPolicy, *keys: SigningKey, act: Act = Act.WITHDRAW_VERSION) -> Any:
    about: tuple[int | bytes, ...] = (of.policy.version, of.hash)
    resolution = Resolution(cast.TENANT, act, about, under.hash, cast.id_of("nonce"))
    return cast.signed_by(keys, resolution.to_payload(), Purpose.RESOLUTION)


THIRD = cast.signed_by(
    OFFICER_KEYS[:2],
    cast.next_policy(SIGNED_POLICY, version=3, held_in_force=SIGNED_POLICY.hash).to_payload(),
    Purpose.POLICY,
)


def test_version_skips_only_what_officers_have_withdrawn() -> None:
    history = (FOUNDING, SECOND_SIGNED, THIRD)
    with pytest.raises(Untrusted):
        acme(history)
    trusted = acme(history, withdrawals=[withdrawal(SECOND_POLICY, SIGNED_POLICY, *OFFICER_KEYS[:2])])
    assert [signed.policy.version for signed in trusted.policies] == [1, 2, 3]
    assert trusted.newest.policy.version == 3
    assert trusted.withdrawn == {SECOND_POLICY.hash}
    # The caller's own knowledge, where it took the resolution itself.
    assert acme(history, withdrawn=[SECOND_POLICY.hash]) == trusted
    assert acme(history[:2], withdrawn=[SECOND_POLICY.hash]).newest == SIGNED_POLICY


def test_withdrawal_is_the_word_of_m_officers_of_a_version_that_the_pin_leads_to() -> None:
    history = (FOUNDING, SECOND_SIGNED, THIRD)
    with pytest.raises(QuorumNotMet):
        acme(history, withdrawals=[withdrawal(SECOND_POLICY, SIGNED_POLICY, OFFICER_KEYS[0])])
    with pytest.raises(Untrusted):
        acme(history, withdrawals=[withdrawal(SECOND_POLICY, SIGNED_POLICY, *OFFICER_KEYS[:2], RITA_KEY)])
    for of, under in (
        (SECOND_POLICY, replace(SIGNED_POLICY, hash=cast.hash_of("x"))),
        (replace(SECOND_POLICY, hash=cast.hash_of("x")), SIGNED_POLICY),
    ):
        with pytest.raises(Untrusted):
            acme(history[:2], withdrawals=[withdrawal(of, under, *OFFICER_KEYS[:2])])
    with pytest.raises(Malformed):
        acme(history[:2], withdrawals=[withdrawal(SECOND_POLICY, SIGNED_POLICY, *OFFICER_KEYS, act=Act.ACCEPT_LOG)])


def test_what_follows_a_withdrawn_version_falls_with_it() -> None:
    third = cast.next_policy(SECOND_POLICY, held_in_force=SIGNED_POLICY.hash)
    signed_third = cast.signed_by(OFFICER_KEYS[:2], third.to_payload(), Purpose.POLICY)
    history = (FOUNDING, SECOND_SIGNED, signed_third)
    assert acme(history).newest.policy == third
    trusted = acme(history, withdrawn=[SECOND_POLICY.hash])
    assert (trusted.newest, len(trusted.withdrawn)) == (SIGNED_POLICY, 2)


def test_versions_from_before_field_12_are_followed_as_far_as_the_verifier_has_known_them() -> None:
    early = cast.signed_by(OFFICER_KEYS[:2], cast.next_policy(held_in_force=b"").to_payload(), Purpose.POLICY)
    with pytest.raises(Untrusted, match="in force"):
        acme((FOUNDING, early))
    assert acme((FOUNDING, early), early=2).newest.policy.version == 2


def test_a_fork_is_not_cried_over_a_key_or_policy_that_nobody_entitled_signed() -> None:
    stranger = SigningKey.generate()
    key = signed(rotated(predecessor=cast.hash_of("x")), ROOT, stranger)
    with pytest.raises(Untrusted) as caught:
        verify_escrow_keys([FIRST, key], trusted=acme())
    assert not isinstance(caught.value, Forked)
    policy = cast.signed_by([stranger], cast.next_policy(predecessor=cast.hash_of("x")).to_payload(), Purpose.POLICY)
    with pytest.raises(Untrusted) as caught:
        verify_successor(policy, predecessor=SIGNED_POLICY)
    assert not isinstance(caught.value, Forked)


def test_offline_key_is_held_to_the_same_path() -> None:
    key = OfflineKey(cast.TENANT, cast.SEALING.public, 1, "x-wing", b"", SIGNED_POLICY.hash)
    statements = signed(key, ROOT, *OFFICER_KEYS[:2], purpose=Purpose.OFFLINE_KEY)
    (kept,) = verify_offline_keys([statements], trusted=acme())
    assert kept == SignedTenantKey(key, statements[0].payload_hash)
    with pytest.raises(QuorumNotMet):
        verify_offline_keys([statements[:2]], trusted=acme())
    with pytest.raises(Malformed):
        verify_offline_keys([FIRST], trusted=acme())
    with pytest.raises(Forked):
        verify_offline_keys([statements], trusted=acme(), seen=replace(kept, hash=cast.hash_of("another")))
