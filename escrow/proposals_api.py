# SPDX-License-Identifier: Apache-2.0
"""REST: policies and escrow keys that are proposed, and officers' signatures on them (PLATFORM "REST").

What counts is the payload and the signatures on it; the other fields repeat it for lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from escrow import access, services
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.signed import cose
from kernel import paging
from kernel.api import ApiView
from kernel.clock import database_now
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from datetime import datetime

    from escrow.models import EscrowKeyProposal, PolicyProposal

# A payload of 64 KiB in a Sign1, in base64url.
MAX_PROPOSAL_BODY = 128 * 1024


class PolicyPayloadIn(StrictSerializer):
    payload = Base64UrlField(max_length=MAX_BLOB, help_text="Of a `policy` statement.")


class SignatureIn(StrictSerializer):
    statement = Base64UrlField(max_length=MAX_BLOB + 1024, help_text="One officer's Sign1 with the proposal's payload.")


class NothingIn(StrictSerializer):
    pass


class SignatureOut(serializers.Serializer[None]):
    protected = Base64UrlField()
    signature = Base64UrlField(help_text="With the payload above, this is the signer's Sign1.")


class RosterPersonOut(serializers.Serializer[None]):
    person_id = serializers.UUIDField()
    name = serializers.CharField()
    since = UtcField(help_text="When the server first knew of this person.")
    let_in_by = serializers.ListField(child=serializers.UUIDField(), help_text="Who stands behind them since 90 days.")


class PolicyProposalOut(serializers.Serializer[None]):
    proposal_id = serializers.UUIDField()
    hash = Base64UrlField(length=32)
    version = serializers.IntegerField()
    state = serializers.ChoiceField(
        choices=["open", "published", "replaced", "expired", "withdrawn"],
        help_text="replaced: another version was published, or has come into force.",
    )
    payload = Base64UrlField()
    signatures = SignatureOut(many=True)
    asked = serializers.ListField(child=serializers.UUIDField(), help_text="Whose signatures are asked for.")
    signed_by = serializers.ListField(child=serializers.UUIDField(), help_text="Persons whose signatures count.")
    missing = serializers.IntegerField(help_text="Further signatures needed. A founding policy is complete at 0.")
    proposer = serializers.UUIDField()
    touches = serializers.IntegerField(
        allow_null=True,
        help_text="Deposits that other officers, or another number of them, could release under it; with those that it "
        "gives up. As counted when it was proposed.",
    )
    proposed_at = UtcField()
    ends_at = UtcField()
    published_at = UtcField(allow_null=True)
    undone = serializers.BooleanField(help_text="Officers withdrew the version after it was published.")
    people = RosterPersonOut(many=True, help_text="Of the roster: the server's word on them.")


class PolicyProposalsOut(serializers.Serializer[None]):
    proposals = PolicyProposalOut(many=True)
    more = serializers.BooleanField()
    root_key = Base64UrlField(help_text="The tenant root's encoded public key; believed only by the pin or the code.")


class KeyProposalOut(serializers.Serializer[None]):
    proposal_id = serializers.UUIDField()
    hash = Base64UrlField(length=32)
    version = serializers.IntegerField()
    state = serializers.ChoiceField(choices=["open", "published", "replaced", "expired"])
    payload = Base64UrlField(help_text="Of an `escrow-key` statement.")
    signatures = SignatureOut(many=True)
    asked = serializers.ListField(child=serializers.UUIDField())
    signed_by = serializers.ListField(child=serializers.UUIDField())
    missing = serializers.IntegerField()
    proposed_at = UtcField()
    ends_at = UtcField()
    published_at = UtcField(allow_null=True)


class KeyProposalsOut(serializers.Serializer[None]):
    proposals = KeyProposalOut(many=True)
    more = serializers.BooleanField()


class PolicyProposalsView(ApiView):
    """Policy versions that officers are asked to sign."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ, "POST": PermissionName.POLICY_PROPOSE}
    max_body: ClassVar = MAX_PROPOSAL_BODY

    @extend_schema(
        operation_id="list_policy_proposals",
        summary="List proposed policies, the open ones first",
        parameters=[paging.AFTER],
        responses=PolicyProposalsOut,
    )
    def get(self, request: Request) -> Response:
        now = database_now()
        rows, more = access.proposal_page(access.next_place(now), now=now, after=paging.after(request))
        root_key = b64u(bytes(tenants.tenant().root_key or b""))
        return Response({"proposals": _policies(rows), "more": more, "root_key": root_key})

    @extend_schema(
        operation_id="propose_policy",
        summary="Propose the next policy version",
        request=PolicyPayloadIn,
        responses={201: PolicyProposalOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(PolicyPayloadIn, request)
        with self.writing(request) as reply:
            row = services.propose_policy(payload=given["payload"], actor=self.actor)
            reply.send(_policies([row])[0])
        return reply.response


class PolicySignaturesView(ApiView):
    """Officers' signatures on one proposed policy."""

    permission_names: ClassVar = {"POST": PermissionName.OFFICER_SIGN}
    max_body: ClassVar = MAX_PROPOSAL_BODY

    @extend_schema(
        operation_id="sign_policy",
        summary="Sign a proposed policy; the last signature publishes it",
        request=SignatureIn,
        responses={201: PolicyProposalOut},
    )
    def post(self, request: Request, proposal_id: UUID) -> Response:
        given = self.valid(SignatureIn, request)
        with self.writing(request) as reply:
            row = services.sign_policy(proposal_id=proposal_id, statement=given["statement"], actor=self.actor)
            reply.send(_policies([row])[0])
        return reply.response


class PolicyWithdrawView(ApiView):
    """The end of a proposed policy by whoever proposed it."""

    permission_names: ClassVar = {"POST": PermissionName.POLICY_PROPOSE}

    @extend_schema(
        operation_id="withdraw_policy_proposal",
        summary="Take back a policy that you proposed",
        request=NothingIn,
        responses={201: PolicyProposalOut},
    )
    def post(self, request: Request, proposal_id: UUID) -> Response:
        self.valid(NothingIn, request)
        with self.writing(request) as reply:
            row = services.withdraw_policy_proposal(proposal_id=proposal_id, actor=self.actor)
            reply.send(_policies([row])[0])
        return reply.response


class KeyProposalsView(ApiView):
    """Escrow keys that officers are asked to sign; a ceremony proposes them."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ}

    @extend_schema(
        operation_id="list_key_proposals",
        summary="List proposed escrow keys, newest first",
        parameters=[paging.AFTER],
        responses=KeyProposalsOut,
    )
    def get(self, request: Request) -> Response:
        rows, more = access.key_proposal_page(after=paging.after(request))
        return Response({"proposals": _keys(rows), "more": more})


class KeySignaturesView(ApiView):
    """Officers' signatures on one proposed escrow key."""

    permission_names: ClassVar = {"POST": PermissionName.OFFICER_SIGN}

    @extend_schema(
        operation_id="sign_escrow_key",
        summary="Sign a proposed escrow key; the last signature publishes it",
        request=SignatureIn,
        responses={201: KeyProposalOut},
    )
    def post(self, request: Request, proposal_id: UUID) -> Response:
        given = self.valid(SignatureIn, request)
        with self.writing(request) as reply:
            row = services.sign_escrow_key(proposal_id=proposal_id, statement=given["statement"], actor=self.actor)
            reply.send(_keys([row])[0])
        return reply.response


def _signatures(statement: bytes) -> list[dict[str, str]]:
    signed = cose.parse_many(statement, max_size=MAX_BLOB) if statement else ()
    return [{"protected": b64u(one.protected), "signature": b64u(one.signature)} for one in signed]


def _at(at: datetime | None) -> str | None:
    return rfc3339(at) if at else None


def _policies(rows: list[PolicyProposal]) -> list[dict[str, Any]]:
    people = services.roster_people(rows)
    return [
        {
            "proposal_id": str(row.pk),
            "hash": b64u(bytes(row.hash)),
            "version": row.version,
            "state": progress.state,
            "payload": b64u(bytes(row.payload)),
            "signatures": _signatures(bytes(row.statement)),
            "asked": [str(person_id) for person_id in progress.asked],
            "signed_by": [str(person_id) for person_id in progress.signed],
            "missing": progress.missing,
            "proposer": str(row.proposer_id),
            "touches": row.touches,
            "proposed_at": rfc3339(row.proposed_at),
            "ends_at": rfc3339(row.ends_at),
            "published_at": _at(row.published_at),
            "undone": progress.is_undone,
            "people": [
                {
                    "person_id": str(one.person_id),
                    "name": one.name,
                    "since": rfc3339(one.since),
                    "let_in_by": [str(person_id) for person_id in one.let_in_by],
                }
                for one in people[row.pk]
            ],
        }
        for row, progress in zip(rows, services.policy_progress(rows), strict=True)
    ]


def _keys(rows: list[EscrowKeyProposal]) -> list[dict[str, Any]]:
    return [
        {
            "proposal_id": str(row.pk),
            "hash": b64u(bytes(row.hash)),
            "version": row.version,
            "state": progress.state,
            "payload": b64u(cose.parse_many(bytes(row.statement))[0].payload),
            "signatures": _signatures(bytes(row.statement)),
            "asked": [str(person_id) for person_id in progress.asked],
            "signed_by": [str(person_id) for person_id in progress.signed],
            "missing": progress.missing,
            "proposed_at": rfc3339(row.proposed_at),
            "ends_at": rfc3339(row.ends_at),
            "published_at": _at(row.published_at),
        }
        for row, progress in zip(rows, services.key_progress(rows), strict=True)
    ]
