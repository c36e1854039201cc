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
