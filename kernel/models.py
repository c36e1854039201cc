# SPDX-License-Identifier: Apache-2.0
"""Rows of shared plumbing: the job table (outbox and lease queue in one), heartbeats and replayable answers.

PLATFORM "Work that takes time". Neither holds a secret: a job carries ids only.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from kernel.scope import TenantModel


class JobState(models.TextChoices):
    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"


class Job(TenantModel):
    """Work that was promised inside a business transaction."""

    kind = models.CharField(max_length=80)
    queue = models.CharField(max_length=20)
    payload: models.JSONField[Any, Any] = models.JSONField(default=dict)
    unique = models.CharField(max_length=200, null=True)
    run_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.READY)
    attempts = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    # Grows with every lease: a holder whose lease ran out cannot complete what another took over.
    fence = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["queue", "state", "run_at"], name="job_due"),
            # Leads the sweep to what is over, however much is not.
            models.Index(fields=["created_at"], condition=models.Q(state=JobState.DONE), name="job_done"),
            # What operators look for among all that was done.
            models.Index(fields=["tenant_id"], condition=models.Q(state=JobState.DEAD), name="job_dead"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant_id", "kind", "unique"],
                condition=models.Q(state__in=[JobState.READY, JobState.LEASED]),
                name="job_unique_while_open",
            )
        ]


class Heartbeat(models.Model):
    """When one lane of a background process was last seen at work: `worker/mail`, `sequencer`. No tenant's data."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Heartbeat of {self.name}"


class ReplayableAnswer(TenantModel):
    """The answer once given under an idempotency key, to be given again word for word."""

    actor_id = models.UUIDField()
    key = models.CharField(max_length=64)
    request_hash = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField()
    body = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "actor_id", "key"], name="answer_once_per_key")
        ]
        indexes: ClassVar = [models.Index(fields=["tenant_id", "actor_id", "created_at"], name="answer_by_age")]
