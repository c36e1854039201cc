# SPDX-License-Identifier: Apache-2.0
"""Every citation of a rule leads to a heading or a row of docs/spec, and every link between pages to its place.

A rule that nobody can look up is a claim. The forms of a citation are in docs/spec/README.md.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
SPEC = PROJECT / "docs" / "spec"
PAGES = ("PROTOCOL", "ESCROW", "FAULTS", "HSM", "ORGANISATION", "PLATFORM")
KINDS = ("*.py", "*.md", "*.html", "*.toml", "*.yaml", "*.yml", "*Makefile", "*.patch", ".ci/run")
# These show citations, or wrong ones.
SELF = {"tests/architecture/test_citations.py", "docs/spec/README.md"}

_NUMBER, _ID, _QUOTED = r"\d+(?:\.\d+)?", r"[A-Z]\d{1,2}a?", r'"[^"]+"'
_SEPARATOR = r"(?:, and |, | and | to )"
_PAGE = "|".join(PAGES)


def _list(item: str) -> str:
    return rf"{item}(?:{_SEPARATOR}{item}\b)*" if item != _QUOTED else rf"{item}(?:(?:, | and ){item})*"


_CITATION = re.compile(
    rf"\b(?P<page>{_PAGE}) (?:sections? (?P<numbers>{_list(_NUMBER)})(?: (?P<within>{_QUOTED}))?"
    rf"|(?P<headings>{_list(_QUOTED)})|(?P<ids>{_list(_ID)}))"
)
_GOAL = re.compile(r"\b[Gg]oals? (?P<ids>G\d{1,2})\b")
# "HSM" alone is a word of the language; the other names alone are pages, or a test's own variable.
_NAME = re.compile(
    r"\b(?:PROTOCOL|ESCROW|FAULTS|ORGANISATION|PLATFORM)\b(?!\[| = )|\bHSM(?= pages?\b|, \"| sections?\b)"
)
_WHOLE_PAGE = re.compile(rf"\bthe pages? (?:{_PAGE})(?: and (?:{_PAGE}))?\b")
_NOT_PUBLISHED = re.compile(r"\bDESIGN\b|\b(?:STYLE|PERF|PACKAGES)(?: (?:page|sections?)\b| \d| \")")


class Found(NamedTuple):
    """One citation, or what looks like one: where it stands, its text, and what is wrong with it or ""."""

    place: str
    text: str
    wrong: str


def headings(text: str) -> list[str]:
    """List a page's headings without their marks; code blocks have none."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#{1,6} (.+?)\s*$", outside, flags=re.MULTILINE)


@cache
def _targets(page: str) -> frozenset[str]:
    text = (SPEC / f"{page.lower()}.md").read_text()
    found: set[str] = set()
    for heading in headings(text):
        number = re.match(rf"({_NUMBER})\.? (.+)", heading)
        found |= {number[1], number[2]} if number else {heading}
    return frozenset(found | set(re.findall(rf"^\| ({_ID}) \|", text, flags=re.MULTILINE)))


def _expanded(items: str) -> Iterator[str]:
    """Read "P3 to P6, P16" or "2, 4 and 9" as all that it names."""
    last = ""
    parts = re.split(rf"({_SEPARATOR})", items)
    for separator, item in zip(["", *parts[1::2]], parts[::2], strict=True):
        start, end = re.fullmatch(r"(\D*)(\d+)(a?)", last), re.fullmatch(r"(\D*)(\d+)(a?)", item)
        if separator == " to " and start and end:
            yield from (f"{end[1]}{n}{end[3]}" for n in range(int(start[2]) + 1, int(end[2])))
        yield item
        last = item


def _named(match: re.Match[str]) -> Iterator[str]:
    groups = match.groupdict()
    for kind in ("numbers", "ids"):
        if groups.get(kind):
            yield from _expanded(groups[kind])
    for kind in ("headings", "within"):
        if groups.get(kind):
            yield from (one.strip('"') for one in re.findall(_QUOTED, groups[kind]))


def citations(text: str, name: str) -> Iterator[Found]:
    """Read every citation of a text, and say which of them lead nowhere or cannot be read."""
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{name}:{number}"
        read = []
        for match in [*_CITATION.finditer(line), *_GOAL.finditer(line)]:
            page = match.groupdict().get("page") or "FAULTS"
            lost = [one for one in _named(match) if one not in _targets(page)]
            yield Found(place, match[0], f"{page} has no {', '.join(lost)}" if lost else "")
            read.append(match.span())
        read += [match.span() for match in _WHOLE_PAGE.finditer(line)]
        for match in _NAME.finditer(line):
            if not any(start <= match.start() < end for start, end in read):
                yield Found(place, line[match.start() :][:60], "not one of the forms of docs/spec/README.md")
        for match in _NOT_PUBLISHED.finditer(line):
            yield Found(place, line[match.start() :][:60], "no page of docs/spec")


def tracked(*kinds: str) -> list[str]:
    """List the files of the repository, those not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *kinds]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in set(listed) if (PROJECT / name).is_file())


def everywhere() -> list[Found]:
    return [
        found for name in tracked(*KINDS) if name not in SELF for found in citations((PROJECT / name).read_text(), name)
    ]


def test_every_citation_leads_to_its_rule() -> None:
    found = everywhere()
    wrong = [f"{one.place}: {one.text!r}: {one.wrong}" for one in found if one.wrong]
    assert not wrong, "\n" + "\n".join(wrong)
    assert len(found) > 300, f"only {len(found)} citations were found: the finder is blind"


def test_a_wrong_citation_is_caught() -> None:
    for text in (
        "PROTOCOL section 12",
        "PROTOCOL sections 4 and 77",
        'PROTOCOL section 6 "Back door"',
        'ESCROW "Casse"',
        'ESCROW, "Case"',
        "ESCROW (Case)",
        "FAULTS P99",
        "FAULTS P3 to P99",
        "FAULTS R2, R33",
        "HSM section 6.9",
        "HSM page section 6.2",
        "PROTOCOL 4",
        'PLATFORM "Nothing"',
        "DESIGN section 7",
        "STYLE 1.4",
        "goal G99",
        "as PROTOCOL",
    ):
        assert [one for one in citations(text, "seeded") if one.wrong], text


def test_right_citations_are_read() -> None:
    text = (
        'PROTOCOL sections 4 and 9. FAULTS P19, X8; FAULTS P3 to P6. ESCROW "Case". HSM section 6.2. '
        'PLATFORM "Work that takes time". ESCROW "Policy and officers" and "Case". Goal G10. '
        'PROTOCOL section 6 "Password door". The HSM is away; see the pages PROTOCOL and ESCROW.'
    )
    found = list(citations(text, "seeded"))
    assert [one for one in found if one.wrong] == []
    assert len(found) == 9


# Links between pages.


def _anchor(heading: str) -> str:
    """Return the anchor of a heading as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "").lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def _dead_links(name: str) -> Iterator[str]:
    page = PROJECT / name
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{name}: {link}: no such file"
        elif anchor and anchor not in {_anchor(one) for one in headings(target.read_text())}:
            yield f"{name}: {link}: no such heading"


def test_links_between_pages_lead_somewhere() -> None:
    dead = [one for name in tracked("docs/*.md", "*.md") for one in _dead_links(name)]
    assert not dead, "\n" + "\n".join(dead)
