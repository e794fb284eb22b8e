/**
 * Who asks the API, as the setting API_AUTH has it: anybody (`none`), whoever signs the requests on
 * their way (`iam`), the holder of a key (`key`), or somebody who has signed in (`cognito`).
 */

import { Cognito } from "./cognito.js";
import { $ } from "./dom.js";
import { askForKey, askToSignIn } from "./signin.js";

const KEPT = "image-pipeline.credentials";

/** Tokens are renewed this long before they end, so that none ends on its way. */
const MARGIN_MS = 60_000;

const ENDED = "Your session has ended. Sign in again.";

const SIGNED_ONLY =
  "This API takes only requests that are signed with AWS credentials (SigV4). " +
  "Open the page through a proxy that signs them.";

/** Nothing is asked of anybody. */
class Anybody {
  who = null;

  async headers() {
    return {};
  }

  async renew() {
    return false;
  }
}

/** The page cannot sign: it would need the credentials of an AWS account. */
class Signed extends Anybody {
  async renew(error) {
    if (error.status === 403) error.message = SIGNED_ONLY;
    return false;
  }
}

/** Credentials that live as long as the tab. Without any, whoever asks waits for the dialog. */
class Credentials {
  #ask;
  #kept = recall();
  #asked = null;

  constructor(ask) {
    this.#ask = ask;
  }

  get now() {
    return this.#kept;
  }

  async get() {
    return this.#kept ?? (await this.want());
  }

  /** Ask, once for everybody who waits. `reason` says why again. */
  want(reason = "") {
    this.forget();
    this.#asked ??= this.#ask(reason)
      .then((credentials) => this.keep(credentials))
      .finally(() => (this.#asked = null));
    return this.#asked;
  }

  keep(credentials) {
    this.#kept = credentials;
    remember(credentials);
    return credentials;
  }

  forget() {
    this.#kept = null;
    remember(null);
  }
}

class KeyHolder {
  #key = new Credentials(askForKey);
  who = "the holder of an API key";

  async headers() {
    return { "x-api-key": await this.#key.get() };
  }

  /** Whether to ask the API again: with another key, if it did not take this one. */
  async renew(error, { "x-api-key": used }) {
    if (error.status !== 403 || error.code?.toLowerCase() !== "invalid_api_key") return false;
    if (used === this.#key.now) await this.#key.want("This API key is not valid.");
    return true;
  }

  async leave() {
    this.#key.forget();
  }
}

class User {
  #cognito;
  #tokens;
  #renewing = null;
  #mended = null;

  constructor(settings) {
    this.#cognito = new Cognito(settings);
    this.#tokens = new Credentials((reason) => askToSignIn(this.#cognito, reason));
  }

  get who() {
    return this.#tokens.now?.username ?? null;
  }

  async headers() {
    let tokens = await this.#tokens.get();
    if (tokens.expires_at < Date.now() + MARGIN_MS) tokens = await this.#renewed();
    return { Authorization: tokens.id };
  }

  /** Whether to ask the API again: with new tokens, and if it refuses those too, as somebody else. */
  async renew(error, { Authorization: used }) {
    if (error.status !== 401) return false;
    if (used !== this.#tokens.now?.id) return true; // they are new already
    if (used === this.#mended) await this.#tokens.want(ENDED);
    else this.#mended = (await this.#renewed())?.id;
    return true;
  }

  /** New tokens, made once for everybody who waits. Where there can be none, somebody signs in. */
  #renewed() {
    this.#renewing ??= this.#exchange().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async #exchange() {
    try {
      return this.#tokens.keep(await this.#cognito.refresh(this.#tokens.now));
    } catch (error) {
      if (error.passes) throw error;
      return this.#tokens.want(ENDED);
    }
  }

  async leave() {
    const tokens = this.#tokens.now;
    this.#tokens.forget();
    if (tokens) await this.#cognito.revoke(tokens).catch(() => null); // it ends by itself
  }
}

/** A browser may refuse to store anything; then a reload asks again. */
function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function remember(credentials) {
  try {
    if (credentials) sessionStorage.setItem(KEPT, JSON.stringify(credentials));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // not worth an error
  }
}

const KINDS = { none: Anybody, iam: Signed, key: KeyHolder, cognito: User };

const settings = { auth: "none", ...JSON.parse($('meta[name="sign-in"]').content) };

export const session = new KINDS[settings.auth](settings);
