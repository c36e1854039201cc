# SPDX-License-Identifier: Apache-2.0
"""Messages and letters, sent and received: pre-keys, handshakes, the outbox and the inbox."""

# The modules that other rooms may import: this room's door.
__all__ = ["bundles", "handshakes", "letters", "messages", "prekeys"]
