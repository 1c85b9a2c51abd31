// Figures of this moment; with `bar` also their shares of the whole.
export default {
  props: { figures: Array, bar: Boolean, values: Object },
  template: /* HTML */ ` <div class="gauges">
    <div v-if="bar" class="shares" aria-hidden="true">
      <i
        v-for="figure in figures"
        :key="figure.name"
        :class="'share-' + figure.name"
        :style="{ flexGrow: values[figure.name] || 0 }"
      ></i>
    </div>
    <dl>
      <div
        v-for="figure in figures"
        :key="figure.name"
        :data-tip="figure.definition"
        :data-gauge="figure.name"
        tabindex="0"
      >
        <dt><i v-if="bar" class="swatch" :class="'share-' + figure.name"></i>{{ figure.label }}</dt>
        <dd :class="{ zero: !values[figure.name] }">{{ shown(values[figure.name]) }}</dd>
      </div>
    </dl>
  </div>`,
  methods: { shown: (value) => (value == null ? "–" : value.toLocaleString()) },
};
