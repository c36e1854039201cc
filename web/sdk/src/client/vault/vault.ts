// SPDX-License-Identifier: Apache-2.0
/**
 * The vault on the server: one keyring for all devices of a person, written by any of them, believed from them alone.
 *
 * docs/formats/doors.md ("Vault") and keyring.md. Does not open doors (`doors`, `pairing`, `trusted`): it is given the
 * vault key, and says whether the vault is theirs.
 */
import { type Bytes, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { b64u, MAX_BLOB, MAX_VAULT } from "../../core/base/encoding.js";
import { HoldfastError, InvalidSignature, UnwrapFailed } from "../../core/base/errors.js";
import { layout, openRow, sealRow, text, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { sha256 } from "../../core/crypto/hashing.js";
import type { PublicKey } from "../../core/crypto/public_keys.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { Sign1, sign } from "../../core/signed/cose.js";
import {
  deviceFromPayload, type Sync, syncFromPayload, SyncKind, syncToPayload,
} from "../../core/signed/statements.js";
import {
  newVaultKey, openVault, readHeader, sealVault, type Section, type VaultHeader,
} from "../../core/vault/blob.js";
import { NotPossible, Problem, ProfileError, RaceLost, TrustRefused, UpdateNeeded } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as devices from "../identity/device.js";
import type { Account } from "../profile/account.js";
import type { VaultKey } from "../profile/state.js";
import { Overtaken, retry, staleProblem } from "../waiting.js";
import * as vaultContents from "./vault_contents.js";
import type { Contents } from "./vault_contents.js";

const STALE = "vault-stale";
const SAVED = "vault-saved";

/** A vault that was opened and taken over. */
export interface OpenedVault {
  readonly version: number;
  readonly epoch: number;
  /** Archive generations that the account chain announces and the vault does not hold: it is older than the chain. */
  readonly missing: readonly number[];
  /** Contacts (16 bytes each) of whom the vault pins another history than this device; this device's own stays. */
  readonly forked: readonly Bytes[];
}

/** The vault as the server shows it, its statement verified. */
export interface Found {
  readonly header: VaultHeader;
  readonly blob: Bytes;
  /** The AIK of the account that signed it. */
  readonly signer: PublicKey;
}

/** Another device of the person changed the vault key; this one has to hear the new key from it. */
export class VaultKeyChanged extends ProfileError {
  override get name(): string {
    return "VaultKeyChanged";
  }
}

/** There is no vault on the server. */
export class NoVault extends NotPossible {
  override get name(): string {
    return "NoVault";
  }
}

/** Fetch the vault and verify whose it is. Rejects with NoVault, and TrustRefused as `fetchVerified` does. */
export async function find(account: Account): Promise<Found> {
  const found = await besideChain(account, (state) => fetchVerified(account, state));
  if (found === undefined)
    throw new NoVault("Your vault is not on the server.", {
      wayOut:
        "Your phrase signs for your account even without it: client.recover.byPhrase(words, { withoutVault: true }). " +
        "Your archive keys may be in escrow: ask your officers.",
    });
  return found;
}

/**
 * Return what `read` makes of something that is written beside the account chain, held to the newest chain.
 *
 * Another device of the person may write both between two requests of this one: what does not fit the chain that was read
 * before is held to the one that is read after, until that does not grow any more.
 */
export async function besideChain<T>(account: Account, read: (state: ChainState) => Promise<T>): Promise<T> {
  let state = await chainOf(account);
  const attempt = async (): Promise<T> => {
    try {
      return await read(state);
    } catch (error) {
      if (!(error instanceof TrustRefused)) throw error;
      const before = headOf(state);
      state = await chainOf(account);
      if (equal(headOf(state), before)) throw error;
      throw new Overtaken();
    }
  };
  return retry(attempt, { lost: new RaceLost("Another of your devices keeps writing to your account.") });
}

/** Where a section lies, what its statement calls it, and how long it may be. */
const SECTIONS: Readonly<Record<Section, { readonly path: string; readonly kind: SyncKind; readonly maximum: number }>> = {
  vault: { path: "vault", kind: SyncKind.VAULT, maximum: MAX_VAULT },
  officers: { path: "vault/officers", kind: SyncKind.OFFICERS, maximum: MAX_BLOB },
};

/**
 * Fetch the vault and verify whose it is; undefined when the server has none.
 *
 * Rejects with TrustRefused for a vault that no identity key of the account has signed, of another person, or older than
 * one this device has seen.
 */
export async function fetchVerified(account: Account, state: ChainState): Promise<Found | undefined> {
  return fetchSection(account, state, "vault", { seen: account.state.vault });
}

/** Epoch and version, below which no vault is taken. */
export interface Seen {
  readonly epoch: number;
  readonly version: number;
}

/**
 * Fetch one section of the vault and verify whose it is; undefined when the server has none.
 *
 * Rejects with TrustRefused as `fetchVerified` does, and for another section than the one asked for.
 */
export async function fetchSection(
  account: Account,
  state: ChainState,
  section: Section,
  { seen }: { readonly seen: Seen },
): Promise<Found | undefined> {
  const { path, kind, maximum } = SECTIONS[section], answer = await unless404(account.api.get(path));
  if (answer === undefined) return undefined;
  const blob = answer.octets("blob", undefined, { maximum });
  let signer: PublicKey, sync: Sync, header: VaultHeader;
  try {
    const signed = Sign1.parse(answer.octets("statement"));
    signer = await signerOf(signed, state);
    sync = syncFromPayload(signed.payload);
    header = readHeader(blob, section);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw distrust(`The vault is not to be trusted: ${error.message}.`, error);
  }
  const isNamed =
    equal(sync.header.tenant, account.tenant) && equal(sync.header.user, account.user) && sync.kind === kind &&
    equal(sync.blobHash, sha256(blob)) && sync.version === header.version;
  if (!isNamed) throw distrust("The vault is not the one that its statement names.");
  if (!equal(header.tenant, account.tenant) || !equal(header.user, account.user))
    throw distrust("The server shows the vault of another person.");
  // By epoch first: a vault begun anew after the server lost the old one counts its versions from one again.
  if (isBefore(header, seen)) throw distrust("The server shows an older vault than it has shown before.");
  return { header, blob, signer };
}

/** Tell whether one state of a vault is older than another: by epoch, then by version. */
export function isBefore(one: Seen, other: Seen): boolean {
  return one.epoch < other.epoch || (one.epoch === other.epoch && one.version < other.version);
}

/** Return what was asked for, or undefined where the server has no such thing. */
export async function unless404<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return undefined;
    throw error;
  }
}

/** Return what opens, or undefined where this key or context does not open it. */
export async function unlessShut<T>(opening: Promise<T>): Promise<T | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof UnwrapFailed) return undefined;
    throw error;
  }
}

/** Verify the signature under the AIK in force, else under those before it. Rejects with InvalidSignature for others. */
async function signerOf(signed: Sign1, state: ChainState): Promise<PublicKey> {
  for (const key of [state.aik, ...[...state.formerAiks].reverse()])
    if (equal(signed.kid, key.kid)) {
      await signed.verify(key, "sync");
      return key;
    }
  throw new InvalidSignature("it is not signed by a key of this account");
}

function distrust(message: string, cause?: unknown): TrustRefused {
  return new TrustRefused(message, {
    wayOut: "Change nothing. Show this to your officers; another door may be honest.",
    cause,
  });
}

/**
 * Bring a vault to this device under the key that a door of its epoch gave; returns what was in it.
 *
 * Rejects with TrustRefused, and nothing changed, for a key that does not open it, and for a vault with another identity
 * key than the account chain names.
 */
export async function openFound(account: Account, found: Found, key: SecretBytes): Promise<OpenedVault> {
  const state = await chainOf(account);
  if (![state.aik, ...state.formerAiks.slice(-1)].some((one) => one.equals(found.signer)))
    throw distrust("The vault was written under an identity key that your account has long left.");
  const contents = await openContents(found, key);
  // One signed by the key before the newest is refused here unless it holds the newest: see `isBelieved`.
  const forked = await vaultContents.take(account, contents, state), { epoch, version } = found.header;
  account.state.vault = { epoch, key, version };
  await account.save();
  return { version, epoch, missing: vaultContents.missing(account, state), forked };
}

async function openContents(found: Found, key: SecretBytes): Promise<Contents> {
  let opened: SecretBytes;
  try {
    opened = await openVault(found.blob, key, found.header);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The vault does not open as yours: ${error.message}.`, {
      wayOut: "Try another door: client.backup.status() lists them.",
      cause: error,
    });
  }
  try {
    return vaultContents.contentsFromSecret(opened);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    // Whoever sealed it holds the vault's key: a device of the person's own.
    throw new UpdateNeeded("your vault, on another device of yours", { cause: error });
  }
}

/** Tell whether this device holds the vault's key. */
export function holdsKey(account: Account): boolean {
  return account.state.vault.key.length > 0;
}

/**
 * Merge what other devices wrote into the vault since; undefined before its first version.
 *
 * For a device that holds the vault key. Rejects with VaultKeyChanged when the key is another one now, and TrustRefused as
 * `openFound` does, or when the server no longer has a vault that it had.
 */
export async function load(account: Account): Promise<OpenedVault | undefined> {
  const kept = account.state.vault;
  if (!holdsKey(account))
    throw new ProfileError("This device does not hold your vault's key.", { wayOut: "See: client.recover" });
  return merge(account, kept.key, kept.epoch);
}

/**
 * Write the keyring once more where a server that was put back has an older one than this device has seen, or none.
 *
 * Returns its version, or undefined where nothing is missing. What lies there under the same key is merged first, as ever.
 * Rejects as `load` does. To be called while officers' acceptance of a backup heals (`restored.isHealing`): at any other
 * time an older vault is a lie.
 */
export async function giveBack(account: Account): Promise<number | undefined> {
  const attempt = async (): Promise<number | undefined> => {
    const kept = account.state.vault, none = { epoch: 0, version: 0 };
    const found = await besideChain(account, (state) => fetchSection(account, state, "vault", { seen: none }));
    const there = found?.header ?? none;
    if (!isBefore(there, kept)) return undefined;
    await requireIdentity(account);
    if (found !== undefined && found.header.epoch === kept.epoch)
      await takeFound(account, await chainOf(account), found, kept.key);
    return put(account, await vaultContents.of(account), { epoch: kept.epoch, key: kept.key, version: there.version });
  };
  return holdsKey(account) ? retry(attempt, { stale: STALE, lost: lost() }) : undefined;
}

async function merge(account: Account, key: SecretBytes, epoch: number): Promise<OpenedVault | undefined> {
  return besideChain(account, (state) => merged(account, state, key, epoch));
}

async function merged(
  account: Account,
  state: ChainState,
  key: SecretBytes,
  epoch: number,
): Promise<OpenedVault | undefined> {
  const found = await fetchVerified(account, state), had = account.state.vault.version;
  if (found === undefined) {
    if (had === 0) return undefined;
    throw new TrustRefused(`The server has lost your vault, which it had at version ${had}.`, {
      wayOut:
        "Tell your operator. This device still holds everything in it; to write it again, under a new key: " +
        'client.rotate(["vault"])',
    });
  }
  if (found.header.epoch !== epoch) throw keyChanged();
  const forked = await takeFound(account, state, found, key), { version } = found.header;
  account.state.vault.version = version;
  await account.save();
  return { version, epoch, missing: vaultContents.missing(account, state), forked };
}

/** Merge what a vault holds, as far as its signer is believed; returns the contacts about whom both differ. */
async function takeFound(account: Account, state: ChainState, found: Found, key: SecretBytes): Promise<Bytes[]> {
  const contents = await openContents(found, key);
  if (await isBelieved(account, found, contents, state)) return vaultContents.take(account, contents, state);
  // Whoever lost the old identity key can still have written this: archive keys prove themselves, pins do not.
  await vaultContents.takeArchiveKeys(account, contents, state);
  return [];
}

/**
 * Whether a vault counts in all it says: signed by the AIK in force, or by the one before it and with its seed.
 *
 * A rotation begins by writing the next seed into the vault; who lost the old key does not know the new one.
 */
async function isBelieved(account: Account, found: Found, contents: Contents, state: ChainState): Promise<boolean> {
  if (found.signer.equals(state.aik)) return true;
  const isFormer = state.formerAiks.slice(-1).some((one) => one.equals(found.signer));
  return isFormer && (await vaultContents.findIdentity(contents, account, state)) !== undefined;
}

function keyChanged(): VaultKeyChanged {
  return new VaultKeyChanged("Another device of yours changed the key of your vault.", {
    wayOut: "Call client.maintain() here; if that does not help, let the other device do it first.",
  });
}

/**
 * Write the keyring to the server as a new version, and return it; the first time, under a new vault key.
 *
 * When another device wrote meanwhile, its vault is merged first and nothing of either is lost. nextIdentity: the seed to
 * which the AIK is about to be rotated, so that no moment exists in which neither vault nor chain knows it.
 */
export async function save(account: Account, of: { nextIdentity?: SecretBytes } = {}): Promise<number> {
  await noteDevices(account, await requireIdentity(account));
  if (!holdsKey(account)) await begin(account);
  let isFirst = true;
  const attempt = async (): Promise<number> => {
    if (!isFirst) await load(account);
    isFirst = false;
    return put(account, await vaultContents.of(account, of), account.state.vault);
  };
  return retry(attempt, { stale: STALE, lost: lost() });
}

function lost(): Problem {
  return staleProblem(STALE, "Another of your devices keeps writing to your vault.");
}

/** Write the keyring when it holds something that the vault does not; returns the new version, or undefined. */
export async function saveIfChanged(account: Account): Promise<number | undefined> {
  if (holdsKey(account)) {
    const saved = await account.store.get(SAVED, EMPTY);
    if (saved?.equals(digestOf(await vaultContents.of(account))) === true) return undefined;
  }
  return save(account);
}

/**
 * Change the vault key: merge what lies under the old one, and write all under the new; returns the version.
 *
 * Every door but those made anew for this epoch is closed by it. Idempotent: a second call with the same key and epoch
 * finds the work done. Rejects with VaultKeyChanged when another device began that epoch under another key. The old key's
 * bytes leave the profile as its rows do; in the page's memory copies may live until it closes, since an engine moves and
 * keeps what it likes; and what the server or its backups kept of the old vault stays readable to whoever has the old key.
 */
export async function beginEpoch(account: Account, { key, epoch }: { key: SecretBytes; epoch: number }): Promise<number> {
  await requireIdentity(account);
  const kept = account.state.vault, isHeld = holdsKey(account);
  if (kept.epoch >= epoch && isHeld) return save(account);
  const attempt = async (): Promise<number> => {
    const found = await besideChain(account, (state) => fetchVerified(account, state));
    if (found !== undefined && found.header.epoch === epoch) {
      await requireOwnEpoch(found, key);
      account.state.vault = { epoch, key, version: kept.version };
      return save(account);
    }
    if (found !== undefined && isHeld) await merge(account, kept.key, kept.epoch);
    return put(account, await vaultContents.of(account), { epoch, key, version: found?.header.version ?? 0 });
  };
  return retry(attempt, { stale: STALE, lost: lost() });
}

/** Refuse an epoch that another device of the person began first, under a key of its own. */
async function requireOwnEpoch(found: Found, key: SecretBytes): Promise<void> {
  try {
    await openVault(found.blob, key, found.header);
  } catch (error) {
    if (error instanceof HoldfastError) throw keyChanged();
    throw error;
  }
}

/**
 * Write a first vault of a new epoch over whatever lies on the server, unread; returns the version.
 *
 * For an account whose old vault cannot be opened any more: its archive keys come back from escrow or not at all.
 */
export async function beginAnew(account: Account): Promise<number> {
  await requireIdentity(account);
  const found = await unreadHeader(account);
  const epoch = Math.max(account.state.vault.epoch, found?.epoch ?? 0) + 1;
  account.state.vault = { epoch, key: newVaultKey(), version: found?.version ?? 0 };
  await account.save();
  return save(account);
}

async function begin(account: Account): Promise<void> {
  const state = await chainOf(account), found = await fetchVerified(account, state);
  if (found !== undefined && found.signer.equals(state.aik))
    throw new ProfileError("Your vault is on the server, and this device does not hold its key.", {
      wayOut: "Open it by one of its doors first: client.recover",
    });
  // After a re-genesis the vault of the account before still lies there: the new one follows it, under its own key.
  const { epoch, version } = found?.header ?? { epoch: 0, version: 0 };
  account.state.vault = { epoch: epoch + 1, key: newVaultKey(), version };
  await account.save();
}

/** Return what the stored vault says of itself, unauthenticated: enough to write the next version. */
async function unreadHeader(account: Account): Promise<VaultHeader | undefined> {
  const answer = await unless404(account.api.get("vault"));
  if (answer === undefined) return undefined;
  const blob = answer.octets("blob", undefined, { maximum: MAX_VAULT });
  try {
    return readHeader(blob);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw distrust(`The vault is not to be trusted: ${error.message}.`, error);
  }
}

/** Write one version under a vault key, and keep that key and version once the server has it. */
async function put(account: Account, contents: Contents, under: VaultKey): Promise<number> {
  const written = { epoch: under.epoch, key: under.key, version: under.version + 1 };
  const [signed, blob] = await seal(account, contents, written);
  const document = { statement: b64u(signed.encode()), blob: b64u(blob) };
  await account.api.put("vault", document, { ifMatch: `"${under.version}"` });
  await account.store.transaction(async () => {
    account.state.vault = written;
    await account.store.put(SAVED, EMPTY, digestOf(contents));
    await account.save();
  });
  return written.version;
}

/** Return a vault blob, and the statement by which the identity key of now vouches for it at that version. */
export async function seal(account: Account, contents: Contents, under: VaultKey): Promise<[signed: Sign1, blob: Bytes]> {
  const { tenant, user } = account, { epoch, version } = under;
  let blob: Bytes;
  try {
    const keyring = vaultContents.contentsToSecret(contents);
    blob = await sealVault(keyring, under.key, { tenant, user, epoch, version, section: "vault" });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new NotPossible("Your vault is full: it holds at most 1 MiB.", { wayOut: "Tell your operator." });
  }
  return [await signSection(account, "vault", blob, { version }), blob];
}

/** Sign, by the identity key, that a blob is this version of one section of the vault. */
export async function signSection(
  account: Account,
  section: Section,
  blob: Bytes,
  { version }: { readonly version: number },
): Promise<Sign1> {
  const { kind } = SECTIONS[section];
  const payload = syncToPayload({ header: account.header(), kind, blobHash: sha256(blob), version });
  return sign(payload, "sync", await account.identityKey());
}

function digestOf(contents: Contents): SecretBytes {
  return new SecretBytes(sha256(vaultContents.contentsToSecret(contents).reveal()));
}

/** A device's name, as its own statement gave it. notedAt: first, as in every row a vault carries. */
const KNOWN_DEVICE_ROW = layout<{ notedAt: number; name: string }>("known device", { notedAt: uint(), name: text() });

/** Return the names of the person's devices, by their ids in hex, as their own devices have noted them. */
export async function knownDevices(account: Account): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const key of await account.store.keys(vaultContents.KNOWN_DEVICE)) {
    const value = await account.store.get(vaultContents.KNOWN_DEVICE, key);
    if (value !== undefined) names.set(hex(key), openRow(KNOWN_DEVICE_ROW, value).name);
  }
  return names;
}

/** Note each device's name once, while its statement can be held to the chain: later the server could rename it. */
async function noteDevices(account: Account, state: ChainState): Promise<void> {
  const known = new Set((await account.store.keys(vaultContents.KNOWN_DEVICE)).map(hex));
  for (const [device, statementHash] of state.devices) {
    if (known.has(device)) continue;
    let statement: Sign1;
    try {
      statement = await devices.fetchStatement(account, unhex(device));
    } catch (error) {
      if (error instanceof Problem) continue; // a name can wait; what the vault is for cannot
      throw error;
    }
    if (!equal(statement.payloadHash, statementHash))
      throw distrust("The server shows another device than your account chain lists.");
    const noted = { notedAt: account.api.clock.earliest(), name: deviceFromPayload(statement.payload).name };
    await account.store.put(vaultContents.KNOWN_DEVICE, unhex(device), sealRow(KNOWN_DEVICE_ROW, noted));
  }
}

/** Refuse to write under an identity key that the chain no longer names: the server would, and say less. */
async function requireIdentity(account: Account): Promise<ChainState> {
  const state = await chainOf(account);
  if (!(await account.identityKey()).public.equals(state.aik))
    throw new ProfileError("Another device of yours changed your account's identity key.", {
      wayOut: "Call client.maintain(): the other device sends the new key to this one.",
    });
  return state;
}

/** Return the account chain, brought up to date. Rejects with ProfileError before its genesis. */
export async function chainOf(account: Account): Promise<ChainState> {
  const state = await chains.refresh(account);
  if (state === undefined)
    throw new ProfileError("This account has no chain yet.", { wayOut: "Enrol a first device: Client.enrol()." });
  return state;
}
