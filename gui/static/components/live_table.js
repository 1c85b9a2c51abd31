// A table whose rows the server sorts, filters and pages; it sends only the cells that changed. All cells are text.
import { ago, ahead, both, clock, day, sameDay, now as serverNow } from "../../../../static/time.js";

export default {
  props: { columns: Array, label: String, selectable: Boolean, opens: Boolean, holds: Boolean, initial: Object },
  emits: ["sort", "page", "open", "act", "select", "hold"],
  template: /* HTML */ ` <div class="sheet" :class="{ loading }">
    <div v-if="hint" class="sheet-hint" role="status"><span>{{ hint }}</span></div>
    <div class="sheet-scroll" tabindex="-1" @pointerenter="hold($event, true)" @pointerleave="hold($event, false)">
      <table v-if="keys.length" class="grid sheet-grid" :aria-label="label">
        <colgroup>
          <col v-if="selectable" style="width: 34px" />
          <col
            v-for="column in columns"
            :key="column.name"
            :class="kind(column)"
            :style="{ width: column.width || null }"
          />
        </colgroup>
        <thead>
          <tr>
            <th v-if="selectable" class="tick">
              <input type="checkbox" aria-label="Select all on this page" :checked="all" @change="tickAll" />
            </th>
            <th
              v-for="column in columns"
              :key="column.name"
              :class="kind(column)"
              :data-column="column.name"
              :aria-sort="column.name === sort ? (descending ? 'descending' : 'ascending') : null"
              :data-tip="column.tip || null"
            >
              <button v-if="column.sortable" type="button" class="sorter" @click="$emit('sort', column.name)">
                {{ column.label }}<span aria-hidden="true"
                  >{{ column.name === sort ? (descending ? "↓" : "↑") : "" }}</span
                >
              </button>
              <template v-else>{{ column.label }}</template>
            </th>
          </tr>
        </thead>
        <tbody>
          <tr
            v-for="key in keys"
            :key="key"
            :data-row="key"
            :class="{ opens, chosen: key === chosen, ['tone-' + cells[key].tone]: cells[key].tone }"
            @click="row($event, key)"
          >
            <td v-if="selectable" class="tick">
              <input
                type="checkbox"
                :aria-label="'Select ' + key"
                :checked="ticked.includes(key)"
                @change="tick(key)"
              />
            </td>
            <td
              v-for="column in columns"
              :key="column.name"
              :class="[kind(column), { main: column.main }]"
              :data-label="column.label"
            >
              <template v-if="column.kind === 'actions'">
                <button
                  v-for="[name, label] in cells[key][column.name] || []"
                  :key="name"
                  type="button"
                  class="small"
                  :data-act="name"
                  @click="$emit('act', { key, action: name })"
                >
                  {{ label }}
                </button>
              </template>
              <span v-else-if="none(cells[key][column.name])" class="none">–</span>
              <button
                v-else-if="column.kind === 'open'"
                type="button"
                class="opener"
                :title="cells[key][column.name]"
                @click.stop="$emit('open', key)"
              >
                <bdi>{{ cells[key][column.name] }}</bdi>
              </button>
              <template v-else-if="column.kind === 'link'"
                ><a :href="cells[key][column.name].href" :title="cells[key][column.name].text"
                  ><bdi>{{ cells[key][column.name].text }}</bdi></a
                ><small v-if="cells[key][column.name].under" :title="cells[key][column.name].under"
                  ><bdi>{{ cells[key][column.name].under }}</bdi></small
                ></template
              >
              <a
                v-else-if="column.kind === 'mark'"
                class="tone"
                :class="'is-' + cells[key][column.name].tone"
                :href="cells[key][column.name].href"
                >{{ cells[key][column.name].text }}</a
              >
              <template v-else-if="column.kind === 'share'"
                ><i class="meter" :class="level(cells[key][column.name])"
                  ><b :style="{ width: cells[key][column.name] + '%' }"></b></i
                ><span class="percent">{{ cells[key][column.name] }} %</span></template
              >
              <time v-else-if="column.kind === 'time'" :title="both(cells[key][column.name])"
                >{{ ago(cells[key][column.name], now) }}</time
              >
              <time v-else-if="column.kind === 'clock'" :title="both(cells[key][column.name])"
                >{{ moment(cells[key][column.name]) }}</time
              >
              <time v-else-if="column.kind === 'in'" :title="both(cells[key][column.name])"
                >{{ ahead(cells[key][column.name]) }}</time
              >
              <button
                v-else-if="column.kind === 'state' && opens"
                type="button"
                class="state state-opener"
                :class="'state-' + cells[key][column.name]"
                :aria-label="cells[key][column.name] + ', open details'"
                @click.stop="$emit('open', key)"
              >
                <i></i>{{ cells[key][column.name] }}
              </button>
              <span v-else-if="column.kind === 'state'" class="state" :class="'state-' + cells[key][column.name]"
                ><i></i>{{ cells[key][column.name] }}</span
              >
              <span v-else-if="column.kind === 'answer'" class="answer"
                ><code v-if="cells[key][column.name].code" :class="'code-' + cells[key][column.name].code[0]"
                  >{{ cells[key][column.name].code }}</code
                ><bdi :title="cells[key][column.name].text">{{ cells[key][column.name].text }}</bdi
                ><time v-if="cells[key][column.name].time" :title="both(cells[key][column.name].time)"
                  >{{ ago(cells[key][column.name].time, now) }}</time
                ></span
              >
              <svg
                v-else-if="column.kind === 'spark'"
                class="spark"
                viewBox="0 0 120 26"
                preserveAspectRatio="none"
                role="img"
                :aria-label="'Highest ' + Math.max(...cells[key][column.name])"
              >
                <path class="spark-area" :d="spark(cells[key][column.name]) + 'V26H0Z'" />
                <path :d="spark(cells[key][column.name])" />
              </svg>
              <span v-else-if="column.kind === 'size'">{{ size(cells[key][column.name]) }}</span>
              <span v-else-if="column.kind === 'number'" :class="{ zero: !cells[key][column.name] }"
                >{{ cells[key][column.name].toLocaleString() }}</span
              >
              <bdi v-else :title="cells[key][column.name]" :class="{ code: column.kind === 'code' }"
                >{{ cells[key][column.name] }}</bdi
              >
            </td>
          </tr>
        </tbody>
      </table>
      <div v-else-if="empty && !loading" class="empty">
        <div class="empty-title">{{ empty.title }}</div>
        <div>{{ empty.text }}</div>
        <code v-if="empty.code" class="code">{{ empty.code }}</code>
      </div>
    </div>
    <div v-if="pager.text && (keys.length || pager.back)" class="pager">
      <span role="status">{{ pager.text }}</span><span v-if="pager.note" class="of">{{ pager.note }}</span>
      <span class="pager-keys" v-if="pager.back || pager.on"
        ><button
          type="button"
          class="small"
          :disabled="!pager.back"
          @click="$emit('page', -1)"
          aria-label="Back: page before"
        >
          ‹ Back</button
        ><button type="button" class="small" :disabled="!pager.on" @click="$emit('page', 1)" aria-label="Next page">
          Next ›
        </button></span
      >
    </div>
  </div>`,
  data() {
    return {
      keys: [],
      cells: {},
      pager: {},
      hint: "",
      empty: null,
      sort: "",
      descending: false,
      chosen: null,
      ticked: [],
      loading: true,
      now: serverNow(),
      ...this.initial,
    };
  },
  computed: {
    all() {
      return this.keys.length > 0 && this.keys.every((key) => this.ticked.includes(key));
    },
  },
  mounted() {
    this.timer = setInterval(() => (this.now = serverNow()), 1000);
  },
  unmounted() {
    clearInterval(this.timer);
  },
  methods: {
    ago,
    both,
    // {order: [key], cells: {key: {column: value}}, ...state}: what changed
    patch({ order, cells, ...state }) {
      for (const [key, changed] of Object.entries(cells ?? {})) this.cells[key] = { ...this.cells[key], ...changed };
      if (order) {
        this.keys = order;
        for (const key of Object.keys(this.cells)) if (!order.includes(key)) delete this.cells[key];
        const left = this.ticked.filter((key) => order.includes(key));
        if (left.length !== this.ticked.length) this.select(left);
      }
      Object.assign(this, state, { loading: false });
    },
    wait() {
      this.loading = true;
    },
    // A finger does not leave what it has touched.
    hold(event, on) {
      if (this.holds && event.pointerType === "mouse") this.$emit("hold", on);
    },
    row(event, key) {
      if (this.opens && !event.target.closest("a, button, input") && !String(getSelection())) this.$emit("open", key);
    },
    none: (value) => value === null || value === undefined || value === "",
    kind: (column) => [
      `is-${column.kind}`,
      `of-${column.name}`,
      { number: ["number", "size", "share", "time", "in", "amount"].includes(column.kind) },
    ],
    level: (share) => (share >= 90 ? "good" : share >= 60 ? "watch" : "bad"),
    tick(key) {
      this.select(this.ticked.includes(key) ? this.ticked.filter((other) => other !== key) : [...this.ticked, key]);
    },
    tickAll() {
      this.select(this.all ? [] : [...this.keys]);
    },
    select(keys) {
      this.ticked = keys;
      this.$emit("select", keys);
    },
    moment(seconds) {
      return sameDay(seconds, this.now) ? clock(seconds) : `${day(seconds)} ${clock(seconds, false)}`;
    },
    ahead(seconds) {
      return ahead(seconds, this.now);
    },
    size(bytes) {
      if (bytes < 1000) return `${bytes} B`;
      if (bytes < 1e6) return `${(bytes / 1e3).toLocaleString(undefined, { maximumFractionDigits: 1 })} kB`;
      return `${(bytes / 1e6).toLocaleString(undefined, { maximumFractionDigits: 1 })} MB`;
    },
    spark(values) {
      const most = Math.max(1, ...values);
      const step = 120 / Math.max(1, values.length - 1);
      const points = values.map((value, at) => `${(at * step).toFixed(1)} ${(25 - (23 * value) / most).toFixed(1)}`);
      return `M${points.join("L")}`;
    },
  },
};
