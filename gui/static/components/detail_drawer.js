// A drawer with everything about one thing, in sections. All of it is text, but for HTML mail, which is shown in a
// frame that may run nothing and load nothing.
import Drawer from "../../../../static/drawer.js";
import { both, clock, day, stamp } from "../../../../static/time.js";

export default {
  components: { Drawer },
  emits: ["act", "leave"],
  template: /* HTML */ ` <Drawer v-if="open" class="detail" :title="title" @leave="$emit('leave')">
    <template #under
      ><span v-if="under" class="of"><bdi>{{ under }}</bdi></span></template
    >
    <div v-if="actions.length || links.length" class="drawer-actions">
      <button
        v-for="[name, label] in actions"
        :key="name"
        type="button"
        class="small"
        :class="{ danger: name === 'delete' }"
        :data-act="name"
        @click="$emit('act', name)"
      >
        {{ label }}
      </button>
      <a v-for="[href, label] in links" :key="href" class="small" :href="href">{{ label }}</a>
    </div>
    <div v-if="tabs.length > 1" class="ranges tabs" role="tablist">
      <button
        v-for="name in tabs"
        :key="name"
        type="button"
        role="tab"
        :aria-selected="name === tab"
        :aria-pressed="name === tab"
        @click="tab = name"
      >
        {{ name }}
      </button>
    </div>
    <section v-for="(section, at) in shown" :key="at" :data-section="section.title">
      <h3>{{ section.title }}</h3>
      <p v-if="section.hint" class="hint">{{ section.hint }}</p>
      <dl v-if="section.kind === 'facts'" class="facts">
        <template v-for="[name, value] in section.rows" :key="name"
          ><dt>{{ name }}</dt>
          <dd v-if="typeof value === 'object'"><time :title="both(value.at)">{{ stamp(value.at) }}</time></dd>
          <dd v-else><bdi>{{ value }}</bdi></dd></template
        >
      </dl>
      <pre v-else-if="section.kind === 'text'" class="source" tabindex="0">{{ section.text }}</pre>
      <iframe
        v-else-if="section.kind === 'html'"
        class="preview"
        sandbox=""
        referrerpolicy="no-referrer"
        :srcdoc="section.html"
        title="The message as HTML"
      ></iframe>
      <ol v-else class="plain-list steps">
        <li v-for="(step, n) in section.rows" :key="n" :class="'state-' + step.state">
          <i></i>
          <div>
            <div class="step-head">
              <b>{{ step.title }}</b><code v-if="step.code" :class="'code-' + step.code[0]">{{ step.code }}</code
              ><time v-if="step.time" :title="both(step.time)">{{ day(step.time) }} {{ clock(step.time) }}</time
              ><span v-else class="of">{{ step.when }}</span>
            </div>
            <bdi>{{ step.text }}</bdi>
            <div v-if="step.under || step.again" class="of">
              <bdi>{{ step.under }}</bdi
              ><template v-if="step.again"
                >{{ step.under ? ", " : "" }}tried again at
                <time :title="both(step.again)">{{ clock(step.again) }}</time></template
              >
            </div>
          </div>
        </li>
      </ol>
    </section>
  </Drawer>`,
  data: () => ({ open: false, title: "", under: "", actions: [], links: [], sections: [], tab: "" }),
  computed: {
    tabs() {
      return [...new Set(this.sections.map((section) => section.tab).filter(Boolean))];
    },
    shown() {
      return this.sections.filter((section) => !section.tab || section.tab === this.tab);
    },
  },
  methods: {
    both,
    clock,
    day,
    stamp,
    show(state) {
      Object.assign(this, { under: "", actions: [], links: [], sections: [], ...state, open: true });
      if (!this.tabs.includes(this.tab)) this.tab = this.tabs[0] ?? "";
      this.$nextTick(() => this.$el.focus?.());
    },
    shut() {
      this.open = false;
    },
  },
};
