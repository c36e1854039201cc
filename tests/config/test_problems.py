# SPDX-License-Identifier: Apache-2.0
"""The printed list of problem codes is the one that the product answers with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from config.management.commands.problems import page
from kernel.problems import catalogue

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_docs_list_every_code() -> None:
    assert (DOCS / "problems.md").read_text() == page(), "write it: manage.py problems > docs/problems.md"


def test_every_code_has_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for code, status, _ in catalogue():
        statuses.setdefault(code, set()).add(status)
    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


def test_every_title_is_a_sentence() -> None:
    assert [code for code, _, title in catalogue() if not title.endswith(".")] == []
    assert Counter(code for code, _, _ in catalogue()).most_common(1)[0][1] <= 3
