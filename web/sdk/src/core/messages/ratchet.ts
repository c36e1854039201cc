// SPDX-License-Identifier: Apache-2.0
/**
 * The Double Ratchet with header encryption: keys for each message, forgotten as soon as they are used.
 *
 * docs/formats/ratchet.md, on Signal's "The Double Ratchet Algorithm", revision 4, section 4. Does not know who talks to
 * whom, nor how a message is framed: `session` does. Stores nothing and reads no clock. One call at a time: `session`
 * puts them in a row.
 */
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, EMPTY, equal } from "../base/bytes.js";
import { type Encodable, Fields, label, type Value } from "../base/encoding.js";
import { Malformed, OutOfBounds, UnwrapFailed } from "../base/errors.js";
import { pad, unpad } from "../base/padding.js";
import { SecretBytes } from "../base/secret.js";
import { AgreementKey, type AgreementKind, decodePublicKey, KeyKind, type PublicKey } from "../crypto/keys.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { gcmDecrypt, gcmEncrypt, gcmKey } from "../crypto/wrapping.js";
import { SkippedKeys } from "./skipped.js";

/** Bytes: root, chain, message and header keys, all of HMAC-SHA256's and AES-256's size. */
export const KEY_SIZE = 32;
/** Bytes. The salt is the header's nonce as well: random, under one header key for a whole chain. SP 800-38D, 8.3. */
export const SALT_SIZE = 12;
const TAG_SIZE = 16; // bytes: SP 800-38D section 5.2.1.2, the longest
/** Double Ratchet section 3 asks for this bound: a peer cannot set us to work. */
export const MAX_SKIP = 1000;
/** N is a u32 in the header. The last value is never sent, so the number after it needs no fifth byte. */
export const MAX_NUMBER = 2 ** 32 - 1;
const PREFIX_SIZE = 4; // bytes: as `wire` lays it out; here it is only bound, not read
const SALT_END = PREFIX_SIZE + SALT_SIZE;
const COUNTERS_SIZE = 8; // bytes: PN u32 || N u32, which end the header
const SMALLEST_BODY = 4 + TAG_SIZE; // bytes: the padding's length field of an empty message, and the tag
// Two labels, so that a chain key or root key never comes out as a message key. Made once: every message needs them.
const ROOT = label("root");
const MESSAGE = label("msg");
const [ONE, TWO] = [Uint8Array.of(1), Uint8Array.of(2)];
const PUBLIC_SIZES: Readonly<Record<AgreementKind, number>> = { [KeyKind.X25519]: 33, [KeyKind.P256_AGREEMENT]: 66 };

/** KDF_RK: return the next root key, a chain key and the next header key, 32 bytes each. */
export function deriveRoot(root: Bytes, secret: Bytes): [root: Bytes, chain: Bytes, nextHeader: Bytes] {
  // The root key is HKDF's salt and the DH output its input: whoever learns one of the two alone has not the next root.
  const okm = hkdf(sha256, secret, root, ROOT, 3 * KEY_SIZE) as Bytes;
  return [okm.slice(0, 32), okm.slice(32, 64), okm.slice(64)];
}

/** KDF_CK: return the message key and the next chain key, 32 bytes each. The HMAC key is scheduled once for both. */
export function deriveStep(chain: Bytes): [messageKey: Bytes, next: Bytes] {
  const keyed = hmac.create(sha256, chain), other = keyed.clone();
  return [keyed.update(ONE).digest() as Bytes, other.update(TWO).digest() as Bytes];
}

function u32(value: number): Bytes {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

function readU32(data: Uint8Array, at: number): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(at);
}

/** Salt, body and associated data of one message. */
interface Sealed {
  readonly salt: Bytes;
  readonly body: Bytes;
  readonly aad: Bytes;
}

async function bodyKey(messageKey: Bytes, salt: Bytes): Promise<[key: CryptoKey, nonce: Bytes]> {
  // The body's key depends on the salt as well as on the message key: a state that was rolled back or cloned, and so
  // meets a message key again, still never meets one (key, nonce) pair twice.
  const okm = hkdf(sha256, messageKey, salt, MESSAGE, KEY_SIZE + SALT_SIZE) as Bytes;
  return [await gcmKey(new SecretBytes(okm.slice(0, KEY_SIZE))), okm.slice(KEY_SIZE)];
}

const doesNotOpen = (): UnwrapFailed => new UnwrapFailed("message does not open");

async function openBody(messageKey: Bytes, { salt, body, aad }: Sealed): Promise<Bytes> {
  const [key, nonce] = await bodyKey(messageKey, salt);
  const padded = await gcmDecrypt(key, nonce, body, aad);
  if (padded === undefined) throw doesNotOpen();
  try {
    // Padding is looked at only after the tag has held, and fails as the tag does: no padding oracle.
    return unpad(padded);
  } catch {
    throw doesNotOpen();
  }
}

/** Return the message keys of `number` up to, not including, `until`, and the chain key after them. */
function missingKeys(chain: Bytes, number: number, until: number): [Map<number, Bytes>, Bytes] {
  const keys = new Map<number, Bytes>();
  let next = chain;
  for (let missed = number; missed < until; missed++) {
    const [messageKey, after] = deriveStep(next);
    keys.set(missed, messageKey);
    next = after;
  }
  return [keys, next];
}

/** A header key, and the same for AES-GCM once it was needed. */
class HeaderKey {
  #cipher: Promise<CryptoKey> | undefined;
  constructor(readonly raw: Bytes) {}

  #imported(): Promise<CryptoKey> {
    return (this.#cipher ??= gcmKey(new SecretBytes(this.raw)));
  }

  async seal(salt: Bytes, header: Bytes, prefix: Bytes): Promise<Bytes> {
    return gcmEncrypt(await this.#imported(), salt, header, prefix);
  }

  /** The tag alone says whose header it is: nothing on the wire names the session or the key. */
  async open(salt: Bytes, sealed: Bytes, prefix: Bytes): Promise<Bytes | undefined> {
    return gcmDecrypt(await this.#imported(), salt, sealed, prefix);
  }
}

/** What a ratchet begins from: the handshake's agreement, and TH as the associated data of every message. */
export interface Beginning {
  readonly ad: Bytes;
  readonly root: SecretBytes;
  /** HK_A. */
  readonly header: SecretBytes;
  /** NHK_B. */
  readonly nextHeader: SecretBytes;
}

/** The state of one session at one end: root, two chains, their header keys, and the keys of messages not yet seen. */
export class Ratchet {
  readonly #kind: AgreementKind;
  readonly #ad: Bytes;
  readonly #headerEnd: number;
  #root: Bytes;
  #own: AgreementKey | undefined;
  #ownSeed: SecretBytes | undefined;
  /** The header of the present sending chain but for N: public key and PN, the same for the whole chain. */
  #stem: Bytes = EMPTY;
  #sending: Bytes = EMPTY;
  #receiving: Bytes = EMPTY;
  #sendingHeader: HeaderKey | undefined;
  #receivingHeader: HeaderKey | undefined;
  #nextSending: Bytes = EMPTY;
  #nextReceiving: HeaderKey;
  #previous = 0;
  sent = 0;
  received = 0;
  skipped = new SkippedKeys();

  private constructor(kind: AgreementKind, ad: Bytes, root: Bytes, nextReceiving: Bytes) {
    this.#kind = kind;
    this.#ad = ad;
    this.#headerEnd = SALT_END + PUBLIC_SIZES[kind] + COUNTERS_SIZE + TAG_SIZE;
    this.#root = root;
    this.#nextReceiving = new HeaderKey(nextReceiving);
  }

  /** Begin as the one who sends first, with a fresh key against `peer`, the signed pre-key's DH half. */
  static async initiator(of: Beginning, peer: PublicKey): Promise<Ratchet> {
    const kind = peer.kind as AgreementKind;
    const made = new Ratchet(kind, of.ad, of.root.reveal(), of.nextHeader.reveal());
    // HK_A becomes the header key of the chain begun below; NHK_B is what B's first header will be sealed under.
    made.#nextSending = of.header.reveal();
    // Not EK: that is used for the handshake and nothing else. SPK_B serves as B's first ratchet key.
    const own = await AgreementKey.generate(kind);
    made.#beginSending(own, deriveRoot(made.#root, (await own.exchange(peer)).reveal()));
    return made;
  }

  /** Begin as the one who receives first, with `own`, the signed pre-key's private DH half. */
  static responder(of: Beginning, own: AgreementKey): Ratchet {
    const made = new Ratchet(own.public.kind as AgreementKind, of.ad, of.root.reveal(), of.header.reveal());
    made.#nextSending = of.nextHeader.reveal();
    // No sending chain yet: one without a key of A's would add nothing to the handshake's secrets.
    made.#own = own;
    made.#ownSeed = own.seed();
    return made;
  }

  #beginSending(own: AgreementKey, [root, chain, nextHeader]: [Bytes, Bytes, Bytes]): void {
    this.#own = own;
    this.#ownSeed = own.seed();
    // PN tells the peer how many messages of the old chain to expect. The new chain's header key is the NHKs of before:
    // by it the peer, whose NHKr it is, sees that there was a step.
    this.#previous = this.sent;
    this.sent = 0;
    this.#sendingHeader = new HeaderKey(this.#nextSending);
    this.#root = root;
    this.#sending = chain;
    this.#nextSending = nextHeader;
    this.#stem = concat(own.public.encoded, u32(this.#previous));
  }

  /**
   * Return enc_header || body for the next message, and move on.
   *
   * prefix: the 4 bytes that lead the message. The caller stores the state before these bytes leave: then a crash loses a
   * message and never repeats one. Rejects with OutOfBounds when the chain has no number left.
   */
  async encrypt(plaintext: Uint8Array, prefix: Bytes): Promise<Bytes> {
    const number = this.sent, chain = this.#sending, header = this.#sendingHeader;
    if (number >= MAX_NUMBER || header === undefined)
      throw new OutOfBounds("this session cannot send: begin a new one");
    const salt = randomBytes(SALT_SIZE);
    const [messageKey, next] = deriveStep(chain);
    const [key, nonce] = await bodyKey(messageKey, salt);
    // The header is bound to the prefix, the body to all before it and to TH: no part of a message can be put into
    // another, no type changed, and nothing opens in a session of other keys.
    const head = concat(salt, await header.seal(salt, concat(this.#stem, u32(number)), prefix));
    const body = await gcmEncrypt(key, nonce, pad(plaintext), concat(this.#ad, prefix, head));
    // The chain moves on last: if anything above fails, no number is lost and no key has been used.
    this.#sending = next;
    this.sent = number + 1;
    return concat(head, body);
  }

  /**
   * Return the plaintext of prefix || enc_header || body, and forget its key.
   *
   * now: UTC seconds, from which the life of keys that are stored here counts. Rejects with UnwrapFailed for everything
   * that is not this session's next or skipped message; nothing has changed then. At most 7 header keys are tried.
   */
  async decrypt(message: Uint8Array, now: number): Promise<Bytes> {
    const end = this.#headerEnd;
    // Before any trial: what is too short for a header and a body is nobody's message, and costs no opening.
    if (message.length < end + SMALLEST_BODY) throw doesNotOpen();
    const [prefix, salt, sealed, body] = [
      message.slice(0, PREFIX_SIZE), message.slice(PREFIX_SIZE, SALT_END), message.slice(SALT_END, end), message.slice(end),
    ] as [Bytes, Bytes, Bytes, Bytes];
    const rest: Sealed = { salt, body, aad: concat(this.#ad, message.subarray(0, end)) };
    // HKr, NHKr, old chains: the order of likelihood. 1 + 1 + 5 openings are the most that junk can cost. A header that
    // opens fixes the chain: no other key is tried, whatever becomes of the body.
    const present = await this.#receivingHeader?.open(salt, sealed, prefix);
    if (present !== undefined) return this.#openInChain(readU32(present, present.length - 4), rest, now);
    const stepped = await this.#nextReceiving.open(salt, sealed, prefix);
    if (stepped !== undefined) return this.#openAfterStep(stepped, rest, now);
    for (const key of this.skipped.headerKeys()) {
      // The present chain can have skipped keys too; its header key was tried first of all.
      if (this.#receivingHeader !== undefined && equal(key, this.#receivingHeader.raw)) continue;
      const found = await new HeaderKey(key).open(salt, sealed, prefix);
      if (found !== undefined) return this.#openSkipped(key, readU32(found, found.length - 4), rest);
    }
    throw doesNotOpen();
  }

  async #openInChain(number: number, sealed: Sealed, now: number): Promise<Bytes> {
    const header = this.#receivingHeader as HeaderKey;
    if (number < this.received) return this.#openSkipped(header.raw, number, sealed);
    // Before any key is derived: a peer that claims message 2^31 gets no work out of us.
    if (number - this.received > MAX_SKIP || number >= MAX_NUMBER) throw doesNotOpen();
    // On locals, and stored below: the header is no proof, since anybody on the way can put a header seen once in front
    // of a body of their own. It must not move the chain, fill the store, nor push older keys out of it.
    const [missing, chain] = missingKeys(this.#receiving, this.received, number);
    const [messageKey, next] = deriveStep(chain);
    const plaintext = await openBody(messageKey, sealed);
    this.skipped.add(header.raw, missing, now);
    this.#receiving = next;
    this.received = number + 1;
    return plaintext;
  }

  async #openSkipped(headerKey: Bytes, number: number, sealed: Sealed): Promise<Bytes> {
    const messageKey = this.skipped.find(headerKey, number);
    // A replay, or a message whose key was dropped.
    if (messageKey === undefined) throw doesNotOpen();
    // The key goes after the body has opened: else one forged body behind a true header would destroy the key of a
    // message that is still on its way.
    const plaintext = await openBody(messageKey, sealed);
    this.skipped.remove(headerKey, number);
    return plaintext;
  }

  /** Take the peer's new key: the rest of the old chain, a new receiving chain, then a new sending one. */
  async #openAfterStep(header: Bytes, sealed: Sealed, now: number): Promise<Bytes> {
    const previous = readU32(header, header.length - 8), number = readU32(header, header.length - 4);
    const hasOld = this.#receiving.length > 0;
    // Before the DH and any derivation, for both chains. PN below what was received is no error: a peer restored from a
    // backup may have counted less, and then there is nothing to skip.
    if (number > MAX_SKIP || (hasOld && previous - this.received > MAX_SKIP)) throw doesNotOpen();
    let peer: PublicKey, root: Bytes, begun: Bytes, nextReceiving: Bytes;
    try {
      // The header is the peer's own word and still read strictly: with a key of small order the step would add nothing
      // that a thief of the old root key does not know.
      peer = decodePublicKey(header.subarray(0, header.length - COUNTERS_SIZE), this.#kind);
      const secret = await (await this.#ownKey()).exchange(peer);
      [root, begun, nextReceiving] = deriveRoot(this.#root, secret.reveal());
    } catch (error) {
      if (error instanceof Malformed) throw doesNotOpen();
      throw error;
    }
    const rest = hasOld ? missingKeys(this.#receiving, this.received, previous)[0] : new Map<number, Bytes>();
    const [missing, chain] = missingKeys(begun, 0, number), [messageKey, next] = deriveStep(chain);
    const plaintext = await openBody(messageKey, sealed);
    // Made now, and not at the next sending: the private half that the peer's last message relied on is gone that much
    // sooner, and with it what a thief of this state could still derive.
    const own = await AgreementKey.generate(this.#kind);
    const sending = deriveRoot(root, (await own.exchange(peer)).reveal());
    // From here on nothing fails: everything before worked on locals. First the skipped keys, while the two header keys
    // still have their old names.
    const turned = this.#nextReceiving;
    this.skipped.turn(this.#receivingHeader?.raw ?? EMPTY, rest, turned.raw, missing, now);
    this.#receivingHeader = turned;
    this.#nextReceiving = new HeaderKey(nextReceiving);
    this.#receiving = next;
    this.received = number + 1;
    this.#beginSending(own, sending);
    return plaintext;
  }

  async #ownKey(): Promise<AgreementKey> {
    // After a restart the key is made from its seed only when a step needs it: most messages need none.
    return (this.#own ??= await AgreementKey.fromSeed(this.#kind, this.#ownSeed as SecretBytes));
  }

  /** Return the whole state but the skipped keys; secrets inside: encode it into a SecretBytes at once. */
  toValue(): Encodable[] {
    return [
      this.#root,
      (this.#ownSeed as SecretBytes).reveal(),
      this.#stem,
      this.#sending,
      this.#sendingHeader?.raw ?? EMPTY,
      this.#nextSending,
      this.sent,
      this.#previous,
      this.#receiving,
      this.#receivingHeader?.raw ?? EMPTY,
      this.#nextReceiving.raw,
      this.received,
    ];
  }

  /** Undo `toValue`. Throws Malformed. */
  static fromValue(value: Value, kind: AgreementKind, ad: Bytes): Ratchet {
    const row = Fields.ofRow(value, "ratchet", 12);
    // Empty stands for a chain that does not exist yet.
    const maybe = [0, KEY_SIZE];
    const keyOf = (at: number): HeaderKey | undefined => {
      const raw = row.octets(at, maybe);
      return raw.length > 0 ? new HeaderKey(raw) : undefined;
    };
    const made = new Ratchet(kind, ad, row.octets(0, KEY_SIZE), row.octets(10, KEY_SIZE));
    made.#ownSeed = new SecretBytes(row.octets(1, KEY_SIZE));
    made.#stem = row.octets(2, [0, PUBLIC_SIZES[kind] + 4]);
    made.#sending = row.octets(3, maybe);
    made.#sendingHeader = keyOf(4);
    made.#nextSending = row.octets(5, KEY_SIZE);
    made.sent = row.uint(6, { maximum: MAX_NUMBER });
    made.#previous = row.uint(7, { maximum: MAX_NUMBER });
    made.#receiving = row.octets(8, maybe);
    made.#receivingHeader = keyOf(9);
    made.received = row.uint(11, { maximum: MAX_NUMBER });
    return made;
  }
}
