// What htmx does not do: the switches for theme and live updates, charts, and a quiet word when something needs the operator.
"use strict";
(() => {
  const THEMES = ["system", "light", "dark"];
  const root = document.documentElement;
  let isLive = true;

  function keep(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch (error) {
      // Kept for this page only.
    }
  }

  // Theme: as the system has it, or chosen.

  function setTheme(theme) {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    keep("qcompute-theme", theme);
    showTheme();
    drawCharts(document);
  }

  function showTheme() {
    const button = document.getElementById("theme-switch");
    button.hidden = false;
    button.textContent = `Theme: ${root.dataset.theme || "system"}`;
  }

  // Live updates can be paused, and wait while the keyboard is inside of what they would replace.

  function setLive(value) {
    isLive = value;
    const button = document.getElementById("live-switch");
    button.hidden = !document.querySelector("[sse-connect]");
    button.setAttribute("aria-pressed", String(isLive));
    button.textContent = isLive ? "Live" : "Paused";
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    const cause = event.detail.requestConfig.triggeringEvent;
    if (!cause || !cause.type.startsWith("sse:")) return;
    const active = document.activeElement;
    const place = event.detail.target;
    const isInUse = active && active !== place && place.contains(active) && active.matches("[tabindex], input, select");
    if (!isLive || isInUse || document.hidden) event.preventDefault();
  });

  // An open table stays open when its part of the page is replaced.

  let open = new Set();
  document.addEventListener("htmx:beforeSwap", (event) => {
    open = new Set([...event.detail.target.querySelectorAll("details[open] > summary[id]")].map((one) => one.id));
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    for (const name of open) document.getElementById(name)?.parentElement.setAttribute("open", "");
    drawCharts(event.detail.target);
    say(event.detail.target);
  });

  // One word for screen readers when what needs the operator changes; never for mere progress.

  let said = null;
  function say(place) {
    const words = place.querySelector("[data-say]")?.dataset.say ?? "";
    if (said !== null && words !== said) document.getElementById("said").textContent = words;
    said = words;
  }

  // Charts: the figures are in the element, and in a table beside it.

  const drawn = new Map();

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  function drawCharts(place) {
    for (const [element, chart] of drawn) {
      if (element.isConnected && !place.contains(element)) continue;
      chart.destroy();
      drawn.delete(element);
    }
    for (const element of place.querySelectorAll("[data-chart]")) drawChart(element);
  }

  function drawChart(element) {
    const told = JSON.parse(element.dataset.chart);
    const isBars = told.kind === "bars";
    const x = isBars ? told.labels.map((_, place) => place) : told.x;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const space = Math.max(...(told.labels || [""]).map((label) => label.length)) * 8 + 12;
    const below = isBars
      ? { ...axis, grid: { show: false }, space, values: (_, splits) => splits.map((at) => told.labels[at] ?? ""), splits: () => x }
      : { ...axis, values: (_, splits) => splits.map((at) => new Date(at * 1e3).toISOString().slice(11, 16)) };
    if (isBars && space * x.length > element.clientWidth) below.rotate = -60;
    if (below.rotate) below.size = Math.min(space, 150);
    const options = {
      width: Math.max(element.clientWidth, 200),
      height: isBars && below.rotate ? 300 : 200,
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: !isBars, range: isBars ? [-0.6, x.length - 0.4] : undefined }, y: { range: (_, least, most) => [0, Math.max(most * 1.08, 1)] } },
      axes: [below, { ...axis, size: 52 }],
      series: [{}, {
        label: told.label,
        stroke: colour("--accent"),
        fill: colour("--accent-soft"),
        width: 2,
        paths: isBars ? uPlot.paths.bars({ size: [0.7, 60] }) : undefined,
        points: { show: false },
      }],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    };
    drawn.set(element, new uPlot(options, [x, told.y], element));
  }

  let resizing = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => drawCharts(document));
  });

  showTheme();
  document.getElementById("theme-switch").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(root.dataset.theme || "system") + 1) % THEMES.length]);
  });
  setLive(true);
  document.getElementById("live-switch").addEventListener("click", () => setLive(!isLive));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts(document));
  say(document);
  drawCharts(document);
})();
