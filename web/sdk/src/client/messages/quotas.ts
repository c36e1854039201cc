// SPDX-License-Identifier: Apache-2.0
/**
 * Who may fill how much of what a device keeps until it can act on it: a quota for each sender of each kind.
 *
 * For rows that others make this device keep. Each kind is a kind of row of its own, so that none takes another's place,
 * and each key begins with its sender. Opens no row: keys alone say whose it is.
 */
import { type Bytes, hex } from "../../core/base/bytes.js";
import type { Store } from "../profile/store.js";

/** Octets at the beginning of a key: whose row it is. */
export const SENDER = 16;

/** How many rows of a kind one sender may fill, and all senders together. */
export interface Quota {
  readonly ofOne: number;
  readonly ofAll: number;
}

/**
 * Destroy what is above the quota, in the caller's transaction.
 *
 * Who is above their own loses their oldest. Above the quota of all, whoever has most loses first, and strangers before
 * those whom `isKnown` knows; of many with equally few, who came last: a flood of new names drowns nobody.
 */
export async function trim(
  store: Store,
  kind: string,
  quota: Quota,
  { isKnown = () => false }: { readonly isKnown?: ((sender: Bytes) => boolean) | undefined } = {},
): Promise<void> {
  const keys = await store.keys(kind);
  if (keys.length <= Math.min(quota.ofOne, quota.ofAll)) return;
  const rows = new Map<string, Bytes[]>();
  for (const key of keys) {
    const sender = hex(key.subarray(0, SENDER)), mine = rows.get(sender);
    if (mine) mine.push(key);
    else rows.set(sender, [key]);
  }
  let total = 0;
  for (const mine of rows.values()) {
    for (const key of mine.splice(0, Math.max(0, mine.length - quota.ofOne))) await store.delete(kind, key);
    total += mine.length;
  }
  const senders = [...rows.values()].map((mine) => ({ mine, known: isKnown((mine[0] as Bytes).slice(0, SENDER)) }));
  // The last of equals: who came last.
  for (; total > quota.ofAll; total--) {
    let largest = senders[0] as (typeof senders)[number];
    for (const one of senders) {
      if (one.mine.length === 0) continue;
      if (largest.mine.length === 0 || (!one.known && largest.known)) largest = one;
      else if (one.known === largest.known && one.mine.length >= largest.mine.length) largest = one;
    }
    await store.delete(kind, largest.mine.shift() as Bytes);
  }
}
