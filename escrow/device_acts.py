# SPDX-License-Identifier: Apache-2.0
"""The acts on one device: suspend it, and let it go on.

Implements ORGANISATION "Acts". They stand in this app because what m officers suspended, by a resolution, no one
person lets go on (ESCROW "Case").
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from escrow import access
from kernel.actors import Actor
from kernel.errors import Conflict
from keys import access as keys
from keys.models import Device
from keys.states import DeviceState
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.acts.act import Act, Done, Given, Words
from tenants.permissions import PermissionName
from tenants.states import CredentialState, PersonState


class _OnDevice(Act):
    kind = "device"
    permission = PermissionName.DEVICE_SUSPEND
    state: ClassVar[CredentialState]

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Device:
        assert subject_id is not None
        if lock:
            tenants_access.credential_for_update(subject_id)
        return keys.device(subject_id)

    def is_offered(self, actor: Actor, subject: Device) -> bool:
        return self._is_in_state(subject)

    def _is_in_state(self, subject: Device) -> bool:
        # A device that waits for its chain is nobody's yet, and a revoked one has ended.
        return subject.state == DeviceState.ACTIVE and tenants_access.credential_state(subject.id) == self.state

    def require_state(self, subject: Device) -> None:
        if not self._is_in_state(subject):
            state = tenants_access.credential_state(subject.id)
            raise Conflict(f"The device is {subject.state}, and its requests are {state}: there is nothing to do.")

    def facts(self, subject: Device) -> tuple[tuple[str, str], ...]:
        owner = tenants_access.person(subject.user_id)
        return (("Device", subject.name), ("Of", owner.name), ("Device id", str(subject.id)))

    def concerns(self, subject: Device) -> UUID:
        return subject.user_id


class SuspendDevice(_OnDevice):
    """Stop one device's requests for now."""

    name = "device-suspend"
    title = "Suspend the device"
    summary = "It is let in no more until resumed, and colleagues stop sending to it."
    state = CredentialState.ACTIVE
    is_dangerous = True

    def words(self, actor: Actor, subject: Device, given: Given) -> Words:
        self.require_state(subject)
        lines = (
            "Its requests stop with the next one. Peers are told that it is suspended, and stop sending to it.",
            "It can still veto a case about its owner. Its owner’s other devices, and their keys, are untouched.",
            "If it is lost or stolen, its owner revokes it as well, on another device: only that ends its keys.",
        )
        return Words(f"Suspend {subject.name}", lines, self.facts(subject))

    def do(self, actor: Actor, subject: Device, given: Given) -> Done:
        tenants.suspend_credential(credential_id=subject.id, actor=actor)
        return Done(f"{subject.name} is suspended.", "Let it go on.", subject.id)


class ResumeDevice(_OnDevice):
    """Let a suspended device go on."""

    name = "device-resume"
    title = "Let the device go on"
    summary = "It is let in again, and colleagues send to it."
    lets_in = True
    state = CredentialState.SUSPENDED

    def is_offered(self, actor: Actor, subject: Device) -> bool:
        is_free = not access.is_suspended_by_officers(subject.id)
        return self._is_in_state(subject) and is_free and not self._has_left(subject)

    def _has_left(self, subject: Device) -> bool:
        return tenants_access.person(subject.user_id).state == PersonState.LEFT

    def words(self, actor: Actor, subject: Device, given: Given) -> Words:
        if self._has_left(subject):
            raise Conflict("Its owner has left. Their devices stay off; whoever returns is invited anew.")
        if access.is_suspended_by_officers(subject.id):
            raise Conflict("A resolution of the officers suspended this device. No one person lets it go on.")
        self.require_state(subject)
        lines = ("Its requests are taken again. What was sent to its owner meanwhile waits on the server.",)
        return Words(f"Let {subject.name} go on", lines, self.facts(subject))

    def do(self, actor: Actor, subject: Device, given: Given) -> Done:
        tenants.activate_credential(credential_id=subject.id, actor=actor)
        return Done(f"{subject.name} goes on.", "Suspend it.", subject.id)


ACTS: tuple[Act, ...] = (SuspendDevice(), ResumeDevice())
