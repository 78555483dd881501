"use strict";
const [search, setting, kind] = ["search", "setting", "kind"].map((id) => document.getElementById(id));
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const table of document.querySelectorAll(".facts")) {
    const hidden = setting.value !== "" && table.dataset.setting !== setting.value;
    table.hidden = hidden;
    for (const row of table.querySelectorAll("tbody tr")) {
      const text = row.textContent.toLowerCase();
      const fits = (kind.value === "" || row.dataset.kinds.split(" ").includes(kind.value))
        && words.every((word) => text.includes(word));
      row.hidden = !fits;
      shown += fits && !hidden;
    }
  }
  document.getElementById("shown").textContent = `${shown} shown`;
}
if (search) {
  for (const control of [search, setting, kind]) control.addEventListener("input", filter);
  filter();
}
