# SPDX-License-Identifier: Apache-2.0
"""Who operates the platform, and their sessions: rows of no tenant.

Implements ORGANISATION "Django's admin". An operator is no person of any tenant: the tables know nothing of each other.
"""

from __future__ import annotations

import uuid

from django.db import models

from operators.states import OperatorState


class Operator(models.Model):
    """An account of the platform's operator. Only the owner of the tables writes here: no process that runs may.

    password: an Argon2id hash. totp_key: 20 bytes, in hex.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=40, unique=True)
    password = models.CharField(max_length=128)
    totp_key = models.CharField(max_length=40)
    # A row is kept for ever: tenants' logs name it.
    state = models.CharField(max_length=10, choices=OperatorState.choices, default=OperatorState.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Operator {self.pk}"


class OperatorSession(models.Model):
    """A browser that gave both factors. Its token was never here: only the hash.

    bound: SHA-256 in hex over the password's hash and the authenticator's key, as they were.
    """

    token_hash = models.BinaryField(primary_key=True, max_length=32)
    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="+")
    bound = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"Session of {self.operator_id}"
