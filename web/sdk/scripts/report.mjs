// SPDX-License-Identifier: Apache-2.0
/**
 * Write what the package exports, module by module and without comments: `node scripts/report.mjs [file]`.
 *
 * The file is committed as api.txt: a change of it is a change for whoever uses the package, and is seen as one.
 */
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const BEFORE = "What the npm package holdfast exports, by module. Written by `make web`; not by hand.\n";

/** Return the declarations of one module as they are written, without blank lines, imports' order as in the source. */
async function section(directory, name) {
  const text = await readFile(join(directory, name), "utf8");
  const lines = text.split("\n").filter(line => line.trim() && !line.startsWith("//# "));
  return `\n== holdfast/${name.replace(/\.d\.ts$/, "")}\n${lines.join("\n")}\n`;
}

const to = resolve(process.argv[2] ?? join(HERE, "api.txt"));
const made = await mkdtemp(join(tmpdir(), "holdfast-api-"));
try {
  const options = ["--declaration", "--emitDeclarationOnly", "--sourceMap", "false", "--removeComments", "--outDir", made];
  const tsc = join(HERE, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", join(HERE, "tsconfig.build.json"), ...options], { stdio: "inherit" });
  const names = (await readdir(made, { recursive: true })).filter(name => name.endsWith(".d.ts")).sort();
  const sections = await Promise.all(names.map(name => section(made, name)));
  await writeFile(to, BEFORE + sections.join(""));
} finally {
  await rm(made, { recursive: true });
}
