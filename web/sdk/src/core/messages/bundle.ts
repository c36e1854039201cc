// SPDX-License-Identifier: Apache-2.0
/**
 * Pre-key bundles: making a batch, and checking a whole bundle before anybody uses it (docs/formats/pre-keys.md).
 *
 * Shapes of the statements are in `prekeys`. Derives no secret: the handshake does, with what is verified here.
 */
import { type Bytes, EMPTY, equal, hex } from "../base/bytes.js";
import { encode } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import type { SecretBytes } from "../base/secret.js";
import { AgreementKey, KemKey, type SigningKey } from "../crypto/keys.js";
import { agreementKind, hasKem, Suite } from "../crypto/suites.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { HASH_SIZE, leafHash, root, verifyInclusion } from "../log/merkle.js";
import { sign, type Sign1 } from "../signed/cose.js";
import { checkTime, type Header, ID_SIZE } from "../signed/payloads.js";
import { type DeviceStatement, openDevice } from "../signed/statements.js";
import {
  batchFromPayload, batchToPayload, fromLeaf, MAX_BATCH, type OneTimePreKey, type SignedPreKey, signedPreKeyFromPayload,
  toLeaf,
} from "./prekeys.js";
import type { VerifiedBundle } from "./x3dh.js";

/** The private half of a pre-key, as seeds: dh 32 bytes, kem 64 bytes or none. */
export interface PrivatePreKey {
  readonly keyId: number;
  readonly dh: SecretBytes;
  readonly kem: SecretBytes | undefined;
}

/** Make a fresh pre-key, and its public half. */
export async function generatePreKey(keyId: number, suite: Suite): Promise<[PrivatePreKey, OneTimePreKey]> {
  const dh = await AgreementKey.generate(agreementKind(suite));
  const kem = hasKem(suite) ? await KemKey.generate() : undefined;
  return [
    { keyId, dh: dh.seed(), kem: kem?.seed() },
    { keyId, dh: dh.public, kem: kem?.public },
  ];
}

/** What a device uploads, and what it keeps. leaves: dCBOR array of leaf bytes, as the directory takes it. */
export interface BuiltBatch {
  readonly statement: Sign1;
  readonly leaves: Bytes;
  readonly privateKeys: readonly PrivatePreKey[];
}

/** Make `size` (1 to 100) one-time pre-keys with ascending ids, under one signature. */
export async function buildBatch(
  header: Header,
  of: { suite: Suite; firstKeyId: number; size: number; signingKey: SigningKey },
): Promise<BuiltBatch> {
  if (!(of.size >= 1 && of.size <= MAX_BATCH)) throw new RangeError("a batch has 1 to 100 keys");
  // All at once: each waits for WebCrypto's own threads three times.
  const ids = Array.from({ length: of.size }, (_, at) => of.firstKeyId + at);
  const made = await Promise.all(ids.map((keyId) => generatePreKey(keyId, of.suite)));
  const privateKeys = made.map(([own]) => own), leaves = made.map(([, published]) => toLeaf(published));
  // Ids ascend and all else is of one form: what holds of the first and the last holds of those between.
  for (const leaf of [leaves[0], leaves.at(-1)]) fromLeaf(leaf as Bytes, of.suite);
  // One signature for all: a taker checks it and seven hashes.
  const payload = batchToPayload({
    header,
    suite: of.suite,
    batchId: randomBytes(ID_SIZE),
    size: of.size,
    root: root(leaves.map(leafHash)),
  });
  return { statement: await sign(payload, "prekey", of.signingKey), leaves: encode(leaves), privateKeys };
}

/** Return dCBOR([payload of the batch statement, leaf]): a one-time pre-key's signed bytes. */
export function oneTimeStatement(batch: Bytes, leaf: Bytes): Bytes {
  // Both parts, since the leaf alone says neither whose key it is nor for how long; ids can repeat between devices.
  return encode([batch, leaf]);
}

/** Check a device's signed pre-key. Rejects with InvalidSignature, Malformed, Expired, Untrusted. */
export async function verifySignedPreKey(statement: Sign1, device: DeviceStatement, now: number): Promise<SignedPreKey> {
  await statement.verify(device.signingKey, "prekey");
  const signed = signedPreKeyFromPayload(statement.payload);
  requireOfDevice(signed.header, signed.suite, device);
  checkTime(signed.header, now);
  return signed;
}

function requireOfDevice(header: Header, suite: Suite, { header: own, suite: ownSuite }: DeviceStatement): void {
  // The signature shows the key, the header shows the place: a key moved to another tenant keeps its signatures.
  if (!equal(header.tenant, own.tenant) || !equal(header.user, own.user) || !equal(header.device, own.device))
    throw new Untrusted("a pre-key of another tenant, user or device");
  if (suite !== ownSuite) throw new Untrusted("a pre-key of another suite than its device's");
}

/** A one-time pre-key as it is handed out, with what proves it. */
export interface OneTimePart {
  readonly batch: Sign1;
  readonly leaf: Bytes;
  readonly index: number;
  readonly proof: Bytes;
}

/** A bundle as received. oneTime is undefined when the device has none left. */
export interface PreKeyBundle {
  readonly suite: number;
  readonly chainHead: Bytes;
  readonly deviceStatement: Sign1;
  readonly signedPreKey: Sign1;
  readonly oneTime: OneTimePart | undefined;
}

/** What a verified account chain says of whose it is and which devices are its user's. */
export interface ListedDevices {
  readonly tenant: Bytes;
  readonly user: Bytes;
  /** By the device's id in hex: the hash of the statement that the chain lists. */
  readonly devices: ReadonlyMap<string, Bytes>;
}

/** Tell whether no one-time key came with a bundle: the session starts with less, and says so. */
export function isLastResort(bundle: VerifiedBundle): boolean {
  return bundle.oneTime === undefined;
}

/**
 * Check a claimed bundle of one device of the user whose verified chain this is.
 *
 * device: the 16-byte id that was asked for. pinnedSuite: the contact's known suite, from which only 1→2 and 3→4 are
 * moves. Rejects with InvalidSignature, Malformed, Expired; Untrusted for a device that the chain does not list, another
 * statement than it lists, another tenant or user, a leaf that is not in its batch, a downgrade.
 */
export async function verifyBundle(
  bundle: PreKeyBundle,
  of: { chain: ListedDevices; device: Bytes; now: number; pinnedSuite?: Suite | undefined },
): Promise<VerifiedBundle> {
  // In this order: the device holds its key, it is the one asked for, its owner's chain lists exactly this statement, the
  // suite is no step down, nothing has ended; then the pre-keys under the key so proven. All before any DH: X3DH
  // "Signatures" tells the attack, a server's own pre-key now and the stolen identity key later.
  const { chain, device, now } = of;
  const statement = await openDevice(bundle.deviceStatement);
  const own = statement.header;
  if (!equal(own.tenant, chain.tenant) || !equal(own.user, chain.user) || !equal(own.device, device))
    throw new Untrusted("the bundle is of another tenant, user or device than was asked for");
  // By hash: a device that signs a second statement with other keys has not been accepted with those.
  if (!equal(chain.devices.get(hex(device)) ?? EMPTY, bundle.deviceStatement.payloadHash))
    throw new Untrusted("the account chain does not list this device statement");
  if (bundle.suite !== statement.suite || !isMove(of.pinnedSuite, statement.suite))
    throw new Untrusted("the bundle's suite is not the contact's");
  checkTime(own, now);
  const signed = await verifySignedPreKey(bundle.signedPreKey, statement, now);
  const part = bundle.oneTime;
  return {
    device: statement,
    signedPreKey: signed,
    // "None left" is the server's word and cannot be checked: the session begins, and is marked.
    oneTime: part && (await verifyOneTime(part, statement, now)),
    deviceBytes: bundle.deviceStatement.payload,
    signedPreKeyBytes: bundle.signedPreKey.payload,
    oneTimeBytes: part ? oneTimeStatement(part.batch.payload, part.leaf) : EMPTY,
  };
}

async function verifyOneTime(part: OneTimePart, device: DeviceStatement, now: number): Promise<OneTimePreKey> {
  await part.batch.verify(device.signingKey, "prekey");
  const batch = batchFromPayload(part.batch.payload);
  requireOfDevice(batch.header, batch.suite, device);
  checkTime(batch.header, now);
  // A remainder would be dropped by the slices below: two proofs for one leaf.
  if (part.proof.length % HASH_SIZE !== 0) throw new Malformed("pre-key bundle: the proof is not whole hashes");
  const proof: Bytes[] = [];
  for (let at = 0; at < part.proof.length; at += HASH_SIZE) proof.push(part.proof.slice(at, at + HASH_SIZE));
  verifyInclusion(leafHash(part.leaf), { index: part.index, size: batch.size, proof, expectedRoot: batch.root });
  // Parsed once the leaf is known to be signed, and by the rules of the signed suite, not of what the leaf has.
  return fromLeaf(part.leaf, batch.suite);
}

/** Tell whether a contact whose suite is `pinned` may be met under `offered`: the same, or a move 1→2 or 3→4. */
export function isMove(pinned: Suite | undefined, offered: Suite): boolean {
  // undefined: the first contact, when there is nothing to fall back from.
  return (
    pinned === undefined ||
    pinned === offered ||
    (pinned === Suite.CLASSICAL && offered === Suite.HYBRID) ||
    (pinned === Suite.CLASSICAL_P256 && offered === Suite.HYBRID_P256)
  );
}
