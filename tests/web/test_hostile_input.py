# SPDX-License-Identifier: Apache-2.0
"""Hostile input to every parser of the TypeScript SDK: it is read as Python reads it, and no prototype changes.

Node looks at the prototypes after each input (web/sdk/tests/peer/lines.ts). Answers of a server have a table of their
own in web/sdk/tests/client/server/answers.test.ts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.soak import rounds
from tests.web import hostile
from tests.web.parsers import GIVEN, PARSERS
from tests.web.peer import Peer, peer
from tests.web.test_differential import SEED, agree, outcome

# Of each parser. All together some 2,000 in `make test`.
EACH = rounds(25, 1_000)
CODEC = rounds(400, 100_000)


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with peer(tmp_path_factory.mktemp("peer")) as started:
        started.give(GIVEN)
        yield started


def is_utf8(case: bytes) -> bool:
    try:
        case.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.rounds("web-differential")
@pytest.mark.parametrize("name", PARSERS)
def test_hostile_input_is_read_alike_and_changes_no_prototype(
    name: str, typescript: Peer, record_property: Callable[[str, object], None]
) -> None:
    parser = PARSERS[name]
    record_property("seed", SEED)
    print(f"seed {SEED}")  # noqa: T201
    number = CODEC if name == "cbor" else EACH
    cases = hostile.inputs(parser.samples, number, random.Random(f"{SEED} {name}"))
    if parser.is_text:
        cases = [case for case in cases if is_utf8(case)]
    answers = typescript.feed(name, cases)
    told = [
        f"{case[:400].hex()}\n  Python:     {here}\n  TypeScript: {there}"
        for case, there in zip(cases, answers, strict=True)
        if not agree(here := outcome(name, case), there)
    ]
    assert not told, f"seed {SEED}: {len(told)} of {len(cases)} disagree\n" + "\n".join(told[:5])


def test_splices_stand_within_what_is_sound() -> None:
    """A sample is read and written again as it was: so each input differs in the hostile item alone."""
    spliced = 0
    for parser in PARSERS.values():
        for sample in parser.samples:
            try:
                item = hostile.read(sample)
            except hostile.NotRead:
                continue
            assert item.encode() == sample
            spliced += len(list(item.all())) > 3
    assert spliced > 40
