// SPDX-License-Identifier: Apache-2.0
/**
 * Asking trusted contacts for their shares: a new device asks, contacts give to it, a live device objects.
 *
 * docs/formats/contacts.md (return), on all three sides. Does not impose the delay, and could not: the server does, and
 * tells every live device and contact of the request.
 */
import { type Bytes, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { b64u, MAX_BLOB } from "../../core/base/encoding.js";
import { Expired, HoldfastError, QuorumNotMet } from "../../core/base/errors.js";
import { layout, octets, openRow, sealRow, secret } from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import * as typed from "../../core/base/typed.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import { Sign1 } from "../../core/signed/cose.js";
import { type Header, MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import * as contactShares from "../../core/vault/contact_shares.js";
import type { ContactShare } from "../../core/vault/contact_shares.js";
import { openContactsDoor } from "../../core/vault/contacts_door.js";
import {
  codeOf, type Manifest, manifestHash, MAX_REQUEST_SECONDS, newRequest, requestFromPayload, requestToPayload, requireDoor,
  type ShareRequest,
} from "../../core/vault/share_manifest.js";
import { NotPossible, NotYet, Problem, TrustRefused, WrongWords } from "../errors.js";
import * as contacts from "../identity/contacts.js";
import * as messages from "../messages/messages.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import * as doors from "./doors.js";
import * as trusted from "./trusted.js";
import * as vault from "./vault.js";
import type { OpenedVault } from "./vault.js";

// The request this device made: [request, seed of the key that shares come back to, id].
const OWN = ["share-request", EMPTY] as const;
const PATH = "recovery/contacts/requests";
const OVER: ReadonlySet<string> = new Set(["vetoed", "cancelled", "expired"]);
const MAX_REQUEST = 4 * 1024 * 1024; // bytes of an answer: a request with a share of each of sixteen contacts

/** A request as its maker sees it. */
export interface OpenRequest {
  readonly requestId: string;
  /** Six groups of five digits, to be read to each contact by voice. */
  readonly code: readonly string[];
  /** How many of the contacts have to give their share. */
  readonly k: number;
  /** 16 bytes each. */
  readonly contacts: readonly Bytes[];
  readonly state: string;
  readonly answered: number;
  /** UTC seconds, from which on shares can be collected. */
  readonly notBefore: number;
  readonly expiresAt: number;
}

/** A request as a contact sees it: whose, and until when. The code is not here: its owner reads it out. */
export interface Asked {
  readonly requestId: string;
  /** 16 bytes. */
  readonly owner: Bytes;
  readonly state: string;
  readonly askedAt: number;
  readonly expiresAt: number;
  readonly holdsShare: boolean;
}

/** A request in one's own name, as a live device sees it. */
export interface Pending {
  readonly requestId: string;
  /** Which device asks (16 bytes), by its own word. */
  readonly device: Bytes;
  readonly state: string;
  readonly answered: number;
  readonly notBefore: number;
  readonly expiresAt: number;
}

/** What contacts gave: the vault as opened, and the contacts (16 bytes each) whose share was wrong. */
export interface Gathered {
  readonly vault: OpenedVault;
  readonly blamed: readonly Bytes[];
}

// The new device

/**
 * Ask the trusted contacts, as the account chain names them, for their shares; the open request, if there is one.
 *
 * Rejects with NotPossible for an account without contacts, TrustRefused for a list of contacts that is not theirs.
 */
export async function openRequest(account: Account): Promise<OpenRequest> {
  const kept = await loadOwn(account);
  if (kept !== undefined && kept.id.length > 0)
    try {
      const found = await requestStatus(account);
      if (!OVER.has(found.state)) return found;
    } catch (error) {
      if (!(error instanceof Unknown)) throw error;
    }
  let request: ShareRequest, key: SealingKey;
  if (kept === undefined || kept.id.length > 0 || !isOfToday(account, kept.request.header)) {
    [request, key] = await newRequest(account.header({ lastsSeconds: MAX_REQUEST_SECONDS }), {
      deviceHash: Sign1.parse(account.device.statement).payloadHash,
      manifestHash: manifestHash(await trusted.fetchManifest(account)),
    });
    // Kept before it is sent: a share that came back to a lost key would be a contact's trouble for nothing.
    await keep(account, request, key, EMPTY);
  } else {
    // Sent before, and the answer was lost: the same request again is the same one to the server.
    ({ request, key } = kept);
  }
  const answer = await account.api.post(PATH, { request: b64u(requestToPayload(request)) });
  await keep(account, request, key, answer.identifier("request_id"));
  return requestStatus(account);
}

/** Whether the server would take a request of this date: it has not expired, and is not of the future. */
function isOfToday(account: Account, header: Header): boolean {
  const { clock } = account.api;
  return header.issuedAt <= clock.earliest() + MAX_AHEAD_SECONDS && clock.latest() < header.expiresAt;
}

/** This device's request, the seed of the key it asks under, and its id, empty until the server has confirmed it. */
const OWN_ROW = layout<{ readonly request: Bytes; readonly keySeed: SecretBytes; readonly id: Bytes }>(
  "share request",
  { request: octets(), keySeed: secret(32), id: octets([0, 16]) },
);

interface Own {
  readonly request: ShareRequest;
  readonly key: SealingKey;
  /** Empty while the server has not confirmed it. */
  readonly id: Bytes;
}

async function keep(account: Account, request: ShareRequest, key: SealingKey, id: Bytes): Promise<void> {
  const row = { request: requestToPayload(request), keySeed: key.seed(), id };
  await account.store.put(...OWN, sealRow(OWN_ROW, row));
}

async function loadOwn(account: Account): Promise<Own | undefined> {
  const value = await account.store.get(...OWN);
  if (value === undefined) return undefined;
  const row = openRow(OWN_ROW, value);
  return { request: requestFromPayload(row.request), key: await SealingKey.fromSeed(row.keySeed), id: row.id };
}

async function own(account: Account): Promise<Own> {
  const kept = await loadOwn(account);
  if (kept === undefined || kept.id.length === 0)
    throw new NotPossible("This device has not asked your trusted contacts.", {
      wayOut: "Ask them: client.recover.askContacts()",
    });
  return kept;
}

/** Say how far this device's request is, in the server's word but for the code. */
export async function requestStatus(account: Account): Promise<OpenRequest> {
  const { request, id } = await own(account), manifest = await manifestOf(account, request);
  const answer = await fetchRequest(account, id);
  return {
    requestId: uuidText(id),
    code: codeOf(request),
    k: manifest.k,
    contacts: manifest.rows.map(([contact]) => contact),
    state: answer.text("state"),
    answered: answer.number("answered"),
    notBefore: answer.time("not_before"),
    expiresAt: answer.time("expires_at"),
  };
}

/** The server does not know this device's request: above all one that was put back from a backup. */
class Unknown extends NotPossible {
  override get name(): string {
    return "Unknown";
  }
}

async function fetchRequest(account: Account, id: Bytes): Promise<Answer> {
  const answer = await vault.unless404(account.api.get(`${PATH}/${uuidText(id)}`, { maximum: MAX_REQUEST }));
  if (answer === undefined)
    throw new Unknown(
      "The server does not know this device's request: it was lost with a backup, or has ended long ago.",
      { wayOut: "Ask your trusted contacts again: client.recover.askContacts()" },
    );
  return answer;
}

async function manifestOf(account: Account, request: ShareRequest): Promise<Manifest> {
  const manifest = await trusted.fetchManifest(account);
  if (!equal(manifestHash(manifest), request.manifestHash))
    throw new NotPossible("Your trusted contacts were changed since this device asked them.", {
      wayOut: "Withdraw the request and ask again: client.recover.cancelRequest(), client.recover.askContacts()",
    });
  return manifest;
}

/**
 * Withdraw this device's request, and destroy the key that shares would have come back to.
 *
 * Also of one that has ended, or that the server does not know: the device is free to ask anew.
 */
export async function cancelRequest(account: Account): Promise<void> {
  const { id } = await own(account);
  try {
    await account.api.post(`${PATH}/${uuidText(id)}/cancel`, {});
  } catch (error) {
    if (!(error instanceof Problem) || (error.status !== 404 && error.status !== 409)) throw error;
  }
  await account.store.delete(...OWN);
}

/**
 * Put together the shares that contacts gave, and open the vault by the contacts door.
 *
 * A wrong share is laid to its contact and left out; another contact's takes its place. Rejects with NotYet while the delay
 * runs or right shares are too few, NotPossible when the request was vetoed, withdrawn or is over.
 */
export async function gather(account: Account): Promise<Gathered> {
  const { request, key, id } = await own(account), manifest = await manifestOf(account, request);
  const answer = await fetchRequest(account, id), state = answer.text("state");
  if (OVER.has(state)) throw new NotPossible(`The request is ${state}.`, { wayOut: after(state) });
  if (!answer.has("shares"))
    throw new NotYet("The delay still runs; nothing can be collected yet.", {
      wayOut: "Ask again later, or with { waitSeconds }.",
    });
  const [right, blamed] = await sortShares(answer, { request, manifest, key });
  let combined: SecretBytes;
  try {
    combined = await contactShares.combine(manifest, right);
  } catch (error) {
    if (error instanceof QuorumNotMet) {
      const wrong = blamed.length > 0 ? ` The share of ${blamed.map(uuidText).join(", ")} is wrong.` : "";
      throw new NotYet(`${right.length} of ${manifest.k} contacts have given a right share.${wrong}`, {
        wayOut: "Call another of your contacts, and read the code out; this device keeps waiting.",
      });
    }
    throw error instanceof HoldfastError ? doorRefused(error) : error;
  }
  const found = await vault.find(account);
  const vaultKey = await throughDoor(account, manifest, combined, found.header.epoch);
  const opened = await vault.openFound(account, found, vaultKey);
  await account.store.delete(...OWN);
  return { vault: opened, blamed };
}

function after(state: string): string {
  return state === "vetoed"
    ? "A device of yours objected. If that was not you, somebody holds it: tell your officers."
    : "Ask again: client.recover.askContacts()";
}

/** Return the right shares with their contacts, and the contacts whose share is wrong. */
async function sortShares(
  answer: Answer,
  of: { request: ShareRequest; manifest: Manifest; key: SealingKey },
): Promise<[right: (readonly [Bytes, ContactShare])[], blamed: Bytes[]]> {
  // By contact: one whom the server names twice has one share, and the one that is right.
  const right = new Map<string, readonly [Bytes, ContactShare]>(), blamed: Bytes[] = [];
  for (const row of answer.many("shares", { maximum: 16 })) {
    const contact = row.identifier("contact"), sealed = row.octets("sealed", undefined, { maximum: MAX_BLOB });
    try {
      right.set(hex(contact), [contact, await contactShares.openAnswer(sealed, { ...of, contact })]);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      blamed.push(contact);
    }
  }
  return [[...right.values()], blamed.filter((contact) => !right.has(hex(contact)))];
}

async function throughDoor(
  account: Account,
  manifest: Manifest,
  combined: SecretBytes,
  epoch: number,
): Promise<SecretBytes> {
  const blob = await doors.fetchDoor(account, doors.CONTACTS);
  try {
    requireDoor(manifest, blob);
    return await openContactsDoor(blob, { secret: combined, setId: manifest.setId }, doors.ownerOf(account, epoch));
  } catch (error) {
    throw error instanceof HoldfastError ? doorRefused(error) : error;
  }
}

function doorRefused(error: HoldfastError): TrustRefused {
  return new TrustRefused(`The contacts door does not open with right shares: ${error.message}.`, {
    wayOut: "It is of another vault key, or was changed on the server: use another door, and tell your officers.",
    cause: error,
  });
}

// A contact

/**
 * Return the requests of people for whom this person may hold a share, as the server lists them.
 *
 * A share that waits in the mailbox is taken first.
 */
export async function listRequests(account: Account): Promise<Asked[]> {
  const asked: [Answer, ShareRequest][] = [];
  for await (const row of account.api.pages(PATH, "requests", "request_id", { query: { role: "contact" } }))
    asked.push([row, read(row)]);
  const held = await heldFor(account, asked.map(([, request]) => request));
  return asked
    .filter(([, request]) => equal(request.header.tenant, account.tenant))
    .map(([row, request]) => ({
      requestId: uuidText(row.identifier("request_id")),
      owner: request.header.user,
      state: row.text("state"),
      askedAt: request.header.issuedAt,
      expiresAt: request.header.expiresAt,
      holdsShare: held.has(hex(request.manifestHash)),
    }));
}

/** Return the manifests (hex) of the shares held, after taking from the mailbox those that are asked for and not here. */
async function heldFor(account: Account, asked: readonly ShareRequest[]): Promise<Set<string>> {
  const held = async (): Promise<Set<string>> =>
    new Set((await trusted.loadHeldShares(account)).map((share) => hex(manifestHash(share.manifest))));
  const found = await held();
  if (asked.every((request) => found.has(hex(request.manifestHash)))) return found;
  // All of the mailbox: a letter may stand behind more messages than come at once.
  await messages.receive(account);
  await trusted.takeShares(account);
  return held();
}

function read(row: Answer): ShareRequest {
  const payload = row.octets("request", undefined, { maximum: MAX_BLOB });
  try {
    return requestFromPayload(payload);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The server shows a request that is none: ${error.message}.`, { cause: error });
  }
}

/**
 * Give the share kept for somebody to the device that asks for it.
 *
 * requestId: as `listRequests` gave it. code: the six groups of five digits as heard from that very person, by voice or
 * face to face: it is their voice that says who asks, and the digits that say which device. Rejects with WrongWords when
 * they are not those of the request that the server shows: somebody else asks.
 */
export async function give(account: Account, requestId: string, { code }: { code: readonly string[] }): Promise<void> {
  const id = uuidText(uuidBytes(requestId));
  const request = read(await account.api.get(`${PATH}/${id}`)), owner = request.header.user;
  if (typed.ungrouped(code.join("")) !== codeOf(request).join(""))
    throw new WrongWords("These are not the digits of the request that the server shows. Nothing was given.", {
      wayOut:
        "Hear them again from the person. If they still differ, somebody else asks in that name: give nothing, and " +
        "tell your officers.",
    });
  await contacts.refresh(account, owner);
  await heldFor(account, [request]);
  const kept = (await trusted.loadHeldShares(account)).find((share) =>
    equal(manifestHash(share.manifest), request.manifestHash),
  );
  if (kept === undefined || !equal(kept.manifest.header.user, owner))
    throw new NotPossible("You hold no share of the set that is asked for.", {
      wayOut: "On the device where you had it, call client.maintain(); the person may also ask another contact.",
    });
  let sealed: Bytes;
  try {
    const of = { request, manifest: kept.manifest, contact: account.user, now: account.api.clock.latest() };
    sealed = await contactShares.answerRequest(kept.share, of);
  } catch (error) {
    if (error instanceof Expired)
      throw new NotPossible("The request has expired.", { wayOut: "The person has to ask again." });
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The request does not fit the share you hold: ${error.message}.`, { cause: error });
  }
  await account.api.post(`${PATH}/${id}/shares`, { sealed: b64u(sealed) });
}

// A live device of the owner

/** Return the requests made in one's own name. */
export async function requests(account: Account): Promise<Pending[]> {
  const found: Pending[] = [];
  for await (const row of account.api.pages(PATH, "requests", "request_id", { query: { role: "owner" } })) {
    const { device } = read(row).header;
    found.push({
      requestId: uuidText(row.identifier("request_id")),
      device,
      state: row.text("state"),
      answered: row.number("answered"),
      notBefore: row.time("not_before"),
      expiresAt: row.time("expires_at"),
    });
  }
  return found;
}

/** Object to a request in one's own name: no share is handed out by it any more. */
export async function veto(account: Account, requestId: string): Promise<void> {
  await account.api.post(`${PATH}/${uuidText(uuidBytes(requestId))}/veto`, {});
}
