// SPDX-License-Identifier: Apache-2.0
/**
 * Entries of an account chain that a restored database lost, given back: what shows that they had been taken.
 *
 * docs/formats/key-log.md "After a restored backup". Reads no clock, and verifies no entry: `chain` does.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { Malformed, Untrusted } from "../base/errors.js";
import type { Checkpoint, LogVerifier } from "../log/checkpoint.js";
import { type InclusionProof, verifyChainEntry } from "../log/key_log.js";
import type { Entry } from "./entries.js";

/** Check that entries name each other one by one, so that the last stands for all. Throws Malformed. */
export function requireRun(entries: readonly Entry[]): void {
  if (entries.length === 0) throw new Malformed("no entries are given back");
  entries.slice(1).forEach((entry, at) => {
    const before = entries[at] as Entry;
    if (entry.seq !== before.seq + 1 || !equal(entry.prev, before.hash))
      throw new Malformed("the entries given back do not follow one upon the other");
  });
}

/**
 * Check that the last of a run of entries was a leaf of the key log, and return the signed head that covers it.
 *
 * Each entry names the one before it, and a log takes them in order: all were taken, by rules that asked for their dates.
 * Whether the head is of the past that was given up, `leavesBehind` says. Rejects as `requireRun` and `verifyChainEntry`
 * do.
 */
export async function verifyProven(
  entries: readonly Entry[],
  proof: InclusionProof,
  of: { verifier: LogVerifier; tenant: Bytes; user: Bytes },
): Promise<Checkpoint> {
  requireRun(entries);
  const last = entries.at(-1) as Entry;
  return verifyChainEntry(proof, { ...of, seq: last.seq, entryHash: last.hash });
}

/**
 * Refuse what an owner may not give back without a proof that the log had it. Throws Untrusted.
 *
 * Nobody saw when these entries were made. A re-genesis counts the owner's time to object, and the officers who may sign
 * for it, by its date. All else says the same on whichever day.
 */
export function requireOnOwnWord(entries: readonly Entry[]): void {
  if (entries.some((entry) => entry.body.type === 8))
    throw new Untrusted("an account that began anew is given back only with the proof that the key log had it");
}

/** Return the devices that entries add: id in hex → 32-byte hash of the device statement. */
export function added(entries: readonly Entry[]): Map<string, Bytes> {
  const found = new Map<string, Bytes>();
  for (const { body } of entries) if (body.type === 2) found.set(hex(body.device), body.statementHash);
  return found;
}
