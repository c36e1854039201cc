// SPDX-License-Identifier: Apache-2.0
/**
 * A transcript of ceremonies verified on the auditor's own machine: two files and the root's key, and no server.
 *
 * It proves who signed this text, and not that it is true.
 */
import { type Bytes, unhex } from "../../core/base/bytes.js";
import { MAX_STATEMENT } from "../../core/base/encoding.js";
import { Malformed, Mistyped } from "../../core/base/errors.js";
import { MAX_TEXT, type SignedTranscript, verifyTranscript } from "../../core/identity/transcript.js";
import { NoteVerifier } from "../../core/log/checkpoint.js";

const ROOT = /^holdfast\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\/root$/;

/**
 * Hold the text in one file to the signatures in the other.
 *
 * root, log: verifier keys as people carry them; without `log` the root's signature alone is checked. Rejects with
 * Mistyped for what is no such key, or a log key of another tenant's; Malformed, InvalidSignature and Untrusted.
 */
export async function verify(text: Blob, signed: Blob, of: { root: string; log?: string }): Promise<SignedTranscript> {
  const verifier = keyOf(of.root), tenant = ROOT.exec(verifier.name)?.[1];
  if (tenant === undefined) throw new Mistyped("the key given to trust is no organisation's root");
  const logKey = of.log === undefined ? undefined : keyOf(of.log);
  if (logKey !== undefined && !["audit", "keys"].some((log) => logKey.name === `holdfast/${tenant}/${log}`))
    throw new Mistyped("the log's key is not one of the root's organisation");
  return verifyTranscript(await read(signed, "the signatures", MAX_STATEMENT), await read(text, "the text", MAX_TEXT), {
    tenant: unhex(tenant.replaceAll("-", "")),
    rootKey: verifier.key,
    logKeys: logKey && [logKey.key],
  });
}

function keyOf(text: string): NoteVerifier {
  try {
    return NoteVerifier.fromText(text);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new Mistyped(`the key given is none: ${error.message}`);
  }
}

async function read(file: Blob, what: string, most: number): Promise<Bytes> {
  if (file.size > most) throw new Mistyped(`${what} has more than ${most} bytes`);
  return new Uint8Array(await file.arrayBuffer());
}
