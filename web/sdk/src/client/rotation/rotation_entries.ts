// SPDX-License-Identifier: Apache-2.0
/**
 * The chain entries of one rotation: the new signed with the old, on a head that may move before they are taken.
 *
 * docs/spec/protocol.md section 5 (revocation and rotation in one upload, a new archive generation). Uploads nothing and
 * keeps nothing; made again on another head, they name the same keys.
 */
import { hex } from "../../core/base/bytes.js";
import { SigningKey } from "../../core/crypto/keys.js";
import { signingKind } from "../../core/crypto/suites.js";
import { archiveKeyCommitment } from "../../core/escrow/deposit.js";
import { type ChainState, extend } from "../../core/identity/chain.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import type { Author, Revoked } from "../../core/identity/chain_author.js";
import { type Entry, Reason } from "../../core/identity/entries.js";
import { Sign1 } from "../../core/signed/cose.js";
import type { Account } from "../profile/account.js";
import { Part, type Rotation } from "./rotation_record.js";

/** Return what the rotation appends to the chain at `state`, signed by the identity key of now. */
export async function signedEntries(account: Account, rotation: Rotation, state: ChainState): Promise<Entry[]> {
  const entries: Entry[] = [];
  let reached = state, author: Author = await account.author(state);
  if (rotation.device !== undefined) {
    const { id, statement } = rotation.device, statementHash = Sign1.parse(statement).payloadHash;
    entries.push(await chainAuthor.addDevice(state, { by: author, device: id, statementHash }));
    reached = await extend(reached, entries);
  }
  if (rotation.parts & Part.IDENTITY) {
    const key = await SigningKey.fromSeed(signingKind(account.deviceStatement.suite), rotation.identity);
    const fresh = await newIdentity(account, rotation, reached, author, key);
    entries.push(...fresh);
    reached = await extend(reached, fresh);
    author = { ...author, key };
  }
  if (rotation.parts & Part.ARCHIVE) entries.push(await generationOf(rotation, reached, author));
  return entries;
}

async function newIdentity(
  account: Account,
  rotation: Rotation,
  state: ChainState,
  author: Author,
  key: SigningKey,
): Promise<Entry[]> {
  const { reason, since } = rotation;
  // Another own device may have revoked one of them meanwhile: that is what was wanted.
  const gone: Revoked[] = rotation.revoke
    .filter((device) => state.devices.has(hex(device)))
    .map((device) => ({ device, reason, since }));
  if (rotation.device !== undefined)
    gone.push({ device: account.device.id, reason: Reason.DEVICE_RETIRED, since: author.issuedAt });
  if (gone.length > 0) return chainAuthor.revokeDevices(state, { by: author, devices: gone, reason, newAik: key });
  return [await chainAuthor.rotateKey(state, { by: author, newAik: key, reason })];
}

function generationOf(rotation: Rotation, state: ChainState, author: Author): Promise<Entry> {
  const last = state.generations.at(-1), generation = (last?.generation ?? 0) + 1;
  return chainAuthor.archiveGeneration(state, {
    by: author,
    generation,
    notBefore: Math.max(author.issuedAt, last?.notBefore ?? 0),
    commitment: archiveKeyCommitment(generation, rotation.archiveKey),
  });
}
