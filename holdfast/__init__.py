# SPDX-License-Identifier: Apache-2.0
"""Holdfast for clients: keys made and kept on the device, messages, backup and recovery, with no server code in it.

Start with `Client`, which is everything an app needs: `from holdfast import Client`. The packages below are open to
whoever needs more: `holdfast.client` (one module for each subject), `holdfast.core` (the protocol, pure), and
`holdfast.cli` (the `holdfast` command).

Implements the protocol of docs/formats and nothing of the server: Django is not needed, and not imported.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """Import `Client` when it is first asked for: `holdfast.core` alone must not bring the network library."""
    if name == "Client":
        from holdfast.client.client import Client

        globals()[name] = Client
        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
