// SPDX-License-Identifier: Apache-2.0
/**
 * Bundle the SDK for pages that have no bundler: `node scripts/bundle.mjs [directory]`, into web/dist without one.
 *
 * Writes holdfast.js, the chunks that it loads when they are first needed, the licences of what is inside, and the offline
 * verifier (`verifier.mjs`). Same sources, same bytes: nothing of the time or of the machine goes in. Prints the size of
 * each file, and ends with status 1 when what every page loads is over the limit.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";
import { licences } from "./licences.mjs";
import { verifier } from "./verifier.mjs";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
/** Bytes, by gzip: what a page loads before it does anything. Argon2, ML-KEM and what few pages need come later. */
const LIMIT = 60_000;

/** Bundle into memory: the files by name. together: modules that are to lie in one file. */
async function bundle(together = new Set()) {
  const complaints = [];
  const input = { holdfast: join(HERE, "src/index.ts") };
  const made = await rolldown({
    input,
    cwd: HERE,
    platform: "browser",
    resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
    tsconfig: join(HERE, "tsconfig.build.json"),
    onLog: (_level, log) => complaints.push(log.message),
  });
  const { output } = await made.generate({
    format: "esm",
    minify: true,
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
    codeSplitting: { groups: [{ name: "base", test: module => together.has(module) }] },
    comments: { legal: false },
  });
  await made.close();
  // A chunk that cannot be split off, or an import that is not found, is an error here: it shows in nobody's log later.
  if (complaints.length) throw new Error(complaints.join("\n"));
  return output;
}

/** Return the names of the files that are loaded before the entry runs: itself, and what it imports without asking. */
function loadedAtFirst(output) {
  const byName = new Map(output.map(file => [file.fileName, file]));
  const names = new Set(["holdfast.js"]);
  for (const name of names) for (const imported of byName.get(name).imports) names.add(imported);
  return names;
}

/** Bundle twice: what every page loads lies in one file then, which compresses better than twenty. */
async function bundleInTwo() {
  const split = await bundle(), first = loadedAtFirst(split);
  const modules = split.filter(file => first.has(file.fileName)).flatMap(file => Object.keys(file.modules));
  return bundle(new Set(modules));
}

const to = resolve(process.argv[2] ?? join(HERE, "../dist"));
const output = await bundleInTwo();
const text = await licences(output);
await mkdir(to, { recursive: true });
// Chunks of an earlier build have other names; nothing else in a directory that somebody named is touched.
for (const old of await readdir(to)) if (old.endsWith(".js")) await rm(join(to, old));
await writeFile(join(to, "LICENSES.txt"), text);
for (const file of output) await writeFile(join(to, file.fileName), file.code);
for (const [name, page] of Object.entries(await verifier())) await writeFile(join(to, name), page);

const first = loadedAtFirst(output);
const sizes = output.map(file => [gzipSync(file.code, { level: 9 }).length, file.fileName]);
sizes.sort(([a, one], [b, other]) => Number(first.has(other)) - Number(first.has(one)) || b - a);
for (const [size, name] of sizes) {
  console.log(`${String(size).padStart(7)} B gzip  ${first.has(name) ? "at first " : "on demand"}  ${basename(name)}`);
}
const total = sizes.filter(([, name]) => first.has(name)).reduce((sum, [size]) => sum + size, 0);
console.log(`${String(total).padStart(7)} B gzip at first, of ${LIMIT} at most`);
if (total > LIMIT) process.exitCode = 1;
