// SPDX-License-Identifier: Apache-2.0
/** A log over leaves: signed heads and proofs, as a server shows them. A second one over other leaves is a split view. */
import { type Bytes, concat, equal, utf8 } from "../../src/core/base/bytes.js";
import { b64u, encode, mapOf } from "../../src/core/base/encoding.js";
import { uuidText } from "../../src/core/base/uuids.js";
import type { SigningKey } from "../../src/core/crypto/keys.js";
import type { Entry } from "../../src/core/identity/entries.js";
import { NoteVerifier } from "../../src/core/log/checkpoint.js";
import { keyEntryFromLeaf, keyLogSubject, logOrigin } from "../../src/core/log/log_entry.js";
import * as merkle from "../../src/core/log/merkle.js";
import type { Json } from "../vectors.js";
import { TENANT } from "./server.js";

const CHAIN = 1;
const base64 = (data: Uint8Array): string => Buffer.from(data).toString("base64");

/** Return the note of a head over leaves, by a key. at: UTC seconds, or undefined for a head without a date. */
export async function signedHead(name: string, key: SigningKey, leaves: readonly Bytes[], at?: number): Promise<string> {
  const verifier = new NoteVerifier(name, key.public), root = merkle.root(leaves.map(merkle.leafHash));
  const text = `${name}\n${leaves.length}\n${base64(root)}\n${at === undefined ? "" : `time ${at}\n`}`;
  return `${text}\n\u2014 ${name} ${base64(concat(verifier.keyId, await key.sign(utf8(text))))}\n`;
}

/** The leaves of a tenant's `keys` log, and the key that signs its heads, anew for each who asks. */
export class KeysLog {
  constructor(
    public key: SigningKey,
    public now: () => number,
    public leaves: Bytes[] = [],
  ) {}

  verifier(log: "audit" | "keys" = "keys"): NoteVerifier {
    return new NoteVerifier(logOrigin(uuidText(TENANT), log), this.key.public);
  }

  append(user: Bytes, entry: Entry): void {
    const fields = { 1: CHAIN, 2: keyLogSubject(TENANT, user), 3: entry.seq, 4: entry.hash, 5: this.now() };
    this.leaves.push(encode(mapOf(fields)));
  }

  /** Return the signed head of the whole log, or of its first leaves. */
  checkpoint(size = this.leaves.length): Promise<string> {
    return signedHead(this.verifier().name, this.key, this.leaves.slice(0, size), this.now());
  }

  consistency(oldSize: number): string[] {
    const isOne = 0 < oldSize && oldSize < this.leaves.length;
    return isOne ? merkle.consistencyProof(this.leaves.map(merkle.leafHash), oldSize).map(b64u) : [];
  }

  /** Return what `GET users/{id}/chain/proof` answers, or undefined while no leaf is there. */
  async proof(user: Bytes, seq: number, oldSize = 0): Promise<Json> {
    const subject = keyLogSubject(TENANT, user), said = this.leaves.map(keyEntryFromLeaf);
    const index = said.findIndex((one) => equal(one.subjectHash, subject) && one.seq === seq);
    if (index < 0) return undefined;
    return {
      leaf_index: index,
      leaf: b64u(this.leaves[index] as Bytes),
      proof: merkle.inclusionProof(this.leaves.map(merkle.leafHash), index).map(b64u),
      checkpoint: await this.checkpoint(),
      ...(oldSize > 0 && oldSize <= this.leaves.length ? { consistency: this.consistency(oldSize) } : {}),
    };
  }
}
