// Destinations by errors. Everything in a row comes from outside, and is shown as text.
import { ago, both, now as serverNow } from "../../../../static/time.js";

export default {
  props: { rows: Array },
  template: /* HTML */ ` <table v-if="rows.length" class="grid troubles">
      <thead>
        <tr>
          <th>Destination</th>
          <th
            class="number"
            data-tip="Negative answers, attempts without a usable answer, and servers that could not be reached, in the last 5 minutes."
          >
            Errors
          </th>
          <th class="number" data-tip="Errors in a hundred ended attempts, in the last 5 minutes.">Share</th>
          <th>Last answer</th>
          <th class="when">When</th>
        </tr>
      </thead>
      <tbody>
        <tr v-for="row in rows" :key="row.domain">
          <td class="domain"><a :href="row.link" :title="row.domain">{{ row.domain }}</a></td>
          <td class="number">{{ row.errors.toLocaleString() }}</td>
          <td class="number share">
            <i class="meter"><b :style="{ width: row.share + '%' }"></b></i><span>{{ row.share }} %</span>
          </td>
          <td class="answer">
            <code :class="'code-' + row.code[0]">{{ row.code }}</code>
            <span :title="row.text + (row.host ? ' (' + row.host + ')' : '')">{{ row.text }}</span>
          </td>
          <td class="when"><time :title="both(row.time)">{{ ago(row.time, now) }}</time></td>
        </tr>
      </tbody>
    </table>
    <div v-else class="empty">
      <div class="empty-title">No errors in the last 5 minutes</div>
      <div>A destination appears here when its servers refuse a message, do not answer, or cannot be reached.</div>
    </div>`,
  data: () => ({ now: serverNow() }),
  mounted() {
    this.clock = setInterval(() => (this.now = serverNow()), 1000);
  },
  unmounted() {
    clearInterval(this.clock);
  },
  methods: { ago, both },
};
