# SPDX-License-Identifier: Apache-2.0
"""Signed requests: RFC 9421 in the one form of `holdfast.core.signed.requests`, verified into an Actor.

Implements ORGANISATION "Requests". Every refusal is the same 401 with the server's time: which check failed is said to
nobody; but whoever signed with a registered key hears that it is revoked or suspended. Sessions are no credential here,
so no REST address can be reached by a forged form.
Specification: https://www.rfc-editor.org/rfc/rfc9421 section 3.2.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from holdfast.core.base.errors import InvalidSignature, Malformed
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key, verify
from holdfast.core.signed.requests import TURN, WINDOW_SECONDS, components, digest_matches, parse_signature
from holdfast.core.signed.turns import Answered, Turn, follow
from kernel import acts
from kernel.actors import ANONYMOUS, Actor
from kernel.errors import TooLarge, Unauthenticated
from kernel.scope import open_scope
from kernel.strict_json import MAX_BODY
from tenants import log_tokens
from tenants.credentials import ANSWERED_TURN, Barred, Known, Moved, Spend, look_up, mark_use
from tenants.errors import AccessSuspended, DeviceRevoked
from tenants.limits import strangers
from tenants.models import Nonce
from tenants.sources import source_of

# Longer than the window, so that a clock that is set back by up to four minutes brings no signature back that was used.
NONCE_SECONDS: Final = 300
_NONCE_SIZE: Final = 16  # bytes, as clients draw them


class SignedRequestAuthentication(BaseAuthentication):
    """Authenticates devices and service accounts, and opens their tenant's scope for the rest of the request.

    Addresses whose `tenancy` is public or enrolment get the anonymous actor: there a signature proves nothing. Where a
    view takes log tokens, one in the header Authorization stands in the place of the signature; one anywhere else, in
    an address above all, is no credential (FAULTS A9).
    """

    def authenticate(self, request: Request) -> tuple[Actor, None]:
        """Return the actor. Raises Unauthenticated, or TooLarge for a body above the address's own limit."""
        view = (request.parser_context or {}).get("view")
        if getattr(view, "tenancy", "tenant") != "tenant":
            return ANONYMOUS, None
        if request.method in getattr(view, "log_token_methods", ()) and "authorization" in request.headers:
            actor = _token_actor(request._request)
        else:
            actor = verified_actor(
                request._request,
                max_body=getattr(view, "max_body", MAX_BODY),
                admits_suspended=request.method in getattr(view, "suspended_methods", ()),
                spends_in_act=request.method in getattr(view, "spends_in_act", ()),
            )
        assert actor.tenant_id is not None
        open_scope(actor.tenant_id)
        return actor, None

    def authenticate_header(self, request: Request) -> str:
        return 'Signature realm="holdfast"'


def verified_actor(
    request: HttpRequest, *, max_body: int, admits_suspended: bool = False, spends_in_act: bool = False
) -> Actor:
    """Verify a request's signature and return who made it: one SELECT, one INSERT, once a day one UPDATE.

    admits_suspended: whether a suspended device, or a suspended person's, is let in here, to what is left to it.
    spends_in_act: whether the INSERT is left to the request's act (`kernel.acts`), with what it raises.

    Raises Unauthenticated for every failure alike, DeviceRevoked or AccessSuspended for a right signature by a key that
    acts no more, and TooLarge before a larger body is read. Raises Throttled for
    whoever sends too many requests, and in the place of Unauthenticated for a source of too many that fail.
    """
    try:
        signed = _verify(request, max_body, admits_suspended)
    except (DeviceRevoked, AccessSuspended):
        strangers.count(source_of(request))
        raise
    except (Malformed, InvalidSignature, Unauthenticated) as error:
        strangers.count(source_of(request))
        raise Unauthenticated from error
    if spends_in_act and not signed.is_shared:
        acts.defer(signed)
    else:
        signed.now()
    return signed.actor


def _token_actor(request: HttpRequest) -> Actor:
    """Return which log token a request brings: unknown, expired, revoked and malformed ones are one refusal."""
    source = source_of(request)
    actor = log_tokens.actor_of(request.headers["authorization"])
    if actor is None:
        strangers.count(source)
        raise Unauthenticated
    # A pull draws on the budgets that a signed request does. Its nonce is ours, and so never a repeated one.
    Spend(actor, secrets.token_bytes(_NONCE_SIZE), expires_at=timezone.now(), source=source).now()
    return actor


class _Signed:
    """The spend of a signed request, and what follows once it was the first to bring its nonce."""

    def __init__(self, request: HttpRequest, known: Known, spend: Spend, answered: Answered | None) -> None:
        self._request, self._known, self._spend, self._answered = request, known, spend, answered
        self.actor = known.actor
        self.is_shared = spend.is_shared

    def now(self) -> None:
        with self._counted():
            self._spend.now()
            mark_use(self._known)
        self._answer()

    def take(self) -> None:
        with self._counted():
            self._spend.take()
            mark_use(self._known)

    def keep(self) -> None:
        self._spend.keep()
        self._answer()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except Unauthenticated:
            strangers.count(source_of(self._request))
            raise

    def _answer(self) -> None:
        if self._answered:
            setattr(self._request, ANSWERED_TURN, self._answered.text)


def _verify(request: HttpRequest, max_body: int, admits_suspended: bool) -> _Signed:
    # (1) the header fields, in their one form; (2) the time, by our clock; (3) the credentials with this id, one of a
    # tenant, as they stand now; (4) whose key signed, over the address we know ourselves by, never over the Host that a
    # client named; (5) the body against the digest that was signed; (6) the nonce, last, so that nobody burns another's
    # and, with it, one of the requests that its owner has left.
    method = request.method or ""
    headers = request.headers
    parameters, signature = parse_signature(
        method, headers.get("signature-input", ""), headers.get("signature", ""), turn=headers.get(TURN, "")
    )
    turn = Turn.parse(parameters.turn) if parameters.turn else None
    now = timezone.now().timestamp()
    if abs(now - parameters.created) > WINDOW_SECONDS:
        raise Unauthenticated
    namesakes = look_up(parameters.keyid, admits_suspended=admits_suspended)
    target_uri = settings.HOLDFAST_PUBLIC_URL + request.get_full_path()
    digest = headers.get("content-digest", "")
    known = _signer(namesakes, signature, parameters.base(target_uri=target_uri, digest=digest))
    if "content-digest" in components(method):
        _check_body(request, digest, max_body)
    expires_at = datetime.fromtimestamp(parameters.created + NONCE_SECONDS + 1, UTC)
    _, turned = follow(known.turn, turn, int(now))
    moved = Moved(known.turn, turned) if turned != known.turn else None
    spend = Spend(known.actor, parameters.nonce, expires_at=expires_at, source=source_of(request), moved=moved)
    answered = None
    if turn:
        answered = Answered(turn.mark, turned.breaks if turned.is_break and turned.mark == turn.mark else 0)
    return _Signed(request, known, spend, answered)


def _signer(namesakes: Sequence[Known | Barred], signature: bytes, base: bytes) -> Known:
    for known in namesakes:
        try:
            verify(_key(known.public_key), signature, base)
        except InvalidSignature:
            continue
        if isinstance(known, Barred):
            raise known.refusal
        return known
    raise Unauthenticated


def _check_body(request: HttpRequest, digest: str, max_body: int) -> None:
    length: Any = request.META.get("CONTENT_LENGTH") or "0"
    if not str(length).isdecimal() or int(length) > max_body:
        raise TooLarge(f"The body may have at most {max_body} octets.")
    if not digest_matches(digest, request.body):
        raise Unauthenticated


@lru_cache(maxsize=4096)
def _key(encoded: bytes) -> PublicKey:
    # A public key is a value: parsing it again for every request would cost as much as a look-up.
    return decode_public_key(encoded, expect=SIGNING_KINDS)


def heard_lately() -> set[UUID]:
    """Return the tenants of whom a signed request came within a minute: their devices hold their clocks to the logs'.

    By when a device says that it signed, which is within a minute of the truth, or it would not have been heard.
    """
    since = timezone.now() + timedelta(seconds=NONCE_SECONDS - WINDOW_SECONDS)
    heard = Nonce.objects.filter(expires_at__gt=since).order_by().values_list("tenant_id", flat=True)
    return set(heard.distinct())
