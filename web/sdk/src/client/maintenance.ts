// SPDX-License-Identifier: Apache-2.0
/**
 * All that is due on a device, in one call, each part by itself: done, nothing due, failed, or needing the person.
 *
 * The care that docs/spec/protocol.md sections 2, 4, 5 and 8 ask of a client, by calling the module of each subject. Has no
 * rules of its own, and decides nothing that only a person can: it names that, with the call (`standing`).
 */
import { hex } from "../core/base/bytes.js";
import { HoldfastError } from "../core/base/errors.js";
import { uuidText } from "../core/base/uuids.js";
import { ClientError, ConsentNeeded, Problem, ServerReadOnly, ServerRestored, Unreachable } from "./errors.js";
import * as archive from "./escrow/archive.js";
import * as disclosures from "./escrow/disclosures.js";
import * as escrow from "./escrow/escrow.js";
import * as healing from "./healing.js";
import * as chains from "./identity/chains.js";
import * as heads from "./identity/heads.js";
import * as keyLog from "./identity/key_log.js";
import * as restored from "./identity/restored.js";
import * as tenant from "./identity/tenant.js";
import * as letters from "./messages/letters.js";
import * as messages from "./messages/messages.js";
import * as prekeys from "./messages/prekeys.js";
import * as hearing from "./officers/hearing.js";
import type { Account } from "./profile/account.js";
import * as turns from "./profile/turns.js";
import * as rotation from "./rotation/rotation.js";
import { Part } from "./rotation/rotation_record.js";
import { SET_THE_CLOCK } from "./server/clock.js";
import * as sessions from "./sessions/sessions.js";
import * as standing from "./standing.js";
import { type Done, done, line, needsYou, Outcome } from "./standing.js";
import * as doors from "./vault/doors.js";
import * as pairing from "./vault/pairing.js";
import * as trusted from "./vault/trusted.js";
import * as vault from "./vault/vault.js";
import * as vaultContents from "./vault/vault_contents.js";

export { type Done, Outcome } from "./standing.js";

/** Devices and the server may live for years: letters and notices nobody asked for are not kept for ever. */
export const LETTER_LIFE_SECONDS = 30 * 86_400;

/** One part: its name in the report, what it does, and whether it needs the server or a device of the account. */
interface Item {
  readonly name: string;
  readonly run: (account: Account) => AsyncGenerator<Done>;
  readonly isOnline?: false;
  readonly needsActive?: false;
}

/**
 * Do all that is due, and say for each part what was done, what failed and why, and what needs the person.
 *
 * A part that fails stops no other. When the server cannot be reached, the parts that need it are not tried one by one. Safe
 * to call at any time, and as often as one likes: what is not due is not done.
 */
export async function maintain(account: Account): Promise<Done[]> {
  const report: Done[] = [], met = new Met();
  for (const item of ITEMS) {
    const needsActive = item.needsActive ?? true, isOnline = item.isOnline ?? true;
    if (needsActive && !account.device.isActive && !(await isReplaced(account, item))) continue;
    if (isOnline && !met.isReachable) continue;
    report.push(...(await runItem(account, item, met)));
  }
  return report;
}

/** What the parts have met so far: a server that cannot be reached, that was put back, or lost this device by it. */
class Met {
  isReachable = true;
  isRestored = false;
  isUnknown = false;

  /** Return the line of a part that met it. It is said once, and not by each part that it stops. */
  restored(item: Item, error: ClientError, outcome: Outcome): Done {
    if (this.isRestored)
      return line(item.name, Outcome.NOTHING, "Waits until officers have accepted the backup that was put back.");
    this.isRestored = true;
    return line("server", outcome, error.message, error.wayOut);
  }
}

/** Whether this is the rotation, and it has replaced this device's keys in the chain but not yet on this device. */
async function isReplaced(account: Account, item: Item): Promise<boolean> {
  return item.run === ofRotation && (await rotation.listRotations(account)).some((progress) => progress.step !== rotation.Step.DESTROY);
}

async function runItem(account: Account, item: Item, met: Met): Promise<Done[]> {
  const found: Done[] = [];
  try {
    found.push(...(await runKnown(account, item, met)));
  } catch (error) {
    if (error instanceof ServerReadOnly) found.push(met.restored(item, error, Outcome.NEEDS_YOU));
    else if (error instanceof ServerRestored) found.push(met.restored(item, error, Outcome.FAILED));
    else if (error instanceof ClientError) {
      if (error instanceof Unreachable) met.isReachable = false;
      found.push(line(item.name, Outcome.FAILED, error.message, error.wayOut));
    } else if (error instanceof HoldfastError)
      found.push(line(item.name, Outcome.FAILED, `Refused: ${error.message}.`, "Show this to your officers."));
    else throw error;
  }
  return found.length > 0 ? found : [line(item.name, Outcome.NOTHING, "Nothing was due.")];
}

/** Run a part; where the server does not know this device any more, it comes back, if it can, and the part runs. */
async function runKnown(account: Account, item: Item, met: Met): Promise<Done[]> {
  try {
    return await listed(item.run(account));
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== chains.UNKNOWN) throw error;
    if (met.isUnknown && met.isRestored) return [met.restored(item, error, Outcome.NEEDS_YOU)];
    if (met.isUnknown || !account.device.isActive) throw error;
    met.isUnknown = true;
    await chains.refresh(account);
    return await listed(item.run(account));
  }
}

async function listed(lines: AsyncGenerator<Done>): Promise<Done[]> {
  const found: Done[] = [];
  for await (const one of lines) found.push(one);
  return found;
}

// What other devices and people sent

async function* ofMailbox(account: Account): AsyncGenerator<Done> {
  const came = await letters.fetch(account);
  if (came > 0) yield done("mailbox", `Took ${came} letters and notices.`);
  if (await pairing.catchUp(account)) yield done("mailbox", "Took over new keys from another device of yours.");
  const before = new Set((await trusted.listHeldShares(account)).map((share) => hex(share.setId)));
  const fresh = (await trusted.takeShares(account)).filter((share) => !before.has(hex(share.setId)));
  if (fresh.length > 0) yield done("mailbox", `Took ${fresh.length} recovery shares of people who trust you.`);
}

async function* ofOutbox(account: Account): AsyncGenerator<Done> {
  const { sent, refused, waiting } = await messages.care(account);
  if (sent.size > 0) yield done("outbox", `Sent ${sent.size} messages that had waited.`);
  for (const error of refused.values())
    yield line("outbox", Outcome.FAILED, `A message was not sent: ${error.message}`, error.wayOut);
  const still = new Set(waiting.map(hex));
  for (const id of refused.keys()) still.delete(id);
  if (still.size > 0)
    yield needsYou("outbox", `${still.size} messages wait to be sent.`, "They go out by themselves later.");
}

// The account

async function* ofProfile(account: Account): AsyncGenerator<Done> {
  if (account.isCopyFound && !(await healing.isExplained(account)))
    yield needsYou("profile", ...turns.wordsOf(await account.turn()));
}

async function* ofChain(account: Account): AsyncGenerator<Done> {
  const before = account.state.chain.length;
  await chains.refresh(account);
  const grown = account.state.chain.length - before;
  if (grown > 0) yield done("account chain", `Read and verified ${grown} new entries of your account.`);
}

async function* ofTenant(account: Account): AsyncGenerator<Done> {
  const change = await tenant.refresh(account);
  if (change.isAnother)
    yield needsYou(
      "organisation",
      "Your organisation was founded with another policy than the one that you signed.",
      "The root that your code names vouches for it. See what it says: holdfast officer policy show --all",
    );
  if (change.policyNow > change.policyBefore)
    yield done("organisation", `Your organisation's policy is now version ${change.policyNow}, as it signed it.`);
  if (change.keyNow > change.keyBefore)
    yield done("organisation", `Accepted escrow key version ${change.keyNow}, signed by root and officers.`);
  for (const ending of await tenant.endings(account)) yield needsYou("organisation", ...tenant.wordsOf(ending));
}

/** Give a server that was put back what it lost. A part that fails stops no other, and is tried the next time. */
async function* ofGivenBack(account: Account): AsyncGenerator<Done> {
  for (const log of heads.LOGS)
    // Of the audit log an auditor or an officer alone has a head, to which an acceptance has anything to say.
    if (log === "keys" || heads.own(account, log) !== "") await restored.look(account, log);
  for await (const [name, run] of healing.parts(account))
    try {
      yield* run(account);
    } catch (error) {
      if (error instanceof Unreachable || error instanceof ServerReadOnly || error instanceof ServerRestored) throw error;
      const failed = (said: string, wayOut: string): Done => line("restored backup", Outcome.FAILED, said, wayOut);
      if (error instanceof ClientError) yield failed(`Not given back yet (${name}): ${error.message}`, error.wayOut);
      else if (error instanceof HoldfastError)
        yield failed(`Not given back (${name}): ${error.message}.`, "Show this to your officers.");
      else throw error;
    }
}

async function* ofKeyLog(account: Account): AsyncGenerator<Done> {
  const compared = await keyLog.compareHeard(account);
  if (compared > 0)
    yield done("key log", `Compared the key log with what ${compared} of your contacts saw of it: it is one log.`);
}

async function* ofRotation(account: Account): AsyncGenerator<Done> {
  for (const progress of await rotation.maintain(account)) {
    const named = Object.entries(Part).filter(([, part]) => (progress.parts & part) !== 0);
    const parts = named.map(([name]) => name.toLowerCase()).join(", ");
    yield done(
      "rotation",
      progress.isDestroyed
        ? `Destroyed the keys replaced a month ago (${parts}).`
        : `Replaced keys (${parts}); the old ones are destroyed after their grace period.`,
    );
  }
}

async function* ofRecoveryKey(account: Account): AsyncGenerator<Done> {
  if (account.state.identitySeed.length > 0 && (await doors.completeRecoveryKey(account)))
    yield done("recovery key", "The recovery key of your phrase counts from now on: its week is over.");
}

// Keys of this device

async function* ofPreKeys(account: Account): AsyncGenerator<Done> {
  const published = await prekeys.publish(account);
  if (published.isRenewed) yield done("pre-keys", "Published a fresh signed pre-key.");
  if (published.stored > 0)
    yield done("pre-keys", `Uploaded ${published.stored} one-time pre-keys; the server has ${published.count}.`);
  const wayOut = "Tell your operator, and compare with your other devices: client.reports()";
  for (const warning of published.warnings) yield needsYou("pre-keys", warning, wayOut);
  if (published.isVoided) {
    const said =
      "The server was restored from a backup and voided the one-time pre-keys it held; fresh ones were made.";
    yield (await restored.isHealing(account)) ? done("pre-keys", said) : needsYou("pre-keys", said, wayOut);
  }
}

/** Have the time confirmed, by which alone anything is destroyed for its age; tell when nothing confirms it. */
async function* ofClock(account: Account): AsyncGenerator<Done> {
  const { clock } = account.api;
  let isConfirmed = false;
  try {
    isConfirmed = await keyLog.confirmTime(account);
  } catch (error) {
    // A request that is dated too far off is refused: that is what there is to be told.
    if (!(error instanceof Problem) || !clock.isOff) throw error;
  }
  if (clock.isOff) {
    const meanwhile = isConfirmed ? "" : " Until both agree, nothing is destroyed.";
    yield needsYou("clock", `${clock.inWords()}${meanwhile}`, SET_THE_CLOCK);
  } else if (!isConfirmed && keyLog.ownCheckpoint(account) !== "") {
    yield needsYou("clock", UNCONFIRMED, "If this goes on, tell your operator: the log has to be signed anew.");
  }
}

const UNCONFIRMED =
  "The key log shows no head that was signed within five minutes, by this machine's clock: nothing is destroyed.";

async function* ofOldKeys(account: Account): AsyncGenerator<Done> {
  const now = account.api.clock.confirmed();
  if (now === undefined) return;
  const over: letters.Letter[] = [];
  for (const kind of Object.values(letters.LetterKind))
    for (const letter of await letters.waiting(account, kind))
      if (now - letter.receivedAt >= LETTER_LIFE_SECONDS) over.push(letter);
  await letters.putAway(account, over);
  await hearing.prune(account);
  const keys = await prekeys.destroyDue(account);
  const rows = (await messages.prune(account)) + (await sessions.pruneSessions(account.store, { now }));
  if (keys > 0 || rows > 0 || over.length > 0)
    yield done(
      "old keys",
      `Destroyed ${keys} pre-keys, ${rows} session rows and ${over.length} letters past their time.`,
    );
}

// Archive, escrow and backup

async function* ofDisclosures(account: Account): AsyncGenerator<Done> {
  for (const kept of await disclosures.endDue(account))
    yield done(
      "disclosures",
      `Case ${uuidText(kept.caseId)} has ended: the keys that it disclosed are destroyed, its manifest stays.`,
    );
}

async function* ofOpenings(account: Account): AsyncGenerator<Done> {
  const opened = await escrow.noteOpenings(account);
  if (opened.length > 0)
    yield done(
      "openings",
      `A case has opened your archive keys of generation ${opened.join(", ")}: they are not used again.`,
    );
}

async function* ofArchive(account: Account): AsyncGenerator<Done> {
  const state = await account.chain(), before = state.generations.at(-1)?.generation;
  // Who has never encrypted a file has no archive, and needs no key for one.
  if (before === undefined) return;
  if (vaultContents.missing(account, state).length > 0 && account.state.vault.key.length > 0) {
    // Another device announced it, and has put it where this one finds it, or will.
    const opened = await vault.load(account);
    if (opened !== undefined && opened.missing.length === 0)
      yield done("archive", "Took over archive keys that another device of yours had made.");
  }
  const generation = await archive.currentGeneration(account);
  if (generation.number !== before)
    yield done("archive", `Made this month's archive key, generation ${generation.number}.`);
}

async function* ofDeposits(account: Account): AsyncGenerator<Done> {
  // While a tenant is being founded, nobody could take a deposit.
  if (account.state.trust.policies.length === 0) return;
  await escrow.takeBack(account);
  try {
    const deposited = (await escrow.due(account)).length > 0 ? await escrow.depositMissing(account) : [];
    if (deposited.length > 0) yield done("escrow", `Deposited ${deposited.length} archive keys, as you agreed.`);
  } catch (error) {
    if (!(error instanceof ConsentNeeded)) throw error;
    if ((await escrow.mustDepositFirst(account)) || (await escrow.asksAgain(account))) {
      const changed = (await escrow.whatChanged(account)).join(" ");
      yield needsYou("escrow", `${error.message} ${changed}`.trimEnd(), error.wayOut);
    }
  }
  for (const [said, wayOut] of await escrow.givenUp(account)) yield needsYou("escrow", said, wayOut);
}

function holdsVault(account: Account): boolean {
  return account.state.vault.key.length > 0 && account.state.identitySeed.length > 0;
}

async function* ofShares(account: Account): AsyncGenerator<Done> {
  if (holdsVault(account) && (await trusted.reshare(account)))
    yield done("trusted contacts", "They have shares of the vault key of now.");
}

async function* ofVault(account: Account): AsyncGenerator<Done> {
  const version = holdsVault(account) ? await vault.saveIfChanged(account) : undefined;
  if (version !== undefined) yield done("backup", `Saved your keyring, version ${version}.`);
}

const ITEMS: readonly Item[] = [
  { name: "mailbox", run: ofMailbox },
  { name: "account chain", run: ofChain, needsActive: false },
  { name: "organisation", run: ofTenant, needsActive: false },
  { name: "clock", run: ofClock, needsActive: false },
  { name: "restored backup", run: ofGivenBack },
  { name: "outbox", run: ofOutbox },
  { name: "pre-keys", run: ofPreKeys },
  { name: "key log", run: ofKeyLog },
  { name: "rotation", run: ofRotation },
  { name: "recovery key", run: ofRecoveryKey },
  { name: "openings", run: ofOpenings },
  { name: "archive", run: ofArchive },
  { name: "escrow", run: ofDeposits },
  { name: "trusted contacts", run: ofShares },
  { name: "backup", run: ofVault },
  { name: "old keys", run: ofOldKeys, isOnline: false, needsActive: false },
  { name: "disclosures", run: ofDisclosures, isOnline: false, needsActive: false },
  { name: "profile", run: ofProfile, isOnline: false, needsActive: false },
  { name: "this device", run: standing.ofPending, isOnline: false, needsActive: false },
  { name: "devices", run: standing.ofDevices },
  { name: "foreign entries", run: standing.ofChain, isOnline: false, needsActive: false },
  { name: "recovery", run: standing.ofRequests },
  { name: "cases", run: standing.ofCases },
  { name: "ways back", run: standing.ofDoors, isOnline: false },
  { name: "notices", run: standing.ofKept, isOnline: false, needsActive: false },
];
