// SPDX-License-Identifier: Apache-2.0
/**
 * A policy in words, and what a version changes: for whoever is about to sign it, agree to it, or look at it.
 *
 * docs/spec/escrow.md "Policy and officers" for people: one reading for officers, members and the console. Does not decide
 * anything, and knows no clock: what it says of times follows from `historyOf`.
 */
import { type Bytes, EMPTY, hex, lengthOf, utf8 } from "../base/bytes.js";
import { boxed, duration, writtenOut } from "../base/text.js";
import { sha256 } from "../crypto/hashing.js";
import { uuidText } from "../log/key_log.js";
import {
  ApproveWith, DepositRule, findLowered, type History, historyOf, NEVER, type Officer, type Policy, type SignedPolicy,
  type Terms, whoIs,
} from "./policy.js";

/** A veto is pressed by a person: what is shorter than an hour, nobody sees in time. */
export const MIN_DELAY_FOR_A_VETO = 3600;

const DEPOSITS: ReadonlyMap<DepositRule, readonly [value: string, meaning: string]> = new Map([
  [DepositRule.OPTIONAL, ["each user decides", "Some archive keys may not be deposited. No case brings those back."]],
  [
    DepositRule.FROM_CONSENT,
    ["from the user’s consent on", "Generations from before the consent are not in custody."],
  ],
  [DepositRule.ALL, ["all generations", "Every generation is put into custody before it is used."]],
]);
// The guards of `findLowered` as people call them.
const GUARDS: ReadonlyMap<string, string> = new Map([
  ["m", "the quorum"],
  ["delay_seconds", "the delay"],
  ["max_notice_delay_seconds", "how soon a subject is told"],
  ["cooling_off_seconds", "the cooling-off"],
  ["undelivered_delay_seconds", "the delay when notice fails"],
  ["approve_with", "where approvals come from"],
  ["purposes", "the purposes"],
  ["deposits", "which generations are deposited"],
  ["roster", "the roster: an officer goes, or has other keys, who has not signed"],
]);
/** Over every box with the tenant's text: whose word it is. */
export const TEXT_HEADING = "Your organisation adds, in its own words:";
const LAST_DATE = 253_402_214_400; // 9999-12-31, the last day that is written as a date

/** One term: its name, its value as signed, what this means, and whether it leaves a guard weak. */
export interface Clause {
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
  readonly isWeak: boolean;
}

/** One term that a version changed. */
export interface Change {
  readonly name: string;
  readonly before: string;
  readonly after: string;
}

/** What a version changes of the one that it follows, and from when. All times are UTC seconds. */
export interface PolicyChange {
  /** The last version that stands, undefined for a founding one. */
  readonly before: Policy | undefined;
  readonly after: Policy;
  readonly terms: readonly Change[];
  readonly came: readonly Officer[];
  readonly left: readonly Officer[];
  readonly rekeyed: readonly Officer[];
  /** Names of the guards that it lowers against that version or any since the one in force, as `findLowered` has them. */
  readonly lowered: readonly string[];
  /** As `History` has it if it is published at the time that was asked for; NEVER for one that could not be. */
  readonly inForceFrom: number;
  readonly countsFrom: readonly number[];
}

/** Return the rows that the version before does not have: new officers, and those with other keys. A founding: all. */
export function freshIn(change: PolicyChange): Officer[] {
  return change.after.roster.filter((officer) => change.came.includes(officer) || change.rekeyed.includes(officer));
}

function clause(name: string, value: string, meaning: string, isWeak = false): Clause {
  return { name, value, meaning, isWeak };
}

/** Return every term of a policy in words. */
export function clauses(policy: Policy): Clause[] {
  const { terms, m } = policy, n = policy.roster.length;
  const isCli = terms.approveWith === ApproveWith.CLI;
  const [value, meaning] = DEPOSITS.get(terms.deposits) as readonly [string, string];
  return [
    clause(
      "Quorum",
      `${m} of ${n}`,
      `Any ${m} of the ${n} officers, together with the HSM, open a deposit. ` +
        `${m - 1} of them cannot, and the HSM alone cannot.`,
      m > n - 2,
    ),
    delayClause(terms.delaySeconds),
    noticeClause(terms.maxNoticeDelaySeconds),
    clause(
      "When notice fails",
      duration(terms.undeliveredDelaySeconds),
      "If the subject cannot be told, this delay takes the place of the usual one.",
    ),
    clause(
      "Cooling-off",
      duration(terms.coolingOffSeconds),
      "A new officer counts, and a lowered guard holds, only this long after it is published.",
    ),
    clause(
      "Approvals come from",
      isCli ? "the command line only" : "the command line or a browser",
      isCli
        ? "An approval signed in a browser is not counted."
        : "An approval signed in a browser is only as good as the pages this server gave that browser.",
      !isCli,
    ),
    clause("Purposes", terms.purposes.join(", "), "A case for any other purpose is refused."),
    clause("Deposits", value, meaning, terms.deposits === DepositRule.OPTIONAL),
    clause("Consent", takingBack(terms), "After a no nothing more is deposited. What is deposited stays."),
    clause("Text to members", named(terms.text), "Shown in a box below the consent’s own words."),
  ];
}

/** Say when a yes can be taken back. */
export function takingBack(terms: Terms): string {
  const seconds = terms.consentBindsSeconds;
  if (seconds === NEVER) return "cannot be taken back while this version stands";
  if (seconds > 0) return `can be taken back ${duration(seconds)} after it was given, and not before`;
  return "can be taken back at any time";
}

/** Name a text without saying it: others wrote it. Two of one length are told apart. */
function named(text: string): string {
  return text === "" ? "none" : `${lengthOf(text)} characters, ${hex(sha256(utf8(text))).slice(0, 8)}`;
}

/** Return the tenant's text to its members in its box, line by line; nothing where there is none. */
export function textBox(terms: Terms): string[] {
  return terms.text === "" ? [] : boxed(terms.text, TEXT_HEADING);
}

function delayClause(seconds: number): Clause {
  const isWeak = seconds < MIN_DELAY_FOR_A_VETO;
  const meaning = "The time between quorum and release, in which the subject can veto.";
  return clause("Delay", duration(seconds), meaning + (isWeak ? " Too short for a person to see it." : ""), isWeak);
}

function noticeClause(seconds: number): Clause {
  if (seconds === 0)
    return clause("Notice", "at once", "The subject is told as soon as a case about them is opened.");
  const meaning = "A case may fix a later date for telling its subject. The log entry is never put off.";
  return clause("Notice", `put off by ${duration(seconds)} at most`, meaning, true);
}

/** Return the terms, the release process's keys and the end that `after` has otherwise than `before`. */
export function changedTerms(before: Policy, after: Policy): Change[] {
  const old = new Map(clauses(before).map((one) => [one.name, one.value])), found: Change[] = [];
  for (const { name, value } of clauses(after)) {
    const was = old.get(name) as string;
    if (was !== value) found.push({ name, before: was, after: value });
  }
  const one = before.terms, other = after.terms;
  if (!one.releaseSigningKey.equals(other.releaseSigningKey) || !one.releaseSealingKey.equals(other.releaseSealingKey))
    found.push({ name: "Release process", before: "its keys as before", after: "other keys, of another process" });
  const ends = [before, after].map((policy) => policy.header.expiresAt) as [number, number];
  if (ends[0] !== ends[1]) found.push({ name: "Runs out", before: endOf(ends[0]), after: endOf(ends[1]) });
  return found;
}

/** What a version is held against. */
export interface Known {
  /** As `historyOf` takes them, without the version itself; none for a founding one. */
  readonly versions: readonly SignedPolicy[];
  readonly published: readonly number[];
  readonly withdrawn?: ReadonlyMap<string, number>;
  /**
   * The kids, in hex, of those who have signed so far. Until the rest has signed it is taken that whoever goes, or gets
   * other keys, does not: what is said is then the longest that it can wait.
   */
  readonly signers?: ReadonlySet<string>;
  /** UTC seconds, at which it would be published. */
  readonly at: number;
}

/**
 * Say what a version changes that follows the versions known, if it were published at a time.
 *
 * since: the version that it is compared with, where that is not the one that it follows: the one that somebody agreed to.
 */
export function changeOf(after: Policy, known: Known & { readonly since?: Policy }): PolicyChange {
  const { versions, at, signers = new Set<string>() } = known;
  if (versions.length === 0) {
    const nothing = { before: undefined, terms: [], left: [], rekeyed: [], lowered: [] };
    return { ...nothing, after, came: after.roster, inForceFrom: at, countsFrom: after.roster.map(() => 0) };
  }
  const so = historyOf(versions, known.published, known.withdrawn), before = known.since ?? so.newest.policy;
  const history = historyWith(after, known);
  const had = new Map(before.roster.map((officer) => [hex(officer.person), officer]));
  const has = new Set(after.roster.map((officer) => hex(officer.person)));
  return {
    before,
    after,
    terms: changedTerms(before, after),
    came: after.roster.filter((one) => !had.has(hex(one.person))),
    left: before.roster.filter((one) => !has.has(hex(one.person))),
    rekeyed: after.roster.filter((one) => {
      const was = had.get(hex(one.person));
      return was !== undefined && whoIs(was) !== whoIs(one);
    }),
    lowered: loweredBy(after, so, signers, at),
    inForceFrom: history.inForceFrom.at(-1) as number,
    countsFrom: history.countsFrom.at(-1) as readonly number[],
  };
}

/**
 * Return the history with one more version, as if it were published at a time with the signatures it lacks.
 *
 * policyHash: of the version, where somebody asks for it by that.
 */
export function historyWith(after: Policy, known: Known & { readonly policyHash?: Bytes }): History {
  const { versions, published, withdrawn, signers = new Set<string>(), policyHash = EMPTY } = known;
  const rosters = new Map<string, Officer>();
  for (const signed of historyOf(versions, published, withdrawn).versions)
    for (const officer of signed.policy.roster) rosters.set(hex(officer.signingKey.kid), officer);
  const stays = new Set(after.roster.map(whoIs));
  const staying = [...rosters].filter(([, officer]) => stays.has(whoIs(officer))).map(([kid]) => kid);
  const ifSignedBy = (assumed: ReadonlySet<string>): History => {
    const signed: SignedPolicy = { policy: after, hash: policyHash, signers: assumed };
    return historyOf([...versions, signed], [...published, known.at], withdrawn);
  };
  // Those who stay can sign without shortening any wait. Where they are too few, some who go have to sign as well.
  const found = ifSignedBy(new Set([...signers, ...staying]));
  return (found.inForceFrom.at(-1) as number) < NEVER ? found : ifSignedBy(new Set(rosters.keys()));
}

function loweredBy(after: Policy, known: History, signers: ReadonlySet<string>, at: number): string[] {
  const first = known.inForce(at).policy.version;
  const against = known.versions.filter(
    (signed, place) => signed.policy.version >= first && (known.inForceFrom[place] as number) < NEVER,
  );
  return [...new Set(against.flatMap((before) => findLowered(before.policy, after, signers)))];
}

// In words. No line holds text that somebody chose: purposes are written out, people are named by their ids, and the
// tenant's text to its members has a box of its own (`textBox`).

/**
 * Say all of a change, line by line: terms, officers, from when, which guards it lowers, what it gives up.
 *
 * at: now, UTC seconds. isPublished: whether it is said of a version that is published, and not of one that could be now.
 * names: what to call people beside their number, by their ids in hex.
 */
export function inWords(
  change: PolicyChange,
  of: { at: number; isPublished?: boolean; names?: ReadonlyMap<string, string> },
): string[] {
  const { after, before } = change, { at, isPublished = false, names = new Map<string, string>() } = of;
  const n = after.roster.length, called = (officer: Officer): string => calledBy(officer, names);
  if (before === undefined)
    return [
      `Version 1 founds the escrow: any ${after.m} of ${n} officers.`,
      ...clauses(after).map(({ name, value, meaning }) => `${name}: ${writtenOut(value)}. ${meaning}`),
      ...(after.header.expiresAt > 0 ? [`It runs out: ${endOf(after.header.expiresAt)}.`] : []),
      ...after.roster.map((officer) => `${called(officer)} is one of them.`),
    ];
  const lines = [`Version ${after.version} comes after version ${before.version}: ${after.m} of ${n} officers.`];
  for (const one of change.terms) lines.push(`${one.name}: ${writtenOut(one.before)} → ${writtenOut(one.after)}`);
  const from = (one: Officer): string => fromWhen(change.countsFrom[after.roster.indexOf(one)] as number, at);
  for (const one of change.came) lines.push(`${called(one)} comes, and counts ${from(one)}.`);
  for (const one of change.rekeyed) lines.push(`${called(one)} gets other keys, which count ${from(one)}.`);
  for (const one of change.left) lines.push(`${called(one)} of version ${before.version} goes when it is in force.`);
  if (lines.length === 1) lines.push("It changes nothing but the date.");
  lines.push(inForceWords(change, at, isPublished));
  if (after.givenUp !== undefined)
    lines.push(`It gives up ${after.givenUp.number} deposits for good: nobody could ever release them.`);
  return lines;
}

function inForceWords(change: PolicyChange, at: number, isPublished: boolean): string {
  if (change.inForceFrom === NEVER)
    return "It can never be in force: too few of those who have to sign it would have.";
  const lowers = change.lowered.map((name) => GUARDS.get(name) as string).join("; ");
  let when = `In force ${fromWhen(change.inForceFrom, at)}`;
  if (!isPublished) when += " if it is published now";
  else if (change.inForceFrom <= at) when = "It is in force";
  return lowers === "" ? `${when}. It lowers no guard.` : `${when}. It lowers ${lowers}.`;
}

function fromWhen(seconds: number, at: number): string {
  return seconds <= at ? "at once" : `from ${moment(seconds)} (${duration(seconds - at)} from now)`;
}

function moment(seconds: number): string {
  if (seconds >= NEVER) return "no time on";
  const [day, time] = new Date(Math.min(seconds, LAST_DATE) * 1000).toISOString().split("T") as [string, string];
  return `${day} ${time.slice(0, 5)} UTC`;
}

function endOf(seconds: number): string {
  return seconds === 0 ? "never" : moment(Math.min(seconds, LAST_DATE));
}

function calledBy(officer: Officer, names: ReadonlyMap<string, string>): string {
  const name = names.get(hex(officer.person)) ?? "";
  return `Officer ${officer.index}, ${name === "" ? "" : `${name}, `}person ${uuidText(officer.person)},`;
}
