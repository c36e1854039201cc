# SPDX-License-Identifier: Apache-2.0
"""One request of the API, as the fault tests send it right and then wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from django.test import Client

from tests.cast.tenants import Signer


@dataclass(frozen=True)
class Act:
    """One request: who signs it (nobody when the route takes a code), and what is sent where."""

    signer: Signer | None
    method: str
    uri: str
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return b"" if self.document is None else json.dumps(self.document).encode()

    def send(self, body: bytes | None = None, *, content_type: str = "application/json") -> Any:
        """Send it, or another body under the same signature's name. Nothing is raised for a 500: it is the answer."""
        sent = self.body if body is None else body
        signed = self.signer.headers(self.method, self.uri, sent) if self.signer else {}
        answer = Client(raise_request_exception=False).generic(
            self.method, self.uri, sent, content_type=content_type, headers={**signed, **self.headers}
        )
        # Whatever is sent: only a tile is the same for everybody who may have it, for ever.
        is_tile = "/tiles/" in self.uri and answer.status_code == 200
        assert answer.has_header("cache-control") != is_tile, self.uri
        assert is_tile or answer["cache-control"] == "no-store"
        return answer

    def with_field(self, name: str, value: Any) -> Act:
        return replace(self, document={**self.document, name: value})

    def without_field(self, name: str) -> Act:
        return replace(self, document={key: value for key, value in self.document.items() if key != name})
