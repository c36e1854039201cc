# SPDX-License-Identifier: Apache-2.0
"""What an escrow officer does: their keys, cases and approvals, standing and resolutions, the policies they sign."""

# The modules that other rooms may import: this room's door.
__all__ = [
    "acts",
    "answers",
    "hearing",
    "joining",
    "officer",
    "officer_keys",
    "proposals",
    "section",
    "section_doors",
    "whole_policy",
]
