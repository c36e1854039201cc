// SPDX-License-Identifier: Apache-2.0
/** What an auditor pastes into the verifier's fields, as copying leaves it. */
import { expect, test } from "vitest";
import { headsIn, keyIn } from "../../../verify/given.js";
import { matches, type Row } from "../../../verify/entries.js";

const NOTE = "holdfast/a/audit\n5\nroot\ntime 1\n\n— holdfast/a/audit sign\n";

test("a key is taken from a copy that a mail has broken and marked", () => {
  expect(keyIn("\ufeff holdfast/a/root+\n 12345678+AAAA\u200b \r\n")).toBe("holdfast/a/root+12345678+AAAA");
  expect(keyIn(" \n\u200b")).toBeUndefined();
});

test.each<[string, string, string[]]>([
  ["nothing", " \n\n", []],
  ["one", NOTE, [NOTE]],
  ["one with ends of another system", `\ufeff${NOTE.replaceAll("\n", "\r\n")}`, [NOTE]],
  ["one without its last end", NOTE.trimEnd(), [NOTE]],
  ["two", `${NOTE}${NOTE}`, [NOTE, NOTE]],
  ["two, and lines between them", `\n${NOTE}\n\n\n${NOTE}\n`, [NOTE, NOTE]],
  ["the last line of an export", `${JSON.stringify({ checkpoint: NOTE })}\n`, [NOTE]],
  ["one of each", `${JSON.stringify({ checkpoint: NOTE })}\n${NOTE}`, [NOTE, NOTE]],
  ["what is none", "hello", ["hello\n"]],
])("heads in %s", (_, text, heads) => {
  expect(headsIn(text)).toEqual(heads);
});

test("entries are found by each part of a filter, and by all of them together", () => {
  const row: Row = {
    index: 0, time: 100, tag: "escrow:key:sign", actor: "device:1", person: "Ab", subject: "case:7", id: "", body: [], writer: "",
    leafHash: "", isWithheld: false,
  };
  const all = { tag: "", actor: "", person: "", subject: "", from: undefined, until: undefined };
  const withheld: Row = { ...row, time: undefined, tag: "", actor: "", person: "", subject: "", isWithheld: true };
  expect([matches(row, all), matches(withheld, all)]).toEqual([true, true]);
  for (const fitting of [{ tag: "KEY" }, { actor: "device" }, { person: "aB" }, { subject: ":7" }, { from: 100 }, { until: 101 }])
    expect([matches(row, { ...all, ...fitting }), matches(withheld, { ...all, ...fitting })]).toEqual([true, false]);
  for (const other of [{ tag: "x" }, { actor: "x" }, { person: "x" }, { subject: "x" }, { from: 101 }, { until: 100 }])
    expect(matches(row, { ...all, tag: "escrow", ...other })).toBe(false);
});
