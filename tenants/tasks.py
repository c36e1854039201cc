# SPDX-License-Identifier: Apache-2.0
"""Worker entries of this app. Holds no logic: the verb is `services.sweep`.

Implements DESIGN section 7.
"""

from __future__ import annotations

from kernel.queue import every
from tenants import services


@every(60)
def sweep() -> None:
    """Delete, once a minute, what no request can meet any more."""
    services.sweep()
