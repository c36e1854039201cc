# SPDX-License-Identifier: Apache-2.0
"""Custody manifests: every line that is missing, moved, put in or changed shows, and none outlives the disclosure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.custody import FORMAT, MAX_TEXT, CustodyLine, Manifest, read_manifest, write_manifest
from holdfast.core.identity.cases import Case
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast.custody import NOW, Custody

ENDS = NOW + 30 * 86400
FILES = (b"a letter", b"a plan", b"a photograph")


@pytest.fixture(scope="module")
def world() -> Custody:
    made = Custody()
    made.case = made.sign_case(disclosure_ends=ENDS)
    return made


def written(world: Custody, statements: list[Sign1], **changes: Any) -> list[bytes]:
    given: dict[str, Any] = {"device": world.device, "case": world.case} | changes
    return list(write_manifest(given["device"], given["case"], statements))


def signed(world: Custody, line: CustodyLine, key: SigningKey | None = None) -> Sign1:
    return cose.sign(line.to_payload(), purpose=Purpose.CUSTODY, key=key or world.recipient_signing)


def test_manifest_names_each_file_with_its_time_and_size_and_says_when_it_is_closed(world: Custody) -> None:
    whole = read_manifest(written(world, world.custody_lines(world.case, *FILES, closes=True)))
    assert [(file.size, file.time) for file in whole.files] == [(8, NOW + 1), (6, NOW + 2), (12, NOW + 3)]
    assert (whole.is_closed, whole.asked.disclosed_until, whole.asked.subject) == (True, ENDS, world.alice)
    assert list(whole.to_lines()) == written(world, world.custody_lines(world.case, *FILES, closes=True))
    open_still = read_manifest(written(world, world.custody_lines(world.case, *FILES)))
    assert not open_still.is_closed
    assert not read_manifest(written(world, [])).files


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the first line is missing": lambda lines: [*lines[:3], *lines[4:]],
    "a line is missing": lambda lines: [*lines[:4], *lines[5:]],
    "two lines are exchanged": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
    "a line comes twice": lambda lines: [*lines[:5], *lines[4:]],
    "a line comes after the last": lambda lines: [*lines, lines[3]],
    "a bit is another": lambda lines: [*lines[:4], lines[4][:-2] + (b"A" if lines[4][-2:-1] != b"A" else b"B") + b"\n"],
    "the end of a line is missing": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "the device is missing": lambda lines: [lines[0], *lines[2:]],
    "the case is missing": lambda lines: [*lines[:2], *lines[3:]],
    "an empty line": lambda lines: [*lines, b"\n"],
    "a line that never ends": lambda lines: [*lines, b"A" * MAX_TEXT],
    "no ASCII": lambda lines: [*lines, b"\xff\n"],
}


@pytest.mark.parametrize("why", CHANGES)
def test_manifest_that_was_changed_does_not_verify(why: str, world: Custody) -> None:
    lines = written(world, world.custody_lines(world.case, *FILES, closes=True))
    with pytest.raises(Untrusted, match=r"line \d+: "):
        read_manifest(CHANGES[why](lines))


@pytest.mark.parametrize("first", [b"", b"holdfast/v1/custody-manifest", b"holdfast/v2/custody-manifest\n"])
def test_manifest_of_another_format_is_malformed(first: bytes, world: Custody) -> None:
    with pytest.raises(Malformed):
        read_manifest([first, *written(world, [])[1:]])
    assert FORMAT == b"holdfast/v1/custody-manifest\n"


def test_line_of_another_device_is_refused(world: Custody) -> None:
    one, two = world.custody_lines(world.case, *FILES[:2])
    stranger = signed(world, CustodyLine.from_payload(two.payload), SigningKey.generate())
    with pytest.raises(Untrusted, match="line 5"):
        read_manifest(written(world, [one, stranger]))


def test_line_of_another_case_is_refused(world: Custody) -> None:
    other = world.sign_case(disclosure_ends=ENDS)
    with pytest.raises(Untrusted, match="another case"):
        read_manifest(written(world, world.custody_lines(other, *FILES)))


def test_file_opened_after_the_end_of_the_disclosure_is_refused(world: Custody) -> None:
    (line,) = world.custody_lines(world.case, FILES[0])
    read = CustodyLine.from_payload(line.payload)
    for at, holds in ((ENDS - 1, True), (ENDS, False)):
        late = replace(read, header=replace(read.header, issued_at=at), files=(replace(read.files[0], time=at),))
        if holds:
            assert read_manifest(written(world, [signed(world, late)])).files
        else:
            with pytest.raises(Untrusted, match="after the disclosure ended"):
                read_manifest(written(world, [signed(world, late)]))


def test_line_dated_before_the_one_that_it_follows_is_refused(world: Custody) -> None:
    one, two = world.custody_lines(world.case, *FILES[:2])
    early = replace(CustodyLine.from_payload(two.payload), files=())
    early = replace(early, header=replace(early.header, issued_at=NOW))
    with pytest.raises(Untrusted, match="before the line"):
        read_manifest(written(world, [one, signed(world, early)]))


def test_line_after_the_closing_one_is_refused(world: Custody) -> None:
    lines = world.custody_lines(world.case, FILES[0], closes=True)
    last = CustodyLine.from_payload(lines[0].payload)
    after = replace(last, seq=3, previous=lines[-1].payload_hash, header=replace(last.header, issued_at=NOW + 9))
    with pytest.raises(Untrusted, match="closed"):
        read_manifest(written(world, [*lines, signed(world, after)]))


def test_case_of_another_device_or_of_the_subject_themselves_heads_no_manifest(world: Custody) -> None:
    other = Custody()
    with pytest.raises(Untrusted, match="line 3"):
        read_manifest(written(world, [], device=other.device))
    with pytest.raises(Untrusted, match="another device"):
        read_manifest(written(world, [], case=world.sign_case(recipient_device_hash=bytes(32))))
    with pytest.raises(Untrusted, match="themselves"):
        read_manifest(written(world, [], case=world.sign_case(subject=world.rita, disclosure_ends=0)))


def test_disclosure_of_a_case_from_before_there_was_an_end_lasts_until_its_expiry(world: Custody) -> None:
    old = world.sign_case()
    asked = Case.from_payload(old.payload)
    assert (asked.disclosure_ends, asked.disclosed_until) == (None, asked.expiry)
    found: Manifest = read_manifest(written(world, world.custody_lines(old, *FILES), case=old))
    assert len(found.files) == 3
