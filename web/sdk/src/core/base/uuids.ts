// SPDX-License-Identifier: Apache-2.0
/** The text of 16-byte identifiers, as paths, log names and people have it (RFC 9562 section 4). Makes no identifiers. */
import { type Bytes, hex, unhex } from "./bytes.js";

/** Return the canonical text of a 16-byte identifier. Throws a RangeError for another size (the caller's mistake). */
export function uuidText(id: Uint8Array): string {
  if (id.length !== 16) throw new RangeError("an identifier has 16 bytes");
  return hex(id).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Return the 16 bytes of a UUID that a person typed, in capitals or braces, too. Throws a RangeError for anything else. */
export function uuidBytes(text: string): Bytes {
  const signs = text.trim().replace("urn:", "").replace("uuid:", "").replace(/^[{}]+|[{}]+$/g, "").replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(signs)) throw new RangeError("not a UUID");
  return unhex(signs);
}
