// SPDX-License-Identifier: Apache-2.0
/**
 * A log that goes on from a shorter past, as m officers accepted it, and which heads are of the past left behind.
 *
 * docs/spec/escrow.md "Release process" (a restored backup). Reads no clock, and verifies no officer: the caller holds the
 * resolution's date to the policy then in force.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Untrusted } from "../base/errors.js";
import type { Checkpoint } from "./checkpoint.js";
import { requireSameLog } from "./key_log.js";

/** The clocks of any two who sign may stand five minutes apart. */
export const SLACK_SECONDS = 300;

/** What m officers accepted of one log: root (32 bytes) at this size. */
export interface AcceptedLog {
  readonly size: number;
  readonly root: Bytes;
  /** UTC seconds of their resolution. */
  readonly at: number;
  /** 32 bytes, of the resolution's payload, by which a client takes each once. */
  readonly hash: Bytes;
}

/**
 * Tell whether a signed head that is not of the log accepted may be of the past that was given up.
 *
 * It may be when it was signed before the officers decided. One without a date is not: nothing says when that was.
 */
export function leavesBehind(accepted: AcceptedLog, head: Checkpoint): boolean {
  const isIt = head.size === accepted.size && equal(head.root, accepted.root);
  return !isIt && head.time !== undefined && head.time <= accepted.at + SLACK_SECONDS;
}

/** Tell whether a head has what the log lacked when it was accepted: more entries, or others in as many. */
export function isOutrunBy(accepted: AcceptedLog, head: Checkpoint): boolean {
  return head.size > accepted.size || (head.size === accepted.size && !equal(head.root, accepted.root));
}

/**
 * Check that a signed head is of the log that was accepted, by the consistency proof from the accepted size.
 *
 * Throws Untrusted for a shorter one, which is another restoration that these officers did not accept, and for a proof that
 * does not connect them; Forked for another root at this size.
 */
export function requireGoesOn(accepted: AcceptedLog, head: Checkpoint, proof: readonly Bytes[]): void {
  if (head.size < accepted.size) throw new Untrusted("the log is shorter than what the officers accepted");
  const { origin } = head, { size, root } = accepted;
  requireSameLog({ origin, size, root, time: undefined }, head, proof);
}
