// ---------------------------------------------------------------- charts
function linear(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(s => s * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) ticks.push(i * step + 0);  // and not -0
  return ticks;
}
/** Ticks of a logarithmic axis: the coarsest of powers of ten, 1-2-5 steps and even steps that has at least three. */
function decades(low, high, most = 7) {
  const steps = digits => {
    const ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
      for (const d of digits) if (d * 10 ** p >= low * 0.999 && d * 10 ** p <= high * 1.001) ticks.push(d * 10 ** p);
    return ticks;
  };
  let ticks = steps([1]);
  if (ticks.length < 3) ticks = steps([1, 2, 5]);
  for (let count = 4; ticks.length < 3 && count < 12; count += 2) ticks = linear(low, high, count);
  return ticks.length > most ? ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0) : ticks;
}
function axis(ticks, horizontal, place, W, H, m) {
  let labels = ticks.map(t => tidy(t).replace(/^1\u00d7/, ""));  // 10\u207b\u2074
  if (new Set(labels).size < ticks.length) {  // three digits do not tell them apart
    const digits = Math.min(12, Math.max(0, Math.ceil(-Math.log10(Math.min(...ticks.slice(1).map((t, i) => t - ticks[i]))))));
    labels = ticks.map(t => t.toLocaleString("en", { maximumFractionDigits: digits }).replace(/^-/, "\u2212"));
  }
  return ticks.map((t, i) => horizontal
    ? svg("text", { x: place(t), y: H - m.bottom + 18, "text-anchor": "middle" }, labels[i])
    : svg("g", {}, svg("line", { class: "grid", x1: m.left, x2: W - m.right, y1: place(t), y2: place(t) }),
        svg("text", { x: m.left - 8, y: place(t) + 4, "text-anchor": "end" }, labels[i])));
}

/** Competitors whose RMSE is of another order than that of all others: no axis is stretched for them. */
function explodes() {
  const rmse = P().metrics.find(m => m.name === "rmse"), found = new Set();
  if (!rmse) return found;
  const most = Object.entries(rmse.curves).map(([name, of]) => [name, Math.max(0, ...of.at[0].filter(finite))]).sort((a, b) => b[1] - a[1]);
  for (let i = 0; i + 1 < most.length && most[i][1] > 20 * most[i + 1][1] && role(most[i + 1][0]) !== "reference"; i++) found.add(most[i][0]);
  return found;
}

/** Lines with bands at `xs`, and one across at `level`; `series` have a name and `at`: means and the ends of their intervals. */
function lines(box, { series, xs, x: xTitle, label = "", log = false, zero = false, level = null, height = 340 }) {
  const shown = series.filter(s => !state.hidden.has(s.name));
  const W = Math.max(240, box.clientWidth), H = height, m = { left: 58, right: 14, top: label ? 26 : 10, bottom: 42 };
  const usable = v => finite(v) && (!log || v > 0);
  const steady = shown.filter(s => !explodes().has(s.name)), values = (steady.length ? steady : shown).flatMap(s => s.at).flat().filter(usable);
  if (level !== null) values.push(level);
  let low = Math.min(...values), high = Math.max(...values);
  if (!values.length) [low, high] = log ? [0.1, 1] : [0, 1];
  if (zero && !log) low = Math.min(0, low);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
  if (!log) { const slack = 0.04 * (high - low); high += slack; if (!zero) low -= slack; }
  const first = xs[0], last = xs.at(-1);
  const x = v => m.left + (first === last ? 0.5 : (v - first) / (last - first)) * (W - m.left - m.right);
  const scale = log ? Math.log : v => v;
  const y = v => H - m.bottom - (scale(v) - scale(low)) / (scale(high) - scale(low)) * (H - m.top - m.bottom);

  const id = box.id + "-clip", inside = svg("g", { "clip-path": `url(#${id})` });
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, height: H, "aria-hidden": "true" },
    svg("clipPath", { id }, svg("rect", { x: m.left - 4, y: m.top - 4, width: W - m.left - m.right + 8, height: H - m.top - m.bottom + 8 })),
    ...axis(log ? decades(low, high) : linear(low, high, H > 250 ? 6 : 4), false, y, W, H, m));
  const round = first === last ? [first] : linear(first, last, W > 500 ? 8 : 4);
  const steps = Number.isInteger(first) && first === 1 ? [1, ...round.filter(t => Number.isInteger(t) && x(t) - x(1) > 22)] : round;
  root.append(...axis(steps, true, x, W, H, m),
    svg("line", { class: "axis", x1: m.left, x2: W - m.right, y1: H - m.bottom, y2: H - m.bottom }),
    svg("text", { class: "label", x: W - m.right, y: H - 4, "text-anchor": "end" }, xTitle), svg("text", { class: "label", x: 0, y: 13 }, label), inside);
  if (level !== null) inside.append(svg("line", { class: "level", x1: m.left, x2: W - m.right, y1: y(level), y2: y(level) }));
  for (const s of shown) {
    const [mean, lows, highs] = s.at, runs = [], path = (ids, of) => ids.map(i => `${x(xs[i]).toFixed(1)},${y(of(i)).toFixed(1)}`);
    mean.forEach((v, i) => usable(v) ? (usable(mean[i - 1]) ? runs.at(-1).push(i) : runs.push([i])) : null);
    for (const run of runs) {
      const band = run.filter(i => finite(lows[i]) && usable(highs[i]));
      if (band.length > 1) inside.append(svg("polygon", { fill: colour(s.name), opacity: 0.15,
        points: [...path(band, i => highs[i]), ...path(band.toReversed(), i => log && lows[i] <= 0 ? low / 10 : lows[i])].join(" ") }));
      if (run.length > 1) inside.append(svg("polyline", { points: path(run, i => mean[i]).join(" "), fill: "none", stroke: colour(s.name),
        "stroke-width": role(s.name) === "truth" ? 2.6 : 2, "stroke-dasharray": competitors.get(s.name)?.dashes || null, "stroke-linejoin": "round" }));
      else inside.append(svg("circle", { cx: x(xs[run[0]]), cy: y(mean[run[0]]), r: 3.5, fill: colour(s.name) }));
    }
    const end = runs.at(-1)?.at(-1);  // forecasts that are not finite are lost from here on
    if (s.nonFinite && end !== undefined && end + 1 < mean.length)
      root.append(svg("text", { class: "label", x: x(xs[end]), y: Math.max(m.top, y(mean[end])) + 5, "text-anchor": "middle", "font-weight": 700 }, "\u00d7"));
  }
  box.replaceChildren(root);
  return { root, shown, x, y, usable, m, W, H };
}

/** The same against lead time, with a cross-hair that pointer and keys move; it calls `read(lead)`. */
function curve(box, { title, read, ...options }) {
  const protocol = P(), horizon = protocol.horizon;
  const { root, shown, x, y, usable, m, W, H } = lines(box, { ...options, xs: Array.from({ length: horizon }, (_, i) => i + 1), x: `lead time [frames], ${time(protocol, 1)} each` });
  const cross = svg("line", { class: "cross", y1: m.top, y2: H - m.bottom }), dots = svg("g");
  root.append(cross, dots);
  function move(lead) {
    cross.setAttribute("x1", x(lead)); cross.setAttribute("x2", x(lead));
    dots.replaceChildren(...shown.filter(s => usable(s.at[0][lead - 1]) && y(s.at[0][lead - 1]) > m.top - 4).map(s =>
      svg("circle", { cx: x(lead), cy: y(s.at[0][lead - 1]), r: 3.5, fill: colour(s.name), stroke: "var(--paper)" })));
    box.setAttribute("aria-valuenow", lead);
    box.setAttribute("aria-valuetext", `lead ${lead}: ` + shown.map(s => `${s.name} ${number(s.at[0][lead - 1])}`).join(", "));
    read(lead);
  }
  for (const [key, value] of Object.entries({ tabindex: 0, role: "slider", "aria-label": title, "aria-valuemin": 1, "aria-valuemax": horizon })) box.setAttribute(key, value);
  box.onpointermove = box.onpointerdown = event => {
    const part = (event.clientX - box.getBoundingClientRect().left) * W / box.clientWidth;
    point(Math.round(1 + (part - m.left) / (W - m.left - m.right) * (horizon - 1)));
  };
  box.onkeydown = event => {
    const to = { ArrowRight: state.lead + 1, ArrowUp: state.lead + 1, ArrowLeft: state.lead - 1, ArrowDown: state.lead - 1,
                 PageUp: state.lead + 10, PageDown: state.lead - 10, Home: 1, End: horizon }[event.key];
    if (to !== undefined) { point(to); event.preventDefault(); }
  };
  charts.push(move);
  move(state.lead);
}
let charts = [];
function point(lead) {  // all charts are read at the same lead
  state.lead = Math.min(P().horizon, Math.max(1, lead || 1));
  charts.forEach(move => move(state.lead));
}
