// SPDX-License-Identifier: Apache-2.0
/** Bundle one TypeScript file for Node: `node scripts/for_node.mjs entry.ts directory`. The tests run what it makes. */
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const [entry, directory] = process.argv.slice(2);
const made = await rolldown({
  input: resolve(entry),
  cwd: dirname(dirname(fileURLToPath(import.meta.url))),
  platform: "node",
  resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
});
await made.write({ dir: resolve(directory), format: "esm", entryFileNames: "[name].mjs", chunkFileNames: "[name]-[hash].mjs" });
await made.close();
