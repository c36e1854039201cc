// SPDX-License-Identifier: Apache-2.0
/** Bundle one TypeScript file for a page: `node scripts/for_page.mjs entry.ts directory`. The tests load what it makes. */
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const [entry, directory] = process.argv.slice(2);
const made = await rolldown({
  input: resolve(entry),
  cwd: dirname(dirname(fileURLToPath(import.meta.url))),
  platform: "browser",
  resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
});
await made.write({ dir: resolve(directory), format: "esm", entryFileNames: "[name].js", chunkFileNames: "[name]-[hash].js" });
await made.close();
