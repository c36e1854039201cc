# SPDX-License-Identifier: Apache-2.0
"""What an escrow officer does: their keys, cases, approvals and vetoes."""

# The modules that other rooms may import: this room's door.
__all__ = ["officer", "officer_keys"]
