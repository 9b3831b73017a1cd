// Text and numbers for people. Names come from outside: whatever shows them does so by textContent or as a property, never as markup.
const $ = id => document.getElementById(id);
const has = value => typeof value === "number" && Number.isFinite(value);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = value => has(value) ? whole.format(value) : "–";
const fixed = (value, digits) => has(value) ? value.toFixed(digits) : "–";
const trim = value => String(Number(value.toPrecision(3)));
const short = value => Math.abs(value) >= 1e9 ? trim(value / 1e9) + "G" : Math.abs(value) >= 1e6 ? trim(value / 1e6) + "M" : Math.abs(value) >= 1e3 ? trim(value / 1e3) + "k" : trim(value);
const bytes = value => !has(value) ? "–" : value >= 1e9 ? trim(value / 1e9) + " GB" : value >= 1e6 ? trim(value / 1e6) + " MB" : value >= 1e3 ? trim(value / 1e3) + " kB" : value + " bytes";
const seconds = value => value < 1 ? `${trim(value * 1e3)} ms` : value < 120 ? `${trim(value)} s` : value < 7200 ? `${trim(value / 60)} min` : `${trim(value / 3600)} h`;
const span = value => value < 60 ? `${Math.floor(value)} s` : value < 3600 ? `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s` : value < 86400 ? `${Math.floor(value / 3600)} h ${Math.floor(value / 60 % 60)} min` : `${Math.floor(value / 86400)} d ${Math.floor(value / 3600 % 24)} h`;
const units = { share: value => value === 0 ? "0" : (Math.abs(value) < .1 ? trim(value) : value.toFixed(2)).replace(/^0(?=\.)/, ""), nats: trim, count: short, seconds, bytes };
const clockTime = at => new Date(at * 1e3).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const clockSecond = at => new Date(at * 1e3).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// What drives a terminal, ends a line, or reorders or hides text is shown for what it is.
const hidden = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const visible = name => name.replace(hidden, character => `\\u{${character.codePointAt(0).toString(16)}}`) || "(an empty name)";
const called = item => item.title ? `${visible(item.title)} (${visible(item.item_id)})` : visible(item.item_id);

function say(target, text) {
  const element = typeof target === "string" ? $(target) : target;
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") element.className = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function shape(tag, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Round steps between low and high.
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(times => times * power).find(step => step >= rough * .7);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}
