# SPDX-License-Identifier: Apache-2.0
"""Officers' standing and resolutions: who says it, of whom, under which policy, and for how long."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.errors import Expired, InvalidSignature, Malformed, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.acts import (
    MAX_AGE_SECONDS,
    MAX_REASON,
    Act,
    OfficerState,
    Resolution,
    Standing,
    accepted_log,
    read_resolution,
    verify_officer_state,
    verify_resolution,
)
from holdfast.core.log.accepted import AcceptedLog
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from tests.cast import statements as cast
from tests.cast.statements import CAROL, DAN, ERIN, NOW, OFFICER_KEYS, SIGNED_POLICY, TENANT
from tests.cast.unread import unread

CAROLS, DANS, ERINS = OFFICER_KEYS


def stated(key: SigningKey, person: bytes, standing: Standing, **changes: Any) -> Sign1:
    said = replace(OfficerState(TENANT, person, standing, "as told"), **changes)
    return cose.sign(unread(said), purpose=Purpose.OFFICER_STATE, key=key)


def passed(made: Resolution, *keys: SigningKey, purpose: Purpose = Purpose.RESOLUTION) -> tuple[Sign1, ...]:
    return cast.signed_by(keys, made.to_payload(), purpose)


@pytest.mark.parametrize("standing", [Standing.BACK, Standing.AWAY])
def test_officer_says_away_and_back_of_themselves_alone(standing: Standing) -> None:
    said, signer = verify_officer_state(stated(CAROLS, CAROL, standing), SIGNED_POLICY)
    assert (said.person, said.standing, signer.person) == (CAROL, standing, CAROL)
    with pytest.raises(Untrusted, match="own word"):
        verify_officer_state(stated(DANS, CAROL, standing), SIGNED_POLICY)


@pytest.mark.parametrize("standing", [Standing.SUSPENDED, Standing.REMOVED])
def test_another_officer_says_suspended_and_removed_with_a_reason(standing: Standing) -> None:
    said, signer = verify_officer_state(stated(DANS, CAROL, standing), SIGNED_POLICY)
    assert (said.person, said.reason, signer.person) == (CAROL, "as told", DAN)
    with pytest.raises(Untrusted, match="own word"):
        verify_officer_state(stated(CAROLS, CAROL, standing), SIGNED_POLICY)
    for reason in ("", " \n"):
        with pytest.raises(Malformed, match="field 9"):
            verify_officer_state(stated(DANS, CAROL, standing, reason=reason), SIGNED_POLICY)
    with pytest.raises(Malformed):
        verify_officer_state(stated(DANS, CAROL, standing, reason="x" * (MAX_REASON + 1)), SIGNED_POLICY)


def test_officer_state_refuses_outsiders_other_tenants_and_other_purposes() -> None:
    with pytest.raises(Untrusted, match="no officer"):
        verify_officer_state(stated(SigningKey.generate(), CAROL, Standing.AWAY), SIGNED_POLICY)
    with pytest.raises(Untrusted, match="nobody of the roster"):
        verify_officer_state(stated(CAROLS, cast.RITA, Standing.SUSPENDED), SIGNED_POLICY)
    foreign = replace(TENANT, tenant=cast.MALLORY_TENANT)
    with pytest.raises(Untrusted, match="another tenant"):
        verify_officer_state(stated(CAROLS, CAROL, Standing.AWAY, header=foreign), SIGNED_POLICY)
    said = OfficerState(TENANT, CAROL, Standing.AWAY, "")
    with pytest.raises(InvalidSignature):
        verify_officer_state(cose.sign(said.to_payload(), purpose=Purpose.RESOLUTION, key=CAROLS), SIGNED_POLICY)


def test_resolution_is_passed_by_m_officers_and_says_its_object() -> None:
    made = cast.resolution()
    assert verify_resolution(passed(made, CAROLS, DANS), SIGNED_POLICY, at=NOW) == made
    assert (made.version, made.hash) == (2, cast.hash_of("version 2"))
    leaf = cast.resolution(Act.ACKNOWLEDGE_LEAF, 7, cast.hash_of("leaf"))
    assert (leaf.index, leaf.hash) == (7, cast.hash_of("leaf"))
    log = cast.resolution(Act.ACCEPT_LOG, 9, cast.hash_of("root"))
    assert (log.size, log.hash) == (9, cast.hash_of("root"))
    assert log.key_log is None
    both = cast.resolution(Act.ACCEPT_LOG, 9, cast.hash_of("root"), 7, cast.hash_of("key root"))
    assert Resolution.from_payload(both.to_payload()) == both
    assert (both.size, both.hash, both.key_log) == (9, cast.hash_of("root"), (7, cast.hash_of("key root")))
    assert accepted_log(log, cast.hash_of("it"), "keys") is None
    assert accepted_log(both, cast.hash_of("it"), "audit") == AcceptedLog(
        9, cast.hash_of("root"), NOW, cast.hash_of("it")
    )
    assert accepted_log(both, cast.hash_of("it"), "keys") == AcceptedLog(
        7, cast.hash_of("key root"), NOW, cast.hash_of("it")
    )
    back = cast.resolution(Act.RETURN_OFFICER, DAN)
    assert back.person == DAN
    lost = cast.resolution(Act.SUSPEND_DEVICE, DAN, cast.id_of("phone"))
    assert Resolution.from_payload(lost.to_payload()) == lost
    assert (lost.person, lost.device) == (DAN, cast.id_of("phone"))
    for wrong in (
        lambda: back.version,
        lambda: back.hash,
        lambda: back.device,
        lambda: made.person,
        lambda: log.index,
        lambda: leaf.size,
        lambda: lost.hash,
        lambda: leaf.key_log,
    ):
        with pytest.raises(ValueError, match=r"resolution is no|no hash"):
            wrong()


def test_resolution_by_too_few_is_read_and_not_passed() -> None:
    made = cast.resolution()
    with pytest.raises(QuorumNotMet, match="1 of 2"):
        verify_resolution(passed(made, CAROLS), SIGNED_POLICY, at=NOW)
    assert {one.person for one in read_resolution(passed(made, CAROLS), SIGNED_POLICY, at=NOW)[1]} == {CAROL}
    with pytest.raises(QuorumNotMet):
        verify_resolution(passed(made, CAROLS) * 2, SIGNED_POLICY, at=NOW)


@pytest.mark.parametrize(("act", "about"), [(Act.RETURN_OFFICER, (DAN,)), (Act.SUSPEND_DEVICE, (DAN, bytes(16)))])
def test_whom_a_resolution_concerns_does_not_count(act: Act, about: tuple[bytes, ...]) -> None:
    back = cast.resolution(act, *about)
    with pytest.raises(QuorumNotMet):
        verify_resolution(passed(back, CAROLS, DANS), SIGNED_POLICY, at=NOW)
    assert verify_resolution(passed(back, CAROLS, DANS, ERINS), SIGNED_POLICY, at=NOW) == back
    assert {one.person for one in read_resolution(passed(back, DANS, ERINS), SIGNED_POLICY, at=NOW)[1]} == {ERIN}


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (NOW - MAX_AHEAD_SECONDS, True),
        (NOW - MAX_AHEAD_SECONDS - 1, False),
        (NOW + MAX_AGE_SECONDS, True),
        (NOW + MAX_AGE_SECONDS + 1, False),
    ],
)
def test_resolution_holds_for_thirty_days_from_its_own_date(at: int, holds: bool) -> None:
    signed = passed(cast.resolution(), CAROLS, DANS)
    if holds:
        verify_resolution(signed, SIGNED_POLICY, at=at)
        return
    with pytest.raises(Expired):
        verify_resolution(signed, SIGNED_POLICY, at=at)


def test_resolution_refuses_other_policies_tenants_outsiders_and_mixed_payloads() -> None:
    other = cast.resolution(policy_hash=cast.hash_of("another policy"))
    with pytest.raises(Untrusted, match="another policy"):
        verify_resolution(passed(other, CAROLS, DANS), SIGNED_POLICY, at=NOW)
    foreign = cast.resolution(header=replace(TENANT, tenant=cast.MALLORY_TENANT))
    with pytest.raises(Untrusted, match="another tenant"):
        verify_resolution(passed(foreign, CAROLS, DANS), SIGNED_POLICY, at=NOW)
    with pytest.raises(Untrusted, match="no officer"):
        verify_resolution(passed(cast.resolution(), CAROLS, SigningKey.generate()), SIGNED_POLICY, at=NOW)
    twin = cast.resolution(nonce=cast.id_of("another act"))
    for mixed in ((), (*passed(cast.resolution(), CAROLS), *passed(twin, DANS))):
        with pytest.raises(Malformed):
            verify_resolution(mixed, SIGNED_POLICY, at=NOW)
    with pytest.raises(InvalidSignature):
        verify_resolution(passed(cast.resolution(), CAROLS, DANS, purpose=Purpose.POLICY), SIGNED_POLICY, at=NOW)


@pytest.mark.parametrize(
    ("act", "about"),
    [
        (Act.WITHDRAW_VERSION, (2,)),
        (Act.WITHDRAW_VERSION, (2, bytes(31))),
        (Act.RETURN_OFFICER, (bytes(15),)),
        (Act.RETURN_OFFICER, (DAN, DAN)),
        (Act.ACKNOWLEDGE_LEAF, (bytes(32), 7)),
        (Act.ACCEPT_LOG, (7, bytes(32), 0)),
        (Act.ACCEPT_LOG, (7, bytes(32), 0, bytes(31))),
        (Act.ACCEPT_LOG, (7, bytes(32), bytes(32), 0)),
        (Act.ACCEPT_LOG, (7, bytes(32), 0, bytes(32), 0)),
        (Act.SUSPEND_DEVICE, (DAN,)),
        (Act.SUSPEND_DEVICE, (DAN, bytes(32))),
    ],
)
def test_resolution_refuses_an_object_that_its_act_does_not_have(act: Act, about: tuple[int | bytes, ...]) -> None:
    with pytest.raises(Malformed, match="resolution object"):
        Resolution.from_payload(unread(cast.resolution(act, *about)))
