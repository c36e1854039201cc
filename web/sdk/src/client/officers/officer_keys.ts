// SPDX-License-Identifier: Apache-2.0
/**
 * An officer's keys: where they lie, and which of them a policy names.
 *
 * docs/spec/escrow.md "Policy and officers". A pair lies in the officers' section of the vault (`section`); until its owner
 * has moved it there, in the profile. Does not decide on cases; `officer` does, with the same keys.
 */
import { equal } from "../../core/base/bytes.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { KeyKind, SigningKey } from "../../core/crypto/keys.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import type { Officer, SignedPolicy } from "../../core/identity/policy.js";
import { NotPossible, ProfileError } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { OfficerKeys, OfficerPublicKeys } from "../profile/state.js";
import * as section from "./section.js";

/** One pair of an officer's keys, out of the section. Public halves are those of the roster. */
export interface Pair {
  /** What signs approvals, denials and attestations. */
  readonly signing: SigningKey;
  /** The X-Wing key to which devices seal this officer's shares. */
  readonly sealing: SealingKey;
}

/** Whether this profile leads to an officer's keys. */
export async function hasKeys(holder: Account): Promise<boolean> {
  return (await publicKeys(holder)).length > 0;
}

/** Return the public halves of every pair that this profile leads to, oldest first; the server is not asked. */
export async function publicKeys(holder: Account): Promise<OfficerPublicKeys[]> {
  const { officersSection: kept, officer: own } = holder.state, found = [...(kept?.keys ?? [])];
  if (own === undefined) return found;
  // One that is on its way into the section is in both.
  const halves = await section.publicHalves(own);
  return found.some((one) => section.isSame(one, halves)) ? found : [...found, halves];
}

/**
 * Return an officer's pair: the one that a policy's row names.
 *
 * From the profile, or from the section, which is then read from the server. Rejects with ProfileError when there is none,
 * NotPossible when none is that row's; TrustRefused as `section.load` does.
 */
export async function keysOf(holder: Account, row: Officer): Promise<Pair> {
  await requireKeys(holder);
  const isWanted = async (pair: OfficerKeys): Promise<boolean> =>
    section.isSame(await section.publicHalves(pair), publicOf(row));
  let { officer: own } = holder.state;
  if (own === undefined || !(await isWanted(own))) {
    own = undefined;
    for (const pair of (await section.load(holder))?.pairs ?? []) if (await isWanted(pair)) own = pair;
  }
  if (own === undefined)
    throw new NotPossible("Your officers' section does not hold these keys.", { wayOut: section.RESTORE });
  const signing = await SigningKey.fromSeed(KeyKind.ED25519, own.signingSeed);
  return { signing, sealing: await SealingKey.fromSeed(own.sealingSeed) };
}

/** Return this officer's row of a policy. Rejects with NotPossible for a policy that does not list these keys. */
export async function ownRow(holder: Account, policy: SignedPolicy): Promise<Officer> {
  await requireKeys(holder);
  const own = await publicKeys(holder);
  const isOwn = (row: Officer): boolean =>
    equal(row.person, holder.user) && own.some((one) => section.isSame(one, publicOf(row)));
  const row = policy.policy.roster.find(isOwn);
  if (row === undefined) throw new NotPossible("The policy does not list you as an officer with these keys.");
  return row;
}

function publicOf({ signingKey, sealingKey }: Officer): OfficerPublicKeys {
  return { signingKey: signingKey.encoded, sealingKey: sealingKey.encoded };
}

/** Return 32 bytes that nobody knows but this officer, without asking the server. Rejects with ProfileError for none. */
export async function secretOf(holder: Account): Promise<SecretBytes> {
  await requireKeys(holder);
  const { officersSection: kept, officer: own } = holder.state;
  return kept === undefined ? (own as OfficerKeys).signingSeed : kept.key;
}

async function requireKeys(holder: Account): Promise<void> {
  if (!(await hasKeys(holder)))
    throw new ProfileError("This profile holds no officer's keys.", {
      wayOut: `Make them with the Python client: holdfast officer init. ${section.RESTORE}`,
    });
}
