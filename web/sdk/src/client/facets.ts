// SPDX-License-Identifier: Apache-2.0
/**
 * The parts of a `Client`, one for each subject: devices, contacts, backup, recovery, escrow, archive, administration.
 *
 * Implements nothing: each method is a call into the module of its subject, one at a time. Does not keep state; the account
 * does. What few pages need is loaded when it is first asked for.
 */
import { type Bytes, equal } from "../core/base/bytes.js";
import { uuidBytes } from "../core/base/uuids.js";
import type { Language, Phrase } from "../core/crypto/phrase.js";
import type { ChainState } from "../core/identity/chain.js";
import type { Begun, Tell } from "./auditor/fetching.js";
import type { Exported, Log } from "./auditor/log.js";
import { NotYet, Unreachable } from "./errors.js";
import type { Advance, FileDone } from "./escrow/archive.js";
import type { Disclosure } from "./escrow/disclosures.js";
import type { Status } from "./escrow/escrow.js";
import type { Target } from "./escrow/whole_file.js";
import type { Found, Who } from "./identity/addresses.js";
import type { KnownContact } from "./identity/contacts.js";
import type { ListedDevice } from "./identity/device.js";
import type { Answered, CaseView, Heard, ListedCase as OfficersCase } from "./officers/officer.js";
import type * as organisation from "./organisation.js";
import type { Account } from "./profile/account.js";
import type { CaseStatus, Collected, Finished, OpenedCase } from "./recovery/by_case.js";
import type { OpenedDoor, Recovered } from "./recovery/by_door.js";
import type { Vetoed } from "./recovery/vetoes.js";
import type { ListedCase } from "./standing.js";
import type { Door, PhraseOptions } from "./vault/doors.js";
import type { CodeAnswer, CodeOffer, Joined } from "./vault/pairing.js";
import type { Asked, OpenRequest, Pending } from "./vault/share_requests.js";
import type { HeldShare, TrustedSet } from "./vault/trusted.js";
import { waitFor } from "./waiting.js";

/** Gives the account to one caller at a time, with a part of this program that is loaded when it is first asked for. */
export type Use = <P, T>(load: () => Promise<P>, work: (account: Account, part: P) => Promise<T>) => Promise<T>;

/** For a call that needs no part of its own. */
export const nothing = async (): Promise<void> => undefined;

/** How long to wait for what others have to do first; not at all unless given. */
export interface Waiting {
  readonly waitSeconds?: number;
}

/** Load a part of this program. Rejects with Unreachable when the server of the page does not have it, or is not there. */
export async function loaded<T>(part: Promise<T>): Promise<T> {
  try {
    return await part;
  } catch (error) {
    throw notLoaded(error);
  }
}

// In the words of Chromium and Firefox, and of Safari: nothing but its words tells such an error.
const NOT_LOADED = /dynamically imported module|Importing a module script failed/i;

/** Whether an error is a browser's for a part of this program that the page's server did not give. */
export function isNotLoaded(error: unknown): boolean {
  return error instanceof TypeError && NOT_LOADED.test(error.message);
}

/** Return the refusal for a part of this program that was not there when it was needed. */
export function notLoaded(cause: unknown): Unreachable {
  return new Unreachable("A part of this program could not be loaded.", {
    wayOut: "Load this page again, so that the newest program runs in it, and try again.",
    cause,
  });
}

export const loadAddresses = () => loaded(import("./identity/addresses.js"));
export const loadContacts = () => loaded(import("./identity/contacts.js"));
export const loadDevices = () => loaded(import("./identity/device.js"));
export const loadLetters = () => loaded(import("./messages/letters.js"));
export const loadPreKeys = () => loaded(import("./messages/prekeys.js"));
const loadDisclosures = () => loaded(import("./escrow/disclosures.js"));
const loadDoors = () => loaded(import("./vault/doors.js"));
const loadEscrow = () => loaded(import("./escrow/escrow.js"));
const loadArchive = () => loaded(import("./escrow/archive.js"));
const loadOfficer = () => loaded(import("./officers/officer.js"));
const loadOfficersSection = () => loaded(import("./officers/section.js"));
const loadOrganisation = () => loaded(import("./organisation.js"));
const loadPairing = () => loaded(import("./vault/pairing.js"));
const loadByCase = () => loaded(import("./recovery/by_case.js"));
const loadByDoor = () => loaded(import("./recovery/by_door.js"));
const loadRequests = () => loaded(import("./vault/share_requests.js"));
export const loadStanding = () => loaded(import("./standing.js"));
const loadTrusted = () => loaded(import("./vault/trusted.js"));

/** Load two parts of this program. */
export function both<A, B>(one: () => Promise<A>, other: () => Promise<B>): () => Promise<[A, B]> {
  return () => Promise.all([one(), other()]);
}

abstract class Facet {
  protected readonly use: Use;

  /** Of a client. */
  constructor(use: Use) {
    this.use = use;
  }

  /** Do something with a person, named by id or e-mail address. */
  protected with<P, T>(
    user: Who,
    load: () => Promise<P>,
    work: (account: Account, part: P, user: Bytes) => Promise<T>,
  ): Promise<T> {
    return this.use(both(loadAddresses, load), async (account, [addresses, part]) =>
      work(account, part, uuidBytes(await addresses.personOf(account, user))),
    );
  }
}

/** The new device's side of a pairing by eight digits. Lives as long as the person looks at the screen. */
export class PairingOffer {
  readonly #use: Use;
  readonly #offer: CodeOffer;

  /** Of `Devices.offerCode` only. */
  constructor(use: Use, offer: CodeOffer) {
    this.#use = use;
    this.#offer = offer;
  }

  /** Return the 8 digits to type on the other device, once it has answered. Rejects with NotYet. */
  code({ waitSeconds = 0 }: Waiting = {}): Promise<string> {
    return waitFor(() => this.#use(nothing, () => this.#offer.wait(0)), waitSeconds);
  }
}

/** The existing device's side of a pairing by eight digits: one try, then a new one on both devices. */
export class PairingAnswer {
  readonly #use: Use;
  readonly #answer: CodeAnswer;

  /** Of `Devices.answerCode` only. */
  constructor(use: Use, answer: CodeAnswer) {
    this.#use = use;
    this.#answer = answer;
  }

  /**
   * Bring in the new device if the digits typed are those this side has computed; returns its id.
   *
   * Rejects with WrongWords for others: somebody stands between the two devices, or a digit was mistyped.
   */
  confirm(digits: string, { waitSeconds = 0 }: Waiting = {}): Promise<string> {
    return waitFor(() => this.#use(nothing, () => this.#answer.confirm(digits)), waitSeconds);
  }
}

/** The person's devices. */
export class Devices extends Facet {
  /** Return every device, held against the verified account chain. */
  all(): Promise<ListedDevice[]> {
    return this.use(loadDevices, (account, device) => device.listDevices(account));
  }

  /**
   * Bring another device in by the 8 words that it shows; returns its id. Rejects with WrongWords.
   *
   * The new device then calls `recover.byDevice`. The words are read on its own screen, never from a message.
   */
  approve(pending: string, words: readonly string[]): Promise<string> {
    return this.use(loadPairing, (account, pairing) => pairing.approve(account, pending, { words }));
  }

  /** On a new device: return the text of the QR code that an existing device scans. */
  pairingText(): Promise<string> {
    const load = both(loadPairing, () => loaded(import("../core/vault/pairing.js")));
    return this.use(load, async (account, [pairing, { pairingText }]) => pairingText(await pairing.request(account)));
  }

  /** On an existing device: bring in the new device whose QR code was scanned; returns its id. */
  pair(text: string): Promise<string> {
    return this.use(loadPairing, (account, pairing) => pairing.accept(account, text));
  }

  /** On a new device without a camera: begin a pairing by eight digits, which it shows once the other has answered. */
  async offerCode(): Promise<PairingOffer> {
    return new PairingOffer(this.use, await this.use(loadPairing, (account, pairing) => pairing.offerCode(account)));
  }

  /** On an existing device: answer the new device that offers itself by digits. Rejects with NotYet while none does. */
  async answerCode({ waitSeconds = 0 }: Waiting = {}): Promise<PairingAnswer> {
    const attempt = (): Promise<CodeAnswer> =>
      this.use(loadPairing, (account, pairing) => pairing.answerCode(account));
    return new PairingAnswer(this.use, await waitFor(attempt, waitSeconds));
  }
}

/**
 * The people whom the person writes to, and those who trust them with a share.
 *
 * A person is named by id or by e-mail address. The directory's first answer for an address is pinned; it is the server's
 * word, so that words or the safety number are to be compared with the person (`safetyNumber`).
 */
export class Contacts extends Facet {
  /** Return everybody this profile has met, as kept; the server is not asked. */
  all(): Promise<KnownContact[]> {
    return this.use(loadContacts, (account, contacts) => contacts.listContacts(account));
  }

  /** Fetch and verify a person's account; one never met before is pinned as met. Rejects with PeerChanged. */
  refresh(user: Who): Promise<ChainState> {
    return this.with(user, loadContacts, (account, contacts, id) => contacts.refresh(account, id));
  }

  /** Return the 12 groups of digits that both people see, if nobody stands between them. */
  safetyNumber(user: Who): Promise<readonly string[]> {
    return this.with(user, loadContacts, (account, contacts, id) => contacts.safetyNumber(account, id));
  }

  /** Keep that two people compared the safety number. Rejects with WrongWords when it is another. */
  verify(user: Who, number: readonly string[]): Promise<ChainState> {
    return this.with(user, loadContacts, (account, contacts, id) => contacts.verify(account, id, { number }));
  }

  /** Trust a person again whose account was begun again, by the 8 words that they read out. Rejects with WrongWords. */
  confirm(user: Who, words: readonly string[]): Promise<ChainState> {
    return this.with(user, loadContacts, (account, contacts, id) => contacts.confirm(account, id, { words }));
  }

  /** Return whom an e-mail address is of. Rejects with AddressChanged when they are another, WrongInput for nobody's. */
  find(address: string): Promise<Found> {
    return this.use(loadAddresses, (account, addresses) => addresses.find(account, address));
  }

  /** Return the e-mail addresses that are pinned, and to whom; the server is not asked. */
  addresses(): Promise<Map<string, string>> {
    return this.use(loadAddresses, (account, addresses) => addresses.listPinned(account));
  }

  /** Take another answer for an e-mail address from now on: it has changed hands, and the person knows it. */
  forgetAddress(address: string): Promise<void> {
    return this.use(loadAddresses, (account, addresses) => addresses.forget(account, address));
  }

  /** Return the recovery shares that are kept for others, with those that have just come. */
  heldShares(): Promise<HeldShare[]> {
    const load = both(loadTrusted, loadLetters);
    return this.use(load, async (account, [trusted, letters]) => {
      await letters.fetch(account);
      return trusted.takeShares(account);
    });
  }

  /** Return who asks this person for a share. */
  requests(): Promise<Asked[]> {
    return this.use(loadRequests, (account, requests) => requests.listRequests(account));
  }

  /** Give the share kept for somebody, by the code heard in that person's own voice. Rejects with WrongWords. */
  give(request: string, code: readonly string[]): Promise<void> {
    return this.use(loadRequests, (account, requests) => requests.give(account, request, { code }));
  }

  /** Return the requests for shares that devices made in this person's name. */
  requestsInOwnName(): Promise<Pending[]> {
    return this.use(loadRequests, (account, requests) => requests.requests(account));
  }

  /** Stop a request in one's own name: no share is handed out by it any more. */
  veto(request: string): Promise<void> {
    return this.use(loadRequests, (account, requests) => requests.veto(account, request));
  }
}

/** Doors of the vault: ways back to the keys. */
export class Backup extends Facet {
  /** Return every kind of door: whether it is open, and what it needs of the person. */
  status(): Promise<Door[]> {
    return this.use(loadDoors, (account, doors) => doors.status(account));
  }

  /** Make a password to be shown to the person once; it counts from `setPassword` on, which comes after that. */
  async newPassword(): Promise<string> {
    return (await loaded(import("../core/vault/password_door.js"))).generatePassword();
  }

  /** Set the vault's password, in the place of any before. Rejects with WrongInput for one below 14 characters. */
  setPassword(password: string): Promise<void> {
    return this.use(loadDoors, (account, doors) => doors.setPassword(account, password));
  }

  /** Make a recovery phrase, to be shown to the person once: `phrase.words()`; `confirmPhrase` makes it count. */
  newPhrase({ language = "english" }: { readonly language?: Language } = {}): Promise<Phrase> {
    return this.use(loadDoors, (account, doors) => doors.newPhrase(account, { language }));
  }

  /** Return the places (1 to 24) of the words that the person is to give back from their paper. */
  async questions(): Promise<number[]> {
    return (await loadDoors()).questions();
  }

  /**
   * Make a phrase count, once the person has given words of it back. Rejects with WrongWords; nothing is done then.
   *
   * answers: by place, four or more. passphrase: a second secret beside the words. old: the phrase so far; with it the new
   * one signs for the account at once, without it after a week.
   */
  confirmPhrase(phrase: Phrase, answers: ReadonlyMap<number, string>, of: PhraseOptions = {}): Promise<Door> {
    return this.use(loadDoors, (account, doors) => doors.confirmPhrase(account, phrase, answers, of));
  }

  /** Give each of `people` a share; any `needed` of them together can bring this account back, and become it. */
  setContacts(people: readonly Who[], { needed }: { readonly needed?: number } = {}): Promise<TrustedSet> {
    return this.use(both(loadTrusted, loadAddresses), async (account, [trusted, addresses]) => {
      const ids: Bytes[] = [];
      for (const one of people) ids.push(uuidBytes(await addresses.personOf(account, one)));
      return trusted.choose(account, ids, needed === undefined ? {} : { k: needed });
    });
  }

  /** Return the trusted contacts of now; undefined when there are none. */
  contacts(): Promise<TrustedSet | undefined> {
    return this.use(loadTrusted, (account, trusted) => trusted.findChosenSet(account));
  }

  /** Return the keyring as a file behind a password of its own, of at least 14 characters, for a safe. */
  export(password: string): Promise<Bytes> {
    return this.use(() => loaded(import("./vault/export.js")), (account, exports) => exports.write(account, { password }));
  }

  /** Take a door off the server: "password", "phrase" or "contacts". */
  remove(kind: string): Promise<void> {
    return this.use(loadDoors, (account, doors) => doors.remove(account, kind));
  }
}

/** What a way back that uses the vault may go without. */
export interface WithoutVault {
  /** Go on when the vault itself is lost; archive keys do not come back by that. */
  readonly withoutVault?: boolean;
}

/**
 * Ways back, on a device that does not hold the keys: first one of `by…`, then `finish`.
 *
 * `byDevice` is complete by itself: the person has another device, and nothing was lost.
 */
export class Recover extends Facet {
  /** Take the keys that another device of the person sent when it brought this one in. Rejects with NotYet. */
  byDevice({ waitSeconds = 0 }: Waiting = {}): Promise<Joined> {
    const load = both(loadPairing, loadPreKeys);
    const attempt = (): Promise<Joined> =>
      this.use(load, async (account, [pairing, prekeys]) => {
        const joined = await pairing.complete(account);
        await prekeys.publish(account);
        return joined;
      });
    return waitFor(attempt, waitSeconds);
  }

  /** Open the vault by its password. Rejects with WrongPassword. */
  byPassword(password: string): Promise<OpenedDoor> {
    return this.use(loadByDoor, (account, byDoor) => byDoor.byPassword(account, password));
  }

  /** Open the vault by the 24 words, in any BIP-39 language. Rejects with PhraseError for no phrase, WrongPhrase. */
  byPhrase(
    words: Phrase | string,
    { passphrase, withoutVault = false }: WithoutVault & { readonly passphrase?: string } = {},
  ): Promise<OpenedDoor> {
    return this.use(loadByDoor, async (account, byDoor) => {
      const phrase = typeof words === "string" ? await phraseOf(words) : words;
      return byDoor.byPhrase(account, phrase, { passphrase, withoutVault });
    });
  }

  /** Ask the trusted contacts; the code in what is returned is read to each of them by voice. */
  askContacts(): Promise<OpenRequest> {
    return this.use(loadRequests, (account, requests) => requests.openRequest(account));
  }

  /** Withdraw what was asked of the trusted contacts. */
  cancelRequest(): Promise<void> {
    return this.use(loadRequests, (account, requests) => requests.cancelRequest(account));
  }

  /** Open the vault by the shares that contacts gave. Rejects with NotYet while too few have, or the delay runs. */
  byContacts({ waitSeconds = 0 }: Waiting = {}): Promise<OpenedDoor> {
    return waitFor(() => this.use(loadByDoor, (account, byDoor) => byDoor.byContacts(account)), waitSeconds);
  }

  /** Open the vault by an export file and its password. Rejects with WrongPassword. */
  byExport(data: Uint8Array, password: string, { withoutVault = false }: WithoutVault = {}): Promise<OpenedDoor> {
    const copy = new Uint8Array(data); // it may change while this waits its turn
    return this.use(loadByDoor, (account, byDoor) => byDoor.byExport(account, copy, { password, withoutVault }));
  }

  /**
   * Bring this device into the account, revoke the lost ones, and replace every key. Resumable.
   *
   * `OpenedDoor.devices` are those to ask the person about. Rejects with NotPossible before a door was opened.
   */
  finish({ lost = [] }: { readonly lost?: readonly string[] } = {}): Promise<Recovered> {
    return this.use(loadByDoor, (account, byDoor) => byDoor.finish(account, { lost }));
  }
}

/** Read a phrase; in the rare case that its words are in two lists, in the first that it belongs to. */
async function phraseOf(words: string): Promise<Phrase> {
  const { AmbiguousLanguage, Phrase } = await loaded(import("../core/crypto/phrase.js"));
  try {
    return await Phrase.parse(words);
  } catch (error) {
    if (!(error instanceof AmbiguousLanguage)) throw error;
    return Phrase.parse(words, error.languages[0]);
  }
}

/** What the organisation could open, and the person's word about it. */
export class Escrow extends Facet {
  // The policy whose text was shown last.
  #shown: Bytes | undefined;

  /** Return who could open the archive, what the person has agreed to, and what is deposited. */
  status(): Promise<Status> {
    return this.use(loadEscrow, (account, escrow) => escrow.status(account));
  }

  /** Return the text that the person agrees to, for the policy in force. */
  consentText(): Promise<string> {
    return this.use(loadEscrow, async (account, escrow) => {
      await escrow.prepare(account);
      const text = await escrow.consentText(account);
      this.#shown = (await account.trusted()).newest.hash;
      return text;
    });
  }

  /** Say, line by line, what the newest policy changes of the one that the person last answered. */
  whatChanged(): Promise<string[]> {
    return this.use(loadEscrow, async (account, escrow) => {
      await escrow.prepare(account);
      return escrow.whatChanged(account);
    });
  }

  /**
   * Sign the person's yes or no to `consentText`. Only they can say it: show them the text first.
   *
   * Rejects with NotYet or Problem for a no to a yes that still binds: `status().consentBoundUntil`; with NotYet when
   * another page took in a newer policy since its text was shown here.
   */
  async consent({ agreed }: { readonly agreed: boolean }): Promise<void> {
    await this.use(loadEscrow, async (account, escrow) => {
      const shown = this.#shown;
      if (shown !== undefined && !equal(shown, (await account.trusted()).newest.hash))
        throw new NotYet("Your organisation's policy has changed since its text was shown. Nothing was signed.", {
          wayOut: "Read it again: client.escrow.consentText()",
        });
      await escrow.consent(account, { agreed });
    });
  }

  /**
   * Deposit the archive keys that are not in escrow yet; returns their generations.
   *
   * Rejects with ConsentNeeded, and NotYet where the organisation's escrow is not set up yet.
   */
  deposit(): Promise<number[]> {
    return this.use(loadEscrow, async (account, escrow) => {
      await escrow.prepare(account);
      await escrow.takeBack(account);
      return (await escrow.depositMissing(account)).map((generation) => generation.number);
    });
  }
}

/** Files encrypted under the person's archive keys. */
export class Archive extends Facet {
  /** Encrypt a file under this month's key. Rejects with ConsentNeeded, MachineError. */
  encrypt(source: Blob, target: Target, of: { readonly advance?: Advance } = {}): Promise<FileDone> {
    return this.use(loadArchive, (account, archive) => archive.encryptFile(account, source, target, of));
  }

  /** Decrypt a file under the key that it names. Rejects with ProfileError without it; TrustRefused if changed. */
  decrypt(source: Blob, target: Target, of: { readonly advance?: Advance } = {}): Promise<FileDone> {
    return this.use(loadArchive, (account, archive) => archive.decryptFile(account, source, target, of));
  }
}

/**
 * An officer's part in cases: what is asked, verified down to each deposit, and their signed answer.
 *
 * Their keys are made in the Python client, and come to this device when one that leads to them brings it in.
 */
export class Officers extends Facet {
  /** Take the officer's keys that came along with `devices.pair` on the other side; returns how many pairs there are. */
  takeKeys(): Promise<number> {
    return this.use(loadOfficersSection, (account, section) => section.takeGiven(account));
  }

  /** Return the cases that this person may see, in the server's word. */
  cases(): Promise<OfficersCase[]> {
    return this.use(loadOfficer, (account, officer) => officer.listCases(account));
  }

  /** Fetch a case and verify all of it. Rejects with TrustRefused when anything does not fit together. */
  see(caseId: string): Promise<CaseView> {
    return this.use(loadOfficer, (account, officer) => officer.see(account, caseId));
  }

  /** Return at which three places (1 to 8) to ask the person for the words of their case: by voice, on no other way. */
  places(view: CaseView): Promise<number[]> {
    return this.use(loadOfficer, (account, officer) => officer.placesFor(account, view));
  }

  /** Sign for exactly this case, and hand over one's share. Rejects with NotPossible, WrongInput and WrongWords. */
  approve(view: CaseView, of: Heard & { readonly identityCheck: string }): Promise<Answered> {
    return this.use(loadOfficer, (account, officer) => officer.approve(account, view, of));
  }

  /** Sign a no, and why: the other officers read it. */
  deny(view: CaseView, of: { readonly reason: string }): Promise<Answered> {
    return this.use(loadOfficer, (account, officer) => officer.deny(account, view, of));
  }

  /** Return the places of the words of the new identity key that the person proposes. Rejects with NotYet. */
  placesOfNewKey(view: CaseView): Promise<number[]> {
    return this.use(loadOfficer, async (account, officer) =>
      officer.placesOfProposal(account, await officer.proposed(account, view)),
    );
  }

  /** Sign that the person holds the new key that they propose, heard as for an approval. Rejects with NotYet. */
  attest(view: CaseView, of: Heard): Promise<void> {
    return this.use(loadOfficer, async (account, officer) =>
      officer.attest(account, view, await officer.proposed(account, view), of),
    );
  }
}

/** What a disclosure is asked for with. */
export interface DisclosureAsked {
  readonly reason: string;
  readonly purpose: string;
  readonly reference?: string;
  /** Ids of deposits: the newest of each generation when none is named. */
  readonly deposits?: readonly string[];
  /** When the disclosure ends; in 60 days when left out. */
  readonly until?: Date;
}

/** What cases open to this device of other people's archives: asked for, read until its end, accounted for. */
export class Disclosures extends Facet {
  /**
   * Ask the officers to open another person's archive to this device; they will ask the person here for words.
   *
   * Rejects with NotPossible when there is nothing to open, Problem where the role may not see what others have in escrow. One
   * case at a time.
   */
  ask(subject: Who, { until, deposits = [], ...of }: DisclosureAsked): Promise<OpenedCase> {
    return this.with(subject, loadByCase, (account, byCase, id) =>
      byCase.openCase(account, {
        ...of,
        subject: id,
        wanted: deposits.map(uuidBytes),
        endsAt: until && Math.floor(until.getTime() / 1000),
      }),
    );
  }

  /** Return how far the case is that this device has open. */
  status(): Promise<CaseStatus> {
    return this.use(loadByCase, (account, byCase) => byCase.status(account));
  }

  /** Collect the release: `Collected.disclosure` is what was opened. Rejects with NotYet, TrustRefused. */
  collect({ waitSeconds = 0 }: Waiting = {}): Promise<Collected> {
    return waitFor(() => this.use(loadByCase, (account, byCase) => byCase.collect(account)), waitSeconds);
  }

  /** Return every disclosure of this profile, ended ones too; what has run out is ended first. */
  all(): Promise<Disclosure[]> {
    return this.use(loadDisclosures, async (account, disclosures) => {
      await disclosures.endDue(account);
      return disclosures.listDisclosures(account);
    });
  }

  /**
   * Decrypt a file of the archive that a case disclosed; the line in its manifest is written first.
   *
   * Rejects with NotPossible after the end and for a file that the case does not open, TrustRefused if it was changed.
   */
  decrypt(
    caseId: string,
    source: Blob,
    target: Target,
    of: { readonly advance?: Advance } = {},
  ): Promise<FileDone> {
    return this.use(loadDisclosures, (account, disclosures) => disclosures.decryptFile(account, uuidBytes(caseId), source, target, of));
  }

  /** Write the custody manifest of a case. `disclosures.readFile` verifies it on any machine. */
  manifest(caseId: string, target: Target): Promise<Disclosure> {
    return this.use(loadDisclosures, (account, disclosures) => disclosures.writeFile(account, uuidBytes(caseId), target));
  }

  /** Destroy the keys of a disclosure now, and close its manifest. */
  end(caseId: string): Promise<Disclosure> {
    return this.use(loadDisclosures, (account, disclosures) => disclosures.end(account, uuidBytes(caseId)));
  }

  /**
   * Take an ended disclosure and its manifest out of the profile.
   *
   * Rejects with NotPossible before it has ended, and before all of its manifest was written to a file.
   */
  forget(caseId: string): Promise<void> {
    return this.use(loadDisclosures, (account, disclosures) => disclosures.forget(account, uuidBytes(caseId)));
  }
}

/** Cases about the person's own archive: one's own, by which keys come back, and those of others, which are forbidden. */
export class Cases extends Facet {
  /** Return the cases that this person may see. */
  all(): Promise<ListedCase[]> {
    return this.use(loadStanding, (account, standing) => standing.listCases(account));
  }

  /**
   * Ask the officers to release one's own archive keys to this device; they will ask for the words returned.
   *
   * One case at a time. Rejects with NotPossible when nothing is in escrow, WrongInput for a purpose that the policy does not
   * know.
   */
  open(of: { readonly reason: string; readonly purpose: string; readonly reference?: string }): Promise<OpenedCase> {
    return this.use(loadByCase, (account, byCase) => byCase.openCase(account, { ...of, subject: account.user }));
  }

  /** Return how far the case is that this device has open. */
  status(): Promise<CaseStatus> {
    return this.use(loadByCase, (account, byCase) => byCase.status(account));
  }

  /** Withdraw the case of this device, or another one in one's own name; returns its id and its state. */
  cancel(of: { readonly reason: string; readonly caseId?: string }): Promise<[caseId: string, state: string]> {
    return this.use(loadByCase, (account, byCase) => byCase.cancel(account, of));
  }

  /** Collect the release. Rejects with NotYet while officers are to answer or the delay runs, TrustRefused. */
  collect({ waitSeconds = 0 }: Waiting = {}): Promise<Collected> {
    return waitFor(() => this.use(loadByCase, (account, byCase) => byCase.collect(account)), waitSeconds);
  }

  /** Begin the account again with what was collected, under a new vault password. Rejects with NotYet. */
  finish(password: string, { waitSeconds = 0 }: Waiting = {}): Promise<Finished> {
    return waitFor(() => this.use(loadByCase, (account, byCase) => byCase.finish(account, { password })), waitSeconds);
  }

  /**
   * Forbid a case about one's own archive, signed by this device, and wait for the proof that the log has it.
   *
   * For whoever did not ask for it. Repeatable: sent again, it only proves. Rejects with NotPossible for a case about somebody
   * else, TrustRefused when the proof shows something else than this veto.
   */
  veto(caseId: string, { reason, waitSeconds = 0 }: Waiting & { readonly reason: string }): Promise<Vetoed> {
    return this.use(() => loaded(import("./recovery/vetoes.js")), (account, vetoes) => vetoes.veto(account, caseId, { reason, waitSeconds }));
  }
}

/** Acts of administration, for whoever may do them: looked at in the server's words, done with a one-time code. */
export class Organisation extends Facet {
  /** Return the organisation's people by name. search: a part of name or address. */
  people(of: { search?: string; role?: string; state?: string } = {}): Promise<organisation.ListedPerson[]> {
    return this.use(loadOrganisation, (account, acts) => acts.people(account, of));
  }

  /** Return the acts that this person may do, and what has to be given for each. */
  acts(): Promise<organisation.ActKind[]> {
    return this.use(loadOrganisation, (account, acts) => acts.acts(account));
  }

  /**
   * Return what an act would do, in words to show to the person; nothing is done.
   *
   * subject: the id of whom or what it is about; of a person, the e-mail address, too. given: the act's fields.
   */
  look(
    act: string,
    { subject, given = {} }: { readonly subject?: Who; readonly given?: Readonly<Record<string, string>> } = {},
  ): Promise<organisation.Look> {
    return this.use(loadOrganisation, async (account, acts) => {
      const about = subject === undefined ? undefined : await acts.findPerson(account, subject);
      return acts.look(account, act, about, given);
    });
  }

  /**
   * Do what was shown, by the authenticator's present code; where it takes two persons, propose it to a second.
   *
   * Keep `once` when there is one: nobody can show it again. Rejects with Problem when nothing was done, and Unreachable when
   * nobody knows here.
   */
  perform(seen: organisation.Look, code: string): Promise<organisation.Done> {
    return this.use(loadOrganisation, (account, acts) => acts.perform(account, seen, code));
  }

  /**
   * Have a CSV file of people read: whom it would invite is counted, and every bad line named. Invites nobody.
   *
   * text: name, email, role, of at most 2 MiB as it is sent. Within the hour they are invited by the act `people-import`,
   * whose subject is `importId`.
   */
  readPeople(text: string): Promise<organisation.ReadFile> {
    return this.use(loadOrganisation, (account, acts) => acts.readPeople(account, text));
  }

  /** Return how far a file of people is that was read, confirmed or done within the last week. */
  importProgress(importId: string): Promise<organisation.ImportProgress> {
    return this.use(loadOrganisation, (account, acts) => acts.importProgress(account, importId));
  }

  /** Return the acts that wait for a second person. */
  pending(): Promise<organisation.PendingAct[]> {
    return this.use(loadOrganisation, (account, acts) => acts.pending(account));
  }

  /** Return what a waiting act would do now, in words to show to the person. */
  lookPending(pending: string): Promise<organisation.PendingLook> {
    return this.use(loadOrganisation, (account, acts) => acts.lookPending(account, pending));
  }

  /** Be the second person behind a waiting act. Rejects as `perform` does. */
  confirm(seen: organisation.PendingLook, code: string): Promise<organisation.Done> {
    return this.use(loadOrganisation, (account, acts) => acts.confirm(account, seen, code));
  }

  /** Take a waiting act back. */
  withdraw(pending: string): Promise<void> {
    return this.use(loadOrganisation, (account, acts) => acts.withdraw(account, pending));
  }
}

/** The organisation's logs, for whoever may read them. */
export class Audit extends Facet {
  /**
   * Return a whole log as a file, verified: held to the tenant root pinned here and to the head seen last.
   *
   * begun: an empty `Begun`; handed in again after a line that broke, a long log goes on where it stopped. Rejects with
   * LogRefused, whose `file` is evidence, when it does not hold.
   */
  export(of: { log?: Log; tell?: Tell; begun?: Begun } = {}): Promise<Exported> {
    return this.use(() => loaded(import("./auditor/log.js")), (account, log) => log.exportLog(account, of));
  }

  /** Return the tenant root's key, to be handed to auditors; undefined where this profile was not pinned to one. */
  rootKey(): Promise<string | undefined> {
    return this.use(() => loaded(import("./auditor/log.js")), async (account, log) => log.rootKey(account));
  }
}
