# SPDX-License-Identifier: Apache-2.0
"""The profile on disk, and the account that is open: keys at rest, the state, one process at a time."""

# The modules that other rooms may import: this room's door.
__all__ = ["account", "private_files", "state", "store", "turns"]
