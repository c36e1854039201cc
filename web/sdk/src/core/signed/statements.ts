// SPDX-License-Identifier: Apache-2.0
/**
 * The payloads of signed statements: header and fields, to bytes and back (docs/formats/statements.md).
 *
 * Pre-keys, policies, cases and approvals are in `prekeys`, `policy` and `cases`. Does not check who signed: the caller
 * verifies first, then reads the payload here.
 */
import type { Bytes } from "../base/bytes.js";
import { KeyKind, type PublicKey } from "../crypto/public_keys.js";
import { agreementKind, signingKind, type Suite } from "../crypto/suites.js";
import type { Purpose, Sign1 } from "./cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, MAX_U32, openPayload, readBack, readKey, readSuite, requireDevice,
  requireTenantOnly, requireUser,
} from "./payloads.js";

/** Characters. A device writes its own name and others are shown it: this keeps it to one line. */
export const MAX_NAME = 64;

/** A device binds its three keys and its suite, signed by its own signing key to prove possession. */
export interface DeviceStatement {
  readonly header: Header;
  readonly suite: Suite;
  readonly signingKey: PublicKey;
  readonly agreementKey: PublicKey;
  readonly sealingKey: PublicKey;
  /** 16 bytes. */
  readonly person: Bytes;
  readonly name: string;
  /** 32 bytes; none for a device that an existing one adds without a code. */
  readonly enrolmentHash: Bytes;
}

/** Return the payload bytes of a `device` statement. Throws a RangeError for what no reader takes. */
export function deviceToPayload(of: DeviceStatement): Bytes {
  const payload = closePayload(of.header, {
    7: of.suite,
    8: of.signingKey.encoded,
    9: of.agreementKey.encoded,
    10: of.sealingKey.encoded,
    11: of.person,
    12: of.name,
    13: of.enrolmentHash,
  });
  return readBack(payload, deviceFromPayload);
}

/** Read the payload; throws Malformed, also for keys of another suite. */
export function deviceFromPayload(payload: Uint8Array): DeviceStatement {
  const [header, fields] = openPayload(payload, "device statement", [7, 8, 9, 10, 11, 12, 13]);
  requireDevice(header, "device statement");
  // The suite is read first, as it decides which kinds of key the next fields may hold: nothing is mixed.
  const suite = readSuite(fields, 7);
  return {
    header,
    suite,
    signingKey: readKey(fields, 8, signingKind(suite)),
    agreementKey: readKey(fields, 9, agreementKind(suite)),
    // One kind in every suite: sealing is HPKE with X-Wing throughout.
    sealingKey: readKey(fields, 10, KeyKind.X_WING),
    person: fields.octets(11, ID_SIZE),
    name: fields.text(12, { maximum: MAX_NAME }),
    enrolmentHash: fields.octets(13, [0, HASH_SIZE]),
  };
}

/**
 * Read a device statement and check its own key's signature. Rejects with Malformed or InvalidSignature.
 *
 * The key stands inside the payload, so this one payload is read before it is verified. What it proves is possession;
 * that the device is the user's, only their account chain says.
 */
export async function openDevice(statement: Sign1): Promise<DeviceStatement> {
  const device = deviceFromPayload(statement.payload);
  await statement.verify(device.signingKey, "device");
  return device;
}

/** Field 7 of a `sync` statement. What lies on the server is signed by the AIK, letters by the device's ISK. */
export const SyncKind = { VAULT: 1, DEVICE_DOOR: 2, DEVICE_TO_DEVICE: 3, OFFICERS: 4 } as const;
export type SyncKind = (typeof SyncKind)[keyof typeof SyncKind];

/** A blob in its version, so that a server can neither swap nor roll it back unseen. */
export interface Sync {
  readonly header: Header;
  readonly kind: SyncKind;
  readonly blobHash: Bytes;
  readonly version: number;
}

/** Return the payload bytes of a `sync` statement. */
export function syncToPayload(of: Sync): Bytes {
  return readBack(closePayload(of.header, { 7: of.kind, 8: of.blobHash, 9: of.version }), syncFromPayload);
}

/** Read the payload; throws Malformed. */
export function syncFromPayload(payload: Uint8Array): Sync {
  const [header, fields] = openPayload(payload, "sync statement", [7, 8, 9]);
  requireUser(header, "sync statement");
  // Signed, so a letter between devices cannot be shown as the vault, which another key signs.
  const kind = fields.uint(7, { minimum: SyncKind.VAULT, maximum: SyncKind.OFFICERS }) as SyncKind;
  return { header, kind, blobHash: fields.octets(8, HASH_SIZE), version: fields.uint(9) };
}

/** A user's answer to one policy and one wording, signed by their AIK. */
export interface Consent {
  readonly header: Header;
  readonly policyHash: Bytes;
  readonly textHash: Bytes;
  readonly agreed: boolean;
}

/** Return the payload bytes of a `consent`. */
export function consentToPayload(of: Consent): Bytes {
  const fields = { 7: of.policyHash, 8: of.textHash, 9: Number(of.agreed) };
  return readBack(closePayload(of.header, fields), consentFromPayload);
}

/** Read the payload; throws Malformed. */
export function consentFromPayload(payload: Uint8Array): Consent {
  const [header, fields] = openPayload(payload, "consent", [7, 8, 9]);
  requireUser(header, "consent");
  return {
    header,
    policyHash: fields.octets(7, HASH_SIZE),
    textHash: fields.octets(8, HASH_SIZE),
    // A no is signed as a yes is: the server can neither turn one into the other nor say that none was given.
    agreed: fields.flag(9),
  };
}

/** Tell whether an answer is later than another. Of two of one second, it is the no. */
export function isLaterConsent(one: Consent, other: Consent): boolean {
  const apart = one.header.issuedAt - other.header.issuedAt;
  return apart > 0 || (apart === 0 && !one.agreed && other.agreed);
}

/** A key of the tenant's: `escrow-key` (RSA-3072, in the HSM) or `offline-key` (X-Wing, in paper shares). */
export interface TenantKey {
  readonly purpose: "escrow-key" | "offline-key";
  readonly header: Header;
  readonly key: PublicKey;
  readonly version: number;
  readonly algorithm: string;
  /** 32 bytes; none for the first version. */
  readonly predecessor: Bytes;
  readonly policyHash: Bytes;
}

const TENANT_KEYS = {
  // SHA-1 is for development tenants; a text outside the list is refused here, before anybody asks the pin. With -ctx, a
  // half is sealed under the label ctx, so that it opens in its own deposit alone.
  "escrow-key": {
    kind: KeyKind.RSA_3072,
    algorithms: ["oaep-sha256", "oaep-sha1", "oaep-sha256-ctx", "oaep-sha1-ctx"],
  },
  "offline-key": { kind: KeyKind.X_WING, algorithms: ["x-wing"] },
} as const satisfies Partial<Record<Purpose, unknown>>;

/** Return the payload bytes of a tenant's key. */
export function tenantKeyToPayload(of: TenantKey): Bytes {
  const payload = closePayload(of.header, {
    7: of.key.encoded,
    8: of.version,
    9: of.algorithm,
    10: of.predecessor,
    11: of.policyHash,
  });
  return readBack(payload, (written) => tenantKeyFromPayload(written, of.purpose));
}

/** Read the payload; throws Malformed. Whether oaep-sha1 is taken is the pin's rule. */
export function tenantKeyFromPayload(payload: Uint8Array, purpose: TenantKey["purpose"]): TenantKey {
  const [header, fields] = openPayload(payload, `${purpose} statement`, [7, 8, 9, 10, 11]);
  // Before the fields: a user's statement is none of the tenant's, whatever key has signed it.
  requireTenantOnly(header, `${purpose} statement`);
  const { kind, algorithms } = TENANT_KEYS[purpose];
  const version = fields.uint(8, { minimum: 1, maximum: MAX_U32 });
  const algorithm = fields.text(9, { maximum: 16 });
  if (!(algorithms as readonly string[]).includes(algorithm)) throw fields.refuse(9, "is not a known algorithm");
  // The first version has no predecessor and every later one names exactly one.
  const predecessor = fields.octets(10, version > 1 ? HASH_SIZE : 0);
  const key = readKey(fields, 7, kind);
  return { purpose, header, key, version, algorithm, predecessor, policyHash: fields.octets(11, HASH_SIZE) };
}

/** A device deposits one record. The record itself is read by `deposit`. */
export interface DepositStatement {
  readonly header: Header;
  readonly recordHash: Bytes;
}

/** Return the payload bytes: field 7 is SHA-256 of the record. */
export function depositToPayload(of: DepositStatement): Bytes {
  return readBack(closePayload(of.header, { 7: of.recordHash }), depositFromPayload);
}

/** Read the payload; throws Malformed. */
export function depositFromPayload(payload: Uint8Array): DepositStatement {
  const [header, fields] = openPayload(payload, "deposit statement", [7]);
  requireDevice(header, "deposit statement");
  return { header, recordHash: fields.octets(7, HASH_SIZE) };
}

/** A device vouches for an archive record, or for an export file: its hash and its kind. */
export interface BlobStatement {
  readonly purpose: "archive" | "export";
  readonly header: Header;
  readonly blobHash: Bytes;
  readonly kind: number;
}

/** Return the payload bytes of an `archive` or `export` statement. */
export function blobToPayload(of: BlobStatement): Bytes {
  const payload = closePayload(of.header, { 7: of.blobHash, 8: of.kind });
  return readBack(payload, (written) => blobFromPayload(written, of.purpose));
}

/** Read the payload; throws Malformed. */
export function blobFromPayload(payload: Uint8Array, purpose: BlobStatement["purpose"]): BlobStatement {
  const [header, fields] = openPayload(payload, `${purpose} statement`, [7, 8]);
  requireDevice(header, `${purpose} statement`);
  return { purpose, header, blobHash: fields.octets(7, HASH_SIZE), kind: fields.uint(8, { maximum: 255 }) };
}
