// A question or a small form over the page: asked once, answered with the fields' values, or not. What was typed into
// one that a lost connection has closed is there when it is asked again, for ten minutes in this tab; never a secret.
const DRAFT = "mailrace-dialog-draft";
const KEPT = 600_000; // milliseconds

export default {
  emits: ["answer", "check"],
  template: /* HTML */ ` <dialog class="box" ref="box" aria-labelledby="box-title" @close="closed">
    <form v-if="open" @submit.prevent="send">
      <h2 id="box-title">{{ title }}</h2>
      <p v-for="line in lines" :key="line">{{ line }}</p>
      <label v-for="field in fields" :key="field.name" class="box-field">
        <span>{{ field.label }}</span>
        <select v-if="field.options" v-model="values[field.name]" :name="field.name">
          <option v-for="[value, text] in field.options" :key="value" :value="value">{{ text }}</option>
        </select>
        <input
          v-else
          v-model="values[field.name]"
          :name="field.name"
          :type="field.secret ? 'password' : 'text'"
          maxlength="500"
          :autocomplete="field.secret ? 'new-password' : 'off'"
          spellcheck="false"
          :aria-invalid="!!errors[field.name]"
          @input="check"
        />
        <small v-if="errors[field.name]" class="wrong" role="alert">{{ errors[field.name] }}</small>
        <small v-else-if="field.help">{{ field.help }}</small>
      </label>
      <p v-if="secret" class="secret">
        <code>{{ secret }}</code
        ><button type="button" class="small" @click="copy">{{ copied ? "Copied" : "Copy" }}</button>
      </p>
      <p v-if="errors['']" class="wrong" role="alert">{{ errors[""] }}</p>
      <footer>
        <button v-if="action" type="button" class="plain" @click="leave">Cancel</button>
        <button type="submit" class="strong" :class="{ danger }" :disabled="busy">{{ action || "Close" }}</button>
      </footer>
    </form>
  </dialog>`,
  data: () => ({
    open: false,
    title: "",
    lines: [],
    fields: [],
    values: {},
    errors: {},
    action: "",
    danger: false,
    busy: false,
    secret: "",
    copied: false,
  }),
  methods: {
    ask({ title, lines, fields, values, action, danger, secret }) {
      Object.assign(this, {
        title,
        lines,
        fields,
        values: { ...values, ...this.draft(title, fields) },
        action,
        danger,
        secret,
        errors: {},
        busy: false,
        copied: false,
        open: true,
      });
      this.$refs.box.showModal();
      this.$nextTick(() =>
        this.$el.querySelector(fields.length ? "input, select" : danger ? ".plain" : ".strong")?.focus(),
      );
    },
    wrong(errors) {
      Object.assign(this, { errors, busy: false });
    },
    keep() {
      const open = this.fields.filter((field) => !field.secret).map((field) => [field.name, this.values[field.name]]);
      const draft = { title: this.title, at: Date.now(), values: Object.fromEntries(open) };
      try {
        sessionStorage.setItem(DRAFT, JSON.stringify(draft));
      } catch {
        // this browser keeps nothing for sites
      }
    },
    draft(title, fields) {
      try {
        const { title: of, at, values } = JSON.parse(sessionStorage.getItem(DRAFT));
        const known = fields.filter((field) => !field.secret && field.name in values);
        const fresh = of === title && Date.now() - at < KEPT;
        return fresh ? Object.fromEntries(known.map((field) => [field.name, values[field.name]])) : {};
      } catch {
        return {};
      }
    },
    shut() {
      try {
        sessionStorage.removeItem(DRAFT);
      } catch {
        // nothing was kept
      }
      this.open = false;
      this.$refs.box.close();
    },
    check() {
      this.keep();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open && this.$emit("check", { ...this.values }), 200);
    },
    send() {
      clearTimeout(this.timer);
      this.busy = true;
      this.$emit("answer", { ...this.values });
    },
    // told a moment after it was closed: it may be open again with another question
    closed() {
      if (!this.$refs.box.open) this.leave();
    },
    leave() {
      if (!this.open) return;
      this.shut();
      this.$emit("answer", null);
    },
    copy() {
      const range = document.createRange();
      range.selectNodeContents(this.$el.querySelector(".secret code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (navigator.clipboard) navigator.clipboard.writeText(this.secret);
      else document.execCommand("copy"); // without TLS there is no clipboard object
      this.copied = true;
    },
  },
};
