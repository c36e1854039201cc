# SPDX-License-Identifier: Apache-2.0
"""The tests' settings without the hourly limits, which a benchmark passes in a second; passwords cost what they do."""

from __future__ import annotations

from config.settings import base
from config.settings.test import *  # noqa: F403

HOLDFAST_CLAIMS_PER_REQUESTER = 10**9
HOLDFAST_CLAIMS_PER_TARGET = 10**9
PASSWORD_HASHERS = base.PASSWORD_HASHERS  # at full cost, which is what is measured
