// SPDX-License-Identifier: Apache-2.0
/**
 * Other people's accounts: pinned at first sight, followed entry by entry, re-trusted only by a human.
 *
 * docs/spec/protocol.md (account chains) for peers. Does not claim bundles; `bundles` does, on top of the chain that is
 * verified here.
 */
import { type Bytes, EMPTY, hex } from "../../core/base/bytes.js";
import * as typed from "../../core/base/typed.js";
import { uuidText } from "../../core/base/uuids.js";
import { areWords } from "../../core/base/words.js";
import { ownNumber, pairNumber } from "../../core/crypto/safety.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { NotPossible, PeerChanged, WrongWords } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { Contact } from "../profile/state.js";
import { drop, dropGone } from "../sessions/sessions.js";
import * as chains from "./chains.js";
import * as keyLog from "./key_log.js";
import type { Anchor } from "./key_log.js";
import { ChainBehind } from "./lost_chains.js";

/** What stands before the key in a fingerprint: the same label on both people's screens. */
export const IDENTITY = "aik";

/** What this client keeps of a person. */
export interface KnownContact {
  /** A UUID's text. */
  readonly user: string;
  readonly state: ChainState;
  /** Two people compared, and nothing began anew since. */
  readonly isVerified: boolean;
  /** Their account was begun again and waits for a human's yes. */
  readonly isWaiting: boolean;
  /** Where their head stands in the key log. */
  readonly anchor: Anchor;
}

/** Return the 8 words of an account's identity key, for two people to compare. */
export function identityWords(state: ChainState): string[] {
  return state.aik.fingerprint(IDENTITY);
}

/**
 * Bring a contact's chain up to date and return it; a contact never seen before is pinned as met.
 *
 * Sessions with devices that are theirs no longer are dropped. Rejects with PeerChanged while a re-genesis waits for a
 * human's yes; TrustRefused for a chain that is shorter than, or differs from, what is pinned, or that the key log does not
 * hold. A server that was put back from a backup is offered what it lost, and what is pinned goes on.
 */
export async function refresh(account: Account, user: Bytes): Promise<ChainState> {
  const kept = account.state.contacts.get(hex(user));
  const contact: Contact = kept ?? { user, entries: [], unconfirmed: [], suite: 0, verified: EMPTY };
  const known = [...contact.entries, ...contact.unconfirmed];
  let followed: chains.Followed | undefined, isBehind = false;
  try {
    followed = await chains.follow(account, user, known);
  } catch (error) {
    if (!(error instanceof ChainBehind)) throw error;
    followed = await chains.giveBack(account, user, known, error.has);
    isBehind = followed === undefined;
    followed ??= { state: await chains.verify(account, user, known), fresh: [] };
  }
  if (followed === undefined)
    throw new NotPossible("That person has no account yet.", { wayOut: "Ask the person to enrol a device." });
  const { state, fresh } = followed;
  if (!isBehind) await keyLog.anchor(account, state);
  const isBegunAgain = contact.entries.length > 0 && fresh.some((encoded) => Entry.parse(encoded).body.type === 8);
  await account.store.transaction(async () => {
    if (!isBehind) await chains.confirmNewest(account, user);
    if (contact.unconfirmed.length > 0 || isBegunAgain) {
      contact.unconfirmed.push(...fresh);
      contact.verified = EMPTY;
      await drop(account.store, user);
    } else {
      contact.entries.push(...fresh);
      await dropGone(account.store, state);
    }
    if (fresh.length > 0 || kept === undefined) {
      account.state.contacts.set(hex(user), contact);
      await account.save();
    }
  });
  if (contact.unconfirmed.length > 0)
    throw new PeerChanged(
      "This account was begun again after a recovery. To you it is another person until you have checked.",
      {
        wayOut:
          "Call the person, have the 8 words of the new key read to you, then: " +
          `client.contacts.confirm("${uuidText(user)}", words)`,
      },
    );
  return state;
}

/**
 * Pin the account that a contact began again, under the words that the person read out: it is verified by that.
 *
 * Rejects with WrongWords when they are not those of the key the server shows: somebody else holds it.
 */
export async function confirm(
  account: Account,
  user: Bytes,
  { words }: { readonly words: readonly string[] },
): Promise<ChainState> {
  const contact = account.state.contacts.get(hex(user));
  if (contact === undefined || contact.unconfirmed.length === 0)
    throw new NotPossible("Nothing waits for a confirmation from you.");
  const state = await chains.verify(account, user, [...contact.entries, ...contact.unconfirmed]);
  if (!areWords(identityWords(state), words))
    throw new WrongWords("These are not the words of the new key. Trust nothing under it, and tell your officers.");
  contact.entries.push(...contact.unconfirmed);
  contact.unconfirmed = [];
  contact.verified = headOf(state);
  await account.save();
  return state;
}

/**
 * Return the 12 groups that this person and a contact both see, if nobody stands between them.
 *
 * It follows both identity keys in force, so that it also shows a fork; compared on one day, it differs after either
 * rotated, and the mark of `verify` outlives that, since rotations are followed by their signatures.
 */
export async function safetyNumber(account: Account, user: Bytes): Promise<string[]> {
  const own = await account.chain(), state = await refresh(account, user);
  return pairNumber(ownNumber(own), ownNumber(state));
}

/**
 * Mark a contact as verified by the safety number that the contact read out or showed.
 *
 * Rejects with WrongWords when it is not the one seen here: somebody stands between, or one of the two has to refresh.
 */
export async function verify(
  account: Account,
  user: Bytes,
  { number }: { readonly number: readonly string[] },
): Promise<ChainState> {
  if (typed.ungrouped(number.join("")) !== (await safetyNumber(account, user)).join(""))
    throw new WrongWords(
      "This is not the safety number seen here. Ask the person to refresh and to read it again; if it still differs, " +
        "trust nothing that comes under that name.",
    );
  const contact = account.state.contacts.get(hex(user)) as Contact;
  const state = await chains.verify(account, user, contact.entries);
  contact.verified = headOf(state);
  await account.save();
  return state;
}

/** Return every contact as kept, without asking the server. */
export async function listContacts(account: Account): Promise<KnownContact[]> {
  const found: KnownContact[] = [];
  for (const contact of account.state.contacts.values()) {
    const state = await chains.verify(account, contact.user, contact.entries);
    found.push({
      user: uuidText(contact.user),
      state,
      isVerified: contact.verified.length > 0,
      isWaiting: contact.unconfirmed.length > 0,
      anchor: await keyLog.standing(account, state),
    });
  }
  return found;
}
