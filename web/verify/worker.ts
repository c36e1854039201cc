// SPDX-License-Identifier: Apache-2.0
/** The part of the page that works: it verifies, and reads the entries again. In a worker, so that the page stays alive. */
import { Malformed } from "../sdk/src/core/base/errors.js";
import { headerFromLine } from "../sdk/src/core/log/log_export.js";
import { Verdict, type VerificationReport, verifyExport, Writers } from "../sdk/src/client/auditor/auditor.js";
import { Broken, Lines } from "../sdk/src/client/auditor/entries.js";
import { csvLine } from "./csv.js";
import { CELLS, cellsOf, type Filter, type Held, heldTo, matches, type Row, rowsOf } from "./entries.js";
import { Damaged } from "./gunzip.js";
import type { Asked, Told } from "./messages.js";
import { type Opened, opened } from "./unpacked.js";

const PAGE = 100; // rows shown at once
const OFTEN = 5000; // entries between two words of how far a search is
const CSV_PART = 1024 * 1024; // characters kept as text, before they become part of a Blob

const tell = (told: Told): void => self.postMessage(told);

let log: { readonly opened: Opened; readonly held: Held } | undefined;
/** The search that the page asked for last, and where it stands; and the file that it asked for last. */
let run = 0, found: AsyncGenerator<Row> | undefined, saving = 0;

/** Answer what the page asks. */
export function serve(): void {
  self.addEventListener("message", (event: MessageEvent<Asked>) => {
    answer(event.data).catch((error: unknown) => tell({ told: "failed", why: error instanceof Error ? error.message : String(error) }));
  });
}

async function answer(asked: Asked): Promise<void> {
  if (asked.ask === "verify") return verify(asked.file, asked.trust, asked.saved);
  if (asked.ask === "csv") return save(asked.filter, (saving = asked.run));
  if (asked.ask === "find") [run, found] = [asked.run, search(asked.filter, asked.run, () => run === asked.run)];
  return show(asked.run);
}

async function verify(file: Blob, trust: string | undefined, saved: readonly string[]): Promise<void> {
  try {
    const read = await opened(file, (octets) => tell({ told: "unpacking", share: octets / file.size }));
    const size = await sizeOf(read);
    tell({ told: "checking", done: 0, size });
    const report = await verifyExport(read.file, { trust, saved, tell: (done) => tell({ told: "checking", done, size }) });
    if (size > 0) log = { opened: read, held: heldTo(report) };
    tell({ told: "verified", report, isCut: read.isCut && size > 0, canBeRead: size > 0 });
  } catch (error) {
    if (error instanceof Malformed) tell({ told: "no key", why: error.message });
    else if (error instanceof Damaged) tell({ told: "verified", report: damaged(error), isCut: false, canBeRead: false });
    else throw error;
  }
}

/** How many entries the first line promises; 0 of what is no log. */
async function sizeOf(read: Opened): Promise<number> {
  try {
    return headerFromLine(await new Lines(read.file).next()).size;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return 0;
  }
}

function damaged(error: Damaged): VerificationReport {
  return {
    verdict: Verdict.BROKEN, reason: `this file is packed by gzip and damaged: ${error.message}`, origin: "", size: 0, time: 0,
    vkey: "", entry: undefined, withheld: 0, writers: Writers.UNKNOWN, unsigned: 0, restored: [], held: undefined,
  };
}

/** Give the entries that are looked for, as long as they are wanted. */
async function* search(filter: Filter, mine: number, isWanted: () => boolean): AsyncGenerator<Row> {
  if (log === undefined) return;
  for await (const row of rowsOf(log.opened.again(), log.held)) {
    if (!isWanted()) return;
    if (row.index % OFTEN === OFTEN - 1) tell({ told: "reading", run: mine, index: row.index + 1 });
    if (matches(row, filter)) yield row;
  }
}

async function show(mine: number): Promise<void> {
  const rows: Row[] = [];
  let isEnd = false, fault = "";
  try {
    while (rows.length < PAGE && !isEnd) {
      const next = await found?.next();
      if (next === undefined || next.done === true) isEnd = true;
      else rows.push(next.value);
    }
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    [isEnd, fault] = [true, error.reason];
  }
  tell({ told: "rows", run: mine, rows, isEnd, fault });
}

async function save(filter: Filter, mine: number): Promise<void> {
  // What is finished becomes a Blob, which the browser keeps outside of this worker's memory.
  let file = new Blob(["\ufeff", csvLine(CELLS)]), text = "", count = 0, fault = "";
  try {
    for await (const row of search(filter, mine, () => saving === mine)) {
      text += csvLine(cellsOf(row));
      count++;
      if (text.length > CSV_PART) [file, text] = [new Blob([file, text]), ""];
    }
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    fault = error.reason;
  }
  // Overtaken by another, it is not whole.
  if (saving !== mine) return;
  tell({ told: "csv", run: mine, file: new Blob([file, text], { type: "text/csv" }), count, fault });
}
