# SPDX-License-Identifier: Apache-2.0
"""The seeded faults are fit to be tried: each names a rule and a test that there is, and fits the code as it stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.faults.seeds import PROJECT, Seed, seeds


def test_enough_faults_are_seeded() -> None:
    assert len(seeds()) >= 25
    assert len({seed.name.partition("-")[0] for seed in seeds()}) == len(seeds())


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.name)
def test_seed_applies_to_the_product_and_names_a_test(seed: Seed) -> None:
    seed.apply(PROJECT, "--check")
    touched = [line[6:] for line in seed.path.read_text().splitlines() if line.startswith("+++ b/")]
    assert touched
    assert not [name for name in touched if name.startswith("tests/")]
    path, _, test = seed.caught_by.partition("::")
    assert test.partition("[")[0] in set(_tests(ast.parse((PROJECT / path).read_text())))
    assert seed.rule


def _tests(tree: ast.Module) -> Iterator[str]:
    """Give the names of a file's functions, those of its classes as pytest writes them; of tests that it runs too."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.client"):
            for one in node.names:
                path = PROJECT.joinpath(*(node.module or "").split("."), f"{one.name}.py")
                if path.exists():
                    yield from _tests(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef))
