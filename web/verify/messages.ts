// SPDX-License-Identifier: Apache-2.0
/** What page and worker say to each other. */
import type { VerificationReport } from "../sdk/src/client/auditor/auditor.js";
import type { Filter, Row } from "./entries.js";

/** To the worker. run: counts up; an answer to an earlier one is of no interest any more. */
export type Asked =
  | { readonly ask: "verify"; readonly file: Blob; readonly trust: string | undefined; readonly saved: readonly string[] }
  | { readonly ask: "find"; readonly run: number; readonly filter: Filter }
  | { readonly ask: "more"; readonly run: number }
  | { readonly ask: "csv"; readonly run: number; readonly filter: Filter };

/** How a verification ended. */
export interface Verified {
  readonly told: "verified";
  readonly report: VerificationReport;
  /** It unpacks to more than a log has. */
  readonly isCut: boolean;
  /** It has entries that can be looked at. */
  readonly canBeRead: boolean;
}

/** From the worker. */
export type Told =
  /** share: from 0 to 1. */
  | { readonly told: "unpacking"; readonly share: number }
  | { readonly told: "checking"; readonly done: number; readonly size: number }
  | Verified
  /** What was given to trust is no key. */
  | { readonly told: "no key"; readonly why: string }
  /** isEnd: there are no more. fault: why it could not be read any further, "" where it could. */
  | { readonly told: "rows"; readonly run: number; readonly rows: readonly Row[]; readonly isEnd: boolean; readonly fault: string }
  | { readonly told: "reading"; readonly run: number; readonly index: number }
  | { readonly told: "csv"; readonly run: number; readonly file: Blob; readonly count: number; readonly fault: string }
  /** Nothing of it is of the log: a file that cannot be read any more, memory. */
  | { readonly told: "failed"; readonly why: string };
