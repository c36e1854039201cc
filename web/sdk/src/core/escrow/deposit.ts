// SPDX-License-Identifier: Apache-2.0
/**
 * A deposit: one archive key, sealed so that the HSM's half and m officers' halves together open it.
 *
 * docs/formats/deposit-and-case.md. All checks of shape are in `depositFromRecord`; opening needs both halves. Does not
 * decide who may open: a case does.
 */
import { type Bytes, concat, EMPTY, equal, equalSecret } from "../base/bytes.js";
import { decode, encode, Fields, label, mapOf, MAX_BLOB } from "../base/encoding.js";
import { Malformed, Untrusted, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { hkdf, sha256 } from "../crypto/hashing.js";
import { KeyKind, type PublicKey } from "../crypto/public_keys.js";
import { oaepHash, oaepLabel, wrapRsa } from "../crypto/rsa.js";
import { OVERHEAD, seal, type SealingKey } from "../crypto/sealing.js";
import { combine, split } from "../crypto/shares.js";
import type { Suite } from "../crypto/suites.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { COMMIT_SIZE, decrypt, encrypt, NONCE_SIZE, TAG_SIZE } from "../crypto/wrapping.js";
import { MAX_OFFICERS, MIN_OFFICERS, MIN_QUORUM, type SignedPolicy } from "../identity/policy.js";
import { HASH_SIZE, ID_SIZE, MAX_U32, readBack, readSuite } from "../signed/payloads.js";
import type { TenantKey } from "../signed/statements.js";

/** In the header, and so in ctx: no half of one version opens under another. */
export const VERSION = 1;
/** Bytes. */
export const ARCHIVE_KEY_SIZE = 32;
const HALF_SIZE = 32; // bytes: each half alone must be as hard to guess as the data key
/** Bytes: RSA-OAEP under 3072 bits is as long as the modulus (RFC 8017 section 7.1.1). */
export const SEALED_HALF_SIZE = 384;
const SEALED_SHARE_SIZE = 32 + OVERHEAD;
const CIPHERTEXT_SIZE = ARCHIVE_KEY_SIZE + TAG_SIZE; // bytes: GCM adds a tag and nothing else
const KID_SIZE = 16; // bytes: docs/formats/statements.md, "Keys"
// DK comes fresh from r_h and r_o for every deposit and encrypts once, so its nonce may be fixed.
const NONCE = new Uint8Array(NONCE_SIZE);

/** Return SHA-256(["…/ak", g, AK_g]), 32 bytes: also in the account chain's entry of the generation. */
export function archiveKeyCommitment(generation: number, archiveKey: SecretBytes): Bytes {
  // Safe to publish: the key has 256 random bits, so nobody can try candidates against the hash.
  return sha256(label("ak", generation, archiveKey.reveal()));
}

/** Return t_i = SHA-256(["…/share-commit", ctx, i, s_i]), by which a wrong share is laid to its officer. */
export function shareCommitment(ctx: Bytes, index: number, share: SecretBytes): Bytes {
  return sha256(label("share-commit", ctx, index, share.reveal()));
}

/** What a deposit is about; its hash is `ctx`, to which both halves are bound. ids are 16 bytes, hashes 32. */
export interface DepositHeader {
  readonly suite: Suite;
  readonly tenant: Bytes;
  readonly user: Bytes;
  readonly device: Bytes;
  readonly depositId: Bytes;
  readonly generation: number;
  readonly akCommitment: Bytes;
  readonly escrowKeyHash: Bytes;
  readonly policyHash: Bytes;
  readonly consentHash: Bytes;
  readonly m: number;
  readonly n: number;
  /** None without an offline key. */
  readonly offlineKid: Bytes;
}

/** Return the header's dCBOR: fields 1 to 14. */
export function headerToBytes(of: DepositHeader): Bytes {
  const octets = encode(
    mapOf({
      1: VERSION,
      2: of.suite,
      3: of.tenant,
      4: of.user,
      5: of.device,
      6: of.depositId,
      7: of.generation,
      8: of.akCommitment,
      9: of.escrowKeyHash,
      10: of.policyHash,
      11: of.consentHash,
      12: of.m,
      13: of.n,
      // Absent and not empty, so that a deposit without an offline key has one encoding.
      14: of.offlineKid.length === 0 ? undefined : of.offlineKid,
    }),
  );
  return readBack(octets, headerFromBytes);
}

/** Read a header; throws Malformed, also for m of n outside the bounds. */
export function headerFromBytes(data: Uint8Array): DepositHeader {
  const fields = Fields.of(decode(data), "deposit header", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [14]);
  fields.uint(1, { minimum: VERSION, maximum: VERSION });
  // The bounds hold in the record itself: a deposit with m = 1 is refused whatever policy it names.
  const n = fields.uint(13, { minimum: MIN_OFFICERS, maximum: MAX_OFFICERS });
  return {
    suite: readSuite(fields, 2),
    tenant: fields.octets(3, ID_SIZE),
    user: fields.octets(4, ID_SIZE),
    device: fields.octets(5, ID_SIZE),
    depositId: fields.octets(6, ID_SIZE),
    generation: fields.uint(7, { maximum: MAX_U32 }),
    akCommitment: fields.octets(8, HASH_SIZE),
    escrowKeyHash: fields.octets(9, HASH_SIZE),
    policyHash: fields.octets(10, HASH_SIZE),
    consentHash: fields.octets(11, HASH_SIZE),
    m: fields.uint(12, { minimum: MIN_QUORUM, maximum: n - 1 }),
    n,
    offlineKid: fields.has(14) ? fields.octets(14, KID_SIZE) : EMPTY,
  };
}

/** One officer's row: index i, s_i sealed to them (1,168 bytes), its commitment t_i (32 bytes). */
export interface ShareBox {
  readonly index: number;
  readonly sealed: Bytes;
  readonly commitment: Bytes;
}

const shareInfo = (ctx: Bytes, index: number): Bytes => label("deposit-share", ctx, index);
const offlineInfo = (ctx: Bytes): Bytes => label("deposit-offline", ctx);

/** DK || commit. Either half alone, if unknown and uniform, keeps DK secret (dual-PRF use of HMAC). */
function derive(ctx: Bytes, half: SecretBytes, officersHalf: SecretBytes): [dataKey: SecretBytes, commit: Bytes] {
  // OAEP hides the length from the HSM, so only here a half of another length is noticed.
  if (half.length !== HALF_SIZE || officersHalf.length !== HALF_SIZE) throw new UnwrapFailed("a half of another length");
  // Joined and not XORed: with XOR, whoever chooses one half last could choose DK. ctx as salt binds what OAEP does not,
  // where the module takes no label.
  const ikm = new SecretBytes(concat(half.reveal(), officersHalf.reveal()));
  const okm = hkdf({ salt: ctx, ikm, info: label("deposit"), length: 64 }).reveal();
  return [new SecretBytes(okm.slice(0, 32)), okm.slice(32)];
}

/** A deposit's parts. commit: 32 bytes; ciphertext: 48; sealedHalf: 384 bytes RSA-OAEP of r_h. */
export class Deposit {
  /** SHA-256 of the header: binds every part to user, generation, keys and policy. */
  readonly ctx: Bytes;

  constructor(
    readonly header: DepositHeader,
    private readonly commit: Bytes,
    private readonly ciphertext: Bytes,
    readonly sealedHalf: Bytes,
    readonly boxes: readonly ShareBox[],
    private readonly offlineHalf: Bytes = EMPTY,
  ) {
    this.ctx = sha256(headerToBytes(header));
  }

  /** Return the record's bytes, at most 64 KiB. */
  toRecord(): Bytes {
    const octets = encode(
      mapOf({
        1: headerToBytes(this.header),
        2: this.commit,
        3: this.ciphertext,
        4: this.sealedHalf,
        5: this.offlineHalf.length === 0 ? undefined : this.offlineHalf,
        6: this.boxes.map((box) => [box.index, box.sealed, box.commitment]),
      }),
    );
    return readBack(octets, (written) => Deposit.fromRecord(written));
  }

  /** Read a record; throws Malformed, also for boxes that are not 1..n, each once, in order. */
  static fromRecord(record: Uint8Array): Deposit {
    const fields = Fields.of(decode(record, MAX_BLOB), "deposit", [1, 2, 3, 4, 6], [5]);
    // The header as bytes inside the record: ctx is over what was signed.
    const header = headerFromBytes(fields.octets(1, undefined, { maximum: 1024 }));
    const boxes = fields.array(6, { maximum: MAX_OFFICERS }).map((item): ShareBox => {
      const row = Fields.ofRow(item, "deposit share", 3);
      return {
        index: row.uint(0, { minimum: 1, maximum: MAX_OFFICERS }),
        sealed: row.octets(1, SEALED_SHARE_SIZE),
        commitment: row.octets(2, HASH_SIZE),
      };
    });
    if (boxes.length !== header.n || !boxes.every((box, at) => box.index === at + 1))
      throw fields.refuse(6, "does not number its shares 1..n in order");
    // The header says whether there is a second sealing of r_h, so nobody can add one unseen, or drop it.
    if (fields.has(5) !== header.offlineKid.length > 0)
      throw fields.refuse(5, "does not agree with the header's offline key");
    return new Deposit(
      header,
      fields.octets(2, COMMIT_SIZE),
      fields.octets(3, CIPHERTEXT_SIZE),
      fields.octets(4, SEALED_HALF_SIZE),
      boxes,
      fields.has(5) ? fields.octets(5, SEALED_SHARE_SIZE) : EMPTY,
    );
  }

  /** SHA-256(h_half), unique in the tenant for ever: nobody can carry another's half into their own. */
  get halfHash(): Bytes {
    return sha256(this.sealedHalf);
  }

  /** Throw Untrusted unless the deposit was made under this policy, with its m and n. */
  requirePolicy({ policy, hash }: SignedPolicy): void {
    const { header } = this;
    // The hash is in ctx: r_h and r_o only open a deposit whose policy is the one that its owner consented to.
    if (!equal(header.policyHash, hash) || !equal(header.tenant, policy.header.tenant))
      throw new Untrusted("the deposit was made under another policy");
    // With a lower m than its policy's, fewer officers than agreed could open it.
    if (header.m !== policy.m || header.n !== policy.roster.length)
      throw new Untrusted("the deposit asks for another number of officers than its policy");
  }

  /** Have officer `index` open their share. Rejects with UnwrapFailed when it does not open or is not as committed. */
  async openShare(index: number, key: SealingKey): Promise<SecretBytes> {
    // The info has ctx and index: a box copied from another deposit, or into another officer's row, does not open.
    const share = await key.open((this.boxes[index - 1] as ShareBox).sealed, shareInfo(this.ctx, index));
    this.requireShare(index, share);
    return share;
  }

  /** Throw UnwrapFailed unless this is the share that the depositor committed to for `index`. */
  requireShare(index: number, share: SecretBytes): void {
    const committed = (this.boxes[index - 1] as ShareBox).commitment;
    if (!equalSecret(shareCommitment(this.ctx, index, share), committed))
      throw new UnwrapFailed("the share is not the one that was deposited");
  }

  /** Return r_h from the second sealing of it, when the HSM is lost. Rejects with UnwrapFailed, also without one. */
  openOfflineHalf(key: SealingKey): Promise<SecretBytes> {
    return key.open(this.offlineHalf, offlineInfo(this.ctx));
  }

  /**
   * Return AK_g from r_h and r_o, 32 bytes each.
   *
   * Rejects with UnwrapFailed for wrong halves and for a key that is not the one committed to: never a wrong key.
   */
  async open(half: SecretBytes, officersHalf: SecretBytes): Promise<SecretBytes> {
    // First the commitment to the data key, which finds wrong halves; then GCM; then the commitment to the archive key,
    // which finds a depositor who sealed something else. The order tells whose fault it is.
    const [dataKey, commit] = derive(this.ctx, half, officersHalf);
    if (!equalSecret(commit, this.commit)) throw new UnwrapFailed("the halves do not open this deposit");
    const archiveKey = await decrypt(this.ciphertext, { key: dataKey, nonce: NONCE, aad: this.ctx });
    const { generation, akCommitment } = this.header;
    if (!equalSecret(archiveKeyCommitment(generation, archiveKey), akCommitment))
      throw new UnwrapFailed("the deposited key is not the one that was committed to");
    return archiveKey;
  }
}

/** A tenant's key whose signatures have been checked, and the hash that deposits name it by. */
export interface SignedTenantKey {
  readonly statement: TenantKey;
  readonly hash: Bytes;
}

/** What every deposit of a device shares: who deposits, under which verified policy and keys, with what consent. */
export interface DepositTerms {
  readonly suite: Suite;
  readonly tenant: Bytes;
  readonly user: Bytes;
  readonly device: Bytes;
  readonly policy: SignedPolicy;
  readonly escrowKey: SignedTenantKey;
  readonly consentHash: Bytes;
  readonly offlineKey?: SignedTenantKey | undefined;
}

/**
 * Put AK_g (32 bytes) into escrow: fresh halves, one for the HSM's key, one split among the policy's officers.
 *
 * terms hold only what was verified, so nothing unsigned decides who can read. What is built is opened once before it is
 * returned: a deposit that would fail its owner is never sent. Rejects with a RangeError on a key of another length (the
 * caller's mistake), Untrusted when policy or keys are of another tenant.
 */
export async function buildDeposit(
  archiveKey: SecretBytes,
  of: { generation: number; depositId: Bytes; terms: DepositTerms },
): Promise<Deposit> {
  if (archiveKey.length !== ARCHIVE_KEY_SIZE) throw new RangeError("an archive key has 32 bytes");
  const { terms, generation } = of, { policy } = terms.policy, escrow = terms.escrowKey.statement;
  const offline = terms.offlineKey?.statement;
  // Each was verified, but perhaps from another pin: a program that serves two tenants could mix them.
  for (const statement of [policy, escrow, offline])
    if (statement !== undefined && !equal(statement.header.tenant, terms.tenant))
      throw new Untrusted("policy or key of another tenant");
  if (escrow.key.kind !== KeyKind.RSA_3072) throw new TypeError("an escrow key is RSA-3072");
  const header: DepositHeader = {
    suite: terms.suite,
    tenant: terms.tenant,
    user: terms.user,
    device: terms.device,
    depositId: of.depositId,
    generation,
    akCommitment: archiveKeyCommitment(generation, archiveKey),
    escrowKeyHash: terms.escrowKey.hash,
    policyHash: terms.policy.hash,
    consentHash: terms.consentHash,
    m: policy.m,
    n: policy.roster.length,
    offlineKid: offline?.key.kid ?? EMPTY,
  };
  const ctx = sha256(headerToBytes(header));
  // Fresh for each deposit, both: nothing that opens one deposit helps with the next, also after a release.
  const half = new SecretBytes(randomBytes(HALF_SIZE)), officersHalf = new SecretBytes(randomBytes(HALF_SIZE));
  // r_h goes to the HSM and nowhere else, r_o is split and never sealed whole.
  const [dataKey, commit] = derive(ctx, half, officersHalf);
  const parts = split(officersHalf, { m: policy.m, n: policy.roster.length });
  const boxes: ShareBox[] = [];
  // By the roster's own order and index, so that who holds which share is in the policy and in no list of the server's.
  for (const { index, sealingKey } of policy.roster) {
    const share = parts.get(index) as SecretBytes;
    const sealed = await seal(share, sealingKey, shareInfo(ctx, index));
    boxes.push({ index, sealed, commitment: shareCommitment(ctx, index, share) });
  }
  const how = { hash: oaepHash(escrow.algorithm), label: oaepLabel(escrow.algorithm, ctx) };
  const built = new Deposit(
    header,
    commit,
    await encrypt(archiveKey, { key: dataKey, nonce: NONCE, aad: ctx }),
    await wrapRsa(escrow.key, half, how),
    boxes,
    offline === undefined ? EMPTY : await seal(half, offline.key, offlineInfo(ctx)),
  );
  // The last m and not the first: a fault in the highest points would otherwise show at the recovery only.
  await built.open(half, combine(new Map([...parts].slice(-policy.m))));
  return built;
}

/** Throw Malformed unless h_half is below the modulus of the escrow key, as every OAEP ciphertext is. */
export function requireHalfFor(deposit: Deposit, key: PublicKey): void {
  // The modulus stands in the one DER that such a key has.
  const modulus = key.raw.subarray(33, 33 + SEALED_HALF_SIZE);
  for (let at = 0; at < SEALED_HALF_SIZE; at++) {
    const apart = (deposit.sealedHalf[at] as number) - (modulus[at] as number);
    if (apart < 0) return;
    if (apart > 0) break;
  }
  throw new Malformed("deposit: the HSM's half is not sealed to the escrow key");
}
