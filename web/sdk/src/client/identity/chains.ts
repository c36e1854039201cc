// SPDX-License-Identifier: Apache-2.0
/**
 * Account chains as the server shows them: fetched, verified on top of what is known, and the own one extended.
 *
 * docs/spec/protocol.md (account chains) for their owner, and the stale-head rule of the REST API. Does not decide whose
 * chain is to be believed: `contacts` pins other people's, `rotation` writes new keys.
 */
import { type Bytes, equal, hex } from "../../core/base/bytes.js";
import { b64u, decode, encode, Fields, mapOf } from "../../core/base/encoding.js";
import { Forked, HoldfastError } from "../../core/base/errors.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { type ChainState, extend, headOf, versionInForce } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { MAX_U32 } from "../../core/signed/payloads.js";
import { AnswerRefused, ClientError, Problem, RaceLost, TrustRefused } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import { retry, staleProblem } from "../waiting.js";
import { Contradiction, keep as keepEvidence } from "./evidence.js";
import * as keyLog from "./key_log.js";
import { ChainBehind, comeBack, offer } from "./lost_chains.js";
import { isHealing } from "./restored.js";

/** The problem code of an upload that does not follow the newest entry. */
export const STALE = "chain-stale";
/** The problem code of a request by a device that the server does not know. */
export const UNKNOWN = "unauthenticated";
/** What is said of a race that was lost every time. */
export const KEEPS_WRITING = "Another of your devices keeps writing to your account.";
/** Entries of a chain that are read: more than twice what a server takes of one. */
export const MOST_ENTRIES = 10_000;
const FLOOR = "chain-policy";
const FORKED =
  "Both entries are kept on this device as evidence. Show them to your officers: somebody writes under a key " +
  "that was taken or replaced.";

/** A key of this account signed two histories. Both entries are kept as evidence. */
export class ForkSeen extends TrustRefused {
  override get name(): string {
    return "ForkSeen";
  }
}

/** A chain that was followed: what it says, and its entries after those that were known. */
export interface Followed {
  readonly state: ChainState;
  readonly fresh: readonly Bytes[];
}

/**
 * Return the chain that the server has, verified, and its entries after `known`; undefined without a chain.
 *
 * Page by page, each verified before the next one is asked for: a server that makes entries up is found out at the first
 * of them, and has filled nothing. What is appended meanwhile is read as well. Rejects as `verify` does, and with
 * TrustRefused when the server has fewer entries than are known, or others: it was rolled back, hides some, or shows this
 * client another history than before; ForkSeen when that history is signed as well; AnswerRefused for a chain without an
 * end. A re-genesis among the fresh entries is held to `requireDated` of the key log as well.
 */
export async function follow(account: Account, user: Bytes, known: readonly Bytes[]): Promise<Followed | undefined> {
  const fresh: Bytes[] = [];
  let count = 0, more = true, state: ChainState | undefined;
  while (more) {
    const page = await fetchPage(account, user, [...known, ...fresh]);
    if (page === undefined) return undefined;
    fresh.push(...page.entries);
    ({ more } = page);
    // The first half of a revocation does not stand alone: it waits for the page that has the other half.
    const ready = more ? standingOf(fresh) : fresh.length;
    if (ready > count || !more) {
      state = await verify(account, user, [...known, ...fresh.slice(0, count)], fresh.slice(count, ready));
      count = ready;
    }
  }
  for (const entry of fresh.map((encoded) => Entry.parse(encoded)))
    if (entry.body.type === 8) await keyLog.requireDated(account, user, entry);
  return { state: state as ChainState, fresh };
}

/** Return how many entries there are before the revocations at the end of a page. */
function standingOf(entries: readonly Bytes[]): number {
  let count = entries.length;
  try {
    while (count > 0 && Entry.parse(entries[count - 1] as Bytes).body.type === 3) count -= 1;
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error; // else said by `verify`, to which this entry goes
  }
  return count;
}

interface Page {
  readonly entries: readonly Bytes[];
  readonly more: boolean;
}

function chainPath(user: Bytes): string {
  return `users/${uuidText(user)}/chain`;
}

/** Return a page of the entries after `known`, and whether there are more; undefined when there is no chain at all. */
async function fetchPage(account: Account, user: Bytes, known: readonly Bytes[]): Promise<Page | undefined> {
  let answer: Answer;
  try {
    answer = await account.api.get(chainPath(user), { query: after(known.length) });
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    if (known.length === 0) return undefined;
    throw new ChainBehind(0, { cause: error });
  }
  const entries = answer.manyOctets("entries"), more = answer.flag("more"), seq = answer.number("seq");
  const has = known.length + entries.length;
  if (seq >= MOST_ENTRIES || (more && entries.length === 0))
    throw new AnswerRefused("The server's account chain has no end.");
  if (has === 0) return undefined;
  if (more && seq >= has) return { entries, more: true };
  if (seq !== has - 1)
    throw await explainContradiction(
      account, user, known, "The server shows a chain of another length than it has shown before.",
    );
  let newest: Bytes;
  try {
    newest = Entry.parse([...known, ...entries].at(-1) as Bytes).hash;
  } catch (error) {
    throw refusal(error);
  }
  if (!equal(answer.octets("head", 32), newest))
    throw await explainContradiction(
      account, user, known, "The server shows a chain with another head than the entries lead to.",
    );
  return { entries, more: false };
}

/** Return the refusal of a chain that does not hold; what is no refusal of the core stays as it is. */
function refusal(error: unknown): unknown {
  if (!(error instanceof HoldfastError)) return error;
  return new TrustRefused(`The account chain is not to be trusted: ${error.message}.`, { cause: error });
}

/** Return the query for what comes after `count` entries. */
function after(count: number): Record<string, string> {
  return count > 0 ? { after: String(count - 1) } : {};
}

/**
 * Read the chain that the server shows now, as far as it is known, and keep the first entry that excludes one.
 *
 * Returns ChainBehind where it shows none that does, but fewer: it was put back from a backup, or hides them.
 */
async function explainContradiction(
  account: Account,
  user: Bytes,
  known: readonly Bytes[],
  reason: string,
): Promise<TrustRefused> {
  let seen = 0, isSame = true, more = true;
  try {
    const state = await account.verified.read(user, known, [], { policies: () => account.policies() });
    while (more && seen < known.length) {
      const answer = await account.api.get(chainPath(user), { query: after(seen) });
      const shown = answer.manyOctets("entries");
      for (const [at, theirs] of shown.slice(0, known.length - seen).entries()) {
        const ours = known[seen + at] as Bytes, other = Entry.parse(theirs);
        if (equal(other.hash, Entry.parse(ours).hash)) continue;
        isSame = false;
        try {
          // What no key of the chain has signed is no evidence, and does not raise Forked here.
          await extend(state, [other]);
        } catch (error) {
          if (error instanceof Forked) return await keepFork(account, user, ours, theirs, error);
          throw error;
        }
      }
      seen += shown.length;
      more = shown.length > 0 && answer.flag("more");
    }
  } catch (error) {
    if (!(error instanceof ClientError || error instanceof HoldfastError)) throw error;
    return new TrustRefused(reason);
  }
  return isSame && seen < known.length ? new ChainBehind(seen) : new TrustRefused(reason);
}

async function keepFork(
  account: Account,
  user: Bytes,
  ours: Bytes,
  theirs: Bytes,
  cause: unknown,
): Promise<ForkSeen> {
  await keepEvidence(account, Contradiction.CHAIN_FORK, { user, ours, theirs });
  return new ForkSeen("Two histories of one account are signed by its keys.", { wayOut: FORKED, cause });
}

/**
 * Verify a chain of this tenant: `known`, accepted before, and what is `fresh` on top of it.
 *
 * Rejects with TrustRefused; ForkSeen, after keeping both sides, when a fresh entry contradicts a known one under a key of
 * the chain.
 */
export async function verify(
  account: Account,
  user: Bytes,
  known: readonly Bytes[],
  fresh: readonly Bytes[] = [],
): Promise<ChainState> {
  try {
    const oldestPolicy = await floor(account, user);
    return await account.verified.read(user, known, fresh, { policies: () => account.policies(), oldestPolicy });
  } catch (error) {
    const both = error instanceof Forked ? await contradiction(account, user, known, fresh) : undefined;
    if (both !== undefined) throw await keepFork(account, user, ...both, error);
    throw refusal(error);
  }
}

/** Return the entry accepted before, and the fresh one that excludes it. */
async function contradiction(
  account: Account,
  user: Bytes,
  known: readonly Bytes[],
  fresh: readonly Bytes[],
): Promise<[ours: Bytes, theirs: Bytes] | undefined> {
  const entries = [...known, ...fresh];
  for (let count = Math.max(1, known.length); count < entries.length; count++) {
    const theirs = entries[count] as Bytes;
    try {
      await account.verified.read(user, entries.slice(0, count), [theirs], { policies: () => account.policies() });
    } catch (error) {
      if (error instanceof Forked) return [entries[Math.min(Entry.parse(theirs).seq, count - 1)] as Bytes, theirs];
      // The first half of a revocation does not stand alone, yet what follows it may be the fork.
      if (!(error instanceof HoldfastError)) throw error;
    }
  }
  return undefined;
}

/**
 * Offer the server, which has only `has` entries of somebody's chain, what it lacks; follow what it shows then.
 *
 * Returns undefined where it still has fewer than are known here: nothing that is pinned is let go, and what is known goes
 * on. Rejects with ChainBehind where no officers have accepted a backup, and as `follow` does.
 */
export async function giveBack(
  account: Account,
  user: Bytes,
  known: readonly Bytes[],
  has: number,
): Promise<Followed | undefined> {
  try {
    if (!(await offer(account, user, known, has)) && !(await isHealing(account))) throw new ChainBehind(has);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
  try {
    return await follow(account, user, known);
  } catch (error) {
    if (error instanceof ChainBehind) return undefined;
    throw error;
  }
}

/**
 * Remember that `user`'s chain was the newest while today's policy was in force.
 *
 * A re-genesis that comes later and names an older policy is refused: its officers may have left since. The caller has just
 * been told by the server that there is nothing newer.
 */
export async function confirmNewest(account: Account, user: Bytes): Promise<void> {
  // A server that is ahead for a moment must not have a version remembered that is not in force yet.
  const version = versionInForce(await account.policies(), account.api.clock.earliest());
  if (version > (await floor(account, user)))
    await account.store.put(FLOOR, user, new SecretBytes(encode(mapOf({ 1: version }))));
}

async function floor(account: Account, user: Bytes): Promise<number> {
  const kept = await account.store.get(FLOOR, user);
  return kept ? Fields.of(decode(kept.reveal()), "chain policy", [1]).uint(1, { maximum: MAX_U32 }) : 0;
}

/**
 * Bring the own chain up to date, and return it; undefined before its genesis.
 *
 * Entries that this device did not make are kept for `foreignEntries` of the key log. Rejects with TrustRefused when the
 * server's chain does not continue the one known (shorter, forked, forged), or is not in the key log. Where a backup was
 * put back that officers accepted, what the server lost of it is given back first.
 */
export async function refresh(account: Account): Promise<ChainState | undefined> {
  const known = account.state.chain, { user } = account;
  let followed: Followed | undefined;
  try {
    followed = await follow(account, user, known);
  } catch (error) {
    const isGivenBack =
      error instanceof ChainBehind
        ? await offer(account, user, known, error.has)
        : error instanceof Problem && error.code === UNKNOWN && (await comeBack(account));
    if (!isGivenBack) throw error;
    followed = await follow(account, user, known);
  }
  if (followed === undefined) return undefined;
  const { state, fresh } = followed;
  await keyLog.anchor(account, state);
  const { device } = account.state;
  const isActive = device !== undefined && state.devices.has(hex(device.id));
  await account.store.transaction(async () => {
    await confirmNewest(account, user);
    if (fresh.length === 0 && (device === undefined || device.isActive === isActive)) return;
    await keyLog.watch(account, known.length, fresh);
    account.state.chain = [...known, ...fresh];
    if (device !== undefined) device.isActive = isActive;
    await account.save();
  });
  return state;
}

/** Extend the own chain by what `write` makes of its newest state, again when another device was faster. */
export async function append(
  account: Account,
  write: (state: ChainState) => Promise<readonly Entry[]>,
): Promise<ChainState> {
  const attempt = async (): Promise<ChainState> => {
    const state = await refresh(account);
    if (state === undefined) throw new TrustRefused("The server no longer shows this account's chain.");
    const entries = await write(state);
    if (entries.length === 0) return state;
    await requireExtends(account, state, entries);
    await upload(account, entries, headOf(state));
    return (await refresh(account)) as ChainState;
  };
  return retry(attempt, { stale: STALE, lost: staleProblem(STALE, KEEPS_WRITING) });
}

/**
 * Check entries of one's own as every peer will check them, before anything is sent; returns what they lead to.
 *
 * Rejects with RaceLost when they do not follow: above all on a device whose identity key was rotated elsewhere.
 */
export async function requireExtends(
  account: Account,
  state: ChainState,
  entries: readonly Entry[],
): Promise<ChainState> {
  const policies = await account.policies(), now = account.api.clock.now();
  try {
    return await extend(state, entries, { policies, oldestPolicy: versionInForce(policies, now) });
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new RaceLost(`What this device would write does not follow from your account chain: ${error.message}.`, {
      wayOut: "Another of your devices may have changed your keys: call client.maintain(), then try again.",
      cause: error,
    });
  }
}

/** Send entries that were verified here; no head stands for an empty chain. Rejects with Problem `chain-stale` in a race. */
export async function upload(
  account: Account,
  entries: readonly Entry[],
  expectedHead: Bytes | undefined,
): Promise<Answer> {
  await keyLog.rememberMade(account, entries);
  const document = {
    entries: entries.map((entry) => b64u(entry.encode())),
    expected_head: expectedHead === undefined ? null : b64u(expectedHead),
  };
  return account.api.post(chainPath(account.user), document);
}
