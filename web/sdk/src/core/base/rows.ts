// SPDX-License-Identifier: Apache-2.0
/**
 * Records as rows of CBOR, by the names of their fields: each field says once how it is written and read.
 *
 * docs/formats/profile.md. A layout lists the columns in the order in which they stand; a field of the record that the
 * layout does not name is no part of the row, and whoever reads the row adds it:
 *
 *     interface Letter { readonly sender: Bytes; readonly receivedAt: number }
 *     const LETTER = layout<Letter>("letter", { sender: octets(16), receivedAt: uint() });
 *
 *     encodeRow(LETTER, letter); // [sender, receivedAt]
 *     decodeRow(LETTER, value);
 *
 * A row's columns stand in an array (`encodeRow`), or in a map under the numbers that `at` gives them (`encodeMap`). It
 * keeps no version: a row whose columns change takes another kind of row, or a number that says so. What is written is
 * read in the same step, by the same columns: a value that would not be read again is a RangeError before it is kept. A
 * sealed row has at most 1 MiB, or what its layout says, on both sides.
 */
import { type Bytes, compare } from "./bytes.js";
import { type Bounds, decode, encode, type Encodable, Fields, MAX_VAULT, type Value } from "./encoding.js";
import { SecretBytes } from "./secret.js";
import { readBack } from "./writing.js";

/** A row is longer than its reader takes; nothing of it was kept. */
export class RowTooLong extends RangeError {}

/** How one field lies in its row. */
export interface Column<T> {
  /** From the field's value to the items it takes, `width` of them. */
  write(value: T): Encodable[];
  /** From the row and the place or number of the first item. */
  read(row: Fields, at: number): T;
  readonly width: number;
  /** In a map; 0 in an array. */
  readonly number: number;
  /** Whether undefined is left out of the map, and read for what is not there. */
  readonly isOptional: boolean;
}

/** The columns of one kind of record, in their order. Made by `layout`. */
export interface Layout<R> {
  readonly name: string;
  readonly columns: readonly (readonly [field: keyof R & string, column: Column<unknown>])[];
  readonly width: number;
  /** Bytes of a sealed row at most. */
  readonly rowSize: number;
}

/**
 * Say how records of one kind lie in rows: one column for each field, in the order given.
 *
 * name: for errors. rowSize: bytes of a sealed row at most, 1 MiB unless given.
 */
export function layout<R extends object>(
  name: string,
  columns: { readonly [F in keyof R]-?: Column<R[F]> },
  { rowSize = MAX_VAULT }: { readonly rowSize?: number } = {},
): Layout<R> {
  const found = Object.entries(columns) as [keyof R & string, Column<unknown>][];
  return { name, columns: found, width: found.reduce((width, [, column]) => width + column.width, 0), rowSize };
}

function column<T>(write: (value: T) => Encodable[], read: (row: Fields, at: number) => T, width = 1): Column<T> {
  return { write, read, width, number: 0, isOptional: false };
}

/** Return a column under a number of a map. */
export function at<T>(number: number, of: Column<T>): Column<T> {
  return { ...of, number };
}

/** Return a column under a number of a map, which is left out for undefined. */
export function optionalAt<T>(number: number, of: Column<T>): Column<T | undefined> {
  return {
    write: (value) => of.write(value as T),
    read: (row, place) => of.read(row, place),
    width: of.width,
    number,
    isOptional: true,
  };
}

/** An unsigned integer within bounds. */
export function uint(bounds: Bounds = {}): Column<number> {
  return column((value) => [value], (row, place) => row.uint(place, bounds));
}

/** A truth value, as 0 or 1. */
export function flag(): Column<boolean> {
  return column((value) => [Number(value)], (row, place) => row.flag(place));
}

/** One of the values of an enumeration. kind: what it is called, for errors. */
export function choice<T extends number | string>(values: Readonly<Record<string, T>>, kind: string): Column<T> {
  const known = Object.values(values);
  return column(
    (value) => [value],
    (row, place) => {
      const value = row.value(place);
      if (!known.includes(value as T)) throw row.refuse(place, `is no ${kind}`);
      return value as T;
    },
  );
}

/** Any union of the flags of an enumeration, each a bit of its own, but none at all. */
export function flags(values: Readonly<Record<string, number>>): Column<number> {
  const all = Object.values(values).reduce((sum, value) => sum | value, 0);
  return uint({ minimum: 1, maximum: all });
}

/** A byte string of one of several sizes, or of at most `maximum`. */
export function octets(sizes?: number | readonly number[], { maximum = MAX_VAULT }: Bounds = {}): Column<Bytes> {
  return column((value) => [value], (row, place) => row.octets(place, sizes, { maximum }));
}

/** Secret bytes of one of several sizes. */
export function secret(sizes?: number | readonly number[]): Column<SecretBytes> {
  return column((value) => [value.reveal()], (row, place) => new SecretBytes(row.octets(place, sizes)));
}

/** Text of at most `maximum` characters. */
export function text({ maximum = 1024 }: Bounds = {}): Column<string> {
  return column((value) => [value], (row, place) => row.text(place, { maximum }));
}

/** `minimum` to `maximum` items, each as `item` is. */
export function several<T>(item: Column<T>, bounds: Bounds = {}): Column<T[]> {
  return column(
    (value) => [value.flatMap((element) => item.write(element))],
    (row, place) => {
      row.array(place, bounds);
      const items = row.row(place);
      return Array.from({ length: items.size }, (_, index) => item.read(items, index));
    },
  );
}

/** A set of numbers, written in their order. */
export function inOrder(item: Column<number>): Column<ReadonlySet<number>> {
  const items = several(item);
  return column(
    (kept) => items.write([...kept].sort((one, other) => one - other)),
    (row, place) => new Set(items.read(row, place)),
  );
}

/** Two values in an array of their own. */
export function pair<A, B>(first: Column<A>, second: Column<B>): Column<readonly [A, B]> {
  return column(
    ([one, other]) => [[...first.write(one), ...second.write(other)]],
    (row, place) => {
      const items = row.row(place, 2);
      return [first.read(items, 0), second.read(items, 1)];
    },
  );
}

/** A map from texts, as pairs in the order of their keys. */
export function mapping<V>(key: Column<string>, value: Column<V>): Column<Map<string, V>> {
  const pairs = several(pair(key, value));
  return column(
    (kept) => pairs.write([...kept].sort(([one], [other]) => inCodePoints(one, other))),
    (row, place) => new Map(pairs.read(row, place)),
  );
}

/** As Python orders text: UTF-16, by which JavaScript does, has signs beyond U+FFFF before some below. */
function inCodePoints(one: string, other: string): number {
  return compare(new TextEncoder().encode(one), new TextEncoder().encode(other));
}

/** Another kind's row, in an array of its own. */
export function nested<R>(kind: Layout<R>): Column<R> {
  return column((value) => [itemsOf(kind, value)], (row, place) => decodeRow(kind, row.value(place)));
}

/** Another kind's map. */
export function nestedMap<R>(kind: Layout<R>): Column<R> {
  return column((value) => [numberedOf(kind, value)], (row, place) => decodeMap(kind, row.value(place)));
}

/** Another kind's row in an array of its own; an empty one for undefined. */
export function nestedOrNone<R>(kind: Layout<R>): Column<R | undefined> {
  return column(
    (value) => [value === undefined ? [] : itemsOf(kind, value)],
    (row, place) => (row.array(place).length > 0 ? decodeRow(kind, row.value(place)) : undefined),
  );
}

/** Another kind's columns, among those of this row. */
export function spread<R>(kind: Layout<R>): Column<R> {
  return column((value) => itemsOf(kind, value), (row, place) => readColumns(kind, row, place), kind.width);
}

/**
 * Return a record's columns as an array, in the order of its layout.
 *
 * Throws a RangeError for a value that `decodeRow` would refuse (the caller's mistake).
 */
export function encodeRow<R>(kind: Layout<R>, row: R): Encodable[] {
  return readBack(itemsOf(kind, row), (items) => decodeRow(kind, items as Value));
}

/** Read an array that `encodeRow` gave. Throws Malformed, naming the layout or `what`. */
export function decodeRow<R>(kind: Layout<R>, value: Value, what = kind.name): R {
  return readColumns(kind, Fields.ofRow(value, what, kind.width), 0);
}

/** Return a record's columns as a map, each under its number. Throws a RangeError as `encodeRow` does. */
export function encodeMap<R>(kind: Layout<R>, row: R): Map<number, Encodable> {
  return readBack(numberedOf(kind, row), (found) => decodeMap(kind, found as Value));
}

/** Read a map that `encodeMap` gave. Throws Malformed, naming the layout or `what`. */
export function decodeMap<R>(kind: Layout<R>, value: Value, what = kind.name): R {
  const numbersOf = (isOptional: boolean): number[] =>
    kind.columns.filter(([, column]) => column.isOptional === isOptional).map(([, column]) => column.number);
  const read = Fields.of(value, what, numbersOf(false), numbersOf(true)), found: [string, unknown][] = [];
  for (const [field, { number, read: take }] of kind.columns)
    found.push([field, read.has(number) ? take(read, number) : undefined]);
  return Object.fromEntries(found) as R;
}

/** Return the bytes of a row as they lie in a store. Throws a RangeError as `encodeRow` does; RowTooLong. */
export function sealRow<R>(kind: Layout<R>, row: R): SecretBytes {
  return sealed(kind, encodeRow(kind, row));
}

/** Read what `sealRow` gave. Throws Malformed. */
export function openRow<R>(kind: Layout<R>, kept: SecretBytes, what = kind.name): R {
  return decodeRow(kind, decode(kept.reveal(), kind.rowSize), what);
}

/** Return the bytes of a map as they lie in a store. Throws a RangeError as `sealRow` does. */
export function sealMap<R>(kind: Layout<R>, row: R): SecretBytes {
  return sealed(kind, encodeMap(kind, row));
}

/** Read what `sealMap` gave. Throws Malformed. */
export function openMap<R>(kind: Layout<R>, kept: SecretBytes, what = kind.name): R {
  return decodeMap(kind, decode(kept.reveal(), kind.rowSize), what);
}

function sealed<R>(kind: Layout<R>, written: Encodable): SecretBytes {
  const data = encode(written);
  if (data.length > kind.rowSize)
    throw new RowTooLong(`${kind.name}: ${data.length} bytes, of which nobody could read more than ${kind.rowSize}`);
  return new SecretBytes(data);
}

function itemsOf<R>(kind: Layout<R>, row: R): Encodable[] {
  return kind.columns.flatMap(([field, { write }]) => write(row[field]));
}

function readColumns<R>(kind: Layout<R>, row: Fields, first: number): R {
  const found: [string, unknown][] = [];
  let place = first;
  for (const [field, { read, width }] of kind.columns) {
    found.push([field, read(row, place)]);
    place += width;
  }
  return Object.fromEntries(found) as R;
}

function numberedOf<R>(kind: Layout<R>, row: R): Map<number, Encodable> {
  const found = new Map<number, Encodable>();
  for (const [field, { write, number, isOptional }] of kind.columns)
    if (row[field] !== undefined || !isOptional) found.set(number, write(row[field])[0] as Encodable);
  return found;
}
