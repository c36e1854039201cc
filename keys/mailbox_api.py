# SPDX-License-Identifier: Apache-2.0
"""REST of the mailbox: send, fetch, acknowledge (docs/formats/rest-messages.md). It knows no rule of delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from holdfast.core.base.encoding import b64u
from kernel.api import ApiView
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, IdField, StrictSerializer, UtcField, rfc3339
from kernel.lean import LeanView
from keys import access, mailbox
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from keys.models import Message

MAX_MESSAGE = 64 * 1024
MAX_CONTENT = 1024 * 1024
MAX_ENVELOPES = 64  # as many devices as a chain lists
MAX_PAGE = 100
# The content and, for each device of the longest chain, a first message with room to spare, in base64url.
MAX_BODY = 2 * 1024 * 1024
SEND_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="A fresh key per message; a retry repeats it and delivers nothing twice.",
)
LETTERS = ("sync", "share", "pairing")
MESSAGE = "message"


class EnvelopeIn(StrictSerializer):
    device_id = serializers.UUIDField()
    message = Base64UrlField(max_length=MAX_MESSAGE)


class UserMessageIn(StrictSerializer):
    chain_head = Base64UrlField(length=32, help_text="The recipient's chain head that the message was encrypted for.")
    envelopes = EnvelopeIn(
        many=True,
        allow_empty=False,
        max_length=MAX_ENVELOPES,  # type: ignore[call-arg] # taken by the list that `many` makes
        help_text="One for each active device of the user; of one's own user, for each other one.",
    )
    content = Base64UrlField(
        required=False, max_length=MAX_CONTENT, help_text="A large ciphertext that every envelope's message names."
    )


class LetterIn(StrictSerializer):
    kind = serializers.ChoiceField(
        choices=(*LETTERS, MESSAGE), help_text="A `message` is of a session between two active devices."
    )
    message = Base64UrlField(max_length=MAX_MESSAGE)
    content = Base64UrlField(required=False, max_length=MAX_CONTENT)


class DeliveredOut(StrictSerializer):
    message_id = serializers.UUIDField()
    device_id = serializers.UUIDField()


class UserMessageOut(StrictSerializer):
    messages = DeliveredOut(many=True)


class MessageOut(StrictSerializer):
    message_id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=(MESSAGE, *LETTERS, "notice"))
    sender_user = serializers.UUIDField(allow_null=True, help_text="Null in a notice, which the server writes itself.")
    sender_device = serializers.UUIDField(allow_null=True)
    to_device = serializers.UUIDField(help_text="The device it was sent to: this one, or the one it follows.")
    message = Base64UrlField(help_text="As it was sent; of a notice, JSON text in UTF-8.")
    has_content = serializers.BooleanField()
    received_at = UtcField()


class MessagesOut(StrictSerializer):
    messages = MessageOut(many=True)
    more = serializers.BooleanField(help_text="Whether more waits: it comes when these are acknowledged.")


class ContentOut(StrictSerializer):
    content = Base64UrlField()


class AcknowledgeIn(StrictSerializer):
    message_ids = serializers.ListField(child=IdField(), min_length=1, max_length=MAX_PAGE)


class AcknowledgeOut(StrictSerializer):
    deleted = serializers.IntegerField(help_text="How many of them were still there.")


def _delivered(row: mailbox.Delivered) -> dict[str, str]:
    return {"message_id": str(row.id), "device_id": str(row.device_id)}


class UserMessagesView(LeanView):
    """Messages to a user: to all of their devices at once, or to none."""

    permission_names: ClassVar = {"POST": PermissionName.MESSAGE_SEND}
    replays_late = True
    idempotency_required = True
    spends_in_act: ClassVar = frozenset({"POST"})
    max_body = MAX_BODY

    @extend_schema(
        summary="Send a message to every active device of a user",
        operation_id="send_message",
        request=UserMessageIn,
        parameters=[SEND_KEY],
        responses={201: UserMessageOut},
    )
    def post(self, request: Request, user_id: UUID) -> Response:
        """A chain head that is not the newest is answered with 409 `chain-stale` and the newer one."""
        given = self.valid(UserMessageIn, request)
        envelopes = [mailbox.Envelope(envelope["device_id"], envelope["message"]) for envelope in given["envelopes"]]
        with self.writing(request) as reply:
            rows = mailbox.send(
                user_id=user_id,
                chain_head=given["chain_head"],
                envelopes=envelopes,
                content=given.get("content"),
                actor=self.actor,
            )
            reply.send({"messages": [_delivered(row) for row in rows]})
        return reply.response


class DeviceMessagesView(LeanView):
    """Letters to one device, and the messages that are for it alone."""

    permission_names: ClassVar = {"POST": PermissionName.LETTER_SEND}
    replays_late = True
    idempotency_required = True
    spends_in_act: ClassVar = frozenset({"POST"})
    max_body = MAX_BODY

    @extend_schema(
        summary="Send one sealed letter, or one message, to one device",
        operation_id="send_letter",
        request=LetterIn,
        parameters=[SEND_KEY],
        responses={201: DeliveredOut},
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        """A device that is pending writes letters to, and hears from, devices of its own user only. A message is for an
        active device, from one: an acknowledgement, or what that device did not read.
        """
        given = self.valid(LetterIn, request)
        with self.writing(request) as reply:
            row = mailbox.send_letter(
                device_id=device_id,
                kind=given["kind"],
                message=given["message"],
                content=given.get("content"),
                actor=self.actor,
            )
            reply.send(_delivered(row))
        return reply.response


class MessagesView(LeanView):
    """The mailbox of the device that asks."""

    permission_names: ClassVar = {"GET": PermissionName.MESSAGE_READ}

    @extend_schema(
        summary="Read what waits for this device, oldest first",
        operation_id="list_messages",
        parameters=[OpenApiParameter("limit", int, description="1 to 100, 50 unless said.")],
        responses=MessagesOut,
    )
    def get(self, request: Request) -> Response:
        """Fewer than `limit` may come when they are large. What is acknowledged makes room for what follows."""
        rows, more = access.messages_for(self.actor, limit=_limit(request))
        return Response({"messages": [_message_document(row) for row in rows], "more": more})


class ContentView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.MESSAGE_READ}

    @extend_schema(
        summary="Read the large content of one message", operation_id="read_message_content", responses=ContentOut
    )
    def get(self, request: Request, message_id: UUID) -> Response:
        return Response({"content": b64u(access.message_content(self.actor, message_id))})


class AcknowledgeView(LeanView):
    permission_names: ClassVar = {"POST": PermissionName.MESSAGE_READ}
    spends_in_act: ClassVar = frozenset({"POST"})

    @extend_schema(
        summary="Delete messages that this device has",
        operation_id="acknowledge_messages",
        request=AcknowledgeIn,
        responses=AcknowledgeOut,
    )
    def post(self, request: Request) -> Response:
        """Ids that are not, or no longer, in this mailbox are passed over: the same request again deletes none."""
        given = self.valid(AcknowledgeIn, request)
        with self.writing(request) as reply:
            deleted = mailbox.acknowledge(message_ids=given["message_ids"], actor=self.actor)
            reply.send({"deleted": deleted}, status=200)
        return reply.response


def _message_document(row: Message) -> dict[str, Any]:
    return {
        "message_id": str(row.id),
        "kind": row.kind,
        "sender_user": str(row.sender_user) if row.sender_user else None,
        "sender_device": str(row.sender_device) if row.sender_device else None,
        "to_device": str(row.addressed_to),
        "message": b64u(bytes(row.body)),
        "has_content": row.content_id is not None,
        "received_at": rfc3339(row.received_at),
    }


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_PAGE):
        raise MalformedRequest(f"limit: must be a whole number from 1 to {MAX_PAGE}.", field="limit")
    return int(text)
