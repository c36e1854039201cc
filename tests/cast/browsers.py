# SPDX-License-Identifier: Apache-2.0
"""Browsers of the console's readers, signed in with both factors, and what a page says without its markup."""

from __future__ import annotations

import html
import re
import time
from typing import Any

import django_otp
from django.test import Client

from holdfast.core.base.secret import SecretBytes
from tenants.backends import BACKEND
from tenants.models import Authenticator, Person
from tenants.session_store import SIGNED_IN
from tests.cast.tenants import give_totp


def signed_in(person: Person) -> Client:
    """Return a browser in which this person has given password and code."""
    return signed_in_with(person)[0]


def signed_in_with(person: Person) -> tuple[Client, SecretBytes]:
    """Return such a browser with the key of the person's authenticator, a new one, whose present code is unspent."""
    key = give_totp(person)
    return another_browser(person), key


def another_browser(person: Person) -> Client:
    """Return one more browser of a person's, verified by the authenticator that they have."""
    client = Client()
    client.force_login(person, backend=BACKEND)
    session = client.session
    session[django_otp.DEVICE_ID_SESSION_KEY] = Authenticator.objects.get(user=person).persistent_id
    session[SIGNED_IN] = {
        "tenant": str(person.tenant_id),
        "agent": "Firefox on Linux",
        "source": "127.0.0.1",
        "at": int(time.time()),
    }
    session.save()
    return client


def text_of(answer: Any) -> str:
    """Return what a page says: no tags, entities read, one space between words."""
    plain = re.sub(r"<[^>]+>", " ", answer.content.decode())
    return " ".join(html.unescape(plain).split())
