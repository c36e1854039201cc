// SPDX-License-Identifier: Apache-2.0
/**
 * Recovery by the user: through one of their doors to an account on a new device, and everything rotated after it.
 *
 * docs/spec/protocol.md section 6 and docs/spec/platform.md "Recovery by the user" in two acts: one of `by…`, then
 * `finish`. Does not go through officers; `by_case` does, when every door is lost.
 */
import { type Bytes, EMPTY, hex, unhex } from "../../core/base/bytes.js";
import { encode } from "../../core/base/encoding.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import type { SigningKey } from "../../core/crypto/keys.js";
import type { Phrase } from "../../core/crypto/phrase.js";
import { type ChainState, extend } from "../../core/identity/chain.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import { type Entry, Reason } from "../../core/identity/entries.js";
import { Sign1, type Signer } from "../../core/signed/cose.js";
import { NotPossible, RaceLost, WrongInput } from "../errors.js";
import * as chains from "../identity/chains.js";
import { identityWords } from "../identity/contacts.js";
import { ensureIdentitySeed, newIdentityAuthor } from "../identity/device.js";
import * as prekeys from "../messages/prekeys.js";
import type { Account } from "../profile/account.js";
import * as rotation from "../rotation/rotation.js";
import * as doors from "../vault/doors.js";
import type { Door } from "../vault/doors.js";
import * as exports from "../vault/export.js";
import * as pairing from "../vault/pairing.js";
import * as shareRequests from "../vault/share_requests.js";
import * as vault from "../vault/vault.js";
import type { OpenedVault } from "../vault/vault.js";
import * as vaultContents from "../vault/vault_contents.js";
import { waitFor } from "../waiting.js";

// [when, by which door]: a door was opened here, and `finish` has not come to its end.
const ROW = ["recovering", EMPTY] as const;
const IMPORT = "import";

/** A device that the account chain lists. */
export interface KnownDevice {
  /** A UUID's text. */
  readonly device: string;
  /** As the person's own devices noted it; "" when none did. */
  readonly name: string;
}

/** What a door opened. The device is not in the account yet; `finish` brings it in. */
export interface OpenedDoor {
  readonly kind: string;
  /** Undefined when the vault itself was lost. */
  readonly vault: OpenedVault | undefined;
  /** Of the account, for the person to say which are lost. */
  readonly devices: readonly KnownDevice[];
  /** Archive generations that did not come back; escrow may have them. */
  readonly missing: readonly number[];
  /** Contacts (16 bytes each) whose share was wrong. */
  readonly blamed: readonly Bytes[];
}

/** The account as it is after a recovery. */
export interface Recovered {
  /** Of the new identity key, for contacts who ask. */
  readonly words: readonly string[];
  /** Devices (UUIDs' texts). */
  readonly revoked: readonly string[];
  /** Doors that only the person can open again. */
  readonly needs: readonly Door[];
  /** As in `OpenedDoor`. */
  readonly missing: readonly number[];
}

/** How long to wait for others. */
export interface Waiting {
  readonly waitSeconds?: number;
}

/** Open the vault by its password. Rejects as `doors.openWithPassword` does. */
export async function byPassword(account: Account, password: string): Promise<OpenedDoor> {
  requireNew(account);
  return finishOpening(account, doors.PASSWORD, await doors.openWithPassword(account, { password }));
}

/** What goes with a phrase. */
export interface PhraseGiven {
  readonly passphrase?: string | undefined;
  /** The person's word that the vault is lost, so that its phrase signs for the account without it. */
  readonly withoutVault?: boolean;
}

/**
 * Open the vault by the recovery phrase; where it is lost, go on without it if the person says so.
 *
 * Without the vault, the phrase's own key signs a new identity key for the account. Nothing of the vault comes back by
 * that, and a later vault is written over it: archive keys then come from escrow or not at all. So a server that says the
 * vault is lost is not simply believed. Rejects with WrongPhrase; NoVault; TrustRefused as `doors` does.
 */
export async function byPhrase(
  account: Account,
  phrase: Phrase,
  { passphrase, withoutVault = false }: PhraseGiven = {},
): Promise<OpenedDoor> {
  requireNew(account);
  if (!withoutVault)
    return finishOpening(account, doors.PHRASE, await doors.openWithPhrase(account, phrase, { passphrase }));
  const key = await doors.keyInForce(account, phrase, passphrase);
  if (key === undefined)
    throw new doors.WrongPhrase("This phrase does not sign for your account.", {
      wayOut: "It was replaced, or is another account's. Officers can still help: client.cases.open()",
    });
  await takeOver(account, key);
  return finishOpening(account, doors.PHRASE, undefined);
}

/** Open the vault by the letter of another device, as `pairing.complete` does. */
export async function byDevice(account: Account, { waitSeconds = 0 }: Waiting = {}): Promise<OpenedDoor> {
  // Noted first: the letter is gone once it was read, and this device is in the account already.
  await note(account, doors.DEVICE);
  const joined = await pairing.complete(account, { waitSeconds });
  return finishOpening(account, doors.DEVICE, joined.opened);
}

/** Open the vault by the shares that contacts gave to this device's request. Rejects as `shareRequests.gather` does. */
export async function byContacts(account: Account, { waitSeconds = 0 }: Waiting = {}): Promise<OpenedDoor> {
  requireNew(account);
  const gathered = await waitFor(() => shareRequests.gather(account), waitSeconds);
  return { ...(await finishOpening(account, doors.CONTACTS, gathered.vault)), blamed: gathered.blamed };
}

/** Open the vault by an export file, as `openFile` of `vault/export` does. */
export async function byExport(account: Account, data: Uint8Array, given: exports.OpenOptions): Promise<OpenedDoor> {
  requireNew(account);
  const { opened } = await exports.openFile(account, data, given);
  return finishOpening(account, IMPORT, opened);
}

function requireNew(account: Account): void {
  if (account.device.isActive && account.state.identitySeed.length > 0)
    throw new NotPossible("This device holds your account already.", {
      wayOut: "Recover on the new device. See: client.devices.all()",
    });
}

function note(account: Account, kind: string): Promise<void> {
  return account.store.put(...ROW, new SecretBytes(encode([account.api.clock.now(), kind])));
}

async function finishOpening(account: Account, kind: string, opened: OpenedVault | undefined): Promise<OpenedDoor> {
  await note(account, kind);
  const missing = vaultContents.missing(account, await account.chain());
  return { kind, vault: opened, devices: await devices(account), missing, blamed: [] };
}

/** Return the other devices of the account, by the names that the vault brought along. */
export async function devices(account: Account): Promise<KnownDevice[]> {
  const names = await vault.knownDevices(account), own = hex(account.device.id);
  const others = [...(await account.chain()).devices.keys()].filter((device) => device !== own);
  return others.map((device) => ({ device: uuidText(unhex(device)), name: names.get(device) ?? "" }));
}

/** Whether a door was opened here and `finish` has not come to its end. */
export async function isUnfinished(account: Account): Promise<boolean> {
  if (account.state.identitySeed.length === 0) return false;
  if ((await account.chain()).revoked.has(hex(account.device.id))) return false;
  return !account.device.isActive || (await account.store.get(...ROW)) !== undefined;
}

/**
 * Bring this device into the account, and rotate all that whoever opened a door could have seen.
 *
 * lost: devices (UUIDs' texts) that are gone. Identity key, vault key, shares and archive generation are replaced, the
 * devices named as lost revoked, and peers told, whatever the reason was: the secret that opened the door has been typed,
 * spoken or carried about. The device's pre-keys are published. Resumable: called again, it goes on where it was. Rejects
 * with NotPossible before a door was opened, WrongInput for a lost device that is not the account's.
 */
export async function finish(
  account: Account,
  { lost = [] }: { readonly lost?: readonly string[] } = {},
): Promise<Recovered> {
  if (!(await isUnfinished(account)))
    throw new NotPossible("No door was opened on this device yet.", { wayOut: "See the doors there are: client.recover" });
  let state = await joinChain(account);
  // Before peers are told: until this device has published, nobody could begin a session with it.
  await prekeys.publish(account);
  const named = lost.map((device) => hex(uuidBytes(device)));
  requireRevocable(account, state, named);
  // Nothing that lies on the server opens any more: what this device has begins a vault of its own.
  if (account.state.vault.key.length === 0) await vault.beginAnew(account);
  const going = named.filter((device) => state.devices.has(device));
  const resumed = (await rotation.resume(account)).filter((done) => done.reason === Reason.RECOVERY);
  const left = await vault.chainOf(account);
  if (resumed.length === 0 || going.some((device) => left.devices.has(device))) {
    const revoke = going.map((device) => uuidText(unhex(device)));
    await rotation.rotate(account, rotation.EVERYTHING, { reason: Reason.RECOVERY, revoke });
  }
  await account.store.delete(...ROW);
  const byHand: readonly string[] = [doors.PASSWORD, doors.PHRASE];
  const needs = (await doors.status(account)).filter(
    (door) => door.needs !== "" && (door.setAt > 0 || byHand.includes(door.kind)),
  );
  state = await vault.chainOf(account);
  const revoked = named.map((device) => uuidText(unhex(device)));
  return { words: identityWords(state), revoked, needs, missing: vaultContents.missing(account, state) };
}

function requireRevocable(account: Account, state: ChainState, lost: readonly string[]): void {
  const own = hex(account.device.id);
  const wrong = lost.find((device) => device === own || !(state.devices.has(device) || state.revoked.has(device)));
  if (wrong !== undefined)
    throw new WrongInput(`${uuidText(unhex(wrong))} is not a device to revoke here.`, {
      wayOut: "Your account's devices: client.devices.all()",
    });
}

/** Append this device to the account chain, under the identity key that the door brought. */
function joinChain(account: Account): Promise<ChainState> {
  const { id, statement } = account.device, statementHash = Sign1.parse(statement).payloadHash;
  return chains.append(account, async (state): Promise<Entry[]> => {
    if (state.devices.has(hex(id))) return [];
    if (!(await account.identityKey()).public.equals(state.aik))
      throw new RaceLost("Your account's identity key was changed since the door was opened.", {
        wayOut: "Open the door again.",
      });
    return [await chainAuthor.addDevice(state, { by: await account.author(state), device: id, statementHash })];
  });
}

/** Have the phrase's key hand the account to a new identity key, with this device in it: one upload. */
async function takeOver(account: Account, recoveryKey: SigningKey): Promise<void> {
  const seed = await ensureIdentitySeed(account);
  const { id, statement } = account.device, statementHash = Sign1.parse(statement).payloadHash;
  await chains.append(account, async (state): Promise<Entry[]> => {
    const fresh = await newIdentityAuthor(account, seed, state), newAik: Signer = fresh.key;
    if (state.aik.equals(newAik.public)) return [];
    const by = account.authorAs(recoveryKey, state);
    const first = await chainAuthor.rotateKey(state, { by, newAik, reason: Reason.RECOVERY });
    const after = await extend(state, [first], { policies: await account.policies() });
    return [first, await chainAuthor.addDevice(after, { by: fresh, device: id, statementHash })];
  });
}
