// A DNS record to publish, with copies of each part.
import { both, stamp } from "../../../../static/time.js";

export default {
  props: { record: Object, state: Object },
  emits: ["check"],
  template: /* HTML */ ` <dialog
    ref="box"
    class="box record-box"
    aria-labelledby="record-title"
    @click.self="$refs.box.close()"
  >
    <h2 id="record-title">Publish this TXT record</h2>
    <p v-if="state" class="record-state">
      <span class="tone" :class="'is-' + state.tone">{{ state.text }}</span> {{ state.tip }}
      <span v-if="state.since" class="of">Since <time :title="both(state.since)">{{ stamp(state.since) }}</time></span>
      <button type="button" class="small" :disabled="asking" @click="ask">
        {{ asking ? 'Asking…' : 'Ask DNS again' }}
      </button>
    </p>
    <div v-for="part in parts" class="record-part">
      <span class="entry-label">{{ part.label }}</span>
      <div class="record-row">
        <code :data-part="part.name">{{ record[part.name] }}</code>
        <button
          type="button"
          class="small"
          :aria-label="'Copy ' + part.label"
          :data-copy="part.name"
          @click="copy(part.name)"
        >
          {{ copied === part.name ? 'Copied' : 'Copy' }}
        </button>
      </div>
    </div>
    <footer><button type="button" class="strong" @click="$refs.box.close()">Close</button></footer>
  </dialog>`,
  data: () => ({
    copied: "",
    asking: false,
    parts: [
      { name: "name", label: "Name" },
      { name: "value", label: "Value" },
      { name: "zone", label: "As a line of a zone file" },
    ],
  }),
  watch: {
    state() {
      this.asking = false;
    },
  },
  methods: {
    both,
    stamp,
    show() {
      Object.assign(this, { copied: "", asking: false });
      this.$refs.box.showModal();
    },
    ask() {
      this.asking = true;
      setTimeout(() => (this.asking = false), 6000);
      this.$emit("check");
    },
    copy(name) {
      const range = document.createRange();
      range.selectNodeContents(this.$el.querySelector(`[data-part=${name}]`));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (navigator.clipboard) navigator.clipboard.writeText(this.record[name]);
      else document.execCommand("copy"); // without TLS there is no clipboard object
      this.copied = name;
    },
  },
};
