# SPDX-License-Identifier: Apache-2.0
"""Every key replaced, in steps that survive a kill: on schedule, after an event, on request."""

# The modules that other rooms may import: this room's door.
__all__ = ["rotation", "rotation_record"]
