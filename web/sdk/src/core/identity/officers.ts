// SPDX-License-Identifier: Apache-2.0
/**
 * A person's own word on which two keys are theirs as an officer, by the identity key of their account.
 *
 * docs/formats/statements.md (`officer`), docs/spec/escrow.md "Policy and officers". Does not make anybody an officer: a
 * policy does, and each row of its roster rests on such a statement.
 */
import { type Bytes, EMPTY, equal } from "../base/bytes.js";
import { Untrusted } from "../base/errors.js";
import { KeyKind, type PublicKey, SIGNING_KINDS } from "../crypto/public_keys.js";
import type { Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, openPayload, readBack, readKey, requireUser,
} from "../signed/payloads.js";

/** Which keys are a person's as an officer. */
export interface OfficerStatement {
  readonly header: Header;
  /** 16 bytes, the header's user. */
  readonly person: Bytes;
  /** Signs policies, approvals, resolutions. */
  readonly signingKey: PublicKey;
  /** The X-Wing key to which devices seal the person's shares. */
  readonly sealingKey: PublicKey;
  /** 32 bytes, the hash of the person's statement before this one; none in the first. */
  readonly predecessor: Bytes;
}

/** Return the payload bytes of an `officer` statement. Throws a RangeError for what no reader takes. */
export function officerToPayload(of: OfficerStatement): Bytes {
  const payload = closePayload(of.header, {
    7: of.person,
    8: of.signingKey.encoded,
    9: of.sealingKey.encoded,
    10: of.predecessor.length === 0 ? undefined : of.predecessor,
  });
  return readBack(payload, officerFromPayload);
}

/** Read the payload; throws Malformed, also when it is about another person than its user. */
export function officerFromPayload(payload: Uint8Array): OfficerStatement {
  const [header, fields] = openPayload(payload, "officer statement", [7, 8, 9], { optional: [10] });
  requireUser(header, "officer statement");
  const person = fields.octets(7, ID_SIZE);
  // Two fields, one person: who speaks of another's keys is refused before a key of theirs is even asked for.
  if (!equal(person, header.user)) throw fields.refuse(7, "is not the user whose account says it");
  return {
    header,
    person,
    signingKey: readKey(fields, 8, SIGNING_KINDS),
    sealingKey: readKey(fields, 9, KeyKind.X_WING),
    predecessor: fields.has(10) ? fields.octets(10, HASH_SIZE) : EMPTY,
  };
}

/**
 * Check that a person's account says it, and return what is said. aik: the identity key that their chain names now.
 *
 * By no former identity key: whoever has a device that was revoked still has that one, and would name keys of their own.
 * After a rotation the person's client states the same keys again. Rejects with Malformed, InvalidSignature; Untrusted for
 * the statement of another tenant or person.
 */
export async function verifyOfficerStatement(
  statement: Sign1,
  of: { aik: PublicKey; tenant: Bytes; user: Bytes },
): Promise<OfficerStatement> {
  const said = officerFromPayload(await statement.verify(of.aik, "officer"));
  if (!equal(said.header.tenant, of.tenant) || !equal(said.person, of.user))
    throw new Untrusted("officer statement of another person or tenant");
  return said;
}
