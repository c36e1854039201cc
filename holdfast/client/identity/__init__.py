# SPDX-License-Identifier: Apache-2.0
"""Who is who, each followed from what is pinned: chains, addresses, contacts, the tenant, devices, the log of keys."""

# The modules that other rooms may import: this room's door.
__all__ = [
    "addresses",
    "chains",
    "contacts",
    "device",
    "evidence",
    "heads",
    "key_log",
    "peers",
    "restored",
    "security_events",
    "tenant",
]
