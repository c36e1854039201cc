# SPDX-License-Identifier: Apache-2.0
"""REST: files of people, read and reported on. What they name is done by the act `people-import`.

Implements ORGANISATION "People from a file".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.api import ApiView
from kernel.errors import Denied, MalformedRequest
from kernel.fields import StrictSerializer, UtcField, rfc3339
from tenants.imports import services
from tenants.imports.reading import BadLine
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from tenants.models import Import

# What the proxy lets through to this API. A larger file goes through the console.
_MAX_BODY: Final = 2 * 1024 * 1024
_PAGE: Final = 200  # bad lines of one answer


class ImportIn(StrictSerializer):
    csv = serializers.CharField(
        trim_whitespace=False, max_length=_MAX_BODY, help_text="The file's text: name, email, role."
    )


class BadLineOut(serializers.Serializer[None]):
    line = serializers.IntegerField(help_text="Where it begins in the file, from 1.")
    # `field` and `fields` are words of the serializer's own kind.
    at_fault = serializers.CharField(help_text="name, email or role; empty when it is the line as a whole.")
    reason = serializers.CharField()
    cells = serializers.ListField(child=serializers.CharField(), help_text="Its first cells, as the file has them.")


class ImportOut(serializers.Serializer[None]):
    id = serializers.UUIDField(help_text="The subject of the act people-import.")
    state = serializers.ChoiceField(choices=["read", "running", "done", "stopped"])
    good = serializers.IntegerField(help_text="Lines that invite somebody.")
    bad = serializers.IntegerField()
    done = serializers.IntegerField(help_text="How many of the good lines were gone through.")
    created = serializers.IntegerField(help_text="How many people that made; whoever was here by then is left out.")
    expires_at = UtcField(help_text="Until when it can be confirmed, or its report read.")
    bad_lines = BadLineOut(many=True)
    next_start = serializers.IntegerField(allow_null=True, help_text="The next page of bad lines, if there is one.")


class ImportsView(ApiView):
    """Files of people."""

    permission_names: ClassVar = {"POST": PermissionName.PERSON_ADMINISTER}
    max_body: ClassVar = _MAX_BODY

    @extend_schema(
        operation_id="read_people_file",
        summary="Read a CSV file of people, and name every bad line; nobody is invited by it",
        request=ImportIn,
        responses={201: ImportOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(ImportIn, request)
        if self.actor.person_id is None:
            raise Denied("Programs read no file of people: a person confirms it.")
        with self.writing(request) as reply:
            reply.send(_document(services.read(text=given["csv"], actor=self.actor), 0))
        return reply.response


class ImportView(ApiView):
    """One file of people."""

    permission_names: ClassVar = {"GET": PermissionName.PERSON_ADMINISTER}

    @extend_schema(
        operation_id="read_people_import",
        summary="Say what a file of people would do, or how far it is",
        parameters=[OpenApiParameter("start", int, description="From which of the bad lines on, from 0.")],
        responses=ImportOut,
    )
    def get(self, request: Request, import_id: UUID) -> Response:
        text = request.query_params.get("start", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 7):
            raise MalformedRequest("Must be a number of at most six digits.", field="start")
        return Response(_document(services.import_of(import_id), int(text)))


def _document(row: Import, start: int) -> dict[str, Any]:
    lines = services.some_lines(row, is_good=False, start=start, limit=_PAGE)
    end = start + len(lines)
    return {
        "id": str(row.pk),
        "state": str(row.state),
        "good": row.good,
        "bad": row.bad,
        "done": row.done,
        "created": row.created,
        "expires_at": rfc3339(row.expires_at),
        "bad_lines": [
            {"line": one.number, "at_fault": one.field, "reason": one.reason, "cells": list(one.cells)}
            for one in lines
            if isinstance(one, BadLine)
        ],
        "next_start": end if lines and end < row.bad else None,
    }
