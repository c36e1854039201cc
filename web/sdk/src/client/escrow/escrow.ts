// SPDX-License-Identifier: Apache-2.0
/**
 * Putting archive keys into escrow: the person's consent first, then one deposit for each generation.
 *
 * docs/spec/escrow.md "Deposit" and "The user's side". Does not fetch keys to deposit to: only what the tenant's refresh
 * took is ever used.
 */
import { type Bytes, compare, EMPTY, equal, hex, utf8 } from "../../core/base/bytes.js";
import { b64u, decode, encode, Fields } from "../../core/base/encoding.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { buildDeposit } from "../../core/escrow/deposit.js";
import { caseFromPayload } from "../../core/identity/cases.js";
import { boundUntil as boundBy, DepositRule, NEVER } from "../../core/identity/policy.js";
import { changeOf, inWords, takingBack, textBox } from "../../core/identity/policy_change.js";
import { pinWords } from "../../core/identity/trust.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import {
  type Consent, consentFromPayload, consentToPayload, depositToPayload, isLaterConsent,
} from "../../core/signed/statements.js";
import { ConsentNeeded, NotYet, Problem, TrustRefused } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as tenant from "../identity/tenant.js";
import type { Account } from "../profile/account.js";
import type { Generation } from "../profile/state.js";
import type { Answer } from "../server/answers.js";
import * as deposits from "./deposits.js";

// Under which policy and escrow key everything here is in escrow; and the cases whose openings were taken note of.
const UNDER = ["escrow", utf8("under")] as const;
const OPENED = "opened-case";
const RECEIPTED = "receipted-deposit";
// Since when this device has waited for a deposit's receipt; the generations whose deposit was given up, and why, until
// the person is told; and those given up once already for want of a receipt, until there is one.
const WAITING = "waiting-deposit";
const GIVEN_UP = "copied-deposit";
const MADE_AGAIN = "deposit-made-again";
const IS_COPIED = new SecretBytes(Uint8Array.of(1));
const IS_UNSIGNED = new SecretBytes(Uint8Array.of(2));
const NOTED = new SecretBytes(Uint8Array.of(1));
/**
 * The release process signs within a minute. One that is out of order for a day has been noticed, and a new deposit costs
 * nothing; without an end, a server that hides a refusal could keep a person believing for ever.
 */
export const RECEIPT_WITHIN_SECONDS = 86_400;
const DEPOSIT_REPEATED = "deposit-repeated";
const GENERATION_SEALED = "generation-sealed";
// Of a server that does not say when a case was collected. The recipient may have the keys in each of these: one who says
// that shares are missing may lie.
const OPENED_STATES: ReadonlySet<string> = new Set([
  "released", "collected", "awaiting-share", "rotated", "sealed", "closed",
]);
// Said only where the policy has the term: the text of every other policy stays the one that people have agreed to.
const AGAIN = "You are asked anew when officers publish another version.";

/** Whether the person's yes to the policy is there. */
export type ConsentStanding = "given" | "refused" | "for an older policy" | "not asked";

/** Where a person stands. */
export interface Status {
  readonly policyVersion: number;
  readonly m: number;
  readonly n: number;
  readonly escrowKeyVersion: number;
  readonly consent: ConsentStanding;
  readonly generations: readonly Generation[];
  /** Generations in escrow under an older policy or escrow key only, until they are deposited again. */
  readonly stale: readonly number[];
  readonly missingOnServer: readonly number[];
  /** Deposits (UUIDs' texts) in the person's name that none of their devices made. */
  readonly foreignOnServer: readonly string[];
  /** Those for whose deposit the release process has not signed yet, which it does within a minute. */
  readonly withoutReceipt: readonly number[];
  /**
   * What officers could read as of today: the generations of every deposit of the person's devices that the server shows,
   * and of this device's own.
   */
  readonly readable: readonly number[];
  /** As `boundUntil` has it. */
  readonly consentBoundUntil: number;
}

/**
 * Bring policy and escrow key up to date, all held to the pin.
 *
 * Rejects with TrustRefused, and NotYet in an organisation that has not both yet.
 */
export async function prepare(account: Account): Promise<void> {
  await tenant.refresh(account);
  const { policies, escrowKeys } = account.state.trust;
  if (policies.length === 0 || escrowKeys.length === 0)
    throw new NotYet(
      "Your organisation's escrow is not set up yet: its officers sign a policy, then a ceremony makes its key.",
      { wayOut: "Until then nothing of yours is in escrow. Make a way back of your own: client.backup" },
    );
}

/** Return the text that a person agrees to, for the policy now known; the tenant's own in a box below it. */
export async function consentText(account: Account): Promise<string> {
  const box = textBox((await account.trusted()).newest.policy.terms);
  return (await ownText(account)) + box.map((line) => `  ${line}\n`).join("");
}

// The wording is fixed: what a tenant or a server could write here would be read as the product's own word. What the
// tenant has to say stands below, in a box.
async function ownText(account: Account): Promise<string> {
  const { terms, m, roster } = (await account.trusted()).newest.policy, late = terms.maxNoticeDelaySeconds;
  const notice = late > 0 ? `, at most ${span(late)} later` : " at once";
  const back = terms.consentBindsSeconds > 0 ? `  No:      your yes ${takingBack(terms)}.\n` : "";
  return `Escrow of your archive keys
  Who:     any ${m} of these ${roster.length} officers of your organisation, together with its hardware security module,
           can open your archive keys. One officer alone cannot; the server alone cannot.
  What:    your message archive of the generations deposited. Not your identity: nobody can write in your name.
  When:    after an officer-approved case, ${span(terms.delaySeconds)} after the last approval needed. You are told of every case${notice}.
  Devices: if you lose all of them, this is how your archive comes back, and your account begins again.
  Keep:    what is deposited stays deposited, also if you change your mind later.
${back}  Tenant:  ${pinWords(account.state.trust.pin).join(" ")}
`;
}

/** Whether this identity has agreed to the newest policy in the wording of today. */
export async function hasConsented(account: Account): Promise<boolean> {
  return (await consentStanding(account)) === "given";
}

/**
 * Sign and publish the person's answer to the newest policy; returns its hash.
 *
 * To be called on the person's own act only: nothing a server says may lead here by itself. Rejects with NotYet for a no to
 * a yes that cannot be taken back while its version stands, Problem for one that cannot yet.
 */
export async function consent(account: Account, { agreed = true }: { readonly agreed?: boolean } = {}): Promise<Bytes> {
  const { hash, policy } = (await account.trusted()).newest;
  // For a while only the server says how long: it knows when the person first said it, on whichever device.
  if (!agreed && (await boundUntil(account)) === NEVER)
    throw new NotYet(`Your yes ${takingBack(policy.terms)}. Nothing was changed.`, { wayOut: AGAIN });
  const said: Consent = { header: account.header(), policyHash: hash, textHash: await textHash(account), agreed };
  const signed = await sign(consentToPayload(said), "consent", await account.identityKey());
  await account.api.post("statements", { statement: b64u(signed.encode()) });
  account.state.consent = signed.encode();
  await account.save();
  return signed.payloadHash;
}

function answeredBy(account: Account): [signed: Sign1, said: Consent] | undefined {
  if (account.state.consent.length === 0) return undefined;
  const signed = Sign1.parse(account.state.consent);
  return [signed, consentFromPayload(signed.payload)];
}

/**
 * Return when the person can take their yes to the newest policy back, at the latest.
 *
 * UTC seconds; 0 where nothing binds them, NEVER for not at all. A yes that was said again after a rotation counts from
 * when it was first said, as the server knows.
 */
export async function boundUntil(account: Account): Promise<number> {
  const said = answeredBy(account)?.[1];
  if (said === undefined) return 0;
  const { hash, policy } = (await account.trusted()).newest;
  const isBound = said.agreed && equal(said.policyHash, hash) && policy.terms.consentBindsSeconds > 0;
  return isBound ? boundBy(policy.terms, said.header.issuedAt) : 0;
}

/** Return the archive keys of this device that should be deposited: those not in escrow yet, and the stale ones. */
export async function due(account: Account): Promise<Generation[]> {
  const missing = account.state.generations.filter((kept) => kept.depositId.length === 0 && !kept.isExposed);
  return [...missing, ...(await staleOf(account))];
}

/** Whether the person agreed to escrow before, and the policy has changed since: only they can say it again. */
export async function asksAgain(account: Account): Promise<boolean> {
  return (await consentStanding(account)) === "for an older policy";
}

/**
 * Say in words what the newest policy changes of the one that the person last answered; nothing without an answer.
 *
 * From the signed versions alone, as the officers read it before they signed.
 */
export async function whatChanged(account: Account): Promise<string[]> {
  const answered = answeredBy(account)?.[1].policyHash;
  if (answered === undefined) return [];
  const trusted = await account.trusted(), { newest } = trusted, { policy } = newest;
  const since = trusted.policies.find((signed) => equal(signed.hash, answered))?.policy;
  const before = trusted.standing.filter((signed) => signed.policy.version < policy.version);
  if (since === undefined || before.length === 0 || equal(answered, newest.hash)) return [];
  const change = changeOf(policy, {
    versions: before,
    published: before.map((signed) => signed.policy.header.issuedAt),
    signers: newest.signers,
    since,
    at: policy.header.issuedAt,
  });
  return inWords(change, { at: account.api.clock.now(), isPublished: true });
}

/**
 * Deposit every archive key that is `due`; returns those deposited now.
 *
 * One that the server has sealed, since a case opened it, is marked exposed and keeps no other out of escrow. What another
 * device of the person has deposited under the policy and key of now is taken over as it is. Rejects with ConsentNeeded
 * without the person's yes to the newest policy, NotPossible when policy or key have run out.
 */
export async function depositMissing(account: Account): Promise<Generation[]> {
  if (!(await hasConsented(account)))
    throw new ConsentNeeded(
      (await asksAgain(account))
        ? "Your organisation's escrow policy has changed since you agreed to it."
        : "Your consent to the escrow of your archive keys is missing.",
      { wayOut: "Read it and decide: client.escrow.consentText(), then client.escrow.consent()" },
    );
  await tenant.requireInForce(account);
  const state = await chains.refresh(account), done: Generation[] = [];
  for (const generation of await due(account)) {
    const announced = state?.generations.findLast((one) => one.generation === generation.number);
    // Made here and never announced: this device was stopped, or another was first.
    if (announced === undefined || !equal(announced.commitment, generation.commitment)) continue;
    if (generation.depositId.length > 0 && (await takeOver(account, generation))) continue;
    if (await deposit(account, generation)) done.push(generation);
  }
  await account.store.put(...UNDER, await under(account));
  return done;
}

async function under(account: Account): Promise<SecretBytes> {
  return new SecretBytes(encode([(await account.trusted()).newest.hash, (await account.escrowKey()).hash]));
}

/** Return what was deposited under another policy or escrow key than those of now, before it was renewed. */
async function staleOf(account: Account): Promise<Generation[]> {
  const kept = await account.store.get(...UNDER);
  const isFirst = async (): Promise<boolean> =>
    (await account.trusted()).newest.policy.version === 1 && (await account.escrowKey()).statement.version === 1;
  const isRenewed = kept === undefined ? await isFirst() : kept.equals(await under(account));
  return isRenewed ? [] : account.state.generations.filter((one) => one.depositId.length > 0 && !one.isExposed);
}

/** Every deposit in the person's name that the server shows. */
async function rowsOf(account: Account): Promise<Answer[]> {
  const rows: Answer[] = [];
  for await (const row of account.api.pages("escrow/deposits", "deposits", "deposit_id")) rows.push(row);
  return rows;
}

function namedIn(row: Answer): deposits.Named {
  return { depositId: row.identifier("deposit_id"), recordHash: row.octets("record_hash", 32) };
}

/** Take over a deposit of this generation under the policy and key of now, if a device of the person made one. */
async function takeOver(account: Account, generation: Generation): Promise<boolean> {
  const shown = (await rowsOf(account)).filter(
    (row) => row.number("generation") === generation.number && !isRefused(row),
  );
  const subject = await deposits.subjectOf(account, account.user);
  for (const { depositId, recordHash } of shown.map(namedIn)) {
    const found = await unlessRefused(deposits.fetch(account, subject, { depositId, recordHash }));
    if (found === undefined) continue; // `status` names it
    const { policyHash, escrowKeyHash } = found.deposit.header;
    const isOfNow =
      equal(policyHash, (await account.trusted()).newest.hash) && equal(escrowKeyHash, (await account.escrowKey()).hash);
    if (isOfNow && !found.isFromRevoked) {
      generation.depositId = depositId;
      generation.recordHash = recordHash;
      await account.save();
      return true;
    }
  }
  return false;
}

async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof TrustRefused) return undefined;
    throw error;
  }
}

/**
 * Mark the archive keys that cases have opened, and return the generations newly marked.
 *
 * The server's word is enough here, as it can make this device no less careful: a marked key is not used again, and is
 * followed by a fresh one. Each case is looked at once.
 */
export async function noteOpenings(account: Account): Promise<number[]> {
  const marked: number[] = [];
  for await (const row of account.api.pages("cases", "cases", "case_id")) {
    const caseId = row.identifier("case_id");
    if (!equal(row.identifier("subject"), account.user)) continue;
    if ((await account.store.get(OPENED, caseId)) !== undefined || !isOpening(row)) continue;
    const answer = await account.api.get(`cases/${uuidText(caseId)}`);
    const asked = caseFromPayload(Sign1.parse(answer.octets("statement")).payload), numbers = new Set<number>();
    for (const [depositId, recordHash] of asked.deposits)
      numbers.add(await generationOf(account, { depositId, recordHash }));
    await account.store.transaction(async () => {
      for (const generation of account.state.generations)
        if (numbers.has(generation.number) && !generation.isExposed) {
          generation.isExposed = true;
          marked.push(generation.number);
        }
      await account.store.put(OPENED, caseId, NOTED);
      await account.save();
    });
  }
  return marked.sort((one, other) => one - other);
}

// What was collected stays opened, however the case ends.
function isOpening(row: Answer): boolean {
  return OPENED_STATES.has(row.text("state")) || (row.has("collected_at") && row.text("collected_at") !== "");
}

async function generationOf(account: Account, named: deposits.Named): Promise<number> {
  const own = account.state.generations.find((one) => equal(one.depositId, named.depositId));
  if (own !== undefined) return own.number;
  // Deposited by another device, or before it was renewed.
  const subject = await deposits.subjectOf(account, account.user);
  return (await deposits.fetch(account, subject, named)).deposit.header.generation;
}

/**
 * Say the person's answer once more to a server that was put back and lost it, and note which deposits it lost.
 *
 * Returns the generations of these: they are `due` from now on, with fresh halves, since the release process remembers
 * those of before. To be called while officers' acceptance of a backup heals (`restored.isHealing`), and once for each: a
 * server that hides deposits again and again gets no more of them.
 */
export async function giveBack(account: Account): Promise<number[]> {
  await prepare(account);
  await repeatConsent(account);
  const shown = new Map<string, Bytes>();
  for (const row of await rowsOf(account))
    if (!isRefused(row)) shown.set(hex(row.identifier("deposit_id")), row.octets("record_hash", 32));
  const lost = account.state.generations.filter(
    (kept) => kept.depositId.length > 0 && !kept.isExposed && !isShown(shown, kept),
  );
  for (const kept of lost) {
    await account.store.transaction(async () => {
      for (const kind of [RECEIPTED, WAITING]) await account.store.delete(kind, kept.depositId);
      kept.depositId = kept.recordHash = EMPTY;
      await account.save();
    });
    // Another device of the person may have made one anew.
    await takeOver(account, kept);
  }
  return lost.filter((kept) => kept.depositId.length === 0).map((kept) => kept.number);
}

function isShown(shown: ReadonlyMap<string, Bytes>, kept: Generation): boolean {
  const recordHash = shown.get(hex(kept.depositId));
  return recordHash !== undefined && equal(recordHash, kept.recordHash);
}

/** Send the person's answer as it was signed, unless the server has it or a later one. */
async function repeatConsent(account: Account): Promise<void> {
  const answered = answeredBy(account);
  if (answered === undefined) return;
  const [signed, said] = answered, { aik } = await account.chain();
  // The server takes no other; the person is asked anew.
  if (!equal(signed.kid, aik.kid) || !equal(said.policyHash, (await account.trusted()).newest.hash)) return;
  for await (const row of account.api.pages("statements", "statements", "hash", { query: { purpose: "consent" } })) {
    const known = consentFromPayload(Sign1.parse(row.octets("statement")).payload);
    if (equal(known.policyHash, said.policyHash) && !isLaterConsent(said, known)) return;
  }
  await account.api.post("statements", { statement: b64u(account.state.consent) });
}

/**
 * Give up this device's deposits that count for nothing, so that `due` lists them; `givenUp` names them.
 *
 * The release process has refused them, since another had their half first; or it has not signed for a day, which gives up
 * each generation once: where a new deposit gets no receipt either, the process is away, and more would only pile up.
 */
export async function takeBack(account: Account): Promise<void> {
  const waiting = new Map<string, Generation>();
  for (const kept of account.state.generations)
    if (kept.depositId.length > 0 && !kept.isExposed)
      if ((await account.store.get(RECEIPTED, kept.depositId)) === undefined) waiting.set(hex(kept.depositId), kept);
  if (waiting.size === 0) return;
  for (const row of await rowsOf(account)) {
    const kept = waiting.get(hex(row.identifier("deposit_id")));
    if (kept === undefined || !equal(row.octets("record_hash", 32), kept.recordHash)) continue;
    if (await isReceipted(account, kept, row)) continue;
    // The server's word is enough: it makes this device only more careful.
    if (isRefused(row)) await giveUp(account, kept, IS_COPIED);
    else if ((await waited(account, kept.depositId)) > RECEIPT_WITHIN_SECONDS)
      if ((await account.store.get(MADE_AGAIN, nameOf(kept))) === undefined) await giveUp(account, kept, IS_UNSIGNED);
  }
}

async function giveUp(account: Account, kept: Generation, why: SecretBytes): Promise<void> {
  await account.store.transaction(async () => {
    await account.store.put(GIVEN_UP, nameOf(kept), why);
    if (why.equals(IS_UNSIGNED)) await account.store.put(MADE_AGAIN, nameOf(kept), NOTED);
    await account.store.delete(WAITING, kept.depositId);
    kept.depositId = kept.recordHash = EMPTY;
    await account.save();
  });
}

/** Return what a person has to be told of deposits that were given up, and what they are to do; each once. */
export async function givenUp(account: Account): Promise<[said: string, wayOut: string][]> {
  const said: [string, string][] = [];
  for (const name of (await account.store.keys(GIVEN_UP)).sort(compare)) {
    const why = await account.store.get(GIVEN_UP, name);
    await account.store.delete(GIVEN_UP, name);
    said.push(sayGivenUp(new DataView(name.buffer).getUint32(0), why?.equals(IS_UNSIGNED) === true));
  }
  return said;
}

function sayGivenUp(number: number, isUnsigned: boolean): [said: string, wayOut: string] {
  if (isUnsigned)
    return [
      `Nobody has signed for your deposit of generation ${number} within a day. A new one is made, this once.`,
      "Should it have no receipt tomorrow (client.escrow.status()), tell your officers: the release process is away, or " +
        "somebody on the server keeps the receipt back.",
    ];
  return [
    `Your deposit of generation ${number} does not count: its half stood in another's deposit first. It opens nothing by ` +
      "itself, and a new deposit is made.",
    "Tell your officers: somebody on the server may have copied it on its way.",
  ];
}

/** The key of a row about a generation: its number in four bytes. */
function nameOf(generation: Generation): Bytes {
  const name = new Uint8Array(4);
  new DataView(name.buffer).setUint32(0, generation.number);
  return name;
}

// A server of before says nothing of it.
function isRefused(row: Answer): boolean {
  return row.has("refused") && row.flag("refused");
}

/** Return for how many seconds this device has waited for a deposit's receipt, by its own clock. */
async function waited(account: Account, depositId: Bytes): Promise<number> {
  const now = account.api.clock.now(), kept = await account.store.get(WAITING, depositId);
  const begin = (): Promise<void> =>
    account.store.put(WAITING, depositId, new SecretBytes(encode(new Map([[1, now]]))));
  if (kept === undefined) {
    await begin();
    return 0;
  }
  const since = Fields.of(decode(kept.reveal()), "waiting deposit", [1]).uint(1);
  // Since what is the future now: a clock was ahead.
  if (since > now + MAX_AHEAD_SECONDS) await begin();
  return Math.max(0, now - since);
}

/**
 * Deposit one key; once more, with fresh halves, when its half is in custody already: it was copied on its way.
 *
 * Returns false where the generation is sealed: a case has opened it, and it is used no more.
 */
async function deposit(account: Account, generation: Generation): Promise<boolean> {
  try {
    await depositOnce(account, generation);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.code === GENERATION_SEALED) {
      // The server's word is enough: it makes this device only more careful.
      generation.isExposed = true;
      await account.save();
      return false;
    }
    if (error.code !== DEPOSIT_REPEATED) throw error;
    await account.store.put(GIVEN_UP, nameOf(generation), IS_COPIED);
    await depositOnce(account, generation);
  }
  return true;
}

async function depositOnce(account: Account, generation: Generation): Promise<void> {
  const terms = {
    suite: account.suite,
    tenant: account.tenant,
    user: account.user,
    device: account.device.id,
    policy: (await account.trusted()).newest,
    escrowKey: await account.escrowKey(),
    consentHash: Sign1.parse(account.state.consent).payloadHash,
  };
  const depositId = randomBytes(16), { key, number } = generation;
  const record = (await buildDeposit(key, { generation: number, depositId, terms })).toRecord();
  const recordHash = sha256(record), payload = depositToPayload({ header: account.header(), recordHash });
  const signed = await sign(payload, "deposit", await account.signingKey());
  const document = { record: b64u(record), statement: b64u(signed.encode()) };
  const answer = await account.api.post("escrow/deposits", document);
  if (!equal(answer.identifier("deposit_id"), depositId) || !equal(answer.octets("record_hash"), recordHash))
    throw new TrustRefused("The server acknowledged another deposit than the one sent.");
  generation.depositId = depositId;
  generation.recordHash = recordHash;
  await account.save();
}

/** Whether the policy forbids using a generation before its deposit is acknowledged. */
export async function mustDepositFirst(account: Account): Promise<boolean> {
  return (await account.trusted()).newest.policy.terms.deposits === DepositRule.ALL;
}

/** Compare what this device deposited with what the server shows, and say where the person stands. */
export async function status(account: Account): Promise<Status> {
  await prepare(account);
  const { version, m, roster } = (await account.trusted()).newest.policy;
  const rows = new Map((await rowsOf(account)).map((row) => [hex(row.identifier("deposit_id")), row]));
  const shown = new Map([...rows].map(([name, row]) => [name, row.octets("record_hash", 32)]));
  const mine = account.state.generations.filter((kept) => kept.depositId.length > 0);
  const unknown = new Map(shown);
  for (const kept of mine) unknown.delete(hex(kept.depositId));
  const [others, foreign] = await othersOf(account, [...unknown.keys()].map((name) => namedIn(rows.get(name) as Answer)));
  const withoutReceipt: number[] = [];
  for (const kept of mine)
    if (isShown(shown, kept) && !(await isReceipted(account, kept, rows.get(hex(kept.depositId)) as Answer)))
      withoutReceipt.push(kept.number);
  return {
    policyVersion: version,
    m,
    n: roster.length,
    escrowKeyVersion: (await account.escrowKey()).statement.version,
    consent: await consentStanding(account),
    generations: account.state.generations,
    stale: (await staleOf(account)).map((one) => one.number),
    missingOnServer: mine.filter((kept) => !isShown(shown, kept)).map((kept) => kept.number),
    foreignOnServer: foreign,
    withoutReceipt,
    // What the server hides has not gone from it: this device's own word counts.
    readable: [...new Set([...mine.map((kept) => kept.number), ...others])].sort((one, other) => one - other),
    consentBoundUntil: await boundUntil(account),
  };
}

/** Whether the release process has signed for a deposit of this device. What was found once is remembered. */
async function isReceipted(account: Account, kept: Generation, row: Answer): Promise<boolean> {
  if ((await account.store.get(RECEIPTED, kept.depositId)) !== undefined) return true;
  if (!row.has("receipt")) return false;
  const subject = await deposits.subjectOf(account, account.user);
  const found = await deposits.fetch(account, subject, kept);
  if (!(await deposits.hasReceipt(found, row.octets("receipt")))) return false;
  await account.store.put(RECEIPTED, kept.depositId, NOTED);
  await account.store.delete(WAITING, kept.depositId);
  await account.store.delete(MADE_AGAIN, nameOf(kept));
  return true;
}

/**
 * Return the generations that other devices of the person deposited, or this one before it renewed them.
 *
 * And the deposits in the person's name that none of their devices made.
 */
async function othersOf(
  account: Account,
  unknown: readonly deposits.Named[],
): Promise<[generations: Set<number>, foreign: string[]]> {
  const generations = new Set<number>(), foreign: string[] = [];
  if (unknown.length === 0) return [generations, foreign];
  const subject = await deposits.subjectOf(account, account.user);
  for (const named of unknown) {
    const found = await unlessRefused(deposits.fetch(account, subject, named));
    if (found === undefined) foreign.push(uuidText(named.depositId));
    else generations.add(found.deposit.header.generation);
  }
  return [generations, foreign];
}

async function consentStanding(account: Account): Promise<ConsentStanding> {
  const answered = answeredBy(account);
  if (answered === undefined) return "not asked";
  const [signed, said] = answered, { aik } = await account.chain();
  if (!equal(signed.kid, aik.kid)) return "not asked";
  const isOfNow =
    equal(said.policyHash, (await account.trusted()).newest.hash) && equal(said.textHash, await textHash(account));
  if (!isOfNow) return "for an older policy";
  return said.agreed ? "given" : "refused";
}

/** Return SHA-256 of the text that a person agrees to, for the policy now known: field 8 of a consent. */
export async function textHash(account: Account): Promise<Bytes> {
  // Without the tenant's text: that is in the policy, whose hash stands beside this one.
  return sha256(utf8(await ownText(account)));
}

function span(seconds: number): string {
  for (const [size, name] of [[86_400, "day"], [3_600, "hour"], [60, "minute"]] as const)
    if (seconds >= size && seconds % size === 0)
      return `${seconds / size} ${name}${seconds === size ? "" : "s"}`;
  return `${seconds} seconds`;
}
