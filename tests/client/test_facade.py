# SPDX-License-Identifier: Apache-2.0
"""`Client`: one object for an app, from any thread, that holds its profile and gives it back.

The whole of it against a live server is in docs/quickstart.md and tests/journeys.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from holdfast import Client
from holdfast.client.errors import ConsentNeeded, NotPossible, NotYet, ProfileError
from holdfast.client.escrow import archive
from holdfast.client.facets import secret
from holdfast.client.identity import device
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode, founding_root
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import TENANT, URL
from tests.cast.members import ALICE, BOB, CHEAP, Members

PASSPHRASE = "the passphrase of a profile"


def opened(account: Account) -> Client:
    return Client(account, contextlib.ExitStack())


def test_message_is_handed_out_until_it_is_done(world: Members) -> None:
    alice, bob = opened(world.published(ALICE)), opened(world.published(BOB))
    sent = alice.send(bob.user, "grüß dich".encode())
    assert sent.is_sent
    (first,) = bob.receive()
    (again,) = bob.receive()
    assert first == again
    assert (first.text, first.sender, first.conversation, first.is_copy) == ("grüß dich", alice.user, alice.user, False)
    assert first.sent_at.tzinfo is not None
    again.done()
    assert bob.receive() == []


def test_pending_device_is_told_what_it_lacks_before_it_sends(world: Members) -> None:
    world.published(ALICE)
    bob = opened(world.published(BOB))
    phone = opened(world.enrolled(ALICE))
    assert not phone.is_active
    with pytest.raises(ProfileError, match="not part of your account") as refused:
        phone.send(bob.user, b"hello")
    assert "holdfast devices approve" in refused.value.way_out
    assert bob.receive() == []


def test_calls_from_many_threads_lose_and_repeat_nothing(world: Members) -> None:
    alice, bob = opened(world.published(ALICE)), opened(world.published(BOB))
    alice.send(bob.user, b"first")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: alice.send(bob.user, b"%d" % number), range(40)))

        def take(_turn: int) -> list[bytes]:
            found = [one for one in bob.receive() if one.content != b"first"]
            return [one.content for one in found]

        looks = list(threads.map(take, range(4)))
    assert sorted(looks[-1], key=int) == [b"%d" % number for number in range(40)]
    for message in bob.receive():
        message.done()
    assert bob.receive() == []


def test_message_says_done_from_another_thread_while_the_client_works(world: Members) -> None:
    alice, bob = opened(world.published(ALICE)), opened(world.published(BOB))
    for number in range(6):
        alice.send(bob.user, b"%d" % number)
    found = bob.receive()
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda message: (message.done(), bob.receive()), found))
    assert bob.receive() == []


def test_closed_client_refuses_and_closes_again_without_a_word(world: Members) -> None:
    alice = opened(world.published(ALICE))
    with alice:
        assert alice.is_active
        assert len(alice.words) == len(alice.identity_words) == 8
    alice.close()
    with pytest.raises(NotPossible, match="closed"):
        alice.receive()
    with pytest.raises(NotPossible, match="closed"):
        alice.backup.status()


def test_open_client_keeps_its_profile_to_itself(tmp_path: Path) -> None:
    account = accounts.create(
        tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=SecretBytes(PASSPHRASE.encode()), cost=CHEAP
    )
    account.state.server = URL
    account.save()
    account.close()
    with Client.open(tmp_path / "p", passphrase=PASSPHRASE) as client:
        assert client.user == UUID(bytes=ALICE)
        with pytest.raises(ProfileError):
            Client.open(tmp_path / "p", passphrase=PASSPHRASE)
    Client.open(str(tmp_path / "p"), passphrase=PASSPHRASE.encode()).close()


def test_open_gives_the_profile_back_when_it_cannot_go_on(tmp_path: Path) -> None:
    accounts.create(
        tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=SecretBytes(PASSPHRASE.encode()), cost=CHEAP
    ).close()
    for _ in range(2):
        with pytest.raises(ProfileError, match="no server"):
            Client.open(tmp_path / "p", passphrase=PASSPHRASE)


def test_enrol_refuses_a_server_without_encryption_and_makes_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        Client.enrol("http://holdfast.example", "hf2.x", profile=tmp_path / "p", passphrase=PASSPHRASE)
    assert not (tmp_path / "p").exists()


def test_maintenance_and_rotation_go_through_the_client(world: Members) -> None:
    alice, bob = opened(world.published(ALICE)), opened(world.published(BOB))
    alice.send(bob.user, b"before")
    before = alice.identity_words
    assert alice.rotate({"identity"}).is_done
    assert alice.identity_words != before
    alice.send(bob.user, b"after")
    assert [one.content for one in bob.receive()] == [b"before", b"after"]
    assert {one.item for one in alice.maintain()} >= {"pre-keys", "rotation"}


def test_secret_in_any_form_is_one_that_prints_itself_nowhere() -> None:
    assert secret("pässword") == secret("pässword".encode()) == SecretBytes("pässword".encode())
    assert secret(None) is None
    assert "word" not in repr(secret("password"))


def test_escrow_is_agreed_to_deposited_and_looked_at_through_the_client(world: Members) -> None:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    alice = opened(account)
    assert "Escrow of your archive keys" in alice.escrow.consent_text()
    with pytest.raises(ConsentNeeded):
        alice.escrow.deposit()
    alice.escrow.consent(agreed=True)
    assert alice.escrow.deposit() == [1]
    status = alice.escrow.status()
    assert (status.consent, status.readable, status.consent_bound_until) == ("given", [1], 0)
    document = {
        "version": 1,
        "until": "2027-01-01T00:00:00Z",
        "people": 1,
        "agreed": 1,
        "refused": 0,
        "older": 0,
        "none": 0,
    }
    row = {"person_id": str(alice.user), "name": "Alice", "answer": "agreed", "at": "2026-12-01T00:00:00Z"}
    world.server.instead["GET escrow/policy-answers"] = lambda _body: (
        200,
        document | {"answers": [row], "more": False},
    )
    found = alice.escrow.answers()
    assert (found.agreed, [(one.person_id, one.answer) for one in found.answers]) == (1, [(alice.user, "agreed")])


@pytest.mark.parametrize("unpublished", [("escrow/policy", "escrow/key"), ("escrow/key",)])
def test_escrow_that_is_not_set_up_says_so_and_what_helps_until_then(
    world: Members, unpublished: tuple[str, ...]
) -> None:
    for path in unpublished:
        world.server.instead[f"GET {path}"] = lambda _body: refused(409, "escrow-off")
    root = founding_root(TENANT, world.server.tenant.root.public)
    vkey = world.server.keys_log.verifier("audit").to_text()
    code = EnrolmentCode.new(tenant=TENANT, person=ALICE, log_vkey=vkey, founding_root=root)
    account = world.profile(ALICE)
    device.enrol(account, code, name="laptop")
    escrow = opened(account).escrow
    for act in (escrow.status, escrow.consent_text, escrow.deposit):
        with pytest.raises(NotYet, match="is not set up yet") as error:
            act()
        assert "holdfast backup" in error.value.way_out
