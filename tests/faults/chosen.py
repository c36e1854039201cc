# SPDX-License-Identifier: Apache-2.0
"""Acts under an id that the caller chooses: a device, a deposit, a case. It asserts nothing."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable

from escrow.models import Deposit
from holdfast.core.base.encoding import b64u
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.statements import DepositStatement
from kernel.scope import TenantModel
from keys.models import Device
from recovery.models import Case
from tests.cast.phones import enrol_document, issue, new_phone
from tests.faults.acts import Act
from tests.faults.world import API, Organisation


def enrolling(one: Organisation, device_id: uuid.UUID) -> Act:
    phone = new_phone(one.cast.people["bob"], device_id=device_id)
    issue(phone)
    return Act(None, "POST", f"{API}/devices", enrol_document(phone))


def depositing(one: Organisation, deposit_id: uuid.UUID) -> Act:
    phone = one.phone("alice")
    record = one.build(deposit_id=deposit_id.bytes).to_record()
    statement = DepositStatement(phone.header(), hashlib.sha256(record).digest())
    signed = cose.sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=phone.isk)
    document = {"record": b64u(record), "statement": b64u(signed.encode())}
    return Act(phone.signer, "POST", f"{API}/escrow/deposits", document)


def opening(one: Organisation, case_id: uuid.UUID) -> Act:
    case = one.case(one.new_phone(), one.archive, case_id=case_id.bytes)
    return Act(case.phone.signer, "POST", f"{API}/cases", {"case": b64u(case.statement.encode())})


MAKERS: dict[str, tuple[Callable[[Organisation, uuid.UUID], Act], type[TenantModel]]] = {
    "device": (enrolling, Device),
    "deposit": (depositing, Deposit),
    "case": (opening, Case),
}
