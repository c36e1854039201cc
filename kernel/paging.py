# SPDX-License-Identifier: Apache-2.0
"""Lists in pages: the rows after the last one that was shown, and whether there are more.

Implements PLATFORM "REST" (a list never ends in silence). It authorizes nothing: the rows are those that may be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from kernel.errors import MalformedRequest, NotFound

PAGE: Final = 100  # rows of one answer: well below what a client takes for one
# Of signed bytes or ciphertext in one answer: in base64url well below the 2 MiB of JSON that a client takes for it.
OCTETS: Final = 1024 * 1024
AFTER: Final = OpenApiParameter("after", UUID, description="The last row of the page before.")


def after(request: Request) -> UUID | None:
    """Return the id that `after` names, if it is given. Raises MalformedRequest."""
    return identifier(request, "after")


def identifier(request: Request, name: str) -> UUID | None:
    """Return the id that a parameter of the query names, if it is given. Raises MalformedRequest."""
    text = request.query_params.get(name)
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        what = "the last row of the page before" if name == "after" else f"a {name}"
        raise MalformedRequest(f"Must be the id of {what}.", field=name) from None


def number_after(request: Request) -> int:
    """Return the number that `after` names in a list that is numbered, -1 unless given. Raises MalformedRequest."""
    text = request.query_params.get("after", "-1")
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 10:
        raise MalformedRequest("after: must be a whole number.", field="after")
    return int(text)


def page(rows: QuerySet[Any], order: Sequence[str], *, after: UUID | None, limit: int = PAGE) -> tuple[list[Any], bool]:
    """Return up to `limit` rows in an order, those after a row, and whether more follow. One query, two after a row.

    order: names of fields without nulls, the last of them unique; "-" before a name turns it round. Nothing is passed
    over or shown twice while rows come and go. Each page costs the same where an index has the order. Raises NotFound
    for a row that is not among these.
    """
    last = _last(rows, after)
    found = _following(rows, order, last, limit)
    return found[:limit], len(found) > limit


def page_in_parts(
    rows: QuerySet[Any], parts: Sequence[Q], order: Sequence[str], *, after: UUID | None, limit: int = PAGE
) -> tuple[list[Any], bool]:
    """Return a page as `page` does of rows in parts, one behind the other, each in the same order.

    parts: conditions, of which each row meets one. Every part is a query of its own, so that an index has its order: an
    order that began with the condition would have all rows sorted for each page.
    """
    last = _last(rows, after)
    found: list[Any] = []
    for part in map(rows.filter, parts):
        if last is not None and not part.filter(pk=last.pk).exists():
            continue
        found += _following(part, order, last, limit - len(found))
        last = None
        if len(found) > limit:
            break
    return found[:limit], len(found) > limit


def _last(rows: QuerySet[Any], after: UUID | None) -> Any:
    if after is None:
        return None
    last = rows.filter(id=after).first()
    if last is None:
        raise NotFound
    return last


def _following(rows: QuerySet[Any], order: Sequence[str], last: Any, limit: int) -> list[Any]:
    """Return the rows behind one, all when it is None: one more than the limit, where there are so many."""
    if last is not None:
        beyond, same = Q(), Q()
        for name in order:
            field = name.removeprefix("-")
            value = getattr(last, field)
            beyond |= same & Q(**{f"{field}__{'lt' if name.startswith('-') else 'gt'}": value})
            same &= Q(**{field: value})
        # By the first field alone an index leads to the place; by what follows, a database would walk there.
        first = order[0].removeprefix("-")
        rows = rows.filter(beyond, **{f"{first}__{'lte' if order[0].startswith('-') else 'gte'}": getattr(last, first)})
    return list(rows.order_by(*order)[: limit + 1])


def page_of_octets(rows: QuerySet[Any], size: Callable[[Any], int], *, limit: int = PAGE) -> tuple[list[Any], bool]:
    """Return the first rows of an ordered list, and whether more follow: at most `limit` and, but for one, OCTETS.

    size: the octets that a row brings into the answer. One query, of one row more than fit by number.
    """
    found: list[Any] = []
    octets = 0
    for row in rows[: limit + 1]:
        octets += size(row)
        if len(found) == limit or (found and octets > OCTETS):
            return found, True
        found.append(row)
    return found, False
