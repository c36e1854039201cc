# SPDX-License-Identifier: Apache-2.0
"""Enrolment after a slip: nothing that no reader takes is kept or sent, and the right code or name then works."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from holdfast.client.client import Client
from holdfast.client.errors import Problem, Unreachable
from holdfast.client.identity import device
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Device
from holdfast.core.base.errors import Mistyped
from holdfast.core.base.text import fitted
from holdfast.core.crypto.keys import AgreementKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import MAX_NAME, DeviceStatement
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, Members
from tests.cast.unread import unread

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
# A name as it is given, and what the device is called.
NAMES: dict[str, tuple[str, str]] = {
    "short": ("laptop", "laptop"),
    "64 characters": ("x" * 64, "x" * 64),
    "65 characters": ("x" * 65, "x" * 64),
    "a host name of 70 letters": ("ip-10-0-0-1." + "a" * 58, "ip-10-0-0-1." + "a" * 52),
    "300 characters": ("x" * 300, "x" * 64),
    "a byte that is no UTF-8": ("lap\udcfftop", "lap\ufffdtop"),
    "bytes that are no UTF-8 alone": ("\udcff\udcfe", "\ufffd\ufffd"),
    "a mark on the last letter": ("x" * 63 + "e\u0301" + "y", "x" * 63),
    "many marks on one letter": ("e" + "\u0301" * 100, "e" + "\u0301" * 63),
    "a family across the end": ("x" * 62 + FAMILY, "x" * 62),
    "a skin tone across the end": ("x" * 63 + "\U0001f44d\U0001f3fd", "x" * 63),
    "a flag across the end": ("x" * 63 + "\U0001f1e9\U0001f1ea", "x" * 63),
    "two flags before the end": ("x" * 60 + "\U0001f1e9\U0001f1ea" * 2 + "y", "x" * 60 + "\U0001f1e9\U0001f1ea" * 2),
    "a space at the end of what remains": ("x" * 63 + " y", "x" * 63),
    "lines": ("my\nlaptop\r\n", "my laptop"),
    "spaces and tabs": ("  my\t laptop ", "my laptop"),
    "nothing": ("", "this device"),
    "spaces alone": ("   ", "this device"),
    "nothing that is seen": ("\u200b\u200e", "this device"),
    "another script": ("ноутбук", "ноутбук"),
    "no separators": ("端末" * 40, "端末" * 32),
}


def registered(world: Members, account: Account) -> DeviceStatement:
    """Return what the server has of the one device that is registered, which is this profile's."""
    (statement,) = world.server.devices.values()
    assert statement == account.device.statement
    return DeviceStatement.open(Sign1.parse(statement))


@pytest.mark.parametrize("case", NAMES)
def test_name_is_cut_kindly_before_anything_is_kept_or_sent(world: Members, case: str) -> None:
    given, called = NAMES[case]
    account = world.profile(ALICE)
    assert device.enrol(account, world.server.code(ALICE), name=given).is_active
    assert registered(world, account).name == called
    assert len(called) <= MAX_NAME
    assert account.device_statement.name == called


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("most", range(1, 12))
def test_name_is_cut_where_a_character_ends_at_every_length(case: str, most: int) -> None:
    name = fitted(NAMES[case][0] or "x", most)
    assert len(name) <= most
    rest = " ".join(NAMES[case][0].split()).replace("\udcff", "\ufffd").replace("\udcfe", "\ufffd")[len(name) :]
    if name and rest and len(name) < most and unicodedata.category(rest[0])[0] == "M":
        raise AssertionError("cut before a mark")


def kept_unread(account: Account, code: EnrolmentCode, name: str) -> Device:
    """Return a device as an earlier program kept it: signed under a name that no reader takes."""
    signing, agreement, sealing = SigningKey.generate(), AgreementKey.generate(), SealingKey.generate()
    said = DeviceStatement(
        Header(account.tenant, account.user, b"d" * 16, NOW), Suite.HYBRID, signing.public, agreement.public,
        sealing.public, account.user, name, code.hash,
    )  # fmt: skip
    signed = sign(unread(said), purpose=Purpose.DEVICE, key=signing)
    return Device(b"d" * 16, signing.seed(), agreement.seed(), sealing.seed(), signed.encode())


def test_profile_that_an_earlier_program_spoilt_enrols_by_the_same_code(world: Members) -> None:
    account, code = world.profile(ALICE), world.server.code(ALICE)
    account.state.device = kept_unread(account, code, "x" * 65)
    account.state.trust.pin = b"w" * 32  # of a letter typed wrongly, in a code without a checksum
    account.save()
    assert device.enrol(account, code, name="laptop").is_active
    assert registered(world, account).name == "laptop"
    assert account.state.trust.pin == world.server.tenant.pin


@pytest.mark.parametrize("suite", [Suite.HYBRID, Suite.CLASSICAL])
def test_code_that_was_refused_is_followed_by_a_fresh_one_in_the_same_profile(world: Members, suite: Suite) -> None:
    account = world.profile(ALICE)
    world.server.instead["POST devices"] = lambda _body: refused(401, "enrolment-code-refused")
    with pytest.raises(Problem):
        device.enrol(account, world.server.code(ALICE), name="laptop")
    first = account.device.id
    del world.server.instead["POST devices"]
    fresh = world.server.code(ALICE)
    assert device.enrol(account, fresh, name="desk", suite=suite).is_active
    said = registered(world, account)
    assert (said.enrolment_hash, said.name, said.suite) == (fresh.hash, "desk", suite)
    assert account.device.id != first


def test_server_that_denies_a_device_does_not_end_it_once_the_account_was_seen(world: Members) -> None:
    account = world.enrolled(ALICE)
    before = account.device
    world.server.instead[".*devices.*"] = lambda _body: refused(404, "not-found")
    with pytest.raises(Problem):
        device.enrol(account, world.server.code(ALICE), name="another")
    assert account.state.device == before


def test_device_whose_answer_was_lost_keeps_its_keys_under_another_name(world: Members) -> None:
    account, code = world.profile(ALICE), world.server.code(ALICE)
    world.server.lost.add("POST devices")
    world.server.lost.add("GET devices/.*")
    with pytest.raises(Unreachable):
        device.enrol(account, code, name="laptop")
    world.server.lost.clear()
    kept = account.device.statement
    world.server.instead["POST devices"] = lambda _body: refused(401, "enrolment-code-refused")
    assert device.enrol(account, code, name="another name").is_active
    assert registered(world, account).name == "laptop"
    assert account.device.statement == kept


@pytest.mark.parametrize("back", [*range(1, 61), 80, 120])
def test_one_letter_typed_wrongly_sends_nothing_keeps_nothing_and_spends_nothing(
    world: Members, tmp_path: Path, back: int
) -> None:
    code = world.server.code(ALICE)
    text = code.text()
    other = "A" if text[-back] != "A" else "B"
    wrong = text[: len(text) - back] + other + text[len(text) - back + 1 :]
    with pytest.raises(Mistyped):
        Client.enrol("http://127.0.0.1:9", wrong, profile=tmp_path / "profile", passphrase="correct horse battery")
    assert not (tmp_path / "profile").exists()
    assert world.server.log == []


def test_right_code_works_after_a_wrong_letter(world: Members) -> None:
    text = world.server.code(ALICE).text()
    with pytest.raises(Mistyped):
        EnrolmentCode.parse(text[:-1])
    account = world.profile(ALICE)
    assert device.enrol(account, EnrolmentCode.parse(f"> {text[:70]}\r\n> {text[70:]}\r\n"), name="laptop").is_active


def test_device_is_never_signed_under_a_name_that_no_reader_takes(world: Members) -> None:
    account = world.profile(ALICE)
    with pytest.raises(ValueError, match="field 12"):
        device.make_device(account, suite=Suite.HYBRID, name="x" * 65)
    with pytest.raises(ValueError, match=r"surrogates"):
        device.make_device(account, suite=Suite.HYBRID, name="lap\udcff")
    assert account.state.device is None
