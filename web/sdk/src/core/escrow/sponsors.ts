// SPDX-License-Identifier: Apache-2.0
/**
 * Who stands behind whoever asks: whoever let them and their device in, whoever let those in, and so on back.
 *
 * docs/spec/escrow.md "Case" (Eligible): nobody asks in another's name and decides on it as well. Knows no clock, row or
 * log. It walks forward, act by act: whoever stands behind a sponsor comes to stand behind whom they let in. So nothing is
 * walked back over when somebody asks, and of two people only the last act is kept.
 */

/** For as long, whoever let a person in may still hold what they made for them: a password, a code, a device. */
export const WITHIN_SECONDS = 90 * 86_400;

/**
 * Return who stands behind a person now, of those who came to and when they last did.
 *
 * Person: however the caller names people, equal by `===`. now: in seconds of whichever count the caller has, the same for
 * all.
 */
export function stillBehind<Person>(behind: ReadonlyMap<Person, number>, now: number): Set<Person> {
  return new Set([...behind].filter(([, since]) => now - since <= WITHIN_SECONDS).map(([one]) => one));
}

/**
 * Return who stands behind an act of these people, by which they let somebody in now: they, and those behind them.
 *
 * known: person → who came to stand behind them, and when they last did; more people than `by` do no harm. An act is
 * inviting, resetting or enrolling a person, or giving them a role.
 */
export function lettingIn<Person>(
  by: Iterable<Person>,
  known: ReadonlyMap<Person, ReadonlyMap<Person, number>>,
  now: number,
): Set<Person> {
  const sponsors = new Set(by);
  for (const one of [...sponsors])
    for (const other of stillBehind(known.get(one) ?? new Map<Person, number>(), now)) sponsors.add(other);
  return sponsors;
}
