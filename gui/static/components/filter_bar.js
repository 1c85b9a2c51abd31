// The filters of a view: fields that tell the server what they hold, a moment after the last key.
import { field, meant } from "../../../../static/time.js";

export default {
  props: { fields: Array, values: Object, label: String },
  emits: ["change"],
  template: /* HTML */ ` <form class="filters" role="search" :aria-label="label" @submit.prevent="tell">
    <label
      v-for="field in shown"
      :key="field.name"
      class="filter"
      :class="['filter-' + field.kind, { set: held[field.name] }]"
    >
      <span class="filter-label">{{ field.label }}</span>
      <select v-if="field.options" v-model="held[field.name]" :name="field.name" @change="tell">
        <option v-for="[value, text] in field.options" :key="value" :value="value">{{ text }}</option>
      </select>
      <input
        v-else-if="field.kind === 'time'"
        type="datetime-local"
        :name="field.name"
        :value="local(held[field.name])"
        @change="held[field.name] = utc($event.target.value); tell()"
      />
      <input
        v-else
        v-model="held[field.name]"
        :type="field.kind === 'search' ? 'search' : 'text'"
        :name="field.name"
        :placeholder="field.placeholder"
        :data-search="field.kind === 'search' ? '' : null"
        maxlength="300"
        autocomplete="off"
        spellcheck="false"
        @input="soon"
        @change="tell"
      />
    </label>
    <button
      v-if="shown.length < fields.length || more"
      type="button"
      class="small clear"
      :aria-expanded="more"
      @click="more = !more"
    >
      {{ more ? "Fewer filters" : "More filters" }}
    </button>
    <button v-if="any" type="button" class="small clear" @click="clear">Clear</button>
  </form>`,
  data() {
    return { more: false, held: { ...this.blank(), ...this.values } };
  },
  computed: {
    shown() {
      return this.fields.filter((field) => !field.rare || this.more || this.held[field.name]);
    },
    any() {
      return Object.values(this.held).some((value) => value);
    },
  },
  methods: {
    // an address says UTC, so that it means the same to whoever gets it
    utc: (text) => meant(text) && `${meant(text).slice(0, 16)}Z`,
    local: field,
    blank() {
      return Object.fromEntries(this.fields.map((field) => [field.name, ""]));
    },
    soon() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.tell(), 250);
    },
    tell() {
      clearTimeout(this.timer);
      const said = JSON.stringify(this.held);
      if (said === this.said) return;
      this.said = said;
      this.$emit("change", { ...this.held });
    },
    clear() {
      this.held = this.blank();
      this.tell();
    },
    hold(values) {
      this.held = { ...this.blank(), ...values };
      this.said = JSON.stringify(this.held);
    },
  },
};
