// SPDX-License-Identifier: Apache-2.0
/**
 * What went wrong with messages, kept until somebody has read it: each with a sentence, a way out, and the evidence.
 *
 * docs/formats/messages.md ("Receiving"): one report for each thing that a person or an app must hear of. Decides nothing:
 * whoever reports has refused already.
 */
import { type Bytes, concat, EMPTY, equal, hex, utf8 } from "../../core/base/bytes.js";
import { encode, MAX_BLOB } from "../../core/base/encoding.js";
import { choice, layout, octets, openRow, sealRow, several, text as textColumn, uint } from "../../core/base/rows.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { uuidText } from "../../core/base/uuids.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";
import { type Quota, SENDER, trim } from "./quotas.js";

/** Rows: a reason for which something waits, told and not to be told again. */
export const TOLD = "held-told";
/** Nothing that is held can be opened after that. */
export const TOLD_SECONDS = 60 * 86_400;
const MOST_TOLD = 8; // reasons of one thing: a server that changes its excuse is not listened to for ever
// Of all that waits, as many as messages that are held. What waits no more since it gave way to others leaves its row
// behind, and a server can name others without end. Who is above it hears of a reason again, and of none too few.
const TOLD_QUOTA: Quota = { ofOne: MOST_TOLD, ofAll: 4000 };
const OPENS_LATER = "It opens by itself when this has passed. If it goes on, tell your officers.";
/** Rows of all kinds, as they were kept before each kind had its own. */
export const REPORT = "report";
/**
 * Of one kind: junk of one person fills a tenth of it and no more, and no report of another kind gives way. An honest year
 * brings none, or a handful; each is there until somebody has read it.
 */
export const QUOTA: Quota = { ofOne: 50, ofAll: 500 };
const MAX_ROW = 4 * MAX_BLOB; // bytes: two messages as evidence, and the words
// Characters: a sentence or two of ours, in which a name that somebody else chose may stand.
const MAX_TEXT = 2048, MAX_WAY_OUT = 1024;

/**
 * What happened. UNDECRYPTABLE: a message that does not open; WAITING: one that needs a human's yes first.
 *
 * IN_DOUBT: one that is held until a doubt about a chain or the log has passed.
 */
export const ReportKind = {
  UNDECRYPTABLE: "undecryptable",
  WAITING: "waiting",
  IN_DOUBT: "in-doubt",
  KEY_REUSED: "one-time-key-reused",
  LAST_RESORT: "last-resort",
  CHAIN_HIDDEN: "chain-hidden",
  SPLIT_VIEW: "split-view",
  CONTENT_WITHHELD: "content-withheld",
  NOT_SENT: "not-sent",
  NOT_CONFIRMED: "not-confirmed",
} as const;
export type ReportKind = (typeof ReportKind)[keyof typeof ReportKind];

function rowKind(kind: ReportKind): string {
  return `${REPORT}-${kind}`;
}

interface ReportFields {
  readonly kind: ReportKind;
  readonly at: number;
  readonly user: Bytes;
  readonly device: Bytes;
  readonly text: string;
  readonly wayOut: string;
  readonly evidence: readonly Bytes[];
}

const ROW = layout<ReportFields>(
  "report",
  {
    kind: choice(ReportKind, "ReportKind"),
    at: uint(),
    user: octets(),
    device: octets(),
    text: textColumn({ maximum: MAX_TEXT }),
    wayOut: textColumn({ maximum: MAX_WAY_OUT }),
    evidence: several(octets()),
  },
  { rowSize: MAX_ROW },
);

/** One thing to be heard of. */
export class Report {
  readonly kind: ReportKind;
  /** UTC seconds. */
  readonly at: number;
  /** Whom the server names (16 bytes each), empty where nobody is named. */
  readonly user: Bytes;
  readonly device: Bytes;
  readonly text: string;
  readonly wayOut: string;
  /** The messages as they came, at most two. */
  readonly evidence: readonly Bytes[];
  readonly #store: Store;

  constructor(
    readonly id: Bytes,
    fields: ReportFields,
    store: Store,
  ) {
    this.kind = fields.kind;
    this.at = fields.at;
    this.user = fields.user;
    this.device = fields.device;
    this.text = fields.text;
    this.wayOut = fields.wayOut;
    this.evidence = fields.evidence;
    this.#store = store;
  }

  /** The device and user named, for people. */
  get sender(): string {
    if (this.user.length === 0) return "the server";
    const user = uuidText(this.user);
    return this.device.length > 0 ? `device ${uuidText(this.device)} of ${user}` : user;
  }

  /** Put the report away. Its evidence goes with it. */
  async done(): Promise<void> {
    await this.#store.transaction(async () => {
      await this.#store.delete(rowKind(this.kind), this.id);
      await this.#store.delete(REPORT, this.id);
    });
  }
}

/** A reason for which something waits. report: its id, until somebody has read it. */
interface Told {
  readonly until: number;
  readonly kind: ReportKind;
  readonly report: Bytes;
}

const TOLD_ROW = layout<Told>("reason told", { until: uint(), kind: choice(ReportKind, "ReportKind"), report: octets() });

/** What a report says beside its sentence. Nobody is named where user and device are left out. */
export interface Said {
  readonly wayOut: string;
  readonly user?: Bytes;
  readonly device?: Bytes;
  readonly evidence?: readonly Bytes[];
}

/** Keep a report, in the caller's transaction; returns its id. */
export async function add(account: Account, kind: ReportKind, text: string, said: Said): Promise<Bytes> {
  const { user = EMPTY, device = EMPTY, evidence = [] } = said;
  const shown = cut(text, MAX_TEXT), wayOut = cut(said.wayOut, MAX_WAY_OUT);
  // The same thing found again and again is one report.
  const what = sha256(encode([kind, user, device, shown, evidence]));
  const name = concat(user.length > 0 ? user : new Uint8Array(SENDER), what);
  const fields = { kind, at: account.api.clock.now(), user, device, text: shown, wayOut, evidence };
  await account.store.put(rowKind(kind), name, sealRow(ROW, fields));
  await trim(account.store, rowKind(kind), QUOTA);
  return name;
}

/** The first so many characters. */
function cut(text: string, most: number): string {
  return text.length <= most ? text : [...text].slice(0, most).join("");
}

/**
 * Keep a report of why something waits, once for each reason also after it was read; in a transaction of its own.
 *
 * about: what waits, 16 bytes, until `forgetTold` says that it waits no more.
 */
export async function addOnce(
  account: Account,
  about: Bytes,
  kind: ReportKind,
  text: string,
  of: { wayOut: string; user: Bytes },
): Promise<void> {
  const { store } = account;
  await store.transaction(async () => {
    const name = concat(about, sha256(utf8(text)));
    if ((await store.get(TOLD, name)) !== undefined || (await told(account, about)).length >= MOST_TOLD) return;
    const report = await add(account, kind, text, { wayOut: of.wayOut || OPENS_LATER, user: of.user });
    const until = account.api.clock.latest() + TOLD_SECONDS;
    await store.put(TOLD, name, sealRow(TOLD_ROW, { until, kind, report }));
    await trim(store, TOLD, TOLD_QUOTA, { isKnown: (sender) => account.state.contacts.has(hex(sender)) });
  });
}

/** Withdraw what `addOnce` has told of something, which waits no more, in the caller's transaction. */
export async function forgetTold(account: Account, about: Bytes): Promise<void> {
  for (const name of await told(account, about)) {
    const kept = await account.store.get(TOLD, name);
    if (kept === undefined) continue;
    const row = openRow(TOLD_ROW, kept);
    await account.store.delete(rowKind(row.kind), row.report);
    await account.store.delete(TOLD, name);
  }
}

async function told(account: Account, about: Bytes): Promise<Bytes[]> {
  return (await account.store.keys(TOLD)).filter((name) => equal(name.subarray(0, about.length), about));
}

/** Say another way out in the reports about a device that say this one, in the caller's transaction. */
export async function changeWayOut(
  account: Account,
  user: Bytes,
  device: Bytes,
  before: string,
  after: string,
): Promise<void> {
  for (const report of await list(account, user))
    if (equal(report.user, user) && equal(report.device, device) && report.wayOut === before) {
      const { kind, at, text, evidence } = report;
      const changed = { kind, at, user, device, text, wayOut: after, evidence };
      await account.store.put(rowKind(kind), report.id, sealRow(ROW, changed));
    }
}

/** Return the reports that were not put away, oldest first. */
export async function listReports(account: Account): Promise<Report[]> {
  return (await list(account)).sort((one, other) => one.at - other.at);
}

/** Return the reports about a user, or all of them. None of another is opened: each is as long as its evidence. */
async function list(account: Account, user: Bytes = EMPTY): Promise<Report[]> {
  const found: Report[] = [];
  for (const rows of [REPORT, ...Object.values(ReportKind).map(rowKind)])
    for (const key of await account.store.keys(rows)) {
      // Rows of before each kind had its own are named by no user.
      if (rows !== REPORT && !equal(key.subarray(0, user.length), user)) continue;
      const kept = await account.store.get(rows, key);
      if (kept !== undefined) found.push(new Report(key, openRow(ROW, kept), account.store));
    }
  return found;
}
