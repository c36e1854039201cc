// SPDX-License-Identifier: Apache-2.0
/** An app's own keys: used again, exported never, and gone when they are cleared. */
import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { utf8 } from "../../../src/core/base/bytes.js";
import { MachineError, ProfileError, WrongInput } from "../../../src/client/errors.js";
import { removeKeyStorage, SecureKeyStorage, type SessionStorage } from "../../../src/client/profile/key_storage.js";

/** Session storage as a tab has it (HTML Standard, section 12.2): texts by texts, in the order of their names. */
class Tab implements SessionStorage {
  readonly items = new Map<string, string>();

  get length(): number {
    return this.items.size;
  }
  key(at: number): string | null {
    return [...this.items.keys()][at] ?? null;
  }
  getItem(name: string): string | null {
    return this.items.get(name) ?? null;
  }
  setItem(name: string, value: string): void {
    this.items.set(name, value);
  }
  removeItem(name: string): void {
    this.items.delete(name);
  }
}

let tab: Tab, storage: SecureKeyStorage;

beforeEach(async () => {
  tab = new Tab();
  storage = await SecureKeyStorage.open("test", tab);
});
afterEach(async () => {
  storage.close();
  await removeKeyStorage("test");
});

const PRIVATE: [string, Parameters<SubtleCrypto["generateKey"]>[0], KeyUsage[]][] = [
  ["Ed25519", { name: "Ed25519" }, ["sign", "verify"]],
  ["X25519", { name: "X25519" }, ["deriveBits"]],
  ["ECDSA", { name: "ECDSA", namedCurve: "P-256" } as EcKeyGenParams, ["sign", "verify"]],
  ["ECDH", { name: "ECDH", namedCurve: "P-256" } as EcKeyGenParams, ["deriveBits"]],
  ["RSA", { name: "RSA-PSS", modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: "SHA-256" } as RsaHashedKeyGenParams, ["sign", "verify"]],
];
const SECRET: [string, AesKeyGenParams | HmacKeyGenParams, KeyUsage[]][] = [
  ["AES-GCM", { name: "AES-GCM", length: 256 }, ["encrypt", "decrypt"]],
  ["AES-KW", { name: "AES-KW", length: 256 }, ["wrapKey", "unwrapKey"]],
  ["HMAC", { name: "HMAC", hash: "SHA-256", length: 256 }, ["sign"]],
];

async function cannotBeExported(key: CryptoKey | undefined): Promise<void> {
  expect(key?.extractable).toBe(false);
  for (const format of ["raw", "pkcs8", "jwk"] as const) await expect(crypto.subtle.exportKey(format as "jwk", key as CryptoKey)).rejects.toThrow();
}

test.each(PRIVATE)("a private key (%s) is given back to be used, and refuses to be exported, however it was made", async (_, algorithm, usages) => {
  for (const extractable of [true, false]) {
    const { privateKey } = (await crypto.subtle.generateKey(algorithm, extractable, usages)) as CryptoKeyPair;
    await storage.storePrivateKey("mine", privateKey);
    const key = await storage.getPrivateKey("mine");
    await cannotBeExported(key);
    expect([key?.usages, key?.algorithm.name]).toEqual([privateKey.usages, privateKey.algorithm.name]);
  }
});

test("a private key that is given back signs as the one that was stored", async () => {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  await storage.storePrivateKey("mine", pair.privateKey);
  const signature = await crypto.subtle.sign("Ed25519", (await storage.getPrivateKey("mine")) as CryptoKey, utf8("x"));
  expect(await crypto.subtle.verify("Ed25519", pair.publicKey, signature, utf8("x"))).toBe(true);
  expect(await storage.getPrivateKey("other")).toBeUndefined();
});

test.each(SECRET)("a session key (%s) is given back to be used, and refuses to be exported", async (_, algorithm, usages) => {
  const key = await crypto.subtle.generateKey(algorithm, true, usages);
  await storage.storeSessionKey("chat", key);
  const back = await storage.getSessionKey("chat");
  await cannotBeExported(back);
  expect([back?.usages, back?.algorithm]).toEqual([key.usages, key.algorithm]);
  expect(await storage.getSessionKey("other")).toBeUndefined();
});

test("session storage and IndexedDB hold no bytes of a session key, and no other tab has it", async () => {
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  const raw = Buffer.from(await crypto.subtle.exportKey("raw", key));
  await storage.storeSessionKey("chat", key);
  const held = [...tab.items.values()].join(), bytes = held.split(".").map((part) => Buffer.from(part, "base64url"));
  for (const form of ["hex", "base64", "base64url"] as const) expect(held).not.toContain(raw.toString(form));
  expect(bytes.some((part) => part.includes(raw))).toBe(false);
  const other = await SecureKeyStorage.open("test", new Tab());
  expect(await other.getSessionKey("chat")).toBeUndefined();
  other.close();
});

test("a session key that was changed, or moved to another name, does not open", async () => {
  const key = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, true, ["sign"]);
  await storage.storeSessionKey("chat", key);
  const item = "holdfast-keys:test:chat", line = tab.items.get(item) as string, [kind, sealed] = line.split(".") as [string, string];
  const other = Buffer.from(JSON.stringify({ algorithm: { name: "HMAC", hash: { name: "SHA-1" } }, usages: ["sign"] })).toString("base64url");
  for (const changed of ["", "x", kind, `${kind}.`, `${kind}.AAAA`, `${other}.${sealed}`, `${kind}.${sealed.slice(4)}`, `!.${sealed}`, `e30.${sealed}`]) {
    tab.items.set(item, changed);
    await expect(storage.getSessionKey("chat")).rejects.toThrow(ProfileError);
  }
  tab.items.set("holdfast-keys:test:mine", line);
  await expect(storage.getSessionKey("mine")).rejects.toThrow(ProfileError);
});

test("clearing destroys every key, here and for other tabs, and nothing of others", async () => {
  const { privateKey } = (await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"])) as CryptoKeyPair;
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
  const theirs = new Tab(), other = await SecureKeyStorage.open("test", theirs);
  await storage.storePrivateKey("mine", privateKey);
  await storage.storeSessionKey("chat", key);
  await storage.storeSessionKey("call", key);
  await other.storeSessionKey("chat", key);
  tab.setItem("the app's own", "x");
  await storage.clearAllKeys();
  expect([await storage.getPrivateKey("mine"), await storage.getSessionKey("chat"), [...tab.items.keys()]]).toEqual([undefined, undefined, ["the app's own"]]);
  await expect(other.getSessionKey("chat")).rejects.toThrow(ProfileError);
  await storage.storeSessionKey("chat", key);
  expect(await storage.getSessionKey("chat")).toBeDefined();
  other.close();
});

test("keys of another kind are refused, and so is a place without session storage", async () => {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  const locked = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  await expect(storage.storePrivateKey("x", pair.publicKey)).rejects.toThrow(WrongInput);
  await expect(storage.storePrivateKey("x", locked)).rejects.toThrow(WrongInput);
  for (const key of [pair.privateKey, locked]) await expect(storage.storeSessionKey("x", key)).rejects.toThrow(WrongInput);
  const worker = await SecureKeyStorage.open("test");
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
  await expect(worker.storeSessionKey("x", key)).rejects.toThrow(MachineError);
  await worker.clearAllKeys();
  worker.close();
});

test("a tab without room says so", async () => {
  tab.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
  await expect(storage.storeSessionKey("x", key)).rejects.toThrow(MachineError);
  expect(tab.items.size).toBe(0);
});

test("storages whose names begin alike keep their session keys apart", async () => {
  const other = await SecureKeyStorage.open("test:b", tab), make = () =>
    crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  await other.storeSessionKey("c", await make());
  await storage.storeSessionKey("b:c", await make());
  expect((await other.getSessionKey("c"))?.type).toBe("secret");
  await storage.clearAllKeys();
  expect((await other.getSessionKey("c"))?.type).toBe("secret");
  other.close();
  await removeKeyStorage("test:b");
});
