// The counters of the last 60 s as tiles. A click toggles the tile's line on the chart.
export default {
  props: { figures: Array, on: Array, values: Object },
  emits: ["toggle"],
  template: /* HTML */ ` <div class="tiles" role="group" aria-label="Counters of the last 60 seconds">
    <button
      v-for="figure in figures"
      :key="figure.name"
      type="button"
      class="tile"
      :class="[{ on: lines.includes(figure.name), zero: !values[figure.name] }, 'is-' + figure.name]"
      :style="{ '--own': 'var(--line-' + figure.name + ')' }"
      :aria-pressed="lines.includes(figure.name)"
      :data-counter="figure.name"
      :data-tip="figure.definition"
      @click="toggle(figure.name)"
    >
      <span class="tile-label"><i class="swatch"></i>{{ figure.label }}</span>
      <span class="tile-value"
        >{{ shown(values[figure.name]) }}<small v-if="figure.name === 'processed'"
          >{{ rate(values.processed) }}</small
        ></span
      >
    </button>
  </div>`,
  data() {
    return { lines: [...this.on] };
  },
  watch: {
    on(names) {
      this.lines = [...names];
    },
  },
  methods: {
    shown: (value) => (value === undefined ? "–" : value.toLocaleString()),
    rate: (value) =>
      value ? `${(value / 60).toLocaleString(undefined, { maximumFractionDigits: value < 600 ? 1 : 0 })} / s` : "",
    toggle(name) {
      this.lines = this.lines.includes(name) ? this.lines.filter((other) => other !== name) : [...this.lines, name];
      this.$emit("toggle", this.lines);
    },
  },
};
