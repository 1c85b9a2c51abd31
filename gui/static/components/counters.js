// The counters of a window as tiles, which says it. A click toggles the tile's line on the chart.
export default {
  props: { figures: Array, on: Array, values: Object, window: Object },
  emits: ["toggle"],
  template: /* HTML */ ` <div class="tiles" role="group" :aria-label="'Counters, ' + window.text">
    <p class="of tiles-window" aria-hidden="true">Counters: {{ window.text }}</p>
    <button
      v-for="figure in figures"
      :key="figure.name"
      type="button"
      class="tile"
      :class="[{ on: lines.includes(figure.name), zero: !values[figure.name] }, 'is-' + figure.name]"
      :style="{ '--own': 'var(--line-' + figure.name + ')' }"
      :aria-pressed="lines.includes(figure.name)"
      :data-counter="figure.name"
      :data-tip="figure.definition + ' Here: ' + window.text + '.'"
      @click="toggle(figure.name)"
    >
      <span class="tile-label"><i class="swatch"></i>{{ figure.label }}</span>
      <span class="tile-value"
        >{{ shown(values[figure.name]) }}<small v-if="figure.name === 'processed'"
          >{{ rate(values.processed / window.seconds) }}</small
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
      value ? `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 })} / s` : "",
    toggle(name) {
      this.lines = this.lines.includes(name) ? this.lines.filter((other) => other !== name) : [...this.lines, name];
      this.$emit("toggle", this.lines);
    },
  },
};
