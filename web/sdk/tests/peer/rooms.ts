// SPDX-License-Identifier: Apache-2.0
/**
 * A process that holds accounts and calls the rooms of the client for Python's tests (tests/web/rooms.py).
 *
 * Before each call it takes over the profile as Python has it, rows and state, and gives back what became of it: the bytes
 * are the same on both sides. A call may be cut at a moment, as by kill -9: at a request, its answer, or a commit.
 */
import { createInterface } from "node:readline";
import { type Bytes, hex, unhex } from "../../src/core/base/bytes.js";
import { openRow, sealRow } from "../../src/core/base/rows.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { Account } from "../../src/client/profile/account.js";
import { CONTACT_ROW, State } from "../../src/client/profile/state.js";
import { BufferedStore, type Change } from "../../src/client/profile/store.js";
import { Clock } from "../../src/client/server/clock.js";
import { CLIENT } from "./client.js";
import { hear, held as objects, type Json, refusal, tell } from "./wire.js";

/** Counts the moments at which a call can be cut, and cuts at one: nothing goes on from there. */
class Moments {
  count = 0;
  at = 0;
  end = (): void => {};

  async pass(): Promise<void> {
    this.count += 1;
    if (this.count !== this.at) return;
    this.end();
    await new Promise<never>(() => {});
  }
}

/** Rows in memory, which Python reads and writes as a whole. */
class SharedStore extends BufferedStore {
  rows = new Map<string, Map<string, readonly [Bytes, SecretBytes]>>();

  constructor(tenant: Bytes, user: Bytes, private readonly moments: Moments) {
    super(tenant, user);
  }

  protected override async fetch(kind: string, key: Bytes): Promise<SecretBytes | undefined> {
    return this.rows.get(kind)?.get(hex(key))?.[1];
  }

  protected override async listed(kind: string): Promise<ReadonlyMap<string, Bytes>> {
    return new Map([...(this.rows.get(kind) ?? [])].map(([id, [key]]) => [id, key]));
  }

  protected override async commit(changes: readonly Change[]): Promise<void> {
    await this.moments.pass();
    this.write(changes);
    await this.moments.pass();
  }

  write(changes: Iterable<Change>): void {
    for (const { kind, key, value, isMoved } of changes) {
      const rows = this.rows.get(kind) ?? new Map<string, readonly [Bytes, SecretBytes]>();
      this.rows.set(kind, rows);
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

/** One account: a profile that Python has as well. */
class Held {
  readonly moments = new Moments();
  readonly store: SharedStore;
  readonly account: Account;
  now = 0;
  #isConnected = false;

  constructor({ tenant, user }: Json) {
    this.store = new SharedStore(unhex(tenant), unhex(user), this.moments);
    this.account = new Account(this.store, new State());
  }

  async #connect(url: string): Promise<void> {
    const { moments } = this;
    await this.account.connect(url, {
      clock: new Clock(() => this.now * 1000),
      fetch: async (address, init) => {
        await moments.pass();
        const response = await globalThis.fetch(address, init);
        await moments.pass();
        return response;
      },
    });
  }

  /** Take over the profile as Python has it. */
  async take({ rows, state, contacts }: Json, url: string): Promise<void> {
    this.store.rows.clear();
    this.store.write(
      rows.map(([kind, key, value]: [string, string, string]) => ({
        kind, key: unhex(key), value: new SecretBytes(unhex(value)), isMoved: false,
      })),
    );
    if (this.store.rows.has("state")) await this.account.reload();
    this.account.state = State.fromSecret(new SecretBytes(unhex(state)));
    for (const one of contacts as string[]) {
      const contact = openRow(CONTACT_ROW, new SecretBytes(unhex(one)));
      this.account.state.contacts.set(hex(contact.user), contact);
    }
    if (this.#isConnected) await this.account.signAsDevice();
    else await this.#connect(url);
    this.#isConnected = true;
  }

  profile(): Json {
    const rows = [...this.store.rows].flatMap(([kind, of]) =>
      [...of.values()].map(([key, value]) => [kind, hex(key), hex(value.reveal())]),
    );
    const { state } = this.account, contacts = [...state.contacts.values()];
    return {
      rows,
      state: hex(state.toSecret().reveal()),
      contacts: contacts.map((one) => hex(sealRow(CONTACT_ROW, one).reveal())),
    };
  }
}

const accounts = new Map<string, Held>();

type Called = (...given: unknown[]) => unknown;

async function called({ account, room, of, name, given }: Json): Promise<unknown> {
  const args = (await hear(given)) as unknown[];
  if (of !== null) {
    const object = objects[of] as Record<string, Called>;
    return (object[name] as Called).apply(object, args);
  }
  const found = CLIENT[room]?.[name];
  if (typeof found !== "function") throw new TypeError(`the client has no ${room}.${name}`);
  return (found as Called)((accounts.get(account) as Held).account, ...args);
}

async function answer(asked: Json): Promise<Json> {
  if (asked.do === "open") {
    const made = new Held(asked);
    accounts.set(asked.account, made);
    return {};
  }
  const kept = accounts.get(asked.account) as Held, { moments } = kept;
  kept.now = asked.now;
  if (asked.profile !== null) await kept.take(asked.profile, asked.url);
  moments.count = 0;
  moments.at = asked.cutAt;
  const cut = new Promise<Json>((resolve) => {
    moments.end = () => resolve({ isCut: true });
  });
  const outcome = called(asked).then((value) => ({ value: tell(value) }), (error: unknown) => ({ error: refusal(error) }));
  return { ...(await Promise.race([outcome, cut])), count: moments.count, profile: kept.profile() };
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  // Not one after the other: what a server does while it is asked may ask another account.
  void answer(asked)
    .catch((error: unknown) => ({ error: { ...refusal(error), stack: (error as Error).stack } }))
    .then((said) => process.stdout.write(`${JSON.stringify({ ...said, id: asked.id })}\n`));
}
// What was cut waits for ever.
process.exit(0);
