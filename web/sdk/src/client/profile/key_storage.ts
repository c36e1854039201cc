// SPDX-License-Identifier: Apache-2.0
/**
 * A place for an app's own keys: private keys in IndexedDB, session keys in this tab's session storage.
 *
 * No key that was put here can be read out again, only used: `exportKey` refuses each. The client's own keys are not here,
 * but in its profile (`store`). Does not protect them from being used by other scripts of the same origin.
 */
import { type DBSchema, deleteDB, type IDBPDatabase, openDB } from "idb";
import { concat, utf8 } from "../../core/base/bytes.js";
import { b64u, unb64u } from "../../core/base/encoding.js";
import { Malformed } from "../../core/base/errors.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { NONCE_SIZE } from "../../core/crypto/wrapping.js";
import { MachineError, ProfileError, WrongInput } from "../errors.js";
import { explaining, quiet } from "./indexed_db.js";

const KEY = "key", WRAPPING = "wrapping";
const AES = { name: "AES-GCM", length: 256 };

interface Schema extends DBSchema {
  key: { key: string; value: CryptoKey };
  wrapping: { key: string; value: CryptoKey };
}

/** What of the browser's storage a session key is kept in. */
export type SessionStorage = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

/** What stands beside a wrapped session key: what WebCrypto needs to take it in again. */
interface Kind {
  readonly algorithm: { readonly name: string; readonly length?: number; readonly hash?: { readonly name: string } };
  readonly usages: readonly KeyUsage[];
}

/**
 * Keeps keys that no script can read out.
 *
 * Private keys stay until they are cleared, as IndexedDB does. Session keys end with the tab: session storage has them
 * wrapped under a key that IndexedDB has, so that neither place alone opens one, and what a browser writes down to restore
 * its tabs is ciphertext. A tab that is duplicated or restored brings its session keys along.
 */
export class SecureKeyStorage {
  readonly #name: string;
  readonly #database: IDBPDatabase<Schema>;
  readonly #session: SessionStorage | undefined;

  private constructor(name: string, database: IDBPDatabase<Schema>, session: SessionStorage | undefined) {
    this.#name = name;
    this.#database = database;
    this.#session = session;
  }

  /**
   * Open the storage of a name, which is made when it is not there. session: in the place of the tab's own.
   *
   * Rejects with MachineError when the browser keeps nothing for this page.
   */
  static async open(name = "keys", session: SessionStorage | undefined = tabs()): Promise<SecureKeyStorage> {
    const database: IDBPDatabase<Schema> = await explaining(() =>
      openDB<Schema>(databaseOf(name), 1, {
        upgrade: (made) => {
          made.createObjectStore(KEY);
          made.createObjectStore(WRAPPING);
        },
        blocking: () => database.close(),
      }),
    );
    return new SecureKeyStorage(name, database, session);
  }

  /**
   * Keep a private key. One that can be exported is kept as one that cannot; whoever made it still has the other.
   *
   * Rejects with WrongInput for a key that is not private, MachineError when the browser has no room.
   */
  async storePrivateKey(id: string, key: CryptoKey): Promise<void> {
    if (key.type !== "private") throw new WrongInput(`A ${key.type} key is no private key.`);
    const locked = key.extractable ? await lock(key) : key;
    await explaining(() => this.#database.put(KEY, locked, id));
  }

  /** Return a private key, to be used and not to be exported; undefined when there is none of this id. */
  getPrivateKey(id: string): Promise<CryptoKey | undefined> {
    return explaining(() => this.#database.get(KEY, id));
  }

  /**
   * Keep a secret key (AES, HMAC) for as long as this tab is open. It has to be extractable, as nothing else leaves
   * WebCrypto; what `getSessionKey` gives is not.
   *
   * Rejects with WrongInput for another key, MachineError where there is no session storage, or no room in it.
   */
  async storeSessionKey(id: string, key: CryptoKey): Promise<void> {
    if (key.type !== "secret" || !key.extractable)
      throw new WrongInput("A session key is a secret key that may be exported until it is stored.");
    const kind: Kind = { algorithm: key.algorithm, usages: key.usages }, text = JSON.stringify(kind);
    const nonce = randomBytes(NONCE_SIZE), under = await this.#wrapping();
    const wrapped = await crypto.subtle.wrapKey("raw", key, under, this.#sealing(id, text, nonce));
    const line = `${b64u(utf8(text))}.${b64u(concat(nonce, new Uint8Array(wrapped)))}`;
    await explaining(async () => this.#tab().setItem(this.#item(id), line));
  }

  /**
   * Return a session key of this tab, to be used and not to be exported; undefined when there is none of this id.
   *
   * Rejects with ProfileError for one that somebody changed, and for one whose keys were cleared by another tab.
   */
  async getSessionKey(id: string): Promise<CryptoKey | undefined> {
    const line = this.#tab().getItem(this.#item(id));
    if (line === null) return undefined;
    try {
      const [kind = "", sealed = ""] = line.split("."), text = new TextDecoder().decode(unb64u(kind)), data = unb64u(sealed);
      const { algorithm, usages } = JSON.parse(text) as Kind, under = await this.#wrapping();
      const sealing = this.#sealing(id, text, data.slice(0, NONCE_SIZE));
      // The kind stands outside, and under the seal as well: under another one nothing opens.
      return await crypto.subtle.unwrapKey("raw", data.slice(NONCE_SIZE), under, sealing, algorithm, false, [...usages]);
    } catch (cause) {
      if (!(cause instanceof Malformed || cause instanceof SyntaxError || cause instanceof DOMException || cause instanceof TypeError))
        throw cause;
      throw new ProfileError("A session key of this tab does not open.", {
        wayOut: "Begin the session again: its keys were cleared in another tab, or somebody changed them.",
        cause,
      });
    }
  }

  /** Destroy every private key, and every session key of this tab; those of other tabs open no more. */
  async clearAllKeys(): Promise<void> {
    await explaining(async () => {
      const transaction = this.#database.transaction([KEY, WRAPPING], "readwrite", { durability: "strict" });
      await Promise.all([transaction.objectStore(KEY).clear(), transaction.objectStore(WRAPPING).clear(), transaction.done]);
    });
    const session = this.#session, mine: string[] = [];
    for (let at = 0; at < (session?.length ?? 0); at++) {
      const item = session?.key(at);
      if (item?.startsWith(this.#item(""))) mine.push(item);
    }
    for (const item of mine) session?.removeItem(item);
  }

  /** Close the connection to IndexedDB. Nothing may be asked afterwards. */
  close(): void {
    this.#database.close();
  }

  /** Return the key under which session keys are wrapped; made once for all tabs. */
  async #wrapping(): Promise<CryptoKey> {
    const fresh = await crypto.subtle.generateKey(AES, false, ["wrapKey", "unwrapKey"]);
    return explaining(async () => {
      const transaction = quiet(this.#database.transaction(WRAPPING, "readwrite", { durability: "strict" }));
      const known = await transaction.store.get(WRAPPING);
      if (known === undefined) await transaction.store.put(fresh, WRAPPING);
      await transaction.done;
      return known ?? fresh;
    });
  }

  #sealing(id: string, kind: string, nonce: Uint8Array<ArrayBuffer>): AesGcmParams {
    return { name: "AES-GCM", iv: nonce, additionalData: utf8(JSON.stringify(["session key", this.#name, id, kind])) };
  }

  #item(id: string): string {
    // No colon in a name: none begins like another.
    return `${databaseOf(encodeURIComponent(this.#name))}:${id}`;
  }

  #tab(): SessionStorage {
    if (this.#session === undefined)
      throw new MachineError("There is no session storage here.", { wayOut: "Keep session keys in a page, not in a worker." });
    return this.#session;
  }
}

/** Remove a storage with all that is in it. Session keys that tabs still have open no more. */
export function removeKeyStorage(name = "keys"): Promise<void> {
  return explaining(() => deleteDB(databaseOf(name)));
}

function databaseOf(name: string): string {
  return `holdfast-keys:${name}`;
}

function tabs(): SessionStorage | undefined {
  try {
    return globalThis.sessionStorage as SessionStorage | undefined;
  } catch {
    return undefined; // where the browser forbids it, looking is an error already
  }
}

async function lock(key: CryptoKey): Promise<CryptoKey> {
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", key));
  const locked = await crypto.subtle.importKey("pkcs8", pkcs8, key.algorithm, false, key.usages);
  pkcs8.fill(0);
  return locked;
}
