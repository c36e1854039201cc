# SPDX-License-Identifier: Apache-2.0
"""A bare Django view over the floor's one statement, prepared: no signature, no nonce, no middleware, no serializer."""

from __future__ import annotations

import json
import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from bench.peers.bare_sql import CLAIM, DEVICES
from bench.world import Serving, serving

_SQL = CLAIM.format(device="%(device)s")
_NAMES = ("device_statement", "signed_pre_key", "chain_head", "leaf", "proof")


def claim(request: HttpRequest, device: int) -> HttpResponse:
    """Hand out one key."""
    json.loads(request.body)
    with connection.cursor() as cursor:
        cursor.execute(_SQL, {"device": device})
        row = cursor.fetchone()
    bundle = {name: urlsafe_b64encode(value).decode() for name, value in zip(_NAMES, row, strict=True)}
    body = json.dumps(bundle).encode()
    return HttpResponse(body, content_type="application/json", headers={"content-length": str(len(body))})


urlpatterns = [path("devices/<int:device>/claim", claim), path("", lambda _: HttpResponse())]


def application(environ: object, start_response: object) -> object:
    """Serve. Django is set up when granian's worker asks first, so that this module can be read without."""
    return _handler()(environ, start_response)


def _handler() -> WSGIHandler:
    global _made  # noqa: PLW0603
    if _made is None:
        where = urlsplit(os.environ["HOLDFAST_DATABASE_URL"])
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": where.path[1:],
            "USER": where.username,
            "HOST": where.hostname,
            "PORT": where.port,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"prepare_threshold": 0, "server_side_binding": True},
        }
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DATABASES={"default": database})
        django.setup()
        _made = WSGIHandler()
    return _made


_made: WSGIHandler | None = None


def request(device: int) -> bytes:
    """Make a claim of a device, counted from 0."""
    return (
        f"POST /devices/{device % DEVICES + 1}/claim HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        "content-length: 2\r\n\r\n{}"
    ).encode()


@contextmanager
def django_view() -> Iterator[Serving]:
    """Serve it as ours is served: granian, one worker, eight threads."""
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "bench.peers.django_view:application", "--no-ws"]
    command += ["--workers", "1", "--blocking-threads", "8", "--backpressure", "64", "--log-level", "error"]
    with serving(command, {}, path="/") as made:
        yield made
