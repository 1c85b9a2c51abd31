// What was done, for a moment; what can be undone has a button for it.
export default {
  emits: ["undo"],
  template: /* HTML */ ` <div class="notes" aria-live="polite" role="status">
    <div v-for="note in notes" :key="note.id" class="note" :class="'note-' + note.level">
      <span>{{ note.text }}</span>
      <button v-if="note.undo" type="button" class="small" @click="undo(note)">Undo</button>
      <button type="button" class="note-close" aria-label="Close" @click="drop(note.id)">×</button>
    </div>
  </div>`,
  data: () => ({ notes: [] }),
  methods: {
    say(note) {
      this.notes = [...this.notes.filter((other) => other.id !== note.id), note].slice(-4);
      setTimeout(() => this.drop(note.id), note.undo ? 15000 : note.level === "bad" ? 12000 : 5000);
    },
    undo(note) {
      this.drop(note.id);
      this.$emit("undo", note.id);
    },
    drop(id) {
      this.notes = this.notes.filter((note) => note.id !== id);
    },
  },
};
