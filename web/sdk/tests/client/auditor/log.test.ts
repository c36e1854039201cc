// SPDX-License-Identifier: Apache-2.0
/** An export fetched by a profile: held to the root it is pinned to and to what it has seen, whole or piece by piece. */
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { unhex, utf8 } from "../../../src/core/base/bytes.js";
import { NoteVerifier } from "../../../src/core/log/checkpoint.js";
import { Begun } from "../../../src/client/auditor/fetching.js";
import { exportLog, LogRefused, rootKey } from "../../../src/client/auditor/log.js";
import { AnswerRefused, ServerRestored, TrustRefused, Unreachable } from "../../../src/client/errors.js";
import type { Account } from "../../../src/client/profile/account.js";
import { accountOf, type Answering, refusal, Scripted } from "../scripted.js";
import { type Json, vectors } from "../../vectors.js";

const byName = new Map<string, Json>(vectors("audit").files.map((one: Json) => [one.name, one]));
const WHOLE = "GET audit/export", EXPORT = "0d0d0d0d-0d0d-4d0d-8d0d-0d0d0d0d0d0d";
const textOf = (name: string): string => byName.get(name).lines.join("");
const rolesOf = (name: string): string => JSON.parse(byName.get(name).lines[0]).roles;

/** An account that is pinned to the root of the published files, and whose server serves one of them. */
async function made(name: string, more: Record<string, Answering> = {}): Promise<[Account, Scripted]> {
  const root = NoteVerifier.fromText(byName.get("format 3").trust), tenant = unhex((root.name.split("/")[1] as string).replaceAll("-", ""));
  const scripted = new Scripted({
    "GET audit/roles": () => ({ statement: rolesOf("format 3") }),
    [WHOLE]: () => new Response(textOf(name)),
    ...more,
  });
  const account = await accountOf(scripted, { tenant, user: new Uint8Array(16).fill(2) });
  account.state.trust.rootKey = root.key.encoded;
  return [account, scripted];
}

const serve = (scripted: Scripted, name: string): void => {
  scripted.answers[WHOLE] = () => new Response(textOf(name));
};

describe("an export", () => {
  test("is held to the pinned root, and its head is kept", async () => {
    const [account, scripted] = await made("format 3"), { file, report } = await exportLog(account);
    expect([report.verdict, report.writers, await file.text()]).toEqual(["verified", "anchored", textOf("format 3")]);
    expect(rootKey(account)).toBe(byName.get("format 3").trust);
    expect([...account.state.trust.checkpoints.values()]).toEqual([JSON.parse(byName.get("format 3").lines.at(-1)).checkpoint]);
    serve(scripted, "cut below a saved head");
    const refused = await exportLog(account).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(TrustRefused);
    expect((refused as Error).message).toContain("the log was cut");
  });

  test.each([
    ["an entry: for another log", "entry 4 was written by nobody who may"],
    ["format 3, signed by another root", "does not hold"],
    ["the log of keys", "another log"],
    ["format 1", "leaves out whose keys"],
  ])("that is %j is refused, and is evidence", async (name, why) => {
    const [account] = await made(name), refused = await exportLog(account).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(LogRefused);
    expect((refused as LogRefused).message).toContain(why);
    expect(await (refused as LogRefused).file.text()).toBe(textOf(name));
    expect(account.state.trust.checkpoints.size).toBe(0);
  });

  test("under a root that was taken on first use is not anchored", async () => {
    const [account] = await made("format 3");
    account.state.trust.isTofu = true;
    expect(rootKey(account)).toBeUndefined();
    expect((await exportLog(account)).report.verdict).toBe("not anchored");
  });

  test("of a server older than role keys is held to the code's log key", async () => {
    const [account] = await made("format 1", { "GET audit/roles": () => refusal(404, "not-found") });
    account.state.trust.logKeys = [byName.get("format 1").trust];
    const { report } = await exportLog(account);
    expect([report.verdict, report.writers]).toEqual(["verified", "unknown"]);
  });
});

describe("a long log", () => {
  const text = utf8(textOf("format 4")), half = Math.floor(text.length / 2);
  const pieces = [text.subarray(0, half), text.subarray(half)].map((part) => gzipSync(part));
  const ends = [pieces[0]?.length as number, (pieces[0]?.length as number) + (pieces[1]?.length as number)];
  const document = (of: object): object => ({ id: EXPORT, log: "audit", size: 258, done: 258, ready: true, ends, ...of });
  const inPieces = (more: Record<string, Answering> = {}): Record<string, Answering> => ({
    [WHOLE]: () => refusal(409, "log-too-long"),
    "POST audit/exports": () => document({}),
    [`GET audit/exports/${EXPORT}`]: () => document({}),
    [`GET audit/exports/${EXPORT}/pieces/0`]: () => new Response(pieces[0]),
    [`GET audit/exports/${EXPORT}/pieces/1`]: () => new Response(pieces[1]),
    "GET audit/roles": () => ({ statement: rolesOf("format 4") }),
    ...more,
  });

  test("is fetched piece by piece while it is made", async () => {
    const first = { done: 129, ready: false, ends: ends.slice(0, 1) };
    const [account, scripted] = await made("format 4", inPieces({ "POST audit/exports": () => document(first) }));
    const told: number[][] = [];
    const { report, file } = await exportLog(account, { tell: (...now) => void told.push(now) });
    expect([report.verdict, file.size, told]).toEqual(["verified", text.length, [[129, 258], [258, 258]]]);
    expect(scripted.times(`GET audit/exports/${EXPORT}/pieces/0`)).toBe(1);
  });

  test("is gone on with where the line broke", async () => {
    let isBroken = true;
    const second: Answering = () => (isBroken ? new TypeError("no network") : new Response(pieces[1]));
    const [account, scripted] = await made("format 4", inPieces({ [`GET audit/exports/${EXPORT}/pieces/1`]: second }));
    const begun = new Begun();
    await expect(exportLog(account, { begun })).rejects.toThrow(Unreachable);
    isBroken = false;
    expect((await exportLog(account, { begun })).report.verdict).toBe("verified");
    expect([scripted.times(`GET audit/exports/${EXPORT}/pieces/0`), scripted.times("POST audit/exports")]).toEqual([1, 1]);
  }, 60_000);

  test("is begun anew when the server keeps it no longer", async () => {
    const [account, scripted] = await made("format 4", inPieces()), begun = new Begun();
    begun.exportId = "0c0c0c0c-0c0c-4c0c-8c0c-0c0c0c0c0c0c";
    begun.pieces = [new Blob(["of another"])];
    expect((await exportLog(account, { begun })).report.verdict).toBe("verified");
    expect(scripted.times("POST audit/exports")).toBe(1);
  });

  test.each<[string, Record<string, Answering>, string]>([
    ["a piece that is too short", { [`GET audit/exports/${EXPORT}/pieces/1`]: () => new Response("x") }, "shorter than it said"],
    [
      "a piece that is none",
      { [`GET audit/exports/${EXPORT}/pieces/1`]: () => new Response(new Uint8Array(pieces[1]?.length as number)) },
      "are no file",
    ],
    ["ends that cannot be", { "POST audit/exports": () => document({ ends: [ends[0], 1] }) }, "cannot be"],
    ["a piece of no size", { "POST audit/exports": () => document({ ends: [ends[0], ends[0]] }) }, "cannot be"],
    ["more than a log may be", { "POST audit/exports": () => document({ ends: [ends[0], 2 ** 33] }) }, "cannot be"],
    ["a piece of 64 MiB and more", { "POST audit/exports": () => document({ ends: [ends[0], 2 ** 27] }) }, "cannot be"],
  ])("with %s is refused", async (_, lie, why) => {
    const [account] = await made("format 4", inPieces(lie)), refused = exportLog(account);
    await expect(refused).rejects.toThrow(why);
    await expect(refused).rejects.toBeInstanceOf(AnswerRefused);
  });
});

test("a log that does not go on from the head seen, and holds by itself, stops the server", async () => {
  const [account, scripted] = await made("format 3");
  const saved = byName.get("saved head of another past").saved[0], origin = byName.get("format 3").report.origin;
  account.state.trust.checkpoints.set(origin, saved);
  serve(scripted, "saved head of another past");
  const shown: unknown[] = [];
  scripted.answers["POST audit/head"] = ({ document }) => (shown.push(document), {});
  await expect(exportLog(account)).rejects.toThrow(ServerRestored);
  expect(account.state.trust.checkpoints.get(origin)).toBe(saved);
  expect(shown).toEqual([{ note: saved }]);
});
