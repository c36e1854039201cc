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
import { PARSERS } from "./parsers.js";

const given = new Map<string, ReturnType<typeof unhex>>();

async function feed(name: string, octets: string): Promise<string[]> {
  const parser = PARSERS[name];
  if (parser === undefined) return ["broke", "Unknown", `there is no parser ${name}`];
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
