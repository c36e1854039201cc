// SPDX-License-Identifier: Apache-2.0
/** The published vectors of `tests/vectors/holdfast`, the same that the Python tests replay. */
import { readFileSync } from "node:fs";
import { type Bytes, unhex } from "../src/core/base/bytes.js";
import { HoldfastError } from "../src/core/base/errors.js";
import { expect } from "vitest";

/** A JSON object as a vector has it: each test knows what is in its own. */
// eslint-disable-next-line
export type Json = any;

export function vectors(name: string): Json {
  return JSON.parse(readFileSync(new URL(`../../../tests/vectors/holdfast/${name}.json`, import.meta.url), "utf8"));
}

export function octets(text: string): Bytes {
  return unhex(text);
}

/** Expect a refusal of the core, and no error of another kind. */
export async function refused(work: () => unknown): Promise<HoldfastError> {
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(HoldfastError);
    return error as HoldfastError;
  }
  throw new Error("was not refused");
}

/** Expect a refusal of one class, whose message has these words in it. */
export async function refusedAs<E extends Error>(
  error: new (...given: never[]) => E,
  work: () => unknown,
  said = "",
): Promise<E> {
  let found: unknown;
  try {
    await work();
  } catch (caught) {
    found = caught;
  }
  expect(found).toBeInstanceOf(error);
  expect((found as E).message).toContain(said);
  return found as E;
}
