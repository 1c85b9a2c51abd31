// What holds all mail, or all of an MTA IP: in every view, so that nobody looks for another reason.
export default {
  props: { rows: Array },
  template: /* HTML */ `<div v-if="rows.length" class="pause-bar" role="alert">
    <div v-for="row in rows" :key="row.id">
      <svg viewBox="0 0 20 20" aria-hidden="true"><path d="M7 5v10M13 5v10" /></svg>
      <strong>{{ row.what }}</strong> <span>{{ row.text }}</span>
      <a :href="'/paused?rule=' + row.id">See and resume</a>
    </div>
  </div>`,
};
