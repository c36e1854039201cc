# SPDX-License-Identifier: Apache-2.0
"""No table grows for ever unseen: of each it is said what bounds it, and what is over is swept, however much it is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.apps import apps

from audit.models import LogExport, LogExportPiece
from kernel import sweeps
from kernel.clock import database_now
from kernel.queue import periodic
from operators.models import Operator, OperatorSession
from tenants.models import (
    ConsoleSession,
    ExportPiece,
    FormerAddress,
    Import,
    ImportChunk,
    LogToken,
    Mail,
    PasswordReset,
    PendingAct,
    SignInPlace,
    TenantExport,
)
from tests.cast.tenants import Cast, build_world

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
# More than a sweep deletes with one statement.
MANY = sweeps.BATCH + 20
LONG_AGO = timedelta(days=400)

# What keeps a table that nothing sweeps as small as it is.
BOUNDED = {
    "the log, and what is proven by it: kept for ever, an entry for each act": (
        "audit_checkpoint audit_entry audit_loghead audit_rolesstatement audit_tile audit_transcript"
    ),
    "what the log still has no index for, and both together: moved within seconds, or refused for ever": (
        "audit_waiting audit_entries"
    ),
    "one for each time that a backup was put back, and what is known meanwhile": (
        "audit_acceptedlog audit_restored audit_shownhead"
    ),
    "one row for each that there is, kept as long as it": (
        "keys_chainentry keys_chainfork keys_chainhead keys_device keys_tenantmasterkey keys_vault keys_vaultdoor "
        "operators_operator tenants_credential tenants_person tenants_serviceaccount tenants_sponsorship "
        "tenants_tenant"
    ),
    "as many for each person as one act makes, the ones before voided or replaced": (
        "tenants_authenticator tenants_recoverycode"
    ),
    "one for each act behind a permission, a code or a signature, which is an entry too": (
        "tenants_enrolmentcode tenants_invitation"
    ),
    "escrow and cases: kept as evidence": (
        "escrow_consent escrow_deposit escrow_escrowkey escrow_escrowkeyproposal escrow_officerkeystatement "
        "escrow_officerstatement escrow_policy escrow_policyofficer escrow_policyproposal escrow_receipt "
        "escrow_resolution recovery_approval recovery_attestation recovery_case recovery_casedeposit "
        "recovery_contactanswer recovery_contactrequest recovery_contactset recovery_notice recovery_release "
        "recovery_releasedshare recovery_sealedshare recovery_shredding recovery_veto"
    ),
    "one for each process": "kernel_heartbeat",
    "of frameworks: written by nothing of ours, or at a migration": (
        "auth_group auth_permission axes_accessfailurelog axes_accesslog django_admin_log django_content_type"
    ),
}
# Swept, as the tests of their own apps see.
SWEPT_ELSEWHERE = (
    "audit_tally axes_accessattempt axes_accessattemptexpiration kernel_job kernel_replayableanswer keys_claim "
    "keys_claimbudget keys_mailboxsize keys_message keys_messagecontent keys_onetimeprekey keys_prekeybatch "
    "keys_signedprekey tenants_nonce tenants_ratewindow tenants_tokenbucket"
)


@pytest.fixture
def cast(db: None) -> Cast:
    return build_world()


def _sessions(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield ConsoleSession(
            session_key=secrets.token_hex(20), expire_date=at, started_at=at, last_seen_at=at, session_data=""
        )


def _resets(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        row = PasswordReset(person=cast.alice, token_hash=secrets.token_bytes(32), bound=bytes(32), expires_at=at)
        row.tenant_id = cast.acme.pk
        yield row


def _places(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield SignInPlace(account=secrets.token_hex(32), source="127.0.0.1", last_at=at)


def _addresses(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield FormerAddress(tenant_id=cast.acme.pk, person=cast.alice, email="a@acme.test", told_until=at)


def _pending(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield PendingAct(
            tenant_id=cast.acme.pk, act="person-role", proposer_id=cast.olivia.pk, proposed_at=at, expires_at=at
        )


def _mails(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield Mail(tenant_id=cast.acme.pk, kind="tenant-locked", person=cast.alice, state="handed-over", settled_at=at)


def _tokens(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield LogToken(tenant_id=cast.acme.pk, name="t", token_hash=secrets.token_bytes(32), expires_at=at)


def _files(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield Import(tenant_id=cast.acme.pk, by_id=cast.olivia.pk, digest=bytes(32), good=1, bad=0, expires_at=at)


def _exports(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield TenantExport(tenant_id=cast.acme.pk, asked_by=cast.olivia.pk, state="ready", expires_at=at)


def _log_exports(cast: Cast, at: datetime) -> Iterator[Any]:
    while True:
        yield LogExport(tenant_id=cast.acme.pk, owner="p", log="audit", size=1, vkey="v", created_at=at, expires_at=at)


def _operator_sessions(cast: Cast, at: datetime) -> Iterator[Any]:
    operator, _ = Operator.objects.get_or_create(name="petra", defaults={"password": "!", "totp_key": ""})
    while True:
        yield OperatorSession(token_hash=secrets.token_bytes(32), operator=operator, bound="", created_at=at)


# Rows of each, dated; and the rows that belong to each of them.
SWEPT: dict[Any, Callable[[Cast, datetime], Iterator[Any]]] = {
    ConsoleSession: _sessions,
    PasswordReset: _resets,
    SignInPlace: _places,
    FormerAddress: _addresses,
    PendingAct: _pending,
    Mail: _mails,
    LogToken: _tokens,
    Import: _files,
    TenantExport: _exports,
    LogExport: _log_exports,
    OperatorSession: _operator_sessions,
}
PARTS: dict[Any, tuple[Any, Callable[[Any], Any]]] = {
    Import: (
        ImportChunk,
        lambda row: ImportChunk(tenant_id=row.tenant_id, of=row, is_good=True, number=0, lines=[]),
    ),
    LogExport: (
        LogExportPiece,
        lambda row: LogExportPiece(tenant_id=row.tenant_id, export=row, number=0, octets=b"x", size=1),
    ),
    TenantExport: (
        ExportPiece,
        lambda row: ExportPiece(tenant_id=row.tenant_id, export=row, number=0, file="f", octets=b"x"),
    ),
}


def test_of_every_table_it_is_said_what_bounds_it() -> None:
    named = [name for names in BOUNDED.values() for name in names.split()] + SWEPT_ELSEWHERE.split()
    named += [model._meta.db_table for model in (*SWEPT, *(part for part, _ in PARTS.values()))]
    assert sorted(named) == sorted({model._meta.db_table for model in apps.get_models()})


@pytest.mark.parametrize("model", SWEPT, ids=lambda model: model.__name__)
def test_what_is_over_is_swept_by_the_schedule_and_nothing_else(model: Any, cast: Cast) -> None:
    now = database_now()
    old, fresh = SWEPT[model](cast, now - LONG_AGO), SWEPT[model](cast, now + timedelta(hours=1))
    rows = [next(old) for _ in range(MANY)]
    if model is OperatorSession:
        fresh = SWEPT[model](cast, now)
    kept = [next(fresh) for _ in range(3)]
    model._base_manager.bulk_create([*rows, *kept])
    if model in PARTS:
        part, made = PARTS[model]
        part._base_manager.bulk_create([made(row) for row in (*rows, *kept)])
    for _, work in periodic():
        if work.__module__ in ("audit.tasks", "tenants.tasks", "operators.tasks") and "sweep" in work.__name__:
            work()
    assert set(model._base_manager.values_list("pk", flat=True)) >= {row.pk for row in kept}
    assert not model._base_manager.filter(pk__in=[row.pk for row in rows]).exists()
    if model in PARTS:
        assert PARTS[model][0]._base_manager.count() == len(kept)
