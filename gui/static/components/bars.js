// Bars one below the other, each in parts.
export default {
  props: { label: String, rows: Array },
  template: /* HTML */ `<dl class="bars" :title="label">
    <template v-for="row in rows" :key="row.label"
      ><dt>{{ row.label }}</dt>
      <dd class="bar" aria-hidden="true">
        <i
          v-for="(count, part) in row.parts"
          :key="part"
          :title="part"
          :style="{ width: (100 * count) / most + '%', background: 'var(--line-' + part + ')' }"
        ></i>
      </dd>
      <dd :class="{ zero: !sum(row) }">{{ sum(row).toLocaleString() }}</dd></template
    >
  </dl>`,
  computed: {
    most() {
      return Math.max(1, ...this.rows.map((row) => this.sum(row)));
    },
  },
  methods: { sum: (row) => Object.values(row.parts).reduce((all, count) => all + count, 0) },
};
