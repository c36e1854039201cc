# SPDX-License-Identifier: Apache-2.0
"""Account chains in each suite's kind of key: what each prefix of one says, and what must never be followed."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.core.base.encoding import encode
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState, verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.signed.cose import Sign1
from tests.cast.statements import ACME, ALICE, DAY, LAPTOP, NOW, PHONE, hash_of
from tests.published.mutations import malformed

Chain = list[Entry]


@dataclass
class Story:
    """A chain under construction, a day between its steps, with every key that signed it."""

    kind: KeyKind
    entries: Chain = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = [SigningKey.generate(self.kind) for _ in range(5)]
        self.aik, self.recovery = self.keys[0], SigningKey.generate(self.kind)
        by = Author(LAPTOP, NOW, self.aik)
        self.add(chain_author.genesis(tenant=ACME, user=ALICE, by=by, recovery_key=self.recovery.public))

    @property
    def state(self) -> ChainState:
        return verify_chain(self.entries, tenant=ACME, user=ALICE)

    @property
    def by(self) -> Author:
        return Author(LAPTOP, NOW + DAY * len(self.entries), self.aik)

    def add(self, *entries: Entry) -> None:
        self.entries += entries


def write() -> dict[str, object]:
    """Make the file anew: its keys are fresh each time."""
    return {
        "page": "docs/formats/statements.md",
        "tenant": ACME.hex(),
        "user": ALICE.hex(),
        "chains": [_published(_story(kind)) for kind in (KeyKind.ED25519, KeyKind.P256_SIGNING)],
    }


def _story(kind: KeyKind) -> Story:
    story = Story(kind)
    for device, name in ((LAPTOP, "laptop"), (PHONE, "phone")):
        story.add(chain_author.add_device(story.state, by=story.by, device=device, statement_hash=hash_of(name)))
    story.add(
        chain_author.archive_generation(
            story.state, by=story.by, generation=1, not_before=NOW + DAY, commitment=hash_of("archive key")
        )
    )
    story.add(chain_author.share_manifest(story.state, by=story.by, manifest_hash=hash_of("manifest")))
    story.add(chain_author.rotate_key(story.state, by=story.by, new_aik=story.keys[1], reason=Reason.SCHEDULE))
    story.aik = story.keys[1]
    revoked = chain_author.revoke_device(
        story.state, by=story.by, device=PHONE, reason=Reason.DEVICE_LOST, since=NOW, new_aik=story.keys[2]
    )
    story.add(*revoked)
    story.aik = story.recovery
    story.add(chain_author.rotate_key(story.state, by=story.by, new_aik=story.keys[3], reason=Reason.RECOVERY))
    story.aik = story.keys[3]
    return story


def _published(story: Story) -> dict[str, object]:
    whole = story.entries
    return {
        "entries": [entry.encode().hex() for entry in whole],
        "states": [
            _said(verify_chain(whole[:count], tenant=ACME, user=ALICE))
            for count in range(1, len(whole) + 1)
            # Between a revocation and its rotation there is no state: neither is valid alone.
            if count != 7
        ],
        "refused": [
            {"why": why, "entries": [octets.hex() for octets in chain]} for why, chain in _refused(story).items()
        ],
        "forks": [
            {"why": why, "entries": [entry.encode().hex() for entry in chain], "pinned": _pinned(whole)}
            for why, chain in _forks(story).items()
        ],
    }


def _said(state: ChainState) -> dict[str, object]:
    return {
        "seq": state.seq,
        "head": state.head.hex(),
        "aik": state.aik.encoded.hex(),
        "recovery_key": state.recovery_key.encoded.hex() if state.recovery_key else None,
        "devices": {device.hex(): statement.hex() for device, statement in state.devices.items()},
        "generations": [one.generation for one in state.generations],
        "manifest": state.manifest_hash.hex() if state.manifest_hash else None,
    }


def _pinned(chain: Chain) -> dict[str, object]:
    state = verify_chain(chain, tenant=ACME, user=ALICE)
    return {"seq": state.seq, "head": state.head.hex()}


def _refused(story: Story) -> dict[str, list[bytes]]:
    """Chains that are invalid by themselves."""
    octets = [entry.encode() for entry in story.entries]
    old, new = story.entries[5].signatures
    later = Author(LAPTOP, NOW + 20 * DAY, story.keys[0])
    stale = chain_author.share_manifest(story.state, by=later, manifest_hash=hash_of("other"))
    stranger = Author(LAPTOP, NOW + 20 * DAY, SigningKey.generate(story.kind))
    forged = chain_author.share_manifest(story.state, by=stranger, manifest_hash=hash_of("other"))
    back = Author(LAPTOP, NOW, story.aik)
    early = chain_author.share_manifest(story.state, by=back, manifest_hash=hash_of("other"))
    flipped = Sign1(old.protected, old.payload, old.signature[:-1] + bytes([old.signature[-1] ^ 1]))
    chains = {
        "nothing": [],
        "no genesis": octets[1:],
        "a gap": octets[:2] + octets[3:],
        "an entry twice": [*octets[:3], octets[2], *octets[3:]],
        "two entries in each other's place": [*octets[:1], octets[2], octets[1], *octets[3:]],
        "a revocation without its rotation": octets[:7],
        "a rotation signed by the old key alone": [*octets[:5], old.encode()],
        "a rotation signed by the new key alone": [*octets[:5], new.encode()],
        "a rotation signed in the other order": [*octets[:5], _many(new, old)],
        "a rotation signed by the old key twice": [*octets[:5], _many(old, old)],
        "a rotation with a broken signature": [*octets[:5], _many(flipped, new)],
        "an entry by a key rotated away": [*octets, stale.encode()],
        "an entry by nobody's key": [*octets, forged.encode()],
        "an entry dated long before the one it follows": [*octets, early.encode()],
    }
    inside = malformed(story.entries[1].signatures[0].payload)
    protected, signature = story.entries[1].signatures[0].protected, story.entries[1].signatures[0].signature
    for why, payload in inside.items():
        chains[f"second entry's payload: {why}"] = [octets[0], Sign1(protected, payload, signature).encode()]
    return chains


def _many(*statements: Sign1) -> bytes:
    return encode([statement.value() for statement in statements])


def _forks(story: Story) -> dict[str, Chain]:
    """Chains that are valid by themselves, and differ from one whose newest entry a peer has pinned."""
    last = len(story.entries) - 1
    before = verify_chain(story.entries[:last], tenant=ACME, user=ALICE)
    by = Author(LAPTOP, NOW + DAY * last, story.keys[2])
    other = chain_author.rotate_key(before, by=by, new_aik=story.keys[4], reason=Reason.SCHEDULE)
    short = verify_chain(story.entries[:3], tenant=ACME, user=ALICE)
    early = Author(LAPTOP, NOW + 3 * DAY, story.keys[0])
    branch = [*story.entries[:3]]
    while len(branch) <= len(story.entries):
        entry = chain_author.share_manifest(short, by=early, manifest_hash=hash_of(f"branch {len(branch)}"))
        branch.append(entry)
        short = verify_chain(branch, tenant=ACME, user=ALICE)
    return {"another last entry": [*story.entries[:last], other], "a longer branch from the fourth entry on": branch}
