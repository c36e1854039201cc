// SPDX-License-Identifier: Apache-2.0
/** Values on their way between Python's tests and the rooms of the client, in JSON: `tests/web/wire.py` is the twin. */
import { hex, unhex } from "../../src/core/base/bytes.js";
import { HoldfastError } from "../../src/core/base/errors.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { SigningKey, type SigningKind } from "../../src/core/crypto/keys.js";
import { type Language, Phrase } from "../../src/core/crypto/phrase.js";
import { decodePublicKey, PublicKey } from "../../src/core/crypto/public_keys.js";
import { Entry } from "../../src/core/identity/entries.js";
import { Sign1 } from "../../src/core/signed/cose.js";
import { ClientError, Problem } from "../../src/client/errors.js";
import { ExistingDevice, NewDevice } from "../../src/core/vault/pairing.js";
import { Account } from "../../src/client/profile/account.js";
import { BufferedStore } from "../../src/client/profile/store.js";

/** What JSON has, and what a value becomes in it: an object of one name says what it is. */
// eslint-disable-next-line
export type Json = any;

/** Objects that stay here and are called by their number. */
export const held: object[] = [];

const CALLED = [Account, BufferedStore, ExistingDevice, NewDevice];

/** Put a value into JSON. */
export function tell(value: unknown): Json {
  if (value === undefined || value === null) return null;
  if (typeof value !== "object") return value;
  if (value instanceof Uint8Array) return { octets: hex(value) };
  if (value instanceof SecretBytes) return { secret: hex(value.reveal()) };
  if (value instanceof PublicKey) return { key: hex(value.encoded) };
  if (value instanceof SigningKey) return { signing: [value.public.kind, hex(value.seed().reveal())] };
  if (value instanceof Phrase) return { phrase: [value.language, hex(value.entropy.reveal())] };
  if (value instanceof Entry) return { entry: hex(value.encode()) };
  if (value instanceof Sign1) return { sign1: hex(value.encode()) };
  if (value instanceof Map) return { map: [...value].map(([name, one]) => [tell(name), tell(one)]) };
  if (value instanceof Set) return { set: [...value].map(tell) };
  if (Array.isArray(value)) return value.map(tell);
  if (Object.getPrototypeOf(value) === Object.prototype)
    return { object: Object.fromEntries(Object.entries(value).map(([name, one]) => [name, tell(one)])) };
  if (value instanceof Error) return { error: refusal(value) };
  return { held: held.push(value) - 1, class: value.constructor.name, fields: fieldsOf(value) };
}

/** What an object shows: its own fields, and what its class works out of them; not what it only calls. */
function fieldsOf(value: object): Json {
  const fields = new Map<string, unknown>(Object.entries(value));
  const { prototype } = value.constructor as { prototype: object };
  for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
    if (get) fields.set(name, get.call(value));
  return Object.fromEntries([...fields].filter(([, one]) => !isCalled(one)).map(([name, one]) => [name, tell(one)]));
}

/** Whether a value is an object with something of its own to call, such as the account. */
function isCalled(value: unknown): boolean {
  return typeof value === "function" || CALLED.some((kind) => value instanceof kind);
}

/** What Python needs to raise the same. */
export function refusal(error: unknown): Json {
  if (!(error instanceof Error)) return { class: "", message: String(error) };
  const { name, message } = error, said = { class: name, message };
  if (error instanceof Problem) return { ...said, wayOut: error.wayOut, status: error.status, code: error.code };
  if (error instanceof ClientError) return { ...said, wayOut: error.wayOut };
  if (error instanceof HoldfastError || error instanceof RangeError) return said;
  return { ...said, stack: error.stack };
}

const READERS: Readonly<Record<string, (of: Json) => unknown>> = {
  octets: unhex,
  secret: (of) => new SecretBytes(unhex(of)),
  key: (of) => decodePublicKey(unhex(of)),
  signing: ([kind, seed]) => SigningKey.fromSeed(kind as SigningKind, new SecretBytes(unhex(seed))),
  phrase: ([language, entropy]) => new Phrase(new SecretBytes(unhex(entropy)), language as Language),
  entry: (of) => Entry.parse(unhex(of)),
  sign1: (of) => Sign1.parse(unhex(of)),
  held: (of) => held[of],
};

/** Take a value out of JSON. */
export async function hear(value: Json): Promise<unknown> {
  if (value === null) return undefined;
  if (typeof value !== "object") return value;
  if (Array.isArray(value)) return Promise.all(value.map(hear));
  const [kind] = Object.keys(value) as [string], of = value[kind];
  if (kind === "map") return new Map((await hear(of)) as [unknown, unknown][]);
  if (kind === "set") return new Set((await hear(of)) as unknown[]);
  if (kind === "object") {
    const fields = await Promise.all(Object.entries(of).map(async ([name, one]) => [name, await hear(one)] as const));
    // A field that is not there: options of the client's calls are left out, not undefined.
    return Object.fromEntries(fields.filter(([, one]) => one !== undefined));
  }
  return READERS[kind]?.(of);
}
