# SPDX-License-Identifier: Apache-2.0
"""Python and TypeScript read the same: the codec and every parser of the core, fed with the same bytes."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator

import pytest

from holdfast.core.base.errors import HoldfastError
from tests.soak import rounds
from tests.web.mutations import inputs
from tests.web.parsers import GIVEN, PARSERS
from tests.web.peer import Peer, peer

# Of each parser. All together: 2,500 in `make test`, and 96,000 in the soak.
EACH = rounds(30, 1_000)
CODEC = rounds(300, 20_000)
# What the platform's own reader says first of JSON and its UTF-8, base64 and DER: its words differ, not its refusal.
FOREIGN_WORDS = re.compile("JSON|^export: |base64|DER|: not canonical, or of another length")
# To run the same changes again; samples hold fresh keys, so that what fails is also printed in full.
# In `make test` the same inputs each time, so that a change is judged by itself; the soak looks for new ones.
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "0")) or rounds(20261130, random.SystemRandom().randrange(1, 2**32))


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with peer(tmp_path_factory.mktemp("peer")) as started:
        started.give(GIVEN)
        yield started


def outcome(name: str, data: bytes) -> list[str]:
    """Return what Python makes of a case, in the words of the other end."""
    try:
        return ["took", PARSERS[name].read(data).hex()]
    except HoldfastError as refusal:
        return ["refused", type(refusal).__name__, str(refusal)]


def agree(here: list[str], there: list[str]) -> bool:
    """Tell whether both are the same: to take with the same bytes, or to refuse as the same class in the same words."""
    *kind, words = here
    return here == there or (kind == there[:2] and kind[0] == "refused" and FOREIGN_WORDS.search(words) is not None)


@pytest.mark.rounds("web-differential")
@pytest.mark.parametrize("name", PARSERS)
def test_both_read_the_same(name: str, typescript: Peer, record_property: Callable[[str, object], None]) -> None:
    parser = PARSERS[name]
    number = CODEC if name == "cbor" else EACH
    print(f"seed {SEED}, {number} inputs")  # noqa: T201
    record_property("seed", SEED)
    record_property("inputs", number)
    cases = list(inputs(parser.samples, number, random.Random(f"{SEED} {name}"), is_text=parser.is_text))
    answers = typescript.feed(name, cases)
    told = [
        f"{case.hex()}\n  Python:     {here}\n  TypeScript: {there}"
        for case, there in zip(cases, answers, strict=True)
        if not agree(here := outcome(name, case), there)
    ]
    assert not told, f"seed {SEED}: {len(told)} of {len(cases)} disagree\n" + "\n".join(told[:5])


@pytest.mark.parametrize("name", PARSERS)
def test_both_take_the_samples(name: str, typescript: Peer) -> None:
    """Inputs that are all refused would agree on anything."""
    parser = PARSERS[name]
    assert parser.samples
    assert {
        here[0] for sample in parser.samples for here in (outcome(name, sample), *typescript.feed(name, [sample]))
    } == {"took"}
