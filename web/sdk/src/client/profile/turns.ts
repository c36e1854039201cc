// SPDX-License-Identifier: Apache-2.0
/**
 * The profile's part of telling two copies of it from one: its marks, kept before they are said, and what was heard.
 *
 * docs/formats/requests.md (Turns) and docs/formats/profile.md (`turn`). Believes the server no further than to tell the
 * person: a server that lies about it costs them a look, and nothing else.
 */
import { type Bytes, EMPTY, equal } from "../../core/base/bytes.js";
import { layout, octets, openRow, sealRow, uint } from "../../core/base/rows.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { type Answered, MARK_SIZE, turnText } from "../../core/signed/turns.js";
import type { Store } from "./store.js";

/** Row kind, by the 16-byte device whose key signs: each device's openings follow one another. */
export const TURN = "turn";

/** What a profile keeps of its openings. */
export interface Standing {
  /** Of the last one that the server took. */
  readonly mark: Bytes;
  /** Drawn, not taken yet. */
  readonly next: Bytes;
  /** How often an opening of this profile did not follow the newest one. */
  readonly breaks: number;
  /** UTC seconds of the last. */
  readonly brokenAt: number;
}

const STANDING = layout<Standing>("profile turn", { mark: octets(), next: octets(), breaks: uint(), brokenAt: uint() });

/**
 * The turn of one opening: drawn when the first request is signed, and the same for all that follow.
 *
 * A mark that no answer has confirmed is said again by the next opening, so that a lost answer breaks nothing. Pages that
 * share one profile say the mark of the page that was opened last: `follow`.
 */
export class Turns {
  readonly #store: Store;
  readonly #device: Bytes;
  readonly #now: () => number;
  #said: { readonly mark: Bytes; readonly before: Bytes } | undefined;
  #isHeard = false;
  #isFollowing = false;
  /** How many breaks were counted when this opening began. */
  #counted: number | undefined;
  /** Whether an answer of this opening said that the profile is not the newest one. */
  isBroken = false;

  /** device: 16 bytes. now: UTC seconds. */
  constructor(store: Store, device: Bytes, now: () => number) {
    this.#store = store;
    this.#device = device;
    this.#now = now;
  }

  /** Return the field holdfast-turn of a request. */
  async say(): Promise<string> {
    if (this.#said === undefined) {
      let kept = await standing(this.#store, this.#device);
      this.#counted ??= kept.breaks;
      if (this.#isFollowing && kept.next.length === 0 && kept.mark.length > 0) {
        // The server has it: to a request under its newest mark, what went before is nothing any more.
        this.#said = { mark: kept.mark, before: EMPTY };
        this.#isHeard = true;
      } else {
        if (kept.next.length === 0) {
          kept = { ...kept, next: randomBytes(MARK_SIZE) };
          await this.#save(kept);
        }
        this.#said = { mark: kept.next, before: kept.mark };
      }
    }
    return turnText(this.#said.mark, this.#said.before);
  }

  /** Take what an answer says of the turn. What is about another's mark is of no interest. */
  async hear(answered: Answered): Promise<void> {
    const said = this.#said;
    if (said === undefined || !equal(answered.mark, said.mark)) return;
    const isNew = answered.breaks > 0 && !this.isBroken;
    if (this.#isHeard && !isNew) return;
    let kept = await standing(this.#store, this.#device);
    if (isNew) {
      this.isBroken = true;
      // Another page of this profile may have heard of the same break, and counted it.
      if (kept.breaks === this.#counted) kept = { ...kept, breaks: kept.breaks + 1, brokenAt: this.#now() };
    }
    this.#isHeard = true;
    await this.#save({ ...kept, mark: said.mark, next: EMPTY });
  }

  /** Say from now on what the store has: another page of this profile was opened, and has a mark of its own. */
  follow(): void {
    this.#said = undefined;
    this.#isHeard = false;
    this.#isFollowing = true;
  }

  async #save(kept: Standing): Promise<void> {
    await this.#store.transaction(async () => {
      for (const other of await this.#store.keys(TURN))
        if (!equal(other, this.#device)) await this.#store.delete(TURN, other); // of a device whose keys were replaced
      await this.#store.put(TURN, this.#device, sealRow(STANDING, kept));
    });
  }
}

/** Return what a profile keeps of the openings of its device. device: 16 bytes. */
export async function standing(store: Store, device: Bytes): Promise<Standing> {
  const row = await store.get(TURN, device);
  return row === undefined ? { mark: EMPTY, next: EMPTY, breaks: 0, brokenAt: 0 } : openRow(STANDING, row);
}

/** Say what a break means, and what its person does. */
export function wordsOf(kept: Standing): [said: string, wayOut: string] {
  const said =
    kept.breaks > 1
      ? `This profile is used on another machine, too: ${kept.breaks} times it was not the newest one.`
      : "This profile is not the newest one: it was put back from an older copy, or is used on another machine, too.";
  return [
    said,
    "If you or your operator put something back, it goes on from here, and nothing is to be done. If another machine " +
      "uses it, stop it there and enrol that machine anew: two copies lose each other's messages. If neither was you, " +
      "somebody has a copy: revoke this device on another one (client.rotate({ revoke })), and tell your officers.",
  ];
}
