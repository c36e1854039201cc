# SPDX-License-Identifier: Apache-2.0
"""The rows of a profile: of one that was kept from before, and a state with all that one can hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from holdfast.client.profile import account as accounts
from holdfast.client.profile.state import (
    Contact,
    Device,
    Generation,
    OfficerKeys,
    OfficerPublicKeys,
    OfficersSection,
    OpenCase,
    State,
    Trust,
    VaultKey,
)
from holdfast.client.profile.turns import Standing
from holdfast.core.base.rows import seal_row
from holdfast.core.base.secret import SecretBytes
from tests.published.mutations import malformed, rows

_KEPT: Final = Path(__file__).parents[1] / "client" / "profile" / "kept" / "profile.holdfast"
_OPTIONAL: Final = {f"field {number} missing" for number in (4, 12, 13, 14)}
_PASSPHRASE: Final = SecretBytes(b"a passphrase for tests only")


def write() -> dict[str, object]:
    """Make the file anew: all of it is the same each time."""
    state = _state().to_secret().reveal()
    return {
        "page": "docs/formats/profile.md",
        "kept": _kept(),
        "state": state.hex(),
        "contact": seal_row(Contact(_id(3), [b"one", b"two"], [b"anew"], 2, _hash(4))).reveal().hex(),
        "turn": seal_row(Standing(b"m" * 8, b"n" * 8, 2, 1_792_000_000)).reveal().hex(),
        "refused": rows({why: form for why, form in malformed(state).items() if why not in _OPTIONAL}),
    }


def _kept() -> list[list[str]]:
    """Return [kind, key, value] of every row of the kept profile, in the order of their places."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copy(_KEPT, home)
        (Path(home) / _KEPT.name).chmod(0o600)
        store = accounts.open_profile(Path(home), passphrase=_PASSPHRASE).store
        connection = store._connection  # type: ignore[attr-defined]
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM entry GROUP BY kind ORDER BY min(place)")]
        found = [(kind, key, store.get(kind, key)) for kind in kinds for key in store.keys(kind)]
        store.close()
    return [[kind, key.hex(), value.reveal().hex()] for kind, key, value in found if value is not None]


def _state() -> State:
    trust = Trust(
        pin=_hash(1),
        is_tofu=True,
        is_development=True,
        root_key=b"root key",
        policies=[b"policy 1", b"policy 2"],
        escrow_keys=[b"escrow key"],
        log_keys=["holdfast/x+00000000+AA"],
        checkpoints={"z/\U0001f600": "later", "z/\uff5a": "earlier", "a": "first"},
        roles=b"roles",
        withdrawals=[b"withdrawal"],
        founding_root=_hash(2),
    )
    return State(
        server="https://holdfast.example",
        trust=trust,
        device=Device(_id(5), _seed(6), _seed(7), _seed(8), b"device statement", is_active=True),
        identity_seed=_seed(9),
        chain=[b"genesis", b"next"],
        generations=[
            Generation(1, _seed(10), 1_790_000_000, _hash(11)),
            Generation(2, _seed(12), 1_791_000_000, _hash(13), _id(14), _hash(15), is_exposed=True),
        ],
        vault=VaultKey(3, _seed(16), 7),
        consent=b"consent",
        case=OpenCase(_id(17), b"case", SecretBytes(b"recipient rsa"), _seed(18), _seed(19)),
        officer=OfficerKeys(_seed(20), _seed(21)),
        officers_section=OfficersSection(2, _seed(22), 5, [OfficerPublicKeys(b"signing", b"sealing")]),
    )


def _id(number: int) -> bytes:
    return bytes([number]) * 16


def _hash(number: int) -> bytes:
    return bytes([number]) * 32


def _seed(number: int) -> SecretBytes:
    return SecretBytes(_hash(number))
