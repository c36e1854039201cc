# SPDX-License-Identifier: Apache-2.0
"""REST: what officers sign outside cases, their standing and their resolutions (PLATFORM "REST").

Every statement is given as the exact bytes that were signed; the other fields repeat it for lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from escrow import access, services
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.acts import Act, Standing
from kernel import paging
from kernel.api import ApiView
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from escrow.models import OfficerKeyStatement

STANDINGS: Final = {one: one.name.lower() for one in Standing}
ACTS: Final = {one: one.name.lower().replace("_", "-") for one in Act}


class SignedIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024, help_text="One officer's Sign1.")


class OfficerStateOut(serializers.Serializer[None]):
    hash = Base64UrlField(length=32)
    person_id = serializers.UUIDField(help_text="Whom it is about.")
    standing = serializers.ChoiceField(choices=list(STANDINGS.values()))
    statement = Base64UrlField()


class ResolutionOut(serializers.Serializer[None]):
    resolution_id = serializers.UUIDField()
    hash = Base64UrlField(length=32)
    act = serializers.ChoiceField(choices=list(ACTS.values()))
    state = serializers.ChoiceField(
        choices=["open", "passed", "expired", "replaced"], help_text="replaced: another policy is in force."
    )
    statement = Base64UrlField(help_text="An array of its signers' statements.")
    signed_by = serializers.ListField(child=serializers.IntegerField(), help_text="Indices that count.")
    needed = serializers.IntegerField()
    proposer = serializers.UUIDField()
    proposed_at = UtcField()
    ends_at = UtcField()
    passed_at = UtcField(allow_null=True)


class ResolutionsOut(serializers.Serializer[None]):
    resolutions = ResolutionOut(many=True)
    more = serializers.BooleanField()


class OfficerKeysOut(serializers.Serializer[None]):
    statement_id = serializers.UUIDField()
    hash = Base64UrlField(length=32)
    person_id = serializers.UUIDField()
    statement = Base64UrlField()
    at = UtcField()


class OfficerKeysListOut(serializers.Serializer[None]):
    statements = OfficerKeysOut(many=True)
    more = serializers.BooleanField()


class OfficerKeysView(ApiView):
    """What accounts say of the keys that their people have as officers."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ, "POST": PermissionName.OFFICER_SIGN}

    @extend_schema(
        operation_id="list_officer_statements",
        summary="List officers' statements about their keys, the newest first",
        parameters=[OpenApiParameter("person", UUID, description="Of this person alone."), paging.AFTER],
        responses=OfficerKeysListOut,
    )
    def get(self, request: Request) -> Response:
        rows, more = access.officer_keys_page(_person(request), after=paging.after(request))
        return Response({"statements": [_keys_document(row) for row in rows], "more": more})

    @extend_schema(
        operation_id="state_officer_keys",
        summary="State the keys that you have as an officer",
        request=SignedIn,
        responses={201: OfficerKeysOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(SignedIn, request)
        with self.writing(request) as reply:
            reply.send(_keys_document(services.state_officer_keys(statement=given["statement"], actor=self.actor)))
        return reply.response


def _person(request: Request) -> UUID | None:
    text = request.query_params.get("person")
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise MalformedRequest("person: must be the id of a person.", field="person") from None


def _keys_document(row: OfficerKeyStatement) -> dict[str, Any]:
    return {
        "statement_id": str(row.pk),
        "hash": b64u(bytes(row.hash)),
        "person_id": str(row.person_id),
        "statement": b64u(bytes(row.statement)),
        "at": rfc3339(row.at),
    }


class OfficerStatesView(ApiView):
    """An officer's signed word on their own standing, or on another's."""

    permission_names: ClassVar = {"POST": PermissionName.OFFICER_SIGN}

    @extend_schema(
        operation_id="state_officer",
        summary="Go away, come back, suspend or remove an officer",
        request=SignedIn,
        responses={201: OfficerStateOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(SignedIn, request)
        with self.writing(request) as reply:
            row = services.state_officer(statement=given["statement"], actor=self.actor)
            reply.send(
                {
                    "hash": b64u(bytes(row.hash)),
                    "person_id": str(row.person_id),
                    "standing": STANDINGS[Standing(row.standing)],
                    "statement": b64u(bytes(row.statement)),
                }
            )
        return reply.response


class ResolutionsView(ApiView):
    """What officers resolve together outside cases."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ, "POST": PermissionName.OFFICER_SIGN}
    # One of them accepts a backup that was put back.
    restored_methods: ClassVar = frozenset({"POST"})

    @extend_schema(
        operation_id="list_resolutions",
        summary="List resolutions, the open ones first",
        parameters=[paging.AFTER],
        responses=ResolutionsOut,
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        rows, more = access.resolution_page(access.policy_in_force(now), now=now, after=paging.after(request))
        return Response({"resolutions": _documents(rows), "more": more})

    @extend_schema(
        operation_id="sign_resolution",
        summary="Propose a resolution, or add your signature",
        request=SignedIn,
        responses={201: ResolutionOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(SignedIn, request)
        with self.writing(request) as reply:
            row = services.sign_resolution(statement=given["statement"], actor=self.actor)
            reply.send(_documents([row])[0])
        return reply.response


def _documents(rows: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "resolution_id": str(row.pk),
            "hash": b64u(bytes(row.hash)),
            "act": ACTS[Act(row.act)],
            "state": progress.state,
            "statement": b64u(bytes(row.statement)),
            "signed_by": [officer.index for officer in progress.signers],
            "needed": progress.needed,
            "proposer": str(row.proposer_id),
            "proposed_at": rfc3339(row.proposed_at),
            "ends_at": rfc3339(row.ends_at),
            "passed_at": rfc3339(row.passed_at) if row.passed_at else None,
        }
        for row, progress in zip(rows, services.progress_of(rows), strict=True)
    ]
