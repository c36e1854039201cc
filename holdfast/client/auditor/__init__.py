# SPDX-License-Identifier: Apache-2.0
"""What an auditor does: an export or a transcript verified without a server, the audit log followed."""

# The modules that other rooms may import: this room's door.
__all__ = ["auditor", "log", "transcript"]
