# SPDX-License-Identifier: Apache-2.0
"""Verbs on operators' accounts: added, given new secrets, removed. The owner of the tables alone calls them.

Implements ORGANISATION "Django's admin". No tenant's log is told: it is none of theirs. The ceremony's transcript is.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from holdfast.core.base import typed
from holdfast.core.base.secret import SecretBytes
from kernel.errors import Conflict, Invalid, NotFound
from kernel.transitions import advance
from operators.models import Operator, OperatorSession
from operators.states import OPERATOR, OperatorState

# Letters that look like no others, so that two accounts never look alike in a list.
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,39}")
TOTP_KEY_SIZE: Final = 20  # bytes: as long as the hash that RFC 6238 uses


def add(*, name: str, password: SecretBytes) -> tuple[Operator, SecretBytes]:
    """Make an account, and return it with the key of its authenticator, which is shown once.

    Raises Invalid for a name or a password that will not do, and Conflict for a name that is or was in use.
    """
    if not _NAME.fullmatch(name):
        raise Invalid("A name has 2 to 40 small letters, digits and hyphens, and begins with a letter.", field="name")
    if Operator.objects.filter(name=name).exists():
        raise Conflict(f"There is, or was, an operator {name}: logs name them. Take another name.")
    key = SecretBytes(secrets.token_bytes(TOTP_KEY_SIZE))
    made = Operator.objects.create(name=name, password=_hashed(password), totp_key=key.reveal().hex())
    return made, key


def reset(*, name: str, password: SecretBytes) -> tuple[Operator, SecretBytes]:
    """Give an operator another password and authenticator, and end their sessions. Returns and raises as `add` does.

    Raises NotFound unless the account is active.
    """
    key, hashed = SecretBytes(secrets.token_bytes(TOTP_KEY_SIZE)), _hashed(password)
    with transaction.atomic():
        operator = _active(name)
        operator.password, operator.totp_key = hashed, key.reveal().hex()
        operator.save(update_fields=["password", "totp_key"])
        OperatorSession.objects.filter(operator=operator).delete()
    return operator, key


def remove(*, name: str) -> Operator:
    """End an account for ever; its sessions stop with the next request. Raises NotFound unless it is active."""
    with transaction.atomic():
        operator = _active(name)
        # What could open it goes as well: an account that is over needs no secrets.
        advance(operator, OPERATOR, OperatorState.REMOVED, password=make_password(None), totp_key="")
        OperatorSession.objects.filter(operator=operator).delete()
    return operator


def everybody() -> list[Operator]:
    """List all accounts by name, also those that are over."""
    return list(Operator.objects.order_by("name"))


def _active(name: str) -> Operator:
    operator = Operator.objects.select_for_update().filter(name=name, state=OperatorState.ACTIVE).first()
    if operator is None:
        raise NotFound(f"There is no operator {name}: manage.py operator list.")
    return operator


def _hashed(password: SecretBytes) -> str:
    text = typed.password(typed.text_of(password.reveal(), "the password"))
    try:
        validate_password(text)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages), field="password") from error
    return make_password(text)
