// SPDX-License-Identifier: Apache-2.0
/** Entries that are looked at are those of the file that was verified, also when another has taken its place since. */
import { expect, test } from "vitest";
import { Verdict, verifyExport } from "../../src/client/auditor/auditor.js";
import { Broken } from "../../src/client/auditor/entries.js";
import { heldTo, type Row, rowsOf } from "../../../verify/entries.js";
import { type Json, vectors } from "../vectors.js";

const files = new Map<string, Json>(vectors("audit").files.map((one: Json) => [one.name, one]));
const blobOf = (name: string): Blob => new Blob(files.get(name).lines);

async function rows(file: Blob, held: ReturnType<typeof heldTo>): Promise<Row[]> {
  const found: Row[] = [];
  for await (const row of rowsOf(file, held)) found.push(row);
  return found;
}

test("entries of the verified file are read, and of no other", async () => {
  const [one, trust] = [blobOf("format 4"), files.get("format 4").trust];
  const report = await verifyExport(one, { trust });
  expect(report.verdict).toBe(Verdict.VERIFIED);
  expect(await rows(one, heldTo(report))).toHaveLength(report.size);
  for (const name of ["format 4, one entry withheld", "format 3", "the log of keys"])
    await expect(rows(blobOf(name), heldTo(report)), name).rejects.toBeInstanceOf(Broken);
});
