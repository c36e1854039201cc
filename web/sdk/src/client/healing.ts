// SPDX-License-Identifier: Apache-2.0
/**
 * What a server that was put back from a backup has lost of this account, given back once for each acceptance.
 *
 * docs/formats/profile.md "After a restored backup" on a device. Only while m officers' acceptance of the backup heals
 * (`identity/restored`), and nothing but what this account gave the server before: whoever shows an older state without such
 * an acceptance is refused as ever, and with one gains what was theirs already. Entries of chains are given back where chains
 * are read (`identity/lost_chains`).
 */
import { concat, equal, utf8 } from "../core/base/bytes.js";
import { SecretBytes } from "../core/base/secret.js";
import { NotYet } from "./errors.js";
import * as escrow from "./escrow/escrow.js";
import * as restored from "./identity/restored.js";
import * as messages from "./messages/messages.js";
import type { Account } from "./profile/account.js";
import { type Done, done } from "./standing.js";
import * as doors from "./vault/doors.js";
import * as pairing from "./vault/pairing.js";
import * as trusted from "./vault/trusted.js";
import * as vault from "./vault/vault.js";

// By part: the acceptance (its hash) after which it was last given back whole.
const KIND = "given-back";
const TURN = utf8("turn");
const HASH_SIZE = 32;

/** What is given back, line by line. */
export type Run = (account: Account) => AsyncGenerator<Done>;

interface Part {
  /** Its name in the report. */
  readonly name: string;
  readonly run: Run;
  /** Only where this device holds the vault's key. */
  readonly needsVault: boolean;
}

/** Give what is due, part by part, by name; each ends as done, for this acceptance, when it comes to its end. */
export async function* parts(account: Account): AsyncGenerator<[name: string, run: Run]> {
  for (const part of PARTS) if (await isDue(account, part)) yield [part.name, noting(part)];
}

function noting(part: Part): Run {
  return async function* (account) {
    const newest = await newestTaken(account);
    yield* part.run(account);
    await account.store.put(KIND, utf8(part.name), new SecretBytes(newest.hash));
  };
}

async function newestTaken(account: Account): Promise<restored.Taken> {
  // Asked for while one heals, and so there is one.
  return (await restored.taken(account))[0] as restored.Taken;
}

async function isDue(account: Account, part: Part): Promise<boolean> {
  if (!(await restored.isHealing(account)) || !account.device.isActive) return false;
  if (account.state.identitySeed.length === 0 || (part.needsVault && account.state.vault.key.length === 0)) return false;
  // Until the device that set it has given it back, or the person has set it again.
  if (part.run === ofDoors && (await doors.listLost(account)).length > 0) return true;
  const newest = await newestTaken(account), kept = await account.store.get(KIND, utf8(part.name));
  return kept === undefined || !equal(kept.reveal(), newest.hash);
}

/** Tell whether it is the backup alone for which this profile looks like an older copy: the first time after each. */
export async function isExplained(account: Account): Promise<boolean> {
  if (!(await restored.isHealing(account))) return false;
  const newest = await newestTaken(account), kept = await account.store.get(KIND, TURN);
  const { mark } = await account.turn();
  if (kept === undefined || !equal(kept.reveal().subarray(0, HASH_SIZE), newest.hash)) {
    await account.store.put(KIND, TURN, new SecretBytes(concat(newest.hash, mark)));
    return true;
  }
  // The same opening, looked at again.
  return equal(kept.reveal().subarray(HASH_SIZE), mark);
}

async function* ofVault(account: Account): AsyncGenerator<Done> {
  const version = await vault.giveBack(account);
  if (version !== undefined)
    yield done("backup", `Saved your keyring, version ${version}: the server had lost what was in it.`);
}

async function* ofDevices(account: Account): AsyncGenerator<Done> {
  // What was sent to them since, and they had not fetched, is lost: the key of now above all.
  const told = await pairing.sync(account);
  if (told.length > 0) yield done("backup", `Told ${told.length} devices of yours the key of your keyring again.`);
}

async function* ofContacts(account: Account): AsyncGenerator<Done> {
  if (await trusted.giveBack(account))
    yield done("trusted contacts", "They have fresh shares: the server had lost your choice.");
}

async function* ofDoors(account: Account): AsyncGenerator<Done> {
  const given = await doors.giveBack(account);
  if (given.length > 0)
    yield done("ways back", `Gave the server your doors again, which it had lost: ${given.join(", ")}.`);
}

async function* ofDeposits(account: Account): AsyncGenerator<Done> {
  let lost: number[];
  try {
    lost = await escrow.giveBack(account);
  } catch (error) {
    if (error instanceof NotYet) return; // the tenant is being founded: nobody has deposited anything
    throw error;
  }
  if (lost.length > 0)
    yield done("escrow", `The server had lost your deposits of generation ${lost.join(", ")}: they are made anew.`);
}

async function* ofMessages(account: Account): AsyncGenerator<Done> {
  const owed = await messages.giveBack(account, (await newestTaken(account)).at);
  if (owed > 0)
    yield done("outbox", `What ${owed} devices had not confirmed is sent to them again: it may be lost.`);
}

// The vault first, which has the marks of doors and of the person's choice; devices are told of it as it is then.
const PARTS: readonly Part[] = [
  { name: "keyring", run: ofVault, needsVault: true },
  { name: "devices", run: ofDevices, needsVault: true },
  { name: "shares", run: ofContacts, needsVault: true },
  { name: "doors", run: ofDoors, needsVault: true },
  { name: "deposits", run: ofDeposits, needsVault: false },
  { name: "messages", run: ofMessages, needsVault: false },
];
