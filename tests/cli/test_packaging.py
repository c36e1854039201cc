# SPDX-License-Identifier: Apache-2.0
"""What `pip install holdfast` brings: the library, its types, its licence and its man page; no server, no Django.

Builds the wheel from a copy of the tree, looks inside, and imports what is in it where Django cannot be imported.
"""

from __future__ import annotations

import email.parser
import email.policy
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "var", "build", "node_modules", "*.egg-info", "__pycache__", "vectors")
# Of a client's dependencies; the server's come by the extra "server" alone.
SERVER_ONLY = re.compile(
    r"django|rest.?framework|pkcs11|celery|granian|psycopg|orjson|whitenoise|setuptools", re.IGNORECASE
)
# Finds nothing of the server, as on a machine where only the wheel is installed.
NO_SERVER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "rest_framework", "pkcs11", "config", "hsm", "kernel", "keys", "tenants"}:
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import importlib, pkgutil, holdfast
assert holdfast.__file__.startswith(sys.argv[1]), holdfast.__file__
assert "httpx2" not in sys.modules, "the package alone must not bring the network library"
from holdfast import Client
for one in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
    if not one.name.endswith("__main__"):
        importlib.import_module(one.name)
print(Client.__name__, *sorted(name for name in sys.modules if name.split(".")[0] in {"django", "rest_framework"}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    here = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, here / "tree", ignore=LEFT_OUT)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run(
        [*command, "-w", str(here), str(here / "tree")], check=True, capture_output=True, text=True, timeout=120
    )
    (made,) = here.glob("*.whl")
    with zipfile.ZipFile(made) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> EmailMessage:
    (name,) = [one for one in wheel.namelist() if one.endswith(".dist-info/METADATA")]
    return email.parser.BytesParser(EmailMessage, policy=email.policy.default).parsebytes(wheel.read(name))


def test_wheel_holds_the_library_and_nothing_of_the_server(wheel: zipfile.ZipFile) -> None:
    strangers = [
        name
        for name in wheel.namelist()
        if not re.fullmatch(
            r"holdfast/([a-z_0-9]+/)*[a-z_0-9]+\.py|holdfast/py\.typed|holdfast-[\d.]+\.dist-info/.+"
            r"|holdfast-[\d.]+\.data/data/share/man/man1/holdfast\.1",
            name,
        )
    ]
    assert strangers == []


def test_wheel_holds_types_licence_and_man_page(wheel: zipfile.ZipFile) -> None:
    names = {re.sub(r"^holdfast-[\d.]+\.", "", name) for name in wheel.namelist()}
    assert {"holdfast/py.typed", "dist-info/licenses/LICENSE", "data/data/share/man/man1/holdfast.1"} <= names


def test_wheel_holds_every_module_of_the_tree(wheel: zipfile.ZipFile) -> None:
    modules = {str(path.relative_to(PROJECT)) for path in (PROJECT / "holdfast").rglob("*.py")}
    assert modules - set(wheel.namelist()) == set()


def test_client_needs_no_server_package(metadata: EmailMessage) -> None:
    needed = [str(one) for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in str(one)]
    assert {re.split(r"[<>=!~\[ ;]", one)[0] for one in needed} >= {"cryptography", "httpx2", "typer"}
    assert [one for one in needed if SERVER_ONLY.search(one)] == []


def test_description_is_about_the_package_and_names_no_file_that_is_not_in_it(metadata: EmailMessage) -> None:
    text = str(metadata.get_payload())
    assert "from holdfast import Client" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [one for one in links if not one.startswith("https://")] == []


def test_library_is_imported_whole_where_django_cannot_be(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", NO_SERVER, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Client"
