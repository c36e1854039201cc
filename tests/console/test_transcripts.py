# SPDX-License-Identifier: Apache-2.0
"""Signed transcripts in the console: shown, handed over and held to both signatures; written by a ceremony alone."""

from __future__ import annotations

import json

import pytest

from audit import services as audit
from audit import signing
from audit.errors import AuditUnavailable, TranscriptRefused
from audit.models import Entry, Transcript
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.transcript import MAX_TEXT
from holdfast.core.log.writers import Role
from kernel.scope import tenant_scope
from tests.cast.browsers import signed_in, text_of
from tests.cast.phones import audit_away
from tests.cast.roles import ROLE_KEYS
from tests.cast.world import World, as_superuser

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/console/ceremonies/"
FIRST = "Ceremonies\n   1  make <b>its</b> root key\n"
SECOND = FIRST + "   2  make its escrow key\n"


def entries(world: World, tag: str) -> list[Entry]:
    with tenant_scope(world.tenant_id):
        return list(Entry.objects.filter(tag=tag).order_by("seq"))


def test_auditors_officers_and_owners_read_it_and_take_it_away(world: World) -> None:
    assert "None has been signed yet" in text_of(signed_in(world.cast.otto).get(PAGE))
    world.transcript(FIRST)
    world.transcript(SECOND, lines=(3, 2))
    for name in ("otto", "carol", "olivia"):
        browser = signed_in(world.cast.people[name])
        listed = browser.get(PAGE)
        assert [f'href="{PAGE}{number}/"' in listed.content.decode() for number in (1, 2, 3)] == [True, True, False]
        assert "2 lines of this tenant and 3 of the installation (the newest" in text_of(listed)
        page = browser.get(f"{PAGE}2/")
        assert "signatures hold" in text_of(page)
        assert "make &lt;b&gt;its&lt;/b&gt; root key" in page.content.decode()
        assert f'href="{PAGE}1/"' in page.content.decode()
        assert "There is a newer one" in text_of(browser.get(f"{PAGE}1/"))
        text, signed = browser.get(f"{PAGE}2/text/"), browser.get(f"{PAGE}2/signed/")
        assert text.content == SECOND.encode()
        with tenant_scope(world.tenant_id):
            audit.check_transcript(signed.content, text.content, root_key=world.root.public)
        assert text["content-disposition"] == 'attachment; filename="transcript-acme-2.txt"'
        assert signed["content-type"] == "application/cose"
    for number in (0, 3):
        assert signed_in(world.cast.otto).get(f"{PAGE}{number}/").status_code == 404
    for path in ("2/", "2/text/", "2/signed/"):
        assert signed_in(world.cast.alice).get(PAGE + path).status_code == 403
        assert signed_in(world.cast.people["mallory"]).get(PAGE + path).status_code == 404


def test_each_reading_is_an_entry_or_does_not_happen(world: World) -> None:
    world.transcript(FIRST)
    otto = signed_in(world.cast.otto)
    assert otto.get(f"{PAGE}1/").status_code == 200
    (entry,) = entries(world, "audit:transcript:read")
    assert (entry.person_id, entry.body) == (world.cast.otto.pk, {"number": 1})

    carol = signed_in(world.cast.carol)
    carol.raise_request_exception = False
    with audit_away():
        for path in ("1/", "1/text/", "1/signed/"):
            answer = carol.get(PAGE + path)
            assert answer.status_code >= 500
            assert b"root key" not in answer.content


def test_what_root_and_log_did_not_sign_is_shown_as_that(world: World) -> None:
    world.transcript(FIRST)
    with as_superuser("audit_transcript"):
        Transcript.unscoped.update(text=FIRST.replace("root", "toor").encode())
    text = text_of(signed_in(world.cast.otto).get(f"{PAGE}1/"))
    assert "signatures hold" not in text
    assert "The signatures do not hold for this text: the text is not the one that was signed" in text
    with as_superuser("audit_transcript"):
        Transcript.unscoped.update(text=FIRST.encode(), statement=b"\x80")
    assert "not proven" in text_of(signed_in(world.cast.otto).get(f"{PAGE}1/"))


def test_row_and_entry_are_written_together_once_for_a_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.transcript(FIRST, lines=(4, 1))
    assert world.transcript(FIRST, lines=(4, 1)) is None
    (entry,) = entries(world, "audit:transcript:publish")
    row = Transcript.unscoped.get()
    assert (entry.actor, entry.subject) == ("system:ceremony", str(row.pk))
    assert {name: entry.body[name] for name in ("installation", "own")} == {"installation": 4, "own": 1}
    # A process that is not the ceremony's cannot vouch for one, so that nothing is kept.
    with monkeypatch.context() as patched:
        patched.setattr(signing, "_keys", {Role.WEB: ROLE_KEYS[Role.WEB]})
        with pytest.raises(AuditUnavailable):
            world.transcript(SECOND)
    assert Transcript.unscoped.count() == 1


def test_too_long_or_wrongly_signed_is_not_kept(world: World) -> None:
    with pytest.raises(TranscriptRefused):
        world.transcript("x" * (MAX_TEXT + 1))
    with pytest.raises(TranscriptRefused):
        world.transcript(FIRST, root=SigningKey.generate())
    assert Transcript.unscoped.count() == 0
    assert entries(world, "audit:transcript:publish") == []
    world.transcript("x" * MAX_TEXT)
    assert Transcript.unscoped.get().number == 1


def test_signs_that_turn_text_are_shown_as_what_they_are(world: World) -> None:
    world.transcript("a\u202eb\n")
    page = signed_in(world.cast.otto).get(f"{PAGE}1/").content.decode()
    assert "\u202e" not in page
    assert json.dumps("a\u202eb")[2:8].strip("\\u").upper() in page.upper()
