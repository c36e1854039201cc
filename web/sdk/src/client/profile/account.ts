// SPDX-License-Identifier: Apache-2.0
/**
 * One person's account on this device: the profile, the signed connection, and the keys both are made of.
 *
 * The holder of the keys of docs/spec/protocol.md; every other module of the client takes one. Does not act by itself:
 * enrolment, chains, escrow and recovery each have a module.
 */
import { type Bytes, equal } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { AgreementKey, SigningKey } from "../../core/crypto/keys.js";
import { decodePublicKey, KeyKind, type PublicKey } from "../../core/crypto/public_keys.js";
import type { SealingKey } from "../../core/crypto/sealing.js";
import { agreementKind, signingKind, type Suite } from "../../core/crypto/suites.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import type { Author } from "../../core/identity/chain_author.js";
import type { SignedPolicy } from "../../core/identity/policy.js";
import { type SignedRoles, verifyRoles } from "../../core/identity/roles.js";
import { type SignedTenantKey, type TrustedTenant, verifyEscrowKeys, verifyTenant } from "../../core/identity/trust.js";
import type { Party } from "../../core/messages/x3dh.js";
import { parseMany, Sign1, type Signer } from "../../core/signed/cose.js";
import type { Header } from "../../core/signed/payloads.js";
import { type DeviceStatement, deviceFromPayload, deviceToPayload } from "../../core/signed/statements.js";
import { ProfileError, WrongInput } from "../errors.js";
import { Clock } from "../server/clock.js";
import { Api, checkServer, type Fetch } from "../server/transport.js";
import { removeDatabase } from "./indexed_db.js";
import { askToKeep } from "./keeping.js";
import { type Device, State } from "./state.js";
import { StateRows } from "./state_rows.js";
import { IndexedDbStore, type Store } from "./store.js";
import { type Standing, standing, Turns } from "./turns.js";
import { VerifiedChains } from "./verified.js";

const ENROL = "Enrol it: Client.enrol().";

/** What was verified, beside the very bytes that it follows from. */
interface Kept<T> {
  readonly basis: readonly (Uint8Array | boolean)[];
  readonly value: T;
}

/** Return what was verified last from the same bytes. */
function unchanged<T>(kept: Kept<T> | undefined, basis: Kept<T>["basis"]): T | undefined {
  const isSame = (part: Uint8Array | boolean, other: Uint8Array | boolean | undefined): boolean =>
    part instanceof Uint8Array ? other instanceof Uint8Array && equal(part, other) : part === other;
  const fits = kept?.basis.length === basis.length && kept.basis.every((part, index) => isSame(part, basis[index]));
  return fits ? kept.value : undefined;
}

/**
 * A profile that is open, and the server it belongs to.
 *
 * `state` is what `save` keeps. Whatever must not be lost (a key just published, a deposit acknowledged) is saved by the
 * module that made it, before it tells anybody. One thing at a time, as for its store.
 */
export class Account {
  readonly store: Store;
  state: State;
  readonly verified: VerifiedChains;
  readonly #rows: StateRows;
  #api: Api | undefined;
  #tenant: Kept<TrustedTenant> | undefined;
  #escrowKey: { readonly trusted: TrustedTenant; readonly keys: Kept<SignedTenantKey> } | undefined;
  #roles: Kept<SignedRoles> | undefined;
  #device: Kept<DeviceStatement> | undefined;
  #turns: { readonly device: Bytes; readonly turns: Turns } | undefined;
  readonly #keys = new Map<string, readonly [seed: SecretBytes, key: unknown]>();

  /** Of a state that is in hand; `openStore` reads it from the store. */
  constructor(store: Store, state: State, api?: Api) {
    this.store = store;
    this.state = state;
    this.verified = new VerifiedChains(store.tenant);
    this.#rows = new StateRows(store);
    this.#api = api;
  }

  /** The 16-byte tenant. */
  get tenant(): Bytes {
    return this.store.tenant;
  }

  /** The 16-byte user, who is also the person. */
  get user(): Bytes {
    return this.store.user;
  }

  /** The user's id as paths have it. */
  get userText(): string {
    return uuidText(this.user);
  }

  /** Keep the state durably. */
  save(): Promise<void> {
    return this.#rows.save(this.state);
  }

  /** Read the state from the store, in the place of what is in memory: before any use, and when another page wrote. */
  async reload(): Promise<void> {
    this.state = await this.#rows.load();
    this.#turns?.turns.follow();
    if (this.#api !== undefined && this.#api.credential !== undefined) await this.signAsDevice();
  }

  // The connection

  /** The server, addressed as this device. Throws ProfileError before enrolment. */
  get api(): Api {
    if (this.#api === undefined) throw new ProfileError("This profile knows no server yet.", { wayOut: ENROL });
    return this.#api;
  }

  /** The time as the connection corrects it; without one, this machine's own. */
  get clock(): Clock {
    return this.#api?.clock ?? new Clock();
  }

  /**
   * Address the profile's server, signing as this device once there is one.
   *
   * server: needed the first time; later it must be the same. A profile's pins belong to one server. fetch: in the place
   * of the browser's own.
   */
  async connect(server = "", { fetch, clock }: { readonly fetch?: Fetch; readonly clock?: Clock } = {}): Promise<Api> {
    const known = this.state.server;
    if (server !== "" && known !== "" && checkServer(server) !== checkServer(known))
      throw new WrongInput(`This profile belongs to ${known}.`, { wayOut: "Use another profile for another server." });
    if (known === "" && server === "") throw new ProfileError("This profile knows no server yet.", { wayOut: ENROL });
    this.state.server = known || checkServer(server);
    this.#api = new Api(this.state.server, { clock, fetch });
    await this.signAsDevice();
    return this.#api;
  }

  /** Close the connection, if there is one, and the store. */
  async close(): Promise<void> {
    this.#api?.close();
    await this.store.close();
  }

  /** Sign every request from now on by the device's key, if the device exists. */
  async signAsDevice(): Promise<void> {
    const device = this.state.device?.id;
    if (device === undefined) return;
    if (this.#turns === undefined || !equal(this.#turns.device, device)) {
      const { clock } = this.api;
      this.#turns = { device, turns: new Turns(this.store, device, () => clock.earliest()) };
    }
    this.api.credential = { device: uuidText(device), key: await this.signingKey(), turns: this.#turns.turns };
  }

  /** Return what this profile knows of its openings, and of copies of it. Rejects with ProfileError before enrolment. */
  async turn(): Promise<Standing> {
    return standing(this.store, this.device.id);
  }

  /** Whether an answer of this opening said that the profile is not the newest one. */
  get isCopyFound(): boolean {
    return this.#turns?.turns.isBroken ?? false;
  }

  // This device's keys

  /** This device. Throws ProfileError before enrolment. */
  get device(): Device {
    if (this.state.device === undefined) throw new ProfileError("This profile is not enrolled yet.", { wayOut: ENROL });
    return this.state.device;
  }

  /** The device's id as paths have it. */
  get deviceText(): string {
    return uuidText(this.device.id);
  }

  /** What this device says of itself. */
  get deviceStatement(): DeviceStatement {
    const basis = [this.device.statement];
    let said = unchanged(this.#device, basis);
    if (said === undefined) {
      said = deviceFromPayload(Sign1.parse(this.device.statement).payload);
      this.#device = { basis, value: said };
    }
    return said;
  }

  /** The suite of this device. */
  get suite(): Suite {
    return this.deviceStatement.suite;
  }

  /** Return the device's identity signing key ISK. */
  signingKey(): Promise<SigningKey> {
    const kind = signingKind(this.suite);
    return this.#imported("signing", this.device.signingSeed, (seed) => SigningKey.fromSeed(kind, seed));
  }

  /** Return the device's identity agreement key IDK. */
  agreementKey(): Promise<AgreementKey> {
    const kind = agreementKind(this.suite);
    return this.#imported("agreement", this.device.agreementSeed, (seed) => AgreementKey.fromSeed(kind, seed));
  }

  /** Return the device's X-Wing key; loads ML-KEM the first time. */
  sealingKey(): Promise<SealingKey> {
    return this.#imported("sealing", this.device.sealingSeed, async (seed) =>
      (await import("../../core/crypto/sealing.js")).SealingKey.fromSeed(seed),
    );
  }

  /** Return the account identity key AIK. Rejects with ProfileError on a device that does not hold it. */
  async identityKey(): Promise<SigningKey> {
    if (this.state.identitySeed.length === 0)
      throw new ProfileError("This device does not hold your account's identity key.", {
        wayOut: "Bring it from another device (client.devices.pair()), or recover it: client.recover.",
      });
    const kind = signingKind(this.suite);
    return this.#imported("identity", this.state.identitySeed, (seed) => SigningKey.fromSeed(kind, seed));
  }

  /** Import a key once, for as long as its seed is the same: WebCrypto takes longer over that than over a signature. */
  async #imported<K>(use: string, seed: SecretBytes, make: (seed: SecretBytes) => Promise<K>): Promise<K> {
    const known = this.#keys.get(use);
    if (known?.[0].equals(seed)) return known[1] as K;
    const key = await make(seed);
    this.#keys.set(use, [seed, key]);
    return key;
  }

  /** Return this device as both ends of a session see it, at the newest own chain head known here. */
  async me(): Promise<Party> {
    // Not loaded before somebody begins a session.
    const { Party } = await import("../../core/messages/x3dh.js"), state = await this.chain();
    return new Party(deviceToPayload(this.deviceStatement), this.deviceStatement, state.aik, headOf(state));
  }

  /** Return the header of a statement by this device, issued now unless said otherwise. */
  header({ issuedAt, lastsSeconds = 0 }: { readonly issuedAt?: number; readonly lastsSeconds?: number } = {}): Header {
    const issued = issuedAt ?? this.api.clock.earliest();
    const expiresAt = lastsSeconds > 0 ? issued + lastsSeconds : 0;
    return { tenant: this.tenant, user: this.user, device: this.device.id, issuedAt: issued, expiresAt };
  }

  /** Return who writes into the account chain at `state` (none before its genesis): this device under the AIK. */
  async author(state?: ChainState): Promise<Author> {
    return this.authorAs(await this.identityKey(), state);
  }

  /**
   * Return this device as author under another key: the recovery key, or an AIK that is to come.
   *
   * Dated now, or as the chain's latest entry where that lies in the future. Somebody's clock was wrong then, and an entry
   * dated before it would be refused for as long as it was: not even a device could be revoked.
   */
  authorAs(key: Signer, state?: ChainState): Author {
    return { device: this.device.id, issuedAt: Math.max(this.api.clock.earliest(), state?.time ?? 0), key };
  }

  // What is pinned

  /** Return the tenant as reached from the pin. Rejects with ProfileError before anything was pinned. */
  async trusted(): Promise<TrustedTenant> {
    const { trust } = this.state, basis = this.#tenantBasis();
    if (trust.policies.length === 0)
      throw new ProfileError("This profile has not verified its tenant yet.", { wayOut: "Call Client.enrol() again." });
    // Verified again only when something of it has changed: m signatures for every policy there ever was.
    const known = unchanged(this.#tenant, basis);
    if (known !== undefined) return known;
    const value = await verifyTenant(trust.policies.map(readMany), {
      tenant: this.tenant,
      rootKey: rootKeyOf(trust.rootKey),
      pin: trust.pin,
      isDevelopment: trust.isDevelopment,
      early: trust.policies.length,
      withdrawals: (trust.withdrawals ?? []).map(readMany),
    });
    this.#tenant = { basis, value };
    return value;
  }

  /** Hold the tenant from now on to what was just verified: from `pin` (32 bytes) to the newest of `policies`. */
  trustTenant(
    verified: TrustedTenant,
    of: {
      readonly pin: Bytes;
      readonly rootKey: Bytes;
      readonly policies: readonly Bytes[];
      readonly withdrawals: readonly Bytes[];
    },
  ): void {
    const { trust } = this.state;
    trust.pin = of.pin;
    trust.rootKey = of.rootKey;
    trust.policies = [...of.policies];
    trust.withdrawals = of.withdrawals.length > 0 ? [...of.withdrawals] : undefined;
    this.#tenant = { basis: this.#tenantBasis(), value: verified };
  }

  #tenantBasis(): (Uint8Array | boolean)[] {
    const { policies, withdrawals = [], rootKey, pin, isDevelopment } = this.state.trust;
    return [...policies, false, ...withdrawals, rootKey, pin, isDevelopment];
  }

  /** Return every policy version that the pin leads to and that stands, oldest first; none before enrolment. */
  async policies(): Promise<readonly SignedPolicy[]> {
    return this.state.trust.policies.length > 0 ? (await this.trusted()).standing : [];
  }

  /** Return the newest escrow key accepted. Rejects with ProfileError when the tenant has shown none. */
  async escrowKey(): Promise<SignedTenantKey> {
    const basis = [...this.state.trust.escrowKeys];
    if (basis.length === 0)
      throw new ProfileError("This profile has accepted no escrow key.", { wayOut: "See client.escrow.status()." });
    const trusted = await this.trusted();
    const known = this.#escrowKey?.trusted === trusted ? unchanged(this.#escrowKey.keys, basis) : undefined;
    if (known !== undefined) return known;
    const value = (await verifyEscrowKeys(basis.map(readMany), { trusted })).at(-1) as SignedTenantKey;
    this.#escrowKey = { trusted, keys: { basis, value } };
    return value;
  }

  /** Return the newest word of the tenant root on whose keys write and sign its logs; undefined before there was one. */
  async roles(): Promise<SignedRoles | undefined> {
    const { roles, rootKey } = this.state.trust;
    if (roles === undefined) return undefined;
    const known = unchanged(this.#roles, [roles, rootKey]);
    if (known !== undefined) return known;
    const value = await verifyRoles(Sign1.parse(roles), { tenant: this.tenant, rootKey: rootKeyOf(rootKey) });
    this.#roles = { basis: [roles, rootKey], value };
    return value;
  }

  /** Return the account chain as last verified. Rejects with ProfileError when there is none. */
  async chain(): Promise<ChainState> {
    if (this.state.chain.length === 0)
      throw new ProfileError("This account has no chain yet.", { wayOut: "Enrol a first device: Client.enrol()." });
    return this.verified.read(this.user, this.state.chain, [], { policies: () => this.policies() });
  }
}

/** Read a statement of several signers as policies and tenant keys are sent. Throws Malformed. */
export function readMany(statement: Bytes): Sign1[] {
  return parseMany(statement, MAX_BLOB);
}

/** Read a tenant root key. Throws Malformed for any kind but Ed25519 and P-256. */
export function rootKeyOf(encoded: Bytes): PublicKey {
  return decodePublicKey(encoded, [KeyKind.ED25519, KeyKind.P256_SIGNING]);
}

/** Return the account whose state is in a store. Rejects with ProfileError when it has none or a damaged one. */
export async function openStore(store: Store): Promise<Account> {
  const account = new Account(store, new State());
  await account.reload();
  return account;
}

/**
 * Start a profile for one person in this browser, and ask the browser to keep it. tenant, user: 16 bytes each.
 *
 * name: by which it is opened again. Rejects with NotPossible when there is one of that name, MachineError when the browser
 * keeps nothing for this page; nothing is left behind. Whether it is kept for good, `keeping` says.
 */
export async function create(
  name: string,
  { tenant, user }: { readonly tenant: Bytes; readonly user: Bytes },
): Promise<Account> {
  const store = await IndexedDbStore.create(name, { tenant, user });
  try {
    const account = new Account(store, new State());
    await account.save();
    await askToKeep();
    return account;
  } catch (error) {
    await store.close();
    await remove(name);
    throw error;
  }
}

/** Open a profile. Rejects with ProfileError for none or a damaged one, UpdateNeeded for a newer program's. */
export async function openProfile(name: string): Promise<Account> {
  const store = await IndexedDbStore.open(name);
  try {
    return await openStore(store);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Remove a profile with all that is in it, for every page. What its device published stays with the server. */
export function remove(name: string): Promise<void> {
  return removeDatabase(name);
}
