// SPDX-License-Identifier: Apache-2.0
/** The rooms of the client by the names of their Python twins below `holdfast.client`. */
import * as inbox from "../../src/client/messages/inbox.js";
import * as letters from "../../src/client/messages/letters.js";
import * as messages from "../../src/client/messages/messages.js";
import * as prekeys from "../../src/client/messages/prekeys.js";
import * as renewals from "../../src/client/messages/renewals.js";
import * as reports from "../../src/client/messages/reports.js";
import * as sent from "../../src/client/messages/sent.js";
import * as settling from "../../src/client/messages/settling.js";
import * as unsent from "../../src/client/messages/unsent.js";
import * as doors from "../../src/client/vault/doors.js";
import * as exports from "../../src/client/vault/export.js";
import * as pairing from "../../src/client/vault/pairing.js";
import * as shareRequests from "../../src/client/vault/share_requests.js";
import * as trusted from "../../src/client/vault/trusted.js";
import * as vault from "../../src/client/vault/vault.js";
import * as vaultContents from "../../src/client/vault/vault_contents.js";

export const CLIENT: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "messages.inbox": inbox,
  "messages.letters": letters,
  "messages.messages": messages,
  "messages.prekeys": prekeys,
  "messages.renewals": renewals,
  "messages.reports": reports,
  "messages.sent": sent,
  "messages.settling": settling,
  "messages.unsent": unsent,
  "vault.doors": doors,
  "vault.export": exports,
  "vault.pairing": pairing,
  "vault.share_requests": shareRequests,
  "vault.trusted": trusted,
  "vault.vault": vault,
  "vault.vault_contents": vaultContents,
};
