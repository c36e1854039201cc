# SPDX-License-Identifier: Apache-2.0
"""What the server keeps about a person, as one JSON file for them.

Implements ORGANISATION "People" (each person). It holds no ciphertext: a door's blob in the hands of whoever sits at a
session could be guessed at without end. Nothing of a case stands in it before its subject is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone

from audit import access as log
from audit import services as audit
from console.frame import LOOKING, console_page
from escrow import access as escrow
from holdfast.core.base.encoding import b64u
from holdfast.core.vault.blob import Section
from kernel.actors import Actor
from kernel.errors import Throttled
from kernel.scope import tenant_scope
from keys import access as keys
from recovery import access as recovery
from recovery.contacts import access as contacts
from tenants import access as tenants
from tenants import session_store
from tenants.limits import count_against
from tenants.permissions import PermissionName

FORMAT: Final = "holdfast/my-data/v1"
MOST: Final = 1000  # rows of a part, the newest: what a year brings, and the file has an end
PER_HOUR: Final = 10  # files of one person: each reads all of theirs
TOO_MANY: Final = "You have taken ten files within the hour. Wait, then take the next."

Rows = Sequence[dict[str, Any]]


@console_page(PermissionName.ME_READ, methods=(*LOOKING, "POST"))
def my_data(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """Say what the file holds; posted, send it. That it was taken is an entry before its first octet leaves."""
    assert actor.person_id is not None
    assert actor.tenant_id is not None
    if request.method != "POST":
        return _page(request)
    try:
        count_against(f"my-data:{actor.person_id}", limit=PER_HOUR, seconds=3600)
    except Throttled:
        return _page(request, TOO_MANY, status=429)
    with transaction.atomic():
        audit.append(tag="tenants:data:export", actor=actor, subject=str(actor.person_id))
    answer = StreamingHttpResponse(_document(actor, actor.tenant_id, actor.person_id), content_type="application/json")
    answer["content-disposition"] = 'attachment; filename="holdfast-my-data.json"'
    return answer


def _page(request: HttpRequest, refusal: str = "", *, status: int = 200) -> HttpResponse:
    return render(request, "console/me/data.html", {"refusal": refusal, "most": MOST}, status=status)


def _document(actor: Actor, tenant_id: UUID, person_id: UUID) -> Iterator[str]:
    """Give the file part by part, each read in the tenant's scope when its turn comes; one part is held at a time."""
    head = {"format": FORMAT, "made_at": timezone.now(), "tenant": tenant_id, "person": person_id, "most_rows": MOST}
    yield _json(head)[:-1]
    for name, read in _PARTS.items():
        with tenant_scope(tenant_id):
            rows = read(actor, person_id)
        yield f",\n{json.dumps(name)}: ["
        for number, row in enumerate(rows):
            yield (",\n " if number else "\n ") + _json(row)
        yield "]"
    yield "}\n"


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=True)


def _fields(row: Any, names: str) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in names.split()}
    return {
        name: b64u(bytes(value)) if isinstance(value, bytes | memoryview) else value for name, value in found.items()
    }


def _person(actor: Actor, person_id: UUID) -> Rows:
    return [_fields(tenants.person(person_id), "email name role state created_at last_login")]


def _sessions(actor: Actor, person_id: UUID) -> Rows:
    listed, _ = session_store.open_sessions(tenants.person(person_id))
    return [_fields(row, "agent source started_at last_seen_at") for row in listed]


def _devices(actor: Actor, person_id: UUID) -> Rows:
    listed, _ = keys.devices_of(person_id, limit=MOST)
    uses = tenants.credential_uses([row.id for row in listed])
    names = "id name suite state statement created_at activated_at revoked_at"
    return [{**_fields(row, names), "last_used_on": uses.get(row.id, ("", None))[1]} for row in listed]


def _chain(actor: Actor, person_id: UUID) -> Rows:
    return [_fields(row, "seq entry appended_at") for row in keys.newest_chain_entries(person_id, MOST)]


def _vault(actor: Actor, person_id: UUID) -> Rows:
    kept = [row for section in Section if (row := keys.vault(person_id, section)) is not None]
    return [_fields(row, "section version updated_at") for row in kept]


def _doors(actor: Actor, person_id: UUID) -> Rows:
    kept = [row for section in Section for row in keys.doors(person_id, section)]
    return [_fields(row, "kind version updated_at proved_at") for row in kept]


def _contacts(actor: Actor, person_id: UUID) -> Rows:
    row = contacts.contact_set(person_id)
    return [_fields(row, "version manifest updated_at")] if row else []


def _deposits(actor: Actor, person_id: UUID) -> Rows:
    rows = escrow.deposits_of(person_id)[-MOST:]
    return [_fields(row, "id device_id generation record_hash policy_hash created_at") for row in rows]


def _answers(actor: Actor, person_id: UUID) -> Rows:
    rows = escrow.consents_of(person_id)[-MOST:]
    return [_fields(row, "agreed policy_hash statement given_at") for row in rows]


def _cases(actor: Actor, person_id: UUID) -> Rows:
    names = (
        "id state purpose statement requester_id recipient_person_id recipient_device_id opened_at notice_at "
        "not_before expiry collected_at ended_at"
    )
    return [_fields(row, names) for row in recovery.cases_about(actor, limit=MOST)]


def _notices(actor: Actor, person_id: UUID) -> Rows:
    rows = recovery.newest_notices(person_id, limit=MOST)
    return [_fields(row, "kind case_id state due_at settled_at") for row in rows]


def _by_me(actor: Actor, person_id: UUID) -> Rows:
    return _entries(log.search(person=person_id, reader=actor, limit=MOST))


def _about_me(actor: Actor, person_id: UUID) -> Rows:
    return _entries(log.search(subject=str(person_id), reader=actor, limit=MOST))


def _entries(rows: Sequence[Any]) -> Rows:
    return [_fields(row, "leaf_index tag actor subject time") for row in rows]


_PARTS: Final[dict[str, Callable[[Actor, UUID], Rows]]] = {
    "person": _person,
    "sessions": _sessions,
    "devices": _devices,
    "chain": _chain,
    "vault": _vault,
    "doors": _doors,
    "contacts": _contacts,
    "deposits": _deposits,
    "answers_to_policies": _answers,
    "cases_about_you": _cases,
    "notices": _notices,
    "log_by_you": _by_me,
    "log_about_you": _about_me,
}
