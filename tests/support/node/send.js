// Sends one message with nodemailer: node send.js PORT FROM TO < message. Ends with 0 when it was answered 250.

import { readFileSync } from "node:fs";
import { createTransport } from "nodemailer";

const [port, from, to] = process.argv.slice(2);
const transport = createTransport({ host: "127.0.0.1", port: Number(port), ignoreTLS: true });
await transport.sendMail({ envelope: { from, to }, raw: readFileSync(0) });
transport.close();
