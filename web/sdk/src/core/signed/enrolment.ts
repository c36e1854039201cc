// SPDX-License-Identifier: Apache-2.0
/**
 * The enrolment code: the one line of text by which a person's new device meets its tenant.
 *
 * docs/formats/requests.md (Enrolment codes), docs/formats/typed.md. Does not decide who may enrol: the server keeps only
 * the code's hash, and its time and use.
 */
import { type Bytes, concat, EMPTY, equal } from "../base/bytes.js";
import { b64u, decode, encode, Fields, label, mapOf, unb64u } from "../base/encoding.js";
import { Malformed, Mistyped } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { code as typedCode, visible } from "../base/typed.js";
import { readBack } from "../base/writing.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import { randomBytes } from "../crypto/webcrypto.js";

/** Tells a code from whatever else is pasted, and carries the version where no reader has to decode first. */
export const PREFIX = "hf2.";
// Codes without a checksum: one wrong letter in a pin or a log key spent the code and stayed in the profile.
const EARLIER = "hf1.";
/** Bytes: a slip passes once in 2^32. Behind the fields, so that it is looked at before anything is read of them. */
export const CHECKSUM_SIZE = 4;
/** Bytes: 128 bits, never guessed in the 30 days that a code can live. */
export const SECRET_SIZE = 16;
/** Bytes: SHA-256; of a founding code, the root key's hash. */
export const PIN_SIZE = 32;
const VERSION = 1; // of the fields; PREFIX is of the line as a whole
const MAX_SIZE = 512; // bytes: the fields with the longest verifier key are some 300, and the checksum
const WHAT = "enrolment code";
const SLIP =
  "enrolment code: not whole, or a letter of it is another one; copy it once more, from hf2. to its end";

/**
 * Return the 32 bytes by which the server knows a code: SHA-256 over tenant, person (16 bytes each) and secret.
 *
 * The secret has 128 random bits, so a stolen hash tells nothing and needs no slow hashing.
 */
export function codeHash(of: { readonly tenant: Bytes; readonly person: Bytes; readonly secret: SecretBytes }): Bytes {
  // Tenant and person are in the hash: moved to another person's row, it fits no code.
  return sha256(label("enrolment-code", of.tenant, of.person, of.secret.reveal()));
}

/** Return the 32 bytes by which a founding code names the tenant's root: SHA-256 over tenant and root key. */
export function foundingRoot(tenant: Bytes, rootKey: PublicKey): Bytes {
  // Another label than the pin's, which names the founding policy as well: neither is ever taken for the other.
  return sha256(label("founding-root", tenant, rootKey.encoded));
}

/**
 * What a code says.
 *
 * A code without pin and founding root leaves the client to trust what it meets first, which it shows and logs.
 */
export interface EnrolmentCode {
  /** 16 bytes. */
  readonly tenant: Bytes;
  /** 16 bytes. */
  readonly person: Bytes;
  /** 16 bytes. */
  readonly secret: SecretBytes;
  /** 32 bytes, or none when not known. */
  readonly rootPin: Bytes;
  /** The verifier key of the tenant's log (C2SP signed-note), or "". */
  readonly logVkey: string;
  /** 32 bytes in place of the pin, in a code of a tenant that is being founded and has no policy yet to pin; else none. */
  readonly foundingRoot: Bytes;
}

/** Make a code with a fresh secret. Throws a RangeError for one with a pin and a founding root. */
export function newCode(of: {
  readonly tenant: Bytes;
  readonly person: Bytes;
  readonly rootPin?: Bytes;
  readonly logVkey?: string;
  readonly foundingRoot?: Bytes;
}): EnrolmentCode {
  const { rootPin = EMPTY, logVkey = "", foundingRoot = EMPTY } = of;
  if (rootPin.length > 0 && foundingRoot.length > 0)
    throw new RangeError("a code pins the root with its policy, or before there is one, and not both");
  const secret = new SecretBytes(randomBytes(SECRET_SIZE));
  return { tenant: of.tenant, person: of.person, secret, rootPin, logVkey, foundingRoot };
}

/**
 * Return the line a person copies: "hf2." and base64url of fields and checksum. It is a secret until used.
 *
 * Throws a RangeError for fields that `parseCode` would refuse (the caller's mistake).
 */
export function codeText(of: EnrolmentCode): string {
  const orNone = <T extends { readonly length: number }>(value: T): T | undefined => (value.length > 0 ? value : undefined);
  const octets = encode(
    mapOf({
      1: VERSION,
      2: of.tenant,
      3: of.person,
      4: of.secret.reveal(),
      5: orNone(of.rootPin),
      6: orNone(of.logVkey),
      7: orNone(of.foundingRoot),
    }),
  );
  return readBack(PREFIX + b64u(concat(octets, checksumOf(octets))), parseCode);
}

/** Tell whether a text is a whole code. */
export function isCode(text: string): boolean {
  try {
    parseCode(text);
    return true;
  } catch (error) {
    if (error instanceof Malformed) return false;
    throw error;
  }
}

/**
 * Read a code as it was copied: wrapped, indented, quoted, in a file of any encoding's mark.
 *
 * Throws Mistyped for a slip and for what is no code, of which nothing is sent to anybody; Malformed for a whole one whose
 * fields are none.
 */
export function parseCode(text: string): EnrolmentCode {
  const whole = octetsOf(text);
  const octets = whole.slice(0, Math.max(0, whole.length - CHECKSUM_SIZE)), checksum = whole.slice(octets.length);
  if (!equal(checksum, checksumOf(octets))) throw new Mistyped(SLIP);
  const fields = Fields.of(decode(octets, MAX_SIZE), WHAT, [1, 2, 3, 4], [5, 6, 7]);
  fields.uint(1, { minimum: VERSION, maximum: VERSION });
  const code: EnrolmentCode = {
    tenant: fields.octets(2, 16),
    person: fields.octets(3, 16),
    secret: new SecretBytes(fields.octets(4, SECRET_SIZE)),
    rootPin: fields.has(5) ? fields.octets(5, PIN_SIZE) : EMPTY,
    logVkey: fields.has(6) ? fields.text(6, { maximum: 200 }) : "",
    foundingRoot: fields.has(7) ? fields.octets(7, PIN_SIZE) : EMPTY,
  };
  // An absent field says "not known"; an empty one would be a second way to say it.
  if (fields.has(6) && code.logVkey === "") throw fields.refuse(6, "is empty");
  if (fields.has(5) && fields.has(7)) throw fields.refuse(7, "stands beside a pin");
  return code;
}

function octetsOf(text: string): Bytes {
  let signs: string;
  try {
    signs = typedCode(text, PREFIX, WHAT);
  } catch (error) {
    if (error instanceof Mistyped && visible(text).toLowerCase().includes(EARLIER))
      throw new Mistyped("this enrolment code is of an earlier version: ask for a new one");
    throw error;
  }
  try {
    return unb64u(signs, MAX_SIZE);
  } catch (error) {
    if (error instanceof Malformed) throw new Mistyped(SLIP);
    throw error;
  }
}

function checksumOf(octets: Bytes): Bytes {
  return sha256(label("enrolment-checksum", octets)).slice(0, CHECKSUM_SIZE);
}
