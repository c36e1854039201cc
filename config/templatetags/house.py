# SPDX-License-Identifier: Apache-2.0
"""What every page of ours says of the installation, signed in or not."""

from __future__ import annotations

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def is_rehearsal() -> bool:
    """Tell whether production settings run on a software HSM, so that nothing real may be kept here."""
    return bool(settings.HOLDFAST_REHEARSAL)
