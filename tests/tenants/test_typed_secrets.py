# SPDX-License-Identifier: Apache-2.0
"""Passwords and codes of the console in the spellings in which people type and paste them."""

from __future__ import annotations

import time
import unicodedata

import pytest
from django.contrib.auth.hashers import make_password

from holdfast.core.base.secret import SecretBytes
from hsm.backend import RootToken
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import hashing, services, sign_in
from tests.cast.tenants import Cast, build_world, forget_codes, give_totp, sealing
from tests.core.base.test_typed import NUMBERS, ON_THE_WAY

PASSWORD = "Gr\u00f6\u00dfe n\u00e9e \ufb01anc\u00e9e 123456"


@pytest.fixture
def world(root_token: RootToken, db: None) -> Cast:
    return sealing(build_world())


def test_code_of_an_authenticator_is_taken_in_every_grouping_and_script(world: Cast) -> None:
    key = give_totp(world.carol)
    for name, spell in NUMBERS.items():
        code = sign_in.totp_code(key, at=time.time())
        assert len(spell(code)) <= sign_in.MAX_CODE
        assert sign_in.accept_code(person=world.carol, code=spell(code)) is not None, name
        forget_codes(world.carol)


def test_recovery_code_is_taken_in_every_grouping_and_once(world: Cast) -> None:
    give_totp(world.carol)
    spellings = [spell for name, spell in NUMBERS.items() if name not in ("Arabic", "Persian", "Devanagari")]
    spellings += [str.upper, lambda text: f"{text[:9]}\n{text[9:]}", lambda text: f"\ufeff{text}\r\n"]
    with tenant_scope(world.carol.tenant_id):
        actor = system_actor(world.carol.tenant_id, "ceremony")
        while spellings:
            for code in sign_in.make_recovery_codes(person=world.carol, actor=actor)[: len(spellings)]:
                said = spellings.pop()(code)
                assert sign_in.is_recovery_code(said)
                assert sign_in.accept_code(person=world.carol, code=said) is not None
                assert sign_in.accept_code(person=world.carol, code=code) is None


@pytest.mark.parametrize("wrong", ["", "12345", "1234567", "12345O", "l23456", "12 34 5", "abcd-efgh"])
def test_what_is_no_code_is_none_however_it_is_read(world: Cast, wrong: str) -> None:
    give_totp(world.carol)
    assert sign_in.accept_code(person=world.carol, code=wrong) is None


@pytest.mark.parametrize("spelling", [name for name in ON_THE_WAY if "UTF-" not in name and "\n" not in name])
def test_password_is_the_same_in_every_spelling(spelling: str) -> None:
    typed = ON_THE_WAY[spelling](PASSWORD).decode()
    kept = make_password(unicodedata.normalize("NFKC", PASSWORD))
    assert hashing.is_right(typed.replace("\u00ad\n", ""), kept)
    assert not hashing.is_right("another password of mine", kept)


@pytest.mark.parametrize(
    "existing", ["\ufeffcorrect horse battery", "correct horse battery ", PASSWORD, "“correct” horse"]
)
def test_password_that_exists_is_right_as_it_was_typed_then(existing: str) -> None:
    assert hashing.is_right(existing, make_password(existing))


def test_password_that_is_set_is_kept_in_its_one_form(world: Cast) -> None:
    with tenant_scope(world.carol.tenant_id):
        services.set_password(
            person=world.carol,
            password=SecretBytes(f"\ufeff{PASSWORD}\u200b".encode()),
            actor=system_actor(world.carol.tenant_id, "ceremony"),
        )
    world.carol.refresh_from_db()
    assert hashing.is_right(unicodedata.normalize("NFD", PASSWORD), world.carol.password)
