// SPDX-License-Identifier: Apache-2.0
/**
 * Slow hashing of what a person remembers: Argon2id (RFC 9106, version 0x13), its cost and the bounds a client keeps to.
 *
 * Does not count attempts: a door that has been copied is guessed at offline, and the cost is what there is. The code of
 * Argon2id (WebAssembly) is loaded when it is first needed.
 */
import { type Bytes, lengthOf, utf8 } from "../base/bytes.js";
import { type Encodable, Fields, mapOf, type Value } from "../base/encoding.js";
import { Malformed, OutOfBounds, Unusable } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { MAX_TYPED, password as canonicalPassword } from "../base/typed.js";
import { randomBytes } from "./webcrypto.js";

// The only one: a field that names the algorithm is an offer to choose a weaker one, so every other value is refused.
const ALGORITHM = "argon2id";
const ARGON2_VERSION = 0x13; // RFC 9106 section 3.1: the only version that it defines
/** Bytes: RFC 9106 section 3.1 recommends 16 for passwords. */
export const SALT_SIZE = 16;
const STRETCHED_SIZE = 32; // bytes: the ikm of HKDF, as long as what it derives
/** Characters. No password that a person remembers is longer. */
export const MAX_PASSWORD = 1024;

/** Memory in KiB, passes and lanes. */
export interface Argon2Cost {
  readonly memoryKib: number;
  readonly passes: number;
  readonly lanes: number;
}

/** RFC 9106 section 4, second recommended option. */
export const DEFAULT_COST: Argon2Cost = { memoryKib: 64 * 1024, passes: 3, lanes: 4 };
/** Four times the memory of the default, for whoever waits that long. */
export const HIGH_COST: Argon2Cost = { memoryKib: 256 * 1024, passes: 3, lanes: 4 };

/** Throw OutOfBounds for a cost outside 19 MiB..1 GiB, 2..10 passes, 1..8 lanes. */
export function requireCost({ memoryKib, passes, lanes }: Argon2Cost): void {
  // The server stores these numbers: too low gives it the password, too high stops the device.
  const isWithin =
    memoryKib >= 19 * 1024 && memoryKib <= 1024 * 1024 && passes >= 2 && passes <= 10 && lanes >= 1 && lanes <= 8;
  if (!isWithin) throw new OutOfBounds("Argon2id outside 19 MiB..1 GiB, 2..10 passes, 1..8 lanes");
}

/** How one password is stretched: the cost and a salt of 16 bytes. */
export class Stretching {
  /** Throws OutOfBounds, before any hashing. */
  constructor(
    readonly cost: Argon2Cost,
    readonly salt: Bytes,
  ) {
    requireCost(cost);
  }

  /** Choose a new salt. */
  static fresh(cost: Argon2Cost = DEFAULT_COST): Stretching {
    return new Stretching(cost, randomBytes(SALT_SIZE));
  }

  /** Return {1: "argon2id", 2: 0x13, 3: memory in KiB, 4: passes, 5: lanes, 6: salt}. */
  toMap(): Map<number, Encodable> {
    const { memoryKib, passes, lanes } = this.cost;
    return mapOf({ 1: ALGORITHM, 2: ARGON2_VERSION, 3: memoryKib, 4: passes, 5: lanes, 6: this.salt });
  }

  /** Read the map; throws Malformed, and OutOfBounds for a cost outside the bounds. */
  static fromMap(value: Value, what: string): Stretching {
    const kdf = Fields.of(value, what, [1, 2, 3, 4, 5, 6]);
    if (kdf.text(1) !== ALGORITHM || kdf.uint(2) !== ARGON2_VERSION)
      throw new Malformed(`${what}: not Argon2id version 0x13`);
    // Refused while reading: no number of the server's reaches the hash function.
    const cost = { memoryKib: kdf.uint(3), passes: kdf.uint(4), lanes: kdf.uint(5) };
    requireCost(cost);
    return new Stretching(cost, kdf.octets(6, SALT_SIZE));
  }

  /** Return 32 bytes of Argon2id over one of a password's `readings`. */
  async stretch(reading: SecretBytes): Promise<SecretBytes> {
    const { argon2id } = await import("hash-wasm");
    const made = await argon2id({
      password: reading.reveal(),
      salt: this.salt,
      hashLength: STRETCHED_SIZE,
      iterations: this.cost.passes,
      parallelism: this.cost.lanes,
      memorySize: this.cost.memoryKib,
      outputType: "binary",
    });
    return new SecretBytes(made);
  }
}

/** Return the form under which a password is stretched from now on, in UTF-8. Throws Unusable as `readings` does. */
export function canonical(password: string): SecretBytes {
  return readings(password)[0] as SecretBytes;
}

/**
 * Return the forms under which a password may have been stretched, in UTF-8: the canonical one, then the earlier.
 *
 * Before there was a canonical form, NFKC alone was taken: what such a password holds beside it, a byte order mark or a
 * space at the end, is part of a door that exists. So a door is made for the first, and tried with each. For most there
 * is one. Throws Unusable above 1,024 characters.
 */
export function readings(password: string): SecretBytes[] {
  // Bounded before it is normalised too: that takes the square of how many combining marks stand in a row. One character
  // is typed as four at most.
  if (lengthOf(password) > MAX_TYPED) throw new Unusable(TOO_LONG);
  const forms = [...new Set([canonicalPassword(password), password.normalize("NFKC")])];
  if (forms.some((form) => lengthOf(form) > MAX_PASSWORD)) throw new Unusable(TOO_LONG);
  try {
    return forms.map((form) => new SecretBytes(utf8(form)));
  } catch {
    throw new Unusable("a password is UTF-8 text");
  }
}

const TOO_LONG = "a password has at most 1,024 characters";
