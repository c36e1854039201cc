# SPDX-License-Identifier: Apache-2.0
"""The sessions of this device with other devices, as rows of the profile."""

# The modules that other rooms may import: this room's door.
__all__ = ["sessions"]
