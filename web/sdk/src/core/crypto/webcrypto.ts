// SPDX-License-Identifier: Apache-2.0
/** What this engine's WebCrypto can do, found out once, and randomness. */
import type { Bytes } from "../base/bytes.js";

/** The curves that browsers learned late. */
export type LateCurve = "Ed25519" | "X25519";

const known = new Map<LateCurve, Promise<boolean>>();

/** Tell whether WebCrypto has a curve. Where it lacks one, noble's code does it, with keys that the page can read. */
export function hasCurve(name: LateCurve): Promise<boolean> {
  let found = known.get(name);
  if (found === undefined) {
    const usages: KeyUsage[] = name === "Ed25519" ? ["sign", "verify"] : ["deriveBits"];
    found = crypto.subtle.generateKey({ name }, false, usages).then(
      () => true,
      () => false,
    );
    known.set(name, found);
  }
  return found;
}

/** Return `size` bytes of the system's randomness. */
export function randomBytes(size: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(size));
}
