// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a case may be released now: the one judgement in front of the HSM, as a pure function of proven facts.
 *
 * docs/spec/escrow.md "Case" and "Policy and officers". The facts come from log entries proven against a checkpoint, never
 * from rows (docs/spec/escrow.md "Release process"); collecting them is the release process's work, not this module's.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { HoldfastError, Malformed, QuorumNotMet, Untrusted } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import {
  type Approval, approvalFromPayload, type Case, caseFromPayload, ClientKind, endsAt, isDisclosure,
} from "../identity/cases.js";
import { ApproveWith, type Policy, type SignedPolicy, strictest, type Terms } from "../identity/policy.js";
import type { Sign1 } from "../signed/cose.js";
import { openDevice } from "../signed/statements.js";
import { type Excluded, requireQuorum } from "./approvals.js";
import { Deposit } from "./deposit.js";

/**
 * A notice is put off by this much without asking the policy. The date is by the clock of the device that signed it, which
 * a request may be 60 seconds off; the log's time of the opening is counted in whole seconds by two clocks of another
 * machine, whose wall clock may have been corrected since. Without it such a case would never be released.
 */
export const NOTICE_SLACK_SECONDS = 120;

/** The case may be released later: `at` (Unix seconds) is when to look again, or undefined when it hangs on people. */
export class NotYet extends HoldfastError {
  override get name(): string {
    return "NotYet";
  }

  constructor(
    why: string,
    readonly at?: number,
  ) {
    super(why);
  }
}

/** The case can never be released: it was vetoed, has expired, or its purpose is not allowed any more. */
export class Ended extends HoldfastError {
  override get name(): string {
    return "Ended";
  }
}

/** An approval or denial, with the log's time of it (Unix seconds). */
export interface LoggedApproval {
  readonly statement: Sign1;
  readonly at: number;
}

/** What the log says of telling the subject: when a notice was handed over, or when its failure was settled. */
export interface NoticeFacts {
  readonly handedOverAt?: number;
  readonly failedAt?: number;
}

/** All that the judgement depends on. Times are Unix seconds as the caller counts them, ids 16 bytes. */
export interface ReleaseFacts {
  readonly tenant: Bytes;
  /** The statement whose hash the log names. */
  readonly case: Sign1;
  readonly openedAt: number;
  /** Its device's statement. */
  readonly recipient: Sign1;
  /** By deposit id in hex, whose hashes the log names. */
  readonly records: ReadonlyMap<string, Bytes>;
  /** SHA-256(h_half) in hex to the deposit id of the first log entry that has it. */
  readonly halfOwners: ReadonlyMap<string, Bytes>;
  /** In force then. */
  readonly policyAtRequest: SignedPolicy;
  readonly policyNow: SignedPolicy;
  /** By hash in hex. */
  readonly policiesAtDeposit: ReadonlyMap<string, SignedPolicy>;
  readonly approvals: readonly LoggedApproval[];
  readonly excluded: Excluded;
  readonly notice: NoticeFacts;
  readonly isVetoed: boolean;
  /** By which the log's times are as long ago as was counted. */
  readonly now: number;
  /** How many approvals above the policies' m the log asks for: a third veto in one subject's cases asks one. */
  readonly extraOfficers?: number;
  /** Whether the subject could object ever since the case was opened; true unless said. */
  readonly isHeard?: boolean;
  /** Of a veto that ends nothing, since m officers had suspended its device. */
  readonly objectedAt?: number;
  // Where a clock may have been turned, the bounds of the present, by which dates that people signed are read; `now` when
  // absent. A date is waited for until the earliest has reached it, and is over once the latest has.
  readonly earliest?: number;
  readonly latest?: number;
}

/** One order to the HSM: this sealed half of this deposit, to this recipient, with these shares' hashes by index. */
export interface Rewrap {
  readonly deposit: Deposit;
  readonly recipient: PublicKey;
  readonly shareHashes: ReadonlyMap<number, Bytes>;
}

// The time that it is at least, and the one that it may be already.
const surely = (facts: ReleaseFacts): number => facts.earliest ?? facts.now;
const perhaps = (facts: ReleaseFacts): number => facts.latest ?? facts.now;

/**
 * Return what the HSM may be asked for this case, one order for each deposit.
 *
 * Rejects with Ended when it never may, NotYet when it may not yet, QuorumNotMet when too few approvals count, and
 * Untrusted, InvalidSignature or Malformed when rows and log disagree: then the case is held.
 */
export async function judge(facts: ReleaseFacts): Promise<Rewrap[]> {
  // To release a case we must know, in this order:
  //
  // (1) that the case is what its recipient signed, opened under the policy then in force;
  // (2) that every deposit is the one named, is the subject's, and was made under a policy we can follow;
  // (3) which terms bind: the strictest of deposit, request and now;
  // (4) that nothing has ended it: veto, expiry, a purpose no longer allowed;
  // (5) that enough officers, who count now, signed for exactly this;
  // (6) that the subject was told, and that the delay is over.
  const asked = await requireCase(facts); // (1)
  const deposits = requireDeposits(facts, asked); // (2)
  const madeUnder = depositPolicies(facts, deposits);
  const [m, terms] = strictest([...madeUnder.values(), facts.policyAtRequest.policy, facts.policyNow.policy]); // (3)
  requireAlive(facts, asked, terms); // (4)
  const count = new Count(facts, terms, madeUnder, m + (facts.extraOfficers ?? 0));
  const counted = await count.counted(); // (5)
  requireTime(facts, asked, terms, await count.metAt()); // (6)
  return deposits.map((deposit) => ({
    deposit,
    recipient: asked.recipientRsaKey,
    shareHashes: counted.get(hex(deposit.header.depositId)) as Map<number, Bytes>,
  }));
}

/**
 * Return whose shares may be handed on in a case that was released, in place of wrong ones.
 *
 * By deposit id in hex, SHA-256(sealed_i) by index, of the officers who approve and count now. It asks for no quorum, delay
 * or notice: the release had them, and nothing more comes out of the HSM by it. Rejects with Ended when the case has
 * expired, its disclosure has ended or its purpose is not allowed any more, and otherwise as `judge` does.
 */
export async function judgeShares(facts: ReleaseFacts): Promise<Map<string, Map<number, Bytes>>> {
  const asked = await requireCase(facts), madeUnder = depositPolicies(facts, requireDeposits(facts, asked));
  const [, terms] = strictest([...madeUnder.values(), facts.policyAtRequest.policy, facts.policyNow.policy]);
  requireAlive(facts, asked, terms);
  const count = new Count(facts, terms, madeUnder, 0);
  return count.over(count.standing());
}

async function requireCase(facts: ReleaseFacts): Promise<Case> {
  // Stops a case made by the server: only the recipient device's own key signs one, for its own fresh keys.
  const recipient = await openDevice(facts.recipient), own = recipient.header;
  const asked = caseFromPayload(await facts.case.verify(recipient.signingKey, "case")), { header } = asked;
  // Stops another device statement, with another person in it, in place of the one that officers were shown.
  if (!equal(facts.recipient.payloadHash, asked.recipientDeviceHash))
    throw new Untrusted("the case names another recipient device");
  // Stops a true case of another tenant, and a device that signs in the name of another.
  const isOwn = equal(header.user, own.user) && equal(header.device, own.device);
  if (!isOwn || !equal(header.tenant, facts.tenant) || !equal(own.tenant, facts.tenant))
    throw new Untrusted("the case is of another tenant or was signed by another device");
  // Stops an approval of one's own case: whom the log leaves out must be whom the case is about.
  if (facts.excluded.subject !== hex(asked.subject) || facts.excluded.requester !== hex(asked.requester))
    throw new Untrusted("the log names another subject or requester than the case");
  // Stops an officer who receives: the person in the signed device statement must be the one the log leaves out.
  if (facts.excluded.recipient !== hex(recipient.person))
    throw new Untrusted("the recipient device belongs to another person");
  // Stops a case that picks an older, weaker policy for itself.
  if (!equal(asked.policyHash, facts.policyAtRequest.hash))
    throw new Untrusted("the case names another policy than was in force when it was opened");
  return asked;
}

function requireDeposits(facts: ReleaseFacts, asked: Case): Deposit[] {
  return asked.deposits.map(([depositId, recordHash]) => {
    const record = facts.records.get(hex(depositId));
    // Stops a record changed or swapped after officers signed: q holds its hash.
    if (record === undefined || !equal(sha256(record), recordHash))
      throw new Untrusted("a deposit is not the one that the case names");
    const deposit = Deposit.fromRecord(record), { header } = deposit;
    // Stops a case about one person that opens another's key: officers only ever see one subject.
    const isTheirs = equal(header.tenant, facts.tenant) && equal(header.user, asked.subject);
    if (!isTheirs || !equal(header.depositId, depositId)) throw new Untrusted("a deposit is not the subject's");
    // Whoever puts another's h_half into a deposit of their own would have the HSM open that other's deposit.
    const owner = facts.halfOwners.get(hex(deposit.halfHash));
    if (owner === undefined || !equal(owner, depositId))
      throw new Untrusted("the HSM's half was deposited by another before");
    return deposit;
  });
}

function depositPolicies(facts: ReleaseFacts, deposits: readonly Deposit[]): Map<string, Policy> {
  return new Map(
    deposits.map((deposit): [string, Policy] => {
      const signed = facts.policiesAtDeposit.get(hex(deposit.header.policyHash));
      if (signed === undefined) throw new Untrusted("a deposit names a policy that the pin does not lead to");
      // Stops a deposit that asks for fewer officers than its policy.
      deposit.requirePolicy(signed);
      return [hex(deposit.header.depositId), signed.policy];
    }),
  );
}

function requireAlive(facts: ReleaseFacts, asked: Case, terms: Terms): void {
  // Each of these is final, so they come before the count: a case that has ended must not look as if it lacked a vote.
  if (facts.isVetoed) throw new Ended("the subject vetoed the case");
  // And nothing is opened for reading after the end that officers were shown: field 22 of a disclosure.
  if (surely(facts) >= endsAt(asked)) throw new Ended("the case has expired, or its disclosure has ended");
  // A clock that was turned ends nothing for ever: it comes right, or the time comes.
  if (perhaps(facts) >= endsAt(asked))
    throw new NotYet("by one of this machine's clocks the case has expired, or its disclosure has ended");
  // The intersection: a purpose that the subject never consented to, or that has been withdrawn since, opens nothing.
  if (!terms.purposes.includes(asked.purpose)) throw new Ended("the purpose is not allowed by every policy concerned");
  // Stops a release in silence.
  const delay = asked.noticeAt - askedAt(facts, asked) - NOTICE_SLACK_SECONDS;
  if (delay > terms.maxNoticeDelaySeconds && asked.noticeAt > facts.openedAt + NOTICE_SLACK_SECONDS)
    throw new Ended("the case delays notice longer than every policy concerned allows");
}

/**
 * The date from which a notice is put off, UTC seconds: the one that was signed, since the log's time of it is later by
 * however long nobody looked; a date of its author's that lies ahead gains them nothing.
 */
const askedAt = (facts: ReleaseFacts, asked: Case): number => Math.min(asked.header.issuedAt, facts.openedAt);

function decisionOf(statement: Sign1): Approval | undefined {
  try {
    return approvalFromPayload(statement.payload);
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

/** Tell whether a decision stands at a time (UTC seconds): in its own, and made where the strictest terms allow. */
export function stands(statement: Sign1, terms: Terms, at: number): boolean {
  const decision = decisionOf(statement);
  // A denial lowers the count: it needs no permission and does not age. Counting leaves out what is malformed.
  if (!decision?.approves) return true;
  // Stops old approvals that were collected and kept for a better moment.
  const { expiresAt } = decision.header, isOver = expiresAt > 0 && expiresAt <= at;
  // The strictest terms, not the case's policy alone: that one `readDecision` has looked at already.
  const isElsewhere = terms.approveWith === ApproveWith.CLI && decision.clientKind !== ClientKind.CLI;
  return !isOver && !isElsewhere;
}

/** The counting of one case's approvals under the terms that bind it. */
class Count {
  constructor(
    private readonly facts: ReleaseFacts,
    private readonly terms: Terms,
    private readonly madeUnder: ReadonlyMap<string, Policy>,
    private readonly m: number,
  ) {}

  /** Return the decisions that still stand: in their own time, and made where every policy allows it. */
  standing(): LoggedApproval[] {
    return this.facts.approvals.filter((one) => stands(one.statement, this.terms, perhaps(this.facts)));
  }

  /** Count what stands. Rejects with QuorumNotMet, or NotYet where it hangs on which of two clocks is right. */
  async counted(): Promise<Map<string, Map<number, Bytes>>> {
    try {
      return await this.over(this.standing());
    } catch (error) {
      if (!(error instanceof QuorumNotMet)) throw error;
      const expiries = this.facts.approvals.map((one) => decisionOf(one.statement)?.header.expiresAt ?? 0);
      if (expiries.some((at) => surely(this.facts) < at && at <= perhaps(this.facts)))
        throw new NotYet("by one of this machine's clocks an approval has expired");
      throw error;
    }
  }

  /** Count; rejects with QuorumNotMet. Officers whose key a newer policy replaced count as suspended. */
  over(approvals: readonly LoggedApproval[]): Promise<Map<string, Map<number, Bytes>>> {
    const { case: asked, excluded, policyAtRequest, policyNow } = this.facts;
    // Stops officers who were taken off, or whose key was replaced, between approval and release. Nobody new counts
    // either: the roster counted over is the one at the request.
    const now = policyNow.policy.roster;
    const replaced = policyAtRequest.policy.roster.filter(
      (old) => !now.some((one) => equal(one.person, old.person) && one.signingKey.equals(old.signingKey)),
    );
    const suspended = new Set([...(excluded.suspended ?? []), ...replaced.map((one) => hex(one.person))]);
    const by = { policy: policyAtRequest, excluded: { ...excluded, suspended }, m: this.m, madeUnder: this.madeUnder };
    return requireQuorum(asked, approvals.map((approval) => approval.statement), by);
  }

  /** Return when the decisions that count now were first enough: the delay runs from there. */
  async metAt(): Promise<number> {
    const standing = this.standing();
    for (const at of standing.map((one) => one.at).sort((a, b) => a - b)) {
      // Denials weigh from the start: an officer who took their word back later does not count now.
      const known = standing.filter((one) => one.at <= at || decisionOf(one.statement)?.approves === false);
      try {
        await this.over(known);
      } catch (error) {
        if (error instanceof QuorumNotMet) continue;
        throw error;
      }
      return at;
    }
    throw new QuorumNotMet("too few approvals count");
  }
}

function requireTime(facts: ReleaseFacts, asked: Case, terms: Terms, quorumAt: number): void {
  // From the quorum and not from the request: a case could otherwise wait out its delay before anybody looks at it.
  let delay = terms.delaySeconds, start = quorumAt;
  // What is borne of clocks gains no silence: a release waits for the notice from the date that policies allow.
  if (Math.min(asked.noticeAt, askedAt(facts, asked) + terms.maxNoticeDelaySeconds) <= perhaps(facts)) {
    // The delay is the subject's time to object: it does not run before they are told, and for one who could not be told
    // the long delay takes the place of their veto.
    const { handedOverAt, failedAt } = facts.notice;
    if (handedOverAt === undefined && failedAt === undefined) throw new NotYet("the subject has not been told yet");
    if (handedOverAt === undefined) delay = Math.max(delay, terms.undeliveredDelaySeconds);
    // Stops a notice that is held back until the end of the delay: the time to object begins when it has arrived.
    start = Math.max(quorumAt, handedOverAt ?? failedAt ?? 0);
  }
  // Nobody else objects for a subject who cannot: what another receives waits as long as if they had not been told.
  if (isDisclosure(asked) && facts.isHeard === false) delay = Math.max(delay, terms.undeliveredDelaySeconds);
  // A stolen device must not stop its owner for ever, nor m officers silence a subject at once.
  if (facts.objectedAt !== undefined) {
    delay = Math.max(delay, terms.undeliveredDelaySeconds);
    start = Math.max(start, facts.objectedAt);
  }
  // Both: the case may ask for later than the policy, and never for earlier.
  if (facts.now < start + delay || surely(facts) < asked.notBefore)
    throw new NotYet("the delay is not over", Math.max(start + delay, asked.notBefore, facts.now + 1));
}
