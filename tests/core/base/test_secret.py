# SPDX-License-Identifier: Apache-2.0
"""A secret does not leave by accident."""

import copy
import pickle
from collections.abc import Callable

import pytest

from holdfast.core.base.secret import SecretBytes

KEY = SecretBytes(b"alice's archive key")


def test_secret_prints_its_length_and_nothing_else() -> None:
    assert str(KEY) == repr(KEY) == "<SecretBytes of 19 bytes>"
    assert "alice" not in repr([KEY]) + repr({"key": KEY})


@pytest.mark.parametrize(
    "leak",
    [hash, bytes, iter, list, pickle.dumps, copy.copy, copy.deepcopy, "{}".format, lambda key: f"{key}"],
)
def test_secret_refuses_every_implicit_way_out(leak: Callable[[SecretBytes], object]) -> None:
    with pytest.raises(TypeError, match="secret"):
        leak(KEY)


def test_secret_is_revealed_by_name_only() -> None:
    assert KEY.reveal() == b"alice's archive key"
    assert len(KEY) == 19


def test_secret_equals_another_of_the_same_bytes_and_never_plain_bytes() -> None:
    assert SecretBytes(b"alice's archive key") == KEY
    assert SecretBytes(b"alice's archive kez") != KEY
    assert SecretBytes(b"alice") != KEY
    assert KEY != b"alice's archive key"


@pytest.mark.parametrize("value", [5, "text", bytearray(b"x"), None, [1]])
def test_secret_refuses_to_be_made_from_anything_but_bytes(value: object) -> None:
    with pytest.raises(TypeError, match="bytes"):
        SecretBytes(value)  # type: ignore[arg-type]


def test_secret_takes_no_attribute_that_could_carry_a_copy() -> None:
    with pytest.raises(AttributeError):
        KEY.note = b"copy"  # type: ignore[attr-defined]
