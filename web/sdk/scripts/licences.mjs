// SPDX-License-Identifier: Apache-2.0
/** The licences of what is built into a file. */
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

const LICENCE = /^(LICEN[CS]E|COPYING)(\.(md|txt))?$/i;

/** Return the directory of the package that a module belongs to, or undefined for one of ours. */
function packageOf(module) {
  const found = /^.*\/node_modules\/(@[^/]+\/)?[^/]+/.exec(module);
  return found?.[0];
}

/** Return one text with the name, the version and the licence of each package inside. */
export async function licences(output) {
  const packages = new Set(output.flatMap(file => Object.keys(file.modules ?? {})).map(packageOf));
  const parts = [];
  for (const directory of packages) {
    if (directory === undefined) continue;
    const { name, version, license } = JSON.parse(await readFile(join(directory, "package.json"), "utf8"));
    const file = (await readdir(directory)).find(one => LICENCE.test(one));
    if (file === undefined) throw new Error(`${name} brings no licence`);
    parts.push(`${name} ${version} (${license})\n\n${(await readFile(join(directory, file), "utf8")).trim()}\n`);
  }
  const ours = "Holdfast is under the Apache License 2.0. What is built of it holds code of these packages as well.\n";
  return [ours, ...parts.sort()].join(`\n${"-".repeat(80)}\n\n`);
}
