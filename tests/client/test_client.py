# SPDX-License-Identifier: Apache-2.0
"""What the client does when the server is honest, and how it carries on after an interruption."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from holdfast.client.errors import (
    ConsentNeeded,
    NotPossible,
    NotYet,
    Problem,
    ProfileError,
    TrustRefused,
    Unreachable,
    WrongInput,
)
from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import chains, contacts, device, key_log
from holdfast.client.messages import bundles, prekeys
from holdfast.client.officers import officer
from holdfast.client.recovery import by_case
from holdfast.client.server.clock import Clock
from holdfast.client.vault import doors
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.cases import Case
from holdfast.core.identity.policy import DepositRule
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.cast.lying_server import NOW, TENANT, LyingServer, Tenant, text
from tests.cast.members import ALICE, BOB, CHEAP, PASSWORD, Members, heard
from tests.cast.officers import Founder


def test_first_device_begins_the_account_and_is_in_it(world: Members) -> None:
    account = world.profile(ALICE)
    done = device.enrol(account, world.server.code(ALICE), name="laptop")
    assert done.is_active
    assert not done.trust.is_tofu
    assert account.chain.devices.keys() == {account.device.id}


def test_second_device_waits_for_the_first_and_then_holds_the_account(world: Members) -> None:
    first = world.enrolled(ALICE)
    archive.new_generation(first)
    doors.set_password(first, PASSWORD, cost=CHEAP)
    second = world.profile(ALICE)
    done = device.enrol(second, world.server.code(ALICE), name="phone")
    assert not done.is_active
    with pytest.raises(ProfileError, match="not part of your account"):
        prekeys.publish(second)
    device.approve(first, done.device, words=done.words)
    doors.open_with_password(second, password=PASSWORD)
    assert second.identity_key.public == first.identity_key.public
    assert [one.key for one in second.state.generations] == [one.key for one in first.state.generations]
    assert prekeys.publish(second).count == 100


def test_wrong_vault_password_is_said_to_be_wrong(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    with pytest.raises(doors.WrongPassword):
        doors.open_with_password(account, password=SecretBytes(b"another password of mine"))


def test_enrolment_resumes_after_a_lost_answer_with_the_same_keys(world: Members) -> None:
    account = world.profile(ALICE)
    code = world.server.code(ALICE)
    honest = world.server._answer
    lost = 0

    def lose_the_first(request: httpx2.Request) -> httpx2.Response:
        nonlocal lost
        answer = honest(request)
        if request.method == "POST" and request.url.path.endswith("/devices"):
            lost += 1
            if lost == 1:
                raise httpx2.ReadTimeout("lost")
            return httpx2.Response(401, json={"code": "enrolment-refused", "title": "Used", "detail": "Used."})
        return answer

    account.connect(transport=httpx2.MockTransport(lose_the_first), clock=Clock(lambda: NOW))
    assert device.enrol(account, code, name="laptop").is_active
    assert lost == 2
    assert list(world.server.devices.values()) == [account.device.statement]


def test_enrolment_refused_by_the_server_stays_refused(world: Members) -> None:
    account = world.profile(ALICE)
    refusal = httpx2.Response(401, json={"code": "enrolment-refused", "title": "Used", "detail": "Used."})
    account.connect(transport=httpx2.MockTransport(lambda _request: refusal), clock=Clock(lambda: NOW))
    with pytest.raises(Problem, match="Used"):
        device.enrol(account, world.server.code(ALICE), name="laptop")


def test_code_of_another_person_is_refused(world: Members) -> None:
    account = world.profile(ALICE)
    with pytest.raises(WrongInput, match="another person"):
        device.enrol(account, world.server.code(BOB), name="laptop")


def test_issued_code_carries_the_issuers_own_pin_and_sends_its_hash_only(world: Members) -> None:
    carol = world.server.tenant.officers[0]
    account = world.enrolled(carol.person, carol)
    code = EnrolmentCode.parse(device.issue_code(account, UUID(bytes=ALICE)).text)
    assert (code.tenant, code.person, code.root_pin) == (TENANT, ALICE, world.server.tenant.pin)
    assert world.server.posted("enrolment-codes") == [{"person_id": text(ALICE), "code_hash": b64u(code.hash)}]
    fresh = world.profile(ALICE)
    assert device.enrol(fresh, code, name="laptop").is_active


def test_bundle_of_each_device_is_claimed_and_verified(world: Members) -> None:
    bob = world.enrolled(BOB)
    alice = world.published(ALICE)
    first, second = bundles.claim(bob, ALICE), bundles.claim(bob, ALICE)
    assert first.identity_words == contacts.identity_words(alice.chain)
    assert [one.one_time_key_id for one in (*first.devices, *second.devices)] == [2, 3]


def test_signed_pre_key_is_renewed_after_a_week_and_the_old_one_is_kept(world: Members) -> None:
    alice = world.published(ALICE)
    assert not prekeys.publish(alice).is_renewed
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: NOW + 8 * 86_400))
    assert prekeys.publish(alice).is_renewed
    assert len(alice.store.keys("signed-pre-key")) == 2
    world.now = NOW + 70 * 86_400
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    assert key_log.confirm_time(alice)
    prekeys.publish(alice)
    assert len(alice.store.keys("signed-pre-key")) == 1


def test_one_time_keys_are_refilled_below_25_under_fresh_ids(world: Members) -> None:
    alice = world.published(ALICE)
    world.server.batches[alice.device_text] = world.server.batches[alice.device_text][:24]
    assert prekeys.publish(alice).stored == 100
    ids = alice.store.keys("one-time-pre-key")
    assert len(set(ids)) == len(ids) == 200


def test_stale_head_is_read_again_and_the_entry_made_on_top(world: Members) -> None:
    first = world.enrolled(ALICE)
    doors.set_password(first, PASSWORD, cost=CHEAP)
    second = world.profile(ALICE)
    done = device.enrol(second, world.server.code(ALICE), name="phone")
    device.approve(first, done.device, words=done.words)
    doors.open_with_password(second, password=PASSWORD)
    archive.new_generation(first)
    assert archive.new_generation(second).number == 2
    state = chains.refresh(first)
    assert state is not None
    assert [one.generation for one in state.generations] == [1, 2]


# Archive files


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3 * 65_536])
def test_file_of_any_size_comes_back_byte_for_byte(world: Members, tmp_path: Path, size: int) -> None:
    account = world.enrolled(ALICE)
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "in").write_bytes(content[:size])
    archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed")
    archive.decrypt_file(account, tmp_path / "sealed", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content[:size]


def test_progress_is_told_as_the_file_goes_through(world: Members, tmp_path: Path) -> None:
    account = world.enrolled(ALICE)
    (tmp_path / "in").write_bytes(bytes(200_000))
    told: list[int] = []
    archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed", advance=told.append)
    assert told == [65_536, 131_072, 196_608, 200_000]


def test_changed_file_leaves_nothing_behind(world: Members, tmp_path: Path) -> None:
    account = world.enrolled(ALICE)
    (tmp_path / "in").write_bytes(bytes(200_000))
    archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed")
    octets = bytearray((tmp_path / "sealed").read_bytes())
    for name, changed in (("flipped", bytes([*octets[:-1], octets[-1] ^ 1])), ("cut", bytes(octets[:-30_000]))):
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(TrustRefused):
            archive.decrypt_file(account, tmp_path / name, tmp_path / "out")
    assert {one.name for one in tmp_path.iterdir()} == {"in", "sealed", "flipped", "cut"}


def test_no_file_is_overwritten(world: Members, tmp_path: Path) -> None:
    account = world.enrolled(ALICE)
    (tmp_path / "in").write_bytes(b"x")
    (tmp_path / "sealed").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed")
    assert (tmp_path / "sealed").read_bytes() == b"precious"


def test_file_of_another_account_is_refused_by_name_of_the_generation(world: Members, tmp_path: Path) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    archive.new_generation(bob)
    (tmp_path / "in").write_bytes(b"x")
    archive.encrypt_file(alice, tmp_path / "in", tmp_path / "sealed")
    with pytest.raises(ProfileError, match="generation 1"):
        archive.decrypt_file(bob, tmp_path / "sealed", tmp_path / "out")


def test_new_month_means_a_new_archive_key(world: Members) -> None:
    account = world.enrolled(ALICE)
    first = archive.current_generation(account)
    assert archive.current_generation(account) is first
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW + 40 * 86_400))
    assert archive.current_generation(account).number == 2


def test_key_is_not_used_before_its_deposit_where_the_policy_says_so(tmp_path: Path) -> None:
    account = Members(LyingServer(Tenant(rule=DepositRule.ALL))).enrolled(ALICE)
    (tmp_path / "in").write_bytes(b"x")
    with pytest.raises(ConsentNeeded):
        archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed")
    escrow.consent(account)
    escrow.deposit_missing(account)
    assert archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed").generation == 1


# Recovery


def test_archive_key_comes_back_through_heardficers(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.approve(1, opened)
    with pytest.raises(NotYet):
        by_case.collect(tablet)
    world.approve(3, opened)
    done = by_case.collect(tablet)
    assert (done.generations, done.blamed) == ([1], [])
    archive.decrypt_file(tablet, tmp_path / "letter.holdfast", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "letter").read_bytes()


def test_released_key_is_marked_exposed_and_protects_nothing_new(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.approve(1, opened)
    world.approve(2, opened)
    done = by_case.collect(tablet)
    for index in (1, 2):
        account, view = world.seen(index, opened.case_id)
        officer.attest(account, view, officer.proposal(account, view), heard=heard(account, done.words))
    finished = by_case.finish(tablet, password=PASSWORD)
    assert tablet.device_text in world.server.bundles, "nobody could write to it otherwise"
    assert finished.generation == 2
    assert [one.is_exposed for one in tablet.state.generations] == [True, False]
    assert tablet.state.case is None
    escrow.prepare(tablet)
    escrow.consent(tablet)
    assert [one.number for one in escrow.deposit_missing(tablet)] == [2]


def test_finish_waits_for_the_officers_and_says_how_many(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.approve(1, opened)
    world.approve(2, opened)
    by_case.collect(tablet)
    started = time.monotonic()
    with pytest.raises(NotYet, match="0 of 2"):
        by_case.finish(tablet, password=PASSWORD, wait_seconds=2)
    assert time.monotonic() - started < 4
    assert tablet.state.case is not None


def test_case_is_not_opened_twice_by_one_device(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, _opened = world.case()
    with pytest.raises(NotPossible, match="already"):
        by_case.open_case(tablet, reason="again", purpose="recovery", subject=ALICE)


@pytest.mark.parametrize("ended", ["held", "denied", "vetoed", "expired"])
def test_case_that_has_ended_frees_its_device(ended: str, world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, first = world.case()
    world.server.cases[str(first.case_id)]["state"] = ended
    again = by_case.open_case(tablet, reason="again", purpose="recovery", subject=ALICE)
    assert again.case_id != first.case_id
    assert tablet.state.case is not None
    assert tablet.state.case.case_id == again.case_id.bytes


def test_any_device_of_the_person_withdraws_a_case_by_its_id_and_keeps_its_own(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    (tablet, own), (phone, opened) = world.case(), world.case()
    assert by_case.cancel(tablet, reason="I did not ask.", case_id=opened.case_id) == (opened.case_id, "cancelled")
    assert world.server.cases[str(opened.case_id)]["state"] == "cancelled"
    assert tablet.state.case is not None, "the keys of its own case are needed still"
    assert phone.state.case is not None
    assert by_case.cancel(tablet, reason="Found it.", case_id=own.case_id) == (own.case_id, "cancelled")
    assert tablet.state.case is None


def test_refused_case_leaves_no_keys_behind(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet = world.enrolled(ALICE)
    with pytest.raises(WrongInput, match="purpose"):
        by_case.open_case(tablet, reason="x", purpose="curiosity", subject=ALICE)
    honest = world.server._answer

    def refuse(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/cases"):
            return httpx2.Response(409, json={"code": "too-few-officers", "title": "Too few", "detail": "Too few."})
        return honest(request)

    tablet.connect(transport=httpx2.MockTransport(refuse), clock=Clock(lambda: NOW))
    with pytest.raises(Problem, match="Too few"):
        by_case.open_case(tablet, reason="x", purpose="recovery", subject=ALICE)
    assert tablet.state.case is None


def test_case_names_the_version_in_force_while_the_newest_waits(tmp_path: Path) -> None:
    """Its officers are those in office: one whom the next version takes out has a voice until then."""
    world = Members(LyingServer(Tenant(cooling_off=86_400)))
    world.depositor(tmp_path)
    house = world.server.tenant
    first = house.policy_hash
    roster, by = [*house.officers[:2], Founder()], house.officers[:2]
    house.policies.append(house.sign_policy(roster, version=2, predecessor=first, signers=by))
    world.case()
    (sent,) = world.server.posted("cases")
    assert Case.from_payload(Sign1.parse(unb64u(sent["case"])).payload).policy_hash == first != house.policy_hash


def test_case_keys_are_kept_before_the_case_is_sent(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet = world.enrolled(ALICE)

    def lose(request: httpx2.Request) -> httpx2.Response:
        answer = world.server._answer(request)
        if request.url.path.endswith("/cases"):
            raise httpx2.ReadTimeout("lost")
        return answer

    tablet.connect(transport=httpx2.MockTransport(lose), clock=Clock(lambda: NOW))
    tablet.api._sleep = lambda _seconds: None
    with pytest.raises(Unreachable):
        by_case.open_case(tablet, reason="x", purpose="recovery", subject=ALICE)
    assert tablet.state.case is not None
    tablet.connect(transport=world.server.transport(), clock=Clock(lambda: NOW))
    assert by_case.status(tablet).state == "requested"
    assert text(tablet.state.case.case_id) in world.server.cases
