// Figures of this moment, side by side.
import { both, left, now as serverNow } from "../../../../static/time.js";

export default {
  props: { gauges: Array, values: Object },
  template: /* HTML */ ` <dl class="card strip">
    <div v-for="[name, label, tip] in gauges" :key="name" :data-tip="tip" :data-gauge="name" tabindex="0">
      <dt>{{ label }}</dt>
      <dd :class="{ zero: !values[name] }">
        <time v-if="values[name]?.at" :title="both(values[name].at)">{{ left(values[name].at, now) || "now" }}</time
        ><template v-else>{{ shown(values[name]) }}</template>
      </dd>
      <dd v-if="values[name + '_under']" class="under" :title="values[name + '_under']">
        <bdi>{{ values[name + "_under"] }}</bdi>
      </dd>
    </div>
  </dl>`,
  data: () => ({ now: serverNow() }),
  mounted() {
    this.timer = setInterval(() => (this.now = serverNow()), 1000);
  },
  unmounted() {
    clearInterval(this.timer);
  },
  methods: {
    both,
    left,
    shown: (value) =>
      value == null
        ? "–"
        : typeof value === "number"
          ? value.toLocaleString(undefined, { maximumFractionDigits: 1 })
          : value,
  },
};
