
// The chosen row: what was asked once, and each run's answer to it, side by side.
const ROLE_NAMES = { image: "image", system: "system turn", user: "question", response: "answer so far", template: "markup" };

function measureName(name) {
  return page.measures[name] ?? plain(name);
}

function verdicts(line, details) {
  const cut = line.cut ? " (cut at the token limit)" : "";
  const row = (name, shown, answer) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, shown), element("td", {}, ...(answer ? withCodes(answer) : [])));
  const why = line.state && line.state !== "scored" ? `${line.state}${cut}` : line.reason ? `read from a ${line.reason}` : cut.trim();
  const table = element("table", { class: "verdicts" },
    row("strict", mark(line.strict), [details.answer === null ? null : `answer found: ${details.answer}`, why].filter(Boolean).join("; ")),
    row("official", mark(line.official, { unknown: line.guess === null ? "no verdict" : "guesses" }),
      line.guess === null ? "" : `the published rule guesses here, which is worth ${number(line.guess)}`));
  if (line.judge_state)
    table.append(row("judge", mark(line.judge, { unknown: line.judge_state }),
      [details.judge_model, details.judge_answer === null ? null : `answer found: ${details.judge_answer}`].filter(Boolean).join("; ")));
  table.append(row("reference", element("span", {}, ...withCodes(details.reference ?? "not known")), ""));
  return table;
}

function shares(details) {
  const bars = Object.entries(details.shares).map(([name, of]) => {
    const bar = element("div", { class: "share", role: "img",
      "aria-label": Object.entries(of).map(([role, share]) => `${ROLE_NAMES[role]} ${(100 * share).toFixed(1)} %`).join(", ") });
    for (const [role, share] of Object.entries(of)) {
      const part = element("i", { class: `r-${role}`, title: `${ROLE_NAMES[role]}: ${(100 * share).toFixed(1)} %` });
      part.style.width = `${100 * share}%`;
      bar.append(part);
    }
    return element("div", {}, element("span", { class: "faint" }, name === "user" ? "from the question" : "from the answer"), bar);
  });
  if (!bars.length) return null;
  const legend = element("div", { class: "legend" }, ...Object.entries(ROLE_NAMES).map(([role, name]) =>
    element("span", {}, element("i", { class: `r-${role}` }), name)));
  return element("div", {}, element("h3", {}, "Where the model looks"), ...bars, legend);
}

// The answers to the same question without its pictures, and with another row's.
function altered(details) {
  const known = Object.entries(details.altered);
  if (!known.length) return null;
  const table = element("table", { class: "verdicts" });
  for (const [name, of] of known) {
    const images = name === "blind" ? `without the picture (${of.images})` : `with the picture of ${of.image_of ?? "another row"}`;
    const said = of.extracted === null || of.extracted === undefined ? `${of.state ?? "no answer"}` : `answer found: ${of.extracted}`;
    table.append(element("tr", {}, element("th", { scope: "row" }, ...withCodes(images)),
      element("td", {}, mark(of.correct)), element("td", {}, ...withCodes(said))));
  }
  return element("div", {}, element("h3", {}, "Asked again with other pictures"), table);
}

function measures(line) {
  const known = Object.entries(line.measures);
  if (!known.length) return null;
  const list = element("dl");
  for (const [name, value] of known) list.append(element("dt", {}, measureName(name)), element("dd", {}, number(value)));
  return element("div", {}, element("h3", {}, "Measures"), list);
}

function answer(run, line, details, several) {
  const card = element("section", { class: "card", "aria-label": `Answer of ${plain(run.label)}` });
  if (several) card.append(element("h2", {}, ...withCodes(run.label)));
  if (!line) {
    card.append(element("p", { class: "faint" }, "This run has no answer to this row."));
    return card;
  }
  card.append(verdicts(line, details));
  card.append(element("h3", {}, "Response"));
  if (details.thought) {
    const words = `Thought, ${details.thought.length.toLocaleString("en")} characters${details.rest ? "" : ", and nothing after it"}`;
    card.append(element("details", { class: "thought", open: !details.rest }, element("summary", {}, words), block(details.thought)));
  }
  if (details.rest || !details.thought) card.append(block(details.rest || "(nothing)"));
  card.append(...[shares(details), measures(line), altered(details)].filter(Boolean));
  const facts = element("dl", {},
    element("dt", {}, "ended by"), element("dd", {}, { stop: "itself (stop)", length: "the token limit (length)" }[details.finish_reason] ?? plain(details.finish_reason)),
    element("dt", {}, "tokens"), element("dd", {}, `${number(details.prompt_tokens)} of the prompt, ${number(line.tokens)} of the response`),
    element("dt", {}, "judged by"), element("dd", {}, details.grader ?? "nothing"),
    element("dt", {}, "record"), element("dd", {}, details.key));
  for (const [name, how] of Object.entries(details.changed ?? {}))
    facts.append(element("dt", {}, "not taken"), element("dd", {}, plain(`${name}: ${how}`)));
  card.append(element("h3", {}, "Record"), facts);
  return card;
}

function pictures(details, run, line, task, several) {
  if (!details.pictures.length) return null;
  const box = element("div", { class: "card" });
  details.pictures.forEach((name, index) => box.append(figure(name, index, details.overlay?.[index], several ? run.label : null)));
  if (!details.overlay) {
    const word = (text) => (/^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
    const command = `avar-eval look ${word(run.name)} --task ${word(task)} --row ${word(line.id)}${line.sample ? ` --sample ${line.sample}` : ""}`;
    box.append(element("details", {}, element("summary", {}, "Where did the model look in it?"),
      element("p", { class: "faint" }, "This looks again, without a new answer; the page made anew then shows it:"), block(command)));
  }
  return box;
}

async function showRow(task, runs, pair) {
  const lines = [pair.a, pair.b].slice(0, runs.length);
  const found = await Promise.all(lines.map((line, index) => (line ? detailsOf(runs[index], task, line) : null)));
  const which = found[0] ? 0 : 1;
  const [details, line] = [found[which], lines[which]];
  const head = element("div", { class: "head" },
    element("h2", {}, ...withCodes(`${task} · ${line.id}${line.sample ? ` · sample ${line.sample}` : ""}`)),
    ...lines.map((one) => (one ? mark(one.strict) : null)));
  const sides = runs.length > 1 ? found.map((one, index) => (one ? pictures(one, runs[index], lines[index], task, true) : null)) : [pictures(details, runs[0], line, task, false)];
  const same = !found[0] || !found[1] || !(found[0].overlay && found[1].overlay);
  const shown = runs.length > 1 && !same ? sides : [sides.find((_, index) => found[index]?.overlay) ?? sides[which]];
  const prompts = [...new Set(found.filter(Boolean).map((one) => one.prompt))];
  const asked = element("div", { class: "card" }, ...prompts.flatMap((prompt, index) => [
    element("h3", {}, prompts.length > 1 ? `Prompt of ${plain(runs[index].label)}` : "Prompt, as the model got it"), block(prompt, "prompt")]));
  const beside = shown.filter(Boolean);
  return [
    head,
    element("div", { class: `${runs.length > 1 ? "above" : "left"}${beside.length ? "" : " bare"}` }, beside.length ? element("div", { class: "seen" }, ...beside) : null, asked),
    element("div", { class: "sides" }, ...runs.map((run, index) => answer(run, lines[index], found[index], runs.length > 1))),
  ];
}
