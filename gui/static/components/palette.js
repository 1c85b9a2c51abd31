// A field over every view that finds what one types. What is found comes from outside, and is shown as text.
export default {
  emits: ["ask"],
  template: /* HTML */ `<dialog ref="box" class="palette" aria-label="Search everything" @click.self="shut">
    <form role="search" @submit.prevent="enter">
      <input
        ref="field"
        v-model="text"
        type="search"
        class="field"
        maxlength="300"
        autocomplete="off"
        spellcheck="false"
        placeholder="Address, message-id, domain, MTA IP, tag, rule, view"
        aria-label="Search everything"
        role="combobox"
        aria-controls="palette-found"
        :aria-expanded="rows.length > 0"
        :aria-activedescendant="rows.length ? 'palette-' + chosen : null"
        @input="typed"
        @keydown.down.prevent="move(1)"
        @keydown.up.prevent="move(-1)"
      />
      <ul id="palette-found" role="listbox" aria-label="Found">
        <li
          v-for="(row, at) in rows"
          :key="row.kind + row.href"
          :id="'palette-' + at"
          role="option"
          :aria-selected="at === chosen"
          @click="go(at)"
        >
          <span class="of">{{ row.kind }}</span> <b><bdi>{{ row.text }}</bdi></b> <bdi class="of">{{ row.more }}</bdi>
        </li>
      </ul>
      <p v-if="text.trim() && !rows.length" class="of" role="status">
        {{ whole ? "Nothing is known of it: no mail, no rule, no view." : "Looking…" }}
      </p>
    </form>
  </dialog>`,
  // `of`: the text that the rows were found for; its answer may be on its way while one types on.
  data: () => ({ text: "", of: "", rows: [], chosen: 0, whole: true }),
  mounted() {
    this.opened = () => this.show();
    document.addEventListener("mailrace-search", this.opened);
  },
  unmounted() {
    document.removeEventListener("mailrace-search", this.opened);
    clearTimeout(this.waiting);
  },
  methods: {
    show() {
      if (!this.$refs.box.open) this.$refs.box.showModal();
      this.$refs.field.focus();
      this.$refs.field.select();
    },
    shut() {
      this.$refs.box.close();
    },
    typed() {
      this.whole = false;
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.$emit("ask", this.text), 120);
    },
    found({ text, rows, whole }) {
      if (text !== this.text) return;
      Object.assign(this, { of: text, rows, whole, chosen: Math.min(this.chosen, Math.max(0, rows.length - 1)) });
      if (this.going) this.go(this.chosen);
    },
    move(by) {
      this.chosen = (this.chosen + by + this.rows.length) % Math.max(1, this.rows.length);
    },
    // Who types quickly presses Enter before the answer is there.
    enter() {
      this.going = this.of !== this.text || (!this.rows.length && !this.whole);
      if (!this.going) this.go(this.chosen);
    },
    go(at) {
      const row = this.rows[at];
      this.going = !row && !this.whole;
      if (row) location.assign((window.path_prefix ?? "") + row.href);
    },
  },
};
