// SPDX-License-Identifier: Apache-2.0
/**
 * Waiting for what others have to do first, and trying again when another device was faster.
 *
 * The `waitSeconds` of the calls that wait, and the optimistic writes of chain, vault and messages. Does not wait longer
 * than it is told to, and never by itself.
 */
import { type ClientError, NotYet, Problem } from "./errors.js";

const POLL_SECONDS = 1; // a person who waits sees it at once; a server hardly notices one request a second
// A person has a few devices, and each writes a few times an hour. Who is overtaken five times in a row is not racing with
// people: the server shows one state and refuses what follows from it.
const RACES = 5;

/** What an attempt had read is not the newest any more. Thrown inside attempts of `retry` alone. */
export class Overtaken extends Error {}

/** Wait so many seconds. */
export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Try until it succeeds, every second, for at most `seconds`; then reject with NotYet. */
export async function waitFor<T>(attempt: () => Promise<T>, seconds: number): Promise<T> {
  const until = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof NotYet) || performance.now() + POLL_SECONDS * 1000 > until) throw error;
    }
    await sleep(POLL_SECONDS);
  }
}

/**
 * Read, decide and write until nobody is faster, five times at most; then reject with `lost`.
 *
 * attempt: reads anew each time it is called. It was overtaken when it throws Overtaken, or a Problem whose code is
 * `stale`; every other error is the caller's to see.
 */
export async function retry<T>(
  attempt: () => Promise<T>,
  { lost, stale = "" }: { readonly lost: ClientError; readonly stale?: string },
): Promise<T> {
  for (let race = 0; race < RACES; race++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Overtaken) && !(error instanceof Problem && error.code === stale)) throw error;
    }
  }
  throw lost;
}

/** Return the refusal, as the server words it, of what lost every race. */
export function staleProblem(code: string, detail: string): Problem {
  return new Problem({ status: 409, code, detail });
}
