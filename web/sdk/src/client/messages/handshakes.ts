// SPDX-License-Identifier: Apache-2.0
/**
 * Sessions begun: by this device with a verified bundle, by another with an initial message verified here first.
 *
 * docs/formats/messages.md, on `core/messages/session`. Stores nothing but by `keep`: the caller stores what is returned
 * here in one transaction with what came of it.
 */
import { type Bytes, equal, hex } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, Untrusted } from "../../core/base/errors.js";
import { layout, octets, openMap, openRow, sealRow, uint } from "../../core/base/rows.js";
import { AgreementKey } from "../../core/crypto/keys.js";
import { agreementKind } from "../../core/crypto/suites.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { uuidText } from "../../core/base/uuids.js";
import { isMove } from "../../core/messages/bundle.js";
import { Session } from "../../core/messages/session.js";
import { type Incoming, type InitialPart, readMessage } from "../../core/messages/wire.js";
import { Party } from "../../core/messages/x3dh.js";
import { Sign1 } from "../../core/signed/cose.js";
import { type DeviceStatement, deviceFromPayload, openDevice } from "../../core/signed/statements.js";
import { TrustRefused } from "../errors.js";
import * as peers from "../identity/peers.js";
import { HiddenChain } from "../identity/peers.js";
import type { Account } from "../profile/account.js";
import { type Device, DEVICE } from "../profile/state.js";
import * as sessions from "../sessions/sessions.js";
import type { Address, Place } from "../sessions/sessions.js";
import * as bundles from "./bundles.js";
import type { ClaimedBundle } from "./bundles.js";
import { idKey } from "./prekey_rows.js";
import * as prekeys from "./prekeys.js";

/** Rows: a device that this one followed in a rotation of device keys, by its id: what was sent to it still opens. */
export const FORMER_DEVICE = "former-device";
/** Rows: a one-time key that was used up, by its id. */
export const USED = "used";
const LIES = "Nothing of it was believed. Tell your officers: the server hands over what does not fit together.";

/** The two ends of a handshake, each as its own account chain has it at the head that the message names. */
export interface Verified {
  readonly initiator: Party;
  readonly me: Party;
  readonly own: Device;
}

/** A session that an initial message began, its plaintext, and the id of the one-time key that it used up. */
export interface Begun {
  readonly session: Session;
  readonly plaintext: Bytes;
  readonly oneTimeId: number | undefined;
}

/** A message is wrong by itself: no other answer of the server would make it right. */
export class MessageRefused extends TrustRefused {
  override get name(): string {
    return "MessageRefused";
  }
}

/** A one-time key came a second time: `first` is the message that it came with before. */
export class OneTimeKeyReused extends MessageRefused {
  override get name(): string {
    return "OneTimeKeyReused";
  }

  /** isReplay: it is the same handshake under other bytes, and not another sender's. */
  constructor(
    keyId: number,
    readonly first: Bytes,
    readonly isReplay: boolean,
  ) {
    super(`One-time key ${keyId} of this device was handed out to two senders.`, {
      wayOut:
        "It must go to one sender only, and the server sees to that. Both messages are kept as evidence: show them to " +
        "your officers, and ask the second sender to write again.",
    });
  }
}

/** A handshake that has begun a session here before. */
export class Replayed extends Untrusted {
  override get name(): string {
    return "Replayed";
  }
}

/** Begin a session with a device of the user of a verified chain. Rejects with TrustRefused when none can begin. */
export async function begin(account: Account, state: ChainState, claimed: ClaimedBundle): Promise<[Place, Session]> {
  const { keys } = claimed;
  const peer = new Party(keys.deviceBytes, keys.device, state.aik, headOf(state));
  let session: Session;
  try {
    session = await Session.initiate({
      me: await account.me(),
      deviceStatement: Sign1.parse(account.device.statement),
      agreement: await account.agreementKey(),
      peer,
      bundle: keys,
      now: account.api.clock.latest(),
    });
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`No session can begin with device ${uuidText(claimed.device)}: ${error.message}.`, {
      wayOut: "Ask the person which device that is. Two devices need suites of one family: 1 and 2, or 3 and 4.",
    });
  }
  return [{ peer: { user: state.user, device: claimed.device }, id: session.id, own: account.device.id }, session];
}

/**
 * Verify who begins a session: before any key of this device is touched, and asking the server for chains.
 *
 * sender: whom the server names. toDevice: the own device that the message is for. Rejects with Malformed; MessageRefused
 * when the message is another device's, or its device is not in its account's chain, then and now; PeerChanged while a
 * human has to confirm the sender's account. Every other ClientError is a doubt about a chain or the log and says nothing
 * against the message: HiddenChain while the server does not show a head that it names.
 */
export async function verify(
  account: Account,
  initial: InitialPart,
  of: { sender: Address; toDevice: Bytes },
): Promise<Verified> {
  const { sender } = of, statement = await openDevice(initial.deviceStatement);
  requireSender(account, statement, sender);
  const theirs = await peers.refresh(account, sender.user);
  requireShown(account, sender.user, initial.initiatorHead);
  if (!isListed(theirs, sender.device, initial.deviceStatement))
    throw new MessageRefused("The message is from a device that its owner's account does not list, or no longer.", {
      wayOut: "Ask the sender, by another way, to write from a device of theirs.",
    });
  requireSuite(account, sender.user, statement);
  const then = await peers.asOf(account, sender.user, initial.initiatorHead);
  const own = await ownDevice(account, of.toDevice);
  return {
    initiator: partyOf(then, initial.deviceStatement),
    me: await ownParty(account, own, initial.responderHead),
    own,
  };
}

/** Return this device, or the one that it followed, whose last messages still come. Rejects with MessageRefused. */
export async function ownDevice(account: Account, device: Bytes): Promise<Device> {
  if (equal(device, account.device.id)) return account.device;
  const kept = await account.store.get(FORMER_DEVICE, device);
  if (kept === undefined)
    throw new MessageRefused("The message is for another device than this one.", { wayOut: LIES });
  return openMap(DEVICE, kept, "former device");
}

/** Return this device and those that it followed until their grace is over: what was sealed to them still comes. */
export async function ownDevices(account: Account): Promise<Device[]> {
  const found = [account.device];
  for (const key of await account.store.keys(FORMER_DEVICE)) {
    const kept = await account.store.get(FORMER_DEVICE, key);
    if (kept) found.push(openMap(DEVICE, kept, "former device"));
  }
  return found;
}

function requireSender(account: Account, statement: DeviceStatement, sender: Address): void {
  const { header } = statement;
  if (!equal(header.tenant, account.tenant))
    throw new MessageRefused("The message is from a device of another tenant.", { wayOut: LIES });
  if (!equal(header.user, sender.user) || !equal(header.device, sender.device))
    throw new MessageRefused(
      `The message was made by a device of user ${uuidText(header.user)}, which is not the one named with it.`,
      { wayOut: LIES },
    );
  if (equal(sender.device, account.device.id))
    throw new MessageRefused("The server returns this device's own message as one received.", { wayOut: LIES });
}

function requireSuite(account: Account, user: Bytes, statement: DeviceStatement): void {
  const pinned = bundles.pinnedSuite(account, user);
  if (pinned !== undefined && !isMove(pinned, statement.suite))
    throw new MessageRefused(
      `The sender's device is of suite ${statement.suite}; the contact is held to suite ${pinned}.`,
      { wayOut: "Ask the sender whether that device is theirs, and to write from another one." },
    );
}

function requireShown(account: Account, user: Bytes, head: Bytes): void {
  if (!peers.knows(account, user, head))
    throw new HiddenChain("It rests on an account chain that the server does not show.", {
      wayOut: "It is opened by itself once the server shows that. If this goes on, tell your officers.",
    });
}

function isListed(state: ChainState, device: Bytes, signed: Sign1): boolean {
  const listed = state.devices.get(hex(device));
  return listed !== undefined && equal(listed, signed.payloadHash);
}

function partyOf(state: ChainState, signed: Sign1): Party {
  const statement = deviceFromPayload(signed.payload);
  if (!isListed(state, statement.header.device, signed))
    throw new MessageRefused("The message rests on a time when the account did not list the device.", {
      wayOut: "Ask the sender to write again.",
    });
  return new Party(signed.payload, statement, state.aik, headOf(state));
}

/** Return the own device at the head of its chain that the sender saw. */
async function ownParty(account: Account, own: Device, head: Bytes): Promise<Party> {
  if (!peers.knows(account, account.user, head)) await peers.refresh(account, account.user);
  requireShown(account, account.user, head);
  return partyOf(await peers.asOf(account, account.user, head), Sign1.parse(own.statement));
}

/** Tell whether this device still has the pre-keys that an initial message was made for. */
export async function hasKeys(account: Account, initial: InitialPart): Promise<boolean> {
  const oneTime = initial.oneTimePreKeyId;
  if (oneTime !== undefined && (await prekeys.oneTime(account, oneTime)) === undefined) return false;
  return (await prekeys.loadSigned(account, initial.signedPreKeyId)) !== undefined;
}

/**
 * Open an initial message of a verified sender with this device's pre-keys, in the caller's transaction.
 *
 * Rejects with Untrusted for a pre-key that is not here, Replayed for a handshake seen before; OneTimeKeyReused and
 * UnwrapFailed.
 */
export async function respond(account: Account, incoming: Incoming, verified: Verified): Promise<Begun> {
  const { initial } = incoming;
  if (initial === undefined) throw new Untrusted("this message begins no session");
  const signed = await prekeys.loadSigned(account, initial.signedPreKeyId);
  if (signed === undefined) throw new Untrusted("the message is for a signed pre-key that this device no longer has");
  const oneTimeId = initial.oneTimePreKeyId;
  const oneTime = oneTimeId === undefined ? undefined : await prekeys.oneTime(account, oneTimeId);
  if (oneTimeId !== undefined && oneTime === undefined) throw await spent(account, oneTimeId, initial);
  const [session, plaintext] = await Session.respond(incoming, {
    me: verified.me,
    agreement: await AgreementKey.fromSeed(agreementKind(verified.me.device.suite), verified.own.agreementSeed),
    initiator: verified.initiator,
    signed,
    oneTime,
    now: account.api.clock.latest(),
  });
  if (await sessions.wasSeen(account.store, session))
    throw new Replayed("the message begins a session that has begun before: a replay");
  return { session, plaintext, oneTimeId };
}

/** What a one-time key was used up by. until: UTC seconds at which nobody can send that message again. */
interface Used {
  readonly until: number;
  readonly message: Bytes;
}

const USED_ROW = layout<Used>("used one-time key", { until: uint(), message: octets() }, { rowSize: 2 * MAX_BLOB });

/**
 * Store a session that began here, and use up what it used up, in the transaction that stores its plaintext.
 *
 * message: the whole first message, kept beside the one-time key's id: should the key come a second time, the two prove
 * that the server handed it out twice.
 */
export async function keep(account: Account, begun: Begun, place: Place, message: Bytes): Promise<void> {
  const now = account.api.clock.latest();
  await sessions.put(account.store, place, begun.session, { wasReceivedOn: true });
  await sessions.rememberInitial(account.store, place, begun.session, { now });
  if (begun.oneTimeId !== undefined) {
    await prekeys.useUp(account, begun.oneTimeId);
    const used = { until: now + sessions.INITIAL_LIFE_SECONDS, message };
    await account.store.put(USED, idKey(begun.oneTimeId), sealRow(USED_ROW, used));
  }
}

async function spent(account: Account, keyId: number, initial: InitialPart): Promise<HoldfastError | OneTimeKeyReused> {
  const kept = await account.store.get(USED, idKey(keyId));
  if (kept === undefined) return new Untrusted("the message is for a one-time key that this device does not have");
  const used = openRow(USED_ROW, kept), first = readMessage(used.message).initial;
  return new OneTimeKeyReused(keyId, used.message, first !== undefined && first.ephemeral.equals(initial.ephemeral));
}
