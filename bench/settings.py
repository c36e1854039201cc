# SPDX-License-Identifier: Apache-2.0
"""The tests' settings without the limits that a benchmark passes in a second; passwords cost what they do."""

from __future__ import annotations

from config.settings import base
from config.settings.test import *  # noqa: F403

HOLDFAST_CLAIMS_PER_REQUESTER = 10**9
HOLDFAST_CLAIMS_PER_TARGET = 10**9
HOLDFAST_REQUESTS_PER_CREDENTIAL = HOLDFAST_REQUESTS_PER_PERSON = 10**9
HOLDFAST_REQUESTS_PER_SOURCE = HOLDFAST_REQUESTS_PER_TENANT = 10**9
PASSWORD_HASHERS = base.PASSWORD_HASHERS  # at full cost, which is what is measured
