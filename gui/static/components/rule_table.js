// A table of rules: what is typed, sorted, dragged or pressed goes to the server, which answers with other rows.
// Everything in a row may come from outside, and is shown as text.
import { both, clock, day, sameDay, now as serverNow } from "../../../../static/time.js";

const ICONS = {
  edit: "M4 16h3l9-9-3-3-9 9zM11.500 5.500l3 3",
  remove: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.600L14 6M8.500 9v4M11.500 9v4",
  record: "M4 4h12v12H4zM7 8h6M7 11h6",
};
const DAY = 86400;

function left(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 2 * DAY ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / DAY)} days`;
}

export function moment(iso, now) {
  const at = new Date(iso).getTime() / 1000;
  const date = sameDay(at, now) ? "" : `${day(at, { year: "numeric" })} `;
  return {
    text: date + clock(at, at - now < 600 && at > now),
    tip: both(at),
    left: at > now ? `in ${left(at - now)}` : "past",
  };
}

export const Cell = {
  props: { value: null, column: Object, now: Number },
  template: /* HTML */ ` <span v-if="value === null || value === undefined || value === ''" class="none"
      >{{ column.empty }}</span
    >
    <span v-else-if="column.kind === 'time'" :title="at.tip"
      ><time :datetime="value">{{ at.text }}</time>
      <small v-if="at.left !== 'past' || ends" class="whole">{{ at.left }}</small></span
    >
    <span v-else-if="Array.isArray(value)" class="chips"
      ><span v-for="chip in value.slice(0, most)" class="chip" :title="chip.tip ?? chip.text ?? chip">
        <b v-if="chip.label">{{ chip.label }}</b> {{ chip.text ?? chip }}</span
      ><span v-if="value.length > most" class="chip">and {{ (value.length - most).toLocaleString() }} more</span
      ><span v-if="!value.length" class="none">{{ column.empty }}</span></span
    >
    <span v-else-if="typeof value === 'object'" class="pill-cell"
      ><span class="tone" :class="'is-' + value.tone" :title="since(value)">{{ value.text }}</span>
      <small v-if="value.sub">{{ value.sub }}</small></span
    >
    <span v-else-if="typeof value === 'boolean'" :class="{ none: !value }">{{ value ? 'yes' : column.empty }}</span>
    <span v-else-if="column.kind === 'seconds'" :title="value.toLocaleString() + ' seconds'">{{ long(value) }}</span>
    <span v-else-if="typeof value === 'number'" :class="{ none: value === 0 && column.live }"
      >{{ value.toLocaleString() }}</span
    >
    <a v-else-if="column.link" :href="'/?' + column.link + '=' + encodeURIComponent(value)" :title="value"
      >{{ value }}</a
    >
    <code v-else-if="column.kind === 'code'" :title="value">{{ value }}</code>
    <span v-else :title="value">{{ value }}</span>`,
  data: () => ({ most: 12 }), // chips of a cell
  computed: {
    ends() {
      return ["until", "expire"].includes(this.column.name);
    },
    at() {
      return moment(this.value, this.now);
    },
  },
  methods: {
    since: ({ tip, since: seconds }) => (seconds ? `${tip ?? ""}\nSince ${both(seconds)}` : tip),
    long(seconds) {
      for (const [size, name] of [
        [DAY, "d"],
        [3600, "h"],
        [60, "min"],
      ])
        if (seconds >= size && seconds % size === 0) return `${seconds / size} ${name}`;
      return `${seconds.toLocaleString()} s`;
    },
  },
};

export default {
  components: { Cell },
  props: {
    label: String,
    columns: Array,
    rows: Array,
    live: Object,
    sort: String,
    down: Boolean,
    drag: Boolean,
    actions: Array,
    marked: Number,
    add: String,
    query: String,
    total: Number,
    found: Number,
    page: Number,
    pages: Number,
    empty: Object,
  },
  emits: ["filter", "sort", "page", "act", "order", "export", "add"],
  template: /* HTML */ ` <div class="rules">
    <div class="rules-tools">
      <input
        type="search"
        class="field"
        data-search
        v-model="search"
        :aria-label="'Search in ' + label"
        placeholder="Search"
        @input="typed"
      />
      <span class="of" role="status">{{ counted }}</span>
      <span class="grow"></span>
      <button
        type="button"
        class="small"
        v-for="form in ['CSV', 'JSON']"
        :aria-label="'Export as ' + form"
        @click="$emit('export', form.toLowerCase())"
      >
        {{ form }}
      </button>
      <button type="button" class="strong" @click="$emit('add')" :title="add + ' (n)'">
        <span aria-hidden="true">+</span> {{ add }}
      </button>
    </div>
    <div v-if="rows.length" class="rules-scroll">
      <table class="grid rule-grid" :class="{ wide: groups.length > 0, dragging: moved !== null }" :aria-label="label">
        <thead>
          <tr v-if="groups.length" class="groups">
            <th v-if="drag"></th>
            <th v-for="group in groups" :colspan="group.span" scope="colgroup">
              <span v-if="group.name">{{ group.name }}</span>
            </th>
            <th></th>
          </tr>
          <tr>
            <th v-if="drag" class="handle-cell"><span class="unseen">Order</span></th>
            <th
              v-for="column in columns"
              :key="column.name"
              :class="classes(column)"
              scope="col"
              :aria-sort="sort === column.name ? (down ? 'descending' : 'ascending') : 'none'"
            >
              <button
                v-if="column.sortable"
                type="button"
                class="rule-sorter"
                @click="$emit('sort', column.name)"
                :title="column.help"
              >
                {{ column.label }}<i aria-hidden="true">{{ sort === column.name ? (down ? '↓' : '↑') : '' }}</i>
              </button>
              <span v-else :title="column.help">{{ column.label }}</span>
            </th>
            <th class="acts"><span class="unseen">Actions</span></th>
          </tr>
        </thead>
        <tbody ref="body">
          <tr
            v-for="(row, at) in shown"
            :key="row.id"
            :data-id="row.id"
            :class="{ moved: moved === row.id, marked: marked === row.id }"
            @click="pressed($event, row)"
          >
            <td v-if="drag" class="handle-cell">
              <button
                type="button"
                class="handle"
                :aria-label="'Move ' + row.title + ', place ' + (at + 1) + '; arrow keys move it'"
                @pointerdown="grab($event, row)"
                @keydown.up.prevent="shift(at, -1)"
                @keydown.down.prevent="shift(at, 1)"
              >
                ⠿
              </button>
            </td>
            <td
              v-for="column in columns"
              :key="column.name"
              :class="[classes(column), { unset: isNone(value(row, column)) }]"
              :data-label="column.label"
              :data-group="column.group"
            >
              <Cell :value="value(row, column)" :column="column" :now="now" />
              <span v-if="row.notes && row.notes[column.name]" class="rule-note" :title="row.notes[column.name]"
                ><i aria-hidden="true">⚠</i> {{ row.notes[column.name] }}</span
              >
            </td>
            <td class="acts">
              <div class="acts-row">
                <button
                  v-for="action in actions"
                  type="button"
                  :class="action.text ? 'small ' + (action.tone || '') : 'icon-button'"
                  :aria-label="action.label + ' ' + row.title"
                  :title="action.label"
                  :data-act="action.name"
                  @click.stop="$emit('act', { id: row.id, action: action.name })"
                >
                  <template v-if="action.text">{{ action.label }}</template
                  ><svg v-else class="icon" viewBox="0 0 20 20" aria-hidden="true">
                    <path :d="icons[action.name]" />
                  </svg>
                </button>
              </div>
            </td>
          </tr>
        </tbody>
      </table>
    </div>
    <div v-else-if="total !== undefined" class="empty">
      <template v-if="total"
        ><div class="empty-title">Nothing matches “{{ query }}”</div>
        <button type="button" class="small" @click="all">Show all {{ total }}</button></template
      >
      <template v-else
        ><div class="empty-title">{{ empty.title }}</div>
        <div>{{ empty.text }}</div>
        <button type="button" class="strong" @click="$emit('add')">{{ add }}</button></template
      >
    </div>
    <div v-if="pages > 1" class="pager">
      <button type="button" class="small" :disabled="page <= 1" @click="$emit('page', page - 1)">Previous</button>
      <span>Page {{ page }} of {{ pages }}</span
      ><button type="button" class="small" :disabled="page >= pages" @click="$emit('page', page + 1)">Next</button>
    </div>
  </div>`,
  data() {
    return { now: serverNow(), icons: ICONS, moved: null, shown: this.rows, search: this.query };
  },
  computed: {
    groups() {
      if (!this.columns.some((column) => column.group)) return [];
      const groups = [];
      for (const column of this.columns) {
        const last = groups[groups.length - 1];
        if (last && last.name === column.group) last.span += 1;
        else groups.push({ name: column.group, span: 1 });
      }
      return groups;
    },
    counted() {
      if (this.total === undefined) return ""; // the rows are still being looked up
      return this.found === this.total
        ? `${this.total.toLocaleString()} in all`
        : `${this.found.toLocaleString()} of ${this.total.toLocaleString()}`;
    },
  },
  watch: {
    query(query) {
      if (this.said !== query) this.search = query; // else it is the answer to what has been typed since
    },
    rows(rows) {
      if (this.moved === null) this.shown = rows;
    },
  },
  mounted() {
    this.clock = setInterval(() => (this.now = serverNow()), 1000);
    this.keys = (event) => {
      if (
        event.key === "n" &&
        !event.ctrlKey &&
        !event.metaKey &&
        !event.altKey &&
        !event.target.closest("input, textarea, select, dialog")
      ) {
        event.preventDefault();
        this.$emit("add");
      }
    };
    document.addEventListener("keydown", this.keys);
    this.$nextTick(() => this.$el.querySelector("tr.marked")?.scrollIntoView({ block: "center" }));
  },
  unmounted() {
    clearInterval(this.clock);
    clearTimeout(this.waiting);
    this.dragging?.abort();
    document.removeEventListener("keydown", this.keys);
  },
  methods: {
    value(row, column) {
      return column.live ? this.live[row.id]?.[column.name] : row.cells[column.name];
    },
    isNone: (value) => value === null || value === undefined || value === "" || value === false,
    classes: (column) => ({
      number: column.kind === "number" || column.kind === "seconds",
      grouped: column.group,
      [`col-${column.name}`]: true,
    }),
    typed() {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(this.say, 150);
    },
    say() {
      this.said = this.search;
      this.$emit("filter", this.said);
    },
    all() {
      this.search = "";
      this.say();
    },
    pressed(event, row) {
      if (!event.target.closest("a, button") && !String(getSelection()))
        this.$emit("act", { id: row.id, action: "edit" });
    },
    // A captured pointer is lost when its row moves in the document, so the document is listened to.
    grab(event, row) {
      event.preventDefault();
      this.moved = row.id;
      this.dragging = new AbortController();
      const { signal } = this.dragging;
      document.addEventListener("pointermove", this.pull, { signal });
      for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, this.drop, { signal });
    },
    pull(event) {
      const over =
        [...this.$refs.body.children].find((line) => event.clientY < line.getBoundingClientRect().bottom) ??
        this.$refs.body.lastElementChild;
      const to = this.shown.findIndex((row) => row.id === Number(over.dataset.id));
      this.place(
        this.shown.findIndex((row) => row.id === this.moved),
        to,
      );
    },
    drop() {
      this.dragging.abort();
      this.moved = null;
      this.tell();
    },
    shift(at, by) {
      this.place(at, at + by);
      this.tell();
    },
    place(from, to) {
      if (from === to || to < 0 || to >= this.shown.length) return;
      const rows = [...this.shown];
      rows.splice(to, 0, ...rows.splice(from, 1));
      this.shown = rows;
    },
    tell() {
      const ids = this.shown.map((row) => row.id);
      if (ids.join() !== this.rows.map((row) => row.id).join()) this.$emit("order", ids);
    },
  },
};
