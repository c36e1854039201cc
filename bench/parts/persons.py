# SPDX-License-Identifier: Apache-2.0
"""A claim for all ten devices of a person: keys a second, beside Synapse with one key and with ten in a request."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from bench import load, world
from bench.crowd import Crowd, Stock, claims, lines
from bench.peers.synapse import HANDED_OUT, synapse

CLIENTS: Final = 32
DEVICES: Final = 10
PEOPLE: Final = 16  # who are claimed
REQUESTERS: Final = 16
MOST: Final = 160  # claims in one round, ten keys each
PEER_MOST: Final = 600
GOAL: Final = ">= 20"


def main() -> None:
    """Measure and report."""
    world.start()
    world.say(f"making {PEOPLE} people with {DEVICES} devices each")
    crowd = Crowd()
    requesters = [account.phones[0] for account in crowd.people(REQUESTERS)]
    people = crowd.people(PEOPLE, devices=DEVICES)
    # A claim takes a key of every device of one person: for the stock, PEOPLE claims take one of each.
    stock = Stock([phone for account in people for phone in account.phones])
    rates: dict[str, list[float]] = {"ours": [], "one": [], "ten": []}
    with world.server() as ours, ExitStack() as stack:
        peer: Any
        try:
            peer = stack.enter_context(synapse())
            for _ in range(PEOPLE):
                peer.add_person(DEVICES)
        except world.NotMeasured as error:
            peer = error
        for number in range(world.ROUNDS + 1):  # the first untimed
            world.say(f"claims for all devices, round {number} of {world.ROUNDS}")
            stock.have(MOST * DEVICES)
            asked = claims(requesters, [f"{account.path}/claim" for account in people], MOST)
            run = load.run(ours.port, lines(asked, CLIENTS), has=b'"handed-out"').whole()
            stock.took(run.answered * DEVICES)
            rates["ours"].append(run.rate * DEVICES)
            if not isinstance(peer, world.NotMeasured):
                rates["one"].append(_synapse(peer, 1))
                rates["ten"].append(_synapse(peer, DEVICES))
    what = f"keys claimed, {DEVICES} devices in a request, {CLIENTS} clients"
    if isinstance(peer, world.NotMeasured):
        world.report([world.missing(f"{what}, beside Synapse", peer, goal=GOAL)])
        return
    world.report(
        [
            world.row(what, rates["ours"][1:], rates["one"][1:], "/s", beside="Synapse, one key each", goal=GOAL),
            world.row(what, rates["ours"][1:], rates["ten"][1:], "/s", beside="Synapse, ten keys each"),
        ]
    )


def _synapse(peer: Any, devices: int) -> float:
    """Return the keys a second that Synapse hands out."""
    number = PEER_MOST // devices
    peer.have(PEER_MOST // PEOPLE // devices + CLIENTS if devices == 1 else number // PEOPLE + CLIENTS)
    asked = [peer.claim(at % PEOPLE, (at + 1) % PEOPLE, devices=devices) for at in range(number)]
    return load.run(peer.serving.port, lines(asked, CLIENTS), has=HANDED_OUT).rate * devices


if __name__ == "__main__":
    main()
