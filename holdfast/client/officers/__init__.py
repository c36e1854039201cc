# SPDX-License-Identifier: Apache-2.0
"""What an escrow officer does: their keys, cases and approvals, their standing and resolutions."""

# The modules that other rooms may import: this room's door.
__all__ = ["acts", "hearing", "joining", "officer", "officer_keys", "section_doors"]
