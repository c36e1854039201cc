// SPDX-License-Identifier: Apache-2.0
/** Stores: rows in their order, transactions that are whole or nothing, two holders, and what the browser refuses. */
import "fake-indexeddb/auto";
import { afterEach, describe, expect, test } from "vitest";
import { type Bytes, equal, hex, utf8 } from "../../../src/core/base/bytes.js";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { MachineError, NotPossible, ProfileBusy, ProfileError, RaceLost, UpdateNeeded } from "../../../src/client/errors.js";
import { IndexedDbStore, MAX_VALUE, MemoryStore, type Store } from "../../../src/client/profile/store.js";
import { removeDatabase } from "../../../src/client/profile/indexed_db.js";

const TENANT = new Uint8Array(16).fill(1), USER = new Uint8Array(16).fill(2);
let made = 0;
const opened: Store[] = [];

function fresh(): string {
  return `test-${++made}`;
}

async function indexed(name = fresh()): Promise<IndexedDbStore> {
  const store = await IndexedDbStore.create(name, { tenant: TENANT, user: USER });
  opened.push(store);
  return store;
}

async function again(store: IndexedDbStore): Promise<IndexedDbStore> {
  const other = await IndexedDbStore.open(store.name);
  opened.push(other);
  return other;
}

afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

const secret = (text: string): SecretBytes => new SecretBytes(utf8(text));
const textOf = (kept: SecretBytes | undefined): string | undefined =>
  kept === undefined ? undefined : new TextDecoder().decode(kept.reveal());
const read = async (store: Store, kind: string, key: string): Promise<string | undefined> =>
  textOf(await store.get(kind, utf8(key)));
const keysOf = async (store: Store, kind: string): Promise<string[]> =>
  (await store.keys(kind)).map((key) => new TextDecoder().decode(key));
const put = (store: Store, key: string, value: string): Promise<void> => store.put("a", utf8(key), secret(value));

const STORES: [string, () => Promise<Store>][] = [
  ["memory", async () => new MemoryStore({ tenant: TENANT, user: USER })],
  ["IndexedDB", indexed],
];

describe.each(STORES)("a store in %s", (_, make) => {
  test("says whose it is, and gives back what was put under each kind and key", async () => {
    const store = await make();
    expect([hex(store.tenant), hex(store.user)]).toEqual([hex(TENANT), hex(USER)]);
    await store.put("a", utf8("x"), secret("1"));
    await store.put("b", utf8("x"), secret("2"));
    await store.put("a", utf8("x"), secret("3"));
    expect([await read(store, "a", "x"), await read(store, "b", "x"), await read(store, "c", "x")]).toEqual(
      ["3", "2", undefined],
    );
  });

  test("keeps rows in the order in which they were first written, and one destroyed and written anew at the end", async () => {
    const store = await make();
    for (const key of ["x", "y", "z"]) await put(store, key, key);
    await put(store, "x", "again");
    expect(await keysOf(store, "a")).toEqual(["x", "y", "z"]);
    await store.transaction(async () => {
      await store.delete("a", utf8("x"));
      expect(await keysOf(store, "a")).toEqual(["y", "z"]);
      await put(store, "w", "w");
      await put(store, "x", "anew");
      expect(await keysOf(store, "a")).toEqual(["y", "z", "w", "x"]);
    });
    expect(await keysOf(store, "a")).toEqual(["y", "z", "w", "x"]);
  });

  test("undoes a transaction that throws, and an inner one by itself", async () => {
    const store = await make();
    await put(store, "x", "1");
    const undone = store.undone;
    await store.transaction(async () => {
      await put(store, "x", "2");
      await expect(
        store.transaction(async () => {
          await put(store, "x", "3");
          await store.delete("a", utf8("y"));
          await put(store, "y", "3");
          throw new Error("inner");
        }),
      ).rejects.toThrow("inner");
      expect([await read(store, "a", "x"), await read(store, "a", "y")]).toEqual(["2", undefined]);
    });
    expect(await read(store, "a", "x")).toBe("2");
    await expect(
      store.transaction(async () => {
        await store.delete("a", utf8("x"));
        throw new Error("outer");
      }),
    ).rejects.toThrow("outer");
    expect([await read(store, "a", "x"), await keysOf(store, "a"), store.undone - undone]).toEqual(["2", ["x"], 2]);
  });

  test("refuses a row above 2 MiB, and two transactions at once", async () => {
    const store = await make();
    await expect(store.put("a", utf8("x"), new SecretBytes(new Uint8Array(MAX_VALUE)))).rejects.toThrow(RangeError);
    let end = (): void => undefined;
    const first = store.transaction(() => new Promise<void>((resolve) => (end = resolve)));
    const second = store.transaction(() => new Promise<void>((resolve) => setTimeout(resolve, 5)));
    end();
    await expect(first).rejects.toThrow(TypeError);
    await second.catch(() => undefined);
  });

  test("does what a plain map would, whatever is done to it", async () => {
    const store = await make();
    // A fixed seed: the same steps each time, and other ones in each place (Numerical Recipes, section 7.1).
    let state = 7;
    const pick = (below: number): number => Math.floor(((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32) * below);
    let model = new Map<string, string>();
    const step = async (depth: number): Promise<void> => {
      const key = `k${pick(6)}`, act = pick(10);
      if (act < 4) {
        await put(store, key, String(state));
        model.set(key, String(state));
      } else if (act < 7) {
        await store.delete("a", utf8(key));
        model.delete(key);
      } else if (depth < 3) {
        const before = new Map(model), fails = pick(3) === 0;
        const work = store.transaction(async () => {
          for (let left = pick(6); left > 0; left--) await step(depth + 1);
          if (fails) throw new Error("undone");
        });
        if (fails) {
          await expect(work).rejects.toThrow("undone");
          model = before;
        } else {
          await work;
        }
      }
      expect(await keysOf(store, "a")).toEqual([...model.keys()]);
      expect(await read(store, "a", key)).toBe(model.get(key));
    };
    for (let count = 0; count < 120; count++) await step(0);
    if (store instanceof IndexedDbStore) {
      const other = await again(store);
      expect(await keysOf(other, "a")).toEqual([...model.keys()]);
      for (const [key, value] of model) expect(await read(other, "a", key)).toBe(value);
    }
  });
});

describe("a profile in IndexedDB", () => {
  test("is made once, and opened only where there is one, which leaves nothing behind", async () => {
    const store = await indexed();
    await expect(indexed(store.name)).rejects.toThrow(NotPossible);
    const none = fresh();
    await expect(IndexedDbStore.open(none)).rejects.toThrow(ProfileError);
    expect((await indexedDB.databases()).map(({ name }) => name)).not.toContain(`holdfast:${none}`);
    await expect(IndexedDbStore.open(none)).rejects.toMatchObject({ wayOut: expect.stringContaining("Client.enrol()") });
  });

  test("is there when it is opened again, by the same person's name", async () => {
    const store = await indexed();
    await put(store, "x", "1");
    await store.close();
    const other = await again(store);
    expect([await read(other, "a", "x"), hex(other.user)]).toEqual(["1", hex(USER)]);
    await expect(store.get("a", utf8("x"))).rejects.toThrow(ProfileError);
  });

  test("holds nothing that was written in the clear: no value, no key, and no key of its encryption", async () => {
    const store = await indexed(), seed = crypto.getRandomValues(new Uint8Array(32)), peer = utf8("peer-of-mine-0001");
    await store.put("contact", peer, new SecretBytes(seed));
    const dumped = await dump(store.name), all = dumped.map((value) => hexOf(value)).join("|");
    expect(all).not.toContain(hex(seed));
    expect(all).not.toContain(hex(peer));
    const keys = dumped.filter((value) => value instanceof CryptoKey);
    expect(keys).toHaveLength(2);
    for (const key of keys) {
      expect(key.extractable).toBe(false);
      for (const format of ["raw", "jwk"] as const)
        await expect(crypto.subtle.exportKey(format, key)).rejects.toThrow();
    }
  });

  test("does not open a row that was changed, or moved under another name or into another profile", async () => {
    const store = await indexed(), other = await indexed();
    await put(store, "x", "1");
    await put(store, "y", "2");
    await put(other, "x", "1");
    const rows = await rowsOf(store.name), [theirs] = await rowsOf(other.name);
    const [x, y] = rows as [Row, Row];
    const changed = x.sealed.slice();
    changed[20] = (changed[20] as number) ^ 1;
    for (const sealed of [changed, y.sealed, (theirs as Row).sealed, x.sealed.slice(0, 5), new Uint8Array(0)]) {
      await replace(store.name, { ...x, sealed });
      await expect(read(await again(store), "a", "x")).rejects.toThrow("damaged");
    }
    await replace(store.name, { ...x, kind: "b" });
    await expect(read(await again(store), "a", "x")).rejects.toThrow("damaged");
  });

  test("lets one of two holders write: the other one reads anew first", async () => {
    const one = await indexed(), two = await again(one);
    await put(one, "x", "1");
    await expect(put(two, "x", "2")).rejects.toThrow(RaceLost);
    await expect(two.get("a", utf8("x"))).rejects.toThrow(RaceLost);
    await expect(two.keys("a")).rejects.toThrow(RaceLost);
    expect([await one.refresh(), await two.refresh(), await two.refresh()]).toEqual([false, true, false]);
    expect([await read(two, "a", "x"), await keysOf(two, "a")]).toEqual(["1", ["x"]]);
    await put(two, "x", "2");
    await expect(put(one, "x", "3")).rejects.toThrow(RaceLost);
    await one.refresh();
    expect(await read(one, "a", "x")).toBe("2");
  });

  test("writes what two holders began at once for one of them, and nothing of the other's", async () => {
    const one = await indexed(), two = await again(one);
    const ends = await Promise.allSettled(
      [one, two].map((store, at) =>
        store.transaction(async () => {
          for (const key of ["x", "y", "z"]) await put(store, key, String(at));
        }),
      ),
    );
    expect(ends.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const winner = String(ends.findIndex(({ status }) => status === "fulfilled")), seen = await again(one);
    for (const key of ["x", "y", "z"]) expect(await read(seen, "a", key)).toBe(winner);
  });

  test.each([0, 1, 2, 3, 4, 5, 6])("a commit that is cut off at its step %i leaves what was", async (cut) => {
    const store = await indexed();
    await put(store, "x", "1");
    await put(store, "y", "1");
    const restore = cutAfter(cut, (transaction) => transaction.abort());
    try {
      await expect(changeAll(store)).rejects.toThrow(MachineError);
    } finally {
      restore();
    }
    const seen = await again(store);
    expect([await keysOf(seen, "a"), await read(seen, "a", "x"), await read(seen, "a", "y")]).toEqual([["x", "y"], "1", "1"]);
    // The holder that was cut off goes on as well: nothing of what was undone is in its memory.
    expect(await keysOf(store, "a")).toEqual(["x", "y"]);
    await changeAll(store);
    expect([await keysOf(store, "a"), await read(store, "a", "z")]).toEqual([["x", "z"], "2"]);
  });

  test.each([0, 1, 2, 3])("a full disk at step %i is this machine's matter, and half a step is not there", async (cut) => {
    const store = await indexed();
    await put(store, "x", "1");
    await put(store, "y", "1");
    const restore = cutAfter(cut, () => {
      throw new DOMException("no room", "QuotaExceededError");
    });
    try {
      const refusal = await changeAll(store).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(MachineError);
      expect(refusal).toMatchObject({ message: expect.stringContaining("no room"), wayOut: expect.stringContaining("space") });
    } finally {
      restore();
    }
    expect([await keysOf(await again(store), "a"), await read(store, "a", "x")]).toEqual([["x", "y"], "1"]);
    await changeAll(store);
  });

  test("says that the page's data was cleared, and how a person gets back in", async () => {
    const store = await indexed();
    await put(store, "x", "1");
    await removeDatabase(store.name);
    for (const step of [() => store.get("a", utf8("x")), () => put(store, "x", "2"), () => store.refresh(), () => store.keys("b")])
      await expect(step()).rejects.toMatchObject({
        name: "ProfileError",
        message: expect.stringContaining("cleared"),
        wayOut: expect.stringContaining("client.recover"),
      });
    await expect(IndexedDbStore.open(store.name)).rejects.toThrow("There is no profile");
  });

  test("of a newer program is whole, and asks for the newer program", async () => {
    const store = await indexed();
    await store.close();
    (await newer(store.name)).close();
    await expect(IndexedDbStore.open(store.name)).rejects.toThrow(UpdateNeeded);
  });

  test("lets a newer program in: who has it open is told to load the page again", async () => {
    const store = await indexed();
    (await newer(store.name)).close();
    await expect(put(store, "x", "1")).rejects.toThrow(UpdateNeeded);
  });

  test("says that nothing is kept where the browser forbids it", async () => {
    const before = indexedDB.open.bind(indexedDB);
    indexedDB.open = () => {
      throw new DOMException("forbidden", "SecurityError");
    };
    try {
      await expect(indexed()).rejects.toMatchObject({ name: "MachineError", wayOut: expect.stringContaining("private window") });
    } finally {
      indexedDB.open = before;
    }
  });

  test("is encrypted anew under other keys, in the same order, and no old row opens any more", async () => {
    const store = await indexed();
    for (const key of ["x", "y", "z"]) await put(store, key, key);
    const before = await rowsOf(store.name);
    await store.rekey();
    const after = await rowsOf(store.name), other = await again(store);
    expect([await keysOf(other, "a"), await read(other, "a", "y")]).toEqual([["x", "y", "z"], "y"]);
    expect(after.some(({ name }) => before.some((old) => equal(old.name, name)))).toBe(false);
    await replace(store.name, { ...(after[0] as Row), sealed: (before[0] as Row).sealed });
    await expect(read(other, "a", "x")).rejects.toThrow("damaged");
  });

  test("is held by one at a time: others wait for as long as they were told to, and then say so", async () => {
    const one = await indexed(), two = await again(one), order: string[] = [];
    let end = (): void => undefined;
    const first = one.locked(async () => {
      await new Promise<void>((resolve) => (end = resolve));
      order.push("first");
    });
    await expect(two.locked(async () => undefined)).rejects.toThrow(ProfileBusy);
    await expect(two.locked(async () => undefined, 0.02)).rejects.toThrow(ProfileBusy);
    const second = two.locked(async () => void order.push("second"), 5);
    end();
    await Promise.all([first, second]);
    expect(order).toEqual(["first", "second"]);
    await one.locked(async () => undefined);
  });

  test("is held on while somebody gives up waiting, and a wait of a year is no wait of nothing", async () => {
    const one = await indexed(), two = await again(one), three = await again(one);
    let end = (): void => undefined, isIn = true;
    const first = one.locked(async () => {
      await new Promise<void>((resolve) => (end = resolve));
      isIn = false;
    });
    await expect(two.locked(async () => undefined, 0.02)).rejects.toThrow(ProfileBusy);
    const third = three.locked(async () => isIn, 365 * 86_400);
    await new Promise((resolve) => setTimeout(resolve, 20));
    end();
    await first;
    expect(await third).toBe(false);
  });
});

/** Three changes in one transaction: one row anew, one destroyed, one more. */
async function changeAll(store: Store): Promise<void> {
  await store.transaction(async () => {
    await put(store, "x", "2");
    await store.delete("a", utf8("y"));
    await put(store, "z", "2");
  });
}

/** Let the browser's storage fail at its nth step of a writing transaction: a look at an index, a put or a delete. */
function cutAfter(steps: number, fail: (transaction: IDBTransaction) => void): () => void {
  const before = { put: IDBObjectStore.prototype.put, delete: IDBObjectStore.prototype.delete, getKey: IDBIndex.prototype.getKey };
  let left = steps;
  const counted = <A extends unknown[], R>(step: (...given: A) => R) =>
    function (this: IDBObjectStore | IDBIndex, ...given: A): R {
      const { transaction } = this instanceof IDBIndex ? this.objectStore : this;
      if (left-- === 0) fail(transaction);
      return step.apply(this, given);
    };
  IDBObjectStore.prototype.put = counted(before.put);
  IDBObjectStore.prototype.delete = counted(before.delete);
  IDBIndex.prototype.getKey = counted(before.getKey);
  return () => {
    IDBObjectStore.prototype.put = before.put;
    IDBObjectStore.prototype.delete = before.delete;
    IDBIndex.prototype.getKey = before.getKey;
  };
}

interface Row {
  readonly place: number;
  readonly kind: string;
  readonly name: Bytes;
  readonly sealed: Bytes;
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function rowsOf(name: string): Promise<Row[]> {
  const database = await done(indexedDB.open(`holdfast:${name}`));
  const rows = await done(database.transaction("entry").objectStore("entry").getAll());
  database.close();
  return rows as Row[];
}

async function replace(name: string, row: Row): Promise<void> {
  const database = await done(indexedDB.open(`holdfast:${name}`));
  await done(database.transaction("entry", "readwrite").objectStore("entry").put(row));
  database.close();
}

/** Open the database as a newer program would. */
function newer(name: string): Promise<IDBDatabase> {
  return done(indexedDB.open(`holdfast:${name}`, 2));
}

/** Return every value in every object store, with what is inside of objects. */
async function dump(name: string): Promise<unknown[]> {
  const database = await done(indexedDB.open(`holdfast:${name}`)), found: unknown[] = [];
  for (const store of database.objectStoreNames) {
    const objects = database.transaction(store).objectStore(store);
    found.push(...(await done(objects.getAll())), ...(await done(database.transaction(store).objectStore(store).getAllKeys())));
  }
  database.close();
  const inside = (value: unknown): unknown[] =>
    value instanceof CryptoKey || value instanceof Uint8Array || typeof value !== "object" || value === null
      ? [value]
      : Object.values(value).flatMap(inside);
  return found.flatMap(inside);
}

function hexOf(value: unknown): string {
  return value instanceof Uint8Array ? hex(value) : value instanceof CryptoKey ? "" : hex(utf8(String(value)));
}
