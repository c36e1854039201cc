// SPDX-License-Identifier: Apache-2.0
/**
 * Devices of one person: enrolment by a code, the first one's genesis, approval of the next.
 *
 * docs/spec/protocol.md (keys, account chains) on the device. Does not publish pre-keys (`prekeys`), nor revoke
 * (`rotation`), nor bring keys from one device to another (`vault`).
 */
import { type Bytes, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { HoldfastError, Malformed } from "../../core/base/errors.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { fitted, saysNothing } from "../../core/base/text.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { areWords, eightWords } from "../../core/base/words.js";
import { AgreementKey, SigningKey } from "../../core/crypto/keys.js";
import { agreementKind, DEFAULT_SUITE, signingKind, type Suite } from "../../core/crypto/suites.js";
import { addDevice, type Author, genesis } from "../../core/identity/chain_author.js";
import { type ChainState, verifyChain } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { codeHash, codeText, type EnrolmentCode, newCode } from "../../core/signed/enrolment.js";
import { type Header, MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import {
  type DeviceStatement, deviceFromPayload, deviceToPayload, MAX_NAME, openDevice,
} from "../../core/signed/statements.js";
import { Problem, TrustRefused, WrongInput, WrongWords } from "../errors.js";
import type { Account } from "../profile/account.js";
import { type Device, noTrust } from "../profile/state.js";
import type { Answer } from "../server/answers.js";
import * as chains from "./chains.js";
import { pinRoot, refresh as refreshTenant, type TrustChange } from "./tenant.js";

/** How an enrolment ended. */
export interface Enrolment {
  /** A UUID's text. */
  readonly device: string;
  /** False while another device, or a recovery, has to vouch for this one. */
  readonly isActive: boolean;
  readonly trust: TrustChange;
  /** The 8 words of the device's statement. */
  readonly words: readonly string[];
}

/** One of the person's devices as the server lists it, and what the verified chain says of it. */
export interface ListedDevice {
  /** A UUID's text. */
  readonly device: string;
  readonly name: string;
  readonly state: string;
  readonly isInChain: boolean;
  readonly isThis: boolean;
  readonly words: readonly string[];
  /** The device (a UUID's text) that wrote it into the chain, by its own word; itself for the first. */
  readonly approvedBy: string | undefined;
  /** UTC seconds, 0 for a device that was never in the chain. */
  readonly addedAt: number;
}

/** Return the 8 words by which two people, or one person with two screens, compare a device statement. */
export function deviceWords(statement: Sign1): string[] {
  return eightWords(statement.payloadHash);
}

/** How a device is to be enrolled. */
export interface EnrolOptions {
  /** Cut to what a statement has room for, as `deviceName` does. */
  readonly name: string;
  readonly suite?: Suite;
  readonly isDevelopment?: boolean;
}

/**
 * Make this device's keys, register them by a single-use code, and verify the tenant from the code's pin.
 *
 * A user without a chain begins one, with this device in it; otherwise the device stays pending. Resumable: the keys are
 * kept before they are sent, so a lost answer loses nothing; and what the server never registered is made anew for another
 * code, name or suite. Rejects with TrustRefused when server and pin disagree: the device is then registered and trusts
 * nobody.
 */
export async function enrol(
  account: Account,
  code: EnrolmentCode,
  { name, suite = DEFAULT_SUITE, isDevelopment = false }: EnrolOptions,
): Promise<Enrolment> {
  if (!equal(code.tenant, account.tenant) || !equal(code.person, account.user))
    throw new WrongInput("The enrolment code is for another person or another tenant than this profile.");
  const called = deviceName(name), of = { suite, name: called, enrolmentHash: codeHash(code) };
  if (await wasNeverRegistered(account, of)) {
    // What an earlier code pinned was never held to anything; nothing follows from it.
    account.state.device = undefined;
    account.state.trust = noTrust();
  }
  pinRoot(account, { pin: code.rootPin, isDevelopment, root: code.foundingRoot });
  if (account.state.device === undefined) {
    account.state.device = await makeDevice(account, of);
    if (code.logVkey !== "") account.state.trust.logKeys = [code.logVkey];
    await account.save();
  }
  try {
    await register(account, code);
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "expired" || !isOfTheFuture(account)) throw error;
    // Made before this machine's clock was set right: the server would refuse it until then, and the code is good.
    account.state.device = await makeDevice(account, of);
    await account.save();
    await account.signAsDevice();
    await register(account, code);
  }
  const trust = await refreshTenant(account);
  if ((await chains.refresh(account)) === undefined) await beginChain(account);
  const { id, isActive, statement } = account.device;
  return { device: uuidText(id), isActive, trust, words: deviceWords(Sign1.parse(statement)) };
}

function isOfTheFuture(account: Account): boolean {
  return account.deviceStatement.header.issuedAt > account.api.clock.now() + MAX_AHEAD_SECONDS;
}

/** Return a name as a device statement takes it: at most 64 characters, cut where a character ends; never empty. */
export function deviceName(text: string): string {
  const name = fitted(text, MAX_NAME);
  return saysNothing(name) ? "this device" : name;
}

/** What a device is made for. */
interface MadeFor {
  readonly suite: Suite;
  readonly name: string;
  /** 32 bytes, of the code it enrols with; none for a device that follows another by rotation. */
  readonly enrolmentHash?: Bytes;
}

/**
 * Tell whether the device kept here was made for another code, name or suite, and the server never took it.
 *
 * Only of a profile without an account chain: with one, the device may be part of the account, and a server's word must not
 * end that.
 */
async function wasNeverRegistered(account: Account, of: Required<MadeFor>): Promise<boolean> {
  const kept = account.state.device;
  if (kept === undefined || account.state.chain.length > 0) return false;
  let said: DeviceStatement;
  try {
    said = deviceFromPayload(Sign1.parse(kept.statement).payload);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    // Made by an earlier program, which kept it before it had looked: no server takes it.
    return true;
  }
  if (equal(said.enrolmentHash, of.enrolmentHash) && said.name === of.name && said.suite === of.suite) return false;
  await account.signAsDevice();
  return !(await isRegistered(account));
}

/**
 * Make a device's keys and sign its statement with them; nothing is kept or sent.
 *
 * Rejects with a RangeError for a name that no reader would take.
 */
export async function makeDevice(account: Account, { suite, name, enrolmentHash = EMPTY }: MadeFor): Promise<Device> {
  const { SealingKey } = await import("../../core/crypto/sealing.js");
  const signing = await SigningKey.generate(signingKind(suite));
  const agreement = await AgreementKey.generate(agreementKind(suite)), sealing = await SealingKey.generate();
  const id = uuidBytes(crypto.randomUUID());
  const header: Header = {
    tenant: account.tenant,
    user: account.user,
    device: id,
    issuedAt: account.api.clock.earliest(),
    expiresAt: 0,
  };
  const payload = deviceToPayload({
    header,
    suite,
    signingKey: signing.public,
    agreementKey: agreement.public,
    sealingKey: sealing.public,
    person: account.user,
    name,
    enrolmentHash,
  });
  return {
    id,
    signingSeed: signing.seed(),
    agreementSeed: agreement.seed(),
    sealingSeed: sealing.seed(),
    statement: (await sign(payload, "device", signing)).encode(),
    isActive: false,
  };
}

/**
 * Return the seed of the identity key; the first time, make it and keep it before anybody hears of it.
 *
 * A second try after a lost answer announces the same key again.
 */
export async function ensureIdentitySeed(account: Account): Promise<SecretBytes> {
  if (account.state.identitySeed.length === 0) {
    account.state.identitySeed = (await SigningKey.generate(signingKind(account.suite))).seed();
    await account.save();
  }
  return account.state.identitySeed;
}

/** Post the device once. A code works once, so after a lost answer the device itself asks whether it is known. */
async function register(account: Account, code: EnrolmentCode): Promise<void> {
  const document = {
    tenant_id: uuidText(code.tenant),
    code_secret: b64u(code.secret.reveal()),
    device_statement: b64u(account.device.statement),
  };
  account.api.credential = undefined;
  let answer: Answer;
  try {
    answer = await account.api.post("devices", document);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await account.signAsDevice();
    if (!(await isRegistered(account))) throw error;
    return;
  }
  await account.signAsDevice();
  const isOurs =
    equal(answer.identifier("device_id"), account.device.id) && equal(answer.identifier("user_id"), account.user);
  if (!isOurs) throw new TrustRefused("The server registered this device under another name than its own.");
}

async function isRegistered(account: Account): Promise<boolean> {
  try {
    const answer = await account.api.get(`devices/${account.deviceText}`);
    return equal(answer.octets("device_statement"), account.device.statement);
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

/** Write genesis and `add device` in one upload: an account never exists without a device. */
async function beginChain(account: Account): Promise<ChainState> {
  await ensureIdentitySeed(account);
  const by = await account.author(), { tenant, user } = account;
  const first = await genesis({ tenant, user, by }), state = await verifyChain([first], { tenant, user });
  const { id, statement } = account.device;
  const second = await addDevice(state, { by, device: id, statementHash: Sign1.parse(statement).payloadHash });
  await chains.upload(account, [first, second], undefined);
  const accepted = await chains.refresh(account), hashes = [first.hash, second.hash];
  const isOurs =
    accepted?.hashes.length === 2 && accepted.hashes.every((hash, index) => equal(hash, hashes[index] as Bytes));
  if (!isOurs) throw new TrustRefused("The server shows another account chain than the one just begun.");
  return accepted;
}

/** Return the person's devices, each held against their verified chain. */
export async function listDevices(account: Account): Promise<ListedDevice[]> {
  const state = await chains.refresh(account), added = new Map<string, Header>();
  for (const { body, header } of account.state.chain.map((encoded) => Entry.parse(encoded)))
    if (body.type === 2) added.set(hex(body.device), header);
  const found: ListedDevice[] = [];
  for await (const row of account.api.pages("devices", "devices", "device_id")) {
    const id = row.identifier("device_id"), statement = await fetchStatement(account, id);
    const inChain = state?.devices.get(hex(id)), by = added.get(hex(id));
    found.push({
      device: uuidText(id),
      name: deviceFromPayload(statement.payload).name,
      state: row.text("state"),
      isInChain: inChain !== undefined && equal(inChain, statement.payloadHash),
      isThis: equal(id, account.device.id),
      words: deviceWords(statement),
      approvedBy: by && uuidText(by.device),
      addedAt: by?.issuedAt ?? 0,
    });
  }
  return found;
}

/**
 * Return one device's statement, checked to be that device's own. Rejects with TrustRefused.
 *
 * device: 16 bytes. That it belongs to a person, only that person's chain says.
 */
export async function fetchStatement(account: Account, device: Bytes): Promise<Sign1> {
  const answer = await account.api.get(`devices/${uuidText(device)}`);
  let statement: Sign1, read: DeviceStatement;
  try {
    statement = Sign1.parse(answer.octets("device_statement"));
    read = await openDevice(statement);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The device's statement is not to be trusted: ${error.message}.`, { cause: error });
  }
  if (!equal(read.header.tenant, account.tenant) || !equal(read.header.device, device))
    throw new TrustRefused("The server shows another device than the one asked for.");
  return statement;
}

/**
 * Write another device of the same person into their chain, after its 8 words were compared on both screens.
 *
 * device: a UUID's text. words: as read on the new device. Rejects with WrongWords when they are not those of the device
 * the server shows: that device is somebody else's.
 */
export async function approve(
  account: Account,
  device: string,
  { words }: { readonly words: readonly string[] },
): Promise<void> {
  const id = uuidBytes(device), statement = await fetchStatement(account, id);
  if (!areWords(deviceWords(statement), words))
    throw new WrongWords("These are not the words of the device that the server shows. Do not approve it.");
  if (!equal(deviceFromPayload(statement.payload).header.user, account.user))
    throw new TrustRefused("That device belongs to another person.");
  await chains.append(account, async (state) => {
    if (state.devices.has(hex(id))) return [];
    const by = await account.author(state);
    return [await addDevice(state, { by, device: id, statementHash: statement.payloadHash })];
  });
}

/** Return who writes at `state` under a new identity key that is not the account's yet; none begins it anew. */
export async function newIdentityAuthor(account: Account, seed: SecretBytes, state?: ChainState): Promise<Author> {
  return account.authorAs(await SigningKey.fromSeed(signingKind(account.suite), seed), state);
}

/** A code that the server knows the hash of. */
export interface IssuedCode {
  /** What its person enrols with, a secret. */
  readonly text: string;
  /** A UUID's text. */
  readonly codeId: string;
  /** Whether it works only once a second person has confirmed it, who is told its id. */
  readonly awaitsSecond: boolean;
}

/**
 * Issue an enrolment code for a person of this tenant (a UUID's text), carrying this client's own pin.
 *
 * The server gets the code's hash only. For owners and officers; others get a Problem. One for another owner or officer
 * takes a second person: `confirmCode`.
 */
export async function issueCode(account: Account, person: string): Promise<IssuedCode> {
  // The founding may be over by now, and then the code carries the pin.
  if (account.state.trust.foundingRoot !== undefined) await refreshTenant(account);
  const { trust } = account.state;
  const code = newCode({
    tenant: account.tenant,
    person: uuidBytes(person),
    // A policy that was signed and not yet published is nobody else's pin.
    rootPin: trust.isTofu || trust.foundingRoot !== undefined ? EMPTY : trust.pin,
    logVkey: trust.logKeys[0] ?? "",
    foundingRoot: trust.foundingRoot ?? EMPTY,
  });
  const document = { person_id: uuidText(code.person), code_hash: b64u(codeHash(code)) };
  const answer = await account.api.post("enrolment-codes", document);
  return {
    text: codeText(code),
    codeId: uuidText(answer.identifier("id")),
    awaitsSecond: answer.flag("awaits_second"),
  };
}

/**
 * Be the second behind a code that another issued for this very person, an owner or officer.
 *
 * Whoever confirms counts as its issuer too. Rejects with a Problem for the issuer, the person, and whoever is behind them.
 */
export async function confirmCode(account: Account, codeId: string, person: string): Promise<void> {
  const path = `enrolment-codes/${uuidText(uuidBytes(codeId))}/confirm`;
  await account.api.post(path, { person_id: uuidText(uuidBytes(person)) });
}
