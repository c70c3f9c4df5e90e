
// The page's state is its address: #task/row/sample?run=1&beside=0&show=wrong&sort=vas&highest=1&search=words&deep=1
const byId = (id) => document.getElementById(id);
const FIRST = ["accuracy", "official", "judge", "truncated", "unparsed", "ratio_of_sums", "visual_gain", "visual_dependence", "vas"];
const wide = window.matchMedia("(min-width: 901px)");
const models = page.runs.map((run) => run.model);
for (const run of page.runs)
  run.label = models.filter((model) => model === run.model).length > 1 ? `${run.model} (${run.name})` : run.model;
const allTasks = [...new Set(page.runs.flatMap((run) => Object.keys(run.tasks)))];
const list = new List(byId("list"));
let state = {};
let shown = { key: null, rows: [], order: [] };
let thoughtsOpen = false;
let moreOpen = false;
let turn = 0;

function readAddress() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const decoded = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const given = new URLSearchParams(query);
  const task = allTasks.includes(decoded[0]) ? decoded[0] : allTasks[0];
  const having = page.runs.map((run, index) => index).filter((index) => taskOf(page.runs[index], task));
  const runNumber = (name, otherwise) => {
    const number = Number(given.get(name) ?? NaN);
    return having.includes(number) ? number : otherwise;
  };
  const run = runNumber("run", having[0]);
  const beside = given.get("beside") === "none" ? null : runNumber("beside", having.length === 2 ? having.find((one) => one !== run) : null);
  const show = Object.hasOwn(FILTERS, given.get("show") ?? "") ? given.get("show") : "all";
  return {
    task, run, beside: beside === run ? null : beside, show,
    sort: given.get("sort") ?? "asked", highest: given.get("highest") === "1",
    search: given.get("search") ?? "", deep: given.get("deep") === "1",
    row: decoded[1] ? decoded[1] + (Number(decoded[2]) ? `\n${Number(decoded[2])}` : "") : null,
  };
}

function address(changed) {
  const to = { ...state, ...changed };
  const [id, sample] = (to.row ?? "").split(/\n(?=\d+$)/);
  const path = [to.task, ...(to.row ? [id, ...(sample ? [sample] : [])] : [])].map(encodeURIComponent).join("/");
  const said = new URLSearchParams();
  const having = page.runs.map((run, index) => index).filter((index) => taskOf(page.runs[index], to.task));
  if (to.run !== having[0]) said.set("run", to.run);
  const usual = having.length === 2 ? having.find((one) => one !== to.run) : null;
  if (to.beside !== usual) said.set("beside", to.beside ?? "none");
  if (to.show !== "all") said.set("show", to.show);
  if (to.sort !== "asked") said.set("sort", to.sort);
  if (to.highest) said.set("highest", "1");
  if (to.search) said.set("search", to.search);
  if (to.deep) said.set("deep", "1");
  return `#${path}${said.size ? `?${said}` : ""}`;
}

function go(changed, replace = false) {
  const to = address(changed);
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    update();
  } else location.hash = to;
}

const runsOf = ({ run, beside }) => [run, beside].filter((one) => one !== null && one !== undefined).map((one) => page.runs[one]);

function options(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => element("option", { value }, plain(text))));
  select.value = chosen;
}

function summary() {
  const runs = runsOf(state);
  const known = [...new Set(runs.flatMap((run) => Object.keys(taskOf(run, state.task)?.metrics ?? {})))];
  const share = (value) => (100 * value).toFixed(1);
  const isShare = (name) => !/^(vas|ratio_of_sums|information|visual_dependence|knockout)/.test(name);
  const letter = (index) => (runs.length > 1 ? element("b", {}, "AB"[index]) : null);
  const value = (run, index, name) => {
    const metric = taskOf(run, state.task)?.metrics[name];
    const form = isShare(name) ? share : number;
    if (!metric || metric.value === null) return element("dd", {}, letter(index), "–");
    const unit = isShare(name) ? " %" : "";
    return element("dd", {}, letter(index), form(metric.value) + unit,
      metric.ci95 ? element("small", {}, `${form(metric.ci95[0])} to ${form(metric.ci95[1])}`) : null);
  };
  const metrics = (names) => element("dl", { class: "metrics" }, ...names.map((name) =>
    element("div", {}, element("dt", { title: measureName(name) }, plain(name)), ...runs.map((run, index) => value(run, index, name)))));
  const rest = known.filter((name) => !FIRST.includes(name));
  byId("summary").replaceChildren(
    element("p", { class: "of" }, ...runs.map((run, index) =>
      element("span", {}, letter(index), `${plain(run.label)}, n = ${number(taskOf(run, state.task)?.rows)}`)), "95 % intervals"),
    metrics(FIRST.filter((name) => known.includes(name))),
    rest.length ? element("details", { open: moreOpen, ontoggle: (event) => { moreOpen = event.target.open; } },
      element("summary", {}, `${rest.length} more measures`), metrics(rest)) : null,
    ...runs.map((run) => [run, taskOf(run, state.task)?.left_out]).filter(([, left]) => left?.n).map(([run, left]) =>
      element("p", { class: "notice" }, plain(`${run.label}: ${number(left.n)} rows are not here: ${left.reason} [${left.ids.slice(0, 5).join(", ")}${left.ids.length > 5 ? ", …" : ""}]`))),
    element("details", {}, element("summary", {}, "How they were asked"), ...runs.flatMap((run) => [
      element("h3", {}, plain(run.label)), block(JSON.stringify(run.protocol, null, 2))])));
}

function controls() {
  options(byId("task"), allTasks.map((task) => [task, task]), state.task);
  const having = page.runs.map((run, index) => [String(index), run.label]).filter(([index]) => taskOf(page.runs[index], state.task));
  options(byId("run"), having, String(state.run));
  options(byId("other"), [["none", "nothing"], ...having.filter(([index]) => Number(index) !== state.run)], String(state.beside ?? "none"));
  byId("other-label").hidden = having.length < 2;
  const names = [...new Set(shown.rows.flatMap((row) => [row.a, row.b].flatMap((one) => Object.keys(one?.measures ?? {}))))];
  const sorts = [...Object.entries(SORTS).map(([name, { name: text }]) => [name, text]), ...names.map((name) => [name, measureName(name)])];
  options(byId("sort"), sorts, sorts.some(([name]) => name === state.sort) ? state.sort : "asked");
  byId("descending").checked = state.highest;
  byId("deep").checked = state.deep;
  if (byId("query").value !== state.search) byId("query").value = state.search;
  const two = state.beside !== null && state.beside !== undefined;
  byId("filters").replaceChildren(...Object.entries(FILTERS).flatMap(([key, filter]) => {
    const count = shown.rows.filter(filter.test).length;
    if ((filter.two && !two) || (filter.rare && !count && state.show !== key)) return [];
    const of = two && !filter.two && key !== "all" ? `of ${plain(page.runs[state.run].label)}` : null;
    return [element("button", { type: "button", title: of, "aria-pressed": String(state.show === key), onclick: () => go({ show: key, row: null }) },
      `${filter.name} ${count.toLocaleString("en")}`)];
  }));
}

async function select() {
  const mine = (turn += 1);
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  let rows = shown.rows.filter(FILTERS[state.show].test);
  if (words.length && state.deep) {
    rows = await searched(rows, words, state.task, runsOf(state), (share) => {
      if (mine === turn) byId("count").textContent = `Searching … ${Math.round(100 * share)} %`;
      return mine === turn;
    });
    if (rows === null || mine !== turn) return false;
  } else if (words.length) rows = rows.filter((row) => matches(row, words));
  shown.order = sorted(rows, state.sort, state.highest);
  byId("count").textContent = `${shown.order.length.toLocaleString("en")} of ${shown.rows.length.toLocaleString("en")} rows`;
  byId("list-side").style.scrollPaddingTop = `${document.querySelector(".controls").offsetHeight}px`;
  list.show(shown.order, (row) => address({ row: row.name }), runsOf(state).length > 1);
  return true;
}

async function choose() {
  const row = state.row === null ? null : shown.rows.find((one) => one.name === state.row);
  document.body.classList.toggle("chosen", Boolean(row));
  const place = shown.order.indexOf(row ?? null);
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 ? shown.order.length === 0 : place === shown.order.length - 1;
  byId("position").textContent = place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${shown.order.length.toLocaleString("en")}`;
  list.choose(row);
  if (!row) {
    const words = state.row === null ? "Choose a row, or press j." : `There is no row ${state.row.replace("\n", ", sample ")} here.`;
    byId("row").replaceChildren(element("p", { class: "faint" }, plain(words)));
    return;
  }
  const wanted = state.row;
  const parts = await showRow(state.task, runsOf(state), row);
  if (state.row !== wanted) return;
  byId("row").replaceChildren(...parts);
  byId("row").className = runsOf(state).length > 1 ? "" : "single";
  if (thoughtsOpen) for (const one of byId("row").querySelectorAll("details.thought")) one.open = true;
  byId("row-side").scrollTop = 0;
  if (!wide.matches) window.scrollTo(0, 0);
}

function step(by) {
  const place = shown.order.findIndex((row) => row.name === state.row);
  const next = shown.order[place < 0 ? 0 : place + by];
  if (next) go({ row: next.name });
}

async function update() {
  const wanted = location.hash;
  byId("main").setAttribute("aria-busy", "true");
  try {
    state = readAddress();
    const runs = runsOf(state);
    const key = JSON.stringify([state.task, state.run, state.beside]);
    if (shown.key !== key) {
      const rows = await pairs(state.task, ...runs);
      shown = { key, rows, order: [], selection: null };
      summary();
    }
    const selection = JSON.stringify([state.show, state.sort, state.highest, state.search, state.deep]);
    if (shown.selection !== selection) {
      controls();
      if (!(await select())) return;
      shown.selection = selection;
    }
    await choose();
  } catch (error) {
    byId("row").replaceChildren(element("p", { class: "notice", role: "alert" }, plain(error.message)));
    document.body.classList.add("chosen");
  }
  if (wanted !== location.hash) return;
  byId("main").setAttribute("aria-busy", "false");
  byId("main").dataset.shows = wanted;
}

byId("task").addEventListener("change", (event) => go({ task: event.target.value, row: null }));
byId("run").addEventListener("change", (event) => go({ run: Number(event.target.value), beside: Number(event.target.value) === state.beside ? state.run : state.beside }));
byId("other").addEventListener("change", (event) => go({ beside: event.target.value === "none" ? null : Number(event.target.value) }));
byId("sort").addEventListener("change", (event) => go({ sort: event.target.value }, true));
byId("descending").addEventListener("change", (event) => go({ highest: event.target.checked }, true));
byId("deep").addEventListener("change", (event) => go({ deep: event.target.checked }, true));
let typing = 0;
byId("query").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ search: event.target.value.trim(), row: wide.matches ? state.row : null }, true), 200);
});
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("back").addEventListener("click", () => go({ row: null }));
window.addEventListener("hashchange", update);
window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const inText = event.target.matches("pre");
  const keys = {
    j: () => step(1), k: () => step(-1), Escape: () => go({ row: null }), "/": () => byId("query").focus(),
    t: () => {
      thoughtsOpen = !thoughtsOpen;
      for (const one of byId("row").querySelectorAll("details.thought")) one.open = thoughtsOpen;
    },
    ...(inText ? {} : { ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1) }),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
update();
