// SPDX-License-Identifier: Apache-2.0
/**
 * What officers sign outside cases: one officer's standing, and the resolutions of m of them together.
 *
 * docs/formats/statements.md (`officer-state`, `resolution`), docs/spec/escrow.md "Policy and officers". Does not know who
 * is in office now, nor what was used before: the caller hands in the policy, and keeps the hashes.
 */
import { type Bytes, EMPTY, equal } from "../base/bytes.js";
import { type Encodable, Fields, MAX_UINT } from "../base/encoding.js";
import { Expired, Malformed, QuorumNotMet, Untrusted } from "../base/errors.js";
import { isBlank, saysNothing } from "../base/text.js";
import type { AcceptedLog } from "../log/accepted.js";
import type { Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, MAX_AHEAD_SECONDS, openPayload, readBack, requireTenantOnly,
} from "../signed/payloads.js";
import { type Officer, officersWhoSigned, type SignedPolicy } from "./policy.js";

/** Characters, as of a case: whoever is asked reads all of it. */
export const MAX_REASON = 1000;
/** What was decided and not acted on within a month was decided about other circumstances. */
export const MAX_AGE_SECONDS = 30 * 86_400;

/** Field 8 of an `officer-state`. BACK and AWAY are an officer's own word, the other two another's. */
export const Standing = { BACK: 1, AWAY: 2, SUSPENDED: 3, REMOVED: 4 } as const;
export type Standing = (typeof Standing)[keyof typeof Standing];

/** Tell whether a standing is an officer's own word. Whoever was suspended returns by a resolution alone. */
export function isOwn(standing: Standing): boolean {
  return standing === Standing.BACK || standing === Standing.AWAY;
}

/** One officer's standing. person: whom it is about, 16 bytes. reason: not empty unless it is the officer's own. */
export interface OfficerState {
  readonly header: Header;
  readonly person: Bytes;
  readonly standing: Standing;
  readonly reason: string;
}

/** Return the payload bytes of an `officer-state`. Throws a RangeError for what no reader takes. */
export function officerStateToPayload(of: OfficerState): Bytes {
  return readBack(closePayload(of.header, { 7: of.person, 8: of.standing, 9: of.reason }), officerStateFromPayload);
}

/** Read the payload; throws Malformed, also for a suspension or removal without a reason. */
export function officerStateFromPayload(payload: Uint8Array): OfficerState {
  const [header, fields] = openPayload(payload, "officer state", [7, 8, 9]);
  requireTenantOnly(header, "officer state");
  const standing = fields.uint(8, { minimum: Standing.BACK, maximum: Standing.REMOVED }) as Standing;
  const reason = fields.text(9, { maximum: MAX_REASON });
  // Who takes another's vote away says why: the others decide by it whether they come back.
  if (!isOwn(standing) && isBlank(reason)) throw fields.refuse(9, "is empty");
  return { header, person: fields.octets(7, ID_SIZE), standing, reason };
}

/**
 * Throw Malformed for a suspension or removal whose reason nobody could read: hidden characters alone.
 *
 * For a word that is said or taken now. Reading does not ask: logs keep words older than this rule.
 */
export function requireStateTold(of: OfficerState): void {
  if (!isOwn(of.standing) && saysNothing(of.reason))
    throw new Malformed("officer state, field 9: the reason says nothing");
}

/**
 * Check who says it of whom under `policy`, and return what is said and the officer who signed.
 *
 * Rejects with Malformed, InvalidSignature; Untrusted for a signer outside the roster, another tenant, a word about oneself
 * that only another may say, or the other way round.
 */
export async function verifyOfficerState(statement: Sign1, policy: SignedPolicy): Promise<[OfficerState, Officer]> {
  const [signer] = (await officersWhoSigned([statement], [policy.policy], "officer-state")) as [Officer];
  const said = officerStateFromPayload(statement.payload);
  if (!equal(said.header.tenant, policy.policy.header.tenant)) throw new Untrusted("officer state of another tenant");
  if (!policy.policy.roster.some((officer) => equal(officer.person, said.person)))
    throw new Untrusted("the statement is about nobody of the roster");
  // Stops one officer from sending another away in their name, and from ending their own suspension.
  if (equal(signer.person, said.person) !== isOwn(said.standing))
    throw new Untrusted("away and back are an officer's own word, suspension and removal another officer's");
  return [said, signer];
}

/** Field 7 of a `resolution`; field 8 is its object, an array. */
export const Act = {
  /** [version, hash of that policy] */
  WITHDRAW_VERSION: 1,
  /** [person] */
  RETURN_OFFICER: 2,
  /** [index in the audit log, RFC 6962 leaf hash] */
  ACKNOWLEDGE_LEAF: 3,
  /**
   * [size, root] of the audit log: one that is read for the first time. A restored one has those of the key log behind
   * them, since that is what clients follow: [size, root, size, root].
   */
  ACCEPT_LOG: 4,
  /** [person, device]: its veto ends no case any more */
  SUSPEND_DEVICE: 5,
} as const;
export type Act = (typeof Act)[keyof typeof Act];

/** To withdraw a policy version, named by its number and its 32-byte hash. */
export interface WithdrawVersion {
  readonly act: typeof Act.WITHDRAW_VERSION;
  readonly version: number;
  readonly hash: Bytes;
}

/** To return a suspended officer, who does not count for it. */
export interface ReturnOfficer {
  readonly act: typeof Act.RETURN_OFFICER;
  readonly person: Bytes;
}

/** To acknowledge a leaf of the audit log that nobody entitled wrote, by its index and leaf hash. */
export interface AcknowledgeLeaf {
  readonly act: typeof Act.ACKNOWLEDGE_LEAF;
  readonly index: number;
  readonly hash: Bytes;
}

/** To accept the audit log of a size and root, and with it the key log of another, where a backup was put back. */
export interface AcceptLog {
  readonly act: typeof Act.ACCEPT_LOG;
  readonly size: number;
  readonly hash: Bytes;
  readonly keyLog: readonly [size: number, root: Bytes] | undefined;
}

/** To suspend a device of a person, who does not count for it. */
export interface SuspendDevice {
  readonly act: typeof Act.SUSPEND_DEVICE;
  readonly person: Bytes;
  readonly device: Bytes;
}

export type ResolutionAbout = WithdrawVersion | ReturnOfficer | AcknowledgeLeaf | AcceptLog | SuspendDevice;

/** What m officers of the version in force decide together outside cases. nonce: 16 bytes, so that it is one act. */
export type Resolution = ResolutionAbout & {
  readonly header: Header;
  readonly policyHash: Bytes;
  readonly nonce: Bytes;
};

/** Return the person whom a resolution concerns, who does not count for it; none of one about no person. */
export function concernedBy(of: ResolutionAbout): Bytes {
  return of.act === Act.RETURN_OFFICER || of.act === Act.SUSPEND_DEVICE ? of.person : EMPTY;
}

function objectOf(of: ResolutionAbout): Encodable[] {
  switch (of.act) {
    case Act.WITHDRAW_VERSION: return [of.version, of.hash];
    case Act.RETURN_OFFICER: return [of.person];
    case Act.ACKNOWLEDGE_LEAF: return [of.index, of.hash];
    case Act.ACCEPT_LOG: return [of.size, of.hash, ...(of.keyLog ?? [])];
    case Act.SUSPEND_DEVICE: return [of.person, of.device];
  }
}

function readObject(fields: Fields, act: Act): ResolutionAbout {
  const value = fields.value(8), row = (size: number): Fields => Fields.ofRow(value, "resolution object", size);
  switch (act) {
    case Act.RETURN_OFFICER:
      return { act, person: row(1).octets(0, ID_SIZE) };
    case Act.SUSPEND_DEVICE:
      return { act, person: row(2).octets(0, ID_SIZE), device: row(2).octets(1, ID_SIZE) };
    case Act.ACCEPT_LOG: {
      const hasBoth = Array.isArray(value) && value.length === 4, logs = row(hasBoth ? 4 : 2);
      const pair = (at: number): [number, Bytes] => [
        logs.uint(at, { maximum: MAX_UINT }),
        logs.octets(at + 1, HASH_SIZE),
      ];
      const [size, hash] = pair(0);
      return { act, size, hash, keyLog: hasBoth ? pair(2) : undefined };
    }
    case Act.WITHDRAW_VERSION:
      return { act, version: row(2).uint(0), hash: row(2).octets(1, HASH_SIZE) };
    case Act.ACKNOWLEDGE_LEAF:
      return { act, index: row(2).uint(0), hash: row(2).octets(1, HASH_SIZE) };
  }
}

/** Return the payload bytes of a `resolution`. Throws a RangeError for what no reader takes. */
export function resolutionToPayload(of: Resolution): Bytes {
  const payload = closePayload(of.header, { 7: of.act, 8: objectOf(of), 9: of.policyHash, 10: of.nonce });
  return readBack(payload, resolutionFromPayload);
}

/** Read the payload; throws Malformed, also for an object that the act does not have. */
export function resolutionFromPayload(payload: Uint8Array): Resolution {
  const [header, fields] = openPayload(payload, "resolution", [7, 8, 9, 10]);
  requireTenantOnly(header, "resolution");
  const act = fields.uint(7, { minimum: Act.WITHDRAW_VERSION, maximum: Act.SUSPEND_DEVICE }) as Act;
  const about = readObject(fields, act);
  return { ...about, header, policyHash: fields.octets(9, HASH_SIZE), nonce: fields.octets(10, 16) };
}

/**
 * Check that m officers of `policy` passed one resolution, and return it.
 *
 * policy: the version in force at `at` (UTC seconds), by the caller's clock. Rejects with Malformed, InvalidSignature;
 * Untrusted for an outsider, another tenant or another policy; Expired when it is older than 30 days or dated ahead;
 * QuorumNotMet, where whom it concerns does not count.
 */
export async function verifyResolution(
  statements: readonly Sign1[],
  policy: SignedPolicy,
  of: { at: number },
): Promise<Resolution> {
  const [resolution, signers] = await readResolution(statements, policy, of), { m } = policy.policy;
  if (signers.length < m) throw new QuorumNotMet(`${signers.length} of ${m} officers have signed the resolution`);
  return resolution;
}

/**
 * Return what an ACCEPT_LOG that holds says of one log; undefined where it says nothing of it.
 *
 * payloadHash: 32 bytes, of the resolution.
 */
export function acceptedLog(
  resolution: Resolution & AcceptLog,
  payloadHash: Bytes,
  log: "audit" | "keys",
): AcceptedLog | undefined {
  const found = log === "audit" ? ([resolution.size, resolution.hash] as const) : resolution.keyLog;
  return found && { size: found[0], root: found[1], at: resolution.header.issuedAt, hash: payloadHash };
}

/**
 * Check what there is of a resolution, and return it with the officers who count for it so far.
 *
 * Rejects as `verifyResolution` does, but for a quorum that is not met yet.
 */
export async function readResolution(
  statements: readonly Sign1[],
  policy: SignedPolicy,
  { at }: { at: number },
): Promise<[Resolution, Officer[]]> {
  const [first, ...others] = statements;
  if (first === undefined || !others.every((one) => equal(one.payload, first.payload)))
    throw new Malformed("resolution: no signature, or of differing payloads");
  const signers = await officersWhoSigned(statements, [policy.policy], "resolution");
  const resolution = resolutionFromPayload(first.payload), { header } = resolution;
  if (!equal(header.tenant, policy.policy.header.tenant)) throw new Untrusted("resolution of another tenant");
  // Officers of an older or a coming roster decide nothing.
  if (!equal(resolution.policyHash, policy.hash))
    throw new Untrusted("the resolution names another policy than the one in force");
  if (!(at - MAX_AGE_SECONDS <= header.issuedAt && header.issuedAt <= at + MAX_AHEAD_SECONDS))
    throw new Expired("the resolution is older than 30 days, or dated ahead");
  const concerned = concernedBy(resolution);
  return [resolution, signers.filter((officer) => !equal(officer.person, concerned))];
}
