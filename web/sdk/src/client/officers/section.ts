// SPDX-License-Identifier: Apache-2.0
/**
 * The officers' section of the vault: every pair of keys that an officer ever had, under a key of its own.
 *
 * docs/spec/escrow.md "Policy and officers" on the device that reads it; docs/formats/keyring.md, "Officers' section".
 * Does not write the section and opens no door of it: that an officer does in the Python client, from which this device is
 * given the section's key when it is paired.
 */
import { equal, utf8 } from "../../core/base/bytes.js";
import { HoldfastError } from "../../core/base/errors.js";
import { at, layout, nested, openMap, several, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { KeyKind, SigningKey } from "../../core/crypto/keys.js";
import { SealingKey } from "../../core/crypto/sealing.js";
import { openVault } from "../../core/vault/blob.js";
import { ProfileError, TrustRefused, UpdateNeeded } from "../errors.js";
import * as tenant from "../identity/tenant.js";
import type { Account } from "../profile/account.js";
import { OFFICER_KEYS, type OfficerKeys, type OfficerPublicKeys, type OfficersSection } from "../profile/state.js";
import * as pairing from "../vault/pairing.js";
import * as vault from "../vault/vault.js";
import type { Found } from "../vault/vault.js";
import * as statedKeys from "./stated_keys.js";

const FORMAT = 1; // docs/formats/keyring.md
/** One a month for five years: an officer has another pair when a device was lost. */
export const MAX_PAIRS = 64;
// The section as it was last read, sealed, for a server that was put back and has lost it.
const KEPT = ["officers-section", utf8("kept")] as const;
/** How the section comes to this device. */
export const RESTORE =
  "Pair this device with one that leads to them: there `holdfast devices pair --officer-keys`, here " +
  "client.devices.pairingText() and client.officers.takeKeys()";

/** What the section holds: pairs of keys, oldest first; the last one is in use. */
export interface Contents {
  readonly version: number;
  readonly pairs: readonly OfficerKeys[];
}

const CONTENTS = layout<{ version: number; pairs: OfficerKeys[] }>("officers' section", {
  version: at(1, uint({ minimum: FORMAT, maximum: FORMAT })),
  pairs: at(2, several(nested(OFFICER_KEYS), { minimum: 1, maximum: MAX_PAIRS })),
});

/** Return the public halves of a pair, encoded. */
export async function publicHalves(pair: OfficerKeys): Promise<OfficerPublicKeys> {
  const signing = await SigningKey.fromSeed(KeyKind.ED25519, pair.signingSeed);
  const sealing = await SealingKey.fromSeed(pair.sealingSeed);
  return { signingKey: signing.public.encoded, sealingKey: sealing.public.encoded };
}

/** Tell whether two pairs are the same, by their public halves. */
export function isSame(one: OfficerPublicKeys, other: OfficerPublicKeys): boolean {
  return equal(one.signingKey, other.signingKey) && equal(one.sealingKey, other.sealingKey);
}

/**
 * Fetch the section and verify whose it is; undefined when the server has none.
 *
 * Rejects with TrustRefused for one that no identity key of the account has signed, of another person or section, or older
 * than one this device has seen.
 */
export function fetch(account: Account): Promise<Found | undefined> {
  const kept = account.state.officersSection;
  const seen = { epoch: kept?.epoch ?? 0, version: kept?.version ?? 0 };
  return vault.besideChain(account, (state) => vault.fetchSection(account, state, "officers", { seen }));
}

/**
 * Open the section that was fetched under a key, and keep the key and what lies in it by its public halves.
 *
 * Pairs that nothing but a former identity key vouches for are left out, which may leave none: see `borneOut`. Rejects with
 * TrustRefused, and nothing is kept, for a key that does not open it.
 */
export async function openFound(account: Account, found: Found, key: SecretBytes): Promise<Contents> {
  const secret = await opened(found, key);
  let contents: Contents;
  try {
    contents = openMap(CONTENTS, secret);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new UpdateNeeded("your officers' section, on another device of yours", { cause: error });
  }
  if (!found.signer.equals((await vault.chainOf(account)).aik))
    contents = { ...contents, pairs: await borneOut(account, contents.pairs) };
  const keys = await Promise.all(contents.pairs.map(publicHalves)), { epoch, version } = found.header;
  await account.store.transaction(async () => {
    account.state.officersSection = { epoch, key, version, keys };
    await account.store.put(...KEPT, new SecretBytes(found.blob));
    await account.save();
  });
  return contents;
}

async function opened({ blob, header }: Found, key: SecretBytes): Promise<SecretBytes> {
  try {
    return await openVault(blob, key, header);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`Your officers' section does not open: ${error.message}.`, {
      wayOut: "Change nothing. Pair this device anew; and tell the other officers.",
      cause: error,
    });
  }
}

/**
 * Return which pairs are this officer's by more than an identity key that the account has left.
 *
 * Whoever stole that key can sign a section with a pair of their own in it, and a server that is with them can show it.
 * Believed is what this profile has held, a policy names, or the account states under its identity key of now.
 */
async function borneOut(account: Account, pairs: readonly OfficerKeys[]): Promise<OfficerKeys[]> {
  const { officersSection: kept, officer: own } = account.state;
  const halves = await Promise.all(pairs.map(async (pair) => [pair, await publicHalves(pair)] as const));
  let known = [...(kept?.keys ?? []), ...(own ? [await publicHalves(own)] : []), ...(await namedByPolicies(account))];
  const isKnown = (keys: OfficerPublicKeys): boolean => known.some((one) => isSame(one, keys));
  if (!halves.every(([, keys]) => isKnown(keys))) {
    // Asked only here: a profile that knows all of them needs nothing of the server.
    await tenant.refresh(account);
    const said = await statedKeys.newestOwn(account);
    known = [...known, ...(await namedByPolicies(account)), ...(said?.isByAik ? [said.keys] : [])];
  }
  return halves.filter(([, keys]) => isKnown(keys)).map(([pair]) => pair);
}

async function namedByPolicies(account: Account): Promise<OfficerPublicKeys[]> {
  const rows = (await account.policies()).flatMap(({ policy }) => policy.roster);
  const own = rows.filter((row) => equal(row.person, account.user));
  return own.map(({ signingKey, sealingKey }) => ({ signingKey: signingKey.encoded, sealingKey: sealingKey.encoded }));
}

/**
 * Read the section under the key that this device holds; undefined before its first version.
 *
 * Rejects with ProfileError on a device that holds no key of it, or an earlier one; TrustRefused as `fetch` does, when the
 * server no longer has a section that it had, and when nothing in it is borne out.
 */
export async function load(account: Account): Promise<Contents | undefined> {
  const kept = account.state.officersSection;
  if (kept === undefined)
    throw new ProfileError("This device does not hold the key of your officers' section.", { wayOut: RESTORE });
  const found = await fetch(account);
  if (found === undefined) {
    if (kept.version === 0) return undefined;
    throw new TrustRefused(`The server has lost your officers' section, which it had at version ${kept.version}.`, {
      wayOut: "Tell your operator, who has backups, and the other officers.",
    });
  }
  if (found.header.epoch !== kept.epoch)
    throw new ProfileError("Another device of yours changed the key of your officers' section.", { wayOut: RESTORE });
  const contents = await openFound(account, found, kept.key);
  if (contents.pairs.length === 0)
    throw new TrustRefused(
      "Your officers' section is signed by an identity key that your account has left, and nothing else says that the " +
        "keys in it are yours.",
      {
        wayOut: "Run `holdfast maintain` on another device that leads to them, if you have one. Otherwise make others: " +
          "holdfast officer new-keys",
      },
    );
  return contents;
}

/**
 * Take the section's key that another device of the person's gave along when it brought this one in, and read what lies
 * under it. Returns how many pairs of keys this profile leads to.
 *
 * Where this device holds a key of the same or a later epoch, nothing changes. Rejects with ProfileError when none was
 * given, and as `load` does; the key then waits to be taken again.
 */
export async function takeGiven(account: Account): Promise<number> {
  const given = await pairing.officersKeyGiven(account);
  if (given === undefined && account.state.officersSection === undefined)
    throw new ProfileError("No other device of yours has given this one your officer's keys.", { wayOut: RESTORE });
  if (given !== undefined) {
    await take(account, given);
    await pairing.putAwayOfficersKey(account);
  }
  return account.state.officersSection?.keys.length ?? 0;
}

async function take(account: Account, given: OfficersSection): Promise<void> {
  const kept = account.state.officersSection;
  if (kept !== undefined && kept.epoch >= given.epoch && kept.keys.length > 0) return;
  account.state.officersSection = given;
  try {
    await load(account);
  } catch (error) {
    account.state.officersSection = kept;
    throw error;
  }
}
