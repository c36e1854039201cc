# SPDX-License-Identifier: Apache-2.0
"""REST of the vault's sections and their doors (PLATFORM "REST", PROTOCOL section 6). It opens nothing by itself."""

from __future__ import annotations

import re
from typing import ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from holdfast.core.base.encoding import MAX_BLOB, MAX_STATEMENT, MAX_VAULT, b64u
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import MAX_DOOR
from kernel.api import ApiView
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from kernel.lean import LeanView
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


class StoredDoorItem(DoorListItem):
    stored_at = UtcField(help_text="When this version came: a client that set a later one gives that back.")


class DoorsOut(StrictSerializer):
    doors = StoredDoorItem(many=True)


class SectionIn(VaultIn):
    blob = Base64UrlField(max_length=MAX_BLOB)


class ProofIn(StrictSerializer):
    proof = Base64UrlField(max_length=MAX_STATEMENT, help_text="`door-proof` statement by the AIK over the blob.")


class ProvenDoorIn(ProofIn):
    blob = Base64UrlField(max_length=MAX_DOOR)


class ProvenDoorItem(DoorListItem):
    proved_at = UtcField(allow_null=True, help_text="When its owner last said that they had opened it.")
    is_current = serializers.BooleanField(help_text="Whether it opens the section's key of now.")


class ProvenDoorsOut(StrictSerializer):
    doors = ProvenDoorItem(many=True)


class VaultView(LeanView):
    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ, "PUT": PermissionName.VAULT_WRITE}
    max_body = 2 * 1024 * 1024

    @extend_schema(summary="Read one's own vault", operation_id="read_vault", responses=VaultOut)
    def get(self, request: Request) -> Response:
        statement, blob, version = services.open_vault(actor=self.actor)
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
        own = access.own_vault(self.actor, Section.VAULT)
        sealed = services.seal_vault(
            own=own, statement=given["statement"], blob=given["blob"], expected_version=if_match(request)
        )
        with self.writing(request) as reply:
            version = services.store_vault(user_id=own.user_id, sealed=sealed, actor=self.actor)
            reply.headers = {"etag": f'"{version}"'}
        return reply.response


class DoorsView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ}

    @extend_schema(summary="List the doors of one's own vault", operation_id="list_doors", responses=DoorsOut)
    def get(self, request: Request) -> Response:
        rows = access.doors(access.vault_reader(self.actor))
        shown = [{"kind": row.kind, "version": row.version, "stored_at": rfc3339(row.updated_at)} for row in rows]
        return Response({"doors": shown})


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
        blob, version = services.open_door(kind=_kind(Section.VAULT, kind), actor=self.actor)
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
        kind = _kind(Section.VAULT, kind)
        own = access.own_door(self.actor, kind)
        sealed = services.seal_door(own=own, kind=kind, blob=given["blob"], expected_version=if_match(request))
        with self.writing(request) as reply:
            version = services.store_door(user_id=own.user_id, kind=kind, sealed=sealed, actor=self.actor)
            reply.headers = {"etag": f'"{version}"'}
        return reply.response

    @extend_schema(summary="Close one door", operation_id="delete_door", responses={204: None})
    def delete(self, request: Request, kind: str) -> Response:
        owner = access.vault_owner(self.actor)
        with self.writing(request) as reply:
            services.delete_door(user_id=owner, kind=_kind(Section.VAULT, kind), actor=self.actor)
        return reply.response


class OfficersSectionView(ApiView):
    """The section of one's own vault in which an officer's keys lie, under a key of its own."""

    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ, "PUT": PermissionName.OFFICER_SIGN}
    max_body = 128 * 1024

    @extend_schema(summary="Read one's own officers' section", operation_id="read_officers_section", responses=VaultOut)
    def get(self, request: Request) -> Response:
        statement, blob, version = services.open_vault(actor=self.actor, section=Section.OFFICERS)
        return Response(
            {"statement": b64u(statement), "blob": b64u(blob), "version": version}, headers={"etag": f'"{version}"'}
        )

    @extend_schema(
        summary="Write one's own officers' section",
        operation_id="write_officers_section",
        request=SectionIn,
        parameters=[IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request) -> Response:
        given = self.valid(SectionIn, request)
        own = access.own_vault(self.actor, Section.OFFICERS)
        sealed = services.seal_vault(
            own=own,
            statement=given["statement"],
            blob=given["blob"],
            expected_version=if_match(request),
            section=Section.OFFICERS,
        )
        with self.writing(request) as reply:
            version = services.store_vault(
                user_id=own.user_id, sealed=sealed, actor=self.actor, section=Section.OFFICERS
            )
            reply.headers = {"etag": f'"{version}"'}
        return reply.response


class OfficersDoorsView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.VAULT_READ}

    @extend_schema(
        summary="List the doors of one's own officers' section",
        operation_id="list_officers_doors",
        responses=ProvenDoorsOut,
    )
    def get(self, request: Request) -> Response:
        owner = access.vault_reader(self.actor)
        rows, current = access.doors(owner, Section.OFFICERS), set(access.proven_doors(owner))
        return Response(
            {
                "doors": [
                    {
                        "kind": row.kind.removeprefix(f"{Section.OFFICERS.value}-"),
                        "version": row.version,
                        "proved_at": rfc3339(row.proved_at) if row.proved_at else None,
                        "is_current": row.kind in current,
                    }
                    for row in rows
                ]
            }
        )


class OfficersDoorView(ApiView):
    permission_names: ClassVar = {
        "GET": PermissionName.VAULT_READ,
        "PUT": PermissionName.OFFICER_SIGN,
        "DELETE": PermissionName.OFFICER_SIGN,
    }
    max_body = 128 * 1024

    @extend_schema(
        summary="Read one door of one's own officers' section", operation_id="read_officers_door", responses=DoorOut
    )
    def get(self, request: Request, kind: str) -> Response:
        """The owner is told, in the mailboxes and by mail, when a device asks that their chain does not list yet."""
        blob, version = services.open_door(kind=_kind(Section.OFFICERS, kind), actor=self.actor)
        return Response({"blob": b64u(blob), "version": version}, headers={"etag": f'"{version}"'})

    @extend_schema(
        summary="Write one door of one's own officers' section, with the proof that it opens",
        operation_id="write_officers_door",
        request=ProvenDoorIn,
        parameters=[IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request, kind: str) -> Response:
        given = self.valid(ProvenDoorIn, request)
        kind = _kind(Section.OFFICERS, kind)
        own = access.own_door(self.actor, kind)
        sealed = services.seal_proven_door(
            own=own,
            kind=kind,
            blob=given["blob"],
            proof=given["proof"],
            expected_version=if_match(request),
        )
        with self.writing(request) as reply:
            version = services.store_door(user_id=own.user_id, kind=kind, sealed=sealed, actor=self.actor)
            reply.headers = {"etag": f'"{version}"'}
        return reply.response

    @extend_schema(
        summary="Close one door of one's own officers' section",
        operation_id="delete_officers_door",
        responses={204: None},
    )
    def delete(self, request: Request, kind: str) -> Response:
        """An officer of the policy in force, or of one that waits to be, keeps two that are proven."""
        owner = access.vault_owner(self.actor)
        with self.writing(request) as reply:
            services.delete_door(user_id=owner, kind=_kind(Section.OFFICERS, kind), actor=self.actor)
        return reply.response


class OfficersDoorProofView(ApiView):
    permission_names: ClassVar = {"PUT": PermissionName.OFFICER_SIGN}

    @extend_schema(
        summary="Prove once more that a door of one's own officers' section opens",
        operation_id="prove_officers_door",
        request=ProofIn,
        responses={204: None},
    )
    def put(self, request: Request, kind: str) -> Response:
        given = self.valid(ProofIn, request)
        owner = access.vault_owner(self.actor)
        with self.writing(request) as reply:
            services.prove_door(
                user_id=owner, kind=_kind(Section.OFFICERS, kind), proof=given["proof"], actor=self.actor
            )
        return reply.response


def _kind(section: Section, name: str) -> str:
    names = services.DOOR_KINDS[section]
    if name not in names:
        raise MalformedRequest(f"kind: must be one of {', '.join(sorted(names))}.", field="kind")
    return services.door_kind(section, name)


def if_match(request: Request) -> int:
    tag = request.headers.get("if-match")
    if tag is None:
        raise IfMatchMissing('Send If-Match with the version last read, "0" for the first.', field="if-match")
    match = ETAG.fullmatch(tag)
    if match is None:
        raise MalformedRequest('if-match: must be one quoted version number, like "3".', field="if-match")
    return int(match[1])
