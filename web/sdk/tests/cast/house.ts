// SPDX-License-Identifier: Apache-2.0
/**
 * A founded tenant's server, which a test makes lie, and the people who enrol with it by codes.
 *
 * Beside what `LyingServer` serves: devices, the tenant's statements, the key log with its proofs, the directory, and a way
 * back to a backup. Verifies no officer and no code: whatever the client survives here, it survives by its own checks.
 */
import { type Bytes, EMPTY, utf8 } from "../../src/core/base/bytes.js";
import { b64u, unb64u } from "../../src/core/base/encoding.js";
import type { SecretBytes } from "../../src/core/base/secret.js";
import { uuidBytes, uuidText } from "../../src/core/base/uuids.js";
import { SigningKey } from "../../src/core/crypto/keys.js";
import { DEFAULT_SUITE, type Suite } from "../../src/core/crypto/suites.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { type AcceptLog, Act, type ResolutionAbout, resolutionToPayload } from "../../src/core/identity/acts.js";
import * as chainAuthor from "../../src/core/identity/chain_author.js";
import { attestationToPayload } from "../../src/core/identity/cases.js";
import { headOf } from "../../src/core/identity/chain.js";
import { Entry, Reason } from "../../src/core/identity/entries.js";
import { checkpointFromText } from "../../src/core/log/checkpoint.js";
import * as merkle from "../../src/core/log/merkle.js";
import { encodeMany, Sign1 } from "../../src/core/signed/cose.js";
import { type EnrolmentCode, newCode } from "../../src/core/signed/enrolment.js";
import { deviceFromPayload } from "../../src/core/signed/statements.js";
import * as chains from "../../src/client/identity/chains.js";
import * as device from "../../src/client/identity/device.js";
import { Account } from "../../src/client/profile/account.js";
import { State } from "../../src/client/profile/state.js";
import { MemoryStore, type Store } from "../../src/client/profile/store.js";
import { Clock } from "../../src/client/server/clock.js";
import { Api } from "../../src/client/server/transport.js";
import { type Json } from "../vectors.js";
import { KeysLog, signedHead } from "./keys_log.js";
import { type Answered, type Asked, LyingServer, NOW, refused, TENANT, URL } from "./server.js";
import { hashOf, signedBy } from "./statements.js";
import { type Founder, payloadHash, Tenant } from "./tenant.js";

export { NOW, refused, TENANT } from "./server.js";

const named = (name: string): Bytes => utf8(name.padEnd(16, "-"));
export const [ALICE, BOB, MALLORY] = ["alice", "bob", "mallory"].map(named) as [Bytes, Bytes, Bytes];
export const DAY = 86_400;
// What is taken while everything else waits for the officers.
const STILL_TAKEN = new Set(["audit/head", "escrow/resolutions"]);

/** All that a dump of the database has of chains, devices and logs. */
interface Backup {
  readonly chains: ReadonlyMap<string, Bytes[]>;
  readonly devices: ReadonlyMap<string, Bytes>;
  readonly leaves: readonly Bytes[];
  readonly keys: readonly Bytes[];
}

/** Serves one tenant. */
export class HouseServer extends LyingServer {
  /** E-mail address → person, as the directory has them. */
  readonly addresses = new Map<string, Bytes>();
  keysLog: KeysLog;
  /** Of the audit log. */
  leaves: Bytes[] = [utf8("founded"), utf8("opened")];
  /** What officers accepted, newest first. */
  accepted: Bytes[] = [];
  shownHeads: string[] = [];
  isReadOnly = false;

  constructor(public tenant: Tenant) {
    super();
    this.keysLog = new KeysLog(tenant.log, () => this.clock());
    this.more.push(
      ["POST devices", (asked) => this.#enrol(asked)],
      ["GET devices", (asked) => this.#own(asked)],
      ["GET devices/ID", (_, id) => this.#one(id)],
      ["GET users/ID/chain/proof", (asked, user) => this.#proof(asked, user)],
      ["POST users/ID/chain/restored", (asked, user) => this.#giveBack(asked, user)],
      ["GET escrow/policy", (asked) => this.#policy(asked)],
      ["GET escrow/key", (asked) => [200, this.#history(this.tenant.keys, asked)]],
      ["GET audit/roles", () => this.#roles()],
      ["GET audit/head", (asked) => this.#head(asked)],
      ["POST audit/head", (asked) => this.#shown(asked)],
      ["GET users", ({ query }) => this.#find(query, "user_id")],
      ["GET enrolment-codes/person", ({ query }) => this.#find(query, "person_id")],
      ["POST enrolment-codes", ({ body }) => this.#issue(body.person_id)],
      ["POST enrolment-codes/ID/confirm", ({ body }) => this.#issue(body.person_id)],
    );
  }

  /** Return a code for a person, as an officer hands it over. */
  code(person: Bytes, changes: Partial<EnrolmentCode> = {}): EnrolmentCode {
    const logVkey = this.keysLog.verifier("audit").toText();
    return { ...newCode({ tenant: TENANT, person, rootPin: this.tenant.pin, logVkey }), ...changes };
  }

  chainOf(user: Bytes): Bytes[] {
    return this.chains.get(uuidText(user)) as Bytes[];
  }

  protected override refuse({ method, path }: Asked): Answered | undefined {
    return this.isReadOnly && method !== "GET" && !STILL_TAKEN.has(path) ? refused(503, "log-restored") : undefined;
  }

  protected override appended(user: string, entries: readonly Bytes[]): void {
    for (const entry of entries) this.keysLog.append(uuidBytes(user), Entry.parse(entry));
  }

  // Devices

  #enrol({ body }: Asked): Answered {
    const statement = unb64u(body.device_statement), { header } = deviceFromPayload(Sign1.parse(statement).payload);
    this.devices.set(uuidText(header.device), statement);
    return [201, { device_id: uuidText(header.device), user_id: uuidText(header.user), state: "pending" }];
  }

  #own({ asker }: Asked): Answered {
    const user = this.userOf(asker), active = this.listed(user);
    const mine = [...this.devices.keys()].filter((one) => this.userOf(one) === user);
    const devices = mine.map((one) => ({ device_id: one, state: active.includes(one) ? "active" : "pending" }));
    return [200, { devices, more: false }];
  }

  #one(id: string): Answered {
    const statement = this.devices.get(id);
    return statement ? [200, { device_id: id, device_statement: b64u(statement) }] : refused(404, "not-found");
  }

  #issue(person: string): Answered {
    return [201, { id: uuidText(randomBytes(16)), person_id: person, awaits_second: false }];
  }

  #find(query: URLSearchParams, name: string): Answered {
    const user = this.addresses.get(query.get("email") ?? "");
    return user ? [200, { [name]: uuidText(user) }] : refused(404, "not-found");
  }

  // The tenant's statements

  #history(statements: readonly Bytes[], { query }: Asked): Json {
    const rows = statements.map((one) => ({ hash: b64u(payloadHash(one)), statement: b64u(one) }));
    const start = Number(query.get("after") ?? 0), end = start + this.page;
    return { ...rows.at(-1), history: rows.slice(start, end), more: end < rows.length };
  }

  #policy(asked: Asked): Answered {
    const withdrawals = this.tenant.withdrawals.map(b64u), root_key = b64u(this.tenant.root.public.encoded);
    const history = this.#history(this.tenant.policies, asked);
    return [200, { ...history, root_key, in_force_from: "2020-01-01T00:00:00Z", withdrawals }];
  }

  #roles(): Answered {
    const newest = this.tenant.roles.at(-1);
    return newest ? [200, { version: this.tenant.roles.length, statement: b64u(newest) }] : refused(404, "not-found");
  }

  // The logs

  async #proof({ query }: Asked, user: string): Promise<Answered> {
    const old = Number(query.get("old_size") ?? 0);
    const answer = await this.keysLog.proof(uuidBytes(user), Number(query.get("seq")), old);
    return answer ? [200, answer] : refused(404, "not-logged-yet");
  }

  auditNote(): Promise<string> {
    return signedHead(this.keysLog.verifier("audit").name, this.tenant.log, this.leaves, this.clock());
  }

  async #head({ query }: Asked): Promise<Answered> {
    const isAudit = query.get("log") === "audit", old = Number(query.get("old_size") ?? 0);
    const log = isAudit ? new KeysLog(this.tenant.log, this.clock, this.leaves) : this.keysLog;
    const note = isAudit ? await this.auditNote() : await log.checkpoint();
    const answer = { log: query.get("log"), checkpoint: log.leaves.length > 0 ? note : "", consistency: log.consistency(old) };
    return [200, { ...answer, read_only: this.isReadOnly, accepted: this.accepted.slice(0, 20).map(b64u) }];
  }

  #shown({ body }: Asked): Answered {
    this.shownHeads.push(body.note);
    const head = checkpointFromText(`${body.note.split("\n\n")[0]}\n`);
    const leaves = head.origin.endsWith("/audit") ? this.leaves : this.keysLog.leaves;
    const root = merkle.root(leaves.slice(0, head.size).map(merkle.leafHash));
    if (head.size > leaves.length || b64u(head.root) !== b64u(root)) this.isReadOnly = true;
    return [200, { read_only: this.isReadOnly }];
  }

  // A backup

  backup(): Backup {
    return {
      chains: new Map([...this.chains].map(([user, entries]) => [user, [...entries]])),
      devices: new Map(this.devices),
      leaves: [...this.leaves],
      keys: [...this.keysLog.leaves],
    };
  }

  /** Go on from a backup, as if nothing had come after. */
  putBack(backup: Backup): void {
    this.chains.clear();
    this.devices.clear();
    for (const [user, entries] of backup.chains) this.chains.set(user, [...entries]);
    for (const [id, statement] of backup.devices) this.devices.set(id, statement);
    this.leaves = [...backup.leaves];
    this.keysLog.leaves = [...backup.keys];
  }

  /** Return what accepts both logs as they are. */
  bothLogs(): AcceptLog {
    const rootOf = (leaves: readonly Bytes[]): Bytes => merkle.root(leaves.map(merkle.leafHash)), { leaves } = this.keysLog;
    const keyLog = [leaves.length, rootOf(leaves)] as const;
    return { act: Act.ACCEPT_LOG, size: this.leaves.length, hash: rootOf(this.leaves), keyLog };
  }

  /** Have two officers accept both logs as they are now, or what a test says; show it from now on, newest first. */
  async accept(
    at: number,
    of: { by?: readonly Founder[]; tenant?: Bytes; policyHash?: Bytes; about?: ResolutionAbout } = {},
  ): Promise<Bytes> {
    const { by = this.tenant.officers.slice(0, 2), tenant = TENANT, policyHash = this.tenant.policyHash } = of;
    const header = { tenant, user: EMPTY, device: EMPTY, issuedAt: at, expiresAt: 0 };
    const made = { ...(of.about ?? this.bothLogs()), header, policyHash, nonce: randomBytes(16) };
    const signed = await signedBy(by.map((one) => one.signingKey), resolutionToPayload(made), "resolution");
    const statement = encodeMany(signed);
    this.accepted.unshift(statement);
    this.isReadOnly = false;
    return statement;
  }

  /** Take what follows upon what is there, unverified; nothing while officers have accepted nothing. */
  #giveBack({ body }: Asked, user: string): Answered {
    if (this.accepted.length === 0) return refused(409, "nothing-restored");
    const entries = this.chains.get(user) ?? [];
    this.chains.set(user, entries);
    let taken = 0;
    for (const encoded of body.entries.map((one: string) => unb64u(one)) as Bytes[]) {
      if (Entry.parse(encoded).seq !== entries.length) continue;
      entries.push(encoded);
      this.appended(user, [encoded]);
      taken += 1;
    }
    return [200, { head: this.headOf(user), seq: entries.length - 1, taken, devices: [] }];
  }
}

// One tenant serves all tests of a file, and each world has a copy.
const FOUNDED = await Tenant.found();

/** Every kind of row that this room keeps, and the account itself. */
const KINDS = [
  "state", "contact", "turn", "chain-policy", "chain-fetched", "chain-named", "chain-anchor", "chain-proof",
  "chain-waiting", "own-entry", "foreign-entry", "gossip", "evidence", "security-event", "address", "accepted-log",
];

/** Return a copy of a store in memory, as a backup of a profile is one. */
export async function copied(store: Store): Promise<MemoryStore> {
  const copy = new MemoryStore({ tenant: store.tenant, user: store.user });
  for (const kind of KINDS)
    for (const key of await store.keys(kind)) await copy.put(kind, key, (await store.get(kind, key)) as SecretBytes);
  return copy;
}

// To enrol takes longer than a test does: each group of people once, and each test has a copy of their world.
const MADE = new Map<string, Promise<[House, Account[]]>>();

async function made(users: readonly Bytes[]): Promise<[House, Account[]]> {
  const world = new House(), people: Account[] = [];
  for (const user of users) people.push(await world.enrolled(user));
  return [world, people];
}

/** One tenant, its server, and people who enrol when a test needs them. `now` is everybody's clock. */
export class House {
  readonly server: HouseServer;
  now = NOW;

  constructor(tenant: Tenant = FOUNDED) {
    this.server = new HouseServer(tenant.copy());
    this.server.clock = () => this.now;
  }

  /** Return a world of its own in which so many have enrolled, in this order. */
  static async with(...users: Bytes[]): Promise<[House, ...Account[]]> {
    const name = users.map((user) => uuidText(user)).join();
    if (!MADE.has(name)) MADE.set(name, made(users));
    const [first, people] = await (MADE.get(name) as Promise<[House, Account[]]>), world = new House();
    world.server.putBack(first.server.backup());
    const found: Account[] = [];
    for (const account of people) found.push(await world.opened(await copied(account.store)));
    return [world, ...found];
  }

  get tenant(): Tenant {
    return this.server.tenant;
  }

  /** Return the connection of somebody whose clock is so many seconds ahead of everybody's. */
  api(ahead = 0): Api {
    const clock = new Clock(() => (this.now + ahead) * 1000);
    return new Api(URL, { fetch: this.server.fetch, clock, sleep: async () => {} });
  }

  /** Return a profile that knows its server and nothing else. */
  profile(user: Bytes): Account {
    const state = new State();
    state.server = URL;
    return new Account(new MemoryStore({ tenant: TENANT, user }), state, this.api());
  }

  async enrolled(user: Bytes, suite: Suite = DEFAULT_SUITE): Promise<Account> {
    const account = this.profile(user);
    await device.enrol(account, this.server.code(user), { name: "laptop", suite });
    return account;
  }

  /** Return one more device of a person, approved by the first one. */
  async another(first: Account, name = "phone"): Promise<Account> {
    const account = this.profile(first.user);
    const done = await device.enrol(account, this.server.code(first.user), { name, suite: first.suite });
    await device.approve(first, done.device, { words: done.words });
    await chains.refresh(account);
    return account;
  }

  /** Return the account as a page finds it that is opened anew, with a clock so many seconds ahead. */
  async opened(store: Store, ahead = 0): Promise<Account> {
    const found = new Account(store, new State(), this.api(ahead));
    await found.reload();
    await found.signAsDevice();
    return found;
  }
}

/** Have a chain go on by entries that say nothing much: manifests of shares. */
export async function grow(account: Account, entries = 1): Promise<void> {
  for (let left = entries; left > 0; left--)
    await chains.append(account, async (state) => [
      await chainAuthor.shareManifest(state, { by: await account.author(state), manifestHash: hashOf(`grown ${left}`) }),
    ]);
}


/** Rotate the identity key of an account whose device this is the only one of, and revoke devices with it. */
export async function renew(account: Account, ...revoked: Bytes[]): Promise<void> {
  const newAik = await SigningKey.generate();
  await chains.append(account, async (state) => {
    const by = await account.author(state), reason = Reason.SCHEDULE;
    if (revoked.length === 0) return [await chainAuthor.rotateKey(state, { by, newAik, reason })];
    const devices = revoked.map((device) => ({ device, reason: Reason.DEVICE_LOST, since: NOW }));
    return chainAuthor.revokeDevices(state, { by, devices, reason: Reason.DEVICE_LOST, newAik });
  });
  account.state.identitySeed = newAik.seed();
  await account.save();
}

/** Return the entry by which an account is begun again, on the word of two officers. waited: between word and entry. */
export async function begunAgain(
  account: Account,
  of: { officers: readonly Founder[]; policyHash: Bytes; at?: number; waited?: number; newAik?: SigningKey },
): Promise<Entry> {
  const { officers, policyHash, at = NOW, waited = 0, newAik = await SigningKey.generate() } = of;
  const state = await account.chain(), { tenant, user } = account;
  const payload = attestationToPayload({
    header: { tenant, user, device: EMPTY, issuedAt: at - waited, expiresAt: 0 },
    oldHead: headOf(state),
    newAik: newAik.public,
    caseId: new Uint8Array(16),
    deviceHash: new Uint8Array(32),
  });
  const attestations = await signedBy(officers.slice(0, 2).map((one) => one.signingKey), payload, "attestation");
  const by = { device: account.device.id, issuedAt: at, key: newAik };
  return chainAuthor.reGenesis(state, { by, attestations, policyHash });
}
