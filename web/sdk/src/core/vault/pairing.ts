// SPDX-License-Identifier: Apache-2.0
/**
 * Meeting between a new device and one that its user already has: by QR code, or by eight digits.
 *
 * docs/formats/pairing.md (the QR payload and the short authentication string with prior commitment). Does not send
 * anything, and does not add a device: `sync_letter` and the chain do.
 */
import { type Bytes, EMPTY, equal, equalSecret, hex, utf8 } from "../base/bytes.js";
import { decode, encode, Fields, label, mapOf } from "../base/encoding.js";
import { Malformed, Mistyped, Untrusted } from "../base/errors.js";
import * as typed from "../base/typed.js";
import { sha256 } from "../crypto/hashing.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { HASH_SIZE, ID_SIZE, readBack } from "../signed/payloads.js";
import { type DeviceStatement, deviceToPayload } from "../signed/statements.js";

/**
 * Upper-case letters, digits and a dot: the alphanumeric mode of QR codes, in which base32 takes 8.8 bits for a byte
 * where base64url in byte mode takes 10.7. A smaller code is read from further away, and can be typed.
 */
export const PREFIX = "HFP1.";
/** Bytes. As long as an id: nobody can try the nonces behind a commitment. */
export const NONCE_SIZE = 16;
/** What people type without a slip. One guess in 10^8, and one guess only: see the commitment below. */
export const CODE_DIGITS = 8;
const VERSION = 1; // field 1 of request and messages
const MAX_REQUEST = 160; // bytes: a request has about 130
const MAX_MESSAGE = 256; // bytes: the longest message holds a request
// RFC 4648 section 6. 256 characters are 160 bytes, the longest request.
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE32 = /^[A-Z2-7]{1,256}$/;
// Field 2, so that no message is taken for another step's.
const COMMITMENT = 1, ANSWER = 2, REVEAL = 3;

/** What a new device shows of itself. */
export interface PairingRequest {
  /** 16 bytes each. */
  readonly tenant: Bytes;
  readonly user: Bytes;
  /** SHA-256 of its device statement's payload. */
  readonly statementHash: Bytes;
  /** SHA-256 of its X-Wing key with the type byte. */
  readonly keyHash: Bytes;
  /** 16 bytes. */
  readonly nonce: Bytes;
}

/** Make a request for one's own device, with a fresh nonce. */
export function newPairingRequest(device: DeviceStatement): PairingRequest {
  const [statementHash, keyHash] = hashesOf(device), { tenant, user } = device.header;
  return { tenant, user, statementHash, keyHash, nonce: randomBytes(NONCE_SIZE) };
}

/** Return dCBOR{1: 1, 2: tenant, 3: user, 4: statement hash, 5: key hash, 6: nonce}. */
export function pairingRequestToBytes(of: PairingRequest): Bytes {
  const fields = { 1: VERSION, 2: of.tenant, 3: of.user, 4: of.statementHash, 5: of.keyHash, 6: of.nonce };
  return readBack(encode(mapOf(fields)), pairingRequestFromBytes);
}

/** Read a request; throws Malformed. */
export function pairingRequestFromBytes(octets: Uint8Array): PairingRequest {
  const read = Fields.of(decode(octets, MAX_REQUEST), "pairing request", [1, 2, 3, 4, 5, 6]);
  read.uint(1, { minimum: VERSION, maximum: VERSION });
  return {
    tenant: read.octets(2, ID_SIZE),
    user: read.octets(3, ID_SIZE),
    statementHash: read.octets(4, HASH_SIZE),
    keyHash: read.octets(5, HASH_SIZE),
    nonce: read.octets(6, NONCE_SIZE),
  };
}

/** SHA-256 of the request's bytes: what the letter to the new device is bound to. */
export function pairingRequestHash(of: PairingRequest): Bytes {
  return sha256(pairingRequestToBytes(of));
}

/** Return the text of the QR code: "HFP1." and base32 (RFC 4648 section 6) without padding. */
export function pairingText(of: PairingRequest): string {
  let text = PREFIX, bits = 0, held = 0;
  for (const octet of pairingRequestToBytes(of)) {
    held = (held << 8) | octet;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET.charAt((held >> (bits - 5)) & 31);
    held &= 31;
  }
  return bits > 0 ? text + ALPHABET.charAt((held << (5 - bits)) & 31) : text;
}

/** Read the text as scanned, copied or typed, by `typed.code`, in any capitals. Throws Malformed for others. */
export function parsePairingText(text: string): PairingRequest {
  const body = typed.code(text, PREFIX, "pairing code").toUpperCase();
  if (!BASE32.test(body)) throw new Mistyped('pairing code: not "HFP1." and base32');
  // Of a last group of eight characters, 2, 4, 5 and 7 are what whole bytes take (RFC 4648 section 6).
  if ([1, 3, 6].includes(body.length % 8)) throw new Mistyped("pairing code: an impossible length");
  const octets = new Uint8Array(Math.floor((body.length * 5) / 8));
  let bits = 0, held = 0, at = 0;
  for (const sign of body) {
    held = ((held << 5) | ALPHABET.indexOf(sign)) & 0xfff;
    bits += 5;
    if (bits >= 8) octets[at++] = (held >> (bits -= 8)) & 0xff;
  }
  const request = pairingRequestFromBytes(octets);
  // One code, one text: spare bits at the end could otherwise be set without a change in what is read.
  if (pairingText(request) !== PREFIX + body) throw new Malformed("pairing code: trailing bits are not zero");
  return request;
}

/** Throw Untrusted unless the device statement, as the server has it, is the one that was shown. */
export function requireShown(request: PairingRequest, device: DeviceStatement): void {
  // The statement comes from the server, the hashes from the screen: only both together say which device is meant.
  const [statementHash, keyHash] = hashesOf(device);
  const isShown = equal(statementHash, request.statementHash) && equal(keyHash, request.keyHash);
  if (!isOf(request, device) || !isShown) throw new Untrusted("the server's new device is not the one in front of you");
}

/** Return the digits that two screens show: SHA-256(transcript) modulo 10^digits, leading zeros kept. */
export function shortCode(transcript: Uint8Array, digits: number = CODE_DIGITS): string {
  const number = BigInt(`0x${hex(sha256(transcript))}`) % 10n ** BigInt(digits);
  return String(number).padStart(digits, "0");
}

/**
 * The new device's side of pairing by eight digits: commits, then answers, then shows the code.
 *
 * It is bound to its nonce before it sees the other's, and the other to its own before this one is revealed. A server in
 * the middle must therefore fix its part on both sides before it knows either code: one guess in 10^8.
 */
export class NewDevice {
  #code = "";

  constructor(
    readonly request: PairingRequest,
    private readonly digits: number = CODE_DIGITS,
  ) {}

  /** The first message: dCBOR{1: 1, 2: 1, 3: SHA-256 over the request, nonce included}. */
  get commitment(): Bytes {
    return message(COMMITMENT, commitmentOf(this.request));
  }

  /**
   * Take the existing device's answer and return the third message, which reveals the request.
   *
   * Throws Malformed; a RangeError when asked a second time (the caller's mistake): a nonce, once shown, is spent.
   */
  answer(octets: Uint8Array): Bytes {
    // A second answer would be a second guess at the code, with the nonce known.
    if (this.#code !== "") throw new RangeError("a pairing is answered once");
    const read = readMessage(octets, ANSWER, [3, 4, 5]);
    const other = [read.octets(3, HASH_SIZE), read.octets(4, HASH_SIZE), read.octets(5, NONCE_SIZE)] as const;
    this.#code = shortCode(transcriptOf(this.request, ...other), this.digits);
    return message(REVEAL, pairingRequestToBytes(this.request));
  }

  /** The digits to show. Throws a RangeError before the other device has answered (the caller's mistake). */
  get code(): string {
    return known(this.#code);
  }
}

/**
 * The existing device's side: takes the commitment, answers with a nonce, checks what is revealed.
 *
 * device: its own statement, by which the new device's code depends on whom it talks to. One attempt each: after anything
 * wrong, pairing begins anew.
 */
export class ExistingDevice {
  readonly #nonce: Bytes = randomBytes(NONCE_SIZE);
  #committed: Bytes = EMPTY;
  #request: PairingRequest | undefined;
  #code = "";

  constructor(
    readonly device: DeviceStatement,
    private readonly digits: number = CODE_DIGITS,
  ) {}

  /**
   * Take the new device's commitment and return the answer: dCBOR{1: 1, 2: 2, 3, 4: own hashes, 5: nonce}.
   *
   * Throws Malformed; Untrusted for a second commitment, which would be a second guess.
   */
  receiveCommitment(octets: Uint8Array): Bytes {
    // One commitment for each nonce of ours: two would let a server see our nonce first and choose its own after it.
    if (this.#committed.length > 0) throw new Untrusted("a second new device answers: begin the pairing again");
    this.#committed = readMessage(octets, COMMITMENT, [3]).octets(3, HASH_SIZE);
    return message(ANSWER, ...hashesOf(this.device), this.#nonce);
  }

  /** Take what was committed to. Throws Malformed; Untrusted when it is something else or someone else's. */
  receiveReveal(octets: Uint8Array): void {
    const request = pairingRequestFromBytes(readMessage(octets, REVEAL, [3]).octets(3));
    // Spent before it is compared: a wrong reveal ends the pairing, and no other may be tried.
    const committed = this.#committed;
    this.#committed = utf8("spent");
    if (!equalSecret(commitmentOf(request), committed))
      throw new Untrusted("the new device is not the one that began: begin the pairing again");
    // A device of another account could commit and reveal quite honestly, and digits would agree.
    if (!isOf(request, this.device)) throw new Untrusted("the new device is another account's");
    this.#request = request;
    this.#code = shortCode(transcriptOf(request, ...hashesOf(this.device), this.#nonce), this.digits);
  }

  /** The digits that the new device must be showing. Throws a RangeError before the reveal. */
  get code(): string {
    return known(this.#code);
  }

  /**
   * Return the new device's request when the digits typed from its screen are right, in whatever groups.
   *
   * Throws Untrusted when they are not, and this pairing is then over. A RangeError before the reveal.
   */
  confirm(said: string): PairingRequest {
    // Cleared before the comparison: one try, whatever comes of it.
    const code = known(this.#code), request = this.#request;
    this.#code = "";
    this.#request = undefined;
    if (request === undefined || !equalSecret(utf8(typed.ungrouped(said)), utf8(code)))
      throw new Untrusted("the digits are not those of this pairing: somebody may stand between the devices");
    return request;
  }
}

function known(code: string): string {
  if (code === "") throw new RangeError("there is no code yet, or no longer");
  return code;
}

function isOf(request: PairingRequest, device: DeviceStatement): boolean {
  return equal(request.tenant, device.header.tenant) && equal(request.user, device.header.user);
}

function hashesOf(device: DeviceStatement): readonly [statement: Bytes, key: Bytes] {
  return [sha256(deviceToPayload(device)), sha256(device.sealingKey.encoded)];
}

function commitmentOf(request: PairingRequest): Bytes {
  // Over the whole request. The nonce in it hides the rest, which the server knows: it could otherwise tell what was
  // committed to and work out the code ahead.
  return sha256(label("pairing-commitment", pairingRequestToBytes(request)));
}

function transcriptOf(request: PairingRequest, statementHash: Bytes, keyHash: Bytes, nonce: Bytes): Bytes {
  // Both devices' hashes and both nonces: a server that plays each to the other has two transcripts, and two codes.
  return label("pairing-code", pairingRequestToBytes(request), statementHash, keyHash, nonce);
}

function message(step: number, ...parts: readonly Bytes[]): Bytes {
  const fields = parts.map((part, at): [number, Bytes] => [at + 3, part]);
  return encode(new Map<number, number | Bytes>([[1, VERSION], [2, step], ...fields]));
}

function readMessage(octets: Uint8Array, step: number, keys: readonly number[]): Fields {
  const read = Fields.of(decode(octets, MAX_MESSAGE), "pairing message", [1, 2, ...keys]);
  read.uint(1, { minimum: VERSION, maximum: VERSION });
  read.uint(2, { minimum: step, maximum: step });
  return read;
}
