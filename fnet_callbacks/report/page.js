"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printing = matchMedia("print");

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), rule: of("--rule"), quiet: of("--quiet") };
  };

  // What a legend of many groups needs beyond the room that figures have for it.
  const more = (data) => {
    const entries = data.filter((trace) => trace.name && trace.showlegend !== false).length;
    return 22 * Math.max(0, Math.ceil(entries / (innerWidth < 700 ? 1 : 6)) - 7);
  };

  // A layout in the page's colours; legends below, where a phone has room for them.
  const dressed = (layout, data) => {
    const { ink, rule, quiet } = colours();
    const axis = (own) => ({
      gridcolor: rule, zerolinecolor: rule, linecolor: rule, automargin: true, ...own,
      title: { standoff: 8, ...own?.title },
    });
    return {
      height: 440 + more(data), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 50, r: 10, t: 30, b: 40 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink },
      legend: { orientation: "h", y: -0.2, yanchor: "top" },
      hovermode: "closest", ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    };
  };

  const config = {
    responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  const selectors = (name) => [...document.querySelectorAll(`select[data-figure="${name}"]`)];
  const draw = (name) => {
    const variant = figures[name].variants[selectors(name).map((s) => s.value).join("\u001f")];
    if (variant === undefined) return;
    Plotly.react(name, variant.data, dressed(variant.layout, variant.data), config);
  };

  // Options that go with no choice of the other selectors are kept, but cannot be chosen.
  const restrict = (name, changed) => {
    const all = selectors(name);
    const known = figures[name].variants;
    const chosen = () => all.map((s) => s.value);
    if (!(chosen().join("\u001f") in known)) {
      const kept = all.indexOf(changed);
      const other = Object.keys(known).map((key) => key.split("\u001f")).find((key) => key[kept] === changed.value);
      all.forEach((s, i) => { s.value = other[i]; });
    }
    all.slice(1).forEach((s, i) => {
      for (const option of s.options) {
        const key = chosen();
        key[i + 1] = option.value;
        option.disabled = !(key.join("\u001f") in known);
      }
    });
  };

  for (const name of Object.keys(figures)) {
    const all = selectors(name);
    for (const select of all) {
      select.addEventListener("change", () => { restrict(name, select); draw(name); });
    }
    if (all.length > 1) restrict(name, all[0]);
    draw(name);
  }
  const again = () => Object.keys(figures).forEach(draw);
  dark.addEventListener("change", again);
  printing.addEventListener("change", again);

  // Tables: by the column whose head is clicked, and back.
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const value = (row) => {
          const cell = row.cells[column];
          return cell.classList.contains("number") ? Number(cell.dataset.value ?? NaN) : cell.textContent;
        };
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
          return descending ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
