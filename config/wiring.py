# SPDX-License-Identifier: Apache-2.0
"""What the packages cannot know of each other, said once at start: errors, HSM tokens and role keys."""

from __future__ import annotations

from django.conf import settings

from audit import signing
from config.hsm import open_role_tokens
from config.roles import open_role_keys
from holdfast.core.base import errors as core
from hsm import errors as hsm_errors
from hsm import registry
from kernel import errors, problems, queue


class Malformed(errors.Invalid):
    """A signed or sealed structure is not of the form the protocol fixes."""

    code = "malformed"


class InvalidSignature(errors.Invalid):
    """A signature does not verify."""

    code = "invalid-signature"


class Untrusted(errors.Invalid):
    """A statement does not follow from what is already trusted."""

    code = "untrusted"


class Expired(errors.Invalid):
    """A statement is not valid at this time."""

    code = "expired"


class OutOfBounds(errors.Invalid):
    """A parameter is outside the bounds the protocol allows."""

    code = "out-of-bounds"


class Forked(errors.Conflict):
    """Two valid entries claim the same place in an account chain."""

    code = "chain-forked"


class QuorumNotMet(errors.Denied):
    """The signed approvals do not meet the policy."""

    code = "quorum-not-met"


class HsmUnavailable(errors.Unavailable):
    """The hardware security module is away; nothing was done."""

    code = "hsm-unavailable"
    default_detail = "The hardware security module is away. Nothing was done; retry in a moment."


class UnreadableRecord(errors.Unavailable):
    """A stored record could not be opened; it is kept as it is and an operator must look."""

    code = "record-unreadable"
    default_detail = "A stored record could not be opened. It is kept as it is; tell your operator."


TRANSLATIONS: list[tuple[type[Exception], type[errors.DomainError]]] = [
    (core.Malformed, Malformed),
    (core.InvalidSignature, InvalidSignature),
    (core.Forked, Forked),
    (core.Untrusted, Untrusted),
    (core.Expired, Expired),
    (core.OutOfBounds, OutOfBounds),
    (core.QuorumNotMet, QuorumNotMet),
    (core.UnwrapFailed, UnreadableRecord),
    (hsm_errors.HsmRefused, UnreadableRecord),
    (hsm_errors.HsmError, HsmUnavailable),
]


def wire() -> None:
    """Register translations and the ways in which this process gets its tokens and its role's key."""
    for source, target in TRANSLATIONS:
        problems.translate(source, target)
    registry.install(open_role_tokens)
    signing.install(open_role_keys)
    if settings.CELERY_BROKER_URL:
        from config.celery import run_job

        queue.hint_with(lambda job_id: run_job.apply_async([str(job_id)], retry=False))
