// SPDX-License-Identifier: Apache-2.0
/** Rows by the names of their fields: what is written is what is read, and nothing else is read. */
import { describe, expect, test } from "vitest";
import { type Bytes, utf8 } from "../../../src/core/base/bytes.js";
import { decode, encode, type Encodable, type Value } from "../../../src/core/base/encoding.js";
import { Malformed } from "../../../src/core/base/errors.js";
import {
  at, choice, decodeMap, decodeRow, encodeMap, encodeRow, flag, flags, inOrder, layout, mapping, nested, nestedMap,
  nestedOrNone, octets, openRow, optionalAt, pair, RowTooLong, sealRow, secret, several, spread, text, uint,
} from "../../../src/core/base/rows.js";
import { SecretBytes } from "../../../src/core/base/secret.js";

const Colour = { RED: "red", BLUE: "blue" } as const;
type Colour = (typeof Colour)[keyof typeof Colour];
const Part = { HEAD: 1, TAIL: 2 } as const;

interface Place {
  readonly user: Bytes;
  readonly device: Bytes;
}
const PLACE = layout<Place>("inner", { user: octets(2), device: octets([0, 3]) });

interface Row {
  readonly place: Place;
  readonly colour: Colour;
  readonly parts: number;
  readonly seed: SecretBytes;
  readonly pairs: readonly (readonly [number, string])[];
  readonly names: ReadonlyMap<string, number>;
  readonly ids: ReadonlySet<number>;
  readonly inner: Place;
  readonly other: Place | undefined;
  readonly isOn: boolean;
}
const ROW = layout<Row>("row", {
  place: spread(PLACE),
  colour: choice(Colour, "Colour"),
  parts: flags(Part),
  seed: secret(4),
  pairs: several(pair(uint(), text({ maximum: 3 }))),
  names: mapping(text(), uint({ maximum: 9 })),
  ids: inOrder(uint()),
  inner: nested(PLACE),
  other: nestedOrNone(PLACE),
  isOn: flag(),
});

interface Numbered {
  readonly count: number;
  readonly point: { readonly x: number } | undefined;
  readonly words: readonly string[];
}
const NUMBERED = layout<Numbered>("numbered", {
  count: at(4, uint({ minimum: 1 })),
  point: optionalAt(2, nestedMap(layout<{ readonly x: number }>("point", { x: at(1, uint()) }))),
  words: at(7, several(text(), { maximum: 3 })),
});

const place: Place = { user: utf8("ab"), device: utf8("") };
const row: Row = {
  place,
  colour: Colour.BLUE,
  parts: 3,
  seed: new SecretBytes(utf8("seed")),
  pairs: [[1, "a"], [2, "b"]],
  names: new Map([["b", 2], ["a", 1]]),
  ids: new Set([3, 1]),
  inner: place,
  other: undefined,
  isOn: false,
};
const VALUE: Value[] = [
  utf8("ab"), utf8(""), "blue", 3, utf8("seed"), [[1, "a"], [2, "b"]], [["a", 1], ["b", 2]], [1, 3], [utf8("ab"), utf8("")], [], 0,
];
const map = (fields: Record<number, Encodable>): Value =>
  decode(encode(new Map(Object.entries(fields).map(([key, value]) => [Number(key), value]))));

test("a row is an array of its columns in the order of the layout", () => {
  expect(encodeRow(ROW, row)).toEqual(VALUE);
  const read = decodeRow(ROW, decode(encode(VALUE)));
  expect(encodeRow(ROW, read)).toEqual(VALUE);
  expect([read.names.get("b"), read.ids.has(3), read.other, read.isOn, read.seed.equals(row.seed)]).toEqual([2, true, undefined, false, true]);
});

test.each<[number, Value]>([
  [0, utf8("abc")], [1, utf8("abcd")], [2, "green"], [2, 1], [2, []], [2, "RED"], [3, 0], [3, 4], [3, "x"], [4, utf8("see")], [4, "seed"],
  [5, [[1]]], [5, [[1, "long"]]], [5, 1], [6, [["a", 10]]], [7, ["x"]], [8, []], [8, [utf8("ab")]], [9, [utf8("ab")]], [9, 1], [10, 2],
])("at %i, %j is what no column wrote", (index, value) => {
  const changed = [...VALUE.slice(0, index), value, ...VALUE.slice(index + 1)];
  expect(() => decodeRow(ROW, changed)).toThrow(Malformed);
});

test.each<[Value]>([[VALUE.slice(0, -1)], [[...VALUE, 0]], [new Map()], [1], [utf8("")], [[]]])("an array of another length is refused: %j", (value) => {
  expect(() => decodeRow(ROW, value, "my row")).toThrow("my row");
  expect(() => decodeRow(ROW, value)).toThrow(Malformed);
});

describe("a map", () => {
  test("holds each column under its number, and leaves out what is not there", () => {
    const small: Numbered = { count: 5, point: undefined, words: [] }, whole: Numbered = { count: 5, point: { x: 3 }, words: ["a"] };
    expect(encodeMap(NUMBERED, small)).toEqual(new Map<number, Encodable>([[4, 5], [7, []]]));
    expect(encodeMap(NUMBERED, whole)).toEqual(new Map<number, Encodable>([[4, 5], [2, new Map([[1, 3]])], [7, ["a"]]]));
    for (const one of [small, whole]) expect(decodeMap(NUMBERED, decode(encode(encodeMap(NUMBERED, one))))).toEqual(one);
  });

  test.each([{}, { 4: 5 }, { 4: 0, 7: [] }, { 4: 5, 7: [], 1: 0 }, { 4: 5, 7: ["a", "a", "a", "a"] }, { 4: 5, 7: [], 2: new Map() }])("that lacks a number or has another is refused: %j", (fields) => {
    expect(() => decodeMap(NUMBERED, map(fields as Record<number, Encodable>))).toThrow(Malformed);
  });
});

test("what would not be read again is a mistake of the caller's, before it is kept", () => {
  expect(() => encodeRow(ROW, { ...row, colour: "green" as Colour })).toThrow(RangeError);
  expect(() => encodeRow(ROW, { ...row, ids: new Set([-1]) })).toThrow(RangeError);
  expect(() => encodeMap(NUMBERED, { count: 0, point: undefined, words: [] })).toThrow(RangeError);
});

test("a sealed row has at most what its layout says, on both sides", () => {
  const small = layout<{ data: Bytes }>("small", { data: octets() }, { rowSize: 100 }), wide = layout<{ data: Bytes }>("wide", { data: octets() });
  expect(openRow(small, sealRow(small, { data: new Uint8Array(97) })).data).toHaveLength(97);
  expect(() => sealRow(small, { data: new Uint8Array(98) })).toThrow(RowTooLong);
  expect(() => openRow(small, sealRow(wide, { data: new Uint8Array(98) }))).toThrow(Malformed);
});

test("texts in a map stand in the order of their code points, as in other languages", () => {
  const of = layout<{ names: Map<string, number> }>("names", { names: mapping(text(), uint()) });
  const names = new Map([["\u{1f600}", 1], ["\uff5a", 2], ["z", 3]]);
  expect(encodeRow(of, { names })).toEqual([[["z", 3], ["\uff5a", 2], ["\u{1f600}", 1]]]);
});
