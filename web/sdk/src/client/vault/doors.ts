// SPDX-License-Identifier: Apache-2.0
/**
 * The doors of the vault: which are open, and the two that a person sets from memory or paper (password, phrase).
 *
 * docs/formats/doors.md. Does not pair devices (`pairing`) or share among contacts (`trusted`), and finishes no recovery.
 */
import { type Bytes, EMPTY, equal, hex, utf8 } from "../../core/base/bytes.js";
import { b64u, decode, encode, MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, Malformed, Unusable, UnwrapFailed } from "../../core/base/errors.js";
import { layout, octets, openRow, sealRow, text, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import type { SigningKey } from "../../core/crypto/keys.js";
import { type Language, NotConfirmed, Phrase } from "../../core/crypto/phrase.js";
import { type Argon2Cost, DEFAULT_COST } from "../../core/crypto/stretching.js";
import { signingKind } from "../../core/crypto/suites.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { type ChainState, dueAtOf } from "../../core/identity/chain.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import type { Entry } from "../../core/identity/entries.js";
import type { DoorOwner } from "../../core/vault/door_blob.js";
import * as passwordDoor from "../../core/vault/password_door.js";
import * as phraseDoor from "../../core/vault/phrase_door.js";
import { NotPossible, TrustRefused, WrongInput, WrongSecret, WrongWords } from "../errors.js";
import * as chains from "../identity/chains.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import * as vault from "./vault.js";
import type { Found, OpenedVault } from "./vault.js";
import * as vaultContents from "./vault_contents.js";

/** A kind of door, as the server names it. */
export type DoorKind = "password" | "phrase" | "device" | "contacts";

/** The kind of the door of a password. */
export const PASSWORD = "password";
/** The kind of the door of the 24 words. */
export const PHRASE = "phrase";
/** The kind of what further devices are. */
export const DEVICE = "device";
/** The kind of the door of trusted contacts. */
export const CONTACTS = "contacts";
/** Every kind, in the order in which they are listed. */
export const KINDS: readonly DoorKind[] = [PASSWORD, PHRASE, DEVICE, CONTACTS];
/** Of 24 words: who has not written them down fails, who has is done in a minute. */
export const QUESTIONS = 4;
const WORDS = 24; // BIP-39, for 256 bits
const MAX_PHRASE_ROW = 4096; // bytes: a time, an epoch, a language, a public key

// By kind: the door as this device gave it; and, of one that another device gave and the server has lost, the mark whose
// door has to be set again.
const GIVEN = "given-door";
const LOST = "lost-door";
// A door's mark is dated by a device, and its row by the server some moments before: their clocks differ by no more, or
// the server would have refused the request (docs/formats/requests.md).
const SLACK_SECONDS = 120;

const SETTING: Readonly<Record<DoorKind, string>> = {
  password: "Set a password: client.backup.setPassword()",
  phrase: "Make a new phrase: client.backup.newPhrase()",
  device: "Enrol a second device, and pair it: client.devices.pair()",
  contacts: "Choose trusted contacts: client.backup.setContacts()",
};

/** The password does not open the door, or the door is not this account's. */
export class WrongPassword extends WrongSecret {
  override get name(): string {
    return "WrongPassword";
  }
}

/** The phrase does not open the door, or the door is not this account's. */
export class WrongPhrase extends WrongSecret {
  override get name(): string {
    return "WrongPhrase";
  }
}

/** One way into the vault. */
export interface Door {
  readonly kind: DoorKind;
  readonly isOpen: boolean;
  /** UTC seconds, 0 when never set. */
  readonly setAt: number;
  /** Of the vault key behind it, 0 for none. */
  readonly epoch: number;
  /** What the person has to do for it, with the call; empty when nothing. */
  readonly needs: string;
  readonly language: string;
}

/** What every device of the person knows of a door: when it was set, for which epoch (0: removed), and how. */
interface Mark {
  readonly setAt: number;
  readonly epoch: number;
  readonly language: string;
  /** Of a phrase, the encoded public half of its signing key. */
  readonly recoveryKey: Bytes;
}

const MARK = layout<Mark>(
  "door",
  { setAt: uint(), epoch: uint(), language: text(), recoveryKey: octets() },
  { rowSize: MAX_PHRASE_ROW },
);

async function markOf(account: Account, kind: DoorKind): Promise<Mark> {
  const value = await account.store.get(vaultContents.DOOR, utf8(kind));
  return value === undefined ? { setAt: 0, epoch: 0, language: "", recoveryKey: EMPTY } : openRow(MARK, value);
}

/** A door as this device gave it, to be given back to a server that was put back. setAt: as its mark has it. */
interface Given {
  readonly setAt: number;
  readonly blob: Bytes;
}

const GIVEN_ROW = layout<Given>("given door", { setAt: uint(), blob: octets() }, { rowSize: 2 * MAX_BLOB });

/** Return the door that a mark is of, unless another device set it. */
async function givenOf(account: Account, kind: DoorKind, known: Mark): Promise<Given | undefined> {
  const value = await account.store.get(GIVEN, utf8(kind));
  const given = value === undefined ? undefined : openRow(GIVEN_ROW, value);
  return given?.setAt === known.setAt ? given : undefined;
}

/**
 * Note for all devices that a door was set for an epoch, or with epoch 0 that it was removed.
 *
 * blob: as it was sent. It is kept on this device: it opens nothing that this device does not hold.
 */
export async function mark(
  account: Account,
  kind: DoorKind,
  of: { epoch: number; blob?: Bytes; language?: string; recoveryKey?: Bytes },
): Promise<void> {
  const { epoch, blob = EMPTY, language = "", recoveryKey = EMPTY } = of, key = utf8(kind), { store } = account;
  const setAt = await vaultContents.nextStamp(account, vaultContents.DOOR, key);
  await store.transaction(async () => {
    await store.put(vaultContents.DOOR, key, sealRow(MARK, { setAt, epoch, language, recoveryKey }));
    await store.delete(LOST, key);
    if (blob.length > 0) await store.put(GIVEN, key, sealRow(GIVEN_ROW, { setAt, blob }));
    else await store.delete(GIVEN, key);
  });
}

/** Write a door to the server in place of the one of its kind. */
export async function putDoor(account: Account, kind: DoorKind, blob: Bytes): Promise<void> {
  const version = (await versions(account)).get(kind) ?? 0;
  await account.api.put(`vault/doors/${kind}`, { blob: b64u(blob) }, { ifMatch: `"${version}"` });
}

/** Return a door's blob. Rejects with NotPossible when there is none of that kind. */
export async function fetchDoor(account: Account, kind: DoorKind): Promise<Bytes> {
  const answer = await vault.unless404(account.api.get(`vault/doors/${kind}`));
  if (answer === undefined)
    throw new NotPossible(`Your vault has no ${kind} door.`, {
      wayOut: "Another may be open: client.recover has a call for each.",
    });
  return answer.octets("blob", undefined, { maximum: MAX_BLOB });
}

/** Return the doors that the server has, with their versions. */
async function versions(account: Account): Promise<Map<string, number>> {
  return new Map((await listed(account)).map((row) => [row.text("kind"), row.number("version")]));
}

async function listed(account: Account): Promise<Answer[]> {
  return (await account.api.get("vault/doors")).many("doors", { maximum: 16 });
}

// After a restored backup

/**
 * Give a server that was put back the doors that it lacks, or has an older one of; returns which it was given.
 *
 * Those that this device set itself; and what their person removed is removed there. Of one that another device set, and
 * that is missing there or older than its setting, `listLost` says that it has to be set again. To be called as
 * `vault.giveBack`, after it, and again while something is lost.
 */
export async function giveBack(account: Account): Promise<DoorKind[]> {
  await vault.load(account);
  const { epoch } = account.state.vault, done: DoorKind[] = [];
  const stored = new Map((await listed(account)).map((row) => [row.text("kind"), row.time("stored_at")]));
  for (const kind of [PASSWORD, PHRASE, CONTACTS] as const) {
    const known = await markOf(account, kind), storedAt = stored.get(kind) ?? 0;
    await account.store.delete(LOST, utf8(kind));
    if (known.setAt === 0 || (known.epoch !== 0 && known.epoch !== epoch)) continue;
    const given = await givenOf(account, kind, known);
    if (known.epoch === 0) {
      if (storedAt > 0 && storedAt < known.setAt) {
        await deleteDoor(account, kind);
        done.push(kind);
      }
    } else if (given !== undefined) {
      if (storedAt === 0 || !equal(await fetchDoor(account, kind), given.blob)) {
        await putDoor(account, kind, given.blob);
        done.push(kind);
      }
    } else if (storedAt < known.setAt - SLACK_SECONDS) {
      await account.store.put(LOST, utf8(kind), new SecretBytes(encode(known.setAt)));
    }
  }
  return done;
}

/** Return the kinds of doors that the server has lost and nobody but the person can make again. */
export async function listLost(account: Account): Promise<DoorKind[]> {
  const found: DoorKind[] = [];
  for (const kind of KINDS)
    if ((await account.store.get(LOST, utf8(kind))) !== undefined)
      if ((await markOf(account, kind)).epoch === account.state.vault.epoch) found.push(kind);
  return found;
}

// What there is

/** What becomes of the account if every device is lost today, by the doors' state and this device's own memory. */
export interface IfAllIsLost {
  /** The kinds that bring back account, contacts and archive keys. */
  readonly doors: readonly DoorKind[];
  /** Generations that are in escrow. */
  readonly byOfficers: readonly number[];
  /** Generations to which then nothing leads. */
  readonly lost: readonly number[];
}

/** Say what comes back without any of the devices. found: what `status` returned. */
export function ifAllIsLost(account: Account, found: readonly Door[]): IfAllIsLost {
  // Another device is a door as well, and lost with the rest.
  const ways = found.filter((door) => door.isOpen && door.kind !== DEVICE).map((door) => door.kind);
  const kept = account.state.generations;
  return {
    doors: ways,
    byOfficers: kept.filter((one) => one.depositId.length > 0).map((one) => one.number),
    lost: ways.length > 0 ? [] : kept.filter((one) => one.depositId.length === 0).map((one) => one.number),
  };
}

/** Return every kind of door: open only if the server has it and it was set for the vault key of now. */
export async function status(account: Account): Promise<Door[]> {
  const state = await vault.chainOf(account);
  if (vault.holdsKey(account)) await vault.load(account);
  const { epoch } = account.state.vault, onServer = await versions(account), lost = await listLost(account);
  const found: Door[] = [];
  for (const kind of KINDS) {
    if (kind === DEVICE) {
      const isOpen = othersIn(account, state);
      const needs = isOpen ? "" : SETTING[kind];
      found.push({ kind, isOpen, setAt: 0, epoch: isOpen ? epoch : 0, needs, language: "" });
      continue;
    }
    const known = await markOf(account, kind);
    const isOpen = onServer.has(kind) && known.epoch === epoch && epoch > 0 && !lost.includes(kind);
    const needs = isOpen ? (kind === PHRASE ? waits(state, known) : "") : SETTING[kind];
    found.push({ kind, isOpen, setAt: known.setAt, epoch: known.epoch, needs, language: known.language });
  }
  return found;
}

/** Whether the chain lists another device than this one. */
function othersIn(account: Account, state: ChainState): boolean {
  return [...state.devices.keys()].some((device) => device !== hex(account.device.id));
}

/** Say what a phrase still lacks to sign for the account; it opens the vault already. */
function waits(state: ChainState, known: Mark): string {
  if (state.recoveryKey !== undefined && equal(state.recoveryKey.encoded, known.recoveryKey)) return "";
  if (state.announced !== undefined && equal(state.announced.key.encoded, known.recoveryKey))
    return "It opens your vault; it signs for your account after a week: client.maintain() then completes it.";
  return SETTING.phrase;
}

/** Return the kinds of doors that were open and closed when the vault key changed: they need the person. */
export async function listClosed(account: Account): Promise<DoorKind[]> {
  const { epoch } = account.state.vault, found: DoorKind[] = [];
  for (const kind of KINDS) {
    const known = await markOf(account, kind);
    if (known.epoch > 0 && known.epoch < epoch) found.push(kind);
  }
  return found;
}

/**
 * Take a door off the server. Rejects with NotPossible for the device door, which devices are.
 *
 * Whoever copied the door before, and has its secret, opens the vault key of that time: only a new vault key
 * (`client.rotate`) makes an end of that. The phrase keeps signing for the account until another replaces it.
 */
export async function remove(account: Account, kind: string): Promise<void> {
  if (kind !== PASSWORD && kind !== PHRASE && kind !== CONTACTS)
    throw new NotPossible("A device is taken out by revoking it.", {
      wayOut: "See: client.rotate(undefined, { revoke: [device] })",
    });
  await deleteDoor(account, kind);
  await account.store.transaction(async () => {
    await mark(account, kind, { epoch: 0 });
    if (kind !== CONTACTS) return;
    // Written over, not deleted: another device's row would bring it back.
    const stamp = await vaultContents.nextStamp(account, vaultContents.TRUSTED_SET, EMPTY);
    await account.store.put(vaultContents.TRUSTED_SET, EMPTY, new SecretBytes(encode([stamp, EMPTY, 0])));
  });
  await vault.save(account);
}

async function deleteDoor(account: Account, kind: DoorKind): Promise<void> {
  await vault.unless404(account.api.delete(`vault/doors/${kind}`));
}

// The password

/**
 * Make the password door for the vault key of now, and the vault if there is none.
 *
 * password: at least 14 characters. One that was made for the person (`generatePassword`) was shown to them before: once
 * it counts, no earlier one does. Rejects with WrongInput for a shorter one.
 */
export async function setPassword(
  account: Account,
  password: string,
  { cost = DEFAULT_COST }: { cost?: Argon2Cost } = {},
): Promise<void> {
  const owner = await ownerWithVault(account);
  const blob = await orWrongInput(
    passwordDoor.sealPasswordDoor(account.state.vault.key, password, owner, cost),
    (why) => `This password cannot be used: ${why}.`,
    "Choose a longer one, or have one generated.",
  );
  await putDoor(account, PASSWORD, blob);
  await mark(account, PASSWORD, { epoch: owner.epoch, blob });
  await vault.save(account);
}

/** Return what was made of a secret that a person chose. Rejects with WrongInput where it can be none. */
export async function orWrongInput<T>(made: Promise<T>, say: (why: string) => string, wayOut: string): Promise<T> {
  try {
    return await made;
  } catch (error) {
    if (error instanceof Unusable) throw new WrongInput(say(error.message), { wayOut });
    throw error;
  }
}

/**
 * Bring the keyring to this device by the password door.
 *
 * Rejects with WrongPassword; NoVault; TrustRefused for a door that is not to be used, and for a vault as `openFound` does.
 */
export async function openWithPassword(account: Account, { password }: { password: string }): Promise<OpenedVault> {
  const found = await vault.find(account), blob = await fetchDoor(account, PASSWORD);
  requireEpoch(blob, found, "password");
  let key: SecretBytes;
  try {
    key = await passwordDoor.openPasswordDoor(blob, password, ownerOf(account, found.header.epoch));
  } catch (error) {
    if (error instanceof UnwrapFailed)
      throw new WrongPassword("The password does not open your vault.", {
        wayOut: "Try again, or recover the account another way.",
      });
    // Above all Argon2 parameters outside the bounds: the server stores them.
    throw refused(error);
  }
  return vault.openFound(account, found, key);
}

/** Return what a door that does not open, but for a wrong secret, is to its person. */
function refused(error: unknown): unknown {
  if (error instanceof Unusable) return noSecret(error);
  return error instanceof HoldfastError ? notToBeUsed(error) : error;
}

// The phrase

/** First act: make a phrase, to be shown to the person once. Nothing is kept or sent; `confirmPhrase` does that. */
export async function newPhrase(account: Account, { language = "english" }: { language?: Language } = {}): Promise<Phrase> {
  await vault.chainOf(account);
  return Phrase.generate(language);
}

/** Return positions of a phrase (1..24, ascending) to ask the person back, at random: four of them. */
export function questions(): number[] {
  const found = new Set<number>();
  while (found.size < QUESTIONS) {
    const octet = randomBytes(1)[0] as number;
    // 240 is ten times 24: what lies above would make some positions likelier.
    if (octet < 10 * WORDS) found.add((octet % WORDS) + 1);
  }
  return [...found].sort((one, other) => one - other);
}

/** What goes with a phrase that is to count. */
export interface PhraseOptions {
  /** A second secret beside the words. */
  readonly passphrase?: string | undefined;
  /** The phrase so far, if they still have it, and its passphrase. */
  readonly old?: Phrase | undefined;
  readonly oldPassphrase?: string | undefined;
}

/**
 * Second act, which alone makes the phrase count: answers checked, door made, recovery key in the account chain.
 *
 * answers: what the person wrote down, by position, four or more. With the phrase so far the new recovery key counts at
 * once; without, it is announced and counts after a week in which any of their devices can cancel it. Rejects with
 * WrongWords for a wrong answer, and then nothing was done.
 */
export async function confirmPhrase(
  account: Account,
  phrase: Phrase,
  answers: ReadonlyMap<number, string>,
  { passphrase, old, oldPassphrase }: PhraseOptions = {},
): Promise<Door> {
  await requireAnswers(phrase, answers);
  const owner = await ownerWithVault(account), { language } = phrase;
  const blob = await orWrongInput(
    phraseDoor.sealPhraseDoor(account.state.vault.key, phrase, owner, { passphrase }),
    (why) => `This passphrase cannot be used: ${why}.`,
    "Choose another, or none.",
  );
  const made = await recoveryKey(account, phrase, passphrase);
  const before = old === undefined ? undefined : await keyOfOld(account, old, oldPassphrase);
  await putDoor(account, PHRASE, blob);
  await mark(account, PHRASE, { epoch: owner.epoch, blob, language, recoveryKey: made.public.encoded });
  await setRecoveryKey(account, made, before);
  await vault.save(account);
  return (await status(account)).find((door) => door.kind === PHRASE) as Door;
}

/** Throw WrongWords unless four words or more of a phrase were given back, by position. */
export async function requireAnswers(phrase: Phrase, answers: ReadonlyMap<number, string>): Promise<void> {
  if (answers.size < QUESTIONS) throw new WrongInput(`Ask for ${QUESTIONS} words of the phrase at least.`);
  try {
    await phrase.confirm(answers);
  } catch (error) {
    if (!(error instanceof NotConfirmed)) throw error;
    throw new WrongWords(`Not the words of this phrase: ${error.positions.join(", ")}. Nothing was set.`, {
      wayOut: "Compare what you wrote down with the words shown, and answer again.",
    });
  }
}

/** Return the signing key that a phrase holds for this account. */
export async function recoveryKey(account: Account, phrase: Phrase, passphrase?: string): Promise<SigningKey> {
  return phraseDoor.recoveryKey(phrase, { ...holderOf(account), passphrase });
}

function holderOf(account: Account) {
  return { tenant: account.tenant, user: account.user, kind: signingKind(account.deviceStatement.suite) };
}

/** Return the key of a phrase that signs for this account, in any spelling of the passphrase; undefined for none. */
export async function keyInForce(
  account: Account,
  phrase: Phrase,
  passphrase?: string,
): Promise<SigningKey | undefined> {
  const state = await vault.chainOf(account);
  for await (const key of phraseDoor.recoveryKeys(phrase, { ...holderOf(account), passphrase }))
    if (state.recoveryKey !== undefined && key.public.equals(state.recoveryKey)) return key;
  return undefined;
}

async function keyOfOld(account: Account, old: Phrase, passphrase: string | undefined): Promise<SigningKey> {
  const found = await keyInForce(account, old, passphrase);
  if (found === undefined)
    throw new WrongPhrase("The old phrase is not the one that signs for your account. Nothing was set.", {
      wayOut: "Try it again, or leave it out: the new phrase then signs after a week.",
    });
  return found;
}

async function setRecoveryKey(account: Account, made: SigningKey, before: SigningKey | undefined): Promise<void> {
  await chains.append(account, async (state): Promise<Entry[]> => {
    if ([state.recoveryKey, state.announced?.key].some((key) => key?.equals(made.public) === true)) return [];
    const old = state.recoveryKey === undefined || before === undefined ? {} : { old: before };
    const by = await account.author(state);
    return [await chainAuthor.setRecoveryKey(state, { by, recoveryKey: made.public, ...old })];
  });
}

/**
 * Make an announced recovery key count once its week is over; true when it does from now on.
 *
 * Only the one that a device of the person noted beside their phrase door: a key that somebody else announced waits for
 * them to look at it.
 */
export async function completeRecoveryKey(account: Account): Promise<boolean> {
  const known = (await markOf(account, PHRASE)).recoveryKey;
  let isDone = false;
  await chains.append(account, async (state): Promise<Entry[]> => {
    const waiting = state.announced, by = await account.author(state);
    if (waiting === undefined || !equal(waiting.key.encoded, known) || by.issuedAt < dueAtOf(waiting)) return [];
    isDone = true;
    return [await chainAuthor.setRecoveryKey(state, { by, recoveryKey: waiting.key })];
  });
  return isDone;
}

/**
 * Cancel a recovery key that is announced and does not count yet; false when none is.
 *
 * For whoever finds one that they did not announce: a thief of a device may have.
 */
export async function cancelRecoveryKey(account: Account): Promise<boolean> {
  let isCancelled = false;
  await chains.append(account, async (state): Promise<Entry[]> => {
    if (state.announced === undefined || state.recoveryKey === undefined) return [];
    isCancelled = true;
    const by = await account.author(state);
    return [await chainAuthor.setRecoveryKey(state, { by, recoveryKey: state.recoveryKey })];
  });
  return isCancelled;
}

/**
 * Bring the keyring to this device by the phrase door.
 *
 * Rejects with WrongPhrase; NoVault; WrongInput where the door asks for a passphrase and none was given; TrustRefused as
 * `openWithPassword` does.
 */
export async function openWithPhrase(
  account: Account,
  phrase: Phrase,
  { passphrase }: { passphrase?: string | undefined } = {},
): Promise<OpenedVault> {
  const found = await vault.find(account), blob = await fetchDoor(account, PHRASE);
  requireEpoch(blob, found, "phrase");
  let key: SecretBytes;
  try {
    if (phraseDoor.readPhraseDoor(blob).hasPassphrase && passphrase === undefined)
      throw new WrongInput("This phrase has a passphrase beside it.", { wayOut: "Give it too: { passphrase }" });
    key = await phraseDoor.openPhraseDoor(blob, phrase, ownerOf(account, found.header.epoch), passphrase);
  } catch (error) {
    if (error instanceof UnwrapFailed)
      throw new WrongPhrase("The phrase does not open your vault.", {
        wayOut: "It is another phrase, or another account's: compare the paper it is on.",
      });
    throw refused(error);
  }
  return vault.openFound(account, found, key);
}

/** Return whose door of the vault it is, for a key of this epoch. */
export function ownerOf(account: Account, epoch: number): DoorOwner {
  return { tenant: account.tenant, user: account.user, epoch, section: "vault" };
}

/** Return whose door is to be made, with the vault on the server that it opens. */
export async function ownerWithVault(account: Account): Promise<DoorOwner> {
  if (vault.holdsKey(account)) await vault.load(account);
  else await vault.save(account);
  return ownerOf(account, account.state.vault.epoch);
}

/** Say of a door that it is closed, by what it says of itself: a better word than that the secret is wrong. */
function requireEpoch(blob: Bytes, found: Found, name: string): void {
  let epoch: unknown;
  try {
    const stated = decode(blob);
    epoch = stated instanceof Map ? stated.get(6) : undefined;
    if (typeof epoch !== "number") throw new Malformed("door: names no vault key");
  } catch (error) {
    throw error instanceof HoldfastError ? notToBeUsed(error) : error;
  }
  if (epoch !== found.header.epoch)
    throw new NotPossible(
      `The ${name} door is closed: it was set for another vault key than the vault has now.`,
      { wayOut: "Use another door, or another device of yours; then set this one anew." },
    );
}

/** Return the refusal of what was typed or read as a secret and can be none. */
export function noSecret(error: Unusable): WrongSecret {
  return new WrongSecret(`What was given is no password or passphrase: ${error.message}.`, {
    wayOut: "Give it once more.",
  });
}

function notToBeUsed(error: HoldfastError): TrustRefused {
  return new TrustRefused(`The vault's door is not to be used: ${error.message}.`, {
    wayOut: "Do not try again with other secrets; show this to your officers, and use another door.",
    cause: error,
  });
}
