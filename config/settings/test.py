# SPDX-License-Identifier: Apache-2.0
"""Tests: the embedded form in a directory of its own, or PostgreSQL when HOLDFAST_TEST_POSTGRES names a server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from config.database import database, sqlite
from config.env import ENV
from config.settings.base import *  # noqa: F403

# One directory per test session, shared with the processes that a test starts (they inherit it).
_state = Path(os.environ.setdefault("HOLDFAST_STATE_DIR", tempfile.mkdtemp(prefix="holdfast-test-")))
if os.environ.get("PYTEST_XDIST_WORKER", _state.name) != _state.name:
    # Tests side by side each have a directory, and so a database, of their own.
    _state = _state / os.environ["PYTEST_XDIST_WORKER"]
    _state.mkdir(exist_ok=True)
    os.environ["HOLDFAST_STATE_DIR"] = str(_state)
HOLDFAST_STATE_DIR = _state
HOLDFAST_RELEASE_DIR = ENV.release_dir or _state / "release"
HOLDFAST_SEQUENCER_DIR = ENV.sequencer_dir or _state / "sequencer"
SECRET_KEY = "only-for-tests-" + "0" * 50
# Full cost belongs to what is measured; here the same rules run at the least.
PASSWORD_HASHERS = ["tests.hashers.QuickArgon2PasswordHasher"]
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
HOLDFAST_PUBLIC_URL = os.environ.get("HOLDFAST_PUBLIC_URL", "http://testserver")
CSRF_TRUSTED_ORIGINS = [HOLDFAST_PUBLIC_URL]
HOLDFAST_CLOSE_MEMORY = False
HOLDFAST_CASES_PER_DAY = 1000
HOLDFAST_CONTACTS_DELAY_SECONDS = ENV.contacts_delay_seconds or 0
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True

_postgres = os.environ.get("HOLDFAST_TEST_POSTGRES", "")
DATABASES = {"default": database(_postgres, state_dir=_state) if _postgres else sqlite(_state / "test.sqlite3")}
if _postgres:
    # A test holds its transaction to its end, also while it only thinks.
    DATABASES["default"]["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"
else:
    # A file, not memory: threads and other processes must see the same database.
    DATABASES["default"]["TEST"] = {"NAME": str(_state / "test.sqlite3")}
    # Tests kill processes, never the machine: what the kernel has is read back, and no commit waits for the disk.
    DATABASES["default"]["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"
