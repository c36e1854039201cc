// SPDX-License-Identifier: Apache-2.0
/**
 * Where a profile keeps its rows: one encrypted IndexedDB database, or memory.
 *
 * docs/formats/profile.md, and the rule that state is persisted before ciphertext is released. Does not know what a row
 * means, and cannot protect it from another script of the same page.
 */
import { type Bytes, hex } from "../../core/base/bytes.js";
import { MAX_VAULT } from "../../core/base/encoding.js";
import type { SecretBytes } from "../../core/base/secret.js";

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
