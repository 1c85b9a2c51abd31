// Tells a person of what has changed, by the browser's own notifications, where they were turned on here.
export default {
  template: /* HTML */ `<span hidden></span>`,
  methods: {
    tell(said) {
      if (!("Notification" in window) || Notification.permission !== "granted") return;
      if (localStorage.getItem("mailrace-notify") !== "on") return;
      for (const one of said) {
        // All pages of this browser hear the same: the first one tells.
        const mark = `mailrace-told-${one.key}`;
        if (localStorage.getItem(mark) === one.id) continue;
        localStorage.setItem(mark, one.id);
        const shown = new Notification(one.title, { body: one.text.slice(0, 300), tag: one.key });
        shown.onclick = () => {
          window.focus();
          shown.close();
        };
      }
    },
  },
};
