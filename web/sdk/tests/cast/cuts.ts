// SPDX-License-Identifier: Apache-2.0
/**
 * A client that is cut off at a chosen moment: at a request, at its answer, at a commit, or just after one.
 *
 * Stands for a tab that is killed: what is not in the store is forgotten, and the account is opened anew from it.
 */
import type { Account } from "../../src/client/profile/account.js";
import { type Change, MemoryStore } from "../../src/client/profile/store.js";
import type { Members } from "./members.js";

/** The tab was killed. No error of the client's: nothing may catch it. */
export class Cut extends Error {}

/** Counts the moments at which a client can be cut, and cuts at one: `at` is 1 for the first, 0 for never. */
export class Moments {
  count = 0;

  constructor(readonly at = 0) {}

  passOne(): void {
    this.count += 1;
    // A tab that is gone does nothing more, whatever of it would still run here.
    if (this.at > 0 && this.count >= this.at) throw new Cut();
  }
}

/** A store that may be cut before a commit, which is then undone, and after one, which then stands. */
export class CutStore extends MemoryStore {
  moments = new Moments();

  protected override async commit(changes: readonly Change[]): Promise<void> {
    this.moments.passOne();
    await super.commit(changes);
  }

  override async transaction<T>(work: () => Promise<T>): Promise<T> {
    const isOutermost = !this.isOpen, done = await super.transaction(work);
    if (isOutermost) this.moments.passOne();
    return done;
  }
}

/** Return the account as a new page finds it: all that it knows is in the store. */
export async function reopened(world: Members, account: Account, moments: Moments): Promise<Account> {
  const { store } = account;
  if (!(store instanceof CutStore)) throw new TypeError("an account of this kind has a store that can be cut");
  store.moments = new Moments();
  const fresh = await world.opened(store, async (url, init) => {
    moments.passOne();
    const answer = await world.server.fetch(url, init);
    moments.passOne();
    return answer;
  });
  store.moments = moments;
  return fresh;
}

/** A world as it is before an act: who acts, and the others, whom the check asks. */
export interface Scene {
  readonly world: Members;
  readonly account: Account;
  readonly others: readonly Account[];
}

/**
 * Do an act in a fresh scene each time, cut at one moment later each time and then done again to its end.
 *
 * step: every how manieth moment is tried, for acts of many. Returns how many moments there are.
 */
export async function sweep(
  scene: () => Promise<Scene>,
  act: (account: Account) => Promise<void>,
  check: (scene: Scene) => Promise<void>,
  step = 1,
): Promise<number> {
  for (let at = 1; at < 500; at += step) {
    const one = await scene(), moments = new Moments(at);
    let isCut = false;
    try {
      await act(await reopened(one.world, one.account, moments));
    } catch (error) {
      // The network's own layer wraps what it throws.
      if (moments.count < at) throw error;
      isCut = true;
    }
    if (isCut) await act(await reopened(one.world, one.account, new Moments()));
    await check(one);
    if (!isCut) return at - 1;
  }
  throw new Error("the act never came to its end");
}
