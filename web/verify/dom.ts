// SPDX-License-Identifier: Apache-2.0
/** Elements made of names and texts. Texts are text nodes: nothing here writes markup. */
import { writtenOut } from "../sdk/src/core/base/text.js";

/** Return the element of an id, which the page has. */
export function byId<K extends keyof HTMLElementTagNameMap>(id: string, tag: K): HTMLElementTagNameMap[K] {
  const found = document.getElementById(id);
  if (found?.localName !== tag) throw new TypeError(`the page has no ${tag} called ${id}`);
  return found as HTMLElementTagNameMap[K];
}

/** Make an element with a class and what is in it. */
export function made<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  ...inside: readonly (string | Node)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== "") element.className = className;
  element.append(...inside);
  return element;
}

/** Make an element for a text of others: apart from what stands beside it, with what would be obeyed written out. */
export function others(text: string, className = ""): HTMLElement {
  const element = made("bdi", className, writtenOut(text));
  element.translate = false;
  return element;
}

/** Make a list of facts: what each is called, and what it is. */
export function facts(...rows: readonly (readonly [name: string | Node, value: string | Node])[]): HTMLElement {
  return made("dl", "facts", ...rows.map(([name, value]) => made("div", "", made("dt", "", name), made("dd", "", value))));
}

/** Make a list of sentences. */
export function list(sentences: readonly string[]): HTMLElement {
  return made("ul", "", ...sentences.map((one) => made("li", "", one)));
}

/** Show a text in an element that is hidden without one. */
export function say(element: HTMLElement, text: string): void {
  element.textContent = text;
  element.hidden = text === "";
}
