# SPDX-License-Identifier: Apache-2.0
"""An e-mail address is whom the directory first said, until a person says otherwise. ORGANISATION "Directory"."""

from __future__ import annotations

import contextlib
from uuid import UUID

import pytest

from holdfast import Client
from holdfast.cli.people import person
from holdfast.cli.shell import Shell
from holdfast.client.errors import AddressChanged, AnswerRefused, Problem, Unreachable, WrongInput
from holdfast.client.identity import addresses, contacts
from holdfast.client.officers import acts
from holdfast.client.profile.account import Account
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, MALLORY, Members

BOBS = "bob@acme.test"
MINUTES = 60


@pytest.fixture
def alice(world: Members) -> Account:
    world.server.addresses[BOBS] = BOB
    world.published(BOB)
    world.published(MALLORY)
    return world.published(ALICE)


def opened(account: Account) -> Client:
    return Client(account, contextlib.ExitStack())


def look_ups(world: Members) -> int:
    return sum((method, path) == ("GET", "users") for method, path, _ in world.server.log)


def shell(*, is_json: bool = False) -> Shell:
    return Shell(named_profile=None, passphrase_file=None, passphrase_fd=None, is_json=is_json)


def test_message_goes_to_the_person_whose_address_it_is(world: Members, alice: Account) -> None:
    assert opened(alice).send(" BOB@Acme.test", b"hello").is_sent
    (posted,) = [path for method, path, _ in world.server.log if method == "POST" and path.endswith("/messages")]
    assert posted == f"users/{text(BOB)}/messages"


@pytest.mark.parametrize("who", [UUID(bytes=BOB), text(BOB), text(BOB).upper()])
def test_id_is_taken_as_it_is_and_nobody_is_asked(world: Members, alice: Account, who: addresses.Who) -> None:
    assert addresses.person_of(alice, who) == UUID(bytes=BOB)
    assert look_ups(world) == 0


@pytest.mark.parametrize("who", ["", "bob", "bob@", "@acme.test", "bob@acme.test,x@y.z", "b\u202eob@acme.test"])
def test_what_is_neither_id_nor_address_is_refused_before_anybody_is_asked(
    world: Members, alice: Account, who: str
) -> None:
    with pytest.raises(WrongInput, match="address"):
        addresses.person_of(alice, who)
    assert look_ups(world) == 0


def test_first_answer_is_pinned_and_another_person_is_refused_until_it_is_forgotten(
    world: Members, alice: Account
) -> None:
    first = addresses.find(alice, BOBS)
    assert (first.person, first.is_new) == (UUID(bytes=BOB), True)
    world.server.addresses[BOBS] = MALLORY
    world.now += 6 * MINUTES
    with pytest.raises(AddressChanged, match=text(MALLORY)) as changed:
        opened(alice).send(BOBS, b"for bob alone")
    assert text(BOB) in str(changed.value)
    assert "holdfast contacts forget bob@acme.test" in changed.value.way_out
    assert not [path for method, path, _ in world.server.log if method == "POST" and path.endswith("/messages")]
    assert addresses.list_pinned(alice) == {BOBS: UUID(bytes=BOB)}
    # By id the person of before is reached as ever.
    assert opened(alice).send(UUID(bytes=BOB), b"still you").is_sent
    opened(alice).contacts.forget_address("Bob@acme.test")
    assert opened(alice).contacts.find(BOBS) == addresses.Found(UUID(bytes=MALLORY), BOBS, is_new=True)


def test_address_that_the_directory_lost_is_refused_and_names_who_it_was(world: Members, alice: Account) -> None:
    addresses.find(alice, BOBS)
    del world.server.addresses[BOBS]
    world.now += 6 * MINUTES
    with pytest.raises(AddressChanged, match="knows nobody by it any more") as changed:
        addresses.find(alice, BOBS)
    assert text(BOB) in str(changed.value)


def test_unknown_address_is_nobody_and_pins_nothing(world: Members, alice: Account) -> None:
    with pytest.raises(WrongInput, match="Nobody whom you can reach") as nobody:
        addresses.find(alice, "nobody@acme.test")
    assert not isinstance(nobody.value, AddressChanged)
    assert addresses.list_pinned(alice) == {}
    with pytest.raises(WrongInput, match="pinned to nobody"):
        addresses.forget(alice, "nobody@acme.test")


def test_pinned_address_is_asked_for_again_after_five_minutes_and_holds_without_the_server(
    world: Members, alice: Account
) -> None:
    addresses.find(alice, BOBS)
    world.now += 4 * MINUTES
    assert not addresses.find(alice, BOBS).is_new
    assert look_ups(world) == 1
    world.now += 2 * MINUTES
    addresses.find(alice, BOBS)
    assert look_ups(world) == 2
    world.now += 6 * MINUTES
    world.server.lost.add("GET users")
    assert addresses.find(alice, BOBS).person == UUID(bytes=BOB)
    with pytest.raises(Unreachable):
        addresses.find(alice, "carol@acme.test")


def test_clock_put_back_asks_again(world: Members, alice: Account) -> None:
    addresses.find(alice, BOBS)
    world.now -= 3600
    world.server.addresses[BOBS] = MALLORY
    with pytest.raises(AddressChanged):
        addresses.find(alice, BOBS)


def test_refusal_that_is_no_answer_is_told_and_pins_nothing(world: Members, alice: Account) -> None:
    world.server.instead["GET users"] = lambda _body: refused(403, "denied")
    with pytest.raises(Problem) as denied:
        addresses.find(alice, BOBS)
    assert denied.value.code == "denied"
    assert addresses.list_pinned(alice) == {}


@pytest.mark.parametrize(
    "lie", [None, 7, "", "nobody", "00000000-0000-4000-8000-00000000beefx", ["00000000-0000-4000-8000-00000000beef"]]
)
def test_answer_that_names_nobody_is_refused(world: Members, alice: Account, lie: object) -> None:
    world.server.lies["GET users"] = lambda answer: {**answer, "user_id": lie}
    with pytest.raises(AnswerRefused):
        addresses.find(alice, BOBS)
    assert addresses.list_pinned(alice) == {}


def test_code_is_issued_for_the_person_to_whom_the_address_was_pinned(world: Members, alice: Account) -> None:
    addresses.find(alice, BOBS)
    world.server.addresses[BOBS] = MALLORY
    world.now += 6 * MINUTES
    with pytest.raises(AddressChanged):
        addresses.find(alice, BOBS, for_enrolment=True)


def test_contacts_and_backup_take_addresses(world: Members, alice: Account) -> None:
    app = opened(alice)
    number = app.contacts.safety_number(BOBS)
    assert number == app.contacts.safety_number(UUID(bytes=BOB))
    app.contacts.verify(BOBS, number)
    assert alice.state.contacts[BOB].verified
    assert app.contacts.addresses() == {BOBS: UUID(bytes=BOB)}


def test_officer_is_found_by_address(world: Members, alice: Account) -> None:
    policy = alice.policies[-1]
    second = policy.policy.roster[1]
    world.server.addresses["carol@acme.test"] = second.person
    assert acts.find_officer(alice, policy, "carol@acme.test") == second
    with pytest.raises(WrongInput, match="lists no such officer"):
        acts.find_officer(alice, policy, BOBS)


# What the command says.


def test_words_to_compare_are_shown_when_an_address_is_first_named(
    world: Members, alice: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert person(shell(), alice, BOBS) == UUID(bytes=BOB)
    said = capsys.readouterr()
    words = " ".join(contacts.identity_words(contacts.refresh(alice, BOB)))
    assert words in said.err
    assert f"bob@acme.test is {text(BOB)}, your organisation's server says." in said.err
    assert said.out == ""
    person(shell(), alice, BOBS)
    assert capsys.readouterr().err == ""


def test_words_are_shown_each_time_that_somebody_is_about_to_be_trusted_until_they_were_compared(
    world: Members, alice: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        person(shell(), alice, BOBS, is_trusted=True)
        assert "Words to compare" in capsys.readouterr().err
    contacts.verify(alice, BOB, number=contacts.safety_number(alice, BOB))
    person(shell(), alice, BOBS, is_trusted=True)
    assert capsys.readouterr().err == ""


def test_letter_that_looks_like_a_latin_one_is_named(
    world: Members, alice: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.addresses["b\u043eb@acme.test"] = BOB
    person(shell(), alice, "b\u043eb@acme.test")
    assert "no Latin letter, but Cyrillic small letter o." in capsys.readouterr().err


def test_person_without_an_account_has_no_words_yet(
    world: Members, alice: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.addresses["ivan@acme.test"] = b"ivan------------"
    person(shell(), alice, "ivan@acme.test", for_enrolment=True)
    assert "There are no words to compare yet." in capsys.readouterr().err


def test_json_stays_json(world: Members, alice: Account, capsys: pytest.CaptureFixture[str]) -> None:
    person(shell(is_json=True), alice, BOBS, is_trusted=True)
    assert capsys.readouterr() == ("", "")
