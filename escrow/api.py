# SPDX-License-Identifier: Apache-2.0
"""REST: policy, escrow key, statements, deposits, coverage (PLATFORM "REST").

Every statement is given as the exact bytes that were signed; clients hold all of them to their pin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from escrow import access, campaign, services
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Malformed
from kernel import paging
from kernel.api import ApiView
from kernel.errors import MalformedRequest, NotFound
from kernel.fields import Base64UrlField, StrictSerializer, UtcField, rfc3339
from kernel.lean import LeanView
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from escrow.models import EscrowKey, Policy

# A record of 64 KiB and its statement, in base64url.
MAX_DEPOSIT_BODY = 128 * 1024
# A policy's statement has up to 64 KiB: a page of these stays below the 2 MiB that a client takes for an answer.
STATEMENTS = 20
AFTER_VERSION = OpenApiParameter("after", int, description="Versions above this number only.")


class VersionOut(serializers.Serializer[None]):
    version = serializers.IntegerField()
    hash = Base64UrlField(length=32)
    statement = Base64UrlField()


class OfficerOut(serializers.Serializer[None]):
    index = serializers.IntegerField(help_text="Place in the roster, from 1.")
    person_id = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["active", "suspended", "away", "removed"])
    counts_from = UtcField(allow_null=True, help_text="End of a new officer's cooling-off.")
    keys_lost_at = UtcField(allow_null=True, help_text="When these keys were lost with a device, for good.")


class PolicyOut(serializers.Serializer[None]):
    hash = Base64UrlField(length=32)
    version = serializers.IntegerField()
    statement = Base64UrlField(help_text="The newest policy: an array of its signers' statements.")
    in_force_from = UtcField(help_text="Later than its publication when it lowers a guard.")
    history = VersionOut(many=True, help_text="The versions, oldest first, as many as one answer has room for.")
    more = serializers.BooleanField(help_text="Whether versions follow: `after` takes the number of the last one.")
    withdrawals = serializers.ListField(
        child=Base64UrlField(), help_text="The resolutions that withdrew a version, each an array of statements."
    )
    officers = OfficerOut(many=True)
    root_key = Base64UrlField(help_text="The tenant root's encoded public key; believed only by the pin.")


class KeyOut(serializers.Serializer[None]):
    hash = Base64UrlField(length=32)
    version = serializers.IntegerField()
    statement = Base64UrlField()
    history = VersionOut(many=True, help_text="The versions, oldest first, as many as one answer has room for.")
    more = serializers.BooleanField(help_text="Whether versions follow: `after` takes the number of the last one.")


class DepositIn(StrictSerializer):
    record = Base64UrlField(max_length=64 * 1024)
    statement = Base64UrlField(max_length=16 * 1024)


class DepositMadeOut(serializers.Serializer[None]):
    deposit_id = serializers.UUIDField()
    record_hash = Base64UrlField(length=32)
    generation = serializers.IntegerField()


class DepositRowOut(DepositMadeOut):
    created_at = UtcField()
    device_id = serializers.UUIDField()
    policy_hash = Base64UrlField(length=32)
    flagged = serializers.BooleanField(help_text="Made by a device that was revoked since.")
    exposed = serializers.BooleanField(help_text="A case opened this generation, and no device is left to replace it.")
    receipt = Base64UrlField(
        allow_null=True, help_text="The release process's receipt. Without it, a deposit does not count as made."
    )
    refused = serializers.BooleanField(help_text="It gets no receipt: its half was in another's deposit before.")


class DepositsOut(serializers.Serializer[None]):
    deposits = DepositRowOut(many=True)
    more = serializers.BooleanField()


class DepositOut(serializers.Serializer[None]):
    record = Base64UrlField()
    statement = Base64UrlField()


class CoveredOut(serializers.Serializer[None]):
    deposit_id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    generation = serializers.IntegerField()
    record_hash = Base64UrlField(length=32)
    indices = serializers.ListField(
        child=serializers.IntegerField(), help_text="Held by officers who could hand the share over now."
    )
    m = serializers.IntegerField(help_text="How many are needed: the most that any policy concerned asks for.")
    is_open = serializers.BooleanField()
    is_alarming = serializers.BooleanField()
    flagged = serializers.BooleanField()
    exposed = serializers.BooleanField(help_text="A case opened this generation, and no device is left to replace it.")


class MissingOut(serializers.Serializer[None]):
    user_id = serializers.UUIDField()
    generation = serializers.IntegerField(help_text="Announced in the user's chain and never deposited.")


class CoverageOut(serializers.Serializer[None]):
    deposits = CoveredOut(many=True)
    missing = MissingOut(many=True)
    last = serializers.UUIDField(allow_null=True, help_text="The last user of this page, whatever is listed of them.")
    more = serializers.BooleanField(help_text="Whether there are further users: `after` takes `last`.")
    users = serializers.IntegerField(
        required=False,
        help_text="Of the whole tenant: those with a deposit. It and the one below: without `after` and `user`.",
    )
    recoverable = serializers.IntegerField(
        required=False, help_text="Of the whole tenant: those whose every generation opens."
    )


class OfficersOut(serializers.Serializer[None]):
    officers = OfficerOut(many=True)
    m = serializers.IntegerField()


class AnswerOut(serializers.Serializer[None]):
    person_id = serializers.UUIDField()
    name = serializers.CharField()
    answer = serializers.ChoiceField(
        choices=["agreed", "refused", "older", "none"], help_text="older: to another version than the newest."
    )
    at = UtcField(allow_null=True)


class AnswersOut(serializers.Serializer[None]):
    version = serializers.IntegerField()
    until = UtcField(help_text="Until when deposits under the version before count as stale, and not as missing.")
    people = serializers.IntegerField(
        required=False, help_text="Of the whole tenant: those who are active. It and the four below: without `after`."
    )
    agreed = serializers.IntegerField(required=False)
    refused = serializers.IntegerField(required=False)
    older = serializers.IntegerField(required=False)
    none = serializers.IntegerField(required=False)
    answers = AnswerOut(many=True)
    more = serializers.BooleanField()


class StatementIn(StrictSerializer):
    statement = Base64UrlField(max_length=16 * 1024)


class StatementOut(serializers.Serializer[None]):
    hash = Base64UrlField(length=32)
    purpose = serializers.ChoiceField(choices=["policy", "escrow-key", "consent"])
    statement = Base64UrlField()


class StatementsOut(serializers.Serializer[None]):
    statements = StatementOut(many=True)
    more = serializers.BooleanField()


def _version(row: Policy | EscrowKey) -> dict[str, Any]:
    return {"version": row.version, "hash": b64u(bytes(row.hash)), "statement": b64u(bytes(row.statement))}


def _officers(policy: Policy) -> list[dict[str, Any]]:
    officers = access.officers(policy)
    people = tenants.people_by_id(officer.person_id for officer in officers)
    return [
        {
            "index": officer.index,
            "person_id": str(officer.person_id),
            "name": people[officer.person_id].name if officer.person_id in people else "",
            "state": officer.state,
            "counts_from": rfc3339(officer.counts_from) if officer.counts_from else None,
            "keys_lost_at": rfc3339(officer.keys_lost_at) if officer.keys_lost_at else None,
        }
        for officer in officers
    ]


class PolicyView(ApiView):
    """The escrow policy, with its history from the founding one on."""

    permission_names: ClassVar = {"GET": PermissionName.ESCROW_READ}

    @extend_schema(
        operation_id="read_policy",
        summary="Read the escrow policy",
        parameters=[AFTER_VERSION],
        responses=PolicyOut,
    )
    def get(self, request: Request) -> Response:
        newest = access.newest_policy()
        history, more = access.policy_page(paging.number_after(request))
        return Response(
            {
                **_version(newest),
                "in_force_from": rfc3339(newest.in_force_from),
                "history": [_version(row) for row in history],
                "more": more,
                "withdrawals": [b64u(statement) for statement in access.withdrawals()],
                "officers": _officers(newest),
                "root_key": b64u(bytes(tenants.tenant().root_key or b"")),
            }
        )


class KeyView(ApiView):
    """The escrow key, with its history."""

    permission_names: ClassVar = {"GET": PermissionName.ESCROW_READ}

    @extend_schema(
        operation_id="read_escrow_key",
        summary="Read the escrow key",
        parameters=[AFTER_VERSION],
        responses=KeyOut,
    )
    def get(self, request: Request) -> Response:
        newest = access.escrow_key_in_force()
        rows, more = access.escrow_key_page(paging.number_after(request))
        return Response({**_version(newest), "history": [_version(row) for row in rows], "more": more})


class DepositsView(LeanView):
    """Deposits of one's own archive keys."""

    permission_names: ClassVar = {"GET": PermissionName.DEPOSIT_READ, "POST": PermissionName.DEPOSIT_WRITE}
    max_body: ClassVar = MAX_DEPOSIT_BODY

    @extend_schema(
        operation_id="list_deposits", summary="List your own deposits", parameters=[paging.AFTER], responses=DepositsOut
    )
    def get(self, request: Request) -> Response:
        rows, more = access.own_deposits(self.actor, after=paging.after(request))
        receipts = access.receipts_of(row.id for row in rows)
        return Response(
            {
                "deposits": [
                    {
                        "deposit_id": str(row.id),
                        "generation": row.generation,
                        "record_hash": b64u(bytes(row.record_hash)),
                        "created_at": rfc3339(row.created_at),
                        "device_id": str(row.device_id),
                        "policy_hash": b64u(bytes(row.policy_hash)),
                        "flagged": row.flagged_at is not None,
                        "exposed": row.exposed_at is not None,
                        "receipt": b64u(receipts[row.id]) if receipts.get(row.id) else None,
                        "refused": receipts.get(row.id) == b"",
                    }
                    for row in rows
                ],
                "more": more,
            }
        )

    @extend_schema(
        operation_id="deposit",
        summary="Put an archive key into escrow",
        request=DepositIn,
        responses={201: DepositMadeOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(DepositIn, request)
        prepared = services.prepare_deposit(record=given["record"], statement=given["statement"], actor=self.actor)
        with self.writing(request) as reply:
            row = services.accept_deposit(prepared=prepared, actor=self.actor)
            reply.send(
                {
                    "deposit_id": str(row.id),
                    "record_hash": b64u(bytes(row.record_hash)),
                    "generation": row.generation,
                }
            )
        return reply.response


class CoverageView(ApiView):
    """Which deposits could be opened with the officers there are."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ}

    @extend_schema(
        operation_id="read_coverage",
        summary="Read escrow coverage, user by user",
        parameters=[
            OpenApiParameter("after", UUID, description="The last user of the page before."),
            OpenApiParameter("user", UUID, description="This user's alone."),
        ],
        responses=CoverageOut,
    )
    def get(self, request: Request) -> Response:
        after, user_id = paging.after(request), paging.identifier(request, "user")
        users, more = (
            services.tenant_coverage(after=after) if user_id is None else ([services.user_coverage(user_id)], False)
        )
        return Response(
            {
                "deposits": [_covered(deposit) for user in users for deposit in user.deposits],
                "missing": [
                    {"user_id": str(user.user_id), "generation": generation}
                    for user in users
                    for generation in user.missing
                ],
                "last": str(users[-1].user_id) if users else None,
                "more": more,
                # Once for a reading of the list: they count the whole tenant.
                **(_covered_in_all() if after is None and user_id is None else {}),
            }
        )


def _covered_in_all() -> dict[str, int]:
    totals = services.coverage_totals()
    return {"users": totals.covered, "recoverable": totals.covered - totals.lost}


def _covered(deposit: services.DepositCoverage) -> dict[str, Any]:
    return {
        "deposit_id": str(deposit.deposit_id),
        "user_id": str(deposit.user_id),
        "generation": deposit.generation,
        "record_hash": b64u(deposit.record_hash),
        "indices": list(deposit.indices),
        "m": deposit.m,
        "is_open": deposit.is_open,
        "is_alarming": deposit.is_alarming,
        "flagged": deposit.flagged,
        "exposed": deposit.exposed,
    }


class OfficersView(ApiView):
    """The officers of the newest policy."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ}

    @extend_schema(operation_id="list_officers", summary="List the officers", responses=OfficersOut)
    def get(self, request: Request) -> Response:
        newest = access.newest_policy()
        return Response({"officers": _officers(newest), "m": newest.m})


class AnswersView(ApiView):
    """Who has answered the newest policy, and who never did."""

    permission_names: ClassVar = {"GET": PermissionName.COVERAGE_READ}

    @extend_schema(
        operation_id="list_policy_answers",
        summary="List the people with their answer to the newest policy, by name",
        parameters=[paging.AFTER],
        responses=AnswersOut,
    )
    def get(self, request: Request) -> Response:
        newest = access.newest_policy()
        after = paging.after(request)
        rows, more = campaign.answers(newest, after=after)
        return Response(
            {
                "version": newest.version,
                "until": rfc3339(newest.published_at + campaign.ANSWER_WITHIN),
                # Once for a reading of the list: they count the whole tenant.
                **(_totals(newest) if after is None else {}),
                "answers": [
                    {
                        "person_id": str(row.person_id),
                        "name": row.name,
                        "answer": row.answer,
                        "at": rfc3339(row.at) if row.at else None,
                    }
                    for row in rows
                ],
                "more": more,
            }
        )


def _totals(newest: Policy) -> dict[str, int]:
    totals = campaign.answer_totals(newest)
    return {name: getattr(totals, name) for name in ("people", "agreed", "refused", "older", "none")}


class StatementsView(ApiView):
    """Signed statements of the tenant and of oneself."""

    permission_names: ClassVar = {
        "GET": PermissionName.STATEMENT_READ,
        "POST": PermissionName.STATEMENT_WRITE,
    }
    spends_in_act: ClassVar = frozenset({"POST"})

    @extend_schema(
        operation_id="list_statements",
        summary="List statements: the tenant's and your own",
        parameters=[
            OpenApiParameter("purpose", str, enum=["policy", "escrow-key", "consent"]),
            OpenApiParameter("hash", str, description="base64url of 32 octets"),
            OpenApiParameter("after", str, description="The hash of the last statement of the page before."),
        ],
        responses=StatementsOut,
    )
    def get(self, request: Request) -> Response:
        purpose, wanted, last = request.query_params.get("purpose", ""), _hash(request), _hash(request, "after")
        person_id = self.actor.person_id or UUID(int=0)
        rows: list[tuple[str, Any]] = [
            *(("policy", row) for row in access.policies()),
            *(("escrow-key", row) for row in access.escrow_keys()),
            *(("consent", row) for row in access.consents_of(person_id)),
        ]
        chosen = [(name, row) for name, row in rows if purpose in ("", name) and wanted in (b"", bytes(row.hash))]
        hashes = [bytes(row.hash) for _, row in chosen]
        if last and last not in hashes:
            raise NotFound
        start = hashes.index(last) + 1 if last else 0
        shown = [
            {"hash": b64u(bytes(row.hash)), "purpose": name, "statement": b64u(bytes(row.statement))}
            for name, row in chosen[start : start + STATEMENTS]
        ]
        return Response({"statements": shown, "more": len(chosen) > start + STATEMENTS})

    @extend_schema(
        operation_id="publish_statement",
        summary="Publish your signed consent",
        request=StatementIn,
        responses={201: StatementOut},
    )
    def post(self, request: Request) -> Response:
        given = self.valid(StatementIn, request)
        with self.writing(request) as reply:
            row = services.give_consent(statement=given["statement"], actor=self.actor)
            reply.send({"hash": b64u(bytes(row.hash)), "purpose": "consent", "statement": b64u(bytes(row.statement))})
        return reply.response


def _hash(request: Request, name: str = "hash") -> bytes:
    text = request.query_params.get(name, "")
    try:
        return unb64u(text, max_size=32)
    except Malformed as error:
        raise MalformedRequest(f"{name}: is not base64url of 32 octets.", field=name) from error
