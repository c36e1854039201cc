# SPDX-License-Identifier: Apache-2.0
"""REST: acts of administration, in two steps: what it would do in words, then the same with a code.

Implements ORGANISATION "Acts". An answer may hold what is shown once, so none is stored under an
idempotency key: the code, which works once, is what makes a repeated request harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.api import ApiView
from kernel.fields import StrictSerializer, UtcField, rfc3339
from tenants.acts import engine
from tenants.acts.act import MAX_TEXT, all_acts, named
from tenants.permissions import PermissionName
from tenants.sign_in import MAX_CODE

if TYPE_CHECKING:
    from tenants.models import PendingAct

_MAX_TOKEN = 200  # characters: a hash, a time and a signature, with room


class LookIn(StrictSerializer):
    subject_id = serializers.UUIDField(required=False, help_text="Whom or what it is about; absent for acts on no row.")
    given = serializers.DictField(
        child=serializers.CharField(allow_blank=True, max_length=MAX_TEXT),
        required=False,
        help_text="The act's fields by name, as `acts` lists them.",
    )


class PerformIn(LookIn):
    token = serializers.CharField(
        max_length=_MAX_TOKEN, help_text="From the answer that said in words what it would do."
    )
    code = serializers.CharField(max_length=MAX_CODE, help_text="The authenticator's present code, unused so far.")


class ConfirmIn(StrictSerializer):
    token = serializers.CharField(max_length=_MAX_TOKEN)
    code = serializers.CharField(max_length=MAX_CODE)


class EmptyIn(StrictSerializer):
    pass


class FieldOut(serializers.Serializer[None]):
    name = serializers.CharField()
    # `label` is a word of the serializer's own.
    words = serializers.CharField()
    help = serializers.CharField()
    choices = serializers.ListField(child=serializers.CharField())
    is_optional = serializers.BooleanField()


class ActOut(serializers.Serializer[None]):
    name = serializers.CharField()
    title = serializers.CharField()
    kind = serializers.CharField(help_text="What it is about: person, people, device, tenant …")
    needs_two = serializers.BooleanField()
    fields_to_give = FieldOut(many=True)


class ActsOut(serializers.Serializer[None]):
    acts = ActOut(many=True)


class WordsOut(serializers.Serializer[None]):
    title = serializers.CharField()
    lines = serializers.ListField(child=serializers.CharField())
    facts = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    warnings = serializers.ListField(child=serializers.CharField())
    needs_two = serializers.BooleanField()
    token = serializers.CharField()
    expires_at = UtcField()


class DoneOut(serializers.Serializer[None]):
    text = serializers.CharField()
    undo = serializers.CharField()
    subject_id = serializers.UUIDField(allow_null=True)
    once_label = serializers.CharField(help_text="What `once` is, or empty.")
    once = serializers.CharField(help_text="A secret that is answered this once; empty when there is none.")
    pending_id = serializers.UUIDField(allow_null=True, help_text="Set when it waits for a second person.")
    seconds = serializers.ListField(child=serializers.UUIDField(), help_text="Who could be that person.")


class PendingOut(serializers.Serializer[None]):
    id = serializers.UUIDField()
    act = serializers.CharField()
    title = serializers.CharField()
    subject_id = serializers.UUIDField(allow_null=True)
    proposer_id = serializers.UUIDField()
    proposed_at = UtcField()
    expires_at = UtcField()


class PendingListOut(serializers.Serializer[None]):
    pending = PendingOut(many=True)


class PendingWordsOut(PendingOut):
    words = WordsOut()


class ActsView(ApiView):
    """The acts that the caller may do."""

    permission_names: ClassVar = {"GET": PermissionName.CONSOLE_ENTER}

    @extend_schema(operation_id="list_acts", summary="List the acts of administration", responses={200: ActsOut})
    def get(self, request: Request) -> Response:
        rows = [
            {
                "name": act.name,
                "title": act.title,
                "kind": act.kind,
                "needs_two": act.needs_two,
                "fields_to_give": [
                    {
                        "name": one.name,
                        "words": one.label,
                        "help": one.help,
                        "choices": [value for value, _ in one.choices],
                        "is_optional": one.is_optional,
                    }
                    for one in act.form()
                ],
            }
            for act in all_acts()
            if self.actor.can(act.permission)
        ]
        return Response({"acts": rows})


class WordsView(ApiView):
    """What an act would do."""

    permission_names: ClassVar = {"POST": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="look_at_act",
        summary="Say in words what an act would do, and make the token to confirm it",
        request=LookIn,
        responses={200: WordsOut},
    )
    def post(self, request: Request, name: str) -> Response:
        given = self.valid(LookIn, request)
        look = engine.look(
            self.actor, name, given.get("subject_id"), given.get("given", {}), bound_to=str(self.actor.id)
        )
        return Response(_words(look))


class ActView(ApiView):
    """An act of administration."""

    permission_names: ClassVar = {"POST": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="perform_act",
        summary="Do an act that was looked at, with a one-time code",
        request=PerformIn,
        responses={200: DoneOut},
    )
    def post(self, request: Request, name: str) -> Response:
        given = self.valid(PerformIn, request)
        outcome = engine.perform(
            self.actor,
            name,
            given.get("subject_id"),
            given.get("given", {}),
            token=given["token"],
            code=given["code"],
            bound_to=str(self.actor.id),
        )
        return Response(_outcome(outcome))


class PendingActsView(ApiView):
    """The acts that wait for a second person."""

    permission_names: ClassVar = {"GET": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="list_pending_acts",
        summary="List the acts that wait for a second person",
        responses=PendingListOut,
    )
    def get(self, request: Request) -> Response:
        return Response({"pending": [_pending(row) for row in engine.pending(self.actor)]})


class PendingActView(ApiView):
    """One act that waits for a second person."""

    permission_names: ClassVar = {"GET": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="read_pending_act", summary="Say in words what a waiting act would do", responses=PendingWordsOut
    )
    def get(self, request: Request, pending_id: UUID) -> Response:
        row, look = engine.look_pending(self.actor, pending_id, bound_to=str(self.actor.id))
        return Response({**_pending(row), "words": _words(look)})


class ConfirmView(ApiView):
    """The second person behind an act."""

    permission_names: ClassVar = {"POST": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="confirm_pending_act",
        summary="Be the second person behind an act, with a one-time code",
        request=ConfirmIn,
        responses={200: DoneOut},
    )
    def post(self, request: Request, pending_id: UUID) -> Response:
        given = self.valid(ConfirmIn, request)
        outcome = engine.confirm(
            self.actor, pending_id, token=given["token"], code=given["code"], bound_to=str(self.actor.id)
        )
        return Response(_outcome(outcome))


class WithdrawView(ApiView):
    """The end of an act that was proposed."""

    permission_names: ClassVar = {"POST": PermissionName.CONSOLE_ENTER}

    @extend_schema(
        operation_id="withdraw_pending_act", summary="Take a proposed act back", request=EmptyIn, responses={204: None}
    )
    def post(self, request: Request, pending_id: UUID) -> Response:
        self.valid(EmptyIn, request)
        engine.withdraw(self.actor, pending_id)
        return Response(status=204)


def _words(look: engine.Look) -> dict[str, Any]:
    words = look.words
    return {
        "title": words.title,
        "lines": list(words.lines),
        "facts": [list(one) for one in words.facts],
        "warnings": list(words.warnings),
        "needs_two": look.act.takes_two(look.subject),
        "token": look.token,
        "expires_at": rfc3339(look.expires_at),
    }


def _outcome(outcome: engine.Outcome) -> dict[str, Any]:
    done, row = outcome.done, outcome.pending
    seconds = engine.possible_seconds(row, named(row.act)) if row is not None else []
    return {
        "text": done.text if done else "It waits for a second person.",
        "undo": done.undo if done else "Withdraw it.",
        "subject_id": str(done.subject) if done and done.subject else None,
        "once_label": done.once_label if done else "",
        "once": done.once.reveal().decode() if done and done.once is not None else "",
        "pending_id": str(row.pk) if row is not None else None,
        "seconds": [str(one.pk) for one in seconds],
    }


def _pending(row: PendingAct) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "act": row.act,
        "title": named(row.act).title,
        "subject_id": str(row.subject_id) if row.subject_id else None,
        "proposer_id": str(row.proposer_id),
        "proposed_at": rfc3339(row.proposed_at),
        "expires_at": rfc3339(row.expires_at),
    }
