// SPDX-License-Identifier: Apache-2.0
/**
 * What a server that was put back from a backup lacks of an account chain, given back to it; and a device it forgot.
 *
 * docs/formats/key-log.md "After a restored backup", on the device. Only where m officers accepted the backup (`restored`).
 * Believes nothing: what the server shows afterwards is verified as ever, and nothing pinned is let go.
 */
import { type Bytes, equal } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { uuidText } from "../../core/base/uuids.js";
import { Problem, RESTORED, ServerRestored } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { Document } from "../server/transport.js";
import * as keyLog from "./key_log.js";
import * as restored from "./restored.js";

const NOTHING = "nothing-restored"; // the problem code of a server that says that it lost nothing
const MOST = 1_000; // entries that a server takes at once

/** The server shows a beginning of a chain that this device knows more of. */
export class ChainBehind extends ServerRestored {
  override get name(): string {
    return "ChainBehind";
  }

  /** has: so many entries. */
  constructor(readonly has: number, { cause }: { readonly cause?: unknown } = {}) {
    const said = "The server shows fewer entries of an account chain than it has shown before.";
    super(said, { wayOut: RESTORED, cause });
  }
}

/**
 * Give back what the server lacks of a chain; returns whether it took any of it.
 *
 * entries: verified, from the genesis on; has: so many of them it shows. Of somebody else's chain, and of what counts by
 * its date, only what the lost key log is proven to have had. Without an acceptance nothing is given: the server is shown
 * the newest head that it has signed instead, by which it finds out. Rejects with Problem.
 */
export async function offer(account: Account, user: Bytes, entries: readonly Bytes[], has: number): Promise<boolean> {
  if (!(await restored.isHealing(account)) && !((await restored.look(account)) && (await restored.isHealing(account)))) {
    await restored.tell(account, keyLog.ownCheckpoint(account));
    return false;
  }
  let took = 0, shown = has;
  const proven = await keyLog.findProof(account, user);
  if (proven !== undefined && shown <= proven.seq && proven.seq < entries.length) {
    const given = entries.slice(shown, proven.seq + 1).slice(-MOST);
    took += await give(account, user, { ...documentOf(given), proof: keyLog.proofDocument(proven) });
    shown = proven.seq + 1;
  }
  // What was appended in the last minute is in no signed head: of that an owner's own word is taken.
  if (equal(user, account.user) && shown < entries.length)
    took += await give(account, user, documentOf(entries.slice(shown)));
  return took > 0;
}

/**
 * Bring this very device back to a server that lost it; returns whether it did. Nothing is signed by the request.
 *
 * Its chain lists it, and the key log that was lost had the chain. False where the server lost nothing, or that is not kept
 * here: the device enrols again. Rejects with Problem for whatever the server refuses otherwise.
 */
export async function comeBack(account: Account): Promise<boolean> {
  const proven = await keyLog.findProof(account, account.user);
  if (proven === undefined || !account.device.isActive || proven.seq >= account.state.chain.length) return false;
  const document = {
    tenant_id: uuidText(account.tenant),
    device_statement: b64u(account.device.statement),
    ...documentOf(account.state.chain.slice(0, proven.seq + 1).slice(-MOST)),
    proof: keyLog.proofDocument(proven),
  };
  account.api.credential = undefined;
  try {
    const answer = await account.api.post("devices/restored", document);
    return equal(answer.identifier("device_id"), account.device.id);
  } catch (error) {
    if (error instanceof Problem && error.code === NOTHING) return false;
    throw error;
  } finally {
    await account.signAsDevice();
  }
}

function documentOf(entries: readonly Bytes[]): Document {
  return { entries: entries.map(b64u) };
}

async function give(account: Account, user: Bytes, document: Document): Promise<number> {
  try {
    return (await account.api.post(`users/${uuidText(user)}/chain/restored`, document)).number("taken");
  } catch (error) {
    // What was accepted here may be older than what the server still takes back.
    if (error instanceof Problem && error.code === NOTHING) return 0;
    throw error;
  }
}
