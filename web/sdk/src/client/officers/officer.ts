// SPDX-License-Identifier: Apache-2.0
/**
 * An officer's answers: a case verified down to each deposit, then approved, denied, or a new key attested.
 *
 * docs/spec/escrow.md "Case" on the officer's own device. Does not trust the server's summary: what is shown was read out
 * of signed bytes, and is what gets signed.
 */
import { type Bytes, EMPTY, equal, hex, lengthOf } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { HoldfastError } from "../../core/base/errors.js";
import { saysNothing } from "../../core/base/text.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { decodePublicKey, type PublicKey, SIGNING_KINDS } from "../../core/crypto/keys.js";
import * as approvals from "../../core/escrow/approvals.js";
import { type Excluded, type OuterShare, whyExcluded } from "../../core/escrow/approvals.js";
import {
  attestationToPayload, type Case, caseFromPayload, ClientKind, MAX_IDENTITY_CHECK, recipientWords,
} from "../../core/identity/cases.js";
import { headOf } from "../../core/identity/chain.js";
import { ApproveWith, type SignedPolicy, strictest, type Terms } from "../../core/identity/policy.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { type DeviceStatement, deviceFromPayload } from "../../core/signed/statements.js";
import { NotPossible, NotYet, ProfileError, TrustRefused, WrongInput } from "../errors.js";
import * as deposits from "../escrow/deposits.js";
import type { Subject, VerifiedDeposit } from "../escrow/deposits.js";
import { IDENTITY } from "../identity/contacts.js";
import * as device from "../identity/device.js";
import * as tenant from "../identity/tenant.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import * as hearing from "./hearing.js";
import * as officerKeys from "./officer_keys.js";

// With other clients, the promise would rest on the served pages as well: officers sign for that in a policy.
const CLI_ONLY = "one of its policies takes decisions from the command line only (holdfast officer)";
// What a server's word for why somebody does not count is made of, and its length: it is shown as it stands.
const PLAIN = /^[a-z' ,]{1,120}$/;

/** One line of the list of cases: the server's word for it. Ids are UUIDs' texts. */
export interface ListedCase {
  readonly caseId: string;
  readonly state: string;
  readonly subject: string;
  readonly purpose: string;
}

/** A case as signed, everything in it verified; state, approvals, needed and longDelay are the server's word. */
export interface CaseView {
  readonly statement: Sign1;
  readonly asked: Case;
  readonly state: string;
  readonly approvals: number;
  readonly needed: number;
  readonly policy: SignedPolicy;
  /** The receiving device's own statement. */
  readonly recipient: Sign1;
  readonly subjectState: Subject;
  readonly deposits: readonly VerifiedDeposit[];
  /** Why this officer may not approve it, or "". */
  readonly obstacle: string;
  /** Why the policy's long delay applies, or "". */
  readonly longDelay: string;
}

/** What the server made of an answer. */
export interface Answered {
  readonly state: string;
  readonly approvals: number;
  readonly needed: number;
}

/** The identity key under which a subject asks to begin again, and the head it would follow. */
export interface Proposal {
  readonly identityKey: PublicKey;
  readonly oldHead: Bytes;
}

/** Return the 8 words that the person reads out: to compare with what was heard, on no screen of an officer. */
export function proposalWords(proposal: Proposal): string[] {
  return proposal.identityKey.fingerprint(IDENTITY);
}

/** Return the person whose device receives what a case releases, by that device's own statement. */
export function recipientPerson({ recipient }: CaseView): Bytes {
  return deviceFromPayload(recipient.payload).person;
}

/** Return why this officer may not approve a case, or "": an obstacle, or a case that nobody can decide. */
export function whyNot(view: CaseView): string {
  if (view.obstacle !== "") return view.obstacle;
  if (isForTheCommandLine(view)) return CLI_ONLY;
  // The server takes no such case; one that was opened by a server that lies is denied.
  return saysNothing(view.asked.reason) ? "it gives no reason, so a new case is needed" : "";
}

/** Whether its policy, or one that a deposit was made under, takes decisions from the command line only. */
function isForTheCommandLine({ policy, deposits }: CaseView): boolean {
  const policies = [policy, ...deposits.map((one) => one.policy)];
  return policies.some((one) => one.policy.terms.approveWith === ApproveWith.CLI);
}

/** Return the strictest terms of a case's policy and of those that its deposits were made under: its delays hold. */
export function termsOf(view: CaseView): Terms {
  return strictest([...view.deposits.map((one) => one.policy.policy), view.policy.policy])[1];
}

/** Return from when a generation's key was used and until when, UTC seconds; 0 for one that still is. */
export function spanOf({ subjectState }: CaseView, generation: number): [from: number, until: number] {
  const starts = new Map(subjectState.state.generations.map((row) => [row.generation, row.notBefore]));
  const later = [...starts].filter(([number]) => number > generation).map(([, from]) => from);
  return [starts.get(generation) as number, later.length > 0 ? Math.min(...later) : 0];
}

/** Return the cases that this person may see. */
export async function listCases(account: Account): Promise<ListedCase[]> {
  const listed: ListedCase[] = [];
  for await (const row of account.api.pages("cases", "cases", "case_id"))
    listed.push({
      caseId: uuidText(row.identifier("case_id")),
      state: row.text("state"),
      subject: uuidText(row.identifier("subject")),
      purpose: row.text("purpose"),
    });
  return listed;
}

/**
 * Fetch a case and verify all of it. caseId: a UUID's text. Rejects with TrustRefused when anything does not fit together.
 *
 * The order matters: nothing is read from a statement before its signer is known.
 */
export async function see(account: Account, caseId: string): Promise<CaseView> {
  // (1) the tenant's policy, from the pin;
  // (2) the recipient device: its own statement, and that the case names exactly that one;
  // (3) the case, signed by that device, of this tenant, under a policy of the pin;
  // (4) each deposit, held to the subject's account chain;
  // (5) whether this officer is one of those who may answer.
  await tenant.refresh(account); // (1)
  const id = uuidBytes(caseId), answer = await account.api.get(`cases/${uuidText(id)}`);
  const { statement, asked, recipient, person } = await readCase(account, answer, id); // (2), (3)
  const policy = await policyOf(account, asked), subjectState = await deposits.subjectOf(account, asked.subject);
  const found: VerifiedDeposit[] = [];
  for (const [depositId, recordHash] of asked.deposits) // (4)
    found.push(await deposits.fetch(account, subjectState, { depositId, recordHash }));
  const excluded = { requester: hex(asked.requester), subject: hex(asked.subject), recipient: hex(person) };
  return {
    statement,
    asked,
    state: answer.text("state"),
    approvals: countApprovals(answer),
    needed: answer.number("needed"),
    policy,
    recipient,
    subjectState,
    deposits: found,
    obstacle: (await obstacleFor(account, policy, excluded)) || byTheServersWord(account, answer), // (5)
    longDelay: answer.has("long_delay") ? answer.one("long_delay").text("text") : "",
  };
}

/** What an officer heard from the person: words by place (1 to 8), at the places that `hearing.asked` names. */
export interface Heard {
  readonly heard: ReadonlyMap<number, string>;
}

/** Return at which places (1 to 8) the words of a case's keys are asked for. Rejects as `hearing.asked` does. */
export function placesFor(account: Account, view: CaseView): Promise<number[]> {
  return hearing.asked(account, recipientWords(view.asked));
}

/** Return at which places the words of a proposed identity key are asked for. Rejects as `hearing.asked` does. */
export function placesOfProposal(account: Account, proposal: Proposal): Promise<number[]> {
  return hearing.asked(account, proposalWords(proposal));
}

/**
 * Re-seal this officer's share of each deposit to the recipient, and sign for exactly this case.
 *
 * identityCheck: how the officer made sure of the person, 1 to 200 characters. Rejects with WrongInput for a blank one,
 * before anything is signed; NotPossible for a case that this officer may not approve; WrongWords; TrustRefused when a share
 * is not the one its depositor committed to.
 */
export async function approve(
  account: Account,
  view: CaseView,
  { heard, identityCheck }: Heard & { readonly identityCheck: string },
): Promise<Answered> {
  const obstacle = whyNot(view), { asked, policy } = view;
  if (obstacle !== "") throw new NotPossible(`You may not approve this case: ${obstacle}.`);
  requireTold(identityCheck, "How you made sure who is asking");
  await hearing.requireHeard(account, recipientWords(asked), { heard, until: asked.expiry });
  const officer = await officerKeys.ownRow(account, policy), keys = await officerKeys.keysOf(account, officer);
  const trusted = await account.trusted(), header = account.header(), clientKind = ClientKind.BROWSER;
  const by = { officer, signingKey: keys.signing, sealingKey: keys.sealing, header, clientKind };
  const held = new Map(view.deposits.map(({ deposit }) => [hex(deposit.header.depositId), deposit]));
  const policies = new Map(trusted.policies.map((one) => [hex(one.hash), one]));
  const releaseKey = trusted.inForce(account.api.clock.now()).policy.terms.releaseSealingKey;
  let signed: Sign1, outers: OuterShare[];
  try {
    [signed, outers] = await approvals.approve(view.statement, held, by, { policy, policies, releaseKey }, identityCheck);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`Your share cannot be handed over: ${error.message}.`, { cause: error });
  }
  const shares = outers.map(({ depositId, outer }) => [uuidText(depositId), b64u(outer)]);
  const document = { statement: b64u(signed.encode()), shares };
  return readAnswer(await account.api.post(`cases/${uuidText(asked.caseId)}/approvals`, document));
}

/** Sign and send a denial. reason: 1 to 200 characters. Rejects with WrongInput for a blank one, NotPossible as `approve`. */
export async function deny(account: Account, view: CaseView, { reason }: { readonly reason: string }): Promise<Answered> {
  if (isForTheCommandLine(view))
    throw new NotPossible(`You may not deny this case here: ${CLI_ONLY}.`);
  requireTold(reason, "Why you deny");
  const { signing: signingKey } = await keysFor(account, view);
  const by = { signingKey, header: account.header(), clientKind: ClientKind.BROWSER };
  const signed = await approvals.deny(view.statement, by, view.policy, reason);
  const document = { statement: b64u(signed.encode()), reason };
  return readAnswer(await account.api.post(`cases/${uuidText(view.asked.caseId)}/deny`, document));
}

/**
 * Return the new identity key proposed in a case. Rejects with NotYet when there is none yet.
 *
 * The server only carries it: the words, read out by the person, are what makes it theirs.
 */
export async function proposed(account: Account, view: CaseView): Promise<Proposal> {
  const answer = await account.api.get(`cases/${uuidText(view.asked.caseId)}`);
  if (!answer.has("successor"))
    throw new NotYet("The person has proposed no new key yet.", { wayOut: "They call: client.cases.collect()" });
  const successor = answer.one("successor"), head = headOf(view.subjectState.state);
  let identityKey: PublicKey;
  try {
    identityKey = decodePublicKey(successor.octets("identity_key"), SIGNING_KINDS);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The proposed key is no key: ${error.message}.`, { cause: error });
  }
  if (!equal(successor.octets("old_head", 32), head))
    throw new TrustRefused("The new key is proposed on top of another account chain than the one shown.", {
      wayOut:
        "The person's devices may have changed something meanwhile: they call client.cases.collect() again. If it stays " +
        "so, attest nothing, and tell the other officers.",
    });
  return { identityKey, oldHead: head };
}

/**
 * Sign that the subject now holds the proposed key, on the device that the case names.
 *
 * heard: words of the new key (`proposalWords`), as for an approval. Only for a case in which the subject recovers their own.
 */
export async function attest(account: Account, view: CaseView, proposal: Proposal, { heard }: Heard): Promise<void> {
  const { asked } = view;
  // An attestation does not say where it was signed: nobody after this page could refuse it.
  if (isForTheCommandLine(view)) throw new NotPossible(`You may not attest in this case here: ${CLI_ONLY}.`);
  if (!equal(recipientPerson(view), asked.subject))
    throw new NotPossible("This case releases to another person. Nobody's account begins again by it.");
  if (view.obstacle !== "") throw new NotPossible(`You may not attest in this case: ${view.obstacle}.`);
  await hearing.requireHeard(account, proposalWords(proposal), { heard, until: asked.expiry });
  const payload = attestationToPayload({
    // The header names the person attested; the officer is known by their key.
    header: { ...account.header(), user: asked.subject, device: EMPTY },
    oldHead: proposal.oldHead,
    newAik: proposal.identityKey,
    caseId: asked.caseId,
    deviceHash: view.recipient.payloadHash,
  });
  const signed = await sign(payload, "attestation", (await keysFor(account, view)).signing);
  await account.api.post(`cases/${uuidText(asked.caseId)}/attestations`, { statement: b64u(signed.encode()) });
}

async function keysFor(account: Account, view: CaseView): Promise<officerKeys.Pair> {
  return officerKeys.keysOf(account, await officerKeys.ownRow(account, view.policy));
}

function requireTold(text: string, what: string): void {
  if (saysNothing(text) || lengthOf(text) > MAX_IDENTITY_CHECK)
    throw new WrongInput(`${what} is for the record: the other officers read it. Nothing was signed.`, {
      wayOut: `Say it in 1 to ${MAX_IDENTITY_CHECK} characters.`,
    });
}

interface ReadCase {
  readonly statement: Sign1;
  readonly asked: Case;
  readonly recipient: Sign1;
  readonly person: Bytes;
}

async function readCase(account: Account, answer: Answer, caseId: Bytes): Promise<ReadCase> {
  let statement: Sign1, asked: Case, recipient: Sign1, signer: DeviceStatement;
  try {
    statement = Sign1.parse(answer.octets("statement"));
    // Read to learn who claims to have signed; believed only after that key has verified it.
    const claimed = caseFromPayload(statement.payload);
    recipient = await device.fetchStatement(account, claimed.header.device);
    signer = deviceFromPayload(recipient.payload);
    asked = caseFromPayload(await statement.verify(signer.signingKey, "case"));
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The case is not to be trusted: ${error.message}.`, { cause: error });
  }
  if (!equal(asked.header.tenant, account.tenant) || !equal(asked.caseId, caseId))
    throw new TrustRefused("The server shows another case than the one asked for.");
  if (!equal(asked.recipientDeviceHash, recipient.payloadHash) || !equal(asked.header.user, signer.person))
    throw new TrustRefused("The case names another receiving device than the one that signed it.");
  if (account.api.clock.latest() >= asked.expiry)
    throw new NotPossible("The case has expired.", { wayOut: "A new case is needed." });
  return { statement, asked, recipient, person: signer.person };
}

async function policyOf(account: Account, asked: Case): Promise<SignedPolicy> {
  const trusted = await account.trusted();
  let policy: SignedPolicy;
  try {
    policy = trusted.policyNamed(asked.policyHash);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The case names a policy of its own: ${error.message}.`, { cause: error });
  }
  if (!policy.policy.terms.purposes.includes(asked.purpose))
    throw new TrustRefused("The case is for a purpose that your policy does not allow.");
  return policy;
}

/** Return why this person may not answer by what is signed, in words, or "". */
async function obstacleFor(account: Account, policy: SignedPolicy, excluded: Excluded): Promise<string> {
  if (!(await officerKeys.hasKeys(account))) return "this profile holds no officer's keys";
  try {
    await officerKeys.ownRow(account, policy);
  } catch (error) {
    if (error instanceof NotPossible || error instanceof ProfileError) return error.message;
    throw error;
  }
  const why = whyExcluded(excluded, hex(account.user));
  return why === undefined ? "" : `you are excluded, since this officer ${why}`;
}

/** Return why the server does not count this person, in words, or "": away, cooling off, behind who asks. */
function byTheServersWord(account: Account, answer: Answer): string {
  // A lie here keeps an officer from answering, which a server can do anyhow; it makes nobody count.
  const officers = answer.has("officers") ? answer.many("officers") : [];
  const own = officers.find((one) => equal(one.identifier("person_id"), account.user));
  const why = own?.text("why_not") ?? "";
  if (why === "") return "";
  // In plain words alone: whatever else a server sends here is not shown.
  return PLAIN.test(why) ? `by the server's word, this officer ${why}` : "the server does not count you";
}

function readAnswer(answer: Answer): Answered {
  const approved = answer.has("approvals") ? countApprovals(answer) : 0;
  return { state: answer.text("state"), approvals: approved, needed: answer.has("needed") ? answer.number("needed") : 0 };
}

/** Return how many approvals of a case the server counts: not those of whoever is suspended, or approves anew. */
function countApprovals(answer: Answer): number {
  const counts = (row: Answer): boolean =>
    row.text("decision") === "approve" && !(row.has("why_not") && row.text("why_not") !== "");
  return answer.many("approvals").filter(counts).length;
}
