# SPDX-License-Identifier: Apache-2.0
"""The log over REST: entries, signed heads, proofs, tiles and the export (PLATFORM "Audit" and "REST")."""

from __future__ import annotations

from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import access, export, exporting, restored, services
from audit.errors import LogTooLong, NoCheckpoint
from holdfast.core.base.encoding import b64u
from holdfast.core.log.checkpoint import MAX_NOTE
from holdfast.core.log.merkle import MAX_SIZE
from kernel.api import ApiView
from kernel.errors import MalformedRequest, NotFound
from kernel.fields import Base64UrlField, StrictSerializer, UtcField

LOGS = ("audit", "keys")
# Of entries that one answer exports: a web thread is at it for some seconds.
MOST_AT_ONCE: Final = 50_000
MOST_ACCEPTED = 20  # a client that missed more restored backups than this has other troubles
LOG = OpenApiParameter("log", str, enum=LOGS, description="Which of the tenant's two logs; `audit` unless said.")


class EntryOut(StrictSerializer):
    index = serializers.IntegerField(help_text="Place in the log, from 0.")
    id = serializers.UUIDField()
    tag = serializers.CharField()
    actor = serializers.CharField()
    person = serializers.UUIDField(allow_null=True)
    subject = serializers.CharField()
    time = UtcField()
    body = serializers.DictField()


class EntriesOut(StrictSerializer):
    entries = EntryOut(many=True)
    next = serializers.IntegerField(allow_null=True, help_text="Give it as `before` to read on; null at the end.")


class EntryFilter(StrictSerializer):
    tag = serializers.CharField(required=False, max_length=80, help_text="Tags that begin with this.")
    actor = serializers.CharField(required=False, max_length=80)
    subject = serializers.CharField(required=False, max_length=200)
    person = serializers.UUIDField(required=False)
    since = UtcField(required=False)
    until = UtcField(required=False)
    before = serializers.IntegerField(required=False, min_value=0)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200, default=50)


class CheckpointOut(StrictSerializer):
    log = serializers.CharField()
    size = serializers.IntegerField()
    signed_at = UtcField()
    note = serializers.CharField(help_text="The C2SP signed note.")
    vkey = serializers.CharField(help_text="The verifier key the server claims; trust it only from elsewhere.")
    pending = serializers.IntegerField(help_text="Entries that no signed head covers yet.")


class RolesOut(StrictSerializer):
    version = serializers.IntegerField()
    statement = Base64UrlField(help_text="The signed `roles` statement; believed only by the tenant root's signature.")


class HeadFilter(StrictSerializer):
    log = serializers.ChoiceField(choices=LOGS, default="audit")
    old_size = serializers.IntegerField(
        required=False, min_value=0, max_value=MAX_SIZE, default=0, help_text="The size of the head that you hold."
    )


class HeadOut(StrictSerializer):
    log = serializers.CharField()
    checkpoint = serializers.CharField(help_text="The C2SP signed note; empty while nothing is signed.")
    consistency = serializers.ListField(child=Base64UrlField(length=32))
    read_only = serializers.BooleanField(  # type: ignore[assignment] # a field's name, as the answer has it
        help_text="A backup was put back, and the officers have not accepted it yet."
    )
    accepted = serializers.ListField(
        child=Base64UrlField(), help_text="Resolutions by which officers accepted a restored log, newest first."
    )


class ShownHeadIn(StrictSerializer):
    note = serializers.CharField(max_length=MAX_NOTE, trim_whitespace=False, help_text="A C2SP signed note.")


class ShownHeadOut(StrictSerializer):
    read_only = serializers.BooleanField()  # type: ignore[assignment] # as above


class ProofFilter(StrictSerializer):
    log = serializers.ChoiceField(choices=LOGS, default="audit")
    index = serializers.IntegerField(required=False, min_value=0)
    size = serializers.IntegerField(required=False, min_value=1)


class ProofOut(StrictSerializer):
    proof = serializers.ListField(child=serializers.CharField(help_text="base64url of 32 octets"))


def _query(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    parsed = serializer(data=request.query_params.dict())
    parsed.is_valid(raise_exception=True)
    return dict(parsed.validated_data)


def _log(request: Request) -> str:
    log = request.query_params.get("log", "audit")
    if log not in LOGS:
        raise MalformedRequest("log: must be audit or keys.", field="log")
    return str(log)


class EntriesView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}
    log_token_methods: ClassVar = frozenset({"GET"})

    @extend_schema(summary="Read the audit log, newest first", parameters=[EntryFilter], responses=EntriesOut)
    def get(self, request: Request) -> Response:
        """The read is itself an entry, made before the answer leaves; once an hour for the same filters."""
        wanted = _query(EntryFilter, request)
        limit = wanted.pop("limit")
        rows = access.search(**wanted, limit=limit, reader=self.actor)
        with transaction.atomic():
            names = " ".join(sorted(wanted))
            services.append_first(
                tag="audit:entries:read", actor=self.actor, apart=names, body={"filter": names, "count": len(rows)}
            )
        more = rows[-1].leaf_index if len(rows) == limit else None
        return Response({"entries": [export.document(row) for row in rows], "next": more})


class CheckpointView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}
    log_token_methods: ClassVar = frozenset({"GET"})

    @extend_schema(summary="The newest signed head", parameters=[LOG], responses=CheckpointOut)
    def get(self, request: Request) -> Response:
        log = _log(request)
        head = access.latest_checkpoint(log)
        fields = {"log": log, "size": head.size, "signed_at": head.signed_at}
        shown = {**fields, "note": head.note, "vkey": head.vkey, "pending": access.pending(log)}
        return Response(CheckpointOut(shown).data)


class RolesView(ApiView):
    # Every client asks, members' too: it follows the log key by this, and there is nothing but public keys in it.
    permission_names: ClassVar = {"GET": "statement:read"}
    # By these keys a device proves that the log has its veto.
    suspended_methods: ClassVar = frozenset({"GET"})

    @extend_schema(summary="Whose keys write and sign the logs, by the tenant root's newest word", responses=RolesOut)
    def get(self, request: Request) -> Response:
        """404 while the root has not said it, as in an installation older than role keys."""
        newest = access.newest_roles()
        if newest is None:
            raise NotFound
        return Response(RolesOut({"version": newest.version, "statement": bytes(newest.statement)}).data)


class HeadView(ApiView):
    # Every client asks, as it asks for the roles: it follows both logs, and holds its keys to them.
    permission_names: ClassVar = {"GET": "statement:read", "POST": "statement:read"}
    suspended_methods: ClassVar = frozenset({"GET", "POST"})
    restored_methods: ClassVar = frozenset({"POST"})

    @extend_schema(
        summary="The newest signed head, whether a backup was put back, and what officers accepted of it",
        parameters=[LOG, HeadFilter],
        responses=HeadOut,
    )
    def get(self, request: Request) -> Response:
        """With `old_size`, the consistency proof from there; empty where it is not within the signed log."""
        log, old_size = _log(request), _query(HeadFilter, request)["old_size"]
        try:
            head = access.latest_checkpoint(log)
        except NoCheckpoint:
            head = None
        is_within = head is not None and 0 < old_size < head.size
        shown = {
            "log": log,
            "checkpoint": head.note if head else "",
            "consistency": access.consistency(log, old_size=old_size, size=head.size) if head and is_within else [],
            "read_only": access.is_restored(),
            "accepted": [bytes(row.statement) for row in access.accepted_logs()[:MOST_ACCEPTED]],
        }
        return Response(HeadOut(shown).data)

    @extend_schema(
        summary="Show a signed head that this server does not lead to",
        request=ShownHeadIn,
        responses={200: ShownHeadOut},
    )
    def post(self, request: Request) -> Response:
        """A head that a log key signed and the stored log lost says that a backup was put back.

        From then on nothing is changed (503 `log-restored`) until officers accept it. Any other changes nothing.
        """
        given = self.valid(ShownHeadIn, request)
        with self.writing(request) as reply:
            restored.show_head(given["note"], actor=self.actor)
            reply.send({"read_only": access.is_restored()}, 200)
        return reply.response


class ProofView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}
    log_token_methods: ClassVar = frozenset({"GET"})

    @extend_schema(
        summary="Prove that an entry is in the log, or that the log only grew",
        parameters=[
            ProofFilter,
            OpenApiParameter("from", int, description="With `to`: the smaller size."),
            OpenApiParameter("to", int, description="With `from`: the larger size."),
        ],
        responses=ProofOut,
    )
    def get(self, request: Request) -> Response:
        """Give `index` and `size` for an inclusion proof, or `from` and `to` for a consistency proof."""
        params = request.query_params.dict()
        log = _log(request)
        sizes = {name: _number(params.pop(name), name) for name in ("from", "to") if name in params}
        if len(sizes) == 2:
            proof = access.consistency(log, old_size=sizes["from"], size=sizes["to"])
        else:
            wanted = _query(ProofFilter, request)
            if "index" not in wanted or "size" not in wanted:
                raise MalformedRequest("Give index and size, or from and to.", field="index")
            proof = access.inclusion(log, index=wanted["index"], size=wanted["size"])
        return Response({"proof": [b64u(node) for node in proof]})


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise MalformedRequest(f"{name}: must be a whole number.", field=name)
    return int(text)


class ExportView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}
    log_token_methods: ClassVar = frozenset({"GET"})

    @extend_schema(
        summary="Export a log that is not long as JSON lines, for `holdfast audit verify`",
        parameters=[LOG],
        responses={(200, "application/x-ndjson"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Every entry up to the newest signed head, and the head; 409 `log-too-long` of more than 50,000 entries.

        The export is an entry. An entry that you may not read yet stands as its hash, and the first line says how many
        do. It also has the tenant root's newest word on whose keys write the log, against which the verifier checks
        each entry.
        """
        log = _log(request)
        # Read after the head: whose keys wrote what it covers had been said by then.
        head, newest = access.latest_checkpoint(log), access.newest_roles()
        if head.size > MOST_AT_ONCE:
            raise LogTooLong
        roles = bytes(newest.statement) if newest else b""
        hidden = access.places_withheld(access.withheld_from(self.actor) if log == "audit" else None, size=head.size)
        with transaction.atomic():
            services.append_first(
                tag="audit:entries:exported",
                actor=self.actor,
                apart=log,
                body={"log": log, "size": head.size, "withheld": len(hidden)},
            )
        assert self.actor.tenant_id is not None
        answer = StreamingHttpResponse(
            export.lines(self.actor.tenant_id, log, head, roles=roles, hidden=hidden),
            content_type="application/x-ndjson",
        )
        answer["content-disposition"] = f'attachment; filename="holdfast-{log}-{head.size}.jsonl"'
        return answer


class ExportIn(StrictSerializer):
    log = serializers.ChoiceField(choices=LOGS, default="audit")


class ExportOut(StrictSerializer):
    id = serializers.UUIDField()
    log = serializers.CharField()
    size = serializers.IntegerField(help_text="Entries in the export.")
    done = serializers.IntegerField(help_text="Entries of them that its pieces have so far.")
    ready = serializers.BooleanField()
    withheld = serializers.IntegerField(help_text="Entries of which you may see the hash only.")
    ends = serializers.ListField(
        child=serializers.IntegerField(), help_text="Where each piece that is made ends in the file, in octets."
    )
    expires_at = UtcField()


class ExportsOut(StrictSerializer):
    exports = ExportOut(many=True)


def _export_document(row: Any) -> dict[str, Any]:
    return dict(
        ExportOut(
            {
                "id": row.pk,
                "log": row.log,
                "size": row.size,
                "done": row.done,
                "ready": row.ready_at is not None,
                "withheld": len(row.withheld),
                "ends": exporting.ends_of(row),
                "expires_at": row.expires_at,
            }
        ).data
    )


class ExportsView(ApiView):
    """Exports of long logs, made in the background for whoever asks."""

    permission_names: ClassVar = {"GET": "audit:read", "POST": "audit:read"}

    @extend_schema(operation_id="list_log_exports", summary="List your own exports of the logs", responses=ExportsOut)
    def get(self, request: Request) -> Response:
        return Response({"exports": [_export_document(row) for row in exporting.exports_of(self.actor)]})

    @extend_schema(
        operation_id="ask_log_export",
        summary="Ask for an export of a log",
        request=ExportIn,
        responses={202: ExportOut},
    )
    def post(self, request: Request) -> Response:
        """It is made in the background, and deleted after a day. The same that is there already is given again."""
        given = self.valid(ExportIn, request)
        with self.writing(request) as reply:
            row = exporting.ask(log=given["log"], actor=self.actor)
            reply.send(_export_document(row), 202)
        return reply.response


class OneExportView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}

    @extend_schema(operation_id="read_log_export", summary="How far an export of yours is", responses=ExportOut)
    def get(self, request: Request, export_id: UUID) -> Response:
        return Response(_export_document(exporting.one(self.actor, export_id)))


class ExportPieceView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}

    @extend_schema(
        operation_id="read_log_export_piece",
        summary="One piece of an export of yours",
        responses={(200, "application/gzip"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, export_id: UUID, number: int) -> HttpResponse:
        """Some thousand lines as a member of gzip, from 0: in their order they are one file. Each hour is an entry."""
        return HttpResponse(exporting.piece(self.actor, export_id, number), content_type="application/gzip")


class TileView(ApiView):
    permission_names: ClassVar = {"GET": "audit:read"}
    log_token_methods: ClassVar = frozenset({"GET"})
    is_cacheable: ClassVar = True

    @extend_schema(
        summary="One tile of a log (C2SP tlog-tiles)",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, log: str, level: int, index: int) -> HttpResponse:
        """Up to 256 hashes of 32 octets: level × 8 up the tree, from position index × 256."""
        if log not in LOGS:
            raise NotFound
        return HttpResponse(access.tile(log, level, index), content_type="application/octet-stream")
