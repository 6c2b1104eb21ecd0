// Without this script the page is whole: charts are drawn, strips of samples scroll.
"use strict";
document.documentElement.classList.add("scripted");

const bends = {
  linear: (value) => value,
  log: (value) => Math.log(value),
  early: (value, knee) => Math.log1p(value / knee),
};

function position(scale, value) {
  const at = (one) => bends[scale.kind](one, scale.knee);
  return (at(value) - at(scale.low)) / (at(scale.high) - at(scale.low));
}

function number(value) {
  return Math.abs(value) >= 999.5
    ? Math.round(value).toLocaleString("en")
    : String(Number(value.toPrecision(3)));
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Values of a chart at the place that the pointer, a finger or the arrow keys choose.
function readable(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const tip = figure.querySelector(".tip"), said = figure.querySelector(".unseen");
  for (const chart of figure.querySelectorAll("svg.chart")) {
    const unit = ["passes", "steps", "seconds"].find((name) => chart.classList.contains(name));
    const scales = JSON.parse(chart.dataset.scales);
    const [left, right, top, bottom] = chart.dataset.frame.split(" ").map(Number);
    const arms = data.arms.filter((arm) => arm.value.length);
    const stops = [...new Set(arms.flatMap((arm) => arm[unit]))].sort((a, b) => a - b);
    if (!stops.length) continue; // its seeds have no step in common
    const xOf = (value) => left + position(scales.x, value) * (right - left);
    const yOf = (value) => bottom - position(scales.y, value) * (bottom - top);
    const marks = element("g", { class: "marks" });
    chart.append(marks);
    let chosen = -1;

    function hide() {
      marks.replaceChildren();
      tip.hidden = true;
      chosen = -1;
    }

    function show(index, aloud) {
      chosen = Math.min(Math.max(index, 0), stops.length - 1);
      const at = stops[chosen], x = xOf(at), lines = [];
      marks.replaceChildren(element("path", { class: "cross", d: `M${x} ${top}V${bottom}` }));
      for (const arm of arms) {
        if (getComputedStyle(chart.querySelector(`.${arm.style.split(" ")[0]}`)).display === "none") continue;
        const row = nearest(arm[unit], at);
        const y = yOf(arm.value[row]);
        marks.append(element("circle", { class: `pointed ${arm.style}`, cx: xOf(arm[unit][row]), cy: y, r: 4.5 }));
        const range = arm.low ? ` (${number(arm.low[row])} to ${number(arm.high[row])})` : "";
        lines.push({ style: arm.style, name: arm.name, value: number(arm.value[row]), range });
      }
      const answers = data.walk.filter((one) => one[unit][0] <= at).at(-1);
      const where = `${unit} ${number(at)}` + (answers ? `, ${answers.name}` : "");
      tip.replaceChildren(strong(where), ...lines.map(row));
      tip.hidden = false;
      place(tip, chart, x);
      if (aloud) said.textContent = [where, ...lines.map((line) => `${line.name} ${line.value}${line.range}`)].join("; ");
    }

    chart.setAttribute("tabindex", "0");
    function point(event) {
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      show(nearest(stops.map(xOf), x), false);
    }

    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") hide(); // a finger that is lifted leaves the values there
    });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
      if (event.key === "Escape") hide();
      else if (event.key === "Home") show(0, true);
      else if (event.key === "End") show(stops.length - 1, true);
      else if (event.key in steps) show(chosen < 0 ? (steps[event.key] > 0 ? 0 : stops.length - 1) : chosen + steps[event.key], true);
      else return;
      event.preventDefault();
    });
  }
}

function nearest(values, goal) {
  let best = 0;
  for (let index = 1; index < values.length; index++)
    if (Math.abs(values[index] - goal) < Math.abs(values[best] - goal)) best = index;
  return best;
}

function strong(words) {
  const line = document.createElement("div"), bold = document.createElement("b");
  bold.textContent = words;
  line.append(bold);
  return line;
}

function row({ style, name, value, range }) {
  const line = document.createElement("div"), swatch = document.createElement("span"), more = document.createElement("span");
  line.className = style;
  swatch.className = "swatch";
  more.className = "range";
  more.textContent = range;
  line.append(swatch, `${name} ${value}`, more);
  return line;
}

// Beside the cross, on the side that has room, within the chart.
function place(tip, chart, x) {
  const share = chart.clientWidth / chart.viewBox.baseVal.width, at = x * share, gap = 12;
  const width = tip.offsetWidth, room = chart.clientWidth;
  const left = at + gap + width <= room ? at + gap : Math.max(0, at - gap - width);
  tip.style.transform = `translate(${Math.min(left, room - width)}px, ${34 * share}px)`;
}

// One slider for all arms of an experiment; it plays only where the reader asks for it.
function scrubbed(gallery) {
  const slider = gallery.querySelector("input[type=range]"), told = gallery.querySelector("output");
  const button = gallery.querySelector("button"), steps = JSON.parse(slider.dataset.steps);
  const strips = [...gallery.querySelectorAll(".strip")].map((strip) => {
    const frames = [...strip.querySelectorAll(".frame")];
    return { frames, steps: frames.map((frame) => Number(frame.dataset.step)) };
  });
  let timer = null;

  function show() {
    const step = steps[Number(slider.value)];
    for (const strip of strips) {
      const at = nearest(strip.steps, step);
      strip.frames.forEach((frame, index) => frame.classList.toggle("on", index === at));
    }
    told.textContent = `step ${step.toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", told.textContent);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function play() {
    if (Number(slider.value) >= steps.length - 1) slider.value = 0;
    button.textContent = "Pause";
    show();
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= steps.length - 1) stop();
    }, Math.max(120, 5000 / steps.length));
  }

  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => (timer === null ? play() : stop()));
  show();
}

document.querySelectorAll("figure.readable").forEach(readable);
document.querySelectorAll(".gallery").forEach(scrubbed);
