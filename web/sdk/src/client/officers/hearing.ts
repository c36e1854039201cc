// SPDX-License-Identifier: Apache-2.0
/**
 * Three of a key's eight words, typed as heard from the person, at places that the officer's own profile picks.
 *
 * docs/spec/escrow.md "Case": what can be copied is not heard. So nothing here returns a word, and nobody chooses a place.
 * Does not ask anybody; whoever does asks `asked` first.
 */
import { wordlist } from "@scure/bip39/wordlists/english.js";
import { type Bytes, compare, utf8 } from "../../core/base/bytes.js";
import { label } from "../../core/base/encoding.js";
import { layout, openRow, sealRow, uint } from "../../core/base/rows.js";
import { asTyped, WORDS } from "../../core/base/words.js";
import { hkdf, sha256 } from "../../core/crypto/hashing.js";
import { WordsNeeded, WrongWords } from "../errors.js";
import type { Account } from "../profile/account.js";
import * as officerKeys from "./officer_keys.js";

/** Of eight: a guess is right once in 2^33, and a call stays short. */
export const WORDS_TO_HEAR = 3;
/** A word misheard, and misheard again. Whoever is wrong three times has another key before them than the person has. */
export const TRIES = 3;
const KIND = "words-heard";
const BYTES_A_PLACE = 4; // two places that draw the same number stand in their order: once in 2^27 keys
const WRONG =
  "Stop. Either the person read another screen, or the key in the case is not that person's.";
const SPENT =
  "Deny the case unless you know why. Another officer can call the person; a new case has new words.";

/** How often wrong words were typed for one key, and until when that is kept. Under SHA-256 of the words. */
interface Wrong {
  count: number;
  until: number;
}

const ROW = layout<Wrong>("count of wrong words", { count: uint(), until: uint() });

/**
 * Return at which three places (1 to 8, ascending) this officer is asked for a key's words.
 *
 * They follow from the officer's own secret and the key: nobody else knows them before the officer asks, and asking again
 * asks for the same ones. Rejects with ProfileError for a profile without officer's keys, WrongWords when this profile's
 * tries for the key are spent.
 */
export async function asked(account: Account, words: readonly string[]): Promise<number[]> {
  if ((await triesLeft(account, words)) <= 0)
    throw new WrongWords(`Wrong words were typed ${TRIES} times for this key. This profile takes no more for it.`, {
      wayOut: SPENT,
    });
  const ikm = await officerKeys.secretOf(account), info = label("words-heard");
  const drawn = hkdf({ salt: nameOf(words), ikm, info, length: BYTES_A_PLACE * WORDS }).reveal();
  const numberAt = (place: number): Bytes => drawn.slice(BYTES_A_PLACE * place, BYTES_A_PLACE * (place + 1));
  const byChance = [...Array(WORDS).keys()].sort((one, other) => compare(numberAt(one), numberAt(other)) || one - other);
  return byChance.slice(0, WORDS_TO_HEAR).map((place) => place + 1).sort((one, other) => one - other);
}

/** Return how many more times wrong words may be typed for this key in this profile. */
export async function triesLeft(account: Account, words: readonly string[]): Promise<number> {
  return TRIES - (await wrongFor(account, nameOf(words))).count;
}

/**
 * Reject with WrongWords unless `heard` has exactly the words at this profile's places, as typed, by place.
 *
 * until: UTC seconds when the case is over, and with it the count of wrong tries. A wrong word costs a try; a missing one,
 * and one that is in no list, cost none, since they could not be anybody's.
 */
export async function requireHeard(
  account: Account,
  words: readonly string[],
  { heard, until }: { readonly heard: ReadonlyMap<number, string>; readonly until: number },
): Promise<void> {
  const places = await asked(account, words);
  if (heard.size !== places.length || !places.every((place) => heard.has(place)))
    throw new WordsNeeded(`Words ${listed(places)} of the eight are needed, as heard from the person.`, {
      places,
      wayOut: "Call the person, and give what you hear: client.officers.approve()",
    });
  const typed = new Map(places.map((place) => [place, asTyped([heard.get(place) as string]).join("")]));
  const unknown = places.filter((place) => !wordlist.includes(typed.get(place) as string));
  if (unknown.length > 0)
    throw new WrongWords(`Not a word of the list, at place ${listed(unknown)}.`, {
      wayOut: "Have the person read it once more.",
    });
  if (places.every((place) => words[place - 1] === typed.get(place))) return;
  await account.store.transaction(async () => {
    const name = nameOf(words), { count } = await wrongFor(account, name);
    await account.store.put(KIND, name, sealRow(ROW, { count: count + 1, until }));
  });
  const left = await triesLeft(account, words);
  throw new WrongWords(`These are not the words of the key in this case. Nothing was signed; tries left: ${left}.`, {
    wayOut: WRONG,
  });
}

/** Forget the tries at words whose time is over: by a confirmed time, or a clock set ahead would give new ones. */
export async function prune(account: Account): Promise<void> {
  const now = account.api.clock.confirmed();
  if (now === undefined) return;
  for (const key of await account.store.keys(KIND))
    if ((await wrongFor(account, key)).until <= now) await account.store.delete(KIND, key);
}

async function wrongFor(account: Account, key: Bytes): Promise<Wrong> {
  const row = await account.store.get(KIND, key);
  return row === undefined ? { count: 0, until: 0 } : openRow(ROW, row);
}

function nameOf(words: readonly string[]): Bytes {
  return sha256(utf8(words.join(" ")));
}

/** Write places as people say them: 2, 5 and 7. */
function listed(places: readonly number[]): string {
  const first = places.slice(0, -1).join(", "), last = String(places.at(-1));
  return first === "" ? last : `${first} and ${last}`;
}
