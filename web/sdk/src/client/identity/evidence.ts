// SPDX-License-Identifier: Apache-2.0
/**
 * What this device has seen that must not be: two signed things that exclude each other, kept as they came.
 *
 * docs/spec/protocol.md (a fork: keep both as evidence) and docs/formats/profile.md (`evidence`). Does not judge: whoever
 * keeps something here has verified that both sides are signed.
 */
import type { Bytes } from "../../core/base/bytes.js";
import { encode } from "../../core/base/encoding.js";
import { at, choice, layout, octets, openMap, optionalAt, sealMap, uint } from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { HASH_SIZE, ID_SIZE } from "../../core/signed/payloads.js";
import type { Account } from "../profile/account.js";

/** The kind of its rows. */
export const KIND = "evidence";
const MAX_SIZE = 128 * 1024; // bytes: two signed things of at most 64 KiB, and whose they are
const MOST_OF_A_KIND = 100;

/** What contradicts what. */
export const Contradiction = { CHAIN_FORK: 1, LOG_FORK: 2, LOG_ROLLED_BACK: 3 } as const;
export type Contradiction = (typeof Contradiction)[keyof typeof Contradiction];

/** Two signed things about one user that cannot both be true, and when the second was seen. */
export interface Evidence {
  readonly what: Contradiction;
  /** 16 bytes. */
  readonly user: Bytes;
  readonly ours: Bytes;
  readonly theirs: Bytes;
  /** UTC seconds. */
  readonly seenAt: number;
  /**
   * The hash of the resolution (32 bytes) by which officers accepted a restored backup that brought this about; undefined
   * while nothing explains it.
   */
  readonly explained: Bytes | undefined;
}

const EVIDENCE = layout<Evidence>(
  "evidence",
  {
    what: at(1, choice(Contradiction, "Contradiction")),
    user: at(2, octets(ID_SIZE)),
    ours: at(3, octets()),
    theirs: at(4, octets()),
    seenAt: at(5, uint()),
    explained: optionalAt(6, octets(HASH_SIZE)),
  },
  { rowSize: MAX_SIZE },
);

/** Keep both sides, once, durably, and a hundred of a kind. Returns whether they were kept now. */
export async function keep(
  account: Account,
  what: Contradiction,
  { user, ours, theirs }: { readonly user: Bytes; readonly ours: Bytes; readonly theirs: Bytes },
): Promise<boolean> {
  const seen: Evidence = { what, user, ours, theirs, seenAt: account.api.clock.latest(), explained: undefined };
  const name = nameOf(seen);
  if ((await account.store.get(KIND, name)) !== undefined) return false;
  // A head is signed anew every half minute, and each is another contradiction of the one kept here.
  const kept = await listEvidence(account);
  if (kept.filter((one) => one.what === what).length >= MOST_OF_A_KIND) return false;
  await account.store.put(KIND, name, sealMap(EVIDENCE, seen));
  return true;
}

/** Return everything kept, oldest first. */
export async function listEvidence(account: Account): Promise<Evidence[]> {
  const found: Evidence[] = [];
  for (const name of await account.store.keys(KIND))
    found.push(openMap(EVIDENCE, (await account.store.get(KIND, name)) as SecretBytes));
  return found;
}

/** Note by which resolution of the officers (its hash, 32 bytes) something kept here is explained. */
export async function explain(account: Account, seen: Evidence, resolution: Bytes): Promise<void> {
  await account.store.put(KIND, nameOf(seen), sealMap(EVIDENCE, { ...seen, explained: resolution }));
}

function nameOf({ what, user, ours, theirs }: Evidence): Bytes {
  return sha256(encode([what, user, ours, theirs]));
}
