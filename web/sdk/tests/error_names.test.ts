// SPDX-License-Identifier: Apache-2.0
/** Every refusal says its own class by `name`, whatever a bundler calls the class. */
import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { ClientError } from "../src/client/errors.js";
import { HoldfastError } from "../src/core/base/errors.js";

const src = new URL("../src/", import.meta.url).pathname;

function ownName(one: unknown): string | undefined {
  if (typeof one !== "function") return undefined;
  if (![ClientError, HoldfastError].some((root) => one === root || one.prototype instanceof root)) return undefined;
  return Object.getOwnPropertyDescriptor(one.prototype, "name")?.get?.call({}) ?? "none";
}

test("each has a name of its own, which is that of its class", async () => {
  const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const modules: object[] = await Promise.all(files.map((name) => import(/* @vite-ignore */ `${src}${name}`)));
  const found = modules.flatMap((module) => Object.entries(module).map(([name, one]) => [name, ownName(one)]));
  const refusals = found.filter(([, own]) => own !== undefined);
  expect(refusals.length).toBeGreaterThan(50);
  expect(refusals.filter(([name, own]) => name !== own)).toEqual([]);
});
