// Running or paused, said with a word and a sign, not by colour alone. A press changes it.
export default {
  props: { what: String, state: Object },
  emits: ["press"],
  template: /* HTML */ ` <div class="running-box">
    <slot></slot>
    <a
      v-if="state.state === 'covered'"
      class="running is-bad"
      href="/paused"
      :title="'All mail is paused; see Paused deliveries'"
    >
      <svg viewBox="0 0 20 20" aria-hidden="true"><path d="M7 5v10M13 5v10" /></svg><b>Paused</b>
      <span> with all mail<template v-if="state.held">, {{ held }}</template></span></a
    >
    <button
      v-else
      type="button"
      class="running"
      :class="state.state === 'paused' ? 'is-bad' : 'is-good'"
      :aria-pressed="state.state === 'paused' ? 'true' : 'false'"
      :aria-busy="busy"
      :disabled="busy"
      :aria-label="state.state === 'paused' ? 'Paused: ' + what + ', ' + held + '. Press to resume' : 'Running: ' + what + '. Press to pause'"
      :title="state.state === 'paused' ? 'Resume ' + what : 'Pause ' + what"
      @click="press"
    >
      <svg viewBox="0 0 20 20" aria-hidden="true">
        <path :d="state.state === 'paused' ? 'M7 5v10M13 5v10' : 'M6.500 4.500v11l9-5.500z'" />
      </svg>
      <b>{{ state.state === 'paused' ? 'Paused' : 'Running' }}</b
      ><span v-if="state.state === 'paused'">{{ held }}</span>
    </button>
    <a v-if="state.narrower && state.state === 'running'" class="running-more" href="/paused"
      >{{ state.narrower }} paused</a
    >
  </div>`,
  data: () => ({ busy: false }),
  computed: {
    held() {
      return `${(this.state.held ?? 0).toLocaleString()} held`;
    },
  },
  watch: {
    state() {
      this.busy = false;
    },
  },
  unmounted() {
    clearTimeout(this.waiting);
  },
  methods: {
    press() {
      this.busy = true;
      this.waiting = setTimeout(() => (this.busy = false), 3000);
      this.$emit("press");
    },
  },
};
