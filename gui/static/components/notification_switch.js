// The switch for notifications in this browser. It asks for them at a click, and never by itself.
export default {
  template: /* HTML */ ` <span class="notify">
    <button
      type="button"
      class="small"
      data-act="notify"
      :disabled="state === 'none' || state === 'denied'"
      :aria-pressed="String(state === 'on')"
      :title="why"
      @click="toggle"
    >
      {{ label }}
    </button>
  </span>`,
  data: () => ({ state: "off" }),
  computed: {
    label() {
      const labels = { on: "Notifications: on", none: "No notifications here", denied: "Notifications: blocked" };
      return labels[this.state] ?? "Notifications: off";
    },
    why() {
      if (this.state === "none")
        return "Browsers allow notifications on HTTPS and on localhost alone, and some phones not at all.";
      if (this.state === "denied") return "This browser was told to show none of this site; its settings change that.";
      return "Whether this browser tells you when the verdict changes, and of rules that tell browsers, while a page of the console is open, also in the background.";
    },
  },
  mounted() {
    this.look();
  },
  methods: {
    look() {
      if (!("Notification" in window) || !window.isSecureContext) this.state = "none";
      else if (Notification.permission === "denied") this.state = "denied";
      else if (Notification.permission === "granted" && localStorage.getItem("mailrace-notify") === "on")
        this.state = "on";
      else this.state = "off";
    },
    async toggle() {
      const on = this.state !== "on" && (await Notification.requestPermission()) === "granted";
      localStorage.setItem("mailrace-notify", on ? "on" : "off");
      this.look();
    },
  },
};
