// SPDX-License-Identifier: Apache-2.0
/** The auditor's verifier against files that Python wrote, and every word that Python's verifier has for them. */
import { describe, expect, test } from "vitest";
import { utf8 } from "../src/core/base/bytes.js";
import { HoldfastError, InvalidSignature, Malformed, Mistyped, Untrusted } from "../src/core/base/errors.js";
import { SigningKey } from "../src/core/crypto/keys.js";
import { rootVerifier, type SignedRoles, verifyRoles } from "../src/core/identity/roles.js";
import { MAX_TEXT, transcriptPayload } from "../src/core/identity/transcript.js";
import { NoteVerifier } from "../src/core/log/checkpoint.js";
import { MAX_LINE } from "../src/core/log/log_export.js";
import { encodeMany, Sign1, sign } from "../src/core/signed/cose.js";
import { checkpointOf, type Known, Verdict, type VerificationReport, verifyExport } from "../src/client/auditor/auditor.js";
import * as transcript from "../src/client/auditor/transcript.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { files, changed } = vectors("audit");
const byName = new Map<string, Json>(files.map((one: Json) => [one.name, one]));
const fileOf = (lines: readonly string[]): Blob => new Blob(lines as string[]);

const EXIT: Record<Verdict, number> = { verified: 0, broken: 1, "not anchored": 3, withheld: 9 };

/** What a report says, as the vectors have it. */
function told(report: VerificationReport): Json {
  const { verdict, entry, restored, held, ...rest } = report;
  // What was verified is given as it stood, and of what is broken nothing.
  expect(held === undefined).toBe(verdict === Verdict.BROKEN);
  return {
    ...rest,
    exit: EXIT[verdict],
    restored: restored.map((row) => [...row]),
    entry: entry === undefined ? null : [entry.index, entry.id, entry.tag, entry.reason],
  };
}

/** The same in the words of this SDK, where a key is given as `trust` and not by an option of a command. */
function expected(report: Json): Json {
  return { ...report, reason: report.reason.replaceAll("with --trust", "as `trust`") };
}

async function knownOf(one: Json): Promise<Known> {
  const trust: string | undefined = one.trust ?? undefined;
  let seen: SignedRoles | undefined;
  if (one.seen !== null && trust !== undefined) {
    const root = NoteVerifier.fromText(trust), tenant = octets((root.name.split("/")[1] as string).replaceAll("-", ""));
    seen = await verifyRoles(Sign1.parse(octets(one.seen)), { tenant, rootKey: root.key });
  }
  return { trust, seen, saved: one.saved };
}

describe("a file of Python's", () => {
  test.each<Json>(files)("$name", async (one) => {
    const known = await knownOf(one), file = fileOf(one.lines), report = await verifyExport(file, known);
    expect(told(report)).toEqual(expected(one.report));
    // Side by side, too, and in parts that end elsewhere.
    expect(await verifyExport(file, { ...known, long: 1 })).toEqual(report);
    expect(await checkpointOf(file)).toBe(JSON.parse(one.lines.at(-1)).checkpoint);
  });

  test.each<Json>(changed)("$of, with $why", async (one) => {
    const of = byName.get(one.of), lines = of.lines.map((line: string, at: number) => one.lines[at] ?? line);
    const known = await knownOf({ ...of, saved: [], seen: null }), report = await verifyExport(fileOf(lines), known);
    // A number with a fraction of nothing is the number here: it is found by its other spelling.
    const isSpelling = one.why === "a size with a fraction";
    const wanted = expected(one.report);
    expect(told(report)).toEqual(isSpelling ? { ...wanted, reason: report.reason } : wanted);
    expect(report.verdict).toBe(Verdict.BROKEN);
    expect(await verifyExport(fileOf(lines), { ...known, long: 1 })).toEqual(report);
  });

  test("is broken by nothing but empty lines behind its first", async () => {
    const [first] = byName.get("format 4").lines as string[];
    const report = await verifyExport(new Blob([first as string, "\n".repeat(MAX_LINE)]));
    expect([report.verdict, report.entry?.index]).toEqual([Verdict.BROKEN, 0]);
  });

  test("is broken by every changed byte", async () => {
    const of = byName.get("format 3"), text = utf8(of.lines.join("")), known = await knownOf({ ...of, saved: [] });
    for (let at = 0; at < text.length; at += 41) {
      const spoilt = text.slice();
      spoilt[at] = (spoilt[at] as number) ^ 1;
      expect((await verifyExport(new Blob([spoilt]), known)).verdict, `byte ${at}`).toBe(Verdict.BROKEN);
    }
  });

  test("is held to what officers accepted of a backup", async () => {
    const of = byName.get("format 4"), known = await knownOf(of);
    const root = new Uint8Array(32), report = await verifyExport(fileOf(of.lines), { ...known, past: [200, root] });
    expect([report.verdict, report.reason]).toEqual([
      "broken", "the log was rewritten: its first 200 entries are not those signed earlier",
    ]);
    const longer = await verifyExport(fileOf(of.lines), { ...known, past: [259, root] });
    expect(longer.entry).toEqual({ index: 258, id: "", tag: "", reason: "missing: a head signed earlier covers it" });
  });

  test.each<[string, Blob]>([
    ["nothing", new Blob([])],
    ["a line end", new Blob(["\n"])],
    ["bytes without an end", new Blob([new Uint8Array(300_000).fill(255)])],
    ["one line of them behind the first", new Blob([byName.get("format 3").lines[0], "x".repeat(300_000)])],
    ["the first line alone", new Blob([byName.get("format 3").lines[0]])],
    ["the last line alone", new Blob([byName.get("format 3").lines.at(-1)])],
  ])("is not %s", async (_, file) => {
    expect((await verifyExport(file)).verdict).toBe(Verdict.BROKEN);
  });

  test("is held to a key only if it is one", async () => {
    const error = await refused(() => verifyExport(fileOf(byName.get("format 1").lines), { trust: "not a key" }));
    expect(error).toBeInstanceOf(Malformed);
  });
});

describe("a transcript", async () => {
  const tenant = new Uint8Array(16).fill(1), other = new Uint8Array(16).fill(2);
  const root = await SigningKey.generate(), log = await SigningKey.generate();
  const header = { tenant, user: new Uint8Array(0), device: new Uint8Array(0), issuedAt: 1_800_000_000, expiresAt: 0 };
  const words = "The root was made.\n", payload = transcriptPayload(header, utf8(words));
  const both = [await sign(payload, "transcript", root), await sign(payload, "transcript", log)];
  const text = new Blob([words]), signed = new Blob([encodeMany(both)]);
  const rootKey = rootVerifier(tenant, root.public).toText();
  const logKey = new NoteVerifier("holdfast/01010101-0101-0101-0101-010101010101/audit", log.public).toText();
  const othersLog = new NoteVerifier("holdfast/02020202-0202-0202-0202-020202020202/audit", log.public).toText();

  test("holds under both keys, and says when one was not given", async () => {
    const found = await transcript.verify(text, signed, { root: rootKey, log: logKey });
    expect(found).toEqual({ issuedAt: 1_800_000_000, isByLog: true });
    expect((await transcript.verify(text, signed, { root: rootKey })).isByLog).toBe(false);
  });

  test.each<[string, Blob, Blob, { root: string; log?: string }, typeof HoldfastError]>([
    ["another root", text, signed, { root: rootVerifier(tenant, log.public).toText(), log: logKey }, InvalidSignature],
    ["another organisation", text, signed, { root: rootVerifier(other, root.public).toText() }, Untrusted],
    ["a log key for a root", text, signed, { root: logKey }, Mistyped],
    ["no key", text, signed, { root: "no key" }, Mistyped],
    ["a log key of another organisation", text, signed, { root: rootKey, log: othersLog }, Mistyped],
    ["another text", new Blob(["The root was lost.\n"]), signed, { root: rootKey }, Untrusted],
    ["one signature", text, new Blob([encodeMany(both.slice(0, 1))]), { root: rootKey }, Malformed],
    ["no signatures", text, new Blob(["{}"]), { root: rootKey }, Malformed],
    ["too long a text", new Blob([new Uint8Array(MAX_TEXT + 1)]), signed, { root: rootKey }, Mistyped],
  ])("is refused with %s", async (_, words, signatures, of, wrong) => {
    expect(await refused(() => transcript.verify(words, signatures, of))).toBeInstanceOf(wrong);
  });
});
