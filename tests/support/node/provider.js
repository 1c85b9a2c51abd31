// A real OpenID Connect provider on loopback: `node provider.js '{"port": 1, "clients": [...], "accounts": {...}}'`.
// Anybody logs in by the name of an account; it says `ready` when it listens, and ends with its standard input.
import Provider from "oidc-provider";
import { createInterface } from "node:readline";

const asked = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${asked.port}${asked.path ?? ""}`;

const provider = new Provider(issuer, {
  clients: asked.clients,
  jwks: asked.jwks,
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email"] },
  conformIdTokenClaims: asked.userinfo ?? false,
  features: { rpInitiatedLogout: { enabled: true } },
  pkce: { required: () => true },
  findAccount: (_, id) =>
    asked.accounts[id] && { accountId: id, claims: () => ({ sub: id, ...asked.accounts[id] }) },
  loadExistingGrant: async (context) => {
    const grant = new provider.Grant({
      clientId: context.oidc.client.clientId,
      accountId: context.oidc.session.accountId,
    });
    grant.addOIDCScope("openid profile email");
    await grant.save();
    return grant;
  },
});
provider.listen(asked.port, "127.0.0.1", () => console.log("ready"));
createInterface({ input: process.stdin }).on("close", () => process.exit(0));
