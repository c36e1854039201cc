// SPDX-License-Identifier: Apache-2.0
/**
 * Messages between people: sent to every device of the recipient and every other own one, received exactly once.
 *
 * docs/formats/messages.md as a developer sees it, on `outbox` and `inbox`. Does not show or store conversations: a message
 * is this module's until the app says `done`, and the app's from then on.
 */
import { type Bytes, equal, hex, unhex } from "../../core/base/bytes.js";
import { headOf } from "../../core/identity/chain.js";
import {
  ContentKind, encodeContent, type LargeReference, MAX_BODY, MAX_LARGE, NO_BODY, sealLarge,
} from "../../core/messages/content.js";
import { ID_SIZE } from "../../core/signed/payloads.js";
import { ClientError, NotPossible, ProfileError, WrongInput } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as peers from "../identity/peers.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";
import * as sessions from "../sessions/sessions.js";
import { USED } from "./handshakes.js";
import * as inbox from "./inbox.js";
import { type Kept, openKept } from "./inbox_rows.js";
import * as letters from "./letters.js";
import * as outbox from "./outbox.js";
import type { Flushed, Ready } from "./outbox.js";
import * as prekeys from "./prekeys.js";
import * as renewals from "./renewals.js";
import { add, listReports, type Report, ReportKind, TOLD, TOLD_SECONDS } from "./reports.js";
import * as sentRows from "./sent.js";
import type { Unconfirmed } from "./sent.js";
import * as settling from "./settling.js";
import { compose } from "./settling.js";
import * as unsent from "./unsent.js";

export { openLarge, sealLarge } from "../../core/messages/content.js";
export type { Flushed } from "./outbox.js";
export { type Report, ReportKind } from "./reports.js";
export type { Unconfirmed } from "./sent.js";

/** The content is above what a mailbox takes: it goes through the app's own storage, by reference. */
export class TooLarge extends WrongInput {
  override get name(): string {
    return "TooLarge";
  }
}

/** One message on its way. Ids have 16 bytes. */
export interface Sent {
  /** The same for all who get it. */
  readonly id: Bytes;
  /** Of the recipient. */
  readonly devices: readonly Bytes[];
  /** Devices of theirs that nobody can write to yet. */
  readonly withoutKeys: readonly Bytes[];
  /** Those whose session began without a one-time key just now. */
  readonly lastResort: readonly Bytes[];
  /**
   * False while the server could not be reached, or would not take it for now: the message is kept, and `flush`, or the
   * next message, sends it.
   */
  readonly isSent: boolean;
}

/** One message that came. Ids have 16 bytes. */
export class Received {
  readonly id: Bytes;
  /** A user. */
  readonly sender: Bytes;
  /** The one that sent it, as its session proves. */
  readonly device: Bytes;
  /** The sender, or in a copy from an own device the user it was sent to. */
  readonly conversation: Bytes;
  readonly body: Bytes;
  /** Of content in the app's own storage; `body` is empty then. */
  readonly reference: LargeReference | undefined;
  /** The sender's word, UTC seconds. */
  readonly sentAt: number;
  /** The server's word, UTC seconds. */
  readonly receivedAt: number;
  readonly isLastResort: boolean;
  readonly #key: Bytes;
  readonly #store: Store;

  /** Of `receive` and `waiting` only. */
  constructor(kept: Kept, key: Bytes, store: Store) {
    this.id = kept.messageId;
    this.sender = kept.sender.user;
    this.device = kept.sender.device;
    this.conversation = kept.conversation;
    this.body = kept.body;
    this.reference = kept.reference;
    this.sentAt = kept.sentAt;
    this.receivedAt = kept.receivedAt;
    this.isLastResort = kept.isLastResort;
    this.#key = key;
    this.#store = store;
  }

  /** Whether an own device sent this, to `conversation`. */
  get isCopy(): boolean {
    return equal(this.sender, this.#store.user);
  }

  /** When the sender says that it was sent. */
  get when(): Date {
    return new Date(this.sentAt * 1000);
  }

  /**
   * Say that the app has it: it is destroyed here, and acknowledged to its sender by the next act of this client.
   *
   * Until then every `receive` hands it out again.
   */
  async done(): Promise<void> {
    const store = this.#store, key = this.#key;
    await store.transaction(async () => {
      if ((await store.get(inbox.INBOX, key)) === undefined) return;
      await store.delete(inbox.INBOX, key);
      const peer = { user: this.sender, device: this.device };
      await renewals.owe(store, peer, key.slice(this.sender.length));
    });
  }
}

/** What may be said with a message. messageId: 16 random bytes of an app that keeps its own list of what is to be sent. */
export interface Sending {
  readonly messageId?: Bytes | undefined;
}

/**
 * Send up to 1,000,000 bytes to a user (16 bytes) and to one's own other devices; above 4 KiB by the mailbox.
 *
 * Durably kept before anything leaves. Sent again under the same message id after an interruption, a message still arrives
 * once. Rejects with TooLarge; a RangeError for an id of another size, before anything is asked for or kept; PeerChanged
 * until a human has confirmed; TrustRefused when something does not hold, the message being kept for later if it was
 * queued; Problem for a refusal by the server.
 */
export async function send(account: Account, user: Bytes, content: Bytes, of: Sending = {}): Promise<Sent> {
  if (content.length <= MAX_BODY) return sendContent(account, user, ContentKind.BYTES, content, undefined, of);
  if (content.length > MAX_LARGE)
    throw new TooLarge(
      `A message holds at most 1,000,000 bytes; this has ${content.length.toLocaleString("en-US")}.`,
      {
        wayOut:
          "Seal it in parts with sealLarge, put the ciphertexts where you keep files, and send each reference with " +
          "sendReference.",
      },
    );
  const [reference, ciphertext] = await sealLarge(content);
  return sendContent(account, user, ContentKind.LARGE, reference, ciphertext, of);
}

/** Send the reference of content that the app stores itself, sealed by `sealLarge`. Rejects as `send` does. */
export function sendReference(
  account: Account,
  user: Bytes,
  reference: LargeReference,
  of: Sending = {},
): Promise<Sent> {
  return sendContent(account, user, ContentKind.LARGE, reference, undefined, of);
}

async function sendContent(
  account: Account,
  user: Bytes,
  kind: ContentKind,
  body: Bytes | LargeReference,
  content: Bytes | undefined,
  { messageId }: Sending,
): Promise<Sent> {
  if (messageId !== undefined && messageId.length !== ID_SIZE)
    throw new RangeError(`a message id has ${ID_SIZE} bytes`);
  await requireMember(account);
  // The recipient's last: with the other may come in that a device of theirs is gone, and its session goes with it.
  const isToSelf = equal(user, account.user);
  const copies = isToSelf ? undefined : await outbox.prepare(account, account.user);
  const theirs = await outbox.prepare(account, user);
  const said = await compose(account, kind, body, { conversation: isToSelf ? user : undefined, messageId });
  const key = await account.store.transaction(async () => {
    const queued = await outbox.queue(account, theirs, encodeContent(said), content);
    if (queued === undefined && !isToSelf)
      throw new NotPossible("That person has no device that can be written to yet.", { wayOut: outbox.NO_DEVICE });
    if (copies !== undefined) {
      const copy = await compose(account, kind, body, { conversation: user, messageId: said.messageId });
      await outbox.queue(account, copies, encodeContent(copy), content);
    }
    return queued;
  });
  return flushAndReport(theirs, said.messageId, account, key);
}

/** Say it here: the server would refuse a pending device in words about its role. */
async function requireMember(account: Account): Promise<void> {
  // It may have been approved since it last looked.
  if (!account.device.isActive) await chains.refresh(account);
  if (!account.device.isActive)
    throw new ProfileError("This device is not part of your account yet, so it sends nothing.", {
      wayOut: "Approve it on another device of yours (client.devices.approve()), or recover: client.recover.",
    });
}

/** Send what is queued, and say what became of the message under `key`; undefined for one that goes to nobody. */
async function flushAndReport(ready: Ready, id: Bytes, account: Account, key: Bytes | undefined): Promise<Sent> {
  const flushed = await flush(account), name = key === undefined ? "" : hex(key);
  const refused = flushed.refused.get(name), sent = flushed.sent.get(name);
  if (refused) throw refused;
  const withoutKeys = [...ready.withoutKeys];
  let devices: Bytes[] = [];
  if (sent) {
    devices = sent;
    const now = (await peers.findKnown(account, ready.state.user)) ?? ready.state;
    const told = new Set([account.device.id, ...sent, ...withoutKeys].map(hex));
    const missed = [...ready.state.devices.keys()].filter((device) => now.devices.has(device) && !told.has(device));
    withoutKeys.push(...missed.sort().map(unhex));
  } else if (key !== undefined) {
    devices = (await outbox.loadRow(account, key)).envelopes.map(([device]) => device);
  }
  const begun = [...ready.chosen].filter(([, [, session]]) => session.isLastResort);
  return {
    id,
    devices,
    withoutKeys,
    lastResort: begun.map(([device]) => unhex(device)),
    isSent: !flushed.waiting.some((other) => hex(other) === name),
  };
}

/**
 * Fetch what waits, and return everything that the app has not said `done` to, oldest first.
 *
 * What did not open, or must be heard of, is in `reports`. Rejects with Unreachable and Problem.
 */
export async function receive(account: Account): Promise<Received[]> {
  await inbox.collect(account);
  await settling.settle(account);
  return waiting(account);
}

/** Return the messages that the app has not said `done` to, without asking the server. */
export async function waiting(account: Account): Promise<Received[]> {
  const found: Received[] = [];
  for (const key of await account.store.keys(inbox.INBOX)) {
    const kept = await account.store.get(inbox.INBOX, key);
    if (kept) found.push(new Received(openKept(kept), key, account.store));
  }
  return found;
}

/** Return what must be heard of and was not put away: what did not open, keys used twice, hidden chains. */
export function reports(account: Account): Promise<Report[]> {
  return listReports(account);
}

/**
 * Send what could not be sent before, as it was encrypted, and what is owed to devices that wrote to this one.
 *
 * Returns what became of each message that waited.
 */
export async function flush(account: Account): Promise<Flushed> {
  const flushed = await outbox.flush(account);
  if (!flushed.isCutOff) await settling.settle(account);
  return flushed;
}

/** Acknowledge at once what the app has taken, instead of by the next act. */
export async function confirm(account: Account): Promise<void> {
  await settling.settle(account);
}

/** Flush, having looked whether the devices that have not acknowledged something are still there. */
export async function care(account: Account): Promise<Flushed> {
  await settling.follow(account);
  return flush(account);
}

/**
 * Have what was sent until a time (UTC seconds), and nobody acknowledged, sent again by the next act.
 *
 * For a server that was put back and may have lost it. Returns to how many devices; these deliver nothing twice.
 */
export function giveBack(account: Account, before: number): Promise<number> {
  return settling.giveBack(account, before);
}

/** Return what was sent and not every device has confirmed, oldest first: kept for 30 days, 64 MiB in all. */
export function unconfirmed(account: Account): Promise<Unconfirmed[]> {
  return sentRows.unconfirmed(account);
}

/**
 * Tell everyone there is a session with, own devices included, that this account's chain has moved.
 *
 * users: 16 bytes each, all of them unless given. Returns the users told; whoever could not be is told by the next `flush`.
 * The fourth step of a rotation.
 */
export async function announce(account: Account, users?: readonly Bytes[]): Promise<Bytes[]> {
  return control(account, users, ContentKind.MOVED, headOf(await account.chain()), false);
}

/**
 * Begin a fresh session with every device of each user (all there is a session with), and say so in it.
 *
 * Returns the users greeted. The fifth step of a rotation.
 */
export function greet(account: Account, users?: readonly Bytes[]): Promise<Bytes[]> {
  return control(account, users, ContentKind.GREETING, NO_BODY, true);
}

async function control(
  account: Account,
  users: readonly Bytes[] | undefined,
  kind: ContentKind,
  body: Bytes,
  anew: boolean,
): Promise<Bytes[]> {
  const told: Bytes[] = [], { store } = account;
  for (const user of users ?? (await sessions.peers(store))) {
    let ready: Ready;
    try {
      ready = await outbox.prepare(account, user, { anew });
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      const text = `A contact could not be told of a change of your keys: ${error.message}`, { wayOut } = error;
      await store.transaction(() => add(account, ReportKind.NOT_SENT, text, { wayOut, user }));
      continue;
    }
    const conversation = equal(user, account.user) ? user : undefined;
    const said = await compose(account, kind, body, { conversation });
    const key = await store.transaction(() => outbox.queue(account, ready, encodeContent(said)));
    if (key !== undefined) told.push(user);
  }
  await outbox.flush(account);
  return told;
}

/**
 * Destroy what was kept to recognise repetitions, or to be sent again, and is too old. Returns how many rows.
 *
 * None without a confirmed time (`Clock.confirmed`).
 */
export async function prune(account: Account): Promise<number> {
  const now = account.api.clock.confirmed();
  if (now === undefined) return 0;
  // What was begun with a signed pre-key can come again for as long as its private half is here.
  const made = (await prekeys.listMade(account)).map((madeAt) => madeAt + sessions.INITIAL_LIFE_SECONDS);
  const since = Math.min(now, ...made);
  const lives: readonly (readonly [kind: string, life: number])[] = [
    [sessions.INITIAL, sessions.INITIAL_LIFE_SECONDS],
    [sessions.SEEN, sessions.INITIAL_LIFE_SECONDS],
    [USED, sessions.INITIAL_LIFE_SECONDS],
    [inbox.HAD, inbox.REMEMBER_SECONDS],
    [inbox.HEARD, inbox.REMEMBER_SECONDS],
    [inbox.LEFT, inbox.SERVER_KEEPS_SECONDS],
    [letters.PUT_AWAY, letters.PUT_AWAY_SECONDS],
    [TOLD, TOLD_SECONDS],
  ];
  // A device that slept for a month has not heard yet what was acknowledged meanwhile.
  if (await sentRows.isDue(account)) await inbox.collect(account);
  let count = 0;
  for (const [kind, life] of lives) count += await sessions.prune(account.store, kind, { now: since, life });
  count += await sentRows.expire(account);
  count += await renewals.prune(account);
  return count + (await unsent.prune(account));
}
