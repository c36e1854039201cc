# SPDX-License-Identifier: Apache-2.0
"""The settings of production, with the hourly limits lifted that a benchmark passes in a second.

The limits of a second stay: many requesters pass none of them. The web process is sent requests as a proxy passes them
on, encrypted before it; the parts' own process, which plays the devices, sends them without.
"""

from __future__ import annotations

from config.env import ENV
from config.settings.production import *  # noqa: F403

# No posture to refuse: SoftHSM, and a database that is ours alone for a minute.
HOLDFAST_PRODUCTION = False
HOLDFAST_CLOSE_MEMORY = False
HOLDFAST_CLAIMS_PER_REQUESTER = HOLDFAST_CLAIMS_PER_TARGET = HOLDFAST_MESSAGES_PER_SENDER = 10**9
SECURE_SSL_REDIRECT = ENV.role == "web"
if ENV.role == "tool":
    # What plays the devices sends more from one credential than the limits of a second let in.
    HOLDFAST_REQUESTS_PER_CREDENTIAL = HOLDFAST_REQUESTS_PER_PERSON = 10**9
    HOLDFAST_REQUESTS_PER_SOURCE = HOLDFAST_REQUESTS_PER_TENANT = 10**9
    ALLOWED_HOSTS = ["testserver"]
    # Pages are asked for in this process as well: nothing was collected for them.
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "session", "csrf"
    LOGGING = {**LOGGING, "root": {"handlers": ["stderr"], "level": "WARNING"}}  # noqa: F405
    EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
