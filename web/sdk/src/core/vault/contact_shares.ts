// SPDX-License-Identifier: Apache-2.0
/**
 * Shares of a vault's contacts door: made, sealed to trusted contacts, and put together again (docs/formats/contacts.md).
 *
 * Manifest and request are in `share_manifest`. Does not know who the contacts' devices are or who really asks: chains and
 * two people's voices say that.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { decode, encode, Fields, label, mapOf } from "../base/encoding.js";
import { QuorumNotMet, Untrusted, Unusable } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import { seal, type SealingKey } from "../crypto/sealing.js";
import { MAX_SHARES, MIN_QUORUM } from "../crypto/shares.js";
import * as slip39 from "../crypto/slip39.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { Sign1 } from "../signed/cose.js";
import { checkTime, type Header, readBack } from "../signed/payloads.js";
import type { DeviceStatement } from "../signed/statements.js";
import { sealContactsDoor, SECRET_SIZE, SET_SIZE } from "./contacts_door.js";
import type { DoorOwner } from "./door_blob.js";
import {
  indexOf, type Manifest, manifestFromPayload, manifestHash, requestHash, shareCommitment, type ShareRequest,
} from "./share_manifest.js";

/** Of 5: two may be lost, and two alone open nothing. */
export const DEFAULT_K = 3;
const BLIND_SIZE = 32; // bytes: random, so that a commitment tells nobody whether two sets hold one share
const SHARE_SIZE = 42; // bytes of a SLIP-0039 share of 32
const MAX_SHARE = 256; // bytes of the map around it, which is about 100 long
const LETTER = 1; // version of the letter

/** A share that is not what the manifest says this contact holds. contact: their 16-byte user id. */
export class WrongShare extends Untrusted {
  override get name(): string {
    return "WrongShare";
  }

  constructor(
    readonly contact: Bytes,
    reason: string,
  ) {
    super(`share of contact ${hex(contact)}: ${reason}`);
  }
}

/** One contact's share in the clear: the set's id (16), its place in the manifest, the share (42), a blind (32). */
export interface ContactShare {
  readonly setId: Bytes;
  readonly index: number;
  readonly share: SecretBytes;
  readonly blind: Bytes;
}

/** Return dCBOR{1: set, 2: index, 3: share, 4: blind}: what is sealed, and what a contact keeps. */
export function shareToSecret(of: ContactShare): SecretBytes {
  const octets = encode(mapOf({ 1: of.setId, 2: of.index, 3: of.share.reveal(), 4: of.blind }));
  return readBack(new SecretBytes(octets), shareFromSecret);
}

/** Read a share; throws Malformed, also where the SLIP-0039 share inside has another index. */
export function shareFromSecret(octets: SecretBytes): ContactShare {
  const read = Fields.of(decode(octets.reveal(), MAX_SHARE), "contact's share", [1, 2, 3, 4]);
  const share = new SecretBytes(read.octets(3, SHARE_SIZE)), index = read.uint(2, { maximum: MAX_SHARES - 1 });
  // Two places say the index. Were they to differ, the manifest would vouch for one and the arithmetic use the other.
  if (slip39.Share.fromBytes(share).index !== index) throw read.refuse(2, "is not the index of the share");
  return { setId: read.octets(1, SET_SIZE), index, share, blind: read.octets(4, BLIND_SIZE) };
}

/** A new contacts door: its blob, the manifest to be signed by the AIK, and each contact's share by their id in hex. */
export interface Prepared {
  readonly door: Bytes;
  readonly manifest: Manifest;
  readonly shares: ReadonlyMap<string, ContactShare>;
}

/**
 * Make a contacts door whose secret k of the contacts can put together again.
 *
 * header: of the manifest; names the owner. contacts: 16-byte user ids, one share each. Rejects with Unusable unless
 * 2 <= k <= n <= 16, for one contact named twice and for the owner among them.
 */
export async function prepare(
  vaultKey: SecretBytes,
  of: { owner: DoorOwner; header: Header; contacts: readonly Bytes[]; k?: number },
): Promise<Prepared> {
  const { owner, header, contacts, k = DEFAULT_K } = of, n = contacts.length;
  if (!(MIN_QUORUM <= k && k <= n && n <= MAX_SHARES))
    throw new Unusable("trusted contacts are k of n with 2 <= k <= n <= 16");
  // One person with two shares would be half a quorum, and the owner's own share is lost with the devices.
  const names = new Set(contacts.map(hex));
  if (names.size !== n || names.has(hex(owner.user))) throw new Unusable("every trusted contact is another person");
  // A new secret for each door: old shares must not open a door that was made to shut somebody out.
  const secret = new SecretBytes(randomBytes(SECRET_SIZE)), setId = randomBytes(SET_SIZE);
  const parts = await slip39.split(secret, { k, n }), shares = new Map<string, ContactShare>();
  const rows = contacts.map((contact, at): readonly [Bytes, Bytes] => {
    const part = parts[at] as slip39.Share, share = part.toBytes(), blind = randomBytes(BLIND_SIZE);
    shares.set(hex(contact), { setId, index: part.index, share, blind });
    // The manifest is signed and public to the contacts: blinded, it says nothing of the shares.
    return [contact, shareCommitment(blind, share)];
  });
  const door = await sealContactsDoor(vaultKey, { secret, setId }, owner);
  const manifest = { header, setId, k, createdAt: header.issuedAt, rows, doorHash: sha256(door) };
  return { door, manifest, shares };
}

/**
 * Throw WrongShare, naming the contact, unless this is their share of exactly this set.
 *
 * Shares of another set, and so of another epoch of the vault, are refused here before any arithmetic.
 */
export function checkShare(manifest: Manifest, contact: Bytes, share: ContactShare): void {
  // In this order, from who to what: the first thing that is wrong is what the owner hears about this contact.
  const at = indexOf(manifest, contact), row = manifest.rows[at];
  if (row === undefined) throw new WrongShare(contact, "they are not named in the manifest");
  if (!equal(share.setId, manifest.setId))
    throw new WrongShare(contact, "it is of another set, made earlier or later than this door");
  if (share.index !== at) throw new WrongShare(contact, "it has another contact's place");
  // Before any arithmetic: one wrong share spoils the secret and afterwards nobody can tell whose it was.
  if (!equal(shareCommitment(share.blind, share.share), row[1]))
    throw new WrongShare(contact, "it is not the share that the manifest commits to");
}

const shareInfo = (manifest: Manifest, contact: Bytes, device: Bytes): Bytes =>
  label("share", manifestHash(manifest), contact, device);
// The hash has the request's key, device and set: an answer cannot be carried over to another request.
const answerInfo = (request: ShareRequest, contact: Bytes): Bytes =>
  label("share-answer", requestHash(request), contact);

/**
 * Return the letter that brings a contact's share, and the signed manifest, to one of their devices.
 *
 * statement: the manifest as signed by the owner's AIK. `to` is active in the contact's chain, which the caller has
 * checked. Rejects with Untrusted when it is not that contact's, and a RangeError when the statement is not the manifest's
 * (the caller's mistake).
 */
export async function sealShare(
  share: ContactShare,
  of: { manifest: Manifest; statement: Sign1; contact: Bytes; to: DeviceStatement },
): Promise<Bytes> {
  const { manifest, statement, contact, to } = of;
  // The contact keeps share and manifest together, and checks the one by the other.
  if (!equal(statement.payloadHash, manifestHash(manifest)))
    throw new RangeError("another manifest was signed than the one given");
  // Sealed to a device, not to a person: the owner would otherwise give a share to whoever the server says it is.
  if (!equal(to.header.tenant, manifest.header.tenant) || !equal(to.header.user, contact))
    throw new Untrusted("the device is not this contact's");
  const sealed = await seal(shareToSecret(share), to.sealingKey, shareInfo(manifest, contact, to.header.device));
  return encode(mapOf({ 1: LETTER, 2: statement.encode(), 3: sealed }));
}

/** A letter as a contact's device receives it. manifest is read, and trusted by nobody yet. */
export class ShareLetter {
  private constructor(
    readonly statement: Sign1,
    readonly manifest: Manifest,
    private readonly sealed: Bytes,
  ) {}

  /** Read a letter; throws Malformed. The statement is then verified under the owner's AIK. */
  static parse(letter: Uint8Array): ShareLetter {
    const read = Fields.of(decode(letter), "share letter", [1, 2, 3]);
    read.uint(1, { minimum: LETTER, maximum: LETTER });
    const statement = Sign1.parse(read.octets(2));
    return new ShareLetter(statement, manifestFromPayload(statement.payload), read.octets(3, undefined, { maximum: 4096 }));
  }

  /**
   * Return the share sealed to this device (16 bytes) of this contact (16 bytes).
   *
   * Rejects with UnwrapFailed, Malformed, or WrongShare when it is not what the manifest says.
   */
  async open(contact: Bytes, device: Bytes, key: SealingKey): Promise<ContactShare> {
    // Contact and device in it: a letter that the server carries to another device does not open there.
    const share = shareFromSecret(await key.open(this.sealed, shareInfo(this.manifest, contact, device)));
    // Now and not when it is needed: a wrong share found years later can no longer be replaced.
    checkShare(this.manifest, contact, share);
    return share;
  }
}

/**
 * Return the share, sealed again to the key of a request whose six groups of digits the contact has compared.
 *
 * Rejects with Expired; Untrusted when the request is not by the manifest's owner or not for this manifest; WrongShare when
 * the share is not of it.
 */
export async function answerRequest(
  share: ContactShare,
  of: { request: ShareRequest; manifest: Manifest; contact: Bytes; now: number },
): Promise<Bytes> {
  // An old request would let whoever kept its key collect shares long after the talk.
  checkTime(of.request.header, of.now);
  // For this owner and this set: digits that were compared for one request must not bring out another share.
  requireSame(of.request, of.manifest);
  checkShare(of.manifest, of.contact, share);
  return seal(shareToSecret(share), of.request.key, answerInfo(of.request, of.contact));
}

/** Return the share that a contact sent to the request's own key. Rejects with UnwrapFailed, Malformed or WrongShare. */
export async function openAnswer(
  sealed: Uint8Array,
  of: { request: ShareRequest; manifest: Manifest; contact: Bytes; key: SealingKey },
): Promise<ContactShare> {
  requireSame(of.request, of.manifest);
  const share = shareFromSecret(await of.key.open(sealed, answerInfo(of.request, of.contact)));
  checkShare(of.manifest, of.contact, share);
  return share;
}

/**
 * Return the 32-byte secret S of the contacts door, from k or more shares by contact.
 *
 * Rejects with WrongShare for the first that is not what the manifest says (leave it out and try again), QuorumNotMet for
 * fewer than k, UnwrapFailed when shares that all match do not add up: then the set was made wrong.
 */
export async function combine(
  manifest: Manifest,
  shares: readonly (readonly [contact: Bytes, share: ContactShare])[],
): Promise<SecretBytes> {
  for (const [contact, share] of shares) checkShare(manifest, contact, share);
  // After the shares were checked: k wrong ones are not a quorum.
  if (shares.length < manifest.k)
    throw new QuorumNotMet(`${shares.length} of the ${manifest.k} shares that are needed`);
  return slip39.combine(shares.map(([, { share }]) => slip39.Share.fromBytes(share)));
}

function requireSame(request: ShareRequest, manifest: Manifest): void {
  const isOwners = equal(request.header.tenant, manifest.header.tenant) && equal(request.header.user, manifest.header.user);
  if (!isOwners || !equal(request.manifestHash, manifestHash(manifest)))
    throw new Untrusted("the request asks for shares of another person's, or of another set");
}
