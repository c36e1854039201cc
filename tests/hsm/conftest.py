# SPDX-License-Identifier: Apache-2.0
from tests.fixtures.hsm import (  # noqa: F401
    hsm_config,
    hsm_template,
    interposed,
    interposer,
    recipient,
    session_interposer,
)
