// SPDX-License-Identifier: Apache-2.0
/**
 * Writing an account chain: one function for each type of entry, standing on a verified state.
 *
 * docs/formats/statements.md "Account chains" (signers and order). Does not verify what it writes; the caller extends its
 * state by the entry, as every verifier will. All reject with Malformed for an entry that no verifier would read.
 */
import { type Bytes, EMPTY } from "../base/bytes.js";
import type { PublicKey } from "../crypto/public_keys.js";
import type { Sign1, Signer } from "../signed/cose.js";
import type { Header } from "../signed/payloads.js";
import { type ChainState, headOf, seqOf } from "./chain.js";
import { type Body, Entry, type Reason } from "./entries.js";

/** Who writes: a device (16 bytes), UTC seconds, and the key that signs first (AIK, recovery key). */
export interface Author {
  readonly device: Bytes;
  readonly issuedAt: number;
  readonly key: Signer;
}

function headerOf(of: { tenant: Bytes; user: Bytes }, by: Author): Header {
  return { tenant: of.tenant, user: of.user, device: by.device, issuedAt: by.issuedAt, expiresAt: 0 };
}

function next(state: ChainState, by: Author, body: Body, ...also: readonly Signer[]): Promise<Entry> {
  return Entry.make(headerOf(state, by), seqOf(state) + 1, headOf(state), body, [by.key, ...also]);
}

/** Begin a chain under the author's key as AIK. */
export function genesis(of: { tenant: Bytes; user: Bytes; by: Author; recoveryKey?: PublicKey }): Promise<Entry> {
  // Signed by the key it names: nobody can begin an account under another's AIK.
  const body: Body = { type: 1, aik: of.by.key.public, recoveryKey: of.recoveryKey };
  return Entry.make(headerOf(of, of.by), 0, EMPTY, body, [of.by.key]);
}

/** Add a device by the payload hash of its device statement. */
export function addDevice(state: ChainState, of: { by: Author; device: Bytes; statementHash: Bytes }): Promise<Entry> {
  return next(state, of.by, { type: 2, device: of.device, statementHash: of.statementHash });
}

/** A device to be revoked, why, and since when (UTC seconds) its owner doubts it. */
export interface Revoked {
  readonly device: Bytes;
  readonly reason: Reason;
  readonly since: number;
}

/** Revoke a device and rotate the AIK that it knew: two entries for one upload, neither valid alone. */
export function revokeDevice(state: ChainState, of: Revoked & { by: Author; newAik: Signer }): Promise<Entry[]> {
  const { by, device, reason, since, newAik } = of;
  return revokeDevices(state, { by, devices: [{ device, reason, since }], reason, newAik });
}

/** Revoke several devices and rotate, for `reason`, the AIK that they knew: entries for one upload, none alone. */
export async function revokeDevices(
  state: ChainState,
  of: { by: Author; devices: readonly Revoked[]; reason: Reason; newAik: Signer },
): Promise<Entry[]> {
  const { by, reason, newAik } = of, header = headerOf(state, by), entries: Entry[] = [];
  let seq = seqOf(state), prev = headOf(state);
  // All by the old key, one upon the other: `seq` and `prev` count on here, since the state is that of before the upload.
  for (const { device, reason: why, since } of of.devices) {
    seq += 1;
    const entry = await Entry.make(header, seq, prev, { type: 3, device, reason: why, since }, [by.key]);
    entries.push(entry);
    prev = entry.hash;
  }
  // The rotation comes last: it must be newer than every revocation, and closes what the old key could still say.
  entries.push(await Entry.make(header, seq + 1, prev, { type: 4, aik: newAik.public, reason }, [by.key, newAik]));
  return entries;
}

/** Rotate the AIK, signed by the old one (or the recovery key) and by the new one. */
export function rotateKey(state: ChainState, of: { by: Author; newAik: Signer; reason: Reason }): Promise<Entry> {
  return next(state, of.by, { type: 4, aik: of.newAik.public, reason: of.reason }, of.newAik);
}

/**
 * Set the recovery key, at once when none is set or when the `old` one signs as well.
 *
 * Without `old`, it is announced; the same entry again after the seven days sets it. Naming the key that is set cancels
 * what is announced.
 */
export function setRecoveryKey(
  state: ChainState,
  of: { by: Author; recoveryKey: PublicKey; old?: Signer },
): Promise<Entry> {
  // The AIK stands first: the entry's hash is of the first signature, and a verifier looks for the AIK there.
  return next(state, of.by, { type: 5, recoveryKey: of.recoveryKey }, ...(of.old === undefined ? [] : [of.old]));
}

/** Announce an archive generation with the commitment to its key. */
export function archiveGeneration(
  state: ChainState,
  of: { by: Author; generation: number; notBefore: number; commitment: Bytes },
): Promise<Entry> {
  const { generation, notBefore, commitment } = of;
  return next(state, of.by, { type: 6, generation, notBefore, commitment });
}

/** Name the manifest of shares that trusted contacts hold. */
export function shareManifest(state: ChainState, of: { by: Author; manifestHash: Bytes }): Promise<Entry> {
  return next(state, of.by, { type: 7, manifestHash: of.manifestHash });
}

/** Begin again under the author's key as AIK, on the word of officers who name the state's head. */
export function reGenesis(
  state: ChainState,
  of: { by: Author; attestations: readonly Sign1[]; policyHash: Bytes },
): Promise<Entry> {
  const { by, attestations, policyHash } = of;
  return next(state, by, { type: 8, aik: by.key.public, attestations, policyHash });
}
