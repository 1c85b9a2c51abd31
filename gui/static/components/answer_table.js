// Answers of receivers, equal ones counted together. Everything in a row comes from outside, and is shown as text.
export default {
  props: { rows: Array },
  template: /* HTML */ `<table v-if="rows.length" class="grid answer-grid">
      <thead>
        <tr>
          <th class="number">Count</th>
          <th class="number" data-tip="Of the attempts that ended in the last 5 minutes.">Share</th>
          <th data-tip="Deferred: put off, and tried again. Bounced: given up.">So it was</th>
          <th>Answer</th>
          <th><span class="unseen">Make a rule of it</span></th>
        </tr>
      </thead>
      <tbody>
        <tr v-for="row in rows" :key="row.kind + row.code + row.text">
          <td class="number">{{ row.count.toLocaleString() }}</td>
          <td class="number">{{ row.share }} %</td>
          <td>
            <span class="state" :class="row.kind === 'bounced' ? 'state-failed' : 'state-waiting'"
              ><i></i>{{ row.kind }}</span
            >
          </td>
          <td class="said">
            <code :class="'code-' + row.code[0]">{{ row.code }}</code>
            <bdi>{{ row.text }}</bdi>
          </td>
          <td class="acts">
            <a v-if="row.flood" class="small" :href="row.flood">Flood pattern…</a>
          </td>
        </tr>
      </tbody>
    </table>
    <div v-else class="empty">
      <div class="empty-title">No attempt went wrong in the last 5 minutes</div>
      <div>What receivers answer when they put mail off or refuse it stands here, equal answers counted together.</div>
    </div>`,
};
