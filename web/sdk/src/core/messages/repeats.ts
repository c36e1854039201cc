// SPDX-License-Identifier: Apache-2.0
/**
 * What is sent again, to whom and how often: the rules of acknowledgements, and of a session begun anew.
 *
 * "Acknowledged and sent again" of docs/formats/messages.md. Knows no session, store or clock.
 */
import { type Bytes, compare, hex } from "../base/bytes.js";

const DAY = 86_400;
/**
 * With one device, by this end. Two, since the first may be lost on its way; with what the peer begins they are the four
 * sessions that are kept.
 */
export const MOST_BEGUN = 2;
/**
 * With all devices together. Whoever names senders, the server, makes a device claim so many one-time keys and no more; a
 * profile put back from a copy meets each of its contacts within days.
 */
export const MOST_BEGUN_OF_ALL = 200;
/** With the devices of one other user: junk in the name of a few accounts uses up nobody else's. */
export const MOST_BEGUN_OF_ONE = 8;
/** With those of all users together who have never answered this device. */
export const MOST_BEGUN_OF_STRANGERS = 50;
/** Answers to one device's greetings: those of a day that `MOST_BEGUN` allows it, and as many by its rotations. */
export const MOST_ANSWERED = 4;
/** A message waits on the server for 30 days: who has not read it by then never will. */
export const KEPT_SECONDS = 30 * DAY;
/** Bytes of all that is kept to be sent again. */
export const KEPT_OCTETS = 64 * 1024 * 1024;
/** Each message counts as so much at least, which bounds how many there are: 16,384. */
export const LEAST_OCTETS = 4 * 1024;
// After a refusal, doubled by each further one: a mailbox that is full is full for hours, and an app that follows its own
// looks every two seconds.
const FIRST_PAUSE = 60, MOST_DOUBLED = 6 * 3600;
/** What a server may ask for at most. */
export const MOST_PAUSED_SECONDS = DAY;

/** Return those of some times (UTC seconds) that are less than a day off: one of a clock ahead blocks nothing. */
export function ofTheDay(times: readonly number[], now: number): number[] {
  return times.filter((at) => Math.abs(now - at) < DAY);
}

/**
 * Tell whether another session may be begun anew with a device. begun: when that was tried, whatever came of it.
 *
 * isConfirmed: whether the device is known to have the last of them. Until then it is waited for, a day at most: what did
 * not open meanwhile was sent before the device heard of it.
 */
export function mayBegin(begun: readonly number[], now: number, isConfirmed: boolean): boolean {
  const today = ofTheDay(begun, now);
  return today.length < MOST_BEGUN && (isConfirmed || today.length === 0);
}

/** Tell whether one more of a device's greetings of this day is answered. */
export function mayAnswer(answered: readonly number[], now: number): boolean {
  return ofTheDay(answered, now).length < MOST_ANSWERED;
}

/** Return how long the server is left alone after so many refusals in a row. asked: seconds, by its own word. */
export function pauseSeconds(refused: number, asked: number): number {
  const doubled = Math.min(FIRST_PAUSE * 2 ** Math.min(refused - 1, 16), MOST_DOUBLED);
  return Math.min(Math.max(doubled, Math.ceil(asked)), MOST_PAUSED_SECONDS);
}

/** Return as how much a message of so many octets counts against `KEPT_OCTETS`. */
export function counted(octets: number): number {
  return Math.max(octets, LEAST_OCTETS);
}

/**
 * Return the devices that a message still waits for, in ascending order. waiting: those that have not acknowledged it, 16
 * bytes each.
 *
 * listed: those that their owner's chain lists, without the sending one. A device that it lists no longer reads nothing.
 * When nobody else has had the message, it is due to the devices that remain.
 */
export function stillDue(waiting: readonly Bytes[], listed: readonly Bytes[], isAcknowledged: boolean): Bytes[] {
  const known = new Set(listed.map(hex));
  const left = waiting.filter((device) => known.has(hex(device)));
  return [...(left.length > 0 || isAcknowledged || waiting.length === 0 ? left : listed)].sort(compare);
}
