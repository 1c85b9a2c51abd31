// How things are, in one glance: a sign, a word and a sentence. Never colour alone.
export default {
  props: { level: String, word: String, text: String, detail: String },
  template: /* HTML */ ` <div
    class="verdict"
    :class="'is-' + level"
    role="status"
    aria-live="polite"
    :data-level="level"
  >
    <svg viewBox="0 0 20 20" aria-hidden="true"><path :d="signs[level]" /></svg>
    <strong>{{ word }}</strong>
    <span class="verdict-text">{{ text }}</span>
    <span v-if="detail" class="verdict-detail" :title="detail">{{ detail }}</span>
  </div>`,
  data: () => ({
    signs: {
      good: "M10 2a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM5.8 10.200l3 3 5.4-6",
      watch: "M10 2.5 18.5 17.500H1.500zM10 8v4.500M10 14.700v.3",
      bad: "M6.7 2h6.600L18 6.700v6.600L13.3 18H6.700L2 13.300V6.700zM10 6v5M10 13.500v.5",
      idle: "M10 2a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM7.8 7v6M12.2 7v6",
    },
  }),
};
