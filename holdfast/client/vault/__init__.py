# SPDX-License-Identifier: Apache-2.0
"""The vault on the server and its doors: password, phrase, further devices, trusted contacts, the export file."""

# The modules that other rooms may import: this room's door.
__all__ = ["doors", "export", "pairing", "share_requests", "trusted", "vault", "vault_contents"]
