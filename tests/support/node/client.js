// An AMQP client that is not Python: publishes to queues and reads them, as an application would with npm's amqplib.
//
//   node client.js publish ADDRESS QUEUE < messages   a JSON list of {body, gzip, options}; body an object, or a string
//   node client.js read ADDRESS < counts              of each queue so many: {queue: count}; prints {queue: [{body, properties}]}
//
// Ends with 0 when the broker has confirmed all, or has sent so many; what is read is acknowledged.

import { readFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { connect } from "amqplib";

async function publish(connection, messages, queue) {
  const channel = await connection.createConfirmChannel();
  for (const { body, gzip = false, options = {} } of messages) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const content = gzip ? gzipSync(text) : Buffer.from(text);
    const encoding = gzip ? { contentEncoding: "gzip" } : {};
    channel.sendToQueue(queue, content, { contentType: "application/json", persistent: true, ...encoding, ...options });
  }
  await channel.waitForConfirms();
}

function decoded({ content, properties }) {
  const body = properties.contentEncoding === "gzip" ? gunzipSync(content) : content;
  return { body: JSON.parse(body.toString("utf8")), properties };
}

async function take(channel, queue, count) {
  const messages = [];
  await new Promise((done, failed) => {
    channel.on("error", failed);
    channel.consume(queue, (message) => {
      messages.push(decoded(message));
      if (messages.length === count) done();
    });
  });
  channel.ackAll();
  return messages;
}

async function read(connection, counts) {
  const found = {};
  for (const [queue, count] of Object.entries(counts)) {
    const channel = await connection.createChannel();
    found[queue] = count ? await take(channel, queue, count) : [];
    await channel.close();
  }
  process.stdout.write(JSON.stringify(found));
}

const [action, address, queue] = process.argv.slice(2);
const given = JSON.parse(readFileSync(0, "utf8"));
const connection = await connect(address);
await { publish, read }[action](connection, given, queue);
await connection.close();
