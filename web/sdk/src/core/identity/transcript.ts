// SPDX-License-Identifier: Apache-2.0
/**
 * A transcript of ceremonies as root and log key signed it: the text that people read, held to both signatures.
 *
 * docs/formats/statements.md (`transcript`). It is the operator's word of what they did: that nothing was changed since is
 * proven here, that it was true then is not.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { InvalidSignature, Malformed, Untrusted } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import { parseMany, type Sign1 } from "../signed/cose.js";
import { closePayload, HASH_SIZE, type Header, openPayload, requireTenantOnly } from "../signed/payloads.js";

/** Bytes of text. A ceremony writes some ten lines of a hundred bytes: room for two hundred of them. */
export const MAX_TEXT = 256 * 1024;
const SIGNERS = 2;

/** What was found to be signed. issuedAt: UTC seconds. isByLog: whether a log key's signature was checked too. */
export interface SignedTranscript {
  readonly issuedAt: number;
  readonly isByLog: boolean;
}

/** Return the payload bytes for a text. header: of the tenant alone. */
export function transcriptPayload(header: Header, text: Uint8Array): Bytes {
  return closePayload(header, { 7: sha256(text) });
}

/**
 * Check that the tenant root, and one of the log keys, signed this very text.
 *
 * logKeys: every key that the log has or had; undefined when nobody gave one, and the root's signature is all that is
 * checked. Rejects with Malformed, InvalidSignature; Untrusted for another tenant's, or another text.
 */
export async function verifyTranscript(
  signed: Uint8Array,
  text: Uint8Array,
  of: { tenant: Bytes; rootKey: PublicKey; logKeys: readonly PublicKey[] | undefined },
): Promise<SignedTranscript> {
  const statements = parseMany(signed);
  if (statements.length !== SIGNERS) throw new Malformed("transcript: not of two signers");
  const byName = new Map(statements.map((one) => [hex(one.kid), one]));
  const [header, fields] = openPayload((statements[0] as Sign1).payload, "transcript", [7]);
  requireTenantOnly(header, "transcript");
  await take(byName, [of.rootKey], "the tenant root");
  if (of.logKeys !== undefined) await take(byName, of.logKeys, "a key of the log");
  if (!equal(header.tenant, of.tenant)) throw new Untrusted("a transcript of another tenant");
  if (!equal(fields.octets(7, HASH_SIZE), sha256(text)))
    throw new Untrusted("the text is not the one that was signed");
  return { issuedAt: header.issuedAt, isByLog: of.logKeys !== undefined };
}

async function take(byName: Map<string, Sign1>, keys: readonly PublicKey[], whose: string): Promise<void> {
  // Each key takes its own statement away: a root that is a log key too would otherwise count as both.
  for (const key of keys) {
    const name = hex(key.kid), found = byName.get(name);
    if (found === undefined) continue;
    byName.delete(name);
    await found.verify(key, "transcript");
    return;
  }
  throw new InvalidSignature(`the transcript is not signed by ${whose}`);
}
