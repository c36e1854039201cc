// SPDX-License-Identifier: Apache-2.0
/**
 * The type of every secret byte string: it prints its length only, and `reveal()` is the single way out.
 *
 * Does not promise to wipe memory: engines copy freely. `forget()` overwrites the one copy that is held here.
 */
import { type Bytes, equalSecret } from "./bytes.js";

/** Holds a secret of any length; compares in constant time; refuses to be printed, stored or cloned. */
export class SecretBytes {
  readonly #value: Bytes;

  /** Takes a copy. Throws a TypeError when made from anything but bytes (a caller's mistake). */
  constructor(value: Uint8Array) {
    if (!(value instanceof Uint8Array)) throw new TypeError("a secret is made from bytes");
    this.#value = new Uint8Array(value); // not slice(): that of a Node Buffer is a view
  }

  /** Return the secret itself. Every caller of this is on the security review list. */
  reveal(): Bytes {
    return this.#value;
  }

  get length(): number {
    return this.#value.length;
  }

  /** Compare with another secret in time that depends on the lengths only. */
  equals(other: SecretBytes): boolean {
    return equalSecret(this.#value, other.#value);
  }

  /** Overwrite what is held. It is of no use afterwards; copies that an engine or WebCrypto made stay. */
  forget(): void {
    this.#value.fill(0);
  }

  toString(): string {
    return `<SecretBytes of ${this.#value.length} bytes>`;
  }

  /** JSON would write the bytes down. */
  toJSON(): never {
    throw new TypeError("a secret is not written as JSON");
  }

  [Symbol.toPrimitive](): never {
    throw new TypeError("a secret is not formatted");
  }

  /** What Node and its loggers print. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}
