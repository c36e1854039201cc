# SPDX-License-Identifier: Apache-2.0
"""Operators of the platform, their authenticators and their browsers; the admin mounted as its setting mounts it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.test import Client, override_settings
from django.urls import clear_url_caches

from config import urls
from holdfast.core.base.secret import SecretBytes
from operators import accounts
from operators.models import Operator
from tenants.models import RateWindow
from tenants.sign_in import totp_code

PASSWORD = "correct horse battery staple"
SIGN_IN = "/admin/sign-in/"


@contextmanager
def admin_mounted() -> Iterator[None]:
    """Let the product's addresses be those of an installation with HOLDFAST_ADMIN=1."""
    with override_settings(HOLDFAST_ADMIN=True):
        _read_again()
        yield
    _read_again()


def _read_again() -> None:
    importlib.reload(urls)
    clear_url_caches()


@dataclass
class Desk:
    """An operator with their authenticator."""

    operator: Operator
    key: SecretBytes

    @property
    def code(self) -> str:
        return totp_code(self.key, at=time.time())

    def give(self, browser: Client, **changed: str) -> Any:
        """Send the sign-in form, from an address of the documentation's unless `source` names another."""
        source = changed.pop("source", "192.0.2.9")
        typed = {"name": self.operator.name, "password": PASSWORD, "code": self.code, **changed}
        return browser.post(SIGN_IN, typed, REMOTE_ADDR=source)

    def browser(self) -> Client:
        """Return a browser in which they signed in, with every code unspent before."""
        forget_codes()
        made = Client()
        assert self.give(made).status_code == 302
        return made


def make_operator(name: str = "petra") -> Desk:
    return Desk(*accounts.add(name=name, password=SecretBytes(PASSWORD.encode())))


def forget_codes() -> None:
    """Make every code of every operator unspent."""
    RateWindow.objects.filter(key__startswith="totp:operator:").delete()
