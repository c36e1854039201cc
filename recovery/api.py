# SPDX-License-Identifier: Apache-2.0
"""REST: cases, officers' decisions, releases, attestations, notices, and the reading of one deposit.

PLATFORM "REST". What asks the HSM does so before the transaction of the request is open.
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from escrow import access as escrow
from escrow import services as custody
from escrow.api import DepositOut
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity.cases import MAX_DEPOSITS
from holdfast.core.identity.policy import MAX_OFFICERS
from kernel import paging
from kernel.api import ApiView
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from recovery import access
from recovery.cases import collection, decisions, documents, endings, opening
from recovery.cases.counting import LongDelay
from tenants.permissions import PermissionName

# 128 deposits, each with a share of 2,304 octets in base64url, and the statement.
MAX_APPROVAL_BODY = 1024 * 1024


class CaseIn(StrictSerializer):
    case = Base64UrlField(max_length=16 * 1024, help_text="The `case` statement, signed by the recipient device.")


class CaseDepositOut(serializers.Serializer[None]):
    deposit_id = serializers.UUIDField()
    record_hash = Base64UrlField(length=32)
    generation = serializers.IntegerField()


class DecisionOut(serializers.Serializer[None]):
    index = serializers.IntegerField()
    person_id = serializers.UUIDField()
    statement = Base64UrlField()
    decision = serializers.ChoiceField(choices=["approve", "deny"])
    at = UtcField()
    why_not = serializers.CharField(help_text="Why this decision does not count now; empty for one that does.")


class CaseOfficerOut(serializers.Serializer[None]):
    index = serializers.IntegerField()
    person_id = serializers.UUIDField()
    why_not = serializers.CharField(help_text="Why this officer may not decide now; empty for one who may.")


class TimelineOut(serializers.Serializer[None]):
    tag = serializers.CharField()
    at = UtcField()
    by = serializers.CharField()


class SuccessorOut(serializers.Serializer[None]):
    identity_key = Base64UrlField()
    old_head = Base64UrlField(length=32)


class WaitingOut(serializers.Serializer[None]):
    code = serializers.CharField(help_text="A fixed word.")
    text = serializers.CharField(help_text="What it waits for, and what is to be done, for people.")
    since = UtcField()
    stuck = serializers.BooleanField(help_text="Whether it waits for what ought not to be.")


class LongDelayOut(serializers.Serializer[None]):
    code = serializers.ChoiceField(choices=[str(one) for one in LongDelay])
    text = serializers.CharField(help_text="Why the long delay applies, for people.")


class EndedOut(serializers.Serializer[None]):
    code = serializers.CharField(help_text="The state in which it ended.")
    text = serializers.CharField(help_text="What ended it, and what has to be done before asking anew, for people.")
    at = UtcField()


class CaseOut(serializers.Serializer[None]):
    case_id = serializers.UUIDField()
    state = serializers.CharField()
    why = serializers.CharField()
    subject = serializers.UUIDField()
    requester = serializers.UUIDField()
    purpose = serializers.CharField()
    statement = Base64UrlField()
    q = Base64UrlField(length=32)
    deposits = CaseDepositOut(many=True)
    approvals = DecisionOut(many=True)
    officers = CaseOfficerOut(many=True, help_text="The roster of the case's policy; empty in lists.")
    needed = serializers.IntegerField()
    not_before = UtcField()
    notice_at = UtcField()
    expiry = UtcField()
    disclosure_ends = UtcField(
        allow_null=True, help_text="When the recipient's reading ends; null when the subject receives."
    )
    release_at = UtcField(allow_null=True)
    collected_at = UtcField(
        allow_null=True,
        help_text="When its recipient first collected: since then what was released is exposed, however it ends.",
    )
    long_delay = LongDelayOut(
        allow_null=True, help_text="Why the policy's long delay applies; null where it does not, and in lists."
    )
    waiting_for = WaitingOut(allow_null=True, help_text="None when it is over, and in lists.")
    ended = EndedOut(allow_null=True, help_text="None for a case that goes on or was collected, and in lists.")
    successor = SuccessorOut(allow_null=True)
    timeline = TimelineOut(many=True)
    timeline_more = serializers.BooleanField(help_text="Earlier entries are in the log, under the case's id.")


class CasesOut(serializers.Serializer[None]):
    cases = CaseOut(many=True)
    more = serializers.BooleanField()


@extend_schema_field({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2})
class ShareField(serializers.Field[tuple[UUID, bytes], list[str], list[str], Any]):
    """One row: [deposit id, outer-sealed share]."""

    def to_internal_value(self, data: Any) -> tuple[UUID, bytes]:
        if not isinstance(data, list) or len(data) != 2:
            raise serializers.ValidationError("Must be [deposit id, base64url].")
        deposit_id = serializers.UUIDField().run_validation(data[0])
        return deposit_id, Base64UrlField(max_length=4096).run_validation(data[1])

    def to_representation(self, value: tuple[UUID, bytes]) -> list[str]:
        return [str(value[0]), b64u(value[1])]


class ApprovalIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024)
    shares = serializers.ListField(child=ShareField(), max_length=128)


class DenialIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class VetoIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class VetoProofOut(serializers.Serializer[None]):
    statement = Base64UrlField(help_text="The veto, as your device signed it.")
    leaf_index = serializers.IntegerField()
    leaf = Base64UrlField(help_text="The entry's bytes in the audit log.")
    proof = serializers.ListField(child=Base64UrlField(length=32), help_text="The entry's inclusion, from the leaf up.")
    checkpoint = serializers.CharField(help_text="The C2SP signed note that the proof leads to.")


@extend_schema_field({"type": "array", "items": {}, "minItems": 2, "maxItems": 2})
class BlamedField(serializers.Field[tuple[UUID, list[int]], list[Any], list[Any], Any]):
    """One row: [deposit id, [indices of its wrong shares]]."""

    def to_internal_value(self, data: Any) -> tuple[UUID, list[int]]:
        if not isinstance(data, list) or len(data) != 2:
            raise serializers.ValidationError("Must be [deposit id, [indices]].")
        indices = serializers.ListField(
            child=serializers.IntegerField(min_value=1, max_value=MAX_OFFICERS), max_length=MAX_OFFICERS
        )
        return serializers.UUIDField().run_validation(data[0]), indices.run_validation(data[1])

    def to_representation(self, value: tuple[UUID, list[int]]) -> list[Any]:
        return [str(value[0]), value[1]]


class BlameIn(StrictSerializer):
    shares = serializers.ListField(child=BlamedField(), min_length=1, max_length=MAX_DEPOSITS)


class CancelIn(StrictSerializer):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class SuccessorIn(StrictSerializer):
    identity_key = Base64UrlField(max_length=128)
    old_head = Base64UrlField(length=32)


class AttestationIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024)


class AttestationOut(serializers.Serializer[None]):
    index = serializers.IntegerField()
    person_id = serializers.UUIDField()
    statement = Base64UrlField()
    at = UtcField()


class AttestationsOut(serializers.Serializer[None]):
    attestations = AttestationOut(many=True)


class ReleaseOut(serializers.Serializer[None]):
    halves = serializers.ListField(help_text="[deposit id, 384 octets] each.")
    shares = serializers.ListField(help_text="[deposit id, number of the share in it, sealed share] each.")
    records = serializers.ListField(help_text="[deposit id, record, statement] each.")
    policy = Base64UrlField()


class NoticeOut(serializers.Serializer[None]):
    case_id = serializers.UUIDField()
    kind = serializers.CharField()
    state = serializers.CharField()
    at = UtcField()


class NoticesOut(serializers.Serializer[None]):
    notices = NoticeOut(many=True)


class CasesView(ApiView):
    """Cases: requests to release named deposits to one device."""

    permission_names: ClassVar = {"GET": PermissionName.CASE_READ, "POST": PermissionName.CASE_OPEN}

    @extend_schema(
        operation_id="list_cases",
        summary="List the cases you may see, those not over first",
        parameters=[paging.AFTER],
        responses=CasesOut,
    )
    def get(self, request: Request) -> Response:
        rows, more = access.cases_for(self.actor, after=paging.after(request))
        return Response({"cases": documents.case_documents(rows), "more": more})

    @extend_schema(operation_id="open_case", summary="Open a case", request=CaseIn, responses={201: CaseOut})
    def post(self, request: Request) -> Response:
        given = self.valid(CaseIn, request)
        with self.writing(request) as reply:
            row = opening.open_case(statement=given["case"], actor=self.actor)
            reply.send(documents.case_document(row))
        return reply.response


class CaseView(ApiView):
    """One case."""

    permission_names: ClassVar = {"GET": PermissionName.CASE_READ}
    suspended_methods: ClassVar = frozenset({"GET"})

    @extend_schema(operation_id="read_case", summary="Read a case", responses=CaseOut)
    def get(self, request: Request, case_id: UUID) -> Response:
        return Response(documents.case_document(access.case_for_reading(self.actor, case_id)))


class ApprovalsView(ApiView):
    """Officers' approvals."""

    permission_names: ClassVar = {"POST": PermissionName.CASE_APPROVE}
    max_body: ClassVar = MAX_APPROVAL_BODY

    @extend_schema(operation_id="approve_case", summary="Approve a case", request=ApprovalIn, responses={201: CaseOut})
    def post(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(ApprovalIn, request)
        prepared = decisions.prepare_approval(
            case=access.case_for_reading(self.actor, case_id),
            statement=given["statement"],
            shares=given["shares"],
            actor=self.actor,
        )
        with self.writing(request) as reply:
            reply.send(documents.case_document(decisions.approve_case(prepared=prepared, actor=self.actor)))
        return reply.response


class DenyView(ApiView):
    """An officer's denial, which ends the case."""

    permission_names: ClassVar = {"POST": PermissionName.CASE_APPROVE}

    @extend_schema(operation_id="deny_case", summary="Deny a case", request=DenialIn, responses={201: CaseOut})
    def post(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(DenialIn, request)
        case = access.case_for_reading(self.actor, case_id)
        prepared = decisions.prepare_denial(case=case, statement=given["statement"], actor=self.actor)
        with self.writing(request) as reply:
            reply.send(documents.case_document(decisions.deny_case(prepared=prepared, actor=self.actor)))
        return reply.response


class VetoView(ApiView):
    """The subject's veto."""

    permission_names: ClassVar = {"GET": PermissionName.CASE_VETO, "POST": PermissionName.CASE_VETO}
    suspended_methods: ClassVar = frozenset({"GET", "POST"})

    @extend_schema(
        operation_id="prove_veto", summary="Prove that your device's veto is in the log", responses=VetoProofOut
    )
    def get(self, request: Request, case_id: UUID) -> Response:
        """404 `veto-not-logged-yet` while no signed head covers its entry; one does within seconds."""
        proof = endings.prove_veto(case=access.case_for_subject(self.actor, case_id), actor=self.actor)
        return Response(documents.proof_document(proof))

    @extend_schema(operation_id="veto_case", summary="Veto a case", request=VetoIn, responses={201: CaseOut})
    def post(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(VetoIn, request)
        access.case_for_subject(self.actor, case_id)
        with self.writing(request) as reply:
            row = endings.veto_case(
                case_id=case_id,
                statement=given["statement"],
                reason=given.get("reason", ""),
                actor=self.actor,
            )
            reply.send(documents.case_document(row))
        return reply.response


class CancelView(ApiView):
    """The requester takes the case back."""

    permission_names: ClassVar = {"POST": PermissionName.CASE_OPEN}

    @extend_schema(operation_id="cancel_case", summary="Cancel a case", request=CancelIn, responses={201: CaseOut})
    def post(self, request: Request, case_id: UUID) -> Response:
        self.valid(CancelIn, request)
        access.case_for_requester(self.actor, case_id)
        with self.writing(request) as reply:
            reply.send(documents.case_document(endings.cancel_case(case_id=case_id, actor=self.actor)))
        return reply.response


class ReleaseView(ApiView):
    """What was released, for the recipient device alone."""

    permission_names: ClassVar = {"GET": PermissionName.CASE_COLLECT}
    # The first reading collects it.
    taking_methods: ClassVar = frozenset({"GET"})

    @extend_schema(operation_id="collect_release", summary="Collect a release", responses=ReleaseOut)
    def get(self, request: Request, case_id: UUID) -> Response:
        case = access.case_for_recipient(self.actor, case_id)
        released = collection.prepare_collection(case=case)
        collection.collect(case_id=case_id, actor=self.actor)
        policy = escrow.policy_named(bytes(case.policy_hash))
        return Response(documents.release_document(released, policy=bytes(policy.statement)))


class BlameView(ApiView):
    """The recipient's word that shares are wrong or missing."""

    permission_names: ClassVar = {"POST": PermissionName.CASE_COLLECT}

    @extend_schema(
        operation_id="blame_shares", summary="Report wrong or missing shares", request=BlameIn, responses={201: CaseOut}
    )
    def post(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(BlameIn, request)
        access.case_for_recipient(self.actor, case_id)
        with self.writing(request) as reply:
            row = collection.blame_shares(case_id=case_id, blamed=dict(given["shares"]), actor=self.actor)
            reply.send(documents.case_document(row))
        return reply.response


class SuccessorView(ApiView):
    """The identity key under which the subject asks to begin again."""

    permission_names: ClassVar = {"PUT": PermissionName.CASE_COLLECT}

    @extend_schema(
        operation_id="propose_successor",
        summary="Propose your new identity key",
        request=SuccessorIn,
        responses=CaseOut,
    )
    def put(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(SuccessorIn, request)
        access.case_for_recipient(self.actor, case_id)
        key = decode_public_key(given["identity_key"], expect=SIGNING_KINDS)
        with self.writing(request) as reply:
            row = decisions.propose_successor(
                case_id=case_id, identity_key=key, old_head=given["old_head"], actor=self.actor
            )
            reply.send(documents.case_document(row), status=200)
        return reply.response


class AttestationsView(ApiView):
    """Officers' attestations of a new identity."""

    permission_names: ClassVar = {"GET": PermissionName.CASE_READ, "POST": PermissionName.CASE_APPROVE}

    @extend_schema(operation_id="list_attestations", summary="List attestations", responses=AttestationsOut)
    def get(self, request: Request, case_id: UUID) -> Response:
        case = access.case_for_reading(self.actor, case_id)
        rows = access.attestations_of(case)
        return Response({"attestations": [documents.attestation_document(row) for row in rows]})

    @extend_schema(
        operation_id="attest", summary="Attest a new identity", request=AttestationIn, responses={201: AttestationOut}
    )
    def post(self, request: Request, case_id: UUID) -> Response:
        given = self.valid(AttestationIn, request)
        case = access.case_for_reading(self.actor, case_id)
        prepared = decisions.prepare_attestation(case=case, statement=given["statement"], actor=self.actor)
        with self.writing(request) as reply:
            row = decisions.attest(prepared=prepared, actor=self.actor)
            reply.send(documents.attestation_document(row))
        return reply.response


class NoticesView(ApiView):
    """Your own notices about cases."""

    permission_names: ClassVar = {"GET": PermissionName.DEVICE_READ}

    @extend_schema(
        operation_id="list_notices", summary="List your notices", parameters=[paging.AFTER], responses=NoticesOut
    )
    def get(self, request: Request) -> Response:
        after = paging.after(request)
        rows, more = access.notices_for(self.actor.person_id, after=after) if self.actor.person_id else ([], False)
        notices = [
            {
                "notice_id": str(row.pk),
                "case_id": str(row.case_id),
                "kind": row.kind,
                "state": row.state,
                "at": rfc3339(row.due_at),
            }
            for row in rows
        ]
        return Response({"notices": notices, "more": more})


class DepositView(ApiView):
    """One deposit: its owner's, or one that an open case names, for officers and that case's recipient."""

    permission_names: ClassVar = {"GET": PermissionName.DEPOSIT_READ}

    @extend_schema(operation_id="read_deposit", summary="Read a deposit", responses=DepositOut)
    def get(self, request: Request, deposit_id: UUID) -> Response:
        row = access.deposit_for_reading(self.actor, deposit_id)
        opened = custody.open_deposit(row)
        custody.note_reading(deposit=row, actor=self.actor)
        return Response({"record": b64u(opened.record), "statement": b64u(opened.statement)})
