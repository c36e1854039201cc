// SPDX-License-Identifier: Apache-2.0
/**
 * A case about one's own archive forbidden, and the proof that the log has it: only then is the veto made.
 *
 * docs/spec/escrow.md "Case" (veto) for the subject, also on a device that was suspended. It hangs on nothing but the case
 * itself. It believes no word of the server's: the entry is held to a head that the tenant root's log key signed, to
 * whoever may write it, and to this device's own statement.
 */
import { equal } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { HoldfastError, Untrusted } from "../../core/base/errors.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { type Case, caseFromPayload, verifyVeto, vetoToPayload } from "../../core/identity/cases.js";
import { checkLeaf, type Roles } from "../../core/identity/roles.js";
import { leafHash, MAX_PROOF, verifyInclusion } from "../../core/log/merkle.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { AnswerRefused, NotPossible, NotYet, Problem, TrustRefused, Unreachable } from "../errors.js";
import * as tenant from "../identity/tenant.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import { waitFor } from "../waiting.js";

const TAG = "recovery:case:veto";
const MAX_NOTE = 4096; // bytes: a head is 300, with room for a dozen witnesses
const MAX_LEAF = 4096; // bytes: an entry about a veto is 400
const KEEP_AT_IT = "Do the same again: until the log has it, your veto is the server's word alone.";

/** A veto that the server took. */
export interface Vetoed {
  /** The case's, in the server's word. */
  readonly state: string;
  /** The veto's place in the signed log, once its inclusion is proven; undefined until then. */
  readonly index: number | undefined;
  /** Why it is not. */
  readonly whyNot: string;
}

/**
 * Forbid a case about one's own archive, signed by this device, and wait for the proof that the log has it.
 *
 * named: the case's id, a UUID's text. For whoever did not ask for it. A third one within 90 days, of cases that had their quorum, asks one
 * officer more instead of ending the case. Repeatable: sent again, it only proves. Rejects with NotPossible for a case
 * about somebody else, TrustRefused when the proof shows something else than this veto.
 */
export async function veto(
  account: Account,
  named: string,
  { reason, waitSeconds = 0 }: { readonly reason: string; readonly waitSeconds?: number },
): Promise<Vetoed> {
  const caseId = uuidText(uuidBytes(named)), asked = await readCase(account, caseId);
  const payload = vetoToPayload({ header: account.header(), caseHash: asked.payloadHash, reason });
  const signed = await sign(payload, "veto", await account.signingKey());
  const document = { statement: b64u(signed.encode()), reason };
  const state = (await account.api.post(`cases/${caseId}/veto`, document)).text("state");
  if ((await account.roles()) === undefined)
    return { state, index: undefined, whyNot: "This installation has not said whose keys sign its log." };
  try {
    return { state, index: await waitFor(() => prove(account, caseId, asked), waitSeconds), whyNot: "" };
  } catch (error) {
    if (error instanceof NotYet) return { state, index: undefined, whyNot: error.message };
    throw error;
  }
}

/**
 * Fetch a case's statement, and see that it is this case, about this account.
 *
 * Nothing else of it is verified: whoever could make that fail, by a deposit or a device that does not fit, would keep the
 * subject from forbidding it. What a veto of a false statement names is no case, and it forbids none.
 */
async function readCase(account: Account, caseId: string): Promise<Sign1> {
  const answer = await account.api.get(`cases/${caseId}`);
  let statement: Sign1, asked: Case;
  try {
    statement = Sign1.parse(answer.octets("statement"));
    asked = caseFromPayload(statement.payload);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The server shows no case: ${error.message}.`, { cause: error });
  }
  if (!equal(asked.header.tenant, account.tenant) || uuidText(asked.caseId) !== caseId)
    throw new TrustRefused("The server shows another case than the one asked for.");
  if (!equal(asked.subject, account.user))
    throw new NotPossible("This case is not about your archive.", { wayOut: "See yours: client.maintain()" });
  return statement;
}

async function prove(account: Account, caseId: string, asked: Sign1): Promise<number> {
  let answer: Answer;
  try {
    answer = await account.api.get(`cases/${caseId}/veto`);
  } catch (error) {
    // Or the veto that counts is another device's, which has a proof of its own.
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    throw new NotYet("The signed log does not show your veto yet.", { wayOut: KEEP_AT_IT });
  }
  try {
    await tenant.followLogKeys(account);
  } catch (error) {
    // Where the newest cannot be had, those that are pinned prove it as well.
    if (!(error instanceof Problem || error instanceof AnswerRefused || error instanceof Unreachable)) throw error;
  }
  const known = await account.roles();
  if (known === undefined) throw new RangeError("roles that were known are gone");
  try {
    return await provenIndex(account, caseId, asked, answer, known.roles);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The log does not vouch for your veto: ${error.message}.`, {
      wayOut: "Tell your officers at once, by another way than this server: your veto is kept from the log.",
      cause: error,
    });
  }
}

/** Return the index at which the log has this device's veto. Rejects with a HoldfastError when it is not proven. */
async function provenIndex(
  account: Account,
  caseId: string,
  asked: Sign1,
  answer: Answer,
  roles: Roles,
): Promise<number> {
  // It may be one that this device made before: then that one is what the log has.
  const made = Sign1.parse(answer.octets("statement"));
  await verifyVeto(made, asked, Sign1.parse(account.device.statement));
  const index = answer.number("leaf_index"), leaf = answer.octets("leaf", undefined, { maximum: MAX_LEAF });
  const { size, root } = await roles.openHead(answer.text("checkpoint", { maximum: MAX_NOTE }));
  const proof = answer.manyOctets("proof", { maximum: MAX_PROOF });
  verifyInclusion(leafHash(leaf), { index, size, proof, expectedRoot: root });
  // As the release process reads it: an entry that it takes for wrong forbids nothing.
  const entry = await checkLeaf(leaf, { index, roles }), named = entry.body.get("statement");
  const isThis =
    entry.tag === TAG && entry.subject === caseId && entry.body.get("device") === account.deviceText &&
    named instanceof Uint8Array && equal(named, made.payloadHash);
  if (!isThis) throw new Untrusted("its entry is about something else");
  return index;
}
