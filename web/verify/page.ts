// SPDX-License-Identifier: Apache-2.0
/** The page: what is given, how far the work is, the verdict, and the entries. Others' texts reach it as text alone. */
import { Verdict } from "../sdk/src/client/auditor/auditor.js";
import { writtenOut } from "../sdk/src/core/base/text.js";
import { byId, facts, made, others, say } from "./dom.js";
import { type Filter, type Row, utc } from "./entries.js";
import { headsIn, keyIn } from "./given.js";
import type { Asked, Told, Verified } from "./messages.js";
import { dayStart, local, zone } from "./times.js";
import { type Shown, verdictOf } from "./verdict.js";
import { LOOKS, reasonOf } from "./words.js";

const SAY_EVERY = 2000; // milliseconds between two words to a screen reader of how far it is

/** Make workers of this page's own script. script: its text, which the page's policy has let run. */
function workers(script: string): () => Worker {
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  // The one address that this page may run beside itself.
  const types = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
  const policy = types?.createPolicy("holdfast-worker", { createScriptURL: (given) => (given === address ? given : "") });
  return () => new Worker((policy?.createScriptURL(address) ?? address) as string);
}

/** What TypeScript's own library does not know yet. https://www.w3.org/TR/trusted-types/ */
interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(given: string): string }): { createScriptURL(given: string): unknown };
}

/** Begin with an empty page. */
export function begin(script: string): void {
  new Page(workers(script));
}

/** What is asked to be verified. */
interface Given {
  readonly file: File;
  readonly trust: string | undefined;
  readonly saved: readonly string[];
}

class Page {
  readonly #form = byId("given", "form");
  readonly #file = byId("file", "input");
  readonly #fileError = byId("file-error", "p");
  readonly #trust = byId("trust", "textarea");
  readonly #trustError = byId("trust-error", "p");
  readonly #work = byId("work", "section");
  readonly #share = byId("share", "progress");
  readonly #far = byId("far", "p");
  readonly #failed = byId("failed", "p");
  readonly #outcome = byId("outcome", "p");
  readonly #verdict = byId("verdict", "section");
  readonly #entries = byId("entries", "section");
  readonly #rows = byId("rows", "ol");
  readonly #more = byId("more", "button");
  readonly #count = byId("count", "p");
  #worker: Worker | undefined;
  #given: Given | undefined;
  #run = 0;
  #filter: Filter | undefined;
  #shown = 0;
  #saves = 0;
  #done = 0;
  #isAgain = false;
  #said = 0;

  constructor(private readonly newWorker: () => Worker) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#verify();
    });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#drop(event.dataTransfer?.files);
    });
    byId("cancel", "button").addEventListener("click", () => this.#cancel());
    byId("filter", "form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#find();
    });
    this.#more.addEventListener("click", () => {
      // Two at once would take turns at one search, and neither would be in order.
      if (this.#more.hidden) return;
      this.#more.hidden = true;
      this.#ask({ ask: "more", run: this.#run });
    });
    byId("csv", "button").addEventListener("click", () => this.#save());
    byId("print", "button").addEventListener("click", () => window.print());
    byId("zone", "p").textContent = `Days and times are in your time zone, ${zone()}. Each entry has its time in UTC as well.`;
  }

  #drop(files: FileList | undefined): void {
    if (files === undefined || files.length === 0) return;
    if (files.length > 1) return say(this.#fileError, "One log at a time, please.");
    say(this.#fileError, "");
    this.#file.files = files;
    byId("drop", "div").scrollIntoView({ block: "nearest" });
    this.#file.focus();
  }

  #verify(): void {
    const file = this.#file.files?.[0];
    if (file === undefined) return;
    this.#stop();
    for (const part of [this.#verdict, this.#entries]) part.hidden = true;
    for (const text of [this.#failed, this.#trustError, this.#fileError]) say(text, "");
    this.#trust.removeAttribute("aria-invalid");
    this.#outcome.textContent = "";
    this.#given = { file, trust: keyIn(this.#trust.value), saved: headsIn(byId("saved", "textarea").value) };
    [this.#done, this.#isAgain, this.#said] = [0, false, 0];
    this.#work.hidden = false;
    this.#share.value = 0;
    this.#far.textContent = "Reading the file.";
    byId("cancel", "button").focus();
    let worker: Worker;
    try {
      worker = this.#worker = this.newWorker();
    } catch (error) {
      return this.#fail(error instanceof Error ? error.message : "");
    }
    // What one of before still has to say is of another file.
    worker.addEventListener("message", (event: MessageEvent<Told>) => {
      if (worker === this.#worker) this.#hear(event.data);
    });
    worker.addEventListener("error", (event) => {
      if (worker === this.#worker) this.#fail(event.message);
    });
    this.#ask({ ask: "verify", ...this.#given });
  }

  #ask(asked: Asked): void {
    this.#worker?.postMessage(asked);
  }

  #stop(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#work.hidden = true;
  }

  #cancel(): void {
    this.#stop();
    this.#outcome.textContent = "Cancelled. Nothing was verified.";
    this.#file.focus();
  }

  #fail(why: string): void {
    this.#stop();
    // Nothing can be asked of it any more.
    this.#entries.hidden = true;
    say(this.#failed, `This could not be done: ${why || "the browser gave no reason"}. Has the file changed or moved? Choose it again.`);
  }

  #hear(told: Told): void {
    switch (told.told) {
      case "unpacking":
        return this.#tell(told.share, "Unpacking the file");
      case "checking":
        // From the beginning again: something is wrong, and the first that is has to be found.
        this.#isAgain ||= told.done < this.#done;
        this.#done = told.done;
        return this.#tell(
          told.size > 0 ? told.done / told.size : 0,
          `${this.#isAgain ? "Something is wrong. Looking for the first entry that is" : "Checking"}: ` +
            `${told.done.toLocaleString("en")} of ${told.size.toLocaleString("en")} entries`,
        );
      case "no key":
        this.#stop();
        this.#trust.setAttribute("aria-invalid", "true");
        say(this.#trustError, `This is no verifier key (${told.why}). Copy it whole: name, a plus, eight signs, a plus, and the key.`);
        return this.#trust.focus();
      case "verified":
        return this.#conclude(told);
      case "rows":
        if (told.run === this.#run) this.#show(told.rows, told.isEnd, told.fault);
        return;
      case "reading":
        if (told.run === this.#run) this.#count.textContent = `Looking: ${told.index.toLocaleString("en")} entries so far.`;
        return;
      case "csv":
        if (told.run === this.#saves) this.#handOver(told.file, told.count, told.fault);
        return;
      case "failed":
        return this.#fail(told.why);
    }
  }

  #tell(share: number, words: string): void {
    const percent = Math.min(100, Math.floor(share * 100));
    this.#share.value = percent;
    const now = performance.now();
    // Spoken text is not changed more often than it can be said.
    if (now - this.#said < SAY_EVERY && this.#said > 0) return;
    this.#said = now;
    this.#far.textContent = `${words}, ${percent} %.`;
  }

  #conclude({ report, isCut, canBeRead }: Verified): void {
    const given = this.#given as Given;
    this.#work.hidden = true;
    const shown: Shown = {
      report, isCut, name: given.file.name, size: given.file.size, heads: given.saved.length, trust: given.trust,
    };
    const { heading, parts } = verdictOf(shown), look = LOOKS[report.verdict];
    this.#verdict.className = `card verdict verdict--${look.tone}`;
    this.#verdict.replaceChildren(...parts);
    this.#verdict.hidden = false;
    this.#outcome.textContent = `${look.word}. ${look.title} ${writtenOut(reasonOf(report))}`;
    document.title = `${look.word}: ${writtenOut(given.file.name)} · Holdfast`;
    this.#entries.hidden = !canBeRead;
    byId("not-proven", "p").hidden = report.verdict !== Verdict.BROKEN;
    heading.focus();
    if (canBeRead) this.#find();
  }

  #find(): void {
    const text = (id: string): string => byId(id, "input").value.trim();
    this.#filter = {
      tag: text("tag"), actor: text("actor"), person: text("person"), subject: text("subject"),
      from: dayStart(text("from")), until: dayStart(text("until"), 1),
    };
    // Said beside the entries as well: on paper the filter is not there.
    const only = ["tag", "actor", "person", "subject", "from", "until"].flatMap((id) => {
      const { value, labels } = byId(id, "input");
      return value.trim() === "" ? [] : [`${labels?.[0]?.textContent ?? id}: “${value.trim()}”`];
    });
    say(byId("only", "p"), only.length > 0 ? `Only entries with ${only.join(", ")}.` : "");
    this.#rows.replaceChildren();
    this.#shown = 0;
    this.#more.hidden = true;
    this.#count.textContent = "Looking.";
    this.#ask({ ask: "find", run: ++this.#run, filter: this.#filter });
  }

  #show(rows: readonly Row[], isEnd: boolean, fault: string): void {
    const items = rows.map(entryOf);
    this.#rows.append(...items);
    this.#shown += rows.length;
    this.#more.hidden = isEnd;
    const count = this.#shown.toLocaleString("en"), entries = this.#shown === 1 ? "entry" : "entries";
    const end = fault !== "" ? `. It goes no further: ${fault}` : isEnd ? ", and there are no more" : ", and there may be more";
    this.#count.textContent = this.#shown === 0 && isEnd && fault === "" ? "No entry is like this." : `${count} ${entries} shown${end}.`;
    // Whoever asked for more goes on reading where they were.
    if (this.#shown > rows.length) items[0]?.focus();
  }

  #save(): void {
    if (this.#filter === undefined) return;
    this.#count.textContent = "Writing the file.";
    this.#ask({ ask: "csv", run: ++this.#saves, filter: this.#filter });
  }

  #handOver(file: Blob, count: number, fault: string): void {
    const link = made("a", "");
    link.href = URL.createObjectURL(file);
    // What is copied of a broken file says so by its name: within, nothing does.
    const mark = byId("not-proven", "p").hidden ? "" : "-unproven";
    link.download = `${(this.#given as Given).file.name.replace(/(\.jsonl)?(\.gz)?$/, "")}${mark}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    this.#count.textContent =
      `Saved ${count.toLocaleString("en")} ${count === 1 ? "entry" : "entries"} as ${writtenOut(link.download)}` +
      `${fault === "" ? "" : `. It goes no further: ${fault}`}. A copy proves nothing by itself: keep the export.`;
  }
}

function entryOf(row: Row): HTMLElement {
  const item = made("li", "entry"), title = made("h3", "", made("span", "num", `Entry ${row.index}`), " ");
  item.tabIndex = -1;
  if (row.isWithheld) title.append(made("span", "badge badge--wait", "withheld"));
  else title.append(others(row.tag || "unreadable", "mono"));
  const said: (readonly [string | Node, string | Node])[] = [];
  if (row.time !== undefined) said.push(["Time", `${local(row.time)} (${utc(row.time)})`]);
  const texts = [["By", row.actor], ["Person", row.person], ["About", row.subject], ["Id", row.id]] as const;
  for (const [name, value] of texts) if (value !== "") said.push([name, others(value, "mono")]);
  for (const [name, value] of row.body) said.push([others(name, "mono"), others(value, "mono")]);
  if (row.writer !== "") said.push(["Written by", others(row.writer, "mono")]);
  said.push(["Hash", others(row.leafHash, "mono")]);
  item.append(title, facts(...said));
  return item;
}
