// SPDX-License-Identifier: Apache-2.0
/**
 * What the vault holds: written to bytes, checked against the account chain, and merged with what this device knows.
 *
 * docs/formats/keyring.md. Does not encrypt, fetch or store; `vault` does. What is one device's alone (its seeds, pre-keys,
 * sessions) is not in it.
 */
import { type Bytes, compare, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { decode, encode, Fields, MAX_VAULT } from "../../core/base/encoding.js";
import { HoldfastError, Malformed } from "../../core/base/errors.js";
import {
  at, encodeRow, layout, mapping, nested, octets, openMap, sealMap, secret, several, text, uint,
} from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { SigningKey } from "../../core/crypto/keys.js";
import { signingKind } from "../../core/crypto/suites.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { Sign1 } from "../../core/signed/cose.js";
import { type Consent, consentFromPayload, isLaterConsent } from "../../core/signed/statements.js";
import { TrustRefused } from "../errors.js";
import * as keyLog from "../identity/key_log.js";
import type { Account } from "../profile/account.js";
import { type Contact, CONTACT_ROW, type Generation, GENERATION } from "../profile/state.js";

/** docs/formats/keyring.md. */
export const FORMAT = 2;
// Rows of the store that every device of the person keeps: dCBOR arrays whose first item is the time of writing.
/** Rows: a device's name, by its id. */
export const KNOWN_DEVICE = "known-device";
/** Rows: a share held for somebody, by owner and set. */
export const HELD_SHARE = "held-share";
/** The row of the trusted contacts of now. */
export const TRUSTED_SET = "trusted-set";
/** Rows: what every device knows of a door, by its kind. */
export const DOOR = "door";
/** The kinds of rows that the vault carries. */
export const CARRIED: readonly string[] = [KNOWN_DEVICE, HELD_SHARE, TRUSTED_SET, DOOR];
// Of the vault's 1 MiB: the keys and what else is in it always have the other half.
const CONTACTS_OCTETS = 512 * 1024;
const COMPARE = "Compare your chain on two devices of yours, and tell your officers.";

/** A row of the profile that the vault carries to the person's other devices, as it lies in the store. */
export interface CarriedRow {
  readonly kind: string;
  readonly key: Bytes;
  readonly value: SecretBytes;
}

const CARRIED_ROW = layout<CarriedRow>("keyring row", { kind: text(), key: octets(), value: secret() });

/** A vault's contents as read; nothing in it is believed before `take` held it to the account chain. */
export interface Contents {
  readonly version: number;
  /** The AIK's, and while a rotation is under way the next one's. */
  readonly identitySeeds: SecretBytes[];
  readonly generations: Generation[];
  readonly contacts: Contact[];
  /** 32 bytes, of the chain as the writer knew it. */
  readonly head: Bytes;
  readonly checkpoints: Map<string, string>;
  readonly consent: Bytes;
  readonly rows: CarriedRow[];
}

const KEYRING = layout<Contents>("keyring", {
  version: at(1, uint({ minimum: FORMAT, maximum: FORMAT })),
  identitySeeds: at(2, several(secret(32), { minimum: 1, maximum: 2 })),
  generations: at(3, several(nested({ ...GENERATION, name: "archive key" }))),
  contacts: at(4, several(nested({ ...CONTACT_ROW, name: "contact" }))),
  head: at(5, octets(32)),
  checkpoints: at(6, mapping(text(), text({ maximum: 4096 }))),
  consent: at(7, octets()),
  rows: at(8, several(nested(CARRIED_ROW))),
});

/** Return the bytes: dCBOR{1: 2, 2: [seed…], 3: archive keys, 4: contacts, 5: head, 6..8}. */
export function contentsToSecret(of: Contents): SecretBytes {
  return sealMap(KEYRING, of);
}

/** Read the bytes of an opened vault. Throws Malformed. */
export function contentsFromSecret(kept: SecretBytes): Contents {
  const contents = openMap(KEYRING, kept);
  for (const row of contents.rows) {
    if (!CARRIED.includes(row.kind))
      throw new Malformed("keyring row: field 0 is not a kind of row that a vault carries");
    writtenAt(row.value);
  }
  return contents;
}

/** Return when a carried row was written (UTC seconds). Throws Malformed for one that does not begin with a time. */
export function writtenAt(value: SecretBytes): number {
  const row = decode(value.reveal(), MAX_VAULT);
  if (!Array.isArray(row) || row.length === 0) throw new Malformed("keyring row: not an array");
  return Fields.ofRow(row, "keyring row", row.length).uint(0);
}

/**
 * Collect what this device would write into the vault.
 *
 * nextIdentity: the seed to which the AIK is about to be rotated.
 */
export async function of(account: Account, { nextIdentity }: { nextIdentity?: SecretBytes } = {}): Promise<Contents> {
  const { state, store } = account, rows: CarriedRow[] = [];
  for (const kind of CARRIED)
    for (const key of (await store.keys(kind)).sort(compare)) {
      const value = await store.get(kind, key);
      if (value !== undefined) rows.push({ kind, key, value });
    }
  const chain = await account.chain(), own = (await account.identityKey()).seed();
  return {
    version: FORMAT,
    identitySeeds: nextIdentity === undefined ? [own] : [own, nextIdentity],
    // A key that is not announced yet is this device's own affair: its number may go to another device.
    generations: state.generations.filter((one) => isNamed(chain, one)),
    contacts: fitting(state.contacts.values()),
    head: headOf(chain),
    checkpoints: new Map(state.trust.checkpoints),
    consent: state.consent,
    rows,
  };
}

/** Whether the account chain names an archive key: its number and its commitment. */
function isNamed(state: ChainState, generation: Generation): boolean {
  const announced = state.generations.find((one) => one.generation === generation.number);
  return announced !== undefined && equal(announced.commitment, generation.commitment);
}

/**
 * Return the contacts that the vault has room for, by user: those that were compared first, then the shortest.
 *
 * Anybody of the tenant becomes a contact by one message, with a chain as long as they like: it must not keep the keys out
 * of the vault. Who is left out stays pinned on this device.
 */
function fitting(contacts: Iterable<Contact>): Contact[] {
  const sized = [...contacts].map((contact) => ({ size: encode(encodeRow(CONTACT_ROW, contact)).length, contact }));
  const isLast = (contact: Contact): number => Number(contact.verified.length === 0);
  sized.sort(
    (one, other) =>
      isLast(one.contact) - isLast(other.contact) ||
      one.size - other.size ||
      compare(one.contact.user, other.contact.user),
  );
  let room = CONTACTS_OCTETS;
  const found: Contact[] = [];
  for (const { size, contact } of sized)
    if (size <= room) {
      room -= size;
      found.push(contact);
    }
  return found.sort((one, other) => compare(one.user, other.user));
}

/** Return the seed that is the account chain's AIK. Rejects with TrustRefused when the contents have another. */
export async function identityIn(contents: Contents, account: Account, state: ChainState): Promise<SecretBytes> {
  const seed = await findIdentity(contents, account, state);
  if (seed === undefined)
    throw new TrustRefused("The vault holds another identity key than the account chain names.", {
      wayOut: "Recover by your phrase, which can sign for the account itself: client.recover.byPhrase()",
    });
  return seed;
}

/** Return the seed that is the account chain's AIK, if the contents have it. */
export async function findIdentity(
  contents: Contents,
  account: Account,
  state: ChainState,
): Promise<SecretBytes | undefined> {
  const kind = signingKind(account.deviceStatement.suite);
  for (const seed of contents.identitySeeds)
    if ((await SigningKey.fromSeed(kind, seed)).public.equals(state.aik)) return seed;
  return undefined;
}

/**
 * Merge what an opened vault holds into this device; returns the contacts (16 bytes each) about whom both differ.
 *
 * The rules: archive keys are united, each held to the account chain's commitment, and none is ever dropped; of two pins
 * of one contact the longer counts if it continues the shorter, with the mark of a comparison from either, and otherwise
 * this device's own; checkpoints seen here stay; of two consents or two rows under one key the later counts. Rejects with
 * TrustRefused, and nothing changed, for an identity key, a chain or an archive key that the account chain does not name.
 */
export async function take(account: Account, contents: Contents, state: ChainState): Promise<Bytes[]> {
  const seed = await identityIn(contents, account, state);
  if (!state.hashes.some((hash) => equal(hash, contents.head)))
    throw new TrustRefused("The vault was written on another account chain than the one shown now.", {
      wayOut: COMPARE,
    });
  const generations = unite(account.state.generations, contents.generations, state);
  const [contacts, forked] = longest(account.state.contacts, contents.contacts);
  await account.store.transaction(async () => {
    const own = account.state;
    own.identitySeed = seed;
    own.generations = generations;
    own.contacts = contacts;
    own.consent = laterConsent(own.consent, contents.consent);
    for (const [origin, checkpoint] of contents.checkpoints) {
      const seen = own.trust.checkpoints.get(origin);
      if (seen === undefined) own.trust.checkpoints.set(origin, checkpoint);
      // Both must be of one log; the follower compares them when it next may ask the server.
      else if (seen !== checkpoint) await keyLog.hear(account, checkpoint);
    }
    await takeRows(account, contents.rows);
    await account.save();
  });
  return forked;
}

/**
 * Take nothing but archive keys that the chain names; returns the numbers of those that were new here.
 *
 * For contents whose writer is not to be believed in anything else: commitments vouch for these whoever brings them.
 */
export async function takeArchiveKeys(account: Account, contents: Contents, state: ChainState): Promise<number[]> {
  const known = new Set(account.state.generations.map((one) => one.number));
  account.state.generations = unite(account.state.generations, contents.generations, state);
  await account.save();
  return account.state.generations.map((one) => one.number).filter((number) => !known.has(number));
}

/** Return the archive generations that the chain announces and this device does not hold. */
export function missing(account: Account, state: ChainState): number[] {
  const held = new Set(account.state.generations.map((one) => one.number));
  return state.generations.map((one) => one.generation).filter((number) => !held.has(number));
}

function unite(own: readonly Generation[], brought: readonly Generation[], state: ChainState): Generation[] {
  const united = new Map(own.map((generation) => [generation.number, generation]));
  // All of them before any: those of this device's own are written to.
  for (const generation of brought)
    if (!isNamed(state, generation))
      throw new TrustRefused(
        `The vault holds an archive key (generation ${generation.number}) that the account chain does not name.`,
        { wayOut: COMPARE },
      );
  for (const generation of brought) {
    const known = united.get(generation.number) ?? generation;
    // A generation of this device's own making that lost the race for its number was never used.
    const isOwn = equal(known.commitment, generation.commitment);
    united.set(generation.number, isOwn ? known : generation);
    if (!isOwn) continue;
    if (known.depositId.length === 0) {
      known.depositId = generation.depositId;
      known.recordHash = generation.recordHash;
    }
    known.isExposed ||= generation.isExposed;
  }
  return [...united.values()].sort((one, other) => one.number - other.number);
}

function longest(
  own: ReadonlyMap<string, Contact>,
  brought: readonly Contact[],
): [united: Map<string, Contact>, forked: Bytes[]] {
  const united = new Map(own), forked: Bytes[] = [];
  for (const contact of brought) {
    const known = united.get(hex(contact.user));
    if (known === undefined) {
      united.set(hex(contact.user), contact);
      continue;
    }
    const shared = Math.min(known.entries.length, contact.entries.length);
    const isOne = known.entries.slice(0, shared).every((entry, index) => equal(entry, contact.entries[index] as Bytes));
    if (!isOne) {
      forked.push(contact.user);
      continue;
    }
    const [longer, shorter] = contact.entries.length > known.entries.length ? [contact, known] : [known, contact];
    if (longer.verified.length === 0) longer.verified = stillVerified(shorter, longer);
    longer.suite ||= shorter.suite;
    united.set(hex(contact.user), longer);
  }
  return [united, forked];
}

/** Return the mark of a comparison that two people made, unless the account was begun again since. */
function stillVerified(shorter: Contact, longer: Contact): Bytes {
  const since = longer.entries.slice(shorter.entries.length).map((entry) => Entry.parse(entry));
  return since.some((entry) => entry.body.type === 8) ? EMPTY : shorter.verified;
}

function laterConsent(own: Bytes, brought: Bytes): Bytes {
  if (own.length === 0 || brought.length === 0) return own.length === 0 ? brought : own;
  let said: Consent;
  try {
    said = consentFromPayload(Sign1.parse(brought).payload);
  } catch (error) {
    if (error instanceof HoldfastError) return own;
    throw error;
  }
  return isLaterConsent(said, consentFromPayload(Sign1.parse(own).payload)) ? brought : own;
}

/**
 * Return the time to write a carried row with: now, and later than what it follows, though a clock was ahead then.
 *
 * Devices keep the later of two rows: what is done now must not give way to what was dated into the future.
 */
export async function nextStamp(account: Account, kind: string, key: Bytes): Promise<number> {
  const known = await account.store.get(kind, key);
  return Math.max(account.api.clock.earliest(), known === undefined ? 0 : writtenAt(known) + 1);
}

async function takeRows(account: Account, rows: readonly CarriedRow[]): Promise<void> {
  for (const row of rows) {
    const known = await account.store.get(row.kind, row.key);
    if (known === undefined || writtenAt(row.value) > writtenAt(known))
      await account.store.put(row.kind, row.key, row.value);
  }
}
