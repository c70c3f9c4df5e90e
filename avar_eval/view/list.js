
// The list: which rows, in which order.
const AT_ONCE = 150;

const right = (line) => line?.strict === true;
const FILTERS = {
  all: { name: "all", test: () => true },
  wrong: { name: "wrong", test: ({ a }) => a !== null && a.strict === false },
  truncated: { name: "truncated", test: ({ a }) => a !== null && (a.cut || a.state === "truncated") },
  unparsed: { name: "unparsed", test: ({ a }) => a?.state === "unparsed" },
  timeout: { name: "timeout", test: ({ a }) => a?.state === "timeout", rare: true },
  official: { name: "official ≠ strict", test: ({ a }) => typeof a?.official === "boolean" && a.official !== a.strict },
  judge: { name: "judge ≠ strict", test: ({ a }) => typeof a?.judge === "boolean" && a.judge !== a.strict, rare: true },
  blind: { name: "right without the picture", test: ({ a }) => right(a) && a.measures.blind === 1, rare: true },
  flipped: { name: "flipped", test: ({ a, b }) => a !== null && b !== null && right(a) !== right(b), two: true },
  lost: { name: "right → wrong", test: ({ a, b }) => b !== null && right(a) && !right(b), two: true },
  gained: { name: "wrong → right", test: ({ a, b }) => a !== null && b !== null && !right(a) && right(b), two: true },
  alone: { name: "in one run alone", test: ({ a, b }) => a === null || b === null, two: true, rare: true },
};

const line = (row) => row.a ?? row.b;
const SORTS = {
  asked: { name: "the order asked", of: (row) => row.index },
  id: { name: "row id", of: (row) => line(row).id },
  strict: { name: "right or wrong", of: (row) => Number(line(row).strict) },
  tokens: { name: "tokens of the response", of: (row) => line(row).tokens },
};

function sortOf(name) {
  if (Object.hasOwn(SORTS, name)) return SORTS[name].of;
  const measure = (one) => (one && Object.hasOwn(one.measures, name) ? one.measures[name] : null);
  return (row) => measure(row.a) ?? measure(row.b);
}

function sorted(rows, by, descending) {
  const of = sortOf(by);
  const order = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => (typeof a === "string" ? order.compare(a, b) : a - b);
  const known = rows.map((row) => [of(row), row]);
  const some = known.filter(([value]) => value !== null && value !== undefined);
  const none = known.filter(([value]) => value === null || value === undefined);
  some.sort(([a, first], [b, second]) => (descending ? compare(b, a) : compare(a, b)) || first.index - second.index);
  return [...some, ...none].map(([, row]) => row); // what has no value stands last, either way
}

function matches(row, words) {
  return [row.a, row.b].some((one) => {
    if (!one) return false;
    const text = [one.id, one.question, one.reference, one.answer].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

// Rows whose whole prompt or response has all words. `progress` is told the share that is searched, and may end it.
async function searched(rows, words, task, runs, progress) {
  const groups = new Map();
  for (const row of rows)
    for (const [index, one] of [row.a, row.b].entries())
      if (one && runs[index]) {
        const name = `${index}-${one.part}`;
        if (!groups.has(name)) groups.set(name, []);
        groups.get(name).push([row, runs[index], one]);
      }
  const hits = new Set();
  let done = 0;
  for (const group of groups.values()) {
    for (const [row, run, one] of group) {
      const found = await detailsOf(run, task, one);
      const text = [one.id, found.prompt, found.thought, found.rest, found.reference, found.answer].join("\n").toLowerCase();
      if (words.every((word) => text.includes(word))) hits.add(row);
    }
    done += 1;
    if (!progress(done / groups.size)) return null;
  }
  return rows.filter((row) => hits.has(row));
}

function entry(row, href, two) {
  const one = line(row);
  const words = two ? [mark(row.a ? row.a.strict : null, { unknown: row.a ? "no verdict" : "not asked" }), element("span", { class: "faint", "aria-label": "then" }, "→"),
    mark(row.b ? row.b.strict : null, { unknown: row.b ? "no verdict" : "not asked" })] : [mark(one.strict)];
  const said = (of) => (of ? of.answer ?? `(${of.state ?? "not judged"})` : "–");
  const answers = two ? `${said(row.a)} → ${said(row.b)}` : said(one);
  return element("li", {},
    element("a", { href, "data-name": row.name },
      element("span", { class: "id" }, plain(one.id + (one.sample ? ` · sample ${one.sample}` : ""))),
      element("span", { class: "marks" }, ...words),
      element("span", { class: "text" }, plain(one.question ?? "")),
      element("span", { class: "answers" }, plain(`answer: ${answers} · reference: ${one.reference ?? "?"}`))));
}

// Draws rows as they are scrolled to; `until` draws as far as a row at once.
class List {
  constructor(root) {
    this.root = root;
    this.end = element("li", { class: "end" });
    this.observer = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.more(), { rootMargin: "600px" });
  }

  show(rows, hrefOf, two) {
    [this.rows, this.hrefOf, this.two, this.drawn] = [rows, hrefOf, two, 0];
    this.root.replaceChildren(this.end);
    this.more();
  }

  more(count = AT_ONCE) {
    if (!this.rows || this.drawn >= this.rows.length) {
      this.end.textContent = this.rows?.length === 0 ? "No row fits." : "";
      return;
    }
    const some = this.rows.slice(this.drawn, this.drawn + count);
    this.drawn += some.length;
    this.end.before(...some.map((row) => entry(row, this.hrefOf(row), this.two)));
    this.end.textContent = this.drawn < this.rows.length ? "…" : "";
    this.observer.unobserve(this.end); // observed anew it says at once whether it is still seen
    this.observer.observe(this.end);
  }

  choose(row) {
    for (const old of this.root.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
    const index = row ? this.rows.indexOf(row) : -1;
    if (index < 0) return;
    if (index >= this.drawn) this.more(index + AT_ONCE - this.drawn);
    const link = this.root.children[index].firstChild;
    link.setAttribute("aria-current", "true");
    link.scrollIntoView({ block: "nearest" });
  }
}
