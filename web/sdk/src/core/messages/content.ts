// SPDX-License-Identifier: Apache-2.0
/**
 * What stands inside a message's padding, and content too large for one (docs/formats/content.md).
 *
 * Does not encrypt messages: sessions do. Nothing in a content is used as an address or opened by itself.
 */
import { type Bytes, compare, concat, EMPTY, equal } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, label, mapOf, MAX_BLOB } from "../base/encoding.js";
import { HoldfastError, UnwrapFailed } from "../base/errors.js";
import { pad, unpad } from "../base/padding.js";
import { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { decrypt, encrypt, KEY_SIZE, NONCE_SIZE } from "../crypto/wrapping.js";
import { HASH_SIZE, ID_SIZE, readBack, VERSION } from "../signed/payloads.js";

/** Bytes. A body is encrypted for each device anew. Above this it is sealed once, and devices get a reference. */
export const MAX_BODY = 4 * 1024;
/** Message ids in one acknowledgement: as many as fit a body. */
export const MAX_ACKNOWLEDGED = 256;
/** Characters: a checkpoint has a few hundred; room for witnesses' signatures. */
export const MAX_CHECKPOINT = 4 * 1024;
/** Bytes. Padded and tagged, this is still below the 1 MiB that the server takes. */
export const MAX_LARGE = 1_000_000;
const MAX_TIME = 253_402_300_799; // the end of the year 9999, beyond which no calendar goes
const NONCE = new Uint8Array(NONCE_SIZE); // one key seals one content, so that its nonce may be fixed
// The aad says what the key is for. Conversation and device are bound by the session that carries the reference.
const CONTENT = label("content");

/** Field 2 of a content: what its body is. */
export const ContentKind = { BYTES: 1, LARGE: 2, MOVED: 3, GREETING: 4, ACKNOWLEDGEMENT: 5 } as const;
export type ContentKind = (typeof ContentKind)[keyof typeof ContentKind];

/** What a message carries in place of large content. hash: SHA-256 of the ciphertext. size: of the plaintext. */
export interface LargeReference {
  readonly key: SecretBytes;
  readonly hash: Bytes;
  readonly size: number;
}

/**
 * Encrypt up to 1,000,000 bytes under a key of its own; returns the reference, and the ciphertext to upload.
 *
 * The same ciphertext serves all devices; each gets the reference through its own session.
 */
export async function sealLarge(plaintext: Uint8Array): Promise<[LargeReference, Bytes]> {
  if (plaintext.length > MAX_LARGE) throw new RangeError("large content is at most 1,000,000 bytes");
  // Random and never the session's: the reference goes to devices whose sessions share no secret.
  const key = new SecretBytes(randomBytes(KEY_SIZE));
  const ciphertext = await encrypt(new SecretBytes(pad(plaintext)), { key, nonce: NONCE, aad: CONTENT });
  return [{ key, hash: sha256(ciphertext), size: plaintext.length }, ciphertext];
}

/**
 * Undo `sealLarge`. Rejects with UnwrapFailed when the server sent anything but what the sender sealed.
 *
 * The hash is what the sender itself said: every recipient has the key, and one of them may side with the server.
 */
export async function openLarge(ciphertext: Uint8Array, reference: LargeReference): Promise<Bytes> {
  const refusal = new UnwrapFailed("content does not open");
  // First: a megabyte that is not the sender's is not decrypted. GCM's tag would hold for a forgery by any recipient.
  if (!equal(sha256(ciphertext), reference.hash)) throw refusal;
  try {
    const opened = await decrypt(ciphertext, { key: reference.key, nonce: NONCE, aad: CONTENT });
    const plaintext = unpad(opened.reveal());
    // Last, as it counts plaintext: what the message announced must be what has come.
    if (plaintext.length === reference.size) return plaintext;
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
  }
  throw refusal;
}

/** One message's content. */
export interface Content {
  readonly kind: ContentKind;
  /** 16 random bytes, the same in every copy. */
  readonly messageId: Bytes;
  /** UTC seconds by the sender. */
  readonly sentAt: number;
  /**
   * Up to 4 KiB of anything for BYTES, a reference for LARGE, the sender's new 32-byte chain head for MOVED, nothing for
   * GREETING, up to 256 names of messages in ascending order for ACKNOWLEDGEMENT.
   */
  readonly body: Bytes | LargeReference;
  /** The user it is with, only in copies to the sender's own devices. */
  readonly conversation?: Bytes | undefined;
  /** The sender's newest of the key log, to be compared. */
  readonly checkpoint?: string | undefined;
  /** The sender's, 32 bytes. */
  readonly chainHead?: Bytes | undefined;
}

/** What the message is kept, recognised and acknowledged under, 16 bytes: its id, in a copy with the user. */
export function nameOf(content: Content): Bytes {
  // An app may give one id to what it writes to several people, whose copies all go to the same own devices.
  if (content.conversation === undefined) return content.messageId;
  return sha256(label("copy", content.messageId, content.conversation)).slice(0, ID_SIZE);
}

/** The names of the messages that an acknowledgement is of, 16 bytes each; none for every other kind. */
export function acknowledged(content: Content): Bytes[] {
  return content.kind === ContentKind.ACKNOWLEDGEMENT ? idsOf(content.body as Bytes) : [];
}

/** Return the body that names up to 256 messages (16 bytes each), the same whatever their order. */
export function acknowledgementBody(messageIds: readonly Bytes[]): Bytes {
  const sorted = [...messageIds].sort(compare);
  return concat(...sorted.filter((id, at) => at === 0 || !equal(id, sorted[at - 1] as Bytes)));
}

function idsOf(body: Bytes): Bytes[] {
  return Array.from({ length: Math.ceil(body.length / ID_SIZE) }, (_, at) => body.slice(16 * at, 16 * (at + 1)));
}

/** Whether a body is of whole ids, each once and in order: one set of messages has one form. */
function isIds(body: Bytes): boolean {
  const ids = idsOf(body);
  return body.length % ID_SIZE === 0 && ids.every((id, at) => at === 0 || compare(ids[at - 1] as Bytes, id) < 0);
}

// bytes, least and most. A head has one size, and a greeting carries nothing that could be read as a message.
const BODY_SIZES: Readonly<Record<Exclude<ContentKind, 2>, readonly [number, number]>> = {
  [ContentKind.BYTES]: [0, MAX_BODY],
  [ContentKind.MOVED]: [HASH_SIZE, HASH_SIZE],
  [ContentKind.GREETING]: [0, 0],
  [ContentKind.ACKNOWLEDGEMENT]: [0, MAX_ACKNOWLEDGED * ID_SIZE],
};

/** Return the dCBOR map that goes into a message. It holds the message: a plaintext like any other. */
export function encodeContent(of: Content): Bytes {
  const { body } = of;
  const written: Encodable =
    body instanceof Uint8Array ? body : mapOf({ 1: body.key.reveal(), 2: body.hash, 3: body.size });
  const fields = { 1: VERSION, 2: of.kind, 3: of.messageId, 4: of.sentAt, 5: written };
  return readBack(encode(mapOf({ ...fields, 6: of.conversation, 7: of.checkpoint, 8: of.chainHead })), decodeContent);
}

/** Undo `encodeContent`. Throws Malformed for another version or kind, an unknown field, a body of another size. */
export function decodeContent(data: Uint8Array): Content {
  const fields = Fields.of(decode(data, MAX_BLOB), "content", [1, 2, 3, 4, 5], [6, 7, 8]);
  if (fields.uint(1) !== VERSION) throw fields.refuse(1, "is not version 1");
  const kind = fields.uint(2) as ContentKind;
  if (!Object.values(ContentKind).includes(kind)) throw fields.refuse(2, "is not a known kind");
  const body = kind === ContentKind.LARGE ? readReference(fields) : readBody(fields, kind);
  return {
    kind,
    messageId: fields.octets(3, ID_SIZE),
    sentAt: fields.uint(4, { maximum: MAX_TIME }),
    body,
    conversation: fields.has(6) ? fields.octets(6, ID_SIZE) : undefined,
    checkpoint: fields.has(7) ? fields.text(7, { maximum: MAX_CHECKPOINT }) : undefined,
    chainHead: fields.has(8) ? fields.octets(8, HASH_SIZE) : undefined,
  };
}

function readBody(fields: Fields, kind: Exclude<ContentKind, 2>): Bytes {
  const [least, most] = BODY_SIZES[kind];
  const body = fields.octets(5, undefined, { maximum: most });
  if (body.length < least) throw fields.refuse(5, `is not of ${least} bytes`);
  if (kind === ContentKind.ACKNOWLEDGEMENT && !isIds(body))
    throw fields.refuse(5, "is not of message ids in ascending order");
  return body;
}

function readReference(fields: Fields): LargeReference {
  const body = Fields.of(fields.value(5), "content reference", [1, 2, 3]);
  return {
    key: new SecretBytes(body.octets(1, KEY_SIZE)),
    hash: body.octets(2, HASH_SIZE),
    size: body.uint(3, { maximum: MAX_LARGE }),
  };
}

/** A content without a body. */
export const NO_BODY = EMPTY;
