// SPDX-License-Identifier: Apache-2.0
/**
 * A server in memory that tells the client what a test wants it to hear: the twin of tests/cast/lying_server.py.
 *
 * As much of the REST API as chains, pre-keys and mailboxes need, honestly; a test's lies are then applied to each answer.
 * Checks nothing itself: whatever the client survives here, it survives by its own checks.
 */
import { type Bytes, compare, concat, utf8 } from "../../src/core/base/bytes.js";
import { b64u, decode, label, MAX_VAULT, unb64u } from "../../src/core/base/encoding.js";
import { uuidBytes, uuidText } from "../../src/core/base/uuids.js";
import { sha256 } from "../../src/core/crypto/hashing.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { Entry } from "../../src/core/identity/entries.js";
import { inclusionProof, leafHash } from "../../src/core/log/merkle.js";
import { batchFromPayload, fromLeaf, signedPreKeyFromPayload } from "../../src/core/messages/prekeys.js";
import { Sign1 } from "../../src/core/signed/cose.js";
import { deviceFromPayload } from "../../src/core/signed/statements.js";
import type { Fetch } from "../../src/client/server/transport.js";
import type { Json } from "../vectors.js";

export const URL = "http://127.0.0.1:8123";
export const NOW = 1_790_000_000;
export const TENANT: Bytes = Uint8Array.from({ length: 16 }, (_, at) => at);
export const RECEIVED_AT = "2026-09-21T13:33:20Z";
const MAX_WAITING = 2000;
const UUID = "([0-9a-f-]{36})";

/** Status and document of an answer. */
export type Answered = [status: number, document: Json];
/** One request as the server sees it. asker: the device that signed it, as text. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly asker: string;
  readonly body: Json;
  readonly query: URLSearchParams;
  readonly ifMatch: string;
}
export type Handler = (asked: Asked, id: string) => Answered | Promise<Answered>;

export function refused(status: number, code: string, more: Json = {}): Answered {
  return [status, { title: code, code, detail: `Refused: ${code}.`, ...more }];
}

/** The patterns are of "METHOD path", whole. */
export class LyingServer {
  /** What is done to an honest answer. */
  readonly lies = new Map<string, (answer: Json) => Json>();
  /** What answers in place of the honest handler, from the request's body. */
  readonly instead = new Map<string, (body: Json) => Answered | Promise<Answered>>();
  /** Whose answer never arrives, though the act was done. */
  readonly lost = new Set<string>();
  readonly log: [method: string, path: string, body: Json][] = [];
  /** The idempotency keys that came with requests to a path; "" for one that had none. */
  readonly keys = new Map<string, Set<string>>();
  clock = (): number => NOW;
  /** By id as text: signed device statements; a chain's entries by its user. */
  readonly devices = new Map<string, Bytes>();
  readonly chains = new Map<string, Bytes[]>();
  readonly bundles = new Map<string, Json>();
  readonly batches = new Map<string, Json[]>();
  /** What each device has not acknowledged yet, oldest first. */
  readonly mailboxes = new Map<string, Json[]>();
  readonly contents = new Map<string, string>();
  epoch = 0;
  /** Entries in one answer. */
  page = 256;
  readonly #answered = new Map<string, Answered>();

  /** In the place of the browser's own. */
  readonly fetch: Fetch = async (url, init) => {
    const { pathname, searchParams } = new globalThis.URL(url), headers = new Headers(init.headers);
    const method = init.method as string, path = pathname.replace("/api/v1/", "");
    const body = init.body ? JSON.parse(new TextDecoder().decode(init.body as Bytes)) : {};
    this.log.push([method, path, body]);
    const asker = /keyid="([^"]*)"/.exec(headers.get("signature-input") ?? "")?.[1] ?? "";
    const key = headers.get("idempotency-key") ?? "", act = `${asker} ${path} ${key}`;
    this.keys.set(path, (this.keys.get(path) ?? new Set()).add(key));
    const ifMatch = (headers.get("if-match") ?? "").replaceAll('"', "");
    const asked = { method, path, asker, body, query: searchParams, ifMatch };
    let [status, answer] = this.#answered.get(act) ?? (await this.#handle(asked));
    if (key !== "" && status < 300) this.#answered.set(act, [status, answer]);
    for (const [pattern, lie] of this.lies)
      if (status < 300 && matches(pattern, method, path)) answer = lie(structuredClone(answer));
    if ([...this.lost].some((pattern) => matches(pattern, method, path))) throw new TypeError("lost");
    return new Response(status === 204 ? null : JSON.stringify(answer), { status });
  };

  /** Become what another server is now, but for its lies. */
  become(other: LyingServer): void {
    const copied = (rows: ReadonlyMap<string, Json[]>): [string, Json[]][] => [...rows].map(([id, of]) => [id, [...of]]);
    for (const [id, one] of other.devices) this.devices.set(id, one);
    for (const [id, one] of other.bundles) this.bundles.set(id, one);
    for (const [id, one] of other.contents) this.contents.set(id, one);
    for (const [id, of] of other.chains) this.chains.set(id, [...of]);
    for (const [id, of] of copied(other.batches)) this.batches.set(id, of);
    for (const [id, of] of copied(other.mailboxes)) this.mailboxes.set(id, of);
  }

  /** Return the documents that were posted or put to a path, by its pattern. */
  posted(path: string): Json[] {
    const isOf = ([method, where]: [string, string, Json]): boolean =>
      method !== "GET" && new RegExp(`^${path}$`).test(where);
    return this.log.filter(isOf).map(([, , body]) => body);
  }

  /** What more it serves: "METHOD path", with ID for one identifier. */
  protected readonly more: [string, Handler][] = [];

  /** Return what is answered to everybody in place of what was asked, if anything. */
  protected refuse(_asked: Asked): Answered | undefined {
    return undefined;
  }

  /** Take note of entries that were appended to a user's chain. */
  protected appended(_user: string, _entries: readonly Bytes[]): void {}

  #handle(asked: Asked): Answered | Promise<Answered> {
    for (const [pattern, instead] of this.instead)
      if (matches(pattern, asked.method, asked.path)) return instead(asked.body);
    const refusal = this.refuse(asked);
    if (refusal !== undefined) return refusal;
    for (const [pattern, handler] of [...this.more, ...this.#routes]) {
      const found = new RegExp(`^${pattern.replace("ID", UUID)}$`).exec(`${asked.method} ${asked.path}`);
      if (found) return handler(asked, found[1] ?? "");
    }
    return refused(404, "not-found");
  }

  // Devices and chains

  userOf(device: string): string {
    const statement = this.devices.get(device) as Bytes;
    return uuidText(deviceFromPayload(Sign1.parse(statement).payload).header.user);
  }

  /** Return the devices that stand in a chain after its newest beginning, in the order they were added. */
  listed(user: string): string[] {
    let listed: string[] = [];
    for (const { body } of this.#entries(user)) {
      if (body.type === 8) listed = [];
      else if (body.type === 2) listed.push(uuidText(body.device));
      else if (body.type === 3) listed = listed.filter((device) => device !== uuidText(body.device));
    }
    return listed;
  }

  #entries(user: string): Entry[] {
    return (this.chains.get(user) ?? []).map((entry) => Entry.parse(entry));
  }

  headOf(user: string): string {
    return b64u((this.#entries(user).at(-1) as Entry).hash);
  }

  #chain({ query }: Asked, user: string): Answered {
    const entries = this.chains.get(user) ?? [];
    if (entries.length === 0) return refused(404, "not-found");
    const start = Number(query.get("after") ?? -1) + 1, end = start + this.page;
    const shown = entries.slice(start, end).map((entry) => b64u(entry));
    return [200, { entries: shown, head: this.headOf(user), seq: entries.length - 1, more: end < entries.length }];
  }

  #extend({ body }: Asked, user: string): Answered {
    const entries = this.chains.get(user) ?? [], head = entries.length > 0 ? this.headOf(user) : null;
    if (body.expected_head !== head) return refused(409, "chain-stale");
    const fresh: Bytes[] = body.entries.map((entry: string) => unb64u(entry));
    this.chains.set(user, [...entries, ...fresh]);
    this.appended(user, fresh);
    return [201, { head: this.headOf(user), seq: this.#entries(user).length - 1 }];
  }

  // Pre-keys

  putBundle(device: string, body: Json): Answered {
    this.bundles.set(device, body);
    return [204, {}];
  }

  putBatch(device: string, body: Json): Answered {
    const rows = this.batches.get(device) ?? [];
    this.batches.set(device, rows);
    if (rows.some((row) => row.batch === body.batch)) return [200, { stored: 0, count: rows.length }];
    const leaves = decode(unb64u(body.leaves), MAX_VAULT) as Bytes[], hashes = leaves.map(leafHash);
    for (const [index, leaf] of leaves.entries()) rows.push({ batch: body.batch, leaf: b64u(leaf), index, hashes });
    return [201, { stored: leaves.length, count: rows.length }];
  }

  #check(device: string): Answered {
    const held = new Map<string, number[]>();
    for (const row of this.batches.get(device) ?? []) {
      const batch = batchFromPayload(Sign1.parse(unb64u(row.batch)).payload), name = b64u(batch.batchId);
      held.set(name, [...(held.get(name) ?? []), fromLeaf(unb64u(row.leaf), batch.suite).keyId]);
    }
    const bundle = this.bundles.get(device), count = [...held.values()].flat().length;
    const signed = bundle ? Sign1.parse(unb64u(bundle.signed_pre_key)).payloadHash : new Uint8Array();
    const rows = [...held].map(([name, ids]): [Bytes, number[]] => [unb64u(name), ids]);
    rows.sort(([one], [other]) => compare(one, other));
    return [
      200,
      {
        digest: b64u(sha256(label("server-holds", uuidBytes(device), signed, rows))),
        count,
        signed_pre_key_hash: b64u(signed),
        epoch: this.epoch,
        batches: rows.map(([name, ids]) => ({ batch_id: b64u(name), key_ids: ids })),
      },
    ];
  }

  #claim(user: string): Answered {
    const known = this.listed(user).filter((device) => this.bundles.has(device));
    const bundles = known.map((device) => ({ device_id: device, ...this.#bundle(device) }));
    return [200, { chain_head: this.headOf(user), bundles }];
  }

  #claimOne(device: string): Answered {
    const isHere = this.bundles.has(device) && this.listed(this.userOf(device)).includes(device);
    return isHere ? [200, this.#bundle(device)] : refused(404, "not-found");
  }

  #bundle(device: string): Json {
    const statement = this.devices.get(device) as Bytes, row = this.batches.get(device)?.shift();
    const proof = row && b64u(concat(...inclusionProof(row.hashes, row.index)));
    const oneTime = row && { batch: row.batch, leaf: row.leaf, index: row.index, proof };
    return {
      v: 1,
      suite: deviceFromPayload(Sign1.parse(statement).payload).suite,
      chain_head: this.headOf(this.userOf(device)),
      device_statement: b64u(statement),
      signed_pre_key: this.bundles.get(device).signed_pre_key,
      one_time: oneTime ? "handed-out" : "exhausted",
      ...(oneTime ? { one_time_pre_key: oneTime } : {}),
    };
  }

  // Mailboxes

  box(device: string): Json[] {
    const box = this.mailboxes.get(device) ?? [];
    this.mailboxes.set(device, box);
    return box;
  }

  /** Put one message into a device's mailbox, and return its id. */
  deliver(to: string, of: { kind: string; message: string; sender?: string; content?: string }): string {
    const id = uuidText(randomBytes(16));
    this.box(to).push({
      message_id: id,
      kind: of.kind,
      sender_user: of.sender ? this.userOf(of.sender) : null,
      sender_device: of.sender ?? null,
      to_device: to,
      message: of.message,
      has_content: of.content !== undefined,
      received_at: RECEIVED_AT,
    });
    if (of.content !== undefined) this.contents.set(id, of.content);
    return id;
  }

  /** Tell every active device of a user. */
  notice(user: string, said: Json): void {
    const message = b64u(utf8(JSON.stringify(said)));
    for (const device of this.listed(user)) this.deliver(device, { kind: "notice", message });
  }

  #expiry(device: string): number {
    const signed = Sign1.parse(unb64u(this.bundles.get(device).signed_pre_key));
    return signedPreKeyFromPayload(signed.payload).header.expiresAt;
  }

  #send({ asker, body }: Asked, user: string): Answered {
    if (!this.chains.has(user)) return refused(404, "not-found");
    if (!this.listed(this.userOf(asker)).includes(asker)) return refused(403, "denied");
    if (body.chain_head !== this.headOf(user)) return refused(409, "chain-stale", { head: this.headOf(user) });
    const wanted = this.listed(user).filter((device) => device !== asker && this.bundles.has(device));
    const named = body.envelopes.map((one: Json) => one.device_id) as string[];
    const isWhole = wanted.every((device) => this.#expiry(device) <= this.clock() || named.includes(device));
    if (new Set(named).size !== named.length || !isWhole || !named.every((device) => wanted.includes(device)))
      return refused(422, "invalid", { errors: [{ field: "envelopes", detail: "Not the active devices." }] });
    if (wanted.some((device) => this.box(device).length >= MAX_WAITING)) return refused(409, "mailbox-full");
    const messages = body.envelopes.map((one: Json) => ({
      device_id: one.device_id,
      message_id: this.deliver(one.device_id, { kind: "message", message: one.message, sender: asker, content: body.content }),
    }));
    return [201, { messages }];
  }

  #sendLetter({ asker, body }: Asked, device: string): Answered {
    const isOwn = this.userOf(asker) === this.userOf(device);
    if (!isOwn && !this.listed(this.userOf(asker)).includes(asker)) return refused(403, "denied");
    const { kind, message, content } = body;
    return [201, { message_id: this.deliver(device, { kind, message, sender: asker, content }), device_id: device }];
  }

  #fetch({ asker, query }: Asked): Answered {
    const waiting = this.box(asker), limit = Number(query.get("limit") ?? 100);
    return [200, { messages: waiting.slice(0, limit), more: waiting.length > limit }];
  }

  #content({ asker }: Asked, id: string): Answered {
    const isHere = this.box(asker).some((row) => row.message_id === id);
    return isHere ? [200, { content: this.contents.get(id) }] : refused(404, "not-found");
  }

  #acknowledge({ asker, body }: Asked): Answered {
    const left = this.box(asker).filter((row) => !body.message_ids.includes(row.message_id));
    const deleted = this.box(asker).length - left.length;
    this.mailboxes.set(asker, left);
    return [200, { deleted }];
  }

  readonly #routes: [string, Handler][] = [
    ["GET users/ID/chain", (asked, user) => this.#chain(asked, user)],
    ["POST users/ID/chain", (asked, user) => this.#extend(asked, user)],
    ["PUT devices/ID/bundle", (asked, device) => this.putBundle(device, asked.body)],
    ["POST devices/ID/pre-keys", (asked, device) => this.putBatch(device, asked.body)],
    ["POST devices/ID/check", (_, device) => this.#check(device)],
    ["POST users/ID/claim", (_, user) => this.#claim(user)],
    ["POST devices/ID/claim", (_, device) => this.#claimOne(device)],
    ["POST users/ID/messages", (asked, user) => this.#send(asked, user)],
    ["POST devices/ID/messages", (asked, device) => this.#sendLetter(asked, device)],
    ["GET messages", (asked) => this.#fetch(asked)],
    ["GET messages/ID/content", (asked, id) => this.#content(asked, id)],
    ["POST messages/ack", (asked) => this.#acknowledge(asked)],
  ];
}

function matches(pattern: string, method: string, path: string): boolean {
  return new RegExp(`^(${pattern})$`).test(`${method} ${path}`);
}

