// SPDX-License-Identifier: Apache-2.0
/**
 * The bytes of a message between two devices: its prefix, and the initial part that begins a session.
 *
 * docs/formats/handshake.md and ratchet.md. Opens nothing: what is read here is a claim until a session has
 * authenticated it.
 */
import { type Bytes, concat, EMPTY } from "../base/bytes.js";
import { decode, encode, Fields, mapOf, MAX_BLOB } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import { ML_KEM_CIPHERTEXT_SIZE, type PublicKey } from "../crypto/public_keys.js";
import { agreementKind, hasKem, isSuite, type Suite } from "../crypto/suites.js";
import { Sign1 } from "../signed/cose.js";
import { HASH_SIZE, MAX_U32, readBack, readKey } from "../signed/payloads.js";

/** The first byte, so that a later version can change all that follows it. No version is negotiated. */
export const VERSION = 0x01;
/** The type is in both aads: an initial part can be neither stripped off nor put on. */
export const INITIAL = 0x01;
/** From the first answer on. */
export const MESSAGE = 0x02;
/** Bytes: version, type, suite, flags. */
export const PREFIX_SIZE = 4;
/** Bytes: 48 KiB of plaintext, padded, and an initial part are below 56 KB. */
export const MAX_MESSAGE = MAX_BLOB;
const LENGTH_SIZE = 2; // bytes, u16: an initial part is 2.8 KB at most

/** Return the 4 bytes version | type | suite | flags that lead every message. */
export function prefixOf(type: number, suite: Suite): Bytes {
  return Uint8Array.of(VERSION, type, suite, 0);
}

/** What the responder needs in order to derive the session's first secret, as the initiator claims it. */
export interface InitialPart {
  readonly suite: Suite;
  /** Of the initiator. */
  readonly deviceStatement: Sign1;
  readonly ephemeral: PublicKey;
  readonly signedPreKeyId: number;
  readonly oneTimePreKeyId: number | undefined;
  /** 1,088 bytes in suites 2 and 4. */
  readonly ciphertext: Bytes | undefined;
  /** 32-byte heads of the two account chains as the initiator saw them. */
  readonly initiatorHead: Bytes;
  readonly responderHead: Bytes;
}

/** Return prefix | u16 length | dCBOR: every byte of an initial message before enc_header. */
export function encodeInitial(of: InitialPart): Bytes {
  const body = encode(
    mapOf({
      // The statement itself and not its hash: the responder may never have met this device.
      1: of.deviceStatement.encode(),
      2: of.ephemeral.encoded,
      3: of.signedPreKeyId,
      4: of.oneTimePreKeyId,
      5: of.ciphertext,
      6: of.initiatorHead,
      7: of.responderHead,
    }),
  );
  const length = Uint8Array.of(body.length >> 8, body.length & 0xff);
  return readBack(concat(prefixOf(INITIAL, of.suite), length, body), (written) => {
    // As it stands at the head of a message, behind which something sealed must follow.
    void readMessage(concat(written, new Uint8Array(1))).initial;
  });
}

function readInitial(body: Uint8Array, suite: Suite): InitialPart {
  const fields = Fields.of(decode(body, MAX_BLOB), "initial part", [1, 2, 3, 6, 7], [4, 5]);
  // A hybrid suite without its ciphertext would be the classical one under another name: a downgrade.
  if (fields.has(5) !== hasKem(suite)) throw fields.refuse(5, "does not fit the suite");
  return {
    suite,
    // Only parsed. Whose device it is, the caller learns from the account chain at the head in field 6.
    deviceStatement: Sign1.parse(fields.octets(1)),
    ephemeral: readKey(fields, 2, agreementKind(suite)),
    signedPreKeyId: fields.uint(3, { maximum: MAX_U32 }),
    oneTimePreKeyId: fields.has(4) ? fields.uint(4, { maximum: MAX_U32 }) : undefined,
    ciphertext: hasKem(suite) ? fields.octets(5, ML_KEM_CIPHERTEXT_SIZE) : undefined,
    initiatorHead: fields.octets(6, HASH_SIZE),
    responderHead: fields.octets(7, HASH_SIZE),
  };
}

/** A message taken apart: a claim, all of it, until a session has opened it. */
export class Incoming {
  #initial: InitialPart | undefined;

  /**
   * initialBytes: everything before enc_header of an initial message, else none. initialHash: its SHA-256, which routes a
   * repeated initial part to its session before any key is looked up. sealed: enc_header || body.
   */
  constructor(
    readonly suite: Suite,
    readonly prefix: Bytes,
    readonly initialBytes: Bytes,
    readonly sealed: Bytes,
    readonly initialHash: Bytes | undefined = initialBytes.length > 0 ? sha256(initialBytes) : undefined,
  ) {}

  /** Whether it carries what begins a session: the first message, and each until the initiator was answered. */
  get isInitial(): boolean {
    return this.initialBytes.length > 0;
  }

  /** The initial part, read when first asked for: one that repeats is known by its hash. Throws Malformed. */
  get initial(): InitialPart | undefined {
    if (this.#initial === undefined && this.isInitial)
      this.#initial = readInitial(this.initialBytes.subarray(PREFIX_SIZE + LENGTH_SIZE), this.suite);
    return this.#initial;
  }
}

/**
 * Take a message of at most 64 KiB apart.
 *
 * Throws Malformed for another version, type, suite or flag, and one that ends early. The initial part is checked when it
 * is read; what is sealed, when a session opens it.
 */
export function readMessage(data: Uint8Array): Incoming {
  if (data.length <= PREFIX_SIZE || data.length > MAX_MESSAGE)
    throw new Malformed("message: shorter than its prefix, or above 64 KiB");
  const [version, type, suite, flags] = data as unknown as [number, number, number, number];
  // An unknown flag is refused, not ignored: a later version may change by it what the rest means.
  if (version !== VERSION || flags !== 0 || (type !== INITIAL && type !== MESSAGE))
    throw new Malformed("message: of another version or type");
  if (!isSuite(suite)) throw new Malformed("message: not a known suite");
  let end = PREFIX_SIZE;
  if (type === INITIAL) {
    // The stated length is the sender's: it is held to what there is, and something sealed must follow.
    end += LENGTH_SIZE + (((data[PREFIX_SIZE] as number) << 8) | (data[PREFIX_SIZE + 1] ?? 0));
    if (end >= data.length) throw new Malformed("message: ends inside its initial part");
  }
  const initial = type === INITIAL ? (data.slice(0, end) as Bytes) : EMPTY;
  return new Incoming(suite, data.slice(0, PREFIX_SIZE) as Bytes, initial, data.slice(end) as Bytes);
}
