// SPDX-License-Identifier: Apache-2.0
/**
 * The device door: one device of a person brings another in, by a QR code, eight digits, or eight words.
 *
 * docs/formats/pairing.md, on both devices. Does not draw QR codes, and brings no session over: what the new device gets is
 * the key of the vault.
 */
import { type Bytes, equal, hex, unhex, utf8 } from "../../core/base/bytes.js";
import { decode, encode } from "../../core/base/encoding.js";
import { HoldfastError, Malformed, Untrusted, UnwrapFailed } from "../../core/base/errors.js";
import { SecretBytes } from "../../core/base/secret.js";
import * as typed from "../../core/base/typed.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { areWords } from "../../core/base/words.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { Sign1 } from "../../core/signed/cose.js";
import { deviceFromPayload, openDevice, SyncKind } from "../../core/signed/statements.js";
import {
  CODE_DIGITS, ExistingDevice, NewDevice, newPairingRequest, type PairingRequest, pairingRequestHash, pairingText,
  parsePairingText, requireShown,
} from "../../core/vault/pairing.js";
import {
  type DeviceSync, NONCE_SIZE, type OfficersKey, officersKeyFromRow, officersKeyRow, sealSync, SyncLetter,
} from "../../core/vault/sync_letter.js";
import {
  ClientError, NotPossible, NotYet, ProfileError, RaceLost, TrustRefused, Unreachable, WrongInput, WrongWords,
} from "../errors.js";
import { identityWords } from "../identity/contacts.js";
import * as devices from "../identity/device.js";
import * as keyLog from "../identity/key_log.js";
import { HiddenChain } from "../identity/peers.js";
import * as restored from "../identity/restored.js";
import * as handshakes from "../messages/handshakes.js";
import * as letters from "../messages/letters.js";
import { type Letter, LetterKind } from "../messages/letters.js";
import type { Account } from "../profile/account.js";
import type { OfficersSection } from "../profile/state.js";
import { waitFor } from "../waiting.js";
import * as vault from "./vault.js";
import type { OpenedVault } from "./vault.js";

const LATER = "It is read once the server shows that. If this goes on, tell your officers.";
const REQUEST = ["pairing", utf8("request")] as const;
// The server saw the nonce of a pairing by digits: what answers it proves less than an answer to a QR code.
const BY_DIGITS = ["pairing", utf8("digits")] as const;
// The key of the officers' section that came along, until the officers' room has read the section with it.
const OFFICERS = ["pairing", utf8("officers-key")] as const;

/** How a new device came in. */
export interface Joined {
  readonly opened: OpenedVault;
  /** The id of the device that brought it in. */
  readonly by: string;
  /** The 8 words of the account's identity key. */
  readonly words: readonly string[];
  /**
   * Whether the new device knows by itself that it was brought in by the person's own device, because only that one saw
   * its QR code. False after an approval by words or digits, which the old device alone compared: the person then
   * compares `words` on both screens.
   */
  readonly isAuthenticated: boolean;
}

// The new device

/**
 * Return what this new device shows to another one of the person's; the same again until it was answered.
 *
 * Rejects with NotPossible on a device that is in the account already.
 */
export async function request(account: Account): Promise<PairingRequest> {
  const kept = await keptRequest(account);
  if (kept !== undefined && (await account.store.get(...BY_DIGITS)) === undefined) return kept;
  if ((await vault.chainOf(account)).devices.has(hex(account.device.id)))
    throw new NotPossible("This device is in your account already.", { wayOut: "See: client.devices.all()" });
  const made = newPairingRequest(account.deviceStatement);
  await account.store.put(...REQUEST, new SecretBytes(utf8(pairingText(made))));
  await account.store.delete(...BY_DIGITS);
  return made;
}

async function keptRequest(account: Account): Promise<PairingRequest | undefined> {
  const value = await account.store.get(...REQUEST);
  return value === undefined ? undefined : parsePairingText(new TextDecoder().decode(value.reveal()));
}

/**
 * Take the letter by which another device of the person answered, and open the vault with the key in it.
 *
 * Where this device asked by QR code or digits, the letter must answer that very question: its nonce was seen by nobody
 * but the device that was shown it. Rejects with NotYet while no letter is there, or the server does not show what one
 * rests on; TrustRefused for letters that are not an answer or from a device that is not the person's; SplitView when the
 * other device has seen another log of keys. Letters that are wrong by themselves are destroyed, others wait.
 */
export function complete(account: Account, { waitSeconds = 0 }: { waitSeconds?: number } = {}): Promise<Joined> {
  return waitFor(() => completed(account), waitSeconds);
}

async function completed(account: Account): Promise<Joined> {
  const asked = await keptRequest(account);
  await letters.fetch(account);
  const state = await vault.chainOf(account);
  if (!state.devices.has(hex(account.device.id))) throw notAnswered();
  const waiting = await letters.waiting(account, LetterKind.SYNC);
  let refused: ClientError | undefined;
  const wrong: Letter[] = [], held: Letter[] = [];
  for (const letter of [...waiting].reverse()) {
    let read: Read;
    try {
      read = await readLetter(account, state, letter, asked);
    } catch (error) {
      if (error instanceof HiddenChain) {
        held.push(letter);
        refused ??= new NotYet(error.message, { wayOut: error.wayOut });
      } else if (error instanceof HoldfastError) {
        wrong.push(letter);
        refused = new TrustRefused(
          `A letter that claims to bring your vault's key is not to be trusted: ${error.message}.`,
          { wayOut: "Start again on both devices: client.devices. If it happens again, tell your officers." },
        );
      } else throw error;
      continue;
    }
    const { contents, sender, kind } = read, opened = await open(account, contents);
    if (contents.officers !== undefined)
      await account.store.put(...OFFICERS, new SecretBytes(encode(officersKeyRow(contents.officers))));
    const wasScanned = kind === SyncKind.DEVICE_DOOR && (await account.store.get(...BY_DIGITS)) === undefined;
    await letters.putAway(account, waiting.filter((one) => !held.includes(one)));
    await account.store.delete(...REQUEST);
    await account.store.delete(...BY_DIGITS);
    return { opened, by: uuidText(sender), words: identityWords(state), isAuthenticated: wasScanned };
  }
  await letters.putAway(account, wrong);
  throw refused ?? notAnswered();
}

/** Return the key of the officers' section that the other device gave along, if it did and nobody took it yet. */
export async function officersKeyGiven(account: Account): Promise<OfficersSection | undefined> {
  const value = await account.store.get(...OFFICERS);
  if (value === undefined) return undefined;
  const { key, epoch, version } = officersKeyFromRow(decode(value.reveal()));
  return { key, epoch, version, keys: [] };
}

/** Forget the key that came along: the profile holds it. */
export async function putAwayOfficersKey(account: Account): Promise<void> {
  await account.store.delete(...OFFICERS);
}

function notAnswered(): NotYet {
  return new NotYet("No device of yours has brought this one in yet.", {
    wayOut: "On a device that holds your account: client.devices.pair(), or client.devices.approve().",
  });
}

/** A letter that was believed: what is in it, and which device (16 bytes) wrote it. */
interface Read {
  readonly contents: DeviceSync;
  readonly sender: Bytes;
  readonly kind: SyncKind;
}

/**
 * Open a sync letter and verify who wrote it: an active device of this very chain, at a head that stands in it.
 *
 * Rejects with a HoldfastError for one that is wrong by itself, HiddenChain for one that the server may show to be right
 * yet.
 */
async function readLetter(
  account: Account,
  state: ChainState,
  letter: Letter,
  asked: PairingRequest | undefined,
): Promise<Read> {
  // Before anything that may pass: anybody could write one that rests on a chain of their own making.
  if (!equal(letter.senderUser, account.user)) throw new Untrusted("it is from another person");
  const { opened, kind, nonce } = await openLetter(account, letter, asked), sender = opened.header.device;
  if (!equal(opened.header.tenant, account.tenant) || !equal(opened.header.user, account.user))
    throw new Untrusted("it is from another person");
  if (!state.hashes.some((hash) => equal(hash, opened.head)))
    throw new HiddenChain("It rests on an account chain that the server does not show.", { wayOut: LATER });
  const listed = state.devices.get(hex(sender));
  if (equal(sender, account.device.id) || listed === undefined)
    throw new Untrusted("it is from a device that is not yours");
  const statement = await devices.fetchStatement(account, sender);
  if (!equal(statement.payloadHash, listed))
    throw new HiddenChain("The server shows another device than your chain lists.", { wayOut: LATER });
  const { signingKey } = deviceFromPayload(statement.payload);
  return { contents: await opened.verify(signingKey, { kind, nonce }), sender, kind };
}

interface Opened {
  readonly opened: SyncLetter;
  readonly kind: SyncKind;
  readonly nonce: Bytes;
}

async function openLetter(account: Account, letter: Letter, asked: PairingRequest | undefined): Promise<Opened> {
  if (asked !== undefined) {
    const of = { key: await account.sealingKey(), requestHash: pairingRequestHash(asked) };
    const opened = await vault.unlessShut(SyncLetter.open(letter.message, of));
    if (opened !== undefined) return { opened, kind: SyncKind.DEVICE_DOOR, nonce: asked.nonce };
  }
  // Also where a code was shown, the person may have gone by the words instead.
  for (const device of await handshakes.ownDevices(account)) {
    const requestHash = Sign1.parse(device.statement).payloadHash;
    const key = await SealingKey.fromSeed(device.sealingSeed);
    const opened = await vault.unlessShut(SyncLetter.open(letter.message, { key, requestHash }));
    if (opened !== undefined)
      return { opened, kind: SyncKind.DEVICE_TO_DEVICE, nonce: requestHash.slice(0, NONCE_SIZE) };
  }
  throw new UnwrapFailed("the letter does not open");
}

async function open(account: Account, contents: DeviceSync): Promise<OpenedVault> {
  // Before anything is taken over: what the other device has seen of the log of keys must be what is shown here.
  await keyLog.compareGossip(account, contents.checkpoint);
  const found = await vault.find(account);
  // A server that was put back has a lower version of it, until the devices have given it theirs.
  const told = { epoch: contents.epoch, version: (await restored.isHealing(account)) ? 0 : contents.version };
  if (vault.isBefore(found.header, told))
    throw new TrustRefused("The server shows an older vault than your other device told of.", {
      wayOut:
        "Call client.maintain() on the other device, and pair again. If it happens again, tell your officers.",
    });
  if (found.header.epoch !== contents.epoch)
    throw new RaceLost("A device of yours has changed the vault's key since your other device told of it.", {
      wayOut: "Call client.maintain() on the other device, and pair again.",
    });
  return vault.openFound(account, found, contents.vaultKey);
}

// The existing device

/** What an existing device gives along. */
export interface Giving {
  /** The key of the officers' section as well, which this device holds. */
  readonly withOfficersKeys?: boolean;
}

/**
 * Bring in the new device whose QR code was scanned (or typed); returns its id.
 *
 * The device that the server shows must be the one in the code. Rejects with TrustRefused when none is, or another;
 * WrongInput for what is no code, or another person's.
 */
export async function accept(account: Account, text: string, giving: Giving = {}): Promise<string> {
  let asked: PairingRequest;
  try {
    asked = parsePairingText(text);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new WrongInput(`This is not a pairing code: ${error.message}.`, {
      wayOut: "On the new device: client.devices.pairingText()",
    });
  }
  return acceptAsked(account, asked, giving);
}

/** Tell whether a text is a whole pairing code. */
export function isCode(text: string): boolean {
  try {
    parsePairingText(text);
    return true;
  } catch (error) {
    if (error instanceof Malformed) return false;
    throw error;
  }
}

async function acceptAsked(account: Account, asked: PairingRequest, giving: Giving): Promise<string> {
  if (!equal(asked.tenant, account.tenant) || !equal(asked.user, account.user))
    throw new WrongInput("The code is of a device of another person or another tenant.", {
      wayOut: "Scan the one on your own device.",
    });
  const officers = officersKey(account, giving), statement = await pending(account, asked);
  const device = uuidText(deviceFromPayload(statement.payload).header.device);
  await vault.saveIfChanged(account);
  await devices.approve(account, device, { words: devices.deviceWords(statement) });
  await send(account, statement, { asked, officers });
  return device;
}

/** Return what goes along of the officers' section. Throws ProfileError where this device has nothing to give. */
function officersKey(account: Account, { withOfficersKeys = false }: Giving): OfficersKey | undefined {
  if (!withOfficersKeys) return undefined;
  const kept = account.state.officersSection;
  if (kept === undefined || kept.version === 0)
    throw new ProfileError("This device does not hold the key of your officers' section. Nothing was added.", {
      wayOut: "Bring the new device in from the one that holds it, or leave that key out.",
    });
  return { key: kept.key, epoch: kept.epoch, version: kept.version };
}

/** Return the statement of the device that a request is about, among the person's that the server shows. */
async function pending(account: Account, asked: PairingRequest): Promise<Sign1> {
  for await (const row of account.api.pages("devices", "devices", "device_id")) {
    const statement = await devices.fetchStatement(account, row.identifier("device_id"));
    try {
      requireShown(asked, await openDevice(statement));
    } catch (error) {
      if (error instanceof HoldfastError) continue;
      throw error;
    }
    return statement;
  }
  throw new TrustRefused("No device that the server shows is the one whose code you gave. Nothing was added.", {
    wayOut:
      "Enrol the new device again, and scan the code that it then shows. If it happens again, tell your officers: the " +
      "server shows your device as another one.",
  });
}

/**
 * Bring in a new device after its 8 words were compared on both screens, and send it the vault's key.
 *
 * device: its id, which is returned. Rejects with WrongWords as `device.approve` does, and then nothing was done.
 */
export async function approve(
  account: Account,
  device: string,
  { words, ...giving }: Giving & { readonly words: readonly string[] },
): Promise<string> {
  const officers = officersKey(account, giving);
  const statement = await devices.fetchStatement(account, uuidBytes(device));
  if (!areWords(devices.deviceWords(statement), words))
    throw new WrongWords("These are not the words of the device that the server shows. Do not approve it.");
  await vault.saveIfChanged(account);
  await devices.approve(account, device, { words });
  await send(account, statement, { officers });
  return device;
}

/** Send the vault key of now to every other device of the person; returns their ids. Repeatable. */
export async function sync(account: Account): Promise<string[]> {
  const state = await vault.chainOf(account), told: string[] = [];
  for (const [id, statementHash] of state.devices) {
    if (id === hex(account.device.id)) continue;
    const statement = await devices.fetchStatement(account, unhex(id));
    if (!equal(statement.payloadHash, statementHash))
      throw new TrustRefused("The server shows another device than your chain lists.", {
        wayOut: "See: client.devices.all()",
      });
    await send(account, statement);
    told.push(uuidText(unhex(id)));
  }
  return told;
}

async function send(
  account: Account,
  statement: Sign1,
  { asked, officers }: { asked?: PairingRequest; officers?: OfficersKey | undefined } = {},
): Promise<void> {
  const { key: vaultKey, epoch, version } = account.state.vault, to = deviceFromPayload(statement.payload);
  const own = statement.payloadHash, requestHash = asked === undefined ? own : pairingRequestHash(asked);
  const nonce = asked?.nonce ?? own.slice(0, NONCE_SIZE), checkpoint = await keyLog.ownCheckpoint(account);
  const message = await sealSync(
    { vaultKey, epoch, version, checkpoint, nonce, officers },
    {
      header: account.header(),
      kind: asked === undefined ? SyncKind.DEVICE_TO_DEVICE : SyncKind.DEVICE_DOOR,
      key: await account.signingKey(),
      to: to.sealingKey,
      requestHash,
      head: headOf(await account.chain()),
    },
  );
  await letters.send(account, to.header.device, LetterKind.SYNC, message);
}

/**
 * Take over a vault key or an identity key that another device of the person changed; true when one was.
 *
 * A letter about an epoch that this device has passed changes nothing, so a replayed one does no harm. Letters from devices
 * that the chain does not list any more are destroyed unread; one that rests on what the server does not show waits, if an
 * own device is its sender.
 */
export async function catchUp(account: Account): Promise<boolean> {
  const state = await vault.chainOf(account);
  if (!state.devices.has(hex(account.device.id))) return false;
  const told: DeviceSync[] = [], over: Letter[] = [];
  for (const letter of await letters.waiting(account, LetterKind.SYNC)) {
    try {
      told.push((await readLetter(account, state, letter, undefined)).contents);
    } catch (error) {
      if (error instanceof ClientError && !(error instanceof Unreachable)) {
        await letters.hold(account, letter, error);
        continue;
      }
      if (!(error instanceof HoldfastError)) throw error; // but for one that is wrong by itself
    }
    over.push(letter);
  }
  let isChanged = false;
  // Of several changes only the last one's key opens what lies on the server now.
  const newest = told.reduce<DeviceSync | undefined>(
    (last, one) => (last === undefined || vault.isBefore(last, one) ? one : last),
    undefined,
  );
  if (newest !== undefined && newest.epoch > account.state.vault.epoch && !(await isPassed(account, newest))) {
    await open(account, newest);
    isChanged = true;
  }
  await letters.putAway(account, over);
  if (!isChanged && !(await holdsIdentity(account, state)) && vault.holdsKey(account)) {
    await vault.load(account);
    isChanged = await holdsIdentity(account, state);
  }
  return isChanged;
}

/** Whether the vault has gone on to a later key, about which another letter is on its way. */
async function isPassed(account: Account, contents: DeviceSync): Promise<boolean> {
  return (await vault.find(account)).header.epoch > contents.epoch;
}

async function holdsIdentity(account: Account, state: ChainState): Promise<boolean> {
  return account.state.identitySeed.length > 0 && (await account.identityKey()).public.equals(state.aik);
}

// Without a camera: eight digits, after each side has committed itself

/** The new device's side. Lives as long as the person looks at the screen: a second try is a new offer. */
export class CodeOffer {
  private constructor(
    private readonly account: Account,
    private readonly side: NewDevice,
  ) {}

  /** Begin a pairing by eight digits, with a letter to each device of the person. */
  static async begin(account: Account): Promise<CodeOffer> {
    const side = new NewDevice(await request(account));
    await account.store.put(...BY_DIGITS, new SecretBytes(utf8("1")));
    await letters.fetch(account);
    await letters.putAway(account, await letters.waiting(account, LetterKind.PAIRING));
    for (const device of (await vault.chainOf(account)).devices.keys())
      await letters.send(account, unhex(device), LetterKind.PAIRING, side.commitment);
    return new CodeOffer(account, side);
  }

  /** Wait for the other device's answer, and return the 8 digits to type there. Rejects with NotYet. */
  wait(seconds: number): Promise<string> {
    return waitFor(() => this.code(), seconds);
  }

  private async code(): Promise<string> {
    const { account, side } = this;
    await letters.fetch(account);
    const state = await vault.chainOf(account);
    for (const letter of await letters.waiting(account, LetterKind.PAIRING)) {
      if (!state.devices.has(hex(letter.senderDevice))) continue;
      await letters.putAway(account, [letter]);
      let reveal: Bytes;
      try {
        reveal = side.answer(letter.message);
      } catch (error) {
        if (error instanceof HoldfastError) continue;
        throw error;
      }
      // The first answer is the only one: two would give whoever stands between two tries at the digits.
      await letters.send(account, letter.senderDevice, LetterKind.PAIRING, reveal);
      return side.code;
    }
    throw new NotYet("Your other device has not answered yet.", {
      wayOut: "On it, answer the new device: client.devices.answerCode()",
    });
  }
}

/** The existing device's side: one try, then a new one on both devices. */
export class CodeAnswer {
  private isOver = false;

  private constructor(
    private readonly account: Account,
    private readonly side: ExistingDevice,
    private readonly newDevice: Bytes,
  ) {}

  /** Answer the new device that offers itself. Rejects with NotYet while none does. */
  static async begin(account: Account): Promise<CodeAnswer> {
    await letters.fetch(account);
    const listed = (await vault.chainOf(account)).devices;
    for (const letter of (await letters.waiting(account, LetterKind.PAIRING)).reverse()) {
      await letters.putAway(account, [letter]);
      if (!equal(letter.senderUser, account.user) || listed.has(hex(letter.senderDevice))) continue;
      const side = new ExistingDevice(account.deviceStatement);
      let message: Bytes;
      try {
        message = side.receiveCommitment(letter.message);
      } catch (error) {
        if (error instanceof HoldfastError) continue;
        throw error;
      }
      await letters.send(account, letter.senderDevice, LetterKind.PAIRING, message);
      return new CodeAnswer(account, side, letter.senderDevice);
    }
    throw new NotYet("No new device of yours offers itself.", {
      wayOut: "On it, begin by digits: client.devices.offerCode()",
    });
  }

  /**
   * Bring in the new device if the digits typed are those this side has computed; returns its id.
   *
   * said: as typed, in groups or not. What is no eight digits costs no try, since it could be no code. Rejects with
   * WrongWords for others: somebody stands between the two devices, or a digit was mistyped.
   */
  async confirm(said: string, { waitSeconds = 0, ...giving }: Giving & { waitSeconds?: number } = {}): Promise<string> {
    if (this.isOver) throw new NotPossible("This pairing is over.", { wayOut: "Start again on both devices." });
    const digits = typed.ungrouped(said);
    if (digits.length !== CODE_DIGITS || !/^[0-9]+$/.test(digits))
      throw new WrongWords(`The code is ${CODE_DIGITS} digits. Nothing was added, and this pairing goes on.`, {
        wayOut: "Type the digits once more, as the new device shows them.",
      });
    await waitFor(() => this.takeReveal(), waitSeconds);
    this.isOver = true;
    let asked: PairingRequest;
    try {
      asked = this.side.confirm(digits);
    } catch (error) {
      if (!(error instanceof Untrusted)) throw error;
      throw new WrongWords("These are not the digits of this pairing. Nothing was added.", {
        wayOut: "Start again on both devices. If they differ again, somebody is between them: tell your officers.",
      });
    }
    return acceptAsked(this.account, asked, giving);
  }

  private async takeReveal(): Promise<void> {
    const { account } = this;
    await letters.fetch(account);
    for (const letter of await letters.waiting(account, LetterKind.PAIRING)) {
      if (!equal(letter.senderDevice, this.newDevice)) continue;
      await letters.putAway(account, [letter]);
      try {
        this.side.receiveReveal(letter.message);
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error;
        throw new TrustRefused(
          `The new device's answer does not fit what it committed itself to: ${error.message}.`,
          { wayOut: "Start again on both devices. If it happens again, tell your officers.", cause: error },
        );
      }
      return;
    }
    throw new NotYet("The new device has not answered yet.", { wayOut: "Leave both devices waiting." });
  }
}

/** On the new device: begin a pairing by eight digits, with a letter to each device of the person. */
export function offerCode(account: Account): Promise<CodeOffer> {
  return CodeOffer.begin(account);
}

/** On an existing device: answer the new device that offers itself. Rejects with NotYet while none does. */
export function answerCode(account: Account, { waitSeconds = 0 }: { waitSeconds?: number } = {}): Promise<CodeAnswer> {
  return waitFor(() => CodeAnswer.begin(account), waitSeconds);
}
