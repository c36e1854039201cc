// SPDX-License-Identifier: Apache-2.0
/** Three words of eight, at places that this officer's profile picks: what is counted as wrong, and for how long. */
import { beforeEach, expect, test } from "vitest";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { eightWords } from "../../../src/core/base/words.js";
import { WordsNeeded, WrongWords } from "../../../src/client/errors.js";
import * as hearing from "../../../src/client/officers/hearing.js";
import { Account } from "../../../src/client/profile/account.js";
import { State } from "../../../src/client/profile/state.js";
import { MemoryStore } from "../../../src/client/profile/store.js";
import { Clock } from "../../../src/client/server/clock.js";
import { NOW, TENANT, URL } from "../../cast/server.js";

const keys = Array.from({ length: 12 }, (_, at) => eightWords(new Uint8Array(32).fill(at)));
const [WORDS] = keys as [string[]];
let now: number, carol: Account;

async function officer(fill: number, store = new MemoryStore({ tenant: TENANT, user: new Uint8Array(16).fill(fill) })): Promise<Account> {
  const account = new Account(store, new State()), seed = new SecretBytes(new Uint8Array(32).fill(fill));
  account.state.officer = { signingSeed: seed, sealingSeed: seed };
  await account.connect(URL, { clock: new Clock(() => now * 1000), fetch: async () => new Response(null, { status: 500 }) });
  return account;
}

const heardAt = (places: readonly number[], words = WORDS): Map<number, string> =>
  new Map(places.map((place) => [place, words[place - 1] as string]));
const wrongAt = (places: readonly number[]): Map<number, string> => new Map(places.map((place) => [place, "zoo"]));

beforeEach(async () => {
  now = NOW;
  carol = await officer(7);
});

test("places are the profile's own choice, and stay the same for one key", async () => {
  const dan = await officer(8), asked: number[][] = [], others: number[][] = [];
  for (const words of keys) {
    asked.push(await hearing.asked(carol, words));
    others.push(await hearing.asked(dan, words));
    expect(await hearing.asked(carol, words)).toEqual(asked.at(-1));
  }
  expect(asked).not.toEqual(others);
  expect(new Set(asked.flat())).toEqual(new Set([1, 2, 3, 4, 5, 6, 7, 8]));
  for (const places of asked) expect(places).toEqual([...new Set(places)].sort((one, other) => one - other).slice(0, 3));
});

test("the words at those places are heard as people type them, and none at others", async () => {
  const until = now + 60, places = await hearing.asked(carol, WORDS), right = heardAt(places);
  await hearing.requireHeard(carol, WORDS, { heard: right, until });
  const typed = new Map([...right].map(([place, word]) => [place, ` ${word.toUpperCase()} `]));
  await hearing.requireHeard(carol, WORDS, { heard: typed, until });
  const all = [1, 2, 3, 4, 5, 6, 7, 8], other = all.filter((place) => !places.includes(place)).slice(0, 3);
  for (const heard of [heardAt(other), heardAt(all), heardAt(places.slice(1)), new Map<number, string>()])
    await expect(hearing.requireHeard(carol, WORDS, { heard, until })).rejects.toThrow(WordsNeeded);
  expect(await hearing.triesLeft(carol, WORDS)).toBe(3);
});

test("a word of no list costs no try", async () => {
  const heard = heardAt(await hearing.asked(carol, WORDS)).set((await hearing.asked(carol, WORDS))[0] as number, "applle");
  await expect(hearing.requireHeard(carol, WORDS, { heard, until: now + 60 })).rejects.toThrow("Not a word of the list");
  expect(await hearing.triesLeft(carol, WORDS)).toBe(3);
});

test("three wrong tries are all for one key, until its case is over by a confirmed time", async () => {
  const places = await hearing.asked(carol, WORDS), until = now + 60;
  for (const left of [2, 1, 0])
    await expect(hearing.requireHeard(carol, WORDS, { heard: wrongAt(places), until })).rejects.toThrow(`left: ${left}`);
  await expect(hearing.requireHeard(carol, WORDS, { heard: heardAt(places), until })).rejects.toThrow(WrongWords);
  expect(await hearing.triesLeft(carol, keys[1] as string[])).toBe(3);
  now += 61;
  await hearing.prune(carol);
  expect(await hearing.triesLeft(carol, WORDS)).toBe(0); // nobody has confirmed the time
  carol.clock.confirm(now);
  await hearing.prune(carol);
  await hearing.requireHeard(carol, WORDS, { heard: heardAt(places), until });
});
