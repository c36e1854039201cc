// SPDX-License-Identifier: Apache-2.0
/**
 * One holder of a profile at a time, over all pages and workers of this origin: Web Locks.
 *
 * A page that is closed or crashes gives its lock back by itself. Where there are no Web Locks (Node 20), one program
 * holds its own profiles alone. Does not keep two writers apart by itself: the store's commits do.
 */
import { ProfileBusy } from "../errors.js";
import { databaseOf } from "./indexed_db.js";

// 24 days: what a timer waits at most; one that is told more ends at once.
const LONGEST = (2 ** 31 - 1) / 1000;
const held = new Map<string, Promise<unknown>>();

/**
 * Run `work` while this page holds the lock of a profile, waiting up to `waitSeconds` for others.
 *
 * Rejects with ProfileBusy when another is in still. Not to be nested: it would wait for itself.
 */
export async function withLock<T>(name: string, waitSeconds: number, work: () => Promise<T>): Promise<T> {
  const ended = new AbortController();
  // A wait of no time is a look, and one of no end needs no timer.
  const timer = waitSeconds > 0 && waitSeconds < LONGEST ? setTimeout(() => ended.abort(), waitSeconds * 1000) : undefined;
  try {
    return await request(databaseOf(name), waitSeconds > 0 ? ended.signal : undefined, async () => {
      clearTimeout(timer);
      return work();
    });
  } finally {
    clearTimeout(timer);
  }
}

async function request<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks === undefined) return requestHere(name, signal, work);
  let hasBegun = false;
  const begin = async (lock: Lock | null): Promise<T> => {
    if (lock === null) throw busy();
    hasBegun = true;
    return work();
  };
  try {
    return await locks.request(name, signal === undefined ? { ifAvailable: true } : { signal }, begin);
  } catch (error) {
    throw !hasBegun && signal?.aborted ? busy() : error;
  }
}

async function requestHere<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const before = held.get(name);
  if (before !== undefined && signal === undefined) throw busy();
  let release = (): void => undefined;
  const mine = new Promise<void>((resolve) => (release = resolve)), chain = Promise.resolve(before).then(() => mine);
  held.set(name, chain);
  let hasBegun = false;
  try {
    const late = new Promise<never>((_, reject) => signal?.addEventListener("abort", () => reject(busy())));
    await Promise.race([before, late]);
    hasBegun = true;
    return await work();
  } finally {
    release();
    const end = (): void => void (held.get(name) === chain && held.delete(name));
    // Who gave up waiting leaves a lock that those before still hold.
    if (hasBegun) end();
    else void chain.then(end);
  }
}

function busy(): ProfileBusy {
  return new ProfileBusy("Another page is using this profile.", { wayOut: "Try again when it has finished." });
}
