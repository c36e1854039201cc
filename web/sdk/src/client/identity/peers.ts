// SPDX-License-Identifier: Apache-2.0
/**
 * A user's account chain as sessions need it, the same for oneself and for others: now, and as of an older head.
 *
 * docs/spec/protocol.md (peers follow the chain at each fetch) on `chains` and `contacts`. Verifies nothing by itself.
 */
import { bigEndian, type Bytes, equal, hex, numberOf } from "../../core/base/bytes.js";
import { HoldfastError } from "../../core/base/errors.js";
import { SecretBytes } from "../../core/base/secret.js";
import { type ChainState, stateAt } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { TrustRefused } from "../errors.js";
import type { Account } from "../profile/account.js";
import { dropGone } from "../sessions/sessions.js";
import * as chains from "./chains.js";
import { refresh as refreshContact } from "./contacts.js";

/** The server refuses a message for an older set of devices; this bounds how long one that does not is believed. */
export const FRESH_SECONDS = 300;
const FETCHED = "chain-fetched", NAMED = "chain-named";

/** The server shows less of a chain than its owner has named in a message that authenticated. */
export class HiddenChain extends TrustRefused {
  override get name(): string {
    return "HiddenChain";
  }
}

/**
 * Fetch what is new in a user's chain (16 bytes), drop sessions with devices that are gone, and return its state.
 *
 * Rejects with PeerChanged while a human has to confirm, and TrustRefused.
 */
export async function refresh(account: Account, user: Bytes): Promise<ChainState> {
  const state = equal(user, account.user) ? await chains.refresh(account) : await refreshContact(account, user);
  if (state === undefined) throw new TrustRefused("The server no longer shows this account's chain.");
  const now = account.api.clock.now();
  await account.store.transaction(async () => {
    await account.store.put(FETCHED, user, new SecretBytes(bigEndian(now, 8)));
    await dropGone(account.store, state);
  });
  return state;
}

/** Whether a user's chain was fetched at most five minutes ago, with all that they have named, and all confirmed. */
export async function isFresh(account: Account, user: Bytes): Promise<boolean> {
  const contact = account.state.contacts.get(hex(user));
  if (!equal(user, account.user) && (contact === undefined || contact.unconfirmed.length > 0)) return false;
  if ((await account.store.get(NAMED, user)) !== undefined) return false;
  const fetched = await account.store.get(FETCHED, user);
  if (fetched === undefined) return false;
  const age = account.api.clock.now() - numberOf(fetched.reveal());
  return 0 <= age && age < FRESH_SECONDS;
}

/** Return a user's chain, fetched at most five minutes ago. Rejects as `refresh` does. */
export async function current(account: Account, user: Bytes): Promise<ChainState> {
  if (!(await isFresh(account, user))) return refresh(account, user);
  const state = await chains.verify(account, user, entriesOf(account, user));
  // The own chain may have moved by this device's own hand.
  await dropGone(account.store, state);
  return state;
}

/** Return a user's chain as kept here, however old; undefined for one never met, or that something stands against. */
export async function findKnown(account: Account, user: Bytes): Promise<ChainState | undefined> {
  const contact = account.state.contacts.get(hex(user));
  if ((contact?.unconfirmed.length ?? 0) > 0 || (await account.store.get(NAMED, user)) !== undefined)
    return undefined;
  const entries = entriesOf(account, user);
  return entries.length > 0 ? chains.verify(account, user, entries) : undefined;
}

/** Have the chain fetched anew before it is used again. */
export async function expire(account: Account, user: Bytes): Promise<void> {
  await account.store.delete(FETCHED, user);
}

/** Take a user's word, from inside a message, that their chain has a head: the server has to show it from now on. */
export async function expect(account: Account, user: Bytes, head: Bytes): Promise<void> {
  if (knows(account, user, head)) return;
  await account.store.put(NAMED, user, new SecretBytes(head));
  await expire(account, user);
}

/** Return the users who have named a head of theirs that was not seen here yet. */
export async function listExpected(account: Account): Promise<Bytes[]> {
  return account.store.keys(NAMED);
}

/** Reject with TrustRefused while the server hides from this device a head that the user has named in a message. */
export async function requireShown(account: Account, user: Bytes): Promise<void> {
  const named = await account.store.get(NAMED, user);
  if (named === undefined) return;
  if (!knows(account, user, named.reveal()))
    throw new HiddenChain(
      "The server hides newer entries of this person's account, which they have named in a message.",
      {
        wayOut:
          "Nothing is sent to them meanwhile: a device of theirs may have been revoked. Try again later; if this goes " +
          "on, tell your officers.",
      },
    );
  await account.store.delete(NAMED, user);
}

/** Return the entries that are pinned of a user's chain, none when they were never met. */
export function entriesOf(account: Account, user: Bytes): readonly Bytes[] {
  if (equal(user, account.user)) return account.state.chain;
  return account.state.contacts.get(hex(user))?.entries ?? [];
}

/** Whether a head (32 bytes) is one that this device has seen of the user's chain. */
export function knows(account: Account, user: Bytes, head: Bytes): boolean {
  // From the newest on, which is named the most.
  return entriesOf(account, user).findLast((encoded) => equal(Entry.parse(encoded).hash, head)) !== undefined;
}

/** Return what the pinned chain said when `head` was its newest. Rejects with TrustRefused when it never was. */
export async function asOf(account: Account, user: Bytes, head: Bytes): Promise<ChainState> {
  const entries = entriesOf(account, user).map((encoded) => Entry.parse(encoded));
  try {
    return await stateAt(entries, head, { tenant: account.tenant, user, policies: await account.policies() });
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    const said = `A message rests on an account chain that the server does not show: ${error.message}.`;
    throw new TrustRefused(said, { cause: error });
  }
}
