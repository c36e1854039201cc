# SPDX-License-Identifier: Apache-2.0
"""How console pages write times, ids, hashes, people, and text that somebody else chose.

Implements PLATFORM "Console" and FAULTS P13: everything is escaped, and a sign that would turn or hide its
neighbours is written out instead of obeyed. It queries nothing: views hand in what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from holdfast.core.base import text as core_text
from holdfast.core.base.encoding import b64u

if TYPE_CHECKING:
    from tenants.models import Person

register = template.Library()


@register.filter
def utc(at: datetime | int | None) -> SafeString | str:
    """Write a time, or Unix seconds, to the second in UTC, as a <time> that machines can read."""
    if at is None:
        return "—"
    if isinstance(at, int):
        try:
            at = datetime.fromtimestamp(at, tz=UTC)
        except (OverflowError, ValueError, OSError):
            # A signed field may hold any number; the page says what it holds.
            return f"{at} (no date)"
    at = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}">{} UTC</time>', at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%-d %b %Y %H:%M:%S")
    )


@register.filter
def day(at: datetime) -> SafeString:
    """Write the day of a time that is only an estimate, in UTC."""
    at = at.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', at.strftime("%Y-%m-%d"), at.strftime("%-d %b %Y"))


@register.filter
def distance(at: datetime | None) -> str:
    """Say how far a time is from now: `3 minutes ago`, `in 2 days`."""
    if at is None:
        return ""
    seconds = round((at - timezone.now()).total_seconds())
    if abs(seconds) < 2:
        return "now"
    words = duration(abs(seconds), parts=1)
    return f"in {words}" if seconds > 0 else f"{words} ago"


@register.filter
def duration(seconds: int | timedelta, parts: int = 2) -> str:
    """Say a span of time in its largest one or two units: `14 days`, `1 hour 30 minutes`."""
    whole = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    return core_text.duration(int(whole), parts)


@register.filter
def of_key(found: Mapping[UUID, datetime], key: UUID) -> datetime | None:
    """Return what a view has found for one row of a list, if it has."""
    return found.get(key)


@register.filter
def hexed(octets: bytes | memoryview) -> str:
    """Write octets in hexadecimal."""
    return bytes(octets).hex()


@register.filter
def base64url(octets: bytes | memoryview) -> str:
    """Write octets in base64url, as the REST API does."""
    return b64u(bytes(octets))


@register.filter
def ident(value: UUID | bytes | str) -> SafeString:
    """Write an id so that one click selects all of it."""
    text = str(UUID(bytes=value)) if isinstance(value, bytes) and len(value) == 16 else str(value)
    return format_html('<span class="id">{}</span>', text)


@register.filter
def said(text: str) -> SafeString:
    """Write text that somebody else chose: escaped, its direction kept to itself, dangerous signs written out."""
    return format_html("<bdi>{}</bdi>", format_html_join("", "{}", ((_shown(sign),) for sign in text)))


def _shown(sign: str) -> SafeString | str:
    # A line's end is a blank in HTML, and stays a line's end where a page shows a body.
    if core_text.is_dangerous(sign) and sign != "\n":
        return format_html('<span class="hidden-sign">U+{}</span>', f"{ord(sign):04X}")
    return sign


@register.filter
def words(listed: tuple[str, ...]) -> SafeString:
    """Write the eight words of a fingerprint as a numbered list."""
    return format_html('<ol class="words">{}</ol>', format_html_join("", "<li>{}</li>", ((word,) for word in listed)))


@register.simple_tag
def person_name(people: Mapping[UUID, Person], person_id: UUID) -> SafeString | str:
    """Write a person's name alone, for text that is a link already; an id when nobody is known by it."""
    known = people.get(person_id)
    return said(known.name) if known else str(person_id)


@register.simple_tag
def person_address(people: Mapping[UUID, Person], person_id: UUID) -> SafeString | str:
    """Write a person's address alone."""
    known = people.get(person_id)
    return said(known.email) if known else ""


@register.simple_tag
def person_role(people: Mapping[UUID, Person], person_id: UUID) -> str:
    """Write a person's role."""
    known = people.get(person_id)
    return str(known.get_role_display()).lower() if known else ""


@register.simple_tag
def person(people: Mapping[UUID, Person], person_id: UUID | bytes, form: str = "") -> SafeString:
    """Name a person by name and address, and by their id with form "full"; "name" leaves the address out.

    Two people may share a name: where an officer decides, the page writes the id as well (FAULTS R15).
    """
    key = UUID(bytes=person_id) if isinstance(person_id, bytes) else person_id
    known = people.get(key)
    if known is None:
        return format_html('<span class="muted">somebody unknown here</span> <span class="id">{}</span>', key)
    link = format_html('<a href="/console/people/{}/">{}</a>', key, said(known.name))
    if form == "name":
        return link
    address = format_html('<span class="cell-note">{}</span>', said(known.email))
    return format_html("{}{}{}", link, address, ident(key) if form == "full" else "")
