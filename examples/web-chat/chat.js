// SPDX-License-Identifier: Apache-2.0
/**
 * A chat of people in browsers: the built SDK, this module, and a page. No framework, no build.
 *
 * What others wrote is put on the page by textContent alone, and their files are handed over as downloads: nothing of theirs
 * becomes markup, address or script here.
 */
import { Client, ClientError, HoldfastError, ProfileError, Unreachable } from "./holdfast/holdfast.js";
import { Lines } from "./lines.js";

const SERVER = document.body.dataset.server;
// Two people can try it in one browser: ?as=alice and ?as=bob are two profiles.
const PROFILE = `chat-${new URLSearchParams(location.search).get("as") ?? "me"}`;
const DAY = 86_400_000, LARGEST = 900_000;
const $ = (id) => document.getElementById(id);

let client, lines, peer = "", phrase, addresses = new Map(), maintainedAt = 0;

// The page

function show(id) {
  for (const one of ["opening", "enrol", "back", "chat"]) $(one).hidden = one !== id;
  $("backup").hidden = id !== "chat";
  $(id).querySelector("textarea, input")?.focus();
}

function make(tag, text, of = {}) {
  const made = Object.assign(document.createElement(tag), of);
  made.textContent = text;
  return made;
}

/** Do something for the person. What does not work is said, with what helps; meanwhile its button waits. */
async function attempt(work, button) {
  const problem = $("phrase").open ? $("phrase-problem") : $("problem");
  problem.hidden = true;
  if (button) button.disabled = true;
  try {
    await work();
  } catch (error) {
    const isKnown = error instanceof ClientError || error instanceof HoldfastError;
    problem.textContent = isKnown ? `${error.message} ${forPeople(error.wayOut)}` : `This page has a fault: ${error.message}`;
    problem.hidden = false;
  } finally {
    if (button) button.disabled = false;
  }
}

/** A way out that names a call of the SDK is for this module: its person has buttons. */
const forPeople = (wayOut = "") => (wayOut.includes("client.") ? "" : wayOut);

function onSubmit(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt(() => work(new FormData(event.target)), event.submitter);
  });
}

function onClick(id, work) {
  $(id).addEventListener("click", (event) => void attempt(work, event.target));
}

// Coming in

async function begin() {
  try {
    client = await Client.open(PROFILE);
  } catch (error) {
    show("enrol");
    if (!(error instanceof ProfileError)) throw error;
    return;
  }
  await enter();
}

async function enter() {
  if (!(await client.isActive())) return show("back");
  lines = await Lines.open(PROFILE);
  show("chat");
  await showPeople();
  void follow();
}

onSubmit("enrol-form", async (form) => {
  // A tenant whose HSM is software is taken on this machine alone, where `make up` makes one.
  const isDevelopment = ["127.0.0.1", "localhost"].includes(new URL(SERVER).hostname);
  client = await Client.enrol(SERVER, form.get("code").trim(), { profile: PROFILE, isDevelopment });
  $("enrol-form").reset();
  await enter();
});

onSubmit("back-form", async (form) => {
  const { devices } = await client.recover.byPhrase(form.get("words"));
  for (const { device, name } of devices) {
    const label = make("label", ` ${name || device}`);
    label.prepend(make("input", "", { type: "checkbox", name: "lost", value: device, checked: true }));
    $("lost").append(label);
  }
  $("back-form").reset();
  [$("back-form").hidden, $("lost-form").hidden] = [true, false];
  $("lost-form").querySelector("input, button").focus();
});

onSubmit("lost-form", async (form) => {
  await client.recover.finish({ lost: form.getAll("lost") });
  await enter();
});

// Messages: each is kept here before it is said to be done, so that none is lost and none comes twice

const NAMED_FILE = 0; // A content that begins with this octet is a file: its name follows, this octet again, and its bytes.

function asLine(message) {
  const { content } = message, end = content[0] === NAMED_FILE ? content.indexOf(NAMED_FILE, 1) : 0;
  const name = end > 0 ? new TextDecoder().decode(content.subarray(1, end)) : "";
  const body = end > 0 ? content.slice(end + 1) : content;
  const id = Array.from(message.id, (octet) => octet.toString(16).padStart(2, "0")).join("");
  return { id, peer: message.conversation, isOwn: message.isCopy, at: message.sentAt.getTime(), name, body };
}

async function receive() {
  for (const message of await client.receive()) {
    const line = asLine(message);
    await lines.put(line);
    await message.done();
    if (line.peer === peer) await showLine(line);
    else if (!line.isOwn) await showPeople(line.peer);
  }
}

async function send(name, body) {
  const content = new Uint8Array([...(name ? [NAMED_FILE, ...new TextEncoder().encode(name), NAMED_FILE] : []), ...body]);
  const { id } = await client.send(peer, content);
  const line = asLine({ id, content, conversation: peer, isCopy: true, sentAt: new Date() });
  await lines.put(line);
  await showLine(line);
}

onSubmit("send-form", async (form) => {
  const text = form.get("text").trim(), file = form.get("file");
  if (file.size > LARGEST) throw new ClientError("This file is larger than 900 kB.", { wayOut: "Send a smaller one." });
  if (file.size > 0) await send(file.name.replaceAll("\0", ""), new Uint8Array(await file.arrayBuffer()));
  if (text) await send("", new TextEncoder().encode(text));
  $("send-form").reset();
  showChosen();
  $("text").focus();
});

function showChosen() {
  $("file").parentElement.firstChild.data = $("file").files[0]?.name ?? "File";
}

$("file").addEventListener("change", showChosen);
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("send-form").requestSubmit();
});

async function showLine({ name, body, at, isOwn }) {
  const item = make("li", "", { className: isOwn ? "own" : "" });
  item.append(make("span", isOwn ? "You: " : `${nameOf(peer)}: `, { className: "unseen" }));
  if (name) {
    // Octets for the disk, whatever they are: a browser opens nothing of them by itself.
    const url = URL.createObjectURL(new Blob([body], { type: "application/octet-stream" }));
    item.append(make("a", `${name} (${Math.ceil(body.length / 1000)} kB)`, { href: url, download: name }));
  } else item.append(make("p", new TextDecoder().decode(body)));
  const when = new Date(at);
  item.append(make("time", when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }), { dateTime: when.toISOString() }));
  $("lines").firstChild.append(item);
  item.scrollIntoView({ block: "nearest" });
}

// People. Who they are comes back with an account; by which address, this browser alone keeps

const nameOf = (user) => addresses.get(user) ?? `somebody (${user.slice(0, 8)})`;

async function showPeople(unread = "") {
  addresses = new Map([...(await client.contacts.addresses())].map(([address, user]) => [user, address]));
  const met = (await client.contacts.all()).map(({ user }) => user);
  const known = new Set([...addresses.keys(), ...met, ...(await lines.peers())]);
  const items = [...known].map((user) => {
    const button = make("button", nameOf(user), { type: "button", className: "person" });
    if (user === peer) button.setAttribute("aria-current", "true");
    if (user === unread) button.append(make("span", " new", { className: "new" }));
    button.addEventListener("click", () => void attempt(() => open(user)));
    const item = make("li", "");
    item.append(button);
    return item;
  });
  $("people").replaceChildren(...items);
}

async function open(user) {
  peer = user;
  await showPeople();
  for (const old of $("lines").querySelectorAll("a")) URL.revokeObjectURL(old.href);
  $("lines").firstChild.replaceChildren();
  [$("talk").hidden, $("nobody").hidden] = [false, true];
  $("name").textContent = nameOf(user);
  for (const line of await lines.of(user)) await showLine(line);
  $("text").focus();
  await showSure();
}

async function showSure() {
  $("number").textContent = (await client.contacts.safetyNumber(peer)).join(" ");
  const known = (await client.contacts.all()).find(({ user }) => user === peer);
  $("sure").textContent = known?.isVerified ? "You have made sure of them" : "Make sure that it is them";
  $("same").hidden = known?.isVerified ?? false;
}

onSubmit("find-form", async (form) => {
  const { person } = await client.contacts.find(form.get("address"));
  $("find-form").reset();
  maintainedAt = 0; // the vault takes what is new, so that it comes back with the account
  await open(person);
});

onClick("same", async () => {
  await client.contacts.verify(peer, $("number").textContent.split(" "));
  maintainedAt = 0;
  await showSure();
});

// The recovery phrase: it counts once the person has given words of it back

onClick("backup", async () => {
  phrase = await client.backup.newPhrase();
  $("shown").replaceChildren(...(await phrase.words()).map((word) => make("li", word)));
  [$("shown-form").hidden, $("asked-form").hidden, $("phrase-problem").hidden] = [false, true, true];
  $("phrase").showModal();
});

onSubmit("shown-form", async () => {
  const fields = (await client.backup.questions()).map((place) => {
    const label = make("label", `Word ${place} `);
    label.append(make("input", "", { name: place, required: true, autocomplete: "off", autocapitalize: "off", spellcheck: false }));
    return label;
  });
  $("shown").replaceChildren();
  $("asked").replaceChildren(...fields);
  [$("shown-form").hidden, $("asked-form").hidden] = [true, false];
  fields[0].lastChild.focus();
});

onSubmit("asked-form", async (form) => {
  await client.backup.confirmPhrase(phrase, new Map([...form].map(([place, word]) => [Number(place), word])));
  $("phrase").close();
  maintainedAt = 0;
  $("state").textContent = "Your recovery phrase counts from now on.";
});

for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => $("phrase").close());
$("phrase").addEventListener("close", () => {
  phrase = undefined;
  $("shown").replaceChildren();
  $("asked").replaceChildren();
});

// While the page is open

async function maintain() {
  if (Date.now() - maintainedAt < DAY) return;
  const report = await client.maintain();
  maintainedAt = Date.now();
  const told = report.filter(({ outcome }) => outcome === "needs you" || outcome === "failed");
  $("told").querySelector("ul").replaceChildren(...told.map(({ said, wayOut }) => make("li", `${said} ${forPeople(wayOut)}`)));
  $("told").hidden = told.length === 0;
}

onClick("put-away", async () => {
  await client.putAwaySeen();
  $("told").hidden = true;
});

async function follow() {
  for (;;) {
    try {
      await receive();
      await maintain();
      if ($("state").dataset.away) [$("state").textContent, $("state").dataset.away] = ["", ""];
    } catch (error) {
      if (error instanceof Unreachable) [$("state").textContent, $("state").dataset.away] = ["No connection. What you write is kept and sent later.", "yes"];
      else await attempt(() => Promise.reject(error));
    }
    await new Promise((resolve) => setTimeout(resolve, document.hidden ? 15_000 : 2_000));
  }
}

void attempt(begin);
