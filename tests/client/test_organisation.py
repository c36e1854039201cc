# SPDX-License-Identifier: Apache-2.0
"""Acts of administration by the SDK, against a server that loses answers, lies, and shows secrets.

ORGANISATION "Acts" on the client's side; the rules themselves are the server's, and are tested in tests/console.
"""

from __future__ import annotations

import contextlib
from uuid import UUID, uuid4

import pytest

from holdfast import Client
from holdfast.client import organisation
from holdfast.client.errors import AddressChanged, AnswerRefused, Problem, Unreachable, WrongInput
from holdfast.client.identity import addresses
from holdfast.client.profile.account import Account
from holdfast.core.base.secret import SecretBytes
from tests.cast.lying_mailbox import refused
from tests.cast.lying_organisation import LINK
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, MALLORY, Members

CODE = SecretBytes(b"123456")
BOB_ID = UUID(bytes=BOB)


@pytest.fixture
def olivia(world: Members) -> Account:
    world.server.list_person(text(BOB), "bob@acme.test", state="suspended")
    return world.enrolled(ALICE)


def sent(world: Members, path: str) -> int:
    return sum(where == path for _, where, _ in world.server.log)


def test_act_is_looked_at_and_done_with_a_code(world: Members, olivia: Account) -> None:
    client = Client(olivia, contextlib.ExitStack())
    assert {"person-invite", "device-suspend"} <= {one.name for one in client.organisation.acts()}
    seen = client.organisation.look("person-role", "bob@acme.test", role="officer")
    assert (seen.words.title, seen.words.facts) == ("This is person-role", (("Given", "officer"),))
    assert seen.words.warnings == ("Nobody can take this back.",)
    assert world.server.performed == []
    done = client.organisation.perform(seen, "123456")
    assert (done.text, done.undo, done.once, done.pending) == ("It is done.", "Do it again.", None, None)
    (performed,) = world.server.performed
    assert performed["subject_id"] == text(BOB)
    assert (performed["given"], performed["code"]) == ({"role": "officer"}, "123456")


def test_person_is_found_by_address_in_every_state_and_nothing_is_pinned(world: Members, olivia: Account) -> None:
    assert organisation.find_person(olivia, "BOB@acme.test") == BOB_ID
    assert organisation.find_person(olivia, text(BOB)) == BOB_ID
    assert addresses.list_pinned(olivia) == {}
    with pytest.raises(WrongInput, match="Nobody in your organisation"):
        organisation.find_person(olivia, "nobody@acme.test")
    with pytest.raises(WrongInput, match="named by their id"):
        organisation.find_person(olivia, "bob")


def test_address_is_of_whoever_has_it_now_before_those_who_left_with_it(world: Members, olivia: Account) -> None:
    world.server.list_person(text(MALLORY), "bob@acme.test", state="left")
    assert organisation.find_person(olivia, "bob@acme.test") == BOB_ID
    world.server.people_listed.pop(0)
    assert organisation.find_person(olivia, "bob@acme.test") == UUID(bytes=MALLORY)
    world.server.list_person(str(uuid4()), "bob@acme.test", state="left")
    with pytest.raises(WrongInput, match="Several people"):
        organisation.find_person(olivia, "bob@acme.test")


@pytest.mark.parametrize("now", [MALLORY, None], ids=["another", "nobody"])
def test_address_that_was_pinned_to_another_is_not_administered(
    world: Members, olivia: Account, now: bytes | None
) -> None:
    world.server.addresses["bob@acme.test"] = BOB
    addresses.find(olivia, "bob@acme.test")
    world.server.people_listed.clear()
    if now is not None:
        world.server.list_person(text(now), "bob@acme.test")
    with pytest.raises(AddressChanged):
        organisation.find_person(olivia, "bob@acme.test")


def test_secret_is_handed_out_once_and_prints_itself_nowhere(olivia: Account) -> None:
    given = {"email": "ivy@acme.test", "name": "Ivy", "role": "member", "how": "shown"}
    done = organisation.perform(olivia, organisation.look(olivia, "person-invite", None, given), CODE)
    assert done.once is not None
    assert done.once.reveal().decode() == LINK
    assert LINK not in repr(done)
    seen = organisation.look(olivia, "person-suspend", BOB_ID, {})
    assert "token of" not in repr(seen)


@pytest.mark.parametrize("secret", ["a\nb", "a\x1b[2Jb", "\u202eb", "grüß"])
def test_secret_that_a_terminal_could_obey_is_refused(world: Members, olivia: Account, secret: str) -> None:
    seen = organisation.look(olivia, "person-suspend", BOB_ID, {})
    world.server.lies["POST organisation/acts/person-suspend"] = lambda answer: {**answer, "once": secret}
    with pytest.raises(AnswerRefused, match="plain ASCII"):
        organisation.perform(olivia, seen, CODE)


def test_code_is_sent_once_though_the_answer_is_lost(world: Members, olivia: Account) -> None:
    seen = organisation.look(olivia, "person-suspend", BOB_ID, {})
    world.server.lost.add("POST organisation/acts/person-suspend")
    with pytest.raises(Unreachable, match="may be done, or not") as lost:
        organisation.perform(olivia, seen, CODE)
    assert "Look whether it was done" in lost.value.way_out
    assert sent(world, "organisation/acts/person-suspend") == 1


@pytest.mark.parametrize("status", [502, 504])
def test_proxy_that_lost_the_server_leaves_it_open_whether_it_was_done(
    world: Members, olivia: Account, status: int
) -> None:
    seen = organisation.look(olivia, "person-suspend", BOB_ID, {})
    world.server.instead["POST organisation/acts/person-suspend"] = lambda _body: refused(status, "bad-gateway")
    with pytest.raises(Unreachable, match="may be done, or not"):
        organisation.perform(olivia, seen, CODE)
    assert sent(world, "organisation/acts/person-suspend") == 1


@pytest.mark.parametrize(("status", "code"), [(409, "conflict"), (503, "hsm-unavailable"), (422, "step-up-refused")])
def test_refused_act_is_not_asked_for_again(world: Members, olivia: Account, status: int, code: str) -> None:
    seen = organisation.look(olivia, "person-suspend", BOB_ID, {})
    world.server.instead["POST organisation/acts/person-suspend"] = lambda _body: refused(status, code)
    with pytest.raises(Problem) as problem:
        organisation.perform(olivia, seen, CODE)
    assert problem.value.code == code
    assert sent(world, "organisation/acts/person-suspend") == 1


def test_act_of_two_persons_waits_is_confirmed_or_withdrawn(world: Members, olivia: Account) -> None:
    client = Client(olivia, contextlib.ExitStack())
    done = client.organisation.perform(client.organisation.look("person-factors", BOB_ID, how="mail"), CODE)
    assert done.pending is not None
    assert done.seconds == (UUID(int=9),)
    (waiting,) = client.organisation.pending()
    assert (waiting.id, waiting.act, waiting.subject) == (done.pending, "person-factors", BOB_ID)
    seen = client.organisation.look_pending(done.pending)
    confirmed = client.organisation.confirm(seen, CODE)
    assert (confirmed.pending, confirmed.text) == (None, "It is done.")
    another = UUID(world.server.propose("person-factors", text(BOB), text(MALLORY)))
    client.organisation.withdraw(another)
    assert client.organisation.pending() == []
    with pytest.raises(Problem):
        client.organisation.withdraw(another)


def test_another_waiting_act_than_the_one_asked_for_is_not_shown(world: Members, olivia: Account) -> None:
    asked = UUID(world.server.propose("person-factors", text(BOB), text(MALLORY)))
    world.server.lies["GET organisation/pending/.*"] = lambda answer: {**answer, "id": str(uuid4())}
    with pytest.raises(AnswerRefused, match="another waiting act"):
        organisation.look_pending(olivia, asked)


@pytest.mark.parametrize("name", ["", "../users", "person-suspend/words?x=", "a b", "ä"])
def test_name_of_an_act_becomes_no_other_address(world: Members, olivia: Account, name: str) -> None:
    before = len(world.server.log)
    with pytest.raises(WrongInput, match="No act"):
        organisation.look(olivia, name, None, {})
    assert len(world.server.log) == before


def test_people_are_listed_with_what_narrows_the_list(world: Members, olivia: Account) -> None:
    (bob,) = Client(olivia, contextlib.ExitStack()).organisation.people(search="Bo")
    assert (bob.id, bob.email, bob.state, bob.active_since) == (BOB_ID, "bob@acme.test", "suspended", None)
    assert organisation.people(olivia, search="nobody") == []


def test_file_of_people_is_read_with_all_its_bad_lines_then_confirmed(world: Members, olivia: Account) -> None:
    world.server.bad_lines_page = 2
    client = Client(olivia, contextlib.ExitStack())
    read = client.organisation.read_people("Ivy,ivy@acme.test\n" + "Nobody\n" * 5)
    assert (read.good, read.bad, [one.number for one in read.bad_lines]) == (1, 5, [2, 3, 4, 5, 6])
    assert client.organisation.import_progress(read.import_id).state == "read"
    client.organisation.perform(client.organisation.look("people-import", read.import_id), "123456")
    now = client.organisation.import_progress(read.import_id)
    assert (now.state, now.has_ended, now.done, now.created) == ("done", True, 1, 1)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"next_start": 0}, "has no end"),
        ({"next_start": 2}, "has no end"),
        ({"next_start": 10_000}, "has no end"),
        ({"bad_lines": []}, "other bad lines"),
        ({"id": text(BOB)}, "another file"),
    ],
)
def test_bad_lines_that_do_not_end_or_do_not_add_up_are_refused(
    world: Members, olivia: Account, lie: dict[str, object], said: str
) -> None:
    world.server.bad_lines_page = 2
    world.server.lies["GET organisation/imports/.*"] = lambda answer: {**answer, **lie}
    with pytest.raises(AnswerRefused, match=said):
        organisation.read_people(olivia, "Nobody\n" * 5)
