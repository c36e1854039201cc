// SPDX-License-Identifier: Apache-2.0
/**
 * The IndexedDB database of a profile as such: made whole, opened as what it is, read and written in single transactions.
 *
 * docs/formats/profile.md (In a browser). Does not encrypt or decrypt; `store` does, row by row, and never while one of
 * these transactions is open: waiting for anything else, a browser would end it by itself.
 */
import { type DBSchema, deleteDB, type IDBPDatabase, openDB } from "idb";
import type { Bytes } from "../../core/base/bytes.js";
import { ClientError, damaged, MachineError, NotPossible, ProfileError, RaceLost, UpdateNeeded } from "../errors.js";

/** Of the database's layout; a newer program's is higher. */
export const FORMAT = 1;
const HEAD = "head", ENTRY = "entry", ONLY = "head", VERSION = "version";

/** Whose profile it is, its own random id, and the two keys, which no script can read. */
export interface Head {
  readonly format: number;
  readonly tenant: Bytes;
  readonly user: Bytes;
  /** 16 random bytes: tells two profiles of one person apart. */
  readonly profile: Bytes;
  /** AES-256-GCM, not extractable: encrypts every row. */
  readonly rowKey: CryptoKey;
  /** HMAC-SHA256, not extractable: names every row. */
  readonly nameKey: CryptoKey;
}

/** One row as it lies in the database. */
export interface Entry {
  /** In the order in which rows were first written. */
  readonly place: number;
  readonly kind: string;
  /** 32 bytes that say nothing of the key. */
  readonly name: Bytes;
  readonly sealed: Bytes;
}

/** A row that is to be written, or, without bytes, destroyed. */
export interface Written {
  readonly kind: string;
  readonly name: Bytes;
  readonly sealed: Bytes | undefined;
  /** Whether it takes a new place, after all others, though it had one. */
  readonly isMoved: boolean;
}

interface Schema extends DBSchema {
  head: { key: string; value: Head | number };
  entry: { key: number; value: Entry; indexes: { name: Bytes; kind: [string, number] } };
}

const FREE_SPACE =
  "Nothing of the last step was kept. Free some space on this machine, or let the browser keep more for this page, and " +
  "try again.";
const PRIVATE =
  "Leave the private window, or allow this page to keep data in the browser's settings, and try again. In a private " +
  "window a profile ends with the window.";
const CLEARED =
  "If this was you, or the browser made room: enrol this device anew (Client.enrol()), and bring the account back " +
  "(client.recover). What is in your vault, in escrow and on your other devices stays.";

/** Return the refusal of a profile that is not there. */
export function noProfile(name: string): ProfileError {
  return new ProfileError(`There is no profile called ${name} in this browser.`, {
    wayOut: "Start one with Client.enrol(). If there was one, the browser or somebody has cleared this page's data.",
  });
}

/** Return the refusal of a profile that was there when it was opened. */
export function cleared(cause?: unknown): ProfileError {
  return new ProfileError("This page's data was cleared while the profile was open: the profile is gone.", {
    wayOut: CLEARED,
    cause,
  });
}

/** Say what the browser's storage threw in words about the profile; what is a refusal of ours stays that. */
export function explained(error: unknown): unknown {
  if (error instanceof ClientError || !(error instanceof DOMException)) return error;
  switch (error.name) {
    case "QuotaExceededError":
      return new MachineError("The browser has no room left for this profile.", { wayOut: FREE_SPACE, cause: error });
    case "VersionError":
      return new UpdateNeeded(undefined, { cause: error });
    // Of a private window, or of settings that forbid storage; the last one is of keys that it will not keep.
    case "SecurityError":
    case "NotSupportedError":
    case "InvalidAccessError":
    case "DataCloneError":
      return new MachineError("This browser keeps nothing for this page.", { wayOut: PRIVATE, cause: error });
    // What is asked of a connection that was closed: with the data, when somebody cleared it.
    case "InvalidStateError":
    case "NotFoundError":
      return cleared(error);
    default:
      return new MachineError(`The browser's storage does not do its part (${error.name}).`, {
        wayOut: "Nothing of the last step was kept. Load the page again; if this goes on, look at the disk's space.",
        cause: error,
      });
  }
}

/** Do something with the browser's storage. Rejects with what `explained` says. */
export async function explaining<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw explained(error);
  }
}

/** Have nobody told of a transaction's end beside its requests, which are awaited and tell it. */
export function quiet<T extends { readonly done: Promise<void> }>(transaction: T): T {
  transaction.done.catch(() => undefined);
  return transaction;
}

/** A connection, and why the browser or this page has ended it. */
interface Connection {
  database: IDBPDatabase<Schema>;
  ended: ClientError | undefined;
}

/** A profile's database that is open. */
export class ProfileDatabase {
  readonly #connection: Connection;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  get #database(): IDBPDatabase<Schema> {
    if (this.#connection.ended !== undefined) throw this.#connection.ended;
    return this.#connection.database;
  }

  /**
   * Make a profile's database with its head and no rows, all of it in one transaction.
   *
   * Rejects with NotPossible when there is one already, MachineError when the browser keeps nothing.
   */
  static async create(name: string, head: Head): Promise<ProfileDatabase> {
    let isMade = false;
    const made = await explaining(() =>
      open(name, (database, transaction) => {
        isMade = true;
        database.createObjectStore(HEAD);
        const entries = database.createObjectStore(ENTRY, { keyPath: "place" });
        entries.createIndex("name", "name", { unique: true });
        entries.createIndex("kind", ["kind", "place"], { unique: true });
        transaction.put(head, ONLY);
        transaction.put(0, VERSION);
      }),
    );
    if (isMade) return new ProfileDatabase(made);
    made.database.close();
    throw new NotPossible(`This browser holds a profile called ${name} already.`);
  }

  /** Open a profile's database. Rejects with ProfileError for none or a damaged one, UpdateNeeded for a newer one. */
  static async open(name: string): Promise<ProfileDatabase> {
    let isNone = false;
    try {
      return new ProfileDatabase(
        await open(name, (_, __, abort) => {
          isNone = true;
          abort(); // so that nothing is left behind of a name that was asked for
        }),
      );
    } catch (error) {
      throw isNone ? noProfile(name) : explained(error);
    }
  }

  /** Return the head and the number of the newest commit. Rejects with ProfileError for a database without one. */
  async head(): Promise<[head: Head, version: number]> {
    const [head, version] = await explaining(async () => {
      const { store } = quiet(this.#database.transaction(HEAD));
      return Promise.all([store.get(ONLY), store.get(VERSION)]);
    });
    if (typeof head !== "object" || typeof version !== "number") throw damaged("no head");
    if (head.format > FORMAT) throw new UpdateNeeded();
    return [head, version];
  }

  /** Return the number of the newest commit. Rejects with ProfileError when the data was cleared. */
  async version(): Promise<number> {
    const version = await explaining(() => quiet(this.#database.transaction(HEAD)).store.get(VERSION));
    if (typeof version !== "number") throw cleared();
    return version;
  }

  /** Return the row of a name, or undefined, as of commit `version`; rejects with RaceLost when there is a newer one. */
  read(name: Bytes, version: number): Promise<Entry | undefined> {
    return explaining(async () => {
      const transaction = quiet(this.#database.transaction([HEAD, ENTRY]));
      const entries = transaction.objectStore(ENTRY).index("name");
      const [found, newest] = await Promise.all([entries.get(name), transaction.objectStore(HEAD).get(VERSION)]);
      requireNewest(newest, version);
      return found;
    });
  }

  /** Return the rows of a kind, or of all, in the order of their places. Rejects as `read` does. */
  list(kind: string | undefined, version: number): Promise<Entry[]> {
    return explaining(async () => {
      const transaction = quiet(this.#database.transaction([HEAD, ENTRY])), entries = transaction.objectStore(ENTRY);
      const range = kind === undefined ? undefined : IDBKeyRange.bound([kind, 0], [kind, Number.MAX_SAFE_INTEGER]);
      const [found, newest] = await Promise.all([
        range === undefined ? entries.getAll() : entries.index("kind").getAll(range),
        transaction.objectStore(HEAD).get(VERSION),
      ]);
      requireNewest(newest, version);
      return found;
    });
  }

  /**
   * Write all of `changes` on top of commit `version`, or nothing; on the disk when this resolves.
   *
   * head: in the place of the present one. Returns the new version. Rejects with RaceLost when somebody else has
   * committed meanwhile, MachineError when there is no room, ProfileError when the data was cleared.
   */
  commit(changes: readonly Written[], version: number, head?: Head): Promise<number> {
    return explaining(async () => {
      // Strict: a browser may say that it has written what is in the system's memory alone, and a message would be out
      // whose key a loss of power brings back.
      const transaction = this.#database.transaction([HEAD, ENTRY], "readwrite", { durability: "strict" });
      const ended = transaction.done.then(
        () => undefined,
        (error: unknown) => error ?? new DOMException("aborted", "AbortError"),
      );
      let refusal: unknown;
      try {
        const heads = transaction.objectStore(HEAD), entries = transaction.objectStore(ENTRY);
        requireNewest(await heads.get(VERSION), version);
        let last = (await entries.openKeyCursor(null, "prev"))?.key ?? 0;
        for (const { kind, name, sealed, isMoved } of changes) {
          const known = await entries.index("name").getKey(name);
          if (known !== undefined && (sealed === undefined || isMoved)) await entries.delete(known);
          const place = known === undefined || isMoved ? ++last : known;
          if (sealed !== undefined) await entries.put({ place, kind, name, sealed });
        }
        if (head !== undefined) await heads.put(head, ONLY);
        await heads.put(version + 1, VERSION);
        transaction.commit();
      } catch (error) {
        refusal = error;
        abort(transaction);
      }
      const end = await ended;
      // What ended it says more than the request that met the end.
      const failed = end instanceof DOMException && end.name !== "AbortError" ? end : (refusal ?? end);
      if (failed !== undefined) throw failed;
      return version + 1;
    });
  }

  /** Close the connection. */
  close(): void {
    this.#connection.database.close();
    this.#connection.ended ??= new ProfileError("This profile was closed.", { wayOut: "Open it again: Client.open()." });
  }
}

type FirstPuts = { put(value: Head | number, key: string): void };

async function open(
  name: string,
  make: (database: IDBPDatabase<Schema>, first: FirstPuts, abort: () => void) => void,
): Promise<Connection> {
  const connection: Partial<Connection> = { ended: undefined };
  const end = (why: ClientError): void => {
    connection.database?.close();
    connection.ended ??= why;
  };
  connection.database = await openDB<Schema>(databaseOf(name), FORMAT, {
    upgrade: (database, _from, _to, transaction) => {
      transaction.done.catch(() => undefined); // told by the opening
      const first = { put: (value: Head | number, key: string) => void transaction.objectStore(HEAD).put(value, key).catch(() => undefined) };
      make(database, first, () => transaction.abort());
    },
    // Somebody removes the profile, or a newer program changes it: neither has to wait for this page.
    blocking: (_current, wanted) => end(wanted === null ? cleared() : new UpdateNeeded()),
    terminated: () => end(cleared()),
  });
  return connection as Connection;
}

/** Return the name of a profile's database, and of its Web Lock. */
export function databaseOf(name: string): string {
  return `holdfast:${name}`;
}

/** Remove a profile's database, if there is one. Pages that have it open lose it at once. */
export function removeDatabase(name: string): Promise<void> {
  return explaining(() => deleteDB(databaseOf(name)));
}

function requireNewest(newest: Head | number | undefined, version: number): void {
  if (newest === undefined) throw cleared();
  if (newest !== version)
    throw new RaceLost("Another page has changed this profile meanwhile.", { wayOut: "Do it again." });
}

function abort(transaction: { abort(): void }): void {
  try {
    transaction.abort();
  } catch {
    // It has ended already, as it does when the browser has no room.
  }
}
