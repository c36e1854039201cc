# SPDX-License-Identifier: Apache-2.0
"""A vault and a deposit stored and read over HTTP, beside a secret of 256 bits in OpenStack Barbican."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from bench import load, world
from bench.crowd import Crowd, lines, signed
from bench.peers.barbican import barbican

PEOPLE: Final = 8  # one client each
EACH: Final = 60  # requests of one client in a round
DEPOSITS: Final = 24  # of them: in all rounds fewer than the 100 of one generation that are kept
PEER_EACH: Final = 40
GOAL: Final = ">= 8"
Lines = list[Sequence[bytes]]


def main() -> None:
    """Measure and report."""
    world.start()
    with world.hsm(), ExitStack() as stack:
        world.say("founding, and making deposits")
        made = world.founded()
        people = [_Person(made, account) for account in Crowd(made.directory).people(PEOPLE)]
        ours = stack.enter_context(world.server())
        peer: Any
        try:
            peer = stack.enter_context(barbican())
            references = [peer.stored() for _ in people]
        except world.NotMeasured as error:
            peer = error
        # Reading first: a deposit is read in a list of one's own, which is then of one.
        acts: dict[str, tuple[Callable[[Any], Sequence[bytes]], bool]] = {
            "a deposit, read": (_Person.deposit_reads, False),
            "a deposit, stored": (_Person.deposits, True),
            "a vault, stored": (_Person.vaults, True),
            "a vault, read": (_Person.vault_reads, False),
        }
        rows = []
        for what, (work, is_stored) in acts.items():
            rates: list[float] = []
            peers: list[float] = []
            for number in range(world.ROUNDS + 1):  # the first untimed
                world.say(f"{what}, round {number} of {world.ROUNDS}")
                rates.append(load.run(ours.port, [work(person) for person in people]).rate)
                if not isinstance(peer, world.NotMeasured):
                    asked = [
                        peer.store() if is_stored else peer.read(reference)
                        for _ in range(PEER_EACH)
                        for reference in references
                    ]
                    peers.append(load.run(peer.serving.port, lines(asked, PEOPLE)).rate)
            said = f"{what}, {PEOPLE} clients"
            if peers:
                rows.append(world.row(said, rates[1:], peers[1:], "/s", beside="Barbican's secret", goal=GOAL))
            else:
                rows.append(world.missing(f"{said}, beside Barbican", peer, goal=GOAL))
    world.report(rows)


class _Person:
    """Somebody with a vault and a deposit."""

    def __init__(self, made: Any, account: Any) -> None:
        self.made, self.account, self.phone = made, account, account.phones[0]
        self.deposit = made.deposit(account.person.name)

    def deposits(self) -> Sequence[bytes]:
        """Deposits of one archive key, made beforehand: sealing is the client's work."""
        from holdfast.core.base.encoding import b64u
        from holdfast.core.signed import cose
        from holdfast.core.signed.cose import Purpose
        from holdfast.core.signed.statements import DepositStatement

        header = self.deposit.header
        key = self.made.archive_keys[header.deposit_id]
        records = [
            self.made._build(
                self.account.person.name, key, header.generation, consent_hash=header.consent_hash
            ).to_record()
            for _ in range(DEPOSITS)
        ]
        documents = []
        for record in records:
            statement = DepositStatement(self.phone.header(), hashlib.sha256(record).digest())
            signed_ = cose.sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=self.phone.isk)
            documents.append({"record": b64u(record), "statement": b64u(signed_.encode())})
        return [signed(self.phone, "POST", "/api/v1/escrow/deposits", document) for document in documents]

    def deposit_reads(self) -> Sequence[bytes]:
        return [signed(self.phone, "GET", "/api/v1/escrow/deposits") for _ in range(4 * EACH)]

    def vaults(self) -> Sequence[bytes]:
        """Versions of a vault, each on top of the last; one that the time cut off begins the next round's."""
        from kernel.scope import tenant_scope
        from keys.models import Vault

        with tenant_scope(self.made.tenant_id):
            row = Vault.objects.filter(user_id=self.phone.person.pk).first()
        first = row.version if row else 0
        documents = [self.account.vault(self.phone, first + at + 1) for at in range(EACH)]
        return [
            signed(self.phone, "PUT", "/api/v1/vault", document, if_match=f'"{first + at}"')
            for at, document in enumerate(documents)
        ]

    def vault_reads(self) -> Sequence[bytes]:
        return [signed(self.phone, "GET", "/api/v1/vault") for _ in range(4 * EACH)]


if __name__ == "__main__":
    main()
