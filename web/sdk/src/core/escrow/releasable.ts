// SPDX-License-Identifier: Apache-2.0
/**
 * Who could release a deposit, and how many are needed: the one question that everything asks that counts officers.
 *
 * docs/spec/escrow.md "Policy and officers". Knows no clock and no row: who is present is handed in.
 */
import { hex } from "../base/bytes.js";
import { type History, type Officer, type Policy, type SignedPolicy, strictest, whoIs } from "../identity/policy.js";

/** Who could approve a release, and whether they are enough. */
export class Releasable {
  constructor(
    /** The rows of a deposit's own policy whose officers could approve its release. */
    readonly approvers: readonly Officer[],
    /** How many must. */
    readonly needed: number,
  ) {}

  /** The numbers of the shares that could be handed over. */
  get indices(): number[] {
    return this.approvers.map((officer) => officer.index);
  }

  /** Whether enough officers could approve. */
  get isOpen(): boolean {
    return this.approvers.length >= this.needed;
  }

  /** Whether one more officer lost would close it: m + 1 are wanted. */
  get isAlarming(): boolean {
    return this.approvers.length < this.needed + 1;
  }
}

/**
 * Return who could approve, at a time, the release of the deposits that were made under one version.
 *
 * history: every version with its times. at: UTC seconds. present: persons (ids in hex) whose standing lets them act:
 * officers of the tenant, active, neither suspended nor removed nor away. excluded: persons who may not decide, as a
 * case's subject. askedUnder: the policy of a case, whose officers alone sign in it, and whose m binds as well.
 */
export function releasable(
  madeUnder: SignedPolicy,
  of: {
    history: History;
    at: number;
    present: ReadonlySet<string>;
    excluded?: ReadonlySet<string>;
    askedUnder?: readonly Policy[];
  },
): Releasable {
  const { history, at, present, excluded = new Set<string>(), askedUnder = [] } = of;
  // By keys as well as by person: a share is sealed to the key that its holder had. Another key opens it no more, and
  // whoever lost the old one has the office still, and nothing to hand over.
  const counting = [history.counting(at), ...askedUnder.map((policy) => policy.roster)].map(
    (roster) => new Set(roster.map(whoIs)),
  );
  const approvers = madeUnder.policy.roster.filter((officer) => {
    const who = whoIs(officer), person = hex(officer.person);
    return counting.every((known) => known.has(who)) && present.has(person) && !excluded.has(person);
  });
  // The newest as well, though it may wait: what it raises binds from the day on which it is in force.
  const boundBy = [madeUnder.policy, history.inForce(at).policy, history.newest.policy, ...askedUnder];
  return new Releasable(approvers, strictest(boundBy)[0]);
}
