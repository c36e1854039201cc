# SPDX-License-Identifier: Apache-2.0
"""The offline verifier in Chromium, from a disk and without a network: it says what Python's verifier says.

With HOLDFAST_PICTURES in the environment, pictures are kept in that directory.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, expect

from audit import exporting, sequencer
from audit.models import LogExport
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import root_verifier
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.log_export import ExportedEntry, Header, checkpoint_line
from tenants.imports import cells
from tests.browser.accessible import findings
from tests.browser.test_console import PAYLOADS
from tests.cast.browsers import signed_in
from tests.cast.chromium import NARROW, WIDE, picture
from tests.cast.node import NODE, run
from tests.cast.world import World
from tests.client.auditor.test_auditor import note_of
from tests.published.__main__ import VECTORS
from tests.web.verifier import Verifier, opened

pytestmark = pytest.mark.browser

PICTURES = Path(os.environ["HOLDFAST_PICTURES"]) if "HOLDFAST_PICTURES" in os.environ else None
WORDS: Final = {
    Verdict.VERIFIED: "VERIFIED",
    Verdict.WITHHELD: "WITHHELD",
    Verdict.NOT_ANCHORED: "NOT ANCHORED",
    Verdict.BROKEN: "BROKEN",
}
FILES: Final[dict[str, Any]] = {one["name"]: one for one in json.loads((VECTORS / "audit.json").read_text())["files"]}
GOOD: Final = FILES["format 4"]
LINES: Final = [line.encode() for line in GOOD["lines"]]
ROOT: Final = str(GOOD["trust"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built of the sources as they are."""
    directory = tmp_path_factory.mktemp("verifier")
    run(str(NODE), "scripts/verifier.mjs", str(directory))
    return directory / "verify.html"


@pytest.fixture
def verifier(browser: Browser, built: Path) -> Iterator[Verifier]:
    """The page, for somebody whose time zone is not a whole number of hours away."""
    with opened(browser, built, timezone_id="America/St_Johns") as made:
        yield made


def put(directory: Path, lines: Sequence[bytes] | bytes, name: str = "audit.jsonl") -> Path:
    path = directory / name
    path.write_bytes(lines if isinstance(lines, bytes) else b"".join(lines))
    return path


def changed(at: int, old: bytes, new: bytes) -> list[bytes]:
    line = LINES[at].replace(old, new, 1)
    assert line != LINES[at]
    return [*LINES[:at], line, *LINES[at + 1 :]]


def agree(verifier: Verifier, path: Path, trust: str | None, saved: Sequence[str] = ()) -> Verdict:
    """Have page and Python verify a file, and see that they say the same of it."""
    told = verify_export(path, trust, saved=list(saved))
    verifier.verify(path, trust, saved)
    bad = told.entry and [told.entry.index, told.entry.id, told.entry.tag, told.entry.reason]
    assert (verifier.word, verifier.reason, verifier.entry) == (WORDS[told.verdict], told.reason, bad)
    return told.verdict


NAMED: Final = {
    "format 1, no key trusted": Verdict.NOT_ANCHORED,
    "format 3": Verdict.VERIFIED,
    "format 3, the log's key trusted": Verdict.VERIFIED,
    "format 3, entries withheld": Verdict.WITHHELD,
    "format 3, signed by another root": Verdict.BROKEN,
    "saved head of another past": Verdict.BROKEN,
    "cut below a saved head": Verdict.BROKEN,
    "saved head of another key": Verdict.BROKEN,
    "a backup put back": Verdict.VERIFIED,
    "an entry: by a role that may not": Verdict.BROKEN,
    "the log of keys": Verdict.VERIFIED,
    "format 4, one entry withheld": Verdict.WITHHELD,
}


@pytest.mark.parametrize("name", NAMED)
def test_verdict_is_pythons(name: str, verifier: Verifier, tmp_path: Path) -> None:
    one = FILES[name]
    path = put(tmp_path, "".join(one["lines"]).encode())
    assert agree(verifier, path, one["trust"], one["saved"]) is NAMED[name]
    assert verifier.fact("Backup put back") == (
        "entry 4 says so: a backup of 3 entries, which officers accepted" if name == "a backup put back" else ""
    )


SPOILT: Final[dict[str, Callable[[], list[bytes]]]] = {
    "one byte of what people read": lambda: changed(100, b"case:approve", b"case:approvE"),
    "one byte of a leaf": lambda: [*LINES[:9], LINES[9][:-9] + b"A" + LINES[9][-8:], *LINES[10:]],
    "an entry removed": lambda: [*LINES[:50], *LINES[51:]],
    "two entries exchanged": lambda: [*LINES[:50], LINES[51], LINES[50], *LINES[52:]],
    "cut": lambda: [*LINES[:200], LINES[200][:90]],
    "without its head": lambda: LINES[:-1],
    "a line more": lambda: [*LINES, LINES[-1]],
    "a line without an end": lambda: [*LINES[:5], b"x" * 300_000, *LINES[5:]],
    "another size": lambda: changed(0, b'"size":258', b'"size":257'),
}


# Read in another way: where it ends, and where it is read again.
SPOILT_PACKED: Final = ("an entry removed", "cut", "a line without an end")


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_changed_file_is_broken_where_python_says(is_packed: bool, verifier: Verifier, tmp_path: Path) -> None:
    for why in SPOILT_PACKED if is_packed else SPOILT:
        path = put(tmp_path, SPOILT[why]())
        told = verify_export(path, ROOT)
        given = put(tmp_path, gzip.compress(path.read_bytes()), "audit.jsonl.gz") if is_packed else path
        verifier.verify(given, ROOT)
        bad = told.entry and [told.entry.index, told.entry.id, told.entry.tag, told.entry.reason]
        assert (verifier.word, verifier.reason, verifier.entry) == ("BROKEN", told.reason, bad), why
        expect(verifier.page.locator("#not-proven")).to_be_visible()


def test_key_decides_whose_log_it_is(verifier: Verifier, tmp_path: Path) -> None:
    path = put(tmp_path, LINES)
    assert agree(verifier, path, None) is Verdict.NOT_ANCHORED
    assert verifier.fact("Writers").startswith("claimed")
    assert agree(verifier, path, ROOT) is Verdict.VERIFIED
    assert verifier.fact("Writers").startswith("anchored")
    assert verifier.fact("Whose").endswith(ROOT.split("/")[1])
    other = NoteVerifier(ROOT.split("+")[0], SigningKey.generate().public).to_text()
    assert agree(verifier, path, other) is Verdict.BROKEN
    verifier.begin(path, f"{ROOT[:60]}x{ROOT[61:]}")
    expect(verifier.page.get_by_role("alert")).to_contain_text("This is no verifier key")
    expect(verifier.page.get_by_label("Key that you trust")).to_be_focused()
    # As a mail breaks it.
    verifier.verify(path, f"\ufeff {ROOT[:40]}\n  {ROOT[40:]}\u200b\n")
    assert verifier.word == "VERIFIED"


def test_log_goes_on_from_each_head_that_was_saved(verifier: Verifier, tmp_path: Path) -> None:
    path, none = put(tmp_path, LINES), FILES["saved head of another key"]["saved"]
    good = [*GOOD["saved"], json.loads(LINES[-1])["checkpoint"]]
    assert agree(verifier, path, ROOT, good) is Verdict.VERIFIED
    assert agree(verifier, path, ROOT, [*good, *none]) is Verdict.BROKEN
    # What the page gives to keep is what it takes the next time.
    verifier.verify(path, ROOT)
    kept = verifier.page.locator("#verdict pre").text_content() or ""
    assert kept == good[-1]
    assert agree(verifier, path, ROOT, [kept]) is Verdict.VERIFIED


DROP: Final = """([name, text, count]) => {
  const dataTransfer = new DataTransfer();
  for (let at = 0; at < count; at++) dataTransfer.items.add(new File([text], name));
  const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
  return event.defaultPrevented;
}"""


def test_file_that_is_dropped_anywhere_is_the_one(verifier: Verifier) -> None:
    page, text = verifier.page, b"".join(LINES).decode()
    assert page.evaluate(DROP, ["two.jsonl", text, 2])
    expect(page.get_by_role("alert")).to_have_text("One log at a time, please.")
    assert page.evaluate(DROP, ["dropped.jsonl", text, 1])
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_label("Exported log")).to_be_focused()
    page.get_by_role("button", name="Verify").click()
    expect(page.locator(".verdict-word")).to_have_text("NOT ANCHORED")
    assert verifier.fact("File").startswith("dropped.jsonl, ")


@pytest.mark.django_db(transaction=True)
def test_export_of_the_server_as_the_console_gives_it(
    world: World, verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed in members, one for each piece; under the root's key."""
    monkeypatch.setattr(exporting, "PIECE", 256)
    sequencer.sequence(world.tenant_id, "audit")
    otto = signed_in(world.cast.otto)
    assert otto.post("/console/audit/exports/", {"log": "audit"}).status_code == 302
    world.work()
    row = LogExport.unscoped.get()
    answer: Any = otto.get(f"/console/audit/exports/{row.pk}/")
    octets = b"".join(answer.streaming_content)
    path = put(tmp_path, octets, "acme-audit.jsonl.gz")
    root = root_verifier(world.tenant_id.bytes, world.root.public).to_text()
    told = verify_export(put(tmp_path, gzip.decompress(octets)), root)
    verifier.verify(path, root)
    assert (verifier.word, verifier.reason) == ("VERIFIED", told.reason)
    assert verifier.fact("Whose") == f"the audit log of the organisation {world.tenant_id}"
    assert verifier.fact("Entries") == f"{row.size:,}"
    shown = verifier.rows(min(row.size, 100))
    assert "tenants:tenant:" in "".join(shown)


@pytest.mark.parametrize(
    "cut", [(70_000,), (1, 2, 70_000), ()], ids=["in two members", "in four members", "in one member"]
)
def test_packed_file_is_the_log_that_it_unpacks_to(cut: Sequence[int], verifier: Verifier, tmp_path: Path) -> None:
    whole = b"".join(LINES)
    ends = [0, *cut, len(whole)]
    members = [gzip.compress(whole[start:end]) for start, end in pairwise(ends)]
    verifier.verify(put(tmp_path, members, "log"), ROOT)
    assert verifier.word == "VERIFIED"
    verifier.rows(100)


NO_LOGS: Final[dict[str, Callable[[], bytes]]] = {
    "empty": lambda: b"",
    "a text": lambda: b"Dear auditor,\nhere is the log.\n",
    "bytes": lambda: bytes(range(256)) * 2000,
    "JSON of something else": lambda: b'{"format":"holdfast-log-export/9"}\n' * 3,
}


@pytest.mark.parametrize("name", NO_LOGS)
def test_what_is_no_log_is_said_to_be_none(name: str, verifier: Verifier, tmp_path: Path) -> None:
    path = put(tmp_path, NO_LOGS[name]())
    assert agree(verifier, path, None) is Verdict.BROKEN
    assert verifier.reason.startswith("this is not an exported log")
    expect(verifier.page.locator("#entries")).to_be_hidden()


def packed_zeros() -> bytes:
    """Return 1 GiB of zeros, as 1 MiB of members."""
    return gzip.compress(bytes(1 << 24)) * 64


BOMBS: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    "nothing but zeros": (packed_zeros, "this is not an exported log: export: a line is too long"),
    "zeros behind some entries": (
        lambda: gzip.compress(b"".join(LINES[:6])) + packed_zeros(),
        "entry 4 is not what was signed: export: a line is too long",
    ),
    "its head again and again": (
        lambda: gzip.compress(b"".join(LINES)) + gzip.compress(LINES[-1] * 40_000) * 64,
        "the file does not end with its signed head",
    ),
    "a damaged member": (
        lambda: gzip.compress(b"".join(LINES))[:-5] + b"\0\0\0\0\0",
        "this file is packed by gzip and damaged: its CRC is another",
    ),
    "something behind it": (
        lambda: gzip.compress(b"".join(LINES)) + b"more",
        "this file is packed by gzip and damaged: something else follows what is packed",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_packed_file_that_is_a_trap_is_broken(name: str, verifier: Verifier, tmp_path: Path) -> None:
    make, reason = BOMBS[name]
    verifier.verify(put(tmp_path, make(), "audit.jsonl.gz"), ROOT)
    assert (verifier.word, verifier.reason) == ("BROKEN", reason)


def test_cancel_ends_the_work_and_another_file_can_be_verified(verifier: Verifier, tmp_path: Path) -> None:
    """A file of more entries than anybody has: it would be read for a long time."""
    line, page = b'{"index":0,"leaf":""}\n', verifier.page
    endless = Header("holdfast/x/audit", "", 2**50).to_line()
    verifier.begin(put(tmp_path, [gzip.compress(endless), gzip.compress(line * 2**20) * 400], "endless.gz"))
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.locator("#far")).to_contain_text("%")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#outcome")).to_have_text("Cancelled. Nothing was verified.")
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#verdict")).to_be_hidden()
    verifier.verify(put(tmp_path, LINES), ROOT)
    assert verifier.word == "VERIFIED"


def log_of(entries: Sequence[LogEntry]) -> tuple[list[bytes], str]:
    """Return an export of entries that nobody signed, and the key of its log."""
    key, origin = SigningKey.generate(), f"holdfast/{ROOT.split('/')[1]}/audit"
    leaves = [entry.to_leaf() for entry in entries]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    nodes, size, vkey = merkle.memory_nodes(hashes), len(leaves), NoteVerifier(origin, key.public)
    lines = [
        ExportedEntry(at, leaf, tuple(merkle.inclusion_from(nodes, at, size))).to_line()
        for at, leaf in enumerate(leaves)
    ]
    head = checkpoint_line(note_of(leaves, key=key, origin=origin))
    return [Header(origin, vkey.to_text(), size).to_line(), *lines, head], vkey.to_text()


ENTRY: Final = LogEntry(
    entry_id=bytes(15) + b"\1",
    tag="recovery:case:approve",
    actor="device:00000000-0000-0000-0000-000000000001",
    person=bytes(16),
    subject="case:1",
    time=1_800_000_000,
    body={},
)
# What turns what stands beside it.
TURNING: Final = "paid \u202elanigiro\u202c"


def test_hostile_text_in_every_field_stays_text(verifier: Verifier, tmp_path: Path) -> None:
    texts = [*PAYLOADS, TURNING]
    entries = [
        replace(
            ENTRY,
            entry_id=bytes(15) + bytes([number]),
            tag=text[:80],
            actor=text[:80],
            subject=text,
            body=dict(sorted({text[:80]: text, "more": text}.items(), key=lambda row: row[0].encode())),
        )
        for number, text in enumerate(texts)
    ]
    lines, key = log_of(entries)
    name = "<img src=x onerror=document.title='run'>.jsonl"
    verifier.verify(put(tmp_path, lines, name), key)
    assert verifier.word == "VERIFIED"
    for text, shown in zip(texts, verifier.rows(len(texts)), strict=True):
        told = text.replace("\u202e", "<U+202E>").replace("\u202c", "<U+202C>")
        assert shown.count(told) >= 3, text
        assert shown.count(told[:80]) >= 6, text
    assert name in verifier.fact("File")
    verifier.page.get_by_label("About", exact=True).fill(PAYLOADS[0])
    verifier.page.get_by_role("button", name="Show", exact=True).click()
    verifier.rows(1)
    # Also where a forger names an entry that is none, and where a key is no key.
    broken = [lines[0], lines[1].replace(b'"index":0', b'"index":7'), *lines[2:]]
    verifier.verify(put(tmp_path, broken, name), key)
    assert (verifier.word, verifier.fact("Tag")) == ("BROKEN", PAYLOADS[0])
    expect(verifier.page.get_by_text("Nothing below is proven")).to_be_visible()
    with verifier.page.expect_download() as download:
        verifier.page.get_by_role("button", name="Save these as CSV").click()
    assert download.value.suggested_filename.endswith("-unproven.csv")
    verifier.begin(put(tmp_path, lines, name), PAYLOADS[1])
    expect(verifier.page.get_by_role("alert")).to_contain_text("no verifier key")
    assert "run" not in verifier.page.evaluate("document.title.split(':')[0]")
    assert verifier.page.locator(":is(main, footer) :is(script, img, iframe, math, a)").count() == 0
    assert verifier.page.evaluate(
        "[...document.querySelectorAll('*')].every(e => ![...e.attributes].some(a => /^on|^style$/.test(a.name)))"
    )


def test_entries_are_filtered_shown_by_the_hundred_and_saved(verifier: Verifier, tmp_path: Path) -> None:
    subjects = ["=1+1", "'=1+1", "+49 1", "@x", " \t-1", '"quoted", and more', "two\nlines", "＝1", "plain", ""]
    entries = [
        replace(
            ENTRY,
            entry_id=number.to_bytes(16, "big"),
            subject=subjects[number % 10],
            tag="keys:device:enrol" if number % 50 == 7 else ENTRY.tag,
            # Midnight in St. John's, three and a half hours behind UTC, falls between two of them.
            time=1_800_000_000 + 1800 * number,
        )
        for number in range(250)
    ]
    lines, key = log_of(entries)
    page = verifier.page
    verifier.verify(put(tmp_path, lines), key)
    expect(page.locator("#zone")).to_contain_text("America/St_Johns")
    for count in (100, 200, 250):
        shown = verifier.rows(count)
        if count < 250:
            page.get_by_role("button", name="Show 100 more").click()
    expect(page.locator("#count")).to_have_text("250 entries shown, and there are no more.")
    expect(page.get_by_role("button", name="Show 100 more")).to_be_hidden()
    assert "2027-01-15 04:30:00 −03:30 (2027-01-15T08:00:00Z)" in shown[0]

    show = page.get_by_role("button", name="Show", exact=True)
    page.get_by_label("What").fill("DEVICE:enrol")
    show.click()
    assert [one.split()[1] for one in verifier.rows(5)] == ["7", "57", "107", "157", "207"]
    page.get_by_label("What").fill("")
    page.get_by_label("From").fill("2027-01-16")
    page.get_by_label("To").fill("2027-01-16")
    show.click()
    days = verifier.rows(48)
    assert "2027-01-16 00:00:00 −03:30 (2027-01-16T03:30:00Z)" in days[0]
    assert "2027-01-16 23:30:00 −03:30" in days[-1]
    expect(page.locator("#only")).to_have_text("Only entries with From: “2027-01-16”, To: “2027-01-16”.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save these as CSV").click()
    assert download.value.suggested_filename == "audit.csv"
    download.value.save_as(tmp_path / "saved.csv")
    octets = (tmp_path / "saved.csv").read_bytes()
    rows = list(csv.reader(io.StringIO(octets.decode("utf-8-sig"), newline="")))
    assert len(rows) == 49
    # The server's own rule for such files, cell by cell and byte by byte.
    first = int(rows[1][0])
    assert [row[5] for row in rows[1:]] == [cells.escaped(entry.subject) for entry in entries[first : first + 48]]
    plain = [[cells.unescaped(cell) for cell in row] for row in rows]
    assert octets.decode("utf-8-sig") == "".join(map(cells.line, plain))
    page.get_by_label("By whom").fill("nobody")
    show.click()
    expect(page.locator("#count")).to_have_text("No entry is like this.")
    page.emulate_media(media="print")
    expect(page.locator("#given")).to_be_hidden()
    expect(page.locator("#verdict")).to_be_visible()
    assert verifier.wrongs() == []


def test_impatience_and_a_file_that_changes_make_nothing_look_whole(verifier: Verifier, tmp_path: Path) -> None:
    entries = [replace(ENTRY, entry_id=number.to_bytes(16, "big")) for number in range(350)]
    lines, key = log_of(entries)
    page, path = verifier.page, put(tmp_path, lines)
    verifier.verify(path, key)
    verifier.rows(100)
    # Twice at once, as only a script can: the second is of a button that is gone.
    page.evaluate("for (const _ of [1, 2]) document.getElementById('more').click()")
    shown = verifier.rows(200)
    assert [one.split()[1] for one in shown] == [str(number) for number in range(200)]
    with page.expect_download() as download:
        page.evaluate("for (const _ of [1, 2]) document.getElementById('csv').click()")
    download.value.save_as(tmp_path / "saved.csv")
    assert len((tmp_path / "saved.csv").read_bytes().splitlines()) == 351
    # Another log in its place, whole and signed as well: what is shown is of the one that was verified, or nothing.
    other, _ = log_of([replace(one, subject="another") for one in entries])
    path.write_bytes(b"".join(other))
    # A browser looks at the second in which a file was written.
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#failed")).to_contain_text("Has the file changed")
    expect(page.locator("#entries")).to_be_hidden()


def test_entries_older_than_signatures_are_not_said_to_be_signed(verifier: Verifier, tmp_path: Path) -> None:
    one = FILES["four entries older than signatures"]
    verifier.verify(put(tmp_path, [line.encode() for line in one["lines"]]), one["trust"])
    said = verifier.page.locator("#verdict").inner_text()
    assert "Each entry that is shown, from 4 on, was signed" in said
    assert "Who wrote entries 0 to 3: they are older than signatures." in said


def test_all_of_an_entry_is_shown_and_a_withheld_one_by_its_hash(verifier: Verifier, tmp_path: Path) -> None:
    one = FILES["format 3, entries withheld"]
    lines = [json.loads(line) for line in one["lines"]]
    verifier.verify(put(tmp_path, "".join(one["lines"]).encode()), one["trust"])
    shown = verifier.rows(9)
    assert verifier.fact("Withheld") == "2"
    assert "withheld" in shown[0]
    assert "Time" not in shown[0]
    entry, text = lines[2], " ".join(shown[1].split())
    assert entry["index"] == 1
    for value in (entry["tag"], entry["actor"], entry["person"], entry["id"], *entry["body"], "b2N0ZXRz", "web, key "):
        assert value in text
    assert "case:<U+202E>“quoted”\\" in text


INJECTED: Final = """
<script>document.title = 'run'</script><img src=x onerror="document.title = 'run'">
<script src="https://holdfast.example/x.js"></script><style>body { display: none }</style>
<p style="position: fixed">x</p><base href="https://holdfast.example/">
"""


def test_its_policy_stops_what_somebody_put_into_it(browser: Browser, built: Path, tmp_path: Path) -> None:
    """Only the one script runs, nothing is asked of a network, and no text becomes script."""
    page = put(tmp_path, built.read_text().replace("</main>", f"</main>{INJECTED}").encode(), "verify.html")
    with opened(browser, page) as verifier:
        assert verifier.page.title() == "Verify an exported log · Holdfast"
        expect(verifier.page.get_by_role("heading", level=1)).to_be_visible()
        violations = set(verifier.page.evaluate("violations"))
        wanted = {"script-src-elem", "script-src-attr", "style-src-elem", "style-src-attr", "img-src", "base-uri"}
        assert violations >= wanted
        for code in (
            "fetch('https://holdfast.example/')",
            "new Promise((ok, no) => { new WebSocket('wss://holdfast.example/').onerror = no })",
            "(async () => { document.body.innerHTML = '<b>x</b>' })()",
            "(async () => { trustedTypes.createPolicy('mine', { createHTML: x => x }) })()",
            "(async () => { new Worker('blob:null/1') })()",
        ):
            assert verifier.page.evaluate(f"{code}.then(() => 'done', () => 'stopped')") == "stopped", code


def test_keyboard_alone_gets_to_the_verdict_and_through_the_entries(verifier: Verifier, tmp_path: Path) -> None:
    page = verifier.page
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Exported log")).to_be_focused()
    # Enter opens the system's own window for choosing a file, which is none of the page's.
    page.locator(":focus").set_input_files(put(tmp_path, LINES))
    page.keyboard.press("Tab")
    page.keyboard.type(ROOT)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Verify")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict-title")).to_be_focused()
    expect(page.locator("#outcome")).to_contain_text("VERIFIED. Verified and trusted.")
    verifier.rows(100)
    reached: list[str] = []
    while not reached or reached[-1] != "more":
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
        assert len(reached) < 20, reached
        outline = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        assert outline >= 1, reached
    # A day's field has a place for each of its parts.
    passed = [one for one in dict.fromkeys(reached) if one in ("tag", "from", "csv", "print", "more")]
    assert passed == ["tag", "from", "csv", "print", "more"]
    page.keyboard.press("Enter")
    verifier.rows(200)
    expect(page.locator("#rows > li").nth(100)).to_be_focused()


LOOKS: Final = {
    "verified": ("format 4", ROOT),
    "not-anchored": ("format 4", None),
    "withheld": ("format 3, entries withheld", FILES["format 3, entries withheld"]["trust"]),
    "broken": ("an entry: by a role that may not", FILES["an entry: by a role that may not"]["trust"]),
}


def test_page_can_be_read_by_everybody(verifier: Verifier, tmp_path: Path) -> None:
    """Axe finds nothing and nothing is wider than the window, wide and light, narrow and dark."""
    page = verifier.page
    for what in ("begin", *LOOKS):
        if what in LOOKS:
            name, trust = LOOKS[what]
            verifier.verify(put(tmp_path, "".join(FILES[name]["lines"]).encode()), trust)
            expect(page.locator("#rows > li").first).to_be_visible()
        for scheme, size in (("light", WIDE), ("dark", NARROW), ("dark", WIDE), ("light", NARROW)):
            if PICTURES is None and (scheme == "light") != (size == WIDE):
                continue
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert findings(page) == [], (what, scheme)
            assert overflow_of(verifier) == 0, (what, scheme)
            if PICTURES is not None:
                picture(page, PICTURES / f"verify-{what}-{scheme}-{size['width']}.png", whole=what != "verified")


def overflow_of(verifier: Verifier) -> int:
    """As `overflow`, whose waiting the page's policy forbids: it evaluates a text."""
    return int(verifier.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
