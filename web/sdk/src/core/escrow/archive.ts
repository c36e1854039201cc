// SPDX-License-Identifier: Apache-2.0
/**
 * Archive keys by generation, and archive records: content of any size encrypted under a generation's key.
 *
 * docs/formats/archive-record.md (STREAM of 64 KiB segments, AES-256-GCM; https://eprint.iacr.org/2015/189). Works on one
 * segment at a time and does no I/O. Which generation is in use is the account chain's matter.
 */
import { type Bytes, concat, EMPTY, equal, utf8 } from "../base/bytes.js";
import { decode, encode, Fields, label, mapOf } from "../base/encoding.js";
import { Malformed, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { CommittedKey, gcmDecrypt, gcmEncrypt, gcmKey } from "../crypto/wrapping.js";
import { ID_SIZE, MAX_U32, readBack } from "../signed/payloads.js";
import { ARCHIVE_KEY_SIZE } from "./deposit.js";

const VERSION = 1; // first field of the header: a reader stops at what it does not know
const MAGIC = utf8("HFAR"); // says what the file is before anything is parsed
const SALT_SIZE = 32; // bytes: drawn at random, so that no two records under one AK_g share a key
/** Bytes. What a reader has to hold before it may trust any of it; the tags cost 16 bytes in 64 KiB. As age has it. */
export const SEGMENT_SIZE = 64 * 1024;
/** Bytes: the full tag of SP 800-38D section 5.2.1.2. */
export const TAG_SIZE = 16;
const MAX_HEADER = 512; // bytes: a header has about 120; the length is a stranger's word until the key fits

/** Return a fresh AK_g of 32 bytes. Generations are independent, so that a dated release opens those dates only. */
export function newArchiveKey(): SecretBytes {
  return new SecretBytes(randomBytes(ARCHIVE_KEY_SIZE));
}

/** Whose content this is and under which generation; salt: 32 random bytes, which make the record's key its own. */
export interface ArchiveHeader {
  readonly tenant: Bytes;
  readonly user: Bytes;
  readonly generation: number;
  readonly salt: Bytes;
}

function keyOf({ tenant, user, generation, salt }: ArchiveHeader, archiveKey: SecretBytes): CommittedKey {
  // Everything it must not be moved away from. Not the salt, which HKDF takes in by itself.
  return CommittedKey.derive({ salt, ikm: archiveKey, info: label("archive", tenant, user, generation) });
}

function toPrefix({ tenant, user, generation, salt }: ArchiveHeader, commit: Bytes): Bytes {
  const header = encode(mapOf({ 1: VERSION, 2: tenant, 3: user, 4: generation, 5: salt, 6: commit }));
  return readBack(concat(MAGIC, Uint8Array.of(header.length >> 8, header.length & 255), header), readPrefix);
}

/** Return how long the prefix is, from the first 6 bytes. Throws Malformed when it is no archive record. */
export function prefixSize(start: Uint8Array): number {
  if (start.length < MAGIC.length + 2 || !equal(start.subarray(0, MAGIC.length), MAGIC))
    throw new Malformed("archive record: this file is not one");
  const size = ((start[4] as number) << 8) | (start[5] as number);
  if (size === 0 || size > MAX_HEADER) throw new Malformed("archive record: a header of impossible length");
  return MAGIC.length + 2 + size;
}

/** Return the header and the key commitment. Throws Malformed. */
export function readPrefix(prefix: Uint8Array): [header: ArchiveHeader, commit: Bytes] {
  if (prefixSize(prefix) !== prefix.length) throw new Malformed("archive record: the header is cut off");
  const fields = Fields.of(decode(prefix.subarray(6)), "archive record", [1, 2, 3, 4, 5, 6]);
  fields.uint(1, { minimum: VERSION, maximum: VERSION });
  const header: ArchiveHeader = {
    tenant: fields.octets(2, ID_SIZE),
    user: fields.octets(3, ID_SIZE),
    generation: fields.uint(4, { maximum: MAX_U32 }),
    salt: fields.octets(5, SALT_SIZE),
  };
  return [header, fields.octets(6, 32)];
}

type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Give the record piece by piece: the prefix, then one piece for each segment of at most 64 KiB.
 *
 * All segments but the last must be full (a RangeError otherwise, the caller's mistake); no segments make a record of
 * empty content.
 */
export async function* encryptSegments(
  segments: Pieces,
  of: { archiveKey: SecretBytes; tenant: Bytes; user: Bytes; generation: number },
): AsyncGenerator<Bytes> {
  const { tenant, user, generation } = of, header = { tenant, user, generation, salt: randomBytes(SALT_SIZE) };
  const committed = keyOf(header, of.archiveKey);
  yield toPrefix(header, committed.commit());
  const key = await gcmKey(committed.key, ["encrypt"]);
  for await (const [index, segment, isLast] of marked(segments)) {
    // A reader cuts every 64 KiB + 16 and knows no other boundary.
    if (segment.length > SEGMENT_SIZE || (segment.length < SEGMENT_SIZE && !isLast))
      throw new RangeError("every segment but the last has 64 KiB");
    yield await gcmEncrypt(key, nonceOf(index, isLast), segment, EMPTY);
  }
}

/**
 * Give the content piece by piece; each is authentic when given, and the record is whole when this ends.
 *
 * pieces: what follows the prefix, cut every 64 KiB + 16. Rejects with UnwrapFailed for a wrong key and for every change:
 * edited, reordered, cut off or continued; so a caller keeps what it was given only when this ended without error.
 */
export async function* decryptSegments(
  prefix: Uint8Array,
  pieces: Pieces,
  archiveKey: SecretBytes,
): AsyncGenerator<Bytes> {
  const [header, commit] = readPrefix(prefix), committed = keyOf(header, archiveKey);
  // Before the first segment: GCM alone would open one ciphertext under two keys.
  committed.require(commit);
  const key = await gcmKey(committed.key, ["decrypt"]);
  for await (const [index, piece, isLast] of marked(pieces)) {
    const opened = await gcmDecrypt(key, nonceOf(index, isLast), piece, EMPTY);
    if (opened === undefined) throw new UnwrapFailed("the archive record was changed, cut off or continued");
    yield opened;
  }
}

/** 11 bytes of counter and STREAM's flag: order, number and end are all bound. The key serves one record. */
function nonceOf(index: number, isLast: boolean): Bytes {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(3, BigInt(index));
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

/** Number the items and mark the last; one empty item when there is none. */
async function* marked(items: Pieces): AsyncGenerator<[index: number, item: Uint8Array, isLast: boolean]> {
  let index = -1, held: Uint8Array = EMPTY;
  // One item behind, since only the next one tells whether this is the last.
  for await (const item of items) {
    if (index >= 0) yield [index, held, false];
    index++;
    held = item;
  }
  yield [Math.max(index, 0), held, true];
}
