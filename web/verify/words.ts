// SPDX-License-Identifier: Apache-2.0
/** What a verdict says to a person: the command's words, what is proven by it, and what is not. Pure. */
import { Verdict, type VerificationReport, Writers } from "../sdk/src/client/auditor/auditor.js";

/** The label of the field for a key to trust, which sentences name. */
export const KEY_FIELD = "Key that you trust";

/** How a verdict is shown. mark: a sign that says it without colour. title: as `holdfast audit verify` says it. */
export interface Look {
  readonly word: string;
  readonly mark: string;
  readonly title: string;
  readonly tone: "ok" | "wait" | "alarm";
}

export const LOOKS: Readonly<Record<Verdict, Look>> = {
  [Verdict.VERIFIED]: { word: "VERIFIED", mark: "✓", title: "Verified and trusted.", tone: "ok" },
  [Verdict.WITHHELD]: { word: "WITHHELD", mark: "◐", title: "As it was signed, and not whole.", tone: "wait" },
  [Verdict.NOT_ANCHORED]: { word: "NOT ANCHORED", mark: "○", title: "Self-consistent, not anchored.", tone: "wait" },
  [Verdict.BROKEN]: { word: "BROKEN", mark: "✗", title: "Broken.", tone: "alarm" },
};

/** The verifier's reason, in the words of this page. */
export function reasonOf(report: VerificationReport): string {
  return report.reason.replaceAll("as `trust`", `under “${KEY_FIELD}”`);
}

/** How far it is known whose keys wrote the entries. */
export const WRITERS: Readonly<Record<Writers, string>> = {
  [Writers.ANCHORED]: "anchored: the key that you trust names who may write, and the entries are signed by them",
  [Writers.CLAIMED]: "claimed: each entry is signed by a key that only the file itself names",
  [Writers.UNKNOWN]: "unknown: nobody's signature was checked on the entries",
};

/** Whose log an origin says it is. */
export function ownerOf(origin: string): string {
  const [, tenant, log] = /^holdfast\/([0-9a-f-]{36})\/(audit|keys)$/.exec(origin) ?? [];
  if (tenant === undefined) return "unknown";
  return `${log === "audit" ? "the audit log" : "the log of keys"} of the organisation ${tenant}`;
}

/** Say in sentences what a verdict proves. heads: how many heads of earlier it was held to. */
export function proven(report: VerificationReport, heads: number): string[] {
  if (report.verdict === Verdict.BROKEN)
    return [
      "This file is not what was signed, or not under the key that you trust. Somebody changed it, cut it, or it was damaged on its way" +
        `${heads > 0 ? "; or a head that you gave is of another log" : ""}.`,
    ];
  const said = [
    `The file holds ${report.size} entries, and each stands where it stood when the head was signed. None was changed, removed, added or moved since.`,
  ];
  if (report.withheld > 0) said.push(`${report.withheld} of them show their hash only: they are there, and what they hold is fixed.`);
  if (report.verdict !== Verdict.NOT_ANCHORED)
    said.push("The head is signed by a key that the key you gave is, or vouches for. Whoever lacks that key cannot make such a file.");
  if (report.writers === Writers.ANCHORED)
    said.push(
      `Each entry that is shown${report.unsigned > 0 ? `, from ${report.unsigned} on,` : ""} was signed by a part of the server that may write such an entry, and stands there once.`,
    );
  if (report.unsigned > 0 && report.writers === Writers.ANCHORED)
    said.push(`Entries 0 to ${report.unsigned - 1} are together what the organisation’s root says they are.`);
  if (heads > 0) said.push(heads === 1 ? "The head that you saved is one of this log’s past." : `The ${heads} heads that you saved are of this log’s past.`);
  return said;
}

/** Say in sentences what a verdict does not prove. */
export function notProven(report: VerificationReport, heads: number): string[] {
  if (report.verdict === Verdict.BROKEN)
    return ["Who did it. Keep the file: it is evidence. Get the log again another way, and compare.", "Anything about the entries in it: do not rely on them."];
  const said: string[] = [];
  if (report.verdict === Verdict.NOT_ANCHORED)
    said.push("Whose log this is. Whoever made the file could have made its keys as well. Give a key that reached you another way.");
  if (report.withheld > 0) said.push("What the withheld entries hold, and who wrote them. This is not the whole log.");
  if (report.writers !== Writers.ANCHORED) said.push("Who wrote the entries.");
  else if (report.unsigned > 0) said.push(`Who wrote entries 0 to ${report.unsigned - 1}: they are older than signatures.`);
  said.push("That what an entry says was true, or right to do. That is for people to judge.");
  said.push("What happened after the head was signed, and that this is the newest head.");
  if (heads === 0)
    said.push("That this log goes on from one you saw before. Whoever has the log’s key could leave entries out: a head that you saved earlier shows it. Keep this one for the next time.");
  return said;
}

/** What stands beside the verdict for a file that was read only in part. */
export const CUT = "This file unpacks to more than a log of the size that it names has. It was not read any further.";
