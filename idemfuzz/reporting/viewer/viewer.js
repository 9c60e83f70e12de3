"use strict";
// The trace viewer. It knows the document that idemfuzz.reporting.html makes, and nothing else: no network, no library.
// Every text comes from the user's code and data, so elements get it as text, never as markup.
(() => {
  const doc = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const MARKS = { violated: "✗", unknown: "?", holds: "✓" };
  const ENDINGS = { ok: "done", failed: "fails", killed: "dead", hung: "does not end" };
  const LANE = 46, AXIS = 26, BLOCK = 28, ROW = 30, WIDTHS = [3, 6, 12, 24, 48, 92, 140, 200];
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  /** An element with attributes, listeners (onclick: ...) and children; null and false are passed over. */
  function el(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key === "class") made.className = value;
      else made.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat(3)) if (child !== null && child !== undefined && child !== false) made.append(child);
    return made;
  }
  /** A small drawing: fonts do not agree on the signs of players. */
  function icon(path) {
    const space = "http://www.w3.org/2000/svg", drawing = document.createElementNS(space, "svg"), line = document.createElementNS(space, "path");
    for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" })) drawing.setAttribute(key, value);
    line.setAttribute("d", path); line.setAttribute("fill", "currentColor");
    drawing.append(line);
    return drawing;
  }
  const ICONS = { first: "M2 3h2v10H2zM14 3v10L5 8z", previous: "M12 3v10L3 8z", next: "M4 3v10l9-5z", last: "M12 3h2v10h-2zM2 3v10l9-5z" };
  const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || one + "s"}`;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tint = (delivery) => `--lane${((delivery - 1) % 4) + 1}`;

  /** A tagged JSON value on one line, as a person would write it. */
  function shown(value) {
    if (value === null) return "null";
    if (typeof value === "string") return JSON.stringify(value);
    if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
    if (typeof value !== "object") return String(value);
    const keys = Object.keys(value);
    if (keys.length === 1) {
      const [tag] = keys, inner = value[tag];
      if (["datetime", "decimal", "uuid", "float", "text"].includes(tag)) return String(inner);
      if (tag === "generated") return `${shown(inner)} (made up)`;
      if (tag === "seconds") return `${inner} s`;
      if (tag === "bytes") return `bytes ${inner}`;
      if (tag === "set" && Array.isArray(inner)) return `{${inner.map(shown).join(", ")}}`;
    }
    return `{${keys.map((key) => `${JSON.stringify(key)}: ${shown(value[key])}`).join(", ")}}`;
  }

  // -- where we are: #search/finding/step ------------------------------------------------------------------------

  let searchIndex = -1, findingIndex = -1, trace = null;

  function place() {
    const parts = location.hash.replace(/^#\/?/, "").split("/").map((part) => (part === "" ? NaN : Number(part)));
    const search = doc.searches[parts[0]];
    return { search: search ? parts[0] : -1, finding: search && search.findings[parts[1]] ? parts[1] : -1, step: parts[2] };
  }

  function go() {
    const at = place();
    if (at.search === searchIndex && at.finding === findingIndex && trace) {
      if (Number.isInteger(at.step)) trace.selectEvent(at.step);
      return;
    }
    searchIndex = at.search; findingIndex = at.finding;
    if (trace) trace.close();
    trace = null;
    const main = $("main");
    main.replaceChildren();
    if (at.search < 0) overview(main);
    else if (at.finding < 0) certificate(main, doc.searches[at.search]);
    else finding(main, doc.searches[at.search], doc.searches[at.search].findings[at.finding], at.step);
    for (const link of document.querySelectorAll("nav a")) {
      const chosen = link.hash === (at.search < 0 ? "#/" : `#/${at.search}${at.finding < 0 ? "" : `/${at.finding}`}`);
      if (chosen) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest" }); } else link.removeAttribute("aria-current");
    }
    window.scrollTo(0, 0);
  }

  function list() {
    const box = $("list");
    box.append(el("p", { class: "search" }, el("a", { href: "#/" }, "Overview")));
    doc.searches.forEach((search, s) => box.append(el("div", { class: "search" },
      el("p", {}, el("span", { class: `mark ${search.verdict}`, title: search.verdict }, MARKS[search.verdict], el("span", { class: "unseen" }, search.verdict)), el("span", {}, search.name)),
      search.findings.map((found, f) => el("a", { href: `#/${s}/${f}` }, el("span", { class: "code" }, found.code), found.title)),
      el("a", { href: `#/${s}` }, "Certificate"))));
    const bits = ["violated", "unknown", "holds"].filter((verdict) => doc.counts[verdict]).map((verdict) => `${doc.counts[verdict]} ${verdict}`);
    $("tally").textContent = `${count(doc.searches.length, "search", "searches")}: ${bits.join(", ") || "none"}`;
  }

  // -- pages -----------------------------------------------------------------------------------------------------

  function section(title, aside, ...children) {
    const id = `h-${Math.random().toString(36).slice(2)}`;
    return el("section", { "aria-labelledby": id }, el("div", { class: "head" }, el("h2", { id }, title), aside), children);
  }

  function overview(main) {
    const found = doc.searches.flatMap((search, s) => search.findings.map((one, f) => ({ search, one, href: `#/${s}/${f}` })));
    main.append(el("h1", {}, found.length ? count(found.length, "finding") : doc.searches.length ? "No findings" : "Nothing was searched"),
      el("p", { class: "where mono" }, doc.command));
    if (found.length) main.append(section("Findings", null, el("div", { class: "cards" }, found.map(({ search, one, href }) =>
      el("a", { href }, el("span", { class: "code" }, one.code), el("span", {}, one.title, one.mechanism ? el("span", { class: "cause" }, one.mechanism) : ""), el("small", {}, one.summary), el("small", {}, search.name))))));
    if (doc.searches.length) main.append(section("Searches", null, el("div", { class: "cards" }, doc.searches.map((search, s) =>
      el("a", { href: `#/${s}` }, el("span", { class: `badge ${search.verdict}` }, search.verdict), el("span", {}, search.name), el("small", {}, search.headline))))));
  }

  function certificate(main, search) {
    const done = search.certificate;
    main.append(el("p", { class: "eyebrow" }, el("span", { class: `badge ${search.verdict}` }, search.verdict), search.name), el("h1", {}, "Certificate"), el("p", { class: "lead" }, search.headline));
    const facts = [["Jobs", done.jobs.join(", ") || "none was delivered"], ["Stores", done.stores.join(", ") || "none was given"],
      ["One clean delivery", `${count(done.calls, "call")}, ${count(done.effects, "effect")}`],
      ["Ran", `${count(done.trials, "trial")} (${done.references} for the reference), ${count(done.executions, "execution")}, ${count(done.redeliveries, "redelivery", "redeliveries")}`],
      ["Search", done.exhaustive ? "complete" : "not exhaustive"], ["Isolation", Object.entries(done.isolation).map(([level, verdict]) => `${verdict} at ${level}`).join(", ")],
      ["Within", done.bounds.join("; ")], ["Ignored", done.ignored.join(", ")], ["Noise", done.noise.length ? `learned: ${done.noise.join(", ")}` : ""], ["Seed", done.seed === null ? "" : String(done.seed)], ["Time", `${done.seconds.toFixed(1)} s`]];
    main.append(section("What was covered", null, el("dl", { class: "facts" }, facts.filter(([, text]) => text).map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]))));
    if (done.coverage.length) main.append(section("By explorer", null, el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Coverage by explorer" }, el("table", {},
      el("thead", {}, el("tr", {}, ["explorer", "planned", "ran", "fired", "same as another", "over budget", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, done.coverage.map((row) => el("tr", {}, el("th", { scope: "row" }, row.explorer), [row.planned, row.ran,
        row.fired || row.unreached ? (row.unreached ? `${row.fired}/${row.fired + row.unreached}` : row.fired) : "–", row.pruned, row.over_budget].map((cell) => el("td", {}, String(cell))),
      el("td", { class: "said" }, said(row)))))))));
    proofs(main, search);
    notes(main, search);
  }

  /** What holds the job, or would mend it, where that was asked for. */
  function proofs(main, search) {
    const lines = search.proof_text.split("\n").filter(Boolean);
    if (lines.length) main.append(section("Guards", null, el("ul", { class: "notes" }, lines.map((line) => el("li", {}, line)))));
  }

  function said(row) {
    if (row.skipped) return `cut short: ${row.skipped}`;
    if (row.classes !== null) return `${count(row.classes, "inequivalent schedule")}: ${row.exhaustive ? "all of them" : row.why || "not all of them"}`;
    return row.why || "";
  }

  function notes(main, search) {
    if (search.notes.length) main.append(section("Notes", null, el("ul", { class: "notes" }, search.notes.map((note) => el("li", {}, el("span", { class: "code" }, note.code), note.text)))));
  }

  function finding(main, search, found, step) {
    const example = found.counterexample;
    main.append(el("p", { class: "eyebrow" }, el("span", { class: `badge ${found.verdict}` }, found.verdict === "unknown" ? "in doubt" : found.verdict), search.name),
      el("h1", {}, el("span", { class: "code" }, found.code), found.title), el("p", { class: "lead" }, found.summary),
      found.source ? el("p", { class: "where mono" }, `${found.source.file}:${found.source.line} in ${found.source.function}`) : "");
    world(main, found.state);
    trace = new Trace(main, search.reference_history, example.history, example);
    main.append(section("Why, and what to do", null, el("div", { class: "two" },
      found.mechanism ? el("div", { class: "prose" }, el("h2", {}, "Cause"), el("p", {}, el("strong", {}, found.mechanism), `: ${found.because}`)) : "",
      el("div", { class: "prose" }, el("h2", {}, "Happens when"), el("p", {}, found.cause)),
      el("div", { class: found.snippet ? "prose broad" : "prose" }, el("h2", {}, "Remedy"), el("p", {}, found.remedy), found.snippet ? el("pre", { class: "snippet" }, found.snippet) : ""))));
    main.append(section("Reproduce", null, el("p", {}, `It showed ${example.shown} of ${count(example.tried, "time")}${found.trials > 1 ? `, and in ${found.trials} trials of the search` : ""}.`),
      example.command ? copyable(example.command) : "", copyable(example.plan), example.saved ? el("p", { class: "where" }, "Saved as ", el("code", {}, example.saved)) : ""));
    if (found.also.length) main.append(section("The same cause also does", null, el("ul", { class: "notes" }, found.also.map((text) => el("li", {}, text)))));
    proofs(main, search);
    notes(main, search);
    trace.open(step);
  }

  function copyable(text) {
    const button = el("button", { class: "quiet", type: "button", onclick: async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch {
        const range = document.createRange(); range.selectNodeContents(code); getSelection().removeAllRanges(); getSelection().addRange(range); button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    } }, "Copy");
    const code = el("code", {}, text);
    return el("p", { class: "copyable" }, code, button);
  }

  // -- the world: before, after one clean delivery, after the trial ------------------------------------------------

  function world(main, state) {
    const differing = state.rows.filter((row) => row.differs), rest = state.rows.filter((row) => !row.differs);
    const box = el("div", { class: "things" });
    let all = state.rows.length <= 3;
    const draw = () => box.replaceChildren(...(all ? state.rows : differing).map(thing));
    const button = el("button", { class: "quiet", type: "button", "aria-pressed": String(all), onclick: () => {
      all = !all; button.setAttribute("aria-pressed", String(all)); draw();
    } }, `Also what agrees (${rest.length})`);
    draw();
    const none = !state.rows.length && el("p", {}, "No store tells: it shows in how the deliveries end.");
    const left = state.omitted ? el("p", {}, `${count(state.omitted, "more thing")} changed and left out here`) : null;
    main.append(section("What differs", [left, rest.length ? button : null], none || box));
  }

  function thing(row) {
    const fact = row.after || row.reference || row.before;
    const names = [...new Set([row.before, row.reference, row.after].flatMap((one) => (one ? Object.keys(one.fields) : [])))];
    const which = fact.identity.map((name) => `${name} ${shown(fact.fields[name] ?? null)}`).join(", ");
    const table = el("div", { class: "cells", role: "table", "aria-label": `${fact.store} ${fact.group} ${which}` },
      el("div", { role: "row" }, el("span", { role: "columnheader" }, ""), ["before", "one clean delivery", "this trial"].map((name) => el("span", { role: "columnheader" }, name))),
      names.map((name) => cells(row, name)));
    return el("div", { class: row.differs ? "thing" : "thing same" }, el("h3", {}, el("span", {}, fact.group.startsWith(fact.store) ? fact.group : `${fact.store}: ${fact.group}`), el("span", { class: "which" }, which), told(row) && el("span", { class: row.differs ? "verdict" : "which" }, told(row))), table);
  }

  function told(row) {
    if (!row.differs) return "agrees";
    if (!row.reference && row.after) return row.before ? "should be gone" : "one too many";
    if (row.reference && !row.after) return "missing";
    return "";
  }

  function cells(row, name) {
    const texts = [row.before, row.reference, row.after].map((one) => (one && name in one.fields ? shown(one.fields[name]) : null));
    const changed = Boolean(row.reference) === Boolean(row.after);
    const wrong = row.differs && texts[1] !== texts[2] && (!changed || row.columns.includes(name));
    return el("div", { role: "row" }, el("span", { role: "rowheader" }, name), texts.map((text, time) =>
      el("span", { role: "cell", class: wrong && time === 2 ? (changed ? "wrong" : "wrong whole") : wrong && time === 1 ? "expected" : text === null ? "gone" : null }, text === null ? "–" : text)));
  }

  // -- the trace ---------------------------------------------------------------------------------------------------

  /** What one event is called in a list. */
  function title(event) {
    if (event.k === "fault") return `✗ ${event.t || event.f[0]}${event.f && event.f[1] === "before" && event.l ? ` before ${event.d || event.l}` : ""}`;
    if (event.k === "end") return `■ ${ENDINGS[event.e] || "ends"}${event.t ? `: ${event.t}` : ""}`;
    if (event.k === "blocked") return `… ${event.t || "waits"}`;
    if (event.k === "start") return event.t || "starts";
    if (event.k === "effect") return event.d || event.l || event.t;
    return `~ ${event.t}`;
  }

  /** A short name for a block: the label without its store. */
  function short(event) {
    if (event.k === "fault") return `✗ ${event.f ? event.f[0] : ""}`;
    if (event.k === "end") return `■ ${ENDINGS[event.e] || ""}`;
    if (event.k === "blocked") return "… waits";
    if (event.k !== "effect") return event.t;
    const label = event.l && event.s && event.l.startsWith(`${event.s}.`) ? event.l.slice(event.s.length + 1) : event.l || "";
    return label.replace(/\./g, " ");
  }

  /** For each clean event, the first event of the trial that does the same, in order; -1 where the trial never does. */
  function matched(clean, events) {
    const first = new Map();
    events.forEach((event, index) => {
      const key = identity(event);
      if (key && !first.has(key)) first.set(key, index);
    });
    let last = -1;
    return clean.map((event) => {
      const index = first.get(identity(event));
      if (index === undefined || index <= last) return -1;
      last = index;
      return index;
    });
  }
  const identity = (event) => (event.k === "effect" ? `${event.c}\u0000${event.l}\u0000${event.n}` : null);

  class Trace {
    constructor(main, clean, events, example) {
      this.events = events; this.clean = clean; this.example = example;
      this.match = matched(clean, events);
      this.partner = new Map(this.match.map((index, c) => [index, c]).filter(([index]) => index >= 0));
      this.compare = false; this.timer = null; this.ghosts = false; this.at = 0; this.zoom = 5;
      this.build(main);
      this.columns();
    }

    /** Columns from left to right: an event of the trial, of the clean run, or of both where they do the same. */
    columns() {
      this.cols = [];
      if (!this.compare) this.events.forEach((_, t) => this.cols.push({ t, c: -1 }));
      else {
        let c = 0;
        this.events.forEach((_, t) => {
          const own = this.partner.get(t);
          if (own !== undefined) while (c < own) this.cols.push({ t: -1, c: c++ });
          this.cols.push({ t, c: own === undefined ? -1 : own });
          if (own !== undefined) c = own + 1;
        });
        while (c < this.clean.length) this.cols.push({ t: -1, c: c++ });
      }
      this.deliveries = Math.max(1, ...new Set(this.events.map((event) => event.v)));
      this.lanes = this.deliveries + (this.compare ? 1 : 0);
      this.laneOf = (event, clean) => (clean ? 0 : event.v - 1 + (this.compare ? 1 : 0));
      // From where to where each delivery lives, per call, for its line.
      this.lives = [];
      const open = new Map();
      this.cols.forEach((col, i) => {
        for (const [event, clean] of [[this.events[col.t], false], [this.clean[col.c], true]]) {
          if (!event || event.k === "clock" || (clean && !this.compare)) continue;
          const key = `${clean}/${event.c}/${event.v}`;
          if (!open.has(key)) { const life = { lane: this.laneOf(event, clean), from: i, to: i, clean, delivery: event.v }; open.set(key, life); this.lives.push(life); }
          open.get(key).to = i;
        }
      });
      const lanes = [];
      if (this.compare) lanes.push(el("div", {}, "clean run", el("small", {}, "the reference")));
      for (let d = 1; d <= this.deliveries; d++) lanes.push(el("div", {}, `delivery ${d}`, el("small", {}, this.fate(d))));
      this.gutter.replaceChildren(...lanes);
      this.zoomed();
    }

    fate(delivery) {
      const ends = this.events.filter((event) => event.k === "end" && event.v === delivery);
      return [...new Set(ends.map((event) => ENDINGS[event.e]))].join(", ");
    }

    build(main) {
      const button = (text, label, act, extra) => el("button", { class: "quiet", type: "button", title: label, "aria-label": label, onclick: act, ...extra }, text);
      this.where = el("span", { class: "at", "aria-hidden": "true" });
      this.playButton = button("Play", "Play (space)", () => this.play());
      this.compareButton = button("Compare with the clean run", "Compare with the clean run (c)", () => this.toggle(), { "aria-pressed": "false", disabled: !this.clean.length });
      this.canvas = el("canvas", { "aria-hidden": "true" });
      this.spacer = el("div", { class: "spacer" });
      this.scroller = el("div", { class: "scroller" }, this.canvas, this.spacer);
      this.gutter = el("div", { class: "gutter" });
      this.lonely = el("span", { hidden: true }, el("i", { class: "lonely" }), "in one of the two runs only");
      this.map = el("canvas", { class: "map", "aria-hidden": "true" });
      this.inner = el("div", {});
      this.list = el("div", { class: "steps", role: "listbox", tabindex: "0", "aria-label": "Steps in their true order" }, this.inner);
      this.detail = el("div", { class: "detail", "aria-live": "off", role: "region", "aria-label": "The chosen step", tabindex: "0" });
      const what = `${count(this.events.filter((event) => event.k === "effect").length, "effect")} in their true order`;
      main.append(section("What happened", el("p", {}, what), el("div", { class: "trace", id: "trace" },
        el("div", { class: "transport", role: "group", "aria-label": "Steps" },
          button(icon(ICONS.first), "First step (Home)", () => this.step(-Infinity)), button(icon(ICONS.previous), "Previous step (←)", () => this.step(-1)), this.playButton,
          button(icon(ICONS.next), "Next step (→)", () => this.step(1)), button(icon(ICONS.last), "Last step (End)", () => this.step(Infinity)), this.where,
          el("span", { class: "push" }, button("Next fault", "Next fault (f)", () => this.fault(), { disabled: !this.events.some((event) => event.k === "fault") }), this.compareButton, button("−", "Zoom out (−)", () => this.scale(-1)), button("+", "Zoom in (+)", () => this.scale(1)))),
        el("div", { class: "stage" }, this.gutter, this.scroller), this.map,
        el("p", { class: "legend" }, [["read", "read"], ["pending", "written in a transaction"], ["durable", "there to stay"], ["failed", "failed"], ["fault", "fault"]].map(([name, text]) => el("span", {}, el("i", { class: name }), text)), this.lonely),
        el("div", { class: "below" }, this.list, this.detail))));
      this.scroller.addEventListener("scroll", () => this.later());
      this.list.addEventListener("scroll", () => this.rows());
      this.canvas.addEventListener("click", (event) => this.hit(event));
      this.canvas.addEventListener("mousemove", (event) => this.hover(event));
      for (const kind of ["pointerdown", "pointermove"]) this.map.addEventListener(kind, (event) => {
        if (!event.buttons) return;
        const box = this.map.getBoundingClientRect();
        this.scroller.scrollLeft = ((event.clientX - box.left) / box.width) * this.cols.length * this.width - this.scroller.clientWidth / 2;
      });
    }

    open(step) {
      this.observer = new ResizeObserver(() => this.zoomed());
      this.observer.observe(this.scroller);
      this.fitZoom();
      const told = this.events.findIndex((event) => event.k === "fault");
      const second = this.events.findIndex((event) => event.v > 1 && event.k === "effect" && event.a !== "read");
      const start = Number.isInteger(step) && step >= 0 && step < this.events.length ? step : told >= 0 ? told : Math.max(0, second);
      this.select(this.cols.findIndex((col) => col.t === start), { quiet: true });
    }

    /** As much of it as can be read at a glance. */
    fitZoom() {
      this.zoom = Math.max(5, WIDTHS.findLastIndex((width) => width * this.cols.length <= this.scroller.clientWidth));
      this.zoomed();
    }

    close() { this.stop(); if (this.observer) this.observer.disconnect(); }

    // -- moving

    select(index, { quiet = false } = {}) {
      if (!this.cols.length) { this.detail.replaceChildren(el("p", {}, "No step was recorded.")); return; }
      this.at = Math.min(this.cols.length - 1, Math.max(0, index));
      const col = this.cols[this.at], event = this.events[col.t] || this.clean[col.c];
      this.where.textContent = `${(this.at + 1).toLocaleString("en")} of ${this.cols.length.toLocaleString("en")}`;
      this.reveal(); this.rows(); this.later(); this.describe(col);
      if (quiet) return;
      $("live").textContent = `Step ${this.at + 1}, delivery ${event.v}: ${title(event)} ${event.o || ""}`;
      if (col.t >= 0) history.replaceState(null, "", `#/${searchIndex}/${findingIndex}/${col.t}`);
    }

    selectEvent(t) { const index = this.cols.findIndex((col) => col.t === t); if (index >= 0 && index !== this.at) this.select(index); }
    step(by) { this.stop(); this.select(this.at + by); }

    fault() {
      const isFault = (col) => col.t >= 0 && this.events[col.t].k === "fault";
      const next = this.cols.findIndex((col, index) => index > this.at && isFault(col));
      this.stop(); this.select(next >= 0 ? next : this.cols.findIndex(isFault));
    }

    play() {
      if (this.timer) { this.stop(); return; }
      if (this.at >= this.cols.length - 1) this.at = -1;
      this.ghosts = true;
      this.playButton.textContent = "Pause";
      const pace = Math.max(60, Math.min(700, 30000 / this.cols.length));
      const tick = () => {
        if (this.at >= this.cols.length - 1) { this.stop(); return; }
        this.select(this.at + 1);
        this.timer = setTimeout(tick, pace);
      };
      this.timer = setTimeout(tick, 0);
    }

    stop() {
      clearTimeout(this.timer); this.timer = null; this.ghosts = false;
      this.playButton.textContent = "Play";
      this.later(); this.rows();
    }

    toggle() {
      const before = this.cols[this.at];
      this.compare = !this.compare && this.clean.length > 0;
      this.compareButton.setAttribute("aria-pressed", String(this.compare));
      this.lonely.hidden = !this.compare;
      this.columns(); this.fitZoom();
      this.select(Math.max(0, this.cols.findIndex((col) => (before.t >= 0 ? col.t === before.t : col.c === before.c))), { quiet: true });
    }

    scale(by) {
      const middle = (this.scroller.scrollLeft + this.scroller.clientWidth / 2) / this.width;
      this.zoom = Math.min(WIDTHS.length - 1, Math.max(0, this.zoom + by));
      this.zoomed();
      this.scroller.scrollLeft = middle * this.width - this.scroller.clientWidth / 2;
    }

    reveal() {
      const left = this.at * this.width, view = this.scroller.clientWidth;
      if (left < this.scroller.scrollLeft + 24 || left + this.width > this.scroller.scrollLeft + view - 24) this.scroller.scrollLeft = left - view / 3;
      const top = this.at * ROW;
      if (top < this.list.scrollTop) this.list.scrollTop = top;
      else if (top + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW - this.list.clientHeight;
    }

    // -- drawing

    zoomed() {
      this.list.style.setProperty("--digits", `${Math.max(2, String(this.cols.length).length)}ch`);
      this.width = WIDTHS[this.zoom];
      const total = this.cols.length * this.width;
      this.height = AXIS + this.lanes * LANE;
      this.spacer.style.width = `${total}px`;
      this.map.style.display = total > this.scroller.clientWidth + 1 ? "block" : "none";
      for (const [canvas, width, height] of [[this.canvas, this.scroller.clientWidth, this.height], [this.map, this.map.clientWidth, 30]]) {
        const dense = window.devicePixelRatio || 1;
        canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
        if (canvas === this.canvas) { canvas.style.width = `${width}px`; canvas.style.height = `${height}px`; }
        canvas.getContext("2d").setTransform(dense, 0, 0, dense, 0, 0);
      }
      this.inner.style.height = `${this.cols.length * ROW}px`;
      this.overviewDrawn = null;
      this.rows(); this.later();
    }

    later() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
    }

    palette() {
      const names = ["paper", "card", "ink", "soft", "line", "strong", "bad", "bad-soft", "warn", "accent", "accent-soft", "clean", "lane1", "lane2", "lane3", "lane4", "sunk"];
      return Object.fromEntries(names.map((name) => [name, color(`--${name}`)]));
    }

    draw() {
      const at = performance.now();
      const pen = this.canvas.getContext("2d"), view = this.scroller.clientWidth, left = this.scroller.scrollLeft, w = this.width;
      const from = Math.max(0, Math.floor(left / w)), to = Math.min(this.cols.length - 1, Math.ceil((left + view) / w));
      const ink = this.ink || (this.ink = this.palette());
      pen.clearRect(0, 0, view, this.height);
      pen.font = `12px ${color("--sans") || "sans-serif"}`;
      pen.textBaseline = "middle";
      pen.fillStyle = ink["accent-soft"];
      pen.fillRect(this.at * w - left, 0, w, this.height);
      this.axis(pen, ink, from, to, left, w);
      for (const life of this.lives) {
        if (life.to < from || life.from > to) continue;
        const y = AXIS + life.lane * LANE + LANE / 2;
        pen.strokeStyle = ink.line; pen.lineWidth = 2;
        pen.beginPath(); pen.moveTo(life.from * w - left + Math.min(w / 2, 8), y); pen.lineTo(life.to * w - left + w / 2, y); pen.stroke();
      }
      for (let i = from; i <= to; i++) {
        const col = this.cols[i];
        pen.globalAlpha = this.ghosts && i > this.at ? 0.25 : 1;
        if (col.t >= 0) this.block(pen, ink, this.events[col.t], i * w - left, w, false, this.compare && col.c < 0);
        if (col.c >= 0 && this.compare) this.block(pen, ink, this.clean[col.c], i * w - left, w, true, col.t < 0);
      }
      pen.globalAlpha = 1;
      pen.strokeStyle = ink.accent; pen.lineWidth = 1.5;
      pen.strokeRect(this.at * w - left + 0.75, 0.75, Math.max(2, w - 1.5), this.height - 1.5);
      this.overview(ink);
      this.drawn = performance.now() - at;
    }

    axis(pen, ink, from, to, left, w) {
      pen.fillStyle = ink.soft;
      const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((n) => n * w >= 56) || 10000;
      pen.textAlign = "center";
      for (let i = from - (from % every); i <= to; i += every) {
        const number = i + (every > 1 ? every : 1) - (every > 1 ? 1 : 0);
        if (number <= this.cols.length) pen.fillText(number.toLocaleString("en"), (every > 1 ? number - 0.5 : number - 0.5) * w - left, AXIS / 2);
      }
      pen.strokeStyle = ink.line; pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(0, AXIS - 0.5); pen.lineTo(this.scroller.clientWidth, AXIS - 0.5); pen.stroke();
      pen.textAlign = "left";
    }

    block(pen, ink, event, x, w, clean, lonely) {
      const y = AXIS + this.laneOf(event, clean) * LANE + (LANE - BLOCK) / 2, pad = w >= 24 ? 3 : w >= 6 ? 1 : 0, width = Math.max(1, w - 2 * pad);
      const tone = clean ? ink.clean : ink[tint(event.v).slice(2)];
      let text = ink.ink;
      if (event.k === "clock" || event.k === "sleep") {
        pen.setLineDash([3, 4]); pen.strokeStyle = ink.soft; pen.lineWidth = 1;
        const top = event.k === "clock" ? AXIS : y, bottom = event.k === "clock" ? this.height : y + BLOCK;
        pen.beginPath(); pen.moveTo(x + w / 2, top); pen.lineTo(x + w / 2, bottom); pen.stroke(); pen.setLineDash([]);
        text = ink.soft;
        if (w >= 60) { pen.fillStyle = ink.card; pen.fillRect(x + pad, y + 4, width, BLOCK - 8); }
      } else if (event.k === "fault") {
        pen.fillStyle = ink.bad; this.rounded(pen, x + pad, y, width, BLOCK); pen.fill(); text = ink.card;
      } else if (event.k === "end" || event.k === "start") {
        const dead = event.k === "end" && event.e !== "ok";
        pen.fillStyle = ink.card; pen.fillRect(x + pad, y, Math.max(1, width), BLOCK);
        text = dead ? ink.bad : ink.soft;
        if (w < 60) { pen.fillStyle = text; pen.fillRect(x + w / 2 - Math.min(3, w / 2), y + BLOCK / 2 - 4, Math.min(6, Math.max(1, w)), 8); }
      } else if (event.k === "blocked") {
        pen.fillStyle = ink.sunk; this.rounded(pen, x + pad, y, width, BLOCK); pen.fill();
        pen.strokeStyle = ink.strong; pen.lineWidth = 1; pen.setLineDash([2, 3]); pen.stroke(); pen.setLineDash([]);
        text = ink.warn;
      } else {
        this.rounded(pen, x + pad, y, width, BLOCK);
        pen.fillStyle = ink.card; pen.fill();
        if (event.a === "durable") { pen.fillStyle = tone; pen.fill(); text = ink.card; }
        else if (event.a === "pending") { const alpha = pen.globalAlpha; pen.globalAlpha = alpha * 0.22; pen.fillStyle = tone; pen.fill(); pen.globalAlpha = alpha; }
        pen.lineWidth = 1.5; pen.strokeStyle = tone;
        if (event.x) { pen.fillStyle = ink.card; pen.fill(); pen.strokeStyle = ink.warn; pen.setLineDash([4, 3]); text = ink.warn; }
        if (w >= 6) pen.stroke();
        pen.setLineDash([]);
      }
      if (lonely && event.k === "effect" && w >= 12) {
        // Only one of the two runs does this.
        pen.fillStyle = clean ? ink.warn : ink.bad; pen.beginPath(); pen.arc(x + w / 2, y - 4, 2.5, 0, 7); pen.fill();
      }
      if (w >= 60) { pen.fillStyle = text; pen.fillText(this.fit(pen, short(event), width - 14), x + pad + 7, y + BLOCK / 2 + 0.5); }
    }

    rounded(pen, x, y, width, height) {
      pen.beginPath();
      if (pen.roundRect) pen.roundRect(x, y, width, height, Math.min(5, width / 2)); else pen.rect(x, y, width, height);
    }

    fit(pen, text, room) {
      const key = `${room}|${text}`, known = (this.fitted || (this.fitted = new Map())).get(key);
      if (known !== undefined) return known;
      let cut = text.slice(0, 80);
      if (pen.measureText(cut).width > room || cut !== text) {
        while (cut.length > 1 && pen.measureText(`${cut}…`).width > room) cut = cut.slice(0, -1);
        cut += "…";
      }
      this.fitted.set(key, cut);
      return cut;
    }

    /** The whole run in one strip, drawn once, and what is in view of it. */
    overview(ink) {
      if (this.map.style.display === "none") return;
      const width = this.map.clientWidth, n = this.cols.length, pen = this.map.getContext("2d");
      if (!this.overviewDrawn) {
        const canvas = document.createElement("canvas");
        canvas.width = this.map.width; canvas.height = this.map.height;
        const strip = canvas.getContext("2d"), dense = window.devicePixelRatio || 1;
        strip.setTransform(dense, 0, 0, dense, 0, 0);
        const tall = Math.min(6, 22 / this.lanes);
        this.cols.forEach((col, i) => {
          const event = this.events[col.t] || this.clean[col.c], clean = col.t < 0;
          if (event.k === "clock") return;
          strip.fillStyle = clean ? ink.clean : ink[tint(event.v).slice(2)];
          strip.fillRect((i / n) * width, 4 + this.laneOf(event, clean) * tall, Math.max(0.75, width / n - 0.25), tall - 1);
        });
        strip.fillStyle = ink.bad;
        this.cols.forEach((col, i) => { if (col.t >= 0 && this.events[col.t].k === "fault") strip.fillRect((i / n) * width - 1, 0, 2.5, 30); });
        this.overviewDrawn = canvas;
      }
      pen.clearRect(0, 0, width, 30);
      pen.drawImage(this.overviewDrawn, 0, 0, width, 30);
      const total = n * this.width, x = (this.scroller.scrollLeft / total) * width, seen = Math.max(6, (this.scroller.clientWidth / total) * width);
      pen.fillStyle = ink.accent; pen.globalAlpha = 0.14; pen.fillRect(x, 0, seen, 30); pen.globalAlpha = 1;
      pen.strokeStyle = ink.accent; pen.strokeRect(x + 0.5, 0.5, seen - 1, 29);
    }

    recolour() { this.ink = null; this.overviewDrawn = null; this.rows(); this.later(); }

    /** Only the rows in view are in the document. */
    rows() {
      const from = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 6), to = Math.min(this.cols.length - 1, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + 6);
      const made = [];
      for (let i = from; i <= to; i++) made.push(this.row(i));
      this.inner.replaceChildren(...made);
      this.list.setAttribute("aria-activedescendant", `step-${this.at}`);
    }

    row(i) {
      const col = this.cols[i], clean = col.t < 0, event = clean ? this.clean[col.c] : this.events[col.t];
      const dead = event.k === "end" && event.e !== "ok";
      const kind = [event.k === "fault" ? "fault" : dead ? "dead" : event.k === "effect" ? "" : "aside", event.x ? "failed" : "", this.ghosts && i > this.at ? "ghost" : ""].join(" ");
      const dot = el("i", {});
      dot.style.background = clean ? "var(--clean)" : event.k === "clock" ? "transparent" : `var(${tint(event.v)})`;
      const made = el("div", { class: `row ${kind}`, role: "option", id: `step-${i}`, "aria-selected": String(i === this.at), "aria-setsize": String(this.cols.length), "aria-posinset": String(i + 1), onclick: () => { this.stop(); this.select(i); } },
        el("span", { class: "n" }, String(i + 1)), el("span", { class: "who" }, dot, el("span", {}, clean ? "clean" : event.k === "clock" ? "" : `delivery ${event.v}`)),
        el("span", { class: "what" }, title(event)), el("span", { class: "out" }, event.o || ""));
      made.style.top = `${i * ROW}px`;
      return made;
    }

    columnAt(event) {
      const box = this.canvas.getBoundingClientRect();
      return Math.floor((event.clientX - box.left + this.scroller.scrollLeft) / this.width);
    }
    hit(event) { const i = this.columnAt(event); if (i < this.cols.length) { this.stop(); this.select(i); } }
    hover(event) {
      const col = this.cols[this.columnAt(event)];
      const one = col && (this.events[col.t] || this.clean[col.c]);
      this.canvas.title = one ? `${title(one)}${one.o ? ` → ${one.o}` : ""}` : "";
    }

    // -- one step

    describe(col) {
      const clean = col.t < 0, event = clean ? this.clean[col.c] : this.events[col.t], parts = [];
      const add = (name, ...value) => parts.push(el("dt", {}, name), ...value);
      if (event.k === "effect" || event.l) {
        add(event.p ? "Statement" : "Does", el("dd", { class: "mono" }, event.q || event.d || event.l));
        if (event.p) add("Parameters", el("dd", {}, el("ol", { class: "params" }, event.p.map(([name, value]) => el("li", {}, el("span", {}, name), el("span", {}, value))))));
      }
      if (event.k === "fault") add("Fault", el("dd", {}, `${event.f ? `${event.f[0]} ${event.f[1]}: ` : ""}${event.t}`));
      else if (event.o) add(event.x ? "Failed with" : "Result", el("dd", { class: "mono" }, event.o));
      else if (event.k !== "effect" && event.t) add("Says", el("dd", {}, event.t));
      const frames = (event.st || []).map((index) => doc.frames[index]);
      if (frames.length) parts.push(...this.stack(frames));
      if (event.k === "effect") {
        add("If the worker dies right after it", el("dd", {}, { read: "nothing is left of it: it only reads", pending: "nothing is left of it: its transaction is open", durable: "it stays" }[event.a]));
        const c = clean ? -1 : this.partner.get(col.t);
        if (!clean && this.clean.length) add("In the clean run", el("dd", {}, c === undefined ? "not done, or not again" : this.clean[c].o === event.o ? "done as well, with the same result" : ["done as well, with ", el("code", {}, this.clean[c].o || "no result")]));
        if (clean) add("In this trial", el("dd", {}, "not done, or not in this order"));
      }
      this.detail.replaceChildren(el("h3", {}, `${clean ? "Clean run" : event.k === "clock" ? "Between deliveries" : `Delivery ${event.v}`}${event.c > 1 ? `, call ${event.c}` : ""}: ${event.k === "effect" ? short(event) : title(event)}`), el("dl", {}, parts));
      this.detail.scrollTop = 0;
    }

    stack(frames) {
      const box = el("div", {});
      const buttons = frames.map((frame) => el("button", { type: "button", onclick: () => show(frame) }, `${frame.file}:${frame.line} in ${frame.function}`));
      const show = (frame) => {
        buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(frames[index] === frame)));
        box.replaceChildren(frame.code.length
          ? el("div", { class: "source", tabindex: "0", role: "region", "aria-label": `Source of ${frame.file}` }, frame.code.map(([number, text]) => el("div", { class: number === frame.line ? "here" : null }, el("span", {}, String(number)), text || " ")))
          : el("p", { class: "where" }, "The file was not there when this report was written."));
      };
      show(frames[0]);
      return [el("dt", {}, frames.length > 1 ? "Source and stack, innermost first" : "Source"), el("dd", { class: "frames" }, buttons), box];
    }
  }

  // -- the whole page ------------------------------------------------------------------------------------------------

  const KEYS = [["← →", "previous, next step"], ["Home End", "first, last step"], ["space", "play, pause"], ["f", "next fault"], ["c", "compare with the clean run"], ["+ −", "zoom"], ["n p", "next, previous finding"], ["t", "light or dark"], ["?", "these keys"]];

  function turn(by) {
    const all = doc.searches.flatMap((search, s) => search.findings.map((_, f) => `#/${s}/${f}`));
    const here = all.indexOf(`#/${searchIndex}/${findingIndex}`);
    if (all.length) location.hash = all[(Math.max(0, here < 0 && by < 0 ? 0 : here) + (here < 0 ? 0 : by) + all.length) % all.length];
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const onButton = event.target.closest && event.target.closest("button, a, summary");
    const keys = { "?": () => $("help").showModal(), t: () => $("theme").click(), n: () => turn(1), p: () => turn(-1) };
    if (trace) Object.assign(keys, {
      ArrowRight: () => trace.step(1), ArrowLeft: () => trace.step(-1), j: () => trace.step(1), k: () => trace.step(-1), f: () => trace.fault(), c: () => trace.toggle(),
      "+": () => trace.scale(1), "=": () => trace.scale(1), "-": () => trace.scale(-1), ...(onButton ? {} : { " ": () => trace.play() }),
      ...(event.target === trace.list ? { ArrowDown: () => trace.step(1), ArrowUp: () => trace.step(-1), PageDown: () => trace.step(12), PageUp: () => trace.step(-12) } : {}),
      ...(event.target === trace.list || event.target === document.body || event.target === $("main") ? { Home: () => trace.step(-Infinity), End: () => trace.step(Infinity) } : {}),
    });
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  function dress(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    if (trace) trace.recolour();
  }
  const wish = matchMedia("(prefers-color-scheme: dark)");
  wish.addEventListener("change", () => dress(wish.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => dress(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  $("keys").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  $("help-keys").append(...KEYS.flatMap(([keys, text]) => [el("dt", {}, keys.split(" ").map((key) => [el("kbd", {}, key), " "])), el("dd", {}, text)]));

  dress(wish.matches ? "dark" : "light");
  list();
  const narrow = matchMedia("(max-width: 60rem)");
  const fold = () => { $("menu").open = !narrow.matches; };
  narrow.addEventListener("change", fold); fold();
  $("list").addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) $("menu").open = false; });
  window.addEventListener("hashchange", go);
  if (!location.hash) {
    const first = doc.searches.findIndex((search) => search.findings.length);
    const alone = doc.searches.flatMap((search) => search.findings).length === 1;
    if (alone) history.replaceState(null, "", `#/${first}/0`);
  }
  go();
  window.idemfuzz = { get trace() { return trace; } };
})();
