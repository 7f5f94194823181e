// ---------------------------------------------------------------- gallery
const sheets = new Map();
async function sheet(uri) {  // grey levels of a sprite
  if (!sheets.has(uri)) sheets.set(uri, (async () => {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = el("canvas", { width: image.width, height: image.height }), context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return { width: image.width, data: context.getImageData(0, 0, image.width, image.height).data };
  })());
  return sheets.get(uri);
}
const table = hex => Uint8Array.from({ length: 768 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
const [FIELD, ERROR] = D.colours.map(table), BLANK = 255, GREY = [176, 176, 176];

const frames = () => D.galleries[state.protocol];
function paint(canvas, [w, h], colours, level) {  // level(i): place in the colour map from 0 to 1 of pixel i, NaN if it has none
  canvas.width = w; canvas.height = h;
  const context = canvas.getContext("2d"), image = context.createImageData(w, h);
  for (let i = 0; i < w * h; i++) {
    const part = level(i), at = Math.round(255 * Math.min(1, Math.max(0, part)));
    image.data.set(Number.isNaN(part) ? GREY : colours.subarray(3 * at, 3 * at + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
function reader(sprite, [w, h]) {  // value of pixel i of the frame shown, in grey levels
  const left = state.frame * w, top = state.window * h;
  return i => sprite.data[4 * ((top + Math.floor(i / w)) * sprite.width + left + i % w)];
}
let drawn = 0;
async function show() {
  const f = frames(), turn = ++drawn;
  if (!f) return;
  const field = f.fields[state.field], [from, to] = field.limits, span = (to - from) / (BLANK - 1);
  const names = Object.keys(field.sprites), ensemble = Object.entries(field.ensembles[state.model]?.sprites ?? {});
  const sprites = await Promise.all([...names.map(name => field.sprites[name]), ...ensemble.map(([, uri]) => uri)].map(sheet));
  if (turn !== drawn) return;  // the slider has moved on
  const read = Object.fromEntries(names.map((name, i) => [name, reader(sprites[i], f.size)]));
  const look = name => i => { const q = read[name](i); return q === BLANK ? NaN : (from + q * span - field.low) / (field.high - field.low); };
  const truth = names.find(name => role(name) === "truth"), model = state.model;
  paint($("truth"), f.size, FIELD, look(truth));
  paint($("forecast"), f.size, FIELD, look(model));
  if (ensemble.length) ensemble.forEach(([panel], k) => {  // on the scale of this ensemble
    const grey = reader(sprites[names.length + k], f.size);
    paint($(panel), f.size, ERROR, i => grey(i) === BLANK ? NaN : grey(i) / (BLANK - 1));
  });
  else paint($("error"), f.size, ERROR, i => {
    const [p, q] = [read[model](i), read[truth](i)];
    return p === BLANK || q === BLANK ? NaN : 0.5 + (p - q) * span / (2 * field.error);
  });
  for (const canvas of $("shown").querySelectorAll("canvas")) paint(canvas, f.size, FIELD, look(canvas.dataset.model));
  const lead = f.leads[state.frame], said = `lead ${lead}, ${time(P(), lead)}`;
  const score = name => f.rmse[name] ? f.rmse[name][state.window][state.frame] : undefined;
  $("when").textContent = said;
  $("frame").setAttribute("aria-valuetext", said);
  $("error-title").textContent = score(model) === undefined ? "Error" : `Error, RMSE ${number(score(model))}`;
  for (const small of $("shown").querySelectorAll("small")) small.textContent = score(small.dataset.model) === undefined ? "" : `RMSE ${number(score(small.dataset.model))}`;
}

function viewer() {
  const f = frames(), protocol = P();
  stop();
  $("gallery").hidden = !f;
  if (!f) return;
  const names = Object.keys(f.fields[0].sprites).filter(name => role(name) !== "truth");
  const best = protocol.board.map(row => row.name).find(name => names.includes(name) && !role(name));
  if (!names.includes(state.model)) state.model = best ?? names[0];
  state.window = Math.min(state.window, f.windows.length - 1);
  state.frame = Math.min(state.frame, f.leads.length - 1);
  $("gallery-note").textContent = "Truth, forecast and their difference, forecast minus truth. Colours end where the truth ends, the same for all models: values beyond keep the end colours, and grey is not a number (NaN)."
    + (f.reduced > 1 ? ` Frames are shown at 1/${f.reduced} of their resolution.` : "") + (Object.keys(f.fields[0].ensembles).length ? " An ensemble has a further panel, the spread of its members, and a colour scale of its own for error and spread: where the spread is dark, the forecast is not to be trusted." : "")
    + " Press ← and → to move in time.";
  $("window").replaceChildren(...f.windows.map(([trajectory, start], i) => el("option", { value: i, selected: i === state.window }, `${trajectory}, from frame ${start}`)));
  $("fields").hidden = f.fields.length < 2;
  $("field").replaceChildren(...f.fields.map((field, i) => el("option", { value: i, selected: i === state.field }, field.name)));
  $("frame").max = f.leads.length - 1;
  $("frame").value = state.frame;
  $("shown").replaceChildren(...names.map(name => {
    const label = f.seeds[name] === null ? name : `${name}, seed ${f.seeds[name]}`;
    return el("label", {}, el("input", { type: "radio", name: "shown", value: name, checked: name === state.model, onchange: () => { state.model = name; panels(); } }),
      el("span", { class: "card" }, el("canvas", { "data-model": name, "aria-hidden": "true" }), label, el("small", { "data-model": name })));
  }));
  panels();
}
function panels() {
  const f = frames(), field = f.fields[state.field];
  const panel = (id, title, colours, low, high) => el("figure", {}, el("h3", { id: `${id}-title`, title }, title),
    el("canvas", { id, role: "img", "aria-labelledby": `${id}-title` }), el("canvas", { class: "bar", id: `${id}-bar`, "aria-hidden": "true" }),
    el("div", { class: "limits" }, ...[low, (low + high) / 2, high].map(v =>
      el("span", {}, (+v.toFixed(Math.max(0, 2 - Math.floor(Math.log10(high - low))))).toString().replace("-", "\u2212")))));
  const ensemble = field.ensembles[state.model], most = ensemble?.error ?? field.error;
  $("panels").classList.toggle("four", ensemble !== undefined);
  $("panels").replaceChildren(panel("truth", "Truth", FIELD, field.low, field.high), panel("forecast", state.model, FIELD, field.low, field.high),
    panel("error", "Error", ERROR, -most, most), ...(ensemble ? [panel("spread", "Spread", ERROR, 0, most)] : []));
  for (const [id, colours] of [["truth", FIELD], ["forecast", FIELD], ["error", ERROR]]) paint($(`${id}-bar`), [256, 1], colours, i => i / 255);
  if (ensemble) paint($("spread-bar"), [256, 1], ERROR, i => 0.5 + i / 510);
  show();
}
let timer = null;
function stop() { clearInterval(timer); timer = null; $("play").textContent = "Play"; }
function go(frame) {
  state.frame = Math.min(frames().leads.length - 1, Math.max(0, frame));
  $("frame").value = state.frame;
  point(frames().leads[state.frame]);
  return show();
}
function play() {
  if (timer !== null) return stop();
  const last = frames().leads.length - 1;
  if (state.frame === last) go(0);
  $("play").textContent = "Pause";
  timer = setInterval(() => state.frame < last ? go(state.frame + 1) : stop(), 180);
}
