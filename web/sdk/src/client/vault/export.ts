// SPDX-License-Identifier: Apache-2.0
/**
 * The export file: everything the vault holds, in one file behind a password of its own, for a drawer or a safe.
 *
 * docs/formats/export.md. Does not keep files, and finishes no recovery: `openFile` brings the keyring back, and the rooms
 * above do the rest.
 */
import type { Bytes } from "../../core/base/bytes.js";
import { equal } from "../../core/base/bytes.js";
import { HoldfastError, InvalidSignature, Malformed, Unusable, UnwrapFailed } from "../../core/base/errors.js";
import type { SecretBytes } from "../../core/base/secret.js";
import type { PublicKey } from "../../core/crypto/public_keys.js";
import { type Argon2Cost, DEFAULT_COST } from "../../core/crypto/stretching.js";
import { ExportFile } from "../../core/vault/export_file.js";
import { openPasswordDoor, sealPasswordDoor } from "../../core/vault/password_door.js";
import { NotPossible, TrustRefused, WrongInput } from "../errors.js";
import type { Account } from "../profile/account.js";
import { noVaultKey } from "../profile/state.js";
import * as doors from "./doors.js";
import * as vault from "./vault.js";
import type { OpenedVault } from "./vault.js";
import * as vaultContents from "./vault_contents.js";

const CHANGED = "Somebody changed the file: use another copy.";

/**
 * Return the file of the keyring as this device has it, behind a password of at least 14 characters.
 *
 * Whoever has the file and its password opens this account's vault until the vault key changes, and reads the archive of
 * this day for ever: deleting the copy that one knows of deletes no other. Rejects with WrongInput for a shorter password.
 */
export async function write(
  account: Account,
  { password, cost = DEFAULT_COST }: { password: string; cost?: Argon2Cost },
): Promise<Bytes> {
  const owner = await doors.ownerWithVault(account), kept = account.state.vault;
  const [sync, blob] = await vault.seal(account, await vaultContents.of(account), kept);
  const door = await doors.orWrongInput(
    sealPasswordDoor(kept.key, password, owner, cost),
    (why) => `This password cannot be used: ${why}.`,
    "Choose a longer one.",
  );
  const by = { header: account.header(), key: await account.signingKey() };
  return (await ExportFile.make({ vault: blob, sync, door }, by)).encode();
}

/** How an export file is opened. */
export interface OpenOptions {
  readonly password: string;
  /** The person's word that a vault under another key, which lies on the server, may be written over. */
  readonly withoutVault?: boolean;
}

/** What an export file brought. */
export interface OpenedFile {
  readonly opened: OpenedVault;
  /** Whether the file itself was used, and not the vault on the server. */
  readonly isFile: boolean;
}

/**
 * Bring the keyring to this device by an export file.
 *
 * The vault on the server is newer and is taken wherever the file's key opens it. Where there is none, the file is taken;
 * where one lies there under another key, only if the person says so, because it will be written over. Rejects with
 * WrongPassword; WrongInput for what is no export file or another person's; NotPossible where the person has to say so;
 * TrustRefused for one made under an identity key that the account has left.
 */
export async function openFile(
  account: Account,
  data: Uint8Array,
  { password, withoutVault = false }: OpenOptions,
): Promise<OpenedFile> {
  const file = fileIn(data), { header } = file;
  if (!equal(header.tenant, account.tenant) || !equal(header.user, account.user))
    throw new WrongInput("The export file is of another person or another tenant.", {
      wayOut: "Use the file of this account.",
    });
  const key = await keyOf(file, password);
  const state = await vault.chainOf(account), found = await vault.fetchVerified(account, state);
  if (found !== undefined && found.header.epoch === header.epoch)
    return { opened: await vault.openFound(account, found, key), isFile: false };
  if (found !== undefined && !withoutVault)
    throw new NotPossible("The vault on the server has another key than the one in this file.", {
      wayOut:
        "Another door may open it: client.recover. To go on with what is in the file, and write over that vault: " +
        "client.recover.byExport(data, password, { withoutVault: true })",
    });
  const signer = await signerOf(file, [state.aik, ...state.formerAiks]);
  const opened = await vault.openFound(account, { header, blob: file.vault, signer }, key);
  // The key of the file is no longer one to write under: a vault of a new epoch follows.
  account.state.vault = noVaultKey();
  await account.save();
  return { opened, isFile: true };
}

function fileIn(data: Uint8Array): ExportFile {
  try {
    return ExportFile.parse(data);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new WrongInput(`This is not an export file of Holdfast: ${error.message}.`, {
      wayOut: "Look for another file.",
    });
  }
}

async function keyOf(file: ExportFile, password: string): Promise<SecretBytes> {
  try {
    return await openPasswordDoor(file.door, password, file.owner);
  } catch (error) {
    if (error instanceof UnwrapFailed)
      throw new doors.WrongPassword("The password does not open this file.", {
        wayOut: "It is the file's own, not your vault's: try again.",
      });
    if (error instanceof Unusable) throw doors.noSecret(error);
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The file's door is not to be used: ${error.message}.`, { wayOut: CHANGED, cause: error });
  }
}

/** Return the identity key of the account that vouched for the file's vault. */
async function signerOf(file: ExportFile, keys: readonly PublicKey[]): Promise<PublicKey> {
  for (const aik of keys)
    try {
      await file.verify({ aik });
      return aik;
    } catch (error) {
      if (error instanceof InvalidSignature) continue;
      if (!(error instanceof HoldfastError)) throw error;
      throw new TrustRefused(`The export file is not to be trusted: ${error.message}.`, { wayOut: CHANGED, cause: error });
    }
  throw new TrustRefused("No identity key of your account has signed this file.", {
    wayOut: "Somebody made or changed it: use another copy.",
  });
}
