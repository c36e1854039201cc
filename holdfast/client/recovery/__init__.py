# SPDX-License-Identifier: Apache-2.0
"""The account brought back: through a door of the vault, or by a case that officers approve."""

# The modules that other rooms may import: this room's door.
__all__ = ["by_case", "by_door", "vetoes"]
