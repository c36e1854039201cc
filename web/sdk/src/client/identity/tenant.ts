// SPDX-License-Identifier: Apache-2.0
/**
 * From the pin to the tenant's officers and escrow key, at every refresh by the same path.
 *
 * docs/spec/escrow.md "Keys". Does not ask for consent: a key accepted here is known, and used only under the person's own
 * yes (`escrow`).
 */
import { type Bytes, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { MAX_BLOB, MAX_STATEMENT } from "../../core/base/encoding.js";
import { HoldfastError, Untrusted } from "../../core/base/errors.js";
import type { PublicKey } from "../../core/crypto/public_keys.js";
import { type SignedPolicy, verifyFounding } from "../../core/identity/policy.js";
import { type Roles, verifyRoles } from "../../core/identity/roles.js";
import {
  type Ending, findEnding, pinWords, rootPin, type SignedTenantKey, type TrustedTenant, verifyEscrowKeys, verifyTenant,
} from "../../core/identity/trust.js";
import { NoteVerifier } from "../../core/log/checkpoint.js";
import { Role } from "../../core/log/writers.js";
import { Sign1 } from "../../core/signed/cose.js";
import { foundingRoot } from "../../core/signed/enrolment.js";
import { AnswerRefused, NotPossible, Problem, TrustRefused } from "../errors.js";
import { type Account, readMany, rootKeyOf } from "../profile/account.js";
import type { Trust } from "../profile/state.js";
import type { Answer } from "../server/answers.js";

const POLICY = "escrow/policy", KEY = "escrow/key";
const LOOK_INTO = {
  wayOut: "Do not go on. Show this to your security officers: somebody answers in your server's name, or a pin is wrong.",
};
// Of policies or escrow keys that are read: one a week for nineteen years.
const MOST_VERSIONS = 1000;

/** What a refresh brought: words of the pin, and the versions known before (0 for none) and now. */
export interface TrustChange {
  readonly pinWords: readonly string[];
  readonly isTofu: boolean;
  /** The tenant has no policy yet; the words are those of its root alone, until this person signs one. */
  readonly isFounding: boolean;
  /** The founders published another first policy than the one that this person had signed. */
  readonly isAnother: boolean;
  readonly policyBefore: number;
  readonly policyNow: number;
  readonly keyBefore: number;
  readonly keyNow: number;
}

/**
 * Pin the tenant's root as a code names it; without one, the next refresh takes what it meets, marked.
 *
 * root: 32 bytes in place of the pin, of a code from a tenant that is being founded; the pin follows once its first policy
 * was signed. Throws TrustRefused when this profile is pinned to another root already.
 */
export function pinRoot(
  account: Account,
  of: { readonly pin: Bytes; readonly isDevelopment: boolean; readonly root?: Bytes },
): void {
  const { pin, isDevelopment, root = EMPTY } = of, { trust } = account.state;
  if (root.length > 0) {
    expectRoot(account, root);
    trust.isDevelopment ||= isDevelopment;
    return;
  }
  if (trust.pin.length > 0 && pin.length > 0 && !equal(trust.pin, pin))
    throw new TrustRefused("The enrolment code names another root than the one pinned here.", LOOK_INTO);
  if (pin.length > 0) {
    // A pin that came from a person also vouches for one that was taken on first use.
    trust.pin = pin;
    trust.isTofu = false;
  } else if (trust.pin.length === 0) {
    trust.isTofu = true;
  }
  trust.isDevelopment ||= isDevelopment;
}

function expectRoot(account: Account, root: Bytes): void {
  const { trust } = account.state;
  const known =
    trust.rootKey.length > 0 ? foundingRoot(account.tenant, rootKeyOf(trust.rootKey)) : trust.foundingRoot;
  if (known !== undefined && !equal(known, root))
    throw new TrustRefused("The enrolment code names another root than the one known here.", LOOK_INTO);
  if (trust.pin.length === 0) trust.foundingRoot = root;
}

/**
 * Pin the root with the first policy, as this person has just signed it; from here on the profile holds to both.
 *
 * Until a policy is published, signing another one pins to that. Done again, it changes nothing. Rejects with TrustRefused
 * for another root than the founding code named, or once a policy was published or pinned otherwise.
 */
export async function completeFoundingTrust(account: Account, rootKey: PublicKey, policy: SignedPolicy): Promise<void> {
  const { trust } = account.state, pin = rootPin(account.tenant, rootKey, policy.hash);
  if (equal(trust.pin, pin)) return;
  if (trust.foundingRoot === undefined)
    throw new TrustRefused("This profile is pinned to another root, or to another first policy.", LOOK_INTO);
  requireRoot(account, rootKey);
  // The root that the code names is kept beside the pin: the founders may yet agree on a policy without this person.
  trust.pin = pin;
  trust.rootKey = rootKey.encoded;
  await account.save();
}

/** Throw TrustRefused for another root than the founding code of this profile names. */
export function requireRoot(account: Account, rootKey: PublicKey): void {
  const named = account.state.trust.foundingRoot;
  if (named !== undefined && !equal(foundingRoot(account.tenant, rootKey), named))
    throw new TrustRefused("The tenant root is not the one that your enrolment code names.", LOOK_INTO);
}

interface Published {
  readonly history: readonly Bytes[];
  readonly answer: Answer;
}

/**
 * Fetch policies, escrow keys and the log's keys, hold all to the pin and to what was seen, and keep the newest.
 *
 * Rejects with TrustRefused when anything does not follow, and as the connection does; nothing is then changed.
 */
export async function refresh(account: Account): Promise<TrustChange> {
  const { trust } = account.state, root = trust.foundingRoot, held = trust.pin;
  const policyBefore = trust.policies.length, keyBefore = trust.escrowKeys.length;
  const policies = await published(account, POLICY, trust.policies);
  // Where a founding code named the root alone, a first policy that this person did not sign is believed with the escrow
  // key that names it: the root has signed that.
  let keys = root === undefined ? undefined : await published(account, KEY, trust.escrowKeys);
  await allOrNothing(trust, async () => {
    if (policies !== undefined) await acceptPolicies(account, policies, root === undefined || keys !== undefined);
    await followLogKeys(account);
    if (root === undefined) keys = await published(account, KEY, trust.escrowKeys);
    if (keys !== undefined && trust.policies.length > 0) await acceptEscrowKey(account, keys.history);
  });
  await account.save();
  return {
    pinWords: pinWords(trust.pin.length > 0 ? trust.pin : (trust.foundingRoot ?? EMPTY)),
    isTofu: trust.isTofu,
    isFounding: trust.foundingRoot !== undefined,
    isAnother: root !== undefined && trust.policies.length > 0 && held.length > 0 && !equal(trust.pin, held),
    policyBefore,
    policyNow: trust.policies.length,
    keyBefore,
    keyNow: trust.escrowKeys.length,
  };
}

/** Put back what was known unless all is done: whatever stops it, the next save would keep the half of it. */
async function allOrNothing(trust: Trust, work: () => Promise<void>): Promise<void> {
  const known = { ...trust };
  try {
    await work();
  } catch (error) {
    Object.assign(trust, known);
    throw error;
  }
}

/** Name what runs out within 30 days, or has, by the later of this machine's clock and the server's. */
export async function endings(account: Account): Promise<Ending[]> {
  const now = account.api.clock.latest(), { trust } = account.state;
  // Neither is there while a tenant is being founded.
  if (trust.policies.length === 0) return [];
  const found = [findEnding("escrow policy", (await account.trusted()).newest.policy.header, now)];
  if (trust.escrowKeys.length > 0)
    found.push(findEnding("escrow key", (await account.escrowKey()).statement.header, now));
  return found.filter((ending) => ending !== undefined);
}

/** Say what runs out, or has, and what a person can do. */
export function wordsOf(ending: Ending): [said: string, wayOut: string] {
  const day = new Date(ending.at * 1000).toISOString().slice(0, 10);
  const said = ending.hasEnded ? `ran out on ${day}` : `runs out on ${day}`;
  const nothing = ending.isOver
    ? "Nothing is deposited any more"
    : "Nothing is deposited 30 days after it has run out";
  return [
    `Your organisation's ${ending.what} ${said}.`,
    `Tell your officers to sign a new one. ${nothing}. What is in escrow stays, and can be released.`,
  ];
}

/** Reject with NotPossible when the policy or the escrow key ran out more than 30 days ago: nothing is sealed to it. */
export async function requireInForce(account: Account): Promise<void> {
  for (const ending of await endings(account))
    if (ending.isOver)
      throw new NotPossible(`Your organisation's ${ending.what} has run out, and its grace period with it.`, {
        wayOut: "Nothing is lost: what is deposited stays. Tell your officers to sign a new one.",
      });
}

/**
 * Take the newest escrow key if root and officers signed every version up to it. The one path for all keys.
 *
 * history: every version's statement, oldest first. Rejects with TrustRefused, and keeps what was accepted before.
 */
export async function acceptEscrowKey(account: Account, history: readonly Bytes[]): Promise<SignedTenantKey> {
  const known = account.state.trust.escrowKeys;
  const seen = known.length > 0 ? await account.escrowKey() : undefined;
  if (seen !== undefined && areEqual(history, known)) return seen;
  let keys: SignedTenantKey[];
  try {
    keys = await verifyEscrowKeys(history.map(readMany), { trusted: await account.trusted(), seen });
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw refusedAs("The escrow key is", error);
  }
  const newest = keys.at(-1);
  if (newest === undefined) throw new TrustRefused("The server shows no escrow key.", LOOK_INTO);
  account.state.trust.escrowKeys = [...history];
  return newest;
}

function refusedAs(what: string, cause: HoldfastError): TrustRefused {
  return new TrustRefused(`${what} not to be trusted: ${cause.message}.`, { ...LOOK_INTO, cause });
}

function areEqual(some: readonly Bytes[], others: readonly Bytes[]): boolean {
  return some.length === others.length && some.every((one, index) => equal(one, others[index] as Bytes));
}

/** Return a history, or undefined of a tenant that is being founded and has published nothing of it yet. */
async function published(account: Account, path: string, known: readonly Bytes[]): Promise<Published | undefined> {
  const { trust } = account.state;
  try {
    return await historyOf(account, path);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    // What was there once is missed; so is a policy that a pin names. A key comes after the policy: until it does, nothing
    // can be deposited, and nothing is believed for want of it.
    const hasNone =
      path === KEY || trust.foundingRoot !== undefined || (trust.rootKey.length > 0 && trust.policies.length === 0);
    if (error.code !== "escrow-off" || known.length > 0 || !hasNone) throw error;
    return undefined;
  }
}

/** Take the policies that lead from the pin; in a founding, from what was signed here or is vouched for by a key. */
async function acceptPolicies(account: Account, { history, answer }: Published, isVouched: boolean): Promise<void> {
  const { trust } = account.state, rootKey = answer.octets("root_key", undefined, { maximum: 128 });
  const withdrawals = answer.has("withdrawals") ? answer.manyOctets("withdrawals", { maximum: MOST_VERSIONS }) : [];
  const isKnown =
    areEqual(history, trust.policies) &&
    areEqual(withdrawals, trust.withdrawals ?? []) &&
    equal(rootKey, trust.rootKey);
  // What is kept here already, to the byte: `account.trusted` verifies it, once in a page.
  if (trust.pin.length > 0 && isKnown) return;
  let verified: TrustedTenant, { pin } = trust;
  try {
    if (trust.rootKey.length > 0 && !equal(trust.rootKey, rootKey))
      throw new TrustRefused("The server names another tenant root than the one pinned.", LOOK_INTO);
    requireRoot(account, rootKeyOf(rootKey));
    if (trust.foundingRoot !== undefined || (trust.isTofu && pin.length === 0)) {
      const founding = await verifyFounding(readMany(history[0] as Bytes), account.tenant);
      pin = rootPin(account.tenant, rootKeyOf(rootKey), founding.hash);
    }
    if (!equal(pin, trust.pin) && !isVouched) return;
    verified = await verifyTenant(history.map(readMany), {
      tenant: account.tenant,
      rootKey: rootKeyOf(rootKey),
      pin,
      isDevelopment: trust.isDevelopment,
      seen: trust.policies.length > 0 ? (await account.trusted()).policies.at(-1) : undefined,
      // What was believed before the rule of field 12 is believed after it.
      early: trust.policies.length,
      withdrawals: withdrawals.map(readMany),
    });
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw refusedAs("The policy is", error);
  }
  account.trustTenant(verified, { pin, rootKey, policies: history, withdrawals });
  trust.foundingRoot = undefined;
}

/**
 * Take the root's newest word on whose keys write and sign the logs, and hold the code's log key to it.
 *
 * Nothing is saved. Rejects with TrustRefused when it does not follow; what was known then stays.
 */
export async function followLogKeys(account: Account): Promise<void> {
  const { trust } = account.state;
  if (trust.rootKey.length === 0) return;
  let statement: Bytes;
  try {
    statement = (await account.api.get("audit/roles")).octets("statement", undefined, { maximum: MAX_STATEMENT });
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    if (trust.roles !== undefined)
      throw new TrustRefused("The server hides whose keys sign the log.", { ...LOOK_INTO, cause: error });
    return; // an installation older than role keys: the code's log key stands alone
  }
  if (trust.roles !== undefined && equal(statement, trust.roles)) return;
  let logKeys: string[];
  try {
    const of = { tenant: account.tenant, rootKey: rootKeyOf(trust.rootKey), seen: await account.roles() };
    logKeys = logKeysOf(account, (await verifyRoles(Sign1.parse(statement), of)).roles);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw refusedAs("The log's keys are", error);
  }
  trust.roles = statement;
  trust.logKeys = logKeys;
}

/** Return the verifier keys that hold, newest first; of a statement that names none, those pinned before. */
function logKeysOf(account: Account, roles: Roles): string[] {
  const named = new Set(roles.allOf(Role.LOG).map((key) => hex(key.encoded))), pinned = account.state.trust.logKeys;
  if (named.size === 0) return pinned;
  // A code may be older than the key of today, but not name one that the root never did: then either the code or the
  // server lies about whose log this is.
  if (!pinned.every((text) => named.has(hex(NoteVerifier.fromText(text).key.encoded))))
    throw new Untrusted("the enrolment code names a log key that the tenant root does not");
  const held = roles.of(Role.LOG).map((key) => new NoteVerifier(roles.origin, key).toText());
  if (held.length === 0) throw new Untrusted("no key signs the log any more");
  return held.reverse();
}

/**
 * Read every version's statement, page by page, oldest first; and the last answer.
 *
 * Rejects with AnswerRefused for a history without an end. Nothing of it is verified yet.
 */
async function historyOf(account: Account, path: string): Promise<Published> {
  const history: Bytes[] = [];
  for (;;) {
    // Versions count from 1 without a gap, or nothing of them will be believed.
    const query: Record<string, string> = history.length > 0 ? { after: String(history.length) } : {};
    const answer = await account.api.get(path, { query });
    const rows = answer.many("history", { maximum: MOST_VERSIONS });
    history.push(...rows.map((row) => row.octets("statement", undefined, { maximum: MAX_BLOB })));
    if (history.length > MOST_VERSIONS || (answer.flag("more") && rows.length === 0))
      throw new AnswerRefused(`The server's history under ${path} has no end.`);
    if (answer.flag("more")) continue;
    const newest = answer.octets("statement");
    // One that was published while these were read is in the history already, and the older one no news.
    if (!history.some((statement) => equal(statement, newest))) history.push(newest);
    return { history, answer };
  }
}
