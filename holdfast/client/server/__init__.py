# SPDX-License-Identifier: Apache-2.0
"""The connection to the server: requests signed with the device's key, answers read exactly."""

# The modules that other rooms may import: this room's door.
__all__ = ["answers", "clock", "transport"]
