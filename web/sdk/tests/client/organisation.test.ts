// SPDX-License-Identifier: Apache-2.0
/** Acts of administration against a server that loses answers, lies, and shows secrets. */
import { describe, expect, test } from "vitest";
import type { Bytes } from "../../src/core/base/bytes.js";
import { AddressChanged, AnswerRefused, Problem, Unreachable, WrongInput } from "../../src/client/errors.js";
import * as organisation from "../../src/client/organisation.js";
import * as addresses from "../../src/client/identity/addresses.js";
import type { Account } from "../../src/client/profile/account.js";
import { accountOf, type Answering, refusal, Scripted } from "./scripted.js";

const OLIVIA = { tenant: new Uint8Array(16).fill(1) as Bytes, user: new Uint8Array(16).fill(2) as Bytes };
const BOB = "0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b", MALLORY = "0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e";
const FILE = "0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f", WAITING = "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a";
const TIME = "2026-11-24T10:00:00Z", SUSPEND = "POST organisation/acts/person-suspend";
const WORDS = {
  title: "Suspend Bob", lines: ["Bob cannot sign in."], facts: [["Role", "officer"]], warnings: ["Nobody can take this back."],
  needs_two: false, expires_at: TIME, token: "token of this look",
};
const DONE = {
  text: "It is done.", undo: "Do it again.", subject_id: BOB, once_label: "", once: "", pending_id: null, seconds: [] as string[],
};
const PENDING = {
  id: WAITING, act: "person-factors", title: "New factors", subject_id: BOB, proposer_id: MALLORY, proposed_at: TIME,
  expires_at: TIME,
};
const person = (id: string, state: string): object => ({
  id, name: "Bob", email: "bob@acme.test", role: "member", state, active_since: null,
});

async function made(answers: Record<string, Answering>): Promise<[Account, Scripted]> {
  const scripted = new Scripted({ [`${SUSPEND}/words`]: () => WORDS, ...answers });
  return [await accountOf(scripted, OLIVIA), scripted];
}

const looked = (account: Account): Promise<organisation.Look> => organisation.look(account, "person-suspend", BOB, {});

describe("an act", () => {
  test("is looked at, and done with a code", async () => {
    const [account, scripted] = await made({ [SUSPEND]: () => ({ ...DONE, once_label: "The link", once: "https://x/1" }) });
    const seen = await organisation.look(account, "person-suspend", BOB, { until: "never" });
    expect([seen.words.title, seen.words.facts, seen.words.warnings]).toEqual([WORDS.title, WORDS.facts, WORDS.warnings]);
    const done = await organisation.perform(account, seen, "123456");
    expect([done.text, done.undo, done.subject, done.pending]).toEqual(["It is done.", "Do it again.", BOB, undefined]);
    expect(scripted.asked.at(-1)?.document).toEqual({
      subject_id: BOB, given: { until: "never" }, token: "token of this look", code: "123456",
    });
    expect(new TextDecoder().decode(done.once?.reveal())).toBe("https://x/1");
    expect(done.once?.toString()).not.toContain("https");
    expect(seen.words.token.toString()).not.toContain("look");
  });

  test.each(["a\nb", "a\u001b[2Jb", "\u202eb", "grüß"])("whose secret is %j is refused", async (once) => {
    const [account] = await made({ [SUSPEND]: () => ({ ...DONE, once }) });
    const seen = await looked(account);
    await expect(organisation.perform(account, seen, "123456")).rejects.toThrow("plain ASCII");
  });

  test.each<[string, () => unknown]>([
    ["is lost on the way", () => new TypeError("lost")],
    ["is lost by a proxy", () => refusal(502, "bad-gateway")],
    ["does not come in time", () => refusal(504, "gateway-timeout")],
  ])("is asked for once when its answer %s", async (_, answer) => {
    const [account, scripted] = await made({ [SUSPEND]: answer });
    const lost = await organisation.perform(account, await looked(account), "123456").catch((error: unknown) => error);
    expect(lost).toBeInstanceOf(Unreachable);
    expect((lost as Unreachable).message).toContain("may be done, or not");
    expect((lost as Unreachable).wayOut).toContain("Look whether it was done");
    expect(scripted.times(SUSPEND)).toBe(1);
  });

  test.each([[409, "conflict"], [503, "hsm-unavailable"], [422, "step-up-refused"]])(
    "that is refused with %i %s is not asked for again",
    async (status, code) => {
      const [account, scripted] = await made({ [SUSPEND]: () => refusal(status, code) });
      const problem = await organisation.perform(account, await looked(account), "1").catch((error: unknown) => error);
      expect(problem).toBeInstanceOf(Problem);
      expect((problem as Problem).code).toBe(code);
      expect(scripted.times(SUSPEND)).toBe(1);
    },
  );

  test.each(["", "../users", "person-suspend/words?x=", "a b", "ä"])("called %j becomes no other address", async (name) => {
    const [account, scripted] = await made({});
    await expect(organisation.look(account, name, undefined, {})).rejects.toThrow(WrongInput);
    expect(scripted.asked).toEqual([]);
  });

  test("of two persons waits, is confirmed or withdrawn", async () => {
    const [account, scripted] = await made({
      "GET organisation/pending": () => ({ pending: [PENDING] }),
      [`GET organisation/pending/${WAITING}`]: () => ({ ...PENDING, words: WORDS }),
      [`POST organisation/pending/${WAITING}/confirm`]: () => ({ ...DONE, seconds: [MALLORY] }),
      [`POST organisation/pending/${WAITING}/withdraw`]: () => new Response(null, { status: 204 }),
    });
    const [waiting] = await organisation.pending(account);
    expect([waiting?.id, waiting?.subject, waiting?.proposer]).toEqual([WAITING, BOB, MALLORY]);
    const seen = await organisation.lookPending(account, WAITING.toUpperCase());
    expect((await organisation.confirm(account, seen, "123456")).seconds).toEqual([MALLORY]);
    expect(scripted.asked.at(-1)?.document).toEqual({ token: "token of this look", code: "123456" });
    await organisation.withdraw(account, WAITING);
    expect(scripted.times(`POST organisation/pending/${WAITING}/withdraw`)).toBe(1);
  });

  test("that waits is shown only if it is the one asked for", async () => {
    const other = { ...PENDING, id: FILE, words: WORDS };
    const [account] = await made({ [`GET organisation/pending/${WAITING}`]: () => other });
    await expect(organisation.lookPending(account, WAITING)).rejects.toThrow("another waiting act");
  });

  test("names who could be the second by their ids alone", async () => {
    const [account] = await made({ [SUSPEND]: () => ({ ...DONE, seconds: ["../users"] }) });
    await expect(organisation.perform(account, await looked(account), "1")).rejects.toThrow(AnswerRefused);
  });
});

describe("a person", () => {
  const listing = (...people: object[]): Record<string, Answering> => ({
    "GET organisation/people": ({ query }) => ({ people: query.get("email") === "bob@acme.test" ? people : [], more: false }),
  });

  test.each<[string, object[], string]>([
    ["suspended", [person(BOB, "suspended")], BOB],
    ["here, before one who left", [person(MALLORY, "left"), person(BOB, "active")], BOB],
    ["gone", [person(MALLORY, "left")], MALLORY],
  ])("is found by address: %s; nothing is pinned", async (_, people, found) => {
    const [account] = await made(listing(...people));
    expect(await organisation.findPerson(account, "BOB@acme.test")).toBe(found);
    expect(await addresses.listPinned(account)).toEqual(new Map());
  });

  test("is not guessed", async () => {
    const [account] = await made(listing(person(BOB, "left"), person(MALLORY, "left")));
    await expect(organisation.findPerson(account, "bob@acme.test")).rejects.toThrow("Several people");
    await expect(organisation.findPerson(account, "nobody@acme.test")).rejects.toThrow("Nobody in your organisation");
    await expect(organisation.findPerson(account, "bob")).rejects.toThrow(WrongInput);
    expect(await organisation.findPerson(account, BOB)).toBe(BOB);
  });

  test.each([["another", [person(MALLORY, "active")]], ["nobody", []]])(
    "whose pinned address is now of %s is not administered",
    async (_, people) => {
      const [account] = await made({ ...listing(...people), "GET users": () => ({ user_id: BOB }) });
      await addresses.find(account, "bob@acme.test");
      await expect(organisation.findPerson(account, "bob@acme.test")).rejects.toThrow(AddressChanged);
    },
  );

  test("is listed with what narrows the list", async () => {
    const [account, scripted] = await made({
      "GET organisation/people": () => ({ people: [person(BOB, "suspended")], more: false }),
    });
    const [bob] = await organisation.people(account, { search: "Bo", state: "suspended" });
    expect([bob?.id, bob?.email, bob?.activeSince]).toEqual([BOB, "bob@acme.test", undefined]);
    expect(scripted.asked[0]?.query.toString()).toBe("q=Bo&state=suspended");
  });
});

describe("a file of people", () => {
  const line = (number: number): object => ({ line: number, at_fault: "email", reason: "No address.", cells: ["Nobody"] });
  const progress = { id: FILE, state: "read", good: 1, bad: 3, done: 0, created: 0, expires_at: TIME };
  const pages = (lie: object): Record<string, Answering> => ({
    "POST organisation/imports": () => ({ ...progress, bad_lines: [line(2), line(3)], next_start: 2 }),
    [`GET organisation/imports/${FILE}`]: () => ({ ...progress, bad_lines: [line(4)], next_start: null, ...lie }),
  });

  test("is read with all its bad lines", async () => {
    const [account] = await made(pages({})), read = await organisation.readPeople(account, "Ivy,ivy@acme.test\nNobody\n");
    expect([read.good, read.bad, read.badLines.map((one) => one.number)]).toEqual([1, 3, [2, 3, 4]]);
    expect((await organisation.importProgress(account, FILE)).hasEnded).toBe(false);
    await expect(organisation.waitForImport(account, FILE, { seconds: 0 })).rejects.toThrow("Nobody has confirmed");
  });

  test.each<[object, string]>([
    [{ next_start: 0 }, "has no end"],
    [{ next_start: 2 }, "has no end"],
    [{ next_start: 10_000 }, "has no end"],
    [{ bad_lines: [] }, "other bad lines"],
    [{ id: BOB }, "another file"],
  ])("whose bad lines end or add up otherwise is refused: %j", async (lie, said) => {
    const [account] = await made(pages(lie));
    await expect(organisation.readPeople(account, "Nobody\n")).rejects.toThrow(said);
  });

  test("of more than 2 MiB as it is sent is refused before that", async () => {
    const [account, scripted] = await made({});
    for (const text of ["a".repeat(2 * 1024 * 1024), "ß".repeat(350_000)])
      await expect(organisation.readPeople(account, text)).rejects.toThrow("too large");
    expect(scripted.asked).toEqual([]);
  });

  test("is waited for until it ends, and told of", async () => {
    let done = 0;
    const [account] = await made({
      [`GET organisation/imports/${FILE}`]: () => ({ ...progress, state: done++ > 0 ? "done" : "running", done }),
    });
    const told: number[][] = [], tell = (...now: number[]): void => void told.push(now);
    expect((await organisation.waitForImport(account, FILE, { seconds: 3, tell })).state).toBe("done");
    expect(told).toEqual([[1, 1], [2, 1]]);
  });
});
