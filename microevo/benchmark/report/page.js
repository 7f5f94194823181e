// ---------------------------------------------------------------- findings and leaderboard
function facts() {
  const protocol = P();
  $("facts").replaceChildren(...protocol.facts.map(fact =>
    el("div", {}, el("dt", {}, fact.label), el("dd", { class: "value" }, fact.value), el("dd", {}, el("small", {}, arrow(fact.detail))))));
  $("note").hidden = !protocol.note;
  $("note").replaceChildren(el("b", {}, "Note on this protocol: "), protocol.note);
  $("notes").replaceChildren(...protocol.notes.map(text => el("li", {}, text)));
  const settings = new Map(protocol.settings);
  $("task").textContent = `${arrow(protocol.name)}: ${settings.get("Input and target")}; ${settings.get("Forecasts")}. Protocol and data ${settings.get("Protocol and data")}.`;
}

const chosen = () => P().metrics.find(m => m.name === state.metric) ?? P().metrics[0];  // of scores
const rivals = name => role(name) !== "reference";  // nobody is expected to be better than that
function columns(protocol) {
  const metric = chosen();
  if (!metric) return [];
  const others = protocol.metrics.filter(m => m !== metric && (state.every || m.whole || ["rmse", "mae", "ssim", "relative_l2"].includes(m.name)));
  const at = lead => name => metric.curves[name].at.map(row => row[lead - 1]);
  const list = [
    { key: "mean", title: `${metric.label}, mean`, better: metric.better, of: name => metric.curves[name].mean },
    ...protocol.leads.map(lead => ({ key: `at${lead}`, title: `at lead ${lead}`, better: metric.better, of: at(lead) })),
    ...others.map(m => ({ key: m.name, title: m.whole ? m.label : `${m.label}, mean`, better: m.better, bound: name => m.curves[name].censored, of: name => m.curves[name].mean })),
  ];
  for (const column of list) {
    const means = protocol.board.filter(row => rivals(row.name)).map(row => column.of(row.name)[0]);
    const known = means.filter(finite);
    column.decimals = decimals(known);
    column.best = !known.length || !column.better ? null : column.better === "higher" ? Math.max(...known) : Math.min(...known);
  }
  return list;
}

function board() {
  const protocol = P(), list = columns(protocol), rows = protocol.board.map((row, place) => ({ ...row, place }));
  const metric = chosen();
  $("board").replaceChildren();
  $("legend").hidden = !metric;
  if (!metric) return;
  const [key, down] = state.sort, lost = rows.some(row => row.non_finite), skilled = rows.some(row => finite(row.skill));
  const value = row => key === "name" ? row.name.toLowerCase() : key in row ? row[key] : list.find(c => c.key === key)?.of(row.name)[0];
  rows.sort((a, b) => {
    const [p, q] = [value(a), value(b)];
    if (typeof p === "string" && key === "name") return (down ? -1 : 1) * p.localeCompare(q);
    return finite(p) && finite(q) ? (down ? q - p : p - q) : finite(q) - finite(p);  // NaN comes last either way
  });
  const head = (title, key, better) => el("th", { scope: "col", "aria-sort": state.sort[0] === key ? (state.sort[1] ? "descending" : "ascending") : null },
    el("button", { type: "button", "data-sort": key, onclick: () => {
      state.sort = state.sort[0] === key ? [key, !state.sort[1]] : [key, better === "higher"];
      board();
      $("board").querySelector(`[data-sort="${CSS.escape(key)}"]`).focus();
    } }, title));
  const whisker = whiskers(metric, rows);
  $("board").append(
    el("thead", {}, el("tr", {}, head("Model", "name"), el("th", { scope: "col" }, whisker.title),
      ...list.flatMap((c, i) => [head(c.title, c.key, c.better), i === 0 && skilled ? head("Skill score", "skill", "higher") : null, i === 0 && lost ? head("Not finite", "non_finite") : null]))),
    el("tbody", {}, ...rows.map(row => el("tr", { class: role(row.name) ? "fixed" : null },
      el("th", { scope: "row" }, named(row.name, row.members ? `${row.members} members` : row.seeds === 1 ? "1 seed" : `${row.seeds} seeds`)),
      el("td", {}, whisker.draw(row.name)),
      ...list.flatMap((c, i) => {
        const interval = c.of(row.name), best = c.best !== null && interval[0] === c.best && rivals(row.name);
        return [el("td", { class: finite(interval[0]) ? (best ? "best" : null) : "bad" },
            (c.bound?.(row.name) ? "\u2265 " : "") + number(interval[0], c.decimals), el("small", {}, range(interval, c.decimals))),
          i === 0 && skilled ? el("td", {}, finite(row.skill) ? number(row.skill) : "") : null,
          i === 0 && lost ? el("td", { class: row.non_finite ? "bad" : null }, row.non_finite ? `${row.non_finite} of ${row.forecasts}` : "0") : null];
      })))));
}

/** Means with their intervals as dots and whiskers on one scale. */
function whiskers(metric, rows) {
  const W = 120, all = rows.map(row => metric.curves[row.name].mean).filter(i => i.every(finite));
  const baseline = rows.filter(row => role(row.name) === "baseline").map(row => metric.curves[row.name].mean[2]).filter(finite)[0];
  let low = metric.better === "lower" ? 0 : Math.min(...all.map(i => i[1])), high = Math.max(...all.map(i => i[2]));
  if (metric.better === "lower" && baseline > 0) high = Math.min(high, 2 * baseline);
  const x = v => 6 + Math.min(1, Math.max(0, (v - low) / (high - low || 1))) * (W - 12);
  return {
    title: all.length ? `${tidy(low)} \u2026 ${tidy(high)}` : "",
    draw(name) {
      const [mean, from, to] = metric.curves[name].mean;
      const root = svg("svg", { width: W, height: 20, role: "presentation" }, svg("line", { x1: 6, x2: W - 6, y1: 10, y2: 10, stroke: "var(--line)" }));
      if (finite(mean)) root.append(
        finite(from) && finite(to) ? svg("line", { x1: x(from), x2: x(to), y1: 10, y2: 10, stroke: colour(name), "stroke-width": 3, opacity: 0.55 }) : "",
        mean > high ? svg("text", { x: W - 2, y: 15, "text-anchor": "end", fill: colour(name) }, "\u203a") : svg("circle", { cx: x(mean), cy: 10, r: 5, fill: colour(name) }));
      return root;
    },
  };
}

// ---------------------------------------------------------------- curves and physical quantities
function against() {
  const protocol = P(), metric = chosen();
  $("curves").hidden = !metric;
  if (!metric) return;
  const series = protocol.board.map(row => ({ name: row.name, nonFinite: row.non_finite, at: metric.curves[row.name].at }));
  const cells = new Map(series.map(s => [s.name, el("td")]));
  const body = series.map((s, i) => el("tr", {}, el("th", { scope: "row" }, el("button", { type: "button", "aria-pressed": String(!state.hidden.has(s.name)), title: "Show or hide in the charts",
    onclick: () => { if (!state.hidden.delete(s.name)) state.hidden.add(s.name); curves(); $("reading").querySelectorAll("button")[i].focus(); } },
    swatch(s.name), el("span", {}, s.name))), cells.get(s.name)));
  const caption = el("caption", {});
  $("reading").replaceChildren(caption, el("tbody", {}, ...body));
  curve($("chart"), { series, title: `${metric.title} against lead time`, label: metric.label, log: state.log, zero: metric.better === "lower",
    read(lead) {
      caption.textContent = `${metric.title} at lead ${lead} (${time(protocol, lead)})`;
      for (const s of series) {
        const [mean, low, high] = s.at.map(row => row[lead - 1]);
        cells.get(s.name).replaceChildren(number(mean), el("small", {}, range([mean, low, high])));
        cells.get(s.name).className = finite(mean) ? "" : "bad";
      }
    } });
}

const unit = of => of && of !== "1" ? ` [${of.replaceAll("^2", "\u00b2")}]` : "";
const heading = (title, of) => el("h3", {}, title, el("small", {}, unit(of)));
// Titles may end with the name of a distance; values of the quantity need only what stands before it.
const short = title => title.split(",")[0];
const logarithmic = series => state.logPhysics && series.every(s => s.at[0].every(v => !finite(v) || v > 0));
const onTop = series => series.sort((a, b) => (role(a.name) === "truth") - (role(b.name) === "truth"));
function physics() {
  const protocol = P(), all = protocol.quantities, lost = new Map(protocol.board.map(row => [row.name, row.non_finite]));
  $("physics").hidden = !all.length;
  $("key").replaceChildren(...[...competitors.keys()].filter(name => all.some(q => [q.values, q.bins].some(part => part && name in part.curves))).map(name => el("span", {}, swatch(name), name)));
  $("quantities").replaceChildren();
  all.filter(q => q.values && Object.keys(q.values.curves).length).forEach((q, i) => {
    const box = el("div", { class: "chart", id: `quantity${i}` }), output = el("output"), title = short(q.title);
    $("quantities").append(el("figure", {}, heading(title, q.values.unit), box, output));
    const series = onTop(Object.entries(q.values.curves).map(([name, of]) => ({ name, nonFinite: lost.get(name), at: of.at })));
    curve(box, { series, title: `${title} against lead time`, height: 210, log: logarithmic(series),
      read(lead) { output.textContent = `Lead ${lead}: ` + series.toReversed().map(s => `${s.name} ${number(s.at[0][lead - 1])}`).join(", "); } });
  });
  const binned = all.filter(q => q.bins && q.bins.leads.length), leads = [...new Set(binned.flatMap(q => q.bins.leads))].sort((a, b) => a - b);
  $("binned").hidden = !binned.length;
  if (!leads.includes(state.binLead)) state.binLead = leads.at(-1);
  $("bin-lead").replaceChildren(...leads.map(lead => el("option", { value: lead, selected: lead === state.binLead }, lead)));
  $("bins").replaceChildren();
  binned.forEach((q, i) => {
    const box = el("div", { class: "chart", id: `bins${i}`, role: "img", "aria-label": `${short(q.title)} against ${q.bins.title}` });
    $("bins").append(el("figure", {}, heading(short(q.title), q.unit), box));
    const at = q.bins.leads.indexOf(state.binLead);
    const series = onTop(Object.entries(q.bins.curves).map(([name, rows]) => ({ name, at: rows.map(row => row.map(bin => bin[at])) })));
    lines(box, { series, xs: q.bins.middles, x: q.bins.title + unit(q.bins.unit), height: 230, log: logarithmic(series), zero: true });
  });
  const names = protocol.board.map(row => row.name), truth = [...competitors.keys()].filter(name => role(name) === "truth");
  const fits = all.filter(q => q.fit);
  $("fitted").hidden = !fits.length;
  grid($("fits"), "Fitted", [...truth, ...names], fits.map(q => q.fit));
  grid($("errors"), "Quantity", names, all.filter(q => Object.keys(q.errors.curves).length).map(q => q.errors));
}

// ---------------------------------------------------------------- ensembles
function ensembles() {
  const protocol = P(), all = protocol.ensembles, names = protocol.board.map(row => row.name), lost = new Map(protocol.board.map(row => [row.name, row.non_finite]));
  $("ensembles").hidden = !all.length;
  $("ensembles-key").replaceChildren(...names.filter(name => all.some(s => name in s.curves)).map(name => el("span", {}, swatch(name), name)));
  $("ensembles-charts").replaceChildren();
  all.forEach((score, i) => {
    const box = el("div", { class: "chart", id: `ensemble${i}` }), output = el("output"), ratio = score.name === "spread_skill";
    $("ensembles-charts").append(el("figure", {}, heading(score.title, score.unit), box, output));
    const series = names.filter(name => name in score.curves).map(name => ({ name, nonFinite: lost.get(name), at: score.curves[name].at }));
    curve(box, { series, title: `${score.title} against lead time`, height: 230, zero: true, log: !ratio && state.logEnsembles, level: ratio ? 1 : null,
      read(lead) { output.textContent = `Lead ${lead}: ` + series.map(s => `${s.name} ${number(s.at[0][lead - 1])}`).join(", "); } });
  });
  grid($("ensembles-scores"), "Mean over lead times", names.filter(name => all.some(s => name in s.curves)), all.map(score => ({ ...score, head: score.label })));
}

/** A table of means with their intervals, a row for each score; the lowest is bold where lower is better. */
function grid(node, corner, names, rows) {
  node.replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, corner), ...names.map(name => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map(({ head, title, unit: of, curves, better }) => {
      const best = Math.min(...names.filter(n => n in curves && rivals(n)).map(n => curves[n].mean[0]).filter(finite));
      return el("tr", {}, el("th", { scope: "row" }, head ?? title + unit(of)), ...names.map(n => {
        if (!(n in curves)) return el("td", { class: "soft" }, "\u2013");
        const interval = curves[n].mean, bold = better && interval[0] === best && rivals(n);
        return el("td", { class: finite(interval[0]) ? (bold ? "best" : null) : "bad" }, number(interval[0]), el("small", {}, range(interval)));
      }));
    })));
}

function curves() { charts = []; against(); ensembles(); physics(); }

// ---------------------------------------------------------------- cost, all protocols, sources
function cost() {
  const protocol = P(), numeric = D.cost.columns.filter(c => c.values.some(v => finite(v) && v > 0));
  $("price").hidden = !D.cost.columns.length;
  if (!D.cost.columns.length) return;
  const column = numeric.find(c => c.name === state.cost) ?? numeric[0], rmse = chosen();
  $("against").replaceChildren(...numeric.map(c => el("option", { value: c.name, selected: c === column }, c.title)));
  $("cost").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), ...D.cost.columns.map(c => el("th", { scope: "col" }, c.title)))),
    el("tbody", {}, ...D.cost.labels.map((label, i) => el("tr", {}, el("th", { scope: "row" }, competitors.has(label) ? named(label) : label),
      ...D.cost.columns.map(c => el("td", {}, finite(c.values[i]) ? tidy(c.values[i]) : arrow(c.values[i] ?? "\u2013")))))));
  $("trade").replaceChildren();
  if (!column || !rmse) return;
  const points = D.cost.labels.map((name, i) => ({ name, x: column.values[i], y: rmse.curves[name]?.mean }))
    .filter(p => finite(p.x) && p.x > 0 && p.y && finite(p.y[0]) && role(p.name) !== "baseline");
  const baseline = protocol.board.find(row => role(row.name) === "baseline");
  const level = baseline && finite(rmse.curves[baseline.name].mean[0]) ? rmse.curves[baseline.name].mean[0] : null;
  if (!points.length) return;
  const W = Math.max(240, $("trade").clientWidth), H = 320, m = { left: 56, right: 16, top: 26, bottom: 42 };
  const xs = points.map(p => p.x), ys = [...points.flatMap(p => p.y).filter(finite), ...(level === null ? [] : [level])];
  let [x0, x1] = [Math.min(...xs) / 2, Math.max(...xs) * 2], y0 = rmse.better === "lower" ? 0 : Math.min(...ys), y1 = Math.max(...ys);
  if (level !== null && rmse.better === "lower") y1 = Math.min(y1, 3 * level);
  const slack = 0.06 * (y1 - y0 || 1); y1 += slack; if (y0 !== 0) y0 -= slack;
  const x = v => m.left + (Math.log(v) - Math.log(x0)) / (Math.log(x1) - Math.log(x0)) * (W - m.left - m.right);
  const y = v => Math.max(m.top, H - m.bottom - (v - y0) / (y1 - y0) * (H - m.top - m.bottom));
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, height: H, role: "img", "aria-label": `${rmse.title} against ${column.title}: ` + points.map(p => `${p.name} ${number(p.y[0])} at ${number(p.x)}`).join(", ") },
    ...axis(linear(y0, y1, 5), false, y, W, H, m), ...axis(decades(x0, x1, W > 500 ? 7 : 4), true, x, W, H, m),
    svg("line", { class: "axis", x1: m.left, x2: W - m.right, y1: H - m.bottom, y2: H - m.bottom }),
    svg("text", { class: "label", x: 0, y: 13 }, `${rmse.label}, mean over lead times`),
    svg("text", { class: "label", x: W - m.right, y: H - 4, "text-anchor": "end" }, column.title));
  if (level !== null) root.append(
    svg("line", { x1: m.left, x2: W - m.right, y1: y(level), y2: y(level), stroke: colour(baseline.name), "stroke-width": 2, "stroke-dasharray": competitors.get(baseline.name).dashes || null }),
    svg("text", { x: W - m.right, y: y(level) - 6, "text-anchor": "end" }, baseline.name));
  const placed = [];
  for (const p of points.sort((a, b) => a.y[0] - b.y[0])) {
    const wide = 7 * p.name.length, right = x(p.x) + 11 + wide < W, at = { x: x(p.x) + (right ? 11 : -11), y: y(p.y[0]) - 5 };
    const from = right ? at.x : at.x - wide;
    while (placed.some(q => from < q.to && q.from < from + wide && Math.abs(q.y - at.y) < 14)) at.y -= 14;  // names must not overlap
    placed.push({ from, to: from + wide, y: at.y });
    if (finite(p.y[1])) root.append(svg("line", { x1: x(p.x), x2: x(p.x), y1: y(p.y[1]), y2: y(p.y[2]), stroke: colour(p.name), "stroke-width": 2.5, opacity: 0.6 }));
    root.append(svg("circle", { cx: x(p.x), cy: y(p.y[0]), r: 6, fill: colour(p.name), stroke: "var(--paper)" }),
      svg("text", { class: "label", ...at, "text-anchor": right ? "start" : "end" }, p.name));
  }
  $("trade").append(root);
}

function overview() {
  const known = D.protocols.map((p, i) => ({ p, i, rmse: p.metrics.find(m => m.name === "rmse") })).filter(row => row.rmse);
  const names = [...competitors.keys()].filter(name => known.some(row => name in row.rmse.curves));
  $("all").hidden = D.protocols.length < 2;
  grid($("overview"), "Protocol", names, known.map(({ p, i, rmse }) => ({
    ...rmse, head: el("a", { href: "#", onclick: event => { event.preventDefault(); choose(i); scrollTo(0, 0); } }, arrow(p.name)) })));
}

const link = ({ text, place }) => place ? el("a", { href: place }, text) : el("span", {}, `${text} (not here any more)`);
const listed = items => items.flatMap((item, i) => i ? [el("br"), item] : [item]);
const item = ([name, value]) => [el("dt", {}, name), el("dd", {}, value.includes("\n") ? el("pre", { tabindex: 0 }, value) : value)];
function settings() {
  $("settings").replaceChildren(...P().settings.flatMap(item));
}
function sources() {
  const s = D.sources;
  const own = D.competitors.filter(c => !c.role).length;
  const against = [["baseline", "persistence"], ["reference", "the reference solver"]].filter(([name]) => D.competitors.some(c => c.role === name));
  $("subtitle").textContent = `${own} model${own === 1 ? "" : "s"}${against.length ? " against " : ""}${against.map(([, name]) => name).join(" and ")}, ${D.protocols.length} protocol${D.protocols.length === 1 ? "" : "s"}, `
    + `field${D.fields.length > 1 ? "s" : ""} ${D.fields.join(", ")}. Commit ${s.git.slice(0, 7)}${s.git.includes("changed") ? ", with changes" : ""}.`;
  $("runs").replaceChildren(...(s.runs.length ? s.runs.flatMap(run => [el("dt", {}, run.model),
    el("dd", {}, ...listed([...run.files.map(link), ...run.commands.map(command => el("code", {}, command))]))]) : [el("dd", {}, "No checkpoints are noted.")]));
  $("sources").replaceChildren(
    el("dt", {}, "Files"), el("dd", {}, ...listed(s.files.map(link))),
    el("dt", {}, "Commit"), el("dd", {}, s.git),
    el("dt", {}, "Versions"), el("dd", {}, Object.entries(s.versions).map(([name, version]) => `${name} ${version}`).join(", ")),
    el("dt", {}, "Settings"), el("dd", {}, el("pre", { tabindex: 0 }, s.settings)));
  $("definitions").replaceChildren(...D.definitions.flatMap(item));
}

// ---------------------------------------------------------------- the page
function choose(i) {
  state.protocol = i;
  const protocol = P();
  $("protocols").querySelectorAll("input")[i].checked = true;
  state.lead = Math.min(state.lead, protocol.horizon);
  $("metric").replaceChildren(...protocol.metrics.filter(m => !m.whole).map(m => el("option", { value: m.name, selected: m.name === state.metric }, m.title)));
  $("leaderboard").querySelector(".controls").hidden = !protocol.metrics.length;
  facts(); board(); curves(); viewer(); cost(); settings();
}
$("protocols").append(...D.protocols.map((p, i) =>
  el("label", {}, el("input", { type: "radio", name: "protocol", value: p.name, onchange: () => choose(i) }), el("span", {}, arrow(p.name)))));
$("metric").onchange = event => { state.metric = event.target.value; board(); curves(); cost(); };
$("every").onchange = event => { state.every = event.target.checked; board(); };
$("bin-lead").onchange = event => { state.binLead = +event.target.value; curves(); };
$("log-physics").onchange = event => { state.logPhysics = event.target.checked; curves(); };
$("log-ensembles").onchange = event => { state.logEnsembles = event.target.checked; curves(); };
$("log").onchange = event => { state.log = event.target.checked; curves(); };
$("window").onchange = event => { state.window = +event.target.value; show(); };
$("field").onchange = event => { state.field = +event.target.value; panels(); };
$("against").onchange = event => { state.cost = event.target.value; cost(); };
$("frame").oninput = event => { stop(); go(+event.target.value); };
$("play").onclick = play;
$("gallery").onkeydown = event => {  // radio buttons and lists keep their own arrow keys
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && !(event.target.matches("input, select"))) { stop(); go(state.frame + step); event.preventDefault(); }
};
let width = document.body.clientWidth;
addEventListener("resize", () => { if (document.body.clientWidth !== width) { width = document.body.clientWidth; curves(); cost(); } });
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
sources(); overview(); choose(0); point(Math.ceil(P().horizon / 2));
