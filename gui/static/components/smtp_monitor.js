// The live SMTP dialogue, grouped by connection. Every line is text; bodies are folded.
import { both, clock } from "../../../../static/time.js";

const CONNECTIONS = 40,
  LINES = 200; // kept on the page

export default {
  props: { running: Boolean },
  emits: ["open"],
  template: /* HTML */ ` <div class="monitor" role="log" aria-live="off" aria-label="SMTP dialogue">
    <div v-if="!talks.length" class="card empty">
      <div class="empty-title">{{ running ? "Listening" : "Stopped" }}</div>
      <div>{{ advice }}</div>
    </div>
    <div v-for="(column, at) in columns" :key="at">
      <article
        v-for="talk in column"
        :key="talk.id"
        class="card talk"
        :class="'talk-' + talk.direction"
        :data-direction="talk.direction"
      >
        <header>
          <span class="way">{{ talk.direction === "in" ? "IN" : "OUT" }}</span>
          <b
            ><bdi
              >{{ talk.direction === "in" ? talk.remote_ip + " → " + talk.mta_ip : talk.mta_ip + " → " + talk.remote_ip
              }}</bdi
            ></b
          >
          <bdi class="of">{{ talk.domain }}</bdi><span class="of talk-id">#{{ talk.id }}</span>
        </header>
        <ol tabindex="0">
          <li v-for="line in talk.lines" :key="line.n" :class="['by-' + line.sender, said(line)]">
            <span v-if="line.missed" class="gap">… {{ line.missed.toLocaleString() }} lines left out …</span>
            <time :title="both(line.time)">{{ clock(line.time) }}</time
            ><span class="who" :aria-label="line.sender === 'client' ? 'client' : 'server'"
              >{{ line.sender === "client" ? "C:" : "S:" }}</span
            >
            <button
              v-if="line.caught && kept.includes(line.caught)"
              type="button"
              class="small"
              @click="$emit('open', line.caught)"
            >
              message, {{ line.size.toLocaleString() }} bytes
            </button>
            <bdi v-else :title="line.caught ? 'Only the newest messages are kept' : null">{{ line.text }}</bdi>
          </li>
        </ol>
      </article>
    </div>
  </div>`,
  data: () => ({ talks: [], n: 0, kept: [], wide: innerWidth > 1150 }),
  computed: {
    columns() {
      if (!this.wide) return [this.talks];
      return [0, 1].map((side) => this.talks.filter((talk) => talk.side === side));
    },
    advice() {
      if (this.running) return "What clients and servers say appears here as they say it.";
      return "Start the monitor to see what clients and servers say.";
    },
  },
  mounted() {
    this.resized = () => (this.wide = innerWidth > 1150);
    addEventListener("resize", this.resized);
  },
  unmounted() {
    removeEventListener("resize", this.resized);
  },
  methods: {
    both,
    clock,
    add(lines) {
      for (const line of lines) {
        let talk = this.talks.find((one) => one.id === line.connection);
        if (!talk) {
          this.side = 1 - (this.side ?? 1);
          this.talks.unshift({
            id: line.connection,
            direction: line.direction,
            mta_ip: line.mta_ip,
            remote_ip: line.remote_ip,
            domain: "",
            lines: [],
            side: this.side,
          });
          talk = this.talks[0];
        }
        talk.domain = line.domain || talk.domain;
        talk.lines.push({ ...line, n: ++this.n });
        if (talk.lines.length > LINES) talk.lines.shift();
      }
      if (this.talks.length > CONNECTIONS) this.talks.length = CONNECTIONS;
      this.$nextTick(() => {
        for (const list of this.$el.querySelectorAll?.("ol") ?? []) list.scrollTop = list.scrollHeight;
      });
    },
    keep(numbers) {
      this.kept = numbers;
    },
    said: (line) => (line.sender === "server" && /^[45]\d\d/.test(line.text) ? `said-${line.text[0]}` : ""),
    clear() {
      this.talks = [];
    },
  },
};
