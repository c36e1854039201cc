// SPDX-License-Identifier: Apache-2.0
/**
 * Deposits as the server shows them, held to everything they claim: for their owner, officers and recipients.
 *
 * docs/spec/escrow.md "Deposit" on the reading side. Does not make deposits (`escrow`) nor open them (`recovery`).
 */
import { type Bytes, equal, hex } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError } from "../../core/base/errors.js";
import { uuidText } from "../../core/base/uuids.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { Deposit, requireHalfFor, type SignedTenantKey } from "../../core/escrow/deposit.js";
import { verifyReceipt } from "../../core/escrow/receipt.js";
import type { ChainState } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import type { SignedPolicy } from "../../core/identity/policy.js";
import { verifyEscrowKeys } from "../../core/identity/trust.js";
import { Sign1 } from "../../core/signed/cose.js";
import { deviceFromPayload, depositFromPayload } from "../../core/signed/statements.js";
import { TrustRefused } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as device from "../identity/device.js";
import { type Account, readMany } from "../profile/account.js";

/** A deposit that its subject's own device made and signed, under a policy and an escrow key of the pin. */
export interface VerifiedDeposit {
  readonly deposit: Deposit;
  readonly policy: SignedPolicy;
  readonly escrowKey: SignedTenantKey;
  readonly isFromRevoked: boolean;
}

/** Whose deposits are looked at: their verified chain, and every device it ever listed: hash of its statement by id in hex. */
export interface Subject {
  readonly state: ChainState;
  readonly devices: ReadonlyMap<string, Bytes>;
}

/**
 * Fetch and verify a subject's whole chain; one's own is held to what is known of it.
 *
 * Rejects with TrustRefused; the chain of somebody else is verified from its genesis, since nobody else is pinned here.
 */
export async function subjectOf(account: Account, user: Bytes): Promise<Subject> {
  let entries: readonly Bytes[], state: ChainState;
  if (equal(user, account.user) && account.state.chain.length > 0) {
    await chains.refresh(account);
    entries = account.state.chain;
    state = await account.chain();
  } else {
    const followed = await chains.follow(account, user, []);
    if (followed === undefined)
      throw new TrustRefused("The server shows no account chain of the person whose deposits these are.");
    ({ state, fresh: entries } = followed);
  }
  const devices = new Map<string, Bytes>();
  for (const { body } of entries.map((entry) => Entry.parse(entry)))
    if (body.type === 2) devices.set(hex(body.device), body.statementHash);
  return { state, devices };
}

/** One deposit by its name: 16 and 32 bytes. */
export interface Named {
  readonly depositId: Bytes;
  readonly recordHash: Bytes;
}

/** What a server shows of one. */
export interface Shown {
  readonly record: Bytes;
  readonly statement: Bytes;
}

/**
 * Hold one deposit to its hash, its depositor, its subject's chain, and the pinned policy and escrow key.
 *
 * Rejects with TrustRefused for anything that does not fit: a record swapped, changed, or of somebody else.
 */
export async function verify(
  account: Account,
  subject: Subject,
  { depositId, recordHash, record, statement }: Named & Shown,
): Promise<VerifiedDeposit> {
  if (!equal(sha256(record), recordHash)) throw new TrustRefused("The deposit shown is not the one that was named.");
  const { deposit, signer, said, policy, escrowKey } = await trustingly(async () => {
    const deposit = Deposit.fromRecord(record), head = deposit.header;
    const signer = await device.fetchStatement(account, head.device), depositor = deviceFromPayload(signer.payload);
    const said = depositFromPayload(await Sign1.parse(statement).verify(depositor.signingKey, "deposit"));
    const policy = (await account.trusted()).policyNamed(head.policyHash);
    const escrowKey = await escrowKeyNamed(account, head.escrowKeyHash);
    requireHalfFor(deposit, escrowKey.statement.key);
    return { deposit, signer, said, policy, escrowKey };
  });
  const head = deposit.header, { state } = subject;
  const isTheirs = equal(head.tenant, account.tenant) && equal(head.user, state.user) && equal(head.depositId, depositId);
  if (!isTheirs || !equal(said.recordHash, recordHash))
    throw new TrustRefused("The deposit is of another person, or its statement names another record.");
  if (!equal(said.header.user, head.user) || !equal(said.header.device, head.device))
    throw new TrustRefused("The deposit was signed in another device's name.");
  const listed = subject.devices.get(hex(head.device));
  if (listed === undefined || !equal(listed, signer.payloadHash))
    throw new TrustRefused("The deposit was made by a device that was never its subject's.");
  if (policy.policy.m !== head.m || policy.policy.roster.length !== head.n)
    throw new TrustRefused("The deposit asks for another number of officers than its policy.");
  const announced = state.generations.findLast((one) => one.generation === head.generation);
  if (announced === undefined || !equal(announced.commitment, head.akCommitment))
    throw new TrustRefused("The deposit holds a key that its subject's account chain does not announce.");
  return { deposit, policy, escrowKey, isFromRevoked: state.revoked.has(hex(head.device)) };
}

async function trustingly<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The deposit is not to be trusted: ${error.message}.`, { cause: error });
  }
}

/** Tell whether a receipt shows that a deposit's half is that deposit's own: docs/spec/escrow.md "Deposit". */
export async function hasReceipt(found: VerifiedDeposit, receipt: Bytes): Promise<boolean> {
  const of = { policy: found.policy.policy, recordHash: sha256(found.deposit.toRecord()) };
  try {
    await verifyReceipt(Sign1.parse(receipt), found.deposit, of);
  } catch (error) {
    if (error instanceof HoldfastError) return false;
    throw error;
  }
  return true;
}

/** Fetch one deposit and hold it to everything, as `verify` does. */
export async function fetch(account: Account, subject: Subject, named: Named): Promise<VerifiedDeposit> {
  const answer = await account.api.get(`escrow/deposits/${uuidText(named.depositId)}`);
  const record = answer.octets("record", undefined, { maximum: MAX_BLOB });
  return verify(account, subject, { ...named, record, statement: answer.octets("statement") });
}

async function escrowKeyNamed(account: Account, keyHash: Bytes): Promise<SignedTenantKey> {
  const history = account.state.trust.escrowKeys.map((statement) => readMany(statement));
  const keys = await verifyEscrowKeys(history, { trusted: await account.trusted() });
  const found = keys.find((key) => equal(key.hash, keyHash));
  if (found === undefined) throw new TrustRefused("The deposit names an escrow key that the pin does not lead to.");
  return found;
}
