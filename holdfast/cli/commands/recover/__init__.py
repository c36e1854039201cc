# SPDX-License-Identifier: Apache-2.0
"""`holdfast recover`: one group, of the ways a person made, and of the way through officers. Its door is `app`."""

from holdfast.cli.commands.recover import escrow
from holdfast.cli.commands.recover.ways import app

__all__ = ["app"]

app.add_typer(escrow.app, name="escrow")
