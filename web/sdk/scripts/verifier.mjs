// SPDX-License-Identifier: Apache-2.0
/**
 * Build the offline verifier, web/verify: `node scripts/verifier.mjs directory` writes verify.html and verify.html.sha256.
 *
 * One file with all that it needs, which works from a disk. Same sources, same bytes. `bundle.mjs` builds it as well.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { licences } from "./licences.mjs";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const PAGE = join(HERE, "../verify");
const CONSOLE_STYLE = join(HERE, "../../templates/static/holdfast/console.css");
// The variables of the console's appearance: light ones first, then those of the dark.
const TOKENS = /^:root \{\n(?: .*\n)+\}\n\n@media \(prefers-color-scheme: dark\) \{\n(?: .*\n)+\}\n/m;

async function script() {
  const complaints = [];
  const made = await rolldown({
    input: join(PAGE, "main.ts"),
    cwd: HERE,
    platform: "browser",
    resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
    tsconfig: join(PAGE, "tsconfig.json"),
    onLog: (_level, log) => complaints.push(log.message),
  });
  // One script: what other pages load when they need it, such as curves that WebCrypto lacks, is inside.
  const { output } = await made.generate({ format: "iife", minify: true, codeSplitting: false, comments: { legal: false } });
  await made.close();
  if (output.length !== 1) complaints.push("the verifier is more than one file");
  if (complaints.length) throw new Error(complaints.join("\n"));
  return output[0];
}

async function style() {
  const [tokens] = TOKENS.exec(await readFile(CONSOLE_STYLE, "utf8")) ?? [];
  if (tokens === undefined) throw new Error("console.css does not begin with its variables");
  return `\n${tokens}\n${await readFile(join(PAGE, "verify.css"), "utf8")}`;
}

const hashOf = text => `sha256-${createHash("sha256").update(text).digest("base64")}`;
const asText = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Return the files by name. */
export async function verifier() {
  const file = await script(), css = await style(), code = file.code.trim();
  if (/<\/script|<!--/i.test(code) || /<\//.test(css)) throw new Error("what stands within an element would end it");
  const { version } = JSON.parse(await readFile(join(HERE, "package.json"), "utf8"));
  const put = {
    script: code,
    style: css,
    "script-hash": hashOf(code),
    "style-hash": hashOf(css),
    version,
    licences: asText(await licences([file])),
  };
  const html = (await readFile(join(PAGE, "verify.html"), "utf8")).replace(/\{\{([a-z-]+)\}\}/g, (_, name) => put[name]);
  const sum = createHash("sha256").update(html).digest("hex");
  return { "verify.html": html, "verify.html.sha256": `${sum}  verify.html\n` };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const to = resolve(process.argv[2]);
  await mkdir(to, { recursive: true });
  for (const [name, text] of Object.entries(await verifier())) await writeFile(join(to, name), text);
}
