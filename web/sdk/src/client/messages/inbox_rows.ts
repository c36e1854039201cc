// SPDX-License-Identifier: Apache-2.0
/**
 * The rows of a message on its way into the inbox: as the server handed it over, and as it was opened.
 *
 * docs/formats/messages.md, for the device's own encrypted store. Opens nothing and judges nothing; `inbox` does.
 */
import type { Bytes } from "../../core/base/bytes.js";
import { flag, layout, nestedOrNone, octets, openRow, sealRow, secret, spread, uint } from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { HASH_SIZE, sha256 } from "../../core/crypto/hashing.js";
import { KEY_SIZE } from "../../core/crypto/wrapping.js";
import { type LargeReference, MAX_LARGE } from "../../core/messages/content.js";
import { type Address, ADDRESS } from "../sessions/sessions.js";

const MAX_ROW = 2 * 1024 * 1024; // bytes: large content and its message, with room for the rest

/** One message as the server handed it over. Sender and times are its word only. */
export interface Envelope {
  readonly sender: Address;
  readonly toDevice: Bytes;
  readonly message: Bytes;
  readonly receivedAt: number;
  /** Large ciphertext, or none. */
  readonly content: Bytes;
  /** Whether the server says that there is large content, and did not give it. */
  readonly lacksContent: boolean;
}

const ENVELOPE = layout<Envelope>(
  "held message",
  {
    sender: spread(ADDRESS),
    toDevice: octets(16),
    message: octets(),
    receivedAt: uint(),
    content: octets(),
    lacksContent: flag(),
  },
  { rowSize: MAX_ROW },
);

/** What names these very bytes; each message has random ones, so that none comes twice by chance. */
export function hashOf(envelope: Envelope): Bytes {
  return sha256(envelope.message);
}

/** Return the bytes of an envelope, for the time until it can be opened. Throws RowTooLong. */
export function sealEnvelope(envelope: Envelope): SecretBytes {
  return sealRow(ENVELOPE, envelope);
}

/** Undo `sealEnvelope`. */
export function openEnvelope(kept: SecretBytes): Envelope {
  return openRow(ENVELOPE, kept);
}

/** One message in the inbox, as `messages.Received` shows it. */
export interface Kept {
  readonly receivedAt: number;
  readonly sender: Address;
  readonly messageId: Bytes;
  readonly sentAt: number;
  readonly conversation: Bytes;
  readonly isLastResort: boolean;
  readonly body: Bytes;
  readonly reference: LargeReference | undefined;
}

const REFERENCE = layout<LargeReference>("inbox reference", {
  key: secret(KEY_SIZE),
  hash: octets(HASH_SIZE),
  size: uint({ maximum: MAX_LARGE }),
});

const KEPT = layout<Kept>(
  "inbox",
  {
    receivedAt: uint(),
    sender: spread(ADDRESS),
    messageId: octets(16),
    sentAt: uint(),
    conversation: octets(16),
    isLastResort: flag(),
    body: octets(),
    reference: nestedOrNone(REFERENCE),
  },
  { rowSize: MAX_ROW },
);

/** Return the bytes of a message in the inbox. Throws RowTooLong. */
export function sealKept(kept: Kept): SecretBytes {
  return sealRow(KEPT, kept);
}

/** Undo `sealKept`. */
export function openKept(kept: SecretBytes): Kept {
  return openRow(KEPT, kept);
}
