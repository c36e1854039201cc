// SPDX-License-Identifier: Apache-2.0
/**
 * What every door of a vault has in common: the blob that holds a section's key, VK or OK, and whose it is.
 *
 * docs/formats/doors.md (fields 1 to 6, 8, 9, 10) and its committed encryption. Does not know how a door's key comes
 * about; `password_door`, `phrase_door` and `contacts_door` do.
 */
import type { Bytes } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, label, mapOf, type Value } from "../base/encoding.js";
import { UnwrapFailed } from "../base/errors.js";
import type { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { COMMIT_SIZE, CommittedKey, decrypt, encrypt, KEY_SIZE, NONCE_SIZE, TAG_SIZE } from "../crypto/wrapping.js";
import { readBack } from "../signed/payloads.js";
import type { Section } from "./blob.js";

/** Field 1, bound with the rest: there is no older form of a door. */
export const VERSION = 1;
/** Bytes of the blob; a door has about 240. */
export const MAX_DOOR = 1024;

// The numbers of docs/formats/doors.md. 7 is left out: the vault has its version there, and a door has none.
const FORMAT = 1, NAME = 2, METHOD = 3, TENANT = 4, USER = 5, EPOCH = 6, NONCE = 8, COMMIT = 9, CIPHERTEXT = 10;

/** Whose door it is: 16-byte tenant and user, the epoch of the key behind it, and the section that it opens. */
export interface DoorOwner {
  readonly tenant: Bytes;
  readonly user: Bytes;
  readonly epoch: number;
  readonly section: Section;
}

/** Return field 2 of a door: `password`, or `officers-password` for one of the officers' section. */
export function doorKind(owner: Pick<DoorOwner, "section">, name: string): string {
  // A name of its own, so that no door of one section is ever tried as one of the other, whoever relabels it.
  return owner.section === "vault" ? name : `${owner.section}-${name}`;
}

/** Fields 1 to 6: the kind of door, its method (a map of the kind's own) and its owner. */
export class DoorHead {
  constructor(
    readonly kind: string,
    readonly method: Encodable,
    readonly owner: DoorOwner,
  ) {}

  /** Return fields 1 to 6 of the blob, and its nonce where there is one. */
  fields(nonce?: Bytes): Map<number, Encodable> {
    const { tenant, user, epoch } = this.owner;
    return mapOf({
      [FORMAT]: VERSION,
      [NAME]: this.kind,
      [METHOD]: this.method,
      [TENANT]: tenant,
      [USER]: user,
      [EPOCH]: epoch,
      [NONCE]: nonce,
    });
  }

  /** Return K || C of a door whose method gives 32 uniform bytes: info = label("door", SHA-256(fields 1..6)). */
  key(salt: Bytes, ikm: SecretBytes): CommittedKey {
    // Kind, method and owner are in the key itself: cost numbers or salt changed by the server give another key, and a
    // door of another account or epoch does not open.
    return CommittedKey.derive({ salt, ikm, info: label("door", sha256(encode(this.fields()))) });
  }

  /** Return the blob: VK of 32 bytes under K, beside the commitment. Rejects with a RangeError for another length. */
  async seal(vaultKey: SecretBytes, committed: CommittedKey): Promise<Bytes> {
    if (vaultKey.length !== KEY_SIZE) throw new RangeError("a vault key is 32 bytes");
    const nonce = randomBytes(NONCE_SIZE), bound = this.fields(nonce);
    const sealed = await encrypt(vaultKey, { key: committed.key, nonce, aad: encode(bound) });
    const blob = encode(new Map([...bound, [COMMIT, committed.commit()], [CIPHERTEXT, sealed]]));
    return readBack(blob, (octets) => Door.parse(octets, this.kind));
  }
}

/** A door as received: in the format, and not yet opened. */
export class Door {
  private constructor(
    readonly kind: string,
    /** Field 3 as decoded. */
    readonly method: Value,
    /** By its own word, which nothing here goes by. */
    readonly epoch: number,
    private readonly nonce: Bytes,
    private readonly commit: Bytes,
    private readonly sealed: Bytes,
  ) {}

  /** Read a blob of at most 1 KiB that must be a door of `kind`. Throws Malformed. */
  static parse(blob: Uint8Array, kind: string): Door {
    const keys = [FORMAT, NAME, METHOD, TENANT, USER, EPOCH, NONCE, COMMIT, CIPHERTEXT];
    const read = Fields.of(decode(blob, MAX_DOOR), `${kind} door`, keys);
    read.uint(FORMAT, { minimum: VERSION, maximum: VERSION });
    if (read.text(NAME) !== kind) throw read.refuse(NAME, "names another kind of door");
    // Their form is checked and their values are thrown away: what counts is the owner that the caller expects.
    read.octets(TENANT, 16);
    read.octets(USER, 16);
    return new Door(
      kind,
      read.value(METHOD),
      read.uint(EPOCH),
      read.octets(NONCE, NONCE_SIZE),
      read.octets(COMMIT, COMMIT_SIZE),
      read.octets(CIPHERTEXT, KEY_SIZE + TAG_SIZE),
    );
  }

  /** Return fields 1 to 6 under the owner expected: a door of somebody else does not open. */
  head(owner: DoorOwner): DoorHead {
    return new DoorHead(this.kind, this.method, owner);
  }

  /** Return VK by the first of a secret's keys that opens the door. Rejects with UnwrapFailed when none does. */
  async openBy(owner: DoorOwner, keys: Iterable<Promise<CommittedKey>> | AsyncIterable<CommittedKey>): Promise<SecretBytes> {
    let refused = new UnwrapFailed("no key was tried");
    for await (const committed of keys)
      try {
        return await this.open(owner, committed);
      } catch (error) {
        if (!(error instanceof UnwrapFailed)) throw error;
        refused = error;
      }
    throw refused;
  }

  /** Return VK. Rejects with UnwrapFailed for a wrong key, tampering and another owner, without saying which. */
  async open(owner: DoorOwner, committed: CommittedKey): Promise<SecretBytes> {
    try {
      // First of all the commitment: GCM alone would open one ciphertext under two keys.
      committed.require(this.commit);
      const aad = encode(this.head(owner).fields(this.nonce));
      return await decrypt(this.sealed, { key: committed.key, nonce: this.nonce, aad });
    } catch (error) {
      if (!(error instanceof UnwrapFailed)) throw error;
      throw new UnwrapFailed("the door does not open: wrong secret, or not this account's door");
    }
  }
}
