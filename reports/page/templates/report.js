"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { stops, rows, counts } = data;
  const byId = (id) => document.getElementById(id);
  for (const element of document.querySelectorAll(".scripted")) element.hidden = false;

  // numbers as the rest of the page writes them
  const grouped = (value, digits) =>
    value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const nats = (value) => (Math.abs(value) < 1e6 ? grouped(value, 2) : value.toPrecision(6));
  const percent = (value) =>
    (value >= 0.001 || value === 0 ? (100 * value).toFixed(1) : (100 * value).toPrecision(2)) + " %";

  // the threshold
  const slider = byId("slider");
  let threshold = stops.threshold[stops.current];

  function onto(axis, value) {
    const [low, high, start, end] = axis;
    return start + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (end - start);
  }

  // what a threshold is worth at the share of anomalies that the reader states
  function worth(detection, alarms) {
    const share = Number(byId("prevalence").value) / 100;
    const costs = ["miss", "false-alarm"].map((id) => Number(byId(id).value));
    if (!(share > 0 && share < 1 && costs[0] > 0 && costs[1] > 0)) {
      return { precision_at: "?", f1_at: "?", cost_at: "?" };
    }
    const found = share * detection;
    const wrong = (1 - share) * alarms;
    return {
      precision_at: found + wrong ? percent(found / (found + wrong)) : "none flagged",
      f1_at: ((2 * found) / (found + wrong + share)).toFixed(3),
      cost_at: String(Number((1000 * (costs[0] * (share - found) + costs[1] * wrong)).toPrecision(4))),
    };
  }

  function showThreshold(i) {
    threshold = stops.threshold[i];
    const live = {
      threshold: nats(threshold),
      false_alarm_rate: percent(stops.false_alarm_rate[i]),
      false_alarm_rate_extra: `${percent(stops.false_alarm_low[i])} to ${percent(stops.false_alarm_high[i])}`,
      flagged: grouped(stops.flagged[i], 0),
      cost: (1000 * stops.false_alarm_rate[i]).toFixed(1),
    };
    let text = `threshold ${live.threshold}: ${live.flagged} flagged, ${live.false_alarm_rate} false alarms expected`;
    if (counts.n_anomalous !== null) {
      const found = stops.true_positives[i];
      const alarms = stops.false_positives[i];
      Object.assign(live, {
        true_positives: grouped(found, 0),
        false_negatives: grouped(counts.n_anomalous - found, 0),
        false_positives: grouped(alarms, 0),
        true_negatives: grouped(counts.n_normal - alarms, 0),
        detection_rate: percent(found / counts.n_anomalous),
        precision: stops.flagged[i] ? percent(found / stops.flagged[i]) : "none flagged",
      });
      text += `, ${live.detection_rate} of the anomalies found`;
      if (byId("prevalence")) Object.assign(live, worth(found / counts.n_anomalous, alarms / counts.n_normal));
      if (data.roc) {
        byId("roc-mark").setAttribute("cx", onto(data.roc.x, alarms / counts.n_normal));
        byId("roc-mark").setAttribute("cy", onto(data.roc.y, found / counts.n_anomalous));
      }
    }
    for (const element of document.querySelectorAll("[data-live]")) {
      if (element.dataset.live in live) element.textContent = live[element.dataset.live];
    }
    const x = onto(data.scores, threshold);
    byId("score-mark").setAttribute("x1", x);
    byId("score-mark").setAttribute("x2", x);
    slider.setAttribute("aria-valuetext", text);
    showRows();
  }

  // the table
  const body = document.querySelector("#samples tbody");
  const headers = [...document.querySelectorAll("#samples thead th")];
  const perPage = 50;
  const columns = headers.map((header) => header.dataset.column);
  let sorted = { column: "score", descending: true };
  let page = 0;

  function outcome(i) {
    const flagged = rows.score[i] > threshold;
    if (rows.anomalous === null) return flagged ? "flagged" : "not flagged";
    if (rows.anomalous[i]) return flagged ? "found" : "missed";
    return flagged ? "false alarm" : "correctly not flagged";
  }

  function cell(column, i) {
    if (column === "outcome") return outcome(i);
    const value = rows[column][i];
    if (column === "p") return String(value);
    return typeof value === "number" && column !== "row" ? nats(value) : String(value);
  }

  function matches(i) {
    const wanted = byId("show").value;
    const is = outcome(i);
    const flagged = is === "flagged" || is === "found" || is === "false alarm";
    if (wanted && wanted !== is && !(wanted === "flagged" && flagged) && !(wanted === "not flagged" && !flagged)) return false;
    const text = byId("find").value.trim().toLowerCase();
    return (
      !text ||
      String(rows.row[i]) === text ||
      (rows.label !== null && rows.label[i].toLowerCase() === text) ||
      (rows.name !== null && rows.name[i].toLowerCase().includes(text))
    );
  }

  function showRows() {
    const { column, descending } = sorted;
    const value = column === "outcome" ? outcome : (i) => rows[column][i];
    const compare = (a, b) =>
      typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    const found = rows.row
      .map((_, i) => i)
      .filter(matches)
      .sort((a, b) => (descending ? -1 : 1) * compare(value(a), value(b)) || rows.row[a] - rows.row[b]);
    const pages = Math.max(1, Math.ceil(found.length / perPage));
    page = Math.min(page, pages - 1);
    body.replaceChildren(
      ...found.slice(page * perPage, (page + 1) * perPage).map((i) => {
        const row = document.createElement("tr");
        for (const [place, name] of columns.entries()) {
          const element = document.createElement(place ? "td" : "th");
          if (!place) element.scope = "row";
          element.textContent = cell(name, i);
          row.append(element);
        }
        return row;
      }),
    );
    byId("matches").textContent = `${grouped(found.length, 0)} of ${grouped(rows.row.length, 0)} samples`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }

  function showOrder() {
    for (const header of headers) {
      const own = header.dataset.column === sorted.column;
      const direction = sorted.descending ? "descending" : "ascending";
      if (own) header.setAttribute("aria-sort", direction);
      else header.removeAttribute("aria-sort");
      header.querySelector(".sort").textContent = own ? (sorted.descending ? "▼" : "▲") : "↕";
    }
  }

  for (const header of headers) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.setAttribute("aria-label", `sort by ${header.textContent.trim()}`);
    button.addEventListener("click", () => {
      const column = header.dataset.column;
      const text = column === "label" || column === "name" || column === "outcome" || column === "row";
      sorted = { column, descending: sorted.column === column ? !sorted.descending : !text };
      page = 0;
      showOrder();
      showRows();
    });
    header.append(" ", button);
  }
  for (const id of ["find", "show"]) {
    byId(id).addEventListener("input", () => {
      page = 0;
      showRows();
    });
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => {
    page -= 1;
    showRows();
  });
  byId("next").addEventListener("click", () => {
    page += 1;
    showRows();
  });
  slider.addEventListener("input", () => showThreshold(Number(slider.value)));
  for (const id of ["prevalence", "miss", "false-alarm"]) {
    byId(id)?.addEventListener("input", () => showThreshold(Number(slider.value)));
  }
  byId("reset").addEventListener("click", () => {
    slider.value = stops.current;
    showThreshold(stops.current);
  });
  slider.value = stops.current; // browsers restore a moved slider when the page is reloaded
  showOrder();
  showThreshold(stops.current);

  // the gallery
  const dialog = byId("zoomed");
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      const article = button.closest("article");
      byId("zoomed-title").textContent = article.querySelector("h4").textContent;
      dialog.querySelector(".triple").replaceChildren(
        ...[...article.querySelectorAll(".triple img")].map((image) => image.cloneNode()),
      );
      dialog.showModal();
    });
  }
  byId("close").addEventListener("click", () => dialog.close());
})();
