// SPDX-License-Identifier: Apache-2.0
/** Answers: one reading or none, no prototype within reach, and each field named when it is refused. */
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../src/core/base/bytes.js";
import { AnswerRefused } from "../../../src/client/errors.js";
import { Answer, parse, parseTime, uuidBytes, uuidText } from "../../../src/client/server/answers.js";

const read = (text: string): Answer => parse(utf8(text));
const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;

test.each([
  "", " ", "[]", "1", '"a"', "null", '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"a":{"b":1,"b":1}}', '{"a":NaN}', '{"a":Infinity}',
  '{"a":-Infinity}', '{"a":1e999}', '{"a":-1e999}', '{"a":01}', '{"a":1.}', '{"a":.5}', '{"a":+1}', '{"a":0x1}', '{"a":1,}', '{,}',
  '{"a" 1}', '{"a":1 "b":2}', "{'a':1}", '{a:1}', '{"a":"\t"}', '{"a":"\\x41"}', '{"a":"\\u12"}', '{"a":"\\ud800"}',
  '{"\\udc00":1}', '{"a":"\\ud800\\u0041"}', '{"a":tru}', '{"a":undefined}', '{"a":1}{}', '{"a":1}x', "\ufeff{}", '{"a":"b', '{"a":["b"', "{",
  `{"a":${"9".repeat(4301)}}`, nested(16), nested(50), `{"a":${"[".repeat(100_000)}`, '/**/{"a":1}',
])("%s is refused", (text) => {
  expect(() => read(text)).toThrow(AnswerRefused);
});

test("bytes that are no UTF-8 are refused", () => {
  expect(() => parse(Uint8Array.of(...utf8('{"a":"'), 0xff, ...utf8('"}')))).toThrow(AnswerRefused);
});

test("what every reader takes alike is read", () => {
  const answer = read(` {"a" : "\\u00e9\\ud83d\\ude00\\n\\/" , "b":[ ],"c":0,"d":-0,"e":1.5,"f":9007199254740992,"g":null,"h":true}\n`);
  expect([answer.text("a"), answer.numbers("b"), answer.number("c"), answer.number("d"), answer.flag("h")]).toEqual(
    ["é😀\n/", [], 0, 0, true],
  );
  expect([answer.has("g"), answer.has("h"), answer.has("x")]).toEqual([false, true, false]);
  expect(read(nested(15)).one("a").has("a")).toBe(true);
});

test("names that a prototype has are names like others, and leave every object as it was", () => {
  const answer = read('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toString":"x","a":{"__proto__":"y"}}');
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  expect([answer.one("__proto__").number("polluted"), answer.text("toString"), answer.one("a").text("__proto__")]).toEqual([1, "x", "y"]);
  expect(answer.one("a").values()).toBeInstanceOf(Map);
  const none = read("{}");
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
    expect(none.has(name)).toBe(false);
    expect(() => none.text(name)).toThrow(AnswerRefused);
    expect(() => none.one(name)).toThrow(AnswerRefused);
  }
});

const FIELDS: [string, (answer: Answer) => unknown, unknown][] = [
  ["padding", (a) => a.octets("x", 4), "AAAA="],
  ["another size", (a) => a.octets("x", 4), "AAAA"],
  ["padding of three", (a) => a.octets("x", 3), "AAA="],
  ["stray bits", (a) => a.octets("x"), "AB"],
  ["too many", (a) => a.octets("x", undefined, { maximum: 2 }), "AAAA"],
  ["a number as bytes", (a) => a.octets("x"), 7],
  ["a UUID in capitals", (a) => a.identifier("x"), "6F2CBD5E-3D0B-4A5E-9A53-6AD1F2A9D111"],
  ["a UUID without hyphens", (a) => a.identifier("x"), "6f2cbd5e3d0b4a5e9a536ad1f2a9d111"],
  ["a UUID with more after it", (a) => a.identifier("x"), "6f2cbd5e-3d0b-4a5e-9a53-6ad1f2a9d111\n"],
  ["true as a number", (a) => a.number("x"), true],
  ["a negative number", (a) => a.number("x"), -1],
  ["a number above 2^53-1", (a) => a.number("x"), 2 ** 53],
  ["a fraction", (a) => a.number("x"), 1.5],
  ["1 as a truth", (a) => a.flag("x"), 1],
  ["another form of a time", (a) => a.time("x"), "2026-11-24T10:00:00+00:00"],
  ["a time before 1970", (a) => a.time("x"), "1969-12-31T23:59:59Z"],
  ["a day that is none", (a) => a.time("x"), "2026-02-29T10:00:00Z"],
  ["a second that is none", (a) => a.time("x"), "2026-02-28T10:00:60Z"],
  ["long text", (a) => a.text("x"), "a".repeat(5000)],
  ["an array as an object", (a) => a.one("x"), []],
  ["a number among objects", (a) => a.many("x"), [1]],
  ["null among objects", (a) => a.many("x"), [null]],
  ["more items than are taken", (a) => a.many("x", { maximum: 1 }), [{}, {}]],
  ["a row of another width", (a) => a.rows("x", 2), [[1]]],
  ["a number among bytes", (a) => a.manyOctets("x"), ["AAAA", 1]],
  ["text among numbers", (a) => a.numbers("x"), [1, "2"]],
  ["a number among texts", (a) => a.texts("x"), ["a", 1]],
  ["an object among texts and numbers", (a) => a.one("x").values(), { x: {} }],
];

test.each(FIELDS)("%s is refused by name", (_, reading, value) => {
  expect(() => reading(read(JSON.stringify({ x: value })))).toThrow(/x/);
  expect(() => reading(read(JSON.stringify({ x: value })))).toThrow(AnswerRefused);
});

test("where a field stands is said of those inside others", () => {
  const answer = read('{"rows":[{"a":1},{"a":{"b":[["x",2]]}}]}'), [, second] = answer.many("rows");
  const [row] = (second as Answer).one("a").rows("b", 2);
  expect((row as Answer).text("0")).toBe("x");
  expect(() => (row as Answer).text("1")).toThrow("rows[1].a.b[0].1 is not text");
});

describe("times and identifiers", () => {
  test.each([["1970-01-01T00:00:00Z", 0], ["2026-11-24T10:00:00Z", 1795514400], ["2024-02-29T23:59:59Z", 1709251199]])("%s is a time", (text, seconds) => {
    expect(parseTime(text)).toBe(seconds);
  });

  test("an identifier is read as people type it, and written in one way", () => {
    const text = "6f2cbd5e-3d0b-4a5e-9a53-6ad1f2a9d111";
    for (const typed of [text, text.toUpperCase(), ` {${text}}\n`, `urn:uuid:${text}`, text.replaceAll("-", "")])
      expect(uuidText(uuidBytes(typed))).toBe(text);
    for (const typed of ["", "x", text.slice(1), `${text}0`, text.replace("6", "g")]) expect(() => uuidBytes(typed)).toThrow(RangeError);
    expect(() => uuidText(new Uint8Array(15))).toThrow(RangeError);
  });
});
