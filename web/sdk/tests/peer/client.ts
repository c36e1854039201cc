// SPDX-License-Identifier: Apache-2.0
/** The rooms of the client by the names of their Python twins below `holdfast.client`. */
import * as keyLog from "../../src/client/identity/key_log.js";
import * as maintenance from "../../src/client/maintenance.js";
import * as standing from "../../src/client/standing.js";
import * as doors from "../../src/client/vault/doors.js";
import * as exports from "../../src/client/vault/export.js";
import * as pairing from "../../src/client/vault/pairing.js";
import * as shareRequests from "../../src/client/vault/share_requests.js";
import * as trusted from "../../src/client/vault/trusted.js";
import * as vault from "../../src/client/vault/vault.js";
import * as vaultContents from "../../src/client/vault/vault_contents.js";

export const CLIENT: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  maintenance,
  standing,
  "identity.key_log": keyLog,
  "vault.doors": doors,
  "vault.export": exports,
  "vault.pairing": pairing,
  "vault.share_requests": shareRequests,
  "vault.trusted": trusted,
  "vault.vault": vault,
  "vault.vault_contents": vaultContents,
};
