// SPDX-License-Identifier: Apache-2.0
/**
 * This machine's clock, and what a server and a signed log head say of the time beside it.
 *
 * The time of docs/spec/protocol.md on the device. Speaks to nobody: `transport` tells it what the server said.
 */
import { duration } from "../../core/base/text.js";

/** A server may shift this client's idea of the time by a day at most: beyond that a person sets the clock. */
export const MAX_CORRECTION_SECONDS = 86_400;
/**
 * Heads are signed anew every half minute for whoever asks, and machines that set their clocks by the network differ by
 * seconds. An older head, shown again, confirms nothing.
 */
export const CONFIRMED_WITHIN_SECONDS = 300;
const WORTH_CORRECTING_SECONDS = 20; // a signature is good for 60 s: below a third of it nothing is gained
/** What a person does about clocks that differ. */
export const SET_THE_CLOCK = "Whichever is wrong has to be set; then all goes on by itself. Nothing was lost by it.";

/**
 * This machine's clock; beside it what a server's 401 said of the time, and what a signed log head confirmed.
 *
 * A 401 is the word of one process, which may be wrong or lie. `forRequests` takes it, as that process judges requests.
 * `earliest` dates what is signed and stays: never later than this machine's own clock, so that a server whose clock is
 * ahead for a moment has nothing dated into the future. `latest` is what expiry is judged by, and from when an age counts:
 * never earlier than this machine's own clock, so that a server brings no expired statement back to life, and nothing is
 * old before its time.
 *
 * `confirmed` is what destroys. Two clocks have to agree, that of the log and this machine's own, uncorrected: by one
 * alone a month would be over in the minute in which it jumps.
 */
export class Clock {
  readonly #read: () => number;
  #offset = 0;
  #said = 0;
  #signed: number | undefined;

  /** read: milliseconds since 1970, as `Date.now` gives them. */
  constructor(read: () => number = Date.now) {
    this.#read = read;
  }

  /** Return UTC seconds by this machine's own clock. */
  now(): number {
    // A machine without a battery may begin before 1970, which no time here can say.
    return Math.max(0, Math.floor(this.#read() / 1000));
  }

  /** Return the time by which requests are dated: as the server said, within a day. */
  forRequests(): number {
    return this.now() + this.#offset;
  }

  /** Return the earlier of the machine's and the corrected time, in UTC seconds. */
  earliest(): number {
    return this.now() + Math.min(this.#offset, 0);
  }

  /** Return the later of the machine's and the corrected time, in UTC seconds. */
  latest(): number {
    return this.now() + Math.max(this.#offset, 0);
  }

  /** Return UTC seconds if a signed head lies within five minutes of this machine's own clock; undefined otherwise. */
  confirmed(): number | undefined {
    const now = this.now();
    return this.#signed !== undefined && Math.abs(now - this.#signed) <= CONFIRMED_WITHIN_SECONDS ? now : undefined;
  }

  /** Seconds that the server's clock is ahead of this machine's, as far as requests are corrected by it. */
  get offset(): number {
    return this.#offset;
  }

  /** Seconds that the server's clock is ahead of this machine's, however many, by its last word; 0 for none. */
  get said(): number {
    return this.#said;
  }

  /** Take over the server's time; returns whether that changed anything worth another attempt. */
  correct(serverTime: number): boolean {
    const offset = serverTime - this.now();
    this.#said = offset;
    if (Math.abs(offset) > MAX_CORRECTION_SECONDS || Math.abs(offset - this.#offset) < WORTH_CORRECTING_SECONDS)
      return false;
    this.#offset = offset;
    return true;
  }

  /** Note that the server took a request dated by `forRequests`: whatever it said before, this is its time. */
  agreed(): void {
    this.#said = this.#offset;
  }

  /** Note the time in the newest head that was shown, which the pinned log key has signed; undefined for no time. */
  confirm(signedAt: number | undefined): void {
    this.#signed = signedAt;
  }

  /** Whether the server said another time than this machine's own, by more than clocks differ. */
  get isOff(): boolean {
    return Math.abs(this.#said) > CONFIRMED_WITHIN_SECONDS;
  }

  /** Say for people how far this machine's clock is from the server's. */
  inWords(): string {
    const way = this.#said > 0 ? "behind" : "ahead of";
    return `This machine's clock is ${duration(Math.abs(this.#said))} ${way} the server's.`;
  }
}
