# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the escrow and recovery tests: every token of the house, on SoftHSM, behind the interposer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hsm import registry
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.runtime import Tokens, open_tokens
from tests.fixtures.hsm import TENANT, Interposer, build_interposer, interpose, make_home
from tests.recovery.support import World


@dataclass(frozen=True)
class Hsm:
    """One home with its interposer, which counts what reaches the tokens, also from other processes."""

    config: HsmConfig
    tokens: Tokens
    interposer: Interposer

    def install(self) -> None:
        """Give this process all three tokens."""
        opened = {"root": self.tokens.root, "log": self.tokens.log, "escrow": self.tokens.escrow}
        registry.install(lambda: dict(opened))

    def unwraps(self) -> int:
        """How often an escrowed half was unwrapped, counted outside the application."""
        key = Ceremony(self.config).escrow_keys(TENANT)[0]
        return self.interposer.entered("C_UnwrapKey", key.ref.cka_id)


@pytest.fixture(scope="package")
def hsm_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    interposer = build_interposer(tmp_path_factory.mktemp("interposer"))
    interposer.rules()
    config = interpose(make_home(tmp_path_factory.mktemp("hsm") / "home"), interposer)
    with open_tokens(config, ["root", "log", "escrow"]) as tokens:
        yield Hsm(config, tokens, interposer)
    registry.install(dict)


@pytest.fixture
def hsm(hsm_home: Hsm) -> Iterator[Hsm]:
    hsm_home.install()
    hsm_home.interposer.rules()
    hsm_home.interposer.forget()
    yield hsm_home
    hsm_home.interposer.rules()


@pytest.fixture
def found(hsm: Hsm, tmp_path: Path, db: None) -> Callable[..., World]:
    """Found Acme's escrow under terms of the test's own."""

    def make(**terms: Any) -> World:
        key = Ceremony(hsm.config).escrow_keys(TENANT)[0]
        return World(tmp_path / "release", key, hsm.tokens.log.public_key, **terms)

    return make


@pytest.fixture
def world(found: Callable[..., World]) -> World:
    return found()
