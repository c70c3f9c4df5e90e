
"use strict";
// Text of models, rows and servers: it becomes text nodes alone. What would write backwards, move a cursor or not be
// seen at all is written as its code.
const ACTIVE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/u;
const MARKUP = /(<\|[^|<>]{1,40}\|>|<\/?(?:s|bos|eos|think|answer|start_of_turn|end_of_turn|image)>)/;
const MOST_CHARACTERS = 100000;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function escaped(character) {
  return "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0");
}

// On one line: what is active stands as its code.
function plain(text) {
  return ACTIVE.test(text) ? Array.from(text, (one) => (ACTIVE.test(one) ? escaped(one) : one)).join("") : text;
}

function withCodes(text) {
  if (!ACTIVE.test(text)) return [text];
  const parts = [];
  let run = "";
  for (const one of text) {
    if (!ACTIVE.test(one)) run += one;
    else {
      parts.push(run, element("span", { class: "escaped" }, escaped(one)));
      run = "";
    }
  }
  parts.push(run);
  return parts;
}

// A block of text as it is; a very long one in pieces, the rest behind a button.
function block(text, classes = "") {
  const pre = element("pre", { class: classes, dir: "auto", tabindex: "0" });
  const add = (part) => {
    for (const piece of part.split(MARKUP)) {
      if (MARKUP.test(piece)) pre.append(element("span", { class: "markup" }, ...withCodes(piece)));
      else if (piece) pre.append(...withCodes(piece));
    }
  };
  let shown = 0;
  const more = () => {
    const cutsPair = /[\ud800-\udbff]/.test(text[shown + MOST_CHARACTERS - 1] ?? "");
    const end = shown + MOST_CHARACTERS + (cutsPair ? 1 : 0);
    add(text.slice(shown, end));
    shown = end;
    if (shown >= text.length) return;
    const left = (text.length - shown).toLocaleString("en");
    const button = element("button", { type: "button", onclick: () => (button.remove(), more()) }, `… ${left} characters more`);
    pre.append(button);
  };
  more();
  return pre;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(1) : value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3);
}

// One word of a verdict with its sign, so that no colour is needed to read it.
function mark(right, words = {}) {
  if (right === true) return element("span", { class: "mark right" }, "✓ " + (words.right ?? "right"));
  if (right === false) return element("span", { class: "mark wrong" }, "✗ " + (words.wrong ?? "wrong"));
  return element("span", { class: "mark unknown" }, "– " + (words.unknown ?? "no verdict"));
}
