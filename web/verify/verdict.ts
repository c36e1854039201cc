// SPDX-License-Identifier: Apache-2.0
/** The verdict as a person sees it: the word, whose log, what is proven and what not, and what is wrong where. */
import { Verdict, type VerificationReport } from "../sdk/src/client/auditor/auditor.js";
import { facts, list, made, others } from "./dom.js";
import { utc } from "./entries.js";
import { local } from "./times.js";
import { CUT, LOOKS, notProven, ownerOf, proven, reasonOf, WRITERS } from "./words.js";

/** What was held to what. */
export interface Shown {
  readonly report: VerificationReport;
  readonly name: string;
  readonly size: number;
  readonly heads: number;
  readonly trust: string | undefined;
  readonly isCut: boolean;
}

/** Return what stands in the verdict's box; its heading, which takes the focus, comes first. */
export function verdictOf(shown: Shown): { readonly heading: HTMLElement; readonly parts: readonly HTMLElement[] } {
  const { report, heads } = shown, look = LOOKS[report.verdict], { entry } = report;
  const sign = made("span", "verdict-mark", look.mark);
  sign.ariaHidden = "true";
  const heading = made("h2", "", sign, made("span", "verdict-word", look.word), ` ${look.title}`);
  heading.id = "verdict-title";
  heading.tabIndex = -1;
  const parts: HTMLElement[] = [made("p", "verdict-reason", others(reasonOf(report)), ".")];
  if (shown.isCut) parts.push(made("p", "", CUT));
  if (entry !== undefined)
    parts.push(
      made("h3", "", "First entry that is wrong"),
      facts(
        ["Index", String(entry.index)],
        ["Id", others(entry.id || "unreadable", "mono")],
        ["Tag", others(entry.tag || "unreadable", "mono")],
        ["Reason", others(entry.reason)],
      ),
    );
  if (report.origin !== "") parts.push(made("h3", "", "This log"), facts(...aboutOf(shown)));
  const isBroken = report.verdict === Verdict.BROKEN;
  parts.push(made("h3", "", isBroken ? "What this means" : "What this proves"), list(proven(report, heads)));
  parts.push(made("h3", "", "What it does not prove"), list(notProven(report, heads)));
  if (report.held !== undefined)
    parts.push(
      made("h3", "", "Signed head, to keep for the next time"),
      made("pre", "block mono", report.held.note),
    );
  return { heading, parts: [heading, ...parts] };
}

function* aboutOf({ report, name, size, trust }: Shown): Generator<readonly [string, string | Node]> {
  const isBroken = report.verdict === Verdict.BROKEN;
  yield ["File", made("span", "", others(name), `, ${size.toLocaleString("en")} bytes`)];
  yield [isBroken ? "Whose, as it claims" : "Whose", ownerOf(report.origin)];
  yield ["Origin", others(report.origin, "mono")];
  yield [isBroken ? "Entries, as it claims" : "Entries", report.size.toLocaleString("en")];
  if (report.withheld > 0) yield ["Withheld", report.withheld.toLocaleString("en")];
  if (isBroken) return;
  yield ["Head signed", report.time > 0 ? `${local(report.time)} (${utc(report.time)})` : "unknown"];
  yield ["Signed by the key", others(report.vkey, "mono")];
  yield ["Held to the key", trust === undefined ? "none was given" : others(trust, "mono")];
  yield ["Writers", WRITERS[report.writers]];
  if (report.unsigned > 0) yield ["Older than signatures", `entries 0 to ${report.unsigned - 1}`];
  for (const [index, count] of report.restored)
    yield ["Backup put back", `entry ${index} says so: a backup of ${count} entries, which officers accepted`];
}
