// SPDX-License-Identifier: Apache-2.0
/**
 * What a rotation needs beside tests/cast/server: devices that follow one another and vaults on the server, and a profile
 * that ends at a chosen moment, as by kill -9: at a request, at its answer, before a commit or after one.
 */
import { type Bytes, hex } from "../../src/core/base/bytes.js";
import { b64u, unb64u } from "../../src/core/base/encoding.js";
import type { SecretBytes } from "../../src/core/base/secret.js";
import { uuidText } from "../../src/core/base/uuids.js";
import { Sign1 } from "../../src/core/signed/cose.js";
import { deviceFromPayload } from "../../src/core/signed/statements.js";
import type { Account } from "../../src/client/profile/account.js";
import { BufferedStore, type Change, type Store } from "../../src/client/profile/store.js";
import type { Fetch } from "../../src/client/server/transport.js";
import type { Json } from "../vectors.js";
import { KINDS, Members } from "./members.js";
import { type Answered, type LyingServer, refused, TENANT } from "./server.js";

/** Counts the moments at which a client can end, and ends it at one: nothing goes on from there. */
export class Moments {
  count = 0;
  #end = (): void => {};

  /** at: 1 for the first, 0 for never. */
  constructor(readonly at = 0) {}

  async pass(): Promise<void> {
    this.count += 1;
    if (this.count !== this.at) return;
    this.#end();
    await new Promise<never>(() => {});
  }

  /** Return what `act` gave, or undefined when it was ended. */
  async within<T>(act: () => Promise<T>): Promise<T | undefined> {
    return Promise.race([act(), new Promise<undefined>((resolve) => (this.#end = () => resolve(undefined)))]);
  }
}

/** Rows in memory that can be copied whole, as the file of a profile can. */
export class RowsStore extends BufferedStore {
  #rows = new Map<string, Map<string, readonly [Bytes, SecretBytes]>>();
  moments = new Moments();

  constructor(user: Bytes) {
    super(TENANT, user);
  }

  /** Return the rows of another store. */
  static async of(store: Store): Promise<RowsStore> {
    const made = new RowsStore(store.user);
    for (const kind of KINDS)
      for (const key of await store.keys(kind)) await made.put(kind, key, (await store.get(kind, key)) as SecretBytes);
    return made;
  }

  /** Return what a kill leaves: all that was committed. */
  copy(): RowsStore {
    const copy = new RowsStore(this.user);
    copy.#rows = new Map([...this.#rows].map(([kind, rows]) => [kind, new Map(rows)]));
    return copy;
  }

  protected override async fetch(kind: string, key: Bytes): Promise<SecretBytes | undefined> {
    return this.#rows.get(kind)?.get(hex(key))?.[1];
  }

  protected override async listed(kind: string): Promise<ReadonlyMap<string, Bytes>> {
    return new Map([...(this.#rows.get(kind) ?? [])].map(([id, [key]]) => [id, key]));
  }

  protected override async commit(changes: readonly Change[]): Promise<void> {
    await this.moments.pass();
    for (const { kind, key, value, isMoved } of changes) {
      const rows = this.#rows.get(kind) ?? new Map<string, readonly [Bytes, SecretBytes]>();
      this.#rows.set(kind, rows);
      if (value === undefined || isMoved) rows.delete(hex(key));
      if (value !== undefined) rows.set(hex(key), [key, value]);
    }
    await this.moments.pass();
  }

  override locked<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  override async refresh(): Promise<boolean> {
    return false;
  }

  override async close(): Promise<void> {}
}

/** Devices and vaults as the server keeps them, beside those of `LyingServer`. */
class Kept {
  readonly vaults = new Map<string, Json>();
  readonly successors = new Map<string, string>();

  copy(): Kept {
    const copy = new Kept();
    for (const [user, one] of this.vaults) copy.vaults.set(user, one);
    for (const [old, next] of this.successors) copy.successors.set(old, next);
    return copy;
  }

  answer(server: LyingServer, asked: { asker: string; method: string; path: string; body: Json; ifMatch: string }) {
    const { asker, method, path, body, ifMatch } = asked, user = (): string => server.userOf(asker);
    const what = `${method} ${path}`, device = /^GET devices\/([0-9a-f-]{36})$/.exec(what)?.[1];
    if (what === "GET vault") {
      const kept: Json = this.vaults.get(user());
      return kept === undefined ? refused(404, "not-found") : ([200, kept] as Answered);
    }
    if (what === "PUT vault") {
      const version = (this.vaults.get(user())?.version ?? 0) + 1;
      if (ifMatch !== String(version - 1)) return refused(409, "vault-stale");
      this.vaults.set(user(), { ...body, version });
      return [204, {}] as Answered;
    }
    if (what === "GET vault/doors") return [200, { doors: [] }] as Answered;
    if (device !== undefined) {
      const statement = server.devices.get(device);
      if (statement === undefined) return refused(404, "not-found");
      return [200, { device_id: device, device_statement: b64u(statement) }] as Answered;
    }
    if (what === "GET devices") return [200, { devices: this.#rows(server, user()), more: false }] as Answered;
    const old = /^POST devices\/([0-9a-f-]{36})\/successor$/.exec(what)?.[1];
    return old === undefined ? undefined : this.#follow(server, old, unb64u(body.device_statement), ifMatch);
  }

  #rows(server: LyingServer, user: string): Json[] {
    const active = server.listed(user), before = new Map([...this.successors].map(([old, next]) => [next, old]));
    return [...server.devices].filter(([id]) => server.userOf(id) === user).map(([id, statement]) => ({
      device_id: id,
      state: active.includes(id) ? "active" : "pending",
      device_statement: b64u(statement),
      ...(before.has(id) ? { successor_of: before.get(id) } : {}),
    }));
  }

  #follow(server: LyingServer, old: string, statement: Bytes, ifMatch: string): Answered {
    const waiting = server.devices.get(this.successors.get(old) ?? "");
    if (ifMatch !== (waiting === undefined ? "" : b64u(Sign1.parse(waiting).payloadHash))) return refused(409, "successor-stale");
    const id = uuidText(deviceFromPayload(Sign1.parse(statement).payload).header.device);
    server.devices.delete(this.successors.get(old) ?? "");
    server.devices.set(id, statement);
    this.successors.set(old, id);
    return [201, { device_id: id, user_id: server.userOf(id), state: "pending" }];
  }

  /** What waits for a device that is revoked goes to the one that follows it. */
  move(server: LyingServer): void {
    for (const [old, next] of this.successors) {
      if (!server.devices.has(old) || server.listed(server.userOf(old)).includes(old)) continue;
      server.box(next).push(...server.box(old).splice(0).map((row) => ({ ...row, to_device: old })));
    }
  }
}

/** One tenant whose people rotate their keys. Accounts are of `RowsStore`. */
export class Rotating {
  constructor(
    readonly members = new Members(),
    readonly kept = new Kept(),
  ) {}

  /** In the place of the browser's own, for accounts that end at a moment. */
  fetch(moments: Moments): Fetch {
    return async (url, init) => {
      await moments.pass();
      const answer = await this.#ask(url, init);
      await moments.pass();
      return answer;
    };
  }

  async #ask(url: string, init: RequestInit): Promise<Response> {
    const { server } = this.members, headers = new Headers(init.headers), method = init.method as string;
    const path = new globalThis.URL(url).pathname.replace("/api/v1/", "");
    const body = init.body ? JSON.parse(new TextDecoder().decode(init.body as Bytes)) : {};
    const asker = /keyid="([^"]*)"/.exec(headers.get("signature-input") ?? "")?.[1] ?? "";
    const ifMatch = (headers.get("if-match") ?? "").replaceAll('"', "");
    // A device that its successor has revoked is heard no more.
    const isHeard = server.devices.has(asker) && !this.#isRevoked(asker);
    const answered = isHeard ? this.kept.answer(server, { asker, method, path, body, ifMatch }) : refused(401, "device-revoked");
    if (answered === undefined) {
      const response = await server.fetch(url, init);
      this.kept.move(server);
      return response;
    }
    server.log.push([method, path, body]);
    return new Response(answered[0] === 204 ? null : JSON.stringify(answered[1]), { status: answered[0] });
  }

  #isRevoked(device: string): boolean {
    const successor = this.kept.successors.get(device), { server } = this.members;
    return successor !== undefined && server.listed(server.userOf(device)).includes(successor);
  }

  /** Return the account as a new page finds it in a store. */
  async opened(store: RowsStore, moments = new Moments()): Promise<Account> {
    store.moments = moments;
    return this.members.opened(store, this.fetch(moments));
  }

  /** Return this world as it is now, and its people in it, each opened anew. */
  async again(...people: readonly Account[]): Promise<[Rotating, ...RowsStore[]]> {
    const members = new Members();
    members.now = this.members.now;
    members.server.become(this.members.server);
    return [new Rotating(members, this.kept.copy()), ...people.map((one) => (one.store as RowsStore).copy())];
  }
}
