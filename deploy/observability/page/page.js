"use strict";
// Polls the run's endpoint and draws; the last replies are its only state.

const WIDTH = 360, HEIGHT = 150, LEFT = 46, BOTTOM = 18, TOP = 8;
const POLL_MS = 2000;
const $ = (id) => document.getElementById(id);

function element(tag, attributes, ...children) {
  const svg = ["svg", "polyline", "line", "text", "circle"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
                   : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return (value / 1e6).toPrecision(3) + "M";
  if (size >= 1e4) return (value / 1e3).toPrecision(3) + "k";
  return size >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

// Change of `above` per change of `below` over at least `span` seconds back from each point.
function ratio(points, above, below, span) {
  const curve = [];
  let from = 0;
  for (const point of points) {
    while (points[from + 1] && point.time - points[from + 1].time >= span) from += 1;
    const start = points[from];
    const change = (point[below] ?? 0) - (start[below] ?? 0);
    if (point.time - start.time >= span && change > 0)
      curve.push([point.time, ((point[above] ?? 0) - (start[above] ?? 0)) / change]);
  }
  return curve;
}

function values(points, name) {
  return points.filter((point) => point[name] != null)
    .map((point) => [point.time, point[name]]);
}

function plot(title, unit, curves, label, fromZero = true) {
  const drawn = curves.filter((curve) => curve.points.length);
  const caption = element("figcaption", {}, title);
  const figure = element("figure", {}, caption);
  if (!drawn.length) {
    figure.append(element("p", {}, "no data yet"));
    return figure;
  }
  const all = drawn.flatMap((curve) => curve.points);
  const xs = all.map((point) => point[0]), ys = all.map((point) => point[1]);
  const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 + 1e-9);
  const lowest = Math.min(...ys), highest = Math.max(...ys);
  const margin = 0.1 * (highest - lowest || Math.abs(lowest) || 1);
  const y0 = fromZero ? Math.min(0, lowest) : lowest - margin;
  const y1 = highest > y0 && fromZero ? highest : highest + margin;
  const x = (value) => LEFT + (value - x0) / (x1 - x0) * (WIDTH - LEFT - 8);
  const y = (value) => HEIGHT - BOTTOM - (value - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP);
  const svg = element("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
                              "aria-label": title});
  for (const level of [y0, (y0 + y1) / 2, y1]) {
    svg.append(element("line", {class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(level), y2: y(level)}),
               element("text", {x: LEFT - 5, y: y(level) + 4, "text-anchor": "end"}, short(level)));
  }
  svg.append(element("text", {x: LEFT, y: HEIGHT - 4}, label(x0, x0)),
             element("text", {x: WIDTH - 8, y: HEIGHT - 4, "text-anchor": "end"}, label(x1, x0)));
  drawn.forEach((curve, index) => {
    const last = curve.points.at(-1);
    caption.append(element("span", {class: `s${index % 4}`},
                           `${curve.name} ${short(last[1])} ${unit}`.trim()));
    svg.append(element("polyline", {class: `s${index % 4}`,
      points: curve.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ")}));
    if (curve.points.length < 30)
      for (const [a, b] of curve.points)
        svg.append(element("circle", {class: `s${index % 4}`, cx: x(a), cy: y(b), r: 2.5}));
  });
  figure.append(svg);
  return figure;
}

function table(node, head, rows) {
  const cells = (tag, row) => element("tr", {}, ...row.map((text) => element(tag, {}, String(text))));
  node.replaceChildren(...(rows.length ? [cells("th", head)] : []),
                       ...rows.map((row) => cells("td", row)));
}

// [[step, value], …] of an object whose keys are step_N.
function bySteps(found) {
  return Object.entries(found ?? {}).map(([key, value]) => [Number(key.replace("step_", "")), value]);
}

function drawPlots(points, scores, analyses) {
  const after = (value, first) => duration(value - first);
  const suites = [...new Set(scores.flatMap(([, scored]) => Object.keys(scored)))];
  const curve = (suite) => ({name: suite, points: scores
    .filter(([, scored]) => scored[suite]?.value !== undefined)
    .map(([step, scored]) => [step, scored[suite].value])});
  const isShare = (suite) => scores.some(([, scored]) => scored[suite]?.unit === "fraction");
  const step = (value) => `step ${Math.round(value)}`;
  // No plot if no Fisher is configured.
  const aligned = analyses.filter(([, found]) => found.fisher?.alignment != null)
    .map(([at, found]) => [at, found.fisher.alignment]);
  $("plots").replaceChildren(
    plot("Throughput", "tokens/s", [
      {name: "generated", points: ratio(points, "tokens_drawn", "time", 10)},
      {name: "trained", points: ratio(points, "tokens_trained", "time", 10)}], after),
    plot("Acceptance", "", [
      {name: "verified / attempts", points: ratio(points, "verified", "attempts", 20)}], after),
    plot("Queue", "", [
      {name: "rollouts waiting", points: values(points, "waiting")},
      {name: "attempts in flight", points: values(points, "in_flight")}], after),
    plot("Loss", "nats/token", [{name: "", points: values(points, "loss")}], after),
    plot("Scores by checkpoint", "", suites.filter(isShare).map(curve), step),
    plot("Text NLL", "nats/token", suites.filter((suite) => !isShare(suite)).map(curve), step,
         false),
    ...(aligned.length ? [plot("Fisher alignment", "", [{name: "", points: aligned}], step, false)]
                       : []));
}

function drawTables(status, scores) {
  table($("roles"), ["actor", "state", "restarts"],
    Object.entries(status.roles ?? {}).map(([name, role]) => [name, role.state, role.restarts]));
  table($("scores"), ["step", "suite", "score", "n"], scores.flatMap(([step, scored]) =>
    Object.entries(scored).map(([suite, s]) => [step, suite, s.value === undefined
      ? "not measured" : `${s.value.toFixed(3)} [${s.low.toFixed(3)}, ${s.high.toFixed(3)}]`,
      s.n ?? ""])));
  table($("events"), ["time", "event"], (status.events ?? []).toReversed().map(
    (event) => [new Date(event.time * 1000).toLocaleTimeString(), event.text]));
}

function drawHead(status) {
  const queue = status.queue ?? {}, learner = status.learner ?? {};
  document.title = `${status.run}: ${status.state}`;
  $("run").textContent = status.run;
  $("state").textContent = status.state;
  $("state").className = `badge ${status.state}`;
  $("cause").textContent = status.cause ?? "";
  $("cause").hidden = !status.cause;
  const parts = [];
  if (status.began) parts.push(`${duration(status.updated - status.began)} since start`);
  if (queue.work) parts.push(`${queue.accepted} of ${queue.work} rollouts`);
  if (learner.step !== undefined && queue.total_steps) {
    parts.push(`step ${learner.step} of ${queue.total_steps}`);
  }
  if (status.seconds_left) parts.push(`about ${duration(status.seconds_left)} left`);
  $("summary").textContent = parts.join(" · ");
}

async function get(path) {
  const reply = await fetch(path, {cache: "no-store"});
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return reply.json();
}

async function poll() {
  try {
    const [status, points] = await Promise.all([get("/status.json"), get("/history.json")]);
    const scores = bySteps(status.scores);
    drawHead(status);
    drawPlots(points, scores, bySteps(status.analyses));
    drawTables(status, scores);
    $("connection").textContent = "";
  } catch (error) {
    // The endpoint closes with the run; the last plots stay.
    $("connection").textContent = `no response (${error.message}); the run may have ended`;
  }
  setTimeout(poll, POLL_MS);
}

poll();
