// SPDX-License-Identifier: Apache-2.0
/**
 * The signed heads of the tenant's two logs as one profile holds them: whose signature they bear, which one is kept.
 *
 * docs/formats/key-log.md, for whoever follows a log by its heads. Asks nobody, and compares nothing: `key_log` does for
 * the log of keys, `restored` where a backup was put back.
 */
import { lengthOf } from "../../core/base/bytes.js";
import { HoldfastError, InvalidSignature, Malformed } from "../../core/base/errors.js";
import { uuidText } from "../../core/base/uuids.js";
import { type Checkpoint, LogVerifier } from "../../core/log/checkpoint.js";
import { keysVerifier } from "../../core/log/key_log.js";
import { logOrigin } from "../../core/log/log_entry.js";
import { Role } from "../../core/log/writers.js";
import { damaged, TrustRefused } from "../errors.js";
import type { Account } from "../profile/account.js";

/** Characters: a head is 300 bytes, with room for a dozen witnesses. */
export const MAX_NOTE = 4096;
/** The tenant's two logs, by the last part of their names. */
export type Log = "keys" | "audit";
export const LOGS: readonly Log[] = ["keys", "audit"];

/** Return the verifier of one of the tenant's logs, or undefined when this profile has no log key pinned. */
export function verifier(account: Account, log: Log = "keys"): LogVerifier | undefined {
  let known: LogVerifier | undefined;
  try {
    // Both logs are signed by one key; either name pins it.
    known = keysVerifier(account.state.trust.logKeys, account.tenant);
  } catch (error) {
    if (error instanceof Malformed) throw damaged("its pinned log key is none");
    throw error;
  }
  return known && new LogVerifier(logOrigin(uuidText(account.tenant), log), known.keys);
}

/** Return the verifier of heads from earlier, which a key may have signed that has ended since. */
export async function ofAnyDay(account: Account, known: LogVerifier): Promise<LogVerifier> {
  const signed = await account.roles();
  return signed ? new LogVerifier(known.name, [...known.keys, ...signed.roles.allOf(Role.LOG)]) : known;
}

/** Return the newest head of a log that this client has accepted, verified again as it is read. */
export async function kept(account: Account, known: LogVerifier): Promise<Checkpoint | undefined> {
  const note = account.state.trust.checkpoints.get(known.name);
  if (note === undefined) return undefined;
  try {
    return await (await ofAnyDay(account, known)).openCheckpoint(note);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The log head kept in this profile does not hold: ${error.message}.`, { cause: error });
  }
}

/** Return the note of the newest head of a log that this client has accepted; "" for none. */
export function own(account: Account, log: Log = "keys"): string {
  const known = verifier(account, log);
  return (known && account.state.trust.checkpoints.get(known.name)) ?? "";
}

/** Keep a head that was held to the one kept before, in its place. */
export async function keep(account: Account, known: LogVerifier, note: string): Promise<void> {
  account.state.trust.checkpoints.set(known.name, note);
  await account.save();
}

/**
 * Return the head in a note that a key of this log has signed, today's or one that has ended; undefined for any other.
 *
 * Undefined without a log key as well: nothing can be told of any head then.
 */
export async function read(
  account: Account,
  known: LogVerifier | undefined,
  text: string,
): Promise<Checkpoint | undefined> {
  if (known === undefined || lengthOf(text) > MAX_NOTE) return undefined;
  try {
    return await (await ofAnyDay(account, known)).openCheckpoint(text);
  } catch (error) {
    if (error instanceof Malformed || error instanceof InvalidSignature) return undefined;
    throw error;
  }
}
