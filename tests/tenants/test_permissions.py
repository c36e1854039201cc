# SPDX-License-Identifier: Apache-2.0
"""The permission matrix, written out a second time: a change must be made here as well, on purpose."""

from __future__ import annotations

import pytest

from tenants.permissions import (
    MATRIX,
    PENDING_DEVICE,
    SESSION,
    PermissionName,
    device_permissions,
    session_permissions,
    suspended_permissions,
)
from tenants.roles import SERVICE_ROLE, Role
from tenants.states import CredentialState

#                    owner officer reviewer auditor helpdesk support member service
TABLE = """
audit:read           x     x       x        x       -        -       -      x
case:approve         -     x       -        -       -        -       -      -
case:collect         x     x       x        -       -        -       x      -
case:open            x     x       x        -       -        -       x      -
case:read            x     x       x        x       -        -       x      -
case:veto            x     x       x        -       -        -       x      -
chain:read           x     x       x        x       -        -       x      x
chain:write          x     x       x        x       -        -       x      -
console:enter        x     x       x        x       x        x       -      -
contacts:answer      x     x       x        -       -        -       x      -
contacts:ask         x     x       x        x       -        -       x      -
contacts:read        x     x       x        x       -        -       x      -
contacts:veto        x     x       x        x       -        -       x      -
contacts:write       x     x       x        x       -        -       x      -
coverage:read        x     x       x        x       -        -       -      x
deposit:read         x     x       x        -       -        -       x      -
deposit:write        x     x       x        -       -        -       x      -
device:read          x     x       x        x       x        x       x      x
device:suspend       x     x       -        -       -        -       -      -
device:write         x     x       x        x       -        -       x      -
enrolment:create     x     x       -        -       x        -       -      -
escrow:read          x     x       x        x       -        -       x      x
letter:send          x     x       x        x       -        -       x      -
me:read              x     x       x        x       x        x       x      -
message:read         x     x       x        x       -        -       x      -
message:send         x     x       x        -       -        -       x      -
officer:sign         -     x       -        -       -        -       -      -
person:administer    x     -       -        -       -        -       -      -
person:find          x     x       x        x       x        x       x      -
person:read          x     x       x        x       x        x       -      -
policy:propose       x     x       -        -       -        -       -      -
prekey:claim         x     x       x        -       -        -       x      x
prekey:write         x     x       x        x       -        -       x      -
statement:read       x     x       x        x       -        -       x      x
statement:write      x     x       x        x       -        -       x      -
tenant:administer    x     -       -        -       -        -       -      -
vault:read           x     x       x        x       -        -       x      -
vault:write          x     x       x        x       -        -       x      -
"""
ROLES = [*Role.values, SERVICE_ROLE]
ROWS = [(words[0], dict(zip(ROLES, words[1:], strict=True))) for words in map(str.split, TABLE.strip().splitlines())]


def test_matrix_names_every_permission_and_every_role() -> None:
    assert [name for name, _ in ROWS] == sorted(PermissionName)
    assert set(MATRIX) == {*Role.values, SERVICE_ROLE}


@pytest.mark.parametrize(("name", "granted"), ROWS)
def test_matrix_grants_what_the_table_says(name: str, granted: dict[str, str]) -> None:
    assert {role: name in MATRIX[role] for role in ROLES} == {role: mark == "x" for role, mark in granted.items()}


@pytest.mark.parametrize("role", [*ROLES, "root", ""])
@pytest.mark.parametrize("state", [*CredentialState.values, "enabled", ""])
def test_device_permissions_are_empty_for_every_state_but_active_and_pending(role: str, state: str) -> None:
    expected = MATRIX.get(role, frozenset())
    if state == "pending":
        expected &= PENDING_DEVICE
    elif state == "active":
        expected |= suspended_permissions(role)
    else:
        expected = frozenset()
    assert device_permissions(role, state) == expected


def test_pending_device_can_be_listed_open_a_door_and_ask_for_recovery_and_nothing_else() -> None:
    assert device_permissions(Role.MEMBER, "pending") == {
        "case:collect", "case:open", "case:read", "chain:read", "chain:write", "contacts:ask", "contacts:read",
        "deposit:read", "device:read", "escrow:read", "letter:send", "message:read", "statement:read", "vault:read",
    }  # fmt: skip


@pytest.mark.parametrize("role", [*ROLES, "root", ""])
def test_devices_of_every_person_forbid_cases_about_their_owner_and_suspended_ones_nothing_else(role: str) -> None:
    left = {"case:read", "case:veto", "statement:read"} if role in Role.values else set()
    assert suspended_permissions(role) == left
    assert device_permissions(role, "active") >= left


@pytest.mark.parametrize("role", ROLES)
def test_sessions_look_and_administer_behind_a_step_up_and_do_nothing_that_needs_a_key(role: str) -> None:
    permissions = session_permissions(role)
    assert permissions <= SESSION
    acts = {"device:suspend", "enrolment:create", "person:administer", "tenant:administer"}
    assert all(name.endswith((":read", ":enter")) or name in acts for name in permissions)


def test_member_sees_the_pages_about_themselves_and_a_program_sees_none() -> None:
    assert session_permissions(Role.MEMBER) == {"me:read"}
    assert session_permissions(SERVICE_ROLE) == session_permissions("root") == frozenset()
    assert all("me:read" in session_permissions(role) for role in Role.values)


@pytest.mark.parametrize("state", CredentialState.values)
def test_service_account_never_approves_opens_or_collects_a_case(state: str) -> None:
    forbidden = {
        "case:approve",
        "case:open",
        "case:collect",
        "case:veto",
        "enrolment:create",
        "console:enter",
        "officer:sign",
    }
    assert not device_permissions(SERVICE_ROLE, state) & forbidden
