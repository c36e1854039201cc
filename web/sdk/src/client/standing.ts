// SPDX-License-Identifier: Apache-2.0
/**
 * What stands open on an account and only its person can judge, each with the call that answers it.
 *
 * The notices of docs/spec/protocol.md sections 5, 6 and 8 on the device that reads them, for `maintenance`. Changes nothing
 * but what a person says they have seen, and believes the server's word for no more than a hint.
 */
import { type Bytes, concat, equal, hex, unhex, utf8 } from "../core/base/bytes.js";
import { SecretBytes } from "../core/base/secret.js";
import { uuidText } from "../core/base/uuids.js";
import { AnswerRefused } from "./errors.js";
import * as evidence from "./identity/evidence.js";
import * as keyLog from "./identity/key_log.js";
import type { ForeignEntry } from "./identity/key_log.js";
import * as restored from "./identity/restored.js";
import * as letters from "./messages/letters.js";
import * as messages from "./messages/messages.js";
import type { Account } from "./profile/account.js";
import * as byDoor from "./recovery/by_door.js";
import type { Answer } from "./server/answers.js";
import * as doors from "./vault/doors.js";
import * as shareRequests from "./vault/share_requests.js";

const CASE_OVER: ReadonlySet<string> = new Set(["closed", "denied", "vetoed", "expired", "cancelled", "held"]);
const CASE_OPENED: ReadonlySet<string> = new Set(["released", "collected", "awaiting-share", "rotated", "sealed"]);

const NOT_YOU = 'If that was not you: client.rotate(undefined, { revoke: ["{device_id}"] }), and tell your officers. ';
const SEEN = "Once read: client.putAwaySeen()";
// The server's own word, so a hint and no more: what it says is looked up here, never shown as it came.
const NOTICES: ReadonlyMap<string, readonly [said: string, wayOut: string]> = new Map([
  ["door-read", ["Device {device_id} has fetched the {kind} door of your keyring.", NOT_YOU + SEEN]],
  ["device-joined", ["Device {device_id} has joined your account by itself.", NOT_YOU + SEEN]],
  [
    "device-restored",
    [
      "Device {device_id} is yours again: the server had lost it, and your account chain lists it.",
      `If you had revoked it since, revoke it again: client.rotate(undefined, { revoke: ["{device_id}"] }). ${SEEN}`,
    ],
  ],
  [
    "code-issued",
    [
      "A code was issued by which one device can enrol in your name.",
      `If you did not ask for it, tell your officers. ${SEEN}`,
    ],
  ],
  [
    "device-enrolled",
    [
      "Device {device_id} was enrolled in your name, by a code. It is no part of your account yet.",
      `If it is not yours, approve it nowhere, and tell your officers. ${SEEN}`,
    ],
  ],
  [
    "policy-proposed",
    [
      "Version {version} of your organisation's policy waits for your signature: proposal {proposal}.",
      `Read it: holdfast officer policy show. ${SEEN}`,
    ],
  ],
  [
    "policy-published",
    [
      "Your organisation's officers published version {version} of the escrow policy.",
      `Answer until {until}: client.escrow.consent(). ${SEEN}`,
    ],
  ],
  [
    "officer-keys-lost",
    [
      "Officer {by} lost a device, and counts for nothing until a policy names other keys of theirs.",
      "If that is you: holdfast officer new-keys. Then, whoever of you: holdfast officer policy propose --add {by}. " + SEEN,
    ],
  ],
  [
    "escrow-ending",
    [
      "Version {version} of your organisation's escrow {kind} runs out on {until}.",
      "Have officers sign the next one: holdfast officer policy propose, or the operator's ceremony for a key. " + SEEN,
    ],
  ],
  [
    "escrow-key-proposed",
    [
      "Version {version} of your organisation's escrow key waits for your signature: proposal {proposal}.",
      `Compare its words with the ceremony's: holdfast officer key sign. ${SEEN}`,
    ],
  ],
  [
    "case-opened",
    [
      "Case {case_id} was opened in your name: it asks your officers for archive keys.",
      `If that was not you: client.cases.cancel({ caseId: "{case_id}", reason }), and tell your officers. ${SEEN}`,
    ],
  ],
  [
    "case-cancelled",
    [
      "Case {case_id}, which this device opened, was cancelled on another device of yours: {device_id}.",
      `If that was not you, tell your officers. Ask anew with: client.cases.open(). ${SEEN}`,
    ],
  ],
  [
    "contacts-request",
    [
      "Device {device_id} asks the trusted contacts of {owner} for recovery shares.",
      `See: client.contacts.requests(). ${SEEN}`,
    ],
  ],
  ["contacts-collected", ["Device {device_id} has collected the recovery shares of {owner}.", NOT_YOU + SEEN]],
  [
    "messages-dropped",
    [
      "{messages} messages by {by} waited for device {device_id}, which was revoked, and were deleted unread.",
      "What none of your devices has confirmed is sent again by itself. Ask the sender if it does not come. " + SEEN,
    ],
  ],
  [
    "contact-left",
    [
      "{by}, whom you chose as a trusted contact, has left your organisation.",
      `Choose others, or fewer of them open your vault: client.backup.setContacts(). ${SEEN}`,
    ],
  ],
  ["contacts-request-ended", ["A request for the recovery shares of {owner} has ended: {state}.", SEEN]],
]);
const OTHER = ["The server has a notice of a kind that this program does not know: {event}.", SEEN] as const;

// A row for each warning that stands open and was shown: `putAwaySeen` puts away these, and none that came since.
const SHOWN = "shown";

/** How a part of the maintenance ended. */
export const Outcome = {
  DONE: "done",
  NOTHING: "nothing due",
  NEEDS_YOU: "needs you",
  FAILED: "failed",
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** One line of the report. */
export interface Done {
  readonly item: string;
  readonly outcome: Outcome;
  readonly said: string;
  /** What a person can do, with the call; empty when there is nothing to do. */
  readonly wayOut: string;
  /** Names a warning that comes again until it was shown (`noteShown`) and put away; none of any other line. */
  readonly kept: Bytes | undefined;
}

/** Return a line of the report. */
export function line(item: string, outcome: Outcome, said: string, wayOut = "", kept?: Bytes): Done {
  return { item, outcome, said, wayOut, kept };
}

/** Return the line of something that was done. */
export function done(item: string, said: string): Done {
  return line(item, Outcome.DONE, said);
}

/** Return the line of something that only the person can answer. */
export function needsYou(item: string, said: string, wayOut: string, kept?: Bytes): Done {
  return line(item, Outcome.NEEDS_YOU, said, wayOut, kept);
}

/** Say what a device needs that is not part of its account yet, or has not finished coming back to it. */
export async function* ofPending(account: Account): AsyncGenerator<Done> {
  if (await byDoor.isUnfinished(account))
    yield needsYou(
      "this device",
      "A recovery of your account on this device is not finished.",
      "Finish it: client.recover.finish()",
    );
  else if (!account.device.isActive)
    yield needsYou(
      "this device",
      "This device is not part of your account yet.",
      "Approve it on another device of yours (client.devices.approve()), or recover: client.recover",
    );
}

/** Remember which warnings have been shown whole: `Done.kept`, and the ids of reports and notices. */
export async function noteShown(account: Account, kept: Iterable<Bytes>): Promise<void> {
  const named = new Set([...(await account.store.keys(SHOWN)), ...kept].map(hex)), standOpen = await open(account);
  await account.store.transaction(async () => {
    for (const one of named)
      if (standOpen.has(one)) await account.store.put(SHOWN, unhex(one), new SecretBytes(utf8("1")));
      else await account.store.delete(SHOWN, unhex(one));
  });
}

/**
 * Put away what the person has read: foreign entries, notices, reports. Evidence stays. Returns how many.
 *
 * What was not shown yet (`noteShown`) stays as well: it came after the person had looked.
 */
export async function putAwaySeen(account: Account): Promise<number> {
  const shown = new Set((await account.store.keys(SHOWN)).map(hex));
  const read = [...(await open(account))].filter(([one]) => shown.has(one));
  for (const [, putAway] of read) await putAway();
  await noteShown(account, []);
  return read.length;
}

/** Return what puts away each warning that stands open, by its name in hex. */
async function open(account: Account): Promise<Map<string, () => Promise<void>>> {
  const found = new Map<string, () => Promise<void>>();
  for (const entry of await keyLog.foreignEntries(account))
    found.set(hex(nameOf(entry)), () => keyLog.putAwaySeen(account, entry));
  for (const notice of await letters.notices(account))
    found.set(hex(notice.id), () => letters.putAway(account, [notice]));
  for (const report of await messages.reports(account)) found.set(hex(report.id), () => report.done());
  for (const one of await restored.untold(account)) found.set(hex(one.hash), () => restored.noteTold(account, one));
  return found;
}

function nameOf(entry: ForeignEntry): Bytes {
  const seq = new Uint8Array(4);
  new DataView(seq.buffer).setUint32(0, entry.seq);
  return concat(utf8("entry"), seq);
}

/** Name the devices that ask to become part of the account. */
export async function* ofDevices(account: Account): AsyncGenerator<Done> {
  const { devices } = await account.chain();
  for await (const row of account.api.pages("devices", "devices", "device_id")) {
    const identifier = row.identifier("device_id");
    if (devices.has(hex(identifier)) || row.text("state") !== "pending") continue;
    const name = uuidText(identifier);
    yield needsYou(
      "devices",
      `Device ${name} asks to become part of your account.`,
      `If it is yours: client.devices.approve("${name}", words). If not, change nothing and tell your officers.`,
    );
  }
}

/** Name the entries of the own chain that this device did not make. */
export async function* ofChain(account: Account): AsyncGenerator<Done> {
  for (const entry of await keyLog.foreignEntries(account)) {
    const by = entry.device ? ` by device ${entry.device}` : "";
    yield needsYou(
      "account chain",
      `Entry ${entry.seq} of your account (${entry.type})${by} was not made on this device.`,
      "If another device of yours did that, all is well: client.putAwaySeen(). If not: client.rotate()",
      nameOf(entry),
    );
  }
}

/** Name what is asked of trusted contacts: in the own name, and of this person. */
export async function* ofRequests(account: Account): AsyncGenerator<Done> {
  for (const pending of await shareRequests.requests(account))
    if (pending.state === "open" && !equal(pending.device, account.device.id))
      yield needsYou(
        "recovery",
        `Device ${uuidText(pending.device)} asks your trusted contacts for your keys.`,
        `If that is not you, stop it now: client.contacts.veto("${pending.requestId}")`,
      );
  for (const asked of await shareRequests.listRequests(account))
    if (asked.state === "open" && asked.holdsShare)
      yield needsYou(
        "recovery",
        `${uuidText(asked.owner)} asks you for a recovery share.`,
        `Call the person, have the code read to you, then: client.contacts.give("${asked.requestId}", code)`,
      );
}

/** A case as the server lists it for those who may see it. */
export interface ListedCase {
  readonly caseId: string;
  readonly state: string;
  readonly subject: string;
  readonly purpose: string;
}

/** Return the cases that this person may see. */
export async function listCases(account: Account): Promise<ListedCase[]> {
  const found: ListedCase[] = [];
  for await (const row of account.api.pages("cases", "cases", "case_id"))
    found.push({
      caseId: uuidText(row.identifier("case_id")),
      state: row.text("state"),
      subject: uuidText(row.identifier("subject")),
      purpose: row.text("purpose"),
    });
  return found;
}

/** Name the cases that would open the own archive, or have. */
export async function* ofCases(account: Account): AsyncGenerator<Done> {
  for (const one of await listCases(account)) {
    if (one.subject !== account.userText || CASE_OVER.has(one.state)) continue;
    const named = `case ${one.caseId} (${one.purpose}, ${one.state})`;
    if (CASE_OPENED.has(one.state))
      yield needsYou(
        "escrow",
        `Your archive keys were opened: ${named}.`,
        "If you do not know why: ask your officers.",
      );
    else
      yield needsYou(
        "escrow",
        `Officers are asked to open your archive keys: ${named}.`,
        `If you did not ask for it: client.cases.veto("${one.caseId}", { reason }), and tell your officers.`,
      );
  }
}

/** Name the ways back that are missing or closed. */
export async function* ofDoors(account: Account): AsyncGenerator<Done> {
  if (account.state.vault.key.length === 0 && (await account.chain()).devices.size === 1)
    yield needsYou(
      "backup",
      "There is no way back to your keys if you lose this device.",
      "Make one: client.backup.newPhrase(), or client.devices.pair()",
    );
  for (const kind of await doors.listLost(account))
    yield needsYou(
      "backup",
      `The server was put back from a backup and has lost the ${kind} that you set: an older one may open there.`,
      `Set it again: ${setting(kind)}`,
    );
  for (const kind of await doors.listClosed(account))
    yield needsYou("backup", `Your ${kind} no longer opens your keyring: its key was changed.`, setting(kind));
}

function setting(kind: string): string {
  if (kind === doors.PASSWORD) return "client.backup.setPassword()";
  return kind === doors.PHRASE ? "client.backup.newPhrase()" : "client.backup.setContacts()";
}

/** Name the server's notices, the reports and the evidence that are kept here. */
export async function* ofKept(account: Account): AsyncGenerator<Done> {
  for (const notice of await letters.notices(account)) {
    const [said, wayOut] = NOTICES.get(notice.event) ?? OTHER;
    const fill = (text: string): string =>
      text.replace(/\{([a-z_]+)\}/g, (_, name: string) =>
        named(name === "event" ? notice.event : wordIn(notice.said, name)),
      );
    yield needsYou("notices", fill(said), fill(wayOut), notice.id);
  }
  for (const report of await messages.reports(account))
    yield needsYou("messages", report.text, report.wayOut, report.id);
  for (const one of await restored.untold(account)) yield needsYou("server", restored.wordsOf(one), SEEN, one.hash);
  const kept = (await evidence.listEvidence(account)).filter((one) => one.explained === undefined);
  if (kept.length > 0)
    yield needsYou(
      "evidence",
      `${kept.length} contradictions of the server are kept on this device as evidence.`,
      "Show them to your officers and your auditor: evidence.listEvidence()",
    );
}

function wordIn(said: Answer, name: string): string | undefined {
  try {
    return said.text(name);
  } catch (error) {
    if (error instanceof AnswerRefused) return undefined; // a number, or nothing of this name
    throw error;
  }
}

/** Return an id or a word of the server's; anything else could be written to mislead, and is left out. */
function named(value: string | undefined): string {
  return value !== undefined && /^[a-z0-9-]{1,36}$/.test(value) ? value : "(unnamed)";
}
