// SPDX-License-Identifier: Apache-2.0
/**
 * What an app in the browser needs of Holdfast: `Client`, its refusals, and the types that its calls give back.
 *
 * `holdfast/core/*` and `holdfast/client/*` have the rest, module by module. What few pages need (Argon2, ML-KEM, the word
 * lists, recovery, the auditor) is in files of its own that are loaded when they are first asked for.
 */
export * from "./core/base/errors.js";
export { SecretBytes } from "./core/base/secret.js";
export { DEFAULT_SUITE, Suite } from "./core/crypto/suites.js";
export { Reason } from "./core/identity/entries.js";
export type { Bytes } from "./core/base/bytes.js";
export type { Language, Phrase } from "./core/crypto/phrase.js";
export type { LargeReference } from "./core/messages/content.js";

export * from "./client/errors.js";
export { Client, type Connection, DEFAULT_PROFILE, type EnrolOptions, Message } from "./client/client.js";
export type {
  Archive, Audit, Backup, Cases, Contacts, Devices, Disclosures, Escrow, Officers, Organisation, PairingAnswer,
  PairingOffer, Recover,
} from "./client/facets.js";
export type { VerificationReport } from "./client/auditor/auditor.js";
export type { Exported } from "./client/auditor/log.js";
export type { Disclosure } from "./client/escrow/disclosures.js";
export type { Status } from "./client/escrow/escrow.js";
export type { Found, Who } from "./client/identity/addresses.js";
export type { KnownContact } from "./client/identity/contacts.js";
export type { Enrolment, ListedDevice } from "./client/identity/device.js";
export type { Notice } from "./client/messages/letters.js";
export type { Report, ReportKind, Sent, Unconfirmed } from "./client/messages/messages.js";
export type { Keeping } from "./client/profile/keeping.js";
export { MemoryStore, type Store } from "./client/profile/store.js";
export type { OpenedDoor, Recovered } from "./client/recovery/by_door.js";
export type { CaseView } from "./client/officers/officer.js";
export type { CaseStatus, Collected, Finished, OpenedCase } from "./client/recovery/by_case.js";
export type { Progress, What } from "./client/rotation/rotation.js";
export type { Done, Outcome } from "./client/standing.js";
export type { Door } from "./client/vault/doors.js";
export type { Joined } from "./client/vault/pairing.js";
export type { Asked, OpenRequest, Pending } from "./client/vault/share_requests.js";
export type { HeldShare, TrustedSet } from "./client/vault/trusted.js";

/** Load the auditor's verification of an exported log: `verifyExport`. */
export const auditor = () => import("./client/auditor/auditor.js");
/** Load the app's own keys, kept to be used and never read out: `SecureKeyStorage`. */
export const keyStorage = () => import("./client/profile/key_storage.js");
/** Load the encrypting of large content for an app's own storage: `sealLarge` and `openLarge`. */
export const largeContent = () => import("./core/messages/content.js");
