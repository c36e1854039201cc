// SPDX-License-Identifier: Apache-2.0
/**
 * Where a profile keeps its rows: one encrypted IndexedDB database, or memory.
 *
 * docs/formats/profile.md, and the rule that state is persisted before ciphertext is released. Does not know what a row
 * means, and cannot protect it from another script of the same page.
 */
import { type Bytes, concat, equal, hex } from "../../core/base/bytes.js";
import { decode, encode, Fields, label, MAX_VAULT } from "../../core/base/encoding.js";
import { HoldfastError } from "../../core/base/errors.js";
import { SecretBytes } from "../../core/base/secret.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { gcmDecrypt, gcmEncrypt, NONCE_SIZE } from "../../core/crypto/wrapping.js";
import { damaged } from "../errors.js";
import { type Entry, FORMAT, type Head, ProfileDatabase, type Written } from "./indexed_db.js";
import { withLock } from "./locks.js";

/** Bytes of one row with its frame: the state, or a message with its large content. */
export const MAX_VALUE = 2 * MAX_VAULT;

/**
 * Rows by kind and key. What a transaction did is there wholly and durably when it ends, or not at all.
 *
 * One thing at a time: whoever holds a store waits for each call before the next. `Client` sees to that for its callers.
 */
export interface Store {
  /** The 16-byte tenant whose profile this is. */
  readonly tenant: Bytes;
  /** The 16-byte person whose profile this is. */
  readonly user: Bytes;
  /** How many transactions were undone so far, inner ones too: who remembers what it wrote asks. */
  readonly undone: number;
  /**
   * Group the changes that `work` makes. Nested ones are undone by themselves when they throw; the outermost makes all
   * durable before it returns what `work` gave. Rejects with RaceLost when somebody else has written meanwhile,
   * MachineError when the browser has no room; nothing is kept then.
   */
  transaction<T>(work: () => Promise<T>): Promise<T>;
  /** Return a row's value, or undefined. */
  get(kind: string, key: Uint8Array): Promise<SecretBytes | undefined>;
  /** Write a row, in a transaction of its own when none is open. A row written again keeps its place. */
  put(kind: string, key: Uint8Array, value: SecretBytes): Promise<void>;
  /** Destroy a row, if there is one. */
  delete(kind: string, key: Uint8Array): Promise<void>;
  /** Return the keys of a kind in the order in which they were first written. */
  keys(kind: string): Promise<Bytes[]>;
  /**
   * Keep other holders of the same store out while `work` runs, waiting up to `waitSeconds` (0 unless given) while one
   * is in. Rejects with ProfileBusy when that one is in still. Not to be nested.
   */
  locked<T>(work: () => Promise<T>, waitSeconds?: number): Promise<T>;
  /** Take over what other holders have written meanwhile; returns whether there was anything. Not in a transaction. */
  refresh(): Promise<boolean>;
  /** Give the store back. Nothing may be asked of it afterwards. */
  close(): Promise<void>;
}

/** One row as a transaction leaves it. */
export interface Change {
  readonly kind: string;
  readonly key: Bytes;
  /** Undefined for a row that is destroyed. */
  readonly value: SecretBytes | undefined;
  /** Whether it was destroyed in this transaction before it was written: it has a new place, after all others. */
  readonly isMoved: boolean;
}

/**
 * A store that holds the changes of a transaction in memory until the outermost one ends.
 *
 * What is under it gives committed rows, and takes all changes of a transaction at once.
 */
export abstract class BufferedStore implements Store {
  undone = 0;
  #changes = new Map<string, Change>();
  #depth = 0;

  constructor(
    readonly tenant: Bytes,
    readonly user: Bytes,
  ) {}

  /** Return a committed row's value, or undefined. */
  protected abstract fetch(kind: string, key: Bytes): Promise<SecretBytes | undefined>;
  /** Return the committed keys of a kind by their hex, in the order of their places. */
  protected abstract listed(kind: string): Promise<ReadonlyMap<string, Bytes>>;
  /** Make changes durable, all of them or none; in their order, those of rows that are new or moved. */
  protected abstract commit(changes: readonly Change[]): Promise<void>;

  abstract locked<T>(work: () => Promise<T>, waitSeconds?: number): Promise<T>;
  abstract refresh(): Promise<boolean>;
  abstract close(): Promise<void>;

  /** Whether a transaction is open. */
  protected get isOpen(): boolean {
    return this.#depth > 0;
  }

  async transaction<T>(work: () => Promise<T>): Promise<T> {
    const before = new Map(this.#changes), depth = ++this.#depth;
    let result: T;
    try {
      result = await work();
      // Two at once would each be undone by the other's end. It is a caller's mistake, and found at the first of the two.
      if (this.#depth !== depth) throw new TypeError("two transactions of one store at once: wait for each");
      if (depth === 1 && this.#changes.size > 0) await this.commit([...this.#changes.values()]);
    } catch (error) {
      this.undone += 1;
      this.#changes = before;
      this.#depth = depth - 1;
      throw error;
    }
    this.#depth = depth - 1;
    if (depth === 1) this.#changes = new Map();
    return result;
  }

  async get(kind: string, key: Uint8Array): Promise<SecretBytes | undefined> {
    const change = this.#changes.get(placeOf(kind, key));
    return change === undefined ? this.fetch(kind, key as Bytes) : change.value;
  }

  async put(kind: string, key: Uint8Array, value: SecretBytes): Promise<void> {
    if (value.length > MAX_VALUE - 1024) throw new RangeError("a row has at most 2 MiB");
    await this.#change(kind, key, value);
  }

  async delete(kind: string, key: Uint8Array): Promise<void> {
    await this.#change(kind, key, undefined);
  }

  async #change(kind: string, key: Uint8Array, value: SecretBytes | undefined): Promise<void> {
    if (this.#depth === 0) return this.transaction(() => this.#change(kind, key, value));
    const id = placeOf(kind, key), before = this.#changes.get(id);
    const isBack = before !== undefined && before.value === undefined && value !== undefined;
    // At the end, where a row stands that was destroyed and is written anew.
    if (isBack) this.#changes.delete(id);
    this.#changes.set(id, { kind, key: key.slice() as Bytes, value, isMoved: isBack || (before?.isMoved ?? false) });
    return undefined;
  }

  async keys(kind: string): Promise<Bytes[]> {
    const committed = await this.listed(kind), keys: Bytes[] = [], added: Bytes[] = [];
    for (const [id, key] of committed) {
      const change = this.#changes.get(placeOf(kind, id));
      if (change === undefined || (change.value !== undefined && !change.isMoved)) keys.push(key.slice());
    }
    for (const [id, change] of this.#changes)
      if (change.kind === kind && change.value !== undefined)
        if (change.isMoved || !committed.has(id.slice(kind.length + 1))) added.push(change.key.slice());
    return [...keys, ...added];
  }
}

/** By what a change is found: kinds are words, in which no space stands. */
function placeOf(kind: string, key: Uint8Array | string): string {
  return `${kind} ${typeof key === "string" ? key : hex(key)}`;
}

/** A store for tests, and for programs that keep state elsewhere. Ends with the page. */
export class MemoryStore extends BufferedStore {
  readonly #rows = new Map<string, Map<string, readonly [key: Bytes, value: SecretBytes]>>();

  /** tenant, user: 16 bytes each. */
  constructor({ tenant, user }: { readonly tenant: Bytes; readonly user: Bytes }) {
    super(tenant, user);
  }

  protected override async fetch(kind: string, key: Bytes): Promise<SecretBytes | undefined> {
    return this.#rows.get(kind)?.get(hex(key))?.[1];
  }

  protected override async listed(kind: string): Promise<ReadonlyMap<string, Bytes>> {
    return new Map([...(this.#rows.get(kind) ?? [])].map(([id, [key]]) => [id, key]));
  }

  protected override async commit(changes: readonly Change[]): Promise<void> {
    for (const { kind, key, value, isMoved } of changes) {
      const rows = this.#rows.get(kind) ?? new Map<string, readonly [Bytes, SecretBytes]>();
      this.#rows.set(kind, rows);
      if (value === undefined || isMoved) rows.delete(hex(key));
      if (value !== undefined) rows.set(hex(key), [key, value]);
    }
  }

  override locked<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  override async refresh(): Promise<boolean> {
    return false;
  }

  override async close(): Promise<void> {}
}

/**
 * The profile in the browser: an IndexedDB database with every value encrypted, under keys that no script can read.
 *
 * A transaction is on the disk when it ends (one IndexedDB transaction, durability "strict"): a page that is closed at any
 * moment leaves all of it or nothing. Pages share a profile by its Web Lock (`locked`) and see each other's commits by
 * their number: who has not seen the newest commits nothing (RaceLost).
 *
 * What encryption does: whoever reads the browser's files, or a copy of them, without the browser's own key store, reads
 * kinds, sizes and numbers. What it does not: the two keys lie in the same database, not to be read out, but to be used by
 * every script of this origin, and by whoever runs the browser under the same account. Chromium keeps keys that are not
 * extractable in its files as they are: an old copy of the whole browser profile is an old copy of the rows and the keys.
 *
 * What deletion does: the row is gone for every page at once. When the engine writes its files anew is its own matter
 * (LevelDB and SQLite append, and clear up later), and no page can overwrite a block. `rekey` encrypts all anew under new
 * keys; the old ones are gone as rows are. Beyond any program's reach are wear levelling, snapshots and backups.
 */
export class IndexedDbStore extends BufferedStore {
  readonly name: string;
  readonly #database: ProfileDatabase;
  #head: Head;
  #version: number;
  readonly #keys = new Map<string, Map<string, Bytes>>();

  private constructor(name: string, database: ProfileDatabase, head: Head, version: number) {
    super(head.tenant, head.user);
    this.name = name;
    this.#database = database;
    this.#head = head;
    this.#version = version;
  }

  /**
   * Make a profile of one person, with fresh keys and no rows. tenant, user: 16 bytes each.
   *
   * Rejects with NotPossible when this browser holds one of that name, MachineError when it keeps nothing for this page.
   */
  static async create(name: string, of: { readonly tenant: Bytes; readonly user: Bytes }): Promise<IndexedDbStore> {
    const head = await freshHead(of), database = await ProfileDatabase.create(name, head);
    return new IndexedDbStore(name, database, head, 0);
  }

  /** Open a profile. Rejects with ProfileError for none or a damaged one, UpdateNeeded for a newer program's. */
  static async open(name: string): Promise<IndexedDbStore> {
    const database = await ProfileDatabase.open(name);
    try {
      return new IndexedDbStore(name, database, ...(await database.head()));
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /**
   * Encrypt every row anew under new keys, all of them or none. All rows are in memory meanwhile.
   *
   * What older blocks of the disk still hold is unreadable from then on to whoever has not kept the old keys.
   */
  async rekey(): Promise<void> {
    if (this.isOpen) throw new TypeError("not in a transaction");
    const old = this.#head, head = { ...(await freshHead(old)), profile: old.profile }, changes: Written[] = [];
    for (const entry of await this.#database.list(undefined, this.#version)) {
      const [key, value] = await this.#unseal(entry);
      const name = await nameOf(head, entry.kind, key);
      changes.push({ kind: entry.kind, name: entry.name, sealed: undefined, isMoved: false });
      changes.push({ kind: entry.kind, name, sealed: await sealed(head, entry.kind, name, key, value), isMoved: true });
    }
    this.#version = await this.#database.commit(changes, this.#version, head);
    this.#head = head;
    this.#keys.clear();
  }

  override locked<T>(work: () => Promise<T>, waitSeconds = 0): Promise<T> {
    return withLock(this.name, waitSeconds, work);
  }

  override async refresh(): Promise<boolean> {
    if (this.isOpen) throw new TypeError("not in a transaction");
    if ((await this.#database.version()) === this.#version) return false;
    [this.#head, this.#version] = await this.#database.head();
    this.#keys.clear();
    return true;
  }

  override async close(): Promise<void> {
    this.#database.close();
    this.#keys.clear();
  }

  protected override async fetch(kind: string, key: Bytes): Promise<SecretBytes | undefined> {
    const name = await nameOf(this.#head, kind, key), entry = await this.#database.read(name, this.#version);
    if (entry === undefined) return undefined;
    const [found, value] = await this.#unseal(entry);
    if (entry.kind !== kind || !equal(found, key)) throw damaged("a row is of another kind than its name");
    return value;
  }

  protected override async listed(kind: string): Promise<ReadonlyMap<string, Bytes>> {
    let keys = this.#keys.get(kind);
    if (keys === undefined) {
      // Keys are inside the encrypted rows (they name peers), so they are opened once and remembered.
      const entries = await this.#database.list(kind, this.#version);
      const found = await Promise.all(entries.map((entry) => this.#unseal(entry)));
      keys = new Map(found.map(([key]) => [hex(key), key]));
      this.#keys.set(kind, keys);
    }
    return keys;
  }

  protected override async commit(changes: readonly Change[]): Promise<void> {
    const written = await Promise.all(changes.map((change) => this.#written(change)));
    try {
      this.#version = await this.#database.commit(written, this.#version);
    } catch (error) {
      this.#keys.clear();
      throw error;
    }
    for (const { kind, key, value, isMoved } of changes) {
      const keys = this.#keys.get(kind);
      if (value === undefined || isMoved) keys?.delete(hex(key));
      if (value !== undefined) keys?.set(hex(key), key);
    }
  }

  async #written({ kind, key, value, isMoved }: Change): Promise<Written> {
    const name = await nameOf(this.#head, kind, key);
    return { kind, name, isMoved, sealed: value && (await sealed(this.#head, kind, name, key, value)) };
  }

  async #unseal({ kind, name, sealed }: Entry): Promise<[key: Bytes, value: SecretBytes]> {
    const { rowKey } = this.#head, nonce = sealed.slice(0, NONCE_SIZE), body = sealed.slice(NONCE_SIZE);
    const content = await gcmDecrypt(rowKey, nonce, body, contextOf(this.#head, kind, name));
    if (content === undefined) throw damaged("a row does not open");
    try {
      const row = Fields.ofRow(decode(content, MAX_VALUE), "profile row", 2);
      return [row.octets(0), new SecretBytes(row.octets(1, undefined, { maximum: MAX_VALUE }))];
    } catch (error) {
      throw error instanceof HoldfastError ? damaged(error) : error;
    } finally {
      content.fill(0);
    }
  }
}

async function freshHead({ tenant, user }: { readonly tenant: Bytes; readonly user: Bytes }): Promise<Head> {
  const aes = { name: "AES-GCM", length: 256 }, mac = { name: "HMAC", hash: "SHA-256", length: 256 };
  return {
    format: FORMAT,
    tenant: tenant.slice(),
    user: user.slice(),
    profile: randomBytes(16),
    // Made inside WebCrypto and not extractable: no script, and no memory that one can look at, ever has them.
    rowKey: await crypto.subtle.generateKey(aes, false, ["encrypt", "decrypt"]),
    nameKey: await crypto.subtle.generateKey(mac, false, ["sign"]),
  };
}

/** Return by what a row is found: 32 bytes that say nothing of the key without the profile's. */
async function nameOf(head: Head, kind: string, key: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign("HMAC", head.nameKey, encode([kind, key])));
}

function contextOf({ tenant, user, profile }: Head, kind: string, name: Bytes): Bytes {
  return label("profile-row", tenant, user, profile, kind, name);
}

async function sealed(head: Head, kind: string, name: Bytes, key: Bytes, value: SecretBytes): Promise<Bytes> {
  // At random: two of 2^32 writes meet with a chance of 2^-32 (SP 800-38D section 8.3), and a page that writes a hundred
  // rows for each of a thousand messages a day needs a century for them.
  const nonce = randomBytes(NONCE_SIZE), content = encode([key, value.reveal()]);
  const body = await gcmEncrypt(head.rowKey, nonce, content, contextOf(head, kind, name));
  content.fill(0);
  return concat(nonce, body);
}
