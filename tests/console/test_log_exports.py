# SPDX-License-Identifier: Apache-2.0
"""Exports of the logs in the console: asked for, seen to be made, downloaded, and gone on with from any byte."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from audit import exporting, sequencer
from audit.models import Entry, LogExport
from holdfast.client.auditor.auditor import Verdict, verify_export
from tests.cast.browsers import signed_in, text_of
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/console/audit/exports/"


def test_auditor_asks_downloads_and_goes_on_with_a_download(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PIECE", 256)
    sequencer.sequence(world.tenant_id, "audit")
    otto = signed_in(world.cast.otto)
    assert "No export" in text_of(otto.get(PAGE))
    assert otto.post(PAGE, {"log": "audit"}).status_code == 302
    row = LogExport.unscoped.get()
    assert f"0 of {row.size} entries" in text_of(otto.get(PAGE))
    assert otto.get(f"{PAGE}{row.pk}/").status_code == 404
    world.work()
    assert f'href="{PAGE}{row.pk}/"' in otto.get(PAGE).content.decode()
    whole: Any = otto.get(f"{PAGE}{row.pk}/")
    octets = b"".join(whole.streaming_content)
    assert (whole.status_code, whole["content-length"]) == (200, str(len(octets)))
    assert whole["content-disposition"] == f'attachment; filename="acme-audit-{row.size}.jsonl.gz"'
    for start in (1, len(octets) // 2, len(octets) - 1):
        rest: Any = otto.get(f"{PAGE}{row.pk}/", headers={"Range": f"bytes={start}-", "If-Range": whole["etag"]})
        assert (rest.status_code, b"".join(rest.streaming_content)) == (206, octets[start:])
        assert rest["content-range"] == f"bytes {start}-{len(octets) - 1}/{len(octets)}"
    # Of another file, and as several parts, the whole is what may be given.
    for asked in ({"Range": "bytes=5-", "If-Range": '"another"'}, {"Range": "bytes=1-2,4-5"}, {"Range": "bytes=-5"}):
        answer: Any = otto.get(f"{PAGE}{row.pk}/", headers=asked)
        assert (answer.status_code, b"".join(answer.streaming_content)) == (200, octets)
    beyond = otto.get(f"{PAGE}{row.pk}/", headers={"Range": f"bytes={len(octets)}-"})
    assert (beyond.status_code, beyond["content-range"]) == (416, f"bytes */{len(octets)}")
    path = tmp_path / "log.jsonl"
    path.write_bytes(gzip.decompress(octets))
    assert verify_export(path).verdict is Verdict.NOT_ANCHORED
    tags = Entry.unscoped.filter(person_id=world.cast.otto.pk).values_list("tag", flat=True)
    assert sorted(tags) == ["audit:entries:exported", "audit:export:ask"]


def test_nobody_else_takes_it(world: World) -> None:
    sequencer.sequence(world.tenant_id, "audit")
    signed_in(world.cast.otto).post(PAGE, {"log": "audit"})
    world.work()
    row = LogExport.unscoped.get()
    for name, status in (("olivia", 404), ("carol", 404), ("mallory", 404), ("alice", 403)):
        assert signed_in(world.cast.people[name]).get(f"{PAGE}{row.pk}/").status_code == status
        assert str(row.pk) not in signed_in(world.cast.people[name]).get(PAGE).content.decode()


def test_refusal_is_said_on_the_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST", 0)
    sequencer.sequence(world.tenant_id, "audit")
    answer = signed_in(world.cast.otto).post(PAGE, {"log": "audit"})
    assert answer.status_code == 409
    assert "Each is deleted after a day" in text_of(answer)


def test_page_that_verifies_is_handed_over_as_it_is_committed(world: World, client: Client) -> None:
    address, otto = f"{PAGE}verify.html", signed_in(world.cast.otto)
    committed = (Path(settings.BASE_DIR) / "web" / "dist" / "verify.html").read_bytes()
    answer = otto.get(address)
    assert (answer.status_code, answer.content) == (200, committed)
    assert answer["content-disposition"] == 'attachment; filename="verify.html"'
    assert answer["content-type"] == "text/html; charset=utf-8"
    for page in (PAGE, "/console/audit/"):
        assert f'href="{address}"' in otto.get(page).content.decode()
    assert hashlib.sha256(committed).hexdigest() in text_of(otto.get(PAGE))
    # Nobody without the right to read a log needs one.
    assert client.get(address).status_code == 302
    assert signed_in(world.cast.alice).get(address).status_code == 403
