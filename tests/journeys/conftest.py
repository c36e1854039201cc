# SPDX-License-Identifier: Apache-2.0
"""One installation for all walks: it takes half a minute to make, and every walk brings its own people."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.cast.founded import found, hsm, hsm_home
from tests.cast.hsm import Interposer, build_interposer
from tests.cast.server import Installation, installation

# Here, and not in the file that uses them: one opening of the HSM ends with its package, and a file's with the session.
__all__ = ["found", "hsm", "hsm_home"]


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Have a connection that a walk left open reported in that walk, and not in whichever one collects it."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def counted_unwraps(tmp_path_factory: pytest.TempPathFactory) -> Interposer:
    """A PKCS#11 module between the processes and SoftHSM, which counts and delays from outside."""
    return build_interposer(tmp_path_factory.mktemp("journey-interposer"))


@pytest.fixture(scope="session")
def server(counted_unwraps: Interposer) -> Iterator[Installation]:
    """A running installation whose HSM module is the interposer, from its ceremony on."""
    with installation(HOLDFAST_HSM_MODULE=str(counted_unwraps.module)) as made:
        yield made
