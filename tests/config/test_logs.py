# SPDX-License-Identifier: Apache-2.0
"""The logs of the processes: an event is one line, whatever text of others it has, and says when, who and for what."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import resolve
from django.utils.log import log_response

from config import env
from config.logs import StrangersRequest, WithoutAddress, formatter
from tests.cast.texts import ESCAPED, SHOWN_WHOLE
from tests.checks import PROJECT

HOSTILE = "x\n2026-01-01 CRITICAL FORGED\x1b[2J\u202e\x9b\r\u2028\x85\x0b\x0c\x1e"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@contextmanager
def written(name: str, form: str = "text") -> Iterator[Callable[[], list[str]]]:
    """Have a logger write as the processes do, in one of the two forms, and give the lines that it wrote."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(env.ENV, "log_format", form)
        chosen = logging.config.DictConfigurator({"version": 1}).configure_custom(
            dict(settings.LOGGING["formatters"]["line"])  # type: ignore[index]
        )
    handler.setFormatter(chosen)
    log = logging.getLogger(name)
    handler.addFilter(WithoutAddress())
    if name == "django.security":
        handler.addFilter(StrangersRequest())
    kept, log.propagate, level = log.propagate, False, log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield lambda: said.getvalue().split("\n")[:-1]
    finally:
        log.removeHandler(handler)
        log.propagate = kept
        log.setLevel(level)


def test_every_text_is_logged_as_it_was_written_and_what_would_be_obeyed_as_an_escape() -> None:
    for text, said in ({text: text for text in SHOWN_WHOLE} | ESCAPED).items():
        entry = formatter().format(logging.LogRecord("tests", logging.INFO, "x", 1, "said “%s”", (text,), None))
        assert entry.endswith(f"said “{said}”")


def fail() -> None:
    try:
        int(HOSTILE)
    except ValueError:
        raise KeyError(HOSTILE) from None


EVENTS: list[tuple[str, Callable[[logging.Logger], None]]] = [
    ("a name", lambda log: log.warning("case %s waits", HOSTILE)),
    ("a stack", lambda log: log.warning("case %s waits", HOSTILE, stack_info=True)),
    ("a message of many lines", lambda log: log.error("case x\ny\r\nz waits")),
    ("what has no end", lambda log: log.error("case %s waits", "\x1b" * 1_000_000)),
    ("halves of pairs", lambda log: log.error("case %s waits", "\ud800")),
]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("event", [event for _, event in EVENTS], ids=[name for name, _ in EVENTS])
def test_event_is_one_line_that_speaks_to_no_terminal(event: Callable[[logging.Logger], None], form: str) -> None:
    with written("tests.logs", form) as lines:
        event(logging.getLogger("tests.logs"))
        (line,) = lines()
    assert len(line.splitlines()) == 1
    assert not {sign for sign in line if not sign.isprintable()}
    assert "case" in line
    assert len(line.encode()) < 48 * 1024  # where journald parts a line


@pytest.mark.parametrize("form", ["text", "json"])
def test_trace_is_part_of_its_line(form: str) -> None:
    with written("tests.logs", form) as lines:
        try:
            fail()
        except KeyError:
            logging.getLogger("tests.logs").exception("it failed")
        (line,) = lines()
    assert "in fail" in line
    assert "KeyError" in line
    assert "FORGED" in line
    assert not {sign for sign in line if not sign.isprintable()}


def test_line_says_when_in_utc_as_which_role_and_for_which_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with written("tests.logs") as lines:
        logging.getLogger("tests.logs").warning("case %s waits", HOSTILE)
        (line,) = lines()
    assert re.match(rf"{TIME} WARNING tool tests\.logs case x<U\+000A>2026-01-01 CRITICAL FORGED<U\+001B>", line)


def test_json_has_a_field_for_each_of_these() -> None:
    with written("tests.logs", "json") as lines:
        logging.getLogger("tests.logs").warning("case %s waits", "x", extra={"status": 200, "secret": "never"})
        (line,) = lines()
    said = json.loads(line)
    assert re.fullmatch(TIME, said.pop("time"))
    assert said == {
        "level": "warning",
        "role": "tool",
        "logger": "tests.logs",
        "event": "case x waits",
        "status": 200,
    }


def test_form_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="HOLDFAST_LOG_FORMAT: Input should be 'text' or 'json'"):
        env.read()


ID = "0197f0aa-7d1c-7aaa-8aaa-aaaaaaaaaaaa"
SECRET = "c2VjcmV0LXRva2VuLW9mLWEtbGluaw"
REQUESTS = [
    ("GET", f"/livez?code={SECRET}&state={SECRET}", "GET /livez 200"),
    ("GET", f"/readyz?{SECRET}", "GET /readyz "),
    ("GET", f"/console/invitation/{ID}/{SECRET}/", "/<str:token>/"),
    ("GET", f"/console/password-reset/{ID}/{SECRET}/", "/<str:token>/"),
    ("GET", f"/console/invitation/{SECRET}", "GET (no address of ours) 404"),
    ("GET", f"/{SECRET}?x=\x1b[2J", "GET "),
    ("GET", f"/static/{SECRET}.css", "GET (no address of ours) 404"),
    ("POST", f"/api/v1/cases/{ID}/veto?token={SECRET}", "/veto 4"),
    ("GET", f"/api/v1/vault/doors/{SECRET}", "GET /api/v1/vault/doors/<str:kind> 401"),
]


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(("method", "address", "said"), REQUESTS, ids=[said for _, _, said in REQUESTS])
def test_request_is_a_line_without_what_its_address_says(method: str, address: str, said: str, form: str) -> None:
    with written("holdfast.access", form) as lines:
        answer = Client().generic(method, address, secure=True)
        (line,) = lines()
    assert SECRET not in line
    assert "127.0.0.1" in line
    assert answer["x-request-id"] in line
    if form == "json":
        fields = json.loads(line)
        assert (fields["method"], fields["status"], fields["source"]) == (method, answer.status_code, "127.0.0.1")
        assert isinstance(fields["ms"], int)
        line = f"{fields['method']} {fields['path']} {fields['status']}"
    assert said in line


@pytest.mark.django_db
def test_lines_of_one_request_have_its_number_and_no_other_has() -> None:
    client = Client()
    with written("holdfast") as lines:
        # The proxy that nobody trusts is a line of its own.
        sent: dict[str, Any] = {
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "HTTP_X_REQUEST_ID": "forged",
            "REMOTE_ADDR": "192.0.2.9",
        }
        first = client.get("/livez", **sent)
        second = client.get("/livez")
        logging.getLogger("holdfast").warning("between")
        *of_first, of_second, between = lines()
    assert len(of_first) == 2
    assert all(f"[request={first['x-request-id']}]" in line for line in of_first)
    assert f"[request={second['x-request-id']}]" in of_second
    assert first["x-request-id"] != second["x-request-id"]
    assert "request=" not in between
    assert "forged" not in "".join(lines())


SUSPICIOUS: list[tuple[str, dict[str, Any]]] = [
    ("/livez", {"HTTP_HOST": "evil.example"}),
    ("/livez", {"HTTP_HOST": "evil example\x1b[2J"}),
    ("/livez", {"HTTP_HOST": "x" * 9000}),
    ("/livez", {"HTTP_HOST": ""}),
    ("/livez?x=%00", {}),
    ("/console/sign-in/", {"CONTENT_LENGTH": "99999999", "REQUEST_METHOD": "POST"}),
]


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(("address", "sent"), SUSPICIOUS)
def test_strangers_wrong_request_is_one_line_and_no_alarm(address: str, sent: dict[str, Any], form: str) -> None:
    with written("django.security", form) as lines:
        answer = Client().get(address, **sent)
        (line,) = lines()
    assert answer.status_code in (400, 413)
    assert "warning" in line.lower()
    assert "Traceback" not in line
    assert "add" not in line, "nobody is advised to let a stranger's host in"


@pytest.mark.django_db
def test_what_django_says_of_a_request_names_no_token() -> None:
    address = f"/console/invitation/{ID}/{SECRET}/"
    with written("django.security") as lines:
        assert Client(enforce_csrf_checks=True).post(address).status_code == 403
        (line,) = lines()
    assert "/console/invitation/" in line
    assert SECRET not in line
    with written("django.request") as lines:
        request = RequestFactory().get(address)
        request.resolver_match = resolve(address)
        log_response(
            "%s: %s", "Internal Server Error", request.path, request=request, response=HttpResponse(status=500)
        )
        (line,) = lines()
    assert "/<str:token>/" in line
    assert SECRET not in line


def test_settings_send_each_event_to_one_handler() -> None:
    """What the tests above attach by hand is what the processes have."""
    security = settings.LOGGING["loggers"]["django.security"]  # type: ignore[index]
    assert security == {"handlers": ["stranger"], "propagate": False}
    stranger = settings.LOGGING["handlers"]["stranger"]  # type: ignore[index]
    assert stranger["filters"] == ["stranger", "address"]
    stderr = settings.LOGGING["handlers"]["stderr"]  # type: ignore[index]
    assert stderr["filters"] == ["address"]
    assert isinstance(formatter(), logging.Formatter)


ENDING = """
import logging, threading
import config.logs
logging.basicConfig(handlers=[logging.StreamHandler()])
logging.root.handlers[0].setFormatter(config.logs.formatter())
config.logs.log_what_ends_this_process(logging.getLogger("holdfast.process"))
def fail():
    raise ValueError("of a thread\\nFORGED")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("of the process\\nFORGED")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_ends_a_process_is_a_line_too(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        cwd=PROJECT,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "HOLDFAST_LOG_FORMAT": form},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    of_thread, of_process = done.stderr.splitlines()
    assert "of a thread" in of_thread
    assert "of the process" in of_process
    assert "CRITICAL" in of_process or json.loads(of_process)["level"] == "critical"
