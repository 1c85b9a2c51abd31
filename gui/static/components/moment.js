// A time, in the zone of the page.
import { both, stamp } from "../../../../static/time.js";

export default {
  props: { seconds: Number },
  template: /* HTML */ `<time :title="both(seconds)">{{ stamp(seconds) }}</time>`,
  methods: { both, stamp },
};
