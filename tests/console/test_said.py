# SPDX-License-Identifier: Apache-2.0
"""Text of others' on a page: as it was written, but for what would turn or break up the page, which is written out."""

from __future__ import annotations

import re
from html import unescape

from console.templatetags.console import said
from tests.cast.texts import ESCAPED, SHOWN_WHOLE


def shown(text: str) -> str:
    """What a reader of the page sees."""
    page = said(text)
    assert page.startswith("<bdi>")
    assert page.endswith("</bdi>")
    signs = re.sub(r'<span class="hidden-sign">(U\+[0-9A-F]{4,6})</span>', r"&lt;\1&gt;", page[5:-6])
    assert "<" not in signs
    return unescape(signs)


def test_every_text_is_shown_as_it_was_written_and_what_would_be_obeyed_as_an_escape() -> None:
    assert [shown(text) for text in SHOWN_WHOLE] == list(SHOWN_WHOLE)
    assert [shown(text) for text in ESCAPED] == list(ESCAPED.values())
    assert shown("a body\nof lines") == "a body\nof lines"
