// SPDX-License-Identifier: Apache-2.0
/**
 * Getting back: a case opened by a new device, its release collected and combined, the account begun again.
 *
 * docs/spec/escrow.md "Case" for the recipient, and docs/spec/protocol.md section 5 (re-genesis). Does not wait for people
 * by itself longer than it is told to.
 */
import { type Bytes, compare, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { b64u, MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, InvalidSignature } from "../../core/base/errors.js";
import { saysNothing, writtenOut } from "../../core/base/text.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { SigningKey } from "../../core/crypto/keys.js";
import { RecipientRsaKey } from "../../core/crypto/rsa.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import { signingKind } from "../../core/crypto/suites.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { combine, ShareBlamed } from "../../core/escrow/approvals.js";
import { SEALED_HALF_SIZE } from "../../core/escrow/deposit.js";
import {
  type Attestation, beginsFrom, type Case, caseFromPayload, caseToPayload, disclosedUntil, isDisclosure,
  lastDisclosureEnd, recipientWords, verifyAttestations,
} from "../../core/identity/cases.js";
import { type ChainState, extend, headOf } from "../../core/identity/chain.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import type { ArchiveGeneration } from "../../core/identity/entries.js";
import { officerOf, type Policy, type SignedPolicy } from "../../core/identity/policy.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { NotPossible, NotYet, Problem, TrustRefused, WrongInput } from "../errors.js";
import * as archive from "../escrow/archive.js";
import * as deposits from "../escrow/deposits.js";
import type { Subject, VerifiedDeposit } from "../escrow/deposits.js";
import * as disclosures from "../escrow/disclosures.js";
import type { Disclosure } from "../escrow/disclosures.js";
import * as chains from "../identity/chains.js";
import { IDENTITY } from "../identity/contacts.js";
import { newIdentityAuthor } from "../identity/device.js";
import * as keyLog from "../identity/key_log.js";
import * as tenant from "../identity/tenant.js";
import * as prekeys from "../messages/prekeys.js";
import type { Account } from "../profile/account.js";
import type { Generation, OpenCase } from "../profile/state.js";
import * as rotation from "../rotation/rotation.js";
import { Part, Step } from "../rotation/rotation_record.js";
import type { Answer } from "../server/answers.js";
import * as doors from "../vault/doors.js";
import * as vault from "../vault/vault.js";
import { waitFor } from "../waiting.js";
import type { Waiting } from "./by_door.js";

/** The longest delay and notice a policy may ask, and time for officers on leave. */
export const CASE_LIFE_SECONDS = 30 * 86_400;
/**
 * After the case's own end, unless whoever asks names a date: a month to read what took up to a month to be released.
 */
export const DISCLOSURE_SECONDS = 30 * 86_400;
const DELAY_RUNS = "The officers have attested your new key; the policy's delay still runs.";
// A case that the server does not know: it never came there, or went with a database that was put back.
const LOST = "lost";
const ENDED: ReadonlySet<string> = new Set([
  "denied", "vetoed", "expired", "cancelled", "held", "closed", LOST,
]);
// Codes (HTTP) of refusals that say nothing of the act: not signed in, under way, too many.
const PASSING: ReadonlySet<number> = new Set([401, 408, 409, 425, 429]);
const TOO_FEW = "too-few-officers"; // the one conflict that says for sure that no case was opened
const COLLECTED: ReadonlySet<string> = new Set(["collected", "rotated", "sealed"]);
const MAX_RELEASE = 16 * 1024 * 1024; // bytes: every record that a case may name, with all its shares
const ASK_ANEW = "This device is free to ask anew: client.cases.open(), or client.disclosures.ask()";

/** A case that is open, and the words that officers will ask for. Ids are UUIDs' texts. */
export interface OpenedCase {
  readonly caseId: string;
  readonly words: readonly string[];
  readonly deposits: readonly string[];
  readonly needed: number;
  /** A disclosure's end, in UTC seconds; 0 for one's own case. */
  readonly endsAt: number;
}

/** How far a case is, in the server's word. */
export interface CaseStatus {
  readonly caseId: string;
  readonly state: string;
  readonly approvals: number;
  readonly needed: number;
  readonly attestations: number;
  readonly releaseAt: string;
  /** What it waits for, and what is to be done: the server's text. */
  readonly waitingFor: string;
  /** What ended it, and what has to be done before asking anew; "" for one that goes on. The server's text. */
  readonly ended: string;
  /** The 8 words of this device's keys for the case, from its own statement. */
  readonly words: readonly string[];
  /** Those of the new identity key, once it is proposed. */
  readonly identityWords: readonly string[];
  /** When what it discloses of somebody else's archive ends, in UTC seconds; 0 in one's own case. */
  readonly endsAt: number;
  /** Whether it has ended, so that this device may open another. */
  readonly isOver: boolean;
}

/** A share that is not what its deposit says. */
export interface WrongShare {
  readonly depositId: string;
  /** Whose it is; undefined where nobody holds a share of that index. */
  readonly person: string | undefined;
  /** Theirs in the case's roster, as officers and statuses are numbered; 0 where it does not name them. */
  readonly number: number;
}

/** Say whose a wrong share is, in words. */
export function whoseShare({ person, number }: WrongShare): string {
  if (person === undefined) return "nobody, since it was made up";
  return number > 0 ? `officer ${number} (${person})` : `a former officer (${person})`;
}

/** What came back. */
export interface Collected {
  /** Those that were opened. */
  readonly generations: readonly number[];
  /** Of the new identity key; none in a case about somebody else, since nobody's account begins again by it. */
  readonly words: readonly string[];
  /** Shares that were wrong. */
  readonly blamed: readonly WrongShare[];
  /** What was opened of somebody else's archive: `disclosures` decrypts by it until it ends. */
  readonly disclosure: Disclosure | undefined;
}

/** The account under its new key. */
export interface Finished {
  readonly words: readonly string[];
  readonly generation: number;
}

/** What is asked of the officers. */
export interface Asked {
  /** Officers read all of it before they sign. */
  readonly reason: string;
  readonly purpose: string;
  readonly reference?: string;
  /** Whose archive: 16 bytes. */
  readonly subject: Bytes;
  /** Deposit ids (16 bytes each); none named means the newest of each generation. */
  readonly wanted?: readonly Bytes[];
  /**
   * UTC seconds at which a disclosure of somebody else's archive ends, 60 days from now when left out; nothing ends in
   * one's own case.
   */
  readonly endsAt?: number | undefined;
}

/**
 * Ask the officers to release deposits to this device, under keys made for this case alone.
 *
 * Rejects with NotPossible when there is nothing to release, WrongInput for no reason, or an end that does not fit;
 * TrustRefused for a deposit that does not.
 */
export async function openCase(account: Account, asked: Asked): Promise<OpenedCase> {
  const { reason, purpose, reference = "", subject } = asked;
  if (saysNothing(reason))
    throw new WrongInput("Your officers decide by the reason, and it says nothing.", { wayOut: "Say what happened." });
  // It may be taken up again tomorrow, and what is released then is for the device of today.
  const underWay = (await rotation.listRotations(account)).filter((one) => one.step !== Step.DESTROY);
  if (underWay.some((one) => one.parts & Part.DEVICE))
    throw new NotPossible("This device's keys are being replaced.", { wayOut: "Finish that first: client.maintain()" });
  await requireFree(account);
  await tenant.refresh(account);
  // The one in force: its officers decide, until those of the next are in office.
  const policy = (await account.trusted()).inForce(account.api.clock.now()), { purposes } = policy.policy.terms;
  if (!purposes.includes(purpose))
    throw new WrongInput(`Your policy does not know the purpose '${writtenOut(purpose)}'.`, {
      wayOut: `It allows: ${purposes.join(", ")}.`,
    });
  const now = account.api.clock.earliest(), disclosureEnds = await disclosureEnd(account, subject, now, asked.endsAt);
  const named = await findDeposits(account, subject, asked.wanted ?? []);
  const rsaKey = await RecipientRsaKey.generate(), sealingKey = await SealingKey.generate();
  const made: Case = {
    header: account.header(),
    caseId: randomBytes(16),
    nonce: randomBytes(16),
    subject,
    requester: account.user,
    purpose,
    deposits: named.map(({ depositId, recordHash }) => [depositId, recordHash]),
    reason,
    reference,
    recipientDeviceHash: Sign1.parse(account.device.statement).payloadHash,
    recipientRsaKey: rsaKey.public,
    recipientSealingKey: sealingKey.public,
    policyHash: policy.hash,
    notBefore: now,
    noticeAt: now,
    expiry: now + CASE_LIFE_SECONDS,
    disclosureEnds,
  };
  const signed = await sign(caseToPayload(made), "case", await account.signingKey());
  const identity = await SigningKey.generate(signingKind(account.deviceStatement.suite));
  account.state.case = {
    caseId: made.caseId,
    statement: signed.encode(),
    recipientRsa: rsaKey.pkcs8(),
    recipientSeed: sealingKey.seed(),
    newIdentity: identity.seed(),
  };
  // Kept before it is sent: approvals sealed to keys that were lost would be approvals wasted.
  await account.save();
  let answer: Answer;
  try {
    answer = await account.api.post("cases", { case: b64u(signed.encode()) });
  } catch (error) {
    // A refusal opened nothing. After a fault of the server's, or what refuses the second of two attempts, the case may
    // stand, and these are its only keys.
    const isRefusal = (one: Problem): boolean => one.code === TOO_FEW || (one.status < 500 && !PASSING.has(one.status));
    if (error instanceof Problem && isRefusal(error)) await forget(account);
    throw error;
  }
  return {
    caseId: uuidText(made.caseId),
    words: recipientWords(made),
    deposits: named.map(({ depositId }) => uuidText(depositId)),
    needed: answer.number("needed"),
    endsAt: disclosureEnds,
  };
}

/** Reject with NotPossible while this device has a case open that goes on; destroy the keys of one that has ended. */
async function requireFree(account: Account): Promise<void> {
  const kept = account.state.case;
  if (kept === undefined) return;
  const state = stateOf(await find(account, kept));
  if (!ENDED.has(state) && !(await isOverForSure(account, kept)))
    throw new NotPossible(`This device has a case open already; it is ${state}.`, {
      wayOut: "See it: client.cases.status(). Withdraw it: client.cases.cancel()",
    });
  await forget(account);
}

/** Return field 22 of a case that is opened now: 0 for one's own. Rejects with WrongInput for an end that cannot be. */
async function disclosureEnd(
  account: Account,
  subject: Bytes,
  now: number,
  endsAt: number | undefined,
): Promise<number> {
  if (equal(subject, account.user)) {
    if (endsAt !== undefined)
      throw new WrongInput("Your own archive comes back to you for good.", { wayOut: "Name no end." });
    return 0;
  }
  await disclosures.requireRoom(account);
  const expiry = now + CASE_LIFE_SECONDS, chosen = endsAt ?? expiry + DISCLOSURE_SECONDS;
  const last = lastDisclosureEnd({ issuedAt: now, expiry });
  if (!(account.api.clock.latest() < chosen && chosen <= last))
    throw new WrongInput("A disclosure cannot end then.", {
      wayOut: `Name a date after today, up to ${disclosures.day(last)}.`,
    });
  return chosen;
}

/** Return the deposits to ask for, each verified as far as this device may read it. */
async function findDeposits(account: Account, subject: Bytes, wanted: readonly Bytes[]): Promise<deposits.Named[]> {
  if (!equal(subject, account.user)) return findDepositsOf(account, subject, wanted);
  const newest = new Map<number, deposits.Named>();
  for await (const row of account.api.pages("escrow/deposits", "deposits", "deposit_id")) {
    const depositId = row.identifier("deposit_id"), recordHash = row.octets("record_hash", 32);
    if (wanted.length > 0 && !wanted.some((one) => equal(one, depositId))) continue;
    // They come newest first: an older one names a policy whose officers may have left.
    const generation = row.number("generation");
    if (!newest.has(generation)) newest.set(generation, { depositId, recordHash });
  }
  if (newest.size === 0) throw new NotPossible("Nothing of yours is in escrow, so nothing can be recovered this way.");
  const whose = await deposits.subjectOf(account, subject);
  for (const named of newest.values()) await deposits.fetch(account, whose, named);
  return [...newest].sort(([one], [other]) => one - other).map(([, named]) => named);
}

/** Return those of somebody else, by the server's word: it is held to its bytes when the release is collected. */
async function findDepositsOf(account: Account, subject: Bytes, wanted: readonly Bytes[]): Promise<deposits.Named[]> {
  const rows = new Map<string, deposits.Named>(), query = { user: uuidText(subject) };
  for await (const row of account.api.pages("escrow/coverage", "deposits", "user_id", { query })) {
    if (!equal(row.identifier("user_id"), subject)) continue;
    const depositId = row.identifier("deposit_id");
    rows.set(hex(depositId), { depositId, recordHash: row.octets("record_hash", 32) });
  }
  if (rows.size === 0) throw new NotPossible("Nothing of that person is in escrow.");
  if (wanted.length === 0) return [...rows.values()];
  return wanted.map((depositId) => {
    const named = rows.get(hex(depositId));
    if (named === undefined) throw new WrongInput(`There is no deposit ${uuidText(depositId)} of that person.`);
    return named;
  });
}

/**
 * Ask how far this device's case is, or what ended it. The keys of one that has ended are destroyed.
 *
 * Those of a case that the server does not know are kept: it may be put back. Rejects with NotPossible then.
 */
export async function status(account: Account): Promise<CaseStatus> {
  const kept = requireCase(account), asked = caseOf(kept), answer = await find(account, kept);
  if (answer === undefined) throw unknownCase();
  const state = answer.text("state"), textIn = (name: string): string => (answer.has(name) ? answer.one(name).text("text") : "");
  const found: CaseStatus = {
    caseId: uuidText(kept.caseId),
    state,
    approvals: countApprovals(answer),
    needed: answer.number("needed"),
    attestations: (await attestationsOf(account, kept)).length,
    releaseAt: answer.has("release_at") ? answer.text("release_at") : "",
    waitingFor: textIn("waiting_for"),
    ended: textIn("ended"),
    words: recipientWords(asked),
    identityWords: isOpened(answer) ? (await newIdentity(account, kept)).public.fingerprint(IDENTITY) : [],
    endsAt: isDisclosure(asked) ? disclosedUntil(asked) : 0,
    isOver: ENDED.has(state),
  };
  if (found.isOver) await forget(account);
  return found;
}

/** Return how many approvals of a case the server counts: not those of whoever is suspended, or approves anew. */
function countApprovals(answer: Answer): number {
  const isCounted = (row: Answer): boolean =>
    row.text("decision") === "approve" && !(row.has("why_not") && row.text("why_not") !== "");
  return answer.many("approvals").filter(isCounted).length;
}

/**
 * Withdraw this device's case, and destroy the keys that were made for it. Returns its id, and how it ended.
 *
 * One that has ended otherwise stays as it ended, and one that was collected goes on to its end; its keys go all the same
 * once nothing more can be collected. Rejects with Problem while something can. caseId: of another case in this person's
 * name instead (a UUID's text), which any of their devices may withdraw.
 */
export async function cancel(
  account: Account,
  { reason, caseId }: { readonly reason: string; readonly caseId?: string | undefined },
): Promise<[caseId: string, state: string]> {
  const named = caseId === undefined ? undefined : uuidBytes(caseId), own = account.state.case;
  if (named !== undefined && (own === undefined || !equal(own.caseId, named))) {
    const answer = await account.api.post(`cases/${uuidText(named)}/cancel`, { reason });
    return [uuidText(named), answer.text("state")];
  }
  const kept = requireCase(account), id = uuidText(kept.caseId);
  let state = "cancelled";
  try {
    await account.api.post(`cases/${id}/cancel`, { reason });
  } catch (error) {
    if (!(error instanceof Problem) || (error.status !== 404 && error.status !== 409)) throw error;
    const found = await find(account, kept);
    state = stateOf(found);
    const isOver = ENDED.has(state) || (await isOverForSure(account, kept)) || (await isSpent(account, kept, found));
    if (!isOver) throw error;
  }
  await forget(account);
  return [id, state];
}

/** Return what the server says of a case; undefined for one that it does not know. */
async function find(account: Account, kept: OpenCase): Promise<Answer | undefined> {
  return vault.unless404(account.api.get(`cases/${uuidText(kept.caseId)}`));
}

function unknownCase(): NotPossible {
  return new NotPossible("The server has no such case: it never came there, or was lost with a backup.", {
    wayOut: "Its keys are kept for now. Try again later, or give it up: client.cases.cancel()",
  });
}

/** Return the server's word for the state of a case; "lost" for one that it does not know. */
function stateOf(found: Answer | undefined): string {
  return found?.text("state") ?? LOST;
}

function caseOf(kept: OpenCase): Case {
  return caseFromPayload(Sign1.parse(kept.statement).payload);
}

/** Whether what a case was to disclose has ended by one of the clocks, so that this device opens nothing of it. */
function hasRunOut(account: Account, kept: OpenCase): boolean {
  const asked = caseOf(kept);
  return isDisclosure(asked) && account.api.clock.latest() >= disclosedUntil(asked);
}

/** Whether it has ended by a confirmed time, by which alone its keys are destroyed. */
async function isOverForSure(account: Account, kept: OpenCase): Promise<boolean> {
  return hasRunOut(account, kept) && (await keyLog.confirmTime(account));
}

/** Whether a case was collected and has nothing more for this device: opened here already, or destroyed there. */
async function isSpent(account: Account, kept: OpenCase, found: Answer | undefined): Promise<boolean> {
  if (found === undefined || !COLLECTED.has(stateOf(found))) return false;
  if (isOpened(found)) return true;
  try {
    await fetchRelease(account, kept);
  } catch (error) {
    if (error instanceof Problem && error.status === 409) return true;
    throw error;
  }
  return false;
}

// The new identity key is proposed once the archive keys are kept.
const isOpened = (found: Answer): boolean => found.has("successor");

/** Destroy the keys of a case that has ended, in whichever way: they were made for it alone. The device is free. */
async function forget(account: Account): Promise<void> {
  account.state.case = undefined;
  await account.save();
}

/**
 * Collect the release and open every archive key in it; in one's own case, propose the new identity key.
 *
 * What is opened of somebody else's archive becomes a disclosure, apart from this person's own keys, and the device is free
 * for another case. Rejects with NotYet before the release, and when too few shares are right: the server is told which are
 * wrong, and the case waits for others. TrustRefused when a key is not the one that the account chain announces.
 * NotPossible where nothing can be collected any more: the keys made for the case are destroyed, and the device is free.
 * Repeatable until the keys are open and kept.
 */
export async function collect(account: Account, { waitSeconds = 0 }: Waiting = {}): Promise<Collected> {
  const kept = requireCase(account), statement = Sign1.parse(kept.statement), asked = caseOf(kept);
  if (await isOverForSure(account, kept)) await forget(account);
  if (hasRunOut(account, kept))
    throw new NotPossible("What this case was to disclose has ended already.", { wayOut: ASK_ANEW });
  await tenant.refresh(account);
  const { whose, opened, blamed } = await waitFor(() => openRelease(account, kept, asked), waitSeconds);
  const generations = opened.map((generation) => generation.number);
  if (isDisclosure(asked))
    return { generations, words: [], blamed, disclosure: await keepDisclosure(account, statement, opened) };
  const known = new Set(account.state.generations.map((generation) => generation.number));
  const fresh = opened.filter((generation) => !known.has(generation.number));
  account.state.generations = [...account.state.generations, ...fresh].sort((one, other) => one.number - other.number);
  await account.save();
  return { generations, words: await propose(account, kept, whose.state), blamed, disclosure: undefined };
}

/** Keep what was opened and destroy the keys made for the case, in one stroke: one or the other is there. */
async function keepDisclosure(account: Account, statement: Sign1, opened: Generation[]): Promise<Disclosure> {
  const kept = account.state.case;
  try {
    return await account.store.transaction(async () => {
      const disclosure = await disclosures.keep(account, statement, opened);
      account.state.case = undefined;
      await account.save();
      return disclosure;
    });
  } catch (error) {
    account.state.case = kept;
    throw error;
  }
}

interface Release {
  readonly whose: Subject;
  readonly opened: Generation[];
  readonly blamed: WrongShare[];
}

/** Collect and open what was released. Rejects with NotYet as `collect` does. */
async function openRelease(account: Account, kept: OpenCase, asked: Case): Promise<Release> {
  const answer = await released(account, kept), whose = await deposits.subjectOf(account, asked.subject);
  const verified = await verifiedRecords(account, whose, asked, answer);
  const { policy } = (await account.trusted()).policyNamed(asked.policyHash);
  try {
    return { whose, ...(await openAll(kept, whose, verified, answer, policy)) };
  } catch (error) {
    if (!(error instanceof TooFewShares)) throw error;
    await blame(account, kept, error);
    throw new NotYet(`${error.message} Your officers are told, and the case waits for another share.`, {
      wayOut: "Ask another officer, or one whose share was wrong, to approve the same case. Then collect again.",
      cause: error,
    });
  }
}

/** Some deposits cannot be opened. wrong: indices of the wrong shares of each, none where some are missing. */
class TooFewShares extends Error {
  constructor(
    readonly wrong: readonly (readonly [depositId: Bytes, indices: readonly number[]])[],
    blamed: readonly WrongShare[],
  ) {
    const whose = [...new Set(blamed.map(whoseShare))].sort().join(", ") || "nobody";
    super(`Too few right shares. Wrong are those of: ${whose}.`);
  }
}

async function blame(account: Account, kept: OpenCase, error: TooFewShares): Promise<void> {
  const shares = [...error.wrong]
    .sort(([one], [other]) => compare(one, other))
    .map(([depositId, indices]) => [uuidText(depositId), [...indices]]);
  try {
    await account.api.post(`cases/${uuidText(kept.caseId)}/blame`, { shares });
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status >= 500) throw problem;
    // By its own rows enough are right: then it has kept them from this device, or changed them.
    throw new TrustRefused(`${error.message} The server says otherwise: ${problem.message}`, { cause: error });
  }
}

function fetchRelease(account: Account, kept: OpenCase): Promise<Answer> {
  return account.api.get(`cases/${uuidText(kept.caseId)}/release`, { maximum: MAX_RELEASE });
}

async function released(account: Account, kept: OpenCase): Promise<Answer> {
  let refusal: Problem;
  try {
    return await fetchRelease(account, kept);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 409) throw error;
    refusal = error;
  }
  const found = await find(account, kept);
  if (found === undefined) throw unknownCase();
  const state = stateOf(found);
  if (ENDED.has(state)) {
    await forget(account);
    const why = found.has("ended") ? ` ${found.one("ended").text("text")}` : "";
    throw new NotPossible(`The case has ended: ${state}.${why}`, { wayOut: ASK_ANEW });
  }
  if (COLLECTED.has(state)) {
    if (isOpened(found))
      throw new NotPossible(
        `Your archive keys are open on this device already, and nothing is left to collect: ${refusal.message}`,
        { wayOut: "Go on: client.cases.finish(). Or give the case up: client.cases.cancel()" },
      );
    await forget(account);
    throw new NotPossible(`Nothing is left to collect: ${refusal.message}`, { wayOut: ASK_ANEW });
  }
  throw new NotYet(`The case is ${state}; nothing is released yet.`, { wayOut: "Ask again later, or wait for it." });
}

/** Return every deposit that the case names, by its id in hex. Rejects with TrustRefused for others, or fewer. */
async function verifiedRecords(
  account: Account,
  whose: Subject,
  asked: Case,
  answer: Answer,
): Promise<Map<string, VerifiedDeposit>> {
  const hashes = new Map(asked.deposits.map(([id, hash]) => [hex(id), hash])), found = new Map<string, VerifiedDeposit>();
  for (const row of answer.rows("records", 3)) {
    const depositId = row.identifier("0"), recordHash = hashes.get(hex(depositId));
    if (recordHash === undefined)
      throw new TrustRefused("The release brings a deposit that the case does not name.");
    const record = row.octets("1", undefined, { maximum: MAX_BLOB }), statement = row.octets("2");
    found.set(
      hex(depositId),
      await deposits.verify(account, whose, { depositId, recordHash, record, statement }),
    );
  }
  if (found.size !== hashes.size)
    throw new TrustRefused("The release does not bring every deposit that the case names.");
  return found;
}

async function openAll(
  kept: OpenCase,
  whose: Subject,
  verified: ReadonlyMap<string, VerifiedDeposit>,
  answer: Answer,
  policy: Policy,
): Promise<{ opened: Generation[]; blamed: WrongShare[] }> {
  const halves = new Map<string, Bytes>(), shares = new Map<string, Map<number, Bytes>>();
  for (const row of answer.rows("halves", 2)) halves.set(hex(row.identifier("0")), row.octets("1", SEALED_HALF_SIZE));
  for (const row of answer.rows("shares", 3)) {
    const name = hex(row.identifier("0")), of = shares.get(name) ?? new Map<number, Bytes>();
    shares.set(name, of.set(row.number("1"), row.octets("2", undefined, { maximum: 4096 })));
  }
  const keys = {
    rsa: await RecipientRsaKey.fromPkcs8(kept.recipientRsa),
    sealing: await SealingKey.fromSeed(kept.recipientSeed),
  };
  const statement = Sign1.parse(kept.statement), hashes = caseFromPayload(statement.payload).deposits;
  const opened: Generation[] = [], blamed: WrongShare[] = [], tooFew: [Bytes, readonly number[]][] = [];
  const generationOf = ({ deposit }: VerifiedDeposit): number => deposit.header.generation;
  for (const [name, record] of [...verified].sort(([, one], [, other]) => generationOf(one) - generationOf(other))) {
    const { depositId, generation: number, akCommitment } = record.deposit.header;
    const half = halves.get(name) ?? EMPTY, sealedShares = shares.get(name) ?? new Map<number, Bytes>();
    const { algorithm } = record.escrowKey.statement;
    try {
      const back = await combine(statement, record.deposit, { half, sealedShares, algorithm }, keys);
      blamed.push(...back.blamed.map((index) => wrongShare(record, index, policy)));
      opened.push({
        number,
        key: back.archiveKey,
        notBefore: (whose.state.generations.find((one) => one.generation === number) as ArchiveGeneration).notBefore,
        commitment: akCommitment,
        depositId,
        recordHash: (hashes.find(([id]) => equal(id, depositId)) as readonly [Bytes, Bytes])[1],
        // Two officers and a machine took part in opening it: it opens the past and protects nothing new.
        isExposed: true,
      });
    } catch (error) {
      if (error instanceof ShareBlamed) {
        // All of them are said at once: one report, and one more share of each.
        tooFew.push([depositId, error.indices]);
        blamed.push(...error.indices.map((index) => wrongShare(record, index, policy)));
      } else if (error instanceof HoldfastError) {
        throw new TrustRefused(`The halves do not open your archive key: ${error.message}.`, { cause: error });
      } else throw error;
    }
  }
  if (tooFew.length > 0) throw new TooFewShares(tooFew, blamed);
  return { opened, blamed };
}

/** Say whose a share is, by the roster of the deposit's own policy; that of the case may number anew. */
function wrongShare({ deposit, policy: made }: VerifiedDeposit, index: number, policy: Policy): WrongShare {
  const depositId = uuidText(deposit.header.depositId);
  const person = made.policy.roster.find((one) => one.index === index)?.person;
  if (person === undefined) return { depositId, person, number: 0 };
  const number = policy.roster.find((one) => equal(one.person, person))?.index ?? 0;
  return { depositId, person: uuidText(person), number };
}

async function propose(account: Account, kept: OpenCase, state: ChainState): Promise<string[]> {
  const { public: key } = await newIdentity(account, kept);
  const document = { identity_key: b64u(key.encoded), old_head: b64u(headOf(state)) };
  await account.api.put(`cases/${uuidText(kept.caseId)}/successor`, document);
  return key.fingerprint(IDENTITY);
}

function newIdentity(account: Account, kept: OpenCase): Promise<SigningKey> {
  return SigningKey.fromSeed(signingKind(account.deviceStatement.suite), kept.newIdentity);
}

/**
 * Begin the account again on the officers' word, with a fresh archive key and a vault under a new password.
 *
 * The device's pre-keys are published. Rejects with NotYet while attestations are missing or the delay runs. Each step is
 * kept; done again, it resumes.
 */
export async function finish(
  account: Account,
  { password, waitSeconds = 0 }: Waiting & { readonly password: string },
): Promise<Finished> {
  const kept = requireCase(account), state = await requireChain(account);
  const author = await newIdentityAuthor(account, kept.newIdentity);
  if (!state.aik.equals(author.key.public)) await waitFor(() => beginAgain(account, kept), waitSeconds);
  await prekeys.publish(account);
  // The case's own keys have done their work; what could still be opened with them must not outlive it.
  account.state.identitySeed = kept.newIdentity;
  account.state.consent = EMPTY;
  account.state.case = undefined;
  await account.save();
  const generation = await archive.newGeneration(account);
  await vault.beginAnew(account);
  await doors.setPassword(account, password);
  const words = (await account.identityKey()).public.fingerprint(IDENTITY);
  return { words, generation: generation.number };
}

async function requireChain(account: Account): Promise<ChainState> {
  const state = await chains.refresh(account);
  if (state === undefined) throw new TrustRefused("The server no longer shows this account's chain.");
  return state;
}

/** Upload re-genesis and the first device of the new account together. */
async function beginAgain(account: Account, kept: OpenCase): Promise<ChainState> {
  const state = await requireChain(account), author = await newIdentityAuthor(account, kept.newIdentity);
  const [attestations, policy] = await enoughAttestations(account, kept, state);
  // No peer would believe an earlier date.
  if (author.issuedAt < beginsFrom(attestations, policy.policy)) throw new NotYet(DELAY_RUNS);
  const again = await chainAuthor.reGenesis(state, { by: author, attestations, policyHash: policy.hash });
  const begun = await extend(state, [again], { policies: await account.policies() });
  const { id, statement } = account.device, statementHash = Sign1.parse(statement).payloadHash;
  const added = await chainAuthor.addDevice(begun, { by: author, device: id, statementHash });
  try {
    await chains.upload(account, [again, added], headOf(state));
  } catch (error) {
    if (error instanceof Problem && error.code === "re-genesis-too-early") throw new NotYet(DELAY_RUNS);
    throw error;
  }
  const fresh = await chains.refresh(account);
  if (fresh === undefined || !equal(headOf(fresh), added.hash))
    throw new TrustRefused("The server shows another account chain than the one just begun.");
  return fresh;
}

/** Return attestations that hold and suffice, and their policy. One that does not hold spoils no other. */
async function enoughAttestations(
  account: Account,
  kept: OpenCase,
  state: ChainState,
): Promise<[attestations: Sign1[], policy: SignedPolicy]> {
  // The policy in force now, which every reader asks for: that of the case may have been replaced since.
  const policy = (await account.trusted()).inForce(account.api.clock.earliest()), { m } = policy.policy;
  const newAik = (await newIdentity(account, kept)).public, right = new Map<string, Sign1>();
  for (const statement of await attestationsOf(account, kept)) {
    const officer = officerOf(policy.policy, statement.kid);
    if (officer === undefined) continue;
    try {
      await statement.verify(officer.signingKey, "attestation");
    } catch (error) {
      if (error instanceof InvalidSignature) continue;
      throw error;
    }
    right.set(hex(statement.kid), statement);
  }
  const said = [...right].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, statement]) => statement);
  if (said.length < m)
    throw new NotYet(`${said.length} of ${m} officers have attested your new key.`, {
      wayOut: "Call them and read the 8 words to them; they run: holdfast officer attest",
    });
  const of = { user: account.user, oldHead: headOf(state), newAik };
  let about: Attestation;
  try {
    about = await verifyAttestations(said, policy.policy, of);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The attestations do not fit: ${error.message}.`, { cause: error });
  }
  const own = Sign1.parse(account.device.statement).payloadHash;
  if (!equal(about.caseId, kept.caseId) || !equal(about.deviceHash, own))
    throw new TrustRefused("The officers attested another case or another device.");
  return [said, policy];
}

async function attestationsOf(account: Account, kept: OpenCase): Promise<Sign1[]> {
  const answer = await account.api.get(`cases/${uuidText(kept.caseId)}/attestations`);
  return answer.many("attestations", { maximum: 64 }).map((row) => Sign1.parse(row.octets("statement")));
}

function requireCase(account: Account): OpenCase {
  if (account.state.case === undefined)
    throw new NotPossible("This device has no case open.", {
      wayOut: "Open one: client.cases.open(). What cases have disclosed: client.disclosures.all()",
    });
  return account.state.case;
}
