// SPDX-License-Identifier: Apache-2.0
/** The rooms of the client by the names of their Python twins below `holdfast.client`. */
import { openAsBlob } from "node:fs";
import { writeFile } from "node:fs/promises";
import * as archive from "../../src/client/escrow/archive.js";
import * as deposits from "../../src/client/escrow/deposits.js";
import * as disclosures from "../../src/client/escrow/disclosures.js";
import * as escrow from "../../src/client/escrow/escrow.js";
import type { Target } from "../../src/client/escrow/whole_file.js";
import * as addresses from "../../src/client/identity/addresses.js";
import * as chains from "../../src/client/identity/chains.js";
import * as contacts from "../../src/client/identity/contacts.js";
import * as device from "../../src/client/identity/device.js";
import * as evidence from "../../src/client/identity/evidence.js";
import * as keyLog from "../../src/client/identity/key_log.js";
import * as lostChains from "../../src/client/identity/lost_chains.js";
import * as peers from "../../src/client/identity/peers.js";
import * as restored from "../../src/client/identity/restored.js";
import * as securityEvents from "../../src/client/identity/security_events.js";
import * as tenant from "../../src/client/identity/tenant.js";
import * as maintenance from "../../src/client/maintenance.js";
import * as bundles from "../../src/client/messages/bundles.js";
import * as inbox from "../../src/client/messages/inbox.js";
import * as letters from "../../src/client/messages/letters.js";
import * as messages from "../../src/client/messages/messages.js";
import * as outbox from "../../src/client/messages/outbox.js";
import * as prekeys from "../../src/client/messages/prekeys.js";
import * as renewals from "../../src/client/messages/renewals.js";
import * as reports from "../../src/client/messages/reports.js";
import * as sent from "../../src/client/messages/sent.js";
import * as settling from "../../src/client/messages/settling.js";
import * as unsent from "../../src/client/messages/unsent.js";
import type { Account } from "../../src/client/profile/account.js";
import * as byCase from "../../src/client/recovery/by_case.js";
import * as byDoor from "../../src/client/recovery/by_door.js";
import * as vetoes from "../../src/client/recovery/vetoes.js";
import * as rotation from "../../src/client/rotation/rotation.js";
import * as sessions from "../../src/client/sessions/sessions.js";
import * as standing from "../../src/client/standing.js";
import * as doors from "../../src/client/vault/doors.js";
import * as exports from "../../src/client/vault/export.js";
import * as pairing from "../../src/client/vault/pairing.js";
import * as shareRequests from "../../src/client/vault/share_requests.js";
import * as trusted from "../../src/client/vault/trusted.js";
import * as vault from "../../src/client/vault/vault.js";
import * as vaultContents from "../../src/client/vault/vault_contents.js";

/** Do what writes a file, which is at its path once it is whole. */
function into<T>(path: string, work: (target: Target) => Promise<T>): Promise<T> {
  const pieces: Uint8Array[] = [];
  const close = (): Promise<void> => writeFile(path, Buffer.concat(pieces), { flag: "wx" });
  return work(new WritableStream({ write: (piece) => void pieces.push(piece.slice()), close }));
}

// Python's tests name files by their paths.
const archiveByPath = {
  ...archive,
  encryptFile: async (account: Account, source: string, target: string) =>
    into(target, async (to) => archive.encryptFile(account, await openAsBlob(source), to)),
  decryptFile: async (account: Account, source: string, target: string) =>
    into(target, async (to) => archive.decryptFile(account, await openAsBlob(source), to)),
};
const disclosuresByPath = {
  ...disclosures,
  decryptFile: async (account: Account, caseId: Uint8Array<ArrayBuffer>, source: string, target: string) =>
    into(target, async (to) => disclosures.decryptFile(account, caseId, await openAsBlob(source), to)),
  writeFile: (account: Account, caseId: Uint8Array<ArrayBuffer>, target: string) =>
    into(target, (to) => disclosures.writeFile(account, caseId, to)),
};

export const CLIENT: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  maintenance,
  standing,
  "escrow.archive": archiveByPath,
  "escrow.deposits": deposits,
  "escrow.disclosures": disclosuresByPath,
  "escrow.escrow": escrow,
  "identity.addresses": addresses,
  "identity.chains": chains,
  "identity.contacts": contacts,
  "identity.device": device,
  "identity.evidence": evidence,
  "identity.key_log": keyLog,
  "identity.lost_chains": lostChains,
  "identity.peers": peers,
  "identity.restored": restored,
  "identity.security_events": securityEvents,
  "identity.tenant": tenant,
  "messages.bundles": bundles,
  "messages.inbox": inbox,
  "messages.letters": letters,
  "messages.messages": messages,
  "messages.outbox": outbox,
  "messages.prekeys": prekeys,
  "messages.renewals": renewals,
  "messages.reports": reports,
  "messages.sent": sent,
  "messages.settling": settling,
  "messages.unsent": unsent,
  "recovery.by_case": byCase,
  "recovery.by_door": byDoor,
  "recovery.vetoes": vetoes,
  "rotation.rotation": rotation,
  "sessions.sessions": sessions,
  "vault.doors": doors,
  "vault.export": exports,
  "vault.pairing": pairing,
  "vault.share_requests": shareRequests,
  "vault.trusted": trusted,
  "vault.vault": vault,
  "vault.vault_contents": vaultContents,
};
