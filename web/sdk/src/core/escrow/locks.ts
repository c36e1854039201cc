// SPDX-License-Identifier: Apache-2.0
/**
 * When a tenant was locked, as its log tells it, and how much of a stretch of time that was.
 *
 * docs/spec/escrow.md "What it believes of the log". Pure: times are seconds on the caller's one count. Whose words an
 * unlocking needs, the caller decides.
 */

/** The default of the long delay (docs/spec/escrow.md "Case"), where no policy says another. */
export const DEFAULT_DELAY_SECONDS = 14 * 86_400;

/** The locks of one tenant, taken in entry by entry. It starts unlocked. */
export class Locks {
  /** From, until: locks that have ended, oldest first. */
  readonly #over: [from: number, until: number][] = [];
  #since: number | undefined;
  /** From when on an unlocking may count: since it was asked for, and the delay. */
  #asked: number | undefined;
  /** When the lock ends; it may lie ahead. */
  #until: number | undefined;

  /** Take in that it was locked, or is to stay so: an unlocking that has not come into effect is over. */
  lock(at: number): void {
    if (this.#since !== undefined && this.#until !== undefined && this.#until <= at) {
      this.#over.push([this.#since, this.#until]);
      this.#since = undefined;
    }
    this.#since ??= at;
    this.#asked = this.#until = undefined;
  }

  /** Take in that two owners asked for its end; the first such word of a lock counts, until it is locked again. */
  ask(at: number, delay: number): void {
    if (this.#since !== undefined) this.#asked ??= at + delay;
  }

  /** Take in that it was unlocked: it ends then, or when the delay is over by this count. False unless asked. */
  unlock(at: number): boolean {
    if (this.#since === undefined || this.#asked === undefined) return false;
    this.#until ??= Math.max(at, this.#asked);
    return true;
  }

  /** Tell whether it is locked at a time that lies behind everything taken in. */
  isLocked(now: number): boolean {
    return this.#since !== undefined && (this.#until === undefined || now < this.#until);
  }

  /** Return how many seconds between two times it was locked. */
  lockedBetween(start: number, end: number): number {
    const spans = [...this.#over];
    if (this.#since !== undefined) spans.push([this.#since, this.#until ?? end]);
    return spans.reduce((sum, [since, until]) => sum + Math.max(0, Math.min(until, end) - Math.max(since, start)), 0);
  }
}
