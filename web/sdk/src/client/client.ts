// SPDX-License-Identifier: Apache-2.0
/**
 * One person's device as an app sees it: open it, and send, receive, keep, recover, without touching a key.
 *
 * The protocol's acts by calling the module of each subject. Holds no rule of its own, and shows no interface: what a person
 * must see or say, the app shows and asks.
 */
import { type Bytes, EMPTY } from "../core/base/bytes.js";
import { uuidBytes, uuidText } from "../core/base/uuids.js";
import { DEFAULT_SUITE, type Suite } from "../core/crypto/suites.js";
import { Reason } from "../core/identity/entries.js";
import type { LargeReference } from "../core/messages/content.js";
import { Sign1 } from "../core/signed/cose.js";
import { type EnrolmentCode, parseCode } from "../core/signed/enrolment.js";
import { NotPossible } from "./errors.js";
import {
  Archive, Audit, Backup, both, Cases, Contacts, Devices, Disclosures, Escrow, loadAddresses, loadContacts, loadDevices,
  isNotLoaded, loaded, loadLetters, loadPreKeys, loadStanding, nothing, notLoaded, Officers, Organisation, Recover,
  type Use,
} from "./facets.js";
import type { Who } from "./identity/addresses.js";
import type { Enrolment } from "./identity/device.js";
import type { Done } from "./maintenance.js";
import type { Notice } from "./messages/letters.js";
import type { Received, Report, Sent, Unconfirmed } from "./messages/messages.js";
import { Account, create, openStore, remove } from "./profile/account.js";
import { type Keeping, keeping } from "./profile/keeping.js";
import { State } from "./profile/state.js";
import { STATE } from "./profile/state_rows.js";
import { IndexedDbStore, type Store } from "./profile/store.js";
import type { Progress, Wanted, What } from "./rotation/rotation.js";
import type { Clock } from "./server/clock.js";
import { checkServer, type Fetch } from "./server/transport.js";

/** The profile that is meant when none is named. */
export const DEFAULT_PROFILE = "holdfast";
// Longer than an honest call of another page takes; what waits for people gives the profile back meanwhile.
const WAIT_SECONDS = 60;

const loadMessages = () => loaded(import("./messages/messages.js"));

/** How a client comes to its profile and its server. */
export interface Connection {
  /** How long a call waits while another page has the profile: 60 unless given. */
  readonly waitSeconds?: number;
  /** In the place of the browser's own. */
  readonly fetch?: Fetch;
  /** In the place of this machine's own. */
  readonly clock?: Clock;
}

/** How a device enrols. */
export interface EnrolOptions extends Connection {
  /** The name of a profile in this browser, which is made; or a store of the app's own. */
  readonly profile?: string | Store;
  /** What to call the device; the browser's name when left out. */
  readonly name?: string;
  readonly suite?: Suite;
  /** Accept a tenant whose HSM is software, as `make up` makes it; never in production. */
  readonly isDevelopment?: boolean;
}

/** One message that was received. It is handed out again by every `receive` until `done` is called. */
export class Message {
  /** 16 bytes, the same on every device of the recipient. */
  readonly id: Bytes;
  /** Who sent it: an id, from `device`, as its session proves. */
  readonly sender: string;
  readonly device: string;
  /** The sender, or in a copy that another own device sent the person it went to. */
  readonly conversation: string;
  /** Up to 1,000,000 bytes; empty where `reference` names content that the app keeps elsewhere. */
  readonly content: Bytes;
  readonly reference: LargeReference | undefined;
  /** The sender's word. */
  readonly sentAt: Date;
  /** The server's word. */
  readonly receivedAt: Date;
  readonly isCopy: boolean;
  /** Whether it began a session without a one-time pre-key. */
  readonly isLastResort: boolean;
  readonly #done: () => Promise<void>;

  /** Of `Client.receive` only. */
  constructor(received: Received, done: () => Promise<void>) {
    this.id = received.id;
    this.sender = uuidText(received.sender);
    this.device = uuidText(received.device);
    this.conversation = uuidText(received.conversation);
    this.content = received.body;
    this.reference = received.reference;
    this.sentAt = new Date(received.sentAt * 1000);
    this.receivedAt = new Date(received.receivedAt * 1000);
    this.isCopy = received.isCopy;
    this.isLastResort = received.isLastResort;
    this.#done = done;
  }

  /** The content as UTF-8. Throws a TypeError for other bytes. It is the sender's word: quote it. */
  get text(): string {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.content);
  }

  /** Say that the app has kept it: it is destroyed here, and not handed out again. */
  done(): Promise<void> {
    return this.#done();
  }
}

/**
 * One person's device. Make one with `Client.enrol` or `Client.open`, and close it.
 *
 * What a method did is durable when its promise is fulfilled: a crash loses and repeats nothing. Every method may be called at
 * any time; calls wait for each other, and for those of other pages that have the same profile open. A callback that a call
 * is given must not wait for another call.
 *
 * Refusals are `ClientError`: each says what is wrong, and in `wayOut` what a person can do. Where bytes are not what they
 * claim to be, they are `HoldfastError`.
 */
export class Client {
  #account: Account | undefined;
  #last: Promise<unknown> = Promise.resolve();
  // Whether what is in memory may differ from the store: nothing is done on it, and so nothing written, until it was read.
  #isBehind = false;
  readonly #waitSeconds: number;
  readonly #enrolment: Enrolment | undefined;
  /** The organisation's id. */
  readonly tenant: string;
  /** The person's id, as others address them. */
  readonly user: string;
  /** Which devices are the person's, and how another one comes in and goes out. */
  readonly devices: Devices;
  /** The people that the person writes to, and how to make sure of them. */
  readonly contacts: Contacts;
  /** Ways back to the keys, made while there is still a device. */
  readonly backup: Backup;
  /** Those ways, on a device that does not hold the keys. */
  readonly recover: Recover;
  /** Who could open the archive with the person's organisation, and their yes or no to it. */
  readonly escrow: Escrow;
  /** Files under the person's archive keys. */
  readonly archive: Archive;
  /** What cases open of other people's archives, until their end. */
  readonly disclosures: Disclosures;
  /** Cases about the person's own archive: asked for, or forbidden. */
  readonly cases: Cases;
  /** An officer's part in the cases of others, for whoever is one. */
  readonly officers: Officers;
  /** People, roles and devices administered, for whoever may. */
  readonly organisation: Organisation;
  /** The organisation's logs, for whoever may read them. */
  readonly audit: Audit;

  /** Take an open account that is connected. Apps use `enrol` and `open`. */
  constructor(account: Account, of: { readonly waitSeconds?: number; readonly enrolment?: Enrolment } = {}) {
    this.#account = account;
    this.#waitSeconds = of.waitSeconds ?? WAIT_SECONDS;
    this.#enrolment = of.enrolment;
    this.tenant = uuidText(account.tenant);
    this.user = account.userText;
    this.devices = new Devices(this.#use);
    this.contacts = new Contacts(this.#use);
    this.backup = new Backup(this.#use);
    this.recover = new Recover(this.#use);
    this.escrow = new Escrow(this.#use);
    this.archive = new Archive(this.#use);
    this.disclosures = new Disclosures(this.#use);
    this.cases = new Cases(this.#use);
    this.officers = new Officers(this.#use);
    this.organisation = new Organisation(this.#use);
    this.audit = new Audit(this.#use);
  }

  // Opening and closing

  /**
   * Make a device's keys and register them by the single-use code an officer gave the person.
   *
   * server: its address, https unless it is this machine. The first device of a person begins their account; `isActive` says
   * so. A later one is pending: `recover` brings it in. After a lost connection, call it again with the same code and
   * profile: nothing is made twice.
   *
   * Rejects with TrustRefused when the server is not the one that the code pins, MachineError when the profile cannot be
   * made, WrongInput when it is another person's, Problem for a code that is used up.
   */
  static async enrol(server: string, code: string, of: EnrolOptions = {}): Promise<Client> {
    const { profile = DEFAULT_PROFILE, suite = DEFAULT_SUITE, isDevelopment = false } = of;
    const { waitSeconds = WAIT_SECONDS } = of;
    checkServer(server);
    const parsed = parseCode(code), store = await storeFor(profile, parsed);
    const begin = async (account: Account): Promise<Enrolment> => {
      await account.connect(server, of);
      const [device, prekeys] = await both(loadDevices, loadPreKeys)();
      const done = await device.enrol(account, parsed, { name: of.name || browserName(), suite, isDevelopment });
      if (done.isActive) await prekeys.publish(account);
      return done;
    };
    return closingOnFailure(store, () =>
      store.locked(async () => {
        const account = await accountIn(store);
        return new Client(account, { waitSeconds, enrolment: await begin(account) });
      }, waitSeconds),
    );
  }

  /**
   * Open a profile that was enrolled before, and address its server.
   *
   * profile: its name in this browser, or a store of the app's own. Rejects with ProfileError when there is no profile or
   * the browser has cleared it away, ProfileBusy when another page has it for too long.
   */
  static async open(profile: string | Store = DEFAULT_PROFILE, of: Connection = {}): Promise<Client> {
    const { waitSeconds = WAIT_SECONDS } = of;
    const store = typeof profile === "string" ? await IndexedDbStore.open(profile) : profile;
    return closingOnFailure(store, () =>
      store.locked(async () => {
        await store.refresh();
        const account = await openStore(store);
        await account.connect("", of);
        return new Client(account, { waitSeconds });
      }, waitSeconds),
    );
  }

  /**
   * Remove a profile from this browser with all that is in it, for every page. What its device published stays with the
   * server: revoke it on another device.
   */
  static remove(profile = DEFAULT_PROFILE): Promise<void> {
    return remove(profile);
  }

  /**
   * Close the profile and the connection, after the calls that are under way.
   *
   * A closed client refuses everything; closing it again does nothing.
   */
  close(): Promise<void> {
    const end = async (): Promise<void> => {
      const account = this.#account;
      this.#account = undefined;
      await account?.close();
    };
    return this.#inTurn(end);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Give the account to one caller at a time, over all pages, as it stands in the store. */
  readonly #use: Use = (load, work) =>
    this.#inTurn(async () => {
      const account = this.#account;
      if (account === undefined)
        throw new NotPossible("This client is closed.", { wayOut: "Open the profile again: Client.open()" });
      const part = await load(), { store } = account;
      return store.locked(async () => {
        if (await store.refresh()) this.#isBehind = true;
        if (this.#isBehind) await account.reload();
        this.#isBehind = false;
        const { undone } = store;
        try {
          return await work(account, part);
        } catch (error) {
          // What was to be written is not there: what is in memory of it goes as well. Of a store that is gone nothing can
          // be read, and the error says why; the next call reads first.
          if (store.undone !== undone) {
            this.#isBehind = true;
            await account.reload().then(
              () => (this.#isBehind = false),
              () => undefined,
            );
          }
          throw isNotLoaded(error) ? notLoaded(error) : error;
        }
      }, this.#waitSeconds);
    });

  // Messages

  /**
   * Send up to 1,000,000 bytes, or text as UTF-8, to every device of a person, by id or e-mail address, and to one's own
   * others.
   *
   * Kept durably before anything leaves: when the server cannot be reached, `Sent.isSent` is false, and the next `send` or
   * `maintain` sends it. messageId: 16 random bytes of an app that keeps its own list of what is to be sent; sent again under
   * the same one, a message still arrives once. Rejects with PeerChanged until the person's new beginning was confirmed by a
   * human (`contacts.confirm`), AddressChanged for an address that is not whose it was, TrustRefused when something does not
   * hold, TooLarge; Unreachable for an address never looked up before; a RangeError for a messageId of another size.
   */
  send(user: Who, content: Uint8Array | string, of: { readonly messageId?: Bytes } = {}): Promise<Sent> {
    // Copies, of a Node Buffer too, whose own slice() is none: the caller may change both while this waits its turn.
    const octets = typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
    const messageId = of.messageId && new Uint8Array(of.messageId);
    return this.#use(both(loadMessages, loadAddresses), async (account, [messages, addresses]) =>
      messages.send(account, uuidBytes(await addresses.personOf(account, user)), octets, messageId && { messageId }),
    );
  }

  /**
   * Fetch what waits, and return every message that is not `done`, oldest first.
   *
   * One that does not open holds up no other; it is in `reports`. Rejects with Unreachable and Problem.
   */
  receive(): Promise<Message[]> {
    return this.#use(loadMessages, async (account, messages) =>
      (await messages.receive(account)).map((one) => new Message(one, () => this.#use(nothing, () => one.done()))),
    );
  }

  /**
   * Return what was sent and not every device has confirmed, oldest first.
   *
   * A device confirms a message once its app has said `done`. Until then it is kept in this profile, for 30 days and 64 MiB
   * in all, and sent again to a device that could not read it. What no device has confirmed by then is in `reports`. The app
   * does nothing for it.
   */
  unconfirmed(): Promise<Unconfirmed[]> {
    return this.#use(loadMessages, (account, messages) => messages.unconfirmed(account));
  }

  /** Return what the person must hear of: what did not open, keys used twice, histories that were hidden. */
  reports(): Promise<Report[]> {
    return this.#use(both(loadMessages, loadStanding), async (account, [messages, standing]) => {
      const found = await messages.reports(account);
      await standing.noteShown(account, found.map((report) => report.id));
      // Each is put away like any other call: in its turn, and with the profile held.
      for (const report of found) {
        const done = report.done.bind(report);
        report.done = () => this.#use(nothing, done);
      }
      return found;
    });
  }

  /** Return what the server says has happened to the account, such as a door of the vault that was read. */
  notices(): Promise<Notice[]> {
    return this.#use(both(loadLetters, loadStanding), async (account, [letters, standing]) => {
      const found = await letters.notices(account);
      await standing.noteShown(account, found.map((notice) => notice.id));
      return found;
    });
  }

  /**
   * Put away what the person has read, of what `reports`, `notices` and `maintain` returned; returns how many.
   *
   * What came since stays.
   */
  putAwaySeen(): Promise<number> {
    return this.#use(loadStanding, (account, standing) => standing.putAwaySeen(account));
  }

  // Care

  /**
   * Do all that is due, and say for each part what was done, what failed, and what needs the person.
   *
   * Call it when the app starts and once a day: it takes what own devices sent, tops up pre-keys, rotates monthly, saves the
   * keyring, and destroys old keys in time. A part that fails stops no other.
   */
  maintain(): Promise<Done[]> {
    const load = both(() => loaded(import("./maintenance.js")), loadStanding);
    return this.#use(load, async (account, [maintenance, standing]) => {
      const report = await maintenance.maintain(account);
      await standing.noteShown(account, report.flatMap((done) => done.kept ?? []));
      return report;
    });
  }

  /**
   * Replace keys now: of "identity", "device", "vault", "archive"; without more, all but the device's own.
   *
   * of: the reason, and devices to take out of the account, which read nothing written from then on. History stays readable.
   * Interrupted, it is carried on by the next `maintain`. `Progress.needs` names the doors that the
   * person has to set again. Rejects with ProfileError on a device that is not in the account, NotPossible where it may not.
   */
  rotate(what?: readonly What[], of: Partial<Wanted> = {}): Promise<Progress> {
    return this.#use(() => loaded(import("./rotation/rotation.js")), (account, rotation) =>
      rotation.rotate(account, what ?? rotation.EVERYTHING, { reason: Reason.USER_REQUEST, ...of }),
    );
  }

  // Who and what

  /** Return this device's id. */
  device(): Promise<string> {
    return this.#use(nothing, async (account) => account.deviceText);
  }

  /** Tell whether this device is part of the account, as of what it last heard; a pending one sends nothing. */
  isActive(): Promise<boolean> {
    return this.#use(nothing, async (account) => account.device.isActive);
  }

  /** Return the 8 words of this device, which the person compares when another device of theirs brings it in. */
  words(): Promise<readonly string[]> {
    return this.#use(loadDevices, async (account, device) =>
      device.deviceWords(Sign1.parse(account.device.statement)),
    );
  }

  /** Return the 8 words of the account's identity key, which contacts hear from the person after a new beginning. */
  identityWords(): Promise<readonly string[]> {
    return this.#use(loadContacts, async (account, contacts) => contacts.identityWords(await account.chain()));
  }

  /** Tell how this browser keeps the profile: for good, or until it wants the room. */
  keeping(): Promise<Keeping> {
    return keeping();
  }

  /** How the enrolment ended, in the client that enrolled; undefined in one that was opened later. */
  get enrolment(): Enrolment | undefined {
    return this.#enrolment;
  }
}

/** Return the profile of a name, made if there is none; or the store itself. */
async function storeFor(profile: string | Store, code: EnrolmentCode): Promise<Store> {
  if (typeof profile !== "string") return profile;
  try {
    return (await create(profile, { tenant: code.tenant, user: code.person })).store;
  } catch (error) {
    // There is one: of an enrolment that was broken off, or of another person, which `device.enrol` sees.
    if (error instanceof NotPossible) return IndexedDbStore.open(profile);
    throw error;
  }
}

/** Return the account in a store; a fresh one in a store that has none yet. */
async function accountIn(store: Store): Promise<Account> {
  await store.refresh();
  if ((await store.get(STATE, EMPTY)) !== undefined) return openStore(store);
  const account = new Account(store, new State());
  await account.save();
  return account;
}

async function closingOnFailure(store: Store, work: () => Promise<Client>): Promise<Client> {
  try {
    return await work();
  } catch (error) {
    await store.close();
    throw isNotLoaded(error) ? notLoaded(error) : error;
  }
}

/** Return what a device is called that nobody has named: the browser and the system, where the browser says them. */
function browserName(): string {
  const said = (globalThis.navigator as { userAgentData?: { brands?: { brand: string }[]; platform?: string } } | undefined)
    ?.userAgentData;
  const brand = said?.brands?.map((one) => one.brand).find((one) => !/not.?a.?brand/i.test(one)) ?? "Browser";
  return said?.platform ? `${brand} on ${said.platform}` : brand;
}
