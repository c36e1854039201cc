// SPDX-License-Identifier: Apache-2.0
/** Bundle one file of this directory for a page, minified as an app is: `node bench/web/bundle.mjs steps directory`. */
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const SDK = join(HERE, "../../web/sdk");
const { rolldown } = await import(createRequire(join(SDK, "package.json")).resolve("rolldown"));
const made = await rolldown({
  input: join(HERE, `${process.argv[2]}.mjs`),
  cwd: SDK,
  platform: "browser",
  resolve: {
    extensionAlias: { ".js": [".ts", ".js"] },
    modules: ["node_modules", join(SDK, "node_modules"), join(HERE, "node_modules")],
  },
});
await made.write({
  dir: resolve(process.argv[3]), format: "esm", minify: true, entryFileNames: "[name].js", chunkFileNames: "[name]-[hash].js",
});
await made.close();
