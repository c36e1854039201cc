# SPDX-License-Identifier: Apache-2.0
"""A server that shows an older state is given what it lacks once officers accepted a backup, and nothing before."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.client import maintenance
from holdfast.client.errors import TrustRefused
from holdfast.client.identity import restored
from holdfast.client.messages import messages
from holdfast.client.officers import joining, section
from holdfast.client.profile.account import Account
from holdfast.client.standing import Outcome
from holdfast.client.vault import doors, trusted, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from tests.cast.members import BOB, CHEAP, MALLORY, PASSWORD, Members

NEW = SecretBytes(b"another password of a vault")
CAROL = b"carol-----------"


@dataclass(frozen=True)
class Lie:
    """Something that this account gave a server, and an older state of it that the server shows.

    gives: gives it, and returns what has the server lose it. again: what is sent to give it back, as method and path.
    refused: what the account makes of the older state where nobody has accepted it, if it can see by itself that it is
    older; None where it cannot.
    """

    gives: Callable[[Members, Account], Callable[[], None]]
    again: str
    refused: Callable[[Account], object] | None = None


def _server_rows(world: Members, *names: str) -> Callable[[], None]:
    kept = {name: copy.deepcopy(getattr(world.server, name)) for name in names}

    def lose() -> None:
        for name, rows in kept.items():
            setattr(world.server, name, copy.deepcopy(rows))

    return lose


def _vault(world: Members, account: Account, *, is_first: bool = False) -> Callable[[], None]:
    if not is_first:
        vault.save(account)
    lose = _server_rows(world, "vaults")
    vault.save(account)
    vault.save(account)
    return lose


def _door(world: Members, account: Account, *, is_first: bool = False) -> Callable[[], None]:
    if not is_first:
        doors.set_password(account, PASSWORD, cost=CHEAP)
    lose = _server_rows(world, "doors", "stored_doors")
    world.now += 3_600
    doors.set_password(account, NEW, cost=CHEAP)
    return lose


def _removal(world: Members, account: Account) -> Callable[[], None]:
    doors.set_password(account, PASSWORD, cost=CHEAP)
    lose = _server_rows(world, "doors", "stored_doors")
    world.now += 3_600
    doors.remove(account, doors.PASSWORD)
    return lose


def _section(world: Members, account: Account) -> Callable[[], None]:
    phrase = Phrase.generate()
    joining.begin(account)
    lose = _server_rows(world, "sections")
    joining.set_passphrase(account, PASSWORD, cost=CHEAP)
    joining.set_phrase(account, phrase, dict(enumerate(phrase.words(), start=1)))
    joining.finish(account)
    joining.begin_anew(account)
    joining.set_passphrase(account, PASSWORD, cost=CHEAP)
    joining.set_phrase(account, phrase, dict(enumerate(phrase.words(), start=1)))
    joining.finish(account)
    return lose


def _deposit(world: Members, _account: Account) -> Callable[[], None]:
    return world.server.deposits.clear


def _consent(world: Members, _account: Account) -> Callable[[], None]:
    return world.server.consents.clear


def _message(world: Members, account: Account) -> Callable[[], None]:
    messages.send(account, BOB, b"under way")
    return world.server.mailboxes.clear


def _chosen(world: Members, account: Account) -> Callable[[], None]:
    lose = _server_rows(world, "manifests")
    trusted.choose(account, [BOB, MALLORY], k=2)
    return lose


LIES = {
    "an older vault": Lie(_vault, "PUT vault", vault.load),
    "no vault": Lie(lambda world, account: _vault(world, account, is_first=True), "PUT vault", vault.load),
    "an older door": Lie(_door, "PUT vault/doors/password"),
    "no door": Lie(lambda world, account: _door(world, account, is_first=True), "PUT vault/doors/password"),
    "a door that was removed": Lie(_removal, "DELETE vault/doors/password"),
    "an older section": Lie(_section, "PUT vault/officers", section.load),
    "no deposit": Lie(_deposit, "POST escrow/deposits"),
    "no consent": Lie(_consent, "POST statements"),
    "no message": Lie(_message, "POST devices/.*/messages"),
    "no list of contacts": Lie(_chosen, "PUT recovery/contacts"),
}


def _sent(world: Members, what: str) -> int:
    return sum(bool(re.fullmatch(what, f"{method} {path}")) for method, path, _ in world.server.log)


@pytest.mark.parametrize("is_accepted", [False, True], ids=["nobody accepted it", "officers accepted it"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_what_a_server_lacks_is_given_back_once_and_only_as_officers_accepted_it(
    lie: Lie, is_accepted: bool, world: Members, tmp_path: Path
) -> None:
    for user in (BOB, MALLORY):
        world.published(user)
    account = world.depositor(tmp_path)
    lose = lie.gives(world, account)
    maintenance.maintain(account)
    world.now += 60
    lose()
    before = _sent(world, lie.again)
    if is_accepted:
        world.server.accept(world.now)
    elif lie.refused is not None:
        with pytest.raises(TrustRefused):
            lie.refused(account)
    for _ in range(3):
        report = maintenance.maintain(account)
    assert bool(restored.taken(account)) is is_accepted
    assert _sent(world, lie.again) == before + is_accepted
    if is_accepted:
        assert not [one for one in report if one.outcome is Outcome.FAILED]
        assert lie.refused is None or lie.refused(account)


def test_server_that_goes_on_lying_is_given_each_thing_once(world: Members, tmp_path: Path) -> None:
    account = world.depositor(tmp_path)
    world.server.accept(world.now)
    before = _sent(world, "POST escrow/deposits")
    for _ in range(4):
        world.server.deposits.clear()
        maintenance.maintain(account)
    assert _sent(world, "POST escrow/deposits") == before + 1
