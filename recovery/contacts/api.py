# SPDX-License-Identifier: Apache-2.0
"""REST of recovery by trusted contacts (docs/formats/rest-contacts.md).

What asks the HSM does so before the transaction of the request is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.errors import LogRestored
from holdfast.core.base.encoding import MAX_STATEMENT, b64u
from kernel import paging
from kernel.api import ApiView
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, Empty, StrictSerializer, UtcField, rfc3339
from keys.vaults_api import IF_MATCH, if_match
from recovery.contacts import access, services
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from recovery.models import ContactRequest

# A share of 42 octets and its blind, sealed to an X-Wing key, with room to spare.
MAX_SHARE = 4096
ROLES = ("owner", "contact")
STATES = ("open", "complete", "vetoed", "cancelled", "expired")


class ContactSetIn(StrictSerializer):
    manifest = Base64UrlField(max_length=MAX_STATEMENT, help_text="`share-manifest`, signed by the identity key.")


class ContactSetOut(StrictSerializer):
    manifest = Base64UrlField()
    version = serializers.IntegerField()


class ContactRequestIn(StrictSerializer):
    request = Base64UrlField(max_length=MAX_STATEMENT, help_text="The payload of a `share-request`.")


class ContactRequestOpened(StrictSerializer):
    request_id = serializers.UUIDField()
    not_before = UtcField()
    expires_at = UtcField()


class GivenShareOut(StrictSerializer):
    contact = serializers.UUIDField()
    sealed = Base64UrlField()


class ContactRequestOut(StrictSerializer):
    request_id = serializers.UUIDField()
    owner = serializers.UUIDField()
    request = Base64UrlField()
    state = serializers.ChoiceField(choices=STATES)
    not_before = UtcField(help_text="From then on, by the server's clock, shares are handed out.")
    expires_at = UtcField()
    answered = serializers.IntegerField(help_text="How many contacts have given their share.")
    shares = GivenShareOut(
        many=True, required=False, help_text="To the device that asked, from `not_before`, while open or complete."
    )


class ContactRequestsOut(StrictSerializer):
    requests = ContactRequestOut(many=True)
    more = serializers.BooleanField()


class ShareIn(StrictSerializer):
    sealed = Base64UrlField(max_length=MAX_SHARE, help_text="Sealed to the key of the request.")


def _document(row: ContactRequest) -> dict[str, Any]:
    return {
        "request_id": str(row.pk),
        "owner": str(row.owner_id),
        "request": b64u(bytes(row.request)),
        "state": row.state,
        "not_before": rfc3339(row.not_before),
        "expires_at": rfc3339(row.expires_at),
        "answered": access.count_given(row),
    }


class ContactSetView(ApiView):
    """The trusted contacts of the user who asks."""

    permission_names: ClassVar = {"GET": PermissionName.CONTACTS_READ, "PUT": PermissionName.CONTACTS_WRITE}

    @extend_schema(summary="Read the manifest of one's contacts", operation_id="read_contacts", responses=ContactSetOut)
    def get(self, request: Request) -> Response:
        row = access.own_contact_set(self.actor)
        document = {"manifest": b64u(bytes(row.manifest)), "version": row.version}
        return Response(document, headers={"etag": f'"{row.version}"'})

    @extend_schema(
        summary="Store the manifest of one's contacts",
        operation_id="write_contacts",
        request=ContactSetIn,
        parameters=[IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request) -> Response:
        given = self.valid(ContactSetIn, request)
        expected = if_match(request)
        manifest = services.verify_manifest(statement=given["manifest"], actor=self.actor)
        with self.writing(request) as reply:
            version = services.store_manifest(
                statement=given["manifest"], manifest=manifest, expected_version=expected, actor=self.actor
            )
            reply.headers = {"etag": f'"{version}"'}
        return reply.response


class ContactRequestsView(ApiView):
    """Requests to trusted contacts."""

    permission_names: ClassVar = {"GET": PermissionName.CONTACTS_READ, "POST": PermissionName.CONTACTS_ASK}

    @extend_schema(
        summary="List the requests in one's own name, or those that one is asked in",
        operation_id="list_contact_requests",
        parameters=[OpenApiParameter("role", str, enum=ROLES, description="`owner` unless said."), paging.AFTER],
        responses=ContactRequestsOut,
    )
    def get(self, request: Request) -> Response:
        """Open ones first, then newest first. A device that is pending sees its own requests only."""
        role = request.query_params.get("role", "owner")
        if role not in ROLES:
            raise MalformedRequest("role: must be owner or contact.", field="role")
        listing = access.contact_requests_of if role == "owner" else access.contact_requests_to
        rows, more = listing(self.actor, after=paging.after(request))
        return Response({"requests": [_document(row) for row in rows], "more": more})

    @extend_schema(
        summary="Ask one's trusted contacts for their shares",
        operation_id="open_contact_request",
        request=ContactRequestIn,
        responses={201: ContactRequestOpened},
    )
    def post(self, request: Request) -> Response:
        """The owner's devices and the contacts are told at once, the owner by mail as well."""
        given = self.valid(ContactRequestIn, request)
        services.count_request(actor=self.actor)
        with self.writing(request) as reply:
            row = services.open_request(payload=given["request"], actor=self.actor)
            shown = _document(row)
            reply.send({name: shown[name] for name in ("request_id", "not_before", "expires_at")})
        return reply.response


class ContactRequestView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.CONTACTS_READ}

    @extend_schema(
        summary="Read one request, and collect its shares", operation_id="read_contact_request",
        responses=ContactRequestOut,
    )  # fmt: skip
    def get(self, request: Request, request_id: UUID) -> Response:
        """Shares go to the device that asked. Each share handed out for the first time is an entry in the log."""
        row = access.contact_request_for_reading(self.actor, request_id)
        if row.device_id != self.actor.id:
            return Response(_document(row))
        opened = services.open_shares(row)
        if opened is None:
            return Response(_document(row))
        if self.actor.is_restored:
            raise LogRestored  # handing out shares changes something, however it is asked for
        collected = services.collect(request_id=request_id, opened=opened, actor=self.actor)
        document = _document(collected.row)
        if collected.shares is not None:
            document["shares"] = [{"contact": str(who), "sealed": b64u(share)} for who, share in collected.shares]
        return Response(document)


class ContactSharesView(ApiView):
    permission_names: ClassVar = {"POST": PermissionName.CONTACTS_ANSWER}

    @extend_schema(
        summary="Give one's share to a request",
        operation_id="give_contact_share",
        request=ShareIn,
        responses={201: ContactRequestOut},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Given again, it takes the place of the one before."""
        prepared_for = access.contact_request_for_reading(self.actor, request_id)
        given = self.valid(ShareIn, request)
        prepared = services.seal_share(request_id=prepared_for.pk, share=given["sealed"], actor=self.actor)
        with self.writing(request) as reply:
            reply.send(_document(services.give_share(request_id=request_id, prepared=prepared, actor=self.actor)))
        return reply.response


class ContactRequestVetoView(ApiView):
    permission_names: ClassVar = {"POST": PermissionName.CONTACTS_VETO}

    @extend_schema(
        summary="Veto a request in one's own name",
        operation_id="veto_contact_request",
        request=Empty,
        responses=ContactRequestOut,
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Any active device of the owner; the shares given so far are destroyed."""
        access.contact_request_of_owner(self.actor, request_id)
        self.valid(Empty, request)
        with self.writing(request) as reply:
            reply.send(_document(services.veto_request(request_id=request_id, actor=self.actor)), status=200)
        return reply.response


class ContactRequestCancelView(ApiView):
    permission_names: ClassVar = {"POST": PermissionName.CONTACTS_ASK}

    @extend_schema(
        summary="Withdraw a request that this device made",
        operation_id="cancel_contact_request",
        request=Empty,
        responses=ContactRequestOut,
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        access.contact_request_of_device(self.actor, request_id)
        self.valid(Empty, request)
        with self.writing(request) as reply:
            reply.send(_document(services.cancel_request(request_id=request_id, actor=self.actor)), status=200)
        return reply.response
