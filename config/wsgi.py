# SPDX-License-Identifier: Apache-2.0
"""The WSGI application that granian serves."""

from __future__ import annotations

import logging
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config.checks import require_posture
from config.hsm import verify_at_start
from config.logs import log_what_ends_this_process
from config.memory import close_memory, die_with_parent
from config.refusal import listener, refuse
from config.roles import require_role_key
from config.start import PRODUCTION, require_settings
from hsm.errors import HsmError

require_settings(PRODUCTION)
application = get_wsgi_application()

log_what_ends_this_process(logging.getLogger("holdfast.process"))
if settings.HOLDFAST_CLOSE_MEMORY:
    close_memory()
require_posture()
try:
    verify_at_start()
except HsmError as error:
    refuse(str(error))
require_role_key()
if os.environ.get("HOLDFAST_SUPERVISED"):
    # granian's worker is the supervisor's grandchild: it must go when its own parent goes.
    die_with_parent(listener())
