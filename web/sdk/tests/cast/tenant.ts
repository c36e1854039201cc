// SPDX-License-Identifier: Apache-2.0
/** A tenant as founded: root, officers with their keys, policy version 1, escrow key version 1, whose keys sign the log. */
import { type Bytes, EMPTY } from "../../src/core/base/bytes.js";
import { SigningKey } from "../../src/core/crypto/keys.js";
import type { PublicKey } from "../../src/core/crypto/public_keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { Act, resolutionToPayload } from "../../src/core/identity/acts.js";
import {
  ApproveWith, DepositRule, type Officer, policyToPayload, type Terms,
} from "../../src/core/identity/policy.js";
import { type RoleKey, rolesToPayload } from "../../src/core/identity/roles.js";
import { rootPin } from "../../src/core/identity/trust.js";
import { Role } from "../../src/core/log/writers.js";
import { encodeMany, parseMany, sign, Sign1 } from "../../src/core/signed/cose.js";
import type { Header } from "../../src/core/signed/payloads.js";
import { tenantKeyToPayload } from "../../src/core/signed/statements.js";
import { NOW, TENANT } from "./server.js";
import { RSA, signedBy } from "./statements.js";

/** One officer with their private keys. */
export interface Founder {
  readonly person: Bytes;
  readonly signingKey: SigningKey;
  readonly sealingKey: SealingKey;
}

// Nobody here opens what is sealed to an officer; ML-KEM keys take a while to make.
const sealing = await Promise.all(Array.from({ length: 8 }, () => SealingKey.generate()));

export async function founder(at = 0, person: Bytes = randomBytes(16)): Promise<Founder> {
  return { person, signingKey: await SigningKey.generate(), sealingKey: sealing[at] as SealingKey };
}

/** So many officers who have nothing in common with those of before. */
export function founders(count = 3, from = 0): Promise<Founder[]> {
  return Promise.all(Array.from({ length: count }, (_, at) => founder(from + at)));
}

export function rosterOf(officers: readonly Founder[]): Officer[] {
  return officers.map(({ person, signingKey, sealingKey }, at) => ({
    index: at + 1,
    person,
    signingKey: signingKey.public,
    sealingKey: sealingKey.public,
  }));
}

export const payloadHash = (statement: Bytes): Bytes => (parseMany(statement, 65_536)[0] as Sign1).payloadHash;

interface Parts {
  readonly root: SigningKey;
  readonly log: SigningKey;
  readonly release: readonly [SigningKey, SealingKey];
  readonly officers: Founder[];
  readonly terms: Partial<Terms>;
}

/** What a server shows of a tenant; a test adds to the lists. */
export class Tenant implements Parts {
  readonly header: Header = { tenant: TENANT, user: EMPTY, device: EMPTY, issuedAt: NOW - 1000, expiresAt: 0 };
  readonly escrow: PublicKey = RSA;
  readonly root: SigningKey;
  readonly log: SigningKey;
  readonly release: readonly [SigningKey, SealingKey];
  readonly officers: Founder[];
  readonly terms: Partial<Terms>;
  policies: Bytes[] = [];
  keys: Bytes[] = [];
  roles: Bytes[] = [];
  withdrawals: Bytes[] = [];

  private constructor(parts: Parts) {
    this.root = parts.root;
    this.log = parts.log;
    this.release = parts.release;
    this.officers = parts.officers;
    this.terms = parts.terms;
  }

  static async found(terms: Partial<Terms> = {}, log?: SigningKey): Promise<Tenant> {
    const made = new Tenant({
      root: await SigningKey.generate(),
      log: log ?? (await SigningKey.generate()),
      release: [await SigningKey.generate(), sealing[7] as SealingKey],
      officers: await founders(),
      terms,
    });
    const version = 1, predecessor = EMPTY;
    made.policies.push(await made.signPolicy(made.officers, { version, predecessor, signers: made.officers }));
    made.keys.push(await made.signKey({ version, predecessor }));
    made.roles.push(await made.signRoles([{ role: Role.LOG, key: made.log.public, until: 0 }]));
    return made;
  }

  /** Return the same tenant with lists of its own. */
  copy(): Tenant {
    const made = new Tenant(this);
    made.policies = [...this.policies];
    made.keys = [...this.keys];
    made.roles = [...this.roles];
    made.withdrawals = [...this.withdrawals];
    return made;
  }

  get policyHash(): Bytes {
    return payloadHash(this.policies.at(-1) as Bytes);
  }

  get pin(): Bytes {
    return rootPin(TENANT, this.root.public, payloadHash(this.policies[0] as Bytes));
  }

  /** Sign a version that names its predecessor as the one in force, unless told otherwise. */
  async signPolicy(
    roster: readonly Founder[],
    of: { version: number; predecessor: Bytes; signers: readonly Founder[]; held?: Bytes; expiresAt?: number },
  ): Promise<Bytes> {
    const { version, predecessor, signers, held = predecessor, expiresAt = 0 } = of;
    const terms: Terms = {
      delaySeconds: 0,
      maxNoticeDelaySeconds: 0,
      coolingOffSeconds: 0,
      undeliveredDelaySeconds: 0,
      approveWith: ApproveWith.CLI,
      purposes: ["recovery"],
      deposits: DepositRule.FROM_CONSENT,
      releaseSigningKey: this.release[0].public,
      releaseSealingKey: this.release[1].public,
      consentBindsSeconds: 0,
      text: "",
      ...this.terms,
    };
    const header = { ...this.header, expiresAt };
    const rest = { predecessor, heldInForce: held, givenUp: undefined };
    const payload = policyToPayload({ header, version, m: 2, roster: rosterOf(roster), terms, ...rest });
    return encodeMany(await signedBy(signers.map((one) => one.signingKey), payload, "policy"));
  }

  /** Sign the next version by two officers of before. */
  async nextPolicy(roster: readonly Founder[] = this.officers, signers: readonly Founder[] = this.officers.slice(0, 2)): Promise<void> {
    const version = this.policies.length + 1;
    this.policies.push(await this.signPolicy(roster, { version, predecessor: this.policyHash, signers }));
  }

  async signKey(of: {
    version: number;
    predecessor: Bytes;
    byRoot?: SigningKey;
    officers?: readonly Founder[];
    key?: PublicKey;
    algorithm?: string;
    expiresAt?: number;
  }): Promise<Bytes> {
    const { version, predecessor, key = this.escrow, algorithm = "oaep-sha256", expiresAt = 0 } = of;
    const { byRoot = this.root, officers = this.officers.slice(0, 2) } = of;
    const header = { ...this.header, expiresAt }, { policyHash } = this;
    const payload = tenantKeyToPayload({
      purpose: "escrow-key", header, key, version, algorithm, predecessor, policyHash,
    });
    return encodeMany(await signedBy([byRoot, ...officers.map((one) => one.signingKey)], payload, "escrow-key"));
  }

  /** Withdraw a version by officers of the first. */
  async signWithdrawal(version: number, signers: readonly Founder[] = this.officers.slice(0, 2)): Promise<Bytes> {
    const hash = payloadHash(this.policies[version - 1] as Bytes), policyHash = payloadHash(this.policies[0] as Bytes);
    const said = { act: Act.WITHDRAW_VERSION, version, hash, header: this.header, policyHash, nonce: randomBytes(16) };
    return encodeMany(await signedBy(signers.map((one) => one.signingKey), resolutionToPayload(said), "resolution"));
  }

  /** Return the next version of the root's word on whose keys sign the log. */
  async signRoles(keys: readonly RoleKey[], byRoot: SigningKey = this.root): Promise<Bytes> {
    const before = this.roles.at(-1), version = this.roles.length + 1;
    const predecessor = before ? Sign1.parse(before).payloadHash : EMPTY;
    const payload = rolesToPayload({ header: this.header, version, keys, predecessor, unsigned: undefined });
    return (await sign(payload, "roles", byRoot)).encode();
  }
}
