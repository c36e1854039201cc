# SPDX-License-Identifier: Apache-2.0
"""The console's password hashing at the least cost that the client, too, would accept; for tests that sign in."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class QuickArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id over 19 MiB in one lane, where an installation takes 100 MiB in eight."""

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
