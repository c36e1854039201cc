// SPDX-License-Identifier: Apache-2.0
/**
 * What devices are owed, sent: acknowledgements, a session begun anew where one is dead, and what was not read.
 *
 * "Acknowledged and sent again" of docs/formats/messages.md. Each message of this module is for one device. It answers no
 * acknowledgement, and what it cannot send now is owed still.
 */
import { type Bytes, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { uuidText } from "../../core/base/uuids.js";
import {
  acknowledgementBody, type Content, ContentKind, encodeContent, type LargeReference, MAX_ACKNOWLEDGED, NO_BODY,
} from "../../core/messages/content.js";
import * as repeats from "../../core/messages/repeats.js";
import type { Session } from "../../core/messages/session.js";
import { ID_SIZE } from "../../core/signed/payloads.js";
import { ClientError, NotPossible, Problem, Unreachable } from "../errors.js";
import * as keyLog from "../identity/key_log.js";
import * as peers from "../identity/peers.js";
import type { Account } from "../profile/account.js";
import * as sessions from "../sessions/sessions.js";
import type { Address, Place } from "../sessions/sessions.js";
import * as bundles from "./bundles.js";
import * as handshakes from "./handshakes.js";
import * as inbox from "./inbox.js";
import * as outbox from "./outbox.js";
import * as prekeys from "./prekeys.js";
import * as renewals from "./renewals.js";
import type { Begun, Renewal } from "./renewals.js";
import * as reports from "./reports.js";
import { ReportKind } from "./reports.js";
import * as sent from "./sent.js";
import type { Sent } from "./sent.js";
import * as unsent from "./unsent.js";
import type { Unsent } from "./unsent.js";

const NO_KEYS = "That device has published no keys that a session could begin with.";
// A refusal of one message, by which nothing is said about those behind it.
function isOfItself(problem: Problem): boolean {
  return outbox.REFUSED.has(problem.status) && problem.status !== 404;
}
// A part of the server is away: each request waits for it for some seconds, so that nobody else's turn comes before.
const AWAY: ReadonlySet<number> = new Set([502, 503, 504]);

/**
 * Return a content that says, beside its body, what this device sees of its own account and of the key log.
 *
 * conversation: the user it is with, only in copies to one's own devices. messageId: 16 bytes, random unless given.
 */
export async function compose(
  account: Account,
  kind: ContentKind,
  body: Bytes | LargeReference,
  of: { conversation?: Bytes | undefined; messageId?: Bytes | undefined } = {},
): Promise<Content> {
  return {
    kind,
    messageId: of.messageId ?? randomBytes(ID_SIZE),
    sentAt: account.api.clock.earliest(),
    body,
    conversation: of.conversation,
    checkpoint: keyLog.ownCheckpoint(account) || undefined,
    chainHead: headOf(await account.chain()),
  };
}

/** Send what is owed, device by device, as far as the server takes it. Rejects with nothing that it answers. */
export async function settle(account: Account): Promise<void> {
  if (!account.device.isActive) return;
  await revise(account);
  await lookForLost(account);
  try {
    await prekeys.publishFirst(account);
  } catch (error) {
    if (error instanceof ClientError) return;
    throw error;
  }
  // Counted once: the server may name a thousand devices, and for each all of them would be looked through.
  const begun = await renewals.begunOfAll(account), waiting = await renewals.peers(account.store);
  // One's own devices first, while something is left of what may be begun in a day.
  const isOwn = (peer: Address): boolean => equal(peer.user, account.user);
  for (const peer of [...waiting.filter(isOwn), ...waiting.filter((one) => !isOwn(one))]) {
    try {
      await settleWith(account, peer, begun);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (isAway(error)) return;
      // It is owed still: the device has no keys, its mailbox is full, its account waits for a human's yes.
    }
  }
}

/** Look whether the devices are still there that were sent something and have not acknowledged it. */
export async function follow(account: Account): Promise<void> {
  for (const user of await sent.users(account.store)) {
    try {
      await peers.current(account, user);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (isAway(error)) return;
    }
  }
}

function isAway(error: ClientError): boolean {
  return error instanceof Unreachable || (error instanceof Problem && AWAY.has(error.status));
}

async function revise(account: Account): Promise<void> {
  for (const [user, waitedFor] of await sent.devicesOfUsers(account.store)) {
    const state = await peers.findKnown(account, user);
    if (state === undefined) continue;
    const listed = othersOf(account, state), ids = new Set(listed.map(hex));
    if (waitedFor.every((device) => ids.has(hex(device)))) continue;
    await account.store.transaction(async () => {
      for (const device of await sent.revise(account, user, listed)) await renewals.noteAgain(account, { user, device });
    });
  }
}

/** The devices that a chain lists, without this one. */
function othersOf(account: Account, state: ChainState): Bytes[] {
  return [...state.devices.keys()].map(unhex).filter((device) => !equal(device, account.device.id));
}

async function lookForLost(account: Account): Promise<void> {
  await account.store.transaction(async () => {
    for (const peer of await sent.findLost(account)) await renewals.noteAgain(account, peer);
  });
}

/**
 * Owe once more what was sent until a time (UTC seconds) and is not acknowledged; returns to how many devices.
 *
 * A server that was put back may have lost it. The next `settle` sends it.
 */
export async function giveBack(account: Account, before: number): Promise<number> {
  return account.store.transaction(async () => {
    const found = await sent.findGivenUp(account, before);
    for (const peer of found) await renewals.noteAgain(account, peer);
    return found.length;
  });
}

async function settleWith(account: Account, peer: Address, begun: Begun): Promise<void> {
  const { store } = account;
  let state: ChainState;
  try {
    state = await peers.current(account, peer.user);
  } catch (error) {
    const isKnown = equal(peer.user, account.user) || account.state.contacts.has(hex(peer.user));
    const isNobody = error instanceof NotPossible || (error instanceof Problem && error.status === 404);
    if (!isKnown && isNobody)
      // Nobody has this name: it is the server's word for a sender, and was never anything else.
      await store.transaction(async () => {
        await renewals.forget(store, peer);
        await inbox.comesNoMore(account, peer);
      });
    throw error;
  }
  await peers.requireShown(account, peer.user);
  if (!state.devices.has(hex(peer.device))) return handOver(account, state, peer);
  if (await unsent.isPaused(account, peer)) return;
  try {
    await greet(account, peer, await beginAnew(account, state, await renewals.load(store, peer), begun));
    await acknowledge(account, peer);
    await sendAgain(account, state, peer, begun);
  } catch (error) {
    if (error instanceof ClientError && !(error instanceof Unreachable)) await unsent.pause(account, peer, EMPTY, error);
    throw error;
  }
  await unsent.resume(store, peer);
}

/** Owe nothing to a device that is gone; what it was to hear is said to those that may have followed it. */
async function handOver(account: Account, state: ChainState, peer: Address): Promise<void> {
  const { store } = account;
  await store.transaction(async () => {
    const ids = await renewals.owed(store, peer);
    await renewals.forget(store, peer);
    await inbox.comesNoMore(account, peer);
    for (const device of othersOf(account, state))
      for (const messageId of ids) await renewals.owe(store, { user: peer.user, device }, messageId);
  });
}

// A session begun anew

/** Begin a session with a device whose messages do not open, unless that was done lately. */
async function beginAnew(account: Account, state: ChainState, row: Renewal, begun: Begun): Promise<Renewal> {
  if (!row.isUnread || !(await mayBegin(account, row, begun))) return row;
  const [place, session] = await begin(account, state, row.peer, begun);
  return account.store.transaction(async () => {
    const message = await session.encrypt(encodeContent(await compose(account, ContentKind.GREETING, NO_BODY)));
    await sessions.put(account.store, place, session, { wasReceivedOn: false });
    return renewals.noteBegun(account, row.peer, place, message);
  });
}

async function greet(account: Account, peer: Address, row: Renewal): Promise<void> {
  if (row.greeting.length === 0) return;
  await postOrReport(account, peer, row.greeting);
  await renewals.save(account, { ...row, greeting: EMPTY });
}

/**
 * Tell whether one more key of a device may be claimed today: no device, user or crowd of strangers uses up the rest.
 *
 * begun: as `renewals.begunOfAll` counts.
 */
async function mayBegin(account: Account, row: Renewal, begun: Begun): Promise<boolean> {
  if (!repeats.mayBegin(row.begun, account.api.clock.now(), await isConfirmed(account, row))) return false;
  const { user } = row.peer;
  if (begun.total >= repeats.MOST_BEGUN_OF_ALL) return false;
  if (equal(user, account.user)) return true;
  if (begun.of(user) >= repeats.MOST_BEGUN_OF_ONE) return false;
  if (await hasAnswered(account, user)) return true;
  let withStrangers = 0;
  for (const [other, count] of begun.users()) if (!(await hasAnswered(account, other))) withStrangers += count;
  return withStrangers < repeats.MOST_BEGUN_OF_STRANGERS;
}

/** Tell whether a user is no stranger: one's own, or a device of theirs is known to have a session with this one. */
async function hasAnswered(account: Account, user: Bytes): Promise<boolean> {
  if (equal(user, account.user)) return true;
  for (const place of await sessions.placesOf(account.store, user))
    if ((await sessions.load(account.store, place, { forReceiving: false }))?.isConfirmed) return true;
  return false;
}

/** Tell whether a device is known to have the session begun anew with it last; so it is when it has others since. */
async function isConfirmed(account: Account, row: Renewal): Promise<boolean> {
  for (const place of await sessions.places(account.store, row.peer)) {
    const begun = equal(place.id, row.session) ? await sessions.load(account.store, place, { forReceiving: false }) : undefined;
    if (begun) return begun.isConfirmed;
  }
  return true;
}

async function begin(account: Account, state: ChainState, peer: Address, begun: Begun): Promise<[Place, Session]> {
  await renewals.noteTried(account, peer);
  begun.add(peer.user);
  const [newest, claimed] = await bundles.claimDevices(account, state, [peer.device]);
  const bundle = claimed.find((one) => equal(one.device, peer.device));
  if (bundle === undefined) throw new NotPossible(NO_KEYS, { wayOut: outbox.NO_DEVICE });
  return handshakes.begin(account, newest, bundle);
}

// Acknowledgements

/** Acknowledge what an app has taken, and answer a session begun anew, in one message; it begins no session. */
async function acknowledge(account: Account, peer: Address): Promise<void> {
  const { store } = account, row = await renewals.load(store, peer), now = account.api.clock.now();
  let ids: readonly Bytes[] = (await renewals.owed(store, peer)).slice(0, MAX_ACKNOWLEDGED);
  const isAnswer = row.isGreeted && repeats.mayAnswer(row.answered, now);
  if (ids.length === 0 && !isAnswer) return;
  const found = await sessions.newest(account, peer);
  if (found !== undefined) {
    const said = await compose(account, ContentKind.ACKNOWLEDGEMENT, acknowledgementBody(ids));
    const kept = await encrypted(account, found, EMPTY, encodeContent(said), ids);
    ids = kept.acknowledged;
    await postOrReport(account, peer, kept.message);
  }
  await store.transaction(async () => {
    await unsent.forget(store, peer, EMPTY);
    // Without a session there is nobody who waits: a device that has one sends again what is not acknowledged.
    await renewals.settle(store, peer, ids);
    if (isAnswer)
      await renewals.save(account, { ...row, isGreeted: false, answered: [...row.answered, now], isAgain: true });
  });
}

// What was not read

/** Send what a device has not acknowledged in the newest session, unless it went in that one already. */
async function sendAgain(account: Account, state: ChainState, peer: Address, begun: Begun): Promise<void> {
  const { store } = account, row = await renewals.load(store, peer);
  if (!row.isAgain) return;
  const waiting = await sent.waitingFor(account, peer);
  let isThrough = true;
  await unsent.forgetOthers(store, peer, waiting.map((one) => one.key));
  if (waiting.length > 0) {
    const found = await sessions.toSend(account, peer);
    // Begun anew by this end, and not heard of yet: were it lost, so would be all that went in it.
    if (found && equal(found[0].id, row.session) && !found[1].isConfirmed) return;
    if (found === undefined && !(await mayBegin(account, row, begun))) return;
    const place = found ?? (await begin(account, state, peer, begun));
    for (const one of waiting) {
      const session = sent.sessionWith(one, peer.device);
      if (session !== undefined && equal(session, place[0].id)) continue;
      if (!(await sendOneAgain(account, place, one))) isThrough = false;
    }
  }
  if (isThrough) await renewals.save(account, { ...(await renewals.load(store, peer)), isAgain: false });
}

/** Send one message again. False where the server refuses it for now; those behind it are sent all the same. */
async function sendOneAgain(account: Account, of: readonly [Place, Session], one: Sent): Promise<boolean> {
  const { store } = account, [{ peer, id }] = of;
  if (await unsent.isPaused(account, peer, one.key)) return false;
  const what = await sent.body(store, one), kept = await encrypted(account, of, one.key, what.plaintext, []);
  try {
    await post(account, peer, kept.message, what.content);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (!outbox.FINAL.has(error.code)) {
      if (!isOfItself(error)) throw error;
      await unsent.pause(account, peer, one.key, error);
      return false;
    }
    await store.transaction(async () => {
      await sent.giveUpOn(store, one, peer.device);
      await unsent.forget(store, peer, one.key);
    });
    await report(account, peer, error, what.plaintext);
    return true;
  }
  await store.transaction(async () => {
    await sent.sentAgain(account, one, peer.device, id);
    await unsent.forget(store, peer, one.key);
  });
  return true;
}

// One message to one device

/** Return a message as it was encrypted before, or encrypt it: once for each session, kept until it is taken. */
async function encrypted(
  account: Account,
  [place, session]: readonly [Place, Session],
  what: Bytes,
  plaintext: Bytes,
  ids: readonly Bytes[],
): Promise<Unsent> {
  const { store } = account, kept = await unsent.find(store, place, what);
  if (kept) return kept;
  return store.transaction(async () => {
    const row: Unsent = { session: place.id, message: await session.encrypt(plaintext), acknowledged: ids };
    await sessions.put(store, place, session, { wasReceivedOn: false });
    await unsent.keep(store, place.peer, what, row);
    return row;
  });
}

/** Post what is nobody's message. A refusal for good is reported, since asking again would change nothing. */
async function postOrReport(account: Account, peer: Address, message: Bytes): Promise<void> {
  try {
    await post(account, peer, message);
  } catch (error) {
    if (!(error instanceof Problem) || !outbox.FINAL.has(error.code)) throw error;
    await report(account, peer, error);
  }
}

async function report(account: Account, peer: Address, problem: Problem, plaintext: Bytes = EMPTY): Promise<void> {
  const isMessage = plaintext.length > 0;
  const what = isMessage ? "A message" : "A confirmation of what was received";
  const otherwise = isMessage ? "Send it again if it still matters." : "If this goes on, tell your operator.";
  await account.store.transaction(async () => {
    await reports.add(
      account,
      ReportKind.NOT_SENT,
      `${what} could not be sent to device ${uuidText(peer.device)}: ${problem.message}`,
      {
        wayOut: problem.wayOut || otherwise,
        user: peer.user,
        device: peer.device,
        evidence: isMessage ? [plaintext] : [],
      },
    );
  });
}

async function post(account: Account, peer: Address, message: Bytes, content: Bytes = EMPTY): Promise<void> {
  const document = {
    kind: "message",
    message: b64u(message),
    ...(content.length > 0 ? { content: b64u(content) } : {}),
  };
  await account.api.post(`devices/${uuidText(peer.device)}/messages`, document);
}
