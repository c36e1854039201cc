# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer`: one group, of cases, keys, acts outside cases, and the next policy. Its door is `app`."""

from holdfast.cli.commands.officer import acts, policy
from holdfast.cli.commands.officer.keys import app

__all__ = ["app"]

acts.register(app)
policy.register(app)
