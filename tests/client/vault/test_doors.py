# SPDX-License-Identifier: Apache-2.0
"""The doors of the vault: set, listed, closed, opened, and what a lying server gets away with at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.client.errors import ClientError, NotPossible, Problem, TrustRefused, WrongInput, WrongWords
from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import device
from holdfast.client.messages import letters
from holdfast.client.profile.account import Account
from holdfast.client.server.clock import Clock
from holdfast.client.vault import doors, vault
from holdfast.core.base.encoding import b64u, decode, encode, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.vault import door_blob
from holdfast.core.vault.blob import new_vault_key
from holdfast.core.vault.password_door import generate_password
from tests.cast.lying_server import NOW, text
from tests.cast.members import ALICE, BOB, CHEAP, PASSWORD, Members

WEEK = 7 * 86_400


def new_device(world: Members, user: bytes = ALICE) -> Account:
    account = world.profile(user)
    device.enrol(account, world.server.code(user), name="tablet")
    return account


def answers(phrase: Phrase) -> dict[int, str]:
    words = phrase.words()
    return {at: words[at - 1] for at in doors.questions()}


def confirmed(account: Account, **more: Any) -> Phrase:
    phrase = doors.new_phrase(account)
    doors.confirm_phrase(account, phrase, answers(phrase), **more)
    return phrase


def door(account: Account, kind: str) -> doors.Door:
    return next(one for one in doors.status(account) if one.kind == kind)


def at(world: Members, account: Account, now: int) -> None:
    account.connect(transport=world.server.transport(), clock=Clock(lambda: now))


# Status


def test_status_of_a_fresh_account_names_every_door_and_how_to_set_it(world: Members) -> None:
    account = world.enrolled(ALICE)
    found = doors.status(account)
    assert [(one.kind, one.is_open) for one in found] == [(kind, False) for kind in doors.KINDS]
    assert all("holdfast" in one.needs for one in found)
    assert doors.list_closed(account) == []


def test_status_says_what_comes_back_when_every_device_is_lost(world: Members) -> None:
    alice = world.enrolled(ALICE)
    archive.current_generation(alice)
    world.another(alice)

    def outlook() -> doors.IfAllIsLost:
        return doors.if_all_is_lost(alice, doors.status(alice))

    # The other device is no way: it is lost as well.
    assert outlook() == doors.IfAllIsLost((), (), (1,))
    escrow.consent(alice)
    escrow.deposit_missing(alice)
    assert outlook() == doors.IfAllIsLost((), (1,), ())
    doors.set_password(alice, SecretBytes(b"a password of her own"), cost=CHEAP)
    assert outlook() == doors.IfAllIsLost(("password",), (1,), ())


def test_status_follows_the_vault_key_on_every_device(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    confirmed(account)
    for kind in (doors.PASSWORD, doors.PHRASE):
        assert (door(account, kind).is_open, door(account, kind).set_at, door(account, kind).epoch) == (True, NOW, 1)
    tablet = new_device(world)
    doors.open_with_password(tablet, password=PASSWORD)
    assert door(tablet, doors.PHRASE) == door(account, doors.PHRASE)
    vault.begin_epoch(account, key=new_vault_key(), epoch=2)
    assert doors.list_closed(account) == [doors.PASSWORD, doors.PHRASE]
    assert not door(account, doors.PASSWORD).is_open
    doors.set_password(account, PASSWORD, cost=CHEAP)
    assert doors.list_closed(account) == [doors.PHRASE]


def test_door_that_the_server_dropped_is_not_called_open(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    world.server.doors.clear()
    assert not door(account, doors.PASSWORD).is_open


def test_removed_door_is_gone_for_every_device(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    doors.remove(account, doors.PASSWORD)
    assert not door(account, doors.PASSWORD).is_open
    assert doors.list_closed(account) == []
    with pytest.raises(NotPossible, match="no password door"):
        doors.open_with_password(new_device(world), password=PASSWORD)
    with pytest.raises(NotPossible, match="revoking"):
        doors.remove(account, doors.DEVICE)


# The password


def test_short_password_is_refused_and_changes_nothing(world: Members) -> None:
    account = world.enrolled(ALICE)
    with pytest.raises(WrongInput, match="14 characters"):
        doors.set_password(account, SecretBytes(b"thirteen char"), cost=CHEAP)
    assert world.server.doors == {}


def test_generated_password_opens_the_vault(world: Members) -> None:
    account = world.enrolled(ALICE)
    password = generate_password()
    doors.set_password(account, password, cost=CHEAP)
    assert doors.open_with_password(new_device(world), password=password).epoch == 1


def test_new_password_replaces_the_old_one(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    other = generate_password()
    doors.set_password(account, other, cost=CHEAP)
    tablet = new_device(world)
    with pytest.raises(doors.WrongPassword):
        doors.open_with_password(tablet, password=PASSWORD)
    doors.open_with_password(tablet, password=other)


# The phrase


def test_phrase_counts_only_once_it_was_confirmed(world: Members) -> None:
    account = world.enrolled(ALICE)
    sent = len(world.server.log)
    phrase = doors.new_phrase(account)
    assert len(phrase.words()) == 24
    assert all(method == "GET" for method, _path, _body in world.server.log[sent:])
    assert account.chain.recovery_key is None
    done = doors.confirm_phrase(account, phrase, answers(phrase))
    assert (done.is_open, done.needs, done.language) == (True, "", "english")
    assert account.chain.recovery_key == doors.recovery_key(account, phrase, None).public


def test_wrong_or_too_few_answers_set_nothing(world: Members) -> None:
    account = world.enrolled(ALICE)
    phrase = doors.new_phrase(account)
    right = answers(phrase)
    wrong = {at: ("zoo" if word != "zoo" else "abandon") for at, word in right.items()}
    first = min(right)
    with pytest.raises(WrongWords, match=f"phrase: {first}\\. Nothing was set"):
        doors.confirm_phrase(account, phrase, {**right, first: wrong[first]})
    with pytest.raises(WrongInput, match="at least"):
        doors.confirm_phrase(account, phrase, dict(list(right.items())[:3]))
    assert world.server.doors == {}
    assert account.chain.recovery_key is None


@pytest.mark.parametrize("language", [Language.JAPANESE, Language.SPANISH, Language.KOREAN])
def test_phrase_of_another_language_opens_the_vault_and_says_which_it_is(world: Members, language: Language) -> None:
    account = world.enrolled(ALICE)
    phrase = doors.new_phrase(account, language=language)
    assert doors.confirm_phrase(account, phrase, answers(phrase)).language == language.value
    doors.open_with_phrase(new_device(world), Phrase.parse(phrase.text()))


def test_passphrase_of_a_phrase_is_asked_for_and_needed(world: Members) -> None:
    account = world.enrolled(ALICE)
    secret = SecretBytes(b"beside the paper")
    phrase = confirmed(account, passphrase=secret)
    tablet = new_device(world)
    with pytest.raises(WrongInput, match="passphrase"):
        doors.open_with_phrase(tablet, phrase)
    with pytest.raises(doors.WrongPhrase):
        doors.open_with_phrase(tablet, phrase, passphrase=SecretBytes(b"another"))
    doors.open_with_phrase(tablet, phrase, passphrase=secret)


def test_questions_ask_four_different_words_and_not_always_the_same(world: Members) -> None:
    asked = {doors.questions() for _ in range(50)}
    assert all(len(set(one)) == 4 and all(1 <= at <= 24 for at in one) for one in asked)
    assert len(asked) > 10


# The recovery key


def test_new_phrase_with_the_old_one_at_hand_signs_at_once(world: Members) -> None:
    account = world.enrolled(ALICE)
    old = confirmed(account)
    new = confirmed(account, old=old)
    assert account.chain.recovery_key == doors.recovery_key(account, new, None).public
    with pytest.raises(doors.WrongPhrase, match="Nothing was set"):
        confirmed(account, old=old)


def test_new_phrase_without_the_old_one_waits_a_week(world: Members) -> None:
    account = world.enrolled(ALICE)
    old = confirmed(account)
    new = confirmed(account)
    assert account.chain.recovery_key == doors.recovery_key(account, old, None).public
    assert "week" in door(account, doors.PHRASE).needs
    assert not doors.complete_recovery_key(account)
    at(world, account, NOW + WEEK)
    assert doors.complete_recovery_key(account)
    assert account.chain.recovery_key == doors.recovery_key(account, new, None).public
    assert door(account, doors.PHRASE).needs == ""
    assert not doors.complete_recovery_key(account)


def test_recovery_key_that_somebody_else_announced_is_never_completed_and_can_be_cancelled(world: Members) -> None:
    account = world.enrolled(ALICE)
    old = confirmed(account)
    thief = new_device(world)
    thief.state.identity_seed = account.state.identity_seed
    doors._set_recovery_key(thief, doors.recovery_key(account, Phrase.generate(), None), None)
    at(world, account, NOW + WEEK)
    assert not doors.complete_recovery_key(account)
    assert doors.cancel_recovery_key(account)
    assert account.chain.announced is None
    assert account.chain.recovery_key == doors.recovery_key(account, old, None).public
    assert not doors.cancel_recovery_key(account)


# What the server may not do


def test_door_of_another_person_does_not_open(world: Members) -> None:
    for user in (ALICE, BOB):
        account = world.enrolled(user)
        doors.set_password(account, PASSWORD, cost=CHEAP)
    theirs = world.server.doors[text(BOB)]["password"]
    world.server.lies["GET vault/doors/password"] = lambda answer: {**answer, "blob": theirs}
    tablet = new_device(world)
    with pytest.raises(doors.WrongPassword):
        doors.open_with_password(tablet, password=PASSWORD)
    assert not len(tablet.state.vault.key)


@pytest.mark.parametrize("field", [door_blob.TENANT, door_blob.USER, door_blob.EPOCH])
def test_door_relabelled_as_anothers_or_of_another_epoch_does_not_open(world: Members, field: int) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    world.server.lies["GET vault/doors/password"] = changed(field, 9 if field == door_blob.EPOCH else b"x" * 16)
    tablet = new_device(world)
    if field == door_blob.EPOCH:
        with pytest.raises(NotPossible, match="closed"):
            doors.open_with_password(tablet, password=PASSWORD)
    else:
        # Names inside the blob are not read at all: what is expected decides.
        doors.open_with_password(tablet, password=PASSWORD)


def changed(field: int, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        blob = decode(unb64u(answer["blob"]))
        assert isinstance(blob, dict)
        return {**answer, "blob": b64u(encode({**blob, field: value}))}

    return lie


def test_door_of_an_older_epoch_relabelled_as_the_newest_does_not_open(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    old = world.server.doors[text(ALICE)]["password"]
    vault.begin_epoch(account, key=new_vault_key(), epoch=2)
    world.server.doors[text(ALICE)]["password"] = old
    world.server.lies["GET vault/doors/password"] = changed(door_blob.EPOCH, 2)
    with pytest.raises(doors.WrongPassword):
        doors.open_with_password(new_device(world), password=PASSWORD)


def test_vault_of_an_older_epoch_with_its_door_is_refused_by_who_saw_the_newer(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    old_vault, old_door = dict(world.server.vaults[text(ALICE)]), world.server.doors[text(ALICE)]["password"]
    vault.begin_epoch(account, key=new_vault_key(), epoch=2)
    world.server.lies["GET vault"] = lambda _answer: old_vault
    world.server.doors[text(ALICE)]["password"] = old_door
    with pytest.raises(TrustRefused, match="older"):
        doors.open_with_password(account, password=PASSWORD)


def test_phrase_door_in_the_place_of_the_password_door_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    confirmed(account)
    world.server.doors[text(ALICE)]["password"] = world.server.doors[text(ALICE)]["phrase"]
    with pytest.raises(TrustRefused, match="another kind of door"):
        doors.open_with_password(new_device(world), password=PASSWORD)


@pytest.mark.parametrize(
    ("number", "value"), [(3, 8), (3, -1), (3, 2**31), (4, 1), (4, -1), (4, 2**31), (5, -1), (5, 2**31)]
)
def test_phrase_door_with_other_argon2_parameters_is_refused_before_hashing(
    world: Members, number: int, value: int
) -> None:
    account = world.enrolled(ALICE)
    phrase = confirmed(account, passphrase=SecretBytes(b"beside the paper"))

    def weaken(answer: dict[str, Any]) -> dict[str, Any]:
        blob = decode(unb64u(answer["blob"]))
        assert isinstance(blob, dict)
        method = blob[door_blob.METHOD]
        assert isinstance(method, dict)
        stretching = method[3]
        assert isinstance(stretching, dict)
        stretching[number] = value
        return {**answer, "blob": b64u(encode(blob))}

    world.server.lies["GET vault/doors/phrase"] = weaken
    with pytest.raises(TrustRefused, match="Argon2id" if value >= 0 else "not an integer of 0"):
        doors.open_with_phrase(new_device(world), phrase, passphrase=SecretBytes(b"beside the paper"))


def test_phrase_of_one_account_opens_no_other(world: Members) -> None:
    alice = world.enrolled(ALICE)
    phrase = confirmed(alice)
    bob = world.enrolled(BOB)
    confirmed(bob)
    world.server.doors[text(BOB)]["phrase"] = world.server.doors[text(ALICE)]["phrase"]
    with pytest.raises(doors.WrongPhrase):
        doors.open_with_phrase(new_device(world, BOB), phrase)
    assert doors.recovery_key(alice, phrase, None).public != doors.recovery_key(bob, phrase, None).public


@pytest.mark.parametrize("blob", [b"", b"\xff" * 40, encode({1: 1}), encode([1, 2])])
def test_door_that_is_no_door_is_refused(world: Members, blob: bytes) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    world.server.lies["GET vault/doors/password"] = lambda answer: {**answer, "blob": b64u(blob)}
    with pytest.raises(TrustRefused):
        doors.open_with_password(new_device(world), password=PASSWORD)


def test_devices_hear_when_a_new_one_reads_a_door(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    tablet = new_device(world)
    doors.open_with_password(tablet, password=PASSWORD)
    letters.fetch(account)
    (notice,) = letters.notices(account)
    assert (notice.event, notice.said["device_id"]) == ("door-read", tablet.device_text)
    letters.put_away(account, [notice])
    assert letters.notices(account) == []


def test_every_refusal_at_a_door_says_what_can_be_done(world: Members) -> None:
    account = world.enrolled(ALICE)
    tablet = new_device(world)
    phrase = Phrase.generate()

    def refusal(act: Callable[[], object]) -> ClientError:
        with pytest.raises(ClientError) as caught:
            act()
        assert not isinstance(caught.value, Problem)
        return caught.value

    found = [refusal(lambda: doors.open_with_password(tablet, password=PASSWORD))]
    doors.set_password(account, PASSWORD, cost=CHEAP)
    found.append(refusal(lambda: doors.open_with_password(tablet, password=SecretBytes(b"not the password"))))
    found.append(refusal(lambda: doors.open_with_phrase(tablet, phrase)))
    confirmed(account)
    found.append(refusal(lambda: doors.open_with_phrase(tablet, phrase)))
    world.server.lies["GET vault/doors/password"] = changed(door_blob.METHOD, {})
    found.append(refusal(lambda: doors.open_with_password(tablet, password=PASSWORD)))
    assert all(str(one).endswith(".") and one.way_out for one in found)
