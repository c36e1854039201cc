// SPDX-License-Identifier: Apache-2.0
/**
 * A process that reads cases as lines and answers each with a line: what Python's differential tests talk to.
 *
 * A line is JSON: `["given", {name: hex}]` for what parsers need beside their bytes, `["feed", name, hex]` for a case.
 * An answer is `["took", hex]`, `["refused", class, message]`, or `["broke", class, message]` for what must not happen.
 */
import { createInterface } from "node:readline";
import { hex, unhex } from "../../src/core/base/bytes.js";
import { HoldfastError } from "../../src/core/base/errors.js";
import { type Parser, PARSERS } from "./parsers.js";

// What every object has by inheritance. A parser that reaches one of them is found out by the next input.
const PROTOTYPES = [
  Object, Array, Function, String, Number, Boolean, Symbol, Error, Map, Set, Promise, RegExp, Uint8Array, ArrayBuffer,
].map((kind) => kind.prototype as object);
const SOUND = PROTOTYPES.map(shownOf);

/** Return what an object itself has: its names, and each with its value or its getter. */
function shownOf(object: object): readonly unknown[] {
  const found = Object.getOwnPropertyDescriptors(object) as Record<PropertyKey, PropertyDescriptor>;
  return Reflect.ownKeys(found).flatMap((name) => [name, found[name]?.value, found[name]?.get, found[name]?.set]);
}

function areSound(): boolean {
  return PROTOTYPES.every((one, at) => {
    const known = SOUND[at] as readonly unknown[], shown = shownOf(one);
    return shown.length === known.length && shown.every((part, place) => Object.is(part, known[place]));
  });
}

const given = new Map<string, ReturnType<typeof unhex>>();

async function feed(name: string, octets: string): Promise<string[]> {
  const parser = PARSERS[name];
  if (parser === undefined) return ["broke", "Unknown", `there is no parser ${name}`];
  const answer = await read(parser, octets);
  return areSound() ? answer : ["broke", "Polluted", `a prototype is another one after ${name}`];
}

async function read(parser: Parser, octets: string): Promise<string[]> {
  try {
    return ["took", hex(await parser(unhex(octets), given))];
  } catch (error) {
    if (error instanceof HoldfastError) return ["refused", error.name, error.message];
    return error instanceof Error ? ["broke", error.name, `${error.message}\n${error.stack}`] : ["broke", "", String(error)];
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...rest] = JSON.parse(line);
  if (verb === "given") for (const [name, octets] of Object.entries(rest[0])) given.set(name, unhex(octets as string));
  else process.stdout.write(`${JSON.stringify(await feed(rest[0], rest[1]))}\n`);
}
