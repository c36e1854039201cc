# SPDX-License-Identifier: Apache-2.0
"""REST: enrolment codes (PLATFORM "REST").

The code itself never comes here: an officer's client makes it and sends its hash.
"""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.api import ApiView
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from tenants import access, services
from tenants.permissions import PermissionName


class EnrolmentCodeIn(StrictSerializer):
    person_id = serializers.UUIDField(help_text="For whom the code is.")
    code_hash = Base64UrlField(length=32, help_text="SHA-256 over tenant, person and the code's secret.")
    expires_at = UtcField(required=False, help_text="At most 30 days ahead; 7 days when absent.")


class EnrolmentCodeOut(serializers.Serializer[None]):
    id = serializers.UUIDField()
    person_id = serializers.UUIDField()
    expires_at = UtcField()


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
            reply.send({"id": str(code.pk), "person_id": str(person.pk), "expires_at": rfc3339(code.expires_at)})
        return reply.response
