# SPDX-License-Identifier: Apache-2.0
"""REST of the vault and its doors (PLATFORM "REST", PROTOCOL section 6). It opens nothing by itself."""

from __future__ import annotations

import re
from typing import ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from holdfast.core.base.encoding import MAX_BLOB, MAX_STATEMENT, MAX_VAULT, b64u
from kernel.api import ApiView
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, StrictSerializer
from keys import access, services
from keys.errors import IfMatchMissing
from tenants.permissions import PermissionName

ETAG = re.compile(r'"(0|[1-9][0-9]{0,8})"')
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, required=True, description='The version last read, `"0"` for the first.'
)


class VaultIn(StrictSerializer):
    statement = Base64UrlField(max_length=MAX_STATEMENT, help_text="`sync` statement by the AIK over the blob.")
    blob = Base64UrlField(max_length=MAX_VAULT)


class VaultOut(StrictSerializer):
    statement = Base64UrlField()
    blob = Base64UrlField()
    version = serializers.IntegerField()


class DoorIn(StrictSerializer):
    blob = Base64UrlField(max_length=MAX_BLOB)


class DoorOut(DoorIn):
    version = serializers.IntegerField()


class DoorListItem(StrictSerializer):
    kind = serializers.CharField()
    version = serializers.IntegerField()


class DoorsOut(StrictSerializer):
    doors = DoorListItem(many=True)


class VaultView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ, "PUT": PermissionName.VAULT_WRITE}
    max_body = 2 * 1024 * 1024

    @extend_schema(summary="Read one's own vault", operation_id="read_vault", responses=VaultOut)
    def get(self, request: Request) -> Response:
        owner = access.vault_reader(self.actor)
        statement, blob, version = services.open_vault(user_id=owner, actor=self.actor)
        return Response(
            {"statement": b64u(statement), "blob": b64u(blob), "version": version}, headers={"etag": f'"{version}"'}
        )

    @extend_schema(
        summary="Write one's own vault",
        operation_id="write_vault",
        request=VaultIn,
        parameters=[IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request) -> Response:
        given = self.valid(VaultIn, request)
        owner = access.vault_owner(self.actor)
        sealed = services.seal_vault(
            user_id=owner, statement=given["statement"], blob=given["blob"], expected_version=if_match(request)
        )
        with self.writing(request) as reply:
            access.vault_owner(self.actor)  # the device may have been revoked while the HSM worked
            version = services.store_vault(user_id=owner, sealed=sealed, actor=self.actor)
            reply.headers = {"etag": f'"{version}"'}
        return reply.response


class DoorsView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ}

    @extend_schema(summary="List the doors of one's own vault", operation_id="list_doors", responses=DoorsOut)
    def get(self, request: Request) -> Response:
        rows = access.doors(access.vault_reader(self.actor))
        return Response({"doors": [{"kind": row.kind, "version": row.version} for row in rows]})


class DoorView(ApiView):
    permission_names: ClassVar = {
        "GET": PermissionName.VAULT_READ,
        "PUT": PermissionName.VAULT_WRITE,
        "DELETE": PermissionName.VAULT_WRITE,
    }
    max_body = 128 * 1024

    @extend_schema(summary="Read one door", operation_id="read_door", responses=DoorOut)
    def get(self, request: Request, kind: str) -> Response:
        """The owner is told, in the mailboxes and by mail, when a device asks that their chain does not list yet."""
        owner = access.vault_reader(self.actor)
        blob, version = services.open_door(user_id=owner, kind=_kind(kind), actor=self.actor)
        return Response({"blob": b64u(blob), "version": version}, headers={"etag": f'"{version}"'})

    @extend_schema(
        summary="Write one door",
        operation_id="write_door",
        request=DoorIn,
        parameters=[IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request, kind: str) -> Response:
        given = self.valid(DoorIn, request)
        owner = access.vault_owner(self.actor)
        sealed = services.seal_door(
            user_id=owner, kind=_kind(kind), blob=given["blob"], expected_version=if_match(request)
        )
        with self.writing(request) as reply:
            access.vault_owner(self.actor)
            version = services.store_door(user_id=owner, kind=kind, sealed=sealed, actor=self.actor)
            reply.headers = {"etag": f'"{version}"'}
        return reply.response

    @extend_schema(summary="Close one door", operation_id="delete_door", responses={204: None})
    def delete(self, request: Request, kind: str) -> Response:
        owner = access.vault_owner(self.actor)
        with self.writing(request) as reply:
            services.delete_door(user_id=owner, kind=_kind(kind), actor=self.actor)
        return reply.response


def _kind(kind: str) -> str:
    if kind not in services.DOOR_KINDS:
        raise MalformedRequest(f"kind: must be one of {', '.join(sorted(services.DOOR_KINDS))}.", field="kind")
    return kind


def if_match(request: Request) -> int:
    tag = request.headers.get("if-match")
    if tag is None:
        raise IfMatchMissing('Send If-Match with the version last read, "0" for the first.', field="if-match")
    match = ETAG.fullmatch(tag)
    if match is None:
        raise MalformedRequest('if-match: must be one quoted version number, like "3".', field="if-match")
    return int(match[1])
