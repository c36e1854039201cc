// SPDX-License-Identifier: Apache-2.0
/**
 * How long a client waits for one answer: patience that slow octets use up, and octets that come renew.
 *
 * Does not retry, and does not bound how much is read: `transport` does both.
 */

/** How far an answer may fall behind FLOOR before it is given up: four silences of 30 s, or the restart of a server. */
export const PATIENCE_SECONDS = 120;
/**
 * Octets a second: slower than a modem. An answer of at most `maximum` octets ends within PATIENCE + maximum / FLOOR
 * seconds: two minutes for one that trickles octet by octet, under eleven for 2 MiB at the slowest.
 */
export const FLOOR = 4096;

/** An answer came too slowly, or not at all. */
export class TooSlow extends Error {}

/**
 * The patience left for the request under way.
 *
 * It runs from `begin`, and each octet of body earns a part of a second, up to the whole patience again: time earned by a
 * fast beginning cannot be hoarded for a stall.
 */
export class Pace {
  readonly #clock: () => number;
  #until = 0;

  /** clock: milliseconds that only go forward. */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** Start to wait, for `seconds` or with the whole patience. */
  begin(seconds: number = PATIENCE_SECONDS): void {
    this.#until = this.#clock() / 1000 + seconds;
  }

  /** Return the seconds of patience left; 0 when there are none. */
  left(): number {
    return Math.max(0, this.#until - this.#clock() / 1000);
  }

  /** Count octets that went or came. Throws TooSlow when they came too late. */
  came(octets: number): void {
    const now = this.#clock() / 1000;
    this.#until = Math.min(this.#until + octets / FLOOR, now + PATIENCE_SECONDS);
    if (this.#until <= now) throw new TooSlow("slower than the floor");
  }

  /** Return how long one wait of at most `timeout` seconds may take. Throws TooSlow when no patience is left. */
  within(timeout: number): number {
    const left = this.left();
    if (left === 0) throw new TooSlow("slower than the floor");
    return Math.min(timeout, left);
  }
}
