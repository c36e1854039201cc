// SPDX-License-Identifier: Apache-2.0
/**
 * What this person's account states of their officer's keys, as the server shows it and their identity key bears it out.
 *
 * docs/spec/escrow.md "Policy and officers". Does not state anything: an officer does that in the Python client.
 */
import { equal } from "../../core/base/bytes.js";
import { HoldfastError } from "../../core/base/errors.js";
import { type OfficerStatement, verifyOfficerStatement } from "../../core/identity/officers.js";
import { Sign1 } from "../../core/signed/cose.js";
import { TrustRefused } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { OfficerPublicKeys } from "../profile/state.js";
import * as vault from "../vault/vault.js";

const PATH = "escrow/officer-statements";

/** A statement of this account, and the keys that it says. */
export interface StatedKeys {
  readonly statement: Sign1;
  readonly keys: OfficerPublicKeys;
  /** Signed by the identity key of now. */
  readonly isByAik: boolean;
}

/**
 * Return what this account last stated, under an identity key of now or before; undefined when the server shows nothing.
 *
 * Rejects with TrustRefused for a statement by no identity key of the account.
 */
export async function newestOwn(account: Account): Promise<StatedKeys | undefined> {
  const [row] = (await account.api.get(PATH, { query: { person: account.userText } })).many("statements");
  if (row === undefined) return undefined;
  let statement: Sign1, said: OfficerStatement, isByAik: boolean;
  try {
    statement = Sign1.parse(row.octets("statement"));
    const state = await vault.chainOf(account), { kid } = statement;
    const key = [state.aik, ...state.formerAiks].find((one) => equal(one.kid, kid)) ?? state.aik;
    said = await verifyOfficerStatement(statement, { aik: key, tenant: account.tenant, user: account.user });
    isByAik = key.equals(state.aik);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`A statement about your officer's keys is not to be trusted: ${error.message}.`, {
      wayOut: "Sign no policy. Tell the other officers: somebody has a device of yours, or the server lies.",
      cause: error,
    });
  }
  return { statement, keys: { signingKey: said.signingKey.encoded, sealingKey: said.sealingKey.encoded }, isByAik };
}
