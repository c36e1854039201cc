// SPDX-License-Identifier: Apache-2.0
/**
 * Acts of administration from a person's device: looked at in words, confirmed with their authenticator's code.
 *
 * docs/spec/organisation.md "Acts" on the client's side. The words are the server's, and so is what it then does: nothing here
 * proves them. What this module adds is that a code is sent once, and that a secret shown once is a `SecretBytes`.
 */
import { utf8 } from "../core/base/bytes.js";
import { SecretBytes } from "../core/base/secret.js";
import { uuidBytes, uuidText } from "../core/base/uuids.js";
import { AnswerRefused, NotYet, Problem, Unreachable, WrongInput } from "./errors.js";
import * as addresses from "./identity/addresses.js";
import type { Who } from "./identity/addresses.js";
import type { Account } from "./profile/account.js";
import type { Answer } from "./server/answers.js";
import { waitFor } from "./waiting.js";

/** The kind of acts whose subject is a person: it may be named by an e-mail address. */
export const PERSON = "person";
/** The act that invites the people of a file that was read. */
export const IMPORT = "people-import";
/** Octets of a request that the server takes with a file of people in it. */
export const MAX_PEOPLE_FILE = 2 * 1024 * 1024;
const ACTS = "organisation/acts", PENDING = "organisation/pending", PEOPLE = "organisation/people";
const IMPORTS = "organisation/imports";
// People that a server of this version takes in one file. A bad line is counted among them.
const MOST_LINES = 10_000;
// Of lists in one answer, well above what a server of this version sends: 50 waiting acts, some dozen of the others.
const MOST = { maximum: 1000 };
const LEFT = "left"; // the state of whoever left: another may have their address since
const GATEWAY: ReadonlySet<number> = new Set([502, 504]); // a proxy that lost the server: nobody knows what the server did
const LOOK_FIRST =
  "Look whether it was done (client.organisation.people(), the log) before you do it again. A secret that it showed is " +
  "lost: take the act back, and do it anew.";

/** One thing to give for an act. */
export interface ActField {
  readonly name: string;
  /** What it is called. */
  readonly words: string;
  readonly help: string;
  /** The values it may have, none for any. */
  readonly choices: readonly string[];
  readonly isOptional: boolean;
}

/** An act that this person may do. */
export interface ActKind {
  readonly name: string;
  readonly title: string;
  /** What it is about, as "person" or "device". */
  readonly kind: string;
  /** Whether it takes a second person. */
  readonly needsTwo: boolean;
  readonly fields: readonly ActField[];
}

/** What an act would do, in the server's words. */
export interface Words {
  readonly title: string;
  /** Sentences. */
  readonly lines: readonly string[];
  /** What it starts from. */
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly warnings: readonly string[];
  readonly needsTwo: boolean;
  /** UTC seconds; about five minutes ahead. */
  readonly expiresAt: number;
  /** Proves to the server that this was shown to this device. */
  readonly token: SecretBytes;
}

/** An act that was looked at: what this device asked for, and the words that came back. */
export interface Look {
  readonly act: string;
  readonly subject: string | undefined;
  readonly given: Readonly<Record<string, string>>;
  readonly words: Words;
}

/** What came of an act. */
export interface Done {
  readonly text: string;
  /** How it is taken back, in the server's words. */
  readonly undo: string;
  /** What it made or changed. */
  readonly subject: string | undefined;
  /** What `once` is. */
  readonly onceLabel: string;
  /** A secret that is shown this once, and is lost when nobody keeps it. */
  readonly once: SecretBytes | undefined;
  /** The act waits for a second person under this id. */
  readonly pending: string | undefined;
  /** Who could be that person. */
  readonly seconds: readonly string[];
}

/** An act that waits for a second person. Times are UTC seconds. */
export interface PendingAct {
  readonly id: string;
  readonly act: string;
  readonly title: string;
  readonly subject: string | undefined;
  readonly proposer: string;
  readonly proposedAt: number;
  readonly expiresAt: number;
}

/** A waiting act, and what it would do now, in the server's words. */
export interface PendingLook {
  readonly pending: PendingAct;
  readonly words: Words;
}

/** One person as the server lists them. */
export interface ListedPerson {
  readonly id: string;
  readonly name: string;
  readonly email: string;
  readonly role: string;
  readonly state: string;
  /** UTC seconds since when they count; undefined for never. */
  readonly activeSince: number | undefined;
}

/** A line of a file that invites nobody. */
export interface BadLine {
  /** Where it begins, from 1. */
  readonly number: number;
  /** name, email, role or empty. */
  readonly field: string;
  /** In the server's words. */
  readonly reason: string;
  /** Its first cells, as the file has them. */
  readonly cells: readonly string[];
}

/** A file of people that the server read. */
export interface ReadFile {
  /** The subject of the act `people-import`; nobody is invited yet. */
  readonly importId: string;
  /** How many people it would invite. */
  readonly good: number;
  /** How many lines are left out, all of which are in `badLines`. */
  readonly bad: number;
  readonly badLines: readonly BadLine[];
  /** UTC seconds until which it can be confirmed. */
  readonly expiresAt: number;
}

/** How far a file of people is. */
export interface ImportProgress {
  readonly importId: string;
  /** "read" (nobody confirmed it yet), "running", "done" or "stopped" for good. */
  readonly state: string;
  readonly good: number;
  readonly bad: number;
  /** How many of the good lines were gone through. */
  readonly done: number;
  /** How many people that made, without those who were here already. */
  readonly created: number;
  /** UTC seconds until which it can be confirmed, or its report read. */
  readonly expiresAt: number;
  /** Whether nothing more comes of it. */
  readonly hasEnded: boolean;
}

/**
 * List the organisation's people by name, in every state unless one is given. Rejects with Problem for unknown values.
 *
 * search: a part of name or address.
 */
export async function people(
  account: Account,
  { search = "", role = "", state = "" }: { search?: string; role?: string; state?: string } = {},
): Promise<ListedPerson[]> {
  const asked = { q: search, role, state };
  return listPeople(account, Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== "")));
}

async function listPeople(account: Account, query: Readonly<Record<string, string>>): Promise<ListedPerson[]> {
  const found: ListedPerson[] = [];
  for await (const row of account.api.pages(PEOPLE, "people", "id", { query })) found.push(personIn(row));
  return found;
}

/**
 * Return the person with an id, or with an e-mail address in whatever state they are. Pins nothing.
 *
 * An address is of whoever has it now; of whoever left with it, where nobody else has. Rejects with AddressChanged when this
 * profile has pinned it to another person, WrongInput when it is nobody's, or several people left with it.
 */
export async function findPerson(account: Account, who: Who): Promise<string> {
  if (!who.includes("@")) return addresses.personOf(account, who);
  const key = addresses.keyOf(who), all = await listPeople(account, { email: key });
  const still = all.filter((one) => one.state !== LEFT), found = still.length > 0 ? still : all;
  if (found.length > 1)
    throw new WrongInput(`Several people had the address ${key}.`, {
      wayOut: "Name one by their id: client.organisation.people()",
    });
  const person = found[0]?.id;
  await addresses.requirePinned(account, key, person);
  if (person === undefined)
    throw new WrongInput(`Nobody in your organisation has the address ${key}.`, {
      wayOut: "See: client.organisation.people()",
    });
  return person;
}

/** List the acts that this person may do, as the server has them. */
export async function acts(account: Account): Promise<ActKind[]> {
  return (await account.api.get(ACTS)).many("acts", MOST).map(kindIn);
}

/**
 * Ask what an act would do; nothing is done. given: the act's fields by name.
 *
 * Rejects with Problem, whose `field` names what was given wrongly.
 */
export async function look(
  account: Account,
  act: string,
  subject: string | undefined,
  given: Readonly<Record<string, string>>,
): Promise<Look> {
  const kept = { ...given }, answer = await account.api.post(`${ACTS}/${nameOf(act)}/words`, asked(subject, kept));
  return { act, subject, given: kept, words: wordsIn(answer) };
}

/**
 * Do what was looked at, or propose it to a second person. code: of the authenticator, unused so far.
 *
 * It is sent once and never again by itself. Rejects with Problem when it was refused, and nothing done; Unreachable when no
 * answer came, and nobody knows here whether it was done.
 */
export async function perform(account: Account, seen: Look, code: string): Promise<Done> {
  const document = { ...asked(seen.subject, seen.given), token: tokenOf(seen.words), code };
  return doneBy(account, `${ACTS}/${nameOf(seen.act)}`, document);
}

/** List the acts that wait for a second person, the oldest first. */
export async function pending(account: Account): Promise<PendingAct[]> {
  return (await account.api.get(PENDING)).many("pending", MOST).map(pendingIn);
}

/** Ask what a waiting act would do now; nothing is done. */
export async function lookPending(account: Account, pendingId: string): Promise<PendingLook> {
  const answer = await account.api.get(`${PENDING}/${idOf(pendingId)}`), row = pendingIn(answer);
  if (row.id !== idOf(pendingId))
    throw new AnswerRefused("The server showed another waiting act than the one asked for.");
  return { pending: row, words: wordsIn(answer.one("words")) };
}

/** Be the second person behind a waiting act. Rejects as `perform` does. */
export async function confirm(account: Account, seen: PendingLook, code: string): Promise<Done> {
  return doneBy(account, `${PENDING}/${seen.pending.id}/confirm`, { token: tokenOf(seen.words), code });
}

/** Take a waiting act back; no code is needed, because it only stops something. */
export async function withdraw(account: Account, pendingId: string): Promise<void> {
  await account.api.send(`${PENDING}/${idOf(pendingId)}/withdraw`, {});
}

/**
 * Have the server read a CSV file of people (name, email, role), and name every bad line. Nobody is invited by it.
 *
 * What this person read before and did not confirm is forgotten. Rejects with Problem for what is no such file, WrongInput
 * for one that is too large to be sent.
 */
export async function readPeople(account: Account, text: string): Promise<ReadFile> {
  const sent = JSON.stringify({ csv: text });
  if (sent.length + 5 * (sent.match(/[^ -~]/g)?.length ?? 0) > MAX_PEOPLE_FILE)
    throw new WrongInput("The file is too large: at most 2 MiB, in which a letter beyond ASCII takes 6 octets or 12.", {
      wayOut: "Divide it, or give it to the console, which takes 4 MiB.",
    });
  let answer = await account.api.post(IMPORTS, { csv: text });
  const first = progressIn(answer), found = badLinesIn(answer);
  for (let start = nextOf(answer, 0); start !== undefined; start = nextOf(answer, start)) {
    answer = await account.api.get(`${IMPORTS}/${first.importId}`, { query: { start: String(start) } });
    requireSame(progressIn(answer), first.importId);
    found.push(...badLinesIn(answer));
  }
  if (found.length !== first.bad) throw new AnswerRefused("The server names other bad lines than it counts.");
  const { importId, good, bad, expiresAt } = first;
  return { importId, good, bad, badLines: found, expiresAt };
}

/** Return how far a file of people is. Rejects with Problem for one that nobody confirmed in time, or a week old. */
export async function importProgress(account: Account, importId: string): Promise<ImportProgress> {
  const id = idOf(importId);
  return requireSame(progressIn(await account.api.get(`${IMPORTS}/${id}`)), id);
}

/**
 * Wait until nothing more comes of a file of people; reject with NotYet when that takes longer than `seconds`.
 *
 * tell: called with how many lines are done, and how many there are, at each look.
 */
export function waitForImport(
  account: Account,
  importId: string,
  { seconds, tell }: { seconds: number; tell?: (done: number, good: number) => void },
): Promise<ImportProgress> {
  return waitFor(async () => {
    const now = await importProgress(account, importId);
    tell?.(now.done, now.good);
    if (now.hasEnded) return now;
    if (now.state === "read")
      throw new NotYet("Nobody has confirmed this file yet.", {
        wayOut: "Read it again: client.organisation.readPeople()",
      });
    const spoken = (count: number): string => count.toLocaleString("en-US");
    throw new NotYet(`Under way: ${spoken(now.done)} of ${spoken(now.good)} lines are done.`, {
      wayOut: "Ask again later.",
    });
  }, seconds);
}

async function doneBy(account: Account, path: string, document: Readonly<Record<string, unknown>>): Promise<Done> {
  let answer: Answer;
  try {
    answer = await account.api.post(path, document, { isRepeated: false });
  } catch (error) {
    const said = { wayOut: LOOK_FIRST, cause: error };
    if (error instanceof Unreachable) throw new Unreachable(`${error.message} It may be done, or not.`, said);
    if (error instanceof Problem && GATEWAY.has(error.status))
      throw new Unreachable("The server was lost on the way. It may be done, or not.", said);
    throw error;
  }
  return {
    text: answer.text("text"),
    undo: answer.text("undo"),
    subject: optional(answer, "subject_id"),
    onceLabel: answer.text("once_label"),
    once: onceIn(answer),
    pending: optional(answer, "pending_id"),
    seconds: answer.texts("seconds", MOST).map(idIn),
  };
}

/** Return the one text of an id. Throws a RangeError for what is none: apps pass on what they were given. */
function idOf(text: string): string {
  return uuidText(uuidBytes(text));
}

function idIn(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text))
    throw new AnswerRefused("The server's answer is wrong: seconds is not an array of UUIDs.");
  return text;
}

function onceIn(answer: Answer): SecretBytes | undefined {
  const text = answer.text("once");
  // A link, a code or a token: nothing that is anything else than it looks like, whoever answers.
  if (!/^[ -~]*$/.test(text)) throw new AnswerRefused("The server's answer is wrong: once is not one line of plain ASCII.");
  return text === "" ? undefined : new SecretBytes(utf8(text));
}

function nameOf(act: string): string {
  // It becomes a part of an address: a slash in it would be another address.
  if (!/^[A-Za-z0-9-]+$/.test(act))
    throw new WrongInput("No act has such a name.", { wayOut: "See: client.organisation.acts()" });
  return act;
}

function asked(subject: string | undefined, given: Readonly<Record<string, string>>): Record<string, unknown> {
  return { ...(subject === undefined ? {} : { subject_id: subject }), given: { ...given } };
}

function tokenOf(words: Words): string {
  return new TextDecoder().decode(words.token.reveal());
}

function wordsIn(answer: Answer): Words {
  return {
    title: answer.text("title"),
    lines: answer.texts("lines", MOST),
    facts: answer.rows("facts", 2, MOST).map((row) => [row.text("0"), row.text("1")] as const),
    warnings: answer.texts("warnings", MOST),
    needsTwo: answer.flag("needs_two"),
    expiresAt: answer.time("expires_at"),
    token: new SecretBytes(utf8(answer.text("token"))),
  };
}

function kindIn(row: Answer): ActKind {
  return {
    name: row.text("name"),
    title: row.text("title"),
    kind: row.text("kind"),
    needsTwo: row.flag("needs_two"),
    fields: row.many("fields_to_give", MOST).map((one) => ({
      name: one.text("name"),
      words: one.text("words"),
      help: one.text("help"),
      choices: one.texts("choices", MOST),
      isOptional: one.flag("is_optional"),
    })),
  };
}

function pendingIn(row: Answer): PendingAct {
  return {
    id: uuidText(row.identifier("id")),
    act: row.text("act"),
    title: row.text("title"),
    subject: optional(row, "subject_id"),
    proposer: uuidText(row.identifier("proposer_id")),
    proposedAt: row.time("proposed_at"),
    expiresAt: row.time("expires_at"),
  };
}

function personIn(row: Answer): ListedPerson {
  return {
    id: uuidText(row.identifier("id")),
    name: row.text("name"),
    email: row.text("email"),
    role: row.text("role"),
    state: row.text("state"),
    activeSince: row.has("active_since") ? row.time("active_since") : undefined,
  };
}

function progressIn(answer: Answer): ImportProgress {
  const state = answer.text("state");
  return {
    importId: uuidText(answer.identifier("id")),
    state,
    good: answer.number("good"),
    bad: answer.number("bad"),
    done: answer.number("done"),
    created: answer.number("created"),
    expiresAt: answer.time("expires_at"),
    hasEnded: state === "done" || state === "stopped", // what nothing follows
  };
}

function requireSame(found: ImportProgress, asked: string): ImportProgress {
  if (found.importId !== asked)
    throw new AnswerRefused("The server told of another file of people than the one asked for.");
  return found;
}

function badLinesIn(answer: Answer): BadLine[] {
  return answer.many("bad_lines", { maximum: MOST_LINES }).map((row) => ({
    number: row.number("line"),
    field: row.text("at_fault"),
    reason: row.text("reason"),
    cells: row.texts("cells", MOST),
  }));
}

/** Return where the next page of bad lines begins; each begins later, and none after the last that there can be. */
function nextOf(answer: Answer, start: number): number | undefined {
  if (!answer.has("next_start")) return undefined;
  const found = answer.number("next_start");
  if (!(start < found && found < MOST_LINES)) throw new AnswerRefused("The server's list of bad lines has no end.");
  return found;
}

function optional(answer: Answer, name: string): string | undefined {
  return answer.has(name) ? uuidText(answer.identifier(name)) : undefined;
}
