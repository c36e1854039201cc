// SPDX-License-Identifier: Apache-2.0
/**
 * Keys of messages that have not arrived yet, by chain: bounded in number, in chains and in time.
 *
 * The limits of docs/formats/ratchet.md for the store MKSKIPPED of Signal's Double Ratchet, revision 4. Does not derive
 * keys; `ratchet` does, and asks here before it gives a message up.
 */
import { type Bytes, concat, hex, unhex } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, MAX_UINT, MAX_VAULT } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { MAX_AHEAD_SECONDS } from "../signed/payloads.js";

/** As many as one step can skip, 1,000 in either chain: what was just stored never pushes itself out. */
export const MAX_STORED = 2000;
/** Each costs one header opening for every junk message: five, and the two of the present, make seven. */
export const MAX_OLD_CHAINS = 5;
/** The server keeps a message for 30 days: what has not come by then will not. */
export const LIFE_SECONDS = 30 * 86_400;
const ENTRY_SIZE = 44; // bytes: number u32, stored at u64, message key

interface Kept {
  readonly key: Bytes;
  readonly at: number;
}
type Chain = Map<number, Kept>;

/** Message keys grouped by the header key of their chain, oldest chain and key first. */
export class SkippedKeys {
  #chains = new Map<string, Chain>();
  count = 0;
  /** Whether `toSecret` has to be stored again. */
  isChanged = false;

  /** Return the header keys, 32 bytes each, of chains with a stored key, oldest first. */
  headerKeys(): Bytes[] {
    return [...this.#chains.keys()].map(unhex);
  }

  /** Return the 32-byte key of one message, which stays stored until `remove`; undefined when there is none. */
  find(headerKey: Bytes, number: number): Bytes | undefined {
    // A Map is no constant-time store, and need not be: this header key has just opened the header.
    return this.#chains.get(hex(headerKey))?.get(number)?.key;
  }

  /** Drop the key of a message that was opened; the chain goes with its last key. */
  remove(headerKey: Bytes, number: number): void {
    this.#drop(hex(headerKey), number);
  }

  #drop(name: string, number: number): void {
    const chain = this.#chains.get(name) as Chain;
    chain.delete(number);
    // A header key without missing messages opens nothing any more, and would still cost each junk message a trial.
    if (chain.size === 0) this.#chains.delete(name);
    this.count--;
    this.isChanged = true;
  }

  /** Store keys by number, at `now` (UTC seconds); beyond 2,000 in all, the oldest go. */
  add(headerKey: Bytes, keys: ReadonlyMap<number, Bytes>, now: number): void {
    if (keys.size === 0) return;
    const name = hex(headerKey);
    // Maps keep the order of arrival: the first chain, and the first key in it, are the oldest.
    const chain = this.#chains.get(name) ?? new Map<number, Kept>();
    this.#chains.set(name, chain);
    for (const [number, key] of keys) chain.set(number, { key, at: now });
    this.count += keys.size;
    this.isChanged = true;
    while (this.count > MAX_STORED) {
      const [oldest, first] = this.#chains.entries().next().value as [string, Chain];
      this.#drop(oldest, first.keys().next().value as number);
    }
  }

  /**
   * Go over to the chain of header key `made`: store what the old one still lacks, and what the new one skips.
   *
   * Of old chains the 5 newest that lack something are kept: what bounds the trials for a junk message.
   */
  turn(old: Bytes, rest: ReadonlyMap<number, Bytes>, made: Bytes, missing: ReadonlyMap<number, Bytes>, now: number): void {
    if (this.count === 0 && rest.size === 0 && missing.size === 0) return;
    // The old chain first: what this order says of age is what `add` and the limit below go by.
    this.add(old, rest, now);
    this.add(made, missing, now);
    const present = hex(made);
    const oldChains = [...this.#chains.keys()].filter((name) => name !== present);
    for (const name of oldChains.slice(0, Math.max(0, oldChains.length - MAX_OLD_CHAINS))) {
      this.count -= (this.#chains.get(name) as Chain).size;
      this.#chains.delete(name);
      this.isChanged = true;
    }
  }

  /** Drop the keys that were stored 30 days or longer ago. One that was stored in the future counts from `now`. */
  expire(now: number): void {
    for (const [name, chain] of [...this.#chains])
      for (const [number, { key, at }] of [...chain])
        if (now >= at + LIFE_SECONDS) this.#drop(name, number);
        else if (at > now + MAX_AHEAD_SECONDS) {
          chain.set(number, { key, at: now });
          this.isChanged = true;
        }
  }

  /** Return dCBOR [[header key, entries], …]; an entry is number u32, time u64 and key, 44 bytes. */
  toSecret(): SecretBytes {
    const rows: Encodable[] = [...this.#chains].map(([name, chain]) => {
      const entries = [...chain].map(([number, { key, at }]) => {
        const head = new DataView(new ArrayBuffer(12));
        head.setUint32(0, number);
        head.setBigUint64(4, BigInt(at));
        return concat(new Uint8Array(head.buffer), key);
      });
      return [unhex(name), concat(...entries)];
    });
    return new SecretBytes(encode(rows));
  }

  /** Undo `toSecret`. Throws Malformed. */
  static fromSecret(secret: SecretBytes): SkippedKeys {
    const value = decode(secret.reveal(), MAX_VAULT);
    if (!Array.isArray(value)) throw new Malformed("skipped keys: not an array");
    const made = new SkippedKeys();
    for (const item of value) {
      const row = Fields.ofRow(item, "skipped keys", 2);
      const entries = row.octets(1);
      if (entries.length === 0 || entries.length % ENTRY_SIZE !== 0) throw row.refuse(1, "is not whole entries");
      const chain: Chain = new Map(), view = new DataView(entries.buffer, entries.byteOffset);
      for (let at = 0; at < entries.length; at += ENTRY_SIZE) {
        const time = view.getBigUint64(at + 4);
        if (time > MAX_UINT) throw row.refuse(1, "names a time above 2^53 - 1");
        chain.set(view.getUint32(at), { key: entries.slice(at + 12, at + ENTRY_SIZE), at: Number(time) });
      }
      made.#chains.set(hex(row.octets(0, 32)), chain);
    }
    made.count = [...made.#chains.values()].reduce((count, chain) => count + chain.size, 0);
    return made;
  }
}
