# SPDX-License-Identifier: Apache-2.0
"""Officers whose roster is numbered anew, and outside cases, by the command, in an installation of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.client.identity import tenant
from holdfast.client.officers import officer_keys
from holdfast.core.signed.cose import Purpose, encode_many, sign
from tests.cast.server import Installation, installation
from tests.journeys.demo import WAIT_SECONDS, Person, Walk

_PUBLISH = """
import sys
from escrow import services
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants.models import Tenant
tenant = Tenant.objects.get(slug="acme")
with tenant_scope(tenant.pk):
    services.publish_policy(statement=bytes.fromhex("{statement}"), actor=system_actor(tenant.pk, "ceremony"))
"""


def renumber(walk: Walk, running: Installation, officers: list[Person], order: tuple[int, ...]) -> None:
    """Have the officers sign and the ceremony publish a version that differs in the order of its roster alone."""
    signed, payload = [], b""
    for who in officers:
        with walk.library(who) as account:
            tenant.refresh(account)
            before = account.trusted.newest
            roster = before.policy.roster
            made = replace(
                before.policy,
                header=replace(before.policy.header, issued_at=account.api.clock.earliest()),
                version=before.policy.version + 1,
                roster=tuple(replace(roster[place - 1], index=index) for index, place in enumerate(order, 1)),
                predecessor=before.hash,
                held_in_force=before.hash,
            )
            payload = payload or made.to_payload()
            signed.append(sign(payload, purpose=Purpose.POLICY, key=officer_keys.keys_of(account).signing))
    running.manage("shell", "-c", _PUBLISH.format(statement=encode_many(signed).hex()), HOLDFAST_ROLE="ceremony")


def recover_over_both_rosters(walk: Walk, running: Installation, officers: list[Person]) -> None:
    """A deposit of either roster, one case for both, approved by officers whose numbers have changed, opened."""
    walk.laptop, tablet = walk.person("alice-laptop"), walk.person("alice-tablet")
    walk.officers = {who.name: who for who in officers}
    alice = walk.enrol(walk.laptop, walk.code_of("alice"), "laptop")["user_id"]
    walk.deposit_and_encrypt()
    renumber(walk, running, officers, (2, 1, 3))
    walk.holdfast(walk.laptop, "rotate")
    deposited = walk.holdfast(walk.laptop, "escrow", "deposit", "--yes")["deposited"]
    # The old generation's too, under the version of now: it is the new one's that is asked for beside the old deposit.
    new = max(deposited, key=lambda one: one["generation"])["deposit_id"]
    walk.enrol(tablet, walk.issue_code("erin", alice), "tablet")
    asked = ("--deposit", walk.deposit, "--deposit", new)
    opened = walk.holdfast(tablet, "recover", "escrow", "open", "--reason", "Laptop lost.", *asked)
    walk.case, walk.case_words = opened["case_id"], opened["recipient_words"]
    for name in ("carol", "dan"):
        walk.approve(name)
    done = walk.holdfast(tablet, "recover", "escrow", "collect", "--wait", WAIT_SECONDS)
    assert (len(done["generations"]), done["blamed"]) == (2, [])
    back = walk.here / "letter-again.txt"
    walk.holdfast(tablet, "archive", "decrypt", str(walk.sealed), "--out", str(back))
    assert back.read_bytes() == walk.letter.read_bytes()


def sign_a_version(walk: Walk, carol: Person, dan: Person, erin: Person) -> None:
    """The next version, proposed by one officer and signed by two, each on their own machine; a member is asked."""
    asked = walk.holdfast(erin, "officer", "policy", "propose", "--undelivered-delay", "300d", expect=8)
    assert "Nobody answered" in asked["error"]["message"]
    made = walk.holdfast(erin, "officer", "policy", "propose", "--undelivered-delay", "300d", "--yes")
    assert (made["version"], made["lowers"], made["missing"]) == (3, [], 2)
    (shown,) = walk.holdfast(carol, "officer", "policy", "show")["proposals"]
    assert any("When notice fails: " in line and "→ 300 days" in line for line in shown["changes"])
    name = made["hash"][:8]
    assert walk.holdfast(carol, "officer", "policy", "cancel", name, "--yes", expect=4)["error"]["code"] == "denied"
    assert walk.holdfast(carol, "officer", "policy", "sign", name, "--yes")["missing"] == 1
    assert walk.holdfast(dan, "officer", "policy", "sign", name, "--yes")["state"] == "published"
    report = walk.holdfast(walk.laptop, "maintain")["items"]
    assert "→ 300 days" in " ".join(one["said"] for one in report if one["item"] == "escrow")
    answers = walk.holdfast(carol, "officer", "policy", "answers")
    assert (answers["version"], answers["agreed"]) == (3, 0)
    assert walk.holdfast(carol, "officer", "key", "sign", expect=1)["error"]["message"].startswith(
        "No escrow key waits"
    )


@pytest.mark.timeout(600)
def test_officers_stand_and_resolve_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with installation() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        walk = Walk(running.url, running.demo)
        carol, dan, erin = officers = [walk.resident(name) for name in ("carol", "dan", "erin")]
        for who in officers:
            walk.enrol_resident(who)

        # A code for another officer takes two, and neither is that officer.
        code, dans = walk.here / "dan-again.code", walk.holdfast(dan, "doctor")["user_id"]
        issued = walk.holdfast(carol, "officer", "code", dans, "--out", str(code))
        confirm = issued["confirm"].split()[1:]
        again = walk.person("dan-again")
        enrol = ("enrol", "--server", walk.server, "--code-file", str(code), "--name", "new", "--development")
        assert walk.holdfast(again, *enrol, expect=4)["error"]["code"] == "enrolment-refused"
        assert walk.holdfast(carol, *confirm, expect=4)["error"]["code"] == "confirmation-refused"
        walk.holdfast(erin, *confirm)
        assert walk.holdfast(again, *enrol)["state"] == "pending"
        told = {one["event"] for one in walk.holdfast(dan, "receive")["notices"]}
        # Beside what the founding told them.
        founding = {"escrow-key-proposed", "policy-proposed", "policy-published"}
        assert told - founding == {"code-issued", "device-enrolled"}

        recover_over_both_rosters(walk, running, officers)

        away = walk.holdfast(dan, "officer", "away", "--yes", "--reason", "On leave.")
        assert away["standing"] == "away"
        # Two are left, and two are needed.
        assert walk.holdfast(carol, "officer", "away", "--yes", expect=4)["error"]["code"] == "officer-needed"
        walk.holdfast(dan, "officer", "back", "--yes")

        asked = walk.holdfast(carol, "officer", "suspend", "3", "--reason", "Lost laptop.", expect=8)
        assert "Nobody answered" in asked["error"]["message"]
        walk.holdfast(carol, "officer", "suspend", "3", "--reason", "Lost laptop.", "--yes")
        assert walk.holdfast(erin, "officer", "back", "--yes", expect=4)["error"]["code"] == "officer-moved"
        proposed = walk.holdfast(carol, "officer", "resolve", "return-officer", "3", "--yes")
        (listed,) = walk.holdfast(dan, "officer", "resolutions")["resolutions"]
        assert (listed["hash"], listed["signed_by"], listed["needed"]) == (proposed["hash"], [2], 2)
        walk.holdfast(erin, "officer", "sign", proposed["hash"][:8], "--yes", expect=1)
        assert walk.holdfast(dan, "officer", "sign", proposed["hash"][:8], "--yes")["state"] == "passed"

        # What was suspended proposes again: the log as it is, and one leaf of it.
        accepted = walk.holdfast(erin, "officer", "resolve", "accept-log", "--yes")
        assert walk.holdfast(carol, "officer", "sign", accepted["hash"][:8], "--yes")["state"] == "passed"
        leaf = walk.holdfast(erin, "officer", "resolve", "acknowledge-leaf", "3", "--yes")
        assert (leaf["act"], leaf["number"], leaf["state"]) == ("acknowledge-leaf", 3, "open")
        walk.holdfast(carol, "officer", "resolve", "withdraw-version", "2", "--yes", expect=1)

        sign_a_version(walk, carol, dan, erin)
        walk.holdfast(carol, "officer", "remove", "3", "--reason", "Left.", "--yes")
        assert walk.holdfast(erin, "officer", "back", "--yes", expect=4)["error"]["code"] == "officer-moved"

        # Erin's laptop is in other hands: from here on its veto ends nothing.
        (laptop,) = walk.holdfast(erin, "devices", "list")["devices"]
        lost = walk.holdfast(carol, "officer", "resolve", "suspend-device", laptop["device_id"], "--yes")
        assert (lost["act"], lost["device_id"], lost["state"]) == ("suspend-device", laptop["device_id"], "open")
        assert walk.holdfast(dan, "officer", "sign", lost["hash"][:8], "--yes")["state"] == "passed"
        assert walk.holdfast(erin, "devices", "list", expect=4)["error"]["code"] == "access-suspended"
