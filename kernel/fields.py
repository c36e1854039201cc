# SPDX-License-Identifier: Apache-2.0
"""The few serializer fields that every app's REST edge shares.

PROTOCOL section 3: binaries are base64url without padding, decoded strictly; times are RFC 3339 UTC.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Malformed


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "description": "base64url without padding"})
class Base64UrlField(serializers.Field[bytes, str, str, Any]):
    """Octets in JSON. `length` fixes their number, `max_length` bounds it (octets, not characters)."""

    default_error_messages: ClassVar = {
        "type": "Must be a string in base64url without padding.",
        "alphabet": "Is not base64url without padding (A-Z a-z 0-9 - _, no '=', no stray bits).",
        "length": "Must be exactly {length} octets.",
        "max_length": "Must be at most {max_length} octets.",
    }

    def __init__(self, *, length: int | None = None, max_length: int = 64 * 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length
        self.max_length = max_length

    def to_internal_value(self, data: Any) -> bytes:
        if not isinstance(data, str):
            self.fail("type")
        try:
            octets = unb64u(data)
        except Malformed:
            self.fail("alphabet")
        if self.length is not None and len(octets) != self.length:
            self.fail("length", length=self.length)
        if len(octets) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return octets

    def to_representation(self, value: Any) -> str:
        return b64u(bytes(value))


@extend_schema_field(OpenApiTypes.DATETIME)
class UtcField(serializers.Field[datetime, str, str, Any]):
    """An instant, in JSON as RFC 3339 UTC to the second: `2026-11-24T10:00:00Z`."""

    default_error_messages: ClassVar = {"form": "Must be a UTC time like 2026-11-24T10:00:00Z."}

    def to_internal_value(self, data: Any) -> datetime:
        try:
            return datetime.strptime(data, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except (TypeError, ValueError):
            self.fail("form")

    def to_representation(self, value: datetime) -> str:
        return rfc3339(value)


def rfc3339(value: datetime) -> str:
    """Write an instant as the API does."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class NumberField(serializers.IntegerField):
    """A whole number in JSON: neither its text nor a fraction that happens to be whole."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class IdField(serializers.UUIDField):
    """An id in a list: its one text form, neither a number nor braces around it."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str) or len(data) != 36:
            self.fail("invalid", value="This")
        return super().to_internal_value(data)


# REST framework takes a number for each of these and makes text, or an id, of it.
_TEXT = (serializers.CharField, serializers.ChoiceField, serializers.UUIDField)


class StrictSerializer(serializers.Serializer[Any]):
    """A request or answer shape in which an unknown field, or a number for text, is an error (FAULTS I7a)."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            refuse_unknown(data, self.fields)
            for name, field in self.fields.items():
                if isinstance(field, _TEXT) and not isinstance(data.get(name, ""), str | None):
                    raise serializers.ValidationError({name: ["Must be a string."]})
        return super().to_internal_value(data)


def refuse_unknown(data: Mapping[str, Any], known: Container[str]) -> None:
    """Raise a ValidationError that names every field that is not known."""
    unknown = sorted(name for name in data if name not in known)
    if unknown:
        raise serializers.ValidationError({name[:80]: ["This field is not known here."] for name in unknown})


class Empty(StrictSerializer):
    """A body with no fields: `{}`."""
