// SPDX-License-Identifier: Apache-2.0
/**
 * Following a log from one signed head to the next, leaf by leaf, without trusting whoever serves it.
 *
 * docs/spec/escrow.md "What it believes of the log" and protocol.md section 8 on RFC 6962 as in `merkle`. Reads no clock and
 * keeps nothing: the caller checks the note, hands in the time, and stores what it must remember.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Expired, Forked, Untrusted } from "../base/errors.js";
import type { Checkpoint } from "./checkpoint.js";
import { CompactRange, leafHash } from "./merkle.js";

/**
 * Heads are signed again every 30 seconds, so two minutes leave room for a slow sequencer. A higher value lets a server hide
 * a veto or a removal for longer. docs/spec/escrow.md "Release process".
 */
export const MAX_AGE_SECONDS = 120;
/**
 * Machines that set their clocks by the network differ by far less. A head from further ahead comes from a clock that will
 * be set back: whoever remembered it would wait for its time to come.
 */
export const MAX_AHEAD_SECONDS = 60;

/** The log is shorter than what was proven before: rows or a database were put back. */
export class RolledBack extends Untrusted {
  override get name(): string {
    return "RolledBack";
  }
}

/** The leaves served do not lead to the signed head: one was changed, left out, added or moved. */
export class Edited extends Forked {
  override get name(): string {
    return "Edited";
  }
}

/** Throw Expired for a head dated over a minute ahead of `now` (UTC seconds), or not at all: it is not believed. */
export function requireNotAhead(checkpoint: Checkpoint, now: number): void {
  if (checkpoint.time === undefined || checkpoint.time > now + MAX_AHEAD_SECONDS)
    throw new Expired("the log's head is dated ahead of this machine's clock");
}

/** Throw Expired unless a head was signed within `maxAge` seconds before `now`, by the caller's own clock. */
export function requireFresh(checkpoint: Checkpoint, now: number, maxAge: number = MAX_AGE_SECONDS): void {
  requireNotAhead(checkpoint, now);
  if (now - (checkpoint.time ?? 0) > maxAge) throw new Expired("the log's newest head is too old");
}

/**
 * How far a follower has read a log: the right edge of what it has proven.
 *
 * Immutable: `advance` returns the next follower, so a failed step leaves the last good one.
 */
export class LogFollower {
  /** The right edge and not the leaves: it is all that is needed to prove that every later head extends this one. */
  constructor(readonly range: CompactRange = new CompactRange()) {}

  /** How many leaves have been read and proven. */
  get size(): number {
    return this.range.size;
  }

  /** The root of what has been read: 32 bytes. */
  get root(): Bytes {
    return this.range.root();
  }

  /**
   * Throw RolledBack for a head shorter than what was read, Forked for another root at the same size.
   *
   * checkpoint: opened from a note by the log's own key, so each is evidence against the log, at any age.
   */
  requireExtends(checkpoint: Checkpoint): void {
    // By size and never by time: a head of the same log with an earlier date is an old one shown once more, or a clock that
    // was set right.
    if (checkpoint.size < this.size) throw new RolledBack("the log is shorter than it was");
    // At one size there is one root for ever, so this needs no proof from anybody.
    if (checkpoint.size === this.size && !equal(checkpoint.root, this.root))
      throw new Forked("the log shows two heads of one size");
  }

  /**
   * Read every leaf between the last head and this one, and return the follower that stands at it.
   *
   * leaves: all of them, in order, from `this.size` to the head's size; no more is read than one beyond. Throws as
   * `requireExtends` does, and Edited when they do not lead to the head's root.
   */
  async advance(leaves: Iterable<Bytes> | AsyncIterable<Bytes>, checkpoint: Checkpoint): Promise<LogFollower> {
    this.requireExtends(checkpoint);
    // The follower reads the leaves itself instead of asking for a consistency proof: it needs every one of them, to build
    // its facts from. What leads from its own range to the signed root is then also proven to be append-only.
    let grown = this.range;
    for await (const leaf of leaves) {
      // Stops at once: a server could otherwise feed leaves without end, none of them signed for.
      if (grown.size === checkpoint.size) throw new Edited("the log serves more entries than its signed head covers");
      grown = grown.append(leafHash(leaf));
    }
    // All or nothing: no leaf counts before the root agrees, since a single root cannot say which of them was changed.
    if (grown.size !== checkpoint.size || !equal(grown.root(), checkpoint.root))
      throw new Edited("the log's entries do not lead to its signed head");
    return new LogFollower(grown);
  }
}
