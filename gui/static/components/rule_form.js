// The form of a rule, drawn from its fields: what is entered goes to the server as it is typed, which says what is wrong
// and what it would do. Nothing is known here of any kind of rule.
import { field as local, inUtc, meant, now as serverNow } from "../../../../static/time.js";

const SOON = [
  ["15 min", 900],
  ["1 h", 3600],
  ["1 day", 86400],
  ["1 week", 604800],
];
const DRAFT = "mailrace-draft"; // what is being typed, until it is saved or left: a lost connection reloads the page
const KEPT = 600_000; // milliseconds
const LATER = [
  ["90 days", 7776000],
  ["1 year", 31536000],
];

export default {
  props: {
    fields: Array,
    errors: Array,
    aside: Array,
    opening: Object,
    suggestions: Object,
    words: Object,
    tryout: Object,
    noun: String,
  },
  emits: ["check", "save", "closed"],
  template: /* HTML */ ` <dialog
    ref="sheet"
    class="rule-sheet"
    :aria-label="title"
    @close="closed"
    @keydown.esc.stop
    @click.self="leave"
  >
    <form v-if="open" @submit.prevent="save" novalidate autocomplete="off">
      <header>
        <h2>{{ title }}</h2>
        <button type="button" class="icon-button" aria-label="Close without saving" title="Close" @click="leave">
          <svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d="M5 5l10 10M15 5 5 15" /></svg>
        </button>
      </header>
      <div class="sheet-body">
        <p v-if="resumed" class="hint" role="status">What you had typed before the page was loaded again.</p>
        <p v-for="error in general" class="error" role="alert">{{ error }}</p>
        <template v-for="(group, place) in groups" :key="group.name"
          ><fieldset :class="{ limits: group.name, narrow: !group.name }">
            <legend v-if="group.name">{{ group.name }}</legend>
            <div
              v-for="field in group.fields"
              :key="field.name"
              class="entry"
              :class="['input-' + field.input, { wrong: wrong(field.name) }]"
              v-show="visible(field)"
            >
              <template v-if="field.name === 'generate'"
                ><span class="entry-label">Private key</span>
                <div class="segments" role="radiogroup" aria-label="Private key">
                  <label v-for="way in ways"
                    ><input type="radio" name="way" :value="way.name" v-model="way_" @change="typed('key')" /><span
                      >{{ way.label }}</span
                    ></label
                  >
                </div></template
              >
              <template v-else-if="field.input === 'flag'"
                ><label class="flag"
                  ><input
                    type="checkbox"
                    v-model="values[field.name]"
                    :aria-describedby="hint(field)"
                    @change="typed(field.name)"
                  />
                  {{ field.label }}</label
                ></template
              >
              <template v-else-if="field.input === 'patterns'"
                ><span class="entry-label">{{ field.label }}</span>
                <div v-for="(item, at) in values[field.name]" :key="at" class="pattern-row">
                  <select
                    class="field"
                    v-model="item.type"
                    :aria-label="field.label + ' ' + (at + 1) + ', type'"
                    @change="typed(field.name)"
                  >
                    <option v-for="type in field.types" :value="type">{{ word(type) }}</option>
                  </select>
                  <input
                    class="field code"
                    v-model="item.pattern"
                    :disabled="item.type === 'global'"
                    :placeholder="item.type === 'global' ? 'every domain' : ''"
                    :aria-label="field.label + ' ' + (at + 1)"
                    @input="typed(field.name)"
                  />
                  <button
                    type="button"
                    class="icon-button"
                    :aria-label="'Remove pattern ' + (at + 1)"
                    @click="values[field.name].splice(at, 1), typed(field.name)"
                  >
                    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d="M5 5l10 10M15 5 5 15" /></svg>
                  </button>
                </div>
                <button
                  type="button"
                  class="small"
                  @click="values[field.name].push({ type: field.types[0], pattern: '' })"
                >
                  + Add a pattern
                </button></template
              >
              <template v-else>
                <label class="entry-label" :class="{ unseen: secret && field.input === 'secret' }" :for="id(field)"
                  >{{ field.label }}<em v-if="field.required" aria-hidden="true">*</em></label
                >
                <div class="entry-box">
                  <select
                    v-if="field.input === 'choice'"
                    class="field"
                    :id="id(field)"
                    v-model="values[field.name]"
                    :aria-invalid="wrong(field.name)"
                    :aria-describedby="hint(field)"
                    @change="typed(field.name)"
                  >
                    <option v-if="!hasDefault(field)" value="">not set</option>
                    <option v-for="choice in field.choices" :value="choice">{{ word(choice) }}</option>
                  </select>
                  <textarea
                    v-else-if="field.input === 'secret'"
                    class="field code"
                    rows="6"
                    spellcheck="false"
                    :id="id(field)"
                    v-model="values[field.name]"
                    :aria-invalid="wrong(field.name)"
                    :aria-describedby="hint(field)"
                    placeholder="-----BEGIN PRIVATE KEY-----"
                    @input="typed(field.name)"
                  ></textarea>
                  <input
                    v-else
                    class="field"
                    :class="{ code: field.name === 'pattern', narrow: numeric(field) }"
                    :id="id(field)"
                    v-model="values[field.name]"
                    :type="field.input === 'time' ? 'datetime-local' : 'text'"
                    :inputmode="numeric(field) ? 'decimal' : null"
                    :placeholder="placeholder(field)"
                    :list="suggestions[field.name] ? id(field) + '-list' : null"
                    :maxlength="numeric(field) ? null : 4000"
                    :aria-required="field.required"
                    :aria-invalid="wrong(field.name)"
                    :aria-describedby="hint(field)"
                    spellcheck="false"
                    autocapitalize="off"
                    @input="typed(field.name)"
                  />
                  <datalist v-if="suggestions[field.name]" :id="id(field) + '-list'">
                    <option v-for="text in suggestions[field.name]" :value="text"></option>
                  </datalist>
                  <span v-if="field.unit" class="unit">{{ field.unit }}</span>
                </div>
                <div v-if="field.input === 'time'" class="steps">
                  <button
                    v-for="step in field.name === 'expire' ? later : soon"
                    type="button"
                    class="small"
                    @click="ahead(field, step[1])"
                  >
                    {{ step[0] }}
                  </button>
                  <button
                    v-if="values[field.name]"
                    type="button"
                    class="small"
                    @click="values[field.name] = '', typed(field.name)"
                  >
                    no end</button
                  ><span class="unit">{{ asUtc(values[field.name]) }}</span>
                </div>
              </template>
              <p :id="id(field) + '-hint'" class="hint" :class="{ error: wrong(field.name) }">
                <template v-if="wrong(field.name)"><span v-for="text in told(field.name)">{{ text }}</span></template
                ><template v-else>{{ field.name === 'generate' ? '' : helped(field) }}</template>
              </p>
            </div>
          </fieldset>
          <template v-if="place === 0">
            <section v-if="tryout" class="entry tryout">
              <label class="entry-label" for="form-try">{{ tryout.label }}</label>
              <input
                id="form-try"
                class="field code"
                v-model="trying"
                :placeholder="tryout.placeholder"
                @input="typed('')"
              />
            </section>
            <section v-for="block in aside" class="aside" :class="'is-' + block.tone" role="status">
              <strong>{{ block.title }}</strong>
              <ul v-if="block.lines && block.lines.length">
                <li v-for="line in block.lines">
                  <code v-if="line.mark">{{ line.mark }}</code>
                  <span>{{ line.text }} <small v-if="line.sub">{{ line.sub }}</small></span>
                </li>
              </ul>
            </section>
          </template></template
        >
      </div>
      <footer>
        <button type="submit" class="strong" :aria-busy="busy" :disabled="busy">
          {{ busy ? 'Storing…' : opened.id ? 'Save' : 'Add' }}
        </button>
        <button type="button" class="plain" @click="leave">Cancel</button
        ><span class="of">Holds from the next message</span>
      </footer>
    </form>
  </dialog>`,
  data: () => ({
    open: false,
    opened: {},
    values: {},
    touched: {},
    tried: false,
    busy: false,
    trying: "",
    way_: "keep",
    resumed: false,
    soon: SOON,
    later: LATER,
  }),
  computed: {
    title() {
      const article = /^[aeiou]/.test(this.noun) ? "an" : "a";
      return `${this.opened.id ? "Edit the" : `Add ${article}`} ${this.noun}`;
    },
    groups() {
      const groups = [];
      for (const field of this.fields) {
        const group = groups.find((known) => known.name === field.group);
        const secret =
          field.name === "generate" && group ? group.fields.findIndex((other) => other.input === "secret") : -1;
        if (!group) groups.push({ name: field.group, fields: [field] });
        else group.fields.splice(secret < 0 ? group.fields.length : secret, 0, field); // the choice before what it shows
      }
      return groups;
    },
    general() {
      const names = this.fields.map((field) => field.name);
      return this.errors
        .filter((error) => !names.includes(error.field.split(/[.[]/)[0]) && this.tried)
        .map((error) => (error.field ? `${error.field}: ` : "") + error.message);
    },
    ways() {
      const ways = [
        { name: "generate", label: "Generate a new one" },
        { name: "paste", label: "Paste one" },
      ];
      return this.opened.id ? [{ name: "keep", label: "Keep" }, ...ways] : ways;
    },
    secret() {
      return this.fields.some((field) => field.name === "generate");
    },
  },
  mounted() {
    const draft = this.draft();
    if (draft && (!this.opening || this.opening.id === draft.opened.id)) this.resume(draft);
    else if (this.opening) this.show(this.opening);
  },
  unmounted() {
    clearTimeout(this.waiting);
  },
  methods: {
    show(opened) {
      Object.assign(this, { opened, touched: {}, tried: false, busy: false, trying: opened.trying ?? "", open: true });
      this.way_ = opened.id ? "keep" : "generate";
      this.values = Object.fromEntries(
        this.fields.map((field) => [field.name, this.given(field, opened.values[field.name])]),
      );
      this.$nextTick(() => {
        if (!this.$refs.sheet.open) this.$refs.sheet.showModal();
        this.$refs.sheet.querySelector("input, select, textarea")?.focus();
        this.check();
      });
    },
    given(field, value) {
      if (field.input === "time") return local(value);
      if (field.input === "flag") return Boolean(value ?? field.default);
      if (field.input === "patterns") return (value ?? []).map((item) => ({ ...item }));
      if (field.input === "texts") return (value ?? []).join(", ");
      if (value === null || value === undefined)
        return this.opened.id || field.default === null || field.default === undefined ? "" : String(field.default);
      return String(value);
    },
    entered() {
      const entered = {};
      for (const field of this.fields) {
        const value = this.values[field.name];
        if (field.input === "time") entered[field.name] = meant(value);
        else entered[field.name] = typeof value === "string" ? value.trim() : JSON.parse(JSON.stringify(value));
      }
      if (this.secret) {
        entered.generate = this.way_ === "generate";
        if (this.way_ !== "paste") entered.key = "";
        if (this.way_ !== "generate") entered.algorithm = "";
      }
      return Object.fromEntries(Object.entries(entered).filter(([, value]) => value !== ""));
    },
    typed(name) {
      this.touched[name] = true;
      this.keep();
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.check(), 120);
    },
    keep() {
      const secrets = this.fields.filter((field) => field.input === "secret").map((field) => field.name);
      const values = Object.fromEntries(Object.entries(this.values).filter(([name]) => !secrets.includes(name)));
      const { opened, way_ } = this;
      const draft = { path: location.pathname, at: Date.now(), opened, values, way_ };
      try {
        sessionStorage.setItem(DRAFT, JSON.stringify(draft));
      } catch {
        // this browser keeps nothing for sites
      }
    },
    draft() {
      try {
        const draft = JSON.parse(sessionStorage.getItem(DRAFT));
        return draft?.path === location.pathname && Date.now() - draft.at < KEPT ? draft : null;
      } catch {
        return null;
      }
    },
    resume({ opened, values, way_ }) {
      this.show(opened);
      Object.assign(this.values, values);
      Object.assign(this, { way_, resumed: true });
    },
    check() {
      if (this.open) this.$emit("check", { id: this.opened.id ?? null, values: this.entered(), trying: this.trying });
    },
    save() {
      this.tried = true;
      this.busy = true;
      clearTimeout(this.waiting);
      this.$emit("save", { id: this.opened.id ?? null, values: this.entered(), trying: this.trying });
    },
    refused() {
      this.busy = false;
      this.$nextTick(() =>
        (
          this.$refs.sheet.querySelector("[aria-invalid=true]") ?? this.$refs.sheet.querySelector("[role=alert]")
        )?.scrollIntoView({ block: "center" }),
      );
      this.$nextTick(() => this.$refs.sheet.querySelector("[aria-invalid=true]")?.focus());
    },
    anew() {
      this.opened = { ...this.opened, id: null };
      this.refused();
    },
    stored() {
      this.$refs.sheet.close();
    },
    leave() {
      this.$refs.sheet.close();
    },
    closed() {
      clearTimeout(this.waiting);
      if (this.draft()) sessionStorage.removeItem(DRAFT);
      Object.assign(this, { open: false, values: {}, busy: false, resumed: false });
      this.$emit("closed");
    },
    told(name) {
      const mine = this.errors.filter((error) => error.field.split(/[.[]/)[0] === name);
      return mine.map(
        (error) =>
          (error.field.includes("[") ? `${error.field.replace(/\[(\d+)\]/, (_, at) => ` ${Number(at) + 1}`)}: ` : "") +
          error.message,
      );
    },
    wrong(name) {
      return Boolean((this.tried || this.touched[name]) && this.told(name).length);
    },
    visible(field) {
      if (this.secret && field.name === "key") return this.way_ === "paste";
      return !(this.secret && field.name === "algorithm") || this.way_ === "generate";
    },
    id: (field) => `form-${field.name}`,
    hint(field) {
      return `${this.id(field)}-hint`;
    },
    hasDefault: (field) => field.default !== null && field.default !== undefined,
    numeric: (field) => field.input === "whole" || field.input === "number",
    placeholder(field) {
      if (this.hasDefault(field) && this.numeric(field)) return String(field.default);
      return field.group ? "not set" : (field.help.match(/Empty: ([^.]+)\./) ?? ["", ""])[1];
    },
    helped: (field) => (field.input === "time" ? field.help.replace(", UTC", "") : field.help),
    word(choice) {
      return this.words[choice] ?? choice;
    },
    ahead(field, seconds) {
      this.values[field.name] = local(new Date((serverNow() + seconds) * 1000));
      this.typed(field.name);
    },
    asUtc: (value) => (!inUtc() && meant(value) ? `${meant(value).slice(0, 16).replace("T", " ")} UTC` : ""),
  },
};
