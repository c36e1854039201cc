// SPDX-License-Identifier: Apache-2.0
/**
 * Fetching the audit log: downloaded whole, verified at once, and its head kept for the next time.
 *
 * docs/spec/protocol.md section 8 for a client that keeps the last checkpoint and demands consistency. Does not verify by
 * itself: `auditor` does, here and on any machine without a server.
 */
import { uuidText } from "../../core/base/uuids.js";
import { rootVerifier } from "../../core/identity/roles.js";
import { logOrigin } from "../../core/log/log_entry.js";
import { Problem, RESTORED, ServerRestored, TrustRefused } from "../errors.js";
import * as restored from "../identity/restored.js";
import * as tenant from "../identity/tenant.js";
import { type Account, rootKeyOf } from "../profile/account.js";
import { checkpointOf, Verdict, type VerificationReport, verifyExport } from "./auditor.js";
import { Begun, fetch, type Tell } from "./fetching.js";

/** docs/problems.md: a log that one answer does not take. */
export const TOO_LONG = "log-too-long";
/** Bytes: ten million entries of 400. */
export const MAX_EXPORT = 4 * 1024 ** 3;

/** Which of a tenant's two logs. */
export type Log = "audit" | "keys";

/** A log that was fetched, and what its verification said. */
export interface Exported {
  readonly file: Blob;
  readonly report: VerificationReport;
}

/** The log does not hold. The file is evidence: keep it. */
export class LogRefused extends TrustRefused {
  override get name(): string {
    return "LogRefused";
  }

  constructor(
    message: string,
    readonly file: Blob,
  ) {
    super(message, { wayOut: "Keep the error's `file`: it is evidence. Verify it again with: verifyExport(file)" });
  }
}

/**
 * Return the whole log as a file, held to the tenant root pinned here and to the head seen last.
 *
 * A long one is made by the server in the background and fetched piece by piece: when it broke off, a call with the same
 * `begun` goes on with it. Of a server older than role keys, it is held to the log key of the code. Under a root that was
 * taken on first use the result is NOT_ANCHORED. Rejects with LogRefused when it does not hold or does not extend what was
 * seen, and ServerRestored.
 */
export async function exportLog(
  account: Account,
  { log = "audit", tell = () => undefined, begun = new Begun() }: { log?: Log; tell?: Tell; begun?: Begun } = {},
): Promise<Exported> {
  await tenant.followLogKeys(account);
  const file = await download(account, { log, tell, begun });
  const { trust } = account.state, roles = await account.roles(), origin = logOrigin(uuidText(account.tenant), log);
  const seen = trust.checkpoints.get(origin) ?? "";
  const key = roles === undefined ? trust.logKeys.find((one) => one.startsWith(`${origin}+`)) : rootKey(account);
  let report = await verifyExport(file, { trust: key, saved: seen === "" ? [] : [seen], seen: roles });
  if (report.verdict === Verdict.BROKEN && seen !== "")
    report = await asAccepted(account, file, { key, broken: report, log, seen });
  if (report.verdict === Verdict.BROKEN) throw new LogRefused(`The log does not hold: ${report.reason}.`, file);
  if (report.origin !== origin) throw new LogRefused(`The server sent another log than ${origin}.`, file);
  trust.checkpoints.set(origin, await checkpointOf(file));
  await account.save();
  return { file, report };
}

async function download(account: Account, of: { log: Log; tell: Tell; begun: Begun }): Promise<Blob> {
  if (of.begun.exportId === "")
    try {
      const parts: Blob[] = [];
      for await (const piece of account.api.download(`audit/export?log=${of.log}`, { maximum: MAX_EXPORT }))
        parts.push(new Blob([piece])); // kept on the browser's disk
      return new Blob(parts);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== TOO_LONG) throw error;
    }
  return fetch(account, { ...of, maximum: MAX_EXPORT });
}

/**
 * Verify an export again that does not extend the head seen last, from what officers accepted of a backup on.
 *
 * Returns the report there was where they accepted nothing that explains it. Rejects with ServerRestored where the head is
 * all that is wrong: the server is shown it then.
 */
async function asAccepted(
  account: Account,
  file: Blob,
  { key, broken, log, seen }: { key: string | undefined; broken: VerificationReport; log: Log; seen: string },
): Promise<VerificationReport> {
  const roles = await account.roles();
  if (await restored.look(account, log)) {
    const newest = (await restored.taken(account, log))[0] as restored.Taken;
    return verifyExport(file, { trust: key, seen: roles, past: [newest.size, newest.root] });
  }
  if ((await verifyExport(file, { trust: key, seen: roles })).verdict === Verdict.BROKEN) return broken;
  await restored.tell(account, seen);
  throw new ServerRestored(`The log is not the one that this profile has seen: ${broken.reason}.`, { wayOut: RESTORED });
}

/**
 * Return the tenant root's key as this profile is pinned to it, in the form for `trust`.
 *
 * Undefined where nothing is pinned, or the root was taken from the server on first use and so anchors nothing.
 */
export function rootKey(account: Account): string | undefined {
  const { trust } = account.state;
  if (trust.rootKey.length === 0 || trust.isTofu) return undefined;
  return rootVerifier(account.tenant, rootKeyOf(trust.rootKey)).toText();
}
