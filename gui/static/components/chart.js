// Lines over time. The points are kept here; the server adds what is new at the right.
import { clock, inUtc, utc } from "../../../../static/time.js";

export default {
  props: { lines: Array, initial: Object, legend: Boolean },
  template: /* HTML */ `<div class="chart" role="img" aria-label="Counters over time"></div>`,
  // The library is most of what a page weighs: all else is drawn while it comes.
  async mounted() {
    this.load(this.initial);
    const echarts = await this.library();
    if (this.gone || !echarts) return;
    this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
    this.sizes = new ResizeObserver(() => this.chart.resize());
    this.sizes.observe(this.$el);
    this.themes = new MutationObserver(() => this.draw());
    this.themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.draw();
  },
  beforeUnmount() {
    this.gone = true;
    this.sizes?.disconnect();
    this.themes?.disconnect();
    this.chart?.dispose();
  },
  methods: {
    // A connection may be lost while the library comes; an empty space would look like no mail.
    async library() {
      try {
        return (await import("nicegui-echart")).echarts;
      } catch {
        const note = Object.assign(document.createElement("p"), { className: "empty", role: "status" });
        note.textContent = "The chart could not be loaded. Reload the page to try again; all figures are live.";
        this.$el.replaceChildren(note);
      }
    },
    // {first: epoch s of the first slot, step: s, values: {name: [count]}}
    load(data) {
      this.held = { first: data.first, step: data.step, values: data.values };
      this.count = Math.max(0, ...Object.values(data.values).map((values) => values.length));
      this.draw();
    },
    // {values: {name: [count]}}: slots that follow the last one; as many fall out at the left
    push(data) {
      let added = 0;
      for (const [name, values] of Object.entries(data.values)) {
        const held = this.held.values[name];
        if (!held) continue;
        held.push(...values);
        held.splice(0, values.length);
        added = values.length;
      }
      this.held.first += added * this.held.step;
      this.chart?.setOption({ series: this.series(), xAxis: this.span() });
    },
    points(name) {
      const { first, step, values } = this.held;
      return values[name].map((value, slot) => [(first + slot * step) * 1000, value]);
    },
    span() {
      const { first, step } = this.held;
      return { min: first * 1000, max: (first + (this.count - 1) * step) * 1000 };
    },
    series() {
      const style = getComputedStyle(document.documentElement);
      return this.lines
        .filter((line) => this.held.values[line.name])
        .map((line) => {
          const color = style.getPropertyValue(`--line-${line.name}`).trim();
          return {
            id: line.name,
            name: line.label,
            type: "line",
            data: this.points(line.name),
            color,
            symbol: "none",
            lineStyle: { width: 1.8 },
            emphasis: { disabled: true },
            sampling: "max",
            animation: false,
            areaStyle: line.name === "delivered" ? { color, opacity: 0.1 } : undefined,
          };
        });
    },
    draw() {
      if (!this.chart || !this.held || !this.count) return; // nothing is known yet: not even an axis
      const style = getComputedStyle(document.documentElement);
      const [text, line, surface, ink] = ["--muted", "--line", "--raised", "--ink"].map((n) =>
        style.getPropertyValue(n).trim(),
      );
      const font = { color: text, fontFamily: "inherit", fontSize: 11 };
      const { step } = this.held;
      const seconds = step * this.count < 900; // else two labels would say the same
      const series = this.series();
      const legend = series.length > 4 && this.$el.clientWidth < 480 ? 46 : 30; // pixels: two lines of it, or one
      this.chart.setOption(
        {
          animation: false,
          useUTC: inUtc(),
          textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
          grid: { left: 8, right: 28, top: this.legend ? legend : 10, bottom: 4, containLabel: true },
          legend: {
            show: this.legend,
            top: 0,
            right: 20,
            icon: "roundRect",
            itemWidth: 10,
            itemHeight: 4,
            itemGap: 14,
            selectedMode: false,
            textStyle: { ...font, fontSize: 12 },
          },
          xAxis: {
            type: "time",
            ...this.span(),
            axisLine: { lineStyle: { color: line } },
            axisTick: { show: false },
            axisLabel: { ...font, hideOverlap: true, formatter: (time) => clock(time / 1000, seconds) },
            splitLine: { show: false },
          },
          yAxis: {
            type: "value",
            min: 0,
            minInterval: 1,
            axisLabel: { ...font, formatter: (value) => value.toLocaleString() },
            splitLine: { lineStyle: { color: line } },
            splitNumber: 4,
          },
          tooltip: {
            trigger: "axis",
            confine: true,
            transitionDuration: 0,
            backgroundColor: surface,
            borderColor: line,
            textStyle: { color: ink, fontSize: 12 },
            axisPointer: { lineStyle: { color: text, type: "solid", width: 1 } },
            formatter: (points) => this.tooltip(points, step),
          },
          series,
        },
        { notMerge: true },
      );
    },
    tooltip(points, step) {
      const start = points[0].value[0] / 1000;
      const box = document.createElement("div");
      const add = (name, content) =>
        box.appendChild(Object.assign(document.createElement("div"), { className: name, textContent: content }));
      add("tip-time", step === 1 ? clock(start) : `${clock(start, step < 60)} – ${clock(start + step, step < 60)}`);
      if (!inUtc()) add("tip-utc", utc(start));
      for (const point of [...points].sort((a, b) => b.value[1] - a.value[1])) {
        const row = add("tip-row", "");
        const swatch = row.appendChild(document.createElement("i"));
        swatch.style.background = point.color;
        row.appendChild(Object.assign(document.createElement("span"), { textContent: point.seriesName }));
        row.appendChild(
          Object.assign(document.createElement("b"), { textContent: (point.value[1] ?? "–").toLocaleString() }),
        );
      }
      return box;
    },
  },
};
