// SPDX-License-Identifier: Apache-2.0
/** The cast of the client's tests, each with a profile in memory, against a server that a test makes lie. */
import { type Bytes, utf8 } from "../../src/core/base/bytes.js";
import type { SecretBytes } from "../../src/core/base/secret.js";
import { uuidText } from "../../src/core/base/uuids.js";
import { AgreementKey, SigningKey } from "../../src/core/crypto/keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { agreementKind, DEFAULT_SUITE, signingKind, type Suite } from "../../src/core/crypto/suites.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { verifyChain } from "../../src/core/identity/chain.js";
import { Reason } from "../../src/core/identity/entries.js";
import * as chainAuthor from "../../src/core/identity/chain_author.js";
import { sign, Sign1 } from "../../src/core/signed/cose.js";
import { deviceToPayload } from "../../src/core/signed/statements.js";
import * as prekeys from "../../src/client/messages/prekeys.js";
import { Account } from "../../src/client/profile/account.js";
import { State } from "../../src/client/profile/state.js";
import { MemoryStore, type Store } from "../../src/client/profile/store.js";
import { Clock } from "../../src/client/server/clock.js";
import { Api, type Fetch } from "../../src/client/server/transport.js";
import { LyingServer, NOW, TENANT, URL } from "./server.js";

const named = (name: string): Bytes => utf8(name.padEnd(16, "-"));
export const [ALICE, BOB, CAROL, MALLORY] = ["alice", "bob", "carol", "mallory"].map(named) as [Bytes, Bytes, Bytes, Bytes];
export const DAY = 86_400;

// Made once: nothing here is sealed to it, and ML-KEM takes a while.
const SEALING = await SealingKey.generate();

/** One tenant, its server, and people who join when a test needs them. `now` is everybody's clock. */
export class Members {
  readonly server = new LyingServer();
  now = NOW;

  constructor() {
    this.server.clock = () => this.now;
  }

  /** Return an account over a store as a page finds it. */
  async opened(store: Store, fetch: Fetch = this.server.fetch, now: () => number = () => this.now): Promise<Account> {
    // Nobody waits between two attempts: that is `transport`'s own matter.
    const api = new Api(URL, { fetch, clock: new Clock(() => now() * 1000), sleep: async () => {} });
    const account = new Account(store, new State(), api);
    await account.reload();
    await account.signAsDevice();
    return account;
  }

  /** Return an account with a device whose statement the server has, that no chain lists yet. */
  async pending(user: Bytes, suite: Suite = DEFAULT_SUITE, store?: Store): Promise<Account> {
    const kept = store ?? new MemoryStore({ tenant: TENANT, user });
    const first = new Account(kept, new State()), signing = await SigningKey.generate(signingKind(suite));
    const agreement = await AgreementKey.generate(agreementKind(suite)), id = randomBytes(16);
    const payload = deviceToPayload({
      header: { tenant: TENANT, user, device: id, issuedAt: this.now, expiresAt: 0 },
      suite,
      signingKey: signing.public,
      agreementKey: agreement.public,
      sealingKey: SEALING.public,
      person: user,
      name: "laptop",
      enrolmentHash: randomBytes(32),
    });
    const statement = (await sign(payload, "device", signing)).encode();
    first.state.server = URL;
    first.state.device = {
      id,
      signingSeed: signing.seed(),
      agreementSeed: agreement.seed(),
      sealingSeed: SEALING.seed(),
      statement,
      isActive: false,
    };
    await first.save();
    this.server.devices.set(uuidText(id), statement);
    return this.opened(kept);
  }

  /** Return the first device of an account of its own. */
  async enrolled(user: Bytes, suite: Suite = DEFAULT_SUITE, store?: Store): Promise<Account> {
    const account = await this.pending(user, suite, store), aik = await SigningKey.generate(signingKind(suite));
    account.state.identitySeed = aik.seed();
    const by = account.authorAs(aik), { tenant } = account;
    const genesis = await chainAuthor.genesis({ tenant, user, by });
    const state = await verifyChain([genesis], { tenant, user });
    const added = await chainAuthor.addDevice(state, { by, ...deviceOf(account) });
    await this.list(account, [genesis.encode(), added.encode()]);
    return account;
  }

  /** Return the same with its pre-keys published. */
  async published(user: Bytes, suite: Suite = DEFAULT_SUITE, store?: Store): Promise<Account> {
    const account = await this.enrolled(user, suite, store);
    await prekeys.publish(account);
    return account;
  }

  /** Return one more device of a person, that the first one has added, with pre-keys of its own. */
  async another(first: Account): Promise<Account> {
    const account = await this.pending(first.user, first.suite);
    account.state.identitySeed = first.state.identitySeed;
    const entry = await chainAuthor.addDevice(await first.chain(), { by: await first.author(), ...deviceOf(account) });
    const entries = [...first.state.chain, entry.encode()];
    first.state.chain = entries;
    await first.save();
    await this.list(account, entries);
    await prekeys.publish(account);
    return account;
  }

  /** Have an account's chain, and the server's, be so, and its device listed in it. */
  private async list(account: Account, entries: Bytes[]): Promise<void> {
    account.state.chain = entries;
    account.device.isActive = true;
    await account.save();
    this.server.chains.set(account.userText, [...entries]);
  }

  /** Write a revocation and its rotation into an account's chain, without the steps that follow. */
  async revoke(account: Account, device: Bytes): Promise<void> {
    const newAik = await SigningKey.generate(signingKind(account.suite)), state = await account.chain();
    const lost = { device, reason: Reason.DEVICE_LOST, since: 0 };
    const entries = await chainAuthor.revokeDevice(state, { ...lost, by: await account.author(), newAik });
    account.state.identitySeed = newAik.seed();
    await this.list(account, [...account.state.chain, ...entries.map((entry) => entry.encode())]);
  }

  /** Rotate the identity key, without the steps that follow. */
  async renew(account: Account): Promise<void> {
    const newAik = await SigningKey.generate(signingKind(account.suite)), state = await account.chain();
    const entry = await chainAuthor.rotateKey(state, { by: await account.author(), newAik, reason: Reason.SCHEDULE });
    account.state.identitySeed = newAik.seed();
    await this.list(account, [...account.state.chain, entry.encode()]);
  }

  /** Return a tenant as this one is now, and the same people in it: to make keys takes longer than a test does. */
  async again(...people: readonly Account[]): Promise<[Members, ...Account[]]> {
    const world = new Members(), found: Account[] = [];
    world.now = this.now;
    world.server.become(this.server);
    for (const account of people) found.push(await world.opened(await this.copied(account)));
    return [world, ...found];
  }

  /** Return a copy of a profile in memory, as a backup of it is one. */
  async copied(account: Account): Promise<MemoryStore> {
    const { store } = account, copy = new MemoryStore({ tenant: store.tenant, user: store.user });
    for (const kind of KINDS)
      for (const key of await store.keys(kind)) await copy.put(kind, key, (await store.get(kind, key)) as SecretBytes);
    return copy;
  }
}

/** Every kind of row that a profile may have here. */
export const KINDS = [
  "state", "contact", "chain-policy", "chain-fetched", "chain-named", "chain-anchor", "chain-proof", "signed-pre-key",
  "one-time-pre-key", "pre-key-batch", "pre-keys", "pre-keys-published", "peer", "session", "skipped", "initial", "seen",
  "used", "turn", "outbox", "inbox", "sent", "sent-body", "sent-total", "renewal", "unsent", "pause",
  "owed-acknowledgement", "had", "heard", "held", "held-told", "left", "former-device", "report-undecryptable",
  "report-not-sent", "report-in-doubt", "letter-notice", "letter-sync", "letter-put-away",
];

function deviceOf(account: Account): { device: Bytes; statementHash: Bytes } {
  return { device: account.device.id, statementHash: Sign1.parse(account.device.statement).payloadHash };
}

