// SPDX-License-Identifier: Apache-2.0
/**
 * The contacts door: shares of it given to people one trusts, and the shares that one keeps for others.
 *
 * docs/formats/contacts.md, on the owner's devices and on their contacts'. Does not ask for shares back; `share_requests`
 * does. k contacts together hold as much power as the vault itself.
 */
import { type Bytes, concat, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { b64u, MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, Untrusted, UnwrapFailed } from "../../core/base/errors.js";
import { layout, octets, openRow, pair, sealRow, secret, several, uint } from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import { Entry } from "../../core/identity/entries.js";
import { Sign1, sign } from "../../core/signed/cose.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import { deviceFromPayload } from "../../core/signed/statements.js";
import * as contactShares from "../../core/vault/contact_shares.js";
import { type ContactShare, DEFAULT_K, ShareLetter } from "../../core/vault/contact_shares.js";
import { type Manifest, manifestFromPayload, manifestHash, manifestToPayload } from "../../core/vault/share_manifest.js";
import { ClientError, NotPossible, Problem, ProfileError, TrustRefused } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as contacts from "../identity/contacts.js";
import * as devices from "../identity/device.js";
import * as handshakes from "../messages/handshakes.js";
import * as letters from "../messages/letters.js";
import { type Letter, LetterKind } from "../messages/letters.js";
import type { Account } from "../profile/account.js";
import * as doors from "./doors.js";
import * as vault from "./vault.js";
import { HELD_SHARE, nextStamp, TRUSTED_SET } from "./vault_contents.js";

const UNDER_WAY = ["share-set", EMPTY] as const;
const MAX_UNNAMED = 4; // of one owner, kept until their chain names one: one is under way, and a change of mind or two

/** A set that is being given out. Holds the shares in the clear, so it is destroyed once every contact has theirs. */
interface SetUnderWay {
  /** UTC seconds. */
  readonly madeAt: number;
  /** As signed. */
  readonly manifest: Bytes;
  readonly door: Bytes;
  readonly shares: (readonly [contact: Bytes, share: SecretBytes])[];
  /** Of the vault key behind the door. */
  readonly epoch: number;
}

const SET_UNDER_WAY = layout<SetUnderWay>(
  "set of shares",
  { madeAt: uint(), manifest: octets(), door: octets(), shares: several(pair(octets(16), secret())), epoch: uint() },
  { rowSize: MAX_BLOB },
);

/** The set whose door stands, for all of the person's devices. madeAt: first, as in every row a vault carries. */
const CHOSEN_SET = layout<{ readonly madeAt: number; readonly manifest: Bytes; readonly epoch: number }>(
  "trusted set",
  { madeAt: uint(), manifest: octets(), epoch: uint() },
);

/** A share held for somebody. takenAt: first, as in every row a vault carries. */
const HELD_ROW = layout<{ readonly takenAt: number; readonly manifest: Bytes; readonly share: SecretBytes }>(
  "held share",
  { takenAt: uint(), manifest: octets(), share: secret() },
);

/** The owner's trusted contacts: k of them open the vault together. */
export interface TrustedSet {
  /** 16 bytes each. */
  readonly contacts: readonly Bytes[];
  readonly k: number;
  readonly setId: Bytes;
  readonly madeAt: number;
  /** Of the vault key behind the door. */
  readonly epoch: number;
}

/** A share kept for somebody. */
export interface HeldShare {
  /** 16 bytes. */
  readonly owner: Bytes;
  readonly setId: Bytes;
  readonly k: number;
  readonly n: number;
  readonly madeAt: number;
  /** Whether its owner's account chain names the set; otherwise they are making it, or have left it. */
  readonly isCurrent: boolean;
}

/** A held share as the store has it, with its manifest. */
export interface KeptShare {
  /** UTC seconds by this device. */
  readonly takenAt: number;
  readonly key: Bytes;
  readonly manifest: Manifest;
  readonly share: ContactShare;
}

// The owner

/**
 * Give each of `people` (16-byte users) a share, any k of which open the vault; replaces the contacts so far.
 *
 * The set so far stays good until the new one is complete. Resumable: what was interrupted, `resume` carries on. Rejects
 * with WrongInput unless 2 <= k <= n <= 16 different people other than oneself; PeerChanged for one who began again.
 * Whoever is left out and kept their share opens, with k-1 like them, the vault key of before; `client.rotate` makes an end
 * of that.
 */
export async function choose(
  account: Account,
  people: readonly Bytes[],
  { k = DEFAULT_K }: { k?: number } = {},
): Promise<TrustedSet> {
  for (const person of people) await contacts.refresh(account, person);
  const owner = await doors.ownerWithVault(account);
  const made = await doors.orWrongInput(
    contactShares.prepare(account.state.vault.key, { owner, header: account.header(), contacts: people, k }),
    (why) => `This cannot be: ${why}.`,
    "Choose three to five people, and let k be 3.",
  );
  const signed = await sign(manifestToPayload(made.manifest), "share-manifest", await account.identityKey());
  const shares = [...made.shares].map(([contact, share]): [Bytes, SecretBytes] => [
    unhex(contact), contactShares.shareToSecret(share),
  ]);
  const madeAt = account.api.clock.earliest(), manifest = signed.encode(), { epoch } = owner;
  await account.store.put(...UNDER_WAY, sealRow(SET_UNDER_WAY, { madeAt, manifest, door: made.door, shares, epoch }));
  await resume(account);
  return (await findChosenSet(account)) as TrustedSet;
}

/**
 * Carry on with a set that was interrupted; false when none was.
 *
 * Shares first, then the door, then the chain: until the last step the contacts so far can still help.
 */
export async function resume(account: Account): Promise<boolean> {
  const { store } = account, value = await store.get(...UNDER_WAY);
  if (value === undefined) return false;
  const made = openRow(SET_UNDER_WAY, value);
  let signed = Sign1.parse(made.manifest);
  if (made.epoch !== account.state.vault.epoch) {
    // The vault key changed meanwhile: this door would open nothing that is written now.
    await store.delete(...UNDER_WAY);
    return false;
  }
  const manifest = manifestFromPayload(signed.payload);
  if (manifest.header.issuedAt > account.api.clock.earliest() + MAX_AHEAD_SECONDS) {
    // Made under a clock that was ahead: it would count as the newest of all until then.
    await store.delete(...UNDER_WAY);
    await choose(account, contactsOf(manifest), { k: manifest.k });
    return true;
  }
  const identityKey = await account.identityKey();
  // Rotated since: a contact who hears of the set before the chain names it asks for the key in force.
  if (!equal(signed.kid, identityKey.public.kid)) signed = await sign(signed.payload, "share-manifest", identityKey);
  for (const [contact, share] of made.shares)
    await giveTo(account, contact, contactShares.shareFromSecret(share), { manifest, signed });
  await putManifest(account, signed);
  await doors.putDoor(account, doors.CONTACTS, made.door);
  const hash = manifestHash(manifest);
  await chains.append(account, async (state): Promise<Entry[]> => {
    if (state.manifestHash !== undefined && equal(state.manifestHash, hash)) return [];
    return [await chainAuthor.shareManifest(state, { by: await account.author(state), manifestHash: hash })];
  });
  await store.transaction(async () => {
    await doors.mark(account, doors.CONTACTS, { epoch: made.epoch, blob: made.door });
    const madeAt = Math.max(made.madeAt, await nextStamp(account, TRUSTED_SET, EMPTY));
    const chosen = { madeAt, manifest: signed.encode(), epoch: made.epoch };
    await store.put(TRUSTED_SET, EMPTY, sealRow(CHOSEN_SET, chosen));
    await store.delete(...UNDER_WAY);
  });
  await vault.save(account);
  return true;
}

function contactsOf(manifest: Manifest): Bytes[] {
  return manifest.rows.map(([contact]) => contact);
}

/** Send a contact's share to each of their devices that their verified chain lists. */
async function giveTo(
  account: Account,
  contact: Bytes,
  share: ContactShare,
  { manifest, signed }: { manifest: Manifest; signed: Sign1 },
): Promise<void> {
  const state = await contacts.refresh(account, contact);
  if (state.devices.size === 0)
    throw new NotPossible(`${uuidText(contact)} has no device now.`, {
      wayOut: "Choose somebody else, or ask them to enrol one.",
    });
  for (const [id, statementHash] of state.devices) {
    const statement = await devices.fetchStatement(account, unhex(id));
    if (!equal(statement.payloadHash, statementHash))
      throw new TrustRefused(
        `The server shows another device of ${uuidText(contact)} than their account chain lists.`,
        { wayOut: "Give no share now; tell your officers." },
      );
    const to = deviceFromPayload(statement.payload);
    const letter = await contactShares.sealShare(share, { manifest, statement: signed, contact, to });
    await letters.send(account, unhex(id), LetterKind.SHARE, letter);
  }
}

async function putManifest(account: Account, signed: Sign1): Promise<void> {
  const version = (await vault.unless404(account.api.get("recovery/contacts")))?.number("version") ?? 0;
  await account.api.put("recovery/contacts", { manifest: b64u(signed.encode()) }, { ifMatch: `"${version}"` });
}

/** Return the trusted contacts of now; undefined when there are none. */
export async function findChosenSet(account: Account): Promise<TrustedSet | undefined> {
  const value = await account.store.get(TRUSTED_SET, EMPTY);
  if (value === undefined) return undefined;
  const row = openRow(CHOSEN_SET, value);
  if (row.manifest.length === 0) return undefined;
  const manifest = manifestFromPayload(Sign1.parse(row.manifest).payload), { k, setId } = manifest;
  return { contacts: contactsOf(manifest), k, setId, madeAt: row.madeAt, epoch: row.epoch };
}

/**
 * Give the same contacts fresh shares for the vault key of now; true when they hold such.
 *
 * Needed after each change of the vault key; does nothing when it is done. False without trusted contacts, and when one of
 * them cannot be given a share before the person has looked (they began again, have no device, or the server shows
 * another): a rotation goes on without them, and the contacts door is then listed as closed.
 */
export async function reshare(account: Account): Promise<boolean> {
  try {
    if (await resume(account)) return true;
    const now = await findChosenSet(account);
    if (now !== undefined && now.epoch !== account.state.vault.epoch) await choose(account, now.contacts, { k: now.k });
    return now !== undefined;
  } catch (error) {
    if (error instanceof NotPossible || error instanceof ProfileError || error instanceof TrustRefused) return false;
    throw error;
  }
}

/**
 * Give the same contacts fresh shares where a server that was put back has lost the set; true if that was done.
 *
 * The letters with the shares may be lost with it, and who has taken theirs is not known here: so all are given one anew.
 * To be called as `doors.giveBack`. Rejects as `choose` does.
 */
export async function giveBack(account: Account): Promise<boolean> {
  const now = await findChosenSet(account);
  if (now === undefined || (await vault.chainOf(account)).manifestHash === undefined) return false;
  try {
    await fetchManifest(account);
  } catch (error) {
    if (!(error instanceof Problem || error instanceof TrustRefused)) throw error;
    await choose(account, now.contacts, { k: now.k });
    return true;
  }
  return false;
}

/** Return the manifest of one's own set, as the account chain names it. Rejects with NotPossible, TrustRefused. */
export async function fetchManifest(account: Account): Promise<Manifest> {
  const state = await vault.chainOf(account);
  if (state.manifestHash === undefined)
    throw new NotPossible("Your account has no trusted contacts.", {
      wayOut: "Another door may be open: client.recover has a call for each.",
    });
  let signed: Sign1, manifest: Manifest;
  const answer = await account.api.get("recovery/contacts");
  try {
    signed = Sign1.parse(answer.octets("manifest"));
    manifest = manifestFromPayload(signed.payload);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw notTheManifest(error.message, error);
  }
  if (!equal(signed.payloadHash, state.manifestHash))
    throw notTheManifest("it is another one than your account chain names");
  if (!equal(manifest.header.tenant, account.tenant) || !equal(manifest.header.user, account.user))
    throw notTheManifest("it is another person's");
  return manifest;
}

function notTheManifest(reason: string, cause?: unknown): TrustRefused {
  return new TrustRefused(`The list of your trusted contacts is not to be trusted: ${reason}.`, {
    wayOut: "Ask nobody for a share now; show this to your officers.",
    cause,
  });
}

// The contact

/**
 * Keep the shares that came by letter, each verified; returns all shares held.
 *
 * A share is kept if its owner's account chain names its manifest, or if their identity key of now signed it and their
 * chain is about to. Shares that an owner has replaced are destroyed once the chain names what replaced them; letters that
 * are no share for this device are destroyed at once. While an owner's chain is in doubt, or does not show the key that
 * signed, their letters wait.
 */
export async function takeShares(account: Account): Promise<HeldShare[]> {
  for (const letter of await letters.waiting(account, LetterKind.SHARE)) {
    try {
      await take(account, letter);
    } catch (error) {
      // Its owner began again, or their chain is in doubt or could not be had now: the letter waits.
      if (error instanceof ClientError) {
        await letters.hold(account, letter, error);
        continue;
      }
      if (!(error instanceof HoldfastError)) throw error; // but for one that is wrong by itself
    }
    await letters.putAway(account, [letter]);
  }
  await prune(account);
  return listHeldShares(account);
}

async function take(account: Account, letter: Letter): Promise<void> {
  const read = ShareLetter.parse(letter.message), { manifest, statement } = read, owner = manifest.header.user;
  if (!equal(manifest.header.tenant, account.tenant) || equal(owner, account.user))
    throw new Untrusted("a share of another tenant, or of oneself");
  const state = await contacts.refresh(account, owner);
  if (state.manifestHash === undefined || !equal(state.manifestHash, manifestHash(manifest))) {
    if (![state.aik, ...state.formerAiks].some((key) => equal(key.kid, statement.kid)))
      throw new TrustRefused("It is signed by a key that its owner's account does not show.", {
        wayOut: "It is kept for a month. If the person says that they gave you one, tell your officers.",
      });
    // Not in the chain yet: then it is theirs only if the key in force signed it.
    await statement.verify(state.aik, "share-manifest");
  }
  const share = contactShares.shareToSecret(await openShare(account, read)), key = concat(owner, manifest.setId);
  if ((await account.store.get(HELD_SHARE, key)) !== undefined) return;
  const row = { takenAt: account.api.clock.earliest(), manifest: statement.encode(), share };
  await account.store.put(HELD_SHARE, key, sealRow(HELD_ROW, row));
}

/** Open a share with the key it was sealed to: this device's, or the one's that it followed. */
async function openShare(account: Account, read: ShareLetter): Promise<ContactShare> {
  for (const own of await handshakes.ownDevices(account)) {
    const key = await SealingKey.fromSeed(own.sealingSeed);
    const share = await vault.unlessShut(read.open(account.user, own.id, key));
    if (share !== undefined) return share;
  }
  throw new UnwrapFailed("the share does not open");
}

/** Destroy shares that their owner's chain has named and names no more, and those of older sets never named. */
async function prune(account: Account): Promise<void> {
  const kept = await loadHeldShares(account), ownerOf = (share: KeptShare): string => hex(share.manifest.header.user);
  for (const owner of new Set(kept.map(ownerOf)))
    try {
      // A contact who was left out gets no letter about it; the owner's chain is where they see it.
      await contacts.refresh(account, unhex(owner));
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
    }
  const current = new Set<KeptShare>();
  for (const share of kept) if (await isCurrent(account, share)) current.add(share);
  const since = new Map([...current].map((share) => [ownerOf(share), share.manifest.createdAt]));
  const latest = account.api.clock.latest() + MAX_AHEAD_SECONDS, waiting = kept.filter((share) => !current.has(share));
  await account.store.transaction(async () => {
    // Nobody fills a contact's device with sets that their chain never names.
    for (const owner of new Set(waiting.map(ownerOf))) {
      const mine = waiting.filter((share) => ownerOf(share) === owner).sort((one, other) => one.takenAt - other.takenAt);
      for (const share of mine.slice(0, -MAX_UNNAMED)) await account.store.delete(HELD_SHARE, share.key);
    }
    for (const share of waiting) {
      const newer = since.get(ownerOf(share)) ?? 0, named = namedBefore(account, ownerOf(share));
      // A set that a clock dated ahead makes none of today an older one.
      const isOlder = share.manifest.createdAt < newer && newer <= latest;
      if (isOlder || named.has(hex(manifestHash(share.manifest)))) await account.store.delete(HELD_SHARE, share.key);
    }
  });
}

/** Return the hashes (hex) of the manifests that an owner's chain has ever named. */
function namedBefore(account: Account, owner: string): Set<string> {
  const entries = account.state.contacts.get(owner)?.entries ?? [], named = new Set<string>();
  for (const entry of entries) {
    const { body } = Entry.parse(entry);
    if (body.type === 7) named.add(hex(body.manifestHash));
  }
  return named;
}

/** Return every share kept for somebody, with its manifest. */
export async function loadHeldShares(account: Account): Promise<KeptShare[]> {
  const found: KeptShare[] = [];
  for (const key of await account.store.keys(HELD_SHARE)) {
    const value = await account.store.get(HELD_SHARE, key);
    if (value === undefined) continue;
    const row = openRow(HELD_ROW, value), manifest = manifestFromPayload(Sign1.parse(row.manifest).payload);
    found.push({ takenAt: row.takenAt, key, manifest, share: contactShares.shareFromSecret(row.share) });
  }
  return found;
}

async function isCurrent(account: Account, { manifest }: KeptShare): Promise<boolean> {
  const pinned = account.state.contacts.get(hex(manifest.header.user));
  if (pinned === undefined) return false;
  const state = await chains.verify(account, pinned.user, pinned.entries);
  return state.manifestHash !== undefined && equal(state.manifestHash, manifestHash(manifest));
}

/** Return the shares that this person keeps for others, as far as their chains are known here. */
export async function listHeldShares(account: Account): Promise<HeldShare[]> {
  const found: HeldShare[] = [];
  for (const share of await loadHeldShares(account)) {
    const { header, setId, k, rows, createdAt } = share.manifest;
    const current = await isCurrent(account, share);
    found.push({ owner: header.user, setId, k, n: rows.length, madeAt: createdAt, isCurrent: current });
  }
  return found;
}
