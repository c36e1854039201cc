# SPDX-License-Identifier: Apache-2.0
"""Files of people, line by line: what each line is, what is wrong with a bad one; and cells that are no formulas."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import ImportRefused
from tenants.imports import cells, reading
from tenants.imports.reading import BadLine, Line


def read(text: str) -> list[Line | BadLine]:
    return list(reading.lines(text))


def only(text: str) -> Line | BadLine:
    (found,) = read(text)
    return found


def bad(text: str) -> BadLine:
    found = only(text)
    assert isinstance(found, BadLine), found
    return found


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_file_of_any_spreadsheet_is_read(between: str, mark: str, end: str) -> None:
    rows = (("Name", "E-Mail", "Role"), ("Ada Lovelace", "Ada@Example.org", "auditor"), ("Böb", "b@example.org", ""))
    octets = (mark + end.join(between.join(row) for row in rows) + end).encode()
    assert list(reading.lines(reading.text_of(octets))) == [
        Line(2, "Ada Lovelace", "Ada@Example.org", "ada@example.org", "auditor"),
        Line(3, "Böb", "b@example.org", "b@example.org", "member"),
    ]


def test_columns_stand_in_any_order_with_heads_and_in_one_without() -> None:
    assert only("role;email;name\nmember;a@x.test;Ada") == Line(2, "Ada", "a@x.test", "a@x.test", "member")
    assert only("Ada,a@x.test,member") == Line(1, "Ada", "a@x.test", "a@x.test", "member")
    assert only("Ada,a@x.test") == Line(1, "Ada", "a@x.test", "a@x.test", "member")


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("Ada,nobody,member", "email", "one e-mail address"),
        ("Ada,,member", "email", "is needed"),
        (",a@x.test,member", "name", "is needed"),
        ("x" * 200 + ",a@x.test,member", "name", "visible characters"),
        ("Ada,a@x.test,emperor", "role", "no such role"),
        ("Ada,аda@x.test,member", "email", "Cyrillic"),
        ("Ada,a@x.test,member,more", "", "4 columns"),
        ("=cmd|' /C calc'!A0,a@x.test,member", "name", "formula"),
        (" +1,a@x.test,member", "name", "formula"),
        ("Ada,@SUM(1),member", "email", "formula"),
        ('"\tAda",a@x.test,member', "name", "formula"),
        ("A\u202eda,a@x.test,member", "name", "nobody sees"),
        ("A\x00da,a@x.test,member", "name", "nobody sees"),
        ("Ada," + "a" * 2000 + "@x.test,member", "email", "1,024"),
        ('"Ada\nB",a@x.test,member', "name", "quote not closed"),
    ],
)
def test_bad_line_is_named_with_its_field_and_reason(line: str, field: str, says: str) -> None:
    found = bad(f"name,email,role\n{line}\n")
    assert (found.number, found.field) == (2, field)
    assert says in found.reason


def test_second_of_two_equal_addresses_names_the_line_of_the_first() -> None:
    found = read("Ada,a@x.test\n\nBob,b@x.test\nAnn,A@X.test\n")[2]
    assert isinstance(found, BadLine)
    assert (found.number, found.reason) == (4, "The address stands in line 1 already.")


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        ("Ada,a@x.test\n".encode("utf-16"), "Line 1: this is UTF-16"),
        ("Ada,a@x.test\nBöb,b@x.test\n".encode("latin-1"), "Line 2: this is not UTF-8"),
        (b"x" * (reading.MAX_FILE + 1), "At most 4 MiB"),
    ],
)
def test_file_that_is_no_utf_8_is_refused_by_its_line(octets: bytes, says: str) -> None:
    with pytest.raises(ImportRefused, match=says):
        reading.text_of(octets)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Ada,a@x.test\n" + '"' + "b" * 10_000_000 + '",c@x.test\n', "Line 2: a cell has more than 1,024"),
        ("name,email,salary\nAda,a@x.test,1\n", "Line 1: there is no column “salary”"),
        ("email,role\na@x.test,member\n", "Line 1: there has to be one column “name”"),
        ("name,email,email\nAda,a@x.test,b@x.test\n", "Line 1: there has to be one column “email”"),
        ("".join(f"P,p{n}@x.test\n" for n in range(reading.MAX_LINES + 1)), "Line 10001: at most 10,000"),
    ],
)
def test_file_that_is_none_of_people_is_refused_by_its_line(text: str, says: str) -> None:
    with pytest.raises(ImportRefused, match=says):
        read(text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "'=1", "''+1", "\uff1d1"])
def test_cell_that_a_spreadsheet_would_run_goes_out_as_text_and_comes_back(text: str) -> None:
    out = cells.escaped(text)
    assert out.startswith("'")
    assert cells.unescaped(out) == text


@given(st.text())
def test_every_cell_comes_back(text: str) -> None:
    out = cells.escaped(text)
    assert not cells.is_formula(out)
    assert cells.unescaped(out) == text
    assert next(csv.reader(io.StringIO(cells.line([text, "x"]), newline=""))) == [out, "x"]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=400))
def test_any_text_is_lines_or_a_refusal(text: str) -> None:
    try:
        found = read(text)
    except ImportRefused:
        return
    assert all(one.number >= 1 for one in found)
