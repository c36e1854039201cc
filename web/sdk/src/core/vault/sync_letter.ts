// SPDX-License-Identifier: Apache-2.0
/**
 * The letter that gives the vault key from one device of a user to another.
 *
 * docs/formats/pairing.md "Sync letter" (statement `sync`, kinds 2 and 3). Does not decide who may have it: the sender has
 * met the new device, or found it active in its own chain.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, label, mapOf, type Value } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import { seal, type SealingKey } from "../crypto/sealing.js";
import { KEY_SIZE } from "../crypto/wrapping.js";
import { Sign1, sign, type Signer } from "../signed/cose.js";
import { HASH_SIZE, type Header, readBack, requireDevice } from "../signed/payloads.js";
import { type Sync, syncFromPayload, type SyncKind, syncToPayload } from "../signed/statements.js";

/** Bytes. The pairing request's nonce, or as many of a statement's hash: docs/formats/pairing.md, "Sync letter". */
export const NONCE_SIZE = 16;
/** Characters: a head with one signature has under 300. */
export const MAX_CHECKPOINT = 4096;
const VERSION = 1; // field 1 of letter and contents

/** The key of the officers' section, its epoch, and the version below which no section is taken. */
export interface OfficersKey {
  /** 32 bytes. */
  readonly key: SecretBytes;
  readonly epoch: number;
  readonly version: number;
}

/** Return [key, epoch, version]. */
export function officersKeyRow(of: OfficersKey): Encodable[] {
  return [of.key.reveal(), of.epoch, of.version];
}

/** Read the row; throws Malformed. */
export function officersKeyFromRow(value: Value): OfficersKey {
  const row = Fields.ofRow(value, "officers' section's key", 3);
  return {
    key: new SecretBytes(row.octets(0, KEY_SIZE)),
    epoch: row.uint(1, { minimum: 1 }),
    version: row.uint(2, { minimum: 1 }),
  };
}

/** What a device needs to carry on. */
export interface DeviceSync {
  /** 32 bytes, of `epoch`. */
  readonly vaultKey: SecretBytes;
  readonly epoch: number;
  /** Of the vault when this was written, below which no vault is taken. */
  readonly version: number;
  /** Of the log of keys, "" for none. */
  readonly checkpoint: string;
  /** 16 bytes: that of the pairing request, or the first of the receiving device's statement hash where there was none. */
  readonly nonce: Bytes;
  /** Where the person gave it along, the key of their officers' section. */
  readonly officers?: OfficersKey | undefined;
}

/** Return dCBOR{1: 1, 2: VK, 3: epoch, 4: version, 5: checkpoint, 6: nonce, 7: officers when given along}. */
export function deviceSyncToSecret(of: DeviceSync): SecretBytes {
  const fields = { 1: VERSION, 2: of.vaultKey.reveal(), 3: of.epoch, 4: of.version, 5: of.checkpoint, 6: of.nonce };
  const octets = encode(mapOf({ ...fields, 7: of.officers && officersKeyRow(of.officers) }));
  return readBack(new SecretBytes(octets), deviceSyncFromSecret);
}

/** Read the contents; throws Malformed. */
export function deviceSyncFromSecret(octets: SecretBytes): DeviceSync {
  const read = Fields.of(decode(octets.reveal()), "device sync", [1, 2, 3, 4, 5, 6], [7]);
  read.uint(1, { minimum: VERSION, maximum: VERSION });
  return {
    vaultKey: new SecretBytes(read.octets(2, KEY_SIZE)),
    epoch: read.uint(3),
    version: read.uint(4),
    checkpoint: read.text(5, { maximum: MAX_CHECKPOINT }),
    nonce: read.octets(6, NONCE_SIZE),
    officers: read.has(7) ? officersKeyFromRow(read.value(7)) : undefined,
  };
}

/**
 * Sign the contents as the device of `header` and seal them to the X-Wing key `to`; returns the letter.
 *
 * kind: DEVICE_DOOR, with the pairing request's hash; or DEVICE_TO_DEVICE, with the receiving device's statement hash.
 * head: of the sender's chain, in which the receiver is listed. Both hashes 32 bytes. Rejects with a RangeError for a
 * header that names no device, and contents that no device would take (the caller's mistakes).
 */
export async function sealSync(
  contents: DeviceSync,
  of: { header: Header; kind: SyncKind; key: Signer; to: PublicKey; requestHash: Bytes; head: Bytes },
): Promise<Bytes> {
  readBack(of.header, (said) => requireDevice(said, "sync letter"));
  const secret = deviceSyncToSecret(contents);
  // Only the hash is signed: the statement may be shown to others as evidence, and the vault key may not.
  const statement = { header: of.header, kind: of.kind, blobHash: sha256(secret.reveal()), version: contents.version };
  const signed = await sign(syncToPayload(statement), "sync", of.key);
  // The signature is inside: whoever can seal to this key could otherwise sign for nobody, and be believed.
  const plaintext = new SecretBytes(encode(mapOf({ 1: signed.encode(), 2: secret.reveal() })));
  return encode(mapOf({ 1: VERSION, 2: of.head, 3: await seal(plaintext, of.to, info(of.requestHash, of.head)) }));
}

/** A letter that this device could open. */
export class SyncLetter {
  private constructor(
    /** The sender's chain head, 32 bytes. */
    readonly head: Bytes,
    private readonly statement: Sign1,
    private readonly sync: Sync,
    private readonly secret: SecretBytes,
  ) {}

  /** Who says it wrote it. */
  get header(): Header {
    return this.sync.header;
  }

  /** Open a letter with the key it was sealed to. Rejects with Malformed or UnwrapFailed. */
  static async open(letter: Uint8Array, of: { key: SealingKey; requestHash: Bytes }): Promise<SyncLetter> {
    const read = Fields.of(decode(letter), "sync letter", [1, 2, 3]);
    read.uint(1, { minimum: VERSION, maximum: VERSION });
    // Outside the seal and inside its info: the receiver can look the head up first, and nobody can exchange it.
    const head = read.octets(2, HASH_SIZE);
    const plaintext = await of.key.open(read.octets(3), info(of.requestHash, head));
    const inner = Fields.of(decode(plaintext.reveal()), "sync letter, inside", [1, 2]);
    const statement = Sign1.parse(inner.octets(1));
    const sync = syncFromPayload(statement.payload);
    requireDevice(sync.header, "sync letter");
    return new SyncLetter(head, statement, sync, new SecretBytes(inner.octets(2)));
  }

  /**
   * Return the contents, when the device that wrote them has this signing key and wrote them for us.
   *
   * The caller takes the key from the device statement of `header.device`, active in its own chain, in which `head`
   * stands. Rejects with InvalidSignature, Untrusted for another kind of sync or another nonce, Malformed.
   */
  async verify(signingKey: PublicKey, of: { kind: SyncKind; nonce: Bytes }): Promise<DeviceSync> {
    // Sealing says nothing of who sealed, so the signature decides; only then is the content even read.
    await this.statement.verify(signingKey, "sync");
    if (this.sync.kind !== of.kind || !equal(this.sync.blobHash, sha256(this.secret.reveal())))
      throw new Untrusted("the letter is not the sync that its statement names");
    const contents = deviceSyncFromSecret(this.secret);
    // Sealing says nothing of the sender: another receiver could have passed on what was signed for them.
    if (!equal(contents.nonce, of.nonce))
      throw new Untrusted("the letter was written for another device or another pairing");
    // The signed number is the one below which no vault is taken. Two numbers would leave it to a reader which one that is.
    if (contents.version !== this.sync.version) throw new Malformed("sync letter: two versions");
    return contents;
  }
}

function info(requestHash: Bytes, head: Bytes): Bytes {
  // A letter for another pairing, or of another state of the chain, does not open.
  return label("sync", requestHash, head);
}
