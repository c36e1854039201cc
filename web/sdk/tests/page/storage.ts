// SPDX-License-Identifier: Apache-2.0
/**
 * What a page of the tests can do with a profile, without a server: tests/web/faults calls it by name.
 *
 * Everything goes in and comes out as JSON. An error comes out as its class, its sentence and its way out.
 */
import { hex, unhex, utf8 } from "../../src/core/base/bytes.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { create, openProfile, remove } from "../../src/client/profile/account.js";
import { keeping } from "../../src/client/profile/keeping.js";
import { SecureKeyStorage } from "../../src/client/profile/key_storage.js";
import { IndexedDbStore } from "../../src/client/profile/store.js";

const OF = { tenant: new Uint8Array(16).fill(1), user: new Uint8Array(16).fill(2) };
const open = new Map<string, IndexedDbStore>();

/** What became of a call. */
export type Outcome = { readonly value: unknown } | { readonly error: string; readonly [part: string]: string };

async function outcome(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { value: (await work()) ?? null };
  } catch (error) {
    const { name, message, wayOut = "", stack = "" } = error as Error & { wayOut?: string };
    return { error: name, message, wayOut, code: "", stack };
  }
}

function store(name: string): IndexedDbStore {
  const found = open.get(name);
  if (found === undefined) throw new Error(`no open profile ${name}`);
  return found;
}

/** A profile as a program writes it: its counter, and a row of the same number, in one transaction. */
const acts = {
  async create(name: string): Promise<void> {
    open.set(name, await IndexedDbStore.create(name, OF));
  },
  async open(name: string): Promise<void> {
    open.set(name, await IndexedDbStore.open(name));
  },
  async close(name: string): Promise<void> {
    await store(name).close();
  },
  async remove(name: string): Promise<void> {
    await remove(name);
  },
  /** Add one to the counter and write it into each row, all or nothing. size: of a row. */
  async count(name: string, rows = 3, size = 64): Promise<number> {
    return store(name).locked(async () => {
      await store(name).refresh();
      return acts.countAlone(name, rows, size);
    }, 10);
  },
  /** The same without a look at what others do. */
  async countAlone(name: string, rows = 3, size = 64): Promise<number> {
    const next = (await acts.counter(name)) + 1;
    await store(name).transaction(async () => {
      for (let row = 0; row < rows; row++) await store(name).put("row", Uint8Array.of(row), filled(next, size));
      await store(name).put("counter", new Uint8Array(0), filled(next, 4));
    });
    return next;
  },
  async counter(name: string): Promise<number> {
    return numberOf(await store(name).get("counter", new Uint8Array(0)));
  },
  /** Return the numbers that the rows hold. */
  async rows(name: string): Promise<number[]> {
    const keys = await store(name).keys("row");
    return Promise.all(keys.map(async (key) => numberOf(await store(name).get("row", key))));
  },
  async refresh(name: string): Promise<boolean> {
    return store(name).refresh();
  },
  async rekey(name: string): Promise<void> {
    await store(name).rekey();
  },
  /** Hold the profile until the page ends. */
  async hold(name: string): Promise<void> {
    await new Promise<void>((resolve) => void store(name).locked(async () => (resolve(), new Promise(() => {}))));
  },
  async keeping(): Promise<unknown> {
    return keeping();
  },
  /** Make an account with a device of random seeds, and return them in hex. */
  async account(name: string): Promise<string[]> {
    const account = await create(name, OF), seeds = Array.from({ length: 4 }, () => randomBytes(32));
    const [signingSeed, agreementSeed, sealingSeed, identitySeed] = seeds.map((seed) => new SecretBytes(seed.slice())) as [
      SecretBytes, SecretBytes, SecretBytes, SecretBytes,
    ];
    account.state.server = "https://keys.example";
    account.state.device = { id: OF.user, signingSeed, agreementSeed, sealingSeed, statement: utf8("said"), isActive: true };
    account.state.identitySeed = identitySeed;
    await account.save();
    await account.close();
    return seeds.map(hex);
  },
  /** Replace every seed of an account, and return the new ones. */
  async replaceSeeds(name: string): Promise<string[]> {
    const account = await openProfile(name), { device } = account, seeds = Array.from({ length: 4 }, () => randomBytes(32));
    [device.signingSeed, device.agreementSeed, device.sealingSeed, account.state.identitySeed] = seeds.map(
      (seed) => new SecretBytes(seed.slice()),
    ) as [SecretBytes, SecretBytes, SecretBytes, SecretBytes];
    await account.save();
    await account.close();
    return seeds.map(hex);
  },
  async server(name: string): Promise<string> {
    const account = await openProfile(name);
    await account.close();
    return account.state.server;
  },
  /** Keep one private key and one session key of an app, and return what they are made of. */
  async appKeys(): Promise<string[]> {
    const keys = await SecureKeyStorage.open("app"), exported = (key: CryptoKey, as: "raw" | "pkcs8") => crypto.subtle.exportKey(as, key);
    const { privateKey } = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
    const session = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
    await keys.storePrivateKey("own", privateKey);
    await keys.storeSessionKey("chat", session);
    keys.close();
    return [hex(new Uint8Array(await exported(privateKey, "pkcs8")).slice(-32)), hex(new Uint8Array(await exported(session, "raw")))];
  },
  /** Tell which of an app's keys are there and whether any can be exported. */
  async appKeysThere(): Promise<[own: boolean, chat: boolean, exportable: boolean]> {
    const keys = await SecureKeyStorage.open("app");
    try {
      const found = [await keys.getPrivateKey("own"), await keys.getSessionKey("chat")];
      const tried = found.flatMap((key) => (key === undefined ? [] : (["raw", "pkcs8", "jwk"] as const).map((as) => crypto.subtle.exportKey(as as "jwk", key))));
      const exported = (await Promise.allSettled(tried)).some(({ status }) => status === "fulfilled");
      return [found[0] !== undefined, found[1] !== undefined, exported];
    } finally {
      keys.close();
    }
  },
  async clearAppKeys(): Promise<void> {
    const keys = await SecureKeyStorage.open("app");
    await keys.clearAllKeys();
    keys.close();
  },
  /** Be a newer program that opens a profile, and makes another layout of it; tells what others did meanwhile. */
  async renew(name: string): Promise<void> {
    await renewed(`holdfast:${name}`);
  },
  /** Write of a state that a newer program keeps under the same layout. */
  async renewState(name: string): Promise<void> {
    const newer = await IndexedDbStore.open(name), state = (await newer.get("state", new Uint8Array(0))) as SecretBytes;
    const text = hex(state.reveal());
    // A map that begins with 1: 1, the version of the state.
    const changed = text.replace(/^(a.01)01/, (_, before: string) => `${before}02`);
    await newer.put("state", new Uint8Array(0), new SecretBytes(unhex(changed)));
    await newer.close();
  },
  dump: (): Promise<string> => dump(),
};

function filled(number: number, size: number): SecretBytes {
  const value = new Uint8Array(size);
  new DataView(value.buffer).setUint32(0, number);
  crypto.getRandomValues(value.subarray(4, Math.min(size, 65_536)));
  return new SecretBytes(value);
}

function numberOf(secret: SecretBytes | undefined): number {
  return secret === undefined ? 0 : new DataView(secret.reveal().slice().buffer).getUint32(0);
}

async function renewed(database: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const asked = indexedDB.open(database, 2);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("newer").put("what the newer program needs", "kept");
    };
    asked.onblocked = () => reject(new Error("an older page keeps the newer program out"));
    asked.onerror = () => reject(asked.error as DOMException);
    asked.onsuccess = () => (asked.result.close(), resolve());
  });
}

/** Return all that IndexedDB and session storage hold, with each octet in hex; a key is tried to be exported. */
async function dump(): Promise<string> {
  const said: string[] = [];
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise<IDBDatabase>((resolve, reject) => {
      const asked = indexedDB.open(name as string);
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error as DOMException);
    });
    for (const part of [...database.objectStoreNames]) {
      const all = database.transaction(part).objectStore(part).getAll();
      await new Promise((resolve) => (all.onsuccess = resolve));
      said.push(`${name} ${part}`, await shown(all.result));
    }
    database.close();
  }
  for (let at = 0; at < sessionStorage.length; at++) {
    const item = sessionStorage.key(at) as string, kept = sessionStorage.getItem(item) as string;
    said.push(item, ...kept.split(".").map((part) => hex(Uint8Array.from(atob(part.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0)))));
  }
  return said.join("\n");
}

async function shown(value: unknown): Promise<string> {
  if (value instanceof CryptoKey) {
    const exported = await crypto.subtle.exportKey(value.type === "secret" ? "raw" : "pkcs8", value).catch(() => undefined);
    return exported === undefined ? "[a key that is not exported]" : hex(new Uint8Array(exported));
  }
  if (ArrayBuffer.isView(value)) return hex(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (value instanceof ArrayBuffer) return hex(new Uint8Array(value));
  if (typeof value !== "object" || value === null) return String(value);
  return (await Promise.all(Object.entries(value).map(async ([name, one]) => `${name}=${await shown(one)}`))).join(" ");
}

/** Do one of the acts above. */
export function act(name: keyof typeof acts, ...given: unknown[]): Promise<Outcome> {
  return outcome(() => (acts[name] as (...given: unknown[]) => Promise<unknown>)(...given));
}

// A worker is asked by messages, a page by its global.
Object.assign(globalThis, { act });
if (!("document" in globalThis))
  addEventListener("message", (event: MessageEvent<[name: keyof typeof acts, ...given: unknown[]]>) => {
    void act(...event.data).then((done) => event.ports[0]?.postMessage(done));
  });
