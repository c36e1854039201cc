// SPDX-License-Identifier: Apache-2.0
/**
 * A tenant's escrow policy: terms, officers, versions, and what may lower what (docs/spec/escrow.md).
 *
 * Does not decide who may act in a case, nor when: persons' states and clocks are the server's.
 */
import { type Bytes, EMPTY, equal, hex } from "../base/bytes.js";
import { type Encodable, Fields, mapOf, MAX_BLOB, MAX_UINT, type Value } from "../base/encoding.js";
import { Forked, Malformed, QuorumNotMet, Untrusted } from "../base/errors.js";
import { isBlank } from "../base/text.js";
import { KeyKind, type PublicKey, SIGNING_KINDS } from "../crypto/public_keys.js";
import type { Purpose, Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, MAX_U32, openPayload, readBack, readKey, requireTenantOnly,
} from "../signed/payloads.js";

/** With a quorum of at least 2 and of at most n - 1, so that no one decides alone or closes everything, 3 is the least. */
export const MIN_OFFICERS = 3;
/** A statement has at most 17 signatures: these, and the tenant root on an escrow key. */
export const MAX_OFFICERS = 16;
/** One officer alone would be a back door with a name. */
export const MIN_QUORUM = 2;
/** The longest of any delay in the terms. Without an end, "notice is put off" would be "nobody is told". */
export const YEAR_SECONDS = 365 * 86_400;
/** A wait is there to be noticed in, and a month is enough. */
export const MAX_COOLING_OFF_SECONDS = 30 * 86_400;
/** Bounds the statement: an officer has to have read them all before signing. */
export const MAX_PURPOSES = 16;
/** Characters: a paragraph, beside which the consent's own words stay on the screen. */
export const MAX_TEXT = 600;
/** The largest integer of an encoding, so later than any time in one: when a version is in force that does not stand. */
export const NEVER = MAX_UINT;

/** Which clients an approval may come from. With ANY, the promise rests on the served pages as well. */
export const ApproveWith = { CLI: 1, ANY: 2 } as const;
export type ApproveWith = (typeof ApproveWith)[keyof typeof ApproveWith];

/** Which archive generations are deposited; a higher rule deposits more. */
export const DepositRule = { OPTIONAL: 0, FROM_CONSENT: 1, ALL: 2 } as const;
export type DepositRule = (typeof DepositRule)[keyof typeof DepositRule];

/** One row of the roster: index 1..n, person, and the two keys from their own vault. */
export interface Officer {
  readonly index: number;
  readonly person: Bytes;
  readonly signingKey: PublicKey;
  readonly sealingKey: PublicKey;
}

/** Person and keys: what an officer counts by. Another number in a new roster changes nobody. */
export function whoIs(officer: Officer): string {
  return [officer.person, officer.signingKey.encoded, officer.sealingKey.encoded].map(hex).join();
}

function readOfficer(value: Value): Officer {
  const row = Fields.ofRow(value, "officer", 4);
  return {
    index: row.uint(0, { minimum: 1, maximum: MAX_OFFICERS }),
    person: row.octets(1, ID_SIZE),
    signingKey: readKey(row, 2, SIGNING_KINDS),
    sealingKey: readKey(row, 3, KeyKind.X_WING),
  };
}

/** Field 10 of a policy. All times are seconds. */
export interface Terms {
  /** From quorum to release. */
  readonly delaySeconds: number;
  /** How late a subject may be told, at most a year. */
  readonly maxNoticeDelaySeconds: number;
  /** Before a new officer counts and before a lowering takes effect, at most 30 days. */
  readonly coolingOffSeconds: number;
  /** Instead of delay when no notice could be delivered. */
  readonly undeliveredDelaySeconds: number;
  readonly approveWith: ApproveWith;
  /** What a case may be opened for, in ascending order. */
  readonly purposes: readonly string[];
  readonly deposits: DepositRule;
  /** The release process's own, so that officers seal shares only to a key they signed for. */
  readonly releaseSigningKey: PublicKey;
  readonly releaseSealingKey: PublicKey;
  /** For how long a yes cannot be taken back, at most a year, or NEVER while the version stands; 0 for any time. */
  readonly consentBindsSeconds: number;
  /** What the tenant tells those who are asked for consent, one paragraph, or "". It is shown in a box. */
  readonly text: string;
}

/** Return when a yes can be taken back that was given at a time; UTC seconds, NEVER for not at all. */
export function boundUntil(terms: Terms, givenAt: number): number {
  return Math.min(NEVER, givenAt + terms.consentBindsSeconds);
}

/** Code points in ascending order, as every implementation sorts text that is signed. */
function byCodePoint(one: string, other: string): number {
  const [a, b] = [[...one], [...other]];
  for (let at = 0; at < Math.min(a.length, b.length); at++) {
    const apart = ((a[at] as string).codePointAt(0) as number) - ((b[at] as string).codePointAt(0) as number);
    if (apart !== 0) return apart;
  }
  return a.length - b.length;
}

function termsToMap(terms: Terms): Map<number, Encodable> {
  return mapOf({
    1: terms.delaySeconds,
    2: terms.maxNoticeDelaySeconds,
    3: terms.coolingOffSeconds,
    4: terms.undeliveredDelaySeconds,
    5: terms.approveWith,
    // In ascending order, so that one set has one encoding.
    6: [...terms.purposes].sort(byCodePoint),
    7: terms.deposits,
    8: terms.releaseSigningKey.encoded,
    9: terms.releaseSealingKey.encoded,
    12: terms.consentBindsSeconds === 0 ? undefined : terms.consentBindsSeconds,
    14: terms.text === "" ? undefined : terms.text,
  });
}

function readTerms(value: Value): Terms {
  // 10, 11 and 13 are kept for terms that are not built yet.
  const fields = Fields.of(value, "policy terms", [1, 2, 3, 4, 5, 6, 7, 8, 9], [12, 14]);
  const items = fields.array(6, { minimum: 1, maximum: MAX_PURPOSES });
  const listed = Fields.ofRow(items, "policy purposes", items.length);
  const purposes = items.map((_, at) => listed.text(at, { maximum: 64 }));
  // One set has one encoding, so one policy has one hash.
  if (!purposes.every((purpose, at) => at === 0 || byCodePoint(purposes[at - 1] as string, purpose) < 0))
    throw fields.refuse(6, "is not in ascending order without repeats");
  return {
    delaySeconds: fields.uint(1, { maximum: YEAR_SECONDS }),
    maxNoticeDelaySeconds: fields.uint(2, { maximum: YEAR_SECONDS }),
    coolingOffSeconds: fields.uint(3, { maximum: MAX_COOLING_OFF_SECONDS }),
    undeliveredDelaySeconds: fields.uint(4, { maximum: YEAR_SECONDS }),
    approveWith: fields.uint(5, { minimum: 1, maximum: 2 }) as ApproveWith,
    purposes,
    deposits: fields.uint(7, { maximum: 2 }) as DepositRule,
    releaseSigningKey: readKey(fields, 8, SIGNING_KINDS),
    releaseSealingKey: readKey(fields, 9, KeyKind.X_WING),
    consentBindsSeconds: fields.has(12) ? readBinds(fields) : 0,
    text: fields.has(14) ? readParagraph(fields) : "",
  };
}

function readBinds(fields: Fields): number {
  const seconds = fields.uint(12, { minimum: 1 });
  if (seconds > YEAR_SECONDS && seconds < NEVER) throw fields.refuse(12, "is neither at most 365 days nor for ever");
  return seconds;
}

function readParagraph(fields: Fields): string {
  const text = fields.text(14, { maximum: MAX_TEXT });
  // By numbers and not by Unicode's tables, which grow: what one release reads, every other one has to.
  if (isBlank(text) || /[\x00-\x1f\x7f]/.test(text))
    throw fields.refuse(14, "is blank, or has a line break or another control character");
  return text;
}

/** Field 13: the deposits that a version gives up knowingly. root: RFC 6962 over their ids in ascending order. */
export interface GivenUp {
  readonly number: number;
  readonly root: Bytes;
}

/** One version of a tenant's policy: m of the n officers of its roster, under its terms. */
export interface Policy {
  readonly header: Header;
  readonly version: number;
  readonly m: number;
  readonly roster: readonly Officer[];
  readonly terms: Terms;
  /** Hash of the last version that stands; none in version 1. */
  readonly predecessor: Bytes;
  /** Hash of the version in force when this one was made, whose officers have a say as well; none in older versions. */
  readonly heldInForce: Bytes;
  readonly givenUp: GivenUp | undefined;
}

/** Return the officer whose signing key has this name, if any. */
export function officerOf(policy: Policy, kid: Bytes): Officer | undefined {
  return policy.roster.find((officer) => equal(officer.signingKey.kid, kid));
}

/** Return the payload bytes of a `policy` statement. */
export function policyToPayload(of: Policy): Bytes {
  const payload = closePayload(of.header, {
    7: of.version,
    8: of.m,
    9: of.roster.map((one) => [one.index, one.person, one.signingKey.encoded, one.sealingKey.encoded]),
    10: termsToMap(of.terms),
    11: of.predecessor,
    12: of.heldInForce.length === 0 ? undefined : of.heldInForce,
    13: of.givenUp && [of.givenUp.number, of.givenUp.root],
  });
  return readBack(payload, policyFromPayload);
}

/**
 * Read at most 64 KiB; throws Malformed, also for m of n outside the bounds.
 *
 * 2 <= m <= n - 1 and 3 <= n <= 16; indices are 1..n in order; persons and keys are all different, since one person with
 * two rows would be a quorum of one.
 */
export function policyFromPayload(payload: Uint8Array): Policy {
  const [header, fields] = openPayload(payload, "policy", [7, 8, 9, 10, 11], { optional: [12, 13], maxSize: MAX_BLOB });
  requireTenantOnly(header, "policy");
  const version = fields.uint(7, { minimum: 1, maximum: MAX_U32 });
  // Nothing was in force before the first version, and nothing in custody that it could give up.
  for (const number of [12, 13])
    if (version === 1 && fields.has(number)) throw fields.refuse(number, "is not for version 1");
  const roster = fields.array(9, { minimum: MIN_OFFICERS, maximum: MAX_OFFICERS }).map(readOfficer);
  // The index is the share's x in Shamir's scheme: two of one number would hold one share, and 0 would be the secret.
  if (!roster.every((officer, at) => officer.index === at + 1))
    throw fields.refuse(9, "does not number its officers 1..n in order");
  const columns: [string, (officer: Officer) => Bytes][] = [
    ["person", (one) => one.person],
    ["signing_key", (one) => one.signingKey.encoded],
    ["sealing_key", (one) => one.sealingKey.encoded],
  ];
  for (const [name, column] of columns)
    if (new Set(roster.map((one) => hex(column(one)))).size !== roster.length)
      throw fields.refuse(9, `names one ${name} twice`);
  return {
    header,
    version,
    // At most n - 1: with m = n, the loss of one key would close every deposit for ever.
    m: fields.uint(8, { minimum: MIN_QUORUM, maximum: roster.length - 1 }),
    roster,
    terms: readTerms(fields.value(10)),
    // The first version has no predecessor and every later one names exactly one.
    predecessor: fields.octets(11, version > 1 ? HASH_SIZE : 0),
    // Absent in versions made before the field was: whoever verifies says which may be (`verifySuccessor`).
    heldInForce: fields.has(12) ? fields.octets(12, HASH_SIZE) : EMPTY,
    givenUp: fields.has(13) ? readGivenUp(fields.row(13, 2)) : undefined,
  };
}

function readGivenUp(row: Fields): GivenUp {
  return { number: row.uint(0, { minimum: 1 }), root: row.octets(1, HASH_SIZE) };
}

/**
 * A policy whose signatures have been checked, and the hash that others name it by.
 *
 * Made by `verifyFounding` and `verifySuccessor` only; holding one is the proof.
 */
export interface SignedPolicy {
  readonly policy: Policy;
  readonly hash: Bytes;
  /** The kids of the keys that signed, in hex. Who is taken off without having signed, stays until the wait is over. */
  readonly signers: ReadonlySet<string>;
}

/** Whether m officers of another version have signed this one. */
export function isSignedByQuorumOf(signed: SignedPolicy, other: Policy): boolean {
  return other.roster.filter((officer) => signed.signers.has(hex(officer.signingKey.kid))).length >= other.m;
}

/**
 * Return the distinct officers of any of `policies` who signed, after checking every signature.
 *
 * Rejects with Untrusted for a signer outside the rosters and InvalidSignature for a signature that does not hold: a
 * statement carries no signature that does not count.
 */
export async function officersWhoSigned(
  statements: readonly Sign1[],
  policies: readonly Policy[],
  purpose: Purpose,
): Promise<Officer[]> {
  const signers = new Map<string, Officer>();
  for (const statement of statements) {
    const officer = policies.map((policy) => officerOf(policy, statement.kid)).find((one) => one !== undefined);
    // Refused and not skipped: a statement that outsiders could decorate would have many forms and one hash.
    if (officer === undefined) throw new Untrusted("signed by somebody who is no officer of the policy");
    await statement.verify(officer.signingKey, purpose);
    signers.set(`${officer.index}/${whoIs(officer)}`, officer);
  }
  return [...signers.values()];
}

function read(statements: readonly Sign1[], tenant: Bytes): [Policy, Bytes] {
  const [first, ...others] = statements;
  // Signatures are only added up over the same bytes; an empty list ends here too.
  if (first === undefined || !others.every((one) => equal(one.payload, first.payload)))
    throw new Malformed("policy: no signature, or of differing payloads");
  const policy = policyFromPayload(first.payload);
  if (!equal(policy.header.tenant, tenant)) throw new Untrusted("policy of another tenant");
  return [policy, first.payloadHash];
}

function signedBy(officers: readonly Officer[]): Set<string> {
  return new Set(officers.map((officer) => hex(officer.signingKey.kid)));
}

/**
 * Check a policy of version 1: signed by every officer in its own roster.
 *
 * Whether these are the right founders, only the pin says. Rejects with Malformed, Untrusted, InvalidSignature,
 * QuorumNotMet.
 */
export async function verifyFounding(statements: readonly Sign1[], tenant: Bytes): Promise<SignedPolicy> {
  const [policy, hash] = read(statements, tenant);
  if (policy.version !== 1) throw new Untrusted("policy history does not begin with version 1");
  const officers = await officersWhoSigned(statements, [policy], "policy");
  // All and not m: the pin is made of this version, and nobody is an officer who did not agree to be one.
  if (officers.length !== policy.roster.length)
    throw new QuorumNotMet("a founding policy is signed by all its founders");
  return { policy, hash, signers: signedBy(officers) };
}

/**
 * Check the next version: m officers of `predecessor` signed it, and m of the version that it holds to be in force.
 *
 * predecessor: the last version that stands. history: every version, oldest first, where there are others. isEarly:
 * whether this is one of the versions made before field 12 was, which need none. Rejects with Malformed,
 * InvalidSignature, QuorumNotMet; Untrusted for another tenant, a skipped version, a field 12 that names none of them or
 * an outsider's signature; Forked for a version of this number that follows something else.
 */
export async function verifySuccessor(
  statements: readonly Sign1[],
  of: { predecessor: SignedPolicy; history?: readonly SignedPolicy[]; isEarly?: boolean },
): Promise<SignedPolicy> {
  const { predecessor, history = [], isEarly = false } = of, before = predecessor.policy;
  const known = new Map([...history, predecessor].map((one) => [hex(one.hash), one.policy]));
  const [policy, hash] = read(statements, before.header.tenant);
  // No version is skipped: the one left out may have taken officers off the roster. One that was withdrawn keeps its
  // number.
  if (policy.version !== Math.max(...[...known.values()].map((one) => one.version)) + 1)
    throw new Untrusted("policy is not the next version");
  // Officers of the version before, not of this one: a new roster cannot vote itself in. And those of the version in
  // force: a roster that waits could otherwise begin the wait of the next, and of the one after.
  const held = known.get(hex(policy.heldInForce));
  const rosters = held === undefined ? [before] : [before, held];
  const signers = signedBy(await officersWhoSigned(statements, rosters, "policy"));
  const signed: SignedPolicy = { policy, hash, signers };
  for (const roster of rosters)
    if (!isSignedByQuorumOf(signed, roster))
      throw new QuorumNotMet("too few officers of the version before, or of the one in force, have signed");
  if (held === undefined && (policy.heldInForce.length > 0 || !isEarly))
    throw new Untrusted("policy does not name a known version as the one in force");
  // Only now: a version that nobody entitled has signed is no evidence of a fork.
  if (!equal(policy.predecessor, predecessor.hash))
    throw new Forked("policy follows another version than the one known");
  return signed;
}

/**
 * Return the names of the guards that `after` lowers: any of them asks for a cooling-off.
 *
 * signers: the kids, in hex, of those who signed `after`. Who signs their own leaving, or their own new keys, needs no
 * wait.
 */
export function findLowered(before: Policy, after: Policy, signers: ReadonlySet<string> = new Set()): string[] {
  const old = before.terms, made = after.terms, named = new Set(after.roster.map(whoIs));
  // What makes a release easier for officers or later for the subject to hear of. A new officer lowers nothing: they cool
  // off on their own. Neither do the terms of a consent: they bind whoever says yes to them, and nobody else.
  const guards: Record<string, boolean> = {
    m: after.m < before.m,
    delay_seconds: made.delaySeconds < old.delaySeconds,
    max_notice_delay_seconds: made.maxNoticeDelaySeconds > old.maxNoticeDelaySeconds,
    cooling_off_seconds: made.coolingOffSeconds < old.coolingOffSeconds,
    undelivered_delay_seconds: made.undeliveredDelaySeconds < old.undeliveredDelaySeconds,
    approve_with: made.approveWith > old.approveWith,
    purposes: !made.purposes.every((purpose) => old.purposes.includes(purpose)),
    deposits: made.deposits < old.deposits,
    // Stops m officers from being rid of those who would object, at the moment of objecting.
    roster: before.roster.some((one) => !named.has(whoIs(one)) && !signers.has(hex(one.signingKey.kid))),
  };
  return Object.keys(guards).filter((name) => guards[name]);
}

/**
 * Return the highest m and the strictest terms of `policies`: at deposit, at request and now.
 *
 * The purposes are the intersection and may be empty: then nothing may be released. The release process's keys, and what
 * concerns consent alone, are no matter of strictness: the last policy's are given. docs/spec/escrow.md "Policy and
 * officers".
 */
export function strictest(policies: readonly Policy[]): [m: number, terms: Terms] {
  const all = policies.map((policy) => policy.terms), last = all.at(-1) as Terms;
  // Each guard by itself: nobody can gain by having a policy lowered before, during or after a case.
  const terms: Terms = {
    ...last,
    delaySeconds: Math.max(...all.map((one) => one.delaySeconds)),
    maxNoticeDelaySeconds: Math.min(...all.map((one) => one.maxNoticeDelaySeconds)),
    coolingOffSeconds: Math.max(...all.map((one) => one.coolingOffSeconds)),
    undeliveredDelaySeconds: Math.max(...all.map((one) => one.undeliveredDelaySeconds)),
    approveWith: Math.min(...all.map((one) => one.approveWith)) as ApproveWith,
    purposes: last.purposes.filter((purpose) => all.every((one) => one.purposes.includes(purpose))),
    deposits: Math.max(...all.map((one) => one.deposits)) as DepositRule,
  };
  return [Math.max(...policies.map((policy) => policy.m)), terms];
}

/** Every version of a policy, oldest first, with its times by one clock, in UTC seconds; `historyOf` makes it. */
export class History {
  constructor(
    readonly versions: readonly SignedPolicy[],
    /** NEVER for a version that does not stand. */
    readonly inForceFrom: readonly number[],
    /** For each row of a version's roster, the end of that officer's cooling-off; 0 for a founder. */
    readonly countsFrom: readonly (readonly number[])[],
  ) {}

  /** The last version that stands, whether it is in force yet or not. */
  get newest(): SignedPolicy {
    return this.inForce(NEVER - 1);
  }

  /** When the newest version is in force and each of its officers counts: the end of the last cooling-off. */
  get settledAt(): number {
    const place = this.#place(NEVER - 1);
    return Math.max(this.inForceFrom[place] as number, ...(this.countsFrom[place] as readonly number[]));
  }

  /** Return the version that is in force at a time. */
  inForce(at: number): SignedPolicy {
    return this.versions[this.#place(at)] as SignedPolicy;
  }

  /** Return the officers who count at a time: those of the version then in force whose cooling-off is over. */
  counting(at: number): Officer[] {
    const place = this.#place(at), since = this.countsFrom[place] as readonly number[];
    return (this.versions[place] as SignedPolicy).policy.roster.filter((_, row) => (since[row] as number) <= at);
  }

  #place(at: number): number {
    const place = this.inForceFrom.findLastIndex((from) => from <= at);
    if (place < 0) throw new RangeError("no version is in force then");
    return place;
  }
}

/**
 * Return when each version is in force and when its officers count: the one rule for server, release and clients.
 *
 * versions: every one, oldest first. published: when each was, by whatever clock the caller trusts. withdrawn: when each
 * withdrawal came, by the hash of its version in hex; it counts when that was before the version was in force. A version
 * that follows a withdrawn one falls with it, and so does one whose field 12 was not true.
 */
export function historyOf(
  versions: readonly SignedPolicy[],
  published: readonly number[],
  withdrawn: ReadonlyMap<string, number> = new Map(),
): History {
  const walk = new Walk();
  versions.forEach((signed, at) => walk.step(signed, published[at] as number, withdrawn.get(hex(signed.hash)) ?? NEVER));
  return new History(walk.versions, walk.times, walk.counts);
}

/** The versions so far, their times as `History` has them, and the places of those that stand. */
class Walk {
  readonly versions: SignedPolicy[] = [];
  readonly times: number[] = [];
  readonly counts: (readonly number[])[] = [];
  readonly #standing: number[] = [];

  /** Take in the next version, published at a time. */
  step(signed: SignedPolicy, at: number, withdrawnAt: number): void {
    // Founders wait for nobody: the pin names them.
    const isFirst = this.versions.length === 0;
    let [from, counts] = isFirst ? [0, signed.policy.roster.map(() => 0)] : this.#next(signed, at);
    // Whoever is in force already is not withdrawn any more: another version follows them.
    if (withdrawnAt < from) from = NEVER;
    if (from < NEVER) this.#standing.push(this.versions.length);
    this.versions.push(signed);
    this.times.push(from);
    this.counts.push(counts);
  }

  #policy(place: number): Policy {
    return (this.versions[place] as SignedPolicy).policy;
  }

  /** Return from when the next version is in force, and from when each of its officers counts. */
  #next(signed: SignedPolicy, publishedAt: number): [number, number[]] {
    const last = this.#standing.at(-1) as number;
    const fallen: [number, number[]] = [NEVER, signed.policy.roster.map(() => NEVER)];
    const heldFrom = this.#heldFrom(signed.policy);
    if (!equal(signed.policy.predecessor, (this.versions[last] as SignedPolicy).hash) || heldFrom === undefined)
      return fallen;
    // It says itself that it was made when that version was in force. By a clock that is behind this may be to come;
    // nobody gains by saying so too early.
    const at = Math.max(publishedAt, heldFrom);
    const oldest = this.#standing.findLast((place) => (this.times[place] as number) <= at) as number;
    // What field 12 is for: those in force have had their say. They are asked for, and not their version's hash: clocks
    // differ, and the fault of one is to void no version.
    if (signed.policy.heldInForce.length > 0 && !isSignedByQuorumOf(signed, this.#policy(oldest))) return fallen;
    // Against every version from the one in force, and not only against its predecessor: a version that waits for having
    // lowered a guard could otherwise be copied, and the copy, which lowers nothing, would not wait.
    const against = this.#standing.filter((place) => place >= oldest).map((place) => this.#policy(place));
    // The longest: a version could otherwise shorten the very wait that it has to pass.
    const longest = Math.max(...[...against, signed.policy].map((policy) => policy.terms.coolingOffSeconds));
    const isLowered = against.some((before) => findLowered(before, signed.policy, signed.signers).length > 0);
    // Never before the version that it follows.
    const from = Math.max(this.times[last] as number, at + (isLowered ? longest : 0));
    const known = this.#policy(last).roster.map((officer, row): [Officer, number] => [
      officer,
      (this.counts[last] as readonly number[])[row] as number,
    ]);
    const otherwise = Math.max(from, at + longest);
    return [from, signed.policy.roster.map((officer) => knownSince(officer, known, signed.signers) ?? otherwise)];
  }

  /** Return from when the version of field 12 is in force, 0 for a version without one; undefined when it never is. */
  #heldFrom(policy: Policy): number | undefined {
    if (policy.heldInForce.length === 0) return 0;
    const place = this.#standing.find((one) => equal((this.versions[one] as SignedPolicy).hash, policy.heldInForce));
    return place === undefined ? undefined : this.times[place];
  }
}

function knownSince(
  officer: Officer,
  before: readonly (readonly [Officer, number])[],
  signers: ReadonlySet<string>,
): number | undefined {
  // Stops keys that somebody else put into an officer's row, as much as a new officer: both cool off. Whoever signs with
  // the old key for the new ones vouches for them.
  return before.find(
    ([known]) =>
      whoIs(known) === whoIs(officer) ||
      (equal(known.person, officer.person) && signers.has(hex(known.signingKey.kid))),
  )?.[1];
}
