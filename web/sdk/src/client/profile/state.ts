// SPDX-License-Identifier: Apache-2.0
/**
 * What one device remembers between calls, and its bytes inside the encrypted profile and the vault.
 *
 * docs/formats/profile.md (`state`): the same rows and bytes as every other client's, so that an export is everybody's.
 * Does not judge anything: what is pinned here was verified by the module that put it here.
 */
import { type Bytes, EMPTY } from "../../core/base/bytes.js";
import { MAX_VAULT } from "../../core/base/encoding.js";
import { Malformed } from "../../core/base/errors.js";
import {
  at, flag, layout, mapping, nested, nestedMap, octets, openMap, optionalAt, sealMap, secret, several, text, uint,
} from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";

/** Of the state's bytes. docs/formats/profile.md. */
export const VERSION = 1;
/** Bytes: with its frame, what a row holds. */
export const MAX_STATE = 2 * MAX_VAULT - 4096;

/** What this client holds its tenant to. */
export interface Trust {
  /** 32 bytes, or none. */
  pin: Bytes;
  /** Whether it was taken from the server. */
  isTofu: boolean;
  isDevelopment: boolean;
  rootKey: Bytes;
  /** Every version's statement as received, oldest first, each verified when taken. */
  policies: Bytes[];
  /** As `policies`. */
  escrowKeys: Bytes[];
  /** The verifier keys that sign the logs, newest first: those that `roles` names, before there is one the code's. */
  logKeys: string[];
  /** Per log origin, the newest signed checkpoint this client has seen. */
  checkpoints: Map<string, string>;
  /** The newest statement of the tenant root on whose keys write and sign the logs, as received and verified. */
  roles: Bytes | undefined;
  /** The resolutions that withdrew a policy version, as received and verified. */
  withdrawals: Bytes[] | undefined;
  /**
   * 32 bytes, by which a code of a tenant without a policy named its root; undefined once a policy was published. A pin
   * beside it is of the first policy that this person signed.
   */
  foundingRoot: Bytes | undefined;
}

const TRUST = layout<Trust>("profile trust", {
  pin: at(1, octets([0, 32])),
  isTofu: at(2, flag()),
  isDevelopment: at(3, flag()),
  rootKey: at(4, octets()),
  policies: at(5, several(octets())),
  escrowKeys: at(6, several(octets())),
  logKeys: at(7, several(text({ maximum: 4096 }))),
  checkpoints: at(8, mapping(text(), text({ maximum: 4096 }))),
  roles: optionalAt(9, octets()),
  withdrawals: optionalAt(10, several(octets())),
  foundingRoot: optionalAt(11, octets(32)),
});

/** Return what a client that has met no tenant holds it to: nothing. */
export function noTrust(): Trust {
  return {
    pin: EMPTY,
    isTofu: false,
    isDevelopment: false,
    rootKey: EMPTY,
    policies: [],
    escrowKeys: [],
    logKeys: [],
    checkpoints: new Map(),
    roles: undefined,
    withdrawals: undefined,
    foundingRoot: undefined,
  };
}

/** This device: 16-byte id, three seeds of 32 bytes, its signed statement, and whether the chain lists it. */
export interface Device {
  id: Bytes;
  signingSeed: SecretBytes;
  agreementSeed: SecretBytes;
  sealingSeed: SecretBytes;
  statement: Bytes;
  isActive: boolean;
}

/** How a device lies in the state, in a rotation, and among those that this one has followed. */
export const DEVICE = layout<Device>("profile device", {
  id: at(1, octets(16)),
  signingSeed: at(2, secret(32)),
  agreementSeed: at(3, secret(32)),
  sealingSeed: at(4, secret(32)),
  statement: at(5, octets()),
  isActive: at(6, flag()),
});

/** One archive key: generation g, 32-byte key, start, commitment; and its newest deposit, once acknowledged. */
export interface Generation {
  number: number;
  key: SecretBytes;
  notBefore: number;
  /** 32 bytes. */
  commitment: Bytes;
  /** 16 bytes, or none. */
  depositId: Bytes;
  /** 32 bytes, or none. */
  recordHash: Bytes;
  isExposed: boolean;
}

/** How an archive key lies in the state, in the vault and in what a case discloses. */
export const GENERATION = layout<Generation>("profile generation", {
  number: uint(),
  key: secret(32),
  notBefore: uint(),
  commitment: octets(32),
  depositId: octets([0, 16]),
  recordHash: octets([0, 32]),
  isExposed: flag(),
});

/** A peer as pinned: the chain as verified, entry by entry, and the entries of a new beginning not yet confirmed. */
export interface Contact {
  /** 16 bytes. */
  user: Bytes;
  entries: Bytes[];
  unconfirmed: Bytes[];
  /** The suite their devices were first seen with; 0 before any. */
  suite: number;
  /** The chain head (32 bytes) at which two people compared a number or words; none before, and after a new beginning. */
  verified: Bytes;
}

/** How a contact lies in a row of its own, and in the vault. */
export const CONTACT_ROW = layout<Contact>(
  "profile contact",
  {
    user: octets(16),
    entries: several(octets()),
    unconfirmed: several(octets()),
    suite: uint({ maximum: 4 }),
    verified: octets([0, 32]),
  },
  { rowSize: MAX_STATE },
);

/** Return a contact that was just met. user: 16 bytes; entries: their chain as verified. */
export function newContact(user: Bytes, entries: Bytes[]): Contact {
  return { user, entries, unconfirmed: [], suite: 0, verified: EMPTY };
}

/** The key of the server-side vault: epoch, 32-byte VK (empty before there is one), highest version seen. */
export interface VaultKey {
  epoch: number;
  key: SecretBytes;
  version: number;
}

/** How a vault key lies in the state and in a rotation. */
export const VAULT_KEY = layout<VaultKey>("profile vault", { epoch: uint(), key: secret([0, 32]), version: uint() });

/** Return the vault key of an account without a vault. */
export function noVaultKey(): VaultKey {
  return { epoch: 0, key: new SecretBytes(EMPTY), version: 0 };
}

/** The case this device is the recipient of: keys made for it alone, destroyed when it ends. */
export interface OpenCase {
  /** 16 bytes. */
  caseId: Bytes;
  statement: Bytes;
  /** PKCS#8 DER. */
  recipientRsa: SecretBytes;
  recipientSeed: SecretBytes;
  /** The seed of the identity key that will begin the account again. */
  newIdentity: SecretBytes;
}

const OPEN_CASE = layout<OpenCase>("profile case", {
  caseId: octets(16),
  statement: octets(),
  recipientRsa: secret(),
  recipientSeed: secret(32),
  newIdentity: secret(32),
});

/** An officer's own two keys, apart from any device's: seeds of 32 bytes. */
export interface OfficerKeys {
  signingSeed: SecretBytes;
  sealingSeed: SecretBytes;
}

/** The row of one pair. */
export const OFFICER_KEYS = layout<OfficerKeys>("profile officer keys", { signingSeed: secret(32), sealingSeed: secret(32) });

/** The public halves of one pair of an officer's keys, encoded. */
export interface OfficerPublicKeys {
  signingKey: Bytes;
  sealingKey: Bytes;
}

const OFFICER_PUBLIC_KEYS = layout<OfficerPublicKeys>("officer public keys", {
  signingKey: octets(),
  sealingKey: octets(),
});

/** The officers' section of the vault as this device knows it: epoch, its 32-byte key OK, highest version seen. */
export interface OfficersSection {
  epoch: number;
  key: SecretBytes;
  version: number;
  /** The public halves of every pair in it, oldest first. The pairs themselves are read from the section. */
  keys: OfficerPublicKeys[];
}

const OFFICERS_SECTION = layout<OfficersSection>("profile officers' section", {
  epoch: uint(),
  key: secret(32),
  version: uint(),
  keys: several(nested(OFFICER_PUBLIC_KEYS)),
});

interface StateFields {
  version: number;
  server: string;
  trust: Trust;
  device: Device | undefined;
  identitySeed: SecretBytes;
  chain: Bytes[];
  generations: Generation[];
  vault: VaultKey;
  consent: Bytes;
  case: OpenCase | undefined;
  officer: OfficerKeys | undefined;
  officersSection: OfficersSection | undefined;
}

// 7 and 9 were used by rows of earlier days and are not given again.
const STATE_ROW = layout<StateFields>(
  "profile",
  {
    version: at(1, uint()),
    server: at(2, text()),
    trust: at(3, nestedMap(TRUST)),
    device: optionalAt(4, nestedMap(DEVICE)),
    identitySeed: at(5, secret([0, 32])),
    chain: at(6, several(octets())),
    generations: at(8, several(nested(GENERATION))),
    vault: at(10, nested(VAULT_KEY)),
    consent: at(11, octets()),
    case: optionalAt(12, nested(OPEN_CASE)),
    officer: optionalAt(13, nested(OFFICER_KEYS)),
    officersSection: optionalAt(14, nested(OFFICERS_SECTION)),
  },
  { rowSize: MAX_STATE },
);

/** Everything of one profile. */
export class State implements StateFields {
  version = VERSION;
  server = "";
  trust = noTrust();
  device: Device | undefined;
  /** The AIK's, 32 bytes; empty on a device that has not got it yet. */
  identitySeed = new SecretBytes(EMPTY);
  /** The user's own account chain, every entry as received and verified. */
  chain: Bytes[] = [];
  generations: Generation[] = [];
  /** By the user's id in hex. Kept as rows of their own (`state_rows`), and so in no bytes of the state. */
  contacts = new Map<string, Contact>();
  vault = noVaultKey();
  consent: Bytes = EMPTY;
  case: OpenCase | undefined;
  officer: OfficerKeys | undefined;
  officersSection: OfficersSection | undefined;

  /** Return the bytes of the state without its contacts. Throws RowTooLong, and a RangeError for what no one reads. */
  toSecret(): SecretBytes {
    return sealMap(STATE_ROW, this);
  }

  /** Read the state. Throws Malformed for bytes that this version did not write. */
  static fromSecret(kept: SecretBytes): State {
    const fields = openMap(STATE_ROW, kept);
    if (fields.version !== VERSION) throw new Malformed("profile: written by another version of this program");
    return Object.assign(new State(), fields);
  }

  /** Return the archive key of one generation, if this device has it. */
  generation(number: number): Generation | undefined {
    return this.generations.find((generation) => generation.number === number);
  }
}
