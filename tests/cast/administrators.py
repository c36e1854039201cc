# SPDX-License-Identifier: Apache-2.0
"""Administrators in their browsers: they look at an act, read it, and confirm it with their authenticator's code."""

from __future__ import annotations

import html
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django_otp
from django.test import Client

from holdfast.core.base.secret import SecretBytes
from kernel.clock import database_now
from tenants import sign_in
from tenants.backends import BACKEND
from tenants.models import Authenticator, Person, Sponsorship
from tests.cast.tenants import forget_codes, give_totp


@dataclass
class Administrator:
    """A person with a browser and an authenticator."""

    person: Person
    client: Client
    key: SecretBytes

    def code(self) -> str:
        """The authenticator's present code, which nobody has used yet."""
        forget_codes(self.person)
        return sign_in.totp_code(self.key, at=time.time())

    def look(self, act: str, subject: Any = None, **given: str) -> Any:
        return self.client.post(address(act, subject), given)

    def confirm(self, page: Any, act: str, subject: Any = None, *, code: str | None = None, **changes: str) -> Any:
        """Send the form that a page of an act shows, with a code."""
        given = hidden(page) | changes
        return self.client.post(address(act, subject), {**given, "code": self.code() if code is None else code})

    def do(self, act: str, subject: Any = None, **given: str) -> Any:
        page = self.look(act, subject, **given)
        assert page.status_code == 200, page.content.decode()
        return self.confirm(page, act, subject)


def administrator(person: Person) -> Administrator:
    key = give_totp(person)
    client = Client()
    client.force_login(person, backend=BACKEND)
    session = client.session
    session[django_otp.DEVICE_ID_SESSION_KEY] = Authenticator.objects.get(user=person).persistent_id
    session.save()
    return Administrator(person, client, key)


def address(act: str, subject: Any = None) -> str:
    return f"/console/acts/{act}/{subject.pk}/" if subject is not None else f"/console/acts/{act}/"


def hidden(page: Any) -> dict[str, str]:
    """Return what a page's forms carry unseen: what was typed before, and the token for what is shown."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.content.decode())
    return {name: html.unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}


def settle(*people: Person) -> None:
    """Make people active for long, and let in by nobody of the tenant's: they may be the second behind an act."""
    ids = [one.pk for one in people]
    Person.unscoped.filter(pk__in=ids).update(active_since=database_now() - timedelta(days=30))
    Sponsorship.unscoped.filter(person_id__in=ids).delete()
