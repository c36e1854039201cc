// SPDX-License-Identifier: Apache-2.0
/** A tenant in memory: founders, policy, escrow key, a depositor and a recipient, as pure values. */
import { type Bytes, EMPTY, hex, utf8 } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import { AgreementKey, SigningKey } from "../src/core/crypto/keys.js";
import { RecipientRsaKey } from "../src/core/crypto/rsa.js";
import { SealingKey } from "../src/core/crypto/sealing.js";
import { DEFAULT_SUITE } from "../src/core/crypto/suites.js";
import { randomBytes } from "../src/core/crypto/webcrypto.js";
import { type Approver, approve, type Excluded, type OuterShare } from "../src/core/escrow/approvals.js";
import { type CustodyLine, custodyToPayload } from "../src/core/escrow/custody.js";
import { buildDeposit, type Deposit, type SignedTenantKey } from "../src/core/escrow/deposit.js";
import type { ReleaseFacts } from "../src/core/escrow/release.js";
import { type Case, caseToPayload, ClientKind } from "../src/core/identity/cases.js";
import {
  ApproveWith, DepositRule, type Officer, type Policy, policyToPayload, type SignedPolicy, type Terms, verifyFounding,
  verifySuccessor,
} from "../src/core/identity/policy.js";
import { sign, type Sign1 } from "../src/core/signed/cose.js";
import type { Header } from "../src/core/signed/payloads.js";
import { deviceToPayload } from "../src/core/signed/statements.js";

export const NOW = 1_800_000_000;
export const DAY = 86_400;

/** The 16-byte id of one of the cast. */
export const idOf = (name: string): Bytes => sha256(utf8(name)).slice(0, 16);
/** A 32-byte hash of something that the test at hand does not need to exist. */
export const hashOf = (name: string): Bytes => sha256(utf8(name));

// RSA keys take up to a second to make: one for the HSM's part and one for the recipient serve every test of a file.
export const HSM_KEY = await RecipientRsaKey.generate();
export const RECIPIENT_KEY = await RecipientRsaKey.generate();

/** One officer with their private keys. */
export interface Founder {
  readonly person: Bytes;
  readonly signing: SigningKey;
  readonly sealing: SealingKey;
}

export async function newFounder(): Promise<Founder> {
  return { person: randomBytes(16), signing: await SigningKey.generate(), sealing: await SealingKey.generate() };
}

export function rowOf(founder: Founder, index: number): Officer {
  const { person, signing, sealing } = founder;
  return { index, person, signingKey: signing.public, sealingKey: sealing.public };
}

export function numbered(roster: readonly Officer[]): Officer[] {
  return roster.map((one, at) => ({ ...one, index: at + 1 }));
}

interface Wanted {
  readonly m?: number;
  readonly n?: number;
  readonly deposits?: number;
  readonly terms?: Partial<Terms>;
}

/** Everything one case needs; `facts` are what an honest log would give. */
export class Custody {
  readonly alice = randomBytes(16);
  readonly rita = randomBytes(16);
  readonly tenant = randomBytes(16);
  readonly deviceId = randomBytes(16);
  readonly caseId = randomBytes(16);
  officers: Founder[] = [];
  policy!: SignedPolicy;
  escrowKey!: SignedTenantKey;
  readonly archiveKeys: SecretBytes[] = [];
  deposits = new Map<string, Deposit>();
  device!: Sign1;
  case!: Sign1;

  private constructor(
    private readonly wanted: Wanted,
    readonly releaseSigning: SigningKey,
    readonly releaseSealing: SealingKey,
    readonly recipientSigning: SigningKey,
    readonly recipientSealing: SealingKey,
  ) {}

  static async make(wanted: Wanted = {}): Promise<Custody> {
    const sign = await SigningKey.generate(), seal = await SealingKey.generate();
    const world = new Custody(wanted, sign, seal, await SigningKey.generate(), await SealingKey.generate());
    for (let at = 0; at < (wanted.n ?? 3); at++) world.officers.push(await newFounder());
    world.policy = await world.signPolicy(world.policyPayload());
    const key = { purpose: "escrow-key", header: world.tenantHeader(), key: HSM_KEY.public, version: 1 } as const;
    const statement = { ...key, algorithm: "oaep-sha1", predecessor: EMPTY, policyHash: world.policy.hash };
    world.escrowKey = { statement, hash: randomBytes(32) };
    for (let at = 1; at <= (wanted.deposits ?? 1); at++) {
      const archiveKey = new SecretBytes(randomBytes(32)), made = await world.deposit(at, archiveKey);
      world.archiveKeys.push(archiveKey);
      world.deposits.set(hex(made.header.depositId), made);
    }
    world.device = await world.signDevice();
    world.case = await world.signCase();
    return world;
  }

  get only(): Deposit {
    return [...this.deposits.values()][0] as Deposit;
  }

  tenantHeader(): Header {
    return { tenant: this.tenant, user: EMPTY, device: EMPTY, issuedAt: NOW, expiresAt: 0 };
  }

  deviceHeader(): Header {
    return { ...this.tenantHeader(), user: this.rita, device: this.deviceId };
  }

  policyPayload(changes: Partial<Policy> = {}): Policy {
    const terms: Terms = {
      delaySeconds: 60,
      maxNoticeDelaySeconds: 0,
      coolingOffSeconds: DAY,
      undeliveredDelaySeconds: 14 * DAY,
      approveWith: ApproveWith.CLI,
      purposes: ["device-loss", "legal"],
      deposits: DepositRule.FROM_CONSENT,
      releaseSigningKey: this.releaseSigning.public,
      releaseSealingKey: this.releaseSealing.public,
      consentBindsSeconds: 0,
      text: "",
      ...this.wanted.terms,
    };
    const header = this.tenantHeader(), roster = this.officers.map((one, at) => rowOf(one, at + 1));
    const links = { predecessor: EMPTY, heldInForce: EMPTY, givenUp: undefined };
    return { header, version: 1, m: this.wanted.m ?? 2, roster, terms, ...links, ...changes };
  }

  private bySigners(policy: Policy): Promise<Sign1[]> {
    const payload = policyToPayload(policy);
    return Promise.all(this.officers.map((one) => sign(payload, "policy", one.signing)));
  }

  async signPolicy(policy: Policy): Promise<SignedPolicy> {
    return verifyFounding(await this.bySigners(policy), this.tenant);
  }

  /** Version 2 of the policy, signed by every officer of version 1. */
  async successor({ terms, ...changes }: Partial<Omit<Policy, "terms">> & { terms?: Partial<Terms> }): Promise<SignedPolicy> {
    const { policy, hash } = this.policy;
    const links = { version: 2, predecessor: hash, heldInForce: hash };
    const after: Policy = { ...policy, ...links, ...changes, terms: { ...policy.terms, ...terms } };
    return verifySuccessor(await this.bySigners(after), { predecessor: this.policy });
  }

  deposit(generation: number, archiveKey: SecretBytes): Promise<Deposit> {
    const terms = {
      suite: DEFAULT_SUITE,
      tenant: this.tenant,
      user: this.alice,
      device: this.deviceId,
      policy: this.policy,
      escrowKey: this.escrowKey,
      consentHash: new Uint8Array(32),
    };
    return buildDeposit(archiveKey, { generation, depositId: randomBytes(16), terms });
  }

  async signDevice(header: Header = this.deviceHeader(), key: SigningKey = this.recipientSigning): Promise<Sign1> {
    const payload = deviceToPayload({
      header,
      suite: DEFAULT_SUITE,
      signingKey: key.public,
      agreementKey: (await AgreementKey.generate()).public,
      sealingKey: (await SealingKey.generate()).public,
      person: this.rita,
      name: "rita's laptop",
      enrolmentHash: new Uint8Array(32),
    });
    return sign(payload, "device", key);
  }

  casePayload(changes: Partial<Case> = {}): Case {
    return {
      header: this.deviceHeader(),
      caseId: this.caseId,
      nonce: randomBytes(16),
      subject: this.alice,
      requester: this.rita,
      purpose: "device-loss",
      deposits: [...this.deposits.values()].map((one) => [one.header.depositId, sha256(one.toRecord())]),
      reason: "Lost both devices.",
      reference: "T-1",
      recipientDeviceHash: this.device.payloadHash,
      recipientRsaKey: RECIPIENT_KEY.public,
      recipientSealingKey: this.recipientSealing.public,
      policyHash: this.policy.hash,
      notBefore: NOW,
      noticeAt: NOW,
      expiry: NOW + DAY,
      disclosureEnds: undefined,
      ...changes,
    };
  }

  signCase(changes: Partial<Case> = {}, key: SigningKey = this.recipientSigning): Promise<Sign1> {
    return sign(caseToPayload(this.casePayload(changes)), "case", key);
  }

  /** What the recipient's device signs as it opens these files of a disclosure, one a second. */
  async custodyLines(asked: Sign1, files: readonly Bytes[], closing = false): Promise<Sign1[]> {
    const opened = files.map((file, at) => [{ digest: sha256(file), time: NOW + at + 1, size: file.length }]);
    const lines: Sign1[] = [];
    for (const named of closing ? [...opened, []] : opened) {
      const seq = lines.length + 1, previous = lines.at(-1)?.payloadHash ?? EMPTY;
      const header = { ...this.deviceHeader(), issuedAt: NOW + seq };
      lines.push(await this.signLine({ header, caseHash: asked.payloadHash, seq, previous, files: named }));
    }
    return lines;
  }

  signLine(line: CustodyLine, key: SigningKey = this.recipientSigning): Promise<Sign1> {
    return sign(custodyToPayload(line), "custody", key);
  }

  approver(index: number): Approver {
    const founder = this.officers[index - 1] as Founder, officer = this.policy.policy.roster[index - 1] as Officer;
    const header = { ...this.tenantHeader(), user: founder.person };
    return { officer, signingKey: founder.signing, sealingKey: founder.sealing, header, clientKind: ClientKind.CLI };
  }

  approvalAndShares(
    index: number,
    { asked = this.case, policy = this.policy, ...changes }: { asked?: Sign1; policy?: SignedPolicy } & Partial<Approver> = {},
  ): Promise<[Sign1, OuterShare[]]> {
    const policies = new Map([[hex(this.policy.hash), this.policy]]);
    const ground = { policy, policies, releaseKey: policy.policy.terms.releaseSealingKey };
    return approve(asked, this.deposits, { ...this.approver(index), ...changes }, ground, "seen in person");
  }

  async approval(index: number, changes: { asked?: Sign1; policy?: SignedPolicy } & Partial<Approver> = {}): Promise<Sign1> {
    return (await this.approvalAndShares(index, changes))[0];
  }

  excluded(changes: Partial<Excluded> = {}): Excluded {
    return { requester: hex(this.rita), subject: hex(this.alice), recipient: hex(this.rita), ...changes };
  }

  async facts(indices: readonly number[], changes: Partial<ReleaseFacts> = {}): Promise<ReleaseFacts> {
    const approvals = [];
    for (const index of indices) approvals.push({ statement: await this.approval(index), at: NOW + index });
    return {
      tenant: this.tenant,
      case: this.case,
      openedAt: NOW,
      recipient: this.device,
      records: new Map([...this.deposits].map(([id, one]) => [id, one.toRecord()])),
      halfOwners: new Map([...this.deposits.values()].map((one) => [hex(one.halfHash), one.header.depositId])),
      policyAtRequest: this.policy,
      policyNow: this.policy,
      policiesAtDeposit: new Map([[hex(this.policy.hash), this.policy]]),
      approvals,
      excluded: this.excluded(),
      notice: { handedOverAt: NOW + 1 },
      isVetoed: false,
      now: NOW + 1000,
      ...changes,
    };
  }
}
