// SPDX-License-Identifier: Apache-2.0
/**
 * What officers hand over, how their approvals are counted, and how the recipient puts the halves together.
 *
 * docs/spec/escrow.md "Case". Statements are read by `cases`; delay, notice and veto are judged by `release`. Knows no
 * clock and no row: who is cooling off, suspended or away is handed in.
 */
import { type Bytes, equal, equalSecret, hex } from "../base/bytes.js";
import { label } from "../base/encoding.js";
import { HoldfastError, Malformed, QuorumNotMet, Untrusted, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey, SigningKey } from "../crypto/keys.js";
import { oaepHash, type RecipientRsaKey } from "../crypto/rsa.js";
import { seal, type SealingKey } from "../crypto/sealing.js";
import { combine as combineShares } from "../crypto/shares.js";
import {
  type Approval, approvalFromPayload, approvalToPayload, caseFromPayload, ClientKind, requireAnswerTold, requireTold,
} from "../identity/cases.js";
import { ApproveWith, type Officer, officerOf, type Policy, type SignedPolicy } from "../identity/policy.js";
import { sign, type Sign1 } from "../signed/cose.js";
import type { Header } from "../signed/payloads.js";
import type { Deposit } from "./deposit.js";

/** sealed_i of one deposit, sealed once more to the release process: what an officer uploads. */
export interface OuterShare {
  readonly depositId: Bytes;
  readonly outer: Bytes;
}

/** Persons (ids in hex) who do not count for one case, by why. docs/spec/escrow.md "Case": "Eligible". */
export interface Excluded {
  readonly requester: string;
  readonly subject: string;
  readonly recipient: string;
  readonly coolingOff?: ReadonlySet<string>;
  readonly suspended?: ReadonlySet<string>;
  readonly away?: ReadonlySet<string>;
  readonly keysLost?: ReadonlySet<string>;
  /** Whoever issued the code of the recipient's device, and those who stand behind them or the requester: `sponsors`. */
  readonly behind?: ReadonlySet<string>;
}

/** Return why a person (id in hex) does not count, in words for people, or undefined when they do. */
export function whyExcluded(excluded: Excluded, person: string): string | undefined {
  // Persons are compared, never accounts, devices or keys: another login of one person is still that person.
  if (person === excluded.subject) return "is the subject";
  if (person === excluded.requester) return "opened the case";
  if (person === excluded.recipient) return "owns the recipient device";
  if (excluded.coolingOff?.has(person)) return "is cooling off";
  if (excluded.suspended?.has(person)) return "is suspended or removed";
  if (excluded.keysLost?.has(person)) return "lost a device with their keys, and needs others";
  if (excluded.away?.has(person)) return "is away";
  if (excluded.behind?.has(person))
    return "issued the code of the receiving device, or let in whoever did or whoever asks";
  return undefined;
}

// The case is in it: what was sealed for one case opens for no later one, even at the same device.
const innerInfo = (q: Bytes, depositId: Bytes, index: number): Bytes => label("release-share", q, depositId, index);
const outerInfo = (q: Bytes, depositId: Bytes, index: number): Bytes =>
  label("release-share-outer", q, depositId, index);

/**
 * Return the index of an officer's shares in deposits made under `madeUnder`, or undefined when they hold none.
 *
 * A roster's numbers are its own: after an officer has left, the others may be numbered anew.
 */
export function shareIndex(officer: Officer, madeUnder: Policy): number | undefined {
  // By person and not by key: an officer's keys may have changed since, their share of that deposit has not.
  return madeUnder.roster.find((member) => equal(member.person, officer.person))?.index;
}

/** An officer at their own client. officer: their row of the case's policy. header: names them, issued now. */
export interface Approver {
  readonly officer: Officer;
  readonly signingKey: SigningKey;
  readonly sealingKey: SealingKey;
  readonly header: Header;
  readonly clientKind: ClientKind;
}

/** What an approval rests on. */
export interface Ground {
  /** The one the case names. */
  readonly policy: SignedPolicy;
  /** By hash in hex, the others under which deposits were made. */
  readonly policies?: ReadonlyMap<string, SignedPolicy>;
  /** The release process's X-Wing key by the policy in force now. */
  readonly releaseKey: PublicKey;
}

/**
 * Open this officer's share of each deposit, re-seal it to the case's recipient, and sign for it.
 *
 * asked: verified by the caller. deposits: by id in hex, whose records hash to what the case names; of one that holds no
 * share of theirs, none is handed over. identityCheck: how they made sure of the person, in their words. Rejects with
 * UnwrapFailed when a share is not what its depositor committed to, Untrusted when a deposit is not among those given, or
 * none of them holds a share of theirs, Malformed when the case gives no reason, or identityCheck says nothing or is too
 * long.
 */
export async function approve(
  statement: Sign1,
  deposits: ReadonlyMap<string, Deposit>,
  by: Approver,
  ground: Ground,
  identityCheck: string,
): Promise<[approval: Sign1, outers: OuterShare[]]> {
  // What the officer signs is read from the signed bytes again, and not from what a screen or a row made of them.
  const asked = caseFromPayload(statement.payload), q = statement.payloadHash;
  requireTold(asked);
  const shares: [Bytes, number, Bytes][] = [], outers: OuterShare[] = [];
  for (const [depositId, recordHash] of asked.deposits) {
    const deposit = deposits.get(hex(depositId));
    // A record is held to the hash in the case before any share is opened: the server could hand out another's deposit.
    if (deposit === undefined || !equal(sha256(deposit.toRecord()), recordHash))
      throw new Untrusted("a deposit is not the one that the case names");
    const index = indexIn(deposit, by.officer, ground);
    // Of several deposits some may be older than this officer's office: for those, others approve.
    if (index === undefined) continue;
    // Checked against its commitment before it is signed for: a wrong one is then the depositor's fault.
    const share = await deposit.openShare(index, by.sealingKey);
    // Sealed twice. Inside, to the recipient, so that neither server nor release process ever has the share. Outside, to
    // the release process, so that nobody holds a share for the recipient before delay and veto are over.
    const sealed = await seal(share, asked.recipientSealingKey, innerInfo(q, depositId, index));
    const outer = await seal(new SecretBytes(sealed), ground.releaseKey, outerInfo(q, depositId, index));
    // The signature covers the inner sealing. Of the outer one nobody signs anything: it is gone by the time it counts.
    shares.push([depositId, index, sha256(sealed)]);
    outers.push({ depositId, outer });
  }
  if (shares.length === 0) throw new Untrusted("the officer holds no share of any deposit that the case names");
  const { header, clientKind } = by, policyHash = ground.policy.hash;
  const approval: Approval = { header, caseHash: q, shares, policyHash, approves: true, identityCheck, clientKind };
  return [await signDecision(approval, by.signingKey), outers];
}

/** Sign a denial: it hands over nothing. identityCheck: why. Rejects with Malformed when it is blank. */
export function deny(
  statement: Sign1,
  by: Pick<Approver, "header" | "signingKey" | "clientKind">,
  policy: SignedPolicy,
  identityCheck: string,
): Promise<Sign1> {
  // The same statement as an approval, so that an officer's yes and no about one case can never both count.
  const { header, clientKind } = by, caseHash = statement.payloadHash;
  const denial = { header, caseHash, shares: [], policyHash: policy.hash, approves: false, identityCheck, clientKind };
  return signDecision(denial, by.signingKey);
}

async function signDecision(decision: Approval, key: SigningKey): Promise<Sign1> {
  requireAnswerTold(decision);
  return sign(approvalToPayload(decision), "approval", key);
}

function indexIn(deposit: Deposit, officer: Officer, ground: Ground): number | undefined {
  const name = hex(deposit.header.policyHash);
  const madeUnder = name === hex(ground.policy.hash) ? ground.policy : ground.policies?.get(name);
  if (madeUnder === undefined) throw new Untrusted("the deposit was made under a policy that is not known");
  // The deposit's own m and n could say less than its policy, so the officer's client holds it to that first.
  deposit.requirePolicy(madeUnder);
  return shareIndex(officer, madeUnder.policy);
}

/**
 * Check one officer's decision on one case: who signed, and that it is about this case under this policy.
 *
 * madeUnder: by deposit id in hex, the policies of deposits that are older than the case's policy. Rejects with Malformed,
 * InvalidSignature, and Untrusted for a signer outside the roster, another case, another tenant, another policy than the
 * case's, or a client that the policy does not allow.
 */
export async function readDecision(
  statement: Sign1,
  of: { asked: Sign1; policy: SignedPolicy; madeUnder?: ReadonlyMap<string, Policy> },
): Promise<[Officer, Approval]> {
  const { policy, hash } = of.policy, officer = officerOf(policy, statement.kid);
  if (officer === undefined) throw new Untrusted("signed by somebody who is no officer of the policy");
  // The key of the roster, not one that the statement or a row brings along.
  await statement.verify(officer.signingKey, "approval");
  const decision = approvalFromPayload(statement.payload), asked = caseFromPayload(of.asked.payload);
  // The key alone names the officer. A header in another's name would be shown as theirs in the log and on screens.
  if (!equal(decision.header.tenant, policy.header.tenant) || !equal(decision.header.user, officer.person))
    throw new Untrusted("the decision is of another tenant or in another person's name");
  // q is over all of the case: one changed date or key, and no approval fits any more.
  if (!equal(decision.caseHash, of.asked.payloadHash))
    throw new Untrusted("the decision is about another case, or the case was changed after it");
  // All three agree: the officer has signed for these terms and this roster, and not for whichever is in force later.
  if (!equal(decision.policyHash, hash) || !equal(asked.policyHash, hash))
    throw new Untrusted("the decision names another policy than the case");
  // In a browser the server's own page would show what is signed.
  if (policy.terms.approveWith === ApproveWith.CLI && decision.clientKind !== ClientKind.CLI)
    throw new Untrusted("the policy takes decisions from the command line only");
  const named = new Set(asked.deposits.map(([id]) => hex(id)));
  for (const [id, index] of decision.shares) {
    // Fewer deposits than the case names may be given, and never others.
    if (!named.has(hex(id)))
      throw new Untrusted("the approval hands over a share of a deposit that the case does not name");
    // The index by the deposit's own policy: one officer could otherwise sign for another's share.
    if (index !== shareIndex(officer, of.madeUnder?.get(hex(id)) ?? policy))
      throw new Untrusted("the approval hands over a share that is not the officer's own");
  }
  return [officer, decision];
}

/** What approvals of a case are counted by. */
export interface Counting {
  /** The one that the case names. */
  readonly policy: SignedPolicy;
  readonly excluded: Excluded;
  /** The strictest of the policies concerned. */
  readonly m: number;
  /** As for `readDecision`. */
  readonly madeUnder?: ReadonlyMap<string, Policy>;
}

/**
 * Return, for each deposit of the case (id in hex), SHA-256(sealed_i) by index, of the officers who approve and count.
 *
 * Officers are counted as persons; an approval of somebody excluded, or about another case, is not counted, and it does
 * not spoil the others. Who denies does not count, whatever else they signed. An approval counts for a deposit only with a
 * share of that deposit. Rejects with QuorumNotMet, saying how many are missing and who was not counted and why;
 * InvalidSignature for a signature that does not hold, which no honest row carries.
 */
export async function requireQuorum(
  statement: Sign1,
  approvals: Iterable<Sign1>,
  by: Counting,
): Promise<Map<string, Map<number, Bytes>>> {
  const counted = new Map(
    caseFromPayload(statement.payload).deposits.map(([id]): [string, Map<number, Bytes>] => [hex(id), new Map()]),
  );
  const read: [Officer, Approval][] = [], leftOut: string[] = [];
  for (const approval of approvals)
    try {
      read.push(await readDecision(approval, { asked: statement, ...by }));
    } catch (error) {
      // Left out and not raised, or one junk row would keep a case closed for ever. A signature that does not hold is
      // raised: no honest row has one.
      if (!(error instanceof Malformed || error instanceof Untrusted)) throw error;
      leftOut.push(error.message);
    }
  // All decisions are read before any is counted: whether the no came before or after the yes does not matter.
  const denies = new Set(read.filter(([, said]) => !said.approves).map(([officer]) => hex(officer.person)));
  for (const [officer, decision] of read) {
    const person = hex(officer.person), why = whyExcluded(by.excluded, person) ?? (denies.has(person) ? "denies" : undefined);
    if (why !== undefined) {
      leftOut.push(`officer ${officer.index} ${why}`);
      continue;
    }
    for (const [id, index, sealedHash] of decision.shares) {
      const shares = counted.get(hex(id)) as Map<number, Bytes>;
      // The first of each index: an officer who approves twice is one point of the polynomial.
      if (!shares.has(index)) shares.set(index, sealedHash);
    }
  }
  // The deposit with the fewest decides: a case is released whole, and with fewer than m shares one of its keys would stay
  // shut.
  const fewest = Math.min(...[...counted.values()].map((shares) => shares.size));
  if (fewest < by.m) {
    const noted = leftOut.length > 0 ? `; not counted: ${leftOut.join(", ")}` : "";
    throw new QuorumNotMet(`${fewest} of ${by.m} officers approve${noted}`);
  }
  return counted;
}

/**
 * Tell whether m officers have signed for a case, whoever of them counts today.
 *
 * By their signatures alone: nothing that happens to an officer afterwards changes it. Neither requester, subject nor the
 * recipient's person is one of them.
 */
export async function hadQuorum(
  statement: Sign1,
  approvals: Iterable<Sign1>,
  of: { policy: SignedPolicy; m: number },
): Promise<boolean> {
  const asked = caseFromPayload(statement.payload), signed = new Set<string>();
  for (const approval of approvals) {
    const officer = officerOf(of.policy.policy, approval.kid);
    if (officer === undefined) continue;
    try {
      const said = approvalFromPayload(await approval.verify(officer.signingKey, "approval"));
      if (said.approves && equal(said.caseHash, statement.payloadHash)) signed.add(hex(officer.person));
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
    }
  }
  for (const party of [asked.requester, asked.subject, asked.header.user]) signed.delete(hex(party));
  return signed.size >= of.m;
}

/** What a recipient got out of a release. blamed: indices of officers whose share was wrong. */
export interface Recovered {
  readonly archiveKey: SecretBytes;
  readonly blamed: readonly number[];
}

/** Too few right shares; `indices` names the officers whose share was wrong. */
export class ShareBlamed extends UnwrapFailed {
  override get name(): string {
    return "ShareBlamed";
  }

  constructor(
    readonly indices: readonly number[],
    missing: number,
  ) {
    super(`the share of officer ${indices.join(", ")} is wrong; ${missing} more right share(s) needed`);
  }
}

/** What a release hands to its recipient for one deposit. */
export interface Released {
  /** 384 bytes from the HSM, by the escrow key's algorithm. */
  readonly half: Bytes;
  /** sealed_i by index. */
  readonly sealedShares: ReadonlyMap<number, Bytes>;
  readonly algorithm: string;
}

/**
 * Put the halves together on the recipient device, and check every commitment on the way.
 *
 * A wrong share is laid to its officer and left out; with m right ones the key is opened all the same. Rejects with
 * ShareBlamed when too few are right, UnwrapFailed when the HSM's half, the deposit or the key is not what was committed
 * to.
 */
export async function combine(
  statement: Sign1,
  deposit: Deposit,
  released: Released,
  keys: { rsa: RecipientRsaKey; sealing: SealingKey },
): Promise<Recovered> {
  const q = statement.payloadHash, { depositId, m, n } = deposit.header;
  // A share is judged by itself before any arithmetic: combined first, one wrong share would spoil all and name nobody.
  const right: [number, SecretBytes][] = [], wrong: number[] = [];
  for (const [index, sealed] of [...released.sealedShares].sort(([a], [b]) => a - b)) {
    if (!(index >= 1 && index <= n)) {
      wrong.push(index); // nobody holds it; the server made it up
      continue;
    }
    try {
      const share = await keys.sealing.open(sealed, innerInfo(q, depositId, index));
      deposit.requireShare(index, share);
      right.push([index, share]);
    } catch (error) {
      if (!(error instanceof UnwrapFailed)) throw error;
      wrong.push(index);
    }
  }
  if (right.length < m) throw new ShareBlamed(wrong, m - right.length);
  // After the shares: the HSM's half is worth nothing without them, and a case with too few right ones goes back to its
  // officers.
  const half = await keys.rsa.unwrap(released.half, { hash: oaepHash(released.algorithm) });
  // Exactly m: more points on the polynomial add nothing, and the first m are as good as any.
  const officersHalf = combineShares(new Map(right.slice(0, m)));
  return { archiveKey: await deposit.open(half, officersHalf), blamed: wrong };
}

/** Take off the outer sealing as the release process does; returns sealed_i. Rejects with UnwrapFailed. */
export async function takeOffOuter(
  outer: Bytes,
  key: SealingKey,
  of: { q: Bytes; depositId: Bytes; index: number; expectedHash: Bytes },
): Promise<Bytes> {
  // The info names case, deposit and index, so a share uploaded for another case does not even open here.
  const sealed = (await key.open(outer, outerInfo(of.q, of.depositId, of.index))).reveal();
  // Anybody can seal to a public key. The officer's signature says which bytes.
  if (!equalSecret(sha256(sealed), of.expectedHash))
    throw new UnwrapFailed("the share is not the one that the officer signed for");
  return sealed;
}
