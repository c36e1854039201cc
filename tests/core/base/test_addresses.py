# SPDX-License-Identifier: Apache-2.0
"""E-mail addresses: one form to compare them in, and the letters that look like others named. FAULTS T12."""

from __future__ import annotations

import pytest

from holdfast.core.base.addresses import MAX_ADDRESS, address_key, mixed_letters
from holdfast.core.base.errors import Malformed

CYRILLIC_A = "\u0430"


@pytest.mark.parametrize(
    "typed", ["Bob@Acme.Test", " bob@acme.test\n", "\uff42ob@acme.test", "bob@\uff21cme.test", "BOB@ACME.TEST"]
)
def test_ways_to_write_one_address_are_one(typed: str) -> None:
    assert address_key(typed) == "bob@acme.test"


@pytest.mark.parametrize(
    "typed",
    [
        "", "@", "bob", "bob@", "@acme.test", "bob@acme..test", "a@b@c", "bob smith@acme.test", "bob@acme.test, x@y.z",
        "Bob <bob@acme.test>", "b\u200bob@acme.test", "b\u202eob@acme.test", "bob\x00@acme.test", "b" * 65 + "@a.b",
        "bob@" + "a." * MAX_ADDRESS, "\u0301" * 5000 + "@acme.test",
    ],
)  # fmt: skip
def test_what_is_not_one_plain_address_is_refused(typed: str) -> None:
    with pytest.raises(Malformed):
        address_key(typed)


def test_letter_of_another_script_among_latin_ones_is_named_and_folds_to_no_latin_one() -> None:
    assert mixed_letters(f"b{CYRILLIC_A}rb{CYRILLIC_A}ra@acme.test") == [(CYRILLIC_A, "CYRILLIC SMALL LETTER A")]
    assert mixed_letters("p\u03bfst@acme.test") == [("\u03bf", "GREEK SMALL LETTER OMICRON")]
    assert address_key(f"{CYRILLIC_A}lice@acme.test") != address_key("alice@acme.test")


@pytest.mark.parametrize(
    "plain", ["bob@acme.test", "zoë.müller@straße.test", "ольга@пример.рф", "李@例子.中国", "1@2.3"]
)
def test_address_in_one_script_is_not_called_mixed(plain: str) -> None:
    assert mixed_letters(plain) == []
