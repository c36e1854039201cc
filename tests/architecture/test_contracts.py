# SPDX-License-Identifier: Apache-2.0
"""Every import contract of pyproject.toml, broken once in the graph alone, is found broken."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.application.use_cases import read_user_options
from importlinter.configuration import configure
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
TYPES: dict[str, type[Contract]] = {
    "layers": LayersContract,
    "forbidden": ForbiddenContract,
    "acyclic_siblings": AcyclicSiblingsContract,
}
# An import that must not be, by the contract (the beginning of its name) that forbids it.
FORBIDDEN = {
    "The house": ("kernel.api", "recovery.access"),
    "The client": ("holdfast.client.errors", "holdfast.cli.app"),
    "Inside holdfast.core": ("holdfast.core.base.words", "holdfast.core.crypto.keys"),
    # The circle of eight modules that was there once closed here.
    "Inside holdfast.client": ("holdfast.client.identity.device", "holdfast.client.rotation.rotation"),
    "No circles": ("holdfast.client.identity.chains", "holdfast.client.identity.contacts"),
    "holdfast.core does no I/O": ("holdfast.core.log.tiles", "socket"),
    "The pip-installable library": ("holdfast.client.errors", "kernel.errors"),
    "hsm is framework-free": ("hsm.pool", "django"),
    "Only the composition root": ("recovery.tasks", "holdfast.client.errors"),
    "Inside recovery": ("recovery.cases.opening", "recovery.release.record"),
    "Inside escrow": ("escrow.access", "escrow.services"),
    "Inside keys": ("keys.mailbox", "keys.services"),
    "Inside tenants": ("tenants.names", "tenants.access"),
    "Inside audit": ("audit.access", "audit.sequencer"),
    "Inside console": ("console.words.terms", "console.frame"),
    "Inside operators": ("operators.access", "operators.services"),
    "A view parses": ("recovery.contacts.api", "recovery.models"),
}
OPTIONS = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]


@pytest.fixture(scope="module")
def built() -> grimp.ImportGraph:
    configure()
    return grimp.build_graph(
        *OPTIONS["root_packages"], include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


@pytest.fixture
def graph(built: grimp.ImportGraph) -> grimp.ImportGraph:
    return copy.deepcopy(built)


def is_kept(options: dict[str, Any], graph: grimp.ImportGraph) -> bool:
    """Whether a contract holds in a graph."""
    session = read_user_options(str(PYPROJECT)).session_options
    made = {name: value for name, value in options.items() if name not in ("name", "type")}
    # What the reader of the file does: words instead of booleans.
    made = {name: str(value) if isinstance(value, bool) else value for name, value in made.items()}
    return TYPES[options["type"]](options["name"], session, made).check(graph, verbose=False).kept


def contract(beginning: str) -> dict[str, Any]:
    (found,) = (one for one in OPTIONS["contracts"] if one["name"].startswith(beginning))
    return dict(found)


def test_every_contract_has_an_import_that_breaks_it() -> None:
    assert {contract(beginning)["name"] for beginning in FORBIDDEN} == {one["name"] for one in OPTIONS["contracts"]}


@pytest.mark.parametrize("beginning", FORBIDDEN)
def test_contract_holds_and_is_broken_by_one_import(beginning: str, graph: grimp.ImportGraph) -> None:
    options, (importer, imported) = contract(beginning), FORBIDDEN[beginning]
    assert is_kept(options, graph)
    assert importer in graph.modules
    if imported not in graph.modules:
        graph.add_module(imported, is_squashed=True)
    graph.add_import(importer=importer, imported=imported)
    assert not is_kept(options, graph)


@pytest.mark.parametrize("package", [one["containers"][0] for one in OPTIONS["contracts"] if one.get("exhaustive")])
def test_room_that_no_contract_names_is_refused(package: str, graph: grimp.ImportGraph) -> None:
    (options,) = (one for one in OPTIONS["contracts"] if one.get("containers") == [package])
    graph.add_module(f"{package}.sidekick")
    assert not is_kept(options, graph)
