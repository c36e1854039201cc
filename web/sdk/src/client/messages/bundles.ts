// SPDX-License-Identifier: Apache-2.0
/**
 * Other people's pre-key bundles: claimed once, and believed only after every signature and proof has held.
 *
 * On `core/messages/bundle`. Does not agree on a secret; a session does, with what is returned here.
 */
import { type Bytes, equal, hex } from "../../core/base/bytes.js";
import { Expired, HoldfastError } from "../../core/base/errors.js";
import { isSuite, type Suite } from "../../core/crypto/suites.js";
import type { ChainState } from "../../core/identity/chain.js";
import { uuidText } from "../../core/base/uuids.js";
import { isLastResort, type OneTimePart, verifyBundle } from "../../core/messages/bundle.js";
import type { VerifiedBundle } from "../../core/messages/x3dh.js";
import { Sign1 } from "../../core/signed/cose.js";
import { Problem, TrustRefused } from "../errors.js";
import * as contacts from "../identity/contacts.js";
import * as peers from "../identity/peers.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";

/** What fetches a user's chain anew. */
export type Refresh = (account: Account, user: Bytes) => Promise<ChainState>;
/** More than a chain lists (64): an answer with more is no honest one. */
export const MAX_DEVICES = 100;
const WAY_OUT =
  "Nothing was sent. Try again later; if this goes on, the server hands out keys that are not this person's: tell your " +
  "officers.";
const EXPIRED = "Ask the person to use that device: `client.maintain()` there publishes fresh keys.";

/** A bundle whose signatures hold and whose time is over: its device was off, or a newer one is withheld. */
export class ExpiredBundle extends TrustRefused {
  override get name(): string {
    return "ExpiredBundle";
  }
}

/** One device's keys, verified. Without a one-time key the server said that none is left, which is shown. */
export interface ClaimedBundle {
  /** 16 bytes. */
  readonly device: Bytes;
  readonly keys: VerifiedBundle;
  readonly suite: Suite;
  /** Whether the signed pre-key has to serve alone. */
  readonly isLastResort: boolean;
  /** The id of the one-time pre-key. */
  readonly oneTimeKeyId: number | undefined;
}

/** All bundles of one person, and the 8 words of that person's identity key. */
export interface Claimed {
  readonly identityWords: readonly string[];
  readonly devices: readonly ClaimedBundle[];
}

/**
 * Claim a bundle of each device of a person (16 bytes), and verify all of it against the pinned chain.
 *
 * Rejects with PeerChanged after a re-genesis until a human confirmed; TrustRefused when anything does not hold: one bad
 * bundle spoils the claim, since a server that sends one is not to be believed about the others.
 */
export async function claim(account: Account, user: Bytes): Promise<Claimed> {
  const [state, found] = await claimDevices(account, await peers.refresh(account, user), undefined);
  return { identityWords: contacts.identityWords(state), devices: found };
}

/**
 * Claim a bundle of some devices (16 bytes each) of the user of a verified chain, or of all: undefined.
 *
 * refresh: fetches the chain when they added or revoked a device in between. Gives the chain that the bundles were held
 * against, and fewer of them than were asked for when a device has published none, or was off until what it had published
 * expired. Rejects as `claim` does.
 */
export async function claimDevices(
  account: Account,
  state: ChainState,
  devices: readonly Bytes[] | undefined,
  { refresh = peers.refresh }: { readonly refresh?: Refresh } = {},
): Promise<[ChainState, ClaimedBundle[]]> {
  let head: Bytes, named: (readonly [Bytes, Answer])[];
  if (devices === undefined || devices.length > 1) {
    const answer = await account.api.post(`users/${uuidText(state.user)}/claim`, {});
    head = answer.octets("chain_head", 32);
    named = [...answer.many("bundles", { maximum: MAX_DEVICES })].map((row) => [row.identifier("device_id"), row]);
  } else {
    named = [];
    for (const device of devices) named.push(...(await claimOne(account, device)));
    const first = named[0];
    // It may be off the account since the chain was fetched: the answer that it has no bundle says no head.
    if (first === undefined) return [await refresh(account, state.user), []];
    head = first[1].octets("chain_head", 32);
  }
  if (!isShown(state, head)) state = await refresh(account, state.user);
  if (!isShown(state, head))
    throw new TrustRefused("The bundles name an account chain that the server does not show.", {
      wayOut: "Try again later; if this goes on, tell your officers that the server hides part of a chain.",
    });
  if (new Set(named.map(([device]) => hex(device))).size !== named.length)
    throw new TrustRefused("The server sent two bundles of one device.", { wayOut: WAY_OUT });
  const found: ClaimedBundle[] = [], expired: ExpiredBundle[] = [];
  for (const [device, row] of named) {
    try {
      found.push(await verified(account, state, device, row));
    } catch (error) {
      // It was off until its pre-key expired: it has no keys now, and must not speak for the others.
      if (!(error instanceof ExpiredBundle)) throw error;
      expired.push(error);
    }
  }
  if (devices === undefined && expired[0] && found.length === 0) throw expired[0];
  await pinSuite(account, state, found.map((bundle) => bundle.suite), devices === undefined);
  const wanted = devices && new Set(devices.map(hex));
  return [state, found.filter((bundle) => wanted === undefined || wanted.has(hex(bundle.device)))];
}

function isShown(state: ChainState, head: Bytes): boolean {
  return state.hashes.some((hash) => equal(hash, head));
}

/** Tell whether the server has pre-keys of a device that is in its account's chain. Asking uses one up. */
export async function hasKeys(account: Account, device: Bytes): Promise<boolean> {
  return (await claimOne(account, device)).length > 0;
}

async function claimOne(account: Account, device: Bytes): Promise<(readonly [Bytes, Answer])[]> {
  try {
    return [[device, await account.api.post(`devices/${uuidText(device)}/claim`, {})]];
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    return [];
  }
}

/** Pin the lowest suite that any device of a contact still has; a device of a lower one is refused from then on. */
async function pinSuite(account: Account, state: ChainState, suites: Suite[], isWhole: boolean): Promise<void> {
  const contact = account.state.contacts.get(hex(state.user));
  if (contact === undefined || suites.length === 0 || !(isWhole || contact.suite === 0)) return;
  const lowest = Math.min(...suites);
  if (contact.suite === lowest) return;
  contact.suite = lowest;
  await account.save();
}

/** Return the suite that a contact is held to; undefined for oneself, and for a contact not yet written to. */
export function pinnedSuite(account: Account, user: Bytes): Suite | undefined {
  const suite = account.state.contacts.get(hex(user))?.suite ?? 0;
  return isSuite(suite) ? suite : undefined;
}

async function verified(account: Account, state: ChainState, device: Bytes, row: Answer): Promise<ClaimedBundle> {
  if (row.number("v") !== 1) throw new TrustRefused("A bundle is of another version.", { wayOut: WAY_OUT });
  let keys: VerifiedBundle;
  try {
    keys = await verifyBundle(
      {
        suite: row.number("suite"),
        chainHead: row.octets("chain_head", 32),
        deviceStatement: Sign1.parse(row.octets("device_statement")),
        signedPreKey: Sign1.parse(row.octets("signed_pre_key")),
        oneTime: row.has("one_time_pre_key") ? oneTimePart(row.one("one_time_pre_key")) : undefined,
      },
      { chain: state, device, now: account.api.clock.latest(), pinnedSuite: pinnedSuite(account, state.user) },
    );
  } catch (error) {
    if (error instanceof Expired)
      throw new ExpiredBundle(`A bundle is not to be used: ${error.message}.`, { wayOut: EXPIRED, cause: error });
    if (error instanceof HoldfastError)
      throw new TrustRefused(`A bundle is not to be trusted: ${error.message}.`, { wayOut: WAY_OUT, cause: error });
    throw error;
  }
  return {
    device,
    keys,
    suite: keys.device.suite,
    isLastResort: isLastResort(keys),
    oneTimeKeyId: keys.oneTime?.keyId,
  };
}

function oneTimePart(row: Answer): OneTimePart {
  return {
    batch: Sign1.parse(row.octets("batch")),
    leaf: row.octets("leaf", undefined, { maximum: 4096 }),
    index: row.number("index"),
    proof: row.octets("proof", undefined, { maximum: 1024 }),
  };
}

