// How far something is.
export default {
  props: { job: Object },
  template: /* HTML */ `<div v-if="job" class="progress" role="status">
    <span>{{ job.text }}</span><progress max="100" :value="job.share" :aria-label="job.text"></progress>
  </div>`,
};
