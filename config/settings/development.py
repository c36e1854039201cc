# SPDX-License-Identifier: Apache-2.0
"""The embedded form that `make up` starts: SQLite, SoftHSM, mail into files. Refused by `check --deploy`."""

from __future__ import annotations

from config.env import ENV, secret_key
from config.settings.base import *  # noqa: F403

# `make up` writes the file; to look at the settings writes nothing.
SECRET_KEY = secret_key(needed=False)
ALLOWED_HOSTS = [*ENV.allowed_hosts, ENV.public_host, "127.0.0.1", "localhost", "[::1]"]
if not ENV.email_url:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = ENV.state_dir / "mail"
# Whoever tries it out asks again and again.
HOLDFAST_CASES_PER_DAY = max(ENV.cases_per_day, 1000)
# Whoever tries it out does not wait a day.
HOLDFAST_CONTACTS_DELAY_SECONDS = ENV.contacts_delay_seconds or 0
WHITENOISE_USE_FINDERS = True
# Static files are found where they are written; there is nothing to collect.
STATIC_ROOT = None  # type: ignore[assignment]
# `make up` shows what a newcomer needs to see; what goes well is not news.
LOGGING = {**LOGGING, "root": {"handlers": ["stderr"], "level": "WARNING"}}  # noqa: F405
# SoftHSM computes inside the process and a test reads its memory: development stays dumpable.
HOLDFAST_CLOSE_MEMORY = False
