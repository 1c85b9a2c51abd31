// A drawer that explains lanes: where they are, and of one of them everything that is known. All of it is text.
import Drawer from "../../../../static/drawer.js";
import { ago, ahead, both, clock, now as serverNow } from "../../../../static/time.js";

export default {
  components: { Drawer },
  emits: ["pick", "act", "leave"],
  template: /* HTML */ ` <Drawer v-if="open" :title="title" @leave="$emit('leave')">
    <template #under><a v-if="overview" :href="overview">Overview of it</a></template>
    <div v-if="!lanes.length" class="empty">
      <div class="empty-title">No lane holds its mail now</div>
      <div>A lane appears when mail for it comes into memory; it is forgotten some time after the last one.</div>
    </div>
    <div v-else class="lane-list" role="listbox" aria-label="Lanes">
      <button
        v-for="lane in lanes"
        :key="lane.lane"
        type="button"
        role="option"
        class="lane-entry"
        :aria-selected="lane.lane === chosen"
        :data-lane="lane.lane"
        @click="$emit('pick', lane.lane)"
      >
        <span class="state" :class="'state-' + lane.state"><i></i>{{ lane.state }}</span>
        <span class="lane-name"
          ><bdi>{{ lane.ip === "?" ? "look-up" : lane.ip }}</bdi> → <bdi>{{ provider(lane.group) }}</bdi></span
        >
        <span class="lane-held">{{ (lane.in_memory + lane.parked + lane.retrying).toLocaleString() }}</span>
      </button>
    </div>
    <template v-if="chosen && lane">
      <div class="lane-verdict" :class="'is-' + level" role="status">
        <strong>{{ says }}</strong><span>{{ because }}</span>
      </div>
      <div class="drawer-actions">
        <button
          v-for="[name, label] in actions"
          :key="name"
          type="button"
          class="small"
          :data-act="name"
          @click="$emit('act', name)"
        >
          {{ label }}
        </button>
        <a v-if="limitsLink" class="small" :href="limitsLink" data-act="limits">Edit limits</a>
        <a v-for="[label, href] in links" :key="label" class="small" :href="href">{{ label }}</a>
      </div>
      <dl class="lane-figures">
        <div data-tip="Deliveries of the lane in memory that wait for a permit.">
          <dt>In line</dt>
          <dd>{{ lane.waiting.toLocaleString() }}</dd>
        </div>
        <div
          data-tip="Deliveries under way now, and how many may be: the window grows with each answer, and is halved when a connection fails."
        >
          <dt>Under way</dt>
          <dd>{{ lane.in_flight.toLocaleString() }}<small v-if="lane.window"> of {{ lane.window }}</small></dd>
        </div>
        <div data-tip="Messages of the lane outside memory.">
          <dt>Parked</dt>
          <dd>{{ lane.parked.toLocaleString() }}</dd>
        </div>
        <div data-figure="retrying" data-tip="Messages of the lane that wait for their retry.">
          <dt>Retrying</dt>
          <dd :title="lane.retrying ? next : null">{{ lane.retrying.toLocaleString() }}</dd>
        </div>
        <div
          v-if="lane.held"
          data-figure="held"
          data-tip="Messages that its pauses hold, outside memory: of this lane, and of the others that a pause is for."
        >
          <dt>Held</dt>
          <dd>{{ lane.held.toLocaleString() }}</dd>
        </div>
        <div data-tip="Connections of the lane, and how many of them idle.">
          <dt>Connections</dt>
          <dd>{{ lane.connections.open }}<small v-text="', ' + lane.connections.idle + ' idle'"></small></dd>
        </div>
      </dl>
      <section v-if="lane.reasons.length" data-section="reasons">
        <h3>What went wrong in the last 5 minutes</h3>
        <ol class="plain-list answers">
          <li v-for="one in lane.reasons" :key="one.kind + one.code + one.text">
            <b>{{ one.count.toLocaleString() }}</b><span class="of">{{ one.kind }}</span
            ><code :class="'code-' + one.code[0]">{{ one.code }}</code><bdi :title="one.text">{{ one.text }}</bdi
            ><a v-if="one.flood" :href="one.flood">pattern…</a>
          </li>
        </ol>
      </section>
      <section v-if="lane.waits_for.length">
        <h3>Waits for</h3>
        <ul class="plain-list">
          <li v-for="(obstacle, at) in lane.waits_for" :key="at">
            <bdi>{{ obstacle.why }}</bdi
            ><span class="of" v-if="obstacle.held"> holds {{ obstacle.held.toLocaleString() }}</span
            ><span class="of" v-if="!obstacle.all"> only some of its mail</span>
            <time v-if="obstacle.until" class="of" :title="both(obstacle.until)">
              until {{ clock(obstacle.until) }}, {{ ahead(obstacle.until) }}</time
            >
          </li>
        </ul>
      </section>
      <section>
        <h3>Limits in force</h3>
        <p v-for="line in lane.shares" :key="line" class="hint">{{ line }}</p>
        <table class="grid limits">
          <tbody>
            <tr v-for="limit in lane.limits.filter((one) => !one.endless)" :key="limit.field">
              <td :title="limit.help">{{ limit.label }}</td>
              <td class="number">{{ limit.shown }}</td>
              <td class="origin">
                <a v-if="limit.link" :href="limit.link">{{ limit.origin }}</a
                ><template v-else>{{ limit.origin }}</template>
              </td>
            </tr>
          </tbody>
        </table>
        <p v-if="endless.length" class="hint">No limit on {{ endless.join(", ") }}.</p>
      </section>
      <section v-if="lane.hosts.length">
        <h3>Hosts, in the order to try</h3>
        <table class="grid hosts">
          <tbody>
            <tr v-for="host in lane.hosts" :key="host.address + host.port">
              <td><bdi :title="host.host">{{ host.host }}</bdi></td>
              <td class="code">{{ host.address }}{{ host.port === 25 ? "" : ":" + host.port }}</td>
              <td class="why">
                <span class="state" :class="'state-' + host.state"><i></i>{{ host.state }}</span>
                <bdi :title="host.why">{{ host.why }}</bdi>
              </td>
            </tr>
          </tbody>
        </table>
      </section>
      <section>
        <h3>Last answers</h3>
        <p v-if="!lane.answers.length" class="hint">No server has answered yet.</p>
        <ol class="plain-list answers">
          <li v-for="(answer, at) in lane.answers" :key="answer.time + '/' + at">
            <time :title="both(answer.time)">{{ clock(answer.time) }}</time
            ><code :class="'code-' + String(answer.code)[0]">{{ answer.code }}</code
            ><bdi :title="answer.description + (answer.host ? ' (' + answer.host + ')' : '')"
              >{{ answer.status }} {{ answer.description }}</bdi
            ><a
              v-if="answer.message_id"
              :href="'/logs?message_id=' + encodeURIComponent(answer.message_id)"
              aria-label="The message's story"
              >story</a
            >
          </li>
        </ol>
      </section>
      <section>
        <h3>Last events</h3>
        <p v-if="!lane.events.length" class="hint">Nothing has happened yet.</p>
        <ol class="plain-list events">
          <li v-for="(event, at) in lane.events" :key="event.since + '/' + at">
            <time :title="both(event.time)">{{ clock(event.time) }}</time><b>{{ event.kind }}</b
            ><span v-if="event.count > 1" class="times">×{{ event.count.toLocaleString() }}</span
            ><bdi :title="event.text">{{ event.text }}</bdi>
          </li>
        </ol>
      </section>
    </template>
  </Drawer>`,
  data: () => ({
    open: false,
    title: "",
    overview: "",
    lanes: [],
    chosen: "",
    lane: null,
    actions: [],
    limitsLink: "",
    links: [],
    now: serverNow(),
  }),
  computed: {
    endless() {
      return this.lane.limits
        .filter((limit) => limit.endless)
        .map((limit) => limit.label.toLowerCase().replace("ip:", "IP:"));
    },
    level() {
      if (this.lane.state === "running" && !this.lane.next_send) return "idle";
      return (
        {
          running: "good",
          throttled: "watch",
          reduced: "watch",
          deferring: "bad",
          failing: "bad",
          flooded: "bad",
          paused: "bad",
        }[this.lane.state] ?? "idle"
      );
    },
    next() {
      return this.lane.next_retry > this.now ? `next ${this.ahead(this.lane.next_retry)}` : "the next goes now";
    },
    says() {
      const { next_send } = this.lane;
      if (this.lane.state === "deferring") return "Deferring";
      if (this.lane.state === "failing") return "Failing";
      if (next_send) return next_send <= this.now + 1 ? "Sends now" : `Sends next ${this.ahead(next_send)}`;
      return this.lane.in_memory || this.lane.parked || this.lane.held || this.lane.waits_for.length
        ? "Does not send"
        : "Nothing to send";
    },
    because() {
      if (this.lane.says && ["deferring", "failing"].includes(this.lane.state)) return this.lane.says;
      return this.lane.next_why === "nothing waits"
        ? "No mail of it waits in memory or is parked."
        : this.lane.next_why;
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
    clock,
    provider: (group) => group.replace(/\+(\d+)~\w+$/, " and $1 more"),
    patch(state) {
      const opened = state.open && !this.open;
      const { lane, ...rest } = state;
      Object.assign(this, rest);
      if (lane === null) this.lane = null;
      else if (lane) this.lane = { ...this.lane, ...lane };
      if (opened) this.$nextTick(() => this.$el.focus?.());
    },
    ahead(seconds) {
      return ahead(seconds, this.now);
    },
  },
};
