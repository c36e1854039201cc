// SPDX-License-Identifier: Apache-2.0
/**
 * The statements of a case: what is asked, what officers answer, what the subject forbids, who they are then.
 *
 * docs/formats/deposit-and-case.md, and the `attestation` of account chains. Does not count quorums of approvals nor know
 * states: eligibility is the server's, opening is `approvals`.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { type Encodable, Fields, label } from "../base/encoding.js";
import { Malformed, QuorumNotMet, Untrusted } from "../base/errors.js";
import { saysNothing } from "../base/text.js";
import { eightWords } from "../base/words.js";
import { sha256 } from "../crypto/hashing.js";
import { KeyKind, type PublicKey, SIGNING_KINDS } from "../crypto/public_keys.js";
import type { Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, openPayload, readBack, readKey, requireDevice, requireUser,
} from "../signed/payloads.js";
import { openDevice } from "../signed/statements.js";
import { MAX_OFFICERS, officersWhoSigned, type Policy, YEAR_SECONDS } from "./policy.js";

/** 128 rows of about 53 bytes with the longest reason still fit the 16 KiB of a statement. */
export const MAX_DEPOSITS = 128;
/** Characters. Officers read all of it before they sign, and the log and every approval rest on its hash. */
export const MAX_REASON = 1000;
/** Characters. Of an approval how the officer made sure of the person, of a denial why. */
export const MAX_IDENTITY_CHECK = 200;

/**
 * Return the latest end that a disclosure may have, in UTC seconds: 365 days after the case's expiry.
 *
 * Of an expiry over 365 days away, those 365 days count.
 */
export function lastDisclosureEnd(of: { issuedAt: number; expiry: number }): number {
  return Math.min(of.expiry, of.issuedAt + YEAR_SECONDS) + YEAR_SECONDS;
}

/** A request to release named deposits to one device, signed by that device. Times are UTC seconds. */
export interface Case {
  readonly header: Header;
  readonly caseId: Bytes;
  readonly nonce: Bytes;
  readonly subject: Bytes;
  readonly requester: Bytes;
  readonly purpose: string;
  /** Deposit id, SHA-256 of the record. */
  readonly deposits: readonly (readonly [Bytes, Bytes])[];
  readonly reason: string;
  readonly reference: string;
  readonly recipientDeviceHash: Bytes;
  readonly recipientRsaKey: PublicKey;
  readonly recipientSealingKey: PublicKey;
  readonly policyHash: Bytes;
  readonly notBefore: number;
  readonly noticeAt: number;
  readonly expiry: number;
  /** 0 when the subject receives; undefined in a case from before there was the field. */
  readonly disclosureEnds: number | undefined;
}

/** Whether somebody else than the subject receives: they get a disclosure, and no keys of their own. */
export function isDisclosure(of: Case): boolean {
  return !equal(of.header.user, of.subject);
}

/** When a disclosure ends. A case that names no end has its expiry: officers saw no later. */
export function disclosedUntil(of: Case): number {
  return of.disclosureEnds || of.expiry;
}

/** When nothing may come of it any more: at its expiry, or sooner when its disclosure ends. */
export function endsAt(of: Case): number {
  return isDisclosure(of) ? Math.min(of.expiry, disclosedUntil(of)) : of.expiry;
}

/** The 8 words of the recipient's two keys together: what officers hear from the person. */
export function recipientWords(of: Case): string[] {
  // Both keys in one hash: a server that swaps either, for the HSM's half or for the officers', changes the words.
  return eightWords(sha256(label("fp", "recipient", of.recipientRsaKey.encoded, of.recipientSealingKey.encoded)));
}

/** Return the payload bytes of a `case`: fields 7 to 22. */
export function caseToPayload(of: Case): Bytes {
  const payload = closePayload(of.header, {
    7: of.caseId,
    8: of.nonce,
    9: of.subject,
    10: of.requester,
    11: of.purpose,
    12: of.deposits.map((row): Encodable[] => [...row]),
    13: of.reason,
    14: of.reference,
    15: of.recipientDeviceHash,
    16: of.recipientRsaKey.encoded,
    17: of.recipientSealingKey.encoded,
    18: of.policyHash,
    19: of.notBefore,
    20: of.noticeAt,
    21: of.expiry,
    22: of.disclosureEnds,
  });
  return readBack(payload, caseFromPayload);
}

const CASE_FIELDS = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];

/**
 * Read the payload; throws Malformed, also for one deposit twice, for notice later than a year, and for an end of the
 * disclosure that does not fit who receives.
 */
export function caseFromPayload(payload: Uint8Array): Case {
  const [header, fields] = openPayload(payload, "case", CASE_FIELDS, { optional: [22] });
  // A case is a device's own: who asks, and where the release goes, is one device, and nobody asks in its name.
  requireDevice(header, "case");
  const items = fields.array(12, { minimum: 1, maximum: MAX_DEPOSITS });
  const rows = items.map((item) => Fields.ofRow(item, "case deposit", 2));
  const deposits = rows.map((row): [Bytes, Bytes] => [row.octets(0, ID_SIZE), row.octets(1, HASH_SIZE)]);
  // Twice the same deposit would be two re-wraps for one approval, under one name that counts cannot tell apart.
  if (new Set(deposits.map(([id]) => hex(id))).size !== deposits.length)
    throw fields.refuse(12, "names one deposit twice");
  const notBefore = fields.uint(19), noticeAt = fields.uint(20), expiry = fields.uint(21), { issuedAt } = header;
  const begins = Math.max(notBefore, issuedAt);
  // Such a case could never be released, and would only keep officers busy.
  if (expiry <= begins) throw fields.refuse(21, "is not after the time from which the case may be released");
  // A bound of the format, below any policy's: whoever may read in secret may not do so for ever.
  if (noticeAt > issuedAt + YEAR_SECONDS) throw fields.refuse(20, "delays notice over 365 days");
  const disclosureEnds = fields.has(22) ? fields.uint(22) : undefined;
  const isOwn = equal(fields.octets(9, ID_SIZE), header.user);
  if (disclosureEnds !== undefined) {
    if (isOwn !== (disclosureEnds === 0))
      throw fields.refuse(22, "is 0 when the subject receives, and an end when somebody else does");
    if (disclosureEnds > 0 && disclosureEnds <= begins)
      throw fields.refuse(22, "ends the disclosure before it could begin");
    if (disclosureEnds > lastDisclosureEnd({ issuedAt, expiry }))
      throw fields.refuse(22, "ends the disclosure over 365 days after the case's expiry");
  }
  return {
    header,
    caseId: fields.octets(7, ID_SIZE),
    nonce: fields.octets(8, 16),
    subject: fields.octets(9, ID_SIZE),
    requester: fields.octets(10, ID_SIZE),
    purpose: fields.text(11, { maximum: 64 }),
    deposits,
    reason: fields.text(13, { maximum: MAX_REASON }),
    reference: fields.text(14, { maximum: 200 }),
    recipientDeviceHash: fields.octets(15, HASH_SIZE),
    recipientRsaKey: readKey(fields, 16, KeyKind.RSA_3072),
    recipientSealingKey: readKey(fields, 17, KeyKind.X_WING),
    policyHash: fields.octets(18, HASH_SIZE),
    notBefore,
    noticeAt,
    expiry,
    disclosureEnds,
  };
}

/**
 * Throw Malformed unless the reason of a case says something: officers decide by it, and the log keeps it.
 *
 * For a case that is made, opened or decided now. Reading does not ask: logs keep cases older than this rule.
 */
export function requireTold(of: Case): void {
  if (saysNothing(of.reason)) throw new Malformed("case, field 13: the reason says nothing");
}

/** Field 12 of an approval: where the officer signed, which a policy may narrow to the command line. */
export const ClientKind = { CLI: 1, BROWSER: 2 } as const;
export type ClientKind = (typeof ClientKind)[keyof typeof ClientKind];

/** One officer's answer to one case. */
export interface Approval {
  readonly header: Header;
  readonly caseHash: Bytes;
  /** Deposit id, index, SHA-256 of sealed_i. */
  readonly shares: readonly (readonly [Bytes, number, Bytes])[];
  readonly policyHash: Bytes;
  readonly approves: boolean;
  readonly identityCheck: string;
  readonly clientKind: ClientKind;
}

/** Return the payload bytes of an `approval`: fields 7 to 12. */
export function approvalToPayload(of: Approval): Bytes {
  const payload = closePayload(of.header, {
    7: of.caseHash,
    8: of.shares.map((row): Encodable[] => [...row]),
    9: of.policyHash,
    10: Number(of.approves),
    11: of.identityCheck,
    12: of.clientKind,
  });
  return readBack(payload, approvalFromPayload);
}

/**
 * Read the payload; throws Malformed.
 *
 * An approval hands over at least one share and at most one of each deposit (nobody holds two indices of one deposit); a
 * denial hands over none.
 */
export function approvalFromPayload(payload: Uint8Array): Approval {
  const [header, fields] = openPayload(payload, "approval", [7, 8, 9, 10, 11, 12]);
  requireUser(header, "approval");
  const approves = fields.flag(10);
  // A denial with shares would hand over what it refuses; an approval without any would count and open nothing.
  const bounds = approves ? { minimum: 1, maximum: MAX_DEPOSITS } : { minimum: 0, maximum: 0 };
  const rows = fields.array(8, bounds).map((item) => Fields.ofRow(item, "approval share", 3));
  const shares = rows.map((row): [Bytes, number, Bytes] => [
    row.octets(0, ID_SIZE), row.uint(1, { minimum: 1, maximum: MAX_OFFICERS }), row.octets(2, HASH_SIZE),
  ]);
  // Two shares of one deposit from one hand would be one officer counted twice.
  if (new Set(shares.map(([id]) => hex(id))).size !== shares.length) throw fields.refuse(8, "names one deposit twice");
  return {
    header,
    caseHash: fields.octets(7, HASH_SIZE),
    shares,
    policyHash: fields.octets(9, HASH_SIZE),
    approves,
    identityCheck: fields.text(11, { maximum: MAX_IDENTITY_CHECK }),
    clientKind: fields.uint(12, { minimum: 1, maximum: 2 }) as ClientKind,
  };
}

/** Throw Malformed unless an officer says how they made sure of the person or, in a denial, why they deny. */
export function requireAnswerTold(of: Approval): void {
  if (!saysNothing(of.identityCheck)) return;
  const what = of.approves ? "the identity check" : "the reason of the denial";
  throw new Malformed(`approval, field 11: ${what} says nothing`);
}

/** The subject forbids a case, from any live device of theirs. */
export interface Veto {
  readonly header: Header;
  readonly caseHash: Bytes;
  readonly reason: string;
}

/** Return the payload bytes of a `veto`: 7 q, 8 reason. */
export function vetoToPayload(of: Veto): Bytes {
  return readBack(closePayload(of.header, { 7: of.caseHash, 8: of.reason }), vetoFromPayload);
}

/** Read the payload; throws Malformed. */
export function vetoFromPayload(payload: Uint8Array): Veto {
  const [header, fields] = openPayload(payload, "veto", [7, 8]);
  requireDevice(header, "veto");
  return { header, caseHash: fields.octets(7, HASH_SIZE), reason: fields.text(8, { maximum: MAX_REASON }) };
}

/**
 * Check that a device of the case's subject forbids this very case, and return what it says.
 *
 * of: whose signature the caller has checked, or whose hash the log names. device: the signer's own statement; that the
 * subject's chain lists it, the caller sees. Rejects with Malformed, InvalidSignature; Untrusted for another case, or a
 * device of somebody else.
 */
export async function verifyVeto(statement: Sign1, of: Sign1, device: Sign1): Promise<Veto> {
  const signer = await openDevice(device);
  const veto = vetoFromPayload(await statement.verify(signer.signingKey, "veto"));
  const asked = caseFromPayload(of.payload), { header } = veto, own = signer.header;
  // In the signer's own name, and that is the subject: a device forbids nothing in somebody else's.
  if (!equal(header.tenant, own.tenant) || !equal(header.user, own.user) || !equal(header.device, own.device))
    throw new Untrusted("the veto names another device than the one that signed it");
  const isSubjects = equal(header.tenant, asked.header.tenant) && equal(header.user, asked.subject);
  if (!equal(veto.caseHash, of.payloadHash) || !isSubjects)
    throw new Untrusted("the veto is about another case, or not the subject's");
  return veto;
}

/** An officer says that the user named in the header, who lost their account, now holds this new key. */
export interface Attestation {
  readonly header: Header;
  readonly oldHead: Bytes;
  readonly newAik: PublicKey;
  readonly caseId: Bytes;
  readonly deviceHash: Bytes;
}

/** Return the payload bytes: 7 old head, 8 new AIK, 9 case id, 10 hash of the new device statement. */
export function attestationToPayload(of: Attestation): Bytes {
  const fields = { 7: of.oldHead, 8: of.newAik.encoded, 9: of.caseId, 10: of.deviceHash };
  return readBack(closePayload(of.header, fields), attestationFromPayload);
}

/** Read the payload; throws Malformed. */
export function attestationFromPayload(payload: Uint8Array): Attestation {
  const [header, fields] = openPayload(payload, "attestation", [7, 8, 9, 10]);
  requireUser(header, "attestation");
  return {
    header,
    oldHead: fields.octets(7, HASH_SIZE),
    newAik: readKey(fields, 8, SIGNING_KINDS),
    caseId: fields.octets(9, ID_SIZE),
    deviceHash: fields.octets(10, HASH_SIZE),
  };
}

/**
 * Return from when (UTC seconds) an account may begin again on attestations that `verifyAttestations` took.
 *
 * The policy's delay runs from the one that made the quorum, by the dates that the officers signed.
 */
export function beginsFrom(statements: readonly Sign1[], policy: Policy): number {
  const first = new Map<string, number>();
  for (const statement of statements) {
    const at = attestationFromPayload(statement.payload).header.issuedAt, name = hex(statement.kid);
    first.set(name, Math.min(at, first.get(name) ?? at));
  }
  // By officer and not by statement: one who signs twice has not made the quorum earlier.
  const times = [...first.values()].sort((a, b) => a - b);
  return (times[policy.m - 1] as number) + policy.terms.delaySeconds;
}

/**
 * Check that m officers of `policy` attest one new key of `user` in one case, and return what they said.
 *
 * The statements are separate, each with its own header; they must agree in all that matters. Rejects with Malformed,
 * InvalidSignature; Untrusted if one is about anything else or by the very user; QuorumNotMet.
 */
export async function verifyAttestations(
  statements: readonly Sign1[],
  policy: Policy,
  of: { user: Bytes; oldHead: Bytes; newAik: PublicKey },
): Promise<Attestation> {
  // Each officer signs a payload of their own, with a time of their own: officers are counted over single statements.
  const officers = await officersWhoSigned(statements, [policy], "attestation");
  if (officers.some((officer) => equal(officer.person, of.user)))
    throw new Untrusted("an officer does not attest themselves");
  // Distinct officers and not statements: one who signs twice is one.
  if (officers.length < policy.m) throw new QuorumNotMet("too few officers attest the new key");
  const read = statements.map((statement) => attestationFromPayload(statement.payload));
  const first = read[0] as Attestation;
  for (const { header, oldHead, newAik, caseId, deviceHash } of read) {
    // The key's signature alone does not say whom it is about: without this, words about one user would begin another's
    // account again.
    if (!equal(header.tenant, policy.header.tenant) || !equal(header.user, of.user))
      throw new Untrusted("attestation about somebody else");
    // The head fixes the moment: attestations of an earlier loss are worth nothing after the chain has gone on.
    if (!equal(oldHead, of.oldHead) || !newAik.equals(of.newAik))
      throw new Untrusted("attestation of another key or for another chain");
    // m words from m different occasions are not one quorum, and could be collected over years.
    if (!equal(caseId, first.caseId) || !equal(deviceHash, first.deviceHash))
      throw new Untrusted("attestations of different cases");
  }
  return first;
}
