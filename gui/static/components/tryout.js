// A text to try the rules on; the server says what they make of it.
export default {
  props: { label: String, placeholder: String, result: Object },
  emits: ["try"],
  template: /* HTML */ ` <div class="tryout-bar">
    <label
      ><span class="entry-label">{{ label }}</span>
      <input
        class="field code"
        v-model="text"
        :placeholder="placeholder"
        spellcheck="false"
        autocapitalize="off"
        @input="typed"
    /></label>
    <div v-if="result && text" class="aside" :class="'is-' + result.tone" role="status">
      <strong>{{ result.title }}</strong> <span v-for="line in result.lines"> {{ line.text }}</span>
    </div>
  </div>`,
  data: () => ({ text: "" }),
  unmounted() {
    clearTimeout(this.waiting);
  },
  methods: {
    typed() {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.$emit("try", this.text), 120);
    },
  },
};
