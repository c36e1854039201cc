// SPDX-License-Identifier: Apache-2.0
/**
 * Bundle every module of the SDK for a page: `node scripts/modules.mjs directory`. The tests in Chromium load what it makes.
 *
 * As web/dist is bundled, but each module of src can be imported by its name, and what they share is there once.
 */
import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const SRC = join(HERE, "src");
const names = (await readdir(SRC, { recursive: true })).filter(name => name.endsWith(".ts"));
const made = await rolldown({
  input: Object.fromEntries(names.map(name => [name.slice(0, -".ts".length), join(SRC, name)])),
  cwd: HERE,
  platform: "browser",
  preserveEntrySignatures: "strict",
  resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
});
await made.write({
  dir: resolve(process.argv[2]),
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "shared/[name]-[hash].js",
});
await made.close();
