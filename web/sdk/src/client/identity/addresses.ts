// SPDX-License-Identifier: Apache-2.0
/**
 * People by e-mail address: asked of the tenant's directory, and pinned to the person whom it first named.
 *
 * docs/formats/profile.md (`address`). Does not make sure of anybody: the directory is the server's word, and comparing
 * words with the person is what counts.
 */
import { addressKey } from "../../core/base/addresses.js";
import { type Bytes, compare, equal, utf8 } from "../../core/base/bytes.js";
import { Malformed } from "../../core/base/errors.js";
import { layout, octets, openRow, sealRow, uint } from "../../core/base/rows.js";
import { trimmed } from "../../core/base/typed.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { AddressChanged, damaged, Problem, Unreachable, WrongInput } from "../errors.js";
import type { Account } from "../profile/account.js";

/** How long an answer holds without being asked for again: as long as a chain does. */
export const FRESH_SECONDS = 300;
const PINNED = "address";
const DIRECTORY = "users";
const ENROLLEES = "enrolment-codes/person";

/** A person as an app names them: by the text of their id, or by e-mail address. */
export type Who = string;

/** Whom an address was found to be. */
export interface Found {
  /** A UUID's text. */
  readonly person: string;
  /** As it is compared. */
  readonly address: string;
  /** Whether it was pinned by this very look-up. */
  readonly isNew: boolean;
}

interface Pin {
  readonly user: Bytes;
  readonly askedAt: number;
}

// Bytes: an id and a time, with room.
const PIN = layout<Pin>("pinned address", { user: octets(16), askedAt: uint() }, { rowSize: 256 });

/** Return the person (a UUID's text) with an id or an e-mail address. Rejects as `find` does. */
export async function personOf(account: Account, who: Who): Promise<string> {
  return who.includes("@") ? (await find(account, who)).person : identifier(who);
}

/**
 * Return whom an address is of, and pin it to them when it is asked for the first time.
 *
 * forEnrolment: also people who were invited and have not come yet, for whoever may issue codes. A pinned address is asked
 * for again after five minutes, and holds while the server cannot be reached. Rejects with AddressChanged when it is
 * another person's now, or nobody's; WrongInput for an address that the directory does not know, or that is none.
 */
export async function find(
  account: Account,
  address: string,
  { forEnrolment = false }: { readonly forEnrolment?: boolean } = {},
): Promise<Found> {
  const key = keyOf(address), pinned = await pinnedAt(account, key), now = account.api.clock.now();
  const held = pinned && { person: uuidText(pinned.user), address: key, isNew: false };
  if (pinned && 0 <= now - pinned.askedAt && now - pinned.askedAt < FRESH_SECONDS) return held as Found;
  let user: Bytes | undefined;
  try {
    user = await asked(account, key, forEnrolment);
  } catch (error) {
    if (error instanceof Unreachable && held !== undefined) return held;
    throw error;
  }
  if (pinned && !(user && equal(user, pinned.user))) throw changed(key, pinned.user, user);
  if (user === undefined)
    throw new WrongInput(`Nobody whom you can reach has the address ${key}.`, {
      wayOut: "Check how it is written. Somebody who was invited is found once they are active.",
    });
  await account.store.put(PINNED, utf8(key), sealRow(PIN, { user, askedAt: now }));
  return { person: uuidText(user), address: key, isNew: pinned === undefined };
}

/** Return an e-mail address as addresses are compared. Throws WrongInput for what is none. */
export function keyOf(address: string): string {
  try {
    return addressKey(trimmed(address));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new WrongInput("That is not one e-mail address.", { wayOut: "Write it whole: bob@acme.test", cause: error });
  }
}

/**
 * Reject with AddressChanged when an address is pinned here, and to another person than the one the server now names.
 *
 * person: a UUID's text, or undefined for nobody.
 */
export async function requirePinned(account: Account, key: string, person: string | undefined): Promise<void> {
  const pinned = await pinnedAt(account, key), user = person === undefined ? undefined : uuidBytes(person);
  if (pinned && !(user && equal(user, pinned.user))) throw changed(key, pinned.user, user);
}

/** Return every address that is pinned, and to whom (a UUID's text), by address. The server is not asked. */
export async function listPinned(account: Account): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of (await account.store.keys(PINNED)).sort(compare)) {
    const key = new TextDecoder().decode(name), pinned = await pinnedAt(account, key);
    if (pinned) found.set(key, uuidText(pinned.user));
  }
  return found;
}

/** Forget whom an address was pinned to, so that the directory's next answer is taken. Rejects with WrongInput. */
export async function forget(account: Account, address: string): Promise<void> {
  const key = keyOf(address);
  if ((await account.store.get(PINNED, utf8(key))) === undefined)
    throw new WrongInput(`The address ${key} is pinned to nobody.`);
  await account.store.delete(PINNED, utf8(key));
}

function identifier(text: string): string {
  try {
    return uuidText(uuidBytes(text));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new WrongInput("A person is named by their id or their e-mail address.", {
      wayOut: "Write an address whole: bob@acme.test",
      cause: error,
    });
  }
}

async function pinnedAt(account: Account, key: string): Promise<Pin | undefined> {
  const row = await account.store.get(PINNED, utf8(key));
  try {
    return row && openRow(PIN, row);
  } catch (error) {
    if (error instanceof Malformed) throw damaged(error);
    throw error;
  }
}

async function asked(account: Account, key: string, forEnrolment: boolean): Promise<Bytes | undefined> {
  const [path, name] = forEnrolment ? [ENROLLEES, "person_id"] : [DIRECTORY, "user_id"];
  try {
    return (await account.api.get(path, { query: { email: key } })).identifier(name);
  } catch (error) {
    if (error instanceof Problem && error.code === "not-found") return undefined;
    throw error;
  }
}

function changed(key: string, pinned: Bytes, user: Bytes | undefined): AddressChanged {
  const said = user ? `now names another person for it: ${uuidText(user)}` : "knows nobody by it any more";
  return new AddressChanged(
    `The address ${key} was ${uuidText(pinned)} for this profile, and the directory ${said}.`,
    {
      wayOut:
        "To go on with the person of before, name them by their id. If you know that the address has changed hands: " +
        `client.contacts.forgetAddress("${key}"), and compare words with the person whom it then finds.`,
    },
  );
}
