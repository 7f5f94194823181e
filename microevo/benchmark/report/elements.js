"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const competitors = new Map(D.competitors.map(c => [c.name, c]));
const state = { protocol: 0, metric: "rmse", log: false, logEnsembles: false, logPhysics: false, hidden: new Set(), sort: ["place", false], lead: 1,
                every: false, binLead: null, model: null, window: 0, field: 0, frame: 0, cost: "seconds" };
const $ = id => document.getElementById(id);
const P = () => D.protocols[state.protocol];
const arrow = name => name.replaceAll("->", "\u2192");


// ---------------------------------------------------------------- elements and numbers
// Names come from users: they enter the page as text and attributes only, never as markup.
function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const role = name => competitors.get(name)?.role;
const colour = name => competitors.get(name)?.colour || "var(--ink)";

const finite = value => typeof value === "number";
const words = value => value === null || value === undefined ? "NaN" : value === "inf" ? "\u221e" : "\u2212\u221e";
function number(value, decimals = null) {  // three digits that mean something, or as many decimals as its column has
  if (!finite(value)) return words(value);
  const size = Math.abs(value);
  if (value !== 0 && (size < (decimals === null ? 1e-3 : 0.95 * 10 ** (decimals > 2 ? 1 - decimals : -decimals)) || size >= 1e7)) {
    const [digits, power] = value.toExponential(1).split("e");
    return (digits + "\u00d710" + [...String(+power)].map(c => "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[c] ?? "\u207b").join("")).replace(/^-/, "\u2212");
  }
  if (decimals === null) decimals = value === 0 ? 0 : Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(size))));
  else if (size >= 10) decimals = Math.min(decimals, Math.max(0, 4 - Math.floor(Math.log10(size))));
  return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace(/^-/, "\u2212");
}
const tidy = value => number(value).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "").replace(".0\u00d7", "\u00d7");
const range = ([, low, high], decimals = null) => finite(low) && finite(high) && low !== high ? `${number(low, decimals)}${low < 0 ? " to " : "\u2013"}${number(high, decimals)}` : "";
function decimals(values) {  // of a column: so that its smallest number keeps three digits
  const sizes = values.filter(v => finite(v) && v !== 0).map(Math.abs);
  return sizes.length ? Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(Math.min(...sizes))))) : 2;
}
function swatch(name) {
  const line = { x1: 0, x2: 24, y1: 6, y2: 6, "stroke-width": 2.5, stroke: colour(name), "stroke-dasharray": competitors.get(name)?.dashes || null };
  return svg("svg", { class: "swatch", width: 24, height: 12, "aria-hidden": "true" }, svg("line", line));
}
function named(name, more = "") {
  return el("span", { class: "name" }, swatch(name), el("span", {}, name, el("small", {}, role(name) === "truth" ? "" : role(name) || more)));
}
const time = (protocol, lead) => `${tidy(lead * protocol.interval)} ${protocol.time}`;
