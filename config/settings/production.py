# SPDX-License-Identifier: Apache-2.0
"""Production: every unsafe posture is refused, by these lines or by config/checks.py at every process's start."""

from __future__ import annotations

from config.env import ENV, secret_key
from config.refusal import refuse
from config.settings.base import *  # noqa: F403

HOLDFAST_PRODUCTION = True
HOLDFAST_REHEARSAL = ENV.rehearsal
SECRET_KEY = secret_key(needed=True)
if not ENV.database_url:
    # Otherwise `migrate` would make a database of SQLite beside the code, and succeed.
    refuse("HOLDFAST_DATABASE_URL is not set: postgres://user@host/name.")
ALLOWED_HOSTS = [*ENV.allowed_hosts, ENV.public_host]
SECURE_SSL_REDIRECT = True
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_HSTS_SECONDS = 2 * 365 * 86400
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SESSION_COOKIE_NAME = "__Host-session"
CSRF_COOKIE_NAME = "__Host-csrf"
HOLDFAST_ADMIN_COOKIE = "__Host-operator"
HOLDFAST_CLOSE_MEMORY = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
