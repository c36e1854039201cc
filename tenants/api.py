# SPDX-License-Identifier: Apache-2.0
"""REST: enrolment codes, and the second person behind one (PLATFORM "REST").

The code itself never comes here: an officer's client makes it and sends its hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.api import ApiView
from kernel.errors import Invalid, MalformedRequest, NotFound
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from kernel.paging import AFTER, after
from tenants import access, names, services
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.states import PersonState

if TYPE_CHECKING:
    from tenants.models import EnrolmentCode, Person


EMAIL: Final = OpenApiParameter(
    "email", str, required=True, description="The whole address. Letter case and Unicode forms do not matter."
)


def email_key(request: Request) -> str:
    """Return the address that `email` names, as addresses are compared. Raises MalformedRequest and NameRefused."""
    given = request.query_params.getlist("email")
    if len(given) != 1:
        raise MalformedRequest("Name one e-mail address.", field="email")
    return names.email_key(given[0])


# Characters of a search: of a name or an address nobody types more.
_MAX_SEARCH: Final = 100


class EnrolmentCodeIn(StrictSerializer):
    person_id = serializers.UUIDField(help_text="For whom the code is.")
    code_hash = Base64UrlField(length=32, help_text="SHA-256 over tenant, person and the code's secret.")
    expires_at = UtcField(required=False, help_text="At most 30 days ahead; 7 days when absent.")


class EnrolmentCodeOut(serializers.Serializer[None]):
    id = serializers.UUIDField()
    person_id = serializers.UUIDField()
    expires_at = UtcField()
    trust = serializers.ChoiceField(
        choices=["pinned", "founding", "tofu"],
        help_text="founding: of a tenant that is being founded, for owners and officers, until it is founded.",
    )
    awaits_second = serializers.BooleanField(help_text="Whether a second person has to confirm it before it works.")


class ConfirmationIn(StrictSerializer):
    person_id = serializers.UUIDField(help_text="For whom the code is, as the issuer says.")


class EnrolleeOut(serializers.Serializer[None]):
    person_id = serializers.UUIDField()


class PersonOut(serializers.Serializer[None]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    email = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.values)
    state = serializers.ChoiceField(choices=PersonState.values)
    active_since = UtcField(allow_null=True, help_text="Since when they count without a break.")


class PeopleOut(serializers.Serializer[None]):
    people = PersonOut(many=True)
    more = serializers.BooleanField()


class PeopleView(ApiView):
    """The tenant's people in every state, for whoever administers or oversees."""

    permission_names: ClassVar = {"GET": PermissionName.PERSON_READ}

    @extend_schema(
        operation_id="list_people",
        summary="List the tenant's people by name, in whatever state, or find one by their address",
        parameters=[
            OpenApiParameter("q", str, description="A part of name or address."),
            OpenApiParameter("email", str, description="One whole address."),
            OpenApiParameter("role", str, enum=Role.values),
            OpenApiParameter("state", str, enum=PersonState.values),
            AFTER,
        ],
        responses=PeopleOut,
    )
    def get(self, request: Request) -> Response:
        """Conditions given together all hold."""
        found, more = access.people_page(
            _search(request),
            _chosen(request, "role", Role.values),
            state=_chosen(request, "state", PersonState.values),
            email_key=email_key(request) if "email" in request.query_params else "",
            after=after(request),
        )
        return Response({"people": [_person(one) for one in found], "more": more})


def _search(request: Request) -> str:
    text = request.query_params.get("q", "").strip()
    if len(text) > _MAX_SEARCH:
        raise MalformedRequest(f"At most {_MAX_SEARCH} characters.", field="q")
    return text


def _chosen(request: Request, name: str, values: Sequence[str]) -> str:
    text = request.query_params.get(name)
    if text is not None and text not in values:
        raise MalformedRequest(f"Must be one of: {', '.join(values)}.", field=name)
    return text or ""


def _person(person: Person) -> dict[str, object]:
    return {
        "id": str(person.pk),
        "name": person.name,
        "email": person.email,
        "role": person.role,
        "state": person.state,
        "active_since": rfc3339(person.active_since) if person.active_since else None,
    }


class EnrolleeView(ApiView):
    """For whom a code could be, by their address: a code is bound to a person before the server hears of it."""

    permission_names: ClassVar = {"GET": PermissionName.ENROLMENT_CREATE}

    @extend_schema(
        operation_id="find_enrollee",
        summary="Find the person, invited or active, whom an enrolment code could be for",
        parameters=[EMAIL],
        responses=EnrolleeOut,
    )
    def get(self, request: Request) -> Response:
        """Everybody else is answered alike: unknown, suspended, left, of another tenant."""
        key = email_key(request)
        services.count_search(self.actor)
        person = access.reachable_by_address(key, (PersonState.INVITED, PersonState.ACTIVE))
        if person is None:
            raise NotFound
        return Response({"person_id": str(person.pk)})


class EnrolmentCodesView(ApiView):
    """Leave for one person to enrol one device."""

    permission_names: ClassVar = {"POST": PermissionName.ENROLMENT_CREATE}

    @extend_schema(
        operation_id="issue_enrolment_code",
        summary="Issue a single-use enrolment code",
        request=EnrolmentCodeIn,
        responses={201: EnrolmentCodeOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(EnrolmentCodeIn, request)
        with self.writing(request) as reply:
            person = access.person_for_enrolment(self.actor, given["person_id"])
            code = services.issue_enrolment_code(
                person=person,
                code_hash=given["code_hash"],
                expires_at=given.get("expires_at"),
                actor=self.actor,
            )
            reply.send(_document(code, person))
        return reply.response


class ConfirmationView(ApiView):
    """The second person behind a code for an owner or officer."""

    permission_names: ClassVar = {"POST": PermissionName.ENROLMENT_CREATE}

    @extend_schema(
        operation_id="confirm_enrolment_code",
        summary="Confirm an enrolment code for an owner or officer",
        request=ConfirmationIn,
        responses={201: EnrolmentCodeOut},
    )
    def post(self, request: Request, code_id: UUID) -> Response:
        given = self.valid(ConfirmationIn, request)
        with self.writing(request) as reply:
            code = access.code_for_confirmation(self.actor, code_id)
            if code.person_id != given["person_id"]:
                raise Invalid("The code is for another person. Ask its issuer whom they let in.", field="person_id")
            services.confirm_enrolment_code(code=code, actor=self.actor)
            reply.send(_document(code, code.person))
        return reply.response


def _document(code: EnrolmentCode, person: Person) -> dict[str, object]:
    return {
        "id": str(code.pk),
        "person_id": str(person.pk),
        "expires_at": rfc3339(code.expires_at),
        "trust": str(code.trust),
        "awaits_second": access.awaits_second(code, person),
    }
