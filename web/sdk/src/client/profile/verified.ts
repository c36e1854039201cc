// SPDX-License-Identifier: Apache-2.0
/**
 * Account chains verified in this page: whoever is at entry n verifies what comes after, and nothing twice.
 *
 * docs/spec/protocol.md (verification from a pinned state) over `core/identity/chain`. Keeps nothing durably: a new page
 * verifies from the genesis once.
 */
import { type Bytes, equal, hex } from "../../core/base/bytes.js";
import { type ChainState, extend, verifyChain } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import type { SignedPolicy } from "../../core/identity/policy.js";

const RE_GENESIS = 8; // of docs/formats/statements.md: the one entry that stands on a policy

/** Every policy version that the reader holds, oldest first; asked for only when a chain needs one. */
export type Policies = () => Promise<readonly SignedPolicy[]>;

/** What a chain is read with. */
export interface Reading {
  readonly policies: Policies;
  /** As `extend` has it, for the fresh entries only. */
  readonly oldestPolicy?: number;
}

interface Seen {
  readonly entries: readonly Bytes[];
  readonly state: ChainState;
}

/** The newest verified state of each user's chain, beside the very bytes that it follows from. */
export class VerifiedChains {
  readonly #tenant: Bytes;
  readonly #seen = new Map<string, Seen>();

  /** tenant: 16 bytes. */
  constructor(tenant: Bytes) {
    this.#tenant = tenant;
  }

  /** Verify a chain: `known`, accepted before, and `fresh` on top of it. Rejects as `verifyChain` does. */
  async read(
    user: Bytes,
    known: readonly Bytes[],
    fresh: readonly Bytes[],
    { policies, oldestPolicy = 0 }: Reading,
  ): Promise<ChainState> {
    const tenant = this.#tenant;
    let state = known.length > 0 ? await this.#known(user, [...known], policies) : undefined;
    if (fresh.length > 0) {
      const entries = fresh.map((encoded) => Entry.parse(encoded)), held = await neededBy(entries, policies);
      state =
        state === undefined
          ? await verifyChain(entries, { tenant, user, policies: held })
          : await extend(state, entries, { policies: held, oldestPolicy });
      this.#seen.set(hex(user), { entries: [...known, ...fresh], state });
    }
    return state ?? verifyChain([], { tenant, user });
  }

  async #known(user: Bytes, known: readonly Bytes[], policies: Policies): Promise<ChainState> {
    const seen = this.#seen.get(hex(user));
    let state: ChainState;
    if (seen !== undefined && begins(known, seen.entries)) {
      const entries = known.slice(seen.entries.length).map((encoded) => Entry.parse(encoded));
      state = await extend(seen.state, entries, { policies: await neededBy(entries, policies) });
    } else {
      const entries = known.map((encoded) => Entry.parse(encoded));
      state = await verifyChain(entries, { tenant: this.#tenant, user, policies: await neededBy(entries, policies) });
    }
    this.#seen.set(hex(user), { entries: known, state });
    return state;
  }
}

function begins(known: readonly Bytes[], seen: readonly Bytes[]): boolean {
  return seen.length <= known.length && seen.every((entry, index) => equal(entry, known[index] as Bytes));
}

async function neededBy(entries: readonly Entry[], policies: Policies): Promise<readonly SignedPolicy[]> {
  return entries.some((entry) => entry.body.type === RE_GENESIS) ? policies() : [];
}
