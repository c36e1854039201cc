// SPDX-License-Identifier: Apache-2.0
/** Exported logs that Python wrote, line by line: one text for one value, and what is none of them. */
import { describe, expect, test } from "vitest";
import { utf8 } from "../src/core/base/bytes.js";
import { Malformed } from "../src/core/base/errors.js";
import {
  checkpointLine, ExportedEntry, headerFromLine, headerToLine, MAX_LINE, readCheckpointLine, readEntryLine, tileFromLine,
  tileToLine, withheldToLine,
} from "../src/core/log/log_export.js";
import { type Json, refused, vectors } from "./vectors.js";

const { files } = vectors("audit");
const lineOf = (text: string): Uint8Array<ArrayBuffer> => utf8(text);

describe("exported logs of Python's", () => {
  test.each<Json>(files)("$name is written again line by line", ({ lines }) => {
    const [header, ...rest] = lines.map(lineOf), last = rest.pop();
    expect(headerToLine(headerFromLine(header))).toEqual(header);
    expect(checkpointLine(readCheckpointLine(last))).toEqual(last);
    for (const line of rest)
      if (line[2] === 0x74) expect(tileToLine(tileFromLine(line))).toEqual(line);
      else {
        const entry = readEntryLine(line);
        expect(entry instanceof ExportedEntry ? entry.toLine() : withheldToLine(entry)).toEqual(line);
      }
  });

  test.each<[string, (text: string) => string]>([
    ["a space", (text) => text.replace(":", ": ")],
    ["a name of a prototype", (text) => text.replace("{", '{"__proto__":{"index":0,"leaf":""},')],
    ["a name twice", (text) => text.replace("{", '{"index":4,')],
    ["other names alone", () => '{"__proto__":{"index":0,"leaf":"","proof":""}}\n'],
    ["a number as text", (text) => text.replace('"index":4', '"index":"4"')],
    ["a negative zero", (text) => text.replace('"index":4', '"index":-0')],
    ["a number with an exponent", (text) => text.replace('"index":4', '"index":4e0')],
    ["a number that is not exact", (text) => text.replace('"index":4', '"index":9007199254740993')],
    ["half of a surrogate pair", (text) => text.replace(/"leaf":"[^"]*"/, '"leaf":"\\ud800"')],
    ["a letter that is not escaped", (text) => text.replace("\\u00df", "ß")],
    ["an escape in capitals", (text) => text.replace("\\u00df", "\\u00DF")],
    ["names in another order", (text) => text.replace(/("id":"[^"]*"),("time":"[^"]*")/, "$2,$1")],
    ["no end", (text) => text.trimEnd()],
    ["an array", () => "[]\n"],
    ["a number alone", () => "4\n"],
    ["nested without an end", () => "[".repeat(100_000)],
    ["no JSON", () => "\u0000\n"],
    ["nothing", () => ""],
    ["more than a line has", () => `{"index":4,"leaf":"${"A".repeat(MAX_LINE)}"}\n`],
  ])("a line with %s is refused", async (_, spoil) => {
    const line = files.find((one: Json) => one.name === "format 3").lines[5];
    readEntryLine(lineOf(line));
    expect(spoil(line)).not.toBe(line);
    expect(await refused(() => readEntryLine(lineOf(spoil(line))))).toBeInstanceOf(Malformed);
  });

  test("a line that is refused is named by what it claims, if that is safe to print", () => {
    const [id, tag] = ["a".repeat(36), "recovery:case:approve"];
    expect(ExportedEntry.claimed(lineOf(`"id":"${id}","tag":"${tag}"`))).toEqual({ id, tag });
    expect(ExportedEntry.claimed(lineOf(`"id":"${id}\u202e","tag":"${"t".repeat(81)}"`))).toEqual({});
  });
});
