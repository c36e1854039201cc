// SPDX-License-Identifier: Apache-2.0
/**
 * Rotation of identity, device keys, vault key and archive generation, in seven steps that can each be taken again.
 *
 * docs/spec/protocol.md section 5 (rotation, revocation) and the triggers named there; docs/formats/rotation.md. Does not
 * set doors that only the person can set: it says which ones wait for them.
 */
import { type Bytes, concat, EMPTY, equal, hex, utf8 } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { layout, sealMap, sealRow, secret, text, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidBytes, uuidText } from "../../core/base/uuids.js";
import { SigningKey } from "../../core/crypto/keys.js";
import { signingKind } from "../../core/crypto/suites.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { newArchiveKey } from "../../core/escrow/archive.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { Entry, Reason } from "../../core/identity/entries.js";
import { Sign1 } from "../../core/signed/cose.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import { consentFromPayload, deviceFromPayload } from "../../core/signed/statements.js";
import { newVaultKey } from "../../core/vault/blob.js";
import { NotPossible, Problem, ProfileError, RaceLost, WrongInput } from "../errors.js";
import * as escrow from "../escrow/escrow.js";
import * as chains from "../identity/chains.js";
import { makeDevice } from "../identity/device.js";
import * as evidence from "../identity/evidence.js";
import { Contradiction } from "../identity/evidence.js";
import * as securityEvents from "../identity/security_events.js";
import * as handshakes from "../messages/handshakes.js";
import * as letters from "../messages/letters.js";
import * as messages from "../messages/messages.js";
import * as prekeys from "../messages/prekeys.js";
import type { Account } from "../profile/account.js";
import { type Device, DEVICE as DEVICE_LAYOUT, noVaultKey } from "../profile/state.js";
import * as sessions from "../sessions/sessions.js";
import * as doors from "../vault/doors.js";
import * as pairing from "../vault/pairing.js";
import * as trusted from "../vault/trusted.js";
import * as vault from "../vault/vault.js";
import { Overtaken, retry, staleProblem } from "../waiting.js";
import { signedEntries } from "./rotation_entries.js";
import * as rotationRecord from "./rotation_record.js";
import { newRotation, Part, type Progress, progress, type Rotation, Step } from "./rotation_record.js";

export { type Progress, Step } from "./rotation_record.js";

/** What a rotation may replace. */
export type What = "identity" | "device" | "vault" | "archive";
export const IDENTITY = "identity", DEVICE = "device", VAULT = "vault", ARCHIVE = "archive";
/** All but this device's own keys. */
export const EVERYTHING: readonly What[] = [IDENTITY, VAULT, ARCHIVE];
/** As long as a message under the old keys may be on its way. */
export const GRACE_SECONDS = 30 * 86_400;
/** On schedule, once a month: docs/spec/protocol.md section 5. */
export const IDENTITY_LIFE_SECONDS = 30 * 86_400;
/** A server that reports events without end makes one rotation a day. */
export const EVENT_PAUSE_SECONDS = 86_400;
const PARTS: Readonly<Record<What, number>> = {
  identity: Part.IDENTITY,
  device: Part.DEVICE,
  vault: Part.VAULT,
  archive: Part.ARCHIVE,
};
const RETIRED = "retired-key";
// An interrupted rotation may be taken up a day later: its entries are then signed with the date of that day.
const SIGNED_FOR_SECONDS = 600;
const READ_ANEW = 3; // times: two runs of one profile that register at the same moment both come to an end

/** A rotation that should begin: what, for which reason in the chain, and the sentence for people. */
export interface Due {
  readonly what: readonly What[];
  readonly reason: Reason;
  readonly why: string;
}

/** Why keys are replaced, and which devices go. */
export interface Wanted {
  readonly reason: Reason;
  /** UUIDs' texts. */
  readonly revoke?: readonly string[];
  /** UTC seconds from which a revoked device is doubted, now unless given. */
  readonly since?: number;
}

/**
 * Replace keys, and bring the replacement as far as it goes now; what is left, `maintain` and `resume` do.
 *
 * Device keys bring a new identity key with them, and revoking devices brings all but this device's keys, since a revoked
 * one knew them. One that was begun before is finished first. Rejects with WrongInput for a device that is not in the
 * account, ProfileError on one that is not, RaceLost without its newest identity key, NotPossible to revoke oneself, or to
 * replace device keys while a case is open, TrustRefused when the chain or the vault is not to be believed; nothing is lost
 * by any of them. A rotation of nothing is a RangeError (a caller's mistake).
 */
export async function rotate(account: Account, what: Iterable<What>, wanted: Wanted): Promise<Progress> {
  const { reason } = wanted, revoke = (wanted.revoke ?? []).map(uuidBytes);
  await resume(account);
  let parts = 0;
  for (const name of what) parts |= PARTS[name];
  if (revoke.length > 0) parts |= Part.IDENTITY | Part.VAULT | Part.ARCHIVE;
  if (parts & Part.DEVICE) parts |= Part.IDENTITY;
  if (parts === 0) throw new RangeError("a rotation replaces something");
  await requireMay(account, revoke);
  if (parts & Part.DEVICE && account.state.case !== undefined)
    throw new NotPossible(
      "This device has a case open, and what is released in it is for the device's keys of now.",
      {
        wayOut: "See how far it is: client.cases.status(). Or withdraw it: client.cases.cancel()",
      },
    );
  const now = account.api.clock.earliest(), since = wanted.since ?? now;
  const begun = newRotation({ id: randomBytes(16), parts, reason, revoke, since, startedAt: now });
  await rotationRecord.put(account.store, begun);
  return run(account, begun);
}

/** Take up every rotation that was interrupted, and finish it up to the grace period. Returns those finished. */
export async function resume(account: Account): Promise<Progress[]> {
  const done: Progress[] = [];
  for (const rotation of await rotationRecord.loadRotations(account.store))
    if (rotation.step !== Step.DESTROY) done.push(await run(account, rotation));
  return done;
}

/** Return every rotation that is under way or whose old keys still wait to be destroyed. */
export async function listRotations(account: Account): Promise<Progress[]> {
  return (await rotationRecord.loadRotations(account.store)).map((rotation) => progress(rotation));
}

/** Resume what was interrupted, destroy what is past its grace, rotate when that is due. Returns what was done. */
export async function maintain(account: Account): Promise<Progress[]> {
  const done = await resume(account);
  for (const rotation of await rotationRecord.loadRotations(account.store))
    if (rotation.step === Step.DESTROY && (await destroy(account, rotation)))
      done.push({ ...progress(rotation), isDestroyed: true });
  const wanted = await due(account);
  if (wanted !== undefined) done.push(await rotate(account, wanted.what, { reason: wanted.reason }));
  return done;
}

async function requireMay(account: Account, revoke: readonly Bytes[]): Promise<void> {
  const state = await vault.chainOf(account);
  if (!account.device.isActive)
    throw new ProfileError("This device is not part of your account, so it replaces nothing.", {
      wayOut: "Approve it on another device of yours: client.devices.approve()",
    });
  if (!(await account.identityKey()).public.equals(state.aik) && !(await catchUp(account)))
    throw new RaceLost("Another device of yours changed your account's identity key.", {
      wayOut: "Call client.maintain() there and here, then try again.",
    });
  if (revoke.some((device) => equal(device, account.device.id)))
    throw new NotPossible("A device does not revoke itself: it would know the keys that come after.", {
      wayOut: 'Revoke it from another device of yours; or replace its keys: client.rotate(["device"])',
    });
  const unknown = revoke.find((device) => !state.devices.has(hex(device)) && !state.revoked.has(hex(device)));
  if (unknown !== undefined)
    throw new WrongInput(`Device ${uuidText(unknown)} is not one of yours.`, { wayOut: "See: client.devices.all()" });
}

async function catchUp(account: Account): Promise<boolean> {
  await letters.fetch(account);
  return pairing.catchUp(account);
}

// The steps

async function run(account: Account, rotation: Rotation): Promise<Progress> {
  while (rotation.step !== Step.DESTROY) {
    await STEPS[rotation.step](account, rotation);
    rotation.step = (rotation.step + 1) as Step;
    await rotationRecord.put(account.store, rotation);
  }
  return progress(rotation, rotation.parts & Part.VAULT ? await doors.listClosed(account) : []);
}

/** Make every new key. They are kept before anything is signed with them, so that no step meets other ones. */
async function generate(account: Account, rotation: Rotation): Promise<void> {
  const { suite, name } = account.deviceStatement, { vault: kept } = account.state;
  if (rotation.parts & Part.IDENTITY) rotation.identity = (await SigningKey.generate(signingKind(suite))).seed();
  if (rotation.parts & Part.DEVICE) rotation.device = await makeDevice(account, { suite, name });
  if (rotation.parts & Part.ARCHIVE) rotation.archiveKey = newArchiveKey();
  if (rotation.parts & Part.VAULT && kept.key.length > 0)
    rotation.vault = { epoch: kept.epoch + 1, key: newVaultKey(), version: 0 };
}

/** Sign the new keys with the old ones, on the newest head. */
async function signNew(account: Account, rotation: Rotation): Promise<void> {
  await signOn(account, rotation, await vault.chainOf(account));
}

async function signOn(account: Account, rotation: Rotation, state: ChainState): Promise<void> {
  const entries = await signedEntries(account, rotation, state);
  await chains.requireExtends(account, state, entries);
  rotation.entries = entries.map((entry) => entry.encode());
  rotation.head = headOf(state);
  await rotationRecord.put(account.store, rotation);
}

/** Bring the new keys to the server and take them into use: the chain first, then what is sealed under them. */
async function upload(account: Account, rotation: Rotation): Promise<void> {
  if (!rotation.isAccepted) {
    if (rotation.device !== undefined) {
      rotation.device = await ofToday(account, rotation, rotation.device);
      await registerSuccessor(account, rotation.device);
    }
    if (rotation.parts & Part.IDENTITY && rotation.revoke.length === 0 && rotation.vault.key.length === 0)
      await keepNextIdentity(account, rotation);
    await extendChain(account, rotation);
    await takeIntoUse(account, rotation);
  }
  await writeVault(account, rotation);
  if (rotation.device !== undefined) await prekeys.publish(account);
  if (account.state.consent.length > 0) {
    // A policy that is newer than what is known here asks for a yes of its own; the new keys stand all the same.
    await escrow.prepare(account);
    await restateConsent(account, rotation);
    if (await escrow.hasConsented(account)) await escrow.depositMissing(account);
  }
}

/** Return the new device; made anew where it lies in the future, since a clock was ahead: the server takes none. */
async function ofToday(account: Account, rotation: Rotation, device: Device): Promise<Device> {
  const { header } = deviceFromPayload(Sign1.parse(device.statement).payload);
  const isPossible = header.issuedAt <= account.api.clock.earliest() + MAX_AHEAD_SECONDS;
  if (isPossible || equal(account.device.id, device.id)) return device;
  const made = await makeDevice(account, { suite: account.suite, name: account.deviceStatement.name });
  rotation.device = made;
  await signOn(account, rotation, await vault.chainOf(account));
  return made;
}

/** Register the device that follows this one. After a lost answer, the successor itself says that it is known. */
async function registerSuccessor(account: Account, device: Device): Promise<void> {
  if (equal(account.device.id, device.id)) return;
  try {
    await postSuccessor(account, device);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    await actAs(account, device);
    try {
      await account.api.get(`devices/${uuidText(device.id)}`);
    } catch (error) {
      throw error instanceof Problem ? problem : error;
    } finally {
      await account.signAsDevice();
    }
  }
}

/** Register it in place of the successor that is seen to wait: a rotation given up, or another run. */
async function postSuccessor(account: Account, device: Device): Promise<void> {
  const document = { device_statement: b64u(device.statement) }, path = `devices/${account.deviceText}/successor`;
  for (let attempt = 1; ; attempt++) {
    const ifMatch = `"${b64u(await waitingSuccessor(account))}"`;
    try {
      await account.api.post(path, document, { ifMatch });
      return;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "successor-stale" || attempt === READ_ANEW) throw error;
    }
  }
}

/** Return the hash of the statement of the pending device that is to follow this one; none when there is none. */
async function waitingSuccessor(account: Account): Promise<Bytes> {
  for await (const row of account.api.pages("devices", "devices", "device_id")) {
    const isNext = row.has("successor_of") && row.text("successor_of") === account.deviceText;
    if (isNext && row.text("state") === "pending") return Sign1.parse(row.octets("device_statement")).payloadHash;
  }
  return EMPTY;
}

async function actAs(account: Account, device: Device): Promise<void> {
  const { suite } = deviceFromPayload(Sign1.parse(device.statement).payload);
  const key = await SigningKey.fromSeed(signingKind(suite), device.signingSeed);
  account.api.credential = { device: uuidText(device.id), key };
}

/**
 * Write the next identity key into the vault before the chain names it, so that no crash leaves it nowhere.
 *
 * Not when a device is revoked or the vault key is leaving: whoever holds the old vault key would read it there.
 */
async function keepNextIdentity(account: Account, rotation: Rotation): Promise<void> {
  const isOfNow = (await account.identityKey()).public.equals((await account.chain()).aik);
  if (account.state.vault.key.length > 0 && isOfNow) await vault.save(account, { nextIdentity: rotation.identity });
}

/** Have the entries in the chain: uploaded once, found there after a lost answer, signed again after a race. */
async function extendChain(account: Account, rotation: Rotation): Promise<void> {
  if (rotation.entries.length === 0) return; // a vault key alone: the chain does not name it
  const attempt = async (): Promise<void> => {
    const state = await newest(account, rotation);
    let made = rotation.entries.map((entry) => Entry.parse(entry));
    const last = made.at(-1) as Entry;
    if (state.hashes.some((hash) => equal(hash, last.hash))) return;
    const age = (await account.author(state)).issuedAt - (made[0] as Entry).header.issuedAt;
    if (!equal(headOf(state), rotation.head) || age < -MAX_AHEAD_SECONDS || age > SIGNED_FOR_SECONDS) {
      // The server takes no entry that is dated long ago, or ahead of the chain; these are not in it.
      await signOn(account, rotation, state);
      made = rotation.entries.map((entry) => Entry.parse(entry));
    }
    await chains.requireExtends(account, state, made);
    await chains.upload(account, made, headOf(state));
    // The chain says whether they are in it: an answer may be lost, and a server may lie.
    throw new Overtaken();
  };
  await retry(attempt, { stale: chains.STALE, lost: staleProblem(chains.STALE, chains.KEEPS_WRITING) });
}

/** Fetch the chain, as the new device when the old one is heard no more: its own entries have revoked it. */
async function newest(account: Account, rotation: Rotation): Promise<ChainState> {
  try {
    return await vault.chainOf(account);
  } catch (error) {
    const isUnheard = error instanceof Problem && (error.status === 401 || error.status === 403);
    if (rotation.device === undefined || !isUnheard) throw error;
    await actAs(account, rotation.device);
    return vault.chainOf(account);
  }
}

/** Change over to what the chain says now, in one transaction: the old keys are kept, none is lost. */
async function takeIntoUse(account: Account, rotation: Rotation): Promise<void> {
  const state = await newest(account, rotation), own = account.state;
  await account.store.transaction(async () => {
    rotation.oldIdentity = own.identitySeed;
    rotation.oldVault = { ...own.vault };
    if (rotation.identity.length > 0) own.identitySeed = rotation.identity;
    if (rotation.device !== undefined) {
      const before = account.device, isActive = state.devices.has(hex(rotation.device.id));
      rotation.oldDevice = before.id;
      await account.store.put(handshakes.FORMER_DEVICE, before.id, sealMap(DEVICE_LAYOUT, before));
      own.device = rotation.device = { ...rotation.device, isActive };
    }
    for (const { body } of rotation.entries.map((entry) => Entry.parse(entry)))
      if (body.type === 6) {
        const { generation: number, notBefore, commitment } = body, key = rotation.archiveKey;
        const fresh = { number, key, notBefore, commitment, depositId: EMPTY, recordHash: EMPTY, isExposed: false };
        own.generations = [...own.generations.filter((kept) => kept.number !== number), fresh];
      }
    if (rotation.identity.length > 0) await securityEvents.clearEvents(account);
    rotation.isAccepted = true;
    await rotationRecord.put(account.store, rotation);
    await account.save();
  });
  await account.signAsDevice();
}

/** Write the keyring under the new keys, and give it to the devices and contacts that are left. */
async function writeVault(account: Account, rotation: Rotation): Promise<void> {
  if (account.state.vault.key.length === 0) return;
  if (rotation.vault.key.length === 0) {
    await vault.save(account);
    // What the old device sent about an earlier change is not believed any more: it has been revoked.
    if (rotation.oldDevice.length > 0) await pairing.sync(account);
    return;
  }
  try {
    await vault.beginEpoch(account, rotation.vault);
  } catch (error) {
    if (!(error instanceof vault.VaultKeyChanged)) throw error;
    // Another own device changed it as well. It may not know of the revocation, so its key is followed by ours.
    await catchUp(account);
    rotation.vault = { epoch: account.state.vault.epoch + 1, key: rotation.vault.key, version: 0 };
    await rotationRecord.put(account.store, rotation);
    await vault.beginEpoch(account, rotation.vault);
  }
  await pairing.sync(account);
  await trusted.reshare(account);
}

/**
 * Say the person's own answer again under the key that is theirs now, if it was to this very policy and text.
 *
 * An answer to anything else is not carried over: they are asked, as after every change of the policy.
 */
async function restateConsent(account: Account, rotation: Rotation): Promise<void> {
  const signed = Sign1.parse(account.state.consent), said = consentFromPayload(signed.payload);
  const old = await SigningKey.fromSeed(signingKind(account.deviceStatement.suite), rotation.oldIdentity);
  const { hash } = (await account.trusted()).newest;
  const isSame = equal(said.policyHash, hash) && equal(said.textHash, await escrow.textHash(account));
  if (equal(signed.kid, old.public.kid) && isSame) await escrow.consent(account, { agreed: said.agreed });
}

/** Tell everybody there is a session with. A new device has none yet: its greeting is the notice. */
async function notify(account: Account, rotation: Rotation): Promise<void> {
  if (rotation.parts & Part.IDENTITY && rotation.oldDevice.length === 0) await messages.announce(account);
}

/** Begin every session anew. Who cannot be reached is named; a message to or from them begins one as well. */
async function reEstablish(account: Account, rotation: Rotation): Promise<void> {
  if (!(rotation.parts & Part.IDENTITY)) return;
  const greeted = new Set((await messages.greet(account)).map(hex));
  rotation.unreached = (await sessions.peers(account.store)).filter((peer) => !greeted.has(hex(peer)));
}

/** A key that was replaced, kept for the grace period. */
interface RetiredKey {
  readonly name: string;
  readonly key: SecretBytes;
  /** Of a vault key; 0 for another. */
  readonly epoch: number;
}

const RETIRED_KEY = layout<RetiredKey>("retired key", { name: text(), key: secret(), epoch: uint() });

function retiredName(rotation: Rotation, name: What): Bytes {
  return concat(rotation.id, utf8(name));
}

/** Put the old keys aside for the grace period, and the new ones out of this row: they are where they belong. */
async function archive(account: Account, rotation: Rotation): Promise<void> {
  rotation.destroyAt = account.api.clock.latest() + GRACE_SECONDS;
  const { oldIdentity, oldVault } = rotation, nothing = new SecretBytes(EMPTY);
  const retired: [What, SecretBytes, number][] = [
    [IDENTITY, rotation.parts & Part.IDENTITY ? oldIdentity : nothing, 0],
    [VAULT, rotation.vault.key.length > 0 ? oldVault.key : nothing, oldVault.epoch],
  ];
  await account.store.transaction(async () => {
    for (const [name, key, epoch] of retired)
      if (key.length > 0)
        await account.store.put(RETIRED, retiredName(rotation, name), sealRow(RETIRED_KEY, { name, key, epoch }));
    rotation.identity = rotation.archiveKey = rotation.oldIdentity = nothing;
    rotation.vault = noVaultKey();
    rotation.oldVault = noVaultKey();
    rotation.device = undefined;
    await rotationRecord.put(account.store, rotation);
  });
}

/** Destroy the old keys when their grace is over by a confirmed time, and forget the rotation. Returns whether. */
async function destroy(account: Account, rotation: Rotation): Promise<boolean> {
  const now = account.api.clock.confirmed();
  if (now === undefined) return false;
  if (rotation.destroyAt > now + GRACE_SECONDS + MAX_AHEAD_SECONDS) {
    // Counted from a clock that was ahead: the grace begins today.
    rotation.destroyAt = now + GRACE_SECONDS;
    await rotationRecord.put(account.store, rotation);
  }
  if (now < rotation.destroyAt) return false;
  await account.store.transaction(async () => {
    for (const name of [IDENTITY, VAULT] as const) await account.store.delete(RETIRED, retiredName(rotation, name));
    if (rotation.oldDevice.length > 0) await account.store.delete(handshakes.FORMER_DEVICE, rotation.oldDevice);
    await account.store.delete(rotationRecord.KIND, rotation.id);
  });
  return true;
}

const STEPS: Readonly<Record<Exclude<Step, 7>, (account: Account, rotation: Rotation) => Promise<void>>> = {
  [Step.GENERATE]: generate,
  [Step.SIGN]: signNew,
  [Step.UPLOAD]: upload,
  [Step.NOTIFY]: notify,
  [Step.RE_ESTABLISH]: reEstablish,
  [Step.ARCHIVE]: archive,
};

// When

/** Say which rotation should begin now, and why; undefined when none should, or this device cannot. */
export async function due(account: Account): Promise<Due | undefined> {
  if (!account.device.isActive || account.state.identitySeed.length === 0) return undefined;
  if (await isForked(account))
    return { what: EVERYTHING, reason: Reason.SECURITY_EVENT, why: "Somebody has written into your account beside you." };
  const age = account.api.clock.now() - (await identitySince(account));
  const [first] = await securityEvents.listEvents(account), what = [IDENTITY] as const;
  // The identity alone, and once a day: a contact who sends a used key on purpose closes no door of theirs.
  if (first !== undefined && age >= EVENT_PAUSE_SECONDS) return { what, reason: Reason.SECURITY_EVENT, why: first };
  if (age >= IDENTITY_LIFE_SECONDS)
    return { what, reason: Reason.SCHEDULE, why: "The identity key has been in use for a month." };
  return undefined;
}

/** Whether a rotation should begin now: the month is over, or something happened that asks for new keys. */
export async function isDue(account: Account): Promise<boolean> {
  return (await due(account)) !== undefined;
}

/**
 * Return from when the AIK is, as the chain dates it.
 *
 * A chain may lie in the future, where a clock was wrong, and its dates do not go back. Then this device's own word counts,
 * of the rotations whose old keys still wait; 0 without one: what is of the future is due.
 */
async function identitySince(account: Account): Promise<number> {
  const now = account.api.clock.now(), isPossible = (at: number): boolean => at <= now + MAX_AHEAD_SECONDS;
  for (const encoded of [...account.state.chain].reverse()) {
    const { body, header } = Entry.parse(encoded);
    if (body.type !== 1 && body.type !== 4 && body.type !== 8) continue;
    if (isPossible(header.issuedAt)) return header.issuedAt;
    const own = (await rotationRecord.loadRotations(account.store)).map((rotation) => rotation.startedAt);
    return Math.max(0, ...own.filter(isPossible));
  }
  return now;
}

/** Whether somebody has written into the own chain beside it since this identity key is in force. */
async function isForked(account: Account): Promise<boolean> {
  const since = await identitySince(account);
  return (await evidence.listEvidence(account)).some(
    ({ what, user, seenAt }) => what === Contradiction.CHAIN_FORK && equal(user, account.user) && seenAt >= since,
  );
}
