# SPDX-License-Identifier: Apache-2.0
from tests.cast.hsm import hsm_config, hsm_template, interposed, interposer, recipient, session_interposer  # noqa: F401
