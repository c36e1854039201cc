// SPDX-License-Identifier: Apache-2.0
/**
 * What the `keys` log proves about one account chain, and what two of its signed heads prove about the log.
 *
 * docs/formats/key-log.md. Does not fetch, keep or wait; and no proof here says that the head shown is the newest.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Forked, Untrusted } from "../base/errors.js";
import { uuidText } from "../base/uuids.js";
import { type Checkpoint, LogVerifier, NoteVerifier } from "./checkpoint.js";
import { keyEntryFromLeaf, keyLogSubject, logOrigin } from "./log_entry.js";
import { leafHash, verifyConsistency, verifyInclusion } from "./merkle.js";

export { uuidText };

const CHAIN_LEAF = 1; // field 1 of a leaf about a chain entry: docs/formats/audit-log.md

/** What a server shows for one leaf: the leaf's bytes, its place, 32-byte hashes, the signed head as a note. */
export interface InclusionProof {
  readonly index: number;
  readonly leaf: Bytes;
  readonly hashes: readonly Bytes[];
  readonly checkpoint: string;
}

/**
 * Return the verifier of a tenant's `keys` log under the verifier keys pinned for it, or undefined without one.
 *
 * Both logs of a tenant are signed by one key under two names, so that either name pins it. Throws Malformed for text that
 * is no verifier key.
 */
export function keysVerifier(pinned: readonly string[], tenant: Bytes): LogVerifier | undefined {
  // The names are built from the tenant and not read from the text: a pin of another tenant's log fits nothing here.
  const of = uuidText(tenant), names = [logOrigin(of, "audit"), logOrigin(of, "keys")];
  const found = pinned.map((text) => NoteVerifier.fromText(text)).filter((known) => names.includes(known.name));
  return found.length > 0 ? new LogVerifier(logOrigin(of, "keys"), found.map((known) => known.key)) : undefined;
}

/**
 * Check that entry `seq` of a user's chain (32-byte hash) is a leaf under a signed head, and return the head.
 *
 * Rejects with Malformed, InvalidSignature for a head of another key or log, and Untrusted for a leaf about anything else
 * or a proof that does not lead to the head. Whoever serves the log is at fault.
 */
export async function verifyChainEntry(
  proof: InclusionProof,
  of: { verifier: LogVerifier; tenant: Bytes; user: Bytes; seq: number; entryHash: Bytes },
): Promise<Checkpoint> {
  const checkpoint = await of.verifier.openCheckpoint(proof.checkpoint);
  // The leaf is compared before the proof: a perfect proof of somebody else's leaf says nothing about this user. Type and
  // place count too, or a policy of that number, or an older entry, could stand in.
  const leaf = keyEntryFromLeaf(proof.leaf);
  if (leaf.type !== CHAIN_LEAF || !equal(leaf.subjectHash, keyLogSubject(of.tenant, of.user)) || leaf.seq !== of.seq)
    throw new Untrusted("the key log's leaf is about something else");
  // Right place, other hash: the log shows others another chain than the one shown here. That is a fork, not a mistake.
  if (!equal(leaf.statementHash, of.entryHash))
    throw new Forked("the key log holds another entry in this place of the chain");
  const { index, hashes } = proof, { size, root } = checkpoint;
  verifyInclusion(leafHash(proof.leaf), { index, size, proof: hashes, expectedRoot: root });
  return checkpoint;
}

/**
 * Check that the smaller of two signed heads is a prefix of the larger, by the consistency proof between them.
 *
 * proof: 32-byte hashes, none when the sizes are equal. Throws Forked when two heads of one size differ, which is proof by
 * itself that the log's key signed two histories, and Untrusted when the proof does not connect them.
 */
export function requireSameLog(head: Checkpoint, other: Checkpoint, proof: readonly Bytes[]): void {
  // By size and not by time: the time in a head is the signer's word, its size is held by the root.
  const [old, made] = head.size <= other.size ? [head, other] : [other, head];
  if (old.size === made.size && !equal(old.root, made.root))
    throw new Forked("the log's key signed two different heads of one size");
  // Every tree extends the empty one, and RFC 6962 section 2.1.2 has no proof for it.
  if (old.size === 0) return;
  // Of equal sizes there is nothing to prove: a proof sent all the same is left alone and is no error.
  const hashes = old.size < made.size ? proof : [];
  verifyConsistency({ oldSize: old.size, oldRoot: old.root, size: made.size, newRoot: made.root, proof: hashes });
}
