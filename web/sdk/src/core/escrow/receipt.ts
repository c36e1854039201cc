// SPDX-License-Identifier: Apache-2.0
/**
 * The release process's word that a deposit's half is that deposit's own: without it, a deposit does not count.
 *
 * docs/formats/statements.md (`receipt`), docs/spec/escrow.md "Deposit". The web process sees a record before it is stored
 * and could have another's half put into a deposit of its own first; whoever was first in the log has the receipt.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Untrusted } from "../base/errors.js";
import type { Policy } from "../identity/policy.js";
import { MAX_SIZE } from "../log/merkle.js";
import type { Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, openPayload, readBack, requireTenantOnly,
} from "../signed/payloads.js";
import type { Deposit } from "./deposit.js";

/** One deposit whose log entry is the first with its half. Hashes are SHA-256; index: of the entry. */
export interface Receipt {
  readonly header: Header;
  readonly depositId: Bytes;
  readonly recordHash: Bytes;
  readonly halfHash: Bytes;
  readonly index: number;
}

/** Return the payload bytes of a `receipt`: fields 7 to 10. Throws a RangeError for what no reader takes. */
export function receiptToPayload(of: Receipt): Bytes {
  const fields = { 7: of.depositId, 8: of.recordHash, 9: of.halfHash, 10: of.index };
  return readBack(closePayload(of.header, fields), receiptFromPayload);
}

/** Read the payload; throws Malformed. */
export function receiptFromPayload(payload: Uint8Array): Receipt {
  const [header, fields] = openPayload(payload, "receipt", [7, 8, 9, 10]);
  requireTenantOnly(header, "receipt");
  return {
    header,
    depositId: fields.octets(7, ID_SIZE),
    recordHash: fields.octets(8, HASH_SIZE),
    halfHash: fields.octets(9, HASH_SIZE),
    index: fields.uint(10, { maximum: MAX_SIZE }),
  };
}

/**
 * Check the receipt of a deposit made under `policy`, by the release key that this policy names.
 *
 * recordHash: of the record that `deposit` was read from, 32 bytes. Rejects with InvalidSignature, Malformed; Untrusted for
 * one of another tenant, deposit, record or half.
 */
export async function verifyReceipt(
  statement: Sign1,
  deposit: Deposit,
  of: { policy: Policy; recordHash: Bytes },
): Promise<Receipt> {
  const receipt = receiptFromPayload(await statement.verify(of.policy.terms.releaseSigningKey, "receipt"));
  const { tenant, depositId } = deposit.header;
  if (!equal(receipt.header.tenant, tenant) || !equal(receipt.depositId, depositId))
    throw new Untrusted("the receipt is of another tenant or deposit");
  // The half above all: a receipt for another half in this deposit's name is what a liar would show.
  if (!equal(receipt.recordHash, of.recordHash) || !equal(receipt.halfHash, deposit.halfHash))
    throw new Untrusted("the receipt is for another record or another half");
  return receipt;
}
