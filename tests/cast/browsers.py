# SPDX-License-Identifier: Apache-2.0
"""Browsers of the console's readers, signed in with both factors, and what a page says without its markup."""

from __future__ import annotations

import html
import re
from typing import Any

import django_otp
from django.test import Client

from tenants.backends import BACKEND
from tenants.models import Authenticator, Person
from tests.cast.tenants import give_totp


def signed_in(person: Person) -> Client:
    """Return a browser in which this person has given password and code."""
    give_totp(person)
    client = Client()
    client.force_login(person, backend=BACKEND)
    session = client.session
    session[django_otp.DEVICE_ID_SESSION_KEY] = Authenticator.objects.get(user=person).persistent_id
    session.save()
    return client


def text_of(answer: Any) -> str:
    """Return what a page says: no tags, entities read, one space between words."""
    plain = re.sub(r"<[^>]+>", " ", answer.content.decode())
    return " ".join(html.unescape(plain).split())
