// SPDX-License-Identifier: Apache-2.0
/** Bytes that Node gives: a Buffer's own slice() is a view of memory that its owner goes on to use. */
import { expect, test } from "vitest";
import { type Bytes, concat } from "../../../src/core/base/bytes.js";
import { decode, encode } from "../../../src/core/base/encoding.js";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { KeyKind, SigningKey } from "../../../src/core/crypto/keys.js";
import { decodePublicKey } from "../../../src/core/crypto/public_keys.js";

const KEY = (await SigningKey.generate(KeyKind.ED25519)).public.encoded;

test.each<[string, Bytes, (data: Uint8Array) => Uint8Array]>([
  ["a secret", Uint8Array.of(1, 2, 3), (data) => new SecretBytes(data).reveal()],
  ["an octet string that was read", encode(Uint8Array.of(1, 2, 3)), (data) => decode(data) as Bytes],
  ["a public key", KEY, (data) => decodePublicKey(data).encoded],
])("%s is a copy of a Buffer, with no more than its bytes", (_, bytes, made) => {
  const expected = made(bytes).slice(), pool = Buffer.from(concat(Uint8Array.of(9, 9), bytes, Uint8Array.of(9)));
  const data = pool.subarray(2, 2 + bytes.length), held = made(data);
  pool.fill(0);
  expect(held).toEqual(expected);
  expect(held.buffer.byteLength).toBe(expected.length);
});
