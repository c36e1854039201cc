# SPDX-License-Identifier: Apache-2.0
"""The base of every REST view: declared permissions, strict input, one transaction, replayable answers.

Implements PLATFORM "REST". It knows no role (tenants does) and no status of a refusal (problems does).
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, Final, cast
from uuid import UUID

from django.db import DatabaseError, IntegrityError, InterfaceError
from django.db.models import Count
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from kernel import acts
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, DomainError, Invalid, MalformedRequest
from kernel.models import ReplayableAnswer
from kernel.strict_json import MAX_BODY, dumps
from kernel.sweeps import delete_in_batches

# How long a request may be repeated and is answered as before: a client's outbox gives up long before.
ANSWER_LIFE: Final = timedelta(days=30)
# How many are kept of one actor. An honest client makes some hundred POSTs a day, an outbox that works off a thousand
# messages a thousand: 50,000 in 30 days are 1,667 on every one of them. At about a kibibyte each they are 50 MB.
MOST_ANSWERS: Final = 50_000
# One write in so many looks whether there are more, so that the others pay nothing and the surplus stays in hundreds.
TRIM_ONE_IN: Final = 100
log = logging.getLogger("holdfast.api")

_VARY: Final = ("Authorization", "Signature-Input", "Signature")
_KEY = re.compile(r"[\x21-\x7e]{1,64}")


class IdempotencyKeyReused(Invalid):
    """This idempotency key was used for another request."""

    code = "idempotency-key-reused"


class IdempotencyKeyMissing(MalformedRequest):
    """This address needs an Idempotency-Key header."""

    code = "idempotency-key-missing"


class _Replayed(Exception):
    """Ends a request before its handler: the answer was given already."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Reply:
    """What a view will answer, decided inside its transaction so that it can be stored with the act."""

    def __init__(self) -> None:
        self.status = 204
        self.body = b""
        self.headers: dict[str, str] = {}

    def send(self, data: Mapping[str, Any], status: int = 201) -> None:
        """Answer with a JSON document."""
        self.status = status
        self.body = dumps(data)

    @property
    def response(self) -> Response:
        """The answer as REST framework wants it; the octets are final."""
        return Response(self.body or None, status=self.status, headers=self.headers)


class ApiView(APIView):
    """One address of the REST API.

    `permission_names` maps every method it serves to the permission it needs; a method that is
    not listed is refused before the view runs. `tenancy` says whose data the address shows:
    `tenant` (the actor's own; another's ids are not found), `enrolment` (a single-use code is the
    credential) or `public` (no tenant's data). A test refuses a route that declares neither.
    `suspended_methods` are those that a suspended device or person may use; every other answers them like a stranger.
    `taking_methods` are those whose answer counts as taken, though they only look: a GET that changes something.
    `restored_methods` are those that change something even while the tenant's database is a backup that was put back
    and that nobody has accepted; every other but looking is refused.
    `log_token_methods` are those that a log token may use in the place of a signature.
    `spends_in_act` are those whose requests are spent in the transaction of their act (`kernel.acts`). Before it such a
    method changes nothing, and costs no more than its validation: a replay is found out only there.
    """

    permission_names: ClassVar[Mapping[str, str]] = {}
    tenancy: ClassVar[str] = "tenant"
    suspended_methods: ClassVar[frozenset[str]] = frozenset()
    taking_methods: ClassVar[frozenset[str]] = frozenset()
    restored_methods: ClassVar[frozenset[str]] = frozenset()
    log_token_methods: ClassVar[frozenset[str]] = frozenset()
    spends_in_act: ClassVar[frozenset[str]] = frozenset()
    max_body: ClassVar[int] = MAX_BODY
    idempotency_required: ClassVar[bool] = False
    # A view whose own rows answer a repeated key (the claims' do) spares the general look-up.
    replays_by_itself: ClassVar[bool] = False
    # A view whose act undoes itself when it is refused spares the look-up before it: the answer that was stored under a
    # repeated key is looked for when the act was refused, or finds that answer in the place of its own.
    replays_late: ClassVar[bool] = False
    # What is the same for everybody who may have it, for ever. Any other answer is one caller's, of one moment.
    is_cacheable: ClassVar[bool] = False

    @property
    def actor(self) -> Actor:
        """Who acts, as authentication found."""
        return cast(Actor, self.request.user)

    def valid(self, serializer: type[BaseSerializer[Any]], request: Request) -> dict[str, Any]:
        """Parse the body by a serializer. Raises a 400 problem that names every field at fault."""
        parsed = serializer(data=request.data)
        parsed.is_valid(raise_exception=True)
        return cast(dict[str, Any], parsed.validated_data)

    @contextmanager
    def writing(self, request: Request) -> Iterator[Reply]:
        """Open the one transaction of a mutating request, and store its answer under the idempotency key.

        The act, its audit entry and the stored answer commit together or not at all (FAULTS D3).
        """
        reply, is_begun = Reply(), False
        key = self._idempotency_key(request)
        try:
            with acts.act():
                is_begun = True
                yield reply
                if key is not None:
                    ReplayableAnswer.objects.create(
                        actor_id=self.actor.id,
                        key=key,
                        request_hash=_request_hash(request),
                        status=reply.status,
                        body=reply.body,
                    )
        except (DomainError, IntegrityError) as error:
            # What was not begun is a replay of the signature itself, or comes too often: that is the answer to it.
            if is_begun and key is not None and self.replays_late:
                self._replay(request, key)
            if isinstance(error, IntegrityError) and (
                "answer_once_per_key" in str(error) or "kernel_replayableanswer" in str(error)
            ):
                raise Conflict("The same request is being answered right now. Retry in a moment.") from error
            raise
        if key is not None and random.randrange(TRIM_ONE_IN) == 0:  # noqa: S311 — spreads load
            _trim_answers(self.actor)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.before_handler(request)

    def before_handler(self, request: Request) -> None:
        """Look at the idempotency key of a request that is let in. Ends the request when its answer is stored."""
        if self.idempotency_required and request.method == "POST":
            self.idempotency_key(request)
        key = self._idempotency_key(request)
        if key is not None and not (self.replays_by_itself or self.replays_late):
            self._replay(request, key)

    def idempotency_key(self, request: Request) -> str:
        """Return the key of a request whose view requires one. Raises IdempotencyKeyMissing."""
        key = self._idempotency_key(request)
        if key is None:
            raise IdempotencyKeyMissing("Send an Idempotency-Key header, a fresh one per act.", field="idempotency-key")
        return key

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, self.spent(response), *args, **kwargs)
        self.guard_from_caches(answer)
        return answer

    def guard_from_caches(self, answer: HttpResponseBase) -> None:
        """Say of an answer that it is not kept, or of the few that may be, for whom it is."""
        if not self.is_cacheable or answer.status_code != 200:
            answer["cache-control"] = "no-store"
        # Who asks stands in signature or token: a cache on the way must not hand one caller's answer to another.
        if answer.has_header("vary"):
            patch_vary_headers(answer, _VARY)
        else:
            answer["vary"] = ", ".join(_VARY)

    def spent(self, response: Any) -> Any:
        """Spend what is left to spend: whatever was to be answered, it is not to whoever sent a replay."""
        error = _settle()
        return response if error is None else self.handle_exception(error)

    def handle_exception(self, exc: Exception) -> Response:
        exc = _settle() or exc
        if isinstance(exc, _Replayed):
            return exc.response
        return super().handle_exception(exc)

    def _replay(self, request: Request, key: str) -> None:
        """Answer as before, if this key was answered before (FAULTS D3)."""
        answer = ReplayableAnswer.objects.filter(actor_id=self.actor.id, key=key).first()
        if answer is None:
            return
        if bytes(answer.request_hash) != _request_hash(request):
            raise IdempotencyKeyReused("Use a fresh key for each act.", field="idempotency-key")
        body = bytes(answer.body) or None
        raise _Replayed(Response(body, status=answer.status, headers={"idempotent-replay": "true"}))

    def _idempotency_key(self, request: Request) -> str | None:
        key = request.headers.get("idempotency-key")
        if key is None or request.method != "POST" or self.actor.id is None:
            return None
        if not _KEY.fullmatch(key):
            raise MalformedRequest("Must be 1 to 64 visible ASCII characters.", field="idempotency-key")
        return key


def _settle() -> Exception | None:
    """Spend what no act has spent; return the refusal that comes of it."""
    try:
        acts.settle()
    except (DomainError, DatabaseError, InterfaceError) as error:
        return error
    return None


def count_answers(actor_ids: Collection[UUID]) -> int:
    """Return the most answers that are stored for one of these actors."""
    rows = ReplayableAnswer.objects.filter(actor_id__in=actor_ids).values("actor_id").order_by()
    return max(rows.annotate(count=Count("pk")).values_list("count", flat=True), default=0)


def sweep_answers() -> int:
    """Delete the stored answers, of every tenant, that nobody repeats a request for any more; return how many."""
    return delete_in_batches(ReplayableAnswer.unscoped.filter(created_at__lt=database_now() - ANSWER_LIFE))


def _trim_answers(actor: Actor) -> None:
    """Delete an actor's stored answers beyond the newest MOST_ANSWERS; after the act, so that it waits for nothing."""
    mine = ReplayableAnswer.objects.filter(actor_id=actor.id)
    newest_surplus = mine.order_by("-created_at").values_list("created_at", flat=True)[MOST_ANSWERS : MOST_ANSWERS + 1]
    try:
        for at in newest_surplus:
            delete_in_batches(mine.filter(created_at__lte=at))
    except DatabaseError as error:
        # The act is committed, and its answer must not say that nothing was done. The next look does it.
        log.warning("stored answers were not trimmed: %s", type(error).__name__)


def _request_hash(request: Request) -> bytes:
    """Identify the request a key was used for: its method, its address and its body."""
    digest = request.headers.get("content-digest", "")
    return hashlib.sha256(f"{request.method} {request.get_full_path()} {digest}".encode()).digest()
