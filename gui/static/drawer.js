// The frame of a drawer: what it is about, a way to close it, and in it what the page has to say.
export default {
  props: { title: String },
  emits: ["leave"],
  template: /* HTML */ ` <aside
    class="drawer"
    role="dialog"
    :aria-label="title"
    tabindex="-1"
    @keydown.esc.stop="$emit('leave')"
  >
    <header class="drawer-head">
      <div>
        <h2><bdi>{{ title }}</bdi></h2>
        <slot name="under"></slot>
      </div>
      <button type="button" class="icon-button" aria-label="Close" data-act="close" @click="$emit('leave')">
        <svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d="M5 5l10 10M15 5L5 15" /></svg>
      </button>
    </header>
    <div class="drawer-body"><slot></slot></div>
  </aside>`,
};
