// SPDX-License-Identifier: Apache-2.0
/**
 * One rotation as it is kept between its steps: what was asked, the keys on both sides of it, how far it is.
 *
 * docs/formats/rotation.md. Does nothing by itself; `rotation` takes the steps.
 */
import { type Bytes, EMPTY } from "../../core/base/bytes.js";
import {
  at, choice, flag, flags, layout, nested, nestedMap, octets, openMap, optionalAt, sealMap, secret, several, uint,
} from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { Reason } from "../../core/identity/entries.js";
import { HASH_SIZE, ID_SIZE } from "../../core/signed/payloads.js";
import { DEVICE, type Device, noVaultKey, VAULT_KEY, type VaultKey } from "../profile/state.js";
import type { Store } from "../profile/store.js";

/** Rows: rotations, by their ids. */
export const KIND = "rotation";
const VERSION = 1; // docs/formats/rotation.md

/** What a rotation replaces: a union of these. */
export const Part = { IDENTITY: 1, DEVICE: 2, VAULT: 4, ARCHIVE: 8 } as const;

/** The step that is next. docs/spec/protocol.md section 5, in its order. */
export const Step = {
  GENERATE: 1,
  SIGN: 2,
  UPLOAD: 3,
  NOTIFY: 4,
  RE_ESTABLISH: 5,
  ARCHIVE: 6,
  DESTROY: 7,
} as const;
export type Step = (typeof Step)[keyof typeof Step];

/** What is asked, and all that the steps made. */
export interface Rotation {
  readonly version: number;
  /** 16 bytes. */
  readonly id: Bytes;
  /** A union of `Part`. */
  readonly parts: number;
  readonly reason: Reason;
  /** Devices (16 bytes each). */
  readonly revoke: Bytes[];
  /** From when they are doubted, in UTC seconds. */
  readonly since: number;
  readonly startedAt: number;
  step: Step;
  // The new keys, empty when not asked for or no longer needed.
  identity: SecretBytes;
  device: Device | undefined;
  vault: VaultKey;
  archiveKey: SecretBytes;
  /** The signed chain entries, on `head`. */
  entries: Bytes[];
  head: Bytes;
  /** They are in the chain and this device lives by them. */
  isAccepted: boolean;
  // What the new keys replace.
  oldIdentity: SecretBytes;
  oldDevice: Bytes;
  oldVault: VaultKey;
  unreached: Bytes[];
  destroyAt: number;
}

const ROTATION = layout<Rotation>("rotation", {
  id: at(2, octets(ID_SIZE)),
  parts: at(3, flags(Part)),
  reason: at(4, choice(Reason, "Reason")),
  revoke: at(5, several(octets(ID_SIZE))),
  since: at(6, uint()),
  startedAt: at(7, uint()),
  step: at(8, choice(Step, "Step")),
  identity: at(9, secret([0, 32])),
  device: optionalAt(10, nestedMap({ ...DEVICE, name: "new device" })),
  vault: at(11, nested({ ...VAULT_KEY, name: "new vault key" })),
  archiveKey: at(12, secret([0, 32])),
  entries: at(13, several(octets())),
  head: at(14, octets([0, HASH_SIZE])),
  isAccepted: at(15, flag()),
  oldIdentity: at(16, secret([0, 32])),
  oldDevice: at(17, octets([0, ID_SIZE])),
  oldVault: at(18, nested({ ...VAULT_KEY, name: "old vault key" })),
  unreached: at(19, several(octets(ID_SIZE))),
  destroyAt: at(20, uint()),
  version: at(1, uint({ minimum: VERSION, maximum: VERSION })),
});

/** What is asked of a rotation. */
export type Asked = Pick<Rotation, "id" | "parts" | "reason" | "revoke" | "since" | "startedAt">;

/** Return a rotation of which nothing was done yet. */
export function newRotation(asked: Asked): Rotation {
  const nothing = new SecretBytes(EMPTY);
  return {
    version: VERSION,
    ...asked,
    step: Step.GENERATE,
    identity: nothing,
    device: undefined,
    vault: noVaultKey(),
    archiveKey: nothing,
    entries: [],
    head: EMPTY,
    isAccepted: false,
    oldIdentity: nothing,
    oldDevice: EMPTY,
    oldVault: noVaultKey(),
    unreached: [],
    destroyAt: 0,
  };
}

/** Return a row's bytes. */
export function rotationToSecret(rotation: Rotation): SecretBytes {
  return sealMap(ROTATION, rotation);
}

/** Read what `rotationToSecret` gave; throws Malformed. */
export function rotationFromSecret(kept: SecretBytes): Rotation {
  return openMap(ROTATION, kept);
}

/** How far a rotation is, for people. */
export interface Progress {
  /** A UUID's text, as all ids here. */
  readonly id: string;
  readonly parts: number;
  readonly reason: Reason;
  /** The next one; DESTROY means that only the grace period is left: everything else has happened. */
  readonly step: Step;
  readonly startedAt: number;
  readonly revoked: readonly string[];
  /** People whose sessions could not be begun anew. */
  readonly unreached: readonly string[];
  readonly destroyAt: number;
  /** Doors that only the person can open again. */
  readonly needs: readonly string[];
  /** Whether the grace period is over too, and the old keys are gone. */
  readonly isDestroyed: boolean;
}

/** Keep a rotation as it stands. */
export function put(store: Store, rotation: Rotation): Promise<void> {
  return store.put(KIND, rotation.id, rotationToSecret(rotation));
}

/** Return every rotation that is kept, oldest first. */
export async function loadRotations(store: Store): Promise<Rotation[]> {
  const found: Rotation[] = [];
  for (const key of await store.keys(KIND)) {
    const row = await store.get(KIND, key);
    if (row !== undefined) found.push(rotationFromSecret(row));
  }
  return found;
}

/** Say how far a rotation is. */
export function progress(rotation: Rotation, needs: readonly string[] = []): Progress {
  const { parts, reason, step, startedAt, destroyAt } = rotation, id = uuidText(rotation.id);
  const revoked = rotation.revoke.map(uuidText), unreached = rotation.unreached.map(uuidText);
  return { id, parts, reason, step, startedAt, revoked, unreached, destroyAt, needs, isDestroyed: false };
}
