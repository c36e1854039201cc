# SPDX-License-Identifier: Apache-2.0
"""Every tag an audit entry can have, and the only body fields it may carry: ids and hashes, never secrets.

Alphabetical; `<app>:<subject>:<verb>`. A tag or field that is not listed is refused at append (FAULTS L8).
"""

from __future__ import annotations

from typing import Final

TAGS: Final[dict[str, frozenset[str]]] = {
    tag: frozenset(fields.split())
    for tag, fields in {
        "audit:entries:exported": "size",
        "audit:entries:read": "filter count",
        "escrow:consent:give": "agreed hash policy",
        "escrow:deposit:accept": "deposit device escrow_key generation half_hash policy record_hash",
        "escrow:deposit:flag": "deposit",
        "escrow:deposit:read": "deposit",
        "escrow:key:publish": "cka_id hash spki_sha256 version",
        "escrow:officer:leave": "",
        "escrow:officer:remove": "",
        "escrow:officer:return": "",
        "escrow:officer:suspend": "",
        "escrow:policy:publish": "hash version",
        "recovery:approval:refuse": "case why",
        "recovery:attestation:accept": "case index statement_hash",
        "recovery:case:approve": "case index q statement_hash",
        "recovery:case:cancel": "case q",
        "recovery:case:close": "case",
        "recovery:case:collect": "case q",
        "recovery:case:deny": "case index q statement_hash",
        "recovery:case:expire": "case q",
        "recovery:case:open": "case policy q recipient recipient_device requester",
        "recovery:case:quorum": "case q",
        "recovery:case:read": "case",
        "recovery:case:reopen": "case why",
        "recovery:case:rotate": "case",
        "recovery:case:succeed": "case identity_key",
        "recovery:case:veto": "case device ends q",
        "recovery:case:wait": "case q release_at",
        "recovery:notice:fail": "case kind",
        "recovery:notice:hand-over": "case kind",
        "recovery:release:begin": "case q",
        "recovery:release:defer": "case why",
        "recovery:release:finish": "case deposits q",
        "recovery:release:held": "case why",
        "tenants:credential:activate": "",
        "tenants:credential:register": "person",
        "tenants:credential:revoke": "",
        "tenants:credential:suspend": "",
        "tenants:enrolment-code:issue": "code trust expires_at",
        "tenants:enrolment-code:use": "code",
        "tenants:password:set": "",
        "tenants:person:activate": "",
        "tenants:person:change-role": "from to",
        "tenants:person:create": "role",
        "tenants:person:suspend": "",
        "tenants:root:pin": "root_pin",
        "tenants:service-account:create": "",
        "tenants:sign-in:accept": "source",
        "tenants:sign-in:lock": "source step",
        "tenants:sign-in:refuse": "source step",
        "tenants:sign-out:accept": "",
        "tenants:tenant:create": "slug",
        "tenants:totp:confirm": "",
    }.items()
}
